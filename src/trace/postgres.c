/* postgres.c: the trace store in PostgreSQL, for many workers on many machines: connecting, schema, appending, facts.
 * The key is SQLite's: (task, id, reasoner, prompt, sample, turn), so an append may be repeated. A server that restarts
 * is waited for. Reading is postgres_read.c's, the work queue postgres_queue.c's. */
#include "trace/postgres_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_S = 60, MOST_IN_PIPELINE = 256 };

/* Step n brings a store from version n to n + 1. Steps are never edited, only added. Collation "C" orders text as
 * SQLite does, byte by byte. */
static const char *const migrations[] = {
    "CREATE TABLE drr_traces("
    " task text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, reasoner text COLLATE \"C\" NOT NULL,"
    " prompt text COLLATE \"C\" NOT NULL, sample bigint NOT NULL, turn bigint NOT NULL, question text NOT NULL,"
    " gold text NOT NULL, kind int NOT NULL, seed bigint NOT NULL, feedback text, forced int NOT NULL,"
    " text text NOT NULL, answer text, label int NOT NULL, finish int NOT NULL, n_prompt_tokens bigint NOT NULL,"
    " n_tokens bigint NOT NULL, seconds double precision, temperature real, lp_n bigint NOT NULL,"
    " lp_answer_n bigint NOT NULL, lp_mean real, lp_min real, lp_tail_mean real, lp_entropy_mean real,"
    " lp_answer_mean real, lp_answer_min real, lp_answer_entropy real, lp_answer_margin real,"
    " PRIMARY KEY(task, id, sample, turn, reasoner, prompt));"
    "CREATE TABLE drr_facts(name text PRIMARY KEY, value text NOT NULL);"
    "CREATE TABLE drr_questions(task text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, record text NOT NULL,"
    " PRIMARY KEY(task, id));"
    /* state: 0 to do, 1 done, 2 failed, 3 set aside */
    "CREATE TABLE drr_units(unit bigserial PRIMARY KEY, reasoner text NOT NULL, prompt text NOT NULL,"
    " task text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, sample bigint NOT NULL,"
    " state int NOT NULL DEFAULT 0, tries int NOT NULL DEFAULT 0, worker text, lease_until timestamptz, why text,"
    " UNIQUE(task, id, sample, reasoner, prompt));"
    "CREATE INDEX drr_units_free ON drr_units(reasoner, prompt, tries, unit) WHERE state=0 AND worker IS NULL;"
    "CREATE INDEX drr_units_leased ON drr_units(worker) WHERE state=0 AND worker IS NOT NULL;"
    "CREATE TABLE drr_workers(name text PRIMARY KEY, reasoner text NOT NULL, started timestamptz NOT NULL DEFAULT "
    "now(),"
    " seen timestamptz NOT NULL DEFAULT now(), lease_s double precision NOT NULL, left_at timestamptz,"
    " units bigint NOT NULL DEFAULT 0, traces bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0);",
    "ALTER TABLE drr_traces ADD COLUMN steps text, ADD COLUMN steps_rollouts bigint NOT NULL DEFAULT 0,"
    " ADD COLUMN steps_tokens bigint NOT NULL DEFAULT 0;",
    "ALTER TABLE drr_traces ADD COLUMN hidden bytea;",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

/* ---- errors */

static const char *first_line(char *line, size_t size, const char *text)
{
    static const char *const levels[] = {"ERROR:  ", "FATAL:  ", "PANIC:  "};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strncmp(text, levels[i], strlen(levels[i])) == 0)
            text += strlen(levels[i]);
    snprintf(line, size, "%.*s", (int)strcspn(text, "\n"), text);
    return line;
}

