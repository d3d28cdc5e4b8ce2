/* record.c: a question as one line of drr's own JSONL, and a set written as such lines. Reading is dataset.c's. */
#include "task/dataset_internal.h"

#include <stdlib.h>
#include <string.h>

static json_t *choices_of(const drr_task *t)
{
    json_t *list = json_array();
    for (size_t k = 0; list && k < t->n_choices; k++)
        if (json_array_append_new(list, json_string(t->choices[k])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

drr_status task_record(char **line, const drr_task *t, drr_error *err)
{
    const bool checked = t->kind == DRR_KIND_CHECKED;
    json_t *check = NULL; /* its members are the record's: "tests" and "setup", or "checker" */
    drr_status status = checked ? json_parse(&check, t->answer, strlen(t->answer), t->id, err) : DRR_OK;
    if (status != DRR_OK)
        return status;
    json_t *record = json_pack("{s:s, s:s, s:s*, s:s}", "id", t->id, "question", t->question, "answer",
                               checked ? NULL : t->answer, "kind", drr_kind_name(t->kind));
    const bool good = record && (!check || json_object_update(record, check) == 0) &&
                      (!t->n_choices || json_object_set_new(record, "choices", choices_of(t)) == 0);
    *line = good ? json_dumps(record, JSON_COMPACT) : NULL;
    json_decref(check);
    json_decref(record);
    return *line ? DRR_OK
                 : error_set(err, DRR_E_FORMAT, "question %s cannot be written as JSON: is its text UTF-8?", t->id);
}

drr_status drr_dataset_write(const drr_dataset *dataset, const char *path, drr_error *err)
{
    file_writer w = {0};
    drr_status status = file_writer_open(&w, path, err);
    for (size_t i = 0; status == DRR_OK && i < dataset->n; i++) {
        char *line = NULL;
        status = task_record(&line, &dataset->tasks[i], err);
        if (status == DRR_OK)
            status = file_writer_put(&w, line, strlen(line), err);
        if (status == DRR_OK)
            status = file_writer_put(&w, "\n", 1, err);
        free(line);
    }
    if (status == DRR_OK)
        return file_writer_commit(&w, err);
    file_writer_abandon(&w);
    return status;
}
