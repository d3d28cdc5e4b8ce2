/* promised.c: what became of a critic's guarantee on the questions of an evaluation: does it speak of answers sought
 * like this, how many were accepted, and how many of these were wrong. */
#include "eval/eval_internal.h"

#include <math.h>

static const strategy_run *drr_run(const comparison *c)
{
    for (size_t s = 0; s < c->n_runs; s++)
        if (c->runs[s].strategy == DRR_STRATEGY_DRR)
            return &c->runs[s];
    return NULL;
}

bool promised_measure(promised *p, const evaluation *e, const comparison *c)
{
    const strategy_run *run = drr_run(c);
    if (!e->has_critic || e->critic.n_guarantees == 0 || !run)
        return false;
    *p = (promised){.g = drr_critic_guarantee(&e->critic, &run->policy)};
    if (!p->g)
        p->g = &e->critic.guarantees[e->critic.n_guarantees - 1];
    p->holds = drr_guarantee_holds(p->why, sizeof p->why, p->g, &run->policy);
    for (size_t i = 0; i < c->n; i++) {
        const drr_result *r = &run->results[i];
        if (!drr_result_accepted(r))
            continue;
        p->n_accepted++;
        p->n_wrong += r->correct == 0;
        p->n_ungraded += r->correct < 0;
    }
    return true;
}

drr_status promised_sentence(buffer *b, const promised *p, const comparison *c, drr_error *err)
{
    char text[480], share[32];
    const uint64_t graded = p->n_accepted - p->n_ungraded;
    drr_guarantee_sentence(text, sizeof text, p->g);
    drr_status status = buffer_printf(b, err, "Guarantee: %s Here drr accepted an answer to %llu of %zu questions",
                                      text, (unsigned long long)p->n_accepted, c->n);
    if (status == DRR_OK)
        status = buffer_printf(b, err, ", %llu of them wrong (%s).", (unsigned long long)p->n_wrong,
                               figure_text(share, graded ? 100 * (double)p->n_wrong / (double)graded : NAN, 1, " %"));
    if (status == DRR_OK && !p->holds)
        status = buffer_printf(b, err, " But it does not speak of answers sought like this: %s.", p->why);
    return status;
}

json_t *promised_json(const promised *p)
{
    return json_pack("{s:b, s:s?, s:I, s:f, s:f, s:f, s:I, s:I}", "holds", (int)p->holds, "why",
                     p->holds ? NULL : p->why, "turns", (json_int_t)p->g->turns, "target_error", p->g->target_error,
                     "delta", p->g->delta, "threshold", p->g->threshold, "accepted", (json_int_t)p->n_accepted, "wrong",
                     (json_int_t)p->n_wrong);
}
