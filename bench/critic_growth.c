/* critic_growth.c: tokens a second of scoring and of training steps, for encoders of three sizes with random weights
 * and for sequences of one length:
 *
 *     critic_growth SIZE LENGTH PRECISION score|train [SECONDS]        SIZE: minilm, base, large
 *
 * prints `tokens_per_second=X`, of the fastest of as many turns as fit SECONDS (2), one at least. A turn is a pass over
 * 2,048 tokens, training with update and, where there are packed weights, packing. The vocabulary has 30,522 rows, of
 * which ids are drawn at random. */
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 2048, STEPS = 1000 };

typedef struct work {
    encoder *e;
    encoder_workspace *w;
    encoder_tape *tape;
    row_updates *rows;
    float *gradients, *moments, *logits;
    int32_t ids[TOKENS];
    uint32_t starts[TOKENS + 1];
    uint8_t labels[TOKENS];
    fit_options options;
    size_t n;
} work;

static const struct {
    const char *name;
    encoder_shape shape;
} sizes[] = {{"minilm",
              {.n_layers = 6,
               .n_embd = 384,
               .n_heads = 12,
               .n_ff = 1536,
               .n_vocab = 30522,
               .n_positions = 512,
               .n_types = 2,
               .norm_epsilon = 1e-12f}},
             {"base",
              {.n_layers = 12,
               .n_embd = 768,
               .n_heads = 12,
               .n_ff = 3072,
               .n_vocab = 30522,
               .n_positions = 512,
               .n_types = 2,
               .norm_epsilon = 1e-12f}},
             {"large",
              {.n_layers = 24,
               .n_embd = 1024,
               .n_heads = 16,
               .n_ff = 4096,
               .n_vocab = 30522,
               .n_positions = 512,
               .n_types = 2,
               .norm_epsilon = 1e-12f}}};

static drr_status prepare(work *x, const encoder_shape *shape, size_t length, drr_precision precision, bool trains,
                          drr_error *err)
{
    rng r;
    rng_seed(&r, 1);
    drr_status status = encoder_new(&x->e, shape, err);
    if (status == DRR_OK)
        status = encoder_set_precision(x->e, &precision, err);
    if (status != DRR_OK)
        return status;
    for (size_t t = 0; t < x->e->n_tensors; t++) {
        const encoder_tensor *tensor = &x->e->tensors[t];
        for (size_t i = 0; i < (size_t)tensor->rows * tensor->columns; i++)
            x->e->parameters[tensor->offset + i] =
                (strstr(tensor->name, "norm.weight") ? 1.0f : 0.0f) + 0.04f * ((float)rng_uniform(&r) - 0.5f);
    }
    x->n = TOKENS / length;
    for (uint32_t i = 0; i <= x->n; i++)
        x->starts[i] = i * (uint32_t)length;
    for (size_t i = 0; i < TOKENS; i++) {
        x->ids[i] = (int32_t)rng_below(&r, shape->n_vocab);
        x->labels[i] = i % 2;
    }
    if (!(x->logits = calloc(x->n, sizeof *x->logits)))
        return error_memory(err);
    if (!trains)
        return encoder_workspace_plan(&x->w, x->e, TOKENS, x->n, length, false, err);
    x->gradients = calloc(x->e->n_parameters, sizeof *x->gradients);
    x->moments = calloc(2 * x->e->n_parameters, sizeof *x->moments);
    x->options = (fit_options){.learning_rate = 1e-5, .weight_decay = 0.01, .clip_norm = 1, .epochs = 1, .batch = 1};
    if (!x->gradients || !x->moments)
        return error_memory(err);
    status = encoder_tape_new(&x->tape, x->e, TOKENS, x->n, length, err);
    if (status == DRR_OK)
        status =
            row_updates_new(&x->rows, x->e, x->moments, x->moments + x->e->n_parameters, &x->options, STEPS, 0, err);
    return status;
}

static drr_status turn(work *x, drr_error *err)
{
    const encoder_dropout d = {.rate = 0.1f, .seed = 1, .step = 1};
    double loss = 0;
    if (x->w)
        return encoder_logits(x->e, x->w, x->ids, x->starts, x->n, x->logits, err);
    encoder_tape_pack(x->tape, x->e);
    row_updates_see(x->rows, x->ids, x->starts[x->n]);
    drr_status status = encoder_backward(x->e, x->tape, x->ids, x->starts, x->n, x->labels, NULL, (double)x->n, &d,
                                         x->gradients, x->logits, &loss, err);
    if (status == DRR_OK)
        (void)row_updates_step(x->rows, x->gradients);
    return status;
}

static void clear(work *x)
{
    encoder_workspace_free(x->w);
    encoder_tape_free(x->tape);
    row_updates_free(x->rows);
    encoder_free(x->e);
    free(x->gradients);
    free(x->moments);
    free(x->logits);
}

int main(int argc, char **argv)
{
    static work x;
    drr_precision precision;
    drr_error err = {0};
    const encoder_shape *shape = NULL;
    const size_t length = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    const double seconds = argc > 5 ? strtod(argv[5], NULL) : 2;
    for (size_t i = 0; argc > 4 && i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(argv[1], sizes[i].name) == 0)
            shape = &sizes[i].shape;
    if (!shape || !length || length > shape->n_positions) {
        fprintf(stderr,
                "critic_growth: SIZE (minilm, base, large) LENGTH (1 to 512) PRECISION score|train are wanted\n");
        return 2;
    }
    drr_status status = drr_precision_parse(&precision, argv[3], &err);
    if (status == DRR_OK)
        status = prepare(&x, shape, length, precision, strcmp(argv[4], "train") == 0, &err);
    if (status == DRR_OK)
        status = turn(&x, &err); /* the first touches memory, and oneDNN makes its code */
    double least = 0;
    const double end = clock_seconds() + seconds;
    for (int i = 0; status == DRR_OK && i < STEPS - 1 && (i == 0 || clock_seconds() < end); i++) {
        const double began = clock_seconds();
        status = turn(&x, &err);
        const double took = clock_seconds() - began;
        least = i == 0 || took < least ? took : least;
    }
    if (status == DRR_OK)
        printf("tokens_per_second=%.1f\n", x.starts[x.n] / least);
    else
        fprintf(stderr, "critic_growth: %s\n", err.message);
    clear(&x);
    return status == DRR_OK ? 0 : 1;
}
