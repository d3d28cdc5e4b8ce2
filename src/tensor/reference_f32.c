/* reference_f32.c: the plain kernels in float, which the fast ones must match. */
#define real float
#define KERNEL(name) reference_##name##_f32
#include "tensor/reference_internal.h"
