/* test_tensor_int8.c: products of 8-bit integers are exact sums of what was rounded, for all remainders of rows, inputs
 * and outputs, and touch nothing beside their operands; attention for scoring is the plain one; and an encoder in int8
 * gives fp32's logits to within rounding. On a CPU without AVX512_VNNI products are skipped. */
#include "guard/guarded.h"
#include "tensor/int8.h"
#include "tensor/reference.h"
#include "train_fixture.h"

#include <math.h>

static guarded take(size_t bytes, bool at_end)
{
    guarded g = guarded_new(bytes, at_end);
    assert_non_null(g.data);
    return g;
}

static void give_back(guarded *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!guarded_free(&all[i]))
            fail_msg("something was written beside operand %zu", i);
}

static float *floats(const guarded *g)
{
    return (float *)(void *)g->data;
}

static void draw(float *x, size_t n, uint64_t seed, double size)
{
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * rng_normal(&r));
}

static void a_row_is_rounded_over_its_span(void **state)
{
    (void)state;
    float x[4][5] = {{0.5f, -2, 1, 0, 0.008f}, {0}, {1, NAN, INFINITY, 0, 0}, {2.53f, 2.53f, 1.27f, 2.53f, 2.53f}};
    int8_t q[4 * 64];
    float scale[4], zero[4];
    int32_t offset[4];
    const int8_rows to = {q, scale, zero, offset, int8_ld(5)};
    assert_int_equal(int8_ld(5), 64);
    int8_round(&to, x[0], 4, 5);
    /* a step is 3/253: -2 is 169 of them below 0, 1 is 84 above */
    static const int8_t first[8] = {84, -127, 126, 42, 43, 0, 0, 0};
    assert_memory_equal(q, first, 8); /* and the rest of a group of four is 0 */
    assert_true(scale[0] == 3.0f / 253 && zero[0] == 42 && offset[0] == 128 * (84 - 127 + 126 + 42 + 43));
    assert_true(scale[1] == 0 && zero[1] == 0 && offset[1] == 0 && q[64] == 0);
    assert_true(isnan(scale[2]));
    /* all on one side: 0 is the lowest step */
    static const int8_t high[8] = {126, 126, 0, 126, 126, 0, 0, 0};
    assert_memory_equal(q + 3 * 64, high, 8);
    assert_true(zero[3] == -127);
}

/* Whatever a row's span, its ends stay within a byte: rounding each of them up must not reach 128. */
static void no_end_of_a_row_leaves_the_byte(void **state)
{
    (void)state;
    rng r;
    rng_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        const float low = -(float)rng_uniform(&r), x[3] = {low, low + (float)rng_uniform(&r) * 2, 0};
        int8_t q[64];
        float scale, zero;
        int32_t offset;
        const int8_rows to = {q, &scale, &zero, &offset, 64};
        int8_round(&to, x, 1, 3);
        for (int j = 0; j < 3; j++)
            if (!(fabsf(((float)q[j] - zero) * scale - x[j]) <= 1.001f * scale))
                fail_msg("%g of a row from %g to %g became %g", (double)x[j], (double)x[0], (double)x[1],
                         (double)(((float)q[j] - zero) * scale));
    }
}

