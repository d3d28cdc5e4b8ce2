/* encoder_int8.c: a pass in 8-bit integers, for scoring alone (docs/model.md, "Precision"): products with weights take
 * integers; attention, norms, GELU, the residual stream, embeddings and head are fp32.
 *
 * Between two attentions each row goes its own way: output, norm, up, GELU, down, norm, and the next layer's queries,
 * keys and values. So a thread takes a block of rows through all of that while it lies in its caches, and threads wait
 * for one another twice a layer. As in every pass only the rows that the head reads ask in the last layer. */
#include "critic/encoder_int8_internal.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 64, TILE = 8 };

enum { LINEAR_Q, LINEAR_KV, LINEAR_OUTPUT, LINEAR_UP, LINEAR_DOWN, LINEARS };

typedef struct int8_layer {
    int8_weights linear[LINEARS];
} int8_layer;

typedef struct int8_room { /* of one thread */
    float *wide;           /* [BLOCK_ROWS][max(n_ff, n_embd)] */
    float *attention;
    int8_rows rows; /* BLOCK_ROWS of max(n_ff, n_embd) */
} int8_room;

struct encoder_int8_pass {
    int8_layer *layers;
    int8_room *rooms; /* [threads] */
    uint8_t *packed, *room_bytes;
    float *scales, *room_floats;
};

static size_t wide_of(const encoder_shape *s)
{
    return s->n_ff > s->n_embd ? s->n_ff : s->n_embd;
}

