/* plot.c: the frame of a plot as SVG: axes, ticks, title; and reliability, which training and evaluation both draw. See
 * plot.h. */
#include "core/plot.h"

#include <math.h>

double plot_x(const plot_frame *f, double x)
{
    return PLOT_LEFT + (PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT) * (x - f->x_low) / (f->x_high - f->x_low);
}

double plot_y(const plot_frame *f, double y)
{
    return PLOT_HEIGHT - PLOT_BOTTOM - (PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM) * (y - f->y_low) / (f->y_high - f->y_low);
}

/* 1, 2 or 5 times a power of ten that gives about five steps. */
static double tick_step(double span)
{
    const double raw = span / 5, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static drr_status draw_ticks(buffer *b, const plot_frame *f, drr_error *err)
{
    const double sx = tick_step(f->x_high - f->x_low), sy = tick_step(f->y_high - f->y_low);
    drr_status status = DRR_OK;
    for (double x = ceil(f->x_low / sx - 1e-9) * sx; status == DRR_OK && x <= f->x_high + 1e-9 * sx; x += sx)
        status = buffer_printf(b, err, "<text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
                               plot_x(f, x), PLOT_HEIGHT - PLOT_BOTTOM + 16, fabs(x) < 1e-9 * sx ? 0 : x);
    for (double y = ceil(f->y_low / sy - 1e-9) * sy; status == DRR_OK && y <= f->y_high + 1e-9 * sy; y += sy)
        status = buffer_printf(b, err,
                               "<line class=\"g\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                               "<text class=\"t\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                               PLOT_LEFT, PLOT_WIDTH - PLOT_RIGHT, plot_y(f, y), plot_y(f, y), PLOT_LEFT - 6,
                               plot_y(f, y) + 4, fabs(y) < 1e-9 * sy ? 0 : y);
    return status;
}

drr_status plot_begin(buffer *b, const plot_frame *f, const char *title, const char *what, const char *x, const char *y,
                      drr_error *err)
{
    drr_status status = buffer_printf(
        b, err,
        "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n<title>%s</title>\n<desc>%s</desc>\n"
        "<text class=\"h\" x=\"%d\" y=\"18\">%s</text>\n"
        "<text class=\"a\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
        "<text class=\"a\" transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
        PLOT_WIDTH, PLOT_HEIGHT, title, title, what, PLOT_LEFT, title, (PLOT_LEFT + PLOT_WIDTH - PLOT_RIGHT) / 2,
        PLOT_HEIGHT - 10, x, (PLOT_TOP + PLOT_HEIGHT - PLOT_BOTTOM) / 2, y);
    if (status == DRR_OK)
        status = draw_ticks(b, f, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", PLOT_LEFT, PLOT_TOP,
                               PLOT_HEIGHT - PLOT_BOTTOM, PLOT_WIDTH - PLOT_RIGHT);
    return status;
}

drr_status plot_end(buffer *b, drr_error *err)
{
    return buffer_puts(b, "</svg>\n", err);
}

/* ---- reliability */

drr_status plot_begin_reliability(buffer *b, const char *title, drr_error *err)
{
    const plot_frame f = {0, 1, 0, 1};
    drr_status status = plot_begin(b, &f, title,
                                   "Of the answers given a probability, the share that was right; the diagonal is "
                                   "perfect. Larger points hold more answers.",
                                   "P(correct) given", "share right", err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<path class=\"g\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", plot_x(&f, 0), plot_y(&f, 0),
                               plot_x(&f, 1), plot_y(&f, 1));
    return status;
}

drr_status plot_reliability_points(buffer *b, const reliability_bin *bins, size_t n_bins, const char *colour,
                                   drr_error *err)
{
    const plot_frame f = {0, 1, 0, 1};
    double total = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; i < n_bins; i++)
        total += (double)bins[i].n;
    for (size_t i = 0; status == DRR_OK && i < n_bins; i++)
        if (bins[i].n) {
            const double n = (double)bins[i].n, share = (double)bins[i].n_right / n;
            status = buffer_printf(b, err,
                                   "<circle class=\"d %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%llu answers: "
                                   "given %.2f, right %.2f</title></circle>\n",
                                   colour, plot_x(&f, bins[i].sum_p / n), plot_y(&f, share), 3 + 9 * sqrt(n / total),
                                   (unsigned long long)bins[i].n, bins[i].sum_p / n, share);
        }
    return status;
}
