/* search.c: drr_train_search: tries settings on dev questions for a given time (search_plan.c says which), then trains
 * the winner. Test and guarantee questions are taken away before the first trial and come back for the winner alone:
 * their figures are looked at once. A finished trial is a line of a journal beside the critic; one that a kill or the
 * end of the time cuts off is lost. */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what trials may see */

drr_status corpus_blind(corpus *c, size_t n, drr_error *err)
{
    bool *trains = calloc(c->n_questions + 1, sizeof *trains);
    size_t trained = 0;
    if (!trains)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++)
        trains[c->rows[i].question] |= c->rows[i].part == CORPUS_TRAIN;
    for (size_t q = 0; q < c->n_questions; q++)
        if (trains[q] && ++trained > n && n)
            trains[q] = false;
    for (size_t i = 0; i < c->n; i++) {
        corpus_part *part = &c->rows[i].part;
        if (*part == CORPUS_TEST || *part == CORPUS_GUARANTEE ||
            (*part == CORPUS_TRAIN && !trains[c->rows[i].question]))
            *part = CORPUS_UNUSED;
    }
    free(trains);
    return DRR_OK;
}

typedef struct searching {
    const drr_train_options *o;
    const drr_hooks *hooks;
    corpus c;
    corpus_part *parts; /* of its rows as they were read */
    search_space space;
    uint32_t *train, *dev; /* the space's */
    journal done;
    drr_search x;
    double spent;
} searching;

/* ---- the space: how long texts are, how many questions there are */

static drr_status measure_part(uint32_t **lengths, size_t *n, const corpus *c, corpus_part part,
                               const wordpiece *tokenizer, uint32_t most, const drr_hooks *hooks, drr_error *err)
{
    uint32_t *list = calloc(c->n + 1, sizeof *list);
    int32_t *ids = calloc(most, sizeof *ids);
    drr_status status = list && ids ? DRR_OK : error_memory(err);
    *n = 0;
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        const drr_trace *t = &c->rows[i].trace;
        bool truncated;
        size_t length = 0;
        if (c->rows[i].part != part)
            continue;
        if (i % 64 == 0 && hooks_cancelled(hooks))
            status = error_set(err, DRR_E_INTERRUPTED, "interrupted while tokenising");
        else
            status = wordpiece_encode_pair(tokenizer, t->question, t->text ? t->text : "", most, ids, &length,
                                           &truncated, err);
        list[(*n)++] = (uint32_t)length;
    }
    free(ids);
    if (status == DRR_OK)
        *lengths = list;
    else
        free(list);
    return status;
}

static drr_status fill_space(searching *s, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    drr_status status = train_open_encoder(&e, &tokenizer, s->o, err);
    const uint32_t most = e ? e->shape.n_positions : 0;
    if (status == DRR_OK)
        status = measure_part(&s->train, &s->space.n_train, &s->c, CORPUS_TRAIN, tokenizer, most, s->hooks, err);
    if (status == DRR_OK)
        status = measure_part(&s->dev, &s->space.n_dev, &s->c, CORPUS_DEV, tokenizer, most, s->hooks, err);
    if (status == DRR_OK) {
        s->space.train = s->train;
        s->space.dev = s->dev;
        s->space.learning_rate = s->o->learning_rate;
        s->space.epochs = s->o->epochs;
        s->space.max_length = s->o->max_length < most ? s->o->max_length : most;
        search_space_fill(&s->space, most, corpus_questions(&s->c, CORPUS_TRAIN));
        s->x.rungs = s->space.rungs;
        s->x.n_dev_questions = corpus_questions(&s->c, CORPUS_DEV);
    }
    encoder_free(e);
    wordpiece_free(tokenizer);
    return status;
}

/* ---- the journal's records */

static json_t *losses_json(const dev_figures *f, drr_trial_kind kind)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->n && f->losses[kind]; i++)
        json_array_append_new(list, json_number_or_null(f->losses[kind][i] / (double)f->n_rows * (double)f->n));
    return list;
}

