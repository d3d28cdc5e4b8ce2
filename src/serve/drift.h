/* drift.h: does a critic still judge what it was trained on? Two alarms: the scores of late are distributed otherwise
 * than those of the traces that it was measured on, and the upstream's model is another than its reasoner. Knows no
 * threads; who owns one locks it. docs/judge.md, "Drift", has the reasons for the numbers. */
#ifndef DRR_SERVE_DRIFT_H
#define DRR_SERVE_DRIFT_H

#include "core/json.h"

enum {
    DRIFT_WINDOW = 500, /* scores that are compared: the last ones */
    DRIFT_LEAST = 200,  /* fewer say nothing */
    DRIFT_STEP = 50     /* compared again after so many more */
};

typedef struct drift {
    const double *quantiles; /* of the critic's dev scores; borrowed */
    uint32_t n_quantiles;    /* 0: none are known, and no score is cause for alarm */
    uint64_t n_scores;       /* that the quantiles are of */
    const char *reasoner;    /* whose answers the critic knows; borrowed; "": not known */
    double window[DRIFT_WINDOW];
    size_t n, at, since;
    double distance; /* of the last comparison, 0 to 1; NaN: none yet */
    bool scores, model;
    char seen[128]; /* the upstream's model; "": none yet */
} drift;

void drift_begin(drift *d, const double *quantiles, uint32_t n_quantiles, uint64_t n_scores, const char *reasoner);
/* Both return whether an alarm was raised or taken back. */
bool drift_add(drift *d, double score); /* one that is no number is not heard */
bool drift_saw(drift *d, const char *model);
/* From here on it is an alarm: the Kolmogorov-Smirnov distance that chance gives once in 1,000 times, and 0.2 at least.
 */
double drift_limit(const drift *d);
/* Largest difference between the share of `values`, which it sorts, at or below some x, and that which the quantiles
 * give. */
double drift_distance(double *values, size_t n, const double *quantiles, uint32_t n_quantiles);
/* Is `model`, as an upstream calls it, the reasoner? Its folder, its case, ".gguf" and how it was packed ("-q8_0",
 * ":latest") do not count, nor what stands behind an "@". */
bool drift_same_model(const char *model, const char *reasoner);
json_t *drift_json(const drift *d); /* NULL when memory is out */

#endif
