/* code.h: answers of the kind "checked": programs, or whatever else a checker judges (code.c). */
#ifndef DRR_TASK_CODE_H
#define DRR_TASK_CODE_H

#include "task/task.h"

/* Where the answer lies in [begin, length) of the text. */
bool code_find(const drr_task *task, const char *text, size_t begin, size_t length, size_t *at, size_t *end);
/* Has a fence just been closed behind an answer? */
bool code_complete(const drr_task *task, const char *text, size_t length);
/* The same but for blank lines and white space at the ends of lines; indentation counts. */
bool code_equal(const char *a, const char *b);

#endif
