/* engine_internal.h: what the files of the engine share. A request is parsed on an HTTP thread (engine_request.c,
 * engine_wishes.c, engine_question.c), handed to the engine's thread (engine.c), which alone touches it from then on:
 * engine_loop.c asks, judges and decides, engine_reply.c and engine_stream.c write what the client gets, engine_pass.c
 * does what is not judged. */
#ifndef DRR_SERVE_ENGINE_INTERNAL_H
#define DRR_SERVE_ENGINE_INTERNAL_H

#include "serve/engine.h"
#include "serve/upstream.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ENGINE_MOST_CHOICES = 26 };

/* ---- engine_question.c: what is asked, as a critic reads it */
typedef struct question {
    char *text; /* as the critic reads it: "... (A) one (B) two" */
    char *bare; /* without choices */
    char *choices[ENGINE_MOST_CHOICES];
    bool told;     /* the client named the kind of answer */
    drr_task task; /* of the parts above, into which it points: a question is not to be copied */
} question;
typedef enum question_outcome {
    QUESTION_READ,
    QUESTION_NONE,  /* no user has said anything */
    QUESTION_OTHER, /* something in the conversation is not text */
    QUESTION_MEMORY
} question_outcome;
/* kind: -1: guessed. choices: a list of texts, or NULL: those that the question itself letters. */
question_outcome question_read(question *q, json_t *messages, int kind, json_t *choices);
void question_clear(question *q);

/* ---- engine_wishes.c: the "drr" object of a body */
typedef struct wishes {
    engine_policy policy;
    double target_error; /* NaN: none was asked for */
    int kind;            /* -1: not told */
    json_t *choices;     /* or NULL */
    bool judge;
} wishes;
typedef struct refusal { /* of a request that cannot be */
    int status;
    char param[64];
    char message[400];
} refusal;
/* Changes *w, which holds the server's policy. False: *r names what is wrong. Strings are the object's. */
bool wishes_read(wishes *w, json_t *object, refusal *r);
/* The shape that the engine itself relies on; embedded: and all that an embedded model would silently not do. */
bool body_check(json_t *body, bool embedded, refusal *r);

/* ---- a request under way */

typedef struct policy_box { /* the server's policy; requests under way keep theirs */
    atomic_uint users;
    engine_policy policy;
    char *abstain_text;
} policy_box;

typedef struct request request;

typedef struct attempt {
    request *r;
    upstream_call *call; /* NULL: it has come to an end, or has not begun */
    uint32_t number;
    bool ended, good, shown; /* shown: something of it was streamed */
    upstream_reply reply;
    char *said;     /* the answer without thoughts that the model wrote into it; NULL: reply.text */
    char *answer;   /* as it was read; NULL: nothing could be */
    char *feedback; /* the words that it answers to */
    drr_token_stats stats;
    judge_item item;
    double p_correct, judge_began_s; /* p_correct: as its verdict was given on; NaN: not judged */
    drr_verdict verdict;
} attempt;

typedef struct inbox_node {
    struct inbox_node *next;
    request *r;
    bool listed;
} inbox_node;

typedef enum request_kind { REQUEST_CHAT, REQUEST_MODELS, REQUEST_PASS } request_kind;

struct request {
    request *next, *previous;
    engine *e;
    http_call *call;
    request_kind kind;
    inbox_node arrived, gone, judged;
    bool under_way, left, judging, over,
        deadline_passed; /* left: its client has; over: answered, and only the judge still holds it */
    drr_status judge_status;
    char judge_message[300];
    double began_s, deadline_s, ping_s;

    json_t *body, *wishes_object;
    bool as_is;   /* the body can go to the upstream as it came */
    bool unnamed; /* it names no model, and nobody knew the only one yet */
    bool stream, include_usage;
    policy_box *box;
    engine_policy policy;
    double target_error; /* NaN: none */
    const drr_guarantee *guarantee;
    drr_guarantee guarantee_space;
    double temperature; /* that a guarantee asks for; NaN: the client's */
    double threshold;
    judge_seat *seat;          /* the critic that judges all of its turns; NULL: it has none, or is not judged */
    const char *dm, *unjudged; /* dm: its name; unjudged: why; NULL: it is judged */
    question question;
    char id[64];
    long long created;
    char *model; /* as the client was told */

