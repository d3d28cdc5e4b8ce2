/* checker.c: a checker: what it may do and where, a queue of answers, threads that run them, and a memory of what was
 * decided. How one is run is run_check.c's and contain.c's. */
#include "check/check_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_READY } job_state;

typedef struct check_job {
    struct check_job *next;
    char *id, *question, *spec, *answer;
    char key[65]; /* of question, spec and answer */
    job_state state;
    check_result result;
    drr_status status;
    drr_error err;
} check_job;

typedef struct decided { /* in an open hash table */
    char key[65];
    drr_label label;
    char why[240];
} decided;

struct drr_checker {
    drr_check_options options;
    check_place place;
    bool filter;
    char *python, *path, *folder, *description, *no_namespaces;
    char *owned[MOST_VISIBLE];
    const char *visible_python[MOST_VISIBLE + 1], *visible_command[MOST_VISIBLE + 1];
    pthread_mutex_t lock;
    pthread_cond_t queued, ready;
    pthread_t *threads;
    size_t n_threads;
    check_job *jobs; /* in order of submission */
    size_t n_jobs;
    decided *known;
    size_t n_known, room_known;
    atomic_bool cancelled;
    bool closing;
};

void drr_check_options_defaults(drr_check_options *options)
{
    *options = (drr_check_options){.python = "python3",
                                   .seconds = 10,
                                   .memory_bytes = 512u << 20,
                                   .disk_bytes = 32u << 20,
                                   .output_bytes = 64u << 10,
                                   .processes = 16,
                                   .files = 256};
}

/* ---- where checks run */

/* Runs the Python once, as its user would, to learn which file it is and where its library lies: a name in PATH may be
 * a script that chooses one. It is the user's own program, so nothing contains it. */
static drr_status ask_python(char words[3][1024], const char *python, drr_error *err)
{
    static const char question[] =
        "import sys\nprint(sys.executable, sys.base_prefix, sys.prefix, sep='\\n', end='\\n')";
    buffer command = {0};
    char text[3200];
    size_t n = 0;
    for (const char *p = python; *p; p++)
        if (*p == '\'' || (unsigned char)*p < ' ')
            return error_set(err, DRR_E_ARGUMENT, "\"%s\" is no name of a Python", python);
    drr_status status = buffer_printf(&command, err, "'%s' -I -c \"%s\" 2>/dev/null </dev/null", python, question);
    if (status != DRR_OK)
        return status;
    FILE *pipe = popen(command.data, "re");
    buffer_clear(&command);
    if (pipe) {
        n = fread(text, 1, sizeof text - 1, pipe);
        n = pclose(pipe) == 0 ? n : 0;
    }
    text[n] = '\0';
    char *rest = text;
    for (int i = 0; i < 3; i++) {
        const char *line = strsep(&rest, "\n");
        if (!line || *line != '/' || strlen(line) >= 1024)
            return error_set(err, DRR_E_NOT_FOUND,
                             "no Python 3 can be run as \"%s\", and programs are checked with it; install one or say "
                             "--python PATH",
                             python);
        memcpy(words[i], line, strlen(line) + 1);
    }
    return DRR_OK;
}

