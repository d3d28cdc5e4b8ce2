/* test_grad_losses.c: the losses beside plain cross-entropy, and a head of tokens. Gradients of the losses by finite
 * differences in double of formulas written out here; those of a whole encoder whose head reads several rows of each
 * sequence, by a twin of it in double made of the plain kernels, with dropout and without. */
#include "grad/twin.h"

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

enum { READS = 9 };
static const uint32_t rows[READS] = {2, 4, 6, 7, 9, 11, 12, 20, 21}, row_starts[SEQUENCES + 1] = {0, 3, 4, 6, READS};
static const float targets[READS] = {0.25f, 1, 1, 0, 0.5f, 0, 0.75f, 0, 1};
static const float read_weights[READS] = {0.5f, 1.5f, 1, 2, 0.25f, 1, 1, 3, 0.5f};
static const uint8_t sequence_labels[SEQUENCES] = {1, 0, 0, 1};
static const bool sequence_joined[SEQUENCES] = {false, true, true, true};
static const uint32_t last_reads[SEQUENCES] = {2, 3, 5, 8};

static double twin_loss(void *context)
{
    twin *t = context;
    static double x[TOKENS * WIDTH];
    const dropout head = encoder_site(t->d, ENCODER_SITE_HEAD);
    double loss = 0;
    twin_body(t, x, rows, row_starts);
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

static drr_status backward(const encoder *e, encoder_tape *tape, const encoder_dropout *d, float *gradients,
                           double *loss)
{
    float logits[READS];
    encoder_tape_read(tape, rows, row_starts);
    return encoder_backward_by(e, tape, ids, starts, SEQUENCES, library_loss, NULL, d, gradients, logits, loss, NULL);
}

static void every_gradient_is_the_derivative(void **state)
{
    (void)state;
    check_gradients(DRR_HEAD_TOKEN, NULL, twin_loss, backward);
}

static void every_gradient_is_the_derivative_under_a_dropout_mask(void **state)
{
    (void)state;
    const encoder_dropout d = {.rate = 0.2f, .seed = 3, .step = 4};
    check_gradients(DRR_HEAD_TOKEN, &d, twin_loss, backward);
}

static void a_head_of_tokens_is_read_at_the_last_token_unless_told_otherwise(void **state)
{
    (void)state;
    encoder *e = new_encoder(DRR_HEAD_TOKEN);
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
    encoder *e = new_encoder(DRR_HEAD_TOKEN);
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
