/* fleet.c: shows who works on a store in PostgreSQL, once or again and again. */
#include "fleet.h"

#include <math.h>
#include <time.h>
#include <unistd.h>

static const char *state_name(drr_worker_state state)
{
    return state == DRR_WORKER_WORKS ? "works" : state == DRR_WORKER_LEFT ? "left" : "silent";
}

static void print_workers(const drr_fleet *f)
{
    enum { MOST_GONE = 10 }; /* of those that left or fell silent the newest are enough */
    cli_table table;
    char text[24];
    size_t gone = 0, hidden = 0;
    for (size_t i = 0; i < f->n_workers; i++)
        gone += f->workers[i].state != DRR_WORKER_WORKS;
    cli_table_begin(&table, "WORKER|STATE|>HOLDS|>SAMPLES|>TRACES|>TOKENS/S|>SINCE|>HEARD OF");
    for (size_t i = 0; i < f->n_workers; i++) {
        const drr_fleet_worker *w = &f->workers[i];
        if (w->state != DRR_WORKER_WORKS && gone-- > MOST_GONE) {
            hidden++;
            continue;
        }
        cli_table_add(&table, "%s", w->name);
        cli_table_add(&table, "%s", state_name(w->state));
        cli_table_add(&table, "%llu", (unsigned long long)w->held);
        cli_table_add(&table, "%llu", (unsigned long long)w->units);
        cli_table_add(&table, "%llu", (unsigned long long)w->traces);
        cli_table_add(&table, "%.0f", w->seconds > 0 ? (double)w->tokens / w->seconds : 0);
        cli_table_add(&table, "%s", cli_duration(text, w->seconds));
        cli_table_add(&table, "%s ago", cli_duration(text, w->silent_seconds));
    }
    cli_table_print(&table);
    if (hidden)
        printf("and %zu workers that are gone\n", hidden);
}

void fleet_print(const drr_fleet *f)
{
    printf("samples: %llu to do, %llu in work, %llu done, %llu failed, %llu set aside\n", (unsigned long long)f->todo,
           (unsigned long long)f->held, (unsigned long long)f->done, (unsigned long long)f->failed,
           (unsigned long long)f->aside);
    if (f->n_workers)
        print_workers(f);
    for (size_t i = 0; i < f->n_stuck; i++)
        printf("%s: %s %s, sample %u: %s\n", f->stuck[i].aside ? "set aside" : "failed", f->stuck[i].task,
               f->stuck[i].id, f->stuck[i].sample, f->stuck[i].why);
    if (f->failed + f->aside > f->n_stuck)
        printf("and %llu more that failed or were set aside\n",
               (unsigned long long)(f->failed + f->aside - f->n_stuck));
}

void fleet_put_json(cli_json *j, const char *key, const drr_fleet *f)
{
    cli_json_open(j, key, '{');
    cli_json_uint(j, "todo", f->todo);
    cli_json_uint(j, "held", f->held);
    cli_json_uint(j, "done", f->done);
    cli_json_uint(j, "failed", f->failed);
    cli_json_uint(j, "aside", f->aside);
    cli_json_uint(j, "traces", f->traces);
    cli_json_open(j, "workers", '[');
    for (size_t i = 0; i < f->n_workers; i++) {
        const drr_fleet_worker *w = &f->workers[i];
        cli_json_open(j, NULL, '{');
        cli_json_string(j, "name", w->name);
        cli_json_string(j, "reasoner", w->reasoner);
        cli_json_string(j, "state", state_name(w->state));
        cli_json_uint(j, "held", w->held);
        cli_json_uint(j, "samples", w->units);
        cli_json_uint(j, "traces", w->traces);
        cli_json_uint(j, "tokens", w->tokens);
        cli_json_number(j, "seconds", w->seconds);
        cli_json_number(j, "silent_seconds", w->silent_seconds);
        cli_json_close(j, '}');
    }
    cli_json_close(j, ']');
    cli_json_open(j, "stuck", '[');
    for (size_t i = 0; i < f->n_stuck; i++) {
        cli_json_open(j, NULL, '{');
        cli_json_string(j, "task", f->stuck[i].task);
        cli_json_string(j, "id", f->stuck[i].id);
        cli_json_uint(j, "sample", f->stuck[i].sample);
        cli_json_string(j, "state", f->stuck[i].aside ? "aside" : "failed");
        cli_json_string(j, "why", f->stuck[i].why);
        cli_json_close(j, '}');
    }
    cli_json_close(j, ']');
    cli_json_close(j, '}');
}

static void show(const drr_fleet *now, const drr_fleet *before, double seconds, bool json)
{
    char left[24];
    const double traces = before ? (double)(now->traces - before->traces) / seconds : 0;
    const double ended = (double)(now->done + now->failed) - (before ? (double)(before->done + before->failed) : 0);
    if (json) {
        cli_json j = {stdout, false};
        fleet_put_json(&j, NULL, now);
        printf("\n");
        fflush(stdout);
        return;
    }
    if (isatty(STDOUT_FILENO))
        printf("\033[H\033[2J");
    fleet_print(now);
    printf("%llu traces", (unsigned long long)now->traces);
    if (before)
        printf(", %.1f a second", traces);
    if (before && ended > 0)
        printf(", %s left", cli_duration(left, (double)(now->todo + now->held) * seconds / ended));
    printf("\n");
    if (!isatty(STDOUT_FILENO))
        printf("\n");
    fflush(stdout);
}

drr_status fleet_watch(const char *url, double every_seconds, bool json, drr_error *err)
{
    drr_store *store = NULL;
    drr_fleet fleet = {0}, before = {0};
    double then = 0;
    bool first = true;
    cli_hooks(); /* Ctrl-C ends it in order */
    drr_status status = drr_store_open_read(&store, url, err);
    while (status == DRR_OK) {
        status = drr_store_fleet(store, &fleet, err);
        if (status != DRR_OK)
            break;
        const double now = cli_seconds();
        show(&fleet, first ? NULL : &before, now - then, json);
        then = now;
        first = false;
        drr_fleet_clear(&before);
        before = fleet;
        if (before.todo + before.held == 0)
            break;
        while (!cli_interrupted() && cli_seconds() - then < every_seconds)
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        if (cli_interrupted())
            break;
    }
    drr_fleet_clear(&before);
    drr_store_close(store);
    return status;
}
