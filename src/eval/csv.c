/* csv.c: objects as rows of CSV (RFC 4180). Columns stand in the order in which they first appear; an object or a list
 * within one becomes several columns, an interval those of its low and high end; null is empty. */
#include "eval/suite_internal.h"

#include <stdlib.h>
#include <string.h>

static int flatten(json_t *row, const char *prefix, json_t *value)
{
    char name[160];
    const char *key;
    json_t *inner;
    size_t i;
    int failed = 0;
    if (json_is_object(value)) {
        json_object_foreach(value, key, inner)
        {
            snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "_" : "", key);
            failed |= flatten(row, name, inner);
        }
        return failed;
    }
    if (!json_is_array(value))
        return json_object_set(row, prefix, value);
    json_array_foreach(value, i, inner)
    {
        if (json_array_size(value) == 2)
            snprintf(name, sizeof name, "%s_%s", prefix, i ? "high" : "low");
        else
            snprintf(name, sizeof name, "%s_%zu", prefix, i + 1);
        failed |= flatten(row, name, inner);
    }
    return failed;
}

static drr_status put_field(buffer *b, const char *text, drr_error *err)
{
    if (!strpbrk(text, ",\"\r\n"))
        return buffer_puts(b, text, err);
    drr_status status = buffer_puts(b, "\"", err);
    for (; *text && status == DRR_OK; text++)
        status = *text == '"' ? buffer_puts(b, "\"\"", err) : buffer_append(b, text, 1, err);
    return status == DRR_OK ? buffer_puts(b, "\"", err) : status;
}

static drr_status put_value(buffer *b, json_t *value, drr_error *err)
{
    if (json_is_string(value))
        return put_field(b, json_string_value(value), err);
    if (json_is_integer(value))
        return buffer_printf(b, err, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value))
        return buffer_printf(b, err, "%.10g", json_real_value(value));
    return json_is_boolean(value) ? buffer_puts(b, json_is_true(value) ? "true" : "false", err) : DRR_OK;
}

static drr_status put_rows(buffer *b, json_t *columns, json_t *rows, drr_error *err)
{
    drr_status status = DRR_OK;
    const char *name;
    json_t *column, *row;
    size_t i, at = 0;
    json_object_foreach(columns, name, column)
    {
        if (status == DRR_OK && at++)
            status = buffer_puts(b, ",", err);
        if (status == DRR_OK)
            status = put_field(b, name, err);
    }
    if (status == DRR_OK)
        status = buffer_puts(b, "\r\n", err);
    json_array_foreach(rows, i, row)
    {
        at = 0;
        json_object_foreach(columns, name, column)
        {
            if (status == DRR_OK && at++)
                status = buffer_puts(b, ",", err);
            if (status == DRR_OK)
                status = put_value(b, json_object_get(row, name), err);
        }
        if (status == DRR_OK)
            status = buffer_puts(b, "\r\n", err);
    }
    return status;
}

drr_status csv_write(const char *path, json_t *rows, drr_error *err)
{
    json_t *flat = json_array(), *columns = json_object(), *row, *value;
    buffer b = {0};
    const char *name;
    size_t i;
    int failed = !flat || !columns;
    json_array_foreach(rows, i, row)
    {
        json_t *one = json_object();
        failed |= !one || flatten(one, "", row);
        json_object_foreach(one, name, value)
        {
            if (!json_object_get(columns, name))
                failed |= json_object_set_new(columns, name, json_true());
        }
        failed |= json_array_append_new(flat, one);
    }
    drr_status status = failed ? error_memory(err) : put_rows(&b, columns, flat, err);
    if (status == DRR_OK)
        status = file_write_all(path, b.data, b.size, err);
    buffer_clear(&b);
    json_decref(flat);
    json_decref(columns);
    return status;
}
