/* test_tensor_bf16.c: the kernels of mixed precision agree with the plain ones in fp32 given the same rounded numbers:
 * to the rounding of a bf16 where they give one, closely where they add up in fp32. Rows past the batch do not matter.
 */
#include "tensor/bf16.h"
#include "tensor/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_ROWS = 333, IN = 48, OUT = 80 };
#define ROUNDING (1.0 / 256) /* half a unit in a bf16's last place, relative */

static void *zeros(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    return memset(p, 0, (bytes + 63) / 64 * 64);
}

static float *draw(size_t n, uint64_t seed, double scale)
{
    float *x = zeros(n * sizeof *x);
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = bf16_float(bf16_of((float)(scale * rng_normal(&r))));
    return x;
}

/* The same numbers as bf16, in memory for whole pieces, with NaN in the rows above. */
static bf16 *halves(const float *x, size_t rows, size_t width)
{
    bf16 *y = zeros(product_rows(rows) * width * sizeof *y);
    for (size_t i = 0; i < product_rows(rows) * width; i++)
        y[i] = i < rows * width ? bf16_of(x[i]) : 0x7fc0;
    return y;
}

static void same(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
    double size = 0;
    for (size_t i = 0; i < n; i++)
        size += (double)want[i] * (double)want[i] / (double)n;
    size = sqrt(size);
    assert_true(size > 1e-6);
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * (size + fabs((double)want[i]))))
            fail_msg("%s: element %zu of %zu is %.8g, expected %.8g", what, i, n, (double)got[i], (double)want[i]);
}

