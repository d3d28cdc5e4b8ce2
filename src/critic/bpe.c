/* bpe.c: ids of a text as byte-level BPE gives them: GPT-2's words, their bytes, and of two neighbours the pair that
 * was merged first in training joined first, until none is left. The same ids as Hugging Face's tokenizers with
 * ByteLevel and BPE. All 256 bytes are tokens, so nothing is unknown.
 *
 * The name of a control token in a text is text like any other (encode_special_tokens there): no answer can end its own
 * segment. Bytes that are not UTF-8 are left out, as WordPiece leaves them out. */
#include "critic/bpe_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct merge {
    int32_t left, right, joined;
} merge;

typedef struct added_token { /* found in a text as it stands */
    const char *text;        /* the token table's */
    size_t length;
    int32_t id;
} added_token;

struct bpe {
    merge *merges;
    size_t n_merges;
    uint32_t *slots; /* open addressing over a power of two, by the two ids: rank + 1, or 0 */
    size_t n_slots;
    uint8_t *kinds;
    added_token *added;       /* by first byte; the longest first */
    uint32_t added_from[257]; /* of a first byte */
    int32_t bytes[256];
    bool nfc;
};

/* ---- what it is made of */

/* Bytes that print stand for themselves; the others are, in order, the characters from U+0100 on. */
static int32_t spelling_of(int byte)
{
    int32_t shifted = 0x100;
    for (int b = 0; b < 256; b++) {
        const bool prints = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte)
            return prints ? b : shifted;
        shifted += !prints;
    }
    return 0;
}

static drr_status find_bytes(bpe *b, const wordpiece *tokens, const char *where, drr_error *err)
{
    for (int byte = 0; byte < 256; byte++) {
        utf8proc_uint8_t text[4];
        const utf8proc_ssize_t length = utf8proc_encode_char(spelling_of(byte), text);
        b->bytes[byte] = wordpiece_find(tokens, (const char *)text, (size_t)length);
        if (b->bytes[byte] < 0)
            return error_set(
                err, DRR_E_FORMAT,
                "%s: the vocabulary has no token for the byte 0x%02X (\"%.*s\"); one of byte-level BPE has "
                "all 256",
                where, byte, (int)length, (const char *)text);
    }
    return DRR_OK;
}

static size_t slot_of(const bpe *b, int32_t left, int32_t right)
{
    size_t at = (size_t)hash_mix((uint64_t)(uint32_t)left, (uint64_t)(uint32_t)right) & (b->n_slots - 1);
    for (; b->slots[at]; at = (at + 1) & (b->n_slots - 1)) {
        const merge *m = &b->merges[b->slots[at] - 1];
        if (m->left == left && m->right == right)
            break;
    }
    return at;
}

static drr_status add_merge(bpe *b, const wordpiece *tokens, const char *text, const char *where, drr_error *err)
{
    const char *space = strchr(text, ' ');
    char joined[1024];
    const size_t left = space ? (size_t)(space - text) : 0, right = space ? strlen(space + 1) : 0;
    if (!left || !right || strchr(space + 1, ' '))
        return error_set(err, DRR_E_FORMAT, "%s: merge %zu (counted from 0), \"%.80s\", is not two tokens", where,
                         b->n_merges, text);
    if (left + right > sizeof joined)
        return error_set(err, DRR_E_LIMIT, "%s: merge %zu (counted from 0) makes a token of more than %zu bytes", where,
                         b->n_merges, sizeof joined);
    memcpy(joined, text, left);
    memcpy(joined + left, space + 1, right);
    const merge m = {wordpiece_find(tokens, text, left), wordpiece_find(tokens, space + 1, right),
                     wordpiece_find(tokens, joined, left + right)};
    if (m.left < 0 || m.right < 0 || m.joined < 0)
        return error_set(err, DRR_E_FORMAT,
                         "%s: merge %zu (counted from 0), \"%.80s\": one of the two, or what they make, is not in the "
                         "vocabulary; vocabulary and merges do not belong together",
                         where, b->n_merges, text);
    const size_t at = slot_of(b, m.left, m.right);
    if (b->slots[at])
        return error_set(err, DRR_E_FORMAT, "%s: merges %u and %zu (counted from 0) are the same, \"%.80s\"", where,
                         b->slots[at] - 1, b->n_merges, text);
    b->merges[b->n_merges] = m;
    b->slots[at] = (uint32_t)++b->n_merges;
    return DRR_OK;
}

