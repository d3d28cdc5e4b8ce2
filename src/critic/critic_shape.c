/* critic_shape.c: an encoder's shape in a critic's file, both ways: llama.cpp's keys, which begin with the
 * architecture. What sets a family apart is encoder_family.c's. */
#include "critic/critic_shape_internal.h"
#include "critic/encoder_family.h"
#include "critic/wordpiece_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POOLING_NONE = 0, POOLING_MEAN = 1, POOLING_FIRST = 2, POOLING_RANK = 4 }; /* llama.cpp's numbers */

typedef struct shape_key {
    const char *key; /* after the architecture, where it begins with a point */
    size_t offset;   /* in encoder_shape */
} shape_key;
#define KEY(name, member)                                                                                              \
    {                                                                                                                  \
        name, offsetof(encoder_shape, member)                                                                          \
    }
static const shape_key counts[] = {
    KEY(".block_count", n_layers),         KEY(".embedding_length", n_embd),
    KEY(".attention.head_count", n_heads), KEY(".feed_forward_length", n_ff),
    KEY(".context_length", n_positions),   KEY("tokenizer.ggml.token_type_count", n_types)};
static const shape_key rotary_counts[] = {KEY(".attention.sliding_window", window),
                                          KEY(".attention.sliding_window_pattern", global_every)};
static const shape_key rotary_bases[] = {KEY(".rope.freq_base", rope_base),
                                         KEY(".rope.freq_base_swa", rope_base_local)};
#define LENGTH(table) (sizeof(table) / sizeof *(table))

static uint32_t *count_at(const encoder_shape *shape, const shape_key *k)
{
    return (uint32_t *)((uintptr_t)shape + k->offset);
}

static float *base_at(const encoder_shape *shape, const shape_key *k)
{
    return (float *)((uintptr_t)shape + k->offset);
}

/* "bert.block_count" */
static const char *key_of(char key[80], const encoder_shape *shape, const char *name)
{
    snprintf(key, 80, "%s%s", *name == '.' ? family_of(shape)->architecture : "", name);
    return key;
}

uint32_t critic_shape_offset(const encoder_shape *shape, const wordpiece *tokenizer)
{
    return family_of(shape)->offset_positions ? (uint32_t)wordpiece_special(tokenizer, SPECIAL_PAD) + 1 : 0;
}

/* ---- writing */

static void add_rotary(tensorfile_builder *b, const encoder_shape *shape)
{
    char key[80];
    for (size_t i = 0; i < LENGTH(rotary_counts); i++)
        tensorfile_add_u32(b, key_of(key, shape, rotary_counts[i].key), *count_at(shape, &rotary_counts[i]));
    for (size_t i = 0; i < LENGTH(rotary_bases); i++)
        tensorfile_add_f32(b, key_of(key, shape, rotary_bases[i].key), *base_at(shape, &rotary_bases[i]));
    tensorfile_add_string(b, key_of(key, shape, ".rope.scaling.type"), "none");
    tensorfile_add_u32(b, key_of(key, shape, ".vocab_size"), shape->n_vocab);
    tensorfile_add_u32(b, key_of(key, shape, ".classifier.pooling_type"),
                       shape->pooling == ENCODER_POOLING_MEAN ? POOLING_MEAN : POOLING_FIRST);
}

/* A head of tokens is no ranker, and llama.cpp has none. */
static uint32_t pooling_of(drr_head head)
{
    return head == DRR_HEAD_TOKEN ? POOLING_NONE : POOLING_RANK;
}

void critic_shape_add(tensorfile_builder *b, const encoder_shape *shape, drr_head head)
{
    char key[80];
    for (size_t i = 0; i < LENGTH(counts); i++)
        tensorfile_add_u32(b, key_of(key, shape, counts[i].key), *count_at(shape, &counts[i]));
    tensorfile_add_f32(b, key_of(key, shape, ".attention.layer_norm_epsilon"), shape->norm_epsilon);
    tensorfile_add_bool(b, key_of(key, shape, ".attention.causal"), false);
    tensorfile_add_u32(b, key_of(key, shape, ".pooling_type"), pooling_of(head));
    tensorfile_begin_array(b, key_of(key, shape, ".classifier.output_labels"), GGUF_STRING, 1);
    tensorfile_put_string(b, "", "accept");
    if (family_of(shape)->rotary)
        add_rotary(b, shape);
}

/* ---- reading */

static drr_status want_labels(const tensorfile *f, const char *key, drr_error *err)
{
    const tensorfile_key *labels;
    drr_status status = tensorfile_array(&labels, f, key, GGUF_STRING, err);
    if (status != DRR_OK)
        return status;
    const uint8_t *at = labels->data;
    tensorfile_text label = {"", 0};
    if (labels->count == 1)
        label = tensorfile_next(&at);
    if (label.length != 6 || memcmp(label.data, "accept", 6) != 0)
        return error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is not [\"accept\"]", f->path, key);
    return DRR_OK;
}

