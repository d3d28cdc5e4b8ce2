/* batches.c: tokenised examples, their order in an epoch, and their packing into what one pass takes. */
#include "train/train.h"

#include <stdlib.h>
#include <string.h>

static drr_status grow(void **items, size_t *capacity, size_t wanted, size_t size, drr_error *err)
{
    size_t bytes, next = *capacity ? *capacity : 256;
    while (next < wanted)
        next *= 2;
    if (next == *capacity)
        return DRR_OK;
    void *p = size_multiply(&bytes, next, size) ? realloc(*items, bytes) : NULL;
    if (!p)
        return error_memory(err);
    *items = p;
    *capacity = next;
    return DRR_OK;
}

drr_status examples_add(examples *x, const int32_t *ids, size_t n, uint8_t label, drr_error *err)
{
    size_t starts_capacity = x->starts ? x->capacity + 1 : 0;
    void *labels = x->labels, *all = x->ids, *starts = x->starts;
    drr_status status = DRR_OK;
    if (x->n == x->capacity) {
        size_t capacity = x->capacity;
        status = grow(&labels, &capacity, x->n + 1, sizeof *x->labels, err);
        x->labels = labels;
        if (status == DRR_OK && starts_capacity < capacity + 1) {
            starts = realloc(x->starts, (capacity + 1) * sizeof *x->starts);
            status = starts ? DRR_OK : error_memory(err);
        }
        if (status != DRR_OK)
            return status;
        x->starts = starts;
        x->capacity = capacity;
        x->starts[0] = 0;
    }
    status = grow(&all, &x->ids_capacity, x->n_ids + n, sizeof *x->ids, err);
    if (status != DRR_OK)
        return status;
    x->ids = all;
    memcpy(x->ids + x->n_ids, ids, n * sizeof *ids);
    x->n_ids += n;
    x->labels[x->n++] = label;
    x->starts[x->n] = x->n_ids;
    return DRR_OK;
}

void examples_clear(examples *x)
{
    free(x->ids);
    free(x->starts);
    free(x->labels);
    lessons_clear(&x->lessons);
    *x = (examples){0};
}

size_t examples_longest(const examples *x)
{
    size_t longest = 0;
    for (size_t i = 0; i < x->n; i++)
        longest = x->starts[i + 1] - x->starts[i] > longest ? x->starts[i + 1] - x->starts[i] : longest;
    return longest;
}

drr_status batch_plan_new(batch_plan *plan, size_t n, size_t batch, size_t budget, drr_error *err)
{
    *plan = (batch_plan){.order = calloc(n ? n : 1, sizeof *plan->order), .n = n, .batch = batch, .budget = budget};
    if (!plan->order)
        return error_memory(err);
    for (size_t i = 0; i < n; i++)
        plan->order[i] = i;
    return DRR_OK;
}

void batch_plan_clear(batch_plan *plan)
{
    free(plan->order);
    free(plan->joined);
    batch_plan_free_groups(plan->groups);
    *plan = (batch_plan){0};
}

void batch_plan_shuffle(batch_plan *plan, uint64_t seed, uint64_t epoch)
{
    rng r;
    if (plan->groups) {
        batch_plan_shuffle_groups(plan, seed, epoch);
        return;
    }
    for (size_t i = 0; i < plan->n; i++)
        plan->order[i] = i;
    rng_seed(&r, hash_mix(seed, epoch + 1));
    rng_shuffle(&r, plan->order, plan->n);
}

size_t batch_plan_steps(const batch_plan *plan)
{
    return (plan->n + plan->batch - 1) / plan->batch;
}

size_t batch_part(const batch_plan *plan, const examples *x, size_t at, size_t end)
{
    size_t n = 0, used = 0;
    for (; at + n < end; n++) {
        const size_t i = plan->order[at + n];
        used += x->starts[i + 1] - x->starts[i];
        if (n && used > plan->budget)
            break;
    }
    while (plan->joined && n > 1 && at + n < end && plan->joined[at + n]) /* back to where that group begins */
        n--;
    return n;
}

size_t batch_pack(const batch_plan *plan, const examples *x, size_t at, size_t end, int32_t *ids, uint32_t *starts,
                  uint8_t *labels)
{
    const size_t n = batch_part(plan, x, at, end);
    size_t used = 0;
    starts[0] = 0;
    for (size_t k = 0; k < n; k++) {
        const size_t i = plan->order[at + k], length = x->starts[i + 1] - x->starts[i];
        memcpy(ids + used, x->ids + x->starts[i], length * sizeof *ids);
        used += length;
        starts[k + 1] = (uint32_t)used;
        labels[k] = x->labels[i];
    }
    return n;
}
