/* test_toml.c: TOML files become JSON values; what is wrong in one, at once or later, is named with its line. */
#include "core/toml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static json_t *parsed(json_t **lines, const char *text)
{
    json_t *value = NULL;
    drr_error err = {0};
    if (toml_parse(&value, lines, text, strlen(text), "suite.toml", &err) != DRR_OK)
        fail_msg("%s", err.message);
    return value;
}

static void refused(const char *text, size_t length, const char *where, const char *what)
{
    json_t *value = NULL, *lines = NULL;
    drr_error err = {0};
    assert_int_equal(toml_parse(&value, &lines, text, length, "suite.toml", &err), DRR_E_FORMAT);
    if (!strstr(err.message, where) || !strstr(err.message, what) || strchr(err.message, '\n'))
        fail_msg("\"%s\" has not \"%s\" and \"%s\", or more than one line", err.message, where, what);
    assert_null(value);
    assert_null(lines);
}

static void says(const char *text, const char *json)
{
    drr_error err = {0};
    json_t *value = parsed(NULL, text), *wanted = NULL;
    if (json_parse(&wanted, json, strlen(json), "wanted", &err) != DRR_OK)
        fail_msg("%s", err.message);
    if (!json_equal(value, wanted))
        fail_msg("%s", json_dumps(value, JSON_SORT_KEYS));
    json_decref(value);
    json_decref(wanted);
}

static void tables_arrays_and_scalars_become_json(void **state)
{
    (void)state;
    says("title = \"a \\\"b\\\" \\u00e9\"\nn = 1_000\nhex = 0xff\nx = -2.5e3\nyes = true # why\n"
         "list = [1, 2.0, [\"a\"],\n  # inside\n  {k = 'raw\\n', d.e = 1},\n]\n",
         "{\"title\": \"a \\\"b\\\" \xC3\xA9\", \"n\": 1000, \"hex\": 255, \"x\": -2500.0, \"yes\": true,"
         " \"list\": [1, 2.0, [\"a\"], {\"k\": \"raw\\\\n\", \"d\": {\"e\": 1}}]}");
    says("[a]\nb.c = 1\n[a.\"d e\"]\nf = \"\"\"\ntwo\nlines\"\"\"\n[[s]]\nname = 'x'\n[[s]]\n[s.t]\nu = []\n",
         "{\"a\": {\"b\": {\"c\": 1}, \"d e\": {\"f\": \"two\\nlines\"}}, \"s\": [{\"name\": \"x\"}, {\"t\": {\"u\": "
         "[]}}]}");
    says("", "{}");
    says("\xEF\xBB\xBF"
         "a = 1\r\n",
         "{\"a\": 1}");
    says("n = 9223372036854775807\nm = -9223372036854775808\n",
         "{\"n\": 9223372036854775807, \"m\": -9223372036854775808}");
}

/* What TOML 1.0 forbids; each was also put to Python's tomllib, which refuses all but the integer that 64 bits do not
 * hold. */
