/* ranks.c: the processes of one job: finding the plug-in that connects them, and agreeing on what happened. */
#include "train/ranks_internal.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double POLL_S = 0.02, PATIENCE_S = 0.5, OTHERS_PATIENCE_S = 5, LONG_S = 60;

static uint32_t number_in(const char *name, uint32_t fallback)
{
    const char *text = getenv(name);
    char *end = NULL;
    const unsigned long value = text ? strtoul(text, &end, 10) : 0;
    return text && *text && *end == '\0' && value <= 1u << 20 ? (uint32_t)value : fallback;
}

/* Open MPI's mpirun tells each process who it is; that much is known before MPI begins. */
void drr_ranks(uint32_t *rank, uint32_t *n)
{
    *n = number_in("OMPI_COMM_WORLD_SIZE", 1);
    *rank = *n > 1 ? number_in("OMPI_COMM_WORLD_RANK", 0) : 0;
}

drr_status ranks_alone(const char *what, drr_error *err)
{
    uint32_t rank, n;
    drr_ranks(&rank, &n);
    return n == 1 ? DRR_OK : error_set(err, DRR_E_ARGUMENT, "%s is made by one process: leave out mpirun", what);
}

/* ---- the plug-in */

static bool find_plugin(char *path, size_t size)
{
    const char *chosen = getenv("DRR_MPI");
    if (chosen && *chosen)
        return (size_t)snprintf(path, size, "%s", chosen) < size;
    char program[3072];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    snprintf(path, size, "%s/drr-mpi.so", program);
    if (file_exists(path))
        return true;
    snprintf(path, size, "%s/../lib/drr/drr-mpi.so", program);
    if (file_exists(path))
        return true;
    snprintf(path, size, "%s", DRR_INSTALLED_MPI);
    return file_exists(path);
}

static drr_status load_plugin(const transport **t, uint32_t rank, uint32_t n, drr_error *err)
{
    char path[4096];
    if (!find_plugin(path, sizeof path))
        return error_set(
            err, DRR_E_NOT_FOUND,
            "rank %u of %u: training on several ranks needs drr-mpi.so, which is neither beside drr nor in "
            "%s: install libopenmpi-dev, build and install drr again, or name the file in DRR_MPI",
            rank, n, DRR_INSTALLED_MPI);
    /* Never closed: MPI has threads and handlers in it until the process ends. Open MPI's own plug-ins look for its
     * symbols among the global ones. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!handle)
        return error_set(err, DRR_E_BACKEND, "rank %u of %u: %.800s; is the MPI that it was built with installed here?",
                         rank, n, dlerror());
    transport_fn function;
    void *symbol = dlsym(handle, TRANSPORT_SYMBOL);
    memcpy(&function, &symbol, sizeof function);
    *t = symbol ? function() : NULL;
    if (!*t || (*t)->version != TRANSPORT_VERSION)
        return error_set(err, DRR_E_MISMATCH, "%s belongs to another version of drr: build and install both together",
                         path);
    return DRR_OK;
}

drr_status ranks_open(ranks **out, drr_error *err)
{
    static ranks job; /* as MPI is: one a process, for its whole life */
    uint32_t rank, n;
    char why[256] = "";
    *out = NULL;
    drr_ranks(&rank, &n);
    if (n < 2)
        return DRR_OK;
    if (job.t) {
        *out = &job;
        return job.lost ? error_set(err, DRR_E_BACKEND, "the other ranks were lost") : DRR_OK;
    }
    ranks made = {.votes = calloc(RANKS_VOTES + n, sizeof(double))};
    drr_status status = made.votes ? load_plugin(&made.t, rank, n, err) : error_memory(err);
    if (status == DRR_OK && !made.t->open(&made.rank, &made.n, why, sizeof why))
        status = error_set(err, DRR_E_BACKEND, "rank %u of %u: %s", rank, n, why);
    if (status == DRR_OK && (made.rank != rank || made.n != n))
        status = error_set(err, DRR_E_BACKEND,
                           "mpirun started rank %u of %u, and MPI says rank %u of %u: drr-mpi.so was built for another "
                           "MPI than this mpirun's",
                           rank, n, made.rank, made.n);
    if (status != DRR_OK) {
        free(made.votes);
        return status;
    }
    made.t->library(made.library, sizeof made.library);
    job = made;
    *out = &job;
    return DRR_OK;
}

