/* judge.c: the judge's thread. Whatever waits when it is free is scored in one pass, cut to a budget of tokens. Items
 * are taken from the submissions in turn, one of each, so a list of thousands never stands before a single text. A
 * submission keeps the critic that it was given to, and a request the one that it holds: after a swap both are open
 * until nobody needs the old one. */
#include "serve/judge.h"

#include "critic/critic.h"
#include "serve/drift.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_TOKENS = 2048, /* of one pass, by estimate: more scores hardly more in a second, and others wait for it */
    BATCH_ITEMS = 64,
    MOST_WAITING = 100000 /* items; more are refused */
};

typedef struct judge_seat seat;
struct judge_seat { /* a critic that is, or was, the judge's */
    seat *next;
    drr_critic *critic;
    drr_critic_info info; /* its strings are the critic's, which keeps them when it is shed */
    char *name;           /* "name@cc324af0" */
    size_t users;         /* submissions that wait for it, and requests that hold it */
    bool retired, shed;
    bool missed_probe; /* it was said that hidden states are missing */
    drift drifts;
};

typedef struct submission submission;
struct submission {
    submission *next;
    judge_item *items;
    size_t n, at; /* the next one to be scored */
    seat *by;
    judge_done done;
    void *user;
    bool cancelled;
    drr_status status;
    char message[256];
};

struct judge {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool stop;
    submission *first, **last;
    size_t waiting;
    seat *seats, *current; /* all that ever were */
    char model[128];       /* the upstream's; "": not known */
    drr_precision precision;
    drr_hooks hooks;
    metrics *counts;
    /* The thread's own: */
    submission *from[BATCH_ITEMS];
    judge_item *items[BATCH_ITEMS];
    drr_features features[BATCH_ITEMS];
    drr_score_item given[BATCH_ITEMS];
    drr_score scores[BATCH_ITEMS];
    uint32_t lengths[BATCH_ITEMS];
};

/* ---- critics */

static void seat_free(seat *s)
{
    if (!s)
        return;
    drr_critic_close(s->critic);
    free(s->name);
    free(s);
}

static drr_status seat_open(seat **opened, const char *path, drr_precision precision, drr_error *err)
{
    char name[512];
    seat *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    drr_status status = drr_critic_open(&s->critic, path, err);
    if (status == DRR_OK && drr_critic_reads_questions(s->critic))
        status = error_set(err, DRR_E_MISMATCH,
                           "the critic %s judges questions alone and no answers: give one that was trained on answers "
                           "(drr train without --question-only)",
                           path);
    if (status == DRR_OK && critic_encoder(s->critic))
        status = drr_critic_set_precision(s->critic, precision, err);
    if (status == DRR_OK) { /* plans are made and code is generated now, not while the first client waits */
        const drr_score_item item = {"1 + 1?", "1 + 1 = 2. The answer is 2.", NULL};
        drr_score score;
        status = drr_critic_score(s->critic, &score, &item, 1, err);
    }
    if (status == DRR_OK) {
        const critic_meta *m = critic_get_meta(s->critic);
        drr_critic_describe(s->critic, &s->info);
        snprintf(name, sizeof name, "%.400s@%.8s", s->info.name && *s->info.name ? s->info.name : "critic",
                 s->info.sha256);
        s->name = string_copy(name);
        drift_begin(&s->drifts, m->quantiles, m->n_quantiles, m->n_scores, m->reasoner);
        status = s->name ? DRR_OK : error_memory(err);
    }
    if (status != DRR_OK)
        seat_free(s);
    else
        *opened = s;
    return status;
}

/* With the lock held. */
static void seat_leave(seat *s)
{
    s->users--;
    if (s->retired && s->users == 0 && !s->shed) {
        critic_shed(s->critic);
        s->shed = true;
    }
}

/* ---- batches */

