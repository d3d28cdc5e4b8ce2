/* folds.c: drr_train_repeat: the same training with several seeds, on several divisions of the questions, so that a
 * figure comes with its spread. Folds are of questions: all answers to one lie in one fold. A finished run is a line of
 * a journal beside the critic; the run that a kill cuts off has a checkpoint of its own. */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the division */

/* Questions that rows of a test file hold; the caller frees. */
static bool *tested_elsewhere(const corpus *c)
{
    bool *list = calloc(c->n_questions + 1, sizeof *list);
    for (size_t i = 0; i < c->n && list; i++)
        if (c->rows[i].test_file)
            list[c->rows[i].question] = true;
    return list;
}

static void assign(corpus *c, const corpus_part *parts)
{
    for (size_t i = 0; i < c->n; i++)
        c->rows[i].part = parts[c->rows[i].question];
}

drr_status corpus_fold(corpus *c, const drr_train_options *o, uint32_t fold, uint32_t folds, drr_error *err)
{
    bool *elsewhere = tested_elsewhere(c);
    corpus_part *parts = calloc(c->n_questions + 1, sizeof *parts);
    size_t n = 0, seen = 0, trained = 0;
    if (!elsewhere || !parts) {
        free(elsewhere);
        free(parts);
        return error_memory(err);
    }
    for (size_t q = 0; q < c->n_questions; q++)
        n += !elsewhere[q];
    const size_t begin = n * fold / folds, test = n * (fold + 1) / folds - begin;
    const size_t dev = (size_t)ceil(o->dev_share * (double)n);
    for (size_t q = 0; q < c->n_questions; q++) {
        if (elsewhere[q]) {
            parts[q] = CORPUS_UNUSED;
            continue;
        }
        const size_t at = (seen++ + n - begin) % n; /* from the fold's first question on, round the end */
        parts[q] = at < test ? CORPUS_TEST : at < test + dev ? CORPUS_DEV : CORPUS_TRAIN;
    }
    for (size_t q = 0; q < c->n_questions && o->max_questions; q++)
        if (parts[q] == CORPUS_TRAIN && ++trained > o->max_questions)
            parts[q] = CORPUS_UNUSED;
    assign(c, parts);
    if (o->first_turns_only)
        corpus_leave_retries(c);
    free(elsewhere);
    free(parts);
    return DRR_OK;
}

/* ---- figures */

static const char *const names[DRR_REPEAT_FIGURES] = {
    "auroc_text",    "auroc_stack", "auroc_length", "auroc_vote", "within_text", "within_stack",
    "within_length", "within_vote", "log_loss",     "brier",      "ece"};

const char *drr_repeat_figure_name(uint32_t index)
{
    return index < DRR_REPEAT_FIGURES ? names[index] : NULL;
}

static void take_result(drr_repeat *run, const drr_train_result *r)
{
    const double figures[DRR_REPEAT_FIGURES] = {r->auroc_text,
                                                r->auroc_stack,
                                                r->auroc_length,
                                                r->auroc_vote,
                                                r->within_text.share,
                                                r->within_stack.share,
                                                r->within_length.share,
                                                r->within_vote.share,
                                                r->stack_calibration.log_loss[1],
                                                r->brier,
                                                r->ece};
    memcpy(run->figures, figures, sizeof figures);
    run->best_epoch = r->best_epoch;
    run->n_train_questions = r->n_train_questions;
    run->n_test_questions = r->n_test_questions;
    run->n_test = r->n_test;
    run->seconds = r->seconds;
}

typedef struct moments { /* of what is a number */
    double n, sum, squares;
} moments;

static void moments_add(moments *m, double x)
{
    if (isnan(x))
        return;
    m->n++;
    m->sum += x;
    m->squares += x * x;
}

static double moments_mean(const moments *m)
{
    return m->n > 0 ? m->sum / m->n : NAN;
}

static double squares_about_the_mean(const moments *m)
{
    return m->n > 0 ? fmax(0, m->squares - m->sum * m->sum / m->n) : 0;
}

static double moments_deviation(const moments *m)
{
    return m->n > 1 ? sqrt(squares_about_the_mean(m) / (m->n - 1)) : NAN;
}

/* Mean and deviations of figure f; runs of a fold lie side by side. */
static void spread(drr_repeats *x, uint32_t f)
{
    moments all = {0}, means = {0};
    double within = 0, freedom = 0;
    for (size_t i = 0, end; i < x->n; i = end) {
        moments fold = {0};
        for (end = i; end < x->n && x->runs[end].fold == x->runs[i].fold; end++) {
            moments_add(&fold, x->runs[end].figures[f]);
            moments_add(&all, x->runs[end].figures[f]);
        }
        moments_add(&means, moments_mean(&fold));
        if (fold.n > 1) {
            within += squares_about_the_mean(&fold);
            freedom += fold.n - 1;
        }
    }
    x->mean[f] = moments_mean(&all);
    x->sd[f] = moments_deviation(&all);
    x->sd_seeds[f] = freedom > 0 ? sqrt(within / freedom) : NAN;
    x->sd_folds[f] = moments_deviation(&means);
}

