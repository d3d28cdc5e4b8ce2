/* test_task_overlap.c: a question that stands on both sides is found under another id, in other letters and with its
 * choices in another order; one that only looks like it is not. */
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr_overlap_XXXXXX";

static drr_dataset *set_of(const char *name, const char *records)
{
    char path[80];
    drr_dataset *set = NULL;
    drr_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write_all(path, records, strlen(records), NULL), DRR_OK);
    if (drr_dataset_open(&set, path, NULL, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    unlink(path);
    return set;
}

#define TEXT(id, question)                                                                                             \
    "{\"id\": \"" id "\", \"question\": \"" question "\", \"answer\": \"\", \"kind\": \"text\"}\n"
#define CHOICE(id, question, choices)                                                                                  \
    "{\"id\": \"" id "\", \"question\": \"" question "\", \"choices\": [" choices                                      \
    "], \"answer\": \"A\", \"kind\": \"choice\"}\n"

/* How many of the second text's questions stand in the first. */
static size_t overlap_of(const char *train, const char *test)
{
    drr_overlap found = {.n = 99};
    drr_dataset *a = set_of("a", train), *b = set_of("b", test);
    const drr_dataset *const as[] = {a}, *const bs[] = {b};
    assert_int_equal(drr_datasets_overlap(&found, as, 1, 0, bs, 1, 0, NULL), DRR_OK);
    drr_dataset_free(a);
    drr_dataset_free(b);
    return found.n;
}

static void the_same_words_are_the_same_question(void **state)
{
    (void)state;
    static const char train[] = TEXT("a", "Who, then, wrote 'Emma'?");
    assert_int_equal(overlap_of(train, TEXT("z", "Who, then, wrote 'Emma'?")), 1);
    assert_int_equal(overlap_of(train, TEXT("z", "  WHO then\\n\\twrote 'emma ")), 1);
    assert_int_equal(overlap_of(train, TEXT("z", "Who then wrote 'Emma'? . !") TEXT("y", "who then wrote 'emma")), 2);
}

static void words_that_differ_are_another_question(void **state)
{
    (void)state;
    assert_int_equal(overlap_of(TEXT("a", "Who wrote Emma?"), TEXT("a", "Who wrote Emmas?")), 0);
    assert_int_equal(overlap_of(TEXT("a", "Who wrote Emma?"), TEXT("a", "Whowrote Emma?")), 0);
    assert_int_equal(overlap_of(TEXT("a", "What is 5-3?"), TEXT("a", "What is 5+3?")), 0);
    assert_int_equal(overlap_of(TEXT("a", "What is 3.5?"), TEXT("a", "What is 35?")), 0);
    assert_int_equal(overlap_of(TEXT("a", "\xc3\xa9"), TEXT("a", "\xc3\xa8")), 0);
}

static void choices_count_in_any_order(void **state)
{
    (void)state;
    static const char train[] = CHOICE("a", "Which?", "\"pen\", \"cup\"");
    assert_int_equal(overlap_of(train, CHOICE("b", "Which?", "\"Cup\", \"pen.\"")), 1);
    assert_int_equal(overlap_of(train, CHOICE("b", "Which?", "\"pen\", \"jug\"")), 0);
    assert_int_equal(overlap_of(train, TEXT("b", "Which?")), 0);
}

static void the_first_one_is_named_and_limits_are_kept(void **state)
{
    (void)state;
    char place[200], expected[100];
    drr_overlap found;
    drr_dataset *a = set_of("a", TEXT("1", "one") TEXT("2", "two")),
                *b = set_of("b", TEXT("1", "three") "\n" TEXT("2", "Four")),
                *c = set_of("c", TEXT("1", "five") TEXT("2", "four") TEXT("3", "one")),
                *d = set_of("d", TEXT("1", "two"));
    const drr_dataset *const train[] = {a, b}, *const test[] = {c, d};
    assert_int_equal(drr_datasets_overlap(&found, train, 2, 0, test, 2, 0, NULL), DRR_OK);
    assert_int_equal(found.n, 3);
    assert_int_equal(found.n_test, 4);
    assert_int_equal(found.test_set, 0);
    assert_int_equal(found.test_index, 1);
    assert_int_equal(found.train_set, 1);
    assert_int_equal(found.train_index, 1);
    drr_dataset_place(place, sizeof place, b, found.train_index);
    snprintf(expected, sizeof expected, "%s/b:3", folder);
    assert_string_equal(place, expected);
    assert_int_equal(drr_datasets_overlap(&found, train, 2, 1, test, 2, 0, NULL), DRR_OK); /* one, three */
    assert_int_equal(found.n, 1);
    assert_int_equal(found.test_index, 2);
    assert_int_equal(drr_datasets_overlap(&found, train, 2, 0, test, 2, 1, NULL), DRR_OK); /* five, two */
    assert_int_equal(found.n, 1);
    assert_int_equal(found.n_test, 2);
    assert_int_equal(found.test_set, 1);
    assert_int_equal(drr_datasets_overlap(&found, train, 0, 0, test, 2, 0, NULL), DRR_OK);
    assert_int_equal(found.n, 0);
    for (size_t i = 0; i < 2; i++) {
        drr_dataset_free((drr_dataset *)(uintptr_t)train[i]);
        drr_dataset_free((drr_dataset *)(uintptr_t)test[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_words_are_the_same_question),
        cmocka_unit_test(words_that_differ_are_another_question),
        cmocka_unit_test(choices_count_in_any_order),
        cmocka_unit_test(the_first_one_is_named_and_limits_are_kept),
    };
    if (!mkdtemp(folder))
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
