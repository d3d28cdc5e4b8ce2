/* test_critic_probe.c: what a probe makes of hidden states, and a critic with one, beside an encoder and alone, as a
 * file: there and back, broken, and asked for what it cannot do. */
#include "critic/gguf.h"
#include "critic_fixture.h"

#include <math.h>

enum { WIDTH = 4 };
static const hidden_layers layers = {2, {3, HIDDEN_LAST}};

/* Layer 3: tokens (1 2 3 4) and (3 4 5 6); last: ten times that. The answer is the first token. */
static void *some_hidden(size_t *size)
{
    uint16_t rows[2 * 2 * WIDTH];
    void *data = NULL;
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t k = 0; k < WIDTH; k++) {
            rows[(2 * r) * WIDTH + k] = half_of((float)(1 + k + 2 * r));
            rows[(2 * r + 1) * WIDTH + k] = half_of((float)(10 * (1 + k + 2 * r)));
        }
    assert_int_equal(hidden_pack(&data, size, &layers, WIDTH, rows, 2, 0, NULL), DRR_OK);
    return data;
}

static probe_model some_probe(uint32_t layer, bool both)
{
    probe_model p = {.reasoner = string_copy("model@12345678"),
                     .layer = layer,
                     .width = WIDTH,
                     .n_pools = both ? 2 : 1,
                     .pools = {both ? HIDDEN_ANSWER : HIDDEN_MEAN, HIDDEN_MEAN},
                     .bias = 0.5};
    p.weight = calloc(2 * WIDTH, sizeof *p.weight);
    for (uint32_t i = 0; i < p.n_pools * WIDTH; i++)
        p.weight[i] = i < WIDTH ? 0.01 * (i + 1) : -0.001;
    for (uint32_t i = 0; i < PROBE_STATISTICS; i++) {
        p.mean[i] = -0.1;
        p.scale[i] = 2;
        p.statistic_weight[i] = i == 0 ? 3 : 0; /* logprob_mean */
    }
    return p;
}

static void its_log_odds_are_the_sum_it_says(void **state)
{
    (void)state;
    size_t size;
    void *hidden = some_hidden(&size);
    probe_model one = some_probe(3, false), both = some_probe(HIDDEN_LAST, true), absent = some_probe(5, false);
    drr_features f;
    drr_features_defaults(&f);
    f.stats.n = 3;
    f.stats.mean = -0.5f;
    /* mean of layer 3: 2 3 4 5; answer of the last: 10 20 30 40, its mean 20 30 40 50 */
    const double a = 0.5 + 0.01 * (2 + 2 * 3 + 3 * 4 + 4 * 5), b = 0.5 + 0.01 * (10 + 40 + 90 + 160) - 0.001 * 140;
    assert_true(fabs(probe_logit(&one, hidden, size, NULL) - a) < 1e-9);
    assert_true(fabs(probe_logit(&one, hidden, size, &f.stats) - (a + 3 * (-0.5 + 0.1) / 2)) < 1e-6);
    assert_true(fabs(probe_logit(&both, hidden, size, NULL) - b) < 1e-9);
    assert_true(isnan(probe_logit(&absent, hidden, size, NULL)));
    assert_true(isnan(probe_logit(&one, NULL, 0, NULL)));
    assert_true(isnan(probe_logit(&one, hidden, size - 1, NULL)));
    one.width = WIDTH - 1;
    assert_true(isnan(probe_logit(&one, hidden, size, NULL)));
    probe_clear(&one);
    assert_true(isnan(probe_logit(&one, hidden, size, NULL)));
    probe_clear(&both);
    probe_clear(&absent);
    free(hidden);
}

static void statistics_have_the_names_of_the_stack(void **state)
{
    (void)state;
    assert_string_equal(stack_feature_name(PROBE_FIRST_STATISTIC), "logprob_mean");
    assert_string_equal(stack_feature_name(PROBE_FIRST_STATISTIC + PROBE_STATISTICS - 1), "answer_margin");
}

