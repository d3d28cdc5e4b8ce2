/* judge.c: what turns an encoder's logit into a decision: Platt calibration, the stack and the accept threshold, all
 * fitted on dev questions that the encoder has not trained on; and the figures on test questions that nothing was
 * fitted on. (Cross-fitting would use every question, at the price of as many encoders as folds: so a share of the
 * questions is kept for this instead.)
 *
 * Agreement with other answers is known to a different extent each time the critic is asked: a first turn has nothing
 * to agree with, a vote of ten has nine. So each dev trace enters the stack's fit several times, each time with another
 * random part of the other answers to its question by the same reasoner (none, all, and some), and with a weight that
 * makes it count once. */
#include "core/statistics.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DRAWS = 4,      /* rows of one trace: none of the others, all, and two random parts */
    MOST_TRIES = 8, /* fresh answers of a question that a rehearsal takes */
    GRID = 200      /* thresholds tried */
};
#define TOLERANCE 0.005 /* of accuracy: half a point */

static bool parsed(const drr_trace *t)
{
    return t->label != DRR_LABEL_UNPARSED && t->answer;
}

static uint8_t label_of(const drr_trace *t)
{
    return t->label == DRR_LABEL_ACCEPT; /* an answer that cannot be read is not one to accept */
}

/* The rows of one part, those that answer one question by one reasoner side by side. */
typedef struct groups {
    const corpus *c;
    size_t *rows, n;
    size_t *begin, *end; /* rows[begin[i]] .. rows[end[i] - 1] is the group of rows[i] */
    size_t *others;      /* scratch for one group */
} groups;

static int row_compare(const void *a, const void *b, void *context)
{
    const corpus *c = context;
    const corpus_row *x = &c->rows[*(const size_t *)a], *y = &c->rows[*(const size_t *)b];
    if (x->question != y->question)
        return x->question < y->question ? -1 : 1;
    const int names = strcmp(x->trace.reasoner ? x->trace.reasoner : "", y->trace.reasoner ? y->trace.reasoner : "");
    return names ? names : (x > y) - (x < y);
}

static bool same_group(const corpus *c, size_t a, size_t b)
{
    const char *x = c->rows[a].trace.reasoner, *y = c->rows[b].trace.reasoner;
    return c->rows[a].question == c->rows[b].question && strcmp(x ? x : "", y ? y : "") == 0;
}

static void groups_clear(groups *g)
{
    free(g->rows);
    free(g->begin);
    free(g->end);
    free(g->others);
    *g = (groups){0};
}

static drr_status groups_new(groups *g, const corpus *c, corpus_part part, drr_error *err)
{
    *g = (groups){.c = c,
                  .rows = calloc(c->n + 1, sizeof *g->rows),
                  .begin = calloc(c->n + 1, sizeof *g->begin),
                  .end = calloc(c->n + 1, sizeof *g->end),
                  .others = calloc(c->n + 1, sizeof *g->others)};
    if (!g->rows || !g->begin || !g->end || !g->others) {
        groups_clear(g);
        return error_memory(err);
    }
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == part)
            g->rows[g->n++] = i;
    qsort_r(g->rows, g->n, sizeof *g->rows, row_compare, (void *)(uintptr_t)c);
    for (size_t i = 0, end; i < g->n; i = end) {
        for (end = i + 1; end < g->n && same_group(c, g->rows[i], g->rows[end]); end++)
            ;
        for (size_t k = i; k < end; k++) {
            g->begin[k] = i;
            g->end[k] = end;
        }
    }
    return DRR_OK;
}

static bool same_conversation(const drr_trace *a, const drr_trace *b)
{
    return a->sample == b->sample && strcmp(a->prompt ? a->prompt : "", b->prompt ? b->prompt : "") == 0;
}

/* May rows[k] be known when rows[i] is judged? Other samples' fresh answers, and what came before it in its own
 * conversation. Answers that others gave after being told they were wrong agree for other reasons. */
static bool comparable(const groups *g, size_t i, size_t k)
{
    const drr_trace *t = &g->c->rows[g->rows[i]].trace, *other = &g->c->rows[g->rows[k]].trace;
    return k != i && (same_conversation(t, other) ? other->turn <= t->turn : other->turn == 0);
}

