/* drr/loop.h: judges, and the loop: how answers are sought, accepted, asked for again, handed on. Part of drr.h. */
#ifndef DRR_LOOP_PART_H
#define DRR_LOOP_PART_H

#include "drr/critic.h"
#include "drr/reasoner.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- judges */

/* Says how likely an answer is right. A critic is one; others stand in for it to be compared with it, on the same
 * loop (drr_policy.judge). What they say is a number in [0, 1] and no calibrated probability: an own threshold is
 * theirs alone, and drr with one of them must be told it. docs/reasoning.md says what each computes. */
typedef struct drr_judge drr_judge;

typedef struct drr_judge_options {
    const char *route; /* of an address: "rerank", "classify", "score", "decisions" or "systemone"; NULL: by its path */
    const char *scale; /* what the numbers of rerank and score are: "logit" or "probability"; NULL: logit for rerank,
                          probability for score */
    const char *model; /* as the server calls it; NULL: none is named */
    const char *ca_file; /* certificates to trust, PEM; NULL: the system's */
    uint32_t seconds;    /* of one answer's judgement, tries together; 0: 60 */
    const drr_hooks
        *hooks; /* asked whether to stop while a server is waited for; may be NULL; must outlive the judge */
} drr_judge_options;
void drr_judge_options_defaults(drr_judge_options *options);

/* source: a critic's file, "self" (the reasoner is asked whether it is right), "length" (shorter is better), "logprob"
 * (of the tokens), "vote" (how many answers agree), or an address ("http://host/v1/rerank"), whose key is
 * DRR_JUDGE_API_KEY of the environment. options may be NULL. Nothing is asked of a server yet. */
drr_status drr_judge_open(drr_judge **judge, const char *source, const drr_judge_options *options, drr_error *err);
void drr_judge_close(drr_judge *judge);
const char *drr_judge_name(const drr_judge *judge);   /* "self"; of an address, that; of a critic, its name */
bool drr_judge_calibrated(const drr_judge *judge);    /* its numbers are probabilities, and it has a threshold */
drr_critic *drr_judge_critic(const drr_judge *judge); /* of a critic's file, and the judge's own; else NULL */

/* ---- the loop */

typedef enum drr_strategy {
    DRR_STRATEGY_COT,
    DRR_STRATEGY_SELF_CRITIQUE,
    DRR_STRATEGY_VOTE,
    DRR_STRATEGY_BEST_OF_N,
    DRR_STRATEGY_DRR
} drr_strategy;
const char *drr_strategy_name(drr_strategy strategy);
drr_status drr_strategy_parse(drr_strategy *strategy, const char *name, drr_error *err);

typedef enum drr_verdict {
    DRR_VERDICT_NONE,
    DRR_VERDICT_ACCEPT,
    DRR_VERDICT_REJECT,
    DRR_VERDICT_ABSTAIN,
    DRR_VERDICT_ESCALATE
} drr_verdict;
const char *drr_verdict_name(drr_verdict verdict);

/* What the samples of `vote` weigh. */
typedef enum drr_votes {
    DRR_VOTES_EQUAL,
    DRR_VOTES_CRITIC,    /* each its own P(correct), blind to the others */
    DRR_VOTES_POSTERIOR, /* the likeliest answer by the critic's judgements: each weighs its log-odds */
    DRR_VOTES_CONFIDENCE /* each its confidence, of the log-probabilities of its tokens */
} drr_votes;
const char *drr_votes_name(drr_votes votes);

typedef enum drr_exhausted {                     /* what happens when turns run out */
                             DRR_EXHAUSTED_VOTE, /* critic-weighted vote over the turns */
                             DRR_EXHAUSTED_BEST,
                             DRR_EXHAUSTED_LAST,
                             DRR_EXHAUSTED_ABSTAIN
} drr_exhausted;
const char *drr_exhausted_name(drr_exhausted exhausted);

typedef enum drr_feedback {
    DRR_FEEDBACK_WORDS,   /* the rejection's words, history kept */
    DRR_FEEDBACK_RESTART, /* a fresh sample, nothing of the rejected turn shown */
    DRR_FEEDBACK_SCORE,   /* words that give the P(correct) */
    DRR_FEEDBACK_STEP     /* words that quote the suspicious step: takes a critic that scores steps */
} drr_feedback;
const char *drr_feedback_name(drr_feedback feedback);

