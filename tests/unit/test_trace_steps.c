/* test_trace_steps.c: step labels of a trace: in a store, in JSON lines, and in stores of an older drr that know none.
 */
#include "trace/trace.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-steps-XXXXXX";
static char path[96], lines[96];

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void remove_files(void)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char name[128];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        unlink(name);
    }
    unlink(lines);
}

static void begin(void)
{
    snprintf(path, sizeof path, "%s/store.db", folder);
    snprintf(lines, sizeof lines, "%s/traces.jsonl", folder);
    remove_files();
}

static char *text_of(const char *text) /* the trace's strings are never written to here */
{
    return (char *)(uintptr_t)text;
}

static drr_step steps[] = {{4, 3, 4, 0.75f}, {11, 1, 3, 1.0f / 3}, {18, 0, 0, 0}};

static drr_trace make_trace(uint32_t sample)
{
    drr_trace t = {.task = text_of("set"),
                   .id = text_of("q0"),
                   .question = text_of("How many?"),
                   .gold = text_of("9"),
                   .kind = DRR_KIND_NUMBER,
                   .reasoner = text_of("r1"),
                   .prompt = text_of("p1"),
                   .sample = sample,
                   .turn = 1,
                   .text = text_of("One. Two.\n\nAnswer: 8"),
                   .answer = text_of("8"),
                   .label = DRR_LABEL_REJECT};
    trace_token_stats_unknown(&t.stats);
    return t;
}

static drr_trace with_steps(uint32_t sample)
{
    drr_trace t = make_trace(sample);
    t.steps = steps;
    t.n_steps = 3;
    t.steps_rollouts = 8;
    t.steps_tokens = 123;
    return t;
}

typedef struct seen {
    uint32_t n, n_stepped;
} seen;

static bool look(void *user, const drr_trace *t)
{
    seen *s = user;
    s->n++;
    if (!t->n_steps) {
        assert_null(t->steps);
        assert_int_equal(t->steps_rollouts, 0);
        assert_int_equal(t->steps_tokens, 0);
        return true;
    }
    s->n_stepped++;
    assert_int_equal(t->n_steps, 3);
    assert_memory_equal(t->steps, steps, sizeof steps); /* floats come back to the bit */
    assert_int_equal(t->steps_rollouts, 8);
    assert_int_equal(t->steps_tokens, 123);
    return true;
}

static void assert_seen(const char *name, uint32_t n, uint32_t n_stepped)
{
    seen s = {0};
    drr_error err = {0};
    if (drr_traces_each(name, NULL, look, &s, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(s.n, n);
    assert_int_equal(s.n_stepped, n_stepped);
}

static void steps_survive_a_copy_a_store_and_json_lines(void **state)
{
    (void)state;
    drr_store *store = NULL;
    drr_trace t = with_steps(0), copy;
    seen s = {0};
    uint64_t added = 0, present = 0;
    begin();
    assert_int_equal(trace_copy(&copy, &t, NULL), DRR_OK);
    assert_ptr_not_equal(copy.steps, t.steps);
    look(&s, &copy);
    drr_trace_clear(&copy);
    assert_null(copy.steps);
    assert_int_equal(drr_store_open(&store, path, true, NULL), DRR_OK);
    assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    t = make_trace(1);
    assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    drr_trace_counts counts;
    assert_int_equal(drr_store_counts(store, NULL, &counts, NULL), DRR_OK);
    assert_int_equal(counts.stepped, 1);
    assert_int_equal(counts.rollouts, 8);
    assert_int_equal(counts.step_tokens, 123);
    assert_int_equal(drr_store_export(store, NULL, lines, NULL, NULL), DRR_OK);
    drr_store_close(store);
    assert_seen(path, 2, 1);
    assert_seen(lines, 2, 1);
    snprintf(path, sizeof path, "%s/other.db", folder);
    assert_int_equal(drr_store_open(&store, path, true, NULL), DRR_OK);
    assert_int_equal(drr_store_import(store, lines, &added, &present, NULL), DRR_OK);
    assert_int_equal(added, 2);
    drr_store_close(store);
    assert_seen(path, 2, 1);
    remove_files();
    begin();
}

static void labels_are_added_to_a_stored_trace_once(void **state)
{
    (void)state;
    drr_store *store = NULL;
    drr_trace t = make_trace(0), better = with_steps(0);
    drr_error err = {0};
    begin();
    assert_int_equal(drr_store_open(&store, path, true, NULL), DRR_OK);
    for (uint32_t i = 0; i < 3; i++) {
        t.sample = i;
        assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    }
    assert_int_equal(store_steps_set(store, &t, NULL), DRR_OK); /* it has none */
    assert_seen(path, 3, 0);
    better.sample = 1;
    assert_int_equal(store_steps_set(store, &better, NULL), DRR_OK);
    assert_seen(path, 3, 1);
    drr_step other = {20, 0, 0, 1};
    t = with_steps(1);
    t.steps = &other;
    t.n_steps = 1;
    assert_int_equal(store_steps_set(store, &t, NULL), DRR_OK); /* the first ones stay */
    t.sample = 9;
    assert_int_equal(store_steps_set(store, &t, NULL), DRR_OK); /* not there: nothing */
    better.sample = 2;
    assert_int_equal(store_batch_begin(store, NULL), DRR_OK);
    assert_int_equal(store_steps_set(store, &better, NULL), DRR_OK);
    store_batch_abandon(store);
    assert_seen(path, 3, 1);
    drr_store_close(store);
    assert_int_equal(drr_store_open_read(&store, path, NULL), DRR_OK);
    assert_int_equal(store_steps_set(store, &better, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "for reading alone"));
    drr_store_close(store);
    remove_files();
}

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(db);
}

static int version_of(void)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    const int version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return version;
}

