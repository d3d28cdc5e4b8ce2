/* test_eval_run.c: the cache of completions, and whole evaluations over a reasoner made here whose answers depend on
 * the seed: figures, resumption, and the report's three forms. */
#include "eval/eval_internal.h"
#include "trace/trace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

/* ---- a reasoner: knows 3 of 4 questions when greedy, 4 of 5 tries when sampled; counts its work */

typedef struct counting {
    reasoner_completion waiting[512];
    size_t n, asked, fail_from;
    drr_finish finish;
    uint32_t n_tokens; /* 0: 3 */
} counting;

static drr_status count_submit(void *self, const reasoner_request *r, drr_error *err)
{
    counting *c = self;
    reasoner_completion done = {
        .tag = r->tag, .finish = c->finish, .n_prompt_tokens = 7, .n_tokens = c->n_tokens ? c->n_tokens : 3};
    char text[64];
    (void)err;
    c->asked++;
    const int number = (int)strtol(r->question + 1, NULL, 10);
    const bool right = r->temperature > 0 ? r->seed % 5 != 0 : number % 4 != 0;
    snprintf(text, sizeof text, "<b>&\nAnswer: %d", right ? number : number + 1);
    done.text = strdup(text);
    done.tokens = calloc(1, sizeof *done.tokens);
    done.tokens[0] = (reasoner_token){(uint32_t)strlen(text), -0.5f, 0.2f, 1.0f};
    done.n_token_stats = 1;
    done.seconds = 0.25;
    if (c->fail_from && c->asked >= c->fail_from)
        done.finish = DRR_FINISH_FAILED;
    c->waiting[c->n++] = done;
    return DRR_OK;
}

static drr_status count_next(void *self, reasoner_completion *completion, drr_error *err)
{
    counting *c = self;
    if (c->n == 0)
        return error_set(err, DRR_E_EMPTY, "nothing is asked");
    *completion = c->waiting[--c->n];
    return DRR_OK;
}

static void count_cancel(void *self)
{
    counting *c = self;
    while (c->n)
        reasoner_completion_clear(&c->waiting[--c->n]);
}

static const reasoner_backend count_backend = {
    .submit = count_submit, .next = count_next, .cancel = count_cancel, .close = count_cancel};

static char folder[] = "/tmp/drr-test-eval-XXXXXX";
static char data_path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(data_path, sizeof data_path, "%s/q.jsonl", folder);
    FILE *f = fopen(data_path, "w");
    for (int i = 0; i < 40; i++)
        fprintf(f, "{\"id\": \"q%d\", \"question\": \"q%d <script>?\", \"answer\": \"%d\", \"kind\": \"number\"}\n", i,
                i, i);
    return fclose(f);
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static drr_reasoner *counting_reasoner(counting *c)
{
    drr_reasoner *r = NULL;
    assert_int_equal(reasoner_new(&r, &count_backend, c, "counting", "made here", 4, NULL), DRR_OK);
    return r;
}

/* ---- the cache */

static drr_status ask(drr_reasoner *r, uint64_t tag, uint64_t seed, float temperature)
{
    const drr_message message = {"user", "q3?"};
    const reasoner_request request = {.tag = tag,
                                      .messages = &message,
                                      .n_messages = 1,
                                      .max_tokens = 9,
                                      .temperature = temperature,
                                      .seed = seed,
                                      .question = "q3?"};
    return reasoner_submit(r, &request, NULL);
}

static reasoner_completion next(drr_reasoner *r)
{
    reasoner_completion c = {0};
    assert_int_equal(reasoner_next(r, &c, NULL), DRR_OK);
    return c;
}

