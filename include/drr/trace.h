/* drr/trace.h: traces, one turn of a reasoner with all that is known about it, and the stores that keep them. Part of
 * drr.h. */
#ifndef DRR_TRACE_PART_H
#define DRR_TRACE_PART_H

#include "drr/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a turn's tokens say about the model's certainty. Natural log-probabilities at temperature 1.
 * NaN where the backend has none. "answer" is over the tokens that overlap the extracted answer. */
typedef struct drr_token_stats {
    uint32_t n;         /* tokens with a log-probability; 0: none known */
    uint32_t answer_n;  /* of these, tokens of the answer */
    float mean, min;    /* log-probability of the tokens written */
    float tail_mean;    /* mean over the last 16 tokens before the answer */
    float entropy_mean; /* nats of the whole distribution */
    float answer_mean, answer_min;
    float answer_entropy; /* mean over the answer's tokens */
    float answer_margin;  /* smallest gap between the chosen token's log-probability and the best other one's */
} drr_token_stats;

typedef enum drr_finish {
    DRR_FINISH_STOP,      /* the model ended its turn */
    DRR_FINISH_ANSWERED,  /* cut because the answer was complete */
    DRR_FINISH_LENGTH,    /* token budget or context ran out */
    DRR_FINISH_CANCELLED, /* the caller withdrew it */
    DRR_FINISH_FAILED,    /* see the error text */
    DRR_FINISH_CUT,       /* stopped where a step looked bad: early rejection */
    DRR_FINISH_TIME       /* the question's seconds ran out */
} drr_finish;

const char *drr_finish_name(drr_finish finish);

/* A step of a turn's text, and how good it is to have got there: of `of` continuations from its end `right` ended in a
 * right answer. of 0: not tried, but inferred (docs/steps.md), and value is 0 or 1; else value is right / of. */
typedef struct drr_step {
    uint32_t end; /* byte offset in the text just behind the step; the next one begins there */
    uint32_t right, of;
    float value;
} drr_step;

/* One turn with all that is known about it. Owned strings; free with drr_trace_clear. */
typedef struct drr_trace {
    char *task, *id; /* data set and question id */
    char *question;  /* as the critic reads it: question text, and lettered choices where there are any */
    char *gold;      /* reference answer */
    drr_kind kind;
    char *reasoner;        /* drr_reasoner_id of who wrote it */
    char *prompt;          /* drr_prompts_id or a recorded prompt's name */
    uint32_t sample, turn; /* which of the k samples; 0 is fresh, n+1 follows a rejection of n */
    uint64_t seed;
    char *feedback; /* the words that rejected turn-1; NULL for turn 0 */
    bool forced;    /* turn-1 was correct and rejected on purpose */
    char *text;     /* what the reasoner wrote */
    char *answer;   /* extracted, normalised; NULL when unparsed */
    drr_label label;
    drr_finish finish;
    uint32_t n_prompt_tokens, n_tokens;
    double seconds;
    float temperature;
    drr_token_stats stats;
    drr_step *steps; /* n_steps of them, owned; NULL and 0: not labelled */
    uint32_t n_steps;
    uint32_t steps_rollouts, steps_tokens; /* what the labels took: continuations, and the tokens written in them */
    void *hidden; /* hidden states of the reasoner, hidden_size bytes as docs/formats.md says, owned; NULL: not kept */
    size_t hidden_size;
} drr_trace;

void drr_trace_clear(drr_trace *trace); /* frees what it owns and zeroes it; NULL is fine */

typedef struct drr_store drr_store;

/* Opens (creates where `create`) a trace store: an SQLite file by its path, or tables in a PostgreSQL database by its
 * URL, postgres://USER@HOST:PORT/DATABASE without a password (PGPASSWORD or ~/.pgpass hold one). An older schema is
 * migrated, a newer one refused. A PostgreSQL server that goes away is waited for, a minute at most. */
drr_status drr_store_open(drr_store **store, const char *name, bool create, drr_error *err);
bool drr_store_is_url(const char *name);
/* Opens an existing store for reading alone, also where neither the file nor its folder may be written to; makes no
 * file beside it. What would change it is then refused. Another process may write at the same time; where one that
 * began later has changed the file itself, reading ends with DRR_E_IO and asks for the same call again. */
