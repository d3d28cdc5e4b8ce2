/* json.c: jansson with errors that name a file, a line and a field. */
#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

drr_status json_parse(json_t **value, const char *text, size_t length, const char *where, drr_error *err)
{
    json_error_t why;
    json_t *parsed = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!parsed)
        return error_set(err, DRR_E_FORMAT, "%s: not valid JSON: %s (line %d, byte %d)", where, why.text, why.line,
                         why.position);
    *value = parsed;
    return DRR_OK;
}

drr_status json_parse_file(json_t **value, const char *path, drr_error *err)
{
    char *text = NULL;
    size_t size = 0;
    drr_status status = file_read(&text, &size, path, 0, err);
    if (status == DRR_OK)
        status = json_parse(value, text, size, path, err);
    free(text);
    return status;
}

drr_status json_get_string(const char **value, json_t *object, const char *field, const char *where, drr_error *err)
{
    json_t *found = json_object_get(object, field);
    if (!json_is_string(found))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" %s", where, field,
                         found ? "is not a string" : "is missing");
    *value = json_string_value(found);
    return DRR_OK;
}

drr_status json_get_number(double *value, json_t *object, const char *field, const char *where, drr_error *err)
{
    json_t *found = json_object_get(object, field);
    if (!json_is_number(found))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" %s", where, field,
                         found ? "is not a number" : "is missing");
    *value = json_number_value(found);
    return DRR_OK;
}

const char *json_string_or(json_t *object, const char *field, const char *fallback)
{
    json_t *found = json_object_get(object, field);
    return json_is_string(found) ? json_string_value(found) : fallback;
}

double json_number_or(json_t *object, const char *field, double fallback)
{
    json_t *found = json_object_get(object, field);
    return json_is_number(found) ? json_number_value(found) : fallback;
}

bool json_bool_or(json_t *object, const char *field, bool fallback)
{
    json_t *found = json_object_get(object, field);
    return json_is_boolean(found) ? json_is_true(found) : fallback;
}

json_t *json_number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_millionths(double value)
{
    return json_number_or_null(round(value * 1e6) / 1e6);
}
