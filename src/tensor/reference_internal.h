/* reference_internal.h: the plain kernels' bodies, written for a type `real`; reference_f32.c and reference_f64.c each
 * include it once, having defined real and KERNEL(name). See reference.h. */
#include "tensor/reference.h"

#include <math.h>

void KERNEL(matmul)(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const real *a, size_t lda,
                    const real *b, size_t ldb, real beta, real *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = 0;
            for (size_t l = 0; l < k; l++)
                sum +=
                    (transpose_a ? a[l * lda + i] : a[i * lda + l]) * (transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = (beta != 0 ? beta * c[i * ldc + j] : 0) + sum;
        }
}

void KERNEL(linear_forward)(real *y, const real *x, const real *w, const real *bias, size_t rows, size_t in, size_t out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            real sum = bias ? bias[o] : 0;
            for (size_t i = 0; i < in; i++)
                sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
}

void KERNEL(linear_backward)(real *dx, real dx_beta, real *dw, real *dbias, const real *dy, const real *x,
                             const real *w, size_t rows, size_t in, size_t out)
{
    for (size_t r = 0; r < rows && dx; r++)
        for (size_t i = 0; i < in; i++) {
            real sum = 0;
            for (size_t o = 0; o < out; o++)
                sum += dy[r * out + o] * w[o * in + i];
            dx[r * in + i] = (dx_beta != 0 ? dx_beta * dx[r * in + i] : 0) + sum;
        }
    for (size_t o = 0; o < out; o++)
        for (size_t r = 0; r < rows; r++) {
            if (dbias)
                dbias[o] += dy[r * out + o];
            for (size_t i = 0; i < in; i++)
                dw[o * in + i] += dy[r * out + o] * x[r * in + i];
        }
}

void KERNEL(gelu_forward)(real *y, const real *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (real)(0.5 * (double)x[i] * (1 + erf((double)x[i] * 0.7071067811865476)));
}

void KERNEL(gelu_backward)(real *dx, const real *dy, const real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i];
        const double slope =
            0.5 * (1 + erf(v * 0.7071067811865476)) + v * 0.3989422804014327 * exp(-0.5 * v * v); /* Phi + x phi */
        dx[i] = (real)((double)dy[i] * slope);
    }
}

void KERNEL(geglu_forward)(real *y, const real *up, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, y += width, up += 2 * width) {
        KERNEL(gelu_forward)(y, up, width);
        for (size_t i = 0; i < width; i++)
            y[i] *= up[width + i];
    }
}

void KERNEL(geglu_backward)(real *dup, const real *dy, const real *up, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, dup += 2 * width, dy += width, up += 2 * width) {
        KERNEL(gelu_forward)(dup + width, up, width);
        for (size_t i = 0; i < width; i++) {
            dup[width + i] *= dy[i];
            dup[i] = dy[i] * up[width + i];
        }
        KERNEL(gelu_backward)(dup, dup, up, width);
    }
}

void KERNEL(rotary)(real *x, size_t ld, const rotary_shape *shape, double base, bool back)
{
    const size_t width = shape->head_width, half = width / 2;
    for (size_t s = 0; s < shape->n; s++)
        for (size_t t = shape->starts[s]; t < shape->starts[s + 1]; t++)
            for (size_t i = 0; i < shape->heads * half; i++) {
                real *a = x + t * ld + i / half * width + i % half, *b = a + half;
                const double angle =
                    (double)(t - shape->starts[s]) * pow(base, -2.0 * (double)(i % half) / (double)width);
                const real c = (real)cos(angle), d = (real)sin(back ? -angle : angle), kept = *a;
                *a = kept * c - *b * d;
                *b = *b * c + kept * d;
            }
}

void KERNEL(rows_mean)(real *y, const real *x, const uint32_t *starts, size_t n, size_t width)
{
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < width; i++) {
            real sum = 0;
            for (size_t t = starts[s]; t < starts[s + 1]; t++)
                sum += x[t * width + i];
            y[s * width + i] = sum / (real)(starts[s + 1] - starts[s]);
        }
}

void KERNEL(tanh_forward)(real *y, const real *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (real)tanh((double)x[i]);
}

void KERNEL(tanh_backward)(real *dx, const real *dy, const real *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1 - y[i] * y[i]);
}

void KERNEL(dropout_add)(real *y, const real *x, const real *residual, size_t n, const dropout *site)
{
    for (size_t i = 0; i < n; i++) {
        const real factor = site && site->rate > 0 ? (real)dropout_factor(site, (uint32_t)i) : 1;
        y[i] = x[i] * factor + (residual ? residual[i] : 0);
    }
}

