/* replay.c: feeds a target its corpus, for builds without libFuzzer: fuzz_gguf FOLDER|FILE... Fails when none of the
 * inputs is read: then the corpus is of a format that is no more, and tests nothing behind its first check. */
#include "fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static size_t n_inputs;

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
