/* budget.c: strategies at equal budgets. A strategy spends by its samples or turns, which are whole numbers; so some of
 * its questions, drawn by their ids alone and not by how hard they are, get one more than the others, such that the
 * mean over all meets the mean of the strategy that sets the budget. Nothing is cut in the middle. What cannot spend as
 * much (cot asks once; drr is done when its answers are accepted) or as little spends what is nearest, and says so. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, STALLED = 2 };

typedef struct draw { /* a run with so many samples or turns */
    uint32_t knob;
    drr_result *results;
    double cost; /* mean over questions */
} draw;

static double cost_of(const drr_result *r, drr_budget of)
{
    return of == DRR_BUDGET_CALLS ? (double)r->n_turns : (double)r->n_tokens;
}

static double mean_cost(const drr_result *results, size_t n, drr_budget of)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += cost_of(&results[i], of);
    return n ? sum / (double)n : 0;
}

static uint32_t *knob_of(drr_policy *p)
{
    switch (p->strategy) {
    case DRR_STRATEGY_VOTE:
    case DRR_STRATEGY_BEST_OF_N:
        return &p->samples;
    case DRR_STRATEGY_SELF_CRITIQUE:
    case DRR_STRATEGY_DRR:
        return &p->max_turns;
    case DRR_STRATEGY_COT:
    default:
        return NULL;
    }
}

static void free_draw(draw *d, size_t n)
{
    for (size_t i = 0; d->results && i < n; i++)
        drr_result_clear(&d->results[i]);
    free(d->results);
    *d = (draw){0};
}

static drr_status make_draw(draw *d, uint32_t knob, const comparison *c, const drr_policy *policy, drr_budget of,
                            const solver *how, drr_error *err)
{
    drr_policy with = *policy;
    *knob_of(&with) = knob;
    *d = (draw){.knob = knob, .results = calloc(c->n + 1, sizeof *d->results)};
    if (!d->results)
        return error_memory(err);
    drr_status status = solve_entry(d->results, c, &with, how, err);
    if (status == DRR_OK)
        d->cost = mean_cost(d->results, c->n, of);
    else
        free_draw(d, c->n);
    return status;
}

/* Samples cost about the same each, and so their number can be guessed: spares the runs below it. */
static drr_status leap(draw *low, draw *high, double target, const comparison *c, const drr_policy *policy,
                       drr_budget of, const solver *how, drr_error *err)
{
    const double about = low->cost > 0 ? floor(0.9 * target / low->cost) : 0;
    if (about < 3 || about > MOST ||
        (policy->strategy != DRR_STRATEGY_VOTE && policy->strategy != DRR_STRATEGY_BEST_OF_N))
        return DRR_OK;
    drr_status status = make_draw(high, (uint32_t)about, c, policy, of, how, err);
    if (status == DRR_OK && high->cost < target) {
        const draw below = *low;
        *low = *high;
        *high = below;
    }
    free_draw(high, c->n);
    return status;
}

/* Two neighbours that hold the target between them, or the one that is nearest (then *high is empty). */
static drr_status find_draws(draw *low, draw *high, double target, const comparison *c, const drr_policy *policy,
                             drr_budget of, const solver *how, drr_error *err)
{
    drr_status status = make_draw(low, 1, c, policy, of, how, err);
    status = status == DRR_OK ? leap(low, high, target, c, policy, of, how, err) : status;
    for (uint32_t stalled = 0; status == DRR_OK && low->cost < target && low->knob < MOST && stalled < STALLED;) {
        status = make_draw(high, low->knob + 1, c, policy, of, how, err);
        if (status != DRR_OK || high->cost >= target)
            return status;
        stalled = high->cost > low->cost + 1e-9 ? 0 : stalled + 1;
        free_draw(low, c->n);
        *low = *high;
        *high = (draw){0};
    }
    return status;
}

typedef struct ticket {
    uint64_t number;
    size_t question;
} ticket;

static int by_number(const void *a, const void *b)
{
    const ticket *x = a, *y = b;
    return x->number != y->number ? (x->number > y->number) - (x->number < y->number)
                                  : (x->question > y->question) - (x->question < y->question);
}

