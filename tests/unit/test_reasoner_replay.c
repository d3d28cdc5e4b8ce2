/* test_reasoner_replay.c: recorded answers as a reasoner: which record a sample is, which records count, and what is
 * said about files and questions that do not fit. */
#include "core/json.h"
#include "reasoner/reasoner.h"
#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-replay-XXXXXX";
static char path[96];

static drr_status open_text(drr_reasoner **r, const char *text, const drr_reasoner_options *options, drr_error *err)
{
    *r = NULL;
    assert_int_equal(file_write_all(path, text, strlen(text), NULL), DRR_OK);
    return drr_reasoner_open(r, path, options, err);
}

static drr_reasoner *opened(const char *text, const drr_reasoner_options *options)
{
    drr_reasoner *r = NULL;
    drr_error err = {0};
    if (open_text(&r, text, options, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return r;
}

static void refused(const char *text, const drr_reasoner_options *options, drr_status status, const char *words)
{
    drr_reasoner *r = NULL;
    drr_error err = {0};
    assert_int_equal(open_text(&r, text, options, &err), status);
    assert_null(r);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

/* Asks and takes what comes; the caller clears it. */
static reasoner_completion ask(drr_reasoner *r, const char *question, uint32_t sample)
{
    static const drr_message messages[] = {{"system", "12345678"}, {"user", "1234"}};
    const reasoner_request request = {
        .tag = 7 + sample, .messages = messages, .n_messages = 2, .question = question, .sample = sample};
    reasoner_completion c = {0};
    assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
    assert_int_equal(reasoner_next(r, &c, NULL), DRR_OK);
    assert_int_equal(c.tag, 7 + sample);
    return c;
}

/* The answers to samples 0..n-1, written one after the other: each is one letter. */
static void letters(char *out, drr_reasoner *r, const char *question, uint32_t n)
{
    for (uint32_t s = 0; s < n; s++) {
        reasoner_completion c = ask(r, question, s);
        assert_int_equal(c.finish, DRR_FINISH_STOP);
        assert_int_equal(strlen(c.text), 1);
        out[s] = c.text[0];
        reasoner_completion_clear(&c);
    }
    out[n] = '\0';
}

#define LINE(question, text, more) "{\"question\":\"" question "\",\"text\":\"" text "\",\"reasoner\":\"r1\"" more "}\n"

static const char eight[] = LINE("one?", "a", "") LINE("two?", "z", "") LINE("one?", "b", "") LINE("one?", "c", "")
    LINE("one?", "d", "") LINE("one?", "e", "") LINE("on", "y", "") LINE("one?", "f", "");

static int compare_chars(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static void samples_are_the_records_in_an_order_of_the_seed(void **state)
{
    (void)state;
    drr_reasoner_options options;
    char first[16], again[16], orders[8][16];
    size_t n_like_first = 0;
    drr_reasoner_options_defaults(&options);
    for (uint64_t seed = 0; seed < 8; seed++) {
        options.seed = seed;
        drr_reasoner *r = opened(eight, &options);
        letters(first, r, "one?", 6);
        letters(again, r, "one?", 6);
        assert_string_equal(first, again); /* asking changes nothing */
        drr_reasoner_close(r);
        r = opened(eight, &options);
        letters(again, r, "one?", 6);
        assert_string_equal(first, again); /* nor does opening again */
        drr_reasoner_close(r);
        strcpy(orders[seed], first);
        n_like_first += strcmp(orders[0], first) == 0;
        qsort(first, 6, 1, compare_chars);
        assert_string_equal(first, "abcdef"); /* each record once */
    }
    assert_true(n_like_first < 4);
}

static void after_the_last_record_comes_the_first_again(void **state)
{
    (void)state;
    char six[16], twelve[16];
    drr_reasoner *r = opened(eight, NULL);
    letters(six, r, "one?", 6);
    letters(twelve, r, "one?", 12);
    assert_memory_equal(twelve, six, 6);
    assert_memory_equal(twelve + 6, six, 6);
    letters(six, r, "two?", 3);
    assert_string_equal(six, "zzz");
    letters(six, r, "on", 1); /* how another question begins */
    assert_string_equal(six, "y");
    drr_reasoner_close(r);
}

static void a_later_turn_is_another_sample(void **state)
{
    (void)state;
    char six[16];
    drr_reasoner *r = opened(eight, NULL);
    letters(six, r, "one?", 6);
    for (uint32_t turn = 1; turn < 4; turn++) { /* sample 1, as reasoner_request numbers its turns */
        reasoner_completion c = ask(r, "one?", 1 + 1000 * turn);
        assert_int_equal(c.text[0], six[1 + turn]);
        reasoner_completion_clear(&c);
    }
    drr_reasoner_close(r);
}

static void an_unknown_question_fails_with_a_sentence(void **state)
{
    (void)state;
    static const char *const unknown[] = {"three?", "one", "one??", "", NULL, "zzz?"};
    drr_reasoner *r = opened(eight, NULL);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        reasoner_completion c = ask(r, unknown[i], 0);
        assert_int_equal(c.finish, DRR_FINISH_FAILED);
        assert_null(c.text);
        assert_non_null(strstr(c.failure, "has no answer to"));
        assert_non_null(strstr(c.failure, path));
        assert_non_null(strstr(c.failure, unknown[i] ? unknown[i] : "\"\""));
        reasoner_completion_clear(&c);
    }
    reasoner_completion c = ask(r, "two?", 0); /* and the next one is answered */
    assert_string_equal(c.text, "z");
    reasoner_completion_clear(&c);
    drr_reasoner_close(r);
}

static void token_counts_are_estimates_and_probabilities_are_not_known(void **state)
{
    (void)state;
    drr_reasoner *r = opened(LINE("one?", "123456789", ""), NULL);
    reasoner_completion c = ask(r, "one?", 0);
    assert_int_equal(c.n_tokens, 3); /* four bytes each, begun ones count */
    assert_int_equal(c.n_prompt_tokens, 3);
    assert_null(c.tokens);
    assert_int_equal(c.n_token_stats, 0);
    reasoner_completion_clear(&c);
    drr_reasoner_close(r);
}

static void what_is_submitted_comes_back_once_or_is_dropped(void **state)
{
    (void)state;
    drr_reasoner *r = opened(eight, NULL);
    reasoner_completion c = {0};
    bool seen[200] = {false};
    for (uint64_t tag = 0; tag < 200; tag++) { /* more than its room at first */
        const reasoner_request request = {.tag = tag, .question = tag % 5 ? "one?" : "nobody?"};
        assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
    }
    assert_int_equal(reasoner_pending(r), 200);
    for (size_t i = 0; i < 150; i++) {
        assert_int_equal(reasoner_next(r, &c, NULL), DRR_OK);
        assert_false(seen[c.tag]);
        seen[c.tag] = true;
        assert_int_equal(c.finish, c.tag % 5 ? DRR_FINISH_STOP : DRR_FINISH_FAILED);
        reasoner_completion_clear(&c);
    }
    reasoner_cancel(r);
    assert_int_equal(reasoner_pending(r), 0);
    assert_int_equal(reasoner_next(r, &c, NULL), DRR_E_EMPTY);
    const reasoner_request left = {.question = "one?"};
    assert_int_equal(reasoner_submit(r, &left, NULL), DRR_OK); /* closing frees what nobody took */
    drr_reasoner_close(r);
}

/* ---- which records count */

#define OF(reasoner, prompt, text)                                                                                     \
    "{\"question\":\"one?\",\"text\":\"" text "\",\"reasoner\":\"" reasoner "\",\"prompt\":\"" prompt "\"}\n"

static const char mixed[] = OF("r1", "p1", "a") OF("r1", "p2", "b") OF("r2", "p1", "c") OF("r2", "p2", "d");

static void of_several_reasoners_one_must_be_chosen(void **state)
{
    (void)state;
    drr_reasoner_options options;
    char two[4];
    refused(mixed, NULL, DRR_E_ARGUMENT, "the file holds answers of r1 and of r2");
    refused(mixed, NULL, DRR_E_ARGUMENT, "--replay-reasoner");
    refused(mixed, NULL, DRR_E_ARGUMENT, "replay.jsonl:3");
    drr_reasoner_options_defaults(&options);
    options.replay_reasoner = "r2";
    drr_reasoner *r = opened(mixed, &options);
    assert_string_equal(drr_reasoner_id(r), "r2@replay");
    assert_non_null(strstr(drr_reasoner_describe(r), "2 recorded answers of r2"));
    letters(two, r, "one?", 2);
    qsort(two, 2, 1, compare_chars);
    assert_string_equal(two, "cd");
    drr_reasoner_close(r);
    options.replay_reasoner = "r3";
    refused(mixed, &options, DRR_E_EMPTY, "no fresh answer of reasoner r3");
}

static void only_answers_to_the_prompt_that_was_asked_for_count(void **state)
{
    (void)state;
    drr_reasoner_options options;
    char three[4];
    drr_reasoner_options_defaults(&options);
    options.replay_reasoner = "r1";
    options.replay_prompt = "p2";
    drr_reasoner *r = opened(mixed, &options);
    letters(three, r, "one?", 3);
    assert_string_equal(three, "bbb");
    drr_reasoner_close(r);
    options.replay_prompt = "p3";
    refused(mixed, &options, DRR_E_EMPTY, "to prompt p3");
    refused(eight, &options, DRR_E_EMPTY, "to prompt p3"); /* records that name no prompt */
}

static void retries_in_an_export_of_drr_are_left_out(void **state)
{
    (void)state;
    char store_path[96], two[4];
    drr_store *store = NULL;
    drr_trace t = {.task = (char *)(uintptr_t) "t",
                   .id = (char *)(uintptr_t) "1",
                   .question = (char *)(uintptr_t) "one?",
                   .gold = (char *)(uintptr_t) "7",
                   .kind = DRR_KIND_NUMBER,
                   .reasoner = (char *)(uintptr_t) "r1",
                   .prompt = (char *)(uintptr_t) "p1"};
    trace_token_stats_unknown(&t.stats);
    snprintf(store_path, sizeof store_path, "%s/store.db", folder);
    assert_int_equal(drr_store_open(&store, store_path, true, NULL), DRR_OK);
    static const char *const texts[] = {"a", "x", "b", "y"};
    for (uint32_t i = 0; i < 4; i++) {
        t.sample = i / 2;
        t.turn = i % 2;
        t.text = (char *)(uintptr_t)texts[i];
        assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    }
    for (int gzip = 0; gzip < 2; gzip++) {
        char export[128];
        drr_reasoner *r = NULL;
        snprintf(export, sizeof export, "%s/export.jsonl%s", folder, gzip ? ".gz" : "");
        assert_int_equal(drr_store_export(store, NULL, export, NULL, NULL), DRR_OK);
        assert_int_equal(drr_reasoner_open(&r, export, NULL, NULL), DRR_OK);
        letters(two, r, "one?", 2);
        qsort(two, 2, 1, compare_chars);
        assert_string_equal(two, "ab");
        letters(two, r, "one?", 3);
        assert_int_equal(two[0], two[2]); /* there are two, and no more */
        drr_reasoner_close(r);
        unlink(export);
    }
    drr_store_close(store);
    unlink(store_path);
    refused(LINE("one?", "x", ",\"turn\":1"), NULL, DRR_E_EMPTY, "no fresh answer");
}

/* ---- files that are not right */

static void what_is_broken_is_named_by_file_and_line(void **state)
{
    (void)state;
    static const char good[] = LINE("one?", "a", "");
    static const char *const bad[] = {"{\"question\":\"one?\",",
                                      "{\"question\":\"one?\",\"text\":\"a\"}",
                                      "{\"question\":\"one?\",\"text\":5,\"reasoner\":\"r1\"}",
                                      "{\"text\":\"a\",\"reasoner\":\"r1\"}",
                                      "[1,2]",
                                      "7",
                                      "nonsense",
                                      "{\"question\":\"\xff\",\"text\":\"a\",\"reasoner\":\"r1\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s\n%s%s\n%s", good, good, bad[i], good); /* line 2 is empty, and is fine */
        refused(text, NULL, DRR_E_FORMAT, "replay.jsonl:4");
    }
}

static void blank_lines_are_passed_over(void **state)
{
    (void)state;
    char two[4];
    drr_reasoner *r = opened("\n  \n\t\r\n" LINE("one?", "a", "") "\r\n \n", NULL);
    letters(two, r, "one?", 2);
    assert_string_equal(two, "aa");
    drr_reasoner_close(r);
}

static void an_empty_file_says_that_it_holds_nothing(void **state)
{
    (void)state;
    drr_reasoner *r = NULL;
    drr_error err = {0};
    refused("", NULL, DRR_E_EMPTY, "replay.jsonl holds no fresh answer");
    refused("\n\n", NULL, DRR_E_EMPTY, "replay.jsonl holds no fresh answer");
    unlink(path);
    assert_int_not_equal(drr_reasoner_open(&r, path, NULL, &err), DRR_OK);
    assert_non_null(strstr(err.message, "replay.jsonl"));
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/replay.jsonl", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_the_records_in_an_order_of_the_seed),
        cmocka_unit_test(after_the_last_record_comes_the_first_again),
        cmocka_unit_test(a_later_turn_is_another_sample),
        cmocka_unit_test(an_unknown_question_fails_with_a_sentence),
        cmocka_unit_test(token_counts_are_estimates_and_probabilities_are_not_known),
        cmocka_unit_test(what_is_submitted_comes_back_once_or_is_dropped),
        cmocka_unit_test(of_several_reasoners_one_must_be_chosen),
        cmocka_unit_test(only_answers_to_the_prompt_that_was_asked_for_count),
        cmocka_unit_test(retries_in_an_export_of_drr_are_left_out),
        cmocka_unit_test(what_is_broken_is_named_by_file_and_line),
        cmocka_unit_test(blank_lines_are_passed_over),
        cmocka_unit_test(an_empty_file_says_that_it_holds_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
