/* safetensors.c: the format: eight bytes of header length, a JSON header, the tensors' bytes. Nothing in a file is
 * believed: each length and offset is compared with what is there. Which tensors make an encoder is hf.c's. */
#include "critic/encoder_family.h"
#include "critic/safetensors_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 /* the format's own limit */ };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are little-endian and read as they lie");

/* A JSON integer that is no more than `limit`. */
static bool take_integer(uint64_t *value, json_t *item, uint64_t limit)
{
    if (!json_is_integer(item) || json_integer_value(item) < 0 || (uint64_t)json_integer_value(item) > limit)
        return false;
    *value = (uint64_t)json_integer_value(item);
    return true;
}

/* ---- opening */

typedef struct span { /* the bytes of a tensor, counted from the header's end */
    uint64_t begin, end;
    const char *name;
} span;

static drr_status take_span(span *at, const safetensors *s, const char *name, json_t *entry, drr_error *err)
{
    json_t *offsets = json_object_get(entry, "data_offsets");
    at->name = name;
    if (json_array_size(offsets) == 2 && take_integer(&at->begin, json_array_get(offsets, 0), s->data_size) &&
        take_integer(&at->end, json_array_get(offsets, 1), s->data_size) && at->begin <= at->end)
        return DRR_OK;
    return error_set(err, DRR_E_FORMAT,
                     "%s: the tensor \"%.200s\" does not lie within the file, which has %zu bytes after its header; "
                     "fetch it again",
                     s->path, name, s->data_size);
}

static int span_compare(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Every tensor, not only those that an encoder asks for, lies within the file, and no two share a byte. */
static drr_status check_header(const safetensors *s, drr_error *err)
{
    const char *name;
    json_t *entry;
    size_t n = 0;
    drr_status status = DRR_OK;
    span *spans = calloc(json_object_size(s->header) + 1, sizeof *spans);
    if (!spans)
        return error_memory(err);
    json_object_foreach(s->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        status = json_is_object(entry)
                     ? take_span(&spans[n++], s, name, entry, err)
                     : error_set(err, DRR_E_FORMAT, "%s: the header's \"%.200s\" is not an object, as a tensor is",
                                 s->path, name);
        if (status != DRR_OK)
            break;
    }
    if (status == DRR_OK)
        qsort(spans, n, sizeof *spans, span_compare);
    for (size_t i = 1; status == DRR_OK && i < n; i++)
        if (spans[i].begin < spans[i - 1].end)
            status = error_set(err, DRR_E_FORMAT,
                               "%s: the tensors \"%.200s\" and \"%.200s\" share bytes; fetch the file again", s->path,
                               spans[i - 1].name, spans[i].name);
    free(spans);
    return status;
}

drr_status safetensors_open(safetensors *out, const char *path, drr_error *err)
{
    safetensors s = {0};
    uint64_t length = 0;
    drr_status status = file_map_open(&s.map, path, err);
    if (status != DRR_OK)
        return status;
    s.path = string_copy(path);
    if (!s.path) {
        status = error_memory(err);
        goto done;
    }
    if (s.map.size >= LENGTH_BYTES)
        memcpy(&length, s.map.data, LENGTH_BYTES);
    if (s.map.size < LENGTH_BYTES || length > MAX_HEADER || length > s.map.size - LENGTH_BYTES) {
        status = error_set(err, DRR_E_FORMAT,
                           "%s: not a safetensors file, or cut short: its first 8 bytes promise a header of %llu bytes "
                           "and the file has %zu",
                           path, (unsigned long long)length, s.map.size);
        goto done;
    }
    status = json_parse(&s.header, (const char *)s.map.data + LENGTH_BYTES, (size_t)length, path, err);
    if (status == DRR_OK && !json_is_object(s.header))
        status = error_set(err, DRR_E_FORMAT, "%s: byte 8: the header is not a JSON object", path);
    s.data = s.map.data + LENGTH_BYTES + length;
    s.data_size = s.map.size - LENGTH_BYTES - (size_t)length;
    if (status == DRR_OK)
        status = check_header(&s, err);
done:
    if (status == DRR_OK)
        *out = s;
    else
        safetensors_close(&s);
    return status;
}

void safetensors_close(safetensors *s)
{
    json_decref(s->header);
    file_map_close(&s->map);
    free(s->path);
    *s = (safetensors){0};
}

bool safetensors_has(const safetensors *s, const char *name)
{
    return json_is_object(json_object_get(s->header, name));
}

static size_t dtype_size(const char *dtype)
{
    return strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "F16") == 0 || strcmp(dtype, "BF16") == 0 ? 2 : 0;
}

drr_status safetensors_find(safetensor *out, const safetensors *s, const char *name, drr_error *err)
{
    json_t *entry = json_object_get(s->header, name);
    if (!json_is_object(entry))
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" is missing", s->path, name);
    json_t *shape = json_object_get(entry, "shape");
    safetensor t = {.name = name, .dtype = json_string_or(entry, "dtype", "none")};
    const size_t size = dtype_size(t.dtype), n_dimensions = json_array_size(shape);
    if (!size)
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" is of type %s; F32, F16 and BF16 are read", s->path,
                         name, t.dtype);
    span bytes;
    t.rows = 1;
    bool good = n_dimensions == 1 || n_dimensions == 2;
    if (n_dimensions == 2)
        good = take_integer(&t.rows, json_array_get(shape, 0), UINT32_MAX);
    good = good && take_integer(&t.columns, json_array_get(shape, n_dimensions - 1), UINT32_MAX);
    if (!good)
        return error_set(err, DRR_E_FORMAT, "%s: the tensor \"%s\" has no shape of one or two dimensions", s->path,
                         name);
    drr_status status = take_span(&bytes, s, name, entry, err);
    if (status != DRR_OK)
        return status;
    const uint64_t n = (bytes.end - bytes.begin) / size;
    if ((bytes.end - bytes.begin) % size || (t.columns && n / t.columns != t.rows) || n != t.rows * t.columns)
        return error_set(err, DRR_E_FORMAT,
                         "%s: the tensor \"%s\" has %llu bytes, which is not %llu x %llu values of %s", s->path, name,
                         (unsigned long long)(bytes.end - bytes.begin), (unsigned long long)t.rows,
                         (unsigned long long)t.columns, t.dtype);
    t.data = s->data + bytes.begin;
    *out = t;
    return DRR_OK;
}

