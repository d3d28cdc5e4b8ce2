/* promise.c: the threshold of which it can be said, with confidence 1 - delta, that of the answers accepted at it at
 * most a share A is wrong: Learn-then-Test (arXiv 2110.01052) on questions kept for nothing else.
 *
 * The p-value needs independent losses, and answers to one question are not. So a question is acted out once: one of
 * its reasoners and one order of its fresh answers are drawn, drr runs over them, and what comes of it is the
 * question's one loss: accepted and wrong, accepted and right, or not accepted. Given which questions are accepted at a
 * threshold, their losses are independent and 1 with probability "wrong if accepted", so that the p-value of the
 * accepted alone is valid. (Acting out every order and taking a question's mean is valid too, with A for a question
 * that is not accepted, but h is convex: over all n questions n h(mean) is never more than it is over the accepted
 * alone.)
 *
 * Thresholds are tested in one sequence that dev chooses: from the one that dev is surest of downwards, which accepts
 * more and more, until the first that cannot be rejected. The last one before it accepts most. Nothing of the sequence
 * depends on the questions it is tested on, so no correction for the number of thresholds is due. */
#include "core/risk.h"
#include "train/judge_internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_THRESHOLDS = 200, USUAL_TURNS = 5 };

/* ---- acting out */

static bool is_fresh(const groups *g, size_t i)
{
    return g->c->rows[g->rows[i]].trace.turn == 0;
}

static size_t count_fresh(const groups *g, size_t begin)
{
    size_t n = 0;
    for (size_t i = begin; i < g->end[begin]; i++)
        n += is_fresh(g, i);
    return n;
}

/* The end of the question that begins at row `begin`. */
static size_t question_end(const groups *g, size_t begin)
{
    size_t end = begin;
    while (end < g->n && g->c->rows[g->rows[end]].question == g->c->rows[g->rows[begin]].question)
        end = g->end[end];
    return end;
}

/* Draws one of the question's groups that have enough fresh answers; g->n when none has. */
static size_t draw_group(const groups *g, size_t begin, uint32_t turns, rng *r)
{
    size_t drawn = g->n, n = 0;
    for (size_t i = begin; i < question_end(g, begin); i = g->end[i])
        if (count_fresh(g, i) >= turns && rng_below(r, ++n) == 0)
            drawn = i;
    return drawn;
}

static void act_out(trial *t, const critic_meta *meta, groups *g, size_t begin, uint32_t turns, rng *r)
{
    size_t n = 0;
    for (size_t i = begin; i < g->end[begin]; i++)
        if (is_fresh(g, i))
            g->others[n++] = i;
    rng_shuffle(r, g->others, n);
    t->n = turns;
    for (uint32_t k = 0; k < turns; k++) {
        const drr_trace *trace = &g->c->rows[g->rows[g->others[k]]].trace;
        t->p[k] = judge_parsed(trace) ? groups_judge(meta, g, g->others[k], g->others, k) : -1;
        t->right[k] = judge_label(trace);
    }
}

/* The one temperature that all fresh answers were drawn at; NaN where there are several or one is not known. */
static double temperature_of(const groups *g)
{
    double temperature = NAN;
    bool first = true;
    for (size_t i = 0; i < g->n; i++) {
        const double t = (double)g->c->rows[g->rows[i]].trace.temperature;
        if (!is_fresh(g, i))
            continue;
        if (!isfinite(t) || (!first && fabs(t - temperature) > 0))
            return NAN;
        temperature = t;
        first = false;
    }
    return temperature;
}

