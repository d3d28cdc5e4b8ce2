/* questions.c: what became of each question under each strategy, a line of JSON each: what two studies are compared by
 * (diff.c), and what a report's figures can be computed from again. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>

static json_t *known_or_null(int correct)
{
    return correct < 0 ? json_null() : json_boolean(correct);
}

static json_t *question_json(const comparison *c, const strategy_run *run, const drr_result *r)
{
    char text[17];
    json_t *o = json_object();
    size_t turns = 0;
    snprintf(text, sizeof text, "%016llx", (unsigned long long)question_cluster(r->task));
    for (size_t t = 0; t < r->n_turns; t++)
        turns += drr_turn_answers(&r->turns[t]);
    json_object_set_new(o, "task", json_string(c->name));
    json_object_set_new(o, "id", json_string(r->task->id));
    json_object_set_new(o, "text", json_string(text));
    json_object_set_new(o, "strategy", json_string(run->name));
    json_object_set_new(o, "outcome", json_string(drr_outcome_name(r->outcome)));
    json_object_set_new(o, "correct", known_or_null(r->correct));
    json_object_set_new(o, "first_correct", json_boolean(result_first_right(r)));
    json_object_set_new(o, "answer", r->answer ? json_string(r->answer) : json_null());
    json_object_set_new(o, "p_correct", json_number_or_null(r->p_correct));
    if (r->route != DRR_ROUTE_NONE) {
        json_object_set_new(o, "p_question", json_number_or_null(r->p_question));
        json_object_set_new(o, "route", json_string(drr_route_name(routes_final(r))));
    }
    if (c->folds)
        json_object_set_new(o, "fold", json_integer((json_int_t)c->folds[r - run->results]));
    json_object_set_new(o, "calls", json_integer((json_int_t)r->n_turns));
    json_object_set_new(o, "turns", json_integer((json_int_t)turns));
    json_object_set_new(o, "tokens", json_integer((json_int_t)r->n_tokens));
    return o;
}

drr_status questions_write(const char *path, const evaluation *e, drr_error *err)
{
    line_writer *out = NULL;
    drr_status status = lines_create(&out, path, err);
    for (size_t d = 0; status == DRR_OK && d < e->n; d++) {
        const comparison *c = &e->comparisons[d];
        for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
            for (size_t i = 0; status == DRR_OK && i < c->n; i++) {
                json_t *o = question_json(c, &c->runs[s], &c->runs[s].results[i]);
                char *line = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(10));
                status = line ? lines_put(out, line, err) : error_memory(err);
                free(line);
                json_decref(o);
            }
    }
    if (status == DRR_OK)
        return lines_commit(out, err);
    lines_abandon(out);
    return status;
}
