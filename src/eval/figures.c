/* figures.c: what a strategy's accuracy is made of: what became of first answers, how much of the room above them was
 * used, and how well its P(correct) says what to leave unanswered. Also the table of these figures, the same in every
 * form of a report. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool turn_is_first_reasoners(const drr_turn *t)
{
    return strcmp(t->role, "escalation") != 0;
}

static const drr_turn *first_answer(const drr_result *r)
{
    for (size_t t = 0; t < r->n_turns; t++)
        if (drr_turn_answers(&r->turns[t]))
            return turn_is_first_reasoners(&r->turns[t]) ? &r->turns[t] : NULL;
    return NULL;
}

bool result_first_right(const drr_result *r)
{
    const drr_turn *first = first_answer(r);
    return first && first->correct == 1;
}

static bool any_right(const drr_result *r)
{
    for (size_t t = 0; t < r->n_turns; t++)
        if (drr_turn_answers(&r->turns[t]) && r->turns[t].correct == 1)
            return true;
    return r->correct == 1;
}

uint64_t question_cluster(const drr_task *task)
{
    uint64_t h = hash_string(0, task->question);
    for (size_t i = 0; i < task->n_choices; i++) /* "Which of these is true?" is many questions */
        h = hash_string(h, task->choices[i]);
    return h;
}

drr_status run_figures(strategy_run *run, size_t n, drr_error *err)
{
    risk_point *points = NULL;
    size_t n_points = 0;
    double *right = calloc(n + 1, sizeof *right);
    uint64_t *clusters = calloc(n + 1, sizeof *clusters);
    drr_status status = right && clusters ? run_risk(&points, &n_points, run, n, err) : error_memory(err);
    uint64_t first = 0, oracle = 0, final = 0;
    for (size_t i = 0; status == DRR_OK && i < n; i++) {
        const drr_result *r = &run->results[i];
        const bool at_first = result_first_right(r), in_the_end = r->correct == 1;
        right[i] = in_the_end;
        clusters[i] = question_cluster(r->task);
        first += at_first;
        final += in_the_end;
        oracle += any_right(r);
        run->wrong_to_right += !at_first && in_the_end;
        run->right_to_wrong += at_first && !in_the_end;
    }
    if (status == DRR_OK) {
        run->accuracy_se = clustered_error(right, clusters, n);
        run->first_accuracy = n ? (double)first / (double)n : NAN;
        run->oracle_accuracy = n ? (double)oracle / (double)n : NAN;
        run->headroom = oracle > first ? ((double) final - (double)first) / (double)(oracle - first) : NAN;
        run->aurc = risk_area(points, n_points);
        run->augrc = risk_generalized_area(points, n_points);
        for (size_t k = 0; k < N_COVERAGE_AT; k++)
            run->coverage_at[k] = risk_coverage_at(points, n_points, coverage_levels[k]);
    }
    free(points);
    free(right);
    free(clusters);
    return status;
}

/* ---- the table */

const double coverage_levels[N_COVERAGE_AT] = {0.90, 0.95, 0.99};

const char *const run_more_heads[RUN_MORE_CELLS] = {"s.e.",   "calls", "first",   "any",     "recovered", "mended",
                                                    "spoilt", "AUGRC", "at 90 %", "at 95 %", "at 99 %"};

const char run_more_legend[] =
    "S.e.: of accuracy, in points, clustered by question. First and any: share of questions whose first answer, any "
    "answer, was\n"
    "  right; recovered: the part of what lies between them that the final answer took. Mended, spoilt: questions "
    "from wrong to\n"
    "  right and from right to wrong between first and final answer. At 90 %: share of questions that can be "
    "answered, the surest\n"
    "  first, at that accuracy.";

void run_more_cells(char cells[RUN_MORE_CELLS][32], const strategy_run *r)
{
    figure_text(cells[0], 100 * r->accuracy_se, 1, "");
    figure_text(cells[1], r->mean_calls, 2, "");
    figure_text(cells[2], 100 * r->first_accuracy, 1, " %");
    figure_text(cells[3], 100 * r->oracle_accuracy, 1, " %");
    figure_text(cells[4], 100 * r->headroom, 0, " %");
    figure_text(cells[5], (double)r->wrong_to_right, 0, "");
    figure_text(cells[6], (double)r->right_to_wrong, 0, "");
    figure_text(cells[7], r->augrc, 3, "");
    for (size_t k = 0; k < N_COVERAGE_AT; k++)
        figure_text(cells[8 + k], 100 * r->coverage_at[k], 1, " %");
}

void run_more_json(json_t *o, const strategy_run *r)
{
    json_t *at = json_object();
    json_object_set_new(o, "accuracy_se", json_number_or_null(r->accuracy_se));
    json_object_set_new(o, "first_accuracy", json_number_or_null(r->first_accuracy));
    json_object_set_new(o, "oracle_accuracy", json_number_or_null(r->oracle_accuracy));
    json_object_set_new(o, "headroom_recovered", json_number_or_null(r->headroom));
    json_object_set_new(o, "wrong_to_right", json_integer((json_int_t)r->wrong_to_right));
    json_object_set_new(o, "right_to_wrong", json_integer((json_int_t)r->right_to_wrong));
    json_object_set_new(o, "augrc", json_number_or_null(r->augrc));
    for (size_t k = 0; k < N_COVERAGE_AT; k++) {
        char key[16];
        snprintf(key, sizeof key, "%.0f", 100 * coverage_levels[k]);
        json_object_set_new(at, key, json_number_or_null(r->coverage_at[k]));
    }
    json_object_set_new(o, "coverage_at", at);
}