drr_status pg_fail(const postgres_store *s, const PGresult *r, const char *doing, drr_error *err)
{
    char line[300];
    const char *code = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *words = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    first_line(line, sizeof line, words ? words : s->db ? PQerrorMessage(s->db) : "out of memory");
    if (code && strcmp(code, "53100") == 0)
        return error_set(err, DRR_E_IO,
                         "%s: the server's disk is full while %s; free some space and run the same command again, "
                         "nothing committed is lost",
                         s->base.name, doing);
    if (code && (strncmp(code, "42501", 5) == 0 || strncmp(code, "25006", 5) == 0))
        return error_set(err, DRR_E_IO, "%s: this user may not do that (%s, while %s); grant it, or name another user",
                         s->base.name, line, doing);
    if (code && (strcmp(code, "22021") == 0 || strcmp(code, "22P05") == 0))
        return error_set(err, DRR_E_FORMAT, "%s: a text is not in the database's encoding (%s, while %s)", s->base.name,
                         line, doing);
    if (!code)
        return error_set(err, DRR_E_IO,
                         "%s: the connection is gone (%s, while %s); when the server is back run the same command "
                         "again, nothing committed is lost",
                         s->base.name, line, doing);
    return error_set(err, DRR_E_IO, "%s: %s while %s", s->base.name, line, doing);
}

/* ---- connecting */

static void hear_nothing(void *user, const char *message)
{
    (void)user;
    (void)message;
}

/* Refuses a password in the URL, which every user of the machine could read in the list of processes. What libpq says
 * of a URL it cannot read may quote it, so it is not repeated. */
static drr_status check_url(const char *url, drr_error *err)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    drr_status status = DRR_OK;
    if (!options)
        return error_set(err, DRR_E_ARGUMENT,
                         "the store's URL cannot be understood; it is postgres://USER@HOST:PORT/DATABASE, with "
                         "characters such as @ and / in a name written %%40 and %%2F");
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (o->val && *o->val && (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0))
            status = error_set(err, DRR_E_ARGUMENT,
                               "the store's URL carries a password, which others can read in the list of processes; "
                               "leave it out and set PGPASSWORD, or write it into ~/.pgpass (mode 0600)");
    PQconninfoFree(options);
    return status;
}

static PGconn *connect_once(const char *url)
{
    /* A dead peer is noticed within a minute. What the URL says of these itself comes later and counts. */
    const char *const keywords[] = {"fallback_application_name", "connect_timeout",  "keepalives_idle",
                                    "keepalives_interval",       "keepalives_count", "tcp_user_timeout",
                                    "client_encoding",           "dbname",           NULL};
    const char *const values[] = {"drr", "10", "20", "10", "3", "40000", "UTF8", url, NULL};
    PGconn *db = PQconnectdbParams(keywords, values, 1);
    if (db)
        PQsetNoticeProcessor(db, hear_nothing, NULL);
    return db;
}

static drr_status refuse_connection(PGconn *db, const char *name, drr_error *err)
{
    char line[300];
    first_line(line, sizeof line, db ? PQerrorMessage(db) : "out of memory");
    PQfinish(db);
    return error_set(err, DRR_E_IO,
                     "%s cannot be reached (%s); is the server running, does the database exist, and may this user "
                     "connect (PGPASSWORD or ~/.pgpass hold a password)?",
                     name, line);
}

drr_status pg_connect(PGconn **db, const drr_store *store, drr_error *err)
{
    *db = connect_once(store->name);
    if (*db && PQstatus(*db) == CONNECTION_OK)
        return DRR_OK;
    const drr_status status = refuse_connection(*db, store->name, err);
    *db = NULL;
    return status;
}

bool pg_try(PGconn *db, const char *sql, int n, const char *const *values)
{
    PGresult *r = PQexecParams(db, sql, n, NULL, values, NULL, NULL, 0);
    const ExecStatusType code = PQresultStatus(r);
    PQclear(r);
    return code == PGRES_COMMAND_OK || code == PGRES_TUPLES_OK;
}

/* Commits wait for the disk, whatever the database's default is; a store that is only read cannot be changed. */
static bool begin_session(postgres_store *s)
{
    s->prepared = false;
    return pg_try(s->db, "SET synchronous_commit=on", 0, NULL) &&
           (!s->base.reads_only || pg_try(s->db, "SET default_transaction_read_only=on", 0, NULL));
}

