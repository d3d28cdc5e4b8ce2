/* cmd_data.c: data sets: which are known, fetching them, turning other formats into drr's JSONL, and looking at them.
 */
#include "fetch.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int run_list(int argc, char **argv);
static int run_get(int argc, char **argv);
static int run_import(int argc, char **argv);
static int run_show(int argc, char **argv);

static const cli_command list_command = {"data list", NULL, "the known data sets, and what the cache holds",
                                         "Examples:\n  drr data list\n  drr data list --json\n", run_list};
static const cli_command get_command = {"data get", "NAME...", "fetch known data sets into the cache",
                                        "What arrived is checked by sha256. Interrupted, the same command goes "
                                        "on.\n\nExamples:\n  drr data get gsm8k-test mmlu\n",
                                        run_get};
static const cli_command import_command = {
    "data import", "FILE", "write a data set as drr's JSONL",
    "Reads drr's own format and those of GSM8K, SVAMP, CommonsenseQA, StrategyQA, ARC and MMLU; the format is "
    "detected.\n"
    "The output is written whole or not at all.\n\n"
    "Examples:\n  drr data import train_rand_split.jsonl --out csqa.jsonl --format csqa\n"
    "  drr data import gsm8k-test --out gsm8k.jsonl\n",
    run_import};
static const cli_command show_command = {"data show", "FILE|NAME", "print questions of a data set",
                                         "Examples:\n  drr data show csqa.jsonl\n  drr data show gsm8k-test --n 3\n  "
                                         "drr data show csqa.jsonl --n 1 --json\n"
                                         "  drr data show csqa.jsonl --n 1 --prompt\n",
                                         run_show};

static int run_family(int argc, char **argv);
const cli_command cli_data = {
    "data", "COMMAND", "data sets: list, get, import, show",
    "A data set is JSONL: a question, its reference answer, and its kind (docs/formats.md).\n\n"
    "Examples:\n  drr data get gsm8k-test\n  drr data show gsm8k-test --n 3\n"
    "  drr data import dev_rand_split.jsonl --format csqa --out csqa.jsonl\n",
    run_family};

static int run_family(int argc, char **argv)
{
    static const cli_command *const members[] = {&list_command, &get_command, &import_command, &show_command, NULL};
    return cli_family(&cli_data, members, argc, argv);
}

static int run_get(int argc, char **argv)
{
    return fetch_command(&get_command, argc, argv);
}

/* Data files in the cache's folder that no row of the table names: put there by hand. */
static void list_others(const char *folder, char *const *known, size_t n_known, cli_table *table)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        bool other = strstr(e->d_name, ".jsonl") != NULL;
        for (size_t i = 0; i < n_known; i++)
            other = other && strcmp(known[i], e->d_name) != 0;
        if (!other)
            continue;
        cli_table_add(table, "%s/%s", folder, e->d_name);
        cli_table_add(table, "yes");
        cli_table_add(table, " ");
        cli_table_add(table, "not in the table: name it by its path");
    }
    if (d)
        closedir(d);
}

enum { MOST_KNOWN = 64 };
typedef struct listing {
    cli_json json;
    cli_table table;
    bool as_json;
    char folder[4096];
    char *files[MOST_KNOWN];
    size_t n_files;
} listing;

static void list_one(void *user, const drr_cache_item *item)
{
    listing *l = user;
    char size[16];
    if (strcmp(item->kind, "data") != 0)
        return;
    if (l->as_json) {
        cache_item_json(&l->json, item);
        return;
    }
    cli_table_add(&l->table, "%s", item->name);
    cli_table_add(&l->table, "%s", item->present ? "yes" : "no");
    cli_table_add(&l->table, "%s", cli_size(size, item->bytes));
    cli_table_add(&l->table, "%s", item->what);
    const char *slash = strrchr(item->path, '/');
    if (slash && l->n_files < MOST_KNOWN) {
        snprintf(l->folder, sizeof l->folder, "%.*s", (int)(slash - item->path), item->path);
        l->files[l->n_files] = strdup(slash + 1);
        l->n_files += l->files[l->n_files] != NULL;
    }
}

