/* product.c: bf16 matrix products over oneDNN's matmul, which takes AMX or AVX512_BF16, whichever the CPU has. A
 * primitive is code for one number of rows; making it costs about a millisecond and a batch has any number of rows. So
 * each product has primitives for 64, 128 .. 2048 rows, and rows are taken in such pieces, the largest first. The last
 * piece may read and write up to 63 rows past the batch: rows do not mix, so that they are garbage there and nowhere
 * else; where rows are added up (PRODUCT_WEIGHT) they are cleared first. Memory objects and scratch are made once: a
 * run allocates nothing. */
#include "tensor/bf16.h"

#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PIECES = 6, MOST_SHAPES = 32, LARGEST = PRODUCT_ROWS << (MOST_PIECES - 1) };

typedef struct piece {
    dnnl_primitive_t primitive;
    dnnl_memory_t a, c, scratch;
} piece;

typedef struct shape_products { /* one kind and shape */
    product_kind kind;
    size_t in, out;
    piece pieces[MOST_PIECES]; /* of PRODUCT_ROWS << i rows */
    dnnl_memory_t b, bias;     /* b: packed weights; of PRODUCT_WEIGHT: none, x has a piece's rows */
    dnnl_memory_t x[MOST_PIECES];
    dnnl_memory_desc_t weights; /* as oneDNN wants them */
    dnnl_primitive_t pack;      /* from plain fp32 */
    dnnl_memory_t plain;
} shape_products;

struct products {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    shape_products *shapes;
    size_t n;
    int n_pieces;
    void *scratch;
    size_t scratch_size;
    bool failed;
};

bool bf16_is_native(void)
{
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

drr_status products_new(products **out, size_t most_rows, drr_error *err)
{
    products *p = calloc(1, sizeof *p);
    if (!p || !(p->shapes = calloc(MOST_SHAPES, sizeof *p->shapes))) {
        products_free(p);
        return error_memory(err);
    }
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success) {
        products_free(p);
        return error_set(err, DRR_E_BACKEND, "oneDNN gives no engine for this CPU: use fp32");
    }
    p->n_pieces = 1;
    while (p->n_pieces < MOST_PIECES && (size_t)PRODUCT_ROWS << p->n_pieces <= product_rows(most_rows))
        p->n_pieces++;
    tensor_use_threads(parallel_threads()); /* oneDNN divides the work as it is made */
    *out = p;
    return DRR_OK;
}

void products_free(products *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++) {
        shape_products *s = &p->shapes[i];
        for (int k = 0; k < p->n_pieces; k++) {
            dnnl_primitive_destroy(s->pieces[k].primitive);
            dnnl_memory_destroy(s->pieces[k].a);
            dnnl_memory_destroy(s->pieces[k].c);
            dnnl_memory_destroy(s->pieces[k].scratch);
            dnnl_memory_destroy(s->x[k]);
        }
        dnnl_primitive_destroy(s->pack);
        dnnl_memory_destroy(s->b);
        dnnl_memory_destroy(s->bias);
        dnnl_memory_destroy(s->plain);
    }
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p->shapes);
    free(p->scratch);
    free(p);
}

static shape_products *find(const products *p, product_kind kind, size_t in, size_t out)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->shapes[i].kind == kind && p->shapes[i].in == in && p->shapes[i].out == out)
            return &p->shapes[i];
    return NULL;
}

static dnnl_status_t plain_desc(dnnl_memory_desc_t *d, size_t rows, size_t columns, bool transposed, dnnl_data_type_t t)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    const dnnl_dims_t strides = {transposed ? 1 : (dnnl_dim_t)columns, transposed ? (dnnl_dim_t)rows : 1};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, t, strides);
}

typedef struct operands { /* of C = A B */
    dnnl_memory_desc_t a, b, bias, c;
} operands;

