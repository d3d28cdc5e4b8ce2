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
} counting;

static drr_status count_submit(void *self, const reasoner_request *r, drr_error *err)
{
    counting *c = self;
    reasoner_completion done = {.tag = r->tag, .finish = DRR_FINISH_STOP, .n_prompt_tokens = 7, .n_tokens = 3};
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
    assert_int_equal(sqlite3_exec(db, "UPDATE blobs SET value = x'0102'", NULL, NULL, NULL), SQLITE_OK);
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

static void a_difference_within_noise_is_called_that(void **state)
{
    (void)state;
    drr_result none = {0};
    strategy_run runs[2] = {{.strategy = DRR_STRATEGY_COT, .results = &none}, {.strategy = DRR_STRATEGY_DRR}};
    const comparison c = {.runs = runs, .n_runs = 2};
    pair p = {
        .a = 1, .b = 0, .only_a = 6, .only_b = 4, .p = 0.75, .difference = {0.02, -0.04, 0.08}, .tokens = {12, 9, 15}};
    buffer b = {0};
    assert_int_equal(pair_sentence(&b, &c, &p, NULL), DRR_OK);
    assert_non_null(strstr(b.data, "within noise"));
    assert_non_null(strstr(b.data, "12 tokens a question more"));
    buffer_clear(&b);
    p.p = 0.001;
    p.difference.value = -0.083;
    assert_int_equal(pair_sentence(&b, &c, &p, NULL), DRR_OK);
    assert_non_null(strstr(b.data, "drr is 8.3 points below cot"));
    buffer_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_is_remembered_after_reopening),
        cmocka_unit_test(what_differs_is_generated_and_what_is_alike_once),
        cmocka_unit_test(failures_and_damage_are_generated_again),
        cmocka_unit_test(figures_are_those_of_the_answers),
        cmocka_unit_test(the_page_escapes_what_people_and_models_wrote),
        cmocka_unit_test(an_interrupted_evaluation_goes_on_where_it_stopped),
        cmocka_unit_test(a_difference_within_noise_is_called_that),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
