/* encoder_forward.c: one pass of the encoder from ids to logits, for inference and, keeping its intermediate values,
 * for training; its layers in fp32, those in bf16 are encoder_bf16.c's. Memory is planned once for the largest batch; a
 * pass allocates nothing. */
#include "critic/encoder_family.h"
#include "critic/encoder_int8_internal.h"

#include <stdlib.h>

/* What a pass of one layer is planned for. */
typedef struct layer_plan {
    size_t tokens, rows;
    bool asks_once, norm, keeps; /* norm: what attention reads is a norm of the input */
} layer_plan;

static void plan_layer(encoder_layer_pass *l, encoder_planner *p, const encoder_shape *s, const layer_plan *room,
                       float *x)
{
    const family *f = family_of(s);
    const size_t rows = room->rows, normed = f->norms_before ? room->tokens : rows;
    l->x_q = room->asks_once ? encoder_take(p, rows, s->n_embd) : x;
    l->read = room->norm ? encoder_take(p, room->tokens, s->n_embd) : x;
    l->read_q = !room->norm ? l->x_q : room->asks_once ? encoder_take(p, rows, s->n_embd) : l->read;
    l->q = encoder_take(p, rows, s->n_embd);
    l->kv = encoder_take(p, room->tokens, 2 * (size_t)s->n_embd);
    l->log_sum = encoder_take(p, rows, s->n_heads);
    l->context = encoder_take(p, rows, s->n_embd);
    l->sum1 = encoder_take(p, rows, s->n_embd);
    l->mean1 = encoder_take(p, normed, 1);
    l->rstd1 = encoder_take(p, normed, 1);
    l->mid = encoder_take(p, rows, s->n_embd);
    l->up = encoder_take(p, rows, (f->gated ? 2 : 1) * (size_t)s->n_ff);
    l->act = room->keeps || f->gated ? encoder_take(p, rows, s->n_ff) : l->up;
    l->sum2 = f->norms_before && !room->keeps ? x : encoder_take(p, rows, s->n_embd); /* x is no longer needed there */
    l->mean2 = encoder_take(p, rows, 1);
    l->rstd2 = encoder_take(p, rows, 1);
    l->out = f->norms_before ? l->sum2 : room->keeps ? encoder_take(p, rows, s->n_embd) : x;
}

/* What comes before and after the layers; of the head most is one row a sequence. */
static void plan_ends(encoder_workspace *w, encoder_planner *p, const encoder_shape *s)
{
    const family *f = family_of(s);
    const size_t n = w->max_reads, rows = s->pooling == ENCODER_POOLING_MEAN ? w->max_tokens : n;
    w->pooled = encoder_take(p, n, s->n_embd);
    w->dropped = encoder_take(p, n, s->n_embd);
    w->dense = w->act = w->pooled;
    if (f->head_gelu) {
        w->dense = encoder_take(p, n, s->n_embd);
        w->act = encoder_take(p, n, s->n_embd);
        w->pooled_mean = encoder_take(p, n, 1);
        w->pooled_rstd = encoder_take(p, n, 1);
    }
    if (f->norms_before) {
        w->final = encoder_take(p, rows, s->n_embd);
        w->final_mean = encoder_take(p, rows, 1);
        w->final_rstd = encoder_take(p, rows, 1);
    }
    if (s->pooling == ENCODER_POOLING_MEAN)
        w->cls = encoder_take(p, n, s->n_embd);
    for (int local = 0; f->rotary && local < 2; local++)
        w->turns[local] = encoder_take(p, w->longest, s->n_embd / s->n_heads);
}

static void plan_turns(const encoder_workspace *w, const encoder_shape *s)
{
    for (int local = 0; family_of(s)->rotary && local < 2; local++)
        rotary_table(w->turns[local], w->longest, s->n_embd / s->n_heads, local ? s->rope_base_local : s->rope_base);
}

bool encoder_asks_once(const encoder *e, uint32_t layer)
{
    return layer + 1 == e->shape.n_layers && e->shape.pooling == ENCODER_POOLING_FIRST;
}

static void plan(encoder_workspace *w, encoder_planner *p, const encoder *e)
{
    const encoder_shape *s = &e->shape;
    const family *f = family_of(s);
    p->used = 0;
    w->sum = encoder_take(p, w->max_tokens, s->n_embd);
    w->mean = encoder_take(p, w->max_tokens, 1);
    w->rstd = encoder_take(p, w->max_tokens, 1);
    w->x = encoder_take(p, w->max_tokens, s->n_embd);
    plan_ends(w, p, s);
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
        const bool asks_once = encoder_asks_once(e, i);
        const layer_plan room = {w->max_tokens, asks_once ? w->max_reads : w->max_tokens, asks_once,
                                 f->norms_before && (i || !f->not_in_first), w->keeps};
        if (!w->keeps)
            p->used = shared;
        plan_layer(&w->layers[i], p, s, &room, x);
        x = w->layers[i].out;
        most = p->used > most ? p->used : most;
    }
    p->used = most;
    w->last = x;
    if (s->pooling == ENCODER_POOLING_FIRST)
        w->cls = f->norms_before ? w->final : x;
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
    plan(w, &p, e);
    w->memory = p.base = aligned_alloc(64, p.used * sizeof(float));
    if (!w->memory) {
        status = error_set(err, DRR_E_MEMORY,
                           "out of memory: %zu MB for the activations of %zu tokens; ask for "
                           "shorter texts or smaller batches",
                           p.used * sizeof(float) / 1000000, max_tokens);
        goto done;
    }
    plan(w, &p, e);
    plan_turns(w, &e->shape);
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

