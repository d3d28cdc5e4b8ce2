/* test_task_dataset.c: data sets in every format that is read, what is said about bad ones, and writing. The records
 * were invented for the tests in the shapes that the sets' authors published. */
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr_dataset_XXXXXX";
static char path[64];

static drr_status open_bytes(drr_dataset **set, const char *text, size_t size, const char *format, drr_error *err)
{
    assert_int_equal(file_write_all(path, text, size, NULL), DRR_OK);
    return drr_dataset_open(set, path, format, NULL, err);
}

static drr_dataset *read_text(const char *text, const char *format)
{
    drr_dataset *set = NULL;
    drr_error err = {0};
    if (open_bytes(&set, text, strlen(text), format, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return set;
}

static void drr_records_are_read(void **state)
{
    (void)state;
    drr_dataset *set = read_text(
        "\xef\xbb\xbf{\"id\": \"a\", \"question\": \"Where?\", \"choices\": [\"here\", \"there\"], \"answer\": \"B\", "
        "\"kind\": \"choice\"}\r\n\n"
        "{\"id\": \"b\", \"question\": \"How many?\", \"answer\": 12.5, \"kind\": \"number\", \"more\": [1]}\n"
        "{\"id\": \"c\", \"question\": \"Is it?\", \"answer\": true, \"kind\": \"boolean\"}\n"
        "{\"id\": \"d\", \"question\": \"Who?\", \"answer\": \"\", \"kind\": \"text\"}",
        NULL);
    assert_int_equal(drr_dataset_count(set), 4);
    assert_string_equal(drr_dataset_name(set), "set");
    const drr_task *a = drr_dataset_at(set, 0);
    assert_string_equal(a->task, "set");
    assert_int_equal(a->kind, DRR_KIND_CHOICE);
    assert_int_equal(a->n_choices, 2);
    assert_string_equal(a->choices[1], "there");
    assert_string_equal(a->answer, "B");
    assert_string_equal(drr_dataset_at(set, 1)->answer, "12.5");
    assert_null(drr_dataset_at(set, 1)->choices);
    assert_string_equal(drr_dataset_at(set, 2)->answer, "yes");
    assert_string_equal(drr_dataset_at(set, 3)->answer, ""); /* not known */
    assert_null(drr_dataset_at(set, 4));
    drr_dataset_free(set);
    drr_dataset_free(NULL);
}

typedef struct original {
    const char *format, *text, *id, *question, *answer;
    drr_kind kind;
    size_t n_choices;
} original;

static const original originals[] = {
    {"gsm8k",
     "{\"question\": \"Two boxes hold 600 pens each. How many pens?\", \"answer\": \"There are "
     "2*600=<<2*600=1200>>1200."
     "\\n#### 1,200\"}",
     "set-0", "Two boxes hold 600 pens each. How many pens?", "1200", DRR_KIND_NUMBER, 0},
    {"svamp",
     "[\n{\"ID\": \"chal-9\", \"Body\": \"Ann has 5 pens\", \"Question\": \"How many more than 2?\", \"Equation\": "
     "\"( 5.0 - 2.0 )\", \"Answer\": 3.0, \"Type\": \"Subtraction\"}\n]\n",
     "chal-9", "Ann has 5 pens. How many more than 2?", "3", DRR_KIND_NUMBER, 0},
    {"csqa",
     "{\"answerKey\": \"C\", \"id\": \"f00\", \"question\": {\"question_concept\": \"pen\", \"choices\": [{\"label\": "
     "\"A\", \"text\": \"sea\"}, {\"label\": \"B\", \"text\": \"sky\"}, {\"label\": \"C\", \"text\": \"desk\"}, "
     "{\"label\": "
     "\"D\", \"text\": \"moon\"}, {\"label\": \"E\", \"text\": \"nest\"}], \"stem\": \"Where is a pen?\"}}",
     "f00", "Where is a pen?", "C", DRR_KIND_CHOICE, 5},
    {"strategyqa",
     "[{\"qid\": \"b1\", \"term\": \"pen\", \"question\": \"Could a pen float in \\\"[air]\\\"?\", \"answer\": false, "
     "\"facts\": [\"Pens are heavier than air.\"]}]",
     "b1", "Could a pen float in \"[air]\"?", "no", DRR_KIND_BOOLEAN, 0},
    {"arc",
     "{\"id\": \"X_1\", \"question\": {\"stem\": \"What melts?\", \"choices\": [{\"text\": \"rock\", \"label\": "
     "\"1\"}, "
     "{\"text\": \"ice\", \"label\": \"2\"}, {\"text\": \"air\", \"label\": \"3\"}]}, \"answerKey\": \"2\"}",
     "X_1", "What melts?", "B", DRR_KIND_CHOICE, 3},
    {"mmlu", "{\"question\": \"Which?\", \"choices\": [\"p\", \"q\", \"r\", \"s\"], \"answer\": 3, \"subject\": \"x\"}",
     "set-0", "Which?", "D", DRR_KIND_CHOICE, 4},
    {"mmlu",
     "{\"question\": \"question\", \"answer_a\": \"answer_a\", \"answer_b\": \"answer_b\", \"answer_c\": \"answer_c\", "
     "\"answer_d\": \"answer_d\", \"correct_answer\": \"answer\", \"topic\": \"x\"}\n"
     "{\"question\": \"Which?\", \"answer_a\": \"p\", \"answer_b\": \"q\", \"answer_c\": \"r\", \"answer_d\": \"s\", "
     "\"correct_answer\": \"B\", \"topic\": \"x\"}",
     "set-0", "Which?", "B", DRR_KIND_CHOICE, 4},
};

static void original_formats_are_read_and_detected(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof originals / sizeof *originals; i++)
        for (int detect = 0; detect < 2; detect++) {
            const original *o = &originals[i];
            drr_dataset *set = read_text(o->text, detect ? NULL : o->format);
            assert_int_equal(drr_dataset_count(set), 1);
            const drr_task *t = drr_dataset_at(set, 0);
            assert_string_equal(t->id, o->id);
            assert_string_equal(t->question, o->question);
            assert_string_equal(t->answer, o->answer);
            assert_int_equal(t->kind, o->kind);
            assert_int_equal(t->n_choices, o->n_choices);
            drr_dataset_free(set);
        }
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    char other[80];
    snprintf(other, sizeof other, "%s/written.jsonl", folder);
    for (size_t i = 0; i < sizeof originals / sizeof *originals; i++) {
        drr_dataset *set = read_text(originals[i].text, NULL), *again = NULL;
        assert_int_equal(drr_dataset_write(set, other, NULL), DRR_OK);
        assert_int_equal(drr_dataset_open(&again, other, "drr", "set", NULL), DRR_OK);
        const drr_task *a = drr_dataset_at(set, 0), *b = drr_dataset_at(again, 0);
        assert_int_equal(drr_dataset_count(again), 1);
        assert_string_equal(a->task, b->task);
        assert_string_equal(a->id, b->id);
        assert_string_equal(a->question, b->question);
        assert_string_equal(a->answer, b->answer);
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->n_choices, b->n_choices);
        for (size_t k = 0; k < a->n_choices; k++)
            assert_string_equal(a->choices[k], b->choices[k]);
        drr_dataset_free(set);
        drr_dataset_free(again);
    }
    drr_dataset *set = read_text(originals[0].text, NULL);
    drr_error err = {0};
    assert_int_not_equal(drr_dataset_write(set, "/nowhere/x.jsonl", &err), DRR_OK);
    assert_non_null(strstr(err.message, "/nowhere"));
    drr_dataset_free(set);
    unlink(other);
}