static int by_first_byte(const void *a, const void *b)
{
    const added_token *x = a, *y = b;
    const int difference = (uint8_t)x->text[0] - (uint8_t)y->text[0];
    return difference ? difference : (x->length < y->length) - (x->length > y->length);
}

static drr_status take_added(bpe *b, const wordpiece *tokens, size_t n_tokens, const char *where, drr_error *err)
{
    size_t n = 0;
    for (size_t id = 0; id < n_tokens; id++)
        n += b->kinds[id] == TOKEN_ADDED;
    b->added = calloc(n + 1, sizeof *b->added);
    if (!b->added)
        return error_memory(err);
    n = 0;
    for (size_t id = 0; id < n_tokens; id++)
        if (b->kinds[id] == TOKEN_ADDED) {
            const char *text = wordpiece_token(tokens, id);
            if (!*text)
                return error_set(err, DRR_E_FORMAT, "%s: added token %zu (counted from 0) is empty", where, id);
            b->added[n++] = (added_token){text, strlen(text), (int32_t)id};
        }
    qsort(b->added, n, sizeof *b->added, by_first_byte);
    for (size_t i = 0, byte = 0; byte <= 256; byte++) {
        while (i < n && (size_t)(uint8_t)b->added[i].text[0] < byte)
            i++;
        b->added_from[byte] = (uint32_t)i;
    }
    return DRR_OK;
}

drr_status bpe_new(bpe **out, const wordpiece *tokens, const bpe_parts *parts, const char *where, drr_error *err)
{
    bpe *b = calloc(1, sizeof *b);
    if (!b)
        return error_memory(err);
    drr_status status = DRR_OK;
    b->nfc = parts->nfc;
    for (b->n_slots = 64; b->n_slots < 2 * parts->n_merges;)
        b->n_slots *= 2;
    b->merges = calloc(parts->n_merges + 1, sizeof *b->merges);
    b->slots = calloc(b->n_slots, sizeof *b->slots);
    b->kinds = malloc(parts->n_tokens + 1);
    if (!b->merges || !b->slots || !b->kinds)
        status = error_memory(err);
    if (status == DRR_OK) {
        memcpy(b->kinds, parts->kinds, parts->n_tokens);
        status = find_bytes(b, tokens, where, err);
    }
    if (status == DRR_OK)
        status = take_added(b, tokens, parts->n_tokens, where, err);
    for (size_t i = 0; status == DRR_OK && i < parts->n_merges; i++)
        status = add_merge(b, tokens, parts->merges[i], where, err);
    if (status == DRR_OK)
        *out = b;
    else
        bpe_free(b);
    return status;
}

void bpe_free(bpe *b)
{
    if (!b)
        return;
    free(b->merges);
    free(b->slots);
    free(b->kinds);
    free(b->added);
    free(b);
}

uint8_t bpe_kind(const bpe *b, size_t id)
{
    return b->kinds[id];
}

bool bpe_composes(const bpe *b)
{
    return b->nfc;
}

size_t bpe_merges(const bpe *b)
{
    return b->n_merges;
}

void bpe_merge(const bpe *b, size_t rank, int32_t *left, int32_t *right)
{
    *left = b->merges[rank].left;
    *right = b->merges[rank].right;
}

/* ---- merging the bytes of a word */

typedef struct candidate { /* two neighbours that may be joined */
    uint32_t rank, at;     /* at: the left one's place */
} candidate;

typedef struct chain { /* the symbols of a word, linked, and a heap of what may be joined */
    int32_t *ids;
    uint32_t *next, *previous;
    candidate *heap;
    size_t n_heap, capacity; /* in bytes of a word */
} chain;

enum { NOTHING = UINT32_MAX };

static void chain_free(chain *c)
{
    free(c->ids);
    free(c->next);
    free(c->previous);
    free(c->heap);
}

