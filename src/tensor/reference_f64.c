/* reference_f64.c: the plain kernels in double, whose gradients the tests check by finite differences. */
#define real double
#define KERNEL(name) reference_##name##_f64
#include "tensor/reference_internal.h"
