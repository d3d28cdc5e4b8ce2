/* statistics.c: AUROC, AUPRC, Brier score, ECE and log loss over scores and labels. See statistics.h. */
#include "core/statistics.h"

#include <math.h>
#include <stdlib.h>

typedef struct row {
    double score;
    uint8_t label;
} row;

static int descending(const void *a, const void *b)
{
    const double x = ((const row *)a)->score, y = ((const row *)b)->score;
    return (x < y) - (x > y);
}

/* Rows by falling score, the caller's to free; NULL when there are none or a score is not a number. */
static row *sorted(const double *scores, const uint8_t *labels, size_t n, size_t *n_right)
{
    size_t bytes;
    row *rows = n && size_multiply(&bytes, n, sizeof *rows) ? malloc(bytes) : NULL;
    *n_right = 0;
    for (size_t i = 0; i < n && rows; i++) {
        if (isnan(scores[i])) {
            free(rows);
            return NULL;
        }
        rows[i] = (row){scores[i], labels[i] ? 1 : 0};
        *n_right += rows[i].label;
    }
    if (rows)
        qsort(rows, n, sizeof *rows, descending);
    return rows;
}

double statistics_auroc(const double *scores, const uint8_t *labels, size_t n)
{
    size_t right, right_above = 0;
    double pairs = 0;
    row *rows = sorted(scores, labels, n, &right);
    if (!rows || right == 0 || right == n) {
        free(rows);
        return NAN;
    }
    for (size_t i = 0; i < n;) { /* a group of equal scores at a time */
        size_t end = i, group_right = 0;
        for (; end < n && rows[end].score >= rows[i].score; end++)
            group_right += rows[end].label;
        const double wrong = (double)(end - i - group_right);
        pairs += wrong * ((double)right_above + 0.5 * (double)group_right);
        right_above += group_right;
        i = end;
    }
    free(rows);
    return pairs / ((double)right * (double)(n - right));
}

double statistics_auprc(const double *scores, const uint8_t *labels, size_t n)
{
    size_t right, right_so_far = 0;
    double area = 0;
    row *rows = sorted(scores, labels, n, &right);
    if (!rows || right == 0) {
        free(rows);
        return NAN;
    }
    for (size_t i = 0; i < n;) {
        size_t end = i, group_right = 0;
        for (; end < n && rows[end].score >= rows[i].score; end++)
            group_right += rows[end].label;
        right_so_far += group_right;
        area += (double)group_right / (double)right * (double)right_so_far / (double)end;
        i = end;
    }
    free(rows);
    return area;
}

double statistics_brier(const double *p, const uint8_t *labels, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (p[i] - labels[i]) * (p[i] - labels[i]);
    return n ? sum / (double)n : NAN;
}

double statistics_ece(const double *p, const uint8_t *labels, size_t n)
{
    double gap[STATISTICS_ECE_BINS] = {0}, error = 0; /* sum of label - p in each bin */
    for (size_t i = 0; i < n; i++) {
        if (!(p[i] >= 0 && p[i] <= 1))
            return NAN;
        const int bin = (int)(p[i] * STATISTICS_ECE_BINS);
        gap[bin < STATISTICS_ECE_BINS ? bin : STATISTICS_ECE_BINS - 1] += labels[i] - p[i];
    }
    for (int b = 0; b < STATISTICS_ECE_BINS; b++)
        error += fabs(gap[b]);
    return n ? error / (double)n : NAN;
}

double statistics_log_loss(const double *p, const uint8_t *labels, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(p[i])) /* fmax would take the other number */
            return NAN;
        sum -= log(fmin(1, fmax(1e-12, labels[i] ? p[i] : 1 - p[i])));
    }
    return n ? sum / (double)n : NAN;
}

void reliability(reliability_bin *bins, size_t n_bins, const double *p, const uint8_t *labels, size_t n)
{
    for (size_t b = 0; b < n_bins; b++)
        bins[b] = (reliability_bin){0};
    for (size_t i = 0; i < n; i++) {
        if (isnan(p[i]))
            continue;
        size_t b = (size_t)(p[i] * (double)n_bins);
        if (b >= n_bins)
            b = n_bins - 1;
        bins[b].n++;
        bins[b].n_right += labels[i] != 0;
        bins[b].sum_p += p[i];
    }
}
