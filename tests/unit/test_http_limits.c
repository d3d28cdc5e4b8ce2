/* test_http_limits.c: the limits of the server's HTTP: sizes, slow and idle clients, too many connections, draining. In
 * each case others are still served. */
#include "http_fixture.h"

static int open_limited(void **state)
{
    (void)state;
    fixture_options();
    fixture.options.body_bytes = 1000;
    fixture.options.header_bytes = 2000;
    fixture.options.connections = 16;
    fixture.options.header_seconds = 1;
    fixture.options.body_seconds = 1;
    fixture.options.write_seconds = 1;
    fixture.options.idle_seconds = 1;
    fixture_open();
    return 0;
}

static void others_are_served(void)
{
    answer_is(ask_for("POST", "/later", "", "others"), 200, "\r\n\r\nothers");
}

static void a_body_has_a_largest(void **state)
{
    static char body[5000];
    (void)state;
    memset(body, 'x', sizeof body);
    body[1000] = '\0';
    answer_is(ask_for("POST", "/echo", "", body), 200, NULL);
    body[1000] = 'x';
    body[1001] = '\0';
    answer_is(ask_for("POST", "/echo", "", body), 413, "\"type\":\"invalid_request_error\"");
    answer_is(ask_for("POST", "/echo", "Expect: 100-continue\r\nContent-Length: 5000\r\n", NULL), 413, NULL);
    answer_is(ask_for("POST", "/echo", "Content-Length: 99999999999\r\n", NULL), 413, NULL);
    answer_is(ask_for("POST", "/echo", "Content-Length: 99999999999999999999999\r\n", NULL), 413, NULL);
    others_are_served();
}

