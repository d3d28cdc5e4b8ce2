/* test_train_fit.c: the learning rate rises and falls as it should, a tiny encoder learns a made-up rule, and a run
 * that was interrupted ends with the very bits of one that was not. Checkpoints of other runs and damaged ones are
 * refused. */
#include "core/statistics.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { VOCABULARY = 24, RULE_TOKEN = 7, TRAIN = 192, DEV = 64 };

static char checkpoint_path[80];

static int make_place(void **state)
{
    static char folder[64];
    *state = folder;
    snprintf(folder, sizeof folder, "/tmp/drr-fit.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(checkpoint_path, sizeof checkpoint_path, "%s/checkpoint", folder);
    parallel_set_threads(1); /* a step is too small to share */
    return 0;
}

static int remove_place(void **state)
{
    unlink(checkpoint_path);
    return rmdir(*state); /* fails when something else was left there */
}

static encoder *tiny_encoder(uint64_t seed)
{
    const encoder_shape shape = {.n_layers = 2,
                                 .n_embd = 16,
                                 .n_heads = 2,
                                 .n_ff = 32,
                                 .n_vocab = VOCABULARY,
                                 .n_positions = 24,
                                 .n_types = 2,
                                 .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    rng_seed(&r, seed);
    for (size_t i = 0; i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        const bool gain = strstr(t->name, "norm.weight") != NULL;
        for (size_t k = 0; k < (size_t)t->rows * t->columns; k++)
            e->parameters[t->offset + k] = gain ? 1.0f : t->decay ? 0.15f * (float)rng_normal(&r) : 0.0f;
    }
    return e;
}

/* Right are the texts with the rule's token anywhere in them. */
static examples made_texts(size_t n, uint64_t seed)
{
    examples x = {0};
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        int32_t ids[20] = {1};
        const size_t length = 6 + (size_t)rng_below(&r, 14);
        const bool right = rng_below(&r, 3) == 0;
        for (size_t k = 1; k < length; k++)
            ids[k] = (int32_t)(RULE_TOKEN + 1 + rng_below(&r, VOCABULARY - RULE_TOKEN - 1));
        if (right)
            ids[1 + rng_below(&r, length - 1)] = RULE_TOKEN;
        assert_int_equal(examples_add(&x, ids, length, right, NULL), DRR_OK);
    }
    return x;
}

static fit_options quick_options(void)
{
    return (fit_options){.epochs = 3,
                         .batch = 16,
                         .budget = 100, /* several parts a step */
                         .learning_rate = 2e-3,
                         .weight_decay = 0.01,
                         .warmup_share = 0.1,
                         .clip_norm = 1,
                         .dropout = 0.1,
                         .class_weights = true,
                         .seed = 11};
}

/* ---- the learning rate */

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12))
        fail_msg("%.15g is not %.15g", value, expected);
}

static void the_learning_rate_rises_over_the_first_share_and_falls_to_nothing(void **state)
{
    (void)state;
    fit_options o = {.learning_rate = 1, .warmup_share = 0.1};
    near(learning_rate_at(&o, 0, 100), 0.1); /* the first step is not lost */
    near(learning_rate_at(&o, 4, 100), 0.5);
    near(learning_rate_at(&o, 9, 100), 1);
    near(learning_rate_at(&o, 10, 100), 1);
    near(learning_rate_at(&o, 55, 100), 0.5);
    near(learning_rate_at(&o, 99, 100), 1.0 / 90);
    o.warmup_share = 0;
    near(learning_rate_at(&o, 0, 4), 1);
    near(learning_rate_at(&o, 3, 4), 0.25);
    o.warmup_share = 1;
    near(learning_rate_at(&o, 0, 4), 0.25);
    near(learning_rate_at(&o, 3, 4), 1);
    o.warmup_share = 0.9; /* of one step: none */
    near(learning_rate_at(&o, 0, 1), 1);
}

