/* judge.h: the server's critic: one thread that scores the texts of all requests in common batches, and the routes that
 * let others use it (/v1/rerank, /v1/classify, /v1/score, /v1/decisions, /v1/systemone, /get_reward). It knows nothing
 * of the loop. */
#ifndef DRR_SERVE_JUDGE_H
#define DRR_SERVE_JUDGE_H

#include "serve/http.h"
#include "serve/metrics.h"

typedef struct judge judge;

typedef struct judge_item {
    const char *question, *text;  /* as the critic reads them; live as long as the item, as stats and hidden do */
    const drr_token_stats *stats; /* NULL: none known */
    uint32_t n_others, n_agree;   /* other answers to the question that are known, and of these the same */
    uint32_t turn, n_written;     /* after so many rejections; tokens of the text: as of drr_features */
    bool parsed;                  /* an answer was read in the text */
    bool alone; /* a text that others hand in: nothing else of it counts, and the drift alarm does not hear it */
    const void *hidden; /* as drr_trace.hidden, for a critic with a probe; NULL: none */
    size_t hidden_size;
    /* Set: */
    double logit, p_correct, p_alone; /* p_alone: as if no other answer were known */
    double probe;                     /* the log-odds of the critic's probe; NaN: it has none, or there was no hidden */
    double threshold;                 /* of the critic that scored it, whose name `critic` is: as judge_name */
    const char *critic;
    uint32_t n_tokens; /* that the critic read */
} judge_item;

/* On the judge's thread; items are the caller's again. It must be quick, and may submit. message: NULL when all is
 * well. DRR_E_INTERRUPTED: judge_cancel or judge_close came first. */
typedef void (*judge_done)(void *user, drr_status status, const char *message);

/* hooks->log is called on the judge's thread, and must outlive it. */
drr_status judge_open(judge **j, const char *critic_path, drr_precision precision, uint32_t threads,
                      const drr_hooks *hooks, drr_error *err);
void judge_close(judge *j);                  /* what waits is ended with DRR_E_INTERRUPTED */
void judge_count(judge *j, metrics *counts); /* batches and drift go there; before anything is submitted */
/* Takes another file for all that is submitted from now on; what waits is scored by the critic that it was submitted
 * to, and what is held (judge_hold) is scored by that one. The old critic stays when the new one cannot be read, or
 * when `may` (NULL: any may) refuses it, and where the file is the same, byte for byte. Of each critic that leaves some
 * KB remain: what was judged by it may be combined anew, and may be asked for its name. */
typedef drr_status (*judge_may)(void *user, const drr_critic_info *info, drr_error *err);
drr_status judge_swap(judge *j, const char *critic_path, judge_may may, void *user, drr_error *err);
drr_critic_info judge_info(judge *j); /* a copy, consistent; its strings live as long as j, also over swaps */
const char *judge_name(judge *j);     /* "name@sha256 cut to 8": the dm field; lives as long as j, also over swaps */
/* items live until done is called. DRR_E_LIMIT: too much waits already (503); done is not called then. */
drr_status judge_submit(judge *j, judge_item *items, size_t n, judge_done done, void *user, drr_error *err);
/* A critic that a request of several turns holds, so that one critic judges all of them, whatever judge_swap brings. It
 * keeps its memory until it is released, which must be before judge_close. */
typedef struct judge_seat judge_seat;
/* The one that judges now; *info and *name: as judge_info and judge_name. */
judge_seat *judge_hold(judge *j, drr_critic_info *info, const char **name);
void judge_release(judge *j, judge_seat *held); /* NULL is fine */
/* As judge_submit, to the critic that is held; NULL: the one that judges now. */
drr_status judge_submit_to(judge *j, judge_seat *to, judge_item *items, size_t n, judge_done done, void *user,
                           drr_error *err);
/* p_correct and p_alone again, from the items' logits and what is known of other answers by now: no encoder pass, at
 * once, on the caller's thread, by the critic that scored them. */
void judge_combine(judge *j, judge_item *items, size_t n);
/* Whatever was submitted with this user and has not begun is ended with DRR_E_INTERRUPTED, soon, on the judge's thread.
 */
void judge_cancel(judge *j, void *user);

/* ---- drift (drift.h) */
/* The name in an upstream's reply: an alarm where it is not that of the reasoner that the critic was trained on. */
void judge_saw_model(judge *j, const char *model);
json_t *judge_drift(judge *j); /* the field "drift" of /props; NULL when memory is out */
/* {"n", "p_correct": [..]}: what the critic, of the text alone, says of the answers in its file that it was not trained
 * on, as quantiles of equal share; JSON's null where an older file has none; NULL when memory is out. */
json_t *judge_dev_scores(judge *j);

/* ---- the routes, user: the judge, or NULL where the server has no critic: 501 */
void judge_rerank(void *user, http_call *call);    /* POST /v1/rerank, /rerank, /reranking, /v1/reranking, /v2/rerank */
void judge_classify(void *user, http_call *call);  /* POST /v1/classify, /classify */
void judge_score(void *user, http_call *call);     /* POST /v1/score, /score */
void judge_decisions(void *user, http_call *call); /* POST /v1/decisions */
void judge_systemone(void *user, http_call *call); /* POST /v1/systemone */
void judge_reward(void *user, http_call *call);    /* POST /get_reward */

#endif