/* llama.cpp has one architecture for BERT and RoBERTa: the tokenizer tells them apart. */
static drr_status read_family(encoder_family *which, const tensorfile *f, drr_error *err)
{
    char *architecture = NULL, *model = NULL;
    bool found = false;
    drr_status status = tensorfile_string(&architecture, f, "general.architecture", err);
    for (int i = 0; status == DRR_OK && !found && i < ENCODER_FAMILIES; i++)
        found = strcmp(architecture, family_at((encoder_family)i)->architecture) == 0;
    if (status == DRR_OK && !found)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"general.architecture\" is \"%.40s\", which no critic has",
                           f->path, architecture);
    found = false;
    if (status == DRR_OK)
        status = tensorfile_string(&model, f, "tokenizer.ggml.model", err);
    for (int i = 0; status == DRR_OK && !found && i < ENCODER_FAMILIES; i++) {
        *which = (encoder_family)i;
        found = strcmp(architecture, family_at(*which)->architecture) == 0 &&
                strcmp(model, family_at(*which)->tokenizer->model) == 0;
    }
    if (status == DRR_OK && !found)
        status = error_set(err, DRR_E_FORMAT,
                           "%s: the keys \"general.architecture\" and \"tokenizer.ggml.model\" are \"%.40s\" and "
                           "\"%.40s\", which no critic's encoder has",
                           f->path, architecture, model);
    free(architecture);
    free(model);
    return status;
}

drr_status critic_shape_kind(encoder_family *which, drr_head head, const tensorfile *f, drr_error *err)
{
    char key[80];
    uint32_t pooling = 0;
    drr_status status = read_family(which, f, err);
    const encoder_shape shape = {.family = *which};
    if (status == DRR_OK)
        status = want_labels(f, key_of(key, &shape, ".classifier.output_labels"), err);
    if (status == DRR_OK)
        status = tensorfile_u32(&pooling, f, key_of(key, &shape, ".pooling_type"), err);
    if (status == DRR_OK && pooling != pooling_of(head))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is %u; in a critic it is %u", f->path, key, pooling,
                           pooling_of(head));
    return status;
}

static drr_status read_rotary(encoder_shape *shape, const tensorfile *f, drr_error *err)
{
    char key[80];
    uint32_t pooling = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < LENGTH(rotary_counts); i++)
        status = tensorfile_u32(count_at(shape, &rotary_counts[i]), f, key_of(key, shape, rotary_counts[i].key), err);
    for (size_t i = 0; status == DRR_OK && i < LENGTH(rotary_bases); i++)
        status = tensorfile_f32(base_at(shape, &rotary_bases[i]), f, key_of(key, shape, rotary_bases[i].key), err);
    if (status == DRR_OK)
        status = tensorfile_u32(&pooling, f, key_of(key, shape, ".classifier.pooling_type"), err);
    if (status == DRR_OK && pooling != POOLING_MEAN && pooling != POOLING_FIRST)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is %u; %d and %d are read", f->path, key, pooling,
                           POOLING_MEAN, POOLING_FIRST);
    shape->pooling = pooling == POOLING_MEAN ? ENCODER_POOLING_MEAN : ENCODER_POOLING_FIRST;
    return status;
}

drr_status critic_shape_read(encoder_shape *shape, const tensorfile *f, const wordpiece *tokenizer, drr_error *err)
{
    char key[80];
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < LENGTH(counts); i++)
        status = tensorfile_u32(count_at(shape, &counts[i]), f, key_of(key, shape, counts[i].key), err);
    if (status == DRR_OK)
        status = tensorfile_f32(&shape->norm_epsilon, f, key_of(key, shape, ".attention.layer_norm_epsilon"), err);
    if (status == DRR_OK && !(shape->norm_epsilon > 0))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" is not above 0", f->path, key);
    if (status == DRR_OK && family_of(shape)->rotary)
        status = read_rotary(shape, f, err);
    if (status != DRR_OK)
        return status;
    shape->n_vocab = (uint32_t)wordpiece_size(tokenizer);
    shape->position_offset = critic_shape_offset(shape, tokenizer);
    if (family_least_values(shape) * sizeof(float) > (double)f->map.size) /* before memory is taken */
        return error_set(err, DRR_E_FORMAT, "%s: %zu bytes are too few for an encoder of width %u with %u layers",
                         f->path, f->map.size, shape->n_embd, shape->n_layers);
    return DRR_OK;
}
