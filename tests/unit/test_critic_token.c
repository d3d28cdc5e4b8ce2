/* test_critic_token.c: a critic with a head of tokens goes to its file and to Hugging Face's and back whole; its steps
 * are scored in the pass that scores the text; a file that mixes the two heads up is refused, and so is asking a critic
 * of [CLS] for steps. */
#include "core/json.h"
#include "critic_fixture.h"

#include <math.h>

static encoder *token_encoder(uint64_t seed)
{
    const encoder_shape shape = {.n_layers = 2,
                                 .n_embd = 8,
                                 .n_heads = 2,
                                 .n_ff = 12,
                                 .n_vocab = N_SMALL_VOCABULARY,
                                 .n_positions = 16,
                                 .n_types = 2,
                                 .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new_headed(&e, &shape, DRR_HEAD_TOKEN, NULL), DRR_OK);
    rng_seed(&r, seed);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = 0.5f * (float)rng_normal(&r);
    const encoder_tensor *types = encoder_find(e, "token_types.weight");
    for (size_t i = 0; i < e->shape.n_embd; i++) /* what an export makes of the second type */
        e->parameters[types->offset + e->shape.n_embd + i] = e->parameters[types->offset + i];
    return e;
}

/* Written to a.gguf; the caller's to close. */
static drr_critic *token_critic(void)
{
    encoder *e = token_encoder(3);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(true);
    m.n_train_questions = 12; /* JSON has no larger integers than 2^63 */
    m.n_train_steps = 4711;
    assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
    return open_critic(at("a.gguf"));
}

/* ---- files */

static void its_file_says_which_head_it_has(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    encoder *e = token_encoder(3);
    drr_critic_info info;
    drr_critic_describe(critic, &info);
    assert_int_equal(info.head, DRR_HEAD_TOKEN);
    assert_true(info.n_train_steps == 4711);
    assert_same_parameters(critic_encoder(critic), e);
    assert_null(encoder_find(critic_encoder(critic), "cls.output.weight"));
    drr_critic_close(critic);
    encoder_free(e);
    e = small_encoder(1);
    write_small(at("cls.gguf"), e, true);
    critic = open_critic(at("cls.gguf"));
    drr_critic_describe(critic, &info);
    assert_int_equal(info.head, DRR_HEAD_CLS);
    assert_true(info.n_train_steps == 0);
    drr_critic_close(critic);
    encoder_free(e);
}

static void assert_refused(const char *data, size_t size, drr_status expected, const char *words)
{
    drr_critic *critic = NULL;
    drr_error err = {0};
    put_file(at("bad.gguf"), data, size);
    const drr_status status = drr_critic_open(&critic, at("bad.gguf"), &err);
    if (status != expected || !strstr(err.message, words))
        fail_msg("status %d, \"%s\" is not in: %s", (int)status, words, err.message);
}

static void a_file_that_mixes_heads_up_is_refused(void **state)
{
    (void)state;
    char *data;
    size_t size;
    drr_critic_close(token_critic());
    assert_int_equal(file_read(&data, &size, at("a.gguf"), 0, NULL), DRR_OK);
    char *head = find_bytes(data, size, "drr.head"), *pooling = find_bytes(data, size, "bert.pooling_type");
    char *version = find_bytes(data, size, "drr.format.version"), *weight = find_bytes(data, size, "drr.token.weight");
    head[strlen("drr.head") + 12] = 'T';
    assert_refused(data, size, DRR_E_MISMATCH, "\"drr.head\" is \"Token\"");
    head[strlen("drr.head") + 12] = 't';
    head[7] = 'x'; /* then it would be one of [CLS] */
    assert_refused(data, size, DRR_E_FORMAT, "\"bert.pooling_type\" is 0; in a critic it is 4");
    head[7] = 'd';
    pooling[strlen("bert.pooling_type") + 4] = 4;
    assert_refused(data, size, DRR_E_FORMAT, "\"bert.pooling_type\" is 4; in a critic it is 0");
    pooling[strlen("bert.pooling_type") + 4] = 0;
    version[strlen("drr.format.version") + 4] = 5;
    assert_refused(data, size, DRR_E_MISMATCH, "version 5 and this drr reads 1 to 4");
    version[strlen("drr.format.version") + 4] = 3;
    weight[0] = 'x';
    assert_refused(data, size, DRR_E_FORMAT, "\"drr.token.weight\" is missing");
    weight[0] = 'd';
    put_file(at("bad.gguf"), data, size);
    drr_critic_close(open_critic(at("bad.gguf")));
    free(data);
}

