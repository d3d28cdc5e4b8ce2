/* test_remote_reply.c: what a server's JSON becomes: requests, chunks, whole completions, refusals; and replies damaged
 * in thousands of ways, which must give the same whatever pieces they come in, and never more than a fault. */
#include "mutate.h"
#include "remote_fixture.h"

#include <math.h>

static remote_fixture f;

static int open_it(void **state)
{
    (void)state;
    fixture_open(&f, "secret-key-1");
    return 0;
}

static int close_it(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

static void give(const char *text)
{
    assert_int_equal(fixture_feed(&f, text, strlen(text)), DRR_OK);
}

static const char *answer(void)
{
    assert_int_equal(think_end(&f.transfer.reply.words, NULL), DRR_OK);
    return f.transfer.reply.words.answer.data ? f.transfer.reply.words.answer.data : "";
}

static void requests_carry_what_the_server_takes(void **state)
{
    static const drr_message messages[] = {{"system", "S"}, {"user", "U \"quoted\""}};
    const reasoner_request request = {.messages = messages,
                                      .n_messages = 2,
                                      .max_tokens = 7,
                                      .temperature = 0.7f,
                                      .top_p = 0.95f,
                                      .seed = UINT64_MAX,
                                      .grammar = "root ::= \"a\""};
    char *body = NULL;
    (void)state;
    assert_int_equal(remote_request_body(&body, &f.backend, &request, NULL), DRR_OK);
    assert_string_equal(body,
                        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\","
                        "\"content\":\"U \\\"quoted\\\"\"}],\"stream\":true,\"max_tokens\":7}");
    free(body);
    f.backend.features = (remote_features){true, true, true, true, true, true, true};
    assert_int_equal(remote_request_body(&body, &f.backend, &request, NULL), DRR_OK);
    assert_non_null(
        strstr(body, "\"max_completion_tokens\":7,\"stream_options\":{\"include_usage\":true},\"temperature\":0."));
    assert_non_null(
        strstr(body, "\"seed\":2147483647,\"logprobs\":true,\"top_logprobs\":2,\"grammar\":\"root ::= \\\"a\\\"\"}"));
    free(body);
    static const drr_message broken = {"user", "\xff\xfe"};
    const reasoner_request bad = {.messages = &broken, .n_messages = 1};
    assert_int_equal(remote_request_body(&body, &f.backend, &bad, NULL), DRR_E_FORMAT);
}

static void a_stream_becomes_an_answer(void **state)
{
    (void)state;
    give("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
         "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"another choice\"}}]}\n\n"
         "data: {\"choices\":[{\"delta\":{\"content\":\"It is \",\"reasoning_content\":\"hm\"}}]}\n\n"
         "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"so\"}]}}]}\n\n"
         "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"usage\":null}\n\n"
         "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9,\"prompt_tokens_details\":"
         "{\"cached_tokens\":3}}}\n\ndata: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"after\"}}]}\n\n");
    const remote_reply *r = &f.transfer.reply;
    assert_string_equal(answer(), "It is so");
    assert_memory_equal(r->words.thoughts.data, "hm", 2);
    assert_true(r->finished && r->done && r->finish == DRR_FINISH_LENGTH && r->fault == REMOTE_FINE);
    assert_int_equal(r->used_prompt, 5);
    assert_int_equal(r->used_cached, 3);
    assert_int_equal(remote_reply_written(r), 9);
}

static void log_probabilities_follow_the_text(void **state)
{
    (void)state;
    give("data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"no\"},\"logprobs\":{\"content\":[{\"token\":\"no\","
         "\"logprob\":-9}]}}]}\n\n"
         "data: "
         "{\"choices\":[{\"delta\":{\"content\":\"ab\"},\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-1,"
         "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-1},{\"token\":\"z\",\"logprob\":-3}]},{\"token\":\"b\","
         "\"logprob\":-2}]}}]}\n\n"
         "data: {\"choices\":[{\"delta\":{\"content\":\"c\"},\"logprobs\":{\"content\":[{\"token\":\"c\",\"logprob\":"
         "\"much\"},{\"token\":\"c\",\"logprob\":5},{\"token\":\"c\",\"logprob\":-4,\"top_logprobs\":[{\"token\":\"y\","
         "\"logprob\":-0.5}]}]}}]}\n\n");
    const remote_reply *r = &f.transfer.reply;
    assert_int_equal(r->n_tokens, 3); /* of the thoughts none, of the nonsense none */
    assert_int_equal(r->tokens[0].end, 1);
    assert_int_equal(r->tokens[1].end, 2);
    assert_int_equal(r->tokens[2].end, 3);
    assert_true(r->tokens[0].margin == 2 && isnan(r->tokens[1].margin) && r->tokens[2].margin == -3.5f);
    assert_true(isnan(r->tokens[0].entropy));
}

/* The tokens that are kept: each as the end of what it writes of the answer, and its log-probability. */
static void tokens_are(const char *wanted)
{
    const remote_reply *r = &f.transfer.reply;
    buffer seen = {0};
    assert_int_equal(buffer_puts(&seen, "", NULL), DRR_OK);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        assert_int_equal(
            buffer_printf(&seen, NULL, "%s%u:%g", i ? " " : "", r->tokens[i].end, (double)r->tokens[i].logprob),
            DRR_OK);
    assert_string_equal(seen.data, wanted);
    buffer_clear(&seen);
}

/* tokens: each begins with the digit that is its log-probability, negated. Streamed one by one, or whole. */
static void say(const char *const *tokens, size_t n, bool whole)
{
    buffer text = {0}, rows = {0}, body = {0};
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buffer_printf(&text, NULL, "%s", tokens[i] + 1), DRR_OK);
        assert_int_equal(buffer_printf(&rows, NULL, "%s{\"token\":\"%s\",\"logprob\":-%c}", rows.size ? "," : "",
                                       tokens[i] + 1, tokens[i][0]),
                         DRR_OK);
        if (whole && i + 1 < n)
            continue;
        assert_int_equal(
            buffer_printf(
                &body, NULL, "%s{\"choices\":[{\"%s\":{\"content\":\"%s\"},\"logprobs\":{\"content\":[%s]}}]}%s",
                whole ? "" : "data: ", whole ? "message" : "delta", text.data, rows.data, whole ? "" : "\n\n"),
            DRR_OK);
        text.size = rows.size = 0;
    }
    remote_reply_clear(&f.transfer.reply);
    if (whole) {
        assert_int_equal(buffer_puts(&f.transfer.reply.body, body.data, NULL), DRR_OK);
        assert_int_equal(remote_reply_whole(&f.transfer, NULL), DRR_OK);
    } else {
        f.transfer.reply.events.most = REMOTE_EVENT_MOST;
        give(body.data);
    }
    buffer_clear(&text);
    buffer_clear(&rows);
    buffer_clear(&body);
}

