/* suite_report.c: one report of a study, made of its parts' reports alone, which may be from another day: Holm's
 * correction over the comparisons of all parts, then JSON, CSV, Markdown and one page. */
#include "eval/suite_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double number_of(const json_t *o, const char *name)
{
    json_t *value = json_object_get(o, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static interval interval_of(const json_t *o, const char *name, const char *ends)
{
    const json_t *range = json_object_get(o, ends), *low = json_array_get(range, 0), *high = json_array_get(range, 1);
    return (interval){number_of(o, name), json_is_number(low) ? json_number_value(low) : NAN,
                      json_is_number(high) ? json_number_value(high) : NAN};
}

void pair_of_json(pair *p, const json_t *o)
{
    *p = (pair){.only_a = (uint64_t)number_of(o, "only_a_right"),
                .only_b = (uint64_t)number_of(o, "only_b_right"),
                .p = number_of(o, "mcnemar_p"),
                .p_holm = number_of(o, "p_holm"),
                .difference = interval_of(o, "difference", "difference_ci"),
                .tokens = interval_of(o, "tokens_difference", "tokens_difference_ci")};
}

/* ---- walking over the parts' reports */

typedef drr_status (*visit_fn)(void *user, const suite_part *part, const char *task, json_t *task_report,
                               drr_error *err);

static drr_status each_task(const suite_part *parts, size_t n, visit_fn visit, void *user, drr_error *err)
{
    drr_status status = DRR_OK;
    const char *task;
    json_t *report;
    for (size_t i = 0; i < n; i++) {
        json_object_foreach(json_object_get(parts[i].report, "tasks"), task, report)
        {
            if (status == DRR_OK)
                status = visit(user, &parts[i], task, report, err);
        }
    }
    return status;
}

/* A row of a table: which part and task it is of, then `figures`. The list gets it; *row is the list's. */
static json_t *add_row(json_t *rows, const suite_part *part, const char *task)
{
    json_t *row = json_object();
    const char *judge = json_string_or(part->report, "judge", NULL);
    json_object_set_new(row, "part", json_string(part->name));
    json_object_set_new(row, "reasoner", json_string(json_string_or(part->report, "reasoner", "")));
    json_object_set_new(row, "judge", judge ? json_string(judge) : json_null());
    json_object_set_new(row, "seed", json_incref(json_object_get(part->report, "seed")));
    json_object_set_new(row, "task", json_string(task));
    return json_array_append_new(rows, row) ? NULL : row;
}

typedef struct tables {
    json_t *strategies, *comparisons, *critics, *folds;
} tables;

static drr_status collect(void *user, const suite_part *part, const char *task, json_t *report, drr_error *err)
{
    tables *t = user;
    const char *name;
    json_t *figures, *row = NULL;
    size_t i;
    bool whole = true;
    json_object_foreach(json_object_get(report, "strategies"), name, figures)
    {
        row = add_row(t->strategies, part, task);
        whole = whole && row && json_object_set_new(row, "name", json_string(name)) == 0 &&
                json_object_update(row, figures) == 0;
        json_object_del(row, "policy");
    }
    json_array_foreach(json_object_get(report, "comparisons"), i, figures)
    {
        row = add_row(t->comparisons, part, task);
        whole = whole && row && json_object_update(row, figures) == 0;
    }
    json_object_foreach(json_object_get(json_object_get(report, "critic"), "sets"), name, figures)
    {
        if (json_is_null(figures))
            continue;
        row = add_row(t->critics, part, task);
        whole = whole && row && json_object_set_new(row, "set", json_string(name)) == 0 &&
                json_object_update(row, figures) == 0;
    }
    json_array_foreach(json_object_get(report, "folds"), i, figures)
    {
        row = add_row(t->folds, part, task);
        whole = whole && row && json_object_update(row, figures) == 0;
    }
    return whole ? DRR_OK : error_memory(err);
}

/* ---- Holm over all of it */

static drr_status list_comparisons(void *user, const suite_part *part, const char *task, json_t *report, drr_error *err)
{
    json_t *all = user, *one;
    size_t i;
    (void)part;
    (void)task;
    json_array_foreach(json_object_get(report, "comparisons"), i, one)
    {
        if (json_array_append(all, one))
            return error_memory(err);
    }
    return DRR_OK;
}

static drr_status say_again(json_t *o, double corrected, drr_error *err)
{
    pair p;
    buffer words = {0};
    json_object_set_new(o, "p_holm", json_number_or_null(corrected));
    json_object_set_new(o, "within_noise", json_boolean(corrected >= 0.05));
    pair_of_json(&p, o);
    drr_status status = pair_sentence(&words, json_string_or(o, "a", ""), json_string_or(o, "b", ""), &p, err);
    if (status == DRR_OK)
        json_object_set_new(o, "finding", json_string(words.data));
    buffer_clear(&words);
    return status;
}

static drr_status correct(const suite_part *parts, size_t n_parts, size_t *n, drr_error *err)
{
    json_t *all = json_array(), *one;
    double *p = NULL;
    size_t i;
    drr_status status = all ? each_task(parts, n_parts, list_comparisons, all, err) : error_memory(err);
    *n = json_array_size(all);
    if (status == DRR_OK && !(p = calloc(2 * *n + 1, sizeof *p)))
        status = error_memory(err);
    for (i = 0; status == DRR_OK && i < *n; i++)
        p[i] = number_of(json_array_get(all, i), "mcnemar_p");
    if (status == DRR_OK && !holm(p + *n, p, *n))
        status = error_memory(err);
    json_array_foreach(all, i, one)
    {
        if (status == DRR_OK)
            status = say_again(one, p[*n + i], err);
    }
    free(p);
    json_decref(all);
    return status;
}

/* ---- Markdown, and the same table for the page */

enum { COLUMNS = 11 };
static const char *const heads[COLUMNS] = {"part",     "task",  "strategy",  "accuracy", "95 % interval", "coverage",
                                           "of these", "AUGRC", "recovered", "calls",    "tokens"};

static void cells_of(char cells[COLUMNS][64], json_t *row)
{
    char text[32], range[48];
    const interval accuracy = interval_of(row, "accuracy", "accuracy_ci");
    snprintf(cells[0], 64, "%.63s", json_string_or(row, "part", ""));
    snprintf(cells[1], 64, "%.63s", json_string_or(row, "task", ""));
    snprintf(cells[2], 64, "%.63s", json_string_or(row, "name", ""));
    snprintf(cells[3], 64, "%s", figure_text(text, 100 * accuracy.value, 1, " %"));
    snprintf(cells[4], 64, "%s", figure_range(range, &accuracy));
    snprintf(cells[5], 64, "%s", figure_text(text, 100 * number_of(row, "coverage"), 1, " %"));
    snprintf(cells[6], 64, "%s", figure_text(text, 100 * number_of(row, "accuracy_answered"), 1, " %"));
    snprintf(cells[7], 64, "%s", figure_text(text, number_of(row, "augrc"), 3, ""));
    snprintf(cells[8], 64, "%s", figure_text(text, 100 * number_of(row, "headroom_recovered"), 0, " %"));
    snprintf(cells[9], 64, "%s", figure_text(text, number_of(row, "mean_calls"), 2, ""));
    snprintf(cells[10], 64, "%s", figure_text(text, number_of(row, "mean_tokens"), 1, ""));
}

static drr_status put_row(buffer *b, const char *const *cells, bool page, const char *tag, drr_error *err)
{
    drr_status status = buffer_puts(b, page ? "<tr>" : "|", err);
    for (size_t i = 0; i < COLUMNS && status == DRR_OK; i++) {
        status = page ? buffer_printf(b, err, "<%s>", tag) : buffer_puts(b, " ", err);
        if (status == DRR_OK)
            status = page ? html_escape(b, cells[i], err) : buffer_puts(b, cells[i], err);
        if (status == DRR_OK)
            status = page ? buffer_printf(b, err, "</%s>", tag) : buffer_puts(b, " |", err);
    }
    return status == DRR_OK ? buffer_puts(b, page ? "</tr>\n" : "\n", err) : status;
}

static drr_status put_strategies(buffer *b, json_t *rows, bool page, drr_error *err)
{
    size_t i;
    json_t *row;
    drr_status status = page ? buffer_puts(b, "<table>", err) : DRR_OK;
    if (status == DRR_OK)
        status = put_row(b, heads, page, "th", err);
    if (status == DRR_OK && !page)
        status = buffer_puts(b, "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n", err);
    json_array_foreach(rows, i, row)
    {
        char texts[COLUMNS][64];
        const char *cells[COLUMNS];
        cells_of(texts, row);
        for (size_t k = 0; k < COLUMNS; k++)
            cells[k] = texts[k];
        if (status == DRR_OK)
            status = put_row(b, cells, page, "td", err);
    }
    return status == DRR_OK && page ? buffer_puts(b, "</table>\n", err) : status;
}

static drr_status put_findings(buffer *b, json_t *comparisons, bool page, drr_error *err)
{
    size_t i;
    json_t *one;
    drr_status status = buffer_puts(b, page ? "<ul>\n" : "\n", err);
    json_array_foreach(comparisons, i, one)
    {
        char of[160];
        snprintf(of, sizeof of, "%s, %s: ", json_string_or(one, "part", ""), json_string_or(one, "task", ""));
        if (status == DRR_OK)
            status = buffer_puts(b, page ? "<li>" : "- ", err);
        if (status == DRR_OK)
            status = page ? html_escape(b, of, err) : buffer_puts(b, of, err);
        if (status == DRR_OK)
            status = page ? html_escape(b, json_string_or(one, "finding", ""), err)
                          : buffer_puts(b, json_string_or(one, "finding", ""), err);
        if (status == DRR_OK)
            status = buffer_puts(b, page ? "</li>\n" : "\n", err);
    }
    return status == DRR_OK && page ? buffer_puts(b, "</ul>\n", err) : status;
}

/* Which way questions went, where a critic of questions alone said so. The page has it below each part's table. */
static drr_status put_routes(buffer *b, json_t *rows, drr_error *err)
{
    size_t i;
    json_t *row;
    drr_status status = DRR_OK;
    json_array_foreach(rows, i, row)
    {
        const json_t *routes = json_object_get(row, "routes");
        if (status == DRR_OK && routes)
            status =
                buffer_printf(b, err, "- %s, %s: ", json_string_or(row, "part", ""), json_string_or(row, "task", ""));
        if (status == DRR_OK && routes)
            status = routes_words(b, json_string_or(row, "name", ""), routes, err);
        if (status == DRR_OK && routes)
            status = buffer_puts(b, "\n", err);
    }
    return status;
}

static const char *title_of(const suite *s)
{
    return s->title ? s->title : file_name(s->path, NULL);
}

static drr_status put_warnings(buffer *b, const suite_part *parts, size_t n, bool page, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        const char *warning = json_string_or(parts[i].report, "warning", NULL);
        if (!warning)
            continue;
        status = buffer_puts(b, page ? "<p class=\"wrong\">Warning, " : "\nWarning, ", err);
        if (status == DRR_OK)
            status = buffer_printf(b, err, "%s: ", parts[i].name);
        if (status == DRR_OK)
            status = page ? html_escape(b, warning, err) : buffer_puts(b, warning, err);
        if (status == DRR_OK)
            status = buffer_puts(b, page ? ".</p>\n" : ".\n", err);
    }
    return status;
}

static drr_status markdown(char **text, const suite *s, const suite_part *parts, size_t n, const tables *t,
                           drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_printf(&b, err, "# %s\n\n", title_of(s));
    if (status == DRR_OK)
        status = put_strategies(&b, t->strategies, false, err);
    if (status == DRR_OK)
        status = put_findings(&b, t->comparisons, false, err);
    if (status == DRR_OK)
        status = put_routes(&b, t->strategies, err);
    if (status == DRR_OK)
        status = put_warnings(&b, parts, n, false, err);
    if (status == DRR_OK)
        status = buffer_printf(&b, err,
                               "\n%zu comparisons, their p corrected together by Holm. Parts are named reasoner, "
                               "critic, seed.\n",
                               json_array_size(t->comparisons));
    if (status == DRR_OK)
        *text = buffer_take(&b);
    buffer_clear(&b);
    return status;
}

static drr_status put_part(buffer *b, const suite_part *part, drr_error *err)
{
    char path[4096], *body = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/body.html", part->folder);
    drr_status status = file_read(&body, &size, path, 0, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<hr>\n<h2>%s</h2>\n", part->name);
    if (status == DRR_OK)
        status = buffer_append(b, body, size, err);
    free(body);
    return status;
}

static drr_status write_page(const char *path, const suite *s, const suite_part *parts, size_t n, const tables *t,
                             const char *command, drr_error *err)
{
    buffer b = {0};
    drr_status status = html_begin(&b, title_of(s), err);
    if (status == DRR_OK && command)
        status = buffer_puts(&b, "<pre>", err);
    if (status == DRR_OK && command)
        status = html_escape(&b, command, err);
    if (status == DRR_OK && command)
        status = buffer_puts(&b, "</pre>\n", err);
    if (status == DRR_OK)
        status = put_warnings(&b, parts, n, true, err);
    if (status == DRR_OK)
        status = put_strategies(&b, t->strategies, true, err);
    if (status == DRR_OK)
        status = put_findings(&b, t->comparisons, true, err);
    for (size_t i = 0; i < n && status == DRR_OK; i++)
        status = put_part(&b, &parts[i], err);
    if (status == DRR_OK)
        status = html_end(&b, err);
    if (status == DRR_OK)
        status = file_write_all(path, b.data, b.size, err);
    buffer_clear(&b);
    return status;
}

/* ---- JSON, and the questions of all parts in one file */

static drr_status write_json(char **json, const char *path, const suite *s, const suite_part *parts, size_t n,
                             size_t n_comparisons, const char *command, drr_error *err)
{
    const time_t now = time(NULL);
    struct tm utc;
    char date[32] = "", hex[65] = "";
    json_t *root = json_object(), *all = json_object();
    drr_status status = sha256_file(hex, s->path, err);
    if (gmtime_r(&now, &utc))
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_object_set_new(root, "drr", json_string(DRR_VERSION));
    json_object_set_new(root, "date", json_string(date));
    json_object_set_new(root, "title", json_string(title_of(s)));
    if (command)
        json_object_set_new(root, "command", json_string(command));
    json_object_set_new(root, "suite", json_string(file_name(s->path, NULL)));
    json_object_set_new(root, "suite_sha256", json_string(hex));
    json_object_set_new(root, "n_comparisons", json_integer((json_int_t)n_comparisons));
    for (size_t i = 0; i < n; i++)
        json_object_set(all, parts[i].name, parts[i].report);
    const bool whole = json_object_set_new(root, "parts", all) == 0;
    if (status == DRR_OK && !(whole && (*json = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10)))))
        status = error_memory(err);
    if (status == DRR_OK)
        status = file_write_all(path, *json, strlen(*json), err);
    json_decref(root);
    return status;
}

