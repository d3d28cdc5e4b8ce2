/* json.c: JSON out for scripts, and JSON from the library shown to people. It only ever reads what the library wrote.
 */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 character at `s` (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t character_bytes(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    const size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void put_text(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', out);
    while (*s) {
        const size_t n = character_bytes(s);
        if (n == 0)
            fputs("\\ufffd", out);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", out);
        else if (*s == '\t')
            fputs("\\t", out);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\u%04x", *s);
        else
            fwrite(s, 1, n, out);
        s += n ? n : 1;
    }
    fputc('"', out);
}

static void begin_value(cli_json *j, const char *key)
{
    if (j->comma)
        fputs(", ", j->out);
    if (key) {
        put_text(j->out, key);
        fputs(": ", j->out);
    }
    j->comma = true;
}

void cli_json_open(cli_json *j, const char *key, char bracket)
{
    begin_value(j, key);
    fputc(bracket, j->out);
    j->comma = false;
}

void cli_json_close(cli_json *j, char bracket)
{
    fputc(bracket, j->out);
    j->comma = true;
}

void cli_json_string(cli_json *j, const char *key, const char *value)
{
    begin_value(j, key);
    if (value)
        put_text(j->out, value);
    else
        fputs("null", j->out);
}

void cli_json_number(cli_json *j, const char *key, double value)
{
    char text[40];
    begin_value(j, key);
    if (!isfinite(value)) {
        fputs("null", j->out);
        return;
    }
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, sizeof text, "%.17g", value);
    fputs(text, j->out);
}

void cli_json_uint(cli_json *j, const char *key, uint64_t value)
{
    begin_value(j, key);
    fprintf(j->out, "%llu", (unsigned long long)value);
}

void cli_json_int_or_null(cli_json *j, const char *key, int value)
{
    begin_value(j, key);
    if (value < 0)
        fputs("null", j->out);
    else
        fprintf(j->out, "%d", value);
}

void cli_json_bool(cli_json *j, const char *key, bool value)
{
    begin_value(j, key);
    fputs(value ? "true" : "false", j->out);
}

/* ---- JSON as indented lines */

/* Prints the string literal at `s` without its quotes and returns what follows it. Escapes that stand for one plain
 * character are undone, others stay as they are. */
static const char *show_string(FILE *out, const char *s)
{
    for (s++; *s && *s != '"'; s++) {
        if (*s == '\\' && s[1] && strchr("\"\\/", s[1]))
            s++;
        else if (*s == '\\' && s[1] == 'n') {
            fputc(' ', out);
            s++;
            continue;
        }
        fputc(*s, out);
    }
    return *s ? s + 1 : s;
}

static void new_line(FILE *out, int depth)
{
    fprintf(out, "\n%*s", 2 * depth, "");
}

void cli_json_show(FILE *out, const char *json)
{
    int depth = -1;
    bool fresh = true; /* nothing on this line yet */
    char open[64] = "";
    for (const char *s = json; *s;) {
        const bool in_list = depth >= 0 && depth < 64 && open[depth] == '[';
        if (strchr(" \t\r\n", *s)) {
            s++;
        } else if (*s == '{' || *s == '[') {
            if (in_list && *s == '{')
                fputs("-", out);
            depth++;
            if (depth < 64)
                open[depth] = *s;
            if (depth > 0 && s[1] != '}' && s[1] != ']')
                new_line(out, depth);
            fresh = true;
            s++;
        } else if (*s == '}' || *s == ']') {
            depth--;
            s++;
        } else if (*s == ',') {
            new_line(out, depth);
            fresh = true;
            s++;
        } else if (*s == ':') {
            s += 1 + strspn(s + 1, " \t\r\n");
            const bool nested = *s == '{' || *s == '[';
            const bool empty = nested && (s[1] == '}' || s[1] == ']');
            fputs(empty ? ": none" : nested ? ":" : ": ", out);
            s += empty ? 2 : 0;
        } else {
            if (in_list && fresh)
                fputs("- ", out);
            fresh = false;
            if (*s == '"') {
                s = show_string(out, s);
                continue;
            }
            const size_t n = strcspn(s, ",]} \t\r\n");
            fwrite(s, 1, n, out);
            s += n;
        }
    }
    fputc('\n', out);
}
