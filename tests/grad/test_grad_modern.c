/* test_grad_modern.c: what ModernBERT adds: gated GELU, rotary positions, the mean of rows, attention within a window,
 * layers without biases; each against its plain twin and finite differences in double. And the whole encoder of that
 * family: its gradient under dropout is the derivative along a line (without dropout, tests/parity compares each tensor
 * with torch's). */
#include "grad/compare.h"
#include "tensor/reference.h"
#include "train/train.h"

#define F32 3e-5
#define NUMERICAL 1e-6

/* ---- gated GELU */

typedef struct gated {
    size_t rows, width;
    values up, y, dy;
} gated;

static double gated_loss(void *context)
{
    gated *g = context;
    reference_geglu_forward_f64(g->y.d, g->up.d, g->rows, g->width);
    return product(g->y.d, g->dy.d, g->y.n);
}

static void gated_gelu_matches_and_so_does_its_derivative(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {3, 5}, {17, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t rows = shapes[i][0], width = shapes[i][1];
        gated g = {rows, width, draw(rows * 2 * width, 1, 1.5), zeros(rows * width), draw(rows * width, 2, 1)};
        const values dup = zeros(g.up.n);
        geglu_forward(g.y.f, g.up.f, rows, width);
        gated_loss(&g);
        assert_close_f("geglu", g.y.f, g.y.d, g.y.n, F32);
        const double *numerical = differences(g.up.d, g.up.n, gated_loss, &g);
        geglu_backward(dup.f, g.dy.f, g.up.f, rows, width);
        reference_geglu_backward_f64(dup.d, g.dy.d, g.up.d, rows, width);
        assert_close("plain dup", dup.d, numerical, dup.n, NUMERICAL);
        assert_close_f("dup", dup.f, numerical, dup.n, F32);
    }
}

/* ---- rotary positions */

enum { HEADS = 3, HEAD_WIDTH = 6, LD = HEADS * HEAD_WIDTH + 5, ROWS = 13 };
static const uint32_t unequal[] = {0, 3, 4, 11, ROWS};
static const rotary_shape turning = {HEADS, HEAD_WIDTH, unequal, 4};

static void rotary_positions_turn_and_turn_back(void **state)
{
    (void)state;
    const values x = draw((size_t)ROWS * LD, 1, 1), kept = draw((size_t)ROWS * LD, 1, 1), table = zeros(7 * HEAD_WIDTH);
    rotary_table(table.f, 7, HEAD_WIDTH, 10000.0f);
    rotary_forward(x.f, LD, &turning, table.f);
    reference_rotary_f64(x.d, LD, &turning, 10000, false);
    assert_close_f("turned", x.f, x.d, x.n, F32);
    assert_memory_not_equal(x.f, kept.f, x.n * sizeof(float));
    assert_memory_equal(x.f, kept.f, HEADS * HEAD_WIDTH * sizeof(float)); /* the first token stands at 0 */
    rotary_backward(x.f, LD, &turning, table.f);
    assert_close_f("turned back", x.f, kept.d, x.n, F32); /* a turn's transpose is its inverse */
}

/* ---- the mean of rows */

static void a_mean_of_rows_and_its_share_back(void **state)
{
    (void)state;
    const values x = draw((size_t)ROWS * 7, 1, 1), y = zeros(4 * 7), dy = draw(4 * 7, 2, 1), dx = zeros(x.n);
    rows_mean(y.f, x.f, unequal, 4, 7);
    reference_rows_mean_f64(y.d, x.d, unequal, 4, 7);
    assert_close_f("mean", y.f, y.d, y.n, F32);
    rows_mean_backward(dx.f, dy.f, unequal, 4, 7);
    for (size_t i = 0; i < dx.n; i++) { /* linear: <dy, mean(x)> = <dx, x> */
        const size_t s = i / 7 < 3 ? 0 : i / 7 < 4 ? 1 : i / 7 < 11 ? 2 : 3;
        dx.d[i] = dy.d[s * 7 + i % 7] / (double)(unequal[s + 1] - unequal[s]);
    }
    assert_close_f("share", dx.f, dx.d, dx.n, F32);
}

