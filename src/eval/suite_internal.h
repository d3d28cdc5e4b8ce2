/* suite_internal.h: a suite as it was read (suite_read.c), for what runs it (suite.c) and reports on it
 * (suite_report.c). */
#ifndef DRR_EVAL_SUITE_INTERNAL_H
#define DRR_EVAL_SUITE_INTERNAL_H

#include "core/toml.h"
#include "eval/eval_internal.h"

enum { MOST_LISTED = 64, MOST_FOLDS = 20, PART_NAME = 200 };

typedef struct suite_data {
    const char *path, *format;
    uint64_t limit;
} suite_data;

typedef struct suite_reasoner {
    const char *name, *source, *prompts; /* prompts NULL: the built-in ones */
    drr_reasoner_options options;
} suite_reasoner;

typedef struct suite_critic { /* of [[critic]], by its path or made of traces; or of [[judge]], by its source */
    const char *name, *path, *source;
    drr_judge_options options;
    uint32_t folds; /* 0: by its path */
    bool with_question_critic;
    drr_train_options train;
} suite_critic;

typedef struct suite { /* strings are the suite's */
    const char *path;
    json_t *root, *lines;
    arena *strings;
    const char *title;
    suite_data data[MOST_LISTED];
    size_t n_data;
    suite_reasoner reasoners[MOST_LISTED];
    size_t n_reasoners;
    suite_critic critics[MOST_LISTED];
    size_t n_critics;        /* judges stand behind them */
    suite_reasoner escalate; /* source NULL: nowhere */
    const char *question_critic;
    drr_eval_entry entries[MOST_LISTED];
    size_t n_entries;
    uint64_t seeds[MOST_LISTED];
    size_t n_seeds;
    uint64_t limit;
    uint32_t bootstrap;
    drr_budget equal_budget;
    const char *budget_of;
} suite;

/* Reads and checks a suite without opening anything it names; what is wrong is named with its line. */
drr_status suite_read(suite *s, const char *path, drr_error *err);
void suite_clear(suite *s);

/* ---- suite.c: a file's content as a line of what is signed; of a large one size and date, of what is none the name */
drr_status suite_sign_file(buffer *b, const char *what, const char *name, drr_error *err);

/* ---- suite_folds.c: the critics that a suite makes, one for each fold of the questions of its traces */
typedef struct fold_place { /* a question's */
    uint64_t question;      /* its hash */
    uint32_t fold;
} fold_place;
typedef struct suite_folds {
    const suite_critic *critic; /* NULL: nothing is made here */
    fold_place *places;         /* by hash */
    size_t n_places, capacity;
    bool lost;          /* a place, for want of memory */
    char signature[65]; /* of all that decides what the critics are */
    char *folder;       /* theirs, in the study's */
    drr_critic *critics[MOST_FOLDS], *questions[MOST_FOLDS];
    fold_critics as; /* what an evaluation takes */
} suite_folds;
/* Reads the traces and divides their questions; trains nothing. */
drr_status suite_folds_divide(suite_folds *f, const suite_critic *critic, const char *out, const drr_hooks *hooks,
                              drr_error *err);
/* Has the data set questions of these traces? Those that it has beside them are said, and judged by any fold. */
drr_status suite_folds_check(const suite_folds *f, const drr_dataset *data, uint64_t limit, const drr_hooks *hooks,
                             drr_error *err);
/* Trains the critics that are not there yet, and opens all. */
drr_status suite_folds_open(suite_folds *f, const drr_hooks *hooks, drr_error *err);
void suite_folds_close(suite_folds *f); /* the critics */
/* The layers that the open critics' probes read, as drr_reasoner_options.hidden names them; "" without a probe. Each
 * fold picks its own on dev, of those that the traces have, which are four at most. */
void suite_folds_layers(char layers[64], const suite_folds *f);
void suite_folds_clear(suite_folds *f);

/* ---- suite_report.c: the study's one report, of the parts' reports */
typedef struct suite_part {
    char name[PART_NAME];
    json_t *report; /* as drr_eval gives it; owned */
    char *folder;   /* owned */
} suite_part;
/* Writes the report's forms into the folder `out`; *json and *table are the caller's. */
drr_status suite_report(char **json, char **table, const suite *s, const suite_part *parts, size_t n_parts,
                        const char *out, const char *command, drr_error *err);
/* A table of objects (their own order of columns; nested ones flattened) as CSV, RFC 4180. */
drr_status csv_write(const char *path, json_t *rows, drr_error *err);
/* The figures of a comparison as report.json keeps it. */
void pair_of_json(pair *p, const json_t *o);

#endif
