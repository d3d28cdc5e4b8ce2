/* test_loop_weigh.c: the rules that weigh answers, against numbers worked out by hand. */
#include "loop/weigh.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-9))
        fail_msg("%.12g is not %.12g", value, expected);
}

/* P(Bin(a + b + 1, 1/2) <= a) */
static void the_beta_rule_counts_votes(void **state)
{
    (void)state;
    near(weigh_beta(1, 0), 3.0 / 4);
    near(weigh_beta(3, 0), 15.0 / 16);
    near(weigh_beta(3, 1), 13.0 / 16);
    near(weigh_beta(2, 2), 1.0 / 2);
}

/* One sample has the P(correct) that the critic gives it, however many other answers there may be. */
static void one_sample_is_what_the_critic_says_of_it(void **state)
{
    (void)state;
    const double p[] = {0.7};
    const size_t choice[] = {0};
    double posterior[1];
    assert_int_equal(weigh_posterior(posterior, p, choice, 1, 1, 5, true), 0);
    near(posterior[0], 0.7);
    weigh_posterior(posterior, p, choice, 1, 1, 10, false);
    near(posterior[0], 0.7);
}

/* Of two answers: 4 * 4 against 1.5. Of five: 16 * 16 against 6, and 3 that none gave. */
static void samples_multiply_their_odds(void **state)
{
    (void)state;
    const double p[] = {0.8, 0.6, 0.8};
    const size_t choice[] = {0, 1, 0};
    double posterior[2];
    assert_int_equal(weigh_posterior(posterior, p, choice, 3, 2, 2, true), 0);
    near(posterior[0], 16 / 17.5);
    near(posterior[1], 1.5 / 17.5);
    weigh_posterior(posterior, p, choice, 3, 2, 5, true);
    near(posterior[0], 256.0 / 265);
    near(posterior[1], 6.0 / 265);
    weigh_posterior(posterior, p, choice, 3, 2, 2, false); /* the right one may be neither */
    near(posterior[0], 16 / 18.5);
}

/* Two that the critic gives 0.1 of two answers: 1/81 against 0.9 / 0.1 = 9. */
static void doubted_samples_speak_against_their_answer(void **state)
{
    (void)state;
    const double p[] = {0.1, 0.1, 0.9};
    const size_t choice[] = {0, 0, 1};
    double posterior[2];
    assert_int_equal(weigh_posterior(posterior, p, choice, 3, 2, 2, true), 1);
    near(posterior[1], 9 / (9 + 1.0 / 81));
}

static void no_answer_and_many_sure_ones_have_no_infinities(void **state)
{
    (void)state;
    double p[1000], posterior[1];
    size_t choice[1000];
    for (size_t i = 0; i < 1000; i++) {
        p[i] = 1;
        choice[i] = 0;
    }
    assert_int_equal(weigh_posterior(posterior, p, choice, 0, 0, 5, true), 0);
    assert_int_equal(weigh_posterior(posterior, p, choice, 1000, 1, 5, true), 0);
    near(posterior[0], 1);
}

static void answers_are_as_many_as_the_question_has(void **state)
{
    (void)state;
    near(weigh_alternatives(DRR_KIND_CHOICE, 4), 4);
    near(weigh_alternatives(DRR_KIND_BOOLEAN, 0), 2);
    near(weigh_alternatives(DRR_KIND_NUMBER, 0), WEIGH_OPEN);
}

/* Of 17 tokens the first 16 are certain; the other window has the last one, whose 16th part counts. */
static void the_lowest_group_is_the_least_certain_stretch(void **state)
{
    (void)state;
    float logprobs[17] = {0};
    const float two[] = {(float)log(0.25), 0};
    near(weigh_lowest_group(logprobs, 16), 1);
    logprobs[16] = -16 * (float)log(2);
    if (fabs(weigh_lowest_group(logprobs, 17) - 0.5) > 1e-6)
        fail_msg("%g", weigh_lowest_group(logprobs, 17));
    if (fabs(weigh_lowest_group(two, 2) - 0.5) > 1e-6) /* fewer than a group: all */
        fail_msg("%g", weigh_lowest_group(two, 2));
    float dip[48] = {0}; /* in the middle, whatever comes after it */
    for (size_t i = 16; i < 32; i++)
        dip[i] = -(float)log(2);
    if (fabs(weigh_lowest_group(dip, 48) - 0.5) > 1e-6)
        fail_msg("%g", weigh_lowest_group(dip, 48));
    logprobs[3] = NAN;
    assert_true(isnan(weigh_lowest_group(logprobs, 17)));
    assert_true(isnan(weigh_lowest_group(logprobs, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_beta_rule_counts_votes),
        cmocka_unit_test(one_sample_is_what_the_critic_says_of_it),
        cmocka_unit_test(samples_multiply_their_odds),
        cmocka_unit_test(doubted_samples_speak_against_their_answer),
        cmocka_unit_test(no_answer_and_many_sure_ones_have_no_infinities),
        cmocka_unit_test(answers_are_as_many_as_the_question_has),
        cmocka_unit_test(the_lowest_group_is_the_least_certain_stretch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
