/* encoder_family.h: the one description of what sets the families of encoders apart. Code that differs by family asks
 * these fields, never for a family by name. For src/critic and the backward pass in src/train. */
#ifndef DRR_CRITIC_ENCODER_FAMILY_H
#define DRR_CRITIC_ENCODER_FAMILY_H

#include "critic/encoder_layers.h"

struct tokenizer_style; /* wordpiece_internal.h */

typedef struct tensor_kind {
    const char *name, *hf_name; /* after "blk.%u." and the family's hf_layers in a layer */
    char rows, columns;         /* d: n_embd, 3: three times that, f: n_ff, g: twice that, v: n_vocab,
                                 * p: n_positions, t: n_types, 1: one */
    bool decay;
    size_t view; /* where encoder_view or encoder_layer_view points to it; NOT_VIEWED: it follows one that is */
} tensor_kind;
#define NOT_VIEWED SIZE_MAX

typedef struct tensor_kinds {
    const tensor_kind *kinds;
    size_t n;
} tensor_kinds;

typedef struct family {
    const char *model_type, *hf_class; /* of config.json */
    const char *hf_token_class;        /* with a head of tokens; NULL: the family has none here */
    const char *hf_prefix;             /* of all names of tensors but the classifier's */
    const char *hf_layers;             /* after it, of a layer's: "encoder.layer." */
    const char *architecture;          /* llama.cpp's; its keys begin so */
    const struct tokenizer_style *tokenizer;
    bool has_bytes; /* the tokenizer is byte-level BPE, else WordPiece */
    tensor_kinds embeddings, layer, head, token_head;
    size_t not_in_first;   /* so many of a layer's first tensors the first layer has not */
    bool offset_positions; /* Hugging Face's position table begins with padding's row and those before it */
    bool rotary;           /* positions turn queries and keys; there is no table */
    bool norms_before;     /* attention and feed-forward read norms, and there is one after the last layer; else each
                            * sum is normed */
    bool gated;            /* the feed-forward's GELU is multiplied by a second half of the product */
    bool head_gelu;        /* the head's activation; else tanh */
} family;
const family *family_of(const encoder_shape *shape);
const family *family_at(encoder_family which);
/* False: no family is called so. */
bool family_find(encoder_family *which, const char *model_type);

/* Does Hugging Face put the family's prefix before this name? */
bool family_prefixes(const char *hf_name);
/* The first tensor of the head; those from "cls.output." on are the classifier; a head of
 * tokens is one alone. */
const encoder_tensor *encoder_head(const encoder *e);
/* Rows that Hugging Face's table has before the first that is kept. */
uint32_t encoder_rows_before(const encoder *e, const encoder_tensor *t);
/* What a file must at least hold to be of this shape, in values; in double, which cannot overflow. */
double family_least_values(const encoder_shape *shape);

#endif
