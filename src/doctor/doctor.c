/* doctor.c: what drr finds on this machine: versions, the code paths that ggml and oneDNN chose for this CPU, the cache
 * and its checksums, and whether a reasoner's first logits are what they should be. Looks only; mends nothing. What is
 * wrong is said once more, with what to do about it, in the list "problems". */
#include "check/check.h"
#include "core/json.h"
#include "critic/critic.h"
#include "reasoner/reasoner.h"
#include "tensor/tensor.h"
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char good[] = "good";

typedef struct examination {
    json_t *table, *models, *problems;
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

/* One file beside the checksum it should have; hex is the one it has. */
static const char *check_file(const examination *e, const char *name, const char *path, const char *wanted,
                              char hex[65])
{
    drr_error why = {0};
    *hex = '\0';
    if (sha256_file(hex, path, &why) != DRR_OK) {
        *hex = '\0';
        json_array_append_new(e->problems, json_string(why.message));
        return "unreadable";
    }
    if (!*wanted)
        return "no checksum known";
    if (strcmp(hex, wanted) == 0)
        return good;
    json_array_append_new(e->problems,
                          json_sprintf("%s: its sha256 is %s and should be %s; `drr models get --verify %s` fetches it "
                                       "again",
                                       path, hex, wanted, name));
    return "WRONG";
}

/* A model is one file, or a folder of several: then the first that is not good speaks for all. hex: of the weights. */
static const char *check_item(const examination *e, const drr_cache_item *item, char hex[65])
{
    char path[4096], other[65];
    const char *name;
    size_t index;
    json_t *row, *file, *files = NULL;
    *hex = '\0';
    if (!item->present)
        return "absent";
    snprintf(path, sizeof path, "%s", item->path);
    json_array_foreach(json_object_get(e->table, "models"), index, row)
    {
        const char *main_file = json_string_or(row, "main", NULL);
        if (strcmp(json_string_or(row, "name", ""), item->name) != 0)
            continue;
        files = json_object_get(json_object_get(row, "extract"), "files");
        if (main_file)
            snprintf(path, sizeof path, "%s/%s", item->path, main_file);
    }
    const char *verdict = check_file(e, item->name, path, item->sha256, hex);
    json_object_foreach(files, name, file)
    {
        snprintf(path, sizeof path, "%s/%s", item->path, name);
        const char *found = check_file(e, item->name, path, json_string_or(file, "sha256", ""), other);
        if (verdict == good)
            verdict = found;
    }
    return verdict;
}

static void examine_item(void *user, const drr_cache_item *item)
{
    examination *e = user;
    char hex[65];
    if (e->status != DRR_OK || hooks_cancelled(e->hooks))
        return;
    progress_update(&e->meter, e->n_done++, item->name);
    const char *verdict = check_item(e, item, hex);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s?}", "name", item->name, "kind", item->kind, "path", item->path,
                            "checksum", verdict, "sha256", *hex ? hex : NULL);
    if (!row || json_array_append_new(e->models, row) != 0)
        e->status = error_memory(e->err);
}

/* A server is asked what a run would ask it first. One that does not answer is a finding; being interrupted is not. */
static drr_status examine_server(json_t *report, json_t *problems, const char *url, const drr_reasoner_options *options,
                                 const drr_hooks *hooks, drr_error *err)
{
    drr_reasoner_options o;
    drr_reasoner *reasoner = NULL;
    drr_error why = {0};
    drr_reasoner_options_defaults(&o);
    if (options)
        o = *options;
    o.hooks = hooks;
    if (!o.request_seconds)
        o.request_seconds = 30; /* somebody waits for the report */
    const double began = clock_seconds();
    drr_status status = drr_reasoner_open(&reasoner, url, &o, &why);
    if (status == DRR_E_INTERRUPTED || status == DRR_E_MEMORY)
        return error_set(err, status, "%s", why.message);
    json_t *found =
        json_pack("{s:s, s:f}", "verdict", status == DRR_OK ? "answers" : "WRONG", "seconds", clock_seconds() - began);
    if (status == DRR_OK)
        json_object_update_new(
            found, json_pack("{s:s, s:s}", "id", drr_reasoner_id(reasoner), "can", drr_reasoner_describe(reasoner)));
    else
        json_array_append_new(problems, json_string(why.message));
    drr_reasoner_close(reasoner);
    return found && json_object_set_new(report, "server", found) == 0 ? DRR_OK : error_memory(err);
}

