/* eval.c: drr_eval: every strategy over the same questions through one cache of completions, then figures (measure.c)
 * and the report in three forms, each written whole or not at all. */
#include "check/check.h"
#include "eval/eval_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void drr_eval_options_defaults(drr_eval_options *options)
{
    static const drr_strategy all[] = {DRR_STRATEGY_COT, DRR_STRATEGY_SELF_CRITIQUE, DRR_STRATEGY_VOTE,
                                       DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_DRR};
    *options = (drr_eval_options){.strategies = all, .n_strategies = 5, .bootstrap = 10000};
    drr_policy_defaults(&options->policy);
}

static void comparison_clear(comparison *c)
{
    for (size_t s = 0; s < c->n_runs; s++) {
        for (size_t i = 0; c->runs[s].results && i < c->n; i++)
            drr_result_clear(&c->runs[s].results[i]);
        free(c->runs[s].results);
    }
    free(c->runs);
    free(c->pairs);
    free(c->tasks);
    free(c->folds);
    for (int rows = 0; rows < N_JUDGED; rows++)
        judged_clear(&c->judged[rows]);
}

static drr_status comparison_new(comparison *c, const drr_dataset *dataset, size_t limit, size_t n_entries,
                                 drr_checker *checker, drr_error *err)
{
    c->name = drr_dataset_name(dataset);
    c->n = drr_dataset_count(dataset);
    if (limit && limit < c->n)
        c->n = limit;
    c->tasks = calloc(c->n + 1, sizeof *c->tasks);
    c->runs = calloc(n_entries, sizeof *c->runs);
    if (!c->tasks || !c->runs)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        c->tasks[i] = drr_dataset_at(dataset, i);
        if (!c->tasks[i]->answer[0])
            return error_set(
                err, DRR_E_ARGUMENT,
                "question %s of %s has no reference answer: an evaluation cannot grade what it does not know",
                c->tasks[i]->id, c->name);
        drr_status status = checker_allows(checker, c->tasks[i], err);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

/* ---- grading what only a checker can: all answers of a run at once */

typedef struct answer_place {
    drr_result *result;
    drr_turn *turn; /* NULL: the answer that was settled on */
} answer_place;

static size_t list_answers(answer_place *list, drr_result *results, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        drr_result *r = &results[i];
        if (r->task->kind != DRR_KIND_CHECKED)
            continue;
        for (size_t t = 0; t <= r->n_turns; t++) {
            drr_turn *turn = t < r->n_turns ? &r->turns[t] : NULL;
            if (!(turn ? turn->answer : r->answer))
                continue;
            if (list)
                list[count] = (answer_place){r, turn};
            count++;
        }
    }
    return count;
}

static drr_status check_answers(drr_checker *checker, const answer_place *list, size_t n, const drr_hooks *hooks,
                                drr_error *err)
{
    drr_status status = DRR_OK;
    progress_meter meter;
    check_result r;
    progress_begin(&meter, hooks, "check", "answers", 0, n);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        status = checker_submit(checker, i, list[i].result->task,
                                list[i].turn ? list[i].turn->answer : list[i].result->answer, err);
    for (size_t done = 0; status == DRR_OK && done < n;) {
        if (hooks_cancelled(hooks)) {
            status = error_set(err, DRR_E_INTERRUPTED, "interrupted after %zu of %zu answers were checked", done, n);
        } else if (checker_next(checker, &r, 200)) {
            const answer_place *place = &list[r.tag];
            const int correct = r.label == DRR_LABEL_UNLABELLED ? -1 : r.label == DRR_LABEL_ACCEPT;
            *(place->turn ? &place->turn->correct : &place->result->correct) = correct;
            progress_update(&meter, ++done, NULL);
        }
    }
    if (status == DRR_OK)
        progress_end(&meter, n, NULL);
    else
        checker_cancel(checker);
    return status;
}

static drr_status grade_run(strategy_run *run, size_t n_questions, drr_checker *checker, const drr_hooks *hooks,
                            drr_error *err)
{
    const size_t n = list_answers(NULL, run->results, n_questions);
    if (n == 0)
        return DRR_OK;
    answer_place *list = calloc(n, sizeof *list);
    if (!list)
        return error_memory(err);
    list_answers(list, run->results, n_questions);
    drr_status status = check_answers(checker, list, n, hooks, err);
    free(list);
    for (size_t i = 0; status == DRR_OK && i < n_questions; i++)
        run->n_ungraded += run->results[i].answer && run->results[i].correct < 0;
    if (status == DRR_OK && run->n_ungraded)
        hooks_log(hooks, DRR_LOG_WARN,
                  "%llu answers of %s could not be checked; they count as not right, so its accuracy is a lower bound",
                  (unsigned long long)run->n_ungraded, run->name);
    return status;
}

