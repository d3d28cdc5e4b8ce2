/* attention.c: scaled dot-product attention over packed sequences. One (sequence, head) is one piece of work with a
 * scratch of three [queries][keys] matrices per thread; pieces write to disjoint places, so their order does not
 * matter. Probabilities are not stored: the backward pass makes them again from the scores and the logarithmic sums. */
#include "tensor/bf16.h"
#include "tensor/vector_internal.h"

#include <omp.h>

size_t attention_scratch(size_t longest, uint32_t threads)
{
    return 3 * longest * longest * threads;
}

static float *thread_scratch(float *scratch, size_t each)
{
    return scratch + (size_t)omp_get_thread_num() * each;
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

CPU_CLONES
static void softmax_row_backward(float *dx, const float *p, const float *dropped, size_t n, float dot, float scale)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = (dropped[i] * dx[i] - p[i] * dot) * scale;
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
    size_t q0, nq, k0, nk, head, column, head_width;
    size_t window;
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
               .head = h,
               .column = h * head_width,
               .head_width = head_width,
               .window = shape->window,
               .scale = 1.0f / sqrtf((float)head_width),
               .drops = site && site->rate > 0};
    if (p.drops)
        p.site = dropout_part(site, (uint32_t)index);
    return p;
}

/* A piece's operands where they lie, in fp32: rows of head_width, ld floats apart. */
typedef struct piece_values {
    const float *q, *k, *v;
    size_t q_ld, kv_ld;
} piece_values;

/* Rows of queries that are taken at once, and the keys that any of them sees; of row i those from `from` to `to`, of
 * the sequence, are seen. Without a window it is all of a piece. */
typedef struct block {
    size_t i0, n, k0, nk;
} block;
enum { WINDOW_ROWS = 64 };

static block block_at(const piece *p, size_t i0)
{
    const size_t rows = p->window ? WINDOW_ROWS : p->nq, n = p->nq - i0 < rows ? p->nq - i0 : rows;
    const size_t from = p->window && i0 > p->window ? i0 - p->window : 0, end = i0 + n + p->window;
    return (block){i0, n, from, (p->window && end < p->nk ? end : p->nk) - from};
}

/* The keys of a row that it sees, counted within the block. */
static void seen(const piece *p, const block *b, size_t row, size_t *from, size_t *n)
{
    const size_t i = b->i0 + row, end = i + p->window + 1;
    *from = p->window && i > p->window ? i - p->window - b->k0 : 0;
    *n = (p->window && end < b->k0 + b->nk ? end - b->k0 : b->nk) - *from;
}

static void unseen_are_zero(float *row, const block *b, size_t from, size_t n)
{
    memset(row, 0, from * sizeof *row);
    memset(row + from + n, 0, (b->nk - from - n) * sizeof *row);
}

static void forward_block(float *context, size_t context_ld, float *log_sum, size_t heads, const piece_values *x,
                          const piece *p, const block *b, float *scores)
{
    const dropout_constants c = dropout_prepare(&p->site);
    const size_t nk = b->nk, keys = b->k0 * x->kv_ld;
    matmul(false, true, b->n, nk, p->head_width, x->q + b->i0 * x->q_ld, x->q_ld, x->k + keys, x->kv_ld, 0.0f, scores,
           nk);
    for (size_t i = 0; i < b->n; i++) {
        float *row = scores + i * nk;
        size_t from, n;
        seen(p, b, i, &from, &n);
        unseen_are_zero(row, b, from, n);
        log_sum[(b->i0 + i) * heads] = softmax_row(row + from, n, p->scale);
        if (p->drops)
            drop_row(row + from, row + from, n, (uint32_t)((b->i0 + i) * p->nk + b->k0 + from), &c);
    }
    matmul(false, false, b->n, p->head_width, nk, scores, nk, x->v + keys, x->kv_ld, 0.0f, context + b->i0 * context_ld,
           context_ld);
}

static void forward_piece(float *context, size_t context_ld, float *log_sum, size_t heads, const piece_values *x,
                          const piece *p, float *scores)
{
    for (size_t i = 0; i < p->nq;) {
        const block b = block_at(p, i);
        forward_block(context, context_ld, log_sum, heads, x, p, &b, scores);
        i += b.n;
    }
}

