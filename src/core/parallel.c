/* parallel.c: one pool of threads for the loops of this process. A loop inside a loop runs on the thread it is on. */
#include "core/core.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

enum { MOST_THREADS = 256 };

typedef struct work {
    parallel_fn body;
    void *user;
    size_t n;
    uint32_t parts;
} work;

static struct {
    pthread_mutex_t lock, caller; /* caller: one loop at a time */
    pthread_cond_t start, end;
    work job;
    uint64_t generation;
    uint32_t running, wanted, started;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .caller = PTHREAD_MUTEX_INITIALIZER,
          .start = PTHREAD_COND_INITIALIZER,
          .end = PTHREAD_COND_INITIALIZER};

static _Thread_local bool inside;

uint32_t cores_usable(void)
{
    cpu_set_t set; /* too small on a machine with more than 1,024 cores */
    const long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (uint32_t)n;
}

void parallel_set_threads(uint32_t n)
{
    pthread_mutex_lock(&pool.lock);
    pool.wanted = n > MOST_THREADS ? MOST_THREADS : n;
    pthread_mutex_unlock(&pool.lock);
}

uint32_t parallel_threads(void)
{
    pthread_mutex_lock(&pool.lock);
    const uint32_t n = pool.wanted;
    pthread_mutex_unlock(&pool.lock);
    const uint32_t all = n ? n : cores_usable();
    return all > MOST_THREADS ? MOST_THREADS : all;
}

static void run_part(const work *job, uint32_t part)
{
    const size_t begin = job->n * part / job->parts, end = job->n * (part + 1) / job->parts;
    if (begin < end)
        job->body(job->user, begin, end, part);
}

static void *worker(void *argument)
{
    const uint32_t index = (uint32_t)(uintptr_t)argument; /* part index it runs: 1.. */
    uint64_t seen = 0;
    inside = true;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.generation == seen)
            pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.generation;
        if (index >= pool.job.parts)
            continue;
        const work job = pool.job;
        pthread_mutex_unlock(&pool.lock);
        run_part(&job, index);
        pthread_mutex_lock(&pool.lock);
        if (--pool.running == 0)
            pthread_cond_signal(&pool.end);
    }
    return NULL;
}

void parallel_for(size_t n, parallel_fn body, void *user)
{
    uint32_t threads = parallel_threads();
    if (threads > n)
        threads = (uint32_t)n;
    if (threads <= 1 || inside) {
        if (n)
            body(user, 0, n, 0);
        return;
    }
    pthread_mutex_lock(&pool.caller);
    pthread_mutex_lock(&pool.lock);
    while (pool.started + 1 < threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(uintptr_t)(pool.started + 1)) != 0)
            break;
        pthread_detach(thread);
        pool.started++;
    }
    if (threads > pool.started + 1)
        threads = pool.started + 1;
    pool.job = (work){body, user, n, threads};
    pool.running = threads - 1;
    pool.generation++;
    pthread_cond_broadcast(&pool.start);
    const work job = pool.job;
    pthread_mutex_unlock(&pool.lock);
    inside = true;
    run_part(&job, 0);
    inside = false;
    pthread_mutex_lock(&pool.lock);
    while (pool.running)
        pthread_cond_wait(&pool.end, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.caller);
}
