/* probe.h: a linear probe on a reasoner's hidden states and its tokens' statistics: the part of a critic that needs no
 * pass of a model of its own. Fitting one is src/train's (probe_fit.c), its place in a critic's file probe_keys.c's. */
#ifndef DRR_CRITIC_PROBE_H
#define DRR_CRITIC_PROBE_H

#include "core/hidden.h"

#define PROBE_STATISTICS 8 /* features of the stack that tell of a turn's own tokens, from PROBE_FIRST_STATISTIC on */
#define PROBE_FIRST_STATISTIC 4

/* log-odds = bias + weight . (the pools' vectors one after the other) + sum of the statistics' weight * (x - mean) /
 * scale over those that are known. */
typedef struct probe_model {
    char *reasoner; /* owned; the one whose hidden states it knows; NULL: there is no probe */
    uint32_t layer, width;
    uint32_t n_pools;
    hidden_pool pools[HIDDEN_POOLS];
    double *weight; /* n_pools * width, owned */
    double bias;
    double mean[PROBE_STATISTICS], scale[PROBE_STATISTICS], statistic_weight[PROBE_STATISTICS];
} probe_model;
void probe_clear(probe_model *p);
/* NaN where `hidden` (may be NULL) lacks what the probe reads. */
double probe_logit(const probe_model *p, const void *hidden, size_t size, const drr_token_stats *stats);
/* Its statistics of a turn's tokens, NaN where not known: src/critic/stack.c says what they are. */
void probe_statistics(double values[PROBE_STATISTICS], const drr_token_stats *stats);
const char *probe_pools_text(char text[16], const probe_model *p); /* "answer+mean" */

#endif
