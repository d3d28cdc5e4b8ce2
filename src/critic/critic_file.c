/* critic_file.c: a critic as one GGUF file: which keys and tensors, both ways (docs/formats.md, "Critic file"). The
 * layout is llama.cpp's for a classifier of the encoder's family, so that its rerank route gives the same logit; what
 * it has no keys for is under "drr.". The format's bytes are gguf.c's and gguf_write.c's. */
#include "critic/critic_keys_internal.h"
#include "critic/critic_shape_internal.h"
#include "critic/critic_tokens_internal.h"
#include "critic/encoder_family.h"
#include "critic/gguf.h"
#include "critic/gguf_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_LENGTH = 5 };

/* llama.cpp marks the start of a word where BERT marks its continuation: "##x" is kept as "x" and "x" with this before
 * it. Special tokens are kept as they are. */
static const char phantom_space[] = "\xE2\x96\x81";
enum { PHANTOM_BYTES = sizeof phantom_space - 1 };

static const struct {
    const char *key;
    size_t offset; /* of a char * in critic_meta */
} meta_strings[] = {{"drr.name", offsetof(critic_meta, name)},     {"drr.reasoner", offsetof(critic_meta, reasoner)},
                    {"drr.prompt", offsetof(critic_meta, prompt)}, {"drr.encoder", offsetof(critic_meta, encoder)},
                    {"drr.tasks", offsetof(critic_meta, tasks)},   {"drr.created", offsetof(critic_meta, created)}};
enum { N_META_STRINGS = sizeof meta_strings / sizeof *meta_strings };

static char **meta_string(const critic_meta *meta, size_t i)
{
    return (char **)((uintptr_t)meta + meta_strings[i].offset);
}

static const struct {
    const char *key;
    size_t offset; /* of a double in critic_meta */
} meta_numbers[] = {{"drr.threshold", offsetof(critic_meta, threshold)},
                    {"drr.calibration.a", offsetof(critic_meta, calibration.a)},
                    {"drr.calibration.b", offsetof(critic_meta, calibration.b)}};
enum { N_META_NUMBERS = sizeof meta_numbers / sizeof *meta_numbers };

static double *meta_number(const critic_meta *meta, size_t i)
{
    return (double *)((uintptr_t)meta + meta_numbers[i].offset);
}

/* ---- what can be written can be read again */

static drr_status check_stack(const stack_model *s, drr_error *err)
{
    bool good = s->n <= STACK_MAX_FEATURES && isfinite(s->bias);
    for (uint32_t i = 0; good && i < s->n; i++)
        good = stack_feature_name(i) && isfinite(s->mean[i]) && isfinite(s->scale[i]) && isfinite(s->weight[i]);
    return good ? DRR_OK
                : error_set(err, DRR_E_ARGUMENT, "the critic's stack of %u features has a number that is not finite",
                            s->n);
}

static drr_status check_token(const wordpiece *tokenizer, size_t id, drr_error *err)
{
    const char *text = wordpiece_token(tokenizer, id);
    bool good = strncmp(text, "##", 2) != 0;
    for (size_t i = 0; !good && i <= N_SPECIALS; i++)
        if (i == N_SPECIALS)
            good = strncmp(text + 2, phantom_space, PHANTOM_BYTES) != 0;
        else if (strcmp(text + 2, wordpiece_token(tokenizer, (size_t)wordpiece_special(tokenizer, (int)i))) == 0)
            break;
    return good
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT,
                           "token %zu of the vocabulary, \"%s\", cannot be written: in a critic file it would be taken "
                           "for another one",
                           id, text);
}

static drr_status check_numbers(const critic_meta *meta, drr_error *err)
{
    for (size_t i = 0; i < N_META_NUMBERS; i++)
        if (!isfinite(*meta_number(meta, i)))
            return error_set(err, DRR_E_ARGUMENT, "the critic's %s is not a finite number", meta_numbers[i].key);
    return DRR_OK;
}

static drr_status check_meta(const critic_meta *meta, drr_error *err)
{
    drr_status status = meta->has_stack ? check_stack(&meta->stack, err) : DRR_OK;
    return status == DRR_OK ? critic_keys_check(meta, err) : status;
}