/* ---- who one is */

bool ranks_first(const ranks *r)
{
    return !r || r->rank == 0;
}

uint32_t ranks_count(const ranks *r)
{
    return r ? r->n : 1;
}

double ranks_waited_s(const ranks *r)
{
    return r ? r->waited_s : 0;
}

const char *ranks_library(const ranks *r)
{
    return r ? r->library : NULL;
}

bool ranks_lost(const ranks *r)
{
    return r && r->lost;
}

const drr_hooks *ranks_hooks(ranks *r, const drr_hooks *hooks)
{
    if (!r)
        return hooks;
    r->hooks = hooks ? *hooks : (drr_hooks){0};
    if (r->rank) {
        r->hooks.log = NULL;
        r->hooks.progress = NULL;
    }
    return &r->hooks;
}

/* ---- cores */

/* This machine and the cores of it that this rank may run on, as a number that a sum of doubles carries whole. */
static double own_place(void)
{
    char machine[256] = "";
    cpu_set_t cores;
    gethostname(machine, sizeof machine - 1);
    uint64_t place = hash_string(0, machine);
    if (sched_getaffinity(0, sizeof cores, &cores) == 0)
        for (size_t i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &cores))
                place = hash_mix(place, i);
    return (double)(place >> 12);
}

uint32_t ranks_sharing(const double *places, uint32_t n, uint32_t rank)
{
    uint32_t sharing = 0;
    for (uint32_t i = 0; i < n; i++)
        sharing += places[i] >= places[rank] && places[i] <= places[rank];
    return sharing;
}

/* Ranks that mpirun bound to cores of their own have all of these; those that it left on the same ones divide them, be
 * they all of the machine's or the few that a container has. */
drr_status ranks_threads(ranks *r, uint32_t *threads, drr_error *err)
{
    if (!r)
        return DRR_OK;
    memset(r->votes, 0, r->n * sizeof *r->votes);
    r->votes[r->rank] = own_place();
    r->t->sum_f64(r->votes, r->n);
    const drr_status status = ranks_wait(r, err);
    if (status != DRR_OK || *threads)
        return status;
    const uint32_t mine = cores_usable(), sharing = ranks_sharing(r->votes, r->n, r->rank);
    *threads = mine > sharing ? mine / sharing : 1;
    return DRR_OK;
}

/* ---- waiting and agreeing */

static drr_status lose(ranks *r)
{
    r->lost = true;
    r->t->give_up();
    return DRR_E_BACKEND;
}

drr_status ranks_wait(ranks *r, drr_error *err)
{
    char why[256] = "";
    const double began = clock_seconds();
    double told = 0;
    bool long_one = false;
    for (;;) {
        const int done = r->t->wait(POLL_S, why, sizeof why);
        if (done > 0) {
            r->waited_s += clock_seconds() - began;
            return DRR_OK;
        }
        if (done < 0) {
            error_set(err, DRR_E_BACKEND, "the ranks lost each other: %s", why);
            return lose(r);
        }
        const double now = clock_seconds();
        if (told == 0 && hooks_cancelled(&r->hooks))
            told = now;
        if (told > 0 && now - told > (r->rank ? OTHERS_PATIENCE_S : PATIENCE_S)) {
            error_set(err, DRR_E_BACKEND,
                      "told to stop while waiting for other ranks: one of them was lost, or all are being ended");
            return lose(r);
        }
        if (!long_one && now - began > LONG_S) {
            hooks_log(&r->hooks, DRR_LOG_WARN, "waiting for other ranks since %.0f s", now - began);
            long_one = true;
        }
    }
}

