/* test_train_judge.c: calibration, stack and threshold of made-up dev rows are the ones that the rows were made for,
 * and the figures on test rows are those that counting every pair of rows gives. */
#include "core/statistics.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { QUESTIONS = 200, SAMPLES = 5, ROWS = QUESTIONS * SAMPLES * 2 };

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.15g is not %.15g, within %g", value, expected, most);
}

static char *filler(size_t length)
{
    char *text = malloc(length + 1);
    assert_non_null(text);
    memset(text, 'x', length);
    text[length] = '\0';
    return text;
}

/* A question is the easier the lower its number. Right answers are all the same, wrong ones one of four, so that
 * agreement tells something that the logit does not; the logit is known to be `slope` and `offset` away from honest. */
static void make_row(corpus_row *row, size_t question, const char *reasoner, double slope, double offset, rng *r)
{
    char answer[16];
    const double ease = 1.5 - 2 * (double)(question % 50) / 50, hint = 1.2 * rng_normal(r);
    const bool right = rng_uniform(r) < sigmoid(ease + hint), parsed = rng_below(r, 20) != 0;
    snprintf(answer, sizeof answer, "%llu", right ? 7ull : 100ull + (unsigned long long)rng_below(r, 4));
    *row = (corpus_row){.question = question, .logit = (hint - offset) / slope};
    row->trace.kind = DRR_KIND_NUMBER;
    row->trace.reasoner = string_copy(reasoner);
    row->trace.answer = parsed ? string_copy(answer) : NULL;
    row->trace.label = !parsed ? DRR_LABEL_UNPARSED : right ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
    row->trace.text = filler((right ? 20 : 30) + (size_t)rng_below(r, 30));
    row->trace.n_tokens = 10;
    row->trace.stats = (drr_token_stats){.mean = NAN,
                                         .min = NAN,
                                         .tail_mean = NAN,
                                         .entropy_mean = NAN,
                                         .answer_mean = NAN,
                                         .answer_min = NAN,
                                         .answer_entropy = NAN,
                                         .answer_margin = NAN};
}

/* Two reasoners answer each question; every third question is a test question, the others dev. In no tidy order. */
static corpus made_corpus(uint64_t seed, size_t samples)
{
    corpus c = {.rows = calloc(ROWS, sizeof *c.rows), .capacity = ROWS, .n_questions = QUESTIONS};
    assert_non_null(c.rows);
    rng r;
    rng_seed(&r, seed);
    for (size_t sample = 0; sample < samples; sample++)
        for (size_t q = 0; q < QUESTIONS; q++)
            for (int reasoner = 0; reasoner < 2; reasoner++) {
                corpus_row *row = &c.rows[c.n++];
                make_row(row, q, reasoner ? "ben" : "ann", 0.5, 1, &r);
                row->part = q % 3 == 0 ? CORPUS_TEST : CORPUS_DEV;
                row->trace.sample = (uint32_t)sample;
            }
    return c;
}

static critic_meta fitted(const corpus *c, uint64_t seed)
{
    critic_meta meta = {0};
    drr_train_result result = {0};
    drr_error err = {0};
    if (judge_fit(&meta, &result, c, seed, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return meta;
}

/* ---- by brute force */

static bool is_right(const corpus_row *row)
{
    return row->trace.label == DRR_LABEL_ACCEPT;
}

static bool fellows(const corpus_row *a, const corpus_row *b)
{
    return a != b && a->part == b->part && a->question == b->question &&
           strcmp(a->trace.reasoner, b->trace.reasoner) == 0;
}

static drr_features features_with_all(const corpus *c, const corpus_row *row)
{
    drr_features f;
    drr_features_defaults(&f);
    f.n_tokens = row->trace.n_tokens;
    f.parsed = row->trace.answer != NULL;
    for (size_t j = 0; j < c->n; j++) {
        const corpus_row *other = &c->rows[j];
        if (!fellows(row, other))
            continue;
        f.n_others++;
        f.n_agree += f.parsed && other->trace.answer && strcmp(row->trace.answer, other->trace.answer) == 0;
    }
    return f;
}

static double p_of(const critic_meta *meta, const corpus_row *row, const drr_features *f)
{
    double values[STACK_MAX_FEATURES];
    stack_features(values, row->logit, f);
    return meta->has_stack_calibration ? calibration_apply(&meta->stack_calibration, stack_logit(&meta->stack, values))
                                       : stack_predict(&meta->stack, values);
}

/* ---- fitting */

static uint32_t feature(const char *name)
{
    for (uint32_t j = 0; stack_feature_name(j); j++)
        if (strcmp(stack_feature_name(j), name) == 0)
            return j;
    fail_msg("no feature %s", name);
    return 0;
}

static void calibration_is_that_of_the_dev_logits(void **state)
{
    (void)state;
    corpus c = made_corpus(1, SAMPLES);
    double *logits = calloc(c.n, sizeof *logits);
    uint8_t *labels = calloc(c.n, 1);
    size_t n = 0;
    platt expected;
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].part == CORPUS_DEV) {
            labels[n] = is_right(&c.rows[i]);
            logits[n++] = c.rows[i].logit;
        }
    assert_int_equal(platt_fit(&expected, logits, labels, n, NULL), DRR_OK);
    const critic_meta meta = fitted(&c, 1);
    near(meta.calibration.a, expected.a, 1e-6);
    near(meta.calibration.b, expected.b, 1e-6);
    near(meta.calibration.a, 0.5, 0.15); /* what the rows were made with, less what their unknown ease takes off */
    free(logits);
    free(labels);
    corpus_clear(&c);
}

