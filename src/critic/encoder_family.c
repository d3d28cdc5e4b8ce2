/* encoder_family.c: the families of encoders, each described once: names, tensors, tokenizer, and where the pass takes
 * another way. */
#include "critic/encoder_family.h"
#include "critic/wordpiece_internal.h"

#include <string.h>

#define IN(member) offsetof(encoder_view, member)
#define IN_LAYER(member) offsetof(encoder_layer_view, member)
#define KINDS(table)                                                                                                   \
    {                                                                                                                  \
        table, sizeof(table) / sizeof *(table)                                                                         \
    }

/* ---- BERT, and RoBERTa but for its head */

static const tensor_kind bert_embeddings[] = {
    {"token_embd.weight", "embeddings.word_embeddings.weight", 'v', 'd', true, IN(tokens)},
    {"position_embd.weight", "embeddings.position_embeddings.weight", 'p', 'd', true, IN(positions)},
    {"token_types.weight", "embeddings.token_type_embeddings.weight", 't', 'd', true, IN(types)},
    {"token_embd_norm.weight", "embeddings.LayerNorm.weight", '1', 'd', false, IN(norm_gain)},
    {"token_embd_norm.bias", "embeddings.LayerNorm.bias", '1', 'd', false, IN(norm_shift)},
};

/* Keys and values lie side by side, weights and biases, so that one product makes both. */
static const tensor_kind bert_layer[] = {
    {"attn_q.weight", "attention.self.query.weight", 'd', 'd', true, IN_LAYER(q_weight)},
    {"attn_k.weight", "attention.self.key.weight", 'd', 'd', true, IN_LAYER(kv_weight)},
    {"attn_v.weight", "attention.self.value.weight", 'd', 'd', true, NOT_VIEWED},
    {"attn_q.bias", "attention.self.query.bias", '1', 'd', false, IN_LAYER(q_bias)},
    {"attn_k.bias", "attention.self.key.bias", '1', 'd', false, IN_LAYER(kv_bias)},
    {"attn_v.bias", "attention.self.value.bias", '1', 'd', false, NOT_VIEWED},
    {"attn_output.weight", "attention.output.dense.weight", 'd', 'd', true, IN_LAYER(output_weight)},
    {"attn_output.bias", "attention.output.dense.bias", '1', 'd', false, IN_LAYER(output_bias)},
    {"attn_output_norm.weight", "attention.output.LayerNorm.weight", '1', 'd', false, IN_LAYER(norm1_gain)},
    {"attn_output_norm.bias", "attention.output.LayerNorm.bias", '1', 'd', false, IN_LAYER(norm1_shift)},
    {"ffn_up.weight", "intermediate.dense.weight", 'f', 'd', true, IN_LAYER(up_weight)},
    {"ffn_up.bias", "intermediate.dense.bias", '1', 'f', false, IN_LAYER(up_bias)},
    {"ffn_down.weight", "output.dense.weight", 'd', 'f', true, IN_LAYER(down_weight)},
    {"ffn_down.bias", "output.dense.bias", '1', 'd', false, IN_LAYER(down_bias)},
    {"layer_output_norm.weight", "output.LayerNorm.weight", '1', 'd', false, IN_LAYER(norm2_gain)},
    {"layer_output_norm.bias", "output.LayerNorm.bias", '1', 'd', false, IN_LAYER(norm2_shift)},
};

static const tensor_kind bert_head[] = {
    {"cls.weight", "pooler.dense.weight", 'd', 'd', true, IN(pooler_weight)},
    {"cls.bias", "pooler.dense.bias", '1', 'd', false, IN(pooler_bias)},
    {"cls.output.weight", "classifier.weight", '1', 'd', true, IN(head_weight)},
    {"cls.output.bias", "classifier.bias", '1', '1', false, IN(head_bias)},
};

/* llama.cpp knows no such tensors, and so refuses a file that it would read at [CLS]. */
static const tensor_kind bert_token_head[] = {
    {"drr.token.weight", "classifier.weight", '1', 'd', true, IN(head_weight)},
    {"drr.token.bias", "classifier.bias", '1', '1', false, IN(head_bias)},
};

static const tensor_kind roberta_head[] = {
    {"cls.weight", "classifier.dense.weight", 'd', 'd', true, IN(pooler_weight)},
    {"cls.bias", "classifier.dense.bias", '1', 'd', false, IN(pooler_bias)},
    {"cls.output.weight", "classifier.out_proj.weight", '1', 'd', true, IN(head_weight)},
    {"cls.output.bias", "classifier.out_proj.bias", '1', '1', false, IN(head_bias)},
};

/* ---- ModernBERT: no biases but the classifier's */

static const tensor_kind modernbert_embeddings[] = {
    {"token_embd.weight", "embeddings.tok_embeddings.weight", 'v', 'd', true, IN(tokens)},
    {"token_embd_norm.weight", "embeddings.norm.weight", '1', 'd', false, IN(norm_gain)},
};

