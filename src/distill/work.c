/* work.c: distilling as one of many workers: units come from the store's queue, which one process fills from a data set
 * and any number of others empty. Questions travel through the store, so a worker needs no file, and so do the settings
 * by which a sample ends: where another run plans other ones meanwhile, a worker goes on by these. */
#include "distill/distill_internal.h"
#include "task/task.h"
#include "trace/queue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_CLAIMED = 64 };
#define STEPS_PLANNED ", steps mc=" /* in the store's fact QUEUE_ENDINGS */

typedef struct queue_source {
    unit_source base;
    queue *q;
    drr_store *store;
    drr_reasoner *reasoner;
    const drr_hooks *hooks;
    drr_distill_options planned; /* the run's; changed only while nothing is in flight */
    char *endings;               /* the fact that `planned` was read from */
    bool stale;                  /* the store has another one by now: what is in flight ends, nothing is begun */
    queue_unit claimed[MOST_CLAIMED];
    size_t n_claimed, next;
    bool alone;          /* what is in hand is suspected of killing its workers, and nothing is claimed beside it */
    double not_before_s; /* after a claim in vain the next one waits, so that idle workers leave the server in peace */
    int64_t done[MOST_CLAIMED];
    size_t n_done;
    unit_counts counts; /* as last read, and what this worker did since */
    double counted_s, count_cost_s;
} queue_source;

static void drop_claimed(queue_source *s)
{
    while (s->next < s->n_claimed)
        queue_unit_clear(&s->claimed[s->next++]);
}

static drr_status claim(queue_source *s, bool idle, size_t most, drr_error *err)
{
    const double now = clock_seconds();
    s->n_claimed = s->next = 0;
    if ((s->alone && !idle) || now < s->not_before_s)
        return DRR_OK;
    drr_status status =
        queue_claim(s->q, s->claimed, most < MOST_CLAIMED ? most : MOST_CLAIMED, idle, &s->n_claimed, err);
    s->alone = status == DRR_OK && s->n_claimed == 1 && s->claimed[0].last_try;
    if (status == DRR_OK && s->n_claimed == 0)
        s->not_before_s = now + 0.5;
    return status;
}

static drr_status queue_next(unit_source *source, unit *u, bool idle, size_t most, bool *got, drr_error *err)
{
    queue_source *s = (queue_source *)source;
    drr_status status = DRR_OK;
    if (s->stale)
        drop_claimed(s); /* queue_wait gives them back */
    else if (s->next == s->n_claimed)
        status = claim(s, idle, most, err);
    *got = status == DRR_OK && s->next < s->n_claimed;
    if (!*got)
        return status;
    queue_unit *c = &s->claimed[s->next++];
    status = dataset_of_record(&u->own, c->task, c->record, c->id, err);
    if (status == DRR_OK) {
        u->task = drr_dataset_at(u->own, 0);
        u->number = c->number;
        u->sample = c->sample;
    }
    queue_unit_clear(c);
    return status;
}

static drr_status send_done(queue_source *s, drr_error *err)
{
    const size_t n = s->n_done;
    s->n_done = 0;
    return n ? queue_done(s->q, s->done, n, s->endings, &s->stale, err) : DRR_OK;
}

static drr_status queue_ended(unit_source *source, const unit *u, const char *failure, drr_error *err)
{
    queue_source *s = (queue_source *)source;
    s->counts.done++;
    if (failure)
        return queue_failed(s->q, u->number, failure, err);
    s->done[s->n_done++] = u->number;
    return s->n_done == MOST_CLAIMED ? send_done(s, err) : DRR_OK;
}

static drr_status queue_flush(unit_source *source, uint64_t n_traces, uint64_t n_tokens, drr_error *err)
{
    queue_source *s = (queue_source *)source;
    queue_note(s->q, n_traces, n_tokens);
    return send_done(s, err);
}

/* Where a sample ends, as it is planned by now. */
static drr_status read_endings(queue_source *s, drr_error *err)
{
    drr_distill_options *planned = &s->planned;
    free(s->endings);
    s->stale = false;
    s->counted_s = 0; /* what was done may be to do again */
    drr_status status = store_fact_get(s->store, QUEUE_ENDINGS, &s->endings, err);
    if (status == DRR_OK && !s->endings)
        status =
            error_set(err, DRR_E_EMPTY,
                      "nothing is planned in this store yet; `drr distill --data FILE --store URL` plans, and works "
                      "too");
    if (status == DRR_OK && sscanf(s->endings, "%u turns, %lf forced", &planned->turns, &planned->forced_share) != 2)
        status =
            error_set(err, DRR_E_FORMAT, "the store's fact \"" QUEUE_ENDINGS "\" is damaged: \"%.60s\"", s->endings);
    const char *steps = status == DRR_OK ? strstr(s->endings, STEPS_PLANNED) : NULL;
    planned->step_rollouts = steps ? (uint32_t)strtoul(steps + strlen(STEPS_PLANNED), NULL, 10) : 0;
    planned->step_every = steps && strstr(steps, ",all");
    return status;
}

static drr_status follow_plan(queue_source *s, drr_error *err)
{
    drr_status status = read_endings(s, err);
    if (status == DRR_OK)
        status = distill_check_steps(s->reasoner, &s->planned, err);
    const char *steps = status == DRR_OK ? strstr(s->endings, STEPS_PLANNED) : NULL;
    if (status == DRR_OK)
        hooks_log(s->hooks, DRR_LOG_INFO,
                  "another run has changed the plan to %u turns, %g forced%s; this one goes on by it", s->planned.turns,
                  s->planned.forced_share, steps ? steps : "");
    return status;
}

/* Others may still die and leave their units. A unit that this worker holds and does not know of (its claim's answer
 * was lost with the connection) is given back. */