/* ---- learning */

static fit_result fit(encoder *e, const examples *train, const examples *dev, const fit_options *o)
{
    fit_result result = {0};
    drr_error err = {0};
    if (encoder_fit(e, train, dev, o, &result, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return result;
}

static void measure(double *loss, double *auroc, const encoder *e, const examples *x)
{
    float logits[TRAIN];
    double scores[TRAIN];
    assert_true(x->n <= TRAIN);
    assert_int_equal(examples_logits(e, x, 128, logits, NULL, NULL), DRR_OK);
    *loss = 0;
    for (size_t i = 0; i < x->n; i++) {
        scores[i] = (double)logits[i];
        *loss += log1p(exp(x->labels[i] ? -scores[i] : scores[i])) / (double)x->n;
    }
    *auroc = statistics_auroc(scores, x->labels, x->n);
}

static void an_encoder_learns_a_rule_over_its_tokens(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3);
    fit_options o = quick_options();
    double before, after, auroc;
    o.epochs = 25;
    o.dropout = 0;
    o.learning_rate = 4e-3;
    measure(&before, &auroc, e, &train);
    const fit_result result = fit(e, &train, &dev, &o);
    measure(&after, &auroc, e, &train);
    print_message("train loss %.3f before, %.4f after; dev AUROC %.3f\n", before, after, result.best_auroc);
    assert_true(before > 0.5);
    assert_true(after < 0.05);
    assert_true(auroc > 0.999);
    assert_true(result.best_auroc > 0.95);
    assert_int_equal(result.steps, 25 * TRAIN / 16);
    encoder_free(e);
    examples_clear(&train);
    examples_clear(&dev);
}

static void what_stays_is_the_epoch_that_was_best_on_dev(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3);
    fit_options o = quick_options();
    double loss, auroc;
    for (size_t i = 0; i < dev.n; i++) /* dev says the opposite of train: the sooner the better */
        dev.labels[i] = !dev.labels[i];
    o.epochs = 30;
    o.patience = 2;
    o.dropout = 0;
    o.learning_rate = 4e-3;
    const fit_result result = fit(e, &train, &dev, &o);
    measure(&loss, &auroc, e, &dev);
    assert_in_range(result.best_epoch, 1, 28);
    assert_int_equal(result.steps, (result.best_epoch + 2) * TRAIN / 16);
    near(loss, result.best_loss);
    near(auroc, result.best_auroc);
    encoder_free(e);
    examples_clear(&train);
    examples_clear(&dev);
}

static void or_the_last_where_that_is_wanted(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1), *other = tiny_encoder(1);
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3), none = {0};
    fit_options o = quick_options();
    for (size_t i = 0; i < dev.n; i++) /* as above: dev would take an early epoch */
        dev.labels[i] = !dev.labels[i];
    o.epochs = 6;
    o.patience = 1;
    o.learning_rate = 4e-3;
    o.keep_last = true;
    const fit_result result = fit(e, &train, &dev, &o);
    fit(other, &train, &none, &o);
    assert_int_equal(result.best_epoch, o.epochs);
    assert_int_equal(result.steps, 6 * TRAIN / 16);
    assert_memory_equal(e->parameters, other->parameters, e->n_parameters * sizeof(float));
    encoder_free(e);
    encoder_free(other);
    examples_clear(&train);
    examples_clear(&dev);
}

static void parts_and_their_number_change_nothing_but_rounding(void **state)
{
    (void)state;
    encoder *a = tiny_encoder(1), *b = tiny_encoder(1);
    examples train = made_texts(TRAIN, 2), none = {0};
    fit_options o = quick_options();
    double farthest = 0;
    o.dropout = 0; /* its masks are of the parts */
    o.epochs = 1;
    fit(a, &train, &none, &o);
    o.budget = 4096;
    fit(b, &train, &none, &o);
    for (size_t i = 0; i < a->n_parameters; i++)
        farthest = fmax(farthest, fabs((double)a->parameters[i] - (double)b->parameters[i]));
    assert_true(farthest < 12 * o.learning_rate * 0.05); /* 12 steps; a weight of another loss moves far more */
    encoder_free(a);
    encoder_free(b);
    examples_clear(&train);
}

