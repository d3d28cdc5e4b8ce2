/* test_grad_attention.c: attention and softmax against their plain twins, forward and backward, and the plain backward
 * against finite differences in double: sequences of unequal lengths, one token, all rows asking or only the first of
 * each, with dropout and without. */
#include "grad/compare.h"
#include "tensor/reference.h"

#define F32 3e-5
#define NUMERICAL 1e-6

typedef struct attention {
    attention_shape shape;
    const dropout *site;
    values q, kv, context, dcontext, probabilities, dq, dkv, log_sum, scratch;
} attention;

static attention attention_at(const attention_shape *shape, const dropout *site, double sharpness)
{
    const size_t rows = shape->q_starts[shape->n], keys = shape->kv_starts[shape->n], width = shape->width;
    return (attention){.shape = *shape,
                       .site = site,
                       .q = draw(rows * width, 1, sharpness),
                       .kv = draw(keys * 2 * width, 2, 1),
                       .context = zeros(rows * width),
                       .dcontext = draw(rows * width, 3, 1),
                       .probabilities = zeros(reference_attention_probabilities_f64(shape)),
                       .dq = zeros(rows * width),
                       .dkv = zeros(keys * 2 * width),
                       .log_sum = zeros(rows * shape->heads),
                       .scratch = zeros(attention_scratch(shape->longest, parallel_threads()))};
}

static double attention_loss(void *context)
{
    attention *a = context;
    reference_attention_forward_f64(a->context.d, a->probabilities.d, a->q.d, a->kv.d, &a->shape, a->site);
    return product(a->context.d, a->dcontext.d, a->context.n);
}

static void assert_log_sums(const attention *a)
{
    const attention_shape *s = &a->shape;
    const size_t width = s->width, head = width / s->heads;
    for (size_t n = 0; n < s->n; n++)
        for (size_t i = s->q_starts[n]; i < s->q_starts[n + 1]; i++)
            for (size_t h = 0; h < s->heads; h++) {
                double sum = 0;
                for (size_t k = s->kv_starts[n]; k < s->kv_starts[n + 1]; k++)
                    sum += exp(product(a->q.d + i * width + h * head, a->kv.d + k * 2 * width + h * head, head) /
                               sqrt((double)head));
                assert_true(fabs((double)a->log_sum.f[i * s->heads + h] - log(sum)) < 1e-4 * (1 + fabs(log(sum))));
            }
}

static void check(attention *a, bool numerical)
{
    const attention_shape *s = &a->shape;
    attention_loss(a);
    attention_forward(a->context.f, a->log_sum.f, a->q.f, a->kv.f, s, a->site, a->scratch.f);
    assert_close_f("context", a->context.f, a->context.d, a->context.n, F32);
    assert_log_sums(a);
    for (size_t i = 0; i < a->dkv.n; i++) /* overwritten, not added to */
        a->dkv.f[i] = NAN;
    for (size_t i = 0; i < a->dq.n; i++)
        a->dq.f[i] = NAN;
    attention_backward(a->dq.f, a->dkv.f, a->dcontext.f, a->context.f, a->log_sum.f, a->q.f, a->kv.f, s, a->site,
                       a->scratch.f);
    reference_attention_backward_f64(a->dq.d, a->dkv.d, a->dcontext.d, a->probabilities.d, a->q.d, a->kv.d, s, a->site);
    assert_close_f("dq", a->dq.f, a->dq.d, a->dq.n, 5 * F32); /* differences of sums */
    assert_close_f("dkv", a->dkv.f, a->dkv.d, a->dkv.n, 5 * F32);
    if (!numerical)
        return;
    assert_close("plain dq", a->dq.d, differences(a->q.d, a->q.n, attention_loss, a), a->q.n, NUMERICAL);
    assert_close("plain dkv", a->dkv.d, differences(a->kv.d, a->kv.n, attention_loss, a), a->kv.n, NUMERICAL);
}

static const uint32_t one_token[] = {0, 1}, one[] = {0, 5}, unequal[] = {0, 3, 4, 11, 13}, firsts[] = {0, 1, 2, 3, 4},
                      longer[] = {0, 65, 66, 199};

