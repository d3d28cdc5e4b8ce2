/* test_train_data.c: batches take every example once an epoch and keep to the budget; traces are divided by question,
 * the same way for one seed, and no question is ever in two parts. */
#include "train/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- examples and batches */

enum { EXAMPLES = 211, LONGEST = 40, BATCH = 16, BUDGET = 100 };

/* Example i is its number, again and again, so that a packed one says which it is. */
static examples numbered(void)
{
    examples x = {0};
    int32_t ids[LONGEST];
    rng r;
    rng_seed(&r, 3);
    for (int32_t i = 0; i < EXAMPLES; i++) {
        const size_t n = 1 + (size_t)rng_below(&r, LONGEST);
        for (size_t k = 0; k < n; k++)
            ids[k] = i;
        assert_int_equal(examples_add(&x, ids, n, i % 3 == 0, NULL), DRR_OK);
    }
    return x;
}

static void examples_are_kept_as_they_are_added(void **state)
{
    (void)state;
    examples x = {0};
    const int32_t ids[] = {5, 6, 7};
    for (size_t i = 0; i < 2000; i++)
        assert_int_equal(examples_add(&x, ids, i % 4, i % 2, NULL), DRR_OK);
    assert_int_equal(x.n, 2000);
    assert_int_equal(x.n_ids, 2000 / 4 * 6);
    assert_int_equal(examples_longest(&x), 3);
    for (size_t i = 0; i < 2000; i++) {
        assert_int_equal(x.labels[i], i % 2);
        assert_int_equal(x.starts[i + 1] - x.starts[i], i % 4);
        assert_memory_equal(x.ids + x.starts[i], ids, i % 4 * sizeof *ids);
    }
    examples_clear(&x);
    assert_int_equal(examples_longest(&x), 0);
    examples_clear(&x);
}

/* Goes through an epoch as fit.c does; counts how often each example came. */
static void pack_epoch(const batch_plan *plan, const examples *x, size_t seen[EXAMPLES])
{
    int32_t ids[BUDGET > LONGEST ? BUDGET : LONGEST];
    uint32_t starts[BATCH + 1];
    uint8_t labels[BATCH];
    const size_t steps = batch_plan_steps(plan);
    assert_int_equal(steps, (EXAMPLES + BATCH - 1) / BATCH);
    for (size_t step = 0; step < steps; step++) {
        const size_t end = (step + 1) * BATCH < EXAMPLES ? (step + 1) * BATCH : EXAMPLES;
        for (size_t at = step * BATCH, n; at < end; at += n) {
            n = batch_pack(plan, x, at, end, ids, starts, labels);
            assert_in_range(n, 1, end - at);
            assert_true(starts[n] <= plan->budget || n == 1);
            for (size_t i = 0; i < n; i++) {
                const int32_t which = ids[starts[i]];
                assert_int_equal(which, plan->order[at + i]);
                assert_int_equal(starts[i + 1] - starts[i], x->starts[which + 1] - x->starts[which]);
                for (uint32_t k = starts[i]; k < starts[i + 1]; k++)
                    assert_int_equal(ids[k], which);
                assert_int_equal(labels[i], x->labels[which]);
                seen[which]++;
            }
            if (at + n < end) { /* a part ends only where the next one would not fit */
                const size_t next = plan->order[at + n];
                assert_true(starts[n] + x->starts[next + 1] - x->starts[next] > plan->budget);
            }
        }
    }
}

static void an_epoch_has_each_example_once_in_parts_within_the_budget(void **state)
{
    (void)state;
    const size_t budgets[] = {BUDGET, LONGEST, 1}; /* the last: each example is a part of its own */
    examples x = numbered();
    for (size_t b = 0; b < 3; b++) {
        batch_plan plan;
        size_t seen[EXAMPLES] = {0};
        assert_int_equal(batch_plan_new(&plan, EXAMPLES, BATCH, budgets[b], NULL), DRR_OK);
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            batch_plan_shuffle(&plan, 9, epoch);
            pack_epoch(&plan, &x, seen);
            for (size_t i = 0; i < EXAMPLES; i++)
                assert_int_equal(seen[i], epoch + 1);
        }
        batch_plan_clear(&plan);
    }
    examples_clear(&x);
}

