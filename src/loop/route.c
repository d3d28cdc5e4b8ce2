/* route.c: before the first token: which way a question goes by what a critic of questions alone says of it. From the
 * likeliest to go well to the least: its first answer is taken; answers are sought in sequence, each after a rejection;
 * samples are drawn side by side; another reasoner gets it unasked; nobody does. What each way asks and how it ends is
 * strategies.c's. */
#include "critic/critic.h"
#include "loop/loop_internal.h"

#include <math.h>

bool loop_draws_samples(const loop *l, const seeker *s)
{
    const drr_strategy strategy = l->policy->strategy;
    return strategy == DRR_STRATEGY_VOTE || strategy == DRR_STRATEGY_BEST_OF_N ||
           (strategy == DRR_STRATEGY_DRR && s->result->route == DRR_ROUTE_PARALLEL);
}

/* A way that another one's bound leaves nothing of is a slip: 0 says that it is not wanted. */
drr_status loop_route_check(const drr_policy *p, drr_error *err)
{
    static const char *const names[] = {"give-up-below", "hopeless-below", "parallel-below", "sure-above"};
    const double bounds[] = {p->give_up_below, p->hopeless_below, p->parallel_below,
                             isnan(p->sure_above) ? 0 : p->sure_above};
    size_t last = 4;
    if (!p->question_critic || p->strategy != DRR_STRATEGY_DRR)
        return DRR_OK;
    for (size_t i = 0; i < 4; i++) {
        if (!(bounds[i] > 0))
            continue;
        if (last < 4 && bounds[i] < bounds[last])
            return error_set(
                err, DRR_E_ARGUMENT,
                "%s %g lies below %s %g, which leaves it no question: the bounds of what the question alone "
                "decides rise from give-up-below over hopeless-below and parallel-below to sure-above",
                names[i], bounds[i], names[last], bounds[last]);
        last = i;
    }
    if (p->parallel_below > 0 && p->samples == 0)
        return error_set(err, DRR_E_ARGUMENT, "parallel-below draws samples, and 0 of them are asked for");
    return DRR_OK;
}

static drr_route route_of(const drr_policy *p, double p_question)
{
    if (p_question < p->give_up_below)
        return DRR_ROUTE_ABSTAIN;
    if (p_question < p->hopeless_below)
        return DRR_ROUTE_ESCALATE;
    if (p_question >= p->sure_above)
        return DRR_ROUTE_ONCE;
    return p_question < p->parallel_below ? DRR_ROUTE_PARALLEL : DRR_ROUTE_SEQUENCE;
}

drr_status loop_route(loop *l, seeker *s, drr_error *err)
{
    const drr_policy *p = l->policy;
    const drr_score_item item = {.question = s->question, .text = CRITIC_NO_TEXT};
    drr_result *r = s->result;
    drr_score score;
    if (!p->question_critic || p->strategy != DRR_STRATEGY_DRR)
        return DRR_OK;
    const double began = clock_seconds();
    drr_status status = drr_critic_score(p->question_critic, &score, &item, 1, err);
    if (status != DRR_OK)
        return status;
    r->judge_seconds += clock_seconds() - began;
    r->p_question = score.p_correct;
    r->route = route_of(p, score.p_correct);
    if (r->route == DRR_ROUTE_ESCALATE || r->route == DRR_ROUTE_ABSTAIN)
        loop_settle_abstain(l, s);
    return DRR_OK;
}
