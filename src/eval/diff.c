/* diff.c: two studies on the same questions. Strategies of one name are paired question by question, b against a; the
 * p-values are corrected together. What else differs between the studies (reasoner, critic, policy, prompts, seed) is
 * listed, for a difference in accuracy is only as telling as that list is short. */
#include "eval/suite_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct study {
    const char *folder;
    json_t *report;
    json_t *rows;  /* "part\ntask\nstrategy" -> {id -> line}, in the order of the file */
    json_t *parts; /* name -> report; of a single evaluation one, named "" */
} study;

static void study_clear(study *s)
{
    json_decref(s->report);
    json_decref(s->rows);
    json_decref(s->parts);
}

static drr_status add_line(study *s, json_t *line, const char *where, drr_error *err)
{
    const char *task, *id, *strategy;
    char key[700];
    drr_status status = json_get_string(&task, line, "task", where, err);
    if (status == DRR_OK)
        status = json_get_string(&id, line, "id", where, err);
    if (status == DRR_OK)
        status = json_get_string(&strategy, line, "strategy", where, err);
    if (status != DRR_OK)
        return status;
    snprintf(key, sizeof key, "%.200s\n%.200s\n%.200s", json_string_or(line, "part", ""), task, strategy);
    json_t *group = json_object_get(s->rows, key);
    if (!group) {
        group = json_object();
        if (json_object_set_new(s->rows, key, group))
            return error_memory(err);
    }
    return json_object_set(group, id, line) ? error_memory(err) : DRR_OK;
}

static drr_status read_lines(study *s, const char *path, drr_error *err)
{
    line_reader *in = NULL;
    char *text, where[4200];
    size_t length;
    drr_status status = lines_open(&in, path, err);
    while (status == DRR_OK && (status = lines_next(in, &text, &length, err)) == DRR_OK) {
        json_t *line = NULL;
        snprintf(where, sizeof where, "%.4000s:%llu", path, (unsigned long long)lines_number(in));
        status = json_parse(&line, text, length, where, err);
        if (status == DRR_OK)
            status = add_line(s, line, where, err);
        json_decref(line);
    }
    lines_close(in);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

static drr_status study_open(study *s, const char *folder, drr_error *err)
{
    char path[4096];
    *s = (study){.folder = folder, .rows = json_object(), .parts = json_object()};
    if (!s->rows || !s->parts)
        return error_memory(err);
    snprintf(path, sizeof path, "%s/report.json", folder);
    if (!file_exists(path))
        return error_set(err, DRR_E_NOT_FOUND,
                         "%s has no report.json: name the folder that `drr eval` or `drr eval --suite` wrote", folder);
    drr_status status = json_parse_file(&s->report, path, err);
    if (status != DRR_OK)
        return status;
    json_t *parts = json_object_get(s->report, "parts");
    if (parts ? json_object_update(s->parts, parts) : json_object_set(s->parts, "", s->report))
        return error_memory(err);
    snprintf(path, sizeof path, "%s/questions.jsonl", folder);
    if (!file_exists(path))
        return error_set(err, DRR_E_NOT_FOUND,
                         "%s has a report and no questions.jsonl: an older drr wrote it; run `drr eval` again with the "
                         "same --out, which generates nothing anew",
                         folder);
    return read_lines(s, path, err);
}

/* ---- what differs */

static drr_status add_difference(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));

static drr_status add_difference(json_t *list, const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return json_array_append_new(list, json_string(text)) ? DRR_E_MEMORY : DRR_OK;
}

static void say_value(char text[200], const json_t *value)
{
    char *dumped = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    snprintf(text, 200, "%.199s", dumped ? dumped : "nothing");
    free(dumped);
}

/* Two objects' members that are not alike, each a sentence; nested ones by their path. */
static drr_status compare_members(json_t *list, const char *of, json_t *a, json_t *b)
{
    json_t *names = json_object(), *member;
    const char *name;
    drr_status status = names && !json_object_update(names, a) && !json_object_update(names, b) ? DRR_OK : DRR_E_MEMORY;
    json_object_foreach(names, name, member)
    {
        json_t *x = json_object_get(a, name), *y = json_object_get(b, name);
        char left[200], right[200];
        if (status != DRR_OK || json_equal(x, y))
            continue;
        say_value(left, x);
        say_value(right, y);
        status = add_difference(list, "%s%s: %s in A, %s in B", of, name, left, right);
    }
    json_decref(names);
    return status;
}

