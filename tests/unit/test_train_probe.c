/* test_train_probe.c: the solver ends where nothing is better; a probe finds what hidden states know, in the layer that
 * knows it, and becomes a critic; and what it cannot be fitted to is said. */
#include "train/train_internal.h"
#include "train_fixture.h"

#include <math.h>

/* ---- the solver */

enum { ROWS = 300, COLUMNS = 70 };

typedef struct made {
    float rows[ROWS * COLUMNS];
    uint8_t labels[ROWS];
} made;

static void make(made *m, uint64_t seed)
{
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < ROWS; i++) {
        double z = 0.5;
        for (size_t k = 0; k < COLUMNS; k++) {
            m->rows[i * COLUMNS + k] = (float)rng_normal(&r);
            z += k % 7 == 0 ? 0.8 * (double)m->rows[i * COLUMNS + k] : 0;
        }
        m->labels[i] = rng_uniform(&r) < 1 / (1 + exp(-z));
    }
}

static double objective(const made *m, const double *w, double bias, double l2, size_t n_free)
{
    double z[ROWS], sum = 0.5e-6 * bias * bias;
    probe_scores(z, m->rows, ROWS, COLUMNS, w, bias);
    for (size_t i = 0; i < ROWS; i++)
        sum += log1p(exp(m->labels[i] ? -z[i] : z[i]));
    for (size_t k = 0; k < COLUMNS; k++)
        sum += 0.5 * (k < COLUMNS - n_free ? l2 : 1) * w[k] * w[k];
    return sum;
}

static void nothing_beside_the_solution_is_better(void **state)
{
    (void)state;
    made *m = malloc(sizeof *m);
    double w[COLUMNS] = {0}, bias = 0;
    make(m, 1);
    const probe_problem p = {m->rows, m->labels, ROWS, COLUMNS, 8};
    assert_int_equal(probe_solve(w, &bias, &p, 20, NULL), DRR_OK);
    const double best = objective(m, w, bias, 20, 8);
    for (size_t k = 0; k <= COLUMNS; k++)
        for (int side = -1; side <= 1; side += 2) {
            double other[COLUMNS];
            memcpy(other, w, sizeof w);
            if (k < COLUMNS)
                other[k] += side * 0.02;
            assert_true(objective(m, other, bias + (k == COLUMNS ? side * 0.02 : 0), 20, 8) > best);
        }
    double strong = 0, w2[COLUMNS] = {0}, bias2 = 0, again[COLUMNS], bias3 = bias;
    assert_int_equal(probe_solve(w2, &bias2, &p, 1e7, NULL), DRR_OK);
    for (size_t k = 0; k < COLUMNS - 8; k++)
        strong = fmax(strong, fabs(w2[k]));
    assert_true(strong < 1e-4);
    memcpy(again, w, sizeof w); /* begun at its end it stays there */
    assert_int_equal(probe_solve(again, &bias3, &p, 20, NULL), DRR_OK);
    for (size_t k = 0; k < COLUMNS; k++)
        assert_true(fabs(again[k] - w[k]) < 1e-3);
    free(m);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    made *m = malloc(sizeof *m);
    double one[COLUMNS] = {0}, three[COLUMNS] = {0}, bias1 = 0, bias3 = 0;
    make(m, 2);
    const probe_problem p = {m->rows, m->labels, ROWS, COLUMNS, 8};
    parallel_set_threads(1);
    assert_int_equal(probe_solve(one, &bias1, &p, 5, NULL), DRR_OK);
    parallel_set_threads(3);
    assert_int_equal(probe_solve(three, &bias3, &p, 5, NULL), DRR_OK);
    parallel_set_threads(0);
    assert_memory_equal(one, three, sizeof one);
    assert_memory_equal(&bias1, &bias3, sizeof bias1);
    free(m);
}

/* ---- traces with hidden states */

enum { WIDTH = 24, QUESTIONS = 160, SAMPLES = 2, WRITTEN = 6 };
static const hidden_layers both = {2, {3, HIDDEN_LAST}};

typedef enum content { KNOWING, WITHOUT, SOME_WITHOUT, OTHER_REASONER, OTHER_LAYER } content;

/* Behind the last layer, the last token's values 0 and 1 know whether the answer is right, not too surely; behind layer
 * 3 nothing does, and all else is noise. */
