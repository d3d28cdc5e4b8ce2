/* judge.h: the server's critic: one thread that scores the texts of all requests in common batches, and the routes that
 * let others use it (/v1/rerank, /classify, /score, /v1/decisions, /v1/systemone). It knows nothing of the loop. */
#ifndef DRR_SERVE_JUDGE_H
#define DRR_SERVE_JUDGE_H

#include "serve/http.h"

typedef struct judge judge;

typedef struct judge_item {
    const char *question, *text;      /* as the critic reads them; copied */
    const drr_token_stats *stats;     /* NULL: none known */
    uint32_t n_others, n_agree;       /* other answers to the question that are known, and of these the same */
    uint32_t turn, n_written;         /* after so many rejections; tokens of the text: as of drr_features */
    bool parsed;                      /* an answer was read in the text */
    double logit, p_correct, p_alone; /* set; p_alone: as if no other answer were known */
    uint32_t n_tokens;                /* set: what the critic read */
} judge_item;

/* On the judge's thread; items are the caller's again. */
typedef void (*judge_done)(void *user, drr_status status, const char *message);

drr_status judge_open(judge **j, const char *critic_path, drr_precision precision, uint32_t threads,
                      const drr_hooks *hooks, drr_error *err);
void judge_close(judge *j);
/* Takes another file from the next batch on; the old critic stays when the new one cannot be read. */
drr_status judge_swap(judge *j, const char *critic_path, drr_error *err);
drr_critic_info judge_info(judge *j); /* a copy, consistent */
const char *judge_name(judge *j);     /* "name@sha256 cut to 8": the dm field; lives as long as j, also over swaps */
/* items live until done is called. */
drr_status judge_submit(judge *j, judge_item *items, size_t n, judge_done done, void *user, drr_error *err);
/* p_correct and p_alone again, from the items' logits and what is known of other answers by now: no encoder pass, at
 * once, on the caller's thread. */
void judge_combine(judge *j, judge_item *items, size_t n);

/* The routes, user: the judge. */
void judge_rerank(void *user, http_call *call);
void judge_classify(void *user, http_call *call);
void judge_score(void *user, http_call *call);
void judge_decisions(void *user, http_call *call);
void judge_systemone(void *user, http_call *call);

#endif
