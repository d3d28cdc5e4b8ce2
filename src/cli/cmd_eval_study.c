/* cmd_eval_study.c: `drr eval --suite FILE`, a whole study from one file, and `drr eval diff A B`, two studies on the
 * same questions. */
#include "evaluating.h"

#include <stdlib.h>
#include <string.h>

static int run_suite(int argc, char **argv);
static int run_diff(int argc, char **argv);

const cli_command cli_eval_suite = {
    "eval --suite", NULL, "a whole study from one file",
    "The file (TOML, docs/evaluation.md) names data sets, reasoners, critics, seeds, and strategies with their "
    "policies; each\n"
    "reasoner with each critic and seed is a part. A critic is a file, or is made here of traces: one for each fold of "
    "their\n"
    "questions, which judges the questions that it never saw. Writes report.json, report.md, report.html, "
    "strategies.csv,\n"
    "comparisons.csv, critics.csv, folds.csv, questions.jsonl and plots/*.svg to --out. Parts that are finished there "
    "are kept, "
    "and\n"
    "no text is generated twice.\n\n"
    "Examples:\n"
    "  drr eval --suite study.toml\n"
    "  drr eval --suite study.toml --out runs/study-2 --json\n",
    run_suite};

const cli_command cli_eval_diff = {
    "eval diff", "A B", "compare two reports on the same questions",
    "A and B are folders that `drr eval` or `drr eval --suite` wrote. Strategies of one name are compared question by "
    "question,\n"
    "B against A: McNemar's exact test, corrected by Holm, and a paired bootstrap. Says what else differs.\n\n"
    "Examples:\n"
    "  drr eval diff runs/before runs/after\n"
    "  drr eval diff runs/before runs/after --out runs/difference --json\n",
    run_diff};

static void print_report(const char *json, const char *table, bool as_json)
{
    const char *text = as_json ? json : table;
    const size_t n = strlen(text);
    cli_clear_progress();
    printf("%s%s", text, n && text[n - 1] == '\n' ? "" : "\n");
}

bool evaluation_is_study(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--suite") == 0 || strncmp(argv[i], "--suite=", 8) == 0)
            return true;
    return false;
}

static int run_suite(int argc, char **argv)
{
    const char *file = NULL, *out = NULL;
    bool as_json = false;
    char path[4096], *json = NULL, *table = NULL;
    cli_checking checking;
    drr_checker *checker = NULL;
    drr_error err = {0};
    int code;
    cli_checking_defaults(&checking);
    const cli_option options[] = {
        {.name = "suite",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &file,
         .meaning = "the study, TOML",
         .required = true},
        {.name = "out",
         .argument = "DIR",
         .type = CLI_STRING,
         .value = &out,
         .meaning = "the study's folder; not given: runs/<suite>"},
        CLI_CHECKING_OPTIONS(checking),
        {.name = "json", .type = CLI_FLAG, .value = &as_json, .meaning = "the report as one JSON object on stdout"},
        CLI_END};
    if (!cli_parse(&cli_eval_suite, options, &argc, &argv, 0, 0, &code))
        return code;
    if (!out)
        cli_default_out(path, sizeof path, file, "");
    drr_status status = cli_open_checker(&checker, &checking, &err);
    const drr_suite_options how = {.out = out ? out : path, .command = cli_command_line(), .checker = checker};
    if (status == DRR_OK)
        status = drr_eval_suite(&json, &table, file, &how, cli_hooks(), &err);
    if (status == DRR_OK) {
        print_report(json, table, as_json);
        cli_note("report: %s/report.html", how.out);
    }
    free(json);
    free(table);
    drr_checker_close(checker);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static int run_diff(int argc, char **argv)
{
    const char *out = NULL;
    bool as_json = false;
    uint32_t bootstrap = 10000;
    uint64_t seed = 0;
    char *json = NULL, *table = NULL;
    drr_error err = {0};
    int code;
    const cli_option options[] = {
        {.name = "out",
         .argument = "DIR",
         .type = CLI_STRING,
         .value = &out,
         .meaning = "a folder for diff.json and diff.md; not given: none"},
        {.name = "bootstrap",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &bootstrap,
         .meaning = "resamples for the intervals",
         .low = 0,
         .high = 1000000},
        {.name = "seed", .argument = "N", .type = CLI_UINT64, .value = &seed, .meaning = "of the resamples"},
        {.name = "json", .type = CLI_FLAG, .value = &as_json, .meaning = "one JSON object on stdout"},
        CLI_END};
    if (!cli_parse(&cli_eval_diff, options, &argc, &argv, 2, 2, &code))
        return code;
    const drr_status status = drr_eval_diff(&json, &table, argv[0], argv[1], out, bootstrap, seed, &err);
    if (status == DRR_OK)
        print_report(json, table, as_json);
    free(json);
    free(table);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