drr_status trials_new(trials *t, const critic_meta *meta, const corpus *c, corpus_part part, uint32_t turns,
                      uint64_t seed, drr_error *err)
{
    groups g = {0};
    *t = (trials){.temperature = NAN};
    drr_status status = groups_new(&g, c, part, err);
    if (status != DRR_OK)
        return status;
    t->at = calloc(g.n + 1, sizeof *t->at);
    for (size_t i = 0; t->at && i < g.n; i = question_end(&g, i)) {
        rng r;
        rng_seed(&r, hash_mix(seed, hash_string(0, c->rows[g.rows[i]].trace.question)));
        const size_t group = draw_group(&g, i, turns, &r);
        if (group < g.n)
            act_out(&t->at[t->n++], meta, &g, group, turns, &r);
    }
    t->temperature = temperature_of(&g);
    groups_clear(&g);
    return t->at ? DRR_OK : error_memory(err);
}

void trials_clear(trials *t)
{
    free(t->at);
    *t = (trials){0};
}

drr_status trials_turns(uint32_t *turns, const corpus *c, corpus_part part, drr_error *err)
{
    groups g = {0};
    size_t questions = 0, with[USUAL_TURNS + 1] = {0};
    drr_status status = groups_new(&g, c, part, err);
    if (status != DRR_OK)
        return status;
    for (size_t i = 0; i < g.n; i = question_end(&g, i), questions++) {
        size_t most = 0;
        for (size_t k = i; k < question_end(&g, i); k = g.end[k])
            most = count_fresh(&g, k) > most ? count_fresh(&g, k) : most;
        for (size_t n = 1; n <= USUAL_TURNS; n++)
            with[n] += most >= n;
    }
    *turns = USUAL_TURNS;
    while (*turns > 1 && 10 * with[*turns] < 9 * questions)
        --*turns;
    groups_clear(&g);
    return DRR_OK;
}

/* ---- thresholds */

