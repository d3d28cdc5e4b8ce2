/* cmd_models.c: models and encoders with a short name: which there are, where they lie, fetching them; and a model in
 * another format. */
#include "fetch.h"

#include <string.h>

static int run_list(int argc, char **argv);
static int run_get(int argc, char **argv);
static int run_path(int argc, char **argv);
static int run_quantize(int argc, char **argv);

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
static const cli_command quantize_command = {
    "models quantize", "MODEL|FILE.gguf", "write a model in another format",
    "Fewer bits a weight are a smaller file, and lose some of what the model knows; which format is fast depends on "
    "the\n"
    "CPU. docs/install.md shows how to measure both before choosing. A model that is quantized already can be a "
    "source.\n\n"
    "Formats: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, iq4_nl, q4_1, q4_0, iq4_xs, "
    "q3_k_l,\nq3_k_m, q3_k_s, q2_k.\n\n"
    "Examples:\n  drr models quantize qwen2.5-coder-1.5b --to q8_0 --out qwen-q8_0.gguf\n"
    "  drr models quantize model-f16.gguf --to q4_k_m --out model-q4_k_m.gguf --json\n"
    "  drr reason --reasoner qwen-q8_0.gguf \"A pen costs 2 dollars. What do 12 cost?\"\n",
    run_quantize};

static int run_family(int argc, char **argv);
const cli_command cli_models = {"models", "COMMAND", "models with a short name: list, get, path; quantize",
                                "Nothing has to come from this table: --reasoner takes any .gguf chat model, --encoder "
                                "any BERT, RoBERTa or ModernBERT folder.\n\n"
                                "Examples:\n  drr models list\n  drr models get qwen2.5-coder-1.5b\n"
                                "  drr models quantize qwen2.5-coder-1.5b --to q8_0 --out qwen-q8_0.gguf\n",
                                run_family};

static int run_family(int argc, char **argv)
{
    static const cli_command *const members[] = {&list_command, &ls_command,       &get_command,
                                                 &path_command, &quantize_command, NULL};
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
    if (drr_cache_path(path, sizeof path, argv[0], NULL, &err) != DRR_OK)
        return cli_fail(&err);
    printf("%s\n", path);
    return CLI_DONE;
}

static void print_quantized(const drr_quantized *q, const char *source, const char *format, const char *out,
                            bool as_json)
{
    cli_json j = {stdout, false};
    char before[16], after[16];
    if (!as_json) {
        printf("%s: %s, sha256 %s\n%s was %s, %s\n", out, cli_size(after, q->bytes_after), q->sha256, source,
               cli_size(before, q->bytes_before), q->from);
        return;
    }
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "source", source);
    cli_json_string(&j, "from", q->from);
    cli_json_bool(&j, "requantized", q->requantized);
    cli_json_string(&j, "out", out);
    cli_json_string(&j, "to", format);
    cli_json_uint(&j, "bytes_before", q->bytes_before);
    cli_json_uint(&j, "bytes_after", q->bytes_after);
    cli_json_string(&j, "sha256", q->sha256);
    cli_json_close(&j, '}');
    printf("\n");
}

static int run_quantize(int argc, char **argv)
{
    const char *format = NULL, *out = NULL;
    bool as_json = false;
    const cli_option options[] = {
        {.name = "to",
         .argument = "FORMAT",
         .type = CLI_STRING,
         .value = &format,
         .meaning = "one of the above",
         .required = true},
        {.name = "out",
         .argument = "FILE.gguf",
         .type = CLI_STRING,
         .value = &out,
         .meaning = "the file to write",
         .required = true},
        {.name = "json", .type = CLI_FLAG, .value = &as_json, .meaning = "sizes and sha256 as one JSON object"},
        CLI_END};
    drr_quantized made;
    drr_error err = {0};
    int code;
    if (!cli_parse(&quantize_command, options, &argc, &argv, 1, 1, &code))
        return code;
    const drr_status status = drr_model_quantize(&made, argv[0], format, out, cli_hooks(), &err);
    if (status == DRR_E_ARGUMENT)
        return cli_usage(&quantize_command, "%s", err.message);
    if (status != DRR_OK)
        return cli_fail(&err);
    cli_clear_progress();
    print_quantized(&made, argv[0], format, out, as_json);
    return CLI_DONE;
}
