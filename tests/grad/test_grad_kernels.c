/* test_grad_kernels.c: every fast kernel of tensor.h gives what its plain twin gives, and every backward pass, fast and
 * plain, is the derivative of the forward one, as finite differences of the plain kernels in double say. Attention has
 * a program of its own. Shapes are odd on purpose: one row, one column, and lengths that no vector divides. */
#include "grad/compare.h"
#include "tensor/reference.h"

#define F32 2e-5       /* float against double, sums of up to a few hundred terms */
#define NUMERICAL 1e-6 /* double against finite differences */

/* ---- matrix products */

static void one_product(bool ta, bool tb, size_t m, size_t n, size_t k, float beta)
{
    const size_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 2, ldc = n + 5;
    const values a = draw((ta ? k : m) * lda, 1, 1), b = draw((tb ? n : k) * ldb, 2, 1), c = draw(m * ldc, 3, 1);
    matmul(ta, tb, m, n, k, a.f, lda, b.f, ldb, beta, c.f, ldc);
    reference_matmul_f64(ta, tb, m, n, k, a.d, lda, b.d, ldb, (double)beta, c.d, ldc);
    assert_close_f("matmul", c.f, c.d, c.n, F32); /* what lies between the rows is compared too: nobody writes there */
}

static void products_of_all_shapes_and_transpositions(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {1, 7, 33}, {17, 1, 5}, {3, 5, 1}, {31, 65, 129}, {64, 48, 96}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 4; t++)
            for (int beta = 0; beta < 3; beta++)
                one_product(t & 1, t & 2, shapes[i][0], shapes[i][1], shapes[i][2], 0.5f * (float)beta);
}

static void a_product_ignores_what_lay_in_its_result(void **state)
{
    (void)state;
    const values a = draw(6, 1, 1), b = draw(6, 2, 1), c = zeros(4);
    for (size_t i = 0; i < 4; i++)
        c.f[i] = NAN;
    matmul(false, false, 2, 2, 3, a.f, 3, b.f, 2, 0.0f, c.f, 2);
    for (size_t i = 0; i < 4; i++)
        assert_true(isfinite(c.f[i]));
}

/* ---- the linear layer */

typedef struct linear {
    size_t rows, in, out;
    values x, w, bias, y, dy;
} linear;

static linear linear_at(size_t rows, size_t in, size_t out)
{
    return (linear){rows,
                    in,
                    out,
                    draw(rows * in, 1, 1),
                    draw(out * in, 2, 0.5),
                    draw(out, 3, 1),
                    zeros(rows * out),
                    draw(rows * out, 4, 1)};
}

static double linear_loss(void *context)
{
    linear *l = context;
    reference_linear_forward_f64(l->y.d, l->x.d, l->w.d, l->bias.d, l->rows, l->in, l->out);
    return product(l->y.d, l->dy.d, l->y.n);
}

static void linear_layers_match(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {1, 16, 3}, {7, 5, 9}, {301, 33, 129}, {40, 384, 48}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        linear l = linear_at(shapes[i][0], shapes[i][1], shapes[i][2]);
        const values dx = draw(l.x.n, 5, 1), dw = draw(l.w.n, 6, 1), dbias = draw(l.bias.n, 7, 1);
        linear_forward(l.y.f, l.x.f, l.w.f, l.bias.f, l.rows, l.in, l.out);
        linear_loss(&l);
        assert_close_f("linear", l.y.f, l.y.d, l.y.n, F32);
        for (int beta = 1; beta >= 0; beta--) {
            linear_backward(dx.f, (float)beta, dw.f, dbias.f, l.dy.f, l.x.f, l.w.f, l.rows, l.in, l.out);
            reference_linear_backward_f64(dx.d, beta, dw.d, dbias.d, l.dy.d, l.x.d, l.w.d, l.rows, l.in, l.out);
            assert_close_f("linear dx", dx.f, dx.d, dx.n, F32);
            assert_close_f("linear dw", dw.f, dw.d, dw.n, F32); /* added to, twice */
            assert_close_f("linear dbias", dbias.f, dbias.d, dbias.n, F32);
        }
        linear_backward(NULL, 0.0f, dw.f, dbias.f, l.dy.f, l.x.f, l.w.f, l.rows, l.in, l.out);
        reference_linear_backward_f64(NULL, 0.0, dw.d, dbias.d, l.dy.d, l.x.d, l.w.d, l.rows, l.in, l.out);
        assert_close_f("linear dw alone", dw.f, dw.d, dw.n, F32);
    }
}