void attention_forward(float *context, float *log_sum, const float *q, const float *kv, const attention_shape *shape,
                       const dropout *site, float *scratch)
{
    const size_t width = shape->width;
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        const size_t q_at = p.q0 * width + p.column, k_at = p.k0 * 2 * width + p.column;
        const piece_values x = {q + q_at, kv + k_at, kv + k_at + width, width, 2 * width};
        forward_piece(context + q_at, width, log_sum + p.q0 * shape->heads + p.head, shape->heads, &x, &p,
                      thread_scratch(scratch, attention_scratch(shape->longest, 1)));
    }
}

typedef struct piece_gradients { /* as piece_values */
    float *dq, *dk, *dv;
    const float *dcontext, *context;
} piece_gradients;

/* With P the probabilities, D the dropped ones and G = dcontext v^T: dscores = (D G - P dot) scale. The gradients of
 * keys and values are multiplied by `beta` and added to: the block before may have met the same ones. */
static void backward_block(const piece_gradients *g, const float *log_sum, const piece_values *x,
                           const attention_shape *shape, const piece *p, const block *b, float beta, float *scratch)
{
    const size_t nk = b->nk, matrix = shape->longest * shape->longest, keys = b->k0 * x->kv_ld, rows = b->i0 * x->q_ld;
    const dropout_constants c = dropout_prepare(&p->site);
    float *prob = scratch, *dscore = scratch + matrix, *dropped = p->drops ? scratch + 2 * matrix : prob;
    matmul(false, true, b->n, nk, p->head_width, x->q + rows, x->q_ld, x->k + keys, x->kv_ld, 0.0f, prob, nk);
    for (size_t i = 0; i < b->n; i++) {
        size_t from, n;
        seen(p, b, i, &from, &n);
        unseen_are_zero(prob + i * nk, b, from, n);
        probabilities_row(prob + i * nk + from, n, p->scale, log_sum[(b->i0 + i) * shape->heads]);
        if (!p->drops)
            continue;
        unseen_are_zero(dropped + i * nk, b, from, n);
        drop_row(dropped + i * nk + from, prob + i * nk + from, n, (uint32_t)((b->i0 + i) * p->nk + b->k0 + from), &c);
    }
    matmul(true, false, nk, p->head_width, b->n, dropped, nk, g->dcontext + rows, x->q_ld, beta, g->dv + keys,
           x->kv_ld);
    matmul(false, true, b->n, nk, p->head_width, g->dcontext + rows, x->q_ld, x->v + keys, x->kv_ld, 0.0f, dscore, nk);
    for (size_t i = 0; i < b->n; i++)
        softmax_row_backward(dscore + i * nk, prob + i * nk, dropped + i * nk, nk,
                             dot_row(g->dcontext + rows + i * x->q_ld, g->context + rows + i * x->q_ld, p->head_width),
                             p->scale);
    matmul(false, false, b->n, p->head_width, nk, dscore, nk, x->k + keys, x->kv_ld, 0.0f, g->dq + rows, x->q_ld);
    matmul(true, false, nk, p->head_width, b->n, dscore, nk, x->q + rows, x->q_ld, beta, g->dk + keys, x->kv_ld);
}

static void backward_piece(const piece_gradients *g, const float *log_sum, const piece_values *x,
                           const attention_shape *shape, const piece *p, float *scratch)
{
    for (size_t k = 0; p->window && k < p->nk; k++) {
        memset(g->dk + k * x->kv_ld, 0, p->head_width * sizeof(float));
        memset(g->dv + k * x->kv_ld, 0, p->head_width * sizeof(float));
    }
    for (size_t i = 0; i < p->nq;) {
        const block b = block_at(p, i);
        backward_block(g, log_sum, x, shape, p, &b, p->window ? 1.0f : 0.0f, scratch);
        i += b.n;
    }
}

