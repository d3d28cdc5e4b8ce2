/* repeat_fixture.h: everything that a whole training takes, small enough to be done many times in a test: an encoder's
 * Hugging Face folder with two layers of width 16, and traces whose words tell something of their labels. */
#ifndef DRR_TESTS_REPEAT_FIXTURE_H
#define DRR_TESTS_REPEAT_FIXTURE_H

#include "place_fixture.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FIXTURE_QUESTIONS = 90, FIXTURE_SAMPLES = 3 };

static const char *const words[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sure", "guess", "hard", "easy",
                                    "what",  "is",    "so",    "then",  "one",    "two",  "three", "and",  "it"};
enum { N_WORDS = sizeof words / sizeof *words };

/* Through a critic's file, for that is what writes such folders. */
static inline void write_encoder(void)
{
    static const encoder_shape shape = {.n_layers = 2,
                                        .n_embd = 16,
                                        .n_heads = 2,
                                        .n_ff = 32,
                                        .n_vocab = N_WORDS,
                                        .n_positions = 128,
                                        .n_types = 2,
                                        .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_critic *critic = NULL;
    critic_meta m = {.name = string_copy("tiny"),
                     .reasoner = string_copy(""),
                     .prompt = string_copy(""),
                     .encoder = string_copy("tiny"),
                     .tasks = string_copy(""),
                     .created = string_copy(""),
                     .threshold = 0.5,
                     .max_length = 128,
                     .calibration = {1, 0}};
    rng r;
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    rng_seed(&r, 1);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *tensor = &e->tensors[t];
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            e->parameters[tensor->offset + i] = tensor->decay                         ? 0.2f * (float)rng_normal(&r)
                                                : strstr(tensor->name, "norm.weight") ? 1.0f
                                                                                      : 0.0f;
    }
    assert_int_equal(wordpiece_new(&w, words, N_WORDS, true, NULL), DRR_OK);
    assert_int_equal(critic_write(at("tiny.gguf"), e, w, &m, NULL), DRR_OK);
    assert_int_equal(drr_critic_open(&critic, at("tiny.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_export(critic, at("tiny"), NULL), DRR_OK);
    drr_critic_close(critic);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

/* A right answer says "sure" more often than a wrong one. `changed` (may be NULL): of these questions everything but
 * the question itself is made up anew. */
static inline void write_traces(const char *name, const bool *changed)
{
    FILE *file = fopen(at(name), "w");
    rng r;
    assert_non_null(file);
    for (int q = 0; q < FIXTURE_QUESTIONS; q++) {
        rng_seed(&r, 1000 + (uint64_t)q);
        const double ease = rng_uniform(&r);
        for (int s = 0; s < FIXTURE_SAMPLES; s++) {
            bool right = rng_uniform(&r) < 0.2 + 0.6 * ease;
            bool sure = rng_uniform(&r) < (right ? 0.85 : 0.25);
            if (changed && changed[q]) {
                right = !right;
                sure = s % 2;
            }
            fprintf(file,
                    "{\"task\": \"%s\", \"id\": \"q%d\", \"question\": \"%s what is it? no %d\", \"kind\": \"number\", "
                    "\"gold\": \"1\", \"reasoner\": \"ann\", \"prompt\": \"p\", \"sample\": %d, \"answer\": \"%d\", "
                    "\"correct\": %s, \"text\": \"so %s then %s and so it is\"}\n",
                    q % 2 ? "odd" : "even", q, ease > 0.5 ? "easy" : "hard", q, s, right ? 1 : 2 + s,
                    right ? "true" : "false", sure ? "sure" : "guess", s % 2 ? "one" : "two");
        }
    }
    assert_int_equal(fclose(file), 0);
}

static inline int make_training(void **state)
{
    if (make_place(state) != 0)
        return -1;
    write_encoder();
    write_traces("traces.jsonl", NULL);
    return 0;
}

static inline drr_train_options fixture_options(const char *traces, const char *out)
{
    static char names[4][160]; /* options borrow their strings */
    static unsigned turn;
    char *t = names[turn++ % 4], *o = names[turn++ % 4];
    static char tiny[128];
    drr_train_options options;
    snprintf(t, sizeof names[0], "%s", at(traces));
    snprintf(o, sizeof names[0], "%s", at(out));
    snprintf(tiny, sizeof tiny, "%s", at("tiny"));
    drr_train_options_defaults(&options);
    options.traces = t;
    options.out = o;
    options.encoder = tiny;
    options.epochs = 2;
    options.batch = 16;
    options.max_length = 32;
    options.learning_rate = 2e-3;
    options.threads = 1;
    options.seed = 7;
    return options;
}

/* Hooks that count what is logged and say stop once `most` lines with `word` have been. */
typedef struct listener {
    const char *word;
    int heard, most;
    char last[256];
} listener;

static inline void listen_log(void *user, drr_log_level level, const char *message)
{
    listener *l = user;
    (void)level;
    if (strstr(message, l->word)) {
        l->heard++;
        snprintf(l->last, sizeof l->last, "%s", message);
    }
}

static inline bool listen_cancelled(void *user)
{
    const listener *l = user;
    return l->most && l->heard >= l->most;
}

static inline drr_hooks listening(listener *l)
{
    return (drr_hooks){listen_log, NULL, listen_cancelled, l};
}

static inline size_t lines_of(const char *path)
{
    char *text, *p;
    size_t size, n = 0;
    if (file_read(&text, &size, path, 0, NULL) != DRR_OK)
        return 0;
    for (p = text; (p = strchr(p, '\n')); p++)
        n++;
    free(text);
    return n;
}

static inline void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.15g is not %.15g, within %g", value, expected, most);
}

#endif
