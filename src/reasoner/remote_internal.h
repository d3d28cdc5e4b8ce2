/* remote_internal.h: what the files of the remote backend share. remote.c opens, closes and hands back; remote_run.c
 * keeps requests in flight, tries again, watches the clock and the budget; remote_transfer.c is one try over libcurl;
 * remote_reply.c makes a request's JSON and reads what comes back; remote_probe.c finds out what the server can do;
 * remote_key.c keeps the key. remote_sse, remote_think and remote_budget know nothing of the network. */
#ifndef DRR_REASONER_REMOTE_INTERNAL_H
#define DRR_REASONER_REMOTE_INTERNAL_H

#include "core/json.h"
#include "reasoner/reasoner.h"
#include "reasoner/remote_budget.h"
#include "reasoner/remote_sse.h"
#include "reasoner/remote_think.h"

#include <curl/curl.h>

enum { REMOTE_WIDTH = 16, REMOTE_SECONDS = 600, REMOTE_LEAST_KEY = 8, REMOTE_EVENT_MOST = 1 << 20 };

/* Which optional parts of a request this server takes (remote_probe.c). */
typedef struct remote_features {
    bool logprobs, seed, grammar, usage, temperature, top_p;
    bool completion_tokens; /* the limit is called max_completion_tokens */
} remote_features;

/* What a try came to. */
typedef enum remote_fault {
    REMOTE_FINE,
    REMOTE_RETRY, /* may go better another time */
    REMOTE_FAIL,  /* this question has failed */
    REMOTE_LATE,  /* so it has, for no time is left: the server's doing */
    REMOTE_STOP   /* no question can do better: the run stops */
} remote_fault;

/* One question, from submit until it is handed back. */
typedef struct remote_query {
    struct remote_query *next;
    uint64_t tag;
    char *body;
    uint32_t max_tokens, tries;
    bool (*complete)(void *user, const char *text, size_t length);
    void *complete_user;
    void (*watch)(void *watch_user, const reasoner_watched *texts, drr_finish *ends, size_t n);
    void *watch_user;
    uint64_t prompt_guess;
    double started_s;    /* first try; 0 before */
    double not_before_s; /* of the next try */
    double watched_s;    /* when its watch was last asked */
} remote_query;

/* What one try has brought so far. */
typedef struct remote_reply {
    sse_parser events;
    think_splitter words;
    buffer body; /* of a reply that is no event stream */
    reasoner_token *tokens;
    uint32_t n_tokens, token_capacity;
    uint32_t n_pieces;                 /* deltas with text: about a token each */
    bool begun, finished, done, known; /* something generated; finish reason seen; "[DONE]" seen; has choices */
    drr_finish finish;
    bool has_usage;
    uint32_t used_prompt, used_cached, used_written;
    remote_fault fault;
    long status;                   /* HTTP's, or the one that an error within a 200 stands for */
    char problem[480], param[240]; /* as the server said it, cleaned; what may name the parameter it does not take */
} remote_reply;

typedef struct remote_backend remote_backend;

typedef struct remote_transfer {
    remote_backend *owner;
    CURL *easy;
    remote_query *query; /* NULL: free */
    remote_reply reply;
    bool streaming, cut, has_type;
    drr_finish cut_as;
    uint64_t bytes, most_bytes;
    double started_s, last_byte_s;
    drr_status status; /* memory ran out in a callback */
    char curl_says[CURL_ERROR_SIZE];
} remote_transfer;

struct remote_backend {
    char *base, *host, *model, *url, *ca_file;
    char *key; /* NULL: none */
    struct curl_slist *headers;
    CURLM *multi;
    bool probing;
    uint32_t width, request_seconds, retries;
    const drr_hooks *hooks;
    remote_features features;
    remote_transfer *transfers; /* width of them */
    uint32_t n_active;
    double allowed;             /* in flight at once: halved by 429 and 503, grows again with each answer */
    double slowed_s;            /* when it was last halved */
    double hold_until_s;        /* no try begins before: the server asked so */
    double told_s;              /* when a wait was last logged */
    remote_query *first, *last; /* not yet tried, in order */
    remote_query *waiting;      /* for another try */
    reasoner_completion *done;
    size_t n_done, done_capacity;
    budget spending;
    rng random;
    uint64_t n_answered, n_failed, n_retries;
    uint32_t failed_in_row;
    long last_status, http_version;
    char last_param[240];
    drr_error stop; /* status other than DRR_OK: nothing more is asked */
};

/* remote_key.c */
/* The key of the file, else of the environment; *key stays NULL when there is none. */
drr_status remote_key_load(char **key, const char *file, bool is_openai, drr_error *err);
void remote_key_free(char *key); /* wipes it */
/* A server's words fit for a message: key hidden, no control characters, cut to `size` between characters. */
void remote_key_clean(const char *key, char *out, size_t size, const char *text);

/* remote_reply.c */
/* What an HTTP status means for a question and for the run; code: the error's in the body, "" for none. */
remote_fault remote_fault_of(long status, const char *code);
drr_status remote_request_body(char **body, const remote_backend *r, const reasoner_request *request, drr_error *err);
drr_status remote_reply_event(remote_transfer *t, const char *data, size_t size, drr_error *err);
drr_status remote_reply_whole(remote_transfer *t, drr_error *err); /* reply.body, of a 200 */
void remote_reply_refused(remote_transfer *t, long status);        /* reply.body, of another status */
void remote_reply_problem(remote_reply *reply, remote_fault fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void remote_reply_clear(remote_reply *reply);
/* Tokens generated, by the server's count where it gave one. */
uint32_t remote_reply_written(const remote_reply *reply);

/* remote_transfer.c */
drr_status remote_transfer_open(remote_transfer *t, remote_backend *owner, drr_error *err);
void remote_transfer_close(remote_transfer *t);
drr_status remote_transfer_begin(remote_transfer *t, remote_query *query, drr_error *err);
/* After libcurl is done with it: settles reply.fault. */
drr_status remote_transfer_judge(remote_transfer *t, CURLcode code, drr_error *err);
/* Shows what is there of the answer (reply; NULL: nothing) to the question's watch. True: it ends here, as *end. */
bool remote_query_watch(remote_query *query, const remote_reply *reply, double now, drr_finish *end);
void remote_set_up(CURL *easy, const remote_backend *r);

/* remote_run.c */
drr_status remote_step(remote_backend *r, drr_error *err); /* admits, moves bytes, settles; waits a little */
drr_status remote_push(remote_backend *r, const reasoner_completion *completion, drr_error *err);
void remote_drop_all(remote_backend *r);
void remote_query_free(remote_query *query);

/* remote.c */
drr_status remote_submit(void *self, const reasoner_request *request, drr_error *err);
drr_status remote_next(void *self, reasoner_completion *completion, drr_error *err);

/* remote_probe.c */
drr_status remote_find_model(remote_backend *r, drr_error *err);
drr_status remote_probe(remote_backend *r, drr_error *err);

#endif
