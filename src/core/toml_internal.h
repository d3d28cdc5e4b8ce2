/* toml_internal.h: what toml.c (files, errors) and toml_parse.cpp (the one file of C++, over toml++) say to each other.
 */
#ifndef DRR_CORE_TOML_INTERNAL_H
#define DRR_CORE_TOML_INTERNAL_H

#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct toml_trouble {
    int line;          /* from 1; 0: out of memory, and no message */
    char message[256]; /* what is wrong, without the file's name */
} toml_trouble;

/* The value of a text, the caller's, or NULL and *trouble. Fills `lines`: path -> line. Throws nothing. */
json_t *toml_to_json(json_t *lines, const char *text, size_t length, toml_trouble *trouble);

#ifdef __cplusplus
}
#endif
#endif
