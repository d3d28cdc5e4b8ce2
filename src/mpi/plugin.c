/* plugin.c: drr-mpi.so, the transport over MPI (src/train/transport.h). Everything that MPI is asked lies in one thread
 * of its own, from MPI_Init to MPI_Finalize: a non-blocking sum advances only while somebody is inside MPI, and the
 * thread that trains is busy elsewhere. So sums overlap the backward pass with any MPI library and any of its thread
 * levels. */
#include "train/transport.h"

#include <errno.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_JOBS = 512 };
static const size_t MOST_ELEMENTS = (size_t)1 << 28; /* of one call: MPI counts in int */
static const long POLL_NS = 20000;
static const time_t LEAVE_S = 10;

typedef enum job_kind { SUM_F32, SUM_F64, COPY } job_kind;
typedef struct job {
    job_kind kind;
    void *data;
    size_t n;
    int from;
} job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* to either side */
    pthread_t thread;
    bool started, opened, failed, given_up, leaving;
    job posted[MOST_JOBS];   /* not begun yet */
    size_t n_posted, n_open; /* n_open: posted or begun, not done */
    int rank, n;
    char why[256];
} job_link = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void fail(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    pthread_mutex_lock(&job_link.lock);
    if (!job_link.failed)
        snprintf(job_link.why, sizeof job_link.why, "%s: %.200s", what, text);
    job_link.failed = true;
    pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
}

static int begin(const job *j, MPI_Request *request)
{
    switch (j->kind) {
    case SUM_F32:
        return MPI_Iallreduce(MPI_IN_PLACE, j->data, (int)j->n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, request);
    case SUM_F64:
        return MPI_Iallreduce(MPI_IN_PLACE, j->data, (int)j->n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, request);
    default:
        return MPI_Ibcast(j->data, (int)j->n, MPI_BYTE, j->from, MPI_COMM_WORLD, request);
    }
}

static bool connect_all(void)
{
    int level, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_rank(MPI_COMM_WORLD, &job_link.rank);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(MPI_COMM_WORLD, &job_link.n);
    if (code != MPI_SUCCESS) {
        fail(code, "MPI cannot begin");
        return false;
    }
    pthread_mutex_lock(&job_link.lock);
    job_link.opened = true;
    pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
    return true;
}

/* Takes what was posted into jobs[]; waits while there is nothing to do. False: leave. */
static bool take_posted(job *jobs, size_t *n, size_t n_begun)
{
    pthread_mutex_lock(&job_link.lock);
    while (!job_link.leaving && !job_link.given_up && job_link.n_posted == 0 && n_begun == 0)
        pthread_cond_wait(&job_link.changed, &job_link.lock);
    const bool goes_on = !job_link.given_up && !(job_link.leaving && job_link.n_posted == 0 && n_begun == 0);
    *n = job_link.n_posted < MOST_JOBS - n_begun ? job_link.n_posted : MOST_JOBS - n_begun;
    memcpy(jobs, job_link.posted, *n * sizeof *jobs);
    memmove(job_link.posted, job_link.posted + *n, (job_link.n_posted - *n) * sizeof *jobs);
    job_link.n_posted -= *n;
    if (*n)
        pthread_cond_broadcast(&job_link.changed); /* there is room again */
    pthread_mutex_unlock(&job_link.lock);
    return goes_on;
}

static void note_done(size_t n)
{
    pthread_mutex_lock(&job_link.lock);
    job_link.n_open -= n;
    if (job_link.n_open == 0)
        pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
}

/* Advances what is begun; false when MPI failed. */
static bool advance(MPI_Request *requests, size_t *n_begun)
{
    static int which[MOST_JOBS];
    int n_done = 0;
    const int code = MPI_Testsome((int)*n_begun, requests, &n_done, which, MPI_STATUSES_IGNORE);
    if (code != MPI_SUCCESS) {
        fail(code, "a rank is gone, or the network");
        return false;
    }
    if (n_done <= 0) {
        nanosleep(&(struct timespec){0, POLL_NS}, NULL);
        return true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < *n_begun; i++)
        if (requests[i] != MPI_REQUEST_NULL)
            requests[kept++] = requests[i];
    *n_begun = kept;
    note_done((size_t)n_done);
    return true;
}

