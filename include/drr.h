/* drr.h: the one public header of libdrr.
 *
 * drr gives a language model (the reasoner) a small critic trained on that model's own behaviour; the
 * critic decides when the model may stop thinking. The calls below follow the flow of the data:
 *
 *     data set -> reasoner -> traces -> (distill) -> critic -> (train) -> solve -> eval
 *
 * Conventions, true of every function unless its comment says otherwise:
 *   - it returns a drr_status; out-parameters come first and are written only on DRR_OK;
 *   - `drr_error *err` comes last, is owned by the caller, may be NULL, and is untouched on success;
 *   - strings are UTF-8 and NUL-terminated; `const char *` results belong to the object they came from;
 *   - `*_free` and `*_close` take NULL; one object is used by one thread at a time, different objects by any;
 *   - an options struct is initialised with its `*_defaults` function, then changed;
 *   - the library never prints and never exits. Abstaining is a result, not an error.
 */
#ifndef DRR_H
#define DRR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DRR_VERSION "0.1.0"

/* ---- errors, progress, interruption -------------------------------------------------------------- */

typedef enum drr_status {
    DRR_OK = 0,
    DRR_E_ARGUMENT,    /* the caller asked for something that cannot be */
    DRR_E_IO,          /* reading, writing, disk full, permission */
    DRR_E_FORMAT,      /* a file or record is not what it should be */
    DRR_E_MEMORY,      /* an allocation failed */
    DRR_E_NOT_FOUND,   /* a named file, model, trace or row does not exist */
    DRR_E_MISMATCH,    /* two things that must belong together do not (store and reasoner, critic and encoder) */
    DRR_E_LIMIT,       /* a length, budget or context was exceeded */
    DRR_E_BACKEND,     /* a library or model underneath failed */
    DRR_E_INTERRUPTED, /* the caller's cancel callback said stop; finished work is kept */
    DRR_E_EMPTY        /* nothing (left) to do or to return */
} drr_status;

/* What failed, where (file, line, byte or row) and what to do about it, in one sentence. */
typedef struct drr_error {
    drr_status status;
    char message[1024];
} drr_error;

const char *drr_status_name(drr_status status); /* "ok", "io", ...: static */

typedef enum drr_log_level { DRR_LOG_DEBUG, DRR_LOG_INFO, DRR_LOG_WARN } drr_log_level;

typedef struct drr_progress {
    const char *phase; /* "distill", "train", ... */
    uint64_t done, total;
    const char *unit;  /* "traces", "steps", ... */
    double per_second; /* over the last while; 0 when unknown */
    double eta_s;      /* seconds left; negative when unknown */
    const char *note;  /* a short extra such as "loss 0.61", or NULL */
} drr_progress;

/* Callbacks of a long job; each may be NULL. Called on the thread that called the library. */
typedef struct drr_hooks {
    void (*log)(void *user, drr_log_level level, const char *message);
    void (*progress)(void *user, const drr_progress *progress);
    bool (*cancelled)(void *user); /* polled often; true ends the job with DRR_E_INTERRUPTED */
    void *user;
} drr_hooks;

/* ---- the cache of models ------------------------------------------------------------------------- */

/* Path of a model, encoder or data set known by a short name ("qwen2.5-coder-1.5b"), inside DRR_CACHE
 * (default ~/.cache/drr). A name that is an existing path is returned as it is. DRR_E_NOT_FOUND says the
 * command that fetches it. Writes at most `size` bytes. */
drr_status drr_cache_path(char *path, size_t size, const char *name, drr_error *err);

/* One row of models.json: what has a short name, and whether the cache holds it. */
typedef struct drr_cache_item {
    const char *name, *kind;             /* kind: "reasoner", "encoder", "data" */
    const char *what, *licence, *sha256; /* sha256: "" where none is known */
    const char *path;                    /* where it is or would be; an encoder is a folder */
    uint64_t bytes;
    bool present;
} drr_cache_item;
/* Calls `each` for every row in the table's order; the item lives during the call. */
typedef void (*drr_cache_fn)(void *user, const drr_cache_item *item);
drr_status drr_cache_each(drr_cache_fn each, void *user, drr_error *err);
/* Path of a file that travels with drr ("models.json", "fetch.py"): in DRR_SHARE; where that is not set, the first that
 * has it of PREFIX/share/drr of a program in PREFIX/bin, the source tree's tools, and the build's PREFIX/share/drr. */
drr_status drr_share_path(char *path, size_t size, const char *file, drr_error *err);

/* ---- data sets: src/task ------------------------------------------------------------------------- */

typedef enum drr_kind {
    DRR_KIND_CHOICE,
    DRR_KIND_NUMBER,
    DRR_KIND_BOOLEAN,
    DRR_KIND_TEXT,
    DRR_KIND_CHECKED /* a program decides what is right: a drr_checker */
} drr_kind;

const char *drr_kind_name(drr_kind kind);
drr_status drr_kind_parse(drr_kind *kind, const char *name, drr_error *err);

typedef struct drr_task {
    const char *task; /* name of the data set: "csqa" */
    const char *id;
    const char *question;
    const char *const *choices; /* n_choices texts, lettered A.. in order; NULL unless DRR_KIND_CHOICE */
    size_t n_choices;
    const char *answer; /* reference: a letter, a number, "yes"/"no" or text; "" when unknown. DRR_KIND_CHECKED: JSON,
                           {"tests": [...], "setup": "..."} of Python, or {"checker": "COMMAND"} */
    drr_kind kind;
} drr_task;

typedef struct drr_dataset drr_dataset;

/* Reads a data set. format: "drr" (JSONL of ../shared/data's shape), "gsm8k", "svamp", "csqa", "strategyqa",
 * "arc", "mmlu", or NULL to detect. name: NULL takes the file name up to its first dot. Errors name file and line. */
drr_status drr_dataset_open(drr_dataset **dataset, const char *path, const char *format, const char *name,
                            drr_error *err);
void drr_dataset_free(drr_dataset *dataset);
const char *drr_dataset_name(const drr_dataset *dataset);
size_t drr_dataset_count(const drr_dataset *dataset);
const drr_task *drr_dataset_at(const drr_dataset *dataset, size_t index); /* lives as long as the set */
/* "file:line" of a question, for messages; writes at most `size` bytes. */
void drr_dataset_place(char *place, size_t size, const drr_dataset *dataset, size_t index);
/* Writes the set as drr JSONL through a temporary name and rename. */
drr_status drr_dataset_write(const drr_dataset *dataset, const char *path, drr_error *err);

/* Questions of `test` that stand in `train` too. Case, spacing, the marks at a word's end, the order of choices, ids
 * and answers do not count. A limit takes the first questions of each set only; 0: all. */
typedef struct drr_overlap {
    size_t n, n_test;                                    /* how many, of how many */
    size_t test_set, test_index, train_set, train_index; /* the first one, and where it stands in `train` */
} drr_overlap;
drr_status drr_datasets_overlap(drr_overlap *overlap, const drr_dataset *const *train, size_t n_train,
                                size_t train_limit, const drr_dataset *const *test, size_t n_test, size_t test_limit,
                                drr_error *err);

typedef enum drr_label {
    DRR_LABEL_REJECT = 0,
    DRR_LABEL_ACCEPT = 1,
    DRR_LABEL_UNPARSED = 2,
    DRR_LABEL_UNLABELLED = 3 /* its checker could not decide: kept, never trained on */
} drr_label;

const char *drr_label_name(drr_label label);

