/* cli.h: the door between the files of src/cli. main.c finds the command, cmd_*.c each run one, and the rest of this
 * folder is what they share: options, words on stderr, tables, JSON. Only drr.h and the C library lie below.
 *
 * Results go to stdout; progress, notes and errors go to stderr. Exit codes: 0 done, 1 failed, 2 the command was put
 * wrongly, 130 interrupted. */
#ifndef DRR_CLI_H
#define DRR_CLI_H

#include "drr.h"

#include <stdio.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

#define CLI_REASONER "qwen2.5-coder-1.5b"
#define CLI_ENCODER "all-minilm-l6-v2"

typedef struct cli_command {
    const char *name;                  /* "distill", "data show" */
    const char *arguments;             /* what follows the options, or NULL: "FILE" */
    const char *summary;               /* one line for the list of commands */
    const char *help;                  /* paragraphs and examples, ended by a newline */
    int (*run)(int argc, char **argv); /* argv[0] is the last word of the name */
} cli_command;

extern const cli_command cli_distill, cli_train, cli_reason, cli_eval, cli_cascade, cli_run, cli_data, cli_models,
    cli_traces, cli_critic, cli_critic_verify, cli_doctor, cli_serve;

/* Finds a command in a list that ends with a NULL; argv[0] is the word to look for. An unknown one is answered with the
 * nearest known. */
int cli_dispatch(const cli_command *const *commands, const char *of, int argc, char **argv);
/* The run of a command that is only a family ("data"): its help lists the members. */
int cli_family(const cli_command *family, const cli_command *const *members, int argc, char **argv);

/* ---- options (options.c) */
typedef enum cli_type {
    CLI_STRING, /* const char * */
    CLI_LIST,   /* cli_list: may be given several times */
    CLI_UINT32,
    CLI_UINT64,
    CLI_SIZE,
    CLI_INT, /* int */
    CLI_FLOAT,
    CLI_DOUBLE,
    CLI_CHOICE, /* an enum of int's size: the index in `names` */
    CLI_FLAG,   /* bool, set to true */
} cli_type;

enum { CLI_LIST_MOST = 32 };
typedef struct cli_list {
    const char *items[CLI_LIST_MOST];
    size_t n;
} cli_list;

typedef struct cli_option {
    const char *name;
    const char *argument; /* "FILE", "N"; NULL for a flag */
    cli_type type;
    void *value; /* holds the default, which the help shows */
    const char *meaning;
    double low, high;         /* allowed where low < high */
    const char *const *names; /* of CLI_CHOICE; ends with NULL */
    bool required;
    const char *variable; /* of the environment, where cli_settings reads it; NULL: DRR_ and the name in capitals */
} cli_option;

#define CLI_END                                                                                                        \
    {                                                                                                                  \
        .name = NULL                                                                                                   \
    }

/* Reads the options (a table that ends with CLI_END). True: go on with *argc words in *argv, `least` to `most` of them.
 * False: return *code, everything has been said. --help and --quiet are always there. */
bool cli_parse(const cli_command *command, const cli_option *options, int *argc, char ***argv, int least, int most,
               int *code);
/* Stores one value; `where` names it where it is wrong; text NULL: a flag that is set. Returns an exit code. */
int cli_store(const cli_command *command, const cli_option *option, const char *where, const char *text);
/* Did the command line that cli_parse read last have this option of the table? */
bool cli_was_given(const cli_option *options, size_t index);
/* Settings of a command that runs long, after cli_parse: what the command line did not give comes from the TOML file
 * (NULL: none), where a setting has an option's name, and what that does not say from the environment, where it is
 * DRR_ and the name in capitals (settings.c). Strings live until the program ends. Returns an exit code. */
