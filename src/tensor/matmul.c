/* matmul.c: matrix products over oneDNN, and the linear layer on top. The only file that knows the matrix engine: a
 * faster one (bf16, packed weights) replaces matmul here. Falls back on the plain product where oneDNN declines. */
#include "tensor/reference.h"
#include "tensor/vector_internal.h"

#include <dnnl.h>
#include <omp.h>

void tensor_use_threads(uint32_t most)
{
    const uint32_t threads = parallel_threads();
    omp_set_num_threads((int)(threads < most ? threads : most));
}

void matmul(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const float *a, size_t lda,
            const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const dnnl_status_t status =
        dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, 1.0f,
                   a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc);
    if (status != dnnl_success)
        reference_matmul_f32(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

CPU_CLONES
static void add_bias(float *y, const float *bias, size_t rows, size_t out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < out; i++)
            y[r * out + i] += bias[i];
}

void linear_forward(float *y, const float *x, const float *w, const float *bias, size_t rows, size_t in, size_t out)
{
    matmul(false, true, rows, out, in, x, in, w, in, 0.0f, y, out);
    if (!bias)
        return;
#pragma omp parallel for schedule(static) if (rows * out > BLOCK)
    for (size_t r = 0; r < rows; r += 8)
        add_bias(y + r * out, bias, rows - r < 8 ? rows - r : 8, out);
}

void linear_backward(float *dx, float dx_beta, float *dw, float *dbias, const float *dy, const float *x, const float *w,
                     size_t rows, size_t in, size_t out)
{
    if (dx)
        matmul(false, false, rows, in, out, dy, out, w, in, dx_beta, dx, in);
    matmul(true, false, out, in, rows, dy, out, x, in, 1.0f, dw, in);
    if (dbias)
        bias_backward(dbias, dy, rows, out);
}
