/* trials.c: what `drr train` prints of several trainings: a table and JSON of --seeds and --folds, and of --search. */
#include "training.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "20" minutes, "90s", "1h30m" */
bool training_duration(double *seconds, const char *text)
{
    double sum = 0;
    if (!isdigit((unsigned char)*text))
        return false;
    while (*text) {
        char *end;
        if (!isdigit((unsigned char)*text) && *text != '.')
            return false;
        const double x = strtod(text, &end);
        if (!isfinite(x) || end == text)
            return false;
        const char unit = *end ? *end : 'm';
        if (!strchr("hms", unit))
            return false;
        sum += x * (unit == 'h' ? 3600 : unit == 'm' ? 60 : 1);
        text = *end ? end + 1 : end;
    }
    *seconds = sum;
    return sum > 0 && sum <= 1e7;
}

/* ---- seeds and folds */

static uint32_t figure(const char *name)
{
    uint32_t f = 0;
    while (drr_repeat_figure_name(f) && strcmp(drr_repeat_figure_name(f), name) != 0)
        f++;
    return f;
}

static void add_figures(cli_table *t, const double *figures)
{
    static const char *const shown[] = {"auroc_text",   "auroc_stack",   "auroc_length", "within_text",
                                        "within_stack", "within_length", "log_loss",     "ece"};
    char text[24];
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        cli_table_add(t, "%s", cli_number(text, figures[figure(shown[i])], 3));
}

static void add_spread(cli_table *t, const char *name, const double *figures)
{
    for (int i = 0; i < 5; i++)
        cli_table_add(t, "%s", i ? "" : name);
    add_figures(t, figures);
}

void repeats_print(const drr_repeats *x, uint64_t seed)
{
    cli_table t;
    char text[24];
    cli_table_begin(&t,
                    "fold|>seed|>test|>epoch|>time|>AUROC text|>P(correct)|>length|>within text|>P(correct)|>length|>"
                    "log loss|>ECE");
    for (size_t i = 0; i < x->n; i++) {
        const drr_repeat *run = &x->runs[i];
        if (run->fold)
            cli_table_add(&t, "%u", run->fold);
        else
            cli_table_add(&t, "usual");
        cli_table_add(&t, "%llu", (unsigned long long)run->seed);
        cli_table_add(&t, "%llu", (unsigned long long)run->n_test_questions);
        cli_table_add(&t, "%u", run->best_epoch);
        cli_table_add(&t, "%s", cli_duration(text, run->seconds));
        add_figures(&t, run->figures);
    }
    add_spread(&t, "mean", x->mean);
    if (x->n > 1)
        add_spread(&t, "deviation", x->sd);
    if (x->folds && x->seeds > 1) {
        add_spread(&t, " of seeds", x->sd_seeds);
        add_spread(&t, " of folds", x->sd_folds);
    }
    cli_table_print(&t);
    printf("test: questions that the run left out; within: right-wrong pairs of one question in the right order\n");
    if (x->folds)
        printf("The critic is none of these: it is trained as usual, on the usual split with seed %llu:\n",
               (unsigned long long)seed);
    else
        printf("The critic is the first of these, trained on the usual split with seed %llu:\n",
               (unsigned long long)seed);
}

static void figures_json(cli_json *j, const char *key, const double *figures)
{
    cli_json_open(j, key, '{');
    for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
        cli_json_number(j, drr_repeat_figure_name(f), figures[f]);
    cli_json_close(j, '}');
}

void repeats_json(cli_json *j, const char *key, const drr_repeats *x)
{
    cli_json_open(j, key, '{');
    cli_json_uint(j, "folds", x->folds);
    cli_json_uint(j, "seeds", x->seeds);
    cli_json_open(j, "runs", '[');
    for (size_t i = 0; i < x->n; i++) {
        const drr_repeat *run = &x->runs[i];
        cli_json_open(j, NULL, '{');
        cli_json_uint(j, "fold", run->fold);
        cli_json_uint(j, "seed", run->seed);
        cli_json_uint(j, "n_train_questions", run->n_train_questions);
        cli_json_uint(j, "n_test_questions", run->n_test_questions);
        cli_json_uint(j, "n_test", run->n_test);
        cli_json_uint(j, "best_epoch", run->best_epoch);
        cli_json_number(j, "seconds", run->seconds);
        for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
            cli_json_number(j, drr_repeat_figure_name(f), run->figures[f]);
        cli_json_close(j, '}');
    }
    cli_json_close(j, ']');
    figures_json(j, "mean", x->mean);
    figures_json(j, "sd", x->sd);
    figures_json(j, "sd_seeds", x->sd_seeds);
    figures_json(j, "sd_folds", x->sd_folds);
    cli_json_close(j, '}');
}

/* ---- a search */

