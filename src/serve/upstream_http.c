/* upstream_http.c: asks a server over libcurl: many calls at once on one thread, connections and handles used again,
 * tries that failed made again after a wait as long as nothing has been handed on. What a reply says is
 * upstream_reply.c's; which of them are worth another try is upstream_try.c's. */
#include "serve/upstream_http.h"
#include "net/easy.h"
#include "reasoner/remote_budget.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

/* The usage that follows an answer may be late, but is not waited for long. */
static const double AFTER_FINISH_S = 2;

enum { MOST_BODY = 64 << 20, MOST_REFUSAL = 1 << 20, MOST_EVENT = 4 << 20, IDLE_CONNECTIONS = 256 };

/* ---- libcurl's sockets in our epoll set */

static int on_socket(CURL *easy, curl_socket_t s, int what, void *user, void *known)
{
    upstream_http *h = user;
    struct epoll_event event = {.data.fd = s};
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(h->owner->epoll, EPOLL_CTL_DEL, s, &event);
        curl_multi_assign(h->multi, s, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(h->owner->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s, &event) != 0)
        epoll_ctl(h->owner->epoll, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, s, &event);
    curl_multi_assign(h->multi, s, h);
    return 0;
}

static int on_timer(CURLM *multi, long milliseconds, void *user)
{
    upstream_http *h = user;
    (void)multi;
    h->timer_s = milliseconds < 0 ? INFINITY : clock_seconds() + (double)milliseconds / 1000;
    return 0;
}

double http_backend_due(const upstream_http *h)
{
    return h->timer_s < h->retry_s ? h->timer_s : h->retry_s;
}

void http_backend_event(upstream_http *h, int fd, uint32_t what)
{
    int running;
    /* A socket that has broken is read from too: that tells how. */
    const int mask =
        (what & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) | (what & EPOLLOUT ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(h->multi, fd, mask, &running);
}

/* ---- bytes as they come */

static drr_status on_event(void *user, const char *data, size_t size, drr_error *err)
{
    http_transfer *t = user;
    (void)err;
    const size_t before = t->reply.own_text.size + t->reply.own_thoughts.size;
    net_hide_key(t->h->owner->options.key, t->events.data.data, size); /* which is what `data` points to */
    if (!upstream_reply_event(&t->reply, data, size, &t->ended, t->ask.piece, t->ask.user, t->h->owner->name)) {
        t->broken = true;
        return DRR_E_BACKEND;
    }
    t->given = t->given || (t->ask.piece && t->reply.own_text.size + t->reply.own_thoughts.size > before);
    if (*t->reply.finish && t->finished_s <= 0) {
        t->finished_s = clock_seconds();
        t->h->retry_s = fmin(t->h->retry_s, t->finished_s + AFTER_FINISH_S);
    }
    return DRR_OK;
}

bool http_transfer_reread(http_transfer *t)
{
    const buffer *b = &t->reply.body;
    if (b->size < 5 || (memcmp(b->data, "data:", 5) != 0 && b->data[0] != ':'))
        return false;
    t->streaming = true;
    if (sse_feed(&t->events, b->data, b->size, on_event, t, NULL) == DRR_OK)
        sse_end(&t->events, on_event, t, NULL);
    return true;
}

static void note_head(http_transfer *t)
{
    char *type = NULL;
    t->seen = true;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->status);
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    snprintf(t->reply.type, sizeof t->reply.type, "%s", type ? type : "");
    t->streaming = strncasecmp(t->reply.type, "text/event-stream", 17) == 0;
    t->onward = t->raw && t->status >= 200 && t->status < 300;
    if (t->onward && t->fetch.head)
        t->fetch.head(t->fetch.user, (int)t->status, t->reply.type);
    t->given = t->given || t->onward;
}

/* The key may stand at the border of two pieces: what may be its beginning waits for the next one. */
static void pass_on(http_transfer *t, char *bytes, size_t size)
{
    const char *key = t->h->owner->options.key;
    const size_t n_key = key ? strlen(key) : 0;
    if (t->held.size) {
        buffer_append(&t->held, bytes, size, NULL);
        bytes = t->held.data;
        size = t->held.size;
    }
    net_hide_key(key, bytes, size);
    size_t keep = n_key > 1 ? (size < n_key - 1 ? size : n_key - 1) : 0;
    while (keep && memcmp(bytes + size - keep, key, keep) != 0)
        keep--;
    if (size > keep && t->fetch.more)
        t->fetch.more(t->fetch.user, bytes, size - keep);
    if (t->held.size) {
        memmove(t->held.data, bytes + size - keep, keep);
        t->held.size = keep;
    } else if (keep) {
        buffer_append(&t->held, bytes + size - keep, keep, NULL);
    }
}

