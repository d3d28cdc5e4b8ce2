/* reference.h: the plain twin of every kernel of tensor.h, once in float and once in double: one thread, no tricks,
 * sums in order, libm's functions. The tests compare the fast kernels with the float ones and check the double ones'
 * gradients by finite differences. Shapes and meaning are tensor.h's; attention takes and keeps its probabilities
 * openly. */
#ifndef DRR_TENSOR_REFERENCE_H
#define DRR_TENSOR_REFERENCE_H

#include "tensor/tensor.h"

#define REFERENCE_DECLARE(real, suffix)                                                                                \
    void reference_matmul_##suffix(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const real *a,    \
                                   size_t lda, const real *b, size_t ldb, real beta, real *c, size_t ldc);             \
    void reference_linear_forward_##suffix(real *y, const real *x, const real *w, const real *bias, size_t rows,       \
                                           size_t in, size_t out);                                                     \
    void reference_linear_backward_##suffix(real *dx, real dx_beta, real *dw, real *dbias, const real *dy,             \
                                            const real *x, const real *w, size_t rows, size_t in, size_t out);         \
    void reference_gelu_forward_##suffix(real *y, const real *x, size_t n);                                            \
    void reference_gelu_backward_##suffix(real *dx, const real *dy, const real *x, size_t n);                          \
    void reference_geglu_forward_##suffix(real *y, const real *up, size_t rows, size_t width);                         \
    void reference_geglu_backward_##suffix(real *dup, const real *dy, const real *up, size_t rows, size_t width);      \
    void reference_rotary_##suffix(real *x, size_t ld, const rotary_shape *shape, double base, bool back);             \
    void reference_rows_mean_##suffix(real *y, const real *x, const uint32_t *starts, size_t n, size_t width);         \
    void reference_tanh_forward_##suffix(real *y, const real *x, size_t n);                                            \
    void reference_tanh_backward_##suffix(real *dx, const real *dy, const real *y, size_t n);                          \
    void reference_dropout_add_##suffix(real *y, const real *x, const real *residual, size_t n, const dropout *site);  \
    void reference_layernorm_forward_##suffix(real *y, real *mean, real *rstd, const real *x, const real *gain,        \
                                              const real *shift, size_t rows, size_t width, real epsilon);             \
    void reference_layernorm_backward_##suffix(real *dx, real *dgain, real *dshift, const real *dy, const real *x,     \
                                               const real *mean, const real *rstd, const real *gain, size_t rows,      \
                                               size_t width);                                                          \
    void reference_embedding_forward_##suffix(real *y, const int32_t *ids, const uint32_t *starts, size_t n,           \
                                              const real *tokens, const real *positions, const real *type,             \
                                              size_t width);                                                           \
    void reference_embedding_backward_##suffix(real *dtokens, real *dpositions, real *dtype, const real *dy,           \
                                               const int32_t *ids, const uint32_t *starts, size_t n, size_t width);    \
    void reference_softmax_rows_##suffix(real *y, const real *x, size_t rows, size_t width);                           \
    void reference_softmax_rows_backward_##suffix(real *dx, const real *dy, const real *y, size_t rows, size_t width); \
    /* probabilities: for sequence s and head h, [queries][keys], one after another */                                 \
    size_t reference_attention_probabilities_##suffix(const attention_shape *shape);                                   \
    void reference_attention_forward_##suffix(real *context, real *probabilities, const real *q, const real *kv,       \
                                              const attention_shape *shape, const dropout *site);                      \
    void reference_attention_backward_##suffix(real *dq, real *dkv, const real *dcontext, const real *probabilities,   \
                                               const real *q, const real *kv, const attention_shape *shape,            \
                                               const dropout *site);                                                   \
    double reference_bce_logits_##suffix(real *dlogits, const real *logits, const uint8_t *labels,                     \
                                         const real *weights, size_t n, double total);                                 \
    double reference_gradient_norm_##suffix(const real *gradients, size_t n);                                          \
    void reference_adamw_step_##suffix(real *parameters, real *gradients, real *moment1, real *moment2, size_t n,      \
                                       bool decay, const adamw *options);

REFERENCE_DECLARE(float, f32)
REFERENCE_DECLARE(double, f64)

#endif