static json_t *to_record(const drr_trial *t, const dev_figures *f, const char *failure)
{
    json_t *o = json_object();
    json_object_set_new(o, "settings", json_integer((json_int_t)t->settings));
    json_object_set_new(o, "rung", json_integer((json_int_t)t->rung));
    json_object_set_new(o, "learning_rate", json_number_or_null(t->learning_rate));
    json_object_set_new(o, "epochs", json_integer((json_int_t)t->epochs));
    json_object_set_new(o, "max_length", json_integer((json_int_t)t->max_length));
    json_object_set_new(o, "best_epoch", json_integer((json_int_t)t->best_epoch));
    json_object_set_new(o, "n_questions", json_integer((json_int_t)t->n_questions));
    json_object_set_new(o, "seconds", json_number_or_null(t->seconds));
    json_object_set_new(o, "kind", json_string(drr_trial_kind_name(t->kind)));
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        json_t *figures = json_object();
        json_object_set_new(figures, "log_loss", json_number_or_null(t->kinds[k].log_loss));
        json_object_set_new(figures, "auroc", json_number_or_null(t->kinds[k].auroc));
        json_object_set_new(figures, "within", json_number_or_null(t->kinds[k].within));
        json_object_set_new(o, drr_trial_kind_name((drr_trial_kind)k), figures);
    }
    if (failure)
        json_object_set_new(o, "failed", json_string(failure));
    json_object_set_new(o, "losses", losses_json(f, t->kind)); /* the mean over questions is the log loss */
    return o;
}

static uint32_t whole_number(const json_t *o, const char *name)
{
    return (uint32_t)json_integer_value(json_object_get(o, name));
}

static void from_record(drr_trial *t, json_t *o)
{
    *t = (drr_trial){.settings = whole_number(o, "settings"),
                     .rung = whole_number(o, "rung"),
                     .learning_rate = json_number_or(o, "learning_rate", NAN),
                     .epochs = whole_number(o, "epochs"),
                     .max_length = whole_number(o, "max_length"),
                     .best_epoch = whole_number(o, "best_epoch"),
                     .n_questions = whole_number(o, "n_questions"),
                     .seconds = json_number_or(o, "seconds", 0)};
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        const char *name = drr_trial_kind_name((drr_trial_kind)k);
        json_t *figures = json_object_get(o, name);
        t->kinds[k].log_loss = json_number_or(figures, "log_loss", NAN);
        t->kinds[k].auroc = json_number_or(figures, "auroc", NAN);
        t->kinds[k].within = json_number_or(figures, "within", NAN);
        if (strcmp(json_string_or(o, "kind", ""), name) == 0)
            t->kind = (drr_trial_kind)k;
    }
}

/* ---- trials */

const char *drr_trial_kind_name(drr_trial_kind kind)
{
    static const char *const names[DRR_TRIAL_KINDS] = {"text", "stack"};
    return (unsigned)kind < DRR_TRIAL_KINDS ? names[kind] : "unknown";
}

static void take_figures(drr_trial *t, const dev_figures *f, bool text_alone)
{
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        t->kinds[k].log_loss = f->log_loss[k];
        t->kinds[k].auroc = f->auroc[k];
        t->kinds[k].within = f->within[k];
    }
    t->kind =
        text_alone || f->log_loss[DRR_TRIAL_TEXT] < f->log_loss[DRR_TRIAL_STACK] ? DRR_TRIAL_TEXT : DRR_TRIAL_STACK;
}

static void with_settings(drr_train_options *o, const drr_trial *t)
{
    o->learning_rate = t->learning_rate;
    o->epochs = t->epochs;
    o->max_length = t->max_length;
}

/* Trains on what the trial may see, and measures. DRR_E_EMPTY and DRR_E_BACKEND: these settings, or so few questions,
 * cannot be trained. */
static drr_status fit_trial(searching *s, drr_trial *t, dev_figures *f, const drr_hooks *hooks, drr_error *err)
{
    drr_train_options o = *s->o;
    drr_train_result result = {0};
    session one = {0};
    with_settings(&o, t);
    o.target_error = NAN;
    o.leave_one_task_out = false;
    o.max_questions = (size_t)t->n_questions;
    for (size_t i = 0; i < s->c.n; i++)
        s->c.rows[i].part = s->parts[i];
    drr_status status = corpus_blind(&s->c, (size_t)t->n_questions, err);
    if (status != DRR_OK)
        return status;
    one.c = s->c; /* lent: taken out again before the session is cleared */
    status = session_fit(&one, &result, &o, &(variant){.no_checkpoint = true}, hooks, err);
    if (status == DRR_OK)
        status = session_score(&one, CORPUS_DEV, hooks, err);
    one.c = (corpus){0};
    session_clear(&one);
    if (status == DRR_OK)
        status = dev_score(f, &s->c, o.seed, err);
    t->best_epoch = result.best_epoch;
    return status;
}

static void describe(char *text, size_t size, const searching *s, const drr_trial *t)
{
    snprintf(text, size, "trial %zu: settings %u (rate %g, %u epochs, %u tokens) on %llu questions", s->x.n + 1,
             t->settings, t->learning_rate, t->epochs, t->max_length, (unsigned long long)t->n_questions);
}