drr_status critic_check(const encoder *e, const wordpiece *tokenizer, const critic_meta *meta, drr_error *err)
{
    drr_status status = DRR_OK;
    if (!e && (!meta->probe.reasoner || !meta->no_encoder))
        return error_set(err, DRR_E_ARGUMENT, "a critic needs an encoder, or a probe in its place");
    if (!e) {
        status = check_numbers(meta, err);
        return status == DRR_OK ? check_meta(meta, err) : status;
    }
    const family *f = family_of(&e->shape);
    if (wordpiece_size(tokenizer) != e->shape.n_vocab)
        return error_set(err, DRR_E_MISMATCH,
                         "the tokenizer has %zu tokens and the encoder %u; they do not belong together",
                         wordpiece_size(tokenizer), e->shape.n_vocab);
    if (f->has_bytes != (wordpiece_bytes(tokenizer) != NULL) ||
        e->shape.position_offset != critic_shape_offset(&e->shape, tokenizer))
        return error_set(err, DRR_E_MISMATCH, "the tokenizer is not one of a %s encoder; they do not belong together",
                         f->model_type);
    if (meta->max_length < LEAST_LENGTH || meta->max_length > e->shape.n_positions)
        return error_set(err, DRR_E_ARGUMENT, "the critic's longest input is %u tokens; %d to %u are possible",
                         meta->max_length, LEAST_LENGTH, e->shape.n_positions);
    status = check_numbers(meta, err);
    if (status != DRR_OK)
        return status;
    for (size_t i = 0; i < e->n_parameters; i++)
        if (!isfinite(e->parameters[i]))
            return error_set(err, DRR_E_ARGUMENT, "the critic's weight %zu is not a finite number: its training failed",
                             i);
    status = check_meta(meta, err);
    for (size_t id = 0; status == DRR_OK && !wordpiece_bytes(tokenizer) && id < e->shape.n_vocab; id++)
        status = check_token(tokenizer, id, err);
    return status;
}

/* ---- writing */

/* A probe alone: no tensors, and an architecture that no other program takes for a model. */
static const char probe_architecture[] = "drr-probe";

static void add_probe_model(tensorfile_builder *b, const critic_meta *meta)
{
    tensorfile_add_string(b, "general.architecture", probe_architecture);
    tensorfile_add_string(b, "general.type", "model");
    tensorfile_add_string(b, "general.name", meta->name);
    tensorfile_add_u32(b, "general.alignment", GGUF_ALIGNMENT);
}

static void add_model(tensorfile_builder *b, const encoder_shape *shape, drr_head head, const critic_meta *meta)
{
    tensorfile_add_string(b, "general.architecture", family_of(shape)->architecture);
    tensorfile_add_string(b, "general.type", "model");
    tensorfile_add_string(b, "general.name", meta->name);
    tensorfile_add_u32(b, "general.alignment", GGUF_ALIGNMENT);
    tensorfile_add_u32(b, "general.file_type", 0); /* all F32 */
    critic_shape_add(b, shape, head);
}

/* llama.cpp joins a pair as [bos] query [eos if add_eos] [sep if add_sep] document [eos if add_eos]: with these flags
 * and SEP for eos it is [CLS] query [SEP] document [SEP]. */