static void *hidden_of(rng *r, bool right, const hidden_layers *layers, size_t *size)
{
    uint16_t rows[WRITTEN * 2 * WIDTH];
    void *data = NULL;
    for (uint32_t t = 0; t < WRITTEN; t++)
        for (uint32_t l = 0; l < layers->n; l++)
            for (uint32_t k = 0; k < WIDTH; k++) {
                const bool knows = layers->layer[l] == HIDDEN_LAST && t == WRITTEN - 1 && k < 2;
                rows[(t * layers->n + l) * WIDTH + k] =
                    half_of((float)(5 * rng_normal(r) + (knows ? (right ? 5 : -5) : 0)));
            }
    assert_int_equal(hidden_pack(&data, size, layers, WIDTH, rows, WRITTEN, WRITTEN, NULL), DRR_OK);
    return data;
}

static void write_traces(const char *path, content what)
{
    static const hidden_layers other = {1, {9}};
    FILE *file = fopen(path, "w");
    rng r;
    assert_non_null(file);
    rng_seed(&r, 11);
    for (uint32_t q = 0; q < QUESTIONS; q++)
        for (uint32_t s = 0; s < SAMPLES; s++) {
            const bool right = rng_uniform(&r) < 0.5;
            size_t size = 0;
            void *hidden = hidden_of(&r, right, what == OTHER_LAYER && q > 80 ? &other : &both, &size);
            char *text = hidden_to_text(hidden, size);
            const bool without = what == WITHOUT || (what == SOME_WITHOUT && q % 4 == 0);
            fprintf(
                file,
                "{\"task\":\"sums\",\"id\":\"q%u\",\"question\":\"How much is %u and 1?\",\"gold\":\"7\",\"reasoner\":"
                "\"%s\",\"prompt\":\"p\",\"sample\":%u,\"text\":\"Answer: %d\",\"answer\":\"%d\",\"kind\":\"number\","
                "\"label\":\"%s\",\"n_tokens\":6",
                q, q, what == OTHER_REASONER && q == 5 ? "b@2" : "a@1", s, right ? 7 : 8, right ? 7 : 8,
                right ? "accept" : "reject");
            if (without)
                fprintf(file, "}\n");
            else
                fprintf(file, ",\"hidden\":\"%s\"}\n", text);
            free(text);
            free(hidden);
        }
    fclose(file);
}

static drr_train_options options_of(content what)
{
    drr_train_options o;
    drr_train_options_defaults(&o);
    write_traces(at("traces.jsonl"), what);
    o.traces = at("traces.jsonl");
    o.out = at("probe.gguf");
    o.kind = DRR_CRITIC_PROBE;
    o.encoder = "no such encoder"; /* none is opened */
    o.seed = 3;
    o.threads = 1;
    return o;
}

static drr_status train(drr_train_result *result, content what, drr_error *err)
{
    const drr_train_options o = options_of(what);
    return drr_train(result, &o, NULL, err);
}

