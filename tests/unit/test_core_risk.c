/* test_core_risk.c: p-values of a mean of losses are those of exact arithmetic, they are valid (a true mean is called
 * too high with at most the chance that they say), and the bound and the sample size that follow from them agree with
 * them. */
#include "core/risk.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void near(double value, double expected, double relative)
{
    if (!(fabs(value - expected) <= relative * fabs(expected)))
        fail_msg("%.15g is not %.15g", value, expected);
}

/* Made with Python's fractions and nothing else: sum(comb(n, i) * a**i * (1 - a)**(n - i) for i in range(k + 1)) with a
 * a Fraction; and min(1, exp(-n * h(min(k / n, a), a)), e * that), h(x, a) = x log(x / a) + (1 - x) log((1 - x) / (1 -
 * a)). */
static const struct {
    uint64_t n, k;
    double a, binomial, hoeffding_bentkus;
} exact[] = {
    {100, 0, 0.1, 2.65613988875875e-05, 2.65613988875873e-05},
    {100, 5, 0.1, 0.0575768864870338, 0.156510204276953},
    {100, 2, 0.1, 0.00194488465188002, 0.00528674460765434},
    {100, 9, 0.1, 0.451290165442004, 0.944319749914607},
    {50, 1, 0.2, 0.000192678438515305, 0.000480099942188092},
    {500, 30, 0.1, 0.00100254970802294, 0.00272521265344569},
    {1000, 0, 0.01, 4.31712474106582e-05, 4.31712474106554e-05},
    {2000, 70, 0.05, 0.000756054399374823, 0.0020551689351471},
    {100, 10, 0.1, 0.583155512266492, 1},
    {22, 0, 0.1, 0.0984770902183611, 0.098477090218361},
    {21, 0, 0.1, 0.109418989131512, 0.109418989131512},
    {10, 7, 0.5, 0.9453125, 1},
};
enum { N_EXACT = sizeof exact / sizeof *exact };

static void p_values_are_those_of_exact_arithmetic(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_EXACT; i++) {
        near(risk_binomial(exact[i].n, exact[i].a, exact[i].k), exact[i].binomial, 1e-10);
        near(risk_p_value(DRR_RISK_BINOMIAL, exact[i].n, (double)exact[i].k, exact[i].a), exact[i].binomial, 1e-10);
        near(risk_p_value(DRR_RISK_HOEFFDING_BENTKUS, exact[i].n, (double)exact[i].k, exact[i].a),
             exact[i].hoeffding_bentkus, 1e-10);
    }
    /* losses that are no whole numbers: Bentkus' count is rounded up, Hoeffding's mean is not */
    near(risk_p_value(DRR_RISK_HOEFFDING_BENTKUS, 40, 2.5, 0.2), 0.0478439020962137, 1e-10);
    near(risk_p_value(DRR_RISK_HOEFFDING_BENTKUS, 40, 3, 0.2), 0.0773679941698084, 1e-10);
    near(risk_p_value(DRR_RISK_HOEFFDING_BENTKUS, 300, 13.25, 0.1), 0.00154097730069406, 1e-10);
    double thirds = 0;
    for (int i = 0; i < 9; i++)
        thirds += 1.0 / 3;
    near(risk_p_value(DRR_RISK_HOEFFDING_BENTKUS, 40, thirds, 0.2), 0.0773679941698084, 1e-10);
}

static void the_ends_are_no_surprise(void **state)
{
    (void)state;
    for (int test = DRR_RISK_HOEFFDING_BENTKUS; test <= DRR_RISK_BINOMIAL; test++) {
        near(risk_p_value((drr_risk_test)test, 0, 0, 0.1), 1, 0);   /* nothing seen, nothing said */
        near(risk_p_value((drr_risk_test)test, 30, 30, 0.1), 1, 0); /* all wrong */
        near(risk_p_value((drr_risk_test)test, 30, 0, 0), 1, 0);    /* no mean is below 0 */
        near(risk_p_value((drr_risk_test)test, 30, NAN, 0.1), 1, 0);
        assert_true(risk_p_value((drr_risk_test)test, 30, 3, 1) <= 0); /* every mean is at most 1 */
    }
    near(risk_binomial(10, 0.3, 10), 1, 0);
    near(risk_binomial(5000000, 0.5, 2500000), 0.5, 1e-3); /* large counts neither overflow nor vanish */
    near(risk_binomial(1000000, 1e-6, 0), exp(-1), 1e-5);
}