/* The final answer written in `text`, normalised as its kind demands ("B", "12.5", "yes"), or NULL when none
 * can be found. *begin and *end (may be NULL) receive its bytes in `text`. The caller frees *answer. */
drr_status drr_answer_extract(char **answer, size_t *begin, size_t *end, const drr_task *task, const char *text,
                              drr_error *err);
/* Are two answers of this kind the same? "1,000.0" and "$1000" are, for numbers; programs that differ in blank lines
 * and in spaces at the ends of lines are. */
bool drr_answer_equal(drr_kind kind, const char *a, const char *b);
/* Extracts and compares with task->answer; what only a checker can decide is DRR_LABEL_UNLABELLED. */
drr_status drr_answer_grade(drr_label *label, const drr_task *task, const char *text, drr_error *err);

/* Where the steps of a text end (docs/formats.md, "Steps"): byte offsets just behind each, rising, the last one the
 * text's size; none of an empty text. The caller frees *ends. */
drr_status drr_step_ends(uint32_t **ends, size_t *n, drr_kind kind, const char *text, drr_error *err);

/* ---- prompts: src/task --------------------------------------------------------------------------- */

typedef struct drr_prompts drr_prompts;

/* The built-in prompts (path NULL) or a JSON file that overrides any part of them (docs/formats.md). */
drr_status drr_prompts_open(drr_prompts **prompts, const char *path, drr_error *err);
void drr_prompts_free(drr_prompts *prompts);
const char *drr_prompts_id(const drr_prompts *prompts); /* short hash of the wording: part of a trace's identity */

typedef struct drr_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} drr_message;

/* What a reasoner is first asked `task` with: system words, worked examples, the question. drr_messages_free frees
 * the array and its strings. */
drr_status drr_prompts_messages(drr_message **messages, size_t *n, const drr_prompts *prompts, const drr_task *task,
                                drr_error *err);
void drr_messages_free(drr_message *messages, size_t n);

/* ---- reasoners: src/reasoner --------------------------------------------------------------------- */

typedef struct drr_reasoner drr_reasoner;

typedef struct drr_reasoner_options {
    uint32_t width;   /* sequences generated at once; 0: by cores and memory. Too many are lowered, with a warning */
    uint32_t context; /* tokens of one sequence, prompt and answer; 0: 2048 or what the model allows */
    uint32_t threads; /* 0: all cores */
    bool self_check;  /* compare first logits with stored ones, where known: a CPU path that is wrong is left, with a
                         warning */
    uint64_t seed;    /* replay: order of recorded samples */
    const char *replay_reasoner; /* replay: take only this recorded reasoner; NULL: the file must hold one */
    const char *replay_prompt;   /* replay: take only this prompt; NULL: any */
    /* A remote reasoner (docs/remote.md). */
    const char *model;         /* as the server calls it; NULL: the only one it has */
    const char *api_key_file;  /* readable by its owner alone; NULL: DRR_UPSTREAM_API_KEY of the environment, and for
                                  https://api.openai.com OPENAI_API_KEY */
    const char *ca_file;       /* certificates to trust, PEM; NULL: the system's */
    uint32_t request_seconds;  /* for one question, tries and waits together; 0: 600 */
    uint32_t retries;          /* tries of one question after the first */
    uint64_t max_tokens_total; /* of all prompts and answers together; 0: no limit */
    double max_money;          /* 0: no limit; needs prices */
    double price_prompt, price_completion; /* of a million tokens, in the currency of max_money */
    const drr_hooks *hooks; /* hears of waits and of what was spent, and is asked whether to stop while a server is
                               waited for; must outlive the reasoner; may be NULL */
    /* Of an embedded reasoner: the layers whose hidden states are kept of each answer, for traces and for a critic's
     * probe (docs/model.md): "last", "12", or up to four with commas. NULL: none, which costs nothing. Others give
     * none, whatever this says, but recorded answers those that they were recorded with. */
    const char *hidden;
} drr_reasoner_options;

void drr_reasoner_options_defaults(drr_reasoner_options *options);

/* source: a short model name, a .gguf file, recorded traces (*.replay.jsonl[.gz]), or the base URL of an
 * OpenAI-compatible API ("https://host/v1"), which is asked a question of a few tokens to learn what it can do. */
drr_status drr_reasoner_open(drr_reasoner **reasoner, const char *source, const drr_reasoner_options *options,
                             drr_error *err);
void drr_reasoner_close(drr_reasoner *reasoner);
const char *drr_reasoner_id(const drr_reasoner *reasoner); /* "qwen2.5-coder-1.5b-instruct@cc324af0": name and digest,
                                                              or "name@host:port" of a remote one */
/* Human-readable facts: model, width, KV bytes, CPU path in use. Lives as long as the reasoner. */
const char *drr_reasoner_describe(const drr_reasoner *reasoner);
/* The layers whose hidden states it gives, as drr_reasoner_options.hidden names them; "" where it gives none: an
 * embedded one that was not asked to, a remote one, recorded answers without them. */
const char *drr_reasoner_hidden(const drr_reasoner *reasoner);

/* Where an embedded reasoner's time went since it was opened; zeros for others. Steps are those of all sequences
 * together: one token each, sampling included. */
typedef struct drr_reasoner_timing {
    uint64_t n_prefilled;       /* prompt tokens computed; those shared with another sequence are not */
    uint64_t n_decoded;         /* tokens that steps were made for: those written and each prompt's last */
    uint64_t n_full_width;      /* of these, in steps of all sequences */
    uint64_t n_steps, n_passes; /* a step is one pass where all its sequences are computed together */
    double prefill_seconds, decode_seconds, full_width_seconds;
} drr_reasoner_timing;
void drr_reasoner_timing_read(const drr_reasoner *reasoner, drr_reasoner_timing *timing);

typedef struct drr_quantized {
    char from[32], sha256[65]; /* the source's format, "q4_k_m"; the checksum of what was written */
    bool requantized;          /* the source was quantized already: what it lost then is lost */
    uint64_t bytes_before, bytes_after;
} drr_quantized;
/* Writes the model `source`, a short name or a .gguf file, to `out` in another format: "q8_0", "q4_k_m"; an unknown one
 * is DRR_E_ARGUMENT and lists all, as is `out` being the source. Failed or cancelled, it leaves nothing behind. */
drr_status drr_model_quantize(drr_quantized *result, const char *source, const char *format, const char *out,
                              const drr_hooks *hooks, drr_error *err);

/* ---- traces: src/trace --------------------------------------------------------------------------- */

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
 * Durable when the call returns, unless a batch is open (drr_store_batch). */
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

/* ---- checkers: src/check ------------------------------------------------------------------------- */

/* Grades answers of DRR_KIND_CHECKED by running them, or the command that their data set names, on this machine:
 * docs/checking.md says what that can and cannot harm. To open one is to allow it. */
typedef struct drr_checker drr_checker;

typedef struct drr_check_options {
    const char *python;    /* name or path of the Python that programs are tested with */
    uint32_t jobs;         /* at once; 0: all cores */
    double seconds;        /* of one check */
    uint64_t memory_bytes; /* of one process of it */
    uint64_t disk_bytes;   /* of its scratch folder */
    uint64_t output_bytes;
    uint32_t processes, files; /* at most, of one check; threads count as processes */
    bool limits_only;          /* use no namespaces even where there are some */
    bool allow_uncontained;    /* go on where programs cannot be contained */
} drr_check_options;
void drr_check_options_defaults(drr_check_options *options);