int cli_settings(const cli_command *command, const cli_option *options, const char *file);
/* One sentence about a command put wrongly, and where its help is; returns CLI_USAGE. */
int cli_usage(const cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- words on stderr, progress, interruption (talk.c) */
void cli_quiet(void); /* no notes, no progress; errors remain */
/* Of several processes that mpirun started only rank 0 speaks: makes this one silent where it is another, but for an
 * error that rank 0 does not know. Returns how many there are. */
uint32_t cli_follow_rank(void);
bool cli_silent(void);
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a line, below any progress line */
/* Says what failed and returns the exit code. Interrupted: says how to go on, but for a server, which is done then. */
int cli_fail(const drr_error *err);
int cli_fail_errno(const char *what, const char *path);
/* Hooks of a long job. The first call makes Ctrl-C and SIGTERM end it in order; a second signal ends at once. */
const drr_hooks *cli_hooks(void);
bool cli_interrupted(void);
double cli_seconds(void);      /* of a clock that only goes forward */
void cli_clear_progress(void); /* before writing to stdout, which may be the same terminal */
void cli_remember_command(int argc, char **argv);
const char *cli_command_line(void); /* quoted for a shell; asterisks for keys and passwords */

/* ---- numbers and tables for people (print_common.c) */
const char *cli_size(char text[16], uint64_t bytes);
const char *cli_duration(char text[24], double seconds);
const char *cli_share(char text[16], double share); /* "61.4 %", "-" for NaN */
const char *cli_number(char text[24], double value, int decimals);
typedef struct cli_table {
    char **cells;
    size_t n, room, columns;
} cli_table;
/* Headings in one string, separated by '|'; a column whose heading begins with '>' stands to the right. */
void cli_table_begin(cli_table *t, const char *headings);
void cli_table_add(cli_table *t, const char *format, ...) __attribute__((format(printf, 2, 3))); /* one cell */
void cli_table_print(cli_table *t); /* to stdout, and frees it */
/* `text` on one line of at most `width` characters; the caller frees it. */
char *cli_one_line(const char *text, size_t width);

/* ---- JSON for scripts (json.c) */
typedef struct cli_json {
    FILE *out;
    bool comma;
} cli_json;
/* key NULL inside a list. A number that JSON cannot say is null; text that is not UTF-8 gets U+FFFD. */
void cli_json_open(cli_json *j, const char *key, char bracket);        /* '{' or '[' */
void cli_json_close(cli_json *j, char bracket);                        /* '}' or ']' */
void cli_json_string(cli_json *j, const char *key, const char *value); /* NULL: null */
void cli_json_number(cli_json *j, const char *key, double value);
void cli_json_uint(cli_json *j, const char *key, uint64_t value);
void cli_json_int_or_null(cli_json *j, const char *key, int value); /* negative: null */
void cli_json_bool(cli_json *j, const char *key, bool value);
/* Prints correct JSON as indented "key: value" lines. */
void cli_json_show(FILE *out, const char *json);

/* ---- what several commands need (shared.c) */
/* A path or a short name; an unknown format is NULL. */
drr_status cli_open_dataset(drr_dataset **dataset, const char *name, const char *format, drr_error *err);
/* Opens all of them, in their order; `sets` has room for data->n and is filled with NULL behind a failure. Each of the
 * first `limit` questions (0: all) of a set must have its reference answer. What is wrong with the questions is said so
 * before a model is loaded. */
drr_status cli_open_datasets(drr_dataset **sets, const cli_list *data, const char *format, size_t limit,
                             drr_error *err);
void cli_free_datasets(drr_dataset **sets, size_t n);
/* The same, and forgets them. */
drr_status cli_check_datasets(const cli_list *data, const char *format, size_t limit, drr_error *err);
drr_status cli_make_folder(const char *path, drr_error *err); /* with parents */
drr_status cli_make_folder_of(const char *file, drr_error *err);
/* "runs/<base>/<file>" into `path`, where base is name's last part up to its first dot. */
void cli_default_out(char *path, size_t size, const char *name, const char *file);
/* Writes a small file through a temporary name. */
drr_status cli_write_file(const char *path, const char *text, drr_error *err);
char *cli_read_file(const char *path); /* NULL when it is not there; at most 64 KiB; the caller frees it */

typedef struct cli_checking {
    drr_check_options options;
    bool allowed;
} cli_checking;
void cli_checking_defaults(cli_checking *checking);
/* NULL where checkers are not allowed: the library then refuses questions that need one. */
drr_status cli_open_checker(drr_checker **checker, const cli_checking *checking, drr_error *err);

#define CLI_CHECKING_OPTIONS(c)                                                                                        \
    {.name = "allow-checkers",                                                                                         \
     .type = CLI_FLAG,                                                                                                 \
     .value = &(c).allowed,                                                                                            \
     .meaning = "run programs that the model writes, and commands that the data names"},                               \
        {.name = "allow-uncontained",                                                                                  \
         .type = CLI_FLAG,                                                                                             \
         .value = &(c).options.allow_uncontained,                                                                      \
         .meaning = "the same where this machine cannot keep them from your files"},                                   \
        {.name = "python",                                                                                             \
         .argument = "NAME|FILE",                                                                                      \
         .type = CLI_STRING,                                                                                           \
         .value = &(c).options.python,                                                                                 \
         .meaning = "runs programs and their tests"},                                                                  \
    {                                                                                                                  \
        .name = "check-seconds", .argument = "S", .type = CLI_DOUBLE, .value = &(c).options.seconds,                   \
        .meaning = "time of one check", .low = 0.1, .high = 86400                                                      \
    }

typedef struct cli_reasoner_choice {
    const char *source, *prompts;
    drr_reasoner_options options;
} cli_reasoner_choice;
void cli_reasoner_defaults(cli_reasoner_choice *choice);
/* The reasoner is to be opened with the layer that the critic's probe reads, where there is one (critic may be NULL).
 */
void cli_hidden_of_critic(cli_reasoner_choice *choice, char layer[16], const drr_critic *critic);
/* Fails where --hidden was given, and this reasoner gives none. */
drr_status cli_check_hidden(const drr_reasoner *reasoner, const cli_reasoner_choice *choice, drr_error *err);
/* Both, with a note on what was opened; *prompts first since it is cheap to get wrong. */
drr_status cli_open_reasoner(drr_reasoner **reasoner, drr_prompts **prompts, const cli_reasoner_choice *choice,
                             drr_error *err);
/* A second reasoner for what the first leaves unsure: the same options but for its source, its model and, of recorded
 * answers, whose they are. NULL where none was asked for. */
typedef struct cli_escalation {
    const char *source, *model, *replay_reasoner;
} cli_escalation;
drr_status cli_open_second(drr_reasoner **second, const cli_escalation *to, const cli_reasoner_choice *first,
                           drr_error *err);
#define CLI_ESCALATION_OPTIONS(e)                                                                                      \
    {.name = "escalate",                                                                                               \
     .argument = "NAME|FILE|URL",                                                                                      \
     .type = CLI_STRING,                                                                                               \
     .value = &(e).source,                                                                                             \
     .meaning = "another reasoner, for questions that drr leaves unsure"},                                             \
        {.name = "escalate-model",                                                                                     \
         .argument = "NAME",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(e).model,                                                                                          \
         .meaning = "--model of that one"},                                                                            \
    {                                                                                                                  \
        .name = "escalate-replay-reasoner", .argument = "ID", .type = CLI_STRING, .value = &(e).replay_reasoner,       \
        .meaning = "--replay-reasoner of that one"                                                                     \
    }
#define CLI_REMOTE_OPTIONS(o)                                                                                          \
    {.name = "model",                                                                                                  \
     .argument = "NAME",                                                                                               \
     .type = CLI_STRING,                                                                                               \
     .value = &(o).model,                                                                                              \
     .meaning = "of a remote reasoner; not given: the only one it has"},                                               \
        {.name = "api-key-file",                                                                                       \
         .argument = "FILE",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(o).api_key_file,                                                                                   \
         .meaning = "that its owner alone may read; not given: DRR_UPSTREAM_API_KEY in the environment"},              \
        {.name = "ca-file",                                                                                            \
         .argument = "FILE",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(o).ca_file,                                                                                        \
         .meaning = "certificates to trust; not given: the system's"},                                                 \
        {.name = "request-seconds",                                                                                    \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(o).request_seconds,                                                                                \
         .meaning = "for one question to a remote reasoner, tries and all; 0: 600",                                    \
         .high = 1 << 20},                                                                                             \
        {.name = "retries",                                                                                            \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(o).retries,                                                                                        \
         .meaning = "of a remote question after 429, 5xx and broken connections",                                      \
         .high = 1000},                                                                                                \
        {.name = "max-tokens-total",                                                                                   \
         .argument = "N",                                                                                              \
         .type = CLI_UINT64,                                                                                           \
         .value = &(o).max_tokens_total,                                                                               \
         .meaning = "of all prompts and answers of a remote reasoner; 0: no limit"},                                   \
        {.name = "max-money",                                                                                          \
         .argument = "X",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(o).max_money,                                                                                      \
         .meaning = "to spend on a remote reasoner; 0: no limit",                                                      \
         .high = 1e9},                                                                                                 \
        {.name = "price-prompt",                                                                                       \
         .argument = "X",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(o).price_prompt,                                                                                   \
         .meaning = "of a million prompt tokens, for --max-money",                                                     \
         .high = 1e9},                                                                                                 \
    {                                                                                                                  \
        .name = "price-completion", .argument = "X", .type = CLI_DOUBLE, .value = &(o).price_completion,               \
        .meaning = "of a million written tokens, for --max-money", .high = 1e9                                         \
    }

#define CLI_REASONER_OPTIONS(c)                                                                                        \
    {.name = "reasoner",                                                                                               \
     .argument = "NAME|FILE|URL",                                                                                      \
     .type = CLI_STRING,                                                                                               \
     .value = &(c).source,                                                                                             \
     .meaning = "a known model, a .gguf file, recorded traces, or http[s]://host/v1"},                                 \
        CLI_REMOTE_OPTIONS((c).options),                                                                               \
        {.name = "prompts",                                                                                            \
         .argument = "FILE",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(c).prompts,                                                                                        \
         .meaning = "JSON with other words for the prompts"},                                                          \
        {.name = "width",                                                                                              \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(c).options.width,                                                                                  \
         .meaning = "sequences written at once; 0: by cores and memory",                                               \
         .high = 1024},                                                                                                \
        {.name = "context",                                                                                            \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(c).options.context,                                                                                \
         .meaning = "tokens of one sequence, prompt and answer; 0: as the model allows",                               \
         .high = 1 << 20},                                                                                             \
        {.name = "threads",                                                                                            \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(c).options.threads,                                                                                \
         .meaning = "0: all cores",                                                                                    \
         .high = 1024},                                                                                                \
        {.name = "replay-reasoner",                                                                                    \
         .argument = "ID",                                                                                             \
         .type = CLI_STRING,                                                                                           \
         .value = &(c).options.replay_reasoner,                                                                        \
         .meaning = "recorded traces: take only this reasoner's"},                                                     \
    {                                                                                                                  \
        .name = "replay-prompt", .argument = "ID", .type = CLI_STRING, .value = &(c).options.replay_prompt,            \
        .meaning = "recorded traces: take only this prompt's"                                                          \
    }

/* drr distill and drr run; where a critic is used, its own file says which layer it reads. */
#define CLI_HIDDEN_OPTION(c)                                                                                           \
    {                                                                                                                  \
        .name = "hidden", .argument = "LAYER,...", .type = CLI_STRING, .value = &(c).options.hidden,                   \
        .meaning =                                                                                                     \
            "keep an embedded model's hidden states behind these layers (1 ..., or last) in traces, for a probe"       \
    }

extern const char *const cli_kind_names[];
/* Says whether a promise of the critic (NULL: none) is about answers sought under this policy, and gives the one that
 * is; `holding` NULL: nobody asks, turns 0: none. `wanted`, --guaranteed: makes the policy the one that it is about, or
 * fails where there is no promise. */
drr_status cli_guarantee(drr_guarantee *holding, drr_policy *policy, const drr_critic *critic, bool wanted,
                         drr_error *err);
/* The members of a guarantee in an open JSON object. */
void cli_guarantee_members(cli_json *j, const drr_guarantee *g);

/* Opens it into policy->question_critic, and *critic is the caller's to close; nothing without a path. Thresholds
 * without one are refused. */
drr_status cli_open_question(drr_critic **critic, drr_policy *policy, const char *path, drr_error *err);
#define CLI_QUESTION_OPTIONS(path, p)                                                                                  \
    {.name = "question-critic",                                                                                        \
     .argument = "FILE",                                                                                               \
     .type = CLI_STRING,                                                                                               \
     .value = &(path),                                                                                                 \
     .meaning = "of drr train --question-only: judges a question before drr asks it"},                                 \
        {.name = "sure-above",                                                                                         \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).sure_above,                                                                                     \
         .meaning = "with it: from this P(it gets it right) on, the first answer is taken",                            \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "parallel-below",                                                                                     \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).parallel_below,                                                                                 \
         .meaning = "with it: below this P --samples are drawn side by side, not in sequence",                         \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "hopeless-below",                                                                                     \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).hopeless_below,                                                                                 \
         .meaning = "with it: below this P no answer is sought: abstains, or escalates",                               \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
    {                                                                                                                  \
        .name = "give-up-below", .argument = "P", .type = CLI_DOUBLE, .value = &(p).give_up_below,                     \
        .meaning = "with it: below this P it abstains, and nobody is asked, --escalate or not", .low = 0, .high = 1    \
    }

