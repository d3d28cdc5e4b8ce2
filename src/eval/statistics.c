/* statistics.c: how sure a comparison is: bootstrap intervals over questions, standard errors clustered by question,
 * McNemar's exact test for two strategies on the same questions, Holm's correction, and risk against coverage. How good
 * a score is at telling right from wrong is core/statistics.h's, which training shares. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>

static int double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct drawn { /* what is drawn as one: the values of a question */
    uint64_t cluster;
    size_t first; /* the first of its values */
    double sum, n;
} drawn;

static int by_cluster(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    return x->cluster != y->cluster ? (x->cluster > y->cluster) - (x->cluster < y->cluster)
                                    : (x->first > y->first) - (x->first < y->first);
}

static int by_first(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Into list[n], in the order in which each comes first; returns how many. */
static size_t gather(drawn *list, const double *values, const uint64_t *clusters, size_t n)
{
    size_t n_list = 0;
    for (size_t k = 0; k < n; k++)
        list[k] = (drawn){clusters ? clusters[k] : 0, k, values[k], 1};
    if (!clusters)
        return n;
    qsort(list, n, sizeof *list, by_cluster);
    for (size_t k = 0; k < n; k++)
        if (n_list && list[n_list - 1].cluster == list[k].cluster) {
            list[n_list - 1].sum += list[k].sum;
            list[n_list - 1].n++;
        } else {
            list[n_list++] = list[k];
        }
    qsort(list, n_list, sizeof *list, by_first);
    return n_list;
}

/* Percentile interval (Efron 1979): the mean over as many clusters, drawn with replacement, many times. */
interval bootstrap_mean(const double *values, const uint64_t *clusters, size_t n, uint32_t resamples, uint64_t seed)
{
    interval i = {NAN, NAN, NAN};
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += values[k];
    if (n == 0)
        return i;
    i.value = sum / (double)n;
    drawn *list = resamples ? calloc(n, sizeof *list) : NULL;
    double *means = resamples ? calloc(resamples, sizeof *means) : NULL;
    if (!list || !means)
        goto done;
    rng r;
    rng_seed(&r, seed);
    const size_t n_list = gather(list, values, clusters, n);
    for (uint32_t b = 0; b < resamples; b++) {
        double total = 0, count = 0;
        for (size_t k = 0; k < n_list; k++) {
            const drawn *one = &list[rng_below(&r, n_list)];
            total += one->sum;
            count += one->n;
        }
        means[b] = total / count;
    }
    qsort(means, resamples, sizeof *means, double_compare);
    const double last = (double)(resamples - 1);
    i.low = means[(size_t)floor(0.025 * last)];
    i.high = means[(size_t)ceil(0.975 * last)];
done:
    free(list);
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

/* Probability that fair coins of these weights (whole numbers from 1 on) come to lie as unevenly, or more; NaN: no
 * memory. */
static double coins(const drawn *list, size_t n, size_t all, double seen)
{
    double *p = calloc(all + 1, sizeof *p), tail = 0;
    size_t most = 0;
    if (!p)
        return NAN;
    p[0] = 1; /* of the weight on one side */
    for (size_t k = 0; k < n; k++) {
        const size_t weight = (size_t)fabs(list[k].sum);
        for (size_t x = most + 1; weight && x-- > 0;) {
            p[x] /= 2;
            p[x + weight] += p[x];
        }
        most += weight;
    }
    for (size_t x = 0; x <= all; x++)
        tail += fabs(2 * (double)x - (double)all) >= seen ? p[x] : 0;
    free(p);
    return fmin(1, tail);
}

double mcnemar_clustered(const double *differences, const uint64_t *clusters, size_t n)
{
    drawn *list = calloc(n + 1, sizeof *list);
    uint64_t first = 0, other = 0; /* questions by whom they speak for */
    double seen = 0, all = 0;
    if (!list)
        return NAN;
    const size_t n_list = gather(list, differences, clusters, n);
    for (size_t k = 0; k < n_list; k++) {
        seen += list[k].sum;
        all += fabs(list[k].sum);
        first += list[k].sum > 0;
        other += list[k].sum < 0;
    }
    const double p =
        all > (double)(first + other) ? coins(list, n_list, (size_t)all, fabs(seen)) : mcnemar_exact(first, other);
    free(list);
    return p;
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

/* Area under risk against coverage; lower is better. Between two points the answers of one P(correct) come in any
 * order, so that the share answered wrongly, w, grows evenly with the coverage c, and the risk w / c is integrated as
 * it is: a straight line from risk to risk (the trapezium rule) lies below it where they are few and coarse, and would
 * reward a score for telling less apart. */
double risk_area(const risk_point *points, size_t n)
{
    double area = 0, coverage = 0, wrong = 0;
    if (n == 0)
        return NAN;
    for (size_t i = 0; i < n; i++) {
        const double now = points[i].coverage, wrong_now = points[i].risk * now;
        const double slope = (wrong_now - wrong) / (now - coverage);
        area += slope * (now - coverage);
        if (coverage > 0)
            area += (wrong - slope * coverage) * log(now / coverage);
        coverage = now;
        wrong = wrong_now;
    }
    return area / coverage;
}

/* ---- clusters, several tests at once, and points of the curve */

double clustered_error(const double *values, const uint64_t *clusters, size_t n)
{
    double mean = 0, sum = 0;
    drawn *list = n > 1 ? calloc(n, sizeof *list) : NULL;
    if (!list)
        return NAN;
    for (size_t i = 0; i < n; i++)
        mean += values[i] / (double)n;
    const size_t n_clusters = gather(list, values, clusters, n);
    for (size_t i = 0; i < n_clusters; i++) {
        const double inside = list[i].sum - list[i].n * mean;
        sum += inside * inside;
    }
    free(list);
    if (n_clusters < 2)
        return NAN;
    return sqrt(sum * (double)n_clusters / (double)(n_clusters - 1)) / (double)n;
}

typedef struct ranked {
    double p;
    size_t index;
} ranked;

static int by_p(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p) - (x->p < y->p) : (x->index > y->index) - (x->index < y->index);
}

/* Step-down (Holm 1979): the k-th smallest of n times n - k, and never less than one before it. */
bool holm(double *adjusted, const double *p, size_t n)
{
    double least = 0;
    ranked *rows = calloc(n + 1, sizeof *rows);
    if (!rows)
        return false;
    for (size_t i = 0; i < n; i++)
        rows[i] = (ranked){p[i], i};
    qsort(rows, n, sizeof *rows, by_p);
    for (size_t k = 0; k < n; k++) {
        least = fmax(least, fmin(1, (double)(n - k) * rows[k].p));
        adjusted[rows[k].index] = least;
    }
    free(rows);
    return true;
}

double risk_generalized_area(const risk_point *points, size_t n)
{
    double area = 0, coverage = 0, wrong = 0;
    if (n == 0)
        return NAN;
    const double all = points[n - 1].coverage; /* less than 1 where answers have no P(correct) */
    for (size_t i = 0; i < n; i++) {
        const double now = points[i].coverage / all, wrong_now = points[i].risk * now;
        area += (now - coverage) * 0.5 * (wrong_now + wrong);
        coverage = now;
        wrong = wrong_now;
    }
    return area;
}

double risk_coverage_at(const risk_point *points, size_t n, double accuracy)
{
    double most = n ? 0 : NAN;
    for (size_t i = 0; i < n; i++)
        if (points[i].risk <= 1 - accuracy + 1e-12)
            most = points[i].coverage;
    return most;
}
