/* test_train_promise.c: a question is one unit however many traces it has, acting out is what drr does, and the
 * threshold that is found keeps what it promises as often as it says: by simulation, where the truth is known. */
#include "core/risk.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.15g is not %.15g, within %g", value, expected, most);
}

/* ---- simulation: P(right) of a turn is its score, so that the error at any threshold can be worked out */

/* Scores uniform in [0, 1]; a turn is right with probability score^bend. */
static trials made_trials(size_t n, uint32_t turns, double bend, rng *r)
{
    trials t = {calloc(n, sizeof *t.at), n, NAN};
    assert_non_null(t.at);
    for (size_t i = 0; i < n; i++) {
        t.at[i].n = turns;
        for (uint32_t k = 0; k < turns; k++) {
            t.at[i].p[k] = rng_uniform(r);
            t.at[i].right[k] = rng_uniform(r) < pow(t.at[i].p[k], bend);
        }
    }
    return t;
}

/* The mean of 1 - s^bend over s from the threshold to 1: of any turn that is accepted, so of the first one too. */
static double true_error(double threshold, double bend)
{
    return 1 - (1 - pow(threshold, bend + 1)) / ((bend + 1) * (1 - threshold));
}

/* Share of runs whose threshold has a true error above the target. */
static double broken(drr_risk_test test, uint32_t turns, size_t n, double target, double delta, double bend, int runs,
                     double *found)
{
    int above = 0, made = 0;
    rng r;
    rng_seed(&r, 7 + turns);
    for (int run = 0; run < runs; run++) {
        drr_guarantee g = {.turns = turns, .target_error = target, .delta = delta, .test = test};
        trials dev = made_trials(150, turns, bend, &r), tested = made_trials(n, turns, bend, &r);
        assert_int_equal(promise_find(&g, &dev, &tested, NULL), DRR_OK);
        if (g.found) {
            made++;
            above += true_error(g.threshold, bend) > target;
            assert_true(g.p_value <= delta && g.bound <= target + 1e-6);
            assert_int_equal(g.n, n);
        } else {
            assert_true(g.p_value > delta && g.bound > target);
        }
        trials_clear(&dev);
        trials_clear(&tested);
    }
    *found = (double)made / runs;
    return (double)above / runs;
}

static void a_promise_is_broken_no_more_often_than_it_says(void **state)
{
    (void)state;
    enum { RUNS = 2000 };
    const struct {
        size_t n;
        double target, delta, bend;
    } cases[] = {{500, 0.2, 0.1, 1}, {400, 0.1, 0.1, 0.5}, {100, 0.3, 0.3, 1}, {300, 0.25, 0.05, 2}};
    for (size_t i = 0; i < 4; i++)
        for (int test = DRR_RISK_HOEFFDING_BENTKUS; test <= DRR_RISK_BINOMIAL; test++)
            for (uint32_t turns = 1; turns <= 4; turns += 3) {
                double found;
                const double share = broken((drr_risk_test)test, turns, cases[i].n, cases[i].target, cases[i].delta,
                                            cases[i].bend, RUNS, &found);
                const double slack = 3 * sqrt(cases[i].delta * (1 - cases[i].delta) / RUNS);
                print_message("A %.2f, delta %.2f, %zu units, %u turns, %s: broken in %.3f, made in %.3f\n",
                              cases[i].target, cases[i].delta, cases[i].n, turns,
                              drr_risk_test_name((drr_risk_test)test), share, found);
                assert_true(share <= cases[i].delta + slack);
                if (i == 0) /* and the promise is not kept by never being made */
                    assert_true(found > 0.5);
            }
}

/* Copies of units are what traces of one question would be, were each taken for a unit: the promise then breaks. That
 * this test sees it is what makes the one above worth something. */
