/* tensor.h: the door of src/tensor: the arithmetic of a BERT-family encoder, forward and backward, in fp32.
 *
 * Sequences are packed without padding: all tokens end to end, rows of `width` floats, starts[n + 1] the offsets of
 * the sequences. Matrices are row-major and contiguous unless a leading dimension is named. A weight is [out][in] as
 * in Hugging Face. Every kernel here has a plain twin in reference.h that the tests compare it with.
 *
 * `d`-names are gradients of the loss. A kernel that writes the gradient of a parameter adds to it; one that writes the
 * gradient of an activation overwrites it unless its comment says otherwise. Nothing here allocates; scratch memory
 * is the caller's. Threads are OpenMP's, because oneDNN's are: results depend on nothing but the inputs and the
 * number of threads, and apart from matrix products not even on that.
 *
 * Which matrix engine does the work is known to matmul.c alone. */
#ifndef DRR_TENSOR_H
#define DRR_TENSOR_H

#include "core/core.h"

/* Makes the calling thread's loops and products run on parallel_threads() threads, but on no more than `most`, for
 * which the caller's scratch was sized; called at the start of each pass. */
void tensor_use_threads(uint32_t most);

/* Around each pass, on the thread that runs it: tensor_use_threads, and between the two no signal is taken, for
 * oneDNN's products and a signal's handler do not bear one another (pass.c). May be nested. */
typedef struct tensor_pass {
    uint64_t signals[16]; /* a sigset_t: those that were held back before */
    bool has_tiles;
} tensor_pass;
void tensor_begin(tensor_pass *pass, uint32_t most);
void tensor_end(const tensor_pass *pass);
/* Inside a parallel region of OpenMP: which of its threads this is, and how many there are. */
uint32_t tensor_thread(void);
uint32_t tensor_team(void);

/* ---- matrix products (matmul.c) */
/* C[m][n] = op(A)[m][k] op(B)[k][n] + beta C. transpose_a: A is stored [k][m]; transpose_b: B is stored [n][k]. ld*:
 * floats between rows as stored. Runs on one thread inside a parallel region. */
void matmul(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const float *a, size_t lda,
            const float *b, size_t ldb, float beta, float *c, size_t ldc);
/* y[rows][out] = x[rows][in] w[out][in]^T + bias[out]; bias may be NULL, and then dbias is */
void linear_forward(float *y, const float *x, const float *w, const float *bias, size_t rows, size_t in, size_t out);
/* dx[rows][in] = dx_beta dx + dy w (skipped when dx is NULL); dw[out][in] += dy^T x; dbias[out] += column sums of dy.
 */
void linear_backward(float *dx, float dx_beta, float *dw, float *dbias, const float *dy, const float *x, const float *w,
                     size_t rows, size_t in, size_t out);

/* ---- element by element (pointwise.c) */
/* y = x Phi(x), Phi by the error function (BERT's "gelu"); y may be x. Absolute error below 1e-6 |x|. */
void gelu_forward(float *y, const float *x, size_t n);
void gelu_backward(float *dx, const float *dy, const float *x, size_t n); /* dx may be dy */
/* y[rows][width] = gelu(first half of a row of up[rows][2 width]) times its second half */
void geglu_forward(float *y, const float *up, size_t rows, size_t width);
void geglu_backward(float *dup, const float *dy, const float *up, size_t rows, size_t width);
void tanh_forward(float *y, const float *x, size_t n);
void tanh_backward(float *dx, const float *dy, const float *y, size_t n); /* from the output y */

/* Dropout is a function of (seed, step, site, index): the backward pass asks again instead of remembering. */
typedef struct dropout {
    float rate; /* 0: everything is kept */
    uint32_t key[2];
    uint32_t first; /* index (or part) that the site's first element (or part) has: what lies before it is elsewhere */
} dropout;
dropout dropout_site(float rate, uint64_t seed, uint64_t step, uint64_t site);
dropout dropout_part(const dropout *site, uint32_t part);  /* an independent stream of the same site */
float dropout_factor(const dropout *site, uint32_t index); /* 0 or 1 / (1 - rate) */
/* y = dropout(x) + residual; residual may be NULL; y may be x. Its own backward without the residual. */
void dropout_add(float *y, const float *x, const float *residual, size_t n, const dropout *site);

/* ---- layer normalisation (norm.c): y = (x - mean) / sqrt(variance + epsilon) * gain + shift, over each row; shift may
 * be NULL, and then dshift is */
void layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *shift,
                       size_t rows, size_t width, float epsilon);
void layernorm_backward(float *dx, float *dgain, float *dshift, const float *dy, const float *x, const float *mean,
                        const float *rstd, const float *gain, size_t rows, size_t width); /* dx may be dy */
