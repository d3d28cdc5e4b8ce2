/* http_fixture.h: an HTTP server on a free port, with routes that answer at once, later, from another thread, in a
 * stream, or when the test says so; and a client of plain sockets that sees every byte. */
#ifndef HTTP_FIXTURE_H
#define HTTP_FIXTURE_H

#include "serve/http.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { HELD_MOST = 512 };

typedef struct http_fixture {
    http_server *server;
    http_options options;
    pthread_mutex_t lock;
    http_call *held[HELD_MOST]; /* by /hold and /stream, for the test to end */
    size_t n_held;
    pthread_t worker;
    http_call *later[HELD_MOST]; /* by /later, for the worker to end */
    size_t n_later;
    bool ends;
    atomic_uint n_gone, n_done, n_lost;
    double gone_at;
    atomic_int last_status;
} http_fixture;

static http_fixture fixture;

static inline void reply_echo(void *user, http_call *call)
{
    size_t size;
    const char *body = http_body(call, &size);
    (void)user;
    if (http_query(call, "header"))
        http_add_header(call, "x-told", http_query(call, "header"));
    http_reply(call, 200, "text/plain", string_copy_n(body, size), size);
}

static inline void note_gone(void *user)
{
    http_fixture *f = user;
    pthread_mutex_lock(&f->lock);
    f->gone_at = clock_seconds();
    pthread_mutex_unlock(&f->lock);
    atomic_fetch_add(&f->n_gone, 1);
}

static inline void hold(void *user, http_call *call)
{
    http_fixture *f = user;
    if (strcmp(http_path(call), "/stream") == 0)
        http_stream_begin(call, 200, "text/event-stream");
    if (!http_query(call, "deaf"))
        http_on_gone(call, note_gone, f);
    pthread_mutex_lock(&f->lock);
    assert_true(f->n_held < HELD_MOST);
    f->held[f->n_held++] = call;
    pthread_mutex_unlock(&f->lock);
}

static inline http_call *next_held(void)
{
    http_call *call = NULL;
    for (int i = 0; i < 2000 && !call; i++) {
        pthread_mutex_lock(&fixture.lock);
        if (fixture.n_held)
            call = fixture.held[--fixture.n_held];
        pthread_mutex_unlock(&fixture.lock);
        if (!call)
            usleep(1000);
    }
    assert_non_null(call);
    return call;
}

static inline void queue_later(void *user, http_call *call)
{
    http_fixture *f = user;
    pthread_mutex_lock(&f->lock);
    const bool room = f->n_later < HELD_MOST;
    if (room)
        f->later[f->n_later++] = call;
    pthread_mutex_unlock(&f->lock);
    if (!room)
        http_reply_error(call, 503, NULL, NULL, NULL, "full");
}

/* Replies as soon as it can: often before the handler has returned. */
static inline void *work(void *user)
{
    http_fixture *f = user;
    for (;;) {
        pthread_mutex_lock(&f->lock);
        http_call *call = f->n_later ? f->later[--f->n_later] : NULL;
        const bool ends = f->ends;
        pthread_mutex_unlock(&f->lock);
        if (!call && ends)
            return NULL;
        if (!call) {
            usleep(100);
            continue;
        }
        size_t size;
        const char *body = http_body(call, &size);
        if (http_query(call, "stream")) {
            http_stream_begin(call, 200, "text/plain");
            for (size_t i = 0; i < size; i++)
                if (!http_stream_write(call, body + i, 1))
                    atomic_fetch_add(&f->n_lost, 1);
            http_stream_end(call);
        } else {
            http_reply(call, 200, "text/plain", string_copy_n(body, size), size);
        }
    }
}

static inline void note_done(void *user, const http_done *done)
{
    http_fixture *f = user;
    atomic_store(&f->last_status, done->status);
    atomic_fetch_add(&f->n_done, 1);
}

static inline void fixture_options(void)
{
    memset(&fixture, 0, sizeof fixture);
    http_options_defaults(&fixture.options);
    fixture.options.done = note_done;
    fixture.options.done_user = &fixture;
}