static void the_stack_weighs_logit_and_agreement_and_nothing_unknown(void **state)
{
    (void)state;
    corpus c = made_corpus(2, SAMPLES);
    drr_train_result result = {0};
    const critic_meta meta = fitted(&c, 1);
    assert_true(meta.has_stack);
    assert_true(meta.stack.weight[feature("text_logit")] > 0.5);
    assert_true(meta.stack.weight[feature("agreement_logodds")] > 0.5);
    assert_true(meta.stack.weight[feature("is_parsed")] > 0);
    near(meta.stack.weight[feature("logprob_mean")], 0, 1e-12); /* never known */
    near(meta.stack.weight[feature("log_tokens")], 0, 1e-12);   /* always the same */
    assert_int_equal(judge_measure(&result, NULL, &meta, &c, NULL), DRR_OK);
    print_message("AUROC: text %.3f, vote %.3f, stack %.3f\n", result.auroc_text, result.auroc_vote,
                  result.auroc_stack);
    assert_true(result.auroc_stack > result.auroc_text + 0.03);
    assert_true(result.auroc_stack > result.auroc_vote + 0.005);
    assert_true(result.ece < 0.1);
    corpus_clear(&c);
}

/* P(correct) of rows[at[k]] when those before it are known; below 0 when it cannot be read. */
static double p_given(const critic_meta *meta, const corpus *c, const size_t *at, size_t k)
{
    const corpus_row *row = &c->rows[at[k]];
    drr_features f;
    drr_features_defaults(&f);
    f.stats = row->trace.stats;
    f.n_tokens = row->trace.n_tokens;
    f.parsed = row->trace.answer != NULL;
    f.n_others = (uint32_t)k;
    for (size_t i = 0; i < k; i++)
        f.n_agree +=
            f.parsed && c->rows[at[i]].trace.answer && strcmp(row->trace.answer, c->rows[at[i]].trace.answer) == 0;
    return f.parsed ? p_of(meta, row, &f) : -1;
}

static double votes_of(const critic_meta *meta, const corpus *c, const size_t *at, size_t n, const char *answer)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (c->rows[at[i]].trace.answer && strcmp(c->rows[at[i]].trace.answer, answer) == 0)
            sum += p_given(meta, c, &at[i], 0);
    return sum;
}

/* Is drr right that tries at[0], at[1], ... until one is accepted, and else votes? */
static bool try_in_turn(const critic_meta *meta, const corpus *c, const size_t *at, size_t n, double threshold)
{
    double most = -1;
    bool right = false;
    for (size_t k = 0; k < n; k++)
        if (p_given(meta, c, at, k) >= threshold)
            return is_right(&c->rows[at[k]]);
    for (size_t k = 0; k < n; k++) {
        const char *answer = c->rows[at[k]].trace.answer;
        const double votes = answer ? votes_of(meta, c, at, n, answer) : -1;
        if (answer && votes > most + 1e-12) {
            most = votes;
            right = is_right(&c->rows[at[k]]);
        }
    }
    return right;
}

