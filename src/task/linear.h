/* linear.h: numbers that may hold unknowns, a + b*x + c*y, and equations between them (linear.c), for program.c. */
#ifndef DRR_TASK_LINEAR_H
#define DRR_TASK_LINEAR_H

#include "core/core.h"

enum { LINEAR_UNKNOWNS = 8 };

typedef struct linear {
    double constant, of[LINEAR_UNKNOWNS];
} linear;

bool linear_is_constant(const linear *a);
/* Which unknown this is a multiple of, with its factor; -1: of none. */
int linear_unknown(const linear *a, double *factor);
void linear_add(linear *a, const linear *b, double factor); /* a += factor * b */
void linear_scale(linear *a, double factor);
/* a * b and a / b, where at most one (the divisor: neither) holds unknowns; false otherwise. */
bool linear_multiply(linear *a, const linear *b);
bool linear_divide(linear *a, const linear *b);
/* Solves n equations (each form = 0) for m unknowns, in terms of the others; equations are used up as scratch.
 * solutions[i] belongs to unknowns[i]. False when there is no single solution. */
bool linear_solve(linear *solutions, linear *equations, size_t n, const int *unknowns, size_t m);

#endif
