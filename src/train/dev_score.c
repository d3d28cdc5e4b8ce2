/* dev_score.c: what a fitted encoder is worth on dev questions, for a search to compare by. Calibration and stack are
 * fitted on dev too, so each question is judged by those of the other questions: five folds, each put in the place of
 * the test part once, with judge.c doing what it does for a critic. Only the epoch was chosen with all of them in
 * sight, of every trial alike. */
#include "train/judge_internal.h"
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

enum { FOLDS = 5 };

typedef struct tally { /* rows of all folds, those of a question side by side */
    corpus c;          /* dev rows alone, whose strings are borrowed */
    size_t *place;     /* of each question among those of dev */
    double *p[DRR_TRIAL_KINDS];
    uint8_t *labels;
    size_t *questions, *groups;
    size_t n, n_questions;
} tally;

static void tally_clear(tally *t)
{
    free(t->c.rows);
    free(t->place);
    for (int k = 0; k < DRR_TRIAL_KINDS; k++)
        free(t->p[k]);
    free(t->labels);
    free(t->questions);
    free(t->groups);
}

static drr_status tally_new(tally *t, const corpus *c, drr_error *err)
{
    *t = (tally){.c = {.rows = calloc(c->n + 1, sizeof *t->c.rows), .n_questions = c->n_questions},
                 .place = calloc(c->n_questions + 1, sizeof *t->place),
                 .labels = calloc(c->n + 1, 1),
                 .questions = calloc(c->n + 1, sizeof *t->questions),
                 .groups = calloc(c->n + 1, sizeof *t->groups)};
    bool whole = t->c.rows && t->place && t->labels && t->questions && t->groups;
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        t->p[k] = calloc(c->n + 1, sizeof *t->p[k]);
        whole = whole && t->p[k];
    }
    if (!whole)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == CORPUS_DEV) {
            t->c.rows[t->c.n++] = c->rows[i];
            t->place[c->rows[i].question] = 1;
        }
    for (size_t q = 0; q < c->n_questions; q++)
        if (t->place[q])
            t->place[q] = t->n_questions++;
    return DRR_OK;
}

static drr_status score_fold(tally *t, size_t fold, uint64_t seed, drr_error *err)
{
    critic_meta meta = {.seed = seed};
    drr_train_result ignored = {0};
    groups g = {0};
    for (size_t i = 0; i < t->c.n; i++)
        t->c.rows[i].part = t->place[t->c.rows[i].question] % FOLDS == fold ? CORPUS_TEST : CORPUS_DEV;
    drr_status status = judge_fit(&meta, &ignored, &t->c, seed, err);
    if (status == DRR_OK)
        status = groups_new(&g, &t->c, CORPUS_TEST, err);
    for (size_t i = 0; status == DRR_OK && i < g.n; i++, t->n++) {
        const corpus_row *row = &t->c.rows[g.rows[i]];
        t->p[DRR_TRIAL_TEXT][t->n] = critic_meta_p_text(&meta, row->logit);
        t->p[DRR_TRIAL_STACK][t->n] = groups_judge(&meta, &g, i, g.others, groups_others(&g, i));
        t->labels[t->n] = judge_label(&row->trace);
        t->questions[t->n] = t->place[row->question];
        t->groups[t->n] = fold * t->c.n + g.begin[i];
    }
    groups_clear(&g);
    critic_meta_clear(&meta);
    return status;
}

static void measure(dev_figures *f, const tally *t)
{
    f->n = t->n_questions;
    f->n_rows = t->n;
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        f->log_loss[k] = statistics_log_loss(t->p[k], t->labels, t->n);
        f->auroc[k] = statistics_auroc(t->p[k], t->labels, t->n);
        f->within[k] = statistics_within(t->p[k], t->labels, t->questions, t->groups, t->n, 0, 0).share;
        for (size_t i = 0; i < t->n; i++)
            f->losses[k][t->questions[i]] += statistics_log_loss(&t->p[k][i], &t->labels[i], 1);
    }
}

drr_status dev_score(dev_figures *f, const corpus *c, uint64_t seed, drr_error *err)
{
    tally t;
    *f = (dev_figures){0};
    drr_status status = tally_new(&t, c, err);
    if (status == DRR_OK && t.n_questions < DEV_SCORE_FEWEST)
        status = error_set(err, DRR_E_EMPTY,
                           "%zu dev questions are too few to compare settings by: it takes %d; give traces of more "
                           "questions, or a larger dev share",
                           t.n_questions, DEV_SCORE_FEWEST);
    for (size_t fold = 0; status == DRR_OK && fold < FOLDS; fold++)
        status = score_fold(&t, fold, seed, err);
    for (int k = 0; status == DRR_OK && k < DRR_TRIAL_KINDS; k++) {
        f->losses[k] = calloc(t.n_questions + 1, sizeof *f->losses[k]);
        status = f->losses[k] ? DRR_OK : error_memory(err);
    }
    if (status == DRR_OK)
        measure(f, &t);
    else
        dev_figures_clear(f);
    tally_clear(&t);
    return status;
}

void dev_figures_clear(dev_figures *f)
{
    for (int k = 0; k < DRR_TRIAL_KINDS; k++)
        free(f->losses[k]);
    *f = (dev_figures){0};
}
