/* lines_write.c: a file of lines, plain or gzip, written whole or not at all. Reading is lines.c's. */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct line_writer {
    file_writer file;
    z_stream z;
    bool gzip;
};

static bool is_gzip_name(const char *path)
{
    const size_t length = strlen(path);
    return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

drr_status lines_create(line_writer **writer, const char *path, drr_error *err)
{
    enum { LEVEL = 6, GZIP_WINDOW = 15 + 16, MEMORY = 8 };
    line_writer *w = calloc(1, sizeof *w);
    if (!w)
        return error_memory(err);
    drr_status status = file_writer_open(&w->file, path, err);
    if (status == DRR_OK && is_gzip_name(path)) {
        w->gzip = deflateInit2(&w->z, LEVEL, Z_DEFLATED, GZIP_WINDOW, MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
        status = w->gzip ? DRR_OK : error_memory(err);
    }
    if (status == DRR_OK)
        *writer = w;
    else
        lines_abandon(w);
    return status;
}

static drr_status put(line_writer *w, const char *data, size_t size, int flush, drr_error *err)
{
    unsigned char out[1 << 14];
    drr_status status = DRR_OK;
    if (!w->gzip)
        return file_writer_put(&w->file, data, size, err);
    w->z.next_in = (unsigned char *)(uintptr_t)data;
    w->z.avail_in = (unsigned)size;
    do {
        w->z.next_out = out;
        w->z.avail_out = sizeof out;
        if (deflate(&w->z, flush) == Z_STREAM_ERROR)
            return error_set(err, DRR_E_BACKEND, "%s: zlib failed", w->file.path);
        status = file_writer_put(&w->file, out, sizeof out - w->z.avail_out, err);
    } while (status == DRR_OK && w->z.avail_out == 0);
    return status;
}

drr_status lines_put(line_writer *writer, const char *line, drr_error *err)
{
    drr_status status = put(writer, line, strlen(line), Z_NO_FLUSH, err);
    return status == DRR_OK ? put(writer, "\n", 1, Z_NO_FLUSH, err) : status;
}

drr_status lines_commit(line_writer *writer, drr_error *err)
{
    drr_status status = writer->gzip ? put(writer, "", 0, Z_FINISH, err) : DRR_OK;
    if (status == DRR_OK)
        status = file_writer_commit(&writer->file, err);
    lines_abandon(writer);
    return status;
}

void lines_abandon(line_writer *writer)
{
    if (!writer)
        return;
    if (writer->gzip)
        deflateEnd(&writer->z);
    file_writer_abandon(&writer->file);
    free(writer);
}