#define CLI_GUARANTEED_OPTION(flag)                                                                                    \
    {                                                                                                                  \
        .name = "guaranteed", .type = CLI_FLAG, .value = &(flag),                                                      \
        .meaning = "seek answers as the critic's guarantee is about, and abstain where nothing is accepted"            \
    }

/* Another judge than a critic, for drr eval and drr reason. */
typedef struct cli_judging {
    const char *source;
    drr_judge_options options;
} cli_judging;
/* --judge FILE is --critic FILE. CLI_DONE or CLI_USAGE. */
int cli_judge_or_critic(cli_judging *judging, const char **critic_path, const cli_command *command);
/* *judge stays NULL where none is asked for. */
drr_status cli_open_judge(drr_judge **judge, const cli_judging *judging, const cli_reasoner_choice *choice,
                          drr_error *err);

/* Who answers and who judges. What was asked for is the caller's to fill in, NULL where it was not; what was opened for
 * it lasts until cli_close_cast. */
typedef struct cli_cast {
    const cli_reasoner_choice *choice;
    const cli_escalation *to;
    const cli_judging *judging;
    const cli_checking *checking;
    const char *critic_path, *question_path;

    drr_critic *critic, *question;
    drr_judge *judge;
    drr_checker *checker;
    drr_prompts *prompts;
    drr_reasoner *reasoner, *second;
    char layer[16]; /* of the reasoner, that the critic's probe reads */
} cli_cast;
/* Opens the critic, the critic of questions and the judge, which go into the policy, and the checker: all that is quick
 * to open, so that what is wrong with it is said before a model is loaded. */
