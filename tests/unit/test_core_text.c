/* test_core_text.c: buffers, arenas and errors: what they hold, and what happens at their edges. */
#include "core/core.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_buffer_keeps_what_is_appended_and_ends_in_nul(void **state)
{
    (void)state;
    buffer b = {0};
    assert_int_equal(buffer_puts(&b, "one", NULL), DRR_OK);
    assert_int_equal(buffer_append(&b, " \0two", 5, NULL), DRR_OK);
    assert_int_equal(buffer_printf(&b, NULL, "%d", 3), DRR_OK);
    assert_int_equal(b.size, 9);
    assert_memory_equal(b.data, "one \0two3", 10);
    buffer_clear(&b);
    assert_null(b.data);
    assert_int_equal(b.size, 0);
}

static void a_buffer_grows_past_every_power_of_two(void **state)
{
    (void)state;
    buffer b = {0};
    for (int i = 0; i < 5000; i++)
        assert_int_equal(buffer_printf(&b, NULL, "%04d", i), DRR_OK);
    assert_int_equal(b.size, 20000);
    assert_memory_equal(b.data + 4 * 4321, "4321", 4);
    assert_int_equal(strlen(b.data), 20000);
    buffer_clear(&b);
}

static void a_taken_buffer_is_the_callers_and_never_null_after_an_append(void **state)
{
    (void)state;
    buffer b = {0};
    assert_int_equal(buffer_append(&b, "", 0, NULL), DRR_OK);
    char *text = buffer_take(&b);
    assert_non_null(text);
    assert_string_equal(text, "");
    assert_null(b.data);
    free(text);
}

static void a_size_that_cannot_be_is_refused_before_memory_is_asked_for(void **state)
{
    (void)state;
    buffer b = {0};
    drr_error err = {0};
    assert_int_equal(buffer_append(&b, "x", SIZE_MAX - 10, &err), DRR_E_MEMORY);
    assert_int_equal(err.status, DRR_E_MEMORY);
    size_t product;
    assert_false(size_multiply(&product, SIZE_MAX / 2, 3));
    assert_true(size_multiply(&product, 7, 6));
    assert_int_equal(product, 42);
}

static void copies_of_strings_are_equal_and_apart(void **state)
{
    (void)state;
    char original[] = "rationale";
    char *whole = string_copy(original), *part = string_copy_n(original, 5);
    original[0] = 'X';
    assert_string_equal(whole, "rationale");
    assert_string_equal(part, "ratio");
    assert_null(string_copy(NULL));
    free(whole);
    free(part);
}

static void an_arena_gives_zeroed_aligned_memory_and_copies(void **state)
{
    (void)state;
    arena *a = arena_new(256);
    unsigned char *previous = NULL;
    for (size_t size = 1; size < 200; size++) {
        const size_t align = (size_t)1 << (size % 7);
        unsigned char *p = arena_alloc(a, size, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        for (size_t i = 0; previous && i < size - 1; i++)
            assert_int_equal(previous[i], 0xff); /* zeroing this one left that one alone */
        memset(p, 0xff, size);
        previous = p;
    }
    char *copy = arena_copy(a, "a turn", 4);
    assert_string_equal(copy, "a tu");
    arena_free(a);
}

static void a_reset_arena_gives_its_blocks_again_and_zeroed(void **state)
{
    (void)state;
    arena *a = arena_new(1024);
    unsigned char *first = arena_alloc(a, 1000, 8);
    memset(first, 0xff, 1000);
    arena_reset(a);
    unsigned char *again = arena_alloc(a, 1000, 8);
    assert_ptr_equal(first, again);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(again[i], 0);
    arena_free(a);
}

static void an_arena_takes_what_is_larger_than_its_block_and_refuses_the_impossible(void **state)
{
    (void)state;
    arena *a = arena_new(64);
    char *large = arena_alloc(a, 100000, 64);
    assert_non_null(large);
    large[99999] = 1;
    assert_null(arena_alloc(a, SIZE_MAX - 8, 8));
    assert_non_null(arena_alloc(a, 8, 8));
    arena_free(a);
    arena_free(NULL);
}

static void an_error_carries_status_and_sentence_and_may_be_unwanted(void **state)
{
    (void)state;
    drr_error err = {0};
    assert_int_equal(error_set(&err, DRR_E_FORMAT, "%s:%d: bad", "file", 3), DRR_E_FORMAT);
    assert_int_equal(err.status, DRR_E_FORMAT);
    assert_string_equal(err.message, "file:3: bad");
    assert_int_equal(error_set(NULL, DRR_E_LIMIT, "nobody listens"), DRR_E_LIMIT);
}

static void an_error_longer_than_its_room_is_cut_not_overrun(void **state)
{
    (void)state;
    char name[3000];
    struct {
        drr_error err;
        char guard[8];
    } box = {.guard = "guarded"};
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    error_set_errno(&box.err, ENOSPC, "%s cannot be written", name);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    assert_string_equal(box.guard, "guarded");
}

static void errno_texts_say_what_to_do(void **state)
{
    (void)state;
    drr_error err = {0};
    assert_int_equal(error_set_errno(&err, ENOSPC, "x.db cannot be written"), DRR_E_IO);
    assert_non_null(strstr(err.message, "x.db cannot be written: No space left on device"));
    assert_non_null(strstr(err.message, "free some space"));
    assert_int_equal(error_set_errno(&err, EACCES, "x.db"), DRR_E_IO);
    assert_non_null(strstr(err.message, "permissions"));
    assert_int_equal(error_set_errno(&err, ENOENT, "x.db"), DRR_E_NOT_FOUND);
    assert_int_equal(error_set_errno(&err, ENOMEM, "x.db"), DRR_E_MEMORY);
}

static void every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = DRR_OK; i <= DRR_E_EMPTY; i++) {
        assert_string_not_equal(drr_status_name((drr_status)i), "unknown");
        for (int j = DRR_OK; j < i; j++)
            assert_string_not_equal(drr_status_name((drr_status)i), drr_status_name((drr_status)j));
    }
    assert_string_equal(drr_status_name((drr_status)999), "unknown");
}

