/* beginnings.c: answers that are not finished. A critic that only ever read whole answers says little of one that is
 * under way; here the beginnings of traces, each ending where a step does, are taught with the label that the whole
 * answer got, so that the critic learns P(it will end right | what is there so far). docs/steps.md, "Beginnings". */
#include "core/statistics.h"
#include "task/task.h"
#include "train/train.h"

#include <stdlib.h>

/* How long the beginnings of a trace are that end with a step: all but the whole. *sizes is the caller's to free. */
static drr_status sizes_of(size_t **sizes, size_t *n, const drr_trace *t, drr_error *err)
{
    uint32_t *ends = NULL;
    size_t n_steps = 0;
    *n = 0;
    drr_status status = t->text ? task_step_ends(&ends, &n_steps, t->kind, t->text, err) : DRR_OK;
    *sizes = status == DRR_OK ? calloc(n_steps + 1, sizeof **sizes) : NULL;
    if (status == DRR_OK && !*sizes)
        status = error_memory(err);
    for (size_t i = 0; status == DRR_OK && i + 1 < n_steps; i++)
        (*sizes)[(*n)++] = ends[i];
    free(ends);
    return status;
}

static drr_status add(examples *x, const corpus_row *row, size_t size, const wordpiece *tokenizer, size_t max_length,
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

drr_status beginnings_teach(examples *x, uint64_t *n_beginnings, const corpus_row *row, size_t at,
                            const wordpiece *tokenizer, size_t max_length, const drr_train_options *o, int32_t *ids,
                            drr_error *err)
{
    size_t *sizes, n;
    rng r;
    rng_seed(&r, hash_mix(o->seed, at));
    drr_status status = sizes_of(&sizes, &n, &row->trace, err);
    if (status == DRR_OK)
        rng_shuffle(&r, sizes, n);
    for (size_t i = 0; status == DRR_OK && i < n && i < o->beginnings; i++) {
        status = add(x, row, sizes[i], tokenizer, max_length, ids, err);
        if (status == DRR_OK)
            status = examples_teach(x, row->question, NULL, NULL, 0, err);
        *n_beginnings += status == DRR_OK;
    }
    free(sizes);
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
        size_t *sizes, n;
        if (c->rows[i].part != CORPUS_TEST)
            continue;
        status = sizes_of(&sizes, &n, &c->rows[i].trace, err);
        for (size_t k = 0; status == DRR_OK && k < n; k++)
            status = add(&x, &c->rows[i], sizes[k], tokenizer, max_length, ids, err);
        free(sizes);
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
