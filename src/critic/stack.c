/* stack.c: the logistic model that joins the text's logit with what else a turn offers: the certainty of its tokens,
 * of the answer's tokens above all, and how far the other answers to the question agree. Fitted by Newton's method with
 * an L2 penalty on standardised features; an unknown feature takes its mean, that is, says nothing. */
#include "critic/critic.h"

#include <math.h>
#include <stdlib.h>

enum {
    LOGIT,
    LENGTH,
    RETRY,
    PARSED,
    LOGPROB_MEAN,
    LOGPROB_MIN,
    LOGPROB_TAIL,
    ENTROPY_MEAN,
    ANSWER_MEAN,
    ANSWER_MIN,
    ANSWER_ENTROPY,
    ANSWER_MARGIN,
    OTHERS,
    AGREEMENT,
    PROBE, /* the last: where no row knows it, there is no probe, and the stack is one of older files */
    N_FEATURES
};
_Static_assert(LOGPROB_MEAN == PROBE_FIRST_STATISTIC && ANSWER_MARGIN == LOGPROB_MEAN + PROBE_STATISTICS - 1,
               "what a probe takes for its statistics are those");
_Static_assert(N_FEATURES <= STACK_MAX_FEATURES, "the critic file has room for STACK_MAX_FEATURES");

/* Names in critic files: never change one's meaning, add another. */
static const char *const names[N_FEATURES] = {
    [LOGIT] = "text_logit",
    [LENGTH] = "log_tokens",
    [RETRY] = "is_retry",
    [PARSED] = "is_parsed",
    [LOGPROB_MEAN] = "logprob_mean",
    [LOGPROB_MIN] = "logprob_min",
    [LOGPROB_TAIL] = "logprob_tail",
    [ENTROPY_MEAN] = "entropy_mean",
    [ANSWER_MEAN] = "answer_logodds_mean",
    [ANSWER_MIN] = "answer_logodds_min",
    [ANSWER_ENTROPY] = "answer_log_entropy",
    [ANSWER_MARGIN] = "answer_margin",
    [OTHERS] = "has_others",
    [AGREEMENT] = "agreement_logodds",
    [PROBE] = "probe_logit",
};

const char *stack_feature_name(uint32_t index)
{
    return index < N_FEATURES ? names[index] : NULL;
}

static double bounded(double x, double low, double high)
{
    return isnan(x) ? NAN : fmin(fmax(x, low), high);
}

/* Log-odds of a token that has this log-probability. Near certainty the log-probability itself is all but 0, and the
 * difference between 0.99 and 0.9999 is lost; in log-odds it is not. */
static double log_odds(float logprob)
{
    const double p = fmin(fmax(exp((double)logprob), 1e-4), 1 - 1e-4);
    return isnan(logprob) ? NAN : log(p / (1 - p));
}

void stack_features(double values[STACK_MAX_FEATURES], double logit, const drr_features *f)
{
    const drr_token_stats *s = &f->stats;
    for (size_t i = 0; i < STACK_MAX_FEATURES; i++)
        values[i] = NAN;
    values[LOGIT] = bounded(logit, -20, 20);
    values[LENGTH] = f->n_tokens ? log((double)f->n_tokens) : NAN;
    values[RETRY] = f->turn > 0;
    values[PARSED] = f->parsed;
    values[LOGPROB_MEAN] = bounded((double)s->mean, -5, 0);
    values[LOGPROB_MIN] = bounded((double)s->min, -10, 0);
    values[LOGPROB_TAIL] = bounded((double)s->tail_mean, -5, 0);
    values[ENTROPY_MEAN] = bounded((double)s->entropy_mean, 0, 5);
    values[ANSWER_MEAN] = log_odds(s->answer_mean);
    values[ANSWER_MIN] = log_odds(s->answer_min);
    values[ANSWER_ENTROPY] = isnan(s->answer_entropy) ? NAN : log(fmax((double)s->answer_entropy, 0) + 1e-3);
    values[ANSWER_MARGIN] = bounded((double)s->answer_margin, -5, 10);
    values[OTHERS] = f->n_others > 0;
    /* Half a vote for and half against beforehand: one agreeing answer says less than five of five. */
    const double against = (double)(f->n_others - (f->n_agree < f->n_others ? f->n_agree : f->n_others));
    values[AGREEMENT] = log(((double)f->n_agree + 0.5) / (against + 0.5));
    values[PROBE] = bounded(f->probe, -20, 20);
}

void drr_features_defaults(drr_features *features)
{
    *features = (drr_features){.stats = {.mean = NAN,
                                         .min = NAN,
                                         .tail_mean = NAN,
                                         .entropy_mean = NAN,
                                         .answer_mean = NAN,
                                         .answer_min = NAN,
                                         .answer_entropy = NAN,
                                         .answer_margin = NAN},
                               .parsed = true,
                               .probe = NAN};
}

static double standardised(const stack_model *m, uint32_t j, const double *values)
{
    return isnan(values[j]) ? 0 : (values[j] - m->mean[j]) / m->scale[j];
}

double stack_logit(const stack_model *m, const double values[STACK_MAX_FEATURES])
{
    double z = m->bias;
    for (uint32_t j = 0; j < m->n; j++)
        z += m->weight[j] * standardised(m, j, values);
    return z;
}

