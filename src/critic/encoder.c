/* encoder.c: an encoder's shape, its table of tensors and its parameters in one arena. What is computed with them is
 * encoder_forward.c's, and training's backward.c's; reading and writing files is safetensors.c's and gguf.c's. */
#include "critic/encoder_layers.h"

#include <stdlib.h>
#include <string.h>

enum { EMBEDDING_TENSORS = 5, LAYER_TENSORS = 16, HEAD_TENSORS = 4, TOKEN_HEAD_TENSORS = 2 };

typedef struct tensor_kind {
    const char *name, *hf_name; /* after "blk.%u." and "encoder.layer.%u." in a layer */
    char rows, columns;         /* d: n_embd, f: n_ff, v: n_vocab, p: n_positions, t: n_types, 1: one */
    bool decay;
} tensor_kind;

static const tensor_kind embedding_kinds[EMBEDDING_TENSORS] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", 'v', 'd', true},
    {"position_embd.weight", "embeddings.position_embeddings.weight", 'p', 'd', true},
    {"token_types.weight", "embeddings.token_type_embeddings.weight", 't', 'd', true},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", '1', 'd', false},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", '1', 'd', false},
};

/* Keys and values lie side by side, weights and biases, so that one product makes both. */
static const tensor_kind layer_kinds[LAYER_TENSORS] = {
    {"attn_q.weight", "attention.self.query.weight", 'd', 'd', true},
    {"attn_k.weight", "attention.self.key.weight", 'd', 'd', true},
    {"attn_v.weight", "attention.self.value.weight", 'd', 'd', true},
    {"attn_q.bias", "attention.self.query.bias", '1', 'd', false},
    {"attn_k.bias", "attention.self.key.bias", '1', 'd', false},
    {"attn_v.bias", "attention.self.value.bias", '1', 'd', false},
    {"attn_output.weight", "attention.output.dense.weight", 'd', 'd', true},
    {"attn_output.bias", "attention.output.dense.bias", '1', 'd', false},
    {"attn_output_norm.weight", "attention.output.LayerNorm.weight", '1', 'd', false},
    {"attn_output_norm.bias", "attention.output.LayerNorm.bias", '1', 'd', false},
    {"ffn_up.weight", "intermediate.dense.weight", 'f', 'd', true},
    {"ffn_up.bias", "intermediate.dense.bias", '1', 'f', false},
    {"ffn_down.weight", "output.dense.weight", 'd', 'f', true},
    {"ffn_down.bias", "output.dense.bias", '1', 'd', false},
    {"layer_output_norm.weight", "output.LayerNorm.weight", '1', 'd', false},
    {"layer_output_norm.bias", "output.LayerNorm.bias", '1', 'd', false},
};

static const tensor_kind head_kinds[HEAD_TENSORS] = {
    {"cls.weight", "pooler.dense.weight", 'd', 'd', true},
    {"cls.bias", "pooler.dense.bias", '1', 'd', false},
    {"cls.output.weight", "classifier.weight", '1', 'd', true},
    {"cls.output.bias", "classifier.bias", '1', '1', false},
};

/* llama.cpp knows no such tensors, and so refuses a file that it would read at [CLS]. */
static const tensor_kind token_head_kinds[TOKEN_HEAD_TENSORS] = {
    {"drr.token.weight", "classifier.weight", '1', 'd', true},
    {"drr.token.bias", "classifier.bias", '1', '1', false},
};

static uint32_t extent(const encoder_shape *shape, char code)
{
    switch (code) {
    case 'd':
        return shape->n_embd;
    case 'f':
        return shape->n_ff;
    case 'v':
        return shape->n_vocab;
    case 'p':
        return shape->n_positions;
    case 't':
        return shape->n_types;
    default:
        return 1;
    }
}

static void add_tensor(encoder *e, const tensor_kind *kind, const char *prefix, const char *hf_prefix)
{
    encoder_tensor *t = &e->tensors[e->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, kind->name);
    snprintf(t->hf_name, sizeof t->hf_name, "%s%s", hf_prefix, kind->hf_name);
    t->rows = extent(&e->shape, kind->rows);
    t->columns = extent(&e->shape, kind->columns);
    t->offset = e->n_parameters;
    t->decay = kind->decay;
    e->n_parameters += (size_t)t->rows * t->columns;
}

