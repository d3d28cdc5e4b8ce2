/* corpus.c: traces for training, and their division into train, dev and test by question. A question is its text: the
 * same text under two ids, from two reasoners or in two prompts is one question, and never in two parts. */
#include "trace/trace.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading { /* what the callback needs */
    corpus *c;
    const drr_train_options *options;
    const drr_hooks *hooks;
    bool test;
    drr_status status;
    drr_error *err;
} reading;

/* Is `name` one of a comma list? A list of NULL has everything. */
static bool listed(const char *list, const char *name)
{
    const size_t length = name ? strlen(name) : 0;
    if (!list)
        return true;
    for (const char *p = list; *p;) {
        const size_t n = strcspn(p, ",");
        if (n == length && n && memcmp(p, name, n) == 0)
            return true;
        p += n + (p[n] == ',');
    }
    return false;
}

/* Adds a name to a comma list that has not got it. */
static drr_status list_add(char **list, const char *name, drr_error *err)
{
    buffer b = {0};
    if (!name || !*name || (*list && listed(*list, name)))
        return DRR_OK;
    drr_status status = buffer_printf(&b, err, "%s%s%s", *list ? *list : "", *list ? "," : "", name);
    if (status != DRR_OK)
        return status;
    free(*list);
    *list = buffer_take(&b);
    return DRR_OK;
}

static bool blank(const char *text)
{
    return !text || text[strspn(text, " \t\r\n")] == '\0';
}

static bool take_trace(void *user, const drr_trace *trace)
{
    reading *r = user;
    corpus *c = r->c;
    if (c->n % 256 == 0 && hooks_cancelled(r->hooks)) {
        r->status = error_set(r->err, DRR_E_INTERRUPTED, "interrupted while reading traces");
        return false;
    }
    if (!listed(r->options->reasoner, trace->reasoner) ||
        (r->options->task && !listed(r->options->task, trace->task)) || blank(trace->question) ||
        trace->label == DRR_LABEL_UNLABELLED)
        return true;
    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 1024;
        corpus_row *rows = realloc(c->rows, capacity * sizeof *rows);
        if (!rows) {
            r->status = error_memory(r->err);
            return false;
        }
        c->rows = rows;
        c->capacity = capacity;
    }
    corpus_row *row = &c->rows[c->n];
    memset(row, 0, sizeof *row);
    r->status = trace_copy(&row->trace, trace, r->err);
    if (r->status != DRR_OK)
        return false;
    if (r->options->kind == DRR_CRITIC_ENCODER) /* they would only take memory */
        trace_hidden_copy(&row->trace, NULL, 0);
    if (r->options->question_only) {
        free(row->trace.text);
        row->trace.text = string_copy(CRITIC_NO_TEXT);
        row->trace.n_tokens = 0;
        if (!row->trace.text)
            r->status = error_memory(r->err);
    }
    row->logit = row->probe = NAN;
    c->n++;
    row->test_file = r->test;
    row->part = r->test ? CORPUS_TEST : CORPUS_TRAIN;
    c->n_empty += !r->options->question_only && blank(trace->text);
    if (r->status == DRR_OK)
        r->status = list_add(&c->reasoners, trace->reasoner, r->err);
    if (r->status == DRR_OK)
        r->status = list_add(&c->prompts, r->options->question_only ? CRITIC_QUESTION_PROMPT : trace->prompt, r->err);
    if (r->status == DRR_OK)
        r->status = list_add(&c->tasks, trace->task, r->err);
    return r->status == DRR_OK;
}

typedef struct key { /* a row in the order of its question */
    uint64_t order, hash;
    size_t row;
} key;

static int key_compare(const void *a, const void *b)
{
    const key *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Questions are ordered by a hash of (seed, text): the split depends neither on the order of the file nor, for one
 * question, on which others there are more than it must; with max_questions a smaller set is part of a larger one. */
static drr_status split(corpus *c, const drr_train_options *o, drr_error *err)
{
    key *keys = malloc((c->n + 1) * sizeof *keys);
    size_t n_own = 0, seen = 0, trained = 0; /* questions that are not the test file's */
    if (!keys)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        const uint64_t hash = hash_string(0, c->rows[i].trace.question);
        keys[i] = (key){hash_mix(hash, o->seed), hash, i};
    }
    qsort(keys, c->n, sizeof *keys, key_compare);
    for (int pass = 0; pass < 2; pass++) { /* count, then assign */
        c->n_questions = 0;
        for (size_t i = 0, end; i < c->n; i = end, c->n_questions++) {
            bool in_test = false, in_train = false;
            for (end = i; end < c->n && keys[end].order == keys[i].order && keys[end].hash == keys[i].hash; end++) {
                const bool test = c->rows[keys[end].row].test_file;
                in_test |= test;
                in_train |= !test;
            }
            if (pass == 0) {
                n_own += !in_test;
                c->n_leaks += in_test && in_train;
                continue;
            }
            const double at = (double)seen / (double)(n_own ? n_own : 1),
                         test_share = o->test_traces ? 0 : o->test_share;
            const double dev_end = test_share + o->dev_share;
            const double kept_end = dev_end + (isnan(o->target_error) ? 0 : o->guarantee_share);
            corpus_part part = at < test_share ? CORPUS_TEST
                               : at < dev_end  ? CORPUS_DEV
                               : at < kept_end ? CORPUS_GUARANTEE
                                               : CORPUS_TRAIN;
            seen += !in_test;
            if (part == CORPUS_TRAIN && !in_test && o->max_questions && ++trained > o->max_questions)
                part = CORPUS_UNUSED;
            for (size_t k = i; k < end; k++) {
                corpus_row *row = &c->rows[keys[k].row];
                row->question = c->n_questions;
                row->part = !in_test ? part : row->test_file ? CORPUS_TEST : CORPUS_UNUSED;
            }
        }
    }
    free(keys);
    return DRR_OK;
}

