/* test_task_steps.c: where the steps of a rationale end. A test shows the steps themselves, joined by "|". */
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The text with a "|" at each end but the last. */
static void assert_steps(drr_kind kind, const char *marked)
{
    buffer text = {0}, found = {0};
    uint32_t *ends = NULL;
    size_t n = 0;
    buffer_append(&text, "", 0, NULL);
    for (const char *p = marked; *p; p++)
        if (*p != '|')
            buffer_append(&text, p, 1, NULL);
    assert_int_equal(task_step_ends(&ends, &n, kind, text.data, NULL), DRR_OK);
    buffer_append(&found, "", 0, NULL);
    for (size_t i = 0; i < n; i++) {
        const size_t begin = i ? ends[i - 1] : 0;
        assert_true(ends[i] > begin && ends[i] <= text.size);
        buffer_printf(&found, NULL, "%s%.*s", i ? "|" : "", (int)(ends[i] - begin), text.data + begin);
    }
    assert_int_equal(n ? ends[n - 1] : 0, text.size);
    assert_string_equal(found.data, marked);
    free(ends);
    buffer_clear(&text);
    buffer_clear(&found);
}

static void prose_is_cut_by_sentence(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_CHOICE, "Bees make honey.| So it is A.\n|Answer: A");
    assert_steps(DRR_KIND_NUMBER, "She has 3.| He has 4!| How many?| They have 7.\n|Answer: 7\n");
    assert_steps(DRR_KIND_BOOLEAN, "Yes (it floats.)| It is \"ice.\"| So **yes.**|  Done.");
    assert_steps(DRR_KIND_TEXT, "One sentence without an end");
    assert_steps(DRR_KIND_TEXT, "Wait...| Then it stops.");
    assert_steps(DRR_KIND_TEXT, "Wait... what?!| Yes.");
}

static void numbers_and_abbreviations_end_no_sentence(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_NUMBER, "It costs 3.5 dollars, i.e. 3.50.| Then 7.\n|Answer: 7");
    assert_steps(DRR_KIND_TEXT, "Animals, e.g. Dogs or cats, bark.| Mr. Smith and J. Doe agree.");
    assert_steps(DRR_KIND_TEXT, "It is 5 a.m. in Rome.| It is 5 p.m.| They sleep.");
    assert_steps(DRR_KIND_TEXT, "The U.S. dollar fell.| See No. 3 of Fig. 2.| Apples, pears, etc.| None is ripe.");
    assert_steps(DRR_KIND_TEXT, "The answer is no.| Because of x = 3.| Then stop.");
    assert_steps(DRR_KIND_CHOICE, "It is B. library, not A. bank.| Fine.");
    assert_steps(DRR_KIND_NUMBER, "5! = 120 and 3! is 6.| So 5!| The rest is easy.");
    assert_steps(DRR_KIND_TEXT, "drr 0.1.2 is on www.example.com today.| Good.");
}

static void items_of_a_list_are_steps(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_TEXT, "1. First this.\n|2. Then that.| And more.\n|- last\n");
    assert_steps(DRR_KIND_CHOICE, "**Step 1.** Add 2.\n|Step 2. Take 3 away.\n|Answer: C");
}

static void workings_of_several_lines_are_cut_by_line(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_NUMBER, "2 + 2 = 4. That is it.\n|4 * 2 = 8\n\n|Answer: 8");
    assert_steps(DRR_KIND_NUMBER, "2 + 2 = 4.| That is it.\n|Answer: 4"); /* one line: by sentence */
    assert_steps(DRR_KIND_TEXT, "Two things.| Here.\n|And there.");
}

static void programs_are_cut_by_line(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_CHECKED,
                 "Let us see. It is easy.\n```python\n|def f(x):\n|    y = x. real\n\n|    answer: int = 1\n|    "
                 "return y\n```");
    assert_steps(DRR_KIND_CHECKED, "```python\ndef f(x):\n|    return x\n```\n|This is it.\n");
    assert_steps(DRR_KIND_CHECKED, "def f(x):\r\n|  return x\r\n");
}

static void the_answer_line_is_the_last_step_whatever_it_says(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_TEXT, "It is so.\n|Answer: first. Then second.\nAnd third.");
    assert_steps(DRR_KIND_NUMBER, "It is 5.\n|Answer: 5\n\n|Wait. It is 6.\n|**Final Answer:** 6");
    assert_steps(DRR_KIND_NUMBER, "Answer: 6");
    assert_steps(DRR_KIND_TEXT, "The answers: many.| Answered: no.\n|  answer : few");
    assert_steps(DRR_KIND_NUMBER, "---\n\nAnswer: 6");
}

static void what_says_nothing_is_no_step(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_TEXT, "");
    assert_steps(DRR_KIND_TEXT, " \n \n");
    assert_steps(DRR_KIND_TEXT, "...");
    assert_steps(DRR_KIND_TEXT, "\n\n***\nIt begins.\n***\n\n|It ends.\n\n \n");
    assert_steps(DRR_KIND_NUMBER, "1 + 1 = 2\n---\n|2 + 1 = 3\n|Answer: 3");
}

static void no_character_is_cut_in_two(void **state)
{
    (void)state;
    assert_steps(DRR_KIND_TEXT, "Das h\xc3\xa4tte \xe2\x80\x9egut\xe2\x80\x9d.| \xc3\x9c"
                                "bel!\xe2\x80\x9d| \xc3\xa9t\xc3\xa9.");
    assert_steps(DRR_KIND_TEXT, "\xe5\xa5\xbd\xe3\x80\x82|\xe5\xaf\xb9\xef\xbc\x9f\xe3\x80\x8d|\xf0\x9f\x98\x80.| Ja.");
    rng r;
    rng_seed(&r, 5);
    for (int round = 0; round < 2000; round++) { /* whatever it is, every step ends behind a whole character */
        static const char *const parts[] = {
            "a", "B", ". ",  ".",       "\n",   "!", "\xc3\xa9", "\xe3\x80\x82", "\xf0\x9f\x98\x80", "\xe2\x80\x9d",
            " ", "1", "```", "Answer:", "\xff", "*"};
        buffer text = {0};
        uint32_t *ends = NULL;
        size_t n = 0;
        for (uint64_t i = 0, k = 1 + rng_below(&r, 30); i < k; i++)
            buffer_puts(&text, parts[rng_below(&r, sizeof parts / sizeof *parts)], NULL);
        const drr_kind kind = (drr_kind)rng_below(&r, 5);
        assert_int_equal(task_step_ends(&ends, &n, kind, text.data, NULL), DRR_OK);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            assert_true(ends[i] > (i ? ends[i - 1] : 0));
            assert_int_not_equal(text.data[ends[i]] & 0xc0, 0x80);
        }
        assert_int_equal(ends[n - 1], text.size);
        free(ends);
        buffer_clear(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prose_is_cut_by_sentence),
        cmocka_unit_test(numbers_and_abbreviations_end_no_sentence),
        cmocka_unit_test(items_of_a_list_are_steps),
        cmocka_unit_test(workings_of_several_lines_are_cut_by_line),
        cmocka_unit_test(programs_are_cut_by_line),
        cmocka_unit_test(the_answer_line_is_the_last_step_whatever_it_says),
        cmocka_unit_test(what_says_nothing_is_no_step),
        cmocka_unit_test(no_character_is_cut_in_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
