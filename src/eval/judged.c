/* judged.c: how good P(correct) is at telling right from wrong. P(correct) means one thing for an answer that was
 * judged alone and another once other answers to the question are known, so figures are kept apart by what the critic
 * knew, and the controls (length, vote share) are of the very same answers. What could not be read was not judged on
 * its merits: it is counted and is no row. Which strategy the rows come from does not depend on the order in which they
 * are listed.
 */
#include "core/statistics.h"
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row_values { /* of the rows of one set; n of each */
    double *logit, *length, *vote;
    size_t *question, now;        /* which result it is of; now: of the rows being added */
    size_t *cluster, now_cluster; /* the first result of a question with that text */
} row_values;

static const char *const keys[N_JUDGED] = {"first", "given", "given_others_known", "samples"};

static const char *const words[N_JUDGED] = {"first answers, judged alone", "answers drr gave",
                                            "of these, with others known", "all samples, with others known"};

/* The first of the strategies, by rank, that ran. */
static const strategy_run *find_run(const comparison *c, const drr_strategy *ranked, size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (size_t s = 0; s < c->n_runs; s++)
            if (c->runs[s].strategy == ranked[k])
                return &c->runs[s];
    return NULL;
}

/* cot, self-critique and drr ask the first time alike and so have the same first answers; sampled ones stand in where
 * none of them ran. vote and best-of-n draw the same samples. */
static const strategy_run *run_of(const comparison *c, judged_rows rows)
{
    static const drr_strategy first[] = {DRR_STRATEGY_DRR, DRR_STRATEGY_COT, DRR_STRATEGY_SELF_CRITIQUE,
                                         DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_VOTE};
    static const drr_strategy samples[] = {DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_VOTE};
    if (rows == JUDGED_FIRST)
        return find_run(c, first, 5);
    return rows == JUDGED_SAMPLES ? find_run(c, samples, 2) : find_run(c, first, 1);
}

static bool has_others(const drr_result *r)
{
    size_t answers = 0;
    for (size_t t = 0; t < r->n_turns; t++)
        answers += drr_turn_answers(&r->turns[t]);
    return answers > 1;
}

/* Share of the other answers to the question that agree, as the critic was told it; NaN when there is no other. */
static double vote_share(const drr_result *r, const drr_turn *turn)
{
    double others = 0, agree = 0;
    for (size_t t = 0; t < r->n_turns; t++) {
        const drr_turn *other = &r->turns[t];
        if (other == turn || !drr_turn_answers(other))
            continue;
        others++;
        agree += turn->answer && other->answer && drr_answer_equal(r->task->kind, turn->answer, other->answer);
    }
    return others > 0 ? agree / others : NAN;
}

static void add_row(judged *set, row_values *v, const drr_turn *t, double p, double vote)
{
    if (t->correct < 0) /* its checker could not decide: nobody knows */
        return;
    if (isnan(p)) { /* the judge was not asked, or what it said is no number */
        set->n_unscored++;
        return;
    }
    set->p[set->n] = p;
    set->right[set->n] = t->correct == 1;
    set->n_right += t->correct == 1;
    v->logit[set->n] = t->logit;
    v->length[set->n] = (double)strlen(t->text);
    v->question[set->n] = v->now;
    v->cluster[set->n] = v->now_cluster;
    v->vote[set->n++] = vote;
}

static void add_first(judged *set, row_values *v, const drr_result *r)
{
    for (size_t t = 0; t < r->n_turns; t++) {
        const drr_turn *turn = &r->turns[t];
        if (turn->sample || turn->turn || !drr_turn_answers(turn) || !turn_is_first_reasoners(turn))
            continue;
        if (turn->answer)
            add_row(set, v, turn, turn->p_alone, NAN);
        else
            set->n_unparsed++;
    }
}

/* The turn that an answer was read from: the one accepted, else the first that gave it. */
static const drr_turn *turn_given(const drr_result *r)
{
    const drr_turn *given = NULL;
    for (size_t t = 0; t < r->n_turns; t++) {
        const drr_turn *turn = &r->turns[t];
        if (turn->verdict == DRR_VERDICT_ACCEPT)
            return turn;
        if (!given && turn->answer && drr_answer_equal(r->task->kind, turn->answer, r->answer))
            given = turn;
    }
    return given;
}

static void add_given(judged *set, row_values *v, const drr_result *r)
{
    if (r->escalated) /* another reasoner's answer, which no critic judged */
        return;
    set->n_unparsed += r->outcome == DRR_UNPARSED;
    const drr_turn *turn = r->outcome == DRR_ANSWERED ? turn_given(r) : NULL;
    if (turn)
        add_row(set, v, turn, r->p_correct, vote_share(r, turn));
}

static void add_samples(judged *set, row_values *v, const drr_result *r)
{
    for (size_t t = 0; t < r->n_turns; t++)
        if (r->turns[t].answer)
            add_row(set, v, &r->turns[t], r->turns[t].p_correct, vote_share(r, &r->turns[t]));
        else
            set->n_unparsed += drr_turn_answers(&r->turns[t]);
}