static const tensor_kind modernbert_layer[] = {
    {"attn_norm.weight", "attn_norm.weight", '1', 'd', false, IN_LAYER(norm1_gain)},
    {"attn_qkv.weight", "attn.Wqkv.weight", '3', 'd', true, IN_LAYER(q_weight)}, /* queries, keys, values */
    {"attn_output.weight", "attn.Wo.weight", 'd', 'd', true, IN_LAYER(output_weight)},
    {"ffn_norm.weight", "mlp_norm.weight", '1', 'd', false, IN_LAYER(norm2_gain)},
    {"ffn_up.weight", "mlp.Wi.weight", 'g', 'd', true, IN_LAYER(up_weight)},
    {"ffn_down.weight", "mlp.Wo.weight", 'd', 'f', true, IN_LAYER(down_weight)},
};

static const tensor_kind modernbert_head[] = {
    {"output_norm.weight", "final_norm.weight", '1', 'd', false, IN(final_gain)},
    {"cls.weight", "head.dense.weight", 'd', 'd', true, IN(pooler_weight)},
    {"cls.norm.weight", "head.norm.weight", '1', 'd', false, IN(pooler_gain)},
    {"cls.output.weight", "classifier.weight", '1', 'd', true, IN(head_weight)},
    {"cls.output.bias", "classifier.bias", '1', '1', false, IN(head_bias)},
};

/* ---- the families */

static const family families[ENCODER_FAMILIES] = {
    [ENCODER_BERT] =
        {
            .model_type = "bert",
            .hf_class = "BertForSequenceClassification",
            .hf_token_class = "BertForTokenClassification",
            .hf_prefix = "bert.",
            .hf_layers = "encoder.layer.",
            .architecture = "bert",
            .tokenizer = &(const tokenizer_style){.model = "bert",
                                                  .pre = "default",
                                                  .specials = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"},
                                                  .n_between = 1},
            .embeddings = KINDS(bert_embeddings),
            .layer = KINDS(bert_layer),
            .head = KINDS(bert_head),
            .token_head = KINDS(bert_token_head),
        },
    [ENCODER_ROBERTA] =
        {
            .model_type = "roberta",
            .hf_class = "RobertaForSequenceClassification",
            .hf_prefix = "roberta.",
            .hf_layers = "encoder.layer.",
            .architecture = "bert",
            .tokenizer = &(const tokenizer_style){.model = "gpt2",
                                                  .pre = "roberta-bpe",
                                                  .specials = {"<unk>", "<s>", "</s>", "<pad>", "<mask>"},
                                                  .n_between = 2},
            .has_bytes = true,
            .embeddings = KINDS(bert_embeddings),
            .layer = KINDS(bert_layer),
            .head = KINDS(roberta_head),
            .offset_positions = true,
        },
    [ENCODER_MODERNBERT] =
        {
            .model_type = "modernbert",
            .hf_class = "ModernBertForSequenceClassification",
            .hf_prefix = "model.",
            .hf_layers = "layers.",
            .architecture = "modern-bert",
            .tokenizer = &(const tokenizer_style){.model = "gpt2",
                                                  .pre = "modern-bert",
                                                  .specials = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"},
                                                  .n_between = 1},
            .has_bytes = true,
            .embeddings = KINDS(modernbert_embeddings),
            .layer = KINDS(modernbert_layer),
            .head = KINDS(modernbert_head),
            .not_in_first = 1,
            .rotary = true,
            .norms_before = true,
            .gated = true,
            .head_gelu = true,
        },
};

const family *family_at(encoder_family which)
{
    return &families[which];
}

const family *family_of(const encoder_shape *shape)
{
    return &families[shape->family];
}

bool family_find(encoder_family *which, const char *model_type)
{
    for (int i = 0; i < ENCODER_FAMILIES; i++)
        if (strcmp(families[i].model_type, model_type) == 0) {
            *which = (encoder_family)i;
            return true;
        }
    return false;
}

bool family_prefixes(const char *hf_name)
{
    return strncmp(hf_name, "classifier.", 11) != 0 && strncmp(hf_name, "head.", 5) != 0;
}

const encoder_tensor *encoder_head(const encoder *e)
{
    const encoder_tensor *t = e->tensors + e->n_tensors;
    while (t > e->tensors && (strncmp(t[-1].name, "cls.", 4) == 0 || strncmp(t[-1].name, "drr.token.", 10) == 0))
        t--;
    return t;
}

uint32_t encoder_rows_before(const encoder *e, const encoder_tensor *t)
{
    return strcmp(t->name, "position_embd.weight") == 0 ? e->shape.position_offset : 0;
}

double family_least_values(const encoder_shape *s)
{
    const family *f = family_of(s);
    const double d = s->n_embd, layer = d * (4 * d + (f->gated ? 3 : 2) * (double)s->n_ff);
    return s->n_layers * layer + d * ((double)s->n_vocab + (f->rotary ? 0 : s->n_positions));
}
