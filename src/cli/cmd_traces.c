/* cmd_traces.c: looking at traces, and moving them between stores and JSONL. */
#include "counting.h"
#include "fleet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int run_ls(int argc, char **argv);
static int run_show(int argc, char **argv);
static int run_stats(int argc, char **argv);
static int run_export(int argc, char **argv);
static int run_import(int argc, char **argv);

static const cli_command ls_command = {"traces ls", "FILE", "one line a trace",
                                       "FILE is a store or JSONL, plain or gzip.\n\n"
                                       "Examples:\n  drr traces ls runs/csqa/traces.db\n"
                                       "  drr traces ls traces.db --label reject --turn 1 --n 20\n",
                                       run_ls};
static const cli_command show_command = {
    "traces show", "FILE", "traces in full",
    "Examples:\n  drr traces show traces.db --id q17\n  drr traces show traces.db --n 1\n", run_show};
static const cli_command stats_command = {
    "traces stats", "FILE", "counts by data set, reasoner and turn",
    "FILE is a store, JSONL, or the URL of a store in PostgreSQL: there the workers and what is left to do are shown "
    "too,\n"
    "and --watch shows them again and again until all is done.\n\n"
    "Examples:\n  drr traces stats runs/csqa/traces.db\n  drr traces stats csqa.replay.jsonl.gz --json\n"
    "  drr traces stats postgres://drr@db.example/traces --watch\n",
    run_stats};
static const cli_command export_command = {
    "traces export", "STORE", "write a store's traces as JSONL",
    "The output is written whole or not at all; a name that ends in .gz is compressed.\n\n"
    "Examples:\n  drr traces export traces.db --out traces.jsonl.gz\n  drr traces export traces.db --out q.jsonl "
    "--task csqa\n",
    run_export};
static const cli_command import_command = {"traces import", "FILE", "add JSONL traces to a store",
                                           "What the store already holds is left as it is.\n\n"
                                           "Examples:\n  drr traces import csqa.replay.jsonl.gz --out traces.db\n  drr "
                                           "traces import other.jsonl --out traces.db\n",
                                           run_import};

static int run_family(int argc, char **argv);
const cli_command cli_traces = {
    "traces", "COMMAND", "recorded turns: ls, show, stats, export, import, regrade",
    "A trace is one turn with all that is known about it: prompt, rationale, answer, tokens, label.\n\n"
    "Examples:\n  drr traces stats runs/csqa/traces.db\n  drr traces export runs/csqa/traces.db --out csqa.jsonl.gz\n"
    "  drr traces regrade csqa.replay.jsonl.gz --json\n",
    run_family};

static int run_family(int argc, char **argv)
{
    static const cli_command *const members[] = {
        &ls_command, &show_command, &stats_command, &export_command, &import_command, &traces_regrade_command, NULL};
    return cli_family(&cli_traces, members, argc, argv);
}

/* ---- which traces */

typedef struct selection {
    drr_trace_filter filter;
    int label, turn;
    uint64_t n;
} selection;

static const char *const label_names[] = {"reject", "accept", "unparsed", "unlabelled", NULL};

#define SELECTION_OPTIONS(s)                                                                                           \
    {.name = "task",                                                                                                   \
     .argument = "NAME",                                                                                               \
     .type = CLI_STRING,                                                                                               \
     .value = &(s).filter.task,                                                                                        \
     .meaning = "of this data set"},                                                                                   \
        {.name = "id", .argument = "ID", .type = CLI_STRING, .value = &(s).filter.id, .meaning = "of this question"},  \
        {.name = "reasoner",                                                                                           \
         .argument = "ID",                                                                                             \
         .type = CLI_STRING,                                                                                           \
         .value = &(s).filter.reasoner,                                                                                \
         .meaning = "of this reasoner"},                                                                               \
        {.name = "prompt",                                                                                             \
         .argument = "ID",                                                                                             \
         .type = CLI_STRING,                                                                                           \
         .value = &(s).filter.prompt,                                                                                  \
         .meaning = "of this prompt"},                                                                                 \
        {.name = "label",                                                                                              \
         .argument = "L",                                                                                              \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(s).label,                                                                                          \
         .meaning = "with this label",                                                                                 \
         .names = label_names},                                                                                        \
        {.name = "turn", .argument = "N", .type = CLI_INT, .value = &(s).turn, .meaning = "this turn; 0 is fresh"},    \
    {                                                                                                                  \
        .name = "n", .argument = "N", .type = CLI_UINT64, .value = &(s).n, .meaning = "at most this many; 0: all"      \
    }

