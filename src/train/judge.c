/* judge.c: what turns an encoder's logit into a decision: calibration, the stack and the accept threshold, all
 * fitted on dev questions that the encoder has not trained on. Figures on test questions are held_out.c's, what can be
 * promised promise.c's. (Cross-fitting the encoder would use every question, at the price of as many encoders as folds:
 * so a share of the questions is kept for this instead. The stack costs nothing, and so its calibration is fitted on
 * what stacks of other questions say.)
 *
 * Agreement with other answers is known to a different extent each time the critic is asked: a first turn has nothing
 * to agree with, a vote of ten has nine. So each dev trace enters the stack's fit several times, each time with another
 * random part of the other answers to its question by the same reasoner (none, all, and some), and with a weight that
 * makes it count once. */
#include "train/judge_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DRAWS = 4,  /* rows of one trace: none of the others, all, and two random parts */
    GRID = 200, /* thresholds tried */
    FOLDS = 5   /* of dev questions, for picking a calibration */
};
#define TOLERANCE 0.005 /* of accuracy: half a point */

/* Moves `known` of the n others, drawn at random, to the front. */
static void draw(size_t *others, size_t n, size_t known, rng *r)
{
    for (size_t k = 0; k < known; k++) {
        const size_t j = k + (size_t)rng_below(r, n - k), drawn = others[j];
        others[j] = others[k];
        others[k] = drawn;
    }
}

/* A question's fold: rows of one question are never parted. */
static uint8_t fold_of(size_t question, uint64_t seed)
{
    return (uint8_t)(hash_mix(seed, question) % FOLDS);
}

/* ---- the stack */

typedef struct stack_rows {            /* n rows of STACK_MAX_FEATURES values */
    double *values, *weights, *logits; /* logits: what a stack fitted without the row's fold gives it */
    uint8_t *labels, *folds;
    size_t n;
} stack_rows;

static void stack_rows_clear(stack_rows *r)
{
    free(r->values);
    free(r->weights);
    free(r->logits);
    free(r->labels);
    free(r->folds);
    *r = (stack_rows){0};
}

static drr_status stack_rows_new(stack_rows *r, size_t most, drr_error *err)
{
    *r = (stack_rows){.values = calloc(most + 1, STACK_MAX_FEATURES * sizeof(double)),
                      .weights = calloc(most + 1, sizeof(double)),
                      .logits = calloc(most + 1, sizeof(double)),
                      .labels = calloc(most + 1, 1),
                      .folds = calloc(most + 1, 1)};
    if (r->values && r->weights && r->logits && r->labels && r->folds)
        return DRR_OK;
    stack_rows_clear(r);
    return error_memory(err);
}

static void gather_stack_rows(stack_rows *r, groups *g, bool no_text, uint64_t seed)
{
    for (size_t i = 0; i < g->n; i++) {
        const corpus_row *row = &g->c->rows[g->rows[i]];
        const size_t others = groups_others(g, i), draws = others ? DRAWS : 1;
        rng random;
        rng_seed(&random, hash_mix(seed, g->rows[i]));
        for (size_t d = 0; d < draws; d++, r->n++) {
            const size_t known = d == 0 ? 0 : d == 1 ? others : 1 + (size_t)rng_below(&random, others);
            draw(g->others, others, known, &random);
            const drr_features f = groups_features(g, i, g->others, known);
            stack_features(r->values + r->n * STACK_MAX_FEATURES, no_text ? NAN : row->logit, &f);
            r->labels[r->n] = judge_label(&row->trace);
            r->weights[r->n] = 1 / (double)draws;
            r->folds[r->n] = fold_of(row->question, seed);
        }
    }
}

/* Gives each row the logit of a stack that was fitted on the other folds. */
static drr_status cross_fit(stack_rows *r, drr_error *err)
{
    stack_rows others;
    drr_status status = stack_rows_new(&others, r->n, err);
    for (uint8_t fold = 0; status == DRR_OK && fold < FOLDS; fold++) {
        const size_t bytes = STACK_MAX_FEATURES * sizeof(double);
        stack_model model;
        others.n = 0;
        for (size_t i = 0; i < r->n; i++) {
            if (r->folds[i] == fold)
                continue;
            memcpy(others.values + others.n * STACK_MAX_FEATURES, r->values + i * STACK_MAX_FEATURES, bytes);
            others.weights[others.n] = r->weights[i];
            others.labels[others.n++] = r->labels[i];
        }
        if (others.n == r->n)
            continue; /* an empty fold */
        status = stack_fit(&model, others.values, others.labels, others.weights, others.n, 1.0, err);
        for (size_t i = 0; status == DRR_OK && i < r->n; i++)
            if (r->folds[i] == fold)
                r->logits[i] = stack_logit(&model, r->values + i * STACK_MAX_FEATURES);
    }
    stack_rows_clear(&others);
    return status;
}

