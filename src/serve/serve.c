/* serve.c: drr_serve: opens the server's parts, says which route is whose, and runs until it is told to stop. */
#include "serve/http.h"

#include <time.h>

void drr_serve_options_defaults(drr_serve_options *options)
{
    *options = (drr_serve_options){.host = "127.0.0.1", .port = 8377};
}

static void health(void *user, http_call *call)
{
    (void)user;
    http_reply_json(call, 200, json_pack("{s:s}", "status", "ok"));
}

static void nap(void)
{
    const struct timespec wait = {.tv_nsec = 100000000};
    nanosleep(&wait, NULL); /* a signal ends it early */
}

drr_status drr_serve(const drr_serve_options *options, const drr_hooks *hooks, drr_error *err)
{
    static const http_route routes[] = {{"GET", "/health", HTTP_PUBLIC, health, NULL},
                                        {"GET", "/v1/health", HTTP_PUBLIC, health, NULL}};
    http_server *server = NULL;
    http_options http;
    http_options_defaults(&http);
    http.host = options->host;
    http.port = (uint16_t)options->port;
    drr_status status = http_open(&server, &http, routes, sizeof routes / sizeof *routes, hooks, err);
    if (status == DRR_OK) {
        hooks_log(hooks, DRR_LOG_INFO, "listening on http://%s:%u", options->host, http_port(server));
        while (!hooks_cancelled(hooks))
            nap();
        http_drain(server);
        while (http_in_flight(server))
            nap();
    }
    http_close(server);
    return status;
}
