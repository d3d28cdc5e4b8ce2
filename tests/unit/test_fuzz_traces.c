/* test_fuzz_traces.c: damaged trace files and stores. Whatever is said about them is fine; a crash, a hang and a record
 * that no trace can be are not. The damage is seeded: what fails once fails always. */
#include "mutate.h"
#include "reasoner/reasoner.h"
#include "trace/trace.h"

/* ---- what is damaged: traces of every kind, label and finish */

static char *text_of(const char *text) /* the trace's strings are never written to here */
{
    return (char *)(uintptr_t)text;
}

static drr_trace make_trace(uint32_t i)
{
    static const char *const golds[] = {"B", "12.5", "yes", "a caf\xc3\xa9"};
    static drr_step steps[] = {{6, 3, 4, 0.75f}, {20, 0, 0, 0}}; /* every text is as long */
    static const char *const ids[] = {"q0", "q1", "q2", "q3", "q4"};
    drr_trace t = {.task = text_of("set"),
                   .id = text_of(ids[i / 4 % 5]),
                   .question = text_of(i % 4 ? "How \"many\"?\n" : "Where? (A) bank (B) library (C) mall"),
                   .gold = text_of(golds[i % 4]),
                   .kind = (drr_kind)(i % 4),
                   .reasoner = text_of("r1"),
                   .prompt = text_of("p1"),
                   .sample = i / 20,
                   .turn = i % 4,
                   .seed = hash_mix(i, i),
                   .feedback = text_of(i % 4 ? "No. Try again." : NULL),
                   .forced = i % 4 == 2,
                   .text = text_of(i % 3 ? "12 + 0.5 = 12.5\nAnswer: 12.5" : "I think (B) is it.\nAnswer: B"),
                   .answer = text_of(i % 5 ? golds[i % 4] : NULL),
                   .label = (drr_label)(i % 3),
                   .finish = (drr_finish)(i % 3),
                   .n_prompt_tokens = 100 + i,
                   .n_tokens = i,
                   .seconds = 0.25 * i,
                   .temperature = 0.7f};
    if (i % 2)
        t.stats = (drr_token_stats){9, 2, -0.5f, -2, -0.25f, 1, -0.125f, -0.75f, 0.5f, 1.5f};
    else
        trace_token_stats_unknown(&t.stats);
    if (i % 3 == 2) {
        t.steps = steps;
        t.n_steps = 2;
        t.steps_rollouts = 4;
        t.steps_tokens = i;
    }
    return t;
}

static void make_store(const char *path, uint32_t n)
{
    drr_store *store = NULL;
    assert_int_equal(drr_store_open(&store, path, true, NULL), DRR_OK);
    assert_int_equal(store_batch_begin(store, NULL), DRR_OK);
    for (uint32_t i = 0; i < n; i++) {
        const drr_trace t = make_trace(i);
        assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
    }
    assert_int_equal(store_fact_set(store, "reasoner", "r1", NULL), DRR_OK);
    assert_int_equal(store_batch_commit(store, NULL), DRR_OK);
    drr_store_close(store);
}

static void read_back(char **data, size_t *size, const char *path)
{
    assert_int_equal(file_read(data, size, path, 0, NULL), DRR_OK);
    unlink(path);
}

/* A valid file of each sort. */
static void make_jsonl(char **data, size_t *size, const char *name, uint32_t n)
{
    char store_path[128], path[128];
    drr_store *store = NULL;
    make_store(mutate_path(store_path, "valid.db"), n);
    assert_int_equal(drr_store_open(&store, store_path, false, NULL), DRR_OK);
    assert_int_equal(drr_store_export(store, NULL, mutate_path(path, name), NULL, NULL), DRR_OK);
    drr_store_close(store);
    unlink(store_path);
    read_back(data, size, path);
}

static void remove_store(const char *path)
{
    char name[160];
    unlink(path);
    snprintf(name, sizeof name, "%s-wal", path);
    unlink(name);
    snprintf(name, sizeof name, "%s-shm", path);
    unlink(name);
}

/* ---- what a reader may hand out */

/* A trace that came through is whole: its parts are there, its enums known, and as JSON it is read again. */
static bool is_whole(void *user, const drr_trace *t)
{
    size_t *n = user;
    drr_trace copy;
    assert_true(t->task && t->id && t->question && t->gold && t->reasoner && t->prompt && t->text);
    assert_true((unsigned)t->kind < 4 && (unsigned)t->label < 3 && (unsigned)t->finish < 5);
    for (uint32_t i = 0; i < t->n_steps; i++)
        assert_in_range(t->steps[i].end, i ? t->steps[i - 1].end + 1 : 1, strlen(t->text));
    json_t *o = NULL;
    drr_error err = {0};
    const drr_status status = trace_to_json(&o, t, &err);
    if (status == DRR_OK) {
        assert_int_equal(trace_from_json(&copy, o, "again", NULL), DRR_OK);
        assert_string_equal(copy.text, t->text);
        assert_int_equal(copy.seed, t->seed);
        assert_int_equal(copy.stats.n, t->stats.n);
        assert_int_equal(copy.n_steps, t->n_steps);
        drr_trace_clear(&copy);
        json_decref(o);
    } else {
        assert_int_equal(status, DRR_E_FORMAT); /* a store's bytes need not be UTF-8 */
        assert_true(strlen(err.message) > 10);
    }
    ++*n;
    return true;
}

