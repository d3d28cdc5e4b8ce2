/* test_train_bf16.c: an encoder in mixed precision gives the logits and gradients of fp32 to within what bf16 can tell,
 * learns as fast, goes on after an interruption with the same bits, and does not take the checkpoint of the other
 * precision. On a CPU without bf16 this is skipped, but for what is said there. */
#include "train_fixture.h"

#include <math.h>

enum { SEQUENCES = 20 };

static const fit_options plain = {.epochs = 4,
                                  .batch = 16,
                                  .budget = 100, /* several parts a step */
                                  .learning_rate = 3e-3,
                                  .weight_decay = 0.01,
                                  .warmup_share = 0.1,
                                  .clip_norm = 1,
                                  .dropout = 0.1,
                                  .seed = 3};

static encoder *half_encoder(uint64_t seed)
{
    encoder *e = tiny_encoder(seed);
    e->bf16 = true;
    return e;
}

static double cosine(const float *a, const float *b, size_t n, double *ratio)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    *ratio = sqrt(aa / bb);
    return ab / sqrt(aa * bb);
}

typedef struct backward { /* of one packed batch */
    float *gradients, logits[SEQUENCES];
    double loss;
} backward;

static backward backward_of(const encoder *e, const encoder_dropout *d)
{
    examples x = marked_texts(SEQUENCES, 5);
    uint32_t starts[SEQUENCES + 1];
    backward b = {.gradients = calloc(e->n_parameters, sizeof(float))};
    encoder_tape *tape = NULL;
    assert_non_null(b.gradients);
    for (size_t i = 0; i <= SEQUENCES; i++)
        starts[i] = (uint32_t)x.starts[i];
    assert_int_equal(encoder_tape_new(&tape, e, 300, SEQUENCES, 24, NULL), DRR_OK);
    for (int pass = 0; pass < 2; pass++) { /* used again: nothing of the first pass is in the second */
        memset(b.gradients, 0, e->n_parameters * sizeof(float));
        b.loss = 0;
        assert_int_equal(encoder_backward(e, tape, x.ids, starts, SEQUENCES, x.labels, NULL, SEQUENCES, d, b.gradients,
                                          b.logits, &b.loss, NULL),
                         DRR_OK);
    }
    encoder_tape_free(tape);
    examples_clear(&x);
    return b;
}

static void check_gradients(const encoder_dropout *d)
{
    encoder *whole = tiny_encoder(1), *half = half_encoder(1);
    for (size_t i = 0; i < whole->n_parameters; i++) /* away from 0.1: differences that count */
        half->parameters[i] = whole->parameters[i] *= 2;
    backward a = backward_of(whole, d), b = backward_of(half, d);
    assert_true(fabs(a.loss - b.loss) < 0.01);
    for (size_t i = 0; i < SEQUENCES; i++)
        assert_true(fabsf(a.logits[i] - b.logits[i]) < 0.02f + 0.02f * fabsf(a.logits[i]));
    for (size_t t = 0; t < whole->n_tensors; t++) {
        const encoder_tensor *tensor = &whole->tensors[t];
        if (strstr(tensor->name, "attn_k.bias")) /* softmax undoes it: 0 but for rounding */
            continue;
        double ratio;
        const double angle = cosine(b.gradients + tensor->offset, a.gradients + tensor->offset,
                                    (size_t)tensor->rows * tensor->columns, &ratio);
        if (!(angle > 0.995 &&
              fabs(ratio - 1) < 0.06)) /* sums of cancelling parts: biases of attention are the worst */
            fail_msg("%s: cosine %.5f, length %.4f of fp32's", tensor->name, angle, ratio);
    }
    free(a.gradients);
    free(b.gradients);
    encoder_free(whole);
    encoder_free(half);
}

static void logits_and_gradients_are_those_of_fp32_but_for_rounding(void **state)
{
    (void)state;
    const encoder_dropout d = {.rate = 0.1f, .seed = 1, .step = 2};
    if (!bf16_is_native())
        skip();
    check_gradients(NULL);
    check_gradients(&d); /* the same elements are dropped */
}

