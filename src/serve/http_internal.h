/* http_internal.h: what the files of the HTTP part share. http.c opens and closes, http_watch.c knows every connection
 * and cuts those that are slow or gone, http_call.c reads requests and admits them, http_reply.c answers.
 *
 * Locks: server->lock guards the list of links and what is marked so below; call->lock guards a call. Neither is taken
 * while the other is held, and no handler or callback runs under one. libmicrohttpd's own locks come after both. */
#ifndef DRR_SERVE_HTTP_INTERNAL_H
#define DRR_SERVE_HTTP_INTERNAL_H

#include "serve/http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

enum { HTTP_ID_MOST = 128, HTTP_STREAM_MOST = 32 << 20, HTTP_STREAM_BLOCK = 4096 };

typedef enum http_phase {
    PHASE_NEW,     /* connected, nothing understood yet */
    PHASE_IDLE,    /* between two requests */
    PHASE_HEADERS, /* the request line is there */
    PHASE_BODY,
    PHASE_WORK, /* the handler's, however long it takes */
    PHASE_WRITE /* the reply is on its way */
} http_phase;

typedef struct http_key {
    char hash[65]; /* SHA-256, so that comparing takes the same time whatever was sent */
    atomic_uint in_flight;
} http_key;

typedef struct http_keys { /* replaced as a whole; lives as long as a call that was asked for one of them */
    atomic_uint references;
    size_t n;
    http_key keys[]; /* n + 1: the last is everybody's where there are none */
} http_keys;

typedef struct http_identity http_identity; /* http_tls.c */

/* A connection. Made and marked closed by libmicrohttpd's threads, freed by the watch. All of it under server->lock. */
typedef struct http_link {
    struct http_server *server;
    struct http_link *before, *after; /* the server's list, oldest first; once closed, after is the next dead one */
    int fd;
    http_phase phase;
    double deadline; /* of the phase; INFINITY: none */
    bool closed, gone, surplus, tls, resumed;
    bool cut;        /* shut by us: its end is under way */
    http_call *call; /* the request under way, or NULL; holds a reference */
    char *query;     /* of the request whose line was read last; its own thread's alone */
} http_link;

typedef struct http_field { /* a header or a query argument */
    const char *name, *value;
} http_field;

typedef enum http_progress {
    CALL_READING, /* its body is being collected */
    CALL_OPEN,    /* its handler has it */
    CALL_READY,   /* a whole reply waits to be sent, or is */
    CALL_STREAM,  /* a reply has begun and goes on */
    CALL_ENDED    /* ... and has ended */
} http_progress;

struct http_call {
    http_server *server;
    atomic_uint references; /* libmicrohttpd's, the owner's until it ends the call, the watch's while it looks */
    pthread_mutex_t lock;
    pthread_cond_t told; /* gone() has returned */

    /* Set before the handler sees it, and not changed then. */
    struct MHD_Connection *connection; /* valid until `finished` */
    http_link *link;
    const http_route *route;
    arena *memory;
    const char *method, *path, *query_string;
    http_field *headers, *query;
    size_t n_headers, n_query;
    char id[HTTP_ID_MOST + 1];
    buffer body;
    size_t n_dropped; /* of a body that nobody will read */
    http_keys *keys;
    size_t key;    /* which one; keys->n: none */
    bool admitted; /* counted among those in flight */
    double began;
    atomic_size_t n_sent;

    /* Under lock. */
    http_progress progress;
    bool suspended, finished, gone, gone_told;
    pthread_t teller; /* runs gone() while telling */
    bool telling;
    void (*on_gone)(void *user);
    void *gone_user;
    http_field *added; /* reply headers, before it begins */
    size_t n_added;
    int status;
    struct MHD_Response *response; /* until it is queued */
    buffer queue;                  /* of the stream; taken from `taken` on */
    size_t taken;
    _Atomic double stalled; /* since when nothing of a queue that is not empty was taken; 0: it is empty */
    http_call *next_told;   /* in the server's list of those to be told, under its lock */
};

struct http_server {
    http_options options;
    const http_route *routes;
    size_t n_routes;
    const drr_hooks *hooks;
    http_keys *keys; /* under lock */
    bool reachable;  /* by others than this machine */
    char *host;
    http_identity *identity; /* under lock; NULL: no TLS. The newest, with those before it behind it */
    struct MHD_Daemon *daemon;
    int listener;
    uint16_t port;
    uint64_t id_seed;
    atomic_uint_fast64_t n_ids;
    atomic_size_t in_flight;
    atomic_bool draining, closing, watch_ends;

    pthread_mutex_t lock;
    http_link *oldest, *newest, *dead;
    http_call *to_tell; /* whose on_gone was set when the client had left; references */
    size_t n_links;
    int watch, wake; /* epoll and eventfd */
    pthread_t watcher;
    bool watching;
};

/* ---- http.c */
http_keys *keys_get(http_server *s); /* a reference */
void keys_release(http_keys *keys);

/* ---- http_tls.c */
drr_status identity_read(http_identity **identity, const char *certificate, const char *key, drr_error *err);
void identity_free(http_identity *identity); /* and all behind it */
/* From now on; the older ones stay, for sessions that began with them. With the lock held. */
void identity_put_locked(http_server *s, http_identity *identity);
/* Before its handshake. With the lock held. */
void identity_show_locked(http_server *s, struct MHD_Connection *connection);
/* PEM, for libmicrohttpd's start, after which they are wiped. */
char *identity_certificate(const http_identity *identity);
char *identity_key(const http_identity *identity);
void identity_wipe(http_identity *identity);

/* ---- http_watch.c */
drr_status watch_start(http_server *s, drr_error *err);
void watch_stop(http_server *s); /* after the daemon is gone; frees every link */
void watch_wake(http_server *s);
void watch_connection(void *user, struct MHD_Connection *connection, void **context,
                      enum MHD_ConnectionNotificationCode what);
http_link *watch_link(struct MHD_Connection *connection);
/* Takes its own reference of the call. True: the client has left. */
bool watch_phase(http_link *link, http_phase phase, double seconds, http_call *call);
void watch_tell(http_call *call);    /* call_gone() on the watch's thread */
void watch_cut_idle(http_server *s); /* drains: who has no request under way */

/* ---- http_call.c */
enum MHD_Result call_access(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *upload, size_t *upload_size, void **context);
void *call_request_line(void *user, const char *uri, struct MHD_Connection *connection);
void call_completed(void *user, struct MHD_Connection *connection, void **context,
                    enum MHD_RequestTerminationCode code);
void call_release(http_call *call);
void call_resume_all(http_server *s); /* closing: none stays suspended */
void call_gone(http_call *call);      /* the client has left; tells the owner, once */

/* ---- http_reply.c */
bool reply_queue(http_call *call); /* on libmicrohttpd's thread: what waits goes out; false: nothing could */
/* An error object as text; NULL when memory is out. */
char *reply_error_text(int status, const char *type, const char *param, const char *code, const char *message);
/* Straight to a socket that libmicrohttpd is still reading from; nothing when it is not a plain one. */
void reply_raw(const http_link *link, int status, const char *message);

#endif