/* ---- interruption */

static bool count_down(void *user)
{
    int *left = user;
    return --*left < 0;
}

/* Starts anew from the same encoder and stops when asked the `asked`th time; then goes on in the same way till done.
 * Returns how often it stopped. */
static size_t fit_in_pieces(encoder **out, const examples *train, const examples *dev, fit_options o, int asked)
{
    for (size_t stops = 0;; stops++) {
        int left = asked;
        const drr_hooks hooks = {.cancelled = count_down, .user = &left};
        drr_error err = {0};
        fit_result result = {0};
        encoder *e = tiny_encoder(1);
        o.checkpoint = checkpoint_path;
        o.resume = stops > 0;
        const drr_status status = encoder_fit(e, train, dev, &o, &result, &hooks, &err);
        if (status == DRR_OK) {
            *out = e;
            return stops;
        }
        encoder_free(e);
        assert_int_equal(status, DRR_E_INTERRUPTED);
        assert_non_null(strstr(err.message, "--resume"));
        assert_true(stops < 100);
    }
}

static void compare_pieces(uint32_t threads, const int *asked, size_t n)
{
    encoder *whole = tiny_encoder(1), *pieces = NULL;
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3);
    const fit_options o = quick_options();
    parallel_set_threads(threads);
    fit(whole, &train, &dev, &o);
    for (size_t i = 0; i < n; i++) {
        const size_t stops = fit_in_pieces(&pieces, &train, &dev, o, asked[i]);
        assert_true(asked[i] > 1000 ? stops == 0 : stops > 0);
        assert_memory_equal(pieces->parameters, whole->parameters, whole->n_parameters * sizeof(float));
        encoder_free(pieces);
        unlink(checkpoint_path);
    }
    encoder_free(whole);
    examples_clear(&train);
    examples_clear(&dev);
    parallel_set_threads(1);
}

static void an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    const int asked[] = {1 << 20, 30, 17, 13, 12, 11};
    compare_pieces(1, asked, sizeof asked / sizeof *asked);
    compare_pieces(2, asked + 3, 1);
}

static drr_status stop_after(int steps, const examples *train, const examples *dev, const fit_options *o)
{
    int left = steps;
    const drr_hooks hooks = {.cancelled = count_down, .user = &left};
    fit_result result;
    encoder *e = tiny_encoder(1);
    const drr_status status = encoder_fit(e, train, dev, o, &result, &hooks, NULL);
    encoder_free(e);
    return status;
}

/* Tries to go on; a refusal leaves the encoder as it was. */
static drr_status go_on(uint64_t encoder_seed, const examples *train, const examples *dev, fit_options o)
{
    fit_result result;
    drr_error err = {0};
    encoder *e = tiny_encoder(encoder_seed), *same = tiny_encoder(encoder_seed);
    o.resume = true;
    const drr_status status = encoder_fit(e, train, dev, &o, &result, NULL, &err);
    if (status != DRR_OK) {
        assert_memory_equal(e->parameters, same->parameters, e->n_parameters * sizeof(float));
        assert_non_null(strstr(err.message, checkpoint_path));
    }
    encoder_free(e);
    encoder_free(same);
    return status;
}

