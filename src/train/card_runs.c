/* card_runs.c: what a model card tells of other trainings than its critic's: seeds and folds, and a search's trials. */
#include "train/train.h"

#include <math.h>
#include <string.h>

static const char *number(char text[24], double value, int decimals)
{
    if (isfinite(value))
        snprintf(text, 24, "%.*f", decimals, value);
    else
        snprintf(text, 24, "\xE2\x80\x93");
    return text;
}

/* Figures of a run that the table has room for, by their names. */
static const char *const shown[] = {"auroc_text", "auroc_stack", "within_text", "within_stack", "log_loss", "ece"};
enum { N_SHOWN = sizeof shown / sizeof *shown };

static drr_status put_figures(buffer *b, const double *figures, drr_error *err)
{
    drr_status status = DRR_OK;
    char text[24];
    for (size_t k = 0; status == DRR_OK && k < N_SHOWN; k++)
        for (uint32_t f = 0; status == DRR_OK && f < DRR_REPEAT_FIGURES; f++)
            if (strcmp(drr_repeat_figure_name(f), shown[k]) == 0)
                status = buffer_printf(b, err, " | %s", number(text, figures[f], 3));
    return status == DRR_OK ? buffer_puts(b, " |\n", err) : status;
}

static drr_status put_spread(buffer *b, const drr_repeats *x, drr_error *err)
{
    const struct {
        const char *name;
        const double *figures;
        bool is_there;
    } rows[] = {{"**mean**", x->mean, true},
                {"deviation of runs", x->sd, x->n > 1},
                {"of seeds within a fold", x->sd_seeds, x->seeds > 1 && x->folds},
                {"of the folds' means", x->sd_folds, x->folds > 0 && x->seeds > 1}};
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].is_there)
            continue;
        status = buffer_printf(b, err, "| %s | |", rows[i].name);
        if (status == DRR_OK)
            status = put_figures(b, rows[i].figures, err);
    }
    return status;
}

static drr_status put_repeats(buffer *b, const card *k, drr_error *err)
{
    const drr_repeats *x = k->repeats;
    drr_status status =
        x->folds
            ? buffer_printf(b, err,
                            "\n## Seeds and folds\nThe same training, %zu times: each of %u folds of the questions "
                            "left out once and measured on, with %u seeds each.\nThis critic is none of them: it "
                            "was trained on the usual split with seed %llu (above).\n",
                            x->n, x->folds, x->seeds, (unsigned long long)k->options->seed)
            : buffer_printf(b, err,
                            "\n## Seeds\nThe same training with %u seeds, on the same split. The first is this "
                            "critic.\n",
                            x->seeds);
    if (status == DRR_OK)
        status = buffer_puts(b,
                             "\n| fold | seed | test questions | AUROC: text | P(correct) | within a question: text | "
                             "P(correct) | log loss | ECE |\n"
                             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
                             err);
    for (size_t i = 0; status == DRR_OK && i < x->n; i++) {
        const drr_repeat *run = &x->runs[i];
        status = run->fold ? buffer_printf(b, err, "| %u", run->fold) : buffer_puts(b, "| usual", err);
        if (status == DRR_OK)
            status = buffer_printf(b, err, " | %llu | %llu", (unsigned long long)run->seed,
                                   (unsigned long long)run->n_test_questions);
        if (status == DRR_OK)
            status = put_figures(b, run->figures, err);
    }
    return status == DRR_OK ? put_spread(b, x, err) : status;
}

static drr_status put_trial(buffer *b, const drr_search *x, size_t at, drr_error *err)
{
    const drr_trial *t = &x->trials[at];
    char loss[24], auroc[24], within[24];
    return buffer_printf(b, err, "| %u%s | %llu | %g | %u | %u | %s | %s | %s | %s | %.0f |\n", t->settings,
                         at == x->winner ? " (winner)" : "", (unsigned long long)t->n_questions, t->learning_rate,
                         t->epochs, t->max_length, drr_trial_kind_name(t->kind),
                         number(loss, t->kinds[t->kind].log_loss, 4), number(auroc, t->kinds[t->kind].auroc, 3),
                         number(within, t->kinds[t->kind].within, 3), t->seconds);
}

static drr_status put_search(buffer *b, const drr_search *x, drr_error *err)
{
    drr_status status = buffer_printf(
        b, err,
        "\n## Search\nSettings were tried for %.0f s on %llu dev questions, which train nothing but calibration and "
        "stack; each was judged by those\nof other dev questions. Settings 1 are those that were given. The test "
        "questions had no part in it.\n\n"
        "| settings | train questions | learning rate | epochs | max length | kind | log loss | AUROC | within a "
        "question "
        "| seconds |\n| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n",
        x->seconds, (unsigned long long)x->n_dev_questions);
    for (size_t i = 0; status == DRR_OK && i < x->n; i++)
        status = put_trial(b, x, i, err);
    if (status == DRR_OK && x->winner < x->n && isfinite(x->gain) && x->trials[x->winner].settings != 1)
        status =
            buffer_printf(b, err,
                          "\nThe winner's log loss is %.4f below that of settings 1 on as many questions (standard "
                          "error %.4f): being the best of several, it is flattered.\n",
                          x->gain, x->gain_error);
    return status;
}

drr_status card_put_runs(buffer *b, const card *k, drr_error *err)
{
    drr_status status = k->search ? put_search(b, k->search, err) : DRR_OK;
    return status == DRR_OK && k->repeats ? put_repeats(b, k, err) : status;
}
