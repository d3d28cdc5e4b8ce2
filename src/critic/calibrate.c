/* calibrate.c: Platt scaling: two numbers that turn an encoder's logit into a probability, fitted by maximum likelihood
 * on rows that the encoder has not trained on. Targets are Platt's smoothed ones, (n1 + 1) / (n1 + 2) and
 * 1 / (n0 + 2), so that separable rows have a finite fit (Platt 1999, section 2.2). */
#include "critic/critic.h"

#include <math.h>

enum { MOST_STEPS = 100, MOST_HALVINGS = 30 };

static double log_one_plus_exp(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double loss_at(const platt *p, const double *logits, const uint8_t *labels, size_t n, const double target[2])
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double z = p->a * logits[i] + p->b;
        sum += log_one_plus_exp(z) - target[labels[i] != 0] * z;
    }
    return sum;
}

/* One Newton step with halving; false when no step lowers the loss any more. */
static bool improve(platt *p, double *loss, const double *logits, const uint8_t *labels, size_t n,
                    const double target[2])
{
    double ga = 0, gb = 0, haa = 1e-9, hab = 0, hbb = 1e-9;
    for (size_t i = 0; i < n; i++) {
        const double q = sigmoid(p->a * logits[i] + p->b), w = q * (1 - q), d = q - target[labels[i] != 0];
        ga += d * logits[i];
        gb += d;
        haa += w * logits[i] * logits[i];
        hab += w * logits[i];
        hbb += w;
    }
    const double determinant = haa * hbb - hab * hab;
    if (!(determinant > 0))
        return false;
    const double da = (hbb * ga - hab * gb) / determinant, db = (haa * gb - hab * ga) / determinant;
    double size = 1;
    for (int i = 0; i < MOST_HALVINGS; i++, size /= 2) {
        const platt next = {p->a - size * da, p->b - size * db};
        const double at = loss_at(&next, logits, labels, n, target);
        if (at < *loss - 1e-12 * fabs(*loss)) {
            *p = next;
            *loss = at;
            return true;
        }
    }
    return false;
}

drr_status platt_fit(platt *p, const double *logits, const uint8_t *labels, size_t n, drr_error *err)
{
    double ones = 0, zeros = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(logits[i]))
            return error_set(err, DRR_E_ARGUMENT, "row %zu of the rows to calibrate on has no finite logit", i);
        *(labels[i] ? &ones : &zeros) += 1;
    }
    if (n == 0)
        return error_set(err, DRR_E_EMPTY, "there are no rows to calibrate on");
    const double target[2] = {1 / (zeros + 2), (ones + 1) / (ones + 2)};
    platt fitted = {0, log((ones + 1) / (zeros + 1))};
    double loss = loss_at(&fitted, logits, labels, n, target);
    for (int i = 0; i < MOST_STEPS && improve(&fitted, &loss, logits, labels, n, target); i++)
        ;
    *p = fitted;
    return DRR_OK;
}
