/* test_distill.c: distillation over a reasoner made of nothing but the request's seed: sometimes right, sometimes
 * wrong, sometimes impossible to read, sometimes failing, and never answering in the order it was asked. */
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
    size_t n_messages;
} asked;

typedef struct seeded {
    const drr_dataset *set;
    int right, unread; /* per cent of answers that are right, that cannot be read; the others are wrong */
    int failing;       /* per cent of requests that fail; which ones changes with `run` */
    uint64_t run;
    size_t stop_next, stop_submit; /* how many completions and requests until the backend itself breaks */
    reasoner_completion waiting[256];
    size_t n;
    asked asked[MOST_ASKED];
    size_t n_asked, n_given, n_failed; /* n_given: completions handed out that did not fail */
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

static char *words_of(const seeded *s, const drr_task *task, uint64_t seed)
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
    if (chance < s->unread)
        assert_int_equal(buffer_puts(&b, "I wonder", NULL), DRR_OK);
    else
        assert_int_equal(buffer_printf(&b, NULL, "\nAnswer: %s",
                                       chance < s->unread + s->right ? task->answer : wrong),
                         DRR_OK);
    return buffer_take(&b);
}

static drr_status seeded_submit(void *self, const reasoner_request *r, drr_error *err)
{
    seeded *s = self;
    if (s->stop_submit-- == 0)
        return error_set(err, DRR_E_BACKEND, "the backend takes no more");
    assert_true(s->n < 256 && s->n_asked < MOST_ASKED);
    assert_non_null(r->complete);
    assert_string_equal(r->messages[r->n_messages - 1].role, "user");
    s->asked[s->n_asked++] =
        (asked){r->seed, string_copy(r->messages[r->n_messages - 1].content), r->n_messages};
    s->grammar = r->grammar;
    s->temperature = r->temperature;
    s->top_p = r->top_p;
    s->max_tokens = r->max_tokens;
    reasoner_completion c = {.tag = r->tag, .finish = DRR_FINISH_FAILED, .n_prompt_tokens = (uint32_t)r->n_messages};
    if ((int)(hash_mix(r->seed, 100 + s->run) % 100) < s->failing) {
        c.failure = string_copy("the seed says no");
    } else {
        c.finish = DRR_FINISH_STOP;
        c.text = words_of(s, find_question(s->set, r->question), r->seed);
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

static drr_status seeded_next(void *self, reasoner_completion *c, drr_error *err)
{
    seeded *s = self;
    if (s->stop_next-- == 0)
        return error_set(err, DRR_E_BACKEND, "the backend broke");
    assert_true(s->n > 0);
    const size_t one = hash_mix(s->run, s->n_asked) % s->n; /* every run has an order of its own */
    *c = s->waiting[one];
    s->waiting[one] = s->waiting[--s->n];
    s->n_given += c->finish != DRR_FINISH_FAILED;
    s->n_failed += c->finish == DRR_FINISH_FAILED;
    return DRR_OK;
}

static void seeded_cancel(void *self)
{
    seeded *s = self;
    while (s->n)
        reasoner_completion_clear(&s->waiting[--s->n]);
}

static void seeded_close(void *self)
{
    seeded *s = self;
    seeded_cancel(s);
    while (s->n_asked)
        free(s->asked[--s->n_asked].last_words);
}

static const reasoner_backend seeded_backend = {seeded_submit, seeded_next, seeded_cancel, seeded_close};

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
    size_t cancel_after; /* completions handed out */
    size_t n_warnings;
    bool quick; /* one commit a run instead of one a turn: where many traces matter and not their durability */
    char store_path[96];
    drr_error err;
} stage;

static bool cancelled(void *user)
{
    const stage *t = user;
    return t->s.n_given + t->s.n_failed >= t->cancel_after;
}

static void count_warnings(void *user, drr_log_level level, const char *message)
{
    stage *t = user;
    assert_true(strlen(message) > 10);
    t->n_warnings += level == DRR_LOG_WARN;
}

static void in_folder(char path[96], const char *name)
{
    snprintf(path, 96, "%s/%s", folder, name);
}

static drr_dataset *make_set(size_t n)
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

static void remove_store(const char *path)
{
    char name[128];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, i == 0 ? "" : i == 1 ? "-wal" : "-shm");
        unlink(name);
    }
}

