/* Answers that are programs: where they stand, when they are complete, when two are the same; and the records that ask
 * for them. */
#include "core/core.h"
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const drr_task python = {.task = "t",
                                .id = "1",
                                .question = "Write f.",
                                .answer = "{\"tests\":[\"assert f() == 1\"],\"setup\":\"\"}",
                                .kind = DRR_KIND_CHECKED};
static const drr_task command = {
    .task = "t", .id = "2", .question = "Say it.", .answer = "{\"checker\":\"true\"}", .kind = DRR_KIND_CHECKED};

static void reads(const drr_task *task, const char *text, const char *wanted)
{
    char *answer = NULL;
    size_t begin = 0, end = 0;
    assert_int_equal(drr_answer_extract(&answer, &begin, &end, task, text, NULL), DRR_OK);
    if (wanted) {
        assert_non_null(answer);
        assert_string_equal(answer, wanted);
        assert_int_equal(end - begin, strlen(wanted));
        assert_memory_equal(text + begin, wanted, end - begin);
    } else {
        assert_null(answer);
    }
    free(answer);
}

static void the_last_block_that_defines_something_is_the_answer(void **state)
{
    (void)state;
    reads(&python, "So:\n```python\ndef f():\n    return 1\n```\n", "def f():\n    return 1");
    reads(&python, "```\ndef f(): return 0\n```\nno:\n```py\ndef f(): return 1\n```", "def f(): return 1");
    reads(&python, "```python\ndef f(): return 1\n```\nUse:\n```python\nprint(f())\n```\n", "def f(): return 1");
    reads(&python, "```\nx = 1\n```\n```\nf = lambda: 1\n```\n", "f = lambda: 1");
    reads(&python, "~~~~python\nclass A: pass\n~~~\nx\n~~~~\n", "class A: pass\n~~~\nx");
    reads(&python, "<think>```\ndef f(): return 0\n```</think>```\r\ndef f(): return 1\r\n```\r\n",
          "def f(): return 1");
    reads(&python, "  ```python\n  def g(): pass\n  ```\n", "  def g(): pass");
}

static void a_block_left_open_and_bare_code_are_answers_too(void **state)
{
    (void)state;
    reads(&python, "Here:\n```python\ndef f():\n    return 1\n", "def f():\n    return 1");
    reads(&python, "```\ndef f(): return 1\n```\n```\nhalf", "def f(): return 1");
    reads(&python, "\nimport math\n\ndef f():\n    return 1\n", "import math\n\ndef f():\n    return 1");
    reads(&python, "from what I know it is 1", NULL);
    reads(&python, "I would return ```1```.", NULL);
    reads(&python, "```\n\n```\n", NULL);
    reads(&python, "", NULL);
    reads(&command, " any text \n", " any text");
    reads(&command, "first\n```\nx\n```\n", "x");
}

static void any_text_is_read_within_its_bounds(void **state)
{
    (void)state;
    static const char *const parts[] = {"```",    "````",          "~~~",     "\n", "\r\n",     " ",
                                        "python", "def f(): pass", "class A", "`",  "</think>", "\xc3\xa9"};
    rng r;
    rng_seed(&r, 5);
    for (int i = 0; i < 20000; i++) {
        buffer b = {0};
        char *answer = NULL;
        size_t begin = 0, end = 0;
        assert_int_equal(buffer_puts(&b, "", NULL), DRR_OK);
        for (uint64_t n = rng_below(&r, 24); n > 0; n--)
            assert_int_equal(buffer_puts(&b, parts[rng_below(&r, sizeof parts / sizeof *parts)], NULL), DRR_OK);
        char *text = string_copy(b.data); /* of its own size, for AddressSanitizer to guard */
        const drr_task *task = i % 2 ? &python : &command;
        assert_int_equal(drr_answer_extract(&answer, &begin, &end, task, text, NULL), DRR_OK);
        task_answer_complete(task, text, strlen(text));
        if (answer) {
            assert_true(begin < end && end <= strlen(text) && end - begin == strlen(answer));
            assert_memory_equal(answer, text + begin, end - begin);
            assert_true(drr_answer_equal(DRR_KIND_CHECKED, answer, answer));
            drr_answer_equal(DRR_KIND_CHECKED, answer, text);
        }
        free(answer);
        free(text);
        buffer_clear(&b);
    }
}

static bool complete(const drr_task *task, const char *text)
{
    return task_answer_complete(task, text, strlen(text));
}

static void generation_may_stop_at_the_closing_fence(void **state)
{
    (void)state;
    assert_true(complete(&python, "So:\n```python\ndef f(): return 1\n```"));
    assert_true(complete(&python, "So:\n```python\ndef f(): return 1\n```\n"));
    assert_false(complete(&python, "So:\n```python\ndef f(): return 1\n``"));
    assert_false(complete(&python, "So:\n```"));
    assert_false(complete(&python, "```sh\npip install x\n```\n"));
    assert_false(complete(&python, "```\ndef f(): return 1\n```\nand then"));
    assert_false(complete(&python, ""));
    assert_true(complete(&command, "```\n1 2\n```\n"));
    assert_false(complete(&command, "1 2\n"));
}

