/* drr/doctor.h: what drr finds on this machine. Part of drr.h. */
#ifndef DRR_DOCTOR_PART_H
#define DRR_DOCTOR_PART_H

#include "drr/reasoner.h"

#ifdef __cplusplus
extern "C" {
#endif

/* JSON (caller frees): versions of drr and the libraries it runs on, CPU features, the code path that ggml and oneDNN
 * chose, models in the cache with checksum state, and, for `reasoner` (may be NULL), its first-logits check, or, where
 * it is the base URL of an API, what that answers and can do; then `options` (NULL: the defaults) say with which key
 * and model it is asked. What is wrong is a sentence in its list "problems", of which *n_problems is the length; it is
 * no failure of the call. */
drr_status drr_doctor(char **json, size_t *n_problems, const char *reasoner, const drr_reasoner_options *options,
                      const drr_hooks *hooks, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
