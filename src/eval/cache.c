/* cache.c: a reasoner around a reasoner that keeps every completion in a file, under a key of all that decides its
 * text. So strategies that ask the same share one generation, a killed evaluation goes on where it stopped, and another
 * critic is compared on the very same texts. Two equal requests in flight are generated once. Failures are not kept. */
#include "eval/eval_internal.h"
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, FORMAT_HIDDEN = 2 }; /* the second: hidden states follow the text */
enum { CACHE_VERSION = 1 };             /* of keys and entries together: a file of another one is refused */

/* What is stored before the text and the tokens. Read and written on one machine: bytes as they lie. */
typedef struct header {
    uint32_t format, finish, n_prompt_tokens, n_tokens, n_token_stats, text_size;
    double seconds;
} header;

typedef struct waiter { /* an outer request: its tag, and whose key it waits for */
    uint64_t tag;
    char key[65], early_key[65]; /* early_key: "" where nothing is cut early */
    uint32_t max_tokens;
    bool waits;
} waiter;

typedef struct cached {
    drr_reasoner *inner;
    blob_cache *cache;
    cache_counts *counts, own_counts;
    reasoner_completion *ready; /* found, not yet handed back */
    size_t n_ready, ready_capacity;
    waiter *waiters;
    size_t n_waiters;
} cached;

/* ---- keys
 *
 * A request's key holds what decides the text but one thing, the context's size: most texts end well within it and are
 * the same under any larger one, and entries of the time when no key knew of contexts are to be found again. So
 *   - a text that ended by itself is kept under the request's key, and found under every context in which it ends so;
 *   - a text that the context cut is kept under a key of that context's own;
 *   - a text that was stopped early, at a bad step, is kept under a key of what stopped it; a text that ended is found
 *     by such a request too, which then cuts it itself;
 *   - one that stopped because a question's seconds were over is not kept;
 *   - an old entry that a context cut lies under the request's key, and is found where this context cuts at that token.
 * What a replay reasoner says is decided by its recording and the question's text; both are in its keys alone, so that
 * those of all others stay as they were. */

static void add_string(sha256 *h, const char *text)
{
    const uint64_t size = text ? strlen(text) : UINT64_MAX;
    sha256_add(h, &size, sizeof size);
    if (text)
        sha256_add(h, text, (size_t)size);
}

static void request_key(char key[65], const cached *c, const reasoner_request *r)
{
    const struct {
        uint64_t seed, n_messages;
        float temperature, top_p;
        uint32_t max_tokens, sample;
    } numbers = {r->temperature > 0 ? r->seed : 0, r->n_messages, r->temperature, r->top_p, r->max_tokens, r->sample};
    sha256 h;
    sha256_begin(&h);
    add_string(&h, drr_reasoner_id(c->inner));
    sha256_add(&h, &numbers, sizeof numbers);
    add_string(&h, r->grammar);
    add_string(&h, r->complete ? "stops at the answer" : NULL);
    for (size_t i = 0; i < r->n_messages; i++) {
        add_string(&h, r->messages[i].role);
        add_string(&h, r->messages[i].content);
    }
    if (reasoner_get_basis(c->inner)->recording[0]) {
        add_string(&h, reasoner_get_basis(c->inner)->recording);
        add_string(&h, r->question);
    }
    if (r->prefix) {
        add_string(&h, "goes on from");
        add_string(&h, r->prefix);
    }
    if (r->answer_at && reasoner_get_basis(c->inner)->hidden.n) {
        char layers[64];
        add_string(&h, "with hidden states of");
        add_string(&h, hidden_layers_text(layers, &reasoner_get_basis(c->inner)->hidden));
    }
    sha256_end(&h, key);
}

static void key_of_cut(char cut[65], const cached *c, const char *key)
{
    const uint32_t context = reasoner_get_basis(c->inner)->context;
    sha256 h;
    sha256_begin(&h);
    add_string(&h, key);
    add_string(&h, "cut by a context of");
    sha256_add(&h, &context, sizeof context);
    sha256_end(&h, cut);
}

static void key_of_early(char early[65], const char *key, const char *cut_by)
{
    sha256 h;
    early[0] = '\0';
    if (!cut_by)
        return;
    sha256_begin(&h);
    add_string(&h, key);
    add_string(&h, "stopped early by");
    add_string(&h, cut_by);
    sha256_end(&h, early);
}