/* DRR_E_ARGUMENT where programs cannot be contained and options do not allow that; DRR_E_NOT_FOUND without Python. */
drr_status drr_checker_open(drr_checker **checker, const drr_check_options *options, drr_error *err);
void drr_checker_close(drr_checker *checker);
/* What contains the programs it runs, in one sentence; lives as long as the checker. */
const char *drr_checker_describe(const drr_checker *checker);

/* ---- distillation: src/distill ------------------------------------------------------------------- */

typedef struct drr_distill_options {
    uint32_t samples;    /* k fresh samples a question */
    uint32_t turns;      /* at most this many turns a sample */
    uint32_t max_tokens; /* of one turn */
    float temperature, top_p;
    double forced_share; /* share of correct answers rejected on purpose */
    uint64_t seed;
    size_t limit;         /* first n questions only; 0: all */
    bool grammar;         /* force the answer line to parse */
    bool any_identity;    /* go on although the store holds traces of another reasoner, prompt or setting (seed,
                             temperature, top_p, max_tokens, grammar, context, recorded answers); else DRR_E_MISMATCH */
    bool skip_failed;     /* a sample that failed is only warned of; else the job, when all others are done, ends with
                             DRR_E_BACKEND and the first one's reason */
    drr_checker *checker; /* of questions of DRR_KIND_CHECKED; NULL: there are none, or they are refused */
    /* Label the steps of each turn by so many continuations from a step (docs/steps.md); 0: not. */
    uint32_t step_rollouts;
    bool step_every;        /* from every step, not only from those that a search for the first bad one takes */
    uint32_t lease_seconds; /* a store in PostgreSQL: how long a worker may be silent before its work goes to another;
                               0: 60 */
} drr_distill_options;
void drr_distill_options_defaults(drr_distill_options *options);

/* Answers every question of the set k times, each up to `turns` turns, and appends each turn to the store as
 * it ends. What the store already holds is not generated again: killed at any instruction, the same call
 * goes on where it stopped. With step_rollouts, the steps of each turn are labelled when its sample is done; traces
 * that are there get the labels that they lack. DRR_E_ARGUMENT where the reasoner cannot go on from the middle of an
 * answer. */
drr_status drr_distill(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const drr_dataset *dataset,
                       const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);
/* In a store in PostgreSQL drr_distill plans the set's samples there and works on all that is planned, beside any
 * number of other processes, until nothing is left. These are its two halves. Who works only gets seed, temperature,
 * top_p, max_tokens, grammar, turns, forced_share and step_rollouts as they were planned, whatever the options say;
 * DRR_E_EMPTY where nothing is planned. */
drr_status drr_distill_plan(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_dataset *dataset, const drr_distill_options *options, const drr_hooks *hooks,
                            drr_error *err);
drr_status drr_distill_work(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);

/* ---- critics: src/critic ------------------------------------------------------------------------- */

typedef struct drr_critic drr_critic;

/* In what a critic's matrix products are computed. Parameters, sums, norms and softmax are fp32 in either. */
typedef enum drr_precision {
    DRR_PRECISION_AUTO, /* bf16 where this CPU multiplies it itself (AVX512_BF16 or AMX), else fp32 */
    DRR_PRECISION_FP32,
    DRR_PRECISION_BF16,
    DRR_PRECISION_INT8 /* for scoring alone: products of 8-bit integers, rounded row by row */
} drr_precision;
const char *drr_precision_name(drr_precision precision);
drr_status drr_precision_parse(drr_precision *precision, const char *name, drr_error *err);

/* What a critic reads its score from (docs/model.md, "Head"). */
typedef enum drr_head {
    DRR_HEAD_CLS,  /* [CLS], through BERT's pooler */
    DRR_HEAD_TOKEN /* every token says P; the text's score is that of the [SEP] behind it */
} drr_head;
const char *drr_head_name(drr_head head); /* "cls", "token" */

/* Does it judge questions alone, as drr_train_options.question_only makes it? Then it cannot judge answers. */
bool drr_critic_reads_questions(const drr_critic *critic);
drr_status drr_critic_open(drr_critic **critic, const char *path, drr_error *err);
void drr_critic_close(drr_critic *critic);
/* An open critic scores in fp32, as it was calibrated. bf16 and int8 are faster and move a logit by about 1 %
 * (docs/model.md, "Precision"). DRR_E_BACKEND: this CPU has none, or int8 does not suit the encoder; then, and after
 * success, nothing else of the critic has changed. */
drr_status drr_critic_set_precision(drr_critic *critic, drr_precision precision, drr_error *err);

/* What a turn offers beside its text. NaN marks what is not known; the stack was trained to cope. */
typedef struct drr_features {
    drr_token_stats stats;
    uint32_t n_tokens;
    uint32_t turn; /* 0 fresh, n after n rejections */
    bool parsed;
    uint32_t n_others; /* other samples or turns of the same question that are known */
    uint32_t n_agree;  /* of these, how many gave the same answer */
    double probe;      /* the probe's log-odds (drr_critic_probe); NaN: not known */
} drr_features;
void drr_features_defaults(drr_features *features); /* nothing known */

typedef struct drr_score_item {
    const char *question;         /* drr_trace.question */
    const char *text;             /* rationale and answer */
    const drr_features *features; /* NULL: text alone */
} drr_score_item;

typedef struct drr_score {
    double logit;     /* of the text encoder alone, as llama.cpp and Hugging Face compute it; without one the probe's */
    double p_correct; /* calibrated, with all features given */
} drr_score;

drr_status drr_critic_score(drr_critic *critic, drr_score *scores, const drr_score_item *items, size_t n,
                            drr_error *err);
/* A step of a text (drr_step_ends) as a critic with a token head sees it, the rest of the text known: NaN where the
 * step does not fit into what the critic reads. p is the sigmoid of the logit: it is not calibrated, and no threshold
 * is for it. */
typedef struct drr_step_score {
    uint32_t end; /* byte offset in the text just behind the step */
    double logit, p;
} drr_step_score;
/* The text's score, as drr_critic_score gives it, and n_steps steps' (the caller's slots), from one pass of the
 * encoder. ends: byte offsets that rise and lie within the text. DRR_E_MISMATCH: the critic has no token head. */
drr_status drr_critic_score_steps(drr_critic *critic, drr_score *score, drr_step_score *steps,
                                  const drr_score_item *item, const uint32_t *ends, size_t n_steps, drr_error *err);
/* P(correct) again for a known text logit and new features: no encoder pass. */
double drr_critic_combine(const drr_critic *critic, double logit, const drr_features *features);

/* What a critic decides by. */
typedef enum drr_critic_kind {
    DRR_CRITIC_ENCODER, /* the text, and a stack of what else a turn offers */
    DRR_CRITIC_PROBE,   /* the reasoner's hidden states instead of the text: no encoder, and next to no time */
    DRR_CRITIC_STACK    /* both */
} drr_critic_kind;
const char *drr_critic_kind_name(drr_critic_kind kind);
/* The probe's log-odds that an answer is right: of the hidden states of its turn (drr_trace.hidden) and
 * its tokens' statistics (NULL: none). NaN where the critic has no probe, or these are not of its layer and width. */
double drr_critic_probe(const drr_critic *critic, const void *hidden, size_t hidden_size, const drr_token_stats *stats);

/* How the p-value of a guarantee is computed: src/core/risk.h. */
typedef enum drr_risk_test { DRR_RISK_HOEFFDING_BENTKUS, DRR_RISK_BINOMIAL } drr_risk_test;
const char *drr_risk_test_name(drr_risk_test test);

/* "Of the answers that the critic accepts, at most `target_error` are wrong", said with confidence 1 - delta
 * (docs/model.md, "Guarantees": what it is about, and on what it rests). */
