/* engine_pass.c: what is not judged: streams that go through as they come, other routes of the upstream, and the list
 * of models, which also tells which one is meant where a request names none. Where a request goes is the route's, never
 * the client's to say: of its address only the query is kept. */
#include "serve/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- on to the client as it comes */

static void on_head(void *user, int status, const char *type)
{
    request *r = user;
    r->ping_s = 0;
    if (r->streaming) /* a comment has begun it */
        return;
    if (r->kind == REQUEST_CHAT)
        reply_headers(r, "passthrough", 1, NAN);
    http_stream_begin(r->call, status, *type ? type : "application/json");
    r->streaming = true;
}

static void on_bytes(void *user, const char *bytes, size_t size)
{
    request *r = user;
    if (r->left || http_stream_write(r->call, bytes, size))
        return;
    r->left = true;
    r->e->any_left = true;
}

static void on_passed(void *user, upstream_reply *reply)
{
    request *r = user;
    r->passing = NULL;
    if (!r->streaming || (!reply->message && reply->status >= 300)) { /* a refusal may come after comments */
        reply_failure(r, reply);
        return;
    }
    if (reply->message) { /* it broke off: an event can say so, and other bytes cannot */
        if (r->kind == REQUEST_CHAT) {
            reply_error(r, reply->status, reply->code, "%s", reply->message);
            return;
        }
        hooks_log(r->e->hooks, DRR_LOG_WARN, "%s: %s", http_path(r->call), reply->message);
    }
    metrics_request(r->e->options.counts, reply->message ? METRICS_ERROR : METRICS_PASSTHROUGH,
                    clock_seconds() - r->began_s, 0);
    http_stream_end(r->call);
    request_end(r);
}

static void pass(request *r, const upstream_fetch *fetch)
{
    drr_error err = {0};
    if (upstream_pass(&r->passing, r->e->up, fetch, &err) != DRR_OK)
        reply_error(r, 503, NULL, "%s", err.message);
}

void chat_pass(request *r)
{
    size_t size;
    const char *bytes = http_body(r->call, &size);
    if (!r->as_is) {
        bytes = r->pass_bytes = json_dumps(r->body, JSON_COMPACT);
        size = bytes ? strlen(bytes) : 0;
    }
    if (!bytes) {
        reply_error(r, 503, NULL, "memory is out");
        return;
    }
    static const char *const name[] = {"x-request-id"};
    const char *id[] = {http_id(r->call)};
    const upstream_fetch fetch = {.method = "POST",
                                  .path = "/chat/completions",
                                  .names = name,
                                  .values = id,
                                  .n_more = 1,
                                  .bytes = bytes,
                                  .size = size,
                                  .authorization = request_key(r, "authorization"),
                                  .type = "application/json",
                                  .head = on_head,
                                  .more = on_bytes,
                                  .done = on_passed,
                                  .user = r};
    pass(r, &fetch);
}

/* ---- models */

static bool add_model(json_t *data, const char *prefix, const char *id, json_t *as, const char *from, long long now)
{
    char name[300];
    snprintf(name, sizeof name, "%s%s", prefix, id);
    json_t *model = as ? json_copy(as) : json_object();
    json_t *rest = json_pack("{s:s, s:I, s:s}", "object", "model", "created", (json_int_t)now, "owned_by", from);
    bool good = model && rest && json_object_update_missing(model, rest) == 0; /* clients read all four */
    good = good && json_object_set_new(model, "id", json_string(name)) == 0;
    json_decref(rest);
    if (good)
        return json_array_append_new(data, model) == 0;
    json_decref(model);
    return false;
}

/* Each model twice: judged under the name with "drr-", which the client may leave out, and as the upstream calls it. */
static json_t *merge(json_t *theirs, const char *only)
{
    static const char *const prefixes[] = {"drr-", ""};
    const long long now = (long long)time(NULL);
    json_t *data = json_array(), *model;
    bool good = data != NULL;
    for (size_t p = 0; p < 2; p++) {
        size_t i;
        if (good && only)
            good = add_model(data, prefixes[p], only, NULL, "drr", now);
        json_array_foreach(theirs, i, model)
        {
            const char *id = json_string_or(model, "id", "");
            if (good && *id && !(only && strcmp(id, only) == 0) && !(p == 0 && strncmp(id, "drr-", 4) == 0))
                good = add_model(data, prefixes[p], id, model, "upstream", now);
        }
    }
    if (good)
        return data;
    json_decref(data);
    return NULL;
}

static void answer_models(request *r, json_t *data)
{
    const char *path = http_path(r->call), *wanted = strstr(path, "/models/");
    json_t *model, *found = NULL;
    size_t i;
    if (!data) {
        reply_error(r, 503, NULL, "memory is out");
        return;
    }
    if (!wanted) {
        http_reply_json(r->call, 200, json_pack("{s:s, s:O}", "object", "list", "data", data));
    } else {
        wanted += strlen("/models/");
        json_array_foreach(data, i, model) if (strcmp(json_string_or(model, "id", ""), wanted) == 0) found = model;
        if (found)
            http_reply_json(r->call, 200, json_incref(found));
        else
            http_reply_error(r->call, 404, NULL, "model", "model_not_found", "there is no model %.100s here", wanted);
    }
    json_decref(data);
    request_end(r);
}

static void collect(buffer *b, const char *bytes, size_t size)
{
    enum { MOST = 8 << 20 };
    if (b->size + size <= MOST)
        buffer_append(b, bytes, size, NULL);
}

