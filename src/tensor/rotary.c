/* rotary.c: rotary positions (Su et al., RoFormer) as GPT-NeoX and Hugging Face lay them out: column i of a head turns
 * with column i + half by an angle that grows with the position and falls with i. */
#include "tensor/vector_internal.h"

void rotary_table(float *table, size_t longest, size_t head_width, float base)
{
    const size_t half = head_width / 2;
    for (size_t i = 0; i < half; i++) { /* in float, as the models were trained */
        const float rate = 1.0f / powf(base, (float)(2 * i) / (float)head_width);
        for (size_t t = 0; t < longest; t++) {
            table[t * head_width + i] = cosf((float)t * rate);
            table[t * head_width + half + i] = sinf((float)t * rate);
        }
    }
}

CPU_CLONES
static void turn(float *x, const float *table, size_t half, float direction)
{
    for (size_t i = 0; i < half; i++) {
        const float a = x[i], b = x[half + i], c = table[i], s = table[half + i] * direction;
        x[i] = a * c - b * s;
        x[half + i] = b * c + a * s;
    }
}

static void turn_rows(float *x, size_t ld, const rotary_shape *shape, const float *table, float direction)
{
    const size_t half = shape->head_width / 2;
#pragma omp parallel for schedule(static)
    for (size_t s = 0; s < shape->n; s++)
        for (size_t t = shape->starts[s]; t < shape->starts[s + 1]; t++)
            for (size_t h = 0; h < shape->heads; h++)
                turn(x + t * ld + h * shape->head_width, table + (t - shape->starts[s]) * shape->head_width, half,
                     direction);
}

void rotary_forward(float *x, size_t ld, const rotary_shape *shape, const float *table)
{
    turn_rows(x, ld, shape, table, 1.0f);
}

void rotary_backward(float *dx, size_t ld, const rotary_shape *shape, const float *table)
{
    turn_rows(dx, ld, shape, table, -1.0f);
}