static int run_list(int argc, char **argv)
{
    listing l = {.json = {stdout, false}};
    const cli_option options[] = {{.name = "json", .type = CLI_FLAG, .value = &l.as_json, .meaning = "a JSON list"},
                                  CLI_END};
    drr_error err = {0};
    int code;
    if (!cli_parse(&list_command, options, &argc, &argv, 0, 0, &code))
        return code;
    if (l.as_json)
        cli_json_open(&l.json, NULL, '[');
    else
        cli_table_begin(&l.table, "NAME|HERE|>SIZE|WHAT");
    drr_status status = drr_cache_each(list_one, &l, &err);
    if (l.as_json) {
        cli_json_close(&l.json, ']');
        printf("\n");
    } else {
        list_others(l.folder, l.files, l.n_files, &l.table);
        cli_table_print(&l.table);
    }
    for (size_t i = 0; i < l.n_files; i++)
        free(l.files[i]);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static int run_import(int argc, char **argv)
{
    const char *format = NULL, *name = NULL, *out = NULL;
    const cli_option options[] = {
        {.name = "out", .argument = "FILE", .type = CLI_STRING, .value = &out, .meaning = "where to", .required = true},
        {.name = "format",
         .argument = "F",
         .type = CLI_STRING,
         .value = &format,
         .meaning = "drr, gsm8k, svamp, csqa, strategyqa, arc, mmlu; not given: detected"},
        {.name = "name", .argument = "NAME", .type = CLI_STRING, .value = &name, .meaning = "of the data set"},
        CLI_END};
    drr_dataset *dataset = NULL;
    drr_error err = {0};
    char path[4096];
    int code;
    if (!cli_parse(&import_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = drr_cache_path(path, sizeof path, argv[0], "data", &err);
    if (status == DRR_OK)
        status = drr_dataset_open(&dataset, path, format, name, &err);
    if (status == DRR_OK)
        status = cli_make_folder_of(out, &err);
    if (status == DRR_OK)
        status = drr_dataset_write(dataset, out, &err);
    if (status == DRR_OK)
        cli_note("%s: %zu questions of %s", out, drr_dataset_count(dataset), drr_dataset_name(dataset));
    drr_dataset_free(dataset);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static void show_task_json(const drr_task *task, const drr_message *messages, size_t n_messages)
{
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "id", task->id);
    cli_json_string(&j, "question", task->question);
    if (task->n_choices) {
        cli_json_open(&j, "choices", '[');
        for (size_t i = 0; i < task->n_choices; i++)
            cli_json_string(&j, NULL, task->choices[i]);
        cli_json_close(&j, ']');
    }
    cli_json_string(&j, "answer", task->answer);
    cli_json_string(&j, "kind", drr_kind_name(task->kind));
    if (messages) {
        cli_json_open(&j, "messages", '[');
        for (size_t i = 0; i < n_messages; i++) {
            cli_json_open(&j, NULL, '{');
            cli_json_string(&j, "role", messages[i].role);
            cli_json_string(&j, "content", messages[i].content);
            cli_json_close(&j, '}');
        }
        cli_json_close(&j, ']');
    }
    cli_json_close(&j, '}');
    printf("\n");
}

static void show_task(const drr_task *task, const drr_message *messages, size_t n_messages)
{
    printf("%s (%s)\n  %s\n", task->id, drr_kind_name(task->kind), task->question);
    for (size_t i = 0; i < task->n_choices; i++)
        printf("    %c) %s\n", (int)('A' + i), task->choices[i]);
    const bool checked = task->kind == DRR_KIND_CHECKED;
    printf("  %s: %s\n\n", checked ? "checked by" : "answer", *task->answer ? task->answer : "(not known)");
    for (size_t i = 0; i < n_messages; i++)
        printf("[%s]\n%s\n\n", messages[i].role, messages[i].content);
}

static int run_show(int argc, char **argv)
{
    const char *format = NULL, *wording = NULL;
    size_t n = 5, skip = 0;
    bool json = false, asks = false;
    const cli_option options[] = {
        {.name = "n", .argument = "N", .type = CLI_SIZE, .value = &n, .meaning = "questions to show; 0: all"},
        {.name = "skip", .argument = "N", .type = CLI_SIZE, .value = &skip, .meaning = "questions to pass over"},
        {.name = "format", .argument = "F", .type = CLI_STRING, .value = &format, .meaning = "not given: detected"},
        {.name = "prompt", .type = CLI_FLAG, .value = &asks, .meaning = "with the messages a reasoner is asked with"},
        {.name = "prompts",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &wording,
         .meaning = "JSON with other words for them"},
        {.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object a line"},
        CLI_END};
    drr_dataset *dataset = NULL;
    drr_prompts *prompts = NULL;
    drr_error err = {0};
    int code;
    if (!cli_parse(&show_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = cli_open_dataset(&dataset, argv[0], format, &err);
    if (status == DRR_OK && asks)
        status = drr_prompts_open(&prompts, wording, &err);
    if (status != DRR_OK)
        goto done;
    const size_t count = drr_dataset_count(dataset), left = skip < count ? count - skip : 0;
    const size_t end = n == 0 || n > left ? count : skip + n;
    for (size_t i = skip; i < end; i++) {
        drr_message *messages = NULL;
        size_t n_messages = 0;
        if (asks)
            status = drr_prompts_messages(&messages, &n_messages, prompts, drr_dataset_at(dataset, i), &err);
        if (status != DRR_OK)
            goto done;
        (json ? show_task_json : show_task)(drr_dataset_at(dataset, i), messages, n_messages);
        drr_messages_free(messages, n_messages);
    }
    if (!json)
        printf("%s: %zu questions\n", drr_dataset_name(dataset), count);
done:
    drr_prompts_free(prompts);
    drr_dataset_free(dataset);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