static void every_cut_of_its_file_is_refused(void **state)
{
    (void)state;
    char *data;
    size_t size;
    drr_critic_close(token_critic());
    assert_int_equal(file_read(&data, &size, at("a.gguf"), 0, NULL), DRR_OK);
    for (size_t cut = 0; cut < size; cut += cut < 4000 ? 7 : 97) {
        drr_critic *critic = NULL;
        drr_error err = {0};
        put_file(at("cut.gguf"), data, cut);
        assert_int_equal(drr_critic_open(&critic, at("cut.gguf"), &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "cut.gguf"));
    }
    free(data);
}

/* ---- Hugging Face's files */

static void it_is_exported_as_a_classifier_of_tokens_and_comes_back_whole(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    json_t *config = NULL;
    bool foreign = true;
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    drr_critic_close(critic);
    assert_int_equal(json_parse_file(&config, at("hf/config.json"), NULL), DRR_OK);
    assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)),
                        "BertForTokenClassification");
    json_decref(config);
    assert_int_equal(drr_critic_import(at("hf"), at("again.gguf"), &foreign, NULL), DRR_OK);
    assert_false(foreign);
    assert_same_files(at("a.gguf"), at("again.gguf"));
}

static void import_refuses(drr_status expected, const char *words)
{
    bool foreign;
    drr_error err = {0};
    unlink(at("again.gguf"));
    const drr_status status = drr_critic_import(at("hf"), at("again.gguf"), &foreign, &err);
    if (status != expected || !strstr(err.message, words) || file_exists(at("again.gguf")))
        fail_msg("status %d, \"%s\" is not in: %s", (int)status, words, err.message);
}

static void a_folder_whose_head_is_not_known_is_not_imported(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    json_t *o = NULL;
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    drr_critic_close(critic);
    assert_int_equal(json_parse_file(&o, at("hf/drr.json"), NULL), DRR_OK);
    assert_int_equal(json_object_del(o, "head"), 0);
    assert_int_equal(json_dump_file(o, at("hf/drr.json"), 0), 0);
    import_refuses(DRR_E_MISMATCH, "says that the head is \"cls\"");
    json_object_set_new(o, "head", json_string("token"));
    json_object_set_new(o, "n_train_steps", json_real(1.5));
    assert_int_equal(json_dump_file(o, at("hf/drr.json"), 0), 0);
    import_refuses(DRR_E_FORMAT, "n_train_steps");
    json_decref(o);
    assert_int_equal(unlink(at("hf/drr.json")), 0);
    import_refuses(DRR_E_FORMAT, "classifier of tokens without drr.json");
}

