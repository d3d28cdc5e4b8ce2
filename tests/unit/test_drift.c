/* test_drift.c: scores as they were raise no alarm, other ones do, and it ends when they end; the distance is the one
 * of the textbook; the upstream's model is known again under the names that servers give it. */
#include "serve/drift.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "critic/critic.h"

static void the_distance_is_that_of_kolmogorov_and_smirnov(void **state)
{
    (void)state;
    const double uniform[] = {0, 0.25, 0.5, 0.75, 1}, jump[] = {0, 0, 0, 1, 1};
    double same[1000], upper[] = {0.75, 0.75, 1}, low[] = {-3, -2}, ends[] = {0, 0, 1, 1}, middle[] = {0.5};
    for (size_t i = 0; i < 1000; i++)
        same[i] = ((double)i + 0.5) / 1000;
    assert_true(drift_distance(same, 1000, uniform, 5) < 0.00051);
    assert_true(fabs(drift_distance(upper, 3, uniform, 5) - 0.75) < 1e-12);
    assert_true(fabs(drift_distance(low, 2, uniform, 5) - 1) < 1e-12);
    assert_true(fabs(drift_distance(middle, 1, uniform, 5) - 0.5) < 1e-12);
    assert_true(fabs(drift_distance(ends, 4, jump, 5) - 0.25) < 1e-12); /* half of each; between them it rises */
}

/* Against all of a sample's own values, not its quantiles alone: they may be apart by a step of the quantiles. */
static void quantiles_stand_for_their_sample(void **state)
{
    (void)state;
    enum { N = 2000, M = 400 };
    double *reference = calloc(N, sizeof *reference), *live = calloc(M, sizeof *live), exact = 0;
    critic_meta m = {.threshold = 0};
    rng r;
    rng_seed(&r, 5);
    for (size_t i = 0; i < N; i++)
        reference[i] = rng_normal(&r);
    for (size_t i = 0; i < M; i++)
        live[i] = 0.7 * rng_normal(&r) + 0.4;
    critic_quantiles_make(&m, reference, N);
    assert_int_equal(m.n_scores, N);
    assert_true(critic_quantiles_are_good(&m));
    assert_true(m.quantiles[0] == reference[0] && m.quantiles[m.n_quantiles - 1] == reference[N - 1]);
    const double distance = drift_distance(live, M, m.quantiles, m.n_quantiles);
    for (size_t i = 0, k = 0; i < M; i++) {
        while (k < N && reference[k] <= live[i])
            k++;
        exact = fmax(exact, fmax(fabs((double)(i + 1) / M - (double)k / N), fabs((double)i / M - (double)k / N)));
    }
    assert_true(exact > 0.15);
    assert_true(fabs(distance - exact) < 0.01);
    free(reference);
    free(live);
}

static void few_or_broken_scores_give_no_quantiles(void **state)
{
    (void)state;
    double logits[30] = {0};
    critic_meta m = {.n_quantiles = 3, .n_scores = 9};
    critic_quantiles_make(&m, logits, 19);
    assert_int_equal(m.n_quantiles, 0);
    assert_int_equal(m.n_scores, 0);
    critic_quantiles_make(&m, logits, 20); /* all the same is a distribution too */
    assert_true(m.n_quantiles > 1 && critic_quantiles_are_good(&m));
    logits[3] = NAN;
    critic_quantiles_make(&m, logits, 30);
    assert_int_equal(m.n_quantiles, 0);
}

static size_t feed(drift *d, rng *r, size_t n, double shift, double scale)
{
    size_t changes = 0;
    for (size_t i = 0; i < n; i++)
        changes += drift_add(d, shift + scale * rng_normal(r));
    return changes;
}

