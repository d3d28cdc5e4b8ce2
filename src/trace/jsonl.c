/* jsonl.c: traces as JSON lines, plain or gzip: drr's own record (docs/formats.md) and the replay records of ../shared.
 * Also the calls that take either a store or such a file. Keeping traces is sqlite.c's. */
#include "core/hidden.h"
#include "trace/sqlite_internal.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one record */

static const struct {
    const char *name;
    size_t offset;
} stat_fields[] = {{"mean", offsetof(drr_token_stats, mean)},
                   {"min", offsetof(drr_token_stats, min)},
                   {"tail_mean", offsetof(drr_token_stats, tail_mean)},
                   {"entropy_mean", offsetof(drr_token_stats, entropy_mean)},
                   {"answer_mean", offsetof(drr_token_stats, answer_mean)},
                   {"answer_min", offsetof(drr_token_stats, answer_min)},
                   {"answer_entropy", offsetof(drr_token_stats, answer_entropy)},
                   {"answer_margin", offsetof(drr_token_stats, answer_margin)}};
enum { N_STAT_FIELDS = sizeof stat_fields / sizeof *stat_fields };

static float *stat_field(const drr_token_stats *stats, size_t i)
{
    return (float *)(uintptr_t)((const char *)stats + stat_fields[i].offset);
}

drr_status trace_to_json(json_t **object, const drr_trace *t, drr_error *err)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s?, s:b, s:s, s:s?, s:s, s:s, s:I, s:I}",
                  "task", t->task, "id", t->id, "question", t->question, "gold", t->gold, "kind",
                  drr_kind_name(t->kind), "reasoner", t->reasoner, "prompt", t->prompt, "sample", (json_int_t)t->sample,
                  "turn", (json_int_t)t->turn, "seed", "", "feedback", t->feedback, "forced", (int)t->forced, "text",
                  t->text, "answer", t->answer, "label", drr_label_name(t->label), "finish", drr_finish_name(t->finish),
                  "n_prompt_tokens", (json_int_t)t->n_prompt_tokens, "n_tokens", (json_int_t)t->n_tokens);
    if (!o)
        return error_set(err, DRR_E_FORMAT, "trace %s/%s/%u/%u cannot be written as JSON: is its text UTF-8?", t->task,
                         t->id, t->sample, t->turn);
    char seed[24]; /* a string: JSON numbers lose digits past 2^53 in many readers */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)t->seed);
    json_object_set_new(o, "seed", json_string(seed));
    json_object_set_new(o, "seconds", json_number_or_null(t->seconds));
    json_object_set_new(o, "temperature", json_number_or_null((double)t->temperature));
    if (t->stats.n) {
        json_t *s = json_pack("{s:I, s:I}", "n", (json_int_t)t->stats.n, "answer_n", (json_int_t)t->stats.answer_n);
        for (size_t i = 0; s && i < N_STAT_FIELDS; i++)
            json_object_set_new(s, stat_fields[i].name, json_number_or_null((double)*stat_field(&t->stats, i)));
        json_object_set_new(o, "stats", s);
    }
    drr_status status = DRR_OK;
    if (t->n_steps) {
        json_t *steps = NULL;
        status = trace_steps_to_json(&steps, t, err);
        json_object_set_new(o, "steps", steps);
        json_object_set_new(o, "steps_rollouts", json_integer(t->steps_rollouts));
        json_object_set_new(o, "steps_tokens", json_integer(t->steps_tokens));
    }
    if (status == DRR_OK && t->hidden) {
        char *hidden = hidden_to_text(t->hidden, t->hidden_size);
        status = hidden ? DRR_OK : error_memory(err);
        json_object_set_new(o, "hidden", json_string(hidden));
        free(hidden);
    }
    if (status == DRR_OK)
        *object = o;
    else
        json_decref(o);
    return status;
}

static drr_status copy_string(char **to, json_t *object, const char *field, const char *where, drr_error *err)
{
    const char *value;
    drr_status status = json_get_string(&value, object, field, where, err);
    if (status == DRR_OK && !(*to = string_copy(value)))
        status = error_memory(err);
    return status;
}

