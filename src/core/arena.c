/* arena.c: many small allocations with one owner and one end. */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *next;
    size_t size, used;
    _Alignas(max_align_t) unsigned char data[];
} block;

struct arena {
    block *blocks; /* newest first */
    size_t block_bytes;
};

bool size_multiply(size_t *product, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, product);
}

arena *arena_new(size_t block_bytes)
{
    arena *a = calloc(1, sizeof *a);
    if (a)
        a->block_bytes = block_bytes ? block_bytes : 64 * 1024;
    return a;
}

void arena_free(arena *a)
{
    if (!a)
        return;
    for (block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void arena_reset(arena *a)
{
    for (block *b = a->blocks; b; b = b->next)
        b->used = 0;
}

static void *take(block *b, size_t size, size_t align)
{
    const uintptr_t start = (uintptr_t)b->data + b->used;
    const size_t skip = (size_t)(-start & (uintptr_t)(align - 1));
    if (b->size - b->used < skip || b->size - b->used - skip < size)
        return NULL;
    unsigned char *result = b->data + b->used + skip;
    b->used += skip + size;
    memset(result, 0, size);
    return result;
}

void *arena_alloc(arena *a, size_t size, size_t align)
{
    for (block *b = a->blocks; b; b = b->next) {
        void *result = take(b, size, align);
        if (result)
            return result;
        if (b->used < b->size / 2)
            continue;
        break; /* older blocks are fuller: not worth the walk */
    }
    if (size > SIZE_MAX / 2 || align > 4096)
        return NULL;
    const size_t room = size + align > a->block_bytes ? size + align : a->block_bytes;
    block *b = malloc(sizeof *b + room);
    if (!b)
        return NULL;
    *b = (block){.next = a->blocks, .size = room};
    a->blocks = b;
    return take(b, size, align);
}

char *arena_copy(arena *a, const char *text, size_t length)
{
    char *copy = arena_alloc(a, length + 1, 1);
    if (copy && length)
        memcpy(copy, text, length);
    return copy;
}
