/* test_reasoner_text.c: what a backend that writes tokens leaves of a text that ends, or has a piece, within a
 * character. */
#include "core/core.h"
#include "reasoner/reasoner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void compare(const char *text, const uint32_t *ends, uint32_t n, const char *kept, const uint32_t *moved)
{
    reasoner_completion c = {.text = string_copy(text), .tokens = calloc(n + 1, sizeof *c.tokens), .n_token_stats = n};
    assert_non_null(c.text);
    assert_non_null(c.tokens);
    for (uint32_t i = 0; i < n; i++)
        c.tokens[i].end = ends[i];
    reasoner_completion_keep_characters(&c);
    assert_string_equal(c.text, kept);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(c.tokens[i].end, moved[i]);
    reasoner_completion_clear(&c);
}

static void whole_characters_stay_as_they_are(void **state)
{
    (void)state;
    const uint32_t ends[] = {2, 4, 6}; /* the second token is half of the last character */
    compare("ab \xe2\x82\xac", ends, 3, "ab \xe2\x82\xac", ends);
    compare("", NULL, 0, "", NULL);
}

static void half_a_character_at_the_end_is_dropped(void **state)
{
    (void)state;
    const uint32_t ends[] = {2, 3, 5, 6}, moved[] = {2, 3, 3, 3};
    compare("ab \xf0\x9f\x98", ends, 4, "ab ", moved);
}

static void so_is_one_within_and_what_follows_moves_up(void **state)
{
    (void)state;
    const uint32_t ends[] = {1, 2, 5, 6, 7}, moved[] = {1, 1, 4, 4, 5};
    compare("a\x80\xe2\x82\xac\xffz", ends, 5, "a\xe2\x82\xacz", moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_characters_stay_as_they_are),
                                       cmocka_unit_test(half_a_character_at_the_end_is_dropped),
                                       cmocka_unit_test(so_is_one_within_and_what_follows_moves_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