static void a_head_is_taken_from_a_folder_of_its_own_kind_alone(void **state)
{
    (void)state;
    static const drr_head kinds[] = {DRR_HEAD_CLS, DRR_HEAD_TOKEN};
    encoder *cls = small_encoder(1), *tokens = token_encoder(3);
    write_small(at("cls.gguf"), cls, false);
    drr_critic *critics[] = {open_critic(at("cls.gguf")), token_critic()};
    for (size_t from = 0; from < 2; from++) {
        assert_int_equal(drr_critic_export(critics[from], at("hf"), NULL), DRR_OK);
        for (size_t to = 0; to < 2; to++) {
            const encoder *whole = from ? tokens : cls;
            encoder *e = NULL;
            wordpiece *w = NULL;
            bool has_head = from != to;
            assert_int_equal(encoder_open_hf_headed(&e, &w, &has_head, at("hf"), kinds[to], 9, NULL), DRR_OK);
            assert_int_equal(e->head, kinds[to]);
            assert_int_equal(has_head, from == to);
            assert_memory_equal(e->parameters, whole->parameters, e->tensors[2].offset * sizeof(float));
            const float *classifier = e->parameters + e->tensors[e->n_tensors - 2].offset;
            const float *theirs = whole->parameters + whole->tensors[whole->n_tensors - 2].offset;
            assert_true((memcmp(classifier, theirs, e->shape.n_embd * sizeof(float)) == 0) == (from == to));
            wordpiece_free(w);
            encoder_free(e);
        }
        drr_critic_close(critics[from]);
    }
    encoder_free(cls);
    encoder_free(tokens);
}

/* ---- steps */

static void places_are_where_the_prefixes_end(void **state)
{
    (void)state;
    static const char *const texts[] = {"a un. unaffable, a\n# b a  unable", "unaffable", "",
                                        "\xC3\x84 a\xCC\x81 un # a", "a \xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82un # un"};
    wordpiece *w = small_tokenizer(true);
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (size_t longest = 5; longest <= 16; longest++) {
            int32_t ids[16], *prefix_ids = NULL, *all = NULL;
            size_t n, n_prefix, n_all, size = strlen(texts[t]);
            assert_int_equal(wordpiece_encode_pair(w, "a b", texts[t], longest, ids, &n, NULL, NULL), DRR_OK);
            assert_int_equal(wordpiece_encode(w, texts[t], &all, &n_all, NULL), DRR_OK);
            for (uint32_t end = 1; end <= size; end++) {
                if (end < size && texts[t][end] != ' ' && texts[t][end] != '\n' && texts[t][end] != '.')
                    continue; /* the tokenizer itself would see another word */
                uint32_t place = 0;
                assert_int_equal(wordpiece_step_places(&place, w, texts[t], &end, 1, ids, n, NULL), DRR_OK);
                char *prefix = string_copy_n(texts[t], end);
                assert_int_equal(wordpiece_encode(w, prefix, &prefix_ids, &n_prefix, NULL), DRR_OK);
                const size_t behind = n_all - n_prefix;
                size_t first = 1; /* of the text's tokens */
                while (ids[first - 1] != ids[n - 1])
                    first++;
                if (n_prefix == 0 || n < first + 2 + behind) {
                    assert_true(place == WORDPIECE_NOWHERE);
                } else {
                    assert_int_equal(place, n - 2 - behind);
                    assert_int_equal(ids[place], prefix_ids[n_prefix - 1]);
                }
                free(prefix_ids);
                free(prefix);
            }
            free(all);
        }
    wordpiece_free(w);
}

static void an_end_within_a_word_is_taken_to_its_end(void **state)
{
    (void)state;
    wordpiece *w = small_tokenizer(true);
    const char *text = "unaffable a \xC3\xA9.";
    const uint32_t ends[] = {3, 9, 13}; /* within "unaffable"; its end; within the e with an accent */
    int32_t ids[16];
    size_t n;
    uint32_t places[3];
    /* [CLS] a [SEP] un ##aff ##able a [UNK] [UNK] [SEP] */
    assert_int_equal(wordpiece_encode_pair(w, "a", text, 16, ids, &n, NULL, NULL), DRR_OK);
    assert_int_equal(n, 10);
    assert_int_equal(wordpiece_step_places(places, w, text, ends, 3, ids, n, NULL), DRR_OK);
    assert_int_equal(places[0], 5);
    assert_int_equal(places[1], 5);
    assert_int_equal(places[2], 7);
    wordpiece_free(w);
}

