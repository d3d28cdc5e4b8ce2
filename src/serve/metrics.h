/* metrics.h: counters and histograms of a running server, and their text for Prometheus (../shared/wire.md,
 * "Prometheus"). Any thread may count. */
#ifndef DRR_SERVE_METRICS_H
#define DRR_SERVE_METRICS_H

#include "core/core.h"

typedef struct metrics metrics;

typedef enum metrics_outcome {
    METRICS_ACCEPT,
    METRICS_ABSTAIN,
    METRICS_BEST, /* nothing was accepted; the policy chose */
    METRICS_ESCALATE,
    METRICS_PASSTHROUGH,
    METRICS_ERROR,
    METRICS_OUTCOMES
} metrics_outcome;

/* All of these but the first and the last do nothing when m is NULL. */
drr_status metrics_new(metrics **m, drr_error *err);
void metrics_free(metrics *m);
void metrics_request(metrics *m, metrics_outcome outcome, double seconds, uint32_t n_turns);
void metrics_in_flight(metrics *m, int change);
void metrics_turn(metrics *m, bool accepted);
void metrics_judged(metrics *m, double p_correct, double seconds); /* a turn: its P(correct), and how long that took */
void metrics_upstream(metrics *m, const char *upstream, int code, double seconds); /* code 0: no reply came */
void metrics_upstream_retry(metrics *m);
void metrics_upstream_tokens(metrics *m, uint64_t prompt, uint64_t completion);
/* The judge's own: one pass of the critic over texts of several requests, and what waits for one. */
void metrics_batch(metrics *m, size_t n_texts, uint64_t n_tokens, double seconds);
void metrics_waiting(metrics *m, size_t n_texts);
void metrics_drift(metrics *m, double distance, bool scores, bool model); /* distance NaN: not known yet */
void metrics_recorded(metrics *m, uint64_t n_written, uint64_t n_lost);   /* turns, by the trace store */
drr_status metrics_text(buffer *text, metrics *m, drr_error *err);

#endif
