/* policy.c: the names of strategies, verdicts and outcomes, and the default policy. */
#include "core/core.h"

#include <math.h>
#include <string.h>

static const char *const strategy_names[] = {"cot", "self-critique", "vote", "best-of-n", "drr"};
static const char *const verdict_names[] = {"none", "accept", "reject", "abstain", "escalate"};
static const char *const outcome_names[] = {"answered", "abstained", "unparsed", "failed"};

const char *const drr_votes_names[] = {"equal", "critic", "posterior", "confidence", NULL};
const char *const drr_exhausted_names[] = {"vote", "best", "last", "abstain", NULL};
const char *const drr_feedback_names[] = {"words", "restart", "score", "step", NULL};

static const char *name_at(const char *const *names, size_t n, int i)
{
    return i >= 0 && (size_t)i < n && names[i] ? names[i] : "unknown";
}

#define NAME_AT(names, i) name_at(names, sizeof(names) / sizeof *(names), (int)(i))

const char *drr_strategy_name(drr_strategy strategy)
{
    return NAME_AT(strategy_names, strategy);
}

const char *drr_votes_name(drr_votes votes)
{
    return NAME_AT(drr_votes_names, votes);
}

const char *drr_verdict_name(drr_verdict verdict)
{
    return NAME_AT(verdict_names, verdict);
}

const char *drr_outcome_name(drr_outcome outcome)
{
    return NAME_AT(outcome_names, outcome);
}

const char *drr_route_name(drr_route route)
{
    static const char *const names[DRR_ROUTES] = {"none", "once", "sequence", "parallel", "escalate", "abstain"};
    return NAME_AT(names, route);
}

const char *drr_exhausted_name(drr_exhausted exhausted)
{
    return NAME_AT(drr_exhausted_names, exhausted);
}

const char *drr_feedback_name(drr_feedback feedback)
{
    return NAME_AT(drr_feedback_names, feedback);
}

drr_status drr_strategy_parse(drr_strategy *strategy, const char *name, drr_error *err)
{
    for (size_t i = 0; i < sizeof strategy_names / sizeof *strategy_names; i++)
        if (strcmp(strategy_names[i], name) == 0) {
            *strategy = (drr_strategy)i;
            return DRR_OK;
        }
    return error_set(err, DRR_E_ARGUMENT,
                     "there is no strategy \"%s\": choose cot, self-critique, vote, best-of-n or drr", name);
}

/* The first answer is the likeliest one, as chain of thought is commonly run: a stronger rival than a sampled one. */
void drr_policy_defaults(drr_policy *policy)
{
    *policy = (drr_policy){.strategy = DRR_STRATEGY_DRR,
                           .samples = 5,
                           .keep_votes = 1,
                           .max_turns = 5,
                           .turn_tokens = 200,
                           .threshold = NAN,
                           .escalate_below = NAN,
                           .sure_above = NAN,
                           .on_exhausted = DRR_EXHAUSTED_VOTE,
                           .feedback = DRR_FEEDBACK_RESTART,
                           .first_temperature = 0,
                           .temperature = 0.7f,
                           .top_p = 0.95f,
                           .seed = 1,
                           .early_steps = 1,
                           .early_cuts = 3};
}

/* ---- guarantees */

/* A promise is of drr with fresh answers, all drawn at one temperature, and of those that a turn was accepted for: when
 * turns run out, any other answer than none would be one that nothing is known of. */
void drr_policy_guaranteed(drr_policy *policy, const drr_guarantee *g)
{
    policy->strategy = DRR_STRATEGY_DRR;
    policy->max_turns = g->turns;
    policy->max_tokens = 0;
    policy->max_seconds = 0;
    policy->early_below = policy->early_confidence = 0;
    policy->judge = NULL;
    policy->sure_above = NAN;
    policy->parallel_below = policy->hopeless_below = policy->give_up_below = 0;
    policy->threshold = g->threshold;
    policy->feedback = DRR_FEEDBACK_RESTART;
    policy->on_exhausted = DRR_EXHAUSTED_ABSTAIN;
    if (isfinite(g->temperature))
        policy->first_temperature = policy->temperature = (float)g->temperature;
}

static bool differ(double a, double b)
{
    return fabs(a - b) > 1e-6; /* one of them may have been a float on the way */
}

bool drr_guarantee_holds(char *why, size_t size, const drr_guarantee *g, const drr_policy *p)
{
    buffer b = {0};
    drr_status status = DRR_OK;
    if (p->strategy != DRR_STRATEGY_DRR)
        status = buffer_printf(&b, NULL, "the strategy is %s, not drr; ", drr_strategy_name(p->strategy));
    if (status == DRR_OK && p->max_turns != g->turns)
        status = buffer_printf(&b, NULL, "turns are %u, not %u; ", p->max_turns, g->turns);
    if (status == DRR_OK && p->question_critic &&
        (p->sure_above <= 1 || p->parallel_below > 0 || p->hopeless_below > 0 || p->give_up_below > 0))
        status = buffer_puts(&b, "the question alone decides on some; ", NULL);
    if (status == DRR_OK && p->max_tokens)
        status = buffer_puts(&b, "there is a token budget; ", NULL);
    if (status == DRR_OK && p->max_seconds > 0)
        status = buffer_puts(&b, "there is a budget of seconds; ", NULL);
    if (status == DRR_OK && (p->early_below > 0 || p->early_confidence > 0))
        status = buffer_puts(&b, "answers are stopped early; ", NULL);
    if (status == DRR_OK && p->judge && !drr_judge_calibrated(p->judge))
        status = buffer_printf(&b, NULL, "the judge is %s; ", drr_judge_name(p->judge));
    if (status == DRR_OK && !isnan(p->threshold) && differ(p->threshold, g->threshold))
        status = buffer_printf(&b, NULL, "the threshold is %.4g, not %.4g; ", p->threshold, g->threshold);
    if (status == DRR_OK && g->turns > 1 && p->feedback != DRR_FEEDBACK_RESTART)
        status = buffer_puts(&b, "rejected answers are followed by words, not by a fresh start; ", NULL);
    if (status == DRR_OK && isfinite(g->temperature) &&
        (differ((double)p->first_temperature, g->temperature) ||
         (g->turns > 1 && differ((double)p->temperature, g->temperature))))
        status = buffer_printf(&b, NULL, "temperatures are %g and %g, not %g; ", (double)p->first_temperature,
                               (double)p->temperature, g->temperature);
    const bool holds = status == DRR_OK && b.size == 0;
    if (size)
        snprintf(why, size, "%.*s", b.size > 2 ? (int)(b.size - 2) : 0, b.data ? b.data : "");
    buffer_clear(&b);
    return holds;
}