static inline void fixture_open(void)
{
    static const http_route routes[] = {
        {"GET", "/health", HTTP_PUBLIC, reply_echo, NULL},     {"GET", "/models/*", HTTP_KEYED, reply_echo, NULL},
        {"POST", "/echo", HTTP_KEYED, reply_echo, NULL},       {"GET", "/echo", HTTP_KEYED, reply_echo, NULL},
        {"POST", "/later", HTTP_KEYED, queue_later, &fixture}, {"GET", "/hold", HTTP_KEYED, hold, &fixture},
        {"GET", "/stream", HTTP_KEYED, hold, &fixture}};
    drr_error err = {0};
    pthread_mutex_init(&fixture.lock, NULL);
    if (http_open(&fixture.server, &fixture.options, routes, sizeof routes / sizeof *routes, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pthread_create(&fixture.worker, NULL, work, &fixture), 0);
}

static inline void wait_for_calls(size_t n)
{
    for (int i = 0; i < 500 && http_in_flight(fixture.server) > n; i++)
        usleep(10000);
    assert_int_equal(http_in_flight(fixture.server), n);
}

static inline void fixture_close(void)
{
    http_drain(fixture.server); /* a client that left at once may only now be read */
    wait_for_calls(0);
    pthread_mutex_lock(&fixture.lock);
    fixture.ends = true;
    pthread_mutex_unlock(&fixture.lock);
    pthread_join(fixture.worker, NULL);
    http_close(fixture.server);
    pthread_mutex_destroy(&fixture.lock);
}

/* Setup and teardown of cmocka; where the options are to be others, the test has a setup of its own. */
static inline int open_plain(void **state)
{
    (void)state;
    fixture_options();
    fixture_open();
    return 0;
}

static inline int close_any(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

/* ---- the client */

static inline int client_open(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(http_port(fixture.server))};
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(s >= 0);
    assert_int_equal(connect(s, (struct sockaddr *)&to, sizeof to), 0);
    return s;
}

static inline void client_send(int s, const char *text)
{
    size_t left = strlen(text);
    while (left) {
        const ssize_t n = send(s, text, left, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        left -= (size_t)n;
    }
}

/* Appends what comes until `wanted` is in it, or the end (NULL: until the end). False: `seconds` were over. */
static inline bool client_read(int s, buffer *seen, const char *wanted, double seconds)
{
    const double until = clock_seconds() + seconds;
    assert_int_equal(buffer_append(seen, "", 0, NULL), DRR_OK);
    while (!wanted || !strstr(seen->data, wanted)) {
        char bytes[4096];
        struct pollfd p = {.fd = s, .events = POLLIN};
        const double left = until - clock_seconds();
        if (left <= 0 || poll(&p, 1, (int)(left * 1000) + 1) <= 0)
            return false;
        const ssize_t n = recv(s, bytes, sizeof bytes, 0);
        if (n <= 0)
            return !wanted;
        assert_int_equal(buffer_append(seen, bytes, (size_t)n, NULL), DRR_OK);
    }
    return true;
}

/* What a connection of its own answers until it is closed; the caller's to free. */
static inline char *ask(const char *request)
{
    buffer seen = {0};
    const int s = client_open();
    client_send(s, request);
    client_read(s, &seen, NULL, 10);
    close(s);
    return buffer_take(&seen);
}

/* The same with the words that every request has. */
static inline char *ask_for(const char *method, const char *path, const char *headers, const char *body)
{
    buffer request = {0}, seen = {0};
    const int s = client_open();
    assert_int_equal(buffer_printf(&request, NULL, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s",
                                   method, path, headers),
                     DRR_OK);
    if (body)
        assert_int_equal(buffer_printf(&request, NULL, "Content-Length: %zu\r\n", strlen(body)), DRR_OK);
    assert_int_equal(buffer_printf(&request, NULL, "\r\n%s", body ? body : ""), DRR_OK);
    client_send(s, request.data);
    client_read(s, &seen, NULL, 10);
    close(s);
    buffer_clear(&request);
    return buffer_take(&seen);
}

static inline void answer_is(char *answer, int status, const char *holds)
{
    char line[32];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (strncmp(answer, line, strlen(line)) != 0 || (holds && !strstr(answer, holds)))
        fail_msg("wanted %d with %s, got: %s", status, holds ? holds : "anything", answer);
    free(answer);
}

#endif
