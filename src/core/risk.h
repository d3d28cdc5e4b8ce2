/* risk.h: what a sample of independent losses in [0, 1] says about their mean: p-values of "the mean is above `a`", the
 * lowest mean that can be promised, and how large a sample would do. Learn-then-Test (Angelopoulos, Bates, Candes,
 * Jordan, Lei 2021, arXiv 2110.01052) asks such a p-value of each threshold. */
#ifndef DRR_CORE_RISK_H
#define DRR_CORE_RISK_H

#include "core/core.h"

/* P(a binomial of n draws with probability a is at most k). */
double risk_binomial(uint64_t n, double a, uint64_t k);
/* p-value of n losses that sum to `sum` against "their mean is above a": 1 for n = 0. Hoeffding-Bentkus (there,
 * and Bates et al. 2021, arXiv 2101.02703) is min(exp(-n h(min(m, a), a)), e P(Bin(n, a) <= ceil(n m))) with m the mean
 * and h the relative entropy of two coins, and holds for any losses in [0, 1]. The binomial one holds only for losses
 * that are 0 or 1, of which it is the exact one. */
double risk_p_value(drr_risk_test test, uint64_t n, double sum, double a);
/* The lowest a, to 1e-9, whose p-value is at most delta: with confidence 1 - delta the mean is no higher. */
double risk_bound(drr_risk_test test, uint64_t n, double sum, double delta);
/* How many losses of mean `mean` would have a p-value of at most delta; 0: none, or more than 10 million. */
uint64_t risk_needed(drr_risk_test test, double mean, double a, double delta);
/* Fixed-sequence testing: how many of the p-values, taken in order, are at most delta before the first that is not. All
 * of these hypotheses may be rejected, and the chance that one of them was true is at most delta. */
size_t risk_fixed_sequence(const double *p, size_t n, double delta);

#endif
