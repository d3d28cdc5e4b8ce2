/* hf_bpe.c: the tokenizer of byte-level BPE from a Hugging Face folder, out of tokenizer.json or, where there is none,
 * vocab.json and merges.txt; and into tokenizer.json. What drr's tokenizer does not do is refused by name. */
#include "critic/bpe_internal.h"
#include "critic/hf_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 4000000 };

static const char *const special_fields[N_SPECIALS] = {"unk_token", "cls_token", "sep_token", "pad_token",
                                                       "mask_token"};

/* A tokenizer while it is gathered. */
typedef struct gathering {
    const char *where;
    const tokenizer_style *style;
    const char **tokens; /* by id; what they point to outlives this */
    uint8_t *kinds;      /* 0: no token has the id */
    size_t n_tokens, capacity;
    const char **merges;
    size_t n_merges;
    arena *texts;
    bool nfc;
} gathering;

static drr_status put_token(gathering *g, const char *text, json_t *id, uint8_t kind, drr_error *err)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= MOST_TOKENS)
        return error_set(err, DRR_E_FORMAT, "%s: the id of the token \"%.80s\" is not a whole number below %d",
                         g->where, text, MOST_TOKENS);
    const size_t at = (size_t)json_integer_value(id);
    if (at >= g->capacity) {
        const size_t capacity = at < 1024 ? 2048 : 2 * at;
        const char **tokens = realloc(g->tokens, capacity * sizeof *tokens);
        g->tokens = tokens ? tokens : g->tokens;
        uint8_t *kinds = tokens ? realloc(g->kinds, capacity) : NULL;
        if (!kinds)
            return error_memory(err);
        memset(kinds + g->capacity, 0, capacity - g->capacity);
        g->kinds = kinds;
        g->capacity = capacity;
    }
    if (g->kinds[at] && strcmp(g->tokens[at], text) != 0)
        return error_set(err, DRR_E_FORMAT, "%s: the tokens \"%.80s\" and \"%.80s\" have the same id %zu", g->where,
                         g->tokens[at], text, at);
    g->tokens[at] = text;
    g->kinds[at] = kind;
    g->n_tokens = at >= g->n_tokens ? at + 1 : g->n_tokens;
    return DRR_OK;
}

static drr_status put_vocabulary(gathering *g, json_t *vocabulary, drr_error *err)
{
    const char *text;
    json_t *id;
    drr_status status = DRR_OK;
    if (!json_object_size(vocabulary))
        return error_set(err, DRR_E_FORMAT, "%s: there is no vocabulary, an object of tokens and their ids", g->where);
    json_object_foreach(vocabulary, text, id)
    {
        status = put_token(g, text, id, TOKEN_NORMAL, err);
        if (status != DRR_OK)
            break;
    }
    return status;
}

/* ---- tokenizer.json */

typedef struct wanted { /* a member that says what only one value may say */
    const char *field;
    bool is_bool, value; /* a bool that must have the value; else: null, absent or "" */
} wanted;

static drr_status want_usual(json_t *object, const char *what, const wanted *all, size_t n, const char *where,
                             drr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        json_t *found = json_object_get(object, all[i].field);
        const bool none = !found || json_is_null(found);
        const bool usual = all[i].is_bool
                               ? (none ? !all[i].value : json_is_boolean(found) && json_is_true(found) == all[i].value)
                               : none || (json_is_string(found) && !*json_string_value(found));
        if (!usual)
            return error_set(err, DRR_E_FORMAT, "%s: drr's tokenizer does not do what \"%s\" of the %s asks for", where,
                             all[i].field, what);
    }
    return DRR_OK;
}

static drr_status want_type(json_t *part, const char *what, const char *type, const char *where, drr_error *err)
{
    const char *found = json_string_or(part, "type", "none");
    return strcmp(found, type) == 0
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT, "%s: the %s is of the type \"%.60s\"; drr's tokenizer has \"%s\"", where,
                           what, found, type);
}

