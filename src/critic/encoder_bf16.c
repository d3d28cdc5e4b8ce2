/* encoder_bf16.c: an encoder's layers in mixed precision. Products take and give bf16 and add up in fp32; the residual
 * stream, norms and softmax are fp32 (docs/model.md, "Precision"). The weights are packed for the products; their
 * masters are the encoder's own. Embeddings and head are encoder_forward.c's. */
#include "critic/encoder_family.h"
#include "critic/encoder_int8_internal.h"

#include <stdlib.h>

typedef struct linear_layer { /* one of a layer's five products with weights */
    size_t in, out;
    product_kind back;
} linear_layer;

enum { LINEAR_Q, LINEAR_KV, LINEAR_OUTPUT, LINEAR_UP, LINEAR_DOWN, LINEARS };

static linear_layer linear_at(const encoder_shape *s, int which)
{
    const size_t width = s->n_embd, ff = s->n_ff;
    const linear_layer all[LINEARS] = {
        {width, width, PRODUCT_BACK_ADD}, {width, 2 * width, PRODUCT_BACK_ADD},
        {width, width, PRODUCT_BACK},     {width, ff, PRODUCT_BACK_ADD},
        {ff, width, PRODUCT_BACK},
    };
    return all[which];
}

static bf16 **forward_weights(encoder_bf16_layer *l, int which)
{
    bf16 **all[LINEARS] = {&l->q_weight, &l->kv_weight, &l->output_weight, &l->up_weight, &l->down_weight};
    return all[which];
}

static bf16 **back_weights(encoder_bf16_layer *l, int which)
{
    bf16 **all[LINEARS] = {&l->q_back, &l->kv_back, &l->output_back, &l->up_back, &l->down_back};
    return all[which];
}

static size_t lines(size_t n)
{
    return (n + 31) / 32 * 32; /* 64 bytes */
}

/* The packed weights of all layers, in one arena. */
static drr_status make_packed(encoder_bf16_pass *half, const encoder_shape *s, bool keeps, drr_error *err)
{
    for (int fill = 0; fill < 2; fill++) {
        size_t at = 0;
        for (uint32_t i = 0; i < s->n_layers; i++)
            for (int which = 0; which < LINEARS; which++) {
                const linear_layer x = linear_at(s, which);
                if (fill)
                    *forward_weights(&half->layers[i], which) = half->packed + at;
                at += lines(products_packed(half->products, PRODUCT_FORWARD, x.in, x.out));
                if (!keeps)
                    continue;
                if (fill)
                    *back_weights(&half->layers[i], which) = half->packed + at;
                at += lines(products_packed(half->products, x.back, x.in, x.out));
            }
        if (!fill && !(half->packed = aligned_alloc(64, at * sizeof(bf16))))
            return error_memory(err);
    }
    return DRR_OK;
}

drr_status encoder_bf16_new(encoder_bf16_pass **out, const encoder *e, size_t max_tokens, bool keeps, drr_error *err)
{
    const encoder_shape *s = &e->shape;
    encoder_bf16_pass *half = calloc(1, sizeof *half);
    if (!half || !(half->layers = calloc(s->n_layers, sizeof *half->layers))) {
        encoder_bf16_free(half);
        return error_memory(err);
    }
    drr_status status = products_new(&half->products, max_tokens, err);
    for (int which = 0; status == DRR_OK && which < LINEARS; which++) {
        const linear_layer x = linear_at(s, which);
        status = products_add(half->products, PRODUCT_FORWARD, x.in, x.out, err);
        if (status == DRR_OK && keeps)
            status = products_add(half->products, x.back, x.in, x.out, err);
        if (status == DRR_OK && keeps)
            status = products_add(half->products, PRODUCT_WEIGHT, x.in, x.out, err);
    }
    if (status == DRR_OK)
        status = make_packed(half, s, keeps, err);
    if (status == DRR_OK)
        *out = half;
    else
        encoder_bf16_free(half);
    return status;
}

void encoder_bf16_free(encoder_bf16_pass *half)
{
    if (!half)
        return;
    products_free(half->products);
    free(half->layers);
    free(half->packed);
    free(half);
}

