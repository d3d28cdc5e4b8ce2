/* hf.c: an encoder from a Hugging Face folder, and a critic into one. The folder is config.json, model.safetensors and
 * vocab.txt, or what byte-level BPE has instead (hf_bpe.c); the way out adds what AutoTokenizer reads and drr.json with
 * all that transformers has no place for (hf_meta.c). A whole critic from a folder is hf_import.c's. */
#include "critic/bpe_internal.h"
#include "critic/encoder_family.h"
#include "critic/hf_internal.h"
#include "critic/safetensors_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PADDING = 1024 /* rows of the vocabulary's table that stand for no token */ };

drr_status hf_path(char **path, const char *folder, const char *name, drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_printf(&b, err, "%s/%s", folder, name);
    if (status == DRR_OK)
        *path = buffer_take(&b);
    else
        buffer_clear(&b);
    return status;
}

drr_status hf_parse(json_t **value, const char *folder, const char *name, drr_error *err)
{
    char *path = NULL;
    drr_status status = hf_path(&path, folder, name, err);
    if (status == DRR_OK)
        status = json_parse_file(value, path, err);
    if (status == DRR_OK && !json_is_object(*value))
        status = error_set(err, DRR_E_FORMAT, "%s: a JSON object is wanted", path);
    free(path);
    return status;
}

drr_status hf_parse_tokenizer_config(json_t **value, const char *folder, drr_error *err)
{
    char *path = NULL, *text = NULL;
    size_t size = 0;
    json_error_t why;
    drr_status status = hf_path(&path, folder, "tokenizer_config.json", err);
    if (status == DRR_OK)
        status = file_read(&text, &size, path, 0, err);
    if (status == DRR_OK) {
        *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &why);
        if (!json_is_object(*value)) {
            json_decref(*value);
            *value = NULL;
            status = error_set(err, DRR_E_FORMAT, "%s: not a JSON object: %s (line %d)", path, why.text, why.line);
        }
    }
    free(path);
    free(text);
    return status;
}

/* ---- config.json */

drr_status hf_take_extent(uint32_t *extent, json_t *config, const char *field, const char *folder, drr_error *err)
{
    json_t *value = json_object_get(config, field);
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > INT32_MAX)
        return error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is %s", folder, field,
                         value ? "not a whole number above 0" : "missing");
    *extent = (uint32_t)json_integer_value(value);
    return DRR_OK;
}

drr_status hf_want_string(json_t *config, const char *field, const char *wanted, const char *folder, drr_error *err)
{
    const char *value = json_string_or(config, field, wanted);
    if (strcmp(value, wanted) == 0)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is \"%s\"; drr handles encoders with \"%s\"", folder,
                     field, value, wanted);
}

static drr_status read_family(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    const char *type;
    buffer known = {0};
    drr_status status = json_get_string(&type, config, "model_type", folder, err);
    if (status != DRR_OK || family_find(&shape->family, type))
        return status;
    for (int i = 0; status == DRR_OK && i < ENCODER_FAMILIES; i++)
        status = buffer_printf(&known, err, "%s%s", i ? ", " : "", family_at((encoder_family)i)->model_type);
    if (status == DRR_OK)
        status = error_set(err, DRR_E_FORMAT, "%s/config.json: \"model_type\" is \"%.60s\"; drr handles encoders of %s",
                           folder, type, known.data);
    buffer_clear(&known);
    return status;
}

/* The position table of RoBERTa begins with rows that no token has: that of padding, and those before it. */
static drr_status read_offset(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    json_t *padding = json_object_get(config, "pad_token_id");
    if (!json_is_integer(padding) || json_integer_value(padding) < 0 ||
        json_integer_value(padding) + 1 >= (json_int_t)shape->n_positions)
        return error_set(err, DRR_E_FORMAT,
                         "%s/config.json: \"pad_token_id\" is %s; positions are counted from it on, and there are %u",
                         folder, padding ? "not a whole number below the positions" : "missing", shape->n_positions);
    shape->position_offset = (uint32_t)json_integer_value(padding) + 1;
    shape->n_positions -= shape->position_offset;
    return DRR_OK;
}

static drr_status read_bert(encoder_shape *shape, json_t *config, const char *folder, drr_error *err)
{
    drr_status status = hf_want_string(config, "hidden_act", "gelu", folder, err);
    if (status == DRR_OK)
        status = hf_want_string(config, "position_embedding_type", "absolute", folder, err);
    if (status == DRR_OK)
        status = hf_take_extent(&shape->n_types, config, "type_vocab_size", folder, err);
    if (status == DRR_OK && family_of(shape)->offset_positions)
        status = read_offset(shape, config, folder, err);
    return status;
}