void KERNEL(layernorm_forward)(real *y, real *mean, real *rstd, const real *x, const real *gain, const real *shift,
                               size_t rows, size_t width, real epsilon)
{
    for (size_t r = 0; r < rows; r++, x += width, y += width) {
        real sum = 0, squares = 0;
        for (size_t i = 0; i < width; i++)
            sum += x[i];
        mean[r] = sum / (real)width;
        for (size_t i = 0; i < width; i++)
            squares += (x[i] - mean[r]) * (x[i] - mean[r]);
        rstd[r] = (real)(1 / sqrt((double)(squares / (real)width + epsilon)));
        for (size_t i = 0; i < width; i++)
            y[i] = (x[i] - mean[r]) * rstd[r] * gain[i] + (shift ? shift[i] : 0);
    }
}

void KERNEL(layernorm_backward)(real *dx, real *dgain, real *dshift, const real *dy, const real *x, const real *mean,
                                const real *rstd, const real *gain, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, x += width, dx += width, dy += width) {
        real sum = 0, product = 0;
        for (size_t i = 0; i < width; i++) {
            const real h = (x[i] - mean[r]) * rstd[r];
            dgain[i] += dy[i] * h;
            if (dshift)
                dshift[i] += dy[i];
            sum += dy[i] * gain[i];
            product += dy[i] * gain[i] * h;
        }
        for (size_t i = 0; i < width; i++) {
            const real h = (x[i] - mean[r]) * rstd[r];
            dx[i] = rstd[r] * (dy[i] * gain[i] - sum / (real)width - h * product / (real)width);
        }
    }
}

void KERNEL(embedding_forward)(real *y, const int32_t *ids, const uint32_t *starts, size_t n, const real *tokens,
                               const real *positions, const real *type, size_t width)
{
    for (size_t s = 0; s < n; s++)
        for (size_t t = starts[s]; t < starts[s + 1]; t++)
            for (size_t i = 0; i < width; i++)
                y[t * width + i] = tokens[(size_t)ids[t] * width + i] +
                                   (positions ? positions[(t - starts[s]) * width + i] + type[i] : 0);
}

void KERNEL(embedding_backward)(real *dtokens, real *dpositions, real *dtype, const real *dy, const int32_t *ids,
                                const uint32_t *starts, size_t n, size_t width)
{
    for (size_t s = 0; s < n; s++)
        for (size_t t = starts[s]; t < starts[s + 1]; t++)
            for (size_t i = 0; i < width; i++) {
                dtokens[(size_t)ids[t] * width + i] += dy[t * width + i];
                if (!dpositions)
                    continue;
                dpositions[(t - starts[s]) * width + i] += dy[t * width + i];
                dtype[i] += dy[t * width + i];
            }
}

void KERNEL(softmax_rows)(real *y, const real *x, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, x += width, y += width) {
        real most = x[0], sum = 0;
        for (size_t i = 1; i < width; i++)
            most = x[i] > most ? x[i] : most;
        for (size_t i = 0; i < width; i++) {
            y[i] = (real)exp((double)(x[i] - most));
            sum += y[i];
        }
        for (size_t i = 0; i < width; i++)
            y[i] /= sum;
    }
}

void KERNEL(softmax_rows_backward)(real *dx, const real *dy, const real *y, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, dx += width, dy += width, y += width) {
        real dot = 0;
        for (size_t i = 0; i < width; i++)
            dot += dy[i] * y[i];
        for (size_t i = 0; i < width; i++)
            dx[i] = y[i] * (dy[i] - dot);
    }
}

size_t KERNEL(attention_probabilities)(const attention_shape *shape)
{
    size_t total = 0;
    for (size_t s = 0; s < shape->n; s++)
        total += shape->heads * (shape->q_starts[s + 1] - shape->q_starts[s]) *
                 (shape->kv_starts[s + 1] - shape->kv_starts[s]);
    return total;
}

static real factor_of(const dropout *site, size_t piece, size_t index)
{
    if (!site || !(site->rate > 0))
        return 1;
    const dropout part = dropout_part(site, (uint32_t)piece);
    return (real)dropout_factor(&part, (uint32_t)index);
}

