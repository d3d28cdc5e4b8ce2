/* http.c: opens the HTTP server over libmicrohttpd, drains and closes it. Requests are read in http_call.c. */
#include "serve/http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a connection's buffers hold beside the headers: the reply's headers, and a piece of a stream. */
enum { POOL_EXTRA = 12 << 10, BACKLOG = 1024, SPARE_FILES = 256, MOST_THREADS = 8, LEAST_KEY = 8 };

void http_options_defaults(http_options *options)
{
    *options = (http_options){.host = "127.0.0.1",
                              .body_bytes = 16 << 20,
                              .header_bytes = 16 << 10,
                              .connections = 4096,
                              .in_flight_per_key = 512,
                              .header_seconds = 10,
                              .body_seconds = 60,
                              .write_seconds = 30,
                              .idle_seconds = 75};
}

static bool only_this_machine(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *v6 = (const void *)address;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

http_keys *keys_get(http_server *s)
{
    pthread_mutex_lock(&s->lock);
    http_keys *keys = s->keys;
    atomic_fetch_add(&keys->references, 1);
    pthread_mutex_unlock(&s->lock);
    return keys;
}

void keys_release(http_keys *keys)
{
    if (keys && atomic_fetch_sub(&keys->references, 1) == 1)
        free(keys);
}

static drr_status keys_new(http_keys **keys, const char *const *texts, size_t n, drr_error *err)
{
    http_keys *k = calloc(1, sizeof *k + (n + 1) * sizeof *k->keys);
    if (!k)
        return error_memory(err);
    atomic_init(&k->references, 1);
    k->n = n;
    for (size_t i = 0; i < n; i++) {
        sha256 hash;
        if (strlen(texts[i]) < LEAST_KEY) {
            free(k);
            return error_set(err, DRR_E_ARGUMENT, "API key %zu is shorter than %d characters; make a longer one", i + 1,
                             LEAST_KEY);
        }
        sha256_begin(&hash);
        sha256_add(&hash, texts[i], strlen(texts[i]));
        sha256_end(&hash, k->keys[i].hash);
    }
    *keys = k;
    return DRR_OK;
}

static drr_status check_keys(const http_server *s, size_t n, drr_error *err)
{
    if (n > 0 || !s->reachable)
        return DRR_OK;
    return error_set(err, DRR_E_ARGUMENT,
                     "host %s: others can reach this address, and there is no API key; give one (DRR_API_KEY or a "
                     "key file), or listen on 127.0.0.1",
                     s->host);
}

struct http_change {
    http_keys *keys;
    http_identity *identity; /* NULL: no TLS */
};

drr_status http_change_make(http_change **change, const http_server *server, const http_options *options,
                            drr_error *err)
{
    http_change *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    drr_status status = check_keys(server, options->n_keys, err);
    if (status == DRR_OK)
        status = keys_new(&c->keys, options->keys, options->n_keys, err);
    if (status == DRR_OK && server->identity && options->tls_certificate && options->tls_key)
        status = identity_read(&c->identity, options->tls_certificate, options->tls_key, err);
    if (status == DRR_OK)
        *change = c;
    else
        http_change_drop(c);
    return status;
}

void http_change_take(http_server *s, http_change *change)
{
    pthread_mutex_lock(&s->lock);
    http_keys *before = s->keys;
    s->keys = change->keys;
    if (change->identity)
        identity_put_locked(s, change->identity);
    pthread_mutex_unlock(&s->lock);
    keys_release(before);
    free(change);
}

void http_change_drop(http_change *change)
{
    if (!change)
        return;
    keys_release(change->keys);
    identity_free(change->identity);
    free(change);
}

static drr_status listen_on(http_server *s, const struct addrinfo *at, drr_error *err)
{
    const http_options *o = &s->options;
    const int on = 1, off = 0;
    s->reachable = !only_this_machine(at->ai_addr);
    drr_status status = check_keys(s, o->n_keys, err);
    if (status == DRR_OK)
        status = keys_new(&s->keys, o->keys, o->n_keys, err);
    if (status != DRR_OK)
        return status;
    s->listener = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listener < 0)
        return error_set_errno(err, errno, "host %s", o->host);
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->ai_family == AF_INET6)
        setsockopt(s->listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(s->listener, at->ai_addr, at->ai_addrlen) != 0 || listen(s->listener, BACKLOG) != 0) {
        const int code = errno;
        if (code == EADDRINUSE)
            return error_set(err, DRR_E_IO, "port %u of %s is in use; choose another, or 0 for any that is free",
                             o->port, o->host);
        return error_set_errno(err, code, "port %u of %s cannot be listened on", o->port, o->host);
    }
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    getsockname(s->listener, (struct sockaddr *)&bound, &size);
    s->port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                               : ((struct sockaddr_in6 *)&bound)->sin6_port);
    return DRR_OK;
}

static drr_status open_listener(http_server *s, drr_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", s->options.port);
    const int failed = getaddrinfo(s->options.host, port, &hints, &found);
    if (failed)
        return error_set(err, DRR_E_ARGUMENT, "host %s: %s; give an address of this machine", s->options.host,
                         gai_strerror(failed));
    drr_status status = listen_on(s, found, err);
    freeaddrinfo(found);
    return status;
}

