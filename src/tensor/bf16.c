/* bf16.c: kernels on bf16 that go over their operands once: conversions, GELU, and dropout + residual + layer norm with
 * its backward pass in one. Sums over rows are made of blocks of rows, whose sums are added in their order: they do not
 * depend on the number of threads. */
#include "tensor/bf16.h"
#include "tensor/vector_internal.h"

enum { ROW_BLOCK = 64, COLUMNS = 128 };

CPU_CLONES
static void round_block(bf16 *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bf16_of(x[i]);
}

void bf16_round(bf16 *y, const float *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++)
        round_block(y + i * BLOCK, x + i * BLOCK, block_length(n, i));
}

CPU_CLONES
static void gelu_block(bf16 *y, const bf16 *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float v = bf16_float(x[i]);
        float bell;
        y[i] = bf16_of(v * normal_cdf(v, &bell));
    }
}

void bf16_gelu_forward(bf16 *y, const bf16 *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++)
        gelu_block(y + i * BLOCK, x + i * BLOCK, block_length(n, i));
}

CPU_CLONES
static void gelu_backward_block(bf16 *dx, bf16 *y, const bf16 *dy, const bf16 *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float v = bf16_float(x[i]);
        float bell;
        const float cdf = normal_cdf(v, &bell);
        y[i] = bf16_of(v * cdf);
        dx[i] = bf16_of(bf16_float(dy[i]) * (cdf + v * 0.39894228f * bell));
    }
}

void bf16_gelu_backward(bf16 *dx, bf16 *y, const bf16 *dy, const bf16 *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++) {
        const size_t at = i * BLOCK;
        gelu_backward_block(dx + at, y + at, dy + at, x + at, block_length(n, i));
    }
}

CPU_CLONES
static void sum_columns(float *dbias, const bf16 *dy, size_t rows, size_t width, size_t columns)
{
    float sum[COLUMNS] = {0};
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            sum[i] += bf16_float(dy[r * width + i]);
    for (size_t i = 0; i < columns; i++)
        dbias[i] += sum[i];
}

void bf16_bias_backward(float *dbias, const bf16 *dy, size_t rows, size_t width)
{
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t c = 0; c < width; c += COLUMNS)
        sum_columns(dbias + c, dy + c, rows, width, width - c < COLUMNS ? width - c : COLUMNS);
}

void bf16_rows_gather(bf16 *y, const bf16 *x, const uint32_t *rows, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * width, x + rows[i] * width, width * sizeof *y);
}

CPU_CLONES
static float add_row(float *sum, const bf16 *branch, const float *residual, size_t width)
{
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < width; i++) {
        const float s = bf16_float(branch[i]) + residual[i];
        sum[i] = s;
        total += s;
    }
    return total;
}

CPU_CLONES
static float drop_add_row(float *sum, const bf16 *branch, const float *residual, size_t width, uint32_t first,
                          const dropout_constants *constants)
{
    const dropout_constants c = *constants;
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < width; i++) {
        const float s = bf16_float(branch[i]) * dropout_at(&c, first + (uint32_t)i) + residual[i];
        sum[i] = s;
        total += s;
    }
    return total;
}

CPU_CLONES
static float squares_row(const float *x, float mean, size_t width)
{
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < width; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return squares;
}

CPU_CLONES
static void norm_row(float *y, bf16 *y16, const float *x, float mean, float rstd, const float *gain, const float *shift,
                     size_t width)
{
    for (size_t i = 0; i < width; i++) {
        const float v = (x[i] - mean) * rstd * gain[i] + shift[i];
        y[i] = v;
        y16[i] = bf16_of(v);
    }
}

void bf16_add_norm(float *sum, float *mean, float *rstd, float *y, bf16 *y16, const bf16 *branch, const float *residual,
                   const dropout *site, const float *gain, const float *shift, size_t rows, size_t width, float epsilon)
{
    const bool drops = site && site->rate > 0;
    const dropout_constants c = dropout_prepare(site);
#pragma omp parallel for schedule(static) if (rows > 8)
    for (size_t r = 0; r < rows; r++) {
        const size_t at = r * width;
        const float total = drops ? drop_add_row(sum + at, branch + at, residual + at, width, (uint32_t)at, &c)
                                  : add_row(sum + at, branch + at, residual + at, width);
        mean[r] = total / (float)width;
        rstd[r] = 1.0f / sqrtf(squares_row(sum + at, mean[r], width) / (float)width + epsilon);
        norm_row(y + at, y16 + at, sum + at, mean[r], rstd[r], gain, shift, width);
    }
}