/* For `rows` rows; first: oneDNN chooses the weights' layout, later pieces take the one it chose. */
static dnnl_status_t describe(operands *o, const shape_products *s, size_t rows, bool first)
{
    const bool forward = s->kind == PRODUCT_FORWARD, weight = s->kind == PRODUCT_WEIGHT;
    const bool wide = s->kind == PRODUCT_BACK_ADD || weight;
    const size_t m = weight ? s->out : rows, n = forward ? s->out : s->in, k = weight ? rows : forward ? s->in : s->out;
    const dnnl_dims_t weights = {(dnnl_dim_t)k, (dnnl_dim_t)n}, bias = {1, (dnnl_dim_t)n};
    dnnl_status_t status = plain_desc(&o->a, m, k, weight, dnnl_bf16);
    if (status == dnnl_success && weight)
        status = plain_desc(&o->b, k, n, false, dnnl_bf16);
    else if (status == dnnl_success && first)
        status = dnnl_memory_desc_init_by_tag(&o->b, 2, weights, dnnl_bf16, dnnl_format_tag_any);
    else
        o->b = s->weights;
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&o->bias, 2, bias, dnnl_f32, dnnl_ab);
    return status == dnnl_success ? plain_desc(&o->c, m, n, false, wide ? dnnl_f32 : dnnl_bf16) : status;
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attributes, bool adds)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && adds) {
        status = dnnl_post_ops_create(&ops);
        if (status == dnnl_success)
            status = dnnl_post_ops_append_sum(ops, 1.0f);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(*attributes, ops);
        dnnl_post_ops_destroy(ops);
    }
    return status;
}

static dnnl_status_t make_piece(products *p, shape_products *s, int k, bool first)
{
    piece *made = &s->pieces[k];
    operands o;
    dnnl_matmul_desc_t d;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = describe(&o, s, (size_t)PRODUCT_ROWS << k, first);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&d, &o.a, &o.b, s->kind == PRODUCT_FORWARD ? &o.bias : NULL, &o.c);
    if (status == dnnl_success)
        status = make_attributes(&attributes, s->kind == PRODUCT_BACK_ADD || s->kind == PRODUCT_WEIGHT);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&description, &d, attributes, p->engine, NULL);
    if (status != dnnl_success)
        goto done;
    if (first)
        s->weights = *dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    const size_t size = dnnl_memory_desc_get_size(scratch);
    p->scratch_size = size > p->scratch_size ? size : p->scratch_size;
    status = dnnl_primitive_create(&made->primitive, description);
    if (status == dnnl_success)
        status = dnnl_memory_create(&made->a, &o.a, p->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&made->c, &o.c, p->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&made->scratch, scratch, p->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && s->kind == PRODUCT_WEIGHT)
        status = dnnl_memory_create(&s->x[k], &o.b, p->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success && first && s->kind == PRODUCT_FORWARD)
        status = dnnl_memory_create(&s->bias, &o.bias, p->engine, DNNL_MEMORY_NONE);
done:
    dnnl_primitive_desc_destroy(description);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* From w[out][in] in fp32 to the layout and type of the product's B: w^T forward, w itself backward. */
static dnnl_status_t make_packing(products *p, shape_products *s)
{
    const bool forward = s->kind == PRODUCT_FORWARD;
    dnnl_memory_desc_t plain;
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = plain_desc(&plain, forward ? s->in : s->out, forward ? s->out : s->in, forward, dnnl_f32);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&description, &plain, p->engine, &s->weights, p->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&s->pack, description);
    if (status == dnnl_success)
        status = dnnl_memory_create(&s->plain, &plain, p->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&s->b, &s->weights, p->engine, DNNL_MEMORY_NONE);
    dnnl_primitive_desc_destroy(description);
    return status;
}

drr_status products_add(products *p, product_kind kind, size_t in, size_t out, drr_error *err)
{
    if (find(p, kind, in, out))
        return DRR_OK;
    if (p->n == MOST_SHAPES)
        return error_set(err, DRR_E_LIMIT, "more than %d shapes of products", MOST_SHAPES);
    const size_t before = p->scratch_size;
    shape_products *s = &p->shapes[p->n++];
    *s = (shape_products){.kind = kind, .in = in, .out = out};
    dnnl_status_t status = dnnl_success;
    for (int k = p->n_pieces; status == dnnl_success && k-- > 0;)
        status = make_piece(p, s, k, k + 1 == p->n_pieces);
    if (status == dnnl_success && kind != PRODUCT_WEIGHT)
        status = make_packing(p, s);
    if (status != dnnl_success)
        return error_set(err, DRR_E_BACKEND, "oneDNN makes no bf16 product of %zu by %zu (status %d): use fp32", in,
                         out, (int)status);
    if (p->scratch_size > before) {
        free(p->scratch);
        p->scratch = aligned_alloc(64, (p->scratch_size + 63) / 64 * 64);
        if (!p->scratch)
            return error_memory(err);
    }
    return DRR_OK;
}

