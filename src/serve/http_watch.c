/* http_watch.c: one thread that knows every connection. It tells of clients that leave, which libmicrohttpd does not
 * see while a request is suspended, cuts those that are slower than the limits allow whatever trickle they send, and
 * makes room when there are too many. Connections come and go on libmicrohttpd's threads. */
#include "serve/http_internal.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, TICK_MS = 250, LAST_MOMENT_SECONDS = 1 };

/* ---- connections, on libmicrohttpd's threads */

static void unlink_locked(http_server *s, http_link *link)
{
    if (link->before)
        link->before->after = link->after;
    else
        s->oldest = link->after;
    if (link->after)
        link->after->before = link->before;
    else
        s->newest = link->before;
    link->before = link->after = NULL;
    s->n_links--;
}

static bool between_requests(const http_link *link)
{
    return link->phase == PHASE_NEW || link->phase == PHASE_IDLE;
}

/* libmicrohttpd closes a socket only after it said so under our lock, so fd is ours to shut. */
static void cut_locked(http_link *link)
{
    link->deadline = INFINITY;
    link->cut = true;
    if (!link->closed)
        shutdown(link->fd, SHUT_RDWR);
}

/* The one that has been idle longest gives way; false: none is idle. */
static bool make_room_locked(http_server *s, const http_link *newest)
{
    for (http_link *link = s->oldest; link; link = link->after) {
        if (link != newest && between_requests(link) && !link->cut) {
            cut_locked(link);
            return true;
        }
    }
    return false;
}

static void set_timeouts(int fd, const http_options *o)
{
    const int on = 1, idle = 60, interval = 20, write_ms = (int)o->write_seconds * 1000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); /* a client whose machine is gone */
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &write_ms, sizeof write_ms); /* one that takes nothing */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void connected(http_server *s, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    http_link *link = info ? calloc(1, sizeof *link) : NULL;
    *context = link; /* NULL: its first request ends it */
    if (!link)
        return;
    link->server = s;
    link->fd = info->connect_fd;
    link->deadline = clock_seconds() + s->options.header_seconds;
    set_timeouts(link->fd, &s->options);
    pthread_mutex_lock(&s->lock);
    link->tls = s->identity != NULL;
    if (link->tls)
        identity_show_locked(s, connection);
    link->before = s->newest;
    if (s->newest)
        s->newest->after = link;
    else
        s->oldest = link;
    s->newest = link;
    const bool first = s->n_links++ == 0;
    if (s->n_links > s->options.connections)
        link->surplus = !make_room_locked(s, link);
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = link};
    epoll_ctl(s->watch, EPOLL_CTL_ADD, link->fd, &event);
    pthread_mutex_unlock(&s->lock);
    if (first) /* the watch slept without a tick */
        watch_wake(s);
}

static void disconnected(http_link *link)
{
    http_server *s = link->server;
    pthread_mutex_lock(&s->lock);
    epoll_ctl(s->watch, EPOLL_CTL_DEL, link->fd, NULL);
    unlink_locked(s, link);
    link->closed = true; /* freed by the watch, which may hold an event of it */
    link->after = s->dead;
    s->dead = link;
    pthread_mutex_unlock(&s->lock);
}

void watch_connection(void *user, struct MHD_Connection *connection, void **context,
                      enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        connected(user, connection, context);
    else if (*context)
        disconnected(*context);
}

