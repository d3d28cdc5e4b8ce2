/* record.c: judged traffic, appended to a trace store. The engine's thread copies a finished request and goes on; the
 * recorder's takes what waits, redacts it (record_redact.c) and writes it with one commit. Nothing of a server's work
 * depends on it: what cannot be written is counted, warned of now and then, and gone. */
#include "serve/record.h"
#include "serve/record_redact.h"
#include "trace/trace.h"

#include <curl/curl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, QUIET_SECONDS = 60 };

typedef struct entry { /* a request: its turns, and its body where something of it has to be redacted */
    struct entry *next;
    drr_trace *turns;
    size_t n_turns, bytes;
    json_t *request;
} entry;

struct recorder {
    drr_store *store;
    char *name, *reasoner, *place; /* place: HOST:PORT of the upstream; reasoner: NULL, or that of all requests */
    redaction redact;
    char **fields;
    drr_hooks hooks;
    metrics *counts;
    size_t queue_bytes;
    double warned_s; /* on either thread, under the lock */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    entry *first, **last; /* under the lock, as all below */
    size_t waiting_bytes;
    uint64_t n_written, n_lost;
    bool closing;
};

void recorder_options_defaults(recorder_options *options)
{
    *options = (recorder_options){.queue_bytes = (size_t)64 << 20};
}

static void free_entry(entry *e)
{
    for (size_t i = 0; e && i < e->n_turns; i++)
        drr_trace_clear(&e->turns[i]);
    if (e) {
        free(e->turns);
        json_decref(e->request);
    }
    free(e);
}

/* Counts lost turns; a warning now and then, for a full disk stays full for long. */
static void lose(recorder *r, uint64_t n, const char *why)
{
    const double now = clock_seconds();
    pthread_mutex_lock(&r->lock);
    r->n_lost += n;
    const uint64_t lost = r->n_lost;
    const bool quiet = now - r->warned_s < QUIET_SECONDS;
    if (!quiet)
        r->warned_s = now;
    pthread_mutex_unlock(&r->lock);
    metrics_recorded(r->counts, 0, n);
    if (!quiet)
        hooks_log(&r->hooks, DRR_LOG_WARN, "recording: %s; turns that are not recorded so far: %llu", why,
                  (unsigned long long)lost);
}

/* ---- the writing thread */

static drr_status redact_entry(recorder *r, entry *e, drr_error *err)
{
    drr_status status = redaction_learn(&r->redact, e->request, err);
    for (size_t i = 0; i < e->n_turns && status == DRR_OK; i++) {
        char **const texts[] = {&e->turns[i].question, &e->turns[i].text, &e->turns[i].answer, &e->turns[i].feedback};
        for (size_t k = 0; k < sizeof texts / sizeof *texts && status == DRR_OK; k++)
            status = redaction_apply(&r->redact, texts[k], err);
    }
    return status;
}

/* A client chooses its request's id, and may choose one twice: the second is another request, so it gets a name of its
 * own, whole. */
static drr_status append_entry(recorder *r, entry *e, drr_error *err)
{
    bool added = false;
    drr_status status = drr_store_append(r->store, &e->turns[0], &added, err);
    char *chosen = added || status != DRR_OK ? NULL : string_copy(e->turns[0].id);
    if (!added && status == DRR_OK && !chosen)
        status = error_memory(err);
    for (unsigned again = 2; status == DRR_OK && !added; again++) {
        buffer id = {0};
        status = buffer_printf(&id, err, "%s~%u", chosen, again);
        if (status == DRR_OK && again > 9) /* who repeats that much gets a number that nobody has */
            status = buffer_printf(&id, err, ".%llx",
                                   (unsigned long long)hash_mix((uint64_t)(clock_seconds() * 1e9), again));
        if (status != DRR_OK) {
            buffer_clear(&id);
            break;
        }
        free(e->turns[0].id);
        e->turns[0].id = buffer_take(&id);
        status = drr_store_append(r->store, &e->turns[0], &added, err);
    }
    free(chosen);
    for (size_t i = 1; i < e->n_turns && status == DRR_OK; i++) {
        free(e->turns[i].id);
        e->turns[i].id = string_copy(e->turns[0].id);
        status = e->turns[i].id ? drr_store_append(r->store, &e->turns[i], &added, err) : error_memory(err);
    }
    return status;
}