static void steps_are_scored_in_the_pass_that_scores_the_text(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    const encoder *e = critic_encoder(critic);
    drr_features features;
    drr_features_defaults(&features);
    const drr_score_item item = {"a", "un b. unaffable a. a", &features};
    const uint32_t ends[] = {5, 6, 18, 20}; /* the second: a space, at the same token as the first */
    drr_score plain, score;
    drr_step_score steps[4];
    assert_int_equal(drr_critic_score(critic, &plain, &item, 1, NULL), DRR_OK);
    assert_int_equal(drr_critic_score_steps(critic, &score, steps, &item, ends, 4, NULL), DRR_OK);
    assert_true(fabs(plain.logit - score.logit) < 1e-5);
    assert_true(fabs(plain.p_correct - score.p_correct) < 1e-5);
    /* [CLS] a [SEP] un b . un ##aff ##able a . a [SEP]: each step by a pass of its own over the same ids */
    int32_t ids[16];
    size_t n;
    encoder_workspace *w = NULL;
    assert_int_equal(wordpiece_encode_pair(critic_wordpiece(critic), item.question, item.text, 16, ids, &n, NULL, NULL),
                     DRR_OK);
    assert_int_equal(n, 13);
    assert_int_equal(encoder_workspace_new(&w, e, 16, 1, NULL), DRR_OK);
    const uint32_t rows[] = {5, 5, 10, 11};
    for (size_t i = 0; i < 4; i++) {
        float alone;
        const uint32_t starts[2] = {0, (uint32_t)n}, row_starts[2] = {0, 1};
        assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, &rows[i], row_starts, &alone, NULL), DRR_OK);
        assert_int_equal(steps[i].end, ends[i]);
        assert_true(fabs(steps[i].logit - (double)alone) < 1e-5);
        assert_true(fabs(steps[i].p - 1 / (1 + exp(-steps[i].logit))) < 1e-12);
    }
    assert_true(fabs(steps[0].logit - steps[2].logit) > 1e-3); /* and it is not all the same */
    drr_step_score half[4];
    if (drr_critic_set_precision(critic, DRR_PRECISION_BF16, NULL) == DRR_OK) {
        assert_int_equal(drr_critic_score_steps(critic, &score, half, &item, ends, 4, NULL), DRR_OK);
        for (size_t i = 0; i < 4; i++)
            assert_true(fabs(half[i].logit - steps[i].logit) < 0.05 + 0.03 * fabs(steps[i].logit));
        assert_true(fabs(plain.logit - score.logit) < 0.05 + 0.03 * fabs(plain.logit));
        assert_int_equal(drr_critic_set_precision(critic, DRR_PRECISION_FP32, NULL), DRR_OK);
    }
    assert_int_equal(drr_critic_score_steps(critic, &score, NULL, &item, NULL, 0, NULL), DRR_OK);
    assert_true(fabs(plain.logit - score.logit) < 1e-5);
    encoder_workspace_free(w);
    drr_critic_close(critic);
}

static void a_step_that_was_cut_off_has_no_score(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    const drr_score_item item = {"a", "a. a. a. a. a. a. a. a. a. a", NULL};
    uint32_t ends[10];
    drr_score score;
    drr_step_score steps[10];
    for (uint32_t i = 0; i < 10; i++)
        ends[i] = i < 9 ? 3 * i + 2 : 28;
    /* 19 tokens of text, of which 16 - 3 - 1 remain: the last a, and the five and a half pairs before it */
    assert_int_equal(drr_critic_score_steps(critic, &score, steps, &item, ends, 10, NULL), DRR_OK);
    for (size_t i = 0; i < 10; i++) {
        assert_true(isnan(steps[i].logit) == (i < 3));
        assert_true(isnan(steps[i].p) == (i < 3));
    }
    assert_true(isfinite(score.logit));
    drr_critic_close(critic);
}

