/* vector_internal.h: what the fast kernels share: compilation for several generations of CPU with the choice made when
 * the program starts, and an exponential that the compiler can vectorise (libm's it cannot). */
#ifndef DRR_TENSOR_VECTOR_INTERNAL_H
#define DRR_TENSOR_VECTOR_INTERNAL_H

#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

/* Resolvers of function clones run before a sanitizer has set up its shadow memory, so there they are left out. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CPU_CLONES
#endif

enum { BLOCK = 4096 }; /* elements a thread takes at once: one block of each operand fits its first caches */

static inline size_t block_count(size_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

static inline size_t block_length(size_t n, size_t block)
{
    return n - block * BLOCK < BLOCK ? n - block * BLOCK : BLOCK;
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2 and e^r by its Taylor polynomial: relative error below 3e-7 on [-87, 88], and the
 * value at the nearer end outside. The addition of 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
static inline __attribute__((always_inline)) float exp_fast(float x)
{
    const float round = 12582912.0f;
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits; /* unsigned: a NaN, whose p is NaN too, may wrap here */
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4b400000u + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* Phi(x), and the density's e^(-x^2 / 2) on the way. The error function is Abramowitz and Stegun's 7.1.26: absolute
 * error below 1.5e-7, and the exponential it needs is the one that the derivative needs too. */
static inline __attribute__((always_inline)) float normal_cdf(float x, float *bell)
{
    const float z = fabsf(x) * 0.70710678f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    *bell = exp_fast(-0.5f * x * x);
    const float tail = 0.5f * p * t * *bell;
    return x >= 0.0f ? 1.0f - tail : tail;
}

/* A 32-bit finaliser: every bit of the result depends on every bit of x. */
static inline __attribute__((always_inline)) uint32_t mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

typedef struct dropout_constants { /* of a site, ready for an inner loop */
    uint32_t a, b, first, limit;
    float scale;
} dropout_constants;

static inline dropout_constants dropout_prepare(const dropout *site)
{
    const double rate = site ? (double)site->rate : 0;
    return (dropout_constants){.a = site ? site->key[0] : 0,
                               .b = site ? site->key[1] : 0,
                               .first = site ? site->first : 0,
                               .limit = (uint32_t)(rate * 4294967295.0),
                               .scale = (float)(1 / (1 - rate))};
}

static inline __attribute__((always_inline)) float dropout_at(const dropout_constants *c, uint32_t index)
{
    const uint32_t u = mix32(mix32((index + c->first) ^ c->a) + c->b);
    return u >= c->limit ? c->scale : 0.0f;
}

#endif
