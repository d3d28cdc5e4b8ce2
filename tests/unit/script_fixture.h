/* script_fixture.h: a reasoner that follows a script, and a real critic file whose encoder is all zeros and whose stack
 * looks at the margin of the answer's tokens (and, where a test wants it, at how the other answers agree), so that each
 * script says what the critic will think. */
#ifndef DRR_TESTS_SCRIPT_FIXTURE_H
#define DRR_TESTS_SCRIPT_FIXTURE_H

#include "critic/critic.h"
#include "reasoner/reasoner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a reasoner that follows a script; completions come back last in, first out */

typedef struct line {
    const char *question; /* how its text begins */
    uint32_t sample;      /* as in reasoner_request */
    const char *text;     /* NULL: fails */
    float margin;
} line;

typedef struct scripted {
    const line *lines;
    size_t n_lines, n, n_asked, most_waiting;
    const float *logprobs; /* of the token, by sample; NULL: -0.1 */
    reasoner_completion waiting[256];
    float temperature[256]; /* in the order asked */
    char last_words[4096];
} scripted;

static inline drr_status script_submit(void *self, const reasoner_request *r, drr_error *err)
{
    scripted *s = self;
    const line *found = NULL;
    (void)err;
    for (size_t i = 0; i < s->n_lines; i++)
        if (strncmp(r->question, s->lines[i].question, strlen(s->lines[i].question)) == 0 &&
            s->lines[i].sample == r->sample)
            found = &s->lines[i];
    reasoner_completion c = {.tag = r->tag, .finish = DRR_FINISH_FAILED, .n_prompt_tokens = 10};
    if (found && found->text) {
        c.finish = DRR_FINISH_STOP;
        c.text = strdup(found->text);
        c.tokens = calloc(1, sizeof *c.tokens);
        c.tokens[0] = (reasoner_token){(uint32_t)strlen(found->text), s->logprobs ? s->logprobs[r->sample] : -0.1f,
                                       0.1f, found->margin};
        c.n_token_stats = 1;
        c.n_tokens = r->max_tokens < 5 ? r->max_tokens : 5;
        c.seconds = 0.5;
    } else {
        c.failure = strdup("the script says no");
    }
    snprintf(s->last_words, sizeof s->last_words, "%s", r->messages[r->n_messages - 1].content);
    s->temperature[s->n_asked++ % 256] = r->temperature;
    s->waiting[s->n++] = c;
    s->most_waiting = s->n > s->most_waiting ? s->n : s->most_waiting;
    return DRR_OK;
}

static inline drr_status script_next(void *self, reasoner_completion *c, drr_error *err)
{
    scripted *s = self;
    if (s->n == 0)
        return error_set(err, DRR_E_EMPTY, "nothing is asked");
    *c = s->waiting[--s->n];
    return DRR_OK;
}

static inline void script_cancel(void *self)
{
    scripted *s = self;
    while (s->n)
        reasoner_completion_clear(&s->waiting[--s->n]);
}

static inline void script_close(void *self)
{
    script_cancel(self);
}

static const reasoner_backend script_backend = {
    .submit = script_submit, .next = script_next, .cancel = script_cancel, .close = script_close};

/* ---- P = sigmoid(margin + agreement * log-odds of agreement); 0 alone, log 3 and -log 3 with one other answer */

static const char *const script_vocabulary[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"};

/* Its encoder is all zeros: what it thinks is what the meta (its stack, its calibration) says. path: a template of
 * mkstemp. */
static inline void write_zero_critic(char *path, critic_meta *meta, const char *prompt)
{
    encoder *e;
    wordpiece *w;
    drr_error err;
    const encoder_shape shape = {.n_layers = 1,
                                 .n_embd = 8,
                                 .n_heads = 2,
                                 .n_ff = 8,
                                 .n_vocab = 6,
                                 .n_positions = 64,
                                 .n_types = 1,
                                 .norm_epsilon = 1e-12f};
    meta->name = meta->reasoner = meta->encoder = meta->tasks = meta->created = (char *)(uintptr_t) "test";
    meta->prompt = (char *)(uintptr_t)prompt;
    meta->threshold = 0.5;
    meta->max_length = 32;
    meta->calibration = (platt){1, 0};
    close(mkstemp(path));
    assert_int_equal(encoder_new(&e, &shape, &err), DRR_OK);
    assert_int_equal(wordpiece_new(&w, script_vocabulary, 6, true, &err), DRR_OK);
    assert_int_equal(critic_write(path, e, w, meta, &err), DRR_OK);
    encoder_free(e);
    wordpiece_free(w);
}

/* path: a template of mkstemp. guarantees (n of them) may be NULL. */
static inline void write_promising_critic(char *path, double agreement, const drr_guarantee *guarantees, uint32_t n)
{
    critic_meta meta = {.has_stack = true};
    for (uint32_t j = 0; stack_feature_name(j); j++) {
        meta.stack.scale[j] = 1;
        meta.stack.weight[j] = strcmp(stack_feature_name(j), "answer_margin") == 0;
        if (strcmp(stack_feature_name(j), "agreement_logodds") == 0)
            meta.stack.weight[j] = agreement;
        meta.stack.n = j + 1;
    }
    for (uint32_t i = 0; i < n; i++)
        meta.guarantees[meta.n_guarantees++] = guarantees[i];
    write_zero_critic(path, &meta, "test");
}

static inline void write_margin_critic(char *path, double agreement)
{
    write_promising_critic(path, agreement, NULL, 0);
}

static inline drr_guarantee script_guarantee(uint32_t turns, double threshold, double temperature)
{
    return (drr_guarantee){.found = true,
                           .turns = turns,
                           .target_error = 0.1,
                           .delta = 0.1,
                           .threshold = threshold,
                           .temperature = temperature,
                           .n = 100,
                           .n_accepted = 50,
                           .p_value = 0.005,
                           .bound = 0.05};
}

#endif
