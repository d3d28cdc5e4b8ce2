/* ranks_internal.h: what ranks.c and gradient_sum.c share. */
#ifndef DRR_TRAIN_RANKS_INTERNAL_H
#define DRR_TRAIN_RANKS_INTERNAL_H

#include "train/ranks.h"
#include "train/transport.h"

struct ranks {
    const transport *t;
    uint32_t rank, n;
    bool lost;
    double waited_s;
    drr_hooks hooks;
    char library[96];
    double *votes; /* [RANKS_VOTES + n] */
};
enum { RANKS_VOTES = 3 }; /* of a step, before the n statuses */

/* Waits until all that was posted is done. Told to stop meanwhile it waits a moment longer, for ranks that are told the
 * same come to the end of their step; then it gives up: DRR_E_BACKEND, and the others are lost. */
drr_status ranks_wait(ranks *r, drr_error *err);
/* What the statuses of all ranks, as numbers, mean: ranks_agree's result. */
drr_status ranks_conclude(ranks *r, const double *statuses, drr_status own, drr_error *err);
/* How many of n ranks are where this one is, itself included. */
uint32_t ranks_sharing(const double *places, uint32_t n, uint32_t rank);

#endif
