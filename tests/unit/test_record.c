/* test_record.c: what a server records: named fields are taken out wherever they hide, turns become traces that no
 * training takes for labelled, and neither a full disk nor a slow one is more than a loss that is counted. */
#include "serve/record.h"
#include "serve/record_redact.h"
#include "trace/trace.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-record-XXXXXX";
static char path[96];

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void remove_files(void)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char name[128];
    snprintf(path, sizeof path, "%s/served.db", folder);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        unlink(name);
    }
}

static int remove_folder(void **state)
{
    (void)state;
    remove_files();
    return rmdir(folder);
}

/* ---- redaction */

static const char *const names[] = {"ssn", "e-mail", "notes"};

/* `text` without what `names` hold in it and in `request`; the caller frees it. */
static char *redacted(const char *request, const char *text)
{
    redaction r = {.names = names, .n_names = sizeof names / sizeof *names};
    char *copy = string_copy(text);
    json_t *body = request ? json_loads(request, 0, NULL) : NULL;
    assert_true(!request || body);
    assert_int_equal(redaction_learn(&r, body, NULL), DRR_OK);
    assert_int_equal(redaction_apply(&r, &copy, NULL), DRR_OK);
    redaction_clear(&r);
    json_decref(body);
    return copy;
}

static void expect_redacted(const char *request, const char *text, const char *expected)
{
    char *result = redacted(request, text);
    assert_string_equal(result, expected);
    free(result);
}

static void members_are_found_anywhere_in_a_text(void **state)
{
    (void)state;
    expect_redacted(NULL, "plain words", "plain words");
    expect_redacted(NULL, "", "");
    expect_redacted(NULL, "Look: {\"ssn\": \"123-45\", \"age\": 7} ok?",
                    "Look: {\"ssn\": \"[redacted]\", \"age\": 7} ok?");
    expect_redacted(NULL, "{\"a\":[{\"SSN\":12345}]}", "{\"a\":[{\"SSN\":\"[redacted]\"}]}");
    expect_redacted(NULL, "{\"notes\": {\"x\": [1, \"}\"]}, \"b\": 2}", "{\"notes\": \"[redacted]\", \"b\": 2}");
    expect_redacted(NULL, "{\"notes\":[[1],{\"y\":\"\\\"]\"}],\"b\":2}", "{\"notes\":\"[redacted]\",\"b\":2}");
    expect_redacted(NULL, "{\"ssn\":\"a\\\"b\\\\\",\"b\":1}", "{\"ssn\":\"[redacted]\",\"b\":1}");
    expect_redacted(NULL, "{\"s\\u0073n\" : null}", "{\"s\\u0073n\" : \"[redacted]\"}");
    expect_redacted(NULL, "the word \"ssn\" alone, \"ssn\"", "the word \"ssn\" alone, \"ssn\"");
    expect_redacted(NULL, "a 5\" pipe {\"ssn\": \"9\"}", "a 5\" pipe {\"ssn\": \"[redacted]\"}");
    expect_redacted(NULL, "{\"ssn\": \"1\", \"ssn\": \"2\"}", "{\"ssn\": \"[redacted]\", \"ssn\": \"[redacted]\"}");
}

