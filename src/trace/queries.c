/* queries.c: reads the SQLite store: filtered traces, the turns of one sample, counts and facts. */
#include "core/hidden.h"
#include "trace/sqlite_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows to traces */

static char *column_copy(sqlite3_stmt *q, int column)
{
    return string_copy((const char *)sqlite3_column_text(q, column));
}

static float column_float(sqlite3_stmt *q, int column)
{
    return sqlite3_column_type(q, column) == SQLITE_NULL ? NAN : (float)sqlite3_column_double(q, column);
}

/* Memory was out for a column that may be NULL, and is not; text: the column as it was read. */
static bool column_lost(sqlite3_stmt *q, int column, const char *text)
{
    return !text && sqlite3_column_type(q, column) != SQLITE_NULL;
}

/* What the schema promises of a row. A damaged file breaks it without SQLite's notice. */
static bool row_is_whole(sqlite3_stmt *q)
{
    static const int texts[] = {0, 1, 2, 3, 6, 7, 12};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (sqlite3_column_type(q, texts[i]) != SQLITE_TEXT)
            return false;
    const int kind = sqlite3_column_int(q, 8), label = sqlite3_column_int(q, 14), finish = sqlite3_column_int(q, 15);
    return kind >= 0 && kind <= DRR_KIND_CHECKED && label >= 0 && label <= DRR_LABEL_UNLABELLED && finish >= 0 &&
           finish <= DRR_FINISH_FAILED;
}

static drr_status read_row(drr_trace *t, sqlite3_stmt *q, const drr_store *store, drr_error *err)
{
    if (!row_is_whole(q))
        return store_damaged(store, err);
    *t = (drr_trace){.task = column_copy(q, 0),
                     .id = column_copy(q, 1),
                     .reasoner = column_copy(q, 2),
                     .prompt = column_copy(q, 3),
                     .sample = (uint32_t)sqlite3_column_int64(q, 4),
                     .turn = (uint32_t)sqlite3_column_int64(q, 5),
                     .question = column_copy(q, 6),
                     .gold = column_copy(q, 7),
                     .kind = (drr_kind)sqlite3_column_int(q, 8),
                     .seed = (uint64_t)sqlite3_column_int64(q, 9),
                     .feedback = column_copy(q, 10),
                     .forced = sqlite3_column_int(q, 11) != 0,
                     .text = column_copy(q, 12),
                     .answer = column_copy(q, 13),
                     .label = (drr_label)sqlite3_column_int(q, 14),
                     .finish = (drr_finish)sqlite3_column_int(q, 15),
                     .n_prompt_tokens = (uint32_t)sqlite3_column_int64(q, 16),
                     .n_tokens = (uint32_t)sqlite3_column_int64(q, 17),
                     .seconds = sqlite3_column_double(q, 18),
                     .temperature = column_float(q, 19),
                     .stats = {.n = (uint32_t)sqlite3_column_int64(q, 20),
                               .answer_n = (uint32_t)sqlite3_column_int64(q, 21),
                               .mean = column_float(q, 22),
                               .min = column_float(q, 23),
                               .tail_mean = column_float(q, 24),
                               .entropy_mean = column_float(q, 25),
                               .answer_mean = column_float(q, 26),
                               .answer_min = column_float(q, 27),
                               .answer_entropy = column_float(q, 28),
                               .answer_margin = column_float(q, 29)},
                     .steps_rollouts = (uint32_t)sqlite3_column_int64(q, 31),
                     .steps_tokens = (uint32_t)sqlite3_column_int64(q, 32)};
    const char *steps = (const char *)sqlite3_column_text(q, 30);
    const bool lost = column_lost(q, 10, t->feedback) || column_lost(q, 13, t->answer) || column_lost(q, 30, steps);
    drr_status status = t->task && t->id && t->reasoner && t->prompt && t->question && t->gold && t->text && !lost
                            ? trace_steps_from_text(t, steps, store->name, err)
                            : error_memory(err);
    const void *hidden = status == DRR_OK ? sqlite3_column_blob(q, 33) : NULL;
    const size_t hidden_size = (size_t)sqlite3_column_bytes(q, 33);
    if (status == DRR_E_FORMAT || (hidden && !hidden_is_whole(hidden, hidden_size)))
        status = store_damaged(store, err);
    else if (hidden && !trace_hidden_copy(t, hidden, hidden_size))
        status = error_memory(err);
    if (status != DRR_OK)
        drr_trace_clear(t);
    return status;
}