/* Share of dev questions right, each begun at each of its answers. */
static double right_at(double threshold, const critic_meta *meta, const corpus *c)
{
    double right = 0, n = 0;
    for (size_t i = 0; i < c->n; i++) {
        size_t at[SAMPLES], later = 0, before = 0;
        if (c->rows[i].part != CORPUS_DEV)
            continue;
        at[later++] = i;
        for (size_t j = i + 1; j < c->n; j++)
            if (fellows(&c->rows[i], &c->rows[j]))
                at[later++] = j;
        for (size_t j = 0; j < i; j++)
            if (fellows(&c->rows[i], &c->rows[j]))
                at[later + before++] = j;
        right += try_in_turn(meta, c, at, later + before, threshold);
        n++;
    }
    return right / n;
}

static void the_threshold_is_the_lowest_that_is_all_but_the_best_on_dev(void **state)
{
    (void)state;
    corpus c = made_corpus(3, SAMPLES);
    const critic_meta meta = fitted(&c, 1);
    const double chosen = right_at(meta.threshold, &meta, &c), lower = right_at(meta.threshold - 0.005, &meta, &c);
    double best = 0;
    for (int t = 0; t <= 200; t += 2)
        best = fmax(best, right_at(t / 200.0, &meta, &c));
    print_message("threshold %.3f: %.4f right on dev, best %.4f, just below it %.4f, accepting all %.4f\n",
                  meta.threshold, chosen, best, lower, right_at(0, &meta, &c));
    assert_true(chosen >= best - 0.005 - 1e-9);
    assert_true(lower < chosen);
    assert_true(chosen > right_at(0, &meta, &c) + 0.02); /* and it is worth something */
    corpus_clear(&c);
}

static void without_second_answers_the_threshold_is_a_half(void **state)
{
    (void)state;
    corpus c = made_corpus(4, 1);
    drr_train_result result = {0};
    const critic_meta meta = fitted(&c, 1);
    near(meta.threshold, 0.5, 0);
    assert_int_equal(judge_measure(&result, NULL, &meta, &c, NULL), DRR_OK);
    assert_true(isnan(result.auroc_vote)); /* nobody to vote with */
    assert_true(result.auroc_text > 0.5 && result.auroc_stack > 0.5);
    corpus_clear(&c);
}

static void fitting_is_of_the_seed_and_never_of_test_rows(void **state)
{
    (void)state;
    corpus c = made_corpus(5, SAMPLES);
    const critic_meta first = fitted(&c, 1), other = fitted(&c, 2);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].part == CORPUS_TEST) {
            c.rows[i].logit = -c.rows[i].logit;
            c.rows[i].trace.label = is_right(&c.rows[i]) ? DRR_LABEL_REJECT : DRR_LABEL_ACCEPT;
        }
    const critic_meta again = fitted(&c, 1);
    assert_memory_equal(&first.stack, &again.stack, sizeof first.stack);
    assert_memory_equal(&first.calibration, &again.calibration, sizeof first.calibration);
    assert_memory_equal(&first.threshold, &again.threshold, sizeof first.threshold);
    assert_memory_not_equal(&first.stack, &other.stack, sizeof first.stack); /* which others are drawn */
    corpus_clear(&c);
}

/* ---- measuring */

typedef struct columns { /* of the rows of a part */
    double logit[ROWS], p[ROWS], length[ROWS], vote[ROWS];
    uint8_t label[ROWS];
    size_t n;
} columns;

static void columns_of(columns *x, const corpus *c, corpus_part part, const critic_meta *meta)
{
    x->n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const corpus_row *row = &c->rows[i];
        if (row->part != part)
            continue;
        const drr_features f = features_with_all(c, row);
        x->logit[x->n] = row->logit;
        x->p[x->n] = p_of(meta, row, &f);
        x->length[x->n] = (double)strlen(row->trace.text);
        x->vote[x->n] = f.parsed ? (1.0 + f.n_agree) / (1.0 + f.n_others) : 0;
        x->label[x->n++] = is_right(row);
    }
}

static double auroc_by_pairs(const double *scores, const columns *x)
{
    double won = 0, pairs = 0;
    for (size_t i = 0; i < x->n; i++)
        for (size_t j = 0; j < x->n; j++)
            if (x->label[i] && !x->label[j]) {
                pairs++;
                won += scores[i] > scores[j] ? 1 : scores[i] < scores[j] ? 0 : 0.5;
            }
    return won / pairs;
}

/* The same of pairs that answer one question by one reasoner. */
static double within_by_pairs(const double *scores, const columns *x, const corpus *c, corpus_part part)
{
    double won = 0, pairs = 0;
    for (size_t i = 0, a = 0; i < c->n; i++) {
        if (c->rows[i].part != part)
            continue;
        for (size_t k = 0, b = 0; k < c->n; k++) {
            if (c->rows[k].part != part)
                continue;
            if (x->label[a] && !x->label[b] && fellows(&c->rows[i], &c->rows[k])) {
                pairs++;
                won += scores[a] > scores[b] ? 1 : scores[a] < scores[b] ? 0 : 0.5;
            }
            b++;
        }
        a++;
    }
    return won / pairs;
}

