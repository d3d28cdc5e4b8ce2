/* llama.c: opens and closes the embedded reasoner: model file, KV memory for `width` sequences, a CPU path that
 * computes what it should, identity. Running it is llama_slots.c's job. */
#include "reasoner/llama_internal.h"

#include <ggml-backend.h>
#include <stdlib.h>
#include <string.h>

static size_t llama_ready(const void *self)
{
    return ((const llama_backend *)self)->n_done;
}

/* "name@digest": the digest is over the size, the first and the last MiB, so that opening a large model stays quick. */
static drr_status identity(char *id, size_t size, const char *path, const char *name, drr_error *err)
{
    file_map map = {0};
    sha256 h;
    char hex[65];
    drr_status status = file_map_open(&map, path, err);
    if (status != DRR_OK)
        return status;
    const size_t part = map.size < (1u << 20) ? map.size : (1u << 20);
    const uint64_t length = map.size;
    sha256_begin(&h);
    sha256_add(&h, &length, sizeof length);
    sha256_add(&h, map.data, part);
    sha256_add(&h, map.data + map.size - part, part);
    sha256_end(&h, hex);
    file_map_close(&map);
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    const char *dot = strrchr(base, '.');
    if (name)
        snprintf(id, size, "%s@%.8s", name, hex);
    else
        snprintf(id, size, "%.*s@%.8s", dot ? (int)(dot - base) : (int)strlen(base), base, hex);
    return DRR_OK;
}

/* libllama asks while it loads; false ends the loading. */
static bool goes_on(float progress, void *user)
{
    (void)progress;
    return !hooks_cancelled(user);
}

/* Bytes of text. Special tokens count as they are written, for prompts hold them. */
static uint32_t longest_piece(const struct llama_vocab *vocab, uint32_t n_vocab)
{
    uint32_t longest = 1;
    for (uint32_t i = 0; i < n_vocab; i++) {
        const int32_t n = llama_token_to_piece(vocab, (llama_token)i, NULL, 0, 0, true); /* no room: minus the size */
        longest = n < 0 && (uint32_t)-n > longest ? (uint32_t)-n : longest;
    }
    return longest;
}

static drr_status load_model(llama_backend *b, const char *path, const drr_reasoner_options *options, drr_error *err)
{
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.progress_callback = goes_on;
    params.progress_callback_user_data = (void *)(uintptr_t)options->hooks;
    b->model = llama_model_load_from_file(path, params);
    if (!b->model && hooks_cancelled(options->hooks))
        return error_set(err, DRR_E_INTERRUPTED, "interrupted while %s was being loaded", path);
    if (!b->model)
        return error_set(err, DRR_E_FORMAT, "%s: libllama cannot load this model: %s", path,
                         llama_runtime_last_message());
    b->vocab = llama_model_get_vocab(b->model);
    b->n_vocab = (uint32_t)llama_vocab_n_tokens(b->vocab);
    b->longest_piece = longest_piece(b->vocab, b->n_vocab);
    b->chat_template = llama_model_chat_template(b->model, NULL);
    if (!b->chat_template)
        b->chat_template = "chatml";
    const uint32_t trained = (uint32_t)llama_model_n_ctx_train(b->model);
    b->n_context = options->context ? options->context : llama_usual_context(b->model);
    if (b->n_context > trained)
        b->n_context = trained;
    return DRR_OK;
}

static const double GIB = 1024.0 * 1024.0 * 1024.0;

/* The width asked for, or as much of it as fits. Being told is worth a line; a narrower reasoner is only slower. */
static void choose_width(llama_backend *b, const drr_reasoner_options *options)
{
    const width_budget budget = llama_width_budget(b->model, options->width, b->n_context);
    b->width = width_that_fits(&budget);
    if (b->width < options->width)
        hooks_log(
            options->hooks, DRR_LOG_WARN,
            "%u sequences of %u tokens need %.1f GiB beside the model, and %.1f GiB of memory are free: %u at once "
            "instead; a smaller --context leaves room for more",
            options->width, b->n_context, (double)budget.per_sequence * options->width / GIB,
            (double)budget.available / GIB, b->width);
}