#define GOOD "{\"id\": \"a\", \"question\": \"Q\", \"answer\": \"1\", \"kind\": \"number\"}\n"
#define CHOICE(answer)                                                                                                 \
    "{\"id\": \"b\", \"question\": \"Q\", \"choices\": [\"x\", \"y\"], \"answer\": \"" answer                          \
    "\", \"kind\": \"choice\"}\n"

static void bad_input_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *format, *text, *words[4];
    } cases[] = {
        {NULL, "", {"holds no questions"}},
        {NULL, "\n \n\n", {"holds no questions"}},
        {NULL, "[]", {"holds no questions"}},
        {NULL, GOOD "{\"id\": \"b\", \"ques", {":2:", "JSON", "cut short"}},
        {NULL, GOOD "\nnonsense\n" GOOD, {":3:", "JSON", "mend or remove"}},
        {NULL, GOOD GOOD, {":2:", "\"a\"", "line 1", "id of its own"}},
        {NULL, GOOD "{\"question\": \"Q\", \"answer\": \"1\", \"kind\": \"number\"}", {":2:", "\"id\"", "missing"}},
        {NULL, GOOD "{\"id\": \"b\", \"answer\": \"1\", \"kind\": \"number\"}", {":2:", "\"question\"", "missing"}},
        {NULL, GOOD "{\"id\": \"b\", \"question\": \"\", \"answer\": \"1\", \"kind\": \"number\"}", {":2:", "empty"}},
        {NULL, GOOD "{\"id\": \"b\", \"question\": \"Q\", \"kind\": \"number\"}", {":2:", "\"answer\"", "missing"}},
        {NULL, GOOD "{\"id\": \"b\", \"question\": \"Q\", \"answer\": \"1\"}", {":2:", "\"kind\"", "missing"}},
        {NULL,
         GOOD "{\"id\": \"b\", \"question\": \"Q\", \"answer\": \"one\", \"kind\": \"number\"}",
         {":2:", "one", "fit"}},
        {NULL,
         GOOD "{\"id\": \"b\", \"question\": \"Q\", \"answer\": [1], \"kind\": \"number\"}",
         {":2:", "\"answer\""}},
        {NULL,
         GOOD "{\"id\": \"b\", \"question\": \"Q\", \"answer\": \"maybe\", \"kind\": \"boolean\"}",
         {":2:", "yes or no"}},
        {NULL, CHOICE("C"), {":1:", "\"C\"", "letter"}},
        {NULL, CHOICE("b"), {":1:", "\"b\"", "letter"}},
        {NULL, CHOICE("AB"), {":1:", "\"AB\"", "letter"}},
        {NULL, "{\"id\": \"b\", \"question\": \"Q\", \"answer\": \"A\", \"kind\": \"choice\"}", {":1:", "choices"}},
        {NULL,
         "{\"id\": \"b\", \"question\": \"Q\", \"choices\": [\"x\"], \"answer\": \"A\", \"kind\": \"choice\"}",
         {":1:", "2 to"}},
        {NULL,
         "{\"id\": \"b\", \"question\": \"Q\", \"choices\": [\"x\", 5], \"answer\": \"A\", \"kind\": \"choice\"}",
         {":1:", "choice 2"}},
        {NULL,
         "{\"id\": \"b\", \"question\": \"Q\", \"kind\": \"checked\", \"tests\": []}",
         {":1:", "tests", "Python statements"}},
        {NULL,
         "{\"id\": \"b\", \"question\": \"Q\", \"answer\": \"x\", \"kind\": \"poem\"}",
         {":1:", "poem", "choice, number"}},
        {NULL, "{\"what\": 1}", {":1:", "no known format"}},
        {NULL, "5\n", {":1:", "object"}},
        {NULL,
         GOOD "{\"id\": \"\xff\xfe\", \"question\": \"Q\", \"answer\": \"1\", \"kind\": \"number\"}",
         {":2:", "byte 9", "UTF-8"}},
        {NULL, GOOD "\"\xe2\x82", {":2:", "UTF-8"}},
        {"gsm8k", "{\"question\": \"Q\", \"answer\": \"five\"}", {":1:", "####"}},
        {"gsm8k", "{\"question\": \"Q\"}", {":1:", "\"answer\"", "missing"}},
        {"csqa",
         "{\"id\": \"x\", \"question\": {\"stem\": \"Q\", \"choices\": [{\"label\": \"A\", \"text\": \"x\"}, "
         "{\"label\": "
         "\"B\", \"text\": \"y\"}]}, \"answerKey\": \"E\"}",
         {":1:", "answerKey", "\"E\""}},
        {"csqa",
         "{\"id\": \"x\", \"question\": {\"stem\": \"Q\", \"choices\": [{\"label\": \"A\", \"text\": \"x\"}, "
         "{\"label\": "
         "\"B\", \"text\": \"y\"}]}}",
         {":1:", "answerKey", "missing"}},
        {"svamp",
         "[{\"ID\": \"1\", \"Body\": \"B\", \"Question\": \"Q?\", \"Answer\": 1},\n\n {\"ID\": \"2\", \"Body\": \"B\", "
         "\"Question\": \"Q?\"}]",
         {":3:", "\"Answer\"", "missing"}},
        {"svamp",
         "[{\"ID\": \"1\", \"Body\": \"B\", \"Question\": \"Q?\", \"Answer\": 1},\n{\"ID\": \"2\", \"Bo",
         {":2:", "cut short"}},
        {"strategyqa",
         "[{\"qid\": \"1\", \"question\": \"Q?\", \"answer\": \"yes\"}]",
         {":1:", "neither true nor false"}},
        {"mmlu", "{\"question\": \"Q\", \"choices\": [\"x\", \"y\"], \"answer\": 2}", {":1:", "\"answer\""}},
        {"poems", GOOD, {"\"poems\" is not a format", "gsm8k"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        drr_dataset *set = NULL;
        drr_error err = {0};
        const drr_status status = open_bytes(&set, cases[i].text, strlen(cases[i].text), cases[i].format, &err);
        const drr_status wanted =
            cases[i].format && strcmp(cases[i].format, "poems") == 0 ? DRR_E_ARGUMENT : DRR_E_FORMAT;
        if (status != wanted)
            print_error("case %zu: %s: %s\n", i, drr_status_name(status), err.message);
        assert_int_equal(status, wanted);
        assert_null(set);
        if (wanted == DRR_E_FORMAT)
            assert_non_null(strstr(err.message, path));
        for (size_t k = 0; k < 4 && cases[i].words[k]; k++) {
            if (!strstr(err.message, cases[i].words[k]))
                print_error("case %zu: \"%s\" is not in: %s\n", i, cases[i].words[k], err.message);
            assert_non_null(strstr(err.message, cases[i].words[k]));
        }
    }
    drr_dataset *set = NULL;
    assert_int_equal(drr_dataset_open(&set, "/nowhere/set.jsonl", NULL, NULL, NULL), DRR_E_NOT_FOUND);
    assert_int_not_equal(drr_dataset_open(&set, folder, NULL, NULL, NULL), DRR_OK);
}

/* A file cut at any byte is either refused with its line, or holds whole records only. */
static void a_file_cut_anywhere_is_refused_or_whole(void **state)
{
    (void)state;
    static const char whole[] = GOOD CHOICE("A");
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        drr_dataset *set = NULL;
        drr_error err = {0};
        const drr_status status = open_bytes(&set, whole, n, NULL, &err);
        if (status == DRR_OK)
            assert_int_equal(drr_dataset_count(set), n < strlen(whole) - 1 ? 1 : 2);
        else
            assert_int_equal(status, DRR_E_FORMAT);
        drr_dataset_free(set);
    }
}