static void pairs_within_a_question_are_counted_by_themselves(void **state)
{
    (void)state;
    static columns test, dev;
    drr_train_result result = {0};
    corpus c = made_corpus(8, SAMPLES);
    const critic_meta meta = fitted(&c, 1);
    columns_of(&test, &c, CORPUS_TEST, &meta);
    columns_of(&dev, &c, CORPUS_DEV, &meta);
    assert_int_equal(judge_measure(&result, NULL, &meta, &c, NULL), DRR_OK);
    near(result.within_text.share, within_by_pairs(test.logit, &test, &c, CORPUS_TEST), 1e-9);
    near(result.within_stack.share, within_by_pairs(test.p, &test, &c, CORPUS_TEST), 1e-9);
    near(result.within_vote.share, within_by_pairs(test.vote, &test, &c, CORPUS_TEST), 1e-9);
    assert_true(within_by_pairs(dev.length, &dev, &c, CORPUS_DEV) < 0.4);
    near(result.within_length.share, 1 - within_by_pairs(test.length, &test, &c, CORPUS_TEST), 1e-9);
    assert_true(result.within_length.low < result.within_length.share);
    assert_true(result.within_length.share < result.within_length.high);
    assert_true(result.within_text.n_pairs > 100 && result.within_text.n_questions <= (QUESTIONS + 2) / 3);
    assert_true(result.within_text.low > 0.5 && result.within_text.high < 1);
    corpus_clear(&c);
}

static void figures_are_those_of_counting_pairs(void **state)
{
    (void)state;
    static columns test, dev;
    drr_train_result result = {0};
    corpus c = made_corpus(6, SAMPLES);
    const critic_meta meta = fitted(&c, 1);
    double brier = 0;
    columns_of(&test, &c, CORPUS_TEST, &meta);
    columns_of(&dev, &c, CORPUS_DEV, &meta);
    assert_int_equal(judge_measure(&result, NULL, &meta, &c, NULL), DRR_OK);
    for (size_t i = 0; i < test.n; i++)
        brier += (test.p[i] - test.label[i]) * (test.p[i] - test.label[i]) / (double)test.n;
    near(result.auroc_text, auroc_by_pairs(test.logit, &test), 1e-9);
    near(result.auroc_stack, auroc_by_pairs(test.p, &test), 1e-9);
    near(result.auroc_vote, auroc_by_pairs(test.vote, &test), 1e-9);
    assert_true(auroc_by_pairs(dev.length, &dev) < 0.4); /* short is right, and dev says so */
    near(result.auroc_length, 1 - auroc_by_pairs(test.length, &test), 1e-9);
    near(result.brier, brier, 1e-9);
    near(result.auprc, statistics_auprc(test.p, test.label, test.n), 1e-9);
    near(result.ece, statistics_ece(test.p, test.label, test.n), 1e-9);
    corpus_clear(&c);
}

static void without_test_rows_the_figures_are_not_numbers(void **state)
{
    (void)state;
    drr_train_result result = {0};
    corpus c = made_corpus(7, SAMPLES);
    const critic_meta meta = fitted(&c, 1);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].part == CORPUS_TEST)
            c.rows[i].part = CORPUS_UNUSED;
    assert_int_equal(judge_measure(&result, NULL, &meta, &c, NULL), DRR_OK);
    assert_true(isnan(result.auroc_text) && isnan(result.auroc_stack) && isnan(result.auroc_vote));
    assert_true(isnan(result.auroc_length) && isnan(result.auprc) && isnan(result.brier) && isnan(result.ece));
    corpus_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calibration_is_that_of_the_dev_logits),
        cmocka_unit_test(the_stack_weighs_logit_and_agreement_and_nothing_unknown),
        cmocka_unit_test(the_threshold_is_the_lowest_that_is_all_but_the_best_on_dev),
        cmocka_unit_test(without_second_answers_the_threshold_is_a_half),
        cmocka_unit_test(fitting_is_of_the_seed_and_never_of_test_rows),
        cmocka_unit_test(pairs_within_a_question_are_counted_by_themselves),
        cmocka_unit_test(figures_are_those_of_counting_pairs),
        cmocka_unit_test(without_test_rows_the_figures_are_not_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
