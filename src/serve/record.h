/* record.h: judged traffic as traces for the next training: what a server is asked and answers, appended to a trace
 * store by a thread of its own. What may not be kept is taken out before anything is written (record_redact.h). */
#ifndef DRR_SERVE_RECORD_H
#define DRR_SERVE_RECORD_H

#include "serve/engine.h"

typedef struct recorder recorder;

typedef struct recorder_options {
    const char *store;         /* a file, made where there is none, or a URL of PostgreSQL */
    const char *const *redact; /* names of JSON fields whose values are never written */
    size_t n_redact;
    const char *reasoner; /* drr_reasoner_id of an embedded one; NULL: the record's model, "@" and `upstream` */
    const char *upstream; /* its base URL */
    metrics *counts;      /* or NULL: what is written and lost is counted there too */
    size_t queue_bytes;   /* more than this waiting for the disk: what comes then is lost, and counted */
} recorder_options;
void recorder_options_defaults(recorder_options *options);

/* The hooks' log is called on the recorder's thread. */
drr_status recorder_open(recorder **r, const recorder_options *options, const drr_hooks *hooks, drr_error *err);
void recorder_close(recorder *r);                                         /* writes what waits */
void recorder_put(void *user, const engine_record *record);               /* an engine_recorder, user: the recorder */
void recorder_counts(recorder *r, uint64_t *n_written, uint64_t *n_lost); /* turns; any thread */

#endif