/* What kind of model it says that it is: which head its classifier belongs to. */
static drr_head head_named(json_t *config)
{
    json_t *first = json_array_get(json_object_get(config, "architectures"), 0);
    const bool of_tokens = json_is_string(first) && strcmp(json_string_value(first), "BertForTokenClassification") == 0;
    return of_tokens ? DRR_HEAD_TOKEN : DRR_HEAD_CLS;
}

drr_status hf_read_config(encoder_shape *shape, drr_head *head, const char *folder, drr_error *err)
{
    json_t *config = NULL;
    drr_status status = hf_parse(&config, folder, "config.json", err);
    if (status == DRR_OK)
        status = read_family(shape, config, folder, err);
    const struct {
        uint32_t *extent;
        const char *field;
    } extents[] = {{&shape->n_layers, "num_hidden_layers"},  {&shape->n_embd, "hidden_size"},
                   {&shape->n_heads, "num_attention_heads"}, {&shape->n_ff, "intermediate_size"},
                   {&shape->n_vocab, "vocab_size"},          {&shape->n_positions, "max_position_embeddings"}};
    for (size_t i = 0; status == DRR_OK && i < sizeof extents / sizeof *extents; i++)
        status = hf_take_extent(extents[i].extent, config, extents[i].field, folder, err);
    const bool rotary = family_of(shape)->rotary;
    const char *epsilon = rotary ? "norm_eps" : "layer_norm_eps";
    if (status == DRR_OK)
        status = (rotary ? hf_modern_read : read_bert)(shape, config, folder, err);
    if (status == DRR_OK) {
        shape->norm_epsilon = (float)json_number_or(config, epsilon, rotary ? 1e-5 : 1e-12);
        if (!(shape->norm_epsilon > 0 && shape->norm_epsilon < 1))
            status = error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is not between 0 and 1", folder, epsilon);
        *head = head_named(config);
    }
    json_decref(config);
    return status;
}

/* ---- the tokenizer */

/* An option of the tokenizer that drr does not have: only its usual value, or none, will do. */
static bool is_other(json_t *config, const char *field, bool usual)
{
    return json_bool_or(config, field, usual) != usual;
}

static drr_status read_wordpiece(wordpiece **tokenizer, const char *folder, drr_error *err)
{
    json_t *config = NULL;
    char *path = NULL;
    bool lowercase = true;
    drr_status status = hf_path(&path, folder, "tokenizer_config.json", err);
    if (status == DRR_OK && file_exists(path)) {
        status = hf_parse_tokenizer_config(&config, folder, err);
        lowercase = json_bool_or(config, "do_lower_case", true);
        const char *other = is_other(config, "strip_accents", lowercase)       ? "strip_accents"
                            : is_other(config, "tokenize_chinese_chars", true) ? "tokenize_chinese_chars"
                            : is_other(config, "do_basic_tokenize", true)      ? "do_basic_tokenize"
                                                                               : NULL;
        if (status == DRR_OK && other)
            status = error_set(err, DRR_E_FORMAT, "%s: drr's tokenizer does not do what \"%s\" asks for", path, other);
    }
    free(path);
    path = NULL;
    if (status == DRR_OK)
        status = hf_path(&path, folder, "vocab.txt", err);
    if (status == DRR_OK)
        status = wordpiece_open(tokenizer, path, lowercase, err);
    free(path);
    json_decref(config);
    return status;
}

/* A table of embeddings is often padded, to a multiple of 64 or 128 rows; more rows than that belong to tokens. */
static drr_status check_vocabulary(size_t n_tokens, const encoder_shape *shape, const char *folder, drr_error *err)
{
    if (n_tokens <= shape->n_vocab && shape->n_vocab - n_tokens < MOST_PADDING)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s/%s has %zu tokens, and by config.json the encoder knows %u: the two are of different "
                     "models; take both from one",
                     folder, family_of(shape)->has_bytes ? "tokenizer.json" : "vocab.txt", n_tokens, shape->n_vocab);
}

static drr_status read_tokenizer(wordpiece **tokenizer, const encoder_shape *shape, const char *folder, drr_error *err)
{
    const family *f = family_of(shape);
    drr_status status =
        f->has_bytes ? bpe_open_hf(tokenizer, f->tokenizer, folder, err) : read_wordpiece(tokenizer, folder, err);
    if (status != DRR_OK)
        return status;
    status = check_vocabulary(wordpiece_size(*tokenizer), shape, folder, err);
    if (status != DRR_OK)
        return status;
    const int32_t padding = wordpiece_special(*tokenizer, SPECIAL_PAD);
    if (f->offset_positions && shape->position_offset != (uint32_t)padding + 1)
        return error_set(
            err, DRR_E_FORMAT,
            "%s: the tokenizer pads with token %d and config.json has %u for \"pad_token_id\"; they do not "
            "belong together",
            folder, (int)padding, shape->position_offset - 1);
    return DRR_OK;
}