static void on_models_bytes(void *user, const char *bytes, size_t size)
{
    request *r = user;
    collect(&r->collected, bytes, size);
}

static json_t *read_models(const buffer *b)
{
    return b->size ? json_loadb(b->data, b->size, 0, NULL) : NULL;
}

/* Whatever it was before: an upstream may have been started with another model. */
static void learn(engine *e, json_t *root)
{
    json_t *data = json_object_get(root, "data");
    const char *id = json_array_size(data) == 1 ? json_string_or(json_array_get(data, 0), "id", NULL) : NULL;
    char *name = string_copy(id);
    pthread_mutex_lock(&e->lock);
    char *before = e->only_model;
    e->only_model = name;
    e->models_known = true;
    pthread_mutex_unlock(&e->lock);
    free(before);
}

/* A server without a list will have none for the next request either. One that cannot be reached may, and so may one
 * that refuses this request's key: with --forward-key the next brings another. */
static void learn_from(engine *e, const buffer *b, const upstream_reply *reply)
{
    const bool none = reply->status == 404 || reply->status == 405;
    json_t *root = none ? NULL : read_models(b);
    if (none || (reply->status == 200 && !reply->message))
        learn(e, root);
    json_decref(root);
}

static void on_first_bytes(void *user, const char *bytes, size_t size)
{
    engine *e = user;
    collect(&e->models, bytes, size);
}

static void on_first_models(void *user, upstream_reply *reply)
{
    engine *e = user;
    learn_from(e, &e->models, reply);
    buffer_clear(&e->models);
}

void models_learn(engine *e)
{
    upstream_call *call;
    const upstream_fetch fetch = {
        .method = "GET", .path = "/models", .more = on_first_bytes, .done = on_first_models, .user = e};
    if (!e->options.reasoner && !e->options.model)
        upstream_pass(&call, e->up, &fetch, NULL);
}

/* True: somebody knows, be it that there are several. */
static bool take_name(request *r)
{
    pthread_mutex_lock(&r->e->lock);
    const bool known = r->e->models_known;
    char *name = string_copy(r->e->only_model);
    pthread_mutex_unlock(&r->e->lock);
    if (!name)
        return known;
    if (json_object_set_new(r->body, "model", json_string(name)) == 0)
        r->as_is = false;
    free(r->model);
    r->model = name;
    return true;
}

static void on_named(void *user, upstream_reply *reply)
{
    request *r = user;
    r->passing = NULL;
    learn_from(r->e, &r->collected, reply);
    take_name(r);
    chat_begin(r);
}

/* The upstream's list, into r->collected, as this request may see it. */
static upstream_fetch fetch_of_models(request *r, void (*done)(void *user, upstream_reply *reply))
{
    return (upstream_fetch){.method = "GET",
                            .path = "/models",
                            .authorization = request_key(r, "authorization"),
                            .more = on_models_bytes,
                            .done = done,
                            .user = r};
}

bool models_learn_for(request *r)
{
    const upstream_fetch fetch = fetch_of_models(r, on_named);
    r->unnamed = false;
    return !take_name(r) && upstream_pass(&r->passing, r->e->up, &fetch, NULL) == DRR_OK;
}

static void on_models(void *user, upstream_reply *reply)
{
    request *r = user;
    engine *e = r->e;
    r->passing = NULL;
    json_t *root = read_models(&r->collected);
    json_t *theirs = json_object_get(root, "data");
    if (!json_is_array(theirs) && !e->options.model) {
        if (reply->message || reply->status != 200)
            reply_failure(r, reply);
        else
            reply_error(r, 502, "upstream_error", "the upstream %s sent no list of models", upstream_name(e->up));
    } else {
        if (json_is_array(theirs) && reply->status == 200)
            learn(e, root);
        answer_models(r, merge(theirs, e->options.model));
    }
    json_decref(root);
}

void pass_begin(request *r)
{
    engine *e = r->e;
    size_t size = 0;
    if (r->kind == REQUEST_MODELS) {
        const upstream_fetch fetch = fetch_of_models(r, on_models);
        if (e->options.reasoner)
            answer_models(r, merge(NULL, drr_reasoner_id(e->options.reasoner)));
        else
            pass(r, &fetch);
        return;
    }
    const char *path = http_path(r->call), *bytes = http_body(r->call, &size);
    path += strncmp(path, "/v1/", 4) == 0 ? 3 : 0;
    static const char *const names[] = {"x-request-id", "anthropic-version", "anthropic-beta", "openai-beta"};
    enum { N_NAMES = sizeof names / sizeof *names };
    const char *values[N_NAMES] = {http_id(r->call)};
    for (size_t i = 1; i < N_NAMES; i++)
        values[i] = http_header(r->call, names[i]);
    const upstream_fetch fetch = {.method = http_method(r->call),
                                  .path = path,
                                  .query = http_query_string(r->call),
                                  .bytes = bytes,
                                  .size = size,
                                  .type = http_header(r->call, "content-type"),
                                  .accept = http_header(r->call, "accept"),
                                  .names = names,
                                  .values = values,
                                  .n_more = N_NAMES,
                                  .authorization = request_key(r, "authorization"),
                                  .api_key = request_key(r, "x-api-key"),
                                  .key_header = strcmp(path, "/messages") == 0,
                                  .exact = true,
                                  .head = on_head,
                                  .more = on_bytes,
                                  .done = on_passed,
                                  .user = r};
    pass(r, &fetch);
}