drr_status solve_entry(drr_result *results, const comparison *c, const drr_policy *policy, const solver *how,
                       drr_error *err)
{
    drr_status status = how->folds ? folds_solve(results, c, policy, how, err)
                                   : drr_solve(results, how->reasoner, how->critic, how->prompts, c->tasks, c->n,
                                               policy, NULL, NULL, how->hooks, err);
    if (status == DRR_OK && how->second && policy->strategy == DRR_STRATEGY_DRR)
        status = drr_escalate(results, c->n, how->second, how->prompts, policy, NULL, NULL, how->hooks, err);
    return status;
}

static drr_status run_strategies(comparison *c, const evaluation *e, const solver *how, drr_error *err)
{
    const drr_eval_options *o = e->options;
    drr_status status = DRR_OK;
    for (size_t s = 0; status == DRR_OK && s < e->n_entries; s++) {
        strategy_run *run = &c->runs[s];
        run->name = e->entries[s].name;
        run->policy = e->entries[s].policy;
        run->strategy = run->policy.strategy;
        run->results = calloc(c->n + 1, sizeof *run->results);
        if (!run->results)
            return error_memory(err);
        c->n_runs = s + 1;
        status = solve_entry(run->results, c, &run->policy, how, err);
    }
    if (status == DRR_OK && o->equal_budget != DRR_BUDGET_OWN)
        status = budget_equal(c, o, how, err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        status = grade_run(&c->runs[s], c->n, o->checker, how->hooks, err);
    if (status == DRR_OK)
        status = comparison_measure(c, o, how->critic || how->folds || o->policy.judge, err);
    return status;
}

static const char *entry_name(const drr_eval_options *o, size_t i)
{
    return o->entries ? o->entries[i].name : drr_strategy_name(o->strategies[i]);
}

/* Of strategies without policies of their own: entries of their names, the caller's; NULL when memory is out. */
static drr_eval_entry *list_entries(const drr_eval_options *o)
{
    const size_t n = o->entries ? o->n_entries : o->n_strategies;
    drr_eval_entry *list = calloc(n + 1, sizeof *list);
    for (size_t i = 0; list && i < n; i++) {
        if (o->entries) {
            list[i] = o->entries[i];
            continue;
        }
        list[i] = (drr_eval_entry){entry_name(o, i), o->policy};
        list[i].policy.strategy = o->strategies[i];
    }
    return list;
}

/* A report names its figures by data set and strategy: of two alike, one would be lost. */
static drr_status check(const drr_eval_options *o, const drr_dataset *const *datasets, size_t n_datasets,
                        drr_error *err)
{
    const size_t n = o->entries ? o->n_entries : o->n_strategies;
    if (!o->out || n_datasets == 0 || n == 0)
        return error_set(err, DRR_E_ARGUMENT, "an evaluation needs a folder to write to, a data set and a strategy");
    for (size_t a = 0; a < n_datasets; a++)
        for (size_t b = 0; b < a; b++)
            if (strcmp(drr_dataset_name(datasets[a]), drr_dataset_name(datasets[b])) == 0)
                return error_set(err, DRR_E_ARGUMENT,
                                 "data sets %zu and %zu are both named \"%s\", and the report keeps figures by name: "
                                 "rename one of the files, or give it once",
                                 b + 1, a + 1, drr_dataset_name(datasets[a]));
    for (size_t a = 0; a < n; a++)
        if (!entry_name(o, a)[0] || strspn(entry_name(o, a), NAME_CHARACTERS) != strlen(entry_name(o, a)))
            return error_set(err, DRR_E_ARGUMENT,
                             "\"%.60s\" is no name for a strategy: letters, digits, spaces and . _ + = - alone",
                             entry_name(o, a));
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < a; b++)
            if (strcmp(entry_name(o, a), entry_name(o, b)) == 0)
                return error_set(err, DRR_E_ARGUMENT, "the strategy %s is listed twice: list each once%s",
                                 entry_name(o, a), o->entries ? ", or name them apart" : "");
    return DRR_OK;
}

static drr_status write_form(const char *folder, const char *name, const char *text, drr_error *err)
{
    buffer path = {0};
    drr_status status = buffer_printf(&path, err, "%s/%s", folder, name);
    if (status == DRR_OK)
        status = file_write_all(path.data, text, strlen(text), err);
    buffer_clear(&path);
    return status;
}

static drr_status write_report(char **json, char **table, const evaluation *e, drr_error *err)
{
    char *html = NULL;
    buffer path = {0};
    const char *out = e->options->out;
    drr_status status = report_json(json, e, err);
    if (status == DRR_OK)
        status = report_text(table, e, err);
    if (status == DRR_OK)
        status = report_html(&html, e, err);
    if (status == DRR_OK)
        status = write_form(out, "report.json", *json, err);
    if (status == DRR_OK)
        status = write_form(out, "report.txt", *table, err);
    if (status == DRR_OK)
        status = write_form(out, "report.html", html, err);
    if (status == DRR_OK)
        status = buffer_printf(&path, err, "%s/questions.jsonl", out);
    if (status == DRR_OK)
        status = questions_write(path.data, e, err);
    buffer_clear(&path);
    free(html);
    return status;
}

