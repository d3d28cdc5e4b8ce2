/* within.c: within-question discrimination: of the pairs of a right and a wrong answer to one question, the share that
 * a score puts in the right order. Selection among answers to one question lives on this; AUROC, whose pairs are mostly
 * of two questions, can be high for a score that only knows which questions are easy. See statistics.h. */
#include "core/statistics.h"

#include <math.h>
#include <stdlib.h>

typedef struct tally { /* of one question */
    double won, pairs;
} tally;

/* Adds the pairs of rows [begin, end), all of one group. */
static void count_group(tally *t, const double *scores, const uint8_t *labels, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        for (size_t k = begin; k < end && labels[i]; k++) {
            if (labels[k])
                continue;
            t->pairs++;
            t->won += scores[i] > scores[k] ? 1 : scores[i] < scores[k] ? 0 : 0.5;
        }
}

/* One tally for each question that has a pair; room for n of them. */
static size_t count_questions(tally *list, const double *scores, const uint8_t *labels, const size_t *questions,
                              const size_t *groups, size_t n)
{
    size_t n_list = 0;
    for (size_t i = 0, end; i < n; i = end) {
        tally t = {0, 0};
        for (end = i; end < n && questions[end] == questions[i];) {
            const size_t begin = end;
            for (; end < n && questions[end] == questions[i] && groups[end] == groups[begin]; end++)
                ;
            count_group(&t, scores, labels, begin, end);
        }
        if (t.pairs > 0)
            list[n_list++] = t;
    }
    return n_list;
}

static int double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentile interval of a ratio of sums: questions drawn with replacement, each with all its pairs. */
static void bootstrap(drr_within *w, const tally *list, size_t n, uint32_t resamples, uint64_t seed)
{
    double *shares = resamples ? calloc(resamples, sizeof *shares) : NULL;
    rng r;
    if (!shares)
        return;
    rng_seed(&r, seed);
    for (uint32_t b = 0; b < resamples; b++) {
        tally sum = {0, 0};
        for (size_t k = 0; k < n; k++) {
            const tally *drawn = &list[rng_below(&r, n)];
            sum.won += drawn->won;
            sum.pairs += drawn->pairs;
        }
        shares[b] = sum.won / sum.pairs;
    }
    qsort(shares, resamples, sizeof *shares, double_compare);
    const double last = (double)(resamples - 1);
    w->low = shares[(size_t)floor(0.025 * last)];
    w->high = shares[(size_t)ceil(0.975 * last)];
    free(shares);
}

drr_within statistics_within(const double *scores, const uint8_t *labels, const size_t *questions, const size_t *groups,
                             size_t n, uint32_t resamples, uint64_t seed)
{
    drr_within w = {.share = NAN, .low = NAN, .high = NAN};
    tally *list = calloc(n + 1, sizeof *list), sum = {0, 0};
    for (size_t i = 0; i < n; i++)
        if (isnan(scores[i])) {
            free(list);
            return w;
        }
    if (!list)
        return w;
    w.n_questions = count_questions(list, scores, labels, questions, groups, n);
    for (size_t i = 0; i < w.n_questions; i++) {
        sum.won += list[i].won;
        sum.pairs += list[i].pairs;
    }
    w.n_pairs = (uint64_t)sum.pairs;
    if (w.n_questions) {
        w.share = sum.won / sum.pairs;
        bootstrap(&w, list, w.n_questions, resamples, seed);
    }
    free(list);
    return w;
}

drr_within statistics_within_turned(drr_within w)
{
    const double low = w.low;
    w.share = 1 - w.share;
    w.low = 1 - w.high;
    w.high = 1 - low;
    return w;
}
