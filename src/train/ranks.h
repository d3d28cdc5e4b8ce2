/* ranks.h: training by several processes together, which mpirun started. Each holds the whole encoder and all texts;
 * of each step's texts every rank takes a share, the gradients are added up, and every rank makes the same update. A
 * share is cut so that each text has the position, and so the dropout, that it has where one rank takes all: the sums
 * differ by rounding alone. Rank 0 alone writes files and speaks.
 *
 * A `ranks *` is NULL where the process is alone; every function here takes that and does what one process would. What
 * is marked "collective" must be called by all ranks in the same order, also by one that failed meanwhile: it brings
 * its failure along, and all of them return it. What depends on a clock is rank 0's to decide. */
#ifndef DRR_TRAIN_RANKS_H
#define DRR_TRAIN_RANKS_H

#include "train/train.h"

/* ---- the job (ranks.c) */
typedef struct ranks ranks;
/* Connects the ranks of this job; NULL in *r where there is one process only. The same one each time: it belongs to the
 * process and is left when that ends. DRR_E_NOT_FOUND: no plug-in for MPI; DRR_E_BACKEND: MPI cannot. */
drr_status ranks_open(ranks **r, drr_error *err);
drr_status ranks_alone(const char *what, drr_error *err); /* fails where mpirun started several: `what` is for one */
bool ranks_first(const ranks *r);                         /* rank 0, which writes and speaks; alone: true */
uint32_t ranks_count(const ranks *r);
double ranks_waited_s(const ranks *r);     /* this rank, for sums and for other ranks, so far */
const char *ranks_library(const ranks *r); /* what connects them; NULL alone */
bool ranks_lost(const ranks *r);           /* the others cannot be reached any more: nothing is collective now */
/* Hooks of which only rank 0's speak. Whatever waits for other ranks polls them too, until the next call. */
const drr_hooks *ranks_hooks(ranks *r, const drr_hooks *hooks);
/* Collective. Where *threads is 0 and the job has several ranks: this rank's part of the cores it may run on. */
drr_status ranks_threads(ranks *r, uint32_t *threads, drr_error *err);

/* Collective. The lowest failed rank's status on all ranks, an interruption last of all; its message in rank 0's *err,
 * with the rank's name; the others' is empty, for one says it. */
drr_status ranks_agree(ranks *r, drr_status status, drr_error *err);
/* Collective: rank 0's bytes on all ranks. */
drr_status ranks_copy(ranks *r, void *data, size_t size, drr_error *err);
/* Collective: rank 0's state on all ranks; the arrays stay this rank's and get its numbers. The same update on unlike
 * CPUs may end with other last bits, and so they never part for longer than an epoch. */
drr_status ranks_copy_state(ranks *r, checkpoint *state, drr_error *err);
/* Collective: examples_logits, each rank doing its share. logits NULL: this rank had no memory. */
drr_status ranks_logits(ranks *r, const encoder *e, const examples *x, size_t budget, float *logits,
                        const drr_hooks *hooks, drr_error *err);
/* Collective, before the first step: all ranks are in the same run, and where rank 0 goes on from a checkpoint, all do.
 * `status`: how opening went on this rank. */
drr_status ranks_begin(ranks *r, checkpoint *state, drr_status status, drr_error *err);

/* ---- who computes what (shares.c) */
/* Of examples order[begin .. end) (order NULL: as they lie) rank's are *from .. *to: neighbours, with about the same
 * number of tokens for each rank. */
void share_of(size_t *from, size_t *to, const examples *x, const size_t *order, size_t begin, size_t end, uint32_t rank,
              uint32_t n);
/* The pieces of a step that are this rank's: parts (batch_part), or what of a part falls into its share. */
typedef struct step_pieces {
    const batch_plan *plan;
    const examples *x;
    size_t end, at;  /* of the step; the next part's beginning */
    size_t from, to; /* this rank's share */
    uint64_t part;
} step_pieces;
typedef struct step_piece {
    size_t begin, end;                    /* examples order[begin .. end) */
    uint64_t part;                        /* of the step, whoever computes it */
    uint32_t first_sequence, first_token; /* of the piece within that part */
    bool last;                            /* of this rank's */
} step_piece;
step_pieces step_pieces_of(const batch_plan *plan, const examples *x, size_t begin, size_t end, const ranks *r);
bool step_pieces_next(step_pieces *s, step_piece *p);

/* ---- adding up (gradient_sum.c) */
/* Gradients are posted layer by layer, from the head down, as soon as the last piece's backward pass is done with a
 * layer, and are added up while the layers below are still computed. Of the vocabulary only the rows that the step met
 * on any rank travel; every rank knows them, for it has all texts. NULL where the process is alone. */
typedef struct gradient_sum gradient_sum;
drr_status gradient_sum_new(gradient_sum **s, ranks *r, const encoder *e, float *gradients, drr_error *err);
void gradient_sum_free(gradient_sum *s);
/* For encoder_tape_tell: layer and all above it are done. */
void gradient_sum_ready(void *s, uint32_t layer);
typedef struct step_vote { /* in: this rank's; out: the job's */
    double loss;           /* added up */
    bool cancelled;        /* by any */
    bool save_due;         /* rank 0's */
} step_vote;
/* Collective: posts the rest, waits, and agrees; `status` is how the step went on this rank. Where it fails, parameters
 * and moments are as they were before the step. */
drr_status gradient_sum_finish(gradient_sum *s, const row_updates *rows, step_vote *vote, drr_status status,
                               drr_error *err);

#endif
