/* measure.c: from the results of strategies on the same questions to the figures of a report. An abstention is not a
 * right answer: it lowers accuracy and coverage alike, and accuracy_answered says how right the answers given were. */
#include "core/statistics.h"
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one strategy */

static void measure_run(strategy_run *run, const comparison *c, const drr_eval_options *o, double *scratch)
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
            run->mean_turns += (strcmp(r->turns[t].role, "critique") != 0) / n;
        run->mean_tokens += (double)r->n_tokens / n;
        run->mean_prompt_tokens += (double)r->n_prompt_tokens / n;
        run->mean_seconds += r->seconds / n;
    }
    run->accuracy = bootstrap_mean(scratch, c->n, o->bootstrap, o->policy.seed);
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

static drr_status measure_risk(strategy_run *run, const comparison *c, drr_error *err)
{
    risk_point *points = NULL;
    size_t n = 0;
    drr_status status = run_risk(&points, &n, run, c->n, err);
    if (status == DRR_OK)
        run->aurc = risk_area(points, n);
    free(points);
    return status;
}

/* ---- two strategies */

static void measure_pair(pair *p, const comparison *c, const drr_eval_options *o, double *scratch)
{
    const strategy_run *a = &c->runs[p->a], *b = &c->runs[p->b];
    for (size_t i = 0; i < c->n; i++) {
        const int x = a->results[i].correct == 1, y = b->results[i].correct == 1;
        p->only_a += x && !y;
        p->only_b += y && !x;
        scratch[i] = x - y;
    }
    p->p = mcnemar_exact(p->only_a, p->only_b);
    p->difference = bootstrap_mean(scratch, c->n, o->bootstrap, o->policy.seed);
    for (size_t i = 0; i < c->n; i++)
        scratch[i] = (double)a->results[i].n_tokens - (double)b->results[i].n_tokens;
    p->tokens = bootstrap_mean(scratch, c->n, o->bootstrap, o->policy.seed);
}

/* Every strategy against each listed before it; drr comes last by habit and so reads as "drr against ...". */
static drr_status measure_pairs(comparison *c, const drr_eval_options *o, double *scratch, drr_error *err)
{
    c->pairs = calloc(c->n_runs * c->n_runs + 1, sizeof *c->pairs);
    if (!c->pairs)
        return error_memory(err);
    for (size_t a = 0; a < c->n_runs; a++)
        for (size_t b = 0; b < a; b++) {
            c->pairs[c->n_pairs] = (pair){.a = a, .b = b};
            measure_pair(&c->pairs[c->n_pairs++], c, o, scratch);
        }
    return DRR_OK;
}

/* ---- the critic */

typedef struct answer_row { /* one answer that was scored; the same text of a question counts once */
    uint64_t key;
    size_t order; /* of appearance */
    const drr_turn *turn;
    const drr_result *result;
} answer_row;

static int row_compare(const void *a, const void *b)
{
    const answer_row *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static size_t scored_rows(answer_row *rows, const comparison *c)
{
    size_t n = 0, kept = 0;
    for (size_t s = 0; s < c->n_runs; s++)
        for (size_t i = 0; i < c->n; i++) {
            const drr_result *r = &c->runs[s].results[i];
            for (size_t t = 0; t < r->n_turns; t++)
                if (!isnan(r->turns[t].p_correct) && r->turns[t].correct >= 0) {
                    if (rows)
                        rows[n] = (answer_row){hash_string(hash_mix(i, 1), r->turns[t].text), n, &r->turns[t], r};
                    n++;
                }
        }
    if (!rows)
        return n;
    qsort(rows, n, sizeof *rows, row_compare);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || rows[i].key != rows[i - 1].key)
            rows[kept++] = rows[i];
    return kept;
}