static void a_completion_is_remembered_after_reopening(void **state)
{
    (void)state;
    counting work = {0};
    cache_counts counts = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/a.db", folder);
    for (int round = 0; round < 2; round++) {
        drr_reasoner *inner = counting_reasoner(&work), *r;
        assert_int_equal(cached_reasoner_new(&r, inner, path, &counts, NULL), DRR_OK);
        assert_string_equal(drr_reasoner_id(r), "counting");
        assert_int_equal(ask(r, 77, 5, 1), DRR_OK);
        reasoner_completion c = next(r);
        assert_int_equal(c.tag, 77);
        assert_string_equal(c.text, "<b>&\nAnswer: 4");
        assert_int_equal(c.n_tokens, 3);
        assert_int_equal(c.n_token_stats, 1);
        assert_true(c.tokens[0].logprob < -0.49f && c.tokens[0].end == strlen(c.text));
        assert_true(fabs(c.seconds - 0.25) < 1e-12);
        reasoner_completion_clear(&c);
        drr_reasoner_close(r);
        drr_reasoner_close(inner);
    }
    assert_int_equal(work.asked, 1);
    assert_int_equal(counts.found, 1);
    assert_int_equal(counts.generated, 1);
}

static void what_differs_is_generated_and_what_is_alike_once(void **state)
{
    (void)state;
    counting work = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/b.db", folder);
    drr_reasoner *inner = counting_reasoner(&work), *r;
    assert_int_equal(cached_reasoner_new(&r, inner, path, NULL, NULL), DRR_OK);
    assert_int_equal(ask(r, 1, 5, 1), DRR_OK);
    assert_int_equal(ask(r, 2, 5, 1), DRR_OK); /* alike, and in flight */
    assert_int_equal(ask(r, 3, 6, 1), DRR_OK); /* another seed */
    assert_int_equal(ask(r, 4, 5, 0), DRR_OK); /* greedy */
    uint64_t tags = 0;
    for (int i = 0; i < 4; i++) {
        reasoner_completion c = next(r);
        tags |= 1u << c.tag;
        reasoner_completion_clear(&c);
    }
    assert_int_equal(tags, 0x1e);
    assert_int_equal(work.asked, 3);
    assert_int_equal(ask(r, 5, 99, 0), DRR_OK); /* the likeliest words know no seed */
    reasoner_completion c = next(r);
    reasoner_completion_clear(&c);
    assert_int_equal(work.asked, 3);
    drr_reasoner_close(r);
    drr_reasoner_close(inner);
}

static void failures_and_damage_are_generated_again(void **state)
{
    (void)state;
    counting work = {.fail_from = 1};
    char path[128];
    snprintf(path, sizeof path, "%s/c.db", folder);
    drr_reasoner *inner = counting_reasoner(&work), *r;
    assert_int_equal(cached_reasoner_new(&r, inner, path, NULL, NULL), DRR_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(r, 1, 5, 1), DRR_OK);
        reasoner_completion c = next(r);
        assert_int_equal(c.finish, DRR_FINISH_FAILED);
        reasoner_completion_clear(&c);
    }
    assert_int_equal(work.asked, 2);
    work.fail_from = 0;
    assert_int_equal(ask(r, 1, 5, 1), DRR_OK);
    reasoner_completion c = next(r);
    reasoner_completion_clear(&c);
    drr_reasoner_close(r);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE blobs SET value = x'0102' WHERE key <> 'format'", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(cached_reasoner_new(&r, inner, path, NULL, NULL), DRR_OK);
    assert_int_equal(ask(r, 1, 5, 1), DRR_OK);
    c = next(r);
    assert_string_equal(c.text, "<b>&\nAnswer: 4");
    reasoner_completion_clear(&c);
    assert_int_equal(work.asked, 4);
    drr_reasoner_close(r);
    drr_reasoner_close(inner);
}

/* Asks once under a context of `context` tokens, for a text of n_tokens after 7 of a prompt that ends as `finish`. Was
 * it generated? */
static bool generates(const char *path, uint32_t context, drr_finish finish, uint32_t n_tokens, uint32_t max_tokens,
                      uint64_t seed)
{
    counting work = {.finish = finish, .n_tokens = n_tokens};
    drr_reasoner *inner = counting_reasoner(&work), *r;
    const drr_message message = {"user", "q3?"};
    const reasoner_request request = {.messages = &message,
                                      .n_messages = 1,
                                      .max_tokens = max_tokens,
                                      .temperature = 1,
                                      .seed = seed,
                                      .question = "q3?"};
    reasoner_set_basis(inner, &(reasoner_basis){.context = context});
    assert_int_equal(cached_reasoner_new(&r, inner, path, NULL, NULL), DRR_OK);
    assert_int_equal(reasoner_get_basis(r)->context, context);
    assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
    reasoner_completion c = next(r);
    reasoner_completion_clear(&c);
    drr_reasoner_close(r);
    drr_reasoner_close(inner);
    return work.asked > 0;
}

