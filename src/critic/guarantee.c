/* guarantee.c: what a guarantee says, in words, and which of a critic's a policy is about. How one is found is
 * train/promise.c's. */
#include "critic/critic.h"

#include <math.h>
#include <string.h>

const char *drr_risk_test_name(drr_risk_test test)
{
    return test == DRR_RISK_BINOMIAL ? "binomial" : "hoeffding-bentkus";
}

bool critic_risk_test(drr_risk_test *test, const char *name)
{
    *test = strcmp(name, drr_risk_test_name(DRR_RISK_BINOMIAL)) == 0 ? DRR_RISK_BINOMIAL : DRR_RISK_HOEFFDING_BENTKUS;
    return strcmp(name, drr_risk_test_name(*test)) == 0;
}

const drr_guarantee *drr_critic_guarantee(const drr_critic_info *info, const drr_policy *policy)
{
    for (uint32_t i = 0; i < info->n_guarantees; i++)
        if (info->guarantees[i].turns == policy->max_turns)
            return &info->guarantees[i];
    return NULL;
}

static const char *subject(char text[64], const drr_guarantee *g)
{
    if (g->turns > 1)
        snprintf(text, 64, "accepted within %u fresh turns", g->turns);
    else
        snprintf(text, 64, "accepted by one verdict");
    return text;
}

static void shortfall(char *text, size_t size, const drr_guarantee *g, const char *about)
{
    char enough[96];
    if (g->n_needed)
        snprintf(enough, sizeof enough, "with errors as seen there %llu questions would do",
                 (unsigned long long)g->n_needed);
    else
        snprintf(enough, sizeof enough, "with errors as seen there no number of questions would do");
    snprintf(text, size,
             "No threshold can promise that at most %g %% of the answers %s are wrong, with confidence %g %%: of %llu "
             "questions the surest threshold, %.4g, accepts %llu, %llu of them wrong, which promises %.1f %%, %.1f "
             "points short; %s.",
             100 * g->target_error, about, 100 * (1 - g->delta), (unsigned long long)g->n, g->threshold,
             (unsigned long long)g->n_accepted, (unsigned long long)g->n_wrong, 100 * g->bound,
             100 * (g->bound - g->target_error), enough);
}

void drr_guarantee_sentence(char *text, size_t size, const drr_guarantee *g)
{
    char about[64];
    subject(about, g);
    if (!g->found) {
        shortfall(text, size, g, about);
        return;
    }
    snprintf(text, size,
             "Of the answers %s at P(correct) %.4g or above at most %g %% are wrong, with confidence %g %% (of %llu "
             "questions %llu were accepted, %llu of them wrong; %s p = %.2g).",
             about, g->threshold, 100 * g->target_error, 100 * (1 - g->delta), (unsigned long long)g->n,
             (unsigned long long)g->n_accepted, (unsigned long long)g->n_wrong, drr_risk_test_name(g->test),
             g->p_value);
}
