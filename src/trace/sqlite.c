/* sqlite.c: the embedded trace store. One row a trace; (task, id, reasoner, prompt, sample, turn) is unique, so that an
 * append is idempotent and a run that is killed can be repeated. WAL lets others read while one writes. Reading is
 * queries.c's. */
#include "trace/sqlite_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Step n brings a store from version n to n + 1. Steps are never edited, only added. */
static const char *const migrations[] = {
    "CREATE TABLE traces("
    " task TEXT NOT NULL, id TEXT NOT NULL, reasoner TEXT NOT NULL, prompt TEXT NOT NULL,"
    " sample INTEGER NOT NULL, turn INTEGER NOT NULL, question TEXT NOT NULL, gold TEXT NOT NULL,"
    " kind INTEGER NOT NULL, seed INTEGER NOT NULL, feedback TEXT, forced INTEGER NOT NULL, text TEXT NOT NULL,"
    " answer TEXT, label INTEGER NOT NULL, finish INTEGER NOT NULL, n_prompt_tokens INTEGER NOT NULL,"
    " n_tokens INTEGER NOT NULL, seconds REAL, temperature REAL, lp_n INTEGER NOT NULL,"
    " lp_answer_n INTEGER NOT NULL, lp_mean REAL, lp_min REAL, lp_tail_mean REAL, lp_entropy_mean REAL,"
    " lp_answer_mean REAL, lp_answer_min REAL, lp_answer_entropy REAL, lp_answer_margin REAL);"
    "CREATE UNIQUE INDEX traces_key ON traces(task, id, sample, turn, reasoner, prompt);"
    "CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;",
    "ALTER TABLE traces ADD COLUMN steps TEXT;"
    "ALTER TABLE traces ADD COLUMN steps_rollouts INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE traces ADD COLUMN steps_tokens INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE traces ADD COLUMN hidden BLOB;",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

drr_status sqlite_fail(sqlite3 *db, const char *path, const char *doing, drr_error *err)
{
    const int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
    char reason[128];
    const char *words = db ? sqlite3_errmsg(db) : "out of memory";
    switch (code) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return error_set(
            err, DRR_E_FORMAT,
            "%s: not a sound SQLite file (%s); restore a copy, or import its traces from an export into a new "
            "store",
            path, words);
    case SQLITE_FULL:
        return error_set(
            err, DRR_E_IO,
            "%s: the disk is full while %s; free some space and run the same command again, nothing committed "
            "is lost",
            path, doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, DRR_E_IO, "%s: another process is writing to it; wait for it to end or use another store",
                         path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return error_set(
            err, DRR_E_IO, "%s: cannot be opened for %s (%s); check that %s", path, doing, words,
            strcmp(doing, "reading") != 0
                ? "the folder exists and is writable"
                : "you may read it and the -wal and -shm beside it; where the -shm is missing, copy the file and "
                  "its -wal to a folder that you may write in");
    case SQLITE_NOMEM:
        return error_memory(err);
    default:
        return error_set(err, DRR_E_IO, "%s: %s while %s%s%s", path, words, doing, sqlite3_system_errno(db) ? ": " : "",
                         !sqlite3_system_errno(db) ? "" : strerror_r(sqlite3_system_errno(db), reason, sizeof reason));
    }
}

drr_status sqlite_run(sqlite3 *db, const char *path, const char *sql, drr_error *err)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return DRR_OK;
    return sqlite_fail(db, path, "writing", err);
}

/* Is this file empty, or one of ours? Another program's is left as it is, its journal mode too. */
static drr_status check_owner(sqlite3 *db, const char *path, const char *table, drr_error *err)
{
    sqlite3_stmt *q = NULL;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(db, "SELECT count(*), sum(name=?1) FROM sqlite_master WHERE type='table'", -1, &q, NULL) !=
        SQLITE_OK) {
        status = sqlite_fail(db, path, "reading", err);
    } else {
        sqlite3_bind_text(q, 1, table, -1, SQLITE_STATIC);
        if (sqlite3_step(q) != SQLITE_ROW)
            status = sqlite_fail(db, path, "reading", err);
        else if (sqlite3_column_int(q, 0) > 0 && sqlite3_column_int(q, 1) == 0)
            status = error_set(err, DRR_E_FORMAT,
                               "%s is another program's SQLite file (it has no table \"%s\") and is left alone; name "
                               "a file of drr's or a new one",
                               path, table);
    }
    sqlite3_finalize(q);
    return status;
}

