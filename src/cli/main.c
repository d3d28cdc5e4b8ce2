/* main.c: finds the command that was asked for and runs it; knows nothing of what commands do. */
#include "cli.h"

#include <string.h>

static const cli_command *const commands[] = {&cli_run,     &cli_distill, &cli_train, &cli_reason, &cli_eval,
                                              &cli_cascade, &cli_traces,  &cli_data,  &cli_models, &cli_critic,
                                              &cli_doctor,  &cli_serve,   NULL};

/* Letters to insert, delete or replace to make one word of the other (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
    size_t row[32];
    const size_t n = strlen(b);
    if (n >= 31 || strlen(a) >= 31)
        return 99;
    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 1; k <= n; k++) {
            const size_t replaced = diagonal + (a[i] != b[k - 1]);
            const size_t grown = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;
            diagonal = row[k];
            row[k] = replaced < grown ? replaced : grown;
        }
    }
    return row[n];
}

static const char *last_word(const char *name)
{
    const char *space = strrchr(name, ' ');
    return space ? space + 1 : name;
}

int cli_dispatch(const cli_command *const *list, const char *of, int argc, char **argv)
{
    const char *nearest = NULL;
    size_t best = 4;
    for (size_t i = 0; list[i]; i++) {
        const char *word = last_word(list[i]->name);
        if (strcmp(word, argv[0]) == 0)
            return list[i]->run(argc, argv);
        const bool begins = argv[0][0] && strncmp(word, argv[0], strlen(argv[0])) == 0;
        const size_t far = begins ? 1 : distance(argv[0], word);
        if (far < best) {
            best = far;
            nearest = word;
        }
    }
    fprintf(stderr, "drr: there is no command \"%s%s%s\"", of, *of ? " " : "", argv[0]);
    if (nearest)
        fprintf(stderr, "; did you mean \"%s%s%s\"?\n", of, *of ? " " : "", nearest);
    else
        fprintf(stderr, "; see `drr%s%s --help`\n", *of ? " " : "", of);
    return CLI_USAGE;
}

static void list_commands(const cli_command *const *list)
{
    for (size_t i = 0; list[i]; i++)
        printf("  %-16s %s\n", list[i]->name, list[i]->summary);
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int cli_family(const cli_command *family, const cli_command *const *members, int argc, char **argv)
{
    if (argc < 2)
        return cli_usage(family, "which one? one of its commands is needed");
    if (!asks_for_help(argv[1]))
        return cli_dispatch(members, family->name, argc - 1, argv + 1);
    printf("drr %s: %s\n\n%s\nCommands:\n", family->name, family->summary, family->help);
    list_commands(members);
    printf("\n`drr %s COMMAND --help` says more about each.\n", family->name);
    return CLI_DONE;
}

static void print_help(void)
{
    printf("drr gives a language model a critic trained on that model's own right and wrong answers; the critic "
           "decides when\n"
           "the model may stop thinking.\n\n"
           "Usage: drr COMMAND [options]\n\n");
    list_commands(commands);
    printf("\nExamples:\n"
           "  drr reason \"A shop sells 3 pens for 2 dollars. How many dollars do 12 pens cost?\" --kind number\n"
           "  drr run --train train.jsonl --test test.jsonl --out runs/mine\n\n"
           "`drr COMMAND --help` has the options and examples of each. Models and data are kept in DRR_CACHE "
           "(~/.cache/drr).\n");
}

int main(int argc, char **argv)
{
    int code;
    cli_remember_command(argc, argv);
    if (argc < 2) {
        fprintf(stderr, "drr: a command is needed; see `drr --help`\n");
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("drr %s\n", DRR_VERSION);
        code = CLI_DONE;
    } else if (strcmp(argv[1], "help") == 0 && argc > 2) { /* drr help train = drr train --help */
        char *words[] = {argv[2], "--help", NULL};
        code = cli_dispatch(commands, "", 2, words);
    } else if (asks_for_help(argv[1])) {
        print_help();
        code = CLI_DONE;
    } else if (argv[1][0] == '-') {
        fprintf(stderr, "drr: there is no option %s before a command; see `drr --help`\n", argv[1]);
        code = CLI_USAGE;
    } else {
        code = cli_dispatch(commands, "", argc - 1, argv + 1);
    }
    cli_clear_progress();
    if (fflush(stdout) != 0 || ferror(stdout)) {
        const int failed = cli_fail_errno("the output cannot be written", "");
        code = code == CLI_DONE ? failed : code;
    }
    return code;
}
