/* measure.c: from the results of strategies on the same questions to the figures of a report. An abstention is not a
 * right answer: it lowers accuracy and coverage alike, and accuracy_answered says how right the answers given were. The
 * critic's own figures are judged.c's. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one strategy */

static void measure_run(strategy_run *run, const comparison *c, const drr_eval_options *o, double *scratch,
                        const uint64_t *clusters)
{
    uint64_t right = 0;
    for (size_t i = 0; i < c->n; i++) {
        const drr_result *r = &run->results[i];
        const double n = (double)c->n;
        scratch[i] = r->correct == 1;
        right += r->correct == 1;
        run->n_answered += r->outcome == DRR_ANSWERED;
        run->n_abstained += r->outcome == DRR_ABSTAINED;
        run->n_unparsed += r->outcome == DRR_UNPARSED;
        run->n_failed += r->outcome == DRR_FAILED;
        run->mean_calls += (double)r->n_turns / n;
        for (size_t t = 0; t < r->n_turns; t++)
            run->mean_turns += drr_turn_answers(&r->turns[t]) / n;
        run->mean_tokens += (double)r->n_tokens / n;
        run->mean_prompt_tokens += (double)r->n_prompt_tokens / n;
        run->mean_seconds += r->seconds / n;
        run->n_escalated += r->escalated;
        run->mean_cuts += (double)r->n_cuts / n;
        run->mean_cut_tokens += (double)r->n_cut_tokens / n;
        run->mean_judge_seconds += r->judge_seconds / n;
        run->mean_escalated_tokens += (double)r->n_escalated_tokens / n;
    }
    run->accuracy = bootstrap_mean(scratch, clusters, c->n, o->bootstrap, o->policy.seed);
    routes_measure(run, c->n);
    run->coverage = (double)run->n_answered / (double)c->n;
    run->accuracy_answered = run->n_answered ? (double)right / (double)run->n_answered : NAN;
}

drr_status run_risk(risk_point **points, size_t *n, const strategy_run *run, size_t n_questions, drr_error *err)
{
    risk_point *list = calloc(n_questions + 1, sizeof *list);
    double *p = calloc(n_questions + 1, sizeof *p);
    uint8_t *right = calloc(n_questions + 1, 1);
    drr_status status = list && p && right ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n_questions; i++) {
        p[i] = run->results[i].outcome == DRR_ANSWERED ? run->results[i].p_correct : NAN; /* abstained: no risk taken */
        right[i] = run->results[i].correct == 1;
    }
    if (status == DRR_OK) {
        *n = risk_coverage(list, p, right, n_questions);
        *points = list;
        list = NULL;
    }
    free(list);
    free(p);
    free(right);
    return status;
}

/* ---- two strategies */

static drr_status measure_pair(pair *p, const comparison *c, const drr_eval_options *o, double *scratch,
                               const uint64_t *clusters, drr_error *err)
{
    const strategy_run *a = &c->runs[p->a], *b = &c->runs[p->b];
    for (size_t i = 0; i < c->n; i++) {
        const int x = a->results[i].correct == 1, y = b->results[i].correct == 1;
        p->only_a += x && !y;
        p->only_b += y && !x;
        scratch[i] = x - y;
    }
    p->p = p->p_holm = mcnemar_clustered(scratch, clusters, c->n);
    p->difference = bootstrap_mean(scratch, clusters, c->n, o->bootstrap, o->policy.seed);
    for (size_t i = 0; i < c->n; i++)
        scratch[i] = (double)a->results[i].n_tokens - (double)b->results[i].n_tokens;
    p->tokens = bootstrap_mean(scratch, clusters, c->n, o->bootstrap, o->policy.seed);
    return isnan(p->p) ? error_memory(err) : DRR_OK;
}

/* Every strategy against each listed before it; drr comes last by habit and so reads as "drr against ...". */
static drr_status measure_pairs(comparison *c, const drr_eval_options *o, double *scratch, const uint64_t *clusters,
                                drr_error *err)
{
    c->pairs = calloc(c->n_runs * c->n_runs + 1, sizeof *c->pairs);
    if (!c->pairs)
        return error_memory(err);
    drr_status status = DRR_OK;
    for (size_t a = 0; a < c->n_runs; a++)
        for (size_t b = 0; status == DRR_OK && b < a; b++) {
            c->pairs[c->n_pairs] = (pair){.a = a, .b = b};
            status = measure_pair(&c->pairs[c->n_pairs++], c, o, scratch, clusters, err);
        }
    return status;
}

drr_status evaluation_correct(evaluation *e, drr_error *err)
{
    size_t n = 0;
    for (size_t d = 0; d < e->n; d++)
        n += e->comparisons[d].n_pairs;
    double *p = calloc(2 * n + 1, sizeof *p), *corrected = p ? p + n : NULL;
    if (!p)
        return error_memory(err);
    n = 0;
    for (size_t d = 0; d < e->n; d++)
        for (size_t k = 0; k < e->comparisons[d].n_pairs; k++)
            p[n++] = e->comparisons[d].pairs[k].p;
    const bool done = holm(corrected, p, n);
    n = 0;
    for (size_t d = 0; done && d < e->n; d++)
        for (size_t k = 0; k < e->comparisons[d].n_pairs; k++)
            e->comparisons[d].pairs[k].p_holm = corrected[n++];
    free(p);
    return done ? DRR_OK : error_memory(err);
}

drr_status comparison_measure(comparison *c, const drr_eval_options *o, bool has_judge, drr_error *err)
{
    double *scratch = calloc(c->n + 1, sizeof *scratch);
    uint64_t *clusters = calloc(c->n + 1, sizeof *clusters);
    drr_status status = scratch && clusters ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++)
        clusters[i] = question_cluster(c->tasks[i]);
    for (size_t i = 0; status == DRR_OK && i < c->n_runs; i++) {
        measure_run(&c->runs[i], c, o, scratch, clusters);
        status = run_figures(&c->runs[i], c->n, err);
    }
    if (status == DRR_OK)
        status = measure_pairs(c, o, scratch, clusters, err);
    if (status == DRR_OK && has_judge)
        status = judged_measure(c, o, err);
    free(scratch);
    free(clusters);
    return status;
}