static void write_entries(recorder *r, entry *list)
{
    drr_error err = {0};
    uint64_t n = 0;
    drr_status status = DRR_OK;
    for (entry *e = list; e; e = e->next)
        n += e->n_turns;
    if (r->redact.n_names)
        for (entry *e = list; e && status == DRR_OK; e = e->next)
            status = redact_entry(r, e, &err);
    if (status == DRR_OK)
        status = store_batch_begin(r->store, &err);
    for (entry *e = list; e && status == DRR_OK; e = e->next)
        status = append_entry(r, e, &err);
    if (status == DRR_OK)
        status = store_batch_commit(r->store, &err);
    if (status != DRR_OK) {
        store_batch_abandon(r->store);
        lose(r, n, err.message);
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->n_written += n;
    pthread_mutex_unlock(&r->lock);
    metrics_recorded(r->counts, n, 0);
}

/* At most BATCH of what waits; NULL: the recorder is closing, and nothing waits any more. */
static entry *take(recorder *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->first && !r->closing)
        pthread_cond_wait(&r->arrived, &r->lock);
    entry *list = r->first, **end = &r->first;
    for (size_t i = 0; i < BATCH && *end; i++) {
        r->waiting_bytes -= (*end)->bytes;
        end = &(*end)->next;
    }
    r->first = *end;
    if (list)
        *end = NULL;
    if (!r->first)
        r->last = &r->first;
    pthread_mutex_unlock(&r->lock);
    return list;
}

static void *run(void *user)
{
    recorder *r = user;
    for (entry *list; (list = take(r));) {
        write_entries(r, list);
        while (list) {
            entry *next = list->next;
            free_entry(list);
            list = next;
        }
    }
    return NULL;
}

/* ---- the engine's side */

/* As the id of a remote reasoner is made, so that traces of drr distill and of a server have one name. */
static char *reasoner_of(const recorder *r, const char *model)
{
    buffer b = {0};
    if (r->reasoner)
        return string_copy(r->reasoner);
    if (buffer_printf(&b, NULL, "%s%s%s", model ? model : "unknown", r->place ? "@" : "", r->place ? r->place : "") !=
        DRR_OK)
        buffer_clear(&b);
    return buffer_take(&b);
}

static bool copy_text(char **to, const char *from, size_t *bytes)
{
    *to = string_copy(from);
    *bytes += from ? strlen(from) + 1 : 0;
    return *to || !from;
}

static bool copy_turn(drr_trace *t, const recorder *r, const engine_record *record, const engine_turn *turn,
                      size_t *bytes)
{
    t->kind = record->kind;
    t->label = DRR_LABEL_UNLABELLED; /* nobody knows the answer */
    t->finish = turn->finish;
    t->n_prompt_tokens = turn->n_prompt_tokens;
    t->n_tokens = turn->n_tokens;
    t->seconds = turn->seconds;
    t->temperature = NAN;
    trace_token_stats_unknown(&t->stats);
    if (turn->stats)
        t->stats = *turn->stats;
    t->reasoner = reasoner_of(r, record->model);
    return t->reasoner && copy_text(&t->task, "served", bytes) && copy_text(&t->id, record->id, bytes) &&
           copy_text(&t->question, record->question ? record->question : "", bytes) && copy_text(&t->gold, "", bytes) &&
           copy_text(&t->prompt, "served", bytes) && copy_text(&t->text, turn->text, bytes) &&
           copy_text(&t->answer, turn->answer, bytes) && copy_text(&t->feedback, turn->feedback, bytes);
}

static entry *copy_record(const recorder *r, const engine_record *record)
{
    entry *e = calloc(1, sizeof *e);
    if (e)
        e->turns = calloc(record->n_turns, sizeof *e->turns);
    bool whole = e && e->turns;
    uint32_t sample = 0, turn = 0;
    for (size_t i = 0; i < record->n_turns && whole; i++) {
        if (!record->turns[i].text)
            continue; /* it failed: there is nothing to learn from */
        drr_trace *t = &e->turns[e->n_turns++];
        if (e->n_turns > 1) { /* a turn goes on with its sample only where words rejected the one before */
            sample += !record->turns[i].feedback;
            turn = record->turns[i].feedback ? turn + 1 : 0;
        }
        t->sample = sample;
        t->turn = turn;
        whole = copy_turn(t, r, record, &record->turns[i], &e->bytes);
    }
    if (whole && r->redact.n_names && record->request) {
        e->request = json_deep_copy(record->request);
        e->bytes += 4 * json_dumpb(record->request, NULL, 0, 0); /* about what its nodes take */
        whole = e->request;
    }
    if (!whole) {
        free_entry(e);
        return NULL;
    }
    e->bytes += sizeof *e + e->n_turns * sizeof *e->turns;
    return e;
}