/* Puts those of rows[i] into g->others. */
static size_t others_of(groups *g, size_t i)
{
    size_t n = 0;
    for (size_t k = g->begin[i]; k < g->end[i]; k++)
        if (comparable(g, i, k))
            g->others[n++] = k;
    return n;
}

/* Features of rows[i] where others[n] are known. */
static drr_features features_of(const groups *g, size_t i, const size_t *others, size_t n)
{
    const drr_trace *t = &g->c->rows[g->rows[i]].trace;
    drr_features f;
    drr_features_defaults(&f);
    f.stats = t->stats;
    f.n_tokens = t->n_tokens;
    f.turn = t->turn;
    f.parsed = parsed(t);
    f.n_others = (uint32_t)n;
    for (size_t k = 0; k < n; k++) {
        const drr_trace *other = &g->c->rows[g->rows[others[k]]].trace;
        f.n_agree += f.parsed && parsed(other) && drr_answer_equal(t->kind, t->answer, other->answer);
    }
    return f;
}

/* Moves `known` of the n others, drawn at random, to the front. */
static void draw(size_t *others, size_t n, size_t known, rng *r)
{
    for (size_t k = 0; k < known; k++) {
        const size_t j = k + (size_t)rng_below(r, n - k), drawn = others[j];
        others[j] = others[k];
        others[k] = drawn;
    }
}

static drr_status fit_stack(critic_meta *meta, groups *g, uint64_t seed, drr_error *err)
{
    const size_t most = g->n * DRAWS;
    size_t n = 0;
    double *values = calloc(most + 1, STACK_MAX_FEATURES * sizeof *values);
    double *weights = calloc(most + 1, sizeof *weights);
    uint8_t *labels = calloc(most + 1, 1);
    drr_status status = DRR_OK;
    if (!values || !weights || !labels) {
        status = error_memory(err);
        goto done;
    }
    for (size_t i = 0; i < g->n; i++) {
        const corpus_row *row = &g->c->rows[g->rows[i]];
        const size_t others = others_of(g, i), draws = others ? DRAWS : 1;
        rng r;
        rng_seed(&r, hash_mix(seed, g->rows[i]));
        for (size_t d = 0; d < draws; d++, n++) {
            const size_t known = d == 0 ? 0 : d == 1 ? others : 1 + (size_t)rng_below(&r, others);
            draw(g->others, others, known, &r);
            const drr_features f = features_of(g, i, g->others, known);
            stack_features(values + n * STACK_MAX_FEATURES, row->logit, &f);
            labels[n] = label_of(&row->trace);
            weights[n] = 1 / (double)draws;
        }
    }
    status = stack_fit(&meta->stack, values, labels, weights, n, 1.0, err);
    meta->has_stack = status == DRR_OK;
done:
    free(values);
    free(weights);
    free(labels);
    return status;
}

/* P(correct) of rows[i] as the critic gives it when others[n] are known. */
static double judge(const critic_meta *meta, const groups *g, size_t i, const size_t *others, size_t n)
{
    const double logit = g->c->rows[g->rows[i]].logit;
    double values[STACK_MAX_FEATURES];
    if (!meta->has_stack)
        return 1 / (1 + exp(-(meta->calibration.a * logit + meta->calibration.b)));
    const drr_features f = features_of(g, i, others, n);
    stack_features(values, logit, &f);
    return stack_predict(&meta->stack, values);
}

/* Row by row of a group: logit, p with all others known, length, vote share, label. */
typedef struct columns {
    double *logit, *p, *length, *vote, *memory;
    uint8_t *label, *vote_label;
    size_t n, n_votes;
} columns;

static void columns_clear(columns *x)
{
    free(x->memory);
    free(x->label);
    *x = (columns){0};
}

