/* wordpiece.c: ids of a text exactly as Hugging Face's BertTokenizer in Python gives them: its vocabulary, the greedy
 * longest match within a word, and the pair that a critic reads. What a word is, is wordpiece_words.c's. A tokenizer of
 * byte-level BPE has the same table of tokens and the same pair; the ids of its texts are bpe.c's.
 *
 * A special token's name in a text ("[SEP]") is text like any other (split_special_tokens there): no answer can end its
 * own segment. Where the tokenizer in Rust differs (final sigma, unassigned characters), this is the one in Python. */
#include "critic/bpe_internal.h"
#include "critic/wordpiece_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_WORD = 100 /* characters; a longer word is unknown */, MAX_TOKENS = 4000000, MIN_PAIR = 5 };

static const char *const special_names[N_SPECIALS] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

typedef struct token {
    const char *text; /* whole, "##ing" */
    size_t length;
} token;

struct wordpiece {
    arena *texts;
    token *tokens;
    size_t n_tokens, longest; /* longest in bytes, without "##" */
    uint32_t *slots;          /* open addressing over a power of two: id + 1, or 0 */
    size_t n_slots;
    int32_t specials[N_SPECIALS];
    size_t n_between; /* separators between question and text */
    bool lowercase;
    bool has_bytes; /* byte-level BPE: every token is whole, "##" too */
    bpe *bytes;     /* then, once its tokens are known */
};

/* ---- the vocabulary */

/* A continuation is kept by its text after "##", so that the search hashes the word's own bytes. */
static bool is_continuation(const wordpiece *w, const token *t)
{
    return !w->has_bytes && t->length > 2 && t->text[0] == '#' && t->text[1] == '#';
}

static size_t slot_of(const wordpiece *w, bool continuation, const char *text, size_t length)
{
    size_t at = (size_t)hash_bytes(continuation, text, length) & (w->n_slots - 1);
    for (; w->slots[at]; at = (at + 1) & (w->n_slots - 1)) {
        const token *t = &w->tokens[w->slots[at] - 1];
        const size_t skip = is_continuation(w, t) ? 2 : 0;
        if ((skip == 2) == continuation && t->length - skip == length && memcmp(t->text + skip, text, length) == 0)
            break;
    }
    return at;
}

static int32_t find(const wordpiece *w, bool continuation, const char *text, size_t length)
{
    return (int32_t)w->slots[slot_of(w, continuation, text, length)] - 1;
}

int32_t wordpiece_find(const wordpiece *w, const char *text, size_t length)
{
    return find(w, false, text, length);
}

static drr_status add_token(wordpiece *w, const char *text, const char *where, drr_error *err)
{
    token *t = &w->tokens[w->n_tokens];
    t->length = strlen(text);
    if (utf8_sound(text, t->length) < t->length)
        return error_set(err, DRR_E_FORMAT, "%s: token %zu of the vocabulary (counted from 0) is not UTF-8", where,
                         w->n_tokens);
    t->text = arena_copy(w->texts, text, t->length);
    if (!t->text)
        return error_memory(err);
    const size_t skip = is_continuation(w, t) ? 2 : 0, at = slot_of(w, skip == 2, t->text + skip, t->length - skip);
    if (w->slots[at])
        return error_set(err, DRR_E_FORMAT,
                         "%s: tokens %u and %zu of the vocabulary (counted from 0) are the same, \"%s\"", where,
                         w->slots[at] - 1, w->n_tokens, text);
    w->slots[at] = (uint32_t)++w->n_tokens;
    if (t->length - skip > w->longest)
        w->longest = t->length - skip;
    return DRR_OK;
}

static drr_status find_specials(wordpiece *w, const char *where, drr_error *err)
{
    for (int i = 0; i < N_SPECIALS; i++) {
        w->specials[i] = find(w, false, special_names[i], strlen(special_names[i]));
        if (w->specials[i] < 0)
            return error_set(err, DRR_E_FORMAT, "%s: the vocabulary has no token %s; a BERT vocabulary has it", where,
                             special_names[i]);
    }
    return DRR_OK;
}

