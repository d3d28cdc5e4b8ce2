/* engine_request.c: from an HTTP call to a request: its body read once, what it wants of the loop, what is asked, and
 * whether that is judged at all. Runs on HTTP threads; the engine's thread gets what is ready. */
#include "serve/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char PREFIX[] = "drr-";

static void refuse(http_call *call, const refusal *no)
{
    http_reply_error(call, no->status, NULL, *no->param ? no->param : NULL, NULL, "%s", no->message);
}

/* Answered here, before the engine has heard of it. */
static void drop(request *r, const refusal *no)
{
    metrics_request(r->e->options.counts, METRICS_ERROR, clock_seconds() - r->began_s, 0);
    refuse(r->call, no);
    request_drop(r);
}

/* ---- the body */

static bool set(request *r, const char *name, json_t *value)
{
    r->as_is = false;
    return json_object_set_new(r->body, name, value) == 0;
}

/* As the upstream calls it. "drr" and nothing mean the only one there is. */
static bool choose_model(request *r)
{
    engine *e = r->e;
    const char *asked = json_string_or(r->body, "model", "");
    char name[256] = "";
    if (e->options.model) {
        snprintf(name, sizeof name, "%s", e->options.model);
    } else if (!*asked || strcmp(asked, "drr") == 0) {
        pthread_mutex_lock(&e->lock);
        snprintf(name, sizeof name, "%s", e->only_model ? e->only_model : "");
        pthread_mutex_unlock(&e->lock);
    } else {
        snprintf(name, sizeof name, "%s", asked + (strncmp(asked, PREFIX, 4) == 0 && asked[4] ? 4 : 0));
    }
    if (e->options.reasoner)
        snprintf(name, sizeof name, "%s", drr_reasoner_id(e->options.reasoner));
    r->model = string_copy(name);
    if (!r->model)
        return false;
    if (*name)
        return strcmp(name, asked) == 0 || set(r, "model", json_string(name));
    r->unnamed = true;
    if (*asked) { /* "drr", and nobody knows what that is */
        r->as_is = false;
        json_object_del(r->body, "model");
    }
    return true;
}

static bool is_there(json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    return value && !json_is_null(value) && !(json_is_array(value) && json_array_size(value) == 0);
}

static bool wants_audio(json_t *body)
{
    json_t *item;
    size_t i;
    json_array_foreach(json_object_get(body, "modalities"), i, item)
    {
        if (!json_is_string(item) || strcmp(json_string_value(item), "text") != 0)
            return true;
    }
    return is_there(body, "audio");
}

/* Why a request goes through without a verdict; NULL: it does not. */
static const char *unjudged(const request *r, const wishes *w, bool in_share)
{
    if (is_there(r->body, "tools") || is_there(r->body, "functions"))
        return "tools";
    if (json_number_or(r->body, "n", 1) > 1)
        return "n";
    if (wants_audio(r->body))
        return "content";
    if (!w->judge)
        return "asked";
    if (!in_share)
        return "share";
    if (r->policy.shadow && !r->e->options.critic)
        return "shadow without a critic";
    return NULL;
}

/* ---- what it wants of the loop */

static const drr_guarantee *guarantee_for(const drr_critic_info *info, double target_error, uint32_t turns)
{
    const drr_guarantee *best = NULL;
    for (uint32_t i = 0; i < info->n_guarantees && i < DRR_GUARANTEES; i++) {
        const drr_guarantee *g = &info->guarantees[i];
        if (g->found && g->turns <= ENGINE_MOST_TURNS && g->target_error <= target_error + 1e-9 &&
            (!turns || g->turns == turns) &&
            (!best || g->target_error > best->target_error ||
             (g->target_error >= best->target_error && g->turns > best->turns)))
            best = g;
    }
    return best;
}

double engine_threshold(double asked, uint32_t max_turns, const drr_critic_info *info)
{
    drr_policy as;
    if (!isnan(asked) || !info)
        return isnan(asked) ? 0.5 : asked;
    drr_policy_defaults(&as);
    as.max_turns = max_turns;
    const drr_guarantee *g = drr_critic_guarantee(info, &as);
    return g ? g->threshold : info->threshold;
}

/* The threshold, and under a target error all of the policy that its promise is about. */
static bool settle_threshold(request *r, json_t *object, refusal *no)
{
    engine_policy *p = &r->policy;
    *no = (refusal){.status = 400, .param = "drr.target_error"};
    r->threshold = engine_threshold(p->threshold, p->max_turns, NULL);
    if (!r->e->options.critic) {
        if (isnan(r->target_error))
            return true;
        snprintf(no->message, sizeof no->message,
                 "drr.target_error needs a critic with a guarantee, and this server has no critic");
        return false;
    }
    drr_critic_info info;
    r->seat = judge_hold(r->e->options.critic, &info, &r->dm);
    if (!isnan(r->target_error)) {
        const bool told = json_object_get(object, "max_turns") != NULL;
        const drr_guarantee *g = guarantee_for(&info, r->target_error, told ? p->max_turns : 0);
        if (!g) {
            snprintf(no->message, sizeof no->message,
                     "the critic promises no error of at most %g%s: drr critic show lists what it promises, and drr "
                     "train --target-error makes more",
                     r->target_error, told ? " at that many turns" : "");
            return false;
        }
        r->guarantee_space = *g;
        if (!p->deadline_ms && !p->shadow) /* neither was there when it was tested */
            r->guarantee = &r->guarantee_space;
        p->max_turns = g->turns;
        p->on_exhausted = DRR_EXHAUSTED_ABSTAIN;
        p->feedback = DRR_FEEDBACK_RESTART;
        p->max_tokens = 0;
        p->threshold = g->threshold;
        r->temperature = g->temperature;
    }
    r->threshold = engine_threshold(p->threshold, p->max_turns, &info);
    return true;
}

