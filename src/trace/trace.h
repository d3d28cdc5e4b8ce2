/* trace.h: the door of src/trace beside drr.h: the record's helpers and the parts of the store that
 * distillation and evaluation use. */
#ifndef DRR_TRACE_H
#define DRR_TRACE_H

#include "core/core.h"
#include "core/json.h"
#include "task/task.h"

drr_status trace_copy(drr_trace *to, const drr_trace *from, drr_error *err);
/* The trace gets copies of these steps in place of its own; false: memory is out, and it is as it was. */
bool trace_steps_copy(drr_trace *trace, const drr_step *steps, uint32_t n);
/* The same of hidden states (core/hidden.h); hidden NULL: none. */
bool trace_hidden_copy(drr_trace *trace, const void *hidden, size_t size);
/* Statistics over the n tokens of a completion; answer bytes [answer_begin, answer_end), equal when unparsed.
 * token ends, log-probabilities, entropies and margins are parallel arrays. */
typedef struct trace_token {
    uint32_t end;
    float logprob, entropy, margin;
} trace_token;
void trace_token_stats(drr_token_stats *stats, const trace_token *tokens, size_t n, size_t answer_begin,
                       size_t answer_end);
void trace_token_stats_unknown(drr_token_stats *stats); /* n = 0, NaN elsewhere */

/* One JSON object of docs/formats.md, and back. */
drr_status trace_to_json(json_t **object, const drr_trace *trace, drr_error *err);
drr_status trace_from_json(drr_trace *trace, json_t *object, const char *where, drr_error *err);
/* The steps alone (steps.c): as a list of objects, and as its text, which is what a store keeps; *text is NULL where
 * the trace has none. Reading needs the trace's text, for steps must fit it; NULL and JSON's null are none. */
drr_status trace_steps_to_json(json_t **list, const drr_trace *trace, drr_error *err);
drr_status trace_steps_from_json(drr_trace *trace, json_t *list, const char *where, drr_error *err);
drr_status trace_steps_to_text(char **text, const drr_trace *trace, drr_error *err);
drr_status trace_steps_from_text(drr_trace *trace, const char *text, const char *where, drr_error *err);

/* Appends n traces with one durable commit, or into the open batch. added: n flags, false where a trace with that key
 * was there already and was left as it is; may be NULL. */
drr_status store_append_many(drr_store *store, const drr_trace *const *traces, size_t n, bool *added, drr_error *err);

/* Gives the stored trace with this one's key this one's steps, and what they took. One that has steps keeps them.
 * Durable when the call returns, unless a batch is open. */
drr_status store_steps_set(drr_store *store, const drr_trace *trace, drr_error *err);

/* All that is done to the store in between is one durable commit, and nobody else writes meanwhile. Batches nest: the
 * outermost one commits, and abandoning one abandons all. */
drr_status store_batch_begin(drr_store *store, drr_error *err);
drr_status store_batch_commit(drr_store *store, drr_error *err);
void store_batch_abandon(drr_store *store); /* the store is as it was before the batch; fine when there is none */

/* What a sample's traces have in common. */
typedef struct store_sample {
    const char *task, *id, *reasoner, *prompt;
    uint32_t sample;
} store_sample;
/* The turns that the store holds of one sample, turn 0 first; stops at a gap. The caller clears each and frees the
 * array. */
drr_status store_sample_turns(drr_store *store, const store_sample *sample, drr_trace **turns, size_t *n,
                              drr_error *err);
/* How the store's traces of the question with this task and id differ from it: *what becomes "another answer" or the
 * like, NULL where they do not or there are none. A trace without a reference answer differs in none. */
drr_status store_question_changed(drr_store *store, const drr_task *task, const char **what, drr_error *err);
/* Small named facts about a store (the identity of a run); NULL when absent; the caller frees. */
drr_status store_fact_get(drr_store *store, const char *name, char **value, drr_error *err);
drr_status store_fact_set(drr_store *store, const char *name, const char *value, drr_error *err);

/* A durable map from key to bytes in a file of its own (SQLite, WAL): the evaluation's cache of samples. */
typedef struct blob_cache blob_cache;
drr_status blob_cache_open(blob_cache **cache, const char *path, drr_error *err);
void blob_cache_close(blob_cache *cache);
/* DRR_E_EMPTY (and *err untouched) when absent; the caller frees *data (NUL-terminated). */
drr_status blob_cache_get(blob_cache *cache, const char *key, char **data, size_t *size, drr_error *err);
drr_status blob_cache_put(blob_cache *cache, const char *key, const void *data, size_t size, drr_error *err);

const char *store_sqlite_version(void); /* of the SQLite that is loaded */
const char *store_libpq_version(void);  /* of the libpq that is loaded */

#endif