void search_print(const drr_search *x)
{
    cli_table t;
    size_t n_finished = 0;
    char a[24], b[24], c[24], d[24];
    cli_table_begin(
        &t, ">trial|>settings|>questions|>rate|>epochs|>best|>length|kind|>log loss|>text|>stack|>AUROC|>within|>"
            "time|");
    for (size_t i = 0; i < x->n; i++) {
        const drr_trial *trial = &x->trials[i];
        const bool failed = isnan(trial->kinds[trial->kind].log_loss);
        n_finished += !failed;
        cli_table_add(&t, "%zu", i + 1);
        cli_table_add(&t, "%u", trial->settings);
        cli_table_add(&t, "%llu", (unsigned long long)trial->n_questions);
        cli_table_add(&t, "%g", trial->learning_rate);
        cli_table_add(&t, "%u", trial->epochs);
        cli_table_add(&t, "%u", trial->best_epoch);
        cli_table_add(&t, "%u", trial->max_length);
        cli_table_add(&t, "%s", failed ? "-" : drr_trial_kind_name(trial->kind));
        cli_table_add(&t, "%s", cli_number(a, trial->kinds[trial->kind].log_loss, 4));
        cli_table_add(&t, "%s", cli_number(a, trial->kinds[DRR_TRIAL_TEXT].log_loss, 4));
        cli_table_add(&t, "%s", cli_number(b, trial->kinds[DRR_TRIAL_STACK].log_loss, 4));
        cli_table_add(&t, "%s", cli_number(c, trial->kinds[trial->kind].auroc, 3));
        cli_table_add(&t, "%s", cli_number(d, trial->kinds[trial->kind].within, 3));
        cli_table_add(&t, "%s", cli_duration(a, trial->seconds));
        cli_table_add(&t, "%s",
                      failed                 ? "not finished"
                      : i == x->winner       ? "winner"
                      : trial->settings == 1 ? "as given"
                                             : "");
    }
    cli_table_print(&t);
    printf("%zu trial%s in %s of %s; figures are of %llu dev questions, none of the test questions was looked at\n",
           x->n, x->n == 1 ? "" : "s", cli_duration(a, x->seconds), cli_duration(b, x->budget),
           (unsigned long long)x->n_dev_questions);
    if (x->winner >= x->n)
        printf("No trial was finished: the settings as given were trained.\n");
    else if (n_finished < 2)
        printf("One trial alone was finished, and nothing was compared: give more time.\n");
    else if (x->trials[x->winner].settings == 1)
        printf("The settings as given are the winner.\n");
    else if (isfinite(x->gain))
        printf("The winner's log loss is %.4f below that of the settings given on as many questions, standard error "
               "%.4f; being the\nbest of several it is flattered%s.\n",
               x->gain, x->gain_error, x->gain < x->gain_error ? ", and this is within noise" : "");
    printf("Now its critic, and for the first time the test questions:\n");
}

void search_json(cli_json *j, const char *key, const drr_search *x)
{
    cli_json_open(j, key, '{');
    cli_json_number(j, "budget_seconds", x->budget);
    cli_json_number(j, "seconds", x->seconds);
    cli_json_uint(j, "rungs", x->rungs);
    cli_json_uint(j, "n_dev_questions", x->n_dev_questions);
    cli_json_open(j, "trials", '[');
    for (size_t i = 0; i < x->n; i++) {
        const drr_trial *t = &x->trials[i];
        cli_json_open(j, NULL, '{');
        cli_json_uint(j, "settings", t->settings);
        cli_json_uint(j, "rung", t->rung);
        cli_json_uint(j, "n_questions", t->n_questions);
        cli_json_number(j, "learning_rate", t->learning_rate);
        cli_json_uint(j, "epochs", t->epochs);
        cli_json_uint(j, "max_length", t->max_length);
        cli_json_uint(j, "best_epoch", t->best_epoch);
        cli_json_string(j, "kind", isnan(t->kinds[t->kind].log_loss) ? NULL : drr_trial_kind_name(t->kind));
        for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
            cli_json_open(j, drr_trial_kind_name((drr_trial_kind)k), '{');
            cli_json_number(j, "log_loss", t->kinds[k].log_loss);
            cli_json_number(j, "auroc", t->kinds[k].auroc);
            cli_json_number(j, "within", t->kinds[k].within);
            cli_json_close(j, '}');
        }
        cli_json_number(j, "seconds", t->seconds);
        cli_json_close(j, '}');
    }
    cli_json_close(j, ']');
    cli_json_int_or_null(j, "winner", x->winner < x->n ? (int)x->winner : -1);
    cli_json_number(j, "gain", x->gain);
    cli_json_number(j, "gain_error", x->gain_error);
    cli_json_close(j, '}');
}