static void the_linear_backward_is_the_derivative(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {1, 6, 3}, {17, 7, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        linear l = linear_at(shapes[i][0], shapes[i][1], shapes[i][2]);
        const values dx = zeros(l.x.n), dw = zeros(l.w.n), dbias = zeros(l.bias.n);
        const double *nx = differences(l.x.d, l.x.n, linear_loss, &l), *nw = differences(l.w.d, l.w.n, linear_loss, &l),
                     *nb = differences(l.bias.d, l.bias.n, linear_loss, &l);
        linear_backward(dx.f, 0.0f, dw.f, dbias.f, l.dy.f, l.x.f, l.w.f, l.rows, l.in, l.out);
        reference_linear_backward_f64(dx.d, 0.0, dw.d, dbias.d, l.dy.d, l.x.d, l.w.d, l.rows, l.in, l.out);
        assert_close("plain dx", dx.d, nx, dx.n, NUMERICAL);
        assert_close("plain dw", dw.d, nw, dw.n, NUMERICAL);
        assert_close("plain dbias", dbias.d, nb, dbias.n, NUMERICAL);
        assert_close_f("dx", dx.f, nx, dx.n, F32);
        assert_close_f("dw", dw.f, nw, dw.n, F32);
        assert_close_f("dbias", dbias.f, nb, dbias.n, F32);
        memset(dbias.f, 0, dbias.n * sizeof(float));
        bias_backward(dbias.f, l.dy.f, l.rows, l.out);
        assert_close_f("bias_backward", dbias.f, nb, dbias.n, F32);
    }
}

/* ---- GELU and tanh */

typedef struct pointwise {
    values x, y, dy;
    void (*forward)(double *y, const double *x, size_t n);
} pointwise;

static double pointwise_loss(void *context)
{
    pointwise *p = context;
    p->forward(p->y.d, p->x.d, p->x.n);
    return product(p->y.d, p->dy.d, p->y.n);
}

static void gelu_keeps_its_promise_of_1e_6(void **state)
{
    (void)state;
    enum { N = 40001 }; /* ten blocks */
    const values x = zeros(N), y = zeros(N);
    for (size_t i = 0; i < N; i++)
        x.d[i] = (double)(x.f[i] = -10.0f + 20.0f * (float)i / (N - 1));
    gelu_forward(y.f, x.f, N);
    reference_gelu_forward_f64(y.d, x.d, N);
    for (size_t i = 0; i < N; i++)
        if (!(fabs((double)y.f[i] - y.d[i]) <= 1e-6 * fabs(x.d[i])))
            fail_msg("gelu(%g) = %.9g, expected %.9g", x.d[i], (double)y.f[i], y.d[i]);
    gelu_forward(x.f, x.f, N); /* in place */
    assert_memory_equal(x.f, y.f, N * sizeof(float));
    const float far[4] = {-1e4f, 1e4f, -90.0f, 0.0f};
    float ends[4];
    gelu_forward(ends, far, 4);
    assert_true(fabsf(ends[0]) < 1e-30f && ends[1] == 1e4f && fabsf(ends[2]) < 1e-30f && ends[3] == 0.0f);
}

static void the_gelu_backward_is_the_derivative(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 3, 517, 9001};
    for (size_t i = 0; i < 4; i++) {
        const size_t n = lengths[i];
        pointwise p = {draw(n, 1, 2), zeros(n), draw(n, 2, 1), reference_gelu_forward_f64};
        const values dx = zeros(n);
        gelu_backward(dx.f, p.dy.f, p.x.f, n);
        reference_gelu_backward_f64(dx.d, p.dy.d, p.x.d, n);
        assert_close_f("gelu dx", dx.f, dx.d, n, F32);
        if (n < 1000) {
            const double *numerical = differences(p.x.d, n, pointwise_loss, &p);
            assert_close("plain gelu dx", dx.d, numerical, n, NUMERICAL);
            assert_close_f("gelu dx", dx.f, numerical, n, F32);
        }
        gelu_backward(p.dy.f, p.dy.f, p.x.f, n); /* in place */
        assert_memory_equal(p.dy.f, dx.f, n * sizeof(float));
    }
}

