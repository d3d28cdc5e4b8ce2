/* encoder_forward.c: one pass of the encoder from ids to logits, for inference and, keeping its intermediate values,
 * for training; its layers in fp32, those in bf16 are encoder_bf16.c's. Memory is planned once for the largest batch; a
 * pass allocates nothing. */
#include "critic/encoder_int8_internal.h"

#include <stdlib.h>

static void plan_layer(encoder_layer_pass *l, encoder_planner *p, const encoder_shape *s, size_t tokens, size_t rows,
                       float *x, bool last, bool keeps)
{
    l->x_q = last ? encoder_take(p, rows, s->n_embd) : x;
    l->q = encoder_take(p, rows, s->n_embd);
    l->kv = encoder_take(p, tokens, 2 * (size_t)s->n_embd);
    l->log_sum = encoder_take(p, rows, s->n_heads);
    l->context = encoder_take(p, rows, s->n_embd);
    l->sum1 = encoder_take(p, rows, s->n_embd);
    l->mean1 = encoder_take(p, rows, 1);
    l->rstd1 = encoder_take(p, rows, 1);
    l->mid = encoder_take(p, rows, s->n_embd);
    l->up = encoder_take(p, rows, s->n_ff);
    l->act = keeps ? encoder_take(p, rows, s->n_ff) : l->up;
    l->sum2 = encoder_take(p, rows, s->n_embd);
    l->mean2 = encoder_take(p, rows, 1);
    l->rstd2 = encoder_take(p, rows, 1);
    l->out = keeps ? encoder_take(p, rows, s->n_embd) : x;
}

static void plan(encoder_workspace *w, encoder_planner *p, const encoder_shape *s)
{
    p->used = 0;
    w->sum = encoder_take(p, w->max_tokens, s->n_embd);
    w->mean = encoder_take(p, w->max_tokens, 1);
    w->rstd = encoder_take(p, w->max_tokens, 1);
    w->x = encoder_take(p, w->max_tokens, s->n_embd);
    w->pooled = encoder_take(p, w->max_reads, s->n_embd);
    w->dropped = encoder_take(p, w->max_reads, s->n_embd);
    w->scratch = encoder_take(p,
                              w->half ? bf16_attention_scratch(w->longest, s->n_embd / s->n_heads, w->threads)
                                      : attention_scratch(w->longest, w->threads),
                              1);
    if (w->half) {
        encoder_bf16_plan(w, p, s);
        return;
    }
    if (w->eight) {
        encoder_int8_plan(w, p, s);
        return;
    }
    const size_t shared = p->used; /* without `keeps`, all layers use the same memory */
    size_t most = shared;
    float *x = w->x;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        const bool last = i + 1 == s->n_layers;
        if (!w->keeps)
            p->used = shared;
        plan_layer(&w->layers[i], p, s, w->max_tokens, last ? w->max_reads : w->max_tokens, x, last, w->keeps);
        x = w->layers[i].out;
        most = p->used > most ? p->used : most;
    }
    p->used = most;
    w->cls = x;
}

drr_status encoder_workspace_plan(encoder_workspace **out, const encoder *e, size_t max_tokens, size_t max_sequences,
                                  size_t longest, bool keeps, drr_error *err)
{
    drr_status status = DRR_OK;
    encoder_planner p = {0};
    if (!max_tokens || !max_sequences || !longest || max_tokens > UINT32_MAX / 4 || max_sequences > max_tokens)
        return error_set(err, DRR_E_ARGUMENT, "a workspace of %zu tokens in %zu sequences of at most %zu cannot be",
                         max_tokens, max_sequences, longest);
    encoder_workspace *w = calloc(1, sizeof *w);
    if (!w)
        return error_memory(err);
    w->max_tokens = max_tokens;
    w->max_sequences = max_sequences;
    w->longest = longest < e->shape.n_positions ? longest : e->shape.n_positions;
    w->threads = parallel_threads();
    w->keeps = keeps;
    w->layers = calloc(e->shape.n_layers, sizeof *w->layers);
    w->ones = calloc(max_sequences + 1, sizeof *w->ones);
    if (e->head == DRR_HEAD_TOKEN)
        w->ends = calloc(max_sequences, sizeof *w->ends);
    w->max_reads = e->head == DRR_HEAD_TOKEN ? max_tokens : max_sequences;
    if (!w->layers || !w->ones || (e->head == DRR_HEAD_TOKEN && !w->ends))
        status = error_memory(err);
    else if (e->bf16)
        status = encoder_bf16_new(&w->half, e, max_tokens, keeps, err);
    else if (e->int8 && !keeps)
        status = encoder_int8_new(&w->eight, e, w->longest, w->threads, err);
    if (status != DRR_OK)
        goto done;
    for (uint32_t i = 0; i <= max_sequences; i++)
        w->ones[i] = i;
    plan(w, &p, &e->shape);
    w->memory = p.base = aligned_alloc(64, p.used * sizeof(float));
    if (!w->memory) {
        status = error_set(err, DRR_E_MEMORY,
                           "out of memory: %zu MB for the activations of %zu tokens; ask for "
                           "shorter texts or smaller batches",
                           p.used * sizeof(float) / 1000000, max_tokens);
        goto done;
    }
    plan(w, &p, &e->shape);
    encoder_workspace_pack(w, e);
done:
    if (status == DRR_OK)
        *out = w;
    else
        encoder_workspace_free(w);
    return status;
}

