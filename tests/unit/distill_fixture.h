/* distill_fixture.h: for the tests of distillation: a store, a data set, and a reasoner made of nothing but the
 * request's seed: sometimes right, sometimes wrong, sometimes impossible to read, sometimes failing, and never
 * answering in the order it was asked. */
#ifndef DRR_TESTS_DISTILL_FIXTURE_H
#define DRR_TESTS_DISTILL_FIXTURE_H

#include "core/json.h"
#include "reasoner/reasoner.h"
#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a reasoner that is a function of the seed */

enum { MOST_QUESTIONS = 80, MOST_ASKED = 4096, FOR_EVER = 1 << 30 };

typedef struct asked {
    uint64_t seed;
    char *last_words; /* of the request's last message */
    char *prefix;     /* NULL: a turn */
    size_t n_messages;
    uint32_t max_tokens;
} asked;

typedef struct seeded {
    const drr_dataset *set;
    int right, unread; /* per cent of answers that are right, that cannot be read; the others are wrong */
    int failing;       /* per cent of requests that fail; which ones changes with `run` */
    /* Sentences before the answer line; 0: one. A wrong answer has a bad one among them, and a continuation that comes
     * after it is right in `recovering` per cent, one that does not in `leading`. */
    int steps, leading, recovering;
    bool early; /* the first sentence but one gives the right answer, and continuations say nothing more of it */
    uint64_t run;
    size_t stop_next, stop_submit; /* how many completions and requests until the backend itself breaks */
    reasoner_completion waiting[256];
    size_t n;
    asked asked[MOST_ASKED];
    size_t n_asked;
    size_t n_given, n_rollouts, n_failed; /* completions handed out: turns and continuations, and those that failed */
    const char *grammar;
    float temperature, top_p;
    uint32_t max_tokens;
} seeded;

/* A request names its question as traces do, choices and all: that is how the replay backend knows it. */
static const drr_task *find_question(const drr_dataset *set, const char *question)
{
    const drr_task *found = NULL;
    for (size_t i = 0; i < drr_dataset_count(set) && !found; i++) {
        char *text = NULL;
        assert_int_equal(task_question_text(&text, drr_dataset_at(set, i), NULL), DRR_OK);
        if (strcmp(text, question) == 0)
            found = drr_dataset_at(set, i);
        free(text);
    }
    if (!found)
        fail_msg("nobody asked \"%s\"", question);
    return found;
}

static inline char *words_of(const seeded *s, const drr_task *task, uint64_t seed)
{
    buffer b = {0};
    const int chance = (int)(hash_mix(seed, 1) % 100);
    char wrong[64];
    switch (task->kind) {
    case DRR_KIND_NUMBER:
        snprintf(wrong, sizeof wrong, "%d", atoi(task->answer) + 1 + (int)(hash_mix(seed, 2) % 9));
        break;
    case DRR_KIND_CHOICE:
        snprintf(wrong, sizeof wrong, "%s", task->answer[0] == 'A' ? "B" : "A");
        break;
    default:
        snprintf(wrong, sizeof wrong, "%s", strcmp(task->answer, "yes") == 0 ? "no" : "yes");
    }
    char thought[17] = ""; /* every seed's own, without a digit that could be taken for an answer */
    for (int i = 0; i < 16; i++)
        thought[i] = (char)('g' + (int)(seed >> 4 * i & 15));
    assert_int_equal(buffer_printf(&b, NULL, "Thought %s leads on. ", thought), DRR_OK);
    if (s->early)
        assert_int_equal(buffer_printf(&b, NULL, "The answer is %s. ", task->answer), DRR_OK);
    const bool is_right = chance < s->unread + s->right;
    for (int i = 1, bad = (int)(hash_mix(seed, 3) % (unsigned)(s->steps ? s->steps : 1)); i < s->steps; i++)
        assert_int_equal(buffer_printf(&b, NULL, "This is %s. ", i - 1 == bad && !is_right ? "bad" : "so"), DRR_OK);
    if (chance < s->unread)
        assert_int_equal(buffer_puts(&b, "I wonder", NULL), DRR_OK);
    else
        assert_int_equal(buffer_printf(&b, NULL, "\nAnswer: %s", chance < s->unread + s->right ? task->answer : wrong),
                         DRR_OK);
    return buffer_take(&b);
}

/* What follows a prefix: right or wrong by whether the prefix went wrong, and by chance. */
static inline char *words_after(const seeded *s, const drr_task *task, uint64_t seed, const char *prefix)
{
    const seeded sure = {.right = 100}, never = {.right = 0};
    const int chance = (int)(hash_mix(seed, 4) % 100);
    const bool right = chance < (strstr(prefix, "bad") ? s->recovering : s->leading);
    return s->early ? string_copy(" I wonder.") : words_of(right ? &sure : &never, task, seed);
}