/* Anything but `size * n` ends the transfer. */
static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    http_transfer *t = user;
    const size_t all = size * n, most = t->status == 200 ? MOST_BODY : MOST_REFUSAL;
    if (!t->seen)
        note_head(t);
    if (t->onward) {
        pass_on(t, bytes, all);
        return all;
    }
    if (t->streaming && t->status == 200)
        return sse_feed(&t->events, bytes, all, on_event, t, NULL) == DRR_OK ? all : 0;
    if (t->reply.body.size + all > most || buffer_append(&t->reply.body, bytes, all, NULL) != DRR_OK) {
        upstream_reply_fail(&t->reply, 502, "upstream_error", "the upstream %s sends more than %zu bytes",
                            t->h->owner->name, most);
        t->broken = true;
        return 0;
    }
    return all;
}

/* ---- handles */

static http_transfer *transfer_take(upstream_http *h)
{
    http_transfer *t = h->idle;
    if (t) {
        h->idle = t->next;
    } else {
        t = calloc(1, sizeof *t);
        if (!t || !(t->easy = curl_easy_init())) {
            free(t);
            return NULL;
        }
        t->call.owner = h->owner;
        t->h = h;
        net_easy_set_up(t->easy, h->owner->options.base, h->owner->options.ca_file);
        curl_easy_setopt(t->easy, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT, 20L);
        curl_easy_setopt(t->easy, CURLOPT_UPLOAD_BUFFERSIZE, 16384L); /* 64 KiB a call else, and seldom needed */
        curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->curl_says);
        curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
        if (strncmp(h->owner->options.base, "https:", 6) == 0)
            curl_easy_setopt(t->easy, CURLOPT_PIPEWAIT, 1L); /* rather a stream of HTTP/2 than a new connection */
    }
    t->began_s = clock_seconds();
    t->tries = 0;
    t->given = t->raw = false;
    t->previous = NULL;
    t->next = h->active;
    if (h->active)
        h->active->previous = t;
    h->active = t;
    return t;
}

static void transfer_leave(http_transfer *t)
{
    upstream_http *h = t->h;
    if (t->running)
        curl_multi_remove_handle(h->multi, t->easy);
    t->running = t->waiting = false;
    if (t->previous)
        t->previous->next = t->next;
    else
        h->active = t->next;
    if (t->next)
        t->next->previous = t->previous;
    upstream_reply_clear(&t->reply);
    sse_clear(&t->events);
    t->held.size = 0;
    free(t->own_bytes);
    t->own_bytes = NULL;
    t->next = h->idle;
    h->idle = t;
}

static void transfer_free(http_transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    buffer_clear(&t->held);
    free(t->url);
    free(t);
}

/* ---- a call */

static bool try_once(http_transfer *t)
{
    const double left = t->began_s + t->h->owner->options.timeout_seconds - clock_seconds();
    upstream_reply_clear(&t->reply);
    sse_clear(&t->events);
    t->events.most = MOST_EVENT;
    t->held.size = 0;
    t->streaming = t->ended = t->broken = t->seen = t->onward = t->waiting = false;
    t->status = 0;
    t->finished_s = 0;
    t->curl_says[0] = '\0';
    t->tries++;
    t->try_s = clock_seconds();
    curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)(left > 0.001 ? left * 1000 : 1));
    t->running = curl_multi_add_handle(t->h->multi, t->easy) == CURLM_OK;
    return t->running;
}

static drr_status begin(upstream_call **call, http_transfer *t, drr_error *err)
{
    if (!try_once(t)) {
        transfer_leave(t);
        return error_set(err, DRR_E_BACKEND, "libcurl cannot begin a request");
    }
    *call = &t->call;
    return DRR_OK;
}

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    buffer line = {0};
    if (!value)
        return true;
    struct curl_slist *more =
        buffer_printf(&line, NULL, "%s: %s", name, value) == DRR_OK ? curl_slist_append(*list, line.data) : NULL;
    buffer_clear(&line);
    *list = more ? more : *list;
    return more != NULL;
}

