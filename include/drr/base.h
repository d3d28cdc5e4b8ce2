/* drr/base.h: what every other part speaks of: statuses and errors, progress and interruption; and files that are
 * known by name: the cache of models, settings. Part of drr.h. */
#ifndef DRR_BASE_PART_H
#define DRR_BASE_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DRR_VERSION "0.1.0"

/* ---- errors, progress, interruption */

typedef enum drr_status {
    DRR_OK = 0,
    DRR_E_ARGUMENT,    /* the caller asked for something that cannot be */
    DRR_E_IO,          /* reading, writing, disk full, permission */
    DRR_E_FORMAT,      /* a file or record is not what it should be */
    DRR_E_MEMORY,      /* an allocation failed */
    DRR_E_NOT_FOUND,   /* a named file, model, trace or row does not exist */
    DRR_E_MISMATCH,    /* two things that must belong together do not (store and reasoner, critic and encoder) */
    DRR_E_LIMIT,       /* a length, budget or context was exceeded */
    DRR_E_BACKEND,     /* a library or model underneath failed */
    DRR_E_INTERRUPTED, /* the caller's cancel callback said stop; finished work is kept */
    DRR_E_EMPTY        /* nothing (left) to do or to return */
} drr_status;

/* What failed, where (file, line, byte or row) and what to do about it, in one sentence. */
typedef struct drr_error {
    drr_status status;
    char message[1024];
} drr_error;

const char *drr_status_name(drr_status status); /* "ok", "io", ...: static */

typedef enum drr_log_level { DRR_LOG_DEBUG, DRR_LOG_INFO, DRR_LOG_WARN } drr_log_level;

typedef struct drr_progress {
    const char *phase; /* "distill", "train", ... */
    uint64_t done, total;
    const char *unit;  /* "traces", "steps", ... */
    double per_second; /* over the last while; 0 when unknown */
    double eta_s;      /* seconds left; negative when unknown */
    const char *note;  /* a short extra such as "loss 0.61", or NULL */
} drr_progress;

/* Callbacks of a long job; each may be NULL. Called on the thread that called the library. */
typedef struct drr_hooks {
    void (*log)(void *user, drr_log_level level, const char *message);
    void (*progress)(void *user, const drr_progress *progress);
    bool (*cancelled)(void *user); /* polled often; true ends the job with DRR_E_INTERRUPTED */
    void *user;
} drr_hooks;

/* ---- the cache of models */

/* Path of a model, encoder or data set known by a short name ("qwen2.5-coder-1.5b"), inside DRR_CACHE
 * (default ~/.cache/drr). A name that is an existing path is returned as it is. kind: "reasoner", "encoder" or "data",
 * of which a short name must be; NULL: any. DRR_E_NOT_FOUND says the command that fetches it. Writes at most `size`
 * bytes. */
drr_status drr_cache_path(char *path, size_t size, const char *name, const char *kind, drr_error *err);

/* One row of models.json: what has a short name, and whether the cache holds it. */
typedef struct drr_cache_item {
    const char *name, *kind;             /* kind: "reasoner", "encoder", "data" */
    const char *what, *licence, *sha256; /* sha256: "" where none is known */
    const char *path;                    /* where it is or would be; an encoder is a folder */
    uint64_t bytes;
    bool present;
} drr_cache_item;
/* Calls `each` for every row in the table's order; the item lives during the call. */
typedef void (*drr_cache_fn)(void *user, const drr_cache_item *item);
drr_status drr_cache_each(drr_cache_fn each, void *user, drr_error *err);
/* Path of a file that travels with drr ("models.json", "fetch.py"): in DRR_SHARE; where that is not set, the first that
 * has it of PREFIX/share/drr of a program in PREFIX/bin, the source tree's tools, and the build's PREFIX/share/drr. */
drr_status drr_share_path(char *path, size_t size, const char *file, drr_error *err);

/* ---- settings */

/* Hears each setting of a TOML file in turn: its name, with those of its tables and dots before, and its value as text;
 * a list's items one by one. `place` is "file:line". What it returns, if not DRR_OK, ends the reading. */
typedef drr_status (*drr_setting_fn)(void *user, const char *name, const char *value, const char *place,
                                     drr_error *err);
drr_status drr_settings_read(const char *path, drr_setting_fn each, void *user, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