typedef struct drr_guarantee {
    bool found;     /* is there a threshold of which it can be said? */
    uint32_t turns; /* it is about drr of so many fresh turns; 1: about a single verdict. 0: none was asked for */
    double target_error, delta;
    double threshold; /* accept at or above; where none was found, the first one tested */
    drr_risk_test test;
    double temperature;              /* that the answers were drawn at; NaN: not known */
    uint64_t n, n_accepted, n_wrong; /* questions; of these accepted at the threshold; of these wrong */
    double p_value;                  /* of "more than target_error are wrong" at the threshold */
    double bound;      /* the error that can be promised there with this delta: above target_error where not found */
    uint64_t n_needed; /* not found: questions that would do, with errors and acceptance as seen; 0: none would */
} drr_guarantee;
#define DRR_GUARANTEES 2 /* of one verdict, and of the loop */

typedef struct drr_critic_info {
    const char *name, *sha256, *reasoner, *prompt, *encoder, *tasks, *created;
    double threshold;
    const char *calibration;       /* of the text's logit: "temperature", "platt" or "isotonic" */
    const char *stack_calibration; /* of the stack: these, or "none" */
    drr_guarantee guarantees[DRR_GUARANTEES];
    uint32_t n_guarantees; /* all of them found */
    uint32_t max_length, n_layers, n_embd, n_vocab;
    uint64_t n_parameters, n_train_questions, n_train_traces;
    bool has_stack;
    drr_head head;
    uint64_t n_train_steps; /* labels of steps that it was trained on; 0: it was not */
    drr_critic_kind kind;
    /* Of a probe, else "": the one reasoner whose hidden states it knows, and the layer, as drr_reasoner_options.hidden
     * names it, and the pools, "answer", "mean" or both, that it reads. */
    const char *probe_reasoner, *probe_layer, *probe_pools;
} drr_critic_info;
void drr_critic_describe(const drr_critic *critic, drr_critic_info *info);
/* Writes a folder that Hugging Face transformers loads with the same logits: as a sequence classifier, or one of tokens
 * where the critic has a token head. */
drr_status drr_critic_export(const drr_critic *critic, const char *folder, drr_error *err);
/* The way back: a critic file from such a folder, or from one of a BertForSequenceClassification with one label that
 * another program trained. *foreign tells that: then P(correct) is the sigmoid of its logit, the threshold 0.5, and its
 * reasoner is not known; token type 0 is taken for both segments. DRR_E_FORMAT: the folder is no such model. */
drr_status drr_critic_import(const char *folder, const char *out, bool *foreign, drr_error *err);

/* One thing that drr_critic_verify looked at. */
typedef enum drr_finding_outcome { DRR_FINDING_GOOD, DRR_FINDING_WRONG, DRR_FINDING_ABSENT } drr_finding_outcome;
const char *drr_finding_name(drr_finding_outcome outcome); /* "good", "wrong", "not there": static */
typedef struct drr_finding {
    const char *what; /* "file", "card", "probes", "against": static */
    drr_finding_outcome outcome;
    double difference; /* largest between two logits of one text; NaN where none were compared */
    char words[1024];  /* what was found, or what is wrong, where, and what to do */
} drr_finding;
typedef struct drr_verification {
    char sha256[65]; /* of the file */
    drr_finding findings[4];
    uint32_t n_findings, n_wrong;
} drr_verification;
/* Is a critic's file what it was when it was made? Reads all of it as for scoring; compares its SHA-256 with the one in
 * the model card beside it, and its logits of the texts that it has stored with those stored beside them. against: an
 * exported folder, or another critic's file, that must hold the same weights, tokens, calibration and threshold, and
 * give the same logits; NULL: none. What is wrong is a finding; an error is a file that cannot be read at all, or is
 * not there. A file that cannot be opened as a critic has no findings of probes and of `against`. */
drr_status drr_critic_verify(drr_verification *verification, const char *path, const char *against, drr_error *err);
/* Scores lines of {"question", "text"}: each comes back with `logit` and `p_correct` added, in order. "-" is the
 * standard input or output; a file is written through a temporary name. An error names the line; on standard output
 * the lines before it have been written. */
drr_status drr_critic_score_file(drr_critic *critic, const char *in, const char *out, drr_error *err);
/* The same with `step_scores` beside them, a list of {"end", "logit", "p"}: of the steps whose "end" the line's own
 * list "steps" names, as a trace has it, else of those that drr_step_ends finds, by the line's "kind" ("text" without
 * one). */
drr_status drr_critic_score_steps_file(drr_critic *critic, const char *in, const char *out, drr_error *err);

/* Within-question discrimination: of the pairs of a right and a wrong answer to one question by one reasoner, the share
 * in which the right one is scored higher, a tie counting one half. NaN where there is no pair. */
typedef struct drr_within {
    double share, low, high;       /* low, high: 95 % bootstrap interval over questions */
    uint64_t n_pairs, n_questions; /* questions that have such a pair */
} drr_within;

/* ---- training: src/train ------------------------------------------------------------------------- */

typedef struct drr_train_options {
    const char *traces; /* SQLite store or JSONL[.gz] */
    const char
        *test_traces; /* held-out traces of their own, instead of test_share; NULL: none. Their questions never train */
    const char *encoder;                          /* Hugging Face folder, or a short name */
    const char *out;                              /* critic.gguf */
    const char *reasoner;                         /* keep only traces of this reasoner (comma list); NULL: all */
    const char *task;                             /* keep only this task; NULL: all */
    uint32_t epochs, batch, max_length, patience; /* patience in epochs; 0: no early stopping */
    double learning_rate, weight_decay, warmup_share, clip_norm, dropout;
    double dev_share, test_share; /* of questions */
    bool class_weights;
    bool keep_last;       /* the last epoch's critic instead of the one that was best on dev; patience counts no more */
    size_t max_questions; /* learning curves; 0: all */
    uint64_t seed;
    uint32_t threads;
    bool resume; /* from the checkpoint beside `out`, where there is one */
    drr_precision precision;
    /* A guarantee (drr_guarantee) is looked for where target_error is a number. */
    double target_error, delta; /* within (0, 1) */
    double guarantee_share;     /* of questions, kept for nothing else */
    uint32_t guarantee_turns;   /* of the loop; 0: as many as 9 in 10 questions have fresh answers, 5 at most */
    drr_risk_test risk_test;
    bool leave_one_task_out; /* measure each task with a critic that did not see it: one training more a task */
    /* docs/model.md, "Losses" */
    double rank_weight; /* of the term that sets right above wrong answers to one question; 0: none */
    drr_head head;
    bool steps;           /* a token head, taught at the ends of steps by their labels where traces have some */
    bool text_alone;      /* no stack: P(correct) is of the text alone, whatever else a turn offers */
    drr_critic_kind kind; /* a probe needs traces with hidden states, all of one reasoner */
    bool
        question_only; /* learn P(the reasoner gets it right) from the question alone: for drr_policy.question_critic */
    bool first_turns_only; /* train and dev without what was written after a rejection; test questions keep theirs */
    bool by_trace;         /* an ablation: split by trace, so that test questions are known from training, and say so */
} drr_train_options;
void drr_train_options_defaults(drr_train_options *options);

/* One calibration: before and after on test questions, and how it was picked on dev. NaN where not defined. */
typedef struct drr_calibration_figures {
    const char *picked;                   /* "none", "temperature", "platt", "isotonic"; static */
    double dev_log_loss[4];               /* of these four in this order, cross-validated by question; NaN: not tried */
    double log_loss[2], brier[2], ece[2]; /* before; after */
} drr_calibration_figures;

