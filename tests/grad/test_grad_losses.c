/* test_grad_losses.c: the losses beside plain cross-entropy, and a head of tokens. Gradients of the losses by finite
 * differences in double of formulas written out here; those of a whole encoder whose head reads several rows of each
 * sequence, by a twin of it in double made of the plain kernels, with dropout and without. */
#include "grad/compare.h"
#include "tensor/reference.h"
#include "train/train.h"

/* ---- the ranking loss */

enum { EXAMPLES = 12 };

/* Groups of 3, 1, 5 (all right), 3. */
static const bool joined[EXAMPLES] = {false, true, true, false, false, true, true, true, true, false, true, true};
static const uint8_t labels[EXAMPLES] = {0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1};
static const size_t first_of[EXAMPLES] = {0, 0, 0, 3, 4, 4, 4, 4, 4, 9, 9, 9};
#define RANK_WEIGHT 0.7
#define TOTAL 16.0

/* docs/model.md's formula, term by term: W / N * sum over groups of size * mean over pairs. */
static double rank_in_double(void *context)
{
    const double *z = context;
    double loss = 0;
    for (size_t g = 0; g < EXAMPLES; g++) {
        double sum = 0, pairs = 0, size = 0;
        for (size_t i = 0; i < EXAMPLES; i++) {
            size += first_of[i] == g;
            for (size_t k = 0; k < EXAMPLES; k++)
                if (first_of[i] == g && first_of[k] == g && labels[i] == 1 && labels[k] == 0) {
                    sum += log(1 + exp(z[k] - z[i]));
                    pairs++;
                }
        }
        loss += pairs > 0 ? RANK_WEIGHT / TOTAL * size * sum / pairs : 0;
    }
    return loss;
}

static void the_ranking_loss_has_the_gradient_of_its_formula(void **state)
{
    (void)state;
    const values z = draw(EXAMPLES, 4, 2);
    float slopes[EXAMPLES] = {0};
    const double loss = rank_logits(slopes, z.f, NULL, labels, joined, EXAMPLES, RANK_WEIGHT, TOTAL);
    assert_true(fabs(loss - rank_in_double(z.d)) < 1e-9);
    assert_close_f("ranking", slopes, differences(z.d, EXAMPLES, rank_in_double, z.d), EXAMPLES, 1e-5);
    double sum = 0;
    for (size_t i = 0; i < EXAMPLES; i++) {
        sum += (double)slopes[i];
        if (first_of[i] == 3 || first_of[i] == 4) /* alone, or all right */
            assert_true(!(fabsf(slopes[i]) > 0));
        else
            assert_true(labels[i] ? slopes[i] < 0 : slopes[i] > 0);
    }
    assert_true(fabs(sum) < 1e-7); /* only differences count */
}

static void the_ranking_loss_adds_to_the_gradients_of_the_reads_it_is_told(void **state)
{
    (void)state;
    const values z = draw(EXAMPLES, 4, 2);
    uint32_t at[EXAMPLES];
    float spread[3 * EXAMPLES], slopes[3 * EXAMPLES], plain[EXAMPLES] = {0};
    for (size_t i = 0; i < 3 * EXAMPLES; i++) {
        spread[i] = 100;
        slopes[i] = 0.25f;
    }
    for (size_t i = 0; i < EXAMPLES; i++) {
        at[i] = (uint32_t)(3 * i + 2);
        spread[at[i]] = z.f[i];
    }
    const double a = rank_logits(plain, z.f, NULL, labels, joined, EXAMPLES, RANK_WEIGHT, TOTAL);
    const double b = rank_logits(slopes, spread, at, labels, joined, EXAMPLES, RANK_WEIGHT, TOTAL);
    assert_true(!(fabs(a - b) > 0));
    for (size_t i = 0; i < 3 * EXAMPLES; i++)
        assert_true(fabsf(slopes[i] - 0.25f - (i % 3 == 2 ? plain[i / 3] : 0)) < 1e-7f);
}

