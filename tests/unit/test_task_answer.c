/* test_task_answer.c: where the final answer is found in free text, when a line is complete, and which answers are
 * equal. Texts were written for the tests; the recorded ones are graded in test_task_regrade.c. */
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const five[] = {"bank", "library", "department store", "mall", "new york"};
static const drr_task choice_task = {"t", "1", "Where?", five, 5, "B", DRR_KIND_CHOICE};
static const drr_task number_task = {"t", "1", "How many?", NULL, 0, "12", DRR_KIND_NUMBER};
static const drr_task boolean_task = {"t", "1", "Is it?", NULL, 0, "yes", DRR_KIND_BOOLEAN};
static const drr_task text_task = {"t", "1", "What?", NULL, 0, "the heart", DRR_KIND_TEXT};

typedef struct extraction {
    const char *text, *answer; /* NULL: none */
} extraction;

static void check(const drr_task *task, const extraction *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *answer = NULL;
        size_t begin = 99, end = 99;
        drr_error err = {0};
        assert_int_equal(drr_answer_extract(&answer, &begin, &end, task, cases[i].text, &err), DRR_OK);
        const bool same = answer && cases[i].answer ? strcmp(answer, cases[i].answer) == 0 : answer == cases[i].answer;
        if (!same)
            print_error("\"%s\": got %s, wanted %s\n", cases[i].text, answer ? answer : "none",
                        cases[i].answer ? cases[i].answer : "none");
        assert_true(same);
        if (answer)
            assert_true(begin < end && end <= strlen(cases[i].text));
        else
            assert_true(begin == 0 && end == 0);
        free(answer);
    }
}
#define CHECK(task, cases) check(&(task), cases, sizeof(cases) / sizeof *(cases))

static void choices_are_found(void **state)
{
    (void)state;
    static const extraction cases[] = {
        {"Books are kept there.\nAnswer: B", "B"},
        {"Answer: B\n", "B"},
        {"answer: (b)", "B"},
        {"The answer is (B).", "B"},
        {"The correct answer is: B.", "B"},
        {"So the best option is D, the mall.", "D"},
        {"**Answer:** B", "B"},
        {"**Answer: B**", "B"},
        {"**Final Answer:**\n\nB) library", "B"},
        {"\\boxed{B} Mexico", "B"},
        {"\\(\\boxed{\\text{(D) mall}}\\)", "D"},
        {"\\boxed{new\\ york}", "E"},
        {"\\boxed{the Department Store}", "C"},
        {"Answer: a library", "B"},
        {"B", "B"},
        {"(C) department store", "C"},
        {"C. department store", "C"},
        {"It is quiet there.\n\nB) library", "B"},
        {"library", "B"},
        {"People borrow books at a library.", "B"},
        {"It cannot be (A). The answer is (C).", "C"},
        {"The answer is not (A). The answer is (C).", "C"},
        {"The answer is (A). Wait, on reflection the answer is (B).", "B"},
        {"<think>The answer is A.</think>The answer is D.", "D"},
        {"<answer> E </answer>", "E"},
        {"The answer is A.\n\nQuestion: What else?\nThe answer is B.", "A"},
        {"The answer is (B), since (C) has no books.", "B"},
        /* no single choice */
        {"Answer: F", NULL},
        {"Answer: none of these", NULL},
        {"(A) is wrong.\n\\boxed{None of the above}", NULL},
        {"\\boxed{B, C}", NULL},
        {"\\boxed{(A) bank or (B) library}", NULL},
        {"It could be (A), (B) or (D).", NULL},
        {"I am not sure.", NULL},
        {"", NULL},
        {"A bank keeps money, a library keeps books.", NULL},
    };
    CHECK(choice_task, cases);
}