/* Four bytes a token, or less where the text is long: it is cut. */
static size_t tokens_of(const judge_item *item, uint32_t max_length)
{
    const size_t most = (size_t)max_length * 6;
    const size_t bytes = strnlen(item->question, most) + strnlen(item->text, most);
    const size_t tokens = bytes / 4 + 3;
    return tokens < max_length ? tokens : max_length;
}

/* Moves what is cancelled, or all where the judge stops, to the list of ended ones. With the lock held. */
static void take_ended(judge *j, submission **ended)
{
    for (submission **at = &j->first; *at;) {
        submission *s = *at;
        if (!s->cancelled && !j->stop) {
            at = &s->next;
            continue;
        }
        s->status = DRR_E_INTERRUPTED;
        snprintf(s->message, sizeof s->message,
                 j->stop ? "the server is closing" : "it was withdrawn before it was judged");
        j->waiting -= s->n - s->at;
        seat_leave(s->by);
        *at = s->next;
        s->next = *ended;
        *ended = s;
    }
    j->last = &j->first;
    while (*j->last)
        j->last = &(*j->last)->next;
}

/* One item of each submission to the first one's critic in turn, until the batch is full; the list is turned so that
 * the next batch begins behind the last that was served. With the lock held. */
static size_t take_batch(judge *j)
{
    size_t n = 0, tokens = 0;
    seat *by = j->first->by;
    bool took = true;
    while (took && n < BATCH_ITEMS && tokens < BATCH_TOKENS) {
        took = false;
        for (submission *s = j->first; s && n < BATCH_ITEMS && tokens < BATCH_TOKENS; s = s->next) {
            if (s->by != by || s->at == s->n)
                continue;
            j->from[n] = s;
            j->items[n] = &s->items[s->at++];
            tokens += tokens_of(j->items[n++], by->info.max_length);
            took = true;
        }
    }
    j->waiting -= n;
    submission *served = n ? j->from[n - 1] : NULL;
    if (served && served->next) {
        *j->last = j->first;
        j->first = served->next;
        j->last = &served->next;
        served->next = NULL;
    }
    return n;
}

static void fill_features(drr_features *f, const judge_item *item, double probe, bool alone)
{
    drr_features_defaults(f);
    if (item->stats)
        f->stats = *item->stats;
    f->n_tokens = item->n_written;
    f->turn = item->turn;
    f->parsed = item->parsed;
    f->n_others = alone ? 0 : item->n_others;
    f->n_agree = alone ? 0 : item->n_agree;
    f->probe = probe;
}

static void combine(const drr_critic *critic, judge_item *item)
{
    drr_features f;
    if (item->alone) {
        item->p_correct = item->p_alone = drr_critic_combine(critic, item->logit, NULL);
        return;
    }
    fill_features(&f, item, item->probe, false);
    item->p_correct = drr_critic_combine(critic, item->logit, &f);
    fill_features(&f, item, item->probe, true);
    item->p_alone = drr_critic_combine(critic, item->logit, &f);
}

/* Scores the first n of j->items by one critic; what went wrong is in the submissions. */
static void score_batch(judge *j, seat *by, size_t n)
{
    drr_error err = {0};
    uint64_t tokens = 0;
    const double began = clock_seconds();
    for (size_t i = 0; i < n; i++) {
        judge_item *item = j->items[i];
        item->probe = item->alone || !item->hidden
                          ? NAN
                          : drr_critic_probe(by->critic, item->hidden, item->hidden_size, item->stats);
        fill_features(&j->features[i], item, item->probe, true);
        j->given[i] = (drr_score_item){item->question, item->text, item->alone ? NULL : &j->features[i]};
    }
    drr_status status = critic_score_counted(by->critic, j->scores, j->lengths, j->given, n, &err);
    for (size_t i = 0; i < n; i++) {
        judge_item *item = j->items[i];
        submission *s = j->from[i];
        if (status == DRR_OK) {
            item->logit = j->scores[i].logit;
            item->n_tokens = j->lengths[i];
            item->threshold = by->info.threshold;
            item->critic = by->name;
            tokens += item->n_tokens;
            combine(by->critic, item);
        }
        if (s->status == DRR_OK && status != DRR_OK) {
            s->status = status;
            snprintf(s->message, sizeof s->message, "%.255s", err.message);
        } else if (s->status == DRR_OK && isnan(item->p_correct)) {
            s->status = DRR_E_MISMATCH;
            snprintf(s->message, sizeof s->message,
                     "the critic %.80s reads hidden states of %.80s, there are none, and it knows no other sign",
                     by->name, by->info.probe_reasoner);
        }
    }
    if (status == DRR_OK)
        metrics_batch(j->counts, n, tokens, clock_seconds() - began);
}