static void open_stage(stage *t, size_t n_questions, int right, int unread)
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

static void close_stage(stage *t)
{
    drr_reasoner_close(t->reasoner);
    drr_prompts_free(t->prompts);
    drr_store_close(t->store);
    drr_dataset_free(t->set);
    remove_store(t->store_path);
}

static drr_status distill(stage *t)
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

static void distill_fine(stage *t)
{
    if (distill(t) != DRR_OK)
        fail_msg("drr_distill: %s", t->err.message);
}

typedef struct list {
    drr_trace *traces;
    size_t n;
} list;

static bool keep(void *user, const drr_trace *trace)
{
    list *l = user;
    l->traces = realloc(l->traces, (l->n + 1) * sizeof *l->traces);
    assert_int_equal(trace_copy(&l->traces[l->n++], trace, NULL), DRR_OK);
    return true;
}

static list all_traces(const stage *t)
{
    list l = {0};
    assert_int_equal(drr_store_each(t->store, NULL, keep, &l, NULL), DRR_OK);
    return l;
}

static void list_clear(list *l)
{
    for (size_t i = 0; i < l->n; i++)
        drr_trace_clear(&l->traces[i]);
    free(l->traces);
    *l = (list){0};
}

static drr_trace_counts count(const stage *t)
{
    drr_trace_counts counts = {0};
    assert_int_equal(drr_store_counts(t->store, NULL, &counts, NULL), DRR_OK);
    return counts;
}

/* The export as text, without the seconds that each record took. */
static char *exported(stage *t)
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

/* ---- how much is asked */

static void every_question_gets_k_samples_and_a_wrong_one_all_its_turns(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 5, 0, 0);
    t.options.samples = 3;
    t.options.turns = 4;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 5 * 3 * 4);
    for (size_t i = 0; i < l.n; i++) { /* in order of question, sample and turn: the ids q0..q4 sort as they are */
        char id[32];
        snprintf(id, sizeof id, "q%zu", i / 12);
        assert_string_equal(l.traces[i].id, id);
        assert_int_equal(l.traces[i].sample, i / 4 % 3);
        assert_int_equal(l.traces[i].turn, i % 4);
        assert_int_equal(l.traces[i].label, DRR_LABEL_REJECT);
        assert_false(l.traces[i].forced);
        assert_string_equal(l.traces[i].task, "set");
        assert_string_equal(l.traces[i].reasoner, "seeded@1");
        assert_string_equal(l.traces[i].prompt, drr_prompts_id(t.prompts));
        for (size_t k = 0; k < i; k++)
            assert_true(l.traces[k].seed != l.traces[i].seed);
    }
    list_clear(&l);
    close_stage(&t);
}

static void a_right_answer_is_not_asked_again(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.samples = 2;
    t.options.turns = 3;
    t.options.forced_share = 0;
    distill_fine(&t);
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.traces, 6 * 2);
    assert_int_equal(c.turn0, 6 * 2);
    assert_int_equal(c.accepted, 6 * 2);
    assert_int_equal(c.forced, 0);
    assert_int_equal(t.s.n_asked, 6 * 2);
    close_stage(&t);
}

static void the_reasoner_hears_the_options(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 1, 100, 0);
    t.options.temperature = 0.25f;
    t.options.top_p = 0.5f;
    t.options.max_tokens = 77;
    t.options.grammar = true;
    distill_fine(&t);
    assert_float_equal(t.s.temperature, 0.25, 0);
    assert_float_equal(t.s.top_p, 0.5, 0);
    assert_int_equal(t.s.max_tokens, 77);
    assert_ptr_equal(t.s.grammar, prompts_grammar(t.prompts, drr_dataset_at(t.set, 0)));
    list l = all_traces(&t);
    assert_float_equal(l.traces[0].temperature, 0.25, 0);
    assert_int_equal(l.traces[0].stats.n, 2);
    assert_float_equal(l.traces[0].stats.mean, -1, 1e-6);
    list_clear(&l);
    close_stage(&t);
}