/* ---- one JSON array, compressed */

static char packed[80];

static void write_packed(const char *text)
{
    line_writer *w = NULL;
    assert_int_equal(lines_create(&w, packed, NULL), DRR_OK);
    assert_int_equal(lines_put(w, text, NULL), DRR_OK);
    assert_int_equal(lines_commit(w, NULL), DRR_OK);
}

static void assert_refused(const char *file, const char *words)
{
    drr_dataset *set = NULL;
    drr_error err = {0};
    assert_int_equal(drr_dataset_open(&set, file, NULL, NULL, &err), DRR_E_FORMAT);
    assert_null(set);
    if (!strstr(err.message, file) || !strstr(err.message, words))
        fail_msg("\"%s\" is not in: %s", words, err.message);
}

static void a_compressed_array_is_read_like_a_plain_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof originals / sizeof *originals; i++) {
        drr_dataset *set = NULL;
        drr_error err = {0};
        if (originals[i].text[0] != '[')
            continue;
        write_packed(originals[i].text);
        if (drr_dataset_open(&set, packed, NULL, NULL, &err) != DRR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(drr_dataset_count(set), 1);
        assert_string_equal(drr_dataset_at(set, 0)->question, originals[i].question);
        assert_string_equal(drr_dataset_at(set, 0)->answer, originals[i].answer);
        drr_dataset_free(set);
    }
}