static void far_apart_logits_give_finite_losses(void **state)
{
    (void)state;
    const float z[4] = {3e4f, -3e4f, -3e4f, 3e4f};
    const uint8_t right[4] = {0, 1, 0, 1};
    const bool pair[4] = {false, true, false, true};
    float slopes[4] = {0};
    const double loss = rank_logits(slopes, z, NULL, right, pair, 4, 1, 4);
    assert_true(fabs(loss - 2 * 6e4 / 4) < 1e-6); /* the first pair is 6e4 in the wrong order, the second right */
    assert_true(fabsf(slopes[0] - 0.5f) < 1e-6f && fabsf(slopes[1] + 0.5f) < 1e-6f);
    assert_true(fabsf(slopes[2]) < 1e-6f && fabsf(slopes[3]) < 1e-6f);
}

/* ---- soft labels */

static double soft_in_double(void *context)
{
    const double *z = context, *y = z + EXAMPLES, *w = y + EXAMPLES;
    double loss = 0;
    for (size_t i = 0; i < EXAMPLES; i++) {
        const double p = 1 / (1 + exp(-z[i]));
        loss -= w[i] / TOTAL * (y[i] * log(p) + (1 - y[i]) * log(1 - p));
    }
    return loss;
}

static void soft_labels_have_the_gradient_of_cross_entropy(void **state)
{
    (void)state;
    values x = draw(3 * EXAMPLES, 9, 1); /* logits, targets, weights */
    for (size_t i = EXAMPLES; i < 3 * EXAMPLES; i++) {
        x.f[i] = i < EXAMPLES + 2 ? (float)(i - EXAMPLES) : 1 / (1 + expf(-x.f[i])); /* 0 and 1 among them */
        x.d[i] = (double)x.f[i];
    }
    float slopes[EXAMPLES];
    const double loss = soft_bce_logits(slopes, x.f, x.f + EXAMPLES, x.f + 2 * EXAMPLES, EXAMPLES, TOTAL);
    assert_true(fabs(loss - soft_in_double(x.d)) < 1e-6);
    assert_close_f("soft labels", slopes, differences(x.d, EXAMPLES, soft_in_double, x.d), EXAMPLES, 1e-5);
}

static void hard_labels_are_soft_ones(void **state)
{
    (void)state;
    const values z = draw(EXAMPLES, 4, 2);
    float targets[EXAMPLES], weights[EXAMPLES], soft[EXAMPLES], hard[EXAMPLES];
    for (size_t i = 0; i < EXAMPLES; i++) {
        targets[i] = labels[i];
        weights[i] = 0.5f + (float)i;
    }
    const double a = soft_bce_logits(soft, z.f, targets, weights, EXAMPLES, TOTAL);
    const double b = bce_logits(hard, z.f, labels, weights, EXAMPLES, TOTAL);
    assert_true(!(fabs(a - b) > 1e-12));
    assert_memory_equal(soft, hard, sizeof soft);
}

/* ---- a whole encoder with a head of tokens */

enum {
    WIDTH = 16,
    HEADS = 4,
    FF = 24,
    VOCABULARY = 50,
    LAYERS = 2,
    POSITIONS = 12,
    SEQUENCES = 4,
    TOKENS = 22,
    READS = 9
};
#define EPSILON 1e-12

static const uint32_t starts[SEQUENCES + 1] = {0, 7, 8, 12, TOKENS};
static const int32_t ids[TOKENS] = {2, 7, 9, 9, 30, 7, 3, 2, 2, 49, 0, 3, 2, 11, 12, 13, 14, 15, 11, 30, 30, 3};
static const uint32_t rows[READS] = {2, 4, 6, 7, 9, 11, 12, 20, 21}, row_starts[SEQUENCES + 1] = {0, 3, 4, 6, READS};
static const float targets[READS] = {0.25f, 1, 1, 0, 0.5f, 0, 0.75f, 0, 1};
static const float read_weights[READS] = {0.5f, 1.5f, 1, 2, 0.25f, 1, 1, 3, 0.5f};
static const uint8_t sequence_labels[SEQUENCES] = {1, 0, 0, 1};
static const bool sequence_joined[SEQUENCES] = {false, true, true, true};
static const uint32_t last_reads[SEQUENCES] = {2, 3, 5, 8};