double stack_predict(const stack_model *m, const double values[STACK_MAX_FEATURES])
{
    const double z = stack_logit(m, values);
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* ---- fitting */

enum { SIZE = STACK_MAX_FEATURES + 1, MOST_STEPS = 50 };

typedef struct fit {
    stack_model *m;
    const double *rows, *weights;
    const uint8_t *labels;
    size_t n;
    double l2;
    double gradient[SIZE], hessian[SIZE][SIZE], step[SIZE]; /* the bias comes last, at m->n */
} fit;

static double weight_of(const fit *f, size_t i)
{
    return f->weights ? f->weights[i] : 1;
}

/* Mean and deviation of what is known; a feature that is never known or does not vary keeps weight 0, for its
 * standardised value is 0 everywhere. */
static void standardise(fit *f)
{
    for (uint32_t j = 0; j < f->m->n; j++) {
        double sum = 0, squares = 0, total = 0;
        for (size_t i = 0; i < f->n; i++) {
            const double x = f->rows[i * STACK_MAX_FEATURES + j], w = weight_of(f, i);
            if (isnan(x))
                continue;
            total += w;
            sum += w * x;
            squares += w * x * x;
        }
        const double mean = total > 0 ? sum / total : 0;
        const double variance = total > 0 ? squares / total - mean * mean : 0;
        f->m->mean[j] = mean;
        f->m->scale[j] = variance > 1e-12 * (1 + mean * mean) ? sqrt(variance) : 1;
    }
}

static double penalised_loss(const fit *f)
{
    double sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        const double p = stack_predict(f->m, f->rows + i * STACK_MAX_FEATURES);
        sum -= weight_of(f, i) * log(fmax(f->labels[i] ? p : 1 - p, 1e-300));
    }
    for (uint32_t j = 0; j < f->m->n; j++)
        sum += 0.5 * f->l2 * f->m->weight[j] * f->m->weight[j];
    return sum;
}

static void derive(fit *f)
{
    const uint32_t n = f->m->n;
    double x[SIZE];
    for (uint32_t j = 0; j <= n; j++) {
        f->gradient[j] = j < n ? f->l2 * f->m->weight[j] : 0;
        for (uint32_t k = 0; k <= n; k++)
            f->hessian[j][k] = j != k ? 0 : j < n ? f->l2 + 1e-9 : 1e-9;
    }
    x[n] = 1;
    for (size_t i = 0; i < f->n; i++) {
        const double *row = f->rows + i * STACK_MAX_FEATURES;
        const double p = stack_predict(f->m, row), w = weight_of(f, i);
        for (uint32_t j = 0; j < n; j++)
            x[j] = standardised(f->m, j, row);
        for (uint32_t j = 0; j <= n; j++) {
            f->gradient[j] += w * (p - (f->labels[i] ? 1 : 0)) * x[j];
            for (uint32_t k = 0; k <= j; k++)
                f->hessian[j][k] += w * p * (1 - p) * x[j] * x[k];
        }
    }
}

/* step = hessian^-1 gradient by Cholesky's decomposition in place; false when it is not positive definite. */
static bool newton_step(fit *f)
{
    const uint32_t n = f->m->n + 1;
    for (uint32_t j = 0; j < n; j++)
        for (uint32_t k = 0; k <= j; k++) {
            double sum = f->hessian[j][k];
            for (uint32_t i = 0; i < k; i++)
                sum -= f->hessian[j][i] * f->hessian[k][i];
            if (j == k && !(sum > 0))
                return false;
            f->hessian[j][k] = j == k ? sqrt(sum) : sum / f->hessian[k][k];
        }
    for (uint32_t j = 0; j < n; j++) {
        f->step[j] = f->gradient[j];
        for (uint32_t i = 0; i < j; i++)
            f->step[j] -= f->hessian[j][i] * f->step[i];
        f->step[j] /= f->hessian[j][j];
    }
    for (uint32_t j = n; j-- > 0;) {
        for (uint32_t i = j + 1; i < n; i++)
            f->step[j] -= f->hessian[i][j] * f->step[i];
        f->step[j] /= f->hessian[j][j];
    }
    return true;
}

static bool improve(fit *f, double *loss)
{
    const stack_model before = *f->m;
    derive(f);
    if (!newton_step(f))
        return false;
    for (double size = 1; size > 1e-6; size /= 2) {
        for (uint32_t j = 0; j < before.n; j++)
            f->m->weight[j] = before.weight[j] - size * f->step[j];
        f->m->bias = before.bias - size * f->step[before.n];
        const double now = penalised_loss(f);
        if (now < *loss - 1e-10 * (1 + fabs(*loss))) {
            *loss = now;
            return true;
        }
    }
    *f->m = before;
    return false;
}

drr_status stack_fit(stack_model *model, const double *rows, const uint8_t *labels, const double *weights, size_t n,
                     double l2, drr_error *err)
{
    stack_model m = {.n = N_FEATURES};
    fit f = {.m = &m, .rows = rows, .weights = weights, .labels = labels, .n = n, .l2 = l2};
    if (n == 0)
        return error_set(err, DRR_E_EMPTY, "there are no rows to fit the stack on");
    for (size_t i = 0; i < n * STACK_MAX_FEATURES; i++)
        if (isinf(rows[i]))
            return error_set(err, DRR_E_ARGUMENT, "row %zu of the rows to fit the stack on has an infinite %s",
                             i / STACK_MAX_FEATURES, stack_feature_name((uint32_t)(i % STACK_MAX_FEATURES)));
    bool probed = false;
    for (size_t i = 0; i < n; i++)
        probed = probed || !isnan(rows[i * STACK_MAX_FEATURES + PROBE]);
    m.n = probed ? N_FEATURES : PROBE;
    standardise(&f);
    double loss = penalised_loss(&f);
    for (int i = 0; i < MOST_STEPS && improve(&f, &loss); i++)
        ;
    *model = m;
    return DRR_OK;
}
