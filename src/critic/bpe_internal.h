/* bpe_internal.h: byte-level byte-pair encoding, the tokenizer of RoBERTa and ModernBERT, as one kind of the tokenizer
 * that wordpiece.c hands out. For src/critic alone. */
#ifndef DRR_CRITIC_BPE_INTERNAL_H
#define DRR_CRITIC_BPE_INTERNAL_H

#include "critic/wordpiece_internal.h"

/* What a token is; the numbers are GGUF's. An added token is found in a text as it stands, before it is divided into
 * words; a control token never is. */
enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_ADDED = 4 };

/* What makes such a tokenizer. Tokens are spelled as in tokenizer.json: each byte as one printable character, but an
 * added or control one as it is. merges: "a b", the best first. */
typedef struct bpe_parts {
    const char *const *tokens;
    const uint8_t *kinds;
    size_t n_tokens;
    const char *const *merges;
    size_t n_merges;
    int32_t specials[N_SPECIALS];
    uint8_t n_between; /* separators between question and text: `<s> q </s></s> t </s>` has 2 */
    bool nfc;          /* the text is composed first */
} bpe_parts;

/* `where` begins the error messages. Everything is copied. */
drr_status wordpiece_new_bytes(wordpiece **tokenizer, const bpe_parts *parts, const char *where, drr_error *err);

/* ---- for wordpiece.c */
typedef struct bpe bpe;
drr_status bpe_new(bpe **b, const wordpiece *tokens, const bpe_parts *parts, const char *where, drr_error *err);
void bpe_free(bpe *b);
drr_status bpe_encode(const bpe *b, const char *text, int32_t **ids, size_t *n, drr_error *err);

/* ---- for the files; NULL where the tokenizer is WordPiece */
const bpe *wordpiece_bytes(const wordpiece *tokenizer);
uint8_t bpe_kind(const bpe *b, size_t id);
bool bpe_composes(const bpe *b);
size_t bpe_merges(const bpe *b);
/* The two tokens that merge `rank` joins. */
void bpe_merge(const bpe *b, size_t rank, int32_t *left, int32_t *right);

/* hf_bpe.c: from tokenizer.json, or vocab.json and merges.txt, of a folder; and to the files that AutoTokenizer reads.
 */
drr_status bpe_open_hf(wordpiece **tokenizer, const tokenizer_style *style, const char *folder, drr_error *err);
drr_status bpe_write_hf(const char *folder, const wordpiece *tokenizer, uint32_t max_length, drr_error *err);

#endif
