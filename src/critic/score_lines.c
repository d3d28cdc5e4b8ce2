/* score_lines.c: scores a stream of {"question", "text"} lines, for scripts. Reads and writes in batches, so that
 * memory does not grow with the file; what a score is, is critic.c's business, and what a step is, src/task's. */
#include "core/json.h"
#include "critic/critic.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 64 };

typedef struct scoring {
    drr_critic *critic;
    const char *in; /* as errors name it */
    line_reader *lines;
    file_writer file; /* unused when writing to standard output */
    FILE *out;
    json_t *rows[BATCH];
    uint64_t numbers[BATCH];
    drr_score_item items[BATCH];
    drr_score scores[BATCH];
    size_t n;
    bool steps; /* of each line the steps too */
} scoring;

static drr_status take_line(scoring *s, const char *line, size_t length, drr_error *err)
{
    char where[4200];
    const uint64_t number = lines_number(s->lines);
    if (strspn(line, " \t") == length)
        return DRR_OK;
    snprintf(where, sizeof where, "%s:%llu", s->in, (unsigned long long)number);
    json_t *row = NULL;
    drr_score_item item = {0};
    drr_status status = json_parse(&row, line, length, where, err);
    if (status == DRR_OK && !json_is_object(row))
        status = error_set(err, DRR_E_FORMAT, "%s: an object with \"question\" and \"text\" is wanted", where);
    if (status == DRR_OK)
        status = json_get_string(&item.question, row, "question", where, err);
    if (status == DRR_OK)
        status = json_get_string(&item.text, row, "text", where, err);
    if (status != DRR_OK) {
        json_decref(row);
        return status;
    }
    s->rows[s->n] = row;
    s->numbers[s->n] = number;
    s->items[s->n++] = item;
    return DRR_OK;
}

/* The ends that a line's own list names, as the steps of a trace; the caller's to free. */
static drr_status take_ends(uint32_t **ends, size_t *n, json_t *list, const char *where, drr_error *err)
{
    const size_t count = json_array_size(list);
    uint32_t *all = calloc(count + 1, sizeof *all);
    if (!all)
        return error_memory(err);
    for (size_t i = 0; i < count; i++) {
        const double end = json_number_or(json_array_get(list, i), "end", -1);
        if (!(end >= 0 && end <= UINT32_MAX)) {
            free(all);
            return error_set(err, DRR_E_FORMAT, "%s: item %zu of \"steps\" has no \"end\", the byte behind the step",
                             where, i + 1);
        }
        all[i] = (uint32_t)end;
    }
    *ends = all;
    *n = count;
    return DRR_OK;
}

static drr_status find_ends(uint32_t **ends, size_t *n, json_t *row, const char *where, drr_error *err)
{
    json_t *list = json_object_get(row, "steps");
    const char *name = json_string_or(row, "kind", drr_kind_name(DRR_KIND_TEXT));
    drr_kind kind = DRR_KIND_TEXT;
    if (json_is_array(list))
        return take_ends(ends, n, list, where, err);
    if (drr_kind_parse(&kind, name, NULL) != DRR_OK)
        return error_set(err, DRR_E_FORMAT, "%s: the kind \"%.40s\" is not known", where, name);
    return drr_step_ends(ends, n, kind, json_string_or(row, "text", ""), err);
}

static drr_status add_steps(json_t *row, const drr_step_score *steps, size_t n, drr_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{s:I, s:o, s:o}", "end", (json_int_t)steps[i].end, "logit",
                                        json_number_or_null(steps[i].logit), "p", json_number_or_null(steps[i].p)));
    return json_object_set_new(row, "step_scores", list) == 0 && json_array_size(list) == n ? DRR_OK
                                                                                            : error_memory(err);
}

/* One pass a line: its score and those of its steps. */
static drr_status score_steps(scoring *s, size_t i, drr_error *err)
{
    char where[4200];
    uint32_t *ends = NULL;
    size_t n = 0;
    drr_error why = {0};
    snprintf(where, sizeof where, "%s:%llu", s->in, (unsigned long long)s->numbers[i]);
    drr_status status = find_ends(&ends, &n, s->rows[i], where, err);
    drr_step_score *steps = calloc(n + 1, sizeof *steps);
    if (status == DRR_OK && !steps)
        status = error_memory(err);
    if (status == DRR_OK) {
        status = drr_critic_score_steps(s->critic, &s->scores[i], steps, &s->items[i], ends, n, &why);
        if (status != DRR_OK)
            error_set(err, status, "%s: %s", where, why.message);
    }
    if (status == DRR_OK)
        status = add_steps(s->rows[i], steps, n, err);
    free(ends);
    free(steps);
    return status;
}

