/* critic_tokens_internal.h: the keys of a critic file that make a tokenizer of byte-level BPE, for critic_file.c alone.
 */
#ifndef DRR_CRITIC_CRITIC_TOKENS_INTERNAL_H
#define DRR_CRITIC_CRITIC_TOKENS_INTERNAL_H

#include "critic/bpe_internal.h"
#include "critic/gguf_internal.h"

void critic_specials_add(tensorfile_builder *b, const wordpiece *tokenizer); /* of any tokenizer */
void critic_tokens_add(tensorfile_builder *b, const wordpiece *tokenizer, const tokenizer_style *style);
drr_status critic_tokens_read(wordpiece **tokenizer, const tensorfile *f, const tokenizer_style *style, drr_error *err);

#endif