static bool is_cut(const reasoner_completion *done, uint32_t max_tokens)
{
    return done->finish == DRR_FINISH_LENGTH && done->n_tokens < max_tokens;
}

/* Would this context have given the same? The model's end needs a token's room of its own, which it does not keep. */
static bool same_here(const cached *c, const reasoner_completion *found, uint32_t max_tokens)
{
    const uint64_t context = reasoner_get_basis(c->inner)->context;
    const uint64_t used = (uint64_t)found->n_prompt_tokens + found->n_tokens;
    if (context == 0)
        return true;
    if ((uint64_t)found->n_prompt_tokens + REASONER_LEAST_ROOM > context)
        return false;
    if (is_cut(found, max_tokens))
        return used == context;
    return found->finish == DRR_FINISH_STOP ? used < context : used <= context;
}

/* ---- completions as bytes */

static drr_status store(cached *c, const char *key, const reasoner_completion *done, drr_error *err)
{
    const header head = {done->hidden ? FORMAT_HIDDEN : FORMAT,
                         (uint32_t)done->finish,
                         done->n_prompt_tokens,
                         done->n_tokens,
                         done->tokens ? done->n_token_stats : 0,
                         done->text ? (uint32_t)strlen(done->text) : 0,
                         done->seconds};
    buffer b = {0};
    drr_status status = buffer_append(&b, &head, sizeof head, err);
    if (status == DRR_OK && head.n_token_stats)
        status = buffer_append(&b, done->tokens, head.n_token_stats * sizeof *done->tokens, err);
    if (status == DRR_OK && head.text_size)
        status = buffer_append(&b, done->text, head.text_size, err);
    if (status == DRR_OK && done->hidden)
        status = buffer_append(&b, done->hidden, done->hidden_size, err);
    if (status == DRR_OK)
        status = blob_cache_put(c->cache, key, b.data, b.size, err);
    buffer_clear(&b);
    return status;
}

/* DRR_E_EMPTY when it is not there, or not as store() writes it. */
static drr_status load(cached *c, const char *key, reasoner_completion *found, drr_error *err)
{
    char *data = NULL;
    size_t size = 0;
    header head;
    drr_status status = blob_cache_get(c->cache, key, &data, &size, err);
    if (status != DRR_OK)
        return status;
    memset(found, 0, sizeof *found);
    if (size < sizeof head)
        goto damaged;
    memcpy(&head, data, sizeof head);
    const size_t tokens = (size_t)head.n_token_stats * sizeof *found->tokens;
    const size_t rest = size - sizeof head, known = tokens + head.text_size;
    if ((head.format != FORMAT && head.format != FORMAT_HIDDEN) ||
        (head.finish > DRR_FINISH_LENGTH && head.finish != DRR_FINISH_CUT) || rest < known ||
        (head.format == FORMAT ? rest != known : !hidden_is_whole(data + sizeof head + known, rest - known)))
        goto damaged;
    found->finish = (drr_finish)head.finish;
    found->n_prompt_tokens = head.n_prompt_tokens;
    found->n_tokens = head.n_tokens;
    found->seconds = head.seconds;
    found->n_token_stats = head.n_token_stats;
    found->tokens = malloc(tokens + 1);
    found->text = string_copy_n(data + sizeof head + tokens, head.text_size);
    found->hidden_size = rest - known;
    found->hidden = rest > known ? malloc(rest - known) : NULL;
    if (!found->tokens || !found->text || (rest > known && !found->hidden)) {
        reasoner_completion_clear(found);
        free(data);
        return error_memory(err);
    }
    memcpy(found->tokens, data + sizeof head, tokens);
    if (found->hidden)
        memcpy(found->hidden, data + sizeof head + known, rest - known);
    free(data);
    return DRR_OK;
damaged:
    free(data);
    return DRR_E_EMPTY;
}

