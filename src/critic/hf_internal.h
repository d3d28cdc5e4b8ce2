/* hf_internal.h: drr.json of an exported folder, for hf.c alone. */
#ifndef DRR_CRITIC_HF_INTERNAL_H
#define DRR_CRITIC_HF_INTERNAL_H

#include "core/json.h"
#include "critic/critic.h"

/* NULL without memory, and where a string is not UTF-8. */
json_t *critic_meta_json(const critic_meta *m, drr_head head, const char *sha256);
/* The way back; critic_write judges the numbers. `where` names the file, `head` is the model's beside it. The caller
 * clears *m, after an error too. */
drr_status critic_meta_parse(critic_meta *m, drr_head head, json_t *o, const char *where, drr_error *err);

#endif