static drr_status grow(searching *s, drr_error *err)
{
    drr_trial *grown = realloc(s->x.trials, (s->x.n + 1) * sizeof *grown);
    if (!grown)
        return error_memory(err);
    s->x.trials = grown;
    return DRR_OK;
}

/* What stops a trial and not the search: the end of the time, and settings that cannot be trained. */
static bool is_lost(const searching *s, drr_status status)
{
    return (status == DRR_E_INTERRUPTED && !hooks_cancelled(s->hooks)) || status == DRR_E_BACKEND ||
           status == DRR_E_EMPTY;
}

static drr_status run_trial(searching *s, drr_trial *t, drr_error *err)
{
    whole_hooks w;
    dev_figures f = {0};
    drr_error why = {0};
    const double began = clock_seconds();
    drr_status status = grow(s, err);
    if (status != DRR_OK)
        return status;
    whole_begin(&w, s->hooks, "search");
    describe(w.what, sizeof w.what, s, t);
    w.budget = s->space.budget;
    w.deadline = began + s->space.budget - s->spent;
    for (int k = 0; k < DRR_TRIAL_KINDS; k++)
        t->kinds[k].log_loss = t->kinds[k].auroc = t->kinds[k].within = NAN;
    status = fit_trial(s, t, &f, &w.hooks, &why);
    if (status == DRR_OK)
        take_figures(t, &f, s->o->text_alone || s->o->question_only);
    t->seconds = clock_seconds() - began;
    if (status != DRR_OK && !is_lost(s, status)) {
        if (err)
            *err = why;
        dev_figures_clear(&f);
        return status;
    }
    if (status == DRR_E_INTERRUPTED)
        snprintf(why.message, sizeof why.message, "cut off at the end of the time");
    if (status == DRR_OK)
        hooks_log(s->hooks, DRR_LOG_INFO, "%s: dev log loss %.4f (%s), AUROC %.3f, within a question %.3f; %.0f s",
                  w.what, search_loss(t), drr_trial_kind_name(t->kind), t->kinds[t->kind].auroc,
                  t->kinds[t->kind].within, t->seconds);
    else
        hooks_log(s->hooks, DRR_LOG_INFO, "%s: %s", w.what, why.message);
    status = journal_add(&s->done, to_record(t, &f, status == DRR_OK ? NULL : why.message), err);
    dev_figures_clear(&f);
    s->x.trials[s->x.n++] = *t;
    s->spent += t->seconds;
    return status;
}

static drr_status run_trials(searching *s, drr_error *err)
{
    drr_trial next;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < json_array_size(s->done.records); i++) {
        status = grow(s, err);
        if (status != DRR_OK)
            break;
        from_record(&s->x.trials[s->x.n++], json_array_get(s->done.records, i));
        s->spent += s->x.trials[i].seconds;
    }
    while (status == DRR_OK && s->spent < s->space.budget && search_next(&next, &s->space, s->x.trials, s->x.n))
        status = run_trial(s, &next, err);
    return status;
}

/* ---- the winner */

/* By how much its loss is below that of the settings given in the same rung, question by question: most of what makes
 * one question's loss is the question, and falls out. */
static void measure_gain(searching *s)
{
    size_t given = s->x.n;
    double sum = 0, squares = 0;
    s->x.gain = s->x.gain_error = NAN;
    for (size_t i = 0; i < s->x.n && s->x.winner < s->x.n; i++)
        if (s->x.trials[i].settings == 1 && s->x.trials[i].rung == s->x.trials[s->x.winner].rung)
            given = i;
    if (given >= s->x.n)
        return;
    const json_t *a = json_object_get(json_array_get(s->done.records, given), "losses"),
                 *b = json_object_get(json_array_get(s->done.records, s->x.winner), "losses");
    const size_t n = json_array_size(a);
    if (n < 2 || json_array_size(b) != n)
        return;
    for (size_t i = 0; i < n; i++) {
        const double d = json_number_value(json_array_get(a, i)) - json_number_value(json_array_get(b, i));
        sum += d;
        squares += d * d;
    }
    s->x.gain = sum / (double)n;
    s->x.gain_error = sqrt(fmax(0, squares - sum * sum / (double)n) / (double)(n - 1) / (double)n);
}

static drr_status open_journal(searching *s, buffer *path, bool *resumed, drr_error *err)
{
    uint64_t identity = 0;
    drr_status status = work_identity(&identity, &s->c, s->o, err);
    if (status == DRR_OK)
        status = buffer_printf(path, err, "%s.trials", s->o->out);
    *resumed = status == DRR_OK && s->o->resume && file_exists(path->data);
    if (status == DRR_OK)
        status = journal_open(&s->done, path->data, "trials", identity, s->o->resume, err);
    if (status == DRR_OK && json_array_size(s->done.records))
        hooks_log(s->hooks, DRR_LOG_INFO, "going on from %s: %zu trials are done", path->data,
                  json_array_size(s->done.records));
    return status;
}

