/* llama_internal.h: what the files of the embedded backend share. llama_runtime.c starts libllama and chooses the CPU
 * path, llama_width.c reckons how many sequences fit, llama.c opens and closes the model, llama_slots.c admits requests
 * and runs batches, llama_sample.c draws tokens and keeps their statistics, llama_check.c looks whether the CPU path
 * computes what it should, llama_hidden.c listens to hidden states, llama_grammar.c reads grammars before libllama
 * does, llama_quantize.c writes a model in another format. */
#ifndef DRR_REASONER_LLAMA_INTERNAL_H
#define DRR_REASONER_LLAMA_INTERNAL_H

#include "reasoner/reasoner.h"

#include <llama.h>

/* One sequence of the KV cache. tokens[0, n_cached) are in the cache; while a request runs, tokens[n_cached]
 * is the one token to decode next. A free slot keeps its tokens: they may be the beginning of a later prompt. */
typedef struct slot {
    bool active;
    llama_token *tokens; /* context + 1 of them */
    uint32_t n_tokens, n_cached, n_prompt, n_reused, n_written;
    uint64_t last_used;
    /* the request */
    uint64_t tag;
    uint32_t max_tokens;
    float temperature, top_p;
    bool (*complete)(void *user, const char *text, size_t length);
    void *complete_user;
    void (*watch)(void *watch_user, const reasoner_watched *texts, drr_finish *ends, size_t n);
    void *watch_user;
    void (*answer_at)(void *user, const char *text, size_t *begin, size_t *end); /* NULL: no hidden states are kept */
    uint16_t *hidden; /* of the tokens read so far, [token][layer][width], with room for all that may be written */
    bool closing;     /* ended, but for its last token, which is yet to be read */
    rng random;
    struct llama_sampler *grammar;
    /* the completion so far */
    buffer text;           /* the prefix, and what was written */
    uint32_t n_prefix;     /* bytes */
    reasoner_token *stats; /* context of them */
    double started_s;
    int32_t logits_row; /* of the batch just decoded */
    bool ended;
    drr_finish finish;
} slot;

typedef struct queued {
    reasoner_request request; /* messages and question are not kept: the prompt is already tokens */
    struct llama_sampler *grammar;
    char *prefix;
    llama_token *prompt;
    uint32_t n_prompt;
} queued;

/* Hidden states of the step that is being computed: all rows of the batch, one layer after the other. */
typedef struct hidden_tap {
    hidden_layers layers; /* n 0: the context was made without the tap */
    uint32_t width, most_rows;
    bool open;                           /* else what is computed is not listened to */
    float *values;                       /* [layer][most_rows][width] */
    uint32_t n_rows[HIDDEN_MOST_LAYERS]; /* heard */
    bool misheard;
} hidden_tap;

/* Room for one thread's draw. */
typedef struct sample_candidate {
    llama_token token;
    float logit;
    double p;
} sample_candidate;
typedef struct sample_space {
    sample_candidate *candidates; /* n_vocab of them */
    llama_token_data *data;       /* only under a grammar */
    uint32_t n_vocab;
} sample_space;

typedef struct llama_backend {
    char *path;
    struct llama_model *model;
    struct llama_context *context;
    const struct llama_vocab *vocab;
    const char *chat_template;
    const char *cpu_path; /* the model was opened on */
    uint32_t width, n_context, n_vocab, n_batch;
    uint32_t longest_piece; /* bytes of text that one token can stand for, at most */
    slot *slots;
    queued *queue;
    size_t n_queue, queue_capacity;
    reasoner_completion *done; /* ring-free list: few at a time */
    size_t n_done, done_capacity;
    struct llama_batch batch;
    uint64_t clock;       /* admissions so far: orders slots by use */
    sample_space *spaces; /* one a thread */
    uint32_t n_spaces;
    drr_reasoner_timing timing;
    hidden_tap tap;
    bool (*called)(void *user); /* reasoner_attend */
    void *called_user;
} llama_backend;

/* llama_hidden.c */
/* Before the context is made: which layers are listened to. */
drr_status hidden_tap_plan(llama_backend *b, const char *layers, drr_error *err);
void hidden_tap_install(llama_backend *b, struct llama_context_params *params); /* nothing without layers */
/* Once there are slots: computes one token to see that every layer is heard, and forgets it. */
drr_status hidden_tap_try(llama_backend *b, drr_error *err);
void hidden_tap_clear(hidden_tap *tap);
/* What is computed between these two is heard; the end fails unless n rows were. */
void hidden_tap_begin(llama_backend *b);
drr_status hidden_tap_end(llama_backend *b, uint32_t n, drr_error *err);
/* Room for the hidden states of `most` tokens, freed with what it had. */
drr_status hidden_slot_begin(const llama_backend *b, slot *s, uint32_t most, drr_error *err);
void hidden_slot_take(const llama_backend *b, slot *s, uint32_t row, uint32_t token); /* from the tap */
/* The slot's own text is finished: pools what it read into the completion. */
drr_status hidden_slot_end(const llama_backend *b, slot *s, reasoner_completion *c, drr_error *err);

