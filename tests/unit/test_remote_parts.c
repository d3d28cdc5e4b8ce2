/* test_remote_parts.c: the parts of the remote reasoner that need no network: events and thoughts cut at every byte,
 * waits, budgets, and the key. */
#include "net/easy.h"
#include "remote_fixture.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- server-sent events */

static drr_status note(void *user, const char *data, size_t size, drr_error *err)
{
    buffer *b = user;
    assert_int_equal(buffer_append(b, "[", 1, err), DRR_OK);
    assert_int_equal(buffer_append(b, data, size, err), DRR_OK);
    return buffer_append(b, "]", 1, err);
}

/* The events of `text`, given in pieces that end at `a` and at `b`. */
static void events_are(const char *text, size_t a, size_t b, const char *wanted)
{
    const size_t size = strlen(text);
    sse_parser p = {0};
    buffer seen = {0};
    assert_int_equal(buffer_puts(&seen, "", NULL), DRR_OK);
    assert_int_equal(sse_feed(&p, text, a, note, &seen, NULL), DRR_OK);
    assert_int_equal(sse_feed(&p, text + a, b - a, note, &seen, NULL), DRR_OK);
    assert_int_equal(sse_feed(&p, text + b, size - b, note, &seen, NULL), DRR_OK);
    assert_int_equal(sse_end(&p, note, &seen, NULL), DRR_OK);
    if (strcmp(seen.data, wanted) != 0)
        fail_msg("cut at %zu and %zu: %s", a, b, seen.data);
    buffer_clear(&seen);
    sse_clear(&p);
}

static void events_survive_any_cut(void **state)
{
    static const struct {
        const char *text, *events;
    } cases[] = {
        {"data: one\n\ndata: two\n\n", "[one][two]"},
        {"data: one\r\n\r\ndata: two\r\n\r\n", "[one][two]"},
        {"data: one\r\rdata: two\r\r", "[one][two]"},
        {"data: a\ndata: b\n\n", "[a\nb]"},
        {"data: a\r\ndata: b\r\n\r\n", "[a\nb]"},
        {"data:a\n\ndata:  b\n\ndata\n\n", "[a][ b]"},
        {": ping\n\n:\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", "[a]"},
        {"\xef\xbb\xbf"
         "data: a\n\n",
         "[a]"},
        {"\n\n\ndata: \n\ndata: a", "[][a]"},
        {"data: [DONE]\n", "[[DONE]]"},
        {"dat: x\ndatum: y\n\n", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t b = 0; b <= strlen(cases[i].text); b++)
            for (size_t a = 0; a <= b; a++)
                events_are(cases[i].text, a, b, cases[i].events);
}

static void an_event_has_a_longest(void **state)
{
    sse_parser p = {.most = 64};
    buffer seen = {0};
    drr_status status = DRR_OK;
    (void)state;
    for (int i = 0; i < 100 && status == DRR_OK; i++)
        status = sse_feed(&p, "data: 12345\n", 12, note, &seen, NULL); /* lines of one event */
    assert_int_equal(status, DRR_E_LIMIT);
    sse_clear(&p);
    status = sse_feed(&p, "data: 12345\n\n", 13, note, &seen, NULL);
    for (int i = 0; i < 100 && status == DRR_OK; i++)
        status = sse_feed(&p, "xxxx", 4, note, &seen, NULL); /* one line */
    assert_int_equal(status, DRR_E_LIMIT);
    assert_string_equal(seen.data, "[12345]");
    sse_clear(&p);
    buffer_clear(&seen);
}

/* ---- thoughts */

static void split_is(const char *text, size_t a, size_t b, const char *answer, const char *thoughts)
{
    const size_t size = strlen(text);
    think_splitter s = {0};
    assert_int_equal(think_feed(&s, text, a, NULL), DRR_OK);
    assert_int_equal(think_feed(&s, text + a, b - a, NULL), DRR_OK);
    assert_int_equal(think_feed(&s, text + b, size - b, NULL), DRR_OK);
    assert_int_equal(think_end(&s, NULL), DRR_OK);
    if (strcmp(s.answer.data ? s.answer.data : "", answer) != 0 && !(s.answer.size == 0 && !*answer))
        fail_msg("\"%s\" cut at %zu and %zu answers \"%s\"", text, a, b, s.answer.data);
    assert_int_equal(s.answer.size, strlen(answer));
    assert_int_equal(s.thoughts.size, strlen(thoughts));
    if (*thoughts)
        assert_memory_equal(s.thoughts.data, thoughts, strlen(thoughts));
    think_clear(&s);
}

static void thoughts_are_split_at_any_cut(void **state)
{
    static const struct {
        const char *text, *answer, *thoughts;
    } cases[] = {
        {"plain answer", "plain answer", ""},
        {"<think>hm</think>yes", "yes", "hm"},
        {" \n<think>\nhm\n</think>\n\n yes", "yes", "\nhm\n"},
        {"hm, so</think>\nyes", "yes", "hm, so"},
        {"<think>a</think> <think>b</think> c", "c", "ab"},
        {"  spaced", "  spaced", ""},
        {"<thin> is no tag", "<thin> is no tag", ""},
        {"the tag <think> is spoken of", "the tag <think> is spoken of", ""},
        {"<think>never ends", "", "never ends"},
        {"<think>a < b </thin </think>c < d </think> e", "c < d </think> e", "a < b </thin "},
        {"yes</thi", "yes</thi", ""},
        {"<<think>", "<<think>", ""},
        {"<think>a<</think>b", "b", "a<"},
        {"", "", ""},
        {"<think></think>", "", ""},
        {"<think>x</think> <", "<", "x"},
        {"                                                                      far", /* more space than is held */
         "                                                                      far", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t b = 0; b <= strlen(cases[i].text); b++)
            for (size_t a = 0; a <= b; a++)
                split_is(cases[i].text, a, b, cases[i].answer, cases[i].thoughts);
}

/* ---- waiting and spending */

static void waits_double_up_to_a_minute(void **state)
{
    static const double least[] = {0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30};
    (void)state;
    for (uint32_t tries = 1; tries <= 10; tries++) {
        assert_true(fabs(retry_wait(tries, 0, 0) - least[tries - 1]) < 1e-9);
        assert_true(retry_wait(tries, 0, 0.999) > 1.9 * least[tries - 1]);
        assert_true(retry_wait(tries, 0, 0.999) < 2 * least[tries - 1] + 1e-9);
    }
    assert_true(retry_wait(UINT32_MAX, 0, 0.5) <= 60);
}

static void what_the_server_asks_is_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_true(retry_wait(1, 20, i / 10.0) >= 20);
        assert_true(retry_wait(1, 20, i / 10.0) <= 22);
    }
    assert_true(retry_wait(9, 1, 0) >= 30); /* a longer wait of our own stays */
    assert_true(retry_wait(1, (double)NAN, 0) < 1);
    assert_true(retry_wait(1, -5, 0) < 1);
}

