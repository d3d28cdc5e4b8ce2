/* bf16.h: the other half of src/tensor's door: what mixed precision needs. A bf16 is the upper half of a float: 8 bits
 * of exponent, 7 of mantissa. Matrix products take bf16 and add up in fp32; parameters, their gradients, the residual
 * stream, softmax, norms and all sums stay fp32. Shapes, packing and the meaning of `d` are tensor.h's.
 *
 * Rows that a product touches come in multiples of PRODUCT_ROWS: every bf16 matrix here, and every fp32 one that a
 * product writes, has memory for its rows rounded up to that. What stands in the rows above is of no meaning. */
#ifndef DRR_TENSOR_BF16_H
#define DRR_TENSOR_BF16_H

#include "tensor/tensor.h"

typedef uint16_t bf16;

/* To the nearest, ties to even; a NaN stays one. */
static inline bf16 bf16_of(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {x};
    const uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16, quiet = (v.u >> 16) | 0x40u;
    return (bf16)((v.u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

static inline float bf16_float(bf16 x)
{
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)x << 16};
    return v.f;
}

/* ---- matrix products (product.c) */
bool bf16_is_native(void); /* this CPU multiplies bf16 itself (AVX512_BF16 or AMX), and oneDNN may use it */

enum { PRODUCT_ROWS = 64 };
static inline size_t product_rows(size_t rows)
{
    return (rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS * PRODUCT_ROWS;
}

typedef enum product_kind {
    PRODUCT_FORWARD,  /* y[rows][out] (bf16) = x[rows][in] w[out][in]^T + bias[out] */
    PRODUCT_BACK,     /* dx[rows][in] (bf16) = dy[rows][out] w */
    PRODUCT_BACK_ADD, /* dx[rows][in] (fp32) += dy[rows][out] w */
    PRODUCT_WEIGHT    /* dw[out][in] (fp32) += dy[rows][out]^T x[rows][in] */
} product_kind;

/* Everything that one pass's products need, made before it: for each kind and shape the code for 64, 128 .. rows, of
 * which any number of rows is put together. One pass at a time. */
typedef struct products products;
/* most_rows: of any product. Runs on parallel_threads() threads as they are now. */
drr_status products_new(products **p, size_t most_rows, drr_error *err);
void products_free(products *p);
/* Makes a product of one shape ready; again is no error. DRR_E_BACKEND where oneDNN cannot. */
drr_status products_add(products *p, product_kind kind, size_t in, size_t out, drr_error *err);
/* Elements of w in the layout that this product wants, which is oneDNN's affair. Not of PRODUCT_WEIGHT. */
size_t products_packed(const products *p, product_kind kind, size_t in, size_t out);
void products_pack(products *p, product_kind kind, size_t in, size_t out, bf16 *packed, const float *w);
/* The first three kinds: y or dx from x or dy and packed weights; bias for PRODUCT_FORWARD alone. */
void products_run(products *p, product_kind kind, size_t in, size_t out, size_t rows, void *result, const bf16 *rows_in,
                  const bf16 *packed, const float *bias);
/* PRODUCT_WEIGHT; clears what stands in dy and x from `rows` up to the next multiple of PRODUCT_ROWS. */
void products_weight(products *p, size_t in, size_t out, size_t rows, float *dw, bf16 *dy, bf16 *x);
/* DRR_E_BACKEND when a product failed since the last call (oneDNN out of memory), so that results are not to be used.
 */
drr_status products_check(products *p, drr_error *err);

/* ---- element by element and by row (bf16.c) */
void bf16_round(bf16 *y, const float *x, size_t n);
void bf16_gelu_forward(bf16 *y, const bf16 *x, size_t n);
/* dx = dy gelu'(x), and y = gelu(x) again, which the forward pass did not keep; dx may be dy. */
void bf16_gelu_backward(bf16 *dx, bf16 *y, const bf16 *dy, const bf16 *x, size_t n);
void bf16_bias_backward(float *dbias, const bf16 *dy, size_t rows, size_t width);
void bf16_rows_gather(bf16 *y, const bf16 *x, const uint32_t *rows, size_t n, size_t width);
/* sum = dropout(branch) + residual; y = layer norm of sum, in fp32 and in bf16. y may be residual. */
void bf16_add_norm(float *sum, float *mean, float *rstd, float *y, bf16 *y16, const bf16 *branch, const float *residual,
                   const dropout *site, const float *gain, const float *shift, size_t rows, size_t width,
                   float epsilon);
/* And back: dx, of sum, from dy; dbranch = dropout(dx) in bf16, and dbias its column sums. dx may be dy.
 * scratch: norm_scratch(rows, width) floats. */
void bf16_add_norm_backward(float *dx, bf16 *dbranch, float *dgain, float *dshift, float *dbias, const float *dy,
                            const float *sum, const float *mean, const float *rstd, const float *gain,
                            const dropout *site, size_t rows, size_t width, float *scratch);
size_t norm_scratch(size_t rows, size_t width);

/* ---- attention (attention.c): tensor.h's, with q, kv, context and their gradients in bf16; inside it is fp32 */
size_t bf16_attention_scratch(size_t longest, size_t head_width, uint32_t threads);
void bf16_attention_forward(bf16 *context, float *log_sum, const bf16 *q, const bf16 *kv, const attention_shape *shape,
                            const dropout *site, float *scratch);
void bf16_attention_backward(bf16 *dq, bf16 *dkv, const bf16 *dcontext, const bf16 *context, const float *log_sum,
                             const bf16 *q, const bf16 *kv, const attention_shape *shape, const dropout *site,
                             float *scratch);

#endif
