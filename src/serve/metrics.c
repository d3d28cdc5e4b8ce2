/* metrics.c: the numbers behind /metrics under one lock, and Prometheus's text format 0.0.4. Counting is a few
 * additions; whoever reads takes a copy first. Labels are few by construction: an upstream that made more than
 * MOST_REPLIES of them is counted under "other". */
#include "serve/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BOUNDS = 16, MOST_REPLIES = 32 };

typedef struct histogram {
    uint64_t counts[MOST_BOUNDS + 1]; /* not yet summed up; the last one is above all bounds */
    double sum;
} histogram;

typedef struct bounds {
    size_t n;
    double at[MOST_BOUNDS];
} bounds;
static const bounds turn_bounds = {8, {1, 2, 3, 4, 5, 8, 16, 32}};
static const bounds share_bounds = {10, {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1}};
static const bounds short_bounds = {12, {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5}};
static const bounds long_bounds = {14, {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}};
static const bounds batch_bounds = {7, {1, 2, 4, 8, 16, 32, 64}};

typedef struct reply_count {
    char upstream[128];
    int code;
    uint64_t n;
} reply_count;

typedef struct numbers {
    uint64_t requests[METRICS_OUTCOMES], turns[2], retries, tokens[2], batch_texts, batch_tokens, recorded[2];
    histogram turns_per_request, dm_score, dm_seconds, request_seconds, upstream_seconds, batch_size, batch_seconds;
    reply_count replies[MOST_REPLIES + 1];
    size_t n_replies;
    int64_t in_flight, waiting;
    double drift_distance;
    bool drift[2];
} numbers;

struct metrics {
    pthread_mutex_t lock;
    numbers now;
};

drr_status metrics_new(metrics **created, drr_error *err)
{
    metrics *m = calloc(1, sizeof *m);
    if (!m)
        return error_memory(err);
    pthread_mutex_init(&m->lock, NULL);
    m->now.drift_distance = NAN;
    *created = m;
    return DRR_OK;
}

void metrics_free(metrics *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- counting */

static void observe(histogram *h, const bounds *b, double value)
{
    size_t i = 0;
    if (!isfinite(value))
        return;
    while (i < b->n && value > b->at[i])
        i++;
    h->counts[i]++;
    h->sum += value;
}

static numbers *take(metrics *m)
{
    if (!m)
        return NULL;
    pthread_mutex_lock(&m->lock);
    return &m->now;
}

static void give_back(metrics *m)
{
    pthread_mutex_unlock(&m->lock);
}

void metrics_request(metrics *m, metrics_outcome outcome, double seconds, uint32_t n_turns)
{
    numbers *x = (size_t)outcome < METRICS_OUTCOMES ? take(m) : NULL;
    if (!x)
        return;
    x->requests[outcome]++;
    observe(&x->request_seconds, &long_bounds, seconds);
    if (n_turns)
        observe(&x->turns_per_request, &turn_bounds, n_turns);
    give_back(m);
}

void metrics_in_flight(metrics *m, int change)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->in_flight += change;
    give_back(m);
}

void metrics_turn(metrics *m, bool accepted)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->turns[accepted]++;
    give_back(m);
}

void metrics_judged(metrics *m, double p_correct, double seconds)
{
    numbers *x = take(m);
    if (!x)
        return;
    observe(&x->dm_score, &share_bounds, p_correct);
    observe(&x->dm_seconds, &short_bounds, seconds);
    give_back(m);
}

static reply_count *find_reply(numbers *x, const char *upstream, int code)
{
    for (size_t i = 0; i < x->n_replies; i++)
        if (x->replies[i].code == code &&
            strncmp(x->replies[i].upstream, upstream, sizeof x->replies[i].upstream - 1) == 0)
            return &x->replies[i];
    reply_count *r = &x->replies[x->n_replies];
    if (x->n_replies < MOST_REPLIES) {
        x->n_replies++;
        r->code = code;
        snprintf(r->upstream, sizeof r->upstream, "%s", upstream);
    } else { /* the last place is of all that came too late */
        r->code = 0;
        snprintf(r->upstream, sizeof r->upstream, "other");
    }
    return r;
}

void metrics_upstream(metrics *m, const char *upstream, int code, double seconds)
{
    numbers *x = take(m);
    if (!x)
        return;
    find_reply(x, upstream ? upstream : "", code)->n++;
    observe(&x->upstream_seconds, &long_bounds, seconds);
    give_back(m);
}

