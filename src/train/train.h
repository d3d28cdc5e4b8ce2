/* train.h: the door of src/train beside drr.h: the backward pass, the optimizer's state, batches and checkpoints, so
 * that tests can take them one by one. Nothing of this is linked where a critic only scores. */
#ifndef DRR_TRAIN_H
#define DRR_TRAIN_H

#include "core/statistics.h"
#include "critic/critic.h"
#include "critic/encoder_layers.h"

/* ---- gradients (backward.c) */
/* Activations of one micro-batch and the memory of its backward pass, planned once. */
typedef struct encoder_tape encoder_tape;
drr_status encoder_tape_new(encoder_tape **tape, const encoder *e, size_t max_tokens, size_t max_sequences,
                            size_t longest, drr_error *err);
void encoder_tape_free(encoder_tape *tape);
/* To be called after e's parameters changed: in bf16 the tape holds packed copies of the weights. */
void encoder_tape_pack(encoder_tape *tape, const encoder *e);
/* Have `ready` called from within encoder_backward when the gradients of a layer, and all above it, have what this pass
 * adds to them; NULL: not any more. */
void encoder_tape_tell(encoder_tape *tape, void (*ready)(void *user, uint32_t layer), void *user);
/* Forward, binary cross-entropy and backward over n packed sequences. Adds to gradients[e->n_parameters], laid out as
 * the parameters, and to *loss: sum_i weights[i] loss_i / total. weights NULL: 1; d NULL: no dropout. */
drr_status encoder_backward(const encoder *e, encoder_tape *tape, const int32_t *ids, const uint32_t *starts, size_t n,
                            const uint8_t *labels, const float *weights, double total, const encoder_dropout *d,
                            float *gradients, float *logits, double *loss, drr_error *err);

/* The same with another loss. loss_of writes the gradient dlogits[n] of what it returns, n being the logits of the rows
 * that are read: those of encoder_tape_read, borrowed until its next call, or one a sequence (encoder_workspace_read).
 */
typedef double (*encoder_loss_fn)(void *user, float *dlogits, const float *logits, size_t n);
void encoder_tape_read(encoder_tape *tape, const uint32_t *rows, const uint32_t *row_starts);
drr_status encoder_backward_by(const encoder *e, encoder_tape *tape, const int32_t *ids, const uint32_t *starts,
                               size_t n, encoder_loss_fn loss_of, void *user, const encoder_dropout *d,
                               float *gradients, float *logits, double *loss, drr_error *err);

/* ---- examples and batches (batches.c, lessons.c) */
typedef struct lessons { /* what a label does not say of an example: of all examples, or of none */
    size_t *questions;   /* [n] that it answers */
    size_t *starts;      /* [n + 1] reads starts[i] .. of example i: where a head of tokens is taught */
    uint32_t *places;    /* [n_reads] a token of its example, rising within it */
    float *targets;      /* [n_reads] what its logit is to say, 0 .. 1 */
    size_t n, n_reads, capacity, reads_capacity;
} lessons;
typedef struct examples { /* tokenised texts, packed: example i is ids[starts[i]] .. ids[starts[i + 1]] */
    int32_t *ids;
    size_t *starts;
    uint8_t *labels;
    size_t n, n_ids, ids_capacity, capacity;
    lessons lessons;
} examples;
/* Of the example that was added last: its question, and the reads of a head of tokens, the last one being at its last
 * token; n_reads is 0 for a head of [CLS]. */
drr_status examples_teach(examples *x, size_t question, const uint32_t *places, const float *targets, size_t n_reads,
                          drr_error *err);
void lessons_clear(lessons *l);
drr_status examples_add(examples *x, const int32_t *ids, size_t n, uint8_t label, drr_error *err);
void examples_clear(examples *x);
size_t examples_longest(const examples *x);

/* A step of `batch` examples is computed in parts of at most `budget` tokens, whose gradients add up. Without padding
 * nothing is won by batching equal lengths, so the order is a plain shuffle of (seed, epoch). */
