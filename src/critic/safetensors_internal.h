/* safetensors_internal.h: tensors of a .safetensors file by name. For src/critic alone. */
#ifndef DRR_CRITIC_SAFETENSORS_INTERNAL_H
#define DRR_CRITIC_SAFETENSORS_INTERNAL_H

#include "core/json.h"
#include "critic/critic.h"

typedef struct safetensors {
    char *path;
    file_map map;
    json_t *header;
    const uint8_t *data; /* what follows the header */
    size_t data_size;
} safetensors;

typedef struct safetensor {
    const char *name, *dtype; /* the header's */
    uint64_t rows, columns;   /* a vector has rows 1 */
    const uint8_t *data;
} safetensor;

drr_status safetensors_open(safetensors *s, const char *path, drr_error *err);
void safetensors_close(safetensors *s); /* fine when zeroed */
bool safetensors_has(const safetensors *s, const char *name);
/* A tensor of one or two dimensions of F32, F16 or BF16, whose bytes lie within the file. */
drr_status safetensors_find(safetensor *t, const safetensors *s, const char *name, drr_error *err);
/* Its first n values; one that is not finite is DRR_E_FORMAT. */
drr_status safetensors_values(float *values, size_t n, const safetensors *s, const safetensor *t, drr_error *err);
void safetensors_skip(safetensor *t, uint64_t rows); /* leaves out its first rows */

/* Writes all of an encoder under its Hugging Face names, with the family's prefix, atomically. */
drr_status safetensors_write(const char *path, const encoder *e, drr_error *err);

#endif