/* A refusal has words, and does not put it down to memory. */
static void judge(drr_status status, const drr_error *err)
{
    if (status == DRR_OK)
        return;
    if (status == DRR_E_MEMORY || strlen(err->message) < 10)
        fail_msg("%s: \"%s\"", drr_status_name(status), err->message);
}

static void use_replay(const char *path, const char *question)
{
    drr_reasoner_options options;
    drr_reasoner *r = NULL;
    drr_error err = {0};
    drr_reasoner_options_defaults(&options);
    options.replay_reasoner = "r1";
    const drr_status status = reasoner_open_replay(&r, path, &options, &err);
    judge(status, &err);
    if (status != DRR_OK)
        return;
    for (uint32_t sample = 0; sample < 4; sample++) {
        const reasoner_request request = {.question = question, .sample = sample};
        reasoner_completion c = {0};
        assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
        assert_int_equal(reasoner_next(r, &c, NULL), DRR_OK);
        assert_true(c.text || c.failure);
        reasoner_completion_clear(&c);
    }
    drr_reasoner_close(r);
}

static void use_lines(const char *path, drr_store *kept)
{
    drr_error err = {0};
    drr_trace_filter filter;
    drr_regrade result;
    size_t n = 0, n_filtered = 0;
    const drr_status status = drr_traces_read(path, is_whole, &n, &err);
    judge(status, &err);
    drr_trace_filter_defaults(&filter);
    filter.label = DRR_LABEL_ACCEPT;
    filter.limit = 2;
    judge(drr_traces_each(path, &filter, is_whole, &n_filtered, &err), &err);
    assert_true(n_filtered <= 2);
    judge(drr_traces_regrade(path, &result, NULL, NULL, &err), &err);
    use_replay(path, "Where? (A) bank (B) library (C) mall");
    if (kept) {
        drr_trace_counts before, after;
        uint64_t added = 0, present = 0;
        assert_int_equal(drr_store_counts(kept, NULL, &before, NULL), DRR_OK);
        const drr_status imported = drr_store_import(kept, path, &added, &present, &err);
        judge(imported, &err);
        assert_int_equal(imported, status);
        assert_int_equal(drr_store_counts(kept, NULL, &after, NULL), DRR_OK);
        assert_int_equal(after.traces, before.traces + added); /* none when it was refused */
        assert_int_equal(added + present, imported == DRR_OK ? n : 0);
    }
}

static void damage_lines(const char *name, int rounds, uint64_t seed)
{
    char *data = NULL, path[128], kept_path[128];
    size_t size = 0;
    buffer b = {0};
    drr_store *kept = NULL;
    rng r;
    rng_seed(&r, seed);
    make_jsonl(&data, &size, name, 12);
    mutate_path(path, name);
    assert_int_equal(drr_store_open(&kept, mutate_path(kept_path, "kept.db"), true, NULL), DRR_OK);
    mutate_write(path, data, size);
    use_lines(path, kept); /* as it was */
    for (int i = 0; i < rounds; i++) {
        mutate(&b, data, size, 0, &r);
        mutate_write(path, b.data, b.size);
        use_lines(path, i % 16 ? NULL : kept);
    }
    drr_store_close(kept);
    remove_store(kept_path);
    unlink(path);
    buffer_clear(&b);
    free(data);
}

static void damaged_lines_are_read_or_refused(void **state)
{
    (void)state;
    damage_lines("traces.jsonl", 3000, 1);
}

static void damaged_gzip_is_read_or_refused(void **state)
{
    (void)state;
    damage_lines("traces.jsonl.gz", 2000, 2);
}

/* ---- one field at a time: what a whole file's damage seldom reaches */

static void any_value_in_any_field_is_read_or_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"null",
                                         "true",
                                         "0",
                                         "-1",
                                         "4294967296",
                                         "4294967295",
                                         "-0.5",
                                         "1e308",
                                         "-1e308",
                                         "99999999999",
                                         "\"\"",
                                         "\"x\"",
                                         "\"-1\"",
                                         "\"99999999999999999999999\"",
                                         "[]",
                                         "{}",
                                         "{\"n\":-1}",
                                         "{\"n\":1e300,\"answer_n\":-5}",
                                         "{\"n\":\"x\",\"mean\":[]}",
                                         "{\"n\":3,\"mean\":1e300}"};
    const drr_trace t = make_trace(1);
    json_t *whole = NULL, *value;
    const char *field;
    size_t n = 0, n_read = 0;
    assert_int_equal(trace_to_json(&whole, &t, NULL), DRR_OK);
    json_object_foreach(whole, field, value)
    {
        for (size_t i = 0; i <= sizeof values / sizeof *values; i++) { /* the last time it is left out */
            json_t *o = json_copy(whole);
            drr_trace got;
            drr_error err = {0};
            if (i < sizeof values / sizeof *values)
                json_object_set_new(o, field, json_loads(values[i], JSON_DECODE_ANY, NULL));
            else
                json_object_del(o, field);
            const drr_status status = trace_from_json(&got, o, "x.jsonl:1", &err);
            if (status == DRR_OK) {
                is_whole(&n_read, &got);
                drr_trace_clear(&got);
            } else {
                assert_int_equal(status, DRR_E_FORMAT);
                assert_non_null(strstr(err.message, "x.jsonl:1"));
            }
            json_decref(o);
            n++;
        }
    }
    assert_true(n_read > n / 4 && n_read < n);
    json_decref(whole);
}

