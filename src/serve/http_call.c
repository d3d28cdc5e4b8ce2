/* http_call.c: reads a request, admits or refuses it, hands it to its handler, and knows when it is over. All but the
 * releasing runs on libmicrohttpd's threads. What a handler may read is copied, so that it stays when the connection
 * does not. */
#include "serve/http_internal.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CALL_ARENA = 2048, MOST_FIELDS = 128, DROPPED_BODIES = 4 };

/* ---- a call's life */

static http_call *call_new(http_server *s, struct MHD_Connection *connection)
{
    http_call *call = calloc(1, sizeof *call);
    arena *memory = arena_new(CALL_ARENA);
    if (!call || !memory) {
        free(call);
        arena_free(memory);
        return NULL;
    }
    call->server = s;
    call->connection = connection;
    call->link = watch_link(connection);
    call->memory = memory;
    call->keys = keys_get(s);
    call->key = call->keys->n;
    call->began = clock_seconds();
    atomic_init(&call->references, 2); /* libmicrohttpd's and the owner's */
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->told, NULL);
    atomic_fetch_add(&s->in_flight, 1);
    return call;
}

void call_release(http_call *call)
{
    http_server *s = call->server;
    if (atomic_fetch_sub(&call->references, 1) != 1)
        return;
    if (call->admitted)
        atomic_fetch_sub(&call->keys->keys[call->key].in_flight, 1);
    if (s->options.done && call->path) {
        const http_done done = {.id = call->id,
                                .method = call->method,
                                .path = call->path,
                                .status = call->status,
                                .body_bytes = call->body.size + call->n_dropped,
                                .sent_bytes = atomic_load(&call->n_sent),
                                .key = call->key,
                                .seconds = clock_seconds() - call->began,
                                .gone = call->gone};
        s->options.done(s->options.done_user, &done);
    }
    if (call->response)
        MHD_destroy_response(call->response);
    for (size_t i = 0; i < call->n_added; i++)
        free((void *)(uintptr_t)call->added[i].name);
    free(call->added);
    buffer_clear(&call->body);
    buffer_clear(&call->queue);
    arena_free(call->memory);
    keys_release(call->keys);
    pthread_cond_destroy(&call->told);
    pthread_mutex_destroy(&call->lock);
    free(call);
    atomic_fetch_sub(&s->in_flight, 1); /* the last touch: a drained server may be closed now */
}

void call_gone(http_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->gone = true;
    const bool tells =
        call->on_gone && !call->gone_told && (call->progress == CALL_OPEN || call->progress == CALL_STREAM);
    if (tells) {
        call->gone_told = call->telling = true;
        call->teller = pthread_self();
    }
    pthread_mutex_unlock(&call->lock);
    if (!tells)
        return;
    call->on_gone(call->gone_user);
    pthread_mutex_lock(&call->lock);
    call->telling = false;
    pthread_cond_broadcast(&call->told);
    pthread_mutex_unlock(&call->lock);
}

void call_resume_all(http_server *s)
{
    for (;;) {
        http_call *call = NULL;
        pthread_mutex_lock(&s->lock);
        for (http_link *link = s->oldest; link && !call; link = link->after) {
            if (link->call && !link->resumed) {
                link->resumed = true;
                call = link->call;
                atomic_fetch_add(&call->references, 1);
            }
        }
        pthread_mutex_unlock(&s->lock);
        if (!call)
            return;
        pthread_mutex_lock(&call->lock);
        if (call->suspended)
            MHD_resume_connection(call->connection);
        call->suspended = false;
        pthread_mutex_unlock(&call->lock);
        call_release(call);
    }
}

/* ---- reading */

typedef struct collecting {
    http_call *call;
    http_field *fields;
    size_t n, bytes;
    bool failed;
} collecting;

