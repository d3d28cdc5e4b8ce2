/* eval_internal.h: what the files of src/eval share. */
#ifndef DRR_EVAL_INTERNAL_H
#define DRR_EVAL_INTERNAL_H

#include "core/core.h"
#include "core/json.h"
#include "core/plot.h"
#include "core/statistics.h"
#include "reasoner/reasoner.h"

/* ---- cache.c: a reasoner that remembers on disk what the inner one wrote. The inner one stays the caller's and must
 * outlive it. Counts (may be NULL) are kept up to date: completions found, and completions generated. */
typedef struct cache_counts {
    uint64_t found, generated;
} cache_counts;
drr_status cached_reasoner_new(drr_reasoner **wrapped, drr_reasoner *inner, const char *path, cache_counts *counts,
                               drr_error *err);

/* ---- statistics.c */
typedef struct interval { /* 95 % */
    double value, low, high;
} interval;
/* clusters[n]: values of one are drawn together, those of a question; NULL: each is one. */
interval bootstrap_mean(const double *values, const uint64_t *clusters, size_t n, uint32_t resamples, uint64_t seed);
double mcnemar_exact(uint64_t b, uint64_t c); /* p; b, c: questions that one alone, the other alone, got right */
/* The same of n pairs whose difference is 1 (right by the one alone), -1 (by the other alone) or 0: those of a cluster,
 * a question that is there several times, are one coin that weighs their sum. With each there once, mcnemar_exact. NaN:
 * no memory. */
double mcnemar_clustered(const double *differences, const uint64_t *clusters, size_t n);
typedef struct risk_point {
    double coverage, risk, threshold;
} risk_point;
size_t risk_coverage(risk_point *points, const double *p, const uint8_t *right,
                     size_t n);                       /* room for n; returns how many */
double risk_area(const risk_point *points, size_t n); /* AURC */

/* Standard error of the mean of n values whose clusters (questions) were drawn, not they themselves: the sandwich of
 * Liang and Zeger (1986) with G / (G - 1); with one value a cluster the textbook's. NaN with fewer than two clusters.
 */
double clustered_error(const double *values, const uint64_t *clusters, size_t n);
/* Holm's (1979) p-values over n tests; false: out of memory. */
bool holm(double *adjusted, const double *p, size_t n);
/* AUGRC (Traub et al. 2024, arXiv 2407.01032): as risk_area, of the share that is both answered and wrong. */
double risk_generalized_area(const risk_point *points, size_t n);
/* The largest coverage at which at least this share of what is answered is right; 0: at none. */
double risk_coverage_at(const risk_point *points, size_t n, double accuracy);

/* ---- measure.c: figures of finished runs */
enum { N_COVERAGE_AT = 3, RUN_MORE_CELLS = 8 + N_COVERAGE_AT };
extern const double coverage_levels[N_COVERAGE_AT];

typedef struct equal_budget { /* how a run came by the budget of another: budget.c */
    bool asked, reached;
    uint32_t low, high; /* samples or turns: high for `share_high` of the questions, low for the others */
    double share_high;
} equal_budget;

typedef struct route_figures { /* of the questions that went one way by the question alone */
    uint64_t n, n_right, n_tokens;
} route_figures;

typedef struct strategy_run {
    const char *name; /* the strategy's, or the entry's */
    drr_strategy strategy;
    drr_policy policy;
    drr_result *results; /* n of the comparison, each the run's */
    interval accuracy;
    double accuracy_answered, coverage, mean_calls, mean_turns, mean_tokens, mean_prompt_tokens, mean_seconds;
    double aurc, augrc, coverage_at[N_COVERAGE_AT];   /* NaN without P(correct) */
    double accuracy_se;                               /* clustered by question */
    double first_accuracy, oracle_accuracy, headroom; /* of first answers; of any; the part of the gap that was won */
    uint64_t wrong_to_right, right_to_wrong;          /* questions, from first to final answer */
    equal_budget budget;
    uint64_t n_answered, n_abstained, n_unparsed, n_failed;
    uint64_t n_escalated; /* to the second reasoner */
    double mean_escalated_tokens;
    double mean_cuts, mean_cut_tokens; /* early rejections, and what they threw away */
    double mean_judge_seconds;
    route_figures routes[DRR_ROUTES];
    uint64_t n_ungraded; /* answered, and its checker could not say whether rightly */
} strategy_run;

typedef struct pair { /* strategies a and b on the same questions */
    size_t a, b;
    uint64_t only_a, only_b;     /* right by one alone */
    double p, p_holm;            /* McNemar; corrected for all comparisons of the report */
    interval difference, tokens; /* accuracy and mean tokens, a less b */
} pair;

typedef enum judged_rows {
    JUDGED_FIRST,              /* first answers, one a question, each judged when no other was known */
    JUDGED_GIVEN,              /* what drr answered, by the P(correct) that it was answered on */
    JUDGED_GIVEN_OTHERS_KNOWN, /* of these the questions with more than one answer */
    JUDGED_SAMPLES,            /* every sample of best-of-n or vote, all others known */
    N_JUDGED
} judged_rows;