static encoder *small_token_encoder(void)
{
    encoder *cls = small_encoder(1), *e = NULL;
    assert_int_equal(encoder_new_headed(&e, &cls->shape, DRR_HEAD_TOKEN, NULL), DRR_OK);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = 0.01f * (float)(i % 17);
    encoder_free(cls);
    return e;
}

static void write_headed_critic(const char *path, bool alone, bool of_tokens)
{
    encoder *e = alone ? NULL : of_tokens ? small_token_encoder() : small_encoder(1);
    wordpiece *w = alone ? NULL : small_tokenizer(true);
    critic_meta m = small_meta(true);
    drr_error err = {0};
    m.probe = some_probe(alone ? 3 : HIDDEN_LAST, !alone);
    m.no_encoder = alone;
    m.calibration = (platt){1, 0};
    if (critic_write(path, e, w, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

static void write_critic(const char *path, bool alone)
{
    write_headed_critic(path, alone, false);
}

static void a_critic_with_a_probe_comes_back(void **state)
{
    (void)state;
    for (int alone = 0; alone < 2; alone++) {
        drr_critic *critic = NULL;
        drr_critic_info info;
        drr_error err = {0};
        size_t size;
        void *hidden = some_hidden(&size);
        probe_model p = some_probe(alone ? 3 : HIDDEN_LAST, !alone);
        write_critic(at("a.gguf"), alone);
        if (drr_critic_open(&critic, at("a.gguf"), &err) != DRR_OK)
            fail_msg("%s", err.message);
        drr_critic_describe(critic, &info);
        assert_int_equal(info.kind, alone ? DRR_CRITIC_PROBE : DRR_CRITIC_STACK);
        assert_string_equal(info.probe_reasoner, "model@12345678");
        assert_string_equal(info.probe_layer, alone ? "3" : "last");
        assert_string_equal(info.probe_pools, alone ? "mean" : "answer+mean");
        assert_int_equal(info.n_parameters == 0, alone);
        const double z = drr_critic_probe(critic, hidden, size, NULL), expected = probe_logit(&p, hidden, size, NULL);
        assert_true(fabs(z - expected) < 1e-12);
        /* through the stack: its other features are not known, and the text of a probe alone never is */
        drr_features f;
        drr_features_defaults(&f);
        f.probe = z;
        drr_score score;
        const drr_score_item item = {"a", "un", &f};
        assert_int_equal(drr_critic_score(critic, &score, &item, 1, NULL), DRR_OK);
        const double p1 = score.p_correct;
        f.probe = z + 1;
        const double logit = score.logit;
        assert_true(alone ? fabs(logit - z) < 1e-12 : fabs(logit - z) > 1e-6);
        assert_true(drr_critic_combine(critic, logit, &f) > p1); /* small_meta's weights are all above 0 */
        f.probe = NAN;
        assert_true(isfinite(drr_critic_combine(critic, logit, &f)));
        assert_int_equal(drr_critic_export(critic, at("folder"), &err), DRR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "probe"));
        put_file(at("lines"), "{\"question\":\"a\",\"text\":\"un\"}\n", 29);
        assert_int_equal(drr_critic_score_file(critic, at("lines"), at("scores"), &err),
                         alone ? DRR_E_ARGUMENT : DRR_OK);
        drr_step_score step;
        const uint32_t end = 2;
        assert_int_equal(drr_critic_score_steps(critic, &score, &step, &item, &end, 1, &err), DRR_E_MISMATCH);
        assert_non_null(strstr(err.message, alone ? "is a probe, which reads no text" : "reads its score at [CLS]"));
        drr_critic_close(critic);
        probe_clear(&p);
        free(hidden);
    }
}

static void a_head_of_tokens_and_a_probe_are_kept_side_by_side(void **state)
{
    (void)state;
    drr_critic *critic = NULL;
    drr_critic_info info;
    drr_error err = {0};
    drr_score score;
    drr_step_score step;
    const uint32_t end = 2;
    const drr_score_item item = {"a", "un", NULL};
    char *data;
    size_t size;
    write_headed_critic(at("tokens.gguf"), false, true);
    if (drr_critic_open(&critic, at("tokens.gguf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    drr_critic_describe(critic, &info);
    assert_int_equal(info.kind, DRR_CRITIC_STACK);
    assert_int_equal(info.head, DRR_HEAD_TOKEN);
    assert_string_equal(info.probe_reasoner, "model@12345678");
    assert_int_equal(drr_critic_score_steps(critic, &score, &step, &item, &end, 1, &err), DRR_OK);
    assert_true(isfinite(step.logit));
    drr_critic_close(critic);
    assert_int_equal(file_read(&data, &size, at("tokens.gguf"), 0, NULL), DRR_OK);
    assert_int_equal(find_bytes(data, size, "drr.format.version")[strlen("drr.format.version") + 4], 4);
    free(data);
}

/* Every byte broken: refused, or read without a step outside (the sanitizers look). */
static void a_broken_file_is_refused_or_harmless(void **state)
{
    (void)state;
    char *data;
    size_t size, refused = 0;
    write_critic(at("whole.gguf"), true);
    assert_int_equal(file_read(&data, &size, at("whole.gguf"), 0, NULL), DRR_OK);
    for (size_t i = 0; i < size; i++)
        for (unsigned flip = 1; flip <= 128; flip *= 8) {
            drr_critic *critic = NULL;
            data[i] = (char)(data[i] ^ (char)flip);
            put_file(at("broken.gguf"), data, size);
            if (drr_critic_open(&critic, at("broken.gguf"), NULL) == DRR_OK)
                drr_critic_close(critic);
            else
                refused++;
            data[i] = (char)(data[i] ^ (char)flip);
        }
    assert_true(refused > size / 4);
    for (size_t cut = 0; cut + 32 < size; cut += 7) { /* the last bytes only fill up to the alignment */
        drr_critic *critic = NULL;
        put_file(at("broken.gguf"), data, cut);
        assert_int_equal(drr_critic_open(&critic, at("broken.gguf"), NULL), DRR_E_FORMAT);
    }
    free(data);
}

static void refused(const char *from, const char *to, const char *words)
{
    char *data;
    size_t size;
    drr_critic *critic = NULL;
    drr_error err = {0};
    write_critic(at("whole.gguf"), true);
    assert_int_equal(file_read(&data, &size, at("whole.gguf"), 0, NULL), DRR_OK);
    memcpy(find_bytes(data, size, from), to, strlen(to));
    put_file(at("broken.gguf"), data, size);
    assert_int_not_equal(drr_critic_open(&critic, at("broken.gguf"), &err), DRR_OK);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    free(data);
}

static void what_it_does_not_know_it_names(void **state)
{
    (void)state;
    refused("drr.probe.layer", "drr.probe.Layer", "\"drr.probe.layer\" is missing");
    refused("drr.probe.weight", "drr.probe.Weight", "\"drr.probe.weight\" is missing");
    refused("drr.probe.reasoner", "drr.probe.Reasoner", "a probe alone has the keys");
    refused("drr-probe", "drr-prob2", "\"general.architecture\" is \"drr-prob2\"");
}

static void what_cannot_be_is_not_written(void **state)
{
    (void)state;
    drr_error err = {0};
    critic_meta m = small_meta(true);
    assert_int_equal(critic_write(at("no.gguf"), NULL, NULL, &m, &err), DRR_E_ARGUMENT); /* neither encoder nor probe */
    m.probe = some_probe(3, false);
    m.no_encoder = true;
    m.probe.weight[2] = NAN;
    assert_int_equal(critic_write(at("no.gguf"), NULL, NULL, &m, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "probe"));
    critic_meta_clear(&m);
    assert_false(file_exists(at("no.gguf")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_log_odds_are_the_sum_it_says),
        cmocka_unit_test(statistics_have_the_names_of_the_stack),
        cmocka_unit_test(a_critic_with_a_probe_comes_back),
        cmocka_unit_test(a_head_of_tokens_and_a_probe_are_kept_side_by_side),
        cmocka_unit_test(a_broken_file_is_refused_or_harmless),
        cmocka_unit_test(what_it_does_not_know_it_names),
        cmocka_unit_test(what_cannot_be_is_not_written),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