static enum MHD_Result collect(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    collecting *c = user;
    (void)kind;
    if (c->n == MOST_FIELDS) {
        c->failed = true;
        return MHD_NO;
    }
    http_field *field = &c->fields[c->n++];
    const size_t name_size = strlen(name), value_size = value ? strlen(value) : 0;
    field->name = arena_copy(c->call->memory, name, name_size);
    field->value = arena_copy(c->call->memory, value ? value : "", value_size);
    c->bytes += name_size + value_size;
    c->failed = c->failed || !field->name || !field->value;
    return c->failed ? MHD_NO : MHD_YES;
}

/* False: there are too many, or too large, or memory is out. */
static bool take_fields(http_call *call, enum MHD_ValueKind kind, http_field **fields, size_t *n)
{
    http_field found[MOST_FIELDS];
    collecting c = {.call = call, .fields = found};
    MHD_get_connection_values(call->connection, kind, collect, &c);
    if (c.failed || c.bytes > call->server->options.header_bytes)
        return false;
    if (!c.n)
        return true;
    *fields = arena_alloc(call->memory, c.n * sizeof *found, sizeof(void *));
    if (!*fields)
        return false;
    memcpy(*fields, found, c.n * sizeof *found);
    *n = c.n;
    return true;
}

const char *http_method(const http_call *call)
{
    return call->method;
}

const char *http_path(const http_call *call)
{
    return call->path;
}

const char *http_query(const http_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_query; i++)
        if (strcmp(call->query[i].name, name) == 0)
            return call->query[i].value;
    return NULL;
}

const char *http_query_string(const http_call *call)
{
    return call->query_string;
}

const char *http_header(const http_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_headers; i++)
        if (strcasecmp(call->headers[i].name, name) == 0)
            return call->headers[i].value;
    return NULL;
}

const char *http_body(const http_call *call, size_t *size)
{
    *size = call->body.size;
    return call->body.data ? call->body.data : "";
}

const char *http_id(const http_call *call)
{
    return call->id;
}