static encoder *new_encoder(void)
{
    const encoder_shape tiny = {.n_layers = LAYERS,
                                .n_embd = WIDTH,
                                .n_heads = HEADS,
                                .n_ff = FF,
                                .n_vocab = VOCABULARY,
                                .n_positions = POSITIONS,
                                .n_types = 2,
                                .norm_epsilon = (float)EPSILON};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new_headed(&e, &tiny, DRR_HEAD_TOKEN, NULL), DRR_OK);
    rng_seed(&r, 5);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *tensor = &e->tensors[t];
        const bool gain = strstr(tensor->name, "norm.weight") != NULL;
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            e->parameters[tensor->offset + i] = (gain ? 1.0f : 0.0f) + 0.4f * (float)rng_normal(&r);
    }
    return e;
}

typedef struct twin {
    const encoder *e;
    double *parameters;
    const encoder_dropout *d;
    double logits[READS];
} twin;

static twin twin_of(const encoder *e, const encoder_dropout *d)
{
    twin t = {.e = e, .parameters = arena_alloc(memory, e->n_parameters * sizeof(double), 8), .d = d};
    assert_non_null(t.parameters);
    for (size_t i = 0; i < e->n_parameters; i++)
        t.parameters[i] = (double)e->parameters[i];
    return t;
}

static const double *at_name(const twin *t, const char *name)
{
    const encoder_tensor *tensor = encoder_find(t->e, name);
    assert_non_null(tensor);
    return t->parameters + tensor->offset;
}

static const double *in_layer(const twin *t, uint32_t layer, const char *name)
{
    char whole[64];
    snprintf(whole, sizeof whole, "blk.%u.%s", layer, name);
    return at_name(t, whole);
}

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

/* x, [TOKENS][WIDTH], becomes the layer's output: of all rows, or of the rows that are read. */
static void twin_layer(const twin *t, uint32_t layer, double *x, bool read_only)
{
    static double asks[TOKENS * WIDTH], q[TOKENS * WIDTH], kv[TOKENS * 2 * WIDTH], context[TOKENS * WIDTH],
        sum[TOKENS * WIDTH], mid[TOKENS * WIDTH], up[TOKENS * FF], mean[TOKENS], rstd[TOKENS],
        probabilities[HEADS * TOKENS * TOKENS];
    const attention_shape shape = {.width = WIDTH,
                                   .heads = HEADS,
                                   .q_starts = read_only ? row_starts : starts,
                                   .kv_starts = starts,
                                   .n = SEQUENCES,
                                   .longest = POSITIONS};
    const size_t n = shape.q_starts[SEQUENCES];
    const dropout sites[3] = {encoder_layer_site(t->d, layer, ENCODER_SITE_PROBABILITIES),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_ATTENTION),
                              encoder_layer_site(t->d, layer, ENCODER_SITE_FEED_FORWARD)};
    for (size_t r = 0; r < n; r++)
        memcpy(asks + r * WIDTH, x + (read_only ? rows[r] : r) * WIDTH, WIDTH * sizeof *x);
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

static double twin_loss(void *context)
{
    twin *t = context;
    static double x[TOKENS * WIDTH], mean[TOKENS], rstd[TOKENS];
    const dropout embedding = encoder_site(t->d, ENCODER_SITE_EMBEDDING), head = encoder_site(t->d, ENCODER_SITE_HEAD);
    double loss = 0;
    reference_embedding_forward_f64(x, ids, starts, SEQUENCES, at_name(t, "token_embd.weight"),
                                    at_name(t, "position_embd.weight"), at_name(t, "token_types.weight"), WIDTH);
    reference_layernorm_forward_f64(x, mean, rstd, x, at_name(t, "token_embd_norm.weight"),
                                    at_name(t, "token_embd_norm.bias"), TOKENS, WIDTH, EPSILON);
    reference_dropout_add_f64(x, x, NULL, TOKENS * WIDTH, &embedding);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        twin_layer(t, layer, x, layer + 1 == LAYERS);
    reference_dropout_add_f64(x, x, NULL, READS * WIDTH, &head);
    reference_linear_forward_f64(t->logits, x, at_name(t, "drr.token.weight"), at_name(t, "drr.token.bias"), READS,
                                 WIDTH, 1);
    for (size_t r = 0; r < READS; r++) {
        const double p = 1 / (1 + exp(-t->logits[r])), y = (double)targets[r];
        loss -= (double)read_weights[r] / 5 * (y * log(p) + (1 - y) * log(1 - p));
    }
    for (size_t i = 0; i < SEQUENCES; i++) /* one group of two right and two wrong */
        for (size_t k = 0; k < SEQUENCES; k++)
            if (sequence_labels[i] && !sequence_labels[k])
                loss += 0.5 / 5 * log(1 + exp(t->logits[last_reads[k]] - t->logits[last_reads[i]]));
    return loss;
}