static void describe(evaluation *e, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts)
{
    const time_t now = time(NULL);
    struct tm utc;
    e->reasoner = drr_reasoner_id(reasoner);
    e->reasoner_description = drr_reasoner_describe(reasoner);
    e->prompts = drr_prompts_id(prompts);
    const drr_judge *judge = e->options->policy.judge;
    const drr_critic *judging = judge ? drr_judge_critic(judge) : e->folds ? e->folds->critics[0] : critic;
    e->has_critic = judging != NULL;
    if (judging)
        drr_critic_describe(judging, &e->critic);
    e->judge = judge ? drr_judge_name(judge) : e->folds ? e->folds->name : judging ? e->critic.name : NULL;
    if (judging)
        drr_critic_mismatch(e->mismatch, sizeof e->mismatch, judging, reasoner, prompts);
    if (gmtime_r(&now, &utc))
        strftime(e->date, sizeof e->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

drr_status drr_eval(char **json, char **table, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                    const drr_dataset *const *datasets, size_t n_datasets, const drr_eval_options *options,
                    const drr_hooks *hooks, drr_error *err)
{
    return evaluate_part(json, table, NULL, reasoner, critic, prompts, datasets, n_datasets, options, hooks, err);
}

drr_status evaluate_part(char **json, char **table, const part_forms *forms, drr_reasoner *reasoner, drr_critic *critic,
                         const drr_prompts *prompts, const drr_dataset *const *datasets, size_t n_datasets,
                         const drr_eval_options *options, const drr_hooks *hooks, drr_error *err)
{
    evaluation e = {.options = options, .folds = forms ? forms->folds : NULL};
    drr_reasoner *remembering = NULL, *second = NULL;
    cache_counts counts = {0};
    buffer path = {0};
    char *as_json = NULL, *as_text = NULL;
    drr_status status = check(options, datasets, n_datasets, err);
    if (status != DRR_OK)
        return status;
    describe(&e, reasoner, critic, prompts);
    if (*e.mismatch)
        hooks_log(hooks, DRR_LOG_WARN, "%s", e.mismatch);
    drr_eval_entry *entries = list_entries(options);
    e.entries = entries;
    e.n_entries = options->entries ? options->n_entries : options->n_strategies;
    e.comparisons = calloc(n_datasets, sizeof *e.comparisons);
    if (!e.comparisons || !entries) {
        status = error_memory(err);
        goto done;
    }
    e.n = n_datasets;
    for (size_t d = 0; status == DRR_OK && d < n_datasets; d++)
        status = comparison_new(&e.comparisons[d], datasets[d], forms ? forms->limits[d] : options->limit, e.n_entries,
                                options->checker, err);
    for (size_t d = 0; status == DRR_OK && e.folds && d < n_datasets; d++)
        status = folds_assign(&e.comparisons[d], e.folds, err);
    if (status == DRR_OK)
        status = folder_make(options->out, err);
    if (status == DRR_OK)
        status = options->cache ? buffer_puts(&path, options->cache, err)
                                : buffer_printf(&path, err, "%s/samples.db", options->out);
    if (status == DRR_OK)
        status = cached_reasoner_new(&remembering, reasoner, path.data, &counts, err);
    if (status == DRR_OK && options->escalate_to)
        status = cached_reasoner_new(&second, options->escalate_to, path.data, &counts, err);
    const solver how = {remembering, second, critic, e.folds, prompts, hooks};
    for (size_t d = 0; status == DRR_OK && d < n_datasets; d++)
        status = run_strategies(&e.comparisons[d], &e, &how, err);
    if (status == DRR_OK)
        status = evaluation_correct(&e, err);
    if (status != DRR_OK)
        goto done;
    hooks_log(hooks, DRR_LOG_INFO, "%llu completions generated, %llu taken from %s",
              (unsigned long long)counts.generated, (unsigned long long)counts.found, path.data);
    status = write_report(&as_json, &as_text, &e, err);
    if (status == DRR_OK && forms)
        status = part_write(forms, &e, err);
    if (status != DRR_OK)
        goto done;
    *json = as_json;
    *table = as_text;
    as_json = as_text = NULL;
done:
    for (size_t d = 0; d < e.n; d++)
        comparison_clear(&e.comparisons[d]);
    free(e.comparisons);
    free(entries);
    drr_reasoner_close(second);
    drr_reasoner_close(remembering);
    buffer_clear(&path);
    free(as_json);
    free(as_text);
    return status;
}