static void take_id(http_call *call)
{
    http_server *s = call->server;
    const char *given = http_header(call, "x-request-id");
    const size_t n = given ? strlen(given) : 0;
    if (n && n <= HTTP_ID_MOST &&
        strspn(given, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:") == n)
        snprintf(call->id, sizeof call->id, "%s", given);
    else
        snprintf(call->id, sizeof call->id, "drr-%016llx",
                 (unsigned long long)hash_mix(s->id_seed, atomic_fetch_add(&s->n_ids, 1)));
}

/* ---- admission */

static bool path_fits(const http_route *route, const char *path)
{
    const size_t n = strlen(route->path);
    if (n && route->path[n - 1] == '*')
        return strncmp(route->path, path, n - 1) == 0;
    return strcmp(route->path, path) == 0;
}

static bool method_fits(const http_route *route, const char *method)
{
    return strcmp(route->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* The route, or NULL; allowed lists the methods of the path, "" where nothing is there. */
static const http_route *find_route(const http_call *call, char allowed[64])
{
    const http_server *s = call->server;
    const http_route *found = NULL;
    size_t used = 0;
    for (size_t i = 0; i < s->n_routes; i++) {
        if (!path_fits(&s->routes[i], call->path))
            continue;
        if (!found && method_fits(&s->routes[i], call->method))
            found = &s->routes[i];
        if (!strstr(allowed, s->routes[i].method) && used < 40)
            used += (size_t)snprintf(allowed + used, 64 - used, "%s%s%s", used ? ", " : "", s->routes[i].method,
                                     strcmp(s->routes[i].method, "GET") == 0 ? ", HEAD" : "");
    }
    return found;
}

static bool same_hash(const char a[65], const char b[65])
{
    unsigned char differs = 0;
    for (size_t i = 0; i < 64; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return differs == 0;
}

/* keys->n: none of them. */
static size_t find_key(const http_keys *keys, const char *given)
{
    sha256 hash;
    char hex[65];
    size_t found = keys->n;
    sha256_begin(&hash);
    sha256_add(&hash, given, strlen(given));
    sha256_end(&hash, hex);
    for (size_t i = 0; i < keys->n; i++) /* all of them, whichever fits */
        if (same_hash(hex, keys->keys[i].hash))
            found = i;
    return found;
}

static const char *bearer_of(const char *given)
{
    return given && strncasecmp(given, "bearer ", 7) == 0 ? given + 7 + strspn(given + 7, " ") : NULL;
}

static bool has_key(http_call *call)
{
    const char *given[] = {bearer_of(http_header(call, "authorization")), http_header(call, "x-api-key")};
    for (size_t i = 0; i < 2 && call->key == call->keys->n; i++)
        call->key = find_key(call->keys, given[i] ? given[i] : "");
    return call->key < call->keys->n;
}

/* A client may show the same key in both headers, or two that are both ours, or forget the "Bearer". */
const char *http_other_key(const http_call *call, const char *name)
{
    const char *value = http_header(call, name), *bearer = bearer_of(value);
    const bool ours = value && (find_key(call->keys, value) < call->keys->n ||
                                (bearer && find_key(call->keys, bearer) < call->keys->n));
    return ours ? NULL : value;
}

/* The host of "host:port", without the brackets of IPv6. */
static void host_of(char host[256], const char *text)
{
    const char *end = *text == '[' ? strchr(text, ']') : strrchr(text, ':');
    text += *text == '[';
    const size_t n = end ? (size_t)(end - text) : strlen(text);
    snprintf(host, 256, "%.*s", (int)(n < 255 ? n : 255), text);
}

/* Where no key is needed, a web page that someone has open could ask us too: it is told by its Origin, and, where its
 * own name was made to mean this machine (DNS rebinding), by the Host. NULL: fine. */
static const char *foreign_page(const http_call *call)
{
    char host[256], sent[sizeof(struct in6_addr)];
    const char *said = http_header(call, "host"), *origin = http_header(call, "origin");
    host_of(host, said ? said : "");
    const size_t n = strlen(host);
    const bool local = n == 0 || strcasecmp(host, "localhost") == 0 ||
                       (n > 10 && strcasecmp(host + n - 10, ".localhost") == 0) ||
                       inet_pton(AF_INET, host, sent) == 1 || inet_pton(AF_INET6, host, sent) == 1 ||
                       strcasecmp(host, call->server->options.host) == 0;
    if (!local)
        return "without an API key this server answers to localhost or an address, not to another Host";
    const char *scheme = origin ? strstr(origin, "://") : NULL;
    if (origin && (!scheme || !said || strcasecmp(scheme + 3, said) != 0))
        return "without an API key this server answers no page of another origin";
    return NULL;
}

static void refuse_method(http_call *call, const char *allowed)
{
    http_add_header(call, "Allow", allowed);
    if (strcmp(call->method, "OPTIONS") == 0)
        http_reply(call, 204, NULL, NULL, 0);
    else
        http_reply_error(call, 405, NULL, NULL, "method_not_allowed", "%s is not for %s; use %s", call->path,
                         "this method", allowed);
}

/* Where a body ends can be read in two ways: whoever stands between may read the other one and see another request
 * there. So nothing after it is read. */
static bool refuse_ambiguous(http_call *call)
{
    size_t n = 0;
    for (size_t i = 0; i < call->n_headers; i++)
        n += strcasecmp(call->headers[i].name, "content-length") == 0;
    if (n < 2 && !(n && http_header(call, "transfer-encoding")))
        return false;
    http_add_header(call, "Connection", "close");
    http_reply_error(call, 400, NULL, NULL, NULL, "a request has one length or comes in chunks, not both");
    return true;
}

static bool refuse_framing(http_call *call)
{
    const char *length = http_header(call, "content-length"), *coding = http_header(call, "transfer-encoding");
    char *end = NULL;
    if (coding && strcasecmp(coding, "chunked") != 0)
        http_reply_error(call, 501, NULL, NULL, NULL, "this transfer encoding is not known; send chunks or a length");
    else if (!coding && !length && strcmp(call->method, "POST") == 0)
        http_reply_error(call, 411, NULL, NULL, NULL, "a POST needs a Content-Length, or comes in chunks");
    else if (length && strtoull(length, &end, 10) > call->server->options.body_bytes)
        http_reply_error(call, 413, NULL, NULL, "body_too_large", "the body is larger than %zu bytes",
                         call->server->options.body_bytes);
    else
        return false;
    return true;
}

static bool refuse_busy(http_call *call)
{
    http_key *key = &call->keys->keys[call->key];
    const uint32_t most = call->server->options.in_flight_per_key;
    const unsigned now = atomic_fetch_add(&key->in_flight, 1) + 1;
    call->admitted = !most || now <= most;
    if (call->admitted)
        return false;
    atomic_fetch_sub(&key->in_flight, 1); /* a refused one takes nobody's place while its body comes in */
    http_add_header(call, "Retry-After", "1");
    http_reply_error(call, 429, NULL, NULL, "too_many_requests",
                     "%u requests are under way%s, as many as are allowed; try again in a second", most,
                     call->keys->n ? " for this key" : "");
    return true;
}

/* True: the reply is settled. */
static bool refuse(http_call *call, bool fields_fit)
{
    http_server *s = call->server;
    char allowed[64] = "";
    const http_route *route = find_route(call, allowed);
    const bool open_to_all = route && route->access == HTTP_PUBLIC;
    const char *foreign = call->keys->n || open_to_all ? NULL : foreign_page(call);
    call->route = route;
    if (refuse_ambiguous(call)) /* before all else: whatever is refused, nothing behind it may be read */
        return true;
    if (!fields_fit)
        http_reply_error(call, 431, NULL, NULL, "headers_too_large", "the headers are larger than %zu bytes",
                         s->options.header_bytes);
    else if (atomic_load(&s->draining) && !open_to_all)
        http_reply_error(call, 503, NULL, NULL, NULL, "the server is shutting down");
    else if (call->link->surplus && !open_to_all)
        http_reply_error(call, 503, NULL, NULL, NULL, "there are too many connections; try again in a second");
    else if (foreign)
        http_reply_error(call, 403, NULL, NULL, NULL, "%s", foreign);
    else if (!route && *allowed && strcmp(call->method, "OPTIONS") == 0)
        refuse_method(call, allowed);
    else if (call->keys->n && !open_to_all && !has_key(call))
        http_reply_error(call, 401, NULL, NULL, "invalid_api_key",
                         "a valid API key is needed: Authorization: Bearer KEY, or x-api-key: KEY");
    else if (!route && *allowed)
        refuse_method(call, allowed);
    else if (!route)
        http_reply_error(call, 404, NULL, NULL, NULL,
                         "there is no route %.200s here; those of OpenAI's API begin with /v1", call->path);
    else
        return refuse_framing(call) || (!open_to_all && refuse_busy(call));
    return true;
}

/* ---- what libmicrohttpd calls */

void *call_request_line(void *user, const char *uri, struct MHD_Connection *connection)
{
    const http_server *s = user;
    http_link *link = watch_link(connection);
    const char *query = strchr(uri, '?');
    if (link) {
        free(link->query);
        link->query = query ? string_copy(query + 1) : NULL;
        watch_phase(link, PHASE_HEADERS, s->options.header_seconds, NULL);
    }
    return NULL; /* what *context is at first */
}

/* Has the client promised a body that it will not send before we say so, or one too large to swallow? */
static bool answer_now(const http_call *call)
{
    const char *length = http_header(call, "content-length");
    return http_header(call, "expect") || http_header(call, "transfer-encoding") ||
           (length && strtoull(length, NULL, 10) > DROPPED_BODIES * call->server->options.body_bytes);
}

static enum MHD_Result begin(http_server *s, struct MHD_Connection *connection, const char *url, const char *method,
                             void **context)
{
    http_call *call = call_new(s, connection);
    if (!call)
        return MHD_NO;
    *context = call;
    call->path = arena_copy(call->memory, url, strlen(url));
    call->method = arena_copy(call->memory, method, strlen(method));
    const char *query = call->link && call->link->query ? call->link->query : "";
    call->query_string = arena_copy(call->memory, query, strlen(query));
    if (!call->link || !call->path || !call->method || !call->query_string)
        return MHD_NO;
    const bool fit = take_fields(call, MHD_HEADER_KIND, &call->headers, &call->n_headers) &&
                     take_fields(call, MHD_GET_ARGUMENT_KIND, &call->query, &call->n_query);
    take_id(call);
    call->progress = CALL_OPEN; /* so that it can be refused */
    watch_phase(call->link, PHASE_BODY, s->options.body_seconds, call);
    if (refuse(call, fit))
        return answer_now(call) && !reply_queue(call) ? MHD_NO : MHD_YES;
    pthread_mutex_lock(&call->lock);
    call->progress = CALL_READING;
    pthread_mutex_unlock(&call->lock);
    return MHD_YES;
}

static enum MHD_Result take_body(http_call *call, const char *upload, size_t *size)
{
    const size_t most = call->server->options.body_bytes, n = *size;
    *size = 0;
    if (call->progress != CALL_READING) { /* refused: read so that the client sees the answer */
        call->n_dropped += n;
        return call->n_dropped > DROPPED_BODIES * most ? MHD_NO : MHD_YES;
    }
    if (n > most - call->body.size) { /* in chunks, or it would have been refused before */
        reply_raw(call->link, 413, "the body is too large");
        return MHD_NO;
    }
    return buffer_append(&call->body, upload, n, NULL) == DRR_OK ? MHD_YES : MHD_NO;
}

/* What the handler has not settled yet waits outside of libmicrohttpd's loop. */
static enum MHD_Result settle(http_call *call)
{
    pthread_mutex_lock(&call->lock);
    const bool waits = call->progress == CALL_OPEN;
    const bool closing = atomic_load(&call->server->closing);
    if (waits && !closing) {
        call->suspended = true;
        MHD_suspend_connection(call->connection);
    }
    pthread_mutex_unlock(&call->lock);
    if (waits)
        return closing ? MHD_NO : MHD_YES;
    return reply_queue(call) ? MHD_YES : MHD_NO;
}

enum MHD_Result call_access(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                            const char *version, const char *upload, size_t *upload_size, void **context)
{
    http_call *call = *context;
    (void)version;
    if (!call)
        return begin(user, connection, url, method, context);
    if (*upload_size)
        return take_body(call, upload, upload_size);
    pthread_mutex_lock(&call->lock);
    const bool first = call->progress == CALL_READING;
    if (first)
        call->progress = CALL_OPEN;
    pthread_mutex_unlock(&call->lock);
    if (first) {
        if (watch_phase(call->link, PHASE_WORK, INFINITY, call))
            call_gone(call); /* nobody is told yet */
        call->route->handler(call->route->user, call);
    }
    return settle(call);
}

void call_completed(void *user, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode code)
{
    const http_server *s = user;
    http_call *call = *context;
    (void)connection;
    if (!call)
        return;
    *context = NULL;
    if (call->link)
        watch_phase(call->link, PHASE_IDLE, s->options.idle_seconds, NULL);
    pthread_mutex_lock(&call->lock);
    const bool ended = call->progress == CALL_READY || call->progress == CALL_ENDED;
    const bool unread = call->progress == CALL_READING; /* no handler has it */
    struct MHD_Response *unsent = call->response;       /* a stream's holds a reference of the call */
    call->response = NULL;
    call->finished = true;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        call->gone = true;
    if (unread)
        call->progress = CALL_ENDED;
    pthread_mutex_unlock(&call->lock);
    if (unsent)
        MHD_destroy_response(unsent);
    if (unread)
        call_release(call); /* the owner's */
    else if (!ended)
        call_gone(call);
    call_release(call);
}
