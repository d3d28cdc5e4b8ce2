/* remote_probe.c: what this server can do, found out once with a question of a few tokens. An optional part of a
 * request that the server refuses is left out from then on; one that it takes but does not act on is not relied on:
 * log-probabilities count when they come, a grammar when the answer obeys it. */
#include "reasoner/remote_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char PROBE_GRAMMAR[] = "root ::= \"drr7\"", PROBE_OBEYED[] = "drr7";

/* ---- which model */

static size_t on_list(char *bytes, size_t size, size_t n, void *user)
{
    enum { MOST = 1 << 22 };
    buffer *b = user;
    return b->size + size * n <= MOST && buffer_append(b, bytes, size * n, NULL) == DRR_OK ? size * n : 0;
}

static drr_status choose_model(remote_backend *r, const char *text, size_t size, drr_error *err)
{
    char names[400] = "", name[100];
    json_t *root = size ? json_loadb(text, size, 0, NULL) : NULL, *row;
    json_t *data = json_object_get(root, "data");
    const size_t n = json_array_size(data);
    size_t i;
    drr_status status = DRR_OK;
    if (n == 1 && json_is_string(json_object_get(json_array_get(data, 0), "id"))) {
        r->model = string_copy(json_string_or(json_array_get(data, 0), "id", ""));
        if (!r->model)
            status = error_memory(err);
    } else {
        json_array_foreach(data, i, row)
        {
            const size_t used = strlen(names);
            remote_key_clean(r->key, name, sizeof name, json_string_or(row, "id", ""));
            if (i < 8)
                snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", name);
        }
        status = error_set(err, DRR_E_ARGUMENT, "which model of %s? Say it with --model NAME%s%s%s", r->base,
                           n ? "; it has " : "", names, n > 8 ? ", and more" : "");
    }
    json_decref(root);
    return status;
}

/* One try. *http: the answer's status, 0 without an answer; *wait_s: what the server asks for, 0: nothing. */
static drr_status fetch_list(CURL *easy, buffer *list, const char *base, long *http, double *wait_s, drr_error *err)
{
    curl_off_t retry_after = 0;
    list->size = 0;
    *http = 0;
    const CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, http);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
    *wait_s = (double)retry_after;
    if (code == CURLE_OK || *http == 401 || *http == 403)
        return DRR_OK;
    return error_set(
        err, DRR_E_BACKEND,
        "%s cannot be asked for its models: %s; is the server running, and is this its address (http://host:port/v1)?",
        base, curl_easy_strerror(code));
}

/* A server that still loads its model says 503. False: cancelled. */
static bool pause_for(const remote_backend *r, double seconds)
{
    const struct timespec slice = {0, 50000000};
    for (const double end = clock_seconds() + seconds; clock_seconds() < end;) {
        if (hooks_cancelled(r->hooks))
            return false;
        nanosleep(&slice, NULL);
    }
    return true;
}

static drr_status list_models(remote_backend *r, CURL *easy, buffer *list, drr_error *err)
{
    const double deadline = clock_seconds() + r->request_seconds;
    double asked = 0;
    long http = 0;
    bool busy;
    for (uint32_t tries = 1;; tries++) {
        drr_status status = fetch_list(easy, list, r->base, &http, &asked, err);
        if (status != DRR_OK)
            return status;
        busy = remote_fault_of(http, "") == REMOTE_RETRY;
        const double wait = retry_wait(tries, asked, rng_uniform(&r->random));
        if (!busy || tries > r->retries || clock_seconds() + wait > deadline)
            break;
        if (tries == 1)
            hooks_log(r->hooks, DRR_LOG_INFO, "%s is not ready (%ld); waiting for it", r->base, http);
        if (!pause_for(r, wait))
            return error_set(err, DRR_E_INTERRUPTED, "interrupted while waiting for %s", r->base);
    }
    if (http == 401 || http == 403)
        return error_set(err, DRR_E_BACKEND, "%s %s (%ld); set DRR_UPSTREAM_API_KEY or name a file with --api-key-file",
                         r->base, r->key ? "does not accept the API key" : "wants an API key", http);
    if (busy)
        return error_set(err, DRR_E_BACKEND, "%s is still not ready after %u tries to list its models (%ld)", r->base,
                         r->retries + 1, http);
    return choose_model(r, list->data, http == 200 ? list->size : 0, err);
}

drr_status remote_find_model(remote_backend *r, drr_error *err)
{
    buffer url = {0}, list = {0};
    CURL *easy = curl_easy_init();
    drr_status status = easy ? buffer_printf(&url, err, "%s/models", r->base) : error_memory(err);
    if (status == DRR_OK) {
        remote_set_up(easy, r);
        curl_easy_setopt(easy, CURLOPT_URL, url.data);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, 30L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_list);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &list);
        status = list_models(r, easy, &list, err);
    }
    buffer_clear(&url);
    buffer_clear(&list);
    curl_easy_cleanup(easy);
    return status;
}

/* ---- which parts of a request */

static bool names(const char *words, const char *name)
{
    return strstr(words, name) != NULL;
}

/* Leaves out what the refusal names, else the first that is still in. False: nothing is left to leave out. */
static bool leave_out(remote_backend *r, const char *words)
{
    remote_features *f = &r->features;
    bool *const parts[] = {&f->grammar, &f->logprobs, &f->seed, &f->usage, &f->top_p, &f->temperature};
    static const char *const called[] = {"grammar", "logprobs", "seed", "stream_options", "top_p", "temperature"};
    if (!f->completion_tokens && names(words, "max_tokens")) {
        f->completion_tokens = true;
        return true;
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*parts[i] && names(words, called[i])) {
            *parts[i] = false;
            return true;
        }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*parts[i]) {
            *parts[i] = false;
            return true;
        }
    return false;
}

static drr_status ask(remote_backend *r, reasoner_completion *c, drr_error *err)
{
    static const drr_message message = {"user", "Reply with the word ok."};
    const reasoner_request request = {.messages = &message,
                                      .n_messages = 1,
                                      .max_tokens = 16,
                                      .temperature = 1,
                                      .top_p = 0.95f,
                                      .seed = 1,
                                      .grammar = r->features.grammar ? PROBE_GRAMMAR : NULL};
    drr_status status = remote_submit(r, &request, err);
    return status == DRR_OK ? remote_next(r, c, err) : status;
}

drr_status remote_probe(remote_backend *r, drr_error *err)
{
    reasoner_completion c = {0};
    drr_status status;
    r->features = (remote_features){
        .logprobs = true, .seed = true, .grammar = true, .usage = true, .temperature = true, .top_p = true};
    r->probing = true;
    while ((status = ask(r, &c, err)) == DRR_OK && c.finish == DRR_FINISH_FAILED) {
        const bool refused = r->last_status == 400 || r->last_status == 422;
        if (!refused || !leave_out(r, r->last_param)) {
            status = error_set(err, DRR_E_BACKEND, "%s", c.failure);
            break;
        }
        reasoner_completion_clear(&c);
    }
    r->probing = false;
    if (status == DRR_OK) {
        r->features.grammar = r->features.grammar && strcmp(c.text, PROBE_OBEYED) == 0;
        if (*c.text) /* a model that only thought so far has shown nothing about log-probabilities */
            r->features.logprobs = c.n_token_stats > 0;
        if (!r->features.temperature)
            hooks_log(r->hooks, DRR_LOG_WARN, "%s takes no temperature for %s: samples come as its default makes them",
                      r->base, r->model);
    }
    reasoner_completion_clear(&c);
    r->n_answered = r->n_failed = r->n_retries = 0;
    return status;
}