/* ---- attention within a window */

typedef struct attention {
    attention_shape shape;
    const dropout *site;
    values q, kv, context, dcontext, probabilities;
} attention;

static double attention_loss(void *context)
{
    attention *a = context;
    reference_attention_forward_f64(a->context.d, a->probabilities.d, a->q.d, a->kv.d, &a->shape, a->site);
    return product(a->context.d, a->dcontext.d, a->context.n);
}

static void check_window(const attention_shape *s, const dropout *site, bool numerical)
{
    const size_t rows = s->q_starts[s->n], keys = s->kv_starts[s->n], width = s->width;
    attention a = {*s,
                   site,
                   draw(rows * width, 1, 1),
                   draw(keys * 2 * width, 2, 1),
                   zeros(rows * width),
                   draw(rows * width, 3, 1),
                   zeros(reference_attention_probabilities_f64(s))};
    const values dq = zeros(a.q.n), dkv = zeros(a.kv.n), log_sum = zeros(rows * s->heads),
                 scratch = zeros(attention_scratch(s->longest, parallel_threads()));
    attention_loss(&a);
    for (size_t i = 0; i < scratch.n; i++)
        scratch.f[i] = NAN; /* nothing is read that was not written */
    attention_forward(a.context.f, log_sum.f, a.q.f, a.kv.f, s, site, scratch.f);
    assert_close_f("context", a.context.f, a.context.d, a.context.n, F32);
    for (size_t i = 0; i < dkv.n; i++)
        dkv.f[i] = NAN; /* overwritten, not added to */
    attention_backward(dq.f, dkv.f, a.dcontext.f, a.context.f, log_sum.f, a.q.f, a.kv.f, s, site, scratch.f);
    reference_attention_backward_f64(dq.d, dkv.d, a.dcontext.d, a.probabilities.d, a.q.d, a.kv.d, s, site);
    assert_close_f("dq", dq.f, dq.d, dq.n, 5 * F32);
    assert_close_f("dkv", dkv.f, dkv.d, dkv.n, 5 * F32);
    if (!numerical)
        return;
    assert_close("plain dq", dq.d, differences(a.q.d, a.q.n, attention_loss, &a), dq.n, NUMERICAL);
    assert_close("plain dkv", dkv.d, differences(a.kv.d, a.kv.n, attention_loss, &a), dkv.n, NUMERICAL);
}

static void a_window_hides_what_lies_outside(void **state)
{
    (void)state;
    static const uint32_t longer[] = {0, 65, 66, 199, 399}, firsts[] = {0, 1, 2, 3, 4};
    const dropout site = dropout_site(0.25f, 1, 2, 3);
    for (size_t window = 1; window <= 9; window += 2) { /* the last is wider than any sequence */
        const attention_shape all = {6, 2, unequal, unequal, 4, 7, window},
                              first = {6, 2, firsts, unequal, 4, 7, window};
        check_window(&all, NULL, true);
        check_window(&all, &site, true);
        check_window(&first, NULL, true);
    }
    for (size_t window = 1; window < 300; window = 3 * window + 1) { /* blocks of rows, and their edges */
        const attention_shape large = {8, 2, longer, longer, 4, 200, window};
        check_window(&large, NULL, false);
        check_window(&large, &site, false);
    }
}

/* ---- without biases */

