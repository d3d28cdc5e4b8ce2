/* test_eval_figures.c: the figures beside accuracy, against numbers that others computed: scikit-learn 1.2, NumPy,
 * SciPy 1.10 and R's p.adjust, whose calls stand beside them. */
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

static const double p12[] = {.95, .9, .9, .8, .7, .7, .7, .55, .4, .3, .3, .1};
static const uint8_t y12[] = {1, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 0};

static void augrc_is_that_of_the_definition(void **state)
{
    (void)state;
    risk_point points[12];
    size_t n = risk_coverage(points, p12, y12, 12);
    /* sklearn.metrics.auc over coverage and share answered wrongly at each threshold, from (0, 0): 0.1770833; the same
     * by (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2 with roc_auc_score 0.7916667 and accuracy 1/2 */
    assert_true(near(risk_generalized_area(points, n), 0.17708333333333334, 1e-12));
    /* answers without a P(correct) are no part of it */
    double p[14];
    uint8_t y[14] = {0};
    memcpy(p, p12, sizeof p12);
    memcpy(y, y12, sizeof y12);
    p[12] = p[13] = NAN;
    n = risk_coverage(points, p, y, 14);
    assert_true(near(risk_generalized_area(points, n), 0.17708333333333334, 1e-12));
    assert_true(isnan(risk_generalized_area(points, 0)));
}

static void coverage_at_an_accuracy_is_the_largest_that_holds_it(void **state)
{
    (void)state;
    risk_point points[12];
    const size_t n = risk_coverage(points, p12, y12, 12);
    assert_true(near(risk_coverage_at(points, n, 0.90), 1.0 / 12, 1e-12));
    assert_true(near(risk_coverage_at(points, n, 0.75), 4.0 / 12, 1e-12)); /* not at 3: 2 of 3 */
    assert_true(near(risk_coverage_at(points, n, 0.60), 9.0 / 12, 1e-12)); /* 6 of 9; at 11 it is 6 of 11 */
    const double p[] = {.9, .8};
    const uint8_t wrong[] = {0, 0}, right[] = {1, 1};
    assert_true(risk_coverage_at(points, risk_coverage(points, p, wrong, 2), 0.9) == 0);
    assert_true(risk_coverage_at(points, risk_coverage(points, p, right, 2), 0.99) == 1);
    assert_true(isnan(risk_coverage_at(points, 0, 0.9)));
}

static void errors_are_clustered(void **state)
{
    (void)state;
    const double x[] = {1, 0, 1, 1, 0, 0, 1, 1, 1, 0};
    const uint64_t g[] = {1, 1, 1, 2, 2, 3, 3, 4, 5, 5}, alone[] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    const uint64_t mixed[] = {5, 5, 1, 2, 1, 3, 3, 1, 4, 2}, one[10] = {0};
    const double shuffled[] = {1, 0, 1, 1, 0, 0, 1, 1, 1, 0}; /* the same groups, in another order */
    /* NumPy: sqrt of inv(X'X) M inv(X'X) with M = sum of X_g'e_g e_g'X_g, times G / (G - 1) */
    assert_true(near(clustered_error(x, g, 10), 0.06324555320336758, 1e-12));
    assert_true(near(clustered_error(shuffled, mixed, 10), 0.06324555320336758, 1e-12));
    assert_true(near(clustered_error(x, alone, 10), 0.1632993161855452, 1e-12)); /* scipy.stats.sem */
    assert_true(isnan(clustered_error(x, one, 10)));
    assert_true(isnan(clustered_error(x, alone, 1)));
}