/* In exact arithmetic from the rounded operands. */
static void check_product(size_t rows, size_t in, size_t out, bool at_end)
{
    const size_t ld = out + 3, x_ld = int8_ld(in);
    guarded g[10] = {take(rows * in * 4, at_end),
                     take(out * in * 4, at_end),
                     take(out * 4, at_end),
                     take(rows * x_ld, at_end),
                     take(rows * 4, at_end),
                     take(rows * 4, at_end),
                     take(rows * 4, at_end),
                     take(int8_packed(in, out), at_end),
                     take(int8_scales(out) * 4, at_end),
                     take(int8_scales(out) * 4, at_end)};
    guarded result = take(((rows - 1) * ld + out) * 4, at_end);
    float *x = floats(&g[0]), *plain = floats(&g[1]), *bias = floats(&g[2]), *y = floats(&result);
    const int8_rows x8 = {(int8_t *)g[3].data, floats(&g[4]), floats(&g[5]), (int32_t *)(void *)g[6].data, x_ld};
    const int8_weights w = {in, out, g[7].data, floats(&g[8]), floats(&g[9])};
    draw(x, rows * in, rows, 1);
    draw(plain, out * in, in, 0.1);
    draw(bias, out, out, 1);
    int8_round(&x8, x, rows, in);
    int8_pack(&w, plain);
    int8_product(y, ld, &x8, rows, &w, bias);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double exact = 0, rounded = 0;
            float most = 0, most_x = 0;
            for (size_t i = 0; i < in; i++) {
                most = fmaxf(most, fabsf(plain[o * in + i]));
                most_x = fmaxf(most_x, fabsf(x[r * in + i]));
            }
            for (size_t i = 0; i < in; i++) {
                const double w8 = nearbyint((double)(plain[o * in + i] * (127.0f / most)));
                rounded += w8 * ((double)x8.data[r * x_ld + i] - (double)x8.zero[r]);
                exact += (double)plain[o * in + i] * (double)x[r * in + i];
            }
            const double got = (double)y[r * ld + o] - (double)bias[o];
            const double want = rounded * (double)x8.scale[r] * (double)most / 127;
            if (fabs(got - want) > 1e-5 * (fabs(want) + fabs((double)bias[o]) + 1e-3))
                fail_msg("%zu rows, %zu in, %zu out: [%zu][%zu] is %g, not %g", rows, in, out, r, o, got, want);
            /* each factor is off by half a step at most */
            assert_true(fabs(got - exact) < (double)in * (double)(most * most_x) * (1.01 / 127) + 1e-5);
        }
    give_back(g, 10);
    give_back(&result, 1);
}

static void a_product_is_the_sum_of_its_integers(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 3, 4, 47, 48, 49, 64, 96, 100};
    if (!int8_is_native())
        skip();
    for (size_t rows = 1; rows <= 17; rows++)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
            for (size_t o = 0; o < sizeof widths / sizeof *widths; o++)
                check_product(rows, widths[i], widths[o], (rows + i + o) % 2);
    check_product(65, 1536, 384, true);
    check_product(8, 384, 1152, true);
}

/* The largest sums there can be: 126 times 127 and 127 times 127 for the zero, 65,536 times, with either sign. */
static void no_sum_overflows(void **state)
{
    (void)state;
    enum { IN = 65536 };
    if (!int8_is_native())
        skip();
    for (int sign = -1; sign <= 1; sign += 2) {
        guarded g[4] = {take(IN * 4, true), take(IN * 4, true), take(IN, true), take(int8_packed(IN, 1), true)};
        float scale, x_zero, w_scale[48], w_sum[48], y = 0, zero = 0;
        int32_t offset;
        for (size_t i = 0; i < IN; i++) {
            floats(&g[0])[i] = 1;
            floats(&g[1])[i] = (float)sign;
        }
        const int8_rows x = {(int8_t *)g[2].data, &scale, &x_zero, &offset, IN};
        const int8_weights w = {IN, 1, g[3].data, w_scale, w_sum};
        int8_round(&x, floats(&g[0]), 1, IN);
        int8_pack(&w, floats(&g[1]));
        int8_product(&y, 1, &x, 1, &w, &zero);
        assert_true(fabsf(y - (float)(sign * IN)) < 0.1f);
        give_back(g, 4);
    }
}