static void what_toml_does_not_allow_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where;
    } cases[] = {
        {"a = 1\na = 2\n", "suite.toml:2: "},
        {"[a]\n[a]\n", "suite.toml:2: "},
        {"[a]\nb = 1\n[a.b]\n", "suite.toml:3: "},
        {"a = [1]\n\n[[a]]\n", "suite.toml:3: "},
        {"t = {a = 1}\nt.b = 2\n", "suite.toml:2: "},
        {"a = 1\n\nb = \n", "suite.toml:3: "},
        {"a = 1 b = 2\n", "suite.toml:1: "},
        {"a = \"open\nb = 1\n", "suite.toml:1: "},
        {"a = 01\n", "suite.toml:1: "},
        {"a = 1__0\n", "suite.toml:1: "},
        {"a = 9223372036854775808\n", "suite.toml:1: "},
        {"a = 1.\n", "suite.toml:1: "},
        {"a = True\n", "suite.toml:1: "},
        {"a = {b = 1,}\n", "suite.toml:1: "},
        {"a = {b = 1,\nc = 2}\n", "suite.toml:"},
        {"a = \"\\q\"\n", "suite.toml:1: "},
        {"a = \"\\ud800\"\n", "suite.toml:1: "},
        {"# a\xFF"
         "b\n",
         "suite.toml:1: "},
        {"[a\nb = 1\n", "suite.toml:"},
        {"= 1\n", "suite.toml:1: "},
        {"a.b = 1\na = 2\n", "suite.toml:2: "},
        {"a = \x01\n", "suite.toml:1: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i].text, strlen(cases[i].text), cases[i].where, "TOML");
    refused("a = 1\0", 6, "suite.toml:1: ", "TOML");
}

static void what_json_has_no_value_for_is_named_with_its_key(void **state)
{
    (void)state;
    const char *date = "a = 1\n[b]\nwhen = 1979-05-27\n", *at = "t = [07:32:00]\n", *odd = "\n\nx.y = nan\n",
               *nul = "[k]\n\"a\\u0000b\" = 1\n";
    refused(date, strlen(date), "suite.toml:3: b.when is a date", "in quotes");
    refused(at, strlen(at), "suite.toml:1: t[0] is a date", "in quotes");
    refused(odd, strlen(odd), "suite.toml:3: x.y is nan", "number");
    refused(nul, strlen(nul), "suite.toml:2: ", "NUL");
}

/* However deep a file goes, it is refused before a stack ends. */
static void depth_is_bounded(void **state)
{
    (void)state;
    char *text = malloc(1 << 20);
    size_t n = 0;
    assert_non_null(text);
    for (size_t i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, (1 << 20) - n, "%s[", i ? "" : "a = ");
    refused(text, n, "suite.toml:1: ", "TOML");
    for (n = 0; n < 500000; n += 2)
        memcpy(text + n, "a.", 2);
    memcpy(text + n, "a = 1\n", 6);
    refused(text, n + 6, "suite.toml:1: ", "dots");
    free(text);
}

static void every_key_has_its_line(void **state)
{
    (void)state;
    json_t *lines = NULL;
    json_t *value =
        parsed(&lines, "a = 1\n\n[b]\nc = [\n  1,\n  2,\n]\n[[s]]\nx = 1\n[[s]]\ny = {z = 3}\n[s.t]\nu = 1\n");
    assert_int_equal(toml_line(lines, "a"), 1);
    assert_int_equal(toml_line(lines, "b"), 3);
    assert_int_equal(toml_line(lines, "b.c"), 4);
    assert_int_equal(toml_line(lines, "b.c[1]"), 6);
    assert_int_equal(toml_line(lines, "s[0].x"), 9);
    assert_int_equal(toml_line(lines, "s[1]"), 10);
    assert_int_equal(toml_line(lines, "s[1].y.z"), 11);
    assert_int_equal(toml_line(lines, "s[1].t.u"), 13);
    assert_int_equal(toml_line(lines, "s[1].missing"), 10);
    assert_int_equal(toml_line(lines, "b.c[7].deeper"), 4);
    assert_int_equal(toml_line(lines, "nowhere"), 1);
    assert_int_equal(toml_line(lines, ""), 1);
    json_decref(value);
    json_decref(lines);
}

static void a_file_is_read_and_named(void **state)
{
    (void)state;
    char path[] = "/tmp/test-toml-XXXXXX";
    const int file = mkstemp(path);
    json_t *value = NULL;
    drr_error err = {0};
    assert_true(file >= 0 && write(file, "a = 1\nb =\n", 10) == 10);
    close(file);
    assert_int_equal(toml_read(&value, NULL, path, &err), DRR_E_FORMAT);
    assert_memory_equal(err.message, path, strlen(path));
    assert_non_null(strstr(err.message, ":2: "));
    assert_int_equal(truncate(path, 6), 0);
    assert_int_equal(toml_read(&value, NULL, path, &err), DRR_OK);
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 1);
    json_decref(value);
    unlink(path);
    assert_int_equal(toml_read(&value, NULL, path, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_arrays_and_scalars_become_json),
        cmocka_unit_test(what_toml_does_not_allow_is_named_with_its_line),
        cmocka_unit_test(what_json_has_no_value_for_is_named_with_its_key),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(every_key_has_its_line),
        cmocka_unit_test(a_file_is_read_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
