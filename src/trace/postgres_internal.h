/* postgres_internal.h: what postgres.c (the connection, writing), postgres_read.c (reading) and postgres_queue.c (who
 * works on what) share. */
#ifndef DRR_TRACE_POSTGRES_INTERNAL_H
#define DRR_TRACE_POSTGRES_INTERNAL_H

#include "trace/queue.h"
#include "trace/store_internal.h"

#include <libpq-fe.h>

typedef struct postgres_store {
    drr_store base;
    PGconn *db;
    bool batch;    /* a transaction of the caller's is open */
    bool prepared; /* this connection knows the statement "append" */
} postgres_store;

/* Opens one more connection to the same database; the caller closes it with PQfinish. */
drr_status pg_connect(PGconn **db, const drr_store *store, drr_error *err);
/* Runs one statement with n text parameters (NULL: SQL's NULL). A lost connection is made again and the statement
 * repeated, for up to a minute, unless a batch is open: so it must be one that may run twice. The caller clears
 * *result; result may be NULL. `doing` ends the sentence "... while ". */
drr_status pg_query(postgres_store *s, PGresult **result, const char *sql, int n, const char *const *values,
                    const char *doing, drr_error *err);
/* One statement on any connection, tried once. */
bool pg_try(PGconn *db, const char *sql, int n, const char *const *values);
/* The server's words as one sentence; r may be NULL. */
drr_status pg_fail(const postgres_store *s, const PGresult *r, const char *doing, drr_error *err);
/* Reads the results of a pipeline up to its synchronisation point; the first bad one is the caller's. added: of the
 * first n statements, whether each changed a row; or NULL. After a statement's result comes a NULL; two in a row come
 * only where the connection broke and nothing is left. */
PGresult *pg_pipeline_read(PGconn *db, size_t n, bool *added);
/* The units of one reasoner and prompt, or of all where these are NULL. */
drr_status pg_count_units(postgres_store *s, const char *reasoner, const char *prompt, queue_left *left,
                          drr_error *err);
uint64_t pg_uint(const PGresult *r, int row, int column); /* 0 where it is NULL */

drr_status pg_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user, drr_error *err);
drr_status pg_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err);
drr_status pg_sample_turns(drr_store *store, const store_sample *sample, drr_trace_fn each, void *user, drr_error *err);
drr_status pg_questions(drr_store *store, const char *task, const char *id, store_question_fn each, void *user,
                        drr_error *err);

extern const store_backend postgres_backend;

#endif
