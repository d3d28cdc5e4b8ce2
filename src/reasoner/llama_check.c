/* llama_check.c: whether a model can be trusted on this machine: the first logits of a fixed prompt beside the stored
 * ones of models.json. Miscompiled kernels have been seen to write garbage without failing. What follows from it is
 * llama.c's affair; the doctor's part of the report is made here. */
#include "reasoner/llama_internal.h"

#include "core/json.h"

#include <dlfcn.h>
#include <ggml-backend.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char check_prompt[] = "The capital of France is the city of";

drr_status llama_check_magic(const char *path, drr_error *err)
{
    file_map map = {0};
    drr_status status = file_map_open(&map, path, err);
    if (status != DRR_OK)
        return status;
    if (map.size < 24 || memcmp(map.data, "GGUF", 4) != 0)
        status = error_set(err, DRR_E_FORMAT, "%s: not a GGUF model (its first four bytes are not \"GGUF\")", path);
    file_map_close(&map);
    return status;
}

drr_status llama_first_logits(struct llama_context *context, const struct llama_vocab *vocab, llama_token *top,
                              float *logit, bool *garbage, drr_error *err)
{
    llama_token tokens[64];
    const int32_t n = llama_tokenize(vocab, check_prompt, (int32_t)strlen(check_prompt), tokens, 64, false, false);
    if (n <= 0)
        return error_set(err, DRR_E_BACKEND, "the model's tokenizer gave no tokens for the check prompt");
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int32_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i == n - 1;
    }
    batch.n_tokens = n;
    drr_status status = DRR_OK;
    if (llama_decode(context, batch) != 0) {
        status = error_set(err, DRR_E_BACKEND, "the model cannot be run: %s", llama_runtime_last_message());
    } else {
        const float *logits = llama_get_logits_ith(context, n - 1);
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        *top = 0;
        for (int32_t i = 0; i < n_vocab; i++) {
            if (!isfinite(logits[i])) {
                *garbage = true;
                status = error_set(err, DRR_E_BACKEND, "the first logits hold NaN or infinity on the CPU path %s",
                                   cpu_path_name(cpu_path_in_use()));
                break;
            }
            if (logits[i] > logits[*top])
                *top = i;
        }
        *logit = logits[*top];
    }
    llama_memory_clear(llama_get_memory(context), true);
    llama_batch_free(batch);
    return status;
}

static drr_status stored_check(const char *name, json_t **table, json_t **check, drr_error *err)
{
    char path[4096];
    *check = NULL;
    drr_status status = drr_share_path(path, sizeof path, "models.json", err);
    if (status == DRR_OK)
        status = json_parse_file(table, path, err);
    if (status != DRR_OK)
        return status;
    json_t *models = json_object_get(*table, "models");
    for (size_t i = 0; i < json_array_size(models); i++) {
        json_t *model = json_array_get(models, i);
        if (name && strcmp(json_string_or(model, "name", ""), name) == 0)
            *check = json_object_get(model, "first_logits");
    }
    return DRR_OK;
}

static bool as_stored(json_t *check, llama_token top, float logit)
{
    return (int)json_number_or(check, "token", -1) == top &&
           fabs(json_number_or(check, "logit", 0) - (double)logit) <= json_number_or(check, "tolerance", 0.5);
}

drr_status llama_check(struct llama_context *context, const struct llama_vocab *vocab, const char *name, bool *garbage,
                       drr_error *err)
{
    llama_token top = 0;
    float logit = 0;
    json_t *table = NULL, *check = NULL;
    drr_status status = llama_first_logits(context, vocab, &top, &logit, garbage, err);
    if (status != DRR_OK || !name)
        return status;
    status = stored_check(name, &table, &check, err);
    if (status == DRR_OK && json_is_object(check) && !as_stored(check, top, logit)) {
        *garbage = true;
        status = error_set(err, DRR_E_BACKEND,
                           "the first logits of %s are not what they should be on the CPU path %s (token %d at %.2f "
                           "instead of token %d at %.2f)",
                           name, cpu_path_name(cpu_path_in_use()), top, (double)logit,
                           (int)json_number_or(check, "token", -1), json_number_or(check, "logit", 0));
    }
    json_decref(table);
    return status;
}

/* ---- the doctor */

static json_t *device_list(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", ggml_backend_dev_name(device), "description",
                                              ggml_backend_dev_description(device)));
    }
    return list;
}

/* What a version function of libllama or ggml says; versions without that function are drr's to run on too. */
static const char *version_of(const char *function)
{
    typedef const char *(*teller)(void);
    const teller tell = (teller)(uintptr_t)dlsym(RTLD_DEFAULT, function);
    const char *version = tell ? tell() : NULL;
    return version ? version : "unknown";
}

static json_t *library_list(void)
{
    Dl_info info;
    const bool found = dladdr((void *)(uintptr_t)llama_backend_init, &info) && info.dli_fname;
    return json_pack("{s:s, s:o, s:s?}", "libllama", version_of("llama_version"), "ggml",
                     json_sprintf("%s, commit %s", version_of("ggml_version"), version_of("ggml_commit")),
                     "libllama_file", found ? info.dli_fname : NULL);
}

/* What one CPU path makes of a model. */
typedef struct examined {
    llama_token top;
    float logit;
    bool garbage;
    char text[64];
    uint64_t kv_bytes; /* of one sequence at the usual context */
    uint32_t context, width;
    drr_error why; /* it could not be run, or computed no numbers */
} examined;