/* All names of these three, by their values, for options and keys that take one; NULL ends each. */
extern const char *const drr_votes_names[], *const drr_exhausted_names[], *const drr_feedback_names[];

typedef struct drr_policy {
    drr_strategy strategy;
    uint32_t samples;       /* vote, best-of-n: at most */
    double stop_confidence; /* they stop when the answer ahead is the right choice as surely as this; 0: never, all are
                               drawn; for best-of-n it is the P(correct) of its best */
    drr_votes votes;        /* vote: what samples weigh, and by what they stop; docs/reasoning.md */
    double keep_votes;      /* with DRR_VOTES_CONFIDENCE this share of them votes, the most confident; 1: all */
    uint32_t max_turns;     /* drr, self-critique */
    uint64_t max_tokens;    /* generated tokens a question over all turns or samples; 0: no limit */
    double max_seconds;     /* that a question may take: the reasoner's and the judge's, not those in which it waits for
                               other questions; 0: no limit */
    uint32_t turn_tokens;   /* of one turn */
    double threshold; /* accept at or above; NaN: the critic's own, for max_turns turns where it has one for these */
    double abstain_below;  /* at the end, abstain when the winner's P(correct) is below; 0: never */
    double escalate_below; /* drr_escalate asks the second reasoner when P(correct) is below; NaN: when no turn was
                              accepted */
    drr_exhausted on_exhausted;
    drr_feedback feedback;
    float first_temperature;  /* of cot, self-critique and drr's first turn; 0: the likeliest token */
    float temperature, top_p; /* of what must differ: vote, best-of-n, drr's other turns */
    uint64_t seed;
    bool grammar;
    /* Early rejection, of drr and best-of-n: an answer under way is looked at where a step ends, and stopped where the
     * critic's P of a step is below early_below, or the confidence of all that is written below early_confidence (0:
     * never): DeepConf's, the lowest mean over 16 tokens as a probability, which a reasoner without log-probabilities
     * does not tell. What is before that step is kept, and gone on with by another seed. */
    double early_below, early_confidence;
    uint32_t early_steps; /* a step before this one, from 1, is never the reason */
    uint32_t early_cuts;  /* an answer is stopped so often at most */
    uint32_t early_after; /* only once so many answers that can be read are whole (best-of-n: never its first ones) */
    bool early_free;  /* drr: stopping does not count as a turn; else it does, and the last turn is not stopped unless
                         early_after makes sure that there is an answer */
    drr_judge *judge; /* gives P(correct) instead of the critic; NULL: the critic does. Must outlive the call */
    /* Before the first token, strategy drr: what a critic of questions alone thinks of this one (drr_route). At or
     * above sure_above the first answer that can be read is accepted. Below parallel_below `samples` are drawn side by
     * side; below hopeless_below nothing is asked, and the outcome is abstained, which drr_escalate takes on; below
     * give_up_below not even that. Each below the one before it. Borrowed; NULL: nobody asks. */
    drr_critic *question_critic;
    double sure_above;                                    /* NaN: never */
    double parallel_below, hopeless_below, give_up_below; /* 0: never */
} drr_policy;
void drr_policy_defaults(drr_policy *policy);
/* Makes the policy the one that a guarantee is about, abstention included. */
void drr_policy_guaranteed(drr_policy *policy, const drr_guarantee *guarantee);
/* Is a guarantee about answers that are accepted under this policy? If not, `why` (at most `size` bytes) names the
 * settings that differ. How a turn is asked (prompts, top-p, its tokens, grammar) is the caller's to keep. */
bool drr_guarantee_holds(char *why, size_t size, const drr_guarantee *guarantee, const drr_policy *policy);
/* That of a critic which is about as many turns as the policy has; NULL: none is. */
const drr_guarantee *drr_critic_guarantee(const drr_critic_info *info, const drr_policy *policy);
/* The promise in one sentence. */
void drr_guarantee_sentence(char *text, size_t size, const drr_guarantee *guarantee);

/* Which way a question went by what a critic of questions said of it. */
typedef enum drr_route {
    DRR_ROUTE_NONE, /* none was asked */
    DRR_ROUTE_ONCE, /* its first answer was taken */
    DRR_ROUTE_SEQUENCE,
    DRR_ROUTE_PARALLEL,
    DRR_ROUTE_ESCALATE, /* not asked here: another reasoner's, where there is one (drr_result.escalated) */
    DRR_ROUTE_ABSTAIN
} drr_route;
#define DRR_ROUTES 6
const char *drr_route_name(drr_route route); /* "none", "once", ...: static */

