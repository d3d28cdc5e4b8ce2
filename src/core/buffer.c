/* buffer.c: bytes that grow, and copies of strings. */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

static drr_status reserve(buffer *b, size_t extra, drr_error *err)
{
    if (extra > SIZE_MAX / 2 - b->size - 1)
        return error_memory(err);
    const size_t needed = b->size + extra + 1;
    if (needed <= b->capacity)
        return DRR_OK;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (!data)
        return error_memory(err);
    b->data = data;
    b->capacity = capacity;
    return DRR_OK;
}

drr_status buffer_append(buffer *b, const void *data, size_t size, drr_error *err)
{
    drr_status status = reserve(b, size, err);
    if (status != DRR_OK)
        return status;
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = '\0';
    return DRR_OK;
}

drr_status buffer_puts(buffer *b, const char *text, drr_error *err)
{
    return buffer_append(b, text, strlen(text), err);
}

drr_status buffer_printf(buffer *b, drr_error *err, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    drr_status status = n < 0 ? error_set(err, DRR_E_ARGUMENT, "a text cannot be formatted") : DRR_OK;
    if (status == DRR_OK)
        status = reserve(b, (size_t)n, err);
    if (status == DRR_OK) {
        vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    }
    va_end(again);
    return status;
}

char *buffer_take(buffer *b)
{
    char *data = b->data;
    *b = (buffer){0};
    return data;
}

void buffer_clear(buffer *b)
{
    free(b->data);
    *b = (buffer){0};
}

char *string_copy(const char *text)
{
    return text ? string_copy_n(text, strlen(text)) : NULL;
}

char *string_copy_n(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

size_t utf8_character(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text, c = size ? s[0] : 0xff;
    const size_t n = c < 0x80                ? 1
                     : c >= 0xc2 && c < 0xe0 ? 2
                     : c >= 0xe0 && c < 0xf0 ? 3
                     : c >= 0xf0 && c < 0xf5 ? 4
                                             : 0;
    if (n == 0 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] >= 0xa0) || (c == 0xf0 && s[1] < 0x90) ||
        (c == 0xf4 && s[1] >= 0x90))
        return 0;
    return n;
}

size_t utf8_sound(const char *text, size_t size)
{
    size_t at = 0, n = 1;
    while (at < size && (n = utf8_character(text + at, size - at)) != 0)
        at += n;
    return at;
}
