/* attention_score.c: attention for scoring: one head of one sequence at a time on the calling thread, in fp32. Keys are
 * turned once so that a register holds one coordinate of 16 of them; then tiles of 8 queries by 32 keys, and 8 queries
 * by the head's width, stay in registers. Sequences of a critic are short: a head's scores never leave the first cache.
 */
#include "tensor/int8.h"
#include "tensor/vector_internal.h"

enum { LANES = 16, QUERIES = 8, KEYS = 2 * LANES, MOST_WIDTH = 128 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

static size_t padded(size_t n)
{
    return (n + KEYS - 1) / KEYS * KEYS;
}

size_t score_attention_scratch(size_t n, size_t head_width)
{
    return padded(n) * (head_width + QUERIES) + QUERIES * head_width;
}

bool score_attention_takes(size_t head_width)
{
    return head_width % LANES == 0 && head_width <= MOST_WIDTH;
}

/* turned[head_width][padded(n)], zero past n */
static void turn_keys(float *turned, const float *k, size_t ld, size_t n, size_t head_width)
{
    const size_t all = padded(n);
    for (size_t d = 0; d < head_width; d++)
        memset(turned + d * all + n, 0, (all - n) * sizeof *turned);
    for (size_t j = 0; j < n; j++)
        for (size_t d = 0; d < head_width; d++)
            turned[d * all + j] = k[j * ld + d];
}

/* scores[QUERIES][all] of QUERIES queries */
CPU_CLONES
static void score_tile(float *scores, const float *q, size_t q_ld, const float *turned, size_t all, size_t head_width,
                       float scale)
{
    for (size_t j = 0; j < all; j += KEYS) {
        lanes sum[QUERIES][2] = {{{0}}};
        for (size_t d = 0; d < head_width; d++) {
            const lanes a = *(const lanes *)(turned + d * all + j), b = *(const lanes *)(turned + d * all + j + LANES);
#pragma GCC unroll 8
            for (size_t r = 0; r < QUERIES; r++) {
                sum[r][0] += q[r * q_ld + d] * a;
                sum[r][1] += q[r * q_ld + d] * b;
            }
        }
#pragma GCC unroll 8
        for (size_t r = 0; r < QUERIES; r++) {
            *(lanes *)(scores + r * all + j) = sum[r][0] * scale;
            *(lanes *)(scores + r * all + j + LANES) = sum[r][1] * scale;
        }
    }
}

/* Exponentials of a row, whose sum is returned. */
CPU_CLONES
static float exponentials(float *x, size_t n)
{
    float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        x[i] = exp_fast(x[i] - most);
        sum += x[i];
    }
    return sum;
}

/* Two registers' width of QUERIES rows of the context. */
CPU_CLONES
static void context_tile(float *context, size_t context_ld, const float *p, size_t all, const float *v, size_t ld,
                         size_t n, const float *inverse, bool both)
{
    lanes sum[QUERIES][2] = {{{0}}};
    for (size_t j = 0; j < n; j++) {
        const lanes a = *(const lanes *)(v + j * ld), b = both ? *(const lanes *)(v + j * ld + LANES) : a;
#pragma GCC unroll 8
        for (size_t r = 0; r < QUERIES; r++) {
            sum[r][0] += p[r * all + j] * a;
            sum[r][1] += p[r * all + j] * b;
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < QUERIES; r++) {
        *(lanes *)(context + r * context_ld) = sum[r][0] * inverse[r];
        if (both)
            *(lanes *)(context + r * context_ld + LANES) = sum[r][1] * inverse[r];
    }
}

static void run_tile(float *context, size_t context_ld, const float *q, size_t q_ld, const float *turned,
                     const float *v, size_t ld, size_t n, size_t head_width, float *scores)
{
    const size_t all = padded(n);
    float inverse[QUERIES];
    score_tile(scores, q, q_ld, turned, all, head_width, 1.0f / sqrtf((float)head_width));
    for (size_t r = 0; r < QUERIES; r++)
        inverse[r] = 1.0f / exponentials(scores + r * all, n);
    for (size_t d = 0; d < head_width; d += KEYS)
        context_tile(context + d, context_ld, scores, all, v + d, ld, n, inverse, head_width - d > LANES);
}

void score_attention(float *context, size_t context_ld, const float *q, size_t q_ld, const float *k, const float *v,
                     size_t ld, size_t n_q, size_t n, size_t head_width, float *scratch)
{
    const size_t all = padded(n), whole = n_q / QUERIES * QUERIES, left = n_q - whole;
    float *scores = scratch + all * head_width, *few = scores + QUERIES * all, last[QUERIES * MOST_WIDTH];
    turn_keys(scratch, k, ld, n, head_width);
    for (size_t i = 0; i < whole; i += QUERIES)
        run_tile(context + i * context_ld, context_ld, q + i * q_ld, q_ld, scratch, v, ld, n, head_width, scores);
    if (!left)
        return;
    for (size_t r = 0; r < QUERIES; r++) /* a tile of which some rows are thrown away */
        memcpy(few + r * head_width, q + (whole + (r < left ? r : 0)) * q_ld, head_width * sizeof *q);
    run_tile(last, head_width, few, head_width, scratch, v, ld, n, head_width, scores);
    for (size_t r = 0; r < left; r++)
        memcpy(context + (whole + r) * context_ld, last + r * head_width, head_width * sizeof *last);
}
