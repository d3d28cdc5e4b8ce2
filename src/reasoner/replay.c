/* replay.c: a reasoner that gives recorded answers (JSONL as in ../shared/traces, or drr's own export). It serves
 * selection, stopping and abstention, with models that no machine of ours can run: the s-th sample of a question is its
 * s-th record in an order shuffled by the seed, and after the last comes the first again. It cannot hear feedback: a
 * later turn is another sample. Token counts are estimates (4 bytes a token), log-probabilities unknown. */
#include "core/json.h"
#include "reasoner/reasoner.h"

#include <stdlib.h>
#include <string.h>

enum { BYTES_A_TOKEN = 4 };

typedef struct record {
    char *question, *text;
    void *hidden; /* hidden_size bytes, or NULL */
    size_t hidden_size;
    uint64_t order; /* random, by the seed */
} record;

typedef struct replay {
    record *records; /* by question, then order */
    size_t n, capacity;
    char *reasoner, *path;
    reasoner_completion *ready;
    size_t n_ready, ready_capacity;
    hidden_layers hidden; /* of the first record that has any */
} replay;

static int record_compare(const void *a, const void *b)
{
    const record *x = a, *y = b;
    const int questions = strcmp(x->question, y->question);
    return questions ? questions : (x->order > y->order) - (x->order < y->order);
}

/* ---- reading */

static drr_status add_record(replay *r, const char *question, const char *text, uint64_t seed, drr_error *err)
{
    if (r->n == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 1024;
        record *more = realloc(r->records, capacity * sizeof *more);
        if (!more)
            return error_memory(err);
        r->records = more;
        r->capacity = capacity;
    }
    record *added = &r->records[r->n];
    *added = (record){0};
    added->question = string_copy(question);
    added->text = string_copy(text);
    added->order = hash_mix(hash_string(seed, question), r->n);
    r->n++;
    return added->question && added->text ? DRR_OK : error_memory(err);
}

/* The newest record's hidden states, where the line has some. */
static drr_status take_hidden(replay *r, const char *text, const char *where, drr_error *err)
{
    record *added = &r->records[r->n - 1];
    drr_status status = text ? hidden_from_text(&added->hidden, &added->hidden_size, text, where, err) : DRR_OK;
    if (added->hidden && r->hidden.n == 0)
        hidden_layers_of(&r->hidden, added->hidden);
    return status;
}

static bool wanted(const char *value, const char *only)
{
    return !only || (value && strcmp(value, only) == 0);
}

static drr_status take_line(replay *r, json_t *o, const char *where, const drr_reasoner_options *options,
                            drr_error *err)
{
    const char *question, *text, *reasoner;
    drr_status status = json_get_string(&question, o, "question", where, err);
    if (status == DRR_OK)
        status = json_get_string(&text, o, "text", where, err);
    if (status == DRR_OK)
        status = json_get_string(&reasoner, o, "reasoner", where, err);
    if (status != DRR_OK)
        return status;
    if (!wanted(reasoner, options->replay_reasoner) ||
        !wanted(json_string_or(o, "prompt", NULL), options->replay_prompt) || json_number_or(o, "turn", 0) > 0)
        return DRR_OK;
    if (!r->reasoner && !(r->reasoner = string_copy(reasoner)))
        return error_memory(err);
    if (strcmp(r->reasoner, reasoner) != 0)
        return error_set(err, DRR_E_ARGUMENT,
                         "%s: the file holds answers of %s and of %s: say which with --replay-reasoner NAME", where,
                         r->reasoner, reasoner);
    status = add_record(r, question, text, options->seed, err);
    return status == DRR_OK ? take_hidden(r, json_string_or(o, "hidden", NULL), where, err) : status;
}

static drr_status read_records(replay *r, const char *path, const drr_reasoner_options *options, drr_error *err)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    drr_status status = lines_open(&lines, path, err);
    while (status == DRR_OK && (status = lines_next(lines, &line, &length, err)) == DRR_OK) {
        char where[4200];
        json_t *o = NULL;
        snprintf(where, sizeof where, "%s:%llu", path, (unsigned long long)lines_number(lines));
        if (strspn(line, " \t") == length)
            continue;
        status = json_parse(&o, line, length, where, err);
        if (status == DRR_OK)
            status = take_line(r, o, where, options, err);
        json_decref(o);
    }
    lines_close(lines);
    if (status == DRR_E_EMPTY)
        status = DRR_OK;
    if (status == DRR_OK && r->n == 0)
        status = error_set(
            err, DRR_E_EMPTY, "%s holds no fresh answer%s%s%s%s", path, options->replay_reasoner ? " of reasoner " : "",
            options->replay_reasoner ? options->replay_reasoner : "", options->replay_prompt ? " to prompt " : "",
            options->replay_prompt ? options->replay_prompt : "");
    if (status == DRR_OK)
        qsort(r->records, r->n, sizeof *r->records, record_compare);
    return status;
}