static void programs_are_the_same_but_for_white_space_that_means_nothing(void **state)
{
    (void)state;
    const drr_kind k = DRR_KIND_CHECKED;
    assert_true(drr_answer_equal(k, "def f():\n    return 1", "\n\ndef f():  \r\n\n    return 1\n \n"));
    assert_true(drr_answer_equal(k, "", " \n"));
    assert_false(drr_answer_equal(k, "if x:\n    a()\n    b()", "if x:\n    a()\nb()"));
    assert_false(drr_answer_equal(k, "a\nb", "ab"));
    assert_false(drr_answer_equal(k, "a", "a\nb"));
    assert_false(drr_answer_equal(k, "f(1)", "f( 1)"));
    assert_false(drr_answer_equal(k, "A", "a"));
}

static void only_a_checker_can_grade_one(void **state)
{
    (void)state;
    drr_label label = DRR_LABEL_ACCEPT;
    assert_int_equal(drr_answer_grade(&label, &python, "```\ndef f(): return 1\n```", NULL), DRR_OK);
    assert_int_equal(label, DRR_LABEL_UNLABELLED);
    assert_int_equal(drr_answer_grade(&label, &python, "no idea", NULL), DRR_OK);
    assert_int_equal(label, DRR_LABEL_UNPARSED);
    assert_int_equal(task_answer_correct(&python, "def f(): return 1"), -1);
    assert_int_equal(task_answer_correct(&python, NULL), 0);
}

static drr_status open_text(drr_dataset **d, const char *text, drr_error *err)
{
    char path[] = "/tmp/drr-code-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    const drr_status status = drr_dataset_open(d, path, NULL, "code", err);
    unlink(path);
    return status;
}

static void refused(const char *record, const char *words)
{
    drr_dataset *d = NULL;
    drr_error err = {0};
    assert_int_equal(open_text(&d, record, &err), DRR_E_FORMAT);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void records_say_what_checks_them(void **state)
{
    (void)state;
    drr_dataset *d = NULL, *again = NULL;
    char path[] = "/tmp/drr-code-XXXXXX";
    assert_int_equal(
        open_text(
            &d,
            "{\"id\":\"1\",\"question\":\"f?\",\"kind\":\"checked\",\"tests\":[\"assert f()\"],\"setup\":\"x = 1\"}\n"
            "{\"id\":\"2\",\"question\":\"g?\",\"kind\":\"checked\",\"checker\":\"./check\"}\n",
            NULL),
        DRR_OK);
    assert_string_equal(drr_dataset_at(d, 0)->answer, "{\"tests\":[\"assert f()\"],\"setup\":\"x = 1\"}");
    assert_string_equal(drr_dataset_at(d, 1)->answer, "{\"checker\":\"./check\"}");
    const int fd = mkstemp(path);
    close(fd);
    assert_int_equal(drr_dataset_write(d, path, NULL), DRR_OK);
    assert_int_equal(drr_dataset_open(&again, path, NULL, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(drr_dataset_at(again, i)->answer, drr_dataset_at(d, i)->answer);
    unlink(path);
    drr_dataset_free(d);
    drr_dataset_free(again);
#define CHECKED "{\"id\":\"1\",\"question\":\"f?\",\"kind\":\"checked\""
    refused(CHECKED "}\n", "neither");
    refused(CHECKED ",\"tests\":[\"x\"],\"checker\":\"y\"}\n", "both");
    refused(CHECKED ",\"tests\":[]}\n", "not a list");
    refused(CHECKED ",\"tests\":[\"x\",1]}\n", "test 2 is not text");
    refused(CHECKED ",\"tests\":[\"x\"],\"setup\":1}\n", "\"setup\" is not text");
    refused(CHECKED ",\"checker\":\"\"}\n", "not a command");
}

static void the_wording_asks_for_a_program_and_ones_own_has_an_id_of_its_own(void **state)
{
    (void)state;
    drr_prompts *p = NULL;
    drr_message *messages = NULL;
    size_t n = 0;
    assert_int_equal(drr_prompts_open(&p, NULL, NULL), DRR_OK);
    char path[] = "/tmp/drr-code-XXXXXX";
    const int fd = mkstemp(path);
    assert_int_equal(fd < 0, 0);
    close(fd);
    assert_int_equal(file_write_all(path, "{\"checked\":{\"system\":\"Write Lua.\"}}", 35, NULL), DRR_OK);
    drr_prompts *own = NULL;
    assert_int_equal(drr_prompts_open(&own, path, NULL), DRR_OK);
    assert_string_not_equal(drr_prompts_id(own), drr_prompts_id(p));
    drr_prompts_free(own);
    unlink(path);
    assert_int_equal(drr_prompts_messages(&messages, &n, p, &python, NULL), DRR_OK);
    assert_int_equal(n, 6); /* system, two examples, the question */
    assert_string_equal(messages[5].content, "Write f.");
    drr_messages_free(messages, n);
    drr_prompts_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_block_that_defines_something_is_the_answer),
        cmocka_unit_test(a_block_left_open_and_bare_code_are_answers_too),
        cmocka_unit_test(any_text_is_read_within_its_bounds),
        cmocka_unit_test(generation_may_stop_at_the_closing_fence),
        cmocka_unit_test(programs_are_the_same_but_for_white_space_that_means_nothing),
        cmocka_unit_test(only_a_checker_can_grade_one),
        cmocka_unit_test(records_say_what_checks_them),
        cmocka_unit_test(the_wording_asks_for_a_program_and_ones_own_has_an_id_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