static drr_status read_parts(gathering *g, json_t *root, drr_error *err)
{
    static const wanted of_words[] = {{"add_prefix_space", true, false}, {"use_regex", true, true}};
    static const wanted of_model[] = {{"dropout", false, false},
                                      {"continuing_subword_prefix", false, false},
                                      {"end_of_word_suffix", false, false},
                                      {"byte_fallback", true, false},
                                      {"ignore_merges", true, false}};
    json_t *normalizer = json_object_get(root, "normalizer"), *words = json_object_get(root, "pre_tokenizer");
    json_t *model = json_object_get(root, "model");
    drr_status status = want_type(model, "model", "BPE", g->where, err);
    if (status == DRR_OK)
        status = want_usual(model, "model", of_model, sizeof of_model / sizeof *of_model, g->where, err);
    if (status == DRR_OK)
        status = want_type(words, "pre_tokenizer", "ByteLevel", g->where, err);
    if (status == DRR_OK && !json_object_get(words, "use_regex")) /* files older than the option */
        json_object_set_new(words, "use_regex", json_true());
    if (status == DRR_OK)
        status = want_usual(words, "pre_tokenizer", of_words, sizeof of_words / sizeof *of_words, g->where, err);
    g->nfc = normalizer && !json_is_null(normalizer);
    if (status == DRR_OK && g->nfc)
        status = want_type(normalizer, "normalizer", "NFC", g->where, err);
    return status;
}

static drr_status read_added(gathering *g, json_t *list, drr_error *err)
{
    static const wanted of_added[] = {{"single_word", true, false}, {"lstrip", true, false}, {"rstrip", true, false}};
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < json_array_size(list); i++) {
        json_t *added = json_array_get(list, i);
        const char *text;
        const bool control = json_bool_or(added, "special", false);
        status = json_get_string(&text, added, "content", g->where, err);
        if (status == DRR_OK && !control)
            status = want_usual(added, "added token", of_added, sizeof of_added / sizeof *of_added, g->where, err);
        if (status == DRR_OK)
            status = put_token(g, text, json_object_get(added, "id"), control ? TOKEN_CONTROL : TOKEN_ADDED, err);
    }
    return status;
}

/* A merge is "a b" or ["a", "b"]. */
static drr_status take_merges(gathering *g, json_t *list, drr_error *err)
{
    const size_t n = json_array_size(list);
    g->merges = calloc(n + 1, sizeof *g->merges);
    if (!g->merges)
        return error_memory(err);
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_array_get(list, i);
        const char *left = json_string_value(json_array_get(item, 0)),
                   *right = json_string_value(json_array_get(item, 1));
        if (json_is_string(item)) {
            g->merges[i] = json_string_value(item);
        } else if (left && right && json_array_size(item) == 2) {
            char *joined = arena_alloc(g->texts, strlen(left) + strlen(right) + 2, 1);
            if (!joined)
                return error_memory(err);
            memcpy(joined, left, strlen(left));
            joined[strlen(left)] = ' ';
            memcpy(joined + strlen(left) + 1, right, strlen(right));
            g->merges[i] = joined;
        } else {
            return error_set(err, DRR_E_FORMAT, "%s: merge %zu (counted from 0) is not two tokens", g->where, i);
        }
    }
    g->n_merges = n;
    return DRR_OK;
}

static drr_status gather_json(gathering *g, json_t *root, drr_error *err)
{
    json_t *model = json_object_get(root, "model");
    drr_status status = read_parts(g, root, err);
    if (status == DRR_OK)
        status = put_vocabulary(g, json_object_get(model, "vocab"), err);
    if (status == DRR_OK)
        status = read_added(g, json_object_get(root, "added_tokens"), err);
    return status == DRR_OK ? take_merges(g, json_object_get(model, "merges"), err) : status;
}

/* ---- merges.txt: a line a merge, after one that names the version */

static drr_status gather_lines(gathering *g, char *text, size_t size, drr_error *err)
{
    size_t n;
    drr_status status = lines_split(&g->merges, &n, text, size, err);
    for (size_t i = 0; i < n; i++)
        if (*g->merges[i] && strncmp(g->merges[i], "#version", 8) != 0)
            g->merges[g->n_merges++] = g->merges[i];
    return status;
}

/* ---- the folder */

/* What tokenizer_config.json calls a special token: a string, or an object with it as "content". */
static const char *special_name(const gathering *g, json_t *config, int which)
{
    json_t *found = json_object_get(config, special_fields[which]);
    return json_is_object(found) ? json_string_or(found, "content", g->style->specials[which])
                                 : json_string_or(config, special_fields[which], g->style->specials[which]);
}

