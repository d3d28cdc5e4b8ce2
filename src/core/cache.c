/* cache.c: where named models, encoders and data sets lie: DRR_CACHE and the table models.json, and where that table
 * itself is. Looks, never fetches: that is fetch.py's work, which reads the same table. */
#include "core/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static drr_status join(char *path, size_t size, const char *folder, const char *file, drr_error *err)
{
    const int n = snprintf(path, size, "%s%s%s", folder, *file ? "/" : "", file);
    return n > 0 && (size_t)n < size ? DRR_OK : error_set(err, DRR_E_LIMIT, "the path %s/%s is too long", folder, file);
}

static drr_status cache_join(char *path, size_t size, const char *file, drr_error *err)
{
    const char *chosen = getenv("DRR_CACHE"), *home = getenv("HOME");
    char root[4096];
    if (chosen && *chosen)
        return join(path, size, chosen, file, err);
    if (!home || !*home)
        return error_set(err, DRR_E_ARGUMENT,
                         "neither DRR_CACHE nor HOME is set: say where the cache is with DRR_CACHE");
    drr_status status = join(root, sizeof root, home, ".cache/drr", err);
    return status == DRR_OK ? join(path, size, root, file, err) : status;
}

/* PREFIX/share/drr of the program that runs as PREFIX/bin/NAME; "" where the system does not tell. */
static void share_beside_program(char *folder, size_t size)
{
    char program[3072];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    for (int level = 0; level < 2; level++) { /* drr, then bin */
        char *slash = strrchr(program, '/');
        if (slash)
            *slash = '\0';
    }
    snprintf(folder, size, "%s%s", program, n > 0 ? "/share/drr" : "");
}

drr_status drr_share_path(char *path, size_t size, const char *file, drr_error *err)
{
    const char *chosen = getenv("DRR_SHARE");
    if (chosen && *chosen)
        return join(path, size, chosen, file, err);
    char beside[4096], found[4096];
    share_beside_program(beside, sizeof beside);
    const char *const folders[] = {beside, DRR_SOURCE_DIR "/tools", DRR_INSTALLED_SHARE};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (*folders[i] && join(found, sizeof found, folders[i], file, NULL) == DRR_OK && file_exists(found))
            return join(path, size, found, "", err);
    return error_set(err, DRR_E_NOT_FOUND,
                     "%s, which comes with drr, is neither in %s nor in %s: install drr again, or name the folder that "
                     "holds it in DRR_SHARE",
                     file, *beside ? beside : "share/drr", DRR_INSTALLED_SHARE);
}

/* The table's rows; the caller json_decref's *table. */
static drr_status open_table(json_t **table, json_t **models, drr_error *err)
{
    char path[4096];
    drr_status status = drr_share_path(path, sizeof path, "models.json", err);
    if (status == DRR_OK)
        status = json_parse_file(table, path, err);
    if (status != DRR_OK)
        return status;
    *models = json_object_get(*table, "models");
    if (json_is_array(*models))
        return DRR_OK;
    json_decref(*table);
    return error_set(err, DRR_E_FORMAT, "%s: there is no list \"models\"; take the file that came with drr", path);
}

static drr_status path_of(char *path, size_t size, json_t *model, drr_error *err)
{
    const char *file = NULL;
    drr_status status = json_get_string(&file, model, "file", "models.json", err);
    return status == DRR_OK ? cache_join(path, size, file, err) : status;
}

drr_status drr_cache_each(drr_cache_fn each, void *user, drr_error *err)
{
    json_t *table = NULL, *models = NULL, *model;
    size_t index;
    drr_status status = open_table(&table, &models, err);
    if (status != DRR_OK)
        return status;
    json_array_foreach(models, index, model)
    {
        char path[4096];
        status = path_of(path, sizeof path, model, err);
        if (status != DRR_OK)
            break;
        const drr_cache_item item = {.name = json_string_or(model, "name", ""),
                                     .kind = json_string_or(model, "kind", ""),
                                     .what = json_string_or(model, "what", ""),
                                     .licence = json_string_or(model, "licence", ""),
                                     .sha256 = json_string_or(model, "sha256", ""),
                                     .bytes = (uint64_t)json_number_or(model, "bytes", 0),
                                     .path = path,
                                     .present = file_exists(path)};
        each(user, &item);
    }
    json_decref(table);
    return status;
}

static bool looks_like_path(const char *name)
{
    return strchr(name, '/') || strstr(name, ".gguf") || strstr(name, ".json") || strstr(name, ".db");
}

/* As a sentence calls it. */
static const char *kind_words(const char *kind)
{
    return strcmp(kind, "encoder") == 0 ? "an encoder" : strcmp(kind, "data") == 0 ? "a data set" : "a reasoner";
}

drr_status drr_cache_path(char *path, size_t size, const char *name, const char *kind, drr_error *err)
{
    json_t *table = NULL, *models = NULL, *model, *found = NULL;
    buffer known = {0};
    size_t index;
    if (!name || !*name)
        return error_set(err, DRR_E_ARGUMENT, "a file or the name of a model is wanted, and it is empty");
    if (file_exists(name))
        return join(path, size, name, "", err);
    if (looks_like_path(name))
        return error_set(err, DRR_E_NOT_FOUND, "there is no file %s; check the path", name);
    drr_status status = open_table(&table, &models, err);
    if (status != DRR_OK)
        return status;
    json_array_foreach(models, index, model)
    {
        const char *this_name = json_string_or(model, "name", "");
        if (strcmp(this_name, name) == 0)
            found = model;
        if (kind && strcmp(json_string_or(model, "kind", ""), kind) != 0)
            continue;
        status = buffer_printf(&known, err, "%s%s", known.size ? ", " : "", this_name);
        if (status != DRR_OK)
            goto done;
    }
    if (!found) {
        status = error_set(err, DRR_E_NOT_FOUND, "\"%s\" is neither a file nor a known name (known: %s)", name,
                           known.size ? known.data : "none");
        goto done;
    }
    const char *is = json_string_or(found, "kind", "");
    if (kind && strcmp(is, kind) != 0) {
        status = error_set(err, DRR_E_ARGUMENT, "\"%s\" is %s, and %s is wanted (known: %s)", name, kind_words(is),
                           kind_words(kind), known.size ? known.data : "none");
        goto done;
    }
    status = path_of(path, size, found, err);
    if (status == DRR_OK && !file_exists(path))
        status = error_set(err, DRR_E_NOT_FOUND, "%s is not in the cache yet: fetch it with `drr models get %s`", name,
                           name);
done:
    buffer_clear(&known);
    json_decref(table);
    return status;
}