static void what_cannot_be_scored_is_refused(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    const drr_score_item item = {"a", "un b.", NULL}, nothing = {"a", NULL, NULL};
    const uint32_t late[] = {2, 6}, twice[] = {2, 2}, zero[] = {0, 2};
    const uint32_t *const bad[] = {late, twice, zero};
    drr_score score;
    drr_step_score steps[2];
    drr_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(drr_critic_score_steps(critic, &score, steps, &item, bad[i], 2, &err), DRR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "ends must rise"));
    }
    assert_int_equal(drr_critic_score_steps(critic, &score, steps, &nothing, late, 1, &err), DRR_E_ARGUMENT);
    uint32_t *ends = NULL;
    size_t n = 0;
    assert_int_equal(drr_step_ends(&ends, &n, (drr_kind)9, "un b.", &err), DRR_E_ARGUMENT);
    assert_int_equal(drr_step_ends(&ends, &n, DRR_KIND_TEXT, NULL, &err), DRR_E_ARGUMENT);
    assert_null(ends);
    drr_critic_close(critic);
    encoder *e = small_encoder(1);
    write_small(at("cls.gguf"), e, true);
    critic = open_critic(at("cls.gguf"));
    assert_int_equal(drr_critic_score_steps(critic, &score, steps, &item, late, 1, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "reads its score at [CLS]"));
    assert_int_equal(drr_critic_score_steps_file(critic, at("none.jsonl"), at("out.jsonl"), &err), DRR_E_MISMATCH);
    encoder_workspace *w = NULL;
    float logit;
    const int32_t ids[2] = {2, 3};
    const uint32_t starts[2] = {0, 2}, row = 1, row_starts[2] = {0, 1};
    assert_int_equal(encoder_workspace_new(&w, e, 8, 1, NULL), DRR_OK);
    assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, &row, row_starts, &logit, &err), DRR_E_MISMATCH);
    encoder_workspace_free(w);
    drr_critic_close(critic);
    encoder_free(e);
}

/* ---- lines */

static json_t *line_at(char **lines, size_t i)
{
    json_error_t why;
    char *line = strtok_r(i ? NULL : *lines, "\n", lines);
    json_t *row = line ? json_loads(line, 0, &why) : NULL;
    assert_non_null(row);
    return row;
}

static void lines_are_cut_by_their_kind_or_their_own_steps(void **state)
{
    (void)state;
    drr_critic *critic = token_critic();
    static const char in[] = "{\"question\": \"a\", \"text\": \"un b. a b. Answer: a\"}\n"
                             "{\"question\": \"a\", \"text\": \"un b. a\\nb\\nAnswer: a\", \"kind\": \"number\"}\n"
                             "{\"question\": \"a\", \"text\": \"un b. a\", \"steps\": [{\"end\": 2, \"value\": 1}]}\n"
                             "{\"question\": \"a\", \"text\": \"\"}\n";
    static const json_int_t ends[][3] = {{5, 10, 20}, {8, 10, 19}, {2}, {0}};
    static const size_t n_ends[] = {3, 3, 1, 0};
    char *text = NULL, *rest;
    put_file(at("in.jsonl"), in, strlen(in));
    assert_int_equal(drr_critic_score_steps_file(critic, at("in.jsonl"), at("out.jsonl"), NULL), DRR_OK);
    assert_int_equal(file_read(&text, NULL, at("out.jsonl"), 0, NULL), DRR_OK);
    rest = text;
    for (size_t i = 0; i < 4; i++) {
        json_t *row = line_at(&rest, i), *steps = json_object_get(row, "step_scores");
        drr_score score;
        const drr_score_item item = {json_string_or(row, "question", ""), json_string_or(row, "text", ""), NULL};
        assert_int_equal(drr_critic_score(critic, &score, &item, 1, NULL), DRR_OK);
        assert_true(fabs(json_number_or(row, "logit", NAN) - score.logit) < 1e-5);
        assert_true(fabs(json_number_or(row, "p_correct", NAN) - score.p_correct) < 1e-5);
        assert_true(json_is_array(steps));
        assert_int_equal(json_array_size(steps), n_ends[i]);
        for (size_t k = 0; k < n_ends[i]; k++) {
            json_t *step = json_array_get(steps, k);
            assert_int_equal(json_integer_value(json_object_get(step, "end")), ends[i][k]);
            assert_true(json_number_or(step, "p", NAN) > 0 && json_number_or(step, "p", NAN) < 1);
        }
        assert_int_equal(json_array_size(json_object_get(row, "steps")), i == 2); /* as it was */
        json_decref(row);
    }
    free(text);
    drr_critic_close(critic);
}