static void log_probabilities_of_thoughts_are_not_the_answers(void **state)
{
    static const char *const opened[] = {"1<th", "1ink>", "5hm", "5 <", "1</think>", "1 ", "2a", "3 <", "4b"};
    static const char *const unopened[] = {"5hm", "5, a long thought", "1</thi", "1nk> that", "3 <", "4b"};
    static const char *const twice[] = {"1<think>", "5x",         "1</think>", "1 <", "1think>",
                                        "5y",       "1</think>a", "3 <",       "4b"};
    (void)state;
    for (int whole = 0; whole <= 1; whole++) {
        say(opened, sizeof opened / sizeof *opened, whole);
        assert_string_equal(answer(), "a <b");
        tokens_are("1:-2 3:-3 4:-4");
        say(unopened, sizeof unopened / sizeof *unopened, whole);
        assert_string_equal(answer(), "that <b");
        tokens_are("4:-1 6:-3 7:-4"); /* of the token that ends the tag as well, which begins the answer */
        say(opened, 3, whole);        /* and there it ends */
        assert_string_equal(answer(), "");
        tokens_are("");
        say(twice, sizeof twice / sizeof *twice, whole);
        assert_string_equal(answer(), "a <b");
        tokens_are("1:-1 3:-3 4:-4");
    }
}

