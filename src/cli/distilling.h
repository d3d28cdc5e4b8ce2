/* distilling.h: what `drr distill` and `drr run` share. */
#ifndef DRR_CLI_DISTILLING_H
#define DRR_CLI_DISTILLING_H

#include "cli.h"

/* shared: the store is one that many work on. */
drr_status distill_into(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const cli_list *data,
                        const char *format, const drr_distill_options *options, bool shared, drr_error *err);
/* --steps: mc=M or mc=M,all; false: neither. */
bool distill_parse_steps(drr_distill_options *options, const char *steps);
#define NOT_STEPS "--steps %s is not understood: it is mc=M or mc=M,all, with 1 to 1024 continuations M"
/* Removes a store that this run made and left without a trace. */
void remove_empty_store(const char *path);

#define DISTILL_OPTIONS(d)                                                                                             \
    {.name = "limit",                                                                                                  \
     .argument = "N",                                                                                                  \
     .type = CLI_SIZE,                                                                                                 \
     .value = &(d).limit,                                                                                              \
     .meaning = "first questions of each data set only; 0: all"},                                                      \
        {.name = "forced-share",                                                                                       \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(d).forced_share,                                                                                   \
         .meaning = "of right answers, the share rejected on purpose",                                                 \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "skip-failed",                                                                                        \
         .type = CLI_FLAG,                                                                                             \
         .value = &(d).skip_failed,                                                                                    \
         .meaning = "only warn of samples that fail, such as questions longer than the context"},                      \
    {                                                                                                                  \
        .name = "any-identity", .type = CLI_FLAG, .value = &(d).any_identity,                                          \
        .meaning = "go on although the store holds traces of another reasoner, prompt or setting"                      \
    }

#endif
