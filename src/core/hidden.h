/* hidden.h: what a language model had in mind while it wrote, as core sees it: vectors of half floats, named by the
 * layer that they were taken behind and by how the text's tokens were pooled. Packed as one run of bytes, which
 * reasoners make, traces keep and probes read (docs/formats.md, "Hidden states"). */
#ifndef DRR_CORE_HIDDEN_H
#define DRR_CORE_HIDDEN_H

#include "core/core.h"

enum {
    HIDDEN_MOST_LAYERS = 4,
    HIDDEN_LAST = 0, /* behind the last block and the final norm; layer n: behind the n-th block, from 1 */
    HIDDEN_MOST_WIDTH = 1 << 16
};

typedef enum hidden_pool {                /* over the tokens of a text */
                           HIDDEN_ANSWER, /* the last token of its answer; of the text, where no answer can be read */
                           HIDDEN_MEAN,   /* the mean of all */
                           HIDDEN_POOLS
} hidden_pool;
const char *hidden_pool_name(hidden_pool pool); /* "answer", "mean" */

typedef struct hidden_layers { /* n different ones; n 0: none */
    uint32_t n, layer[HIDDEN_MOST_LAYERS];
} hidden_layers;
/* Of "last", "12" or a comma list of up to four of these; NULL is none. */
drr_status hidden_layers_parse(hidden_layers *layers, const char *text, drr_error *err);
const char *hidden_layer_name(char name[16], uint32_t layer); /* name */
const char *hidden_layers_text(char text[64], const hidden_layers *layers);
bool hidden_layers_have(const hidden_layers *layers, uint32_t layer);

uint16_t half_of(float value); /* nearest; what is too large becomes the largest, and NaN stays one */
float half_value(uint16_t half);

/* Packs n_rows tokens, each n_layers vectors of `width` halves, rows[token][layer][width], pooled in every way.
 * answer: the token of HIDDEN_ANSWER. *data is the caller's; NULL where there is no token, or a value is no number. */
drr_status hidden_pack(void **data, size_t *size, const hidden_layers *layers, uint32_t width, const uint16_t *rows,
                       size_t n_rows, size_t answer, drr_error *err);
bool hidden_is_whole(const void *data, size_t size); /* is this what hidden_pack makes? */
/* Of whole ones. */
uint32_t hidden_width(const void *data);
void hidden_layers_of(hidden_layers *layers, const void *data);
/* The vector of that name into values[hidden_width]; false where there is none. */
bool hidden_vector(float *values, const void *data, uint32_t layer, hidden_pool pool);

/* As text, for JSON: base64 with padding. */
char *hidden_to_text(const void *data, size_t size); /* the caller's; NULL when memory is out */
/* DRR_E_FORMAT, naming `where`, for what is not whole. */
drr_status hidden_from_text(void **data, size_t *size, const char *text, const char *where, drr_error *err);

#endif
