/* test_trace_hidden.c: hidden states in a store and in a file of traces: kept to the bit, read where an older drr has
 * kept none, and refused where they are damaged. (PostgreSQL's are tests/e2e/test_probe.py's.) */
#include "core/hidden.h"
#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-hidden-XXXXXX";
static char store_path[64], lines_path[64];

static int make_place(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(store_path, sizeof store_path, "%s/traces.db", folder);
    snprintf(lines_path, sizeof lines_path, "%s/traces.jsonl", folder);
    return 0;
}

static void remove_store(void)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char name[80];
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", store_path, tails[i]);
        unlink(name);
    }
    unlink(lines_path);
}

static int remove_place(void **state)
{
    (void)state;
    remove_store();
    return rmdir(folder);
}

/* Strings are literals: never cleared. Sample 1 has hidden states, sample 0 none. */
static drr_trace trace_of(uint32_t sample, void *hidden, size_t size)
{
    static char task[] = "t", id[] = "1", question[] = "How many?", gold[] = "7", reasoner[] = "r", prompt[] = "p",
                text[] = "Answer: 7";
    return (drr_trace){.task = task,
                       .id = id,
                       .question = question,
                       .gold = gold,
                       .kind = DRR_KIND_NUMBER,
                       .reasoner = reasoner,
                       .prompt = prompt,
                       .sample = sample,
                       .text = text,
                       .label = DRR_LABEL_ACCEPT,
                       .hidden = hidden,
                       .hidden_size = size};
}

static void *some_hidden(size_t *size)
{
    static const hidden_layers layers = {1, {HIDDEN_LAST}};
    uint16_t rows[2 * 6];
    void *data = NULL;
    for (uint32_t i = 0; i < 12; i++)
        rows[i] = half_of(0.1f * (float)i - 0.5f);
    assert_int_equal(hidden_pack(&data, size, &layers, 6, rows, 2, 0, NULL), DRR_OK);
    return data;
}

typedef struct seen {
    const void *hidden;
    size_t size, n, with;
} seen;

static bool look(void *user, const drr_trace *t)
{
    seen *s = user;
    s->n++;
    s->with += t->hidden != NULL;
    assert_int_equal(t->hidden != NULL, t->sample == 1);
    if (t->hidden) {
        assert_int_equal(t->hidden_size, s->size);
        assert_memory_equal(t->hidden, s->hidden, s->size);
    }
    return true;
}

static void make_store(void *hidden, size_t size)
{
    drr_store *store = NULL;
    remove_store();
    assert_int_equal(drr_store_open(&store, store_path, true, NULL), DRR_OK);
    for (uint32_t sample = 0; sample < 2; sample++) {
        const drr_trace t = trace_of(sample, sample ? hidden : NULL, sample ? size : 0);
        assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    }
    drr_store_close(store);
}

static void assert_seen(const char *path, seen *s, size_t with)
{
    drr_error err = {0};
    s->n = s->with = 0;
    if (drr_traces_each(path, NULL, look, s, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(s->n, 2);
    assert_int_equal(s->with, with);
}

static void a_store_and_a_file_keep_them(void **state)
{
    (void)state;
    seen s = {0};
    drr_store *store = NULL;
    drr_trace_counts counts;
    drr_trace copy = {0};
    void *hidden = some_hidden(&s.size);
    s.hidden = hidden;
    make_store(hidden, s.size);
    assert_seen(store_path, &s, 1);
    assert_int_equal(drr_store_open_read(&store, store_path, NULL), DRR_OK);
    assert_int_equal(drr_store_counts(store, NULL, &counts, NULL), DRR_OK);
    assert_int_equal(counts.hidden, 1);
    assert_int_equal(drr_store_export(store, NULL, lines_path, NULL, NULL), DRR_OK);
    drr_store_close(store);
    assert_seen(lines_path, &s, 1);
    const drr_trace t = trace_of(1, hidden, s.size);
    assert_int_equal(trace_copy(&copy, &t, NULL), DRR_OK);
    assert_ptr_not_equal(copy.hidden, hidden);
    assert_memory_equal(copy.hidden, hidden, s.size);
    drr_trace_clear(&copy);
    assert_null(copy.hidden);
    free(hidden);
}

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* A store of version 2 is one without the column. */
static void an_older_store_has_none_and_gets_room_when_written_to(void **state)
{
    (void)state;
    seen s = {0};
    drr_store *store = NULL;
    drr_trace_counts counts;
    void *hidden = some_hidden(&s.size);
    s.hidden = hidden;
    make_store(NULL, 0);
    run_sql("ALTER TABLE traces DROP COLUMN hidden; PRAGMA user_version=2; DELETE FROM traces WHERE sample=1;");
    assert_int_equal(drr_store_open_read(&store, store_path, NULL), DRR_OK);
    assert_int_equal(drr_store_counts(store, NULL, &counts, NULL), DRR_OK);
    assert_int_equal(counts.traces, 1);
    assert_int_equal(counts.hidden, 0);
    assert_int_equal(drr_store_each(store, NULL, look, &s, NULL), DRR_OK);
    assert_int_equal(s.n, 1);
    drr_store_close(store);
    assert_int_equal(drr_store_open(&store, store_path, false, NULL), DRR_OK);
    const drr_trace t = trace_of(1, hidden, s.size);
    assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    drr_store_close(store);
    assert_seen(store_path, &s, 1);
    free(hidden);
}

static bool nobody(void *user, const drr_trace *t)
{
    (void)user;
    return t->sample == 0;
}

static void damaged_ones_are_refused(void **state)
{
    (void)state;
    static const char *const breaks[] = {"UPDATE traces SET hidden=x'00' WHERE sample=1",
                                         "UPDATE traces SET hidden='words' WHERE sample=1",
                                         "UPDATE traces SET hidden=substr(hidden, 1, length(hidden)-1) WHERE sample=1"};
    size_t size = 0;
    drr_error err = {0};
    void *hidden = some_hidden(&size);
    for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
        make_store(hidden, size);
        run_sql(breaks[i]);
        assert_int_equal(drr_traces_each(store_path, NULL, nobody, NULL, &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "damaged"));
    }
    free(hidden);
    static const char line[] =
        "{\"task\": \"t\", \"id\": \"1\", \"question\": \"q\", \"gold\": \"7\", \"reasoner\": \"r\", "
        "\"prompt\": \"p\", \"text\": \"7\", \"correct\": true, \"hidden\": \"ZHJyaA==\"}\n";
    assert_int_equal(file_write_all(lines_path, line, sizeof line - 1, NULL), DRR_OK);
    assert_int_equal(drr_traces_each(lines_path, NULL, nobody, NULL, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "traces.jsonl:1"));
    assert_non_null(strstr(err.message, "hidden"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_and_a_file_keep_them),
        cmocka_unit_test(an_older_store_has_none_and_gets_room_when_written_to),
        cmocka_unit_test(damaged_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