/* llama_slots.c */
drr_status llama_submit(void *self, const reasoner_request *request, drr_error *err);
drr_status llama_next(void *self, reasoner_completion *completion, drr_error *err);
void llama_timing(void *self, drr_reasoner_timing *timing);
void llama_cancel(void *self);
void slots_clear(llama_backend *b);

/* llama_grammar.c */
/* Whether libllama can be given it: refuses, in words, what is no GBNF and what would be too much for it. vocab: NULL
 * takes whatever looks like a token for one. */
drr_status grammar_check(const char *text, const struct llama_vocab *vocab, drr_error *err);
/* *grammar: NULL where there is none (text NULL or empty). DRR_E_FORMAT: it cannot be used. */
drr_status grammar_open(struct llama_sampler **grammar, const llama_backend *b, const char *text, drr_error *err);

/* llama_watch.c */
/* Asks the watch once for all of these n slots that have one: it may have something to compute, and does so together.
 */
void slots_watch(llama_backend *b, const uint32_t *rows, size_t n);

/* llama_sample.c */
sample_space *sample_spaces_new(uint32_t n, uint32_t n_vocab);
void sample_spaces_free(sample_space *spaces, uint32_t n);
/* Draws the slot's next token from its row of logits; fills logprob, entropy and margin of *stats. */
llama_token sample_token(llama_backend *b, slot *s, const float *logits, sample_space *space, reasoner_token *stats);

/* llama_runtime.c */
/* Once a process: loads ggml's CPU code, silences its log, forgets the last complaint. Fails, each time, where
 * DRR_CPU_PATH names no path of this machine. */
drr_status llama_runtime_start(drr_error *err);
const char *llama_runtime_last_message(void);
/* Hears all that libllama logs on this thread, until NULL is put in its place. */
typedef void (*llama_listener)(void *user, const char *text);
void llama_runtime_listen(llama_listener hear, void *user);
/* The CPU paths that can run here, best first; "built in" alone where libllama has but one. */
size_t cpu_path_count(void);
const char *cpu_path_name(size_t i);
size_t cpu_path_in_use(void);
bool cpu_path_is_forced(void); /* by DRR_CPU_PATH */
/* For models opened from now on; those that are open keep theirs. Under the lock, as all opening of models is: a model
 * must not get its weights from one path and its context from another. */
drr_status cpu_path_use(size_t i, drr_error *err);
void cpu_path_lock(void);
void cpu_path_unlock(void);

/* llama_width.c */
enum { LLAMA_BATCH = 512 };                                    /* tokens of a prompt computed at once */
uint32_t llama_usual_context(const struct llama_model *model); /* where none is asked for */
typedef struct width_budget {
    uint32_t asked;        /* by the caller; 0: nothing in particular, then half of the memory is left alone */
    uint32_t usual;        /* then this, halved until it fits */
    uint64_t per_sequence; /* bytes */
    uint64_t shared;       /* bytes, whatever the width */
    uint64_t available;
} width_budget;
/* As many sequences as fit, never more than asked for; 1 where none does. */
uint32_t width_that_fits(const width_budget *budget);
/* Bytes of keys and values of one sequence, at 16 bits each. */
uint64_t llama_kv_bytes(const struct llama_model *model, uint32_t context);
width_budget llama_width_budget(const struct llama_model *model, uint32_t asked, uint32_t context);

/* llama_check.c */
drr_status llama_check_magic(const char *path, drr_error *err); /* "GGUF" */
/* Loads the backend's answer to a fixed prompt: the most likely token and its logit. *garbage, untouched else: the
 * logits are not finite. */
drr_status llama_first_logits(struct llama_context *context, const struct llama_vocab *vocab, llama_token *top,
                              float *logit, bool *garbage, drr_error *err);
/* Compares with models.json where the model is known there, and refuses NaN always: DRR_E_BACKEND, and *garbage where
 * the CPU path is to blame. */
drr_status llama_check(struct llama_context *context, const struct llama_vocab *vocab, const char *name, bool *garbage,
                       drr_error *err);

#endif