drr_status encoder_workspace_new(encoder_workspace **w, const encoder *e, size_t max_tokens, size_t max_sequences,
                                 drr_error *err)
{
    return encoder_workspace_plan(w, e, max_tokens, max_sequences, max_tokens, false, err);
}

void encoder_workspace_free(encoder_workspace *w)
{
    if (!w)
        return;
    free(w->layers);
    free(w->ones);
    free(w->ends);
    free(w->memory);
    encoder_bf16_free(w->half);
    encoder_int8_free(w->eight);
    free(w);
}

drr_status encoder_check_batch(const encoder *e, const encoder_workspace *w, const int32_t *ids, const uint32_t *starts,
                               size_t n, drr_error *err)
{
    if (n > w->max_sequences || starts[n] - starts[0] > w->max_tokens)
        return error_set(err, DRR_E_LIMIT, "%zu sequences of %u tokens do not fit a workspace for %zu of %zu", n,
                         starts[n] - starts[0], w->max_sequences, w->max_tokens);
    if (starts[0] != 0)
        return error_set(err, DRR_E_ARGUMENT, "a batch starts at offset %u; it must start at 0", starts[0]);
    for (size_t s = 0; s < n; s++)
        if (starts[s + 1] <= starts[s] || starts[s + 1] - starts[s] > w->longest)
            return error_set(err, DRR_E_LIMIT, "sequence %zu has %lld tokens; 1 to %zu are possible", s,
                             (long long)starts[s + 1] - (long long)starts[s], w->longest);
    for (size_t t = 0; t < starts[n]; t++)
        if (ids[t] < 0 || (uint32_t)ids[t] >= e->shape.n_vocab)
            return error_set(err, DRR_E_ARGUMENT,
                             "token %zu has id %d outside the encoder's vocabulary of %u: "
                             "tokenizer and encoder do not belong together",
                             t, (int)ids[t], e->shape.n_vocab);
    return encoder_check_reads(w, starts, n, err);
}

static dropout site_at(const encoder_dropout *d, uint64_t site, uint32_t rows_before, uint32_t width)
{
    dropout s = dropout_site(d->rate, d->seed, d->step, site);
    s.first = rows_before * width;
    return s;
}

dropout encoder_site(const encoder_dropout *d, uint64_t site)
{
    if (!d)
        return (dropout){0};
    return site_at(d, site, site == ENCODER_SITE_HEAD ? d->first_sequence : d->first_token,
                   d->shape ? d->shape->n_embd : 0);
}

dropout encoder_layer_site(const encoder_dropout *d, uint32_t layer, uint64_t layer_site)
{
    const uint64_t site = ENCODER_SITE_LAYERS + (uint64_t)layer * ENCODER_SITES_A_LAYER + layer_site;
    if (!d || !d->shape)
        return encoder_site(d, site);
    if (layer_site == ENCODER_SITE_PROBABILITIES)
        return site_at(d, site, d->first_sequence, d->shape->n_heads);
    return site_at(d, site, layer + 1 == d->shape->n_layers ? d->first_sequence : d->first_token, d->shape->n_embd);
}

attention_shape encoder_attention(const encoder *e, const encoder_workspace *w, const uint32_t *starts, size_t n,
                                  uint32_t layer)
{
    return (attention_shape){.width = e->shape.n_embd,
                             .heads = e->shape.n_heads,
                             .q_starts = layer + 1 == e->shape.n_layers ? encoder_read_starts(w) : starts,
                             .kv_starts = starts,
                             .n = n,
                             .longest = w->longest};
}