static void a_budget_sets_the_worst_aside(void **state)
{
    budget b = {.most_tokens = 1000};
    (void)state;
    assert_true(budget_reserve(&b, 100, 300));
    assert_true(budget_reserve(&b, 100, 300));
    assert_false(budget_reserve(&b, 100, 300)); /* 1200 */
    assert_true(budget_reserve(&b, 100, 100));
    budget_release(&b, 100, 300);
    budget_spend(&b, 90, 10);
    assert_true(budget_reserve(&b, 0, 300)); /* 100 + 400 + 200 + 300 */
    assert_false(budget_reserve(&b, 0, 1));
    budget_release(&b, 5000, 5000); /* more than there is */
    assert_int_equal(b.reserved_prompt + b.reserved_written, 0);
    assert_true(budget_reserve(&b, 400, 500));
    budget_spend(&b, UINT64_MAX, UINT64_MAX);
    assert_false(budget_reserve(&b, 1, 1)); /* and no overflow makes room */
    assert_false(budget_reserve(&b, UINT64_MAX, UINT64_MAX));
}

static void money_is_counted_by_the_million(void **state)
{
    budget b = {.most_money = 1, .prompt_price = 2, .written_price = 8};
    (void)state;
    budget_spend(&b, 100000, 50000); /* 0.2 + 0.4 */
    assert_true(fabs(budget_money(&b) - 0.6) < 1e-12);
    assert_true(budget_reserve(&b, 100000, 20000)); /* 0.36 */
    assert_false(budget_reserve(&b, 20000, 10000)); /* 0.12 */
    budget_release(&b, 100000, 20000);
    assert_true(budget_reserve(&b, 20000, 10000));
    budget no_limit = {0};
    assert_true(budget_reserve(&no_limit, UINT64_MAX, UINT64_MAX));
}

/* ---- the key */

