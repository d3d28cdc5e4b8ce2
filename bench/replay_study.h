/* replay_study.h: what the files of replay_study share: recorded answers that a critic has scored. */
#ifndef DRR_BENCH_REPLAY_STUDY_H
#define DRR_BENCH_REPLAY_STUDY_H

#include "eval/eval_internal.h"
#include "loop/weigh.h"
#include "train/judge_internal.h"

enum { MOST = 16, MOST_FOLDS = 16, MOST_ANSWERS = 64 }; /* samples drawn; folds; recorded answers of a question */

typedef struct answer {
    double logit, alone; /* P(correct) as if there were no other */
    size_t choice;       /* equal answers have one number */
    uint32_t n_tokens;
    bool parsed, right;
} answer;

typedef struct question { /* answers[first ..] */
    size_t first, n, n_choices;
    uint32_t fold;
    double alternatives;
    double p_question;            /* of the question alone; NaN without such a critic */
    double second, second_tokens; /* a second reasoner: is it right, and how much it wrote; NaN without one */
    bool closed;
} question;

typedef struct part { /* dev or test, of all folds */
    question *questions;
    answer *answers;
    size_t n, n_answers;
    double *right, *samples; /* [POINTS][n] */
    double second_tokens;    /* mean; NaN without a second reasoner */
} part;

typedef struct study {
    const char *reasoner;
    size_t k, orders;
    uint64_t seed;
    bool replace, refit;
    const char *second; /* its file, or "-" */
    double price_ratio;
    uint32_t resamples;
    critic_meta metas[MOST_FOLDS]; /* borrow from the critics */
    drr_critic *critics[MOST_FOLDS];
    uint32_t n_folds;
    part dev, test;
} study;

/* P(correct) of an answer where so many others are known, and so many of them agree. */
double study_judge(const study *s, const question *q, const answer *a, uint32_t others, uint32_t agree);
/* replay_read.c: files: critic, dev, test, questions. */
drr_status study_add_fold(study *s, char **files, drr_error *err);
/* replay_auroc.c: of all answers to the left-out questions. */
drr_status study_print_auroc(const study *s, drr_error *err);

#endif
