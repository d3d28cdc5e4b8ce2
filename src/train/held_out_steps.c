/* held_out_steps.c: how well a head of tokens tells good steps from bad ones on the test questions: AUROC of the logits
 * at the steps' ends, all steps of all traces together. A step counts as good where its label is above 0: some
 * continuation from it ended right (the "hard" label of docs/steps.md). */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct steps_seen {
    double *scores;
    uint8_t *good;
    size_t n;
    /* memory of one trace, for the longest */
    encoder_workspace *w;
    int32_t *ids;
    uint32_t *ends, *places, *rows;
    float *logits;
} steps_seen;

static void steps_seen_clear(steps_seen *s)
{
    encoder_workspace_free(s->w);
    free(s->scores);
    free(s->good);
    free(s->ids);
    free(s->ends);
    free(s->places);
    free(s->rows);
    free(s->logits);
}

static drr_status score_row(steps_seen *s, const drr_trace *t, const encoder *e, const wordpiece *tokenizer,
                            uint32_t max_length, drr_error *err)
{
    size_t n = 0, reads = 0;
    for (uint32_t i = 0; i < t->n_steps; i++)
        s->ends[i] = t->steps[i].end;
    drr_status status = wordpiece_encode_pair(tokenizer, t->question, t->text, max_length, s->ids, &n, NULL, err);
    if (status == DRR_OK)
        status = wordpiece_step_places(s->places, tokenizer, t->text, s->ends, t->n_steps, s->ids, n, err);
    for (uint32_t i = 0; status == DRR_OK && i < t->n_steps; i++)
        if (s->places[i] != WORDPIECE_NOWHERE && (reads == 0 || s->places[i] > s->rows[reads - 1])) {
            s->good[s->n + reads] = t->steps[i].value > 0;
            s->rows[reads++] = s->places[i];
        }
    if (status != DRR_OK || reads == 0)
        return status;
    const uint32_t starts[2] = {0, (uint32_t)n}, row_starts[2] = {0, (uint32_t)reads};
    status = encoder_logits_at(e, s->w, s->ids, starts, 1, s->rows, row_starts, s->logits, err);
    for (size_t i = 0; status == DRR_OK && i < reads; i++)
        s->scores[s->n++] = (double)s->logits[i];
    return status;
}

drr_status judge_steps(drr_train_result *result, const corpus *c, const encoder *e, const wordpiece *tokenizer,
                       uint32_t max_length, const drr_hooks *hooks, drr_error *err)
{
    size_t all = 0, most = 0;
    result->n_test_steps = 0;
    result->auroc_steps = NAN;
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].part == CORPUS_TEST) {
            const size_t n = c->rows[i].trace.n_steps;
            all += n;
            most = n > most ? n : most;
        }
    if (e->head != DRR_HEAD_TOKEN || all == 0)
        return DRR_OK;
    steps_seen s = {.scores = calloc(all, sizeof *s.scores),
                    .good = calloc(all, 1),
                    .ids = calloc(max_length, sizeof *s.ids),
                    .ends = calloc(most, sizeof *s.ends),
                    .places = calloc(most, sizeof *s.places),
                    .rows = calloc(most, sizeof *s.rows),
                    .logits = calloc(most, sizeof *s.logits)};
    drr_status status =
        s.scores && s.good && s.ids && s.ends && s.places && s.rows && s.logits ? DRR_OK : error_memory(err);
    if (status == DRR_OK)
        status = encoder_workspace_plan(&s.w, e, max_length, 1, max_length, false, err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        const corpus_row *row = &c->rows[i];
        if (row->part != CORPUS_TEST || row->trace.n_steps == 0)
            continue;
        status = hooks_cancelled(hooks) ? error_set(err, DRR_E_INTERRUPTED, "interrupted while scoring steps")
                                        : score_row(&s, &row->trace, e, tokenizer, max_length, err);
    }
    if (status == DRR_OK) {
        result->n_test_steps = s.n;
        result->auroc_steps = statistics_auroc(s.scores, s.good, s.n);
    }
    steps_seen_clear(&s);
    return status;
}
