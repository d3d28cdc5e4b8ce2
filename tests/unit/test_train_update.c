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

/* One row of the vocabulary met in every third step, one in two early ones, one never; others now and then. */
static size_t step_tokens(int32_t ids[8], uint64_t step)
{
    size_t n = 0;
    if (step % 3 == 0)
        ids[n++] = 5;
    if (step == 1 || step == 2)
        ids[n++] = 11;
    for (int k = 0; k < 3; k++)
        ids[n++] = (int32_t)(12 + (7 * step + 5 * (uint64_t)k) % 15);
    return n;
}

static void draw_gradients(float *g, const encoder *e, const int32_t *ids, size_t n, uint64_t step)
{
    const size_t width = e->shape.n_embd;
    rng r;
    rng_seed(&r, step);
    for (size_t i = e->tensors[1].offset; i < e->n_parameters; i++)
        g[i] = (float)rng_normal(&r);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < width; i++)
            g[(size_t)ids[k] * width + i] += (float)rng_normal(&r);
}

static void rows_that_a_step_does_not_meet_end_as_if_it_had(void **state)
{
    (void)state;
    enum { STEPS = 40 };
    for (int clips = 0; clips < 2; clips++) {
        update dense = update_new(), sparse = update_new();
        row_updates *u = NULL;
        fit_options o = plain;
        o.weight_decay = 0.1;
        o.clip_norm = clips ? 1 : 0;
        assert_int_equal(row_updates_new(&u, sparse.e, sparse.m, sparse.v, &o, STEPS, 0, NULL), DRR_OK);
        for (uint64_t step = 0; step < STEPS; step++) {
            int32_t ids[8];
            const size_t n = step_tokens(ids, step);
            draw_gradients(dense.g, dense.e, ids, n, step);
            draw_gradients(sparse.g, sparse.e, ids, n, step);
            row_updates_see(u, ids, n);
            for (size_t k = 0; k < n; k++) /* what a pass reads is up to date */
                assert_true(clips || memcmp(sparse.e->parameters + ids[k] * 16, dense.e->parameters + ids[k] * 16,
                                            16 * sizeof(float)) == 0);
            const double a =
                encoder_update(dense.e, dense.g, dense.m, dense.v, &o, learning_rate_at(&o, step, STEPS), step + 1);
            const double b = row_updates_step(u, sparse.g);
            assert_true(fabs(a - b) < 1e-12 * a);
            assert_memory_equal(sparse.g, dense.g, dense.e->n_parameters * sizeof(float)); /* all 0 again */
            if (step == 23) {                                                              /* as at a checkpoint */
                row_updates_finish(u);
                row_updates_free(u);
                assert_int_equal(row_updates_new(&u, sparse.e, sparse.m, sparse.v, &o, STEPS, step + 1, NULL), DRR_OK);
            }
        }
        assert_true(memcmp(sparse.e->parameters, dense.e->parameters, 11 * 16 * sizeof(float)) != 0);
        row_updates_finish(u);
        if (!clips) {
            const size_t bytes = dense.e->n_parameters * sizeof(float);
            assert_memory_equal(sparse.e->parameters, dense.e->parameters, bytes);
            assert_memory_equal(sparse.m, dense.m, bytes);
            assert_memory_equal(sparse.v, dense.v, bytes);
        }
        for (size_t i = 0; i < dense.e->n_parameters; i++)
            assert_true(fabsf(sparse.e->parameters[i] - dense.e->parameters[i]) < 1e-6f);
        row_updates_free(u);
        update_free(&dense);
        update_free(&sparse);
    }
    row_updates_free(NULL);
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
        cmocka_unit_test(rows_that_a_step_does_not_meet_end_as_if_it_had),
        cmocka_unit_test(every_tensor_has_its_own_parameters_and_the_arena_has_no_gaps),
        cmocka_unit_test(class_weights_take_the_lead_from_the_larger_class),
        cmocka_unit_test(a_loss_that_is_no_number_ends_the_fit),
        cmocka_unit_test(an_id_outside_the_vocabulary_is_refused),
    };
    parallel_set_threads(
        1); /* so small an encoder gains nothing from more, and waiting threads take time from others */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
