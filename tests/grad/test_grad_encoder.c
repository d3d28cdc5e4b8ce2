/* test_grad_encoder.c: the whole encoder. A second one, built here of the plain kernels in double, says what the logits
 * are and, by finite differences, what every parameter's gradient is, with dropout and without. And what must not
 * change anything does not: what a sequence is packed with, how a batch is cut into parts, that only [CLS] asks in the
 * last layer. */
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
static const uint8_t labels[SEQUENCES] = {1, 0, 0, 1};
static const float weights[SEQUENCES] = {0.5f, 1.5f, 1.0f, 2.0f};

static encoder *new_encoder(void)
{
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new(&e, &tiny, NULL), DRR_OK);
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
    bool all_ask; /* in the last layer too */
    double logits[SEQUENCES];
} twin;

static twin twin_of(const encoder *e, const encoder_dropout *d)
{
    twin t = {.e = e, .parameters = arena_alloc(memory, e->n_parameters * sizeof(double), 8), .d = d};
    assert_non_null(t.parameters);
    for (size_t i = 0; i < e->n_parameters; i++)
        t.parameters[i] = (double)e->parameters[i];
    return t;
}

static const double *at(const twin *t, const char *name)
{
    const encoder_tensor *tensor = encoder_find(t->e, name);
    assert_non_null(tensor);
    return t->parameters + tensor->offset;
}

static const double *in_layer(const twin *t, uint32_t layer, const char *name)
{
    char whole[64];
    snprintf(whole, sizeof whole, "blk.%u.%s", layer, name);
    return at(t, whole);
}

/* Keys and values of all tokens, side by side in a row, from two products as the original has them. */
static void keys_and_values(const twin *t, uint32_t layer, double *kv, const double *x)
{
    static double half[TOKENS * WIDTH];
    for (size_t part = 0; part < 2; part++) {
        reference_linear_forward_f64(half, x, in_layer(t, layer, part ? "attn_v.weight" : "attn_k.weight"),
                                     in_layer(t, layer, part ? "attn_v.bias" : "attn_k.bias"), TOKENS, WIDTH, WIDTH);
        for (size_t i = 0; i < TOKENS; i++)
            memcpy(kv + (2 * i + part) * WIDTH, half + i * WIDTH, WIDTH * sizeof *half);
    }
}

/* x, [TOKENS][WIDTH], becomes the layer's output: of all rows, or of the first row of each sequence. */
static void twin_layer(const twin *t, uint32_t layer, double *x, bool first_only)
{
    static double asks[TOKENS * WIDTH], q[TOKENS * WIDTH], kv[TOKENS * 2 * WIDTH], context[TOKENS * WIDTH],
        sum[TOKENS * WIDTH], mid[TOKENS * WIDTH], up[TOKENS * FF], mean[TOKENS], rstd[TOKENS],
        probabilities[HEADS * TOKENS * TOKENS];
    static const uint32_t ones[SEQUENCES + 1] = {0, 1, 2, 3, 4};
    const attention_shape shape = {WIDTH, HEADS, first_only ? ones : starts, starts, SEQUENCES, POSITIONS, 0};
    const size_t rows = shape.q_starts[SEQUENCES];
    const dropout sites[3] = {encoder_layer_site(t->d, layer, ENCODER_SITE_PROBABILITIES),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_ATTENTION),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_FEED_FORWARD)};
    for (size_t r = 0; r < rows; r++)
        memcpy(asks + r * WIDTH, x + (first_only ? starts[r] : r) * WIDTH, WIDTH * sizeof *x);
    reference_linear_forward_f64(q, asks, in_layer(t, layer, "attn_q.weight"), in_layer(t, layer, "attn_q.bias"), rows,
                                 WIDTH, WIDTH);
    keys_and_values(t, layer, kv, x);
    reference_attention_forward_f64(context, probabilities, q, kv, &shape, &sites[0]);
    reference_linear_forward_f64(sum, context, in_layer(t, layer, "attn_output.weight"),
                                 in_layer(t, layer, "attn_output.bias"), rows, WIDTH, WIDTH);
    reference_dropout_add_f64(sum, sum, asks, rows * WIDTH, &sites[1]);
    reference_layernorm_forward_f64(mid, mean, rstd, sum, in_layer(t, layer, "attn_output_norm.weight"),
                                    in_layer(t, layer, "attn_output_norm.bias"), rows, WIDTH, EPSILON);
    reference_linear_forward_f64(up, mid, in_layer(t, layer, "ffn_up.weight"), in_layer(t, layer, "ffn_up.bias"), rows,
                                 WIDTH, FF);
    reference_gelu_forward_f64(up, up, rows * FF);
    reference_linear_forward_f64(sum, up, in_layer(t, layer, "ffn_down.weight"), in_layer(t, layer, "ffn_down.bias"),
                                 rows, FF, WIDTH);
    reference_dropout_add_f64(sum, sum, mid, rows * WIDTH, &sites[2]);
    reference_layernorm_forward_f64(x, mean, rstd, sum, in_layer(t, layer, "layer_output_norm.weight"),
                                    in_layer(t, layer, "layer_output_norm.bias"), rows, WIDTH, EPSILON);
}