/* Longer than what is read or inflated at once, so that the count of lines goes over the seams. */
static void a_long_compressed_array_names_its_lines(void **state)
{
    (void)state;
    enum { N = 5000, BROKEN = 4321 };
    char place[120], expected[120];
    for (int broken = 0; broken < 2; broken++) {
        drr_dataset *set = NULL;
        buffer text = {0};
        assert_int_equal(buffer_puts(&text, "[\r\n", NULL), DRR_OK);
        for (int i = 1; i <= N; i++)
            assert_int_equal(buffer_printf(&text, NULL,
                                           "{\"qid\": \"%d\", \"question\": \"Is %d odd?\", \"answer\": %s}%s\r\n", i,
                                           i * 7919, broken && i == BROKEN ? "maybe" : "true", i < N ? "," : "]"),
                             DRR_OK);
        write_packed(text.data);
        buffer_clear(&text);
        snprintf(expected, sizeof expected, "%s:%d", packed, BROKEN + 1);
        if (broken) {
            assert_refused(packed, expected);
            continue;
        }
        assert_int_equal(drr_dataset_open(&set, packed, NULL, NULL, NULL), DRR_OK);
        assert_int_equal(drr_dataset_count(set), N);
        drr_dataset_place(place, sizeof place, set, BROKEN - 1);
        assert_string_equal(place, expected);
        drr_dataset_free(set);
    }
}

