/* beginnings.c: answers that are not finished. A critic that only ever read whole answers says little of one that is
 * under way; here the beginnings of traces, each ending where a step does, are taught with the label that the whole
 * answer got, so that the critic learns P(it will end right | what is there so far). docs/steps.md, "Beginnings". */
#include "core/statistics.h"
#include "task/task.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the steps of a trace end, but for the last one, behind which nothing is missing; *ends is NULL for none. */
static drr_status cuts_of(uint32_t **ends, size_t *n, const drr_trace *t, drr_error *err)
{
    *ends = NULL;
    *n = 0;
    drr_status status = t->text ? task_step_ends(ends, n, t->kind, t->text, err) : DRR_OK;
    *n -= *n > 0;
    return status;
}

/* Moves `most` of the n to the front, drawn at random; returns how many there are then. */
static size_t draw(uint32_t *ends, size_t n, size_t most, uint64_t seed)
{
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n && i < most; i++) {
        const size_t k = i + (size_t)rng_below(&r, n - i);
        const uint32_t drawn = ends[k];
        ends[k] = ends[i];
        ends[i] = drawn;
    }
    return n < most ? n : most;
}

static drr_status add(examples *x, const corpus_row *row, uint32_t size, const wordpiece *tokenizer, size_t max_length,
                      int32_t *ids, drr_error *err)
{
    size_t n = 0;
    char *text = string_copy_n(row->trace.text, size);
    drr_status status =
        text ? wordpiece_encode_pair(tokenizer, row->trace.question, text, max_length, ids, &n, NULL, err)
             : error_memory(err);
    free(text);
    return status == DRR_OK ? examples_add(x, ids, n, row->trace.label == DRR_LABEL_ACCEPT, err) : status;
}

drr_status beginnings_teach(examples *x, const corpus_row *row, size_t at, const wordpiece *tokenizer,
                            size_t max_length, const drr_train_options *o, int32_t *ids, drr_error *err)
{
    uint32_t *ends = NULL;
    size_t n = 0;
    drr_status status = cuts_of(&ends, &n, &row->trace, err);
    if (status == DRR_OK)
        n = draw(ends, n, o->beginnings, hash_mix(o->seed, at));
    for (size_t i = 0; status == DRR_OK && i < n; i++) {
        status = add(x, row, ends[i], tokenizer, max_length, ids, err);
        if (status == DRR_OK)
            status = examples_teach(x, row->question, NULL, NULL, 0, err);
    }
    free(ends);
    return status;
}

drr_status beginnings_measure(drr_train_result *result, const corpus *c, const encoder *e, const wordpiece *tokenizer,
                              uint32_t max_length, const drr_hooks *hooks, drr_error *err)
{
    examples x = {0};
    double *scores = NULL;
    float *logits = NULL;
    int32_t *ids = calloc(max_length, sizeof *ids);
    drr_status status = ids ? DRR_OK : error_memory(err);
    for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
        uint32_t *ends = NULL;
        size_t n = 0;
        if (c->rows[i].part != CORPUS_TEST)
            continue;
        status = cuts_of(&ends, &n, &c->rows[i].trace, err);
        for (size_t k = 0; status == DRR_OK && k < n; k++)
            status = add(&x, &c->rows[i], ends[k], tokenizer, max_length, ids, err);
        free(ends);
    }
    if (status == DRR_OK) {
        scores = calloc(x.n + 1, sizeof *scores);
        logits = calloc(x.n + 1, sizeof *logits);
        status = scores && logits ? examples_logits(e, &x, 4096, logits, hooks, err) : error_memory(err);
    }
    for (size_t i = 0; status == DRR_OK && i < x.n; i++)
        scores[i] = (double)logits[i];
    if (status == DRR_OK) {
        result->n_test_beginnings = x.n;
        result->auroc_beginnings = statistics_auroc(scores, x.labels, x.n);
    }
    free(scores);
    free(logits);
    free(ids);
    examples_clear(&x);
    return status;
}