/* As version 1 of the store was; never to be changed. */
static void make_old_store(void)
{
    run_sql("PRAGMA journal_mode=WAL;"
            "CREATE TABLE traces("
            " task TEXT NOT NULL, id TEXT NOT NULL, reasoner TEXT NOT NULL, prompt TEXT NOT NULL,"
            " sample INTEGER NOT NULL, turn INTEGER NOT NULL, question TEXT NOT NULL, gold TEXT NOT NULL,"
            " kind INTEGER NOT NULL, seed INTEGER NOT NULL, feedback TEXT, forced INTEGER NOT NULL, text TEXT NOT NULL,"
            " answer TEXT, label INTEGER NOT NULL, finish INTEGER NOT NULL, n_prompt_tokens INTEGER NOT NULL,"
            " n_tokens INTEGER NOT NULL, seconds REAL, temperature REAL, lp_n INTEGER NOT NULL,"
            " lp_answer_n INTEGER NOT NULL, lp_mean REAL, lp_min REAL, lp_tail_mean REAL, lp_entropy_mean REAL,"
            " lp_answer_mean REAL, lp_answer_min REAL, lp_answer_entropy REAL, lp_answer_margin REAL);"
            "CREATE UNIQUE INDEX traces_key ON traces(task, id, sample, turn, reasoner, prompt);"
            "CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
            "INSERT INTO traces VALUES('set','q0','r1','p1',0,0,'How many?','9',1,7,NULL,0,'One.\nAnswer: 9','9',1,1,"
            "50,10,0.5,0.7,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),"
            "('set','q0','r1','p1',0,1,'How many?','9',1,7,'No.',1,'One. Two.\n\nAnswer: 8','8',0,1,"
            "50,20,0.5,0.7,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);"
            "INSERT INTO facts VALUES('seed','7');"
            "PRAGMA user_version=1;");
}

static bool is_second(void *user, const drr_trace *t)
{
    assert_int_equal(t->turn, 1);
    assert_string_equal(t->feedback, "No.");
    assert_true(t->forced);
    assert_int_equal(t->n_tokens, 20);
    *(bool *)user = true;
    return true;
}

static void an_older_store_is_read_as_it_is(void **state)
{
    (void)state;
    struct stat before, after;
    drr_store *store = NULL;
    drr_trace_counts counts;
    drr_trace_filter filter;
    drr_trace *turns = NULL;
    size_t n = 0;
    bool found = false;
    begin();
    make_old_store();
    assert_int_equal(stat(path, &before), 0);
    assert_seen(path, 2, 0);
    assert_int_equal(drr_store_open_read(&store, path, NULL), DRR_OK);
    assert_int_equal(drr_store_counts(store, NULL, &counts, NULL), DRR_OK);
    assert_int_equal(counts.traces, 2);
    assert_int_equal(counts.tokens, 30);
    assert_int_equal(counts.stepped + counts.rollouts + counts.step_tokens, 0);
    drr_trace_filter_defaults(&filter);
    filter.label = DRR_LABEL_REJECT;
    filter.limit = 1;
    assert_int_equal(drr_store_each(store, &filter, is_second, &found, NULL), DRR_OK);
    assert_true(found);
    const store_sample sample = {"set", "q0", "r1", "p1", 0};
    assert_int_equal(store_sample_turns(store, &sample, &turns, &n, NULL), DRR_OK);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++)
        drr_trace_clear(&turns[i]);
    free(turns);
    assert_int_equal(drr_store_export(store, NULL, lines, NULL, NULL), DRR_OK);
    assert_seen(lines, 2, 0);
    drr_store_close(store);
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof after.st_mtim);
    assert_int_equal(version_of(), 1);
    remove_files();
}

