/* http_stub.c: see http_stub.h. A call is made by stub_ask, on whose stack it lies, and ended once. */
#include "http_stub.h"

#include "core/json.h"
#include "fuzz.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_SECONDS = 10 };

struct http_call {
    pthread_mutex_t lock;
    pthread_cond_t ended_now;
    const char *path;
    char *body;
    size_t size;
    bool begun, ended;
    stub_reply reply;
    buffer stream;
};

const char *http_method(const http_call *call)
{
    (void)call;
    return "POST";
}

const char *http_path(const http_call *call)
{
    return call->path;
}

const char *http_query(const http_call *call, const char *name)
{
    (void)call;
    (void)name;
    return NULL;
}

const char *http_query_string(const http_call *call)
{
    (void)call;
    return "";
}

const char *http_header(const http_call *call, const char *name)
{
    (void)call;
    return strcmp(name, "Content-Type") == 0 ? "application/json" : NULL;
}

const char *http_other_key(const http_call *call, const char *name)
{
    (void)call;
    (void)name;
    return NULL;
}

const char *http_error_type(int status)
{
    return status < 500 ? "invalid_request_error" : "api_error";
}

const char *http_body(const http_call *call, size_t *size)
{
    *size = call->size;
    return call->body;
}

const char *http_id(const http_call *call)
{
    (void)call;
    return "drr-0000000000000001";
}

void http_add_header(http_call *call, const char *name, const char *value)
{
    fuzz_that(!call->begun && !call->ended && *name);
    fuzz_that(!strpbrk(value, "\r\n"));
}

static void end(http_call *call)
{
    pthread_mutex_lock(&call->lock);
    fuzz_that(!call->ended);
    call->ended = true;
    pthread_cond_signal(&call->ended_now);
    pthread_mutex_unlock(&call->lock);
}

void http_reply(http_call *call, int status, const char *type, char *body, size_t size)
{
    fuzz_that(!call->begun && !call->ended && (body || !size) && !strpbrk(type, "\r\n"));
    call->reply.status = status;
    snprintf(call->reply.type, sizeof call->reply.type, "%s", type);
    buffer_append(&call->stream, body ? body : "", size, NULL);
    free(body);
    end(call);
}

void http_reply_json(http_call *call, int status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    fuzz_that(text != NULL);
    json_decref(value);
    http_reply(call, status, "application/json", text, strlen(text));
}

void http_reply_error(http_call *call, int status, const char *type, const char *param, const char *code,
                      const char *format, ...)
{
    char words[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    fuzz_that(status >= 400 && status < 600 && *words);
    fuzz_that((!type || *type) && (!code || *code));
    (void)param;
    call->reply.error = true;
    http_reply(call, status, "application/json", strdup(words), strlen(words));
}

void http_stream_begin(http_call *call, int status, const char *type)
{
    fuzz_that(!call->begun && !call->ended);
    call->begun = call->reply.stream = true;
    call->reply.status = status;
    snprintf(call->reply.type, sizeof call->reply.type, "%s", type);
}

bool http_stream_write(http_call *call, const char *data, size_t size)
{
    fuzz_that(call->begun && !call->ended);
    return buffer_append(&call->stream, data, size, NULL) == DRR_OK;
}

void http_stream_end(http_call *call)
{
    fuzz_that(call->begun);
    end(call);
}

void http_on_gone(http_call *call, void (*gone)(void *user), void *user)
{
    (void)call;
    (void)gone;
    (void)user;
}

stub_reply stub_ask(http_handler handler, void *user, const char *path, const void *body, size_t size)
{
    http_call call = {.path = path, .size = size, .body = malloc(size + 1)};
    struct timespec until;
    fuzz_that(call.body != NULL);
    if (size)
        memcpy(call.body, body, size);
    call.body[size] = '\0';
    pthread_mutex_init(&call.lock, NULL);
    pthread_cond_init(&call.ended_now, NULL);
    handler(user, &call);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECONDS;
    pthread_mutex_lock(&call.lock);
    int waited = 0;
    while (!call.ended && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&call.ended_now, &call.lock, &until);
    fuzz_that(call.ended);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.ended_now);
    pthread_mutex_destroy(&call.lock);
    free(call.body);
    if (!call.stream.data)
        buffer_puts(&call.stream, "", NULL);
    call.reply.size = call.stream.size;
    call.reply.body = buffer_take(&call.stream);
    return call.reply;
}

void stub_reply_clear(stub_reply *reply)
{
    free(reply->body);
    *reply = (stub_reply){0};
}

static bool has_error(json_t *value)
{
    json_t *error = json_object_get(value, "error");
    if (error)
        fuzz_that(json_is_string(json_object_get(error, "message")) && json_is_string(json_object_get(error, "type")));
    return error != NULL;
}

static bool events_are_well(const stub_reply *reply)
{
    const char *at = reply->body, *end;
    bool done = false, failed = false;
    fuzz_that(strlen(reply->body) == reply->size);
    for (; (end = strstr(at, "\n\n")); at = end + 2) {
        fuzz_that(!done && !failed);
        if (*at == ':')
            continue;
        fuzz_that(strncmp(at, "data: ", 6) == 0);
        if (strncmp(at, "data: [DONE]\n\n", 14) == 0) {
            done = true;
            continue;
        }
        json_t *event = json_loadb(at + 6, (size_t)(end - at) - 6, 0, NULL);
        fuzz_that(json_is_object(event));
        failed = has_error(event);
        json_decref(event);
    }
    fuzz_that(!*at && (done || failed));
    return !failed;
}

bool stub_is_well(const stub_reply *reply)
{
    fuzz_that(reply->status >= 200 && reply->status < 600);
    if (reply->error)
        return false;
    if (reply->stream)
        return events_are_well(reply) && reply->status == 200;
    if (reply->status != 200)
        return false;
    json_t *value = json_loadb(reply->body, reply->size, 0, NULL);
    fuzz_that(value != NULL);
    const bool well = !has_error(value);
    json_decref(value);
    return well;
}
