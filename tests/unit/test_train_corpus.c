/* test_train_corpus.c: traces are divided by question and never by trace: the same words are in one part, whatever id,
 * reasoner or file they come with; and the division is a function of the seed and the words alone. */
#include "train_fixture.h"

enum { QUESTIONS = 200 };

typedef struct row {
    const char *task, *id, *question, *reasoner, *text;
    bool correct;
} row;

static void put(FILE *file, const row *r)
{
    fprintf(
        file,
        "{\"task\": \"%s\", \"id\": \"%s\", \"question\": \"%s\", \"gold\": \"1\", \"reasoner\": \"%s\", "
        "\"source\": \"x\", \"prompt\": \"p\", \"sample\": 0, \"text\": \"%s\", \"answer\": \"%d\", \"correct\": %s}\n",
        r->task, r->id, r->question, r->reasoner, r->text, r->correct, r->correct ? "true" : "false");
}

static FILE *create(const char *name)
{
    FILE *file = fopen(at(name), "w");
    assert_non_null(file);
    return file;
}

/* Questions first to last - 1, each answered three times: by two reasoners, and again under another id. */
static void write_traces(const char *name, size_t first, size_t last, bool backwards)
{
    FILE *file = create(name);
    for (size_t i = first; i < last; i++) {
        const size_t q = backwards ? last - 1 - (i - first) : i;
        char question[64], id[32], other[32];
        snprintf(question, sizeof question, "How much is %zu and 1?", q);
        snprintf(id, sizeof id, "q%zu", q);
        snprintf(other, sizeof other, "again-%zu", q);
        put(file, &(row){"sums", id, question, "gpt-4", "It is so.", q % 2});
        put(file, &(row){"sums", id, question, "gpt-3.5", "It is not.", q % 3 == 0});
        put(file, &(row){"more", other, question, "gpt-4", "Perhaps.", q % 5 == 0});
    }
    fclose(file);
}

static drr_train_options options_for(const char *traces)
{
    drr_train_options o;
    drr_train_options_defaults(&o);
    o.traces = traces;
    o.dev_share = 0.2;
    o.test_share = 0.15;
    o.seed = 5;
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

/* The part of a question by its words; fails when they are in two. */
static int part_of(const corpus *c, const char *question)
{
    int part = -1;
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->rows[i].trace.question, question) == 0) {
            assert_true(part == -1 || part == (int)c->rows[i].part);
            part = (int)c->rows[i].part;
        }
    return part;
}

static void parts_of(int parts[QUESTIONS], const corpus *c)
{
    for (size_t q = 0; q < QUESTIONS; q++) {
        char question[64];
        snprintf(question, sizeof question, "How much is %zu and 1?", q);
        parts[q] = part_of(c, question);
    }
}

static size_t differ(const int a[QUESTIONS], const int b[QUESTIONS])
{
    size_t n = 0;
    for (size_t q = 0; q < QUESTIONS; q++)
        n += a[q] != b[q];
    return n;
}

/* ---- the division */

static void a_question_is_in_one_part_alone(void **state)
{
    (void)state;
    write_traces("t.jsonl", 0, QUESTIONS, false);
    const drr_train_options o = options_for(at("t.jsonl"));
    corpus c = read_corpus(&o);
    int parts[QUESTIONS];
    assert_int_equal(c.n, 3 * QUESTIONS);
    assert_int_equal(c.n_questions, QUESTIONS);
    parts_of(parts, &c);
    assert_int_equal(corpus_questions(&c, CORPUS_TEST), 30); /* 0.15, 0.2 and the rest of 200 */
    assert_int_equal(corpus_questions(&c, CORPUS_DEV), 40);
    assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), 130);
    assert_int_equal(corpus_questions(&c, CORPUS_UNUSED), 0);
    for (size_t i = 0; i < c.n; i++)
        for (size_t k = 0; k < c.n; k++)
            assert_true((c.rows[i].question == c.rows[k].question) ==
                        (strcmp(c.rows[i].trace.question, c.rows[k].trace.question) == 0));
    assert_string_equal(c.reasoners, "gpt-4,gpt-3.5");
    assert_string_equal(c.tasks, "sums,more");
    assert_string_equal(c.prompts, "p");
    corpus_clear(&c);
    corpus_clear(&c);
}

