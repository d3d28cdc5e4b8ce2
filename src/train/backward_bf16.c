/* backward_bf16.c: the gradient of an encoder's layer in mixed precision; beside backward.c, which does the rest. What
 * flows through a product is bf16; the gradient of the residual stream and of every parameter is added up in fp32. */
#include "train/backward_internal.h"

void backward_bf16_plan(encoder_tape *tape, encoder_planner *p, const encoder_shape *s, size_t tokens)
{
    tape->half_wide = encoder_take_bf16(p, tokens, s->n_ff);
    tape->half_dcontext = encoder_take_bf16(p, tokens, s->n_embd);
    tape->half_dq = encoder_take_bf16(p, tokens, s->n_embd);
    tape->half_dkv = encoder_take_bf16(p, tokens, 2 * (size_t)s->n_embd);
    tape->norm_scratch = encoder_take(p, norm_scratch(tokens, s->n_embd), 1);
}

typedef struct linear_gradients {
    float *weight, *bias; /* bias NULL: the norm before it has made it */
} linear_gradients;

/* Of y = x w^T + bias: gradients of w and bias from dy and x. */
static void parameters_backward(products *p, linear_gradients g, bf16 *dy, bf16 *x, size_t rows, size_t in, size_t out)
{
    if (g.bias)
        bf16_bias_backward(g.bias, dy, rows, out);
    products_weight(p, in, out, rows, g.weight, dy, x);
}

void backward_bf16_layer(const encoder *e, encoder_tape *tape, uint32_t layer, const uint32_t *starts, size_t n,
                         const encoder_dropout *d, float *gradients)
{
    const size_t width = e->shape.n_embd, ff = e->shape.n_ff, tokens = starts[n];
    encoder_bf16_pass *half = tape->w->half;
    const encoder_bf16_layer *l = &half->layers[layer];
    products *made = half->products;
    const attention_shape shape = encoder_attention(e, tape->w, starts, n, layer);
    const size_t rows = shape.q_starts[n];
    const dropout probabilities = encoder_layer_site(d, layer, ENCODER_SITE_PROBABILITIES);
    const dropout attention = encoder_layer_site(d, layer, ENCODER_SITE_ATTENTION);
    const dropout feed_forward = encoder_layer_site(d, layer, ENCODER_SITE_FEED_FORWARD);
    encoder_layer_view p, g;
    encoder_layer_view_at(&p, e, e->parameters, layer);
    encoder_layer_view_at(&g, e, gradients, layer);
    bf16 *branch = half->branch, *wide = tape->half_wide;

    /* out = norm(sum2), sum2 = mid + dropout(down(gelu(up(mid)))) */
    bf16_add_norm_backward(tape->dx, branch, g.norm2_gain, g.norm2_shift, g.down_bias, tape->dx, l->sum2, l->mean2,
                           l->rstd2, p.norm2_gain, &feed_forward, rows, width, tape->norm_scratch);
    products_run(made, PRODUCT_BACK, ff, width, rows, wide, branch, l->down_back, NULL);
    bf16_gelu_backward(wide, half->act, wide, l->up, rows * ff);
    parameters_backward(made, (linear_gradients){g.down_weight, NULL}, branch, half->act, rows, ff, width);
    parameters_backward(made, (linear_gradients){g.up_weight, g.up_bias}, wide, l->mid, rows, width, ff);
    products_run(made, PRODUCT_BACK_ADD, width, ff, rows, tape->dx, wide, l->up_back, NULL);
    /* mid = norm(sum1), sum1 = x_q + dropout(output(context)) */
    bf16_add_norm_backward(tape->dx, branch, g.norm1_gain, g.norm1_shift, g.output_bias, tape->dx, l->sum1, l->mean1,
                           l->rstd1, p.norm1_gain, &attention, rows, width, tape->norm_scratch);
    products_run(made, PRODUCT_BACK, width, width, rows, tape->half_dcontext, branch, l->output_back, NULL);
    parameters_backward(made, (linear_gradients){g.output_weight, NULL}, branch, l->context, rows, width, width);
    bf16_attention_backward(tape->half_dq, tape->half_dkv, tape->half_dcontext, l->context, l->log_sum, l->q, l->kv,
                            &shape, &probabilities, tape->w->scratch);
    parameters_backward(made, (linear_gradients){g.q_weight, g.q_bias}, tape->half_dq, l->x_q, rows, width, width);
    products_run(made, PRODUCT_BACK_ADD, width, width, rows, tape->dx, tape->half_dq, l->q_back, NULL);
    parameters_backward(made, (linear_gradients){g.kv_weight, g.kv_bias}, tape->half_dkv, l->x, tokens, width,
                        2 * width);
    if (layer + 1 == e->shape.n_layers) { /* the stream's gradient is of the rows that asked: spread it */
        float *asked = tape->dx;
        tape->dx = tape->da;
        tape->da = asked;
        memset(tape->dx, 0, tokens * width * sizeof *tape->dx);
        rows_scatter_add(tape->dx, asked, encoder_read_rows(tape->w, starts, n), rows, width);
    }
    products_run(made, PRODUCT_BACK_ADD, width, 2 * width, tokens, tape->dx, tape->half_dkv, l->kv_back, NULL);
}