typedef struct drr_task_figures { /* of the test traces of one task */
    char task[64];
    uint64_t n, n_right, n_questions;
    double auroc_text, auroc_stack, auroc_length, auroc_vote, brier, ece;
    drr_within within_text, within_stack, within_length, within_vote;
    double auroc_left_out_text, auroc_left_out; /* by a critic that did not see this task; NaN: not measured */
    double auroc_probe;                         /* over the traces with hidden states; NaN without a probe */
} drr_task_figures;
#define DRR_TASK_FIGURES 16

typedef struct drr_train_result {
    uint64_t n_train, n_dev, n_test, n_train_questions, n_dev_questions, n_test_questions, n_truncated;
    uint64_t n_guarantee, n_guarantee_questions;                      /* traces and questions kept for the guarantee */
    double auroc_text, auroc_stack, auroc_length, auroc_vote;         /* held-out; NaN where not defined */
    drr_within within_text, within_stack, within_length, within_vote; /* of the same rows */
    double auprc, brier, ece;                                         /* of p_correct, held-out */
    double threshold, best_loss, tokens_per_second, seconds;
    uint32_t best_epoch;
    drr_precision precision; /* what it was trained in; the figures are of fp32, in which critics score */
    drr_calibration_figures text_calibration, stack_calibration; /* before: the sigmoid of the logit */
    drr_guarantee guarantees[DRR_GUARANTEES];
    uint32_t n_guarantees; /* asked for, found or not */
    struct {
        uint64_t n, n_accepted, n_wrong;
    } kept[DRR_GUARANTEES];                   /* what came of each on the test questions, which had no part in it */
    drr_task_figures tasks[DRR_TASK_FIGURES]; /* the first ones */
    uint32_t n_tasks;
    drr_head head;
    uint64_t n_rank_questions;            /* with right and wrong train traces, where a ranking term was asked for */
    uint64_t n_train_steps, n_test_steps; /* labels of steps trained on, and measured on */
    double auroc_steps; /* of the test steps' logits, right being those from which a continuation ended right; or NaN */
    bool text_alone;    /* then what is called the stack's is the text's P(correct) */
    bool by_trace;      /* then all of these figures are too good */
    drr_critic_kind kind;
    struct { /* n_train 0: there is none */
        double auroc, dev_auroc, dev_log_loss, l2, seconds;
        uint64_t n_train, n_dev, n_test; /* traces with hidden states */
        char layer[16], pools[16];       /* the best on dev */
    } probe;
} drr_train_result;

/* Which of the processes that Open MPI's mpirun started this one is, and how many there are; 0 of 1 without mpirun. */
void drr_ranks(uint32_t *rank, uint32_t *n);

/* Writes the critic, and beside it what it is for people to read: NAME.card.md with its plot NAME.card.svg. Where
 * mpirun started several processes they train together: all must call it with the same options and traces. Rank 0's
 * hooks alone are told anything, and it alone writes; all return the same status, and a message only where rank 0 does
 * not have it too. What fails on one ends it on all. */
drr_status drr_train(drr_train_result *result, const drr_train_options *options, const drr_hooks *hooks,
                     drr_error *err);

/* One of several trainings, and its figures on the questions that it left out. */
#define DRR_REPEAT_FIGURES 11
const char *drr_repeat_figure_name(uint32_t index); /* "auroc_stack", ...; NULL past the last: static */
typedef struct drr_repeat {
    uint32_t fold; /* from 1; 0: the usual split */
    uint32_t best_epoch;
    uint64_t seed, n_train_questions, n_test_questions, n_test;
    double seconds;
    double figures[DRR_REPEAT_FIGURES]; /* NaN where not defined */
} drr_repeat;
typedef struct drr_repeats {
    drr_repeat *runs; /* by fold, then seed */
    size_t n;
    uint32_t folds, seeds;
    /* Over the runs in which a figure is defined: mean and deviation of all; deviation between seeds of one fold,
     * pooled, and between the folds' means. NaN where there are not two. */
    double mean[DRR_REPEAT_FIGURES], sd[DRR_REPEAT_FIGURES], sd_seeds[DRR_REPEAT_FIGURES], sd_folds[DRR_REPEAT_FIGURES];
} drr_repeats;
void drr_repeats_clear(drr_repeats *repeats);
/* Cross-validation: each of `folds` parts of the questions (0: the usual test share instead, the same for all) is left
 * out once and measured on, with `seeds` seeds from options->seed on; the split is the same for all of them. Then
 * drr_train. Without folds the first run is the critic that is written. Finished runs are kept beside options->out
 * until all is done: with options->resume a call goes on behind them. Free with drr_repeats_clear. */
drr_status drr_train_repeat(drr_train_result *result, drr_repeats *repeats, const drr_train_options *options,
                            uint32_t folds, uint32_t seeds, const drr_hooks *hooks, drr_error *err);

/* One of these folds by itself, its critic kept: drr_train's, but that `fold`, from 1, is left out and measured on.
 * Reads the traces like it. */
drr_status drr_train_fold(drr_train_result *result, const drr_train_options *options, uint32_t fold, uint32_t folds,
                          const drr_hooks *hooks, drr_error *err);
/* The division: hears each question of the traces, as drr_trace.question, once, and the fold that leaves it out. */
typedef void (*drr_fold_fn)(void *user, const char *question, uint32_t fold);
drr_status drr_train_divide(drr_fold_fn each, void *user, const drr_train_options *options, uint32_t folds,
                            const drr_hooks *hooks, drr_error *err);

/* What a critic judges by, of kinds that one trained encoder can be measured as. */
typedef enum drr_trial_kind { DRR_TRIAL_TEXT, DRR_TRIAL_STACK } drr_trial_kind;
#define DRR_TRIAL_KINDS 2
const char *drr_trial_kind_name(drr_trial_kind kind); /* "text", "stack" */
typedef struct drr_trial {
    uint32_t settings, rung; /* from 1; settings 1 are those that were given */
    double learning_rate;
    uint32_t epochs, max_length, best_epoch;
    uint64_t n_questions; /* trained on */
    drr_trial_kind kind;  /* the one of lower log loss */
    struct {              /* of P(correct) on dev questions, each judged by what was fitted on others; NaN: it failed */
        double log_loss, auroc, within;
    } kinds[DRR_TRIAL_KINDS];
    double seconds;
} drr_trial;
typedef struct drr_search {
    drr_trial *trials; /* in the order in which they were made */
    size_t n, winner;  /* winner n: no trial was finished, and the settings given were trained */
    uint32_t rungs;    /* planned */
    uint64_t n_dev_questions;
    double budget, seconds;  /* for the trials; spent on them */
    double gain, gain_error; /* by how much the winner's log loss is below that of the settings given on as many
                                questions, and the standard error of that over dev questions; NaN: not known */
} drr_search;
void drr_search_clear(drr_search *search);
/* Tries learning rate, epochs, max_length and kind for `seconds`, by successive halving on dev questions
 * (docs/training.md); test and guarantee questions are not looked at. Then drr_train with the winner's settings, which
 * comes on top of the time. Kept and resumed as drr_train_repeat is. Free with drr_search_clear. */
drr_status drr_train_search(drr_train_result *result, drr_search *search, const drr_train_options *options,
                            double seconds, const drr_hooks *hooks, drr_error *err);

/* ---- judges: src/loop ---------------------------------------------------------------------------- */

/* Says how likely an answer is right. A critic is one; others stand in for it to be compared with it, on the same
 * loop (drr_policy.judge). What they say is a number in [0, 1] and no calibrated probability: an own threshold is
 * theirs alone, and drr with one of them must be told it. docs/reasoning.md says what each computes. */
