/* stop.c: when vote and best-of-n have samples enough. Which answer is ahead in a vote, and how surely, is votes.c's;
 * what is asked and settled is strategies.c's and choose.c's. */
#include "loop/loop_internal.h"

#include <stdlib.h>

static bool vote_suffices(const loop *l, const seeker *s)
{
    double surety;
    return loop_vote_leader(l, s, l->policy->votes, &surety) < s->result->n_turns &&
           surety >= l->policy->stop_confidence;
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
    if (l->policy->stop_confidence <= 0 || s->result->n_turns == 0 || l->policy->strategy == DRR_STRATEGY_DRR)
        return false;
    return l->policy->strategy == DRR_STRATEGY_VOTE ? vote_suffices(l, s) : best_suffices(l, s);
}