static void same_halves(const char *what, const bf16 *got, const float *want, size_t n, double tolerance)
{
    float *wide = zeros(n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = bf16_float(got[i]);
    same(what, wide, want, n, tolerance);
    free(wide);
}

static void a_float_becomes_the_nearest_bf16_and_ties_go_to_even(void **state)
{
    (void)state;
    assert_int_equal(bf16_of(1.0f), 0x3f80);
    assert_int_equal(bf16_of(-2.0f), 0xc000);
    assert_int_equal(bf16_of(1.0f + 0x1p-8f), 0x3f80);            /* halfway to 0x3f81: to the even one */
    assert_int_equal(bf16_of(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81); /* past it */
    assert_int_equal(bf16_of(1.0f + 3 * 0x1p-8f), 0x3f82);
    assert_int_equal(bf16_of(INFINITY), 0x7f80);
    assert_int_equal(bf16_of(3.4e38f), 0x7f80);
    assert_true(isnan(bf16_float(bf16_of(NAN))));
    union {
        uint32_t u;
        float f;
    } low = {0x7f800001u}; /* a NaN whose mantissa is all in the half that is cut off */
    assert_true(isnan(bf16_float(bf16_of(low.f))));
    for (uint32_t i = 0; i < 0x10000; i++)
        if (!isnan(bf16_float((bf16)i)))
            assert_int_equal(bf16_of(bf16_float((bf16)i)), i);
}

/* ---- products */

static void check_products(products *p, size_t rows)
{
    float *x = draw(rows * IN, rows, 1), *dy = draw(rows * OUT, rows + 1, 1), *w = draw(OUT * IN, 3, 0.2);
    float *bias = draw(OUT, 4, 1), *y = zeros(rows * OUT * sizeof *y), *dx = zeros(rows * IN * sizeof *dx);
    float *sum = zeros(product_rows(rows) * IN * sizeof *sum), *dw = draw(OUT * IN, 5, 1),
          *dw_plain = draw(OUT * IN, 5, 1);
    bf16 *x16 = halves(x, rows, IN), *dy16 = halves(dy, rows, OUT);
    bf16 *y16 = zeros(product_rows(rows) * OUT * sizeof *y16), *dx16 = zeros(product_rows(rows) * IN * sizeof *dx16);
    const product_kind kinds[] = {PRODUCT_FORWARD, PRODUCT_BACK, PRODUCT_BACK_ADD};
    bf16 *packed[3];
    for (size_t i = 0; i < 3; i++) {
        packed[i] = zeros(products_packed(p, kinds[i], IN, OUT) * sizeof(bf16));
        products_pack(p, kinds[i], IN, OUT, packed[i], w);
    }
    reference_linear_forward_f32(y, x, w, bias, rows, IN, OUT);
    products_run(p, PRODUCT_FORWARD, IN, OUT, rows, y16, x16, packed[0], bias);
    same_halves("forward", y16, y, rows * OUT, ROUNDING);
    reference_matmul_f32(false, false, rows, IN, OUT, dy, OUT, w, IN, 0, dx, IN);
    products_run(p, PRODUCT_BACK, IN, OUT, rows, dx16, dy16, packed[1], NULL);
    same_halves("back", dx16, dx, rows * IN, ROUNDING);
    memcpy(sum, x, rows * IN * sizeof *x);
    for (size_t i = 0; i < rows * IN; i++)
        dx[i] += x[i];
    products_run(p, PRODUCT_BACK_ADD, IN, OUT, rows, sum, dy16, packed[2], NULL);
    same("back, added", sum, dx, rows * IN, 1e-5);
    reference_matmul_f32(true, false, OUT, IN, rows, dy, OUT, x, IN, 1, dw_plain, IN);
    products_weight(p, IN, OUT, rows, dw, dy16, x16);
    same("weight", dw, dw_plain, OUT * IN, 2e-5);
    assert_int_equal(products_check(p, NULL), DRR_OK);
    void *all[] = {x, dy, w, bias, y, dx, sum, dw, dw_plain, x16, dy16, y16, dx16, packed[0], packed[1], packed[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void products_of_any_number_of_rows_are_those_of_the_plain_kernel(void **state)
{
    (void)state;
    static const size_t rows[] = {1, 63, 64, 65, 200, MOST_ROWS};
    const product_kind kinds[] = {PRODUCT_FORWARD, PRODUCT_BACK, PRODUCT_BACK_ADD, PRODUCT_WEIGHT};
    products *p = NULL;
    if (!bf16_is_native())
        skip();
    assert_int_equal(products_new(&p, MOST_ROWS, NULL), DRR_OK);
    for (size_t i = 0; i < 8; i++) /* again is no error */
        assert_int_equal(products_add(p, kinds[i % 4], IN, OUT, NULL), DRR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_products(p, rows[i]);
    products_free(p);
    products_free(NULL);
}

/* ---- by element and by row */

static void gelu_and_its_gradient_are_the_plain_ones(void **state)
{
    (void)state;
    enum { N = 9001 };
    float *x = draw(N, 1, 2), *dy = draw(N, 2, 1), *y = zeros(N * sizeof *y), *dx = zeros(N * sizeof *dx);
    bf16 *x16 = halves(x, N, 1), *dy16 = halves(dy, N, 1), *y16 = zeros(N * sizeof *y16),
         *again = zeros(N * sizeof *again);
    reference_gelu_forward_f32(y, x, N);
    reference_gelu_backward_f32(dx, dy, x, N);
    bf16_gelu_forward(y16, x16, N);
    same_halves("gelu", y16, y, N, ROUNDING);
    bf16_gelu_backward(dy16, again, dy16, x16, N);
    same_halves("gelu backward", dy16, dx, N, ROUNDING);
    assert_memory_equal(again, y16, N * sizeof *y16);
    void *all[] = {x, dy, y, dx, x16, dy16, y16, again};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void check_add_norm(const dropout *site)
{
    enum { ROWS = 150, WIDTH = 52, N = ROWS * WIDTH };
    float *branch = draw(N, 1, 1), *residual = draw(N, 2, 1), *gain = draw(WIDTH, 3, 1), *shift = draw(WIDTH, 4, 1);
    float *dy = draw(N, 5, 1), *a[8], *b[8]; /* a: sum, mean, rstd, y, dx, dgain, dshift, dbias; b: the plain ones */
    static const size_t sizes[8] = {N, ROWS, ROWS, N, N, WIDTH, WIDTH, WIDTH};
    static const char *const names[8] = {"sum", "mean", "rstd", "y", "dx", "dgain", "dshift", "dbias"};
    bf16 *branch16 = halves(branch, ROWS, WIDTH), *y16 = zeros(N * sizeof *y16), *d16 = zeros(N * sizeof *d16);
    float *dbranch = zeros(N * sizeof *dbranch), *scratch = zeros(norm_scratch(ROWS, WIDTH) * sizeof *scratch);
    for (size_t i = 0; i < 8; i++) {
        a[i] = draw(sizes[i], 6, 1); /* gradients are added to what is there */
        b[i] = draw(sizes[i], 6, 1);
    }
    memcpy(a[3], residual, N * sizeof *residual); /* y may be residual, dx dy */
    memcpy(a[4], dy, N * sizeof *dy);
    bf16_add_norm(a[0], a[1], a[2], a[3], y16, branch16, a[3], site, gain, shift, ROWS, WIDTH, 1e-12f);
    bf16_add_norm_backward(a[4], d16, a[5], a[6], a[7], a[4], a[0], a[1], a[2], gain, site, ROWS, WIDTH, scratch);
    reference_dropout_add_f32(b[0], branch, residual, N, site);
    reference_layernorm_forward_f32(b[3], b[1], b[2], b[0], gain, shift, ROWS, WIDTH, 1e-12f);
    reference_layernorm_backward_f32(b[4], b[5], b[6], dy, b[0], b[1], b[2], gain, ROWS, WIDTH);
    reference_dropout_add_f32(dbranch, b[4], NULL, N, site);
    for (size_t i = 0; i < N; i++)
        b[7][i % WIDTH] += dbranch[i];
    for (size_t i = 0; i < 8; i++)
        same(names[i], a[i], b[i], sizes[i], 5e-5);
    same_halves("y16", y16, b[3], N, ROUNDING);
    same_halves("dbranch", d16, dbranch, N, ROUNDING);
    for (size_t i = 0; i < 8; i++) {
        free(a[i]);
        free(b[i]);
    }
    void *all[] = {branch, residual, gain, shift, dy, branch16, y16, d16, dbranch, scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void dropout_residual_and_norm_in_one_are_the_three_apart(void **state)
{
    (void)state;
    const dropout site = dropout_site(0.3f, 1, 2, 3);
    check_add_norm(NULL);
    check_add_norm(&site);
}

/* ---- attention */

static void check_attention(const dropout *site)
{
    enum { WIDTH = 32, HEADS = 4, SEQUENCES = 3, ROWS = 90, LONGEST = 50, N = ROWS * WIDTH };
    static const uint32_t starts[SEQUENCES + 1] = {0, 1, 40, ROWS};
    const attention_shape shape = {WIDTH, HEADS, starts, starts, SEQUENCES, LONGEST, 0};
    float *q = draw(N, 1, 1), *kv = draw(2 * N, 2, 1), *dcontext = draw(N, 3, 1);
    float *log_sum = zeros(ROWS * HEADS * sizeof *log_sum), *context = zeros(N * sizeof *context);
    float *dq = zeros(N * sizeof *dq), *dkv = zeros(2 * N * sizeof *dkv);
    float *probabilities = zeros(reference_attention_probabilities_f32(&shape) * sizeof *probabilities);
    float *scratch = zeros(bf16_attention_scratch(LONGEST, WIDTH / HEADS, parallel_threads()) * sizeof *scratch);
    bf16 *q16 = halves(q, ROWS, WIDTH), *kv16 = halves(kv, ROWS, 2 * WIDTH),
         *dcontext16 = halves(dcontext, ROWS, WIDTH);
    bf16 *context16 = zeros(N * sizeof *context16), *dq16 = zeros(N * sizeof *dq16),
         *dkv16 = zeros(2 * N * sizeof *dkv16);
    tensor_use_threads(parallel_threads());
    reference_attention_forward_f32(context, probabilities, q, kv, &shape, site);
    reference_attention_backward_f32(dq, dkv, dcontext, probabilities, q, kv, &shape, site);
    bf16_attention_forward(context16, log_sum, q16, kv16, &shape, site, scratch);
    bf16_attention_backward(dq16, dkv16, dcontext16, context16, log_sum, q16, kv16, &shape, site, scratch);
    same_halves("context", context16, context, N, ROUNDING);
    same_halves("dq", dq16, dq, N, 6 * ROUNDING); /* they depend on the rounded context */
    same_halves("dkv", dkv16, dkv, 2 * N, 6 * ROUNDING);
    void *all[] = {q,       kv,  dcontext, log_sum,    context,   dq,   dkv,  probabilities,
                   scratch, q16, kv16,     dcontext16, context16, dq16, dkv16};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void attention_over_bf16_is_the_plain_one(void **state)
{
    (void)state;
    const dropout site = dropout_site(0.3f, 1, 2, 3);
    check_attention(NULL);
    check_attention(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_float_becomes_the_nearest_bf16_and_ties_go_to_even),
        cmocka_unit_test(products_of_any_number_of_rows_are_those_of_the_plain_kernel),
        cmocka_unit_test(gelu_and_its_gradient_are_the_plain_ones),
        cmocka_unit_test(dropout_residual_and_norm_in_one_are_the_three_apart),
        cmocka_unit_test(attention_over_bf16_is_the_plain_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
