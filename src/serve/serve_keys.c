/* serve_keys.c: the keys that clients show, from the options and from a file that its owner alone may read. */
#include "serve/serve_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MOST = 1 << 20 };

static drr_status read_private(char **text, size_t *size, const char *path, drr_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return error_set_errno(err, errno, "the key file %s", path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, DRR_E_ARGUMENT,
                         "the key file %s is open to others than its owner (mode %03o); run: chmod 600 %s", path,
                         (unsigned)(st.st_mode & 0777), path);
    return file_read(text, size, path, FILE_MOST, err);
}

static drr_status add(serve_keys *keys, const char *key, drr_error *err)
{
    const char **grown = realloc(keys->keys, (keys->n + 1) * sizeof *grown);
    if (!grown)
        return error_memory(err);
    keys->keys = grown;
    keys->keys[keys->n++] = key;
    return DRR_OK;
}

drr_status serve_keys_read(serve_keys *keys, const drr_serve_options *options, drr_error *err)
{
    *keys = (serve_keys){0};
    drr_status status = DRR_OK;
    for (size_t i = 0; i < options->n_api_keys && status == DRR_OK; i++)
        status = add(keys, options->api_keys[i], err);
    if (status == DRR_OK && options->api_key_file)
        status = read_private(&keys->text, &keys->size, options->api_key_file, err);
    char *rest = keys->text, *line;
    const size_t before = keys->n;
    while (status == DRR_OK && rest && (line = strsep(&rest, "\n"))) {
        line += strspn(line, " \t");
        line[strcspn(line, " \t\r")] = '\0';
        if (*line && *line != '#')
            status = add(keys, line, err);
    }
    if (status == DRR_OK && options->api_key_file && keys->n == before)
        status = error_set(err, DRR_E_ARGUMENT, "the key file %s holds no key; write one on each line",
                           options->api_key_file);
    if (status != DRR_OK)
        serve_keys_clear(keys);
    return status;
}

void serve_keys_clear(serve_keys *keys)
{
    free(keys->keys);
    if (keys->text)
        explicit_bzero(keys->text, keys->size);
    free(keys->text);
    *keys = (serve_keys){0};
}
