/* update.c: AdamW over an encoder's parameters. encoder_update is the plain one, of every parameter in every step. What
 * training uses instead leaves out the rows of the vocabulary that a step does not meet, most of them, and makes up for
 * it before such a row is read again: the updates that it missed, with a gradient of 0, one after the other. So unseen
 * rows decay and their moments fade as if each update had met them, bit by bit; only the gradient's norm is added up in
 * another order. */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static adamw update_options(const fit_options *o, double learning_rate, uint64_t step, double norm)
{
    const bool clips = o->clip_norm > 0 && norm > o->clip_norm;
    return (adamw){.learning_rate = learning_rate,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .epsilon = 1e-8,
                   .weight_decay = o->weight_decay,
                   .step = step,
                   .gradient_scale = clips ? o->clip_norm / (norm + 1e-6) : 1};
}

/* Tensors from `first` on. */
static void update_tensors(encoder *e, size_t first, float *gradients, float *moment1, float *moment2,
                           const adamw *options)
{
    for (size_t i = first; i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        adamw_step(e->parameters + t->offset, gradients + t->offset, moment1 + t->offset, moment2 + t->offset,
                   (size_t)t->rows * t->columns, t->decay, options);
    }
}

double encoder_update(encoder *e, float *gradients, float *moment1, float *moment2, const fit_options *o,
                      double learning_rate, uint64_t step)
{
    const double norm = gradient_norm(gradients, e->n_parameters);
    const adamw options = update_options(o, learning_rate, step, norm);
    update_tensors(e, 0, gradients, moment1, moment2, &options);
    return norm;
}

struct row_updates {
    encoder *e;
    float *moment1, *moment2;
    const fit_options *o;
    uint64_t step, steps;    /* updates done; of the run */
    adamw_constants *missed; /* [steps] what update i + 1 does to a row without a gradient */
    uint64_t *done;          /* [n_vocab] updates that a row has had */
    bool *marked;            /* [n_vocab] it is in `rows` */
    uint32_t *rows;          /* [n_vocab] those with a gradient in this step */
    size_t n_rows;
};

drr_status row_updates_new(row_updates **out, encoder *e, float *moment1, float *moment2, const fit_options *o,
                           uint64_t steps, uint64_t step, drr_error *err)
{
    const size_t n = e->shape.n_vocab;
    row_updates *u = calloc(1, sizeof *u);
    if (!u)
        return error_memory(err);
    *u = (row_updates){.e = e, .moment1 = moment1, .moment2 = moment2, .o = o, .step = step, .steps = steps};
    u->missed = calloc(steps, sizeof *u->missed);
    u->done = calloc(n, sizeof *u->done);
    u->marked = calloc(n, sizeof *u->marked);
    u->rows = calloc(n, sizeof *u->rows);
    if (!u->missed || !u->done || !u->marked || !u->rows) {
        row_updates_free(u);
        return error_memory(err);
    }
    for (uint64_t i = 0; i < steps; i++) {
        const adamw options = update_options(o, learning_rate_at(o, i, steps), i + 1, 0);
        u->missed[i] = adamw_prepare(&options, e->tensors[0].decay);
    }
    for (size_t i = 0; i < n; i++)
        u->done[i] = step;
    *out = u;
    return DRR_OK;
}

void row_updates_free(row_updates *u)
{
    if (!u)
        return;
    free(u->missed);
    free(u->done);
    free(u->marked);
    free(u->rows);
    free(u);
}

static void catch_up(row_updates *u, size_t row)
{
    const size_t width = u->e->shape.n_embd, at = u->e->tensors[0].offset + row * width;
    if (u->done[row] < u->step)
        adamw_catch_up(u->e->parameters + at, u->moment1 + at, u->moment2 + at, width, u->missed + u->done[row],
                       (size_t)(u->step - u->done[row]));
    u->done[row] = u->step;
}

void row_updates_see(row_updates *u, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t row = (size_t)(uint32_t)ids[i];
        if (row >= u->e->shape.n_vocab || u->marked[row]) /* an id outside is refused by the pass itself */
            continue;
        catch_up(u, row);
        u->marked[row] = true;
        u->rows[u->n_rows++] = (uint32_t)row;
    }
}

double row_updates_step(row_updates *u, float *gradients)
{
    encoder *e = u->e;
    const size_t width = e->shape.n_embd, vocabulary = e->tensors[0].offset, rest = e->tensors[1].offset;
    const double others = gradient_norm(gradients + rest, e->n_parameters - rest);
    double squares = others * others;
    for (size_t i = 0; i < u->n_rows; i++) {
        const double norm = gradient_norm(gradients + vocabulary + u->rows[i] * width, width);
        squares += norm * norm;
    }
    const double norm = sqrt(squares);
    if (!isfinite(norm))
        return norm;
    const adamw options = update_options(u->o, learning_rate_at(u->o, u->step, u->steps), u->step + 1, norm);
    update_tensors(e, 1, gradients, u->moment1, u->moment2, &options);
    u->step++;
    for (size_t i = 0; i < u->n_rows; i++) {
        const size_t row = u->rows[i], at = vocabulary + row * width;
        adamw_step(e->parameters + at, gradients + at, u->moment1 + at, u->moment2 + at, width, e->tensors[0].decay,
                   &options);
        u->done[row] = u->step;
        u->marked[row] = false;
    }
    u->n_rows = 0;
    return norm;
}

size_t row_updates_met(const row_updates *u, const uint32_t **rows)
{
    *rows = u->rows;
    return u->n_rows;
}

void row_updates_finish(row_updates *u)
{
    for (size_t row = 0; row < u->e->shape.n_vocab; row++)
        catch_up(u, row);
}