/* What the server itself says has a code; what libpq says of a broken connection has none, even where it does not call
 * the connection bad yet. 57P: the server is stopping or starting. */
static bool is_lost(const postgres_store *s, const PGresult *r)
{
    const char *code = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    return PQstatus(s->db) == CONNECTION_BAD || !code || strncmp(code, "57P", 3) == 0 || strncmp(code, "08", 2) == 0;
}

/* What may simply be done again: a deadlock's victim, a serialization failure. */
static bool is_passing(const PGresult *r)
{
    const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    return code && (strcmp(code, "40001") == 0 || strcmp(code, "40P01") == 0);
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

/* After a failure, r or NULL: OK when the same may be tried again. *since_s: of the first failure; 0 before it. */
static drr_status before_retry(postgres_store *s, const PGresult *r, double *since_s, const char *doing, drr_error *err)
{
    const bool lost = is_lost(s, r);
    if (*since_s <= 0)
        *since_s = clock_seconds();
    if (s->batch || !(lost || is_passing(r)))
        return pg_fail(s, r, doing, err);
    for (unsigned ms = 100; clock_seconds() - *since_s < PATIENCE_S; ms = ms < 2000 ? 2 * ms : ms) {
        pause_ms(ms);
        if (!lost)
            return DRR_OK;
        PQreset(s->db);
        if (PQstatus(s->db) == CONNECTION_OK && begin_session(s))
            return DRR_OK;
    }
    return pg_fail(s, NULL, doing, err);
}

drr_status pg_query(postgres_store *s, PGresult **result, const char *sql, int n, const char *const *values,
                    const char *doing, drr_error *err)
{
    for (double since_s = 0;;) {
        PGresult *r = PQexecParams(s->db, sql, n, NULL, values, NULL, NULL, 0);
        const ExecStatusType code = PQresultStatus(r);
        if (code == PGRES_COMMAND_OK || code == PGRES_TUPLES_OK) {
            if (result)
                *result = r;
            else
                PQclear(r);
            return DRR_OK;
        }
        const drr_status status = before_retry(s, r, &since_s, doing, err);
        PQclear(r);
        if (status != DRR_OK)
            return status;
    }
}

uint64_t pg_uint(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? 0 : strtoull(PQgetvalue(r, row, column), NULL, 10);
}

/* ---- schema */

static drr_status read_version(postgres_store *s, int *version, drr_error *err)
{
    PGresult *r = NULL;
    *version = 0;
    drr_status status = pg_query(s, &r, "SELECT to_regclass('drr_schema') IS NOT NULL", 0, NULL, "opening", err);
    const bool present = status == DRR_OK && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    r = NULL;
    if (present)
        status = pg_query(s, &r, "SELECT max(version) FROM drr_schema", 0, NULL, "opening", err);
    if (present && status == DRR_OK)
        *version = (int)pg_uint(r, 0, 0);
    PQclear(r);
    return status;
}

/* Several statements at once. */
static drr_status run_script(postgres_store *s, const char *sql, drr_error *err)
{
    PGresult *r = PQexec(s->db, sql);
    const ExecStatusType code = PQresultStatus(r);
    const drr_status status =
        code == PGRES_COMMAND_OK || code == PGRES_TUPLES_OK ? DRR_OK : pg_fail(s, r, "making the tables", err);
    PQclear(r);
    return status;
}

/* Of two processes that find an old store, the second waits for the first and then has nothing to do. */
static drr_status migrate(postgres_store *s, drr_error *err)
{
    int version = 0;
    drr_status status = run_script(s, "BEGIN; SELECT pg_advisory_xact_lock(hashtext('drr_schema'))", err);
    s->batch = true;
    if (status == DRR_OK)
        status = run_script(s, "CREATE TABLE IF NOT EXISTS drr_schema(version int NOT NULL)", err);
    if (status == DRR_OK)
        status = read_version(s, &version, err);
    for (; status == DRR_OK && version < SCHEMA_VERSION; version++)
        status = run_script(s, migrations[version], err);
    if (status == DRR_OK) {
        char sql[128];
        snprintf(sql, sizeof sql, "DELETE FROM drr_schema; INSERT INTO drr_schema VALUES(%d); COMMIT", SCHEMA_VERSION);
        status = run_script(s, sql, err);
    }
    if (status != DRR_OK)
        PQclear(PQexec(s->db, "ROLLBACK"));
    s->batch = false;
    return status;
}

static drr_status check_schema(postgres_store *s, bool create, drr_error *err)
{
    int version;
    drr_status status = read_version(s, &version, err);
    if (status != DRR_OK || version == SCHEMA_VERSION)
        return status;
    if (version > SCHEMA_VERSION)
        return error_set(err, DRR_E_MISMATCH,
                         "%s was written by a newer drr (store version %d, this one knows %d); update drr, or export "
                         "the traces with the newer one",
                         s->base.name, version, SCHEMA_VERSION);
    if (version == 0 && !create)
        return error_set(err, DRR_E_NOT_FOUND, "%s holds no traces of drr; `drr distill --store` makes its tables",
                         s->base.name);
    s->base.version = s->base.reads_only ? version : 0; /* an older drr's, which reading must not change */
    return s->base.version ? DRR_OK : migrate(s, err);
}

drr_status store_open_postgres(drr_store **store, const char *url, bool create, bool reads_only, drr_error *err)
{
    drr_status status = check_url(url, err);
    postgres_store *s = status == DRR_OK ? calloc(1, sizeof *s) : NULL;
    if (status != DRR_OK)
        return status;
    if (!s)
        return error_memory(err);
    s->base = (drr_store){.backend = &postgres_backend, .name = string_copy(url), .reads_only = reads_only};
    status = s->base.name ? pg_connect(&s->db, &s->base, err) : error_memory(err);
    if (status == DRR_OK && !begin_session(s))
        status = pg_fail(s, NULL, "opening", err);
    if (status == DRR_OK)
        status = check_schema(s, create, err);
    if (status == DRR_OK)
        *store = &s->base;
    else
        postgres_backend.close(&s->base);
    return status;
}

static void close_store(drr_store *store)
{
    postgres_store *s = (postgres_store *)store;
    PQfinish(s->db);
    free(store->name);
    free(s);
}

const char *store_libpq_version(void)
{
    static char version[24];
    snprintf(version, sizeof version, "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
    return version;
}

/* ---- appending */

enum { HIDDEN_COLUMN = N_TRACE_COLUMNS - 1 };
#define APPEND_SQL                                                                                                     \
    "INSERT INTO drr_traces(" TRACE_COLUMNS ") VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18," \
    "$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34) ON CONFLICT DO NOTHING"

/* A trace as text parameters; numbers are written into `room`. steps: of the trace as text, or NULL; hidden states are
 * bytes, whose length the caller says. */
static void bind_trace(const char *values[N_TRACE_COLUMNS], char room[N_TRACE_COLUMNS][32], const drr_trace *t,
                       const char *steps)
{
    const drr_token_stats *p = &t->stats;
    const struct {
        int at;
        const char *text;
    } texts[] = {{0, t->task},     {1, t->id},   {2, t->reasoner}, {3, t->prompt},
                 {6, t->question}, {7, t->gold}, {12, t->text}};
    const long long whole[][2] = {{4, t->sample},
                                  {5, t->turn},
                                  {8, (long long)t->kind},
                                  {9, (long long)t->seed},
                                  {11, t->forced},
                                  {14, (long long)t->label},
                                  {15, (long long)t->finish},
                                  {16, t->n_prompt_tokens},
                                  {17, t->n_tokens},
                                  {20, p->n},
                                  {21, p->answer_n},
                                  {31, steps ? t->steps_rollouts : 0},
                                  {32, steps ? t->steps_tokens : 0}};
    const float reals[] = {p->mean,        p->min,        p->tail_mean,      p->entropy_mean,
                           p->answer_mean, p->answer_min, p->answer_entropy, p->answer_margin};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        values[texts[i].at] = texts[i].text ? texts[i].text : "";
    values[10] = t->feedback;
    values[13] = t->answer;
    values[30] = steps;
    values[HIDDEN_COLUMN] = t->hidden;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        snprintf(room[whole[i][0]], sizeof *room, "%lld", whole[i][1]);
        values[whole[i][0]] = room[whole[i][0]];
    }
    snprintf(room[18], sizeof *room, "%.17g", t->seconds);
    snprintf(room[19], sizeof *room, "%.9g", (double)t->temperature);
    values[18] = isnan(t->seconds) ? NULL : room[18];
    values[19] = isnan(t->temperature) ? NULL : room[19];
    for (int i = 0; i < 8; i++) {
        snprintf(room[22 + i], sizeof *room, "%.9g", (double)reals[i]);
        values[22 + i] = p->n && !isnan(reals[i]) ? room[22 + i] : NULL;
    }
}

static bool send_traces(postgres_store *s, const drr_trace *const *traces, size_t n)
{
    char room[N_TRACE_COLUMNS][32];
    const char *values[N_TRACE_COLUMNS];
    int sizes[N_TRACE_COLUMNS] = {0}, binary[N_TRACE_COLUMNS] = {[HIDDEN_COLUMN] = 1};
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        char *steps = NULL;
        good = trace_steps_to_text(&steps, traces[i], NULL) == DRR_OK;
        bind_trace(values, room, traces[i], steps);
        sizes[HIDDEN_COLUMN] = (int)traces[i]->hidden_size;
        good = good && PQsendQueryPrepared(s->db, "append", N_TRACE_COLUMNS, values, sizes, binary, 0) == 1;
        free(steps);
    }
    return PQpipelineSync(s->db) == 1 && good;
}

