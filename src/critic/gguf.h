/* gguf.h: reading a critic's file; for src/critic alone. Writing is critic.h's critic_write. */
#ifndef DRR_CRITIC_GGUF_H
#define DRR_CRITIC_GGUF_H

#include "critic/critic.h"

/* All parts of the file at `path`, the caller's; sha256 is of the whole file. */
drr_status critic_read(const char *path, encoder **e, wordpiece **tokenizer, critic_meta *meta, char sha256[65],
                       drr_error *err);

#endif
