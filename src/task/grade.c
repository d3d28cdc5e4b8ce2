/* grade.c: kinds, labels, and whether two answers are the same. */
#include "task/code.h"
#include "task/number.h"
#include "task/task.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const kind_names[] = {"choice", "number", "boolean", "text", "checked"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

const char *drr_kind_name(drr_kind kind)
{
    return (size_t)kind < KINDS ? kind_names[kind] : "unknown";
}

drr_status drr_kind_parse(drr_kind *kind, const char *name, drr_error *err)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(name, kind_names[i]) == 0) {
            *kind = (drr_kind)i;
            return DRR_OK;
        }
    return error_set(err, DRR_E_ARGUMENT, "\"%s\" is not a kind of question (choice, number, boolean, text or checked)",
                     name);
}

const char *drr_label_name(drr_label label)
{
    static const char *const names[] = {"reject", "accept", "unparsed", "unlabelled"};
    return (size_t)label < 4 ? names[label] : "unknown";
}

/* Lower case, no articles, no punctuation, single spaces: the usual normalised match of short answers. */
static void normalise(char *out, size_t size, const char *text)
{
    size_t n = 0;
    while (*text && n + 1 < size) {
        char word[128];
        size_t w = 0;
        while (*text && !isspace((unsigned char)*text)) {
            if (!ispunct((unsigned char)*text) && w + 1 < sizeof word)
                word[w++] = (char)tolower((unsigned char)*text);
            text++;
        }
        word[w] = '\0';
        while (isspace((unsigned char)*text))
            text++;
        if (w == 0 || strcmp(word, "a") == 0 || strcmp(word, "an") == 0 || strcmp(word, "the") == 0)
            continue;
        if (n > 0 && n + 1 < size)
            out[n++] = ' ';
        for (size_t i = 0; i < w && n + 1 < size; i++)
            out[n++] = word[i];
    }
    out[n] = '\0';
}

static bool to_number(const char *text, double *value)
{
    const size_t length = strlen(text);
    size_t at = 0;
    while (at < length && isspace((unsigned char)text[at]))
        at++;
    return number_read(text, length, &at, value);
}

bool drr_answer_equal(drr_kind kind, const char *a, const char *b)
{
    if (!a || !b)
        return false;
    if (kind == DRR_KIND_NUMBER) {
        double x, y;
        return to_number(a, &x) && to_number(b, &y) && number_equal(x, y);
    }
    if (kind == DRR_KIND_TEXT) {
        char x[512], y[512];
        normalise(x, sizeof x, a);
        normalise(y, sizeof y, b);
        return strcmp(x, y) == 0;
    }
    if (kind == DRR_KIND_CHECKED)
        return code_equal(a, b);
    return strcasecmp(a, b) == 0;
}

int task_answer_correct(const drr_task *task, const char *answer)
{
    if (!task->answer[0])
        return -1;
    if (answer && task->kind == DRR_KIND_CHECKED)
        return -1;
    return drr_answer_equal(task->kind, answer, task->answer);
}

drr_status drr_answer_grade(drr_label *label, const drr_task *task, const char *text, drr_error *err)
{
    char *answer = NULL;
    drr_status status = drr_answer_extract(&answer, NULL, NULL, task, text, err);
    if (status != DRR_OK)
        return status;
    if (!answer)
        *label = DRR_LABEL_UNPARSED;
    else if (task->kind == DRR_KIND_CHECKED)
        *label = DRR_LABEL_UNLABELLED;
    else
        *label = drr_answer_equal(task->kind, answer, task->answer) ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
    free(answer);
    return DRR_OK;
}

void task_answer_place(const drr_task *task, const char *text, size_t *begin, size_t *end)
{
    char *answer = NULL;
    if (drr_answer_extract(&answer, begin, end, task, text, NULL) != DRR_OK || !answer)
        *begin = *end = 0;
    free(answer);
}
