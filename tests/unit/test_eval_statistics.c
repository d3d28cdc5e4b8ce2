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

/* The values of a question that is there several times are one coin, which weighs their sum. */
static void a_question_that_is_there_twice_is_one_coin(void **state)
{
    (void)state;
    const double five[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, -1, 1};
    const uint64_t once[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
                   pairs[] = {1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 6, 7, 7};
    assert_true(near(mcnemar_clustered(five, once, 13), mcnemar_exact(11, 1), 1e-15));
    assert_true(near(mcnemar_clustered(five, NULL, 13), mcnemar_exact(11, 1), 1e-15));
    /* five that weigh 2 on one side, and one whose two cancel out */
    assert_true(near(mcnemar_clustered(five, pairs, 13), 2.0 / 32, 1e-15));
    /* the sums of 2, 1 and 1 with signs: 4, 2, 2, 0, 0, -2, -2, -4 */
    const double uneven[] = {1, 1, 1, -1};
    const uint64_t three[] = {1, 1, 2, 3};
    assert_true(near(mcnemar_clustered(uneven, three, 4), 6.0 / 8, 1e-15));
    const double all_alike[] = {-1, -1, -1, -1};
    assert_true(near(mcnemar_clustered(all_alike, three, 4), 2.0 / 8, 1e-15));
    assert_true(near(mcnemar_clustered(NULL, NULL, 0), 1, 0));
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
        const interval i = bootstrap_mean(values, NULL, N, 400, t);
        covered += i.low <= 0.6 && 0.6 <= i.high;
    }
    const double share = (double)covered / TRIALS;
    assert_true(share > 0.915 && share < 0.985);
}

static void the_same_seed_gives_the_same_interval(void **state)
{
    (void)state;
    const double values[] = {1, 0, 1, 1, 0, 1, 0, 1};
    const interval a = bootstrap_mean(values, NULL, 8, 1000, 4), b = bootstrap_mean(values, NULL, 8, 1000, 4);
    assert_true(near(a.value, 5.0 / 8, 1e-12));
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(isnan(bootstrap_mean(values, NULL, 8, 0, 4).low));
    assert_true(isnan(bootstrap_mean(values, NULL, 0, 10, 4).value));
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
    /* from 0.2 to 0.6 the share answered wrongly is (c - 0.2) / 2, from 0.6 to 0.8 it is c - 0.4; the integrals of
     * these over c, by hand */
    const double area = ((0.5 * 0.4 - 0.1 * log(3)) + (0.2 - 0.4 * log(0.8 / 0.6))) / 0.8;
    assert_true(near(risk_area(points, 3), area, 1e-12));
    assert_true(isnan(risk_area(points, 0)));
}

enum { MANY = 2000 };

static double area_of(const double *p, const uint8_t *right)
{
    static risk_point points[MANY];
    return risk_area(points, risk_coverage(points, p, right, MANY));
}

/* AURC as it is defined (Geifman and El-Yaniv 2017): the mean of the risks at 1, 2 ... n answers. */
static double mean_of_risks(const double *p, const uint8_t *right)
{
    static risk_point points[MANY];
    double sum = 0;
    const size_t n = risk_coverage(points, p, right, MANY);
    assert_int_equal(n, MANY); /* no two alike */
    for (size_t i = 0; i < n; i++)
        sum += points[i].risk;
    return sum / MANY;
}

/* Answers of one P(correct) can be given in any order: the area is what the orders have in the mean, however coarse the
 * score is. */
static void a_coarse_score_gains_nothing_by_its_ties(void **state)
{
    (void)state;
    static double p[MANY], fine[MANY];
    static uint8_t right[MANY];
    static const uint64_t levels[] = {1, 2, 3, 10, 1000000};
    for (size_t k = 0; k < sizeof levels / sizeof *levels; k++) {
        double mean = 0;
        rng r;
        rng_seed(&r, 5);
        for (size_t i = 0; i < MANY; i++) {
            p[i] = (double)rng_below(&r, levels[k]) / (double)levels[k];
            right[i] = rng_uniform(&r) < 0.3 + 0.6 * p[i];
        }
        for (int order = 0; order < 100; order++) {
            for (size_t i = 0; i < MANY; i++)
                fine[i] = p[i] + 1e-7 * rng_uniform(&r);
            mean += mean_of_risks(fine, right) / 100;
        }
        if (!near(area_of(p, right), mean, 0.003))
            fail_msg("%llu levels: %.4f, and %.4f on average", (unsigned long long)levels[k], area_of(p, right), mean);
    }
    /* half are sure and right, half are not and wrong: 0.5 - 0.5 log 2, which the trapezium rule calls 0.125 */
    for (size_t i = 0; i < MANY; i++)
        p[i] = right[i] = i % 2;
    assert_true(near(area_of(p, right), 0.5 - 0.5 * log(2), 1e-12));
}

/* Each question asked four times over, always answered alike, says no more than asked once. */
static void values_of_one_question_are_drawn_together(void **state)
{
    (void)state;
    enum { QUESTIONS = 50, TIMES = 4 };
    double once[QUESTIONS], often[QUESTIONS * TIMES];
    uint64_t clusters[QUESTIONS * TIMES], alone[QUESTIONS];
    for (size_t i = 0; i < QUESTIONS; i++) {
        once[i] = i % 3 == 0;
        alone[i] = 1000 - i;
        for (size_t t = 0; t < TIMES; t++) {
            often[t * QUESTIONS + i] = once[i];
            clusters[t * QUESTIONS + i] = 1000 - i;
        }
    }
    const interval a = bootstrap_mean(once, NULL, QUESTIONS, 2000, 7);
    const interval b = bootstrap_mean(often, clusters, QUESTIONS * TIMES, 2000, 7);
    const interval c = bootstrap_mean(once, alone, QUESTIONS, 2000, 7);
    const interval blind = bootstrap_mean(often, NULL, QUESTIONS * TIMES, 2000, 7);
    assert_memory_equal(&a, &c, sizeof a);
    assert_true(near(a.value, b.value, 1e-12) && near(a.low, b.low, 1e-12) && near(a.high, b.high, 1e-12));
    assert_true(blind.high - blind.low < 0.7 * (a.high - a.low)); /* half as wide, and wrong */
    /* of unlike sizes the mean is that of all values drawn, not of questions' means */
    const double values[] = {1, 1, 1, 0};
    const uint64_t sizes[] = {4, 4, 4, 2};
    const interval d = bootstrap_mean(values, sizes, 4, 1000, 7);
    assert_true(near(d.value, 0.75, 1e-12) && d.low == 0 && d.high == 1);
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
        cmocka_unit_test(a_question_that_is_there_twice_is_one_coin),
        cmocka_unit_test(intervals_hold_the_truth_nineteen_times_of_twenty),
        cmocka_unit_test(the_same_seed_gives_the_same_interval),
        cmocka_unit_test(risk_grows_as_less_sure_answers_are_given),
        cmocka_unit_test(a_coarse_score_gains_nothing_by_its_ties),
        cmocka_unit_test(values_of_one_question_are_drawn_together),
        cmocka_unit_test(reliability_counts_each_answer_in_its_bin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
