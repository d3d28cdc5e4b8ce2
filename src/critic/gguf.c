/* gguf.c: reads the GGUF format, version 3. A file is mapped and walked once; each length, count and offset is compared
 * with the bytes that are left before it is used, so that no file can make drr read outside it or take much memory.
 * What the keys mean is critic_file.c's. */
#include "critic/gguf_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The largest encoder has 4105 tensors; keys are a few dozen. Looking one up walks the table. */
enum {
    MAX_KEYS = 4096,
    MAX_TENSORS = 8192,
    MAX_ALIGNMENT = 1 << 20,
    MAX_KEY_NAME = 1024, /* names are compared each with each: long ones would make that hours */
    MAX_TENSOR_NAME = 63 /* ggml's own */
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is little-endian and read as it lies");

typedef struct reader {
    const tensorfile *file;
    size_t at;
    drr_error *err;
} reader;

static const uint8_t sizes[N_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const type_names[N_GGUF_TYPES] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                     "bool", "string", "array", "u64", "i64", "f64"};

static size_t left(const reader *r)
{
    return r->file->map.size - r->at;
}

static drr_status cut_short(const reader *r, const char *what)
{
    return error_set(r->err, DRR_E_FORMAT,
                     "%s: byte %zu: the file ends within %s, or its length is wrong; copy it again", r->file->path,
                     r->at, what);
}

static drr_status take(reader *r, void *value, size_t size, const char *what)
{
    if (left(r) < size)
        return cut_short(r, what);
    memcpy(value, r->file->map.data + r->at, size);
    r->at += size;
    return DRR_OK;
}

static drr_status take_text(reader *r, tensorfile_text *text, const char *what)
{
    uint64_t length = 0;
    drr_status status = take(r, &length, sizeof length, what);
    if (status != DRR_OK)
        return status;
    if (length > left(r))
        return cut_short(r, what);
    *text = (tensorfile_text){(const char *)r->file->map.data + r->at, length};
    r->at += (size_t)length;
    return DRR_OK;
}

static drr_status take_name(reader *r, tensorfile_text *name, size_t longest, const char *what)
{
    const size_t at = r->at;
    drr_status status = take_text(r, name, what);
    if (status == DRR_OK && (name->length == 0 || name->length > longest || memchr(name->data, 0, name->length)))
        status =
            error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: %s is empty, too long or not text", r->file->path, at, what);
    return status;
}

static bool same_text(const tensorfile_text *a, const tensorfile_text *b)
{
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

static bool text_is(const tensorfile_text *text, const char *name)
{
    return same_text(text, &(tensorfile_text){name, strlen(name)});
}

/* ---- keys */

static drr_status walk_array(reader *r, tensorfile_key *key)
{
    const size_t at = r->at;
    drr_status status = take(r, &key->item_type, sizeof key->item_type, "an array");
    if (status == DRR_OK)
        status = take(r, &key->count, sizeof key->count, "an array");
    if (status != DRR_OK)
        return status;
    if (key->item_type >= N_GGUF_TYPES || key->item_type == GGUF_ARRAY)
        return error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: an array of items of type %u, which drr does not read",
                         r->file->path, at, key->item_type);
    const size_t least = key->item_type == GGUF_STRING ? sizeof(uint64_t) : sizes[key->item_type];
    if (key->count > left(r) / least)
        return error_set(r->err, DRR_E_FORMAT,
                         "%s: byte %zu: an array of %llu items does not fit into the %zu bytes left", r->file->path, at,
                         (unsigned long long)key->count, left(r));
    key->data = r->file->map.data + r->at;
    if (key->item_type != GGUF_STRING) {
        r->at += (size_t)key->count * least;
        return DRR_OK;
    }
    tensorfile_text ignored;
    for (uint64_t i = 0; status == DRR_OK && i < key->count; i++)
        status = take_text(r, &ignored, "a string of an array");
    return status;
}

static drr_status walk_key(reader *r, tensorfile_key *key)
{
    tensorfile_text ignored;
    drr_status status = take_name(r, &key->name, MAX_KEY_NAME, "a key's name");
    const size_t at = r->at;
    if (status == DRR_OK)
        status = take(r, &key->type, sizeof key->type, "a key's type");
    if (status != DRR_OK)
        return status;
    if (key->type >= N_GGUF_TYPES)
        return error_set(r->err, DRR_E_FORMAT,
                         "%s: byte %zu: the key \"%.*s\" has the type %u, which GGUF does not have", r->file->path, at,
                         (int)key->name.length, key->name.data, key->type);
    key->count = 1;
    key->data = r->file->map.data + r->at;
    if (key->type == GGUF_ARRAY)
        return walk_array(r, key);
    if (key->type == GGUF_STRING)
        return take_text(r, &ignored, "a string");
    if (left(r) < sizes[key->type])
        return cut_short(r, "a key's value");
    r->at += sizes[key->type];
    return DRR_OK;
}

static drr_status walk_keys(reader *r, tensorfile *f, uint64_t n)
{
    drr_status status = DRR_OK;
    f->keys = calloc((size_t)n + 1, sizeof *f->keys);
    if (!f->keys)
        return error_memory(r->err);
    for (uint64_t i = 0; status == DRR_OK && i < n; i++) {
        tensorfile_key *key = &f->keys[i];
        const size_t at = r->at;
        status = walk_key(r, key);
        for (size_t k = 0; status == DRR_OK && k < f->n_keys; k++)
            if (same_text(&f->keys[k].name, &key->name))
                status = error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: the key \"%.*s\" is there twice", f->path, at,
                                   (int)key->name.length, key->name.data);
        f->n_keys += status == DRR_OK;
    }
    return status;
}