static drr_status check_file(const char *path, drr_error *err)
{
    if (!file_exists(path))
        return error_set(err, DRR_E_NOT_FOUND, "there is no trace store %s; `drr distill` makes one", path);
    if (file_is_folder(path))
        return error_set(err, DRR_E_IO, "%s is a folder, and a store's file is wanted", path);
    return DRR_OK;
}

/* A new file becomes a store for one process at a time: SQLite does not wait where two turn one file to WAL, both of
 * them fail then. */
drr_status sqlite_open_file(sqlite3 **db, const char *path, const char *table, bool create, drr_error *err)
{
    sqlite3 *opened = NULL;
    const int lock = file_lock_folder(path);
    drr_status status = create && !file_exists(path) ? DRR_OK : check_file(path, err);
    if (status != DRR_OK)
        goto done;
    if (sqlite3_open_v2(path, &opened, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0), NULL) != SQLITE_OK) {
        status = sqlite_fail(opened, path, "writing", err);
        goto done;
    }
    sqlite3_extended_result_codes(opened, 0);
    sqlite3_busy_timeout(opened, 20000);
    status = check_owner(opened, path, table, err);
    if (status == DRR_OK)
        status = sqlite_run(opened, path, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", err);
done:
    if (status != DRR_OK)
        sqlite3_close(opened);
    else
        *db = opened;
    file_unlock(lock);
    return status;
}

static drr_status read_version(sqlite_store *s, int *version, drr_error *err)
{
    sqlite3_stmt *q = NULL;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK || sqlite3_step(q) != SQLITE_ROW)
        status = sqlite_fail(s->db, s->base.name, "reading", err);
    else
        *version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return status;
}

static drr_status check_version(sqlite_store *s, int *version, drr_error *err)
{
    drr_status status = read_version(s, version, err);
    if (status == DRR_OK && *version > SCHEMA_VERSION)
        status =
            error_set(err, DRR_E_MISMATCH,
                      "%s was written by a newer drr (store version %d, this one knows %d); update drr, or export the "
                      "traces with the newer one",
                      s->base.name, *version, SCHEMA_VERSION);
    return status;
}

static drr_status migrate(sqlite_store *s, drr_error *err)
{
    int version = 0;
    drr_status status = check_version(s, &version, err);
    if (status != DRR_OK || version == SCHEMA_VERSION)
        return status;
    status = sqlite_run(s->db, s->base.name, "BEGIN IMMEDIATE", err);
    if (status == DRR_OK) /* another process may have been faster */
        status = read_version(s, &version, err);
    for (; status == DRR_OK && version < SCHEMA_VERSION; version++)
        status = sqlite_run(s->db, s->base.name, migrations[version], err);
    if (status == DRR_OK) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA user_version=%d; COMMIT", SCHEMA_VERSION);
        status = sqlite_run(s->db, s->base.name, sql, err);
    }
    if (status != DRR_OK)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static void close_store(drr_store *store)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_finalize(s->append);
    sqlite3_close(s->db);
    free(store->name);
    free(s);
}

static const store_backend backend;

drr_status store_open_sqlite(drr_store **store, const char *path, bool create, drr_error *err)
{
    sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    drr_status status = DRR_OK;
    s->base.backend = &backend;
    s->base.name = string_copy(path);
    if (!s->base.name) {
        status = error_memory(err);
        goto done;
    }
    status = sqlite_open_file(&s->db, path, "traces", create, err);
    if (status == DRR_OK)
        status = migrate(s, err);
    if (status == DRR_OK &&
        sqlite3_prepare_v2(s->db,
                           "INSERT OR IGNORE INTO traces(" TRACE_COLUMNS
                           ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,"
                           "?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34)",
                           -1, &s->append, NULL) != SQLITE_OK)
        status = sqlite_fail(s->db, path, "preparing", err);
done:
    if (status == DRR_OK)
        *store = &s->base;
    else
        close_store(&s->base);
    return status;
}

/* ---- for reading alone */

static bool lies_beside(const char *path, const char *tail, struct stat *st)
{
    char name[4200];
    const int n = snprintf(name, sizeof name, "%s%s", path, tail);
    return n > 0 && (size_t)n < sizeof name && stat(name, st) == 0;
}

/* Is all of the store in its one file? A log means a writer, at work or killed; an empty one without its index is what
 * a reader left. */
