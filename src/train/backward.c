/* backward.c: the gradient of the loss with respect to every parameter of an encoder, layer by layer from the head
 * down. The forward pass is the critic's own (encoder_forward.c), which keeps what is needed here; dropout's masks are
 * computed again from their sites. Nothing is allocated in a step. */
#include "train/backward_internal.h"

#include <stdlib.h>

static void plan(encoder_tape *tape, encoder_planner *p, const encoder_shape *s, size_t tokens)
{
    const size_t width = s->n_embd, rows = product_rows(tokens);
    tape->dx = encoder_take(p, rows, width);
    tape->da = encoder_take(p, rows, width);
    tape->dlogits = encoder_take(p, tape->w->max_reads, 1);
    tape->dhead = encoder_take(p, tape->w->max_reads, width);
    if (tape->w->half) {
        backward_bf16_plan(tape, p, s, tokens);
        return;
    }
    tape->db = encoder_take(p, rows, width);
    tape->dq = encoder_take(p, rows, width);
    tape->dkv = encoder_take(p, rows, 2 * width);
    tape->dwide = encoder_take(p, rows, (size_t)s->n_ff * (family_of(s)->gated ? 2 : 1));
    tape->dact = family_of(s)->gated ? encoder_take(p, rows, s->n_ff) : tape->dwide;
}

drr_status encoder_tape_new(encoder_tape **out, const encoder *e, size_t max_tokens, size_t max_sequences,
                            size_t longest, drr_error *err)
{
    encoder_planner p = {0};
    encoder_tape *tape = calloc(1, sizeof *tape);
    if (!tape)
        return error_memory(err);
    drr_status status = encoder_workspace_plan(&tape->w, e, max_tokens, max_sequences, longest, true, err);
    if (status != DRR_OK)
        goto done;
    plan(tape, &p, &e->shape, max_tokens);
    tape->memory = p.base = aligned_alloc(64, p.used * sizeof(float));
    if (!tape->memory) {
        status = error_memory(err);
        goto done;
    }
    p.used = 0;
    plan(tape, &p, &e->shape, max_tokens);
done:
    if (status == DRR_OK)
        *out = tape;
    else
        encoder_tape_free(tape);
    return status;
}

void encoder_tape_pack(encoder_tape *tape, const encoder *e)
{
    encoder_workspace_pack(tape->w, e);
}

void encoder_tape_tell(encoder_tape *tape, void (*ready)(void *user, uint32_t layer), void *user)
{
    tape->ready = ready;
    tape->ready_user = user;
}

void encoder_tape_free(encoder_tape *tape)
{
    if (!tape)
        return;
    encoder_workspace_free(tape->w);
    free(tape->memory);
    free(tape);
}

/* Where attention read the input's norm: from the gradients of queries, keys and values, and tape->db, which goes past
 * attention and is of the rows that asked, to tape->dx, the gradient of the input. */
static void input_backward(const encoder *e, encoder_tape *tape, uint32_t layer, const float *x, const uint32_t *starts,
                           size_t n, const encoder_layer_view *p, const encoder_layer_view *g)
{
    const size_t width = e->shape.n_embd, tokens = starts[n];
    const encoder_layer_pass *l = &tape->w->layers[layer];
    const bool once = encoder_asks_once(e, layer);
    linear_backward(tape->dx, 0.0f, g->kv_weight, g->kv_bias, tape->dkv, l->read, p->kv_weight, tokens, width,
                    2 * width);
    linear_backward(once ? tape->da : tape->dx, once ? 0.0f : 1.0f, g->q_weight, g->q_bias, tape->dq, l->read_q,
                    p->q_weight, once ? n : tokens, width, width);
    if (once)
        rows_scatter_add(tape->dx, tape->da, starts, n, width);
    if (l->read != x)
        layernorm_backward(tape->dx, g->norm1_gain, g->norm1_shift, tape->dx, x, l->mean1, l->rstd1, p->norm1_gain,
                           tokens, width);
    if (once)
        rows_scatter_add(tape->dx, tape->db, starts, n, width);
    else
        dropout_add(tape->dx, tape->dx, tape->db, tokens * width, NULL);
}

