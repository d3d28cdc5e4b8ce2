/* norm.c: layer normalisation over rows, and the column sums that its and the linear layers' gradients need. Columns
 * are divided among the threads, so that a sum has one order whatever their number. */
#include "tensor/vector_internal.h"

enum { COLUMNS = 32 }; /* columns a thread sums at once */

CPU_CLONES
static void norm_row(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
                     size_t width, float epsilon)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < width; i++)
        sum += x[i];
    const float m = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < width; i++)
        squares += (x[i] - m) * (x[i] - m);
    const float r = 1.0f / sqrtf(squares / (float)width + epsilon);
    for (size_t i = 0; shift && i < width; i++)
        y[i] = (x[i] - m) * r * gain[i] + shift[i];
    for (size_t i = 0; !shift && i < width; i++)
        y[i] = (x[i] - m) * r * gain[i];
    *mean = m;
    *rstd = r;
}

void layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
                       size_t rows, size_t width, float epsilon)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++)
        norm_row(y + r * width, mean + r, rstd + r, x + r * width, gain, shift, width, epsilon);
}

/* With h = (x - mean) rstd and g = dy gain: dx = rstd (g - mean(g) - h mean(g h)). */
CPU_CLONES
static void norm_row_backward(float *dx, const float *dy, const float *x, float mean, float rstd, const float *gain,
                              size_t width)
{
    float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (size_t i = 0; i < width; i++) {
        const float g = dy[i] * gain[i];
        sum += g;
        product += g * (x[i] - mean) * rstd;
    }
    sum /= (float)width;
    product /= (float)width;
    for (size_t i = 0; i < width; i++)
        dx[i] = rstd * (dy[i] * gain[i] - sum - (x[i] - mean) * rstd * product);
}

CPU_CLONES
static void norm_columns(float *dgain, float *dshift, const float *dy, const float *x, const float *mean,
                         const float *rstd, size_t rows, size_t width, size_t columns)
{
    float gain[COLUMNS] = {0}, shift[COLUMNS] = {0};
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++) {
            const float g = dy[r * width + i];
            gain[i] += g * (x[r * width + i] - mean[r]) * rstd[r];
            shift[i] += g;
        }
    for (size_t i = 0; i < columns; i++) {
        dgain[i] += gain[i];
        if (dshift)
            dshift[i] += shift[i];
    }
}

void layernorm_backward(float *dx, float *dgain, float *dshift, const float *dy, const float *x, const float *mean,
                        const float *rstd, const float *gain, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t c = 0; c < width; c += COLUMNS)
        norm_columns(dgain + c, dshift ? dshift + c : NULL, dy + c, x + c, mean, rstd, rows, width,
                     width - c < COLUMNS ? width - c : COLUMNS);
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++)
        norm_row_backward(dx + r * width, dy + r * width, x + r * width, mean[r], rstd[r], gain, width);
}

CPU_CLONES
static void sum_columns(float *dbias, const float *dy, size_t rows, size_t width, size_t columns)
{
    float sum[COLUMNS] = {0};
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            sum[i] += dy[r * width + i];
    for (size_t i = 0; i < columns; i++)
        dbias[i] += sum[i];
}

void bias_backward(float *dbias, const float *dy, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t c = 0; c < width; c += COLUMNS)
        sum_columns(dbias + c, dy + c, rows, width, width - c < COLUMNS ? width - c : COLUMNS);
}

void rows_gather(float *y, const float *x, const uint32_t *rows, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * width, x + rows[i] * width, width * sizeof *y);
}

void rows_scatter_add(float *dx, const float *dy, const uint32_t *rows, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < width; c++)
            dx[rows[i] * width + c] += dy[i * width + c];
}
