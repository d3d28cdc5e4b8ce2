/* loop_internal.h: what the files of src/loop share. A seeker is one question under way: solve.c moves requests and
 * completions, strategies.c decides what is asked next, stop.c whether that is needed, choose.c scores turns and
 * settles the answer, votes.c says which is ahead, early.c watches answers under way. */
#ifndef DRR_LOOP_INTERNAL_H
#define DRR_LOOP_INTERNAL_H

#include "core/core.h"
#include "loop/judge.h"
#include "reasoner/reasoner.h"
#include "task/task.h"
#include "trace/trace.h"

typedef struct loop loop;

typedef struct seeker {
    const drr_task *task;
    drr_result *result;
    char *question;       /* as the critic reads it */
    conversation history; /* of strategies that go on talking; holds every turn up to the last one */
    size_t in_flight;
    uint32_t n_asked; /* fresh samples asked for so far */
    double began_s;   /* when its first request was admitted, as far as that is known; 0: none was */
    bool finished;
} seeker;

typedef struct loop_request { /* one request in flight; the reasoner's callbacks know it by its address */
    loop *l;
    seeker *s;
    const char *role;
    char *feedback;
    uint32_t sample, turn;
    const char *judged; /* of role_judge: the text, a turn's own, that is asked about */
    /* What is kept of pieces of this attempt that were cut. */
    uint32_t cuts;
    char *kept; /* NULL: nothing */
    reasoner_token *kept_tokens;
    uint32_t n_kept_tokens;
    /* Of early rejection. */
    bool watched;         /* while it was written */
    uint32_t n_looked_at; /* bytes up to the last boundary that was scored */
    uint32_t good;        /* of a cut: bytes before the bad step, */
    double p_bad;         /* and that step's P */
} loop_request;

struct loop {
    drr_reasoner *reasoner;
    drr_judge *judge;   /* may be NULL: nobody judges */
    drr_critic *critic; /* the judge's, where it is one; may be NULL */
    const drr_prompts *prompts;
    const drr_policy *policy;
    double threshold;
    bool probes;      /* the critic has a probe, and the reasoner gives what it reads */
    bool early;       /* answers under way are scored */
    bool early_steps; /* by a critic that scores steps */
    char cut_by[200];
    drr_status watch_status; /* what went wrong where nobody could be told */
    drr_error watch_error;
    drr_turn_fn on_turn;
    void *user;
    const drr_hooks *hooks;
    seeker *seekers;
    size_t n, n_finished;
    loop_request **requests; /* NULL: a free place */
    size_t n_requests;
    size_t n_unweighed; /* questions whose votes should have weighed confidences that are not known */
};

extern const char role_attempt[], role_critique[], role_revision[], role_escalation[], role_cut[], role_judge[];

void loop_request_free(loop_request *r); /* NULL is fine */
/* ask.c. A fresh sample sees nothing of what came before; a follow-up goes on with s->history, to which the
 * last turn and `words` are added (words stay the caller's). */
drr_status loop_ask_fresh(loop *l, seeker *s, uint32_t sample, drr_error *err);
drr_status loop_ask_follow_up(loop *l, seeker *s, const char *role, const char *words, drr_error *err);
/* Asks the reasoner itself whether this turn's answer is right. */
drr_status loop_ask_judge(loop *l, seeker *s, size_t i, drr_error *err);
/* Goes on with the attempt of r, whose text so far was `text` and its tokens tokens[n], ends counted in text. */
drr_status loop_ask_rest(loop *l, const loop_request *r, const char *text, const reasoner_token *tokens, uint32_t n,
                         drr_error *err);
bool loop_budget_left(const loop *l, const seeker *s); /* tokens and seconds */

/* early.c: answers under way: their steps, and the question's time. */
drr_status early_check(loop *l, drr_error *err);
bool early_watches(const loop *l, const loop_request *r);
bool early_may_go_on(const loop *l, const seeker *s); /* is there a turn left for what was stopped? */
void early_watch(void *user, const reasoner_watched *texts, drr_finish *ends, size_t n); /* user: the loop */
/* The same for an answer that was there at once (recorded, cached): cuts the completion where it would have been cut.
 */
drr_status early_cut_ready(loop *l, loop_request *r, reasoner_completion *c, drr_error *err);
double loop_seconds_of(const loop *l, const seeker *s, double running); /* what the question has taken so far */

/* words.c: what is said with a rejection; the caller frees. */
drr_status loop_words(char **words, loop *l, seeker *s, const drr_turn *t, drr_error *err);

/* stop.c: vote and best-of-n: what is there already decides, as surely as policy->stop_confidence says. */
bool loop_samples_suffice(loop *l, seeker *s);

/* route.c: which way a question goes by what the question's critic says of it: p_question and the route of its result;
 * settles one that nobody is asked. */
drr_status loop_route_check(const drr_policy *p, drr_error *err);
drr_status loop_route(loop *l, seeker *s, drr_error *err);
/* Samples are drawn side by side, and none waits for a verdict: vote, best-of-n, and drr on such a question. */
bool loop_draws_samples(const loop *l, const seeker *s);

/* strategies.c: the first request of a question, and what follows a turn (result->turns[i]): more requests, or
 * s->finished with the result settled. */
drr_status strategy_begin(loop *l, seeker *s, drr_error *err);
drr_status strategy_advance(loop *l, seeker *s, size_t i, drr_error *err);
uint32_t loop_turns_spent(const loop *l, const seeker *s); /* drr and self-critique: of policy->max_turns */
/* Nothing more will come: settles with what there is. */
void strategy_end(loop *l, seeker *s);
/* vote and best-of-n: asks for the samples still wanted, where the budget allows. Otherwise, and for others, nothing.
 */
drr_status strategy_ask_samples(loop *l, seeker *s, drr_error *err);

/* choose.c */
drr_status loop_score_turn(loop *l, seeker *s, size_t i, drr_error *err); /* sets its logit */
void loop_judge_turn(loop *l, seeker *s, size_t i); /* P(correct) of an answer, given the others that are known */
void loop_judge_turns(loop *l, seeker *s);          /* of all answers, where the decision waits for the last of them */
bool loop_turns_agree(const seeker *s, size_t i, size_t k); /* both have been read, and say the same */
/* P(correct) of turn i; alone: as if no other answer were known. NaN without a critic. */
double loop_turn_p(const loop *l, const seeker *s, size_t i, bool alone);

/* votes.c: the turn that first gave the answer that is ahead; s->result->n_turns where none could be read. *surety: how
 * sure the votes are of it, as stop_confidence asks. */
size_t loop_vote_leader(const loop *l, const seeker *s, drr_votes votes, double *surety);
/* Mean P(correct) of the turns that gave the answer of turn i, as far as it is known; NaN where it is of none. */
double loop_vote_p(const loop *l, const seeker *s, size_t i);
bool loop_confidences_known(const seeker *s);

/* choose.c. Settle the result; each handles that nothing could be read. */
void loop_settle_on(loop *l, seeker *s, size_t i); /* the answer of this turn */
void loop_settle_vote(loop *l, seeker *s, drr_votes votes);
void loop_settle_best(loop *l, seeker *s);
void loop_settle_last(loop *l, seeker *s);
void loop_settle_abstain(loop *l, seeker *s);
/* The same, then abstention where P(correct) is too low. */
void loop_maybe_abstain(loop *l, seeker *s);

#endif