static drr_status compare_parts(json_t *list, const char *part, json_t *a, json_t *b)
{
    static const char *const names[] = {"drr",  "reasoner", "reasoner_description", "escalates_to", "prompts",
                                        "seed", "judge",    "question_critic"};
    json_t *left = json_object(), *right = json_object();
    char of[300];
    snprintf(of, sizeof of, "%s%s", part, *part ? ": " : "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (json_object_get(a, names[i]))
            json_object_set(left, names[i], json_object_get(a, names[i]));
        if (json_object_get(b, names[i]))
            json_object_set(right, names[i], json_object_get(b, names[i]));
    }
    drr_status status = compare_members(list, of, left, right);
    snprintf(of, sizeof of, "%s%scritic's ", part, *part ? ": " : "");
    json_t *critic_a = json_object_get(a, "critic"), *critic_b = json_object_get(b, "critic");
    if (status == DRR_OK && json_is_null(critic_a) != json_is_null(critic_b))
        status = add_difference(list, "%s%scritic: %s in A, %s in B", part, *part ? ": " : "",
                                json_is_null(critic_a) ? "none" : json_string_or(critic_a, "name", "one"),
                                json_is_null(critic_b) ? "none" : json_string_or(critic_b, "name", "one"));
    else if (status == DRR_OK && json_is_object(critic_a) && json_is_object(critic_b))
        status = compare_members(list, of, critic_a, critic_b);
    snprintf(of, sizeof of, "%s%spolicy's ", part, *part ? ": " : "");
    if (status == DRR_OK && json_is_object(json_object_get(a, "policy")) &&
        json_is_object(json_object_get(b, "policy")))
        status = compare_members(list, of, json_object_get(a, "policy"), json_object_get(b, "policy"));
    json_decref(left);
    json_decref(right);
    return status;
}

static json_t *run_of(json_t *report, const char *task, const char *strategy)
{
    json_t *tasks = json_object_get(report, "tasks");
    return json_object_get(json_object_get(json_object_get(tasks, task), "strategies"), strategy);
}

/* ---- one strategy of one task */

typedef struct compared {
    pair pair; /* only_a: right in b alone, for b is held against a */
    uint64_t n, only_in_a, only_in_b, other_text;
    double accuracy_a, accuracy_b;
} compared;

static bool right(json_t *line)
{
    return json_is_true(json_object_get(line, "correct"));
}

static drr_status compare_rows(compared *c, json_t *a, json_t *b, uint32_t bootstrap, uint64_t seed, drr_error *err)
{
    const size_t most = json_object_size(a);
    double *points = calloc(2 * most + 1, sizeof *points), *tokens = points ? points + most : NULL;
    uint64_t *clusters = calloc(most + 1, sizeof *clusters);
    const char *id;
    json_t *x;
    *c = (compared){0};
    if (!points || !clusters) {
        free(points);
        free(clusters);
        return error_memory(err);
    }
    json_object_foreach(a, id, x)
    {
        json_t *y = json_object_get(b, id);
        if (!y) {
            c->only_in_a++;
        } else if (strcmp(json_string_or(x, "text", ""), json_string_or(y, "text", "")) != 0) {
            c->other_text++;
        } else {
            c->pair.only_a += right(y) && !right(x);
            c->pair.only_b += right(x) && !right(y);
            c->accuracy_a += right(x);
            c->accuracy_b += right(y);
            points[c->n] = (double)right(y) - (double)right(x);
            clusters[c->n] = hash_string(0, json_string_or(x, "text", ""));
            tokens[c->n++] = json_number_or(y, "tokens", 0) - json_number_or(x, "tokens", 0);
        }
    }
    c->only_in_b = json_object_size(b) - c->n - c->other_text;
    c->accuracy_a /= (double)c->n;
    c->accuracy_b /= (double)c->n;
    c->pair.p = c->pair.p_holm = mcnemar_clustered(points, clusters, c->n);
    c->pair.difference = bootstrap_mean(points, clusters, c->n, bootstrap, seed);
    c->pair.tokens = bootstrap_mean(tokens, clusters, c->n, bootstrap, seed);
    free(points);
    free(clusters);
    return isnan(c->pair.p) ? error_memory(err) : DRR_OK;
}