static void run_model(examined *e, const char *path)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    *e = (examined){.top = 0};
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context *context = model ? llama_init_from_model(model, params) : NULL;
    if (!context) {
        error_set(&e->why, DRR_E_BACKEND, "%s: cannot be loaded: %s", path, llama_runtime_last_message());
    } else {
        const struct llama_vocab *vocab = llama_model_get_vocab(model);
        llama_first_logits(context, vocab, &e->top, &e->logit, &e->garbage, &e->why);
        llama_token_to_piece(vocab, e->top, e->text, (int32_t)sizeof e->text - 1, 0, false);
        e->context = llama_usual_context(model);
        e->kv_bytes = llama_kv_bytes(model, e->context);
        const width_budget budget = llama_width_budget(model, 0, e->context);
        e->width = width_that_fits(&budget);
    }
    llama_free(context);
    llama_model_free(model);
}

static const char *verdict_of(const examined *e, json_t *check)
{
    if (e->why.status != DRR_OK)
        return "WRONG";
    if (!json_is_object(check))
        return "not stored for this model";
    return as_stored(check, e->top, e->logit) ? "as stored" : "WRONG";
}

/* Where the path in use computes garbage: what each other one does. Returns the first that is right, or NULL. */
static const char *try_other_paths(json_t *verdicts, const char *path, json_t *check)
{
    const size_t in_use = cpu_path_in_use();
    const char *right = NULL;
    for (size_t i = 0; i < cpu_path_count(); i++) {
        examined e;
        if (i == in_use || cpu_path_use(i, NULL) != DRR_OK)
            continue;
        run_model(&e, path);
        const char *verdict = verdict_of(&e, check);
        json_object_set_new(verdicts, cpu_path_name(i), json_string(verdict));
        if (!right && strcmp(verdict, "WRONG") != 0)
            right = cpu_path_name(i);
    }
    cpu_path_use(in_use, NULL);
    return right;
}

static json_t *blame(const examined *e, const char *path, const char *name, json_t *check, json_t *finding)
{
    const char *in_use = cpu_path_name(cpu_path_in_use());
    char wrong[512];
    if (!e->garbage && e->why.status != DRR_OK)
        return json_string(e->why.message);
    if (e->why.status != DRR_OK)
        snprintf(wrong, sizeof wrong, "%s: %.400s", path, e->why.message);
    else
        snprintf(wrong, sizeof wrong, "%.200s: the first token is %d at %.2f and should be %d at %.2f", name,
                 (int)e->top, (double)e->logit, (int)json_number_or(check, "token", -1),
                 json_number_or(check, "logit", 0));
    if (cpu_path_is_forced() || cpu_path_count() == 1)
        return json_sprintf("%s: libllama's CPU path %s computes garbage here; take the pinned libllama "
                            "(docs/install.md) or leave DRR_CPU_PATH unset",
                            wrong, in_use);
    json_t *verdicts = json_object();
    const char *right = try_other_paths(verdicts, path, check);
    json_object_set_new(finding, "other_paths", verdicts);
    if (right)
        return json_sprintf("%s: libllama's CPU path %s computes garbage here; drr goes on with the path %s, and the "
                            "pinned libllama (docs/install.md) may be faster",
                            wrong, in_use, right);
    return json_sprintf("%s, and no other CPU path is right either: the model is not the one that models.json "
                        "describes, or libllama is broken; take the pinned one (docs/install.md)",
                        wrong);
}

/* A model that cannot be run is a finding, not a failure of the search for it. */
static drr_status examine_model(json_t **finding, const char *path, const char *name, drr_error *err)
{
    examined e;
    json_t *table = NULL, *check = NULL;
    drr_status status = stored_check(name, &table, &check, err);
    if (status != DRR_OK)
        return status;
    run_model(&e, path);
    const char *verdict = verdict_of(&e, check);
    *finding = json_pack("{s:s, s:s}", "prompt", check_prompt, "verdict", verdict);
    if (*finding && e.why.status == DRR_OK)
        json_object_update_new(*finding,
                               json_pack("{s:i, s:o?, s:f, s:I, s:i, s:i}", "token", (int)e.top, "text",
                                         json_string(e.text), "logit", (double)e.logit, "kv_bytes",
                                         (json_int_t)e.kv_bytes, "context", (int)e.context, "width", (int)e.width));
    if (*finding && strcmp(verdict, "WRONG") == 0)
        json_object_set_new(*finding, "why", blame(&e, path, name, check, *finding));
    json_decref(table);
    return *finding ? DRR_OK : error_memory(err);
}

static json_t *path_list(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < cpu_path_count(); i++)
        json_array_append_new(list, json_string(cpu_path_name(i)));
    return list;
}

drr_status reasoner_doctor(char **json, const char *path, const char *name, drr_error *err)
{
    json_t *finding = NULL;
    drr_status status = llama_runtime_start(err);
    if (status != DRR_OK)
        return status;
    cpu_path_lock();
    json_t *report = json_pack("{s:o, s:o, s:s, s:o, s:s, s:I}", "libraries", library_list(), "devices", device_list(),
                               "cpu_path", cpu_path_name(cpu_path_in_use()), "cpu_paths", path_list(), "cpu_features",
                               llama_print_system_info(), "memory_available", (json_int_t)memory_available());
    status = report ? DRR_OK : error_memory(err);
    if (status == DRR_OK && path)
        status = examine_model(&finding, path, name, err);
    if (finding)
        json_object_set_new(report, "first_logits", finding);
    if (status == DRR_OK && !(*json = json_dumps(report, JSON_COMPACT)))
        status = error_memory(err);
    json_decref(report);
    cpu_path_unlock();
    return status;
}
