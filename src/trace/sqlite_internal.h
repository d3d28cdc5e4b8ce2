/* sqlite_internal.h: what sqlite.c (the store), queries.c (reading it) and blob_cache.c share. */
#ifndef DRR_TRACE_SQLITE_INTERNAL_H
#define DRR_TRACE_SQLITE_INTERNAL_H

#include "trace/trace.h"

#include <sqlite3.h>
#include <sys/stat.h>

struct drr_store {
    sqlite3 *db;
    sqlite3_stmt *append;
    char *path;
    bool batch;
    bool still; /* read without locks: what `seen` says of the file must hold to the end */
    struct stat seen;
};

/* DRR_E_IO, DRR_E_FORMAT or DRR_E_LIMIT with SQLite's words, the file and what to do. */
drr_status sqlite_fail(sqlite3 *db, const char *path, const char *doing, drr_error *err);
/* Opens with WAL, a busy timeout of 20 s and full synchronisation. A file that has tables, and not `table` among them,
 * is another program's and refused. */
drr_status sqlite_open_file(sqlite3 **db, const char *path, const char *table, bool create, drr_error *err);
drr_status sqlite_run(sqlite3 *db, const char *path, const char *sql, drr_error *err);

/* After reading: DRR_E_IO when the file changed under a store that is read without locks. What was read, or SQLite's
 * complaint about it, is then worth nothing. */
drr_status sqlite_unchanged(const drr_store *store, drr_error *err);

#define TRACE_COLUMNS                                                                                                  \
    "task, id, reasoner, prompt, sample, turn, question, gold, kind, seed, feedback, forced, text, answer, label, "    \
    "finish, n_prompt_tokens, n_tokens, seconds, temperature, lp_n, lp_answer_n, lp_mean, lp_min, lp_tail_mean, "      \
    "lp_entropy_mean, lp_answer_mean, lp_answer_min, lp_answer_entropy, lp_answer_margin"

#endif