static void a_text_is_found_under_every_context_that_would_give_it(void **state)
{
    (void)state;
    const drr_finish stop = DRR_FINISH_STOP, answered = DRR_FINISH_ANSWERED, length = DRR_FINISH_LENGTH;
    char path[128];
    snprintf(path, sizeof path, "%s/d.db", folder);
    assert_true(generates(path, 1024, answered, 3, 9, 1));
    assert_false(generates(path, 2048, answered, 3, 9, 1));
    assert_false(generates(path, 15, answered, 3, 9, 1));
    assert_true(generates(path, 14, length, 3, 9, 1));      /* the prompt would not fit */
    assert_false(generates(path, 14, length, 3, 9, 1));     /* has an entry of its own */
    assert_false(generates(path, 1024, answered, 3, 9, 1)); /* and did not take the other's */
    assert_true(generates(path, 16, length, 3, 90, 2));     /* cut */
    assert_false(generates(path, 16, length, 3, 90, 2));
    assert_true(generates(path, 17, length, 3, 90, 2)); /* where a larger one would have gone on */
    assert_true(generates(path, 1024, stop, 3, 90, 2));
    assert_false(generates(path, 2048, stop, 3, 90, 2));
    assert_false(generates(path, 16, length, 3, 90, 2));
    assert_true(generates(path, 1024, stop, 30, 90, 4));
    assert_false(generates(path, 38, stop, 30, 90, 4));
    assert_true(generates(path, 37, length, 30, 90, 4)); /* no token is left in which the model could end */
    assert_true(generates(path, 1024, length, 3, 3, 3)); /* the request's own limit, not the context's */
    assert_false(generates(path, 2048, length, 3, 3, 3));
}

/* Entries of the time when no key knew of contexts lie as those of a reasoner without one. */
static void an_old_entry_is_found_where_it_holds(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/e.db", folder);
    assert_true(generates(path, 0, DRR_FINISH_ANSWERED, 3, 9, 1));
    assert_false(generates(path, 1024, DRR_FINISH_ANSWERED, 3, 9, 1));
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT key FROM blobs WHERE key <> 'format'", -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    /* Made by the release before: this key must stay, or every file of samples is lost. */
    assert_string_equal((const char *)sqlite3_column_text(q, 0),
                        "498da1a2ef525e8e93015c79db0441a9df21d6505bd321c155399ce49e72c903");
    assert_int_equal(sqlite3_step(q), SQLITE_DONE);
    sqlite3_finalize(q);
    sqlite3_close(db);
    assert_true(generates(path, 0, DRR_FINISH_LENGTH, 30, 90, 2)); /* cut, at 37 */
    assert_true(generates(path, 38, DRR_FINISH_LENGTH, 31, 90, 2));
    assert_false(generates(path, 37, DRR_FINISH_LENGTH, 30, 90, 2));
}

