/* test_grad_encoder.c: the whole encoder. A second one, built here of the plain kernels in double, says what the logits
 * are and, by finite differences, what every parameter's gradient is, with dropout and without. And what must not
 * change anything does not: what a sequence is packed with, how a batch is cut into parts, that only [CLS] asks in the
 * last layer. */
#include "grad/twin.h"

static const uint8_t labels[SEQUENCES] = {1, 0, 0, 1};
static const float weights[SEQUENCES] = {0.5f, 1.5f, 1.0f, 2.0f};

static double twin_loss(void *context)
{
    twin *t = context;
    static const uint32_t ones[SEQUENCES + 1] = {0, 1, 2, 3, 4}; /* the first row of each sequence */
    static double x[TOKENS * WIDTH], cls[SEQUENCES * WIDTH], pooled[SEQUENCES * WIDTH];
    const dropout head = encoder_site(t->d, ENCODER_SITE_HEAD);
    double dlogits[SEQUENCES], wide[SEQUENCES];
    twin_body(t, x, starts, ones);
    for (size_t s = 0; s < SEQUENCES; s++) {
        memcpy(cls + s * WIDTH, x + (t->all_ask ? starts[s] : s) * WIDTH, WIDTH * sizeof *x);
        wide[s] = (double)weights[s];
    }
    reference_linear_forward_f64(pooled, cls, at_name(t, "cls.weight"), at_name(t, "cls.bias"), SEQUENCES, WIDTH,
                                 WIDTH);
    reference_tanh_forward_f64(pooled, pooled, SEQUENCES * WIDTH);
    reference_dropout_add_f64(pooled, pooled, NULL, SEQUENCES * WIDTH, &head);
    reference_linear_forward_f64(t->logits, pooled, at_name(t, "cls.output.weight"), at_name(t, "cls.output.bias"),
                                 SEQUENCES, WIDTH, 1);
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
    encoder *e = new_encoder(DRR_HEAD_CLS);
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
    encoder *e = new_encoder(DRR_HEAD_CLS);
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
    encoder *e = new_encoder(DRR_HEAD_CLS);
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

static drr_status backward(const encoder *e, encoder_tape *tape, const encoder_dropout *d, float *gradients,
                           double *loss)
{
    float logits[SEQUENCES];
    return encoder_backward(e, tape, ids, starts, SEQUENCES, labels, weights, 5, d, gradients, logits, loss, NULL);
}

static void every_gradient_is_the_derivative(void **state)
{
    (void)state;
    check_gradients(DRR_HEAD_CLS, NULL, twin_loss, backward);
}

static void every_gradient_is_the_derivative_under_a_dropout_mask(void **state)
{
    (void)state;
    const encoder_dropout d = {.rate = 0.2f, .seed = 3, .step = 4};
    check_gradients(DRR_HEAD_CLS, &d, twin_loss, backward);
}

static void dropout_changes_with_the_step_and_not_without(void **state)
{
    (void)state;
    encoder *e = new_encoder(DRR_HEAD_CLS);
    const encoder_dropout now = {.rate = 0.2f, .seed = 3, .step = 4}, again = now;
    const encoder_dropout next = {.rate = 0.2f, .seed = 3, .step = 5}, other = {.rate = 0.2f, .seed = 4, .step = 4};
    double loss[5];
    gradients_of(e, &now, backward, &loss[0]);
    gradients_of(e, &again, backward, &loss[1]);
    gradients_of(e, &next, backward, &loss[2]);
    gradients_of(e, &other, backward, &loss[3]);
    gradients_of(e, NULL, backward, &loss[4]);
    assert_true(loss[0] == loss[1]);
    for (size_t i = 0; i < 5; i++)
        for (size_t k = i + 1; k < 5; k++)
            assert_true((i == 0 && k == 1) || loss[i] != loss[k]);
    encoder_free(e);
}

static void parts_of_a_batch_add_up_to_the_whole(void **state)
{
    (void)state;
    encoder *e = new_encoder(DRR_HEAD_CLS);
    double whole, parts = 0;
    const float *gradients = gradients_of(e, NULL, backward, &whole);
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