/* tape->dx: on entry the gradient of the layer's output, [R][n_embd]; on return that of its input x, [T][n_embd]. */
static void layer_backward(const encoder *e, encoder_tape *tape, uint32_t layer, const float *x, const uint32_t *starts,
                           size_t n, const encoder_dropout *d, float *gradients)
{
    const size_t width = e->shape.n_embd, ff = e->shape.n_ff, tokens = starts[n];
    const encoder_layer_pass *l = &tape->w->layers[layer];
    const attention_shape shape = encoder_attention(e, tape->w, starts, n, layer);
    const size_t rows = shape.q_starts[n];
    const dropout probabilities = encoder_layer_site(d, layer, ENCODER_SITE_PROBABILITIES);
    const dropout attention = encoder_layer_site(d, layer, ENCODER_SITE_ATTENTION);
    const dropout feed_forward = encoder_layer_site(d, layer, ENCODER_SITE_FEED_FORWARD);
    encoder_layer_view p, g;
    encoder_layer_view_at(&p, e, e->parameters, layer);
    encoder_layer_view_at(&g, e, gradients, layer);
    const family *f = family_of(&e->shape);
    const bool before = f->norms_before;
    float *dsum = tape->dx, *branch = tape->da, *dmid = tape->db;

    /* sum2 = mid + dropout(down(gelu(up(mid)))), out = norm(sum2); norms before: sum2 = sum1 + .., out = sum2 */
    if (!before)
        layernorm_backward(dsum, g.norm2_gain, g.norm2_shift, tape->dx, l->sum2, l->mean2, l->rstd2, p.norm2_gain, rows,
                           width);
    dropout_add(branch, dsum, NULL, rows * width, &feed_forward);
    linear_backward(tape->dact, 0.0f, g.down_weight, g.down_bias, branch, l->act, p.down_weight, rows, ff, width);
    if (f->gated)
        geglu_backward(tape->dwide, tape->dact, l->up, rows, ff);
    else
        gelu_backward(tape->dwide, tape->dact, l->up, rows * ff);
    if (before) { /* mid = norm(sum1); what reaches sum1 is added to what goes past it */
        linear_backward(dmid, 0.0f, g.up_weight, g.up_bias, tape->dwide, l->mid, p.up_weight, rows, width,
                        f->gated ? 2 * ff : ff);
        layernorm_backward(dmid, g.norm2_gain, g.norm2_shift, dmid, l->sum1, l->mean2, l->rstd2, p.norm2_gain, rows,
                           width);
        dropout_add(dmid, dmid, dsum, rows * width, NULL);
    } else { /* mid = norm(sum1); dsum becomes the gradient of mid */
        linear_backward(dsum, 1.0f, g.up_weight, g.up_bias, tape->dwide, l->mid, p.up_weight, rows, width,
                        f->gated ? 2 * ff : ff);
        layernorm_backward(dmid, g.norm1_gain, g.norm1_shift, dsum, l->sum1, l->mean1, l->rstd1, p.norm1_gain, rows,
                           width);
    }
    /* dmid is the gradient of sum1 = x_q + dropout(output(context)) */
    dropout_add(branch, dmid, NULL, rows * width, &attention);
    linear_backward(tape->dx, 0.0f, g.output_weight, g.output_bias, branch, l->context, p.output_weight, rows, width,
                    width);
    attention_backward(tape->dq, tape->dkv, tape->dx, l->context, l->log_sum, l->q, l->kv, &shape, &probabilities,
                       tape->w->scratch);
    encoder_turn(e, tape->w, layer, &shape, tape->dq, tape->dkv, true);
    if (before) {
        input_backward(e, tape, layer, x, starts, n, &p, &g);
        return;
    }
    /* dmid, the residual, gathers what reaches the rows that asked */
    linear_backward(dmid, 1.0f, g.q_weight, g.q_bias, tape->dq, l->x_q, p.q_weight, rows, width, width);
    if (encoder_asks_once(e, layer)) {
        linear_backward(tape->dx, 0.0f, g.kv_weight, g.kv_bias, tape->dkv, x, p.kv_weight, tokens, width, 2 * width);
        rows_scatter_add(tape->dx, dmid, encoder_read_rows(tape->w, starts, n), rows, width);
        return;
    }
    linear_backward(dmid, 1.0f, g.kv_weight, g.kv_bias, tape->dkv, x, p.kv_weight, tokens, width, 2 * width);
    tape->db = tape->dx;
    tape->dx = dmid;
}

