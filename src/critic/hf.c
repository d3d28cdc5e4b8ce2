/* hf.c: an encoder from a Hugging Face folder, and a critic into one. The folder is config.json, model.safetensors and
 * vocab.txt; the way out adds what AutoTokenizer reads and drr.json with all that transformers has no place for
 * (hf_meta.c), and the way in takes both. */
#include "critic/hf_internal.h"
#include "critic/safetensors_internal.h"
#include "critic/wordpiece_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PADDING = 1024 /* rows of the vocabulary's table that stand for no token */ };

static drr_status path_in(char **path, const char *folder, const char *name, drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_printf(&b, err, "%s/%s", folder, name);
    if (status == DRR_OK)
        *path = buffer_take(&b);
    else
        buffer_clear(&b);
    return status;
}

static drr_status parse_in(json_t **value, const char *folder, const char *name, drr_error *err)
{
    char *path = NULL;
    drr_status status = path_in(&path, folder, name, err);
    if (status == DRR_OK)
        status = json_parse_file(value, path, err);
    if (status == DRR_OK && !json_is_object(*value))
        status = error_set(err, DRR_E_FORMAT, "%s: a JSON object is wanted", path);
    free(path);
    return status;
}

/* ---- config.json */

static drr_status take_extent(uint32_t *extent, json_t *config, const char *field, const char *folder, drr_error *err)
{
    json_t *value = json_object_get(config, field);
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > INT32_MAX)
        return error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is %s", folder, field,
                         value ? "not a whole number above 0" : "missing");
    *extent = (uint32_t)json_integer_value(value);
    return DRR_OK;
}

static drr_status want_string(json_t *config, const char *field, const char *wanted, const char *folder, drr_error *err)
{
    const char *value = json_string_or(config, field, wanted);
    if (strcmp(value, wanted) == 0)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT, "%s/config.json: \"%s\" is \"%s\"; drr handles BERT encoders with \"%s\"",
                     folder, field, value, wanted);
}

/* What kind of model it says that it is: which head its classifier belongs to. */
static drr_head head_named(json_t *config)
{
    json_t *first = json_array_get(json_object_get(config, "architectures"), 0);
    const bool of_tokens = json_is_string(first) && strcmp(json_string_value(first), "BertForTokenClassification") == 0;
    return of_tokens ? DRR_HEAD_TOKEN : DRR_HEAD_CLS;
}

