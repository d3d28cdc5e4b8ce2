/* teach.c: what one trace teaches beside its label. A head of [CLS] learns the label alone. A head of tokens learns it
 * at every token of the text (Cobbe et al. 2021, arXiv 2110.14168) and at the [SEP] behind it, where the text's score
 * is read; or, with steps, at the last token of each labelled step how good it is to have got there, and at [SEP] the
 * label. */
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

typedef struct teaching { /* of one row; room for n places */
    uint32_t *places;
    float *targets;
    size_t n;
} teaching;

static void add(teaching *t, size_t place, double target)
{
    t->places[t->n] = (uint32_t)place;
    t->targets[t->n++] = (float)target;
}

static drr_status add_steps(teaching *t, const drr_trace *trace, const wordpiece *tokenizer, const int32_t *ids,
                            size_t n, drr_error *err)
{
    uint32_t *ends = calloc(2 * (size_t)trace->n_steps + 1, sizeof *ends), *places = ends + trace->n_steps;
    if (!ends)
        return error_memory(err);
    for (uint32_t i = 0; i < trace->n_steps; i++)
        ends[i] = trace->steps[i].end;
    drr_status status = wordpiece_step_places(places, tokenizer, trace->text, ends, trace->n_steps, ids, n, err);
    for (uint32_t i = 0; status == DRR_OK && i < trace->n_steps;
         i++) /* a step without a token of its own says nothing */
        if (places[i] != WORDPIECE_NOWHERE && (t->n == 0 || places[i] > t->places[t->n - 1]))
            add(t, places[i], (double)trace->steps[i].value);
    free(ends);
    return status;
}

drr_status teach_row(examples *x, uint64_t *n_steps, const corpus_row *row, const wordpiece *tokenizer,
                     const drr_train_options *o, const int32_t *ids, size_t n, drr_error *err)
{
    const drr_trace *trace = &row->trace;
    const double label = trace->label == DRR_LABEL_ACCEPT;
    if (!o->steps && o->head == DRR_HEAD_CLS)
        return examples_teach(x, row->question, NULL, NULL, 0, err);
    teaching t = {calloc(n, sizeof *t.places), calloc(n, sizeof *t.targets), 0};
    drr_status status = t.places && t.targets ? DRR_OK : error_memory(err);
    if (status == DRR_OK && o->steps && trace->n_steps) {
        status = add_steps(&t, trace, tokenizer, ids, n, err);
        *n_steps += t.n;
    } else if (status == DRR_OK && !o->steps) {
        size_t at = 1;
        while (at < n && ids[at - 1] != ids[n - 1]) /* the question and its [SEP] */
            at++;
        for (; at + 1 < n; at++)
            add(&t, at, label);
    }
    if (status == DRR_OK) {
        add(&t, n - 1, label);
        status = examples_teach(x, row->question, t.places, t.targets, t.n, err);
    }
    free(t.places);
    free(t.targets);
    return status;
}

drr_status teach_check(drr_train_result *result, const corpus *c, const drr_train_options *o, drr_error *err)
{
    uint64_t stepped = 0;
    uint8_t *seen = calloc(c->n_questions + 1, 1); /* bit 0: has wrong ones, bit 1: right ones */
    if (!seen)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        const corpus_row *row = &c->rows[i];
        if (row->part != CORPUS_TRAIN)
            continue;
        stepped += row->trace.n_steps > 0;
        seen[row->question] |= row->trace.label == DRR_LABEL_ACCEPT ? 2 : 1;
    }
    result->head = o->steps ? DRR_HEAD_TOKEN : o->head;
    result->n_rank_questions = 0;
    for (size_t i = 0; i < c->n_questions && o->rank_weight > 0; i++)
        result->n_rank_questions += seen[i] == 3;
    free(seen);
    if (o->rank_weight > 0 && result->n_rank_questions == 0)
        return error_set(
            err, DRR_E_EMPTY,
            "no question to train on has both a right and a wrong answer, so there is nothing to rank: leave "
            "out --rank-weight, or record more samples of each question");
    if (o->steps && stepped == 0)
        return error_set(
            err, DRR_E_EMPTY,
            "none of the traces to train on in %s has labelled steps: `drr distill --steps mc=M` makes them "
            "(docs/steps.md), and without --steps it trains on the traces' own labels",
            o->traces);
    return DRR_OK;
}
