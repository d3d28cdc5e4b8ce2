/* gguf_internal.h: the GGUF format without its meaning: keys, arrays and tensors by name. For src/critic alone. */
#ifndef DRR_CRITIC_GGUF_INTERNAL_H
#define DRR_CRITIC_GGUF_INTERNAL_H

#include "critic/critic.h"

typedef enum gguf_type { /* numbers of the format */
                         GGUF_U8,
                         GGUF_I8,
                         GGUF_U16,
                         GGUF_I16,
                         GGUF_U32,
                         GGUF_I32,
                         GGUF_F32,
                         GGUF_BOOL,
                         GGUF_STRING,
                         GGUF_ARRAY,
                         GGUF_U64,
                         GGUF_I64,
                         GGUF_F64,
                         N_GGUF_TYPES
} gguf_type;

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32, GGUF_TENSOR_F32 = 0 };

/* ---- reading (gguf.c): everything points into the map */
typedef struct gguf_text {
    const char *data; /* not NUL-terminated */
    uint64_t length;
} gguf_text;

typedef struct gguf_key {
    gguf_text name;
    uint32_t type, item_type; /* item_type of an array */
    uint64_t count;           /* of an array's items; else 1 */
    const uint8_t *data;      /* a string's length word; an array's first item */
} gguf_key;

typedef struct gguf_tensor {
    gguf_text name;
    uint64_t columns, rows; /* 1 row where there is one dimension */
    const uint8_t *data;    /* rows * columns floats, within the file */
} gguf_tensor;

typedef struct gguf_file {
    char *path;
    file_map map;
    gguf_key *keys;
    gguf_tensor *tensors;
    size_t n_keys, n_tensors;
} gguf_file;

/* Reads and checks all of the file's structure; every tensor must be F32. */
drr_status gguf_open(gguf_file *f, const char *path, drr_error *err);
void gguf_close(gguf_file *f); /* fine when zeroed */
const gguf_key *gguf_find(const gguf_file *f, const char *name);
const gguf_tensor *gguf_find_tensor(const gguf_file *f, const char *name);
/* Value of a key that must be there with this type: else DRR_E_FORMAT naming it. */
drr_status gguf_u32(uint32_t *value, const gguf_file *f, const char *name, drr_error *err);
drr_status gguf_u64(uint64_t *value, const gguf_file *f, const char *name, drr_error *err);
drr_status gguf_bool(bool *value, const gguf_file *f, const char *name, drr_error *err);
drr_status gguf_f32(float *value, const gguf_file *f, const char *name, drr_error *err);    /* finite */
drr_status gguf_f64(double *value, const gguf_file *f, const char *name, drr_error *err);   /* finite */
drr_status gguf_string(char **value, const gguf_file *f, const char *name, drr_error *err); /* the caller's */
drr_status gguf_array(const gguf_key **key, const gguf_file *f, const char *name, gguf_type item_type, drr_error *err);
/* Strings of an array in turn: *at begins as key->data. The array was checked when the file was opened. */
gguf_text gguf_next(const uint8_t **at);

/* ---- writing (gguf_write.c): keys into a buffer, counted */
typedef struct gguf_builder {
    buffer bytes;
    uint64_t n_keys;
    drr_status status; /* of the first failure; what follows does nothing */
    drr_error *err;
} gguf_builder;
void gguf_add_u32(gguf_builder *b, const char *name, uint32_t value);
void gguf_add_u64(gguf_builder *b, const char *name, uint64_t value);
void gguf_add_bool(gguf_builder *b, const char *name, bool value);
void gguf_add_f32(gguf_builder *b, const char *name, float value);
void gguf_add_f64(gguf_builder *b, const char *name, double value);
void gguf_add_string(gguf_builder *b, const char *name, const char *value); /* NULL: "" */
void gguf_add_f64s(gguf_builder *b, const char *name, const double *values, size_t n);
/* An array's head; its items follow through gguf_put or gguf_put_string. */
void gguf_begin_array(gguf_builder *b, const char *name, gguf_type item_type, size_t n);
void gguf_put(gguf_builder *b, const void *data, size_t size);
void gguf_put_string(gguf_builder *b, const char *prefix, const char *text); /* the two joined */
/* The file: head, keys, the encoder's tensors. Atomic. */
drr_status gguf_write(const char *path, const gguf_builder *b, const encoder *e, drr_error *err);

#endif
