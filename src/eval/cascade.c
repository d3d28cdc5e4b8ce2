/* cascade.c: which questions a first reasoner should leave to a second, dearer one: both answer held-out questions, and
 * every threshold on the first one's P(correct) is a point of accuracy against cost. Escalating itself is src/loop's.
 */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_POINTS = 200 };

void drr_cascade_options_defaults(drr_cascade_options *options)
{
    *options = (drr_cascade_options){
        .bootstrap = 10000, .seed = 1, .price_ratio = 20, .prompt_price = 0.5, .target_error = NAN, .target_cost = NAN};
    drr_policy_defaults(&options->policy);
}

void drr_cascade_clear(drr_cascade *cascade)
{
    if (!cascade)
        return;
    free(cascade->questions);
    free(cascade->points);
    *cascade = (drr_cascade){0};
}

/* ---- points */

static bool goes_on(const drr_cascade_question *q, double below)
{
    return !(q->p >= below);
}

/* Where the second one has no answer the first one's stands, which `after` says already (ask_both). */
static bool is_right(const drr_cascade_question *q, double below)
{
    return goes_on(q, below) ? q->after == 1 : q->first == 1;
}

static drr_cascade_point point_at(const drr_cascade *c, double below, double cost_second)
{
    drr_cascade_point point = {.below = below};
    for (size_t i = 0; i < c->n; i++) {
        const drr_cascade_question *q = &c->questions[i];
        point.escalated += goes_on(q, below);
        point.accuracy += is_right(q, below);
        point.cost += q->cost_first + (goes_on(q, below) ? q->cost_second : 0);
    }
    point.escalated /= (double)c->n;
    point.accuracy /= (double)c->n;
    point.cost /= cost_second;
    return point;
}

static int double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Thresholds midway between neighbouring P(correct), 0 and 1 among them; of many, MOST_POINTS at equal shares. */
static size_t thresholds(double *below, const drr_cascade *c)
{
    size_t n = 0, kept = 1;
    for (size_t i = 0; i < c->n; i++)
        if (!isnan(c->questions[i].p))
            below[n++] = c->questions[i].p;
    qsort(below, n, sizeof *below, double_compare);
    double last = n ? below[0] : 0;
    below[0] = 0;
    for (size_t i = 1; i < n; i++) {
        const double p = below[i];
        if (p > last)
            below[kept++] = (p + last) / 2;
        last = p;
    }
    below[kept++] = 1;
    if (kept <= MOST_POINTS)
        return kept;
    for (size_t i = 0; i < MOST_POINTS; i++)
        below[i] = below[i * (kept - 1) / (MOST_POINTS - 1)];
    return MOST_POINTS;
}

static bool is_better(const drr_cascade_point *a, const drr_cascade_point *b, const drr_cascade_options *o,
                      double accuracy_second)
{
    const double tiny = 1e-9;
    if (!isnan(o->target_cost))
        return a->cost <= o->target_cost + tiny &&
               (!b || a->accuracy > b->accuracy + tiny || (a->accuracy > b->accuracy - tiny && a->cost < b->cost));
    const double wanted = isnan(o->target_error) ? accuracy_second : 1 - o->target_error;
    return a->accuracy >= wanted - tiny && (!b || a->cost < b->cost);
}

static drr_status compare_picked(drr_cascade *c, const drr_cascade_options *o, drr_error *err)
{
    double *difference = calloc(c->n + 1, sizeof *difference);
    uint64_t *clusters = calloc(c->n + 1, sizeof *clusters);
    if (difference && clusters) {
        for (size_t i = 0; i < c->n; i++) {
            clusters[i] = c->questions[i].text;
            difference[i] = is_right(&c->questions[i], c->points[c->picked].below) - (c->questions[i].second == 1);
        }
        const interval x = bootstrap_mean(difference, clusters, c->n, o->bootstrap, o->seed);
        c->difference[0] = x.value;
        c->difference[1] = x.low;
        c->difference[2] = x.high;
    }
    const bool done = difference && clusters;
    free(difference);
    free(clusters);
    return done ? DRR_OK : error_memory(err);
}

drr_status cascade_points(drr_cascade *c, const drr_cascade_options *o, drr_error *err)
{
    double cost_second = 0, *below = calloc(c->n + 2, sizeof *below);
    c->points = calloc(c->n + 2, sizeof *c->points);
    c->difference[0] = c->difference[1] = c->difference[2] = NAN;
    c->accuracy_first = c->accuracy_second = c->cost_first = 0;
    if (!below || !c->points) {
        free(below);
        return error_memory(err);
    }
    for (size_t i = 0; i < c->n; i++) {
        cost_second += c->questions[i].cost_second;
        c->accuracy_first += c->questions[i].first == 1;
        c->accuracy_second += c->questions[i].second == 1;
        c->cost_first += c->questions[i].cost_first;
    }
    c->n_points = thresholds(below, c);
    c->picked = c->n_points;
    if (cost_second <= 0) {
        free(below);
        return error_set(err, DRR_E_EMPTY,
                         "the second reasoner wrote no token for %zu questions: there is no cost to compare with",
                         c->n);
    }
    c->cost_first /= cost_second;
    c->accuracy_first /= (double)c->n;
    c->accuracy_second /= (double)c->n;
    for (size_t i = 0; i < c->n_points; i++) {
        c->points[i] = point_at(c, below[i], cost_second);
        if (is_better(&c->points[i], c->picked < c->n_points ? &c->points[c->picked] : NULL, o, c->accuracy_second))
            c->picked = i;
    }
    free(below);
    return c->picked < c->n_points ? compare_picked(c, o, err) : DRR_OK;
}