/* Is there a question in each fold? With fewer there is nothing to pick a calibration by. */
static bool folds_are_filled(const uint8_t *folds, size_t n)
{
    bool seen[FOLDS] = {false};
    bool all = true;
    for (size_t i = 0; i < n; i++)
        seen[folds[i]] = true;
    for (size_t f = 0; f < FOLDS; f++)
        all = all && seen[f];
    return all;
}

static drr_status fit_stack(critic_meta *meta, drr_calibration_figures *figures, groups *g, uint64_t seed,
                            drr_error *err)
{
    stack_rows r;
    drr_status status = stack_rows_new(&r, g->n * DRAWS, err);
    if (status != DRR_OK)
        return status;
    gather_stack_rows(&r, g, meta->no_encoder, seed);
    status = stack_fit(&meta->stack, r.values, r.labels, r.weights, r.n, 1.0, err);
    meta->has_stack = status == DRR_OK;
    if (status == DRR_OK && folds_are_filled(r.folds, r.n)) {
        status = cross_fit(&r, err);
        if (status == DRR_OK)
            status = calibration_choose(&meta->stack_calibration, figures->dev_log_loss, CALIBRATION_NONE, r.logits,
                                        r.labels, r.weights, r.folds, FOLDS, r.n, err);
        if (status == DRR_OK)
            meta->has_stack_calibration = calibration_kind_of(&meta->stack_calibration) != CALIBRATION_NONE;
    }
    figures->picked = calibration_name(meta->has_stack_calibration ? calibration_kind_of(&meta->stack_calibration)
                                                                   : CALIBRATION_NONE);
    stack_rows_clear(&r);
    return status;
}

/* ---- the threshold: drr with fresh retries, acted out on dev */

typedef struct episode { /* one question, its fresh answers tried in one order */
    size_t first, n;     /* steps */
    uint8_t fallback;    /* is the weighted vote over all of them right? */
} episode;
typedef struct rehearsal {
    episode *episodes;
    double *p;      /* of each step, given the steps before it; below 0: cannot be read, never accepted */
    uint8_t *right; /* of each step */
    size_t n, n_steps;
} rehearsal;

/* Is the answer right that gets the largest sum of P(correct), each step blind to the others? */
static uint8_t vote_is_right(const critic_meta *meta, const groups *g, const size_t *steps, size_t n)
{
    double most = -1;
    uint8_t right = 0;
    for (size_t a = 0; a < n; a++) {
        const drr_trace *t = &g->c->rows[g->rows[steps[a]]].trace;
        double sum = 0;
        for (size_t b = 0; b < n && judge_parsed(t); b++) {
            const drr_trace *other = &g->c->rows[g->rows[steps[b]]].trace;
            if (judge_parsed(other) && drr_answer_equal(t->kind, t->answer, other->answer))
                sum += groups_judge(meta, g, steps[b], NULL, 0);
        }
        if (judge_parsed(t) && sum > most + 1e-12) {
            most = sum;
            right = judge_label(t);
        }
    }
    return right;
}

static void rehearse(rehearsal *r, const critic_meta *meta, const groups *g, const size_t *steps, size_t n)
{
    r->episodes[r->n++] = (episode){r->n_steps, n, vote_is_right(meta, g, steps, n)};
    for (size_t k = 0; k < n; k++) {
        const drr_trace *t = &g->c->rows[g->rows[steps[k]]].trace;
        r->p[r->n_steps] = judge_parsed(t) ? groups_judge(meta, g, steps[k], steps, k) : -1;
        r->right[r->n_steps++] = judge_label(t);
    }
}