/* fetch: NULL for completions. authorization, api_key: the client's in place of ours, or NULL. */
static struct curl_slist *make_headers(const upstream_http *h, const upstream_fetch *fetch, const char *id,
                                       const char *authorization, const char *api_key)
{
    struct curl_slist *list = NULL;
    const bool get = fetch && strcmp(fetch->method, "GET") == 0, own = !authorization && !api_key;
    bool good = add_header(&list, "Authorization", own ? h->authorization : authorization) &&
                add_header(&list, "x-request-id", id);
    if (good && !get)
        good = add_header(&list, "Content-Type", fetch && fetch->type ? fetch->type : "application/json");
    if (good && fetch)
        good = add_header(&list, "Accept", fetch->accept) &&
               add_header(&list, "x-api-key", own && fetch->key_header ? h->owner->options.key : api_key);
    for (size_t i = 0; good && fetch && i < fetch->n_more; i++)
        good = add_header(&list, fetch->names[i], fetch->values[i]);
    struct curl_slist *more = good ? curl_slist_append(list, "Expect:") : NULL; /* a body is never held back */
    if (!more)
        curl_slist_free_all(list);
    return more;
}

drr_status http_backend_begin(upstream_call **call, upstream_http *h, const upstream_ask *ask, drr_error *err)
{
    http_transfer *t = transfer_take(h);
    if (!t)
        return error_memory(err);
    const char *bytes = ask->bytes;
    size_t size = ask->size;
    t->ask = *ask;
    if (!bytes) {
        bytes = t->own_bytes = json_dumps(ask->body, JSON_COMPACT);
        size = bytes ? strlen(bytes) : 0;
    }
    curl_slist_free_all(t->headers);
    t->forwards = ask->authorization != NULL;
    t->headers = make_headers(h, NULL, ask->id, ask->authorization, NULL);
    if (!bytes || !t->headers) {
        transfer_leave(t);
        return error_memory(err);
    }
    if (t->url || !t->chats) {
        free(t->url);
        t->url = NULL;
        t->chats = true;
        curl_easy_setopt(t->easy, CURLOPT_URL, h->chat_url);
        curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    }
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, bytes);
    return begin(call, t, err);
}

drr_status http_backend_pass(upstream_call **call, upstream_http *h, const upstream_fetch *fetch, drr_error *err)
{
    buffer url = {0};
    http_transfer *t = transfer_take(h);
    if (!t)
        return error_memory(err);
    const bool query = fetch->query && *fetch->query, get = strcmp(fetch->method, "GET") == 0;
    drr_status status = buffer_printf(&url, err, "%.*s%s%s%s", (int)h->base_size, h->owner->options.base, fetch->path,
                                      query ? "?" : "", query ? fetch->query : "");
    if (status != DRR_OK) {
        buffer_clear(&url);
        transfer_leave(t);
        return status;
    }
    t->raw = true;
    t->chats = false;
    t->fetch = *fetch;
    free(t->url);
    t->url = buffer_take(&url);
    curl_slist_free_all(t->headers);
    t->forwards = fetch->authorization || fetch->api_key;
    t->headers = make_headers(h, fetch, NULL, fetch->authorization, fetch->api_key);
    curl_easy_setopt(t->easy, CURLOPT_URL, t->url);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->easy, get ? CURLOPT_HTTPGET : CURLOPT_POST, 1L);
    if (!get) {
        curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->size);
        curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, fetch->bytes ? fetch->bytes : "");
    }
    return begin(call, t, err);
}

void http_backend_cancel(upstream_http *h, upstream_call *call)
{
    (void)h;
    transfer_leave((http_transfer *)call);
}

/* ---- the end of a try */

static void tell(http_transfer *t)
{
    t->reply.seconds = clock_seconds() - t->try_s;
    const upstream_done done = t->raw ? t->fetch.done : t->ask.done;
    void *user = t->raw ? t->fetch.user : t->ask.user;
    upstream_reply reply = t->reply; /* the handle is free for the calls that `done` may begin */
    t->reply = (upstream_reply){0};
    transfer_leave(t);
    done(user, &reply);
    upstream_reply_clear(&reply);
}

