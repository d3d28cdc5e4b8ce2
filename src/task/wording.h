/* wording.h: the built-in words of the prompts, one entry a kind (wording.c), as prompt.c uses and overrides them. */
#ifndef DRR_TASK_WORDING_H
#define DRR_TASK_WORDING_H

#include "task/task.h"

enum { WORDING_KINDS = 5, WORDING_EXAMPLES = 8, WORDING_CHECKED_REVISION = 1 };

typedef struct wording_example {
    const char *question; /* as the template's {question}, choices included */
    const char *answer;   /* what a good reasoner writes, answer line included */
} wording_example;

/* Places to fill in: {question}, {answer}, {format}; in feedback_score and feedback_step {score}, and {step}. */
typedef struct wording {
    const char *system;
    const char *format; /* how the answer line looks: "Answer: B" */
    const char *question;
    const char *feedback, *feedback_unparsed, *feedback_score, *feedback_step;
    const char *critique, *revise;
    const char *judge;   /* asks the reasoner whether its answer is right; the first word must be yes or no */
    const char *grammar; /* {letters} is filled in for choices; NULL: none */
    wording_example examples[WORDING_EXAMPLES];
    size_t n_examples;
} wording;

extern const wording wording_builtin[WORDING_KINDS]; /* by drr_kind */

#endif
