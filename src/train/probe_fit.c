/* probe_fit.c: from hidden states that traces keep to a probe: which layer, which pools and how strong a penalty is
 * dev's to say, by log loss; solving is probe_solve.c's. The penalty is on standardised columns. The statistics of a
 * turn's tokens, eight numbers beside hundreds, bear a small one of their own, or they would be shrunk away with the
 * rest. */
#include "core/statistics.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEWEST = 20 }; /* traces of a part */

/* Penalties tried, strongest first, times the number of train traces. */
static const double penalties[] = {30, 10, 3, 1, 0.3, 0.1, 0.03, 0.01, 0.003};
enum { N_PENALTIES = sizeof penalties / sizeof *penalties };

typedef struct candidate {
    uint32_t layer, n_pools;
    hidden_pool pools[HIDDEN_POOLS];
} candidate;

typedef struct table { /* rows of one part */
    float *values;     /* [n][columns]: the pools' vectors, then the statistics */
    size_t *rows, n;   /* of the corpus */
    uint8_t *labels;
} table;

typedef struct fitting {
    const corpus *c;
    hidden_layers layers; /* that all traces with hidden states have */
    const char *reasoner;
    uint32_t width;
    size_t columns; /* of the candidate at hand */
    table train, dev;
    double *mean, *scale;     /* of its columns */
    double *weight, bias, *z; /* z: of dev */
    const drr_hooks *hooks;
} fitting;

static void table_clear(table *t)
{
    free(t->values);
    free(t->rows);
    free(t->labels);
    *t = (table){0};
}

static void fitting_clear(fitting *f)
{
    table_clear(&f->train);
    table_clear(&f->dev);
    free(f->mean);
    free(f->scale);
    free(f->weight);
    free(f->z);
}

/* ---- which traces */

static void keep_common(hidden_layers *layers, const hidden_layers *others)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < layers->n; i++)
        if (hidden_layers_have(others, layers->layer[i]))
            layers->layer[n++] = layers->layer[i];
    layers->n = n;
}

/* Reasoner, width and layers of all that have hidden states. */
static drr_status look(fitting *f, drr_error *err)
{
    for (size_t i = 0; i < f->c->n; i++) {
        const drr_trace *t = &f->c->rows[i].trace;
        hidden_layers layers;
        if (!t->hidden || f->c->rows[i].part == CORPUS_UNUSED)
            continue;
        hidden_layers_of(&layers, t->hidden);
        if (!f->reasoner) {
            f->reasoner = t->reasoner;
            f->width = hidden_width(t->hidden);
            f->layers = layers;
        }
        if (strcmp(f->reasoner, t->reasoner) != 0 || f->width != hidden_width(t->hidden))
            return error_set(
                err, DRR_E_MISMATCH,
                "the traces have hidden states of %s and of %s, and a probe knows one reasoner's: say which "
                "with --reasoner ID",
                f->reasoner, t->reasoner);
        keep_common(&f->layers, &layers);
        if (f->layers.n == 0)
            return error_set(err, DRR_E_MISMATCH,
                             "the traces have hidden states of different layers, and none that all have: distil anew "
                             "with one --hidden");
    }
    if (!f->reasoner)
        return error_set(
            err, DRR_E_EMPTY,
            "no trace has hidden states, which a probe reads: let an embedded reasoner make traces that do, "
            "`drr distill --hidden last`, or train with --kind encoder");
    return DRR_OK;
}

static drr_status list_rows(table *t, const corpus *c, corpus_part part, const char *name, drr_error *err)
{
    size_t all = 0, right = 0;
    t->rows = calloc(c->n + 1, sizeof *t->rows);
    t->labels = calloc(c->n + 1, 1);
    if (!t->rows || !t->labels)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        all += c->rows[i].part == part;
        if (c->rows[i].part != part || !c->rows[i].trace.hidden)
            continue;
        t->labels[t->n] = c->rows[i].trace.label == DRR_LABEL_ACCEPT;
        right += t->labels[t->n];
        t->rows[t->n++] = i;
    }
    if (t->n < FEWEST || right == 0 || right == t->n)
        return error_set(
            err, DRR_E_EMPTY,
            "of %zu %s traces %zu have hidden states, %zu of these right: a probe needs at least %d, right "
            "and wrong ones; make more with `drr distill --hidden`",
            all, name, t->n, right, FEWEST);
    return DRR_OK;
}

