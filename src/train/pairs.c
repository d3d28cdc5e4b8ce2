/* pairs.c: batches for a ranking term, which needs right and wrong answers to one question in one part. The examples of
 * a question are dealt out to groups of at most BATCH_GROUP, the wrong ones first and then the right ones, so that as
 * many groups as can be have both; then the groups are shuffled. Within a question it is chance who meets whom, and
 * another one each epoch. A group never exceeds a part's budget of tokens, so that parts end between groups
 * (batch_pack); the end of a step, which always has `batch` examples, may part one, and the pairs across it are not
 * formed in that epoch. */
#include "train/train.h"

#include <stdlib.h>

typedef struct member { /* an example in the order of its question, then its label, then chance */
    size_t question;
    uint64_t chance;
    size_t example;
    uint8_t label;
} member;

static int member_compare(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->question != y->question)
        return x->question < y->question ? -1 : 1;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->chance != y->chance)
        return x->chance < y->chance ? -1 : 1;
    return (x->example > y->example) - (x->example < y->example);
}

struct grouping { /* planned once; all of an epoch's groups, question by question */
    const examples *x;
    member *members;
    size_t *examples, *starts, *order; /* starts[n_groups + 1]; order of the groups */
    bool *begins;
    size_t n_groups;
};

drr_status batch_plan_group(batch_plan *plan, const examples *x, drr_error *err)
{
    const size_t n = x->n;
    if (x->lessons.n != n || plan->n != n || plan->groups)
        return error_set(err, DRR_E_ARGUMENT, "a ranking term needs to know which question each trace answers");
    plan->joined = calloc(n + 1, sizeof *plan->joined);
    struct grouping *g = plan->groups = calloc(1, sizeof *g);
    if (!plan->joined || !g)
        return error_memory(err);
    *g = (struct grouping){.x = x,
                           .members = calloc(n + 1, sizeof *g->members),
                           .examples = calloc(n + 1, sizeof *g->examples),
                           .starts = calloc(n + 1, sizeof *g->starts),
                           .order = calloc(n + 1, sizeof *g->order),
                           .begins = calloc(n + 1, sizeof *g->begins)};
    return g->members && g->examples && g->starts && g->order && g->begins ? DRR_OK : error_memory(err);
}

void batch_plan_free_groups(struct grouping *g)
{
    if (!g)
        return;
    free(g->members);
    free(g->examples);
    free(g->starts);
    free(g->order);
    free(g->begins);
    free(g);
}

static size_t tokens_of(const examples *x, size_t example)
{
    return x->starts[example + 1] - x->starts[example];
}

/* The members first .. first + n of one question, dealt out in turn to so many groups, which lie one after another.
 * False where one of several members has more tokens than the budget. */
static bool deal(struct grouping *g, size_t first, size_t n, size_t groups, size_t budget)
{
    size_t at = first;
    for (size_t k = 0; k < groups; k++) {
        size_t tokens = 0;
        for (size_t i = k; i < n; i += groups, at++) {
            g->examples[at] = g->members[first + i].example;
            g->begins[at] = i == k;
            tokens += tokens_of(g->x, g->examples[at]);
        }
        if (tokens > budget && k + groups < n)
            return false;
    }
    return true;
}

static void make_groups(struct grouping *g, size_t budget, uint64_t seed)
{
    const examples *x = g->x;
    for (size_t i = 0; i < x->n; i++)
        g->members[i] = (member){x->lessons.questions[i], hash_mix(seed, i), i, x->labels[i]};
    qsort(g->members, x->n, sizeof *g->members, member_compare);
    for (size_t i = 0, end; i < x->n; i = end) {
        for (end = i; end < x->n && g->members[end].question == g->members[i].question; end++)
            ;
        size_t groups = (end - i + BATCH_GROUP - 1) / BATCH_GROUP;
        while (!deal(g, i, end - i, groups, budget))
            groups++;
    }
    g->n_groups = 0;
    for (size_t i = 0; i < x->n; i++)
        if (g->begins[i])
            g->starts[g->n_groups++] = i;
    g->starts[g->n_groups] = x->n;
}

void batch_plan_shuffle_groups(batch_plan *plan, uint64_t seed, uint64_t epoch)
{
    struct grouping *g = plan->groups;
    const uint64_t epoch_seed = hash_mix(seed, epoch + 1);
    size_t used = 0;
    rng r;
    make_groups(g, plan->budget, epoch_seed);
    for (size_t i = 0; i < g->n_groups; i++)
        g->order[i] = i;
    rng_seed(&r, epoch_seed);
    rng_shuffle(&r, g->order, g->n_groups);
    for (size_t i = 0; i < g->n_groups; i++)
        for (size_t k = g->starts[g->order[i]]; k < g->starts[g->order[i] + 1]; k++, used++) {
            plan->order[used] = g->examples[k];
            plan->joined[used] = !g->begins[k];
        }
}
