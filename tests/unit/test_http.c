/* test_http.c: the server's HTTP over real sockets: requests and replies, streams, clients that leave, keys. */
#include "http_fixture.h"

/* ---- requests and replies */

static void a_request_is_answered(void **state)
{
    (void)state;
    answer_is(ask_for("POST", "/echo", "", "hello"), 200, "\r\n\r\nhello");
    answer_is(ask_for("POST", "/echo", "", ""), 200, "\r\n\r\n");
    answer_is(ask_for("GET", "/echo?header=a%20b", "", NULL), 200, "x-told: a b\r\n");
    answer_is(ask_for("GET", "/models/org/name", "", NULL), 200, NULL);
    char *head = ask_for("HEAD", "/echo", "", NULL);
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    answer_is(head, 200, NULL);
}

static void a_header_cannot_be_split(void **state)
{
    (void)state;
    char *answer = ask_for("GET", "/echo?header=a%0d%0aSet-Cookie:%20b", "", NULL);
    assert_null(strstr(answer, "Set-Cookie"));
    answer_is(answer, 200, NULL);
}

static void a_body_may_come_in_chunks(void **state)
{
    (void)state;
    answer_is(ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                  "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
              200, "\r\n\r\nabcdefg");
}

static void a_connection_serves_many_requests(void **state)
{
    buffer seen = {0};
    const int s = client_open();
    (void)state;
    for (int i = 0; i < 50; i++) {
        client_send(s, i % 2 ? "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nodd"
                             : "POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\neven");
        assert_true(client_read(s, &seen, i % 2 ? "\r\n\r\nodd" : "\r\n\r\neven", 5));
        buffer_clear(&seen);
    }
    close(s);
}