static drr_status chain_reserve(chain *c, size_t length, drr_error *err)
{
    size_t bytes;
    if (length <= c->capacity)
        return DRR_OK;
    const size_t capacity = length < 64 ? 64 : 2 * length;
    chain_free(c);
    *c = (chain){.capacity = capacity};
    if (size_multiply(&bytes, 3 * sizeof *c->heap, capacity)) { /* one a pair at first, and two more a merge */
        c->ids = malloc(capacity * sizeof *c->ids);
        c->next = malloc(capacity * sizeof *c->next);
        c->previous = malloc(capacity * sizeof *c->previous);
        c->heap = malloc(bytes);
    }
    if (c->ids && c->next && c->previous && c->heap)
        return DRR_OK;
    c->capacity = 0;
    return error_memory(err);
}

static bool is_before(candidate a, candidate b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void heap_put(chain *c, candidate item)
{
    size_t at = c->n_heap++;
    for (; at > 0 && is_before(item, c->heap[(at - 1) / 2]); at = (at - 1) / 2)
        c->heap[at] = c->heap[(at - 1) / 2];
    c->heap[at] = item;
}

static candidate heap_take(chain *c)
{
    const candidate first = c->heap[0], item = c->heap[--c->n_heap];
    size_t at = 0;
    for (size_t child = 1; child < c->n_heap; child = 2 * at + 1) {
        if (child + 1 < c->n_heap && is_before(c->heap[child + 1], c->heap[child]))
            child++;
        if (!is_before(c->heap[child], item))
            break;
        c->heap[at] = c->heap[child];
        at = child;
    }
    c->heap[at] = item;
    return first;
}

static void consider(const bpe *b, chain *c, uint32_t at)
{
    if (at == NOTHING || c->next[at] == NOTHING)
        return;
    const uint32_t slot = b->slots[slot_of(b, c->ids[at], c->ids[c->next[at]])];
    if (slot)
        heap_put(c, (candidate){slot - 1, at});
}

/* Ids of one word of at least one byte, appended to ids[*n]. */
static void add_word(const bpe *b, chain *c, const uint8_t *word, size_t length, int32_t *ids, size_t *n)
{
    c->n_heap = 0;
    for (uint32_t i = 0; i < length; i++) {
        c->ids[i] = b->bytes[word[i]];
        c->next[i] = i + 1 < length ? i + 1 : NOTHING;
        c->previous[i] = i ? i - 1 : NOTHING;
    }
    for (uint32_t i = 0; i < length; i++)
        consider(b, c, i);
    while (c->n_heap) {
        const candidate best = heap_take(c);
        const merge *m = &b->merges[best.rank];
        const uint32_t right = c->ids[best.at] == m->left ? c->next[best.at] : NOTHING;
        if (right == NOTHING || c->ids[right] != m->right)
            continue; /* one of the two has been joined with another */
        c->ids[best.at] = m->joined;
        c->ids[right] = -1;
        c->next[best.at] = c->next[right];
        if (c->next[right] != NOTHING)
            c->previous[c->next[right]] = best.at;
        consider(b, c, c->previous[best.at]);
        consider(b, c, best.at);
    }
    for (uint32_t i = 0; i != NOTHING; i = c->next[i])
        ids[(*n)++] = c->ids[i];
}

/* ---- words: '(s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */

typedef enum class { CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_OTHER } class;

static class class_of(int32_t c)
{
    if (c < 0x80) {
        const int32_t lower = c | 0x20;
        return lower >= 'a' && lower <= 'z'           ? CLASS_LETTER
               : c >= '0' && c <= '9'                 ? CLASS_NUMBER
               : c == ' ' || (c >= '\t' && c <= '\r') ? CLASS_SPACE
                                                      : CLASS_OTHER;
    }
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SPACE;
    default:
        return c == 0x85 ? CLASS_SPACE : CLASS_OTHER;
    }
}

static size_t contraction(const int32_t *points, size_t n)
{
    if (n < 2 || points[0] != '\'')
        return 0;
    const int32_t c = points[1], d = n > 2 ? points[2] : 0;
    if (c == 's' || c == 't' || c == 'm' || c == 'd')
        return 2;
    return (c == 'r' && d == 'e') || (c == 'v' && d == 'e') || (c == 'l' && d == 'l') ? 3 : 0;
}

