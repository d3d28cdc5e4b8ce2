/* toml.c: TOML files and the words for what is wrong with one. The parsing itself is toml_parse.cpp's. */
#include "core/toml.h"

#include "core/toml_internal.h"

#include <stdlib.h>
#include <string.h>

/* A suite or a configuration has some kilobytes. */
enum { LARGEST = 1 << 20 };
/* toml++ 3.3 frees nested tables by recursion and bounds the depth of values, but not of a key a.b.c...: with as many
 * dots a line as this the deepest file still fits into a small stack. */
enum { MOST_DOTS = 64 };

static int line_of_many_dots(const char *text, size_t length)
{
    int line = 1;
    unsigned dots = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') {
            line++;
            dots = 0;
        } else if (text[i] == '.' && ++dots > MOST_DOTS) {
            return line;
        }
    }
    return 0;
}

drr_status toml_parse(json_t **value, json_t **lines, const char *text, size_t length, const char *where,
                      drr_error *err)
{
    const int many = line_of_many_dots(text, length);
    if (many)
        return error_set(err, DRR_E_FORMAT, "%s:%d: more than %d dots in one line, which is no suite's or setting's",
                         where, many, MOST_DOTS);
    toml_trouble trouble = {0};
    json_t *found = json_object();
    json_t *parsed = found ? toml_to_json(found, text, length, &trouble) : NULL;
    if (!parsed) {
        json_decref(found);
        return trouble.line ? error_set(err, DRR_E_FORMAT, "%s:%d: %s", where, trouble.line, trouble.message)
                            : error_memory(err);
    }
    *value = parsed;
    if (lines)
        *lines = found;
    else
        json_decref(found);
    return DRR_OK;
}

drr_status toml_read(json_t **value, json_t **lines, const char *path, drr_error *err)
{
    char *text = NULL;
    size_t size = 0;
    drr_status status = file_read(&text, &size, path, LARGEST, err);
    if (status == DRR_OK)
        status = toml_parse(value, lines, text, size, path, err);
    free(text);
    return status;
}

int toml_line(const json_t *lines, const char *path)
{
    char *nearest = string_copy(path);
    json_t *found = nearest ? json_object_get(lines, nearest) : NULL;
    while (nearest && !found && *nearest) { /* "a[1].b": then "a[1]", then "a" */
        size_t end = strlen(nearest);
        while (end && nearest[--end] != '.' && nearest[end] != '[')
            ;
        nearest[end] = '\0';
        found = json_object_get(lines, nearest);
    }
    free(nearest);
    return json_is_integer(found) ? (int)json_integer_value(found) : 1;
}
