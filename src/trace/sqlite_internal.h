/* sqlite_internal.h: what sqlite.c (the store), queries.c (reading it) and blob_cache.c share. */
#ifndef DRR_TRACE_SQLITE_INTERNAL_H
#define DRR_TRACE_SQLITE_INTERNAL_H

#include "trace/store_internal.h"

#include <sqlite3.h>
#include <sys/stat.h>

typedef struct sqlite_store {
    drr_store base;
    sqlite3 *db;
    sqlite3_stmt *append;
    bool batch;
    bool still; /* read without locks: what `seen` says of the file must hold to the end */
    struct stat seen;
} sqlite_store;

/* queries.c's part of the backend. */
drr_status sqlite_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user, drr_error *err);
drr_status sqlite_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err);
drr_status sqlite_sample_turns(drr_store *store, const store_sample *sample, drr_trace_fn each, void *user,
                               drr_error *err);
drr_status sqlite_questions(drr_store *store, const char *task, const char *id, store_question_fn each, void *user,
                            drr_error *err);
drr_status sqlite_fact_get(drr_store *store, const char *name, char **value, drr_error *err);
drr_status sqlite_fact_set(drr_store *store, const char *name, const char *value, drr_error *err);

/* DRR_E_IO, DRR_E_FORMAT or DRR_E_LIMIT with SQLite's words, the file and what to do. */
drr_status sqlite_fail(sqlite3 *db, const char *path, const char *doing, drr_error *err);
/* Opens with WAL, a busy timeout of 20 s and full synchronisation. A file that has tables, and not `table` among them,
 * is another program's and refused. */
drr_status sqlite_open_file(sqlite3 **db, const char *path, const char *table, bool create, drr_error *err);
drr_status sqlite_run(sqlite3 *db, const char *path, const char *sql, drr_error *err);

/* After reading: DRR_E_IO when the file changed under a store that is read without locks. What was read, or SQLite's
 * complaint about it, is then worth nothing. */
drr_status sqlite_unchanged(const sqlite_store *store, drr_error *err);

#endif
