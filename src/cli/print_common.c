/* print_common.c: numbers and tables as people read them. */
#include "cli.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *cli_size(char text[16], uint64_t bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    snprintf(text, 16, value < 10 && unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *cli_duration(char text[24], double seconds)
{
    const double capped = seconds > 3.6e8 ? 3.6e8 : seconds < 0 ? 0 : seconds;
    const unsigned s = (unsigned)capped;
    if (capped < 10)
        snprintf(text, 24, "%.1fs", capped);
    else if (s < 60)
        snprintf(text, 24, "%us", s);
    else if (s < 3600)
        snprintf(text, 24, "%um%02us", s / 60, s % 60);
    else
        snprintf(text, 24, "%uh%02um", s / 3600, s / 60 % 60);
    return text;
}

const char *cli_share(char text[16], double share)
{
    if (isfinite(share))
        snprintf(text, 16, "%.1f %%", 100 * share);
    else
        snprintf(text, 16, "-");
    return text;
}

const char *cli_number(char text[24], double value, int decimals)
{
    if (isfinite(value))
        snprintf(text, 24, "%.*f", decimals, value);
    else
        snprintf(text, 24, "-");
    return text;
}

static void add_cell(cli_table *t, char *cell)
{
    if (t->n == t->room) {
        const size_t room = t->room ? 2 * t->room : 64;
        char **cells = realloc(t->cells, room * sizeof *cells);
        if (!cells) {
            free(cell);
            return;
        }
        t->cells = cells;
        t->room = room;
    }
    t->cells[t->n++] = cell;
}

void cli_table_begin(cli_table *t, const char *headings)
{
    *t = (cli_table){0};
    for (const char *h = headings;; h++) {
        const size_t n = strcspn(h, "|");
        add_cell(t, strndup(h, n));
        t->columns++;
        h += n;
        if (!*h)
            break;
    }
}

void cli_table_add(cli_table *t, const char *format, ...)
{
    va_list arguments;
    char *cell = NULL;
    va_start(arguments, format);
    if (vasprintf(&cell, format, arguments) < 0)
        cell = NULL;
    va_end(arguments);
    add_cell(t, cell);
}

static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; text && *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *cell, size_t width, bool right, bool last)
{
    const int gap = (int)(width - text_width(cell));
    if (right)
        printf("%*s%s", gap, "", cell ? cell : "");
    else
        printf("%s%*s", cell ? cell : "", last ? 0 : gap, "");
    printf(last ? "\n" : "  ");
}

void cli_table_print(cli_table *t)
{
    size_t widths[32] = {0};
    bool right[32] = {false};
    const size_t columns = t->columns < 32 ? t->columns : 32;
    for (size_t i = 0; i < columns; i++) {
        right[i] = t->cells[i] && *t->cells[i] == '>';
        if (right[i])
            memmove(t->cells[i], t->cells[i] + 1, strlen(t->cells[i]));
    }
    for (size_t i = 0; i < t->n; i++) {
        const size_t width = text_width(t->cells[i]);
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t i = 0; i + columns <= t->n; i += columns)
        for (size_t k = 0; k < columns; k++)
            print_cell(t->cells[i + k], widths[k], right[k], k + 1 == columns);
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (cli_table){0};
}

char *cli_one_line(const char *text, size_t width)
{
    char *line = malloc(strlen(text) + 4);
    size_t used = 0, shown = 0;
    if (!line)
        return NULL;
    for (; *text; text++) {
        const bool blank = strchr(" \t\r\n", *text) != NULL;
        if (blank && (used == 0 || line[used - 1] == ' '))
            continue;
        shown += ((unsigned char)*text & 0xc0) != 0x80;
        if (shown >= width && text[1]) {
            memcpy(line + used, "…", 3);
            used += 3;
            break;
        }
        line[used++] = blank ? ' ' : *text;
    }
    line[used] = '\0';
    return line;
}
