/* wordpiece_internal.h: what the tokenizer's two halves and the file formats share. For src/critic alone. */
#ifndef DRR_CRITIC_WORDPIECE_INTERNAL_H
#define DRR_CRITIC_WORDPIECE_INTERNAL_H

#include "critic/critic.h"

/* The text as BERT's BasicTokenizer sees it: code points, words divided by spaces, marks of punctuation words of their
 * own (wordpiece_words.c). *points is the caller's to free. */
drr_status words_split(int32_t **points, size_t *n, const char *text, bool lowercase, drr_error *err);

enum { SPECIAL_UNKNOWN, SPECIAL_CLS, SPECIAL_SEP, SPECIAL_PAD, SPECIAL_MASK, N_SPECIALS };
int32_t wordpiece_special(const wordpiece *tokenizer, int which);
bool wordpiece_is_special(const wordpiece *tokenizer, size_t id);
/* As wordpiece_new; `where` begins the error messages. */
drr_status wordpiece_new_from(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool lowercase,
                              const char *where, drr_error *err);

#endif
