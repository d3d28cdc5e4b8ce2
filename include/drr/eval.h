/* drr/eval.h: evaluation: strategies side by side, studies, and the threshold between two reasoners. Part of drr.h. */
#ifndef DRR_EVAL_PART_H
#define DRR_EVAL_PART_H

#include "drr/check.h"
#include "drr/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A strategy with a policy of its own, under the name that the report is to give it. */
typedef struct drr_eval_entry {
    const char *name;
    drr_policy policy;
} drr_eval_entry;

/* What every strategy is to spend alike, in the mean over questions (docs/evaluation.md). */
typedef enum drr_budget { DRR_BUDGET_OWN, DRR_BUDGET_CALLS, DRR_BUDGET_TOKENS } drr_budget;
/* "calls" or "tokens", or with a strategy's name behind it "tokens:drr"; *of, NULL without one, lies in `text`. */
bool drr_budget_parse(drr_budget *budget, const char **of, const char *text);

typedef struct drr_eval_options {
    const char *out; /* folder for report.json, report.html, report.txt, questions.jsonl and the sample cache */
    const drr_strategy *strategies;
    size_t n_strategies;
    drr_policy policy;             /* strategy is taken from the list */
    const drr_eval_entry *entries; /* in place of `strategies`, whose policy is `policy`; NULL: these */
    size_t n_entries;
    drr_budget equal_budget;
    const char *budget_of;       /* the strategy or entry whose budget all others get; NULL: drr, or else self-critique,
                                    or else the first */
    const char *cache;           /* of sampled text, a file; NULL: out/samples.db */
    size_t limit;                /* questions of each set; 0: all */
    uint32_t bootstrap;          /* resamples */
    const char *title, *command; /* shown in the report; may be NULL */
    drr_checker *checker;        /* as of drr_distill_options */
    drr_reasoner *escalate_to;   /* drr's unsure questions go there; NULL: nowhere */
} drr_eval_options;
void drr_eval_options_defaults(drr_eval_options *options);

/* Compares strategies on the same questions of one or more data sets. Generated text is cached under
 * out/samples.db: run again, it is resumed, and re-scored without generating what is there.
 * *json (caller frees) is the report as drr eval --json prints it; *table the plain table. */
drr_status drr_eval(char **json, char **table, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                    const drr_dataset *const *datasets, size_t n_datasets, const drr_eval_options *options,
                    const drr_hooks *hooks, drr_error *err);

/* Was the critic trained on other answers than this reasoner's to these prompts? True, and a sentence that says what is
 * other: its P(correct) may then mean little. Recorded answers are known by the reasoner's name alone. */
bool drr_critic_mismatch(char *why, size_t size, const drr_critic *critic, const drr_reasoner *reasoner,
                         const drr_prompts *prompts);

typedef struct drr_suite_options {
    const char *out;      /* the study's folder */
    const char *command;  /* shown in the report; may be NULL */
    drr_checker *checker; /* as of drr_distill_options */
} drr_suite_options;

/* Runs the study that a TOML file describes (docs/evaluation.md) and writes one report of it into options->out: its
 * parts, of each reasoner with each critic and seed, are drr_eval's. Parts that are finished there are not done again;
 * what fails leaves them. *json and *table are the caller's. */
drr_status drr_eval_suite(char **json, char **table, const char *path, const drr_suite_options *options,
                          const drr_hooks *hooks, drr_error *err);

/* Compares what two folders of reports, by drr_eval or drr_eval_suite, hold of the same questions: each strategy that
 * is in both, b against a, and says what else differs. Writes diff.json and diff.md into `out`, NULL: nowhere. */
drr_status drr_eval_diff(char **json, char **table, const char *a, const char *b, const char *out, uint32_t bootstrap,
                         uint64_t seed, drr_error *err);

/* A cascade of two reasoners, measured on questions with known answers: what each --escalate-below would have cost and
 * got right. Costs are of tokens, in units of what the second reasoner alone costs for these questions. */
typedef struct drr_cascade_options {
    drr_policy policy;  /* of the first; its strategy is drr whatever it says */
    const char *out;    /* folder of samples.db, where what was generated is kept; needed */
    size_t limit;       /* first questions only; 0: all */
    uint32_t bootstrap; /* resamples; 10,000 */
    uint64_t seed;
    double price_ratio;  /* a token of the second costs as much as so many of the first; 20 */
    double prompt_price; /* a token read costs as much as so many written; 0.5 */
    double target_error; /* pick the cheapest threshold whose error is at most this; NaN: not asked for */
    double target_cost;  /* or the one that gets most right at no more than this; NaN: not asked for. With neither, the
                            cheapest that gets as much right as the second alone */
} drr_cascade_options;
void drr_cascade_options_defaults(drr_cascade_options *options);

typedef struct drr_cascade_point {
    double below;     /* escalate_below: what has a lower P(correct), and what has no answer, goes to the second */
    double escalated; /* share of the questions */
    double accuracy, cost;
} drr_cascade_point;

typedef struct drr_cascade_question {
    const char *id;    /* lives as long as the data set */
    uint64_t text;     /* a hash of the question's: one that is there twice is drawn as one */
    double p;          /* P(correct) of the first one's answer; NaN where it has none, and is then escalated always */
    int first, second; /* is what each of them gives right? An abstention of the second's: its own, and so no */
    int after;         /* is what stands once it has gone on? Where the second has no answer, the first one's does */
    double cost_first, cost_second; /* in written tokens of the second */
} drr_cascade_question;

typedef struct drr_cascade {
    drr_cascade_question *questions;
    size_t n;
    drr_cascade_point *points; /* by rising threshold and cost; the first escalates what has no answer alone */
    size_t n_points, picked;   /* n_points: none meets the target */
    double accuracy_first, accuracy_second, cost_first;
    double difference[3]; /* accuracy of the picked point less the second's, and its 95 % interval over questions */
} drr_cascade;

/* Asks both reasoners all questions. Freed with drr_cascade_clear, also after an error. DRR_E_ARGUMENT: a question has
 * no answer to compare with, or one that only a checker knows. */
drr_status drr_cascade_measure(drr_cascade *cascade, drr_reasoner *first, drr_reasoner *second, drr_critic *critic,
                               const drr_prompts *prompts, const drr_dataset *dataset,
                               const drr_cascade_options *options, const drr_hooks *hooks, drr_error *err);
void drr_cascade_clear(drr_cascade *cascade);

#ifdef __cplusplus
}
#endif
#endif