/* ---- one candidate's columns */

static drr_status fill(table *t, const fitting *f, const candidate *k, drr_error *err)
{
    size_t bytes = t->n;
    free(t->values);
    t->values = size_multiply(&bytes, bytes, f->columns * sizeof *t->values) ? malloc(bytes + 1) : NULL;
    if (!t->values)
        return error_memory(err);
    for (size_t i = 0; i < t->n; i++) {
        const drr_trace *trace = &f->c->rows[t->rows[i]].trace;
        float *to = t->values + i * f->columns;
        double statistics[PROBE_STATISTICS];
        for (uint32_t p = 0; p < k->n_pools; p++, to += f->width)
            if (!hidden_vector(to, trace->hidden, k->layer, k->pools[p])) {
                char name[16];
                return error_set(err, DRR_E_FORMAT, "a trace of %s has no %s of layer %s among its hidden states",
                                 trace->id, hidden_pool_name(k->pools[p]), hidden_layer_name(name, k->layer));
            }
        probe_statistics(statistics, &trace->stats);
        for (size_t s = 0; s < PROBE_STATISTICS; s++)
            to[s] = (float)statistics[s];
    }
    return DRR_OK;
}

/* By the train rows; what is not known takes the mean. */
static void standardise(fitting *f)
{
    for (size_t k = 0; k < f->columns; k++) {
        double sum = 0, squares = 0;
        size_t known = 0;
        for (size_t i = 0; i < f->train.n; i++) {
            const double x = (double)f->train.values[i * f->columns + k];
            if (isnan(x))
                continue;
            known++;
            sum += x;
            squares += x * x;
        }
        const double mean = known ? sum / (double)known : 0;
        const double variance = known ? squares / (double)known - mean * mean : 0;
        f->mean[k] = mean;
        f->scale[k] = variance > 1e-9 * (1e-9 + mean * mean) ? sqrt(variance) : INFINITY; /* one that does not vary */
    }
    for (int part = 0; part < 2; part++) {
        table *t = part ? &f->dev : &f->train;
        for (size_t i = 0; i < t->n; i++)
            for (size_t k = 0; k < f->columns; k++) {
                float *x = &t->values[i * f->columns + k];
                *x = isnan(*x) ? 0 : (float)(((double)*x - f->mean[k]) / f->scale[k]);
            }
    }
}

static double dev_loss(const fitting *f)
{
    double sum = 0;
    probe_scores(f->z, f->dev.values, f->dev.n, f->columns, f->weight, f->bias);
    for (size_t i = 0; i < f->dev.n; i++) {
        const double x = f->dev.labels[i] ? -f->z[i] : f->z[i];
        sum += fmax(x, 0) + log1p(exp(-fabs(x)));
    }
    return sum / (double)f->dev.n;
}

/* ---- keeping the best */

static drr_status keep(probe_model *p, const fitting *f, const candidate *k, drr_error *err)
{
    const size_t n = (size_t)k->n_pools * f->width;
    double *weight = malloc(n * sizeof *weight);
    char *reasoner = string_copy(f->reasoner);
    if (!weight || !reasoner) {
        free(weight);
        free(reasoner);
        return error_memory(err);
    }
    probe_clear(p);
    *p = (probe_model){.reasoner = reasoner,
                       .layer = k->layer,
                       .width = f->width,
                       .n_pools = k->n_pools,
                       .weight = weight,
                       .bias = f->bias};
    memcpy(p->pools, k->pools, sizeof p->pools);
    for (size_t i = 0; i < n; i++) { /* back to columns as they come */
        weight[i] = f->weight[i] / f->scale[i];
        p->bias -= weight[i] * f->mean[i];
    }
    for (size_t s = 0; s < PROBE_STATISTICS; s++) {
        const bool varies = isfinite(f->scale[n + s]);
        p->mean[s] = f->mean[n + s];
        p->scale[s] = varies ? f->scale[n + s] : 1;
        p->statistic_weight[s] = varies ? f->weight[n + s] : 0;
    }
    return DRR_OK;
}