/* ---- asking both */

static drr_status check(const drr_dataset *dataset, size_t n, const drr_cascade_options *o, drr_error *err)
{
    if (!o->out || n == 0)
        return error_set(err, DRR_E_ARGUMENT, "a cascade needs a folder to write to, and questions");
    if (!(o->price_ratio > 0) || !(o->prompt_price >= 0))
        return error_set(err, DRR_E_ARGUMENT, "a price ratio is above 0 and a prompt's price not below, not %g and %g",
                         o->price_ratio, o->prompt_price);
    for (size_t i = 0; i < n; i++) {
        const drr_task *task = drr_dataset_at(dataset, i);
        if (task->kind == DRR_KIND_CHECKED || !*task->answer)
            return error_set(
                err, DRR_E_ARGUMENT,
                "question %.200s has no answer to compare with: a cascade is measured where right and wrong "
                "are known without a checker",
                task->id);
    }
    return DRR_OK;
}

static double cost_of(const drr_result *r, double price, const drr_cascade_options *o)
{
    return price * ((double)r->n_tokens + o->prompt_price * (double)r->n_prompt_tokens);
}

static drr_status ask_both(drr_cascade *c, drr_reasoner *first, drr_reasoner *second, drr_critic *critic,
                           const drr_prompts *prompts, const drr_task *const *tasks, const drr_cascade_options *o,
                           const drr_hooks *hooks, drr_error *err)
{
    drr_result *a = calloc(c->n + 1, sizeof *a), *b = calloc(c->n + 1, sizeof *b);
    drr_policy policy = o->policy;
    policy.strategy = DRR_STRATEGY_DRR;
    drr_status status = a && b ? DRR_OK : error_memory(err);
    if (status == DRR_OK)
        status = drr_solve(a, first, critic, prompts, tasks, c->n, &policy, NULL, NULL, hooks, err);
    policy.strategy = DRR_STRATEGY_COT; /* as drr_escalate asks it */
    if (status == DRR_OK)
        status = drr_solve(b, second, NULL, prompts, tasks, c->n, &policy, NULL, NULL, hooks, err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        const bool stands = b[i].outcome != DRR_ANSWERED && a[i].outcome == DRR_ANSWERED;
        c->questions[i] = (drr_cascade_question){.id = tasks[i]->id,
                                                 .text = question_cluster(tasks[i]),
                                                 .p = a[i].outcome == DRR_ANSWERED      ? a[i].p_correct
                                                      : a[i].route == DRR_ROUTE_ABSTAIN ? 1 /* never goes on */
                                                                                        : (double)NAN,
                                                 .first = a[i].correct,
                                                 .second = b[i].correct,
                                                 .after = stands ? a[i].correct : b[i].correct,
                                                 .cost_first = cost_of(&a[i], 1 / o->price_ratio, o),
                                                 .cost_second = cost_of(&b[i], 1, o)};
    }
    for (size_t i = 0; a && b && i < c->n; i++) {
        drr_result_clear(&a[i]);
        drr_result_clear(&b[i]);
    }
    free(a);
    free(b);
    return status;
}

drr_status drr_cascade_measure(drr_cascade *c, drr_reasoner *first, drr_reasoner *second, drr_critic *critic,
                               const drr_prompts *prompts, const drr_dataset *dataset, const drr_cascade_options *o,
                               const drr_hooks *hooks, drr_error *err)
{
    const size_t all = drr_dataset_count(dataset), n = o->limit && o->limit < all ? o->limit : all;
    drr_reasoner *cached_first = NULL, *cached_second = NULL;
    const drr_task **tasks = calloc(n + 1, sizeof *tasks);
    buffer path = {0};
    *c = (drr_cascade){.n = n, .questions = calloc(n + 1, sizeof *c->questions)};
    drr_status status = tasks && c->questions ? check(dataset, n, o, err) : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        tasks[i] = drr_dataset_at(dataset, i);
    if (status == DRR_OK)
        status = folder_make(o->out, err);
    if (status == DRR_OK)
        status = buffer_printf(&path, err, "%s/samples.db", o->out);
    if (status == DRR_OK)
        status = cached_reasoner_new(&cached_first, first, path.data, NULL, err);
    if (status == DRR_OK)
        status = cached_reasoner_new(&cached_second, second, path.data, NULL, err);
    if (status == DRR_OK)
        status = ask_both(c, cached_first, cached_second, critic, prompts, tasks, o, hooks, err);
    if (status == DRR_OK)
        status = cascade_points(c, o, err);
    drr_reasoner_close(cached_second);
    drr_reasoner_close(cached_first);
    buffer_clear(&path);
    free(tasks);
    return status;
}
