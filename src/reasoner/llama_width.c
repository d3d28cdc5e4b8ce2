/* llama_width.c: how many sequences fit into memory. Reckoned before anything is allocated: libllama writes zeros over
 * the whole KV cache when it makes it, so that too wide a one is not refused but ends with the kernel killing the
 * process. */
#include "reasoner/llama_internal.h"

#include <stdlib.h>

uint32_t width_that_fits(const width_budget *budget)
{
    const uint64_t kept = budget->asked ? budget->available / 8 : budget->available / 2;
    const uint64_t free_bytes = budget->available - kept;
    const uint64_t room = free_bytes > budget->shared ? free_bytes - budget->shared : 0;
    const uint64_t most = budget->per_sequence ? room / budget->per_sequence : UINT32_MAX;
    uint32_t width = budget->asked ? budget->asked : budget->usual;
    if (budget->asked && width > most)
        width = (uint32_t)most;
    while (!budget->asked && width > most)
        width /= 2;
    return width ? width : 1;
}

uint32_t llama_usual_context(const struct llama_model *model)
{
    const uint32_t trained = (uint32_t)llama_model_n_ctx_train(model);
    return trained < 2048 ? trained : 2048;
}

/* A number of the model's file, such as "llama.attention.key_length"; `otherwise` where it says none. */
static uint64_t model_number(const struct llama_model *model, const char *key, uint64_t otherwise)
{
    char architecture[64], name[160], value[32];
    if (llama_model_meta_val_str(model, "general.architecture", architecture, sizeof architecture) <= 0)
        return otherwise;
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    if (llama_model_meta_val_str(model, name, value, sizeof value) <= 0)
        return otherwise;
    const uint64_t number = strtoull(value, NULL, 10);
    return number ? number : otherwise;
}

uint64_t llama_kv_bytes(const struct llama_model *model, uint32_t context)
{
    const int32_t heads = llama_model_n_head(model) > 0 ? llama_model_n_head(model) : 1;
    const uint64_t usual = (uint64_t)(llama_model_n_embd(model) / heads);
    const uint64_t key = model_number(model, "attention.key_length", usual);
    const uint64_t value = model_number(model, "attention.value_length", usual);
    const uint64_t cells = ((uint64_t)context + 255) / 256 * 256; /* libllama rounds up so */
    return cells * (uint64_t)llama_model_n_layer(model) * (uint64_t)llama_model_n_head_kv(model) * (key + value) * 2;
}

width_budget llama_width_budget(const struct llama_model *model, uint32_t asked, uint32_t context)
{
    const uint64_t n_vocab = (uint64_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    const uint64_t heads = llama_model_n_head(model) > 0 ? (uint64_t)llama_model_n_head(model) : 1;
    const uint64_t logits = n_vocab * sizeof(float) * 2; /* where they are computed and where they are kept */
    const uint64_t tokens = ((uint64_t)context + 1) * (sizeof(llama_token) + sizeof(reasoner_token));
    /* libllama's working memory is mostly the scores of a batch's attention; twice these covers the rest of it. Weights
     * are in memory by now, but those that are mapped from the file count as free, and must stay. */
    const uint64_t scores = 2 * LLAMA_BATCH * context * heads * sizeof(float);
    return (width_budget){.asked = asked,
                          .usual = 16 * (parallel_threads() > 4 ? 4 : 1),
                          .per_sequence = llama_kv_bytes(model, context) + logits + tokens,
                          .shared = scores + llama_model_size(model),
                          .available = memory_available()};
}