static void what_has_no_bias_takes_none(void **state)
{
    (void)state;
    enum { N = 5, IN = 7, OUT = 9 };
    const values x = draw(N * IN, 1, 1), w = draw(OUT * IN, 2, 1), zero = zeros(OUT), y = zeros(N * OUT),
                 other = zeros(N * OUT), dy = draw(N * OUT, 3, 1), dx = zeros(N * IN), dw = zeros(OUT * IN),
                 gain = draw(OUT, 4, 1), mean = zeros(N), rstd = zeros(N), dgain = zeros(OUT), dnorm = zeros(N * OUT);
    linear_forward(y.f, x.f, w.f, NULL, N, IN, OUT);
    linear_forward(other.f, x.f, w.f, zero.f, N, IN, OUT);
    assert_memory_equal(y.f, other.f, y.n * sizeof(float));
    linear_backward(dx.f, 0.0f, dw.f, NULL, dy.f, x.f, w.f, N, IN, OUT);
    reference_linear_backward_f64(dx.d, 0, dw.d, NULL, dy.d, x.d, w.d, N, IN, OUT);
    assert_close_f("dw", dw.f, dw.d, dw.n, F32);
    layernorm_forward(y.f, mean.f, rstd.f, dy.f, gain.f, NULL, N, OUT, 1e-5f);
    layernorm_forward(other.f, mean.f, rstd.f, dy.f, gain.f, zero.f, N, OUT, 1e-5f);
    assert_memory_equal(y.f, other.f, y.n * sizeof(float));
    reference_layernorm_forward_f64(y.d, mean.d, rstd.d, dy.d, gain.d, NULL, N, OUT, 1e-5);
    layernorm_backward(dnorm.f, dgain.f, NULL, y.f, dy.f, mean.f, rstd.f, gain.f, N, OUT);
    reference_layernorm_backward_f64(dnorm.d, dgain.d, NULL, y.d, dy.d, mean.d, rstd.d, gain.d, N, OUT);
    assert_close_f("dgain", dgain.f, dgain.d, dgain.n, F32);
}

/* ---- the whole encoder */

enum { WIDTH = 16, VOCABULARY = 50, POSITIONS = 24, SEQUENCES = 4, TOKENS = 48 };
static const uint32_t starts[SEQUENCES + 1] = {0, 20, 21, 25, TOKENS};
static const uint8_t labels[SEQUENCES] = {1, 0, 0, 1};

static encoder *new_encoder(encoder_pooling pooling)
{
    const encoder_shape shape = {.n_layers = 4,
                                 .n_embd = WIDTH,
                                 .n_heads = 4,
                                 .n_ff = 24,
                                 .n_vocab = VOCABULARY,
                                 .n_positions = POSITIONS,
                                 .n_types = 1,
                                 .norm_epsilon = 1e-5f,
                                 .family = ENCODER_MODERNBERT,
                                 .pooling = pooling,
                                 .window = 8,
                                 .global_every = 3,
                                 .rope_base = 160000,
                                 .rope_base_local = 10000};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    rng_seed(&r, 5);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *tensor = &e->tensors[t];
        const bool gain = strstr(tensor->name, "norm.weight") != NULL;
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            e->parameters[tensor->offset + i] = (gain ? 1.0f : 0.0f) + 0.3f * (float)rng_normal(&r);
    }
    return e;
}

static void draw_ids(int32_t *ids)
{
    rng r;
    rng_seed(&r, 9);
    for (size_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)rng_below(&r, VOCABULARY);
}

static double loss_of(const encoder *e, encoder_tape *tape, const encoder_dropout *d, float *gradients)
{
    int32_t ids[TOKENS];
    float logits[SEQUENCES];
    double loss = 0;
    draw_ids(ids);
    assert_int_equal(
        encoder_backward(e, tape, ids, starts, SEQUENCES, labels, NULL, 1, d, gradients, logits, &loss, NULL), DRR_OK);
    return loss;
}

/* Along a direction that moves one tensor alone: so that each of them is seen. */
static void check_line(encoder *e, encoder_tape *tape, const encoder_dropout *d, const float *gradients,
                       const encoder_tensor *t, double whole)
{
    const size_t n = (size_t)t->rows * t->columns;
    const double h = 2e-3;
    float *values_of = e->parameters + t->offset;
    const float *gradient = gradients + t->offset;
    float *spare = arena_alloc(memory, e->n_parameters * sizeof(float), 64),
          *kept = arena_alloc(memory, n * sizeof(float), 64);
    const double norm = gradient_norm(gradient, n);
    assert_true(norm > 1e-4 * whole); /* every tensor has a part in the loss */
    memcpy(kept, values_of, n * sizeof(float));
    double sides[2], length = 0;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            values_of[i] = kept[i] + (float)((side ? -h : h) * (double)gradient[i] / norm);
        sides[side] = loss_of(e, tape, d, spare);
    }
    for (size_t i = 0; i < n; i++) {
        const double moved = (double)((float)(h * (double)gradient[i] / norm));
        length += moved * (double)gradient[i];
    }
    memcpy(values_of, kept, n * sizeof(float));
    const double expected = (sides[0] - sides[1]) / 2;
    if (!(fabs(length - expected) <= 1e-2 * fabs(expected) + 3e-6))
        fail_msg("%s: the loss moves by %.6g and the gradient says %.6g", t->name, expected, length);
}

