/* serve_internal.h: the running server as its own files see it. serve.c opens and closes the parts and changes what may
 * change while it runs; serve_routes.c says which route is whose and answers the few that are nobody else's;
 * serve_log.c tells what happens, serve_fixed.c what SIGHUP cannot change; serve_keys.c reads the keys of clients. */
#ifndef DRR_SERVE_INTERNAL_H
#define DRR_SERVE_INTERNAL_H

#include "serve/engine.h"
#include "serve/http.h"
#include "serve/judge.h"
#include "serve/metrics.h"
#include "serve/page.h"
#include "serve/record.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SERVE_ROUTES_MOST = 64 };

typedef enum serve_state { SERVE_LOADING, SERVE_READY, SERVE_DRAINING, SERVE_CLOSING } serve_state;

typedef struct serve serve;

typedef struct serve_gate { /* what a route's handler gets: the part may not be there yet */
    serve *server;
    http_handler handler;
    void *const *part; /* where the part will be; NULL: the server itself */
} serve_gate;

struct serve {
    const drr_hooks *outer;
    drr_hooks hooks; /* of the parts: any thread */
    drr_serve_options first;
    atomic_int state;
    pthread_rwlock_t parts; /* read while a handler of one runs: they are closed when none does */
    double started;

    pthread_mutex_t log_lock;
    pthread_mutex_t lock; /* of the options that are in force */
    const drr_serve_options *now;

    http_server *http;
    http_route routes[SERVE_ROUTES_MOST];
    serve_gate gates[SERVE_ROUTES_MOST];
    size_t n_routes;
    metrics *counts;
    drr_reasoner *reasoner;
    char *upstream_key;
    /* void *, for the gates. */
    void *judge, *engine, *page, *recorder;
};

/* ---- serve_routes.c */
void serve_routes(serve *s);

/* ---- serve_fixed.c */
void serve_note_fixed(serve *s, const drr_serve_options *o); /* what in *o needs a restart */

/* ---- serve_log.c */
void serve_hear(void *user, drr_log_level level, const char *message); /* hooks->log of the parts */
void serve_note_request(void *user, const http_done *done);
void serve_note_answer(serve *s, const engine_record *record);
/* {"time", "level", "event", ...members}: takes members, which may be NULL. */
void serve_event(serve *s, const char *level, const char *event, json_t *members);

/* ---- serve_keys.c */
typedef struct serve_keys {
    const char **keys;
    size_t n;
    char *text; /* of the file */
    size_t size;
} serve_keys;
drr_status serve_keys_read(serve_keys *keys, const drr_serve_options *options, drr_error *err);
void serve_keys_clear(serve_keys *keys); /* wipes them */

#endif
