/* progress.c: tells the caller's hooks how far a long job is, how fast it goes and how long it will take. The rate is
 * over a sliding window of half a minute, so that it follows a machine whose speed changes. */
#include "core/core.h"

#include <time.h>

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void hooks_log(const drr_hooks *hooks, drr_log_level level, const char *format, ...)
{
    if (!hooks || !hooks->log)
        return;
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    hooks->log(hooks->user, level, message);
}

bool hooks_cancelled(const drr_hooks *hooks)
{
    return hooks && hooks->cancelled && hooks->cancelled(hooks->user);
}

void progress_begin(progress_meter *meter, const drr_hooks *hooks, const char *phase, const char *unit, uint64_t done,
                    uint64_t total)
{
    const double now = clock_seconds();
    *meter = (progress_meter){.hooks = hooks,
                              .phase = phase,
                              .unit = unit,
                              .total = total,
                              .first_done = done,
                              .window_done = done,
                              .started_s = now,
                              .window_s = now};
}

static void report(progress_meter *meter, uint64_t done, const char *note, double now)
{
    const double window = now - meter->window_s;
    if (window > 0.05 && done > meter->window_done)
        meter->rate = (double)(done - meter->window_done) / window;
    if (window > 30) {
        meter->window_s = now;
        meter->window_done = done;
    }
    const double since_start = now - meter->started_s;
    const double rate = meter->rate > 0   ? meter->rate
                        : since_start > 0 ? (double)(done - meter->first_done) / since_start
                                          : 0;
    const drr_progress p = {.phase = meter->phase,
                            .done = done,
                            .total = meter->total,
                            .unit = meter->unit,
                            .per_second = rate,
                            .eta_s = rate > 0 && meter->total >= done ? (double)(meter->total - done) / rate : -1,
                            .note = note};
    meter->last_s = now;
    meter->hooks->progress(meter->hooks->user, &p);
}

void progress_update(progress_meter *meter, uint64_t done, const char *note)
{
    if (!meter->hooks || !meter->hooks->progress)
        return;
    const double now = clock_seconds();
    if (now - meter->last_s >= 0.25)
        report(meter, done, note, now);
}

void progress_end(progress_meter *meter, uint64_t done, const char *note)
{
    if (meter->hooks && meter->hooks->progress)
        report(meter, done, note, clock_seconds());
}