static void check_encoder(encoder_pooling pooling, const encoder_dropout *d)
{
    encoder *e = new_encoder(pooling);
    encoder_tape *tape = NULL;
    float *gradients = arena_alloc(memory, e->n_parameters * sizeof(float), 64);
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, POSITIONS, NULL), DRR_OK);
    loss_of(e, tape, d, gradients);
    const double whole = gradient_norm(gradients, e->n_parameters);
    for (size_t t = 0; t < e->n_tensors; t++)
        check_line(e, tape, d, gradients, &e->tensors[t], whole);
    encoder_tape_free(tape);
    encoder_free(e);
}

static void the_gradient_of_the_encoder_is_its_derivative(void **state)
{
    (void)state;
    const encoder_dropout d = {.rate = 0.2f, .seed = 3, .step = 4};
    for (int mean = 0; mean < 2; mean++) {
        check_encoder(mean ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST, NULL);
        check_encoder(mean ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST, &d);
    }
}

/* Scoring shares memory among layers and training does not: the same logits come of both; and nobody sees its
 * neighbours in a batch. */
static void scoring_and_training_agree_and_so_do_batches(void **state)
{
    (void)state;
    for (int mean = 0; mean < 2; mean++) {
        encoder *e = new_encoder(mean ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST);
        encoder_workspace *kept = NULL, *shared = NULL;
        int32_t ids[TOKENS];
        float logits[2][SEQUENCES], alone;
        draw_ids(ids);
        assert_int_equal(encoder_workspace_plan(&kept, e, TOKENS, SEQUENCES, POSITIONS, true, NULL), DRR_OK);
        assert_int_equal(encoder_workspace_plan(&shared, e, TOKENS, SEQUENCES, POSITIONS, false, NULL), DRR_OK);
        assert_int_equal(encoder_logits(e, kept, ids, starts, SEQUENCES, logits[0], NULL), DRR_OK);
        assert_int_equal(encoder_logits(e, shared, ids, starts, SEQUENCES, logits[1], NULL), DRR_OK);
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        for (size_t s = 0; s < SEQUENCES; s++) {
            const uint32_t one[2] = {0, starts[s + 1] - starts[s]};
            assert_int_equal(encoder_logits(e, shared, ids + starts[s], one, 1, &alone, NULL), DRR_OK);
            assert_true(fabsf(alone - logits[0][s]) < 1e-5f);
        }
        assert_true(fabsf(logits[0][0] - logits[0][3]) > 1e-3f);
        encoder_workspace_free(kept);
        encoder_workspace_free(shared);
        encoder_free(e);
    }
}

static void its_products_are_never_bf16(void **state)
{
    (void)state;
    encoder *e = new_encoder(ENCODER_POOLING_MEAN);
    drr_precision precision = DRR_PRECISION_BF16;
    assert_int_equal(encoder_set_precision(e, &precision, NULL), DRR_E_BACKEND);
    precision = DRR_PRECISION_AUTO;
    assert_int_equal(encoder_set_precision(e, &precision, NULL), DRR_OK);
    assert_int_equal(precision, DRR_PRECISION_FP32);
    assert_false(e->bf16);
    encoder_free(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_memory, give_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gated_gelu_matches_and_so_does_its_derivative),
        TEST(rotary_positions_turn_and_turn_back),
        TEST(a_mean_of_rows_and_its_share_back),
        TEST(a_window_hides_what_lies_outside),
        TEST(what_has_no_bias_takes_none),
        TEST(the_gradient_of_the_encoder_is_its_derivative),
        TEST(scoring_and_training_agree_and_so_do_batches),
        TEST(its_products_are_never_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