static void holm_corrects_step_by_step(void **state)
{
    (void)state;
    /* R: p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.2, 0.2), "holm") */
    const double p[] = {0.01, 0.04, 0.03, 0.005, 0.2, 0.2}, wanted[] = {0.05, 0.12, 0.12, 0.03, 0.4, 0.4};
    double adjusted[6];
    assert_true(holm(adjusted, p, 6));
    for (size_t i = 0; i < 6; i++)
        assert_true(near(adjusted[i], wanted[i], 1e-12));
    const double large[] = {0.9, 0.8, 1};
    assert_true(holm(adjusted, large, 3));
    assert_true(adjusted[0] == 1 && adjusted[1] == 1 && adjusted[2] == 1);
    assert_true(holm(adjusted, p, 1) && adjusted[0] == 0.01);
    assert_true(holm(NULL, NULL, 0));
}

static void correction_is_over_all_data_sets(void **state)
{
    (void)state;
    pair a[] = {{.p = 0.01}, {.p = 0.04}, {.p = 0.03}}, b[] = {{.p = 0.005}, {.p = 0.2}, {.p = 0.2}};
    comparison sets[] = {{.pairs = a, .n_pairs = 3}, {.pairs = b, .n_pairs = 3}};
    evaluation e = {.comparisons = sets, .n = 2};
    assert_int_equal(evaluation_correct(&e, NULL), DRR_OK);
    assert_true(near(a[0].p_holm, 0.05, 1e-12) && near(b[0].p_holm, 0.03, 1e-12) && near(a[1].p_holm, 0.12, 1e-12));
}

/* ---- of runs */

static drr_turn turns_of[8][3];

/* Answers of one question: 1 right, 0 wrong, in order; `final` is what was settled on. */
static drr_result result(size_t q, const drr_task *task, const char *answers, int final)
{
    drr_result r = {.task = task,
                    .turns = turns_of[q],
                    .n_turns = strlen(answers),
                    .correct = final,
                    .outcome = DRR_ANSWERED,
                    .p_correct = NAN};
    for (size_t t = 0; t < r.n_turns; t++)
        turns_of[q][t] = (drr_turn){.role = answers[t] == 'c' ? "critique"
                                            : t               ? "revision"
                                                              : "attempt",
                                    .correct = answers[t] == '1',
                                    .turn = (uint32_t)t};
    return r;
}

static void flips_and_headroom_are_of_first_and_final_answers(void **state)
{
    (void)state;
    drr_task tasks[6];
    char questions[6][4];
    for (size_t i = 0; i < 6; i++) {
        snprintf(questions[i], sizeof questions[i], "q%zu", i);
        tasks[i] = (drr_task){.question = questions[i], .id = questions[i]};
    }
    drr_result results[] = {
        result(0, &tasks[0], "1", 1),  result(1, &tasks[1], "01", 1),  result(2, &tasks[2], "10", 0),
        result(3, &tasks[3], "00", 0), result(4, &tasks[4], "0c1", 0), /* a right one that was not taken */
        result(5, &tasks[5], "", 0),                                   /* failed */
    };
    strategy_run run = {.results = results};
    assert_int_equal(run_figures(&run, 6, NULL), DRR_OK);
    assert_int_equal(run.wrong_to_right, 1);
    assert_int_equal(run.right_to_wrong, 1);
    assert_true(near(run.first_accuracy, 2.0 / 6, 1e-12));
    assert_true(near(run.oracle_accuracy, 4.0 / 6, 1e-12));
    assert_true(near(run.headroom, 0, 1e-12));
    assert_true(near(run.accuracy_se, sqrt(2.0 / 6 * 4.0 / 6 / 5), 1e-12)); /* p (1 - p) / (n - 1) */
    assert_true(isnan(run.augrc) && isnan(run.coverage_at[0]));
    tasks[1].question = tasks[0].question; /* asked twice: one cluster */
    run = (strategy_run){.results = results};
    assert_int_equal(run_figures(&run, 6, NULL), DRR_OK);
    assert_true(run.accuracy_se > sqrt(2.0 / 6 * 4.0 / 6 / 5));
    run = (strategy_run){.results = results};
    assert_int_equal(run_figures(&run, 1, NULL), DRR_OK);
    assert_true(isnan(run.headroom)); /* there was none */
}

