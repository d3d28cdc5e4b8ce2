/* wordpiece_internal.h: what the tokenizer's two halves and the file formats share. For src/critic alone. */
#ifndef DRR_CRITIC_WORDPIECE_INTERNAL_H
#define DRR_CRITIC_WORDPIECE_INTERNAL_H

#include "critic/critic.h"

/* The text as BERT's BasicTokenizer sees it: code points, words divided by spaces, marks of punctuation words of their
 * own (wordpiece_words.c). *points is the caller's to free. */
drr_status words_split(int32_t **points, size_t *n, const char *text, bool lowercase, drr_error *err);
/* The text's code points as they are, or composed (NFC). */
drr_status words_points(int32_t **points, size_t *n, const char *text, bool nfc, drr_error *err);

enum { SPECIAL_UNKNOWN, SPECIAL_CLS, SPECIAL_SEP, SPECIAL_PAD, SPECIAL_MASK, N_SPECIALS };
int32_t wordpiece_special(const wordpiece *tokenizer, int which);
bool wordpiece_is_special(const wordpiece *tokenizer, size_t id);
size_t wordpiece_between(const wordpiece *tokenizer); /* separators between question and text */
/* The id of a whole token, or -1. */
int32_t wordpiece_find(const wordpiece *tokenizer, const char *text, size_t length);

/* What a family's tokenizer is (encoder_family.c has them). */
typedef struct tokenizer_style {
    const char *model, *pre;          /* llama.cpp's names for it: "gpt2", "roberta-bpe" */
    const char *specials[N_SPECIALS]; /* where nothing names others */
    uint8_t n_between;
} tokenizer_style;
/* As wordpiece_new; `where` begins the error messages. */
drr_status wordpiece_new_from(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool lowercase,
                              const char *where, drr_error *err);

#endif
