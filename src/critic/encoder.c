/* encoder.c: an encoder's shape, its table of tensors and its parameters in one arena. Which tensors a family has is
 * encoder_family.c's. What is computed with them is encoder_forward.c's, and training's backward.c's; reading and
 * writing files is safetensors.c's and gguf.c's. */
#include "critic/encoder_family.h"

#include <stdlib.h>
#include <string.h>

static uint32_t extent(const encoder_shape *shape, char code)
{
    switch (code) {
    case 'd':
        return shape->n_embd;
    case '3':
        return 3 * shape->n_embd;
    case 'f':
        return shape->n_ff;
    case 'g':
        return 2 * shape->n_ff;
    case 'v':
        return shape->n_vocab;
    case 'p':
        return shape->n_positions;
    case 't':
        return shape->n_types;
    default:
        return 1;
    }
}

static void add_tensor(encoder *e, const tensor_kind *kind, const char *prefix, const char *hf_prefix)
{
    encoder_tensor *t = &e->tensors[e->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, kind->name);
    snprintf(t->hf_name, sizeof t->hf_name, "%s%s", hf_prefix, kind->hf_name);
    t->rows = extent(&e->shape, kind->rows);
    t->columns = extent(&e->shape, kind->columns);
    t->offset = e->n_parameters;
    t->decay = kind->decay;
    e->n_parameters += (size_t)t->rows * t->columns;
}

/* Bounds that keep every product of extents far from overflow; the largest BERT is well inside them. */
static drr_status check_shape(const encoder_shape *s, drr_error *err)
{
    if (!s->n_layers || !s->n_embd || !s->n_heads || !s->n_ff || !s->n_vocab || !s->n_positions || !s->n_types)
        return error_set(err, DRR_E_FORMAT,
                         "the encoder's shape has a zero in it: layers %u, width %u, heads %u, "
                         "feed-forward %u, vocabulary %u, positions %u, types %u",
                         s->n_layers, s->n_embd, s->n_heads, s->n_ff, s->n_vocab, s->n_positions, s->n_types);
    if (s->n_layers > 256 || s->n_embd > 16384 || s->n_ff > 65536 || s->n_vocab > 4000000 || s->n_positions > 131072 ||
        s->n_types > 1024)
        return error_set(err, DRR_E_LIMIT,
                         "the encoder's shape is beyond what drr handles: layers %u, width %u, "
                         "feed-forward %u, vocabulary %u, positions %u",
                         s->n_layers, s->n_embd, s->n_ff, s->n_vocab, s->n_positions);
    if ((unsigned)s->family >= ENCODER_FAMILIES)
        return error_set(err, DRR_E_FORMAT, "the encoder's family is number %u, which there is not",
                         (unsigned)s->family);
    if (family_of(s)->rotary && (!s->global_every || !(s->rope_base > 1) || !(s->rope_base_local > 1) ||
                                 s->window < 2 || s->window > 1 << 20 || s->n_embd / s->n_heads % 2))
        return error_set(err, DRR_E_FORMAT,
                         "the encoder's attention cannot be: a window of %u, every layer in %u global, rotary bases %g "
                         "and %g, %u heads of width %u",
                         s->window, s->global_every, (double)s->rope_base, (double)s->rope_base_local, s->n_heads,
                         s->n_embd / s->n_heads);
    if (s->n_embd % s->n_heads)
        return error_set(err, DRR_E_FORMAT, "the encoder's width %u is not a multiple of its %u attention heads",
                         s->n_embd, s->n_heads);
    return DRR_OK;
}

static tensor_kinds layer_kinds(const family *f, uint32_t layer)
{
    const size_t skipped = layer ? 0 : f->not_in_first;
    return (tensor_kinds){f->layer.kinds + skipped, f->layer.n - skipped};
}

static tensor_kinds head_kinds(const family *f, drr_head head)
{
    return head == DRR_HEAD_TOKEN ? f->token_head : f->head;
}

drr_status encoder_new(encoder **e, const encoder_shape *shape, drr_error *err)
{
    return encoder_new_headed(e, shape, DRR_HEAD_CLS, err);
}

drr_status encoder_new_headed(encoder **out, const encoder_shape *shape, drr_head head, drr_error *err)
{
    drr_status status = check_shape(shape, err);
    if (status != DRR_OK)
        return status;
    const family *f = family_of(shape);
    const tensor_kinds of_head = head_kinds(f, head);
    if (of_head.n == 0)
        return error_set(err, DRR_E_ARGUMENT,
                         "a head of tokens (--head token, --steps) is made for BERT alone, and the encoder is a %s",
                         f->model_type);
    encoder *e = calloc(1, sizeof *e);
    if (!e)
        return error_memory(err);
    e->shape = *shape;
    e->head = head;
    const size_t n = f->embeddings.n + f->layer.n * shape->n_layers + of_head.n;
    e->tensors = calloc(n, sizeof *e->tensors);
    if (!e->tensors) {
        status = error_memory(err);
        goto done;
    }
    for (size_t i = 0; i < f->embeddings.n; i++)
        add_tensor(e, &f->embeddings.kinds[i], "", "");
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        const tensor_kinds kinds = layer_kinds(f, layer);
        char prefix[32], hf_prefix[32];
        snprintf(prefix, sizeof prefix, "blk.%u.", layer);
        snprintf(hf_prefix, sizeof hf_prefix, "%s%u.", f->hf_layers, layer);
        for (size_t i = 0; i < kinds.n; i++)
            add_tensor(e, &kinds.kinds[i], prefix, hf_prefix);
    }
    for (size_t i = 0; i < of_head.n; i++)
        add_tensor(e, &of_head.kinds[i], "", "");
    const size_t bytes = (e->n_parameters * sizeof(float) + 63) / 64 * 64;
    e->parameters = aligned_alloc(64, bytes);
    if (!e->parameters) {
        status = error_memory(err);
        goto done;
    }
    memset(e->parameters, 0, bytes);
done:
    if (status == DRR_OK)
        *out = e;
    else
        encoder_free(e);
    return status;
}

void encoder_free(encoder *e)
{
    if (!e)
        return;
    free(e->tensors);
    free(e->parameters);
    free(e);
}

const encoder_tensor *encoder_find(const encoder *e, const char *name)
{
    for (size_t i = 0; i < e->n_tensors; i++)
        if (strcmp(e->tensors[i].name, name) == 0)
            return &e->tensors[i];
    return NULL;
}

static void point(void *view, tensor_kinds kinds, const encoder_tensor *t, float *base)
{
    for (size_t i = 0; i < kinds.n; i++)
        if (kinds.kinds[i].view != NOT_VIEWED)
            *(float **)((uintptr_t)view + kinds.kinds[i].view) = base + t[i].offset;
}

void encoder_view_at(encoder_view *view, const encoder *e, float *base)
{
    const family *f = family_of(&e->shape);
    const tensor_kinds of_head = head_kinds(f, e->head);
    *view = (encoder_view){0};
    point(view, f->embeddings, e->tensors, base);
    point(view, of_head, e->tensors + e->n_tensors - of_head.n, base);
}

void encoder_layer_view_at(encoder_layer_view *view, const encoder *e, float *base, uint32_t layer)
{
    const family *f = family_of(&e->shape);
    const size_t skipped = layer ? f->not_in_first : 0;
    const size_t width = e->shape.n_embd;
    *view = (encoder_layer_view){0};
    point(view, layer_kinds(f, layer), e->tensors + f->embeddings.n + f->layer.n * layer - skipped, base);
    if (!view->kv_weight) /* the three lie in one tensor */
        view->kv_weight = view->q_weight + width * width;
}
