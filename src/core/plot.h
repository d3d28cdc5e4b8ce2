/* plot.h: plots as SVG, for a page whose style sheet names the colours s0 .. s4 (.d filled, .w a line, .f text), .h the
 * heading, .a and .t the words at the axes, .g grid lines, .axis, .l labels. Each plot has a title and a description
 * for those who do not see it. */
#ifndef DRR_CORE_PLOT_H
#define DRR_CORE_PLOT_H

#include "core/core.h"
#include "core/statistics.h"

enum { PLOT_WIDTH = 480, PLOT_HEIGHT = 340, PLOT_LEFT = 56, PLOT_RIGHT = 16, PLOT_TOP = 36, PLOT_BOTTOM = 48 };

typedef struct plot_frame { /* what the axes span */
    double x_low, x_high, y_low, y_high;
} plot_frame;

double plot_x(const plot_frame *f, double x); /* in the drawing's units */
double plot_y(const plot_frame *f, double y);
/* <svg> with axes and words, which are not escaped; drawing follows, then plot_end. */
drr_status plot_begin(buffer *b, const plot_frame *f, const char *title, const char *what, const char *x, const char *y,
                      drr_error *err);
drr_status plot_end(buffer *b, drr_error *err);
/* Share right against P(correct): a frame with the diagonal, and the points of bins in a colour. */
drr_status plot_begin_reliability(buffer *b, const char *title, drr_error *err);
drr_status plot_reliability_points(buffer *b, const reliability_bin *bins, size_t n_bins, const char *colour,
                                   drr_error *err);

#endif