/* As many connections as there can be open files, which the limit is raised for as far as it goes. */
static void fit_connections(http_server *s)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    const rlim_t wanted = (rlim_t)s->options.connections * 3 + SPARE_FILES; /* and an upstream's for each */
    if (files.rlim_cur < wanted) {
        files.rlim_cur = files.rlim_max < wanted ? files.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    if (files.rlim_cur >= wanted || files.rlim_cur == RLIM_INFINITY)
        return;
    const uint32_t fit = files.rlim_cur > 2 * SPARE_FILES ? (uint32_t)(files.rlim_cur - SPARE_FILES) / 3 : 64;
    hooks_log(s->hooks, DRR_LOG_WARN,
              "%u connections need more open files than the limit of %llu; %u are allowed (raise it: ulimit -n)",
              s->options.connections, (unsigned long long)files.rlim_cur, fit);
    s->options.connections = fit;
}

static drr_status read_certificates(http_server *s, const http_options *o, drr_error *err)
{
    if (!o->tls_certificate && !o->tls_key)
        return DRR_OK;
    if (!o->tls_certificate || !o->tls_key)
        return error_set(err, DRR_E_ARGUMENT, "TLS takes two files: the certificate chain and its key");
    if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        return error_set(err, DRR_E_BACKEND, "this libmicrohttpd was built without TLS");
    return identity_read(&s->identity, o->tls_certificate, o->tls_key, err);
}

static uint32_t n_threads(const http_options *o)
{
    const uint32_t cores = cores_usable();
    if (o->threads)
        return o->threads < MOST_THREADS ? o->threads : MOST_THREADS;
    return cores < 4 ? 1 : cores < 16 ? 2 : 4;
}

static drr_status start_daemon(http_server *s, drr_error *err)
{
    const http_options *o = &s->options;
    unsigned int flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem extra[6];
    size_t n = 0;
    const uint32_t threads = n_threads(o);
    if (threads > 1) /* 1 would be refused */
        extra[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    if (s->identity) {
        flags |= MHD_USE_TLS;
        extra[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, identity_certificate(s->identity)};
        extra[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, identity_key(s->identity)};
    }
    extra[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    /* Its threads take no signals: those are the program's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, call_access, s, MHD_OPTION_LISTEN_SOCKET, s->listener, MHD_OPTION_CONNECTION_LIMIT,
        2 * o->connections + 64, MHD_OPTION_CONNECTION_MEMORY_LIMIT, 2 * o->header_bytes + POOL_EXTRA,
        MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION,
        watch_connection, s, MHD_OPTION_NOTIFY_COMPLETED, call_completed, s, MHD_OPTION_URI_LOG_CALLBACK,
        call_request_line, s, MHD_OPTION_ARRAY, extra, MHD_OPTION_END);
    const int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (s->identity)
        identity_wipe(s->identity);
    if (s->daemon)
        return DRR_OK;
    return error_set_errno(err, code ? code : EINVAL, "the HTTP server cannot be started");
}

drr_status http_open(http_server **server, const http_options *options, const http_route *routes, size_t n_routes,
                     const drr_hooks *hooks, drr_error *err)
{
    http_server *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    s->options = *options;
    s->routes = routes;
    s->n_routes = n_routes;
    s->hooks = hooks;
    s->listener = s->watch = s->wake = -1;
    pthread_mutex_init(&s->lock, NULL);
    if (getrandom(&s->id_seed, sizeof s->id_seed, 0) != (ssize_t)sizeof s->id_seed)
        s->id_seed = hash_mix((uint64_t)(clock_seconds() * 1e9), (uint64_t)getpid());
    s->host = string_copy(options->host);
    s->options.host = s->host;
    drr_status status = s->host ? DRR_OK : error_memory(err);
    if (status == DRR_OK)
        status = read_certificates(s, options, err);
    if (status == DRR_OK)
        status = open_listener(s, err);
    s->options.keys = NULL; /* the caller's; hashes are kept */
    if (status == DRR_OK) {
        fit_connections(s);
        status = watch_start(s, err);
    }
    if (status == DRR_OK)
        status = start_daemon(s, err);
    if (status == DRR_OK)
        *server = s;
    else
        http_close(s);
    return status;
}

uint16_t http_port(const http_server *server)
{
    return server->port;
}

size_t http_in_flight(const http_server *server)
{
    return atomic_load(&server->in_flight);
}

void http_drain(http_server *server)
{
    if (atomic_exchange(&server->draining, true))
        return;
    MHD_socket listener = MHD_quiesce_daemon(server->daemon);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    server->listener = -1;
    watch_cut_idle(server);
}

void http_close(http_server *server)
{
    if (!server)
        return;
    atomic_store(&server->closing, true);
    if (server->daemon) {
        call_resume_all(server); /* libmicrohttpd does not stop over suspended ones */
        MHD_stop_daemon(server->daemon);
    } else if (server->listener >= 0) {
        close(server->listener);
    }
    watch_stop(server);
    pthread_mutex_destroy(&server->lock);
    keys_release(server->keys);
    free(server->host);
    identity_free(server->identity);
    free(server);
}