/* Two questions, each four times over: intervals are of two, not of eight. */
static void intervals_are_over_questions_and_not_over_rows(void **state)
{
    (void)state;
    drr_task tasks[8];
    const drr_task *list[8];
    char ids[8][4];
    drr_result results[2][8];
    double width[2];
    for (int twice = 0; twice < 2; twice++) {
        drr_eval_options o;
        strategy_run runs[2] = {{.results = results[0]}, {.results = results[1]}};
        comparison c = {.tasks = list, .n = 8, .runs = runs, .n_runs = 2};
        drr_eval_options_defaults(&o);
        o.bootstrap = 500;
        for (size_t i = 0; i < 8; i++) {
            snprintf(ids[i], sizeof ids[i], "q%zu", i);
            tasks[i] = (drr_task){.id = ids[i], .question = twice ? (i % 2 ? "one?" : "two?") : ids[i]};
            list[i] = &tasks[i];
            results[0][i] = result(i, &tasks[i], i % 2 ? "1" : "0", i % 2);
            results[1][i] = result(i, &tasks[i], "0", 0);
        }
        assert_int_equal(comparison_measure(&c, &o, false, NULL), DRR_OK);
        assert_true(near(c.pairs[0].p, twice ? 1 : mcnemar_exact(4, 0), 1e-12)); /* one question, or four */
        width[twice] = runs[0].accuracy.high - runs[0].accuracy.low;
        assert_true(near(c.pairs[0].difference.high - c.pairs[0].difference.low, width[twice], 1e-12));
        free(c.pairs);
    }
    assert_true(width[1] == 1 && width[0] < 0.9);
}

/* Of each question a right and a wrong sample, which the critic puts in order where the question is even. */
static void discrimination_within_a_question_is_over_questions_too(void **state)
{
    (void)state;
    drr_task tasks[8];
    const drr_task *list[8];
    char ids[8][4];
    drr_result results[8];
    for (int twice = 0; twice < 2; twice++) {
        drr_eval_options o;
        strategy_run run = {.strategy = DRR_STRATEGY_BEST_OF_N, .results = results};
        comparison c = {.tasks = list, .n = 8, .runs = &run, .n_runs = 1};
        drr_eval_options_defaults(&o);
        o.bootstrap = 500;
        for (size_t i = 0; i < 8; i++) {
            snprintf(ids[i], sizeof ids[i], "q%zu", i);
            tasks[i] = (drr_task){.id = ids[i], .question = twice ? (i % 2 ? "one?" : "two?") : ids[i]};
            list[i] = &tasks[i];
            results[i] = result(i, &tasks[i], "10", 1);
            for (size_t t = 0; t < 2; t++) {
                turns_of[i][t].answer = t ? "no" : "yes";
                turns_of[i][t].text = "text";
                turns_of[i][t].p_correct = turns_of[i][t].logit = t == i % 2 ? 0.9 : 0.1 + 0.01 * (double)i;
            }
        }
        assert_int_equal(judged_measure(&c, &o, NULL), DRR_OK);
        const drr_within *w = &c.judged[JUDGED_SAMPLES].within;
        assert_int_equal(w->n_pairs, 8);
        assert_int_equal(w->n_questions, twice ? 2 : 8);
        assert_true(near(w->share, 0.5, 1e-12));
        assert_true(twice ? w->low == 0 && w->high == 1 : w->low > 0 && w->high < 1);
        for (int rows = 0; rows < N_JUDGED; rows++)
            judged_clear(&c.judged[rows]);
    }
}