void KERNEL(attention_forward)(real *context, real *probabilities, const real *q, const real *kv,
                               const attention_shape *shape, const dropout *site)
{
    const size_t width = shape->width, head_width = width / shape->heads;
    const real scale = (real)(1 / sqrt((double)head_width));
    for (size_t piece = 0; piece < shape->n * shape->heads; piece++) {
        const size_t s = piece / shape->heads, column = piece % shape->heads * head_width;
        const size_t k0 = shape->kv_starts[s], nk = shape->kv_starts[s + 1] - k0;
        for (size_t i = shape->q_starts[s]; i < shape->q_starts[s + 1]; i++, probabilities += nk) {
            const real *query = q + i * width + column;
            real *out = context + i * width + column;
            for (size_t j = 0; j < nk; j++) {
                const real *key = kv + (k0 + j) * 2 * width + column;
                probabilities[j] = 0;
                for (size_t c = 0; c < head_width; c++)
                    probabilities[j] += query[c] * key[c] * scale;
                const size_t place = i - shape->q_starts[s], apart = place > j ? place - j : j - place;
                if (shape->window && apart > shape->window)
                    probabilities[j] = -(real)INFINITY;
            }
            KERNEL(softmax_rows)(probabilities, probabilities, 1, nk);
            for (size_t c = 0; c < head_width; c++)
                out[c] = 0;
            for (size_t j = 0; j < nk; j++) {
                const real *value = kv + (k0 + j) * 2 * width + width + column;
                const real p = probabilities[j] * factor_of(site, piece, (i - shape->q_starts[s]) * nk + j);
                for (size_t c = 0; c < head_width; c++)
                    out[c] += p * value[c];
            }
        }
    }
}

void KERNEL(attention_backward)(real *dq, real *dkv, const real *dcontext, const real *probabilities, const real *q,
                                const real *kv, const attention_shape *shape, const dropout *site)
{
    const size_t width = shape->width, head_width = width / shape->heads;
    const real scale = (real)(1 / sqrt((double)head_width));
    for (size_t i = 0; i < shape->q_starts[shape->n] * width; i++)
        dq[i] = 0;
    for (size_t i = 0; i < shape->kv_starts[shape->n] * 2 * width; i++)
        dkv[i] = 0;
    for (size_t piece = 0; piece < shape->n * shape->heads; piece++) {
        const size_t s = piece / shape->heads, column = piece % shape->heads * head_width;
        const size_t k0 = shape->kv_starts[s], nk = shape->kv_starts[s + 1] - k0;
        for (size_t i = shape->q_starts[s]; i < shape->q_starts[s + 1]; i++, probabilities += nk) {
            const real *query = q + i * width + column, *dout = dcontext + i * width + column;
            real dot = 0;
            for (int pass = 0; pass < 2; pass++) /* first the sum over keys of p dp, then the gradients */
                for (size_t j = 0; j < nk; j++) {
                    const real *key = kv + (k0 + j) * 2 * width + column, *value = key + width;
                    real *dkey = dkv + (k0 + j) * 2 * width + column, *dvalue = dkey + width;
                    const real factor = factor_of(site, piece, (i - shape->q_starts[s]) * nk + j);
                    real dp = 0;
                    for (size_t c = 0; c < head_width; c++)
                        dp += dout[c] * value[c] * factor;
                    if (pass == 0) {
                        dot += probabilities[j] * dp;
                        continue;
                    }
                    const real dscore = probabilities[j] * (dp - dot) * scale;
                    for (size_t c = 0; c < head_width; c++) {
                        dvalue[c] += probabilities[j] * factor * dout[c];
                        dq[i * width + column + c] += dscore * key[c];
                        dkey[c] += dscore * query[c];
                    }
                }
        }
    }
}

double KERNEL(bce_logits)(real *dlogits, const real *logits, const uint8_t *labels, const real *weights, size_t n,
                          double total)
{
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        const double p = 1 / (1 + exp(-(double)logits[i])), w = (weights ? (double)weights[i] : 1) / total;
        loss -= w * (labels[i] ? log(p) : log(1 - p));
        dlogits[i] = (real)(w * (p - labels[i]));
    }
    return loss;
}

double KERNEL(gradient_norm)(const real *gradients, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)gradients[i] * (double)gradients[i];
    return sqrt(sum);
}

void KERNEL(adamw_step)(real *parameters, real *gradients, real *moment1, real *moment2, size_t n, bool decay,
                        const adamw *o)
{
    const double correction1 = 1 - pow(o->beta1, (double)o->step), correction2 = 1 - pow(o->beta2, (double)o->step);
    for (size_t i = 0; i < n; i++) {
        const double g = (double)gradients[i] * o->gradient_scale;
        const double m = o->beta1 * (double)moment1[i] + (1 - o->beta1) * g;
        const double v = o->beta2 * (double)moment2[i] + (1 - o->beta2) * g * g;
        double p = (double)parameters[i];
        if (decay)
            p -= o->learning_rate * o->weight_decay * p;
        p -= o->learning_rate * (m / correction1) / (sqrt(v / correction2) + o->epsilon);
        parameters[i] = (real)p;
        moment1[i] = (real)m;
        moment2[i] = (real)v;
        gradients[i] = 0;
    }
}
