/* choose.c: P(correct) of a question's turns, each in the light of the others, and the answer that is settled on. What
 * is asked next is strategies.c's. A turn keeps the P(correct) that its verdict was given on; what answers that came
 * later say about it counts when the answer is settled, and is in the result's P(correct) alone. */
#include "critic/critic.h"
#include "loop/loop_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool drr_turn_answers(const drr_turn *turn)
{
    return strcmp(turn->role, role_critique) != 0 && strcmp(turn->role, role_judge) != 0 &&
           strcmp(turn->role, role_cut) != 0;
}

static bool agree(const seeker *s, const drr_turn *a, const drr_turn *b)
{
    return a->answer && b->answer && drr_answer_equal(s->task->kind, a->answer, b->answer);
}

bool loop_turns_agree(const seeker *s, size_t i, size_t k)
{
    return agree(s, &s->result->turns[i], &s->result->turns[k]);
}

/* alone: as if no other answer were known. */
static drr_features features_of(const seeker *s, size_t i, bool alone)
{
    const drr_turn *t = &s->result->turns[i];
    drr_features f;
    drr_features_defaults(&f);
    f.stats = t->stats;
    f.n_tokens = t->n_kept_tokens + t->n_tokens;
    f.turn = t->turn;
    f.probe = t->probe;
    f.parsed = t->answer != NULL;
    for (size_t k = 0; !alone && k < s->result->n_turns; k++) {
        const drr_turn *other = &s->result->turns[k];
        if (k == i || !drr_turn_answers(other))
            continue;
        f.n_others++;
        f.n_agree += agree(s, t, other);
    }
    return f;
}

drr_status loop_score_turn(loop *l, seeker *s, size_t i, drr_error *err)
{
    drr_turn *t = &s->result->turns[i];
    const drr_features f = features_of(s, i, true); /* of which a probe alone takes its score */
    const judged_turn judged = {.question = s->question, .text = t->text, .features = &f};
    if (!l->judge || !l->judge->class->score || !drr_turn_answers(t))
        return DRR_OK;
    if (l->judge->class->needs_logprobs && f.stats.n == 0 && f.n_tokens)
        return error_set(err, DRR_E_MISMATCH,
                         "the judge %s reads the log-probabilities of tokens, and %s gives none: take another judge",
                         l->judge->name, drr_reasoner_id(l->reasoner));
    const double began = clock_seconds();
    drr_status status = l->judge->class->score(l->judge, &t->logit, &judged, err);
    s->result->judge_seconds += clock_seconds() - began;
    return status;
}

double loop_turn_p(const loop *l, const seeker *s, size_t i, bool alone)
{
    const drr_turn *t = &s->result->turns[i];
    if (!l->judge || !drr_turn_answers(t))
        return NAN;
    const drr_features f = features_of(s, i, alone);
    return l->judge->class->p(l->judge, t->logit, &f);
}

void loop_judge_turn(loop *l, seeker *s, size_t i)
{
    if (!drr_turn_answers(&s->result->turns[i])) /* a piece that was stopped keeps the P that stopped it */
        return;
    s->result->turns[i].p_alone = loop_turn_p(l, s, i, true);
    s->result->turns[i].p_correct = loop_turn_p(l, s, i, false);
}

void loop_judge_turns(loop *l, seeker *s)
{
    for (size_t i = 0; i < s->result->n_turns; i++)
        loop_judge_turn(l, s, i);
}

/* ---- settling */

static void settle(seeker *s, const char *answer, double p)
{
    drr_result *r = s->result;
    free(r->answer);
    r->answer = answer ? string_copy(answer) : NULL;
    r->outcome = r->answer ? DRR_ANSWERED : DRR_UNPARSED;
    r->p_correct = r->answer ? p : NAN;
    r->correct = task_answer_correct(s->task, r->answer);
    s->finished = true;
}

void loop_settle_on(loop *l, seeker *s, size_t i)
{
    settle(s, s->result->turns[i].answer, loop_turn_p(l, s, i, false));
}

void loop_settle_last(loop *l, seeker *s)
{
    size_t last = s->result->n_turns;
    for (size_t i = 0; i < s->result->n_turns; i++)
        if (s->result->turns[i].answer)
            last = i;
    if (last < s->result->n_turns)
        loop_settle_on(l, s, last);
    else
        settle(s, NULL, NAN);
}

void loop_settle_best(loop *l, seeker *s)
{
    size_t best = s->result->n_turns;
    double p_best = NAN;
    for (size_t i = 0; i < s->result->n_turns; i++) {
        const double p = loop_turn_p(l, s, i, false);
        if (s->result->turns[i].answer && (best == s->result->n_turns || (isnan(p_best) && !isnan(p)) || p > p_best)) {
            best = i;
            p_best = p;
        }
    }
    if (best < s->result->n_turns)
        loop_settle_on(l, s, best);
    else
        settle(s, NULL, NAN);
}

void loop_settle_vote(loop *l, seeker *s, drr_votes votes)
{
    double surety;
    const size_t best = loop_vote_leader(l, s, votes, &surety);
    l->n_unweighed += votes == DRR_VOTES_CONFIDENCE && !loop_confidences_known(s);
    if (best < s->result->n_turns)
        settle(s, s->result->turns[best].answer, loop_vote_p(l, s, best));
    else
        settle(s, NULL, NAN);
}

void loop_settle_abstain(loop *l, seeker *s)
{
    (void)l;
    drr_result *r = s->result;
    free(r->answer);
    r->answer = NULL;
    r->outcome = DRR_ABSTAINED;
    if (s->task->answer[0])
        r->correct = 0;
    for (size_t i = r->n_turns; i-- > 0;)
        if (drr_turn_answers(&r->turns[i])) {
            r->turns[i].verdict = DRR_VERDICT_ABSTAIN;
            break;
        }
    s->finished = true;
}

void loop_maybe_abstain(loop *l, seeker *s)
{
    if (s->result->outcome == DRR_ANSWERED && l->policy->abstain_below > 0 &&
        !(s->result->p_correct >= l->policy->abstain_below)) /* nor where nobody knows */
        loop_settle_abstain(l, s);
}