static void add_tokenizer(tensorfile_builder *b, const wordpiece *tokenizer)
{
    const size_t n = wordpiece_size(tokenizer);
    tensorfile_add_string(b, "tokenizer.ggml.model", "bert");
    tensorfile_add_string(b, "tokenizer.ggml.pre", "default");
    tensorfile_begin_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (size_t id = 0; id < n; id++) {
        const char *text = wordpiece_token(tokenizer, id);
        if (wordpiece_is_special(tokenizer, id))
            tensorfile_put_string(b, "", text);
        else if (strncmp(text, "##", 2) == 0)
            tensorfile_put_string(b, "", text + 2);
        else
            tensorfile_put_string(b, phantom_space, text);
    }
    tensorfile_begin_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (size_t id = 0; id < n; id++) {
        const int32_t type = wordpiece_is_special(tokenizer, id) ? TOKEN_CONTROL : TOKEN_NORMAL;
        tensorfile_put(b, &type, sizeof type);
    }
    critic_specials_add(b, tokenizer);
    tensorfile_add_bool(b, "tokenizer.ggml.add_bos_token", true);
    tensorfile_add_bool(b, "tokenizer.ggml.add_eos_token", true);
    tensorfile_add_bool(b, "tokenizer.ggml.add_sep_token", false);
    tensorfile_add_bool(b, "tokenizer.ggml.normalizer.lowercase", wordpiece_lowercase(tokenizer));
    tensorfile_add_bool(b, "tokenizer.ggml.normalizer.strip_accents", wordpiece_lowercase(tokenizer));
}

static void add_stack(tensorfile_builder *b, const stack_model *s)
{
    tensorfile_begin_array(b, "drr.stack.features", GGUF_STRING, s->n);
    for (uint32_t i = 0; i < s->n; i++)
        tensorfile_put_string(b, "", stack_feature_name(i));
    tensorfile_add_f64s(b, "drr.stack.mean", s->mean, s->n);
    tensorfile_add_f64s(b, "drr.stack.scale", s->scale, s->n);
    tensorfile_add_f64s(b, "drr.stack.weight", s->weight, s->n);
    tensorfile_add_f64(b, "drr.stack.bias", s->bias);
}

static void add_meta(tensorfile_builder *b, const wordpiece *tokenizer, drr_head head, const critic_meta *meta)
{
    tensorfile_add_u32(b, "drr.format.version", critic_keys_version(meta, head));
    for (size_t i = 0; i < N_META_STRINGS; i++)
        tensorfile_add_string(b, meta_strings[i].key, *meta_string(meta, i));
    for (size_t i = 0; i < N_META_NUMBERS; i++)
        tensorfile_add_f64(b, meta_numbers[i].key, *meta_number(meta, i));
    tensorfile_add_u32(b, "drr.max_length", meta->max_length);
    tensorfile_add_u64(b, "drr.n_train_questions", meta->n_train_questions);
    tensorfile_add_u64(b, "drr.n_train_traces", meta->n_train_traces);
    tensorfile_add_u64(b, "drr.seed", meta->seed);
    if (tokenizer)
        tensorfile_add_bool(b, "drr.tokenizer.lowercase", wordpiece_lowercase(tokenizer));
    if (meta->has_stack)
        add_stack(b, &meta->stack);
    critic_keys_add(b, meta, head);
}

drr_status critic_write(const char *path, const encoder *e, const wordpiece *tokenizer, const critic_meta *meta,
                        drr_error *err)
{
    drr_status status = critic_check(e, tokenizer, meta, err);
    if (status != DRR_OK)
        return status;
    tensorfile_builder b = {.err = err};
    if (!e)
        add_probe_model(&b, meta);
    else
        add_model(&b, &e->shape, e->head, meta);
    if (e && wordpiece_bytes(tokenizer))
        critic_tokens_add(&b, tokenizer, family_of(&e->shape)->tokenizer);
    else if (e)
        add_tokenizer(&b, tokenizer);
    add_meta(&b, tokenizer, e ? e->head : DRR_HEAD_CLS, meta);
    status = tensorfile_write(path, &b, e, err);
    buffer_clear(&b.bytes);
    return status;
}

/* ---- reading */

static bool is_probe_alone(const tensorfile *f)
{
    char *architecture = NULL;
    const bool is = tensorfile_string(&architecture, f, "general.architecture", NULL) == DRR_OK &&
                    strcmp(architecture, probe_architecture) == 0;
    free(architecture);
    return is;
}