/* Every question with two fresh answers or more, begun at each of them. */
static void rehearse_all(rehearsal *r, const critic_meta *meta, groups *g, size_t *steps)
{
    for (size_t i = 0; i < g->n; i = g->end[i]) {
        size_t n = 0;
        for (size_t k = g->begin[i]; k < g->end[i] && n < MOST_TRIES; k++)
            if (g->c->rows[g->rows[k]].trace.turn == 0)
                g->others[n++] = k;
        for (size_t start = 0; n > 1 && start < n; start++) {
            for (size_t k = 0; k < n; k++)
                steps[k] = g->others[(start + k) % n];
            rehearse(r, meta, g, steps, n);
        }
    }
}

static double rehearsed_accuracy(const rehearsal *r, double threshold)
{
    double right = 0;
    for (size_t e = 0; e < r->n; e++) {
        const episode *x = &r->episodes[e];
        uint8_t outcome = x->fallback;
        for (size_t k = 0; k < x->n; k++)
            if (r->p[x->first + k] >= threshold) {
                outcome = r->right[x->first + k];
                break;
            }
        right += outcome;
    }
    return right / (double)r->n;
}

/* The lowest of the thresholds that come within TOLERANCE of the most accurate one: above it tries are spent for
 * little. 0.5 where no question has two answers. */
static double best_threshold(const rehearsal *r)
{
    double accuracy[GRID + 1], best = 0;
    if (r->n == 0)
        return 0.5;
    for (size_t i = 0; i <= GRID; i++) {
        accuracy[i] = rehearsed_accuracy(r, (double)i / GRID);
        best = fmax(best, accuracy[i]);
    }
    for (size_t i = 0; i <= GRID; i++)
        if (accuracy[i] >= best - TOLERANCE)
            return (double)i / GRID;
    return 0.5;
}

static drr_status choose_threshold(critic_meta *meta, groups *g, drr_error *err)
{
    const size_t most = g->n * MOST_TRIES + 1;
    rehearsal r = {
        .episodes = calloc(g->n + 1, sizeof *r.episodes), .p = calloc(most, sizeof *r.p), .right = calloc(most, 1)};
    size_t steps[MOST_TRIES];
    drr_status status = r.episodes && r.p && r.right ? DRR_OK : error_memory(err);
    if (status == DRR_OK) {
        rehearse_all(&r, meta, g, steps);
        meta->threshold = best_threshold(&r);
    }
    free(r.episodes);
    free(r.p);
    free(r.right);
    return status;
}

/* ---- all of it */

static drr_status fit_text(critic_meta *meta, drr_calibration_figures *figures, const groups *g, uint64_t seed,
                           drr_error *err)
{
    double *logits = calloc(g->n + 1, sizeof *logits);
    uint8_t *labels = calloc(g->n + 1, 1), *folds = calloc(g->n + 1, 1);
    calibration text = {0};
    drr_status status = logits && labels && folds ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < g->n; i++) {
        const corpus_row *row = &g->c->rows[g->rows[i]];
        logits[i] = row->logit;
        labels[i] = judge_label(&row->trace);
        folds[i] = fold_of(row->question, seed);
    }
    if (status == DRR_OK)
        status = folds_are_filled(folds, g->n)
                     ? calibration_choose(&text, figures->dev_log_loss, CALIBRATION_TEMPERATURE, logits, labels, NULL,
                                          folds, FOLDS, g->n, err)
                     : calibration_fit(&text, CALIBRATION_PLATT, logits, labels, NULL, g->n, err);
    if (status == DRR_OK) {
        meta->calibration = text.line;
        meta->text_curve = text.steps;
        figures->picked = calibration_name(calibration_kind_of(&text));
        critic_quantiles_make(meta, logits, g->n); /* which sorts them: the last that is asked of them */
    }
    free(logits);
    free(labels);
    free(folds);
    return status;
}

drr_status judge_fit(critic_meta *meta, drr_train_result *result, const corpus *c, uint64_t seed, drr_error *err)
{
    groups g = {0};
    drr_calibration_figures text = {.picked = "none", .dev_log_loss = {NAN, NAN, NAN, NAN}}, stack = text;
    drr_status status = groups_new(&g, c, CORPUS_DEV, err);
    if (status != DRR_OK)
        return status;
    status = fit_text(meta, &text, &g, seed, err);
    if (status == DRR_OK && !result->text_alone)
        status = fit_stack(meta, &stack, &g, seed, err);
    if (status == DRR_OK)
        status = choose_threshold(meta, &g, err);
    if (status == DRR_OK) {
        result->text_calibration = text;
        result->stack_calibration = stack;
    }
    groups_clear(&g);
    return status;
}
