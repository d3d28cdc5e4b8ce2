/* pointwise.c: kernels that treat each element alone: GELU, tanh, dropout. */
#include "tensor/vector_internal.h"

CPU_CLONES
static void gelu_block(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float bell;
        y[i] = x[i] * normal_cdf(x[i], &bell);
    }
}

void gelu_forward(float *y, const float *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++)
        gelu_block(y + i * BLOCK, x + i * BLOCK, block_length(n, i));
}

CPU_CLONES
static void gelu_backward_block(float *dx, const float *dy, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float bell;
        const float cdf = normal_cdf(x[i], &bell);
        dx[i] = dy[i] * (cdf + x[i] * 0.39894228f * bell);
    }
}

void gelu_backward(float *dx, const float *dy, const float *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++)
        gelu_backward_block(dx + i * BLOCK, dy + i * BLOCK, x + i * BLOCK, block_length(n, i));
}

void tanh_forward(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tanhf(x[i]);
}

void tanh_backward(float *dx, const float *dy, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1.0f - y[i] * y[i]);
}

dropout dropout_site(float rate, uint64_t seed, uint64_t step, uint64_t site)
{
    const uint64_t key = hash_mix(hash_mix(seed, step), site);
    return (dropout){.rate = rate, .key = {(uint32_t)key, (uint32_t)(key >> 32)}};
}

dropout dropout_part(const dropout *site, uint32_t part)
{
    const uint32_t key = mix32(part + site->first + site->key[0]);
    return (dropout){.rate = site->rate, .key = {key, mix32(key ^ site->key[1])}};
}

float dropout_factor(const dropout *site, uint32_t index)
{
    const dropout_constants c = dropout_prepare(site);
    return dropout_at(&c, index);
}

CPU_CLONES
static void dropout_block(float *y, const float *x, uint32_t first, size_t n, const dropout_constants *constants)
{
    const dropout_constants c = *constants;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * dropout_at(&c, first + (uint32_t)i);
}

CPU_CLONES
static void dropout_add_block(float *y, const float *x, const float *residual, uint32_t first, size_t n,
                              const dropout_constants *constants)
{
    const dropout_constants c = *constants;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * dropout_at(&c, first + (uint32_t)i) + residual[i];
}

CPU_CLONES
static void add_block(float *y, const float *x, const float *residual, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + residual[i];
}

void dropout_add(float *y, const float *x, const float *residual, size_t n, const dropout *site)
{
    const dropout_constants c = dropout_prepare(site);
    const bool drops = site && site->rate > 0;
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++) {
        const size_t at = i * BLOCK, length = block_length(n, i);
        if (drops && residual)
            dropout_add_block(y + at, x + at, residual + at, (uint32_t)at, length, &c);
        else if (drops)
            dropout_block(y + at, x + at, (uint32_t)at, length, &c);
        else if (residual)
            add_block(y + at, x + at, residual + at, length);
        else if (y != x)
            memcpy(y + at, x + at, length * sizeof *y);
    }
}
