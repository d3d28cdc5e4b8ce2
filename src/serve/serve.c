/* serve.c: drr_serve: opens the server's parts in order, the HTTP first so that it can say that it loads, runs until it
 * is told to stop, takes other options when there are some, and closes everything in order. */
#include "serve/serve_internal.h"

#include "loop/fits.h"
#include "reasoner/reasoner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void drr_serve_options_defaults(drr_serve_options *options)
{
    http_options http;
    engine_policy policy;
    page_options pages;
    http_options_defaults(&http);
    engine_policy_defaults(&policy);
    page_options_defaults(&pages);
    *options = (drr_serve_options){.host = http.host,
                                   .port = 8377,
                                   .max_body_bytes = http.body_bytes,
                                   .max_connections = http.connections,
                                   .max_in_flight = http.in_flight_per_key,
                                   .header_seconds = http.header_seconds,
                                   .body_seconds = http.body_seconds,
                                   .write_seconds = http.write_seconds,
                                   .idle_seconds = http.idle_seconds,
                                   .timeout_seconds = 600,
                                   .retries = 2,
                                   .precision = DRR_PRECISION_FP32,
                                   .max_turns = policy.max_turns,
                                   .samples = policy.samples,
                                   .max_tokens = policy.max_tokens,
                                   .deadline_ms = policy.deadline_ms,
                                   .threshold = policy.threshold,
                                   .on_exhausted = policy.on_exhausted,
                                   .feedback = policy.feedback,
                                   .shadow = policy.shadow,
                                   .share = policy.share,
                                   .pass_unjudged = policy.pass_unjudged,
                                   .live = policy.live,
                                   .abstain_refusal = policy.abstain_refusal,
                                   .abstain_text = policy.abstain_text,
                                   .keepalive_seconds = 15,
                                   .drain_seconds = 30,
                                   .page_bytes = pages.bytes};
    drr_reasoner_options_defaults(&options->reasoner_options);
}

static engine_policy policy_of(const drr_serve_options *o)
{
    engine_policy policy;
    engine_policy_defaults(&policy);
    policy.max_turns = o->max_turns;
    policy.samples = o->samples;
    policy.max_tokens = o->max_tokens;
    policy.deadline_ms = o->deadline_ms;
    policy.threshold = o->threshold;
    policy.on_exhausted = o->on_exhausted;
    policy.feedback = o->feedback;
    policy.shadow = o->shadow;
    policy.share = o->share;
    policy.pass_unjudged = o->pass_unjudged;
    policy.live = o->live;
    policy.abstain_refusal = o->abstain_refusal;
    if (o->abstain_text)
        policy.abstain_text = o->abstain_text;
    return policy;
}

static void keep(void *user, const engine_record *record)
{
    serve *s = user;
    page_keep(s->page, record);
    if (s->recorder)
        recorder_put(s->recorder, record);
    serve_note_answer(s, record);
}

static bool cancelled(void *user)
{
    const serve *s = user;
    return hooks_cancelled(s->outer);
}

/* ---- who may judge */

/* A probe reads hidden states of one reasoner, which must then run here. Without them P(correct) is another one, and
 * what the critic promises does not hold: so it is refused, where `drr reason` only warns. Before the reasoner is open
 * it can be asked for those states; a critic that comes later has to do with what was asked for. */
static drr_status may_judge(void *user, const drr_critic_info *info, drr_error *err)
{
    const serve *s = user;
    probe_fit fit = PROBE_ABSENT;
    if (!info->probe_reasoner || !*info->probe_reasoner)
        return DRR_OK;
    if (!s->first.reasoner)
        return error_set(err, DRR_E_MISMATCH,
                         "the critic %.80s reads hidden states of %.120s, which no upstream gives: let that model run "
                         "here (--reasoner), or take a critic of text alone (drr train --kind encoder)",
                         info->name, info->probe_reasoner);
    if (!s->reasoner)
        return DRR_OK;
    drr_status status = probe_fits(&fit, info, s->reasoner, err);
    if (status != DRR_OK || fit == PROBE_FITS)
        return status;
    if (fit == PROBE_OTHER_REASONER)
        return error_set(err, DRR_E_MISMATCH,
                         "the critic %.80s reads hidden states of %.120s, and those of %.120s mean nothing to it: take "
                         "that reasoner, or train a critic for this one",
                         info->name, info->probe_reasoner, drr_reasoner_id(s->reasoner));
    return error_set(err, DRR_E_MISMATCH,
                     "the critic %.80s reads hidden states of layer %.16s, which %.120s does not keep: start the "
                     "server anew with this critic",
                     info->name, info->probe_layer, drr_reasoner_id(s->reasoner));
}