/* Of a true mean of exactly a, p is at most delta with a chance of at most delta: summed over all outcomes. Hoeffding
 * alone without its exponent's n, or Bentkus without its e (of fractional losses), would not pass. */
static void a_true_mean_is_denied_no_more_often_than_said(void **state)
{
    (void)state;
    const double means[] = {0.02, 0.1, 0.3}, deltas[] = {0.01, 0.05, 0.1, 0.3};
    for (int test = DRR_RISK_HOEFFDING_BENTKUS; test <= DRR_RISK_BINOMIAL; test++)
        for (size_t m = 0; m < 3; m++)
            for (size_t d = 0; d < 4; d++)
                for (uint64_t n = 5; n <= 320; n *= 4) {
                    double denied = 0;
                    for (uint64_t k = 0; k <= n; k++)
                        if (risk_p_value((drr_risk_test)test, n, (double)k, means[m]) <= deltas[d])
                            denied += risk_binomial(n, means[m], k) - (k ? risk_binomial(n, means[m], k - 1) : 0);
                    assert_true(denied <= deltas[d] + 1e-12);
                }
}

static void bounds_and_sizes_agree_with_the_p_values(void **state)
{
    (void)state;
    for (int t = DRR_RISK_HOEFFDING_BENTKUS; t <= DRR_RISK_BINOMIAL; t++) {
        const drr_risk_test test = (drr_risk_test)t;
        for (uint64_t n = 10; n <= 1000; n *= 10)
            for (uint64_t k = 0; k < n; k += 1 + n / 7) {
                const double bound = risk_bound(test, n, (double)k, 0.1);
                assert_true(bound > (double)k / (double)n && bound < 1);
                assert_true(risk_p_value(test, n, (double)k, bound + 1e-6) <= 0.1);
                assert_true(risk_p_value(test, n, (double)k, bound - 1e-6) > 0.1);
            }
        near(risk_bound(test, 0, 0, 0.1), 1, 0);
        near(risk_bound(test, 22, 0, 0.1), 1 - pow(0.1, 1.0 / 22), 1e-6);
        assert_true(risk_needed(test, 0, 0.1, 0.1) == 22); /* 0.9^22 is the first power of 0.9 below 0.1 */
        assert_true(risk_needed(test, 0, 0.05, 0.1) == 45);
        assert_true(risk_needed(test, 0.1, 0.1, 0.1) == 0); /* no number shows that 0.1 is below 0.1 */
        assert_true(risk_needed(test, 0.2, 0.1, 0.1) == 0);
        assert_true(risk_needed(test, 0, 1e-9, 0.1) == 0); /* more than 10 million */
        const double means[] = {0.01, 0.05, 0.08};
        for (size_t i = 0; i < 3; i++) {
            const uint64_t n = risk_needed(test, means[i], 0.1, 0.1);
            assert_true(n > 1);
            assert_true(risk_p_value(test, n, ceil(means[i] * (double)n - 1e-9), 0.1) <= 0.1);
            assert_true(risk_p_value(test, n - 1, ceil(means[i] * (double)(n - 1) - 1e-9), 0.1) > 0.1);
        }
    }
    assert_true(risk_needed(DRR_RISK_BINOMIAL, 0.05, 0.1, 0.1) <
                risk_needed(DRR_RISK_HOEFFDING_BENTKUS, 0.05, 0.1, 0.1));
}

static void a_sequence_ends_at_the_first_that_is_not_rejected(void **state)
{
    (void)state;
    const double p[] = {0.01, 0.1, 0.02, 0.11, 0.001};
    assert_int_equal(risk_fixed_sequence(p, 5, 0.1), 3); /* the last is small and comes too late */
    assert_int_equal(risk_fixed_sequence(p, 5, 0.005), 0);
    assert_int_equal(risk_fixed_sequence(p, 3, 0.1), 3);
    assert_int_equal(risk_fixed_sequence(p, 0, 0.1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(p_values_are_those_of_exact_arithmetic),
        cmocka_unit_test(the_ends_are_no_surprise),
        cmocka_unit_test(a_true_mean_is_denied_no_more_often_than_said),
        cmocka_unit_test(bounds_and_sizes_agree_with_the_p_values),
        cmocka_unit_test(a_sequence_ends_at_the_first_that_is_not_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