static void the_tanh_backward_is_the_derivative(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 5, 515};
    for (size_t i = 0; i < 3; i++) {
        const size_t n = lengths[i];
        pointwise p = {draw(n, 1, 1), zeros(n), draw(n, 2, 1), reference_tanh_forward_f64};
        const values dx = zeros(n);
        const double *numerical = differences(p.x.d, n, pointwise_loss, &p);
        pointwise_loss(&p);
        tanh_forward(p.y.f, p.x.f, n);
        assert_close_f("tanh", p.y.f, p.y.d, n, F32);
        tanh_backward(dx.f, p.dy.f, p.y.f, n);
        reference_tanh_backward_f64(dx.d, p.dy.d, p.y.d, n);
        assert_close("plain tanh dx", dx.d, numerical, n, NUMERICAL);
        assert_close_f("tanh dx", dx.f, numerical, n, F32);
    }
}

/* ---- dropout */

static size_t agreements(const dropout *a, const dropout *b, size_t n)
{
    size_t same = 0;
    for (uint32_t i = 0; i < n; i++)
        same += (dropout_factor(a, i) > 0) == (dropout_factor(b, i) > 0);
    return same;
}

static void a_mask_is_a_function_of_its_site(void **state)
{
    (void)state;
    enum { N = 10000 };
    const dropout site = dropout_site(0.5f, 7, 8, 9), again = dropout_site(0.5f, 7, 8, 9);
    const dropout others[] = {dropout_site(0.5f, 6, 8, 9), dropout_site(0.5f, 7, 9, 9), dropout_site(0.5f, 7, 8, 10),
                              dropout_part(&site, 0), dropout_part(&site, 1)};
    assert_int_equal(agreements(&site, &again, N), N);
    for (size_t i = 0; i < 5; i++) /* independent masks agree on one half: 5 standard deviations are 250 */
        assert_in_range(agreements(&site, &others[i], N), 4750, 5250);
    assert_in_range(agreements(&others[3], &others[4], N), 4750, 5250);
}

static void what_is_kept_is_scaled_and_the_share_is_the_rate(void **state)
{
    (void)state;
    enum { N = 200000 };
    static const float rates[] = {0.1f, 0.5f, 0.9f};
    for (size_t k = 0; k < 3; k++) {
        const dropout site = dropout_site(rates[k], 1, 2, 3);
        const double kept = 1 - (double)rates[k], spread = sqrt(kept * (1 - kept) / N);
        size_t n = 0, follows = 0;
        for (uint32_t i = 0; i < N; i++) {
            const float factor = dropout_factor(&site, i);
            if (factor > 0)
                assert_true(fabs((double)factor * kept - 1) < 1e-6);
            n += factor > 0;
            follows += factor > 0 && dropout_factor(&site, i + 1) > 0;
        }
        assert_true(fabs((double)n / N - kept) < 5 * spread);
        assert_true(fabs((double)follows / N - kept * kept) < 5 * spread); /* neighbours do not know of each other */
    }
}

