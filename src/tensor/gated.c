/* gated.c: what ModernBERT's feed-forward and pooling need beside gelu and norms: GELU of one half of a row times the
 * other half, and the mean of a sequence's rows. */
#include "tensor/vector_internal.h"

CPU_CLONES
static void geglu_row(float *y, const float *up, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        float bell;
        y[i] = up[i] * normal_cdf(up[i], &bell) * up[width + i];
    }
}

void geglu_forward(float *y, const float *up, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++)
        geglu_row(y + r * width, up + r * 2 * width, width);
}

CPU_CLONES
static void geglu_row_backward(float *dup, const float *dy, const float *up, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        float bell;
        const float x = up[i], cdf = normal_cdf(x, &bell);
        dup[i] = dy[i] * up[width + i] * (cdf + x * 0.39894228f * bell);
        dup[width + i] = dy[i] * x * cdf;
    }
}

void geglu_backward(float *dup, const float *dy, const float *up, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++)
        geglu_row_backward(dup + r * 2 * width, dy + r * width, up + r * 2 * width, width);
}

void rows_mean(float *y, const float *x, const uint32_t *starts, size_t n, size_t width)
{
    for (size_t s = 0; s < n; s++) {
        const float share = 1.0f / (float)(starts[s + 1] - starts[s]);
        memset(y + s * width, 0, width * sizeof *y);
        for (size_t t = starts[s]; t < starts[s + 1]; t++)
            for (size_t i = 0; i < width; i++)
                y[s * width + i] += x[t * width + i] * share;
    }
}

void rows_mean_backward(float *dx, const float *dy, const uint32_t *starts, size_t n, size_t width)
{
    for (size_t s = 0; s < n; s++) {
        const float share = 1.0f / (float)(starts[s + 1] - starts[s]);
        for (size_t t = starts[s]; t < starts[s + 1]; t++)
            for (size_t i = 0; i < width; i++)
                dx[t * width + i] = dy[s * width + i] * share;
    }
}