static drr_status open_search(searching *s, buffer *path, bool *resumed, drr_error *err)
{
    drr_precision precision = s->o->precision;
    drr_train_result counts = {0};
    drr_status status = encoder_set_precision(NULL, &precision, err);
    if (status == DRR_OK)
        status = corpus_read(&s->c, s->o, s->hooks, err);
    if (status == DRR_OK)
        status = train_check_corpus(&counts, &s->c, s->o, !isnan(s->o->target_error), err);
    if (status == DRR_OK)
        status = corpus_check_sound(&s->c, s->o->traces, s->hooks, err);
    if (status == DRR_OK && counts.n_dev_questions < DEV_SCORE_FEWEST)
        status = error_set(err, DRR_E_EMPTY,
                           "%llu dev questions are too few to compare settings by: it takes %d; give traces of more "
                           "questions, or a larger dev share",
                           (unsigned long long)counts.n_dev_questions, DEV_SCORE_FEWEST);
    if (status != DRR_OK)
        return status;
    s->parts = calloc(s->c.n + 1, sizeof *s->parts);
    if (!s->parts)
        return error_memory(err);
    for (size_t i = 0; i < s->c.n; i++)
        s->parts[i] = s->c.rows[i].part;
    status = fill_space(s, err);
    return status == DRR_OK ? open_journal(s, path, resumed, err) : status;
}

static drr_status train_winner(searching *s, drr_train_result *result, drr_train_options *o, drr_error *err)
{
    if (s->x.winner < s->x.n) {
        const drr_trial *t = &s->x.trials[s->x.winner];
        with_settings(o, t);
        o->text_alone = t->kind == DRR_TRIAL_TEXT;
        hooks_log(s->hooks, DRR_LOG_INFO,
                  "the winner: settings %u (rate %g, %u epochs, %u tokens, %s), dev log loss %.4f; it is trained now",
                  t->settings, t->learning_rate, t->epochs, t->max_length, drr_trial_kind_name(t->kind),
                  search_loss(t));
    } else {
        hooks_log(s->hooks, DRR_LOG_WARN,
                  "no trial was finished in %.0f s: the settings as given are trained; give more time",
                  s->space.budget);
    }
    return train_critic(result, o, NULL, NULL, &s->x, s->hooks, err);
}

void drr_search_clear(drr_search *x)
{
    if (!x)
        return;
    free(x->trials);
    *x = (drr_search){0};
}

drr_status drr_train_search(drr_train_result *result, drr_search *search, const drr_train_options *o, double seconds,
                            const drr_hooks *hooks, drr_error *err)
{
    searching s = {.o = o, .hooks = hooks, .space = {.budget = seconds}, .x = {.budget = seconds}};
    buffer path = {0};
    drr_train_result trained = {0};
    drr_train_options last = *o;
    drr_status status = train_check_options(o, err);
    if (status == DRR_OK)
        status = ranks_alone("a search", err);
    if (status == DRR_OK && o->kind != DRR_CRITIC_ENCODER)
        status =
            error_set(err, DRR_E_ARGUMENT,
                      "a search tries settings of the text's encoder and knows no probe: search with kind encoder, "
                      "then give what won to kind stack");
    if (status == DRR_OK && o->by_trace)
        status = train_refuse_by_trace("a search", err);
    if (status == DRR_OK && !(seconds > 0))
        status = error_set(err, DRR_E_ARGUMENT, "a search of %g seconds cannot be: give more than 0", seconds);
    if (status != DRR_OK)
        return status;
    if (o->threads)
        parallel_set_threads(o->threads);
    status = open_search(&s, &path, &last.resume, err);
    if (status == DRR_OK)
        status = run_trials(&s, err);
    if (status == DRR_OK) {
        s.x.seconds = s.spent;
        s.x.winner = search_winner(s.x.trials, s.x.n);
        measure_gain(&s);
        status = train_winner(&s, &trained, &last, err);
    }
    if (status == DRR_OK) {
        unlink(path.data);
        *result = trained;
        *search = s.x;
        s.x = (drr_search){0};
    }
    journal_close(&s.done);
    corpus_clear(&s.c);
    drr_search_clear(&s.x);
    free(s.parts);
    free(s.train);
    free(s.dev);
    buffer_clear(&path);
    return status;
}