/* The request's entry under any of its keys. */
static drr_status look_up(cached *c, const char *key, const char *early_key, uint32_t max_tokens,
                          reasoner_completion *found, drr_error *err)
{
    char cut[65];
    drr_status status = load(c, key, found, err);
    if (status == DRR_OK && same_here(c, found, max_tokens))
        return DRR_OK;
    if (status == DRR_OK)
        reasoner_completion_clear(found);
    else if (status != DRR_E_EMPTY)
        return status;
    key_of_cut(cut, c, key);
    status = load(c, cut, found, err);
    return status == DRR_E_EMPTY && *early_key ? load(c, early_key, found, err) : status;
}

static drr_status keep(cached *c, const waiter *w, const reasoner_completion *done, drr_error *err)
{
    char cut[65];
    if (done->finish == DRR_FINISH_TIME)
        return DRR_OK;
    if (done->finish == DRR_FINISH_CUT)
        return *w->early_key ? store(c, w->early_key, done, err) : DRR_OK;
    if (reasoner_get_basis(c->inner)->context == 0 || !is_cut(done, w->max_tokens))
        return store(c, w->key, done, err);
    key_of_cut(cut, c, w->key);
    return store(c, cut, done, err);
}

/* ---- the backend */

static drr_status add_ready(cached *c, const reasoner_completion *completion, drr_error *err)
{
    if (c->n_ready == c->ready_capacity) {
        const size_t capacity = c->ready_capacity ? 2 * c->ready_capacity : 64;
        reasoner_completion *more = realloc(c->ready, capacity * sizeof *more);
        if (!more)
            return error_memory(err);
        c->ready = more;
        c->ready_capacity = capacity;
    }
    c->ready[c->n_ready++] = *completion;
    return DRR_OK;
}

/* A place for a waiter; its index is the tag inside. */
static drr_status add_waiter(cached *c, const reasoner_request *request, const char *key, const char *early_key,
                             size_t *index, drr_error *err)
{
    for (*index = 0; *index < c->n_waiters && c->waiters[*index].waits; ++*index)
        ;
    if (*index == c->n_waiters) {
        const size_t n = c->n_waiters ? 2 * c->n_waiters : 64;
        waiter *more = realloc(c->waiters, n * sizeof *more);
        if (!more)
            return error_memory(err);
        memset(more + c->n_waiters, 0, (n - c->n_waiters) * sizeof *more);
        c->waiters = more;
        c->n_waiters = n;
    }
    c->waiters[*index] = (waiter){.tag = request->tag, .max_tokens = request->max_tokens, .waits = true};
    memcpy(c->waiters[*index].key, key, 65);
    memcpy(c->waiters[*index].early_key, early_key, 65);
    return DRR_OK;
}

static bool in_flight(const cached *c, const char *key)
{
    for (size_t i = 0; i < c->n_waiters; i++)
        if (c->waiters[i].waits && strcmp(c->waiters[i].key, key) == 0)
            return true;
    return false;
}

static drr_status cached_submit(void *self, const reasoner_request *request, drr_error *err)
{
    cached *c = self;
    char key[65], early_key[65];
    size_t index;
    reasoner_completion found = {0};
    request_key(key, c, request);
    key_of_early(early_key, key, request->cut_by);
    drr_status status = look_up(c, key, early_key, request->max_tokens, &found, err);
    if (status == DRR_OK) {
        found.tag = request->tag;
        c->counts->found++;
        status = add_ready(c, &found, err);
        if (status != DRR_OK)
            reasoner_completion_clear(&found);
        return status;
    }
    if (status != DRR_E_EMPTY)
        return status;
    const bool already = in_flight(c, key);
    status = add_waiter(c, request, key, early_key, &index, err);
    if (status != DRR_OK || already)
        return status;
    reasoner_request inner = *request;
    inner.tag = index;
    status = reasoner_submit(c->inner, &inner, err);
    if (status != DRR_OK)
        c->waiters[index].waits = false;
    return status;
}