/* ---- weights */

/* The name that the file gives a tensor: with or without the family's prefix, and gamma and beta for the norms in old
 * ones. */
static bool name_in(char *name, size_t size, const safetensors *file, const encoder *e, const encoder_tensor *t)
{
    const char *const prefixes[] = {"", family_of(&e->shape)->hf_prefix};
    const size_t length = strlen(t->hf_name);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, size, "%s%s", prefixes[i], t->hf_name);
        if (safetensors_has(file, name))
            return true;
        if (!strstr(t->hf_name, "LayerNorm."))
            continue;
        const bool bias = strcmp(t->hf_name + length - 4, "bias") == 0;
        snprintf(name, size, "%s%.*s%s", prefixes[i], (int)(length - (bias ? 4 : 6)), t->hf_name,
                 bias ? "beta" : "gamma");
        if (safetensors_has(file, name))
            return true;
    }
    snprintf(name, size, "%s", t->hf_name);
    return false;
}

/* Each tensor has a stream of its own, so that it does not matter what else is missing. What does not decay is a norm's
 * gain or a bias. */
static void initialise(encoder *e, const encoder_tensor *t, uint64_t seed)
{
    rng r;
    const float rest = strstr(t->name, "norm.weight") ? 1.0f : 0.0f;
    rng_seed(&r, hash_string(seed, t->name));
    for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
        e->parameters[t->offset + i] = t->decay ? 0.02f * (float)rng_normal(&r) : rest;
}

/* A classifier of several labels is no critic's head: as good as none. One that is broken is not: that is an error. */
static drr_status holds(bool *held, const safetensors *file, const encoder *e, const encoder_tensor *t, drr_error *err)
{
    char name[128];
    safetensor found;
    *held = name_in(name, sizeof name, file, e, t);
    if (!*held || (strncmp(t->name, "cls.output.", 11) != 0 && strncmp(t->name, "drr.token.", 10) != 0))
        return DRR_OK;
    drr_status status = safetensors_find(&found, file, name, err);
    *held = status == DRR_OK && found.rows == 1 && found.columns == t->columns;
    return status;
}

static drr_status read_tensor(encoder *e, const encoder_tensor *t, const safetensors *file, drr_error *err)
{
    char name[128];
    safetensor found;
    name_in(name, sizeof name, file, e, t);
    drr_status status = safetensors_find(&found, file, name, err);
    if (status != DRR_OK)
        return status;
    /* the vocabulary may be shorter than its table: rows past it stand for nothing */
    const uint32_t before = encoder_rows_before(e, t);
    const bool rows_fit = found.rows == t->rows + before || (found.rows > t->rows && t == e->tensors);
    if (found.columns != t->columns || !rows_fit)
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" is %llu x %llu; config.json makes it %u x %u",
                         file->path, name, (unsigned long long)found.rows, (unsigned long long)found.columns,
                         t->rows + before, t->columns);
    safetensors_skip(&found, before);
    return safetensors_values(e->parameters + t->offset, (size_t)t->rows * t->columns, file, &found, err);
}

/* The tensors of pooler or classifier, from `first` until `end`: all from the file, or all new. */
static drr_status read_head(encoder *e, const encoder_tensor *first, const encoder_tensor *end, bool *is_new,
                            const safetensors *file, uint64_t seed, drr_error *err)
{
    drr_status status = DRR_OK;
    bool held = true;
    for (const encoder_tensor *t = first; status == DRR_OK && held && t < end; t++)
        status = holds(&held, file, e, t, err);
    *is_new = !held;
    for (const encoder_tensor *t = first; status == DRR_OK && t < end; t++)
        if (held)
            status = read_tensor(e, t, file, err);
        else
            initialise(e, t, seed);
    return status;
}