void repeats_take(drr_repeats *x, const drr_train_result *critic)
{
    if (x->folds == 0 && x->n)
        take_result(&x->runs[0], critic);
    for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
        spread(x, f);
}

void drr_repeats_clear(drr_repeats *x)
{
    if (!x)
        return;
    free(x->runs);
    *x = (drr_repeats){0};
}

/* ---- the journal's records */

static json_t *to_record(const drr_repeat *run)
{
    json_t *o = json_object();
    json_object_set_new(o, "fold", json_integer((json_int_t)run->fold));
    json_object_set_new(o, "seed", json_integer((json_int_t)run->seed)); /* its bits: the same back again */
    json_object_set_new(o, "best_epoch", json_integer((json_int_t)run->best_epoch));
    json_object_set_new(o, "n_train_questions", json_integer((json_int_t)run->n_train_questions));
    json_object_set_new(o, "n_test_questions", json_integer((json_int_t)run->n_test_questions));
    json_object_set_new(o, "n_test", json_integer((json_int_t)run->n_test));
    json_object_set_new(o, "seconds", json_number_or_null(run->seconds));
    for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
        json_object_set_new(o, names[f], json_number_or_null(run->figures[f]));
    return o;
}

static uint64_t whole_number(const json_t *o, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(o, name));
}

static void from_record(drr_repeat *run, json_t *o)
{
    *run = (drr_repeat){.fold = (uint32_t)whole_number(o, "fold"),
                        .seed = whole_number(o, "seed"),
                        .best_epoch = (uint32_t)whole_number(o, "best_epoch"),
                        .n_train_questions = whole_number(o, "n_train_questions"),
                        .n_test_questions = whole_number(o, "n_test_questions"),
                        .n_test = whole_number(o, "n_test"),
                        .seconds = json_number_or(o, "seconds", NAN)};
    for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
        run->figures[f] = json_number_or(o, names[f], NAN);
}

static json_t *find_record(const journal *j, uint32_t fold, uint64_t seed)
{
    for (size_t i = 0; i < json_array_size(j->records); i++) {
        json_t *o = json_array_get(j->records, i);
        if (whole_number(o, "fold") == fold && whole_number(o, "seed") == seed)
            return o;
    }
    return NULL;
}

/* ---- runs */

typedef struct repeating {
    const drr_train_options *o;
    const drr_hooks *hooks;
    corpus c;
    journal done;
    drr_repeats x;
    uint32_t folds, seeds;
} repeating;

/* Trains run number `at`, of `of` that are trained beside the critic, and notes what came of it. */
static drr_status run_one(repeating *r, drr_repeat *run, size_t at, size_t of, drr_error *err)
{
    drr_train_options o = *r->o;
    drr_train_result result = {0};
    session s = {0};
    whole_hooks w;
    char name[80];
    o.seed = run->seed;
    o.target_error = NAN;
    o.leave_one_task_out = false;
    snprintf(name, sizeof name, "fold-%u-seed-%llu", run->fold, (unsigned long long)run->seed);
    whole_begin(&w, r->hooks, "train");
    if (run->fold)
        snprintf(w.what, sizeof w.what, "run %zu of %zu (fold %u of %u, seed %llu)", at, of, run->fold, r->folds,
                 (unsigned long long)run->seed);
    else
        snprintf(w.what, sizeof w.what, "run %zu of %zu (seed %llu)", at, of, (unsigned long long)run->seed);
    drr_status status = run->fold ? corpus_fold(&r->c, &o, run->fold - 1, r->folds, err) : DRR_OK;
    if (status != DRR_OK)
        return status;
    s.c = r->c; /* lent: the session's own is taken out again before it is cleared */
    status = session_make(&s, &result, &o, &(variant){.checkpoint = name}, &w.hooks, err);
    s.c = (corpus){0};
    if (status == DRR_OK) {
        take_result(run, &result);
        status = journal_add(&r->done, to_record(run), err);
    }
    if (status == DRR_OK) {
        if (s.checkpoint.data)
            unlink(s.checkpoint.data);
        hooks_log(r->hooks, DRR_LOG_INFO,
                  "%s: test AUROC text %.3f, P(correct) %.3f; within a question %.3f and %.3f; %.0f s", w.what,
                  result.auroc_text, result.auroc_stack, result.within_text.share, result.within_stack.share,
                  result.seconds);
    }
    session_clear(&s);
    return status;
}