static drr_kind guess_kind(const drr_trace *t)
{
    if (strstr(t->question, "(A)") && strlen(t->gold) == 1 && t->gold[0] >= 'A' && t->gold[0] <= 'Z')
        return DRR_KIND_CHOICE;
    if (strcmp(t->gold, "yes") == 0 || strcmp(t->gold, "no") == 0)
        return DRR_KIND_BOOLEAN;
    if (drr_answer_equal(DRR_KIND_NUMBER, t->gold, t->gold) || strcmp(t->gold, "None") == 0)
        return DRR_KIND_NUMBER;
    return DRR_KIND_TEXT;
}

/* ../shared's records say "correct"; drr's say "label". */
static drr_status read_label(drr_trace *t, json_t *object, const char *where, drr_error *err)
{
    json_t *correct = json_object_get(object, "correct");
    if (json_is_boolean(correct)) {
        t->label = json_is_true(correct) ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
        return DRR_OK;
    }
    const char *name;
    drr_status status = json_get_string(&name, object, "label", where, err);
    for (int l = 0; status == DRR_OK && l <= DRR_LABEL_UNLABELLED; l++)
        if (strcmp(name, drr_label_name((drr_label)l)) == 0) {
            t->label = (drr_label)l;
            return DRR_OK;
        }
    return status != DRR_OK
               ? status
               : error_set(err, DRR_E_FORMAT, "%s: the label \"%s\" is none of accept, reject, unparsed, unlabelled",
                           where, name);
}

static drr_status read_count(uint32_t *count, json_t *object, const char *field, const char *where, drr_error *err)
{
    const double value = json_number_or(object, field, 0);
    if (!(value >= 0 && value <= UINT32_MAX))
        return error_set(err, DRR_E_FORMAT, "%s: \"%s\" is %g, and a count is wanted", where, field, value);
    *count = (uint32_t)value;
    return DRR_OK;
}

/* NaN where it is not known. A number that only a double can hold would become infinite. */
static drr_status read_float(float *to, json_t *object, const char *field, const char *where, drr_error *err)
{
    const double value = json_number_or(object, field, (double)NAN);
    if (fabs(value) > (double)FLT_MAX)
        return error_set(err, DRR_E_FORMAT, "%s: \"%s\" is %g, which is too large", where, field, value);
    *to = (float)value;
    return DRR_OK;
}

static drr_status read_stats(drr_token_stats *stats, json_t *object, const char *where, drr_error *err)
{
    char place[600];
    snprintf(place, sizeof place, "%s: stats", where);
    drr_status status = read_count(&stats->n, object, "n", place, err);
    if (status == DRR_OK)
        status = read_count(&stats->answer_n, object, "answer_n", place, err);
    for (size_t i = 0; status == DRR_OK && i < N_STAT_FIELDS; i++)
        status = read_float(stat_field(stats, i), object, stat_fields[i].name, place, err);
    return status;
}