static void records_digest(char hex[65], const replay *r)
{
    sha256 h;
    sha256_begin(&h);
    for (size_t i = 0; i < r->n; i++) { /* with their NULs: where one string ends and the next begins counts */
        sha256_add(&h, r->records[i].question, strlen(r->records[i].question) + 1);
        sha256_add(&h, r->records[i].text, strlen(r->records[i].text) + 1);
    }
    sha256_end(&h, hex);
}

/* ---- answering */

/* First record of a question, and how many; 0 when there is none. */
static size_t find(const replay *r, const char *question, size_t *first)
{
    size_t low = 0, high = r->n, n = 0;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(r->records[middle].question, question) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *first = low;
    while (low + n < r->n && strcmp(r->records[low + n].question, question) == 0)
        n++;
    return n;
}

/* Samples come as 0, 1, ..; a later turn t of sample s as s + 1000 t (reasoner.h): both walk through the records. */
static size_t which(uint32_t sample, size_t n)
{
    return (sample % 1000 + sample / 1000) % n;
}

static drr_status replay_submit(void *self, const reasoner_request *request, drr_error *err)
{
    replay *r = self;
    reasoner_completion c = {.tag = request->tag, .finish = DRR_FINISH_FAILED};
    size_t first, bytes = 0;
    const size_t n = request->question ? find(r, request->question, &first) : 0;
    if (r->n_ready == r->ready_capacity) {
        const size_t capacity = r->ready_capacity ? 2 * r->ready_capacity : 64;
        reasoner_completion *more = realloc(r->ready, capacity * sizeof *more);
        if (!more)
            return error_memory(err);
        r->ready = more;
        r->ready_capacity = capacity;
    }
    if (n) {
        c.finish = DRR_FINISH_STOP;
        const record *said = &r->records[first + which(request->sample, n)];
        c.text = string_copy(said->text);
        c.hidden = said->hidden && request->answer_at ? malloc(said->hidden_size) : NULL;
        if (!c.text || (said->hidden && request->answer_at && !c.hidden)) {
            reasoner_completion_clear(&c);
            return error_memory(err);
        }
        if (c.hidden)
            memcpy(c.hidden, said->hidden, c.hidden_size = said->hidden_size);
        for (size_t i = 0; i < request->n_messages; i++)
            bytes += strlen(request->messages[i].content);
        c.n_tokens = (uint32_t)((strlen(c.text) + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN);
        c.n_prompt_tokens = (uint32_t)(bytes / BYTES_A_TOKEN);
    } else {
        buffer words = {0};
        drr_status status = buffer_printf(&words, err, "%s has no answer to \"%.80s\"", r->path,
                                          request->question ? request->question : "");
        if (status != DRR_OK)
            return status;
        c.failure = buffer_take(&words);
    }
    r->ready[r->n_ready++] = c;
    return DRR_OK;
}

static drr_status replay_next(void *self, reasoner_completion *completion, drr_error *err)
{
    replay *r = self;
    if (r->n_ready == 0)
        return error_set(err, DRR_E_EMPTY, "nothing is in flight");
    *completion = r->ready[--r->n_ready];
    return DRR_OK;
}

static size_t replay_ready(const void *self)
{
    return ((const replay *)self)->n_ready;
}

static void replay_cancel(void *self)
{
    replay *r = self;
    while (r->n_ready)
        reasoner_completion_clear(&r->ready[--r->n_ready]);
}

static void replay_close(void *self)
{
    replay *r = self;
    replay_cancel(r);
    for (size_t i = 0; i < r->n; i++) {
        free(r->records[i].question);
        free(r->records[i].text);
        free(r->records[i].hidden);
    }
    free(r->records);
    free(r->reasoner);
    free(r->path);
    free(r->ready);
    free(r);
}

drr_status reasoner_open_replay(drr_reasoner **reasoner, const char *path, const drr_reasoner_options *options,
                                drr_error *err)
{
    static const reasoner_backend backend = {.submit = replay_submit,
                                             .next = replay_next,
                                             .cancel = replay_cancel,
                                             .close = replay_close,
                                             .ready = replay_ready};
    enum { WIDTH = 64 };
    buffer id = {0}, description = {0};
    replay *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    r->path = string_copy(path);
    drr_status status = r->path ? read_records(r, path, options, err) : error_memory(err);
    if (status == DRR_OK)
        status = buffer_printf(&id, err, "%s@replay", r->reasoner);
    if (status == DRR_OK)
        status = buffer_printf(&description, err, "%zu recorded answers of %s from %s", r->n, r->reasoner, path);
    if (status == DRR_OK)
        status = reasoner_new(reasoner, &backend, r, id.data, description.data, options->width ? options->width : WIDTH,
                              err);
    if (status == DRR_OK) {
        reasoner_basis basis = {.hidden = r->hidden};
        records_digest(basis.recording, r);
        reasoner_set_basis(*reasoner, &basis);
    } else {
        replay_close(r);
    }
    buffer_clear(&id);
    buffer_clear(&description);
    return status;
}