static drr_status read_config(encoder_shape *shape, drr_head *head, const char *folder, drr_error *err)
{
    json_t *config = NULL;
    const char *type;
    drr_status status = parse_in(&config, folder, "config.json", err);
    if (status == DRR_OK)
        status = json_get_string(&type, config, "model_type", folder, err);
    if (status == DRR_OK)
        status = want_string(config, "model_type", "bert", folder, err);
    if (status == DRR_OK)
        status = want_string(config, "hidden_act", "gelu", folder, err);
    if (status == DRR_OK)
        status = want_string(config, "position_embedding_type", "absolute", folder, err);
    const struct {
        uint32_t *extent;
        const char *field;
    } extents[] = {{&shape->n_layers, "num_hidden_layers"},  {&shape->n_embd, "hidden_size"},
                   {&shape->n_heads, "num_attention_heads"}, {&shape->n_ff, "intermediate_size"},
                   {&shape->n_vocab, "vocab_size"},          {&shape->n_positions, "max_position_embeddings"},
                   {&shape->n_types, "type_vocab_size"}};
    for (size_t i = 0; status == DRR_OK && i < sizeof extents / sizeof *extents; i++)
        status = take_extent(extents[i].extent, config, extents[i].field, folder, err);
    if (status == DRR_OK) {
        shape->norm_epsilon = (float)json_number_or(config, "layer_norm_eps", 1e-12);
        if (!(shape->norm_epsilon > 0 && shape->norm_epsilon < 1))
            status = error_set(err, DRR_E_FORMAT, "%s/config.json: \"layer_norm_eps\" is not between 0 and 1", folder);
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

static drr_status read_tokenizer(wordpiece **tokenizer, const char *folder, drr_error *err)
{
    json_t *config = NULL;
    char *path = NULL;
    bool lowercase = true;
    drr_status status = path_in(&path, folder, "tokenizer_config.json", err);
    if (status == DRR_OK && file_exists(path)) {
        status = parse_in(&config, folder, "tokenizer_config.json", err);
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
        status = path_in(&path, folder, "vocab.txt", err);
    if (status == DRR_OK)
        status = wordpiece_open(tokenizer, path, lowercase, err);
    free(path);
    json_decref(config);
    return status;
}

/* ---- weights */

/* The name that the file gives a tensor: with or without "bert.", and gamma and beta for the norms in old ones. */
static bool name_in(char *name, size_t size, const safetensors *file, const encoder_tensor *t)
{
    static const char *const prefixes[] = {"", "bert."};
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

/* Each tensor has a stream of its own, so that it does not matter what else is missing. */
static void initialise(encoder *e, const encoder_tensor *t, uint64_t seed)
{
    rng r;
    rng_seed(&r, hash_string(seed, t->name));
    for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
        e->parameters[t->offset + i] = t->decay ? 0.02f * (float)rng_normal(&r) : 0.0f; /* biases do not decay */
}

/* A classifier of several labels is no critic's head: as good as none. One that is broken is not: that is an error. */
static drr_status holds(bool *held, const safetensors *file, const encoder_tensor *t, drr_error *err)
{
    char name[128];
    safetensor found;
    *held = name_in(name, sizeof name, file, t);
    if (!*held || strncmp(t->hf_name, "classifier.", 11) != 0)
        return DRR_OK;
    drr_status status = safetensors_find(&found, file, name, err);
    *held = status == DRR_OK && found.rows == 1 && found.columns == t->columns;
    return status;
}

static drr_status read_tensor(encoder *e, const encoder_tensor *t, const safetensors *file, drr_error *err)
{
    char name[128];
    safetensor found;
    name_in(name, sizeof name, file, t);
    drr_status status = safetensors_find(&found, file, name, err);
    if (status != DRR_OK)
        return status;
    /* the vocabulary may be shorter than its table: rows past it stand for nothing */
    const bool rows_fit = found.rows == t->rows || (found.rows > t->rows && t == e->tensors);
    if (found.columns != t->columns || !rows_fit)
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" is %llu x %llu; config.json makes it %u x %u",
                         file->path, name, (unsigned long long)found.rows, (unsigned long long)found.columns, t->rows,
                         t->columns);
    return safetensors_values(e->parameters + t->offset, (size_t)t->rows * t->columns, file, &found, err);
}

/* Weight and bias of pooler or classifier: both from the file, or both new. */
static drr_status read_head(encoder *e, const encoder_tensor *weight, bool *is_new, const safetensors *file,
                            uint64_t seed, drr_error *err)
{
    const encoder_tensor *bias = weight + 1;
    bool has_weight = false, has_bias = false;
    drr_status status = holds(&has_weight, file, weight, err);
    if (status == DRR_OK)
        status = holds(&has_bias, file, bias, err);
    *is_new = !has_weight || !has_bias;
    if (status == DRR_OK && *is_new) {
        initialise(e, weight, seed);
        initialise(e, bias, seed);
        return DRR_OK;
    }
    if (status == DRR_OK)
        status = read_tensor(e, weight, file, err);
    return status == DRR_OK ? read_tensor(e, bias, file, err) : status;
}

/* there: the head that the file's classifier belongs to; one of another kind is as good as none. */
static drr_status read_weights(encoder *e, bool *has_head, drr_head there, const safetensors *file, uint64_t seed,
                               drr_error *err)
{
    const encoder_tensor *classifier = &e->tensors[e->n_tensors - 2];
    const encoder_tensor *pooler = e->head == DRR_HEAD_CLS ? classifier - 2 : classifier; /* of tokens: none */
    bool new_pooler = false, new_classifier = there != e->head;
    drr_status status = DRR_OK;
    for (const encoder_tensor *t = e->tensors; status == DRR_OK && t < pooler; t++)
        status = read_tensor(e, t, file, err);
    if (status == DRR_OK && pooler < classifier)
        status = read_head(e, pooler, &new_pooler, file, seed, err);
    if (status == DRR_OK && new_classifier) {
        initialise(e, classifier, seed);
        initialise(e, classifier + 1, seed);
    } else if (status == DRR_OK) {
        status = read_head(e, classifier, &new_classifier, file, seed, err);
    }
    *has_head = !new_pooler && !new_classifier;
    return status;
}

/* Before memory is taken for a shape: could this file hold it, at two bytes a value? In double, which cannot overflow.
 */
static drr_status check_size(const encoder_shape *s, const safetensors *file, drr_error *err)
{
    const double d = s->n_embd, body = (double)s->n_layers * d * (4 * d + 2 * (double)s->n_ff);
    const double values = body + d * ((double)s->n_vocab + s->n_positions + s->n_types);
    if (values * 2 <= (double)file->data_size)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s: %zu bytes of tensors are too few for the shape in config.json (width %u, layers %u, "
                     "vocabulary %u); is the file cut short?",
                     file->path, file->data_size, s->n_embd, s->n_layers, s->n_vocab);
}

/* A table of embeddings is often padded, to a multiple of 64 or 128 rows; more rows than that belong to tokens. */
static drr_status check_vocabulary(size_t n_tokens, uint32_t n_rows, const char *folder, drr_error *err)
{
    if (n_tokens <= n_rows && n_rows - n_tokens < MOST_PADDING)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s/vocab.txt has %zu tokens, and by config.json the encoder knows %u: the two are of different "
                     "models; take both from one",
                     folder, n_tokens, n_rows);
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
    drr_status status = read_config(&shape, &there, folder, err);
    if (status == DRR_OK)
        status = read_tokenizer(&w, folder, err);
    if (status == DRR_OK)
        status = check_vocabulary(wordpiece_size(w), shape.n_vocab, folder, err);
    if (status == DRR_OK)
        status = path_in(&path, folder, "model.safetensors", err);
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
static drr_status write_json(const char *folder, const char *name, json_t *value, size_t digits, drr_error *err)
{
    char *path = NULL, *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits)) : NULL;
    drr_status status =
        text ? path_in(&path, folder, name, err)
             : error_set(err, DRR_E_FORMAT, "%s/%s cannot be written: is every string UTF-8?", folder, name);
    if (status == DRR_OK)
        status = file_write_all(path, text, strlen(text), err);
    free(path);
    free(text);
    json_decref(value);
    return status;
}

/* multi_label_classification is transformers' word for "a sigmoid of each logit", and there is one. */
static json_t *config_json(const encoder *e, const wordpiece *tokenizer)
{
    const encoder_shape *s = &e->shape;
    const bool of_tokens = e->head == DRR_HEAD_TOKEN;
    char digits[32]; /* the shortest decimal that is this float: 1e-12, not its 17 digits as a double */
    snprintf(digits, sizeof digits, "%.9g", (double)s->norm_epsilon);
    for (int precision = 1; precision < 9; precision++) {
        char shorter[32];
        snprintf(shorter, sizeof shorter, "%.*g", precision, (double)s->norm_epsilon);
        if (strtof(shorter, NULL) == s->norm_epsilon) {
            snprintf(digits, sizeof digits, "%s", shorter);
            break;
        }
    }
    return json_pack("{s:[s], s:s, s:s, s:s, s:s, s:{s:s}, s:{s:i}, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, "
                     "s:f, s:n, s:i}",
                     "architectures", of_tokens ? "BertForTokenClassification" : "BertForSequenceClassification",
                     "model_type", "bert", "problem_type", "multi_label_classification", "hidden_act", "gelu",
                     "position_embedding_type", "absolute", "id2label", "0", "accept", "label2id", "accept", 0,
                     "hidden_size", (json_int_t)s->n_embd, "intermediate_size", (json_int_t)s->n_ff,
                     "num_hidden_layers", (json_int_t)s->n_layers, "num_attention_heads", (json_int_t)s->n_heads,
                     "vocab_size", (json_int_t)s->n_vocab, "max_position_embeddings", (json_int_t)s->n_positions,
                     "type_vocab_size", (json_int_t)s->n_types, "layer_norm_eps", strtod(digits, NULL),
                     "initializer_range", 0.02, "attention_probs_dropout_prob", 0.1, "hidden_dropout_prob", 0.1,
                     "classifier_dropout", "pad_token_id", (int)wordpiece_special(tokenizer, SPECIAL_PAD));
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
    drr_status status = path_in(&path, folder, "vocab.txt", err);
    for (size_t i = 0; status == DRR_OK && i < wordpiece_size(tokenizer); i++)
        status = buffer_printf(&text, err, "%s\n", wordpiece_token(tokenizer, i));
    if (status == DRR_OK)
        status = file_write_all(path, text.data, text.size, err);
    buffer_clear(&text);
    free(path);
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
        status = path_in(&path, folder, "model.safetensors", err);
    if (status == DRR_OK)
        status = safetensors_write(path, e, err);
    if (status == DRR_OK)
        status = write_vocabulary(folder, tokenizer, err);
    if (status == DRR_OK)
        status = write_json(folder, "tokenizer_config.json", tokenizer_json(tokenizer, meta->max_length), 15, err);
    if (status == DRR_OK)
        status = write_json(folder, "special_tokens_map.json",
                            json_pack("{s:s, s:s, s:s, s:s, s:s}", "unk_token", "[UNK]", "sep_token", "[SEP]",
                                      "pad_token", "[PAD]", "cls_token", "[CLS]", "mask_token", "[MASK]"),
                            15, err);
    if (status == DRR_OK)
        status =
            write_json(folder, "drr.json", critic_meta_json(meta, e->head, info.sha256 ? info.sha256 : ""), 17, err);
    if (status == DRR_OK) /* last: a folder without it is not taken for a model */
        status = write_json(folder, "config.json", config_json(e, tokenizer), 15, err);
    free(path);
    return status;
}

/* ---- the way in, of a whole critic */

/* A model that another program trained: nothing is known of it but its logit. */
static drr_status foreign_meta(critic_meta *m, const encoder *e, const char *folder, const char *out, drr_error *err)
{
    if (e->head == DRR_HEAD_TOKEN)
        return error_set(
            err, DRR_E_FORMAT,
            "%s: a classifier of tokens without drr.json: what its tokens say, and which of them says it of "
            "the whole text, is not known; import a BertForSequenceClassification",
            folder);
    json_t *config = NULL;
    size_t stem;
    const char *file = file_name(out, &stem);
    *m = (critic_meta){.threshold = 0.5, .calibration = {1, 0}, .max_length = e->shape.n_positions};
    m->name = string_copy_n(file, stem);
    if (!m->name)
        return error_memory(err);
    drr_status status = parse_in(&config, folder, "tokenizer_config.json", err);
    if (status == DRR_E_NOT_FOUND)
        status = DRR_OK;
    const double longest = config ? json_number_or(config, "model_max_length", 0) : 0;
    if (longest >= 16 && longest < (double)m->max_length)
        m->max_length = (uint32_t)longest;
    json_decref(config);
    return status;
}

static drr_status own_meta(critic_meta *m, drr_head head, const char *path, drr_error *err)
{
    json_t *o = NULL;
    drr_status status = json_parse_file(&o, path, err);
    if (status == DRR_OK)
        status = critic_meta_parse(m, head, o, path, err);
    json_decref(o);
    return status;
}

/* All that a folder says of a critic; `out` is the file that a strange model's name is taken from. */
static drr_status read_folder(encoder **e, wordpiece **tokenizer, critic_meta *meta, bool *foreign, const char *folder,
                              const char *out, drr_error *err)
{
    char *path = NULL;
    bool has_head = false;
    encoder_shape shape;
    drr_head head = DRR_HEAD_CLS;
    drr_status status = read_config(&shape, &head, folder, err);
    if (status == DRR_OK)
        status = encoder_open_hf_headed(e, tokenizer, &has_head, folder, head, 0, err);
    if (status == DRR_OK && !has_head)
        status =
            error_set(err, DRR_E_FORMAT,
                      "%s holds an encoder without a head (bert.pooler.dense and classifier), which judges nothing "
                      "yet: `drr train --encoder %s` makes a critic of it",
                      folder, folder);
    if (status == DRR_OK)
        status = path_in(&path, folder, "drr.json", err);
    if (status == DRR_OK) {
        *foreign = !file_exists(path);
        status = *foreign ? foreign_meta(meta, *e, folder, out, err) : own_meta(meta, head, path, err);
    }
    free(path);
    return status;
}

drr_status critic_open_folder(drr_critic **critic, bool *foreign, const char *folder, const char *name, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    critic_meta meta = {0};
    const char none[65] = "";
    drr_status status = read_folder(&e, &tokenizer, &meta, foreign, folder, name, err);
    if (status == DRR_OK)
        status = critic_check(e, tokenizer, &meta, err);
    if (status == DRR_OK)
        status = critic_of_parts(critic, e, tokenizer, &meta, none, err);
    if (status != DRR_OK) {
        critic_meta_clear(&meta);
        encoder_free(e);
        wordpiece_free(tokenizer);
    }
    return status;
}

drr_status drr_critic_import(const char *folder, const char *out, bool *foreign, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    critic_meta meta = {0};
    drr_status status = read_folder(&e, &tokenizer, &meta, foreign, folder, out, err);
    if (status == DRR_OK && *foreign)
        status = critic_probes_make(&meta, e, tokenizer, err);
    if (status == DRR_OK)
        status = critic_write(out, e, tokenizer, &meta, err);
    critic_meta_clear(&meta);
    encoder_free(e);
    wordpiece_free(tokenizer);
    return status;
}
