/* upstream_internal.h: what the files of the upstream share. upstream.c opens, waits and hands round; upstream_http.c
 * asks a server over libcurl, upstream_embedded.c a model of this process; upstream_reply.c reads what a server wrote.
 */
#ifndef DRR_SERVE_UPSTREAM_INTERNAL_H
#define DRR_SERVE_UPSTREAM_INTERNAL_H

#include "serve/upstream.h"

typedef struct upstream_http upstream_http;
typedef struct upstream_embedded upstream_embedded;

struct upstream {
    upstream_options options;
    char *name;
    int epoll, event; /* event: an eventfd that upstream_wake writes to */
    upstream_http *http;
    upstream_embedded *embedded;
};

/* The beginning of every call, so that upstream_cancel knows whose it is. */
struct upstream_call {
    upstream *owner;
};

drr_status http_backend_open(upstream *u, drr_error *err);
void http_backend_close(upstream_http *h);
drr_status http_backend_begin(upstream_call **call, upstream_http *h, const upstream_ask *ask, drr_error *err);
drr_status http_backend_pass(upstream_call **call, upstream_http *h, const upstream_fetch *fetch, drr_error *err);
void http_backend_cancel(upstream_http *h, upstream_call *call);
double http_backend_due(const upstream_http *h); /* when http_backend_step is needed without any event */
void http_backend_event(upstream_http *h, int fd, uint32_t what); /* of epoll */
void http_backend_step(upstream_http *h);                         /* timers, ends of calls */

drr_status embedded_open(upstream *u, drr_error *err);
void embedded_close(upstream_embedded *b);
drr_status embedded_begin(upstream_call **call, upstream_embedded *b, const upstream_ask *ask, drr_error *err);
void embedded_cancel(upstream_embedded *b, upstream_call *call);
void embedded_step(upstream_embedded *b); /* tells what its thread has left */

#endif
