/* linear.c: arithmetic on linear forms and elimination for a handful of unknowns. Small and plain: a program that a
 * language model writes for a word problem has one or two. */
#include "task/linear.h"

#include <math.h>

bool linear_is_constant(const linear *a)
{
    for (int i = 0; i < LINEAR_UNKNOWNS; i++)
        if (a->of[i] != 0)
            return false;
    return true;
}

int linear_unknown(const linear *a, double *factor)
{
    int found = -1;
    if (a->constant != 0)
        return -1;
    for (int i = 0; i < LINEAR_UNKNOWNS; i++) {
        if (a->of[i] == 0)
            continue;
        if (found >= 0)
            return -1;
        found = i;
        *factor = a->of[i];
    }
    return found;
}

void linear_add(linear *a, const linear *b, double factor)
{
    a->constant += factor * b->constant;
    for (int i = 0; i < LINEAR_UNKNOWNS; i++)
        if (b->of[i] != 0)
            a->of[i] += factor * b->of[i];
}

void linear_scale(linear *a, double factor)
{
    a->constant *= factor;
    for (int i = 0; i < LINEAR_UNKNOWNS; i++)
        if (a->of[i] != 0)
            a->of[i] *= factor;
}

bool linear_multiply(linear *a, const linear *b)
{
    if (linear_is_constant(b)) {
        linear_scale(a, b->constant);
        return true;
    }
    if (!linear_is_constant(a))
        return false;
    const double factor = a->constant;
    *a = *b;
    linear_scale(a, factor);
    return true;
}

bool linear_divide(linear *a, const linear *b)
{
    if (!linear_is_constant(b) || b->constant == 0)
        return false;
    a->constant /= b->constant;
    for (int i = 0; i < LINEAR_UNKNOWNS; i++)
        if (a->of[i] != 0)
            a->of[i] /= b->constant;
    return true;
}

bool linear_solve(linear *solutions, linear *equations, size_t n, const int *unknowns, size_t m)
{
    const double small = 1e-12;
    if (n < m || m == 0)
        return false;
    for (size_t k = 0; k < m; k++) {
        const int u = unknowns[k];
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(equations[i].of[u]) > fabs(equations[pivot].of[u]))
                pivot = i;
        if (fabs(equations[pivot].of[u]) < small)
            return false;
        const linear row = equations[pivot];
        equations[pivot] = equations[k];
        equations[k] = row;
        for (size_t i = 0; i < n; i++)
            if (i != k && equations[i].of[u] != 0) {
                linear_add(&equations[i], &row, -equations[i].of[u] / row.of[u]);
                equations[i].of[u] = 0;
            }
    }
    for (size_t i = m; i < n; i++) /* the rest must hold by itself */
        if (linear_is_constant(&equations[i]) && fabs(equations[i].constant) > 1e-6)
            return false;
    for (size_t k = 0; k < m; k++) {
        solutions[k] = equations[k];
        solutions[k].of[unknowns[k]] = 0;
        linear_scale(&solutions[k], -1 / equations[k].of[unknowns[k]]);
    }
    return true;
}
