/* hf_internal.h: what the halves of reading and writing a Hugging Face folder share: hf.c, hf_bpe.c (the tokenizer of
 * byte-level BPE), hf_modern.c (ModernBERT's config.json), hf_meta.c (drr.json), hf_import.c (a whole critic). For them
 * alone. */
#ifndef DRR_CRITIC_HF_INTERNAL_H
#define DRR_CRITIC_HF_INTERNAL_H

#include "core/json.h"
#include "critic/critic.h"

/* NULL without memory, and where a string is not UTF-8. */
json_t *critic_meta_json(const critic_meta *m, drr_head head, const char *sha256);
/* The way back; critic_write judges the numbers. `where` names the file, `head` is the model's beside it. The caller
 * clears *m, after an error too. */
drr_status critic_meta_parse(critic_meta *m, drr_head head, json_t *o, const char *where, drr_error *err);

/* folder/name, the caller's; and the JSON object in that file. */
drr_status hf_path(char **path, const char *folder, const char *name, drr_error *err);
drr_status hf_parse(json_t **value, const char *folder, const char *name, drr_error *err);
/* Whole numbers become reals: where a tokenizer has no limit its "model_max_length" is 10^30, digit by digit. */
drr_status hf_parse_tokenizer_config(json_t **value, const char *folder, drr_error *err);
/* Takes `value` over, NULL too: that is an error. Reals with so many digits. */
drr_status hf_write_json(const char *folder, const char *name, json_t *value, size_t digits, drr_error *err);

/* config.json; head: the one that the folder's classifier belongs to. */
drr_status hf_read_config(encoder_shape *shape, drr_head *head, const char *folder, drr_error *err);
/* Members of config.json: a whole number above 0; a string that, where it is there, must be `wanted`. */
drr_status hf_take_extent(uint32_t *extent, json_t *config, const char *field, const char *folder, drr_error *err);
drr_status hf_want_string(json_t *config, const char *field, const char *wanted, const char *folder, drr_error *err);
/* hf_modern.c: what ModernBERT's config.json has for itself; and one of a shape, but for the special tokens. */
drr_status hf_modern_read(encoder_shape *shape, json_t *config, const char *folder, drr_error *err);
json_t *hf_modern_json(const encoder_shape *s, double epsilon);

#endif
