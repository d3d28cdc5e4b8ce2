/* calibrate.c: from an encoder's or a stack's log-odds to a probability, fitted on rows that neither was fitted on: by
 * one number (temperature), two (Platt) or a rising curve (isotonic.c), whichever does best on questions held out from
 * its own fit. Targets of the first two are Platt's smoothed ones, (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), so that
 * separable rows have a finite fit (Platt 1999, section 2.2). */
#include "critic/critic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 100, MOST_HALVINGS = 30 };

static double log_one_plus_exp(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

typedef struct rows { /* what a line is fitted to */
    const double *logits, *weights;
    const uint8_t *labels;
    size_t n;
    double target[2];
    bool offset;
} rows;

static double weight_of(const rows *r, size_t i)
{
    return r->weights ? r->weights[i] : 1;
}

static double loss_at(const platt *p, const rows *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        const double z = p->a * r->logits[i] + p->b;
        sum += weight_of(r, i) * (log_one_plus_exp(z) - r->target[r->labels[i] != 0] * z);
    }
    return sum;
}

/* One Newton step with halving; false when no step lowers the loss any more. */
static bool improve(platt *p, double *loss, const rows *r)
{
    double ga = 0, gb = 0, haa = 1e-9, hab = 0, hbb = 1e-9;
    for (size_t i = 0; i < r->n; i++) {
        const double q = sigmoid(p->a * r->logits[i] + p->b), w = weight_of(r, i) * q * (1 - q);
        const double d = weight_of(r, i) * (q - r->target[r->labels[i] != 0]);
        ga += d * r->logits[i];
        gb += d;
        haa += w * r->logits[i] * r->logits[i];
        hab += w * r->logits[i];
        hbb += w;
    }
    if (!r->offset) { /* b stays where it is */
        gb = hab = 0;
        hbb = 1;
    }
    const double determinant = haa * hbb - hab * hab;
    if (!(determinant > 0))
        return false;
    const double da = (hbb * ga - hab * gb) / determinant, db = (haa * gb - hab * ga) / determinant;
    double size = 1;
    for (int i = 0; i < MOST_HALVINGS; i++, size /= 2) {
        const platt next = {p->a - size * da, p->b - size * db};
        const double at = loss_at(&next, r);
        if (at < *loss - 1e-12 * fabs(*loss)) {
            *p = next;
            *loss = at;
            return true;
        }
    }
    return false;
}

drr_status line_fit(platt *p, const double *logits, const uint8_t *labels, const double *weights, size_t n, bool offset,
                    drr_error *err)
{
    const double coolest = 1e-3; /* a temperature cannot turn an order round */
    rows r = {.logits = logits, .weights = weights, .labels = labels, .n = n, .offset = offset};
    double ones = 0, zeros = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(logits[i]))
            return error_set(err, DRR_E_ARGUMENT, "row %zu of the rows to calibrate on has no finite logit", i);
        *(labels[i] ? &ones : &zeros) += weight_of(&r, i);
    }
    if (n == 0)
        return error_set(err, DRR_E_EMPTY, "there are no rows to calibrate on");
    r.target[0] = 1 / (zeros + 2);
    r.target[1] = (ones + 1) / (ones + 2);
    platt fitted = offset ? (platt){0, log((ones + 1) / (zeros + 1))} : (platt){1, 0};
    double loss = loss_at(&fitted, &r);
    for (int i = 0; i < MOST_STEPS && improve(&fitted, &loss, &r); i++)
        ;
    if (!offset && fitted.a < coolest)
        fitted.a = coolest;
    *p = fitted;
    return DRR_OK;
}

drr_status platt_fit(platt *p, const double *logits, const uint8_t *labels, size_t n, drr_error *err)
{
    return line_fit(p, logits, labels, NULL, n, true, err);
}

/* ---- any of them */

const char *calibration_name(calibration_kind kind)
{
    static const char *const names[CALIBRATION_KINDS] = {"none", "temperature", "platt", "isotonic"};
    return kind >= 0 && kind < CALIBRATION_KINDS ? names[kind] : "unknown";
}

calibration_kind calibration_kind_of(const calibration *c)
{
    if (c->steps.n)
        return CALIBRATION_ISOTONIC;
    if (fabs(c->line.b) > 0)
        return CALIBRATION_PLATT;
    return fabs(c->line.a - 1) > 0 ? CALIBRATION_TEMPERATURE : CALIBRATION_NONE;
}

double calibration_apply(const calibration *c, double logit)
{
    return c->steps.n ? curve_at(&c->steps, logit) : sigmoid(c->line.a * logit + c->line.b);
}