static void selection_defaults(selection *s, uint64_t n)
{
    *s = (selection){.label = -1, .turn = -1, .n = n};
    drr_trace_filter_defaults(&s->filter);
}

static const drr_trace_filter *selection_filter(selection *s)
{
    s->filter.label = s->label;
    s->filter.turn = s->turn;
    s->filter.limit = s->n ? s->n > INT64_MAX ? INT64_MAX : (int64_t)s->n : -1;
    return &s->filter;
}

/* ---- ls, show */

static bool list_one(void *user, const drr_trace *t)
{
    cli_table *table = user;
    char *text = cli_one_line(t->text ? t->text : "", 60);
    cli_table_add(table, "%s", t->task);
    cli_table_add(table, "%s", t->id);
    cli_table_add(table, "%u.%u", t->sample, t->turn);
    cli_table_add(table, "%s%s", drr_label_name(t->label), t->forced ? " (forced)" : "");
    cli_table_add(table, "%s", t->answer ? t->answer : "-");
    cli_table_add(table, "%s", t->gold && *t->gold ? t->gold : "-");
    cli_table_add(table, "%u", t->n_tokens);
    cli_table_add(table, "%s", text ? text : "");
    free(text);
    return true;
}

static int run_ls(int argc, char **argv)
{
    selection s;
    cli_table table;
    drr_error err = {0};
    int code;
    selection_defaults(&s, 50);
    const cli_option options[] = {SELECTION_OPTIONS(s), CLI_END};
    if (!cli_parse(&ls_command, options, &argc, &argv, 1, 1, &code))
        return code;
    cli_table_begin(&table, "TASK|ID|TURN|LABEL|ANSWER|GOLD|>TOKENS|TEXT");
    drr_status status = drr_traces_each(argv[0], selection_filter(&s), list_one, &table, &err);
    cli_table_print(&table);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

/* How good it is to have got to the end of each step, how that is known, and the step. */
static void show_steps(const drr_trace *t)
{
    if (!t->n_steps)
        return;
    printf("\n%u steps, labelled by %u continuations of %u tokens:\n", t->n_steps, t->steps_rollouts, t->steps_tokens);
    for (uint32_t i = 0; i < t->n_steps; i++) {
        const drr_step *s = &t->steps[i];
        const uint32_t begin = i ? s[-1].end : 0;
        char *step = strndup(t->text + begin, s->end - begin), tried[32] = "inferred";
        char *line = step ? cli_one_line(step, 80) : NULL;
        if (s->of)
            snprintf(tried, sizeof tried, "%u of %u", s->right, s->of);
        printf("  %.2f  %-12s %s\n", (double)s->value, tried, line ? line : "");
        free(line);
        free(step);
    }
}

static bool show_one(void *user, const drr_trace *t)
{
    char mean[24], seconds[24];
    bool *any = user;
    printf("%s== %s %s, sample %u, turn %u: %s%s\n", *any ? "\n" : "", t->task, t->id, t->sample, t->turn,
           drr_label_name(t->label), t->forced ? " (the turn before was right and rejected on purpose)" : "");
    printf("question: %s\nreference: %s   answer: %s\n", t->question, t->gold && *t->gold ? t->gold : "-",
           t->answer ? t->answer : "none that can be read");
    printf("reasoner: %s   prompt: %s   seed: %llu   temperature: %g\n", t->reasoner, t->prompt,
           (unsigned long long)t->seed, (double)t->temperature);
    printf("tokens: %u + %u   finish: %s   time: %s   mean log-probability: %s\n", t->n_prompt_tokens, t->n_tokens,
           drr_finish_name(t->finish), cli_duration(seconds, t->seconds),
           cli_number(mean, t->stats.n ? (double)t->stats.mean : (double)NAN, 3));
    if (t->feedback)
        printf("feedback: %s\n", t->feedback);
    printf("\n%s\n", t->text ? t->text : "");
    show_steps(t);
    *any = true;
    return true;
}

static int run_show(int argc, char **argv)
{
    selection s;
    drr_error err = {0};
    bool any = false;
    int code;
    selection_defaults(&s, 3);
    const cli_option options[] = {SELECTION_OPTIONS(s), CLI_END};
    if (!cli_parse(&show_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = drr_traces_each(argv[0], selection_filter(&s), show_one, &any, &err);
    if (status == DRR_OK && !any)
        cli_note("%s has no such trace", argv[0]);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

/* ---- stats */

static drr_status read_fleet(drr_fleet *fleet, const char *url, drr_error *err)
{
    drr_store *store = NULL;
    drr_status status = drr_store_open_read(&store, url, err);
    if (status == DRR_OK)
        status = drr_store_fleet(store, fleet, err);
    drr_store_close(store);
    return status;
}

static int run_stats(int argc, char **argv)
{
    selection s;
    bool json = false, watch = false;
    double every_seconds = 2;
    drr_fleet fleet = {0};
    drr_error err = {0};
    int code;
    selection_defaults(&s, 0);
    const cli_option options[] = {SELECTION_OPTIONS(s),
                                  {.name = "watch",
                                   .type = CLI_FLAG,
                                   .value = &watch,
                                   .meaning = "show the workers of a store in PostgreSQL until all is done"},
                                  {.name = "every",
                                   .argument = "S",
                                   .type = CLI_DOUBLE,
                                   .value = &every_seconds,
                                   .meaning = "seconds between two looks of --watch",
                                   .low = 0.1,
                                   .high = 86400},
                                  {.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object"},
                                  CLI_END};
    if (!cli_parse(&stats_command, options, &argc, &argv, 1, 1, &code))
        return code;
    const bool url = drr_store_is_url(argv[0]);
    if (watch && !url)
        return cli_usage(&stats_command, "--watch is for the workers of a store in PostgreSQL, and %s is none",
                         argv[0]);
    if (watch)
        return fleet_watch(argv[0], every_seconds, json, &err) == DRR_OK ? CLI_DONE : cli_fail(&err);
    counting *c = counting_new();
    if (!c)
        return cli_fail_errno("the traces cannot be counted", argv[0]);
    drr_status status = drr_traces_each(argv[0], selection_filter(&s), counting_add, c, &err);
    if (status == DRR_OK && counting_failed(c))
        status = (err = (drr_error){DRR_E_MEMORY, "out of memory; count fewer traces with --task or --n"}).status;
    if (status == DRR_OK && url)
        status = read_fleet(&fleet, argv[0], &err);
    if (status == DRR_OK && json)
        counting_print_json(c, url ? &fleet : NULL);
    if (status == DRR_OK && !json)
        counting_print(c);
    if (status == DRR_OK && !json && url)
        fleet_print(&fleet);
    counting_free(c);
    drr_fleet_clear(&fleet);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

/* ---- export, import */

static int run_export(int argc, char **argv)
{
    selection s;
    const char *out = NULL;
    drr_store *store = NULL;
    drr_error err = {0};
    uint64_t n = 0;
    int code;
    selection_defaults(&s, 0);
    const cli_option options[] = {{.name = "out",
                                   .argument = "FILE",
                                   .type = CLI_STRING,
                                   .value = &out,
                                   .meaning = "JSONL; .gz compresses",
                                   .required = true},
                                  SELECTION_OPTIONS(s),
                                  CLI_END};
    if (!cli_parse(&export_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = drr_store_open_read(&store, argv[0], &err);
    if (status == DRR_OK)
        status = cli_make_folder_of(out, &err);
    if (status == DRR_OK)
        status = drr_store_export(store, selection_filter(&s), out, &n, &err);
    if (status == DRR_OK)
        cli_note("%s: %llu traces", out, (unsigned long long)n);
    drr_store_close(store);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static int run_import(int argc, char **argv)
{
    const char *out = NULL;
    drr_store *store = NULL;
    drr_error err = {0};
    uint64_t added = 0, present = 0;
    int code;
    const cli_option options[] = {{.name = "out",
                                   .argument = "STORE",
                                   .type = CLI_STRING,
                                   .value = &out,
                                   .meaning = "made where it is not there",
                                   .required = true},
                                  CLI_END};
    if (!cli_parse(&import_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = drr_store_is_url(out) ? DRR_OK : cli_make_folder_of(out, &err);
    if (status == DRR_OK)
        status = drr_store_open(&store, out, true, &err);
    if (status == DRR_OK)
        status = drr_store_import(store, argv[0], &added, &present, &err);
    if (status == DRR_OK)
        cli_note("%s: %llu traces added, %llu were there", out, (unsigned long long)added, (unsigned long long)present);
    drr_store_close(store);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