static void check_attention(size_t n_q, size_t n, size_t head_width, bool at_end)
{
    const size_t ld = 3 * head_width, all = n_q > n ? n_q : n;
    const uint32_t q_starts[2] = {0, (uint32_t)n_q}, kv_starts[2] = {0, (uint32_t)n};
    const attention_shape shape = {
        .width = head_width, .heads = 1, .q_starts = q_starts, .kv_starts = kv_starts, .n = 1, .longest = n};
    guarded g[3] = {take(all * ld * 4, at_end), take(n_q * head_width * 4, at_end),
                    take(score_attention_scratch(n, head_width) * 4, at_end)};
    float *qkv = floats(&g[0]), *context = floats(&g[1]);
    float *q = calloc(n_q * head_width, 4), *kv = calloc(2 * n * head_width, 4), *plain = calloc(n_q * head_width, 4);
    float *probabilities = calloc(reference_attention_probabilities_f32(&shape), 4);
    draw(qkv, all * ld, n, 1);
    for (size_t i = 0; i < n_q; i++)
        memcpy(q + i * head_width, qkv + i * ld, head_width * 4);
    for (size_t i = 0; i < n; i++)
        memcpy(kv + 2 * i * head_width, qkv + i * ld + head_width, 2 * head_width * 4);
    reference_attention_forward_f32(plain, probabilities, q, kv, &shape, NULL);
    score_attention(context, head_width, qkv, ld, qkv + head_width, qkv + 2 * head_width, ld, n_q, n, head_width,
                    floats(&g[2]));
    for (size_t i = 0; i < n_q * head_width; i++)
        if (!(fabsf(context[i] - plain[i]) < 2e-6f + 1e-5f * fabsf(plain[i])))
            fail_msg("%zu queries, %zu keys, width %zu: [%zu] is %g, not %g", n_q, n, head_width, i, (double)context[i],
                     (double)plain[i]);
    give_back(g, 3);
    free(q);
    free(kv);
    free(plain);
    free(probabilities);
}

static void attention_for_scoring_is_the_plain_one(void **state)
{
    (void)state;
    static const size_t widths[] = {16, 32, 48, 64, 128};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        assert_true(score_attention_takes(widths[w]));
        for (size_t n = 1; n <= 70; n++) {
            check_attention(n, n, widths[w], n % 2);
            check_attention(1, n, widths[w], n % 2);
        }
        check_attention(200, 200, widths[w], true);
    }
    assert_false(score_attention_takes(26));
    assert_false(score_attention_takes(144));
}

static const encoder_shape small = {.n_layers = 2,
                                    .n_embd = 32,
                                    .n_heads = 2,
                                    .n_ff = 64,
                                    .n_vocab = FIXTURE_VOCABULARY,
                                    .n_positions = 32,
                                    .n_types = 2,
                                    .norm_epsilon = 1e-12f};
static const encoder_shape wide = {.n_layers = 2,
                                   .n_embd = 512,
                                   .n_heads = 8,
                                   .n_ff = 2048,
                                   .n_vocab = FIXTURE_VOCABULARY,
                                   .n_positions = 32,
                                   .n_types = 1,
                                   .norm_epsilon = 1e-12f}; /* 48 does not divide it */

/* As a new BERT, but with a head that tells texts apart. */
static encoder *telling_encoder(const encoder_shape *shape, drr_head head, rng *r)
{
    encoder *e = NULL;
    assert_int_equal(encoder_new_headed(&e, shape, head, NULL), DRR_OK);
    for (size_t t = 0; t < e->n_tensors; t++)
        for (size_t i = 0; i < (size_t)e->tensors[t].rows * e->tensors[t].columns; i++)
            e->parameters[e->tensors[t].offset + i] = (strstr(e->tensors[t].name, "norm.weight") ? 1.0f : 0.0f) +
                                                      (float)(rng_normal(r) / sqrt(3.0 * shape->n_embd));
    return e;
}

static void check_logits(const encoder_shape *shape, size_t tokens, uint32_t threads)
{
    encoder_workspace *w[2] = {NULL, NULL};
    int32_t *ids = calloc(tokens, sizeof *ids);
    uint32_t *starts = calloc(tokens + 1, sizeof *starts);
    float *logits[2] = {calloc(tokens, 4), calloc(tokens, 4)};
    size_t n = 0;
    rng r;
    rng_seed(&r, tokens);
    encoder *e = telling_encoder(shape, DRR_HEAD_CLS, &r);
    for (size_t at = 0; at < tokens; n++) {
        const size_t length = 1 + (size_t)rng_below(&r, 30);
        at = at + length < tokens ? at + length : tokens;
        starts[n + 1] = (uint32_t)at;
    }
    for (size_t i = 0; i < tokens; i++)
        ids[i] = (int32_t)rng_below(&r, FIXTURE_VOCABULARY);
    parallel_set_threads(threads);
    for (int eight = 0; eight < 2; eight++) {
        e->int8 = eight;
        assert_int_equal(encoder_workspace_new(&w[eight], e, tokens, n, NULL), DRR_OK);
        for (int again = 0; again < 2; again++)
            assert_int_equal(encoder_logits(e, w[eight], ids, starts, n, logits[eight], NULL), DRR_OK);
        encoder_workspace_free(w[eight]);
    }
    parallel_set_threads(0);
    double error = 0;
    for (size_t i = 0; i < n; i++)
        error += pow((double)(logits[1][i] - logits[0][i]), 2) / (double)n;
    if (!(sqrt(error) < 0.03)) /* the head's tanh and weights make logits of a size of about 0.5 */
        fail_msg("%zu tokens: logits are off by %.4f", tokens, sqrt(error));
    encoder_free(e);
    free(ids);
    free(starts);
    free(logits[0]);
    free(logits[1]);
}