static drr_status write_row(scoring *s, size_t i, drr_error *err)
{
    json_t *row = s->rows[i];
    if (json_object_set_new(row, "logit", json_number_or_null(s->scores[i].logit)) != 0 ||
        json_object_set_new(row, "p_correct", json_number_or_null(s->scores[i].p_correct)) != 0)
        return error_memory(err);
    char *text = json_dumps(row, JSON_COMPACT);
    if (!text)
        return error_set(err, DRR_E_FORMAT, "%s:%llu: the line cannot be written as JSON again", s->in,
                         (unsigned long long)s->numbers[i]);
    drr_status status = DRR_OK;
    if (fputs(text, s->out) == EOF || fputc('\n', s->out) == EOF)
        status = error_set_errno(err, errno, "the scores cannot be written");
    free(text);
    return status;
}

static void forget_rows(scoring *s)
{
    for (size_t i = 0; i < s->n; i++)
        json_decref(s->rows[i]);
    s->n = 0;
}

static drr_status flush_batch(scoring *s, drr_error *err)
{
    drr_status status = s->n && !s->steps ? drr_critic_score(s->critic, s->scores, s->items, s->n, err) : DRR_OK;
    for (size_t i = 0; i < s->n && status == DRR_OK; i++) {
        if (s->steps)
            status = score_steps(s, i, err);
        if (status == DRR_OK)
            status = write_row(s, i, err);
    }
    forget_rows(s);
    if (status == DRR_OK && s->out != s->file.file && fflush(s->out) != 0)
        status = error_set_errno(err, errno, "the scores cannot be written");
    return status;
}

/* A stream of our own on the caller's standard output: it shares its place in the file, and the caller's buffer is left
 * alone. */
static FILE *standard_output(void)
{
    const int fd = dup(STDOUT_FILENO);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file && fd >= 0)
        close(fd);
    return file;
}

static drr_status score_file(drr_critic *critic, const char *in, const char *out, bool steps, drr_error *err)
{
    const bool from_stdin = strcmp(in, "-") == 0, to_stdout = strcmp(out, "-") == 0;
    char *line;
    size_t length;
    scoring *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err);
    s->critic = critic;
    s->steps = steps;
    s->in = from_stdin ? "standard input" : in;
    drr_status status = steps ? critic_check_steps(critic, err) : DRR_OK;
    if (status == DRR_OK)
        status = lines_open(&s->lines, from_stdin ? "/dev/stdin" : in, err);
    if (status == DRR_OK && !to_stdout)
        status = file_writer_open(&s->file, out, err);
    if (status == DRR_OK)
        s->out = to_stdout ? standard_output() : s->file.file;
    if (status == DRR_OK && !s->out)
        status = error_set_errno(err, errno, "the standard output cannot be written");
    bool ended = false;
    while (status == DRR_OK && !ended) {
        status = lines_next(s->lines, &line, &length, err);
        ended = status == DRR_E_EMPTY;
        if (ended)
            status = DRR_OK;
        else if (status == DRR_OK)
            status = take_line(s, line, length, err);
        if (status == DRR_OK && (ended || s->n == BATCH))
            status = flush_batch(s, err);
    }
    /* Before a bad line the good ones are answered; the error stays the bad line's. */
    if (status != DRR_OK && to_stdout)
        (void)flush_batch(s, NULL);
    if (to_stdout && s->out && fclose(s->out) != 0 && status == DRR_OK)
        status = error_set_errno(err, errno, "the scores cannot be written");
    if (!to_stdout && status == DRR_OK)
        status = file_writer_commit(&s->file, err);
    file_writer_abandon(&s->file);
    forget_rows(s);
    lines_close(s->lines);
    free(s);
    return status;
}

drr_status drr_critic_score_file(drr_critic *critic, const char *in, const char *out, drr_error *err)
{
    return score_file(critic, in, out, false, err);
}

drr_status drr_critic_score_steps_file(drr_critic *critic, const char *in, const char *out, drr_error *err)
{
    return score_file(critic, in, out, true, err);
}