/* Moves into `low` the questions of `high` that it takes to meet the target, in an order that their ids decide. */
static drr_status mix(draw *low, draw *high, double target, const comparison *c, const drr_policy *policy,
                      drr_budget of, double *share_high, drr_error *err)
{
    double spent = low->cost * (double)c->n;
    const double all = target * (double)c->n;
    size_t n_high = 0;
    ticket *order = calloc(c->n + 1, sizeof *order);
    if (!order)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++)
        order[i] = (ticket){hash_string(policy->seed, c->tasks[i]->id), i};
    qsort(order, c->n, sizeof *order, by_number);
    for (size_t k = 0; k < c->n; k++) {
        const size_t i = order[k].question;
        const double more = cost_of(&high->results[i], of) - cost_of(&low->results[i], of);
        if (spent + more / 2 > all) /* without it we are nearer */
            break;
        const drr_result swap = low->results[i];
        low->results[i] = high->results[i];
        high->results[i] = swap;
        spent += more;
        n_high++;
    }
    *share_high = (double)n_high / (double)c->n;
    free(order);
    return DRR_OK;
}

static drr_status refit(strategy_run *run, double target, const comparison *c, const drr_eval_options *o,
                        const solver *how, drr_error *err)
{
    draw low = {0}, high = {0};
    run->budget = (equal_budget){.asked = true};
    if (!knob_of(&run->policy)) {
        const double own = mean_cost(run->results, c->n, o->equal_budget);
        run->budget =
            (equal_budget){.asked = true, .reached = fabs(own - target) <= 0.005 * target, .low = 1, .high = 1};
        return DRR_OK;
    }
    drr_status status = find_draws(&low, &high, target, c, &run->policy, o->equal_budget, how, err);
    run->budget.low = run->budget.high = low.knob;
    if (status == DRR_OK && high.results) {
        run->budget.high = high.knob;
        status = mix(&low, &high, target, c, &run->policy, o->equal_budget, &run->budget.share_high, err);
    }
    if (status == DRR_OK) {
        for (size_t i = 0; i < c->n; i++)
            drr_result_clear(&run->results[i]);
        free(run->results);
        run->results = low.results;
        low.results = NULL;
        const double now = mean_cost(run->results, c->n, o->equal_budget);
        double widest = 0; /* a question is whole: nearer than half of one nobody can come */
        for (size_t i = 0; i < c->n; i++)
            widest = fmax(widest, cost_of(&run->results[i], o->equal_budget));
        run->budget.reached = fabs(now - target) <= fmax(0.005 * target, widest / (double)c->n);
        *knob_of(&run->policy) = run->budget.high;
    }
    free_draw(&low, c->n);
    free_draw(&high, c->n);
    return status;
}

static strategy_run *reference_of(comparison *c, const char *name)
{
    static const drr_strategy ranked[] = {DRR_STRATEGY_DRR, DRR_STRATEGY_SELF_CRITIQUE};
    for (size_t s = 0; name && s < c->n_runs; s++)
        if (strcmp(c->runs[s].name, name) == 0)
            return &c->runs[s];
    for (size_t k = 0; !name && k < 2; k++)
        for (size_t s = 0; s < c->n_runs; s++)
            if (c->runs[s].strategy == ranked[k])
                return &c->runs[s];
    return name ? NULL : &c->runs[0];
}

drr_status budget_equal(comparison *c, const drr_eval_options *o, const solver *how, drr_error *err)
{
    drr_status status = DRR_OK;
    strategy_run *reference = reference_of(c, o->budget_of);
    if (!reference)
        return error_set(err, DRR_E_ARGUMENT,
                         "equal budgets are to be those of \"%s\", which is none of the strategies compared",
                         o->budget_of);
    const double target = mean_cost(reference->results, c->n, o->equal_budget);
    c->budget_of = reference->name;
    c->budget = target;
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        if (&c->runs[s] != reference)
            status = refit(&c->runs[s], target, c, o, how, err);
    return status;
}

bool drr_budget_parse(drr_budget *budget, const char **of, const char *text)
{
    const size_t n = strcspn(text, ":");
    const bool calls = n == 5 && strncmp(text, "calls", n) == 0, tokens = n == 6 && strncmp(text, "tokens", n) == 0;
    if ((!calls && !tokens) || (text[n] && !text[n + 1]))
        return false;
    *budget = calls ? DRR_BUDGET_CALLS : DRR_BUDGET_TOKENS;
    *of = text[n] ? text + n + 1 : NULL;
    return true;
}

json_t *budget_json(const strategy_run *run)
{
    const bool samples = run->strategy == DRR_STRATEGY_VOTE || run->strategy == DRR_STRATEGY_BEST_OF_N;
    return json_pack("{s:b, s:s, s:i, s:i, s:f}", "reached", (int)run->budget.reached, "by",
                     samples ? "samples" : "turns", "low", (int)run->budget.low, "high", (int)run->budget.high,
                     "share_high", run->budget.share_high);
}
