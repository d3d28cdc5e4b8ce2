/* backward_internal.h: the memory of a backward pass, shared by backward.c and backward_bf16.c. */
#ifndef DRR_TRAIN_BACKWARD_INTERNAL_H
#define DRR_TRAIN_BACKWARD_INTERNAL_H

#include "critic/encoder_family.h"
#include "train/train.h"

#include <string.h>

struct encoder_tape {
    encoder_workspace *w;
    float *dx, *da;               /* [T][n_embd] the gradient of the stream, and a second one */
    float *db, *dwide, *dq, *dkv; /* fp32: [T][n_embd], [T][n_ff], [T][n_embd], [T][2 n_embd] */
    bf16 *half_wide, *half_dcontext, *half_dq, *half_dkv;
    float *dact;            /* [T][n_ff] of a gated feed-forward; else dwide */
    float *norm_scratch;    /* bf16 */
    float *dlogits, *dhead; /* [reads], [reads][n_embd] */
    float *memory;
    void (*ready)(void *user, uint32_t layer);
    void *ready_user;
};

void backward_bf16_plan(encoder_tape *tape, encoder_planner *p, const encoder_shape *s, size_t tokens);
/* As layer_backward in backward.c: tape->dx goes from the layer's output to its input. */
void backward_bf16_layer(const encoder *e, encoder_tape *tape, uint32_t layer, const uint32_t *starts, size_t n,
                         const encoder_dropout *d, float *gradients);

#endif