/* How many of the n points, at least one, are the first word. */
static size_t word_length(const int32_t *points, size_t n)
{
    size_t end = contraction(points, n);
    if (end)
        return end;
    const size_t first = points[0] == ' ' && n > 1 && class_of(points[1]) != CLASS_SPACE ? 1 : 0;
    const class kind = class_of(points[first]);
    for (end = first + 1; end < n && class_of(points[end]) == kind;)
        end++;
    /* of several spaces before a word the last is left to it */
    return kind == CLASS_SPACE && end < n && end > 1 ? end - 1 : end;
}

/* ---- a text */

typedef struct bytes_text {
    int32_t *points;
    size_t n;
    uint8_t *bytes;
    size_t *offsets; /* n + 1: where a point's bytes begin */
} bytes_text;

static drr_status read_text(bytes_text *t, const char *text, bool nfc, drr_error *err)
{
    size_t bytes, words;
    drr_status status = words_points(&t->points, &t->n, text, nfc, err);
    if (status != DRR_OK)
        return status;
    if (!size_multiply(&bytes, t->n + 1, 4) || !size_multiply(&words, t->n + 1, sizeof *t->offsets))
        return error_memory(err);
    t->bytes = malloc(bytes);
    t->offsets = malloc(words);
    if (!t->bytes || !t->offsets)
        return error_memory(err);
    t->offsets[0] = 0;
    for (size_t i = 0; i < t->n; i++)
        t->offsets[i + 1] = t->offsets[i] + (size_t)utf8proc_encode_char(t->points[i], t->bytes + t->offsets[i]);
    return DRR_OK;
}

/* The longest added token that begins with point `at`, or NULL; `*end` is the point after it. */
static const added_token *added_at(const bpe *b, const bytes_text *t, size_t at, size_t *end)
{
    const uint8_t *bytes = t->bytes + t->offsets[at];
    const size_t left = t->offsets[t->n] - t->offsets[at];
    for (uint32_t i = b->added_from[bytes[0]]; i < b->added_from[bytes[0] + 1]; i++) {
        const added_token *a = &b->added[i];
        if (a->length > left || memcmp(a->text, bytes, a->length) != 0)
            continue;
        for (*end = at; t->offsets[*end] < t->offsets[at] + a->length;)
            ++*end;
        return a;
    }
    return NULL;
}

static drr_status add_words(const bpe *b, chain *c, const bytes_text *t, size_t begin, size_t end, int32_t *ids,
                            size_t *n, drr_error *err)
{
    drr_status status = DRR_OK;
    while (status == DRR_OK && begin < end) {
        const size_t next = begin + word_length(t->points + begin, end - begin);
        const size_t length = t->offsets[next] - t->offsets[begin];
        status = length < NOTHING
                     ? chain_reserve(c, length, err)
                     : error_set(err, DRR_E_LIMIT, "a word of %zu bytes is too long to be encoded", length);
        if (status == DRR_OK)
            add_word(b, c, t->bytes + t->offsets[begin], length, ids, n);
        begin = next;
    }
    return status;
}

drr_status bpe_encode(const bpe *b, const char *text, int32_t **ids, size_t *n, drr_error *err)
{
    bytes_text t = {0};
    chain c = {0};
    int32_t *out = NULL;
    size_t used = 0, bytes, begin = 0;
    drr_status status = read_text(&t, text, b->nfc, err);
    if (status == DRR_OK) {
        out = size_multiply(&bytes, t.offsets[t.n] + 1, sizeof *out) ? malloc(bytes) : NULL;
        if (!out)
            status = error_memory(err);
    }
    for (size_t i = 0, end; status == DRR_OK && i < t.n; i = end) {
        const added_token *a = added_at(b, &t, i, &end);
        if (!a) {
            end = i + 1;
            continue;
        }
        status = add_words(b, &c, &t, begin, i, out, &used, err);
        out[used++] = a->id;
        begin = end;
    }
    if (status == DRR_OK)
        status = add_words(b, &c, &t, begin, t.n, out, &used, err);
    chain_free(&c);
    free(t.points);
    free(t.bytes);
    free(t.offsets);
    if (status != DRR_OK) {
        free(out);
        return status;
    }
    *ids = out;
    *n = used;
    return DRR_OK;
}