static void units_that_are_copies_of_each_other_would_break_it(void **state)
{
    (void)state;
    enum { RUNS = 1000, N = 40, COPIES = 40 };
    int above = 0;
    rng r;
    rng_seed(&r, 3);
    for (int run = 0; run < RUNS; run++) {
        drr_guarantee g = {.turns = 1, .target_error = 0.2, .delta = 0.1};
        trials dev = made_trials(150, 1, 1, &r), few = made_trials(N, 1, 1, &r);
        trials many = {calloc(N * COPIES, sizeof *many.at), N * COPIES, NAN};
        for (size_t i = 0; i < N * COPIES; i++)
            many.at[i] = few.at[i / COPIES];
        assert_int_equal(promise_find(&g, &dev, &many, NULL), DRR_OK);
        above += g.found && true_error(g.threshold, 1) > 0.2;
        trials_clear(&dev);
        trials_clear(&few);
        trials_clear(&many);
    }
    print_message("with each unit forty times: broken in %.3f\n", (double)above / RUNS);
    assert_true((double)above / RUNS > 0.2);
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void the_threshold_is_the_lowest_of_an_unbroken_row(void **state)
{
    (void)state;
    rng r;
    rng_seed(&r, 11);
    drr_guarantee g = {.turns = 2, .target_error = 0.25, .delta = 0.1};
    trials dev = made_trials(300, 2, 1, &r), tested = made_trials(300, 2, 1, &r);
    uint64_t accepted, wrong;
    assert_int_equal(promise_find(&g, &dev, &tested, NULL), DRR_OK);
    assert_true(g.found);
    trials_count(&accepted, &wrong, &tested, g.threshold);
    assert_true(accepted == g.n_accepted && wrong == g.n_wrong);
    near(risk_p_value(g.test, accepted, (double)wrong, 0.25), g.p_value, 1e-12);
    assert_true(g.threshold < 0.8); /* with a true error of 0.25 at 0.5 there is no need to be so strict */
    /* the next one of the 200 thresholds that dev's scores are cut into cannot be rejected */
    double list[600];
    for (size_t i = 0; i < dev.n; i++)
        for (uint32_t k = 0; k < 2; k++)
            list[2 * i + k] = dev.at[i].p[k];
    qsort(list, 600, sizeof *list, falling);
    size_t at = 0;
    while (at < 200 && list[at * 599 / 199] > g.threshold)
        at++;
    near(list[at * 599 / 199], g.threshold, 0);
    trials_count(&accepted, &wrong, &tested, list[(at + 1) * 599 / 199]);
    assert_true(risk_p_value(g.test, accepted, (double)wrong, 0.25) > 0.1);
    trials_clear(&dev);
    trials_clear(&tested);
}

/* n units from `high` down by `step` each, all right or all wrong. */
static void add_band(trials *t, size_t n, double high, double step, uint8_t right)
{
    for (size_t i = 0; i < n; i++)
        t->at[t->n++] = (trial){1, {right}, {high - step * (double)i}};
}

/* A band of wrong answers between two of right ones: past the first threshold that cannot be rejected nothing is looked
 * at, however good it would look, for only then is the chance of one mistake delta. */
static void what_lies_behind_a_failure_is_not_looked_at(void **state)
{
    (void)state;
    trials dev = {calloc(400, sizeof(trial)), 0, NAN}, tested = {calloc(800, sizeof(trial)), 0, NAN};
    drr_guarantee g = {.turns = 1, .target_error = 0.1, .delta = 0.1};
    add_band(&dev, 100, 0.95, 0.001, 1); /* what dev is surest of ends at 0.851 */
    add_band(&dev, 100, 0.65, 0.001, 0);
    add_band(&dev, 100, 0.35, 0.001, 0);
    add_band(&tested, 30, 0.95, 0.003, 1);
    add_band(&tested, 20, 0.65, 0.003, 0);
    add_band(&tested, 700, 0.35, 0.0001, 1); /* of all 750 together 20 are wrong: p is next to nothing */
    assert_int_equal(promise_find(&g, &dev, &tested, NULL), DRR_OK);
    assert_true(risk_p_value(g.test, 750, 20, 0.1) < 1e-6);
    assert_true(g.found && g.n_wrong <= 3);
    assert_true(g.threshold > 0.6);
    trials_clear(&dev);
    trials_clear(&tested);
}

static void what_cannot_be_promised_is_said_by_how_much(void **state)
{
    (void)state;
    char text[480];
    rng r;
    rng_seed(&r, 5);
    drr_guarantee g = {.turns = 1, .target_error = 0.05, .delta = 0.1};
    trials dev = made_trials(200, 1, 1, &r), tested = made_trials(60, 1, 1, &r);
    assert_int_equal(promise_find(&g, &dev, &tested, NULL), DRR_OK);
    assert_false(g.found);
    near(g.bound, risk_bound(g.test, g.n_accepted, (double)g.n_wrong, 0.1), 1e-9);
    drr_guarantee_sentence(text, sizeof text, &g);
    print_message("%s\n", text);
    assert_non_null(strstr(text, "No threshold can promise that at most 5 %"));
    assert_non_null(strstr(text, "points short"));
    /* questions that would do, as many accepted and as many of them wrong */
    if (g.n_needed) {
        const double share = (double)g.n_wrong / (double)g.n_accepted;
        const double more = (double)g.n_needed * (double)g.n_accepted / (double)g.n;
        assert_true(risk_p_value(g.test, (uint64_t)more, ceil(share * more - 1e-9), 0.05) <= 0.1);
    }
    /* all wrong: nothing ever will */
    for (size_t i = 0; i < tested.n; i++)
        tested.at[i].right[0] = 0;
    assert_int_equal(promise_find(&g, &dev, &tested, NULL), DRR_OK);
    assert_true(!g.found && g.n_needed == 0);
    near(g.bound, 1, 1e-6);
    drr_guarantee_sentence(text, sizeof text, &g);
    assert_non_null(strstr(text, "no number of questions would do"));
    /* nothing to test on, and nothing to order by */
    trials none = {.at = tested.at};
    assert_int_equal(promise_find(&g, &dev, &none, NULL), DRR_OK);
    assert_true(!g.found && g.n == 0);
    assert_int_equal(promise_find(&g, &none, &none, NULL), DRR_OK);
    assert_false(g.found);
    trials_clear(&dev);
    trials_clear(&tested);
}

/* ---- units of a corpus */

enum { QUESTIONS = 90, SAMPLES = 6 };

/* Questions q with 2 + q % 5 fresh answers of ann and 3 of ben, and a retry that is no fresh one. Logits are all
 * different; an answer whose number is a multiple of 7 cannot be read. */
static corpus made_corpus(void)
{
    corpus c = {.rows = calloc(QUESTIONS * 12, sizeof *c.rows), .capacity = QUESTIONS * 12, .n_questions = QUESTIONS};
    assert_non_null(c.rows);
    for (size_t q = 0; q < QUESTIONS; q++)
        for (int reasoner = 0; reasoner < 2; reasoner++)
            for (uint32_t s = 0; s < (reasoner ? 3 : 3 + q % 5); s++) {
                corpus_row *row = &c.rows[c.n];
                char text[32];
                const bool retry = !reasoner && s == 2 + q % 5;
                snprintf(text, sizeof text, "Question %zu?", q);
                *row = (corpus_row){.question = q, .part = q % 3 ? CORPUS_GUARANTEE : CORPUS_DEV};
                row->logit = sin(1.7 * (double)c.n);
                row->trace.question = string_copy(text);
                row->trace.reasoner = string_copy(reasoner ? "ben" : "ann");
                row->trace.kind = DRR_KIND_NUMBER;
                row->trace.answer = c.n % 7 ? string_copy(c.n % 2 ? "1" : "2") : NULL;
                row->trace.label = c.n % 7 ? c.n % 2 ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT : DRR_LABEL_UNPARSED;
                row->trace.sample = retry ? 0 : s;
                row->trace.turn = retry;
                row->trace.temperature = 0.7f;
                row->trace.stats = (drr_token_stats){.mean = NAN,
                                                     .min = NAN,
                                                     .tail_mean = NAN,
                                                     .entropy_mean = NAN,
                                                     .answer_mean = NAN,
                                                     .answer_min = NAN,
                                                     .answer_entropy = NAN,
                                                     .answer_margin = NAN};
                c.n++;
            }
    return c;
}

static critic_meta text_and_agreement(void)
{
    critic_meta m = {.has_stack = true};
    for (uint32_t j = 0; stack_feature_name(j); j++) {
        m.stack.scale[j] = 1;
        m.stack.weight[j] = strcmp(stack_feature_name(j), "text_logit") == 0          ? 1
                            : strcmp(stack_feature_name(j), "agreement_logodds") == 0 ? 0.5
                                                                                      : 0;
        m.stack.n = j + 1;
    }
    return m;
}

/* The row of a part whose logit, with k others known of which `agree` agree, gives this p; c->n where there is none. */
static size_t row_of(const corpus *c, double p, uint32_t k, uint32_t agree)
{
    for (size_t i = 0; i < c->n; i++)
        if (fabs(sigmoid(c->rows[i].logit + 0.5 * log((agree + 0.5) / (k - agree + 0.5))) - p) < 1e-12)
            return i;
    return c->n;
}

static void each_question_is_one_unit_acted_out_as_drr_does(void **state)
{
    (void)state;
    corpus c = made_corpus();
    const critic_meta meta = text_and_agreement();
    for (uint32_t turns = 1; turns <= SAMPLES; turns++) {
        trials t;
        size_t enough = 0, ben = 0, unread = 0, seen[QUESTIONS] = {0};
        for (size_t q = 0; q < QUESTIONS; q++)
            enough += q % 3 != 0 && (turns <= 3 || 2 + q % 5 >= turns);
        assert_int_equal(trials_new(&t, &meta, &c, CORPUS_GUARANTEE, turns, 1, NULL), DRR_OK);
        assert_int_equal(t.n, enough);
        near(t.temperature, 0.7, 1e-6);
        for (size_t i = 0; i < t.n; i++) {
            size_t question = QUESTIONS, rows[SAMPLES];
            const char *answers[SAMPLES];
            uint32_t known = 0;
            bool whole = true;
            assert_int_equal(t.at[i].n, turns);
            for (uint32_t k = 0; k < turns; k++) {
                size_t row = c.n;
                if (t.at[i].p[k] < 0) { /* unread: which one it is cannot be told, nor needs to be */
                    assert_int_equal(t.at[i].right[k], 0);
                    unread++;
                    whole = false;
                    continue;
                }
                for (uint32_t agree = 0; agree <= k && row == c.n; agree++)
                    row = row_of(&c, t.at[i].p[k], k, agree);
                assert_true(row < c.n);
                const corpus_row *r = &c.rows[row];
                assert_true(r->part == CORPUS_GUARANTEE && r->trace.turn == 0);
                assert_true(question == QUESTIONS || question == r->question);
                question = r->question;
                ben += r->trace.reasoner[0] == 'b';
                assert_int_equal(t.at[i].right[k], r->trace.label == DRR_LABEL_ACCEPT);
                for (uint32_t j = 0; j < known; j++) {
                    assert_true(rows[j] != row); /* no answer twice */
                    assert_string_equal(c.rows[rows[j]].trace.reasoner, r->trace.reasoner);
                }
                rows[known] = row;
                answers[known++] = r->trace.answer;
            }
            for (uint32_t k = 0, agree; whole && k < turns; k++) { /* only what came before was known */
                agree = 0;
                for (uint32_t j = 0; j < k; j++)
                    agree += strcmp(answers[j], answers[k]) == 0;
                assert_int_equal(row_of(&c, t.at[i].p[k], k, agree), rows[k]);
            }
            if (question < QUESTIONS)
                assert_int_equal(seen[question]++, 0);
        }
        if (turns <= 3)
            assert_true(ben > 0 && ben < turns * t.n && unread > 0);
        trials_clear(&t);
    }
    corpus_clear(&c);
}

static void the_draw_is_of_the_seed_and_the_question(void **state)
{
    (void)state;
    corpus c = made_corpus();
    const critic_meta meta = text_and_agreement();
    trials a, b, other;
    assert_int_equal(trials_new(&a, &meta, &c, CORPUS_GUARANTEE, 2, 1, NULL), DRR_OK);
    assert_int_equal(trials_new(&b, &meta, &c, CORPUS_GUARANTEE, 2, 1, NULL), DRR_OK);
    assert_int_equal(trials_new(&other, &meta, &c, CORPUS_GUARANTEE, 2, 2, NULL), DRR_OK);
    assert_memory_equal(a.at, b.at, a.n * sizeof *a.at);
    assert_memory_not_equal(a.at, other.at, a.n * sizeof *a.at);
    c.rows[5].trace.temperature = 1; /* of question 0, a dev one: no matter */
    trials_clear(&b);
    assert_int_equal(trials_new(&b, &meta, &c, CORPUS_GUARANTEE, 2, 1, NULL), DRR_OK);
    near(b.temperature, 0.7, 1e-6);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].question == 1)
            c.rows[i].trace.temperature = 1;
    trials_clear(&b);
    assert_int_equal(trials_new(&b, &meta, &c, CORPUS_GUARANTEE, 2, 1, NULL), DRR_OK);
    assert_true(isnan(b.temperature)); /* several */
    trials_clear(&a);
    trials_clear(&b);
    trials_clear(&other);
    corpus_clear(&c);
}

