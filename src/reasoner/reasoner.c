/* reasoner.c: the interface in front of every backend: opening by name or path, counting what is in flight. */
#include "reasoner/reasoner.h"

#include <stdlib.h>
#include <string.h>

struct drr_reasoner {
    reasoner_backend backend;
    void *self;
    char *id, *description;
    uint32_t width;
    reasoner_basis basis;
    char hidden[64]; /* the basis' layers as text */
    size_t pending;
};

const char *drr_finish_name(drr_finish finish)
{
    static const char *const names[] = {"stop", "answered", "length", "cancelled", "failed", "cut", "time"};
    return (size_t)finish < sizeof names / sizeof *names ? names[finish] : "unknown";
}

void drr_reasoner_options_defaults(drr_reasoner_options *options)
{
    *options = (drr_reasoner_options){.self_check = true, .seed = 1, .retries = 8};
}

drr_status reasoner_new(drr_reasoner **reasoner, const reasoner_backend *backend, void *self, const char *id,
                        const char *description, uint32_t width, drr_error *err)
{
    drr_reasoner *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    *r = (drr_reasoner){.backend = *backend,
                        .id = string_copy(id),
                        .description = string_copy(description),
                        .width = width ? width : 1};
    if (!r->id || !r->description) {
        drr_reasoner_close(r);
        return error_memory(err);
    }
    r->self = self; /* from here on the wrapper closes it */
    *reasoner = r;
    return DRR_OK;
}

void drr_reasoner_close(drr_reasoner *reasoner)
{
    if (!reasoner)
        return;
    if (reasoner->self)
        reasoner->backend.close(reasoner->self);
    free(reasoner->id);
    free(reasoner->description);
    free(reasoner);
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool reasoner_is_remote(const char *source)
{
    return strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0;
}

drr_status drr_reasoner_open(drr_reasoner **reasoner, const char *source, const drr_reasoner_options *options,
                             drr_error *err)
{
    drr_reasoner_options defaults;
    char path[4096];
    if (!options) {
        drr_reasoner_options_defaults(&defaults);
        options = &defaults;
    }
    if (reasoner_is_remote(source))
        return reasoner_open_remote(reasoner, source, options, err);
    drr_status status = drr_cache_path(path, sizeof path, source, "reasoner", err);
    if (status != DRR_OK)
        return status;
    if (options->model && *options->model)
        return error_set(err, DRR_E_ARGUMENT,
                         "the model %.200s is asked for, and %.400s is no server that could have several: leave out "
                         "--model; a model that runs here is named by --reasoner",
                         options->model, source);
    if (ends_with(path, ".jsonl") || ends_with(path, ".jsonl.gz"))
        return reasoner_open_replay(reasoner, path, options, err);
    const bool by_name = strcmp(path, source) != 0;
    return reasoner_open_llama(reasoner, path, by_name ? source : NULL, options, err);
}

const char *drr_reasoner_id(const drr_reasoner *reasoner)
{
    return reasoner->id;
}

const char *drr_reasoner_describe(const drr_reasoner *reasoner)
{
    return reasoner->description;
}

const char *drr_reasoner_hidden(const drr_reasoner *reasoner)
{
    return reasoner->hidden;
}

void drr_reasoner_timing_read(const drr_reasoner *reasoner, drr_reasoner_timing *timing)
{
    *timing = (drr_reasoner_timing){0};
    if (reasoner->backend.timing)
        reasoner->backend.timing(reasoner->self, timing);
}

void reasoner_set_basis(drr_reasoner *reasoner, const reasoner_basis *basis)
{
    reasoner->basis = *basis;
    hidden_layers_text(reasoner->hidden, &basis->hidden);
}

const reasoner_basis *reasoner_get_basis(const drr_reasoner *reasoner)
{
    return &reasoner->basis;
}

drr_status reasoner_submit(drr_reasoner *reasoner, const reasoner_request *request, drr_error *err)
{
    if (request->prefix && !reasoner->basis.prefixes)
        return error_set(err, DRR_E_ARGUMENT, "%s cannot go on from the middle of an answer", reasoner->id);
    drr_status status = reasoner->backend.submit(reasoner->self, request, err);
    if (status == DRR_OK)
        reasoner->pending++;
    return status;
}

drr_status reasoner_next(drr_reasoner *reasoner, reasoner_completion *completion, drr_error *err)
{
    if (reasoner->pending == 0)
        return error_set(err, DRR_E_EMPTY, "no request is in flight");
    drr_status status = reasoner->backend.next(reasoner->self, completion, err);
    if (status == DRR_OK)
        reasoner->pending--;
    return status;
}

void reasoner_attend(drr_reasoner *reasoner, bool (*called)(void *user), void *user)
{
    if (reasoner->backend.attend)
        reasoner->backend.attend(reasoner->self, called, user);
}

void reasoner_cancel(drr_reasoner *reasoner)
{
    reasoner->backend.cancel(reasoner->self);
    reasoner->pending = 0;
}

uint32_t reasoner_width(const drr_reasoner *reasoner)
{
    return reasoner->width;
}

size_t reasoner_pending(const drr_reasoner *reasoner)
{
    return reasoner->pending;
}

size_t reasoner_ready(const drr_reasoner *reasoner)
{
    return reasoner->backend.ready ? reasoner->backend.ready(reasoner->self) : 0;
}

void reasoner_completion_keep_characters(reasoner_completion *c)
{
    const size_t size = c->text ? strlen(c->text) : 0;
    size_t to = utf8_sound(c->text, size), token = 0;
    if (to == size)
        return;
    while (token < c->n_token_stats && c->tokens[token].end <= to)
        token++;
    for (size_t from = to; from < size;) {
        const size_t n = utf8_character(c->text + from, size - from), taken = n ? n : 1;
        if (n)
            memmove(c->text + to, c->text + from, n);
        to += n;
        from += taken;
        for (; token < c->n_token_stats && c->tokens[token].end <= from; token++)
            c->tokens[token].end = (uint32_t)to;
    }
    c->text[to] = '\0';
}

void reasoner_completion_clear(reasoner_completion *completion)
{
    if (!completion)
        return;
    free(completion->text);
    free(completion->thoughts);
    free(completion->tokens);
    free(completion->hidden);
    free(completion->failure);
    *completion = (reasoner_completion){0};
}