static void a_line_that_cannot_be_cut_is_named(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"\"kind\": \"prose\"", "the kind \"prose\""},
                                         {"\"steps\": [{\"end\": 1}, {\"value\": 0}]", "item 2 of \"steps\""},
                                         {"\"steps\": [{\"end\": -1}]", "item 1 of \"steps\""},
                                         {"\"steps\": [{\"end\": 3}]", "step 1 ends at byte 3"}};
    drr_critic *critic = token_critic();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buffer line = {0};
        drr_error err = {0};
        assert_int_equal(
            buffer_printf(&line, NULL,
                          "{\"question\": \"a\", \"text\": \"un\"}\n{\"question\": \"a\", \"text\": \"un\", "
                          "%s}\n",
                          bad[i][0]),
            DRR_OK);
        put_file(at("in.jsonl"), line.data, line.size);
        buffer_clear(&line);
        assert_true(drr_critic_score_steps_file(critic, at("in.jsonl"), at("out.jsonl"), &err) != DRR_OK);
        if (!strstr(err.message, bad[i][1]) || !strstr(err.message, "in.jsonl:2"))
            fail_msg("\"%s\" is not in: %s", bad[i][1], err.message);
    }
    drr_critic_close(critic);
}

static void it_is_verified_against_its_export(void **state)
{
    (void)state;
    encoder *e = token_encoder(3);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(true);
    drr_verification v;
    m.n_train_questions = 12;
    m.n_train_steps = 4711;
    assert_int_equal(critic_probes_make(&m, e, w, NULL), DRR_OK);
    assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
    drr_critic *critic = open_critic(at("a.gguf"));
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    drr_critic_close(critic);
    for (int same = 1; same >= 0; same--) {
        assert_int_equal(drr_critic_verify(&v, at("a.gguf"), at("hf"), NULL), DRR_OK);
        assert_int_equal(v.n_findings, 4);
        assert_int_equal(v.findings[2].outcome, DRR_FINDING_GOOD); /* its probes */
        assert_int_equal(v.findings[3].outcome, same ? DRR_FINDING_GOOD : DRR_FINDING_WRONG);
        if (!same)
            assert_non_null(strstr(v.findings[3].words, "n_train_steps"));
        m.n_train_steps++;
        assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
    }
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(its_file_says_which_head_it_has, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_file_that_mixes_heads_up_is_refused, make_place, remove_place),
        cmocka_unit_test_setup_teardown(every_cut_of_its_file_is_refused, make_place, remove_place),
        cmocka_unit_test_setup_teardown(it_is_exported_as_a_classifier_of_tokens_and_comes_back_whole, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(a_folder_whose_head_is_not_known_is_not_imported, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_head_is_taken_from_a_folder_of_its_own_kind_alone, make_place, remove_place),
        cmocka_unit_test_setup_teardown(places_are_where_the_prefixes_end, make_place, remove_place),
        cmocka_unit_test_setup_teardown(an_end_within_a_word_is_taken_to_its_end, make_place, remove_place),
        cmocka_unit_test_setup_teardown(steps_are_scored_in_the_pass_that_scores_the_text, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_step_that_was_cut_off_has_no_score, make_place, remove_place),
        cmocka_unit_test_setup_teardown(what_cannot_be_scored_is_refused, make_place, remove_place),
        cmocka_unit_test_setup_teardown(lines_are_cut_by_their_kind_or_their_own_steps, make_place, remove_place),
        cmocka_unit_test_setup_teardown(a_line_that_cannot_be_cut_is_named, make_place, remove_place),
        cmocka_unit_test_setup_teardown(it_is_verified_against_its_export, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