/* ---- filters */

#define FILTERED                                                                                                       \
    " WHERE (?1 IS NULL OR task=?1) AND (?2 IS NULL OR id=?2) AND (?3 IS NULL OR reasoner=?3)"                         \
    " AND (?4 IS NULL OR prompt=?4) AND (?5<0 OR label=?5) AND (?6<0 OR turn=?6)"

/* SELECT these columns of the traces, of whatever version the store is. */
static drr_status prepare(sqlite3_stmt **q, const sqlite_store *s, const char *columns, const char *rest,
                          drr_error *err)
{
    buffer sql = {0};
    drr_status status =
        buffer_printf(&sql, err, "SELECT %s FROM %s%s", columns, TRACE_SOURCE(&s->base, "traces"), rest);
    if (status == DRR_OK && sqlite3_prepare_v2(s->db, sql.data, -1, q, NULL) != SQLITE_OK)
        status = sqlite_fail(s->db, s->base.name, "reading", err);
    buffer_clear(&sql);
    return status;
}

static drr_status prepare_filtered(sqlite3_stmt **q, const sqlite_store *s, const char *columns, const char *rest,
                                   const drr_trace_filter *f, drr_error *err)
{
    drr_status status = prepare(q, s, columns, rest, err);
    if (status != DRR_OK)
        return status;
    const char *const texts[] = {f->task, f->id, f->reasoner, f->prompt};
    for (int i = 0; i < 4; i++)
        if (texts[i])
            sqlite3_bind_text(*q, i + 1, texts[i], -1, SQLITE_STATIC);
    sqlite3_bind_int(*q, 5, f->label);
    sqlite3_bind_int(*q, 6, f->turn);
    sqlite3_bind_int64(*q, 7, f->limit);
    return DRR_OK;
}

/* Hands each row of a prepared query to the callee; *status as it was, or the first error. */
static void hand_rows(sqlite_store *s, sqlite3_stmt *q, drr_trace_fn each, void *user, drr_status *status,
                      drr_error *err)
{
    int code = SQLITE_DONE;
    while (*status == DRR_OK && (code = sqlite3_step(q)) == SQLITE_ROW) {
        drr_trace t;
        *status = read_row(&t, q, &s->base, err);
        if (*status != DRR_OK)
            return;
        const bool more = each(user, &t);
        drr_trace_clear(&t);
        if (!more)
            return;
    }
    if (*status == DRR_OK && code != SQLITE_DONE)
        *status = sqlite_fail(s->db, s->base.name, "reading", err);
}

drr_status sqlite_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status = prepare_filtered(
        &q, s, TRACE_COLUMNS, FILTERED " ORDER BY task, id, sample, turn, reasoner, prompt LIMIT ?7", filter, err);
    hand_rows(s, q, each, user, &status, err);
    sqlite3_finalize(q);
    const drr_status change = sqlite_unchanged(s, err);
    return change == DRR_OK ? status : change;
}

