/* statistics.h: how good a score is at telling right from wrong. Used by training and evaluation alike, so that both
 * mean the same figure. `labels`: 1 right, 0 wrong. NaN where a figure is not defined (no rows, one class, a score that
 * is no number) or memory is out. */
#ifndef DRR_CORE_STATISTICS_H
#define DRR_CORE_STATISTICS_H

#include "core/core.h"

enum { STATISTICS_ECE_BINS = 15 };

/* Area under the ROC curve: P(score of a right one > score of a wrong one), ties count one half. */
double statistics_auroc(const double *scores, const uint8_t *labels, size_t n);
/* Average precision: sum over thresholds of (recall gained) * precision; rows with one score enter together. */
double statistics_auprc(const double *scores, const uint8_t *labels, size_t n);
double statistics_brier(const double *p, const uint8_t *labels, size_t n); /* mean (p - label)^2 */
/* Expected calibration error over STATISTICS_ECE_BINS bins of equal width. */
double statistics_ece(const double *p, const uint8_t *labels, size_t n);
double statistics_log_loss(const double *p, const uint8_t *labels, size_t n); /* nats; p is kept off 0 and 1 by 1e-12 */

/* Within-question discrimination (within.c) of rows that lie side by side by question, and within one by group: pairs
 * are of one group (a question's answers by one reasoner), and the interval is over questions that have a pair. The
 * same seed draws the same questions for every score of the same rows. */
drr_within statistics_within(const double *scores, const uint8_t *labels, const size_t *questions, const size_t *groups,
                             size_t n, uint32_t resamples, uint64_t seed);
drr_within statistics_within_turned(drr_within w); /* of the score's negative */

typedef struct reliability_bin {
    uint64_t n, n_right;
    double sum_p;
} reliability_bin;
/* Rows by p into bins of equal width; those whose p is NaN are left out. */
void reliability(reliability_bin *bins, size_t n_bins, const double *p, const uint8_t *labels, size_t n);

#endif
