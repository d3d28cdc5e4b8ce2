/* held_out.c: figures on the test questions, which nothing was fitted on: over all of them and task by task, and what
 * calibration changed. */
#include "train/judge_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Row by row: the text's logit, its P(correct) before and after calibration, the stack's before and after with all
 * others known, length, vote share, label. */
enum { LOGIT, TEXT_RAW, TEXT, STACK_RAW, STACK, LENGTH, VOTE, N_COLUMNS, RESAMPLES = 1000 };
typedef struct columns {
    double *of[N_COLUMNS], *memory;
    uint8_t *label, *vote_label;
    size_t *question, *group, *vote_question, *vote_group, *places;
    size_t n, n_votes, n_right, n_questions;
} columns;

static void columns_clear(columns *x)
{
    free(x->memory);
    free(x->label);
    free(x->places);
    *x = (columns){0};
}

static void add_row(columns *x, const critic_meta *meta, groups *g, size_t i)
{
    const corpus_row *row = &g->c->rows[g->rows[i]];
    const size_t others = groups_others(g, i);
    const drr_features f = groups_features(g, i, g->others, others);
    critic_meta plain = *meta; /* borrows the strings */
    plain.has_stack_calibration = false;
    x->of[LOGIT][x->n] = row->logit;
    x->of[TEXT_RAW][x->n] = 1 / (1 + exp(-row->logit));
    x->of[TEXT][x->n] = critic_meta_p_text(meta, row->logit);
    x->of[STACK_RAW][x->n] = critic_meta_p(&plain, row->logit, &f);
    x->of[STACK][x->n] = critic_meta_p(meta, row->logit, &f);
    x->of[LENGTH][x->n] = row->trace.text ? (double)strlen(row->trace.text) : 0;
    x->label[x->n] = judge_label(&row->trace);
    x->n_right += x->label[x->n];
    x->question[x->n] = row->question;
    x->group[x->n] = g->begin[i];
    if (others) {
        x->vote_question[x->n_votes] = row->question;
        x->vote_group[x->n_votes] = g->begin[i];
        x->vote_label[x->n_votes] = x->label[x->n];
        x->of[VOTE][x->n_votes++] = f.parsed ? (double)(f.n_agree + 1) / (double)(f.n_others + 1) : 0;
    }
    x->n++;
}

/* Of the rows of one task, or of all of them for NULL. */
static drr_status columns_of(columns *x, const critic_meta *meta, groups *g, const char *task, drr_error *err)
{
    size_t last = SIZE_MAX;
    *x = (columns){.memory = calloc(N_COLUMNS * (g->n + 1), sizeof(double)),
                   .label = calloc(2 * (g->n + 1), 1),
                   .places = calloc(4 * (g->n + 1), sizeof(size_t))};
    if (!x->memory || !x->label || !x->places) {
        columns_clear(x);
        return error_memory(err);
    }
    for (size_t k = 0; k < N_COLUMNS; k++)
        x->of[k] = x->memory + k * (g->n + 1);
    x->vote_label = x->label + g->n + 1;
    x->question = x->places;
    x->group = x->places + (g->n + 1);
    x->vote_question = x->places + 2 * (g->n + 1);
    x->vote_group = x->places + 3 * (g->n + 1);
    for (size_t i = 0; i < g->n; i++) {
        const corpus_row *row = &g->c->rows[g->rows[i]];
        if (task && (!row->trace.task || strcmp(row->trace.task, task) != 0))
            continue;
        add_row(x, meta, g, i);
        x->n_questions += row->question != last; /* rows of a question lie side by side */
        last = row->question;
    }
    return DRR_OK;
}

static double auroc(const columns *x, int column)
{
    return column == VOTE ? statistics_auroc(x->of[VOTE], x->vote_label, x->n_votes)
                          : statistics_auroc(x->of[column], x->label, x->n);
}

/* Whether long or short is right is dev's to say, not test's. */
static double length_auroc(const columns *test, const columns *dev)
{
    const double value = auroc(test, LENGTH);
    return auroc(dev, LENGTH) < 0.5 ? 1 - value : value;
}

static drr_within within(const columns *x, int column, uint64_t seed)
{
    return column == VOTE ? statistics_within(x->of[VOTE], x->vote_label, x->vote_question, x->vote_group, x->n_votes,
                                              RESAMPLES, seed)
                          : statistics_within(x->of[column], x->label, x->question, x->group, x->n, RESAMPLES, seed);
}

/* As length_auroc: dev says which way round. */
static drr_within length_within(const columns *test, const columns *dev, uint64_t seed)
{
    const drr_within w = within(test, LENGTH, seed);
    const double on_dev =
        statistics_within(dev->of[LENGTH], dev->label, dev->question, dev->group, dev->n, 0, seed).share;
    return on_dev < 0.5 ? statistics_within_turned(w) : w;
}

