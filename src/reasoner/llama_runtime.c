/* llama_runtime.c: starts libllama and ggml once a process, and knows the CPU paths: ggml's builds of its CPU code for
 * one generation of CPUs each, shared objects called libggml-cpu-NAME.so of which one is in use at a time. ggml takes
 * the best that this CPU can run; DRR_CPU_PATH names another, and so does llama.c where the best computes garbage.
 * A libllama with its CPU code built in has one path without a name. */
#include "reasoner/llama_internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <ggml-backend.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PATHS = 32, NAME_ROOM = 32, FILE_ROOM = 4096 };
static const char file_prefix[] = "libggml-cpu-", file_suffix[] = ".so", built_in[] = "built in";

typedef struct cpu_path {
    char name[NAME_ROOM], file[FILE_ROOM];
    int score; /* ggml's own: higher is better, 0 cannot run here */
} cpu_path;

static struct {
    cpu_path paths[MOST_PATHS]; /* best first */
    size_t n, in_use;
    bool forced;
    drr_error failure; /* of the start */
} runtime;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local char last_message[256];
static _Thread_local struct {
    llama_listener hear;
    void *user;
} listener;

/* libllama logs a lot; what matters here is the last complaint before a failure. */
static void keep_last_complaint(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (listener.hear)
        listener.hear(listener.user, text);
    if (level != GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_WARN)
        return;
    if (last_message[0] && strstr(text, "failed to load model"))
        return; /* the line before this one says why */
    snprintf(last_message, sizeof last_message, "%s", text);
    last_message[strcspn(last_message, "\n")] = '\0';
}

void llama_runtime_listen(llama_listener hear, void *user)
{
    listener.hear = hear;
    listener.user = user;
}

const char *llama_runtime_last_message(void)
{
    return last_message;
}

/* "zen4" of "/a/libggml-cpu-zen4.so"; false for any other file. */
static bool path_name(char name[NAME_ROOM], const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *base = slash ? slash + 1 : file;
    if (strncmp(base, file_prefix, sizeof file_prefix - 1) != 0)
        return false;
    base += sizeof file_prefix - 1;
    const char *end = strstr(base, file_suffix);
    if (!end || end == base || end - base >= NAME_ROOM)
        return false;
    snprintf(name, NAME_ROOM, "%.*s", (int)(end - base), base);
    return true;
}

/* ---- which there are */

/* The file of the path that ggml chose: the one that the registered CPU code lies in. "" where it is none of these. */
static void find_loaded(char file[FILE_ROOM])
{
    Dl_info info;
    char name[NAME_ROOM];
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    *file = '\0';
    if (device && dladdr(ggml_backend_dev_backend_reg(device), &info) && path_name(name, info.dli_fname))
        snprintf(file, FILE_ROOM, "%s", info.dli_fname);
}

/* As ggml does it: each file tells how well it suits this CPU. */
static int score_of(const char *file)
{
    int (*score)(void) = NULL;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return 0;
    *(void **)&score = dlsym(handle, "ggml_backend_score");
    const int result = score ? score() : 0;
    dlclose(handle);
    return result;
}

static int better_first(const void *a, const void *b)
{
    const cpu_path *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : strcmp(x->name, y->name);
}

static void list_paths(void)
{
    char loaded[FILE_ROOM], folder[FILE_ROOM];
    find_loaded(loaded);
    snprintf(folder, sizeof folder, "%s", loaded);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[1] = '\0';
    DIR *entries = slash ? opendir(folder) : NULL;
    for (struct dirent *entry; entries && runtime.n < MOST_PATHS && (entry = readdir(entries));) {
        cpu_path *p = &runtime.paths[runtime.n];
        const size_t length = strlen(entry->d_name), end = sizeof file_suffix - 1;
        const int n = snprintf(p->file, sizeof p->file, "%s%s", folder, entry->d_name);
        if (length < end || strcmp(entry->d_name + length - end, file_suffix) != 0 || n >= FILE_ROOM ||
            !path_name(p->name, p->file))
            continue;
        p->score = score_of(p->file);
        if (p->score > 0)
            runtime.n++;
    }
    if (entries)
        closedir(entries);
    qsort(runtime.paths, runtime.n, sizeof *runtime.paths, better_first);
    for (size_t i = 0; i < runtime.n; i++) {
        char name[NAME_ROOM];
        if (path_name(name, loaded) && strcmp(name, runtime.paths[i].name) == 0)
            runtime.in_use = i;
    }
}

