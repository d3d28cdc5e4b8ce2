/* test_parity_encoder.c: logits, gradients and AdamW updates of an encoder are those of torch and transformers, from
 * the same folder, on texts of ../shared. make_encoder_vectors.py writes what these are into the cache; when they are
 * not there, it is run with the Python of DRR_PARITY_PYTHON or the cache's venv-parity. Where data: DRR_SHARED. */
#include "core/json.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

enum { TEXTS = 200, MOST_TOKENS = 256, STEPS = 10 };

/* A gradient that is 0 but for rounding has no direction: that of the key biases, which softmax takes out. */
static const double NOTHING = 1e-6; /* of the whole gradient's norm */

static char vectors[4200], encoder_folder[4096], shared[4096];
static examples texts;
static double expected_logits[TEXTS];

static void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.9g is not %.9g, within %.3g", value, expected, most);
}

static encoder *open_folder(const char *name, wordpiece **tokenizer)
{
    char folder[4300];
    encoder *e = NULL;
    wordpiece *w = NULL;
    bool has_head = false;
    drr_error err = {0};
    snprintf(folder, sizeof folder, "%s%s", vectors, name);
    if (encoder_open_hf(&e, &w, &has_head, folder, 1, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_true(has_head);
    if (tokenizer)
        *tokenizer = w;
    else
        wordpiece_free(w);
    return e;
}

/* ---- the texts; where nothing is cut off, the tokenizer's ids are the same too */

static size_t add_text(json_t *row, const wordpiece *tokenizer)
{
    const json_t *list = json_object_get(row, "ids");
    int32_t ids[MOST_TOKENS], own[MOST_TOKENS];
    const size_t n = json_array_size(list);
    size_t n_own = 0;
    bool truncated = false;
    assert_in_range(n, 3, MOST_TOKENS);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    assert_int_equal(wordpiece_encode_pair(tokenizer, json_string_or(row, "question", ""),
                                           json_string_or(row, "text", ""), MOST_TOKENS, own, &n_own, &truncated, NULL),
                     DRR_OK);
    if (!truncated) {
        assert_int_equal(n_own, n);
        assert_memory_equal(own, ids, n * sizeof *ids);
    }
    expected_logits[texts.n] = json_number_or(row, "logit", NAN);
    assert_int_equal(examples_add(&texts, ids, n, json_number_or(row, "label", 0) > 0, NULL), DRR_OK);
    return !truncated;
}

static int read_texts(void **state)
{
    (void)state;
    char path[4300], *line;
    size_t length, whole = 0;
    line_reader *lines = NULL;
    wordpiece *tokenizer = NULL;
    encoder_free(open_folder("", &tokenizer));
    snprintf(path, sizeof path, "%s/texts.jsonl", vectors);
    assert_int_equal(lines_open(&lines, path, NULL), DRR_OK);
    while (lines_next(lines, &line, &length, NULL) == DRR_OK) {
        json_t *row = NULL;
        assert_true(texts.n < TEXTS);
        assert_int_equal(json_parse(&row, line, length, path, NULL), DRR_OK);
        whole += add_text(row, tokenizer);
        json_decref(row);
    }
    assert_int_equal(texts.n, TEXTS);
    print_message("%zu texts, %zu tokens; of the %zu that are not cut, drr's own ids are the same\n", texts.n,
                  texts.n_ids, whole);
    lines_close(lines);
    wordpiece_free(tokenizer);
    return 0;
}

static int drop_texts(void **state)
{
    (void)state;
    examples_clear(&texts);
    return 0;
}

/* ---- comparing tensors */

typedef struct difference {
    double relative, cosine, own, expected; /* norm of the difference over that of the expected; the two norms */
} difference;

/* Both less `base`, which may be NULL. */
static difference differ(const float *own, const float *expected, const float *base, size_t n)
{
    double a2 = 0, b2 = 0, ab = 0, d2 = 0;
    for (size_t i = 0; i < n; i++) {
        const double zero = base ? (double)base[i] : 0, a = (double)own[i] - zero, b = (double)expected[i] - zero;
        a2 += a * a;
        b2 += b * b;
        ab += a * b;
        d2 += (a - b) * (a - b);
    }
    return (difference){sqrt(d2 / b2), ab / sqrt(a2 * b2), sqrt(a2), sqrt(b2)};
}

typedef struct worst {
    double relative, cosine;
    const char *relative_at, *cosine_at;
} worst;

static void note(worst *w, const difference *d, const encoder_tensor *t)
{
    if (!(d->relative <= w->relative)) {
        w->relative = d->relative;
        w->relative_at = t->name;
    }
    if (!(d->cosine >= w->cosine)) {
        w->cosine = d->cosine;
        w->cosine_at = t->name;
    }
}

static void tell(const char *what, size_t n, const worst *w)
{
    print_message("%s: %zu tensors, relative difference at most %.3g (%s), cosine at least 1 - %.3g (%s)\n", what, n,
                  w->relative, w->relative_at, 1 - w->cosine, w->cosine_at);
}

/* ---- logits */

static void compare_logits(const encoder *e, size_t n, size_t budget)
{
    float logits[TEXTS];
    double farthest = 0, low = INFINITY, high = -INFINITY;
    examples first = texts;
    first.n = n;
    assert_int_equal(examples_logits(e, &first, budget, logits, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)logits[i] - expected_logits[i]);
        farthest = d <= farthest ? farthest : d;
        low = fmin(low, expected_logits[i]);
        high = fmax(high, expected_logits[i]);
    }
    print_message("%zu logits from %.3f to %.3f, packed to %zu tokens: difference at most %.3g\n", n, low, high, budget,
                  farthest);
    assert_true(farthest <= 1e-4);
    assert_true(high - low > 0.5); /* else the figure above would say little */
}

static void logits_are_those_of_transformers(void **state)
{
    (void)state;
    encoder *e = open_folder("", NULL);
    compare_logits(e, TEXTS, 4096);
    compare_logits(e, TEXTS / 5, MOST_TOKENS);
    encoder_free(e);
}

/* ---- gradients and updates */

typedef struct steps { /* what run.json says, and one run's memory */
    json_t *run;
    fit_options options;
    encoder *e;
    encoder_tape *tape;
    float *gradients, *moments;
    size_t budget;
} steps;

static void steps_open(steps *s, size_t budget)
{
    char path[4300];
    drr_error err = {0};
    snprintf(path, sizeof path, "%s/run.json", vectors);
    *s = (steps){.budget = budget};
    assert_int_equal(json_parse_file(&s->run, path, &err), DRR_OK);
    s->options = (fit_options){.batch = (uint32_t)json_number_or(s->run, "batch", 0),
                               .learning_rate = json_number_or(s->run, "learning_rate", NAN),
                               .weight_decay = json_number_or(s->run, "weight_decay", NAN),
                               .warmup_share = json_number_or(s->run, "warmup_share", NAN),
                               .clip_norm = json_number_or(s->run, "clip_norm", NAN)};
    assert_in_range(s->options.batch, 2, TEXTS / STEPS);
    assert_int_equal(json_array_size(json_object_get(s->run, "steps")), STEPS);
    s->e = open_folder("", NULL);
    s->gradients = calloc(s->e->n_parameters, sizeof(float));
    s->moments = calloc(2 * s->e->n_parameters, sizeof(float));
    assert_true(s->gradients && s->moments);
    assert_int_equal(encoder_tape_new(&s->tape, s->e, budget, s->options.batch, MOST_TOKENS, &err), DRR_OK);
}

static void steps_close(steps *s)
{
    encoder_tape_free(s->tape);
    encoder_free(s->e);
    free(s->gradients);
    free(s->moments);
    json_decref(s->run);
}

static double step_says(const steps *s, size_t step, const char *field)
{
    return json_number_or(json_array_get(json_object_get(s->run, "steps"), step), field, NAN);
}

/* The gradient of a step's loss, in parts as fit.c computes it; `parts` says how many. */
static double step_backward(steps *s, size_t step, size_t *parts)
{
    batch_plan plan;
    int32_t *ids = calloc(s->budget, sizeof *ids);
    uint32_t starts[TEXTS + 1];
    uint8_t labels[TEXTS];
    float logits[TEXTS];
    double loss = 0;
    const size_t batch = s->options.batch, end = (step + 1) * batch;
    assert_non_null(ids);
    assert_int_equal(batch_plan_new(&plan, TEXTS, batch, s->budget, NULL), DRR_OK);
    *parts = 0;
    for (size_t at = step * batch; at < end; ++*parts) {
        const size_t n = batch_pack(&plan, &texts, at, end, ids, starts, labels);
        assert_int_equal(encoder_backward(s->e, s->tape, ids, starts, n, labels, NULL, (double)batch, NULL,
                                          s->gradients, logits, &loss, NULL),
                         DRR_OK);
        at += n;
    }
    batch_plan_clear(&plan);
    free(ids);
    return loss;
}

static void compare_gradients(size_t budget, bool in_parts)
{
    steps s;
    encoder *expected = open_folder("/gradient", NULL);
    size_t parts, n_compared = 0;
    worst w = {.relative = 0, .cosine = 1};
    steps_open(&s, budget);
    near(step_backward(&s, 0, &parts), step_says(&s, 0, "loss"), 1e-5);
    assert_true(in_parts ? parts > 1 : parts == 1);
    const double all = step_says(&s, 0, "norm");
    near(gradient_norm(s.gradients, s.e->n_parameters), all, 1e-3 * all);
    for (size_t i = 0; i < s.e->n_tensors; i++) {
        const encoder_tensor *t = &s.e->tensors[i];
        const difference d =
            differ(s.gradients + t->offset, expected->parameters + t->offset, NULL, (size_t)t->rows * t->columns);
        if (d.expected < NOTHING * all) {
            assert_non_null(strstr(t->name, "attn_k.bias"));
            assert_true(d.own < NOTHING * all);
            continue;
        }
        n_compared++;
        note(&w, &d, t);
    }
    tell(in_parts ? "gradients added up from parts" : "gradients", n_compared, &w);
    assert_int_equal(n_compared, s.e->n_tensors - s.e->shape.n_layers);
    assert_true(w.relative <= 1e-3);
    assert_true(w.cosine > 0.9999);
    steps_close(&s);
    encoder_free(expected);
}

static void gradients_are_those_of_torch(void **state)
{
    (void)state;
    compare_gradients(4096, false);
    compare_gradients(512, true);
}

static void ten_updates_end_at_the_parameters_of_torch(void **state)
{
    (void)state;
    steps s;
    encoder *first = open_folder("", NULL), *expected = open_folder("/updated", NULL);
    size_t parts, clipped = 0, n_compared = 0;
    double farthest = 0;
    worst w = {.relative = 0, .cosine = 1};
    steps_open(&s, 4096);
    for (size_t step = 0; step < STEPS; step++) {
        const double rate = learning_rate_at(&s.options, step, STEPS), norm = step_says(&s, step, "norm");
        near(rate, step_says(&s, step, "rate"), 1e-12);
        near(step_backward(&s, step, &parts), step_says(&s, step, "loss"), 1e-4);
        const double own =
            encoder_update(s.e, s.gradients, s.moments, s.moments + s.e->n_parameters, &s.options, rate, step + 1);
        near(own, norm, 1e-3 * norm);
        clipped += norm > s.options.clip_norm;
    }
    assert_in_range(clipped, 1, STEPS - 1); /* both ways are taken */
    for (size_t i = 0; i < s.e->n_tensors; i++) {
        const encoder_tensor *t = &s.e->tensors[i];
        const size_t n = (size_t)t->rows * t->columns;
        const difference d =
            differ(s.e->parameters + t->offset, expected->parameters + t->offset, first->parameters + t->offset, n);
        for (size_t k = t->offset; k < t->offset + n; k++)
            farthest = fmax(farthest, fabs((double)s.e->parameters[k] - (double)expected->parameters[k]));
        if (strstr(t->name, "attn_k.bias")) /* AdamW makes steps of rounding as of anything else */
            continue;
        n_compared++;
        note(&w, &d, t);
    }
    tell("what ten updates moved", n_compared, &w);
    print_message("parameters after them: difference at most %.3g; %zu of %d were clipped\n", farthest, clipped, STEPS);
    assert_true(w.relative <= 2e-2);
    assert_true(w.cosine > 0.999);
    assert_true(farthest < STEPS * s.options.learning_rate);
    steps_close(&s);
    encoder_free(first);
    encoder_free(expected);
}

/* ---- what the test stands on */

static int leave_out(const char *why)
{
    print_message("skipped: %s\n", why);
    return 77;
}

static int make_vectors(char *out)
{
    char python[4300];
    const char *chosen = getenv("DRR_PARITY_PYTHON");
    snprintf(python, sizeof python, "%s/../../venv-parity/bin/python", encoder_folder);
    if (chosen && *chosen)
        snprintf(python, sizeof python, "%s", chosen);
    char script[] = DRR_SOURCE_DIR "/tests/parity/make_encoder_vectors.py";
    if (access(python, X_OK) != 0) {
        print_message("skipped: torch's vectors are not in the cache; a Python with torch and transformers makes them: "
                      "python %s %s %s %s (DRR_PARITY_PYTHON names one that this test runs by itself)\n",
                      script, shared, encoder_folder, out);
        return 77;
    }
    char *const arguments[] = {python, script, shared, encoder_folder, out, NULL};
    pid_t child;
    int status = -1;
    if (posix_spawn(&child, python, NULL, NULL, arguments, environ) != 0 || waitpid(child, &status, 0) != child ||
        status != 0) {
        print_message("%s failed\n", script);
        return 1;
    }
    return 0;
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_SHARED");
    drr_error err = {0};
    char traces[4200], out[4200], run[4300];
    snprintf(shared, sizeof shared, "%s", chosen && *chosen ? chosen : DRR_SOURCE_DIR "/../shared");
    snprintf(traces, sizeof traces, "%s/traces", shared);
    if (drr_cache_path(encoder_folder, sizeof encoder_folder, "all-minilm-l6-v2", NULL, &err) != DRR_OK)
        return leave_out(err.message);
    snprintf(out, sizeof out, "%s/../../parity", encoder_folder);
    snprintf(vectors, sizeof vectors, "%.4100s/encoder", out);
    snprintf(run, sizeof run, "%s/run.json", vectors);
    if (file_exists(run))
        return 0;
    if (!file_is_folder(traces))
        return leave_out("there is no folder of shared traces beside the source tree; DRR_SHARED says where it is");
    return make_vectors(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(gradients_are_those_of_torch),
        cmocka_unit_test(ten_updates_end_at_the_parameters_of_torch),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, read_texts, drop_texts);
}
