/* number.h: numbers as people and models write them (number.c), for extraction and grading. */
#ifndef DRR_TASK_NUMBER_H
#define DRR_TASK_NUMBER_H

#include "core/core.h"

/* Reads one number at text[*at]: sign, currency, thousands commas, decimals, exponent, "3/4", "1 1/2", "50%",
 * "\frac{3}{4}". On success moves *at behind it. A percent sign is passed over: "50%" reads as 50. */
bool number_read(const char *text, size_t length, size_t *at, double *value);
/* The shortest decimal text that reads back as this value to 12 digits: "12.5", "-3", "0.333333333333". */
void number_print(char *out, size_t size, double value);
bool number_equal(double a, double b);

#endif
