/* lessons.c: what examples are taught beside their labels: which question each answers, and at which of its tokens a
 * head of tokens is to say what. Added example by example, beside batches.c's arrays. */
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for `more` items behind the first n; false without memory. */
static bool reserve(void **items, size_t room, size_t size)
{
    size_t bytes;
    void *p = size_multiply(&bytes, room, size) ? realloc(*items, bytes) : NULL;
    if (p)
        *items = p;
    return p != NULL;
}

static drr_status reserve_all(lessons *l, size_t n_reads, drr_error *err)
{
    void *questions = l->questions, *starts = l->starts, *places = l->places, *targets = l->targets;
    bool good = true;
    if (l->n == l->capacity) {
        const size_t room = l->capacity ? 2 * l->capacity : 256;
        good = reserve(&questions, room, sizeof *l->questions) && reserve(&starts, room + 1, sizeof *l->starts);
        l->capacity = good ? room : l->capacity;
    }
    if (good && l->n_reads + n_reads > l->reads_capacity) {
        const size_t room = 2 * (l->n_reads + n_reads);
        good = reserve(&places, room, sizeof *l->places) && reserve(&targets, room, sizeof *l->targets);
        l->reads_capacity = good ? room : l->reads_capacity;
    }
    l->questions = questions;
    l->starts = starts;
    l->places = places;
    l->targets = targets;
    return good ? DRR_OK : error_memory(err);
}

drr_status examples_teach(examples *x, size_t question, const uint32_t *places, const float *targets, size_t n_reads,
                          drr_error *err)
{
    lessons *l = &x->lessons;
    if (l->n + 1 != x->n)
        return error_set(err, DRR_E_ARGUMENT,
                         "%zu examples were added and %zu of them taught; one after the other, please", x->n, l->n);
    drr_status status = reserve_all(l, n_reads, err);
    if (status != DRR_OK)
        return status;
    if (n_reads) {
        memcpy(l->places + l->n_reads, places, n_reads * sizeof *places);
        memcpy(l->targets + l->n_reads, targets, n_reads * sizeof *targets);
    }
    l->starts[0] = 0;
    l->questions[l->n++] = question;
    l->n_reads += n_reads;
    l->starts[l->n] = l->n_reads;
    return DRR_OK;
}

void lessons_clear(lessons *l)
{
    free(l->questions);
    free(l->starts);
    free(l->places);
    free(l->targets);
    *l = (lessons){0};
}