/* ---- opening */

static drr_status open_http(serve *s, const serve_keys *keys, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    http_options http;
    http_options_defaults(&http);
    http.host = o->host;
    http.port = (uint16_t)o->port;
    http.tls_certificate = o->tls_certificate;
    http.tls_key = o->tls_key;
    http.body_bytes = (size_t)o->max_body_bytes;
    http.connections = o->max_connections;
    http.in_flight_per_key = o->max_in_flight;
    http.header_seconds = o->header_seconds;
    http.body_seconds = o->body_seconds;
    http.write_seconds = o->write_seconds;
    http.idle_seconds = o->idle_seconds;
    http.threads = o->http_threads;
    http.done = serve_note_request;
    http.done_user = s;
    if (o->port > UINT16_MAX)
        return error_set(err, DRR_E_ARGUMENT, "port %u: ports end at 65535", o->port);
    http.keys = keys->keys;
    http.n_keys = keys->n;
    serve_routes(s);
    return http_open(&s->http, &http, s->routes, s->n_routes, &s->hooks, err);
}

/* Whoever has a key reads what the page keeps: with several of them others' questions too. */
static bool shows_texts(const drr_serve_options *o, size_t n_keys)
{
    return o->page_texts == DRR_PAGE_TEXTS_YES || (o->page_texts == DRR_PAGE_TEXTS_AUTO && n_keys < 2);
}

static drr_status open_page(serve *s, const serve_keys *keys, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    const page_options options = {.bytes = (size_t)o->page_bytes, .texts = shows_texts(o, keys->n)};
    page *p = NULL;
    drr_status status = page_open(&p, &options, err);
    s->page = p;
    return status;
}

static drr_status open_judge(serve *s, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    judge *j = NULL;
    if (!o->critic) {
        hooks_log(&s->hooks, DRR_LOG_INFO,
                  "no critic: agreement between samples judges; `drr run --help` says how to train one");
        return DRR_OK;
    }
    drr_status status = judge_open(&j, o->critic, o->precision, o->judge_threads, &s->hooks, err);
    if (status != DRR_OK)
        return status;
    judge_count(j, s->counts);
    s->judge = j;
    const drr_critic_info info = judge_info(j);
    if ((status = may_judge(s, &info, err)) != DRR_OK)
        return status;
    hooks_log(&s->hooks, DRR_LOG_INFO, "critic: %s, for %s", judge_name(j), judge_info(j).reasoner);
    return DRR_OK;
}

static drr_status open_reasoner(serve *s, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    if (!o->reasoner)
        return reasoner_key_load(&s->upstream_key, o->upstream_key_file, o->upstream, err);
    drr_reasoner_options options = o->reasoner_options;
    options.hooks = &s->hooks;
    options.model = o->model ? o->model : options.model;
    const drr_critic_info info = s->judge ? judge_info(s->judge) : (drr_critic_info){0};
    if (info.probe_layer && *info.probe_layer)
        options.hidden = info.probe_layer;
    drr_status status = drr_reasoner_open(&s->reasoner, o->reasoner, &options, err);
    if (status != DRR_OK)
        return status;
    if ((status = may_judge(s, &info, err)) != DRR_OK)
        return status;
    hooks_log(&s->hooks, DRR_LOG_INFO, "reasoner: %s", drr_reasoner_describe(s->reasoner));
    if (info.reasoner && *info.reasoner && strcmp(info.reasoner, drr_reasoner_id(s->reasoner)) != 0)
        hooks_log(&s->hooks, DRR_LOG_WARN,
                  "the critic was trained on the answers of %s; its threshold may not hold for %s", info.reasoner,
                  drr_reasoner_id(s->reasoner));
    return DRR_OK;
}

