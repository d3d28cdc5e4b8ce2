/* reasoner.h: the door of src/reasoner. A reasoner takes requests and hands back completions as they finish;
 * who is behind it (an embedded model, a recording, a server) does not show.
 *
 * Pull style, one thread: submit as many requests as you like (reasoner_width of them keep it busy), then call
 * reasoner_next until it says DRR_E_EMPTY. Requests that begin alike share their computation: a few-shot prefix
 * once for all, a question's prompt once for its samples, a history once for its next turn. */
#ifndef DRR_REASONER_H
#define DRR_REASONER_H

#include "core/hidden.h"
#include "task/task.h"

typedef struct reasoner_watched { /* a completion under way, as a watch sees it */
    void *user;                   /* the request's complete_user */
    const char *text;             /* the prefix included, NUL-terminated */
    double seconds;               /* since it was admitted */
    /* Of what is written behind the prefix, `end` counted from there; none where the backend does not know. */
    const struct reasoner_token *tokens;
    size_t n_tokens;
} reasoner_watched;

typedef struct reasoner_request {
    uint64_t tag; /* handed back with the completion */
    const drr_message *messages;
    size_t n_messages;
    /* What the assistant has begun its answer with; NULL: nothing. The completion's text is what follows. Only a
     * backend whose basis says `prefixes` takes one, and none goes with a grammar. */
    const char *prefix;
    uint32_t max_tokens;
    float temperature, top_p; /* temperature 0: greedy */
    uint64_t seed;
    const char *grammar; /* GBNF or NULL; a backend without grammars ignores it, else what cannot be used is
                            DRR_E_FORMAT when it is submitted */
    /* Optional: asked after each token with the text so far, the prefix included; true ends the completion
     * (DRR_FINISH_ANSWERED). */
    bool (*complete)(void *user, const char *text, size_t length);
    void *complete_user;
    /* Optional: called after each step with all completions under way that have it and are not at their end, on the
     * thread of reasoner_next, which waits: sets ends[i] to DRR_FINISH_CUT or DRR_FINISH_TIME where one is to end here.
     * All requests in flight that have one have the same. A backend may never call it (recorded and cached answers are
     * there at once). */
    void (*watch)(void *watch_user, const reasoner_watched *texts, drr_finish *ends, size_t n);
    void *watch_user;
    const char *cut_by; /* what decides where it says DRR_FINISH_CUT, for caches; NULL: it never does */
    /* Optional: asks for the answer's hidden states, where the basis says that the backend keeps them. Called once,
     * with complete_user and the finished text (without the prefix): where its answer stands, both 0 where none can be
     * read. */
    void (*answer_at)(void *user, const char *text, size_t *begin, size_t *end);
    /* Which recorded answer this is, for the replay backend: question text, and a running number. */
    const char *question;
    uint32_t sample;
} reasoner_request;

/* Everything is copied at submit except complete_user, which must live until the completion comes back. */

typedef struct reasoner_token {
    uint32_t end;  /* byte offset in text just after this token */
    float logprob; /* natural log, temperature 1 */
    float entropy; /* nats */
    float margin;  /* logprob minus the best other token's */
} reasoner_token;

typedef struct reasoner_completion {
    uint64_t tag;
    char *text;
    char *thoughts; /* what a reasoning model wrote before its answer, where the backend keeps it apart; else NULL */
    drr_finish finish;
    uint32_t n_prompt_tokens, n_cached_tokens, n_tokens;
    reasoner_token *tokens; /* n_token_stats of them; NULL where the backend has none */
    uint32_t n_token_stats;
    void *hidden; /* hidden_size bytes (core/hidden.h); NULL where not asked for, or where the backend has none */
    size_t hidden_size;
    double seconds; /* from admission to the end */
    char *failure;  /* DRR_FINISH_FAILED: the reason */
} reasoner_completion;
void reasoner_completion_clear(reasoner_completion *completion);
/* For backends that write tokens, which may be parts of characters: drops from the text the bytes that form none (a
 * text that is cut at its last token often ends in some), and moves the ends of the tokens with what is left. Stores,
 * JSON and tokenizers take whole characters alone. */