drr_status calibration_fit(calibration *c, calibration_kind kind, const double *logits, const uint8_t *labels,
                           const double *weights, size_t n, drr_error *err)
{
    calibration fitted = {.line = {1, 0}};
    drr_status status = DRR_OK;
    if (kind != CALIBRATION_NONE) /* beside a curve the line is for readers that know no curves */
        status = line_fit(&fitted.line, logits, labels, weights, n, kind != CALIBRATION_TEMPERATURE, err);
    if (status == DRR_OK && kind == CALIBRATION_ISOTONIC)
        status = curve_fit(&fitted.steps, logits, labels, weights, n, err);
    if (status == DRR_OK)
        *c = fitted;
    return status;
}

/* ---- picking one */

typedef struct parting { /* rows of the other folds, moved together */
    double *logits, *weights;
    uint8_t *labels;
    size_t n;
} parting;

static double log_loss(const calibration *c, double logit, uint8_t label)
{
    const double p = calibration_apply(c, logit);
    return -log(fmax(label ? p : 1 - p, 1e-12));
}

enum { MOST_FOLDS = 16 };

/* Mean loss of each fold's rows by what was fitted to the others'. */
static drr_status held_out_losses(double *loss, calibration_kind kind, parting *others, const rows *r,
                                  const uint8_t *folds, uint8_t n_folds, drr_error *err)
{
    for (uint8_t f = 0; f < n_folds; f++) {
        calibration c;
        double sum = 0, weight = 0;
        others->n = 0;
        for (size_t i = 0; i < r->n; i++)
            if (folds[i] != f) {
                others->logits[others->n] = r->logits[i];
                others->weights[others->n] = weight_of(r, i);
                others->labels[others->n++] = r->labels[i];
            }
        loss[f] = NAN;
        if (others->n == 0 || others->n == r->n) /* nothing to fit on, or nothing held out */
            continue;
        drr_status status = calibration_fit(&c, kind, others->logits, others->labels, others->weights, others->n, err);
        if (status != DRR_OK)
            return status;
        for (size_t i = 0; i < r->n; i++)
            if (folds[i] == f) {
                sum += weight_of(r, i) * log_loss(&c, r->logits[i], r->labels[i]);
                weight += weight_of(r, i);
            }
        loss[f] = sum / weight;
    }
    return DRR_OK;
}

static double mean_of(const double *values, uint8_t n)
{
    double sum = 0;
    for (uint8_t i = 0; i < n; i++)
        sum += values[i] / n;
    return sum;
}

/* Is `other` better than `simple` by more than the standard error of the difference over the folds? */
static bool is_better(const double *other, const double *simple, uint8_t n_folds)
{
    double difference[MOST_FOLDS], squares = 0;
    for (uint8_t f = 0; f < n_folds; f++)
        difference[f] = simple[f] - other[f];
    const double mean = mean_of(difference, n_folds);
    for (uint8_t f = 0; f < n_folds; f++)
        squares += (difference[f] - mean) * (difference[f] - mean);
    return mean > sqrt(squares / ((double)n_folds * (n_folds - 1)));
}

drr_status calibration_choose(calibration *c, double *loss, calibration_kind first, const double *logits,
                              const uint8_t *labels, const double *weights, const uint8_t *folds, uint8_t n_folds,
                              size_t n, drr_error *err)
{
    const rows r = {.logits = logits, .weights = weights, .labels = labels, .n = n};
    double losses[CALIBRATION_KINDS][MOST_FOLDS];
    calibration_kind best = first;
    if (n_folds < 2 || n_folds > MOST_FOLDS)
        return error_set(err, DRR_E_ARGUMENT, "%u folds to pick a calibration by; 2 to %d are possible", n_folds,
                         MOST_FOLDS);
    parting others = {calloc(n + 1, sizeof(double)), calloc(n + 1, sizeof(double)), calloc(n + 1, 1), 0};
    drr_status status = others.logits && others.weights && others.labels ? DRR_OK : error_memory(err);
    for (int kind = 0; status == DRR_OK && kind < CALIBRATION_KINDS; kind++) {
        loss[kind] = NAN;
        if (kind < (int)first)
            continue;
        status = held_out_losses(losses[kind], (calibration_kind)kind, &others, &r, folds, n_folds, err);
        if (status == DRR_OK)
            loss[kind] = mean_of(losses[kind], n_folds);
        if (status == DRR_OK && is_better(losses[kind], losses[best], n_folds))
            best = (calibration_kind)kind;
    }
    free(others.logits);
    free(others.weights);
    free(others.labels);
    return status == DRR_OK ? calibration_fit(c, best, logits, labels, weights, n, err) : status;
}