static json_t *range_json(const interval *i)
{
    json_t *a = json_array();
    json_array_append_new(a, json_number_or_null(i->low));
    json_array_append_new(a, json_number_or_null(i->high));
    return a;
}

static json_t *compared_json(const compared *c, const char *part_a, const char *part_b, const char *task,
                             const char *strategy)
{
    json_t *o = json_object();
    json_object_set_new(o, "part_a", json_string(part_a));
    json_object_set_new(o, "part_b", json_string(part_b));
    json_object_set_new(o, "task", json_string(task));
    json_object_set_new(o, "strategy", json_string(strategy));
    json_object_set_new(o, "n", json_integer((json_int_t)c->n));
    json_object_set_new(o, "only_in_a", json_integer((json_int_t)c->only_in_a));
    json_object_set_new(o, "only_in_b", json_integer((json_int_t)c->only_in_b));
    json_object_set_new(o, "other_text", json_integer((json_int_t)c->other_text));
    json_object_set_new(o, "accuracy_a", json_number_or_null(c->accuracy_a));
    json_object_set_new(o, "accuracy_b", json_number_or_null(c->accuracy_b));
    json_object_set_new(o, "difference", json_number_or_null(c->pair.difference.value));
    json_object_set_new(o, "difference_ci", range_json(&c->pair.difference));
    json_object_set_new(o, "only_a_right", json_integer((json_int_t)c->pair.only_b));
    json_object_set_new(o, "only_b_right", json_integer((json_int_t)c->pair.only_a));
    json_object_set_new(o, "tokens_difference", json_number_or_null(c->pair.tokens.value));
    json_object_set_new(o, "tokens_difference_ci", range_json(&c->pair.tokens));
    json_object_set_new(o, "mcnemar_p", json_number_or_null(c->pair.p));
    return o;
}

/* ---- all of them */

typedef struct differ {
    study a, b;
    uint32_t bootstrap;
    uint64_t seed;
    json_t *differences, *comparisons;
    pair *pairs; /* of comparisons that have questions in common */
    size_t n, room;
} differ;

static drr_status add_pair(differ *d, const pair *p, drr_error *err)
{
    if (d->n == d->room) {
        const size_t room = d->room ? 2 * d->room : 64;
        pair *more = realloc(d->pairs, room * sizeof *more);
        if (!more)
            return error_memory(err);
        d->pairs = more;
        d->room = room;
    }
    d->pairs[d->n++] = *p;
    return DRR_OK;
}

/* The part of b that a part of a is held against: the one of its name, or the only one. */
static const char *partner(const differ *d, const char *part)
{
    if (json_object_get(d->b.parts, part))
        return part;
    if (json_object_size(d->a.parts) == 1 && json_object_size(d->b.parts) == 1)
        return json_object_iter_key(json_object_iter(d->b.parts));
    return NULL;
}

static drr_status compare_group(differ *d, const char *part, const char *other, const char *task, const char *strategy,
                                drr_error *err)
{
    char key[700], of[460];
    compared c;
    snprintf(key, sizeof key, "%.200s\n%.200s\n%.200s", part, task, strategy);
    json_t *rows_a = json_object_get(d->a.rows, key);
    snprintf(key, sizeof key, "%.200s\n%.200s\n%.200s", other, task, strategy);
    json_t *rows_b = json_object_get(d->b.rows, key);
    if (!rows_a || !rows_b)
        return add_difference(d->differences, "%s%s%s, %s: in %s alone", part, *part ? ", " : "", task, strategy,
                              rows_a ? "A" : "B");
    drr_status status = compare_rows(&c, rows_a, rows_b, d->bootstrap, d->seed, err);
    if (status != DRR_OK)
        return status;
    if (c.only_in_a || c.only_in_b || c.other_text)
        status = add_difference(d->differences,
                                "%s, %s: %llu questions are in A alone, %llu in B alone, and %llu have another text",
                                task, strategy, (unsigned long long)c.only_in_a, (unsigned long long)c.only_in_b,
                                (unsigned long long)c.other_text);
    json_t *policy_a = json_object_get(run_of(json_object_get(d->a.parts, part), task, strategy), "policy"),
           *policy_b = json_object_get(run_of(json_object_get(d->b.parts, other), task, strategy), "policy");
    snprintf(of, sizeof of, "%s%s%s, %s: policy's ", part, *part ? ", " : "", task, strategy);
    if (status == DRR_OK && json_is_object(policy_a) && json_is_object(policy_b))
        status = compare_members(d->differences, of, policy_a, policy_b);
    if (status != DRR_OK)
        return error_memory(err);
    if (c.n == 0)
        return DRR_OK;
    status = json_array_append_new(d->comparisons, compared_json(&c, part, other, task, strategy)) ? error_memory(err)
                                                                                                   : DRR_OK;
    return status == DRR_OK ? add_pair(d, &c.pair, err) : status;
}