static void json_within_strings_is_json_too(void **state)
{
    (void)state;
    expect_redacted(NULL, "{\"args\":\"{\\\"ssn\\\": \\\"1\\\\\\\"2\\\", \\\"b\\\": 1}\",\"c\":2}",
                    "{\"args\":\"{\\\"ssn\\\": \\\"[redacted]\\\", \\\"b\\\": 1}\",\"c\":2}");
    expect_redacted(NULL, "\"{\\n  \\\"ssn\\\":\\n 77\\n}\"", "\"{\\n  \\\"ssn\\\":\\n \\\"[redacted]\\\"\\n}\"");
    /* and once more, as json.dumps makes it of itself */
    json_t *inner = json_pack("{s:s,s:s}", "ssn", "one \"two\" \\", "keep", "k");
    char *one = json_dumps(inner, 0);
    json_t *middle = json_pack("{s:s}", "in", one);
    char *two = json_dumps(middle, 0);
    json_t *outer = json_pack("{s:s}", "in", two);
    char *three = json_dumps(outer, 0), *result = redacted(NULL, three);
    json_t *back = json_loads(result, 0, NULL);
    json_t *back_middle = json_loads(json_string_value(json_object_get(back, "in")), 0, NULL);
    json_t *back_inner = json_loads(json_string_value(json_object_get(back_middle, "in")), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(back_inner, "ssn")), "[redacted]");
    assert_string_equal(json_string_value(json_object_get(back_inner, "keep")), "k");
    json_t *const values[] = {inner, middle, outer, back, back_middle, back_inner};
    for (size_t i = 0; i < 6; i++)
        json_decref(values[i]);
    char *const texts[] = {one, two, three, result};
    for (size_t i = 0; i < 4; i++)
        free(texts[i]);
}

static void a_value_that_does_not_end_takes_the_rest(void **state)
{
    (void)state;
    expect_redacted(NULL, "{\"ssn\": \"12345", "{\"ssn\": \"[redacted]\"");
    expect_redacted(NULL, "{\"notes\": {\"a\": [1, 2", "{\"notes\": \"[redacted]\"");
    expect_redacted(NULL, "{\"ssn\":", "{\"ssn\":\"[redacted]\"");
    expect_redacted(NULL, "\"{\\\"ssn\\\": \\\"123\", \"then\"", "\"{\\\"ssn\\\": \\\"[redacted]\\\"\", \"then\"");
    expect_redacted(NULL, "\"ssn\\u", "\"ssn\\u");
    expect_redacted(NULL, "\"\\u1\":\"ssn\":\"x", "\"\\u1\":\"ssn\":\"[redacted]\"");
}

static void what_the_request_holds_is_taken_out_wherever_it_is_repeated(void **state)
{
    (void)state;
    const char *request = "{\"messages\":[{\"role\":\"user\",\"content\":\"{\\\"ssn\\\": \\\"123-45-678\\\", "
                          "\\\"q\\\": \\\"Who?\\\"}\"}],"
                          "\"metadata\":{\"e-mail\":[\"ann@example.org\"],\"ssn\":9876543}, \"notes\":\"yes\"}";
    expect_redacted(request, "Her number is 123-45-678, write to ann@example.org or 9876543.",
                    "Her number is [redacted], write to [redacted] or [redacted].");
    expect_redacted(request, "yes, she said", "yes, she said"); /* too short to be looked for within a text */
    expect_redacted(request, "yes", "[redacted]");              /* but it may be all of one */
    expect_redacted("{\"ssn\":\"two\\nlines\"}", "\"two\\nlines\" are two\nlines", "\"[redacted]\" are [redacted]");
    expect_redacted("{\"ssn\":\"secret\",\"notes\":\"secret words\"}", "secret words", "[redacted]");
}

static void a_request_full_of_values_loses_its_texts_whole(void **state)
{
    (void)state;
    json_t *list = json_array();
    for (int i = 0; i < 1001; i++)
        json_array_append_new(list, json_integer(100000 + i));
    json_t *request = json_pack("{s:o}", "ssn", list);
    char *text = json_dumps(request, 0);
    expect_redacted(text, "anything", "[redacted]");
    free(text);
    json_decref(request);
}