/* there: the head that the file's classifier belongs to; one of another kind is as good as none. */
static drr_status read_weights(encoder *e, bool *has_head, drr_head there, const safetensors *file, uint64_t seed,
                               drr_error *err)
{
    const encoder_tensor *pooler = encoder_head(e), *end = e->tensors + e->n_tensors, *classifier = end - 2;
    bool new_pooler = false, new_classifier = there != e->head;
    drr_status status = DRR_OK;
    for (const encoder_tensor *t = e->tensors; status == DRR_OK && t < pooler; t++)
        status = read_tensor(e, t, file, err);
    if (status == DRR_OK && pooler < classifier) /* a head of tokens has none */
        status = read_head(e, pooler, classifier, &new_pooler, file, seed, err);
    if (status == DRR_OK && new_classifier) {
        initialise(e, classifier, seed);
        initialise(e, classifier + 1, seed);
    } else if (status == DRR_OK) {
        status = read_head(e, classifier, end, &new_classifier, file, seed, err);
    }
    *has_head = !new_pooler && !new_classifier;
    return status;
}

/* Before memory is taken for a shape: could this file hold it, at two bytes a value? */
static drr_status check_size(const encoder_shape *s, const safetensors *file, drr_error *err)
{
    if (family_least_values(s) * 2 <= (double)file->data_size)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s: %zu bytes of tensors are too few for the shape in config.json (width %u, layers %u, "
                     "vocabulary %u); is the file cut short?",
                     file->path, file->data_size, s->n_embd, s->n_layers, s->n_vocab);
}

drr_status encoder_open_hf(encoder **e, wordpiece **tokenizer, bool *has_head, const char *folder, uint64_t seed,
                           drr_error *err)
{
    return encoder_open_hf_headed(e, tokenizer, has_head, folder, DRR_HEAD_CLS, seed, err);
}

drr_status encoder_open_hf_headed(encoder **out, wordpiece **tokenizer, bool *has_head, const char *folder,
                                  drr_head head, uint64_t seed, drr_error *err)
{
    encoder_shape shape = {0};
    drr_head there = DRR_HEAD_CLS;
    encoder *e = NULL;
    wordpiece *w = NULL;
    safetensors file = {0};
    char *path = NULL;
    bool complete = false;
    drr_status status = hf_read_config(&shape, &there, folder, err);
    if (status == DRR_OK)
        status = read_tokenizer(&w, &shape, folder, err);
    if (status == DRR_OK)
        status = hf_path(&path, folder, "model.safetensors", err);
    if (status == DRR_OK)
        status = safetensors_open(&file, path, err);
    if (status == DRR_OK)
        status = check_size(&shape, &file, err);
    if (status == DRR_OK) {
        shape.n_vocab = (uint32_t)wordpiece_size(w);
        status = encoder_new_headed(&e, &shape, head, err);
    }
    if (status == DRR_OK)
        status = read_weights(e, &complete, there, &file, seed, err);
    if (status == DRR_OK) {
        *out = e;
        *tokenizer = w;
        if (has_head)
            *has_head = complete;
    } else {
        encoder_free(e);
        wordpiece_free(w);
    }
    safetensors_close(&file);
    free(path);
    return status;
}

/* ---- the way out */

/* Reals with so many digits: 15 show a number as it was written by hand, 17 give each double back. */
drr_status hf_write_json(const char *folder, const char *name, json_t *value, size_t digits, drr_error *err)
{
    char *path = NULL, *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits)) : NULL;
    drr_status status =
        text ? hf_path(&path, folder, name, err)
             : error_set(err, DRR_E_FORMAT, "%s/%s cannot be written: is every string UTF-8?", folder, name);
    if (status == DRR_OK)
        status = file_write_all(path, text, strlen(text), err);
    free(path);
    free(text);
    json_decref(value);
    return status;
}

/* The shortest decimal that is this float: 1e-12, not its 17 digits as a double. */
static double shortest(float value)
{
    char digits[32];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value)
            break;
    }
    return strtod(digits, NULL);
}

/* multi_label_classification is transformers' word for "a sigmoid of each logit", and there is one. */
static json_t *bert_json(const encoder_shape *s, drr_head head, double epsilon)
{
    const family *f = family_of(s);
    return json_pack("{s:[s], s:s, s:s, s:s, s:s, s:{s:s}, s:{s:i}, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, "
                     "s:f, s:n}",
                     "architectures", head == DRR_HEAD_TOKEN ? f->hf_token_class : f->hf_class, "model_type",
                     f->model_type, "problem_type", "multi_label_classification", "hidden_act", "gelu",
                     "position_embedding_type", "absolute", "id2label", "0", "accept", "label2id", "accept", 0,
                     "hidden_size", (json_int_t)s->n_embd, "intermediate_size", (json_int_t)s->n_ff,
                     "num_hidden_layers", (json_int_t)s->n_layers, "num_attention_heads", (json_int_t)s->n_heads,
                     "vocab_size", (json_int_t)s->n_vocab, "max_position_embeddings",
                     (json_int_t)s->n_positions + s->position_offset, "type_vocab_size", (json_int_t)s->n_types,
                     "layer_norm_eps", epsilon, "initializer_range", 0.02, "attention_probs_dropout_prob", 0.1,
                     "hidden_dropout_prob", 0.1, "classifier_dropout");
}