/* A kill may have come between a run's record and the end of its checkpoint. */
static drr_status take_record(const repeating *r, drr_repeat *run, json_t *record, drr_error *err)
{
    buffer path = {0};
    from_record(run, record);
    drr_status status = buffer_printf(&path, err, "%s.fold-%u-seed-%llu.checkpoint", r->o->out, run->fold,
                                      (unsigned long long)run->seed);
    if (status == DRR_OK)
        unlink(path.data);
    buffer_clear(&path);
    return status;
}

static drr_status run_all(repeating *r, drr_error *err)
{
    const uint32_t folds = r->folds ? r->folds : 1;
    const size_t of = (size_t)folds * r->seeds - (r->folds == 0);
    drr_status status = DRR_OK;
    size_t at = 0;
    for (uint32_t k = 0; status == DRR_OK && k < folds; k++)
        for (uint32_t i = 0; status == DRR_OK && i < r->seeds; i++) {
            drr_repeat *run = &r->x.runs[r->x.n++];
            *run = (drr_repeat){.fold = r->folds ? k + 1 : 0, .seed = r->o->seed + i};
            json_t *record = find_record(&r->done, run->fold, run->seed);
            if (r->folds == 0 && i == 0)
                continue; /* the critic itself */
            at++;
            if (record)
                status = take_record(r, run, record, err);
            else
                status = run_one(r, run, at, of, err);
        }
    return status;
}

static drr_status check(const drr_train_options *o, uint32_t folds, uint32_t seeds, drr_error *err)
{
    if (seeds == 0 || seeds > 1000 || folds == 1 || folds > 100)
        return error_set(err, DRR_E_ARGUMENT,
                         "%u folds with %u seeds cannot be: give 2 to 100 folds, or none, and 1 to 1000 seeds", folds,
                         seeds);
    if (folds && o->dev_share + 1.0 / folds >= 0.9)
        return error_set(err, DRR_E_ARGUMENT,
                         "a dev share of %g and one of %u folds leave less than a tenth of the questions to train on: "
                         "give a smaller dev share or more folds",
                         o->dev_share, folds);
    if (folds && o->by_trace)
        return train_refuse_by_trace("a fold", err);
    return train_check_options(o, err);
}

/* Of one class alone no fold can be trained on, and none measured on: said before the first is trained. */
static drr_status check_folds(repeating *r, drr_error *err)
{
    drr_status status = DRR_OK;
    for (uint32_t k = 0; status == DRR_OK && k < r->folds; k++) {
        drr_train_result ignored = {0};
        drr_error why = {0};
        size_t n = 0, right = 0;
        status = corpus_fold(&r->c, r->o, k, r->folds, err);
        if (status != DRR_OK)
            return status;
        status = train_check_corpus(&ignored, &r->c, r->o, false, &why);
        if (status != DRR_OK)
            return error_set(err, status, "fold %u of %u: %.900s; fewer folds have more questions each", k + 1,
                             r->folds, why.message);
        for (size_t i = 0; i < r->c.n; i++)
            if (r->c.rows[i].part == CORPUS_TEST) {
                n++;
                right += r->c.rows[i].trace.label == DRR_LABEL_ACCEPT;
            }
        if (right == 0 || right == n)
            hooks_log(r->hooks, DRR_LOG_WARN,
                      "fold %u of %u: all %zu answers to the questions left out are %s, so it has no AUROC and is no "
                      "part of the mean",
                      k + 1, r->folds, n, right ? "right" : "wrong");
    }
    return status;
}

static drr_status open_journal(repeating *r, buffer *path, bool *resumed, drr_error *err)
{
    char what[64];
    uint64_t identity = 0;
    snprintf(what, sizeof what, "runs of %u folds", r->folds);
    drr_train_result ignored = {0};
    drr_status status = corpus_read(&r->c, r->o, r->hooks, err);
    if (status == DRR_OK)
        status = train_check_corpus(&ignored, &r->c, r->o, !isnan(r->o->target_error), err);
    if (status == DRR_OK)
        status = corpus_check_sound(&r->c, r->o->traces, r->hooks, err);
    if (status == DRR_OK)
        status = work_identity(&identity, &r->c, r->o, err);
    if (status == DRR_OK)
        status = buffer_printf(path, err, "%s.runs", r->o->out);
    *resumed = status == DRR_OK && r->o->resume && file_exists(path->data);
    if (status == DRR_OK)
        status = journal_open(&r->done, path->data, what, identity, r->o->resume, err);
    if (status == DRR_OK && json_array_size(r->done.records))
        hooks_log(r->hooks, DRR_LOG_INFO, "going on from %s: %zu runs are done", path->data,
                  json_array_size(r->done.records));
    return status;
}

