/* record_redact.c: values of named JSON fields, out of texts. A text is no JSON as a whole: a question has an object
 * somewhere in it, an answer quotes half of one, and a string may hold JSON that is escaped once more. So members are
 * found by their look, "name" and a colon, at any depth of escaping, and a value that does not end takes the rest of
 * the text with it. What was found in the request is taken out wherever else it stands, for models repeat what they
 * read.
 *
 * In JSON within n strings a quote has 2^n - 1 backslashes before it, and a backslash of the text itself doubles n
 * times: whatever stands before, the number of backslashes ends in n binary ones. That n is called the level here. */
#include "serve/record_redact.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_VALUES = 1000, SHORTEST = 4, DEEPEST = 16 };

typedef struct span {
    size_t begin, end;
} span;

/* ---- quotes */

typedef struct quote {
    size_t at;    /* of the quote itself */
    size_t first; /* of the backslashes that belong to it */
    unsigned level;
} quote;

/* The next quote in [from, n) of a level up to `deepest`. */
static bool next_quote(quote *q, const char *text, size_t from, size_t n, unsigned deepest)
{
    for (size_t at = from; at < n; at++) {
        const char *found = memchr(text + at, '"', n - at);
        if (!found)
            return false;
        at = (size_t)(found - text);
        size_t slashes = 0;
        while (slashes < at - from && text[at - slashes - 1] == '\\')
            slashes++;
        unsigned level = 0;
        while (slashes >> level & 1)
            level++;
        if (level > deepest)
            continue;
        *q = (quote){at, at - (((size_t)1 << level) - 1), level};
        return true;
    }
    return false;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Past white space, which within a string may be an escape. */
static size_t skip_space(const char *text, size_t at, size_t n, unsigned level)
{
    for (;;) {
        while (at < n && is_space(text[at]))
            at++;
        size_t next = at;
        while (next < n && text[next] == '\\')
            next++;
        if (!level || next == at || next == n || !strchr("nrt", text[next]))
            return at;
        at = next + 1;
    }
}

/* Of \u0041 and the like; 0 of all else. */
static unsigned ascii_escape(const char *text)
{
    char digits[5] = {0};
    if (text[0] != '\\' || text[1] != 'u' || strspn(text + 2, "0123456789abcdefABCDEF") < 4)
        return 0;
    memcpy(digits, text + 2, 4);
    const unsigned long code = strtoul(digits, NULL, 16);
    return code < 0x80 ? (unsigned)code : 0;
}

/* Takes one level of escapes off, in place. What is no escape stays. */
static void unescape(char *text)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char *out = text;
    for (const char *in = text; *in; in++) {
        const char *known = in[0] == '\\' && in[1] ? strchr(from, in[1]) : NULL;
        if (known) {
            *out++ = to[known - from];
            in++;
        } else if (ascii_escape(in)) { /* names in ASCII; others are compared as they are written */
            *out++ = (char)ascii_escape(in);
            in += 5;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

static char *decoded(const char *text, size_t size, unsigned times)
{
    char *copy = string_copy_n(text, size);
    for (unsigned i = 0; copy && i < times && strchr(copy, '\\'); i++)
        unescape(copy);
    return copy;
}

static bool is_named(const redaction *r, const char *name)
{
    for (size_t i = 0; i < r->n_names; i++)
        if (strcasecmp(r->names[i], name) == 0)
            return true;
    return false;
}

/* ---- members */

/* Where a value that begins at `at` ends; at most n. */
static size_t value_end(const char *text, size_t at, size_t n, unsigned level)
{
    quote q;
    size_t depth = 0;
    if (next_quote(&q, text, at, n, DEEPEST) && q.first == at && q.level == level) {
        const size_t inside = q.at + 1;
        if (!next_quote(&q, text, inside, n, level))
            return n;
        return q.level == level ? q.at + 1 : q.first;
    }
    if (text[at] != '{' && text[at] != '[') {
        while (at < n && !is_space(text[at]) && !strchr(",}]\"\\", text[at]))
            at++;
        return at;
    }
    bool inside = false;
    bool quoted = next_quote(&q, text, at, n, level);
    for (; at < n; at++) {
        if (quoted && at == q.first) {
            if (q.level < level)
                return at;
            inside = !inside;
            at = q.at;
            quoted = next_quote(&q, text, at + 1, n, level);
        } else if (!inside && (text[at] == '{' || text[at] == '[')) {
            depth++;
        } else if (!inside && (text[at] == '}' || text[at] == ']') && --depth == 0) {
            return at + 1;
        }
    }
    return n;
}

/* The value of the next member with one of the names, at or behind *from, which moves to where to look on. */
static drr_status next_member(span *value, unsigned *level, size_t *from, bool *found, const redaction *r,
                              const char *text, size_t n, drr_error *err)
{
    quote open, close;
    *found = false;
    while (next_quote(&open, text, *from, n, DEEPEST)) {
        *from = open.at + 1;
        if (!next_quote(&close, text, open.at + 1, n, open.level) || close.level != open.level)
            continue; /* a lone quote; what follows may still be one */
        size_t at = skip_space(text, close.at + 1, n, open.level);
        if (at == n || text[at] != ':')
            continue; /* the closing quote is looked at as an opening one next: prose has unpaired quotes */
        char *name = decoded(text + open.at + 1, close.first - open.at - 1, open.level + 1);
        if (!name)
            return error_memory(err);
        *found = is_named(r, name);
        free(name);
        if (!*found)
            continue;
        at = skip_space(text, at + 1, n, open.level);
        *level = open.level;
        *value = (span){at, at < n ? value_end(text, at, n, open.level) : n};
        *from = value->end;
        return DRR_OK;
    }
    return DRR_OK;
}

/* ---- what the request holds */

static drr_status add_value(redaction *r, char *value, drr_error *err)
{
    if (!value)
        return error_memory(err);
    bool known = !*value || r->too_many;
    for (size_t i = 0; i < r->n_values && !known; i++)
        known = strcmp(r->values[i], value) == 0;
    if (!known && r->n_values == MOST_VALUES)
        known = r->too_many = true;
    if (!known && r->n_values == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 16;
        char **larger = realloc(r->values, capacity * sizeof *larger);
        if (!larger) {
            free(value);
            return error_memory(err);
        }
        r->values = larger;
        r->capacity = capacity;
    }
    if (known)
        free(value);
    else
        r->values[r->n_values++] = value;
    return DRR_OK;
}

static drr_status learn(redaction *r, const json_t *value, bool hidden, drr_error *err);

/* Of JSON within a string. */
static drr_status learn_text(redaction *r, const char *text, drr_error *err)
{
    const size_t n = strlen(text);
    size_t from = 0;
    bool found = true;
    drr_status status = DRR_OK;
    while (status == DRR_OK && found) {
        span value;
        unsigned level = 0;
        status = next_member(&value, &level, &from, &found, r, text, n, err);
        if (status != DRR_OK || !found)
            break;
        char *plain = decoded(text + value.begin, value.end - value.begin, level);
        json_t *parsed = plain ? json_loads(plain, JSON_DECODE_ANY, NULL) : NULL;
        if (!plain)
            status = error_memory(err);
        else if (parsed)
            status = learn(r, parsed, true, err);
        json_decref(parsed);
        free(plain);
    }
    return status;
}

static drr_status learn(redaction *r, const json_t *value, bool hidden, drr_error *err)
{
    drr_status status = DRR_OK;
    if (json_is_object(value)) {
        for (void *i = json_object_iter((json_t *)(uintptr_t)value); i && status == DRR_OK;
             i = json_object_iter_next((json_t *)(uintptr_t)value, i))
            status = learn(r, json_object_iter_value(i), hidden || is_named(r, json_object_iter_key(i)), err);
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value) && status == DRR_OK; i++)
            status = learn(r, json_array_get(value, i), hidden, err);
    } else if (json_is_string(value)) {
        if (hidden)
            status = add_value(r, string_copy(json_string_value(value)), err);
        if (status == DRR_OK)
            status = learn_text(r, json_string_value(value), err);
    } else if (json_is_number(value) && hidden) {
        status = add_value(r, json_dumps(value, JSON_ENCODE_ANY), err);
    }
    return status;
}

static int longer_first(const void *a, const void *b)
{
    const size_t x = strlen(*(char *const *)a), y = strlen(*(char *const *)b);
    return (x < y) - (x > y);
}

static void forget(redaction *r)
{
    for (size_t i = 0; i < r->n_values; i++)
        free(r->values[i]);
    r->n_values = 0;
    r->too_many = false;
}

drr_status redaction_learn(redaction *r, const json_t *request, drr_error *err)
{
    forget(r);
    drr_status status = learn(r, request, false, err);
    const size_t n = r->n_values;
    for (size_t i = 0; i < n && status == DRR_OK; i++) { /* and as they look within a JSON string */
        json_t *string = json_string(r->values[i]);
        char *escaped = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
        json_decref(string);
        if (!escaped) {
            status = error_memory(err);
            break;
        }
        if (strlen(escaped) > strlen(r->values[i]) + 2)
            status = add_value(r, string_copy_n(escaped + 1, strlen(escaped) - 2), err);
        free(escaped);
    }
    if (r->n_values) /* else a short one spoils the sight of a longer one that begins like it */
        qsort(r->values, r->n_values, sizeof *r->values, longer_first);
    return status;
}

/* ---- out of a text */

static drr_status put_redacted(buffer *out, unsigned level, drr_error *err)
{
    drr_status status = DRR_OK;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 1; i < (size_t)1 << level && status == DRR_OK; i++)
            status = buffer_append(out, "\\", 1, err);
        if (status == DRR_OK)
            status = buffer_puts(out, side ? "\"" : "\"" REDACTED, err);
    }
    return status;
}

