/* statistics.c: how sure a comparison is: bootstrap intervals over questions, McNemar's exact test for two strategies
 * on the same questions, and risk against coverage. How good a score is at telling right from wrong is
 * core/statistics.h's, which training shares. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>

static int double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentile interval (Efron 1979): the mean of n draws with replacement, many times. */
interval bootstrap_mean(const double *values, size_t n, uint32_t resamples, uint64_t seed)
{
    interval i = {NAN, NAN, NAN};
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += values[k];
    if (n == 0)
        return i;
    i.value = sum / (double)n;
    double *means = resamples ? calloc(resamples, sizeof *means) : NULL;
    if (!means)
        return i;
    rng r;
    rng_seed(&r, seed);
    for (uint32_t b = 0; b < resamples; b++) {
        double total = 0;
        for (size_t k = 0; k < n; k++)
            total += values[rng_below(&r, n)];
        means[b] = total / (double)n;
    }
    qsort(means, resamples, sizeof *means, double_compare);
    const double last = (double)(resamples - 1);
    i.low = means[(size_t)floor(0.025 * last)];
    i.high = means[(size_t)ceil(0.975 * last)];
    free(means);
    return i;
}

/* Two-sided exact McNemar test: under no difference each of the b + c questions that only one strategy answers
 * correctly is a fair coin; the probability of a split at least as uneven. */
double mcnemar_exact(uint64_t b, uint64_t c)
{
    const uint64_t n = b + c, fewer = b < c ? b : c;
    double tail = 0;
    if (b == c)
        return 1;
    for (uint64_t k = 0; k <= fewer; k++)
        tail += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) - (double)n * log(2));
    return fmin(1, 2 * tail);
}

typedef struct scored {
    double p;
    uint8_t right;
} scored;

static int scored_compare(const void *a, const void *b)
{
    return double_compare(&((const scored *)b)->p, &((const scored *)a)->p);
}

/* Answers the questions of highest P(correct) first: after each, the share answered and the share of these that is
 * wrong. Rows without a probability are never answered. Points of equal P come as one, for no threshold parts them. */
size_t risk_coverage(risk_point *points, const double *p, const uint8_t *right, size_t n)
{
    scored *rows = calloc(n + 1, sizeof *rows);
    size_t n_rows = 0, n_points = 0;
    double wrong = 0;
    if (!rows)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(p[i]))
            rows[n_rows++] = (scored){p[i], right[i]};
    qsort(rows, n_rows, sizeof *rows, scored_compare);
    for (size_t i = 0; i < n_rows; i++) {
        wrong += !rows[i].right;
        if (i + 1 == n_rows || rows[i + 1].p < rows[i].p)
            points[n_points++] = (risk_point){(double)(i + 1) / (double)n, wrong / (double)(i + 1), rows[i].p};
    }
    free(rows);
    return n_points;
}

/* Area under risk against coverage, by the trapezium rule from the first point's risk; lower is better. */
double risk_area(const risk_point *points, size_t n)
{
    double area = 0, coverage = 0, risk = n ? points[0].risk : 0;
    if (n == 0)
        return NAN;
    for (size_t i = 0; i < n; i++) {
        area += (points[i].coverage - coverage) * 0.5 * (points[i].risk + risk);
        coverage = points[i].coverage;
        risk = points[i].risk;
    }
    return area / coverage;
}
