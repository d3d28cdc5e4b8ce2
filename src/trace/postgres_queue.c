/* postgres_queue.c: the work queue in PostgreSQL: planning, claiming with leases, giving back. Claims skip rows that
 * others have locked, so workers do not wait for each other. All times are the server's. The fleet's table is
 * postgres_fleet.c's. */
#include "trace/postgres_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct queue {
    postgres_store *store;
    char *reasoner, *prompt;
    char name[160]; /* host:pid:chance */
    char lease[32]; /* seconds */
    double lease_s;
    atomic_uint_least64_t traces, tokens;
    /* the thread that prolongs, with a connection of its own */
    pthread_t thread;
    bool has_thread, stop; /* stop: under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    PGconn *db;
};

bool store_has_queue(const drr_store *store)
{
    return store->backend == &postgres_backend;
}

void queue_unit_clear(queue_unit *unit)
{
    free(unit->task);
    free(unit->id);
    free(unit->record);
    *unit = (queue_unit){0};
}

/* ---- planning */

/* Two statements of a pipeline, which queue_plan ends. */
static bool send_question(PGconn *db, const queue_question *q, const char *reasoner, const char *prompt,
                          const char *samples)
{
    const char *const record[] = {q->task, q->id, q->record};
    const char *const units[] = {reasoner, prompt, q->task, q->id, samples};
    return PQsendQueryParams(db,
                             "INSERT INTO drr_questions(task, id, record) VALUES($1, $2, $3) ON CONFLICT DO NOTHING", 3,
                             NULL, record, NULL, NULL, 0) == 1 &&
           PQsendQueryParams(db,
                             "INSERT INTO drr_units(reasoner, prompt, task, id, sample) SELECT $1, $2, $3, $4, s"
                             " FROM generate_series(0, $5::bigint-1) s ON CONFLICT DO NOTHING",
                             5, NULL, units, NULL, NULL, 0) == 1;
}

drr_status queue_plan(drr_store *store, const char *reasoner, const char *prompt, const queue_question *questions,
                      size_t n, uint32_t samples, drr_error *err)
{
    enum { PART = 100 }; /* questions of one round trip: their results fit into a socket's buffer */
    postgres_store *s = (postgres_store *)store;
    char number[16];
    snprintf(number, sizeof number, "%u", samples);
    drr_status status = store_batch_begin(store, err);
    for (size_t i = 0; i < n && status == DRR_OK; i += PART) {
        bool sent = PQenterPipelineMode(s->db) == 1;
        for (size_t k = i; k < n && k < i + PART && sent; k++)
            sent = send_question(s->db, &questions[k], reasoner, prompt, number);
        PGresult *bad = PQpipelineSync(s->db) == 1 ? pg_pipeline_read(s->db, 0, NULL) : NULL;
        const bool left = PQexitPipelineMode(s->db) == 1;
        if (!sent || bad || !left)
            status = pg_fail(s, bad, "planning", err);
        PQclear(bad);
    }
    if (status == DRR_OK)
        return store_batch_commit(store, err);
    store_batch_abandon(store);
    return status;
}

drr_status queue_reopen(drr_store *store, const char *reasoner, const char *prompt, bool done, drr_error *err)
{
    const char *const values[] = {reasoner, prompt, done ? "1" : "0"};
    return pg_query((postgres_store *)store, NULL,
                    "UPDATE drr_units SET state=0, tries=0, worker=NULL, lease_until=NULL, why=NULL"
                    " WHERE reasoner=$1 AND prompt=$2 AND (state IN (2, 3) OR (state=1 AND $3::int=1))",
                    3, values, "planning", err);
}

/* ---- staying alive */

static void wait_for(queue *q, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    const long nanoseconds = until.tv_nsec + (long)((seconds - (double)(long)seconds) * 1e9);
    until.tv_sec += (time_t)seconds + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&q->lock);
    while (!q->stop && pthread_cond_timedwait(&q->wake, &q->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&q->lock);
}

static bool stopping(queue *q)
{
    pthread_mutex_lock(&q->lock);
    const bool stop = q->stop;
    pthread_mutex_unlock(&q->lock);
    return stop;
}

static bool prolong(queue *q)
{
    char traces[24], tokens[24];
    snprintf(traces, sizeof traces, "%llu", (unsigned long long)atomic_load(&q->traces));
    snprintf(tokens, sizeof tokens, "%llu", (unsigned long long)atomic_load(&q->tokens));
    const char *const values[] = {q->name, q->lease, traces, tokens};
    return pg_try(q->db,
                  "WITH w AS (UPDATE drr_workers SET seen=now(), traces=$3::bigint, tokens=$4::bigint WHERE name=$1)"
                  " UPDATE drr_units SET lease_until=now()+make_interval(secs=>$2::double precision)"
                  " WHERE worker=$1 AND state=0",
                  4, values);
}

static void *keep_alive(void *user)
{
    queue *q = user;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* signals are the main thread's */
    while (!stopping(q)) {
        const bool good = prolong(q);
        if (!good)
            PQreset(q->db);
        wait_for(q, good ? q->lease_s / 4 : q->lease_s / 20);
    }
    return NULL;
}

