/* drr/serve.h: a server in front of a model. Part of drr.h. */
#ifndef DRR_SERVE_PART_H
#define DRR_SERVE_PART_H

#include "drr/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does the page show what was asked and answered? Whoever has a key sees all of it. */
typedef enum drr_page_texts {
    DRR_PAGE_TEXTS_AUTO, /* unless there are several keys */
    DRR_PAGE_TEXTS_YES,
    DRR_PAGE_TEXTS_NO
} drr_page_texts;

/* Strings are not copied: those of these options, and of any that `reload` gives, live until drr_serve returns. */
typedef struct drr_serve_options {
    /* Where it listens, and for whom (docs/security.md). */
    const char *host; /* an address of this machine; one that others can reach needs an API key */
    uint32_t port;    /* 0: any that is free */
    const char *tls_certificate, *tls_key;
    const char *const *api_keys;
    size_t n_api_keys;
    const char *api_key_file; /* beside api_keys: one a line, readable by its owner alone */
    uint64_t max_body_bytes;
    uint32_t max_connections, max_in_flight; /* max_in_flight: requests of one key; 0: any number */
    uint32_t header_seconds, body_seconds, write_seconds, idle_seconds;
    uint32_t http_threads; /* 0: by the number of cores */
    /* Who thinks: an upstream, or an embedded reasoner. */
    const char *upstream;              /* base URL of an OpenAI-compatible API: "http://host/v1" */
    const char *model;                 /* as the upstream calls it; NULL: as the client says */
    const char *upstream_key_file;     /* NULL: the environment, as of drr_reasoner_options.api_key_file */
    bool forward_key;                  /* a client's own key goes to the upstream in place of that one */
    uint32_t timeout_seconds, retries; /* of one attempt */
    const char *reasoner;              /* as drr_reasoner_open */
    drr_reasoner_options reasoner_options;
    /* Who judges. */
    const char *critic; /* NULL: agreement between samples; one with a probe takes the reasoner whose states it reads */
    drr_precision precision;
    uint32_t judge_threads; /* 0: all cores */
    /* What is done about it: a request's "drr" object changes these for itself (docs/serve.md). */
    uint32_t max_turns, samples; /* 1 to 32 */
    uint64_t max_tokens;         /* generated, over all turns; 0: no limit */
    uint32_t deadline_ms;        /* 0: none */
    double threshold;            /* NaN: the critic's own */
    drr_exhausted on_exhausted;
    drr_feedback feedback; /* words, score or restart */
    bool shadow;           /* judge, and never interfere */
    double share;          /* of requests that are judged at all */
    bool pass_unjudged;    /* when the judge fails: true: the answer goes out and says so; false: an error */
    bool live;             /* stream attempts as they are written, as reasoning_content; else hold until accepted */
    bool abstain_refusal;  /* an abstention's words in message.refusal too */
    const char *abstain_text;
    /* Operation. */
    uint32_t keepalive_seconds; /* between comments in a held stream */
    uint32_t drain_seconds;     /* for requests under way at the end */
    bool metrics;               /* GET /metrics */
    bool log_prompts;           /* questions and answers in events too */
    const char *record;         /* judged traffic goes to this trace store, for the next training; NULL: nowhere */
    const char *const *redact;  /* JSON fields whose values are not recorded */
    size_t n_redact;
    uint64_t page_bytes; /* of memory for the recent requests that the page shows; 0: none */
    drr_page_texts page_texts;
    /* Callbacks, each may be NULL. */
    void *user;
    void (*ready)(void *user, uint32_t port);         /* everything is loaded */
    void (*event)(void *user, const char *json_line); /* what happens, for logs: one at a time, from any thread */
    /* Where and how `event` writes, in the caller's own words: all that the server does is to say, when `reload` gives
     * others, that they need a restart. */
    const char *log_file, *log_format;
    /* Asked as often as hooks->cancelled. DRR_E_EMPTY: nothing is new; DRR_OK: *fresh are the options from now on, as
     * far as they can change while it runs (critic, keys, certificates, policy); else *err says why they stay. */
    drr_status (*reload)(void *user, const struct drr_serve_options **fresh, drr_error *err);
} drr_serve_options;
void drr_serve_options_defaults(drr_serve_options *options);

/* Answers requests until hooks->cancelled says so; then takes no more, and returns when those under way are answered or
 * drain_seconds are over. hooks->log is called from any thread, one call at a time. */
drr_status drr_serve(const drr_serve_options *options, const drr_hooks *hooks, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