/* An object with the secret somewhere in it, deep, and now and then within JSON in a string. */
static json_t *nested(rng *r, int depth)
{
    static const char *const words[] = {"a", "q\"", "b\\", "", "\n", "{", "ssn ", "\xc3\xa9", "x\":\"y", "]"};
    enum { N = sizeof words / sizeof *words };
    json_t *o = json_object(), *inner = NULL;
    for (uint64_t i = rng_below(r, 3); i > 0; i--)
        json_object_set_new(o, words[rng_below(r, N)], json_string(words[rng_below(r, N)]));
    if (depth == 0) {
        const char *name = rng_below(r, 2) ? "ssn" : "Notes";
        if (rng_below(r, 3) == 0)
            json_object_set_new(o, name, json_pack("[s,{s:s}]", words[rng_below(r, N)], "z", "SECRET"));
        else
            json_object_set_new(o, name, json_sprintf("%sSECRET%s", words[rng_below(r, N)], words[rng_below(r, N)]));
        return o;
    }
    inner = nested(r, depth - 1);
    if (rng_below(r, 2)) {
        char *text = json_dumps(inner, rng_below(r, 2) ? JSON_INDENT(1) : JSON_COMPACT);
        json_decref(inner);
        inner = json_sprintf("%s%s%s", words[rng_below(r, N)], text, words[rng_below(r, N)]);
        free(text);
    }
    json_object_set_new(o, words[rng_below(r, N)], inner);
    return o;
}

static void a_secret_is_found_however_deep(void **state)
{
    (void)state;
    static const char *const around[] = {"", "5\" wide: ", "He said \"no\". ", "```json\n", "\\", "{\"", ": "};
    rng r;
    rng_seed(&r, 7);
    for (int i = 0; i < 5000; i++) {
        json_t *o = nested(&r, (int)rng_below(&r, 5));
        char *inner = json_dumps(o, rng_below(&r, 2) ? JSON_INDENT(2) : 0);
        buffer text = {0};
        assert_int_equal(
            buffer_printf(&text, NULL, "%s%s%s", around[rng_below(&r, 7)], inner, around[rng_below(&r, 7)]), DRR_OK);
        char *result = redacted(NULL, text.data);
        if (strstr(result, "SECRET"))
            fail_msg("%s\nbecame\n%s", text.data, result);
        free(result);
        buffer_clear(&text);
        free(inner);
        json_decref(o);
    }
}

static void hostile_texts_take_no_time(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    static const char *const pieces[] = {"{\"a\":",      "\"",         "\\\"",     "\\",
                                         "[{\"ssn\":\"", "{\"ssn\":{", "\\\\\\\"", "\"ssn\":\"\\\""};
    char *text = malloc(N + 1);
    const double begun = clock_seconds();
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        const size_t length = strlen(pieces[p]);
        for (size_t i = 0; i < N; i++)
            text[i] = pieces[p][i % length];
        text[N] = '\0';
        free(redacted(NULL, text));
    }
    free(text);
    assert_true(clock_seconds() - begun < 20);
}

/* ---- recording */

typedef struct heard {
    int n;
    char last[1100];
} heard;

static void hear(void *user, drr_log_level level, const char *message)
{
    heard *h = user;
    assert_int_equal(level, DRR_LOG_WARN);
    h->n++;
    snprintf(h->last, sizeof h->last, "%s", message);
}

