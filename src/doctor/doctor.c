/* doctor.c: what drr finds on this machine: versions, the code paths that ggml and oneDNN chose for this CPU, the cache
 * and its checksums, and whether a reasoner's first logits are what they should be. Looks only; mends nothing. */
#include "core/json.h"
#include "reasoner/reasoner.h"
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

typedef struct examination {
    json_t *models;
    const drr_hooks *hooks;
    progress_meter meter;
    uint64_t n_done;
    drr_status status;
    drr_error *err;
} examination;

static void cpu_model(char *name, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];
    snprintf(name, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

/* The checksum of a model that is there; an encoder's is of the weights inside its folder. */
static const char *check_item(const drr_cache_item *item, drr_error *err)
{
    char path[4096], hex[65];
    if (!item->present)
        return "absent";
    if (!item->sha256)
        return "no checksum known";
    snprintf(path, sizeof path, "%s", item->path);
    if (file_is_folder(path))
        snprintf(path, sizeof path, "%s/model.safetensors", item->path);
    if (sha256_file(hex, path, err) != DRR_OK)
        return "unreadable";
    return strcmp(hex, item->sha256) == 0 ? "good" : "WRONG";
}

static void examine_item(void *user, const drr_cache_item *item)
{
    examination *e = user;
    if (e->status != DRR_OK || hooks_cancelled(e->hooks))
        return;
    progress_update(&e->meter, e->n_done++, item->name);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "name", item->name, "kind", item->kind, "path", item->path,
                            "checksum", check_item(item, NULL));
    if (!row || json_array_append_new(e->models, row) != 0)
        e->status = error_memory(e->err);
}

static drr_status examine_reasoner(json_t *report, const char *reasoner, drr_error *err)
{
    char path[4096], *text = NULL;
    json_t *found = NULL;
    drr_status status = DRR_OK;
    if (reasoner)
        status = drr_cache_path(path, sizeof path, reasoner, err);
    if (status == DRR_OK)
        status = reasoner_doctor(&text, reasoner ? path : NULL, reasoner, err);
    if (status == DRR_OK)
        status = json_parse(&found, text, strlen(text), "the reasoner's report", err);
    if (status == DRR_OK)
        json_object_set_new(report, "reasoner", found);
    free(text);
    return status;
}

drr_status drr_doctor(char **json, const char *reasoner, const drr_hooks *hooks, drr_error *err)
{
    char cpu[256], arithmetic[256];
    examination e = {.models = json_array(), .hooks = hooks, .err = err};
    cpu_model(cpu, sizeof cpu);
    tensor_describe(arithmetic, sizeof arithmetic);
    json_t *report = json_pack("{s:s, s:s, s:i, s:s, s:s}", "drr", DRR_VERSION, "cpu", cpu, "threads",
                               (int)parallel_threads(), "critic_arithmetic", arithmetic, "compiler", __VERSION__);
    drr_status status = e.models && report ? DRR_OK : error_memory(err);
    if (status != DRR_OK)
        goto done;
    progress_begin(&e.meter, hooks, "checksums", "models", 0, 0);
    status = drr_cache_each(examine_item, &e, err);
    if (status == DRR_OK)
        status = e.status;
    if (status == DRR_OK && hooks_cancelled(hooks))
        status = error_set(err, DRR_E_INTERRUPTED, "interrupted");
    if (status == DRR_OK)
        json_object_set(report, "cache", e.models);
    if (status == DRR_OK)
        status = examine_reasoner(report, reasoner, err);
    if (status == DRR_OK && !(*json = json_dumps(report, JSON_COMPACT)))
        status = error_memory(err);
done:
    json_decref(e.models);
    json_decref(report);
    return status;
}