void trials_count(uint64_t *accepted, uint64_t *wrong, const trials *t, double threshold)
{
    *accepted = *wrong = 0;
    for (size_t i = 0; i < t->n; i++)
        for (uint32_t k = 0; k < t->at[i].n; k++)
            if (t->at[i].p[k] >= threshold) {
                ++*accepted;
                *wrong += !t->at[i].right[k];
                break;
            }
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Falling thresholds: evenly spaced ones of the P(correct) that the trials gave. Room for MOST_THRESHOLDS. */
static drr_status list_thresholds(double *list, size_t *n, const trials *t, drr_error *err)
{
    size_t n_p = 0;
    double *p = calloc(t->n * MOST_TRIES + 1, sizeof *p);
    if (!p)
        return error_memory(err);
    for (size_t i = 0; i < t->n; i++)
        for (uint32_t k = 0; k < t->at[i].n; k++)
            if (t->at[i].p[k] >= 0)
                p[n_p++] = t->at[i].p[k];
    qsort(p, n_p, sizeof *p, falling);
    *n = 0;
    for (size_t i = 0; i < MOST_THRESHOLDS && n_p; i++) {
        const double next = p[i * (n_p - 1) / (MOST_THRESHOLDS - 1)];
        if (*n == 0 || next < list[*n - 1])
            list[(*n)++] = next;
    }
    for (size_t i = 0; n_p == 0 && i < 100; i++) /* nothing to learn from: plain ones */
        list[(*n)++] = 0.995 - (double)i / 100;
    free(p);
    return DRR_OK;
}

static double test_at(const drr_guarantee *g, const trials *t, double threshold, uint64_t *accepted, uint64_t *wrong)
{
    trials_count(accepted, wrong, t, threshold);
    return risk_p_value(g->test, *accepted, (double)*wrong, g->target_error);
}

/* The threshold that dev is surest of; of equally sure ones that with the smaller share wrong, then the higher. */
static size_t surest(const drr_guarantee *g, const trials *dev, const double *list, size_t n)
{
    size_t best = 0;
    double p_best = INFINITY, share_best = INFINITY;
    for (size_t i = 0; i < n; i++) {
        uint64_t accepted, wrong;
        const double p = test_at(g, dev, list[i], &accepted, &wrong);
        const double share = accepted ? (double)wrong / (double)accepted : 1;
        if (p < p_best || (p <= p_best && share < share_best)) {
            best = i;
            p_best = p;
            share_best = share;
        }
    }
    return best;
}

static void describe(drr_guarantee *g, const trials *tested, double threshold)
{
    g->n = tested->n;
    g->threshold = threshold;
    g->temperature = tested->temperature;
    g->p_value = test_at(g, tested, threshold, &g->n_accepted, &g->n_wrong);
    g->bound = risk_bound(g->test, g->n_accepted, (double)g->n_wrong, g->delta);
    g->n_needed = 0;
    if (g->found || g->n_accepted == 0)
        return;
    const double share = (double)g->n_wrong / (double)g->n_accepted;
    const uint64_t accepted = risk_needed(g->test, share, g->target_error, g->delta);
    g->n_needed = (uint64_t)ceil((double)accepted * (double)g->n / (double)g->n_accepted);
}

drr_status promise_find(drr_guarantee *g, const trials *dev, const trials *tested, drr_error *err)
{
    double list[MOST_THRESHOLDS], p[MOST_THRESHOLDS];
    size_t n = 0;
    drr_status status = list_thresholds(list, &n, dev, err);
    if (status != DRR_OK)
        return status;
    const size_t first = surest(g, dev, list, n);
    for (size_t i = first; i < n; i++) {
        uint64_t accepted, wrong;
        p[i - first] = test_at(g, tested, list[i], &accepted, &wrong);
    }
    const size_t rejected = risk_fixed_sequence(p, n - first, g->delta);
    g->found = rejected > 0;
    describe(g, tested, list[first + (rejected ? rejected - 1 : 0)]);
    return DRR_OK;
}

/* ---- for a critic in training */

/* Of one length of the loop; what the test questions then make of it is no part of it. */
static drr_status promise_turns(drr_train_result *r, const critic_meta *meta, const corpus *c,
                                const drr_train_options *o, uint32_t turns, drr_error *err)
{
    trials dev = {0}, kept = {0}, test = {0};
    const uint32_t which = r->n_guarantees;
    drr_guarantee *g = &r->guarantees[which];
    *g = (drr_guarantee){.turns = turns, .target_error = o->target_error, .delta = o->delta, .test = o->risk_test};
    drr_status status = trials_new(&dev, meta, c, CORPUS_DEV, turns, o->seed, err);
    if (status == DRR_OK)
        status = trials_new(&kept, meta, c, CORPUS_GUARANTEE, turns, o->seed, err);
    if (status == DRR_OK)
        status = trials_new(&test, meta, c, CORPUS_TEST, turns, o->seed, err);
    if (status == DRR_OK)
        status = promise_find(g, &dev, &kept, err);
    if (status == DRR_OK) {
        r->kept[which].n = test.n;
        trials_count(&r->kept[which].n_accepted, &r->kept[which].n_wrong, &test, g->threshold);
        r->n_guarantees++;
    }
    trials_clear(&dev);
    trials_clear(&kept);
    trials_clear(&test);
    return status;
}

drr_status promise_make(critic_meta *meta, drr_train_result *r, const corpus *c, const drr_train_options *o,
                        drr_error *err)
{
    uint32_t turns = o->guarantee_turns;
    drr_status status = turns ? DRR_OK : trials_turns(&turns, c, CORPUS_GUARANTEE, err);
    r->n_guarantees = meta->n_guarantees = 0;
    if (status == DRR_OK)
        status = promise_turns(r, meta, c, o, 1, err);
    if (status == DRR_OK && turns > 1)
        status = promise_turns(r, meta, c, o, turns, err);
    if (status != DRR_OK)
        return status;
    for (uint32_t i = 0; i < r->n_guarantees; i++)
        if (r->guarantees[i].found)
            meta->guarantees[meta->n_guarantees++] = r->guarantees[i];
    if (r->guarantees[r->n_guarantees - 1].found)
        meta->threshold = r->guarantees[r->n_guarantees - 1].threshold;
    return DRR_OK;
}
