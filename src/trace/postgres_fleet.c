/* postgres_fleet.c: the workers of a store and what is left to do, for `drr traces stats`. */
#include "trace/postgres_internal.h"

#include <stdlib.h>
#include <string.h>

void drr_fleet_clear(drr_fleet *fleet)
{
    for (size_t i = 0; i < fleet->n_workers; i++) {
        free(fleet->workers[i].name);
        free(fleet->workers[i].reasoner);
    }
    for (size_t i = 0; i < fleet->n_stuck; i++) {
        free(fleet->stuck[i].task);
        free(fleet->stuck[i].id);
        free(fleet->stuck[i].why);
    }
    free(fleet->workers);
    free(fleet->stuck);
    *fleet = (drr_fleet){0};
}

static drr_status read_units(drr_fleet *fleet, postgres_store *s, drr_error *err)
{
    queue_left left;
    PGresult *r = NULL;
    drr_status status = pg_count_units(s, NULL, NULL, &left, err);
    if (status == DRR_OK)
        status = pg_query(s, &r, "SELECT count(*) FROM drr_traces", 0, NULL, "counting traces", err);
    if (status == DRR_OK)
        *fleet = (drr_fleet){.todo = left.todo,
                             .held = left.held,
                             .done = left.done,
                             .failed = left.failed,
                             .aside = left.aside,
                             .traces = pg_uint(r, 0, 0)};
    PQclear(r);
    return status;
}

static drr_status read_workers(drr_fleet *fleet, postgres_store *s, drr_error *err)
{
    PGresult *r = NULL;
    drr_status status = pg_query(
        s, &r,
        "SELECT name, w.reasoner, extract(epoch FROM now()-seen), w.units, w.traces, w.tokens,"
        " extract(epoch FROM coalesce(left_at, seen)-started), CASE WHEN left_at IS NOT NULL THEN 1"
        " WHEN extract(epoch FROM now()-seen)>lease_s THEN 2 ELSE 0 END,"
        " (SELECT count(*) FROM drr_units u WHERE u.worker=w.name AND u.state=0) FROM drr_workers w ORDER BY started",
        0, NULL, "reading the workers", err);
    const int n = status == DRR_OK ? PQntuples(r) : 0;
    fleet->workers = calloc((size_t)n + 1, sizeof *fleet->workers);
    if (status == DRR_OK && !fleet->workers)
        status = error_memory(err);
    for (int i = 0; status == DRR_OK && i < n; i++) {
        drr_fleet_worker *w = &fleet->workers[fleet->n_workers++];
        *w = (drr_fleet_worker){.name = string_copy(PQgetvalue(r, i, 0)),
                                .reasoner = string_copy(PQgetvalue(r, i, 1)),
                                .silent_seconds = strtod(PQgetvalue(r, i, 2), NULL),
                                .units = pg_uint(r, i, 3),
                                .traces = pg_uint(r, i, 4),
                                .tokens = pg_uint(r, i, 5),
                                .seconds = strtod(PQgetvalue(r, i, 6), NULL),
                                .state = (drr_worker_state)pg_uint(r, i, 7),
                                .held = pg_uint(r, i, 8)};
        if (!w->name || !w->reasoner)
            status = error_memory(err);
    }
    PQclear(r);
    return status;
}

static drr_status read_stuck(drr_fleet *fleet, postgres_store *s, drr_error *err)
{
    enum { MOST = 20 };
    char limit[8];
    snprintf(limit, sizeof limit, "%d", MOST);
    const char *const values[] = {limit};
    PGresult *r = NULL;
    drr_status status =
        pg_query(s, &r,
                 "SELECT task, id, sample, state, coalesce(why, '') FROM drr_units WHERE state IN (2, 3)"
                 " ORDER BY state DESC, unit LIMIT $1::int",
                 1, values, "reading what is set aside", err);
    const int n = status == DRR_OK ? PQntuples(r) : 0;
    fleet->stuck = calloc((size_t)n + 1, sizeof *fleet->stuck);
    if (status == DRR_OK && !fleet->stuck)
        status = error_memory(err);
    for (int i = 0; status == DRR_OK && i < n; i++) {
        drr_fleet_unit *u = &fleet->stuck[fleet->n_stuck++];
        *u = (drr_fleet_unit){.task = string_copy(PQgetvalue(r, i, 0)),
                              .id = string_copy(PQgetvalue(r, i, 1)),
                              .sample = (uint32_t)pg_uint(r, i, 2),
                              .aside = pg_uint(r, i, 3) == 3,
                              .why = string_copy(PQgetvalue(r, i, 4))};
        if (!u->task || !u->id || !u->why)
            status = error_memory(err);
    }
    PQclear(r);
    return status;
}

drr_status drr_store_fleet(drr_store *store, drr_fleet *fleet, drr_error *err)
{
    *fleet = (drr_fleet){0};
    if (!store_has_queue(store))
        return error_set(err, DRR_E_ARGUMENT, "%s has no workers; only a store in PostgreSQL has", store->name);
    postgres_store *s = (postgres_store *)store;
    drr_status status = read_units(fleet, s, err);
    if (status == DRR_OK)
        status = read_workers(fleet, s, err);
    if (status == DRR_OK)
        status = read_stuck(fleet, s, err);
    if (status != DRR_OK)
        drr_fleet_clear(fleet);
    return status;
}