typedef struct drr_judge drr_judge;

typedef struct drr_judge_options {
    const char *route; /* of an address: "rerank", "classify", "score", "decisions" or "systemone"; NULL: by its path */
    const char *scale; /* what the numbers of rerank and score are: "logit" or "probability"; NULL: logit for rerank,
                          probability for score */
    const char *model; /* as the server calls it; NULL: none is named */
    const char *ca_file; /* certificates to trust, PEM; NULL: the system's */
    uint32_t seconds;    /* of one answer's judgement, tries together; 0: 60 */
    const drr_hooks
        *hooks; /* asked whether to stop while a server is waited for; may be NULL; must outlive the judge */
} drr_judge_options;
void drr_judge_options_defaults(drr_judge_options *options);

/* source: a critic's file, "self" (the reasoner is asked whether it is right), "length" (shorter is better), "logprob"
 * (of the tokens), "vote" (how many answers agree), or an address ("http://host/v1/rerank"), whose key is
 * DRR_JUDGE_API_KEY of the environment. options may be NULL. Nothing is asked of a server yet. */
drr_status drr_judge_open(drr_judge **judge, const char *source, const drr_judge_options *options, drr_error *err);
void drr_judge_close(drr_judge *judge);
const char *drr_judge_name(const drr_judge *judge);   /* "self"; of an address, that; of a critic, its name */
bool drr_judge_calibrated(const drr_judge *judge);    /* its numbers are probabilities, and it has a threshold */
drr_critic *drr_judge_critic(const drr_judge *judge); /* of a critic's file, and the judge's own; else NULL */

/* ---- the loop: src/loop -------------------------------------------------------------------------- */

typedef enum drr_strategy {
    DRR_STRATEGY_COT,
    DRR_STRATEGY_SELF_CRITIQUE,
    DRR_STRATEGY_VOTE,
    DRR_STRATEGY_BEST_OF_N,
    DRR_STRATEGY_DRR
} drr_strategy;
const char *drr_strategy_name(drr_strategy strategy);
drr_status drr_strategy_parse(drr_strategy *strategy, const char *name, drr_error *err);

typedef enum drr_verdict {
    DRR_VERDICT_NONE,
    DRR_VERDICT_ACCEPT,
    DRR_VERDICT_REJECT,
    DRR_VERDICT_ABSTAIN,
    DRR_VERDICT_ESCALATE
} drr_verdict;
const char *drr_verdict_name(drr_verdict verdict);

/* What the samples of `vote` weigh. */
typedef enum drr_votes {
    DRR_VOTES_EQUAL,
    DRR_VOTES_CRITIC,    /* each its own P(correct), blind to the others */
    DRR_VOTES_POSTERIOR, /* the likeliest answer by the critic's judgements: each weighs its log-odds */
    DRR_VOTES_CONFIDENCE /* each its confidence, of the log-probabilities of its tokens */
} drr_votes;
const char *drr_votes_name(drr_votes votes);

typedef enum drr_exhausted {                     /* what happens when turns run out */
                             DRR_EXHAUSTED_VOTE, /* critic-weighted vote over the turns */
                             DRR_EXHAUSTED_BEST,
                             DRR_EXHAUSTED_LAST,
                             DRR_EXHAUSTED_ABSTAIN
} drr_exhausted;

typedef enum drr_feedback {
    DRR_FEEDBACK_WORDS,   /* the rejection's words, history kept */
    DRR_FEEDBACK_RESTART, /* a fresh sample, nothing of the rejected turn shown */
    DRR_FEEDBACK_SCORE,   /* words that give the P(correct) */
    DRR_FEEDBACK_STEP     /* words that quote the suspicious step: takes a critic that scores steps */
} drr_feedback;
const char *drr_feedback_name(drr_feedback feedback);

typedef struct drr_policy {
    drr_strategy strategy;
    uint32_t samples;       /* vote, best-of-n: at most */
    double stop_confidence; /* they stop when the answer ahead is the right choice as surely as this; 0: never, all are
                               drawn; for best-of-n it is the P(correct) of its best */
    drr_votes votes;        /* vote: what samples weigh, and by what they stop; docs/reasoning.md */
    double keep_votes;      /* with DRR_VOTES_CONFIDENCE this share of them votes, the most confident; 1: all */
    uint32_t max_turns;     /* drr, self-critique */
    uint64_t max_tokens;    /* generated tokens a question over all turns or samples; 0: no limit */
    double max_seconds;     /* that a question may take: the reasoner's and the judge's, not those in which it waits for
                               other questions; 0: no limit */
    uint32_t turn_tokens;   /* of one turn */
    double threshold; /* accept at or above; NaN: the critic's own, for max_turns turns where it has one for these */
    double abstain_below;  /* at the end, abstain when the winner's P(correct) is below; 0: never */
    double escalate_below; /* drr_escalate asks the second reasoner when P(correct) is below; NaN: when no turn was
                              accepted */
    drr_exhausted on_exhausted;
    drr_feedback feedback;
    float first_temperature;  /* of cot, self-critique and drr's first turn; 0: the likeliest token */
    float temperature, top_p; /* of what must differ: vote, best-of-n, drr's other turns */
    uint64_t seed;
    bool grammar;
    /* Early rejection, of drr and best-of-n: an answer under way is scored where a step ends, and stopped where a
     * step's P is below early_below (0: never). What is before that step is kept, and gone on with by another seed. */
    double early_below;
    uint32_t early_steps; /* a step before this one, from 1, is never the reason */
    uint32_t early_cuts;  /* an answer is stopped so often at most */
    bool early_free;      /* drr: stopping does not count as a turn; else it does, and the last turn is not stopped */
    drr_judge *judge;     /* gives P(correct) instead of the critic; NULL: the critic does. Must outlive the call */
    /* Before the first token, strategy drr: what a critic of questions alone thinks of this one (drr_route). At or
     * above sure_above the first answer that can be read is accepted. Below parallel_below `samples` are drawn side by
     * side; below hopeless_below nothing is asked, and the outcome is abstained, which drr_escalate takes on; below
     * give_up_below not even that. Each below the one before it. Borrowed; NULL: nobody asks. */
    drr_critic *question_critic;
    double sure_above;                                    /* NaN: never */
    double parallel_below, hopeless_below, give_up_below; /* 0: never */
} drr_policy;
void drr_policy_defaults(drr_policy *policy);
/* Makes the policy the one that a guarantee is about, abstention included. */
void drr_policy_guaranteed(drr_policy *policy, const drr_guarantee *guarantee);
/* Is a guarantee about answers that are accepted under this policy? If not, `why` (at most `size` bytes) names the
 * settings that differ. How a turn is asked (prompts, top-p, its tokens, grammar) is the caller's to keep. */
bool drr_guarantee_holds(char *why, size_t size, const drr_guarantee *guarantee, const drr_policy *policy);
/* That of a critic which is about as many turns as the policy has; NULL: none is. */
const drr_guarantee *drr_critic_guarantee(const drr_critic_info *info, const drr_policy *policy);
/* The promise in one sentence. */
void drr_guarantee_sentence(char *text, size_t size, const drr_guarantee *guarantee);