static void say(const char *path, const char *text)
{
    buffer b = {0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(buffer_printf(&b, NULL,
                                       "{\"task\":\"t\",\"id\":\"%d\",\"question\":\"Q%d?\",\"reasoner\":\"r\","
                                       "\"prompt\":\"p\",\"text\":\"%s %d\",\"correct\":true}\n",
                                       i, i, text, i),
                         DRR_OK);
    assert_int_equal(file_write_all(path, b.data, b.size, NULL), DRR_OK);
    buffer_clear(&b);
}

static char *replayed(const char *cache, const char *recording, const char *question)
{
    drr_reasoner *inner = NULL, *r = NULL;
    const drr_message message = {"user", "the same words"};
    const reasoner_request request = {
        .messages = &message, .n_messages = 1, .max_tokens = 9, .temperature = 1, .question = question};
    assert_int_equal(drr_reasoner_open(&inner, recording, NULL, NULL), DRR_OK);
    assert_int_equal(cached_reasoner_new(&r, inner, cache, NULL, NULL), DRR_OK);
    assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
    reasoner_completion c = next(r);
    char *text = string_copy(c.text);
    reasoner_completion_clear(&c);
    drr_reasoner_close(r);
    drr_reasoner_close(inner);
    return text;
}

static void a_recording_and_its_question_are_part_of_the_key(void **state)
{
    (void)state;
    static const char *const texts[] = {"one", "one", "two"};
    char cache[128], recording[128];
    snprintf(cache, sizeof cache, "%s/f.db", folder);
    snprintf(recording, sizeof recording, "%s/r.replay.jsonl", folder);
    for (size_t i = 0; i < 3; i++) {
        say(recording, texts[i]);
        for (int k = 0; k < 2; k++) {
            char wanted[16];
            snprintf(wanted, sizeof wanted, "%s %d", texts[i], k);
            char *text = replayed(cache, recording, k ? "Q1?" : "Q0?");
            assert_string_equal(text, wanted);
            free(text);
        }
    }
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(cache, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM blobs WHERE key <> 'format'", -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(q, 0), 4); /* the same file again added nothing */
    sqlite3_finalize(q);
    sqlite3_close(db);
}

/* ---- a whole evaluation */

typedef struct finished {
    char *json, *table, *html;
    drr_status status;
    drr_error err;
} finished;

static finished evaluate(counting *work, const char *name, const drr_hooks *hooks)
{
    static const drr_strategy strategies[] = {DRR_STRATEGY_COT, DRR_STRATEGY_VOTE};
    finished f = {0};
    char out[128], html[160];
    size_t size;
    drr_dataset *data;
    drr_prompts *prompts;
    drr_eval_options options;
    drr_reasoner *r = counting_reasoner(work);
    assert_int_equal(drr_dataset_open(&data, data_path, NULL, NULL, NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    drr_eval_options_defaults(&options);
    snprintf(out, sizeof out, "%s/%s", folder, name);
    options.out = out;
    options.strategies = strategies;
    options.n_strategies = 2;
    options.bootstrap = 200;
    options.title = "a <title>";
    f.status =
        drr_eval(&f.json, &f.table, r, NULL, prompts, (const drr_dataset *const *)&data, 1, &options, hooks, &f.err);
    snprintf(html, sizeof html, "%s/report.html", out);
    if (f.status == DRR_OK)
        assert_int_equal(file_read(&f.html, &size, html, 0, NULL), DRR_OK);
    drr_reasoner_close(r);
    drr_prompts_free(prompts);
    drr_dataset_free(data);
    return f;
}

static void finished_clear(finished *f)
{
    free(f->json);
    free(f->table);
    free(f->html);
}

static double number_at(json_t *o, const char *a, const char *b, const char *c, const char *d)
{
    o = json_object_get(json_object_get(json_object_get(json_object_get(json_object_get(o, "tasks"), a), b), c), d);
    assert_true(json_is_number(o));
    return json_number_value(o);
}

static void figures_are_those_of_the_answers(void **state)
{
    (void)state;
    counting work = {0};
    json_t *json;
    finished f = evaluate(&work, "figures", NULL);
    assert_int_equal(f.status, DRR_OK);
    assert_int_equal(json_parse(&json, f.json, strlen(f.json), "report", NULL), DRR_OK);
    assert_true(fabs(number_at(json, "q", "strategies", "cot", "accuracy") - 0.75) < 1e-9);
    assert_true(fabs(number_at(json, "q", "strategies", "cot", "mean_tokens") - 3) < 1e-9);
    assert_true(fabs(number_at(json, "q", "strategies", "vote", "mean_calls") - 5) < 1e-9);
    assert_true(number_at(json, "q", "strategies", "vote", "accuracy") > 0.85);
    json_t *against =
        json_array_get(json_object_get(json_object_get(json_object_get(json, "tasks"), "q"), "comparisons"), 0);
    const double a = json_number_value(json_object_get(against, "only_a_right")),
                 b = json_number_value(json_object_get(against, "only_b_right"));
    const double difference = number_at(json, "q", "strategies", "vote", "accuracy") - 0.75;
    assert_true(fabs((a - b) / 40 - difference) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(against, "difference")) - difference) < 1e-9);
    assert_non_null(strstr(f.table, "vote"));
    assert_non_null(strstr(f.table, "75.0 %"));
    json_decref(json);
    finished_clear(&f);
}

static void the_page_escapes_what_people_and_models_wrote(void **state)
{
    (void)state;
    counting work = {0};
    finished f = evaluate(&work, "page", NULL);
    assert_int_equal(f.status, DRR_OK);
    assert_null(strstr(f.html, "<script"));
    assert_null(strstr(f.html, "<b>&\n"));
    assert_null(strstr(f.html, "http"));
    assert_non_null(strstr(f.html, "a &#60;title&#62;"));
    assert_non_null(strstr(f.html, "&#60;b&#62;&#38;"));
    assert_non_null(strstr(f.html, "Accuracy against tokens"));
    finished_clear(&f);
}

static bool stop_later(void *user)
{
    return ++*(int *)user > 30;
}

static void an_interrupted_evaluation_goes_on_where_it_stopped(void **state)
{
    (void)state;
    counting whole = {0}, parts = {0};
    int polls = 0;
    const drr_hooks hooks = {.cancelled = stop_later, .user = &polls};
    finished a = evaluate(&whole, "whole", NULL), b = evaluate(&parts, "parts", &hooks);
    assert_int_equal(b.status, DRR_E_INTERRUPTED);
    const size_t before = parts.asked;
    assert_true(before > 10 && before < whole.asked);
    finished_clear(&b);
    b = evaluate(&parts, "parts", NULL);
    assert_int_equal(b.status, DRR_OK);
    assert_true(parts.asked <= whole.asked + 8 + 4); /* those in flight when it stopped */
    assert_string_equal(strstr(a.json, "\"tasks\""), strstr(b.json, "\"tasks\""));
    finished_clear(&a);
    finished_clear(&b);
}

/* ---- equal budgets: each answer of the reasoner made here has 3 tokens, and self-critique never ends by itself */

static json_t *at_budget(drr_budget of, const char *whose, uint32_t samples, drr_status wanted, char *message)
{
    static const drr_strategy strategies[] = {DRR_STRATEGY_COT, DRR_STRATEGY_SELF_CRITIQUE, DRR_STRATEGY_VOTE};
    static int number;
    counting work = {0};
    char out[128], *json = NULL, *table = NULL;
    drr_error err = {0};
    drr_dataset *data;
    drr_prompts *prompts;
    drr_eval_options options;
    json_t *report = NULL;
    drr_reasoner *r = counting_reasoner(&work);
    assert_int_equal(drr_dataset_open(&data, data_path, NULL, NULL, NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    drr_eval_options_defaults(&options);
    snprintf(out, sizeof out, "%s/budget%d", folder, number++);
    options.out = out;
    options.strategies = strategies;
    options.n_strategies = 3;
    options.bootstrap = 0;
    options.policy.samples = samples;
    options.policy.max_turns = 3;
    options.equal_budget = of;
    options.budget_of = whose;
    assert_int_equal(
        drr_eval(&json, &table, r, NULL, prompts, (const drr_dataset *const *)&data, 1, &options, NULL, &err), wanted);
    if (wanted == DRR_OK)
        assert_int_equal(json_parse(&report, json, strlen(json), "report", NULL), DRR_OK);
    else
        snprintf(message, sizeof err.message, "%s", err.message);
    free(json);
    free(table);
    drr_reasoner_close(r);
    drr_prompts_free(prompts);
    drr_dataset_free(data);
    return report;
}

static json_t *budget_at(json_t *report, const char *strategy)
{
    json_t *o = json_object_get(json_object_get(json_object_get(report, "tasks"), "q"), "strategies");
    return json_object_get(json_object_get(o, strategy), "budget");
}

static void budgets_are_made_equal_by_samples_and_turns(void **state)
{
    (void)state;
    char message[1024] = "";
    json_t *report = at_budget(DRR_BUDGET_TOKENS, NULL, 2, DRR_OK, NULL); /* self-critique: 3 answers, 2 critiques */
    assert_true(number_at(report, "q", "strategies", "self-critique", "mean_tokens") == 15);
    assert_true(number_at(report, "q", "strategies", "vote", "mean_tokens") == 15);
    assert_true(number_at(report, "q", "strategies", "cot", "mean_tokens") == 3);
    assert_null(budget_at(report, "self-critique"));
    assert_true(json_is_true(json_object_get(budget_at(report, "vote"), "reached")));
    assert_true(json_is_false(json_object_get(budget_at(report, "cot"), "reached")));
    json_decref(report);
    report = at_budget(DRR_BUDGET_CALLS, "vote", 4, DRR_OK, NULL); /* between 2 turns, 3 calls, and 3 turns, 5 */
    assert_true(number_at(report, "q", "strategies", "self-critique", "mean_calls") == 4);
    json_t *budget = budget_at(report, "self-critique");
    assert_int_equal(json_integer_value(json_object_get(budget, "low")), 2);
    assert_int_equal(json_integer_value(json_object_get(budget, "high")), 3);
    assert_true(json_number_value(json_object_get(budget, "share_high")) == 0.5);
    json_decref(report);
    report = at_budget(DRR_BUDGET_CALLS, "cot", 4, DRR_OK, NULL);
    assert_true(number_at(report, "q", "strategies", "vote", "mean_calls") == 1);
    assert_true(number_at(report, "q", "strategies", "self-critique", "mean_calls") == 1);
    json_decref(report);
    assert_null(at_budget(DRR_BUDGET_CALLS, "drr", 4, DRR_E_ARGUMENT, message));
    assert_non_null(strstr(message, "\"drr\""));
}

static void a_difference_within_noise_is_called_that(void **state)
{
    (void)state;
    pair p = {.a = 1,
              .only_a = 6,
              .only_b = 4,
              .p = 0.75,
              .p_holm = 0.75,
              .difference = {0.02, -0.04, 0.08},
              .tokens = {12, 9, 15}};
    buffer b = {0};
    assert_int_equal(pair_sentence(&b, "drr", "cot", &p, NULL), DRR_OK);
    assert_non_null(strstr(b.data, "within noise"));
    assert_non_null(strstr(b.data, "12 tokens a question more"));
    buffer_clear(&b);
    p.p = 0.001;
    p.p_holm = 0.006;
    p.difference.value = -0.083;
    assert_int_equal(pair_sentence(&b, "drr", "cot", &p, NULL), DRR_OK);
    assert_non_null(strstr(b.data, "drr is 8.3 points below cot"));
    assert_non_null(strstr(b.data, "McNemar p = 0.001, 0.006 by Holm"));
    buffer_clear(&b);
    p.p_holm = 0.06; /* one of many tests, and not the surest */
    assert_int_equal(pair_sentence(&b, "drr", "cot", &p, NULL), DRR_OK);
    assert_non_null(strstr(b.data, "within noise"));
    buffer_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_is_remembered_after_reopening),
        cmocka_unit_test(what_differs_is_generated_and_what_is_alike_once),
        cmocka_unit_test(failures_and_damage_are_generated_again),
        cmocka_unit_test(a_text_is_found_under_every_context_that_would_give_it),
        cmocka_unit_test(an_old_entry_is_found_where_it_holds),
        cmocka_unit_test(a_recording_and_its_question_are_part_of_the_key),
        cmocka_unit_test(figures_are_those_of_the_answers),
        cmocka_unit_test(the_page_escapes_what_people_and_models_wrote),
        cmocka_unit_test(an_interrupted_evaluation_goes_on_where_it_stopped),
        cmocka_unit_test(budgets_are_made_equal_by_samples_and_turns),
        cmocka_unit_test(a_difference_within_noise_is_called_that),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
