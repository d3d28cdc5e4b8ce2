/* upstream.c: the common part of both kinds of upstream: one epoll set that all waiting is done on, and who is asked.
 */
#include "serve/upstream_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* "http://user@host:80/v1" -> "host:80": what a message and a metric may show. */
static char *name_of(const char *base)
{
    const char *at = strstr(base, "://");
    at = at ? at + 3 : base;
    const size_t n = strcspn(at, "/?#");
    const char *host = memchr(at, '@', n);
    host = host ? host + 1 : at;
    return string_copy_n(host, n - (size_t)(host - at));
}

drr_status upstream_open(upstream **u, const upstream_options *options, drr_error *err)
{
    upstream *o = calloc(1, sizeof *o);
    struct epoll_event wake = {.events = EPOLLIN};
    if (!o)
        return error_memory(err);
    o->options = *options;
    o->epoll = epoll_create1(EPOLL_CLOEXEC);
    o->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wake.data.fd = o->event;
    drr_status status = DRR_OK;
    o->name = options->base ? name_of(options->base) : string_copy(drr_reasoner_id(options->reasoner));
    if (!o->name)
        status = error_memory(err);
    else if (o->epoll < 0 || o->event < 0 || epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->event, &wake) != 0)
        status = error_set_errno(err, errno, "the server cannot wait for its upstream");
    else
        status = options->base ? http_backend_open(o, err) : embedded_open(o, err);
    if (status == DRR_OK)
        *u = o;
    else
        upstream_close(o);
    return status;
}

void upstream_close(upstream *u)
{
    if (!u)
        return;
    http_backend_close(u->http);
    embedded_close(u->embedded);
    if (u->epoll >= 0)
        close(u->epoll);
    if (u->event >= 0)
        close(u->event);
    free(u->name);
    free(u);
}

bool upstream_is_embedded(const upstream *u)
{
    return u->embedded != NULL;
}

const char *upstream_name(const upstream *u)
{
    return u->name;
}

drr_status upstream_begin(upstream_call **call, upstream *u, const upstream_ask *ask, drr_error *err)
{
    return u->embedded ? embedded_begin(call, u->embedded, ask, err) : http_backend_begin(call, u->http, ask, err);
}

drr_status upstream_pass(upstream_call **call, upstream *u, const upstream_fetch *fetch, drr_error *err)
{
    if (u->embedded)
        return error_set(err, DRR_E_ARGUMENT, "the embedded model answers /v1/chat/completions alone");
    return http_backend_pass(call, u->http, fetch, err);
}

void upstream_cancel(upstream_call *call)
{
    if (!call)
        return;
    if (call->owner->embedded)
        embedded_cancel(call->owner->embedded, call);
    else
        http_backend_cancel(call->owner->http, call);
}

void upstream_wake(upstream *u)
{
    const uint64_t one = 1;
    while (write(u->event, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void upstream_wait(upstream *u, double seconds)
{
    enum { EVENTS = 128 };
    struct epoll_event events[EVENTS];
    const double now = clock_seconds(), due = u->http ? http_backend_due(u->http) : now + seconds;
    double wait = due < now + seconds ? due - now : seconds;
    wait = wait < 0 ? 0 : wait;
    const int n = epoll_wait(u->epoll, events, EVENTS, (int)(wait * 1000 + 0.999));
    for (int i = 0; i < n; i++) {
        uint64_t count;
        if (events[i].data.fd != u->event)
            http_backend_event(u->http, events[i].data.fd, events[i].events);
        else
            while (read(u->event, &count, sizeof count) < 0 && errno == EINTR)
                ;
    }
    if (u->http)
        http_backend_step(u->http);
    if (u->embedded)
        embedded_step(u->embedded);
}