static void the_limit_takes_the_first_questions(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.forced_share = 0;
    t.options.limit = 2;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 2 * 4);
    assert_string_equal(l.traces[0].id, "q0");
    assert_string_equal(l.traces[7].id, "q1");
    list_clear(&l);
    t.options.limit = 100; /* more than there are: all */
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 6 * 4);
    assert_int_equal(t.s.n_given, 6 * 4);
    close_stage(&t);
}

static void more_samples_and_turns_later_keep_what_is_there(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 0, 0);
    t.options.samples = 2;
    t.options.turns = 2;
    distill_fine(&t);
    t.options.samples = 3;
    t.options.turns = 3;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 3 * 3 * 3);
    assert_int_equal(t.s.n_given, 3 * 3 * 3);
    t.options.samples = t.options.turns = 1; /* fewer: nothing to do */
    distill_fine(&t);
    assert_int_equal(t.s.n_given, 3 * 3 * 3);
    close_stage(&t);
}

static void nothing_to_distil_is_refused(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 0, 0);
    t.options.samples = 0;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    t.options.samples = 1;
    t.options.turns = 0;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    assert_int_equal(t.s.n_asked, 0);
    close_stage(&t);
}

/* ---- retries */

static const asked *request_of(const stage *t, uint64_t seed)
{
    const asked *found = NULL;
    for (size_t i = 0; i < t->s.n_asked; i++)
        if (t->s.asked[i].seed == seed) {
            assert_null(found);
            found = &t->s.asked[i];
        }
    assert_non_null(found);
    return found;
}

static void a_retry_is_asked_with_the_words_that_its_trace_keeps(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 12, 40, 20);
    t.quick = true;
    t.options.turns = 4;
    t.options.forced_share = 0.3;
    distill_fine(&t);
    list l = all_traces(&t);
    size_t n_retries = 0, n_forced = 0, n_after_unparsed = 0;
    for (size_t i = 0; i < l.n; i++) {
        const drr_trace *trace = &l.traces[i], *before = i ? trace - 1 : NULL;
        const asked *request = request_of(&t, trace->seed);
        if (trace->turn == 0) {
            assert_null(trace->feedback);
            assert_false(trace->forced);
            char number[24]; /* the q11 is "What of 11?" */
            snprintf(number, sizeof number, " %s?", trace->id + 1);
            assert_non_null(strstr(request->last_words, number));
            continue;
        }
        assert_string_equal(before->id, trace->id);
        assert_int_equal(before->sample, trace->sample);
        assert_int_equal(before->turn + 1, trace->turn);
        char *words = NULL;
        const drr_task task = {.kind = trace->kind};
        assert_int_equal(prompts_feedback(&words, t.prompts, &task, before->answer, NULL), DRR_OK);
        assert_string_equal(trace->feedback, words);
        assert_string_equal(request->last_words, words);
        free(words);
        assert_int_equal(request->n_messages, request_of(&t, before->seed)->n_messages + 2);
        assert_int_equal(trace->forced, before->label == DRR_LABEL_ACCEPT);
        n_retries++;
        n_forced += trace->forced;
        n_after_unparsed += before->label == DRR_LABEL_UNPARSED;
    }
    assert_true(n_retries > n_forced + n_after_unparsed && n_forced > 5 && n_after_unparsed > 5);
    list_clear(&l);
    close_stage(&t);
}

static void what_cannot_be_read_has_a_label_of_its_own(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 4, 0, 100);
    t.options.turns = 2;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 4 * 4 * 2);
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.traces[i].label, DRR_LABEL_UNPARSED);
        assert_null(l.traces[i].answer);
        assert_false(l.traces[i].forced);
        assert_int_equal(l.traces[i].stats.answer_n, 0);
    }
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.unparsed, l.n);
    assert_int_equal(c.rejected, 0);
    list_clear(&l);
    close_stage(&t);
}