static void measure_calibration(drr_calibration_figures *f, const columns *x, int before, int after)
{
    for (int i = 0; i < 2; i++) {
        const double *p = x->of[i ? after : before];
        f->log_loss[i] = statistics_log_loss(p, x->label, x->n);
        f->brier[i] = statistics_brier(p, x->label, x->n);
        f->ece[i] = statistics_ece(p, x->label, x->n);
    }
}

static void measure_all(drr_train_result *r, const columns *test, const columns *dev, uint64_t seed)
{
    r->auroc_text = auroc(test, LOGIT);
    r->auroc_stack = auroc(test, STACK);
    r->auroc_vote = auroc(test, VOTE);
    r->auroc_length = length_auroc(test, dev);
    r->within_text = within(test, LOGIT, seed);
    r->within_stack = within(test, STACK, seed);
    r->within_vote = within(test, VOTE, seed);
    r->within_length = length_within(test, dev, seed);
    r->auprc = statistics_auprc(test->of[STACK], test->label, test->n);
    r->brier = statistics_brier(test->of[STACK], test->label, test->n);
    r->ece = statistics_ece(test->of[STACK], test->label, test->n);
    measure_calibration(&r->text_calibration, test, TEXT_RAW, TEXT);
    measure_calibration(&r->stack_calibration, test, STACK_RAW, STACK);
}

static drr_status measure_task(drr_task_figures *f, const critic_meta *meta, groups *test, groups *dev,
                               const char *task, size_t length, drr_error *err)
{
    columns d = {0}, t = {0};
    *f = (drr_task_figures){.auroc_left_out = NAN, .auroc_left_out_text = NAN};
    snprintf(f->task, sizeof f->task, "%.*s", (int)length, task);
    drr_status status = columns_of(&t, meta, test, f->task, err);
    if (status == DRR_OK)
        status = columns_of(&d, meta, dev, f->task, err);
    if (status == DRR_OK) {
        f->n = t.n;
        f->n_right = t.n_right;
        f->n_questions = t.n_questions;
        f->auroc_text = auroc(&t, LOGIT);
        f->auroc_stack = auroc(&t, STACK);
        f->auroc_vote = auroc(&t, VOTE);
        f->auroc_length = length_auroc(&t, &d);
        f->within_text = within(&t, LOGIT, meta->seed);
        f->within_stack = within(&t, STACK, meta->seed);
        f->within_vote = within(&t, VOTE, meta->seed);
        f->within_length = length_within(&t, &d, meta->seed);
        f->brier = statistics_brier(t.of[STACK], t.label, t.n);
        f->ece = statistics_ece(t.of[STACK], t.label, t.n);
    }
    columns_clear(&d);
    columns_clear(&t);
    return status;
}

static drr_status measure_tasks(drr_train_result *r, const critic_meta *meta, groups *test, groups *dev,
                                const char *tasks, drr_error *err)
{
    drr_status status = DRR_OK;
    r->n_tasks = 0;
    for (const char *at = tasks ? tasks : ""; status == DRR_OK && *at && r->n_tasks < DRR_TASK_FIGURES;) {
        const size_t n = strcspn(at, ",");
        status = measure_task(&r->tasks[r->n_tasks++], meta, test, dev, at, n, err);
        at += n + (at[n] == ',');
    }
    return status;
}

static void draw_reliability(reliability_bin bins[2][JUDGE_BINS], const columns *test)
{
    reliability(bins[0], JUDGE_BINS, test->of[TEXT_RAW], test->label, test->n);
    reliability(bins[1], JUDGE_BINS, test->of[STACK], test->label, test->n);
}

drr_status judge_measure(drr_train_result *result, reliability_bin bins[2][JUDGE_BINS], const critic_meta *meta,
                         const corpus *c, drr_error *err)
{
    groups dev = {0}, test = {0};
    columns d = {0}, t = {0};
    drr_status status = groups_new(&dev, c, CORPUS_DEV, err);
    if (status == DRR_OK)
        status = groups_new(&test, c, CORPUS_TEST, err);
    if (status == DRR_OK)
        status = columns_of(&d, meta, &dev, NULL, err);
    if (status == DRR_OK)
        status = columns_of(&t, meta, &test, NULL, err);
    if (status == DRR_OK)
        status = measure_tasks(result, meta, &test, &dev, c->tasks, err);
    if (status == DRR_OK) {
        measure_all(result, &t, &d, meta->seed);
        if (bins)
            draw_reliability(bins, &t);
    }
    groups_clear(&dev);
    groups_clear(&test);
    columns_clear(&d);
    columns_clear(&t);
    return status;
}