static void keep_progress(void *user, const drr_progress *progress)
{
    drr_progress *kept = user;
    *kept = *progress;
}

static void progress_that_ends_reports_what_was_done_and_nothing_left(void **state)
{
    (void)state;
    drr_progress seen = {0};
    const drr_hooks hooks = {.progress = keep_progress, .user = &seen};
    progress_meter meter;
    progress_begin(&meter, &hooks, "train", "steps", 10, 50);
    progress_end(&meter, 50, "loss 0.5");
    assert_int_equal(seen.done, 50);
    assert_int_equal(seen.total, 50);
    assert_string_equal(seen.phase, "train");
    assert_string_equal(seen.unit, "steps");
    assert_string_equal(seen.note, "loss 0.5");
    assert_true(seen.eta_s <= 0);
    progress_begin(&meter, NULL, "train", "steps", 0, 5); /* nobody listens: no crash */
    progress_update(&meter, 3, NULL);
    progress_end(&meter, 5, NULL);
}

static void characters_are_counted_whole_or_not_at_all(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t sound;
    } cases[] = {{"plain", 5},
                 {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9},
                 {"a\xf0\x9f\x98", 1},    /* cut */
                 {"a\xc0\xaf", 1},        /* overlong */
                 {"ab\xed\xa0\x80", 2},   /* a surrogate */
                 {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
                 {"a\x80z", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_sound(cases[i].text, strlen(cases[i].text)), cases[i].sound);
    assert_int_equal(utf8_sound(NULL, 0), 0);
    assert_int_equal(utf8_character("\xe2\x82\xac", 3), 3);
    assert_int_equal(utf8_character("\xe2\x82\xac", 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_keeps_what_is_appended_and_ends_in_nul),
        cmocka_unit_test(a_buffer_grows_past_every_power_of_two),
        cmocka_unit_test(a_taken_buffer_is_the_callers_and_never_null_after_an_append),
        cmocka_unit_test(a_size_that_cannot_be_is_refused_before_memory_is_asked_for),
        cmocka_unit_test(copies_of_strings_are_equal_and_apart),
        cmocka_unit_test(characters_are_counted_whole_or_not_at_all),
        cmocka_unit_test(an_arena_gives_zeroed_aligned_memory_and_copies),
        cmocka_unit_test(a_reset_arena_gives_its_blocks_again_and_zeroed),
        cmocka_unit_test(an_arena_takes_what_is_larger_than_its_block_and_refuses_the_impossible),
        cmocka_unit_test(an_error_carries_status_and_sentence_and_may_be_unwanted),
        cmocka_unit_test(an_error_longer_than_its_room_is_cut_not_overrun),
        cmocka_unit_test(errno_texts_say_what_to_do),
        cmocka_unit_test(every_status_has_a_name_of_its_own),
        cmocka_unit_test(progress_that_ends_reports_what_was_done_and_nothing_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