static drr_status new_table(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool has_bytes,
                            const char *where, drr_error *err)
{
    if (n_tokens > MAX_TOKENS)
        return error_set(err, DRR_E_LIMIT, "%s: the vocabulary has %zu tokens; at most %d are handled", where, n_tokens,
                         MAX_TOKENS);
    wordpiece *w = calloc(1, sizeof *w);
    if (!w)
        return error_memory(err);
    drr_status status = DRR_OK;
    w->has_bytes = has_bytes;
    for (w->n_slots = 64; w->n_slots < 2 * n_tokens;)
        w->n_slots *= 2;
    w->texts = arena_new(0);
    w->tokens = calloc(n_tokens + 1, sizeof *w->tokens);
    w->slots = calloc(w->n_slots, sizeof *w->slots);
    if (!w->texts || !w->tokens || !w->slots)
        status = error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < n_tokens; i++)
        status = add_token(w, tokens[i], where, err);
    if (status == DRR_OK)
        *tokenizer = w;
    else
        wordpiece_free(w);
    return status;
}

drr_status wordpiece_new_from(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool lowercase,
                              const char *where, drr_error *err)
{
    wordpiece *w = NULL;
    drr_status status = new_table(&w, tokens, n_tokens, false, where, err);
    if (status != DRR_OK)
        return status;
    w->lowercase = lowercase;
    w->n_between = 1;
    status = find_specials(w, where, err);
    if (status == DRR_OK)
        *tokenizer = w;
    else
        wordpiece_free(w);
    return status;
}

drr_status wordpiece_new_bytes(wordpiece **tokenizer, const bpe_parts *parts, const char *where, drr_error *err)
{
    wordpiece *w = NULL;
    drr_status status = new_table(&w, parts->tokens, parts->n_tokens, true, where, err);
    if (status != DRR_OK)
        return status;
    w->n_between = parts->n_between;
    for (int i = 0; status == DRR_OK && i < N_SPECIALS; i++) {
        w->specials[i] = parts->specials[i];
        if (w->specials[i] < 0 || (size_t)w->specials[i] >= w->n_tokens)
            status = error_set(err, DRR_E_FORMAT, "%s: special token %d has the id %d, and there are %zu tokens", where,
                               i, (int)w->specials[i], w->n_tokens);
    }
    if (status == DRR_OK)
        status = bpe_new(&w->bytes, w, parts, where, err);
    if (status == DRR_OK)
        *tokenizer = w;
    else
        wordpiece_free(w);
    return status;
}

drr_status wordpiece_new(wordpiece **tokenizer, const char *const *tokens, size_t n_tokens, bool lowercase,
                         drr_error *err)
{
    return wordpiece_new_from(tokenizer, tokens, n_tokens, lowercase, "the tokenizer", err);
}

drr_status wordpiece_open(wordpiece **tokenizer, const char *vocab_txt, bool lowercase, drr_error *err)
{
    char *text = NULL;
    const char **lines = NULL;
    size_t size = 0, n = 0;
    drr_status status = file_read(&text, &size, vocab_txt, (size_t)256 << 20, err);
    if (status == DRR_OK && memchr(text, '\0', size))
        status = error_set(err, DRR_E_FORMAT, "%s: byte %zu is NUL; a text file with one token a line is wanted",
                           vocab_txt, strlen(text));
    if (status == DRR_OK)
        status = lines_split(&lines, &n, text, size, err); /* the first is token 0 */
    if (status == DRR_OK)
        status = wordpiece_new_from(tokenizer, lines, n, lowercase, vocab_txt, err);
    free(lines);
    free(text);
    return status;
}

void wordpiece_free(wordpiece *w)
{
    if (!w)
        return;
    arena_free(w->texts);
    free(w->tokens);
    free(w->slots);
    bpe_free(w->bytes);
    free(w);
}

const bpe *wordpiece_bytes(const wordpiece *w)
{
    return w->bytes;
}

size_t wordpiece_between(const wordpiece *w)
{
    return w->n_between;
}

size_t wordpiece_size(const wordpiece *w)
{
    return w->n_tokens;
}

const char *wordpiece_utf8proc_version(void)
{
    return utf8proc_version();
}

const char *wordpiece_token(const wordpiece *w, size_t id)
{
    return id < w->n_tokens ? w->tokens[id].text : NULL;
}

