/* wordpiece_words.c: text to words as the BasicTokenizer of Hugging Face's BertTokenizer (the one in Python) does it,
 * in its order: clean, spaces around ideographs, NFC, lower case, accents off (NFD without Mn), punctuation apart.
 * Unicode's tables are utf8proc's; which ids the words get is wordpiece.c's.
 *
 * Bytes that are not UTF-8 vanish: Python would read them as U+FFFD, which cleaning drops. */
#include "critic/wordpiece_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct point_list {
    int32_t *data;
    size_t size, capacity;
} point_list;

static drr_status reserve(point_list *p, size_t more, drr_error *err)
{
    if (p->capacity - p->size >= more)
        return DRR_OK;
    size_t capacity = p->capacity * 2, bytes;
    if (capacity < p->size + more)
        capacity = p->size + more;
    int32_t *grown = size_multiply(&bytes, capacity, sizeof *grown) ? realloc(p->data, bytes) : NULL;
    if (!grown)
        return error_memory(err);
    p->data = grown;
    p->capacity = capacity;
    return DRR_OK;
}

/* ---- what a character is */

static bool is_space(int32_t c)
{
    if (c < 0x80)
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* Category C*, unassigned ones too. Tab and line ends were taken for spaces before. */
static bool is_control(int32_t c)
{
    if (c < 0x80)
        return c < 0x20 || c == 0x7F;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
        return true;
    default:
        return false;
    }
}

static bool is_punctuation(int32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/* The blocks that BERT calls Chinese; kana and hangul are not among them. */
static bool is_ideograph(int32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The list has room for three points. */
static void put_point(point_list *out, int32_t c, bool apart)
{
    if (apart)
        out->data[out->size++] = ' ';
    out->data[out->size++] = c;
    if (apart)
        out->data[out->size++] = ' ';
}

/* ---- clean text */

static drr_status clean(point_list *out, const char *text, bool *ascii, drr_error *err)
{
    const uint8_t *bytes = (const uint8_t *)text;
    const size_t length = strlen(text);
    drr_status status = reserve(out, length, err); /* an ideograph becomes three points and has three bytes or four */
    *ascii = true;
    for (size_t i = 0; status == DRR_OK && i < length;) {
        utf8proc_int32_t c = bytes[i];
        if (c < 0x80) {
            i++;
        } else {
            const utf8proc_ssize_t n = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(length - i), &c);
            i += n > 0 ? (size_t)n : 1;
            if (n <= 0 || c == 0xFFFD)
                continue;
        }
        if (is_space(c)) {
            out->data[out->size++] = ' ';
        } else if (!is_control(c)) {
            *ascii &= c < 0x80;
            put_point(out, c, is_ideograph(c));
        }
    }
    return status;
}

/* ---- normal forms */

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Marks in canonical order: by class, and as they stood within one. Sorted, not inserted one by one as
 * utf8proc_decompose does, because a text of nothing but marks would take quadratic time. */
static drr_status order_marks(int32_t *points, size_t n, drr_error *err)
{
    uint64_t *keys = NULL;
    size_t capacity = 0;
    drr_status status = DRR_OK;
    for (size_t begin = 0, end; status == DRR_OK && begin < n; begin = end + 1) {
        bool sorted = true;
        int last = 0;
        for (end = begin; end < n; end++) {
            const int class = points[end] < 0x300 ? 0 : utf8proc_get_property(points[end])->combining_class;
            if (class == 0)
                break;
            sorted &= class >= last;
            last = class;
        }
        if (sorted)
            continue;
        const size_t run = end - begin;
        if (run > capacity) {
            free(keys);
            capacity = run;
            keys = malloc(run * sizeof *keys);
            if (!keys) {
                status = error_memory(err);
                break;
            }
        }
        for (size_t i = 0; i < run; i++) /* class, place, code point: 8, 35 and 21 bits */
            keys[i] = (uint64_t)utf8proc_get_property(points[begin + i])->combining_class << 56 | (uint64_t)i << 21 |
                      (uint64_t)(uint32_t)points[begin + i];
        qsort(keys, run, sizeof *keys, by_key);
        for (size_t i = 0; i < run; i++)
            points[begin + i] = (int32_t)(keys[i] & 0x1FFFFF);
    }
    free(keys);
    return status;
}

/* NFD of `in`, appended to an empty list. */
static drr_status decompose(point_list *out, const point_list *in, drr_error *err)
{
    drr_status status = reserve(out, in->size + 32, err);
    for (size_t i = 0; status == DRR_OK && i < in->size; i++) {
        if (in->data[i] < 0xC0) {
            status = reserve(out, 1, err);
            if (status == DRR_OK)
                out->data[out->size++] = in->data[i];
            continue;
        }
        status = reserve(out, 32, err); /* the longest canonical decomposition has 4 */
        if (status != DRR_OK)
            break;
        const utf8proc_ssize_t n =
            utf8proc_decompose_char(in->data[i], out->data + out->size, 32, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, NULL);
        if (n < 0 || n > 32)
            status = error_set(err, DRR_E_BACKEND, "utf8proc cannot decompose U+%04X: %s", (unsigned)in->data[i],
                               utf8proc_errmsg(n));
        else
            out->size += (size_t)n;
    }
    return status == DRR_OK ? order_marks(out->data, out->size, err) : status;
}

static drr_status compose(point_list *p, drr_error *err)
{
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(p->data, (utf8proc_ssize_t)p->size, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return error_set(err, DRR_E_BACKEND, "utf8proc cannot compose a text: %s", utf8proc_errmsg(n));
    p->size = (size_t)n;
    return DRR_OK;
}

/* ---- lower case */

/* Unicode's Case_Ignorable: categories Mn, Me, Cf, Lm, Sk and the Word_Break classes MidLetter, MidNumLet,
 * Single_Quote. */
static bool is_case_ignorable(int32_t c)
{
    static const int32_t within_words[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                           0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < sizeof within_words / sizeof *within_words; i++)
        if (c == within_words[i])
            return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return false;
    }
}

static bool is_cased(int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT ||
           c == 0xAA || c == 0xBA || utf8proc_tolower(c) != c || utf8proc_toupper(c) != c;
}

/* A capital sigma is written as a final one after a letter with case and before none (SpecialCasing's Final_Sigma). */
static bool is_final(const point_list *p, size_t at)
{
    size_t i = at;
    while (i > 0 && is_case_ignorable(p->data[i - 1]))
        i--;
    if (i == 0 || !is_cased(p->data[i - 1]))
        return false;
    for (i = at + 1; i < p->size && is_case_ignorable(p->data[i]);)
        i++;
    return i == p->size || !is_cased(p->data[i]);
}

/* Python's str.lower makes i and U+0307 of U+0130; the dot above is an accent and goes anyway. */
static void lower(point_list *p, bool ascii)
{
    enum { CAPITAL_SIGMA = 0x3A3, SMALL_SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2 };
    for (size_t i = 0; !ascii && i < p->size; i++) /* first: what stands around a sigma must still have its case */
        if (p->data[i] == CAPITAL_SIGMA)
            p->data[i] = is_final(p, i) ? FINAL_SIGMA : SMALL_SIGMA;
    for (size_t i = 0; i < p->size; i++) {
        const int32_t c = p->data[i];
        if (c >= 0x80)
            p->data[i] = utf8proc_tolower(c);
        else if (c >= 'A' && c <= 'Z')
            p->data[i] = c + ('a' - 'A');
    }
}

static void strip_accents(point_list *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->size; i++)
        if (p->data[i] < 0x300 || utf8proc_category(p->data[i]) != UTF8PROC_CATEGORY_MN)
            p->data[kept++] = p->data[i];
    p->size = kept;
}

