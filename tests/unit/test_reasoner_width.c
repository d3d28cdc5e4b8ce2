/* test_reasoner_width.c: how many sequences are taken for a given amount of memory. */
#include "reasoner/llama_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* What one sequence needs, what all share, and what is free, in one unit. */
static uint32_t width(uint32_t asked, uint64_t per_sequence, uint64_t shared, uint64_t available)
{
    const width_budget budget = {
        .asked = asked, .usual = 16, .per_sequence = per_sequence, .shared = shared, .available = available};
    return width_that_fits(&budget);
}

static void what_fits_is_given_as_asked(void **state)
{
    (void)state;
    assert_int_equal(width(64, 10, 0, 8000), 64);
    assert_int_equal(width(1, 10, 0, 8000), 1);
}

static void an_eighth_of_the_memory_is_left_to_others(void **state)
{
    (void)state;
    assert_int_equal(width(80, 10, 0, 800), 70);
    assert_int_equal(width(70, 10, 0, 800), 70);
    assert_int_equal(width(70, 10, 0, 790), 69);
}

static void what_all_sequences_share_counts_once(void **state)
{
    (void)state;
    assert_int_equal(width(70, 10, 200, 800), 50);
    assert_int_equal(width(70, 10, 205, 800), 49);
}

static void unasked_half_of_the_memory_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(width(0, 10, 0, 320), 16);
    assert_int_equal(width(0, 10, 0, 318), 8);
    assert_int_equal(width(0, 10, 80, 320), 8);
    assert_int_equal(width(0, 10, 0, 79), 4);
}

static void one_sequence_is_always_tried(void **state)
{
    (void)state;
    assert_int_equal(width(64, 1000, 0, 800), 1);
    assert_int_equal(width(64, 10, 900, 800), 1);
    assert_int_equal(width(0, 1000, 0, 800), 1);
    assert_int_equal(width(64, 10, 0, 0), 1);
}

static void nothing_overflows_where_nothing_bounds(void **state)
{
    (void)state;
    assert_int_equal(width(1024, 1ull << 40, 1ull << 40, UINT64_MAX), 1024);
    assert_int_equal(width(1024, UINT64_MAX / 2, UINT64_MAX / 4, UINT64_MAX), 1);
    assert_int_equal(width(64, 0, 0, 800), 64); /* a model without keys and values */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_given_as_asked),
        cmocka_unit_test(an_eighth_of_the_memory_is_left_to_others),
        cmocka_unit_test(what_all_sequences_share_counts_once),
        cmocka_unit_test(unasked_half_of_the_memory_is_left_alone),
        cmocka_unit_test(one_sequence_is_always_tried),
        cmocka_unit_test(nothing_overflows_where_nothing_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
