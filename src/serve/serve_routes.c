/* serve_routes.c: which route is whose, and the routes that are the server's own: health, metrics, properties. */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the server's own */

static void loading(http_call *call)
{
    /* llama.cpp's words and its number, which clients wait by */
    http_add_header(call, "Retry-After", "1");
    http_reply_json(call, 503,
                    json_pack("{s:{s:i, s:s, s:s, s:n}}", "error", "code", 503, "message", "Loading model", "type",
                              "unavailable_error", "param"));
}

static void get_health(void *user, http_call *call)
{
    serve *s = user;
    switch (atomic_load(&s->state)) {
    case SERVE_READY:
        http_reply_json(call, 200, json_pack("{s:s}", "status", "ok"));
        break;
    case SERVE_LOADING:
        loading(call);
        break;
    default:
        http_reply_error(call, 503, NULL, NULL, NULL, "the server is shutting down");
    }
}

static void get_live(void *user, http_call *call)
{
    (void)user;
    http_reply_json(call, 200, json_pack("{s:s}", "status", "alive"));
}

static void get_metrics(void *user, http_call *call)
{
    serve *s = user;
    buffer text = {0};
    drr_error err = {0};
    if (metrics_text(&text, s->counts, &err) != DRR_OK) {
        buffer_clear(&text);
        http_reply_error(call, 500, NULL, NULL, NULL, "%s", err.message);
        return;
    }
    const size_t size = text.size;
    http_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", buffer_take(&text), size);
}

/* ---- properties */

static json_t *policy_value(const drr_serve_options *o)
{
    return json_pack("{s:i, s:i, s:I, s:i, s:o, s:s, s:s, s:b, s:f, s:s, s:s}", "max_turns", (int)o->max_turns,
                     "samples", (int)o->samples, "max_tokens", (json_int_t)o->max_tokens, "deadline_ms",
                     (int)o->deadline_ms, "threshold", json_number_or_null(o->threshold), "on_exhausted",
                     drr_exhausted_name(o->on_exhausted), "feedback", drr_feedback_name(o->feedback), "shadow",
                     o->shadow, "share", o->share, "on_judge_error", o->pass_unjudged ? "pass" : "fail", "stream_mode",
                     o->live ? "live" : "hold");
}

static json_t *guarantees_value(const drr_critic_info *info)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < info->n_guarantees; i++) {
        const drr_guarantee *g = &info->guarantees[i];
        char sentence[512];
        drr_guarantee_sentence(sentence, sizeof sentence, g);
        json_array_append_new(list,
                              json_pack("{s:i, s:f, s:f, s:f, s:I, s:I, s:I, s:s}", "turns", (int)g->turns,
                                        "target_error", g->target_error, "delta", g->delta, "threshold", g->threshold,
                                        "n", (json_int_t)g->n, "n_accepted", (json_int_t)g->n_accepted, "n_wrong",
                                        (json_int_t)g->n_wrong, "sentence", sentence));
    }
    return list;
}

static json_t *critic_value(const serve *s)
{
    if (!s->judge)
        return json_null();
    const drr_critic_info info = judge_info(s->judge);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:o, s:o}", "dm", judge_name(s->judge), "name", info.name,
                     "sha256", info.sha256, "reasoner", info.reasoner, "encoder", info.encoder, "threshold",
                     json_number_or_null(info.threshold), "max_length", (int)info.max_length, "guarantees",
                     guarantees_value(&info), "dev_scores", judge_dev_scores(s->judge));
}

/* A base URL may hold a user's name and password. */
static json_t *upstream_value(const char *url)
{
    if (!url)
        return json_null();
    const char *host = strstr(url, "://"), *user = host ? strchr(host, '@') : NULL;
    const char *path = host ? strchr(host + 3, '/') : NULL;
    if (!user || (path && user > path))
        return json_string(url);
    return json_sprintf("%.*s%s", (int)(host + 3 - url), url, user + 1);
}