size_t cpu_path_count(void)
{
    return runtime.n ? runtime.n : 1;
}

const char *cpu_path_name(size_t i)
{
    return runtime.n ? runtime.paths[i].name : built_in;
}

size_t cpu_path_in_use(void)
{
    return runtime.in_use;
}

bool cpu_path_is_forced(void)
{
    return runtime.forced;
}

/* ---- changing it */

drr_status cpu_path_use(size_t i, drr_error *err)
{
    if (i == runtime.in_use || runtime.n == 0)
        return DRR_OK;
    /* The registry forgets a path and lets go of its code, which models that are open still run: this keeps it. */
    if (!dlopen(runtime.paths[runtime.in_use].file, RTLD_NOW | RTLD_LOCAL))
        return error_set(err, DRR_E_BACKEND, "the CPU path %s cannot be kept: %s", cpu_path_name(runtime.in_use),
                         dlerror());
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (device)
        ggml_backend_unload(ggml_backend_dev_backend_reg(device));
    if (!ggml_backend_load(runtime.paths[i].file)) {
        ggml_backend_load(runtime.paths[runtime.in_use].file);
        return error_set(err, DRR_E_BACKEND, "the CPU path %s cannot be loaded from %s: %s", cpu_path_name(i),
                         runtime.paths[i].file, last_message);
    }
    runtime.in_use = i;
    return DRR_OK;
}

void cpu_path_lock(void)
{
    pthread_mutex_lock(&opening);
}

void cpu_path_unlock(void)
{
    pthread_mutex_unlock(&opening);
}

/* ---- the start */

static drr_status use_the_named_path(const char *wanted, drr_error *err)
{
    buffer known = {0};
    drr_status status = DRR_OK;
    for (size_t i = 0; i < cpu_path_count(); i++) {
        if (strcmp(wanted, cpu_path_name(i)) == 0) {
            buffer_clear(&known);
            runtime.forced = true;
            return cpu_path_use(i, err);
        }
        if (status == DRR_OK)
            status = buffer_printf(&known, err, "%s%s", known.size ? ", " : "", cpu_path_name(i));
    }
    if (status == DRR_OK)
        status = error_set(err, DRR_E_ARGUMENT,
                           "DRR_CPU_PATH is \"%s\", and this libllama's CPU paths that this CPU can run are: %s",
                           wanted, known.data);
    buffer_clear(&known);
    return status;
}

/* ggml's CPU paths are shared objects that lie in bin/ or lib/ beside libllama's own folder. */
static void load_backends(void)
{
    Dl_info info;
    const char *wanted = getenv("DRR_CPU_PATH");
    llama_log_set(keep_last_complaint, NULL);
    if (ggml_backend_dev_count() == 0 && dladdr((void *)(uintptr_t)llama_backend_init, &info) && info.dli_fname) {
        char folder[FILE_ROOM];
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
    list_paths();
    if (wanted && *wanted)
        use_the_named_path(wanted, &runtime.failure);
    llama_backend_init();
}

drr_status llama_runtime_start(drr_error *err)
{
    pthread_once(&once, load_backends);
    last_message[0] = '\0';
    if (runtime.failure.status != DRR_OK)
        return error_set(err, runtime.failure.status, "%s", runtime.failure.message);
    return DRR_OK;
}