http_link *watch_link(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* A client that says no more may have said all before, and libmicrohttpd need not have read it; but it hears of the end
 * only when it reads, which after an answer it may never do again: the end is ours to make. */
static void last_moment_locked(http_link *link)
{
    const double soon = clock_seconds() + LAST_MOMENT_SECONDS;
    if (link->phase != PHASE_WORK && link->phase != PHASE_WRITE && soon < link->deadline && !link->cut)
        link->deadline = soon;
}

bool watch_phase(http_link *link, http_phase phase, double seconds, http_call *call)
{
    http_server *s = link->server;
    const double now = isfinite(seconds) ? clock_seconds() : 0;
    http_call *before = NULL;
    pthread_mutex_lock(&s->lock);
    link->phase = phase;
    link->deadline = now + seconds;
    if (link->call != call) {
        before = link->call;
        if (call)
            atomic_fetch_add(&call->references, 1);
        link->call = call;
    }
    if (atomic_load(&s->draining) && between_requests(link))
        cut_locked(link);
    if (link->gone)
        last_moment_locked(link);
    const bool gone = link->gone;
    pthread_mutex_unlock(&s->lock);
    if (before)
        call_release(before);
    return gone;
}

void watch_cut_idle(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    for (http_link *link = s->oldest; link; link = link->after)
        if (between_requests(link))
            cut_locked(link);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the thread */

void watch_wake(http_server *s)
{
    const uint64_t one = 1;
    ssize_t written = write(s->wake, &one, sizeof one);
    (void)written; /* full: it is awake */
}

static void left(http_link *link)
{
    http_server *s = link->server;
    http_call *call = NULL;
    pthread_mutex_lock(&s->lock);
    link->gone = true;
    if (!link->closed)
        last_moment_locked(link);
    if (!link->closed && link->call) {
        call = link->call;
        atomic_fetch_add(&call->references, 1);
    }
    pthread_mutex_unlock(&s->lock);
    if (call) {
        call_gone(call);
        call_release(call);
    }
}

static void tell(http_server *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        http_call *call = s->to_tell;
        if (call)
            s->to_tell = call->next_told;
        pthread_mutex_unlock(&s->lock);
        if (!call)
            return;
        call_gone(call);
        call_release(call);
    }
}

void watch_tell(http_call *call)
{
    http_server *s = call->server;
    atomic_fetch_add(&call->references, 1);
    pthread_mutex_lock(&s->lock);
    call->next_told = s->to_tell;
    s->to_tell = call;
    pthread_mutex_unlock(&s->lock);
    watch_wake(s);
}

static void cut_slow(http_server *s)
{
    const double now = clock_seconds();
    pthread_mutex_lock(&s->lock);
    for (http_link *link = s->oldest; link; link = link->after) {
        const double stalled = link->call ? atomic_load(&link->call->stalled) : 0;
        if (link->deadline <= now) {
            if (link->phase == PHASE_HEADERS || link->phase == PHASE_BODY || link->phase == PHASE_NEW)
                reply_raw(link, 408, "the request did not arrive in time; send it faster");
            cut_locked(link);
        } else if (stalled != 0 && now - stalled > s->options.write_seconds) {
            atomic_store(&link->call->stalled, 0);
            cut_locked(link);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static void bury(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    http_link *dead = s->dead;
    s->dead = NULL;
    pthread_mutex_unlock(&s->lock);
    while (dead) {
        http_link *next = dead->after;
        free(dead->query);
        free(dead);
        dead = next;
    }
}

static bool anyone(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    const bool any = s->n_links > 0;
    pthread_mutex_unlock(&s->lock);
    return any;
}

static void *watch(void *user)
{
    http_server *s = user;
    double ticked = clock_seconds();
    while (!atomic_load(&s->watch_ends)) {
        struct epoll_event events[EVENTS];
        const int n = epoll_wait(s->watch, events, EVENTS, anyone(s) ? TICK_MS : -1);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (events[i].data.ptr) {
                left(events[i].data.ptr);
            } else if (read(s->wake, &count, sizeof count) > 0) {
                tell(s);
            }
        }
        if (clock_seconds() - ticked > TICK_MS / 1000.0) {
            cut_slow(s);
            ticked = clock_seconds();
        }
        bury(s);
    }
    return NULL;
}

drr_status watch_start(http_server *s, drr_error *err)
{
    s->watch = epoll_create1(EPOLL_CLOEXEC);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (s->watch < 0 || s->wake < 0 || epoll_ctl(s->watch, EPOLL_CTL_ADD, s->wake, &event) != 0)
        return error_set_errno(err, errno, "the server cannot watch its connections");
    const int failed = pthread_create(&s->watcher, NULL, watch, s);
    if (failed)
        return error_set_errno(err, failed, "the server cannot start a thread");
    s->watching = true;
    return DRR_OK;
}

void watch_stop(http_server *s)
{
    if (s->watching) {
        atomic_store(&s->watch_ends, true);
        watch_wake(s);
        pthread_join(s->watcher, NULL);
        s->watching = false;
    }
    tell(s);
    bury(s);
    if (s->watch >= 0)
        close(s->watch);
    if (s->wake >= 0)
        close(s->wake);
}