/* The same of the library: weight 0.5 of 4 pairs in a group of 4. */
static double library_loss(void *user, float *dlogits, const float *logits, size_t n)
{
    (void)user;
    assert_int_equal(n, READS);
    return soft_bce_logits(dlogits, logits, targets, read_weights, n, 5) +
           rank_logits(dlogits, logits, last_reads, sequence_labels, sequence_joined, SEQUENCES, 0.5, 5);
}

static float *gradients_of(const encoder *e, const encoder_dropout *d, double *loss)
{
    float *gradients = arena_alloc(memory, e->n_parameters * sizeof(float), 64), logits[READS];
    encoder_tape *tape = NULL;
    assert_non_null(gradients);
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, POSITIONS, NULL), DRR_OK);
    encoder_tape_read(tape, rows, row_starts);
    for (int pass = 0; pass < 2; pass++) { /* a tape is used again and again, and gradients add up */
        *loss = 0;
        assert_int_equal(
            encoder_backward_by(e, tape, ids, starts, SEQUENCES, library_loss, NULL, d, gradients, logits, loss, NULL),
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

static void a_head_of_tokens_is_read_at_the_last_token_unless_told_otherwise(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    encoder_workspace *w = NULL;
    twin t = twin_of(e, NULL);
    float logits[READS], plain[SEQUENCES];
    twin_loss(&t);
    assert_int_equal(encoder_workspace_new(&w, e, TOKENS, SEQUENCES, NULL), DRR_OK);
    assert_int_equal(encoder_logits_at(e, w, ids, starts, SEQUENCES, rows, row_starts, logits, NULL), DRR_OK);
    assert_close_f("logits", logits, t.logits, READS, 1e-5);
    assert_int_equal(encoder_logits(e, w, ids, starts, SEQUENCES, plain, NULL), DRR_OK);
    for (size_t s = 0; s < SEQUENCES; s++) /* rows end with each sequence's last token */
        assert_true(fabsf(plain[s] - logits[last_reads[s]]) < 1e-5f);
    encoder_workspace_free(w);
    encoder_free(e);
}

static void rows_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    encoder *e = new_encoder();
    encoder_workspace *w = NULL;
    float logits[READS];
    const uint32_t outside[] = {2, 4, 7}, twice[] = {2, 2, 6}, falling[] = {4, 2, 6}, good[] = {2, 4, 6};
    const uint32_t three[] = {0, 3}, late[] = {1, 3}, none[] = {0, 0};
    const uint32_t *const bad[] = {outside, twice, falling};
    assert_int_equal(encoder_workspace_new(&w, e, TOKENS, SEQUENCES, NULL), DRR_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, bad[i], three, logits, NULL), DRR_E_ARGUMENT);
    assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, good, late, logits, NULL), DRR_E_ARGUMENT);
    assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, good, none, logits, NULL), DRR_E_ARGUMENT);
    assert_int_equal(encoder_logits_at(e, w, ids, starts, 1, good, three, logits, NULL), DRR_OK);
    encoder_workspace_free(w);
    encoder_free(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_memory, give_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_ranking_loss_has_the_gradient_of_its_formula),
        TEST(the_ranking_loss_adds_to_the_gradients_of_the_reads_it_is_told),
        TEST(far_apart_logits_give_finite_losses),
        TEST(soft_labels_have_the_gradient_of_cross_entropy),
        TEST(hard_labels_are_soft_ones),
        TEST(every_gradient_is_the_derivative),
        TEST(every_gradient_is_the_derivative_under_a_dropout_mask),
        TEST(a_head_of_tokens_is_read_at_the_last_token_unless_told_otherwise),
        TEST(rows_that_cannot_be_read_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