static void tokens_that_are_not_the_text_are_kept_of_a_pure_answer_alone(void **state)
{
    static const struct {
        const char *thoughts, *text, *tokens;
    } cases[] = {{"", "ab", "1:-2 2:-3"},
                 {"", "<think>a</think>b", ""},
                 {"", "a</think>b", ""},
                 {"\"reasoning_content\":\"xy\",", "ab", ""},
                 {"\"reasoning_content\":\"hm\",", "xy", "1:-2 2:-3"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer body = {0};
        remote_reply_clear(&f.transfer.reply);
        assert_int_equal(buffer_printf(&body, NULL,
                                       "{\"choices\":[{\"message\":{%s\"content\":\"%s\"},\"logprobs\":{\"content\":["
                                       "{\"token\":\"x\",\"logprob\":-2},{\"token\":\"y\",\"logprob\":-3}]}}]}",
                                       cases[i].thoughts, cases[i].text),
                         DRR_OK);
        f.transfer.reply.body = body;
        assert_int_equal(remote_reply_whole(&f.transfer, NULL), DRR_OK);
        tokens_are(cases[i].tokens);
    }
}

static void a_character_of_two_tokens_is_known_by_its_bytes(void **state)
{
    (void)state;
    give("data: {\"choices\":[{\"delta\":{\"content\":\"</think>\\u00e9!\"},\"logprobs\":{\"content\":["
         "{\"token\":\"</think>\",\"logprob\":-1,\"bytes\":null},{\"token\":\"\",\"logprob\":-2,\"bytes\":[195]},"
         "{\"token\":\"?\",\"logprob\":-3,\"bytes\":[169]},{\"token\":\"!\",\"logprob\":-4,\"bytes\":[33]}]}}]}\n\n");
    assert_string_equal(answer(), "\xc3\xa9!");
    tokens_are("1:-2 2:-3 3:-4");
}

static void time_is_over(void *user, const reasoner_watched *texts, drr_finish *ends, size_t n)
{
    *(double *)user = texts->seconds;
    assert_int_equal(n, 1);
    assert_string_equal(texts->text, "");
    ends[0] = DRR_FINISH_TIME;
}

static void a_watch_hears_the_seconds_of_all_tries(void **state)
{
    double seconds = 0;
    drr_finish end = DRR_FINISH_STOP;
    (void)state;
    assert_false(remote_query_watch(&f.query, NULL, 105, &end)); /* it has none */
    f.query.started_s = 100;
    f.query.watch = time_is_over;
    f.query.watch_user = &seconds;
    f.transfer.started_s = 104;
    give("data: {\"choices\":[{\"delta\":{\"content\":\"hm</think>\"}}]}\n\n"); /* nothing of it is the answer's */
    assert_true(remote_query_watch(&f.query, &f.transfer.reply, 105, &end));
    assert_int_equal(end, DRR_FINISH_TIME);
    assert_true(seconds == 5);
}

static void finishes_map_to_ends(void **state)
{
    static const struct {
        const char *reason;
        drr_finish finish;
        remote_fault fault;
    } cases[] = {{"stop", DRR_FINISH_STOP, REMOTE_FINE},        {"length", DRR_FINISH_LENGTH, REMOTE_FINE},
                 {"eos_token", DRR_FINISH_STOP, REMOTE_FINE},   {"content_filter", DRR_FINISH_STOP, REMOTE_FAIL},
                 {"tool_calls", DRR_FINISH_STOP, REMOTE_FAIL},  {"error", DRR_FINISH_STOP, REMOTE_RETRY},
                 {"max_tokens", DRR_FINISH_LENGTH, REMOTE_FINE}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        remote_reply_clear(&f.transfer.reply);
        snprintf(text, sizeof text,
                 "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"%s\"}]}\n\n", cases[i].reason);
        give(text);
        assert_true(f.transfer.reply.finished);
        assert_int_equal(f.transfer.reply.finish, cases[i].finish);
        assert_int_equal(f.transfer.reply.fault, cases[i].fault);
    }
}

static void refused_as(long status, const char *body, remote_fault fault, const char *words)
{
    remote_reply *r = &f.transfer.reply;
    remote_reply_clear(r);
    assert_int_equal(buffer_puts(&r->body, body, NULL), DRR_OK);
    remote_reply_refused(&f.transfer, status);
    if (r->fault != fault || !strstr(r->problem, words) || strstr(r->problem, "secret-key"))
        fail_msg("%ld %s: fault %d, %s", status, body, (int)r->fault, r->problem);
}

static void refusals_retry_fail_or_stop(void **state)
{
    (void)state;
    refused_as(429, "{\"error\":{\"message\":\"slow down\"}}", REMOTE_RETRY, "429: slow down");
    refused_as(429, "{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"pay\"}}", REMOTE_STOP, "pay");
    refused_as(500, "<html>", REMOTE_RETRY, "500");
    refused_as(503, "", REMOTE_RETRY, "503");
    refused_as(400, "{\"error\":\"too long: secret-key-1\"}", REMOTE_FAIL, "too long: ****");
    refused_as(422, "{\"detail\":\"no\"}", REMOTE_FAIL, "no");
    refused_as(401, "{\"error\":{\"message\":\"bad secret-key-1, or secret-key\"}}", REMOTE_STOP, "does not accept");
    refused_as(403, "[]", REMOTE_STOP, "403");
    refused_as(404, "{}", REMOTE_STOP, "--model");
    refused_as(302, "", REMOTE_STOP, "redirects");
    refused_as(400, "{\"error\":{\"message\":7,\"param\":[]}}", REMOTE_FAIL, "400");
}

static void errors_hide_in_a_200(void **state)
{
    static const struct {
        const char *body;
        remote_fault fault;
    } cases[] = {{"{\"error\":{\"message\":\"x\",\"code\":502}}", REMOTE_RETRY},
                 {"{\"error\":{\"message\":\"x\",\"code\":401}}", REMOTE_STOP},
                 {"{\"error\":{\"message\":\"x\",\"type\":\"invalid_request_error\"}}", REMOTE_FAIL},
                 {"{\"error\":\"x\"}", REMOTE_RETRY},
                 {"{\"hello\":1}", REMOTE_RETRY},
                 {"<html>", REMOTE_RETRY},
                 {"", REMOTE_RETRY},
                 {"{\"choices\":[]}", REMOTE_RETRY},
                 {"{\"choices\":[{\"message\":{\"content\":\"yes\"}}]}", REMOTE_FINE}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        remote_reply_clear(&f.transfer.reply);
        assert_int_equal(buffer_puts(&f.transfer.reply.body, cases[i].body, NULL), DRR_OK);
        assert_int_equal(remote_reply_whole(&f.transfer, NULL), DRR_OK);
        if (f.transfer.reply.fault != cases[i].fault)
            fail_msg("%s: fault %d", cases[i].body, (int)f.transfer.reply.fault);
    }
    assert_true(f.transfer.reply.finished);
    assert_string_equal(answer(), "yes");
}

/* ---- damage */

static const char STREAM[] =
    ": ping\n\ndata: "
    "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<think>so\"},\"logprobs\":{\"content\":[{\"token\":"
    "\"so\",\"logprob\":-0.5,\"top_logprobs\":[{\"token\":\"no\",\"logprob\":-1}]}]}}]}\r\n\r\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"</think>Answer: "
    "yes\"},\"logprobs\":{\"content\":[{\"token\":"
    "\"Answer\",\"logprob\":-0.1},{\"token\":\": yes\",\"logprob\":-0.2}]},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,"
    "\"completion_tokens\":9}}\n\ndata: {\"error\":null}\n\ndata: [DONE]\n\n";

/* What a damaged stream came to, as text. */
static void outcome(buffer *out, const buffer *bytes, rng *pieces)
{
    remote_fixture g;
    drr_status status = DRR_OK;
    fixture_open(&g, "secret-key-1");
    for (size_t at = 0; at < bytes->size && status == DRR_OK;) {
        size_t n = pieces ? 1 + rng_below(pieces, 30) : bytes->size;
        n = n < bytes->size - at ? n : bytes->size - at;
        status = fixture_feed(&g, bytes->data + at, n);
        at += n;
    }
    if (status == DRR_OK)
        status = sse_end(&g.transfer.reply.events, fixture_event, &g.transfer, NULL);
    remote_reply *r = &g.transfer.reply;
    assert_int_equal(think_end(&r->words, NULL), DRR_OK);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        assert_true(isfinite(r->tokens[i].logprob) && !isinf(r->tokens[i].margin));
    assert_int_equal(buffer_printf(out, NULL, "%d %d %d %d %u %u|%s|%s|", (int)status, (int)r->fault, (int)r->finished,
                                   (int)r->finish, r->n_tokens, remote_reply_written(r),
                                   r->words.answer.data ? r->words.answer.data : "", r->problem),
                     DRR_OK);
    fixture_close(&g);
}

static void damaged_streams_are_faults_at_worst(void **state)
{
    enum { ROUNDS = 20000 };
    buffer bytes = {0}, one = {0}, other = {0};
    rng r, pieces;
    uint32_t fine = 0, faults = 0;
    (void)state;
    rng_seed(&r, 20260101);
    rng_seed(&pieces, 7);
    for (int i = 0; i < ROUNDS; i++) {
        mutate(&bytes, STREAM, sizeof STREAM - 1, 0, &r);
        one.size = other.size = 0;
        outcome(&one, &bytes, NULL);
        outcome(&other, &bytes, &pieces);
        if (strcmp(one.data, other.data) != 0)
            fail_msg("round %d: in one piece %s, in many %s", i, one.data, other.data);
        fine += strncmp(one.data, "0 0 ", 4) == 0;
        faults += strncmp(one.data, "0 1 ", 4) == 0;
    }
    assert_true(fine > ROUNDS / 20 && faults > ROUNDS / 20); /* both were met */
    buffer_clear(&bytes);
    buffer_clear(&one);
    buffer_clear(&other);
}

static void damaged_bodies_are_faults_at_worst(void **state)
{
    static const char whole[] =
        "{\"choices\":[{\"message\":{\"content\":\"yes\"},\"finish_reason\":\"stop\"}],\"usage\":"
        "{\"prompt_tokens\":5,\"completion_tokens\":9},\"error\":{\"message\":\"m\",\"code\":429,"
        "\"param\":\"seed\"},\"detail\":\"d\"}";
    buffer bytes = {0};
    rng r;
    (void)state;
    rng_seed(&r, 5);
    for (int i = 0; i < 20000; i++) {
        remote_reply *reply = &f.transfer.reply;
        remote_reply_clear(reply);
        mutate(&bytes, whole, sizeof whole - 1, 0, &r);
        assert_int_equal(buffer_append(&reply->body, bytes.data, bytes.size, NULL), DRR_OK);
        if (i % 2)
            remote_reply_refused(&f.transfer, 400 + i % 200);
        else
            assert_int_equal(remote_reply_whole(&f.transfer, NULL), DRR_OK);
        assert_true(reply->fault != REMOTE_FINE || reply->finished);
        assert_true(strlen(reply->problem) < sizeof reply->problem && (reply->fault == REMOTE_FINE || *reply->problem));
    }
    buffer_clear(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_carry_what_the_server_takes, open_it, close_it),
        cmocka_unit_test_setup_teardown(a_stream_becomes_an_answer, open_it, close_it),
        cmocka_unit_test_setup_teardown(log_probabilities_follow_the_text, open_it, close_it),
        cmocka_unit_test_setup_teardown(log_probabilities_of_thoughts_are_not_the_answers, open_it, close_it),
        cmocka_unit_test_setup_teardown(tokens_that_are_not_the_text_are_kept_of_a_pure_answer_alone, open_it,
                                        close_it),
        cmocka_unit_test_setup_teardown(a_character_of_two_tokens_is_known_by_its_bytes, open_it, close_it),
        cmocka_unit_test_setup_teardown(a_watch_hears_the_seconds_of_all_tries, open_it, close_it),
        cmocka_unit_test_setup_teardown(finishes_map_to_ends, open_it, close_it),
        cmocka_unit_test_setup_teardown(refusals_retry_fail_or_stop, open_it, close_it),
        cmocka_unit_test_setup_teardown(errors_hide_in_a_200, open_it, close_it),
        cmocka_unit_test(damaged_streams_are_faults_at_worst),
        cmocka_unit_test_setup_teardown(damaged_bodies_are_faults_at_worst, open_it, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
