/* postgres_read.c: reads traces from PostgreSQL, row by row, so that a store larger than memory can be read. */
#include "core/hidden.h"
#include "trace/postgres_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows to traces */

static char *text_of(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NULL : string_copy(PQgetvalue(r, row, column));
}

static float float_of(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NAN : strtof(PQgetvalue(r, row, column), NULL);
}

static uint32_t count_of(const PGresult *r, int row, int column)
{
    return (uint32_t)pg_uint(r, row, column);
}

/* From the text that the server gives for bytes; DRR_E_FORMAT, *err untouched, where these are no hidden states. */
static drr_status read_hidden(drr_trace *t, const char *text, drr_error *err)
{
    size_t size = 0;
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &size);
    drr_status status = bytes ? DRR_OK : error_memory(err);
    if (bytes && !hidden_is_whole(bytes, size))
        status = DRR_E_FORMAT;
    else if (bytes && !trace_hidden_copy(t, bytes, size))
        status = error_memory(err);
    PQfreemem(bytes);
    return status;
}

static drr_status read_row(drr_trace *t, const PGresult *r, int row, const drr_store *store, drr_error *err)
{
    const unsigned kind = count_of(r, row, 8), label = count_of(r, row, 14), finish = count_of(r, row, 15);
    if (kind > DRR_KIND_CHECKED || label > DRR_LABEL_UNLABELLED || finish > DRR_FINISH_FAILED)
        return store_damaged(store, err);
    *t = (drr_trace){.task = text_of(r, row, 0),
                     .id = text_of(r, row, 1),
                     .reasoner = text_of(r, row, 2),
                     .prompt = text_of(r, row, 3),
                     .sample = count_of(r, row, 4),
                     .turn = count_of(r, row, 5),
                     .question = text_of(r, row, 6),
                     .gold = text_of(r, row, 7),
                     .kind = (drr_kind)kind,
                     .seed = (uint64_t)strtoll(PQgetvalue(r, row, 9), NULL, 10),
                     .feedback = text_of(r, row, 10),
                     .forced = count_of(r, row, 11) != 0,
                     .text = text_of(r, row, 12),
                     .answer = text_of(r, row, 13),
                     .label = (drr_label)label,
                     .finish = (drr_finish)finish,
                     .n_prompt_tokens = count_of(r, row, 16),
                     .n_tokens = count_of(r, row, 17),
                     .seconds = PQgetisnull(r, row, 18) ? NAN : strtod(PQgetvalue(r, row, 18), NULL),
                     .temperature = float_of(r, row, 19),
                     .stats = {.n = count_of(r, row, 20),
                               .answer_n = count_of(r, row, 21),
                               .mean = float_of(r, row, 22),
                               .min = float_of(r, row, 23),
                               .tail_mean = float_of(r, row, 24),
                               .entropy_mean = float_of(r, row, 25),
                               .answer_mean = float_of(r, row, 26),
                               .answer_min = float_of(r, row, 27),
                               .answer_entropy = float_of(r, row, 28),
                               .answer_margin = float_of(r, row, 29)},
                     .steps_rollouts = count_of(r, row, 31),
                     .steps_tokens = count_of(r, row, 32)};
    const bool lacks_answer = !t->answer && !PQgetisnull(r, row, 13);
    const bool lacks_feedback = !t->feedback && !PQgetisnull(r, row, 10);
    drr_status status = DRR_OK;
    if (!t->task || !t->id || !t->reasoner || !t->prompt || !t->question || !t->gold || !t->text || lacks_answer ||
        lacks_feedback)
        status = error_memory(err);
    else if (!PQgetisnull(r, row, 30))
        status = trace_steps_from_text(t, PQgetvalue(r, row, 30), store->name, err);
    if (status == DRR_OK && !PQgetisnull(r, row, 33))
        status = read_hidden(t, PQgetvalue(r, row, 33), err);
    if (status == DRR_E_FORMAT)
        status = store_damaged(store, err);
    if (status != DRR_OK)
        drr_trace_clear(t);
    return status;
}

/* ---- many rows */

/* Reads what is still on its way; with `stop` tells the server that it may end there, which a transaction would not
 * survive. */
static void drain(PGconn *db, bool stop)
{
    char unused[256];
    PGcancel *cancel = stop ? PQgetCancel(db) : NULL;
    if (cancel)
        PQcancel(cancel, unused, sizeof unused);
    PQfreeCancel(cancel);
    for (PGresult *r; (r = PQgetResult(db));)
        PQclear(r);
}

/* The connection is busy until this returns: the callee must not touch the store. */
static drr_status stream(postgres_store *s, const char *sql, int n, const char *const *values, drr_trace_fn each,
                         void *user, drr_error *err)
{
    drr_status status = pg_query(s, NULL, "SELECT 1", 0, NULL, "reading", err); /* makes a lost connection again */
    bool more = true;
    if (status == DRR_OK &&
        (PQsendQueryParams(s->db, sql, n, NULL, values, NULL, NULL, 0) != 1 || PQsetSingleRowMode(s->db) != 1))
        status = pg_fail(s, NULL, "reading", err);
    for (PGresult *r; status == DRR_OK && more && (r = PQgetResult(s->db));) {
        const ExecStatusType code = PQresultStatus(r);
        drr_trace t = {0};
        if (code == PGRES_SINGLE_TUPLE)
            status = read_row(&t, r, 0, &s->base, err);
        else if (code != PGRES_TUPLES_OK)
            status = pg_fail(s, r, "reading", err);
        if (status == DRR_OK && code == PGRES_SINGLE_TUPLE)
            more = each(user, &t);
        drr_trace_clear(&t);
        PQclear(r);
    }
    drain(s->db, (!more || status != DRR_OK) && !s->batch);
    return status;
}

