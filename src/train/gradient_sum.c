/* gradient_sum.c: one step's gradients of all ranks, added up beside the backward pass. */
#include "train/ranks_internal.h"

#include <stdlib.h>
#include <string.h>

struct gradient_sum {
    ranks *r;
    const encoder *e;
    float *gradients;
    float *rows;    /* [n_vocab][n_embd] at most: the vocabulary's rows that the step met, side by side */
    size_t *starts; /* [n_layers] where a layer's tensors begin */
    size_t open;    /* gradients[open ..] are posted */
    double *votes;
};

/* Where the tensors "blk.LAYER." begin; a layer's lie side by side, above them the next layer's, at the end the head's.
 */
static bool find_layers(size_t *starts, const encoder *e)
{
    char prefix[32];
    size_t t = 0;
    for (uint32_t layer = 0; layer < e->shape.n_layers; layer++) {
        snprintf(prefix, sizeof prefix, "blk.%u.", layer);
        while (t < e->n_tensors && strncmp(e->tensors[t].name, prefix, strlen(prefix)) != 0)
            t++;
        if (t == e->n_tensors)
            return false;
        starts[layer] = e->tensors[t].offset;
    }
    return true;
}

drr_status gradient_sum_new(gradient_sum **out, ranks *r, const encoder *e, float *gradients, drr_error *err)
{
    *out = NULL;
    if (!r)
        return DRR_OK;
    gradient_sum *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    *s = (gradient_sum){.r = r, .e = e, .gradients = gradients, .open = e->n_parameters};
    s->rows = malloc((size_t)e->shape.n_vocab * e->shape.n_embd * sizeof *s->rows);
    s->starts = calloc(e->shape.n_layers, sizeof *s->starts);
    s->votes = calloc(RANKS_VOTES + r->n, sizeof *s->votes);
    if (!s->rows || !s->starts || !s->votes) {
        gradient_sum_free(s);
        return error_memory(err);
    }
    if (!find_layers(s->starts, e)) {
        gradient_sum_free(s);
        return error_set(err, DRR_E_ARGUMENT, "an encoder whose layers have no names cannot be trained on ranks");
    }
    *out = s;
    return DRR_OK;
}

void gradient_sum_free(gradient_sum *s)
{
    if (!s)
        return;
    if (!s->r->lost) { /* else MPI may still be writing there */
        free(s->rows);
        free(s->votes);
    }
    free(s->starts);
    free(s);
}

static void post_down_to(gradient_sum *s, size_t start)
{
    if (start < s->open)
        s->r->t->sum_f32(s->gradients + start, s->open - start);
    s->open = start < s->open ? start : s->open;
}

void gradient_sum_ready(void *user, uint32_t layer)
{
    gradient_sum *s = user;
    post_down_to(s, s->starts[layer]);
}

/* Between the vocabulary's rows, where they lie and side by side. */
static void move_rows(gradient_sum *s, const row_updates *rows, bool out)
{
    const size_t width = s->e->shape.n_embd;
    const uint32_t *met;
    const size_t n = row_updates_met(rows, &met);
    for (size_t i = 0; i < n; i++) {
        float *row = s->gradients + s->e->tensors[0].offset + met[i] * width, *packed = s->rows + i * width;
        memcpy(out ? packed : row, out ? row : packed, width * sizeof *row);
    }
}

drr_status gradient_sum_finish(gradient_sum *s, const row_updates *rows, step_vote *vote, drr_status status,
                               drr_error *err)
{
    if (!s)
        return status;
    ranks *r = s->r;
    const uint32_t *met;
    for (uint32_t layer = s->e->shape.n_layers; layer-- > 0;) /* the same cuts as of a rank that had pieces */
        post_down_to(s, s->starts[layer]);
    post_down_to(s, s->e->tensors[1].offset);
    s->open = s->e->n_parameters;
    move_rows(s, rows, true);
    r->t->sum_f32(s->rows, row_updates_met(rows, &met) * s->e->shape.n_embd);
    drr_error waiting = {0};
    drr_status waited = ranks_wait(r, &waiting);
    if (waited == DRR_OK) { /* only now: a rank that votes has all sums, and so all have what it gave to them */
        memset(s->votes, 0, (RANKS_VOTES + r->n) * sizeof *s->votes);
        s->votes[0] = vote->loss;
        s->votes[1] = vote->cancelled;
        s->votes[2] = r->rank == 0 && vote->save_due;
        s->votes[RANKS_VOTES + r->rank] = (double)status;
        r->t->sum_f64(s->votes, RANKS_VOTES + r->n);
        waited = ranks_wait(r, &waiting);
    }
    if (waited != DRR_OK) {
        if (err && status == DRR_OK)
            *err = waiting;
        return status == DRR_OK ? waited : status;
    }
    move_rows(s, rows, false);
    *vote = (step_vote){.loss = s->votes[0], .cancelled = s->votes[1] > 0, .save_due = s->votes[2] > 0};
    return ranks_conclude(r, s->votes + RANKS_VOTES, status, err);
}