/* Which way a question went by what a critic of questions said of it. */
typedef enum drr_route {
    DRR_ROUTE_NONE, /* none was asked */
    DRR_ROUTE_ONCE, /* its first answer was taken */
    DRR_ROUTE_SEQUENCE,
    DRR_ROUTE_PARALLEL,
    DRR_ROUTE_ESCALATE, /* not asked here: another reasoner's, where there is one (drr_result.escalated) */
    DRR_ROUTE_ABSTAIN
} drr_route;
#define DRR_ROUTES 6
const char *drr_route_name(drr_route route); /* "none", "once", ...: static */

typedef enum drr_outcome { DRR_ANSWERED, DRR_ABSTAINED, DRR_UNPARSED, DRR_FAILED } drr_outcome;
const char *drr_outcome_name(drr_outcome outcome);

typedef struct drr_turn {
    const char *role; /* "attempt", "critique", "revision", "escalation"; "cut": an attempt that was stopped early;
                         "judge": what the reasoner says of its answer. Static */
    char *text, *answer, *feedback; /* feedback: the words that came before this turn */
    uint32_t sample, turn;
    double logit;      /* NaN when nobody scored it; so are the next three */
    double probe;      /* of the critic's probe, where it has one and the reasoner gives hidden states */
    double p_correct;  /* that its verdict was given on: in the light of the other answers known by then */
    double p_alone;    /* the same as if no other answer were known */
    double confidence; /* of its least certain stretch of tokens, as a probability; NaN without log-probabilities */
    drr_verdict verdict;
    int correct; /* 1, 0, or -1 when there is no reference, or one that only a checker knows */
    drr_finish finish;
    uint32_t n_prompt_tokens, n_tokens;
    double seconds;
    drr_token_stats stats;
    uint32_t cuts; /* how often this attempt had been stopped before */
    uint32_t kept; /* bytes at the beginning of text that were kept of it then; n_tokens does not count them, */
    uint32_t n_kept_tokens; /* but this does */
} drr_turn;
/* An attempt or a revision that ended, also another reasoner's: no critique, no judge's word, nothing stopped early. */
bool drr_turn_answers(const drr_turn *turn);

typedef struct drr_result {
    const drr_task *task;
    char *answer; /* NULL unless DRR_ANSWERED */
    drr_outcome outcome;
    double p_correct;  /* of the answer given; NaN without a critic */
    double p_question; /* of the question alone, before anything was asked; NaN without such a critic */
    drr_route route;   /* what that decided */
    int correct;       /* 1, 0, or -1 when there is no reference; an abstention is 0 with coverage apart */
    drr_turn *turns;
    size_t n_turns;
    uint64_t n_prompt_tokens, n_tokens; /* over all turns */
    double seconds;                     /* of the reasoner, summed over the turns */
    char *failure;                      /* why a turn failed: the reason when DRR_FAILED */
    bool escalated;                     /* the last turn is another reasoner's; tokens and seconds count it too */
    uint64_t n_escalated_prompt_tokens, n_escalated_tokens; /* of these, the other reasoner's */
    uint32_t n_cuts;                                        /* early rejections */
    uint64_t n_cut_tokens;                                  /* of n_tokens: written and then thrown away by them */
    double judge_seconds; /* of the critic or judge, early scores included; where the reasoner is the judge, its turns'
                             seconds say it */
} drr_result;
void drr_result_clear(drr_result *result);
/* Is the answer one that the critic accepted a turn for? Not where it was settled otherwise, or is another reasoner's.
 */
bool drr_result_accepted(const drr_result *result);

/* Hears each turn as it ends and, with turn NULL, each question as it ends. */
typedef void (*drr_turn_fn)(void *user, const drr_result *so_far, const drr_turn *turn);

/* Answers n questions with one strategy, as many at once as the reasoner is wide. results: n slots of the
 * caller's, each cleared with drr_result_clear. critic may be NULL for strategies that need none, and where the
 * policy has a judge. */
drr_status drr_solve(drr_result *results, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                     const drr_task *const *tasks, size_t n, const drr_policy *policy, drr_turn_fn on_turn, void *user,
                     const drr_hooks *hooks, drr_error *err);

/* Asks another reasoner, once, for the likeliest answer to each question that drr_solve left unsure (nothing was
 * answered, or policy->escalate_below says so), and lets its answer stand, with no P(correct), where it has one; where
 * it has none the first one's does. A failure of this call leaves the results as far as they are. */
drr_status drr_escalate(drr_result *results, size_t n, drr_reasoner *second, const drr_prompts *prompts,
                        const drr_policy *policy, drr_turn_fn on_turn, void *user, const drr_hooks *hooks,
                        drr_error *err);

/* ---- evaluation: src/eval ------------------------------------------------------------------------ */

/* A strategy with a policy of its own, under the name that the report is to give it. */
typedef struct drr_eval_entry {
    const char *name;
    drr_policy policy;
} drr_eval_entry;

/* What every strategy is to spend alike, in the mean over questions (docs/evaluation.md). */
typedef enum drr_budget { DRR_BUDGET_OWN, DRR_BUDGET_CALLS, DRR_BUDGET_TOKENS } drr_budget;
/* "calls" or "tokens", or with a strategy's name behind it "tokens:drr"; *of, NULL without one, lies in `text`. */
bool drr_budget_parse(drr_budget *budget, const char **of, const char *text);

typedef struct drr_eval_options {
    const char *out; /* folder for report.json, report.html, report.txt, questions.jsonl and the sample cache */
    const drr_strategy *strategies;
    size_t n_strategies;
    drr_policy policy;             /* strategy is taken from the list */
    const drr_eval_entry *entries; /* in place of `strategies`, whose policy is `policy`; NULL: these */
    size_t n_entries;
    drr_budget equal_budget;
    const char *budget_of;       /* the strategy or entry whose budget all others get; NULL: drr, or else self-critique,
                                    or else the first */
    const char *cache;           /* of sampled text, a file; NULL: out/samples.db */
    size_t limit;                /* questions of each set; 0: all */
    uint32_t bootstrap;          /* resamples */
    const char *title, *command; /* shown in the report; may be NULL */
    drr_checker *checker;        /* as of drr_distill_options */
    drr_reasoner *escalate_to;   /* drr's unsure questions go there; NULL: nowhere */
} drr_eval_options;
void drr_eval_options_defaults(drr_eval_options *options);

/* Compares strategies on the same questions of one or more data sets. Generated text is cached under
 * out/samples.db: run again, it is resumed, and re-scored without generating what is there.
 * *json (caller frees) is the report as drr eval --json prints it; *table the plain table. */
drr_status drr_eval(char **json, char **table, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                    const drr_dataset *const *datasets, size_t n_datasets, const drr_eval_options *options,
                    const drr_hooks *hooks, drr_error *err);

typedef struct drr_suite_options {
    const char *out;      /* the study's folder */
    const char *command;  /* shown in the report; may be NULL */
    drr_checker *checker; /* as of drr_distill_options */
} drr_suite_options;

/* Runs the study that a TOML file describes (docs/evaluation.md) and writes one report of it into options->out: its
 * parts, of each reasoner with each critic and seed, are drr_eval's. Parts that are finished there are not done again;
 * what fails leaves them. *json and *table are the caller's. */
drr_status drr_eval_suite(char **json, char **table, const char *path, const drr_suite_options *options,
                          const drr_hooks *hooks, drr_error *err);

/* Compares what two folders of reports, by drr_eval or drr_eval_suite, hold of the same questions: each strategy that
 * is in both, b against a, and says what else differs. Writes diff.json and diff.md into `out`, NULL: nowhere. */
drr_status drr_eval_diff(char **json, char **table, const char *a, const char *b, const char *out, uint32_t bootstrap,
                         uint64_t seed, drr_error *err);