static void dropout_adds_the_residual(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 7, 4096, 10007};
    const dropout sites[] = {dropout_site(0.3f, 1, 2, 3), dropout_site(0, 1, 2, 3)};
    for (size_t i = 0; i < 8; i++) {
        const size_t n = lengths[i / 2];
        const dropout *site = i % 2 ? &sites[1] : &sites[0];
        const values x = draw(n, 1, 1), residual = draw(n, 2, 1), y = zeros(n), twin = zeros(n);
        dropout_add(y.f, x.f, residual.f, n, site);
        reference_dropout_add_f32(twin.f, x.f, residual.f, n, site);
        for (size_t k = 0; k < n; k++) /* one rounding may be saved by a fused multiply-add */
            assert_true(fabsf(y.f[k] - twin.f[k]) <= 1e-6f * (1 + fabsf(twin.f[k])));
        dropout_add(y.f, x.f, NULL, n, site);
        reference_dropout_add_f32(twin.f, x.f, NULL, n, site);
        for (size_t k = 0; k < n; k++)
            assert_true(y.f[k] == twin.f[k]); /* not the bits: 0 has two signs */
        dropout_add(x.f, x.f, NULL, n, site); /* in place */
        assert_memory_equal(x.f, y.f, n * sizeof(float));
        dropout_add(y.f, residual.f, NULL, n, NULL); /* no site drops nothing */
        assert_memory_equal(y.f, residual.f, n * sizeof(float));
    }
}

/* ---- layer normalisation */

typedef struct norm {
    size_t rows, width;
    values x, gain, shift, y, mean, rstd, dy;
} norm;

static norm norm_at(size_t rows, size_t width)
{
    norm l = {
        rows,        width,       draw(rows * width, 1, 1), draw(width, 2, 1), draw(width, 3, 1), zeros(rows * width),
        zeros(rows), zeros(rows), draw(rows * width, 4, 1)};
    for (size_t i = 0; i < l.x.n; i++) /* a mean that is not 0 */
        l.x.d[i] = (double)(l.x.f[i] += 2.0f);
    return l;
}

static double norm_loss(void *context)
{
    norm *l = context;
    reference_layernorm_forward_f64(l->y.d, l->mean.d, l->rstd.d, l->x.d, l->gain.d, l->shift.d, l->rows, l->width,
                                    1e-12);
    return product(l->y.d, l->dy.d, l->y.n);
}

static void one_norm(size_t rows, size_t width, bool numerical)
{
    norm l = norm_at(rows, width);
    const values dx = zeros(l.x.n), dgain = zeros(width), dshift = zeros(width);
    norm_loss(&l);
    layernorm_forward(l.y.f, l.mean.f, l.rstd.f, l.x.f, l.gain.f, l.shift.f, rows, width, 1e-12f);
    assert_close_f("norm", l.y.f, l.y.d, l.y.n, F32);
    assert_close_f("mean", l.mean.f, l.mean.d, rows, F32);
    assert_close_f("rstd", l.rstd.f, l.rstd.d, rows, F32);
    layernorm_backward(dx.f, dgain.f, dshift.f, l.dy.f, l.x.f, l.mean.f, l.rstd.f, l.gain.f, rows, width);
    reference_layernorm_backward_f64(dx.d, dgain.d, dshift.d, l.dy.d, l.x.d, l.mean.d, l.rstd.d, l.gain.d, rows, width);
    assert_close_f("norm dx", dx.f, dx.d, dx.n, 5 * F32); /* differences of sums */
    assert_close_f("dgain", dgain.f, dgain.d, width, F32);
    assert_close_f("dshift", dshift.f, dshift.d, width, F32);
    if (numerical) {
        assert_close("plain norm dx", dx.d, differences(l.x.d, l.x.n, norm_loss, &l), dx.n, NUMERICAL);
        assert_close("plain dgain", dgain.d, differences(l.gain.d, width, norm_loss, &l), width, NUMERICAL);
        assert_close("plain dshift", dshift.d, differences(l.shift.d, width, norm_loss, &l), width, NUMERICAL);
    }
    layernorm_backward(l.dy.f, dgain.f, dshift.f, l.dy.f, l.x.f, l.mean.f, l.rstd.f, l.gain.f, rows,
                       width); /* in place */
    assert_memory_equal(l.dy.f, dx.f, dx.n * sizeof(float));
}

static void layer_normalisation_matches_and_differentiates(void **state)
{
    (void)state;
    one_norm(1, 7, true);
    one_norm(5, 16, true);
    one_norm(9, 33, true);
    one_norm(1, 384, false);
    one_norm(200, 65, false);
    one_norm(31, 384, false);
}

/* ---- rows and embeddings */