/* Copies a completion for the others that asked the same. */
static drr_status share(cached *c, const char *key, const reasoner_completion *done, drr_error *err)
{
    for (size_t i = 0; i < c->n_waiters; i++) {
        waiter *w = &c->waiters[i];
        if (!w->waits || strcmp(w->key, key) != 0)
            continue;
        reasoner_completion copy = *done;
        copy.tag = w->tag;
        copy.text = string_copy(done->text);
        copy.failure = string_copy(done->failure);
        copy.tokens = done->tokens ? malloc(done->n_token_stats * sizeof *copy.tokens + 1) : NULL;
        if (copy.tokens)
            memcpy(copy.tokens, done->tokens, done->n_token_stats * sizeof *copy.tokens);
        copy.hidden = done->hidden ? malloc(done->hidden_size) : NULL;
        if (copy.hidden)
            memcpy(copy.hidden, done->hidden, done->hidden_size);
        const bool whole = (copy.text || !done->text) && (copy.failure || !done->failure) &&
                           (copy.tokens || !done->tokens) && (copy.hidden || !done->hidden);
        drr_status status = whole ? add_ready(c, &copy, err) : error_memory(err);
        if (status != DRR_OK) {
            reasoner_completion_clear(&copy);
            return status;
        }
        w->waits = false;
        c->counts->found++;
    }
    return DRR_OK;
}

static drr_status cached_next(void *self, reasoner_completion *completion, drr_error *err)
{
    cached *c = self;
    if (c->n_ready) {
        *completion = c->ready[--c->n_ready];
        return DRR_OK;
    }
    reasoner_completion done = {0};
    drr_status status = reasoner_next(c->inner, &done, err);
    if (status != DRR_OK)
        return status;
    waiter *w = &c->waiters[done.tag];
    const waiter first = *w;
    w->waits = false;
    if (done.finish != DRR_FINISH_FAILED && done.finish != DRR_FINISH_CANCELLED)
        status = keep(c, &first, &done, err);
    if (status == DRR_OK)
        status = share(c, first.key, &done, err);
    if (status != DRR_OK) {
        reasoner_completion_clear(&done);
        return status;
    }
    c->counts->generated++;
    done.tag = first.tag;
    *completion = done;
    return DRR_OK;
}

static void cached_cancel(void *self)
{
    cached *c = self;
    reasoner_cancel(c->inner);
    while (c->n_ready)
        reasoner_completion_clear(&c->ready[--c->n_ready]);
    for (size_t i = 0; i < c->n_waiters; i++)
        c->waiters[i].waits = false;
}

static void cached_close(void *self)
{
    cached *c = self;
    cached_cancel(c);
    blob_cache_close(c->cache);
    free(c->ready);
    free(c->waiters);
    free(c);
}

/* Entries of another layout, or under keys of another making, would be taken for nothing or for what they are not. A
 * file without a mark is of the time before there were marks, when the format was this one. */
static drr_status check_version(blob_cache *cache, const char *path, drr_error *err)
{
    static const char key[] = "format";
    char mine[64], *found = NULL;
    snprintf(mine, sizeof mine, "%d of drr %s", CACHE_VERSION, DRR_VERSION);
    drr_status status = blob_cache_get(cache, key, &found, NULL, err);
    if (status == DRR_E_EMPTY)
        return blob_cache_put(cache, key, mine, strlen(mine), err);
    if (status == DRR_OK && strtol(found, NULL, 10) != CACHE_VERSION) {
        const char *by = strstr(found, "drr ");
        status = error_set(err, DRR_E_MISMATCH,
                           "%s holds sampled text as %.40s keeps it, and this is drr %s: delete the file to generate "
                           "anew, or choose another --out",
                           path, by ? by : "another version", DRR_VERSION);
    }
    free(found);
    return status;
}

drr_status cached_reasoner_new(drr_reasoner **wrapped, drr_reasoner *inner, const char *path, cache_counts *counts,
                               drr_error *err)
{
    static const reasoner_backend backend = {
        .submit = cached_submit, .next = cached_next, .cancel = cached_cancel, .close = cached_close};
    cached *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->inner = inner;
    c->counts = counts ? counts : &c->own_counts;
    drr_status status = blob_cache_open(&c->cache, path, err);
    if (status == DRR_OK)
        status = check_version(c->cache, path, err);
    if (status == DRR_OK)
        status = reasoner_new(wrapped, &backend, c, drr_reasoner_id(inner), drr_reasoner_describe(inner),
                              reasoner_width(inner), err);
    if (status == DRR_OK)
        reasoner_set_basis(*wrapped, reasoner_get_basis(inner));
    else
        cached_close(c);
    return status;
}