static drr_status find_specials(bpe_parts *parts, gathering *g, json_t *config, drr_error *err)
{
    for (int which = 0; which < N_SPECIALS; which++) {
        const char *name = special_name(g, config, which);
        size_t id = 0;
        while (id < g->n_tokens && !(g->kinds[id] && strcmp(g->tokens[id], name) == 0))
            id++;
        if (id == g->n_tokens)
            return error_set(err, DRR_E_FORMAT, "%s: the vocabulary has no token \"%.80s\", which is to be the %s",
                             g->where, name, special_fields[which]);
        parts->specials[which] = (int32_t)id;
        g->kinds[id] = TOKEN_CONTROL;
    }
    return DRR_OK;
}

static drr_status finish(wordpiece **tokenizer, gathering *g, json_t *config, drr_error *err)
{
    static const wanted of_config[] = {{"add_prefix_space", true, false}};
    bpe_parts parts = {.n_between = g->style->n_between, .nfc = g->nfc};
    drr_status status = want_usual(config, "tokenizer_config.json", of_config, 1, g->where, err);
    for (size_t id = 0; status == DRR_OK && id < g->n_tokens; id++)
        if (!g->kinds[id])
            status = error_set(err, DRR_E_FORMAT, "%s: no token has the id %zu, and one has %zu", g->where, id,
                               g->n_tokens - 1);
    if (status == DRR_OK)
        status = find_specials(&parts, g, config, err);
    if (status != DRR_OK)
        return status;
    parts.tokens = g->tokens;
    parts.kinds = g->kinds;
    parts.n_tokens = g->n_tokens;
    parts.merges = g->merges;
    parts.n_merges = g->n_merges;
    return wordpiece_new_bytes(tokenizer, &parts, g->where, err);
}

static drr_status refuse_file(const char *folder, const char *name, drr_error *err)
{
    char *path = NULL;
    drr_status status = hf_path(&path, folder, name, err);
    if (status == DRR_OK && file_exists(path))
        status = error_set(err, DRR_E_FORMAT,
                           "%s: added tokens are read out of tokenizer.json, and the folder has none; "
                           "AutoTokenizer.from_pretrained(..).save_pretrained(..) writes it",
                           path);
    free(path);
    return status;
}

drr_status bpe_open_hf(wordpiece **tokenizer, const tokenizer_style *style, const char *folder, drr_error *err)
{
    gathering g = {.style = style, .texts = arena_new(0)};
    json_t *root = NULL, *config = NULL;
    char *path = NULL, *merges_path = NULL, *text = NULL;
    size_t size = 0;
    drr_status status = g.texts ? hf_parse_tokenizer_config(&config, folder, err) : error_memory(err);
    if (status == DRR_E_NOT_FOUND)
        status = DRR_OK;
    if (status == DRR_OK)
        status = hf_path(&path, folder, "tokenizer.json", err);
    if (status == DRR_OK && file_exists(path)) {
        g.where = path;
        status = hf_parse(&root, folder, "tokenizer.json", err);
        if (status == DRR_OK)
            status = gather_json(&g, root, err);
    } else if (status == DRR_OK) {
        free(path);
        path = NULL;
        status = hf_path(&path, folder, "vocab.json", err);
        g.where = path;
        if (status == DRR_OK)
            status = hf_parse(&root, folder, "vocab.json", err);
        if (status == DRR_OK)
            status = refuse_file(folder, "added_tokens.json", err);
        if (status == DRR_OK)
            status = put_vocabulary(&g, root, err);
        if (status == DRR_OK)
            status = hf_path(&merges_path, folder, "merges.txt", err);
        if (status == DRR_OK)
            status = file_read(&text, &size, merges_path, (size_t)256 << 20, err);
        if (status == DRR_OK)
            status = gather_lines(&g, text, size, err);
    }
    if (status == DRR_OK)
        status = finish(tokenizer, &g, config, err);
    json_decref(root);
    json_decref(config);
    free(g.tokens);
    free(g.kinds);
    free(g.merges);
    arena_free(g.texts);
    free(path);
    free(merges_path);
    free(text);
    return status;
}

/* ---- the way out */

static json_t *token_json(const wordpiece *t, size_t id)
{
    const bool control = bpe_kind(wordpiece_bytes(t), id) == TOKEN_CONTROL;
    return json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", wordpiece_token(t, id),
                     "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", !control, "special", (int)control);
}