static void plan_layer(encoder_bf16_layer *l, encoder_planner *p, const encoder_shape *s, size_t tokens, size_t rows,
                       bf16 *x, bool last, bool keeps)
{
    const size_t width = s->n_embd;
    l->x = x;
    l->x_q = last ? encoder_take_bf16(p, rows, width) : x;
    l->q = encoder_take_bf16(p, rows, width);
    l->kv = encoder_take_bf16(p, tokens, 2 * width);
    l->log_sum = encoder_take(p, rows, s->n_heads);
    l->context = encoder_take_bf16(p, rows, width);
    l->sum1 = encoder_take(p, rows, width);
    l->mean1 = encoder_take(p, rows, 1);
    l->rstd1 = encoder_take(p, rows, 1);
    l->mid = encoder_take_bf16(p, rows, width);
    l->up = encoder_take_bf16(p, rows, s->n_ff);
    l->sum2 = encoder_take(p, rows, width);
    l->mean2 = encoder_take(p, rows, 1);
    l->rstd2 = encoder_take(p, rows, 1);
    l->out = keeps ? encoder_take_bf16(p, rows, width) : x;
}

void encoder_bf16_plan(encoder_workspace *w, encoder_planner *p, const encoder_shape *s)
{
    encoder_bf16_pass *half = w->half;
    bf16 *x = encoder_take_bf16(p, w->max_tokens, s->n_embd);
    half->act = encoder_take_bf16(p, w->max_tokens, s->n_ff);
    half->branch = encoder_take_bf16(p, w->max_tokens, s->n_embd);
    half->mid = encoder_take(p, w->max_tokens, s->n_embd);
    half->cls = w->cls = encoder_take(p, w->max_reads, s->n_embd);
    const size_t shared = p->used;
    size_t most = shared;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        const bool last = i + 1 == s->n_layers;
        if (!w->keeps)
            p->used = shared;
        plan_layer(&half->layers[i], p, s, w->max_tokens, last ? w->max_reads : w->max_tokens, x, last, w->keeps);
        x = half->layers[i].out;
        most = p->used > most ? p->used : most;
    }
    p->used = most;
}

void encoder_workspace_pack(encoder_workspace *w, const encoder *e)
{
    if (w->eight)
        encoder_int8_pack(w, e);
    for (uint32_t i = 0; w->half && i < e->shape.n_layers; i++) {
        encoder_layer_view p;
        encoder_layer_view_at(&p, e, e->parameters, i);
        const float *from[LINEARS] = {p.q_weight, p.kv_weight, p.output_weight, p.up_weight, p.down_weight};
        for (int which = 0; which < LINEARS; which++) {
            const linear_layer x = linear_at(&e->shape, which);
            products_pack(w->half->products, PRODUCT_FORWARD, x.in, x.out, *forward_weights(&w->half->layers[i], which),
                          from[which]);
            if (w->keeps)
                products_pack(w->half->products, x.back, x.in, x.out, *back_weights(&w->half->layers[i], which),
                              from[which]);
        }
    }
}

drr_status encoder_check_pass(encoder_workspace *w, drr_error *err)
{
    return w->half ? products_check(w->half->products, err) : DRR_OK;
}

static void forward(const encoder_bf16_pass *half, size_t in, size_t out, size_t rows, bf16 *y, const bf16 *x,
                    const bf16 *weight, const float *bias)
{
    products_run(half->products, PRODUCT_FORWARD, in, out, rows, y, x, weight, bias);
}

