/* losses.c: what the logits of one part of a batch are to be. Each read is to say its target (binary cross-entropy),
 * and of two answers to one question the right one is to have the higher logit (a logistic loss of their difference).
 * The formula in full, and why pairs are weighted so, is docs/model.md's, "Losses". Sums are of few numbers, in double.
 */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double softplus(double x) /* log(1 + e^x), without overflow */
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

double soft_bce_logits(float *dlogits, const float *logits, const float *targets, const float *weights, size_t n,
                       double total)
{
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = (double)logits[i], y = (double)targets[i], w = (double)weights[i] / total;
        loss += w * (softplus(x) - x * y);
        dlogits[i] = (float)(w * (sigmoid(x) - y));
    }
    return loss;
}

/* One group, examples first .. end. */
static double rank_group(float *dlogits, const float *logits, const uint32_t *at, const uint8_t *labels, size_t first,
                         size_t end, double weight)
{
    double loss = 0;
    size_t n_right = 0;
    for (size_t i = first; i < end; i++)
        n_right += labels[i];
    const size_t pairs = n_right * (end - first - n_right);
    if (pairs == 0)
        return 0;
    const double each = weight * (double)(end - first) / (double)pairs;
    for (size_t i = first; i < end; i++)
        for (size_t k = first; k < end && labels[i]; k++) {
            if (labels[k])
                continue;
            const size_t right = at ? at[i] : i, wrong = at ? at[k] : k;
            const double behind = (double)logits[wrong] - (double)logits[right], slope = each * sigmoid(behind);
            loss += each * softplus(behind);
            dlogits[right] -= (float)slope;
            dlogits[wrong] += (float)slope;
        }
    return loss;
}

double rank_logits(float *dlogits, const float *logits, const uint32_t *at, const uint8_t *labels, const bool *joined,
                   size_t n, double weight, double total)
{
    double loss = 0;
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && joined[end]; end++)
            ;
        loss += rank_group(dlogits, logits, at, labels, first, end, weight / total);
    }
    return loss;
}

drr_status batch_loss_new(batch_loss *l, const encoder *e, const examples *x, size_t most, size_t in_part,
                          double rank_weight, drr_error *err)
{
    const bool reads = e->head == DRR_HEAD_TOKEN && x->lessons.n_reads > 0;
    const size_t n = reads ? most : in_part;
    *l = (batch_loss){.rank_weight = rank_weight, .weights = calloc(n, sizeof *l->weights)};
    bool good = l->weights != NULL;
    if (reads) {
        l->targets = calloc(n, sizeof *l->targets);
        l->rows = calloc(n, sizeof *l->rows);
        l->row_starts = calloc(in_part + 1, sizeof *l->row_starts);
        l->last = calloc(in_part, sizeof *l->last);
        good = good && l->targets && l->rows && l->row_starts && l->last;
    }
    if (rank_weight > 0) {
        l->joined = calloc(in_part, sizeof *l->joined);
        good = good && l->joined;
    }
    if (good)
        return DRR_OK;
    batch_loss_clear(l);
    return error_memory(err);
}

void batch_loss_clear(batch_loss *l)
{
    free(l->weights);
    free(l->targets);
    free(l->rows);
    free(l->row_starts);
    free(l->last);
    free(l->joined);
    *l = (batch_loss){0};
}

void batch_loss_take(batch_loss *l, const batch_plan *plan, const examples *x, size_t at, size_t n,
                     const uint32_t *starts, const uint8_t *labels, const float class_weight[2], double total)
{
    const lessons *taught = &x->lessons;
    size_t used = 0;
    l->n = n;
    l->labels = labels;
    l->total = total;
    for (size_t i = 0; i < n; i++) {
        const size_t example = plan->order[at + i];
        if (l->joined)
            l->joined[i] = i && plan->joined[at + i];
        if (!l->rows) {
            l->weights[used++] = class_weight[labels[i]];
            continue;
        }
        const size_t first = taught->starts[example], reads = taught->starts[example + 1] - first;
        for (size_t k = 0; k < reads; k++, used++) {
            l->rows[used] = starts[i] + taught->places[first + k];
            l->targets[used] = taught->targets[first + k];
            l->weights[used] = class_weight[labels[i]] / (float)reads;
        }
        l->row_starts[i + 1] = (uint32_t)used;
        l->last[i] = (uint32_t)used - 1;
    }
    l->n_reads = used;
}

double batch_loss_of(void *batch_loss_, float *dlogits, const float *logits, size_t n)
{
    const batch_loss *l = batch_loss_;
    double loss = l->targets ? soft_bce_logits(dlogits, logits, l->targets, l->weights, n, l->total)
                             : bce_logits(dlogits, logits, l->labels, l->weights, n, l->total);
    if (l->joined)
        loss += rank_logits(dlogits, logits, l->last, l->labels, l->joined, l->n, l->rank_weight, l->total);
    return loss;
}
