/* int8.c: products of bytes over AVX512_VNNI, whose instruction adds up four products of an unsigned and a signed byte
 * in each 32-bit lane. A panel of weights is 48 outputs, three registers wide; a tile of the result is 8 rows of a
 * panel, 24 registers, which leaves room for the weights and none for spills. Weights lie in the order in which they
 * are read.
 *
 * oneDNN has such products too. It does not have a scale for each row of activations, so that its sums would have to go
 * through memory once more, and each of its products ends with all threads waiting for the slowest. */
#include "tensor/int8.h"
#include "tensor/vector_internal.h"

enum { PANEL = 48, LANES = 16, VECTORS = PANEL / LANES, TILE_ROWS = 8, GROUP = 4 };
static const float STEPS = 253.0f;

static size_t groups_of(size_t width)
{
    return (width + GROUP - 1) / GROUP;
}

static size_t panels_of(size_t out)
{
    return (out + PANEL - 1) / PANEL;
}

size_t int8_ld(size_t width)
{
    return (width + 63) / 64 * 64;
}

size_t int8_packed(size_t in, size_t out)
{
    return panels_of(out) * groups_of(in) * GROUP * PANEL;
}

size_t int8_scales(size_t out)
{
    return panels_of(out) * PANEL;
}

/* ---- rounding */

/* The largest magnitude; a NaN where there is a NaN or an infinity among them. */
CPU_CLONES
static float largest(const float *x, size_t n)
{
    float most = 0, odd = 0;
#pragma omp simd reduction(max : most) reduction(+ : odd)
    for (size_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        most = a > most ? a : most;
        odd += x[i] * 0.0f;
    }
    return most + odd;
}

typedef struct span {
    float low, high; /* of a row's values and 0; NaN where there is a NaN or an infinity among them */
} span;

CPU_CLONES
static span span_of(const float *x, size_t n)
{
    float low = 0, high = 0, odd = 0;
#pragma omp simd reduction(min : low) reduction(max : high) reduction(+ : odd)
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        odd += x[i] * 0.0f;
    }
    return (span){low + odd, high + odd};
}

/* To the nearest integer, by the trick of exp_fast. */
static inline __attribute__((always_inline)) int32_t nearest(float x)
{
    const float shifted = x + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

CPU_CLONES
static int32_t round_row(int8_t *q, const float *x, size_t n, float inverse, int32_t zero)
{
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        const int32_t v = nearest(x[i] * inverse) + zero;
        q[i] = (int8_t)v;
        sum += v;
    }
    return sum;
}

/* The lowest value becomes -127 and the highest 126 or 127, for both ends are rounded: 253 steps and not 254 keep it
 * within a byte. A row with a NaN or an infinity gets a NaN for its scale, and so for its products, as in fp32. */
static void finish_row(const int8_rows *to, size_t r, const float *x, size_t width)
{
    const span s = span_of(x, width);
    const float wide = s.high - s.low;
    int8_t *q = to->data + r * to->ld;
    int32_t zero = 0;
    if (wide > 0) {
        const float inverse = STEPS / wide;
        zero = -127 - nearest(s.low * inverse);
        to->offset[r] = 128 * round_row(q, x, width, inverse, zero);
    } else {
        memset(q, 0, width);
        to->offset[r] = 0;
    }
    to->scale[r] = wide / STEPS;
    to->zero[r] = (float)zero;
    memset(q + width, 0, groups_of(width) * GROUP - width);
}

void int8_round(const int8_rows *to, const float *x, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++)
        finish_row(to, r, x + r * width, width);
}

CPU_CLONES
static void gelu_row(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float bell;
        x[i] = x[i] * normal_cdf(x[i], &bell);
    }
}

void int8_gelu_round(const int8_rows *to, float *x, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++) {
        gelu_row(x + r * width, width);
        finish_row(to, r, x + r * width, width);
    }
}

CPU_CLONES
static void add_row(float *x, const float *branch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += branch[i];
}

CPU_CLONES
static void norm_row(float *x, const float *gain, const float *shift, size_t width, float epsilon)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < width; i++)
        sum += x[i];
    const float mean = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < width; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    const float rstd = 1.0f / sqrtf(squares / (float)width + epsilon);
    for (size_t i = 0; i < width; i++)
        x[i] = (x[i] - mean) * rstd * gain[i] + shift[i];
}

void int8_add_norm(const int8_rows *to, float *x, const float *branch, const float *gain, const float *shift,
                   size_t rows, size_t width, float epsilon)
{
    for (size_t r = 0; r < rows; r++) {
        float *row = x + r * width;
        if (branch)
            add_row(row, branch + r * width, width);
        norm_row(row, gain, shift, width, epsilon);
        if (to)
            finish_row(to, r, row, width);
    }
}

/* ---- weights: panel by panel, in it group by group of four inputs, in it output by output */

