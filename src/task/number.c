/* number.c: reads numbers as people and models write them, and compares them. No locale. */
#include "task/number.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool digit(const char *text, size_t length, size_t at)
{
    return at < length && isdigit((unsigned char)text[at]);
}

/* Digits with thousands commas ("1,234,567"), LaTeX's "{,}" or "\," as well; an optional fraction and exponent. */
static bool read_decimal(const char *text, size_t length, size_t *at, double *value)
{
    char digits[64];
    size_t n = 0, i = *at;
    bool any = false;
    while (i < length && n < sizeof digits - 8) {
        if (digit(text, length, i)) {
            digits[n++] = text[i++];
            any = true;
            continue;
        }
        size_t skip = 0;
        if (any && text[i] == ',')
            skip = 1;
        else if (any && i + 2 < length && memcmp(text + i, "{,}", 3) == 0)
            skip = 3;
        else if (any && i + 1 < length && text[i] == '\\' && (text[i + 1] == ',' || text[i + 1] == '!'))
            skip = i + 2 < length && text[i + 2] == ',' ? 3 : 2;
        const bool group = skip && digit(text, length, i + skip) && digit(text, length, i + skip + 1) &&
                           digit(text, length, i + skip + 2) && !digit(text, length, i + skip + 3);
        if (!group)
            break;
        i += skip;
    }
    if (i < length && text[i] == '.' && digit(text, length, i + 1)) {
        digits[n++] = '.';
        for (i++; digit(text, length, i) && n < sizeof digits - 8; i++)
            digits[n++] = text[i];
        any = true;
    }
    if (!any)
        return false;
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        const size_t sign = i + 1 < length && (text[i + 1] == '-' || text[i + 1] == '+') ? 1 : 0;
        if (digit(text, length, i + 1 + sign) && !digit(text, length, i + 4 + sign)) {
            digits[n++] = text[i++];
            if (sign)
                digits[n++] = text[i++];
            while (digit(text, length, i) && n < sizeof digits - 1)
                digits[n++] = text[i++];
        }
    }
    digits[n] = '\0';
    *value = strtod(digits, NULL);
    *at = i;
    return true;
}

static bool skip_text(const char *text, size_t length, size_t *at, const char *what)
{
    const size_t n = strlen(what);
    if (*at + n > length || strncmp(text + *at, what, n) != 0)
        return false;
    *at += n;
    return true;
}

static void skip_spaces(const char *text, size_t length, size_t *at)
{
    while (*at < length && (text[*at] == ' ' || text[*at] == '\t'))
        ++*at;
}

static bool read_latex_fraction(const char *text, size_t length, size_t *at, double *value)
{
    size_t i = *at;
    double above, below;
    if (!skip_text(text, length, &i, "\\frac{") && !skip_text(text, length, &i, "\\dfrac{"))
        return false;
    if (!read_decimal(text, length, &i, &above) || !skip_text(text, length, &i, "}{") ||
        !read_decimal(text, length, &i, &below) || !skip_text(text, length, &i, "}") || below == 0)
        return false;
    *value = above / below;
    *at = i;
    return true;
}

bool number_read(const char *text, size_t length, size_t *at, double *value)
{
    static const char *const currencies[] = {"\\$", "$", "€", "£", "¥", "₹"};
    size_t i = *at;
    bool negative = false;
    for (int pass = 0; pass < 2; pass++) { /* "-$5" and "$-5" */
        if (skip_text(text, length, &i, "-") || skip_text(text, length, &i, "−"))
            negative = true;
        else if (pass == 0)
            skip_text(text, length, &i, "+");
        for (size_t c = 0; pass == 0 && c < sizeof currencies / sizeof *currencies; c++)
            if (skip_text(text, length, &i, currencies[c])) {
                skip_spaces(text, length, &i);
                break;
            }
    }
    double whole, below;
    if (!read_latex_fraction(text, length, &i, &whole)) {
        if (!read_decimal(text, length, &i, &whole))
            return false;
        size_t j = i;
        if (skip_text(text, length, &j, "/") && read_decimal(text, length, &j, &below) && below != 0) {
            whole /= below;
            i = j;
        } else {
            double above; /* "1 1/2", and "1 \frac{1}{2}" */
            j = i;
            skip_spaces(text, length, &j);
            size_t k = j;
            if (read_latex_fraction(text, length, &k, &above)) {
                whole += above;
                i = k;
            } else if (j > i && read_decimal(text, length, &k, &above) && skip_text(text, length, &k, "/") &&
                       read_decimal(text, length, &k, &below) && below != 0 && above < below) {
                whole += above / below;
                i = k;
            }
        }
    }
    *value = negative ? -whole : whole;
    *at = i;
    return true;
}

void number_print(char *out, size_t size, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        snprintf(out, size, "%.0f", value == 0 ? 0.0 : value);
    else
        snprintf(out, size, "%.12g", value);
}

bool number_equal(double a, double b)
{
    const double scale = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return fabs(a - b) <= 1e-6 * (scale > 1 ? scale : 1);
}
