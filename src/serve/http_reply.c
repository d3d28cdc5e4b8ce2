/* http_reply.c: what goes back: whole replies, errors in OpenAI's shape, and streams, from any thread. A reply is made
 * where it is given and sent on libmicrohttpd's thread, which is woken when it waits. */
#include "serve/http_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static const double SLOWEST = 16 << 10; /* bytes a second that a client takes at least, on average */

/* ---- ending a call */

/* Takes the lock when the call is still to be answered. Whoever else is told that its client has left is waited for. */
static void lock_owned(http_call *call)
{
    pthread_mutex_lock(&call->lock);
    while (call->telling && !pthread_equal(call->teller, pthread_self()))
        pthread_cond_wait(&call->told, &call->lock);
}

static void resume_locked(http_call *call)
{
    if (call->suspended)
        MHD_resume_connection(call->connection);
    call->suspended = false;
}

void http_add_header(http_call *call, const char *name, const char *value)
{
    const size_t name_size = strlen(name) + 1, value_size = strlen(value) + 1;
    char *both = malloc(name_size + value_size);
    http_field *grown = realloc(call->added, (call->n_added + 1) * sizeof *grown);
    if (grown)
        call->added = grown;
    if (!both || !grown) {
        free(both);
        return;
    }
    memcpy(both, name, name_size);
    memcpy(both + name_size, value, value_size);
    call->added[call->n_added++] = (http_field){both, both + name_size};
}

static void add_headers(http_call *call, struct MHD_Response *response, const char *type)
{
    if (type)
        MHD_add_response_header(response, "Content-Type", type);
    if (type && strncasecmp(type, "text/event-stream", 17) == 0) { /* a charset may follow */
        MHD_add_response_header(response, "Cache-Control", "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no");
    }
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "x-drr-request-id", call->id);
    MHD_add_response_header(response, "x-request-id", call->id);
    if (atomic_load(&call->server->draining))
        MHD_add_response_header(response, "Connection", "close");
    for (size_t i = 0; i < call->n_added; i++) /* one that holds a line break is left out by libmicrohttpd */
        MHD_add_response_header(response, call->added[i].name, call->added[i].value);
}

void http_reply(http_call *call, int status, const char *type, char *body, size_t size)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
    if (response)
        add_headers(call, response, type);
    else
        free(body);
    lock_owned(call);
    call->progress = CALL_READY;
    call->status = status;
    if (!call->finished)
        call->response = response; /* NULL, memory being out: the connection is closed */
    const bool unsent = call->finished && response;
    atomic_store(&call->n_sent, size);
    resume_locked(call);
    pthread_mutex_unlock(&call->lock);
    if (unsent)
        MHD_destroy_response(response);
    call_release(call);
}

void http_reply_json(http_call *call, int status, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    if (text)
        http_reply(call, status, "application/json", text, strlen(text));
    else
        http_reply_error(call, 500, NULL, NULL, NULL, "the reply cannot be written as JSON");
}

const char *http_error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return status < 500 ? "invalid_request_error" : "server_error";
    }
}

/* A text that came from outside may be no UTF-8. */
static json_t *text_value(const char *text)
{
    json_t *value = json_string(text);
    char plain[1024];
    if (value)
        return value;
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof plain; n++)
        plain[n] = (signed char)text[n] < 0 ? '?' : text[n];
    plain[n] = '\0';
    return json_string(plain);
}

char *reply_error_text(int status, const char *type, const char *param, const char *code, const char *message)
{
    json_t *error = json_pack("{s:{s:o, s:s, s:o, s:o}}", "error", "message", text_value(message), "type",
                              type ? type : http_error_type(status), "param", param ? text_value(param) : json_null(),
                              "code", code ? text_value(code) : json_null());
    char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;
    json_decref(error);
    return text;
}

static bool is_added(const http_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_added; i++)
        if (strcasecmp(call->added[i].name, name) == 0)
            return true;
    return false;
}

void http_reply_error(http_call *call, int status, const char *type, const char *param, const char *code,
                      const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (status == 401)
        http_add_header(call, "WWW-Authenticate", "Bearer");
    if (status == 503 && !is_added(call, "Retry-After")) /* an upstream may have said longer */
        http_add_header(call, "Retry-After", "1");
    char *text = reply_error_text(status, type, param, code, message);
    http_reply(call, status, "application/json", text, text ? strlen(text) : 0);
}

