/* optimizer.c: the loss, the gradient's norm and the AdamW update. Sums run over fixed blocks in double, so that they
 * do not depend on the number of threads. */
#include "tensor/vector_internal.h"

double bce_logits(float *dlogits, const float *logits, const uint8_t *labels, const float *weights, size_t n,
                  double total)
{
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = (double)logits[i], y = labels[i], w = (weights ? (double)weights[i] : 1) / total;
        /* log(1 + e^x) - x y, without overflow */
        loss += w * (fmax(x, 0) - x * y + log1p(exp(-fabs(x))));
        dlogits[i] = (float)(w * (1 / (1 + exp(-x)) - y));
    }
    return loss;
}

CPU_CLONES
static double squares(const float *x, size_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

double gradient_norm(const float *gradients, size_t n)
{
    enum { PARTS = 256 };
    double part[PARTS] = {0}, sum = 0;
    const size_t blocks = block_count(n);
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t p = 0; p < PARTS; p++)
        for (size_t i = p * blocks / PARTS; i < (p + 1) * blocks / PARTS; i++)
            part[p] += squares(gradients + i * BLOCK, block_length(n, i));
    for (size_t p = 0; p < PARTS; p++)
        sum += part[p];
    return sqrt(sum);
}

CPU_CLONES
static void adamw_block(float *p, float *g, float *m, float *v, size_t n, const adamw_constants *constants)
{
    const adamw_constants c = *constants;
    for (size_t i = 0; i < n; i++) {
        const float gradient = g[i] * c.gradient_scale;
        m[i] = c.beta1 * m[i] + (1 - c.beta1) * gradient;
        v[i] = c.beta2 * v[i] + (1 - c.beta2) * gradient * gradient;
        p[i] = p[i] * c.keep - c.step_size * m[i] / (sqrtf(v[i]) * c.root_scale + c.epsilon);
        g[i] = 0;
    }
}

adamw_constants adamw_prepare(const adamw *options, bool decay)
{
    const double t = (double)options->step;
    return (adamw_constants){
        .gradient_scale = (float)options->gradient_scale,
        .beta1 = (float)options->beta1,
        .beta2 = (float)options->beta2,
        .step_size = (float)(options->learning_rate / (1 - pow(options->beta1, t))),
        .keep = (float)(1 - (decay ? options->learning_rate * options->weight_decay : 0)),
        .root_scale = (float)(1 / sqrt(1 - pow(options->beta2, t))),
        .epsilon = (float)options->epsilon,
    };
}

void adamw_step(float *parameters, float *gradients, float *moment1, float *moment2, size_t n, bool decay,
                const adamw *options)
{
    const adamw_constants c = adamw_prepare(options, decay);
#pragma omp parallel for schedule(static) if (n > BLOCK)
    for (size_t i = 0; i < block_count(n); i++) {
        const size_t at = i * BLOCK;
        adamw_block(parameters + at, gradients + at, moment1 + at, moment2 + at, block_length(n, i), &c);
    }
}

CPU_CLONES
static void decay_block(float *p, size_t n, float keep)
{
    for (size_t i = 0; i < n; i++)
        p[i] *= keep;
}

static bool all_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0.0f)
            return false;
    return true;
}

void adamw_catch_up(float *parameters, float *moment1, float *moment2, size_t n, const adamw_constants *steps,
                    size_t n_steps)
{
    enum { PIECE = 512 };
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t length = n - at < PIECE ? n - at : PIECE;
        float zeros[PIECE] = {0};
        const bool still = all_zero(moment1 + at, length) && all_zero(moment2 + at, length);
        for (size_t i = 0; i < n_steps; i++)
            if (still)
                decay_block(parameters + at, length, steps[i].keep);
            else
                adamw_block(parameters + at, zeros, moment1 + at, moment2 + at, length, &steps[i]);
    }
}