static void an_array_cut_short_is_refused_wherever_it_was_cut(void **state)
{
    (void)state;
    char *whole = NULL;
    size_t size = 0;
    const char *text = originals[1].text;
    write_packed(text);
    assert_int_equal(file_read(&whole, &size, packed, 0, NULL), DRR_OK);
    for (size_t n = 0; n < size; n++) { /* cut after it was compressed */
        assert_int_equal(file_write_all(packed, whole, n, NULL), DRR_OK);
        assert_refused(packed, n > 18 ? "cut short" : "");
    }
    free(whole);
    for (size_t n = 2; n + 2 < strlen(text); n++) { /* and before */
        char *part = string_copy_n(text, n);
        write_packed(part);
        assert_refused(packed, "cut short");
        free(part);
    }
}

static void what_follows_an_array_is_not_passed_over(void **state)
{
    (void)state;
    write_packed("[{\"qid\": \"1\", \"question\": \"Q?\", \"answer\": true}]\n\n[{\"qid\": \"2\"}]");
    assert_refused(packed, ":3: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drr_records_are_read),
        cmocka_unit_test(original_formats_are_read_and_detected),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(bad_input_is_named_with_its_line),
        cmocka_unit_test(a_file_cut_anywhere_is_refused_or_whole),
        cmocka_unit_test(a_compressed_array_is_read_like_a_plain_one),
        cmocka_unit_test(a_long_compressed_array_names_its_lines),
        cmocka_unit_test(an_array_cut_short_is_refused_wherever_it_was_cut),
        cmocka_unit_test(what_follows_an_array_is_not_passed_over),
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/set.test.jsonl", folder);
    snprintf(packed, sizeof packed, "%s/set.test.json.gz", folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    unlink(packed);
    rmdir(folder);
    return failed;
}