typedef struct batch_plan {
    size_t *order; /* of the examples in this epoch */
    size_t n, batch, budget;
    /* For a ranking term, NULL without one: order keeps up to BATCH_GROUP examples of a question side by side, and
     * joined[i] says that order[i] belongs to the group of order[i - 1] (pairs.c). */
    struct grouping *groups;
    bool *joined;
} batch_plan;
drr_status batch_plan_new(batch_plan *plan, size_t n, size_t batch, size_t budget, drr_error *err);
void batch_plan_clear(batch_plan *plan);
/* Plans by groups from the next shuffle on; x (borrowed) knows its questions. No group is longer than the budget. */
enum { BATCH_GROUP = 8 };
drr_status batch_plan_group(batch_plan *plan, const examples *x, drr_error *err);
void batch_plan_shuffle_groups(batch_plan *plan, uint64_t seed, uint64_t epoch); /* these two for batches.c */
void batch_plan_free_groups(struct grouping *groups);
void batch_plan_shuffle(batch_plan *plan, uint64_t seed, uint64_t epoch);
size_t batch_plan_steps(const batch_plan *plan);
/* How many of the examples order[at ..] of the step that ends at `end` make a part: as many as the budget allows, at
 * least one. */
size_t batch_part(const batch_plan *plan, const examples *x, size_t at, size_t end);
/* Packs examples order[at ..] of the step that ends at `end` into ids, starts, labels, as many as the budget allows (at
 * least one), and returns how many. A group is parted only by the end of a step. */
size_t batch_pack(const batch_plan *plan, const examples *x, size_t at, size_t end, int32_t *ids, uint32_t *starts,
                  uint8_t *labels);

/* ---- what a part is taught (losses.c): docs/model.md, "Losses" */
/* Adds to dlogits, and returns, the ranking loss: of each group (joined[i]: i is of the group of i - 1) the mean over
 * its pairs of a right and a wrong one of log(1 + exp(wrong's logit - right's)), times weight * its size / total. The
 * logit of example i is at at[i]; NULL: at i. */
double rank_logits(float *dlogits, const float *logits, const uint32_t *at, const uint8_t *labels, const bool *joined,
                   size_t n, double weight, double total);
/* As bce_logits, with targets between 0 and 1. */
double soft_bce_logits(float *dlogits, const float *logits, const float *targets, const float *weights, size_t n,
                       double total);

typedef struct batch_loss { /* of one part; arrays planned once */
    size_t n, n_reads;
    const uint8_t *labels;       /* [n] the caller's */
    float *weights;              /* [n_reads] */
    float *targets;              /* [n_reads] NULL: the labels */
    uint32_t *rows, *row_starts; /* for encoder_tape_read; NULL as well */
    uint32_t *last;              /* [n] which read is the example's score */
    bool *joined;                /* [n] NULL: no ranking */
    double rank_weight, total;
} batch_loss;
/* For parts of at most `most` tokens and in_part examples of x, to fit e. */
drr_status batch_loss_new(batch_loss *l, const encoder *e, const examples *x, size_t most, size_t in_part,
                          double rank_weight, drr_error *err);
void batch_loss_clear(batch_loss *l);
/* Of the n examples order[at ..] that batch_pack packed; each weighs class_weight[label], over all its reads. */
void batch_loss_take(batch_loss *l, const batch_plan *plan, const examples *x, size_t at, size_t n,
                     const uint32_t *starts, const uint8_t *labels, const float class_weight[2], double total);
double batch_loss_of(void *batch_loss, float *dlogits, const float *logits, size_t n); /* an encoder_loss_fn */