static void make_context(llama_backend *b)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_seq_max = b->width;
    params.n_ctx = b->n_context * b->width;
    b->n_batch = LLAMA_BATCH;
    params.n_batch = b->n_batch > b->width ? b->n_batch : b->width;
    params.n_ubatch = params.n_batch;
    params.n_outputs_max = b->width;
    params.kv_unified = false; /* attention over each sequence's own cells, not over everybody's */
    params.n_threads = params.n_threads_batch = (int32_t)parallel_threads();
    params.no_perf = true;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; /* slower on every CPU measured, at these lengths */
    hidden_tap_install(b, &params);
    b->context = llama_init_from_model(b->model, params);
    if (b->context)
        b->batch = llama_batch_init((int32_t)params.n_batch, 0, 1);
}

static drr_status open_context(llama_backend *b, const char *path, const drr_reasoner_options *options, drr_error *err)
{
    choose_width(b, options);
    make_context(b);
    const uint32_t wanted = b->width;
    while (!b->context && b->width > 1) { /* what was reckoned free was not */
        b->width /= 2;
        make_context(b);
    }
    if (b->context && b->width < wanted)
        hooks_log(options->hooks, DRR_LOG_WARN, "libllama has no memory for %u sequences: %u at once instead", wanted,
                  b->width);
    if (!b->context)
        return error_set(err, DRR_E_BACKEND, "%s: no context of %u sequences with %u tokens each: %s", path, b->width,
                         b->n_context, llama_runtime_last_message());
    return b->batch.token ? DRR_OK : error_memory(err);
}

static void close_model(llama_backend *b)
{
    if (b->batch.token)
        llama_batch_free(b->batch);
    b->batch = (struct llama_batch){0};
    llama_free(b->context);
    b->context = NULL;
    llama_model_free(b->model);
    b->model = NULL;
}

/* Opens the model on the CPU path in use; nothing of it is left open on failure. */
static drr_status open_here(llama_backend *b, const char *path, const char *name, const drr_reasoner_options *options,
                            bool *garbage, drr_error *err)
{
    *garbage = false;
    drr_status status = load_model(b, path, options, err);
    if (status == DRR_OK)
        status = open_context(b, path, options, err);
    if (status == DRR_OK && options->self_check)
        status = llama_check(b->context, b->vocab, name, garbage, err);
    if (status != DRR_OK)
        close_model(b);
    return status;
}

/* The path in use computes garbage: goes on with the best of the others that does not, and stays there for all models
 * to come. The plainest is asked first: where that one is wrong too, the CPU is not to blame. */
static drr_status open_elsewhere(llama_backend *b, const char *path, const char *name,
                                 const drr_reasoner_options *options, bool *garbage, drr_error *err)
{
    const size_t wrong = cpu_path_in_use(), plainest = cpu_path_count() - 1;
    const drr_error why = *err;
    drr_status status = cpu_path_use(plainest, err);
    if (status == DRR_OK)
        status = open_here(b, path, name, options, garbage, err);
    if (status != DRR_OK) {
        cpu_path_use(wrong, NULL);
        return !*garbage ? status
                         : error_set(err, DRR_E_BACKEND,
                                     "%.600s, nor on the plainest path, %s: the model is not the one that models.json "
                                     "describes, or libllama is broken",
                                     why.message, cpu_path_name(plainest));
    }
    *garbage = true;
    for (size_t i = wrong + 1; i <= plainest && *garbage; i++) {
        close_model(b);
        status = cpu_path_use(i, err);
        if (status != DRR_OK)
            break;
        status = open_here(b, path, name, options, garbage, err);
    }
    if (status == DRR_OK)
        hooks_log(options->hooks, DRR_LOG_WARN,
                  "%s: it computes garbage; the path %s, which is slower, is used instead", why.message,
                  cpu_path_name(cpu_path_in_use()));
    return status;
}