/* IEEE 754 binary16: five bits of exponent, ten of fraction; the smallest are subnormal. */
static float from_half(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    return exponent ? sign * ldexpf((float)(fraction + 1024), exponent - 25) : sign * ldexpf((float)fraction, -24);
}

static float value_at(const safetensor *t, size_t i)
{
    uint32_t wide;
    uint16_t narrow;
    float value;
    if (t->dtype[0] == 'F' && t->dtype[1] == '3') {
        memcpy(&value, t->data + 4 * i, sizeof value); /* nothing says that it is aligned */
        return value;
    }
    memcpy(&narrow, t->data + 2 * i, sizeof narrow);
    if (t->dtype[0] == 'F')
        return from_half(narrow);
    wide = (uint32_t)narrow << 16;
    memcpy(&value, &wide, sizeof value);
    return value;
}

drr_status safetensors_values(float *values, size_t n, const safetensors *s, const safetensor *t, drr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        values[i] = value_at(t, i);
        if (!isfinite(values[i]))
            return error_set(err, DRR_E_FORMAT, "%s: value %zu of the tensor \"%s\" is not a finite number", s->path, i,
                             t->name);
    }
    return DRR_OK;
}

void safetensors_skip(safetensor *t, uint64_t rows)
{
    t->data += (size_t)(rows * t->columns) * dtype_size(t->dtype);
    t->rows -= rows;
}

/* ---- writing */

static void full_name(char *name, size_t size, const encoder *e, const encoder_tensor *t)
{
    snprintf(name, size, "%s%s", family_prefixes(t->hf_name) ? family_of(&e->shape)->hf_prefix : "", t->hf_name);
}

static bool is_vector(const encoder_tensor *t)
{
    const size_t length = strlen(t->hf_name);
    return t->rows == 1 && ((length > 5 && strcmp(t->hf_name + length - 5, ".bias") == 0) ||
                            strstr(t->hf_name, "LayerNorm") || strstr(t->hf_name, "norm."));
}

/* A row of token_type_embeddings is there for each type, but a critic is trained with type 0 alone. Each is written as
 * a copy of row 0, so that a program which numbers the second segment 1 gets the same logits. */
static const float *row_of(const encoder *e, const encoder_tensor *t, uint32_t row)
{
    const bool types = strcmp(t->name, "token_types.weight") == 0;
    return e->parameters + t->offset + (size_t)(types ? 0 : row) * t->columns;
}

/* Rows that no token has are not kept; 0 is what padding's row is. */
static drr_status put_rows_before(file_writer *w, const encoder *e, const encoder_tensor *t, drr_error *err)
{
    const float zero = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < (size_t)encoder_rows_before(e, t) * t->columns; i++)
        status = file_writer_put(w, &zero, sizeof zero, err);
    return status;
}

static drr_status make_header(buffer *header, const encoder *e, drr_error *err)
{
    char name[sizeof e->tensors->hf_name + 16];
    uint64_t at = 0;
    drr_status status = buffer_puts(header, "{\"__metadata__\":{\"format\":\"pt\"}", err);
    for (size_t i = 0; status == DRR_OK && i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        const uint32_t rows = t->rows + encoder_rows_before(e, t);
        const uint64_t bytes = (uint64_t)rows * t->columns * sizeof(float);
        full_name(name, sizeof name, e, t);
        status = buffer_printf(header, err, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
        if (status == DRR_OK && !is_vector(t))
            status = buffer_printf(header, err, "%u,", rows);
        if (status == DRR_OK)
            status = buffer_printf(header, err, "%u],\"data_offsets\":[%llu,%llu]}", t->columns, (unsigned long long)at,
                                   (unsigned long long)(at + bytes));
        at += bytes;
    }
    if (status == DRR_OK)
        status = buffer_puts(header, "}", err);
    while (status == DRR_OK && header->size % 8) /* the data begins aligned; spaces are allowed */
        status = buffer_puts(header, " ", err);
    return status;
}

drr_status safetensors_write(const char *path, const encoder *e, drr_error *err)
{
    buffer header = {0};
    file_writer w = {0};
    drr_status status = make_header(&header, e, err);
    const uint64_t length = header.size;
    if (status == DRR_OK)
        status = file_writer_open(&w, path, err);
    if (status != DRR_OK)
        goto done;
    status = file_writer_put(&w, &length, sizeof length, err);
    if (status == DRR_OK)
        status = file_writer_put(&w, header.data, header.size, err);
    for (size_t i = 0; status == DRR_OK && i < e->n_tensors; i++) {
        status = put_rows_before(&w, e, &e->tensors[i], err);
        for (uint32_t row = 0; status == DRR_OK && row < e->tensors[i].rows; row++)
            status = file_writer_put(&w, row_of(e, &e->tensors[i], row), e->tensors[i].columns * sizeof(float), err);
    }
    if (status == DRR_OK)
        status = file_writer_commit(&w, err);
    else
        file_writer_abandon(&w);
done:
    buffer_clear(&header);
    return status;
}