size_t products_packed(const products *p, product_kind kind, size_t in, size_t out)
{
    return dnnl_memory_desc_get_size(&find(p, kind, in, out)->weights) / sizeof(bf16);
}

static void place(products *p, dnnl_memory_t memory, const void *at)
{
    if (dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)at) != dnnl_success)
        p->failed = true;
}

void products_pack(products *p, product_kind kind, size_t in, size_t out, bf16 *packed, const float *w)
{
    shape_products *s = find(p, kind, in, out);
    place(p, s->plain, w);
    place(p, s->b, packed);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, s->plain}, {DNNL_ARG_TO, s->b}};
    if (dnnl_primitive_execute(s->pack, p->stream, 2, arguments) != dnnl_success)
        p->failed = true;
}

static void run_piece(products *p, shape_products *s, int k, dnnl_memory_t b, const void *a, const void *c)
{
    const piece *at = &s->pieces[k];
    place(p, at->a, a);
    place(p, at->c, c);
    place(p, at->scratch, p->scratch);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, at->a},
                                         {DNNL_ARG_WEIGHTS, b},
                                         {DNNL_ARG_DST, at->c},
                                         {DNNL_ARG_SCRATCHPAD, at->scratch},
                                         {DNNL_ARG_BIAS, s->bias}};
    const int n = s->kind == PRODUCT_FORWARD ? 5 : 4;
    if (dnnl_primitive_execute(at->primitive, p->stream, n, arguments) != dnnl_success)
        p->failed = true;
}

/* The largest piece that `rows`, a multiple of PRODUCT_ROWS, has room for. */
static int largest_piece(const products *p, size_t rows)
{
    int k = p->n_pieces - 1;
    while ((size_t)PRODUCT_ROWS << k > rows)
        k--;
    return k;
}

void products_run(products *p, product_kind kind, size_t in, size_t out, size_t rows, void *result, const bf16 *rows_in,
                  const bf16 *packed, const float *bias)
{
    shape_products *s = find(p, kind, in, out);
    const size_t a_width = kind == PRODUCT_FORWARD ? in : out, c_width = kind == PRODUCT_FORWARD ? out : in;
    const size_t size = kind == PRODUCT_BACK_ADD ? sizeof(float) : sizeof(bf16);
    place(p, s->b, packed);
    if (bias)
        place(p, s->bias, bias);
    for (size_t at = 0, end = product_rows(rows), k; at < end; at += (size_t)PRODUCT_ROWS << k) {
        k = (size_t)largest_piece(p, end - at);
        run_piece(p, s, (int)k, s->b, rows_in + at * a_width, (char *)result + at * c_width * size);
    }
}

void products_weight(products *p, size_t in, size_t out, size_t rows, float *dw, bf16 *dy, bf16 *x)
{
    shape_products *s = find(p, PRODUCT_WEIGHT, in, out);
    const size_t end = product_rows(rows);
    memset(dy + rows * out, 0, (end - rows) * out * sizeof *dy);
    memset(x + rows * in, 0, (end - rows) * in * sizeof *x);
    for (size_t at = 0, k; at < end; at += (size_t)PRODUCT_ROWS << k) {
        k = (size_t)largest_piece(p, end - at);
        place(p, s->x[k], x + at * in);
        run_piece(p, s, (int)k, s->x[k], dy + at * out, dw);
    }
}

drr_status products_check(products *p, drr_error *err)
{
    const bool failed = p->failed;
    p->failed = false;
    return failed
               ? error_set(err, DRR_E_BACKEND, "oneDNN failed in a bf16 product: out of memory? try --precision fp32")
               : DRR_OK;
}