static uint64_t forced_of(double share, uint64_t seed)
{
    stage t;
    open_stage(&t, MOST_QUESTIONS, 100, 0);
    t.quick = true;
    t.options.forced_share = share;
    t.options.seed = seed;
    distill_fine(&t);
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.turn0, MOST_QUESTIONS * 4);
    assert_int_equal(c.forced, c.traces - c.turn0);
    close_stage(&t);
    return c.forced;
}

static void the_forced_share_is_near_what_was_asked(void **state)
{
    (void)state; /* of 320 right answers; four standard deviations are 31 at 0.25 and 21 at 0.1 */
    assert_in_range(forced_of(0.25, 1), 80 - 31, 80 + 31);
    assert_in_range(forced_of(0.1, 2), 32 - 21, 32 + 21);
    assert_int_equal(forced_of(0, 3), 0);
    assert_int_equal(forced_of(1, 4), 320);
}

/* ---- stopping and going on */

typedef enum how { BY_CANCEL, BY_NEXT, BY_SUBMIT, N_WAYS } how;

static void open_varied(stage *t)
{
    open_stage(t, 6, 40, 20);
    t->options.samples = 3;
    t->options.turns = 3;
    t->options.forced_share = 0.3;
}

static void stopped_anywhere_and_resumed_the_traces_are_the_same(void **state)
{
    (void)state;
    stage t;
    open_varied(&t);
    t.quick = true;
    distill_fine(&t);
    char *whole = exported(&t);
    const uint64_t n_whole = count(&t).traces;
    assert_true(n_whole > 30);
    close_stage(&t);
    rng r;
    rng_seed(&r, 17);
    for (int round = 0; round < 8 * N_WAYS; round++) {
        const how way = (how)(round % N_WAYS);
        size_t n_stops = 0;
        open_varied(&t);
        t.s.run = 1000 * (uint64_t)round;
        t.quick = round >= N_WAYS;
        t.s.failing = round % 2 ? 10 : 0;
        for (;;) {
            const size_t stop = rng_below(&r, 40); /* 0: before anything has happened */
            t.s.stop_next = way == BY_NEXT ? stop : FOR_EVER;
            t.s.stop_submit = way == BY_SUBMIT ? stop : FOR_EVER;
            t.cancel_after = way == BY_CANCEL ? t.s.n_given + t.s.n_failed + stop : FOR_EVER;
            const size_t n_failed = t.s.n_failed;
            const drr_status status = distill(&t);
            if (status == DRR_OK && t.s.n_failed == n_failed)
                break;
            if (status != DRR_OK)
                assert_int_equal(status, way == BY_CANCEL ? DRR_E_INTERRUPTED : DRR_E_BACKEND);
            assert_true(strlen(t.err.message) > 10 || status == DRR_OK);
            assert_int_equal(count(&t).traces, t.s.n_given); /* all that was handed out is kept, and once */
            if (n_stops++ % 3 == 0) { /* as a new process would find it */
                drr_store_close(t.store);
                assert_int_equal(drr_store_open(&t.store, t.store_path, false, NULL), DRR_OK);
            }
            assert_true(n_stops < 1000);
        }
        char *pieces = exported(&t);
        assert_string_equal(pieces, whole);
        assert_int_equal(t.s.n_given, n_whole);
        free(pieces);
        close_stage(&t);
    }
    free(whole);
}

static void a_finished_run_asks_nothing_more(void **state)
{
    (void)state;
    stage t;
    open_varied(&t);
    distill_fine(&t);
    const size_t n = t.s.n_asked;
    distill_fine(&t);
    assert_int_equal(t.s.n_asked, n);
    close_stage(&t);
}

