/* blob_cache.c: a durable map from keys to bytes in an SQLite file of its own, for work that is dear to repeat. */
#include "trace/sqlite_internal.h"

#include <stdlib.h>
#include <string.h>

struct blob_cache {
    sqlite3 *db;
    sqlite3_stmt *get, *put;
    char *path;
};

drr_status blob_cache_open(blob_cache **cache, const char *path, drr_error *err)
{
    blob_cache *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->path = string_copy(path);
    drr_status status = c->path ? sqlite_open_file(&c->db, path, "blobs", true, err) : error_memory(err);
    if (status == DRR_OK)
        status =
            sqlite_run(c->db, path,
                       "PRAGMA synchronous=NORMAL; CREATE TABLE IF NOT EXISTS blobs(key TEXT PRIMARY KEY, value BLOB "
                       "NOT NULL) WITHOUT ROWID",
                       err);
    if (status == DRR_OK &&
        (sqlite3_prepare_v2(c->db, "SELECT value FROM blobs WHERE key=?1", -1, &c->get, NULL) != SQLITE_OK ||
         sqlite3_prepare_v2(c->db, "INSERT OR REPLACE INTO blobs(key, value) VALUES(?1, ?2)", -1, &c->put, NULL) !=
             SQLITE_OK))
        status = sqlite_fail(c->db, path, "preparing", err);
    if (status == DRR_OK)
        *cache = c;
    else
        blob_cache_close(c);
    return status;
}

void blob_cache_close(blob_cache *cache)
{
    if (!cache)
        return;
    sqlite3_finalize(cache->get);
    sqlite3_finalize(cache->put);
    sqlite3_close(cache->db);
    free(cache->path);
    free(cache);
}

drr_status blob_cache_get(blob_cache *cache, const char *key, char **data, size_t *size, drr_error *err)
{
    drr_status status = DRR_OK;
    sqlite3_bind_text(cache->get, 1, key, -1, SQLITE_STATIC);
    const int code = sqlite3_step(cache->get);
    if (code == SQLITE_ROW) {
        const size_t n = (size_t)sqlite3_column_bytes(cache->get, 0);
        const void *bytes = sqlite3_column_blob(cache->get, 0);
        *data = string_copy_n(bytes ? bytes : "", n);
        if (!*data)
            status = error_memory(err);
        else if (size)
            *size = n;
    } else if (code == SQLITE_DONE) {
        status = DRR_E_EMPTY;
    } else {
        status = sqlite_fail(cache->db, cache->path, "reading", err);
    }
    sqlite3_reset(cache->get);
    sqlite3_clear_bindings(cache->get);
    return status;
}

drr_status blob_cache_put(blob_cache *cache, const char *key, const void *data, size_t size, drr_error *err)
{
    sqlite3_bind_text(cache->put, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(cache->put, 2, data, size, SQLITE_STATIC);
    drr_status status =
        sqlite3_step(cache->put) == SQLITE_DONE ? DRR_OK : sqlite_fail(cache->db, cache->path, "writing", err);
    sqlite3_reset(cache->put);
    sqlite3_clear_bindings(cache->put);
    return status;
}
