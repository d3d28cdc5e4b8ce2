/* guarantee.c: a critic's promise at the command line: what it says, whether it is about what was asked for, and making
 * it so. */
#include "cli.h"

#include <stdio.h>

void cli_guarantee_members(cli_json *j, const drr_guarantee *g)
{
    char sentence[480];
    cli_json_bool(j, "found", g->found);
    cli_json_uint(j, "turns", g->turns);
    cli_json_number(j, "target_error", g->target_error);
    cli_json_number(j, "delta", g->delta);
    cli_json_number(j, "threshold", g->threshold);
    cli_json_string(j, "test", drr_risk_test_name(g->test));
    cli_json_number(j, "temperature", g->temperature);
    cli_json_uint(j, "n", g->n);
    cli_json_uint(j, "n_accepted", g->n_accepted);
    cli_json_uint(j, "n_wrong", g->n_wrong);
    cli_json_number(j, "p_value", g->p_value);
    cli_json_number(j, "bound", g->bound);
    drr_guarantee_sentence(sentence, sizeof sentence, g);
    cli_json_string(j, "sentence", sentence);
}

static drr_status refuse(drr_error *err, const char *why)
{
    err->status = DRR_E_ARGUMENT;
    snprintf(err->message, sizeof err->message, "%s", why);
    return DRR_E_ARGUMENT;
}

drr_status cli_guarantee(drr_guarantee *holding, drr_policy *policy, const drr_critic *critic, bool wanted,
                         drr_error *err)
{
    drr_critic_info info = {0};
    char text[480];
    if (critic)
        drr_critic_describe(critic, &info);
    if (wanted && info.n_guarantees == 0)
        return refuse(err, critic ? "the critic has no guarantee to keep to: train one with drr train --target-error"
                                  : "--guaranteed keeps to a critic's guarantee: give --critic FILE");
    if (info.n_guarantees == 0)
        return DRR_OK;
    const drr_guarantee *g = drr_critic_guarantee(&info, policy);
    if (!g)
        g = &info.guarantees[info.n_guarantees - 1];
    if (wanted)
        drr_policy_guaranteed(policy, g);
    if (!drr_guarantee_holds(text, sizeof text, g, policy)) {
        cli_note("the critic's guarantee is not about answers sought like this (%s); --guaranteed keeps to it", text);
        return DRR_OK;
    }
    if (holding)
        *holding = *g;
    drr_guarantee_sentence(text, sizeof text, g);
    cli_note("guarantee: %s", text);
    return DRR_OK;
}
