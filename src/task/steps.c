/* steps.c: where the steps of a rationale end. Programs are cut by line, and so are workings of several lines to a
 * number; everything else by sentence. A step ends right after its last character, so that what a reasoner goes on with
 * brings its own space, or after its line's end and the empty lines that follow: tokenizers keep those in one token.
 * The answer line is a step of its own, always the last. All cuts are behind whole UTF-8 characters. The rule in words
 * is docs/formats.md's, "Steps". */
#include "task/task.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct cutting {
    const char *text;
    size_t size;
    uint32_t *ends;
    size_t n, capacity;
} cutting;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static size_t skip_blanks(const char *text, size_t at, size_t end)
{
    while (at < end && is_blank(text[at]))
        at++;
    return at;
}

/* The line end that closes the line of `at`, or the text's end. */
static size_t line_end(const char *text, size_t at, size_t size)
{
    const char *end = at < size ? memchr(text + at, '\n', size - at) : NULL;
    return end ? (size_t)(end - text) : size;
}

/* A letter, a digit, or a byte of a character beyond ASCII: rules, fences and bullets have none, and are no step. */
static bool says_something(const char *text, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (isalnum((unsigned char)text[i]) || (unsigned char)text[i] >= 0x80)
            return true;
    return false;
}

static bool is_fence(const char *text, size_t at, size_t end)
{
    at = skip_blanks(text, at, end);
    return end - at >= 3 && (memcmp(text + at, "```", 3) == 0 || memcmp(text + at, "~~~", 3) == 0);
}

/* ---- the answer line */

static bool is_answer_line(const char *text, size_t at, size_t end)
{
    while (at < end && strchr(" \t*#_>", text[at]))
        at++;
    if (end - at >= 6 && strncasecmp(text + at, "final ", 6) == 0)
        at += 6;
    if (end - at < 7 || strncasecmp(text + at, "answer", 6) != 0)
        return false;
    for (at += 6; at < end && strchr(" *_", text[at]);)
        at++;
    return at < end && text[at] == ':';
}

/* Where the last answer line begins; the text's size where there is none. A program may well say `answer: int`. */
static size_t answer_begin(drr_kind kind, const char *text, size_t size)
{
    size_t found = size;
    for (size_t at = 0; kind != DRR_KIND_CHECKED && at < size; at = line_end(text, at, size) + 1)
        if (is_answer_line(text, at, line_end(text, at, size)))
            found = at;
    return found;
}

/* ---- sentences */

/* Bytes of what ends a sentence at `at` whatever follows it (Chinese and Japanese stops); 0: nothing does. */
static size_t wide_stop(const char *text, size_t at, size_t end)
{
    static const char *const stops[] = {"\xe3\x80\x82", "\xef\xbc\x81", "\xef\xbc\x9f"};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (end - at >= 3 && memcmp(text + at, stops[i], 3) == 0)
            return 3;
    return 0;
}

/* Past quotes, brackets and markup that may close behind a stop. */
static size_t past_closers(const char *text, size_t at, size_t end)
{
    static const char *const closers[] = {")",
                                          "]",
                                          "}",
                                          "\"",
                                          "'",
                                          "*",
                                          "_",
                                          "\\",
                                          "$",
                                          "`",
                                          "\xe2\x80\x9d" /* ” */,
                                          "\xe2\x80\x99" /* ’ */,
                                          "\xc2\xbb" /* » */,
                                          "\xe3\x80\x8d" /* 」 */,
                                          "\xef\xbc\x89" /* ） */};
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
            const size_t n = strlen(closers[i]);
            if (end - at >= n && memcmp(text + at, closers[i], n) == 0) {
                at += n;
                more = true;
            }
        }
    }
    return at;
}

static bool in_list(const char *word, size_t n, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == n && strncasecmp(*list, word, n) == 0)
            return true;
    return false;
}

/* Is the number at `at` the sentence's first word, as in "1. First", or its second, as in "**Step 1.** Add"? */
static bool is_numbering(const char *text, size_t begin, size_t at)
{
    while (begin < at && strchr(" \t*#_(", text[begin]))
        begin++;
    return begin == at || (at - begin == 5 && strncasecmp(text + begin, "step ", 5) == 0);
}