static bool is_local(const encoder *e, uint32_t layer)
{
    return e->shape.global_every && layer % e->shape.global_every;
}

attention_shape encoder_attention(const encoder *e, const encoder_workspace *w, const uint32_t *starts, size_t n,
                                  uint32_t layer)
{
    return (attention_shape){.width = e->shape.n_embd,
                             .heads = e->shape.n_heads,
                             .q_starts = encoder_asks_once(e, layer) ? encoder_read_starts(w) : starts,
                             .kv_starts = starts,
                             .n = n,
                             .longest = w->longest,
                             .window = is_local(e, layer) ? e->shape.window / 2 : 0};
}

void encoder_turn(const encoder *e, const encoder_workspace *w, uint32_t layer, const attention_shape *shape, float *q,
                  float *kv, bool back)
{
    const float *table = w->turns[is_local(e, layer)];
    const size_t width = shape->width, heads = shape->heads;
    const rotary_shape of_q = {heads, width / heads, shape->q_starts, shape->n};
    const rotary_shape of_k = {heads, width / heads, shape->kv_starts, shape->n};
    if (!table)
        return;
    (back ? rotary_backward : rotary_forward)(q, width, &of_q, table);
    (back ? rotary_backward : rotary_forward)(kv, 2 * width, &of_k, table);
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
    const family *f = family_of(&e->shape);
    const float epsilon = e->shape.norm_epsilon;
    encoder_layer_view p;
    encoder_layer_view_at(&p, e, e->parameters, layer);
    if (l->read != x)
        layernorm_forward(l->read, l->mean1, l->rstd1, x, p.norm1_gain, p.norm1_shift, tokens, width, epsilon);
    if (encoder_asks_once(e, layer))
        rows_gather(l->x_q, x, encoder_read_rows(w, starts, n), rows, width);
    if (l->read_q != l->x_q && l->read_q != l->read)
        rows_gather(l->read_q, l->read, encoder_read_rows(w, starts, n), rows, width);
    linear_forward(l->q, l->read_q, p.q_weight, p.q_bias, rows, width, width);
    linear_forward(l->kv, l->read, p.kv_weight, p.kv_bias, tokens, width, 2 * width);
    encoder_turn(e, w, layer, &shape, l->q, l->kv, false);
    attention_forward(l->context, l->log_sum, l->q, l->kv, &shape, &probabilities, w->scratch);
    linear_forward(l->sum1, l->context, p.output_weight, p.output_bias, rows, width, width);
    dropout_add(l->sum1, l->sum1, l->x_q, rows * width, &attention);
    if (f->norms_before)
        layernorm_forward(l->mid, l->mean2, l->rstd2, l->sum1, p.norm2_gain, p.norm2_shift, rows, width, epsilon);
    else
        layernorm_forward(l->mid, l->mean1, l->rstd1, l->sum1, p.norm1_gain, p.norm1_shift, rows, width, epsilon);
    linear_forward(l->up, l->mid, p.up_weight, p.up_bias, rows, width, f->gated ? 2 * ff : ff);
    if (f->gated)
        geglu_forward(l->act, l->up, rows, ff);
    else
        gelu_forward(l->act, l->up, rows * ff);
    linear_forward(l->sum2, l->act, p.down_weight, p.down_bias, rows, ff, width);
    dropout_add(l->sum2, l->sum2, f->norms_before ? l->sum1 : l->mid, rows * width, &feed_forward);
    if (!f->norms_before)
        layernorm_forward(l->out, l->mean2, l->rstd2, l->sum2, p.norm2_gain, p.norm2_shift, rows, width, epsilon);
}

/* From the last layer's output to logits. */
static void head_forward(const encoder *e, encoder_workspace *w, const encoder_view *p, const uint32_t *starts,
                         size_t n, const encoder_dropout *d, float *logits)
{
    const family *f = family_of(&e->shape);
    const size_t width = e->shape.n_embd;
    const bool mean = e->shape.pooling == ENCODER_POOLING_MEAN;
    const dropout site = encoder_site(d, ENCODER_SITE_HEAD);
    const size_t reads = encoder_read_starts(w)[n];
    if (f->norms_before)
        layernorm_forward(w->final, w->final_mean, w->final_rstd, w->last, p->final_gain, NULL, mean ? starts[n] : n,
                          width, e->shape.norm_epsilon);
    if (mean)
        rows_mean(w->cls, f->norms_before ? w->final : w->last, starts, n, width);
    if (p->pooler_weight) {
        linear_forward(w->dense, w->cls, p->pooler_weight, p->pooler_bias, reads, width, width);
        (f->head_gelu ? gelu_forward : tanh_forward)(w->act, w->dense, reads * width);
    }
    if (p->pooler_gain)
        layernorm_forward(w->pooled, w->pooled_mean, w->pooled_rstd, w->act, p->pooler_gain, NULL, reads, width,
                          e->shape.norm_epsilon);
    dropout_add(w->dropped, p->pooler_weight ? w->pooled : w->cls, NULL, reads * width, &site);
    linear_forward(logits, w->dropped, p->head_weight, p->head_bias, reads, width, 1);
}

void encoder_forward(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                     const encoder_dropout *d, float *logits)
{
    const size_t width = e->shape.n_embd, tokens = starts[n];
    const dropout embedding = encoder_site(d, ENCODER_SITE_EMBEDDING);
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
    head_forward(e, w, &p, starts, n, d, logits);
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
