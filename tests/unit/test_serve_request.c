/* test_serve_request.c: what the server makes of a request's body before anything is asked: the "drr" object, what is
 * refused, and the question as a critic reads it. */
#include "serve/engine_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static json_t *parsed(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static wishes defaults(void)
{
    wishes w = {.target_error = NAN, .kind = -1, .judge = true};
    engine_policy_defaults(&w.policy);
    return w;
}

static void all_wishes_are_read(void **state)
{
    refusal no = {0};
    wishes w = defaults();
    (void)state;
    json_t *o =
        parsed("{\"max_turns\": 4, \"samples\": 7, \"max_tokens\": 900, \"deadline_ms\": 2500, \"threshold\": 0.6,"
               "\"on_exhausted\": \"best\", \"feedback\": true, \"shadow\": true, \"judge\": false,"
               "\"stream_mode\": \"live\", \"kind\": \"choice\", \"choices\": [\"a\", \"b\"],"
               "\"abstain_as\": \"refusal\", \"abstain_text\": \"pass\", \"target_error\": null}");
    assert_true(wishes_read(&w, o, &no));
    assert_int_equal(w.policy.max_turns, 4);
    assert_int_equal(w.policy.samples, 7);
    assert_int_equal(w.policy.max_tokens, 900);
    assert_int_equal(w.policy.deadline_ms, 2500);
    assert_float_equal(w.policy.threshold, 0.6, 1e-12);
    assert_int_equal(w.policy.on_exhausted, DRR_EXHAUSTED_BEST);
    assert_int_equal(w.policy.feedback, DRR_FEEDBACK_WORDS);
    assert_true(w.policy.shadow && !w.judge && w.policy.live && w.policy.abstain_refusal);
    assert_int_equal(w.kind, DRR_KIND_CHOICE);
    assert_int_equal(json_array_size(w.choices), 2);
    assert_string_equal(w.policy.abstain_text, "pass");
    json_decref(o);
    w = defaults();
    o = parsed("{\"on_reject\": \"abstain\", \"feedback\": \"restart\", \"target_error\": 0.1}");
    assert_true(wishes_read(&w, o, &no));
    assert_int_equal(w.policy.on_exhausted, DRR_EXHAUSTED_ABSTAIN);
    assert_int_equal(w.policy.feedback, DRR_FEEDBACK_RESTART);
    assert_float_equal(w.target_error, 0.1, 1e-12);
    json_decref(o);
}

static void a_bad_wish_is_named(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "drr"},
        {"{\"max_turns\": 0}", "drr.max_turns"},
        {"{\"max_turns\": 33}", "drr.max_turns"},
        {"{\"max_turns\": 2.5}", "drr.max_turns"},
        {"{\"max_turns\": \"3\"}", "drr.max_turns"},
        {"{\"samples\": -1}", "drr.samples"},
        {"{\"max_tokens\": -1}", "drr.max_tokens"},
        {"{\"deadline_ms\": true}", "drr.deadline_ms"},
        {"{\"threshold\": 1.5}", "drr.threshold"},
        {"{\"threshold\": \"high\"}", "drr.threshold"},
        {"{\"target_error\": 0}", "drr.target_error"},
        {"{\"target_error\": 0.1, \"threshold\": 0.5}", "drr.target_error"},
        {"{\"on_exhausted\": \"retry\"}", "drr.on_exhausted"},
        {"{\"feedback\": 1}", "drr.feedback"},
        {"{\"shadow\": \"yes\"}", "drr.shadow"},
        {"{\"judge\": 0}", "drr.judge"},
        {"{\"stream_mode\": \"both\"}", "drr.stream_mode"},
        {"{\"kind\": \"essay\"}", "drr.kind"},
        {"{\"choices\": [\"one\"]}", "drr.choices"},
        {"{\"choices\": [\"one\", 2]}", "drr.choices"},
        {"{\"kind\": \"number\", \"choices\": [\"1\", \"2\"]}", "drr.choices"},
        {"{\"abstain_as\": \"silence\"}", "drr.abstain_as"},
        {"{\"abstain_text\": null, \"abstain\": \"x\"}", "drr.abstain"},
        {"{\"max_turn\": 3}", "drr.max_turn"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refusal no = {0};
        wishes w = defaults();
        json_t *o = parsed(cases[i][0]);
        assert_false(wishes_read(&w, o, &no));
        assert_string_equal(no.param, cases[i][1]);
        assert_int_equal(no.status, 400);
        assert_non_null(strstr(no.message, cases[i][1]));
        json_decref(o);
    }
}