static void layer_forward(const encoder *e, encoder_workspace *w, uint32_t layer, const float *x,
                          const uint32_t *starts, size_t n, const encoder_dropout *d)
{
    const size_t width = e->shape.n_embd, ff = e->shape.n_ff, tokens = starts[n];
    const attention_shape shape = encoder_attention(e, w, starts, n, layer);
    const size_t rows = shape.q_starts[n];
    const dropout probabilities = encoder_layer_site(d, layer, ENCODER_SITE_PROBABILITIES);
    const dropout attention = encoder_layer_site(d, layer, ENCODER_SITE_ATTENTION);
    const dropout feed_forward = encoder_layer_site(d, layer, ENCODER_SITE_FEED_FORWARD);
    const encoder_layer_pass *l = &w->layers[layer];
    const float epsilon = e->shape.norm_epsilon;
    encoder_layer_view p;
    encoder_layer_view_at(&p, e, e->parameters, layer);
    if (layer + 1 == e->shape.n_layers)
        rows_gather(l->x_q, x, encoder_read_rows(w, starts, n), rows, width);
    linear_forward(l->q, l->x_q, p.q_weight, p.q_bias, rows, width, width);
    linear_forward(l->kv, x, p.kv_weight, p.kv_bias, tokens, width, 2 * width);
    attention_forward(l->context, l->log_sum, l->q, l->kv, &shape, &probabilities, w->scratch);
    linear_forward(l->sum1, l->context, p.output_weight, p.output_bias, rows, width, width);
    dropout_add(l->sum1, l->sum1, l->x_q, rows * width, &attention);
    layernorm_forward(l->mid, l->mean1, l->rstd1, l->sum1, p.norm1_gain, p.norm1_shift, rows, width, epsilon);
    linear_forward(l->up, l->mid, p.up_weight, p.up_bias, rows, width, ff);
    gelu_forward(l->act, l->up, rows * ff);
    linear_forward(l->sum2, l->act, p.down_weight, p.down_bias, rows, ff, width);
    dropout_add(l->sum2, l->sum2, l->mid, rows * width, &feed_forward);
    layernorm_forward(l->out, l->mean2, l->rstd2, l->sum2, p.norm2_gain, p.norm2_shift, rows, width, epsilon);
}

void encoder_forward(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                     const encoder_dropout *d, float *logits)
{
    const size_t width = e->shape.n_embd, tokens = starts[n];
    const dropout embedding = encoder_site(d, ENCODER_SITE_EMBEDDING), head = encoder_site(d, ENCODER_SITE_HEAD);
    tensor_pass pass;
    encoder_view p;
    encoder_view_at(&p, e, e->parameters);
    tensor_begin(&pass, w->threads);
    embedding_forward(w->sum, ids, starts, n, p.tokens, p.positions, p.types, width);
    layernorm_forward(w->x, w->mean, w->rstd, w->sum, p.norm_gain, p.norm_shift, tokens, width, e->shape.norm_epsilon);
    dropout_add(w->x, w->x, NULL, tokens * width, &embedding);
    const float *x = w->x;
    if (w->half)
        bf16_round(w->half->layers[0].x, x, tokens * width);
    for (uint32_t layer = 0; layer < e->shape.n_layers; layer++) {
        if (w->half)
            encoder_bf16_layer_forward(e, w, layer, starts, n, d);
        else
            layer_forward(e, w, layer, x, starts, n, d);
        x = w->layers[layer].out;
    }
    const size_t reads = encoder_read_starts(w)[n];
    if (p.pooler_weight) {
        linear_forward(w->pooled, w->cls, p.pooler_weight, p.pooler_bias, reads, width, width);
        tanh_forward(w->pooled, w->pooled, reads * width);
    }
    dropout_add(w->dropped, p.pooler_weight ? w->pooled : w->cls, NULL, reads * width, &head);
    linear_forward(logits, w->dropped, p.head_weight, p.head_bias, reads, width, 1);
    tensor_end(&pass);
}

drr_status encoder_logits(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                          float *logits, drr_error *err)
{
    if (n == 0)
        return DRR_OK;
    drr_status status = encoder_check_batch(e, w, ids, starts, n, err);
    if (status != DRR_OK)
        return status;
    if (w->eight)
        encoder_int8_logits(e, w, ids, starts, n, logits);
    else
        encoder_forward(e, w, ids, starts, n, NULL, logits);
    return encoder_check_pass(w, err);
}
