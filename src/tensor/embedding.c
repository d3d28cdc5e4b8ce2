/* embedding.c: sums of token, position and type rows, and the scatter back. The scatter divides columns among the
 * threads: two tokens with one id meet in one thread, in order. */
#include "tensor/vector_internal.h"

enum { COLUMNS = 64 };

void embedding_forward(float *y, const int32_t *ids, const uint32_t *starts, size_t n, const float *tokens,
                       const float *positions, const float *type, size_t width)
{
#pragma omp parallel for schedule(static)
    for (size_t s = 0; s < n; s++)
        for (size_t t = starts[s]; t < starts[s + 1]; t++) {
            const float *token = tokens + (size_t)ids[t] * width;
            if (!positions) {
                memcpy(y + t * width, token, width * sizeof *y);
                continue;
            }
            const float *position = positions + (t - starts[s]) * width;
            for (size_t i = 0; i < width; i++)
                y[t * width + i] = token[i] + position[i] + type[i];
        }
}

void embedding_backward(float *dtokens, float *dpositions, float *dtype, const float *dy, const int32_t *ids,
                        const uint32_t *starts, size_t n, size_t width)
{
#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < width; c += COLUMNS) {
        const size_t end = width - c < COLUMNS ? width : c + COLUMNS;
        for (size_t s = 0; s < n; s++)
            for (size_t t = starts[s]; t < starts[s + 1]; t++) {
                float *dtoken = dtokens + (size_t)ids[t] * width;
                for (size_t i = c; !dpositions && i < end; i++)
                    dtoken[i] += dy[t * width + i];
                if (!dpositions)
                    continue;
                float *dposition = dpositions + (t - starts[s]) * width;
                for (size_t i = c; i < end; i++) {
                    const float g = dy[t * width + i];
                    dtoken[i] += g;
                    dposition[i] += g;
                    dtype[i] += g;
                }
            }
    }
}