    attempt *attempts; /* room for `most` */
    uint32_t most, n_attempts, n_running;
    json_t *history; /* of words: the conversation with all turns so far */
    const char *ended_by;
    bool direct;               /* what comes goes straight to the client: nothing could be taken back anyway */
    bool streaming, role_sent; /* the client has got a head; a first delta */
    uint64_t n_prompt, n_cached, n_written, n_thought;

    upstream_call *passing; /* of a request passed on */
    char *pass_bytes;
    buffer collected; /* of a list of models */
};

struct engine {
    engine_options options;
    const drr_hooks *hooks;
    upstream *up;
    drr_prompts *prompts;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of the next five */
    inbox_node *first, *last;
    policy_box *box;
    char *only_model;  /* of an upstream that has but one; NULL: not known, or there are several */
    bool models_known; /* it has told which it has */
    atomic_bool closing;
    bool any_left; /* a stream could not be written to */
    buffer models; /* the list of them, as it comes at the start */
    request *requests;
    double due_s; /* when something is to be done by the clock */
    rng random;
    atomic_uint n_judging; /* items that the judge has */
};

/* engine.c */
request *request_new(engine *e, http_call *call, request_kind kind);
void request_hand_over(request *r); /* to the engine's thread; from there on r is not the caller's */
void request_drop(request *r);      /* before it was handed over; its call has been ended */
/* The call has been ended: all that is under way for r is dropped, and so is r. */
void request_end(request *r);
void request_due(request *r, double when_s);                      /* its clock is to be looked at then */
drr_status request_judge(request *r, attempt *a, drr_error *err); /* chat_judged follows, unless r has ended */
const char *request_key(const request *r, const char *header); /* the client's, where it is to be forwarded; or NULL */
policy_box *policy_hold(engine *e);
void policy_release(policy_box *box);

/* engine_loop.c */
void chat_begin(request *r);
void chat_judged(request *r);
void chat_deadline(request *r);

/* engine_pass.c */
void pass_begin(request *r);
void chat_pass(request *r); /* a stream that is not judged */
/* The only model's name stands for none in a request. It is asked for when the engine begins, and again, where that
 * told nothing, for a request that needs it: true, and chat_begin follows. */
void models_learn(engine *e);
bool models_learn_for(request *r);

/* engine_reply.c: each ends the call and the request. */
void reply_answer(request *r, attempt *a, const char *verdict, const char *chosen_by);
void reply_abstain(request *r);
void reply_failure(request *r, upstream_reply *reply);
void reply_error(request *r, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
json_t *reply_turn(const attempt *a);
char *reply_usage(const request *r);        /* the object's text; the caller frees */
const char *attempt_text(const attempt *a); /* what was said, without thoughts */
/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
drr_status put_json_string(buffer *b, const char *text, size_t size);
drr_status put_fingerprint(buffer *b, const request *r); /* ,"system_fingerprint":".." */
void reply_headers(request *r, const char *verdict, uint32_t turns, double p_correct);

/* engine_stream.c */
bool stream_begin(request *r); /* once; false: nobody listens */
void stream_ping(request *r);
void stream_piece(void *user, const char *thoughts, size_t n_thoughts, const char *text, size_t n_text,
                  json_t *logprobs);
void stream_turn(request *r, const attempt *a);
/* The whole answer and the end. message: the attempt's; NULL text: it has been shown already. */
void stream_answer(request *r, const attempt *a, const char *text, const char *refusal_words, const char *finish,
                   const char *drr);
void stream_error(request *r, const char *type, const char *param, const char *code, const char *message);

#endif
