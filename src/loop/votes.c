/* votes.c: which answer is ahead in a vote, and how surely: by the count of samples, by what a critic says of each, or
 * by how certain the reasoner was. The rules are weigh.c's; settling is choose.c's. */
#include "loop/loop_internal.h"
#include "loop/weigh.h"

#include <math.h>
#include <stdlib.h>

/* The first turn that gave the answer of turn i; n_turns where that has none. */
static size_t first_of(const seeker *s, size_t i)
{
    for (size_t k = 0; k <= i; k++)
        if (loop_turns_agree(s, i, k))
            return k;
    return s->result->n_turns;
}

double loop_vote_p(const loop *l, const seeker *s, size_t i)
{
    double sum = 0, n = 0;
    for (size_t k = 0; k < s->result->n_turns; k++) {
        const double p = loop_turns_agree(s, i, k) ? loop_turn_p(l, s, k, false) : NAN;
        if (isnan(p)) /* another answer, or a judge that said nothing */
            continue;
        sum += p;
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

bool loop_confidences_known(const seeker *s)
{
    for (size_t i = 0; i < s->result->n_turns; i++)
        if (s->result->turns[i].answer && isnan(s->result->turns[i].confidence))
            return false;
    return true;
}

/* Is turn i among the share that is kept? Of equals the earlier one goes first. */
static bool is_kept(const loop *l, const seeker *s, size_t i)
{
    const drr_turn *turns = s->result->turns;
    size_t before = 0, n = 0;
    for (size_t k = 0; k < s->result->n_turns; k++) {
        if (!turns[k].answer)
            continue;
        n++;
        before += turns[k].confidence > turns[i].confidence || (k < i && turns[k].confidence >= turns[i].confidence);
    }
    return (double)before < l->policy->keep_votes * (double)n - 1e-9;
}

static double weight_of(const loop *l, const seeker *s, size_t i, drr_votes votes)
{
    const drr_turn *t = &s->result->turns[i];
    if (votes == DRR_VOTES_CRITIC)
        return !l->judge ? 1 : isnan(t->p_alone) ? 0 : t->p_alone; /* NaN: a judge that said nothing */
    if (votes == DRR_VOTES_CONFIDENCE && loop_confidences_known(s))
        return is_kept(l, s, i) ? t->confidence : 0;
    return 1;
}

/* By weights; of equals the answer that was given first. *most and *next: the turns that gave the first and the best of
 * the others. */
static size_t by_weight(const loop *l, const seeker *s, drr_votes votes, uint32_t *most, uint32_t *next)
{
    const size_t n = s->result->n_turns;
    size_t best = n;
    double heaviest = -1;
    *most = *next = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = 0;
        if (first_of(s, i) != i)
            continue;
        for (size_t k = i; k < n; k++)
            weight += loop_turns_agree(s, i, k) ? weight_of(l, s, k, votes) : 0;
        if (weight > heaviest + 1e-12) {
            heaviest = weight;
            best = i;
        }
    }
    for (size_t i = 0; i < n && best < n; i++) {
        uint32_t count = 0;
        if (first_of(s, i) != i)
            continue;
        for (size_t k = i; k < n; k++)
            count += loop_turns_agree(s, i, k);
        if (i == best)
            *most = count;
        else if (count > *next)
            *next = count;
    }
    return best;
}

/* Without memory for it nothing is sure, and the weights decide. */
static size_t by_posterior(const seeker *s, double *surety)
{
    const size_t n = s->result->n_turns;
    const drr_task *task = s->task;
    double *p = calloc(2 * n + 1, sizeof *p);
    size_t *choice = calloc(2 * n + 1, sizeof *choice), *first = choice ? choice + n : NULL, n_read = 0, n_choices = 0;
    size_t best = n;
    for (size_t i = 0; p && choice && i < n; i++) {
        const size_t at = first_of(s, i);
        size_t c = 0;
        if (at == n)
            continue;
        while (c < n_choices && first[c] != at)
            c++;
        if (c == n_choices)
            first[n_choices++] = at;
        choice[n_read] = c;
        p[n_read++] = s->result->turns[i].p_alone;
    }
    if (n_read) {
        const bool closed = task->kind == DRR_KIND_CHOICE || task->kind == DRR_KIND_BOOLEAN;
        const size_t c = weigh_posterior(p + n, p, choice, n_read, n_choices,
                                         weigh_alternatives(task->kind, task->n_choices), closed);
        *surety = p[n + c];
        best = first[c];
    }
    free(p);
    free(choice);
    return best;
}

size_t loop_vote_leader(const loop *l, const seeker *s, drr_votes votes, double *surety)
{
    uint32_t most, next;
    *surety = 0;
    if (votes == DRR_VOTES_POSTERIOR)
        return by_posterior(s, surety);
    const size_t best = by_weight(l, s, votes, &most, &next);
    if (best == s->result->n_turns)
        return best;
    if (votes == DRR_VOTES_CRITIC)
        *surety = loop_vote_p(l, s, best);
    else if (votes == DRR_VOTES_EQUAL && most - next > l->policy->samples - s->n_asked)
        *surety = 1; /* those left cannot change it */
    else
        *surety = weigh_beta(most, next);
    return best;
}
