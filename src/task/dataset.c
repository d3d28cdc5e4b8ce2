/* dataset.c: a set of questions read from a file, JSON lines or one JSON array. Shapes of records are formats.c's. */
#include "task/dataset_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool answer_fits(const drr_task *t)
{
    if (t->answer[0] == '\0')
        return true;
    switch (t->kind) {
    case DRR_KIND_CHOICE:
        return t->answer[1] == '\0' && t->answer[0] >= 'A' && (size_t)(t->answer[0] - 'A') < t->n_choices;
    case DRR_KIND_BOOLEAN:
        return strcmp(t->answer, "yes") == 0 || strcmp(t->answer, "no") == 0;
    case DRR_KIND_NUMBER:
        return drr_answer_equal(DRR_KIND_NUMBER, t->answer, t->answer);
    case DRR_KIND_TEXT:
    case DRR_KIND_CHECKED:
        return true;
    }
    return false;
}

drr_status dataset_add(drr_dataset *d, const char *id, const char *question, const char *const *choices,
                       size_t n_choices, const char *answer, drr_kind kind, const char *where, drr_error *err)
{
    if (!*id || !*question)
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" is empty", where, *id ? "question" : "id");
    if (d->n == d->capacity) {
        const size_t capacity = d->capacity ? d->capacity * 2 : 256;
        drr_task *larger = realloc(d->tasks, capacity * sizeof *larger);
        if (!larger)
            return error_memory(err);
        d->tasks = larger;
        uint64_t *lines = realloc(d->lines, capacity * sizeof *lines);
        if (!lines)
            return error_memory(err);
        d->lines = lines;
        d->capacity = capacity;
    }
    const char **copies = NULL;
    if (n_choices) {
        copies = arena_alloc(d->memory, n_choices * sizeof *copies, _Alignof(char *));
        for (size_t i = 0; copies && i < n_choices; i++)
            if (!(copies[i] = arena_copy(d->memory, choices[i], strlen(choices[i]))))
                return error_memory(err);
    }
    drr_task t = {.task = d->name,
                  .id = arena_copy(d->memory, id, strlen(id)),
                  .question = arena_copy(d->memory, question, strlen(question)),
                  .choices = copies,
                  .n_choices = n_choices,
                  .answer = arena_copy(d->memory, answer, strlen(answer)),
                  .kind = kind};
    if (!t.id || !t.question || !t.answer || (n_choices && !copies))
        return error_memory(err);
    if (!answer_fits(&t))
        return error_set(err, DRR_E_FORMAT, "%s: the answer \"%s\" does not fit a %s question%s", where, answer,
                         drr_kind_name(kind),
                         kind == DRR_KIND_CHOICE    ? ": it must be the letter of one of its choices"
                         : kind == DRR_KIND_BOOLEAN ? ": it must be yes or no"
                                                    : "");
    d->tasks[d->n++] = t;
    return DRR_OK;
}

static int by_id(const void *a, const void *b, void *user)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    const drr_dataset *d = user;
    const int order = strcmp(d->tasks[x].id, d->tasks[y].id);
    return order ? order : (x > y) - (x < y);
}

static drr_status refuse_doubles(drr_dataset *d, const char *path, drr_error *err)
{
    drr_status status = DRR_OK;
    size_t *order = malloc((d->n + 1) * sizeof *order);
    if (!order)
        return error_memory(err);
    for (size_t i = 0; i < d->n; i++)
        order[i] = i;
    qsort_r(order, d->n, sizeof *order, by_id, d);
    for (size_t i = 1; i < d->n && status == DRR_OK; i++) {
        const size_t a = order[i - 1], b = order[i];
        if (strcmp(d->tasks[a].id, d->tasks[b].id) == 0)
            status =
                error_set(err, DRR_E_FORMAT,
                          "%s:%llu: the id \"%s\" stands on line %llu already; give each question an id of its own, "
                          "since traces are split and resumed by it",
                          path, (unsigned long long)d->lines[b], d->tasks[b].id, (unsigned long long)d->lines[a]);
    }
    free(order);
    return status;
}

static drr_status choose_format(data_format *format, const char *wanted, drr_error *err)
{
    *format = FORMAT_COUNT;
    for (size_t i = 0; wanted && i < FORMAT_COUNT; i++)
        if (strcmp(wanted, format_names[i]) == 0)
            *format = (data_format)i;
    if (wanted && *format == FORMAT_COUNT)
        return error_set(err, DRR_E_ARGUMENT,
                         "\"%s\" is not a format of data sets (drr, gsm8k, svamp, csqa, strategyqa, arc, mmlu)",
                         wanted);
    return DRR_OK;
}

