/* remote.c: the remote reasoner: any server with OpenAI's /chat/completions. Opens it (address, key, model, probe),
 * takes requests and hands completions back; remote_run.c does the work in between, while remote_next is called. */
#include "net/easy.h"
#include "reasoner/remote_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests in, completions out */

drr_status remote_submit(void *self, const reasoner_request *request, drr_error *err)
{
    remote_backend *r = self;
    size_t bytes = 0;
    remote_query *query = calloc(1, sizeof *query);
    drr_error why = {0};
    if (!query)
        return error_memory(err);
    for (size_t i = 0; i < request->n_messages; i++)
        bytes += strlen(request->messages[i].content) + strlen(request->messages[i].role);
    query->tag = request->tag;
    query->max_tokens = request->max_tokens;
    query->complete = request->complete;
    query->complete_user = request->complete_user;
    query->watch = request->watch;
    query->watch_user = request->watch_user;
    query->prompt_guess = budget_guess_prompt(bytes);
    if (remote_request_body(&query->body, r, request, &why) != DRR_OK) {
        reasoner_completion c = {.tag = request->tag, .finish = DRR_FINISH_FAILED, .failure = string_copy(why.message)};
        remote_query_free(query);
        drr_status status = c.failure ? remote_push(r, &c, err) : error_memory(err);
        if (status != DRR_OK)
            reasoner_completion_clear(&c);
        return status;
    }
    if (r->last)
        r->last->next = query;
    else
        r->first = query;
    r->last = query;
    return DRR_OK;
}

drr_status remote_next(void *self, reasoner_completion *completion, drr_error *err)
{
    remote_backend *r = self;
    drr_status status = DRR_OK;
    while (status == DRR_OK && r->n_done == 0) {
        if (r->stop.status != DRR_OK)
            return error_set(err, r->stop.status, "%s", r->stop.message);
        if (hooks_cancelled(r->hooks))
            return error_set(err, DRR_E_INTERRUPTED, "interrupted while waiting for %s", r->base);
        if (!r->first && !r->waiting && !r->n_active)
            return error_set(err, DRR_E_EMPTY, "nothing is in flight");
        status = remote_step(r, err);
    }
    if (status == DRR_OK)
        *completion = r->done[--r->n_done];
    return status;
}

static void remote_cancel(void *self)
{
    remote_drop_all(self);
}

static void tell_account(const remote_backend *r)
{
    const budget *b = &r->spending;
    char money[64] = "";
    if (b->prompt_price > 0 || b->written_price > 0)
        snprintf(money, sizeof money, ", costing %.6g", budget_money(b));
    if (r->n_answered || r->n_failed)
        hooks_log(r->hooks, DRR_LOG_INFO,
                  "%s: %llu answers, %llu failed, %llu tries again; %llu prompt and %llu written tokens%s", r->base,
                  (unsigned long long)r->n_answered, (unsigned long long)r->n_failed, (unsigned long long)r->n_retries,
                  (unsigned long long)b->prompt, (unsigned long long)b->written, money);
}

static void remote_close(void *self)
{
    remote_backend *r = self;
    if (!r)
        return;
    remote_drop_all(r);
    tell_account(r);
    for (uint32_t i = 0; r->transfers && i < r->width; i++)
        remote_transfer_close(&r->transfers[i]);
    curl_multi_cleanup(r->multi);
    for (struct curl_slist *header = r->headers; header; header = header->next)
        explicit_bzero(header->data, strlen(header->data)); /* the key is in one of them */
    curl_slist_free_all(r->headers);
    remote_key_free(r->key);
    free(r->transfers);
    free(r->done);
    free(r->base);
    free(r->host);
    free(r->model);
    free(r->url);
    free(r->ca_file);
    free(r);
}

/* ---- opening */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