static void an_alarm_comes_with_other_scores_and_goes_with_them(void **state)
{
    (void)state;
    double reference[600];
    critic_meta m = {.threshold = 0};
    drift d;
    rng r;
    rng_seed(&r, 9);
    for (size_t i = 0; i < 600; i++)
        reference[i] = rng_normal(&r);
    critic_quantiles_make(&m, reference, 600);
    drift_begin(&d, m.quantiles, m.n_quantiles, m.n_scores, "r");
    assert_true(isnan(d.distance));
    assert_int_equal(feed(&d, &r, DRIFT_LEAST - 1, 5, 1), 0); /* too few to say */
    drift_begin(&d, m.quantiles, m.n_quantiles, m.n_scores, "r");
    assert_int_equal(feed(&d, &r, 50000, 0, 1), 0); /* a hundred windows of the same: never */
    assert_true(d.distance < drift_limit(&d));
    assert_int_equal(feed(&d, &r, 1000, 1, 1), 1); /* a deviation higher */
    assert_true(d.scores && d.distance > 0.3);
    assert_false(drift_add(&d, NAN));
    assert_int_equal(feed(&d, &r, 1000, 0, 1), 1);
    assert_false(d.scores);
    assert_int_equal(feed(&d, &r, 1000, 0, 0.2), 1); /* no shift, but all the same */
    assert_true(d.scores);
}

static void without_quantiles_no_score_is_cause_for_alarm(void **state)
{
    (void)state;
    drift d;
    rng r;
    rng_seed(&r, 1);
    drift_begin(&d, NULL, 0, 0, NULL);
    assert_int_equal(feed(&d, &r, 2000, 50, 1), 0);
    assert_false(drift_saw(&d, "anything")); /* nor a model without a reasoner */
    json_t *value = drift_json(&d);
    assert_true(json_is_false(json_object_get(value, "known")));
    assert_true(json_is_false(json_object_get(value, "alarm")));
    assert_true(json_is_null(json_object_get(json_object_get(value, "scores"), "distance")));
    json_decref(value);
}

static void a_model_is_known_again(void **state)
{
    (void)state;
    static const struct {
        const char *model, *reasoner;
        bool same;
    } cases[] = {{"qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-1.5b-instruct@cc324af0", true},
                 {"Qwen/Qwen2.5-Coder-1.5B-Instruct", "qwen2.5-coder-1.5b-instruct@cc324af0", true},
                 {"/models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-1.5b-instruct@cc324af0", true},
                 {"qwen2.5-coder-1.5b-instruct-GGUF", "Qwen2.5-Coder-1.5B-Instruct-Q8_0@cc324af0", false},
                 {"smollm2:latest", "smollm2@127.0.0.1:8080", true},
                 {"smollm2.Q8_0.gguf", "smollm2", true},
                 {"smollm2-IQ4_XS", "smollm2", true},
                 {"smollm2-instruct", "smollm2", false},
                 {"llama-3-70b", "llama-3", false},
                 {"llama-3", "llama-3-70b", false},
                 {"qwen-quiet", "qwen", false},
                 {"gpt-4o", "gpt-4o-mini", false},
                 {"", "gpt-4o-mini", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (drift_same_model(cases[i].model, cases[i].reasoner) != cases[i].same)
            fail_msg("\"%s\" and \"%s\" are taken for %s", cases[i].model, cases[i].reasoner,
                     cases[i].same ? "two models" : "one model");
    drift d;
    drift_begin(&d, NULL, 0, 0, "smollm2@b179c952");
    assert_false(drift_saw(&d, "smollm2"));
    assert_true(drift_saw(&d, "smollm3"));
    assert_true(d.model);
    assert_false(drift_saw(&d, "smollm4"));
    assert_true(drift_saw(&d, "smollm2"));
    assert_false(d.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_distance_is_that_of_kolmogorov_and_smirnov),
        cmocka_unit_test(quantiles_stand_for_their_sample),
        cmocka_unit_test(few_or_broken_scores_give_no_quantiles),
        cmocka_unit_test(an_alarm_comes_with_other_scores_and_goes_with_them),
        cmocka_unit_test(without_quantiles_no_score_is_cause_for_alarm),
        cmocka_unit_test(a_model_is_known_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
