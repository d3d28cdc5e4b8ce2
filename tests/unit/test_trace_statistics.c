/* test_trace_statistics.c: what a turn's tokens come to, where a backend knows everything about them and where it does
 * not; and what is taken for them in a file. */
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

static drr_status read_with(drr_trace *t, const char *members, drr_error *err)
{
    char line[600];
    json_t *object = NULL;
    const int n = snprintf(line, sizeof line,
                           "{\"task\": \"set\", \"id\": \"q0\", \"question\": \"How many?\", \"reasoner\": \"r1\", "
                           "\"prompt\": \"p1\", \"text\": \"Answer: 12\", \"label\": \"reject\", %s}",
                           members);
    assert_int_equal(json_parse(&object, line, (size_t)n, "t.jsonl:3", NULL), DRR_OK);
    const drr_status status = trace_from_json(t, object, "t.jsonl:3", err);
    json_decref(object);
    return status;
}

static void what_no_statistic_can_be_is_refused(void **state)
{
    static const struct {
        const char *members, *said;
    } bad[] = {
        {"\"stats\": {\"n\": -5}", "t.jsonl:3: stats: \"n\" is -5, and a count is wanted"},
        {"\"stats\": {\"n\": 4294967296}", "t.jsonl:3: stats: \"n\" is 4.29497e+09, and a count is wanted"},
        {"\"stats\": {\"n\": 5, \"answer_n\": -1}", "t.jsonl:3: stats: \"answer_n\" is -1, and a count is wanted"},
        {"\"stats\": {\"n\": 5, \"min\": -1e300}", "t.jsonl:3: stats: \"min\" is -1e+300, which is too large"},
        {"\"stats\": {\"n\": 5, \"answer_margin\": 4e38}",
         "t.jsonl:3: stats: \"answer_margin\" is 4e+38, which is too large"},
        {"\"temperature\": 1e39", "t.jsonl:3: \"temperature\" is 1e+39, which is too large"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        drr_error err = {0};
        drr_trace t = {0};
        assert_int_equal(read_with(&t, bad[i].members, &err), DRR_E_FORMAT);
        assert_string_equal(err.message, bad[i].said);
    }
}

static void what_a_file_does_not_say_stays_unknown(void **state)
{
    drr_trace t = {0};
    (void)state;
    assert_int_equal(read_with(&t, "\"stats\": {\"n\": 5, \"mean\": -0.5, \"min\": null}", NULL), DRR_OK);
    assert_int_equal(t.stats.n, 5);
    assert_int_equal(t.stats.answer_n, 0);
    assert_true(t.stats.mean == -0.5f && isnan(t.stats.min) && isnan(t.stats.answer_mean) && isnan(t.temperature));
    drr_trace_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answers_tokens_are_told_apart),
        cmocka_unit_test(what_a_backend_does_not_know_stays_unknown),
        cmocka_unit_test(what_no_statistic_can_be_is_refused),
        cmocka_unit_test(what_a_file_does_not_say_stays_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