/* One record's text: parsed, its format found, its task added. */
static drr_status add_record(drr_dataset *d, data_format *format, const char *text, size_t length, const char *path,
                             uint64_t line, drr_error *err)
{
    char where[512];
    json_t *record = NULL;
    drr_error why = {0};
    snprintf(where, sizeof where, "%.480s:%llu", path, (unsigned long long)line);
    const size_t bad = utf8_sound(text, length);
    if (bad < length)
        return error_set(err, DRR_E_FORMAT, "%s: byte %zu is not UTF-8; convert the file to UTF-8", where, bad + 1);
    drr_status status = json_parse(&record, text, length, where, &why);
    if (status != DRR_OK)
        return error_set(err, status, "%s; mend or remove this record, or fetch the file again if it was cut short",
                         why.message);
    if (*format == FORMAT_COUNT)
        *format = format_detect(record);
    const size_t before = d->n;
    status = format_read(d, *format, record, before, where, err);
    if (status == DRR_OK && d->n > before)
        d->lines[before] = line;
    json_decref(record);
    return status;
}

static bool blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)text[i]))
            return false;
    return true;
}

typedef drr_status (*line_fn)(void *user, char *line, size_t length, uint64_t number, drr_error *err);

/* Every line of a file, plain or gzip. */
static drr_status each_line(const char *path, line_fn each, void *user, drr_error *err)
{
    line_reader *reader = NULL;
    drr_error ended = {0};
    drr_status status = lines_open(&reader, path, err);
    while (status == DRR_OK) {
        char *line;
        size_t length;
        status = lines_next(reader, &line, &length, &ended);
        if (status == DRR_E_EMPTY) {
            status = DRR_OK;
            break;
        }
        if (status != DRR_OK)
            error_set(err, status, "%s", ended.message);
        else
            status = each(user, line, length, lines_number(reader), err);
    }
    lines_close(reader);
    return status;
}

typedef struct record_lines {
    drr_dataset *d;
    const char *path;
    data_format format;
} record_lines;

static drr_status take_record(void *user, char *line, size_t length, uint64_t number, drr_error *err)
{
    record_lines *r = user;
    if (blank(line, length))
        return DRR_OK;
    const size_t mark = length >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    return add_record(r->d, &r->format, line + mark, length - mark, r->path, number, err);
}

static drr_status read_lines(drr_dataset *d, const char *path, data_format format, drr_error *err)
{
    record_lines r = {d, path, format};
    return each_line(path, take_record, &r, err);
}

/* The end of the JSON value that begins at `at`: before a comma or the bracket that closes what it stands in. */
static size_t element_end(const char *text, size_t size, size_t at)
{
    int open = 0;
    bool quoted = false;
    for (; at < size; at++) {
        const char c = text[at];
        if (quoted) {
            if (c == '\\')
                at++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            open++;
        } else if (c == '}' || c == ']') {
            if (open-- == 0)
                break;
        } else if (c == ',' && open == 0) {
            break;
        }
    }
    return at < size ? at : size;
}

static uint64_t lines_between(const char *text, size_t begin, size_t end)
{
    uint64_t n = 0;
    for (size_t i = begin; i < end; i++)
        n += text[i] == '\n';
    return n;
}

static drr_status take_text(void *user, char *line, size_t length, uint64_t number, drr_error *err)
{
    (void)number;
    drr_status status = buffer_append(user, line, length, err);
    return status == DRR_OK ? buffer_append(user, "\n", 1, err) : status;
}