static drr_status open_recorder(serve *s, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    recorder *r = NULL;
    recorder_options options;
    if (!o->record)
        return DRR_OK;
    recorder_options_defaults(&options);
    options.store = o->record;
    options.redact = o->redact;
    options.n_redact = o->n_redact;
    options.reasoner = s->reasoner ? drr_reasoner_id(s->reasoner) : NULL;
    options.upstream = o->upstream;
    options.counts = s->counts;
    drr_status status = recorder_open(&r, &options, &s->hooks, err);
    s->recorder = r;
    return status;
}

static drr_status open_engine(serve *s, drr_error *err)
{
    const drr_serve_options *o = &s->first;
    engine *e = NULL;
    const engine_options options = {.upstream = o->reasoner ? NULL : o->upstream,
                                    .upstream_key = s->upstream_key,
                                    .forward_key = o->forward_key,
                                    .upstream_ca_file = o->reasoner_options.ca_file,
                                    .model = o->model,
                                    .timeout_seconds = o->timeout_seconds,
                                    .retries = o->retries,
                                    .keepalive_seconds = o->keepalive_seconds,
                                    .reasoner = s->reasoner,
                                    .critic = s->judge,
                                    .counts = s->counts,
                                    .policy = policy_of(o),
                                    .recorder = keep,
                                    .recorder_user = s};
    drr_status status = engine_open(&e, &options, &s->hooks, err);
    s->engine = e;
    return status;
}

static drr_status check(const drr_serve_options *o, drr_error *err)
{
    if (!o->upstream == !o->reasoner)
        return error_set(err, DRR_E_ARGUMENT,
                         "%s: an upstream (--upstream http://host/v1), or a reasoner that runs here (--reasoner NAME)",
                         o->upstream ? "two models cannot both answer; choose one" : "which model is to answer?");
    if (o->reasoner && (strncmp(o->reasoner, "http://", 7) == 0 || strncmp(o->reasoner, "https://", 8) == 0))
        return error_set(err, DRR_E_ARGUMENT, /* without repeating it: it may hold a password */
                         "the reasoner is the address of a server: give it as --upstream");
    if (o->feedback == DRR_FEEDBACK_STEP)
        return error_set(err, DRR_E_ARGUMENT, "--feedback step: " ENGINE_NO_STEPS);
    if (!o->max_turns || o->max_turns > ENGINE_MOST_TURNS || !o->samples || o->samples > ENGINE_MOST_TURNS)
        return error_set(err, DRR_E_ARGUMENT, "%u turns and %u samples: a request takes 1 to %d of each", o->max_turns,
                         o->samples, ENGINE_MOST_TURNS);
    if (!(o->share >= 0 && o->share <= 1))
        return error_set(err, DRR_E_ARGUMENT, "share %g: a share of requests is between 0 and 1", o->share);
    return DRR_OK;
}

static drr_status open_parts(serve *s, drr_error *err)
{
    serve_keys keys = {0};
    drr_status status = check(&s->first, err);
    if (status == DRR_OK)
        status = metrics_new(&s->counts, err);
    if (status == DRR_OK)
        status = serve_keys_read(&keys, &s->first, err);
    if (status == DRR_OK)
        status = open_page(s, &keys, err);
    if (status == DRR_OK)
        status = open_http(s, &keys, err);
    serve_keys_clear(&keys);
    if (status == DRR_OK)
        status = open_judge(s, err);
    if (status == DRR_OK)
        status = open_reasoner(s, err);
    if (status == DRR_OK)
        status = open_recorder(s, err);
    if (status == DRR_OK)
        status = open_engine(s, err);
    return status;
}

/* ---- running */

static void nap(void)
{
    const struct timespec wait = {.tv_nsec = 100000000};
    nanosleep(&wait, NULL); /* a signal ends it early */
}

/* As far as it can change while it runs. What cannot be had leaves all as it was. */
static drr_status apply(serve *s, const drr_serve_options *o, drr_error *err)
{
    serve_keys keys = {0};
    http_change *change = NULL;
    drr_status status = check(o, err);
    if (status == DRR_OK)
        status = serve_keys_read(&keys, o, err);
    if (status == DRR_OK) {
        const http_options http = {
            .keys = keys.keys, .n_keys = keys.n, .tls_certificate = o->tls_certificate, .tls_key = o->tls_key};
        status = http_change_make(&change, s->http, &http, err);
    }
    const bool texts = shows_texts(o, keys.n);
    serve_keys_clear(&keys);
    if (status == DRR_OK && o->critic && s->judge) /* the file may be another although its name is the same */
        status = judge_swap(s->judge, o->critic, may_judge, s, err);
    if (status != DRR_OK) {
        http_change_drop(change);
        return status;
    }
    if (!texts) /* before another key opens the page */
        page_set_texts(s->page, false);
    http_change_take(s->http, change);
    if (texts)
        page_set_texts(s->page, true);
    serve_note_fixed(s, o);
    const engine_policy policy = policy_of(o);
    engine_set_policy(s->engine, &policy);
    pthread_mutex_lock(&s->lock);
    s->now = o;
    pthread_mutex_unlock(&s->lock);
    return DRR_OK;
}