/* The stop at `at` closes no sentence when it belongs to a word. `follows_capital`: the next word begins with one. */
static bool stop_is_of_word(const char *text, size_t begin, size_t at, bool follows_capital)
{
    static const char *const never[] = {"e.g", "i.e", "mr",  "mrs", "ms",   "dr",     "prof", "st",
                                        "vs",  "cf",  "fig", "eq",  "resp", "approx", NULL};
    static const char *const maybe[] = {"etc", "al",  "no",  "nos", "inc", "ltd", "co", "jr", "sr",  "est",
                                        "min", "max", "sec", "hr",  "hrs", "ft",  "oz", "lb", "lbs", NULL};
    size_t word = at;
    bool letters = false, digits = false, inner_stop = false;
    while (word > begin && (isalnum((unsigned char)text[word - 1]) || text[word - 1] == '.')) {
        word--;
        letters = letters || isalpha((unsigned char)text[word]);
        digits = digits || isdigit((unsigned char)text[word]);
        inner_stop = inner_stop || text[word] == '.';
    }
    const size_t n = at - word;
    if (n == 0)
        return false;
    if (in_list(text + word, n, never))
        return true;
    if (n == 1 && isupper((unsigned char)text[word])) /* "J. Smith", "B. library" */
        return true;
    if (digits && !letters && !inner_stop && is_numbering(text, begin, word))
        return true;
    if ((letters && inner_stop) || in_list(text + word, n, maybe)) /* "5 a.m. on", "No. 3" */
        return !follows_capital;
    return inner_stop && !letters && !digits && !follows_capital; /* "..." in the middle */
}

/* Where the sentence that begins at `begin` ends, at most `end`, which is its line's. */
static size_t sentence_end(const char *text, size_t begin, size_t end)
{
    for (size_t at = begin; at < end; at++) {
        const size_t wide = wide_stop(text, at, end);
        if (wide)
            return past_closers(text, at + wide, end);
        if (text[at] != '.' && text[at] != '!' && text[at] != '?')
            continue;
        const size_t past = past_closers(text, at + 1, end);
        const size_t next = skip_blanks(text, past, end);
        if (next == end)
            return end;
        if (next == past) /* "3.5", "x.y", "?!" */
            continue;
        size_t word = next;
        while (word < end && strchr("\"'([*_`$", text[word]))
            word++;
        const bool capital = isupper((unsigned char)text[word]) != 0;
        if (text[at] == '.' && stop_is_of_word(text, begin, at, capital))
            continue;
        if (text[at] == '!' && at > begin && (isdigit((unsigned char)text[at - 1]) || text[at - 1] == ')') && !capital)
            continue; /* a factorial */
        return past;
    }
    return end;
}

/* ---- cutting */

static drr_status cut(cutting *c, size_t end, drr_error *err)
{
    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 16;
        uint32_t *ends = realloc(c->ends, capacity * sizeof *ends);
        if (!ends)
            return error_memory(err);
        c->ends = ends;
        c->capacity = capacity;
    }
    c->ends[c->n++] = (uint32_t)end;
    return DRR_OK;
}

/* Lines before `end` that say something. */
static size_t count_lines(const char *text, size_t end)
{
    size_t n = 0;
    for (size_t at = 0; at < end; at = line_end(text, at, end) + 1)
        n += says_something(text, at, line_end(text, at, end));
    return n;
}

/* Cuts text[0, end). A stretch that says nothing belongs to the step before it, or to the first. */
static drr_status cut_body(cutting *c, size_t end, bool by_line, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t at = 0; at < end && status == DRR_OK;) {
        const size_t line = line_end(c->text, at, end);
        size_t stop = by_line ? line : sentence_end(c->text, at, line);
        const bool silent = !says_something(c->text, at, stop) || (by_line && is_fence(c->text, at, line));
        if (skip_blanks(c->text, stop, end) >= line)
            stop = line < end ? line + 1 : end;
        if (silent && c->n)
            c->ends[c->n - 1] = (uint32_t)stop;
        else if (!silent)
            status = cut(c, stop, err);
        at = stop;
    }
    return status;
}

drr_status drr_step_ends(uint32_t **ends, size_t *n, drr_kind kind, const char *text, drr_error *err)
{
    if (!text || (unsigned)kind > DRR_KIND_CHECKED)
        return error_set(err, DRR_E_ARGUMENT, "steps are those of a text of a known kind");
    return task_step_ends(ends, n, kind, text, err);
}

drr_status task_step_ends(uint32_t **ends, size_t *n, drr_kind kind, const char *text, drr_error *err)
{
    cutting c = {.text = text, .size = strlen(text)};
    if (c.size > UINT32_MAX)
        return error_set(err, DRR_E_LIMIT, "a text of %zu bytes is too long to be cut into steps", c.size);
    const size_t answer = answer_begin(kind, text, c.size);
    const bool by_line = kind == DRR_KIND_CHECKED || (kind == DRR_KIND_NUMBER && count_lines(text, answer) > 1);
    drr_status status = cut_body(&c, answer, by_line, err);
    if (status == DRR_OK && answer < c.size)
        status = cut(&c, c.size, err);
    else if (c.n)
        c.ends[c.n - 1] = (uint32_t)c.size;
    else if (status == DRR_OK && c.size)
        status = cut(&c, c.size, err);
    if (status != DRR_OK) {
        free(c.ends);
        return status;
    }
    *ends = c.ends;
    *n = c.n;
    return DRR_OK;
}
