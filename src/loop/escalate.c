/* escalate.c: what one reasoner left unsure goes to another: a cascade of two. The first one's work is drr_solve's; so
 * is the second one's, which is asked once. */
#include "loop/loop_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_unsure(const drr_result *r, double below)
{
    if (r->route == DRR_ROUTE_ABSTAIN) /* nobody is to be asked */
        return false;
    if (r->outcome != DRR_ANSWERED)
        return true;
    return isnan(below) ? !drr_result_accepted(r) : !(r->p_correct >= below);
}

/* Numbered after all that the first reasoner wrote, so that nobody takes them for its own. */
static uint32_t next_sample(const drr_result *r)
{
    uint32_t next = 0;
    for (size_t i = 0; i < r->n_turns; i++)
        next = r->turns[i].sample >= next ? r->turns[i].sample + 1 : next;
    return next;
}

static drr_status add_turns(drr_result *r, drr_result *more, drr_error *err)
{
    const uint32_t sample = next_sample(r);
    drr_turn *turns = realloc(r->turns, (r->n_turns + more->n_turns + 1) * sizeof *turns);
    if (!turns)
        return error_memory(err);
    r->turns = turns;
    for (size_t i = r->n_turns; i-- > 0;)
        if (drr_turn_answers(&turns[i])) {
            turns[i].verdict = DRR_VERDICT_ESCALATE;
            break;
        }
    for (size_t i = 0; i < more->n_turns; i++) {
        drr_turn *t = &turns[r->n_turns++];
        *t = more->turns[i];
        t->role = role_escalation;
        t->sample += sample;
        more->turns[i] = (drr_turn){0}; /* its texts have moved */
    }
    return DRR_OK;
}

/* What the second one said stands; where it said nothing, what the first one did. */
static drr_status take_over(drr_result *r, drr_result *more, drr_error *err)
{
    drr_status status = add_turns(r, more, err);
    if (status != DRR_OK)
        return status;
    r->escalated = true;
    r->n_tokens += more->n_tokens;
    r->n_prompt_tokens += more->n_prompt_tokens;
    r->n_escalated_tokens = more->n_tokens;
    r->n_escalated_prompt_tokens = more->n_prompt_tokens;
    r->seconds += more->seconds;
    if (more->outcome == DRR_ANSWERED) {
        free(r->answer);
        r->answer = more->answer;
        more->answer = NULL;
        r->outcome = DRR_ANSWERED;
        r->correct = more->correct;
        r->p_correct = NAN; /* the critic knows the first one's ways */
    } else if (r->outcome == DRR_FAILED && more->outcome != DRR_FAILED) {
        r->outcome = more->outcome;
    }
    if (more->failure && !r->failure) {
        r->failure = more->failure;
        more->failure = NULL;
    }
    return DRR_OK;
}

drr_status drr_escalate(drr_result *results, size_t n, drr_reasoner *second, const drr_prompts *prompts,
                        const drr_policy *policy, drr_turn_fn on_turn, void *user, const drr_hooks *hooks,
                        drr_error *err)
{
    size_t n_unsure = 0;
    drr_policy once = *policy;
    once.strategy = DRR_STRATEGY_COT;
    once.judge = NULL; /* it stands, whatever a judge of the first one's would say of it, and whether it could */
    size_t *where = calloc(n + 1, sizeof *where);
    const drr_task **tasks = calloc(n + 1, sizeof *tasks);
    drr_result *more = calloc(n + 1, sizeof *more);
    drr_status status = where && tasks && more ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        if (!results[i].escalated && is_unsure(&results[i], policy->escalate_below)) {
            where[n_unsure] = i;
            tasks[n_unsure++] = results[i].task;
        }
    if (status == DRR_OK && n_unsure)
        status = drr_solve(more, second, NULL, prompts, tasks, n_unsure, &once, on_turn, user, hooks, err);
    for (size_t i = 0; status == DRR_OK && i < n_unsure; i++)
        status = take_over(&results[where[i]], &more[i], err);
    for (size_t i = 0; more && i < n_unsure; i++)
        drr_result_clear(&more[i]);
    free(where);
    free(tasks);
    free(more);
    return status;
}
