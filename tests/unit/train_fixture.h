/* train_fixture.h: an encoder and examples small enough to be trained in a test, trainings that are stopped, and a
 * folder for their checkpoints. */
#ifndef DRR_TESTS_TRAIN_FIXTURE_H
#define DRR_TESTS_TRAIN_FIXTURE_H

#include "place_fixture.h"
#include "train/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MARK = 7, FIXTURE_VOCABULARY = 30 };

/* Two layers of width 16, small random weights, norms of gain 1: as a new BERT has them. */
static inline encoder *tiny_encoder_headed(uint64_t seed, drr_head head)
{
    static const encoder_shape shape = {.n_layers = 2,
                                        .n_embd = 16,
                                        .n_heads = 2,
                                        .n_ff = 32,
                                        .n_vocab = FIXTURE_VOCABULARY,
                                        .n_positions = 24,
                                        .n_types = 2,
                                        .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new_headed(&e, &shape, head, NULL), DRR_OK);
    rng_seed(&r, seed);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *tensor = &e->tensors[t];
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            e->parameters[tensor->offset + i] = tensor->decay                         ? 0.1f * (float)rng_normal(&r)
                                                : strstr(tensor->name, "norm.weight") ? 1.0f
                                                                                      : 0.0f;
    }
    return e;
}

static inline encoder *tiny_encoder(uint64_t seed)
{
    return tiny_encoder_headed(seed, DRR_HEAD_CLS);
}

/* Random texts of 4 to 12 tokens; the label is whether the token MARK is in it, which half of them have. */
static inline examples marked_texts(size_t n, uint64_t seed)
{
    examples x = {0};
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        int32_t ids[12] = {2};
        const size_t length = 4 + (size_t)rng_below(&r, 9);
        for (size_t k = 1; k < length; k++)
            ids[k] = (int32_t)(MARK + 1 + rng_below(&r, FIXTURE_VOCABULARY - MARK - 1));
        const uint8_t label = i % 2;
        if (label)
            ids[1 + rng_below(&r, length - 1)] = MARK;
        assert_int_equal(examples_add(&x, ids, length, label, NULL), DRR_OK);
    }
    return x;
}

/* Hooks' `cancelled`: not the first *user times that it is asked. */
static inline bool count_down(void *user)
{
    int *left = user;
    return --*left < 0;
}

/* Some steps of a training, with its checkpoint in the folder. */
static inline drr_status fit_some(encoder *e, const examples *train, const examples *dev, fit_options o, bool resume,
                                  int steps)
{
    fit_result result;
    const drr_hooks hooks = {.cancelled = count_down, .user = &steps};
    o.checkpoint = at("checkpoint");
    o.resume = resume;
    return encoder_fit(e, train, dev, &o, &result, &hooks, NULL);
}

#endif