static json_t *task_figure(const json_t *parts, const char *part, const char *task, const char *name)
{
    return json_object_get(json_object_get(json_object_get(json_object_get(parts, part), "tasks"), task), name);
}

/* Every strategy that either has, a's first. */
static drr_status compare_task(differ *d, const char *part, const char *other, const char *task, drr_error *err)
{
    json_t *a = task_figure(d->a.parts, part, task, "strategies");
    json_t *b = task_figure(d->b.parts, other, task, "strategies");
    json_t *names = json_object(), *member;
    json_t *budget_a = task_figure(d->a.parts, part, task, "equal_budget");
    json_t *budget_b = task_figure(d->b.parts, other, task, "equal_budget");
    const char *name;
    drr_status status = names && (!a || !json_object_update(names, a)) && (!b || !json_object_update(names, b))
                            ? DRR_OK
                            : error_memory(err);
    if (status == DRR_OK && (budget_a || budget_b) && !json_equal(budget_a, budget_b)) {
        char left[200], right[200];
        say_value(left, budget_a);
        say_value(right, budget_b);
        if (add_difference(d->differences, "%s%s%s: equal_budget: %s in A, %s in B", part, *part ? ", " : "", task,
                           left, right) != DRR_OK)
            status = error_memory(err);
    }
    json_object_foreach(names, name, member)
    {
        if (status == DRR_OK)
            status = compare_group(d, part, other, task, name, err);
    }
    json_decref(names);
    return status;
}

static drr_status compare_part(differ *d, const char *part, const char *other, drr_error *err)
{
    json_t *a = json_object_get(d->a.parts, part), *b = json_object_get(d->b.parts, other), *task;
    const char *name;
    if (compare_parts(d->differences, part, a, b) != DRR_OK)
        return error_memory(err);
    drr_status status = DRR_OK;
    json_object_foreach(json_object_get(a, "tasks"), name, task)
    {
        if (status == DRR_OK && json_object_get(json_object_get(b, "tasks"), name))
            status = compare_task(d, part, other, name, err);
        else if (status == DRR_OK)
            status = add_difference(d->differences, "the data set %s: in A alone", name);
    }
    json_object_foreach(json_object_get(b, "tasks"), name, task)
    {
        if (status == DRR_OK && !json_object_get(json_object_get(a, "tasks"), name))
            status = add_difference(d->differences, "the data set %s: in B alone", name);
    }
    return status;
}

static drr_status compare_all(differ *d, drr_error *err)
{
    const char *part;
    json_t *report;
    drr_status status = DRR_OK;
    json_object_foreach(d->a.parts, part, report)
    {
        const char *other = partner(d, part);
        if (status == DRR_OK && other)
            status = compare_part(d, part, other, err);
        else if (status == DRR_OK)
            status = add_difference(d->differences, "the part %s: in A alone", part);
    }
    json_object_foreach(d->b.parts, part, report)
    {
        const bool paired = json_object_size(d->a.parts) == 1 && json_object_size(d->b.parts) == 1;
        if (status == DRR_OK && !json_object_get(d->a.parts, part) && !paired)
            status = add_difference(d->differences, "the part %s: in B alone", part);
    }
    if (status == DRR_OK && d->n == 0)
        status = error_set(err, DRR_E_MISMATCH,
                           "%s and %s have no strategy on questions in common: there is nothing to compare",
                           d->a.folder, d->b.folder);
    return status;
}

static drr_status correct(differ *d, drr_error *err)
{
    double *p = calloc(2 * d->n + 1, sizeof *p);
    if (!p)
        return error_memory(err);
    for (size_t i = 0; i < d->n; i++)
        p[i] = d->pairs[i].p;
    drr_status status = holm(p + d->n, p, d->n) ? DRR_OK : error_memory(err);
    for (size_t i = 0; i < d->n && status == DRR_OK; i++) {
        json_t *o = json_array_get(d->comparisons, i);
        buffer words = {0};
        d->pairs[i].p_holm = p[d->n + i];
        json_object_set_new(o, "p_holm", json_number_or_null(p[d->n + i]));
        json_object_set_new(o, "within_noise", json_boolean(p[d->n + i] >= 0.05));
        status = pair_sentence(&words, "B", "A", &d->pairs[i], err);
        if (status == DRR_OK)
            json_object_set_new(o, "finding", json_string(words.data));
        buffer_clear(&words);
    }
    free(p);
    return status;
}

