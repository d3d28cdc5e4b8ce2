/* upstream_embedded.c: asks a model of this process. It is pulled by a thread of its own, which admits what has come
 * between two of its steps, so that many calls run at once and none waits for another one's end. The engine's thread
 * queues, withdraws, and in embedded_step hears what was written. */
#include "reasoner/remote_think.h"
#include "serve/upstream_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STOPS = 8, DEFAULT_TOKENS = 4096 };

typedef struct embedded_call {
    upstream_call call; /* first */
    upstream_embedded *b;
    struct embedded_call *next, *next_heard;
    upstream_ask ask;
    conversation messages;
    char *question, *grammar, *stops[MOST_STOPS];
    size_t n_stops, longest_stop;
    drr_task task; /* of the answer whose hidden states are wanted; its strings are in `words` */
    arena *words;
    reasoner_request request;
    atomic_bool withdrawn;
    /* Set while the model writes, by the thread that does so: */
    size_t looked;  /* bytes that were searched for a stop */
    size_t written; /* bytes handed to `fresh` */
    size_t cut;     /* where a stop stands; SIZE_MAX: nowhere */
    /* Under the lock: */
    enum { QUEUED, SUBMITTED, FINISHED } state;
    bool heard; /* in the list of those that have something to tell */
    buffer fresh;
    reasoner_completion completion;
    drr_error failure; /* status other than DRR_OK: in place of a completion */
} embedded_call;

struct upstream_embedded {
    upstream *owner;
    drr_reasoner *reasoner;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t come;
    embedded_call *first, *last;             /* queued */
    embedded_call *heard_first, *heard_last; /* something to tell */
    embedded_call *submitted;
    size_t n_submitted;
    atomic_bool called, closing;
};

static void call_free(embedded_call *c)
{
    conversation_clear(&c->messages);
    free(c->question);
    free(c->grammar);
    for (size_t i = 0; i < c->n_stops; i++)
        free(c->stops[i]);
    arena_free(c->words);
    buffer_clear(&c->fresh);
    reasoner_completion_clear(&c->completion);
    free(c);
}

static void tell_of(embedded_call *c) /* under the lock */
{
    upstream_embedded *b = c->b;
    if (c->heard)
        return;
    c->heard = true;
    c->next_heard = NULL;
    if (b->heard_last)
        b->heard_last->next_heard = c;
    else
        b->heard_first = c;
    b->heard_last = c;
    if (b->heard_first == c)
        upstream_wake(b->owner);
}

/* ---- while the model writes: on its threads */

