/* judge.h: who says how likely an answer is right. A judge gives each turn one number once, its score, in log-odds, and
 * makes of it a P in the light of the other answers whenever that is asked. The loop knows nothing else about it, so
 * that judges can be swapped. judge.c has the critic and the plain ones, judge_http.c other programs'. */
#ifndef DRR_LOOP_JUDGE_H
#define DRR_LOOP_JUDGE_H

#include "core/core.h"

typedef struct judged_turn {
    const char *question, *text;  /* as a critic reads them */
    const drr_features *features; /* of the turn alone */
} judged_turn;

typedef struct judge_class {
    const char *name;
    bool calibrated;
    bool asks_reasoner; /* the loop asks it, and the turn that comes back has the score */
    bool needs_logprobs;
    drr_status (*score)(drr_judge *judge, double *logit, const judged_turn *turn, drr_error *err);
    double (*p)(const drr_judge *judge, double logit, const drr_features *features);
} judge_class;

struct drr_judge {
    const judge_class *class;
    char *name;
    drr_critic *critic;
    bool owns_critic;
    void *http; /* of judge_http.c */
};

/* A critic in a judge's clothes; it stays the caller's. The name is borrowed from it. */
drr_judge judge_of_critic(drr_critic *critic, char *name);

/* Log-odds of p, which is kept away from 0 and 1. */
double judge_logit(double p);
/* The way back, as a class's `p`. */
double judge_p_of_logit(const drr_judge *judge, double logit, const drr_features *features);
/* From what the reasoner wrote when it was asked whether it is right: the chance of yes by its first word and, where
 * they are known (n > 0), the log-probabilities of the tokens that it took. NaN: neither yes nor no. */
double judge_word(const char *text, const uint32_t *token_ends, const float *logprobs, size_t n);

/* judge_http.c */
extern const judge_class judge_http_class;
drr_status judge_http_open(void **http, const char *address, const drr_judge_options *options, drr_error *err);
void judge_http_close(void *http);

#endif