/* ---- forms */

static drr_status markdown(char **text, const differ *d, drr_error *err)
{
    buffer b = {0};
    size_t i;
    json_t *one;
    drr_status status =
        buffer_printf(&b, err,
                      "A: %s  \nB: %s\n\n| part | task | strategy | n | A | B | B less A | 95 %% interval "
                      "| p (McNemar) | p (Holm) |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | "
                      "---: | ---: |\n",
                      d->a.folder, d->b.folder);
    json_array_foreach(d->comparisons, i, one)
    {
        const pair *p = &d->pairs[i];
        char range[48];
        figure_range(range, &p->difference);
        if (status == DRR_OK)
            status = buffer_printf(
                &b, err, "| %s | %s | %s | %d | %.1f %% | %.1f %% | %+.1f | %s | %.2g | %.2g |\n",
                json_string_or(one, "part_a", ""), json_string_or(one, "task", ""), json_string_or(one, "strategy", ""),
                (int)json_number_or(one, "n", 0), 100 * json_number_or(one, "accuracy_a", 0),
                100 * json_number_or(one, "accuracy_b", 0), 100 * p->difference.value, range, p->p, p->p_holm);
    }
    if (status == DRR_OK)
        status = buffer_puts(&b, "\n", err);
    json_array_foreach(d->comparisons, i, one)
    {
        if (status == DRR_OK)
            status = buffer_printf(&b, err, "- %s, %s: %s\n", json_string_or(one, "task", ""),
                                   json_string_or(one, "strategy", ""), json_string_or(one, "finding", ""));
    }
    if (status == DRR_OK)
        status =
            buffer_puts(&b, json_array_size(d->differences) ? "\nWhat differs:\n\n" : "\nNothing else differs.\n", err);
    json_array_foreach(d->differences, i, one)
    {
        if (status == DRR_OK)
            status = buffer_printf(&b, err, "- %s\n", json_string_value(one));
    }
    if (status == DRR_OK)
        *text = buffer_take(&b);
    buffer_clear(&b);
    return status;
}

static drr_status write_forms(const char *out, const char *json, const char *table, drr_error *err)
{
    char path[4096];
    drr_status status = folder_make(out, err);
    snprintf(path, sizeof path, "%s/diff.json", out);
    if (status == DRR_OK)
        status = file_write_all(path, json, strlen(json), err);
    snprintf(path, sizeof path, "%s/diff.md", out);
    return status == DRR_OK ? file_write_all(path, table, strlen(table), err) : status;
}

drr_status drr_eval_diff(char **json, char **table, const char *a, const char *b, const char *out, uint32_t bootstrap,
                         uint64_t seed, drr_error *err)
{
    differ d = {.bootstrap = bootstrap, .seed = seed, .differences = json_array(), .comparisons = json_array()};
    char *as_json = NULL, *as_text = NULL;
    drr_status status = d.differences && d.comparisons ? study_open(&d.a, a, err) : error_memory(err);
    if (status == DRR_OK)
        status = study_open(&d.b, b, err);
    if (status == DRR_OK)
        status = compare_all(&d, err);
    if (status == DRR_OK)
        status = correct(&d, err);
    if (status == DRR_OK) {
        json_t *root = json_pack("{s:s, s:s, s:s, s:O, s:O}", "drr", DRR_VERSION, "a", a, "b", b, "comparisons",
                                 d.comparisons, "differences", d.differences);
        as_json = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : NULL;
        status = as_json ? markdown(&as_text, &d, err) : error_memory(err);
        json_decref(root);
    }
    if (status == DRR_OK && out)
        status = write_forms(out, as_json, as_text, err);
    if (status == DRR_OK) {
        *json = as_json;
        *table = as_text;
    } else {
        free(as_json);
        free(as_text);
    }
    free(d.pairs);
    study_clear(&d.a);
    study_clear(&d.b);
    json_decref(d.differences);
    json_decref(d.comparisons);
    return status;
}