static void add_rows(judged *set, row_values *v, judged_rows rows, const drr_result *r)
{
    if (rows == JUDGED_FIRST)
        add_first(set, v, r);
    else if (rows == JUDGED_GIVEN)
        add_given(set, v, r);
    else if (has_others(r)) {
        if (rows == JUDGED_SAMPLES)
            add_samples(set, v, r);
        else
            add_given(set, v, r);
    }
}

static void measure_set(judged *set, const row_values *v)
{
    const size_t n = set->n;
    set->auroc = statistics_auroc(set->p, set->right, n);
    set->auroc_text = statistics_auroc(v->logit, set->right, n);
    set->auprc = set->n_right < n ? statistics_auprc(set->p, set->right, n) : NAN; /* 1 of all right says nothing */
    set->brier = statistics_brier(set->p, set->right, n);
    set->ece = statistics_ece(set->p, set->right, n);
    set->length_auroc = statistics_auroc(v->length, set->right, n);
    if (set->length_auroc < 0.5) /* the better of "long is right" and "short is right": the control at its strongest */
        set->length_auroc = 1 - set->length_auroc;
    set->vote_auroc = statistics_auroc(v->vote, set->right, n); /* NaN with one unknown share: then not the same rows */
}

/* Several samples of one question are no independent answers. */
static double error_of_share(const judged *set, const row_values *v, const strategy_run *run)
{
    double *right = calloc(set->n + 1, sizeof *right), error = NAN;
    uint64_t *clusters = calloc(set->n + 1, sizeof *clusters);
    for (size_t i = 0; right && clusters && i < set->n; i++) {
        right[i] = set->right[i];
        clusters[i] = question_cluster(run->results[v->question[i]].task);
    }
    if (right && clusters)
        error = clustered_error(right, clusters, set->n);
    free(right);
    free(clusters);
    return error;
}

typedef struct place {
    uint64_t cluster;
    size_t question, first; /* first: of those of one text */
} place;

static int by_cluster(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return x->cluster != y->cluster ? (x->cluster > y->cluster) - (x->cluster < y->cluster)
                                    : (x->question > y->question) - (x->question < y->question);
}

static int by_first(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first)
                                : (x->question > y->question) - (x->question < y->question);
}

/* All questions as they come, but those of one text side by side: they are drawn as one. */
static void put_in_order(place *order, const comparison *c)
{
    for (size_t i = 0; i < c->n; i++)
        order[i] = (place){question_cluster(c->tasks[i]), i, i};
    qsort(order, c->n, sizeof *order, by_cluster);
    for (size_t i = 1; i < c->n; i++)
        if (order[i].cluster == order[i - 1].cluster)
            order[i].first = order[i - 1].first;
    qsort(order, c->n, sizeof *order, by_first);
}

static drr_status judge_set(judged *set, const comparison *c, judged_rows rows, const drr_eval_options *o,
                            drr_error *err)
{
    const strategy_run *run = run_of(c, rows);
    row_values v = {0};
    size_t most = 1;
    drr_status status = DRR_OK;
    *set = (judged){.key = keys[rows], .words = words[rows]};
    if (!run)
        return DRR_OK;
    set->strategy = run->strategy;
    set->exists = true;
    for (size_t i = 0; i < c->n; i++)
        most += run->results[i].n_turns;
    set->p = calloc(most, sizeof *set->p);
    set->right = calloc(most, 1);
    v.logit = calloc(most, sizeof *v.logit);
    v.length = calloc(most, sizeof *v.length);
    v.vote = calloc(most, sizeof *v.vote);
    v.question = calloc(most, sizeof *v.question);
    v.cluster = calloc(most, sizeof *v.cluster);
    place *order = calloc(c->n + 1, sizeof *order);
    if (set->p && set->right && v.logit && v.length && v.vote && v.question && v.cluster && order) {
        put_in_order(order, c);
        for (size_t i = 0; i < c->n; i++) {
            v.now = order[i].question;
            v.now_cluster = order[i].first;
            add_rows(set, &v, rows, &run->results[v.now]);
        }
        measure_set(set, &v);
        set->right_se = error_of_share(set, &v, run);
        within_measure(set, v.logit, v.length, v.vote, v.cluster, v.question, o);
    } else {
        status = error_memory(err);
    }
    free(v.logit);
    free(v.length);
    free(v.vote);
    free(v.question);
    free(v.cluster);
    free(order);
    return status;
}

drr_status judged_measure(comparison *c, const drr_eval_options *o, drr_error *err)
{
    drr_status status = DRR_OK;
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++)
        status = judge_set(&c->judged[rows], c, (judged_rows)rows, o, err);
    return status;
}

void judged_clear(judged *set)
{
    free(set->p);
    free(set->right);
    *set = (judged){0};
}

const char *judged_undefined(const judged *set)
{
    if (set->n == 0)
        return "there are none";
    if (set->n_right == 0 || set->n_right == set->n)
        return set->n_right ? "all of them are right: there is nothing to tell apart"
                            : "none of them is right: there is nothing to tell apart";
    if (!isnan(set->vote_auroc))
        return NULL;
    return set->key == keys[JUDGED_FIRST] ? "no vote share, for each was judged alone"
                                          : "no vote share, for some of them have no other answer beside them";
}
