/* writer_fixture.h: a reasoner that writes its texts word by word, asks `complete` and the watch after each, and goes
 * on from a prefix; and a real critic file with a head of tokens that likes all words, and no "!". */
#ifndef DRR_TESTS_WRITER_FIXTURE_H
#define DRR_TESTS_WRITER_FIXTURE_H

#include "critic/critic.h"
#include "reasoner/reasoner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What it answers, in the order in which it is asked; after the last one that again. NULL: it fails. */
typedef struct writer {
    const char *const *texts;
    size_t n_texts, n_asked;
    double seconds_a_word; /* that it says it takes */
    int deaf;              /* 1: it calls no watch, as recorded answers; 2: only before it has written anything */
    reasoner_completion waiting[64];
    size_t n;
    char prefixes[64][256];
    char last_words[64][1024];
    uint64_t seeds[64];
    float temperatures[64];
    uint32_t room[64];
} writer;

static inline drr_status writer_submit(void *self, const reasoner_request *r, drr_error *err)
{
    writer *w = self;
    const size_t k = w->n_asked++;
    const char *said = w->texts[k < w->n_texts ? k : w->n_texts - 1], *text = said ? said : "";
    buffer b = {0};
    reasoner_completion c = {.tag = r->tag, .finish = DRR_FINISH_STOP, .n_prompt_tokens = 10};
    (void)err;
    const size_t prefix = r->prefix ? strlen(r->prefix) : 0;
    snprintf(w->prefixes[k], sizeof w->prefixes[k], "%s", r->prefix ? r->prefix : "");
    snprintf(w->last_words[k], sizeof w->last_words[k], "%s", r->messages[r->n_messages - 1].content);
    w->seeds[k] = r->seed;
    w->temperatures[k] = r->temperature;
    w->room[k] = r->max_tokens;
    c.tokens = calloc(strlen(text) + 1, sizeof *c.tokens);
    assert_int_equal(buffer_puts(&b, r->prefix ? r->prefix : "", NULL), DRR_OK);
    if (w->deaf == 2 && r->watch) {
        const reasoner_watched nothing = {.user = r->complete_user, .text = ""};
        r->watch(r->watch_user, &nothing, &c.finish, 1);
    }
    while (*text && c.finish == DRR_FINISH_STOP) {
        size_t word = strspn(text, " \n");
        word += strcspn(text + word, " \n");
        assert_int_equal(buffer_append(&b, text, word, NULL), DRR_OK);
        text += word;
        const float logprob = b.data[b.size - 1] == '?' ? -9 : -0.1f; /* it is not sure of what it asks */
        c.tokens[c.n_tokens++] = (reasoner_token){(uint32_t)(b.size - prefix), logprob, 0.1f, 1};
        if (r->complete && r->complete(r->complete_user, b.data, b.size)) {
            c.finish = DRR_FINISH_ANSWERED;
        } else if (c.n_tokens == r->max_tokens) {
            c.finish = DRR_FINISH_LENGTH;
        } else if (r->watch && !w->deaf) {
            const reasoner_watched seen = {r->complete_user, b.data, c.n_tokens * w->seconds_a_word, c.tokens,
                                           c.n_tokens};
            r->watch(r->watch_user, &seen, &c.finish, 1);
        }
    }
    c.n_token_stats = c.n_tokens;
    c.seconds = c.n_tokens * w->seconds_a_word;
    c.text = strdup(b.data + prefix);
    if (!said) {
        c.finish = DRR_FINISH_FAILED;
        c.failure = strdup("the writer is ill");
    }
    buffer_clear(&b);
    w->waiting[w->n++] = c;
    return DRR_OK;
}

static inline drr_status writer_next(void *self, reasoner_completion *c, drr_error *err)
{
    writer *w = self;
    if (w->n == 0)
        return error_set(err, DRR_E_EMPTY, "nothing is asked");
    *c = w->waiting[--w->n];
    return DRR_OK;
}

static inline void writer_cancel(void *self)
{
    writer *w = self;
    while (w->n)
        reasoner_completion_clear(&w->waiting[--w->n]);
}

static inline drr_reasoner *writer_open(writer *w, bool prefixes)
{
    static const reasoner_backend backend = {
        .submit = writer_submit, .next = writer_next, .cancel = writer_cancel, .close = writer_cancel};
    const reasoner_basis basis = {.prefixes = prefixes};
    drr_reasoner *reasoner = NULL;
    assert_int_equal(reasoner_new(&reasoner, &backend, w, "writer", "a writer", 1, NULL), DRR_OK);
    reasoner_set_basis(reasoner, &basis);
    return reasoner;
}

/* Attention and feed-forward are zero: a token's row is its own embedding, normalised, and its logit says whether it is
 * "!" (about -6) or not (about 6). path: a template of mkstemp. n_beginnings: that it says it was taught. */
static inline void write_word_critic(char *path, drr_head head, uint64_t n_beginnings)
{
    static const char *const vocabulary[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!"};
    enum { N = 6, WIDTH = 8, BAD = 5 };
    const encoder_shape shape = {.n_layers = 1,
                                 .n_embd = WIDTH,
                                 .n_heads = 2,
                                 .n_ff = 8,
                                 .n_vocab = N,
                                 .n_positions = 128,
                                 .n_types = 1,
                                 .norm_epsilon = 1e-12f};
    critic_meta meta = {.threshold = 0.5, .max_length = 128, .calibration = {1, 0}, .n_train_steps = 10};
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_error err = {0};
    meta.name = meta.reasoner = meta.prompt = meta.encoder = meta.tasks = meta.created = (char *)(uintptr_t) "words";
    meta.n_train_beginnings = n_beginnings;
    if (head != DRR_HEAD_TOKEN)
        meta.n_train_steps = 0;
    assert_int_equal(encoder_new_headed(&e, &shape, head, &err), DRR_OK);
    static const char *const norms[] = {"token_embd_norm.weight", "blk.0.attn_output_norm.weight",
                                        "blk.0.layer_output_norm.weight"};
    for (size_t i = 0; i < 3; i++) {
        const encoder_tensor *t = encoder_find(e, norms[i]);
        assert_non_null(t);
        for (size_t k = 0; k < WIDTH; k++)
            e->parameters[t->offset + k] = 1;
    }
    const encoder_tensor *words = encoder_find(e, "token_embd.weight");
    for (size_t token = 0; token < N; token++)
        for (size_t k = 0; k < WIDTH; k++) /* mean 0, so that the norm keeps the direction */
            e->parameters[words->offset + token * WIDTH + k] = (k % 2 ? -1.0f : 1.0f) * (token == BAD ? 1.0f : -1.0f);
    if (head == DRR_HEAD_TOKEN) {
        const encoder_tensor *weight = encoder_find(e, "drr.token.weight");
        assert_non_null(weight);
        for (size_t k = 0; k < WIDTH; k++)
            e->parameters[weight->offset + k] = k % 2 ? 0.75f : -0.75f;
    }
    close(mkstemp(path));
    assert_int_equal(wordpiece_new(&w, vocabulary, N, true, &err), DRR_OK);
    if (critic_write(path, e, w, &meta, &err) != DRR_OK)
        fail_msg("%s", err.message);
    encoder_free(e);
    wordpiece_free(w);
}

#endif