void reply_raw(const http_link *link, int status, const char *message)
{
    char head[256];
    char *body = link->tls ? NULL : reply_error_text(status, NULL, NULL, NULL, message);
    if (!body)
        return;
    const int n = snprintf(head, sizeof head,
                           "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                           "Connection: close\r\n\r\n",
                           status, status == 408 ? "Request Timeout" : "Content Too Large", strlen(body));
    if (send(link->fd, head, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) == n)
        send(link->fd, body, strlen(body), MSG_DONTWAIT | MSG_NOSIGNAL);
    free(body);
}

bool reply_queue(http_call *call)
{
    pthread_mutex_lock(&call->lock);
    struct MHD_Response *response = call->response;
    const bool whole = call->progress == CALL_READY;
    const int status = call->status;
    call->response = NULL;
    pthread_mutex_unlock(&call->lock);
    if (!response)
        return false;
    const double size = (double)atomic_load(&call->n_sent);
    watch_phase(call->link, PHASE_WRITE,
                whole ? call->server->options.write_seconds + size / SLOWEST : (double)INFINITY, call);
    const enum MHD_Result queued = MHD_queue_response(call->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued == MHD_YES;
}

/* ---- streams */

/* On libmicrohttpd's thread: what there is, or sleep until there is more. */
static ssize_t read_stream(void *user, uint64_t position, char *data, size_t room)
{
    http_call *call = user;
    ssize_t taken = 0;
    (void)position;
    pthread_mutex_lock(&call->lock);
    const size_t there = call->queue.size - call->taken;
    if (there) {
        taken = (ssize_t)(there < room ? there : room);
        memcpy(data, call->queue.data + call->taken, (size_t)taken);
        call->taken += (size_t)taken;
        atomic_fetch_add(&call->n_sent, (size_t)taken);
        const bool empty = call->taken == call->queue.size;
        if (empty)
            call->taken = call->queue.size = 0;
        if (empty && call->queue.capacity > HTTP_STREAM_BLOCK)
            buffer_clear(&call->queue);
        atomic_store(&call->stalled, empty ? 0 : clock_seconds());
    } else if (call->progress == CALL_ENDED) {
        taken = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (atomic_load(&call->server->closing)) {
        taken = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        call->suspended = true;
        MHD_suspend_connection(call->connection);
    }
    pthread_mutex_unlock(&call->lock);
    return taken;
}

static void free_stream(void *user)
{
    call_release(user);
}

void http_stream_begin(http_call *call, int status, const char *type)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_STREAM_BLOCK, read_stream, call, free_stream);
    if (response) {
        atomic_fetch_add(&call->references, 1); /* the response's */
        add_headers(call, response, type);
    }
    pthread_mutex_lock(&call->lock);
    call->progress = CALL_STREAM;
    call->status = status;
    if (!call->finished)
        call->response = response;
    const bool unsent = call->finished && response;
    resume_locked(call);
    pthread_mutex_unlock(&call->lock);
    if (unsent)
        MHD_destroy_response(response);
}

bool http_stream_write(http_call *call, const char *data, size_t size)
{
    pthread_mutex_lock(&call->lock);
    bool heard = !call->finished && !call->gone && call->progress == CALL_STREAM;
    if (heard && call->queue.size - call->taken + size > HTTP_STREAM_MOST) {
        atomic_store(&call->stalled, -1e9); /* the watch cuts it */
        heard = false;
    }
    if (heard && call->taken > call->queue.size / 2 && call->taken > HTTP_STREAM_BLOCK) {
        memmove(call->queue.data, call->queue.data + call->taken, call->queue.size - call->taken);
        call->queue.size -= call->taken;
        call->taken = 0;
    }
    heard = heard && buffer_append(&call->queue, data, size, NULL) == DRR_OK;
    if (heard && size) {
        if (atomic_load(&call->stalled) == 0)
            atomic_store(&call->stalled, clock_seconds());
        resume_locked(call);
    }
    pthread_mutex_unlock(&call->lock);
    return heard;
}

void http_stream_end(http_call *call)
{
    lock_owned(call);
    call->progress = CALL_ENDED;
    if (!call->finished)
        resume_locked(call);
    pthread_mutex_unlock(&call->lock);
    call_release(call);
}

void http_on_gone(http_call *call, void (*gone)(void *user), void *user)
{
    pthread_mutex_lock(&call->lock);
    call->on_gone = gone;
    call->gone_user = user;
    const bool left = call->gone && !call->gone_told;
    pthread_mutex_unlock(&call->lock);
    if (left)
        watch_tell(call);
}