static recorder *open_recorder(const recorder_options *changes, heard *h)
{
    recorder_options options;
    recorder_options_defaults(&options);
    const drr_hooks hooks = {.log = hear, .user = h};
    recorder *r = NULL;
    drr_error err = {0};
    const size_t queue = options.queue_bytes;
    if (changes)
        options = *changes;
    if (!options.queue_bytes)
        options.queue_bytes = queue;
    options.store = path;
    if (recorder_open(&r, &options, &hooks, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return r;
}

/* How many turns /metrics says were written, or lost. */
static int counted(metrics *counts, const char *result)
{
    char name[64];
    buffer text = {0};
    snprintf(name, sizeof name, "drr_recorded_turns_total{result=\"%s\"} ", result);
    assert_int_equal(metrics_text(&text, counts, NULL), DRR_OK);
    const char *at = strstr(text.data, name);
    const int n = at ? (int)strtol(at + strlen(name), NULL, 10) : -1;
    buffer_clear(&text);
    return n;
}

static const engine_turn two_turns[] = {
    {.text = "I think 4.\nAnswer: 4",
     .answer = "4",
     .logit = -1,
     .p_correct = 0.3,
     .verdict = DRR_VERDICT_REJECT,
     .n_prompt_tokens = 11,
     .n_tokens = 7,
     .seconds = 0.5},
    {.text = "It is 5.\nAnswer: 5",
     .answer = "5",
     .logit = 2,
     .p_correct = 0.9,
     .verdict = DRR_VERDICT_ACCEPT,
     .feedback = "That is wrong.",
     .n_prompt_tokens = 30,
     .n_tokens = 8,
     .seconds = 0.25},
};

static engine_record record_of(const char *id)
{
    return (engine_record){.id = id,
                           .model = "m",
                           .question = "2 + 3?",
                           .outcome = "accept",
                           .kind = DRR_KIND_NUMBER,
                           .turns = two_turns,
                           .n_turns = 2,
                           .answer = "5",
                           .p_correct = 0.9,
                           .threshold = 0.5,
                           .seconds = 0.8};
}

typedef struct seen {
    drr_trace traces[16];
    size_t n;
} seen;

static bool see(void *user, const drr_trace *trace)
{
    seen *s = user;
    assert_true(s->n < 16);
    assert_int_equal(trace_copy(&s->traces[s->n++], trace, NULL), DRR_OK);
    return true;
}

static seen read_back(void)
{
    seen s = {0};
    drr_store *store = NULL;
    assert_int_equal(drr_store_open(&store, path, false, NULL), DRR_OK);
    assert_int_equal(drr_store_each(store, NULL, see, &s, NULL), DRR_OK);
    drr_store_close(store);
    return s;
}

static void let_go(seen *s)
{
    for (size_t i = 0; i < s->n; i++)
        drr_trace_clear(&s->traces[i]);
}

static void a_request_becomes_unlabelled_traces(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    recorder *r = open_recorder(&(recorder_options){.upstream = "http://127.0.0.1:8080/v1"}, &h);
    const engine_record record = record_of("req-1");
    recorder_put(r, &record);
    recorder_close(r);
    seen s = read_back();
    assert_int_equal(s.n, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const drr_trace *t = &s.traces[i];
        assert_string_equal(t->task, "served");
        assert_string_equal(t->id, "req-1");
        assert_string_equal(t->question, "2 + 3?");
        assert_string_equal(t->reasoner, "m@127.0.0.1:8080");
        assert_string_equal(t->gold, "");
        assert_int_equal(t->kind, DRR_KIND_NUMBER);
        assert_int_equal(t->label, DRR_LABEL_UNLABELLED);
        assert_int_equal(t->sample, 0);
        assert_int_equal(t->turn, i);
        assert_string_equal(t->text, two_turns[i].text);
        assert_string_equal(t->answer, two_turns[i].answer);
        assert_int_equal(t->n_tokens, two_turns[i].n_tokens);
        assert_true(t->seconds == two_turns[i].seconds);
        assert_true(isnan(t->temperature));
        assert_int_equal(t->stats.n, 0);
    }
    assert_null(s.traces[0].feedback);
    assert_string_equal(s.traces[1].feedback, "That is wrong.");
    let_go(&s);
    assert_int_equal(h.n, 0);
}

static void turns_asked_afresh_are_samples_and_failed_ones_are_left_out(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    recorder *r = open_recorder(&(recorder_options){.reasoner = "small@0123abcd"}, &h);
    const engine_turn turns[] = {{.text = "a"}, {.text = NULL}, {.text = "b"}, {.text = "c", .feedback = "No."}};
    engine_record record = record_of("req-2");
    record.turns = turns;
    record.n_turns = 4;
    recorder_put(r, &record);
    record.n_turns = 0;
    recorder_put(r, &record);
    recorder_close(r);
    seen s = read_back();
    assert_int_equal(s.n, 3);
    static const uint32_t places[][2] = {{0, 0}, {1, 0}, {1, 1}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(s.traces[i].sample, places[i][0]);
        assert_int_equal(s.traces[i].turn, places[i][1]);
        assert_string_equal(s.traces[i].reasoner, "small@0123abcd");
    }
    let_go(&s);
}

static void an_id_that_comes_twice_is_two_requests(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    recorder *r = open_recorder(NULL, &h);
    engine_record record = record_of("same");
    record.n_turns = 1;
    recorder_put(r, &record);
    record.n_turns = 2;
    recorder_put(r, &record);
    recorder_put(r, &record);
    recorder_close(r);
    seen s = read_back();
    assert_int_equal(s.n, 5);
    static const char *const ids[] = {"same", "same~2", "same~2", "same~3", "same~3"};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(s.traces[i].id, ids[i]);
    let_go(&s);
}

/* Do the bytes stand anywhere in the store's files? */
static bool files_hold(const char *words)
{
    bool held = false;
    for (int i = 0; i < 2; i++) {
        char name[128], *data = NULL;
        size_t size = 0;
        snprintf(name, sizeof name, "%s%s", path, i ? "-wal" : "");
        if (file_read(&data, &size, name, 0, NULL) == DRR_OK)
            held = held || memmem(data, size, words, strlen(words));
        free(data);
    }
    return held;
}

static void redacted_words_never_reach_the_disk(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    static const char *const fields[] = {"ssn"};
    recorder *r = open_recorder(&(recorder_options){.redact = fields, .n_redact = 1}, &h);
    const engine_turn turns[] = {
        {.text = "The number 555-66-7777 is hers.\nAnswer: 555-66-7777", .answer = "555-66-7777"},
        {.text = "Her {\"ssn\": \"888", .answer = NULL, .feedback = "555-66-7777 is wrong."}};
    engine_record record = record_of("req-3");
    json_t *request = json_pack("{s:[{s:s,s:s}]}", "messages", "role", "user", "content",
                                "{\"ssn\": \"555-66-7777\", \"name\": \"Ann\"} Whose is it?");
    record.request = request;
    record.question =
        json_string_value(json_object_get(json_array_get(json_object_get(request, "messages"), 0), "content"));
    record.turns = turns;
    recorder_put(r, &record);
    json_decref(request); /* it was the caller's */
    for (uint64_t n = 0, lost = 0; n < 2;) {
        recorder_counts(r, &n, &lost);
        assert_int_equal(lost, 0);
        usleep(1000);
    }
    assert_true(files_hold("Whose is it?")); /* while the log is still there */
    assert_false(files_hold("555-66-7777"));
    assert_false(files_hold("888"));
    recorder_close(r);
    assert_false(files_hold("555-66-7777"));
    seen s = read_back();
    assert_int_equal(s.n, 2);
    assert_string_equal(s.traces[0].question, "{\"ssn\": \"[redacted]\", \"name\": \"Ann\"} Whose is it?");
    assert_string_equal(s.traces[0].text, "The number [redacted] is hers.\nAnswer: [redacted]");
    assert_string_equal(s.traces[0].answer, "[redacted]");
    assert_string_equal(s.traces[1].feedback, "[redacted] is wrong.");
    let_go(&s);
}

static void what_the_disk_is_too_slow_for_is_counted(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    metrics *counts = NULL;
    assert_int_equal(metrics_new(&counts, NULL), DRR_OK);
    recorder *r = open_recorder(&(recorder_options){.queue_bytes = 64, .counts = counts}, &h);
    const engine_record record = record_of("req-4");
    uint64_t written = 0, lost = 0;
    recorder_put(r, &record);
    recorder_put(r, &record);
    recorder_counts(r, &written, &lost);
    assert_int_equal(written, 0);
    assert_int_equal(lost, 4);
    assert_int_equal(counted(counts, "lost"), 4);
    recorder_close(r);
    assert_int_equal(counted(counts, "written"), 0);
    metrics_free(counts);
    assert_int_equal(h.n, 1); /* one warning, not one a request */
    assert_non_null(strstr(h.last, "slower than the traffic"));
}

static void what_had_no_question_is_no_trace(void **state)
{
    (void)state;
    remove_files();
    heard h = {0};
    recorder *r = open_recorder(NULL, &h);
    engine_record record = record_of("passed");
    record.question = ""; /* tools, say: it went through unread */
    recorder_put(r, &record);
    record = record_of("judged");
    recorder_put(r, &record);
    recorder_close(r);
    assert_int_equal(h.n, 0);
    seen s = read_back();
    assert_int_equal(s.n, 2);
    assert_string_equal(s.traces[0].id, "judged");
    let_go(&s);
}

/* In a process of its own, whose files may not grow. */
static int record_on_a_full_disk(void)
{
    heard h = {0};
    recorder *r = open_recorder(NULL, &h);
    engine_record record = record_of("before");
    uint64_t written = 0, lost = 0;
    recorder_put(r, &record);
    while (written < 2)
        recorder_counts(r, &written, &lost);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 1;
    setrlimit(RLIMIT_FSIZE, &limit);
    for (int i = 0; i < 3; i++) {
        char id[16];
        snprintf(id, sizeof id, "full-%d", i);
        record.id = id;
        recorder_put(r, &record);
        for (uint64_t before = lost; lost == before;)
            recorder_counts(r, &written, &lost);
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    record.id = "after";
    recorder_put(r, &record);
    while (written < 4)
        recorder_counts(r, &written, &lost);
    recorder_close(r);
    return lost == 6 && h.n == 1 ? 0 : 1;
}

static void a_full_disk_costs_what_comes_meanwhile_and_no_more(void **state)
{
    (void)state;
    remove_files();
    const pid_t child = fork();
    if (child == 0)
        _exit(record_on_a_full_disk());
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    seen s = read_back();
    assert_int_equal(s.n, 4);
    assert_string_equal(s.traces[0].id, "after");
    assert_string_equal(s.traces[2].id, "before");
    let_go(&s);
}

static void what_cannot_be_opened_is_said(void **state)
{
    (void)state;
    remove_files();
    recorder *r = NULL;
    drr_error err = {0};
    static const char *const nameless[] = {""};
    recorder_options options;
    recorder_options_defaults(&options);
    options.store = "/nowhere/at/all.db";
    assert_int_not_equal(recorder_open(&r, &options, NULL, &err), DRR_OK);
    assert_non_null(strstr(err.message, "/nowhere/at/all.db"));
    options.store = path;
    options.redact = nameless;
    options.n_redact = 1;
    assert_int_equal(recorder_open(&r, &options, NULL, &err), DRR_E_ARGUMENT);
    assert_false(file_exists(path)); /* nothing half-made */
    assert_null(r);
    recorder_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found_anywhere_in_a_text),
        cmocka_unit_test(json_within_strings_is_json_too),
        cmocka_unit_test(a_value_that_does_not_end_takes_the_rest),
        cmocka_unit_test(what_the_request_holds_is_taken_out_wherever_it_is_repeated),
        cmocka_unit_test(a_request_full_of_values_loses_its_texts_whole),
        cmocka_unit_test(a_secret_is_found_however_deep),
        cmocka_unit_test(hostile_texts_take_no_time),
        cmocka_unit_test(a_request_becomes_unlabelled_traces),
        cmocka_unit_test(turns_asked_afresh_are_samples_and_failed_ones_are_left_out),
        cmocka_unit_test(an_id_that_comes_twice_is_two_requests),
        cmocka_unit_test(redacted_words_never_reach_the_disk),
        cmocka_unit_test(what_the_disk_is_too_slow_for_is_counted),
        cmocka_unit_test(what_had_no_question_is_no_trace),
        cmocka_unit_test(a_full_disk_costs_what_comes_meanwhile_and_no_more),
        cmocka_unit_test(what_cannot_be_opened_is_said),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