static json_t *model_json(const wordpiece *t)
{
    const bpe *b = wordpiece_bytes(t);
    json_t *vocabulary = json_object(), *merges = json_array();
    for (size_t id = 0; id < wordpiece_size(t); id++)
        json_object_set_new(vocabulary, wordpiece_token(t, id), json_integer((json_int_t)id));
    for (size_t rank = 0; rank < bpe_merges(b); rank++) {
        int32_t left, right;
        buffer text = {0};
        bpe_merge(b, rank, &left, &right);
        if (buffer_printf(&text, NULL, "%s %s", wordpiece_token(t, (size_t)left), wordpiece_token(t, (size_t)right)) ==
            DRR_OK)
            json_array_append_new(merges, json_string(text.data));
        buffer_clear(&text);
    }
    if (json_object_size(vocabulary) != wordpiece_size(t) || json_array_size(merges) != bpe_merges(b)) {
        json_decref(vocabulary);
        json_decref(merges);
        return NULL; /* memory is out, or a token is not UTF-8 */
    }
    return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "vocab",
                     vocabulary, "merges", merges);
}

static json_t *piece_json(const char *name, const char *sequence)
{
    return json_pack("{s:{s:s, s:i}}", name, "id", sequence, "type_id", 0);
}

static json_t *special_json(const wordpiece *t, int which)
{
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", wordpiece_token(t, (size_t)wordpiece_special(t, which)),
                     "type_id", 0);
}

/* Of one text, or of two with as many separators between them as the family has. */
static json_t *template_json(const wordpiece *t, bool pair)
{
    json_t *list = json_array();
    json_array_append_new(list, special_json(t, SPECIAL_CLS));
    json_array_append_new(list, piece_json("Sequence", "A"));
    for (size_t i = 0; pair && i < wordpiece_between(t); i++)
        json_array_append_new(list, special_json(t, SPECIAL_SEP));
    if (pair)
        json_array_append_new(list, piece_json("Sequence", "B"));
    json_array_append_new(list, special_json(t, SPECIAL_SEP));
    return list;
}

static json_t *template_special(const wordpiece *t, int which)
{
    const int32_t id = wordpiece_special(t, which);
    const char *text = wordpiece_token(t, (size_t)id);
    return json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", (int)id, "tokens", text);
}

static json_t *fast_json(const wordpiece *t)
{
    const bpe *b = wordpiece_bytes(t);
    json_t *added = json_array(), *model = model_json(t);
    for (size_t id = 0; id < wordpiece_size(t); id++)
        if (bpe_kind(b, id) != TOKEN_NORMAL)
            json_array_append_new(added, token_json(t, id));
    json_t *specials = json_object();
    for (int which = SPECIAL_CLS; which <= SPECIAL_SEP; which++)
        json_object_set_new(specials, wordpiece_token(t, (size_t)wordpiece_special(t, which)),
                            template_special(t, which));
    json_t *normalizer = bpe_composes(b) ? json_pack("{s:s}", "type", "NFC") : json_null();
    return json_pack(
        "{s:s, s:n, s:n, s:o, s:o, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:o, s:o, s:o}, s:{s:s, s:b, s:b, s:b}, s:o}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", normalizer, "pre_tokenizer",
        "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "post_processor", "type",
        "TemplateProcessing", "single", template_json(t, false), "pair", template_json(t, true), "special_tokens",
        specials, "decoder", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "model",
        model);
}

static json_t *names_json(const wordpiece *t)
{
    json_t *o = json_object();
    for (int which = 0; which < N_SPECIALS; which++)
        json_object_set_new(o, special_fields[which],
                            json_string(wordpiece_token(t, (size_t)wordpiece_special(t, which))));
    return o;
}

/* PreTrainedTokenizerFast: tokenizer.json and nothing else. */
static json_t *config_json(const wordpiece *t, uint32_t max_length)
{
    json_t *o = names_json(t);
    json_object_set_new(o, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(o, "model_input_names", json_pack("[s, s]", "input_ids", "attention_mask"));
    json_object_set_new(o, "model_max_length", json_integer((json_int_t)max_length));
    return o;
}

drr_status bpe_write_hf(const char *folder, const wordpiece *tokenizer, uint32_t max_length, drr_error *err)
{
    drr_status status = hf_write_json(folder, "tokenizer.json", fast_json(tokenizer), 15, err);
    if (status == DRR_OK)
        status = hf_write_json(folder, "tokenizer_config.json", config_json(tokenizer, max_length), 15, err);
    if (status == DRR_OK)
        status = hf_write_json(folder, "special_tokens_map.json", names_json(tokenizer), 15, err);
    return status;
}