/* ---- fitting an encoder (fit.c, update.c) */
typedef struct fit_options {
    uint32_t epochs, batch, patience;
    size_t budget; /* tokens of a part; 0: 4096 */
    double learning_rate, weight_decay, warmup_share, clip_norm, dropout;
    bool class_weights, keep_last; /* the last epoch's parameters, whatever dev says, and no early stopping */
    double rank_weight;            /* of the ranking term; 0: none. Else the examples know their questions */
    uint64_t seed;
    const char *checkpoint;    /* file; NULL: none is written */
    double checkpoint_every_s; /* 0: 600 */
    bool resume;
    struct ranks *ranks; /* those that fit together (ranks.h); NULL: this process alone */
} fit_options;           /* the precision is e->bf16's */
typedef struct fit_result {
    double best_loss, best_auroc; /* on dev; NaN without one */
    uint32_t best_epoch;          /* from 1; the parameters are this epoch's; the last with keep_last */
    double last_train_loss, tokens_per_second, seconds;
    uint64_t steps;
} fit_result;
drr_status fit_check_options(const fit_options *options, drr_error *err); /* DRR_E_ARGUMENT: what cannot be */
/* Fits e to `train`; after each epoch `dev` (may be empty) decides which epoch's parameters stay: best AUROC, then
 * loss. Cancelled, it writes the checkpoint and returns DRR_E_INTERRUPTED; resumed from there, every parameter ends bit
 * by bit as if it had never stopped (same machine, same number of threads and of ranks). A step that fails (a loss or
 * gradient that is no number: DRR_E_BACKEND, and the parameter's name) changes nothing: the state before it is written
 * to the checkpoint. */
drr_status encoder_fit(encoder *e, const examples *train, const examples *dev, const fit_options *options,
                       fit_result *result, const drr_hooks *hooks, drr_error *err);
/* Logits of all examples, in their order. */
drr_status examples_logits(const encoder *e, const examples *x, size_t budget, float *logits, const drr_hooks *hooks,
                           drr_error *err);
/* Learning rate of a step, from 0: linear warm-up over the first share, then linear to 0. */
double learning_rate_at(const fit_options *options, uint64_t step, uint64_t steps);
/* One clipped AdamW update of all of e's parameters; returns the gradients' norm before clipping. */
double encoder_update(encoder *e, float *gradients, float *moment1, float *moment2, const fit_options *options,
                      double learning_rate, uint64_t step);
/* The same over a run of `steps` updates, of which `step` are done, without touching the rows of the vocabulary that a
 * step does not meet (update.c). In each step: row_updates_see of all its tokens before they are read, backward passes,
 * then row_updates_step. row_updates_finish brings every row up to date: before anything else reads the parameters. The
 * parameters end with encoder_update's bits, but for the rounding of the gradient's norm where it clips. Borrows all.
 */
typedef struct row_updates row_updates;
drr_status row_updates_new(row_updates **u, encoder *e, float *moment1, float *moment2, const fit_options *o,
                           uint64_t steps, uint64_t step, drr_error *err);
void row_updates_free(row_updates *u);
void row_updates_see(row_updates *u, const int32_t *ids, size_t n);
/* The norm before clipping; where it is no finite number nothing has been changed, gradients included. */
double row_updates_step(row_updates *u, float *gradients);
size_t row_updates_met(const row_updates *u, const uint32_t **rows); /* those seen since the last step */
void row_updates_finish(row_updates *u);

/* ---- checkpoints (checkpoint.c) */
typedef struct checkpoint { /* all that a run needs to go on; the arrays belong to the run */
    uint64_t identity;      /* of options, data and encoder: another run's checkpoint is refused */
    uint64_t step;          /* updates done */
    uint32_t best_epoch, stale_epochs, evaluated; /* epochs: the best so far, those since, those measured on dev */
    double best_loss, best_auroc, epoch_loss, seconds;
    uint64_t tokens;
    float *parameters, *moment1, *moment2, *best; /* n each; best counts from best_epoch 1 on */
    size_t n;
} checkpoint;
drr_status checkpoint_write(const char *path, const checkpoint *c, drr_error *err);
drr_status checkpoint_read(const char *path, checkpoint *c,
                           drr_error *err); /* into c's arrays; c says identity and n */

/* ---- numbers that are none (finite.c) */
/* The last of e's tensors, so the first that a backward pass comes to, which has a value in `values` (laid out as the
 * parameters) that is not finite; NULL: none has. */
const encoder_tensor *tensor_not_finite(const encoder *e, const float *values);
/* DRR_E_BACKEND, and which tensor, when parameters or moments are not finite: such a state is not worth keeping. */
drr_status checkpoint_finite(const checkpoint *c, const encoder *e, drr_error *err);
/* DRR_E_BACKEND saying what is not finite, where, in which step, after a loss or a gradient was not. */
drr_status finite_explain(const encoder *e, const float *gradients, double loss, uint64_t step, uint64_t steps,
                          double learning_rate, drr_error *err);