typedef struct judged {      /* figures over one set of rows; NaN where not defined */
    const char *key, *words; /* in JSON; in a table */
    bool exists;             /* a strategy that has such rows ran, and there is a critic */
    drr_strategy strategy;   /* whose rows they are */
    uint64_t n, n_right;
    uint64_t n_unparsed; /* answers that could not be read: no rows */
    uint64_t n_unscored; /* answers without a score that is a number: no rows either */
    double right_se;     /* standard error of the share right, clustered by question */
    double auroc, auroc_text, auprc, brier, ece, length_auroc, vote_auroc;
    drr_within within, within_text, within_length, within_vote; /* no pairs where questions have one row each */
    double *p;
    uint8_t *right;
} judged;

typedef struct comparison { /* of one data set */
    const char *name;
    const drr_task **tasks;
    size_t n;
    uint32_t *folds; /* [n] from 1: whose critic judges a question; NULL: one critic for all */
    strategy_run *runs;
    size_t n_runs;
    pair *pairs;
    size_t n_pairs;
    judged judged[N_JUDGED];
    const char *budget_of; /* the run whose budget all others were given; NULL: none */
    double budget;         /* its mean calls or tokens a question */
} comparison;

/* ---- folds.c: a critic for each part of the questions, none of which saw those that it judges */
typedef struct fold_critics {
    const char *name;
    uint32_t n;
    drr_critic **critics;   /* [n], fold 1's first */
    drr_critic **questions; /* [n] in place of the policies' question_critic; NULL: theirs */
    drr_status (*fold_of)(void *user, uint32_t *fold, const drr_task *task, drr_error *err);
    void *user;
} fold_critics;

/* Everything that a report shows. */
typedef struct evaluation {
    const drr_eval_entry *entries; /* what runs */
    size_t n_entries;
    const drr_eval_options *options;
    const char *reasoner, *reasoner_description, *prompts;
    drr_critic_info critic;
    const fold_critics *folds; /* NULL: one critic, or none */
    bool has_critic;           /* and it is the judge */
    const char *judge;         /* who gave P(correct); NULL: nobody */
    char mismatch[700];        /* what the critic was trained on, where it was not this; "" */
    char date[32];
    comparison *comparisons;
    size_t n;
} evaluation;

/* Risk against coverage of one strategy over its answers that have a P(correct); *points is the caller's. */
drr_status run_risk(risk_point **points, size_t *n, const strategy_run *run, size_t n_questions, drr_error *err);
drr_status comparison_measure(comparison *c, const drr_eval_options *options, bool has_judge, drr_error *err);
/* Holm's p over all comparisons of all data sets. */
drr_status evaluation_correct(evaluation *e, drr_error *err);
/* A finding about strategy a beside b: "drr is 8.3 points above cot ...". */
drr_status pair_sentence(buffer *b, const char *a, const char *other, const pair *p, drr_error *err);

/* ---- eval.c, for budget.c */
typedef struct solver { /* what answers questions */
    drr_reasoner *reasoner, *second;
    drr_critic *critic;
    const fold_critics *folds; /* in place of critic; NULL: none */
    const drr_prompts *prompts;
    const drr_hooks *hooks;
} solver;
drr_status solve_entry(drr_result *results, const comparison *c, const drr_policy *policy, const solver *how,
                       drr_error *err);

/* ---- folds.c */
drr_status folds_assign(comparison *c, const fold_critics *f, drr_error *err);
/* As drr_solve, of a comparison with folds. */
drr_status folds_solve(drr_result *results, const comparison *c, const drr_policy *policy, const solver *how,
                       drr_error *err);
json_t *folds_json(const comparison *c, const fold_critics *critics); /* figures fold by fold */
json_t *folds_critics_json(const fold_critics *critics);
drr_status folds_note(buffer *b, const comparison *c, const strategy_run *run, drr_error *err); /* a sentence */

/* ---- routes.c */
drr_route routes_final(const drr_result *r);
void routes_measure(strategy_run *run, size_t n);
json_t *routes_json(const strategy_run *run); /* NULL: no question was judged before it was asked */
drr_status routes_words(buffer *b, const char *name, const json_t *routes, drr_error *err);
drr_status routes_note(buffer *b, const strategy_run *run, drr_error *err); /* a sentence, or nothing */

/* ---- budget.c */
/* Gives every run the mean calls or tokens of one of them, as near as its samples or turns allow. */
drr_status budget_equal(comparison *c, const drr_eval_options *o, const solver *how, drr_error *err);
json_t *budget_json(const strategy_run *run);

/* Names of strategies and of a suite's parts: they stand in files' names and in a page's text. */
#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._+=-"

