/* test_critic_stack.c: the stack and Platt's calibration find what made the data, and cope with what is not known. */
#include "core/statistics.h"
#include "critic/critic.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 4000 };

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static uint32_t feature(const char *name)
{
    for (uint32_t j = 0; stack_feature_name(j); j++)
        if (strcmp(stack_feature_name(j), name) == 0)
            return j;
    fail_msg("no feature %s", name);
    return 0;
}

static void platt_finds_slope_and_offset(void **state)
{
    (void)state;
    double *logits = calloc(N, sizeof *logits);
    uint8_t *labels = calloc(N, 1);
    platt p;
    drr_error err;
    rng r;
    rng_seed(&r, 5);
    for (size_t i = 0; i < N; i++) {
        logits[i] = 2 * rng_normal(&r);
        labels[i] = rng_uniform(&r) < sigmoid(1.5 * logits[i] - 0.7);
    }
    assert_int_equal(platt_fit(&p, logits, labels, N, &err), DRR_OK);
    assert_float_equal(p.a, 1.5, 0.15);
    assert_float_equal(p.b, -0.7, 0.15);
    free(logits);
    free(labels);
}

static void platt_stays_finite_where_classes_part(void **state)
{
    (void)state;
    const double logits[] = {-2, -1, 1, 2};
    const uint8_t parted[] = {0, 0, 1, 1}, all[] = {1, 1, 1, 1};
    platt p;
    drr_error err;
    assert_int_equal(platt_fit(&p, logits, parted, 4, &err), DRR_OK);
    assert_true(isfinite(p.a) && p.a > 0 && p.a < 100);
    assert_int_equal(platt_fit(&p, logits, all, 4, &err), DRR_OK);
    assert_true(sigmoid(p.a * 0 + p.b) > 0.6);
    assert_int_equal(platt_fit(&p, logits, all, 0, &err), DRR_E_EMPTY);
}

/* Rows where the text's logit and agreement matter and everything else is unknown. */
static void made_rows(double *rows, uint8_t *labels, double *truth)
{
    const uint32_t logit = feature("text_logit"), agreement = feature("agreement_logodds");
    rng r;
    rng_seed(&r, 6);
    for (size_t i = 0; i < N; i++) {
        double *row = rows + i * STACK_MAX_FEATURES;
        for (size_t j = 0; j < STACK_MAX_FEATURES; j++)
            row[j] = NAN;
        row[logit] = rng_normal(&r);
        row[agreement] = 1.5 * rng_normal(&r);
        truth[i] = sigmoid(0.8 * row[logit] + 1.2 * row[agreement] + 0.3);
        labels[i] = rng_uniform(&r) < truth[i];
        if (i % 5 == 0)
            row[logit] = NAN;
    }
}

static void the_stack_finds_what_made_the_labels(void **state)
{
    (void)state;
    double *rows = calloc(N * STACK_MAX_FEATURES, sizeof *rows), *truth = calloc(N, sizeof *truth);
    uint8_t *labels = calloc(N, 1);
    stack_model m;
    drr_error err;
    double worst = 0;
    made_rows(rows, labels, truth);
    assert_int_equal(stack_fit(&m, rows, labels, NULL, N, 1, &err), DRR_OK);
    for (size_t i = 0; i < N; i++)
        if (i % 5)
            worst = fmax(worst, fabs(stack_predict(&m, rows + i * STACK_MAX_FEATURES) - truth[i]));
    assert_true(worst < 0.08);
    for (uint32_t j = 0; j < m.n; j++) /* what was never known has no say */
        if (j != feature("text_logit") && j != feature("agreement_logodds"))
            assert_true(fabs(m.weight[j]) < 1e-9);
    free(rows);
    free(truth);
    free(labels);
}

static void a_row_weight_counts_as_that_many_rows(void **state)
{
    (void)state;
    double rows[6 * STACK_MAX_FEATURES], weights[] = {1, 1, 2, 1};
    const double x[] = {-1, 0.5, 1, 2, 1};
    const uint8_t labels[] = {0, 1, 0, 1, 0};
    stack_model weighted, repeated;
    drr_error err;
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < STACK_MAX_FEATURES; j++)
            rows[i * STACK_MAX_FEATURES + j] = NAN;
        rows[i * STACK_MAX_FEATURES + feature("text_logit")] = x[i];
    }
    assert_int_equal(stack_fit(&weighted, rows, labels, weights, 4, 1, &err), DRR_OK);
    assert_int_equal(stack_fit(&repeated, rows, labels, NULL, 5, 1, &err), DRR_OK);
    assert_float_equal(weighted.bias, repeated.bias, 1e-5);
    assert_float_equal(weighted.weight[feature("text_logit")], repeated.weight[feature("text_logit")], 1e-5);
}

static void features_tell_the_certain_from_the_less_certain(void **state)
{
    (void)state;
    double sure[STACK_MAX_FEATURES], unsure[STACK_MAX_FEATURES], none[STACK_MAX_FEATURES];
    drr_features f;
    drr_features_defaults(&f);
    stack_features(none, 0.5, &f);
    assert_true(isnan(none[feature("answer_logodds_min")]));
    assert_float_equal(none[feature("agreement_logodds")], 0, 1e-12);
    f.stats.answer_min = -0.001f;
    f.n_others = 5;
    f.n_agree = 5;
    stack_features(sure, 0.5, &f);
    f.stats.answer_min = -0.01f;
    f.n_agree = 1;
    stack_features(unsure, 0.5, &f);
    assert_true(sure[feature("answer_logodds_min")] > unsure[feature("answer_logodds_min")] + 2);
    assert_true(sure[feature("agreement_logodds")] > 2 && unsure[feature("agreement_logodds")] < 0);
    f.stats.answer_min = -INFINITY;
    f.n_agree = 9; /* more than there are: bounded, not an overflow */
    stack_features(unsure, 1e9, &f);
    for (size_t j = 0; j < STACK_MAX_FEATURES; j++)
        assert_true(isnan(unsure[j]) || isfinite(unsure[j]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(platt_finds_slope_and_offset),
        cmocka_unit_test(platt_stays_finite_where_classes_part),
        cmocka_unit_test(the_stack_finds_what_made_the_labels),
        cmocka_unit_test(a_row_weight_counts_as_that_many_rows),
        cmocka_unit_test(features_tell_the_certain_from_the_less_certain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