void reasoner_completion_keep_characters(reasoner_completion *completion);

/* A backend fills this table and is wrapped by reasoner_new. */
typedef struct reasoner_backend {
    drr_status (*submit)(void *self, const reasoner_request *request, drr_error *err);
    drr_status (*next)(void *self, reasoner_completion *completion, drr_error *err);
    void (*cancel)(void *self); /* drops everything in flight */
    void (*close)(void *self);
    void (*timing)(void *self, drr_reasoner_timing *timing); /* NULL: it has none */
    size_t (*ready)(const void *self); /* completions that `next` hands back without waiting; NULL: it cannot say */
    void (*attend)(void *self, bool (*called)(void *user), void *user); /* reasoner_attend; NULL: it never looks up */
} reasoner_backend;

drr_status reasoner_new(drr_reasoner **reasoner, const reasoner_backend *backend, void *self, const char *id,
                        const char *description, uint32_t width, drr_error *err);

/* What decides a reasoner's answers beside its id and the request. Its opener sets it; else it is all zero. */
typedef struct reasoner_basis {
    uint32_t context;     /* tokens of one sequence, prompt and text: a text is cut there; 0: no bound */
    bool prefixes;        /* it can go on from the middle of an answer */
    hidden_layers hidden; /* whose hidden states it gives; n 0: none */
    char recording[65];   /* replay: SHA-256 of the recorded answers in the order in which they are given; else "" */
} reasoner_basis;
void reasoner_set_basis(drr_reasoner *reasoner, const reasoner_basis *basis);
const reasoner_basis *reasoner_get_basis(const drr_reasoner *reasoner);
enum { REASONER_LEAST_ROOM = 8 }; /* a prompt that leaves fewer tokens of the context does not fit */

/* A request that cannot fit the context comes back as DRR_FINISH_FAILED with a sentence, not as an error here. */
drr_status reasoner_submit(drr_reasoner *reasoner, const reasoner_request *request, drr_error *err);
drr_status reasoner_next(drr_reasoner *reasoner, reasoner_completion *completion, drr_error *err);
/* From now on `called` is asked between two steps while reasoner_next waits; once it says true, reasoner_next returns
 * DRR_E_INTERRUPTED, with nothing lost, so that more can be submitted in the middle of what is under way. NULL: never.
 * Only an embedded reasoner looks up like that. */
void reasoner_attend(drr_reasoner *reasoner, bool (*called)(void *user), void *user);
void reasoner_cancel(drr_reasoner *reasoner);
uint32_t reasoner_width(const drr_reasoner *reasoner);
size_t reasoner_pending(const drr_reasoner *reasoner); /* submitted and not yet handed back */
size_t reasoner_ready(const drr_reasoner *reasoner);   /* of these, finished: what may be put on disk together */

bool reasoner_is_remote(const char *source); /* an address, and no file or name */
/* Openers of the backends; drr_reasoner_open chooses. */
drr_status reasoner_open_llama(drr_reasoner **reasoner, const char *path, const char *name,
                               const drr_reasoner_options *options, drr_error *err);
drr_status reasoner_open_replay(drr_reasoner **reasoner, const char *path, const drr_reasoner_options *options,
                                drr_error *err);
/* source: the base URL of an OpenAI-compatible API. */
drr_status reasoner_open_remote(drr_reasoner **reasoner, const char *source, const drr_reasoner_options *options,
                                drr_error *err);

/* The key for the API at `url`: of the file, or of the environment, as drr_reasoner_options.api_key_file says. NULL:
 * there is none. */
drr_status reasoner_key_load(char **key, const char *file, const char *url, drr_error *err);
void reasoner_key_free(char *key); /* wipes it; NULL is fine */

/* For the doctor: JSON text about libllama and ggml, their devices, the CPU path in use and, with a model, its first
 * logits beside the stored ones. A model that cannot be run has the verdict "WRONG" and the reason in "why". The caller
 * frees. */
drr_status reasoner_doctor(char **json, const char *path, const char *name, drr_error *err);

#endif
