/* encoder_layers.h: what training shares with inference: where an encoder's weights lie, and one forward pass that
 * keeps what a backward pass needs. For src/critic and src/train; everybody else uses critic.h.
 *
 * Unless the head reads the mean of all rows, only some rows of the last layer reach it: [CLS] of each sequence, or
 * those that a head of tokens is read at (encoder_reads.c). So in that layer only these ask, and everything after its
 * attention is computed for them alone: the same numbers, less work. */
#ifndef DRR_CRITIC_ENCODER_LAYERS_H
#define DRR_CRITIC_ENCODER_LAYERS_H

#include "critic/critic.h"
#include "tensor/bf16.h"
#include "tensor/tensor.h"

/* Pointers into an arena laid out as the parameters are: the parameters themselves, or their gradients. NULL where the
 * family has no such tensor. norm1 is attention's and norm2 the feed-forward's: after each, or before. */
typedef struct encoder_layer_view {
    float *q_weight, *kv_weight, *q_bias, *kv_bias; /* kv: keys above values, [2 n_embd][n_embd] */
    float *output_weight, *output_bias, *norm1_gain, *norm1_shift;
    float *up_weight, *up_bias, *down_weight, *down_bias, *norm2_gain, *norm2_shift;
} encoder_layer_view;
typedef struct encoder_view {
    float *tokens, *positions, *types, *norm_gain, *norm_shift;
    float *final_gain;                                                          /* of a norm after the last layer */
    float *pooler_weight, *pooler_bias, *pooler_gain, *head_weight, *head_bias; /* of tokens: no pooler, NULL */
} encoder_view;
void encoder_view_at(encoder_view *view, const encoder *e, float *base);
void encoder_layer_view_at(encoder_layer_view *view, const encoder *e, float *base, uint32_t layer);

/* T: tokens of the batch; R: rows that ask, T but in the last layer those that the head reads. Norms after: mid is the
 * sum1 that was normed, and out the sum2. Norms before: read is the layer's input normed, mid is sum1 normed, and out
 * is sum2. */
typedef struct encoder_layer_pass {
    float *x_q;                  /* [R][n_embd] the rows that ask: the layer's input, or its [CLS] rows */
    float *read, *read_q;        /* [T], [R][n_embd] what attention's products read: the input, or its norm */
    float *q, *kv;               /* [R][n_embd], [T][2 n_embd] */
    float *log_sum, *context;    /* [R][n_heads], [R][n_embd] */
    float *sum1, *mean1, *rstd1; /* [R][n_embd], [R], [R]: before the first norm */
    float *mid;                  /* [R][n_embd] after it */
    float *up, *act;             /* [R][n_ff] before and after GELU; gated: up [R][2 n_ff] */
    float *sum2, *mean2, *rstd2; /* before the second norm */
    float *out;                  /* [R][n_embd] after it: the next layer's input */
} encoder_layer_pass;

/* Hands out consecutive parts of an arena, or counts them while there is none. */
typedef struct encoder_planner {
    float *base;
    size_t used;
} encoder_planner;
float *encoder_take(encoder_planner *p, size_t rows, size_t width);
bf16 *encoder_take_bf16(encoder_planner *p, size_t rows, size_t width); /* rows rounded up to PRODUCT_ROWS */

/* ---- the pass in bf16 (encoder_bf16.c): what a product takes or gives is bf16; the residual stream and what the norms
 * saw of it are fp32. The fp32 stream exists once, as the running sum, and not in each layer. */
typedef struct encoder_bf16_layer {
    bf16 *x, *x_q, *q, *kv, *context, *mid, *up, *out; /* as in encoder_layer_pass; of `up` GELU is made again */
    float *log_sum, *sum1, *mean1, *rstd1, *sum2, *mean2, *rstd2;
    bf16 *q_weight, *kv_weight, *output_weight, *up_weight, *down_weight; /* packed for the forward products */
    bf16 *q_back, *kv_back, *output_back, *up_back, *down_back;           /* and for those of the backward pass */
} encoder_bf16_layer;
typedef struct encoder_bf16_pass {
    products *products;
    encoder_bf16_layer *layers;
    bf16 *act, *branch; /* [T][n_ff] GELU's output; [T][n_embd] what is added to the stream */
    float *mid, *cls;   /* [T][n_embd] the stream within a layer; [n][n_embd] that of the last layer */
    bf16 *packed;
} encoder_bf16_pass;

typedef struct encoder_int8_pass encoder_int8_pass; /* encoder_int8.c */