static bool is_alone(const char *path)
{
    struct stat st;
    if (lies_beside(path, "-journal", &st))
        return false;
    return !lies_beside(path, "-wal", &st) || (st.st_size == 0 && !lies_beside(path, "-shm", &st));
}

/* file:PATH?immutable=1, with what means something in an URI escaped. An empty authority keeps "//x" a path. */
static drr_status immutable_uri(buffer *uri, const char *path, drr_error *err)
{
    drr_status status = buffer_puts(uri, path[0] == '/' ? "file://" : "file:", err);
    for (; *path && status == DRR_OK; path++)
        status = strchr("%?#", *path) ? buffer_printf(uri, err, "%%%02X", (unsigned)*path)
                                      : buffer_append(uri, path, 1, err);
    return status == DRR_OK ? buffer_puts(uri, "?immutable=1", err) : status;
}

/* In WAL mode SQLite makes a log and an index beside the file even to read it, leaves them there, and fails where it
 * may not. So a file that lies alone is read as one that nobody changes, without locks; that this was so is checked
 * when all is read. Where a writer's log is there, SQLite reads beside the writer as ever. */
static drr_status open_for_reading(sqlite_store *s, drr_error *err)
{
    buffer uri = {0};
    const char *name = s->base.name;
    drr_status status = check_file(s->base.name, err);
    if (status != DRR_OK)
        return status;
    s->still = stat(s->base.name, &s->seen) == 0 && is_alone(s->base.name);
    if (s->still) {
        status = immutable_uri(&uri, s->base.name, err);
        name = uri.data;
    }
    if (status == DRR_OK &&
        sqlite3_open_v2(name, &s->db, SQLITE_OPEN_READONLY | (s->still ? SQLITE_OPEN_URI : 0), NULL) != SQLITE_OK)
        status = sqlite_fail(s->db, s->base.name, "reading", err);
    buffer_clear(&uri);
    if (status != DRR_OK)
        return status;
    sqlite3_busy_timeout(s->db, 20000);
    return check_owner(s->db, s->base.name, "traces", err);
}

drr_status sqlite_unchanged(const sqlite_store *store, drr_error *err)
{
    struct stat now;
    if (!store->still)
        return DRR_OK;
    if (stat(store->base.name, &now) == 0 && now.st_ino == store->seen.st_ino && now.st_size == store->seen.st_size &&
        now.st_mtim.tv_sec == store->seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == store->seen.st_mtim.tv_nsec)
        return DRR_OK;
    return error_set(err, DRR_E_IO, "%s: another process wrote to it while it was read; run the same command again",
                     store->base.name);
}

drr_status store_open_sqlite_read(drr_store **store, const char *path, drr_error *err)
{
    int version = 0;
    sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    s->base = (drr_store){.backend = &backend, .name = string_copy(path), .reads_only = true};
    drr_status status = s->base.name ? open_for_reading(s, err) : error_memory(err);
    if (status == DRR_OK)
        status = check_version(s, &version, err);
    if (status == DRR_OK && version < 1)
        status = error_set(err, DRR_E_FORMAT,
                           "%s is no store yet; `drr traces import` or `drr distill` into it makes it one", path);
    s->base.version = version < SCHEMA_VERSION ? version : 0; /* an older drr's, which reading must not change */
    if (status == DRR_OK)
        *store = &s->base;
    else
        close_store(&s->base);
    return status;
}

const char *store_sqlite_version(void)
{
    return sqlite3_libversion();
}

static void bind_text(sqlite3_stmt *q, int index, const char *text)
{
    if (text)
        sqlite3_bind_text(q, index, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, index);
}

static void bind_real(sqlite3_stmt *q, int index, double value) /* SQLite stores NaN as NULL */
{
    sqlite3_bind_double(q, index, value);
}