static void rows_are_gathered_and_scattered_back(void **state)
{
    (void)state;
    enum { WIDTH = 5, ROWS = 9, TAKEN = 4 };
    static const uint32_t taken[TAKEN] = {8, 0, 3, 5};
    const values x = draw(ROWS * WIDTH, 1, 1), y = zeros(TAKEN * WIDTH), dx = draw(ROWS * WIDTH, 2, 1);
    rows_gather(y.f, x.f, taken, TAKEN, WIDTH);
    for (size_t i = 0; i < TAKEN; i++)
        assert_memory_equal(y.f + i * WIDTH, x.f + taken[i] * WIDTH, WIDTH * sizeof(float));
    rows_scatter_add(dx.f, y.f, taken, TAKEN, WIDTH);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < WIDTH; c++) {
            const bool hit = r == 8 || r == 0 || r == 3 || r == 5;
            const double want = dx.d[r * WIDTH + c] + (hit ? x.d[r * WIDTH + c] : 0);
            assert_true(fabs((double)dx.f[r * WIDTH + c] - want) < 1e-6);
        }
}

typedef struct embedding {
    size_t width, n;
    const uint32_t *starts;
    int32_t ids[64];
    values tokens, positions, type, y, dy;
} embedding;

enum { IDS = 11, POSITIONS = 20 };

static double embedding_loss(void *context)
{
    embedding *e = context;
    reference_embedding_forward_f64(e->y.d, e->ids, e->starts, e->n, e->tokens.d, e->positions.d, e->type.d, e->width);
    return product(e->y.d, e->dy.d, e->y.n);
}

static void one_embedding(size_t width, const uint32_t *starts, size_t n)
{
    const size_t t = starts[n];
    embedding e = {.width = width, .n = n, .starts = starts};
    const values dtokens = zeros(IDS * width), dpositions = zeros(POSITIONS * width), dtype = zeros(width);
    for (size_t i = 0; i < t; i++)
        e.ids[i] = (int32_t)(i * 7 % (IDS - 2)); /* some again and again, some never */
    e.tokens = draw(IDS * width, 1, 1);
    e.positions = draw(POSITIONS * width, 2, 1);
    e.type = draw(width, 3, 1);
    e.y = zeros(t * width);
    e.dy = draw(t * width, 4, 1);
    embedding_loss(&e);
    embedding_forward(e.y.f, e.ids, starts, n, e.tokens.f, e.positions.f, e.type.f, width);
    assert_close_f("embedding", e.y.f, e.y.d, e.y.n, F32);
    embedding_backward(dtokens.f, dpositions.f, dtype.f, e.dy.f, e.ids, starts, n, width);
    reference_embedding_backward_f64(dtokens.d, dpositions.d, dtype.d, e.dy.d, e.ids, starts, n, width);
    assert_close_f("dtokens", dtokens.f, dtokens.d, dtokens.n, F32);
    assert_close_f("dpositions", dpositions.f, dpositions.d, dpositions.n, F32);
    assert_close_f("dtype", dtype.f, dtype.d, dtype.n, F32);
    if (width > 8)
        return;
    assert_close("plain dtokens", dtokens.d, differences(e.tokens.d, dtokens.n, embedding_loss, &e), dtokens.n,
                 NUMERICAL);
    assert_close("plain dpositions", dpositions.d, differences(e.positions.d, dpositions.n, embedding_loss, &e),
                 dpositions.n, NUMERICAL);
    assert_close("plain dtype", dtype.d, differences(e.type.d, dtype.n, embedding_loss, &e), dtype.n, NUMERICAL);
}

static void embeddings_sum_and_scatter_back(void **state)
{
    (void)state;
    static const uint32_t one[] = {0, 1}, several[] = {0, 5, 6, 20, 31};
    one_embedding(3, one, 1);
    one_embedding(7, several, 4);
    one_embedding(129, several, 4); /* three threads' columns, the last with one */
}

/* ---- loss and optimizer */

typedef struct bce {
    values logits, weights, dlogits;
    uint8_t labels[64];
    bool weighted;
} bce;

