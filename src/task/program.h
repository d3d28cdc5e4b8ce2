/* program.h: answers written as a program (program.c): what extraction needs to know of them. */
#ifndef DRR_TASK_PROGRAM_H
#define DRR_TASK_PROGRAM_H

#include "core/core.h"

typedef enum program_outcome {
    PROGRAM_NONE,   /* the text is no program that sets `answer` */
    PROGRAM_FAILED, /* it is one, and its value cannot be worked out here */
    PROGRAM_VALUE
} program_outcome;

/* Works out the value that a short program gives the name `answer`. Nothing is run: see program.c for the few
 * statements that are understood. *begin and *end are the bytes of the expression last assigned to it. */
program_outcome program_evaluate(double *result, size_t *begin, size_t *end, const char *text, size_t length);

#endif