static void attention_without_dropout(void **state)
{
    (void)state;
    const attention_shape shapes[] = {{6, 2, one, one, 1, 5, 0},
                                      {5, 1, one, one, 1, 9, 0},
                                      {8, 4, unequal, unequal, 4, 7, 0},
                                      {12, 3, unequal, unequal, 4, 30, 0},
                                      {8, 8, unequal, unequal, 4, 7, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        attention a = attention_at(&shapes[i], NULL, 1);
        check(&a, true);
    }
    const attention_shape large = {96, 3, longer, longer, 3, 133, 0};
    attention a = attention_at(&large, NULL, 1);
    check(&a, false);
}

static void one_token_attends_to_itself(void **state)
{
    (void)state;
    const attention_shape shape = {6, 2, one_token, one_token, 1, 1, 0};
    attention a = attention_at(&shape, NULL, 1);
    attention_forward(a.context.f, a.log_sum.f, a.q.f, a.kv.f, &shape, NULL, a.scratch.f);
    assert_close_f("its own value", a.context.f, a.kv.d + 6, 6, F32);
    attention_backward(a.dq.f, a.dkv.f, a.dcontext.f, a.context.f, a.log_sum.f, a.q.f, a.kv.f, &shape, NULL,
                       a.scratch.f);
    assert_close_f("dvalue", a.dkv.f + 6, a.dcontext.d, 6, F32);
    for (size_t i = 0; i < 6; i++) /* a probability of 1 stays 1 whatever the score */
        assert_true(fabsf(a.dq.f[i]) < 1e-5f && fabsf(a.dkv.f[i]) < 1e-5f);
}

static void attention_with_dropout(void **state)
{
    (void)state;
    const dropout site = dropout_site(0.25f, 1, 2, 3);
    const attention_shape shapes[] = {{6, 2, one, one, 1, 5, 0}, {8, 4, unequal, unequal, 4, 7, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        attention a = attention_at(&shapes[i], &site, 1), bare = attention_at(&shapes[i], NULL, 1);
        check(&a, true);
        attention_loss(&bare);
        assert_memory_not_equal(a.context.d, bare.context.d, a.context.n * sizeof(double));
    }
    const attention_shape large = {96, 3, longer, longer, 3, 133, 0};
    attention a = attention_at(&large, &site, 1);
    check(&a, false);
}

static void only_the_first_row_of_each_sequence_asks(void **state)
{
    (void)state;
    const dropout site = dropout_site(0.25f, 1, 2, 3);
    const attention_shape shape = {8, 4, firsts, unequal, 4, 7, 0};
    attention bare = attention_at(&shape, NULL, 1), dropping = attention_at(&shape, &site, 1);
    check(&bare, true);
    check(&dropping, true);
}

/* Scores of hundreds: without the largest taken off first, the exponentials would be infinite. */
static void sharp_attention_stays_finite(void **state)
{
    (void)state;
    const attention_shape shape = {8, 2, unequal, unequal, 4, 7, 0};
    attention a = attention_at(&shape, NULL, 300);
    attention_loss(&a);
    attention_forward(a.context.f, a.log_sum.f, a.q.f, a.kv.f, &shape, NULL, a.scratch.f);
    assert_close_f("sharp context", a.context.f, a.context.d, a.context.n, 1e-3);
    attention_backward(a.dq.f, a.dkv.f, a.dcontext.f, a.context.f, a.log_sum.f, a.q.f, a.kv.f, &shape, NULL,
                       a.scratch.f);
    for (size_t i = 0; i < a.dkv.n; i++)
        assert_true(isfinite(a.dkv.f[i]));
}

/* ---- softmax */

typedef struct softmax {
    size_t rows, width;
    values x, y, dy;
} softmax;

static double softmax_loss(void *context)
{
    softmax *s = context;
    reference_softmax_rows_f64(s->y.d, s->x.d, s->rows, s->width);
    return product(s->y.d, s->dy.d, s->y.n);
}

static void softmax_matches_and_differentiates(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {1, 2}, {3, 7}, {20, 33}, {9, 257}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t rows = shapes[i][0], width = shapes[i][1], n = rows * width;
        softmax s = {rows, width, draw(n, 1, 4), zeros(n), draw(n, 2, 1)};
        softmax_loss(&s);
        softmax_rows(s.y.f, s.x.f, rows, width);
        assert_close_f("softmax", s.y.f, s.y.d, n, F32);
        softmax_rows(s.x.f, s.x.f, rows, width); /* in place */
        assert_memory_equal(s.x.f, s.y.f, n * sizeof(float));
        if (width == 1 || width > 40)
            continue;
        const values dx = zeros(n);
        reference_softmax_rows_backward_f64(dx.d, s.dy.d, s.y.d, rows, width);
        assert_close("plain softmax dx", dx.d, differences(s.x.d, n, softmax_loss, &s), n, NUMERICAL);
    }
}

static void softmax_of_huge_scores_is_finite(void **state)
{
    (void)state;
    const float x[4] = {1e30f, -1e30f, 1e30f, 0};
    float y[4];
    softmax_rows(y, x, 1, 4);
    assert_true(y[0] == 0.5f && y[2] == 0.5f && y[1] < 1e-37f && y[3] < 1e-37f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_memory, give_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(softmax_matches_and_differentiates),
        TEST(softmax_of_huge_scores_is_finite),
        TEST(attention_without_dropout),
        TEST(one_token_attends_to_itself),
        TEST(attention_with_dropout),
        TEST(only_the_first_row_of_each_sequence_asks),
        TEST(sharp_attention_stays_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