/* ---- traces for training (corpus.c) */
typedef enum corpus_part { CORPUS_TRAIN, CORPUS_DEV, CORPUS_TEST, CORPUS_GUARANTEE, CORPUS_UNUSED } corpus_part;
typedef struct corpus_row {
    drr_trace trace;
    size_t question;  /* index of its question */
    corpus_part part; /* its question's */
    bool test_file;   /* read from options->test_traces */
    double logit;     /* set once the encoder is fitted; of a probe alone, the probe's; NaN before */
    double probe;     /* the probe's log-odds; NaN without one, and without hidden states */
} corpus_row;
typedef struct corpus {
    corpus_row *rows;
    size_t n, capacity, n_questions;
    uint64_t n_empty, n_leaks; /* texts with nothing in them; train questions given up because the test file has them */
    char *reasoners, *prompts, *tasks; /* what the rows hold, comma lists */
} corpus;
/* Reads the traces of options, and those of options->test_traces, and splits by question: never two parts for one. */
drr_status corpus_read(corpus *c, const drr_train_options *options, const drr_hooks *hooks, drr_error *err);
void corpus_clear(corpus *c);
/* Labels that contradict one another and texts that are empty: many are DRR_E_FORMAT or DRR_E_EMPTY, a few a warning to
 * the hooks (sound.c). */
drr_status corpus_check_sound(const corpus *c, const char *traces, const drr_hooks *hooks, drr_error *err);
size_t corpus_questions(const corpus *c, corpus_part part);

/* Leaves out what was written after a rejection, but for test rows: options->first_turns_only. */
void corpus_leave_retries(corpus *c);
/* Leaves of one task the test questions alone, and of the others all but these. */
void corpus_leave_out(corpus *c, const char *task);
/* Leaves out the rows without hidden states; returns how many there were. */
size_t corpus_leave_unheard(corpus *c);

/* ---- the probe (probe_fit.c, probe_solve.c) */
/* Fits a probe to the train rows that have hidden states, and gives every row its log-odds. Layer, pools and the L2
 * penalty are those of the least log loss on dev. DRR_E_EMPTY: too few rows have any; DRR_E_MISMATCH: they are of
 * several reasoners. result->probe says what came of it. */
drr_status probe_fit(probe_model *p, drr_train_result *result, corpus *c, const drr_hooks *hooks, drr_error *err);
/* One logistic regression: rows[n][columns] standardised by the caller, of which the last n_free columns bear a penalty
 * of 1 whatever l2 is. Least sum of log losses + l2 / 2 |weight|^2, by Newton's method with conjugate gradients from
 * where weight[columns] and *bias begin; the same bits for any number of threads. */
typedef struct probe_problem {
    const float *rows;
    const uint8_t *labels;
    size_t n, columns, n_free;
} probe_problem;
drr_status probe_solve(double *weight, double *bias, const probe_problem *p, double l2, drr_error *err);
void probe_scores(double *z, const float *rows, size_t n, size_t columns, const double *weight, double bias);

/* Splits anew, after corpus_read: test is the fold-th of `folds` equal parts of the questions, in the order of the
 * split; dev are those that follow it, round the end; the rest trains, or its first max_questions. Rows of
 * options->test_traces are unused: they are nobody's folds. Fold 0 of 1 / test_share is the usual split (folds.c). */
drr_status corpus_fold(corpus *c, const drr_train_options *options, uint32_t fold, uint32_t folds, drr_error *err);
/* Keeps the first n questions to train on, unused those after them (n 0: all), and test and guarantee rows altogether:
 * what a search may see (search.c). */
drr_status corpus_blind(corpus *c, size_t n, drr_error *err);

/* ---- calibration, the stack and the threshold (judge.c), held-out figures (held_out.c) */
enum { JUDGE_BINS = 10 };
/* Fits on the dev rows; of the result the calibrations' dev_log_loss and picked. No stack where it says text_alone. */
drr_status judge_fit(critic_meta *meta, drr_train_result *result, const corpus *c, uint64_t seed, drr_error *err);
/* Measures the test rows; bins (may be NULL) are of the sigmoid of the text's logit, and of P(correct). */
drr_status judge_measure(drr_train_result *result, reliability_bin bins[2][JUDGE_BINS], const critic_meta *meta,
                         const corpus *c, drr_error *err);