/* tape->dx: the gradient of the last layer's output, of the rows that asked; n rows of it (or means) the head reads. */
static void head_backward(const encoder *e, encoder_tape *tape, const uint32_t *starts, size_t n,
                          const encoder_dropout *d, float *gradients)
{
    const family *f = family_of(&e->shape);
    const size_t width = e->shape.n_embd;
    const bool mean = e->shape.pooling == ENCODER_POOLING_MEAN;
    const encoder_workspace *w = tape->w;
    const dropout site = encoder_site(d, ENCODER_SITE_HEAD);
    encoder_view p, g;
    encoder_view_at(&p, e, e->parameters);
    encoder_view_at(&g, e, gradients);
    float *dread = p.pooler_weight ? tape->dhead : tape->dx;
    linear_backward(dread, 0.0f, g.head_weight, g.head_bias, tape->dlogits, w->dropped, p.head_weight, n, width, 1);
    dropout_add(dread, dread, NULL, n * width, &site);
    if (!p.pooler_weight)
        return;
    if (p.pooler_gain)
        layernorm_backward(tape->dhead, g.pooler_gain, NULL, tape->dhead, w->act, w->pooled_mean, w->pooled_rstd,
                           p.pooler_gain, n, width);
    if (f->head_gelu)
        gelu_backward(tape->dhead, tape->dhead, w->dense, n * width);
    else
        tanh_backward(tape->dhead, tape->dhead, w->act, n * width);
    float *dcls = mean ? tape->da : tape->dx;
    linear_backward(dcls, 0.0f, g.pooler_weight, g.pooler_bias, tape->dhead, w->cls, p.pooler_weight, n, width, width);
    if (mean)
        rows_mean_backward(tape->dx, dcls, starts, n, width);
    if (f->norms_before)
        layernorm_backward(tape->dx, g.final_gain, NULL, tape->dx, w->last, w->final_mean, w->final_rstd, p.final_gain,
                           mean ? starts[n] : n, width);
}

typedef struct plain_loss { /* what encoder_backward's arguments say */
    const uint8_t *labels;
    const float *weights;
    double total;
} plain_loss;

static double plain_loss_of(void *user, float *dlogits, const float *logits, size_t n)
{
    const plain_loss *l = user;
    return bce_logits(dlogits, logits, l->labels, l->weights, n, l->total);
}

drr_status encoder_backward(const encoder *e, encoder_tape *tape, const int32_t *ids, const uint32_t *starts, size_t n,
                            const uint8_t *labels, const float *weights, double total, const encoder_dropout *d,
                            float *gradients, float *logits, double *loss, drr_error *err)
{
    plain_loss l = {labels, weights, total};
    return encoder_backward_by(e, tape, ids, starts, n, plain_loss_of, &l, d, gradients, logits, loss, err);
}

void encoder_tape_read(encoder_tape *tape, const uint32_t *rows, const uint32_t *row_starts)
{
    encoder_workspace_read(tape->w, rows, row_starts);
}

drr_status encoder_backward_by(const encoder *e, encoder_tape *tape, const int32_t *ids, const uint32_t *starts,
                               size_t n, encoder_loss_fn loss_of, void *user, const encoder_dropout *d,
                               float *gradients, float *logits, double *loss, drr_error *err)
{
    encoder_workspace *w = tape->w;
    const size_t width = e->shape.n_embd;
    drr_status status = encoder_check_batch(e, w, ids, starts, n, err);
    if (status != DRR_OK)
        return status;
    tensor_pass pass;
    tensor_begin(&pass, w->threads);
    encoder_forward(e, w, ids, starts, n, d, logits);
    const size_t reads = encoder_read_starts(w)[n];
    *loss += loss_of(user, tape->dlogits, logits, reads);
    head_backward(e, tape, starts, reads, d, gradients);
    for (uint32_t layer = e->shape.n_layers; layer-- > 0;) {
        if (w->half)
            backward_bf16_layer(e, tape, layer, starts, n, d, gradients);
        else
            layer_backward(e, tape, layer, layer ? w->layers[layer - 1].out : w->x, starts, n, d, gradients);
        if (tape->ready)
            tape->ready(tape->ready_user, layer);
    }
    const dropout site = encoder_site(d, ENCODER_SITE_EMBEDDING);
    encoder_view p, g;
    encoder_view_at(&p, e, e->parameters);
    encoder_view_at(&g, e, gradients);
    dropout_add(tape->dx, tape->dx, NULL, starts[n] * width, &site);
    layernorm_backward(tape->dx, g.norm_gain, g.norm_shift, tape->dx, w->sum, w->mean, w->rstd, p.norm_gain, starts[n],
                       width);
    embedding_backward(g.tokens, g.positions, g.types, tape->dx, ids, starts, n, width);
    tensor_end(&pass);
    return encoder_check_pass(w, err);
}