static void an_older_store_that_is_written_to_becomes_one_of_todays(void **state)
{
    (void)state;
    drr_store *store = NULL;
    drr_trace t = with_steps(0);
    char *seed = NULL;
    begin();
    make_old_store();
    assert_int_equal(drr_store_open(&store, path, false, NULL), DRR_OK);
    assert_int_equal(version_of(), 3);
    assert_int_equal(store_fact_get(store, "seed", &seed, NULL), DRR_OK);
    assert_string_equal(seed, "7");
    free(seed);
    assert_int_equal(store_steps_set(store, &t, NULL), DRR_OK); /* turn 1 of the old traces */
    t.sample = 5;
    assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    drr_store_close(store);
    assert_int_equal(drr_store_open(&store, path, false, NULL), DRR_OK); /* and once is enough */
    drr_store_close(store);
    assert_seen(path, 3, 2);
    run_sql("PRAGMA user_version=4;");
    drr_error err = {0};
    assert_int_equal(drr_store_open(&store, path, false, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "newer drr"));
    remove_files();
}

static void steps_that_do_not_fit_the_text_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "7",
        "[]",
        "[3]",
        "[{\"end\": 0, \"value\": 1}]",
        "[{\"end\": 0.5, \"value\": 1}]",
        "[{\"end\": 3.5, \"value\": 1}, {\"end\": 3.9, \"value\": 1}]",
        "[{\"end\": 21, \"value\": 1}]", /* the text has 20 bytes */
        "[{\"end\": 4, \"value\": 1}, {\"end\": 4, \"value\": 1}]",
        "[{\"end\": 4}]",
        "[{\"end\": 4, \"value\": 1.5}]",
        "[{\"end\": 4, \"value\": 1, \"right\": 2, \"of\": 1}]",
        "[{\"end\": 4, \"value\": 1, \"of\": -1}]",
        "[{\"end\": -4, \"value\": 1}]",
        "[{\"end\": 1e99, \"value\": 1}]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        drr_error err = {0};
        drr_trace t = {.text = text_of("One. Two.\n\nAnswer: 8")};
        if (trace_steps_from_text(&t, bad[i], "here:1", &err) != DRR_E_FORMAT || !strstr(err.message, "here:1"))
            fail_msg("%s: %s", bad[i], err.message);
        assert_null(t.steps);
        char sql[256];
        begin();
        make_old_store();
        drr_store *store = NULL;
        assert_int_equal(drr_store_open(&store, path, false, NULL), DRR_OK);
        drr_store_close(store);
        snprintf(sql, sizeof sql, "UPDATE traces SET steps='%s' WHERE turn=1", bad[i]);
        run_sql(sql);
        seen s = {0};
        assert_int_equal(drr_traces_each(path, NULL, look, &s, &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "damaged"));
        assert_int_equal(s.n, 1);
    }
    drr_trace t = {.text = text_of("One.")};
    assert_int_equal(trace_steps_from_text(&t, NULL, "here", NULL), DRR_OK);
    assert_int_equal(trace_steps_from_json(&t, json_null(), "here", NULL), DRR_OK);
    assert_int_equal(trace_steps_from_json(&t, NULL, "here", NULL), DRR_OK);
    assert_null(t.steps);
    remove_files();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_survive_a_copy_a_store_and_json_lines),
        cmocka_unit_test(labels_are_added_to_a_stored_trace_once),
        cmocka_unit_test(an_older_store_is_read_as_it_is),
        cmocka_unit_test(an_older_store_that_is_written_to_becomes_one_of_todays),
        cmocka_unit_test(steps_that_do_not_fit_the_text_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