static bool below(const char *path, const char *folder)
{
    const size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Adds a path that exists and is not visible already. */
static void show(const char *list[MOST_VISIBLE + 1], const char *path)
{
    size_t n = 0;
    for (; list[n]; n++)
        if (below(path, list[n]))
            return;
    if (n < MOST_VISIBLE && strcmp(path, "/") != 0 && access(path, F_OK) == 0)
        list[n] = path;
}

static drr_status find_place(drr_checker *c, drr_error *err)
{
    static const char *const system_paths[] = {
        "/usr",      "/bin",      "/sbin",       "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives",
        "/dev/null", "/dev/zero", "/dev/urandom"};
    char words[3][1024], folder[4096];
    buffer path = {0};
    drr_status status = ask_python(words, c->options.python, err);
    if (status != DRR_OK)
        return status;
    for (size_t i = 0; i < 3; i++)
        if (!(c->owned[i] = string_copy(words[i])))
            return error_memory(err);
    c->python = c->owned[0];
    char *slash = strrchr(words[0], '/');
    *slash = '\0';
    status = buffer_printf(&path, err, "%s:/usr/local/bin:/usr/bin:/bin", words[0]);
    if (status != DRR_OK)
        return status;
    c->path = buffer_take(&path);
    c->folder = string_copy(getcwd(folder, sizeof folder) ? folder : "/");
    c->owned[3] = string_copy(words[0]); /* a link into the prefix may lie elsewhere */
    if (!c->folder || !c->owned[3])
        return error_memory(err);
    for (size_t i = 0; i < sizeof system_paths / sizeof *system_paths; i++)
        show(c->visible_python, system_paths[i]);
    for (size_t i = 1; i < 4; i++)
        show(c->visible_python, c->owned[i]);
    memcpy(c->visible_command, c->visible_python, sizeof c->visible_command);
    show(c->visible_command, c->folder);
    const drr_check_options *o = &c->options;
    c->place = (check_place){.python = c->python,
                             .path = c->path,
                             .folder = c->folder,
                             .visible_python = c->visible_python,
                             .visible_command = c->visible_command,
                             .limits = {.seconds = o->seconds,
                                        .memory_bytes = o->memory_bytes,
                                        .together_bytes = 2 * o->memory_bytes,
                                        .disk_bytes = o->disk_bytes,
                                        .output_bytes = o->output_bytes,
                                        .processes = o->processes,
                                        .files = o->files},
                             .namespaces = true};
    return DRR_OK;
}

/* Does Python start inside namespaces here, or without? Kernels, containers and their settings differ; only trying
 * tells. */
static drr_status probe(drr_checker *c, bool namespaces, drr_error *err)
{
    const char *const words[] = {c->python, "-I", "-c", "import json, sys; sys.exit(7)", NULL};
    contained_end *end = calloc(1, sizeof *end);
    if (!end)
        return error_memory(err);
    const contained_program program = {.argv = words,
                                       .path = c->path,
                                       .input = "",
                                       .visible = c->visible_command,
                                       .limits = c->place.limits,
                                       .namespaces = namespaces};
    drr_status status = contained_run(end, &program, err);
    const bool works = end->started && WIFEXITED(end->wait_status) && WEXITSTATUS(end->wait_status) == 7;
    c->place.namespaces = namespaces && works;
    c->filter = filter_available();
    if (status == DRR_OK && !works && !namespaces)
        status = error_set(err, DRR_E_BACKEND, "%s cannot be run%s (%s); say --python with one that can", c->python,
                           geteuid() == 0 ? " as the user nobody" : "",
                           end->started ? "it did not end as it should" : end->why_not);
    if (status == DRR_OK && !works) {
        c->no_namespaces = string_copy(end->started ? "a program did not run as it should" : end->why_not);
        if (!c->no_namespaces)
            status = error_memory(err);
    }
    free(end);
    return status;
}

static drr_status describe(drr_checker *c, drr_error *err)
{
    buffer b = {0};
    drr_status status =
        c->place.namespaces
            ? buffer_printf(&b, err,
                            "checked programs see only system folders and their own scratch folder, no network%s",
                            c->filter ? ", and a part of the system calls" : "")
            : buffer_printf(&b, err, "checked programs are NOT contained (%s): they can read and write what %s can",
                            c->no_namespaces ? c->no_namespaces : "namespaces are not to be used",
                            geteuid() == 0 ? "the user nobody" : "you");
    if (status == DRR_OK)
        c->description = buffer_take(&b);
    return status;
}

/* ---- threads */

static bool key_runs(const drr_checker *c, const char *key)
{
    for (const check_job *j = c->jobs; j; j = j->next)
        if (j->state == JOB_RUNNING && strcmp(j->key, key) == 0)
            return true;
    return false;
}

static check_job *next_job(const drr_checker *c)
{
    for (check_job *j = c->jobs; j; j = j->next)
        if (j->state == JOB_QUEUED && !key_runs(c, j->key))
            return j;
    return NULL;
}

static decided *find_known(const drr_checker *c, const char *key)
{
    size_t i = (size_t)hash_string(0, key) & (c->room_known - 1);
    while (c->known[i].key[0] && strcmp(c->known[i].key, key) != 0)
        i = (i + 1) & (c->room_known - 1);
    return &c->known[i];
}

/* Out of memory only costs that an answer may be run again. */
static void remember(drr_checker *c, const check_job *job)
{
    if (2 * c->n_known >= c->room_known) {
        const decided *old = c->known;
        const size_t n_old = c->room_known, n = n_old ? 2 * n_old : 1024;
        decided *table = calloc(n, sizeof *table);
        if (!table)
            return;
        c->known = table;
        c->room_known = n;
        for (size_t i = 0; i < n_old; i++)
            if (old[i].key[0])
                *find_known(c, old[i].key) = old[i];
        free((void *)(uintptr_t)old);
    }
    decided *place = find_known(c, job->key);
    c->n_known += !place->key[0];
    memcpy(place->key, job->key, sizeof place->key);
    place->label = job->result.label;
    memcpy(place->why, job->result.why, sizeof place->why);
}

static void settle(drr_checker *c, check_job *done)
{
    if (done->status == DRR_OK && done->result.label != DRR_LABEL_UNLABELLED)
        remember(c, done);
    for (check_job *j = c->jobs; j; j = j->next)
        if (j == done || (j->state == JOB_QUEUED && strcmp(j->key, done->key) == 0)) {
            const uint64_t tag = j->result.tag;
            j->result = done->result;
            j->result.tag = tag;
            j->status = done->status;
            j->state = JOB_READY;
        }
    pthread_cond_broadcast(&c->ready);
    pthread_cond_broadcast(&c->queued);
}

static void *work(void *user)
{
    drr_checker *c = user;
    pthread_mutex_lock(&c->lock);
    while (!c->closing) {
        check_job *j = next_job(c);
        if (!j) {
            pthread_cond_wait(&c->queued, &c->lock);
            continue;
        }
        j->state = JOB_RUNNING;
        pthread_mutex_unlock(&c->lock);
        check_result *r = &j->result;
        drr_error err = {0};
        r->label = DRR_LABEL_UNLABELLED;
        const drr_status status = check_run(&r->label, r->why, sizeof r->why, &c->place, j->id, j->question, j->spec,
                                            j->answer, &c->cancelled, &err);
        if (status != DRR_OK) /* out of memory or processes: this answer cannot be decided now */
            snprintf(r->why, sizeof r->why, "%.*s", (int)sizeof r->why - 1, err.message);
        pthread_mutex_lock(&c->lock);
        settle(c, j);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static drr_status start_threads(drr_checker *c, drr_error *err)
{
    const size_t n = c->options.jobs ? c->options.jobs : parallel_threads();
    sigset_t all, before;
    c->threads = calloc(n, sizeof *c->threads);
    if (!c->threads)
        return error_memory(err);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the caller's own threads */
    int code = 0;
    while (c->n_threads < n && (code = pthread_create(&c->threads[c->n_threads], NULL, work, c)) == 0)
        c->n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return c->n_threads ? DRR_OK : error_set_errno(err, code, "cannot start a thread for checkers");
}

/* ---- the public face */

static void free_job(check_job *j)
{
    free(j->id);
    free(j->question);
    free(j->spec);
    free(j->answer);
    free(j);
}

static drr_status make_place(drr_checker *c, drr_error *err)
{
    drr_status status = find_place(c, err);
    c->place.namespaces = false;
    if (status == DRR_OK && !c->options.limits_only)
        status = probe(c, true, err);
    if (status == DRR_OK && !c->place.namespaces && c->options.allow_uncontained)
        status = probe(c, false, err);
    return status == DRR_OK ? describe(c, err) : status;
}

drr_status drr_checker_open(drr_checker **checker, const drr_check_options *options, drr_error *err)
{
    if (options->seconds <= 0 || !options->memory_bytes || !options->processes || !options->output_bytes)
        return error_set(err, DRR_E_ARGUMENT,
                         "a checker needs time, memory, output and a process: none of its limits "
                         "may be 0");
    drr_checker *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->options = *options;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->queued, NULL);
    pthread_cond_init(&c->ready, &monotonic);
    pthread_condattr_destroy(&monotonic);
    drr_status status = make_place(c, err);
    if (status == DRR_OK && !c->place.namespaces && !options->allow_uncontained)
        status = error_set(err, DRR_E_ARGUMENT,
                           "this machine cannot contain the programs to be checked (%s), so they could read, change "
                           "and delete your files; run drr where `drr doctor` says \"contained\", or say "
                           "--allow-uncontained",
                           c->no_namespaces ? c->no_namespaces : "namespaces are not to be used");
    if (status == DRR_OK)
        status = start_threads(c, err);
    if (status != DRR_OK) {
        drr_checker_close(c);
        return status;
    }
    *checker = c;
    return DRR_OK;
}

void drr_checker_close(drr_checker *checker)
{
    if (!checker)
        return;
    pthread_mutex_lock(&checker->lock);
    checker->closing = true;
    atomic_store(&checker->cancelled, true);
    pthread_cond_broadcast(&checker->queued);
    pthread_mutex_unlock(&checker->lock);
    for (size_t i = 0; i < checker->n_threads; i++)
        pthread_join(checker->threads[i], NULL);
    for (check_job *j = checker->jobs, *next; j; j = next) {
        next = j->next;
        free_job(j);
    }
    pthread_cond_destroy(&checker->queued);
    pthread_cond_destroy(&checker->ready);
    pthread_mutex_destroy(&checker->lock);
    for (size_t i = 0; i < MOST_VISIBLE; i++)
        free(checker->owned[i]);
    free(checker->threads);
    free(checker->known);
    free(checker->path);
    free(checker->folder);
    free(checker->description);
    free(checker->no_namespaces);
    free(checker);
}

const char *checker_python(const drr_checker *checker)
{
    return checker->python;
}

double checker_seconds(const drr_checker *checker)
{
    return checker->options.seconds;
}

const char *drr_checker_describe(const drr_checker *checker)
{
    return checker->description;
}

drr_status checker_allows(const drr_checker *checker, const drr_task *task, drr_error *err)
{
    if (task->kind != DRR_KIND_CHECKED || checker)
        return DRR_OK;
    const bool command = strncmp(task->answer, "{\"checker\"", 10) == 0;
    return error_set(err, DRR_E_ARGUMENT,
                     "question %.200s of %.200s is graded by running %s on this machine; read docs/checking.md, and if "
                     "that is what you want, say --allow-checkers",
                     task->id, task->task,
                     command ? "a command that its data file names" : "the program that the model writes");
}

drr_status checker_submit(drr_checker *checker, uint64_t tag, const drr_task *task, const char *answer, drr_error *err)
{
    const char *const parts[] = {task->question, task->answer, answer};
    sha256 h;
    check_job *j = calloc(1, sizeof *j);
    if (!j)
        return error_memory(err);
    j->id = string_copy(task->id);
    j->question = string_copy(task->question);
    j->spec = string_copy(task->answer);
    j->answer = string_copy(answer);
    j->result.tag = tag;
    if (!j->id || !j->question || !j->spec || !j->answer) {
        free_job(j);
        return error_memory(err);
    }
    sha256_begin(&h);
    for (size_t i = 0; i < 3; i++)
        sha256_add(&h, parts[i], strlen(parts[i]) + 1);
    sha256_end(&h, j->key);
    pthread_mutex_lock(&checker->lock);
    const decided *known = checker->room_known ? find_known(checker, j->key) : NULL;
    if (known && known->key[0]) {
        j->state = JOB_READY;
        j->result.label = known->label;
        memcpy(j->result.why, known->why, sizeof j->result.why);
    }
    check_job **end = &checker->jobs;
    while (*end)
        end = &(*end)->next;
    *end = j;
    checker->n_jobs++;
    pthread_cond_signal(&checker->queued);
    pthread_mutex_unlock(&checker->lock);
    return DRR_OK;
}

static bool take_ready(drr_checker *c, check_result *result)
{
    for (check_job **at = &c->jobs; *at; at = &(*at)->next) {
        check_job *j = *at;
        if (j->state != JOB_READY)
            continue;
        *result = j->result;
        *at = j->next;
        c->n_jobs--;
        free_job(j);
        return true;
    }
    return false;
}

bool checker_next(drr_checker *checker, check_result *result, uint32_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&checker->lock);
    bool any = take_ready(checker, result);
    while (!any && wait_ms && checker->n_jobs &&
           pthread_cond_timedwait(&checker->ready, &checker->lock, &until) != ETIMEDOUT)
        any = take_ready(checker, result);
    pthread_mutex_unlock(&checker->lock);
    return any;
}

size_t checker_pending(const drr_checker *checker)
{
    return checker->n_jobs; /* changed by the calling thread alone */
}

void checker_cancel(drr_checker *checker)
{
    check_result ignored;
    pthread_mutex_lock(&checker->lock);
    for (check_job *j = checker->jobs; j; j = j->next)
        if (j->state == JOB_QUEUED)
            j->state = JOB_READY;
    pthread_mutex_unlock(&checker->lock);
    atomic_store(&checker->cancelled, true);
    while (checker_pending(checker))
        checker_next(checker, &ignored, 100);
    atomic_store(&checker->cancelled, false);
}

drr_status checker_doctor(json_t **report, drr_error *err)
{
    drr_check_options options;
    drr_error why = {0};
    drr_checker c = {0};
    drr_check_options_defaults(&options);
    c.options = options;
    const drr_status status = make_place(&c, &why);
    if (status == DRR_OK)
        *report = json_pack("{s:s, s:b, s:s?, s:b, s:s}", "python", c.python, "contained", (int)c.place.namespaces,
                            "why_not", c.no_namespaces, "system_call_filter", (int)c.filter, "means", c.description);
    else
        *report = json_pack("{s:n, s:b, s:s}", "python", "contained", 0, "why_not", why.message);
    for (size_t i = 0; i < MOST_VISIBLE; i++)
        free(c.owned[i]);
    free(c.path);
    free(c.folder);
    free(c.description);
    free(c.no_namespaces);
    return *report ? DRR_OK : error_memory(err);
}