void int8_pack(const int8_weights *w, const float *plain)
{
    const size_t groups = groups_of(w->in);
    for (size_t o = 0; o < int8_scales(w->out); o++) {
        const float *row = plain + (o < w->out ? o : 0) * w->in;
        const float most = o < w->out ? largest(row, w->in) : 0, inverse = most > 0 ? 127.0f / most : 0.0f;
        uint8_t *to = w->data + o / PANEL * groups * GROUP * PANEL + o % PANEL * GROUP;
        int32_t sum = 0;
        for (size_t i = 0; i < groups * GROUP; i++) {
            const int32_t v = most > 0 && i < w->in ? nearest(row[i] * inverse) : 0;
            to[i / GROUP * GROUP * PANEL + i % GROUP] = (uint8_t)(v + 128);
            sum += v;
        }
        w->scale[o] = most / 127.0f;
        w->sum[o] = (float)sum;
    }
}

/* ---- the product */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

bool int8_is_native(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

typedef struct tile { /* rows of x by a panel of w */
    const int8_t *x;
    size_t x_ld;
    const uint8_t *w;
    size_t groups;
    const float *x_scale, *x_zero, *w_scale, *w_sum, *bias;
    const int32_t *offset;
    float *y;
    size_t ld;
    size_t columns; /* of the panel that exist */
} tile;

/* sum += w x, four at a time. In assembly, for gcc 12 copies and spills the sums of the intrinsic: twice the time. */
VNNI static inline __attribute__((always_inline)) void multiply(__m512i *sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(x));
}

VNNI static inline __attribute__((always_inline)) void run_tile(const tile *t, const size_t rows)
{
    __m512i sum[TILE_ROWS][VECTORS];
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < VECTORS; v++)
            sum[r][v] = _mm512_set1_epi32(-t->offset[r]);
    const uint8_t *w = t->w;
    for (size_t g = 0; g < t->groups; g++, w += GROUP * PANEL) {
        const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64), w2 = _mm512_load_si512(w + 128);
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, t->x + r * t->x_ld + g * GROUP, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            multiply(&sum[r][0], w0, x);
            multiply(&sum[r][1], w1, x);
            multiply(&sum[r][2], w2, x);
        }
    }
#pragma GCC unroll 3
    for (size_t v = 0; v < VECTORS; v++) {
        const size_t first = v * LANES, left = t->columns > first ? t->columns - first : 0;
        const __mmask16 mask = (__mmask16)(left >= LANES ? 0xffffu : (1u << left) - 1u);
        const __m512 scale = _mm512_loadu_ps(t->w_scale + first), bias = _mm512_maskz_loadu_ps(mask, t->bias + first);
        const __m512 w_sum = _mm512_loadu_ps(t->w_sum + first);
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++) {
            const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(t->x_scale[r]));
            const __m512 zero = _mm512_set1_ps(t->x_zero[r]);
            const __m512 whole = _mm512_fnmadd_ps(zero, w_sum, _mm512_cvtepi32_ps(sum[r][v]));
            _mm512_mask_storeu_ps(t->y + r * t->ld + first, mask, _mm512_fmadd_ps(whole, both, bias));
        }
    }
}

VNNI static void run_some_rows(const tile *t, size_t rows)
{
    switch (rows) {
    case 8:
        run_tile(t, 8);
        break;
    case 7:
        run_tile(t, 7);
        break;
    case 6:
        run_tile(t, 6);
        break;
    case 5:
        run_tile(t, 5);
        break;
    case 4:
        run_tile(t, 4);
        break;
    case 3:
        run_tile(t, 3);
        break;
    case 2:
        run_tile(t, 2);
        break;
    default:
        run_tile(t, 1);
    }
}

void int8_product(float *y, size_t ld, const int8_rows *x, size_t rows, const int8_weights *w, const float *bias)
{
    const size_t groups = groups_of(w->in);
    for (size_t p = 0; p < panels_of(w->out); p++)
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
            const size_t first = p * PANEL, left = w->out - first;
            const tile t = {x->data + r * x->ld,
                            x->ld,
                            w->data + p * groups * GROUP * PANEL,
                            groups,
                            x->scale + r,
                            x->zero + r,
                            w->scale + first,
                            w->sum + first,
                            bias + first,
                            x->offset + r,
                            y + r * ld + first,
                            ld,
                            left < PANEL ? left : PANEL};
            run_some_rows(&t, rows - r < TILE_ROWS ? rows - r : TILE_ROWS);
        }
}
#else
bool int8_is_native(void)
{
    return false;
}

void int8_product(float *y, size_t ld, const int8_rows *x, size_t rows, const int8_weights *w, const float *bias)
{
    (void)x, (void)w, (void)bias; /* never called where int8_is_native() says no */
    for (size_t r = 0; r < rows; r++)
        y[r * ld] = NAN;
}
#endif