static inline drr_status seeded_submit(void *self, const reasoner_request *r, drr_error *err)
{
    seeded *s = self;
    if (s->stop_submit-- == 0)
        return error_set(err, DRR_E_BACKEND, "the backend takes no more");
    assert_true(s->n < 256 && s->n_asked < MOST_ASKED);
    assert_non_null(r->complete);
    assert_string_equal(r->messages[r->n_messages - 1].role, "user");
    s->asked[s->n_asked++] = (asked){r->seed, string_copy(r->messages[r->n_messages - 1].content),
                                     string_copy(r->prefix), r->n_messages, r->max_tokens};
    s->grammar = r->grammar;
    s->temperature = r->temperature;
    s->top_p = r->top_p;
    s->max_tokens = r->max_tokens;
    reasoner_completion c = {.tag = r->tag, .finish = DRR_FINISH_FAILED, .n_prompt_tokens = (uint32_t)r->n_messages};
    if ((int)(hash_mix(r->seed, 100 + s->run) % 100) < s->failing) {
        c.failure = string_copy("the seed says no");
    } else {
        c.finish = DRR_FINISH_STOP;
        const drr_task *task = find_question(s->set, r->question);
        c.text = r->prefix ? words_after(s, task, r->seed, r->prefix) : words_of(s, task, r->seed);
        c.tokens = calloc(2, sizeof *c.tokens);
        c.tokens[0] = (reasoner_token){3, -0.5f, 0.25f, (float)(r->seed % 7)};
        c.tokens[1] = (reasoner_token){(uint32_t)strlen(c.text), -1.5f, 0.75f, (float)(r->seed % 5)};
        c.n_token_stats = 2;
        c.n_tokens = (uint32_t)(r->seed % 50) + 1;
        c.seconds = clock_seconds(); /* the one thing that two runs may differ in */
    }
    s->waiting[s->n++] = c;
    return DRR_OK;
}

static inline drr_status seeded_next(void *self, reasoner_completion *c, drr_error *err)
{
    seeded *s = self;
    if (s->stop_next-- == 0)
        return error_set(err, DRR_E_BACKEND, "the backend broke");
    assert_true(s->n > 0);
    const size_t one = hash_mix(s->run, s->n_asked) % s->n; /* every run has an order of its own */
    *c = s->waiting[one];
    s->waiting[one] = s->waiting[--s->n];
    s->n_rollouts += c->finish != DRR_FINISH_FAILED && c->tag >> 63;
    s->n_given += c->finish != DRR_FINISH_FAILED && !(c->tag >> 63);
    s->n_failed += c->finish == DRR_FINISH_FAILED;
    return DRR_OK;
}

static inline void seeded_cancel(void *self)
{
    seeded *s = self;
    while (s->n)
        reasoner_completion_clear(&s->waiting[--s->n]);
}

static inline void seeded_close(void *self)
{
    seeded *s = self;
    seeded_cancel(s);
    while (s->n_asked) {
        free(s->asked[--s->n_asked].last_words);
        free(s->asked[s->n_asked].prefix);
    }
}

static const reasoner_backend seeded_backend = {
    .submit = seeded_submit, .next = seeded_next, .cancel = seeded_cancel, .close = seeded_close};

/* ---- a stage: a data set, a store, a reasoner */

static char folder[] = "/tmp/drr-test-distill-XXXXXX";

typedef struct stage {
    seeded s;
    drr_dataset *set;
    drr_reasoner *reasoner;
    drr_prompts *prompts;
    drr_store *store;
    drr_distill_options options;
    drr_hooks hooks;
    size_t cancel_after; /* so many completions handed out */
    size_t n_warnings, n_notices;
    bool quick; /* one commit a run instead of one a turn: where many traces matter and not their durability */
    char store_path[96];
    drr_error err;
} stage;

static inline bool cancelled(void *user)
{
    const stage *t = user;
    return t->s.n_given + t->s.n_rollouts + t->s.n_failed >= t->cancel_after;
}

static inline void count_warnings(void *user, drr_log_level level, const char *message)
{
    stage *t = user;
    assert_true(strlen(message) > 10);
    t->n_warnings += level == DRR_LOG_WARN;
    t->n_notices += level == DRR_LOG_INFO;
}

static inline void in_folder(char path[96], const char *name)
{
    snprintf(path, 96, "%s/%s", folder, name);
}