static void start_curl(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool ends_in(const char *text, size_t n, const char *end)
{
    const size_t m = strlen(end);
    return n >= m && memcmp(text + n - m, end, m) == 0;
}

/* The address without what may not be in it; errors do not repeat it, for that may be a secret. */
static drr_status take_address(remote_backend *r, const char *source, bool *is_openai, drr_error *err)
{
    static const struct {
        CURLUPart part;
        const char *complaint;
    } unwanted[] = {{CURLUPART_USER, "has a user name in it"},
                    {CURLUPART_PASSWORD, "has a password in it"},
                    {CURLUPART_QUERY, "has a query (\"?\") in it"},
                    {CURLUPART_FRAGMENT, "has a fragment (\"#\") in it"}};
    char *host = NULL, *port = NULL, *scheme = NULL;
    drr_status status = DRR_OK;
    CURLU *url = curl_url();
    if (!url)
        return error_memory(err);
    if (curl_url_set(url, CURLUPART_URL, source, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK) {
        status =
            error_set(err, DRR_E_ARGUMENT,
                      "the reasoner's address is not one: give it like https://host/v1 or http://127.0.0.1:8080/v1");
        goto done;
    }
    for (size_t i = 0; status == DRR_OK && i < sizeof unwanted / sizeof *unwanted; i++) {
        char *found = NULL;
        if (curl_url_get(url, unwanted[i].part, &found, 0) == CURLUE_OK)
            status =
                error_set(err, DRR_E_ARGUMENT,
                          "the reasoner's address at %s %s: others can read a command line; give the bare address, "
                          "and the key in DRR_UPSTREAM_API_KEY or with --api-key-file",
                          host, unwanted[i].complaint);
        curl_free(found);
    }
    if (status != DRR_OK)
        goto done;
    curl_url_get(url, CURLUPART_PORT, &port, 0);
    size_t n = strlen(source);
    while (n && source[n - 1] == '/')
        n--;
    if (ends_in(source, n, "/chat/completions"))
        n -= strlen("/chat/completions");
    buffer name = {0}, full = {0};
    status = buffer_printf(&name, err, "%s%s%s", host, port ? ":" : "", port ? port : "");
    if (status == DRR_OK)
        status = buffer_printf(&full, err, "%.*s/chat/completions", (int)n, source);
    r->host = buffer_take(&name);
    r->url = buffer_take(&full);
    r->base = string_copy_n(source, n);
    if (status == DRR_OK && !r->base)
        status = error_memory(err);
    *is_openai = strcmp(host, "api.openai.com") == 0 && strcmp(scheme, "https") == 0;
done:
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(url);
    return status;
}

static drr_status add_header(remote_backend *r, const char *header, drr_error *err)
{
    struct curl_slist *more = curl_slist_append(r->headers, header);
    if (!more)
        return error_memory(err);
    r->headers = more;
    return DRR_OK;
}

static drr_status take_key(remote_backend *r, const char *file, bool is_openai, drr_error *err)
{
    buffer line = {0};
    drr_status status = remote_key_load(&r->key, file, is_openai, err);
    if (status == DRR_OK && r->key) {
        status = buffer_printf(&line, err, "Authorization: Bearer %s", r->key);
        if (status == DRR_OK)
            status = add_header(r, line.data, err);
        if (line.data)
            explicit_bzero(line.data, line.size);
        buffer_clear(&line);
        if (!net_is_loopback(r->base) && strncmp(r->base, "https:", 6) != 0)
            hooks_log(r->hooks, DRR_LOG_WARN,
                      "the API key goes to %s unencrypted: use https where others share the network", r->host);
    }
    if (status == DRR_OK)
        status = add_header(r, "Content-Type: application/json", err);
    if (status == DRR_OK)
        status = add_header(r, "Accept: text/event-stream, application/json", err);
    if (status == DRR_OK)
        status = add_header(r, "Expect:", err); /* no waiting for "100 Continue" */
    return status;
}

static drr_status take_options(remote_backend *r, const drr_reasoner_options *options, drr_error *err)
{
    r->width = options->width ? options->width : REMOTE_WIDTH;
    r->request_seconds = options->request_seconds ? options->request_seconds : REMOTE_SECONDS;
    r->retries = options->retries;
    r->hooks = options->hooks;
    r->allowed = r->width;
    r->told_s = r->slowed_s = -1e9;
    r->spending = (budget){.most_tokens = options->max_tokens_total,
                           .most_money = options->max_money,
                           .prompt_price = options->price_prompt,
                           .written_price = options->price_completion};
    rng_seed(&r->random, (uint64_t)(clock_seconds() * 1e6)); /* jitter only: two runs must not wait alike */
    if (options->max_money > 0 && !(options->price_prompt > 0 || options->price_completion > 0))
        return error_set(err, DRR_E_ARGUMENT,
                         "--max-money needs the prices of a million tokens: --price-prompt and --price-completion");
    if (options->model && !(r->model = string_copy(options->model)))
        return error_memory(err);
    if (options->ca_file) {
        if (!file_exists(options->ca_file))
            return error_set(err, DRR_E_NOT_FOUND, "the certificate file %s does not exist", options->ca_file);
        if (!(r->ca_file = string_copy(options->ca_file)))
            return error_memory(err);
    }
    r->transfers = calloc(r->width, sizeof *r->transfers);
    r->multi = curl_multi_init();
    if (!r->transfers || !r->multi)
        return error_memory(err);
    curl_multi_setopt(r->multi, CURLMOPT_MAXCONNECTS, (long)r->width + 4);
    curl_multi_setopt(r->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)r->width);
    return DRR_OK;
}

static drr_status describe(buffer *about, const remote_backend *r, drr_error *err)
{
    const remote_features *f = &r->features;
    const char *version = r->http_version == CURL_HTTP_VERSION_2_0 ? "HTTP/2" : "HTTP/1.1";
    return buffer_printf(
        about, err,
        "%s at %s, %u requests in flight, %s; log-probabilities: %s, seed: %s, grammar: %s, token counts: %s", r->model,
        r->base, r->width, version, f->logprobs ? "yes" : "no", f->seed ? "taken" : "no", f->grammar ? "yes" : "no",
        f->usage ? "the server's" : "guessed");
}

static size_t remote_ready(const void *self)
{
    return ((const remote_backend *)self)->n_done;
}

drr_status reasoner_open_remote(drr_reasoner **reasoner, const char *source, const drr_reasoner_options *options,
                                drr_error *err)
{
    static const reasoner_backend table = {.submit = remote_submit,
                                           .next = remote_next,
                                           .cancel = remote_cancel,
                                           .close = remote_close,
                                           .ready = remote_ready};
    buffer id = {0}, about = {0};
    bool is_openai = false;
    pthread_once(&curl_once, start_curl);
    if (curl_started != CURLE_OK)
        return error_set(err, DRR_E_BACKEND, "libcurl cannot start: %s", curl_easy_strerror(curl_started));
    remote_backend *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    drr_status status = take_address(r, source, &is_openai, err);
    if (status == DRR_OK)
        status = take_options(r, options, err);
    if (status == DRR_OK)
        status = take_key(r, options->api_key_file, is_openai, err);
    if (status == DRR_OK && !r->model)
        status = remote_find_model(r, err);
    for (uint32_t i = 0; status == DRR_OK && i < r->width; i++)
        status = remote_transfer_open(&r->transfers[i], r, err);
    if (status == DRR_OK)
        status = remote_probe(r, err);
    if (status == DRR_OK)
        status = buffer_printf(&id, err, "%s@%s", r->model, r->host);
    if (status == DRR_OK)
        status = describe(&about, r, err);
    if (status == DRR_OK)
        status = reasoner_new(reasoner, &table, r, id.data, about.data, r->width, err);
    if (status != DRR_OK)
        remote_close(r);
    buffer_clear(&id);
    buffer_clear(&about);
    return status;
}