static drr_status put_questions(line_writer *out, const suite_part *part, drr_error *err)
{
    char path[4096], *line;
    size_t length;
    line_reader *in = NULL;
    buffer b = {0};
    snprintf(path, sizeof path, "%s/questions.jsonl", part->folder);
    drr_status status = lines_open(&in, path, err);
    while (status == DRR_OK && (status = lines_next(in, &line, &length, err)) == DRR_OK) {
        if (length < 2 || line[0] != '{')
            continue;
        status = buffer_printf(&b, err, "{\"part\":\"%s\",%s", part->name, line + 1);
        if (status == DRR_OK)
            status = lines_put(out, b.data, err);
        b.size = 0;
    }
    buffer_clear(&b);
    lines_close(in);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

static drr_status write_questions(const char *path, const suite_part *parts, size_t n, drr_error *err)
{
    line_writer *out = NULL;
    drr_status status = lines_create(&out, path, err);
    for (size_t i = 0; i < n && status == DRR_OK; i++)
        status = put_questions(out, &parts[i], err);
    if (status == DRR_OK)
        return lines_commit(out, err);
    lines_abandon(out);
    return status;
}

static const char *in_folder(char path[4096], const char *out, const char *name)
{
    snprintf(path, 4096, "%s/%s", out, name);
    return path;
}

drr_status suite_report(char **json, char **table, const suite *s, const suite_part *parts, size_t n, const char *out,
                        const char *command, drr_error *err)
{
    char path[4096], *as_json = NULL, *as_text = NULL;
    size_t n_comparisons = 0;
    tables t = {json_array(), json_array(), json_array(), json_array()};
    drr_status status = t.strategies && t.comparisons && t.critics && t.folds ? DRR_OK : error_memory(err);
    if (status == DRR_OK)
        status = correct(parts, n, &n_comparisons, err);
    if (status == DRR_OK)
        status = each_task(parts, n, collect, &t, err);
    if (status == DRR_OK)
        status = write_json(&as_json, in_folder(path, out, "report.json"), s, parts, n, n_comparisons, command, err);
    if (status == DRR_OK)
        status = markdown(&as_text, s, parts, n, &t, err);
    if (status == DRR_OK)
        status = file_write_all(in_folder(path, out, "report.md"), as_text, strlen(as_text), err);
    if (status == DRR_OK)
        status = csv_write(in_folder(path, out, "strategies.csv"), t.strategies, err);
    if (status == DRR_OK)
        status = csv_write(in_folder(path, out, "comparisons.csv"), t.comparisons, err);
    if (status == DRR_OK && json_array_size(t.critics))
        status = csv_write(in_folder(path, out, "critics.csv"), t.critics, err);
    if (status == DRR_OK && json_array_size(t.folds))
        status = csv_write(in_folder(path, out, "folds.csv"), t.folds, err);
    if (status == DRR_OK)
        status = write_questions(in_folder(path, out, "questions.jsonl"), parts, n, err);
    if (status == DRR_OK)
        status = write_page(in_folder(path, out, "report.html"), s, parts, n, &t, command, err);
    if (status == DRR_OK) {
        *json = as_json;
        *table = as_text;
        as_json = as_text = NULL;
    }
    free(as_json);
    free(as_text);
    json_decref(t.strategies);
    json_decref(t.comparisons);
    json_decref(t.critics);
    json_decref(t.folds);
    return status;
}
