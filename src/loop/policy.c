/* policy.c: the names of strategies, verdicts and outcomes, and the default policy. */
#include "core/core.h"

#include <math.h>
#include <string.h>

static const char *const strategy_names[] = {"cot", "self-critique", "vote", "best-of-n", "drr"};
static const char *const verdict_names[] = {"none", "accept", "reject", "abstain", "escalate"};
static const char *const outcome_names[] = {"answered", "abstained", "unparsed", "failed"};

static const char *name_at(const char *const *names, size_t n, int i)
{
    return i >= 0 && (size_t)i < n ? names[i] : "unknown";
}

#define NAME_AT(names, i) name_at(names, sizeof(names) / sizeof *(names), (int)(i))

const char *drr_strategy_name(drr_strategy strategy)
{
    return NAME_AT(strategy_names, strategy);
}

const char *drr_verdict_name(drr_verdict verdict)
{
    return NAME_AT(verdict_names, verdict);
}

const char *drr_outcome_name(drr_outcome outcome)
{
    return NAME_AT(outcome_names, outcome);
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
                           .max_turns = 5,
                           .turn_tokens = 200,
                           .threshold = NAN,
                           .on_exhausted = DRR_EXHAUSTED_VOTE,
                           .feedback = DRR_FEEDBACK_RESTART,
                           .first_temperature = 0,
                           .temperature = 0.7f,
                           .top_p = 0.95f,
                           .seed = 1};
}
