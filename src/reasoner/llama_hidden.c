/* llama_hidden.c: hidden states while tokens are written. libllama shows each tensor of its graph, when it has been
 * computed, to a callback of the context: the output of a block is called "l_out-N", that of the final norm
 * "result_norm". A context gets the callback only where layers were asked for, and listens only during steps. Rows come
 * in the batch's order, for it lies by ascending sequence, in which libllama also divides it.
 *
 * The state of a token is that after reading it. So the last token of an answer, which a step has drawn and no step has
 * read, is read in one more (llama_slots.c). */
#include "reasoner/llama_internal.h"

#include <ggml-backend.h>
#include <stdlib.h>
#include <string.h>

drr_status hidden_tap_plan(llama_backend *b, const char *layers, drr_error *err)
{
    return hidden_layers_parse(&b->tap.layers, layers, err);
}

/* Which of the tap's layers this tensor is; n where none. */
static uint32_t layer_of(const hidden_tap *tap, const char *name)
{
    char *end = NULL;
    unsigned long block = 0;
    const bool last = strcmp(name, "result_norm") == 0;
    if (!last && strncmp(name, "l_out-", 6) != 0)
        return tap->layers.n;
    if (!last) {
        block = strtoul(name + 6, &end, 10);
        if (end == name + 6 || *end)
            return tap->layers.n;
    }
    const uint32_t wanted = last ? HIDDEN_LAST : (uint32_t)block + 1;
    uint32_t i = 0;
    while (i < tap->layers.n && tap->layers.layer[i] != wanted)
        i++;
    return i;
}

/* ask: is this tensor wanted? else: it has been computed. True goes on computing. */
static bool hear(struct ggml_tensor *t, bool ask, void *user)
{
    hidden_tap *tap = user;
    const uint32_t i = tap->open ? layer_of(tap, ggml_get_name(t)) : tap->layers.n;
    if (i == tap->layers.n)
        return !ask;
    if (ask)
        return true;
    const uint64_t rows = (uint64_t)t->ne[1];
    if (t->type != GGML_TYPE_F32 || t->ne[0] != (int64_t)tap->width || t->ne[2] != 1 || t->ne[3] != 1 ||
        tap->n_rows[i] + rows > tap->most_rows || !ggml_is_contiguous(t)) {
        tap->misheard = true;
        return true;
    }
    float *to = tap->values + ((size_t)i * tap->most_rows + tap->n_rows[i]) * tap->width;
    ggml_backend_tensor_get(t, to, 0, (size_t)rows * tap->width * sizeof *to);
    tap->n_rows[i] += (uint32_t)rows;
    return true;
}

void hidden_tap_install(llama_backend *b, struct llama_context_params *params)
{
    if (b->tap.layers.n == 0)
        return;
    params->cb_eval = hear;
    params->cb_eval_user_data = &b->tap;
}

void hidden_tap_clear(hidden_tap *tap)
{
    free(tap->values);
    *tap = (hidden_tap){0};
}

void hidden_tap_begin(llama_backend *b)
{
    b->tap.open = b->tap.layers.n > 0;
    b->tap.misheard = false;
    memset(b->tap.n_rows, 0, sizeof b->tap.n_rows);
}

drr_status hidden_tap_end(llama_backend *b, uint32_t n, drr_error *err)
{
    char name[16];
    b->tap.open = false;
    for (uint32_t i = 0; i < b->tap.layers.n; i++)
        if (b->tap.misheard || b->tap.n_rows[i] != n)
            return error_set(err, DRR_E_BACKEND,
                             "%s: libllama gave hidden states of %u of %u tokens behind layer %s (the model has %d); "
                             "name another layer, or none",
                             b->path, b->tap.n_rows[i], n, hidden_layer_name(name, b->tap.layers.layer[i]),
                             llama_model_n_layer(b->model));
    return DRR_OK;
}

drr_status hidden_tap_try(llama_backend *b, drr_error *err)
{
    hidden_tap *tap = &b->tap;
    if (tap->layers.n == 0)
        return DRR_OK;
    char name[16];
    const int32_t blocks = llama_model_n_layer(b->model);
    for (uint32_t i = 0; i < tap->layers.n; i++)
        if (blocks > 0 && tap->layers.layer[i] > (uint32_t)blocks)
            return error_set(err, DRR_E_ARGUMENT, "%s: there is no layer %s: its layers are 1 to %d, and \"last\"",
                             b->path, hidden_layer_name(name, tap->layers.layer[i]), blocks);
    const llama_token bos = llama_vocab_bos(b->vocab);
    tap->width = (uint32_t)llama_model_n_embd(b->model);
    tap->most_rows = b->width;
    size_t room = (size_t)tap->layers.n * tap->most_rows;
    if (tap->width == 0 || tap->width > HIDDEN_MOST_WIDTH || !size_multiply(&room, room, tap->width * sizeof(float)))
        return error_set(err, DRR_E_BACKEND, "%s: hidden states of width %u are not handled", b->path, tap->width);
    tap->values = malloc(room);
    if (!tap->values)
        return error_memory(err);
    b->batch.n_tokens = 1;
    b->batch.token[0] = bos >= 0 ? bos : 0;
    b->batch.pos[0] = 0;
    b->batch.n_seq_id[0] = 1;
    b->batch.seq_id[0][0] = 0;
    b->batch.logits[0] = true;
    hidden_tap_begin(b);
    const int32_t code = llama_decode(b->context, b->batch);
    const drr_status status = code
                                  ? error_set(err, DRR_E_BACKEND, "%s: llama_decode failed with code %d", b->path, code)
                                  : hidden_tap_end(b, 1, err);
    tap->open = false;
    llama_memory_clear(llama_get_memory(b->context), true);
    return status;
}

/* ---- one sequence */

drr_status hidden_slot_begin(const llama_backend *b, slot *s, uint32_t most, drr_error *err)
{
    const uint32_t left = b->n_context - s->n_prompt;
    size_t room = most < left ? most : left;
    free(s->hidden);
    s->hidden = NULL;
    if (size_multiply(&room, room, (size_t)b->tap.layers.n * b->tap.width * sizeof *s->hidden))
        s->hidden = malloc(room + 1);
    return s->hidden ? DRR_OK : error_memory(err);
}

void hidden_slot_take(const llama_backend *b, slot *s, uint32_t row, uint32_t token)
{
    const hidden_tap *tap = &b->tap;
    uint16_t *to = s->hidden + (size_t)token * tap->layers.n * tap->width;
    for (uint32_t i = 0; i < tap->layers.n; i++, to += tap->width) {
        const float *from = tap->values + ((size_t)i * tap->most_rows + row) * tap->width;
        for (uint32_t k = 0; k < tap->width; k++)
            to[k] = half_of(from[k]);
    }
}

drr_status hidden_slot_end(const llama_backend *b, slot *s, reasoner_completion *c, drr_error *err)
{
    size_t begin = 0, end = 0, answer = c->n_tokens;
    s->answer_at(s->complete_user, c->text, &begin, &end);
    for (size_t i = 0; i < c->n_tokens && begin < end; i++)
        if ((i ? c->tokens[i - 1].end : 0) < end && c->tokens[i].end > begin)
            answer = i;
    const drr_status status =
        hidden_pack(&c->hidden, &c->hidden_size, &b->tap.layers, b->tap.width, s->hidden, c->n_tokens, answer, err);
    free(s->hidden);
    s->hidden = NULL;
    return status;
}
