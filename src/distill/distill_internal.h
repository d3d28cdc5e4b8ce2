/* distill_internal.h: what the files of src/distill share: distill.c runs units, sources.c and work.c say which,
 * steps.c labels the steps of a unit's turns, identity.c whether the store is this run's. */
#ifndef DRR_DISTILL_INTERNAL_H
#define DRR_DISTILL_INTERNAL_H

#include "core/core.h"
#include "reasoner/reasoner.h"
#include "trace/trace.h"

/* One sample of one question: its turns follow each other. */
typedef struct unit {
    const drr_task *task;
    drr_dataset *own; /* holds the task, where it came by itself; else NULL */
    int64_t number;   /* in the store's queue; 0 where there is none */
    drr_trace *turns; /* those known so far, with room for all */
    uint32_t sample, n_turns;
    bool used;
    bool checking; /* turns[n_turns] waits for its label or for the disk */
    /* steps.c's, once there is no further turn: the turn whose steps are being labelled, or NULL; turns looked at so
     * far; why a continuation failed, after which nothing more is asked for this unit. */
    struct labelling *labelling;
    uint32_t n_looked;
    char *failure;
} unit;
typedef struct labelling labelling;

typedef struct unit_counts {
    uint64_t done, total; /* total 0: not known */
} unit_counts;

/* Where units come from. All functions get the source itself. */
typedef struct unit_source unit_source;
struct unit_source {
    /* The next unit's task, own, number and sample; *got false where there is none for now. idle: nothing is in flight.
     * most: how many more this run can take. */
    drr_status (*next)(unit_source *source, unit *u, bool idle, size_t most, bool *got, drr_error *err);
    /* A unit has ended: done, or failed with the reason. */
    drr_status (*ended)(unit_source *source, const unit *u, const char *failure, drr_error *err);
    /* After a group of traces went to disk. */
    drr_status (*flush)(unit_source *source, uint64_t n_traces, uint64_t n_tokens, drr_error *err);
    /* Nothing is in flight and there was no unit: *more false when there will be none. May sleep a while. */
    drr_status (*wait)(unit_source *source, bool *more, drr_error *err);
    drr_status (*count)(unit_source *source, unit_counts *counts, drr_error *err); /* cheap; called often */
};

enum { MOST_TOGETHER = 64 }; /* traces of one commit: 5,000 a second need no more at 80 commits a second */

/* One run (distill.c). */
typedef struct job {
    drr_store *store;
    drr_reasoner *reasoner;
    const drr_prompts *prompts;
    const drr_distill_options *options;
    const drr_hooks *hooks;
    unit_source *source;
    unit *units; /* those in flight, and free places; a completion's tag is its unit's place */
    size_t n_places, n_used;
    size_t fresh[MOST_TOGETHER]; /* places whose newest turn has its label and is not on disk */
    size_t n_fresh;
    uint64_t n_failed, n_accepted, n_traces, n_tokens, n_unlabelled;
    uint64_t n_rollouts, n_step_tokens, n_undecided;
    char first_failure[600];
} job;
#define DISTILL_ROLLOUT ((uint64_t)1 << 63) /* in a tag: a continuation of the unit's turn that is being labelled */

uint64_t distill_turn_seed(const job *j, const unit *u, uint32_t turn);
/* All that was said before this turn of the unit. The caller clears it. */
drr_status distill_conversation(conversation *c, const job *j, const unit *u, uint32_t turn, drr_error *err);
bool distill_answer_complete(void *user, const char *text, size_t length); /* user: the unit */
void distill_note_failure(job *j, const unit *u, uint32_t turn, const char *why);

/* What steps need and this run lacks, in one sentence. */
drr_status distill_check_steps(const drr_reasoner *reasoner, const drr_distill_options *options, drr_error *err);
/* Goes on with the labels of a unit's turns when no continuation is in flight; *waits: now some are. Else there is
 * nothing (left) to do for it, or u->failure. */
drr_status steps_advance(job *j, size_t place, bool *waits, drr_error *err);
/* A completion whose tag has DISTILL_ROLLOUT; *last: it was the last one in flight for its unit. */
drr_status steps_take(job *j, const reasoner_completion *c, bool *last, drr_error *err);
bool steps_judged(unit *u, drr_label label); /* what a checker found; true as *last above */
void steps_drop(unit *u);                    /* frees; nothing may be in flight */

/* Runs all units that the source gives. options->limit and ->samples are the source's affair. */
drr_status distill_run(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                       const drr_distill_options *options, const drr_hooks *hooks, unit_source *source, drr_error *err);

/* Puts the first n questions of a set into the store's queue. */
drr_status distill_plan(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                        const drr_dataset *dataset, size_t n, const drr_distill_options *options, drr_error *err);
drr_status distill_need_queue(drr_store *store, drr_error *err);

/* Does the store belong to this run? Refuses another reasoner, wording or setting that shapes a trace's text, unless
 * options->any_identity; writes down what the store does not know yet. In one batch: of two runs that begin at once in
 * an empty store, one sees what the other wrote. */
drr_status distill_check_identity(drr_store *store, const drr_reasoner *reasoner, const drr_prompts *prompts,
                                  const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);
/* The options that the store's facts name, such as another run wrote them; the others stay. */
drr_status distill_read_settings(drr_store *store, drr_distill_options *options, drr_error *err);
/* Refuses a question, one of the first n, that the store knows under the same id with other words or another answer. */
drr_status distill_check_questions(drr_store *store, const drr_dataset *dataset, size_t n, drr_error *err);

#endif