static void a_body_in_chunks_has_a_largest(void **state)
{
    buffer seen = {0};
    char chunk[110];
    const int s = client_open();
    (void)state;
    snprintf(chunk, sizeof chunk, "64\r\n%0100d\r\n", 0);
    client_send(s, "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 11; i++)
        client_send(s, chunk);
    assert_true(client_read(s, &seen, "HTTP/1.1 413", 5));
    buffer_clear(&seen);
    close(s);
    others_are_served();
}

static void headers_have_a_largest(void **state)
{
    static char header[60000];
    (void)state;
    snprintf(header, sizeof header, "x-long: %02100d\r\n", 0);
    answer_is(ask_for("GET", "/echo", header, NULL), 431, "invalid_request_error");
    snprintf(header, sizeof header, "x-long: %050000d\r\n", 0);
    answer_is(ask_for("GET", "/echo", header, NULL), 431, NULL);
    size_t used = 0;
    for (int i = 0; i < 300; i++)
        used += (size_t)snprintf(header + used, sizeof header - used, "a: b\r\n");
    answer_is(ask_for("GET", "/echo", header, NULL), 431, NULL);
    others_are_served();
}

/* Sends a byte now and then: how long it took until it was cut, and what it was told. */
static double trickle(const char *begin, const char *byte, char *told, size_t size)
{
    buffer seen = {0};
    const double started = clock_seconds();
    const int s = client_open();
    bool open = true;
    client_send(s, begin);
    while (open && clock_seconds() - started < 6) {
        client_send(s, byte);
        open = !client_read(s, &seen, NULL, 0.2);
    }
    snprintf(told, size, "%s", seen.data);
    buffer_clear(&seen);
    close(s);
    return clock_seconds() - started;
}

static void a_slow_header_is_cut(void **state)
{
    char told[512];
    (void)state;
    assert_true(trickle("GET /echo HTTP/1.1\r\nHost: localhost\r\nx: ", "y", told, sizeof told) < 3);
    assert_non_null(strstr(told, "HTTP/1.1 408 "));
    assert_non_null(strstr(told, "{\"error\":"));
    assert_true(trickle("", "G", told, sizeof told) < 3);
    others_are_served();
}

static void a_slow_body_is_cut(void **state)
{
    char told[512];
    (void)state;
    assert_true(
        trickle("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n", "y", told, sizeof told) < 3);
    assert_non_null(strstr(told, "HTTP/1.1 408 "));
    wait_for_calls(0);
    others_are_served();
}

static void an_idle_connection_is_closed(void **state)
{
    buffer seen = {0};
    const int s = client_open();
    (void)state;
    client_send(s, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(client_read(s, &seen, "\r\n\r\n", 5));
    assert_true(client_read(s, &seen, NULL, 3));
    assert_null(strstr(seen.data, "408"));
    buffer_clear(&seen);
    close(s);
}

/* Half-closed: what was asked is answered, then nobody waits for more, neither after an answer nor in a body. */
static void a_client_that_says_no_more_is_let_go(void **state)
{
    static const char *const said[] = {"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                       "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
                                       "GET /echo HTT"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        buffer seen = {0};
        const int s = client_open();
        client_send(s, said[i]);
        shutdown(s, SHUT_WR);
        assert_true(client_read(s, &seen, NULL, 5));
        assert_true(i > 0 || strncmp(seen.data, "HTTP/1.1 200 ", 13) == 0);
        buffer_clear(&seen);
        close(s);
    }
}

static void a_request_of_two_lengths_ends_its_connection(void **state)
{
    buffer seen = {0};
    const int s = client_open();
    (void)state;
    client_send(s, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc");
    assert_true(client_read(s, &seen, NULL, 5));
    assert_int_equal(strncmp(seen.data, "HTTP/1.1 400 ", 13), 0);
    assert_null(strstr(seen.data + 1, "HTTP/1.1"));
    buffer_clear(&seen);
    close(s);
}

/* A stream whose client reads nothing: the kernel's buffers and then ours fill, and it is cut. */
static void a_client_that_reads_nothing_is_cut(void **state)
{
    static char piece[60000];
    const int s = client_open();
    bool heard = true;
    (void)state;
    client_send(s, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http_call *call = next_held();
    const double started = clock_seconds();
    for (int i = 0; heard && clock_seconds() - started < 8; i++) {
        heard = http_stream_write(call, piece, i < 150 ? sizeof piece : 1);
        usleep(i < 150 ? 100 : 20000);
    }
    assert_false(heard);
    assert_true(clock_seconds() - started > 0.9);
    assert_int_equal(atomic_load(&fixture.n_gone), 1);
    http_stream_end(call);
    close(s);
    others_are_served();
}

/* And one that reads, but slowly, may take its time as long as something moves. */
static void a_client_that_reads_slowly_is_not(void **state)
{
    static char piece[100000];
    const int s = client_open();
    size_t seen = 0;
    (void)state;
    memset(piece, 'x', sizeof piece);
    client_send(s, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http_call *call = next_held();
    for (int i = 0; i < 100; i++)
        assert_true(http_stream_write(call, piece, sizeof piece));
    http_stream_end(call);
    for (;;) {
        static char bytes[500000];
        const ssize_t n = recv(s, bytes, sizeof bytes, 0);
        if (n <= 0)
            break;
        seen += (size_t)n;
        usleep(50000);
        if (n >= 5 && memcmp(bytes + n - 5, "0\r\n\r\n", 5) == 0)
            break;
    }
    assert_true(seen > 100 * sizeof piece);
    close(s);
}

static void too_many_connections_cost_the_idle_ones(void **state)
{
    enum { MANY = 100 };
    int idle[MANY], closed = 0;
    (void)state;
    const int busy = client_open();
    client_send(busy, "GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http_call *call = next_held();
    for (int i = 0; i < MANY; i++) {
        idle[i] = client_open();
        if (i % 10 == 0)
            others_are_served();
    }
    for (int tries = 0; tries < 16 && closed < MANY - 16; tries++) { /* less than a second, which ends idle ones too */
        usleep(50000);
        closed = 0;
        for (int i = 0; i < MANY; i++) {
            char byte;
            closed += recv(idle[i], &byte, 1, MSG_DONTWAIT) == 0;
        }
    }
    for (int i = 0; i < MANY; i++)
        close(idle[i]);
    assert_true(closed >= MANY - 16);
    http_reply(call, 200, NULL, NULL, 0);
    buffer seen = {0};
    assert_true(client_read(busy, &seen, "HTTP/1.1 200", 5));
    buffer_clear(&seen);
    close(busy);
}

static void where_none_is_idle_a_new_one_is_told(void **state)
{
    enum { MANY = 16 };
    int busy[MANY];
    (void)state;
    for (int i = 0; i < MANY; i++) {
        busy[i] = client_open();
        client_send(busy[i], "GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    http_call *calls[MANY];
    for (int i = 0; i < MANY; i++)
        calls[i] = next_held();
    answer_is(ask_for("GET", "/echo", "", NULL), 503, "unavailable_error");
    answer_is(ask_for("GET", "/health", "", NULL), 200, NULL);
    for (int i = 0; i < MANY; i++) {
        http_reply(calls[i], 200, NULL, NULL, 0);
        close(busy[i]);
    }
}

static void draining_lets_what_is_under_way_end(void **state)
{
    buffer seen = {0};
    const int held = client_open(), idle = client_open();
    (void)state;
    client_send(held, "GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_send(idle, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(client_read(idle, &seen, "\r\n\r\n", 5));
    buffer_clear(&seen);
    http_call *call = next_held();
    http_drain(fixture.server);
    assert_true(client_read(idle, &seen, NULL, 2)); /* closed */
    buffer_clear(&seen);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(http_port(fixture.server))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&to, sizeof to), -1);
    close(late);
    wait_for_calls(1);
    http_reply(call, 200, "text/plain", string_copy("at last"), 7);
    assert_true(client_read(held, &seen, NULL, 5)); /* answered and closed */
    assert_non_null(strstr(seen.data, "Connection: close"));
    assert_non_null(strstr(seen.data, "at last"));
    wait_for_calls(0);
    buffer_clear(&seen);
    close(held);
    close(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_has_a_largest, open_limited, close_any),
        cmocka_unit_test_setup_teardown(a_body_in_chunks_has_a_largest, open_limited, close_any),
        cmocka_unit_test_setup_teardown(headers_have_a_largest, open_limited, close_any),
        cmocka_unit_test_setup_teardown(a_slow_header_is_cut, open_limited, close_any),
        cmocka_unit_test_setup_teardown(a_slow_body_is_cut, open_limited, close_any),
        cmocka_unit_test_setup_teardown(an_idle_connection_is_closed, open_limited, close_any),
        cmocka_unit_test_setup_teardown(a_client_that_says_no_more_is_let_go, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_request_of_two_lengths_ends_its_connection, open_plain, close_any),
        cmocka_unit_test_setup_teardown(a_client_that_reads_nothing_is_cut, open_limited, close_any),
        cmocka_unit_test_setup_teardown(a_client_that_reads_slowly_is_not, open_limited, close_any),
        cmocka_unit_test_setup_teardown(too_many_connections_cost_the_idle_ones, open_limited, close_any),
        cmocka_unit_test_setup_teardown(where_none_is_idle_a_new_one_is_told, open_limited, close_any),
        cmocka_unit_test_setup_teardown(draining_lets_what_is_under_way_end, open_limited, close_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
