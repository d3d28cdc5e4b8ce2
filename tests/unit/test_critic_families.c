/* test_critic_families.c: byte-level BPE on a small vocabulary; critics of RoBERTa and ModernBERT through their files
 * and back; folders and files of these families that are refused by name, and broken ones that are no more than
 * refused. The same against transformers is parity/test_parity_families.c. */
#include "core/json.h"
#include "critic/bpe_internal.h"
#include "critic_fixture.h"

#include <math.h>
#include <time.h>

static const char *const merges[] = {"h e", "l l",   "he ll",     "\xC4\xA0 he",
                                     "a a", "aa aa", "aaaa aaaa", "\xC4\xA0 \xC4\xA0"};
enum { N_MERGES = sizeof merges / sizeof *merges, FIRST_BYTE = N_SPECIALS, MOST = 300 };

typedef struct vocabulary { /* specials, the 256 bytes, what the merges make, one added token */
    char texts[MOST][24];
    const char *tokens[MOST];
    uint8_t kinds[MOST];
    size_t n;
} vocabulary;

static void put(vocabulary *v, const char *text, uint8_t kind)
{
    snprintf(v->texts[v->n], sizeof v->texts[0], "%s", text);
    v->tokens[v->n] = v->texts[v->n];
    v->kinds[v->n++] = kind;
}

static void put_byte(vocabulary *v, int byte, int *shifted)
{
    const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int c = prints ? byte : 0x100 + (*shifted)++;
    const char wide[] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 63)), '\0'}, narrow[] = {(char)c, '\0'};
    put(v, c < 0x80 ? narrow : wide, TOKEN_NORMAL);
}

