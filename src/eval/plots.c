/* plots.c: the report's plots as inline SVG, in colours that its style sheet names (--s0 .. --s4), so that they follow
 * a light or a dark page. Each plot has a title and a description for those who do not see it. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 480, HEIGHT = 340, LEFT = 56, RIGHT = 16, TOP = 36, BOTTOM = 48, BINS = 10, SCORE_BINS = 20 };

typedef struct frame {
    double x_low, x_high, y_low, y_high;
} frame;

static double at_x(const frame *f, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (x - f->x_low) / (f->x_high - f->x_low);
}

static double at_y(const frame *f, double y)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - f->y_low) / (f->y_high - f->y_low);
}

/* 1, 2 or 5 times a power of ten that gives about five steps. */
static double tick_step(double span)
{
    const double raw = span / 5, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static drr_status draw_ticks(buffer *b, const frame *f, drr_error *err)
{
    const double sx = tick_step(f->x_high - f->x_low), sy = tick_step(f->y_high - f->y_low);
    drr_status status = DRR_OK;
    for (double x = ceil(f->x_low / sx - 1e-9) * sx; status == DRR_OK && x <= f->x_high + 1e-9 * sx; x += sx)
        status = buffer_printf(b, err, "<text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
                               at_x(f, x), HEIGHT - BOTTOM + 16, fabs(x) < 1e-9 * sx ? 0 : x);
    for (double y = ceil(f->y_low / sy - 1e-9) * sy; status == DRR_OK && y <= f->y_high + 1e-9 * sy; y += sy)
        status = buffer_printf(b, err,
                               "<line class=\"g\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                               "<text class=\"t\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                               LEFT, WIDTH - RIGHT, at_y(f, y), at_y(f, y), LEFT - 6, at_y(f, y) + 4,
                               fabs(y) < 1e-9 * sy ? 0 : y);
    return status;
}

static drr_status begin_plot(buffer *b, const frame *f, const char *title, const char *what, const char *x,
                             const char *y, drr_error *err)
{
    drr_status status =
        buffer_printf(b, err,
                      "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n<title>%s</title>\n<desc>%s</desc>\n"
                      "<text class=\"h\" x=\"%d\" y=\"18\">%s</text>\n"
                      "<text class=\"a\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
                      "<text class=\"a\" transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
                      WIDTH, HEIGHT, title, title, what, LEFT, title, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x,
                      (TOP + HEIGHT - BOTTOM) / 2, y);
    if (status == DRR_OK)
        status = draw_ticks(b, f, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, HEIGHT - BOTTOM,
                               WIDTH - RIGHT);
    return status;
}

static drr_status end_plot(buffer *b, drr_error *err)
{
    return buffer_puts(b, "</svg>\n", err);
}

/* ---- accuracy against tokens */

static frame accuracy_frame(const comparison *c)
{
    frame f = {0, 1, 100, 0};
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
    const frame f = accuracy_frame(c);
    drr_status status = begin_plot(b, &f, "Accuracy against tokens",
                                   "One point a strategy with its 95 % interval; up and left is better.",
                                   "generated tokens a question", "accuracy, %", err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        const strategy_run *r = &c->runs[s];
        const double x = at_x(&f, r->mean_tokens), y = at_y(&f, 100 * r->accuracy.value);
        if (!isnan(r->accuracy.low))
            status = buffer_printf(b, err, "<path class=\"w s%zu\" d=\"M%.1f %.1fV%.1f\"/>\n", s % 5, x,
                                   at_y(&f, 100 * r->accuracy.low), at_y(&f, 100 * r->accuracy.high));
        if (status == DRR_OK)
            status = buffer_printf(b, err,
                                   "<circle class=\"d s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/><text class=\"l\" "
                                   "x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
                                   s % 5, x, y, x > WIDTH - 110 ? x - 9 : x + 9, y + (s % 2 ? 14 : -6),
                                   x > WIDTH - 110 ? "end" : "start", drr_strategy_name(r->strategy));
    }
    return status == DRR_OK ? end_plot(b, err) : status;
}

/* ---- risk against coverage */

static drr_status draw_risk(buffer *b, const frame *f, const comparison *c, size_t s, size_t row, drr_error *err)
{
    const strategy_run *r = &c->runs[s];
    risk_point *points = NULL;
    size_t n = 0;
    drr_status status = run_risk(&points, &n, r, c->n, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"w s%zu\" d=\"", s % 5);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        status = buffer_printf(b, err, "%c%.1f %.1f", i ? 'L' : 'M', at_x(f, 100 * points[i].coverage),
                               at_y(f, fmin(100 * points[i].risk, f->y_high)));
    if (status == DRR_OK)
        status = buffer_printf(b, err, "\"/>\n<text class=\"l f%zu\" x=\"%d\" y=\"%zu\">%s (area %.3f)</text>\n", s % 5,
                               LEFT + 10, TOP + 12 + 15 * row, drr_strategy_name(r->strategy), r->aurc);
    free(points);
    return status;
}

drr_status plot_risk(buffer *b, const comparison *c, drr_error *err)
{
    frame f = {0, 100, 0, 10};
    size_t row = 0;
    for (size_t s = 0; s < c->n_runs; s++)
        f.y_high = fmax(f.y_high, fmin(100, 140 * (1 - c->runs[s].accuracy.value)));
    drr_status status =
        begin_plot(b, &f, "Risk against coverage",
                   "Share of wrong answers when only the surest questions are answered; lower is better.",
                   "questions answered, %", "of these wrong, %", err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        if (!isnan(c->runs[s].aurc))
            status = draw_risk(b, &f, c, s, row++, err);
    return status == DRR_OK ? end_plot(b, err) : status;
}

/* ---- reliability */

drr_status plot_reliability(buffer *b, const judged *set, drr_error *err)
{
    const frame f = {0, 1, 0, 1};
    reliability_bin bins[BINS];
    char title[96];
    snprintf(title, sizeof title, "Reliability: %s", set->words);
    reliability(bins, BINS, set->p, set->right, set->n);
    drr_status status = begin_plot(b, &f, title,
                                   "Of the answers given a probability, the share that was right; the diagonal is "
                                   "perfect. Larger points hold more answers.",
                                   "P(correct) given", "share right", err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"g\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", at_x(&f, 0), at_y(&f, 0),
                               at_x(&f, 1), at_y(&f, 1));
    for (size_t i = 0; status == DRR_OK && i < BINS; i++)
        if (bins[i].n) {
            const double n = (double)bins[i].n, share = (double)bins[i].n_right / n;
            status = buffer_printf(b, err,
                                   "<circle class=\"d s4\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%llu answers: "
                                   "given %.2f, right %.2f</title></circle>\n",
                                   at_x(&f, bins[i].sum_p / n), at_y(&f, share), 3 + 9 * sqrt(n / (double)set->n),
                                   (unsigned long long)bins[i].n, bins[i].sum_p / n, share);
        }
    return status == DRR_OK ? end_plot(b, err) : status;
}

/* ---- scores */

static drr_status draw_bars(buffer *b, const frame *f, const uint64_t *counts, const char *class, double shift,
                            drr_error *err)
{
    const double width = (at_x(f, 1) - at_x(f, 0)) / SCORE_BINS / 2 - 1;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < SCORE_BINS; i++)
        if (counts[i])
            status =
                buffer_printf(b, err, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
                              class, at_x(f, (double)i / SCORE_BINS) + shift * (width + 1), at_y(f, (double)counts[i]),
                              width, at_y(f, 0) - at_y(f, (double)counts[i]));
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
    const frame f = {0, 1, 0, 1.1 * (double)most};
    drr_status status =
        begin_plot(b, &f, title, "How many answers were given which P(correct), right ones and wrong ones.",
                   "P(correct)", "answers", err);
    if (status == DRR_OK)
        status = draw_bars(b, &f, right, "d s4", 0, err);
    if (status == DRR_OK)
        status = draw_bars(b, &f, wrong, "d s1", 1, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err,
                               "<text class=\"l f4\" x=\"%d\" y=\"%d\">right</text><text class=\"l f1\" x=\"%d\" "
                               "y=\"%d\">wrong</text>\n",
                               LEFT + 10, TOP + 12, LEFT + 10, TOP + 27);
    return status == DRR_OK ? end_plot(b, err) : status;
}