/* Scores into the drift alarm; what is to be said of it goes to `words`. With the lock held. */
static drr_log_level hear_drift(judge *j, seat *by, size_t n, char *words, size_t size)
{
    bool changed = false;
    *words = '\0';
    for (size_t i = 0; i < n; i++)
        if (!j->items[i]->alone && j->from[i]->status == DRR_OK)
            changed |= drift_add(&by->drifts, j->items[i]->logit);
    const drift *d = &by->drifts;
    if (by == j->current)
        metrics_drift(j->counts, d->distance, d->scores, d->model);
    if (changed && d->scores)
        snprintf(
            words, size,
            "drift: the last %zu scores of %s are not distributed as those it was measured on (distance %.2f, limit "
            "%.2f): its P(correct) may be wrong; train it on what it judges now",
            d->n, by->name, d->distance, drift_limit(d));
    else if (changed)
        snprintf(words, size, "drift: the scores of %s are as they were again (distance %.2f)", by->name, d->distance);
    return d->scores ? DRR_LOG_WARN : DRR_LOG_INFO;
}

/* Said once for each critic. */
static void miss_probe(judge *j, seat *by, size_t n)
{
    bool missed = false;
    for (size_t i = 0; i < n; i++)
        missed |= !j->items[i]->alone && isnan(j->items[i]->probe);
    if (!missed || by->missed_probe || by->info.kind == DRR_CRITIC_ENCODER)
        return;
    by->missed_probe = true;
    hooks_log(
        &j->hooks, DRR_LOG_WARN,
        "the probe of the critic %s reads hidden states of %s (layer %s), and there are none: it judges by %s, less "
        "surely, and no guarantee of it holds",
        by->name, by->info.probe_reasoner, by->info.probe_layer,
        by->info.kind == DRR_CRITIC_PROBE ? "the other signs of a turn alone" : "the text and the rest alone");
}

/* Moves those that are all scored, or failed, to the list of ended ones. With the lock held. */
static void take_scored(judge *j, submission **ended)
{
    submission **at = &j->first;
    while (*at) {
        submission *s = *at;
        if (s->at < s->n && s->status == DRR_OK) {
            at = &s->next;
            continue;
        }
        j->waiting -= s->n - s->at;
        seat_leave(s->by);
        *at = s->next;
        s->next = *ended;
        *ended = s;
    }
    j->last = at;
}

static void end_all(submission *ended)
{
    while (ended) {
        submission *s = ended;
        ended = s->next;
        s->done(s->user, s->status, s->status == DRR_OK ? NULL : s->message);
        free(s);
    }
}