bool wordpiece_lowercase(const wordpiece *w)
{
    return w->lowercase;
}

int32_t wordpiece_special(const wordpiece *w, int which)
{
    return w->specials[which];
}

bool wordpiece_is_special(const wordpiece *w, size_t id)
{
    for (int i = 0; i < N_SPECIALS; i++)
        if ((size_t)w->specials[i] == id)
            return true;
    return false;
}

/* ---- ids */

/* Ids of one word, appended to ids[*n]: never more than it has characters. */
static void add_word(const wordpiece *w, const int32_t *word, size_t length, int32_t *ids, size_t *n)
{
    char bytes[4 * MAX_WORD];
    size_t offsets[MAX_WORD + 1] = {0};
    const size_t before = *n;
    if (length > MAX_WORD) {
        ids[(*n)++] = w->specials[SPECIAL_UNKNOWN];
        return;
    }
    for (size_t i = 0; i < length; i++)
        offsets[i + 1] = offsets[i] + (size_t)utf8proc_encode_char(word[i], (utf8proc_uint8_t *)bytes + offsets[i]);
    for (size_t start = 0, end; start < length; start = end) {
        int32_t id = -1;
        for (end = length; end > start; end--) {
            const size_t size = offsets[end] - offsets[start];
            if (size <= w->longest && (id = find(w, start > 0, bytes + offsets[start], size)) >= 0)
                break;
        }
        if (id < 0) { /* one piece is unknown: all of the word is */
            *n = before;
            ids[(*n)++] = w->specials[SPECIAL_UNKNOWN];
            return;
        }
        ids[(*n)++] = id;
    }
}

drr_status wordpiece_encode(const wordpiece *w, const char *text, int32_t **ids, size_t *n, drr_error *err)
{
    int32_t *points = NULL, *out = NULL;
    size_t n_points = 0, used = 0, bytes;
    if (w->bytes)
        return bpe_encode(w->bytes, text, ids, n, err);
    drr_status status = words_split(&points, &n_points, text, w->lowercase, err);
    if (status != DRR_OK)
        return status;
    out = size_multiply(&bytes, n_points + 1, sizeof *out) ? malloc(bytes) : NULL;
    if (!out) {
        status = error_memory(err);
        goto done;
    }
    for (size_t i = 0; i < n_points;) {
        size_t end = i;
        while (end < n_points && points[end] != ' ')
            end++;
        if (end > i)
            add_word(w, points + i, end - i, out, &used);
        i = end + 1;
    }
    *ids = out;
    *n = used;
done:
    free(points);
    return status;
}

drr_status wordpiece_encode_pair(const wordpiece *w, const char *question, const char *text, size_t max_length,
                                 int32_t *ids, size_t *n, bool *truncated, drr_error *err)
{
    int32_t *first = NULL, *second = NULL;
    size_t n_first = 0, n_second = 0;
    if (max_length < MIN_PAIR)
        return error_set(err, DRR_E_ARGUMENT,
                         "a question and a text need room for %d tokens, and there is room for %zu", MIN_PAIR,
                         max_length);
    drr_status status = wordpiece_encode(w, question, &first, &n_first, err);
    if (status == DRR_OK)
        status = wordpiece_encode(w, text, &second, &n_second, err);
    if (status == DRR_OK) {
        const size_t room = max_length - 2 - w->n_between, half = room / 2;
        const size_t beside = n_second < room - half ? room - n_second : half; /* what the text leaves, or half */
        const size_t kept_first = n_first < beside ? n_first : beside;
        const size_t left = room - kept_first, kept_second = n_second < left ? n_second : left;
        size_t used = 0;
        ids[used++] = w->specials[SPECIAL_CLS];
        memcpy(ids + used, first, kept_first * sizeof *ids);
        used += kept_first;
        for (size_t i = 0; i < w->n_between; i++)
            ids[used++] = w->specials[SPECIAL_SEP];
        memcpy(ids + used, second + (n_second - kept_second), kept_second * sizeof *ids);
        used += kept_second;
        ids[used++] = w->specials[SPECIAL_SEP];
        *n = used;
        if (truncated)
            *truncated = kept_first < n_first || kept_second < n_second;
    }
    free(first);
    free(second);
    return status;
}