struct encoder_workspace {
    size_t max_tokens, max_sequences, longest;
    size_t max_reads; /* rows that the head reads: max_sequences, or max_tokens for a head of tokens */
    uint32_t threads;
    bool keeps;                   /* every layer has memory of its own, for a backward pass */
    float *sum, *mean, *rstd, *x; /* embeddings: before and after their norm */
    encoder_layer_pass *layers;
    float *last; /* [R][n_embd] the last layer's output; a norm after it: */
    float *final, *final_mean, *final_rstd;
    float *dense;                           /* [reads][n_embd] the head's first product, */
    float *pooled, *dropped;                /* after its activation (and norm), and after dropout */
    float *act, *pooled_mean, *pooled_rstd; /* before that norm */
    float *turns[2];                        /* rotary tables of global and local layers */
    float *scratch;                         /* of attention */
    uint32_t *ones;                         /* 0, 1, .. n: starts of the sequences where each has one row */
    uint32_t *ends;                         /* [n] the last token of each, for a head of tokens; else NULL */
    const uint32_t *rows, *row_starts;      /* as encoder_workspace_read was told */
    float *memory;
    float *cls;               /* [reads][n_embd] what the head reads: the last layer's output, or its mean */
    encoder_bf16_pass *half;  /* NULL in fp32; with it, x is the running stream and `layers` is not used */
    encoder_int8_pass *eight; /* the same in int8, whose pass has these two beside x and cls: */
    float *qkv, *context;     /* [T][3 n_embd], [T][n_embd] */
};
/* A workspace for sequences of at most `longest` tokens; `keeps` as above. */
drr_status encoder_workspace_plan(encoder_workspace **w, const encoder *e, size_t max_tokens, size_t max_sequences,
                                  size_t longest, bool keeps, drr_error *err);

/* Which tokens of a batch the head reads in the passes that follow, as encoder_logits_at says it; borrowed. NULL: [CLS]
 * of each sequence, or with a head of tokens the last token (encoder_reads.c). */
void encoder_workspace_read(encoder_workspace *w, const uint32_t *rows, const uint32_t *row_starts);
const uint32_t *encoder_read_rows(encoder_workspace *w, const uint32_t *starts, size_t n);
const uint32_t *encoder_read_starts(const encoder_workspace *w);
drr_status encoder_check_reads(const encoder_workspace *w, const uint32_t *starts, size_t n, drr_error *err);

/* Packs e's weights for the products; after planning it has been done. A change of the parameters calls for it again.
 */
void encoder_workspace_pack(encoder_workspace *w, const encoder *e);

typedef struct encoder_dropout { /* of one pass */
    float rate;
    uint64_t seed, step;
    /* A pass over the end of a longer one, which drops what that one would: what of it lies before. shape may be NULL
     * where that is nothing. */
    const encoder_shape *shape;
    uint32_t first_sequence, first_token;
} encoder_dropout;
enum { ENCODER_SITE_EMBEDDING, ENCODER_SITE_HEAD, ENCODER_SITE_LAYERS, ENCODER_SITES_A_LAYER = 3 };
enum { ENCODER_SITE_PROBABILITIES, ENCODER_SITE_ATTENTION, ENCODER_SITE_FEED_FORWARD };
/* NULL drops nothing. layer_site: ENCODER_SITE_PROBABILITIES .. of a layer. */
dropout encoder_site(const encoder_dropout *d, uint64_t site);
dropout encoder_layer_site(const encoder_dropout *d, uint32_t layer, uint64_t layer_site);

/* Is this the last layer, of which the head reads one row a sequence? */
bool encoder_asks_once(const encoder *e, uint32_t layer);
/* Where positions are rotary: queries and keys of a layer turned by them, in place, or their gradients turned back. */
void encoder_turn(const encoder *e, const encoder_workspace *w, uint32_t layer, const attention_shape *shape, float *q,
                  float *kv, bool back);

/* DRR_E_LIMIT or DRR_E_ARGUMENT when a batch does not fit workspace or vocabulary. */
drr_status encoder_check_batch(const encoder *e, const encoder_workspace *w, const int32_t *ids, const uint32_t *starts,
                               size_t n, drr_error *err);
/* The pass itself over a checked batch. */
void encoder_forward(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                     const encoder_dropout *d, float *logits);
/* DRR_E_BACKEND when a product of the passes since the last call failed. */
drr_status encoder_check_pass(encoder_workspace *w, drr_error *err);
/* encoder_bf16.c, for encoder_forward.c */
drr_status encoder_bf16_new(encoder_bf16_pass **half, const encoder *e, size_t max_tokens, bool keeps, drr_error *err);
void encoder_bf16_free(encoder_bf16_pass *half);
void encoder_bf16_plan(encoder_workspace *w, encoder_planner *p, const encoder_shape *s);
void encoder_bf16_layer_forward(const encoder *e, encoder_workspace *w, uint32_t layer, const uint32_t *starts,
                                size_t n, const encoder_dropout *d);
/* The attention's shape in one layer of that pass. */
attention_shape encoder_attention(const encoder *e, const encoder_workspace *w, const uint32_t *starts, size_t n,
                                  uint32_t layer);

#endif
