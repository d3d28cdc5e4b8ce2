/* test_guard_products.c: a bf16 product reads and writes its own operands and nothing else: each stands between pages
 * that nobody may touch, once with its end at one and once with its beginning, at every number of rows up to two pieces
 * for small shapes, at some for large ones, for all kinds and for the shapes of encoders large, small and odd. What is
 * documented as unused, the rows up to the next multiple of PRODUCT_ROWS, belongs to an operand. */
#include "guard/guarded.h"
#include "tensor/bf16.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MOST_ROWS = 4500 };

typedef struct operands {
    guarded x, y, dx, dy, sum, w, dw, bias, packed[3];
} operands;

static const product_kind packed_kinds[3] = {PRODUCT_FORWARD, PRODUCT_BACK, PRODUCT_BACK_ADD};

static guarded take(size_t size, bool at_end, uint64_t seed, bool is_float)
{
    guarded g = guarded_new(size, at_end);
    rng r;
    assert_non_null(g.data);
    rng_seed(&r, seed);
    if (is_float)
        for (size_t i = 0; i < size / sizeof(float); i++)
            ((float *)(void *)g.data)[i] = (float)rng_uniform(&r) - 0.5f;
    else
        for (size_t i = 0; i < size / sizeof(bf16); i++)
            ((bf16 *)(void *)g.data)[i] = bf16_of((float)rng_uniform(&r) - 0.5f);
    return g;
}

static operands operands_new(const products *p, size_t in, size_t out, size_t rows, bool at_end)
{
    const size_t all = product_rows(rows);
    operands o = {.x = take(all * in * sizeof(bf16), at_end, 1, false),
                  .y = take(all * out * sizeof(bf16), at_end, 2, false),
                  .dx = take(all * in * sizeof(bf16), at_end, 3, false),
                  .dy = take(all * out * sizeof(bf16), at_end, 4, false),
                  .sum = take(all * in * sizeof(float), at_end, 5, true),
                  .w = take(in * out * sizeof(float), at_end, 6, true),
                  .dw = take(in * out * sizeof(float), at_end, 7, true),
                  .bias = take(out * sizeof(float), at_end, 8, true)};
    for (size_t i = 0; i < 3; i++)
        o.packed[i] = take(products_packed(p, packed_kinds[i], in, out) * sizeof(bf16), at_end, 9, false);
    return o;
}

static void operands_free(operands *o, size_t in, size_t out, size_t rows)
{
    guarded *all[] = {&o->x,  &o->y,    &o->dx,        &o->dy,        &o->sum,      &o->w,
                      &o->dw, &o->bias, &o->packed[0], &o->packed[1], &o->packed[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!guarded_free(all[i]))
            fail_msg("operand %zu of %zu by %zu, %zu rows: something was written beside it", i, in, out, rows);
}

static void run_all(products *p, operands *o, size_t in, size_t out, size_t rows)
{
    bf16 *packed[3];
    for (size_t i = 0; i < 3; i++) {
        packed[i] = (bf16 *)(void *)o->packed[i].data;
        products_pack(p, packed_kinds[i], in, out, packed[i], (const float *)(const void *)o->w.data);
    }
    bf16 *x = (bf16 *)(void *)o->x.data, *dy = (bf16 *)(void *)o->dy.data;
    products_run(p, PRODUCT_FORWARD, in, out, rows, o->y.data, x, packed[0], (const float *)(const void *)o->bias.data);
    products_run(p, PRODUCT_BACK, in, out, rows, o->dx.data, dy, packed[1], NULL);
    products_run(p, PRODUCT_BACK_ADD, in, out, rows, o->sum.data, dy, packed[2], NULL);
    products_weight(p, in, out, rows, (float *)(void *)o->dw.data, dy, x);
    assert_int_equal(products_check(p, NULL), DRR_OK);
}

static products *products_of(size_t in, size_t out, size_t most)
{
    static const product_kind kinds[] = {PRODUCT_FORWARD, PRODUCT_BACK, PRODUCT_BACK_ADD, PRODUCT_WEIGHT};
    products *p = NULL;
    assert_int_equal(products_new(&p, most, NULL), DRR_OK);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_int_equal(products_add(p, kinds[i], in, out, NULL), DRR_OK);
    return p;
}

static void check_rows(products *p, size_t in, size_t out, size_t rows)
{
    for (int at_end = 0; at_end < 2; at_end++) {
        operands o = operands_new(p, in, out, rows, at_end);
        run_all(p, &o, in, out, rows);
        operands_free(&o, in, out, rows);
    }
}

/* in, out: MiniLM's five products, BERT-base's, and widths that no vector divides. */
static const size_t shapes[][2] = {{384, 384},  {384, 768}, {384, 1536}, {1536, 384}, {768, 1536}, {768, 3072},
                                   {3072, 768}, {16, 32},   {32, 16},    {24, 72},    {52, 104},   {1, 1},
                                   {7, 3},      {33, 65},   {100, 10},   {312, 1200}};

static void products_touch_their_operands_alone(void **state)
{
    static const size_t large[] = {191, 192, 193, 1000, 2047, 2048, 2049, 4159, MOST_ROWS};
    (void)state;
    if (!bf16_is_native())
        skip();
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t in = shapes[s][0], out = shapes[s][1];
        products *p = products_of(in, out, MOST_ROWS);
        const size_t step = in * out > 100000 ? 31 : 1;
        for (size_t rows = 1; rows <= 2 * PRODUCT_ROWS; rows += step)
            check_rows(p, in, out, rows);
        for (size_t i = 0; i<sizeof large / sizeof *large; i += in * out> 100000 ? 4 : 1)
            check_rows(p, in, out, large[i]);
        products_free(p);
    }
}

static void so_they_do_on_several_threads(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    parallel_set_threads(3); /* more than a small product has work for */
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        products *p = products_of(shapes[s][0], shapes[s][1], 300);
        for (size_t rows = 1; rows <= 300; rows += 97)
            check_rows(p, shapes[s][0], shapes[s][1], rows);
        products_free(p);
    }
    parallel_set_threads(0);
}

/* The largest piece is made for the most rows that were announced, and not for more. */
static void so_they_do_where_few_rows_were_announced(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    for (size_t most = 1; most <= 200; most += 33) {
        products *p = products_of(48, 80, most);
        for (size_t rows = 1; rows <= most; rows++)
            check_rows(p, 48, 80, rows);
        products_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_touch_their_operands_alone),
        cmocka_unit_test(so_they_do_on_several_threads),
        cmocka_unit_test(so_they_do_where_few_rows_were_announced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