static void a_probe_finds_the_layer_that_knows(void **state)
{
    (void)state;
    drr_train_result r = {0};
    drr_error err = {0};
    drr_critic *critic = NULL;
    drr_critic_info info;
    if (train(&r, KNOWING, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(r.kind, DRR_CRITIC_PROBE);
    assert_string_equal(r.probe.layer, "last");
    assert_true(strncmp(r.probe.pools, "answer", 6) == 0);
    /* two values a standard deviation apart to each side: no one can do better than about .98 */
    assert_true(r.probe.auroc > 0.85 && r.probe.auroc <= 1);
    assert_true(r.probe.dev_auroc > 0.85);
    assert_true(r.auroc_stack > 0.85);
    assert_true(isnan(r.auroc_text));
    assert_true(r.auroc_length < 0.8);
    assert_int_equal(r.probe.n_train, r.n_train);
    assert_int_equal(r.probe.n_test, r.n_test);
    assert_true(r.tasks[0].auroc_probe > 0.85);
    assert_int_equal(drr_critic_open(&critic, at("probe.gguf"), NULL), DRR_OK);
    drr_critic_describe(critic, &info);
    assert_string_equal(info.probe_reasoner, "a@1");
    assert_string_equal(info.probe_layer, "last");
    assert_int_equal(info.kind, DRR_CRITIC_PROBE);
    /* the file judges as the training did: right answers above wrong ones */
    rng random;
    double sum[2] = {0};
    rng_seed(&random, 99);
    for (int i = 0; i < 200; i++) {
        size_t size;
        void *hidden = hidden_of(&random, i % 2, &both, &size);
        drr_features f;
        drr_features_defaults(&f);
        f.n_tokens = 6;
        f.probe = drr_critic_probe(critic, hidden, size, NULL);
        sum[i % 2] += drr_critic_combine(critic, f.probe, &f) / 100;
        free(hidden);
    }
    assert_true(sum[1] > 0.65 && sum[0] < 0.35);
    drr_critic_close(critic);
    char *text;
    assert_int_equal(file_read(&text, NULL, at("probe.card.md"), 0, NULL), DRR_OK);
    assert_non_null(strstr(text, "| probe | of layer last, answer"));
    assert_null(strstr(text, "the encoder's weights"));
    free(text);
}

static void traces_without_them_are_left_out(void **state)
{
    (void)state;
    drr_train_result all = {0}, some = {0};
    drr_error err = {0};
    assert_int_equal(train(&all, KNOWING, &err), DRR_OK);
    assert_int_equal(train(&some, SOME_WITHOUT, &err), DRR_OK);
    assert_int_equal(some.n_train + some.n_dev + some.n_test, (all.n_train + all.n_dev + all.n_test) * 3 / 4);
    assert_true(some.probe.auroc > 0.8);
}

static void refused(content what, drr_status status, const char *words)
{
    drr_train_result r = {0};
    drr_error err = {0};
    unlink(at("probe.gguf"));
    assert_int_equal(train(&r, what, &err), status);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    assert_false(file_exists(at("probe.gguf")));
}

static void what_it_cannot_learn_from_is_said(void **state)
{
    (void)state;
    refused(WITHOUT, DRR_E_EMPTY, "drr distill --hidden");
    refused(OTHER_REASONER, DRR_E_MISMATCH, "--reasoner ID");
    refused(OTHER_LAYER, DRR_E_MISMATCH, "different layers");
}

static void folds_and_seeds_have_a_probe_each(void **state)
{
    (void)state;
    drr_train_result r = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    const drr_train_options o = options_of(SOME_WITHOUT);
    for (uint32_t folds = 0; folds <= 3; folds += 3) {
        if (drr_train_repeat(&r, &x, &o, folds, 2, NULL, &err) != DRR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(x.n, folds ? 6 : 2);
        for (size_t i = 0; i < x.n; i++) {
            assert_true(x.runs[i].figures[1] > 0.8);   /* auroc_stack */
            assert_true(isnan(x.runs[i].figures[0]));  /* auroc_text: nothing reads it */
            assert_true(isnan(x.runs[i].figures[4]));  /* within_text */
            assert_true(!isnan(x.runs[i].figures[5])); /* within_stack */
            assert_true(x.runs[i].n_test > 0 && x.runs[i].n_test < QUESTIONS * SAMPLES / 2);
        }
        drr_repeats_clear(&x);
    }
    /* --resume tells traces apart that differ in their hidden states alone */
    uint64_t a, b;
    corpus c = {0};
    assert_int_equal(corpus_read(&c, &o, NULL, NULL), DRR_OK);
    assert_int_equal(work_identity(&a, &c, &o, NULL), DRR_OK);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].trace.hidden) {
            char *last = (char *)c.rows[i].trace.hidden + c.rows[i].trace.hidden_size - 1;
            *last = (char)(*last ^ 1);
            break;
        }
    assert_int_equal(work_identity(&b, &c, &o, NULL), DRR_OK);
    assert_true(a != b);
    corpus_clear(&c);
}

static void refused_options(drr_train_options o, bool search, const char *words)
{
    drr_train_result r = {0};
    drr_search x = {0};
    drr_error err = {0};
    assert_int_equal(search ? drr_train_search(&r, &x, &o, 1, NULL, &err) : drr_train(&r, &o, NULL, &err),
                     DRR_E_ARGUMENT);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void what_means_nothing_to_it_is_refused(void **state)
{
    (void)state;
    const drr_train_options o = options_of(KNOWING);
    drr_train_options with = o;
    refused_options(o, true, "knows no probe");
    with.kind = DRR_CRITIC_STACK;
    refused_options(with, true, "knows no probe");
    with.text_alone = true;
    refused_options(with, false, "of kind stack judges by hidden states too");
    with = o;
    with.head = DRR_HEAD_TOKEN;
    refused_options(with, false, "a probe alone has no encoder");
    with = o;
    with.steps = true;
    refused_options(with, false, "a probe alone has no encoder");
    with = o;
    with.rank_weight = 1;
    refused_options(with, false, "a probe alone has no encoder");
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    refused_options(o, false, "a probe alone is made by one process");
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("OMPI_COMM_WORLD_RANK");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_beside_the_solution_is_better), cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_probe_finds_the_layer_that_knows),    cmocka_unit_test(traces_without_them_are_left_out),
        cmocka_unit_test(what_it_cannot_learn_from_is_said),     cmocka_unit_test(folds_and_seeds_have_a_probe_each),
        cmocka_unit_test(what_means_nothing_to_it_is_refused),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
