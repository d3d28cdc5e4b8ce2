/* drr/distill.h: distillation: a reasoner answers questions with known answers, and each turn becomes a trace. Part
 * of drr.h. */
#ifndef DRR_DISTILL_PART_H
#define DRR_DISTILL_PART_H

#include "drr/check.h"
#include "drr/reasoner.h"
#include "drr/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct drr_distill_options {
    uint32_t samples;    /* k fresh samples a question */
    uint32_t turns;      /* at most this many turns a sample */
    uint32_t max_tokens; /* of one turn */
    float temperature, top_p;
    double forced_share; /* share of correct answers rejected on purpose */
    uint64_t seed;
    size_t limit;         /* first n questions only; 0: all */
    bool grammar;         /* force the answer line to parse */
    bool any_identity;    /* go on although the store holds traces of another reasoner, prompt or setting (seed,
                             temperature, top_p, max_tokens, grammar, context, recorded answers); else DRR_E_MISMATCH */
    bool skip_failed;     /* a sample that failed is only warned of; else the job, when all others are done, ends with
                             DRR_E_BACKEND and the first one's reason */
    drr_checker *checker; /* of questions of DRR_KIND_CHECKED; NULL: there are none, or they are refused */
    /* Label the steps of each turn by so many continuations from a step (docs/steps.md); 0: not. */
    uint32_t step_rollouts;
    bool step_every;        /* from every step, not only from those that a search for the first bad one takes */
    uint32_t lease_seconds; /* a store in PostgreSQL: how long a worker may be silent before its work goes to another;
                               0: 60 */
} drr_distill_options;
void drr_distill_options_defaults(drr_distill_options *options);

/* Answers every question of the set k times, each up to `turns` turns, and appends each turn to the store as
 * it ends. What the store already holds is not generated again: killed at any instruction, the same call
 * goes on where it stopped. With step_rollouts, the steps of each turn are labelled when its sample is done; traces
 * that are there get the labels that they lack. DRR_E_ARGUMENT where the reasoner cannot go on from the middle of an
 * answer. */
drr_status drr_distill(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const drr_dataset *dataset,
                       const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);
/* In a store in PostgreSQL drr_distill plans the set's samples there and works on all that is planned, beside any
 * number of other processes, until nothing is left. These are its two halves. Who works only gets seed, temperature,
 * top_p, max_tokens, grammar, turns, forced_share and step_rollouts as they were planned, whatever the options say;
 * DRR_E_EMPTY where nothing is planned. Where another process changes the plan meanwhile, it goes on by that one. */
drr_status drr_distill_plan(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_dataset *dataset, const drr_distill_options *options, const drr_hooks *hooks,
                            drr_error *err);
drr_status drr_distill_work(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
