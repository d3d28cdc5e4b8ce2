/* sources.c: distilling a data set: the units of a file in order, each sample of each question. A store with a work
 * queue gets them through it (work.c). */
#include "check/check.h"
#include "distill/distill_internal.h"
#include "trace/queue.h"

typedef struct set_source {
    unit_source base;
    const drr_dataset *dataset;
    size_t next, n; /* units: question next / samples, sample next % samples */
    uint32_t samples;
    uint64_t n_ended;
} set_source;

static drr_status set_next(unit_source *source, unit *u, bool idle, size_t most, bool *got, drr_error *err)
{
    set_source *s = (set_source *)source;
    (void)idle;
    (void)most;
    (void)err;
    *got = s->next < s->n;
    if (*got) {
        u->task = drr_dataset_at(s->dataset, s->next / s->samples);
        u->sample = (uint32_t)(s->next++ % s->samples);
    }
    return DRR_OK;
}

static drr_status set_ended(unit_source *source, const unit *u, const char *failure, drr_error *err)
{
    (void)u;
    (void)failure;
    (void)err;
    ((set_source *)source)->n_ended++;
    return DRR_OK;
}

static drr_status set_flush(unit_source *source, uint64_t n_traces, uint64_t n_tokens, drr_error *err)
{
    (void)source;
    (void)n_traces;
    (void)n_tokens;
    (void)err;
    return DRR_OK;
}

static drr_status set_wait(unit_source *source, bool *more, drr_error *err)
{
    (void)err;
    const set_source *s = (const set_source *)source;
    *more = s->next < s->n;
    return DRR_OK;
}

static drr_status set_count(unit_source *source, unit_counts *counts, drr_error *err)
{
    (void)err;
    const set_source *s = (const set_source *)source;
    *counts = (unit_counts){s->n_ended, s->n};
    return DRR_OK;
}

static drr_status check_gradable(const drr_dataset *dataset, size_t n, const drr_distill_options *options,
                                 drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        const drr_task *task = drr_dataset_at(dataset, i);
        status = task->answer[0] ? checker_allows(options->checker, task, err)
                                 : error_set(err, DRR_E_ARGUMENT,
                                             "question %s of %s has no reference answer: its traces could not be "
                                             "labelled; leave it out or give the answer",
                                             task->id, drr_dataset_name(dataset));
    }
    return status;
}

/* May the first *n questions be distilled into this store? */
static drr_status prepare(size_t *n, drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                          const drr_dataset *dataset, const drr_distill_options *options, const drr_hooks *hooks,
                          drr_error *err)
{
    size_t n_units;
    *n = drr_dataset_count(dataset);
    if (options->limit && options->limit < *n)
        *n = options->limit;
    if (*n == 0 || options->samples == 0 || options->turns == 0)
        return error_set(err, DRR_E_ARGUMENT, "nothing to distil: %zu questions, %u samples, %u turns", *n,
                         options->samples, options->turns);
    if (!size_multiply(&n_units, *n, options->samples))
        return error_set(err, DRR_E_LIMIT, "%zu questions times %u samples are too many", *n, options->samples);
    drr_status status = check_gradable(dataset, *n, options, err);
    if (status == DRR_OK)
        status = distill_check_steps(reasoner, options, err);
    if (status == DRR_OK)
        status = distill_check_identity(store, reasoner, prompts, options, hooks, err);
    return status == DRR_OK ? distill_check_questions(store, dataset, *n, err) : status;
}

drr_status drr_distill_plan(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                            const drr_dataset *dataset, const drr_distill_options *options, const drr_hooks *hooks,
                            drr_error *err)
{
    size_t n;
    drr_status status = distill_need_queue(store, err);
    if (status == DRR_OK)
        status = prepare(&n, store, reasoner, prompts, dataset, options, hooks, err);
    return status == DRR_OK ? distill_plan(store, reasoner, prompts, dataset, n, options, err) : status;
}

drr_status drr_distill(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const drr_dataset *dataset,
                       const drr_distill_options *options, const drr_hooks *hooks, drr_error *err)
{
    size_t n;
    if (store_has_queue(store)) {
        const drr_status planned = drr_distill_plan(store, reasoner, prompts, dataset, options, hooks, err);
        return planned == DRR_OK ? drr_distill_work(store, reasoner, prompts, options, hooks, err) : planned;
    }
    drr_status status = prepare(&n, store, reasoner, prompts, dataset, options, hooks, err);
    if (status != DRR_OK)
        return status;
    set_source source = {.base = {set_next, set_ended, set_flush, set_wait, set_count},
                         .dataset = dataset,
                         .n = n * options->samples,
                         .samples = options->samples};
    return distill_run(store, reasoner, prompts, options, hooks, &source.base, err);
}