static void *serve(void *unused)
{
    static MPI_Request requests[MOST_JOBS];
    static job jobs[MOST_JOBS];
    size_t n_begun = 0, n;
    sigset_t all;
    (void)unused;
    sigfillset(&all); /* signals are the program's own threads' affair */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    if (!connect_all())
        return NULL;
    while (take_posted(jobs, &n, n_begun)) {
        for (size_t i = 0; i < n; i++) {
            const int code = begin(&jobs[i], &requests[n_begun++]);
            if (code != MPI_SUCCESS) {
                fail(code, "MPI refused a sum");
                return NULL;
            }
        }
        if (n_begun && !advance(requests, &n_begun))
            return NULL;
    }
    if (!job_link.given_up)
        MPI_Finalize();
    return NULL;
}

/* At the end of the process: in order, together with all others, or, where something failed, not at all: mpirun takes
 * a rank that ends without MPI_Finalize for a failed one, and ends the job. */
static void leave(void)
{
    pthread_mutex_lock(&job_link.lock);
    const bool orderly = job_link.opened && !job_link.failed && !job_link.given_up && job_link.n_open == 0;
    job_link.leaving = true;
    pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LEAVE_S;
    if (orderly)
        pthread_timedjoin_np(job_link.thread, NULL, &end);
}

static int open_link(uint32_t *rank, uint32_t *n, char *why, size_t size)
{
    int code = 0;
    pthread_mutex_lock(&job_link.lock);
    if (!job_link.started) {
        code = pthread_create(&job_link.thread, NULL, serve, NULL);
        job_link.started = code == 0;
    }
    if (code != 0)
        snprintf(why, size, "a thread for MPI cannot be started");
    while (job_link.started && !job_link.opened && !job_link.failed)
        pthread_cond_wait(&job_link.changed, &job_link.lock);
    const bool good = job_link.opened && !job_link.failed;
    if (job_link.failed)
        snprintf(why, size, "%s", job_link.why);
    *rank = (uint32_t)job_link.rank;
    *n = (uint32_t)job_link.n;
    pthread_mutex_unlock(&job_link.lock);
    if (good)
        atexit(leave);
    return good;
}

static void post(job_kind kind, void *data, size_t n, size_t width, uint32_t from)
{
    pthread_mutex_lock(&job_link.lock);
    for (size_t at = 0; at < n && !job_link.failed && !job_link.given_up;) {
        const size_t length = n - at < MOST_ELEMENTS ? n - at : MOST_ELEMENTS;
        if (job_link.n_posted == MOST_JOBS) {
            pthread_cond_wait(&job_link.changed, &job_link.lock);
            continue;
        }
        job_link.posted[job_link.n_posted++] = (job){kind, (char *)data + at * width, length, (int)from};
        job_link.n_open++;
        at += length;
    }
    pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
}

static void sum_f32(float *x, size_t n)
{
    post(SUM_F32, x, n, sizeof *x, 0);
}

static void sum_f64(double *x, size_t n)
{
    post(SUM_F64, x, n, sizeof *x, 0);
}

static void copy(void *data, size_t size, uint32_t from)
{
    post(COPY, data, size, 1, from);
}

static int wait_all(double seconds, char *why, size_t size)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += (long)(seconds * 1e9) % 1000000000;
    end.tv_sec += (time_t)seconds + end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    int code = 0;
    pthread_mutex_lock(&job_link.lock);
    while (job_link.n_open && !job_link.failed && code != ETIMEDOUT)
        code = pthread_cond_timedwait(&job_link.changed, &job_link.lock, &end);
    const int result = job_link.failed ? -1 : job_link.n_open == 0;
    if (job_link.failed)
        snprintf(why, size, "%s", job_link.why);
    pthread_mutex_unlock(&job_link.lock);
    return result;
}

static void give_up(void)
{
    pthread_mutex_lock(&job_link.lock);
    job_link.given_up = true;
    pthread_cond_broadcast(&job_link.changed);
    pthread_mutex_unlock(&job_link.lock);
}

static void library(char *text, size_t size)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    snprintf(text, size, "%.*s", (int)strcspn(version, ",\n"), version);
}

__attribute__((visibility("default"))) const transport *drr_transport(void);

const transport *drr_transport(void)
{
    static const transport table = {TRANSPORT_VERSION, open_link, sum_f32, sum_f64, copy, wait_all, give_up, library};
    return &table;
}