static void numbers_are_found(void **state)
{
    (void)state;
    static const extraction cases[] = {
        {"6 * 9 = 54 jars.\nAnswer: 40", "40"},
        {"The answer is $1,200.", "1200"},
        {"**Answer:** $1,200", "1200"},
        {"Answer: -3.50 degrees", "-3.5"},
        {"Answer: \xe2\x88\x92"
         "7",
         "-7"},
        {"#### 1,234,567", "1234567"},
        {"\\boxed{\\$18{,}000/year}", "18000"},
        {"\\boxed{12 \\text{ apples}}", "12"},
        {"\\boxed{\\frac{3}{4}}", "0.75"},
        {"\\boxed{x = 5}", "5"},
        {"Answer: 1 1/2 cups", "1.5"},
        {"Answer: 3/4", "0.75"},
        {"Answer: 25%", "25"},
        {"Answer: 1.5e3", "1500"},
        {"Answer: .5", "0.5"},
        {"Answer: 12.", "12"},
        {"Answer: 5 * 3 + 1 = 16", "16"},
        {"Answer: 20. (5 * 3 = 15, and 5 more.)", "20"},
        {"\xe2\x82\xac"
         "45",
         "45"},
        {"The answer is therefore 9 boxes.", "9"},
        {"The answer is 11 pages (8 of maths and 3 of reading).", "11"},
        {"First \\boxed{10}, in all \\boxed{30}.", "30"},
        /* nothing announced: the closing sentence */
        {"30 + 20 = 50 miles.\n\nTherefore, Rosie runs 50 miles in 7 hours.", "50"},
        {"So Judy makes $7425.00 in 1 week.", "7425"},
        {"It is (5 + 3). Then she needs 2 more trips.", "2"},
        {"The sum is 3 + 4 = <<3+4=7>>7.", "7"},
        {"Mr. Tan has 4 houses", "4"},
        {"5-3", "3"},
        {"Final Answer: How many jars does she have?\nShe has 8 + 1 = 9 jars.", "9"},
        {"Final Answer: How much did he spend?\nHe spent $200 and $600 (10 * 60 = 600). In all he spent $800.", "800"},
        {"Answer: none", NULL},
        {"no digits here", NULL},
        {"", NULL},
    };
    CHECK(number_task, cases);
}

static void programs_are_worked_out(void **state)
{
    (void)state;
    static const extraction cases[] = {
        {"boxes = 6\njars = boxes * 9\nanswer = jars - 14", "40"},
        {"# 1. (support: [\"6 boxes\"])\nn = 6 # six\nanswer = n ** 2 / 4", "9"},
        {"a = [1, 2, 3]\nanswer = sum(a) + max(a[-1], 2) + len(a)", "12"},
        {"import math\nanswer = math.ceil(7 / 2)", "4"},
        {"n = 10\ngroups = n // 4\nif n % 4 != 0:\n    groups += 1\nelse:\n    groups = 0\nanswer = groups", "3"},
        {"x = 5\nif x > 9:\n    y = 1\nelif x > 4:\n    y = 2\nelse:\n    y = 3\nanswer = y", "2"},
        {"t = 0\nfor i in range(1, 4):\n    t += i\nanswer = t", "6"},
        {"h = 4\nd = 0\nwhile h <= 20:\n    h *= 2\n    d += 1\nanswer = d", "3"},
        {"c = [3]\nfor i in range(4):\n    c.append(c[-1] * 2)\nanswer = sum(c)", "93"},
        {"x = Symbol(\"x\")\ns = solve_it(Eq(3 * x + 2, 17), x)[x]\nanswer = s", "5"},
        {"x = Symbol('x')\ny = Symbol('y')\ns = solve([Eq(x + y, 10), Eq(x - y, 4)], [x, y])\nanswer = s[y]", "3"},
        {"x = Symbol('x')\nz = x + 4\nv = solve(Eq(x + z, 14), x)[0]\nanswer = z.subs(x, v)", "9"},
        {"w = 'day'\na = 2\nanswer = a if w == 'day' else 3", "2"},
        {"total = (1 +\n    2)\nanswer = total", "3"},
        {"answer = 3.45 // 0.05", "68"},
        {"a = 1\nanswer = a\nThe answer is 7.", "7"},
        /* a program without a value has no answer, whatever numbers it holds */
        {"a = 5\nb = 6\nanswer = c", NULL},
        {"a = 5\nx = Symbol('x')\nanswer = x + a", NULL},
        {"a = 5\nb = 0\nanswer = a / b", NULL},
        {"a = 1\nb = 1\nwhile a > 0:\n    b += 1\nanswer = b", NULL},
        {"def f():\n    return 5\nb = 2\nc = 3\nanswer = f()", NULL},
    };
    CHECK(number_task, cases);
}