static void *work(void *argument)
{
    judge *j = argument;
    char words[512];
    pthread_mutex_lock(&j->lock);
    while (!j->stop || j->first) {
        submission *ended = NULL;
        while (!j->first && !j->stop)
            pthread_cond_wait(&j->work, &j->lock);
        take_ended(j, &ended);
        const size_t n = j->first ? take_batch(j) : 0;
        seat *by = n ? j->from[0]->by : NULL;
        metrics_waiting(j->counts, j->waiting);
        pthread_mutex_unlock(&j->lock);
        if (n)
            score_batch(j, by, n);
        if (n)
            miss_probe(j, by, n);
        pthread_mutex_lock(&j->lock);
        const drr_log_level level = n ? hear_drift(j, by, n, words, sizeof words) : DRR_LOG_INFO;
        take_scored(j, &ended);
        pthread_mutex_unlock(&j->lock);
        if (n && *words)
            hooks_log(&j->hooks, level, "%s", words);
        end_all(ended);
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- the door */

static drr_status start_thread(judge *j, drr_error *err)
{
    sigset_t all, before; /* signals are for the threads that wait for them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&j->thread, NULL, work, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? error_set_errno(err, failed, "the judge's thread cannot be started") : DRR_OK;
}

drr_status judge_open(judge **opened, const char *critic_path, drr_precision precision, uint32_t threads,
                      const drr_hooks *hooks, drr_error *err)
{
    judge *j = calloc(1, sizeof *j);
    if (!j)
        return error_memory(err);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->work, NULL);
    j->last = &j->first;
    j->precision = precision;
    j->hooks = hooks ? *hooks : (drr_hooks){0};
    if (threads)
        parallel_set_threads(threads);
    drr_status status = seat_open(&j->seats, critic_path, precision, err);
    j->current = j->seats;
    if (status == DRR_OK)
        status = start_thread(j, err);
    if (status != DRR_OK) {
        seat_free(j->seats);
        pthread_cond_destroy(&j->work);
        pthread_mutex_destroy(&j->lock);
        free(j);
        return status;
    }
    *opened = j;
    return DRR_OK;
}

void judge_close(judge *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    while (j->seats) {
        seat *s = j->seats;
        j->seats = s->next;
        seat_free(s);
    }
    pthread_cond_destroy(&j->work);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

void judge_count(judge *j, metrics *counts)
{
    pthread_mutex_lock(&j->lock);
    j->counts = counts;
    pthread_mutex_unlock(&j->lock);
}

drr_status judge_swap(judge *j, const char *critic_path, judge_may may, void *user, drr_error *err)
{
    seat *s = NULL;
    drr_status status = seat_open(&s, critic_path, j->precision, err);
    if (status == DRR_OK && may)
        status = may(user, &s->info, err);
    if (status != DRR_OK) {
        seat_free(s);
        return status;
    }
    pthread_mutex_lock(&j->lock);
    seat *old = j->current;
    /* Nothing new: it stays, and so does what the drift alarm has heard. */
    if (strcmp(old->info.sha256, s->info.sha256) == 0) {
        pthread_mutex_unlock(&j->lock);
        seat_free(s);
        return DRR_OK;
    }
    s->next = j->seats;
    j->seats = s;
    j->current = s;
    if (*j->model)
        (void)drift_saw(&s->drifts, j->model);
    old->retired = true;
    old->users++;
    seat_leave(old);
    metrics_drift(j->counts, s->drifts.distance, s->drifts.scores, s->drifts.model);
    pthread_mutex_unlock(&j->lock);
    return DRR_OK;
}

drr_critic_info judge_info(judge *j)
{
    pthread_mutex_lock(&j->lock);
    const drr_critic_info info = j->current->info;
    pthread_mutex_unlock(&j->lock);
    return info;
}

const char *judge_name(judge *j)
{
    pthread_mutex_lock(&j->lock);
    const char *name = j->current->name;
    pthread_mutex_unlock(&j->lock);
    return name;
}

judge_seat *judge_hold(judge *j, drr_critic_info *info, const char **name)
{
    pthread_mutex_lock(&j->lock);
    seat *held = j->current;
    held->users++;
    pthread_mutex_unlock(&j->lock);
    *info = held->info;
    *name = held->name;
    return held;
}

void judge_release(judge *j, judge_seat *held)
{
    if (!held)
        return;
    pthread_mutex_lock(&j->lock);
    seat_leave(held);
    pthread_mutex_unlock(&j->lock);
}

drr_status judge_submit(judge *j, judge_item *items, size_t n, judge_done done, void *user, drr_error *err)
{
    return judge_submit_to(j, NULL, items, n, done, user, err);
}

drr_status judge_submit_to(judge *j, judge_seat *to, judge_item *items, size_t n, judge_done done, void *user,
                           drr_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!items[i].question || !items[i].text)
            return error_set(err, DRR_E_ARGUMENT, "item %zu of %zu to judge has no question or no text", i, n);
    submission *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    *s = (submission){.items = items, .n = n, .done = done, .user = user};
    drr_status status = DRR_OK;
    pthread_mutex_lock(&j->lock);
    if (j->stop)
        status = error_set(err, DRR_E_INTERRUPTED, "the server is closing");
    else if (j->waiting && j->waiting + n > MOST_WAITING)
        status = error_set(err, DRR_E_LIMIT, "%zu texts wait to be judged already; try again later", j->waiting);
    else {
        s->by = to ? to : j->current;
        s->by->users++;
        *j->last = s;
        j->last = &s->next;
        j->waiting += n;
        metrics_waiting(j->counts, j->waiting);
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->lock);
    if (status != DRR_OK)
        free(s);
    return status;
}

void judge_cancel(judge *j, void *user)
{
    pthread_mutex_lock(&j->lock);
    for (submission *s = j->first; s; s = s->next)
        s->cancelled |= s->user == user;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->lock);
}

