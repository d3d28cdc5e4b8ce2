/* test_serve_upstream.c: what a server's reply becomes: whole completions, events, refusals; and replies damaged in
 * many ways, which may fail and must do no more. Over a network it is tests/e2e/test_serve_chat.py's. */
#include "mutate.h"
#include "serve/upstream.h"

#include <string.h>

static upstream_reply read_whole(const char *body)
{
    upstream_reply reply = {0};
    assert_int_equal(buffer_puts(&reply.body, body, NULL), DRR_OK);
    upstream_reply_read(&reply, "here");
    return reply;
}

static void a_completion_is_read(void **state)
{
    upstream_reply r = read_whole(
        "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"Answer: "
        "5\",\"reasoning_content\":\"hm\"},\"finish_reason\":\"length\",\"logprobs\":{\"content\":[{\"token\":"
        "\"Answer\","
        "\"logprob\":-0.5,\"top_logprobs\":[{\"token\":\"Answer\",\"logprob\":-0.5},{\"token\":\"So\",\"logprob\":-2}]}"
        ","
        "{\"token\":\": 5\",\"logprob\":-0.25}]}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
        "\"prompt_tokens_details\":{\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}");
    (void)state;
    assert_int_equal(r.status, 200);
    assert_string_equal(r.text, "Answer: 5");
    assert_string_equal(r.thoughts, "hm");
    assert_string_equal(r.finish, "length");
    assert_string_equal(r.model, "m");
    assert_true(r.counted && !r.other);
    assert_int_equal(r.n_prompt, 7);
    assert_int_equal(r.n_written, 3);
    assert_int_equal(r.n_cached, 2);
    assert_int_equal(r.n_thought, 1);
    assert_int_equal(r.n_tokens, 2);
    assert_int_equal(r.tokens[0].end, 6);
    assert_int_equal(r.tokens[1].end, 9);
    assert_float_equal(r.tokens[0].margin, 1.5, 1e-6);
    upstream_reply_clear(&r);
}

static void tool_calls_are_noticed(void **state)
{
    upstream_reply r = read_whole("{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{\"id\":\"1\"}]}}]}");
    (void)state;
    assert_true(r.status == 200 && r.other);
    assert_string_equal(r.text, "");
    upstream_reply_clear(&r);
    r = read_whole("{\"choices\":[{\"message\":{\"content\":\"x\",\"tool_calls\":[]}}]}");
    assert_true(r.status == 200 && !r.other);
    upstream_reply_clear(&r);
}

static void what_is_no_completion_is_a_failure(void **state)
{
    static const struct {
        const char *body;
        int status;
    } cases[] = {
        {"", 502},
        {"<html>", 502},
        {"[]", 502},
        {"{}", 502},
        {"{\"choices\":[]}", 502},
        {"{\"choices\":[{\"message\":\"x\"}]}", 502},
        {"{\"error\":{\"message\":\"loading\",\"code\":503}}", 503},
        {"{\"error\":\"broke\"}", 502},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        upstream_reply r = read_whole(cases[i].body);
        assert_int_equal(r.status, cases[i].status);
        assert_non_null(strstr(r.message, "here"));
        upstream_reply_clear(&r);
    }
}

typedef struct heard {
    buffer text, thoughts;
    size_t n_logprobs;
} heard;

static void hear(void *user, const char *thoughts, size_t n_thoughts, const char *text, size_t n_text, json_t *logprobs)
{
    heard *h = user;
    buffer_append(&h->thoughts, thoughts, n_thoughts, NULL);
    buffer_append(&h->text, text, n_text, NULL);
    h->n_logprobs += json_array_size(json_object_get(logprobs, "content"));
}

