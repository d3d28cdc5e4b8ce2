/* guard_malloc.c: a malloc for tests, to be preloaded into any program (LD_PRELOAD): the program dies where memory is
 * misused, whoever does it, generated code and foreign libraries as well as our own code.
 *
 * An allocation of DRR_GUARD_LEAST bytes (1024) or more ends where a page begins that nobody may touch, is preceded by
 * one that nobody may write to, and its addresses are never given out again: after free nobody may touch them either. A
 * smaller one has a pattern before and behind it that is looked at when it is freed. What is allocated is full of NaNs
 * (bytes 0xff), but for calloc's. A misuse found at free is one line on standard error and SIGABRT; the others are
 * SIGSEGV. */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { PAGE = 4096, LINE = 16, PATTERN = 0x5a, TAIL = 16, MOST_GUARDED = 18000 }; /* each takes 3 of 65,530 mappings */
#define REGION ((size_t)1 << 43)
#define MAGIC UINT64_C(0x6472722d67756172)
#define FREED UINT64_C(0x6472722d67617665)

/* glibc's own, below this one. */
extern void *__libc_malloc(size_t size);
extern void __libc_free(void *p);

typedef struct head { /* in the page before a guarded allocation; right before a small one */
    uint64_t magic;
    size_t size, mapped;
    void *raw;
} head;

static struct {
    _Atomic(uint8_t *) begin;
    _Atomic size_t used, live;
    size_t least;
    atomic_flag opening;
} region = {.opening = ATOMIC_FLAG_INIT};

static void die(const char *what)
{
    static const char words[] = "guard_malloc: ";
    if (write(STDERR_FILENO, words, sizeof words - 1) < 0 || write(STDERR_FILENO, what, strlen(what)) < 0)
        abort();
    abort();
}

static uint8_t *region_begin(void)
{
    uint8_t *at = atomic_load(&region.begin);
    if (at)
        return at;
    while (atomic_flag_test_and_set(&region.opening))
        ;
    at = atomic_load(&region.begin);
    if (!at) {
        const char *least = getenv("DRR_GUARD_LEAST");
        region.least = least ? strtoul(least, NULL, 10) : 1024;
        at = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            die("no addresses are left\n");
        atomic_store(&region.begin, at);
    }
    atomic_flag_clear(&region.opening);
    return at;
}

static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static bool is_guarded(const void *p)
{
    const uint8_t *begin = atomic_load(&region.begin), *at = p;
    return begin && at >= begin && at < begin + REGION;
}

static head *head_of(const void *p)
{
    const uintptr_t at = (uintptr_t)p;
    return is_guarded(p) ? (head *)(at / PAGE * PAGE - PAGE) : (head *)(at - sizeof(head));
}

static void *take_guarded(size_t size, size_t align)
{
    const size_t inner = up(up(size, align), PAGE), gap = align > PAGE ? align : 0, mapped = inner + 2 * PAGE + gap;
    uint8_t *base = region_begin() + atomic_fetch_add(&region.used, mapped);
    if (base + mapped > region_begin() + REGION)
        die("all addresses are used up\n");
    uint8_t *data = base + PAGE + inner - up(size, align);
    if (gap)
        data = (uint8_t *)up((uintptr_t)base + PAGE, align);
    uint8_t *first = (uint8_t *)((uintptr_t)data / PAGE * PAGE);
    if (mprotect(first - PAGE, inner + PAGE, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    head *h = (head *)(void *)(first - PAGE);
    *h = (head){MAGIC, size, inner + PAGE, first - PAGE};
    mprotect(h, PAGE, PROT_READ);
    memset(data + size, PATTERN, (size_t)(first + inner - (data + size)));
    memset(first, PATTERN, (size_t)(data - first));
    atomic_fetch_add(&region.live, 1);
    return data;
}

static void *take_small(size_t size, size_t align)
{
    uint8_t *raw = __libc_malloc(size + sizeof(head) + align + TAIL);
    if (!raw)
        return NULL;
    uint8_t *data = (uint8_t *)up((uintptr_t)raw + sizeof(head), align);
    *head_of(data) = (head){MAGIC, size, 0, raw};
    memset(data + size, PATTERN, TAIL);
    return data;
}

static void *take(size_t size, size_t align, int fill)
{
    region_begin();
    align = align < LINE ? LINE : align;
    if (size > REGION / 4 || (align & (align - 1))) {
        errno = ENOMEM;
        return NULL;
    }
    const bool large = size >= region.least && atomic_load(&region.live) < MOST_GUARDED;
    void *data = large ? take_guarded(size, align) : take_small(size, align);
    if (!data)
        errno = ENOMEM;
    else if (!large || fill)
        memset(data, fill, size);
    return data;
}

static void check_pattern(const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++)
        if (*from != PATTERN)
            die("something was written beside an allocation\n");
}

EXPORT void free(void *p)
{
    if (!p)
        return;
    head *h = head_of(p);
    if (h->magic == FREED)
        die("freed twice\n");
    if (h->magic != MAGIC)
        die("freed what was never allocated, or the bytes before it were written to\n");
    const uint8_t *data = p;
    if (!is_guarded(p)) {
        check_pattern(data + h->size, data + h->size + TAIL);
        h->magic = FREED;
        memset(p, 0xdd, h->size);
        __libc_free(h->raw);
        return;
    }
    const uint8_t *first = (const uint8_t *)h + PAGE;
    check_pattern(first, data);
    check_pattern(data + h->size, (const uint8_t *)h + h->mapped);
    atomic_fetch_sub(&region.live, 1);
    const int before = errno; /* free keeps it */
    if (mmap(h->raw, h->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
        MAP_FAILED)
        die("memory cannot be given back\n");
    errno = before;
}

EXPORT void *malloc(size_t size)
{
    return take(size, LINE, 0xff);
}

EXPORT void *calloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return take(bytes, LINE, 0);
}

EXPORT void *realloc(void *p, size_t size)
{
    if (!p)
        return malloc(size);
    if (!size) {
        free(p);
        return NULL;
    }
    const size_t before = head_of(p)->size;
    void *next = malloc(size);
    if (next) {
        memcpy(next, p, before < size ? before : size);
        free(p);
    }
    return next;
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, bytes);
}

EXPORT void *memalign(size_t align, size_t size)
{
    return take(size, align, 0xff);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    return take(size, align, 0xff);
}

EXPORT int posix_memalign(void **p, size_t align, size_t size)
{
    void *data = take(size, align, 0xff);
    if (!data)
        return ENOMEM;
    *p = data;
    return 0;
}

EXPORT void *valloc(size_t size)
{
    return take(size, PAGE, 0xff);
}

EXPORT size_t malloc_usable_size(void *p)
{
    return p ? head_of(p)->size : 0;
}
