/* test_eval_statistics.c: intervals cover, McNemar is exact, and risk against coverage is what a hand would draw. */
#include "eval/eval_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

static void mcnemar_gives_the_binomial_tail(void **state)
{
    (void)state;
    /* 2 (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 2 * 79 / 4096 */
    assert_true(near(mcnemar_exact(10, 2), 158.0 / 4096, 1e-12));
    assert_true(near(mcnemar_exact(2, 10), 158.0 / 4096, 1e-12));
    assert_true(near(mcnemar_exact(5, 0), 2.0 / 32, 1e-12));
    assert_true(near(mcnemar_exact(0, 0), 1, 0));
    assert_true(near(mcnemar_exact(7, 7), 1, 0));
    const double large = mcnemar_exact(5200, 4800); /* normal approximation, continuity corrected: z = 3.99 */
    assert_true(large > 5.5e-5 && large < 7.5e-5);
}

static void intervals_hold_the_truth_nineteen_times_of_twenty(void **state)
{
    (void)state;
    enum { TRIALS = 400, N = 200 };
    double values[N];
    size_t covered = 0;
    rng r;
    rng_seed(&r, 3);
    for (size_t t = 0; t < TRIALS; t++) {
        for (size_t i = 0; i < N; i++)
            values[i] = rng_uniform(&r) < 0.6;
        const interval i = bootstrap_mean(values, N, 400, t);
        covered += i.low <= 0.6 && 0.6 <= i.high;
    }
    const double share = (double)covered / TRIALS;
    assert_true(share > 0.915 && share < 0.985);
}

static void the_same_seed_gives_the_same_interval(void **state)
{
    (void)state;
    const double values[] = {1, 0, 1, 1, 0, 1, 0, 1};
    const interval a = bootstrap_mean(values, 8, 1000, 4), b = bootstrap_mean(values, 8, 1000, 4);
    assert_true(near(a.value, 5.0 / 8, 1e-12));
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(isnan(bootstrap_mean(values, 8, 0, 4).low));
    assert_true(isnan(bootstrap_mean(values, 0, 10, 4).value));
}

static void risk_grows_as_less_sure_answers_are_given(void **state)
{
    (void)state;
    const double p[] = {0.2, 0.9, 0.8, 0.8, NAN};
    const uint8_t right[] = {0, 1, 1, 0, 1};
    risk_point points[5];
    assert_int_equal(risk_coverage(points, p, right, 5), 3);
    assert_true(near(points[0].coverage, 0.2, 1e-12) && near(points[0].risk, 0, 1e-12));
    assert_true(near(points[1].coverage, 0.6, 1e-12) && near(points[1].risk, 1.0 / 3, 1e-12));
    assert_true(near(points[2].coverage, 0.8, 1e-12) && near(points[2].risk, 0.5, 1e-12));
    const double area = (0.4 * (1.0 / 6) + 0.2 * (1.0 / 3 + 0.5) / 2) / 0.8;
    assert_true(near(risk_area(points, 3), area, 1e-12));
    assert_true(isnan(risk_area(points, 0)));
}

static void reliability_counts_each_answer_in_its_bin(void **state)
{
    (void)state;
    const double p[] = {0, 0.05, 0.55, 1, NAN};
    const uint8_t right[] = {0, 1, 1, 1, 1};
    reliability_bin bins[10];
    reliability(bins, 10, p, right, 5);
    assert_int_equal(bins[0].n, 2);
    assert_int_equal(bins[0].n_right, 1);
    assert_int_equal(bins[5].n, 1);
    assert_int_equal(bins[9].n, 1);
    assert_true(near(bins[0].sum_p, 0.05, 1e-12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mcnemar_gives_the_binomial_tail),
        cmocka_unit_test(intervals_hold_the_truth_nineteen_times_of_twenty),
        cmocka_unit_test(the_same_seed_gives_the_same_interval),
        cmocka_unit_test(risk_grows_as_less_sure_answers_are_given),
        cmocka_unit_test(reliability_counts_each_answer_in_its_bin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