void judge_combine(judge *j, judge_item *items, size_t n)
{
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < n; i++) {
        seat *s = j->seats;
        while (s && s->name != items[i].critic)
            s = s->next;
        if (s)
            combine(s->critic, &items[i]);
    }
    pthread_mutex_unlock(&j->lock);
}

/* ---- drift */

void judge_saw_model(judge *j, const char *model)
{
    char words[512] = "";
    bool alarm = false;
    if (!model)
        return;
    pthread_mutex_lock(&j->lock);
    drift *d = &j->current->drifts;
    if (strncmp(j->model, model, sizeof j->model - 1) != 0) {
        snprintf(j->model, sizeof j->model, "%s", model);
        if (drift_saw(d, model)) {
            alarm = d->model;
            snprintf(words, sizeof words,
                     alarm
                         ? "drift: the upstream's model is \"%.120s\", and the critic %.120s was trained on answers of "
                           "%.120s: what it says of another's is a guess; train one for this model"
                         : "drift: the upstream's model is \"%.120s\" again, which the critic %.120s was trained on "
                           "(%.120s)",
                     j->model, j->current->name, d->reasoner);
        }
        metrics_drift(j->counts, d->distance, d->scores, d->model);
    }
    pthread_mutex_unlock(&j->lock);
    if (*words)
        hooks_log(&j->hooks, alarm ? DRR_LOG_WARN : DRR_LOG_INFO, "%s", words);
}

json_t *judge_drift(judge *j)
{
    pthread_mutex_lock(&j->lock);
    json_t *value = drift_json(&j->current->drifts);
    pthread_mutex_unlock(&j->lock);
    return value;
}

json_t *judge_dev_scores(judge *j)
{
    pthread_mutex_lock(&j->lock);
    const drr_critic *critic = j->current->critic;
    const critic_meta *m = critic_get_meta(critic);
    json_t *p = json_array(), *value = json_null();
    for (uint32_t i = 0; i < m->n_quantiles; i++)
        json_array_append_new(p, json_real(drr_critic_combine(critic, m->quantiles[i], NULL)));
    if (m->n_quantiles)
        value = json_pack("{s:I, s:O}", "n", (json_int_t)m->n_scores, "p_correct", p);
    pthread_mutex_unlock(&j->lock);
    json_decref(p);
    return value;
}