/* What was escalated unasked has no first answer of the reasoner's, and none that its critic left unscored. */
static void an_answer_of_the_second_reasoner_is_no_first_one(void **state)
{
    (void)state;
    const drr_task tasks[] = {{.id = "a", .question = "a"}, {.id = "b", .question = "b"}};
    const drr_task *list[] = {&tasks[0], &tasks[1]};
    drr_result results[] = {result(0, &tasks[0], "1", 1), result(1, &tasks[1], "1", 1)};
    strategy_run run = {.strategy = DRR_STRATEGY_DRR, .results = results};
    comparison c = {.tasks = list, .n = 2, .runs = &run, .n_runs = 1};
    drr_eval_options o;
    drr_eval_options_defaults(&o);
    for (size_t i = 0; i < 2; i++) {
        turns_of[i][0].answer = turns_of[i][0].text = "yes";
        turns_of[i][0].p_alone = i ? (double)NAN : 0.9;
    }
    turns_of[1][0].role = "escalation";
    results[1].escalated = true;
    assert_int_equal(judged_measure(&c, &o, NULL), DRR_OK);
    assert_int_equal(c.judged[JUDGED_FIRST].n, 1);
    assert_int_equal(c.judged[JUDGED_FIRST].n_unscored, 0);
    turns_of[1][0].answer = NULL;
    for (int rows = 0; rows < N_JUDGED; rows++)
        judged_clear(&c.judged[rows]);
    assert_int_equal(judged_measure(&c, &o, NULL), DRR_OK);
    assert_int_equal(c.judged[JUDGED_FIRST].n_unparsed, 0);
    for (int rows = 0; rows < N_JUDGED; rows++)
        judged_clear(&c.judged[rows]);
}

/* ---- the critic's reasoner */

static void a_critic_of_another_reasoner_is_told_apart_from_another_file(void **state)
{
    (void)state;
    char why[700] = "";
    drr_critic_info info = {.name = "c", .reasoner = "small@aaaa, large@bbbb", .prompt = "p1"};
    assert_false(critic_mismatch(why, sizeof why, &info, "large@bbbb", "p1"));
    assert_false(critic_mismatch(why, sizeof why, &info, "small@aaaa", NULL));
    assert_true(critic_mismatch(why, sizeof why, &info, "large@cccc", "p1"));
    assert_non_null(strstr(why, "small@aaaa, large@bbbb"));
    assert_non_null(strstr(why, "another file"));
    info.reasoner = "small@aaaa, large";
    assert_false(critic_mismatch(why, sizeof why, &info, "large@replay", NULL)); /* recorded, as its traces were */
    assert_true(critic_mismatch(why, sizeof why, &info, "larger@replay", NULL));
    info.reasoner = "small@aaaa, large@bbbb";
    assert_false(critic_mismatch(why, sizeof why, &info, "large@bbbb@replay", NULL)); /* its own traces, exported */
    assert_true(critic_mismatch(why, sizeof why, &info, "large@cccc@replay", NULL));
    assert_true(critic_mismatch(why, sizeof why, &info, "arge@bbbb2", "p1"));
    assert_non_null(strstr(why, "another reasoner"));
    assert_true(critic_mismatch(why, sizeof why, &info, "small@aaaa", "p2"));
    assert_non_null(strstr(why, "prompts p1"));
    info.reasoner = "";
    assert_false(critic_mismatch(why, sizeof why, &info, "any@cccc", "p2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(augrc_is_that_of_the_definition),
        cmocka_unit_test(coverage_at_an_accuracy_is_the_largest_that_holds_it),
        cmocka_unit_test(errors_are_clustered),
        cmocka_unit_test(holm_corrects_step_by_step),
        cmocka_unit_test(correction_is_over_all_data_sets),
        cmocka_unit_test(flips_and_headroom_are_of_first_and_final_answers),
        cmocka_unit_test(intervals_are_over_questions_and_not_over_rows),
        cmocka_unit_test(discrimination_within_a_question_is_over_questions_too),
        cmocka_unit_test(an_answer_of_the_second_reasoner_is_no_first_one),
        cmocka_unit_test(a_critic_of_another_reasoner_is_told_apart_from_another_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