#define FILTERED                                                                                                       \
    " WHERE ($1::text IS NULL OR task=$1) AND ($2::text IS NULL OR id=$2)"                                             \
    " AND ($3::text IS NULL OR reasoner=$3) AND ($4::text IS NULL OR prompt=$4)"                                       \
    " AND ($5::int IS NULL OR label=$5) AND ($6::bigint IS NULL OR turn=$6)"

/* SELECT these columns of the traces, of whatever version the store is. */
static drr_status selection(buffer *sql, const drr_store *store, const char *columns, const char *rest, drr_error *err)
{
    return buffer_printf(sql, err, "SELECT %s FROM %s%s", columns, TRACE_SOURCE(store, "drr_traces"), rest);
}

typedef struct filter_values {
    char label[16], turn[16], limit[24];
    const char *values[7];
} filter_values;

static void bind_filter(filter_values *b, const drr_trace_filter *f)
{
    snprintf(b->label, sizeof b->label, "%d", f->label);
    snprintf(b->turn, sizeof b->turn, "%d", f->turn);
    snprintf(b->limit, sizeof b->limit, "%lld", (long long)f->limit);
    const char *const values[7] = {f->task,
                                   f->id,
                                   f->reasoner,
                                   f->prompt,
                                   f->label < 0 ? NULL : b->label,
                                   f->turn < 0 ? NULL : b->turn,
                                   f->limit < 0 ? NULL : b->limit};
    memcpy(b->values, values, sizeof values);
}

drr_status pg_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user, drr_error *err)
{
    filter_values b;
    buffer sql = {0};
    bind_filter(&b, filter);
    drr_status status = selection(&sql, store, TRACE_COLUMNS,
                                  FILTERED " ORDER BY task, id, sample, turn, reasoner, prompt LIMIT $7::bigint", err);
    if (status == DRR_OK)
        status = stream((postgres_store *)store, sql.data, 7, b.values, each, user, err);
    buffer_clear(&sql);
    return status;
}

drr_status pg_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err)
{
    PGresult *r = NULL;
    filter_values b;
    buffer sql = {0};
    bind_filter(&b, filter);
    drr_status status = selection(
        &sql, store,
        "count(*), count(DISTINCT (task, id)), count(*) FILTER (WHERE label=1), count(*) FILTER (WHERE label=0),"
        " count(*) FILTER (WHERE label=2), sum(forced), sum(n_tokens), count(*) FILTER (WHERE turn=0),"
        " count(*) FILTER (WHERE turn=0 AND label=1), sum(seconds), count(*) FILTER (WHERE label=3),"
        " count(steps), sum(steps_rollouts), sum(steps_tokens), count(hidden)",
        FILTERED, err);
    if (status == DRR_OK)
        status = pg_query((postgres_store *)store, &r, sql.data, 6, b.values, "counting", err);
    buffer_clear(&sql);
    if (status == DRR_OK)
        *counts = (drr_trace_counts){.traces = pg_uint(r, 0, 0),
                                     .questions = pg_uint(r, 0, 1),
                                     .accepted = pg_uint(r, 0, 2),
                                     .rejected = pg_uint(r, 0, 3),
                                     .unparsed = pg_uint(r, 0, 4),
                                     .forced = pg_uint(r, 0, 5),
                                     .tokens = pg_uint(r, 0, 6),
                                     .turn0 = pg_uint(r, 0, 7),
                                     .turn0_accepted = pg_uint(r, 0, 8),
                                     .seconds = PQgetisnull(r, 0, 9) ? 0 : strtod(PQgetvalue(r, 0, 9), NULL),
                                     .unlabelled = pg_uint(r, 0, 10),
                                     .stepped = pg_uint(r, 0, 11),
                                     .rollouts = pg_uint(r, 0, 12),
                                     .step_tokens = pg_uint(r, 0, 13),
                                     .hidden = pg_uint(r, 0, 14)};
    PQclear(r);
    return status;
}

/* ---- one sample, one question */

drr_status pg_sample_turns(drr_store *store, const store_sample *sample, drr_trace_fn each, void *user, drr_error *err)
{
    char number[16];
    PGresult *r = NULL;
    snprintf(number, sizeof number, "%u", sample->sample);
    const char *const values[] = {sample->task, sample->id, sample->reasoner, sample->prompt, number};
    buffer sql = {0};
    drr_status status =
        selection(&sql, store, TRACE_COLUMNS,
                  " WHERE task=$1 AND id=$2 AND reasoner=$3 AND prompt=$4 AND sample=$5::bigint ORDER BY turn", err);
    if (status == DRR_OK)
        status = pg_query((postgres_store *)store, &r, sql.data, 5, values, "reading", err);
    buffer_clear(&sql);
    bool more = true;
    for (int i = 0; status == DRR_OK && more && i < PQntuples(r); i++) {
        drr_trace t;
        status = read_row(&t, r, i, store, err);
        if (status != DRR_OK)
            break;
        more = each(user, &t);
        drr_trace_clear(&t);
    }
    PQclear(r);
    return status;
}

drr_status pg_questions(drr_store *store, const char *task, const char *id, store_question_fn each, void *user,
                        drr_error *err)
{
    const char *const values[] = {task, id};
    PGresult *r = NULL;
    const drr_status status = pg_query((postgres_store *)store, &r,
                                       "SELECT DISTINCT question, gold, kind FROM drr_traces WHERE task=$1 AND id=$2",
                                       2, values, "reading", err);
    for (int i = 0; status == DRR_OK && i < PQntuples(r); i++)
        if (!each(user, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1), (drr_kind)pg_uint(r, i, 2)))
            break;
    PQclear(r);
    return status;
}