/* The ablation: rows are dealt out one by one in the order of a hash of (seed, question, attempt), by the same shares.
 * A question's answers then lie in several parts, which is what is to be seen. */
static drr_status split_traces(corpus *c, const drr_train_options *o, drr_error *err)
{
    key *keys = malloc((c->n + 1) * sizeof *keys);
    if (!keys)
        return error_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        const drr_trace *t = &c->rows[i].trace;
        uint64_t hash = hash_mix(hash_string(0, t->question), o->seed);
        hash = hash_string(hash, t->reasoner ? t->reasoner : "");
        hash = hash_mix(hash_string(hash, t->prompt ? t->prompt : ""), t->sample);
        keys[i] = (key){hash_mix(hash, t->turn), hash, i};
    }
    qsort(keys, c->n, sizeof *keys, key_compare);
    for (size_t i = 0; i < c->n; i++) {
        const double at = (double)i / (double)c->n;
        c->rows[keys[i].row].part = at < o->test_share                  ? CORPUS_TEST
                                    : at < o->test_share + o->dev_share ? CORPUS_DEV
                                                                        : CORPUS_TRAIN;
    }
    free(keys);
    return DRR_OK;
}

void corpus_leave_retries(corpus *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].trace.turn && c->rows[i].part != CORPUS_TEST)
            c->rows[i].part = CORPUS_UNUSED;
}

static drr_status read_file(corpus *c, const drr_train_options *o, const char *path, bool test, const drr_hooks *hooks,
                            drr_error *err)
{
    reading r = {.c = c, .options = o, .hooks = hooks, .test = test, .status = DRR_OK, .err = err};
    drr_trace_filter filter;
    drr_trace_filter_defaults(&filter);
    drr_status status = drr_traces_each(path, &filter, take_trace, &r, err);
    return r.status != DRR_OK ? r.status : status;
}

drr_status corpus_read(corpus *c, const drr_train_options *o, const drr_hooks *hooks, drr_error *err)
{
    drr_status status = read_file(c, o, o->traces, false, hooks, err);
    const size_t n_own = c->n;
    if (status == DRR_OK && n_own == 0)
        status = error_set(err, DRR_E_EMPTY, "%s holds no traces%s%s%s%s: check the file and the names asked for",
                           o->traces, o->reasoner ? " of reasoner " : "", o->reasoner ? o->reasoner : "",
                           o->task ? " of task " : "", o->task ? o->task : "");
    if (status == DRR_OK && o->test_traces)
        status = read_file(c, o, o->test_traces, true, hooks, err);
    if (status == DRR_OK && o->test_traces && c->n == n_own)
        status = error_set(err, DRR_E_EMPTY, "%s holds no traces to test on", o->test_traces);
    if (status == DRR_OK && c->n_empty == c->n)
        status = error_set(err, DRR_E_EMPTY,
                           "%s: none of the %zu traces holds any text: a critic reads the reasoner's words, so record "
                           "them (field \"text\")",
                           o->traces, c->n);
    if (status == DRR_OK)
        status = split(c, o, err);
    if (status == DRR_OK && o->by_trace)
        status = split_traces(c, o, err);
    if (status == DRR_OK && o->first_turns_only)
        corpus_leave_retries(c);
    if (status == DRR_OK && o->by_trace)
        hooks_log(
            hooks, DRR_LOG_WARN,
            "split by trace: answers to one question lie in train, dev and test, so every held-out figure of this "
            "critic is too good, and so is its threshold; it is an ablation, and not to be used");
    if (status == DRR_OK && c->n_leaks)
        hooks_log(hooks, DRR_LOG_WARN, "%llu questions of the test file were in the training file too: not trained on",
                  (unsigned long long)c->n_leaks);
    if (status != DRR_OK)
        corpus_clear(c);
    return status;
}

void corpus_clear(corpus *c)
{
    for (size_t i = 0; i < c->n; i++)
        drr_trace_clear(&c->rows[i].trace);
    free(c->rows);
    free(c->reasoners);
    free(c->prompts);
    free(c->tasks);
    *c = (corpus){0};
}

void corpus_leave_out(corpus *c, const char *task)
{
    for (size_t i = 0; i < c->n; i++) {
        corpus_row *row = &c->rows[i];
        const bool own = row->trace.task && strcmp(row->trace.task, task) == 0;
        if (own != (row->part == CORPUS_TEST))
            row->part = CORPUS_UNUSED;
    }
}

size_t corpus_leave_unheard(corpus *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        if (!c->rows[i].trace.hidden && c->rows[i].part != CORPUS_UNUSED) {
            c->rows[i].part = CORPUS_UNUSED;
            n++;
        }
    return n;
}

size_t corpus_questions(const corpus *c, corpus_part part)
{
    size_t n = 0;
    bool *seen = calloc(c->n_questions + 1, sizeof *seen);
    for (size_t i = 0; i < c->n && seen; i++)
        if (c->rows[i].part == part && !seen[c->rows[i].question]) {
            seen[c->rows[i].question] = true;
            n++;
        }
    free(seen);
    return n;
}
