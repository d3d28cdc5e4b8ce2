/* drr/task.h: data sets, what a question is first asked with, and how an answer is found and graded. Part of drr.h. */
#ifndef DRR_TASK_PART_H
#define DRR_TASK_PART_H

#include "drr/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- data sets */

typedef enum drr_kind {
    DRR_KIND_CHOICE,
    DRR_KIND_NUMBER,
    DRR_KIND_BOOLEAN,
    DRR_KIND_TEXT,
    DRR_KIND_CHECKED /* a program decides what is right: a drr_checker */
} drr_kind;

const char *drr_kind_name(drr_kind kind);
drr_status drr_kind_parse(drr_kind *kind, const char *name, drr_error *err);

typedef struct drr_task {
    const char *task; /* name of the data set: "csqa" */
    const char *id;
    const char *question;
    const char *const *choices; /* n_choices texts, lettered A.. in order; NULL unless DRR_KIND_CHOICE */
    size_t n_choices;
    const char *answer; /* reference: a letter, a number, "yes"/"no" or text; "" when unknown. DRR_KIND_CHECKED: JSON,
                           {"tests": [...], "setup": "..."} of Python, or {"checker": "COMMAND"} */
    drr_kind kind;
} drr_task;

typedef struct drr_dataset drr_dataset;

/* Reads a data set. format: "drr" (JSONL of ../shared/data's shape), "gsm8k", "svamp", "csqa", "strategyqa",
 * "arc", "mmlu", or NULL to detect. name: NULL takes the file name up to its first dot. Errors name file and line. */
drr_status drr_dataset_open(drr_dataset **dataset, const char *path, const char *format, const char *name,
                            drr_error *err);
void drr_dataset_free(drr_dataset *dataset);
const char *drr_dataset_name(const drr_dataset *dataset);
size_t drr_dataset_count(const drr_dataset *dataset);
const drr_task *drr_dataset_at(const drr_dataset *dataset, size_t index); /* lives as long as the set */
/* "file:line" of a question, for messages; writes at most `size` bytes. */
void drr_dataset_place(char *place, size_t size, const drr_dataset *dataset, size_t index);
/* Writes the set as drr JSONL through a temporary name and rename. */
drr_status drr_dataset_write(const drr_dataset *dataset, const char *path, drr_error *err);

/* Questions of `test` that stand in `train` too. Case, spacing, the marks at a word's end, the order of choices, ids
 * and answers do not count. A limit takes the first questions of each set only; 0: all. */
typedef struct drr_overlap {
    size_t n, n_test;                                    /* how many, of how many */
    size_t test_set, test_index, train_set, train_index; /* the first one, and where it stands in `train` */
} drr_overlap;
drr_status drr_datasets_overlap(drr_overlap *overlap, const drr_dataset *const *train, size_t n_train,
                                size_t train_limit, const drr_dataset *const *test, size_t n_test, size_t test_limit,
                                drr_error *err);

typedef enum drr_label {
    DRR_LABEL_REJECT = 0,
    DRR_LABEL_ACCEPT = 1,
    DRR_LABEL_UNPARSED = 2,
    DRR_LABEL_UNLABELLED = 3 /* its checker could not decide: kept, never trained on */
} drr_label;

const char *drr_label_name(drr_label label);

/* The final answer written in `text`, normalised as its kind demands ("B", "12.5", "yes"), or NULL when none
 * can be found. *begin and *end (may be NULL) receive its bytes in `text`. The caller frees *answer. */
drr_status drr_answer_extract(char **answer, size_t *begin, size_t *end, const drr_task *task, const char *text,
                              drr_error *err);
/* Are two answers of this kind the same? "1,000.0" and "$1000" are, for numbers; programs that differ in blank lines
 * and in spaces at the ends of lines are. */
bool drr_answer_equal(drr_kind kind, const char *a, const char *b);
/* Extracts and compares with task->answer; what only a checker can decide is DRR_LABEL_UNLABELLED. */
drr_status drr_answer_grade(drr_label *label, const drr_task *task, const char *text, drr_error *err);

/* Where the steps of a text end (docs/formats.md, "Steps"): byte offsets just behind each, rising, the last one the
 * text's size; none of an empty text. The caller frees *ends. */
drr_status drr_step_ends(uint32_t **ends, size_t *n, drr_kind kind, const char *text, drr_error *err);

/* ---- prompts */

typedef struct drr_prompts drr_prompts;

/* The built-in prompts (path NULL) or a JSON file that overrides any part of them (docs/formats.md). */
drr_status drr_prompts_open(drr_prompts **prompts, const char *path, drr_error *err);
void drr_prompts_free(drr_prompts *prompts);
const char *drr_prompts_id(const drr_prompts *prompts); /* short hash of the wording: part of a trace's identity */

typedef struct drr_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} drr_message;

/* What a reasoner is first asked `task` with: system words, worked examples, the question. drr_messages_free frees
 * the array and its strings. */
drr_status drr_prompts_messages(drr_message **messages, size_t *n, const drr_prompts *prompts, const drr_task *task,
                                drr_error *err);
void drr_messages_free(drr_message *messages, size_t n);

#ifdef __cplusplus
}
#endif
#endif
