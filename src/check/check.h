/* check.h: the door of src/check: what distillation and evaluation know of checkers beside drr.h. A checker takes
 * answers, runs what decides about them in parallel, each contained (contain.c), and hands back labels. */
#ifndef DRR_CHECK_H
#define DRR_CHECK_H

#include "core/core.h"
#include "core/json.h"

typedef struct check_result {
    uint64_t tag;
    drr_label label; /* accept, reject, or unlabelled when nobody could say */
    char why[240];   /* of a label other than accept: one sentence */
} check_result;

/* Queues an answer, which is copied with its question; the same answer to the same question is run once. */
drr_status checker_submit(drr_checker *checker, uint64_t tag, const drr_task *task, const char *answer, drr_error *err);
/* Takes a result that is ready; with wait_ms, waits so long for one. False: none is. */
bool checker_next(drr_checker *checker, check_result *result, uint32_t wait_ms);
size_t checker_pending(const drr_checker *checker); /* queued, running or ready */
void checker_cancel(drr_checker *checker);          /* ends what runs and forgets what is pending */

/* DRR_OK unless the task needs a checker and there is none: then a sentence that says how to allow it. */
drr_status checker_allows(const drr_checker *checker, const drr_task *task, drr_error *err);

/* What its labels depend on beside task and answer: the Python that runs programs, and the seconds that each has. */
const char *checker_python(const drr_checker *checker);
double checker_seconds(const drr_checker *checker);

/* What this machine offers: the value of "checkers" in drr doctor's report. */
drr_status checker_doctor(json_t **report, drr_error *err);

#endif