/* Only with a target are questions kept for it; they are taken from those that would have trained. */
static void a_guarantee_keeps_questions_that_nothing_else_uses(void **state)
{
    (void)state;
    write_traces("t.jsonl", 0, QUESTIONS, false);
    drr_train_options o = options_for(at("t.jsonl"));
    int before[QUESTIONS], after[QUESTIONS];
    corpus c = read_corpus(&o);
    assert_int_equal(corpus_questions(&c, CORPUS_GUARANTEE), 0);
    parts_of(before, &c);
    corpus_clear(&c);
    o.target_error = 0.1;
    o.guarantee_share = 0.25;
    c = read_corpus(&o);
    assert_int_equal(corpus_questions(&c, CORPUS_GUARANTEE), 50);
    assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), 80);
    parts_of(after, &c);
    for (size_t q = 0; q < QUESTIONS; q++)
        assert_true(after[q] == before[q] || (after[q] == CORPUS_GUARANTEE && before[q] == CORPUS_TRAIN));
    corpus_clear(&c);
}

static void a_task_that_is_left_out_keeps_its_test_traces_alone(void **state)
{
    (void)state;
    write_traces("t.jsonl", 0, QUESTIONS, false);
    const drr_train_options o = options_for(at("t.jsonl"));
    corpus whole = read_corpus(&o), c = read_corpus(&o);
    corpus_leave_out(&c, "more");
    for (size_t i = 0; i < c.n; i++) {
        const bool own = strcmp(c.rows[i].trace.task, "more") == 0, test = whole.rows[i].part == CORPUS_TEST;
        assert_int_equal(c.rows[i].part, own == test ? whole.rows[i].part : CORPUS_UNUSED);
    }
    corpus_clear(&whole);
    corpus_clear(&c);
}

static void the_seed_decides_and_the_order_of_the_file_does_not(void **state)
{
    (void)state;
    int parts[QUESTIONS], again[QUESTIONS], backwards[QUESTIONS], other[QUESTIONS];
    int *all[] = {parts, again, backwards, other};
    write_traces("t.jsonl", 0, QUESTIONS, false);
    write_traces("b.jsonl", 0, QUESTIONS, true);
    for (size_t i = 0; i < 4; i++) {
        drr_train_options o = options_for(at(i == 2 ? "b.jsonl" : "t.jsonl"));
        o.seed += i == 3;
        corpus c = read_corpus(&o);
        parts_of(all[i], &c);
        corpus_clear(&c);
    }
    assert_int_equal(differ(parts, again), 0);
    assert_int_equal(differ(parts, backwards), 0);
    assert_true(differ(parts, other) > QUESTIONS / 4);
}

static void fewer_questions_are_a_part_of_more(void **state)
{
    (void)state;
    int parts[3][QUESTIONS];
    static const size_t most[3] = {0, 60, 25};
    write_traces("t.jsonl", 0, QUESTIONS, false);
    for (size_t i = 0; i < 3; i++) {
        drr_train_options o = options_for(at("t.jsonl"));
        o.max_questions = most[i];
        corpus c = read_corpus(&o);
        parts_of(parts[i], &c);
        assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), most[i] ? most[i] : 130);
        corpus_clear(&c);
    }
    for (size_t q = 0; q < QUESTIONS; q++)
        for (size_t i = 1; i < 3; i++) { /* dev and test stay; a train question stays or is not used */
            const bool trains = parts[i - 1][q] == CORPUS_TRAIN;
            assert_true(parts[i][q] == parts[i - 1][q] || (trains && parts[i][q] == CORPUS_UNUSED));
        }
}

/* ---- filters */

static void filters_take_whole_names_of_a_list(void **state)
{
    (void)state;
    write_traces("t.jsonl", 0, 60, false);
    drr_train_options o = options_for(at("t.jsonl"));
    const struct {
        const char *reasoner, *task;
        size_t n;
    } cases[] = {{"gpt-4", NULL, 120}, {"gpt-3.5", NULL, 60}, {"gpt-3.5,gpt-4", NULL, 180}, {"other,gpt-3.5", NULL, 60},
                 {NULL, "sums", 120},  {NULL, "more", 60},    {"gpt-3.5", "sums", 60}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.reasoner = cases[i].reasoner;
        o.task = cases[i].task;
        corpus c = read_corpus(&o);
        assert_int_equal(c.n, cases[i].n);
        corpus_clear(&c);
    }
    static const char *const strangers[] = {"gpt", "gpt-4o", "gpt-4,", "GPT-4", ""};
    for (size_t i = 0; i < 5; i++) {
        corpus c = {0};
        drr_error err = {0};
        o.task = NULL;
        o.reasoner = strangers[i];
        const drr_status status = corpus_read(&c, &o, NULL, &err);
        assert_int_equal(status, i == 2 ? DRR_OK : DRR_E_EMPTY);
        assert_true(i == 2 || strstr(err.message, strangers[i]));
        corpus_clear(&c);
    }
}

