/* test_distill_resume.c: distillation stopped anywhere and gone on with, failing requests, and stores that belong to
 * another reasoner, wording or setting. */
#include "distill_fixture.h"

#include <sqlite3.h>

typedef enum how { BY_CANCEL, BY_NEXT, BY_SUBMIT, N_WAYS } how;

static void open_varied(stage *t)
{
    open_stage(t, 6, 40, 20);
    t->options.samples = 3;
    t->options.turns = 3;
    t->options.skip_failed = true;
    t->options.forced_share = 0.3;
}

static void stopped_anywhere_and_resumed_the_traces_are_the_same(void **state)
{
    (void)state;
    stage t;
    open_varied(&t);
    t.quick = true;
    distill_fine(&t);
    char *whole = exported(&t);
    const uint64_t n_whole = count(&t).traces;
    assert_true(n_whole > 30);
    close_stage(&t);
    rng r;
    rng_seed(&r, 17);
    for (int round = 0; round < 8 * N_WAYS; round++) {
        const how way = (how)(round % N_WAYS);
        size_t n_stops = 0;
        open_varied(&t);
        t.s.run = 1000 * (uint64_t)round;
        t.quick = round >= N_WAYS;
        t.s.failing = round % 2 ? 10 : 0;
        for (;;) {
            const size_t stop = rng_below(&r, 40); /* 0: before anything has happened */
            t.s.stop_next = way == BY_NEXT ? stop : FOR_EVER;
            t.s.stop_submit = way == BY_SUBMIT ? stop : FOR_EVER;
            t.cancel_after = way == BY_CANCEL ? t.s.n_given + t.s.n_failed + stop : FOR_EVER;
            const size_t n_failed = t.s.n_failed;
            const drr_status status = distill(&t);
            if (status == DRR_OK && t.s.n_failed == n_failed)
                break;
            if (status != DRR_OK)
                assert_int_equal(status, way == BY_CANCEL ? DRR_E_INTERRUPTED : DRR_E_BACKEND);
            assert_true(strlen(t.err.message) > 10 || status == DRR_OK);
            assert_int_equal(count(&t).traces, t.s.n_given); /* all that was handed out is kept, and once */
            if (n_stops++ % 3 == 0) {                        /* as a new process would find it */
                drr_store_close(t.store);
                assert_int_equal(drr_store_open(&t.store, t.store_path, false, NULL), DRR_OK);
            }
            assert_true(n_stops < 1000);
        }
        char *pieces = exported(&t);
        assert_string_equal(pieces, whole);
        assert_int_equal(t.s.n_given, n_whole);
        free(pieces);
        close_stage(&t);
    }
    free(whole);
}

static void a_finished_run_asks_nothing_more(void **state)
{
    (void)state;
    stage t;
    open_varied(&t);
    distill_fine(&t);
    const size_t n = t.s.n_asked;
    distill_fine(&t);
    assert_int_equal(t.s.n_asked, n);
    close_stage(&t);
}

static void failed_completions_are_not_stored_and_are_asked_again_next_time(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.forced_share = 0;
    t.options.skip_failed = true;
    t.s.failing = 30;
    distill_fine(&t); /* a failure ends one sample, not the run */
    const size_t n_failed = t.s.n_failed;
    assert_true(n_failed > 2 && n_failed < 20);
    assert_int_equal(count(&t).traces, 6 * 4 - n_failed);
    assert_int_equal(t.n_warnings, n_failed + 1); /* each, and how many there were */
    t.s.failing = 0;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 6 * 4);
    assert_int_equal(t.s.n_asked, 6 * 4 + n_failed);
    close_stage(&t);
}

static void a_failure_that_matters_is_told_when_all_else_is_done(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.forced_share = 0;
    t.s.failing = 30;
    assert_int_equal(distill(&t), DRR_E_BACKEND);
    assert_true(t.s.n_failed > 2 && strstr(t.err.message, "of 24 samples failed") &&
                strstr(t.err.message, "question "));
    assert_int_equal(count(&t).traces, 6 * 4 - t.s.n_failed);
    t.s.failing = 0;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 6 * 4);
    close_stage(&t);
}

/* ---- whose store it is */

static void another_reasoner_is_refused_unless_mixing_is_meant(void **state)
{
    (void)state;
    static seeded other_self;
    stage t;
    drr_reasoner *other = NULL;
    open_stage(&t, 3, 100, 0);
    distill_fine(&t);
    const uint64_t n = count(&t).traces;
    drr_reasoner *first = t.reasoner;
    other_self = (seeded){.set = t.set, .right = 100, .stop_next = FOR_EVER, .stop_submit = FOR_EVER};
    assert_int_equal(reasoner_new(&other, &seeded_backend, &other_self, "seeded@2", "another", 3, NULL), DRR_OK);
    t.reasoner = other;
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, "seeded@1"));
    assert_non_null(strstr(t.err.message, "seeded@2"));
    assert_int_equal(other_self.n_asked, 0);
    assert_int_equal(count(&t).traces, n);
    t.options.any_identity = true;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    t.options.any_identity = false; /* the store still belongs to the first */
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    t.reasoner = first;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    drr_reasoner_close(other);
    close_stage(&t);
}