static void a_checkpoint_of_another_run_is_refused(void **state)
{
    (void)state;
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3), none = {0};
    const fit_options o = {.epochs = 3, .batch = 16, .learning_rate = 1e-3, .seed = 1, .checkpoint = checkpoint_path};
    fit_options other[5] = {o, o, o, o, o};
    assert_int_equal(stop_after(5, &train, &dev, &o), DRR_E_INTERRUPTED);
    other[0].seed = 2;
    other[1].learning_rate = 2e-3;
    other[2].epochs = 4;
    other[3].class_weights = true;
    other[4].dropout = 0.1;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(go_on(1, &train, &dev, other[i]), DRR_E_MISMATCH);
    assert_int_equal(go_on(2, &train, &dev, o), DRR_E_MISMATCH); /* another encoder */
    assert_int_equal(go_on(1, &train, &none, o), DRR_E_MISMATCH);
    train.labels[0] = !train.labels[0];
    assert_int_equal(go_on(1, &train, &dev, o), DRR_E_MISMATCH);
    train.labels[0] = !train.labels[0];
    assert_int_equal(go_on(1, &train, &dev, o), DRR_OK);
    unlink(checkpoint_path);
    assert_int_equal(go_on(1, &train, &dev, o), DRR_OK); /* there is none: from the start */
    unlink(checkpoint_path);
    examples_clear(&train);
    examples_clear(&dev);
}

static void a_damaged_checkpoint_is_refused(void **state)
{
    (void)state;
    examples train = made_texts(TRAIN, 2), dev = made_texts(DEV, 3);
    const fit_options o = {.epochs = 3, .batch = 16, .learning_rate = 1e-3, .seed = 1, .checkpoint = checkpoint_path};
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(stop_after(20, &train, &dev, &o), DRR_E_INTERRUPTED);
    assert_int_equal(file_read(&data, &size, checkpoint_path, 1 << 24, NULL), DRR_OK);
    for (size_t at = 0; at < size; at += at < 120 ? 1 : size / 29) {
        data[at] = (char)(data[at] ^ 0x10);
        assert_int_equal(file_write_all(checkpoint_path, data, size, NULL), DRR_OK);
        const drr_status status = go_on(1, &train, &dev, o);
        assert_true(status == DRR_E_FORMAT || status == DRR_E_MISMATCH);
        data[at] = (char)(data[at] ^ 0x10);
    }
    for (size_t cut = 0; cut < size; cut += size / 13) {
        assert_int_equal(file_write_all(checkpoint_path, data, cut, NULL), DRR_OK);
        assert_int_equal(go_on(1, &train, &dev, o), DRR_E_FORMAT);
    }
    assert_int_equal(file_write_all(checkpoint_path, data, size, NULL), DRR_OK);
    assert_int_equal(go_on(1, &train, &dev, o), DRR_OK);
    unlink(checkpoint_path);
    free(data);
    examples_clear(&train);
    examples_clear(&dev);
}

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    examples train = made_texts(8, 2), none = {0};
    fit_options o[5];
    fit_result result;
    for (size_t i = 0; i < 5; i++)
        o[i] = quick_options();
    o[0].epochs = 0;
    o[1].batch = 0;
    o[2].learning_rate = NAN;
    o[3].dropout = 1;
    o[4].warmup_share = 2;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(encoder_fit(e, &train, &none, &o[i], &result, NULL, NULL), DRR_E_ARGUMENT);
    o[0] = quick_options();
    assert_int_equal(encoder_fit(e, &none, &none, &o[0], &result, NULL, NULL), DRR_E_EMPTY);
    encoder_free(e);
    examples_clear(&train);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_learning_rate_rises_over_the_first_share_and_falls_to_nothing),
        cmocka_unit_test(an_encoder_learns_a_rule_over_its_tokens),
        cmocka_unit_test(what_stays_is_the_epoch_that_was_best_on_dev),
        cmocka_unit_test(or_the_last_where_that_is_wanted),
        cmocka_unit_test(parts_and_their_number_change_nothing_but_rounding),
        cmocka_unit_test(an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one),
        cmocka_unit_test(a_checkpoint_of_another_run_is_refused),
        cmocka_unit_test(a_damaged_checkpoint_is_refused),
        cmocka_unit_test(options_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