static void an_encoder_in_int8_gives_the_logits_of_fp32_but_for_rounding(void **state)
{
    (void)state;
    static const encoder_shape deep = {.n_layers = 6,
                                       .n_embd = 384,
                                       .n_heads = 12,
                                       .n_ff = 1536,
                                       .n_vocab = FIXTURE_VOCABULARY,
                                       .n_positions = 32,
                                       .n_types = 2,
                                       .norm_epsilon = 1e-12f};
    if (!int8_is_native())
        skip();
    for (size_t tokens = 1; tokens < 160; tokens += 7)
        check_logits(&small, tokens, 1 + (uint32_t)tokens % 3);
    check_logits(&deep, 200, 2);
    check_logits(&wide, 333, 2);
}

/* reads: every which token of a text it is read at, beside the last; 0: nothing is asked, the last alone */
static void check_tokens(const encoder_shape *shape, uint32_t reads, uint32_t threads)
{
    enum { N = 11, MOST = N * 30 };
    int32_t ids[MOST];
    uint32_t starts[N + 1] = {0}, rows[MOST], row_starts[N + 1] = {0}, n = 0;
    float logits[2][MOST];
    rng r;
    rng_seed(&r, reads);
    encoder *e = telling_encoder(shape, DRR_HEAD_TOKEN, &r);
    for (uint32_t s = 0; s < N; s++) {
        starts[s + 1] = starts[s] + 1 + (uint32_t)rng_below(&r, 30);
        for (uint32_t t = starts[s]; t < starts[s + 1]; t++)
            if (t + 1 == starts[s + 1] || (reads && (t - starts[s]) % reads == 0))
                rows[n++] = t;
        row_starts[s + 1] = n;
    }
    for (size_t i = 0; i < starts[N]; i++)
        ids[i] = (int32_t)rng_below(&r, FIXTURE_VOCABULARY);
    parallel_set_threads(threads);
    for (int eight = 0; eight < 2; eight++) {
        encoder_workspace *w = NULL;
        e->int8 = eight;
        assert_int_equal(encoder_workspace_new(&w, e, starts[N], N, NULL), DRR_OK);
        assert_int_equal(encoder_logits_at(e, w, ids, starts, N, reads ? rows : NULL, reads ? row_starts : NULL,
                                           logits[eight], NULL),
                         DRR_OK);
        encoder_workspace_free(w);
    }
    parallel_set_threads(0);
    for (uint32_t i = 0; i < n; i++)
        if (!(fabsf(logits[1][i] - logits[0][i]) < 0.05f)) /* of a size of about 0.6 */
            fail_msg("row %u of %u: %.4f and not %.4f", i, n, (double)logits[1][i], (double)logits[0][i]);
    encoder_free(e);
}

static void a_head_of_tokens_is_read_in_int8_where_it_is_asked(void **state)
{
    (void)state;
    if (!int8_is_native())
        skip();
    for (uint32_t reads = 0; reads < 5; reads++) {
        check_tokens(&small, reads, 1 + reads % 3);
        check_tokens(&wide, reads, 2);
    }
}

