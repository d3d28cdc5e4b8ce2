/* encoder_plan.c: hands out the parts of an arena. By itself, so that a test can put each part between pages that
 * nobody may touch (tests/unit/test_guard_passes.c). */
#include "critic/encoder_layers.h"

float *encoder_take(encoder_planner *p, size_t rows, size_t width)
{
    const size_t at = p->used;
    p->used += (rows * width + 15) / 16 * 16; /* 64-byte lines */
    return p->base ? p->base + at : NULL;
}

bf16 *encoder_take_bf16(encoder_planner *p, size_t rows, size_t width)
{
    return (bf16 *)encoder_take(p, product_rows(rows), (width + 1) / 2);
}