static drr_status open_model(llama_backend *b, const char *path, const char *name, const drr_reasoner_options *options,
                             drr_error *err)
{
    bool garbage;
    drr_error why = {0};
    cpu_path_lock();
    drr_status status = open_here(b, path, name, options, &garbage, &why);
    if (garbage && !cpu_path_is_forced() && cpu_path_in_use() + 1 < cpu_path_count())
        status = open_elsewhere(b, path, name, options, &garbage, &why);
    b->cpu_path = cpu_path_name(cpu_path_in_use());
    cpu_path_unlock();
    if (status == DRR_OK)
        return DRR_OK;
    return error_set(err, status, garbage ? "%.700s; `drr doctor --reasoner %.200s` tells more" : "%s", why.message,
                     name ? name : path);
}

static void llama_close(void *self)
{
    llama_backend *b = self;
    if (!b)
        return;
    slots_clear(b);
    hidden_tap_clear(&b->tap);
    sample_spaces_free(b->spaces, b->n_spaces);
    close_model(b);
    free(b->path);
    free(b);
}

static void llama_attend(void *self, bool (*called)(void *user), void *user)
{
    llama_backend *b = self;
    b->called = called;
    b->called_user = user;
}

drr_status reasoner_open_llama(drr_reasoner **reasoner, const char *path, const char *name,
                               const drr_reasoner_options *options, drr_error *err)
{
    char id[256];
    buffer about = {0};
    drr_status status = llama_runtime_start(err);
    if (status != DRR_OK)
        return status;
    llama_backend *b = calloc(1, sizeof *b);
    if (!b)
        return error_memory(err);
    if (options->threads)
        parallel_set_threads(options->threads);
    b->path = string_copy(path);
    status = b->path ? llama_check_magic(path, err) : error_memory(err);
    if (status == DRR_OK)
        status = hidden_tap_plan(b, options->hidden, err);
    if (status == DRR_OK)
        status = identity(id, sizeof id, path, name, err);
    if (status == DRR_OK)
        status = open_model(b, path, name, options, err);
    if (status != DRR_OK)
        goto done;
    b->n_spaces = parallel_threads();
    b->spaces = sample_spaces_new(b->n_spaces, b->n_vocab);
    b->slots = calloc(b->width, sizeof *b->slots);
    status = b->spaces && b->slots ? DRR_OK : error_memory(err);
    for (uint32_t i = 0; status == DRR_OK && i < b->width; i++) {
        b->slots[i].tokens = malloc(((size_t)b->n_context + 1) * sizeof(llama_token));
        b->slots[i].stats = malloc(((size_t)b->n_context + 1) * sizeof(reasoner_token));
        if (!b->slots[i].tokens || !b->slots[i].stats)
            status = error_memory(err);
    }
    if (status == DRR_OK)
        status = hidden_tap_try(b, err);
    if (status != DRR_OK)
        goto done;
    char model_text[128] = "";
    llama_model_desc(b->model, model_text, sizeof model_text);
    status = buffer_printf(&about, err, "%s, %u sequences of %u tokens (%.0f MiB of KV), %u threads, CPU path %s (%s)",
                           model_text, b->width, b->n_context,
                           (double)(llama_kv_bytes(b->model, b->n_context) * b->width) / 1048576.0, parallel_threads(),
                           cpu_path_name(cpu_path_in_use()),
                           ggml_backend_dev_count() ? ggml_backend_dev_description(ggml_backend_dev_get(0)) : "no CPU");
    if (status != DRR_OK)
        goto done;
    static const reasoner_backend table = {.submit = llama_submit,
                                           .next = llama_next,
                                           .cancel = llama_cancel,
                                           .close = llama_close,
                                           .timing = llama_timing,
                                           .attend = llama_attend,
                                           .ready = llama_ready};
    status = reasoner_new(reasoner, &table, b, id, about.data, b->width, err);
    if (status == DRR_OK) {
        reasoner_set_basis(*reasoner,
                           &(reasoner_basis){.context = b->n_context, .prefixes = true, .hidden = b->tap.layers});
        b = NULL;
    }
done:
    buffer_clear(&about);
    llama_close(b);
    return status;
}