/* ---- what training is taught (teach.c, beginnings.c), and how well it tells steps apart (held_out_steps.c) */
/* Adds to the example last added, ids[n] of this row: its question and, for a head of tokens, its reads. *n_steps
 * counts the steps' labels among them. */
drr_status teach_row(examples *x, uint64_t *n_steps, const corpus_row *row, const wordpiece *tokenizer,
                     const drr_train_options *o, const int32_t *ids, size_t n, drr_error *err);
/* Adds up to options->beginnings of a row's beginnings, which its question is taught with; `at` numbers the row, for
 * the draw. *n_beginnings counts them (beginnings.c). */
drr_status beginnings_teach(examples *x, uint64_t *n_beginnings, const corpus_row *row, size_t at,
                            const wordpiece *tokenizer, size_t max_length, const drr_train_options *o, int32_t *ids,
                            drr_error *err);
/* n_test_beginnings and auroc_beginnings: all beginnings of the test rows, right where the whole answer was. */
drr_status beginnings_measure(drr_train_result *result, const corpus *c, const encoder *e, const wordpiece *tokenizer,
                              uint32_t max_length, const drr_hooks *hooks, drr_error *err);
/* Before training: is there anything that these options could teach? Counts n_rank_questions. */
drr_status teach_check(drr_train_result *result, const corpus *c, const drr_train_options *o, drr_error *err);
/* n_test_steps and auroc_steps of the test rows. */
drr_status judge_steps(drr_train_result *result, const corpus *c, const encoder *e, const wordpiece *tokenizer,
                       uint32_t max_length, const drr_hooks *hooks, drr_error *err);

/* ---- what a threshold can promise (promise.c) */
typedef struct trial { /* one question acted out once: turns in their order */
    uint32_t n;
    uint8_t right[8];
    double p[8]; /* P(correct) with the turns before it known; below 0: cannot be read, never accepted */
} trial;
typedef struct trials {
    trial *at;
    size_t n;
    double temperature; /* that the answers were drawn at; NaN: several, or not known */
} trials;
/* One of each question of a part that has `turns` (8 at most) fresh answers by one reasoner. Rows have their logits. */
drr_status trials_new(trials *t, const critic_meta *meta, const corpus *c, corpus_part part, uint32_t turns,
                      uint64_t seed, drr_error *err);
void trials_clear(trials *t);
/* As many turns, 5 at most, as 9 in 10 questions of a part have fresh answers by one reasoner. */
drr_status trials_turns(uint32_t *turns, const corpus *c, corpus_part part, drr_error *err);
/* Trials in which a turn is accepted, and of these those whose first accepted turn is wrong. */
void trials_count(uint64_t *accepted, uint64_t *wrong, const trials *t, double threshold);
/* g says turns, target_error, delta and test; the rest is filled in. `dev` chooses which thresholds are tested in which
 * order, `tested`, of other questions, which of them hold. */
drr_status promise_find(drr_guarantee *g, const trials *dev, const trials *tested, drr_error *err);
/* Both guarantees of a critic whose rows are scored, into result and meta, and meta's threshold where one was found. */
drr_status promise_make(critic_meta *meta, drr_train_result *result, const corpus *c, const drr_train_options *options,
                        drr_error *err);

/* ---- the model card (card.c) */
typedef struct card {
    const critic_meta *meta;
    const drr_train_result *result;
    const drr_train_options *options;
    const corpus *c;
    const encoder_shape *shape; /* NULL: no encoder */
    const reliability_bin (*bins)[JUDGE_BINS];
    const char *sha256;         /* of the critic's file */
    const drr_repeats *repeats; /* other trainings that it tells of; may be NULL */
    const drr_search *search;
} card;
/* Sections on these; nothing of NULL (card_runs.c). */
drr_status card_put_runs(buffer *b, const card *k, drr_error *err);
/* Writes NAME.card.md and NAME.card.svg beside NAME.gguf. */
drr_status card_write(const card *k, drr_error *err);

#endif