drr_status trace_from_json(drr_trace *trace, json_t *o, const char *where, drr_error *err)
{
    drr_trace t = {0};
    drr_status status = DRR_OK;
    json_t *gold = json_object_get(o, "gold");
    trace_token_stats_unknown(&t.stats);
    if (!json_is_object(o))
        return error_set(err, DRR_E_FORMAT, "%s: a trace must be a JSON object", where);
    if (json_object_get(o, "question") && !json_object_get(o, "text"))
        return error_set(err, DRR_E_FORMAT,
                         "%s: a question without a text is no trace; of a data set `drr distill` makes traces", where);
    const struct {
        char **to;
        const char *field;
    } texts[] = {{&t.task, "task"},         {&t.id, "id"},         {&t.question, "question"},
                 {&t.reasoner, "reasoner"}, {&t.prompt, "prompt"}, {&t.text, "text"}};
    for (size_t i = 0; status == DRR_OK && i < sizeof texts / sizeof *texts; i++)
        status = copy_string(texts[i].to, o, texts[i].field, where, err);
    if (status == DRR_OK) {
        const char *answer = json_string_or(o, "answer", NULL), *feedback = json_string_or(o, "feedback", NULL);
        t.gold = string_copy(json_is_string(gold) ? json_string_value(gold) : "");
        t.answer = string_copy(answer);
        t.feedback = string_copy(feedback);
        if (!t.gold || (answer && !t.answer) || (feedback && !t.feedback))
            status = error_memory(err);
    }
    if (status == DRR_OK)
        status = read_label(&t, o, where, err);
    const struct {
        uint32_t *to;
        const char *field;
    } counts[] = {{&t.sample, "sample"},
                  {&t.turn, "turn"},
                  {&t.n_prompt_tokens, "n_prompt_tokens"},
                  {&t.n_tokens, "n_tokens"},
                  {&t.steps_rollouts, "steps_rollouts"},
                  {&t.steps_tokens, "steps_tokens"}};
    for (size_t i = 0; status == DRR_OK && i < sizeof counts / sizeof *counts; i++)
        status = read_count(counts[i].to, o, counts[i].field, where, err);
    if (status == DRR_OK)
        status = trace_steps_from_json(&t, json_object_get(o, "steps"), where, err);
    if (status == DRR_OK && json_string_or(o, "hidden", NULL))
        status = hidden_from_text(&t.hidden, &t.hidden_size, json_string_or(o, "hidden", NULL), where, err);
    if (status == DRR_OK)
        status = read_float(&t.temperature, o, "temperature", where, err);
    if (status == DRR_OK && json_is_object(json_object_get(o, "stats")))
        status = read_stats(&t.stats, json_object_get(o, "stats"), where, err);
    if (status != DRR_OK)
        goto done;
    const char *kind = json_string_or(o, "kind", NULL);
    if (!kind)
        t.kind = guess_kind(&t);
    else if (drr_kind_parse(&t.kind, kind, NULL) != DRR_OK)
        status = error_set(err, DRR_E_FORMAT, "%s: the kind \"%s\" is not known", where, kind);
    t.seed = strtoull(json_string_or(o, "seed", "0"), NULL, 10);
    t.forced = json_bool_or(o, "forced", false);
    t.seconds = json_number_or(o, "seconds", 0);
    const char *finish = json_string_or(o, "finish", "stop");
    for (int f = 0; f < 5; f++)
        if (strcmp(finish, drr_finish_name((drr_finish)f)) == 0)
            t.finish = (drr_finish)f;
done:
    if (status == DRR_OK)
        *trace = t;
    else
        drr_trace_clear(&t);
    return status;
}

/* ---- files */

static bool wanted(const drr_trace_filter *f, const drr_trace *t)
{
    return !f || ((!f->task || strcmp(f->task, t->task) == 0) && (!f->id || strcmp(f->id, t->id) == 0) &&
                  (!f->reasoner || strcmp(f->reasoner, t->reasoner) == 0) &&
                  (!f->prompt || strcmp(f->prompt, t->prompt) == 0) && (f->label < 0 || f->label == (int)t->label) &&
                  (f->turn < 0 || f->turn == (int)t->turn));
}

static drr_status read_filtered(const char *path, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                                drr_error *err)
{
    line_reader *reader = NULL;
    int64_t left = filter ? filter->limit : -1;
    drr_status status = lines_open(&reader, path, err);
    while (status == DRR_OK && left != 0) {
        char *line, where[512];
        size_t length;
        json_t *object = NULL;
        drr_trace t = {0};
        status = lines_next(reader, &line, &length, err);
        if (status != DRR_OK)
            break;
        if (strspn(line, " \t") == length)
            continue;
        snprintf(where, sizeof where, "%s:%llu", path, (unsigned long long)lines_number(reader));
        status = json_parse(&object, line, length, where, err);
        if (status == DRR_OK)
            status = trace_from_json(&t, object, where, err);
        json_decref(object);
        if (status != DRR_OK)
            break;
        bool more = true;
        if (wanted(filter, &t)) {
            more = each(user, &t);
            left -= left > 0;
        }
        drr_trace_clear(&t);
        if (!more)
            break;
    }
    lines_close(reader);
    return status == DRR_E_EMPTY ? DRR_OK : status;
}

