/* twin.h: a small encoder and its twin in double, made of the plain kernels, so that finite differences say what the
 * gradient of a loss by each of its parameters is. The head and the loss are the test's own. */
#ifndef DRR_TESTS_GRAD_TWIN_H
#define DRR_TESTS_GRAD_TWIN_H

#include "grad/compare.h"
#include "tensor/reference.h"
#include "train/train.h"

enum { WIDTH = 16, HEADS = 4, FF = 24, VOCABULARY = 50, LAYERS = 2, POSITIONS = 12, SEQUENCES = 4, TOKENS = 22 };
#define EPSILON 1e-12

static const encoder_shape tiny = {.n_layers = LAYERS,
                                   .n_embd = WIDTH,
                                   .n_heads = HEADS,
                                   .n_ff = FF,
                                   .n_vocab = VOCABULARY,
                                   .n_positions = POSITIONS,
                                   .n_types = 2,
                                   .norm_epsilon = (float)EPSILON};

static const uint32_t starts[SEQUENCES + 1] = {0, 7, 8, 12, TOKENS};
static const int32_t ids[TOKENS] = {2, 7, 9, 9, 30, 7, 3, 2, 2, 49, 0, 3, 2, 11, 12, 13, 14, 15, 11, 30, 30, 3};

static inline encoder *new_encoder(drr_head head)
{
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new_headed(&e, &tiny, head, NULL), DRR_OK);
    rng_seed(&r, 5);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *tensor = &e->tensors[t];
        const bool gain = strstr(tensor->name, "norm.weight") != NULL;
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            e->parameters[tensor->offset + i] = (gain ? 1.0f : 0.0f) + 0.4f * (float)rng_normal(&r);
    }
    return e;
}

/* ---- the encoder in double, of plain kernels */

typedef struct twin {
    const encoder *e;
    double *parameters;
    const encoder_dropout *d;
    bool all_ask; /* in the last layer too, not only the rows that are read */
    double logits[TOKENS];
} twin;

static inline twin twin_of(const encoder *e, const encoder_dropout *d)
{
    twin t = {.e = e, .parameters = arena_alloc(memory, e->n_parameters * sizeof(double), 8), .d = d};
    assert_non_null(t.parameters);
    for (size_t i = 0; i < e->n_parameters; i++)
        t.parameters[i] = (double)e->parameters[i];
    return t;
}

static inline const double *at_name(const twin *t, const char *name)
{
    const encoder_tensor *tensor = encoder_find(t->e, name);
    assert_non_null(tensor);
    return t->parameters + tensor->offset;
}

static inline const double *in_layer(const twin *t, uint32_t layer, const char *name)
{
    char whole[64];
    snprintf(whole, sizeof whole, "blk.%u.%s", layer, name);
    return at_name(t, whole);
}

/* Keys and values of all tokens, side by side in a row, from two products as the original has them. */
static inline void keys_and_values(const twin *t, uint32_t layer, double *kv, const double *x)
{
    static double half[TOKENS * WIDTH];
    for (size_t part = 0; part < 2; part++) {
        reference_linear_forward_f64(half, x, in_layer(t, layer, part ? "attn_v.weight" : "attn_k.weight"),
                                     in_layer(t, layer, part ? "attn_v.bias" : "attn_k.bias"), TOKENS, WIDTH, WIDTH);
        for (size_t i = 0; i < TOKENS; i++)
            memcpy(kv + (2 * i + part) * WIDTH, half + i * WIDTH, WIDTH * sizeof *half);
    }
}

/* x, [TOKENS][WIDTH], becomes the layer's output: of all rows, or of some of each sequence. */
static inline void twin_layer(const twin *t, uint32_t layer, double *x, const uint32_t *rows,
                              const uint32_t *row_starts)
{
    static double asks[TOKENS * WIDTH], q[TOKENS * WIDTH], kv[TOKENS * 2 * WIDTH], context[TOKENS * WIDTH],
        sum[TOKENS * WIDTH], mid[TOKENS * WIDTH], up[TOKENS * FF], mean[TOKENS], rstd[TOKENS],
        probabilities[HEADS * TOKENS * TOKENS];
    const attention_shape shape = {WIDTH, HEADS, rows ? row_starts : starts, starts, SEQUENCES, POSITIONS, 0};
    const size_t n = shape.q_starts[SEQUENCES];
    const dropout sites[3] = {encoder_layer_site(t->d, layer, ENCODER_SITE_PROBABILITIES),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_ATTENTION),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_FEED_FORWARD)};
    for (size_t r = 0; r < n; r++)
        memcpy(asks + r * WIDTH, x + (rows ? rows[r] : r) * WIDTH, WIDTH * sizeof *x);
    reference_linear_forward_f64(q, asks, in_layer(t, layer, "attn_q.weight"), in_layer(t, layer, "attn_q.bias"), n,
                                 WIDTH, WIDTH);
    keys_and_values(t, layer, kv, x);
    reference_attention_forward_f64(context, probabilities, q, kv, &shape, &sites[0]);
    reference_linear_forward_f64(sum, context, in_layer(t, layer, "attn_output.weight"),
                                 in_layer(t, layer, "attn_output.bias"), n, WIDTH, WIDTH);
    reference_dropout_add_f64(sum, sum, asks, n * WIDTH, &sites[1]);
    reference_layernorm_forward_f64(mid, mean, rstd, sum, in_layer(t, layer, "attn_output_norm.weight"),
                                    in_layer(t, layer, "attn_output_norm.bias"), n, WIDTH, EPSILON);
    reference_linear_forward_f64(up, mid, in_layer(t, layer, "ffn_up.weight"), in_layer(t, layer, "ffn_up.bias"), n,
                                 WIDTH, FF);
    reference_gelu_forward_f64(up, up, n * FF);
    reference_linear_forward_f64(sum, up, in_layer(t, layer, "ffn_down.weight"), in_layer(t, layer, "ffn_down.bias"), n,
                                 FF, WIDTH);
    reference_dropout_add_f64(sum, sum, mid, n * WIDTH, &sites[2]);
    reference_layernorm_forward_f64(x, mean, rstd, sum, in_layer(t, layer, "layer_output_norm.weight"),
                                    in_layer(t, layer, "layer_output_norm.bias"), n, WIDTH, EPSILON);
}