void recorder_put(void *user, const engine_record *record)
{
    recorder *r = user;
    if (!record->n_turns || !record->question || !*record->question) /* passed through: nothing to learn from */
        return;
    entry *e = copy_record(r, record);
    if (!e) {
        lose(r, record->n_turns, "out of memory");
        return;
    }
    const uint64_t n = e->n_turns;
    pthread_mutex_lock(&r->lock);
    const bool fits = n && r->waiting_bytes + e->bytes <= r->queue_bytes;
    if (fits) {
        r->waiting_bytes += e->bytes;
        *r->last = e;
        r->last = &e->next;
        pthread_cond_signal(&r->arrived);
    }
    pthread_mutex_unlock(&r->lock);
    if (fits)
        return;
    free_entry(e);
    if (n)
        lose(r, n, "the disk is slower than the traffic");
}

void recorder_counts(recorder *r, uint64_t *n_written, uint64_t *n_lost)
{
    pthread_mutex_lock(&r->lock);
    *n_written = r->n_written;
    *n_lost = r->n_lost;
    pthread_mutex_unlock(&r->lock);
}

/* ---- opening and closing */

/* HOST:PORT, the port only where the address names one. */
static drr_status place_of(char **place, const char *upstream, drr_error *err)
{
    char *host = NULL, *port = NULL;
    buffer b = {0};
    CURLU *url = curl_url();
    drr_status status = url ? DRR_OK : error_memory(err);
    if (status == DRR_OK && (curl_url_set(url, CURLUPART_URL, upstream, 0) != CURLUE_OK ||
                             curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK))
        status = error_set(err, DRR_E_ARGUMENT, "%s is no address of a server: give it like http://127.0.0.1:8080/v1",
                           upstream);
    if (status == DRR_OK) {
        curl_url_get(url, CURLUPART_PORT, &port, 0);
        status = buffer_printf(&b, err, "%s%s%s", host, port ? ":" : "", port ? port : "");
    }
    if (status == DRR_OK)
        *place = buffer_take(&b);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
    return status;
}

static drr_status copy_options(recorder *r, const recorder_options *o, drr_error *err)
{
    r->fields = calloc(o->n_redact + 1, sizeof *r->fields);
    if (!r->fields)
        return error_memory(err);
    for (size_t i = 0; i < o->n_redact; i++) {
        if (!*o->redact[i])
            return error_set(err, DRR_E_ARGUMENT, "a field to redact has no name: give names with commas between them");
        r->fields[i] = string_copy(o->redact[i]);
        if (!r->fields[i])
            return error_memory(err);
        r->redact.n_names = i + 1;
    }
    r->redact.names = (const char *const *)r->fields;
    r->queue_bytes = o->queue_bytes;
    r->counts = o->counts;
    r->warned_s = -QUIET_SECONDS;
    r->reasoner = string_copy(o->reasoner);
    if (o->reasoner && !r->reasoner)
        return error_memory(err);
    return o->upstream ? place_of(&r->place, o->upstream, err) : DRR_OK;
}

drr_status recorder_open(recorder **result, const recorder_options *options, const drr_hooks *hooks, drr_error *err)
{
    recorder *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    r->last = &r->first;
    if (hooks)
        r->hooks = *hooks;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->arrived, NULL);
    drr_status status = copy_options(r, options, err);
    if (status == DRR_OK)
        status = drr_store_open(&r->store, options->store, true, err);
    if (status == DRR_OK) {
        r->started = pthread_create(&r->thread, NULL, run, r) == 0;
        if (!r->started)
            status =
                error_set(err, DRR_E_BACKEND, "the system gives the recorder no thread; close something and try again");
    }
    if (status == DRR_OK)
        *result = r;
    else
        recorder_close(r);
    return status;
}

void recorder_close(recorder *r)
{
    if (!r)
        return;
    if (r->started) {
        pthread_mutex_lock(&r->lock);
        r->closing = true;
        pthread_cond_signal(&r->arrived);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    for (size_t i = 0; r->fields && r->fields[i]; i++)
        free(r->fields[i]);
    free(r->fields);
    redaction_clear(&r->redact);
    drr_store_close(r->store);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->arrived);
    free(r->reasoner);
    free(r->place);
    free(r);
}
