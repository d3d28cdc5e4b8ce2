/* mutate.h: seeded damage to valid bytes, for the test_fuzz_*.c programs: flipped bits, cuts, pieces doubled, swapped
 * or overwritten, and words that readers stumble over. The same seed does the same damage everywhere. */
#ifndef MUTATE_H
#define MUTATE_H

#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* In memory where that is possible: these tests write thousands of files and none must survive a power cut. */
static char mutate_folder[64];

static inline int mutate_begin(void **state)
{
    (void)state;
    strcpy(mutate_folder, "/dev/shm/drr-fuzz-XXXXXX");
    if (mkdtemp(mutate_folder))
        return 0;
    strcpy(mutate_folder, "/tmp/drr-fuzz-XXXXXX");
    return mkdtemp(mutate_folder) ? 0 : -1;
}

static inline int mutate_end(void **state)
{
    (void)state;
    return rmdir(mutate_folder); /* each test has removed its files */
}

static inline const char *mutate_path(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", mutate_folder, name);
    return path;
}

static inline void mutate_write(const char *path, const char *data, size_t size) /* without file_write_all's fsync */
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void mutate_put(buffer *b, const char *data, size_t size)
{
    assert_int_equal(buffer_append(b, data, size, NULL), DRR_OK);
}

/* `out` becomes `data` with one piece of damage; positions before `head` are chosen as often as all others. */
static inline void mutate_once(buffer *out, const char *data, size_t size, size_t head, rng *r)
{
    static const char *const words[] = {"null",
                                        "-1",
                                        "1e999",
                                        "\"",
                                        "[[[[[[[[",
                                        "{",
                                        "}",
                                        "\\u0000",
                                        "\\ud800",
                                        "\xff",
                                        "",
                                        "99999999999999999999",
                                        "4294967296",
                                        "-0.0",
                                        "true",
                                        "\n",
                                        ",",
                                        ":\"\"",
                                        "{}",
                                        "[]",
                                        "(A)",
                                        "####",
                                        "1/0",
                                        "9^9^9^9",
                                        "\xf0\x9f\x98\x80",
                                        "None",
                                        "1,2,3",
                                        "%n%s",
                                        "A-Z"};
    const size_t within = head && head < size && rng_below(r, 2) ? head : size;
    const size_t at = rng_below(r, within + 1), left = size - at;
    const size_t piece = left ? 1 + rng_below(r, rng_below(r, 4) ? (left < 40 ? left : 40) : left) : 0;
    out->size = 0;
    mutate_put(out, data, at);
    switch (rng_below(r, 8)) {
    case 0: /* cut the end off */
        break;
    case 1: /* cut a piece out */
        mutate_put(out, data + at + piece, left - piece);
        break;
    case 2: /* double a piece */
        mutate_put(out, data + at, piece);
        mutate_put(out, data + at, left);
        break;
    case 3: { /* swap two neighbouring pieces */
        const size_t other = left > piece ? 1 + rng_below(r, left - piece) : 0;
        mutate_put(out, data + at + piece, other);
        mutate_put(out, data + at, piece);
        mutate_put(out, data + at + piece + other, left - piece - other);
        break;
    }
    case 4: { /* overwrite with a piece of elsewhere */
        const size_t from = rng_below(r, size - piece + 1);
        mutate_put(out, data + from, piece);
        mutate_put(out, data + at + piece, left - piece);
        break;
    }
    case 5: { /* a word between */
        const char *word = words[rng_below(r, sizeof words / sizeof *words)];
        mutate_put(out, word, strlen(word));
        mutate_put(out, data + at, left);
        break;
    }
    default: /* flip a bit, the finest damage */
        mutate_put(out, data + at, left);
        if (left)
            out->data[at] = (char)(out->data[at] ^ (char)(1 << rng_below(r, 8)));
    }
}

/* One to four pieces of damage; `out` is the caller's to clear, and may be used again and again. */
static inline void mutate(buffer *out, const char *data, size_t size, size_t head, rng *r)
{
    buffer before = {0};
    mutate_once(out, data, size, head, r);
    for (uint64_t more = rng_below(r, 4); more > 0; more--) {
        before.size = 0;
        mutate_put(&before, out->data, out->size);
        mutate_once(out, before.data, before.size, head, r);
    }
    buffer_clear(&before);
}

#endif
