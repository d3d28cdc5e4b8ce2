/* fuzz.h: what the fuzz targets share: files that lie in memory alone, and a critic that is as small as one can be.
 *
 * A target is LLVMFuzzerTestOneInput, for libFuzzer (`make fuzz`, built by clang) or for replay.c, which feeds it the
 * corpus (`make test`, in the release and the sanitizer builds). The files' calls are put in place of core's by the
 * linker
 * (--wrap): so nothing touches a disk, and what is read lies in a heap block of exactly its size, where
 * AddressSanitizer sees one byte too many; behind a memory map there is the rest of a page. */
#ifndef DRR_TESTS_FUZZ_H
#define DRR_TESTS_FUZZ_H

#include "critic/critic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern size_t fuzz_accepted; /* inputs that were read and not refused */

/* What must not be: says why and ends the process, so that the input is kept. */
#define fuzz_that(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fuzz_failed(__FILE__, __LINE__, #condition);                                                               \
    } while (0)
void fuzz_failed(const char *file, int line, const char *condition);
/* A refusal has words that name the file, and does not put it down to memory. */
void fuzz_refused(drr_status status, const drr_error *err, const char *names);

/* ---- files in memory (memory_files.c); their names are the last part of a path */
void files_clear(void);
void files_put(const char *name, const void *data, size_t size); /* a copy */
const uint8_t *files_get(size_t *size, const char *name);        /* NULL: there is none */

/* ---- the smallest critic (small.c) */
wordpiece *small_tokenizer(void);
encoder *small_encoder(void);
/* Everything that a critic can have, or as little as it can. */
critic_meta small_meta(bool all);

#endif
