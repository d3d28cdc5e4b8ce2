/* gguf_write.c: writes the GGUF format, version 3: keys gathered in a buffer, then tensors straight from the encoder's
 * arena. What the keys mean is critic_file.c's. */
#include "critic/gguf_internal.h"

#include <string.h>

/* ---- keys */

void tensorfile_put(tensorfile_builder *b, const void *data, size_t size)
{
    if (b->status == DRR_OK && size)
        b->status = buffer_append(&b->bytes, data, size, b->err);
}

static void put_u32(tensorfile_builder *b, uint32_t value)
{
    tensorfile_put(b, &value, sizeof value);
}

static void put_u64(tensorfile_builder *b, uint64_t value)
{
    tensorfile_put(b, &value, sizeof value);
}

void tensorfile_put_string(tensorfile_builder *b, const char *prefix, const char *text)
{
    put_u64(b, strlen(prefix) + strlen(text));
    tensorfile_put(b, prefix, strlen(prefix));
    tensorfile_put(b, text, strlen(text));
}

static void begin_key(tensorfile_builder *b, const char *name, tensorfile_type type)
{
    tensorfile_put_string(b, "", name);
    put_u32(b, (uint32_t)type);
    b->n_keys++;
}

void tensorfile_add_u32(tensorfile_builder *b, const char *name, uint32_t value)
{
    begin_key(b, name, GGUF_U32);
    put_u32(b, value);
}

void tensorfile_add_u64(tensorfile_builder *b, const char *name, uint64_t value)
{
    begin_key(b, name, GGUF_U64);
    put_u64(b, value);
}

void tensorfile_add_bool(tensorfile_builder *b, const char *name, bool value)
{
    const uint8_t byte = value;
    begin_key(b, name, GGUF_BOOL);
    tensorfile_put(b, &byte, sizeof byte);
}

void tensorfile_add_f32(tensorfile_builder *b, const char *name, float value)
{
    begin_key(b, name, GGUF_F32);
    tensorfile_put(b, &value, sizeof value);
}

void tensorfile_add_f64(tensorfile_builder *b, const char *name, double value)
{
    begin_key(b, name, GGUF_F64);
    tensorfile_put(b, &value, sizeof value);
}

void tensorfile_add_string(tensorfile_builder *b, const char *name, const char *value)
{
    begin_key(b, name, GGUF_STRING);
    tensorfile_put_string(b, "", value ? value : "");
}

void tensorfile_begin_array(tensorfile_builder *b, const char *name, tensorfile_type item_type, size_t n)
{
    begin_key(b, name, GGUF_ARRAY);
    put_u32(b, (uint32_t)item_type);
    put_u64(b, n);
}

void tensorfile_add_f64s(tensorfile_builder *b, const char *name, const double *values, size_t n)
{
    tensorfile_begin_array(b, name, GGUF_F64, n);
    tensorfile_put(b, values, n * sizeof *values);
}

/* ---- the file */

static uint64_t aligned(uint64_t size)
{
    return (size + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
}

/* llama.cpp takes a tensor of one row for a vector, but cls.output.weight for a matrix of one label. */
static bool is_vector(const encoder_tensor *t)
{
    return t->rows == 1 && strcmp(t->name, "cls.output.weight") != 0 && strcmp(t->name, "token_types.weight") != 0;
}

static drr_status make_head(tensorfile_builder *head, const tensorfile_builder *keys, const encoder *e)
{
    uint64_t offset = 0;
    tensorfile_put(head, "GGUF", 4);
    put_u32(head, GGUF_VERSION);
    put_u64(head, e ? e->n_tensors : 0);
    put_u64(head, keys->n_keys);
    tensorfile_put(head, keys->bytes.data, keys->bytes.size);
    for (size_t i = 0; e && i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        tensorfile_put_string(head, "", t->name);
        put_u32(head, is_vector(t) ? 1 : 2);
        put_u64(head, t->columns); /* the fastest dimension first */
        if (!is_vector(t))
            put_u64(head, t->rows);
        put_u32(head, GGUF_TENSOR_F32);
        put_u64(head, offset);
        offset += aligned((uint64_t)t->rows * t->columns * sizeof(float));
    }
    const uint8_t zeros[GGUF_ALIGNMENT] = {0};
    tensorfile_put(head, zeros, (size_t)(aligned(head->bytes.size) - head->bytes.size));
    return head->status;
}

static drr_status put_tensor(file_writer *w, const encoder *e, const encoder_tensor *t, drr_error *err)
{
    const uint8_t zeros[GGUF_ALIGNMENT] = {0};
    const size_t size = (size_t)t->rows * t->columns * sizeof(float);
    drr_status status = file_writer_put(w, e->parameters + t->offset, size, err);
    if (status == DRR_OK && aligned(size) > size)
        status = file_writer_put(w, zeros, (size_t)aligned(size) - size, err);
    return status;
}

drr_status tensorfile_write(const char *path, const tensorfile_builder *b, const encoder *e, drr_error *err)
{
    tensorfile_builder head = {.err = err};
    file_writer w = {0};
    drr_status status = b->status == DRR_OK ? make_head(&head, b, e) : b->status;
    if (status == DRR_OK)
        status = file_writer_open(&w, path, err);
    if (status != DRR_OK)
        goto done;
    status = file_writer_put(&w, head.bytes.data, head.bytes.size, err);
    for (size_t i = 0; status == DRR_OK && e && i < e->n_tensors; i++)
        status = put_tensor(&w, e, &e->tensors[i], err);
    if (status == DRR_OK)
        status = file_writer_commit(&w, err);
    else
        file_writer_abandon(&w);
done:
    buffer_clear(&head.bytes);
    return status;
}
