/* toml.h: TOML 1.0 files, read into jansson's values, with the line of every key for errors that come later. */
#ifndef DRR_CORE_TOML_H
#define DRR_CORE_TOML_H

#include "core/json.h"

/* Reads a TOML file: tables become objects, arrays arrays. What JSON has no value for (a date, a time, nan, inf) is
 * refused, as is anything that TOML 1.0 does not allow; errors name the file and the line. *lines, where it is not
 * NULL, is for toml_line. The caller json_decref's both. */
drr_status toml_read(json_t **value, json_t **lines, const char *path, drr_error *err);
/* The same of a text; `where` names it in errors. */
drr_status toml_parse(json_t **value, json_t **lines, const char *text, size_t length, const char *where,
                      drr_error *err);
/* The line on which the value of a dotted path stands ("strategy[1].turns"; "" is the file itself), from 1. A path that
 * is not there has the line of the nearest one above it. */
int toml_line(const json_t *lines, const char *path);

#endif
