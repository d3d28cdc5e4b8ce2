/* test_core_within.c: discrimination within a question is what counting every right-wrong pair of one question and
 * reasoner gives; it does not see what AUROC sees, which questions are easy; its interval is over questions. */
#include "core/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { QUESTIONS = 150, ANSWERS = 6, N = QUESTIONS * ANSWERS };

static void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.15g is not %.15g, within %g", value, expected, most);
}

typedef struct rows {
    double score[N];
    uint8_t label[N];
    size_t question[N], group[N];
} rows;

/* Half of a question's answers are one reasoner's. `ease` and `merit`: what the score knows of the question and of the
 * answer; levels: few are many ties. */
static void make_rows(rows *x, double ease, double merit, double levels, uint64_t seed)
{
    rng r;
    rng_seed(&r, seed);
    for (size_t q = 0; q < QUESTIONS; q++) {
        const double easy = rng_normal(&r);
        for (size_t a = 0; a < ANSWERS; a++) {
            const size_t i = q * ANSWERS + a;
            x->question[i] = q;
            x->group[i] = 2 * q + a / 3;
            x->label[i] = rng_uniform(&r) < 1 / (1 + exp(-2 * easy));
            x->score[i] = floor(levels * (ease * easy + merit * x->label[i] + 0.5 * rng_normal(&r)));
        }
    }
}

static drr_within within(const rows *x, uint32_t resamples, uint64_t seed)
{
    return statistics_within(x->score, x->label, x->question, x->group, N, resamples, seed);
}

static void the_share_is_that_of_counting_every_pair_of_a_group(void **state)
{
    (void)state;
    static rows x;
    for (uint64_t seed = 1; seed < 5; seed++) {
        double won = 0, pairs = 0;
        size_t questions = 0, last = SIZE_MAX;
        make_rows(&x, 1, 0.3, seed % 2 ? 2 : 1000, seed);
        for (size_t i = 0; i < N; i++)
            for (size_t k = 0; k < N; k++)
                if (x.group[i] == x.group[k] && x.label[i] && !x.label[k]) {
                    pairs++;
                    won += x.score[i] > x.score[k] ? 1 : x.score[i] < x.score[k] ? 0 : 0.5;
                    questions += x.question[i] != last;
                    last = x.question[i];
                }
        const drr_within w = within(&x, 100, 1);
        near(w.share, won / pairs, 1e-12);
        assert_int_equal(w.n_pairs, (uint64_t)pairs);
        assert_int_equal(w.n_questions, questions);
        assert_true(w.low < w.share && w.share < w.high);
    }
}

/* What a score knows of questions alone makes it look good by AUROC and is worth nothing here; what it knows of answers
 * counts whole. */
static void knowing_which_questions_are_easy_is_worth_nothing(void **state)
{
    (void)state;
    static rows x;
    make_rows(&x, 2, 0, 1000, 11);
    drr_within w = within(&x, 1000, 1);
    assert_true(statistics_auroc(x.score, x.label, N) > 0.75);
    assert_true(w.low < 0.5 && 0.5 < w.high);
    make_rows(&x, 2, 1, 1000, 11);
    w = within(&x, 1000, 1);
    assert_true(w.low > 0.8);
}

static void ties_and_constant_scores_are_one_half(void **state)
{
    (void)state;
    const double s[] = {1, 1, 2, 2};
    const uint8_t label[] = {1, 0, 1, 0};
    const size_t question[] = {0, 0, 0, 0}, group[] = {0, 0, 1, 1};
    drr_within w = statistics_within(s, label, question, group, 4, 50, 1);
    near(w.share, 0.5, 0); /* 1 against 2 is of two groups and counts nowhere */
    assert_true(w.n_pairs == 2 && w.n_questions == 1);
    near(w.low, 0.5, 0); /* one question: drawn again and again */
    near(w.high, 0.5, 0);
    w = statistics_within(s, label, question, question, 4, 50, 1);
    near(w.share, (0.5 + 0 + 1 + 0.5) / 4, 0);
    assert_int_equal(w.n_pairs, 4);
}

/* Of many samples of questions like these, the interval holds the true share in about 95 of 100. Answers of a question
 * share its noise, so an interval over pairs would be too narrow. */
static void the_interval_is_over_questions(void **state)
{
    (void)state;
    enum { TIMES = 400 };
    static rows x;
    double truth = 0, width = 0;
    int held = 0;
    for (int pass = 0; pass < 2; pass++)
        for (uint64_t t = 0; t < TIMES; t++) {
            rng r;
            make_rows(&x, 0, 0.4, 1000, 100 + t);
            rng_seed(&r, 900 + t);
            for (size_t q = 0; q < QUESTIONS; q++) {
                const double turn = rng_uniform(&r) < 0.3 ? -1 : 1; /* three in ten questions are judged upside down */
                for (size_t a = 0; a < ANSWERS; a++)
                    x.score[q * ANSWERS + a] *= turn;
            }
            const drr_within w = within(&x, pass ? 300 : 0, t);
            if (pass == 0) {
                truth += w.share / TIMES;
                continue;
            }
            held += w.low <= truth && truth <= w.high;
            width += (w.high - w.low) / TIMES;
        }
    print_message("the interval, %.3f wide, holds %.3f in %d of %d\n", width, truth, held, TIMES);
    assert_in_range(held, (int)(0.91 * TIMES), (int)(0.98 * TIMES));
}

static void the_same_seed_draws_the_same_questions(void **state)
{
    (void)state;
    static rows x;
    make_rows(&x, 1, 0.3, 1000, 3);
    const drr_within a = within(&x, 200, 5), b = within(&x, 200, 5), c = within(&x, 200, 6);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.share == c.share && (a.low != c.low || a.high != c.high));
    for (size_t i = 0; i < N; i++)
        x.score[i] = -x.score[i];
    const drr_within turned = statistics_within_turned(within(&x, 200, 5));
    near(turned.share, a.share, 1e-12);
    near(turned.low, a.low, 0.01);
    near(turned.high, a.high, 0.01);
}

static void what_is_not_defined_is_not_a_number(void **state)
{
    (void)state;
    const double s[] = {0.1, 0.2}, holes[] = {0.1, NAN};
    const uint8_t right[] = {1, 1}, both[] = {0, 1};
    const size_t same[] = {0, 0}, apart[] = {0, 1};
    const drr_within none[] = {
        statistics_within(s, right, same, same, 2, 10, 1), statistics_within(s, both, apart, apart, 2, 10, 1),
        statistics_within(s, both, same, apart, 2, 10, 1), statistics_within(holes, both, same, same, 2, 10, 1),
        statistics_within(s, both, same, same, 0, 10, 1)};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_true(isnan(none[i].share) && isnan(none[i].low) && isnan(none[i].high));
        assert_true(none[i].n_pairs == 0 && none[i].n_questions == 0);
    }
    const drr_within plain = statistics_within(s, both, same, same, 2, 0, 1);
    assert_true(plain.share == 1 && isnan(plain.low) && isnan(plain.high)); /* no resamples, no interval */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_share_is_that_of_counting_every_pair_of_a_group),
        cmocka_unit_test(knowing_which_questions_are_easy_is_worth_nothing),
        cmocka_unit_test(ties_and_constant_scores_are_one_half),
        cmocka_unit_test(the_interval_is_over_questions),
        cmocka_unit_test(the_same_seed_draws_the_same_questions),
        cmocka_unit_test(what_is_not_defined_is_not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
