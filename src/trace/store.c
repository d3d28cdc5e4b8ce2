/* store.c: the trace store's face: a file is SQLite's (sqlite.c, queries.c), a URL PostgreSQL's (postgres.c). What
 * both do alike stands here: the history of a sample, and whether a question is still the one that was answered. */
#include "trace/store_internal.h"

#include <stdlib.h>
#include <string.h>

bool drr_store_is_url(const char *name)
{
    return strncmp(name, "postgres://", 11) == 0 || strncmp(name, "postgresql://", 13) == 0;
}

drr_status drr_store_open(drr_store **store, const char *name, bool create, drr_error *err)
{
    return drr_store_is_url(name) ? store_open_postgres(store, name, create, false, err)
                                  : store_open_sqlite(store, name, create, err);
}

drr_status drr_store_open_read(drr_store **store, const char *name, drr_error *err)
{
    return drr_store_is_url(name) ? store_open_postgres(store, name, false, true, err)
                                  : store_open_sqlite_read(store, name, err);
}

void drr_store_close(drr_store *store)
{
    if (store)
        store->backend->close(store);
}

drr_status store_append_many(drr_store *store, const drr_trace *const *traces, size_t n, bool *added, drr_error *err)
{
    if (store->reads_only)
        return error_set(err, DRR_E_ARGUMENT, "%s was opened for reading alone, and takes no trace", store->name);
    return n ? store->backend->append(store, traces, n, added, err) : DRR_OK;
}

drr_status drr_store_append(drr_store *store, const drr_trace *trace, bool *added, drr_error *err)
{
    return store_append_many(store, &trace, 1, added, err);
}

drr_status store_steps_set(drr_store *store, const drr_trace *trace, drr_error *err)
{
    char *steps = NULL;
    if (store->reads_only)
        return error_set(err, DRR_E_ARGUMENT, "%s was opened for reading alone, and takes no steps", store->name);
    drr_status status = trace_steps_to_text(&steps, trace, err);
    if (status == DRR_OK && steps)
        status = store->backend->steps_set(store, trace, steps, err);
    free(steps);
    return status;
}

/* Batches nest: the outermost one commits. */
drr_status store_batch_begin(drr_store *store, drr_error *err)
{
    const drr_status status = store->depth ? DRR_OK : store->backend->batch_begin(store, err);
    store->depth += status == DRR_OK;
    return status;
}

drr_status store_batch_commit(drr_store *store, drr_error *err)
{
    return store->depth && --store->depth ? DRR_OK : store->backend->batch_commit(store, err);
}

void store_batch_abandon(drr_store *store)
{
    if (store->depth)
        store->backend->batch_abandon(store);
    store->depth = 0;
}

drr_status drr_store_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                          drr_error *err)
{
    drr_trace_filter any;
    drr_trace_filter_defaults(&any);
    return store->backend->each(store, filter ? filter : &any, each, user, err);
}

drr_status drr_store_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err)
{
    drr_trace_filter any;
    drr_trace_filter_defaults(&any);
    return store->backend->counts(store, filter ? filter : &any, counts, err);
}

drr_status store_fact_get(drr_store *store, const char *name, char **value, drr_error *err)
{
    *value = NULL;
    return store->backend->fact_get(store, name, value, err);
}

drr_status store_fact_set(drr_store *store, const char *name, const char *value, drr_error *err)
{
    return store->backend->fact_set(store, name, value, err);
}

drr_status store_damaged(const drr_store *store, drr_error *err)
{
    return error_set(err, DRR_E_FORMAT,
                     "%s: a trace in it is damaged; restore a copy, or import its traces from an export into a new "
                     "store",
                     store->name);
}

/* ---- the turns of one sample */

typedef struct history {
    drr_trace *turns;
    size_t n;
    drr_status status;
    drr_error *err;
} history;

static bool take_turn(void *user, const drr_trace *t)
{
    history *h = user;
    if (t->turn != h->n)
        return false; /* a gap: what follows belongs to no history */
    drr_trace *larger = realloc(h->turns, (h->n + 1) * sizeof *larger);
    h->status = larger ? trace_copy(&larger[h->n], t, h->err) : error_memory(h->err);
    if (larger)
        h->turns = larger;
    h->n += h->status == DRR_OK;
    return h->status == DRR_OK;
}

drr_status store_sample_turns(drr_store *store, const store_sample *sample, drr_trace **turns, size_t *n,
                              drr_error *err)
{
    history h = {.err = err};
    drr_status status = store->backend->sample_turns(store, sample, take_turn, &h, err);
    if (status == DRR_OK)
        status = h.status;
    if (status == DRR_OK) {
        *turns = h.turns;
        *n = h.n;
        return DRR_OK;
    }
    for (size_t i = 0; i < h.n; i++)
        drr_trace_clear(&h.turns[i]);
    free(h.turns);
    return status;
}

/* ---- a question as it was */

typedef struct comparing {
    const drr_task *task;
    const char *question, *what;
} comparing;

static bool compare_question(void *user, const char *question, const char *gold, drr_kind kind)
{
    comparing *c = user;
    if (strcmp(question, c->question) != 0)
        c->what = "other words or choices";
    else if (kind != c->task->kind)
        c->what = "another kind";
    else if (gold[0] && !drr_answer_equal(kind, gold, c->task->answer))
        c->what = "another answer";
    return !c->what;
}

drr_status store_question_changed(drr_store *store, const drr_task *task, const char **what, drr_error *err)
{
    char *question = NULL;
    drr_status status = task_question_text(&question, task, err);
    comparing c = {.task = task, .question = question};
    if (status == DRR_OK)
        status = store->backend->questions(store, task->task, task->id, compare_question, &c, err);
    *what = status == DRR_OK ? c.what : NULL;
    free(question);
    return status;
}