/* A cascade of two reasoners, measured on questions with known answers: what each --escalate-below would have cost and
 * got right. Costs are of tokens, in units of what the second reasoner alone costs for these questions. */
typedef struct drr_cascade_options {
    drr_policy policy;  /* of the first; its strategy is drr whatever it says */
    const char *out;    /* folder of samples.db, where what was generated is kept; needed */
    size_t limit;       /* first questions only; 0: all */
    uint32_t bootstrap; /* resamples; 10,000 */
    uint64_t seed;
    double price_ratio;  /* a token of the second costs as much as so many of the first; 20 */
    double prompt_price; /* a token read costs as much as so many written; 0.5 */
    double target_error; /* pick the cheapest threshold whose error is at most this; NaN: not asked for */
    double target_cost;  /* or the one that gets most right at no more than this; NaN: not asked for. With neither, the
                            cheapest that gets as much right as the second alone */
} drr_cascade_options;
void drr_cascade_options_defaults(drr_cascade_options *options);

typedef struct drr_cascade_point {
    double below;     /* escalate_below: what has a lower P(correct), and what has no answer, goes to the second */
    double escalated; /* share of the questions */
    double accuracy, cost;
} drr_cascade_point;

typedef struct drr_cascade_question {
    const char *id; /* lives as long as the data set */
    double p;       /* P(correct) of the first one's answer; NaN where it has none, and is then escalated always */
    int first, second;
    double cost_first, cost_second; /* in written tokens of the second */
} drr_cascade_question;

typedef struct drr_cascade {
    drr_cascade_question *questions;
    size_t n;
    drr_cascade_point *points; /* by rising threshold and cost; the first escalates what has no answer alone */
    size_t n_points, picked;   /* n_points: none meets the target */
    double accuracy_first, accuracy_second, cost_first;
    double difference[3]; /* accuracy of the picked point less the second's, and its 95 % interval over questions */
} drr_cascade;

/* Asks both reasoners all questions. Freed with drr_cascade_clear, also after an error. DRR_E_ARGUMENT: a question has
 * no answer to compare with, or one that only a checker knows. */
drr_status drr_cascade_measure(drr_cascade *cascade, drr_reasoner *first, drr_reasoner *second, drr_critic *critic,
                               const drr_prompts *prompts, const drr_dataset *dataset,
                               const drr_cascade_options *options, const drr_hooks *hooks, drr_error *err);
void drr_cascade_clear(drr_cascade *cascade);

/* ---- a server in front of a model: src/serve ------------------------------------------------------ */

/* Does the page show what was asked and answered? Whoever has a key sees all of it. */
typedef enum drr_page_texts {
    DRR_PAGE_TEXTS_AUTO, /* unless there are several keys */
    DRR_PAGE_TEXTS_YES,
    DRR_PAGE_TEXTS_NO
} drr_page_texts;

/* Strings are not copied: those of these options, and of any that `reload` gives, live until drr_serve returns. */
typedef struct drr_serve_options {
    /* Where it listens, and for whom (docs/security.md). */
    const char *host; /* an address of this machine; one that others can reach needs an API key */
    uint32_t port;    /* 0: any that is free */
    const char *tls_certificate, *tls_key;
    const char *const *api_keys;
    size_t n_api_keys;
    const char *api_key_file; /* beside api_keys: one a line, readable by its owner alone */
    uint64_t max_body_bytes;
    uint32_t max_connections, max_in_flight; /* max_in_flight: requests of one key; 0: any number */
    uint32_t header_seconds, body_seconds, write_seconds, idle_seconds;
    uint32_t http_threads; /* 0: by the number of cores */
    /* Who thinks: an upstream, or an embedded reasoner. */
    const char *upstream;              /* base URL of an OpenAI-compatible API: "http://host/v1" */
    const char *model;                 /* as the upstream calls it; NULL: as the client says */
    const char *upstream_key_file;     /* NULL: the environment, as of drr_reasoner_options.api_key_file */
    uint32_t timeout_seconds, retries; /* of one attempt */
    const char *reasoner;              /* as drr_reasoner_open */
    drr_reasoner_options reasoner_options;
    /* Who judges. */
    const char *critic; /* NULL: agreement between samples; one with a probe takes the reasoner whose states it reads */
    drr_precision precision;
    uint32_t judge_threads; /* 0: all cores */
    /* What is done about it: a request's "drr" object changes these for itself (docs/serve.md). */
    uint32_t max_turns, samples; /* 1 to 32 */
    uint64_t max_tokens;         /* generated, over all turns; 0: no limit */
    uint32_t deadline_ms;        /* 0: none */
    double threshold;            /* NaN: the critic's own */
    drr_exhausted on_exhausted;
    drr_feedback feedback; /* words, score or restart */
    bool shadow;           /* judge, and never interfere */
    double share;          /* of requests that are judged at all */
    bool pass_unjudged;    /* when the judge fails: true: the answer goes out and says so; false: an error */
    bool live;             /* stream attempts as they are written, as reasoning_content; else hold until accepted */
    bool abstain_refusal;  /* an abstention's words in message.refusal too */
    const char *abstain_text;
    /* Operation. */
    uint32_t keepalive_seconds; /* between comments in a held stream */
    uint32_t drain_seconds;     /* for requests under way at the end */
    bool metrics;               /* GET /metrics */
    bool log_prompts;           /* questions and answers in events too */
    const char *record;         /* judged traffic goes to this trace store, for the next training; NULL: nowhere */
    const char *const *redact;  /* JSON fields whose values are not recorded */
    size_t n_redact;
    uint64_t page_bytes; /* of memory for the recent requests that the page shows; 0: none */
    drr_page_texts page_texts;
    /* Callbacks, each may be NULL. */
    void *user;
    void (*ready)(void *user, uint32_t port);         /* everything is loaded */
    void (*event)(void *user, const char *json_line); /* what happens, for logs: one at a time, from any thread */
    /* Asked as often as hooks->cancelled. DRR_E_EMPTY: nothing is new; DRR_OK: *fresh are the options from now on, as
     * far as they can change while it runs (critic, keys, certificates, policy); else *err says why they stay. */
    drr_status (*reload)(void *user, const struct drr_serve_options **fresh, drr_error *err);
} drr_serve_options;
void drr_serve_options_defaults(drr_serve_options *options);

/* Answers requests until hooks->cancelled says so; then takes no more, and returns when those under way are answered or
 * drain_seconds are over. hooks->log is called from any thread, one call at a time. */
drr_status drr_serve(const drr_serve_options *options, const drr_hooks *hooks, drr_error *err);

/* Hears each setting of a TOML file in turn: its name, with those of its tables and dots before, and its value as text;
 * a list's items one by one. `place` is "file:line". What it returns, if not DRR_OK, ends the reading. */
typedef drr_status (*drr_setting_fn)(void *user, const char *name, const char *value, const char *place,
                                     drr_error *err);
drr_status drr_settings_read(const char *path, drr_setting_fn each, void *user, drr_error *err);

/* ---- this machine -------------------------------------------------------------------------------- */

/* JSON (caller frees): versions of drr and the libraries it runs on, CPU features, the code path that ggml and oneDNN
 * chose, models in the cache with checksum state, and, for `reasoner` (may be NULL), its first-logits check, or, where
 * it is the base URL of an API, what that answers and can do; then `options` (NULL: the defaults) say with which key
 * and model it is asked. What is wrong is a sentence in its list "problems", of which *n_problems is the length; it is
 * no failure of the call. */
drr_status drr_doctor(char **json, size_t *n_problems, const char *reasoner, const drr_reasoner_options *options,
                      const drr_hooks *hooks, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