static void events_add_up_to_an_answer(void **state)
{
    static const char *const events[] = {
        "{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}",
        "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"another\"}}]}",
        "{\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\",\"content\":\"It \"}}]}",
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"is\"},\"finish_reason\":\"stop\",\"logprobs\":"
        "{\"content\":[{\"token\":\"is\",\"logprob\":-0.5}]}}]}",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}",
        "[DONE]",
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"after\"}}]}",
    };
    upstream_reply r = {0};
    heard h = {0};
    bool ended = false;
    (void)state;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        assert_true(upstream_reply_event(&r, events[i], strlen(events[i]), &ended, hear, &h, "here"));
    assert_true(ended && r.counted);
    assert_string_equal(r.own_text.data, "It is");
    assert_string_equal(h.text.data, "It is");
    assert_string_equal(h.thoughts.data, "hm");
    assert_int_equal(h.n_logprobs, 1);
    assert_string_equal(r.finish, "stop");
    assert_int_equal(r.n_written, 2);
    buffer_clear(&h.text);
    buffer_clear(&h.thoughts);
    upstream_reply_clear(&r);
}

static void what_no_server_counted_is_reckoned(void **state)
{
    static const char whole[] =
        "{\"choices\":[{\"message\":{\"content\":\"Answer: 5\",\"reasoning_content\":\"hm\"}}]%s}";
    static const char event[] = "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d\"}}]}";
    char text[256];
    (void)state;
    snprintf(text, sizeof text, whole, "");
    upstream_reply r = read_whole(text);
    upstream_reply_reckon(&r, 21);
    assert_true(!r.counted && r.n_written == 3 && r.n_thought == 1 && r.n_prompt == 6);
    upstream_reply_clear(&r);
    snprintf(text, sizeof text, whole, ",\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":0}");
    r = read_whole(text);
    upstream_reply_reckon(&r, 21);
    assert_true(r.counted && r.n_written == 0 && r.n_prompt == 2); /* its own number, whatever it is */
    upstream_reply_clear(&r);
    bool ended = false;
    for (int i = 0; i < 9; i++) {
        snprintf(text, sizeof text, event, i);
        assert_true(upstream_reply_event(&r, text, strlen(text), &ended, NULL, NULL, "here"));
    }
    r.text = r.own_text.data;
    upstream_reply_reckon(&r, 0);
    assert_int_equal(r.n_written, 9); /* 9 bytes, and as many pieces */
    upstream_reply_clear(&r);
}

static void an_event_that_is_an_error_ends_it(void **state)
{
    static const char *const events[] = {"{not json}", "[1]", "{\"error\":{\"message\":\"the engine died\"}}"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        upstream_reply r = {0};
        bool ended = false;
        assert_false(upstream_reply_event(&r, events[i], strlen(events[i]), &ended, NULL, NULL, "here"));
        assert_int_equal(r.status, 502);
        upstream_reply_clear(&r);
    }
}

static const char sample[] =
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":[{"
    "\"type\":"
    "\"text\",\"text\":\"Answer: "
    "5\"}],\"reasoning_content\":\"hm\"},\"finish_reason\":\"length\",\"logprobs\":{\"content\":"
    "[{\"token\":\"Answer\",\"logprob\":-0.5}]},\"delta\":{\"content\":\"It\",\"tool_calls\":[1]}}],\"usage\":"
    "{\"prompt_tokens\":7,\"completion_tokens\":3}}";

static void damaged_replies_do_no_harm(void **state)
{
    enum { TIMES = 4000 };
    rng random;
    buffer damaged = {0};
    (void)state;
    rng_seed(&random, 7);
    for (int i = 0; i < TIMES; i++) {
        upstream_reply r = {0};
        bool ended = false;
        mutate(&damaged, sample, sizeof sample - 1, 0, &random);
        assert_int_equal(buffer_append(&r.body, damaged.data, damaged.size, NULL), DRR_OK);
        const bool good = upstream_reply_read(&r, "here");
        assert_true(good == (r.status == 200) && (good || r.message));
        upstream_reply_clear(&r);
        upstream_reply_event(&r, damaged.data, damaged.size, &ended, NULL, NULL, "here");
        upstream_reply_clear(&r);
    }
    buffer_clear(&damaged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_is_read),
        cmocka_unit_test(tool_calls_are_noticed),
        cmocka_unit_test(what_is_no_completion_is_a_failure),
        cmocka_unit_test(events_add_up_to_an_answer),
        cmocka_unit_test(what_no_server_counted_is_reckoned),
        cmocka_unit_test(an_event_that_is_an_error_ends_it),
        cmocka_unit_test(damaged_replies_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
