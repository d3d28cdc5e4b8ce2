/* core.h: the door of src/core, the things every folder needs and that know nothing about language models:
 * errors, growing buffers, arenas, random numbers, hashes, files, lines, memory, progress. */
#ifndef DRR_CORE_H
#define DRR_CORE_H

#include "drr.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- errors (error.c) */
/* Sets *err (may be NULL) and returns `status`, so that `return error_set(...)` reads well. */
drr_status error_set(drr_error *err, drr_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Same, with ": " and the text of errno `code` at the end. ENOSPC and EACCES say what to do. */
drr_status error_set_errno(drr_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
drr_status error_memory(drr_error *err); /* DRR_E_MEMORY */

/* ---- logging and progress through the caller's hooks (progress.c) */
void hooks_log(const drr_hooks *hooks, drr_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool hooks_cancelled(const drr_hooks *hooks);
typedef struct progress_meter { /* rate over a sliding window; reports at most 4 times a second */
    const drr_hooks *hooks;
    const char *phase, *unit;
    uint64_t total, first_done, window_done;
    double started_s, window_s, last_s, rate;
} progress_meter;
void progress_begin(progress_meter *meter, const drr_hooks *hooks, const char *phase, const char *unit, uint64_t done,
                    uint64_t total);
void progress_update(progress_meter *meter, uint64_t done, const char *note);
void progress_end(progress_meter *meter, uint64_t done, const char *note); /* reports always */
double clock_seconds(void);                                                /* monotonic */

/* ---- growing byte buffer, always NUL-terminated after the first call (buffer.c) */
typedef struct buffer {
    char *data;
    size_t size, capacity;
} buffer;
drr_status buffer_append(buffer *b, const void *data, size_t size, drr_error *err);
drr_status buffer_puts(buffer *b, const char *text, drr_error *err);
drr_status buffer_printf(buffer *b, drr_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
char *buffer_take(buffer *b); /* the string, now the caller's; never NULL after a successful append */
void buffer_clear(buffer *b);

char *string_copy(const char *text); /* NULL in, NULL out; NULL when memory is out */
char *string_copy_n(const char *text, size_t length);
/* Bytes of the UTF-8 character at text[0] (RFC 3629: no overlong forms, no surrogates); 0: there is none. */
size_t utf8_character(const char *text, size_t size);
size_t utf8_sound(const char *text, size_t size); /* how many bytes from text[0] on are whole characters */

/* ---- arena: many small things that die together (arena.c) */
typedef struct arena arena;
arena *arena_new(size_t block_bytes); /* 0: 64 KiB */
void arena_free(arena *a);
void arena_reset(arena *a);                             /* keeps the blocks */
void *arena_alloc(arena *a, size_t size, size_t align); /* NULL when memory is out; zeroed */
char *arena_copy(arena *a, const char *text, size_t length);

bool size_multiply(size_t *product, size_t a, size_t b); /* false on overflow */

/* ---- random numbers and hashes (rng.c): same seed, same stream on every machine */
typedef struct rng { /* xoshiro256** seeded by splitmix64 */
    uint64_t s[4];
} rng;
void rng_seed(rng *r, uint64_t seed);
uint64_t rng_next(rng *r);
double rng_uniform(rng *r);             /* [0, 1) */
uint64_t rng_below(rng *r, uint64_t n); /* [0, n), without modulo bias */
double rng_normal(rng *r);
void rng_shuffle(rng *r, size_t *items, size_t n);
uint64_t hash_bytes(uint64_t seed, const void *data, size_t size); /* not cryptographic; stable for ever */
uint64_t hash_string(uint64_t seed, const char *text);
uint64_t hash_mix(uint64_t a, uint64_t b);

/* sha256.c: for models, identities and cache keys */
typedef struct sha256 {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} sha256;
void sha256_begin(sha256 *h);
void sha256_add(sha256 *h, const void *data, size_t size);
void sha256_end(sha256 *h, char hex[65]);
drr_status sha256_file(char hex[65], const char *path, drr_error *err);

/* ---- files (file.c) */
/* Reads a whole file; *data is NUL-terminated and the caller's. max_size 0: no limit. */
drr_status file_read(char **data, size_t *size, const char *path, size_t max_size, drr_error *err);
bool file_exists(const char *path);
bool file_is_folder(const char *path);
bool file_is_same(const char *a, const char *b); /* both are there, and are one file, by whatever names */
/* The file's name in its path; *stem, where not NULL, is its length without the last extension (".hidden" has none). */
const char *file_name(const char *path, size_t *stem);
/* Waits for the lock on the folder of `path` and returns it, for file_unlock; it falls with the process. Where a folder
 * cannot be locked (some network file systems) -1 or a lock that excludes nobody. */
int file_lock_folder(const char *path);
void file_unlock(int lock);
drr_status folder_make(const char *path, drr_error *err); /* with parents */
/* Atomic write: temporary name beside `path`, flush, fsync, rename, fsync of the folder. Nothing is left
 * behind on failure; what a killed process left of the same file is removed by the next one that writes it. What is
 * there and no regular file (a device, a pipe, a folder) is DRR_E_IO and left alone. */
typedef struct file_writer {
    FILE *file;
    char *path, *temporary;
} file_writer;
drr_status file_writer_open(file_writer *w, const char *path, drr_error *err);
drr_status file_writer_put(file_writer *w, const void *data, size_t size, drr_error *err);
drr_status file_writer_commit(file_writer *w, drr_error *err); /* closes in any case */
void file_writer_abandon(file_writer *w);                      /* fine after commit, and when zeroed */
drr_status file_write_all(const char *path, const void *data, size_t size, drr_error *err); /* the four in one */

/* Read-only memory map. */
typedef struct file_map {
    const uint8_t *data;
    size_t size;
} file_map;
drr_status file_map_open(file_map *map, const char *path, drr_error *err);
void file_map_close(file_map *map);

/* ---- lines of a text file, plain or gzip (lines.c) */
typedef struct line_reader line_reader;
drr_status lines_open(line_reader **reader, const char *path, drr_error *err);
void lines_close(line_reader *reader);
/* The next line without its newline, valid until the next call; DRR_E_EMPTY, *err untouched, at the end of the file. A
 * gzip stream cut short is DRR_E_FORMAT naming the line. */
drr_status lines_next(line_reader *reader, char **line, size_t *length, drr_error *err);
uint64_t lines_number(const line_reader *reader); /* of the line last returned, from 1 */
/* Writes lines, gzip where `path` ends in ".gz", with file_writer's promise: whole or not at all (lines_write.c). */
typedef struct line_writer line_writer;
drr_status lines_create(line_writer **writer, const char *path, drr_error *err);
drr_status lines_put(line_writer *writer, const char *line, drr_error *err); /* adds the newline */
drr_status lines_commit(line_writer *writer, drr_error *err);                /* frees in any case */
void lines_abandon(line_writer *writer);                                     /* frees; NULL is fine */
/* Splits a text that file_read gave in place, at "\n" or "\r\n"; *lines is the caller's. */
drr_status lines_split(const char ***lines, size_t *n, char *text, size_t size, drr_error *err);
const char *lines_zlib_version(void); /* of the zlib that is loaded */

/* ---- memory (memory.c) */
/* Bytes that this process may still take: of the machine's, below the limits of its control groups and its own.
 * UINT64_MAX where nothing tells. */
uint64_t memory_available(void);
/* The same of the machine and the control groups whose /proc and /sys lie under `root`. */
uint64_t memory_available_under(const char *root);

/* ---- parallel loops (parallel.c), a pool over pthreads */
uint32_t cores_usable(void); /* that this process may run on, which taskset, mpirun or a container may have made few */
void parallel_set_threads(uint32_t n); /* 0: cores_usable() */
uint32_t parallel_threads(void);
typedef void (*parallel_fn)(void *user, size_t begin, size_t end, uint32_t thread);
/* Splits [0, n) into at most parallel_threads() contiguous parts and waits for all. */
void parallel_for(size_t n, parallel_fn body, void *user);

#endif
