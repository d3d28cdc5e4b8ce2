/* critic_rate.c: how fast oneDNN multiplies the matrices of an encoder's training step when nothing else is done:
 *
 *     critic_rate [ROWS [SECONDS]]
 *
 * ROWS (3200) tokens go through every product that all-MiniLM-L6-v2 has in a whole layer, forward, back and for the
 * weights' gradients, in fp32 and, where the CPU multiplies it itself, in bf16; weights are packed beforehand, operands
 * lie apart as in training. One line each: `fp32 gflops=X`, `bf16 gflops=Y`: all operations over the fastest time of
 * each product, of as many turns as fit SECONDS (4). bench/critic-train takes the share of a training step from it. */
#include "tensor/bf16.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES = 5, KINDS = 3 };
static const size_t shapes[SHAPES][2] = {{384, 384}, {384, 768}, {384, 384}, {384, 1536}, {1536, 384}}; /* in, out */

typedef struct operands { /* of the largest product; fp32 and bf16 use the same memory */
    float *x, *y, *w;
    bf16 *packed;
} operands;

static void run_fp32(const operands *o, size_t in, size_t out, int kind, size_t rows)
{
    if (kind == 0)
        matmul(false, true, rows, out, in, o->x, in, o->w, in, 0.0f, o->y, out);
    else if (kind == 1)
        matmul(false, false, rows, in, out, o->y, out, o->w, in, 0.0f, o->x, in);
    else
        matmul(true, false, out, in, rows, o->y, out, o->x, in, 1.0f, o->w, in);
}

static void run_bf16(products *p, const operands *o, size_t in, size_t out, int kind, size_t rows)
{
    bf16 *x = (bf16 *)(void *)o->x, *y = (bf16 *)(void *)o->y;
    if (kind == 0)
        products_run(p, PRODUCT_FORWARD, in, out, rows, y, x, o->packed, o->w);
    else if (kind == 1)
        products_run(p, PRODUCT_BACK, in, out, rows, x, y, o->packed, NULL);
    else
        products_weight(p, in, out, rows, o->w, y, x);
}

static double rate(products *p, const operands *o, size_t rows, double seconds)
{
    double least[SHAPES][KINDS] = {{0}}, total = 0, operations = 0;
    const double end = clock_seconds() + seconds;
    for (int turn = 0; turn < 3 || clock_seconds() < end; turn++)
        for (int s = 0; s < SHAPES; s++)
            for (int kind = 0; kind < KINDS; kind++) {
                const double began = clock_seconds();
                if (p)
                    run_bf16(p, o, shapes[s][0], shapes[s][1], kind, rows);
                else
                    run_fp32(o, shapes[s][0], shapes[s][1], kind, rows);
                const double took = clock_seconds() - began;
                if (least[s][kind] <= 0 || took < least[s][kind])
                    least[s][kind] = took;
            }
    for (int s = 0; s < SHAPES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            total += least[s][kind];
            operations += 2.0 * (double)(rows * shapes[s][0] * shapes[s][1]);
        }
    return operations / total * 1e-9;
}

static drr_status prepare(products **p, operands *o, size_t rows, drr_error *err)
{
    static const product_kind kinds[KINDS] = {PRODUCT_FORWARD, PRODUCT_BACK, PRODUCT_WEIGHT};
    size_t packed = 0;
    drr_status status = products_new(p, rows, err);
    for (int s = 0; s < SHAPES; s++)
        for (int kind = 0; status == DRR_OK && kind < KINDS; kind++) {
            status = products_add(*p, kinds[kind], shapes[s][0], shapes[s][1], err);
            if (status != DRR_OK || kind == 2)
                continue;
            const size_t size = products_packed(*p, kinds[kind], shapes[s][0], shapes[s][1]);
            packed = size > packed ? size : packed;
        }
    if (status == DRR_OK && !(o->packed = calloc(packed + 64, sizeof(bf16))))
        status = error_memory(err);
    return status;
}

int main(int argc, char **argv)
{
    const size_t rows = argc > 1 ? strtoul(argv[1], NULL, 10) : 3200, most = product_rows(rows);
    const double seconds = argc > 2 ? strtod(argv[2], NULL) : 4;
    operands o = {calloc(most * 1536, sizeof(float)), calloc(most * 1536, sizeof(float)),
                  calloc((size_t)1536 * 384, sizeof(float)), NULL};
    products *p = NULL;
    drr_error err = {0};
    int code = 1;
    if (!rows || !o.x || !o.y || !o.w) {
        fprintf(stderr, "critic_rate: no rows, or no memory for them\n");
        goto done;
    }
    tensor_use_threads(parallel_threads());
    printf("fp32 gflops=%.1f\n", rate(NULL, &o, rows, seconds));
    if (bf16_is_native()) {
        drr_status status = prepare(&p, &o, rows, &err);
        const double found = status == DRR_OK ? rate(p, &o, rows, seconds) : 0;
        if (status == DRR_OK)
            status = products_check(p, &err);
        if (status != DRR_OK) {
            fprintf(stderr, "critic_rate: %s\n", err.message);
            goto done;
        }
        printf("bf16 gflops=%.1f\n", found);
    }
    code = 0;
done:
    products_free(p);
    free(o.x);
    free(o.y);
    free(o.w);
    free(o.packed);
    return code;
}
