/* cmd_models.c: models and encoders with a short name: which there are, where they lie, fetching them. */
#include "fetch.h"

#include <string.h>

static int run_list(int argc, char **argv);
static int run_get(int argc, char **argv);
static int run_path(int argc, char **argv);

static const cli_command list_command = {"models list", NULL, "what has a short name, and what the cache holds",
                                         "Examples:\n  drr models list\n  drr models list --json\n", run_list};
static const cli_command ls_command = {"models ls", NULL, "the same as list", "Examples:\n  drr models ls\n", run_list};
static const cli_command get_command = {"models get", "NAME...", "fetch into the cache",
                                        "What arrived is checked by sha256. Interrupted, the same command goes on.\n\n"
                                        "Examples:\n  drr models get qwen2.5-coder-1.5b all-minilm-l6-v2\n"
                                        "  drr models get smollm2-135m --offline --verify\n",
                                        run_get};
static const cli_command path_command = {"models path", "NAME", "where a model lies",
                                         "Examples:\n  llama-cli -m $(drr models path qwen2.5-coder-1.5b)\n", run_path};

static int run_family(int argc, char **argv);
const cli_command cli_models = {
    "models", "COMMAND", "models with a short name: list, get, path",
    "Nothing has to come from this table: --reasoner takes any .gguf chat model, --encoder any BERT folder.\n\n"
    "Examples:\n  drr models list\n  drr models get qwen2.5-coder-1.5b\n",
    run_family};

static int run_family(int argc, char **argv)
{
    static const cli_command *const members[] = {&list_command, &ls_command, &get_command, &path_command, NULL};
    return cli_family(&cli_models, members, argc, argv);
}

static int run_get(int argc, char **argv)
{
    return fetch_command(&get_command, argc, argv);
}

typedef struct listing {
    cli_json json;
    cli_table table;
    bool as_json;
} listing;

static void list_one(void *user, const drr_cache_item *item)
{
    listing *l = user;
    char size[16];
    if (l->as_json) {
        cache_item_json(&l->json, item);
        return;
    }
    cli_table_add(&l->table, "%s", item->name);
    cli_table_add(&l->table, "%s", item->kind);
    cli_table_add(&l->table, "%s", item->present ? "yes" : "no");
    cli_table_add(&l->table, "%s", cli_size(size, item->bytes));
    cli_table_add(&l->table, "%s", item->licence);
    cli_table_add(&l->table, "%s", item->what);
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
        cli_table_begin(&l.table, "NAME|KIND|HERE|>SIZE|LICENCE|WHAT");
    drr_status status = drr_cache_each(list_one, &l, &err);
    if (l.as_json) {
        cli_json_close(&l.json, ']');
        printf("\n");
    } else {
        cli_table_print(&l.table);
    }
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static int run_path(int argc, char **argv)
{
    const cli_option options[] = {CLI_END};
    char path[4096];
    drr_error err = {0};
    int code;
    if (!cli_parse(&path_command, options, &argc, &argv, 1, 1, &code))
        return code;
    if (drr_cache_path(path, sizeof path, argv[0], &err) != DRR_OK)
        return cli_fail(&err);
    printf("%s\n", path);
    return CLI_DONE;
}