static json_t *config_json(const encoder *e, const wordpiece *tokenizer)
{
    const encoder_shape *s = &e->shape;
    const double epsilon = shortest(s->norm_epsilon);
    const family *f = family_of(s);
    json_t *o = f->rotary ? hf_modern_json(s, epsilon) : bert_json(s, e->head, epsilon);
    static const struct {
        const char *field;
        int which;
        bool of_bytes;
    } ids[] = {{"pad_token_id", SPECIAL_PAD, false},
               {"bos_token_id", SPECIAL_CLS, true},
               {"eos_token_id", SPECIAL_SEP, true},
               {"cls_token_id", SPECIAL_CLS, true},
               {"sep_token_id", SPECIAL_SEP, true}};
    for (size_t i = 0; o && i < sizeof ids / sizeof *ids; i++)
        if (!ids[i].of_bytes || f->has_bytes)
            json_object_set_new(o, ids[i].field, json_integer(wordpiece_special(tokenizer, ids[i].which)));
    return o;
}

/* Without token_type_ids among the inputs the model takes type 0 for all, as the critic does. */
static json_t *tokenizer_json(const wordpiece *tokenizer, uint32_t max_length)
{
    return json_pack("{s:s, s:b, s:b, s:n, s:b, s:s, s:s, s:s, s:s, s:s, s:[s,s], s:I}", "tokenizer_class",
                     "BertTokenizer", "do_lower_case", (int)wordpiece_lowercase(tokenizer), "do_basic_tokenize", 1,
                     "strip_accents", "tokenize_chinese_chars", 1, "unk_token", "[UNK]", "sep_token", "[SEP]",
                     "pad_token", "[PAD]", "cls_token", "[CLS]", "mask_token", "[MASK]", "model_input_names",
                     "input_ids", "attention_mask", "model_max_length", (json_int_t)max_length);
}

static drr_status write_vocabulary(const char *folder, const wordpiece *tokenizer, drr_error *err)
{
    buffer text = {0};
    char *path = NULL;
    drr_status status = hf_path(&path, folder, "vocab.txt", err);
    for (size_t i = 0; status == DRR_OK && i < wordpiece_size(tokenizer); i++)
        status = buffer_printf(&text, err, "%s\n", wordpiece_token(tokenizer, i));
    if (status == DRR_OK)
        status = file_write_all(path, text.data, text.size, err);
    buffer_clear(&text);
    free(path);
    return status;
}

static drr_status write_wordpiece(const char *folder, const wordpiece *tokenizer, uint32_t max_length, drr_error *err)
{
    drr_status status = write_vocabulary(folder, tokenizer, err);
    if (status == DRR_OK)
        status = hf_write_json(folder, "tokenizer_config.json", tokenizer_json(tokenizer, max_length), 15, err);
    if (status == DRR_OK)
        status = hf_write_json(folder, "special_tokens_map.json",
                               json_pack("{s:s, s:s, s:s, s:s, s:s}", "unk_token", "[UNK]", "sep_token", "[SEP]",
                                         "pad_token", "[PAD]", "cls_token", "[CLS]", "mask_token", "[MASK]"),
                               15, err);
    return status;
}

drr_status critic_export_hf(const drr_critic *critic, const char *folder, drr_error *err)
{
    const encoder *e = critic_encoder(critic);
    const wordpiece *tokenizer = critic_wordpiece(critic);
    const critic_meta *meta = critic_get_meta(critic);
    drr_critic_info info;
    char *path = NULL;
    drr_critic_describe(critic, &info);
    drr_status status = folder_make(folder, err);
    if (status == DRR_OK)
        status = hf_path(&path, folder, "model.safetensors", err);
    if (status == DRR_OK)
        status = safetensors_write(path, e, err);
    if (status == DRR_OK)
        status = wordpiece_bytes(tokenizer) ? bpe_write_hf(folder, tokenizer, meta->max_length, err)
                                            : write_wordpiece(folder, tokenizer, meta->max_length, err);
    if (status == DRR_OK)
        status =
            hf_write_json(folder, "drr.json", critic_meta_json(meta, e->head, info.sha256 ? info.sha256 : ""), 17, err);
    if (status == DRR_OK) /* last: a folder without it is not taken for a model */
        status = hf_write_json(folder, "config.json", config_json(e, tokenizer), 15, err);
    free(path);
    return status;
}