void metrics_upstream_retry(metrics *m)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->retries++;
    give_back(m);
}

void metrics_upstream_tokens(metrics *m, uint64_t prompt, uint64_t completion)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->tokens[0] += prompt;
    x->tokens[1] += completion;
    give_back(m);
}

void metrics_batch(metrics *m, size_t n_texts, uint64_t n_tokens, double seconds)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->batch_texts += n_texts;
    x->batch_tokens += n_tokens;
    observe(&x->batch_size, &batch_bounds, (double)n_texts);
    observe(&x->batch_seconds, &short_bounds, seconds);
    give_back(m);
}

void metrics_waiting(metrics *m, size_t n_texts)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->waiting = (int64_t)n_texts;
    give_back(m);
}

void metrics_drift(metrics *m, double distance, bool scores, bool model)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->drift_distance = distance;
    x->drift[0] = scores;
    x->drift[1] = model;
    give_back(m);
}

void metrics_recorded(metrics *m, uint64_t n_written, uint64_t n_lost)
{
    numbers *x = take(m);
    if (!x)
        return;
    x->recorded[0] += n_written;
    x->recorded[1] += n_lost;
    give_back(m);
}

/* ---- the text */

typedef struct page { /* what is written, and the first failure */
    buffer *text;
    drr_status status;
    drr_error *err;
} page;