drr_status cli_open_judges(cli_cast *cast, drr_policy *policy, drr_error *err);
/* After cli_open_judges: opens the prompts, the reasoner, and the one that what is unsure goes to. */
drr_status cli_open_reasoners(cli_cast *cast, drr_error *err);
/* Closes what is open, also behind a failure. */
void cli_close_cast(cli_cast *cast);
/* Warns where the critic (there may be none) was trained on other answers than this reasoner's. */
void cli_check_critic(const cli_cast *cast);

#define CLI_JUDGE_OPTIONS(j)                                                                                           \
    {.name = "judge",                                                                                                  \
     .argument = "J",                                                                                                  \
     .type = CLI_STRING,                                                                                               \
     .value = &(j).source,                                                                                             \
     .meaning = "in place of --critic: a critic's file, self, length, logprob, vote, or http[s]://host/v1/rerank"},    \
        {.name = "judge-route",                                                                                        \
         .argument = "R",                                                                                              \
         .type = CLI_STRING,                                                                                           \
         .value = &(j).options.route,                                                                                  \
         .meaning = "of a judge's address: rerank, classify, score, decisions, systemone; not given: by its path"},    \
        {.name = "judge-scale",                                                                                        \
         .argument = "S",                                                                                              \
         .type = CLI_STRING,                                                                                           \
         .value = &(j).options.scale,                                                                                  \
         .meaning = "of rerank's and score's numbers: logit or probability; not given: logit of rerank alone"},        \
        {.name = "judge-model",                                                                                        \
         .argument = "NAME",                                                                                           \
         .type = CLI_STRING,                                                                                           \
         .value = &(j).options.model,                                                                                  \
         .meaning = "as the judge's server calls it"},                                                                 \
    {                                                                                                                  \
        .name = "judge-seconds", .argument = "N", .type = CLI_UINT32, .value = &(j).options.seconds,                   \
        .meaning = "for one judgement of a server, tries and all; 0: 60", .high = 86400                                \
    }

