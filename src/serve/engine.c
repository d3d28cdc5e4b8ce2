/* engine.c: the engine's thread and what goes round in it: requests that HTTP threads hand over, verdicts from the
 * judge, clients that leave, and the clock. It waits in one place, upstream_wait. */
#include "serve/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void engine_policy_defaults(engine_policy *policy)
{
    *policy = (engine_policy){.max_turns = 3,
                              .samples = 5,
                              .threshold = NAN,
                              .on_exhausted = DRR_EXHAUSTED_VOTE,
                              .feedback = DRR_FEEDBACK_RESTART,
                              .share = 1,
                              .pass_unjudged = true,
                              .abstain_text = "I do not know: no answer that I found passed its check."};
}

/* ---- the server's policy */

static policy_box *box_new(const engine_policy *policy)
{
    policy_box *box = calloc(1, sizeof *box);
    if (!box || !(box->abstain_text = string_copy(policy->abstain_text ? policy->abstain_text : ""))) {
        free(box);
        return NULL;
    }
    atomic_init(&box->users, 1);
    box->policy = *policy;
    box->policy.abstain_text = box->abstain_text;
    return box;
}

policy_box *policy_hold(engine *e)
{
    pthread_mutex_lock(&e->lock);
    policy_box *box = e->box;
    atomic_fetch_add(&box->users, 1);
    pthread_mutex_unlock(&e->lock);
    return box;
}

void policy_release(policy_box *box)
{
    if (!box || atomic_fetch_sub(&box->users, 1) != 1)
        return;
    free(box->abstain_text);
    free(box);
}

void engine_set_policy(engine *e, const engine_policy *policy)
{
    policy_box *box = box_new(policy);
    if (!box)
        return; /* the old one stays */
    pthread_mutex_lock(&e->lock);
    policy_box *old = e->box;
    e->box = box;
    pthread_mutex_unlock(&e->lock);
    policy_release(old);
}

/* ---- the inbox */

static void post(inbox_node *node)
{
    engine *e = node->r->e;
    pthread_mutex_lock(&e->lock);
    const bool was_empty = e->first == NULL;
    if (!node->listed) {
        node->listed = true;
        node->next = NULL;
        if (e->last)
            e->last->next = node;
        else
            e->first = node;
        e->last = node;
    }
    pthread_mutex_unlock(&e->lock);
    if (was_empty)
        upstream_wake(e->up);
}

static inbox_node *take(engine *e)
{
    pthread_mutex_lock(&e->lock);
    inbox_node *node = e->first;
    if (node) {
        e->first = node->next;
        if (!e->first)
            e->last = NULL;
        node->listed = false;
    }
    pthread_mutex_unlock(&e->lock);
    return node;
}

static void withdraw(inbox_node *node)
{
    engine *e = node->r->e;
    pthread_mutex_lock(&e->lock);
    if (node->listed) {
        inbox_node *before = NULL;
        for (inbox_node *at = e->first; at != node; at = at->next)
            before = at;
        if (before)
            before->next = node->next;
        else
            e->first = node->next;
        if (e->last == node)
            e->last = before;
        node->listed = false;
    }
    pthread_mutex_unlock(&e->lock);
}

/* ---- a request's life */

static void on_gone(void *user)
{
    request *r = user;
    post(&r->gone);
}

request *request_new(engine *e, http_call *call, request_kind kind)
{
    request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->e = e;
    r->call = call;
    r->kind = kind;
    r->arrived.r = r->gone.r = r->judged.r = r;
    r->began_s = clock_seconds();
    r->temperature = r->target_error = NAN;
    return r;
}

static void request_free(request *r)
{
    for (uint32_t i = 0; r->attempts && i < r->most; i++) {
        attempt *a = &r->attempts[i];
        upstream_reply_clear(&a->reply);
        free(a->said);
        free(a->answer);
        free(a->feedback);
    }
    free(r->attempts);
    json_decref(r->body);
    json_decref(r->wishes_object);
    json_decref(r->history);
    policy_release(r->box);
    judge_release(r->e->options.critic, r->seat);
    question_clear(&r->question);
    free(r->model);
    free(r->pass_bytes);
    buffer_clear(&r->collected);
    free(r);
}

void request_drop(request *r)
{
    request_free(r);
}

void request_hand_over(request *r)
{
    http_on_gone(r->call, on_gone, r);
    post(&r->arrived);
}

const char *request_key(const request *r, const char *header)
{
    return r->e->options.forward_key ? http_other_key(r->call, header) : NULL;
}

void request_due(request *r, double when_s)
{
    if (when_s < r->e->due_s)
        r->e->due_s = when_s;
}

void request_end(request *r)
{
    engine *e = r->e;
    withdraw(&r->gone); /* the call has been ended: no other can come */
    upstream_cancel(r->passing);
    r->passing = NULL;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        upstream_cancel(r->attempts[i].call);
        r->attempts[i].call = NULL;
    }
    if (r->under_way) {
        if (r->previous)
            r->previous->next = r->next;
        else
            e->requests = r->next;
        if (r->next)
            r->next->previous = r->previous;
        r->under_way = false;
        metrics_in_flight(e->options.counts, -1);
    }
    r->over = true;
    if (r->judging)
        judge_cancel(e->options.critic, r); /* its last word is waited for */
    else
        request_free(r);
}

/* The client has left: nobody reads what ends the call. */
static void leave(request *r)
{
    if (r->kind != REQUEST_MODELS)
        metrics_request(r->e->options.counts, METRICS_ERROR, clock_seconds() - r->began_s, r->n_attempts);
    if (r->streaming)
        http_stream_end(r->call);
    else
        http_reply_error(r->call, 503, NULL, NULL, NULL, "the client has left");
    request_end(r);
}