static drr_status columns_of(columns *x, const critic_meta *meta, groups *g, drr_error *err)
{
    *x = (columns){.memory = calloc(4 * (g->n + 1), sizeof(double)), .label = calloc(2 * (g->n + 1), 1), .n = g->n};
    if (!x->memory || !x->label) {
        columns_clear(x);
        return error_memory(err);
    }
    x->logit = x->memory;
    x->p = x->logit + g->n;
    x->length = x->p + g->n;
    x->vote = x->length + g->n;
    x->vote_label = x->label + g->n;
    for (size_t i = 0; i < g->n; i++) {
        const corpus_row *row = &g->c->rows[g->rows[i]];
        const size_t others = others_of(g, i);
        x->logit[i] = row->logit;
        x->p[i] = judge(meta, g, i, g->others, others);
        x->length[i] = row->trace.text ? (double)strlen(row->trace.text) : 0;
        x->label[i] = label_of(&row->trace);
        if (others) {
            const drr_features f = features_of(g, i, g->others, others);
            x->vote_label[x->n_votes] = x->label[i];
            x->vote[x->n_votes++] = f.parsed ? (double)(f.n_agree + 1) / (double)(f.n_others + 1) : 0;
        }
    }
    return DRR_OK;
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
        for (size_t b = 0; b < n && parsed(t); b++) {
            const drr_trace *other = &g->c->rows[g->rows[steps[b]]].trace;
            if (parsed(other) && drr_answer_equal(t->kind, t->answer, other->answer))
                sum += judge(meta, g, steps[b], NULL, 0);
        }
        if (parsed(t) && sum > most + 1e-12) {
            most = sum;
            right = label_of(t);
        }
    }
    return right;
}

static void rehearse(rehearsal *r, const critic_meta *meta, const groups *g, const size_t *steps, size_t n)
{
    r->episodes[r->n++] = (episode){r->n_steps, n, vote_is_right(meta, g, steps, n)};
    for (size_t k = 0; k < n; k++) {
        const drr_trace *t = &g->c->rows[g->rows[steps[k]]].trace;
        r->p[r->n_steps] = parsed(t) ? judge(meta, g, steps[k], steps, k) : -1;
        r->right[r->n_steps++] = label_of(t);
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

drr_status judge_fit(critic_meta *meta, const corpus *c, uint64_t seed, drr_error *err)
{
    groups g = {0};
    double *logits = NULL;
    uint8_t *labels = NULL;
    drr_status status = groups_new(&g, c, CORPUS_DEV, err);
    if (status != DRR_OK)
        return status;
    logits = calloc(g.n + 1, sizeof *logits);
    labels = calloc(g.n + 1, 1);
    if (!logits || !labels) {
        status = error_memory(err);
        goto done;
    }
    for (size_t i = 0; i < g.n; i++) {
        logits[i] = c->rows[g.rows[i]].logit;
        labels[i] = label_of(&c->rows[g.rows[i]].trace);
    }
    status = platt_fit(&meta->calibration, logits, labels, g.n, err);
    if (status == DRR_OK)
        status = fit_stack(meta, &g, seed, err);
    if (status == DRR_OK)
        status = choose_threshold(meta, &g, err);
done:
    free(logits);
    free(labels);
    groups_clear(&g);
    return status;
}

drr_status judge_measure(drr_train_result *result, const critic_meta *meta, const corpus *c, drr_error *err)
{
    groups dev = {0}, test = {0};
    columns d = {0}, t = {0};
    drr_status status = groups_new(&dev, c, CORPUS_DEV, err);
    if (status == DRR_OK)
        status = groups_new(&test, c, CORPUS_TEST, err);
    if (status == DRR_OK)
        status = columns_of(&d, meta, &dev, err);
    if (status == DRR_OK)
        status = columns_of(&t, meta, &test, err);
    if (status != DRR_OK)
        goto done;
    result->auroc_text = statistics_auroc(t.logit, t.label, t.n);
    result->auroc_stack = statistics_auroc(t.p, t.label, t.n);
    result->auroc_vote = statistics_auroc(t.vote, t.vote_label, t.n_votes);
    result->auroc_length = statistics_auroc(t.length, t.label, t.n);
    if (statistics_auroc(d.length, d.label, d.n) < 0.5) /* whether long or short is right is dev's to say, not test's */
        result->auroc_length = 1 - result->auroc_length;
    result->auprc = statistics_auprc(t.p, t.label, t.n);
    result->brier = statistics_brier(t.p, t.label, t.n);
    result->ece = statistics_ece(t.p, t.label, t.n);
done:
    groups_clear(&dev);
    groups_clear(&test);
    columns_clear(&d);
    columns_clear(&t);
    return status;
}