/* Threads divide rows and heads, and no number depends on who computed it. */
static void logits_in_int8_do_not_depend_on_threads_or_neighbours(void **state)
{
    (void)state;
    static const encoder_shape shape = {.n_layers = 3,
                                        .n_embd = 64,
                                        .n_heads = 4,
                                        .n_ff = 128,
                                        .n_vocab = FIXTURE_VOCABULARY,
                                        .n_positions = 32,
                                        .n_types = 2,
                                        .norm_epsilon = 1e-12f};
    enum { N = 9, LENGTH = 17 };
    encoder *e = NULL;
    int32_t ids[N * LENGTH];
    uint32_t starts[N + 1], one[2] = {0, LENGTH};
    float together[3][N], alone[N];
    rng r;
    if (!int8_is_native())
        skip();
    rng_seed(&r, 3);
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    e->int8 = true;
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = 0.3f * (float)rng_normal(&r);
    for (size_t i = 0; i < N * LENGTH; i++)
        ids[i] = (int32_t)rng_below(&r, FIXTURE_VOCABULARY);
    for (uint32_t i = 0; i <= N; i++)
        starts[i] = i * LENGTH;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        encoder_workspace *w = NULL;
        parallel_set_threads(threads);
        assert_int_equal(encoder_workspace_new(&w, e, N * LENGTH, N, NULL), DRR_OK);
        assert_int_equal(encoder_logits(e, w, ids, starts, N, together[threads - 1], NULL), DRR_OK);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(encoder_logits(e, w, ids + i * LENGTH, one, 1, &alone[i], NULL), DRR_OK);
        encoder_workspace_free(w);
    }
    parallel_set_threads(0);
    assert_memory_equal(together[0], together[1], sizeof alone);
    assert_memory_equal(together[0], together[2], sizeof alone);
    for (size_t i = 0; i < N; i++) /* the head's product is fp32, whose sums depend on the number of rows */
        assert_true(fabsf(together[0][i] - alone[i]) < 1e-5f * (1 + fabsf(alone[i])));
    encoder_free(e);
}

static void int8_is_for_scoring_alone_and_for_heads_that_suit_it(void **state)
{
    (void)state;
    static const encoder_shape narrow = {.n_layers = 2,
                                         .n_embd = 52,
                                         .n_heads = 2,
                                         .n_ff = 64,
                                         .n_vocab = FIXTURE_VOCABULARY,
                                         .n_positions = 32,
                                         .n_types = 2,
                                         .norm_epsilon = 1e-12f};
    encoder *e = tiny_encoder(1), *odd = NULL;
    drr_precision p = DRR_PRECISION_INT8;
    drr_train_options o;
    drr_train_result result;
    drr_error err = {0};
    assert_int_equal(drr_precision_parse(&p, "int8", NULL), DRR_OK);
    assert_int_equal(p, DRR_PRECISION_INT8);
    assert_int_equal(encoder_new(&odd, &narrow, NULL), DRR_OK);
    assert_int_equal(encoder_set_precision(odd, &p, &err), DRR_E_BACKEND);
    assert_false(odd->int8);
    drr_train_options_defaults(&o);
    o.traces = "none.jsonl";
    o.out = "none.gguf";
    o.precision = DRR_PRECISION_INT8;
    assert_int_equal(drr_train(&result, &o, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "int8"));
    p = DRR_PRECISION_FP32;
    assert_int_equal(encoder_set_precision(e, &p, NULL), DRR_OK);
    assert_false(e->int8);
    encoder_free(e);
    encoder_free(odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_rounded_over_its_span),
        cmocka_unit_test(no_end_of_a_row_leaves_the_byte),
        cmocka_unit_test(a_product_is_the_sum_of_its_integers),
        cmocka_unit_test(no_sum_overflows),
        cmocka_unit_test(attention_for_scoring_is_the_plain_one),
        cmocka_unit_test(an_encoder_in_int8_gives_the_logits_of_fp32_but_for_rounding),
        cmocka_unit_test(a_head_of_tokens_is_read_in_int8_where_it_is_asked),
        cmocka_unit_test(logits_in_int8_do_not_depend_on_threads_or_neighbours),
        cmocka_unit_test(int8_is_for_scoring_alone_and_for_heads_that_suit_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