static bool read_wishes(request *r, refusal *no)
{
    r->box = policy_hold(r->e);
    wishes w = {.policy = r->box->policy, .target_error = NAN, .kind = -1, .judge = true};
    json_t *object = json_object_get(r->body, "drr");
    if (!wishes_read(&w, object, no))
        return false;
    if (object) {
        r->wishes_object = json_incref(object); /* its strings are used */
        json_object_del(r->body, "drr");
        r->as_is = false;
    }
    r->policy = w.policy;
    r->target_error = w.target_error;
    bool in_share = w.policy.share >= 1;
    if (!in_share)
        in_share =
            (double)(hash_string((uint64_t)(r->began_s * 1e9), http_id(r->call)) >> 11) * 0x1p-53 < w.policy.share;
    r->unjudged = unjudged(r, &w, in_share);
    if (!r->unjudged) {
        switch (question_read(&r->question, json_object_get(r->body, "messages"), w.kind, w.choices)) {
        case QUESTION_READ:
            break;
        case QUESTION_NONE:
            r->unjudged = "no question";
            break;
        case QUESTION_OTHER:
            r->unjudged = "content";
            break;
        case QUESTION_MEMORY:
            *no = (refusal){.status = 503, .message = "memory is out"};
            return false;
        }
    }
    return r->unjudged || settle_threshold(r, r->wishes_object, no);
}

static bool make_id(request *r)
{
    const uint64_t a = hash_string((uint64_t)(r->began_s * 1e9) ^ (uint64_t)(uintptr_t)r, http_id(r->call));
    snprintf(r->id, sizeof r->id, "chatcmpl-%016llx%08llx", (unsigned long long)a,
             (unsigned long long)(hash_mix(a, (uint64_t)(uintptr_t)r) & 0xffffffff));
    r->created = (long long)time(NULL);
    return true;
}

/* False: *no says why. */
static bool read_chat(request *r, refusal *no)
{
    size_t size;
    json_error_t where;
    const char *bytes = http_body(r->call, &size);
    *no = (refusal){.status = 400};
    r->body = json_loadb(bytes ? bytes : "", size, 0, &where);
    if (!r->body) {
        snprintf(no->message, sizeof no->message, "the body is no JSON: %.150s (byte %d)", where.text, where.position);
        return false;
    }
    r->as_is = true;
    if (!body_check(r->body, r->e->options.reasoner != NULL, no) || !read_wishes(r, no))
        return false;
    *no = (refusal){.status = 503, .message = "memory is out"};
    r->stream = json_is_true(json_object_get(r->body, "stream"));
    r->include_usage = json_is_true(json_object_get(json_object_get(r->body, "stream_options"), "include_usage"));
    r->most = r->unjudged ? 1 : r->e->options.critic ? r->policy.max_turns : r->policy.samples;
    if (r->policy.shadow)
        r->most = 1;
    r->attempts = calloc(r->most, sizeof *r->attempts);
    if (r->policy.deadline_ms && !r->unjudged)
        r->deadline_s = r->began_s + r->policy.deadline_ms / 1000.0;
    return r->attempts && choose_model(r) && make_id(r);
}

void engine_chat(void *user, http_call *call)
{
    refusal no;
    request *r = request_new(user, call, REQUEST_CHAT);
    if (!r) {
        http_reply_error(call, 503, NULL, NULL, NULL, "memory is out");
        return;
    }
    if (read_chat(r, &no))
        request_hand_over(r);
    else
        drop(r, &no);
}

/* ---- what is not a chat */

static void hand_over(void *user, http_call *call, request_kind kind)
{
    request *r = request_new(user, call, kind);
    if (r)
        request_hand_over(r);
    else
        http_reply_error(call, 503, NULL, NULL, NULL, "memory is out");
}

void engine_models(void *user, http_call *call)
{
    hand_over(user, call, REQUEST_MODELS);
}

void engine_pass(void *user, http_call *call)
{
    engine *e = user;
    if (e->options.reasoner) {
        http_reply_error(call, 501, NULL, NULL, NULL,
                         "the embedded model answers /v1/chat/completions alone; put a server behind --upstream for %s",
                         http_path(call));
        return;
    }
    hand_over(user, call, REQUEST_PASS);
}