static double twin_loss(void *context)
{
    twin *t = context;
    static double x[TOKENS * WIDTH], mean[TOKENS], rstd[TOKENS], cls[SEQUENCES * WIDTH], pooled[SEQUENCES * WIDTH];
    const dropout embedding = encoder_site(t->d, ENCODER_SITE_EMBEDDING), head = encoder_site(t->d, ENCODER_SITE_HEAD);
    double dlogits[SEQUENCES], wide[SEQUENCES];
    reference_embedding_forward_f64(x, ids, starts, SEQUENCES, at(t, "token_embd.weight"),
                                    at(t, "position_embd.weight"), at(t, "token_types.weight"), WIDTH);
    reference_layernorm_forward_f64(x, mean, rstd, x, at(t, "token_embd_norm.weight"), at(t, "token_embd_norm.bias"),
                                    TOKENS, WIDTH, EPSILON);
    reference_dropout_add_f64(x, x, NULL, TOKENS * WIDTH, &embedding);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        twin_layer(t, layer, x, layer + 1 == LAYERS && !t->all_ask);
    for (size_t s = 0; s < SEQUENCES; s++) {
        memcpy(cls + s * WIDTH, x + (t->all_ask ? starts[s] : s) * WIDTH, WIDTH * sizeof *x);
        wide[s] = (double)weights[s];
    }
    reference_linear_forward_f64(pooled, cls, at(t, "cls.weight"), at(t, "cls.bias"), SEQUENCES, WIDTH, WIDTH);
    reference_tanh_forward_f64(pooled, pooled, SEQUENCES * WIDTH);
    reference_dropout_add_f64(pooled, pooled, NULL, SEQUENCES * WIDTH, &head);
    reference_linear_forward_f64(t->logits, pooled, at(t, "cls.output.weight"), at(t, "cls.output.bias"), SEQUENCES,
                                 WIDTH, 1);
    return reference_bce_logits_f64(dlogits, t->logits, labels, wide, SEQUENCES, 5);
}

/* ---- logits */

static void score(const encoder *e, const int32_t *tokens, const uint32_t *offsets, size_t n, float *logits)
{
    encoder_workspace *w = NULL;
    assert_int_equal(encoder_workspace_new(&w, e, TOKENS, SEQUENCES, NULL), DRR_OK);
    assert_int_equal(encoder_logits(e, w, tokens, offsets, n, logits, NULL), DRR_OK);
    encoder_workspace_free(w);
}

static void logits_are_those_of_the_encoder_in_double(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    twin t = twin_of(e, NULL);
    float logits[SEQUENCES];
    score(e, ids, starts, SEQUENCES, logits);
    for (int all = 0; all < 2; all++) { /* whether all rows ask in the last layer or only [CLS] changes nothing */
        t.all_ask = all;
        twin_loss(&t);
        assert_close_f("logits", logits, t.logits, SEQUENCES, 1e-5);
    }
    encoder_free(e);
}

static void a_sequence_does_not_see_what_it_is_packed_with(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    float together[SEQUENCES], alone;
    score(e, ids, starts, SEQUENCES, together);
    for (size_t s = 0; s < SEQUENCES; s++) {
        const uint32_t one[2] = {0, starts[s + 1] - starts[s]};
        score(e, ids + starts[s], one, 1, &alone);
        assert_true(fabsf(alone - together[s]) < 1e-5f);
    }
    assert_true(fabsf(together[0] - together[3]) > 1e-3f); /* and it is not all the same anyway */
    encoder_free(e);
}

static void a_batch_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    encoder_workspace *w = NULL;
    const uint32_t empty[] = {0, 3, 3}, late[] = {1, 3}, whole[] = {0, POSITIONS + 1}, good[] = {0, 2};
    const int32_t strange[2] = {1, VOCABULARY}, negative[2] = {-1, 2};
    float logits[SEQUENCES];
    drr_error err = {0};
    assert_int_equal(encoder_workspace_new(&w, e, 20, 2, &err), DRR_OK);
    assert_int_equal(encoder_logits(e, w, ids, starts, SEQUENCES, logits, &err), DRR_E_LIMIT);
    assert_int_equal(encoder_logits(e, w, ids, empty, 2, logits, &err), DRR_E_LIMIT);
    assert_int_equal(encoder_logits(e, w, ids, late, 1, logits, &err), DRR_E_ARGUMENT);
    assert_int_equal(encoder_logits(e, w, ids, whole, 1, logits, &err), DRR_E_LIMIT);
    assert_int_equal(encoder_logits(e, w, strange, good, 1, logits, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "vocabulary"));
    assert_int_equal(encoder_logits(e, w, negative, good, 1, logits, &err), DRR_E_ARGUMENT);
    assert_int_equal(encoder_logits(e, w, ids, good, 1, logits, &err), DRR_OK);
    encoder_workspace_free(w);
    encoder_free(e);
}

/* ---- gradients */

