/* test_core_statistics.c: AUROC and AUPRC are what counting every pair and every threshold gives, ties among them;
 * Brier score, ECE and log loss are what a hand works out; what is not defined is NaN. */
#include "core/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { N = 300 };

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12))
        fail_msg("%.15g is not %.15g", value, expected);
}

/* Scores on a grid of `levels` values, so that few levels are many ties. */
static void made_scores(double scores[N], uint8_t labels[N], uint64_t levels, uint64_t seed)
{
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < N; i++) {
        labels[i] = rng_uniform(&r) < 0.3;
        scores[i] = ((double)rng_below(&r, levels) + labels[i]) / (double)levels - 0.4;
    }
}

static double auroc_by_pairs(const double *scores, const uint8_t *labels)
{
    double won = 0, pairs = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            if (labels[i] && !labels[j]) {
                pairs++;
                won += scores[i] > scores[j] ? 1 : scores[i] < scores[j] ? 0 : 0.5;
            }
    return won / pairs;
}

/* A right row brings 1 / (right rows) of recall, at the precision of all rows that score no less. */
static double auprc_by_thresholds(const double *scores, const uint8_t *labels)
{
    double area = 0, right = 0;
    for (size_t i = 0; i < N; i++) {
        double taken = 0, taken_right = 0;
        if (!labels[i])
            continue;
        right++;
        for (size_t j = 0; j < N; j++)
            if (scores[j] >= scores[i]) {
                taken++;
                taken_right += labels[j];
            }
        area += taken_right / taken;
    }
    return area / right;
}

static void auroc_is_the_share_of_pairs_in_order_and_ties_are_half(void **state)
{
    (void)state;
    double scores[N];
    uint8_t labels[N];
    for (uint64_t levels = 1; levels <= 4096; levels *= 4) {
        made_scores(scores, labels, levels, levels);
        near(statistics_auroc(scores, labels, N), auroc_by_pairs(scores, labels));
    }
    const double s[] = {0.1, 0.4, 0.4, 0.8}; /* right: 0.4 and 0.8; of 4 pairs 3 are won and one is a tie */
    near(statistics_auroc(s, (const uint8_t[]){0, 0, 1, 1}, 4), 3.5 / 4);
    near(statistics_auroc(s, (const uint8_t[]){1, 1, 0, 0}, 4), 0.5 / 4);
    near(statistics_auroc((const double[]){2, 2, 2}, (const uint8_t[]){0, 1, 1}, 3), 0.5);
}

static void auprc_is_average_precision_and_equal_scores_enter_together(void **state)
{
    (void)state;
    double scores[N];
    uint8_t labels[N];
    for (uint64_t levels = 1; levels <= 4096; levels *= 4) {
        made_scores(scores, labels, levels, levels + 1);
        near(statistics_auprc(scores, labels, N), auprc_by_thresholds(scores, labels));
    }
    const double s[] = {0.9, 0.8, 0.7, 0.6};
    near(statistics_auprc(s, (const uint8_t[]){1, 0, 1, 0}, 4), 0.5 * 1 + 0.5 * 2 / 3);
    near(statistics_auprc(s, (const uint8_t[]){1, 1, 1, 1}, 4), 1);
    near(statistics_auprc((const double[]){1, 1, 1, 1}, (const uint8_t[]){0, 0, 1, 0}, 4), 0.25);
}

static void brier_and_log_loss_are_what_a_hand_works_out(void **state)
{
    (void)state;
    const double p[] = {0.9, 0.2, 0.5};
    const uint8_t labels[] = {1, 0, 1};
    near(statistics_brier(p, labels, 3), (0.01 + 0.04 + 0.25) / 3);
    near(statistics_log_loss(p, labels, 3), -(log(0.9) + log(0.8) + log(0.5)) / 3);
    near(statistics_log_loss((const double[]){0}, (const uint8_t[]){1}, 1), -log(1e-12)); /* finite, however sure */
}

static void ece_weighs_the_gap_of_each_bin_by_its_rows(void **state)
{
    (void)state;
    /* bins of 1/15: 0.01 and 0.05 share the first (gap 1/2 - 0.03), 0.5 has the eighth, 0.95 and 1 share the last */
    const double p[] = {0.01, 0.05, 0.5, 0.95, 1};
    const uint8_t labels[] = {0, 1, 0, 1, 1};
    near(statistics_ece(p, labels, 5), (2 * (0.5 - 0.03) + 0.5 + 2 * (1 - 0.975)) / 5);
    /* within a bin what is too high and too low evens out; between bins it does not */
    near(statistics_ece((const double[]){0.5, 0.5}, (const uint8_t[]){0, 1}, 2), 0);
    near(statistics_ece((const double[]){0.4, 0.6}, (const uint8_t[]){0, 1}, 2), 0.4);
}

static void what_is_not_defined_is_not_a_number(void **state)
{
    (void)state;
    const double s[] = {0.1, 0.2}, holes[] = {0.1, NAN}, odd[] = {0.5, 1.5};
    const uint8_t right[] = {1, 1}, wrong[] = {0, 0}, both[] = {0, 1};
    assert_true(isnan(statistics_auroc(s, right, 2)) && isnan(statistics_auroc(s, wrong, 2)));
    assert_true(isnan(statistics_auroc(holes, both, 2)) && isnan(statistics_auprc(holes, both, 2)));
    assert_true(isnan(statistics_auprc(s, wrong, 2)));
    assert_true(isnan(statistics_ece(odd, both, 2)) && isnan(statistics_ece(holes, both, 2)));
    assert_true(isnan(statistics_auroc(s, both, 0)) && isnan(statistics_auprc(s, both, 0)));
    assert_true(isnan(statistics_brier(s, both, 0)) && isnan(statistics_ece(s, both, 0)));
    assert_true(isnan(statistics_log_loss(s, both, 0)));
    assert_true(isnan(statistics_log_loss((const double[]){0.5, NAN}, both, 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auroc_is_the_share_of_pairs_in_order_and_ties_are_half),
        cmocka_unit_test(auprc_is_average_precision_and_equal_scores_enter_together),
        cmocka_unit_test(brier_and_log_loss_are_what_a_hand_works_out),
        cmocka_unit_test(ece_weighs_the_gap_of_each_bin_by_its_rows),
        cmocka_unit_test(what_is_not_defined_is_not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