/* x, [TOKENS][WIDTH]: the last layer's output. rows and row_starts as of encoder_logits_at: what is read of it, which
 * alone asks there and comes first in x. */
static inline void twin_body(const twin *t, double *x, const uint32_t *rows, const uint32_t *row_starts)
{
    static double mean[TOKENS], rstd[TOKENS];
    const dropout embedding = encoder_site(t->d, ENCODER_SITE_EMBEDDING);
    reference_embedding_forward_f64(x, ids, starts, SEQUENCES, at_name(t, "token_embd.weight"),
                                    at_name(t, "position_embd.weight"), at_name(t, "token_types.weight"), WIDTH);
    reference_layernorm_forward_f64(x, mean, rstd, x, at_name(t, "token_embd_norm.weight"),
                                    at_name(t, "token_embd_norm.bias"), TOKENS, WIDTH, EPSILON);
    reference_dropout_add_f64(x, x, NULL, TOKENS * WIDTH, &embedding);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        twin_layer(t, layer, x, layer + 1 == LAYERS && !t->all_ask ? rows : NULL, row_starts);
}

/* ---- gradients */

typedef drr_status (*backward_fn)(const encoder *e, encoder_tape *tape, const encoder_dropout *d, float *gradients,
                                  double *loss);

static inline float *gradients_of(const encoder *e, const encoder_dropout *d, backward_fn backward, double *loss)
{
    float *gradients = arena_alloc(memory, e->n_parameters * sizeof(float), 64);
    encoder_tape *tape = NULL;
    assert_non_null(gradients);
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, POSITIONS, NULL), DRR_OK);
    for (int pass = 0; pass < 2; pass++) { /* a tape is used again and again, and gradients add up */
        *loss = 0;
        assert_int_equal(backward(e, tape, d, gradients, loss), DRR_OK);
    }
    for (size_t i = 0; i < e->n_parameters; i++)
        gradients[i] *= 0.5f;
    encoder_tape_free(tape);
    return gradients;
}

/* Of a large tensor every fifth element, which meets every column and every used row; of others all. */
static inline void check_tensor(twin *t, loss_fn loss_of, const encoder_tensor *tensor, const float *gradients)
{
    const size_t size = (size_t)tensor->rows * tensor->columns, step = size > 300 ? 5 : 1;
    double *got = arena_alloc(memory, size * sizeof *got, 8), *want = arena_alloc(memory, size * sizeof *want, 8);
    size_t n = 0;
    for (size_t i = 0; i < size; i += step, n++) {
        got[n] = (double)gradients[tensor->offset + i];
        want[n] = *differences(t->parameters + tensor->offset + i, 1, loss_of, t);
    }
    if (strstr(tensor->name, "attn_k.bias")) { /* it shifts all scores of a query alike, which softmax undoes */
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(got[i]) < 1e-6 && fabs(want[i]) < 1e-8);
        return;
    }
    assert_true(sqrt(product(want, want, n)) > 1e-6); /* something to compare */
    assert_close(tensor->name, got, want, n, 2e-4);
}

/* Is every parameter's gradient that of the loss, which is of a twin? */
static inline void check_gradients(drr_head head, const encoder_dropout *d, loss_fn loss_of, backward_fn backward)
{
    encoder *e = new_encoder(head);
    twin t = twin_of(e, d);
    double loss;
    const float *gradients = gradients_of(e, d, backward, &loss);
    assert_true(fabs(loss - loss_of(&t)) < 1e-5);
    for (size_t i = 0; i < e->n_tensors; i++)
        check_tensor(&t, loss_of, &e->tensors[i], gradients);
    encoder_free(e);
}

#endif