PGresult *pg_pipeline_read(PGconn *db, size_t n, bool *added)
{
    PGresult *bad = NULL;
    size_t i = 0;
    for (int n_null = 0; n_null < 2;) {
        PGresult *r = PQgetResult(db);
        const ExecStatusType code = PQresultStatus(r);
        n_null = r ? 0 : n_null + 1;
        if (r && code == PGRES_PIPELINE_SYNC) {
            PQclear(r);
            break;
        }
        if (r && code == PGRES_COMMAND_OK && i < n && added)
            added[i] = PQcmdTuples(r)[0] == '1';
        i += r != NULL;
        if (r && code != PGRES_COMMAND_OK && !bad)
            bad = r;
        else
            PQclear(r);
    }
    return bad;
}

/* Between two synchronisation points all is one transaction: n inserts, one commit, one round trip. */
static drr_status append_once(postgres_store *s, const drr_trace *const *traces, size_t n, bool *added, PGresult **bad)
{
    *bad = NULL;
    if (!s->prepared) {
        PGresult *r = PQprepare(s->db, "append", APPEND_SQL, N_TRACE_COLUMNS, NULL);
        s->prepared = PQresultStatus(r) == PGRES_COMMAND_OK;
        if (!s->prepared) {
            *bad = r;
            return DRR_E_IO;
        }
        PQclear(r);
    }
    if (PQenterPipelineMode(s->db) != 1)
        return DRR_E_IO;
    const bool sent = send_traces(s, traces, n);
    *bad = pg_pipeline_read(s->db, n, added);
    const bool left = PQexitPipelineMode(s->db) == 1; /* fails where the synchronisation point was not reached */
    return sent && !*bad && left ? DRR_OK : DRR_E_IO;
}