static void head(page *p, const char *name, const char *kind, const char *help)
{
    if (p->status == DRR_OK)
        p->status = buffer_printf(p->text, p->err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* A number as Prometheus reads it: shortest, and "NaN", "+Inf". */
static const char *number(char text[40], double value)
{
    if (isnan(value))
        return "NaN";
    if (isinf(value))
        return value > 0 ? "+Inf" : "-Inf";
    snprintf(text, 40, "%.15g", value);
    return text;
}

static void sample(page *p, const char *name, const char *labels, double value)
{
    char text[40];
    if (p->status == DRR_OK)
        p->status = buffer_printf(p->text, p->err, "%s%s %s\n", name, labels, number(text, value));
}

static void one(page *p, const char *name, const char *kind, const char *help, double value)
{
    head(p, name, kind, help);
    sample(p, name, "", value);
}

static void write_histogram(page *p, const char *name, const char *help, const histogram *h, const bounds *b)
{
    char whole[96], labels[64], bound[40];
    uint64_t n = 0;
    head(p, name, "histogram", help);
    snprintf(whole, sizeof whole, "%s_bucket", name);
    for (size_t i = 0; i <= b->n; i++) {
        n += h->counts[i];
        snprintf(labels, sizeof labels, "{le=\"%s\"}", i < b->n ? number(bound, b->at[i]) : "+Inf");
        sample(p, whole, labels, (double)n);
    }
    snprintf(whole, sizeof whole, "%s_sum", name);
    sample(p, whole, "", h->sum);
    snprintf(whole, sizeof whole, "%s_count", name);
    sample(p, whole, "", (double)n);
}

/* A label's value: backslash, quote and newline are escaped; what is no plain ASCII becomes "?". */
static void escape(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 3 < size; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n')
            out[n++] = '\\';
        out[n++] = (char)(*text == '\n' ? 'n' : *text < 0x20 || *text == 0x7F ? '?' : *text);
    }
    out[n] = '\0';
}

static void write_replies(page *p, const numbers *x)
{
    char labels[400], upstream[256], code[16];
    head(p, "drr_upstream_requests_total", "counter",
         "Requests to upstreams by the status that came back; none: no reply.");
    for (size_t i = 0; i <= MOST_REPLIES; i++) {
        if (x->replies[i].n == 0)
            continue;
        escape(upstream, sizeof upstream, x->replies[i].upstream);
        snprintf(code, sizeof code, "%d", x->replies[i].code);
        snprintf(labels, sizeof labels, "{upstream=\"%s\",code=\"%s\"}", upstream,
                 i == MOST_REPLIES    ? "other"
                 : x->replies[i].code ? code
                                      : "none");
        sample(p, "drr_upstream_requests_total", labels, (double)x->replies[i].n);
    }
}

static void write_loop(page *p, const numbers *x)
{
    static const char *const outcomes[METRICS_OUTCOMES] = {"accept",   "abstain",     "best",
                                                           "escalate", "passthrough", "error"};
    char labels[64];
    head(p, "drr_requests_total", "counter", "Finished requests by what became of them.");
    for (size_t i = 0; i < METRICS_OUTCOMES; i++) {
        snprintf(labels, sizeof labels, "{outcome=\"%s\"}", outcomes[i]);
        sample(p, "drr_requests_total", labels, (double)x->requests[i]);
    }
    head(p, "drr_turns_total", "counter", "Judged turns by verdict.");
    sample(p, "drr_turns_total", "{verdict=\"accept\"}", (double)x->turns[1]);
    sample(p, "drr_turns_total", "{verdict=\"reject\"}", (double)x->turns[0]);
    write_histogram(p, "drr_turns_per_request", "Turns that a judged request took.", &x->turns_per_request,
                    &turn_bounds);
    write_histogram(p, "drr_dm_score", "P(correct) that the critic gave to turns.", &x->dm_score, &share_bounds);
    write_histogram(p, "drr_dm_seconds", "Time from a turn's text to its P(correct), waiting included.", &x->dm_seconds,
                    &short_bounds);
    write_histogram(p, "drr_request_seconds", "Time from a request to the end of its reply.", &x->request_seconds,
                    &long_bounds);
    one(p, "drr_requests_in_flight", "gauge", "Requests that have begun and not ended.", (double)x->in_flight);
}

static void write_upstream(page *p, const numbers *x)
{
    write_histogram(p, "drr_upstream_seconds", "Time of requests to upstreams, streams to their end.",
                    &x->upstream_seconds, &long_bounds);
    write_replies(p, x);
    one(p, "drr_upstream_retries_total", "counter", "Requests to upstreams that were tried again.", (double)x->retries);
    head(p, "drr_upstream_tokens_total", "counter", "Tokens that upstreams reported.");
    sample(p, "drr_upstream_tokens_total", "{kind=\"prompt\"}", (double)x->tokens[0]);
    sample(p, "drr_upstream_tokens_total", "{kind=\"completion\"}", (double)x->tokens[1]);
}

static void write_judge(page *p, const numbers *x)
{
    one(p, "drr_dm_texts_total", "counter", "Texts that the critic scored, of turns and of scoring routes.",
        (double)x->batch_texts);
    one(p, "drr_dm_tokens_total", "counter", "Tokens that the critic read.", (double)x->batch_tokens);
    write_histogram(p, "drr_dm_batch_texts", "Texts that the critic scored in one pass.", &x->batch_size,
                    &batch_bounds);
    write_histogram(p, "drr_dm_batch_seconds", "Time of one pass of the critic.", &x->batch_seconds, &short_bounds);
    one(p, "drr_dm_waiting", "gauge", "Texts that wait for the critic.", (double)x->waiting);
    head(p, "drr_drift_alarm", "gauge", "1 where what is judged is not what the critic was trained on.");
    sample(p, "drr_drift_alarm", "{kind=\"scores\"}", x->drift[0]);
    sample(p, "drr_drift_alarm", "{kind=\"model\"}", x->drift[1]);
    one(p, "drr_drift_distance", "gauge",
        "Kolmogorov-Smirnov distance of the last scores from those the critic was measured on.", x->drift_distance);
}

static void write_recorder(page *p, const numbers *x)
{
    head(p, "drr_recorded_turns_total", "counter", "Turns for the trace store; lost: those that it could not take.");
    sample(p, "drr_recorded_turns_total", "{result=\"written\"}", (double)x->recorded[0]);
    sample(p, "drr_recorded_turns_total", "{result=\"lost\"}", (double)x->recorded[1]);
}

/* What Prometheus's own client libraries say of a process. */
static void write_process(page *p)
{
    unsigned long size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
    const bool read = fscanf(f, "%lu %lu", &size, &resident) == 2;
    fclose(f);
    if (read)
        one(p, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
            (double)resident * (double)sysconf(_SC_PAGESIZE));
}

#ifndef DRR_COMMIT
#define DRR_COMMIT "unknown"
#endif

drr_status metrics_text(buffer *text, metrics *m, drr_error *err)
{
    page p = {text, DRR_OK, err};
    pthread_mutex_lock(&m->lock);
    const numbers x = m->now;
    pthread_mutex_unlock(&m->lock);
    write_loop(&p, &x);
    write_upstream(&p, &x);
    write_judge(&p, &x);
    write_recorder(&p, &x);
    write_process(&p);
    head(&p, "drr_build_info", "gauge", "Always 1; the version is in its labels.");
    sample(&p, "drr_build_info", "{version=\"" DRR_VERSION "\",commit=\"" DRR_COMMIT "\"}", 1);
    return p.status;
}