drr_status ranks_conclude(ranks *r, const double *statuses, drr_status own, drr_error *err)
{
    uint32_t who = r->n;
    for (uint32_t i = 0; i < r->n; i++) {
        const drr_status s = (drr_status)statuses[i];
        const bool before = who < r->n && (drr_status)statuses[who] != DRR_E_INTERRUPTED;
        if (s != DRR_OK && !before && (who == r->n || s != DRR_E_INTERRUPTED))
            who = i;
    }
    if (who == r->n)
        return DRR_OK;
    const drr_status status = (drr_status)statuses[who];
    char text[sizeof err->message + 96] = "", machine[64] = "";
    if (r->rank == who) {
        gethostname(machine, sizeof machine - 1);
        if (who)
            snprintf(text, sizeof text, "rank %u on %s: %s", who, machine,
                     err && own == status ? err->message : drr_status_name(status));
        else
            snprintf(text, sizeof text, "%s", err && own == status ? err->message : drr_status_name(status));
    }
    r->t->copy(text, sizeof text, who);
    const drr_status waited = ranks_wait(r, err);
    if (waited != DRR_OK)
        return waited;
    if (err) {
        err->status = status;
        snprintf(err->message, sizeof err->message, "%.*s", (int)sizeof err->message - 1, r->rank ? "" : text);
    }
    return status;
}

drr_status ranks_agree(ranks *r, drr_status status, drr_error *err)
{
    if (!r || r->lost)
        return status;
    memset(r->votes, 0, r->n * sizeof *r->votes);
    r->votes[r->rank] = (double)status;
    r->t->sum_f64(r->votes, r->n);
    drr_error waiting = {0};
    const drr_status waited = ranks_wait(r, &waiting);
    if (waited == DRR_OK)
        return ranks_conclude(r, r->votes, status, err);
    if (err && status == DRR_OK)
        *err = waiting;
    return status == DRR_OK ? waited : status;
}

drr_status ranks_copy(ranks *r, void *data, size_t size, drr_error *err)
{
    if (!r)
        return DRR_OK;
    if (r->lost)
        return error_set(err, DRR_E_BACKEND, "the other ranks were lost");
    r->t->copy(data, size, 0);
    return ranks_wait(r, err);
}

/* ---- work that is shared outside of the steps */

drr_status ranks_logits(ranks *r, const encoder *e, const examples *x, size_t budget, float *logits,
                        const drr_hooks *hooks, drr_error *err)
{
    if (!r)
        return logits ? examples_logits(e, x, budget, logits, hooks, err) : error_memory(err);
    if (r->lost)
        return error_set(err, DRR_E_BACKEND, "the other ranks were lost");
    size_t from, to;
    drr_status status = logits ? DRR_OK : error_memory(err);
    share_of(&from, &to, x, NULL, 0, x->n, r->rank, r->n);
    if (status == DRR_OK) {
        const examples mine = {.ids = x->ids, .starts = x->starts + from, .labels = x->labels + from, .n = to - from};
        memset(logits, 0, x->n * sizeof *logits);
        if (mine.n)
            status = examples_logits(e, &mine, budget, logits + from, hooks, err);
    }
    status = ranks_agree(r, status, err);
    if (status != DRR_OK)
        return status;
    r->t->sum_f32(logits, x->n); /* one rank's number and zeros: the number itself */
    return ranks_agree(r, ranks_wait(r, err), err);
}

drr_status ranks_copy_state(ranks *r, checkpoint *state, drr_error *err)
{
    checkpoint first = *state;
    if (!r)
        return DRR_OK;
    drr_status status = ranks_copy(r, &first, sizeof first, err);
    if (status != DRR_OK)
        return status;
    first.parameters = state->parameters;
    first.moment1 = state->moment1;
    first.moment2 = state->moment2;
    first.best = state->best;
    *state = first;
    float *const arrays[] = {state->parameters, state->moment1, state->moment2, state->best};
    for (size_t a = 0; a < (state->best_epoch ? 4u : 3u); a++)
        r->t->copy(arrays[a], state->n * sizeof(float), 0);
    return ranks_wait(r, err);
}

drr_status ranks_begin(ranks *r, checkpoint *state, drr_status status, drr_error *err)
{
    status = ranks_agree(r, status, err);
    if (!r || status != DRR_OK)
        return status;
    uint64_t theirs[] = {state->identity, state->n};
    status = ranks_copy(r, theirs, sizeof theirs, err);
    if (status != DRR_OK)
        return status;
    if (theirs[0] != state->identity || theirs[1] != state->n)
        status = error_set(err, DRR_E_MISMATCH,
                           "it has other traces, options or another encoder than rank 0: all ranks must be given the "
                           "same, and no store that is being written to");
    status = ranks_agree(r, status, err);
    return status == DRR_OK ? ranks_copy_state(r, state, err) : status;
}
