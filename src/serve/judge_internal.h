/* judge_internal.h: what the judge's routes share (judge_call.c): a call's body read, its pairs submitted, its reply
 * made on the judge's thread. */
#ifndef DRR_SERVE_JUDGE_INTERNAL_H
#define DRR_SERVE_JUDGE_INTERNAL_H

#include "serve/judge.h"

enum { JUDGE_MOST_PAIRS = 10000 }; /* of one call */

typedef struct judge_call judge_call;
typedef json_t *(*judge_reply_fn)(const judge_call *c); /* NULL: memory is out */

struct judge_call {
    judge *j;
    http_call *http;
    json_t *body;
    arena *memory; /* of texts that were put together */
    judge_item *items;
    size_t n, room;
    uint64_t n_tokens; /* of all items, once they are scored */
    judge_reply_fn reply;
    bool answered; /* an error has been replied */
    /* What a route remembers for its reply: */
    const char **names; /* of questions, one an item; in memory or the body; NULL: without */
    const char *name;   /* the model as the client calls it, else the critic that scored */
    json_int_t top_n;
    bool tei, texts; /* the reply is TEI's; it has the texts */
    enum { JUDGE_LOGIT, JUDGE_SIGMOID, JUDGE_P } unit;
};

/* NULL: an error has been replied. Else the call is the routes' until judge_call_go or judge_call_drop. */
judge_call *judge_call_new(void *user, http_call *call);
void judge_call_drop(judge_call *c);
/* Replies 400, naming the field; for `return judge_call_refuse(...)` in what returns false. */
bool judge_call_refuse(judge_call *c, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool judge_call_memory(judge_call *c);                                      /* 500; false */
bool judge_call_add(judge_call *c, const char *question, const char *text); /* they live as long as the call */
void judge_call_go(judge_call *c, judge_reply_fn reply);

/* Fields of the body; false: refused. An absent or null one leaves *value as it is. */
bool judge_call_flag(judge_call *c, bool *value, const char *field);
bool judge_call_count(judge_call *c, json_int_t *value, const char *field);
/* The text of an item of a list: a string, or an object with "text"; `param` names the place. NULL: refused. */
const char *judge_call_text(judge_call *c, json_t *item, const char *param);

/* A question and its answer in one value, divided as docs/judge.md says: "q[SEP]t", "Question: q\nAnswer: t", JSON of
 * an object, the object, or a list of messages. */
typedef struct judge_pair {
    const char *question, *text; /* question NULL: there is one text alone; it is in the call's memory, or the body's */
} judge_pair;
bool judge_pair_of(judge_pair *pair, judge_call *c, json_t *value, const char *param); /* false: refused */
bool judge_pair_of_string(judge_pair *pair, judge_call *c, const char *text);          /* false: memory */

json_t *judge_usage(const judge_call *c); /* {"prompt_tokens", "total_tokens"} */
/* vLLM's {"id": "KIND-...", "object": "list", "created", "model", "data", "usage"}; takes data. */
json_t *judge_reply_list(const judge_call *c, const char *kind, json_t *data);

#endif