drr_status queue_join(queue **joined, drr_store *store, const char *reasoner, const char *prompt, double lease_s,
                      drr_error *err)
{
    char host[80] = "";
    rng chance;
    queue *q = calloc(1, sizeof *q);
    if (!q)
        return error_memory(err);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    q->store = (postgres_store *)store;
    q->reasoner = string_copy(reasoner);
    q->prompt = string_copy(prompt);
    q->lease_s = lease_s;
    snprintf(q->lease, sizeof q->lease, "%.3f", lease_s);
    gethostname(host, sizeof host - 1);
    rng_seed(&chance, hash_mix((uint64_t)getpid(), (uint64_t)(clock_seconds() * 1e9)));
    snprintf(q->name, sizeof q->name, "%s:%ld:%04llx", host, (long)getpid(),
             (unsigned long long)(rng_next(&chance) & 0xffff));
    const char *const values[] = {q->name, reasoner, q->lease};
    drr_status status = q->reasoner && q->prompt ? pg_connect(&q->db, store, err) : error_memory(err);
    if (status == DRR_OK)
        status = pg_query(q->store, NULL,
                          "INSERT INTO drr_workers(name, reasoner, lease_s) VALUES($1, $2, $3::double precision)"
                          " ON CONFLICT DO NOTHING",
                          3, values, "joining the workers", err);
    if (status == DRR_OK) {
        q->has_thread = pthread_create(&q->thread, NULL, keep_alive, q) == 0;
        if (!q->has_thread)
            status = error_set(err, DRR_E_LIMIT, "no thread could be started to hold the store's leases");
    }
    if (status == DRR_OK)
        *joined = q;
    else
        queue_leave(q);
    return status;
}

/* This counts as no try. */
#define GIVE_BACK                                                                                                      \
    " UPDATE drr_units SET worker=NULL, lease_until=NULL, tries=greatest(tries-1, 0) WHERE worker=$1 AND state=0"

void queue_leave(queue *q)
{
    if (!q)
        return;
    if (q->has_thread) {
        pthread_mutex_lock(&q->lock);
        q->stop = true;
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
        prolong(q); /* the last totals */
        const char *const name[] = {q->name};
        pg_try(q->db, "WITH w AS (UPDATE drr_workers SET left_at=now() WHERE name=$1)" GIVE_BACK, 1, name);
    }
    PQfinish(q->db);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->wake);
    free(q->reasoner);
    free(q->prompt);
    free(q);
}

void queue_note(queue *q, uint64_t traces, uint64_t tokens)
{
    atomic_store(&q->traces, traces);
    atomic_store(&q->tokens, tokens);
}

/* ---- claiming */

/* What silent workers held is free again, or set aside where it was one too many. */
static drr_status reap(queue *q, drr_error *err)
{
    char most[16];
    snprintf(most, sizeof most, "%d", QUEUE_TRIES);
    const char *const values[] = {most};
    return pg_query(q->store, NULL,
                    "UPDATE drr_units SET worker=NULL, lease_until=NULL,"
                    " state=CASE WHEN tries>=$1::int THEN 3 ELSE 0 END,"
                    " why=CASE WHEN tries>=$1::int THEN 'its worker died '||tries||' times' ELSE why END"
                    " WHERE unit IN (SELECT unit FROM drr_units WHERE state=0 AND worker IS NOT NULL AND"
                    " lease_until<now() ORDER BY unit FOR UPDATE SKIP LOCKED)",
                    1, values, "looking for lost work", err);
}

static drr_status take_rows(queue_unit *units, size_t most, bool last_try, const PGresult *r, size_t *n, drr_error *err)
{
    *n = 0;
    for (int i = 0; i < PQntuples(r) && *n < most; i++) {
        queue_unit *u = &units[(*n)++];
        *u = (queue_unit){.number = strtoll(PQgetvalue(r, i, 0), NULL, 10),
                          .task = string_copy(PQgetvalue(r, i, 1)),
                          .id = string_copy(PQgetvalue(r, i, 2)),
                          .sample = (uint32_t)pg_uint(r, i, 3),
                          .record = string_copy(PQgetvalue(r, i, 4)),
                          .last_try = last_try};
        if (!u->task || !u->id || !u->record) {
            while (*n)
                queue_unit_clear(&units[--*n]);
            return error_memory(err);
        }
    }
    return DRR_OK;
}

/* A claim whose answer was lost with the connection leaves units that this worker holds and does not know of:
 * queue_release gives them back. */
