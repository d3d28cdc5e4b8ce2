/* memory_files.c: core's files, in memory: see fuzz.h. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 16 };
static struct {
    char name[64];
    uint8_t *data; /* of exactly `size` bytes, on the heap */
    size_t size;
} files[MOST_FILES];
static size_t n_files;

size_t fuzz_accepted;

void fuzz_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
    abort();
}

void fuzz_refused(drr_status status, const drr_error *err, const char *names)
{
    if (status == DRR_OK || status == DRR_E_MEMORY || status == DRR_E_IO || !strstr(err->message, names)) {
        fprintf(stderr, "%s: \"%s\" (looked for \"%s\")\n", drr_status_name(status), err->message, names);
        fuzz_failed(__FILE__, __LINE__, "a refusal names the file");
    }
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static size_t find(const char *path)
{
    for (size_t i = 0; i < n_files; i++)
        if (strcmp(files[i].name, last_part(path)) == 0)
            return i;
    return MOST_FILES;
}

void files_clear(void)
{
    while (n_files)
        free(files[--n_files].data);
}

static void put(const char *path, uint8_t *data, size_t size)
{
    size_t i = find(path);
    if (i == MOST_FILES) {
        fuzz_that(n_files < MOST_FILES);
        i = n_files++;
        snprintf(files[i].name, sizeof files[i].name, "%s", last_part(path));
    } else {
        free(files[i].data);
    }
    files[i].data = data;
    files[i].size = size;
}

static uint8_t *copy_of(const void *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    fuzz_that(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

void files_put(const char *name, const void *data, size_t size)
{
    put(name, copy_of(data, size), size);
}

const uint8_t *files_get(size_t *size, const char *name)
{
    const size_t i = find(name);
    if (i == MOST_FILES)
        return NULL;
    *size = files[i].size;
    return files[i].data;
}

/* ---- in place of core/file.c */

drr_status __wrap_file_map_open(file_map *map, const char *path, drr_error *err);
drr_status __wrap_file_map_open(file_map *map, const char *path, drr_error *err)
{
    size_t size = 0;
    const uint8_t *data = files_get(&size, path);
    if (!data)
        return error_set(err, DRR_E_NOT_FOUND, "%s is not there", path);
    if (size == 0)
        return error_set(err, DRR_E_FORMAT, "%s is empty", path);
    *map = (file_map){copy_of(data, size), size};
    return DRR_OK;
}

void __wrap_file_map_close(file_map *map);
void __wrap_file_map_close(file_map *map)
{
    free((void *)(uintptr_t)map->data);
    *map = (file_map){0};
}

drr_status __wrap_file_read(char **data, size_t *size, const char *path, size_t max_size, drr_error *err);
drr_status __wrap_file_read(char **data, size_t *size, const char *path, size_t max_size, drr_error *err)
{
    size_t n = 0;
    const uint8_t *found = files_get(&n, path);
    if (!found)
        return error_set(err, DRR_E_NOT_FOUND, "%s is not there", path);
    if (max_size && n > max_size)
        return error_set(err, DRR_E_LIMIT, "%s is too large", path);
    char *copy = malloc(n + 1);
    fuzz_that(copy != NULL);
    memcpy(copy, found, n);
    copy[n] = '\0';
    *data = copy;
    if (size)
        *size = n;
    return DRR_OK;
}

bool __wrap_file_exists(const char *path);
bool __wrap_file_exists(const char *path)
{
    return find(path) < MOST_FILES;
}

/* One file is written at a time. */
static buffer writing;

drr_status __wrap_file_writer_open(file_writer *w, const char *path, drr_error *err);
drr_status __wrap_file_writer_open(file_writer *w, const char *path, drr_error *err)
{
    writing.size = 0;
    *w = (file_writer){.path = string_copy(path)};
    return w->path ? DRR_OK : error_memory(err);
}

drr_status __wrap_file_writer_put(file_writer *w, const void *data, size_t size, drr_error *err);
drr_status __wrap_file_writer_put(file_writer *w, const void *data, size_t size, drr_error *err)
{
    (void)w;
    return buffer_append(&writing, data, size, err);
}

drr_status __wrap_file_writer_commit(file_writer *w, drr_error *err);
drr_status __wrap_file_writer_commit(file_writer *w, drr_error *err)
{
    (void)err;
    files_put(w->path, writing.data, writing.size);
    free(w->path);
    *w = (file_writer){0};
    return DRR_OK;
}

void __wrap_file_writer_abandon(file_writer *w);
void __wrap_file_writer_abandon(file_writer *w)
{
    free(w->path);
    *w = (file_writer){0};
}
