/* settings.c: a TOML file as a list of settings in words, for programs that read options. */
#include "core/toml.h"

#include <stdlib.h>
#include <string.h>

typedef struct reading {
    const char *path;
    const json_t *lines;
    drr_setting_fn each;
    void *user;
} reading;

static drr_status tell(const reading *r, const char *name, const json_t *value, drr_error *err)
{
    char text[64], place[600];
    const char *said = text;
    snprintf(place, sizeof place, "%.500s:%d", r->path, toml_line(r->lines, name));
    if (json_is_string(value))
        said = json_string_value(value);
    else if (json_is_boolean(value))
        said = json_is_true(value) ? "true" : "false";
    else if (json_is_integer(value))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        snprintf(text, sizeof text, "%.17g", json_number_value(value));
    return r->each(r->user, name, said, place, err);
}

static drr_status walk(const reading *r, const char *name, json_t *value, drr_error *err)
{
    drr_status status = DRR_OK;
    if (json_is_object(value)) {
        const char *key;
        json_t *member;
        json_object_foreach(value, key, member)
        {
            buffer full = {0};
            if (status == DRR_OK)
                status = buffer_printf(&full, err, "%s%s%s", name, *name ? "." : "", key);
            if (status == DRR_OK)
                status = walk(r, full.data, member, err);
            buffer_clear(&full);
        }
        return status;
    }
    if (!json_is_array(value))
        return tell(r, name, value, err);
    for (size_t i = 0; i < json_array_size(value) && status == DRR_OK; i++) {
        json_t *item = json_array_get(value, i);
        if (json_is_object(item) || json_is_array(item))
            return error_set(err, DRR_E_FORMAT, "%s:%d: %s is a list of single values", r->path,
                             toml_line(r->lines, name), name);
        status = tell(r, name, item, err);
    }
    return status;
}

drr_status drr_settings_read(const char *path, drr_setting_fn each, void *user, drr_error *err)
{
    json_t *value = NULL, *lines = NULL;
    drr_status status = toml_read(&value, &lines, path, err);
    if (status == DRR_OK) {
        const reading r = {path, lines, each, user};
        status = walk(&r, "", value, err);
    }
    json_decref(value);
    json_decref(lines);
    return status;
}
