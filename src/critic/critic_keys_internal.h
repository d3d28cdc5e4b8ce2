/* critic_keys_internal.h: the optional keys of a critic file, for critic_file.c alone. */
#ifndef DRR_CRITIC_CRITIC_KEYS_INTERNAL_H
#define DRR_CRITIC_CRITIC_KEYS_INTERNAL_H

#include "critic/gguf_internal.h"

enum { CRITIC_NEWEST_VERSION = 3 };
/* 3 with a head that readers of earlier versions do not know; 2 where a reader of version 1 would overlook what changes
 * P(correct); else 1. */
uint32_t critic_keys_version(const critic_meta *m, drr_head head);
drr_status critic_keys_head(drr_head *head, const tensorfile *f,
                            drr_error *err); /* of [CLS] where the file says none */
drr_status critic_keys_check(const critic_meta *m, drr_error *err);
void critic_keys_add(tensorfile_builder *b, const critic_meta *m, drr_head head);
drr_status critic_keys_read(critic_meta *m, const tensorfile *f, drr_error *err); /* once the stack has been read */

#endif