void attention_backward(float *dq, float *dkv, const float *dcontext, const float *context, const float *log_sum,
                        const float *q, const float *kv, const attention_shape *shape, const dropout *site,
                        float *scratch)
{
    const size_t width = shape->width;
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        const size_t q_at = p.q0 * width + p.column, k_at = p.k0 * 2 * width + p.column;
        const piece_values x = {q + q_at, kv + k_at, kv + k_at + width, width, 2 * width};
        const piece_gradients g = {dq + q_at, dkv + k_at, dkv + k_at + width, dcontext + q_at, context + q_at};
        backward_piece(&g, log_sum + p.q0 * shape->heads + p.head, &x, shape, &p,
                       thread_scratch(scratch, attention_scratch(shape->longest, 1)));
    }
}

/* ---- the same over bf16: a piece's columns are taken out, widened, and put back rounded */

size_t bf16_attention_scratch(size_t longest, size_t head_width, uint32_t threads)
{
    return attention_scratch(longest, threads) + 8 * longest * head_width * threads;
}

CPU_CLONES
static void take_columns(float *y, const bf16 *x, size_t rows, size_t ld, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            y[r * columns + i] = bf16_float(x[r * ld + i]);
}

CPU_CLONES
static void put_columns(bf16 *y, const float *x, size_t rows, size_t ld, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            y[r * ld + i] = bf16_of(x[r * columns + i]);
}

/* Queries, keys and values of a piece into three of the eight parts of `room`, each of `part` floats. */
static piece_values take_values(float *room, size_t part, const bf16 *q, const bf16 *kv, size_t width, const piece *p)
{
    const bf16 *keys = kv + p->k0 * 2 * width + p->column;
    take_columns(room, q + p->q0 * width + p->column, p->nq, width, p->head_width);
    take_columns(room + part, keys, p->nk, 2 * width, p->head_width);
    take_columns(room + 2 * part, keys + width, p->nk, 2 * width, p->head_width);
    return (piece_values){room, room + part, room + 2 * part, p->head_width, p->head_width};
}

void bf16_attention_forward(bf16 *context, float *log_sum, const bf16 *q, const bf16 *kv, const attention_shape *shape,
                            const dropout *site, float *scratch)
{
    const size_t width = shape->width, head_width = width / shape->heads, part = shape->longest * head_width;
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        float *scores = thread_scratch(scratch, bf16_attention_scratch(shape->longest, head_width, 1));
        float *room = scores + attention_scratch(shape->longest, 1);
        const piece_values x = take_values(room, part, q, kv, width, &p);
        forward_piece(room + 3 * part, head_width, log_sum + p.q0 * shape->heads + p.head, shape->heads, &x, &p,
                      scores);
        put_columns(context + p.q0 * width + p.column, room + 3 * part, p.nq, width, head_width);
    }
}

void bf16_attention_backward(bf16 *dq, bf16 *dkv, const bf16 *dcontext, const bf16 *context, const float *log_sum,
                             const bf16 *q, const bf16 *kv, const attention_shape *shape, const dropout *site,
                             float *scratch)
{
    const size_t width = shape->width, head_width = width / shape->heads, part = shape->longest * head_width;
#pragma omp parallel for schedule(dynamic)
    for (size_t index = 0; index < shape->n * shape->heads; index++) {
        const piece p = piece_at(shape, site, index);
        const size_t q_at = p.q0 * width + p.column, k_at = p.k0 * 2 * width + p.column;
        float *matrices = thread_scratch(scratch, bf16_attention_scratch(shape->longest, head_width, 1));
        float *room = matrices + attention_scratch(shape->longest, 1);
        const piece_values x = take_values(room, part, q, kv, width, &p);
        const piece_gradients g = {room + 5 * part, room + 6 * part, room + 7 * part, room + 3 * part, room + 4 * part};
        take_columns(room + 3 * part, dcontext + q_at, p.nq, width, head_width);
        take_columns(room + 4 * part, context + q_at, p.nq, width, head_width);
        backward_piece(&g, log_sum + p.q0 * shape->heads + p.head, &x, shape, &p, matrices);
        put_columns(dq + q_at, g.dq, p.nq, width, head_width);
        put_columns(dkv + k_at, g.dk, p.nk, 2 * width, head_width);
        put_columns(dkv + k_at + width, g.dv, p.nk, 2 * width, head_width);
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
