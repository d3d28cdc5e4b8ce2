/* gguf_internal.h: the GGUF format without its meaning: keys, arrays and tensors by name. For src/critic alone.
 *
 * The names begin with tensorfile_ because libggml exports gguf_find_tensor and others: ours would be called for them.
 */
#ifndef DRR_CRITIC_GGUF_INTERNAL_H
#define DRR_CRITIC_GGUF_INTERNAL_H

#include "critic/critic.h"

typedef enum tensorfile_type { /* numbers of the format */
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
} tensorfile_type;

enum { GGUF_VERSION = 3, GGUF_ALIGNMENT = 32, GGUF_TENSOR_F32 = 0 };

/* ---- reading (gguf.c): everything points into the map */
typedef struct tensorfile_text {
    const char *data; /* not NUL-terminated */
    uint64_t length;
} tensorfile_text;

typedef struct tensorfile_key {
    tensorfile_text name;
    uint32_t type, item_type; /* item_type of an array */
    uint64_t count;           /* of an array's items; else 1 */
    const uint8_t *data;      /* a string's length word; an array's first item */
} tensorfile_key;

typedef struct tensorfile_tensor {
    tensorfile_text name;
    uint64_t columns, rows; /* 1 row where there is one dimension */
    const uint8_t *data;    /* rows * columns floats, within the file */
} tensorfile_tensor;

typedef struct tensorfile {
    char *path;
    file_map map;
    tensorfile_key *keys;
    tensorfile_tensor *tensors;
    size_t n_keys, n_tensors;
    size_t end; /* of the last tensor with its padding: what lies behind belongs to nothing */
} tensorfile;

/* Reads and checks all of the file's structure; every tensor must be F32. */
drr_status tensorfile_open(tensorfile *f, const char *path, drr_error *err);
void tensorfile_close(tensorfile *f); /* fine when zeroed */
const tensorfile_key *tensorfile_find(const tensorfile *f, const char *name);
const tensorfile_tensor *tensorfile_find_tensor(const tensorfile *f, const char *name);
/* Value of a key that must be there with this type: else DRR_E_FORMAT naming it. */
drr_status tensorfile_u32(uint32_t *value, const tensorfile *f, const char *name, drr_error *err);
drr_status tensorfile_u64(uint64_t *value, const tensorfile *f, const char *name, drr_error *err);
drr_status tensorfile_bool(bool *value, const tensorfile *f, const char *name, drr_error *err);
drr_status tensorfile_f32(float *value, const tensorfile *f, const char *name, drr_error *err);    /* finite */
drr_status tensorfile_f64(double *value, const tensorfile *f, const char *name, drr_error *err);   /* finite */
drr_status tensorfile_string(char **value, const tensorfile *f, const char *name, drr_error *err); /* the caller's */
drr_status tensorfile_array(const tensorfile_key **key, const tensorfile *f, const char *name,
                            tensorfile_type item_type, drr_error *err);
/* Strings of an array in turn: *at begins as key->data. The array was checked when the file was opened. */
tensorfile_text tensorfile_next(const uint8_t **at);

/* ---- writing (gguf_write.c): keys into a buffer, counted */
typedef struct tensorfile_builder {
    buffer bytes;
    uint64_t n_keys;
    drr_status status; /* of the first failure; what follows does nothing */
    drr_error *err;
} tensorfile_builder;
void tensorfile_add_u32(tensorfile_builder *b, const char *name, uint32_t value);
void tensorfile_add_u64(tensorfile_builder *b, const char *name, uint64_t value);
void tensorfile_add_bool(tensorfile_builder *b, const char *name, bool value);
void tensorfile_add_f32(tensorfile_builder *b, const char *name, float value);
void tensorfile_add_f64(tensorfile_builder *b, const char *name, double value);
void tensorfile_add_string(tensorfile_builder *b, const char *name, const char *value); /* NULL: "" */
void tensorfile_add_f64s(tensorfile_builder *b, const char *name, const double *values, size_t n);
/* An array's head; its items follow through tensorfile_put or tensorfile_put_string. */
void tensorfile_begin_array(tensorfile_builder *b, const char *name, tensorfile_type item_type, size_t n);
void tensorfile_put(tensorfile_builder *b, const void *data, size_t size);
void tensorfile_put_string(tensorfile_builder *b, const char *prefix, const char *text); /* the two joined */
/* The file: head, keys, the encoder's tensors (e NULL: none). Atomic. */
drr_status tensorfile_write(const char *path, const tensorfile_builder *b, const encoder *e, drr_error *err);

#endif