static void another_wording_is_refused_unless_mixing_is_meant(void **state)
{
    (void)state;
    static const char wording[] = "{\"number\": {\"system\": \"Solve it.\"}}";
    stage t;
    char path[96];
    open_stage(&t, 3, 100, 0);
    distill_fine(&t);
    const uint64_t n = count(&t).traces;
    const size_t n_asked = t.s.n_asked;
    char *first = string_copy(drr_prompts_id(t.prompts));
    in_folder(path, "prompts.json");
    assert_int_equal(file_write_all(path, wording, sizeof wording - 1, NULL), DRR_OK);
    drr_prompts_free(t.prompts);
    t.prompts = NULL;
    assert_int_equal(drr_prompts_open(&t.prompts, path, NULL), DRR_OK);
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, first));
    assert_non_null(strstr(t.err.message, drr_prompts_id(t.prompts)));
    assert_non_null(strstr(t.err.message, "--any-identity"));
    assert_int_equal(t.s.n_asked, n_asked);
    t.options.any_identity = true;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    free(first);
    close_stage(&t);
}

/* Every setting that shapes a text, and how a run with another one looks. */
typedef struct change {
    const char *words, *was, *is;
} change;
static const change changes[] = {{"seed", "seed 1", "has 2"},
                                 {"temperature", "temperature 0.7", "has 0.75"},
                                 {"top-p", "top-p 0.95", "has 0.5"},
                                 {"tokens of a turn", "tokens of a turn 200", "has 300"},
                                 {"grammar", "grammar off", "has on"},
                                 {"context", "context 1024", "has 12"},
                                 {"recorded answers", "recorded answers aaaaaaaaaaaa", "has bbbbbbbbbbbb"}};
enum { N_CHANGES = sizeof changes / sizeof *changes };

static void settle(stage *t, size_t changed) /* N_CHANGES: nothing */
{
    reasoner_basis basis = {.context = changed == 5 ? 12 : 1024};
    memset(basis.recording, changed == 6 ? 'b' : 'a', 64);
    reasoner_set_basis(t->reasoner, &basis);
    t->options.seed = changed == 0 ? 2 : 1;
    t->options.temperature = changed == 1 ? 0.75f : 0.7f;
    t->options.top_p = changed == 2 ? 0.5f : 0.95f;
    t->options.max_tokens = changed == 3 ? 300 : 200;
    t->options.grammar = changed == 4;
}

static void another_setting_is_refused_and_more_of_the_same_is_not(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 40, 20);
    settle(&t, N_CHANGES);
    t.options.limit = 3;
    t.options.samples = 2;
    t.options.turns = 1;
    distill_fine(&t);
    for (size_t i = 0; i < N_CHANGES; i++) {
        const size_t n_asked = t.s.n_asked;
        const uint64_t n = count(&t).traces;
        settle(&t, i);
        t.options.samples++; /* or there would be nothing to ask */
        assert_int_equal(distill(&t), DRR_E_MISMATCH);
        if (!strstr(t.err.message, changes[i].was) || !strstr(t.err.message, changes[i].is) ||
            !strstr(t.err.message, "--any-identity"))
            fail_msg("%s: %s", changes[i].words, t.err.message);
        assert_int_equal(t.s.n_asked, n_asked);
        t.options.any_identity = true;
        distill_fine(&t);
        assert_true(count(&t).traces > n);
        t.options.any_identity = false;
    }
    settle(&t, N_CHANGES); /* the store still belongs to the first run */
    const uint64_t n = count(&t).traces;
    t.options.samples++;
    t.options.turns = 3;
    t.options.limit = 0;
    t.options.forced_share = 0.5;
    distill_fine(&t);
    assert_true(count(&t).traces > n + 6);
    assert_int_equal(t.n_notices, 0);
    close_stage(&t);
}

static void another_context_that_changes_no_text_is_taken(void **state)
{
    (void)state;
    static const uint32_t contexts[] = {2048, 512, 1024}; /* all texts are shorter than 100 tokens */
    stage t;
    char *stored = NULL;
    open_stage(&t, 3, 100, 0);
    settle(&t, N_CHANGES);
    distill_fine(&t);
    for (size_t i = 0; i < 3; i++) {
        const uint64_t n = count(&t).traces;
        reasoner_set_basis(t.reasoner, &(reasoner_basis){.context = contexts[i]});
        t.options.samples++;
        distill_fine(&t);
        assert_true(count(&t).traces > n);
        assert_int_equal(store_fact_get(t.store, "context", &stored, NULL), DRR_OK);
        assert_int_equal(strtoul(stored, NULL, 10), contexts[i]);
        free(stored);
    }
    close_stage(&t);
}