static void the_loop_is_as_long_as_nine_in_ten_questions_allow(void **state)
{
    (void)state;
    corpus c = made_corpus();
    uint32_t turns;
    assert_int_equal(trials_turns(&turns, &c, CORPUS_GUARANTEE, NULL), DRR_OK);
    assert_int_equal(turns, 3); /* ben has three of each; of four a fifth of the questions has none */
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].question % 5 < 2 && c.rows[i].question != 1)
            c.rows[i].part = CORPUS_UNUSED;
    assert_int_equal(trials_turns(&turns, &c, CORPUS_GUARANTEE, NULL), DRR_OK);
    assert_int_equal(turns, 4); /* but for question 1 all have four of ann */
    assert_int_equal(trials_turns(&turns, &c, CORPUS_TEST, NULL), DRR_OK);
    assert_int_equal(turns, 5); /* of no question: nothing is against it */
    corpus_clear(&c);
}

static void counting_takes_the_first_turn_that_is_accepted(void **state)
{
    (void)state;
    trial at[] = {{3, {0, 1, 1}, {0.2, 0.6, 0.9}}, {2, {0, 1}, {0.7, 0.8}}, {2, {1, 1}, {-1, 0.1}}};
    const trials t = {at, 3, NAN};
    uint64_t accepted, wrong;
    trials_count(&accepted, &wrong, &t, 0.5);
    assert_true(accepted == 2 && wrong == 1);
    trials_count(&accepted, &wrong, &t, 0.75);
    assert_true(accepted == 2 && wrong == 0);
    trials_count(&accepted, &wrong, &t, 0);
    assert_true(accepted == 3 && wrong == 2); /* what cannot be read is not accepted even at 0 */
    trials_count(&accepted, &wrong, &t, 0.95);
    assert_true(accepted == 0 && wrong == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_promise_is_broken_no_more_often_than_it_says),
        cmocka_unit_test(units_that_are_copies_of_each_other_would_break_it),
        cmocka_unit_test(the_threshold_is_the_lowest_of_an_unbroken_row),
        cmocka_unit_test(what_lies_behind_a_failure_is_not_looked_at),
        cmocka_unit_test(what_cannot_be_promised_is_said_by_how_much),
        cmocka_unit_test(each_question_is_one_unit_acted_out_as_drr_does),
        cmocka_unit_test(the_draw_is_of_the_seed_and_the_question),
        cmocka_unit_test(the_loop_is_as_long_as_nine_in_ten_questions_allow),
        cmocka_unit_test(counting_takes_the_first_turn_that_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