static drr_status append_one(sqlite_store *store, const drr_trace *t, bool *added, drr_error *err)
{
    sqlite3_stmt *q = store->append;
    const drr_token_stats *p = &t->stats;
    const char *const texts[] = {t->task, t->id, t->reasoner, t->prompt};
    for (int i = 0; i < 4; i++)
        bind_text(q, i + 1, texts[i] ? texts[i] : "");
    sqlite3_bind_int64(q, 5, t->sample);
    sqlite3_bind_int64(q, 6, t->turn);
    bind_text(q, 7, t->question ? t->question : "");
    bind_text(q, 8, t->gold ? t->gold : "");
    sqlite3_bind_int(q, 9, (int)t->kind);
    sqlite3_bind_int64(q, 10, (sqlite3_int64)t->seed);
    bind_text(q, 11, t->feedback);
    sqlite3_bind_int(q, 12, t->forced);
    bind_text(q, 13, t->text ? t->text : "");
    bind_text(q, 14, t->answer);
    sqlite3_bind_int(q, 15, (int)t->label);
    sqlite3_bind_int(q, 16, (int)t->finish);
    sqlite3_bind_int64(q, 17, t->n_prompt_tokens);
    sqlite3_bind_int64(q, 18, t->n_tokens);
    bind_real(q, 19, t->seconds);
    bind_real(q, 20, (double)t->temperature);
    sqlite3_bind_int64(q, 21, p->n);
    sqlite3_bind_int64(q, 22, p->answer_n);
    const float reals[] = {p->mean,        p->min,        p->tail_mean,      p->entropy_mean,
                           p->answer_mean, p->answer_min, p->answer_entropy, p->answer_margin};
    for (int i = 0; i < 8; i++)
        bind_real(q, 23 + i, p->n ? (double)reals[i] : NAN);
    char *steps = NULL;
    drr_status status = trace_steps_to_text(&steps, t, err);
    bind_text(q, 31, steps);
    sqlite3_bind_int64(q, 32, steps ? t->steps_rollouts : 0);
    sqlite3_bind_int64(q, 33, steps ? t->steps_tokens : 0);
    if (t->hidden)
        sqlite3_bind_blob64(q, 34, t->hidden, t->hidden_size, SQLITE_STATIC);
    if (status == DRR_OK && sqlite3_step(q) != SQLITE_DONE)
        status = sqlite_fail(store->db, store->base.name, "appending a trace", err);
    if (status == DRR_OK && added)
        *added = sqlite3_changes(store->db) > 0;
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    free(steps);
    return status;
}

static drr_status steps_set(drr_store *store, const drr_trace *t, const char *steps, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q = NULL;
    drr_status status = DRR_OK;
    if (sqlite3_prepare_v2(s->db,
                           "UPDATE traces SET steps=?7, steps_rollouts=?8, steps_tokens=?9 WHERE task=?1 AND id=?2 AND "
                           "reasoner=?3 AND prompt=?4 AND sample=?5 AND turn=?6 AND steps IS NULL",
                           -1, &q, NULL) != SQLITE_OK)
        return sqlite_fail(s->db, store->name, "preparing", err);
    const char *const texts[] = {t->task, t->id, t->reasoner, t->prompt};
    for (int i = 0; i < 4; i++)
        bind_text(q, i + 1, texts[i]);
    sqlite3_bind_int64(q, 5, t->sample);
    sqlite3_bind_int64(q, 6, t->turn);
    bind_text(q, 7, steps);
    sqlite3_bind_int64(q, 8, t->steps_rollouts);
    sqlite3_bind_int64(q, 9, t->steps_tokens);
    if (sqlite3_step(q) != SQLITE_DONE)
        status = sqlite_fail(s->db, store->name, "writing the steps of a trace", err);
    sqlite3_finalize(q);
    return status;
}

static drr_status begin(drr_store *store, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    drr_status status = sqlite_run(s->db, store->name, "BEGIN IMMEDIATE", err);
    s->batch = status == DRR_OK;
    return status;
}

static drr_status commit(drr_store *store, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    drr_status status = sqlite_run(s->db, store->name, "COMMIT", err);
    if (status != DRR_OK)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->batch = false;
    return status;
}

static void abandon(drr_store *store)
{
    sqlite_store *s = (sqlite_store *)store;
    if (s->batch)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->batch = false;
}

static drr_status append(drr_store *store, const drr_trace *const *traces, size_t n, bool *added, drr_error *err)
{
    sqlite_store *s = (sqlite_store *)store;
    const bool own = n > 1 && !s->batch;
    drr_status status = own ? begin(store, err) : DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i++)
        status = append_one(s, traces[i], added ? &added[i] : NULL, err);
    if (own && status == DRR_OK)
        return commit(store, err);
    if (own)
        abandon(store);
    return status;
}

static const store_backend backend = {
    .close = close_store,
    .append = append,
    .steps_set = steps_set,
    .batch_begin = begin,
    .batch_commit = commit,
    .batch_abandon = abandon,
    .each = sqlite_each,
    .counts = sqlite_counts,
    .sample_turns = sqlite_sample_turns,
    .questions = sqlite_questions,
    .fact_get = sqlite_fact_get,
    .fact_set = sqlite_fact_set,
};