static void reload(serve *s)
{
    const drr_serve_options *fresh = NULL;
    drr_error err = {0};
    if (!s->first.reload)
        return;
    drr_status status = s->first.reload(s->first.user, &fresh, &err);
    if (status == DRR_E_EMPTY)
        return;
    if (status == DRR_OK)
        status = apply(s, fresh, &err);
    if (status == DRR_OK) {
        hooks_log(&s->hooks, DRR_LOG_INFO, "reloaded%s%s", s->judge ? ": critic " : "",
                  s->judge ? judge_name(s->judge) : "");
        serve_event(s, "info", "reloaded", NULL);
    } else {
        hooks_log(&s->hooks, DRR_LOG_WARN, "not reloaded, and all stays as it was: %s", err.message);
    }
}

static void run(serve *s)
{
    const drr_serve_options *o = &s->first;
    char host[280];
    snprintf(host, sizeof host, strchr(o->host, ':') ? "[%.270s]" : "%.270s", o->host);
    atomic_store(&s->state, SERVE_READY);
    serve_event(s, "info", "ready", json_pack("{s:s, s:i}", "host", o->host, "port", http_port(s->http)));
    hooks_log(&s->hooks, DRR_LOG_INFO, "listening on %s://%s:%u (a page to try it; OpenAI's API is under /v1)",
              o->tls_certificate ? "https" : "http", host, http_port(s->http));
    if (o->ready)
        o->ready(o->user, http_port(s->http));
    while (!hooks_cancelled(s->outer)) {
        reload(s);
        nap();
    }
    atomic_store(&s->state, SERVE_DRAINING);
    o = s->now; /* which this thread alone changes */
    http_drain(s->http);
    const size_t n = http_in_flight(s->http);
    serve_event(s, "info", "draining", json_pack("{s:I}", "in_flight", (json_int_t)n));
    if (n)
        hooks_log(&s->hooks, DRR_LOG_INFO, "%zu requests are under way; %u seconds are left to them", n,
                  o->drain_seconds);
    const double until = clock_seconds() + o->drain_seconds;
    while (http_in_flight(s->http) && clock_seconds() < until)
        nap();
}

static void close_parts(serve *s)
{
    pthread_rwlock_wrlock(&s->parts);
    atomic_store(&s->state, SERVE_CLOSING);
    pthread_rwlock_unlock(&s->parts);
    engine_close(s->engine);
    judge_close(s->judge);
    for (int i = 0; s->http && http_in_flight(s->http) && i < 10; i++)
        nap(); /* what they ended goes out */
    http_close(s->http);
    recorder_close(s->recorder);
    page_close(s->page);
    metrics_free(s->counts);
    drr_reasoner_close(s->reasoner);
    reasoner_key_free(s->upstream_key);
}

drr_status drr_serve(const drr_serve_options *options, const drr_hooks *hooks, drr_error *err)
{
    serve *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    s->outer = hooks;
    s->hooks = (drr_hooks){.log = serve_hear, .cancelled = cancelled, .user = s};
    s->first = *options;
    s->now = options;
    s->started = clock_seconds();
    pthread_mutex_init(&s->lock, NULL);
    pthread_rwlock_init(&s->parts, NULL);
    pthread_mutex_init(&s->log_lock, NULL);
    drr_status status = open_parts(s, err);
    if (status == DRR_OK)
        run(s);
    close_parts(s);
    if (status == DRR_OK)
        serve_event(s, "info", "stopped", NULL);
    pthread_mutex_destroy(&s->lock);
    pthread_rwlock_destroy(&s->parts);
    pthread_mutex_destroy(&s->log_lock);
    free(s);
    return status;
}
