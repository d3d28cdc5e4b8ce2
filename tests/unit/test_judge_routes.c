/* test_judge_routes.c: the judge's routes over real HTTP: each reply has the shape that its clients read, with the
 * scores of the critic itself; whatever cannot be scored is a 400 that names the field. */
#include "serve/judge.h"

#include "http_fixture.h"
#include "judge_fixture.h"

#include <math.h>

static judge *judged;
static drr_critic *critic;

static void serve_routes(judge *user)
{
    static http_route routes[6];
    static const struct {
        const char *path;
        http_handler handler;
    } all[] = {{"/v1/rerank", judge_rerank},       {"/v1/classify", judge_classify},   {"/v1/score", judge_score},
               {"/v1/decisions", judge_decisions}, {"/v1/systemone", judge_systemone}, {"/get_reward", judge_reward}};
    drr_error err = {0};
    for (size_t i = 0; i < 6; i++)
        routes[i] = (http_route){"POST", all[i].path, HTTP_KEYED, all[i].handler, user};
    memset(&fixture, 0, sizeof fixture);
    http_options_defaults(&fixture.options);
    if (http_open(&fixture.server, &fixture.options, routes, 6, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
}

static int start(void **state)
{
    drr_error err = {0};
    if (make_place(state) != 0)
        return -1;
    put_critic(at("c.gguf"), 1, "small", 0.5);
    if (drr_critic_open(&critic, at("c.gguf"), &err) != DRR_OK ||
        judge_open(&judged, at("c.gguf"), DRR_PRECISION_FP32, 0, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    serve_routes(judged);
    return 0;
}

static int stop(void **state)
{
    http_close(fixture.server);
    judge_close(judged);
    drr_critic_close(critic);
    return remove_place(state);
}

/* The body of the reply, which has the status; the caller's. */
static json_t *post(const char *path, const char *body, int status)
{
    char line[32];
    char *answer = ask_for("POST", path, "Content-Type: application/json\r\n", body);
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    char *text = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, line, strlen(line)) != 0 || !text)
        fail_msg("%s %s: wanted %d, got: %s", path, body, status, answer);
    if (status == 200)
        assert_non_null(strcasestr(answer, "\r\nx-drr-dm: small@"));
    json_error_t why;
    json_t *value = json_loads(text, 0, &why);
    if (!value)
        fail_msg("%s: %s in %s", path, why.text, text);
    free(answer);
    return value;
}

static drr_score score_of(const char *question, const char *text, uint32_t *n_tokens)
{
    const drr_score_item item = {question, text, NULL};
    drr_score score;
    uint32_t n;
    assert_int_equal(critic_score_counted(critic, &score, &n, &item, 1, NULL), DRR_OK);
    if (n_tokens)
        *n_tokens += n;
    return score;
}

static json_t *member(json_t *value, const char *path)
{
    char text[128], *save = NULL;
    snprintf(text, sizeof text, "%s", path);
    for (char *part = strtok_r(text, ".", &save); part; part = strtok_r(NULL, ".", &save))
        value = *part >= '0' && *part <= '9' ? json_array_get(value, strtoul(part, NULL, 10))
                                             : json_object_get(value, part);
    return value;
}

static void holds_text(json_t *value, const char *path, const char *text)
{
    const char *found = json_string_value(member(value, path));
    if (!found || strcmp(found, text) != 0)
        fail_msg("%s is \"%s\" and not \"%s\"", path, found ? found : "(none)", text);
}

static void holds_number(json_t *value, const char *path, double number)
{
    json_t *found = member(value, path);
    if (!json_is_number(found) || !(fabs(json_number_value(found) - number) < 1e-5))
        fail_msg("%s is %g and not %g", path, json_is_number(found) ? json_number_value(found) : NAN, number);
}

static void begins_with(json_t *value, const char *path, const char *text)
{
    const char *found = json_string_value(member(value, path));
    assert_non_null(found);
    assert_memory_equal(found, text, strlen(text));
}

/* ---- rerank */

static void rerank_gives_raw_logits_best_first(void **state)
{
    (void)state;
    static const char *const documents[] = {"un", "unaffable a", "a a a", "x x"};
    uint32_t n_tokens = 0;
    double logits[4];
    for (size_t i = 0; i < 4; i++)
        logits[i] = score_of("a x", documents[i], &n_tokens).logit;
    json_t *r =
        post("/v1/rerank",
             "{\"model\": \"m\", \"query\": \"a x\", \"documents\": [\"un\", \"unaffable a\", {\"text\": \"a a a\"}, "
             "\"x x\"]}",
             200);
    holds_text(r, "model", "m");
    holds_text(r, "object", "list");
    begins_with(r, "id", "rerank-");
    holds_number(r, "usage.prompt_tokens", n_tokens);
    holds_number(r, "usage.total_tokens", n_tokens);
    assert_int_equal(json_array_size(member(r, "results")), 4);
    double before = INFINITY;
    for (size_t i = 0; i < 4; i++) {
        json_t *one = json_array_get(member(r, "results"), i);
        const json_int_t index = json_integer_value(member(one, "index"));
        assert_true(index >= 0 && index < 4);
        holds_number(one, "relevance_score", logits[index]);
        holds_text(one, "document.text", documents[index]);
        assert_true(json_number_value(member(one, "relevance_score")) <= before);
        before = json_number_value(member(one, "relevance_score"));
    }
    json_decref(r);
    r = post(
        "/v1/rerank",
        "{\"query\": \"a x\", \"documents\": [\"un\", \"x x\", \"un\"], \"top_n\": 2, \"return_documents\": false}",
        200);
    begins_with(r, "model", "small@");
    assert_int_equal(json_array_size(member(r, "results")), 2);
    assert_null(member(r, "results.0.document"));
    json_decref(r);
    r = post("/v1/rerank",
             "{\"query\": \"a x\", \"documents\": [\"un\", \"\"], \"top_n\": 99, \"use_activation\": true}", 200);
    assert_int_equal(json_array_size(member(r, "results")), 2);
    const json_int_t first = json_integer_value(member(r, "results.0.index"));
    holds_number(r, "results.0.relevance_score", score_of("a x", first ? "" : "un", NULL).p_correct);
    json_decref(r);
}

static void rerank_of_texts_is_a_bare_list(void **state)
{
    (void)state;
    json_t *r = post("/v1/rerank", "{\"query\": \"a\", \"texts\": [\"un\"], \"return_text\": true}", 200);
    const double logit = score_of("a", "un", NULL).logit;
    assert_true(json_is_array(r));
    holds_number(r, "0.index", 0);
    holds_number(r, "0.score", logit);
    holds_text(r, "0.text", "un");
    json_decref(r);
    r = post("/v1/rerank", "{\"query\": \"a\", \"texts\": [\"un\", \"a\"], \"raw_scores\": false, \"top_n\": 1}", 200);
    assert_int_equal(json_array_size(r), 1);
    assert_null(member(r, "0.text"));
    const double sigmoid = json_number_value(member(r, "0.score"));
    assert_true(sigmoid > 0 && sigmoid < 1);
    json_decref(r);
}

static void thousands_of_documents_are_ranked_and_more_are_too_many(void **state)
{
    (void)state;
    buffer body = {0};
    for (size_t n = 5000; n <= 10001; n += 5001) {
        buffer_clear(&body);
        assert_int_equal(
            buffer_puts(&body, "{\"query\": \"a\", \"return_documents\": false, \"documents\": [\"x\"", NULL), DRR_OK);
        for (size_t i = 1; i < n; i++)
            assert_int_equal(buffer_puts(&body, i % 3 ? ",\"un a\"" : ",\"a\"", NULL), DRR_OK);
        assert_int_equal(buffer_puts(&body, "]}", NULL), DRR_OK);
        json_t *r = post("/v1/rerank", body.data, n == 5000 ? 200 : 400);
        if (n == 5000)
            assert_int_equal(json_array_size(member(r, "results")), n);
        else
            holds_text(r, "error.param", "documents");
        json_decref(r);
    }
    buffer_clear(&body);
}

/* ---- classify, score, reward */

static void classify_tells_accept_from_reject(void **state)
{
    (void)state;
    uint32_t n_tokens = 0;
    const drr_score a = score_of("a", "un", &n_tokens), b = score_of("x", "a a", &n_tokens);
    json_t *r = post("/v1/classify", "{\"input\": [\"a [SEP] un\", \"Question: x\\nAnswer: a a\"]}", 200);
    begins_with(r, "id", "classify-");
    holds_text(r, "object", "list");
    assert_true(json_is_integer(member(r, "created")));
    holds_number(r, "data.0.probs.0", a.p_correct);
    holds_number(r, "data.0.probs.1", 1 - a.p_correct);
    holds_number(r, "data.1.probs.0", b.p_correct);
    holds_number(r, "data.1.index", 1);
    holds_number(r, "data.1.num_classes", 2);
    holds_text(r, "data.0.label", a.p_correct >= 0.5 ? "accept" : "reject");
    holds_number(r, "usage.prompt_tokens", n_tokens);
    json_decref(r);
    r = post("/v1/classify", "{\"input\": {\"question\": \"a\", \"text\": \"un\"}, \"use_activation\": false}", 200);
    holds_number(r, "data.0.probs.0", a.logit);
    holds_number(r, "data.0.num_classes", 1);
    json_decref(r);
    r = post("/v1/classify",
             "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
             "[{\"type\": \"text\", \"text\": \"un\"}]}]}",
             200);
    holds_number(r, "data.0.probs.0", a.p_correct);
    json_decref(r);
}

static void score_pairs_one_with_many_or_each_with_its_own(void **state)
{
    (void)state;
    const drr_score a = score_of("a", "un", NULL), b = score_of("a", "x", NULL), c = score_of("x", "un", NULL);
    json_t *r = post("/v1/score", "{\"model\": \"m\", \"queries\": \"a\", \"documents\": [\"un\", \"x\"]}", 200);
    begins_with(r, "id", "score-");
    holds_text(r, "data.0.object", "score");
    holds_number(r, "data.0.score", a.p_correct);
    holds_number(r, "data.1.score", b.p_correct);
    holds_number(r, "data.1.index", 1);
    json_decref(r);
    r = post("/v1/score", "{\"text_1\": [\"a\", \"x\"], \"text_2\": [\"un\", \"un\"], \"use_activation\": false}", 200);
    holds_number(r, "data.0.score", a.logit);
    holds_number(r, "data.1.score", c.logit);
    json_decref(r);
    r = post("/v1/score", "{\"queries\": \"a\", \"items\": \"un\"}", 200);
    assert_int_equal(json_array_size(member(r, "data")), 1);
    json_decref(r);
    r = post("/v1/score", "{\"data_1\": \"a\", \"data_2\": [\"un\"]}", 200);
    json_decref(r);
}

static void reward_takes_what_follows_the_prompt(void **state)
{
    (void)state;
    const drr_score a = score_of("a x", "un", NULL);
    json_t *r = post("/get_reward", "{\"query\": [\"a xun\"], \"prompts\": [\"a x\"], \"labels\": [\"7\"]}", 200);
    holds_number(r, "rewards.0", a.logit);
    holds_number(r, "scores.0", a.p_correct);
    assert_true(json_is_object(member(r, "extra_logs")));
    json_decref(r);
    r = post("/get_reward", "{\"query\": [\"a x [SEP] un\"]}", 200);
    holds_number(r, "rewards.0", a.logit);
    json_decref(r);
}

/* ---- decisions */

static void a_decision_is_whether_the_answer_is_correct(void **state)
{
    (void)state;
    uint32_t n_tokens = 0;
    const drr_score a = score_of("a x", "un", &n_tokens);
    static const char *const inputs[] = {
        "[{\"role\": \"user\", \"content\": \"a x\"}, {\"role\": \"user\", \"content\": [{\"type\": \"input_text\", "
        "\"text\": "
        "\"un\"}]}]",
        "\"Question: a x\\nAnswer: un\"", "\"a x [SEP] un\"",
        "\"{\\\"question\\\": \\\"a x\\\", \\\"answer\\\": \\\"un\\\"}\"",
        "[{\"role\": \"user\", \"content\": \"Question: a x\\n\\nAnswer: un\", \"type\": \"message\"}]"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        char body[600];
        snprintf(body, sizeof body,
                 "{\"model\": \"drr\", \"input\": %s, \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is "
                 "the answer "
                 "correct?\", \"name\": \"right\"}]}",
                 inputs[i]);
        json_t *r = post("/v1/decisions", body, 200);
        holds_text(r, "model", "drr");
        holds_text(r, "answers.0.type", "predicate");
        holds_text(r, "answers.0.name", "right");
        holds_number(r, "answers.0.probability", a.p_correct);
        holds_number(r, "usage.input_tokens", n_tokens);
        holds_number(r, "usage.input_tokens_details.cached_tokens", 0);
        holds_number(r, "usage.input_tokens_details.cache_write_tokens", 0);
        holds_number(r, "usage.output_tokens_details.reasoning_tokens", 0);
        holds_number(r, "usage.total_tokens", n_tokens);
        json_decref(r);
    }
    static const char *const asked[] = {"a x", "Is this the correct answer to: a x",
                                        "Is this the right answer to the question:\\n a x"};
    for (size_t i = 0; i < 3; i++) { /* the instructions are or have the question, and the input is its answer alone */
        char body[400];
        snprintf(body, sizeof body,
                 "{\"model\": \"drr\", \"input\": \"un\", \"questions\": [{\"type\": \"predicate\", \"instructions\": "
                 "\"%s\"}, {\"type\": \"predicate\", \"instructions\": \"x\"}]}",
                 asked[i]);
        json_t *r = post("/v1/decisions", body, 200);
        holds_number(r, "answers.0.probability", a.p_correct);
        holds_number(r, "answers.1.probability", score_of("x", "un", NULL).p_correct);
        assert_true(json_is_null(member(r, "answers.0.name")));
        json_decref(r);
    }
}

static void system_one_is_asked_the_same(void **state)
{
    (void)state;
    uint32_t n_tokens = 0;
    const drr_score a = score_of("a x", "un", &n_tokens);
    static const char *const states[] = {
        "{\"question\": \"a x\", \"response\": \"un\"}", "[\"a x\", \"un\"]", "\"Question: a x\\nAnswer: un\"",
        "[{\"role\": \"user\", \"content\": \"a x\"}, {\"role\": \"assistant\", \"content\": "
        "\"un\"}]"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        char body[600];
        snprintf(
            body, sizeof body,
            "{\"model\": \"jev\", \"state\": %s, \"questions\": {\"is_right\": {\"type\": \"noul\", \"instructions\": "
            "\"Is the "
            "response correct?\"}, \"too\": {\"type\": \"noul\", \"criteria\": {\"true\": \"the answer is right\"}}}}",
            states[i]);
        json_t *r = post("/v1/systemone", body, 200);
        holds_text(r, "model", "jev");
        holds_text(r, "answers.is_right.type", "noul");
        holds_number(r, "answers.is_right.noul", a.p_correct);
        holds_number(r, "answers.too.noul", a.p_correct);
        holds_number(r, "usage.input_tokens", 2 * n_tokens);
        holds_number(r, "usage.output_tokens", 0);
        json_decref(r);
    }
}

/* ---- refusals */

static const struct {
    const char *path, *body, *param, *words;
} refusals[] = {
    {"/v1/rerank", "", NULL, "not valid JSON"},
    {"/v1/rerank", "[]", NULL, "no JSON object"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"]", NULL, "not valid JSON"},
    {"/v1/rerank", "{\"query\": \"a\", \"query\": \"b\", \"documents\": [\"x\"]}", NULL, "duplicate"},
    {"/v1/rerank", "{\"documents\": [\"x\"]}", "query", "missing"},
    {"/v1/rerank", "{\"query\": 7, \"documents\": [\"x\"]}", "query", "no string"},
    {"/v1/rerank", "{\"query\": [\"a\"], \"documents\": [\"x\"]}", "query", "no string"},
    {"/v1/rerank", "{\"query\": \"a\"}", "documents", "missing"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": []}", "documents", "empty"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": null}", "documents", "no list"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": \"x\"}", "documents", "no list"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\", 3]}", "documents[1]", "no string"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [{\"title\": \"x\"}]}", "documents[0]", "\"text\""},
    {"/v1/rerank", "{\"query\": \"a\", \"texts\": [null]}", "texts[0]", "no string"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"], \"top_n\": -1}", "top_n", "whole number"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"], \"top_n\": 1.5}", "top_n", "whole number"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"], \"top_n\": \"1\"}", "top_n", "whole number"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"], \"return_documents\": 1}", "return_documents",
     "true nor"},
    {"/v1/rerank", "{\"model\": 1, \"query\": \"a\", \"documents\": [\"x\"]}", "model", "no string"},
    {"/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\", \"\xff\"]}", "documents[1]", "UTF-8"},
    {"/v1/rerank", "{\"a\\\"b\": {\"c\": [1, {\"d\": \"\xC3\"}]}}", "a\\\"b.c[1].d", "UTF-8"},
    {"/v1/rerank", "{\"query\": \"\xED\xA0\x80\"}", "query", "UTF-8"},
    {"/v1/rerank", "{\"query\": \"a\\u0000b\", \"documents\": [\"x\"]}", NULL, "not valid JSON"},
    {"/v1/rerank", "{\"query\": \"\\ud800\", \"documents\": [\"x\"]}", NULL, "not valid JSON"},
    {"/v1/classify", "{}", "input", "missing"},
    {"/v1/classify", "{\"input\": []}", "input", "empty"},
    {"/v1/classify", "{\"input\": 3}", "input", "neither"},
    {"/v1/classify", "{\"input\": [1, 2, 3]}", "input[0]", "ids of tokens"},
    {"/v1/classify", "{\"input\": \"one text\"}", "input", "[SEP]"},
    {"/v1/classify", "{\"input\": [\"a[SEP]b\", \"one text\"]}", "input[1]", "[SEP]"},
    {"/v1/classify", "{\"input\": {\"question\": \"a\"}}", "input", "\"text\""},
    {"/v1/classify", "{\"messages\": {}}", "messages", "no list"},
    {"/v1/classify", "{\"messages\": []}", "messages", "empty"},
    {"/v1/classify", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "messages", "one text"},
    {"/v1/classify", "{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}, \"b\"]}", "messages[0]", "tool"},
    {"/v1/score", "{\"documents\": [\"x\"]}", "queries", "missing"},
    {"/v1/score", "{\"queries\": \"a\"}", "documents", "missing"},
    {"/v1/score", "{\"queries\": [\"a\", \"b\"], \"documents\": [\"x\"]}", "documents", "as many"},
    {"/v1/score", "{\"text_1\": [\"a\", \"b\"], \"text_2\": [\"x\", \"y\", \"z\"]}", "text_2", "as many"},
    {"/v1/score", "{\"queries\": [1], \"documents\": [\"x\"]}", "queries[0]", "no string"},
    {"/v1/score", "{\"queries\": \"a\", \"documents\": [[]]}", "documents[0]", "no string"},
    {"/get_reward", "{}", "query", "missing"},
    {"/get_reward", "{\"query\": \"a\"}", "query", "no list"},
    {"/get_reward", "{\"query\": [\"one text\"]}", "query[0]", "[SEP]"},
    {"/get_reward", "{\"query\": [\"a\", \"b\"], \"prompts\": [\"a\"]}", "prompts", "as many"},
    {"/get_reward", "{\"query\": [\"a\"], \"prompts\": [1]}", "prompts[0]", "no string"},
    {"/v1/decisions", "{\"questions\": []}", "input", "missing"},
    {"/v1/decisions", "{\"input\": \"a[SEP]b\"}", "questions", "1 to"},
    {"/v1/decisions", "{\"input\": \"a[SEP]b\", \"questions\": [3]}", "questions[0]", "no object"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is the answer "
     "correct?\"}, "
     "{\"type\": \"choice\", \"instructions\": \"Which?\", \"choices\": [{\"value\": true}, {\"value\": false}]}]}",
     "questions[1]", "of type \"predicate\" alone"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"score\", \"instructions\": \"How good?\", \"levels\": "
     "[]}]}",
     "questions[0]", "predicate"},
    {"/v1/decisions", "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\"}]}",
     "questions[0].instructions", "no string"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"name\": 3, \"instructions\": \"Is it "
     "correct?\"}]}",
     "questions[0].name", "no string"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is the customer "
     "angry?\"}]}",
     "questions[0]", "Is the answer correct?"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is the answer not "
     "correct?\"}]}",
     "questions[0]", "something else"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is the spelling "
     "correct?\"}]}",
     "questions[0]", "something else"},
    {"/v1/decisions",
     "{\"input\": \"a[SEP]b\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is this the answer?\"}]}",
     "questions[0]", "something else"},
    {"/v1/decisions",
     "{\"input\": \"one text\", \"questions\": [{\"type\": \"predicate\", \"instructions\": \"Is the answer "
     "correct?\"}]}",
     "input", "two"},
    {"/v1/decisions",
     "{\"input\": [{\"role\": \"user\", \"content\": [{\"type\": \"input_image\", \"image_url\": \"data:\"}]}], "
     "\"questions\": []}",
     "input[0].content[0]", "no part with text"},
    {"/v1/systemone", "{\"questions\": {}}", "state", "missing"},
    {"/v1/systemone", "{\"state\": {\"message\": \"a\"}, \"questions\": {}}", "state", "\"question\" and \"text\""},
    {"/v1/systemone", "{\"state\": [\"a\", \"b\"], \"questions\": []}", "questions", "1 to"},
    {"/v1/systemone",
     "{\"state\": [\"a\", \"b\"], \"questions\": {\"q\": {\"type\": \"choice\", \"criteria\": {\"x\": null}}}}",
     "questions.q", "noul"},
    {"/v1/systemone", "{\"state\": [\"a\", \"b\"], \"questions\": {\"q\": {\"type\": \"noul\"}}}", "questions.q",
     "instructions"},
    {"/v1/systemone",
     "{\"state\": [\"a\", \"b\"], \"questions\": {\"q\": {\"type\": \"noul\", \"instructions\": \"Is it a refund?\"}}}",
     "questions.q", "something else"}};

static void what_cannot_be_scored_is_refused_by_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        json_t *r = post(refusals[i].path, refusals[i].body, 400);
        holds_text(r, "error.type", "invalid_request_error");
        const char *message = json_string_value(member(r, "error.message"));
        const char *param = json_string_value(member(r, "error.param"));
        if (!message || !strstr(message, refusals[i].words))
            fail_msg("%s: \"%s\" does not say \"%s\"", refusals[i].body, message ? message : "", refusals[i].words);
        if ((param != NULL) != (refusals[i].param != NULL) || (param && strcmp(param, refusals[i].param) != 0))
            fail_msg("%s: the param is \"%s\" and not \"%s\"", refusals[i].body, param ? param : "(null)",
                     refusals[i].param ? refusals[i].param : "(null)");
        json_decref(r);
    }
}

static void without_a_critic_that_reads_text_they_are_not_supported(void **state)
{
    (void)state;
    http_close(fixture.server);
    serve_routes(NULL);
    json_t *r = post("/v1/rerank", "{\"query\": \"a\", \"documents\": [\"x\"]}", 501);
    holds_text(r, "error.type", "not_supported_error");
    assert_non_null(strstr(json_string_value(member(r, "error.message")), "--critic"));
    json_decref(r);
}

static void a_client_that_leaves_takes_its_list_along(void **state)
{
    (void)state;
    buffer body = {0}, request = {0};
    assert_int_equal(buffer_puts(&body, "{\"query\": \"a\", \"documents\": [\"x\"", NULL), DRR_OK);
    for (size_t i = 1; i < 9000; i++)
        assert_int_equal(buffer_puts(&body, ",\"unaffable a a a\"", NULL), DRR_OK);
    assert_int_equal(buffer_puts(&body, "]}", NULL), DRR_OK);
    assert_int_equal(buffer_printf(&request, NULL,
                                   "POST /v1/rerank HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s", body.size,
                                   body.data),
                     DRR_OK);
    for (size_t i = 0; i < 20; i++) { /* gone before, while and after it is scored */
        const int s = client_open();
        client_send(s, request.data);
        usleep((unsigned)i * 1000);
        close(s);
    }
    json_t *r = post("/v1/score", "{\"queries\": \"a\", \"documents\": \"x\"}", 200);
    json_decref(r);
    for (size_t i = 0; i < 1000 && http_in_flight(fixture.server); i++)
        usleep(10000);
    assert_int_equal(http_in_flight(fixture.server), 0);
    buffer_clear(&body);
    buffer_clear(&request);
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(rerank_gives_raw_logits_best_first),
        SERVED(rerank_of_texts_is_a_bare_list),
        SERVED(thousands_of_documents_are_ranked_and_more_are_too_many),
        SERVED(classify_tells_accept_from_reject),
        SERVED(score_pairs_one_with_many_or_each_with_its_own),
        SERVED(reward_takes_what_follows_the_prompt),
        SERVED(a_decision_is_whether_the_answer_is_correct),
        SERVED(system_one_is_asked_the_same),
        SERVED(what_cannot_be_scored_is_refused_by_field),
        SERVED(without_a_critic_that_reads_text_they_are_not_supported),
        SERVED(a_client_that_leaves_takes_its_list_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
