/* replay_auroc.c: how well scores tell right answers from wrong ones: the text's logit, the stack with all other
 * answers known, the share of answers that agree, and the critic's posterior. Pairs are of one fold, for each critic
 * has a scale of its own; intervals are bootstrapped over questions. */
#include "replay_study.h"

#include <math.h>
#include <stdlib.h>

enum { TEXT, ALL, SHARE, NAIVE, SCORES };
static const char *const score_names[SCORES] = {"auroc.text", "auroc.stack", "auroc.vote-share", "auroc.posterior"};

typedef struct rows { /* [n] of each score; questions[i]'s begin at starts[i] */
    double *score[SCORES], *drawn[SCORES];
    uint8_t *label, *drawn_label;
    size_t n;
} rows;

static void score_question(rows *r, const study *s, const question *q)
{
    const part *p = &s->test;
    double chance[MOST_ANSWERS] = {0}, alone[MOST_ANSWERS];
    size_t choice[MOST_ANSWERS], n_read = 0;
    for (size_t k = 0; k < q->n; k++)
        if (p->answers[q->first + k].parsed) {
            alone[n_read] = p->answers[q->first + k].alone;
            choice[n_read++] = p->answers[q->first + k].choice;
        }
    weigh_posterior(chance, alone, choice, n_read, q->n_choices, q->alternatives, q->closed);
    for (size_t k = 0; k < q->n; k++, r->n++) {
        const answer *a = &p->answers[q->first + k];
        uint32_t agree = 0;
        for (size_t j = 0; j < q->n; j++)
            agree += j != k && a->parsed && p->answers[q->first + j].choice == a->choice;
        r->score[TEXT][r->n] = a->logit;
        r->score[ALL][r->n] = study_judge(s, q, a, (uint32_t)q->n - 1, agree);
        r->score[SHARE][r->n] = a->parsed ? (double)(agree + 1) / (double)q->n : 0;
        r->score[NAIVE][r->n] = a->parsed ? chance[a->choice] : 0;
        r->label[r->n] = a->right;
    }
}

/* Of the questions picked[n_picked]; NULL: of all. */
static void stratified(double *auroc, rows *r, const study *s, const size_t *picked, size_t n_picked)
{
    const part *p = &s->test;
    double sum[SCORES] = {0}, weight = 0;
    for (uint32_t fold = 0; fold < s->n_folds; fold++) {
        size_t n = 0;
        double right = 0;
        for (size_t j = 0; j < n_picked; j++) {
            const question *q = &p->questions[picked ? picked[j] : j];
            if (q->fold != fold)
                continue;
            for (size_t k = q->first; k < q->first + q->n && n < 2 * p->n_answers; k++, n++) {
                for (size_t c = 0; c < SCORES; c++)
                    r->drawn[c][n] = r->score[c][k];
                right += r->drawn_label[n] = r->label[k];
            }
        }
        const double pairs = right * ((double)n - right);
        for (size_t c = 0; c < SCORES && pairs > 0; c++)
            sum[c] += pairs * statistics_auroc(r->drawn[c], r->drawn_label, n);
        weight += pairs;
    }
    for (size_t c = 0; c < SCORES; c++)
        auroc[c] = sum[c] / weight;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_interval(const char *name, double value, double *drawn, uint32_t n)
{
    qsort(drawn, n, sizeof *drawn, compare_doubles);
    printf("%s %.6f %.6f %.6f\n", name, value, drawn[(size_t)floor(0.025 * (n - 1))],
           drawn[(size_t)ceil(0.975 * (n - 1))]);
}

drr_status study_print_auroc(const study *s, drr_error *err)
{
    const part *p = &s->test;
    const size_t most = 2 * p->n_answers + 1;
    const uint32_t draws = s->resamples < 1000 ? s->resamples : 1000;
    rows r = {.label = calloc(most, 1), .drawn_label = calloc(most, 1)};
    double *memory = calloc(2 * SCORES * most, sizeof *memory),
           *resampled = calloc((SCORES + 1) * (size_t)draws, sizeof *resampled);
    size_t *picked = calloc(p->n + 1, sizeof *picked);
    double auroc[SCORES], one[SCORES];
    rng random;
    drr_status status = r.label && r.drawn_label && memory && resampled && picked ? DRR_OK : error_memory(err);
    for (size_t c = 0; status == DRR_OK && c < SCORES; c++) {
        r.score[c] = memory + 2 * c * most;
        r.drawn[c] = memory + (2 * c + 1) * most;
    }
    for (size_t i = 0; status == DRR_OK && i < p->n; i++)
        score_question(&r, s, &p->questions[i]);
    if (status == DRR_OK)
        stratified(auroc, &r, s, NULL, p->n);
    rng_seed(&random, s->seed);
    for (uint32_t d = 0; status == DRR_OK && d < draws; d++) {
        for (size_t i = 0; i < p->n; i++)
            picked[i] = (size_t)rng_below(&random, p->n);
        stratified(one, &r, s, picked, p->n);
        for (size_t c = 0; c < SCORES; c++)
            resampled[c * draws + d] = one[c];
        resampled[SCORES * (size_t)draws + d] = one[ALL] - one[SHARE];
    }
    for (size_t c = 0; status == DRR_OK && c < SCORES; c++)
        print_interval(score_names[c], auroc[c], resampled + c * draws, draws);
    if (status == DRR_OK)
        print_interval("auroc.stack-vote-share", auroc[ALL] - auroc[SHARE], resampled + SCORES * (size_t)draws, draws);
    free(r.label);
    free(r.drawn_label);
    free(memory);
    free(resampled);
    free(picked);
    return status;
}
