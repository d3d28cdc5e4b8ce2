/* regrade.c: recorded traces graded again with our own extraction. What is recorded is the label that the record's
 * authors gave; how often ours agrees says how far our extraction can be trusted (docs/grading.md). Reading records is
 * jsonl.c's, finding answers src/task's. */
#include "task/task.h"
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CHOICES = 26 };

typedef struct regrade_job {
    drr_regrade result;
    drr_disagree_fn disagree;
    void *user;
    arena *memory; /* of one trace */
    drr_status status;
    drr_error *err;
} regrade_job;

/* The choices as task_question_text wrote them: " (A) first (B) second". The letters must follow each other. */
static drr_status read_choices(drr_task *task, regrade_job *job)
{
    const char *starts[MOST_CHOICES + 1];
    size_t n = 0;
    for (const char *p = task->question; *p && n < MOST_CHOICES; p++)
        if (p[0] == '(' && p[1] == (char)('A' + (int)n) && p[2] == ')' && (p == task->question || p[-1] == ' '))
            starts[n++] = p;
    if (n == 0)
        return DRR_OK;
    starts[n] = task->question + strlen(task->question);
    const char **choices = arena_alloc(job->memory, n * sizeof *choices, _Alignof(char *));
    for (size_t i = 0; choices && i < n; i++) {
        const char *begin = starts[i] + 3, *end = starts[i + 1];
        while (begin < end && *begin == ' ')
            begin++;
        while (end > begin && end[-1] == ' ')
            end--;
        if (!(choices[i] = arena_copy(job->memory, begin, (size_t)(end - begin))))
            choices = NULL;
    }
    if (!choices)
        return error_memory(job->err);
    task->choices = choices;
    task->n_choices = n;
    return DRR_OK;
}

/* Some records came without a reference answer, and say "None". */
static bool has_reference(const drr_trace *trace)
{
    const char *gold = trace->gold;
    if (!gold || !*gold || strcmp(gold, "None") == 0 || trace->kind == DRR_KIND_CHECKED)
        return false;
    return trace->kind != DRR_KIND_NUMBER || drr_answer_equal(DRR_KIND_NUMBER, gold, gold);
}

/* Did the record's authors see the same number and keep only a part of it: "118,000" as 118, "-3" as 3? */
static bool misread(const drr_trace *trace, const char *ours, size_t begin, size_t end)
{
    if (trace->kind != DRR_KIND_NUMBER || !trace->answer || !ours)
        return false;
    if (ours[0] == '-' && strcmp(ours + 1, trace->answer) == 0)
        return true;
    const char *written = trace->text + begin, *comma = memchr(written, ',', end - begin);
    const size_t n = strlen(trace->answer);
    return comma && (size_t)(comma - written) >= n && memcmp(comma - n, trace->answer, n) == 0;
}

static bool regrade_one(void *user, const drr_trace *trace)
{
    regrade_job *job = user;
    drr_task task = {
        .task = trace->task, .id = trace->id, .question = trace->question, .answer = trace->gold, .kind = trace->kind};
    char *answer = NULL;
    size_t begin = 0, end = 0;
    if (!has_reference(trace)) {
        job->result.no_reference++;
        return true;
    }
    arena_reset(job->memory);
    job->status = trace->kind == DRR_KIND_CHOICE ? read_choices(&task, job) : DRR_OK;
    if (job->status == DRR_OK)
        job->status = drr_answer_extract(&answer, &begin, &end, &task, trace->text ? trace->text : "", job->err);
    if (job->status != DRR_OK)
        return false;
    drr_label ours = DRR_LABEL_UNPARSED;
    if (answer)
        ours = drr_answer_equal(task.kind, answer, task.answer) ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
    job->result.n++;
    job->result.unparsed += ours == DRR_LABEL_UNPARSED;
    /* A record knows right and wrong only: what cannot be read was not right. */
    if ((ours == DRR_LABEL_ACCEPT) == (trace->label == DRR_LABEL_ACCEPT))
        job->result.agreed++;
    else {
        job->result.misread += misread(trace, answer, begin, end);
        if (job->disagree)
            job->disagree(job->user, trace, ours, answer);
    }
    free(answer);
    return true;
}

drr_status drr_traces_regrade(const char *path, drr_regrade *result, drr_disagree_fn disagree, void *user,
                              drr_error *err)
{
    regrade_job job = {.disagree = disagree, .user = user, .memory = arena_new(0), .err = err};
    if (!job.memory)
        return error_memory(err);
    drr_status status = drr_traces_read(path, regrade_one, &job, err);
    if (job.status != DRR_OK)
        status = job.status;
    if (status == DRR_OK && job.result.n == 0)
        status = error_set(err, DRR_E_EMPTY, "%s holds no traces with a reference answer to grade them by", path);
    if (status == DRR_OK)
        *result = job.result;
    arena_free(job.memory);
    return status;
}
