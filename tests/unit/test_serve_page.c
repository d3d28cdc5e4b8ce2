/* test_serve_page.c: the page comes with a policy under which only its own script runs, and recent requests are shown
 * by number, bounded in memory, without texts where these are not to be kept. What a browser makes of it:
 * test_serve_page.py. */
#include "http_fixture.h"
#include "serve/page.h"

#include <math.h>

static page *shown;

static void open_with(size_t bytes, bool texts)
{
    static http_route routes[2];
    drr_error err = {0};
    page_options options;
    page_options_defaults(&options);
    options.bytes = bytes ? bytes : options.bytes;
    options.texts = texts;
    fixture_options();
    if (page_open(&shown, &options, &err) != DRR_OK)
        fail_msg("%s", err.message);
    routes[0] = (http_route){"GET", "/", HTTP_PUBLIC, page_get, shown};
    routes[1] = (http_route){"GET", "/drr/traces", HTTP_KEYED, page_traces, shown};
    if (http_open(&fixture.server, &fixture.options, routes, 2, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
}

static void close_all(void)
{
    http_close(fixture.server);
    page_close(shown);
}

static void keep(const char *id, const char *text)
{
    const engine_turn turns[] = {
        {.text = text, .logit = NAN, .p_correct = 0.25, .verdict = DRR_VERDICT_REJECT, .n_tokens = 3},
        {.text = "so 5",
         .answer = "5",
         .feedback = "No.",
         .logit = 1,
         .p_correct = 0.75,
         .verdict = DRR_VERDICT_ACCEPT,
         .seconds = 0.5}};
    const engine_record record = {.id = id,
                                  .model = "m",
                                  .question = "2 + 3?",
                                  .outcome = "accept",
                                  .turns = turns,
                                  .n_turns = 2,
                                  .answer = "so 5",
                                  .p_correct = 0.75,
                                  .threshold = NAN,
                                  .seconds = 1.5};
    page_keep(shown, &record);
}

static json_t *traces(const char *query)
{
    char path[64];
    snprintf(path, sizeof path, "/drr/traces%s", query);
    char *answer = ask_for("GET", path, "", NULL);
    assert_int_equal(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
    json_t *value = json_loads(strstr(answer, "\r\n\r\n") + 4, 0, NULL);
    free(answer);
    assert_non_null(value);
    return value;
}

static json_int_t first_number(json_t *all)
{
    return json_integer_value(json_object_get(json_array_get(json_object_get(all, "data"), 0), "n"));
}

static size_t count(json_t *all)
{
    return json_array_size(json_object_get(all, "data"));
}

static void the_page_runs_its_own_script_and_no_other(void **state)
{
    (void)state;
    open_with(0, true);
    char *answer = ask_for("GET", "/", "", NULL);
    assert_non_null(strstr(answer, "Content-Type: text/html; charset=utf-8"));
    assert_non_null(strstr(answer, "Content-Security-Policy: default-src 'none'; script-src 'sha256-"));
    assert_non_null(strstr(answer, "require-trusted-types-for 'script'"));
    assert_null(strstr(answer, "unsafe"));
    assert_non_null(strstr(answer, "X-Content-Type-Options: nosniff"));
    const char *html = strstr(answer, "\r\n\r\n");
    assert_non_null(strstr(html, "<!DOCTYPE html>"));
    assert_non_null(strstr(html, "</html>"));
    static const char *const never[] = {"innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(",
                                        "style=\"",  " onclick",  "https://",       "src=\""};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strstr(html, never[i]))
            fail_msg("the page has %s", never[i]);
    free(answer);
    close_all();
}

static void requests_are_shown_with_their_turns(void **state)
{
    (void)state;
    open_with(0, true);
    json_t *none = traces("");
    assert_int_equal(count(none), 0);
    json_decref(none);
    keep("req-1", "<script>alert(1)</script>");
    json_t *all = traces(""), *t = json_array_get(json_object_get(all, "data"), 0);
    json_t *turn = json_array_get(json_object_get(t, "turns"), 0);
    assert_string_equal(json_string_value(json_object_get(t, "id")), "req-1");
    assert_string_equal(json_string_value(json_object_get(t, "question")), "2 + 3?");
    assert_string_equal(json_string_value(json_object_get(t, "outcome")), "accept");
    assert_true(json_is_null(json_object_get(t, "threshold")));
    assert_string_equal(json_string_value(json_object_get(turn, "text")), "<script>alert(1)</script>");
    assert_string_equal(json_string_value(json_object_get(turn, "verdict")), "reject");
    assert_true(json_is_null(json_object_get(turn, "logit")));
    assert_true(json_is_null(json_object_get(turn, "answer")));
    assert_true(json_number_value(json_object_get(turn, "p_correct")) == 0.25);
    json_decref(all);
    close_all();
}

static void without_texts_numbers_alone_are_kept(void **state)
{
    (void)state;
    open_with(0, false);
    keep("req-1", "secret words");
    char *answer = ask_for("GET", "/drr/traces", "", NULL);
    assert_null(strstr(answer, "secret words"));
    assert_null(strstr(answer, "2 + 3?"));
    assert_null(strstr(answer, "so 5"));
    assert_non_null(strstr(answer, "0.25"));
    free(answer);
    close_all();
}

static void a_reader_goes_on_behind_the_last_one_it_saw(void **state)
{
    (void)state;
    open_with(0, true);
    for (int i = 0; i < 60; i++)
        keep("req", "a");
    static const struct {
        const char *query;
        size_t n;
        json_int_t first;
    } cases[] = {{"", 50, 11},        {"?after=0", 50, 1},        {"?after=50", 10, 51}, {"?after=60", 0, 0},
                 {"?limit=3", 3, 58}, {"?after=2&limit=2", 2, 3}, {"?after=999", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *all = traces(cases[i].query);
        assert_int_equal(count(all), cases[i].n);
        assert_int_equal(first_number(all), cases[i].first);
        assert_int_equal(json_integer_value(json_object_get(all, "newest")), 60);
        json_decref(all);
    }
    static const char *const bad[] = {"?after=-1",  "?after=x", "?limit=0",
                                      "?limit=201", "?after=",  "?after=99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[64];
        snprintf(path, sizeof path, "/drr/traces%s", bad[i]);
        answer_is(ask_for("GET", path, "", NULL), 400, "invalid_request_error");
    }
    close_all();
}

static void memory_is_bounded_and_the_oldest_go(void **state)
{
    (void)state;
    enum { BOUND = 100000 };
    char *long_text = malloc(20001);
    memset(long_text, 'x', 20000);
    memcpy(long_text + 16383, "\xc3\xa9", 2); /* the cut would fall within a character */
    long_text[20000] = '\0';
    open_with(BOUND, true);
    for (int i = 0; i < 100; i++)
        keep("req", long_text);
    json_t *all = traces("?after=0&limit=200");
    const size_t n = count(all);
    assert_true(n >= 4 && n * 16384 <= BOUND);
    assert_int_equal(first_number(all), 101 - (json_int_t)n);
    json_t *turn = json_array_get(json_object_get(json_array_get(json_object_get(all, "data"), 0), "turns"), 0);
    assert_int_equal(json_string_length(json_object_get(turn, "text")), 16383);
    json_decref(all);
    close_all();
    open_with(64, true); /* nothing fits: nothing is kept, and nothing fails */
    keep("req", "a");
    all = traces("");
    assert_int_equal(count(all), 0);
    json_decref(all);
    close_all();
    free(long_text);
}

static void text_that_is_not_utf8_is_shown_as_far_as_it_is(void **state)
{
    (void)state;
    open_with(0, true);
    keep("req", "caf\xe9 \xff!");
    json_t *all = traces("");
    json_t *turn = json_array_get(json_object_get(json_array_get(json_object_get(all, "data"), 0), "turns"), 0);
    assert_string_equal(json_string_value(json_object_get(turn, "text")), "caf? ?!");
    json_decref(all);
    close_all();
}

static atomic_bool keeps;

static void *keep_on(void *user)
{
    (void)user;
    while (atomic_load(&keeps))
        keep("req", "words that come and go");
    return NULL;
}

static void readers_and_the_engine_do_not_meet(void **state)
{
    (void)state;
    open_with(20000, true);
    pthread_t writer;
    atomic_store(&keeps, true);
    assert_int_equal(pthread_create(&writer, NULL, keep_on, NULL), 0);
    for (int i = 0; i < 50; i++) {
        json_t *all = traces("?limit=200"), *t;
        size_t k;
        json_array_foreach(json_object_get(all, "data"), k, t)
            assert_string_equal(json_string_value(json_object_get(t, "question")), "2 + 3?");
        json_decref(all);
    }
    atomic_store(&keeps, false);
    pthread_join(writer, NULL);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_runs_its_own_script_and_no_other),
        cmocka_unit_test(requests_are_shown_with_their_turns),
        cmocka_unit_test(without_texts_numbers_alone_are_kept),
        cmocka_unit_test(a_reader_goes_on_behind_the_last_one_it_saw),
        cmocka_unit_test(memory_is_bounded_and_the_oldest_go),
        cmocka_unit_test(text_that_is_not_utf8_is_shown_as_far_as_it_is),
        cmocka_unit_test(readers_and_the_engine_do_not_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