/* Is it a critic at all, and one of a version that is known? */
static drr_status check_kind(encoder_family *which, drr_head *head, const tensorfile *f, drr_error *err)
{
    uint32_t version = 0;
    if (!tensorfile_find(f, "drr.format.version"))
        return error_set(err, DRR_E_FORMAT,
                         "%s: not a critic: it has no key \"drr.format.version\"; train one with `drr train`", f->path);
    drr_status status = tensorfile_u32(&version, f, "drr.format.version", err);
    if (status == DRR_OK && (version < 1 || version > CRITIC_NEWEST_VERSION))
        status = error_set(err, DRR_E_MISMATCH,
                           "%s: the critic's format is version %u and this drr reads 1 to %d; use the drr "
                           "that wrote it",
                           f->path, version, CRITIC_NEWEST_VERSION);
    if (status != DRR_OK || is_probe_alone(f))
        return status;
    if (status == DRR_OK)
        status = critic_keys_head(head, f, err);
    if (status == DRR_OK)
        status = critic_shape_kind(which, *head, f, err);
    return status;
}

static drr_status restore_token(char **text, tensorfile_text kept, int32_t type, const tensorfile *f, uint64_t id,
                                arena *texts, drr_error *err)
{
    const bool control = type == TOKEN_CONTROL;
    const bool word = kept.length >= PHANTOM_BYTES && memcmp(kept.data, phantom_space, PHANTOM_BYTES) == 0;
    const size_t skip = word && !control ? PHANTOM_BYTES : 0, prefix = word || control ? 0 : 2;
    if ((type != TOKEN_NORMAL && !control) || memchr(kept.data, 0, kept.length))
        return error_set(err, DRR_E_FORMAT,
                         "%s: token %llu of \"tokenizer.ggml.tokens\" is of type %d or has a NUL in it", f->path,
                         (unsigned long long)id, type);
    const size_t length = (size_t)kept.length - skip;
    *text = arena_alloc(texts, prefix + length + 1, 1);
    if (!*text)
        return error_memory(err);
    memcpy(*text, "##", prefix);
    memcpy(*text + prefix, kept.data + skip, length);
    return DRR_OK;
}

static drr_status read_wordpiece(wordpiece **tokenizer, const tensorfile *f, drr_error *err)
{
    const tensorfile_key *tokens, *types;
    bool lowercase;
    arena *texts = NULL;
    char **restored = NULL;
    drr_status status = tensorfile_array(&tokens, f, "tokenizer.ggml.tokens", GGUF_STRING, err);
    if (status == DRR_OK)
        status = tensorfile_array(&types, f, "tokenizer.ggml.token_type", GGUF_I32, err);
    if (status == DRR_OK && types->count != tokens->count)
        status = error_set(err, DRR_E_FORMAT, "%s: \"tokenizer.ggml.tokens\" has %llu items and its types %llu",
                           f->path, (unsigned long long)tokens->count, (unsigned long long)types->count);
    if (status == DRR_OK)
        status = tensorfile_bool(&lowercase, f, "drr.tokenizer.lowercase", err);
    if (status != DRR_OK)
        return status;
    texts = arena_new(0);
    restored = calloc((size_t)tokens->count + 1, sizeof *restored);
    if (!texts || !restored)
        status = error_memory(err);
    const uint8_t *at = tokens->data;
    for (uint64_t i = 0; status == DRR_OK && i < tokens->count; i++) {
        int32_t type;
        memcpy(&type, types->data + i * sizeof type, sizeof type);
        status = restore_token(&restored[i], tensorfile_next(&at), type, f, i, texts, err);
    }
    if (status == DRR_OK)
        status = wordpiece_new_from(tokenizer, (const char *const *)restored, (size_t)tokens->count, lowercase, f->path,
                                    err);
    free(restored);
    arena_free(texts);
    return status;
}

static drr_status read_tokenizer(wordpiece **tokenizer, encoder_family which, const tensorfile *f, drr_error *err)
{
    const family *of = family_at(which);
    return of->has_bytes ? critic_tokens_read(tokenizer, f, of->tokenizer, err) : read_wordpiece(tokenizer, f, err);
}