/* Bounds that keep every product of extents far from overflow; the largest BERT is well inside them. */
static drr_status check_shape(const encoder_shape *s, drr_error *err)
{
    if (!s->n_layers || !s->n_embd || !s->n_heads || !s->n_ff || !s->n_vocab || !s->n_positions || !s->n_types)
        return error_set(err, DRR_E_FORMAT,
                         "the encoder's shape has a zero in it: layers %u, width %u, heads %u, "
                         "feed-forward %u, vocabulary %u, positions %u, types %u",
                         s->n_layers, s->n_embd, s->n_heads, s->n_ff, s->n_vocab, s->n_positions, s->n_types);
    if (s->n_layers > 256 || s->n_embd > 16384 || s->n_ff > 65536 || s->n_vocab > 4000000 || s->n_positions > 131072 ||
        s->n_types > 1024)
        return error_set(err, DRR_E_LIMIT,
                         "the encoder's shape is beyond what drr handles: layers %u, width %u, "
                         "feed-forward %u, vocabulary %u, positions %u",
                         s->n_layers, s->n_embd, s->n_ff, s->n_vocab, s->n_positions);
    if (s->n_embd % s->n_heads)
        return error_set(err, DRR_E_FORMAT, "the encoder's width %u is not a multiple of its %u attention heads",
                         s->n_embd, s->n_heads);
    return DRR_OK;
}

drr_status encoder_new(encoder **e, const encoder_shape *shape, drr_error *err)
{
    return encoder_new_headed(e, shape, DRR_HEAD_CLS, err);
}

drr_status encoder_new_headed(encoder **out, const encoder_shape *shape, drr_head head, drr_error *err)
{
    const bool of_tokens = head == DRR_HEAD_TOKEN;
    const size_t n_head = of_tokens ? TOKEN_HEAD_TENSORS : HEAD_TENSORS;
    drr_status status = check_shape(shape, err);
    if (status != DRR_OK)
        return status;
    encoder *e = calloc(1, sizeof *e);
    if (!e)
        return error_memory(err);
    e->shape = *shape;
    e->head = head;
    const size_t n = EMBEDDING_TENSORS + (size_t)LAYER_TENSORS * shape->n_layers + n_head;
    e->tensors = calloc(n, sizeof *e->tensors);
    if (!e->tensors) {
        status = error_memory(err);
        goto done;
    }
    for (size_t i = 0; i < EMBEDDING_TENSORS; i++)
        add_tensor(e, &embedding_kinds[i], "", "");
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        char prefix[32], hf_prefix[32];
        snprintf(prefix, sizeof prefix, "blk.%u.", layer);
        snprintf(hf_prefix, sizeof hf_prefix, "encoder.layer.%u.", layer);
        for (size_t i = 0; i < LAYER_TENSORS; i++)
            add_tensor(e, &layer_kinds[i], prefix, hf_prefix);
    }
    for (size_t i = 0; i < n_head; i++)
        add_tensor(e, of_tokens ? &token_head_kinds[i] : &head_kinds[i], "", "");
    const size_t bytes = (e->n_parameters * sizeof(float) + 63) / 64 * 64;
    e->parameters = aligned_alloc(64, bytes);
    if (!e->parameters) {
        status = error_memory(err);
        goto done;
    }
    memset(e->parameters, 0, bytes);
done:
    if (status == DRR_OK)
        *out = e;
    else
        encoder_free(e);
    return status;
}

void encoder_free(encoder *e)
{
    if (!e)
        return;
    free(e->tensors);
    free(e->parameters);
    free(e);
}

const encoder_tensor *encoder_find(const encoder *e, const char *name)
{
    for (size_t i = 0; i < e->n_tensors; i++)
        if (strcmp(e->tensors[i].name, name) == 0)
            return &e->tensors[i];
    return NULL;
}

void encoder_view_at(encoder_view *view, const encoder *e, float *base)
{
    const encoder_tensor *t = e->tensors, *head = e->tensors + e->n_tensors - 2, *pooler = head - 2;
    const bool pools = e->head == DRR_HEAD_CLS;
    *view = (encoder_view){
        .tokens = base + t[0].offset,
        .positions = base + t[1].offset,
        .types = base + t[2].offset,
        .norm_gain = base + t[3].offset,
        .norm_shift = base + t[4].offset,
        .pooler_weight = pools ? base + pooler[0].offset : NULL,
        .pooler_bias = pools ? base + pooler[1].offset : NULL,
        .head_weight = base + head[0].offset,
        .head_bias = base + head[1].offset,
    };
}

void encoder_layer_view_at(encoder_layer_view *view, const encoder *e, float *base, uint32_t layer)
{
    const encoder_tensor *t = e->tensors + EMBEDDING_TENSORS + (size_t)LAYER_TENSORS * layer;
    *view = (encoder_layer_view){
        .q_weight = base + t[0].offset,
        .kv_weight = base + t[1].offset,
        .q_bias = base + t[3].offset,
        .kv_bias = base + t[4].offset,
        .output_weight = base + t[6].offset,
        .output_bias = base + t[7].offset,
        .norm1_gain = base + t[8].offset,
        .norm1_shift = base + t[9].offset,
        .up_weight = base + t[10].offset,
        .up_bias = base + t[11].offset,
        .down_weight = base + t[12].offset,
        .down_bias = base + t[13].offset,
        .norm2_gain = base + t[14].offset,
        .norm2_shift = base + t[15].offset,
    };
}