/* Down the penalties, each from where the one before ended, until dev's loss has risen twice. */
static drr_status try_candidate(probe_model *p, drr_train_result *r, fitting *f, const candidate *k, drr_error *err)
{
    double least = INFINITY, auroc = NAN, l2 = NAN;
    f->columns = (size_t)k->n_pools * f->width + PROBE_STATISTICS;
    drr_status status = fill(&f->train, f, k, err);
    if (status == DRR_OK)
        status = fill(&f->dev, f, k, err);
    if (status != DRR_OK)
        return status;
    standardise(f);
    memset(f->weight, 0, f->columns * sizeof *f->weight);
    f->bias = 0;
    const probe_problem problem = {f->train.values, f->train.labels, f->train.n, f->columns, PROBE_STATISTICS};
    for (size_t i = 0, worse = 0; status == DRR_OK && i < N_PENALTIES && worse < 2; i++) {
        if (hooks_cancelled(f->hooks))
            return error_set(err, DRR_E_INTERRUPTED, "interrupted while the probe was fitted");
        const double penalty = penalties[i] * (double)f->train.n;
        status = probe_solve(f->weight, &f->bias, &problem, penalty, err);
        if (status != DRR_OK)
            break;
        const double loss = dev_loss(f);
        worse = loss < least ? 0 : worse + 1;
        if (loss < least) {
            least = loss;
            l2 = penalty;
            auroc = statistics_auroc(f->z, f->dev.labels, f->dev.n);
        }
        if (loss < r->probe.dev_log_loss) {
            status = keep(p, f, k, err);
            r->probe.dev_log_loss = loss;
            r->probe.dev_auroc = auroc;
            r->probe.l2 = penalty;
        }
    }
    char layer[16];
    hooks_log(f->hooks, DRR_LOG_INFO, "probe of layer %s, %s%s%s: dev log loss %.4f, AUROC %.3f, penalty %g",
              hidden_layer_name(layer, k->layer), hidden_pool_name(k->pools[0]), k->n_pools > 1 ? " and " : "",
              k->n_pools > 1 ? hidden_pool_name(k->pools[1]) : "", least, auroc, l2);
    return status;
}

static drr_status try_all(probe_model *p, drr_train_result *r, fitting *f, drr_error *err)
{
    const size_t most = (size_t)HIDDEN_POOLS * f->width + PROBE_STATISTICS;
    f->mean = calloc(most, sizeof *f->mean);
    f->scale = calloc(most, sizeof *f->scale);
    f->weight = calloc(most, sizeof *f->weight);
    f->z = calloc(f->dev.n + 1, sizeof *f->z);
    drr_status status = f->mean && f->scale && f->weight && f->z ? DRR_OK : error_memory(err);
    r->probe.dev_log_loss = INFINITY;
    for (uint32_t i = 0; status == DRR_OK && i < f->layers.n; i++) {
        const candidate of_layer[] = {{f->layers.layer[i], 1, {HIDDEN_ANSWER}},
                                      {f->layers.layer[i], 1, {HIDDEN_MEAN}},
                                      {f->layers.layer[i], 2, {HIDDEN_ANSWER, HIDDEN_MEAN}}};
        for (size_t k = 0; status == DRR_OK && k < sizeof of_layer / sizeof *of_layer; k++)
            status = try_candidate(p, r, f, &of_layer[k], err);
    }
    if (status == DRR_OK && !p->reasoner)
        status = error_set(err, DRR_E_BACKEND, "no probe could be fitted: every loss is no number");
    return status;
}

drr_status probe_fit(probe_model *p, drr_train_result *result, corpus *c, const drr_hooks *hooks, drr_error *err)
{
    fitting f = {.c = c, .hooks = hooks};
    const double began = clock_seconds();
    drr_status status = look(&f, err);
    if (status == DRR_OK)
        status = list_rows(&f.train, c, CORPUS_TRAIN, "train", err);
    if (status == DRR_OK)
        status = list_rows(&f.dev, c, CORPUS_DEV, "dev", err);
    if (status == DRR_OK)
        status = try_all(p, result, &f, err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        const drr_trace *t = &c->rows[i].trace;
        c->rows[i].probe = t->hidden ? probe_logit(p, t->hidden, t->hidden_size, &t->stats) : NAN;
        result->probe.n_test += c->rows[i].part == CORPUS_TEST && t->hidden;
    }
    if (status == DRR_OK) {
        result->probe.n_train = f.train.n;
        result->probe.n_dev = f.dev.n;
        result->probe.seconds = clock_seconds() - began;
        hidden_layer_name(result->probe.layer, p->layer);
        probe_pools_text(result->probe.pools, p);
    }
    fitting_clear(&f);
    return status;
}