static void a_key_is_hidden_wherever_it_stands(void **state)
{
    char text[] = "secret12 and secret12secret12, not secret1", bytes[] = "a\0secret12b";
    (void)state;
    net_hide_key("secret12", text, strlen(text));
    assert_string_equal(text, "******** and ****************, not secret1");
    net_hide_key("secret12", bytes, sizeof bytes - 1);
    assert_memory_equal(bytes, "a\0********b", sizeof bytes);
    net_hide_key("********", text, 5); /* no more than there is */
    net_hide_key(NULL, text, strlen(text));
    net_hide_key("", text, strlen(text));
    net_hide_key("secret12", NULL, 0);
    assert_string_equal(text, "******** and ****************, not secret1");
}

/* What hides such a key looks like it. */
static void a_key_of_asterisks_is_hidden_once(void **state)
{
    char text[] = "******** and ***", out[20];
    (void)state;
    alarm(20); /* rather than for ever */
    net_hide_key("********", text, strlen(text));
    assert_string_equal(text, "******** and ***");
    remote_key_clean("********", out, sizeof out, text);
    assert_string_equal(out, "******** and ***");
    alarm(0);
}

static void a_key_is_hidden_before_a_message_is_cut(void **state)
{
    char out[16];
    (void)state;
    remote_key_clean("secret12", out, sizeof out, "a\nb\033[1m secret12 tail"); /* the cut falls into the key */
    assert_string_equal(out, "a b [1m *******");
    remote_key_clean(NULL, out, 6, "abcd\xc3\xa9xyz"); /* and into a character */
    assert_string_equal(out, "abcd");
}

static void a_key_file_is_its_owners_alone(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        drr_status status;
    } cases[] = {
        {"abcdefgh\n", 0600, DRR_OK},           {"abcdefgh \r\n", 0400, DRR_OK},
        {"abcdefgh", 0640, DRR_E_ARGUMENT},     {"abcdefgh", 0602, DRR_E_ARGUMENT},
        {"abcdefg", 0600, DRR_E_ARGUMENT},      {"\n\n", 0600, DRR_E_ARGUMENT},
        {"abc\ndefghij", 0600, DRR_E_ARGUMENT}, {"abc\001defghij", 0600, DRR_E_ARGUMENT},
    };
    char path[] = "/tmp/drr-test-key-XXXXXX";
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *key = NULL;
        drr_error err = {0};
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, cases[i].text, strlen(cases[i].text), 0), (ssize_t)strlen(cases[i].text));
        assert_int_equal(fchmod(fd, cases[i].mode), 0);
        assert_int_equal(remote_key_load(&key, path, false, &err), cases[i].status);
        if (cases[i].status == DRR_OK)
            assert_string_equal(key, "abcdefgh");
        else
            assert_true(!key && !strstr(err.message, "abc") && strstr(err.message, path));
        remote_key_free(key);
    }
    close(fd);
    unlink(path);
}

static void the_environment_has_a_key_for_each(void **state)
{
    char *key = NULL;
    (void)state;
    setenv("DRR_UPSTREAM_API_KEY", "", 1);
    setenv("OPENAI_API_KEY", "openai-key", 1);
    assert_int_equal(remote_key_load(&key, NULL, false, NULL), DRR_OK);
    assert_null(key); /* not OpenAI's server */
    assert_int_equal(remote_key_load(&key, NULL, true, NULL), DRR_OK);
    assert_string_equal(key, "openai-key");
    remote_key_free(key);
    setenv("DRR_UPSTREAM_API_KEY", "drr-own-key", 1);
    assert_int_equal(remote_key_load(&key, NULL, true, NULL), DRR_OK);
    assert_string_equal(key, "drr-own-key");
    remote_key_free(key);
    unsetenv("DRR_UPSTREAM_API_KEY");
    unsetenv("OPENAI_API_KEY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_survive_any_cut),
        cmocka_unit_test(an_event_has_a_longest),
        cmocka_unit_test(thoughts_are_split_at_any_cut),
        cmocka_unit_test(waits_double_up_to_a_minute),
        cmocka_unit_test(what_the_server_asks_is_kept),
        cmocka_unit_test(a_budget_sets_the_worst_aside),
        cmocka_unit_test(money_is_counted_by_the_million),
        cmocka_unit_test(a_key_is_hidden_wherever_it_stands),
        cmocka_unit_test(a_key_of_asterisks_is_hidden_once),
        cmocka_unit_test(a_key_is_hidden_before_a_message_is_cut),
        cmocka_unit_test(a_key_file_is_its_owners_alone),
        cmocka_unit_test(the_environment_has_a_key_for_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