static void arrive(request *r)
{
    engine *e = r->e;
    r->under_way = true;
    r->next = e->requests;
    if (r->next)
        r->next->previous = r;
    e->requests = r;
    metrics_in_flight(e->options.counts, 1);
    if (r->left) {
        leave(r);
        return;
    }
    if (r->stream && e->options.keepalive_seconds) {
        r->ping_s = clock_seconds() + e->options.keepalive_seconds;
        request_due(r, r->ping_s);
    }
    if (r->deadline_s > 0)
        request_due(r, r->deadline_s);
    if (r->kind == REQUEST_CHAT)
        chat_begin(r);
    else
        pass_begin(r);
}

static void read_inbox(engine *e)
{
    for (inbox_node *node; (node = take(e));) {
        request *r = node->r;
        if (node == &r->arrived) {
            arrive(r);
        } else if (node == &r->gone) {
            r->left = true;
            if (r->under_way)
                leave(r);
        } else {
            r->judging = false;
            if (r->over)
                request_free(r);
            else
                chat_judged(r);
        }
    }
}

/* ---- the clock */

static void watch_clock(engine *e)
{
    const double now = clock_seconds();
    if (now < e->due_s && !e->any_left)
        return;
    e->due_s = INFINITY;
    e->any_left = false;
    for (request *r = e->requests, *next; r; r = next) {
        next = r->next;
        if (r->left) {
            leave(r);
            continue;
        }
        if (r->ping_s > 0 && now >= r->ping_s) {
            stream_ping(r);
            r->ping_s = now + e->options.keepalive_seconds;
        }
        if (r->ping_s > 0)
            request_due(r, r->ping_s);
        if (r->deadline_s > 0 && now < r->deadline_s)
            request_due(r, r->deadline_s);
        else if (r->deadline_s > 0)
            chat_deadline(r);
    }
}

/* ---- the thread */

static void *run(void *user)
{
    engine *e = user;
    models_learn(e);
    while (!atomic_load(&e->closing)) {
        const double now = clock_seconds(), left = e->due_s - now;
        upstream_wait(e->up, left < 0 ? 0 : left < 1 ? left : 1);
        read_inbox(e);
        watch_clock(e);
    }
    read_inbox(e);
    while (e->requests)
        reply_error(e->requests, 503, "shutting_down", "the server is shutting down");
    return NULL;
}

drr_status engine_open(engine **opened, const engine_options *options, const drr_hooks *hooks, drr_error *err)
{
    engine *e = calloc(1, sizeof *e);
    if (!e)
        return error_memory(err);
    const upstream_options up = {.base = options->upstream,
                                 .key = options->upstream_key,
                                 .ca_file = options->upstream_ca_file,
                                 .reasoner = options->reasoner,
                                 .timeout_seconds = options->timeout_seconds ? options->timeout_seconds : 600,
                                 .retries = options->retries,
                                 .counts = options->counts,
                                 .hooks = hooks};
    e->options = *options;
    e->hooks = hooks;
    e->due_s = INFINITY;
    pthread_mutex_init(&e->lock, NULL);
    rng_seed(&e->random, (uint64_t)(clock_seconds() * 1e9) ^ (uint64_t)(uintptr_t)e);
    e->box = box_new(&options->policy);
    drr_status status = e->box ? drr_prompts_open(&e->prompts, NULL, err) : error_memory(err);
    if (status == DRR_OK && !options->upstream == !options->reasoner)
        status =
            error_set(err, DRR_E_ARGUMENT, "a server needs an upstream or an embedded model, and one of them only");
    if (status == DRR_OK)
        status = upstream_open(&e->up, &up, err);
    if (status == DRR_OK) {
        e->started = pthread_create(&e->thread, NULL, run, e) == 0;
        if (!e->started)
            status = error_set(err, DRR_E_MEMORY, "no thread can be started for the loop");
    }
    if (status == DRR_OK)
        *opened = e;
    else
        engine_close(e);
    return status;
}

/* The judge's last word on requests that are over comes before this ends. */
static void wait_for_judge(engine *e)
{
    for (int waits = 0; waits < 1000 && atomic_load(&e->n_judging) > 0; waits++) {
        upstream_wait(e->up, 0.02);
        read_inbox(e);
    }
    read_inbox(e);
}

void engine_close(engine *e)
{
    if (!e)
        return;
    if (e->started) {
        atomic_store(&e->closing, true);
        upstream_wake(e->up);
        pthread_join(e->thread, NULL);
        wait_for_judge(e);
    }
    upstream_close(e->up);
    drr_prompts_free(e->prompts);
    policy_release(e->box);
    free(e->only_model);
    buffer_clear(&e->models);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* On the judge's thread. */
static void on_judged(void *user, drr_status status, const char *message)
{
    request *r = user;
    engine *e = r->e;
    r->judge_status = status;
    snprintf(r->judge_message, sizeof r->judge_message, "%s", message ? message : "");
    post(&r->judged); /* from here on r may be gone */
    atomic_fetch_sub(&e->n_judging, 1);
}

drr_status request_judge(request *r, attempt *a, drr_error *err)
{
    atomic_fetch_add(&r->e->n_judging, 1);
    r->judging = true;
    a->judge_began_s = clock_seconds();
    drr_status status = judge_submit_to(r->e->options.critic, r->seat, &a->item, 1, on_judged, r, err);
    if (status != DRR_OK) {
        r->judging = false;
        atomic_fetch_sub(&r->e->n_judging, 1);
    }
    return status;
}
