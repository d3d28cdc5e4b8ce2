/* routes.c: which way questions went by what a critic of questions alone said of them before the first token
 * (src/loop/route.c), and what came of each way: for a report's figures, its notes and a study's table. */
#include "eval/eval_internal.h"

static const char *const words[DRR_ROUTES] = {
    "", "answered at once", "sought in sequence", "sampled in parallel", "escalated", "left unanswered"};

/* What nobody else could be asked about ended like what nobody was to be asked about. */
drr_route routes_final(const drr_result *r)
{
    return r->route == DRR_ROUTE_ESCALATE && !r->escalated ? DRR_ROUTE_ABSTAIN : r->route;
}

void routes_measure(strategy_run *run, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const drr_result *r = &run->results[i];
        route_figures *f = &run->routes[routes_final(r)];
        f->n++;
        f->n_right += r->correct == 1;
        f->n_tokens += r->n_tokens;
    }
}

static bool was_asked(const strategy_run *run)
{
    for (int way = DRR_ROUTE_NONE + 1; way < DRR_ROUTES; way++)
        if (run->routes[way].n)
            return true;
    return false;
}

json_t *routes_json(const strategy_run *run)
{
    json_t *o = was_asked(run) ? json_object() : NULL;
    for (int way = DRR_ROUTE_NONE + 1; o && way < DRR_ROUTES; way++) {
        const route_figures *f = &run->routes[way];
        json_object_set_new(o, drr_route_name((drr_route)way),
                            json_pack("{s:I, s:I, s:I}", "n", (json_int_t)f->n, "n_right", (json_int_t)f->n_right,
                                      "tokens", (json_int_t)f->n_tokens));
    }
    return o;
}

drr_status routes_words(buffer *b, const char *name, const json_t *routes, drr_error *err)
{
    drr_status status = buffer_printf(b, err, "Of the questions of %s, by the question alone, ", name);
    for (int way = DRR_ROUTE_NONE + 1; status == DRR_OK && way < DRR_ROUTES; way++) {
        const json_t *f = json_object_get(routes, drr_route_name((drr_route)way));
        const json_int_t n = json_integer_value(json_object_get(f, "n"));
        const json_int_t right = json_integer_value(json_object_get(f, "n_right"));
        status = buffer_printf(b, err, "%s%lld %s %s",
                               way == 1                ? ""
                               : way == DRR_ROUTES - 1 ? " and "
                                                       : ", ",
                               (long long)n, n == 1 ? "was" : "were", words[way]);
        if (status == DRR_OK && n && way != DRR_ROUTE_ABSTAIN)
            status = buffer_printf(b, err, " (%lld right)", (long long)right);
    }
    return status == DRR_OK ? buffer_puts(b, ".", err) : status;
}

drr_status routes_note(buffer *b, const strategy_run *run, drr_error *err)
{
    json_t *o = routes_json(run);
    const drr_status status = o ? routes_words(b, run->name, o, err) : DRR_OK;
    json_decref(o);
    return status;
}
