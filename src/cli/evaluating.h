/* evaluating.h: what `drr eval` and `drr run` share. */
#ifndef DRR_CLI_EVALUATING_H
#define DRR_CLI_EVALUATING_H

#include "cli.h"

enum { MOST_STRATEGIES = 8 };

typedef struct evaluation {
    drr_policy policy;
    drr_strategy strategies[MOST_STRATEGIES];
    size_t n_strategies, limit;
    uint32_t bootstrap;
    const char *names, *title, *equal; /* equal: the budget that all strategies get */
    bool json, guaranteed;
    drr_checker *checker; /* may be NULL */
    drr_reasoner *second; /* may be NULL */
} evaluation;

/* `drr eval --suite` and `drr eval diff` (cmd_eval_study.c). */
extern const cli_command cli_eval_suite, cli_eval_diff;
bool evaluation_is_study(int argc, char **argv); /* is --suite among the words? */

void evaluation_defaults(evaluation *e);
/* Reads e->names ("cot,vote"); without names: all that can be run with or without a critic. CLI_DONE or CLI_USAGE. */
int evaluation_strategies(evaluation *e, const cli_command *command, bool has_critic);
/* Opens the data sets, compares, and prints the table or the JSON on stdout. */
drr_status evaluation_run(evaluation *e, const char *out, drr_reasoner *reasoner, drr_critic *critic,
                          const drr_prompts *prompts, const cli_list *data, const char *format, drr_error *err);

#define EVALUATION_OPTIONS(e)                                                                                          \
    {.name = "strategies",                                                                                             \
     .argument = "S,...",                                                                                              \
     .type = CLI_STRING,                                                                                               \
     .value = &(e).names,                                                                                              \
     .meaning = "of cot, self-critique, vote, best-of-n, drr; not given: all"},                                        \
        {.name = "bootstrap",                                                                                          \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(e).bootstrap,                                                                                      \
         .meaning = "resamples for the intervals",                                                                     \
         .low = 0,                                                                                                     \
         .high = 1000000},                                                                                             \
        {.name = "equal-budget",                                                                                       \
         .argument = "WHAT",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(e).equal,                                                                                          \
         .meaning = "calls or tokens: every strategy spends as many, in the mean, as drr, or as S: tokens:S"},         \
        CLI_GUARANTEED_OPTION((e).guaranteed),                                                                         \
    {                                                                                                                  \
        .name = "title", .argument = "TEXT", .type = CLI_STRING, .value = &(e).title, .meaning = "of the report"       \
    }

#endif
