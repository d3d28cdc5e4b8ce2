/* shares.c: which texts of a step are whose. */
#include "train/ranks_internal.h"

static size_t length_at(const examples *x, const size_t *order, size_t at)
{
    const size_t i = order ? order[at] : at;
    return x->starts[i + 1] - x->starts[i];
}

/* The share's beginning: where the tokens before come closest to this rank's part of all. */
static size_t cut_at(const examples *x, const size_t *order, size_t begin, size_t end, double target)
{
    double before = 0;
    size_t at = begin;
    for (; at < end; at++) {
        const double length = (double)length_at(x, order, at);
        if (before + length / 2 >= target)
            break;
        before += length;
    }
    return at;
}

void share_of(size_t *from, size_t *to, const examples *x, const size_t *order, size_t begin, size_t end, uint32_t rank,
              uint32_t n)
{
    double all = 0;
    for (size_t at = begin; at < end; at++)
        all += (double)length_at(x, order, at);
    *from = rank == 0 ? begin : cut_at(x, order, begin, end, all * rank / n);
    *to = rank + 1 == n ? end : cut_at(x, order, begin, end, all * (rank + 1) / n);
}

/* Back to where a group begins that must stay together. */
static size_t group_at(const batch_plan *plan, size_t begin, size_t at, size_t end)
{
    while (plan->joined && at > begin && at < end && plan->joined[at])
        at--;
    return at;
}

step_pieces step_pieces_of(const batch_plan *plan, const examples *x, size_t begin, size_t end, const ranks *r)
{
    step_pieces s = {.plan = plan, .x = x, .end = end, .at = begin, .from = begin, .to = end};
    if (r) {
        share_of(&s.from, &s.to, x, plan->order, begin, end, r->rank, r->n);
        s.from = group_at(plan, begin, s.from, end);
        s.to = group_at(plan, begin, s.to, end);
    }
    return s;
}

bool step_pieces_next(step_pieces *s, step_piece *p)
{
    while (s->from < s->to && s->at < s->to) { /* a share may be empty */
        const size_t begin = s->at, end = begin + batch_part(s->plan, s->x, begin, s->end);
        const uint64_t part = s->part++;
        s->at = end;
        if (end <= s->from)
            continue;
        *p = (step_piece){.begin = begin > s->from ? begin : s->from, .end = end < s->to ? end : s->to, .part = part};
        p->first_sequence = (uint32_t)(p->begin - begin);
        for (size_t at = begin; at < p->begin; at++)
            p->first_token += (uint32_t)length_at(s->x, s->plan->order, at);
        p->last = p->end == s->to;
        return true;
    }
    return false;
}