static void settle(http_transfer *t, CURLcode code)
{
    upstream_http *h = t->h;
    const upstream_options *o = &h->owner->options;
    const double now = clock_seconds();
    if (!t->seen)
        note_head(t);
    if (t->onward && code == CURLE_OK && t->held.size && t->fetch.more) {
        t->fetch.more(t->fetch.user, t->held.data, t->held.size);
        t->held.size = 0;
    }
    if (t->streaming && t->status == 200 && !t->raw && !t->broken && code == CURLE_OK)
        sse_end(&t->events, on_event, t, NULL);
    if (o->counts)
        metrics_upstream(o->counts, h->owner->name, (int)t->status, now - t->try_s);
    const bool again = http_transfer_judge(t, code);
    const double wait = retry_wait(t->tries, t->reply.retry_after, rng_uniform(&h->random));
    if (!again || t->given || t->tries > o->retries || now + wait > t->began_s + o->timeout_seconds) {
        tell(t);
        return;
    }
    if (o->counts)
        metrics_upstream_retry(o->counts);
    hooks_log(o->hooks, DRR_LOG_DEBUG, "%s; trying again in %.1f s", t->reply.message ? t->reply.message : "?", wait);
    t->waiting = true;
    t->not_before_s = now + wait;
    h->retry_s = t->not_before_s < h->retry_s ? t->not_before_s : h->retry_s;
}

/* Tries whose time has come, and answers that are whole though their stream goes on. */
static void watch(upstream_http *h, double now)
{
    h->retry_s = INFINITY;
    for (http_transfer *t = h->active, *next; t; t = next) {
        double due = INFINITY;
        next = t->next;
        if (t->waiting)
            due = t->not_before_s;
        else if (t->running && t->finished_s > 0)
            due = t->finished_s + AFTER_FINISH_S;
        if (due > now) {
            h->retry_s = fmin(h->retry_s, due);
        } else if (t->waiting && !try_once(t)) {
            t->waiting = true;
            t->not_before_s = now + 0.1;
            h->retry_s = fmin(h->retry_s, t->not_before_s);
        } else if (t->running && t->finished_s > 0) {
            curl_multi_remove_handle(h->multi, t->easy);
            t->running = false;
            settle(t, CURLE_OK);
            h->retry_s = now; /* what follows may have changed the list */
            return;
        }
    }
}

void http_backend_step(upstream_http *h)
{
    CURLMsg *message;
    int left;
    const double now = clock_seconds();
    if (now >= h->retry_s)
        watch(h, now);
    if (now >= h->timer_s) {
        h->timer_s = INFINITY;
        curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &left);
    }
    while ((message = curl_multi_info_read(h->multi, &left))) {
        http_transfer *t = NULL;
        const CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURL *easy = message->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        curl_multi_remove_handle(h->multi, easy);
        t->running = false;
        settle(t, code);
    }
}

/* ---- */

drr_status http_backend_open(upstream *u, drr_error *err)
{
    static const char path[] = "/chat/completions";
    buffer url = {0}, authorization = {0};
    upstream_http *h = calloc(1, sizeof *h);
    if (!h)
        return error_memory(err);
    u->http = h;
    h->owner = u;
    h->timer_s = h->retry_s = INFINITY;
    rng_seed(&h->random, hash_string((uint64_t)(clock_seconds() * 1e6), u->options.base));
    h->base_size = strlen(u->options.base);
    while (h->base_size && u->options.base[h->base_size - 1] == '/')
        h->base_size--;
    if (strncmp(u->options.base, "http://", 7) != 0 && strncmp(u->options.base, "https://", 8) != 0)
        return error_set(err, DRR_E_ARGUMENT, "the upstream %s is no address that begins with http:// or https://",
                         u->options.base);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->multi = curl_multi_init()))
        return error_memory(err);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
    drr_status status = buffer_printf(&url, err, "%.*s%s", (int)h->base_size, u->options.base, path);
    h->chat_url = buffer_take(&url);
    if (status == DRR_OK && u->options.key) {
        status = buffer_printf(&authorization, err, "Bearer %s", u->options.key);
        h->authorization = buffer_take(&authorization);
    }
    return status;
}

void http_backend_close(upstream_http *h)
{
    if (!h)
        return;
    while (h->active)
        transfer_leave(h->active);
    while (h->idle) {
        http_transfer *t = h->idle;
        h->idle = t->next;
        transfer_free(t);
    }
    curl_multi_cleanup(h->multi);
    free(h->chat_url);
    if (h->authorization)
        explicit_bzero(h->authorization, strlen(h->authorization));
    free(h->authorization);
    free(h);
}