typedef enum drr_outcome { DRR_ANSWERED, DRR_ABSTAINED, DRR_UNPARSED, DRR_FAILED } drr_outcome;
const char *drr_outcome_name(drr_outcome outcome);

typedef struct drr_turn {
    const char *role; /* "attempt", "critique", "revision", "escalation"; "cut": an attempt that was stopped early;
                         "judge": what the reasoner says of its answer. Static */
    char *text, *answer, *feedback; /* feedback: the words that came before this turn */
    uint32_t sample, turn;
    double logit;      /* NaN when nobody scored it; so are the next three */
    double probe;      /* of the critic's probe, where it has one and the reasoner gives hidden states */
    double p_correct;  /* that its verdict was given on: in the light of the other answers known by then */
    double p_alone;    /* the same as if no other answer were known */
    double confidence; /* of its least certain stretch of tokens, as a probability; NaN without log-probabilities */
    drr_verdict verdict;
    int correct; /* 1, 0, or -1 when there is no reference, or one that only a checker knows */
    drr_finish finish;
    uint32_t n_prompt_tokens, n_tokens;
    double seconds;
    drr_token_stats stats;
    uint32_t cuts; /* how often this attempt had been stopped before */
    uint32_t kept; /* bytes at the beginning of text that were kept of it then; n_tokens does not count them, */
    uint32_t n_kept_tokens; /* but this does */
} drr_turn;
/* An attempt or a revision that ended, also another reasoner's: no critique, no judge's word, nothing stopped early. */
bool drr_turn_answers(const drr_turn *turn);

typedef struct drr_result {
    const drr_task *task;
    char *answer; /* NULL unless DRR_ANSWERED */
    drr_outcome outcome;
    double p_correct;  /* of the answer given; NaN without a critic */
    double p_question; /* of the question alone, before anything was asked; NaN without such a critic */
    drr_route route;   /* what that decided */
    int correct;       /* 1, 0, or -1 when there is no reference; an abstention is 0 with coverage apart */
    drr_turn *turns;
    size_t n_turns;
    uint64_t n_prompt_tokens, n_tokens; /* over all turns */
    double seconds;                     /* of the reasoner, summed over the turns */
    char *failure;                      /* why a turn failed: the reason when DRR_FAILED */
    bool escalated;                     /* the last turn is another reasoner's; tokens and seconds count it too */
    uint64_t n_escalated_prompt_tokens, n_escalated_tokens; /* of these, the other reasoner's */
    uint32_t n_cuts;                                        /* early rejections */
    uint64_t n_cut_tokens;                                  /* of n_tokens: written and then thrown away by them */
    double judge_seconds; /* of the critic or judge, early scores included; where the reasoner is the judge, its turns'
                             seconds say it */
} drr_result;
void drr_result_clear(drr_result *result);
/* Is the answer one that the critic accepted a turn for? Not where it was settled otherwise, or is another reasoner's.
 */
bool drr_result_accepted(const drr_result *result);

/* Hears each turn as it ends and, with turn NULL, each question as it ends. */
typedef void (*drr_turn_fn)(void *user, const drr_result *so_far, const drr_turn *turn);

/* Answers n questions with one strategy, as many at once as the reasoner is wide. results: n slots of the
 * caller's, each cleared with drr_result_clear. critic may be NULL for strategies that need none, and where the
 * policy has a judge. */
drr_status drr_solve(drr_result *results, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                     const drr_task *const *tasks, size_t n, const drr_policy *policy, drr_turn_fn on_turn, void *user,
                     const drr_hooks *hooks, drr_error *err);

/* Asks another reasoner, once, for the likeliest answer to each question that drr_solve left unsure (nothing was
 * answered, or policy->escalate_below says so), and lets its answer stand, with no P(correct), where it has one; where
 * it has none the first one's does. A failure of this call leaves the results as far as they are. */
drr_status drr_escalate(drr_result *results, size_t n, drr_reasoner *second, const drr_prompts *prompts,
                        const drr_policy *policy, drr_turn_fn on_turn, void *user, const drr_hooks *hooks,
                        drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