/* ---- all of it */

/* NFC, and where wanted lower case without accents. What is ASCII has neither marks nor forms. */
static drr_status normalise(point_list *p, point_list *spare, bool lowercase, bool ascii, drr_error *err)
{
    drr_status status = DRR_OK;
    if (!ascii) {
        status = decompose(spare, p, err);
        if (status == DRR_OK)
            status = compose(spare, err);
        const point_list swapped = *p;
        *p = *spare;
        *spare = swapped;
        spare->size = 0;
    }
    if (status != DRR_OK || !lowercase)
        return status;
    lower(p, ascii);
    if (ascii)
        return DRR_OK;
    status = decompose(spare, p, err);
    if (status == DRR_OK)
        strip_accents(spare);
    const point_list swapped = *p;
    *p = *spare;
    *spare = swapped;
    return status;
}

static drr_status part_punctuation(point_list *out, const point_list *in, drr_error *err)
{
    drr_status status = DRR_OK;
    out->size = 0;
    for (size_t i = 0; status == DRR_OK && i < in->size; i++) {
        const int32_t c = in->data[i];
        status = reserve(out, 3, err);
        if (status == DRR_OK)
            put_point(out, c, is_punctuation(c));
    }
    return status;
}

drr_status words_split(int32_t **points, size_t *n, const char *text, bool lowercase, drr_error *err)
{
    point_list p = {0}, spare = {0};
    bool ascii;
    drr_status status = clean(&p, text, &ascii, err);
    if (status == DRR_OK)
        status = normalise(&p, &spare, lowercase, ascii, err);
    if (status == DRR_OK)
        status = part_punctuation(&spare, &p, err);
    free(p.data);
    if (status != DRR_OK) {
        free(spare.data);
        return status;
    }
    *points = spare.data; /* NULL where there is nothing */
    *n = spare.size;
    return DRR_OK;
}

drr_status words_points(int32_t **points, size_t *n, const char *text, bool nfc, drr_error *err)
{
    const uint8_t *bytes = (const uint8_t *)text;
    const size_t length = strlen(text);
    point_list p = {0}, spare = {0};
    bool ascii = true;
    drr_status status = reserve(&p, length, err);
    for (size_t i = 0; status == DRR_OK && i < length;) {
        utf8proc_int32_t c = bytes[i];
        utf8proc_ssize_t taken = 1;
        if (c >= 0x80) {
            taken = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(length - i), &c);
            ascii = false;
        }
        if (taken > 0)
            p.data[p.size++] = c;
        i += taken > 0 ? (size_t)taken : 1;
    }
    if (status == DRR_OK && nfc)
        status = normalise(&p, &spare, false, ascii, err);
    free(spare.data);
    if (status != DRR_OK) {
        free(p.data);
        return status;
    }
    *points = p.data; /* NULL where there is nothing */
    *n = p.size;
    return DRR_OK;
}
