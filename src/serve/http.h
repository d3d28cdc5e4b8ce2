/* http.h: HTTP for the server: connections, limits, keys, TLS, request ids, replies and streams. It knows no route's
 * meaning; handlers do (engine.h, judge.h, page.h).
 *
 * A handler is called on an HTTP thread when the request's body is whole. It must not block. Each call is ended exactly
 * once, then or later and from any thread, by http_reply* or by http_stream_end; after that it may not be touched. */
#ifndef DRR_SERVE_HTTP_H
#define DRR_SERVE_HTTP_H

#include "core/core.h"
#include "core/json.h"

typedef struct http_server http_server;
typedef struct http_call http_call; /* one request and its reply under way */

typedef void (*http_handler)(void *user, http_call *call);

typedef enum http_access {
    HTTP_KEYED, /* where keys are configured, one of them is needed */
    HTTP_PUBLIC /* health: never */
} http_access;

typedef struct http_route {
    const char *method, *path; /* a path that ends in "*" takes all that begin like it */
    http_access access;
    http_handler handler;
    void *user;
} http_route;

typedef struct http_done { /* a request that is over, for logs */
    const char *id, *method, *path;
    int status; /* 0: the client left before there was one */
    size_t body_bytes, sent_bytes;
    size_t key; /* which of the keys, from 0; n_keys: none */
    double seconds;
    bool gone; /* the client left before the end */
} http_done;

typedef struct http_options {
    const char *host; /* an address; one that others can reach is refused where there are no keys */
    uint16_t port;    /* 0: any that is free */
    const char *const *keys;
    size_t n_keys;
    const char *tls_certificate, *tls_key; /* PEM files, or NULL; http_tls.c */
    size_t body_bytes, header_bytes;
    uint32_t connections;       /* at this many the longest idle is closed; where none is idle, 503 */
    uint32_t in_flight_per_key; /* more: 429 with Retry-After; 0: any number */
    uint32_t header_seconds, body_seconds, write_seconds, idle_seconds; /* slow clients are cut */
    uint32_t threads;                                                   /* of HTTP; 0: by the number of cores */
    void (*done)(void *user, const http_done *done);                    /* on an HTTP thread; must be quick; or NULL */
    void *done_user;
} http_options;
void http_options_defaults(http_options *options);

/* routes live as long as the server. */
drr_status http_open(http_server **server, const http_options *options, const http_route *routes, size_t n_routes,
                     const drr_hooks *hooks, drr_error *err);
/* Other keys and, where there is TLS, other certificates, of these fields of the options. All is read before anything
 * counts; no keys are refused where others can reach the address. The caller takes the change or drops it. */
typedef struct http_change http_change;
drr_status http_change_make(http_change **change, const http_server *server, const http_options *options,
                            drr_error *err);
void http_change_take(http_server *server, http_change *change); /* for requests and handshakes from now on */
void http_change_drop(http_change *change);                      /* NULL: nothing */
uint16_t http_port(const http_server *server);
/* Takes no more connections or requests (503, unavailable_error); those under way go on. */
void http_drain(http_server *server);
size_t http_in_flight(const http_server *server);
void http_close(http_server *server); /* cuts what is under way; every call has been ended by its handler's owner */

/* ---- the request: all of it lives until the call is ended */
const char *http_method(const http_call *call);
const char *http_path(const http_call *call);
const char *http_query(const http_call *call, const char *name);  /* NULL: not there */
const char *http_query_string(const http_call *call);             /* all of it as it came, behind the "?"; "" */
const char *http_header(const http_call *call, const char *name); /* the same, any case */
/* A key that the client shows to somebody behind us, in its Authorization or x-api-key: NULL where there is none, or
 * where it is one of those that open this server. */
const char *http_other_key(const http_call *call, const char *name);
const char *http_body(const http_call *call, size_t *size); /* NUL-terminated behind size bytes */
const char *http_id(const http_call *call); /* the client's x-request-id where it is a sane one, else one made here;
                                               sent back as x-drr-request-id (and x-request-id) with every reply */

/* ---- the reply */
void http_add_header(http_call *call, const char *name, const char *value); /* before the reply or the stream begins */
void http_reply(http_call *call, int status, const char *type, char *body, size_t size); /* takes body, from malloc */
void http_reply_json(http_call *call, int status, json_t *value);                        /* takes the reference */
/* OpenAI's error object: {"error": {"message", "type", "param", "code"}}; param and code may be NULL. The type is that
 * of the status where type is NULL (../shared/wire.md, "Errors"). */
void http_reply_error(http_call *call, int status, const char *type, const char *param, const char *code,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));

const char *http_error_type(int status);

void http_stream_begin(http_call *call, int status, const char *type); /* "text/event-stream" adds its usual headers */
bool http_stream_write(http_call *call, const char *data,
                       size_t size); /* copies, never blocks; false: nobody listens */
void http_stream_end(http_call *call);
/* Called once, on an HTTP thread, when the client leaves before the end, soon after this call where it has left
 * already. The call still has to be ended. While gone() runs, whoever ends the call waits for it to return (but for
 * gone() itself, which may end it); afterwards it is not called. So gone() may take no lock that is held over ending a
 * call. */
void http_on_gone(http_call *call, void (*gone)(void *user), void *user);

#endif