/* ---- a test file of its own */

static void the_test_file_is_the_test_and_its_questions_never_train(void **state)
{
    (void)state;
    write_traces("t.jsonl", 0, 150, false);
    write_traces("held.jsonl", 140, QUESTIONS, false); /* ten are in both */
    drr_train_options o = options_for(at("t.jsonl"));
    o.test_traces = at("held.jsonl");
    corpus c = {0};
    assert_int_equal(corpus_read(&c, &o, NULL, NULL), DRR_OK);
    assert_int_equal(c.n_leaks, 10);
    assert_int_equal(c.n, 3 * (150 + 60));
    assert_int_equal(corpus_questions(&c, CORPUS_TEST), 60);
    assert_int_equal(corpus_questions(&c, CORPUS_DEV), 28); /* 0.2 of the other 140 */
    assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), 112);
    for (size_t i = 0; i < c.n; i++) {
        int question;
        assert_int_equal(sscanf(c.rows[i].trace.question, "How much is %d", &question), 1);
        if (question >= 150)
            assert_int_equal(c.rows[i].part, CORPUS_TEST);
        else if (question < 140)
            assert_in_range(c.rows[i].part, CORPUS_TRAIN, CORPUS_DEV);
        else /* the training file's copies are given up */
            assert_int_equal(c.rows[i].part, i < 450 ? CORPUS_UNUSED : CORPUS_TEST);
    }
    corpus_clear(&c);
}

/* ---- what cannot be trained on */

static void refused(const char *traces, const char *test, drr_status expected, const char *words)
{
    corpus c = {0};
    drr_error err = {0};
    drr_train_options o = options_for(at(traces));
    o.test_traces = test ? at(test) : NULL;
    assert_int_equal(corpus_read(&c, &o, NULL, &err), expected);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    assert_null(c.rows);
}

static void files_with_nothing_to_learn_are_refused(void **state)
{
    (void)state;
    fclose(create("empty.jsonl"));
    write_traces("t.jsonl", 0, 10, false);
    FILE *file = create("mute.jsonl");
    put(file, &(row){"sums", "1", "One and 1?", "gpt-4", " \\n ", true});
    fclose(file);
    file = create("broken.jsonl");
    put(file, &(row){"sums", "1", "One and 1?", "gpt-4", "Two.", true});
    fprintf(file, "{\"task\": \n");
    fclose(file);
    refused("empty.jsonl", NULL, DRR_E_EMPTY, "empty.jsonl");
    refused("t.jsonl", "empty.jsonl", DRR_E_EMPTY, "empty.jsonl");
    refused("mute.jsonl", NULL, DRR_E_EMPTY, "text");
    refused("broken.jsonl", NULL, DRR_E_FORMAT, "2");
    refused("none.jsonl", NULL, DRR_E_NOT_FOUND, "none.jsonl");
}

static void traces_without_a_question_are_left_out(void **state)
{
    (void)state;
    FILE *file = create("t.jsonl");
    put(file, &(row){"sums", "1", "One and 1?", "gpt-4", "Two.", true});
    put(file, &(row){"sums", "2", "  ", "gpt-4", "Three.", true});
    put(file, &(row){"sums", "3", "Two and 1?", "gpt-4", "", false}); /* kept: the stack learns from it */
    fclose(file);
    const drr_train_options o = options_for(at("t.jsonl"));
    corpus c = read_corpus(&o);
    assert_int_equal(c.n, 2);
    assert_int_equal(c.n_empty, 1);
    corpus_clear(&c);
}

static bool stop(void *user)
{
    (void)user;
    return true;
}

static void reading_can_be_stopped(void **state)
{
    (void)state;
    corpus c = {0};
    write_traces("t.jsonl", 0, 10, false);
    const drr_train_options o = options_for(at("t.jsonl"));
    const drr_hooks hooks = {.cancelled = stop};
    assert_int_equal(corpus_read(&c, &o, &hooks, NULL), DRR_E_INTERRUPTED);
    assert_null(c.rows);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_question_is_in_one_part_alone),
        TEST(a_guarantee_keeps_questions_that_nothing_else_uses),
        TEST(a_task_that_is_left_out_keeps_its_test_traces_alone),
        TEST(the_seed_decides_and_the_order_of_the_file_does_not),
        TEST(fewer_questions_are_a_part_of_more),
        TEST(filters_take_whole_names_of_a_list),
        TEST(the_test_file_is_the_test_and_its_questions_never_train),
        TEST(files_with_nothing_to_learn_are_refused),
        TEST(traces_without_a_question_are_left_out),
        TEST(reading_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
