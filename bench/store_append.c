/* store_append.c: appends traces to a store as distillation does, and nothing else: what bench/store times.
 *
 *     store_append STORE TRACES.jsonl[.gz] N GROUP WRITERS
 *
 * N traces in all, GROUP of them with one durable commit, by WRITERS threads with a connection each. The texts are
 * those of the file, taken in turn; the keys are made up, so that each is new. Prints appends a second. */
#include "core/core.h"
#include "trace/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct pool {
    drr_trace *traces;
    size_t n, room;
} pool;

static bool keep(void *user, const drr_trace *t)
{
    enum { MOST = 5000 };
    pool *p = user;
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->traces = realloc(p->traces, p->room * sizeof *p->traces);
        if (!p->traces)
            abort();
    }
    return trace_copy(&p->traces[p->n++], t, NULL) == DRR_OK && p->n < MOST;
}

typedef struct writer {
    pthread_t thread;
    const char *store;
    const pool *pool;
    uint64_t number, n;
    size_t group;
    drr_error err;
} writer;

static drr_status write_all(writer *w)
{
    enum { MOST = 1024 };
    drr_store *store = NULL;
    static _Thread_local drr_trace traces[MOST];
    static _Thread_local char ids[MOST][48];
    const drr_trace *list[MOST];
    bool added[MOST];
    drr_status status = drr_store_open(&store, w->store, true, &w->err);
    for (uint64_t i = 0; i < w->n && status == DRR_OK;) {
        size_t m = 0;
        for (; m < w->group && m < MOST && i < w->n; m++, i++) {
            traces[m] = w->pool->traces[(w->number * 7919 + i) % w->pool->n];
            snprintf(ids[m], sizeof ids[m], "w%llu-%llu", (unsigned long long)w->number, (unsigned long long)i);
            traces[m].id = ids[m];
            list[m] = &traces[m];
        }
        status = store_append_many(store, list, m, added, &w->err);
        for (size_t k = 0; k < m && status == DRR_OK; k++)
            if (!added[k])
                status = error_set(&w->err, DRR_E_ARGUMENT, "the store is not new: %s was there", ids[k]);
    }
    drr_store_close(store);
    return status;
}

static void *run(void *user)
{
    write_all(user);
    return NULL;
}

int main(int argc, char **argv)
{
    pool p = {0};
    drr_error err = {0};
    drr_store *store = NULL;
    if (argc != 6) {
        fprintf(stderr, "store_append STORE TRACES N GROUP WRITERS\n");
        return 2;
    }
    const uint64_t n = strtoull(argv[3], NULL, 10), writers = strtoull(argv[5], NULL, 10);
    drr_status status = drr_traces_read(argv[2], keep, &p, &err);
    if (status == DRR_OK) /* its tables are made before the clock starts */
        status = drr_store_open(&store, argv[1], true, &err);
    drr_store_close(store);
    writer *all = calloc(writers, sizeof *all);
    if (status != DRR_OK || !all || p.n == 0) {
        fprintf(stderr, "store_append: %s\n", err.message);
        return 1;
    }
    const double began = clock_seconds();
    for (uint64_t i = 0; i < writers; i++) {
        all[i] =
            (writer){.store = argv[1], .pool = &p, .number = i, .n = n / writers, .group = strtoul(argv[4], NULL, 10)};
        if (pthread_create(&all[i].thread, NULL, run, &all[i]) != 0)
            abort();
    }
    for (uint64_t i = 0; i < writers; i++)
        pthread_join(all[i].thread, NULL);
    const double seconds = clock_seconds() - began;
    for (uint64_t i = 0; i < writers; i++)
        if (all[i].err.status != DRR_OK) {
            fprintf(stderr, "store_append: %s\n", all[i].err.message);
            return 1;
        }
    printf("%.1f\n", (double)(n / writers * writers) / seconds);
    for (size_t i = 0; i < p.n; i++)
        drr_trace_clear(&p.traces[i]);
    free(p.traces);
    free(all);
    return 0;
}