static void yes_and_no_are_found(void **state)
{
    (void)state;
    static const extraction cases[] = {
        {"Ice floats.\nAnswer: yes", "yes"},
        {"Answer: No.", "no"},
        {"The answer is no.", "no"},
        {"So the answer is probably **no**", "no"},
        {"\\boxed{True}", "yes"},
        {"Yes, because there is no other way.", "yes"},
        {"There was no time. So, no.", "no"},
        {"There is no telling", NULL},
        {"Answer: maybe", NULL},
        {"Answer: north", NULL},
    };
    CHECK(boolean_task, cases);
}

static void texts_are_found(void **state)
{
    (void)state;
    static const extraction cases[] = {
        {"It beats.\nAnswer: the heart", "the heart"},
        {"Answer: **The heart.**", "The heart"},
        {"The answer is the heart. It beats.", "the heart"},
        {"\\boxed{\\text{heart}}", "heart"},
        {"heart", "heart"},
        {"First line of some thoughts\nwithout an end", NULL},
    };
    CHECK(text_task, cases);
}

static void offsets_name_the_answer(void **state)
{
    (void)state;
    const char *text = "So $5.\nAnswer: **$1,200** in all";
    char *answer = NULL;
    size_t begin, end;
    assert_int_equal(drr_answer_extract(&answer, &begin, &end, &number_task, text, NULL), DRR_OK);
    assert_string_equal(answer, "1200");
    assert_int_equal(begin, strstr(text, "$1,200") - text);
    assert_int_equal(end - begin, strlen("$1,200"));
    free(answer);
}

static void answers_are_compared_by_kind(void **state)
{
    (void)state;
    assert_true(drr_answer_equal(DRR_KIND_NUMBER, "1,000.0", "$1000"));
    assert_true(drr_answer_equal(DRR_KIND_NUMBER, "1/2", "0.5"));
    assert_true(drr_answer_equal(DRR_KIND_NUMBER, "0.3333333333", "1/3"));
    assert_true(drr_answer_equal(DRR_KIND_NUMBER, "-0", "0"));
    assert_false(drr_answer_equal(DRR_KIND_NUMBER, "1000", "1001"));
    assert_false(drr_answer_equal(DRR_KIND_NUMBER, "3", "-3"));
    assert_false(drr_answer_equal(DRR_KIND_NUMBER, "3", "three"));
    assert_false(drr_answer_equal(DRR_KIND_NUMBER, NULL, "3"));
    assert_true(drr_answer_equal(DRR_KIND_CHOICE, "B", "b"));
    assert_false(drr_answer_equal(DRR_KIND_CHOICE, "B", "C"));
    assert_true(drr_answer_equal(DRR_KIND_TEXT, "The Heart.", "heart"));
    assert_false(drr_answer_equal(DRR_KIND_TEXT, "heart attack", "heart"));
    assert_false(drr_answer_equal(DRR_KIND_TEXT, "", "heart"));
}

static drr_label graded(const drr_task *task, const char *text)
{
    drr_label label = DRR_LABEL_REJECT;
    assert_int_equal(drr_answer_grade(&label, task, text, NULL), DRR_OK);
    return label;
}

static void unreadable_is_not_wrong(void **state)
{
    (void)state;
    assert_int_equal(graded(&choice_task, "Answer: B"), DRR_LABEL_ACCEPT);
    assert_int_equal(graded(&choice_task, "Answer: C"), DRR_LABEL_REJECT);
    assert_int_equal(graded(&choice_task, "no idea"), DRR_LABEL_UNPARSED);
    assert_int_equal(graded(&number_task, "Answer: 12.0"), DRR_LABEL_ACCEPT);
    assert_int_equal(graded(&boolean_task, "Answer: false"), DRR_LABEL_REJECT);
    assert_int_equal(graded(&text_task, "Answer: Heart"), DRR_LABEL_ACCEPT);
}

static void kinds_and_labels_have_names(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        drr_kind kind = DRR_KIND_TEXT;
        assert_int_equal(drr_kind_parse(&kind, drr_kind_name((drr_kind)k), NULL), DRR_OK);
        assert_int_equal(kind, k);
    }
    drr_kind kind;
    drr_error err = {0};
    assert_int_equal(drr_kind_parse(&kind, "poem", &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "poem"));
    assert_string_equal(drr_label_name(DRR_LABEL_UNPARSED), "unparsed");
}

