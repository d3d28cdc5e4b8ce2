/* plots.c: the report's plots as inline SVG, in colours that its style sheet names (--s0 .. --s4), so that they follow
 * a light or a dark page. Each plot has a title and a description for those who do not see it. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 10, SCORE_BINS = 20 };

/* ---- accuracy against tokens */

static plot_frame accuracy_frame(const comparison *c)
{
    plot_frame f = {0, 1, 100, 0};
    for (size_t s = 0; s < c->n_runs; s++) {
        const interval *a = &c->runs[s].accuracy;
        const double low = isnan(a->low) ? a->value : a->low, high = isnan(a->high) ? a->value : a->high;
        f.x_high = fmax(f.x_high, 1.15 * c->runs[s].mean_tokens);
        f.y_low = fmin(f.y_low, 100 * low);
        f.y_high = fmax(f.y_high, 100 * high);
    }
    f.y_low = fmax(0, f.y_low - 3);
    f.y_high = fmin(100, f.y_high + 3);
    if (f.y_high <= f.y_low)
        f.y_high = f.y_low + 1;
    return f;
}

drr_status plot_accuracy(buffer *b, const comparison *c, drr_error *err)
{
    const plot_frame f = accuracy_frame(c);
    drr_status status = plot_begin(b, &f, "Accuracy against tokens",
                                   "One point a strategy with its 95 % interval; up and left is better.",
                                   "generated tokens a question", "accuracy, %", err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        const strategy_run *r = &c->runs[s];
        const double x = plot_x(&f, r->mean_tokens), y = plot_y(&f, 100 * r->accuracy.value);
        if (!isnan(r->accuracy.low))
            status = buffer_printf(b, err, "<path class=\"w s%zu\" d=\"M%.1f %.1fV%.1f\"/>\n", s % 5, x,
                                   plot_y(&f, 100 * r->accuracy.low), plot_y(&f, 100 * r->accuracy.high));
        if (status == DRR_OK)
            status = buffer_printf(b, err,
                                   "<circle class=\"d s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/><text class=\"l\" "
                                   "x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
                                   s % 5, x, y, x > PLOT_WIDTH - 110 ? x - 9 : x + 9, y + (s % 2 ? 14 : -6),
                                   x > PLOT_WIDTH - 110 ? "end" : "start", r->name);
    }
    return status == DRR_OK ? plot_end(b, err) : status;
}

/* ---- risk against coverage */

static drr_status draw_risk(buffer *b, const plot_frame *f, const comparison *c, size_t s, size_t row, drr_error *err)
{
    const strategy_run *r = &c->runs[s];
    risk_point *points = NULL;
    size_t n = 0;
    drr_status status = run_risk(&points, &n, r, c->n, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"w s%zu\" d=\"", s % 5);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        status = buffer_printf(b, err, "%c%.1f %.1f", i ? 'L' : 'M', plot_x(f, 100 * points[i].coverage),
                               plot_y(f, fmin(100 * points[i].risk, f->y_high)));
    if (status == DRR_OK)
        status = buffer_printf(b, err, "\"/>\n<text class=\"l f%zu\" x=\"%d\" y=\"%zu\">%s (area %.3f)</text>\n", s % 5,
                               PLOT_LEFT + 10, PLOT_TOP + 12 + 15 * row, r->name, r->aurc);
    free(points);
    return status;
}

drr_status plot_risk(buffer *b, const comparison *c, drr_error *err)
{
    plot_frame f = {0, 100, 0, 10};
    size_t row = 0;
    for (size_t s = 0; s < c->n_runs; s++)
        f.y_high = fmax(f.y_high, fmin(100, 140 * (1 - c->runs[s].accuracy.value)));
    drr_status status =
        plot_begin(b, &f, "Risk against coverage",
                   "Share of wrong answers when only the surest questions are answered; lower is better.",
                   "questions answered, %", "of these wrong, %", err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        if (!isnan(c->runs[s].aurc))
            status = draw_risk(b, &f, c, s, row++, err);
    return status == DRR_OK ? plot_end(b, err) : status;
}

/* ---- reliability */

drr_status plot_reliability(buffer *b, const judged *set, drr_error *err)
{
    reliability_bin bins[BINS];
    char title[96];
    snprintf(title, sizeof title, "Reliability: %s", set->words);
    reliability(bins, BINS, set->p, set->right, set->n);
    drr_status status = plot_begin_reliability(b, title, err);
    if (status == DRR_OK)
        status = plot_reliability_points(b, bins, BINS, "s4", err);
    return status == DRR_OK ? plot_end(b, err) : status;
}

/* ---- scores */

static drr_status draw_bars(buffer *b, const plot_frame *f, const uint64_t *counts, const char *class, double shift,
                            drr_error *err)
{
    const double width = (plot_x(f, 1) - plot_x(f, 0)) / SCORE_BINS / 2 - 1;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < SCORE_BINS; i++)
        if (counts[i])
            status =
                buffer_printf(b, err, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
                              class, plot_x(f, (double)i / SCORE_BINS) + shift * (width + 1),
                              plot_y(f, (double)counts[i]), width, plot_y(f, 0) - plot_y(f, (double)counts[i]));
    return status;
}

drr_status plot_scores(buffer *b, const judged *set, drr_error *err)
{
    uint64_t right[SCORE_BINS] = {0}, wrong[SCORE_BINS] = {0}, most = 1;
    char title[96];
    snprintf(title, sizeof title, "Scores: %s", set->words);
    for (size_t i = 0; i < set->n; i++) {
        const double at = set->p[i] * SCORE_BINS;
        const size_t bin = at >= SCORE_BINS ? SCORE_BINS - 1 : (size_t)at;
        const uint64_t n = ++*(set->right[i] ? &right[bin] : &wrong[bin]);
        most = n > most ? n : most;
    }
    const plot_frame f = {0, 1, 0, 1.1 * (double)most};
    drr_status status =
        plot_begin(b, &f, title, "How many answers were given which P(correct), right ones and wrong ones.",
                   "P(correct)", "answers", err);
    if (status == DRR_OK)
        status = draw_bars(b, &f, right, "d s4", 0, err);
    if (status == DRR_OK)
        status = draw_bars(b, &f, wrong, "d s1", 1, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err,
                               "<text class=\"l f4\" x=\"%d\" y=\"%d\">right</text><text class=\"l f1\" x=\"%d\" "
                               "y=\"%d\">wrong</text>\n",
                               PLOT_LEFT + 10, PLOT_TOP + 12, PLOT_LEFT + 10, PLOT_TOP + 27);
    return status == DRR_OK ? plot_end(b, err) : status;
}
