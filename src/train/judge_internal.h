/* judge_internal.h: what judge.c, held_out.c and promise.c share: rows that answer one question by one reasoner. */
#ifndef DRR_TRAIN_JUDGE_INTERNAL_H
#define DRR_TRAIN_JUDGE_INTERNAL_H

#include "core/statistics.h"
#include "train/train.h"

enum { MOST_TRIES = 8 }; /* fresh answers of a question that are acted out */

bool judge_parsed(const drr_trace *t);
uint8_t judge_label(const drr_trace *t); /* an answer that cannot be read is not one to accept */

/* ---- groups.c */
typedef struct groups {
    const corpus *c;
    size_t *rows, n;
    size_t *begin, *end; /* rows[begin[i]] .. rows[end[i] - 1] is the group of rows[i] */
    size_t *others;      /* scratch for one group */
} groups;
drr_status groups_new(groups *g, const corpus *c, corpus_part part, drr_error *err);
void groups_clear(groups *g);
/* Puts those that may be known when rows[i] is judged into g->others: other samples' fresh answers, and what came
 * before it in its own conversation. */
size_t groups_others(groups *g, size_t i);
/* Features of rows[i] where others[n] are known, and the P(correct) that the critic gives it then. */
drr_features groups_features(const groups *g, size_t i, const size_t *others, size_t n);
double groups_judge(const critic_meta *meta, const groups *g, size_t i, const size_t *others, size_t n);

#endif
