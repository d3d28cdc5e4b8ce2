/* encoder_int8_internal.h: the pass in 8-bit integers, for encoder_forward.c. */
#ifndef DRR_CRITIC_ENCODER_INT8_INTERNAL_H
#define DRR_CRITIC_ENCODER_INT8_INTERNAL_H

#include "critic/encoder_layers.h"
#include "tensor/int8.h"

drr_status encoder_int8_new(encoder_int8_pass **p, const encoder *e, size_t longest, uint32_t threads, drr_error *err);
void encoder_int8_free(encoder_int8_pass *p);
void encoder_int8_plan(encoder_workspace *w, encoder_planner *p, const encoder_shape *s);
void encoder_int8_pack(encoder_workspace *w, const encoder *e);
/* The whole pass over a checked batch. */
void encoder_int8_logits(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                         float *logits);

#endif