/* The end of what can be shown: not in the middle of a character, nor where a stop may have begun. */
static size_t safe_end(const embedded_call *c, const char *text, size_t length)
{
    size_t end = length > c->longest_stop ? length - c->longest_stop : 0;
    size_t back = 0;
    while (back < 3 && back < end && ((unsigned char)text[end - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back < end) {
        const unsigned char lead = (unsigned char)text[end - 1 - back];
        const size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
        if (wanted > back + 1)
            end -= back + 1;
    }
    return end;
}

static void show(embedded_call *c, const char *text, size_t end)
{
    if (!c->ask.piece || end <= c->written)
        return;
    pthread_mutex_lock(&c->b->lock);
    if (buffer_append(&c->fresh, text + c->written, end - c->written, NULL) == DRR_OK)
        c->written = end;
    tell_of(c);
    pthread_mutex_unlock(&c->b->lock);
}

static bool find_stop(embedded_call *c, const char *text, size_t length)
{
    const size_t from = c->looked > c->longest_stop ? c->looked - c->longest_stop : 0;
    for (size_t i = 0; i < c->n_stops; i++) {
        const char *at = memmem(text + from, length - from, c->stops[i], strlen(c->stops[i]));
        if (at && (size_t)(at - text) < c->cut)
            c->cut = (size_t)(at - text);
    }
    c->looked = length;
    return c->cut != SIZE_MAX;
}

static bool on_token(void *user, const char *text, size_t length)
{
    embedded_call *c = user;
    if (atomic_load_explicit(&c->withdrawn, memory_order_relaxed) || find_stop(c, text, length))
        return true;
    show(c, text, safe_end(c, text, length));
    return false;
}

static void answer_at(void *user, const char *text, size_t *begin, size_t *end)
{
    const embedded_call *c = user;
    task_answer_place(&c->task, text, begin, end);
}

/* ---- the model's thread */

static void remove_submitted(upstream_embedded *b, embedded_call *c)
{
    embedded_call **at = &b->submitted;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    b->n_submitted--;
}

/* Takes the completion, or where there is none the error. */
static void finish(upstream_embedded *b, embedded_call *c, reasoner_completion *completion, const drr_error *error)
{
    pthread_mutex_lock(&b->lock);
    remove_submitted(b, c);
    c->state = FINISHED;
    if (completion) {
        c->completion = *completion;
        *completion = (reasoner_completion){0};
        if (c->cut != SIZE_MAX && c->completion.text && c->cut < strlen(c->completion.text))
            c->completion.text[c->cut] = '\0';
    } else {
        c->failure = *error;
    }
    const bool withdrawn = atomic_load(&c->withdrawn);
    if (!withdrawn)
        tell_of(c);
    pthread_mutex_unlock(&b->lock);
    if (withdrawn)
        call_free(c);
}

static void admit(upstream_embedded *b)
{
    const size_t most =
        2 * (size_t)reasoner_width(b->reasoner); /* enough to be never idle; the rest can be withdrawn */
    for (;;) {
        drr_error error = {0};
        pthread_mutex_lock(&b->lock);
        atomic_store(&b->called, false);
        embedded_call *c = b->n_submitted < most ? b->first : NULL;
        if (c) {
            b->first = c->next;
            if (!b->first)
                b->last = NULL;
            c->state = SUBMITTED;
            c->next = b->submitted;
            b->submitted = c;
            b->n_submitted++;
        }
        pthread_mutex_unlock(&b->lock);
        if (!c)
            return;
        if (reasoner_submit(b->reasoner, &c->request, &error) != DRR_OK)
            finish(b, c, NULL, &error);
    }
}

static void fail_all(upstream_embedded *b, const drr_error *error)
{
    reasoner_cancel(b->reasoner);
    while (b->submitted)
        finish(b, b->submitted, NULL, error);
}

static bool is_called(void *user)
{
    upstream_embedded *b = user;
    return atomic_load_explicit(&b->called, memory_order_relaxed) ||
           atomic_load_explicit(&b->closing, memory_order_relaxed);
}

static void *run(void *user)
{
    upstream_embedded *b = user;
    while (!atomic_load(&b->closing)) {
        reasoner_completion done = {0};
        drr_error error = {0};
        pthread_mutex_lock(&b->lock);
        while (!atomic_load(&b->closing) && !b->first && !b->n_submitted)
            pthread_cond_wait(&b->come, &b->lock);
        pthread_mutex_unlock(&b->lock);
        admit(b);
        if (atomic_load(&b->closing) || !b->n_submitted)
            continue;
        const drr_status status = reasoner_next(b->reasoner, &done, &error);
        if (status == DRR_OK)
            finish(b, (embedded_call *)(uintptr_t)done.tag, &done, NULL);
        else if (status != DRR_E_INTERRUPTED)
            fail_all(b, &error);
    }
    return NULL;
}

/* ---- the engine's thread: asking */

static const char *part_text(json_t *part)
{
    return json_string_or(part, "text", "");
}

static drr_status add_message(embedded_call *c, json_t *message, drr_error *err)
{
    const char *role = json_string_or(message, "role", "user");
    json_t *content = json_object_get(message, "content"), *part;
    buffer joined = {0};
    size_t i;
    drr_status status = DRR_OK;
    if (json_is_string(content))
        return conversation_add(&c->messages, strcmp(role, "developer") == 0 ? "system" : role,
                                json_string_value(content), err);
    json_array_foreach(content, i, part) if (status == DRR_OK) status = buffer_puts(&joined, part_text(part), err);
    if (status == DRR_OK)
        status = conversation_add(&c->messages, strcmp(role, "developer") == 0 ? "system" : role,
                                  joined.data ? joined.data : "", err);
    buffer_clear(&joined);
    return status;
}

static bool add_stop(embedded_call *c, const char *stop)
{
    const size_t n = stop ? strlen(stop) : 0;
    if (!n || c->n_stops == MOST_STOPS)
        return true;
    c->stops[c->n_stops] = string_copy(stop);
    if (!c->stops[c->n_stops])
        return false;
    c->n_stops++;
    c->longest_stop = n > c->longest_stop ? n : c->longest_stop;
    return true;
}

/* The model may still write when whoever asked has gone. */
static bool keep_task(embedded_call *c, const drr_task *task)
{
    c->words = arena_new(1 << 10);
    const char **choices = c->words ? arena_alloc(c->words, (task->n_choices + 1) * sizeof *choices, 8) : NULL;
    bool good = choices != NULL;
    for (size_t i = 0; good && i < task->n_choices; i++)
        good = (choices[i] = arena_copy(c->words, task->choices[i], strlen(task->choices[i]))) != NULL;
    c->task = (drr_task){.task = "serve", .id = "", .answer = "", .kind = task->kind, .n_choices = task->n_choices};
    c->task.choices = choices;
    c->task.question = good ? arena_copy(c->words, task->question, strlen(task->question)) : NULL;
    return c->task.question != NULL;
}

static drr_status fill_request(embedded_call *c, json_t *body, drr_error *err)
{
    json_t *messages = json_object_get(body, "messages"), *message, *stops = json_object_get(body, "stop"), *stop;
    const reasoner_basis *basis = reasoner_get_basis(c->b->reasoner);
    size_t i;
    drr_status status = DRR_OK;
    json_array_foreach(messages, i, message) if (status == DRR_OK) status = add_message(c, message, err);
    bool good = !json_is_string(stops) || add_stop(c, json_string_value(stops));
    json_array_foreach(stops, i, stop) good = good && add_stop(c, json_string_value(stop));
    if (status != DRR_OK)
        return status;
    c->question = string_copy(c->ask.question);
    c->grammar = string_copy(json_string_or(body, "grammar", NULL));
    const bool hidden = c->ask.task && basis->hidden.n;
    if (!good || (c->ask.question && !c->question) || (hidden && !keep_task(c, c->ask.task)))
        return error_memory(err);
    const double room = basis->context ? basis->context : DEFAULT_TOKENS;
    const double most = json_number_or(body, "max_completion_tokens", json_number_or(body, "max_tokens", room));
    c->request = (reasoner_request){
        .tag = (uint64_t)(uintptr_t)c,
        .messages = c->messages.messages,
        .n_messages = c->messages.n,
        .max_tokens = (uint32_t)(most >= 1 && most <= room ? most : room),
        .temperature = (float)json_number_or(body, "temperature", 0.7),
        .top_p = (float)json_number_or(body, "top_p", 0.95),
        .seed = json_is_integer(json_object_get(body, "seed"))
                    ? (uint64_t)json_integer_value(json_object_get(body, "seed"))
                    : c->ask.seed,
        .grammar = c->grammar,
        .complete = on_token,
        .complete_user = c,
        .answer_at = hidden ? answer_at : NULL,
        .question = c->question,
        .sample = c->ask.sample,
    };
    return DRR_OK;
}

drr_status embedded_begin(upstream_call **call, upstream_embedded *b, const upstream_ask *ask, drr_error *err)
{
    embedded_call *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->call.owner = b->owner;
    c->b = b;
    c->ask = *ask;
    c->cut = SIZE_MAX;
    drr_status status = fill_request(c, ask->body, err);
    if (status != DRR_OK) {
        call_free(c);
        return status;
    }
    pthread_mutex_lock(&b->lock);
    if (b->last)
        b->last->next = c;
    else
        b->first = c;
    b->last = c;
    atomic_store(&b->called, true);
    pthread_cond_signal(&b->come);
    pthread_mutex_unlock(&b->lock);
    *call = &c->call;
    return DRR_OK;
}

void embedded_cancel(upstream_embedded *b, upstream_call *call)
{
    embedded_call *c = (embedded_call *)call, *before = NULL;
    bool mine = true; /* nobody else knows it */
    pthread_mutex_lock(&b->lock);
    if (c->heard) {
        for (embedded_call *at = b->heard_first; at != c; at = at->next_heard)
            before = at;
        if (before)
            before->next_heard = c->next_heard;
        else
            b->heard_first = c->next_heard;
        if (b->heard_last == c)
            b->heard_last = before;
    }
    if (c->state == QUEUED) {
        before = NULL;
        for (embedded_call *at = b->first; at != c; at = at->next)
            before = at;
        if (before)
            before->next = c->next;
        else
            b->first = c->next;
        if (b->last == c)
            b->last = before;
    } else if (c->state == SUBMITTED) {
        c->heard = true; /* it has nothing more to tell */
        atomic_store(&c->withdrawn, true);
        mine = false;
    }
    pthread_mutex_unlock(&b->lock);
    if (mine)
        call_free(c);
}

/* ---- the engine's thread: hearing */

static bool split_thoughts(upstream_reply *reply, const char *text)
{
    think_splitter s = {0};
    const bool good = think_feed(&s, text, strlen(text), NULL) == DRR_OK && think_end(&s, NULL) == DRR_OK;
    reply->own_text = s.answer;
    reply->own_thoughts = s.thoughts;
    return good;
}

static void fill_reply(upstream_reply *reply, embedded_call *c)
{
    reasoner_completion *done = &c->completion;
    const uint32_t context = reasoner_get_basis(c->b->reasoner)->context;
    reply->seconds = done->seconds;
    if (c->failure.status == DRR_E_FORMAT && c->grammar) { /* refused when it was submitted: nobody else's affair */
        upstream_reply_fail(reply, 400, NULL, "%.500s", c->failure.message);
        reply->param = "grammar";
        return;
    }
    if (c->failure.status != DRR_OK) {
        upstream_reply_fail(reply, 500, "model_failed", "the model failed: %.400s", c->failure.message);
        return;
    }
    if (done->finish == DRR_FINISH_FAILED || done->finish == DRR_FINISH_CANCELLED) {
        const bool too_long = context && done->n_prompt_tokens + REASONER_LEAST_ROOM > context;
        upstream_reply_fail(reply, too_long ? 400 : 500, too_long ? "context_length_exceeded" : "model_failed",
                            "%.500s", done->failure ? done->failure : "the model gave up");
        return;
    }
    const char *text = done->text ? done->text : "";
    if (strstr(text, "</think>") || strstr(text, "<think>")) {
        if (!split_thoughts(reply, text)) {
            upstream_reply_fail(reply, 500, NULL, "memory is out");
            return;
        }
    } else {
        const size_t n = strlen(text);
        reply->own_text = (buffer){done->text, n, n + 1};
        done->text = NULL;
        reply->tokens = done->tokens;
        reply->n_tokens = done->n_token_stats;
        done->tokens = NULL;
    }
    reply->hidden = done->hidden;
    reply->hidden_size = done->hidden_size;
    done->hidden = NULL;
    if (done->thoughts)
        buffer_puts(&reply->own_thoughts, done->thoughts, NULL);
    if (!upstream_make_utf8(&reply->own_text))
        reply->n_tokens = 0; /* their places have moved */
    upstream_make_utf8(&reply->own_thoughts);
    reply->text = reply->own_text.data ? reply->own_text.data : "";
    reply->thoughts = reply->own_thoughts.data ? reply->own_thoughts.data : "";
    reply->counted = true;
    reply->n_prompt = done->n_prompt_tokens;
    reply->n_cached = done->n_cached_tokens;
    reply->n_written = done->n_tokens;
    reply->model = string_copy(drr_reasoner_id(c->b->reasoner));
    snprintf(reply->finish, sizeof reply->finish, "%s", done->finish == DRR_FINISH_LENGTH ? "length" : "stop");
    reply->status = 200;
}

static void tell_end(embedded_call *c)
{
    upstream_reply reply = {0};
    const metrics *counts = c->b->owner->options.counts;
    const char *text = c->completion.text;
    if (c->ask.piece && text && c->written < strlen(text))
        c->ask.piece(c->ask.user, "", 0, text + c->written, strlen(text) - c->written, NULL);
    fill_reply(&reply, c);
    if (counts)
        metrics_upstream(c->b->owner->options.counts, "embedded", reply.status, reply.seconds);
    const upstream_ask ask = c->ask;
    call_free(c);
    ask.done(ask.user, &reply);
    upstream_reply_clear(&reply);
}

void embedded_step(upstream_embedded *b)
{
    for (;;) {
        buffer fresh = {0};
        pthread_mutex_lock(&b->lock);
        embedded_call *c = b->heard_first;
        bool finished = false;
        if (c) {
            b->heard_first = c->next_heard;
            if (!b->heard_first)
                b->heard_last = NULL;
            c->heard = false;
            fresh = c->fresh;
            c->fresh = (buffer){0};
            finished = c->state == FINISHED;
        }
        pthread_mutex_unlock(&b->lock);
        if (!c)
            return;
        if (fresh.size)
            c->ask.piece(c->ask.user, "", 0, fresh.data, fresh.size, NULL);
        buffer_clear(&fresh);
        if (finished)
            tell_end(c);
    }
}

/* ---- */

drr_status embedded_open(upstream *u, drr_error *err)
{
    upstream_embedded *b = calloc(1, sizeof *b);
    if (!b)
        return error_memory(err);
    b->owner = u;
    b->reasoner = u->options.reasoner;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->come, NULL);
    u->embedded = b;
    reasoner_attend(b->reasoner, is_called, b);
    b->started = pthread_create(&b->thread, NULL, run, b) == 0;
    return b->started ? DRR_OK : error_set(err, DRR_E_MEMORY, "no thread can be started for the embedded model");
}

static void free_list(embedded_call *c)
{
    while (c) {
        embedded_call *next = c->next;
        call_free(c);
        c = next;
    }
}

void embedded_close(upstream_embedded *b)
{
    if (!b)
        return;
    if (b->started) {
        pthread_mutex_lock(&b->lock);
        atomic_store(&b->closing, true);
        pthread_cond_signal(&b->come);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->thread, NULL);
    }
    reasoner_attend(b->reasoner, NULL, NULL);
    reasoner_cancel(b->reasoner);
    for (embedded_call *c = b->heard_first, *next; c; c = next) {
        next = c->next_heard;
        if (c->state == FINISHED)
            call_free(c);
    }
    free_list(b->first);
    free_list(b->submitted);
    pthread_cond_destroy(&b->come);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
