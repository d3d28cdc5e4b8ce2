/* critic_fixture.h: a critic small enough to be broken at every byte, and its files in a folder. */
#ifndef DRR_TESTS_CRITIC_FIXTURE_H
#define DRR_TESTS_CRITIC_FIXTURE_H

#include "critic/critic.h"
#include "place_fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const small_vocabulary[] = {"[PAD]", "[UNK]",         "[CLS]",  "[SEP]",     "[MASK]",
                                               "un",    "##aff",         "##able", "a",         "##",
                                               "",      "\xE2\x96\x81x", "#",      "[unused0]", "##b"};
enum { N_SMALL_VOCABULARY = sizeof small_vocabulary / sizeof *small_vocabulary };

static inline size_t entries_of(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static inline encoder *small_encoder(uint64_t seed)
{
    const encoder_shape shape = {.n_layers = 2,
                                 .n_embd = 8,
                                 .n_heads = 2,
                                 .n_ff = 12,
                                 .n_vocab = N_SMALL_VOCABULARY,
                                 .n_positions = 16,
                                 .n_types = 2,
                                 .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    rng_seed(&r, seed);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = (float)rng_normal(&r);
    return e;
}

static inline wordpiece *small_tokenizer(bool lowercase)
{
    wordpiece *w = NULL;
    assert_int_equal(wordpiece_new(&w, small_vocabulary, N_SMALL_VOCABULARY, lowercase, NULL), DRR_OK);
    return w;
}

static inline critic_meta small_meta(bool has_stack)
{
    critic_meta m = {.name = string_copy("small \xC3\xA9"),
                     .reasoner = string_copy("r1"),
                     .prompt = string_copy("0123456789ab"),
                     .encoder = string_copy("none"),
                     .tasks = string_copy(""),
                     .created = string_copy("2026-01-02T03:04:05Z"),
                     .threshold = 0.1 + 0.2,
                     .max_length = 16,
                     .n_train_questions = 12345678901234567890u,
                     .n_train_traces = 7,
                     .n_train_beginnings = 11,
                     .seed = UINT64_MAX,
                     .calibration = {1.0 / 3, -2e-300},
                     .has_stack = has_stack};
    if (has_stack) {
        while (stack_feature_name(m.stack.n))
            m.stack.n++;
        m.stack.bias = -0.7;
        for (uint32_t i = 0; i < m.stack.n; i++) {
            m.stack.mean[i] = 0.1 * i;
            m.stack.scale[i] = 1 + 0.3 * i;
            m.stack.weight[i] = 1.0 / (i + 3);
        }
    }
    return m;
}

static inline void write_small(const char *path, const encoder *e, bool has_stack)
{
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(has_stack);
    drr_error err = {0};
    if (critic_write(path, e, w, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    wordpiece_free(w);
}

/* Without fsync: thousands of broken files are written. */
static inline void put_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline char *find_bytes(char *data, size_t size, const char *text)
{
    char *found = memmem(data, size, text, strlen(text));
    assert_non_null(found);
    return found;
}

static inline drr_critic *open_critic(const char *path)
{
    drr_critic *critic = NULL;
    drr_error err = {0};
    if (drr_critic_open(&critic, path, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return critic;
}

static inline void assert_same_files(const char *a, const char *b)
{
    char *data[2];
    size_t size[2];
    assert_int_equal(file_read(&data[0], &size[0], a, 0, NULL), DRR_OK);
    assert_int_equal(file_read(&data[1], &size[1], b, 0, NULL), DRR_OK);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    free(data[0]);
    free(data[1]);
}

static inline void assert_same_parameters(const encoder *a, const encoder *b)
{
    assert_int_equal(a->n_parameters, b->n_parameters);
    assert_memory_equal(a->parameters, b->parameters, a->n_parameters * sizeof(float));
}

#endif
