/* engine.h: the loop over chat requests: attempts from the upstream, verdicts from the judge, then one answer. One
 * thread owns all requests under way; HTTP threads hand them over. */
#ifndef DRR_SERVE_ENGINE_H
#define DRR_SERVE_ENGINE_H

#include "serve/http.h"
#include "serve/judge.h"
#include "serve/metrics.h"

typedef struct engine engine;

#define ENGINE_NO_STEPS                                                                                                \
    "the server scores whole answers and no steps, so it cannot quote the suspicious one: take words, score or "       \
    "restart (drr reason has step)"

enum { ENGINE_MOST_TURNS = 32 }; /* of a request; samples too */

typedef struct engine_policy { /* the server's defaults; a request's "drr" object changes them */
    uint32_t max_turns, samples;
    uint64_t max_tokens; /* generated, over all turns; 0: no limit */
    uint32_t deadline_ms;
    double threshold; /* NaN: the critic's own */
    drr_exhausted on_exhausted;
    drr_feedback feedback;
    bool shadow;          /* judge, and never interfere */
    double share;         /* of requests that are judged at all */
    bool pass_unjudged;   /* on-judge-error: true: the answer goes out unjudged and says so; false: an error */
    bool live;            /* stream-mode */
    bool abstain_refusal; /* the abstention's words in message.refusal too */
    const char *abstain_text;
} engine_policy;
void engine_policy_defaults(engine_policy *policy);

typedef struct engine_turn {   /* what became of one attempt, for recorders and the page */
    const char *text, *answer; /* answer: NULL where none was read */
    double logit, p_correct;   /* NaN: not judged */
    drr_verdict verdict;
    const char *feedback; /* the words that came before this turn; NULL: it was asked afresh */
    drr_finish finish;
    const drr_token_stats *stats; /* NULL: none known */
    uint32_t n_prompt_tokens, n_tokens;
    double seconds;
} engine_turn;
typedef struct engine_record {                   /* a finished request; all of it lives during the call */
    const char *id, *model, *question, *outcome; /* outcome: as in the drr object's verdict */
    drr_kind kind;                               /* of the answer, as it was told or guessed */
    const json_t *request;                       /* the client's body */
    const engine_turn *turns;
    size_t n_turns;
    const char *answer;
    double p_correct, threshold, seconds;
} engine_record;
typedef void (*engine_recorder)(void *user, const engine_record *record); /* on the engine's thread; must be quick */

typedef struct engine_options {
    const char *upstream;         /* base URL, or NULL */
    const char *upstream_key;     /* or NULL */
    const char *upstream_ca_file; /* certificates to trust, PEM; NULL: the system's */
    const char *model;            /* as the upstream calls it; NULL: the client's, or the only one */
    bool forward_key;             /* a client's own key goes there in place of it */
    uint32_t timeout_seconds, retries, keepalive_seconds;
    drr_reasoner *reasoner; /* instead of an upstream; used by the engine's own thread alone */
    judge *critic;          /* NULL: agreement between samples judges */
    metrics *counts;
    engine_policy policy;
    engine_recorder recorder; /* or NULL */
    void *recorder_user;
} engine_options;

drr_status engine_open(engine **e, const engine_options *options, const drr_hooks *hooks, drr_error *err);
void engine_close(engine *e); /* ends every call that is under way */
/* From which P(correct) on a turn is accepted: what is asked for, else (NaN) the critic's own for so many turns; info
 * NULL: no critic. */
double engine_threshold(double asked, uint32_t max_turns, const drr_critic_info *info);
void engine_set_policy(engine *e, const engine_policy *policy); /* of requests from now on */

/* Live mode, which the page reads (a request asks with "drr": {"stream_mode": "live"}): an attempt is written as
 * delta.reasoning_content; after its verdict comes a chunk with an empty delta and "drr": {"turn": TURN}. The last
 * chunk with choices has the whole drr object, {"verdict", "p_correct", "threshold", "turns": [TURN, ...], "dm", ...}.
 * TURN:
 * {"turn": 0.., "verdict": "accept|reject|abstain|none", "p_correct": number or null, "answer": text or null,
 * "prompt_tokens", "completion_tokens", "seconds"}. */

/* Routes, user: the engine. */
void engine_chat(void *user, http_call *call);   /* POST /v1/chat/completions */
void engine_models(void *user, http_call *call); /* GET /v1/models, /v1/models/ID */
void engine_pass(void *user, http_call *call);   /* unchanged to the upstream and back */

#endif