static void forget_settings(const stage *t)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(t->store_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM facts WHERE name NOT IN ('reasoner', 'prompt')", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
}

static void an_older_stores_traces_tell_seed_and_temperature(void **state)
{
    (void)state;
    stage t;
    char *stored = NULL;
    open_stage(&t, 3, 100, 0);
    settle(&t, N_CHANGES);
    distill_fine(&t);
    forget_settings(&t);
    settle(&t, 0);
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, "another seed than this run's, 2"));
    settle(&t, 1);
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, "temperature 0.7 and this run has 0.75"));
    t.options.any_identity = true; /* mixing writes nothing down */
    distill_fine(&t);
    assert_int_equal(store_fact_get(t.store, "temperature", &stored, NULL), DRR_OK);
    assert_null(stored);
    t.options.any_identity = false;
    settle(&t, N_CHANGES);
    distill_fine(&t);
    assert_int_equal(t.n_notices, 1);
    close_stage(&t);
}

static void an_older_store_takes_the_settings_of_the_next_run_and_says_so(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 100, 0);
    settle(&t, N_CHANGES);
    distill_fine(&t);
    assert_int_equal(t.n_notices, 0); /* a new store is no surprise */
    forget_settings(&t);
    const size_t n_asked = t.s.n_asked;
    distill_fine(&t);
    assert_int_equal(t.s.n_asked, n_asked); /* all is there */
    assert_int_equal(t.n_notices, 1);
    distill_fine(&t);
    assert_int_equal(t.n_notices, 1);
    t.options.seed = 2;
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    close_stage(&t);
}

static void a_run_that_left_no_trace_binds_nobody(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 100, 0);
    settle(&t, N_CHANGES);
    t.s.stop_next = 0;
    assert_int_equal(distill(&t), DRR_E_BACKEND);
    assert_int_equal(count(&t).traces, 0);
    t.s.stop_next = FOR_EVER;
    t.options.seed = 2;
    distill_fine(&t);
    t.options.seed = 1;
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_int_equal(t.n_notices, 0);
    close_stage(&t);
}

static void a_question_that_changed_under_its_id_is_refused_before_anything_is_asked(void **state)
{
    (void)state;
    static const char set[] = "{\"id\":\"new\",\"question\":\"New?\",\"answer\":\"1\",\"kind\":\"number\"}\n"
                              "{\"id\":\"q0\",\"question\":\"What of 0?\",\"answer\":\"7\",\"kind\":\"number\"}\n";
    stage t;
    char path[96];
    open_stage(&t, 3, 100, 0);
    distill_fine(&t);
    const size_t n_asked = t.s.n_asked;
    drr_dataset_free(t.set);
    t.set = NULL;
    in_folder(path, "set.jsonl");
    assert_int_equal(file_write_all(path, set, sizeof set - 1, NULL), DRR_OK);
    assert_int_equal(drr_dataset_open(&t.set, path, NULL, "set", NULL), DRR_OK);
    t.s.set = t.set;
    for (int any = 0; any < 2; any++) { /* no flag makes two questions one */
        t.options.any_identity = any;
        assert_int_equal(distill(&t), DRR_E_MISMATCH);
        assert_non_null(strstr(t.err.message, "set.jsonl:2: question q0 "));
        assert_non_null(strstr(t.err.message, "another answer"));
    }
    assert_int_equal(t.s.n_asked, n_asked);
    t.options.limit = 1; /* the new one alone */
    distill_fine(&t);
    assert_true(t.s.n_asked > n_asked);
    close_stage(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_anywhere_and_resumed_the_traces_are_the_same),
        cmocka_unit_test(a_finished_run_asks_nothing_more),
        cmocka_unit_test(failed_completions_are_not_stored_and_are_asked_again_next_time),
        cmocka_unit_test(a_failure_that_matters_is_told_when_all_else_is_done),
        cmocka_unit_test(another_reasoner_is_refused_unless_mixing_is_meant),
        cmocka_unit_test(another_wording_is_refused_unless_mixing_is_meant),
        cmocka_unit_test(another_setting_is_refused_and_more_of_the_same_is_not),
        cmocka_unit_test(another_context_that_changes_no_text_is_taken),
        cmocka_unit_test(an_older_stores_traces_tell_seed_and_temperature),
        cmocka_unit_test(an_older_store_takes_the_settings_of_the_next_run_and_says_so),
        cmocka_unit_test(a_run_that_left_no_trace_binds_nobody),
        cmocka_unit_test(a_question_that_changed_under_its_id_is_refused_before_anything_is_asked),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
