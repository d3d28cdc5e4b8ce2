/* upstream.h: where attempts come from, an OpenAI-compatible server or an embedded model, and the loop cannot tell
 * which. One thread, the engine's, calls all but upstream_wake; what has come is told from within upstream_wait alone.
 * A server is asked at the address of the options and nowhere else, with the key of the options and no other. */
#ifndef DRR_SERVE_UPSTREAM_H
#define DRR_SERVE_UPSTREAM_H

#include "core/json.h"
#include "reasoner/reasoner.h"
#include "serve/metrics.h"

typedef struct upstream upstream;
typedef struct upstream_call upstream_call;

typedef struct upstream_options {
    const char *base, *key; /* NULL base: the reasoner; NULL key: none is sent */
    const char *ca_file;    /* certificates to trust, PEM; NULL: the system's */
    drr_reasoner *reasoner;
    uint32_t timeout_seconds, retries; /* of one call, tries and waits together */
    metrics *counts;                   /* or NULL */
    const drr_hooks *hooks;
} upstream_options;

/* What became of a call. The callee may take what it sets to NULL or zero; the rest is freed after it. */
typedef struct upstream_reply {
    int status;           /* 200: an answer. 400..499: the server refused what the client asked; body and type are its
                             words. 429, 500..504: no answer, and `message` says why */
    char *message;        /* one sentence, without the key */
    const char *code;     /* a slug: static, or NULL */
    const char *param;    /* what is wrong in the request, where that is known: static, or NULL */
    uint32_t retry_after; /* seconds; 0: not known */
    buffer body;          /* as it came, the key hidden */
    char type[96];        /* the body's */
    json_t *root;         /* the body of a server that did not stream */
    const char *text, *thoughts; /* of the first choice; never NULL at 200. In root, or in the two buffers */
    buffer own_text, own_thoughts;
    bool other;      /* the model called a tool, or answered with something that is not text */
    json_t *deltas;  /* of a stream with `other`: those deltas that held it */
    char finish[32]; /* "stop", "length" */
    char *model;     /* as the server calls it; NULL: it did not say */
    bool counted;    /* the next ones are the server's own numbers; else 0, or what upstream_reply_reckon made of it */
    uint32_t n_prompt, n_cached, n_written, n_thought;
    uint32_t n_pieces;      /* of a stream: those that held something */
    reasoner_token *tokens; /* n_tokens of them: log-probabilities, where known */
    uint32_t n_tokens;
    void *hidden; /* the answer's hidden states (core/hidden.h); NULL: none */
    size_t hidden_size;
    double seconds; /* of the last try */
} upstream_reply;
void upstream_reply_clear(upstream_reply *reply);

/* A piece of an answer under way; either part may be empty. logprobs: as the server sent them with it, or NULL. It must
 * not call anything of this header. */
typedef void (*upstream_piece)(void *user, const char *thoughts, size_t n_thoughts, const char *text, size_t n_text,
                               json_t *logprobs);
typedef void (*upstream_done)(void *user, upstream_reply *reply);

typedef struct upstream_ask {
    json_t *body;      /* of /chat/completions; read in upstream_begin alone */
    const char *bytes; /* the same as text, alive until the call has ended; NULL: it has not been written yet */
    size_t size;
    upstream_piece piece; /* NULL: the answer is wanted whole */
    upstream_done done;   /* called once, unless the call is cancelled */
    void *user;
    const drr_task *task; /* NULL: no hidden states of the answer are wanted; copied */
    const char *question; /* for recorded answers: which one */
    uint32_t sample;
    const char *id; /* of the request, for the upstream's own log: x-request-id; NULL: none. Read in upstream_begin */
    uint64_t seed;  /* where the body has none and the backend needs one */
    const char *authorization; /* of the client's, in place of the server's own; NULL: that. Read in upstream_begin */
} upstream_ask;

/* A request passed on as it is. What is no 200 comes whole, in `done`; a 200 begins with `head`, goes on with `bytes`
 * and ends with `done`, whose status then says whether it was whole. */
typedef struct upstream_fetch {
    const char *method, *path; /* "/models": behind the base address */
    const char *query;         /* "" or what stands behind the "?" */
    const char *bytes;         /* alive until the call has ended */
    size_t size;
    const char *type, *accept; /* the client's headers, or NULL */
    const char *const *names;  /* n_more further headers of the client's, by name and value; a NULL value is none */
    const char *const *values;
    size_t n_more;
    const char *authorization, *api_key; /* as of upstream_ask; read in upstream_pass */
    bool key_header;                     /* the server's key goes in x-api-key too */
    bool exact; /* what the upstream refuses, whatever it is, comes as it does; else as of a completion */
    void (*head)(void *user, int status, const char *type);
    void (*more)(void *user, const char *bytes, size_t size);
    upstream_done done;
    void *user;
} upstream_fetch;

drr_status upstream_open(upstream **u, const upstream_options *options, drr_error *err);
void upstream_close(upstream *u); /* drops what is under way, without a word */
bool upstream_is_embedded(const upstream *u);
const char *upstream_name(const upstream *u); /* "host:port", or the reasoner's id */

/* Neither tells anything before the next upstream_wait. */
drr_status upstream_begin(upstream_call **call, upstream *u, const upstream_ask *ask, drr_error *err);
drr_status upstream_pass(upstream_call **call, upstream *u, const upstream_fetch *fetch, drr_error *err);
void upstream_cancel(upstream_call *call); /* nothing more is heard of it. Not from within `piece`, `head` or `more` */

void upstream_wake(upstream *u);                 /* any thread: ends upstream_wait now, or the next one at once */
void upstream_wait(upstream *u, double seconds); /* moves what there is to move; at most so long */

/* ---- upstream_reply.c: the parts that need no network */
/* A whole completion, reply->body, into the rest of *reply; false: it is none, and status and message say so. */
bool upstream_reply_read(upstream_reply *reply, const char *from);
/* An event of a stream: adds to *reply and calls `piece` (may be NULL). False as above. *ended: "[DONE]". */
bool upstream_reply_event(upstream_reply *reply, const char *data, size_t size, bool *ended, upstream_piece piece,
                          void *user, const char *from);
/* An estimate where the server has counted no tokens. prompt_bytes: of the messages that were sent. */
void upstream_reply_reckon(upstream_reply *reply, size_t prompt_bytes);
const char *upstream_error_words(json_t *root); /* what a refusal says; "" where nothing is understood */
void upstream_reply_fail(upstream_reply *reply, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What is no UTF-8 becomes U+FFFD. True: nothing had to. */
bool upstream_make_utf8(buffer *b);

#endif