static double bce_loss(void *context)
{
    bce *b = context;
    return reference_bce_logits_f64(b->dlogits.d, b->logits.d, b->labels, b->weighted ? b->weights.d : NULL,
                                    b->logits.n, 13);
}

static void the_loss_and_its_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        const size_t n = k < 2 ? 1 : 33;
        bce b = {draw(n, 1, 3), draw(n, 2, 1), zeros(n), {0}, k % 2 == 1};
        for (size_t i = 0; i < n; i++) {
            b.weights.d[i] = (double)(b.weights.f[i] = fabsf(b.weights.f[i]));
            b.labels[i] = i % 3 == 0;
        }
        const double *numerical = differences(b.logits.d, n, bce_loss, &b), want = bce_loss(&b);
        const double loss = bce_logits(b.dlogits.f, b.logits.f, b.labels, b.weighted ? b.weights.f : NULL, n, 13);
        assert_true(fabs(loss - want) < 1e-9 * (1 + want));
        assert_close("plain dlogits", b.dlogits.d, numerical, n, NUMERICAL);
        assert_close_f("dlogits", b.dlogits.f, numerical, n, F32);
    }
}

static void the_loss_is_finite_where_the_logits_are_huge(void **state)
{
    (void)state;
    const float logits[4] = {1000, -1000, 1000, -1000};
    const uint8_t labels[4] = {1, 0, 0, 1};
    float dlogits[4];
    assert_true(fabs(bce_logits(dlogits, logits, labels, NULL, 4, 1) - 2000) < 1e-9);
    assert_true(dlogits[0] == 0.0f && dlogits[1] == 0.0f && dlogits[2] == 1.0f && dlogits[3] == -1.0f);
}

/* Loshchilov and Hutter's algorithm 2 with a constant schedule, straight from the paper. */
static void adamw_by_the_paper(double *p, const double *g, double *m, double *v, size_t n, double rate, double decay,
                               int t)
{
    for (size_t i = 0; i < n; i++) {
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
        const double first = m[i] / (1 - pow(0.9, t)), second = v[i] / (1 - pow(0.999, t));
        p[i] -= rate * first / (sqrt(second) + 1e-8) + rate * decay * p[i];
    }
}

static void ten_updates(size_t n, bool decays)
{
    const values p = draw(n, 1, 0.1), m = zeros(n), v = zeros(n), start = draw(n, 1, 0.1), plain = draw(n, 1, 0.1),
                 pm = zeros(n), pv = zeros(n);
    for (int t = 1; t <= 10; t++) {
        const values g = draw(n, 100 + (uint64_t)t, 0.01), again = draw(n, 100 + (uint64_t)t, 0.01);
        const double rate = 1e-3 * t, scale = t % 2 ? 0.25 : 1;
        const adamw options = {rate, 0.9, 0.999, 1e-8, 0.05, (uint64_t)t, scale};
        adamw_step(p.f, g.f, m.f, v.f, n, decays, &options);
        reference_adamw_step_f64(plain.d, again.d, pm.d, pv.d, n, decays, &options);
        for (size_t i = 0; i < n; i++) {
            assert_true(g.f[i] == 0.0f && again.d[i] == 0.0); /* cleared */
            g.d[i] *= scale;
        }
        adamw_by_the_paper(p.d, g.d, m.d, v.d, n, rate, decays ? 0.05 : 0, t);
    }
    for (size_t i = 0; i < n; i++) { /* what has changed, not what was there before */
        p.d[i] -= start.d[i];
        plain.d[i] -= start.d[i];
        p.f[i] -= start.f[i];
    }
    assert_close("plain update", plain.d, p.d, n, 1e-9);
    assert_close_f("update", p.f, p.d, n, 1e-4);
    assert_close_f("moment 1", m.f, m.d, n, F32);
    assert_close_f("moment 2", v.f, v.d, n, F32);
}

static void adamw_is_the_papers(void **state)
{
    (void)state;
    for (int decays = 0; decays < 2; decays++) {
        ten_updates(1, decays);
        ten_updates(33, decays);
        ten_updates(9001, decays);
    }
}

