/* compare.h: what the gradient tests share: values in float and double at once, finite differences in double, and the
 * comparison. A comparison has two halves: each element within an absolute and a relative tolerance, measured by the
 * tensor's own size, and the angle between the two tensors: so that a gradient of zeros never passes as a small one. */
#ifndef DRR_TESTS_GRAD_COMPARE_H
#define DRR_TESTS_GRAD_COMPARE_H

#include "core/core.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static arena *memory; /* of one test */

static inline int take_memory(void **state)
{
    (void)state;
    memory = arena_new(1 << 20);
    return memory ? 0 : -1;
}

static inline int give_memory(void **state)
{
    (void)state;
    arena_free(memory);
    return 0;
}

typedef struct values { /* the same numbers twice */
    float *f;
    double *d;
    size_t n;
} values;

static inline values zeros(size_t n)
{
    const values v = {arena_alloc(memory, n * sizeof(float) + 64, 64), arena_alloc(memory, n * sizeof(double) + 64, 64),
                      n};
    assert_non_null(v.f);
    assert_non_null(v.d);
    return v;
}

static inline values draw(size_t n, uint64_t seed, double scale)
{
    const values v = zeros(n);
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        v.f[i] = (float)(scale * rng_normal(&r));
        v.d[i] = (double)v.f[i];
    }
    return v;
}

static inline double product(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static inline void assert_close(const char *what, const double *got, const double *want, size_t n, double tolerance)
{
    const double norm = sqrt(product(want, want, n)), size = norm / sqrt((double)n);
    const double cosine = product(got, want, n) / (norm * sqrt(product(got, got, n)));
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * (size + fabs(want[i]))))
            fail_msg("%s: element %zu of %zu is %.9g, expected %.9g (typical %.3g)", what, i, n, got[i], want[i], size);
    if (norm > 0 && !(cosine >= 1 - tolerance))
        fail_msg("%s: the cosine is %.9f", what, cosine);
}

static inline void assert_close_f(const char *what, const float *got, const double *want, size_t n, double tolerance)
{
    double *wide = malloc((n + 1) * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)got[i];
    assert_close(what, wide, want, n, tolerance);
    free(wide);
}

typedef double (*loss_fn)(void *context);

/* Central differences of loss(context) by x, which the loss reads; error of order h^2. */
static inline double *differences(double *x, size_t n, loss_fn loss, void *context)
{
    const double h = 1e-4;
    double *gradient = arena_alloc(memory, n * sizeof *gradient + 8, 8);
    assert_non_null(gradient);
    for (size_t i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = kept + h;
        const double above = loss(context);
        x[i] = kept - h;
        gradient[i] = (above - loss(context)) / (2 * h);
        x[i] = kept;
    }
    return gradient;
}

#endif