/* Share of the other answers in the same ledger that agree; NaN when there is none. */
static double vote_share(const answer_row *row)
{
    const drr_result *r = row->result;
    double others = 0, agree = 0;
    for (size_t t = 0; t < r->n_turns; t++) {
        const drr_turn *other = &r->turns[t];
        if (other == row->turn || strcmp(other->role, "critique") == 0)
            continue;
        others++;
        agree +=
            row->turn->answer && other->answer && drr_answer_equal(r->task->kind, row->turn->answer, other->answer);
    }
    return others > 0 ? agree / others : NAN;
}

/* Vote share is known in strategies that sample: taken from the vote's ledger, each answer once a sample. */
static drr_status measure_vote(critic_figures *f, const comparison *c, drr_error *err)
{
    f->vote_auroc = NAN;
    for (size_t s = 0; s < c->n_runs; s++) {
        const strategy_run *run = &c->runs[s];
        size_t n = 0, most = 0;
        if (run->strategy != DRR_STRATEGY_VOTE && run->strategy != DRR_STRATEGY_BEST_OF_N)
            continue;
        for (size_t i = 0; i < c->n; i++)
            most += run->results[i].n_turns;
        double *share = calloc(most + 1, sizeof *share);
        uint8_t *right = calloc(most + 1, 1);
        for (size_t i = 0; share && right && i < c->n; i++)
            for (size_t t = 0; t < run->results[i].n_turns; t++) {
                const answer_row row = {0, 0, &run->results[i].turns[t], &run->results[i]};
                share[n] = vote_share(&row);
                right[n] = row.turn->correct == 1;
                n += isnan(share[n]) ? 0 : 1;
            }
        const bool whole = share && right;
        if (whole)
            f->vote_auroc = statistics_auroc(share, right, n);
        free(share);
        free(right);
        return whole ? DRR_OK : error_memory(err);
    }
    return DRR_OK;
}

static drr_status measure_critic(comparison *c, drr_error *err)
{
    critic_figures *f = &c->critic;
    size_t n = scored_rows(NULL, c);
    answer_row *rows = calloc(n + 1, sizeof *rows);
    double *logit = calloc(n + 1, sizeof *logit), *length = calloc(n + 1, sizeof *length);
    drr_status status = DRR_OK;
    f->p = calloc(n + 1, sizeof *f->p);
    f->right = calloc(n + 1, 1);
    if (!rows || !logit || !length || !f->p || !f->right) {
        status = error_memory(err);
        goto done;
    }
    n = scored_rows(rows, c);
    for (size_t i = 0; i < n; i++) {
        f->p[i] = rows[i].turn->p_correct;
        f->right[i] = rows[i].turn->correct == 1;
        f->n_right += f->right[i];
        logit[i] = rows[i].turn->logit;
        length[i] = (double)strlen(rows[i].turn->text);
    }
    f->n = n;
    f->auroc = statistics_auroc(f->p, f->right, n);
    f->auroc_text = statistics_auroc(logit, f->right, n);
    f->auprc = statistics_auprc(f->p, f->right, n);
    f->brier = statistics_brier(f->p, f->right, n);
    f->ece = statistics_ece(f->p, f->right, n);
    f->length_auroc = statistics_auroc(length, f->right, n);
    if (f->length_auroc < 0.5) /* the better of "long is right" and "short is right": the control at its strongest */
        f->length_auroc = 1 - f->length_auroc;
    status = measure_vote(f, c, err);
done:
    free(rows);
    free(logit);
    free(length);
    return status;
}

drr_status comparison_measure(comparison *c, const drr_eval_options *o, drr_error *err)
{
    double *scratch = calloc(c->n + 1, sizeof *scratch);
    drr_status status = scratch ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < c->n_runs; i++) {
        measure_run(&c->runs[i], c, o, scratch);
        status = measure_risk(&c->runs[i], c, err);
    }
    if (status == DRR_OK)
        status = measure_pairs(c, o, scratch, err);
    if (status == DRR_OK)
        status = measure_critic(c, err);
    free(scratch);
    return status;
}
