/* drift.c: a window of late scores beside the quantiles in the critic's file (two-sample Kolmogorov-Smirnov), and the
 * upstream's model name beside the critic's reasoner. */
#include "serve/drift.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const double LEAST_DISTANCE = 0.2; /* about what a shift of the scores by half their deviation gives */
static const double LET_GO = 0.8;         /* of the limit: an alarm does not flutter */
static const double ONE_IN_1000 = 1.9495; /* sqrt(-ln(0.001 / 2) / 2) */

void drift_begin(drift *d, const double *quantiles, uint32_t n_quantiles, uint64_t n_scores, const char *reasoner)
{
    *d = (drift){.quantiles = quantiles,
                 .n_quantiles = n_quantiles,
                 .n_scores = n_scores,
                 .reasoner = reasoner ? reasoner : "",
                 .distance = NAN};
}

/* ---- scores */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The share at or below x, or with `below` strictly below: they differ where several quantiles are the same. */
static double share_at(double x, bool below, const double *q, uint32_t n)
{
    uint32_t k = 0; /* quantiles at or below, strictly below */
    while (k < n && (below ? q[k] < x : q[k] <= x))
        k++;
    if (k == 0)
        return 0;
    if (k == n)
        return 1;
    return (k - 1 + (x - q[k - 1]) / (q[k] - q[k - 1])) / (n - 1);
}

double drift_distance(double *values, size_t n, const double *quantiles, uint32_t n_quantiles)
{
    double most = 0;
    qsort(values, n, sizeof *values, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && values[end] <= values[i];)
            end++;
        const double before = (double)i / (double)n - share_at(values[i], true, quantiles, n_quantiles);
        const double after = (double)end / (double)n - share_at(values[i], false, quantiles, n_quantiles);
        most = fmax(most, fmax(fabs(before), fabs(after)));
    }
    return most;
}

double drift_limit(const drift *d)
{
    const double n = (double)(d->n ? d->n : 1), m = (double)(d->n_scores ? d->n_scores : 1);
    return fmax(LEAST_DISTANCE, ONE_IN_1000 * sqrt((n + m) / (n * m)));
}

bool drift_add(drift *d, double score)
{
    double sorted[DRIFT_WINDOW];
    if (!isfinite(score) || d->n_quantiles < 2)
        return false;
    d->window[d->at++ % DRIFT_WINDOW] = score;
    d->n += d->n < DRIFT_WINDOW;
    if (++d->since < DRIFT_STEP || d->n < DRIFT_LEAST)
        return false;
    d->since = 0;
    memcpy(sorted, d->window, d->n * sizeof *sorted);
    d->distance = drift_distance(sorted, d->n, d->quantiles, d->n_quantiles);
    const bool was = d->scores;
    d->scores = d->distance >= drift_limit(d) * (was ? LET_GO : 1);
    return d->scores != was;
}

/* ---- the model */

/* Where the name itself begins, and how long it is: no folder, no digest, no ".gguf". */
static const char *bare_name(const char *name, size_t *length)
{
    const char *end = strchr(name, '@'), *begin = end ? end : name + strlen(name);
    if (!end)
        end = begin;
    while (begin > name && begin[-1] != '/' && begin[-1] != '\\')
        begin--;
    *length = (size_t)(end - begin);
    if (*length > 5 && strncasecmp(end - 5, ".gguf", 5) == 0)
        *length -= 5;
    return begin;
}

/* "-q8_0", ".Q4_K_M", "-GGUF", ":latest": how a model was packed, and not which one it is. */
static bool is_packing(const char *rest, size_t length)
{
    static const char *const kinds[] = {"q", "iq", "f16", "f32", "bf16", "fp16", "gguf", "int4", "int8", "awq", "gptq"};
    if (length == 0 || *rest == ':')
        return true;
    if (!strchr("-_.", *rest))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t n = strlen(kinds[i]);
        const bool counted = kinds[i][n - 1] == 'q' && n <= 2; /* "q8", "iq4": a number follows */
        if (length > n && strncasecmp(rest + 1, kinds[i], n) == 0 && (!counted || isdigit((unsigned char)rest[n + 1])))
            return true;
    }
    return false;
}

bool drift_same_model(const char *model, const char *reasoner)
{
    size_t n, m;
    const char *a = bare_name(model, &n), *b = bare_name(reasoner, &m);
    const size_t both = n < m ? n : m;
    return both && strncasecmp(a, b, both) == 0 && is_packing((n > m ? a : b) + both, (n > m ? n : m) - both);
}

bool drift_saw(drift *d, const char *model)
{
    const bool was = d->model;
    snprintf(d->seen, sizeof d->seen, "%s", model);
    d->model = *d->reasoner && *model && !drift_same_model(model, d->reasoner);
    return d->model != was;
}

json_t *drift_json(const drift *d)
{
    json_t *scores =
        json_pack("{s:b, s:o, s:f, s:I, s:I}", "alarm", d->scores, "distance", json_number_or_null(d->distance),
                  "limit", drift_limit(d), "n", (json_int_t)d->n, "n_trained", (json_int_t)d->n_scores);
    json_t *model = json_pack("{s:b, s:s, s:s}", "alarm", d->model, "upstream", d->seen, "critic", d->reasoner);
    return json_pack("{s:b, s:b, s:o*, s:o*}", "alarm", d->scores || d->model, "known", d->n_quantiles >= 2, "scores",
                     scores, "model", model);
}
