/* test_core_json.c: JSON errors name the file, the line and the field. */
#include "core/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static json_t *parsed(const char *text)
{
    json_t *value = NULL;
    drr_error err = {0};
    if (json_parse(&value, text, strlen(text), "here", &err) != DRR_OK)
        fail_msg("%s", err.message);
    return value;
}

static void broken_json_names_where_and_the_line(void **state)
{
    (void)state;
    json_t *value = NULL;
    drr_error err = {0};
    const char *text = "{\"a\": 1,\n \"b\": }";
    assert_int_equal(json_parse(&value, text, strlen(text), "traces.jsonl:12", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "traces.jsonl:12"));
    assert_non_null(strstr(err.message, "line 2"));
    assert_null(value);
}

static void json_cut_short_or_followed_by_more_is_refused(void **state)
{
    (void)state;
    json_t *value = NULL;
    assert_int_equal(json_parse(&value, "{\"a\": [1, 2", 11, "x", NULL), DRR_E_FORMAT);
    assert_int_equal(json_parse(&value, "{} {}", 5, "x", NULL), DRR_E_FORMAT);
    assert_int_equal(json_parse(&value, "", 0, "x", NULL), DRR_E_FORMAT);
    assert_int_equal(json_parse(&value, "{\"a\": 1, \"a\": 2}", 16, "x", NULL), DRR_E_FORMAT);
    assert_null(value);
}

static void a_missing_field_and_one_of_another_type_are_told_apart(void **state)
{
    (void)state;
    json_t *object = parsed("{\"id\": 5, \"n\": \"five\"}");
    const char *text = "unchanged";
    double number = -1;
    drr_error err = {0};
    assert_int_equal(json_get_string(&text, object, "question", "q.jsonl:3", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "q.jsonl:3"));
    assert_non_null(strstr(err.message, "\"question\" is missing"));
    assert_int_equal(json_get_string(&text, object, "id", "q.jsonl:3", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"id\" is not a string"));
    assert_int_equal(json_get_number(&number, object, "n", "q.jsonl:3", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"n\" is not a number"));
    assert_string_equal(text, "unchanged");
    assert_true(number == -1);
    json_decref(object);
}

static void fields_that_are_there_are_read_and_absent_ones_fall_back(void **state)
{
    (void)state;
    json_t *object = parsed("{\"s\": \"caf\\u00e9\", \"i\": 3, \"r\": 0.5, \"t\": true, \"z\": null}");
    const char *text;
    double number;
    assert_int_equal(json_get_string(&text, object, "s", "x", NULL), DRR_OK);
    assert_string_equal(text, "caf\xc3\xa9");
    assert_int_equal(json_get_number(&number, object, "i", "x", NULL), DRR_OK);
    assert_true(number == 3);
    assert_true(json_number_or(object, "r", 9) == 0.5);
    assert_true(json_number_or(object, "z", 9) == 9);
    assert_string_equal(json_string_or(object, "absent", "else"), "else");
    assert_true(json_bool_or(object, "t", false));
    assert_true(json_bool_or(object, "absent", true));
    json_decref(object);
}

static void numbers_that_json_cannot_say_become_null(void **state)
{
    (void)state;
    const double values[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++) {
        json_t *value = json_number_or_null(values[i]);
        assert_true(json_is_null(value));
        json_decref(value);
    }
    json_t *value = json_number_or_null(0.25);
    assert_true(json_is_real(value) && json_real_value(value) == 0.25);
    json_decref(value);
}

static void millionths_are_written_with_no_digit_more(void **state)
{
    (void)state;
    const double values[] = {0.1, 0.69999999999999996, 12.345678949, 86400.000001499, 1.0 / 3, 0, (double)NAN};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        json_array_append_new(list, json_millionths(values[i]));
    char *text = json_dumps(list, JSON_COMPACT | JSON_MILLIONTHS);
    assert_string_equal(text, "[0.1,0.7,12.345679,86400.000001,0.333333,0.0,null]");
    free(text);
    json_decref(list);
}

static void a_file_that_is_not_json_is_named(void **state)
{
    (void)state;
    json_t *value = NULL;
    drr_error err = {0};
    assert_int_equal(json_parse_file(&value, "/nowhere/at/all.json", &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
    assert_int_equal(json_parse_file(&value, __FILE__, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "test_core_json.c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_json_names_where_and_the_line),
        cmocka_unit_test(json_cut_short_or_followed_by_more_is_refused),
        cmocka_unit_test(a_missing_field_and_one_of_another_type_are_told_apart),
        cmocka_unit_test(fields_that_are_there_are_read_and_absent_ones_fall_back),
        cmocka_unit_test(numbers_that_json_cannot_say_become_null),
        cmocka_unit_test(millionths_are_written_with_no_digit_more),
        cmocka_unit_test(a_file_that_is_not_json_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