static void pipelined_requests_are_answered_in_turn(void **state)
{
    (void)state;
    char *answer = ask("POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none"
                       "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\ntwo"
                       "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *one = strstr(answer, "\r\n\r\none"), *two = strstr(answer, "\r\n\r\ntwo");
    if (!one || !two || one > two || !strstr(two, "HTTP/1.1 404"))
        fail_msg("%s", answer);
    free(answer);
}

static void errors_are_of_the_shape_that_clients_know(void **state)
{
    (void)state;
    answer_is(ask_for("GET", "/nowhere", "", NULL), 404,
              "{\"error\":{\"message\":\"there is no route /nowhere here; those of OpenAI's API begin with "
              "/v1\",\"type\":\"not_found_error\",\"param\":null,"
              "\"code\":null}}");
    answer_is(ask_for("DELETE", "/echo", "", NULL), 405, "Allow: POST, GET, HEAD\r\n");
    answer_is(ask_for("OPTIONS", "/echo", "", NULL), 204, "Allow: POST, GET, HEAD\r\n");
    answer_is(ask_for("OPTIONS", "/nowhere", "", NULL), 404, NULL);
    answer_is(ask_for("POST", "/echo", "", NULL), 411, "Content-Length");
    answer_is(ask_for("POST", "/echo", "Transfer-Encoding: gzip, chunked\r\n", NULL), 501, NULL);
    answer_is(ask_for("POST", "/echo", "Transfer-Encoding: chunked\r\n", "x"), 400, "not both");
}

static void a_request_has_an_id(void **state)
{
    (void)state;
    answer_is(ask_for("GET", "/echo", "x-request-id: mine-1\r\n", NULL), 200, "x-drr-request-id: mine-1\r\n");
    answer_is(ask_for("GET", "/echo", "x-request-id: mine-1\r\n", NULL), 200, "x-request-id: mine-1\r\n");
    answer_is(ask_for("GET", "/echo", "x-request-id: <script>\r\n", NULL), 200, "x-drr-request-id: drr-");
    answer_is(ask_for("GET", "/nowhere", "", NULL), 404, "x-drr-request-id: drr-");
}

static void junk_ends_its_connection_alone(void **state)
{
    (void)state;
    char *answer = ask("\x16\x03\x01 junk\r\n\r\n\r\n");
    assert_null(strstr(answer, " 200 "));
    free(answer);
    answer = ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok\r\njunk \xff\xfe\r\n\r\n");
    answer_is(answer, 200, "\r\n\r\nok");
    answer_is(ask_for("GET", "/echo", "", NULL), 200, NULL);
}

/* ---- streams */

static void a_stream_arrives_as_it_is_written(void **state)
{
    buffer seen = {0};
    const int s = client_open();
    (void)state;
    client_send(s, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http_call *call = next_held();
    assert_true(client_read(s, &seen, "\r\n\r\n", 5));
    assert_non_null(strstr(seen.data, "Content-Type: text/event-stream\r\n"));
    assert_non_null(strstr(seen.data, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(seen.data, "X-Accel-Buffering: no\r\n"));
    assert_true(http_stream_write(call, "data: one\n\n", 11));
    assert_true(client_read(s, &seen, "data: one\n\n", 5));
    usleep(20000);
    assert_true(http_stream_write(call, "data: two\n\n", 11));
    assert_true(client_read(s, &seen, "data: two\n\n", 5));
    http_stream_end(call);
    assert_true(client_read(s, &seen, "0\r\n\r\n", 5));
    buffer_clear(&seen);
    client_send(s, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"); /* the connection lives on */
    assert_true(client_read(s, &seen, "HTTP/1.1 200", 5));
    buffer_clear(&seen);
    close(s);
}

static void a_large_stream_arrives_whole(void **state)
{
    enum { PIECE = 10000, PIECES = 300 };
    static char piece[PIECE + 1];
    buffer seen = {0};
    const int s = client_open();
    (void)state;
    memset(piece, 'x', PIECE);
    client_send(s, "GET /stream HTTP/1.0\r\n\r\n"); /* without chunks: the end of the connection is the end */
    http_call *call = next_held();
    for (int i = 0; i < PIECES; i++)
        assert_true(http_stream_write(call, piece, PIECE));
    http_stream_end(call);
    assert_true(client_read(s, &seen, NULL, 10));
    const char *body = strstr(seen.data, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(strlen(body + 4), PIECE * PIECES);
    buffer_clear(&seen);
    close(s);
}

/* ---- replies race with everything */

static void *many_requests(void *user)
{
    const unsigned number = *(const unsigned *)user;
    for (unsigned i = 0; i < 60; i++) {
        char body[64], request[256];
        snprintf(body, sizeof body, "%u-%u-nonce", number, i);
        snprintf(request, sizeof request,
                 "POST /later%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                 i % 3 == 1 ? "?stream=1" : "", strlen(body), body);
        const int s = client_open();
        client_send(s, request);
        if (i % 5 != 4) { /* the others are gone at once */
            buffer seen = {0};
            assert_true(client_read(s, &seen, NULL, 20));
            if (i % 3 != 1)
                answer_is(string_copy(seen.data), 200, body);
            else
                answer_is(string_copy(seen.data), 200, "0\r\n\r\n");
            buffer_clear(&seen);
        }
        close(s);
    }
    return NULL;
}

static void every_answer_goes_to_its_request(void **state)
{
    pthread_t threads[8];
    unsigned numbers[8];
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, many_requests, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    wait_for_calls(0);
}

/* ---- clients that leave */

static void gone_is_told(const char *request, bool streams, bool ends_first)
{
    const unsigned before = atomic_load(&fixture.n_gone);
    const int s = client_open();
    client_send(s, request);
    http_call *call = next_held();
    usleep(20000);
    const double left = clock_seconds();
    if (ends_first) {
        if (streams)
            http_stream_end(call);
        else
            http_reply(call, 200, NULL, NULL, 0);
    }
    close(s);
    for (int i = 0; i < 400 && !ends_first && atomic_load(&fixture.n_gone) == before; i++)
        usleep(1000);
    if (ends_first) {
        usleep(50000);
        assert_int_equal(atomic_load(&fixture.n_gone), before);
        return;
    }
    assert_int_equal(atomic_load(&fixture.n_gone), before + 1);
    pthread_mutex_lock(&fixture.lock);
    const double after = fixture.gone_at - left;
    pthread_mutex_unlock(&fixture.lock);
    assert_true(after < 0.1);
    if (streams) {
        assert_false(http_stream_write(call, "x", 1));
        http_stream_end(call);
    } else {
        http_reply(call, 200, NULL, NULL, 0);
    }
}

static void a_client_that_leaves_is_told_of(void **state)
{
    (void)state;
    gone_is_told("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n", false, false);
    gone_is_told("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", true, false);
    gone_is_told("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\nGET /junk HTTP/1.1\r\n", false, false);
    gone_is_told("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n", false, true);
    gone_is_told("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", true, true);
}

static void a_client_that_has_left_is_told_of_too(void **state)
{
    const unsigned before = atomic_load(&fixture.n_gone);
    (void)state;
    for (int i = 0; i < 2; i++) {
        const int s = client_open();
        client_send(s, i ? "GET /stream?deaf=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                         : "GET /hold?deaf=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        http_call *call = next_held();
        close(s);
        usleep(50000);
        http_on_gone(call, note_gone, &fixture);
        for (int k = 0; k < 200 && atomic_load(&fixture.n_gone) == before + (unsigned)i; k++)
            usleep(1000);
        assert_int_equal(atomic_load(&fixture.n_gone), before + 1 + (unsigned)i);
        if (i)
            http_stream_end(call);
        else
            http_reply(call, 200, NULL, NULL, 0);
    }
}

static void reply_from_gone(void *user)
{
    http_reply(user, 200, NULL, NULL, 0);
    atomic_fetch_add(&fixture.n_gone, 1);
}

static void gone_may_end_the_call(void **state)
{
    const unsigned before = atomic_load(&fixture.n_gone);
    const int s = client_open();
    (void)state;
    client_send(s, "GET /hold?deaf=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http_call *call = next_held();
    http_on_gone(call, reply_from_gone, call);
    close(s);
    for (int k = 0; k < 200 && atomic_load(&fixture.n_gone) == before; k++)
        usleep(1000);
    assert_int_equal(atomic_load(&fixture.n_gone), before + 1);
}

/* ---- keys */

static int open_keyed(void **state)
{
    static const char *const keys[] = {"first-key-1", "second-key-2"};
    (void)state;
    fixture_options();
    fixture.options.keys = keys;
    fixture.options.n_keys = 2;
    fixture.options.in_flight_per_key = 2;
    fixture_open();
    return 0;
}

static void a_key_opens_and_nothing_else_does(void **state)
{
    (void)state;
    answer_is(ask_for("GET", "/echo", "Authorization: Bearer first-key-1\r\n", NULL), 200, NULL);
    answer_is(ask_for("GET", "/echo", "authorization: bearer second-key-2\r\n", NULL), 200, NULL);
    answer_is(ask_for("GET", "/echo", "x-api-key: second-key-2\r\n", NULL), 200, NULL);
    answer_is(ask_for("GET", "/echo", "", NULL), 401, "authentication_error");
    answer_is(ask_for("GET", "/echo", "", NULL), 401, "WWW-Authenticate: Bearer\r\n");
    answer_is(ask_for("GET", "/echo", "x-api-key: first-key-\r\n", NULL), 401, NULL);
    answer_is(ask_for("GET", "/echo", "x-api-key: first-key-11\r\n", NULL), 401, NULL);
    answer_is(ask_for("GET", "/echo", "Authorization: Basic first-key-1\r\n", NULL), 401, NULL);
    answer_is(ask_for("POST", "/echo", "", "a body that comes all the same"), 401, NULL);
    answer_is(ask_for("GET", "/nowhere", "", NULL), 401, NULL);
    answer_is(ask_for("POST", "/echo", "Transfer-Encoding: chunked\r\n", "x"), 400, "Connection: close\r\n");
    answer_is(ask_for("GET", "/health", "", NULL), 200, NULL);
    char *answer = ask_for("GET", "/echo", "x-api-key: wrong-key-3\r\n", NULL);
    assert_null(strstr(answer, "wrong-key-3"));
    answer_is(answer, 401, NULL);
}

static void requests_of_one_key_are_counted(void **state)
{
    int s[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        s[i] = client_open();
        client_send(s[i], "GET /hold HTTP/1.1\r\nHost: localhost\r\nx-api-key: first-key-1\r\n\r\n");
    }
    http_call *a = next_held(), *b = next_held();
    answer_is(ask_for("GET", "/echo", "x-api-key: first-key-1\r\n", NULL), 429, "Retry-After: 1\r\n");
    answer_is(ask_for("GET", "/echo", "x-api-key: first-key-1\r\n", NULL), 429, "rate_limit_error");
    answer_is(ask_for("GET", "/echo", "x-api-key: second-key-2\r\n", NULL), 200, NULL);
    http_reply(a, 200, NULL, NULL, 0);
    http_reply(b, 200, NULL, NULL, 0);
    for (int i = 0; i < 2; i++) {
        buffer seen = {0};
        assert_true(client_read(s[i], &seen, "HTTP/1.1 200", 5));
        buffer_clear(&seen);
        close(s[i]);
    }
    wait_for_calls(0);
    answer_is(ask_for("GET", "/echo", "x-api-key: first-key-1\r\n", NULL), 200, NULL);
}

static void a_page_of_another_origin_is_refused(void **state)
{
    (void)state; /* where there is no key */
    answer_is(ask_for("POST", "/echo", "Origin: http://localhost\r\n", "x"), 200, NULL);
    answer_is(ask_for("POST", "/echo", "Origin: http://evil.example\r\n", "x"), 403, "permission_error");
    answer_is(ask_for("POST", "/echo", "Origin: null\r\n", "x"), 403, NULL);
    answer_is(ask("GET /echo HTTP/1.1\r\nHost: evil.example:8377\r\nConnection: close\r\n\r\n"), 403, NULL);
    answer_is(ask("GET /echo HTTP/1.1\r\nHost: [::1]:8377\r\nConnection: close\r\n\r\n"), 200, NULL);
    answer_is(ask("GET /echo HTTP/1.1\r\nHost: 127.0.0.1:8377\r\nConnection: close\r\n\r\n"), 200, NULL);
}

static void others_reach_it_only_with_a_key(void **state)
{
    static const http_route none[] = {{"GET", "/", HTTP_PUBLIC, reply_echo, NULL}};
    static const char *const keys[] = {"first-key-1"}, *const short_key[] = {"short"};
    http_server *server = NULL;
    http_options o;
    drr_error err = {0};
    (void)state;
    http_options_defaults(&o);
    o.host = "0.0.0.0";
    assert_int_equal(http_open(&server, &o, none, 1, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "API key"));
    o.keys = short_key;
    o.n_keys = 1;
    assert_int_equal(http_open(&server, &o, none, 1, NULL, &err), DRR_E_ARGUMENT);
    assert_null(strstr(err.message, "short;"));
    o.keys = keys;
    assert_int_equal(http_open(&server, &o, none, 1, NULL, &err), DRR_OK);
    http_server *second = NULL;
    o.host = "127.0.0.1";
    o.port = http_port(server);
    assert_int_equal(http_open(&second, &o, none, 1, NULL, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "in use"));
    http_close(server);
    o = (http_options){.host = "no such host"};
    assert_int_equal(http_open(&second, &o, none, 1, NULL, &err), DRR_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_is_answered, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_header_cannot_be_split, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_body_may_come_in_chunks, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_connection_serves_many_requests, open_plain, close_any),
        cmocka_unit_test_setup_teardown(pipelined_requests_are_answered_in_turn, open_plain, close_any),
        cmocka_unit_test_setup_teardown(errors_are_of_the_shape_that_clients_know, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_request_has_an_id, open_plain, close_any),
        cmocka_unit_test_setup_teardown(junk_ends_its_connection_alone, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_stream_arrives_as_it_is_written, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_large_stream_arrives_whole, open_plain, close_any),
        cmocka_unit_test_setup_teardown(every_answer_goes_to_its_request, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_is_told_of, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_client_that_has_left_is_told_of_too, open_plain, close_any),
        cmocka_unit_test_setup_teardown(gone_may_end_the_call, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_key_opens_and_nothing_else_does, open_keyed, close_any),
        cmocka_unit_test_setup_teardown(requests_of_one_key_are_counted, open_keyed, close_any),
        cmocka_unit_test_setup_teardown(a_page_of_another_origin_is_refused, open_plain, close_any),
        cmocka_unit_test(others_reach_it_only_with_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
