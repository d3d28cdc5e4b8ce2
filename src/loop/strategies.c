/* strategies.c: what each strategy asks first and what it does after a turn. No strategy looks at the reference answer:
 * only cot and vote do without a judge, self-critique asks the reasoner itself, best-of-n and drr ask the critic. */
#include "loop/loop_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char role_attempt[] = "attempt", role_critique[] = "critique", role_revision[] = "revision",
           role_escalation[] = "escalation", role_cut[] = "cut", role_judge[] = "judge";

/* All at once; with a token budget, or where the samples may suffice before all are drawn, one after another, for only
 * then is it known what the next may cost and whether it is needed, and the same samples are drawn however the
 * reasoner's answers arrive. */
drr_status strategy_ask_samples(loop *l, seeker *s, drr_error *err)
{
    const bool may_suffice = l->policy->stop_confidence > 0 && l->policy->strategy != DRR_STRATEGY_DRR;
    const bool one_by_one = l->policy->max_tokens || may_suffice;
    drr_status status = DRR_OK;
    while (status == DRR_OK && loop_draws_samples(l, s) && s->n_asked < l->policy->samples && loop_budget_left(l, s) &&
           !(one_by_one && (s->in_flight || loop_samples_suffice(l, s))))
        status = loop_ask_fresh(l, s, s->n_asked, err);
    return status;
}

drr_status strategy_begin(loop *l, seeker *s, drr_error *err)
{
    if (!loop_draws_samples(l, s) || !l->policy->samples)
        return loop_ask_fresh(l, s, 0, err);
    drr_status status = strategy_ask_samples(l, s, err);
    if (status == DRR_OK && s->in_flight == 0) /* judging the question took all its time */
        strategy_end(l, s);
    return status;
}

/* ---- drr */

uint32_t loop_turns_spent(const loop *l, const seeker *s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s->result->n_turns; i++) {
        const drr_turn *t = &s->result->turns[i];
        n += drr_turn_answers(t) || (t->role == role_cut && !l->policy->early_free);
    }
    return n;
}

static void settle_exhausted(loop *l, seeker *s)
{
    switch (l->policy->on_exhausted) {
    case DRR_EXHAUSTED_BEST:
        loop_settle_best(l, s);
        break;
    case DRR_EXHAUSTED_LAST:
        loop_settle_last(l, s);
        break;
    case DRR_EXHAUSTED_ABSTAIN:
        loop_settle_abstain(l, s);
        return;
    case DRR_EXHAUSTED_VOTE:
    default:
        loop_settle_vote(l, s, DRR_VOTES_CRITIC);
        break;
    }
    loop_maybe_abstain(l, s);
}

static drr_status reject(loop *l, seeker *s, const drr_turn *t, drr_error *err)
{
    char *words = NULL;
    if (l->policy->feedback == DRR_FEEDBACK_RESTART)
        return loop_ask_fresh(l, s, s->n_asked, err);
    drr_status status = loop_words(&words, l, s, t, err);
    if (status == DRR_OK)
        status = loop_ask_follow_up(l, s, role_attempt, words, err);
    free(words);
    return status;
}

static drr_status advance_drr(loop *l, seeker *s, size_t i, drr_error *err)
{
    drr_turn *t = &s->result->turns[i];
    if (t->answer && (s->result->route == DRR_ROUTE_ONCE || t->p_correct >= l->threshold)) {
        t->verdict = DRR_VERDICT_ACCEPT;
        loop_settle_on(l, s, i);
        return DRR_OK;
    }
    t->verdict = DRR_VERDICT_REJECT;
    if (loop_turns_spent(l, s) < l->policy->max_turns && loop_budget_left(l, s))
        return reject(l, s, t, err);
    settle_exhausted(l, s);
    return DRR_OK;
}

/* All samples of a question that went that way are there, judged with each other known: one verdict, on the answer
 * that the critic-weighted vote finds. Where that is a rejection, it is as when turns run out. */
static void settle_parallel(loop *l, seeker *s)
{
    double surety;
    const size_t best = loop_vote_leader(l, s, DRR_VOTES_CRITIC, &surety);
    if (best < s->result->n_turns && surety >= l->threshold) {
        s->result->turns[best].verdict = DRR_VERDICT_ACCEPT;
        loop_settle_vote(l, s, DRR_VOTES_CRITIC);
        return;
    }
    for (size_t i = 0; i < s->result->n_turns; i++)
        if (drr_turn_answers(&s->result->turns[i]))
            s->result->turns[i].verdict = DRR_VERDICT_REJECT;
    settle_exhausted(l, s);
}

/* ---- self-critique: Self-Refine (Madaan et al. 2023): attempt, critique, revision, critique ... until the critique
 * finds nothing or the turns are spent; the last answer stands. */

static bool finds_no_mistake(const drr_turn *critique)
{
    return critique->text && strcasestr(critique->text, "no mistake");
}

static drr_status advance_self_critique(loop *l, seeker *s, size_t i, drr_error *err)
{
    const drr_turn *t = &s->result->turns[i];
    const bool critique = t->role == role_critique;
    const bool enough = critique ? finds_no_mistake(t) : loop_turns_spent(l, s) >= l->policy->max_turns;
    char *words = NULL;
    if (enough || !loop_budget_left(l, s)) {
        loop_judge_turns(l, s);
        loop_settle_last(l, s);
        return DRR_OK;
    }
    drr_status status = critique ? prompts_revise(&words, l->prompts, s->task, err)
                                 : prompts_critique(&words, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = loop_ask_follow_up(l, s, critique ? role_revision : role_critique, words, err);
    free(words);
    return status;
}

/* ---- all */

drr_status strategy_advance(loop *l, seeker *s, size_t i, drr_error *err)
{
    if (l->policy->strategy == DRR_STRATEGY_SELF_CRITIQUE)
        return advance_self_critique(l, s, i, err);
    if (l->policy->strategy == DRR_STRATEGY_DRR && !loop_draws_samples(l, s))
        return advance_drr(l, s, i, err);
    drr_status status = strategy_ask_samples(l, s, err);
    if (status == DRR_OK && s->in_flight == 0)
        strategy_end(l, s);
    return status;
}

static int turn_compare(const void *a, const void *b)
{
    const drr_turn *x = a, *y = b;
    if (x->sample != y->sample)
        return x->sample < y->sample ? -1 : 1;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    if (x->cuts != y->cuts)
        return x->cuts < y->cuts ? -1 : 1;
    return (x->role == role_judge) - (y->role == role_judge); /* a judge's word comes after what it is about */
}

void strategy_end(loop *l, seeker *s)
{
    drr_result *r = s->result;
    /* Samples arrive in any order; the ledger, and who of equals came first, follow their numbers. */
    const bool samples = loop_draws_samples(l, s);
    if (samples && r->n_turns) /* none where nothing was asked */
        qsort(r->turns, r->n_turns, sizeof *r->turns, turn_compare);
    if (l->policy->strategy != DRR_STRATEGY_DRR || samples) /* else the verdicts are given */
        loop_judge_turns(l, s);
    switch (l->policy->strategy) {
    case DRR_STRATEGY_VOTE:
        loop_settle_vote(l, s, l->policy->votes);
        break;
    case DRR_STRATEGY_BEST_OF_N:
        loop_settle_best(l, s);
        loop_maybe_abstain(l, s);
        break;
    case DRR_STRATEGY_DRR:
        if (samples)
            settle_parallel(l, s);
        else
            settle_exhausted(l, s);
        break;
    default:
        loop_settle_last(l, s);
        break;
    }
}
