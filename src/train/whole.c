/* whole.c: hooks for a training that is one of several, so that whoever waits hears how far all of them are. */
#include "train/train_internal.h"

#include <math.h>

static void hear_log(void *user, drr_log_level level, const char *message)
{
    const whole_hooks *w = user;
    if (level == DRR_LOG_WARN)
        hooks_log(w->outer, level, "%s: %s", w->what, message);
}

/* Of a search, which has a time and no number of steps, what is left of the time; else the training's own. */
static void hear_progress(void *user, const drr_progress *p)
{
    const whole_hooks *w = user;
    char note[256];
    drr_progress all = *p;
    if (!w->outer || !w->outer->progress)
        return;
    snprintf(note, sizeof note, "%s%s%s", w->what, p->note && *p->note ? ", " : "", p->note ? p->note : "");
    all.note = note;
    if (w->deadline > 0) {
        const double left = fmax(0, w->deadline - clock_seconds());
        all = (drr_progress){.phase = w->phase,
                             .done = (uint64_t)fmax(0, w->budget - left),
                             .total = (uint64_t)ceil(w->budget),
                             .unit = "s",
                             .eta_s = left,
                             .note = note};
    }
    w->outer->progress(w->outer->user, &all);
}

static bool hear_cancelled(void *user)
{
    const whole_hooks *w = user;
    return hooks_cancelled(w->outer) || (w->deadline > 0 && clock_seconds() > w->deadline);
}

void whole_begin(whole_hooks *w, const drr_hooks *outer, const char *phase)
{
    *w = (whole_hooks){.hooks = {hear_log, hear_progress, hear_cancelled, w}, .outer = outer, .phase = phase};
}