static drr_status without_members(buffer *out, const redaction *r, const char *text, drr_error *err)
{
    const size_t n = strlen(text);
    size_t from = 0, kept = 0;
    bool found = true;
    drr_status status = buffer_puts(out, "", err);
    while (status == DRR_OK && found) {
        span value;
        unsigned level = 0;
        status = next_member(&value, &level, &from, &found, r, text, n, err);
        if (status != DRR_OK || !found)
            break;
        status = buffer_append(out, text + kept, value.begin - kept, err);
        if (status == DRR_OK)
            status = put_redacted(out, level, err);
        kept = value.end;
    }
    return status == DRR_OK ? buffer_append(out, text + kept, n - kept, err) : status;
}

static drr_status without_value(buffer *out, const char *text, const char *value, drr_error *err)
{
    drr_status status = buffer_puts(out, "", err);
    for (const char *found; status == DRR_OK && (found = strstr(text, value)); text = found + strlen(value)) {
        status = buffer_append(out, text, (size_t)(found - text), err);
        if (status == DRR_OK)
            status = buffer_puts(out, REDACTED, err);
    }
    return status == DRR_OK ? buffer_puts(out, text, err) : status;
}

drr_status redaction_apply(redaction *r, char **text, drr_error *err)
{
    if (!*text)
        return DRR_OK;
    buffer out = {0};
    bool whole = r->too_many;
    for (size_t i = 0; i < r->n_values && !whole; i++)
        whole = strcmp(r->values[i], *text) == 0;
    drr_status status = whole ? buffer_puts(&out, REDACTED, err) : without_members(&out, r, *text, err);
    for (size_t i = 0; i < r->n_values && status == DRR_OK && !whole; i++) {
        if (strlen(r->values[i]) < SHORTEST || !strstr(out.data, r->values[i]))
            continue;
        buffer next = {0};
        status = without_value(&next, out.data, r->values[i], err);
        buffer_clear(&out);
        out = next;
    }
    if (status == DRR_OK) {
        free(*text);
        *text = buffer_take(&out);
    }
    buffer_clear(&out);
    return status;
}

void redaction_clear(redaction *r)
{
    forget(r);
    free(r->values);
    *r = (redaction){0};
}
