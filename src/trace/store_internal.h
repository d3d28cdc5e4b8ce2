/* store_internal.h: what stands behind a drr_store: a table of functions that sqlite.c and postgres.c fill. store.c
 * chooses between them by the store's name and passes calls on. */
#ifndef DRR_TRACE_STORE_INTERNAL_H
#define DRR_TRACE_STORE_INTERNAL_H

#include "trace/trace.h"

typedef bool (*store_question_fn)(void *user, const char *question, const char *gold, drr_kind kind);

typedef struct store_backend {
    void (*close)(drr_store *store);
    /* One durable commit for all n, unless a batch is open. added: n flags, or NULL. */
    drr_status (*append)(drr_store *store, const drr_trace *const *traces, size_t n, bool *added, drr_error *err);
    /* Of a trace without steps only; so it may run twice. */
    drr_status (*steps_set)(drr_store *store, const drr_trace *trace, const char *steps, drr_error *err);
    drr_status (*batch_begin)(drr_store *store, drr_error *err);
    drr_status (*batch_commit)(drr_store *store, drr_error *err);
    void (*batch_abandon)(drr_store *store);
    drr_status (*each)(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user, drr_error *err);
    drr_status (*counts)(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err);
    /* The turns in order, a gap and what follows it included. */
    drr_status (*sample_turns)(drr_store *store, const store_sample *sample, drr_trace_fn each, void *user,
                               drr_error *err);
    /* The different (question, gold, kind) that traces of this task and id have. */
    drr_status (*questions)(drr_store *store, const char *task, const char *id, store_question_fn each, void *user,
                            drr_error *err);
    drr_status (*fact_get)(drr_store *store, const char *name, char **value, drr_error *err);
    drr_status (*fact_set)(drr_store *store, const char *name, const char *value, drr_error *err);
} store_backend;

/* Each backend's store begins with this. */
struct drr_store {
    const store_backend *backend;
    char *name; /* as it was opened: a path, or a URL without password */
    bool reads_only;
    unsigned depth; /* of open batches */
    int version; /* read as an older drr left it: 1, whose traces have no steps, or 2, without hidden states; else 0 */
};

drr_status store_open_sqlite(drr_store **store, const char *path, bool create, drr_error *err);
drr_status store_open_sqlite_read(drr_store **store, const char *path, drr_error *err);
drr_status store_open_postgres(drr_store **store, const char *url, bool create, bool reads_only, drr_error *err);

/* A row that breaks what the schema promises. */
drr_status store_damaged(const drr_store *store, drr_error *err);

#define TRACE_COLUMNS                                                                                                  \
    "task, id, reasoner, prompt, sample, turn, question, gold, kind, seed, feedback, forced, text, answer, label, "    \
    "finish, n_prompt_tokens, n_tokens, seconds, temperature, lp_n, lp_answer_n, lp_mean, lp_min, lp_tail_mean, "      \
    "lp_entropy_mean, lp_answer_mean, lp_answer_min, lp_answer_entropy, lp_answer_margin, steps, steps_rollouts, "     \
    "steps_tokens, hidden"
enum { N_TRACE_COLUMNS = 34 };

/* What stands where a query says FROM table: a store of an older version has what it lacks as NULL and 0. */
#define TRACE_SOURCE(store, table)                                                                                     \
    ((store)->version == 1   ? "(SELECT *, NULL AS steps, 0 AS steps_rollouts, 0 AS steps_tokens, NULL AS hidden "     \
                               "FROM " table ") AS older"                                                              \
     : (store)->version == 2 ? "(SELECT *, NULL AS hidden FROM " table ") AS older"                                    \
                             : table)

#endif