static float *gradients_of(const encoder *e, const encoder_dropout *d, double *loss)
{
    float *gradients = arena_alloc(memory, e->n_parameters * sizeof(float), 64), logits[SEQUENCES];
    encoder_tape *tape = NULL;
    assert_non_null(gradients);
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, POSITIONS, NULL), DRR_OK);
    *loss = 0;
    for (int pass = 0; pass < 2; pass++) { /* a tape is used again and again, and gradients add up */
        *loss = 0;
        assert_int_equal(
            encoder_backward(e, tape, ids, starts, SEQUENCES, labels, weights, 5, d, gradients, logits, loss, NULL),
            DRR_OK);
    }
    for (size_t i = 0; i < e->n_parameters; i++)
        gradients[i] *= 0.5f;
    encoder_tape_free(tape);
    return gradients;
}

/* Of a large tensor every fifth element, which meets every column and every used row; of others all. */
static void check_tensor(twin *t, const encoder_tensor *tensor, const float *gradients)
{
    const size_t size = (size_t)tensor->rows * tensor->columns, step = size > 300 ? 5 : 1;
    double *got = arena_alloc(memory, size * sizeof *got, 8), *want = arena_alloc(memory, size * sizeof *want, 8);
    size_t n = 0;
    for (size_t i = 0; i < size; i += step, n++) {
        got[n] = (double)gradients[tensor->offset + i];
        want[n] = *differences(t->parameters + tensor->offset + i, 1, twin_loss, t);
    }
    if (strstr(tensor->name, "attn_k.bias")) { /* it shifts all scores of a query alike, which softmax undoes */
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(got[i]) < 1e-6 && fabs(want[i]) < 1e-8);
        return;
    }
    assert_true(sqrt(product(want, want, n)) > 1e-6); /* something to compare */
    assert_close(tensor->name, got, want, n, 2e-4);
}

static void check_gradients(const encoder_dropout *d)
{
    encoder *e = new_encoder();
    twin t = twin_of(e, d);
    double loss;
    const float *gradients = gradients_of(e, d, &loss);
    assert_true(fabs(loss - twin_loss(&t)) < 1e-5);
    for (size_t i = 0; i < e->n_tensors; i++)
        check_tensor(&t, &e->tensors[i], gradients);
    encoder_free(e);
}

static void every_gradient_is_the_derivative(void **state)
{
    (void)state;
    check_gradients(NULL);
}

static void every_gradient_is_the_derivative_under_a_dropout_mask(void **state)
{
    (void)state;
    const encoder_dropout d = {.rate = 0.2f, .seed = 3, .step = 4};
    check_gradients(&d);
}

static void dropout_changes_with_the_step_and_not_without(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    const encoder_dropout now = {.rate = 0.2f, .seed = 3, .step = 4}, again = now;
    const encoder_dropout next = {.rate = 0.2f, .seed = 3, .step = 5}, other = {.rate = 0.2f, .seed = 4, .step = 4};
    double loss[5];
    gradients_of(e, &now, &loss[0]);
    gradients_of(e, &again, &loss[1]);
    gradients_of(e, &next, &loss[2]);
    gradients_of(e, &other, &loss[3]);
    gradients_of(e, NULL, &loss[4]);
    assert_true(loss[0] == loss[1]);
    for (size_t i = 0; i < 5; i++)
        for (size_t k = i + 1; k < 5; k++)
            assert_true((i == 0 && k == 1) || loss[i] != loss[k]);
    encoder_free(e);
}

static void parts_of_a_batch_add_up_to_the_whole(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    double whole, parts = 0;
    const float *gradients = gradients_of(e, NULL, &whole);
    float *sum = arena_alloc(memory, e->n_parameters * sizeof(float), 64), logits[SEQUENCES];
    double *wide = arena_alloc(memory, e->n_parameters * sizeof(double), 8);
    encoder_tape *tape = NULL;
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, POSITIONS, NULL), DRR_OK);
    for (size_t s = 0; s < SEQUENCES; s += s ? 2 : 1) { /* 1, 2 and 1 sequences */
        const size_t n = s == 1 ? 2 : 1;
        const uint32_t offsets[3] = {0, starts[s + 1] - starts[s], starts[s + n] - starts[s]};
        assert_int_equal(encoder_backward(e, tape, ids + starts[s], offsets, n, labels + s, weights + s, 5, NULL, sum,
                                          logits + s, &parts, NULL),
                         DRR_OK);
    }
    for (size_t i = 0; i < e->n_parameters; i++)
        wide[i] = (double)gradients[i];
    assert_true(fabs(whole - parts) < 1e-5); /* logits are floats */
    assert_close_f("sum of parts", sum, wide, e->n_parameters, 1e-5);
    encoder_tape_free(tape);
    encoder_free(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_memory, give_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(logits_are_those_of_the_encoder_in_double),
        TEST(a_sequence_does_not_see_what_it_is_packed_with),
        TEST(a_batch_that_does_not_fit_is_refused),
        TEST(every_gradient_is_the_derivative),
        TEST(every_gradient_is_the_derivative_under_a_dropout_mask),
        TEST(dropout_changes_with_the_step_and_not_without),
        TEST(parts_of_a_batch_add_up_to_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
