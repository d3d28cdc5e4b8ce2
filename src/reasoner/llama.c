/* llama.c: opens and closes the embedded reasoner: model file, KV memory for `width` sequences, identity. Running it is
 * llama_slots.c's job. */
#include "reasoner/llama_internal.h"

#include <ggml-backend.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void llama_close(void *self)
{
    llama_backend *b = self;
    if (!b)
        return;
    slots_clear(b);
    sample_spaces_free(b->spaces, b->n_spaces);
    if (b->batch.token)
        llama_batch_free(b->batch);
    llama_free(b->context);
    llama_model_free(b->model);
    free(b->path);
    free(b);
}

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

/* Bytes of keys and values for one token of one sequence, at 16 bits each. */
static uint64_t kv_bytes_per_token(const struct llama_model *model)
{
    const int32_t heads = llama_model_n_head(model) > 0 ? llama_model_n_head(model) : 1;
    const uint64_t width = (uint64_t)(llama_model_n_embd(model) / heads) * (uint64_t)llama_model_n_head_kv(model);
    return (uint64_t)llama_model_n_layer(model) * width * 2 * 2;
}

static uint64_t memory_available(void)
{
    const long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}

static drr_status check_gguf_magic(const char *path, drr_error *err)
{
    file_map map = {0};
    drr_status status = file_map_open(&map, path, err);
    if (status != DRR_OK)
        return status;
    if (map.size < 24 || memcmp(map.data, "GGUF", 4) != 0)
        status = error_set(err, DRR_E_FORMAT, "%s: not a GGUF model (its first four bytes are not \"GGUF\")", path);
    file_map_close(&map);
    return status;
}

/* libllama asks while it loads; false ends the loading. */
static bool goes_on(float progress, void *user)
{
    (void)progress;
    return !hooks_cancelled(user);
}

static drr_status open_context(llama_backend *b, const char *path, const drr_reasoner_options *options, drr_error *err)
{
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_params.progress_callback = goes_on;
    model_params.progress_callback_user_data = (void *)(uintptr_t)options->hooks;
    b->model = llama_model_load_from_file(path, model_params);
    if (!b->model && hooks_cancelled(options->hooks))
        return error_set(err, DRR_E_INTERRUPTED, "interrupted while %s was being loaded", path);
    if (!b->model)
        return error_set(err, DRR_E_FORMAT, "%s: libllama cannot load this model: %s", path,
                         llama_runtime_last_message());
    b->vocab = llama_model_get_vocab(b->model);
    b->n_vocab = (uint32_t)llama_vocab_n_tokens(b->vocab);
    b->chat_template = llama_model_chat_template(b->model, NULL);
    if (!b->chat_template)
        b->chat_template = "chatml";
    const uint32_t trained = (uint32_t)llama_model_n_ctx_train(b->model);
    b->n_context = options->context ? options->context : 2048;
    if (b->n_context > trained)
        b->n_context = trained;

    const uint64_t per_sequence = kv_bytes_per_token(b->model) * b->n_context;
    b->width = options->width ? options->width : 16 * (parallel_threads() > 4 ? 4 : 1);
    const uint64_t room = memory_available() / 2;
    while (!options->width && b->width > 1 && per_sequence * b->width > room)
        b->width /= 2;

    struct llama_context_params params = llama_context_default_params();
    params.n_seq_max = b->width;
    params.n_ctx = b->n_context * b->width;
    b->n_batch = 512;
    params.n_batch = b->n_batch > b->width ? b->n_batch : b->width;
    params.n_ubatch = params.n_batch;
    params.n_outputs_max = b->width;
    params.kv_unified = false; /* attention over each sequence's own cells, not over everybody's */
    params.n_threads = params.n_threads_batch = (int32_t)parallel_threads();
    params.no_perf = true;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; /* slower on every CPU measured, at these lengths */
    b->context = llama_init_from_model(b->model, params);
    if (!b->context)
        return error_set(err, DRR_E_BACKEND, "%s: no context of %u sequences with %u tokens each: %s", path, b->width,
                         b->n_context, llama_runtime_last_message());
    b->batch = llama_batch_init((int32_t)params.n_batch, 0, 1);
    return b->batch.token ? DRR_OK : error_memory(err);
}

drr_status reasoner_open_llama(drr_reasoner **reasoner, const char *path, const char *name,
                               const drr_reasoner_options *options, drr_error *err)
{
    char id[256];
    buffer about = {0};
    llama_runtime_start();
    llama_backend *b = calloc(1, sizeof *b);
    if (!b)
        return error_memory(err);
    if (options->threads)
        parallel_set_threads(options->threads);
    b->path = string_copy(path);
    drr_status status = b->path ? check_gguf_magic(path, err) : error_memory(err);
    if (status == DRR_OK)
        status = identity(id, sizeof id, path, name, err);
    if (status == DRR_OK)
        status = open_context(b, path, options, err);
    if (status == DRR_OK && options->self_check)
        status = llama_check(b->context, b->vocab, name, err);
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
    if (status != DRR_OK)
        goto done;
    char model_text[128] = "";
    llama_model_desc(b->model, model_text, sizeof model_text);
    status = buffer_printf(
        &about, err, "%s, %u sequences of %u tokens (%.0f MiB of KV), %u threads, %s", model_text, b->width,
        b->n_context, (double)(kv_bytes_per_token(b->model) * b->n_context * b->width) / 1048576.0, parallel_threads(),
        ggml_backend_dev_count() ? ggml_backend_dev_description(ggml_backend_dev_get(0)) : "no CPU");
    if (status != DRR_OK)
        goto done;
    static const reasoner_backend table = {.submit = llama_submit,
                                           .next = llama_next,
                                           .cancel = llama_cancel,
                                           .close = llama_close,
                                           .timing = llama_timing,
                                           .ready = llama_ready};
    status = reasoner_new(reasoner, &table, b, id, about.data, b->width, err);
    if (status == DRR_OK) {
        reasoner_set_basis(*reasoner, &(reasoner_basis){.context = b->n_context});
        b = NULL;
    }
done:
    buffer_clear(&about);
    llama_close(b);
    return status;
}
