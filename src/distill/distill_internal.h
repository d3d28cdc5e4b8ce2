/* distill_internal.h: what the files of src/distill share. */
#ifndef DRR_DISTILL_INTERNAL_H
#define DRR_DISTILL_INTERNAL_H

#include "core/core.h"
#include "reasoner/reasoner.h"

/* Does the store belong to this run? Refuses another reasoner, wording or setting that shapes a trace's text, unless
 * options->any_identity; writes down what the store does not know yet. */
drr_status distill_check_identity(drr_store *store, const drr_reasoner *reasoner, const drr_prompts *prompts,
                                  const drr_distill_options *options, const drr_hooks *hooks, drr_error *err);
/* Refuses a question, one of the first n, that the store knows under the same id with other words or another answer. */
drr_status distill_check_questions(drr_store *store, const drr_dataset *dataset, size_t n, drr_error *err);

#endif