static void tell_props(serve *s, http_call *call)
{
    uint64_t n_written = 0, n_lost = 0;
    pthread_mutex_lock(&s->lock);
    const drr_serve_options *o = s->now;
    pthread_mutex_unlock(&s->lock);
    json_t *props = json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:I, s:f}", "build_info", "drr " DRR_VERSION, "model",
                              s->reasoner ? json_string(drr_reasoner_id(s->reasoner))
                              : o->model  ? json_string(o->model)
                                          : json_null(),
                              "upstream", upstream_value(s->first.upstream), "judge", s->judge ? "critic" : "agreement",
                              "critic", critic_value(s), "policy", policy_value(o), "in_flight",
                              (json_int_t)http_in_flight(s->http), "uptime_seconds", clock_seconds() - s->started);
    if (!props) {
        http_reply_error(call, 500, NULL, NULL, NULL, "out of memory");
        return;
    }
    drr_critic_info info = {0};
    if (s->judge)
        info = judge_info(s->judge);
    const double threshold = engine_threshold(o->threshold, o->max_turns, s->judge ? &info : NULL);
    json_object_set_new(props, "threshold", json_number_or_null(threshold));
    json_object_set_new(props, "system_fingerprint",
                        json_sprintf("drr-%s-%s", DRR_VERSION, s->judge ? judge_name(s->judge) : "agreement"));
    if (s->judge)
        json_object_set_new(props, "drift", judge_drift(s->judge));
    if (s->recorder) {
        recorder_counts(s->recorder, &n_written, &n_lost);
        json_object_set_new(props, "recorded",
                            json_pack("{s:I, s:I}", "turns", (json_int_t)n_written, "lost", (json_int_t)n_lost));
    }
    http_reply_json(call, 200, props);
}

/* Of parts that are still being opened, or being closed, nothing is told. */
static void get_props(void *user, http_call *call)
{
    serve *s = user;
    pthread_rwlock_rdlock(&s->parts);
    const int state = atomic_load(&s->state);
    if (state == SERVE_LOADING)
        loading(call);
    else if (state == SERVE_CLOSING)
        http_reply_error(call, 503, NULL, NULL, NULL, "the server is shutting down");
    else
        tell_props(s, call);
    pthread_rwlock_unlock(&s->parts);
}

/* ---- the table */

static void pass_gate(void *user, http_call *call)
{
    const serve_gate *gate = user;
    serve *s = gate->server;
    if (!gate->part) {
        gate->handler(s, call);
        return;
    }
    pthread_rwlock_rdlock(&s->parts);
    const int state = atomic_load(&s->state);
    if (state == SERVE_LOADING && gate->part != &s->page)
        loading(call);
    else if (state == SERVE_CLOSING)
        http_reply_error(call, 503, NULL, NULL, NULL, "the server is shutting down");
    else
        gate->handler(*gate->part, call);
    pthread_rwlock_unlock(&s->parts);
}

static void add(serve *s, const char *method, const char *path, http_access access, http_handler handler,
                void *const *part)
{
    const size_t i = s->n_routes++;
    s->gates[i] = (serve_gate){s, handler, part};
    s->routes[i] = (http_route){method, path, access, pass_gate, &s->gates[i]};
}

void serve_routes(serve *s)
{
    static const char *const passed[] = {"/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"};
    static const struct {
        const char *path;
        http_handler handler;
    } judged[] = {
        {"/v1/rerank", judge_rerank},       {"/rerank", judge_rerank},          {"/v1/reranking", judge_rerank},
        {"/reranking", judge_rerank},       {"/v2/rerank", judge_rerank},       {"/v1/classify", judge_classify},
        {"/classify", judge_classify},      {"/v1/score", judge_score},         {"/score", judge_score},
        {"/v1/decisions", judge_decisions}, {"/v1/systemone", judge_systemone}, {"/get_reward", judge_reward}};
    add(s, "POST", "/v1/chat/completions", HTTP_KEYED, engine_chat, &s->engine);
    add(s, "POST", "/chat/completions", HTTP_KEYED, engine_chat, &s->engine);
    add(s, "GET", "/v1/models", HTTP_KEYED, engine_models, &s->engine);
    add(s, "GET", "/v1/models/*", HTTP_KEYED, engine_models, &s->engine);
    add(s, "GET", "/models", HTTP_KEYED, engine_models, &s->engine);
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        add(s, "POST", passed[i], HTTP_KEYED, engine_pass, &s->engine);
    for (size_t i = 0; i < sizeof judged / sizeof *judged; i++)
        add(s, "POST", judged[i].path, HTTP_KEYED, judged[i].handler, &s->judge);
    add(s, "GET", "/", HTTP_PUBLIC, page_get, &s->page);
    add(s, "GET", "/drr/traces", HTTP_KEYED, page_traces, &s->page);
    add(s, "GET", "/health", HTTP_PUBLIC, get_health, NULL);
    add(s, "GET", "/v1/health", HTTP_PUBLIC, get_health, NULL);
    add(s, "GET", "/health/ready", HTTP_PUBLIC, get_health, NULL);
    add(s, "GET", "/health/live", HTTP_PUBLIC, get_live, NULL);
    add(s, "GET", "/props", HTTP_KEYED, get_props, NULL);
    if (s->first.metrics)
        add(s, "GET", "/metrics", HTTP_KEYED, get_metrics, NULL);
}