/* ---- tensors */

static drr_status walk_tensor(reader *r, tensorfile_tensor *t, uint64_t *offset)
{
    uint32_t n_dimensions = 0, type = 0;
    uint64_t extents[2] = {1, 1};
    const size_t at = r->at;
    drr_status status = take_name(r, &t->name, MAX_TENSOR_NAME, "a tensor's name");
    if (status == DRR_OK)
        status = take(r, &n_dimensions, sizeof n_dimensions, "a tensor's shape");
    if (status != DRR_OK)
        return status;
    if (n_dimensions < 1 || n_dimensions > 2)
        return error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: the tensor \"%.*s\" has %u dimensions; 1 or 2 are read",
                         r->file->path, at, (int)t->name.length, t->name.data, n_dimensions);
    status = take(r, extents, n_dimensions * sizeof *extents, "a tensor's shape");
    if (status == DRR_OK)
        status = take(r, &type, sizeof type, "a tensor's type");
    if (status == DRR_OK)
        status = take(r, offset, sizeof *offset, "a tensor's offset");
    if (status != DRR_OK)
        return status;
    if (type != GGUF_TENSOR_F32)
        return error_set(r->err, DRR_E_FORMAT,
                         "%s: byte %zu: the tensor \"%.*s\" is of ggml's type %u; a critic's are 0, F32: take the file "
                         "that drr wrote, not a quantised one",
                         r->file->path, at, (int)t->name.length, t->name.data, type);
    if (extents[0] == 0 || extents[0] > UINT32_MAX || extents[1] == 0 || extents[1] > UINT32_MAX)
        return error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: the tensor \"%.*s\" is %llu x %llu", r->file->path, at,
                         (int)t->name.length, t->name.data, (unsigned long long)extents[1],
                         (unsigned long long)extents[0]);
    t->columns = extents[0];
    t->rows = extents[1];
    return DRR_OK;
}

static drr_status check_new(reader *r, const tensorfile *f, const tensorfile_tensor *t, size_t at)
{
    for (size_t k = 0; k < f->n_tensors; k++)
        if (same_text(&f->tensors[k].name, &t->name))
            return error_set(r->err, DRR_E_FORMAT, "%s: byte %zu: the tensor \"%.*s\" is there twice", f->path, at,
                             (int)t->name.length, t->name.data);
    return DRR_OK;
}

/* *next: where in the data this tensor has to begin, as llama.cpp asks of every file, so that no two share a byte; then
 * that of the one after it. */