static void the_gradients_norm(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 3, 4096, 4097, 1500003};
    for (size_t i = 0; i < 5; i++) {
        const values g = draw(lengths[i], 1, 1e-3);
        const double want = reference_gradient_norm_f64(g.d, g.n);
        assert_true(fabs(gradient_norm(g.f, g.n) - want) < 1e-10 * want);
        assert_true(fabs(reference_gradient_norm_f32(g.f, g.n) - want) < 1e-10 * want);
    }
    const float large[2] = {3e30f, 4e30f}; /* their squares are no floats any more */
    assert_true(fabs(gradient_norm(large, 2) / 5e30 - 1) < 1e-6);
}

/* ---- threads */

typedef struct outcome {
    values dx, dgain, dshift, dtokens, dpositions, p;
    double norm;
} outcome;

static outcome run_with_threads(uint32_t threads)
{
    enum { ROWS = 60, WIDTH = 130 };
    static const uint32_t starts[] = {0, 13, 60};
    const norm l = norm_at(ROWS, WIDTH);
    outcome o = {
        zeros(ROWS * WIDTH), zeros(WIDTH), zeros(WIDTH), zeros(IDS * WIDTH), zeros(64 * WIDTH), draw(20001, 9, 1), 0};
    const values m = zeros(o.p.n), v = zeros(o.p.n), g = draw(o.p.n, 10, 1);
    const adamw options = {1e-3, 0.9, 0.999, 1e-8, 0.01, 1, 1};
    int32_t ids[ROWS];
    for (int32_t i = 0; i < ROWS; i++)
        ids[i] = i % IDS;
    parallel_set_threads(threads);
    tensor_use_threads(threads);
    layernorm_forward(l.y.f, l.mean.f, l.rstd.f, l.x.f, l.gain.f, l.shift.f, ROWS, WIDTH, 1e-12f);
    layernorm_backward(o.dx.f, o.dgain.f, o.dshift.f, l.dy.f, l.x.f, l.mean.f, l.rstd.f, l.gain.f, ROWS, WIDTH);
    embedding_backward(o.dtokens.f, o.dpositions.f, o.dgain.f, l.dy.f, ids, starts, 2, WIDTH);
    o.norm = gradient_norm(g.f, g.n);
    adamw_step(o.p.f, g.f, m.f, v.f, g.n, true, &options);
    parallel_set_threads(0);
    tensor_use_threads(UINT32_MAX);
    return o;
}

static void sums_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    const outcome a = run_with_threads(1), b = run_with_threads(3);
    assert_memory_equal(a.dx.f, b.dx.f, a.dx.n * sizeof(float));
    assert_memory_equal(a.dgain.f, b.dgain.f, a.dgain.n * sizeof(float));
    assert_memory_equal(a.dshift.f, b.dshift.f, a.dshift.n * sizeof(float));
    assert_memory_equal(a.dtokens.f, b.dtokens.f, a.dtokens.n * sizeof(float));
    assert_memory_equal(a.dpositions.f, b.dpositions.f, a.dpositions.n * sizeof(float));
    assert_memory_equal(a.p.f, b.p.f, a.p.n * sizeof(float));
    assert_true(a.norm == b.norm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_memory, give_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(products_of_all_shapes_and_transpositions),
        TEST(a_product_ignores_what_lay_in_its_result),
        TEST(linear_layers_match),
        TEST(the_linear_backward_is_the_derivative),
        TEST(gelu_keeps_its_promise_of_1e_6),
        TEST(the_gelu_backward_is_the_derivative),
        TEST(the_tanh_backward_is_the_derivative),
        TEST(a_mask_is_a_function_of_its_site),
        TEST(what_is_kept_is_scaled_and_the_share_is_the_rate),
        TEST(dropout_adds_the_residual),
        TEST(layer_normalisation_matches_and_differentiates),
        TEST(rows_are_gathered_and_scattered_back),
        TEST(embeddings_sum_and_scatter_back),
        TEST(the_loss_and_its_gradient),
        TEST(the_loss_is_finite_where_the_logits_are_huge),
        TEST(adamw_is_the_papers),
        TEST(the_gradients_norm),
        TEST(sums_do_not_depend_on_the_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