drr_status drr_store_open_read(drr_store **store, const char *name, drr_error *err);
void drr_store_close(drr_store *store);
/* Appends; a trace with the same (task,id,reasoner,prompt,sample,turn) is left as it is and *added is false.
 * Durable when the call returns. */
drr_status drr_store_append(drr_store *store, const drr_trace *trace, bool *added, drr_error *err);

/* Which traces to read; NULL or negative fields mean any. */
typedef struct drr_trace_filter {
    const char *task, *id, *reasoner, *prompt;
    int label;     /* drr_label or -1 */
    int turn;      /* or -1 */
    int64_t limit; /* or -1 */
} drr_trace_filter;
void drr_trace_filter_defaults(drr_trace_filter *filter);

/* Calls `each` for every trace in order of (task, id, sample, turn); stops early when it returns false.
 * The trace belongs to the callee only during the call, and the store must not be touched in it. */
typedef bool (*drr_trace_fn)(void *user, const drr_trace *trace);
drr_status drr_store_each(drr_store *store, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                          drr_error *err);
/* Reads traces from JSONL (plain or gzip; drr's own records and ../shared's replay records). */
drr_status drr_traces_read(const char *path, drr_trace_fn each, void *user, drr_error *err);
/* As either of the two, by the file's content: an SQLite store or JSONL; a URL is a store in PostgreSQL. */
drr_status drr_traces_each(const char *path, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                           drr_error *err);
drr_status drr_store_export(drr_store *store, const drr_trace_filter *filter, const char *path, uint64_t *n,
                            drr_error *err); /* JSONL, ".gz" compresses */
drr_status drr_store_import(drr_store *store, const char *path, uint64_t *n_added, uint64_t *n_present, drr_error *err);

typedef struct drr_trace_counts {
    uint64_t traces, questions, accepted, rejected, unparsed, forced, tokens;
    uint64_t turn0, turn0_accepted; /* fresh answers alone */
    double seconds;
    uint64_t unlabelled;
    uint64_t stepped, rollouts, step_tokens; /* traces with step labels, and what these took */
    uint64_t hidden;                         /* traces with hidden states */
} drr_trace_counts;
drr_status drr_store_counts(drr_store *store, const drr_trace_filter *filter, drr_trace_counts *counts, drr_error *err);

/* Who works on a store in PostgreSQL, and what is left to do: units are samples of questions. Free with
 * drr_fleet_clear. */
typedef enum drr_worker_state { DRR_WORKER_WORKS, DRR_WORKER_LEFT, DRR_WORKER_SILENT } drr_worker_state;
typedef struct drr_fleet_worker {
    char *name, *reasoner; /* name: host:process:chance */
    drr_worker_state state;
    double seconds, silent_seconds; /* since it began; since it was last heard of */
    uint64_t held, units, traces, tokens;
} drr_fleet_worker;
typedef struct drr_fleet_unit {
    char *task, *id, *why;
    uint32_t sample;
    bool aside; /* its workers died; else it failed */
} drr_fleet_unit;
typedef struct drr_fleet {
    uint64_t todo, held, done, failed, aside, traces; /* todo: units that nobody holds */
    drr_fleet_worker *workers;
    size_t n_workers;
    drr_fleet_unit *stuck; /* the first 20 that failed or were set aside */
    size_t n_stuck;
} drr_fleet;
drr_status drr_store_fleet(drr_store *store, drr_fleet *fleet, drr_error *err); /* DRR_E_ARGUMENT for a file */
void drr_fleet_clear(drr_fleet *fleet);

/* Grades recorded traces again with our extraction: docs/results.md's agreement figure. `disagree` may be NULL. */
typedef struct drr_regrade {
    uint64_t n, agreed, unparsed;
    uint64_t no_reference; /* recorded without a reference answer: not graded, not in n */
    uint64_t
        misread; /* of those that do not agree: the record took our number and cut it at a comma or lost its sign */
} drr_regrade;
typedef void (*drr_disagree_fn)(void *user, const drr_trace *trace, drr_label ours, const char *our_answer);
drr_status drr_traces_regrade(const char *path, drr_regrade *result, drr_disagree_fn disagree, void *user,
                              drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
