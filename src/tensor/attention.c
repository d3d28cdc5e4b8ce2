/* attention.c: scaled dot-product attention over packed sequences. One (sequence, head) is one piece of work with a
 * scratch of two [queries][keys] matrices per thread; pieces write to disjoint places, so their order does not matter.
 * Probabilities are not stored: the backward pass makes them again from the scores and the logarithmic sums. */
#include "tensor/vector_internal.h"

#include <omp.h>

size_t attention_scratch(size_t longest, uint32_t threads)
{
    return 2 * longest * longest * threads;
}

/* One row of scores becomes probabilities exp(scale * x - logarithmic sum), which is returned. */
CPU_CLONES
static float softmax_row(float *x, size_t n, float scale)
{
    float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        x[i] = exp_fast((x[i] - most) * scale);
        sum += x[i];
    }
    const float factor = 1.0f / sum;
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
    return most * scale + logf(sum);
}

CPU_CLONES
static void probabilities_row(float *x, size_t n, float scale, float log_sum)
{
    for (size_t i = 0; i < n; i++)
        x[i] = exp_fast(x[i] * scale - log_sum);
}

CPU_CLONES
static void drop_row(float *y, const float *x, size_t n, uint32_t first, const dropout_constants *constants)
{
    const dropout_constants c = *constants;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * dropout_at(&c, first + (uint32_t)i);
}

/* dscores = probabilities (dprobabilities - sum over keys of their products) scale */
CPU_CLONES
static void softmax_row_backward(float *dx, const float *p, size_t n, float dot, float scale)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = p[i] * (dx[i] - dot) * scale;
}

CPU_CLONES
static float dot_row(const float *a, const float *b, size_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

typedef struct piece { /* one sequence and head */
    size_t q0, nq, k0, nk, column, head_width;
    float scale;
    dropout site;
    bool drops;
} piece;

static piece piece_at(const attention_shape *shape, const dropout *site, size_t index)
{
    const size_t s = index / shape->heads, h = index % shape->heads, head_width = shape->width / shape->heads;
    piece p = {.q0 = shape->q_starts[s],
               .nq = shape->q_starts[s + 1] - shape->q_starts[s],
               .k0 = shape->kv_starts[s],
               .nk = shape->kv_starts[s + 1] - shape->kv_starts[s],
               .column = h * head_width,
               .head_width = head_width,
               .scale = 1.0f / sqrtf((float)head_width),
               .drops = site && site->rate > 0};
    if (p.drops)
        p.site = dropout_part(site, (uint32_t)index);
    return p;
}

static void forward_piece(float *context, float *log_sum, const float *q, const float *kv, const attention_shape *shape,
                          const piece *p, float *scores)
{
    const size_t width = shape->width, head = p->column / p->head_width;
    const float *queries = q + p->q0 * width + p->column, *keys = kv + p->k0 * 2 * width + p->column;
    const dropout_constants c = dropout_prepare(&p->site);
    matmul(false, true, p->nq, p->nk, p->head_width, queries, width, keys, 2 * width, 0.0f, scores, p->nk);
    for (size_t i = 0; i < p->nq; i++) {
        float *row = scores + i * p->nk;
        log_sum[(p->q0 + i) * shape->heads + head] = softmax_row(row, p->nk, p->scale);
        if (p->drops)
            drop_row(row, row, p->nk, (uint32_t)(i * p->nk), &c);
    }
    matmul(false, false, p->nq, p->head_width, p->nk, scores, p->nk, keys + width, 2 * width, 0.0f,
           context + p->q0 * width + p->column, width);
}

void attention_forward(float *context, float *log_sum, const float *q, const float *kv, const attention_shape *shape,
                       const dropout *site, float *scratch)
{
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        float *scores = scratch + (size_t)omp_get_thread_num() * 2 * shape->longest * shape->longest;
        forward_piece(context, log_sum, q, kv, shape, &p, scores);
    }
}

typedef struct backward_operands {
    float *dq, *dkv;
    const float *dcontext, *context, *log_sum, *q, *kv;
} backward_operands;

static void backward_piece(const backward_operands *o, const attention_shape *shape, const piece *p, float *scratch)
{
    const size_t width = shape->width, head = p->column / p->head_width, nk = p->nk;
    const size_t q_at = p->q0 * width + p->column, k_at = p->k0 * 2 * width + p->column;
    const float *queries = o->q + q_at, *keys = o->kv + k_at, *dout = o->dcontext + q_at, *out = o->context + q_at;
    const dropout_constants c = dropout_prepare(&p->site);
    float *prob = scratch, *other = scratch + shape->longest * shape->longest;
    matmul(false, true, p->nq, nk, p->head_width, queries, width, keys, 2 * width, 0.0f, prob, nk);
    for (size_t i = 0; i < p->nq; i++) {
        probabilities_row(prob + i * nk, nk, p->scale, o->log_sum[(p->q0 + i) * shape->heads + head]);
        if (p->drops)
            drop_row(other + i * nk, prob + i * nk, nk, (uint32_t)(i * nk), &c);
    }
    matmul(true, false, nk, p->head_width, p->nq, p->drops ? other : prob, nk, dout, width, 0.0f, o->dkv + k_at + width,
           2 * width);
    matmul(false, true, p->nq, nk, p->head_width, dout, width, keys + width, 2 * width, 0.0f, other, nk);
    for (size_t i = 0; i < p->nq; i++) {
        float *row = other + i * nk;
        if (p->drops)
            drop_row(row, row, nk, (uint32_t)(i * nk), &c);
        softmax_row_backward(row, prob + i * nk, nk, dot_row(dout + i * width, out + i * width, p->head_width),
                             p->scale);
    }
    matmul(false, false, p->nq, p->head_width, nk, other, nk, keys, 2 * width, 0.0f, o->dq + q_at, width);
    matmul(true, false, nk, p->head_width, p->nq, other, nk, queries, width, 0.0f, o->dkv + k_at, 2 * width);
}

void attention_backward(float *dq, float *dkv, const float *dcontext, const float *context, const float *log_sum,
                        const float *q, const float *kv, const attention_shape *shape, const dropout *site,
                        float *scratch)
{
    const backward_operands o = {dq, dkv, dcontext, context, log_sum, q, kv};
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        backward_piece(&o, shape, &p, scratch + (size_t)omp_get_thread_num() * 2 * shape->longest * shape->longest);
    }
}

void softmax_rows(float *y, const float *x, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++) {
        if (y != x)
            memcpy(y + r * width, x + r * width, width * sizeof *y);
        (void)softmax_row(y + r * width, width, 1.0f);
    }
}