#define CLI_POLICY_OPTIONS(p)                                                                                          \
    {.name = "samples",                                                                                                \
     .argument = "N",                                                                                                  \
     .type = CLI_UINT32,                                                                                               \
     .value = &(p).samples,                                                                                            \
     .meaning = "answers a question, for vote and best-of-n",                                                          \
     .low = 1,                                                                                                         \
     .high = 1024},                                                                                                    \
        {.name = "stop-confidence",                                                                                    \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).stop_confidence,                                                                                \
         .meaning = "draw samples one by one, until they decide as surely; 1: only what cannot change; 0: draw all",   \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "weigh-votes",                                                                                        \
         .argument = "HOW",                                                                                            \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(p).votes,                                                                                          \
         .meaning = "of vote: all alike, by P(correct), by all that the critic says of each, by log-probabilities",    \
         .names = drr_votes_names},                                                                                    \
        {.name = "keep-votes",                                                                                         \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).keep_votes,                                                                                     \
         .meaning = "with --weigh-votes confidence: only this share votes, the most confident",                        \
         .low = 0.01,                                                                                                  \
         .high = 1},                                                                                                   \
        {.name = "max-turns",                                                                                          \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(p).max_turns,                                                                                      \
         .meaning = "turns a question, for drr and self-critique",                                                     \
         .low = 1,                                                                                                     \
         .high = 64},                                                                                                  \
        {.name = "turn-tokens",                                                                                        \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(p).turn_tokens,                                                                                    \
         .meaning = "tokens of one turn",                                                                              \
         .low = 1,                                                                                                     \
         .high = 1 << 20},                                                                                             \
        {.name = "max-tokens",                                                                                         \
         .argument = "N",                                                                                              \
         .type = CLI_UINT64,                                                                                           \
         .value = &(p).max_tokens,                                                                                     \
         .meaning = "tokens a question over all turns; 0: no limit"},                                                  \
        {.name = "max-seconds",                                                                                        \
         .argument = "S",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).max_seconds,                                                                                    \
         .meaning = "seconds a question, of reasoner and judge; 0: no limit",                                          \
         .low = 0,                                                                                                     \
         .high = 1e6},                                                                                                 \
        {.name = "early",                                                                                              \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).early_below,                                                                                    \
         .meaning = "stop an answer under way where a step's P is below, and go on from before it; 0: never",          \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "early-confidence",                                                                                   \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).early_confidence,                                                                               \
         .meaning = "the same where its tokens' log-probabilities fall below this confidence; 0: never",               \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "early-steps",                                                                                        \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(p).early_steps,                                                                                    \
         .meaning = "the first step, from 1, that --early may stop at",                                                \
         .low = 1,                                                                                                     \
         .high = 1000},                                                                                                \
        {.name = "early-cuts",                                                                                         \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(p).early_cuts,                                                                                     \
         .meaning = "how often --early may stop one answer",                                                           \
         .low = 1,                                                                                                     \
         .high = 64},                                                                                                  \
        {.name = "early-after",                                                                                        \
         .argument = "N",                                                                                              \
         .type = CLI_UINT32,                                                                                           \
         .value = &(p).early_after,                                                                                    \
         .meaning = "--early stops nothing before N answers have been written to an end",                              \
         .high = 64},                                                                                                  \
        {.name = "early-free",                                                                                         \
         .type = CLI_FLAG,                                                                                             \
         .value = &(p).early_free,                                                                                     \
         .meaning = "what --early stops does not count as a turn of drr"},                                             \
        {.name = "threshold",                                                                                          \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).threshold,                                                                                      \
         .meaning = "accept at this P(correct) or above; not given: the critic's own",                                 \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "abstain-below",                                                                                      \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).abstain_below,                                                                                  \
         .meaning = "in the end, abstain when P(correct) is below, or not known; 0: never",                            \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "escalate-below",                                                                                     \
         .argument = "P",                                                                                              \
         .type = CLI_DOUBLE,                                                                                           \
         .value = &(p).escalate_below,                                                                                 \
         .meaning = "with --escalate: below this P(correct); not given: what no turn was accepted of",                 \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
        {.name = "on-exhausted",                                                                                       \
         .argument = "HOW",                                                                                            \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(p).on_exhausted,                                                                                   \
         .meaning = "when turns run out",                                                                              \
         .names = drr_exhausted_names},                                                                                \
        {.name = "feedback",                                                                                           \
         .argument = "HOW",                                                                                            \
         .type = CLI_CHOICE,                                                                                           \
         .value = &(p).feedback,                                                                                       \
         .meaning = "after a rejection: words and the history (with the score, or the bad step), or a fresh start",    \
         .names = drr_feedback_names},                                                                                 \
        {.name = "first-temperature",                                                                                  \
         .argument = "T",                                                                                              \
         .type = CLI_FLOAT,                                                                                            \
         .value = &(p).first_temperature,                                                                              \
         .meaning = "of cot, self-critique and drr's first turn; 0: the likeliest token",                              \
         .high = 10},                                                                                                  \
        {.name = "temperature",                                                                                        \
         .argument = "T",                                                                                              \
         .type = CLI_FLOAT,                                                                                            \
         .value = &(p).temperature,                                                                                    \
         .meaning = "of vote, best-of-n, drr's other turns",                                                           \
         .high = 10},                                                                                                  \
        {.name = "top-p",                                                                                              \
         .argument = "P",                                                                                              \
         .type = CLI_FLOAT,                                                                                            \
         .value = &(p).top_p,                                                                                          \
         .meaning = "nucleus of sampling",                                                                             \
         .low = 0,                                                                                                     \
         .high = 1},                                                                                                   \
    {                                                                                                                  \
        .name = "grammar", .type = CLI_FLAG, .value = &(p).grammar, .meaning = "force the answer line to parse"        \
    }

#endif