static inline drr_dataset *make_set(size_t n)
{
    drr_dataset *set = NULL;
    buffer b = {0};
    char path[96];
    for (size_t i = 0; i < n; i++) {
        buffer_printf(&b, NULL, "{\"id\":\"q%zu\",\"question\":\"What of %zu?\",", i, i);
        if (i % 3 == 1)
            buffer_printf(&b, NULL,
                          "\"choices\":[\"this\",\"that\",\"\xc3\xa9l\"],\"answer\":\"%c\",\"kind\":\"choice\"}\n",
                          'A' + (int)(i / 3 % 3));
        else if (i % 3 == 2)
            buffer_printf(&b, NULL, "\"answer\":\"%s\",\"kind\":\"boolean\"}\n", i % 2 ? "yes" : "no");
        else
            buffer_printf(&b, NULL, "\"answer\":\"%zu\",\"kind\":\"number\"}\n", i);
    }
    in_folder(path, "set.jsonl");
    assert_int_equal(file_write_all(path, b.data, b.size, NULL), DRR_OK);
    assert_int_equal(drr_dataset_open(&set, path, NULL, "set", NULL), DRR_OK);
    buffer_clear(&b);
    return set;
}

static inline void remove_store(const char *path)
{
    char name[128];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, i == 0 ? "" : i == 1 ? "-wal" : "-shm");
        unlink(name);
    }
}

static inline void open_stage(stage *t, size_t n_questions, int right, int unread)
{
    *t = (stage){.s = {.right = right, .unread = unread, .stop_next = FOR_EVER, .stop_submit = FOR_EVER},
                 .cancel_after = FOR_EVER};
    t->s.set = t->set = make_set(n_questions);
    t->hooks = (drr_hooks){.log = count_warnings, .cancelled = cancelled, .user = t};
    in_folder(t->store_path, "store.db");
    remove_store(t->store_path);
    assert_int_equal(reasoner_new(&t->reasoner, &seeded_backend, &t->s, "seeded@1", "a seed", 3, NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&t->prompts, NULL, NULL), DRR_OK);
    assert_int_equal(drr_store_open(&t->store, t->store_path, true, NULL), DRR_OK);
    drr_distill_options_defaults(&t->options);
}

static inline void close_stage(stage *t)
{
    drr_reasoner_close(t->reasoner);
    drr_prompts_free(t->prompts);
    drr_store_close(t->store);
    drr_dataset_free(t->set);
    remove_store(t->store_path);
}

static inline drr_status distill(stage *t)
{
    t->err = (drr_error){0};
    t->s.run++;
    if (t->quick)
        assert_int_equal(store_batch_begin(t->store, NULL), DRR_OK);
    drr_status status = drr_distill(t->store, t->reasoner, t->prompts, t->set, &t->options, &t->hooks, &t->err);
    if (t->quick)
        assert_int_equal(store_batch_commit(t->store, NULL), DRR_OK);
    assert_int_equal(reasoner_pending(t->reasoner), 0); /* however it ended */
    assert_int_equal(t->s.n, 0);
    return status;
}

static inline void distill_fine(stage *t)
{
    if (distill(t) != DRR_OK)
        fail_msg("drr_distill: %s", t->err.message);
}

typedef struct list {
    drr_trace *traces;
    size_t n;
} list;

static inline bool keep(void *user, const drr_trace *trace)
{
    list *l = user;
    l->traces = realloc(l->traces, (l->n + 1) * sizeof *l->traces);
    assert_int_equal(trace_copy(&l->traces[l->n++], trace, NULL), DRR_OK);
    return true;
}

static inline list all_traces(const stage *t)
{
    list l = {0};
    assert_int_equal(drr_store_each(t->store, NULL, keep, &l, NULL), DRR_OK);
    return l;
}

static inline void list_clear(list *l)
{
    for (size_t i = 0; i < l->n; i++)
        drr_trace_clear(&l->traces[i]);
    free(l->traces);
    *l = (list){0};
}

static inline drr_trace_counts count(const stage *t)
{
    drr_trace_counts counts = {0};
    assert_int_equal(drr_store_counts(t->store, NULL, &counts, NULL), DRR_OK);
    return counts;
}

/* The export as text, without the seconds that each record took. */
static inline char *exported(stage *t)
{
    char path[96], *line;
    size_t length;
    line_reader *lines = NULL;
    buffer b = {0};
    in_folder(path, "export.jsonl");
    assert_int_equal(drr_store_export(t->store, NULL, path, NULL, NULL), DRR_OK);
    assert_int_equal(lines_open(&lines, path, NULL), DRR_OK);
    while (lines_next(lines, &line, &length, NULL) == DRR_OK) {
        json_t *o = NULL;
        assert_int_equal(json_parse(&o, line, length, "export", NULL), DRR_OK);
        assert_int_equal(json_object_del(o, "seconds"), 0);
        char *text = json_dumps(o, JSON_COMPACT);
        assert_int_equal(buffer_printf(&b, NULL, "%s\n", text), DRR_OK);
        free(text);
        json_decref(o);
    }
    lines_close(lines);
    return buffer_take(&b);
}

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"set.jsonl", "export.jsonl", "prompts.json"};
    char path[96];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        in_folder(path, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

#endif