static drr_status append_part(postgres_store *s, const drr_trace *const *traces, size_t n, bool *added, drr_error *err)
{
    static const char doing[] = "appending a trace";
    for (double since_s = 0;;) {
        PGresult *bad;
        if (append_once(s, traces, n, added, &bad) == DRR_OK)
            return DRR_OK;
        const drr_status status = before_retry(s, bad, &since_s, doing, err);
        PQclear(bad);
        if (status != DRR_OK)
            return status;
    }
}

static drr_status steps_set(drr_store *store, const drr_trace *t, const char *steps, drr_error *err)
{
    char numbers[4][16];
    const uint32_t counts[] = {t->sample, t->turn, t->steps_rollouts, t->steps_tokens};
    for (int i = 0; i < 4; i++)
        snprintf(numbers[i], sizeof *numbers, "%u", counts[i]);
    const char *const values[] = {t->task,    t->id, t->reasoner, t->prompt, numbers[0],
                                  numbers[1], steps, numbers[2],  numbers[3]};
    return pg_query(
        (postgres_store *)store, NULL,
        "UPDATE drr_traces SET steps=$7, steps_rollouts=$8::bigint, steps_tokens=$9::bigint WHERE task=$1 "
        "AND id=$2 AND reasoner=$3 AND prompt=$4 AND sample=$5::bigint AND turn=$6::bigint AND steps IS NULL",
        9, values, "writing the steps of a trace", err);
}

