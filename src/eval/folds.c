/* folds.c: questions that are judged each by the one critic of several that never saw it: solving them fold by fold,
 * after which they are one set of results like any other, and what is said of the folds apart. Where the critics come
 * from is suite_folds.c's. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

drr_status folds_assign(comparison *c, const fold_critics *f, drr_error *err)
{
    drr_status status = DRR_OK;
    c->folds = calloc(c->n + 1, sizeof *c->folds);
    if (!c->folds)
        return error_memory(err);
    for (size_t i = 0; i < c->n && status == DRR_OK; i++)
        status = f->fold_of(f->user, &c->folds[i], c->tasks[i], err);
    return status;
}

/* One fold's questions, with its critics; scratch has room for all. */
static drr_status solve_one(drr_result *results, const comparison *c, const drr_policy *policy, const solver *how,
                            uint32_t fold, size_t *where, const drr_task **tasks, drr_result *more, drr_error *err)
{
    const fold_critics *f = how->folds;
    drr_policy own = *policy;
    size_t n = 0;
    if (f->questions)
        own.question_critic = f->questions[fold - 1];
    for (size_t i = 0; i < c->n; i++)
        if (c->folds[i] == fold) {
            where[n] = i;
            tasks[n++] = c->tasks[i];
        }
    if (n == 0)
        return DRR_OK;
    drr_status status =
        drr_solve(more, how->reasoner, f->critics[fold - 1], how->prompts, tasks, n, &own, NULL, NULL, how->hooks, err);
    for (size_t k = 0; status == DRR_OK && k < n; k++)
        results[where[k]] = more[k];
    return status;
}

drr_status folds_solve(drr_result *results, const comparison *c, const drr_policy *policy, const solver *how,
                       drr_error *err)
{
    size_t *where = calloc(c->n + 1, sizeof *where);
    const drr_task **tasks = calloc(c->n + 1, sizeof *tasks);
    drr_result *more = calloc(c->n + 1, sizeof *more);
    drr_status status = where && tasks && more ? DRR_OK : error_memory(err);
    memset(results, 0, c->n * sizeof *results);
    for (uint32_t k = 1; status == DRR_OK && k <= how->folds->n; k++)
        status = solve_one(results, c, policy, how, k, where, tasks, more, err);
    for (size_t i = 0; status != DRR_OK && i < c->n; i++)
        drr_result_clear(&results[i]);
    free(where);
    free(tasks);
    free(more);
    return status;
}

typedef struct fold_figures {
    uint64_t n, n_right, n_tokens;
} fold_figures;

static fold_figures measure(const comparison *c, const strategy_run *run, uint32_t fold)
{
    fold_figures f = {0};
    for (size_t i = 0; i < c->n; i++)
        if (c->folds[i] == fold) {
            f.n++;
            f.n_right += run->results[i].correct == 1;
            f.n_tokens += run->results[i].n_tokens;
        }
    return f;
}

json_t *folds_json(const comparison *c, const fold_critics *critics)
{
    json_t *list = json_array();
    for (uint32_t k = 1; k <= critics->n; k++) {
        json_t *o = json_object(), *strategies = json_object();
        uint64_t n = 0;
        for (size_t s = 0; s < c->n_runs; s++) {
            const fold_figures f = measure(c, &c->runs[s], k);
            n = f.n;
            json_object_set_new(strategies, c->runs[s].name,
                                json_pack("{s:o, s:o}", "accuracy",
                                          json_number_or_null(n ? (double)f.n_right / (double)n : NAN), "mean_tokens",
                                          json_number_or_null(n ? (double)f.n_tokens / (double)n : NAN)));
        }
        json_object_set_new(o, "fold", json_integer(k));
        json_object_set_new(o, "n", json_integer((json_int_t)n));
        json_object_set_new(o, "strategies", strategies);
        json_array_append_new(list, o);
    }
    return list;
}

json_t *folds_critics_json(const fold_critics *critics)
{
    json_t *list = json_array();
    for (uint32_t k = 1; k <= critics->n; k++) {
        drr_critic_info info;
        json_t *o = json_object();
        drr_critic_describe(critics->critics[k - 1], &info);
        json_object_set_new(o, "fold", json_integer(k));
        json_object_set_new(o, "sha256", json_string(info.sha256));
        json_object_set_new(o, "threshold", json_number_or_null(info.threshold));
        if (critics->questions) {
            drr_critic_info question;
            drr_critic_describe(critics->questions[k - 1], &question);
            json_object_set_new(o, "question_sha256", json_string(question.sha256));
        }
        json_object_set_new(o, "n_train_questions", json_integer((json_int_t)info.n_train_questions));
        json_object_set_new(o, "n_train_traces", json_integer((json_int_t)info.n_train_traces));
        json_array_append_new(list, o);
    }
    return list;
}

drr_status folds_note(buffer *b, const comparison *c, const strategy_run *run, drr_error *err)
{
    uint32_t last = 0;
    if (!c->folds)
        return DRR_OK;
    for (size_t i = 0; i < c->n; i++)
        last = c->folds[i] > last ? c->folds[i] : last;
    drr_status status = buffer_printf(b, err, "%s by fold:", run->name);
    for (uint32_t k = 1; status == DRR_OK && k <= last; k++) {
        const fold_figures f = measure(c, run, k);
        char text[32];
        status = buffer_printf(b, err, "%s %s of %llu", k > 1 ? "," : "",
                               figure_text(text, f.n ? 100 * (double)f.n_right / (double)f.n : NAN, 1, " %"),
                               (unsigned long long)f.n);
    }
    return status == DRR_OK ? buffer_puts(b, ".", err) : status;
}
