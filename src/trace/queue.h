/* queue.h: who works on what, where many workers share one store (PostgreSQL). A unit is one sample of one question. A
 * worker claims units for a while (a lease), a thread of its own prolongs the lease while the worker lives, and what a
 * dead worker held is handed out again. Traces say what was made; units only who shall make what is missing: a unit
 * that is handed out twice costs time and doubles nothing. */
#ifndef DRR_TRACE_QUEUE_H
#define DRR_TRACE_QUEUE_H

#include "trace/trace.h"

bool store_has_queue(const drr_store *store);

typedef struct queue_question {
    const char *task, *id;
    const char *record; /* the question as one JSON line (task_record), so that workers need no file */
} queue_question;
/* Adds `samples` units for each question; those that are there stay as they are. One commit. */
drr_status queue_plan(drr_store *store, const char *reasoner, const char *prompt, const queue_question *questions,
                      size_t n, uint32_t samples, drr_error *err);
/* Failed units and those set aside may be tried again; with `done` those that are done may be looked at again. `done`
 * is right only in one batch with the change of the fact QUEUE_ENDINGS that asks for it, and after it. */
drr_status queue_reopen(drr_store *store, const char *reasoner, const char *prompt, bool done, drr_error *err);

typedef struct queue queue; /* one worker's hold on the work of one reasoner and prompt */
/* Registers the worker and starts prolonging. lease_s: how long a worker may be silent. */
drr_status queue_join(queue **q, drr_store *store, const char *reasoner, const char *prompt, double lease_s,
                      drr_error *err);
/* Gives back what is still held, says goodbye and frees. NULL is fine. */
void queue_leave(queue *q);

typedef struct queue_unit {
    int64_t number;
    char *task, *id, *record; /* the caller's, freed with queue_unit_clear */
    uint32_t sample;
    bool last_try; /* two workers died with it: it was given out alone */
} queue_unit;
void queue_unit_clear(queue_unit *unit);
enum { QUEUE_TRIES = 3 }; /* workers that a unit may lose before it is set aside; the last one holds it alone */
/* Claims at most `most` units, and none where nothing is free. A unit that two workers died with is given to one that
 * is `idle`, and alone: so one that kills its worker takes no other with it the third time. */
drr_status queue_claim(queue *q, queue_unit *units, size_t most, bool idle, size_t *n, drr_error *err);
/* The store's fact that says where a sample ends. A unit is done by one value of it. */
#define QUEUE_ENDINGS "endings"
/* Marks units as done; one that another worker holds by now is left to it. endings: the fact as this worker went by it.
 * Where the store has another by now, which nothing can change meanwhile, the units are given back instead, this counts
 * as no try, and *stale becomes true; else it stays. */
drr_status queue_done(queue *q, const int64_t *numbers, size_t n, const char *endings, bool *stale, drr_error *err);
drr_status queue_failed(queue *q, int64_t number, const char *why, drr_error *err);
drr_status queue_release(queue *q, drr_error *err);          /* all that this worker holds */
void queue_note(queue *q, uint64_t traces, uint64_t tokens); /* for the fleet's table: this worker's totals */

typedef struct queue_left {
    uint64_t todo, held, done, failed, aside; /* todo: free ones; held: by any worker */
} queue_left;
drr_status queue_left_read(queue *q, queue_left *left, drr_error *err);

#endif
