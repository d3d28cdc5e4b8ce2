/* test_train_sound.c: traces that nothing can be learnt from are refused before the encoder is even opened, in one
 * sentence that names the file, says what is wrong and what to do; a few bad ones among many are said and borne. */
#include "train_fixture.h"

enum { QUESTIONS = 80 };

static char logged[4096];

static void keep_log(void *user, drr_log_level level, const char *message)
{
    (void)user;
    if (level == DRR_LOG_WARN)
        snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s\n", message);
}

/* How a file of traces differs from a good one: one trace a line, two a question, one right and one wrong. */
typedef struct making {
    int questions;
    int contradicted;   /* of the first so many questions both traces give one answer, labelled both ways */
    int empty_right;    /* of the first so many questions the right trace has no text */
    int empty;          /* of the first so many questions no trace has */
    const char *labels; /* what "correct" is where it is not as it should be */
} making;

static void write_traces(const char *path, const making *how)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < how->questions; i++)
        for (int sample = 0; sample < 2; sample++) {
            const bool right = sample == 0;
            const int answer = i < how->contradicted ? i : i + sample;
            char text[64] = "";
            if (i >= how->empty && !(right && i < how->empty_right))
                snprintf(text, sizeof text, "By sample %d it is %d.", sample, answer);
            fprintf(f,
                    "{\"task\": \"sums\", \"id\": \"%d\", \"question\": \"What is %d and 0?\", \"gold\": \"%d\", "
                    "\"reasoner\": \"ann\", \"prompt\": \"p\", \"sample\": %d, \"text\": \"%s\", \"answer\": \"%d\", "
                    "\"correct\": %s}\n",
                    i, i, i, sample, text, answer,
                    how->labels ? how->labels
                    : right     ? "true"
                                : "false");
        }
    fclose(f);
}

/* Trains on such traces with an encoder that is not there: what comes after the traces were judged fails by that. */
static drr_status train_on(const making *how, drr_error *err)
{
    drr_train_options o;
    drr_train_result result;
    const drr_hooks hooks = {.log = keep_log};
    drr_train_options_defaults(&o);
    *logged = '\0';
    *err = (drr_error){0};
    write_traces(at("bad.jsonl"), how);
    o.traces = at("bad.jsonl");
    o.encoder = folder; /* a folder without config.json */
    o.out = at("out.gguf");
    return drr_train(&result, &o, &hooks, err);
}

static void assert_refused(const making *how, drr_status expected, const char *what)
{
    drr_error err;
    const drr_status status = train_on(how, &err);
    if (status != expected || !strstr(err.message, what) || !strstr(err.message, "bad.jsonl"))
        fail_msg("status %s: \"%s\" does not say \"%s\"", drr_status_name(status), err.message, what);
}

/* The traces were good enough: it is the encoder that is missing. */
static void assert_taken(const making *how, const char *warned)
{
    drr_error err;
    const drr_status status = train_on(how, &err);
    if (status != DRR_E_NOT_FOUND || !strstr(err.message, "config.json"))
        fail_msg("status %s: \"%s\"", drr_status_name(status), err.message);
    if (warned ? !strstr(logged, warned) || !strstr(logged, "bad.jsonl") : *logged)
        fail_msg("logged \"%s\" and not \"%s\"", logged, warned ? warned : "");
}

static void good_traces_pass_without_a_word(void **state)
{
    (void)state;
    assert_taken(&(making){.questions = QUESTIONS}, NULL);
}

static void fewer_than_50_questions_are_refused(void **state)
{
    (void)state;
    assert_refused(&(making){.questions = 49}, DRR_E_EMPTY, "traces of 49 questions, and fewer than 50");
    assert_taken(&(making){.questions = 50}, NULL);
}

static void traces_of_one_class_are_refused(void **state)
{
    (void)state;
    assert_refused(&(making){.questions = QUESTIONS, .labels = "true"}, DRR_E_EMPTY,
                   "traces are right, and a critic learns from both right and wrong ones: take harder questions");
    assert_refused(&(making){.questions = QUESTIONS, .labels = "false"}, DRR_E_EMPTY, "take easier questions");
}

static void labels_that_contradict_one_another_are_refused_when_they_are_many(void **state)
{
    (void)state;
    /* just above a tenth, and at it */
    assert_refused(&(making){.questions = QUESTIONS, .contradicted = 9}, DRR_E_FORMAT,
                   "18 of 160 traces contradict one another");
    assert_refused(&(making){.questions = QUESTIONS, .contradicted = 9}, DRR_E_FORMAT, "one reference answer");
    assert_taken(&(making){.questions = QUESTIONS, .contradicted = 8}, "16 of 160 traces contradict one another");
    assert_taken(&(making){.questions = QUESTIONS, .contradicted = 1}, "as \"0\" is to \"What is 0 and 0?\"");
}

static void empty_rationales_are_refused_where_nothing_else_is_left(void **state)
{
    (void)state;
    assert_refused(&(making){.questions = QUESTIONS, .empty = QUESTIONS}, DRR_E_EMPTY, "holds any text");
    /* no right one has a text: one class is left to read */
    assert_refused(&(making){.questions = QUESTIONS, .empty_right = QUESTIONS}, DRR_E_EMPTY, "are all wrong");
    assert_taken(&(making){.questions = QUESTIONS, .empty = 3}, "6 of 160 traces hold no text");
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(good_traces_pass_without_a_word),
        IN_A_PLACE(fewer_than_50_questions_are_refused),
        IN_A_PLACE(traces_of_one_class_are_refused),
        IN_A_PLACE(labels_that_contradict_one_another_are_refused_when_they_are_many),
        IN_A_PLACE(empty_rationales_are_refused_where_nothing_else_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
