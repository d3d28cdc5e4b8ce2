/* test_train_update.c: one update clips what is long and decays what should decay; class weights count as they say; a
 * loss that is no number ends a fit. test_train_fit.c is about whole runs. */
#include "train_fixture.h"

#include <math.h>

static const fit_options plain = {.epochs = 3,
                                  .batch = 8,
                                  .budget = 40,
                                  .learning_rate = 3e-3,
                                  .weight_decay = 0.01,
                                  .warmup_share = 0.1,
                                  .clip_norm = 1,
                                  .dropout = 0.1,
                                  .seed = 3};

typedef struct update { /* an encoder and the memory of its updates */
    encoder *e, *before;
    float *g, *m, *v;
} update;

static update update_new(void)
{
    update u = {tiny_encoder(1), tiny_encoder(1), NULL, NULL, NULL};
    u.g = calloc(u.e->n_parameters, sizeof(float));
    u.m = calloc(u.e->n_parameters, sizeof(float));
    u.v = calloc(u.e->n_parameters, sizeof(float));
    assert_true(u.g && u.m && u.v);
    return u;
}

static void update_free(update *u)
{
    encoder_free(u->e);
    encoder_free(u->before);
    free(u->g);
    free(u->m);
    free(u->v);
}

static void a_long_gradient_is_clipped_to_the_norm(void **state)
{
    (void)state;
    static const double clips[] = {1, 100, 0}; /* shorter than 50, longer, none */
    for (size_t i = 0; i < 3; i++) {
        update u = update_new();
        fit_options o = plain;
        o.clip_norm = clips[i];
        u.g[0] = 30;
        u.g[u.e->n_parameters - 1] = 40;
        assert_true(fabs(encoder_update(u.e, u.g, u.m, u.v, &o, 0.01, 1) - 50) < 1e-4); /* as it was before */
        const double scale = i == 0 ? 1.0 / 50 : 1;
        assert_true(fabs((double)u.m[u.e->n_parameters - 1] - 0.1 * 40 * scale) < 1e-5);
        assert_true(u.g[0] == 0.0f && u.g[u.e->n_parameters - 1] == 0.0f); /* ready for the next step */
        update_free(&u);
    }
}

static void weights_decay_and_biases_and_norms_do_not(void **state)
{
    (void)state;
    update u = update_new();
    fit_options o = plain;
    o.weight_decay = 0.5;
    for (size_t i = 0; i < u.e->n_parameters; i++) /* biases of 0 would not show it */
        u.e->parameters[i] = u.before->parameters[i] += 1.0f;
    encoder_update(u.e, u.g, u.m, u.v, &o, 0.01, 1);
    for (size_t t = 0; t < u.e->n_tensors; t++) {
        const encoder_tensor *tensor = &u.e->tensors[t];
        const bool decays = !strstr(tensor->name, "bias") && !strstr(tensor->name, "norm");
        assert_true(tensor->decay == decays);
        for (size_t i = tensor->offset; i < tensor->offset + (size_t)tensor->rows * tensor->columns; i++)
            assert_true(fabsf(u.e->parameters[i] - (decays ? 0.995f : 1.0f) * u.before->parameters[i]) < 1e-6f);
    }
    update_free(&u);
}

static void every_tensor_has_its_own_parameters_and_the_arena_has_no_gaps(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    size_t end = 0;
    for (size_t t = 0; t < e->n_tensors; t++) {
        assert_int_equal(e->tensors[t].offset, end);
        end += (size_t)e->tensors[t].rows * e->tensors[t].columns;
        assert_ptr_equal(encoder_find(e, e->tensors[t].name), &e->tensors[t]);
    }
    assert_int_equal(end, e->n_parameters);
    assert_null(encoder_find(e, "blk.2.attn_q.weight"));
    encoder_free(e);
    encoder_free(NULL);
}

static double mean_logit(const fit_options *o, const examples *x)
{
    encoder *e = tiny_encoder(1);
    float *logits = calloc(x->n, sizeof *logits);
    examples none = {0};
    fit_result result;
    double sum = 0;
    assert_non_null(logits);
    assert_int_equal(encoder_fit(e, x, &none, o, &result, NULL, NULL), DRR_OK);
    assert_int_equal(examples_logits(e, x, 64, logits, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < x->n; i++)
        sum += (double)logits[i] / (double)x->n;
    free(logits);
    encoder_free(e);
    return sum;
}

static void class_weights_take_the_lead_from_the_larger_class(void **state)
{
    (void)state;
    examples x = marked_texts(160, 1);
    fit_options o = plain;
    for (size_t i = 0; i < x.n; i++) /* nothing to learn but that nine of ten are right */
        x.labels[i] = i % 10 != 3;
    assert_true(mean_logit(&o, &x) > 1.2); /* log 9 is 2.2 */
    o.class_weights = true;
    assert_true(fabs(mean_logit(&o, &x)) < 0.6);
    for (size_t i = 0; i < x.n; i++) /* with one class alone there is nothing to weigh */
        x.labels[i] = 1;
    assert_true(mean_logit(&o, &x) > 1.2);
    examples_clear(&x);
}

static void a_loss_that_is_no_number_ends_the_fit(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    examples x = marked_texts(64, 1), none = {0};
    fit_options o = plain;
    fit_result result;
    drr_error err = {0};
    o.learning_rate = 1e30;
    o.weight_decay = 0;
    assert_int_equal(encoder_fit(e, &x, &none, &o, &result, NULL, &err), DRR_E_BACKEND);
    assert_non_null(strstr(err.message, "learning rate"));
    encoder_free(e);
    examples_clear(&x);
}

static void an_id_outside_the_vocabulary_is_refused(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    examples x = marked_texts(8, 1), none = {0};
    fit_result result;
    float logits[8];
    x.ids[1] = FIXTURE_VOCABULARY;
    assert_int_equal(encoder_fit(e, &x, &none, &plain, &result, NULL, NULL), DRR_E_ARGUMENT);
    assert_int_equal(examples_logits(e, &x, 64, logits, NULL, NULL), DRR_E_ARGUMENT);
    assert_int_equal(examples_logits(e, &none, 64, logits, NULL, NULL), DRR_OK); /* of nothing: nothing */
    encoder_free(e);
    examples_clear(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_gradient_is_clipped_to_the_norm),
        cmocka_unit_test(weights_decay_and_biases_and_norms_do_not),
        cmocka_unit_test(every_tensor_has_its_own_parameters_and_the_arena_has_no_gaps),
        cmocka_unit_test(class_weights_take_the_lead_from_the_larger_class),
        cmocka_unit_test(a_loss_that_is_no_number_ends_the_fit),
        cmocka_unit_test(an_id_outside_the_vocabulary_is_refused),
    };
    parallel_set_threads(
        1); /* so small an encoder gains nothing from more, and waiting threads take time from others */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