static drr_status place_tensor(reader *r, tensorfile_tensor *t, uint64_t offset, size_t data, size_t alignment,
                               uint64_t *next)
{
    const size_t size = r->file->map.size, room = data < size ? size - data : 0;
    if (offset % alignment || offset > room || t->rows > (room - (size_t)offset) / sizeof(float) / t->columns)
        return error_set(
            r->err, DRR_E_FORMAT,
            "%s: the tensor \"%.*s\" (%llu x %llu at byte %llu of the data, which begins at byte %zu) does not "
            "lie within the file's %zu bytes; copy it again",
            r->file->path, (int)t->name.length, t->name.data, (unsigned long long)t->rows,
            (unsigned long long)t->columns, (unsigned long long)offset, data, size);
    if (offset != *next)
        return error_set(r->err, DRR_E_FORMAT,
                         "%s: the tensor \"%.*s\" lies at byte %llu of the data; the one before it ends at byte %llu, "
                         "where this one has to begin",
                         r->file->path, (int)t->name.length, t->name.data, (unsigned long long)offset,
                         (unsigned long long)*next);
    t->data = r->file->map.data + data + offset;
    const uint64_t bytes = t->rows * t->columns * sizeof(float); /* no more than the file's */
    *next = offset + (bytes + alignment - 1) / alignment * alignment;
    return DRR_OK;
}

static drr_status read_alignment(size_t *alignment, const tensorfile *f, drr_error *err)
{
    uint32_t value = GGUF_ALIGNMENT;
    drr_status status = DRR_OK;
    if (tensorfile_find(f, "general.alignment"))
        status = tensorfile_u32(&value, f, "general.alignment", err);
    if (status == DRR_OK && (value < 4 || value > MAX_ALIGNMENT || (value & (value - 1))))
        status = error_set(err, DRR_E_FORMAT, "%s: general.alignment is %u; a power of two from 4 on is wanted",
                           f->path, value);
    if (status == DRR_OK)
        *alignment = value;
    return status;
}

static drr_status walk_tensors(reader *r, tensorfile *f, uint64_t n)
{
    size_t alignment = GGUF_ALIGNMENT;
    drr_status status = read_alignment(&alignment, f, r->err);
    uint64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);
    f->tensors = calloc((size_t)n + 1, sizeof *f->tensors);
    if (!f->tensors || !offsets)
        status = error_memory(r->err);
    for (uint64_t i = 0; status == DRR_OK && i < n; i++) {
        const size_t at = r->at;
        status = walk_tensor(r, &f->tensors[i], &offsets[i]);
        if (status == DRR_OK)
            status = check_new(r, f, &f->tensors[i], at);
        f->n_tensors += status == DRR_OK;
    }
    const size_t data = (r->at + alignment - 1) / alignment * alignment;
    uint64_t next = 0;
    for (uint64_t i = 0; status == DRR_OK && i < n; i++)
        status = place_tensor(r, &f->tensors[i], offsets[i], data, alignment, &next);
    f->end = data + (size_t)next;
    free(offsets);
    return status;
}

/* ---- the file */

static drr_status walk_file(tensorfile *f, drr_error *err)
{
    reader r = {.file = f, .err = err};
    char magic[4] = {0};
    uint32_t version = 0;
    uint64_t n_tensors = 0, n_keys = 0;
    drr_status status = take(&r, magic, sizeof magic, "its first word");
    if (status == DRR_OK && memcmp(magic, "GGUF", 4) != 0)
        return error_set(err, DRR_E_FORMAT, "%s: byte 0: not a GGUF file; a critic is a GGUF file that drr wrote",
                         f->path);
    if (status == DRR_OK)
        status = take(&r, &version, sizeof version, "its head");
    if (status == DRR_OK && version != GGUF_VERSION)
        return error_set(err, DRR_E_FORMAT, "%s: byte 4: GGUF version %u; version %d is read", f->path, version,
                         GGUF_VERSION);
    if (status == DRR_OK)
        status = take(&r, &n_tensors, sizeof n_tensors, "its head");
    if (status == DRR_OK)
        status = take(&r, &n_keys, sizeof n_keys, "its head");
    if (status == DRR_OK && (n_tensors > MAX_TENSORS || n_keys > MAX_KEYS))
        return error_set(err, DRR_E_FORMAT, "%s: byte 8: %llu tensors and %llu keys are more than any critic has",
                         f->path, (unsigned long long)n_tensors, (unsigned long long)n_keys);
    if (status == DRR_OK)
        status = walk_keys(&r, f, n_keys);
    if (status == DRR_OK)
        status = walk_tensors(&r, f, n_tensors);
    return status;
}

drr_status tensorfile_open(tensorfile *out, const char *path, drr_error *err)
{
    tensorfile f = {.path = string_copy(path)};
    drr_status status = f.path ? file_map_open(&f.map, path, err) : error_memory(err);
    if (status == DRR_OK)
        status = walk_file(&f, err);
    if (status == DRR_OK)
        *out = f;
    else
        tensorfile_close(&f);
    return status;
}