static void a_body_that_cannot_be_is_named(void **state)
{
    static const struct {
        const char *body, *param;
        int status;
        bool embedded;
    } cases[] = {
        {"[1]", "", 400, false},
        {"{}", "messages", 400, false},
        {"{\"messages\": []}", "messages", 400, false},
        {"{\"messages\": [1]}", "messages[0]", 400, false},
        {"{\"messages\": [{\"content\": \"x\"}]}", "messages[0]", 400, false},
        {"{\"model\": 1, \"messages\": [{\"role\": \"user\"}]}", "model", 400, false},
        {"{\"stream\": \"yes\", \"messages\": [{\"role\": \"user\"}]}", "stream", 400, false},
        {"{\"n\": 0, \"messages\": [{\"role\": \"user\"}]}", "n", 400, false},
        {"{\"messages\": [{\"role\": \"user\"}]}", "messages[0]", 400, true},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}", "messages[0]", 400, true},
        {"{\"tools\": [{}], \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "tools", 501, true},
        {"{\"temperature\": 3, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "temperature", 400, true},
        {"{\"max_tokens\": 0, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "max_tokens", 400, true},
        {"{\"stop\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "stop", 400, true},
        {"{\"response_format\": {\"type\": \"json_object\"}, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
         "response_format", 501, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refusal no = {0};
        json_t *body = parsed(cases[i].body);
        assert_false(body_check(body, cases[i].embedded, &no));
        assert_string_equal(no.param, cases[i].param);
        assert_int_equal(no.status, cases[i].status);
        json_decref(body);
    }
    refusal no = {0};
    json_t *fine = parsed("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}]}],"
                          "\"tools\": [], \"stop\": [\"a\", \"b\"], \"anything\": {\"else\": 1}}");
    assert_true(body_check(fine, true, &no) && body_check(fine, false, &no));
    json_decref(fine);
}

/* ---- the question */

static void ask(question *q, const char *content, int kind)
{
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                                 "Be brief.", "role", "user", "content", "Earlier?", "role", "assistant", "content",
                                 "Yes.", "role", "user", "content", content);
    assert_int_equal(question_read(q, messages, kind, NULL), QUESTION_READ);
    json_decref(messages);
}

static void the_question_is_the_last_thing_that_the_user_said(void **state)
{
    question q;
    ask(&q, "Is ice cold?", -1);
    (void)state;
    assert_string_equal(q.text, "Is ice cold?");
    assert_int_equal(q.task.kind, DRR_KIND_BOOLEAN);
    assert_false(q.told);
    question_clear(&q);
}

static void choices_are_found_however_they_are_lettered(void **state)
{
    static const char *const ways[] = {
        "What do bees make?\nA) honey\nB) milk\nC) paper",        "What do bees make?\nA. honey\nB. milk\nC. paper",
        "What do bees make?\n\n(A) honey\n(B) milk\n(C) paper\n", "What do bees make? (A) honey (B) milk (C) paper",
        "What do bees make?\n- A: honey\n- B: milk\n- C: paper",
    };
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        question q;
        ask(&q, ways[i], -1);
        assert_string_equal(q.text, "What do bees make? (A) honey (B) milk (C) paper");
        assert_int_equal(q.task.kind, DRR_KIND_CHOICE);
        assert_int_equal(q.task.n_choices, 3);
        assert_string_equal(q.task.choices[1], "milk");
        question_clear(&q);
    }
    question q;
    ask(&q, "What do bees make?\nA) honey\nB) milk\nAnswer with the letter.", -1);
    assert_string_equal(q.text, "What do bees make? Answer with the letter. (A) honey (B) milk");
    question_clear(&q);
    static const char *const names[] = {"Compare (A) (B) in weight", "Which is it, (A) x (B) (C) ",
                                        "Take (A) \n (B) y"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) { /* nothing stands behind a letter; fuzzing found it */
        ask(&q, names[i], -1);
        assert_int_equal(q.task.n_choices, 0);
        question_clear(&q);
    }
    ask(&q, "Rate plan A) for me", -1); /* one letter is no choice */
    assert_int_equal(q.task.kind, DRR_KIND_TEXT);
    question_clear(&q);
}

static void kinds_are_guessed_from_the_words(void **state)
{
    static const struct {
        const char *text;
        drr_kind kind;
    } cases[] = {
        {"A shelf holds 6 boxes with 9 jars each. How many jars are there?", DRR_KIND_NUMBER},
        {"What is 12 * 7?", DRR_KIND_NUMBER},
        {"Could a grown elephant stand inside a telephone booth?", DRR_KIND_BOOLEAN},
        {"Tom has a dog. Is a dog a mammal?", DRR_KIND_BOOLEAN},
        {"Is it red or blue?", DRR_KIND_TEXT},
        {"Write a function that adds two numbers.", DRR_KIND_CHECKED},
        {"Who wrote Faust?", DRR_KIND_TEXT},
        {"Tell me about the sea.", DRR_KIND_TEXT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        question q;
        ask(&q, cases[i].text, -1);
        assert_int_equal(q.task.kind, cases[i].kind);
        question_clear(&q);
    }
    question q;
    ask(&q, "How many legs has a spider?", DRR_KIND_TEXT);
    assert_true(q.told && q.task.kind == DRR_KIND_TEXT);
    question_clear(&q);
}

static void what_is_not_text_is_not_judged(void **state)
{
    question q;
    json_t *image = parsed("[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"What is this?\"},"
                           "{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:,\"}}]}]");
    json_t *parts = parsed("[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Is ice\"},"
                           "{\"type\": \"text\", \"text\": \"cold?\"}]}]");
    json_t *nobody = parsed("[{\"role\": \"system\", \"content\": \"Be brief.\"}]");
    (void)state;
    assert_int_equal(question_read(&q, image, -1, NULL), QUESTION_OTHER);
    question_clear(&q);
    assert_int_equal(question_read(&q, nobody, -1, NULL), QUESTION_NONE);
    question_clear(&q);
    assert_int_equal(question_read(&q, parts, -1, NULL), QUESTION_READ);
    assert_string_equal(q.text, "Is ice\ncold?");
    question_clear(&q);
    json_decref(image);
    json_decref(parts);
    json_decref(nobody);
}

static void choices_can_be_told(void **state)
{
    question q;
    json_t *messages = parsed("[{\"role\": \"user\", \"content\": \"Pick one.\"}]"),
           *choices = parsed("[\"x\", \"y\"]");
    (void)state;
    assert_int_equal(question_read(&q, messages, -1, choices), QUESTION_READ);
    assert_string_equal(q.text, "Pick one. (A) x (B) y");
    assert_true(q.told && q.task.kind == DRR_KIND_CHOICE);
    question_clear(&q);
    json_decref(messages);
    json_decref(choices);
}

static void json_strings_are_always_sound(void **state)
{
    static const char raw[] = "a\"b\\c\nd\te\x01\xff\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x9d\xed\xa0\x80";
    buffer b = {0};
    (void)state;
    assert_int_equal(put_json_string(&b, raw, sizeof raw - 1), DRR_OK);
    assert_string_equal(b.data, "\"a\\\"b\\\\c\\nd\\u0009e\\u0001\\ufffd\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x9d"
                                "\\ufffd\\ufffd\\ufffd\"");
    json_decref(parsed(b.data));
    buffer_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_wishes_are_read),
        cmocka_unit_test(a_bad_wish_is_named),
        cmocka_unit_test(a_body_that_cannot_be_is_named),
        cmocka_unit_test(the_question_is_the_last_thing_that_the_user_said),
        cmocka_unit_test(choices_are_found_however_they_are_lettered),
        cmocka_unit_test(kinds_are_guessed_from_the_words),
        cmocka_unit_test(what_is_not_text_is_not_judged),
        cmocka_unit_test(choices_can_be_told),
        cmocka_unit_test(json_strings_are_always_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