void encoder_bf16_layer_forward(const encoder *e, encoder_workspace *w, uint32_t layer, const uint32_t *starts,
                                size_t n, const encoder_dropout *d)
{
    const size_t width = e->shape.n_embd, ff = e->shape.n_ff, tokens = starts[n];
    encoder_bf16_pass *half = w->half;
    const encoder_bf16_layer *l = &half->layers[layer];
    const attention_shape shape = encoder_attention(e, w, starts, n, layer);
    const size_t rows = shape.q_starts[n];
    const dropout probabilities = encoder_layer_site(d, layer, ENCODER_SITE_PROBABILITIES);
    const dropout attention = encoder_layer_site(d, layer, ENCODER_SITE_ATTENTION);
    const dropout feed_forward = encoder_layer_site(d, layer, ENCODER_SITE_FEED_FORWARD);
    float *stream = w->x;
    encoder_layer_view p;
    encoder_layer_view_at(&p, e, e->parameters, layer);
    if (layer + 1 == e->shape.n_layers) {
        stream = half->cls;
        const uint32_t *read = encoder_read_rows(w, starts, n);
        rows_gather(stream, w->x, read, rows, width);
        bf16_rows_gather(l->x_q, l->x, read, rows, width);
    }
    forward(half, width, width, rows, l->q, l->x_q, l->q_weight, p.q_bias);
    forward(half, width, 2 * width, tokens, l->kv, l->x, l->kv_weight, p.kv_bias);
    bf16_attention_forward(l->context, l->log_sum, l->q, l->kv, &shape, &probabilities, w->scratch);
    forward(half, width, width, rows, half->branch, l->context, l->output_weight, p.output_bias);
    bf16_add_norm(l->sum1, l->mean1, l->rstd1, half->mid, l->mid, half->branch, stream, &attention, p.norm1_gain,
                  p.norm1_shift, rows, width, e->shape.norm_epsilon);
    forward(half, width, ff, rows, l->up, l->mid, l->up_weight, p.up_bias);
    bf16_gelu_forward(half->act, l->up, rows * ff);
    forward(half, ff, width, rows, half->branch, half->act, l->down_weight, p.down_bias);
    bf16_add_norm(l->sum2, l->mean2, l->rstd2, stream, l->out, half->branch, half->mid, &feed_forward, p.norm2_gain,
                  p.norm2_shift, rows, width, e->shape.norm_epsilon);
}

static drr_status check_int8(const encoder *e, drr_error *err)
{
    const size_t head_width = e ? e->shape.n_embd / e->shape.n_heads : 0;
    if (!int8_is_native())
        return error_set(
            err, DRR_E_BACKEND,
            "this CPU has no AVX512_VNNI, so int8 would be slower than fp32: leave out --precision, or say "
            "fp32");
    if (e && family_of(&e->shape)->norms_before)
        return error_set(err, DRR_E_BACKEND,
                         "encoders of the family %s are computed in fp32 alone: leave out --precision, or say fp32",
                         family_of(&e->shape)->model_type);
    if (e && !score_attention_takes(head_width))
        return error_set(err, DRR_E_BACKEND,
                         "this encoder's attention heads are %zu wide, and int8 takes 16, 32, 48 .. 128: score it in "
                         "fp32 or bf16",
                         head_width);
    return DRR_OK;
}

drr_status encoder_set_precision(encoder *e, drr_precision *precision, drr_error *err)
{
    const bool native = bf16_is_native();
    if (*precision == DRR_PRECISION_INT8) {
        drr_status status = check_int8(e, err);
        if (status != DRR_OK)
            return status;
    }
    if (*precision == DRR_PRECISION_BF16 && !native)
        return error_set(err, DRR_E_BACKEND,
                         "this CPU has neither AVX512_BF16 nor AMX, so bf16 would be slower than "
                         "fp32: leave out --precision, or say fp32");
    if (*precision == DRR_PRECISION_BF16 && e && family_of(&e->shape)->norms_before)
        return error_set(err, DRR_E_BACKEND,
                         "encoders of the family %s are computed in fp32 alone: leave out --precision, or say fp32",
                         family_of(&e->shape)->model_type);
    if (*precision == DRR_PRECISION_AUTO && e && family_of(&e->shape)->norms_before)
        *precision = DRR_PRECISION_FP32;
    if (*precision == DRR_PRECISION_AUTO)
        *precision = native ? DRR_PRECISION_BF16 : DRR_PRECISION_FP32;
    if (e)
        e->bf16 = *precision == DRR_PRECISION_BF16;
    if (e)
        e->int8 = *precision == DRR_PRECISION_INT8;
    return DRR_OK;
}
