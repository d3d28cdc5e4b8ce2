/* training.h: what `drr train` and `drr run` share. */
#ifndef DRR_CLI_TRAINING_H
#define DRR_CLI_TRAINING_H

#include "cli.h"

/* The members of an object. */
void train_result_json(cli_json *j, const drr_train_result *result, const char *out);
/* ---- of several trainings (trials.c) */
/* "20" minutes, "90s", "1h30m"; false: none of these, nothing, or more than four months. */
bool training_duration(double *seconds, const char *text);
void repeats_print(const drr_repeats *repeats, uint64_t seed);
void repeats_json(cli_json *j, const char *key, const drr_repeats *repeats);
void search_print(const drr_search *search);
void search_json(cli_json *j, const char *key, const drr_search *search);

void train_result_print(FILE *file, const drr_train_result *result, const char *out);

/* In the order of drr_precision. */
static const char *const cli_precisions[] = {"auto", "fp32", "bf16", NULL};
extern const char *const risk_test_names[];
/* In the order of drr_head. */
static const char *const cli_heads[] = {"cls", "token", NULL};
/* In the order of drr_critic_kind. */
static const char *const cli_critic_kinds[] = {"encoder", "probe", "stack", NULL};

#define TRAIN_OPTIONS(t)                                                                                               \
    {.name = "kind",                                                                                                   \
     .argument = "KIND",                                                                                               \
     .type = CLI_CHOICE,                                                                                               \
     .value = &(t).kind,                                                                                               \
     .names = cli_critic_kinds,                                                                                        \
     .meaning = "what judges: the text, the reasoner's hidden states (drr distill --hidden), or both"},                \
        {.name = "encoder",                                                                                            \
         .argument = "NAME|DIR",                                                                                       \
         .type = CLI_STRING,                                                                                           \
         .value = &(t).encoder,                                                                                        \
         .meaning = "the encoder that the critic begins as: BERT, RoBERTa, ModernBERT"},                               \
        {.name = "epochs",                                                                                             \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).epochs,                                                                                         \
         .meaning = "at most",                                                                                         \
         .low = 1,                                                                                                     \
         .high = 1000},                                                                                                \
        {.name = "batch",                                                                                              \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).batch,                                                                                          \
         .meaning = "traces a step",                                                                                   \
         .low = 1,                                                                                                     \
         .high = 4096},                                                                                                \
        {.name = "max-length",                                                                                         \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).max_length,                                                                                     \
         .meaning = "tokens of question and rationale",                                                                \
         .low = 16,                                                                                                    \
         .high = 8192},                                                                                                \
        {.name = "beginnings",                                                                                         \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).beginnings,                                                                                     \
         .meaning = "learn N beginnings of each trace too, for --early (docs/steps.md)",                               \
         .high = 64},                                                                                                  \
        {.name = "patience",                                                                                           \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).patience,                                                                                       \
         .meaning = "epochs without gain before stopping; 0: never",                                                   \
         .high = 1000},                                                                                                \
        {.name = "keep-last",                                                                                          \
         .type = CLI_FLAG,                                                                                             \
         .value = &(t).keep_last,                                                                                      \
         .meaning = "the last epoch's critic, not the best on held-out questions"},                                    \
        {.name = "learning-rate",                                                                                      \
         .argument = "X",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).learning_rate,                                                                                  \
         .meaning = "at its highest",                                                                                  \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "weight-decay",                                                                                       \
         .argument = "X",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).weight_decay,                                                                                   \
         .meaning = "of AdamW",                                                                                        \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "warmup-share",                                                                                       \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).warmup_share,                                                                                   \
         .meaning = "of all steps",                                                                                    \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "clip-norm",                                                                                          \
         .argument = "X",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).clip_norm,                                                                                      \
         .meaning = "of the gradient; 0: none",                                                                        \
         .low = 0,                                                                                                     \
         .high = 1e6},                                                                                                 \
        {.name = "dropout",                                                                                            \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).dropout,                                                                                        \
         .meaning = "while training",                                                                                  \
         .low = 0,                                                                                                     \
         .high = 0.9},                                                                                                 \
        {.name = "dev-share",                                                                                          \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).dev_share,                                                                                      \
         .meaning = "of questions",                                                                                    \
         .low = 0,                                                                                                     \
         .high = 0.9},                                                                                                 \
        {.name = "test-share",                                                                                         \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).test_share,                                                                                     \
         .meaning = "of questions",                                                                                    \
         .low = 0,                                                                                                     \
         .high = 0.9},                                                                                                 \
        {.name = "precision",                                                                                          \
         .argument = "NAME",                                                                                           \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(t).precision,                                                                                      \
         .names = cli_precisions,                                                                                      \
         .meaning = "of matrix products; auto: bf16 where the CPU has AVX512_BF16 or AMX, else fp32"},                 \
        {.name = "head",                                                                                               \
         .argument = "H",                                                                                              \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(t).head,                                                                                           \
         .names = cli_heads,                                                                                           \
         .meaning = "what gives the score: [CLS], or each token of the text, read at the end (docs/model.md)"},        \
        {.name = "rank-weight",                                                                                        \
         .argument = "W",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).rank_weight,                                                                                    \
         .meaning = "beside the labels, learn to set right above wrong answers to one question, with this weight",     \
         .low = 0,                                                                                                     \
         .high = 1000},                                                                                                \
        {.name = "max-questions",                                                                                      \
         .argument = "N",                                                                                              \
         .type = CLI_SIZE,                                                                                             \
         .value = &(t).max_questions,                                                                                  \
         .meaning = "to train on; 0: all"},                                                                            \
        {.name = "target-error",                                                                                       \
         .argument = "A",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).target_error,                                                                                   \
         .meaning = "find a threshold at which at most this share of what is accepted is wrong"},                      \
        {.name = "delta",                                                                                              \
         .argument = "D",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).delta,                                                                                          \
         .meaning = "with confidence 1 - D"},                                                                          \
        {.name = "guarantee-share",                                                                                    \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(t).guarantee_share,                                                                                \
         .meaning = "of questions, kept for --target-error alone",                                                     \
         .low = 0,                                                                                                     \
         .high = 0.9},                                                                                                 \
        {.name = "guarantee-turns",                                                                                    \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(t).guarantee_turns,                                                                                \
         .meaning = "of the loop that is promised of; 0: as many as most questions have fresh answers, 5 at most",     \
         .high = 8},                                                                                                   \
        {.name = "risk-test",                                                                                          \
         .argument = "T",                                                                                              \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(t).risk_test,                                                                                      \
         .meaning = "what the p-values are by; binomial is exact and finds more",                                      \
         .names = risk_test_names},                                                                                    \
        {.name = "leave-one-task-out",                                                                                 \
         .type = CLI_FLAG,                                                                                             \
         .value = &(t).leave_one_task_out,                                                                             \
         .meaning = "train once more without each task, and measure on it"},                                           \
    {                                                                                                                  \
        .name = "class-weights", .type = CLI_FLAG, .value = &(t).class_weights,                                        \
        .meaning = "right and wrong traces weigh the same in sum"                                                      \
    }

#endif
