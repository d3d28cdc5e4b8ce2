/* program_internal.h: what program.c (statements) and expression.c (their right-hand sides) share. */
#ifndef DRR_TASK_PROGRAM_INTERNAL_H
#define DRR_TASK_PROGRAM_INTERNAL_H

#include "task/linear.h"

enum { MOST_NAMES = 128, MOST_ITEMS = 32, DEEPEST = 40 };

typedef enum value_kind { VALUE_NUMBER, VALUE_EQUATION, VALUE_LIST, VALUE_SOLVED, VALUE_TEXT } value_kind;

typedef struct value {
    value_kind kind;
    linear number;       /* of a number; of an equation: left side minus right side */
    struct value *items; /* of a list, and of what solve gave */
    const int *unknown;  /* of what solve gave: which unknown each item stands for */
    const char *text;    /* of a text */
    size_t n;            /* items, or bytes of the text */
    bool system;         /* solve was given a list: what it gave has names and no places */
} value;

typedef struct name {
    const char *text;
    size_t length;
    bool known;
    value value;
} name;

typedef struct program {
    const char *p, *end; /* of the statement being read */
    name names[MOST_NAMES];
    size_t n_names;
    name unknowns[LINEAR_UNKNOWNS]; /* only their names */
    int n_unknowns, depth;
    bool failed;  /* this statement was not understood */
    bool stopped; /* a name was used that nothing has set: run, the program would stop there */
    arena *memory;
} program;

/* Reads one expression at g->p and works out its value; g->failed says that it was not understood. */
value expression(program *g);
/* Is this operator or word next, after spaces and comments? Then it is passed over. Words end at a word's end. */
bool program_take(program *g, const char *what);
void program_skip_space(program *g);
bool program_name_byte(char c);
name *program_find_name(program *g, const char *text, size_t length);
bool value_is_constant(const value *v); /* a number without unknowns */

#endif