void tensorfile_close(tensorfile *f)
{
    file_map_close(&f->map);
    free(f->path);
    free(f->keys);
    free(f->tensors);
    *f = (tensorfile){0};
}

const tensorfile_key *tensorfile_find(const tensorfile *f, const char *name)
{
    for (size_t i = 0; i < f->n_keys; i++)
        if (text_is(&f->keys[i].name, name))
            return &f->keys[i];
    return NULL;
}

const tensorfile_tensor *tensorfile_find_tensor(const tensorfile *f, const char *name)
{
    for (size_t i = 0; i < f->n_tensors; i++)
        if (text_is(&f->tensors[i].name, name))
            return &f->tensors[i];
    return NULL;
}

/* ---- values */

static drr_status want(const tensorfile_key **key, const tensorfile *f, const char *name, tensorfile_type type,
                       drr_error *err)
{
    *key = tensorfile_find(f, name);
    if (!*key)
        return error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is missing", f->path, name);
    if ((*key)->type != (uint32_t)type)
        return error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is of type %s; %s is wanted", f->path, name,
                         type_names[(*key)->type], type_names[type]);
    return DRR_OK;
}

static drr_status copy_value(void *value, const tensorfile *f, const char *name, tensorfile_type type, drr_error *err)
{
    const tensorfile_key *key;
    drr_status status = want(&key, f, name, type, err);
    if (status == DRR_OK)
        memcpy(value, key->data, sizes[type]);
    return status;
}

drr_status tensorfile_u32(uint32_t *value, const tensorfile *f, const char *name, drr_error *err)
{
    return copy_value(value, f, name, GGUF_U32, err);
}

drr_status tensorfile_u64(uint64_t *value, const tensorfile *f, const char *name, drr_error *err)
{
    return copy_value(value, f, name, GGUF_U64, err);
}

drr_status tensorfile_bool(bool *value, const tensorfile *f, const char *name, drr_error *err)
{
    uint8_t byte = 0;
    drr_status status = copy_value(&byte, f, name, GGUF_BOOL, err);
    if (status == DRR_OK && byte > 1)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is %u, neither false nor true", f->path, name, byte);
    if (status == DRR_OK)
        *value = byte;
    return status;
}

drr_status tensorfile_f32(float *value, const tensorfile *f, const char *name, drr_error *err)
{
    float found = 0;
    drr_status status = copy_value(&found, f, name, GGUF_F32, err);
    if (status == DRR_OK && !isfinite(found))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is not a finite number", f->path, name);
    if (status == DRR_OK)
        *value = found;
    return status;
}

drr_status tensorfile_f64(double *value, const tensorfile *f, const char *name, drr_error *err)
{
    double found = 0;
    drr_status status = copy_value(&found, f, name, GGUF_F64, err);
    if (status == DRR_OK && !isfinite(found))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is not a finite number", f->path, name);
    if (status == DRR_OK)
        *value = found;
    return status;
}

tensorfile_text tensorfile_next(const uint8_t **at)
{
    tensorfile_text text;
    memcpy(&text.length, *at, sizeof text.length);
    text.data = (const char *)*at + sizeof text.length;
    *at += sizeof text.length + text.length;
    return text;
}

drr_status tensorfile_string(char **value, const tensorfile *f, const char *name, drr_error *err)
{
    const tensorfile_key *key;
    drr_status status = want(&key, f, name, GGUF_STRING, err);
    if (status != DRR_OK)
        return status;
    const uint8_t *at = key->data;
    const tensorfile_text text = tensorfile_next(&at);
    if (memchr(text.data, 0, text.length))
        return error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" has a NUL in its text", f->path, name);
    char *copy = string_copy_n(text.data, text.length);
    if (!copy)
        return error_memory(err);
    *value = copy;
    return DRR_OK;
}

drr_status tensorfile_array(const tensorfile_key **key, const tensorfile *f, const char *name,
                            tensorfile_type item_type, drr_error *err)
{
    drr_status status = want(key, f, name, GGUF_ARRAY, err);
    if (status == DRR_OK && (*key)->item_type != (uint32_t)item_type)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is an array of %s; of %s is wanted", f->path, name,
                           type_names[(*key)->item_type], type_names[item_type]);
    return status;
}