static drr_status run_in_batch(postgres_store *s, const char *sql, drr_error *err)
{
    return pg_query(s, NULL, sql, 0, NULL, "writing", err);
}

static void abandon(drr_store *store)
{
    postgres_store *s = (postgres_store *)store;
    if (s->batch)
        PQclear(PQexec(s->db, "ROLLBACK"));
    s->batch = false;
}

static drr_status begin(drr_store *store, drr_error *err)
{
    postgres_store *s = (postgres_store *)store;
    drr_status status = run_in_batch(s, "BEGIN", err);
    if (status != DRR_OK)
        return status;
    s->batch = true;
    status = run_in_batch(s, "SELECT pg_advisory_xact_lock(hashtext('drr_batch'))", err);
    if (status != DRR_OK)
        abandon(store);
    return status;
}

static drr_status commit(drr_store *store, drr_error *err)
{
    postgres_store *s = (postgres_store *)store;
    const drr_status status = run_in_batch(s, "COMMIT", err);
    if (status != DRR_OK)
        abandon(store);
    s->batch = false;
    return status;
}

static drr_status append(drr_store *store, const drr_trace *const *traces, size_t n, bool *added, drr_error *err)
{
    postgres_store *s = (postgres_store *)store;
    if (n <= MOST_IN_PIPELINE)
        return append_part(s, traces, n, added, err);
    const bool own = !s->batch;
    drr_status status = own ? begin(store, err) : DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i += MOST_IN_PIPELINE) {
        const size_t m = n - i < MOST_IN_PIPELINE ? n - i : MOST_IN_PIPELINE;
        status = append_part(s, traces + i, m, added ? added + i : NULL, err);
    }
    if (own && status == DRR_OK)
        return commit(store, err);
    if (own)
        abandon(store);
    return status;
}

/* ---- facts */

static drr_status fact_get(drr_store *store, const char *name, char **value, drr_error *err)
{
    PGresult *r = NULL;
    drr_status status =
        pg_query((postgres_store *)store, &r, "SELECT value FROM drr_facts WHERE name=$1", 1, &name, "reading", err);
    if (status == DRR_OK && PQntuples(r) > 0 && !(*value = string_copy(PQgetvalue(r, 0, 0))))
        status = error_memory(err);
    PQclear(r);
    return status;
}

static drr_status fact_set(drr_store *store, const char *name, const char *value, drr_error *err)
{
    const char *const values[] = {name, value};
    return pg_query((postgres_store *)store, NULL,
                    "INSERT INTO drr_facts(name, value) VALUES($1, $2) ON CONFLICT(name) DO UPDATE SET value=$2", 2,
                    values, "writing", err);
}

const store_backend postgres_backend = {
    .close = close_store,
    .append = append,
    .steps_set = steps_set,
    .batch_begin = begin,
    .batch_commit = commit,
    .batch_abandon = abandon,
    .each = pg_each,
    .counts = pg_counts,
    .sample_turns = pg_sample_turns,
    .questions = pg_questions,
    .fact_get = fact_get,
    .fact_set = fact_set,
};
