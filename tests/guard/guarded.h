/* guarded.h: memory that ends, or begins, where a page begins that nobody may touch: whoever reads or writes past it
 * dies there and then, also where no sanitizer sees it, as in the code that oneDNN writes while the program runs. What
 * alignment leaves between memory and page holds a pattern that is looked at when it is freed. */
#ifndef DRR_TESTS_GUARDED_H
#define DRR_TESTS_GUARDED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARDED_PAGE = 4096, GUARDED_LINE = 64, GUARDED_PATTERN = 0x5a };

typedef struct guarded {
    uint8_t *data, *map;
    size_t size, mapped;
    bool at_end; /* its end is at a page that nobody may touch; else its beginning is */
} guarded;

static inline size_t guarded_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* `size` bytes, aligned to 64; data NULL when memory is out. */
static inline guarded guarded_new(size_t size, bool at_end)
{
    const size_t inner = guarded_up(size ? size : 1, GUARDED_PAGE), mapped = inner + 2 * GUARDED_PAGE;
    guarded g = {.size = size, .mapped = mapped, .at_end = at_end};
    g.map = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || mprotect(g.map + GUARDED_PAGE, inner, PROT_READ | PROT_WRITE) != 0) {
        g.map = NULL;
        return g;
    }
    memset(g.map + GUARDED_PAGE, GUARDED_PATTERN, inner);
    g.data = g.map + GUARDED_PAGE + (at_end ? inner - guarded_up(size, GUARDED_LINE) : 0);
    return g;
}

/* Was anything written between the memory and its pages? */
static inline bool guarded_is_whole(const guarded *g)
{
    for (const uint8_t *p = g->map + GUARDED_PAGE; p < g->data; p++)
        if (*p != GUARDED_PATTERN)
            return false;
    for (const uint8_t *p = g->data + g->size; p < g->map + g->mapped - GUARDED_PAGE; p++)
        if (*p != GUARDED_PATTERN)
            return false;
    return true;
}

static inline bool guarded_free(guarded *g)
{
    const bool whole = !g->map || guarded_is_whole(g);
    if (g->map)
        munmap(g->map, g->mapped);
    *g = (guarded){0};
    return whole;
}

#endif