/* Takes the reasoner's part of the report apart: its libraries go to the others, what is wrong to the problems. */
static drr_status examine_reasoner(json_t *report, json_t *problems, const char *reasoner, drr_error *err)
{
    char path[4096], *text = NULL;
    json_t *found = NULL;
    drr_status status = DRR_OK;
    if (reasoner)
        status = drr_cache_path(path, sizeof path, reasoner, "reasoner", err);
    if (status == DRR_OK)
        status = reasoner_doctor(&text, reasoner ? path : NULL, reasoner, err);
    if (status == DRR_OK)
        status = json_parse(&found, text, strlen(text), "the reasoner's report", err);
    if (status == DRR_OK) {
        json_t *logits = json_object_get(found, "first_logits");
        if (strcmp(json_string_or(logits, "verdict", ""), "WRONG") == 0)
            json_array_append_new(problems, json_string(json_string_or(logits, "why", "the first logits are wrong")));
        json_object_update(json_object_get(report, "libraries"), json_object_get(found, "libraries"));
        json_object_del(found, "libraries");
        json_object_set_new(report, "reasoner", found);
    }
    free(text);
    return status;
}

/* As the libraries themselves tell at run time; OpenMP tells only which edition of its specification it follows. */
static json_t *library_list(void)
{
    char onednn[64], libc[64] = "unknown";
    tensor_onednn_version(onednn, sizeof onednn);
    confstr(_CS_GNU_LIBC_VERSION, libc, sizeof libc);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "onednn", onednn, "jansson", jansson_version_str(),
                     "sqlite", store_sqlite_version(), "libpq", store_libpq_version(), "zlib", lines_zlib_version(),
                     "utf8proc", wordpiece_utf8proc_version(), "openmp", _OPENMP, "libc", libc);
}

drr_status drr_doctor(char **json, size_t *n_problems, const char *reasoner, const drr_reasoner_options *options,
                      const drr_hooks *hooks, drr_error *err)
{
    const bool is_server = reasoner && reasoner_is_remote(reasoner);
    char cpu[256], arithmetic[256], table[4096];
    examination e = {.models = json_array(), .problems = json_array(), .hooks = hooks, .err = err};
    cpu_model(cpu, sizeof cpu);
    tensor_describe(arithmetic, sizeof arithmetic);
    json_t *report =
        json_pack("{s:s, s:s, s:s, s:i, s:s, s:o}", "drr", DRR_VERSION, "compiler", __VERSION__, "cpu", cpu, "threads",
                  (int)parallel_threads(), "critic_arithmetic", arithmetic, "libraries", library_list());
    drr_status status = e.models && e.problems && report ? DRR_OK : error_memory(err);
    if (status == DRR_OK)
        status = examine_reasoner(report, e.problems, is_server ? NULL : reasoner, err);
    if (status == DRR_OK && is_server)
        status = examine_server(report, e.problems, reasoner, options, hooks, err);
    json_t *checkers = NULL;
    if (status == DRR_OK)
        status = checker_doctor(&checkers, err);
    if (status == DRR_OK)
        json_object_set_new(report, "checkers", checkers);
    if (status == DRR_OK)
        status = drr_share_path(table, sizeof table, "models.json", err);
    if (status == DRR_OK)
        status = json_parse_file(&e.table, table, err);
    if (status != DRR_OK)
        goto done;
    progress_begin(&e.meter, hooks, "checksums", "models", 0, 0);
    status = drr_cache_each(examine_item, &e, err);
    if (status == DRR_OK)
        status = e.status;
    if (status == DRR_OK && hooks_cancelled(hooks))
        status = error_set(err, DRR_E_INTERRUPTED, "interrupted");
    if (status != DRR_OK)
        goto done;
    json_object_set_new(report, "models_json", json_string(table));
    json_object_set(report, "cache", e.models);
    json_object_set(report, "problems", e.problems);
    *json = json_dumps(report, JSON_COMPACT);
    if (!*json)
        status = error_memory(err);
    else if (n_problems)
        *n_problems = json_array_size(e.problems);
done:
    json_decref(e.table);
    json_decref(e.models);
    json_decref(e.problems);
    json_decref(report);
    return status;
}