/* dbias[width] += column sums of dy[rows][width] */
void bias_backward(float *dbias, const float *dy, size_t rows, size_t width);
/* y[i] = x[rows[i]]; and back: dx[rows[i]] += dy[i], rows without repetition */
void rows_gather(float *y, const float *x, const uint32_t *rows, size_t n, size_t width);
void rows_scatter_add(float *dx, const float *dy, const uint32_t *rows, size_t n, size_t width);

/* y[s] = mean of x's rows starts[s] .. starts[s + 1] (gated.c); the backward pass overwrites dx */
void rows_mean(float *y, const float *x, const uint32_t *starts, size_t n, size_t width);
void rows_mean_backward(float *dx, const float *dy, const uint32_t *starts, size_t n, size_t width);

/* ---- embeddings (embedding.c): y[t] = tokens[ids[t]] + positions[t - start of its sequence] + type[0]; positions and
 * type may both be NULL, and then their gradients are */
void embedding_forward(float *y, const int32_t *ids, const uint32_t *starts, size_t n, const float *tokens,
                       const float *positions, const float *type, size_t width);
void embedding_backward(float *dtokens, float *dpositions, float *dtype, const float *dy, const int32_t *ids,
                        const uint32_t *starts, size_t n, size_t width);

/* ---- rotary positions (rotary.c): of row t of a sequence, columns i and i + half of each head turn by the angle
 * t * base^(-2 i / head_width). table: [longest][head_width], cosines before sines. The backward pass turns back. */
typedef struct rotary_shape {
    size_t heads, head_width;
    const uint32_t *starts;
    size_t n;
} rotary_shape;
void rotary_table(float *table, size_t longest, size_t head_width, float base);
void rotary_forward(float *x, size_t ld, const rotary_shape *shape, const float *table);
void rotary_backward(float *dx, size_t ld, const rotary_shape *shape, const float *table);

/* ---- attention (attention.c): for each sequence and head, softmax(q k^T / sqrt(head width)) v
 * q[.][width] holds the queries of sequence s in rows q_starts[s] .. q_starts[s + 1]; kv[.][2 width] its keys (first
 * half of a row) and values in rows kv_starts[s] .. The two differ in the last layer, where only [CLS] asks. With a
 * window query i sees the keys i - window .. i + window alone.
 * log_sum[.][heads] keeps the softmax's logarithmic sum of each query and head, from which the backward pass makes the
 * probabilities again instead of storing them. scratch: attention_scratch(longest, threads) floats. */
typedef struct attention_shape {
    size_t width, heads;
    const uint32_t *q_starts, *kv_starts;
    size_t n, longest; /* sequences; most keys of one */
    size_t window;     /* 0: all keys are seen */
} attention_shape;
size_t attention_scratch(size_t longest, uint32_t threads);
void attention_forward(float *context, float *log_sum, const float *q, const float *kv, const attention_shape *shape,
                       const dropout *site, float *scratch);
void attention_backward(float *dq, float *dkv, const float *dcontext, const float *context, const float *log_sum,
                        const float *q, const float *kv, const attention_shape *shape, const dropout *site,
                        float *scratch);
void softmax_rows(float *y, const float *x, size_t rows, size_t width); /* y may be x */

/* ---- loss and optimizer (optimizer.c) */
/* Returns sum_i weights[i] * binary cross-entropy(logits[i], labels[i]) / total; dlogits[n] its gradient. weights
 * NULL: 1. */
double bce_logits(float *dlogits, const float *logits, const uint8_t *labels, const float *weights, size_t n,
                  double total);
double gradient_norm(const float *gradients, size_t n); /* Euclidean, summed in double */
typedef struct adamw {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    uint64_t step;         /* of this update, from 1: bias correction */
    double gradient_scale; /* what clipping multiplies the gradients with */
} adamw;
/* Loshchilov and Hutter's decoupled weight decay, as torch.optim.AdamW; clears the gradients behind itself. */
void adamw_step(float *parameters, float *gradients, float *moment1, float *moment2, size_t n, bool decay,
                const adamw *options);

/* What n_steps updates do to a row whose gradient is 0 in each of them: the same operations, so the same bits, but the
 * row is read and written once. Where both moments are 0 only the decay is left. */
typedef struct adamw_constants {
    float gradient_scale, beta1, beta2, step_size, keep, root_scale, epsilon;
} adamw_constants;
adamw_constants adamw_prepare(const adamw *options, bool decay); /* one update, ready for inner loops */
void adamw_catch_up(float *parameters, float *moment1, float *moment2, size_t n, const adamw_constants *steps,
                    size_t n_steps);

/* ---- which library and instructions do the arithmetic (describe.c) */
void tensor_describe(char *text, size_t size);
void tensor_onednn_version(char *text, size_t size); /* of the oneDNN that is loaded, and its commit */

#endif
