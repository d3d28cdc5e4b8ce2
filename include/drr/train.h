/* drr/train.h: training: traces in, a critic out; several trainings, and a search for settings. Part of drr.h. */
#ifndef DRR_TRAIN_PART_H
#define DRR_TRAIN_PART_H

#include "drr/critic.h"

#ifdef __cplusplus
extern "C" {
#endif

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
    uint32_t
        beginnings; /* of each trace to train on, so many beginnings too, for early_below; 0: none (docs/steps.md) */
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
    uint64_t n_train_beginnings, n_test_beginnings; /* trained on, and measured on: all there are of test traces */
    double auroc_beginnings;                        /* by the label that the whole answer got; NaN where not measured */
    bool text_alone;                                /* then what is called the stack's is the text's P(correct) */
    bool by_trace;                                  /* then all of these figures are too good */
    drr_critic_kind kind;
    struct { /* n_train 0: there is none */
        double auroc, dev_auroc, dev_log_loss, l2, seconds;
        uint64_t n_train, n_dev, n_test; /* traces with hidden states */
        char layer[16], pools[16];       /* the best on dev */
    } probe;
} drr_train_result;

/* Which of the processes that Open MPI's mpirun started this one is, and how many there are; 0 of 1 without mpirun. */
void drr_ranks(uint32_t *rank, uint32_t *n);

#define DRR_TRAIN_FEWEST_QUESTIONS                                                                                     \
    50 /* with fewer it says that nothing can be learnt, unless max_questions asks for so few */

/* What drr_train would say before it reads a trace: of options that do not go together, and of an encoder that is not
 * there or cannot be read. For programs that make the traces first, which takes hours. Nothing is read of
 * options->traces and nothing is written. Errors: those of drr_train. */
drr_status drr_train_check(const drr_train_options *options, drr_error *err);

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
/* The division: hears each question of the traces, as drr_trace.question, once, and the fold that leaves it out.
 * *identity: a hash of the traces as they were read, of the encoder and of the options. */
typedef void (*drr_fold_fn)(void *user, const char *question, uint32_t fold);
drr_status drr_train_divide(drr_fold_fn each, void *user, uint64_t *identity, const drr_train_options *options,
                            uint32_t folds, const drr_hooks *hooks, drr_error *err);

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

#ifdef __cplusplus
}
#endif
#endif