drr_status drr_train_repeat(drr_train_result *result, drr_repeats *repeats, const drr_train_options *o, uint32_t folds,
                            uint32_t seeds, const drr_hooks *hooks, drr_error *err)
{
    repeating r = {.o = o, .hooks = hooks, .folds = folds, .seeds = seeds, .x = {.folds = folds, .seeds = seeds}};
    buffer path = {0};
    drr_train_result trained = {0};
    drr_train_options last = *o;
    drr_status status = check(o, folds, seeds, err);
    if (status == DRR_OK)
        status = ranks_alone("several trainings", err);
    if (status != DRR_OK)
        return status;
    if (o->threads)
        parallel_set_threads(o->threads);
    r.x.runs = calloc((folds ? folds : 1) * (size_t)seeds, sizeof *r.x.runs);
    status = r.x.runs ? open_journal(&r, &path, &last.resume, err) : error_memory(err); /* no checkpoint is older */
    if (status == DRR_OK)
        status = check_folds(&r, err);
    if (status == DRR_OK)
        status = run_all(&r, err);
    if (status == DRR_OK)
        hooks_log(hooks, DRR_LOG_INFO, "and now the critic, on the usual split with seed %llu",
                  (unsigned long long)o->seed);
    if (status == DRR_OK)
        status = train_critic(&trained, &last, NULL, &r.x, NULL, hooks, err);
    if (status == DRR_OK) {
        unlink(path.data);
        *result = trained;
        *repeats = r.x;
        r.x = (drr_repeats){0};
    }
    journal_close(&r.done);
    corpus_clear(&r.c);
    drr_repeats_clear(&r.x);
    buffer_clear(&path);
    return status;
}

/* ---- one fold by itself */

static drr_status check_one(const drr_train_options *o, uint32_t fold, uint32_t folds, drr_error *err)
{
    if (fold == 0 || fold > folds)
        return error_set(err, DRR_E_ARGUMENT, "there is no fold %u of %u", fold, folds);
    if (!isnan(o->target_error))
        return error_set(err, DRR_E_ARGUMENT,
                         "no questions are kept for a guarantee in a fold: train once without folds for one");
    return check(o, folds, 1, err);
}

drr_status drr_train_fold(drr_train_result *result, const drr_train_options *o, uint32_t fold, uint32_t folds,
                          const drr_hooks *hooks, drr_error *err)
{
    corpus c = {0};
    char what[40];
    drr_error why = {0};
    drr_status status = check_one(o, fold, folds, err);
    snprintf(what, sizeof what, "the critic of fold %u", fold);
    if (status == DRR_OK)
        status = ranks_alone(what, err);
    if (status == DRR_OK)
        status = corpus_read(&c, o, hooks, err);
    if (status == DRR_OK)
        status = corpus_check_sound(&c, o->traces, hooks, err);
    if (status == DRR_OK)
        status = corpus_fold(&c, o, fold - 1, folds, err);
    if (status == DRR_OK) {
        status = train_critic(result, o, &c, NULL, NULL, hooks, &why);
        if (status != DRR_OK && err)
            error_set(err, status, "fold %u of %u: %.950s", fold, folds, why.message);
    }
    corpus_clear(&c);
    return status;
}

drr_status drr_train_divide(drr_fold_fn each, void *user, uint64_t *identity, const drr_train_options *o,
                            uint32_t folds, const drr_hooks *hooks, drr_error *err)
{
    repeating r = {.o = o, .hooks = hooks, .folds = folds};
    drr_status status = check_one(o, 1, folds, err);
    if (status == DRR_OK)
        status = corpus_read(&r.c, o, hooks, err);
    if (status == DRR_OK)
        status = work_identity(identity, &r.c, o, err);
    if (status == DRR_OK)
        status = check_folds(&r, err);
    for (uint32_t k = 0; status == DRR_OK && k < folds; k++) {
        bool *told = calloc(r.c.n_questions + 1, sizeof *told);
        status = told ? corpus_fold(&r.c, o, k, folds, err) : error_memory(err);
        for (size_t i = 0; status == DRR_OK && i < r.c.n; i++) {
            const corpus_row *row = &r.c.rows[i];
            if (row->part == CORPUS_TEST && !told[row->question]) {
                told[row->question] = true;
                each(user, row->trace.question, k + 1);
            }
        }
        free(told);
    }
    corpus_clear(&r.c);
    return status;
}
