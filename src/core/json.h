/* json.h: the one place that includes jansson, and the few calls that give its errors a file and a line. */
#ifndef DRR_CORE_JSON_H
#define DRR_CORE_JSON_H

#include "core.h"

#include <jansson.h>

/* Parses one JSON text. `where` names it in errors ("traces.jsonl:12"). The caller json_decref's *value. */
drr_status json_parse(json_t **value, const char *text, size_t length, const char *where, drr_error *err);
drr_status json_parse_file(json_t **value, const char *path, drr_error *err);

/* Field readers: what is missing or of another type is DRR_E_FORMAT naming `where` and the field.
 * The `_or` forms give the fallback when the field is absent or null. Strings are borrowed from the object. */
drr_status json_get_string(const char **value, json_t *object, const char *field, const char *where, drr_error *err);
drr_status json_get_number(double *value, json_t *object, const char *field, const char *where, drr_error *err);
const char *json_string_or(json_t *object, const char *field, const char *fallback);
double json_number_or(json_t *object, const char *field, double fallback);
bool json_bool_or(json_t *object, const char *field, bool fallback);
json_t *json_number_or_null(double value); /* NaN and infinities become null */
/* The same in millionths, for times and shares that people read: JSON_MILLIONTHS among json_dumps's flags writes no
 * digit more of it (an exact double would have 17). */
json_t *json_millionths(double value);
#define JSON_MILLIONTHS JSON_REAL_PRECISION(15)

#endif