static void the_order_is_of_seed_and_epoch_alone(void **state)
{
    (void)state;
    batch_plan a, b;
    const size_t bytes = EXAMPLES * sizeof *a.order;
    assert_int_equal(batch_plan_new(&a, EXAMPLES, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_new(&b, EXAMPLES, BATCH, BUDGET, NULL), DRR_OK);
    batch_plan_shuffle(&a, 1, 0);
    batch_plan_shuffle(&a, 1, 4);
    batch_plan_shuffle(&b, 1, 4); /* an epoch entered at once, as after an interruption */
    assert_memory_equal(a.order, b.order, bytes);
    batch_plan_shuffle(&b, 1, 5);
    assert_memory_not_equal(a.order, b.order, bytes);
    batch_plan_shuffle(&b, 2, 4);
    assert_memory_not_equal(a.order, b.order, bytes);
    batch_plan_clear(&a);
    batch_plan_clear(&b);
}

/* ---- the corpus */

enum { QUESTIONS = 120, SAMPLES = 3 };

static char traces[64], others[64];

static FILE *scratch(char path[64])
{
    snprintf(path, 64, "/tmp/drr-corpus.XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    return file;
}

static void write_trace(FILE *file, const char *task, int id, int question, const char *reasoner, int sample)
{
    fprintf(
        file,
        "{\"task\": \"%s\", \"id\": \"%d\", \"question\": \"What is %d and 1?\", \"gold\": \"%d\", \"reasoner\": "
        "\"%s\", \"prompt\": \"p\", \"sample\": %d, \"text\": \"It is %d.\", \"answer\": \"%d\", \"correct\": %s}\n",
        task, id, question, question + 1, reasoner, sample, question + sample, question + sample,
        sample == 1 ? "true" : "false");
}

/* Two reasoners and two tasks; each question stands there under two ids. */
static int write_traces(void **state)
{
    (void)state;
    FILE *file = scratch(traces);
    for (int sample = 0; sample < SAMPLES; sample++)
        for (int i = 0; i < QUESTIONS; i++) {
            write_trace(file, i % 4 ? "sums" : "more", i, i, "ann", sample);
            write_trace(file, i % 4 ? "sums" : "more", 1000 + i, i, "ben", sample);
        }
    fclose(file);
    file = scratch(others); /* ten questions of the file above, and ten new ones */
    for (int i = QUESTIONS - 10; i < QUESTIONS + 10; i++)
        write_trace(file, "sums", i, i, "ann", i % 2);
    return fclose(file);
}

static int remove_traces(void **state)
{
    (void)state;
    return unlink(traces) + unlink(others);
}

static drr_train_options options_of(uint64_t seed)
{
    drr_train_options o;
    drr_train_options_defaults(&o);
    o.traces = traces;
    o.seed = seed;
    return o;
}

static corpus read_corpus(const drr_train_options *o)
{
    corpus c = {0};
    drr_error err = {0};
    if (corpus_read(&c, o, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return c;
}

static int number_of(const corpus_row *row)
{
    int n = -1;
    assert_int_equal(sscanf(row->trace.question, "What is %d", &n), 1);
    return n;
}

/* The part of each question by its text; fails when one has two, or two indices. An unused row beside a test file's
 * question counts as that. */
static void parts_of(corpus_part parts[QUESTIONS + 10], const corpus *c)
{
    size_t index[QUESTIONS + 10];
    bool seen[QUESTIONS + 10] = {false};
    for (size_t i = 0; i < c->n; i++) {
        const int n = number_of(&c->rows[i]);
        assert_in_range(n, 0, QUESTIONS + 9);
        if (seen[n]) {
            assert_int_equal(c->rows[i].part, parts[n]);
            assert_int_equal(c->rows[i].question, index[n]);
        }
        seen[n] = true;
        parts[n] = c->rows[i].part;
        index[n] = c->rows[i].question;
        assert_true(index[n] < c->n_questions);
    }
}

static void no_question_is_in_two_parts_whatever_its_ids_and_reasoners(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const drr_train_options o = options_of(seed);
        corpus_part parts[QUESTIONS + 10];
        corpus c = read_corpus(&o);
        assert_int_equal(c.n, QUESTIONS * SAMPLES * 2);
        assert_int_equal(c.n_questions, QUESTIONS);
        parts_of(parts, &c);
        assert_int_equal(corpus_questions(&c, CORPUS_TEST), 18); /* 15% */
        assert_int_equal(corpus_questions(&c, CORPUS_DEV), 24);  /* 20% */
        assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), QUESTIONS - 18 - 24);
        assert_int_equal(corpus_questions(&c, CORPUS_UNUSED), 0);
        corpus_clear(&c);
    }
}

static void the_split_is_of_the_seed(void **state)
{
    (void)state;
    corpus_part first[QUESTIONS + 10], again[QUESTIONS + 10];
    size_t moved = 0;
    drr_train_options o = options_of(1);
    corpus a = read_corpus(&o), b = read_corpus(&o);
    parts_of(first, &a);
    parts_of(again, &b);
    assert_memory_equal(first, again, QUESTIONS * sizeof *first);
    corpus_clear(&b);
    o.seed = 2;
    b = read_corpus(&o);
    parts_of(again, &b);
    for (size_t i = 0; i < QUESTIONS; i++)
        moved += first[i] != again[i];
    assert_in_range(moved, QUESTIONS / 4, QUESTIONS * 3 / 4); /* half, when parts have nothing to do with each other */
    corpus_clear(&a);
    corpus_clear(&b);
}

static void reasoner_and_task_keep_what_they_name(void **state)
{
    (void)state;
    drr_train_options o = options_of(1);
    o.reasoner = "zoe,ben";
    o.task = "more";
    corpus c = read_corpus(&o);
    assert_int_equal(c.n, QUESTIONS / 4 * SAMPLES);
    for (size_t i = 0; i < c.n; i++) {
        assert_string_equal(c.rows[i].trace.reasoner, "ben");
        assert_string_equal(c.rows[i].trace.task, "more");
    }
    assert_string_equal(c.reasoners, "ben");
    assert_string_equal(c.tasks, "more");
    corpus_clear(&c);
    o.reasoner = "an"; /* a part of a name is no name */
    drr_error err = {0};
    assert_int_equal(corpus_read(&c, &o, NULL, &err), DRR_E_EMPTY);
    assert_non_null(strstr(err.message, "an"));
    assert_null(c.rows);
}

static void a_larger_set_of_questions_contains_the_smaller(void **state)
{
    (void)state;
    corpus_part all[QUESTIONS + 10], parts[QUESTIONS + 10], smaller[QUESTIONS + 10];
    drr_train_options o = options_of(5);
    corpus c = read_corpus(&o);
    parts_of(all, &c);
    corpus_clear(&c);
    for (size_t most = 10; most <= 70; most += 20) {
        o.max_questions = most;
        c = read_corpus(&o);
        parts_of(parts, &c);
        assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), most);
        for (size_t i = 0; i < QUESTIONS; i++) {
            assert_true(parts[i] == all[i] || (all[i] == CORPUS_TRAIN && parts[i] == CORPUS_UNUSED));
            if (most > 10 && smaller[i] == CORPUS_TRAIN)
                assert_int_equal(parts[i], CORPUS_TRAIN);
        }
        memcpy(smaller, parts, sizeof parts);
        corpus_clear(&c);
    }
}