static size_t lines(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static int8_weights weights_of(const encoder_shape *s, int which)
{
    const size_t width = s->n_embd, ff = s->n_ff;
    const int8_weights all[LINEARS] = {
        {.in = width, .out = width}, {.in = width, .out = 2 * width}, {.in = width, .out = width},
        {.in = width, .out = ff},    {.in = ff, .out = width},
    };
    return all[which];
}

static drr_status make_weights(encoder_int8_pass *p, const encoder_shape *s, drr_error *err)
{
    size_t bytes = 0, scales = 0;
    for (int which = 0; which < LINEARS; which++) {
        const int8_weights w = weights_of(s, which);
        bytes += (int8_packed(w.in, w.out) + 63) / 64 * 64;
        scales += 2 * lines(int8_scales(w.out)); /* and sums */
    }
    p->layers = calloc(s->n_layers, sizeof *p->layers);
    p->packed = aligned_alloc(64, bytes * s->n_layers);
    p->scales = aligned_alloc(64, scales * s->n_layers * sizeof *p->scales);
    if (!p->layers || !p->packed || !p->scales)
        return error_memory(err);
    uint8_t *data = p->packed;
    float *scale = p->scales;
    for (uint32_t i = 0; i < s->n_layers; i++)
        for (int which = 0; which < LINEARS; which++) {
            int8_weights *w = &p->layers[i].linear[which];
            *w = weights_of(s, which);
            w->data = data;
            w->scale = scale;
            w->sum = scale + lines(int8_scales(w->out));
            data += (int8_packed(w->in, w->out) + 63) / 64 * 64;
            scale += 2 * lines(int8_scales(w->out));
        }
    return DRR_OK;
}

static drr_status make_rooms(encoder_int8_pass *p, const encoder_shape *s, size_t longest, uint32_t threads,
                             drr_error *err)
{
    const size_t wide = lines(BLOCK_ROWS * wide_of(s)), ld = int8_ld(wide_of(s));
    const size_t attention = lines(score_attention_scratch(longest, s->n_embd / s->n_heads));
    const size_t floats = wide + attention + 3 * BLOCK_ROWS; /* and scales, zeros and offsets */
    p->rooms = calloc(threads, sizeof *p->rooms);
    p->room_floats = aligned_alloc(64, floats * threads * sizeof(float));
    p->room_bytes = aligned_alloc(64, BLOCK_ROWS * ld * threads);
    if (!p->rooms || !p->room_floats || !p->room_bytes)
        return error_memory(err);
    for (uint32_t t = 0; t < threads; t++) {
        float *at = p->room_floats + t * floats;
        p->rooms[t] = (int8_room){.wide = at,
                                  .attention = at + wide,
                                  .rows = {.data = (int8_t *)p->room_bytes + t * BLOCK_ROWS * ld,
                                           .scale = at + wide + attention,
                                           .zero = at + wide + attention + BLOCK_ROWS,
                                           .offset = (int32_t *)(void *)(at + wide + attention + 2 * BLOCK_ROWS),
                                           .ld = ld}};
    }
    return DRR_OK;
}

drr_status encoder_int8_new(encoder_int8_pass **out, const encoder *e, size_t longest, uint32_t threads, drr_error *err)
{
    encoder_int8_pass *p = calloc(1, sizeof *p);
    if (!p)
        return error_memory(err);
    drr_status status = make_weights(p, &e->shape, err);
    if (status == DRR_OK)
        status = make_rooms(p, &e->shape, longest, threads, err);
    if (status == DRR_OK)
        *out = p;
    else
        encoder_int8_free(p);
    return status;
}

void encoder_int8_free(encoder_int8_pass *p)
{
    if (!p)
        return;
    free(p->layers);
    free(p->rooms);
    free(p->packed);
    free(p->scales);
    free(p->room_floats);
    free(p->room_bytes);
    free(p);
}

void encoder_int8_plan(encoder_workspace *w, encoder_planner *p, const encoder_shape *s)
{
    w->qkv = encoder_take(p, w->max_tokens, 3 * (size_t)s->n_embd);
    w->context = encoder_take(p, w->max_tokens, s->n_embd);
    w->cls = encoder_take(p, w->max_reads, s->n_embd);
}

void encoder_int8_pack(encoder_workspace *w, const encoder *e)
{
    for (uint32_t i = 0; i < e->shape.n_layers; i++) {
        encoder_layer_view p;
        encoder_layer_view_at(&p, e, e->parameters, i);
        const float *from[LINEARS] = {p.q_weight, p.kv_weight, p.output_weight, p.up_weight, p.down_weight};
        for (int which = 0; which < LINEARS; which++)
            int8_pack(&w->eight->layers[i].linear[which], from[which]);
    }
}

typedef struct int8_run { /* one pass */
    const encoder *e;
    encoder_workspace *w;
    const int32_t *ids;
    const uint32_t *starts;
    size_t n, tokens;
    const uint32_t *rows, *row_starts; /* what the head reads, row_starts[n] rows in all */
} int8_run;

/* Blocks of rows: as many as threads or a multiple of them, whole tiles, BLOCK_ROWS at most. */
static size_t block_size(size_t rows, uint32_t threads)
{
    const size_t rounds = (rows + threads * BLOCK_ROWS - 1) / (threads * BLOCK_ROWS), blocks = rounds * threads;
    const size_t size = (rows + blocks - 1) / blocks;
    return (size + TILE - 1) / TILE * TILE;
}

/* Queries, keys and values of a layer from rounded rows; the last layer's queries are ask()'s. */
static void make_qkv(const int8_run *r, uint32_t layer, const int8_rows *x, size_t first, size_t rows)
{
    const size_t width = r->e->shape.n_embd;
    const int8_weights *linear = r->w->eight->layers[layer].linear;
    float *to = r->w->qkv + first * 3 * width;
    encoder_layer_view p;
    encoder_layer_view_at(&p, r->e, r->e->parameters, layer);
    if (layer + 1 < r->e->shape.n_layers)
        int8_product(to, 3 * width, x, rows, &linear[LINEAR_Q], p.q_bias);
    int8_product(to + width, 3 * width, x, rows, &linear[LINEAR_KV], p.kv_bias);
}

/* Everything of a layer behind its attention, for `rows` rows of the stream. */
static void after_attention(const int8_run *r, uint32_t layer, const int8_room *room, float *stream,
                            const float *context, size_t rows, bool rounds)
{
    const encoder_shape *s = &r->e->shape;
    const size_t width = s->n_embd, ff = s->n_ff;
    const int8_weights *linear = r->w->eight->layers[layer].linear;
    encoder_layer_view p;
    encoder_layer_view_at(&p, r->e, r->e->parameters, layer);
    int8_round(&room->rows, context, rows, width);
    int8_product(room->wide, width, &room->rows, rows, &linear[LINEAR_OUTPUT], p.output_bias);
    int8_add_norm(&room->rows, stream, room->wide, p.norm1_gain, p.norm1_shift, rows, width, s->norm_epsilon);
    int8_product(room->wide, ff, &room->rows, rows, &linear[LINEAR_UP], p.up_bias);
    int8_gelu_round(&room->rows, room->wide, rows, ff);
    int8_product(room->wide, width, &room->rows, rows, &linear[LINEAR_DOWN], p.down_bias);
    int8_add_norm(rounds ? &room->rows : NULL, stream, room->wide, p.norm2_gain, p.norm2_shift, rows, width,
                  s->norm_epsilon);
}

static void embed(const int8_run *r, const int8_room *room, size_t first, size_t rows)
{
    const size_t width = r->e->shape.n_embd;
    encoder_view p;
    encoder_view_at(&p, r->e, r->e->parameters);
    size_t s = 0;
    while (r->starts[s + 1] <= first)
        s++;
    for (size_t t = first; t < first + rows; t++) {
        s += t >= r->starts[s + 1];
        const float *token = p.tokens + (size_t)r->ids[t] * width, *position = p.positions + (t - r->starts[s]) * width;
        float *x = r->w->x + t * width;
        for (size_t i = 0; i < width; i++)
            x[i] = token[i] + position[i] + p.types[i];
    }
    int8_add_norm(&room->rows, r->w->x + first * width, NULL, p.norm_gain, p.norm_shift, rows, width,
                  r->e->shape.norm_epsilon);
}

/* The last layer's rows that ask: the stream and the queries of those that the head reads. They end in w->cls, and the
 * queries in the first rows of each sequence in w->qkv, one after the other. */
static void ask(const int8_run *r, uint32_t layer, const int8_room *room, size_t first, size_t rows)
{
    const size_t width = r->e->shape.n_embd;
    const int8_weights *q = &r->w->eight->layers[layer].linear[LINEAR_Q];
    encoder_layer_view p;
    encoder_layer_view_at(&p, r->e, r->e->parameters, layer);
    for (size_t i = first; i < first + rows; i++)
        memcpy(r->w->cls + i * width, r->w->x + r->rows[i] * width, width * sizeof(float));
    int8_round(&room->rows, r->w->cls + first * width, rows, width);
    int8_product(room->wide, width, &room->rows, rows, q, p.q_bias);
    size_t s = 0;
    while (r->row_starts[s + 1] <= first)
        s++;
    for (size_t i = first; i < first + rows; i++) {
        s += i >= r->row_starts[s + 1]; /* none is without rows */
        memcpy(r->w->qkv + (r->starts[s] + i - r->row_starts[s]) * 3 * width, room->wide + (i - first) * width,
               width * sizeof(float));
    }
}

/* context: of every row, or of those that the head reads alone, one after the other. */
static void attend(const int8_run *r, const int8_room *room, size_t index, bool last)
{
    const encoder_shape *shape = &r->e->shape;
    const size_t width = shape->n_embd, head_width = width / shape->n_heads;
    const size_t s = index / shape->n_heads, column = index % shape->n_heads * head_width;
    const size_t begin = r->starts[s], n = r->starts[s + 1] - begin;
    const float *q = r->w->qkv + begin * 3 * width + column;
    const size_t to = last ? r->row_starts[s] : begin, n_q = last ? r->row_starts[s + 1] - to : n;
    score_attention(r->w->context + to * width + column, width, q, 3 * width, q + width, q + 2 * width, 3 * width, n_q,
                    n, head_width, room->attention);
}

/* Inside a parallel region: each loop's end is where threads wait for one another. */
static void run_layers(const int8_run *r)
{
    const encoder_shape *shape = &r->e->shape;
    const size_t width = shape->n_embd, pieces = r->n * shape->n_heads, reads = r->row_starts[r->n];
    const int8_room *room = &r->w->eight->rooms[tensor_thread()];
    const uint32_t threads = tensor_team();
    const size_t block = block_size(r->tokens, threads), few = block_size(reads, threads);
#pragma omp for schedule(dynamic)
    for (size_t first = 0; first < r->tokens; first += block) {
        const size_t rows = r->tokens - first < block ? r->tokens - first : block;
        embed(r, room, first, rows);
        make_qkv(r, 0, &room->rows, first, rows);
    }
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        const bool last = layer + 1 == shape->n_layers;
        if (last) {
#pragma omp for schedule(dynamic)
            for (size_t first = 0; first < reads; first += few)
                ask(r, layer, room, first, reads - first < few ? reads - first : few);
        }
#pragma omp for schedule(dynamic)
        for (size_t index = 0; index < pieces; index++)
            attend(r, room, index, last);
        const size_t all = last ? reads : r->tokens, step = last ? few : block;
        float *stream = last ? r->w->cls : r->w->x;
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < all; first += step) {
            const size_t rows = all - first < step ? all - first : step;
            after_attention(r, layer, room, stream + first * width, r->w->context + first * width, rows, !last);
            if (!last)
                make_qkv(r, layer + 1, &room->rows, first, rows);
        }
    }
}

void encoder_int8_logits(const encoder *e, encoder_workspace *w, const int32_t *ids, const uint32_t *starts, size_t n,
                         float *logits)
{
    const int8_run r = {e, w, ids, starts, n, starts[n], encoder_read_rows(w, starts, n), encoder_read_starts(w)};
    const size_t width = e->shape.n_embd, reads = r.row_starts[n];
    tensor_pass pass;
    encoder_view p;
    encoder_view_at(&p, e, e->parameters);
    tensor_begin(&pass, w->threads);
#pragma omp parallel
    run_layers(&r);
    if (p.pooler_weight) {
        linear_forward(w->pooled, w->cls, p.pooler_weight, p.pooler_bias, reads, width, width);
        tanh_forward(w->pooled, w->pooled, reads * width);
    }
    linear_forward(logits, p.pooler_weight ? w->pooled : w->cls, p.head_weight, p.head_bias, reads, width, 1);
    tensor_end(&pass);
}
