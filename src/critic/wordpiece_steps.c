/* wordpiece_steps.c: at which tokens the steps of a text end. The tokenizer keeps no offsets: it drops, joins and takes
 * apart characters before it cuts. So each stretch between two ends is cut by itself and its tokens are counted: where
 * an end does not part a word, these are the tokens of the whole text. Counted from the end, for what does not fit is
 * cut off at the beginning. */
#include "critic/critic.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* An end that parts a character or a word would make two of it. (Words of other scripts are parted: ideographs are
 * words by themselves, and nothing is lost but that a count may be off by a piece.) */
static size_t whole_end(const char *text, size_t begin, size_t end, size_t size)
{
    end = end < begin ? begin : end > size ? size : end;
    while (end > begin && end < size && ((unsigned char)text[end] & 0xC0) == 0x80)
        end++;
    while (end > begin && end < size && isalnum((unsigned char)text[end - 1]) && isalnum((unsigned char)text[end]))
        end++;
    return end;
}

static drr_status count_tokens(size_t *n, const wordpiece *tokenizer, const char *text, size_t size, drr_error *err)
{
    int32_t *ids = NULL;
    char *piece = string_copy_n(text, size);
    if (!piece)
        return error_memory(err);
    drr_status status = wordpiece_encode(tokenizer, piece, &ids, n, err);
    free(ids);
    free(piece);
    return status;
}

drr_status wordpiece_step_places(uint32_t *places, const wordpiece *tokenizer, const char *text, const uint32_t *ends,
                                 size_t n_ends, const int32_t *ids, size_t n, drr_error *err)
{
    const size_t size = strlen(text);
    size_t first = 1, begin = 0, all = 0, count = 0; /* first: of the text's tokens, behind the question's [SEP] */
    drr_status status = DRR_OK;
    while (first < n && ids[first - 1] != ids[n - 1]) /* no other token is [SEP] */
        first++;
    size_t *until = calloc(n_ends + 1, sizeof *until); /* tokens up to each end */
    if (!until)
        return error_memory(err);
    for (size_t i = 0; status == DRR_OK && i <= n_ends; i++) {
        const size_t end = i < n_ends ? whole_end(text, begin, ends[i], size) : size;
        count = 0;
        status = count_tokens(&count, tokenizer, text + begin, end - begin, err);
        until[i] = all += count;
        begin = end;
    }
    for (size_t i = 0; status == DRR_OK && i < n_ends; i++) {
        const size_t behind = all - until[i]; /* tokens of the text that follow this step */
        const bool there = until[i] > 0 && first + behind + 2 <= n;
        places[i] = there ? (uint32_t)(n - 2 - behind) : WORDPIECE_NOWHERE;
    }
    free(until);
    return status;
}