/* ---- mismatch.c */
/* True, and a sentence, where the critic was trained on other answers; prompts NULL: not to be compared. */
bool critic_mismatch(char *why, size_t size, const drr_critic_info *critic, const char *reasoner, const char *prompts);

/* ---- questions.c: OUT/questions.jsonl (docs/evaluation.md) */
drr_status questions_write(const char *path, const evaluation *e, drr_error *err);

/* ---- what a suite (suite.c) takes of an evaluation beside its report */
typedef struct part_forms {
    const char *body;          /* the file for the page's part that is about this evaluation alone, without findings */
    const char *plots;         /* what the plots' files begin with: "OUT/plots/NAME." */
    const uint64_t *limits;    /* questions of each data set; 0: all */
    const fold_critics *folds; /* in place of a critic; NULL: none */
} part_forms;
drr_status evaluate_part(char **json, char **table, const part_forms *forms, drr_reasoner *reasoner, drr_critic *critic,
                         const drr_prompts *prompts, const drr_dataset *const *datasets, size_t n_datasets,
                         const drr_eval_options *options, const drr_hooks *hooks, drr_error *err);
drr_status part_write(const part_forms *forms, const evaluation *e, drr_error *err); /* plot_files.c */

/* ---- figures.c */
bool result_first_right(const drr_result *result);  /* its first answer was right */
bool turn_is_first_reasoners(const drr_turn *turn); /* and not the second's, to whom the question was escalated */
uint64_t question_cluster(const drr_task *task);    /* of its text and choices: one that is there twice is one */
drr_status run_figures(strategy_run *run, size_t n, drr_error *err);
extern const char *const run_more_heads[RUN_MORE_CELLS];
extern const char run_more_legend[];
void run_more_cells(char cells[RUN_MORE_CELLS][32], const strategy_run *run);
void run_more_json(json_t *o, const strategy_run *run);

/* ---- judged.c */
drr_status judged_measure(comparison *c, const drr_eval_options *o, drr_error *err);
void judged_clear(judged *set);
/* Why a figure of this set is not defined; NULL when all are. */
const char *judged_undefined(const judged *set);

/* ---- within.c: discrimination within a question, of sets that have several answers to one */
/* Rows of a question lie side by side, and there those of each time that it was asked (groups). */
void within_measure(judged *set, const double *logit, const double *length, const double *vote, const size_t *questions,
                    const size_t *groups, const drr_eval_options *o);
/* A sentence; none of a set that has one row a question. */
drr_status within_note(buffer *b, const judged *set, drr_error *err);
void within_json(json_t *o, const judged *set);

/* ---- promised.c: a critic's guarantee, and what drr accepted here */
typedef struct promised {
    const drr_guarantee *g;                   /* the critic's for so many turns, or else its last */
    bool holds;                               /* it is about answers sought under this policy */
    char why[400];                            /* if not */
    uint64_t n_accepted, n_wrong, n_ungraded; /* questions that drr accepted an answer to; of these */
} promised;
/* False where there is nothing to say: no critic, no guarantee, or drr did not run. */
bool promised_measure(promised *p, const evaluation *e, const comparison *c);
drr_status promised_sentence(buffer *b, const promised *p, const comparison *c, drr_error *err);
json_t *promised_json(const promised *p);

/* ---- cascade.c: points and what is picked, of cascade->questions[n] */
drr_status cascade_points(drr_cascade *cascade, const drr_cascade_options *options, drr_error *err);

/* ---- the report's three forms */
extern const char figure_unknown[]; /* a dash */
/* A figure, or the dash for NaN; returns out. */
const char *figure_text(char out[32], double value, int decimals, const char *unit);
const char *figure_range(char out[48], const interval *i); /* "61.7 to 72.3", in percent */
extern const char judged_legend[];
/* Sentences, none of them where all is plain: of a strategy, that questions went without an answer, and why a figure of
 * its is unknown; of a set, why a figure is unknown. */
drr_status run_note(buffer *b, const comparison *c, const strategy_run *r, drr_error *err);
drr_status judged_note(buffer *b, const judged *set, drr_error *err);
drr_status report_json(char **json, const evaluation *e, drr_error *err);
drr_status report_text(char **text, const evaluation *e, drr_error *err);
drr_status report_html(char **html, const evaluation *e, drr_error *err);
drr_status html_begin(buffer *b, const char *title, drr_error *err); /* up to the heading */
drr_status html_body(buffer *b, const evaluation *e, bool findings, drr_error *err);
drr_status html_end(buffer *b, drr_error *err);
json_t *policy_json(const drr_policy *policy);

/* ---- plots.c: inline SVG */
drr_status plot_accuracy(buffer *b, const comparison *c, drr_error *err);
drr_status plot_risk(buffer *b, const comparison *c, drr_error *err);
drr_status plot_reliability(buffer *b, const judged *set, drr_error *err);
drr_status plot_scores(buffer *b, const judged *set, drr_error *err);
drr_status html_escape(buffer *b, const char *text, drr_error *err);

#endif
