/* stop.c: when vote and best-of-n have samples enough. What is asked and settled is strategies.c's and choose.c's. */
#include "core/risk.h"
#include "loop/loop_internal.h"

#include <stdlib.h>

/* Turns that gave the answer of turn i, where turn i is the first of them; else 0. */
static uint32_t votes_led_by(const seeker *s, size_t i)
{
    uint32_t n = 0;
    for (size_t k = 0; k < s->result->n_turns; k++) {
        if (!loop_turns_agree(s, i, k))
            continue;
        if (k < i)
            return 0;
        n++;
    }
    return n;
}

/* Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860), its Beta rule: with a votes for the answer ahead and b
 * for the next one, and nothing known beforehand, the chance that the first is the likelier of the two is
 * P(Beta(a + 1, b + 1) > 1/2) = P(Bin(a + b + 1, 1/2) <= a). A lead that the samples left cannot close ends it too. */
static bool vote_suffices(const loop *l, const seeker *s)
{
    uint32_t most = 0, second = 0;
    for (size_t i = 0; i < s->result->n_turns; i++) {
        const uint32_t n = votes_led_by(s, i);
        if (n > most) {
            second = most;
            most = n;
        } else if (n > second) {
            second = n;
        }
    }
    return most - second > l->policy->samples - s->n_asked ||
           (most && risk_binomial(most + second + 1, 0.5, most) >= l->policy->stop_confidence);
}

static bool best_suffices(loop *l, seeker *s)
{
    bool enough = false;
    loop_judge_turns(l, s);
    for (size_t i = 0; i < s->result->n_turns; i++) {
        const drr_turn *t = &s->result->turns[i];
        enough = enough || (t->answer && t->p_correct >= l->policy->stop_confidence);
    }
    return enough;
}

bool loop_samples_suffice(loop *l, seeker *s)
{
    if (l->policy->stop_confidence <= 0 || s->result->n_turns == 0)
        return false;
    return l->policy->strategy == DRR_STRATEGY_VOTE ? vote_suffices(l, s) : best_suffices(l, s);
}
