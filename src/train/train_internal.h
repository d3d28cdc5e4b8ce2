/* train_internal.h: what train.c, folds.c and search.c share: one training from traces to a critic in memory, and a
 * journal of trainings that are done. */
#ifndef DRR_TRAIN_TRAIN_INTERNAL_H
#define DRR_TRAIN_TRAIN_INTERNAL_H

#include "core/json.h"
#include "train/ranks.h"

/* ---- train.c */
typedef struct session { /* what one encoder's training owns */
    corpus c;            /* read and split by session_fit unless there are rows already */
    encoder *e;
    wordpiece *tokenizer;
    examples train, dev, dev_all, test_all, kept_all;
    critic_meta meta;
    reliability_bin bins[2][JUDGE_BINS];
    buffer checkpoint;
    ranks *job; /* those that train together; not the session's */
} session;
typedef struct variant {    /* a training beside the one that options ask for; zeroed: that one */
    const char *left_out;   /* the task that this encoder must not see */
    const char *checkpoint; /* its name: OUT.NAME.checkpoint */
    bool no_checkpoint;
} variant;
/* Everything up to the fitted encoder: traces, split, tokens, epochs. */
drr_status session_fit(session *s, drr_train_result *result, const drr_train_options *o, const variant *v,
                       const drr_hooks *hooks, drr_error *err);
/* Logits of the rows of a part, into the corpus. */
drr_status session_score(session *s, corpus_part part, const drr_hooks *hooks, drr_error *err);
/* And everything after it: calibration, stack, threshold, guarantee, figures. */
drr_status session_make(session *s, drr_train_result *result, const drr_train_options *o, const variant *v,
                        const drr_hooks *hooks, drr_error *err);
void session_clear(session *s);
/* drr_train, with what its card is to tell of other trainings (each may be NULL); `given`: rows that are read and split
 * already, which it takes; NULL: it reads them itself. */
drr_status train_critic(drr_train_result *result, const drr_train_options *o, corpus *given, drr_repeats *repeats,
                        const drr_search *search, const drr_hooks *hooks, drr_error *err);
/* The critic's own figures into repeats that have no folds, of which it is the first; then means and deviations
 * (folds.c). */
void repeats_take(drr_repeats *repeats, const drr_train_result *critic);
/* ---- options.c */
drr_status train_check_options(const drr_train_options *o, drr_error *err);
fit_options train_fit_options(const drr_train_options *o); /* without checkpoint and ranks */
/* The encoder that is asked for, as it is before training; the caller frees both, also after a failure. */
drr_status train_open_encoder(encoder **e, wordpiece **tokenizer, const drr_train_options *o, drr_error *err);
/* DRR_E_ARGUMENT: `what` does not go with a split by trace. */
drr_status train_refuse_by_trace(const char *what, drr_error *err);
/* Can these rows train a critic, and with `promises` promise what is asked for? Counts them into the result. */
drr_status train_check_corpus(drr_train_result *result, const corpus *c, const drr_train_options *o, bool promises,
                              drr_error *err);

/* ---- journal.c: records of what is done, one JSON object a line behind a head that says of which work they are. The
 * file is written anew, whole or not at all, with every record, so that a kill loses the unfinished one alone. */
typedef struct journal {
    const char *path; /* borrowed */
    buffer text;
    json_t *records; /* an array, in their order */
} journal;
/* With `resume` reads what is there; DRR_E_MISMATCH where it is of another identity. Else begins anew. */
drr_status journal_open(journal *j, const char *path, const char *what, uint64_t identity, bool resume, drr_error *err);
drr_status journal_add(journal *j, json_t *record, drr_error *err); /* takes the record, also when it fails */
void journal_close(journal *j);

/* Hooks of a training that is one of several (whole.c): its progress says which one it is, or with a deadline how much
 * of the time is left; of what it says only warnings are heard. */
typedef struct whole_hooks {
    drr_hooks hooks; /* to hand on; user is the struct, which must stay where it is */
    const drr_hooks *outer;
    const char *phase;
    char what[120];          /* "fold 2 of 5, seed 1" */
    double deadline, budget; /* by clock_seconds, which then cancels, and seconds in all; deadline 0: none */
} whole_hooks;
void whole_begin(whole_hooks *w, const drr_hooks *outer, const char *phase);

/* ---- what a search measures by (dev_score.c) */
enum { DEV_SCORE_FEWEST = 10 }; /* dev questions */
typedef struct dev_figures {
    double log_loss[DRR_TRIAL_KINDS], auroc[DRR_TRIAL_KINDS], within[DRR_TRIAL_KINDS];
    double *losses[DRR_TRIAL_KINDS]; /* sums over the traces of each dev question, in the order of questions */
    size_t n, n_rows;                /* questions, traces */
} dev_figures;
/* Of the dev rows, which have their logits: each question's P(correct) is by calibration and stack that were fitted on
 * other dev questions. */
drr_status dev_score(dev_figures *f, const corpus *c, uint64_t seed, drr_error *err);
void dev_figures_clear(dev_figures *f);

/* ---- what to try next (search_plan.c): no clock and no chance, so that a search that was cut off decides alike */
enum { SEARCH_MOST_RUNGS = 3, SEARCH_MOST_SETTINGS = 48, SEARCH_MOST_LENGTHS = 12 };
typedef struct search_space {
    double learning_rate; /* the settings given */
    uint32_t epochs, max_length;
    uint32_t lengths[SEARCH_MOST_LENGTHS]; /* rising */
    size_t n_lengths;
    const uint32_t *train, *dev; /* tokens of each text when nothing is cut */
    size_t n_train, n_dev;
    size_t questions[SEARCH_MOST_RUNGS]; /* trained on in each rung; the last: all */
    uint32_t rungs;
    double budget; /* seconds */
} search_space;
/* Lengths worth trying of texts with these many tokens, and rungs for so many questions. */
void search_space_fill(search_space *s, uint32_t most_positions, size_t n_questions);
/* The settings of a number from 1; false: they are those of a lower number. */
bool search_settings(drr_trial *t, const search_space *s, uint32_t number);
/* Work of a trial in tokens of a forward pass. */
double search_work(const search_space *s, const drr_trial *t);
double search_loss(const drr_trial *t); /* that trials are compared by; NaN: failed */
/* Fills in the settings and rung of the next trial, given those that are done; false: there is none, or no time. */
bool search_next(drr_trial *t, const search_space *s, const drr_trial *done, size_t n);
/* The best of the deepest rung with two finished ones, else of what there is; n where nothing is. */
size_t search_winner(const drr_trial *done, size_t n);

/* Of all that decides what a training with these options on these rows gives, but for threads and the output's name. */
drr_status work_identity(uint64_t *identity, const corpus *c, const drr_train_options *o, drr_error *err);

#endif
