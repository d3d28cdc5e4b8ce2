/* weigh.h: what a handful of answers says about which is right: rules that know numbers alone, so that stop.c and
 * choose.c apply to turns what tests and studies can apply to recorded answers. */
#ifndef DRR_LOOP_WEIGH_H
#define DRR_LOOP_WEIGH_H

#include "core/core.h"

/* With `most` votes for the answer ahead and `next` for the one behind it: the chance that the first is the likelier of
 * the two. Adaptive-Consistency's Beta rule (Aggarwal et al. 2023, arXiv 2305.11860), nothing being known beforehand:
 * P(Beta(most + 1, next + 1) > 1/2) = P(Bin(most + next + 1, 1/2) <= most). */
double weigh_beta(uint32_t most, uint32_t next);

/* The posterior over answers that a critic's judgements of single samples make. Sample i gives answer choice[i], one of
 * 0 .. n_choices - 1, and p[i] is the P(correct) that the critic gives it when it knows no other sample. Samples are
 * taken to be independent once the right answer is known, one answer to be right, and a wrong one to be any of
 * alternatives - 1 others: sample i then speaks for its answer by the factor p[i] / (1 - p[i]) * (alternatives - 1)
 * against each that it did not give. Answers that none gave share what is left, at least one of them unless
 * `closed`: all that can be given are among the alternatives. posterior[n_choices] does not sum to 1 then. Returns the
 * likeliest answer, of equals the first; n_choices where there is none. */
size_t weigh_posterior(double *posterior, const double *p, const size_t *choice, size_t n, size_t n_choices,
                       double alternatives, bool closed);
/* How many answers a question can have: its choices, two, or for the open kinds a guess (WEIGH_OPEN). */
enum { WEIGH_OPEN = 10 };
double weigh_alternatives(drr_kind kind, size_t n_choices);

/* DeepConf's confidence of a written text (Fu et al. 2025, arXiv 2508.15260), of the log-probabilities of its n tokens:
 * the lowest mean of WEIGH_GROUP tokens that follow one another, of all of them where they are fewer, as a probability
 * (the exponential). Theirs averages the negative log-probabilities of several candidates at each place, which not
 * every reasoner tells, over 1,024 tokens or more; answers here are shorter. NaN where one is not known, and of no
 * tokens. */
enum { WEIGH_GROUP = 16 };
double weigh_lowest_group(const float *logprobs, size_t n);

#endif
