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
/* Forward, binary cross-entropy and backward over n packed sequences. Adds to gradients[e->n_parameters], laid out as
 * the parameters, and to *loss: sum_i weights[i] loss_i / total. weights NULL: 1; d NULL: no dropout. */
drr_status encoder_backward(const encoder *e, encoder_tape *tape, const int32_t *ids, const uint32_t *starts, size_t n,
                            const uint8_t *labels, const float *weights, double total, const encoder_dropout *d,
                            float *gradients, float *logits, double *loss, drr_error *err);

/* ---- examples and batches (batches.c) */
typedef struct examples { /* tokenised texts, packed: example i is ids[starts[i]] .. ids[starts[i + 1]] */
    int32_t *ids;
    size_t *starts;
    uint8_t *labels;
    size_t n, n_ids, ids_capacity, capacity;
} examples;
drr_status examples_add(examples *x, const int32_t *ids, size_t n, uint8_t label, drr_error *err);
void examples_clear(examples *x);
size_t examples_longest(const examples *x);

/* A step of `batch` examples is computed in parts of at most `budget` tokens, whose gradients add up. Without padding
 * nothing is won by batching equal lengths, so the order is a plain shuffle of (seed, epoch). */
typedef struct batch_plan {
    size_t *order; /* of the examples in this epoch */
    size_t n, batch, budget;
} batch_plan;
drr_status batch_plan_new(batch_plan *plan, size_t n, size_t batch, size_t budget, drr_error *err);
void batch_plan_clear(batch_plan *plan);
void batch_plan_shuffle(batch_plan *plan, uint64_t seed, uint64_t epoch);
size_t batch_plan_steps(const batch_plan *plan);
/* Packs examples order[at ..] of the step that ends at `end` into ids, starts, labels, as many as the budget allows (at
 * least one), and returns how many. */
size_t batch_pack(const batch_plan *plan, const examples *x, size_t at, size_t end, int32_t *ids, uint32_t *starts,
                  uint8_t *labels);

/* ---- fitting an encoder (fit.c, update.c) */
typedef struct fit_options {
    uint32_t epochs, batch, patience;
    size_t budget; /* tokens of a part; 0: 4096 */
    double learning_rate, weight_decay, warmup_share, clip_norm, dropout;
    bool class_weights, keep_last; /* the last epoch's parameters, whatever dev says, and no early stopping */
    uint64_t seed;
    const char *checkpoint;    /* file; NULL: none is written */
    double checkpoint_every_s; /* 0: 600 */
    bool resume;
} fit_options; /* the precision is e->bf16's */
typedef struct fit_result {
    double best_loss, best_auroc; /* on dev; NaN without one */
    uint32_t best_epoch;          /* from 1; the parameters are this epoch's; the last with keep_last */
    double last_train_loss, tokens_per_second, seconds;
    uint64_t steps;
} fit_result;
/* Fits e to `train`; after each epoch `dev` (may be empty) decides which epoch's parameters stay: best AUROC, then
 * loss. Cancelled, it writes the checkpoint and returns DRR_E_INTERRUPTED; resumed from there, every parameter ends bit
 * by bit as if it had never stopped (same machine, same number of threads). */
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
double row_updates_step(row_updates *u, float *gradients); /* the norm before clipping */
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

/* ---- traces for training (corpus.c) */
typedef enum corpus_part { CORPUS_TRAIN, CORPUS_DEV, CORPUS_TEST, CORPUS_GUARANTEE, CORPUS_UNUSED } corpus_part;
typedef struct corpus_row {
    drr_trace trace;
    size_t question;  /* index of its question */
    corpus_part part; /* its question's */
    double logit;     /* set once the encoder is fitted */
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

/* Leaves of one task the test questions alone, and of the others all but these. */
void corpus_leave_out(corpus *c, const char *task);

/* ---- calibration, the stack and the threshold (judge.c), held-out figures (held_out.c) */
enum { JUDGE_BINS = 10 };
/* Fits on the dev rows; of the result the calibrations' dev_log_loss and picked. */
drr_status judge_fit(critic_meta *meta, drr_train_result *result, const corpus *c, uint64_t seed, drr_error *err);
/* Measures the test rows; bins (may be NULL) are of the sigmoid of the text's logit, and of P(correct). */
drr_status judge_measure(drr_train_result *result, reliability_bin bins[2][JUDGE_BINS], const critic_meta *meta,
                         const corpus *c, drr_error *err);

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
    const encoder_shape *shape;
    const reliability_bin (*bins)[JUDGE_BINS];
    const char *sha256; /* of the critic's file */
} card;
/* Writes NAME.card.md and NAME.card.svg beside NAME.gguf. */
drr_status card_write(const card *k, drr_error *err);

#endif
