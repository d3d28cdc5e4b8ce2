/* probe_solve.c: logistic regression with an L2 penalty on more columns than a Hessian has room for: Newton's method,
 * each step by conjugate gradients, which need but products with the rows. A product with the rows' transpose is
 * divided by columns, so that every sum runs over the rows in their order, whatever the number of threads. */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, MOST_NEWTON = 40, MOST_CG = 200 };

/* ---- products */

typedef struct product {
    const float *rows;
    size_t n, columns;
    const double *vector; /* columns, or n for the transpose */
    double shift;
    double *out;
} product;

static double dot(const float *x, const double *w, size_t n)
{
    double lanes[8] = {0}, sum = 0;
    size_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (size_t l = 0; l < 8; l++)
            lanes[l] += (double)x[k + l] * w[k + l];
    for (; k < n; k++)
        sum += (double)x[k] * w[k];
    for (size_t l = 0; l < 8; l++)
        sum += lanes[l];
    return sum;
}

static void rows_part(void *user, size_t begin, size_t end, uint32_t thread)
{
    const product *p = user;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        p->out[i] = p->shift + dot(p->rows + i * p->columns, p->vector, p->columns);
}

static void blocks_part(void *user, size_t begin, size_t end, uint32_t thread)
{
    const product *p = user;
    (void)thread;
    for (size_t b = begin; b < end; b++) {
        const size_t first = b * BLOCK, m = p->columns - first < BLOCK ? p->columns - first : BLOCK;
        double sums[BLOCK] = {0};
        for (size_t i = 0; i < p->n; i++) {
            const float *x = p->rows + i * p->columns + first;
            for (size_t k = 0; k < m; k++)
                sums[k] += p->vector[i] * (double)x[k];
        }
        memcpy(p->out + first, sums, m * sizeof *sums);
    }
}

void probe_scores(double *z, const float *rows, size_t n, size_t columns, const double *weight, double bias)
{
    product p = {rows, n, columns, weight, bias, z};
    parallel_for(n, rows_part, &p);
}

static void transposed(double *out, const probe_problem *p, const double *vector)
{
    product t = {p->rows, p->n, p->columns, vector, 0, out};
    parallel_for((p->columns + BLOCK - 1) / BLOCK, blocks_part, &t);
}

/* ---- the problem; parameters are the weights and, last, the bias */

typedef struct solving {
    const probe_problem *p;
    double l2;
    double *z, *errors, *curvature, *scratch;                    /* n each */
    double *at, *gradient, *step, *residual, *direction, *image; /* columns + 1 each */
} solving;

static double penalty(const solving *s, size_t k)
{
    const size_t columns = s->p->columns;
    return k >= columns ? 1e-6 : k >= columns - s->p->n_free ? 1 : s->l2;
}

static double inner(const solving *s, const double *a, const double *b)
{
    double sum = 0;
    for (size_t k = 0; k <= s->p->columns; k++)
        sum += a[k] * b[k];
    return sum;
}

static double loss_at(solving *s, const double *at)
{
    double sum = 0;
    probe_scores(s->z, s->p->rows, s->p->n, s->p->columns, at, at[s->p->columns]);
    for (size_t i = 0; i < s->p->n; i++) {
        const double x = s->p->labels[i] ? -s->z[i] : s->z[i];
        sum += fmax(x, 0) + log1p(exp(-fabs(x)));
    }
    for (size_t k = 0; k <= s->p->columns; k++)
        sum += 0.5 * penalty(s, k) * at[k] * at[k];
    return sum;
}

/* Of s->z, which loss_at has left. */
static void derive(solving *s)
{
    const size_t columns = s->p->columns;
    double bias = 0;
    for (size_t i = 0; i < s->p->n; i++) {
        const double e = exp(-fabs(s->z[i])), p = s->z[i] >= 0 ? 1 / (1 + e) : e / (1 + e);
        s->errors[i] = p - (s->p->labels[i] ? 1 : 0);
        s->curvature[i] = p * (1 - p);
        bias += s->errors[i];
    }
    transposed(s->gradient, s->p, s->errors);
    s->gradient[columns] = bias;
    for (size_t k = 0; k <= columns; k++)
        s->gradient[k] += penalty(s, k) * s->at[k];
}