drr_status sqlite_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status = prepare_filtered(
        &q, s,
        "count(*), count(DISTINCT task||char(0)||id), sum(label=1), sum(label=0), sum(label=2), sum(forced),"
        " sum(n_tokens), sum(turn=0), sum(turn=0 AND label=1), sum(seconds), sum(label=3), count(steps),"
        " sum(steps_rollouts), sum(steps_tokens), count(hidden)",
        FILTERED " AND (?7 IS NULL OR 1)", filter, err);
    if (status == DRR_OK && sqlite3_step(q) != SQLITE_ROW)
        status = sqlite_fail(s->db, store->name, "counting", err);
    if (status == DRR_OK)
        *counts = (drr_trace_counts){.traces = (uint64_t)sqlite3_column_int64(q, 0),
                                     .questions = (uint64_t)sqlite3_column_int64(q, 1),
                                     .accepted = (uint64_t)sqlite3_column_int64(q, 2),
                                     .rejected = (uint64_t)sqlite3_column_int64(q, 3),
                                     .unparsed = (uint64_t)sqlite3_column_int64(q, 4),
                                     .forced = (uint64_t)sqlite3_column_int64(q, 5),
                                     .tokens = (uint64_t)sqlite3_column_int64(q, 6),
                                     .turn0 = (uint64_t)sqlite3_column_int64(q, 7),
                                     .turn0_accepted = (uint64_t)sqlite3_column_int64(q, 8),
                                     .seconds = sqlite3_column_double(q, 9),
                                     .unlabelled = (uint64_t)sqlite3_column_int64(q, 10),
                                     .stepped = (uint64_t)sqlite3_column_int64(q, 11),
                                     .rollouts = (uint64_t)sqlite3_column_int64(q, 12),
                                     .step_tokens = (uint64_t)sqlite3_column_int64(q, 13),
                                     .hidden = (uint64_t)sqlite3_column_int64(q, 14)};
    sqlite3_finalize(q);
    const drr_status change = sqlite_unchanged(s, err);
    return change == DRR_OK ? status : change;
}

/* ---- one sample, one question */

drr_status sqlite_sample_turns(drr_store *store, const store_sample *sample, drr_trace_fn each, void *user,
                               drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status =
        prepare(&q, s, TRACE_COLUMNS,
                " WHERE task=?1 AND id=?2 AND reasoner=?3 AND prompt=?4 AND sample=?5 ORDER BY turn", err);
    if (status != DRR_OK)
        return status;
    const char *const texts[] = {sample->task, sample->id, sample->reasoner, sample->prompt};
    for (int i = 0; i < 4; i++)
        sqlite3_bind_text(q, i + 1, texts[i], -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 5, sample->sample);
    hand_rows(s, q, each, user, &status, err);
    sqlite3_finalize(q);
    return status;
}

drr_status sqlite_questions(drr_store *store, const char *task, const char *id, store_question_fn each, void *user,
                            drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    int code;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(s->db, "SELECT DISTINCT question, gold, kind FROM traces WHERE task=?1 AND id=?2", -1, &q,
                           NULL) != SQLITE_OK)
        return sqlite_fail(s->db, store->name, "reading", err);
    sqlite3_bind_text(q, 1, task, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
    while ((code = sqlite3_step(q)) == SQLITE_ROW) {
        const char *question = (const char *)sqlite3_column_text(q, 0), *gold = (const char *)sqlite3_column_text(q, 1);
        if (!question || !gold) {
            status = store_damaged(store, err);
            break;
        }
        if (!each(user, question, gold, (drr_kind)sqlite3_column_int(q, 2)))
            break;
    }
    if (status == DRR_OK && code != SQLITE_ROW && code != SQLITE_DONE)
        status = sqlite_fail(s->db, store->name, "reading", err);
    sqlite3_finalize(q);
    return status;
}

/* ---- facts */

drr_status sqlite_fact_get(drr_store *store, const char *name, char **value, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(s->db, "SELECT value FROM facts WHERE name=?1", -1, &q, NULL) != SQLITE_OK)
        return sqlite_fail(s->db, store->name, "reading", err);
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    const int code = sqlite3_step(q);
    if (code == SQLITE_ROW && sqlite3_column_type(q, 0) != SQLITE_TEXT) {
        status = error_set(err, DRR_E_FORMAT, "%s: its fact \"%s\" is damaged; restore a copy", store->name, name);
    } else if (code == SQLITE_ROW) {
        *value = column_copy(q, 0);
        if (!*value)
            status = error_memory(err);
    } else if (code != SQLITE_DONE) {
        status = sqlite_fail(s->db, store->name, "reading", err);
    }
    sqlite3_finalize(q);
    return status;
}

drr_status sqlite_fact_set(drr_store *store, const char *name, const char *value, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(s->db, "INSERT OR REPLACE INTO facts(name, value) VALUES(?1, ?2)", -1, &q, NULL) !=
        SQLITE_OK)
        return sqlite_fail(s->db, store->name, "writing", err);
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, value, -1, SQLITE_STATIC);
    if (sqlite3_step(q) != SQLITE_DONE)
        status = sqlite_fail(s->db, store->name, "writing", err);
    sqlite3_finalize(q);
    return status;
}
