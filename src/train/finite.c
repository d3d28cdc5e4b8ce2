/* finite.c: where a number that is none came from, in the words of a user: which step, which tensor. */
#include "train/train.h"

#include <math.h>

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

const encoder_tensor *tensor_not_finite(const encoder *e, const float *values)
{
    for (size_t i = e->n_tensors; i-- > 0;) {
        const encoder_tensor *t = &e->tensors[i];
        if (!all_finite(values + t->offset, (size_t)t->rows * t->columns))
            return t;
    }
    return NULL;
}

drr_status checkpoint_finite(const checkpoint *c, const encoder *e, drr_error *err)
{
    static const char *const what[] = {"values", "first moments", "second moments"};
    const float *const arrays[] = {c->parameters, c->moment1, c->moment2};
    for (size_t a = 0; a < 3; a++) {
        const encoder_tensor *t = tensor_not_finite(e, arrays[a]);
        if (t)
            return error_set(err, DRR_E_BACKEND,
                             "after step %llu the %s of %s are not finite: this state is not kept; try a lower "
                             "learning rate",
                             (unsigned long long)c->step, what[a], t->name);
    }
    return DRR_OK;
}

static const encoder_tensor *largest(const encoder *e, double *magnitude)
{
    const encoder_tensor *found = &e->tensors[0];
    *magnitude = 0;
    for (size_t i = 0; i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        for (size_t k = 0; k < (size_t)t->rows * t->columns; k++)
            if (fabs((double)e->parameters[t->offset + k]) > *magnitude) {
                *magnitude = fabs((double)e->parameters[t->offset + k]);
                found = t;
            }
    }
    return found;
}

/* Where the loss itself is none, so is every gradient, and the parameters say more: one that is not finite, or the
 * largest, from which the pass overflowed. */
drr_status finite_explain(const encoder *e, const float *gradients, double loss, uint64_t step, uint64_t steps,
                          double learning_rate, drr_error *err)
{
    const unsigned long long at = (unsigned long long)step, of = (unsigned long long)steps;
    if (isfinite(loss)) {
        const encoder_tensor *t = tensor_not_finite(e, gradients);
        return error_set(
            err, DRR_E_BACKEND,
            "step %llu of %llu: the gradient of %s is not finite (loss %g): try a lower learning rate than "
            "%g",
            at, of, t ? t->name : "all parameters together", loss, learning_rate);
    }
    const encoder_tensor *t = tensor_not_finite(e, e->parameters);
    if (t)
        return error_set(err, DRR_E_BACKEND, "step %llu of %llu: the loss is %g, for %s has values that are not finite",
                         at, of, loss, t->name);
    double magnitude;
    t = largest(e, &magnitude);
    return error_set(
        err, DRR_E_BACKEND,
        "step %llu of %llu: the loss is %g; the largest parameter is one of %s, %.3g: try a lower learning "
        "rate than %g",
        at, of, loss, t->name, magnitude, learning_rate);
}
