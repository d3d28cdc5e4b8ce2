/* extract_internal.h: what extract.c (where the final answer stands) and readers.c (what an answer of each kind looks
 * like) share. */
#ifndef DRR_TASK_EXTRACT_INTERNAL_H
#define DRR_TASK_EXTRACT_INTERNAL_H

#include "task/task.h"

/* A stretch of what a reasoner wrote, and the question it answers. */
typedef struct scope {
    const drr_task *task;
    const char *text;
    size_t begin, end;
} scope;

typedef struct found_answer {
    size_t begin, end; /* its bytes in the text */
    char text[256];    /* normalised */
} found_answer;

/* Passes over spaces, quotes and markup that may stand between a cue and its answer; with `lines`, over line ends too.
 */
size_t skip_decoration(const scope *s, size_t at, bool lines);
bool word_byte(const scope *s, size_t at); /* a letter, a digit or a byte of a longer character */

/* Is there an answer of the question's kind right at this place? */
bool answer_at(const scope *s, size_t at, found_answer *found);
/* The answer of a whole statement, such as what follows "the answer is": right at its beginning, or further on. What
 * was written from `before` on may help to tell which of several numbers is meant. */
bool answer_within(const scope *s, size_t before, found_answer *found);
/* The answer of a text that announces none. */
bool answer_unannounced(const scope *s, found_answer *found);

#endif