/* ---- SQLite */

static void use_store(const char *path, const char *export)
{
    drr_store *store = NULL;
    drr_error err = {0};
    drr_trace_counts counts;
    drr_trace *turns = NULL;
    drr_regrade result;
    char *fact = NULL;
    size_t n = 0;
    uint64_t n_exported = 0;
    judge(drr_traces_each(path, NULL, is_whole, &n, &err), &err);
    drr_status status = drr_store_open(&store, path, false, &err);
    judge(status, &err);
    if (status != DRR_OK)
        return;
    judge(drr_store_counts(store, NULL, &counts, &err), &err);
    judge(drr_store_each(store, NULL, is_whole, &n, &err), &err);
    status = store_sample_turns(store, &(store_sample){"set", "q0", "r1", "p1", 0}, &turns, &n, &err);
    judge(status, &err);
    for (size_t i = 0; status == DRR_OK && i < n; i++) {
        assert_int_equal(turns[i].turn, i);
        drr_trace_clear(&turns[i]);
    }
    free(turns);
    const drr_task task = {"set", "q0", "How \"many\"?\n", NULL, 0, "1", DRR_KIND_NUMBER};
    const char *what = NULL;
    judge(store_question_changed(store, &task, &what, &err), &err);
    judge(store_fact_get(store, "reasoner", &fact, &err), &err);
    free(fact);
    judge(drr_store_export(store, NULL, export, &n_exported, &err), &err);
    const drr_trace t = make_trace(1000);
    judge(drr_store_append(store, &t, NULL, &err), &err);
    judge(store_fact_set(store, "more", "x", &err), &err);
    drr_store_close(store);
    judge(drr_traces_regrade(path, &result, NULL, NULL, &err), &err);
}

static void damaged_stores_are_read_or_refused(void **state)
{
    (void)state;
    char *data = NULL, path[128], export[128];
    size_t size = 0;
    buffer b = {0};
    rng r;
    rng_seed(&r, 3);
    make_store(mutate_path(path, "store.db"), 40);
    read_back(&data, &size, path);
    mutate_path(export, "export.jsonl");
    for (int i = -1; i < 800; i++) {
        mutate(&b, data, size, i % 2 ? 4200 : 0, &r); /* the header and the schema as often as the rows */
        mutate_write(path, i < 0 ? data : b.data, i < 0 ? size : b.size);
        use_store(path, export);
        remove_store(path);
    }
    unlink(export);
    buffer_clear(&b);
    free(data);
}

static void damaged_caches_are_read_or_refused(void **state)
{
    (void)state;
    char *data = NULL, *blob, path[128], key[16];
    size_t size = 0;
    buffer b = {0};
    blob_cache *cache = NULL;
    rng r;
    rng_seed(&r, 4);
    assert_int_equal(blob_cache_open(&cache, mutate_path(path, "cache.db"), NULL), DRR_OK);
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_int_equal(blob_cache_put(cache, key, path, sizeof path, NULL), DRR_OK);
    }
    blob_cache_close(cache);
    read_back(&data, &size, path);
    for (int i = 0; i < 500; i++) {
        drr_error err = {0};
        mutate(&b, data, size, 0, &r);
        mutate_write(path, b.data, b.size);
        cache = NULL;
        drr_status status = blob_cache_open(&cache, path, &err);
        judge(status, &err);
        for (int k = 0; status == DRR_OK && k < 32; k++) {
            snprintf(key, sizeof key, "key%d", k);
            size_t length = 0;
            const drr_status got = blob_cache_get(cache, key, &blob, &length, &err);
            if (got == DRR_OK) {
                assert_int_equal(blob[length], '\0');
                free(blob);
            } else if (got != DRR_E_EMPTY) {
                judge(got, &err);
            }
        }
        if (status == DRR_OK)
            judge(blob_cache_put(cache, "more", "x", 1, &err), &err);
        blob_cache_close(cache);
        remove_store(path);
    }
    buffer_clear(&b);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_lines_are_read_or_refused),
        cmocka_unit_test(damaged_gzip_is_read_or_refused),
        cmocka_unit_test(any_value_in_any_field_is_read_or_refused),
        cmocka_unit_test(damaged_stores_are_read_or_refused),
        cmocka_unit_test(damaged_caches_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, mutate_begin, mutate_end);
}
