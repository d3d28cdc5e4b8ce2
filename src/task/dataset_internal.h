/* dataset_internal.h: what dataset.c (the set itself) and formats.c (the files' shapes) share. */
#ifndef DRR_TASK_DATASET_INTERNAL_H
#define DRR_TASK_DATASET_INTERNAL_H

#include "core/json.h"
#include "task/task.h"

struct drr_dataset {
    arena *memory;
    char *name, *path;
    drr_task *tasks;
    uint64_t *lines; /* where each stands in its file, from 1 */
    size_t n, capacity;
};

/* Adds a task; strings are copied. choices: n_choices texts. `where` names the record in errors. Checks that the id is
 * there, the question is not empty and the answer fits the kind. */
drr_status dataset_add(drr_dataset *d, const char *id, const char *question, const char *const *choices,
                       size_t n_choices, const char *answer, drr_kind kind, const char *where, drr_error *err);

typedef enum data_format {
    FORMAT_DRR,
    FORMAT_GSM8K,
    FORMAT_SVAMP,
    FORMAT_CSQA,
    FORMAT_STRATEGYQA,
    FORMAT_ARC,
    FORMAT_MMLU,
    FORMAT_COUNT
} data_format;
extern const char *const format_names[FORMAT_COUNT];

/* Which format a record is in, by its fields; FORMAT_COUNT when none fits. */
data_format format_detect(json_t *record);
/* Reads one record. number: its place in the file, for sets whose records have no id. */
drr_status format_read(drr_dataset *d, data_format format, json_t *record, size_t number, const char *where,
                       drr_error *err);

#endif