static void a_changed_weight_counts_once_it_is_packed(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    encoder *e = half_encoder(1);
    encoder_workspace *w = NULL;
    const int32_t ids[3] = {2, 9, 12};
    const uint32_t starts[2] = {0, 3};
    float before, after, fresh;
    assert_int_equal(encoder_workspace_new(&w, e, 8, 1, NULL), DRR_OK);
    assert_int_equal(encoder_logits(e, w, ids, starts, 1, &before, NULL), DRR_OK);
    const encoder_tensor *t = encoder_find(e, "blk.0.ffn_up.weight");
    for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
        e->parameters[t->offset + i] *= -3;
    encoder_workspace_pack(w, e);
    assert_int_equal(encoder_logits(e, w, ids, starts, 1, &after, NULL), DRR_OK);
    encoder_workspace_free(w);
    assert_int_equal(encoder_workspace_new(&w, e, 8, 1, NULL), DRR_OK);
    assert_int_equal(encoder_logits(e, w, ids, starts, 1, &fresh, NULL), DRR_OK);
    assert_true(before != after && after == fresh);
    encoder_workspace_free(w);
    encoder_free(e);
}

static double fitted_loss(encoder *e, const fit_options *o)
{
    examples train = marked_texts(96, 2), none = {0};
    fit_result result;
    assert_int_equal(encoder_fit(e, &train, &none, o, &result, NULL, NULL), DRR_OK);
    examples_clear(&train);
    return result.last_train_loss;
}

static void the_loss_falls_as_it_does_in_fp32(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    for (uint32_t epochs = 2; epochs <= 16; epochs *= 2) {
        encoder *whole = tiny_encoder(1), *half = half_encoder(1);
        fit_options o = plain;
        o.epochs = epochs;
        const double a = fitted_loss(whole, &o), b = fitted_loss(half, &o);
        print_message("%u epochs: loss %.4f in fp32, %.4f in bf16\n", epochs, a, b);
        assert_true(fabs(a - b) < 0.02 + 0.05 * a);
        assert_true(epochs < 16 || b < 0.4); /* and it did learn */
        encoder_free(whole);
        encoder_free(half);
    }
}

static void an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    encoder *whole = half_encoder(1), *pieces = NULL, *other = tiny_encoder(1);
    examples train = marked_texts(96, 2), dev = marked_texts(32, 4);
    assert_int_equal(fit_some(whole, &train, &dev, plain, false, 1 << 20), DRR_OK);
    unlink(at("checkpoint"));
    for (int stops = 0;; stops++) {
        encoder_free(pieces);
        pieces = half_encoder(1);
        const drr_status status = fit_some(pieces, &train, &dev, plain, stops > 0, 9);
        if (status == DRR_OK) {
            assert_true(stops > 1);
            break;
        }
        assert_int_equal(status, DRR_E_INTERRUPTED);
        if (stops == 0) /* fp32 does not go on with it */
            assert_int_equal(fit_some(other, &train, &dev, plain, true, 1 << 20), DRR_E_MISMATCH);
    }
    assert_memory_equal(pieces->parameters, whole->parameters, whole->n_parameters * sizeof(float));
    encoder_free(whole);
    encoder_free(pieces);
    encoder_free(other);
    examples_clear(&train);
    examples_clear(&dev);
}

static void auto_is_what_the_cpu_has_and_bf16_without_it_is_refused(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    drr_precision p = DRR_PRECISION_AUTO;
    assert_int_equal(encoder_set_precision(e, &p, NULL), DRR_OK);
    assert_int_equal(p, bf16_is_native() ? DRR_PRECISION_BF16 : DRR_PRECISION_FP32);
    assert_true(e->bf16 == bf16_is_native());
    p = DRR_PRECISION_FP32;
    assert_int_equal(encoder_set_precision(e, &p, NULL), DRR_OK);
    assert_false(e->bf16);
    p = DRR_PRECISION_BF16;
    assert_int_equal(encoder_set_precision(NULL, &p, NULL), bf16_is_native() ? DRR_OK : DRR_E_BACKEND);
    for (int i = DRR_PRECISION_AUTO; i <= DRR_PRECISION_BF16; i++) {
        assert_int_equal(drr_precision_parse(&p, drr_precision_name((drr_precision)i), NULL), DRR_OK);
        assert_int_equal(p, i);
    }
    assert_int_equal(drr_precision_parse(&p, "fp16", NULL), DRR_E_ARGUMENT);
    encoder_free(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(logits_and_gradients_are_those_of_fp32_but_for_rounding),
        TEST(a_changed_weight_counts_once_it_is_packed),
        TEST(the_loss_falls_as_it_does_in_fp32),
        TEST(an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one),
        TEST(auto_is_what_the_cpu_has_and_bf16_without_it_is_refused),
    };
    parallel_set_threads(1); /* a step is too small to share */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