static drr_status queue_wait(unit_source *source, bool *more, drr_error *err)
{
    queue_source *s = (queue_source *)source;
    queue_left left;
    drr_status status = queue_release(s->q, err);
    if (status == DRR_OK && s->stale) {
        *more = true;
        return follow_plan(s, err);
    }
    if (status == DRR_OK)
        status = queue_left_read(s->q, &left, err);
    *more = status == DRR_OK && left.todo + left.held > 0;
    for (int i = 0; *more && i < 5 && !hooks_cancelled(s->hooks) && clock_seconds() < s->not_before_s; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    if (status == DRR_OK && !*more && left.aside)
        hooks_log(s->hooks, DRR_LOG_WARN,
                  "%llu samples are set aside, since their workers died %d times; `drr traces stats` lists them, and "
                  "distilling their data set again tries them again",
                  (unsigned long long)left.aside, QUEUE_TRIES);
    return status;
}

/* Reads the table at most every ten seconds, and more seldom where that takes long: it is read whole. */
static drr_status queue_count(unit_source *source, unit_counts *counts, drr_error *err)
{
    queue_source *s = (queue_source *)source;
    const double now = clock_seconds();
    drr_status status = DRR_OK;
    if (s->counted_s <= 0 || now - s->counted_s > 10 + 100 * s->count_cost_s) {
        queue_left left;
        status = queue_left_read(s->q, &left, err);
        s->counted_s = clock_seconds();
        s->count_cost_s = s->counted_s - now;
        if (status == DRR_OK)
            s->counts = (unit_counts){left.done + left.failed + left.aside,
                                      left.todo + left.held + left.done + left.failed + left.aside};
    }
    *counts = s->counts;
    return status;
}

/* ---- planning */

/* How many turns a sample gets, how many right answers are rejected, and how steps are labelled decides where a sample
 * ends. All workers must agree on it, so it is written down; where it changes, what is done is looked at again. */
static drr_status plan_endings(drr_store *store, const char *reasoner, const char *prompt,
                               const drr_distill_options *options, drr_error *err)
{
    char now[96], *before = NULL;
    int n = snprintf(now, sizeof now, "%u turns, %.17g forced", options->turns, options->forced_share);
    if (options->step_rollouts)
        snprintf(now + n, sizeof now - (size_t)n, STEPS_PLANNED "%u%s", options->step_rollouts,
                 options->step_every ? ",all" : "");
    drr_status status = store_fact_get(store, QUEUE_ENDINGS, &before, err);
    const bool changed = status == DRR_OK && before && strcmp(before, now) != 0;
    if (status == DRR_OK && (!before || changed))
        status = store_fact_set(store, QUEUE_ENDINGS, now, err);
    if (status == DRR_OK)
        status = queue_reopen(store, reasoner, prompt, changed, err);
    free(before);
    return status;
}

static drr_status plan_questions(drr_store *store, const drr_reasoner *reasoner, const drr_prompts *prompts,
                                 const drr_dataset *dataset, size_t n, uint32_t samples, drr_error *err)
{
    queue_question *questions = calloc(n, sizeof *questions);
    char **records = calloc(n, sizeof *records);
    drr_status status = questions && records ? DRR_OK : error_memory(err);
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        const drr_task *task = drr_dataset_at(dataset, i);
        status = task_record(&records[i], task, err);
        questions[i] = (queue_question){task->task, task->id, records[i]};
    }
    if (status == DRR_OK)
        status = queue_plan(store, drr_reasoner_id(reasoner), drr_prompts_id(prompts), questions, n, samples, err);
    for (size_t i = 0; records && i < n; i++)
        free(records[i]);
    free(records);
    free(questions);
    return status;
}

drr_status distill_plan(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                        const drr_dataset *dataset, size_t n, const drr_distill_options *options, drr_error *err)
{
    drr_status status = store_batch_begin(store, err); /* a kill leaves both as they were, the fact and the units */
    if (status != DRR_OK)
        return status;
    status = plan_endings(store, drr_reasoner_id(reasoner), drr_prompts_id(prompts), options, err);
    if (status == DRR_OK)
        status = store_batch_commit(store, err);
    else
        store_batch_abandon(store);
    return status == DRR_OK ? plan_questions(store, reasoner, prompts, dataset, n, options->samples, err) : status;
}

drr_status distill_need_queue(drr_store *store, drr_error *err)
{
    return store_has_queue(store)
               ? DRR_OK
               : error_set(err, DRR_E_ARGUMENT,
                           "this store has no work queue: workers share one in PostgreSQL, named postgres://...");
}

drr_status drr_distill_work(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_distill_options *options, const drr_hooks *hooks, drr_error *err)
{
    queue_source s = {.base = {queue_next, queue_ended, queue_flush, queue_wait, queue_count},
                      .store = store,
                      .reasoner = reasoner,
                      .hooks = hooks,
                      .planned = *options};
    drr_status status = distill_need_queue(store, err);
    if (status == DRR_OK)
        status = read_endings(&s, err);
    if (status == DRR_OK)
        status = distill_read_settings(store, &s.planned, err);
    if (status == DRR_OK)
        status = distill_check_steps(reasoner, &s.planned, err);
    if (status == DRR_OK)
        status = distill_check_identity(store, reasoner, prompts, &s.planned, hooks, err);
    if (status == DRR_OK)
        status = queue_join(&s.q, store, drr_reasoner_id(reasoner), drr_prompts_id(prompts),
                            options->lease_seconds ? (double)options->lease_seconds : 60, err);
    if (status == DRR_OK)
        status = distill_run(store, reasoner, prompts, &s.planned, hooks, &s.base, err);
    drop_claimed(&s);
    queue_leave(s.q);
    free(s.endings);
    return status;
}
