/* fuzz_engine.c: see fuzz_engine.h. The upstream is a thread for each connection and knows as much of HTTP as libcurl
 * needs: requests with a length, answers with one. */
#include "fuzz_engine.h"

#include "fuzz.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static engine *opened;
static judge *critic;
static metrics *counts;
static int listener;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fuzz_upstream_reply answer; /* the lock's; its body is on the heap; status 0: none is told */

static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\"}]}";
static const char whole[] =
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{"
    "\"role\":\"assistant\",\"content\":\"It is so.\\nAnswer: yes\"},\"finish_reason\":\"stop\"}],\"usage\":{"
    "\"prompt_tokens\":5,\"completion_tokens\":6,\"total_tokens\":11}}";
static const char events[] =
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
    "\"delta\":{\"role\":\"assistant\",\"content\":\"It is so.\\nAnswer\"},\"finish_reason\":null}]}\n\n"
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
    "\"delta\":{\"content\":\": yes\"},\"finish_reason\":\"stop\"}]}\n\n"
    "data: "
    "{\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6,\"total_tokens\":11}}\n\n"
    "data: [DONE]\n\n";

static bool send_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static fuzz_upstream_reply copy_of(const fuzz_upstream_reply *r)
{
    fuzz_upstream_reply copy = *r;
    uint8_t *body = malloc(r->size ? r->size : 1);
    fuzz_that(body != NULL);
    if (r->size)
        memcpy(body, r->body, r->size);
    copy.body = body;
    return copy;
}

/* A copy, since the caller may have gone on before all of it is sent. */
static fuzz_upstream_reply reply_to(const char *head, const char *body)
{
    const bool chat = strstr(head, "/chat/completions ") != NULL;
    const bool stream = chat && (strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true"));
    const char *text = stream ? events : chat ? whole : models;
    const fuzz_upstream_reply own = {.status = 200,
                                     .type = stream ? "text/event-stream" : "application/json",
                                     .body = (const uint8_t *)text,
                                     .size = strlen(text)};
    pthread_mutex_lock(&lock);
    const fuzz_upstream_reply copy = copy_of(chat && answer.status ? &answer : &own);
    pthread_mutex_unlock(&lock);
    return copy;
}

static bool respond(int fd, const char *head, const char *body)
{
    char line[256];
    const fuzz_upstream_reply r = reply_to(head, body);
    snprintf(line, sizeof line, "HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", r.status, r.type,
             r.size + (r.cut ? 100 : 0));
    const bool sent = send_all(fd, line, strlen(line)) && send_all(fd, r.body, r.size);
    free((void *)(uintptr_t)r.body);
    return sent && !r.cut;
}

static void *serve(void *user)
{
    const int fd = (int)(intptr_t)user, on = 1;
    buffer b = {0};
    char piece[16384];
    ssize_t n;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while ((n = recv(fd, piece, sizeof piece, 0)) > 0) {
        fuzz_that(buffer_append(&b, piece, (size_t)n, NULL) == DRR_OK);
        char *end = strstr(b.data, "\r\n\r\n");
        const char *length = end ? strcasestr(b.data, "\r\nContent-Length:") : NULL;
        const size_t size = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
        if (!end || b.size < (size_t)(end + 4 - b.data) + size)
            continue;
        end[2] = '\0';
        if (!respond(fd, b.data, end + 4))
            break;
        buffer_clear(&b);
        b = (buffer){0};
    }
    buffer_clear(&b);
    close(fd);
    return NULL;
}

static void *accept_all(void *user)
{
    (void)user;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        fuzz_that(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0);
        pthread_detach(thread);
    }
    return NULL;
}

static void close_all(void)
{
    engine_close(opened);
    judge_close(critic);
    metrics_free(counts);
}

static void open_all(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    pthread_t thread;
    static char url[64]; /* the engine goes on reading it */
    drr_error err = {0};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    fuzz_that(listener >= 0 && bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 64) == 0);
    fuzz_that(getsockname(listener, (struct sockaddr *)&at, &size) == 0);
    fuzz_that(pthread_create(&thread, NULL, accept_all, NULL) == 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1", ntohs(at.sin_port));
    encoder *e = small_encoder();
    wordpiece *w = small_tokenizer();
    critic_meta m = small_meta(false);
    fuzz_that(critic_write("critic.gguf", e, w, &m, &err) == DRR_OK);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
    fuzz_that(metrics_new(&counts, &err) == DRR_OK);
    fuzz_that(judge_open(&critic, "critic.gguf", DRR_PRECISION_FP32, 1, NULL, &err) == DRR_OK);
    engine_options options = {.upstream = url,
                              .upstream_key = "fuzz-upstream-key",
                              .timeout_seconds = 5,
                              .keepalive_seconds = 30,
                              .critic = critic,
                              .counts = counts};
    engine_policy_defaults(&options.policy);
    options.policy.max_turns = 2;
    const drr_status status = engine_open(&opened, &options, NULL, &err);
    if (status != DRR_OK)
        fprintf(stderr, "%s\n", err.message);
    fuzz_that(status == DRR_OK);
    atexit(close_all);
}

engine *fuzz_engine(const fuzz_upstream_reply *told)
{
    if (!opened)
        open_all();
    const fuzz_upstream_reply now = told ? copy_of(told) : (fuzz_upstream_reply){0};
    pthread_mutex_lock(&lock);
    free((void *)(uintptr_t)answer.body);
    answer = now;
    pthread_mutex_unlock(&lock);
    return opened;
}