typedef struct norm_sums { /* of a block of rows, [width] each */
    float *gain, *shift, *bias;
} norm_sums;

typedef struct norm_moments { /* of a row: means of g = dy gain and of g h */
    float g, gh;
} norm_moments;

CPU_CLONES
static norm_moments moments_row(const norm_sums *sums, const float *dy, const float *x, float mean, float rstd,
                                const float *gain, size_t width)
{
    float sum = 0, product = 0, *dgain = sums->gain, *dshift = sums->shift;
#pragma omp simd reduction(+ : sum, product)
    for (size_t i = 0; i < width; i++) {
        const float h = (x[i] - mean) * rstd, g = dy[i] * gain[i];
        dgain[i] += dy[i] * h;
        dshift[i] += dy[i];
        sum += g;
        product += g * h;
    }
    return (norm_moments){sum / (float)width, product / (float)width};
}

CPU_CLONES
static void norm_row_backward(float *dx, const float *dy, const float *x, float mean, float rstd, const float *gain,
                              size_t width, const norm_moments *moments)
{
    const norm_moments m = *moments;
    for (size_t i = 0; i < width; i++)
        dx[i] = rstd * (dy[i] * gain[i] - m.g - (x[i] - mean) * rstd * m.gh);
}

CPU_CLONES
static void branch_row(bf16 *dbranch, float *dbias, const float *dx, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        dbranch[i] = bf16_of(dx[i]);
        dbias[i] += dx[i];
    }
}

CPU_CLONES
static void drop_branch_row(bf16 *dbranch, float *dbias, const float *dx, size_t width, uint32_t first,
                            const dropout_constants *constants)
{
    const dropout_constants c = *constants;
    for (size_t i = 0; i < width; i++) {
        const float d = dx[i] * dropout_at(&c, first + (uint32_t)i);
        dbranch[i] = bf16_of(d);
        dbias[i] += d;
    }
}

/* to[width] += the blocks' sums, [blocks][3][width], of which `which` */
CPU_CLONES
static void add_blocks(float *to, const float *blocks, size_t n, size_t which, size_t width)
{
    for (size_t b = 0; b < n; b++)
        for (size_t i = 0; i < width; i++)
            to[i] += blocks[(3 * b + which) * width + i];
}

size_t norm_scratch(size_t rows, size_t width)
{
    return (rows + ROW_BLOCK - 1) / ROW_BLOCK * 3 * width;
}

void bf16_add_norm_backward(float *dx, bf16 *dbranch, float *dgain, float *dshift, float *dbias, const float *dy,
                            const float *sum, const float *mean, const float *rstd, const float *gain,
                            const dropout *site, size_t rows, size_t width, float *scratch)
{
    const size_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    const bool drops = site && site->rate > 0;
    const dropout_constants c = dropout_prepare(site);
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (size_t b = 0; b < blocks; b++) {
        float *own = scratch + b * 3 * width;
        const norm_sums sums = {own, own + width, own + 2 * width};
        memset(own, 0, 3 * width * sizeof *own);
        for (size_t r = b * ROW_BLOCK; r < rows && r < (b + 1) * ROW_BLOCK; r++) {
            const size_t at = r * width;
            const norm_moments m = moments_row(&sums, dy + at, sum + at, mean[r], rstd[r], gain, width);
            norm_row_backward(dx + at, dy + at, sum + at, mean[r], rstd[r], gain, width, &m);
            if (drops)
                drop_branch_row(dbranch + at, sums.bias, dx + at, width, (uint32_t)at, &c);
            else
                branch_row(dbranch + at, sums.bias, dx + at, width);
        }
    }
    float *to[3] = {dgain, dshift, dbias};
    for (size_t which = 0; which < 3; which++)
        add_blocks(to[which], scratch, blocks, which, width);
}
