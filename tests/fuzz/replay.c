/* replay.c: feeds a target its corpus, for builds without libFuzzer: fuzz_gguf FOLDER|FILE... Each input comes as it
 * is, and then damaged in ways that are drawn from its own bytes, the same in every run: cut somewhere, and with a
 * number in it that is just too large, just large enough, or absurd. Fails when none of the inputs is read: then the
 * corpus is of a format that is no more, and tests nothing behind its first check. */
#include "fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef FUZZ_ROUNDS /* of each input; fewer where one takes milliseconds */
#define FUZZ_ROUNDS 500
#endif
enum { ROUNDS = FUZZ_ROUNDS };
static size_t n_inputs;

/* A number of 8, 4 or 1 bytes over what is there; the lengths that a reader has to compare are of all these sizes. */
static void put_number(uint8_t *data, size_t size, rng *r)
{
    static const uint64_t absurd[] = {UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 61, UINT32_MAX, 0};
    const size_t at = rng_below(r, size), width = (size_t[]){8, 4, 1}[rng_below(r, 3)];
    const uint64_t left = size - at;
    const uint64_t value =
        rng_below(r, 3) ? left + rng_below(r, 64) - 32 : absurd[rng_below(r, sizeof absurd / sizeof *absurd)];
    memcpy(data + at, &value, width < left ? width : (size_t)left);
}

static void feed_damaged(const uint8_t *data, size_t size)
{
    rng r;
    const size_t accepted = fuzz_accepted;
    uint8_t *copy = malloc(size);
    fuzz_that(copy != NULL);
    rng_seed(&r, hash_bytes(1, data, size));
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(copy, data, size);
        if (round % 4)
            put_number(copy, size, &r);
        LLVMFuzzerTestOneInput(copy, round % 4 ? size : rng_below(&r, size));
    }
    free(copy);
    fuzz_accepted = accepted; /* of the corpus as it is */
}

static void feed_file(const char *path)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    fuzz_that(file && fstat(fileno(file), &st) == 0);
    uint8_t *data = malloc((size_t)st.st_size + 1);
    fuzz_that(data && fread(data, 1, (size_t)st.st_size, file) == (size_t)st.st_size);
    fclose(file);
    n_inputs++;
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    if (st.st_size)
        feed_damaged(data, (size_t)st.st_size);
    free(data);
}

static void feed(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        feed_file(path);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder));) {
        char inner[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        feed_file(inner);
    }
    closedir(folder);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        feed(argv[i]);
    printf("%zu inputs, %zu of them read\n", n_inputs, fuzz_accepted);
    if (n_inputs && !fuzz_accepted)
        fprintf(stderr, "none of the inputs is read: make new seeds (tests/fuzz/seeds.c)\n");
    return n_inputs && fuzz_accepted ? 0 : 1;
}