static void apply_hessian(solving *s, double *out, const double *v)
{
    const size_t columns = s->p->columns;
    double bias = 0;
    probe_scores(s->scratch, s->p->rows, s->p->n, columns, v, v[columns]);
    for (size_t i = 0; i < s->p->n; i++) {
        s->scratch[i] *= s->curvature[i];
        bias += s->scratch[i];
    }
    transposed(out, s->p, s->scratch);
    out[columns] = bias;
    for (size_t k = 0; k <= columns; k++)
        out[k] += penalty(s, k) * v[k];
}

/* step: about -hessian^-1 gradient. */
static void newton_step(solving *s)
{
    const size_t size = (s->p->columns + 1) * sizeof(double);
    const double norm = sqrt(inner(s, s->gradient, s->gradient)), wanted = norm * fmin(0.1, sqrt(norm));
    memset(s->step, 0, size);
    for (size_t k = 0; k <= s->p->columns; k++)
        s->residual[k] = -s->gradient[k];
    memcpy(s->direction, s->residual, size);
    double square = norm * norm;
    for (int i = 0; i < MOST_CG && sqrt(square) > wanted; i++) {
        apply_hessian(s, s->image, s->direction);
        const double curved = inner(s, s->direction, s->image);
        if (!(curved > 0))
            break;
        const double length = square / curved, before = square;
        for (size_t k = 0; k <= s->p->columns; k++) {
            s->step[k] += length * s->direction[k];
            s->residual[k] -= length * s->image[k];
        }
        square = inner(s, s->residual, s->residual);
        for (size_t k = 0; k <= s->p->columns; k++)
            s->direction[k] = s->residual[k] + square / before * s->direction[k];
    }
}

/* Along the step, halved until it leads down; false: it does not. */
static bool improve(solving *s, double *loss)
{
    derive(s);
    newton_step(s);
    const double slope = inner(s, s->gradient, s->step);
    if (!(slope < -1e-9 * (1 + *loss)))
        return false;
    for (double size = 1; size > 1e-6; size /= 2) {
        for (size_t k = 0; k <= s->p->columns; k++)
            s->image[k] = s->at[k] + size * s->step[k];
        const double now = loss_at(s, s->image);
        if (now <= *loss + 1e-4 * size * slope) {
            memcpy(s->at, s->image, (s->p->columns + 1) * sizeof *s->at);
            *loss = now;
            return true;
        }
    }
    return false;
}

drr_status probe_solve(double *weight, double *bias, const probe_problem *p, double l2, drr_error *err)
{
    const size_t size = p->columns + 1;
    double *memory = calloc(4 * p->n + 6 * size, sizeof *memory), *x = memory ? memory + 4 * p->n : NULL;
    if (!memory)
        return error_memory(err);
    solving s = {.p = p,
                 .l2 = l2,
                 .z = memory,
                 .errors = memory + p->n,
                 .curvature = memory + 2 * p->n,
                 .scratch = memory + 3 * p->n,
                 .at = x,
                 .gradient = x + size,
                 .step = x + 2 * size,
                 .residual = x + 3 * size,
                 .direction = x + 4 * size,
                 .image = x + 5 * size};
    memcpy(s.at, weight, p->columns * sizeof *weight);
    s.at[p->columns] = *bias;
    double loss = loss_at(&s, s.at);
    for (int i = 0; i < MOST_NEWTON && improve(&s, &loss); i++)
        ;
    memcpy(weight, s.at, p->columns * sizeof *weight);
    *bias = s.at[p->columns];
    free(memory);
    return DRR_OK;
}
