/* llama_check.c: starts ggml once a process and looks whether the code path it chose for this CPU computes what it
 * should: the first logits of a fixed prompt beside the stored ones of models.json. Miscompiled kernels have been
 * seen to write garbage without failing. */
#include "reasoner/llama_internal.h"

#include "core/json.h"

#include <dlfcn.h>
#include <ggml-backend.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { VARIANT_LENGTH = 32 };

static const char check_prompt[] = "The capital of France is the city of";

static pthread_once_t runtime_once = PTHREAD_ONCE_INIT;
static _Thread_local char last_message[256];

/* libllama logs a lot; what matters here is the last complaint before a failure. */
static void keep_last_complaint(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level != GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_WARN)
        return;
    snprintf(last_message, sizeof last_message, "%s", text);
    last_message[strcspn(last_message, "\n")] = '\0';
}

/* ggml's CPU variants are shared objects that lie in bin/ or lib/ beside libllama's own folder. */
static void load_backends(void)
{
    Dl_info info;
    llama_log_set(keep_last_complaint, NULL);
    if (ggml_backend_dev_count() == 0 && dladdr((void *)(uintptr_t)llama_backend_init, &info) && info.dli_fname) {
        char folder[4096];
        static const char *const beside[] = {"", "/../bin", "/../lib"};
        for (size_t i = 0; i < sizeof beside / sizeof *beside && ggml_backend_dev_count() == 0; i++) {
            const char *slash = strrchr(info.dli_fname, '/');
            const int length = slash ? (int)(slash - info.dli_fname) : 0;
            snprintf(folder, sizeof folder, "%.*s%s", length, info.dli_fname, beside[i]);
            ggml_backend_load_all_from_path(folder);
        }
    }
    if (ggml_backend_dev_count() == 0)
        ggml_backend_load_all();
    llama_backend_init();
}

void llama_runtime_start(void)
{
    pthread_once(&runtime_once, load_backends);
    last_message[0] = '\0';
}

const char *llama_runtime_last_message(void)
{
    return last_message;
}

drr_status llama_first_logits(struct llama_context *context, const struct llama_vocab *vocab, llama_token *top,
                              float *logit, drr_error *err)
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
        status = error_set(err, DRR_E_BACKEND, "the model cannot be run: %s", last_message);
    } else {
        const float *logits = llama_get_logits_ith(context, n - 1);
        const int32_t n_vocab = llama_vocab_n_tokens(vocab);
        *top = 0;
        for (int32_t i = 0; i < n_vocab; i++) {
            if (!isfinite(logits[i])) {
                status = error_set(err, DRR_E_BACKEND,
                                   "the first logits hold NaN or infinity: this CPU's code path is broken; rebuild "
                                   "libllama with another compiler, or see docs/install.md");
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

drr_status llama_check(struct llama_context *context, const struct llama_vocab *vocab, const char *name, drr_error *err)
{
    llama_token top = 0;
    float logit = 0;
    json_t *table = NULL, *check = NULL;
    drr_status status = llama_first_logits(context, vocab, &top, &logit, err);
    if (status != DRR_OK || !name)
        return status;
    status = stored_check(name, &table, &check, err);
    if (status == DRR_OK && json_is_object(check)) {
        const int want = (int)json_number_or(check, "token", -1);
        const double want_logit = json_number_or(check, "logit", 0);
        const double tolerance = json_number_or(check, "tolerance", 0.5);
        if (want != top || fabs(want_logit - (double)logit) > tolerance)
            status =
                error_set(err, DRR_E_BACKEND,
                          "the first logits of %s are not what they should be on this CPU (token %d at %.2f instead "
                          "of token %d at %.2f): its code path computes garbage; `drr doctor --reasoner %s` tells more",
                          name, top, (double)logit, want, want_logit, name);
    }
    json_decref(table);
    return status;
}

/* Which of ggml's builds of its CPU code was loaded: "zen4" of libggml-cpu-zen4.so; "built in" where there is but one.
 */
static int find_variant(struct dl_phdr_info *info, size_t size, void *user)
{
    static const char prefix[] = "libggml-cpu-";
    char *variant = user;
    const char *name = strrchr(info->dlpi_name, '/');
    (void)size;
    name = name ? name + 1 : info->dlpi_name;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return 0;
    name += sizeof prefix - 1;
    snprintf(variant, VARIANT_LENGTH, "%.*s", (int)strcspn(name, "."), name);
    return 1;
}

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

/* A model that cannot be run is a finding, not a failure of the search for it. */
static drr_status examine_model(json_t **finding, const char *path, const char *name, drr_error *err)
{
    llama_token top = 0;
    float logit = 0;
    char piece[64] = "";
    json_t *table = NULL, *check = NULL;
    drr_error why = {0};
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context *context = model ? llama_init_from_model(model, params) : NULL;
    const struct llama_vocab *vocab = model ? llama_model_get_vocab(model) : NULL;
    drr_status status = DRR_OK;
    if (!context)
        error_set(&why, DRR_E_BACKEND, "%s: cannot be loaded: %s", path, last_message);
    else
        llama_first_logits(context, vocab, &top, &logit, &why);
    if (why.status != DRR_OK) {
        *finding = json_pack("{s:s, s:s, s:s}", "prompt", check_prompt, "verdict", "WRONG", "why", why.message);
        goto done;
    }
    status = stored_check(name, &table, &check, err);
    if (status != DRR_OK)
        goto done;
    llama_token_to_piece(vocab, top, piece, (int32_t)sizeof piece - 1, 0, false);
    const bool known = json_is_object(check);
    const int want = (int)json_number_or(check, "token", -1);
    const double want_logit = json_number_or(check, "logit", 0);
    const bool good = want == top && fabs(want_logit - (double)logit) <= json_number_or(check, "tolerance", 0.5);
    *finding = json_pack("{s:s, s:i, s:o?, s:f, s:s}", "prompt", check_prompt, "token", (int)top, "text",
                         json_string(piece), "logit", (double)logit, "verdict",
                         !known ? "not stored for this model"
                         : good ? "as stored"
                                : "WRONG");
    if (*finding && known && !good)
        json_object_set_new(
            *finding, "why",
            json_sprintf("%s: the first token is %d at %.2f and should be %d at %.2f: libllama's code "
                         "path on this CPU computes garbage; take the pinned libllama (docs/install.md)",
                         name, (int)top, (double)logit, want, want_logit));
done:
    if (status == DRR_OK && !*finding)
        status = error_memory(err);
    json_decref(table);
    llama_free(context);
    llama_model_free(model);
    return status;
}

drr_status reasoner_doctor(char **json, const char *path, const char *name, drr_error *err)
{
    json_t *finding = NULL;
    llama_runtime_start();
    char variant[VARIANT_LENGTH] = "built in";
    dl_iterate_phdr(find_variant, variant);
    json_t *report = json_pack("{s:o, s:o, s:s, s:s}", "libraries", library_list(), "devices", device_list(),
                               "cpu_path", variant, "cpu_features", llama_print_system_info());
    if (!report)
        return error_memory(err);
    drr_status status = path ? examine_model(&finding, path, name, err) : DRR_OK;
    if (finding)
        json_object_set_new(report, "first_logits", finding);
    if (status == DRR_OK && !(*json = json_dumps(report, JSON_COMPACT)))
        status = error_memory(err);
    json_decref(report);
    return status;
}