static vocabulary *make_vocabulary(bool roberta)
{
    static vocabulary v;
    static const char *const specials[2][N_SPECIALS] = {{"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"},
                                                        {"<unk>", "<s>", "</s>", "<pad>", "<mask>"}};
    int shifted = 0;
    v.n = 0;
    for (int i = 0; i < N_SPECIALS; i++)
        put(&v, specials[roberta][i], TOKEN_CONTROL);
    for (int byte = 0; byte < 256; byte++)
        put_byte(&v, byte, &shifted);
    for (size_t i = 0; i < N_MERGES; i++) {
        char joined[24];
        const char *space = strchr(merges[i], ' ');
        snprintf(joined, sizeof joined, "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        put(&v, joined, TOKEN_NORMAL);
    }
    put(&v, "   ", TOKEN_ADDED);
    put(&v, "|X|", TOKEN_ADDED);
    return &v;
}

static drr_status make(wordpiece **w, const vocabulary *v, size_t n_merges, bool nfc, drr_error *err)
{
    const bpe_parts parts = {.tokens = v->tokens,
                             .kinds = v->kinds,
                             .n_tokens = v->n,
                             .merges = merges,
                             .n_merges = n_merges,
                             .specials = {0, 1, 2, 3, 4},
                             .n_between = strcmp(v->tokens[1], "<s>") == 0 ? 2 : 1,
                             .nfc = nfc};
    return wordpiece_new_bytes(w, &parts, "here", err);
}

static wordpiece *make_good(bool roberta)
{
    wordpiece *w = NULL;
    drr_error err = {0};
    if (make(&w, make_vocabulary(roberta), N_MERGES, !roberta, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return w;
}

/* ---- ids */

/* `expected`: the tokens as they are spelled, a bar between. */
static void assert_pieces(const wordpiece *w, const char *text, const char *expected)
{
    int32_t *ids = NULL;
    size_t n = 0;
    char got[2000] = "";
    assert_int_equal(wordpiece_encode(w, text, &ids, &n, NULL), DRR_OK);
    for (size_t i = 0, used = 0; i < n; i++)
        used +=
            (size_t)snprintf(got + used, sizeof got - used, "%s%s", i ? "/" : "", wordpiece_token(w, (size_t)ids[i]));
    assert_string_equal(got, expected);
    free(ids);
}

#define SPACE "\xC4\xA0"

static void bytes_are_merged_in_the_order_of_the_merges(void **state)
{
    (void)state;
    wordpiece *w = make_good(true);
    assert_pieces(w, "", "");
    assert_pieces(w, "hello", "hell/o");
    assert_pieces(w, "ell", "e/ll");
    assert_pieces(w, "say hello", "s/a/y/" SPACE "/hell/o"); /* "he ll" is before " he" */
    assert_pieces(w, "aaaaaaaaaaaa", "aaaaaaaa/aaaa");
    assert_pieces(w, "aaaaaaa", "aaaa/aa/a");
    assert_pieces(w, "he's he'd 'x", "he/'/s/" SPACE "he/'/d/" SPACE "/'/x");
    assert_pieces(w, "\xC3\xA9", "\xC3\x83/\xC2\xA9"); /* the bytes C3 and A9 */
    assert_pieces(w,
                  "a\xFF"
                  "b",
                  "a/b");                            /* what is no UTF-8 is left out */
    assert_pieces(w, "<s></s>", "</s/>/</\x2F/s/>"); /* the name of a control token is text */
    wordpiece_free(w);
}

static void spaces_and_added_tokens_divide_words(void **state)
{
    (void)state;
    wordpiece *w = make_good(false);
    assert_pieces(w, "a  he", "a/" SPACE "/" SPACE "he");
    assert_pieces(w, "a    he", "a/   /" SPACE "he");
    assert_pieces(w, "a  ", "a/" SPACE SPACE);
    assert_pieces(w, "|X||X", "|X|/|/X");
    assert_pieces(w, "e\xCC\x81", "\xC3\x83/\xC2\xA9"); /* composed */
    wordpiece_free(w);
}

static void a_long_word_takes_no_quadratic_time(void **state)
{
    (void)state;
    enum { LENGTH = 2000000 };
    wordpiece *w = make_good(true);
    char *text = malloc(LENGTH + 1);
    int32_t *ids = NULL;
    size_t n = 0;
    struct timespec begin, end;
    assert_non_null(text);
    memset(text, 'a', LENGTH);
    text[LENGTH] = '\0';
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    assert_int_equal(wordpiece_encode(w, text, &ids, &n, NULL), DRR_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    assert_int_equal(n, LENGTH / 8);
    assert_true(end.tv_sec - begin.tv_sec < 20); /* a second or two; the square of it would be days */
    free(ids);
    free(text);
    wordpiece_free(w);
}

static void a_pair_has_the_separators_of_its_family(void **state)
{
    (void)state;
    for (int roberta = 0; roberta < 2; roberta++) {
        wordpiece *w = make_good(roberta);
        int32_t ids[12];
        size_t n = 0;
        bool truncated = true;
        assert_int_equal(wordpiece_encode_pair(w, "x", "yz", 12, ids, &n, &truncated, NULL), DRR_OK);
        assert_false(truncated);
        assert_int_equal(n, roberta ? 7 : 6);
        assert_int_equal(ids[0], 1);
        assert_int_equal(ids[1], FIRST_BYTE + 'x');
        for (int i = 0; i <= roberta; i++)
            assert_int_equal(ids[2 + i], 2);
        assert_int_equal(ids[n - 2], FIRST_BYTE + 'z');
        assert_int_equal(ids[n - 1], 2);
        assert_int_equal(wordpiece_encode_pair(w, "xxxxxxxxx", "123456789z", 9, ids, &n, &truncated, NULL), DRR_OK);
        assert_true(truncated);
        assert_int_equal(n, 9);
        assert_int_equal(ids[7], FIRST_BYTE + 'z'); /* the text keeps its end */
        wordpiece_free(w);
    }
}

static void a_vocabulary_that_cannot_be_is_refused(void **state)
{
    (void)state;
    wordpiece *w = NULL;
    drr_error err = {0};
    vocabulary *v = make_vocabulary(true);
    snprintf(v->texts[FIRST_BYTE + 'q'], 24, "qq");
    assert_int_equal(make(&w, v, 0, false, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "0x71"));
    v = make_vocabulary(true);
    snprintf(v->texts[FIRST_BYTE + 256], 24, "other"); /* what "h e" makes */
    assert_int_equal(make(&w, v, N_MERGES, false, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "h e"));
    const char *const twice[] = {"h e", "h e"}, *const three[] = {"h e l"};
    v = make_vocabulary(true);
    bpe_parts parts = {v->tokens, v->kinds, v->n, twice, 2, {0, 1, 2, 3, 4}, 2, false};
    assert_int_equal(wordpiece_new_bytes(&w, &parts, "here", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "same"));
    parts.merges = three;
    parts.n_merges = 1;
    assert_int_equal(wordpiece_new_bytes(&w, &parts, "here", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "not two tokens"));
    parts.n_merges = 0;
    parts.specials[2] = (int32_t)v->n;
    assert_int_equal(wordpiece_new_bytes(&w, &parts, "here", &err), DRR_E_FORMAT);
    assert_null(w);
}

/* ---- critics of the families */

enum { ROBERTA, FIRST, MEAN, KINDS }; /* ModernBERT by its pooling */

static encoder *make_encoder(int kind, const wordpiece *w)
{
    encoder_shape shape = {.n_layers = 2,
                           .n_embd = 8,
                           .n_heads = 2,
                           .n_ff = 12,
                           .n_vocab = (uint32_t)wordpiece_size(w),
                           .n_positions = 16,
                           .n_types = 1,
                           .norm_epsilon = 1e-5f,
                           .family = ENCODER_ROBERTA,
                           .position_offset = 4};
    encoder *e = NULL;
    rng r;
    if (kind != ROBERTA) {
        shape.family = ENCODER_MODERNBERT;
        shape.position_offset = 0;
        shape.pooling = kind == MEAN ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST;
        shape.window = 6;
        shape.global_every = 2;
        shape.rope_base = 160000;
        shape.rope_base_local = 10000;
    }
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    rng_seed(&r, 3);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = (float)rng_normal(&r);
    return e;
}

static encoder *write_family(int kind, const char *path)
{
    wordpiece *w = make_good(kind == ROBERTA);
    encoder *e = make_encoder(kind, w);
    critic_meta m = small_meta(false);
    drr_error err = {0};
    m.n_train_questions = 4711;
    if (critic_write(path, e, w, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    wordpiece_free(w);
    return e;
}

static double score(const drr_critic *critic)
{
    const drr_score_item item = {"he said", "hello   |X|", NULL};
    drr_score s;
    assert_int_equal(drr_critic_score((drr_critic *)(uintptr_t)critic, &s, &item, 1, NULL), DRR_OK);
    assert_true(isfinite(s.logit));
    return s.logit;
}

static void a_critic_of_each_family_is_kept_exported_and_imported_whole(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        drr_error err = {0};
        bool foreign = true;
        encoder *e = write_family(kind, at("critic.gguf"));
        drr_critic *critic = open_critic(at("critic.gguf"));
        assert_same_parameters(critic_encoder(critic), e);
        assert_memory_equal(&critic_encoder(critic)->shape, &e->shape, sizeof e->shape);
        score(critic);
        if (drr_critic_export(critic, at("hf"), &err) != DRR_OK ||
            drr_critic_import(at("hf"), at("again.gguf"), &foreign, &err) != DRR_OK)
            fail_msg("%s", err.message);
        assert_false(foreign);
        assert_same_files(at("critic.gguf"), at("again.gguf"));
        drr_critic_close(critic);
        encoder_free(e);
    }
}

static void a_tokenizer_of_another_family_is_not_written(void **state)
{
    (void)state;
    wordpiece *bytes = make_good(true), *pieces = small_tokenizer(true);
    encoder *e = make_encoder(ROBERTA, bytes), *bert = NULL;
    critic_meta m = small_meta(false);
    encoder_shape shape = e->shape;
    shape.family = ENCODER_BERT;
    assert_int_equal(encoder_new(&bert, &shape, NULL), DRR_OK);
    assert_int_equal(critic_write(at("no.gguf"), bert, bytes, &m, NULL), DRR_E_MISMATCH);
    assert_int_equal(critic_write(at("no.gguf"), e, pieces, &m, NULL), DRR_E_MISMATCH);
    e->shape.position_offset = 2; /* the padding is token 3 */
    assert_int_equal(critic_write(at("no.gguf"), e, bytes, &m, NULL), DRR_E_MISMATCH);
    critic_meta_clear(&m);
    encoder_free(e);
    encoder_free(bert);
    wordpiece_free(bytes);
    wordpiece_free(pieces);
}

/* ---- broken files */

static void a_broken_critic_file_is_refused_or_read_but_never_more(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        char *data = NULL;
        size_t size = 0, n_read = 0;
        rng r;
        encoder_free(write_family(kind, at("good.gguf")));
        assert_int_equal(file_read(&data, &size, at("good.gguf"), 0, NULL), DRR_OK);
        rng_seed(&r, (uint64_t)kind);
        for (int i = 0; i < 6000; i++) { /* the head, where the keys are, as often as the weights */
            drr_critic *critic = NULL;
            drr_error err = {0};
            const size_t byte = (size_t)rng_below(&r, i % 2 ? size : size / 3), cut = i % 5 ? size : byte;
            const char kept = data[byte];
            data[byte] = (char)(kept ^ (1 << rng_below(&r, 8)));
            put_file(at("bad.gguf"), data, cut);
            if (drr_critic_open(&critic, at("bad.gguf"), &err) == DRR_OK) {
                n_read++;
                drr_critic_close(critic);
            } else {
                assert_true(err.message[0] && !critic);
            }
            data[byte] = kept;
        }
        assert_in_range(n_read, 500, 5500);
        free(data);
    }
}

/* ---- folders that are refused by name */

typedef struct change { /* of the member at `path` ("model.dropout") in a JSON file of an exported folder */
    const char *file, *path, *value; /* NULL: the member goes */
    const char *says;                /* NULL: that changes nothing */
} change;

static void apply(const change *c)
{
    json_t *root = NULL, *object, *value = c->value ? json_loads(c->value, JSON_DECODE_ANY, NULL) : NULL;
    char path[64], from[64], *rest = path, *name;
    snprintf(path, sizeof path, "%s", c->path);
    snprintf(from, sizeof from, "hf/%s", c->file);
    assert_int_equal(json_parse_file(&root, at(from), NULL), DRR_OK);
    object = root;
    while ((name = strsep(&rest, ".")) && rest)
        object = json_is_array(object) ? json_array_get(object, (size_t)strtoul(name, NULL, 10))
                                       : json_object_get(object, name);
    assert_true(object && (!c->value || value));
    if (!c->value)
        json_object_del(object, name);
    else if (json_is_array(object))
        json_array_set_new(object, (size_t)strtoul(name, NULL, 10), value);
    else
        json_object_set_new(object, name, value);
    char *text = json_dumps(root, 0);
    put_file(at(from), text, strlen(text));
    free(text);
    json_decref(root);
}

static void assert_changes(int kind, const change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        encoder *e = NULL;
        wordpiece *w = NULL;
        drr_error err = {0};
        encoder_free(write_family(kind, at("critic.gguf")));
        drr_critic *critic = open_critic(at("critic.gguf"));
        assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
        drr_critic_close(critic);
        apply(&changes[i]);
        const drr_status status = encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err);
        if (status == DRR_OK ? changes[i].says != NULL : !changes[i].says || !strstr(err.message, changes[i].says))
            fail_msg("%s of %s: status %s, \"%s\"", changes[i].path, changes[i].file, drr_status_name(status),
                     err.message);
        encoder_free(e);
        wordpiece_free(w);
    }
}
#define LENGTH_OF(table) (sizeof(table) / sizeof *(table))

static void what_the_tokenizer_does_not_do_is_refused_by_name(void **state)
{
    (void)state;
    static const change changes[] = {
        {"tokenizer.json", "model.type", "\"Unigram\"", "Unigram"},
        {"tokenizer.json", "model.dropout", "0.1", "dropout"},
        {"tokenizer.json", "model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"tokenizer.json", "model.end_of_word_suffix", "\"\"", NULL},
        {"tokenizer.json", "model.ignore_merges", "true", "ignore_merges"},
        {"tokenizer.json", "model.byte_fallback", "true", "byte_fallback"},
        {"tokenizer.json", "model.vocab", NULL, "no vocabulary"},
        {"tokenizer.json", "model.vocab.he", "261.5", "he"},
        {"tokenizer.json", "model.vocab.he", "262", "same id"},
        {"tokenizer.json", "model.vocab.he", "-1", "he"},
        {"tokenizer.json", "model.vocab.he", "3000000000", "he"},
        {"tokenizer.json", "model.merges.1", "[\"l\", \"l\"]", NULL},
        {"tokenizer.json", "model.merges.1", "[\"l\"]", "merge 1"},
        {"tokenizer.json", "model.merges.1", "\"l q\"", "l q"},
        {"tokenizer.json", "pre_tokenizer.type", "\"Whitespace\"", "Whitespace"},
        {"tokenizer.json", "pre_tokenizer.add_prefix_space", "true", "add_prefix_space"},
        {"tokenizer.json", "pre_tokenizer.use_regex", "false", "use_regex"},
        {"tokenizer.json", "pre_tokenizer.use_regex", NULL, NULL},
        {"tokenizer.json", "normalizer", "{\"type\": \"Lowercase\"}", "Lowercase"},
        {"tokenizer.json", "normalizer", "{\"type\": \"NFC\"}", NULL},
        {"tokenizer.json", "added_tokens.6.lstrip", "true", "lstrip"},
        {"tokenizer.json", "added_tokens.6.content", NULL, "content"},
        {"tokenizer.json", "added_tokens.0.lstrip", "true", NULL}, /* a control token is not looked for */
        {"tokenizer_config.json", "cls_token", "\"<start>\"", "<start>"},
        {"tokenizer_config.json", "cls_token", "{\"content\": \"<start>\"}", "<start>"},
        {"tokenizer_config.json", "add_prefix_space", "true", "add_prefix_space"},
        {"config.json", "pad_token_id", "1", "pad"},
        {"config.json", "pad_token_id", NULL, "pad_token_id"},
        {"config.json", "max_position_embeddings", "4", "pad_token_id"},
        {"config.json", "position_embedding_type", "\"relative_key\"", "relative_key"},
        {"config.json", "vocab_size", "200", "200"},
        {"config.json", "model_type", "\"xlm-roberta\"", "xlm-roberta"},
    };
    assert_changes(ROBERTA, changes, LENGTH_OF(changes));
}

static void what_the_encoder_does_not_do_is_refused_by_name(void **state)
{
    (void)state;
    static const change changes[] = {
        {"config.json", "hidden_activation", "\"silu\"", "silu"},
        {"config.json", "classifier_activation", "\"relu\"", "relu"},
        {"config.json", "attention_bias", "true", "attention_bias"},
        {"config.json", "mlp_bias", "true", "mlp_bias"},
        {"config.json", "norm_bias", "true", "norm_bias"},
        {"config.json", "classifier_bias", "true", "classifier_bias"},
        {"config.json", "classifier_pooling", "\"last\"", "last"},
        {"config.json", "global_attn_every_n_layers", "0", "global_attn_every_n_layers"},
        {"config.json", "local_attention", NULL, "local_attention"},
        {"config.json", "global_rope_theta", "0.5", "global_rope_theta"},
        {"config.json", "norm_eps", "0", "norm_eps"},
        {"config.json", "layer_types", "[\"full_attention\", \"sliding_attention\"]", NULL},
        {"config.json", "layer_types", "[\"sliding_attention\", \"full_attention\"]", "layer 0"},
        {"config.json", "layer_types", "[\"full_attention\"]", "layer 1"},
        {"config.json", "rope_parameters",
         "{\"full_attention\": {\"rope_theta\": 1000}, \"sliding_attention\": {\"rope_type\": \"default\"}}", NULL},
        {"config.json", "rope_parameters", "{\"full_attention\": {\"rope_type\": \"yarn\"}}", "yarn"},
        {"config.json", "rope_parameters", "{\"full_attention\": {}}", "sliding_attention"},
    };
    assert_changes(MEAN, changes, LENGTH_OF(changes));
}

/* A folder without tokenizer.json cannot say which tokens were added. */
static void added_tokens_without_tokenizer_json_are_refused(void **state)
{
    (void)state;
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_error err = {0};
    encoder_free(write_family(ROBERTA, at("critic.gguf")));
    drr_critic *critic = open_critic(at("critic.gguf"));
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    drr_critic_close(critic);
    assert_int_equal(remove(at("hf/tokenizer.json")), 0);
    assert_int_equal(encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "vocab.json"));
    put_file(at("hf/vocab.json"), "{\"a\": 0}", 8);
    put_file(at("hf/added_tokens.json"), "{}", 2);
    assert_int_equal(encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "added_tokens.json"));
}

#define IN_A_PLACE(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_merged_in_the_order_of_the_merges),
        cmocka_unit_test(spaces_and_added_tokens_divide_words),
        cmocka_unit_test(a_long_word_takes_no_quadratic_time),
        cmocka_unit_test(a_pair_has_the_separators_of_its_family),
        cmocka_unit_test(a_vocabulary_that_cannot_be_is_refused),
        IN_A_PLACE(a_critic_of_each_family_is_kept_exported_and_imported_whole),
        IN_A_PLACE(a_tokenizer_of_another_family_is_not_written),
        IN_A_PLACE(a_broken_critic_file_is_refused_or_read_but_never_more),
        IN_A_PLACE(what_the_tokenizer_does_not_do_is_refused_by_name),
        IN_A_PLACE(what_the_encoder_does_not_do_is_refused_by_name),
        IN_A_PLACE(added_tokens_without_tokenizer_json_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
