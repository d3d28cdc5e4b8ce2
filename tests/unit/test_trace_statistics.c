/* test_trace_statistics.c: what a turn's tokens come to, where a backend knows everything about them and where it does
 * not. */
#include "trace/trace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_answers_tokens_are_told_apart(void **state)
{
    static const trace_token tokens[] = {
        {4, -1, 0.5f, 2}, {8, -2, 1.5f, 1}, {9, -0.5f, 0.25f, 3}, {10, -1.5f, 0.75f, 0.5f}};
    drr_token_stats s;
    (void)state;
    trace_token_stats(&s, tokens, 4, 8, 10);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.answer_n, 2);
    assert_true(s.mean == -1.25f && s.min == -2 && s.tail_mean == -1.5f && s.entropy_mean == 0.75f);
    assert_true(s.answer_mean == -1 && s.answer_min == -1.5f && s.answer_entropy == 0.5f && s.answer_margin == 0.5f);
}

static void what_a_backend_does_not_know_stays_unknown(void **state)
{
    const trace_token tokens[] = {{4, -1, NAN, NAN}, {9, -2, NAN, NAN}};
    drr_token_stats s;
    (void)state;
    trace_token_stats(&s, tokens, 2, 4, 9);
    assert_true(s.mean == -1.5f && s.answer_mean == -2);
    assert_true(isnan(s.entropy_mean) && isnan(s.answer_entropy) && isnan(s.answer_margin));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answers_tokens_are_told_apart),
        cmocka_unit_test(what_a_backend_does_not_know_stays_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
