/* isotonic.c: isotonic regression: the rising curve that is nearest to labels of 0 and 1, by pooling adjacent violators
 * (Ayer et al. 1955). It bends where a line in log-odds cannot, and needs more rows for it: calibrate.c decides. */
#include "critic/critic.h"

#include <math.h>
#include <stdlib.h>

typedef struct pool { /* rows whose p is one number: sums of weight, weight * x, weight * label */
    double weight, x, right;
} pool;

static int x_compare(const void *a, const void *b)
{
    const double x = ((const pool *)a)->x, y = ((const pool *)b)->x;
    return (x > y) - (x < y);
}

static double level(const pool *p)
{
    return p->right / p->weight;
}

static void join(pool *into, const pool *other)
{
    into->weight += other->weight;
    into->x += other->x;
    into->right += other->right;
}

/* Rows by x, with x still the row's own; equal x are one, for the curve has one value there. Then their sums. */
static size_t gather(pool *pools, size_t n)
{
    size_t n_pools = 0;
    qsort(pools, n, sizeof *pools, x_compare);
    for (size_t i = 0; i < n; i++) {
        if (n_pools && !(pools[i].x > pools[n_pools - 1].x)) {
            pools[n_pools - 1].weight += pools[i].weight;
            pools[n_pools - 1].right += pools[i].right;
        } else {
            pools[n_pools++] = pools[i];
        }
    }
    for (size_t i = 0; i < n_pools; i++)
        pools[i].x *= pools[i].weight;
    return n_pools;
}

/* A pool no higher than the one before it is joined to it, until the levels rise. */
static size_t pool_violators(pool *pools, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        pools[kept++] = pools[i];
        while (kept > 1 && level(&pools[kept - 1]) <= level(&pools[kept - 2])) {
            join(&pools[kept - 2], &pools[kept - 1]);
            kept--;
        }
    }
    return kept;
}

/* To as many knots as there is room for: the lightest two neighbours become one, whose level lies between theirs. */
static size_t thin(pool *pools, size_t n, size_t most)
{
    while (n > most) {
        size_t lightest = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (pools[i].weight + pools[i + 1].weight < pools[lightest].weight + pools[lightest + 1].weight)
                lightest = i;
        join(&pools[lightest], &pools[lightest + 1]);
        for (size_t i = lightest + 1; i + 1 < n; i++)
            pools[i] = pools[i + 1];
        n--;
    }
    return n;
}

drr_status curve_fit(curve *c, const double *x, const uint8_t *labels, const double *weights, size_t n, drr_error *err)
{
    double total = 0;
    size_t rows = 0;
    if (n == 0)
        return error_set(err, DRR_E_EMPTY, "there are no rows to calibrate on");
    pool *pools = calloc(n, sizeof *pools);
    if (!pools)
        return error_memory(err);
    for (size_t i = 0; i < n; i++) {
        const double w = weights ? weights[i] : 1;
        if (!isfinite(x[i])) {
            free(pools);
            return error_set(err, DRR_E_ARGUMENT, "row %zu of the rows to calibrate on has no finite logit", i);
        }
        if (w > 0)
            pools[rows++] = (pool){w, x[i], labels[i] ? w : 0};
        total += w > 0 ? w : 0;
    }
    const size_t n_pools = thin(pools, pool_violators(pools, gather(pools, rows)), CURVE_MOST_KNOTS);
    const double least = 1 / (total + 2);
    *c = (curve){.n = (uint32_t)n_pools};
    for (size_t i = 0; i < n_pools; i++) {
        c->x[i] = pools[i].x / pools[i].weight;
        c->y[i] = fmin(1 - least, fmax(least, level(&pools[i])));
    }
    free(pools);
    return DRR_OK;
}

double curve_at(const curve *c, double x)
{
    uint32_t above = 0;
    while (above < c->n && c->x[above] < x)
        above++;
    if (above == 0)
        return c->y[0];
    if (above == c->n)
        return c->y[c->n - 1];
    const double share = (x - c->x[above - 1]) / (c->x[above] - c->x[above - 1]);
    return c->y[above - 1] + share * (c->y[above] - c->y[above - 1]);
}