static drr_status read_tensor(encoder *e, const encoder_tensor *t, const tensorfile *f, drr_error *err)
{
    const tensorfile_tensor *found = tensorfile_find_tensor(f, t->name);
    if (!found)
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" is missing", f->path, t->name);
    if (found->rows != t->rows || found->columns != t->columns)
        return error_set(err, DRR_E_FORMAT,
                         "%s: the tensor \"%s\" is %llu x %llu; the encoder's shape makes it %u x %u", f->path, t->name,
                         (unsigned long long)found->rows, (unsigned long long)found->columns, t->rows, t->columns);
    const size_t n = (size_t)t->rows * t->columns;
    float *values = e->parameters + t->offset;
    memcpy(values, found->data, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return error_set(err, DRR_E_FORMAT, "%s: value %zu of the tensor \"%s\" is not a finite number", f->path, i,
                             t->name);
    return DRR_OK;
}

static drr_status read_encoder(encoder **out, encoder_family which, const tensorfile *f, const wordpiece *tokenizer,
                               drr_head head, drr_error *err)
{
    encoder_shape shape = {.family = which};
    encoder *e = NULL;
    drr_status status = critic_shape_read(&shape, f, tokenizer, err);
    if (status == DRR_OK)
        status = encoder_new_headed(&e, &shape, head, err);
    for (size_t i = 0; status == DRR_OK && i < e->n_tensors; i++)
        status = read_tensor(e, &e->tensors[i], f, err);
    if (status == DRR_OK && f->n_tensors != e->n_tensors) /* one more could change what the weights mean */
        status = error_set(err, DRR_E_FORMAT, "%s: %zu tensors, and a critic of this shape has %zu", f->path,
                           f->n_tensors, e->n_tensors);
    if (status == DRR_OK)
        *out = e;
    else
        encoder_free(e);
    return status;
}

/* ---- reading: drr.* */

static drr_status find_feature(uint32_t *index, tensorfile_text name, const tensorfile *f, drr_error *err)
{
    for (uint32_t i = 0; stack_feature_name(i); i++)
        if (strlen(stack_feature_name(i)) == name.length &&
            memcmp(stack_feature_name(i), name.data, name.length) == 0) {
            *index = i;
            return DRR_OK;
        }
    return error_set(
        err, DRR_E_MISMATCH,
        "%s: the critic uses the feature \"%.*s\", which this drr does not know; use the drr that wrote it", f->path,
        (int)(name.length < 60 ? name.length : 60), name.data);
}

/* A column of the stack: as many finite numbers as there are features. */
static drr_status stack_column(const tensorfile_key **column, const tensorfile *f, const char *name, uint64_t n,
                               drr_error *err)
{
    drr_status status = tensorfile_array(column, f, name, GGUF_F64, err);
    if (status == DRR_OK && (*column)->count != n)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" has %llu items for %llu features", f->path, name,
                           (unsigned long long)(*column)->count, (unsigned long long)n);
    for (uint64_t i = 0; status == DRR_OK && i < n; i++) {
        double value;
        memcpy(&value, (*column)->data + i * sizeof value, sizeof value);
        if (!isfinite(value))
            status = error_set(err, DRR_E_FORMAT, "%s: item %llu of the key \"%s\" is not a finite number", f->path,
                               (unsigned long long)i, name);
    }
    return status;
}

