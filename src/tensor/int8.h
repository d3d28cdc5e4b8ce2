/* int8.h: matrix products of 8-bit integers, for scoring alone: weights are rounded once, each output with a scale of
 * its own, activations row by row as they come, each row with one and with a zero of its own, for what GELU and norms
 * give does not lie evenly about 0. Integers are added up exactly; what comes out is fp32.
 *
 *     y[r][o] = (sum_i (x8[r][i] - x_zero[r]) w8[o][i]) x_scale[r] w_scale[o] + bias[o],  w8 and x8 from -127 to 127
 *
 * Also attention for scoring, which needs neither logarithmic sums nor dropout. Everything here runs on the calling
 * thread: encoder_int8.c divides rows and heads among threads, once a layer and not once a kernel. */
#ifndef DRR_TENSOR_INT8_H
#define DRR_TENSOR_INT8_H

#include "tensor/tensor.h"

bool int8_is_native(void); /* this CPU multiplies them itself (AVX512_VNNI) */

/* Rounded rows: `ld` bytes apart, int8_ld(width). zero: the integer that stands for 0, within x8's range. offset: 128
 * times the sum of a row's integers, which the product takes back, for the CPU multiplies signed by unsigned bytes and
 * weights are stored with 128 added. */
size_t int8_ld(size_t width);
typedef struct int8_rows {
    int8_t *data;
    float *scale, *zero;
    int32_t *offset;
    size_t ld;
} int8_rows;
void int8_round(const int8_rows *to, const float *x, size_t rows, size_t width);

typedef struct int8_weights { /* of one product, packed; data, scale and sum are the caller's */
    size_t in, out;
    uint8_t *data; /* int8_packed(in, out) bytes, aligned to 64 */
    float *scale;  /* int8_scales(out) */
    float *sum;    /* int8_scales(out): of an output's integers, by which a row's zero is taken back */
} int8_weights;
size_t int8_packed(size_t in, size_t out);
size_t int8_scales(size_t out);
void int8_pack(const int8_weights *w, const float *plain); /* from plain[out][in] */
/* y[rows][out], rows ld floats apart. */
void int8_product(float *y, size_t ld, const int8_rows *x, size_t rows, const int8_weights *w, const float *bias);

/* x = gelu(x), rounded as int8_round does; `x` is overwritten. */
void int8_gelu_round(const int8_rows *to, float *x, size_t rows, size_t width);
/* x = layer norm of x + branch, in fp32 and, unless `to` is NULL, rounded. branch NULL: of x. */
void int8_add_norm(const int8_rows *to, float *x, const float *branch, const float *gain, const float *shift,
                   size_t rows, size_t width, float epsilon);

/* Attention of n_q queries to n keys, one head: context = softmax(q k^T / sqrt(head_width)) v. Rows are ld floats apart
 * (q_ld of queries, context_ld of context). head_width: a multiple of 16, at most 128. scratch:
 * score_attention_scratch(n, head_width) floats. */
size_t score_attention_scratch(size_t n, size_t head_width);
bool score_attention_takes(size_t head_width);
void score_attention(float *context, size_t context_ld, const float *q, size_t q_ld, const float *k, const float *v,
                     size_t ld, size_t n_q, size_t n, size_t head_width, float *scratch);

#endif
