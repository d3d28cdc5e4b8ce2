/* upstream_http.h: what the two files of the HTTP upstream share: upstream_http.c moves bytes, upstream_try.c judges
 * what a try was worth. */
#ifndef DRR_SERVE_UPSTREAM_HTTP_H
#define DRR_SERVE_UPSTREAM_HTTP_H

#include "reasoner/remote_sse.h"
#include "serve/upstream_internal.h"

#include <curl/curl.h>

/* One call, from its beginning until it is told or cancelled; then it waits with its handle for the next one. */
typedef struct http_transfer {
    upstream_call call; /* first */
    upstream_http *h;
    struct http_transfer *next, *previous;
    CURL *easy;
    struct curl_slist *headers;
    char *url;       /* of a request passed on; NULL: it asks for completions */
    bool chats, raw; /* the handle is set up to ask for completions; a request passed on */
    bool forwards;   /* with the client's key: whatever is wrong with it is for the client to hear */
    upstream_ask ask;
    upstream_fetch fetch;
    char *own_bytes;
    upstream_reply reply;
    sse_parser events;
    buffer held;                   /* bytes that may be the beginning of the key */
    long status;                   /* HTTP's; 0: no reply has come */
    bool running, waiting;         /* in the multi handle; for another try */
    bool seen;                     /* the reply's head */
    bool onward;                   /* what comes goes straight to `fetch` */
    bool streaming, ended, broken; /* events; "[DONE]"; the reply is a failure already */
    bool given;                    /* something was handed on: no other try can be made */
    uint32_t tries;
    double began_s, try_s, not_before_s, finished_s; /* finished_s: the reason for the end was seen; 0: not yet */
    char curl_says[CURL_ERROR_SIZE];
} http_transfer;

struct upstream_http {
    upstream *owner;
    CURLM *multi;
    char *chat_url, *authorization;
    size_t base_size; /* of the base address, without slashes at its end */
    http_transfer *active, *idle;
    double timer_s, retry_s; /* when libcurl wants to be called; when the next try is due */
    rng random;
};

/* Settles t->reply of a try that is over. True: another try may go better. */
bool http_transfer_judge(http_transfer *t, CURLcode code);
/* The type is a claim: true where the body is a stream of events after all, and has been read as one. */
bool http_transfer_reread(http_transfer *t);

#endif