/* The shortest beginning of `text` at which generation would stop; 0: never. */
static size_t stops_at(const drr_task *task, const char *text)
{
    for (size_t n = 1; n <= strlen(text); n++)
        if (task_answer_complete(task, text, n))
            return n;
    return 0;
}

static void generation_stops_when_nothing_can_change(void **state)
{
    (void)state;
    static const struct {
        const drr_task *task;
        const char *text;
        size_t length; /* of the beginning that is complete; 0: never */
    } cases[] = {
        {&choice_task, "Books.\nAnswer: B and more", 16},
        {&choice_task, "Answer: (C)", 10},
        {&choice_task, "**Answer:** D", 13},
        {&choice_task, "Answer: library\n", 16},
        {&choice_task, "Answer: zoo\n", 0},
        {&choice_task, "The answer: B", 0},
        {&choice_task, "Answer:", 0},
        {&number_task, "Answer: 12", 0},
        {&number_task, "Answer: 12\n", 11},
        {&number_task, "Answer: 12 jars", 12},
        {&number_task, "Answer: 12. So", 12},
        {&number_task, "Answer: 12.5\n", 13},
        {&number_task, "Answer: 1,200\n", 14},
        {&number_task, "Answer: 1 1/2\n", 14},
        {&number_task, "Answer: 12)", 11},
        {&boolean_task, "Answer: yes", 11},
        {&boolean_task, "Answer: north pole", 0},
        {&boolean_task, "Answer: no.", 11},
        {&text_task, "Answer: the heart\n", 18},
        {&text_task, "Answer: the heart", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t at = stops_at(cases[i].task, cases[i].text);
        if (at != cases[i].length)
            print_error("\"%s\": stops at %zu, wanted %zu\n", cases[i].text, at, cases[i].length);
        assert_int_equal(at, cases[i].length);
        if (at == 0)
            continue;
        char *cut = string_copy_n(cases[i].text, at), *whole = NULL, *early = NULL;
        assert_int_equal(drr_answer_extract(&early, NULL, NULL, cases[i].task, cut, NULL), DRR_OK);
        assert_int_equal(drr_answer_extract(&whole, NULL, NULL, cases[i].task, cases[i].text, NULL), DRR_OK);
        assert_non_null(early);
        assert_string_equal(early, whole);
        free(cut);
        free(whole);
        free(early);
    }
}

/* Whatever bytes come, nothing is read beyond them (the sanitizers watch) and no call fails. */
static void any_bytes_are_survived(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "Answer:", "\\boxed{", "answer = ",       "(",          "[", "B", "-",  "1,2", "\xff", "\n",
        "####",    "if x:",    "for i in range(", "answer is ", "{", "}", "**", ".",   "=",    " "};
    const drr_task *const tasks[] = {&choice_task, &number_task, &boolean_task, &text_task};
    rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 20000; round++) {
        char text[256] = "";
        size_t n = 0;
        for (uint64_t k = rng_below(&r, 14); k > 0; k--) {
            const char *piece = pieces[rng_below(&r, sizeof pieces / sizeof *pieces)];
            memcpy(text + n, piece, strlen(piece) + 1);
            n += strlen(piece);
        }
        char *copy = string_copy(text), *answer = NULL; /* exactly sized, so that a byte too far is seen */
        assert_non_null(copy);
        const drr_task *task = tasks[round % 4];
        assert_int_equal(drr_answer_extract(&answer, NULL, NULL, task, copy, NULL), DRR_OK);
        task_answer_complete(task, copy, n);
        free(answer);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_found),
        cmocka_unit_test(numbers_are_found),
        cmocka_unit_test(programs_are_worked_out),
        cmocka_unit_test(yes_and_no_are_found),
        cmocka_unit_test(texts_are_found),
        cmocka_unit_test(offsets_name_the_answer),
        cmocka_unit_test(answers_are_compared_by_kind),
        cmocka_unit_test(unreadable_is_not_wrong),
        cmocka_unit_test(kinds_and_labels_have_names),
        cmocka_unit_test(generation_stops_when_nothing_can_change),
        cmocka_unit_test(any_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
