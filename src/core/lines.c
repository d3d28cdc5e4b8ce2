/* lines.c: the lines of a text file, plain or gzip, of any length up to 64 MiB. */
#include "core/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { CHUNK = 1 << 16, LONGEST = 64 << 20 };

struct line_reader {
    gzFile file;
    char *path;
    buffer line;
    char *chunk;
    size_t chunk_used, chunk_size;
    uint64_t number;
    bool ended;
};

drr_status lines_open(line_reader **reader, const char *path, drr_error *err)
{
    if (file_is_folder(path))
        return error_set(err, DRR_E_IO, "%s is a folder, and a file of lines is wanted", path);
    line_reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    drr_status status = DRR_OK;
    r->path = string_copy(path);
    r->chunk = malloc(CHUNK);
    if (!r->path || !r->chunk) {
        status = error_memory(err);
        goto done;
    }
    errno = 0;
    r->file = gzopen(path, "rb");
    if (!r->file) {
        status = errno ? error_set_errno(err, errno, "%s cannot be opened", path) : error_memory(err);
        goto done;
    }
    *reader = r;
    r = NULL;
done:
    lines_close(r);
    return status;
}

void lines_close(line_reader *reader)
{
    if (!reader)
        return;
    if (reader->file)
        gzclose_r(reader->file);
    buffer_clear(&reader->line);
    free(reader->chunk);
    free(reader->path);
    free(reader);
}

static drr_status fill(line_reader *r, drr_error *err)
{
    const int n = gzread(r->file, r->chunk, CHUNK);
    int code = Z_OK;
    const char *what = gzerror(r->file, &code);
    r->chunk_used = 0;
    r->chunk_size = n > 0 ? (size_t)n : 0;
    r->ended = n <= 0;
    if (n < 0 || code == Z_BUF_ERROR || code == Z_DATA_ERROR)
        return error_set(err, DRR_E_FORMAT,
                         "%s:%llu: the compressed data is broken or cut short (%s); fetch the file again", r->path,
                         (unsigned long long)r->number + 1, what && *what ? what : "unexpected end");
    return DRR_OK;
}

drr_status lines_next(line_reader *r, char **line, size_t *length, drr_error *err)
{
    bool any = false;
    r->line.size = 0;
    for (;;) {
        if (r->chunk_used == r->chunk_size) {
            drr_status status = r->ended ? DRR_OK : fill(r, err);
            if (status != DRR_OK)
                return status;
            if (r->ended)
                break;
        }
        const char *start = r->chunk + r->chunk_used;
        const size_t left = r->chunk_size - r->chunk_used;
        const char *newline = memchr(start, '\n', left);
        const size_t part = newline ? (size_t)(newline - start) : left;
        if (r->line.size + part > LONGEST)
            return error_set(err, DRR_E_LIMIT, "%s:%llu: a line longer than 64 MiB", r->path,
                             (unsigned long long)r->number + 1);
        drr_status status = buffer_append(&r->line, start, part, err);
        if (status != DRR_OK)
            return status;
        r->chunk_used += part + (newline != NULL);
        any = true;
        if (newline)
            break;
    }
    if (!any)
        return DRR_E_EMPTY;
    if (r->line.size && r->line.data[r->line.size - 1] == '\r')
        r->line.data[--r->line.size] = '\0';
    r->number++;
    *line = r->line.data;
    if (length)
        *length = r->line.size;
    return DRR_OK;
}

uint64_t lines_number(const line_reader *reader)
{
    return reader->number;
}

const char *lines_zlib_version(void)
{
    return zlibVersion();
}

drr_status lines_split(const char ***lines, size_t *n, char *text, size_t size, drr_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\n';
    *n = 0;
    *lines = calloc(count + 1, sizeof **lines);
    if (!*lines)
        return error_memory(err);
    for (char *line = text; line < text + size;) {
        char *end = memchr(line, '\n', (size_t)(text + size - line));
        char *next = end ? end + 1 : text + size;
        if (!end)
            end = next; /* file_read put a NUL there */
        *end = '\0';
        if (end > line && end[-1] == '\r')
            end[-1] = '\0';
        (*lines)[(*n)++] = line;
        line = next;
    }
    return DRR_OK;
}