static void failed_completions_are_not_stored_and_are_asked_again_next_time(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.forced_share = 0;
    t.s.failing = 30;
    distill_fine(&t); /* a failure ends one sample, not the run */
    const size_t n_failed = t.s.n_failed;
    assert_true(n_failed > 2 && n_failed < 20);
    assert_int_equal(count(&t).traces, 6 * 4 - n_failed);
    assert_int_equal(t.n_warnings, n_failed + 1); /* each, and how many there were */
    t.s.failing = 0;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 6 * 4);
    assert_int_equal(t.s.n_asked, 6 * 4 + n_failed);
    close_stage(&t);
}

/* ---- whose store it is */

static void another_reasoner_is_refused_unless_mixing_is_meant(void **state)
{
    (void)state;
    static seeded other_self;
    stage t;
    drr_reasoner *other = NULL;
    open_stage(&t, 3, 100, 0);
    distill_fine(&t);
    const uint64_t n = count(&t).traces;
    drr_reasoner *first = t.reasoner;
    other_self = (seeded){.set = t.set, .right = 100, .stop_next = FOR_EVER, .stop_submit = FOR_EVER};
    assert_int_equal(reasoner_new(&other, &seeded_backend, &other_self, "seeded@2", "another", 3, NULL), DRR_OK);
    t.reasoner = other;
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, "seeded@1"));
    assert_non_null(strstr(t.err.message, "seeded@2"));
    assert_int_equal(other_self.n_asked, 0);
    assert_int_equal(count(&t).traces, n);
    t.options.any_identity = true;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    t.options.any_identity = false; /* the store still belongs to the first */
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    t.reasoner = first;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    drr_reasoner_close(other);
    close_stage(&t);
}

static void another_wording_is_refused_unless_mixing_is_meant(void **state)
{
    (void)state;
    static const char wording[] = "{\"number\": {\"system\": \"Solve it.\"}}";
    stage t;
    char path[96];
    open_stage(&t, 3, 100, 0);
    distill_fine(&t);
    const uint64_t n = count(&t).traces;
    const size_t n_asked = t.s.n_asked;
    char *first = string_copy(drr_prompts_id(t.prompts));
    in_folder(path, "prompts.json");
    assert_int_equal(file_write_all(path, wording, sizeof wording - 1, NULL), DRR_OK);
    drr_prompts_free(t.prompts);
    t.prompts = NULL;
    assert_int_equal(drr_prompts_open(&t.prompts, path, NULL), DRR_OK);
    assert_int_equal(distill(&t), DRR_E_MISMATCH);
    assert_non_null(strstr(t.err.message, first));
    assert_non_null(strstr(t.err.message, drr_prompts_id(t.prompts)));
    assert_non_null(strstr(t.err.message, "--any-identity"));
    assert_int_equal(t.s.n_asked, n_asked);
    t.options.any_identity = true;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 2 * n);
    free(first);
    close_stage(&t);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_gets_k_samples_and_a_wrong_one_all_its_turns),
        cmocka_unit_test(a_right_answer_is_not_asked_again),
        cmocka_unit_test(the_reasoner_hears_the_options),
        cmocka_unit_test(the_limit_takes_the_first_questions),
        cmocka_unit_test(more_samples_and_turns_later_keep_what_is_there),
        cmocka_unit_test(nothing_to_distil_is_refused),
        cmocka_unit_test(a_retry_is_asked_with_the_words_that_its_trace_keeps),
        cmocka_unit_test(what_cannot_be_read_has_a_label_of_its_own),
        cmocka_unit_test(the_forced_share_is_near_what_was_asked),
        cmocka_unit_test(stopped_anywhere_and_resumed_the_traces_are_the_same),
        cmocka_unit_test(a_finished_run_asks_nothing_more),
        cmocka_unit_test(failed_completions_are_not_stored_and_are_asked_again_next_time),
        cmocka_unit_test(another_reasoner_is_refused_unless_mixing_is_meant),
        cmocka_unit_test(another_wording_is_refused_unless_mixing_is_meant),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