/* By name: a feature that this build has and the file does not gets weight 0. */
static drr_status read_stack(stack_model *s, const tensorfile *f, drr_error *err)
{
    static const char *const names[] = {"drr.stack.mean", "drr.stack.scale", "drr.stack.weight"};
    const tensorfile_key *features, *columns[3];
    bool seen[STACK_MAX_FEATURES] = {false};
    drr_status status = tensorfile_array(&features, f, "drr.stack.features", GGUF_STRING, err);
    if (status == DRR_OK && features->count > STACK_MAX_FEATURES)
        status =
            error_set(err, DRR_E_FORMAT, "%s: the key \"drr.stack.features\" has %llu items; at most %d are handled",
                      f->path, (unsigned long long)features->count, STACK_MAX_FEATURES);
    for (size_t i = 0; status == DRR_OK && i < 3; i++)
        status = stack_column(&columns[i], f, names[i], features->count, err);
    if (status == DRR_OK)
        status = tensorfile_f64(&s->bias, f, "drr.stack.bias", err);
    if (status != DRR_OK)
        return status;
    for (uint32_t i = 0; i < STACK_MAX_FEATURES; i++)
        s->scale[i] = 1;
    const uint8_t *at = features->data;
    for (uint64_t i = 0; i < features->count; i++) {
        uint32_t index = 0;
        status = find_feature(&index, tensorfile_next(&at), f, err);
        if (status != DRR_OK)
            return status;
        if (seen[index])
            return error_set(err, DRR_E_FORMAT, "%s: the feature \"%s\" is in \"drr.stack.features\" twice", f->path,
                             stack_feature_name(index));
        seen[index] = true;
        memcpy(&s->mean[index], columns[0]->data + i * sizeof(double), sizeof(double));
        memcpy(&s->scale[index], columns[1]->data + i * sizeof(double), sizeof(double));
        memcpy(&s->weight[index], columns[2]->data + i * sizeof(double), sizeof(double));
        s->n = index >= s->n ? index + 1 : s->n;
    }
    return DRR_OK;
}

static drr_status read_meta(critic_meta *m, const tensorfile *f, const encoder_shape *shape, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < N_META_STRINGS; i++)
        status = tensorfile_string(meta_string(m, i), f, meta_strings[i].key, err);
    for (size_t i = 0; status == DRR_OK && i < N_META_NUMBERS; i++)
        status = tensorfile_f64(meta_number(m, i), f, meta_numbers[i].key, err);
    if (status == DRR_OK)
        status = tensorfile_u32(&m->max_length, f, "drr.max_length", err);
    if (status == DRR_OK && shape && (m->max_length < LEAST_LENGTH || m->max_length > shape->n_positions))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"drr.max_length\" is %u; %d to %u are possible", f->path,
                           m->max_length, LEAST_LENGTH, shape->n_positions);
    if (status == DRR_OK)
        status = tensorfile_u64(&m->n_train_questions, f, "drr.n_train_questions", err);
    if (status == DRR_OK)
        status = tensorfile_u64(&m->n_train_traces, f, "drr.n_train_traces", err);
    if (status == DRR_OK)
        status = tensorfile_u64(&m->seed, f, "drr.seed", err);
    if (status == DRR_OK && tensorfile_find(f, "drr.stack.features")) {
        m->has_stack = true;
        status = read_stack(&m->stack, f, err);
    }
    if (status == DRR_OK)
        status = critic_keys_read(m, f, err);
    m->no_encoder = !shape;
    if (status == DRR_OK && m->no_encoder && (!m->probe.reasoner || f->n_tensors))
        status =
            error_set(err, DRR_E_FORMAT, "%s: a probe alone has the keys \"drr.probe.*\", and no tensors", f->path);
    return status;
}

drr_status critic_read(const char *path, encoder **out_encoder, wordpiece **out_tokenizer, critic_meta *out_meta,
                       char hex[65], drr_error *err)
{
    tensorfile f = {0};
    encoder *e = NULL;
    wordpiece *w = NULL;
    critic_meta meta = {0};
    drr_head head = DRR_HEAD_CLS;
    encoder_family which = ENCODER_BERT;
    drr_status status = tensorfile_open(&f, path, err);
    if (status == DRR_OK)
        status = check_kind(&which, &head, &f, err);
    const bool text = status == DRR_OK && !is_probe_alone(&f);
    if (text)
        status = read_tokenizer(&w, which, &f, err);
    if (status == DRR_OK && text)
        status = read_encoder(&e, which, &f, w, head, err);
    if (status == DRR_OK)
        status = read_meta(&meta, &f, text ? &e->shape : NULL, err);
    if (status == DRR_OK) {
        sha256 h;
        sha256_begin(&h);
        sha256_add(&h, f.map.data, f.map.size);
        sha256_end(&h, hex);
        *out_encoder = e;
        *out_tokenizer = w;
        *out_meta = meta;
    } else {
        encoder_free(e);
        wordpiece_free(w);
        critic_meta_clear(&meta);
    }
    tensorfile_close(&f);
    return status;
}