static void questions_of_a_test_file_are_never_trained_on(void **state)
{
    (void)state;
    drr_train_options o = options_of(1);
    o.test_traces = others;
    corpus c = read_corpus(&o);
    assert_int_equal(c.n, QUESTIONS * SAMPLES * 2 + 20);
    assert_int_equal(c.n_leaks, 10);
    assert_int_equal(c.n_questions, QUESTIONS + 10);
    size_t n_test = 0;
    for (size_t i = 0; i < c.n; i++) {
        const bool from_test = i >= QUESTIONS * SAMPLES * 2;
        const corpus_part part = c.rows[i].part;
        n_test += part == CORPUS_TEST;
        if (from_test)
            assert_int_equal(part, CORPUS_TEST);
        else if (number_of(&c.rows[i]) >= QUESTIONS - 10)
            assert_int_equal(part, CORPUS_UNUSED);
        else
            assert_true(part == CORPUS_TRAIN || part == CORPUS_DEV);
    }
    assert_int_equal(n_test, 20);                           /* no share of the training file beside it */
    assert_int_equal(corpus_questions(&c, CORPUS_DEV), 22); /* 20% of the 110 that are left */
    assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), 88);
    corpus_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_kept_as_they_are_added),
        cmocka_unit_test(an_epoch_has_each_example_once_in_parts_within_the_budget),
        cmocka_unit_test(the_order_is_of_seed_and_epoch_alone),
        cmocka_unit_test(no_question_is_in_two_parts_whatever_its_ids_and_reasoners),
        cmocka_unit_test(the_split_is_of_the_seed),
        cmocka_unit_test(reasoner_and_task_keep_what_they_name),
        cmocka_unit_test(a_larger_set_of_questions_contains_the_smaller),
        cmocka_unit_test(questions_of_a_test_file_are_never_trained_on),
    };
    return cmocka_run_group_tests(tests, write_traces, remove_traces);
}