static drr_status claim(queue *q, queue_unit *units, size_t most, bool last_try, size_t *n, drr_error *err)
{
    char number[24], low[16], high[16];
    snprintf(number, sizeof number, "%zu", most);
    snprintf(low, sizeof low, "%d", last_try ? QUEUE_TRIES - 1 : 0);
    snprintf(high, sizeof high, "%d", last_try ? QUEUE_TRIES : QUEUE_TRIES - 1);
    const char *const values[] = {q->name, q->lease, q->reasoner, q->prompt, number, low, high};
    PGresult *r = NULL;
    drr_status status =
        pg_query(q->store, &r,
                 "WITH c AS (SELECT unit FROM drr_units WHERE state=0 AND worker IS NULL AND reasoner=$3 AND prompt=$4"
                 " AND tries>=$6::int AND tries<$7::int ORDER BY tries, unit LIMIT $5::bigint FOR UPDATE SKIP LOCKED),"
                 " u AS (UPDATE drr_units SET worker=$1, tries=tries+1,"
                 " lease_until=now()+make_interval(secs=>$2::double precision) FROM c WHERE drr_units.unit=c.unit"
                 " RETURNING drr_units.unit, drr_units.task, drr_units.id, drr_units.sample)"
                 " SELECT u.unit, u.task, u.id, u.sample, record FROM u JOIN drr_questions USING(task, id)"
                 " ORDER BY u.unit",
                 7, values, "claiming work", err);
    if (status == DRR_OK)
        status = take_rows(units, most, last_try, r, n, err);
    PQclear(r);
    return status;
}

drr_status queue_claim(queue *q, queue_unit *units, size_t most, bool idle, size_t *n, drr_error *err)
{
    *n = 0;
    drr_status status = reap(q, err);
    if (status == DRR_OK)
        status = claim(q, units, most, false, n, err);
    if (status == DRR_OK && *n == 0 && idle)
        status = claim(q, units, 1, true, n, err);
    return status;
}

/* ---- the end of a unit */

/* The fact is read with a lock that keeps a plan from changing it until this is committed. So either the plan comes
 * first, and is seen here, or it comes later, and finds these units done when it reopens what is done. */
drr_status queue_done(queue *q, const int64_t *numbers, size_t n, const char *endings, bool *stale, drr_error *err)
{
    buffer list = {0};
    PGresult *r = NULL;
    drr_status status = buffer_puts(&list, "{", err);
    for (size_t i = 0; i < n && status == DRR_OK; i++)
        status = buffer_printf(&list, err, "%s%lld", i ? "," : "", (long long)numbers[i]);
    if (status == DRR_OK)
        status = buffer_puts(&list, "}", err);
    const char *const values[] = {q->name, list.data, endings};
    if (status == DRR_OK && n)
        status = pg_query(q->store, &r,
                          "WITH f AS (SELECT 1 FROM drr_facts WHERE name='" QUEUE_ENDINGS "' AND value=$3 FOR SHARE),"
                          " c AS (SELECT count(*)::int AS same FROM f),"
                          " d AS (UPDATE drr_units SET state=same, tries=greatest(tries-1+same, 0), worker=NULL,"
                          " lease_until=NULL, why=NULL FROM c WHERE unit=ANY($2::bigint[]) AND worker=$1 AND state=0"
                          " RETURNING state), w AS (UPDATE drr_workers SET"
                          " units=units+(SELECT count(*) FROM d WHERE state=1) WHERE name=$1) SELECT same FROM c",
                          3, values, "marking work as done", err);
    if (r && pg_uint(r, 0, 0) == 0)
        *stale = true;
    PQclear(r);
    buffer_clear(&list);
    return status;
}

drr_status queue_failed(queue *q, int64_t number, const char *why, drr_error *err)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    const char *const values[] = {q->name, text, why};
    return pg_query(q->store, NULL,
                    "UPDATE drr_units SET state=2, worker=NULL, lease_until=NULL, why=$3"
                    " WHERE unit=$2::bigint AND worker=$1 AND state=0",
                    3, values, "marking work as failed", err);
}

drr_status queue_release(queue *q, drr_error *err)
{
    const char *const values[] = {q->name};
    return pg_query(q->store, NULL, GIVE_BACK, 1, values, "giving work back", err);
}

drr_status pg_count_units(postgres_store *s, const char *reasoner, const char *prompt, queue_left *left, drr_error *err)
{
    const char *const values[] = {reasoner, prompt};
    PGresult *r = NULL;
    const drr_status status = pg_query(s, &r,
                                       "SELECT count(*) FILTER (WHERE state=0 AND worker IS NULL),"
                                       " count(*) FILTER (WHERE state=0 AND worker IS NOT NULL),"
                                       " count(*) FILTER (WHERE state=1), count(*) FILTER (WHERE state=2),"
                                       " count(*) FILTER (WHERE state=3) FROM drr_units"
                                       " WHERE ($1::text IS NULL OR reasoner=$1) AND ($2::text IS NULL OR prompt=$2)",
                                       2, values, "counting work", err);
    if (status == DRR_OK)
        *left = (queue_left){.todo = pg_uint(r, 0, 0),
                             .held = pg_uint(r, 0, 1),
                             .done = pg_uint(r, 0, 2),
                             .failed = pg_uint(r, 0, 3),
                             .aside = pg_uint(r, 0, 4)};
    PQclear(r);
    return status;
}

drr_status queue_left_read(queue *q, queue_left *left, drr_error *err)
{
    return pg_count_units(q->store, q->reasoner, q->prompt, left, err);
}
