/* critic_shape_internal.h: the keys of a critic file that say which encoder it holds, for critic_file.c alone. */
#ifndef DRR_CRITIC_CRITIC_SHAPE_INTERNAL_H
#define DRR_CRITIC_CRITIC_SHAPE_INTERNAL_H

#include "critic/gguf_internal.h"

void critic_shape_add(tensorfile_builder *b, const encoder_shape *shape, drr_head head);
/* The family; DRR_E_FORMAT where the file is not that of a critic. */
drr_status critic_shape_kind(encoder_family *which, drr_head head, const tensorfile *f, drr_error *err);
/* Everything but the family, which *shape says already. */
drr_status critic_shape_read(encoder_shape *shape, const tensorfile *f, const wordpiece *tokenizer, drr_error *err);
/* Hugging Face's position table may begin with padding's row, which a critic's file has not: how many rows that is. */
uint32_t critic_shape_offset(const encoder_shape *shape, const wordpiece *tokenizer);

#endif