drr_status drr_traces_read(const char *path, drr_trace_fn each, void *user, drr_error *err)
{
    return read_filtered(path, NULL, each, user, err);
}

static drr_status read_store(const char *name, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                             drr_error *err)
{
    drr_store *store = NULL;
    drr_status status = drr_store_open_read(&store, name, err);
    if (status == DRR_OK)
        status = drr_store_each(store, filter, each, user, err);
    drr_store_close(store);
    return status;
}

drr_status drr_traces_each(const char *path, const drr_trace_filter *filter, drr_trace_fn each, void *user,
                           drr_error *err)
{
    char magic[16] = "";
    if (drr_store_is_url(path))
        return read_store(path, filter, each, user, err);
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set_errno(err, errno, "%s cannot be opened", path);
    const size_t n = fread(magic, 1, sizeof magic, file);
    fclose(file);
    if (n < sizeof magic || memcmp(magic, "SQLite format 3", sizeof magic) != 0)
        return read_filtered(path, filter, each, user, err);
    return read_store(path, filter, each, user, err);
}

/* ---- export and import */

typedef struct exporting {
    line_writer *w;
    uint64_t n;
    drr_status status;
    drr_error *err;
} exporting;

static bool export_one(void *user, const drr_trace *t)
{
    exporting *e = user;
    json_t *object = NULL;
    e->status = trace_to_json(&object, t, e->err);
    char *line = e->status == DRR_OK ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (e->status == DRR_OK && !line)
        e->status = error_memory(e->err);
    if (e->status == DRR_OK)
        e->status = lines_put(e->w, line, e->err);
    free(line);
    e->n += e->status == DRR_OK;
    return e->status == DRR_OK;
}

drr_status drr_store_export(drr_store *store, const drr_trace_filter *filter, const char *path, uint64_t *n,
                            drr_error *err)
{
    exporting e = {.err = err};
    if (file_is_same(store->name, path))
        return error_set(err, DRR_E_ARGUMENT,
                         "%s is the store that is read, and would be overwritten; name another file", path);
    drr_status status = lines_create(&e.w, path, err);
    if (status == DRR_OK)
        status = drr_store_each(store, filter, export_one, &e, err);
    if (status == DRR_OK)
        status = e.status;
    if (status == DRR_OK)
        status = lines_commit(e.w, err);
    else
        lines_abandon(e.w);
    if (status == DRR_OK && n)
        *n = e.n;
    return status;
}

typedef struct importing {
    drr_store *store;
    uint64_t added, present;
    drr_status status;
    drr_error *err;
} importing;

static bool import_one(void *user, const drr_trace *t)
{
    importing *i = user;
    bool added = false;
    i->status = drr_store_append(i->store, t, &added, i->err);
    i->added += i->status == DRR_OK && added;
    i->present += i->status == DRR_OK && !added;
    return i->status == DRR_OK;
}

/* All or nothing: a file that breaks in the middle leaves the store as it was. */
drr_status drr_store_import(drr_store *store, const char *path, uint64_t *n_added, uint64_t *n_present, drr_error *err)
{
    importing i = {.store = store, .err = err};
    drr_status status = store_batch_begin(store, err);
    if (status != DRR_OK)
        return status;
    status = drr_traces_read(path, import_one, &i, err);
    if (status == DRR_OK)
        status = i.status;
    if (status == DRR_OK)
        status = store_batch_commit(store, err);
    else
        store_batch_abandon(store);
    if (status == DRR_OK && n_added)
        *n_added = i.added;
    if (status == DRR_OK && n_present)
        *n_present = i.present;
    return status;
}