/* One JSON array, as SVAMP and StrategyQA are published: its records one by one, so that each has its line. */
static drr_status read_array(drr_dataset *d, const char *path, data_format format, drr_error *err)
{
    buffer whole = {0};
    uint64_t line = 1;
    bool closed = false;
    drr_status status = each_line(path, take_text, &whole, err);
    const char *text = whole.data, *bracket = text ? memchr(text, '[', whole.size) : NULL;
    const size_t size = bracket ? whole.size : 0; /* without one, the file is no longer what first_character saw */
    size_t counted = 0, at = bracket ? (size_t)(bracket - text) + 1 : 0;
    while (status == DRR_OK && at < size && !closed) {
        while (at < size && isspace((unsigned char)text[at]))
            at++;
        line += lines_between(text, counted, at);
        counted = at;
        const size_t end = element_end(text, size, at);
        closed = end < size && text[end] == ']';
        if (end < size && !(closed && end == at))
            status = add_record(d, &format, text + at, end - at, path, line, err);
        at = end + 1;
    }
    if (status == DRR_OK && !closed)
        status = error_set(err, DRR_E_FORMAT, "%s:%llu: the list is not closed: the file was cut short; fetch it again",
                           path, (unsigned long long)line);
    if (status == DRR_OK && at < size && !blank(text + at, size - at)) {
        line += lines_between(text, counted, at + strspn(text + at, " \t\n"));
        status = error_set(err, DRR_E_FORMAT,
                           "%s:%llu: there is more after the end of the list; give one list, or one record a line",
                           path, (unsigned long long)line);
    }
    buffer_clear(&whole);
    return status;
}

/* '[' says one array, anything else JSON lines; '\0' that there is nothing. */
static drr_status first_character(char *first, const char *path, drr_error *err)
{
    line_reader *reader = NULL;
    drr_error ended = {0};
    drr_status status = lines_open(&reader, path, err);
    *first = '\0';
    while (status == DRR_OK && *first == '\0') {
        char *line;
        size_t length;
        status = lines_next(reader, &line, &length, &ended);
        if (status == DRR_OK)
            *first = line[strspn(line, " \t\xef\xbb\xbf")];
        else if (status != DRR_E_EMPTY)
            error_set(err, status, "%s", ended.message);
    }
    lines_close(reader);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

static drr_dataset *dataset_new(const char *name, size_t name_length, const char *path)
{
    drr_dataset *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->memory = arena_new(0);
    d->name = d->memory ? arena_copy(d->memory, name, name_length) : NULL;
    d->path = d->memory ? arena_copy(d->memory, path, strlen(path)) : NULL;
    if (d->name && d->path)
        return d;
    drr_dataset_free(d);
    return NULL;
}

drr_status dataset_of_record(drr_dataset **dataset, const char *task, const char *record, const char *where,
                             drr_error *err)
{
    data_format format = FORMAT_DRR;
    drr_dataset *d = dataset_new(task, strlen(task), where);
    drr_status status = d ? add_record(d, &format, record, strlen(record), where, 1, err) : error_memory(err);
    if (status == DRR_OK)
        *dataset = d;
    else
        drr_dataset_free(d);
    return status;
}

drr_status drr_dataset_open(drr_dataset **dataset, const char *path, const char *format, const char *name,
                            drr_error *err)
{
    char first;
    data_format chosen;
    drr_status status = choose_format(&chosen, format, err);
    if (status == DRR_OK)
        status = first_character(&first, path, err);
    if (status != DRR_OK)
        return status;
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    drr_dataset *d = name ? dataset_new(name, strlen(name), path) : dataset_new(base, strcspn(base, "."), path);
    if (!d)
        return error_memory(err);
    status = first == '[' ? read_array(d, path, chosen, err) : read_lines(d, path, chosen, err);
    if (status == DRR_OK && d->n == 0)
        status =
            error_set(err, DRR_E_FORMAT,
                      "%s holds no questions: it is empty or blank; check that it was written or fetched whole", path);
    if (status == DRR_OK)
        status = refuse_doubles(d, path, err);
    if (status == DRR_OK) {
        *dataset = d;
        d = NULL;
    }
    drr_dataset_free(d);
    return status;
}

void drr_dataset_free(drr_dataset *dataset)
{
    if (!dataset)
        return;
    arena_free(dataset->memory);
    free(dataset->tasks);
    free(dataset->lines);
    free(dataset);
}

const char *drr_dataset_name(const drr_dataset *dataset)
{
    return dataset->name;
}

size_t drr_dataset_count(const drr_dataset *dataset)
{
    return dataset->n;
}

const drr_task *drr_dataset_at(const drr_dataset *dataset, size_t index)
{
    return index < dataset->n ? &dataset->tasks[index] : NULL;
}

void drr_dataset_place(char *place, size_t size, const drr_dataset *dataset, size_t index)
{
    const uint64_t line = index < dataset->n ? dataset->lines[index] : 0;
    snprintf(place, size, "%s:%llu", dataset->path, (unsigned long long)line);
}
