/* remote_reply.c: the JSON of /chat/completions, out and in. What comes in is foreign: fields may be absent, null or of
 * another type, and then they are taken as absent; only what makes an answer worthless is a fault. */
#include "reasoner/remote_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- out */

static bool put(json_t *o, const char *name, json_t *value)
{
    return json_object_set_new(o, name, value) == 0; /* -1 for a NULL value too, as json_string gives for bad UTF-8 */
}

static bool put_messages(json_t *o, const reasoner_request *request)
{
    json_t *list = json_array();
    bool good = put(o, "messages", list);
    for (size_t i = 0; good && i < request->n_messages; i++) {
        json_t *message = json_object();
        good = json_array_append_new(list, message) == 0 &&
               put(message, "role", json_string(request->messages[i].role)) &&
               put(message, "content", json_string(request->messages[i].content));
    }
    return good;
}

drr_status remote_request_body(char **body, const remote_backend *r, const reasoner_request *request, drr_error *err)
{
    const remote_features *f = &r->features;
    json_t *o = json_object();
    bool good =
        o && put(o, "model", json_string(r->model)) && put_messages(o, request) && put(o, "stream", json_true()) &&
        put(o, f->completion_tokens ? "max_completion_tokens" : "max_tokens", json_integer(request->max_tokens));
    if (good && f->usage)
        good = put(o, "stream_options", json_pack("{s:b}", "include_usage", 1));
    if (good && f->temperature)
        good = put(o, "temperature", json_real(round((double)request->temperature * 1e6) / 1e6));
    if (good && f->top_p && request->temperature > 0 && request->top_p > 0 && request->top_p < 1)
        good = put(o, "top_p", json_real(round((double)request->top_p * 1e6) / 1e6));
    if (good && f->seed) /* 31 bits: what every server takes */
        good = put(o, "seed", json_integer((json_int_t)(request->seed & 0x7fffffff)));
    if (good && f->logprobs)
        good = put(o, "logprobs", json_true()) && put(o, "top_logprobs", json_integer(2));
    if (good && f->grammar && request->grammar)
        good = put(o, "grammar", json_string(request->grammar));
    *body = good ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!*body)
        return error_set(err, DRR_E_FORMAT,
                         "the question cannot be written as JSON: it is not UTF-8, or memory is out");
    return DRR_OK;
}

/* ---- faults */

void remote_reply_problem(remote_reply *reply, remote_fault fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reply->problem, sizeof reply->problem, format, arguments);
    va_end(arguments);
    reply->fault = fault;
}

remote_fault remote_fault_of(long status, const char *code)
{
    if (strcmp(code, "insufficient_quota") == 0 || strcmp(code, "billing_hard_limit_reached") == 0)
        return REMOTE_STOP;
    if (status == 408 || status == 409 || status == 425 || status == 429 || (status >= 500 && status != 501))
        return REMOTE_RETRY;
    if (status == 401 || status == 402 || status == 403 || status == 404 || status == 501 ||
        (status >= 300 && status < 400))
        return REMOTE_STOP;
    return REMOTE_FAIL;
}

/* A key is refused without the server's words, which may quote it in part. */
static void tell_refusal(remote_transfer *t, long status, const char *code, const char *words)
{
    const remote_backend *r = t->owner;
    const remote_fault fault = remote_fault_of(status, code);
    char clean[240];
    remote_key_clean(r->key, clean, sizeof clean, words);
    if (status == 401 || status == 403)
        remote_reply_problem(&t->reply, REMOTE_STOP, "%s %s (%ld); %s", r->base,
                             r->key ? "does not accept the API key" : "wants an API key", status,
                             r->key ? "check the key and what it is allowed"
                                    : "set DRR_UPSTREAM_API_KEY in the environment or name a file with --api-key-file");
    else if (status == 404)
        remote_reply_problem(
            &t->reply, fault,
            "%s has no model %.100s or no /chat/completions (404%s%s); check --model, and that the address "
            "ends as the server's documentation says, mostly in /v1",
            r->base, r->model, *clean ? ": " : "", clean);
    else if (status >= 300 && status < 400)
        remote_reply_problem(&t->reply, fault, "%s redirects elsewhere (%ld); give the final address", r->base, status);
    else
        remote_reply_problem(&t->reply, fault, "%s answers %ld%s%s", r->base, status, *clean ? ": " : "", clean);
}

/* {"error": {"message", "type", "param", "code"}}, {"error": "words"}, and FastAPI's {"detail": ..}. */
static void take_error(remote_transfer *t, json_t *root, json_t *error, long status)
{
    char code[64] = "", param[sizeof t->reply.param] = "";
    const char *words = json_is_string(error) ? json_string_value(error) : json_string_or(error, "message", "");
    if (!*words)
        words = json_string_or(root, "detail", json_string_or(root, "message", ""));
    remote_key_clean(NULL, code, sizeof code, json_string_or(error, "code", json_string_or(error, "type", "")));
    remote_key_clean(NULL, param, sizeof param, json_string_or(error, "param", ""));
    const double number = json_number_or(error, "code", json_number_or(root, "code", 0));
    if (status == 200 && number >= 300 && number < 600)
        status = (long)number;
    else if (status == 200) /* an error without a number, after "200 OK" */
        status = strstr(code, "invalid") ? 400 : strstr(code, "rate") ? 429 : strstr(code, "auth") ? 401 : 500;
    tell_refusal(t, status, code, words);
    memcpy(t->reply.param, param, sizeof param);
    if (!*param) /* the words may name it */
        remote_key_clean(t->owner->key, t->reply.param, sizeof t->reply.param, words);
    t->reply.status = status;
}

void remote_reply_refused(remote_transfer *t, long status)
{
    json_t *root = t->reply.body.size ? json_loadb(t->reply.body.data, t->reply.body.size, 0, NULL) : NULL;
    json_t *error = json_object_get(root, "error");
    take_error(t, root, error, status);
    json_decref(root);
}

/* ---- in */

static bool to_count(uint32_t *count, json_t *object, const char *field)
{
    const double number = json_number_or(object, field, -1);
    if (!(number >= 0 && number <= INT32_MAX))
        return false;
    *count = (uint32_t)number;
    return true;
}

static void take_usage(remote_reply *reply, json_t *usage)
{
    uint32_t prompt, written;
    if (!to_count(&prompt, usage, "prompt_tokens") || !to_count(&written, usage, "completion_tokens"))
        return;
    reply->has_usage = true;
    reply->used_prompt = prompt;
    reply->used_written = written;
    to_count(&reply->used_cached, json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
}

static drr_status add_token(remote_reply *reply, json_t *row, uint32_t end, drr_error *err)
{
    const double logprob = json_number_or(row, "logprob", NAN);
    const char *token = json_string_or(row, "token", NULL);
    double other = NAN;
    json_t *top = json_object_get(row, "top_logprobs"), *candidate;
    size_t i;
    if (!token || !(logprob <= 1e-6)) /* OpenAI writes -9999 for "next to nothing"; NaN is no log-probability */
        return DRR_OK;
    json_array_foreach(top, i, candidate)
    {
        const char *name = json_string_or(candidate, "token", token);
        const double p = json_number_or(candidate, "logprob", NAN);
        if (strcmp(name, token) != 0 && isfinite(p) && !(p <= other)) /* the first, or a better one */
            other = p;
    }
    if (reply->n_tokens == reply->token_capacity) {
        const uint32_t capacity = reply->token_capacity ? 2 * reply->token_capacity : 128;
        reasoner_token *more = realloc(reply->tokens, capacity * sizeof *more);
        if (!more)
            return error_memory(err);
        reply->tokens = more;
        reply->token_capacity = capacity;
    }
    reply->tokens[reply->n_tokens++] =
        (reasoner_token){end, (float)logprob, NAN /* needs the whole vocabulary */, (float)(logprob - other)};
    return DRR_OK;
}

/* Is this token what stands at `text`? *length: the bytes that it is. Those that the server lists go before its name,
 * which is not what stands there where a character takes several tokens. */
static bool stands_at(size_t *length, json_t *row, const char *text, size_t size)
{
    json_t *bytes = json_object_get(row, "bytes");
    const char *name = json_string_or(row, "token", NULL);
    size_t same = 0;
    *length = json_array_size(bytes);
    while (same < *length && same < size &&
           json_integer_value(json_array_get(bytes, same)) == (unsigned char)text[same])
        same++;
    if (*length && same == *length)
        return true;
    *length = name ? strlen(name) : 0;
    return name && *length <= size && memcmp(name, text, *length) == 0;
}

/* Are these tokens, one after the other, this text and no more? */
static bool make_up(json_t *rows, const char *text, size_t size)
{
    json_t *row;
    size_t i, length, at = 0;
    json_array_foreach(rows, i, row)
    {
        if (!stands_at(&length, row, text + at, size - at))
            return false;
        at += length;
    }
    return at == size;
}

/* *grown: the bytes by which the answer is longer. What turns out to be thoughts, or a tag, takes its tokens with it.
 */
static drr_status feed(remote_reply *reply, size_t *grown, const char *text, size_t size, drr_error *err)
{
    think_splitter *words = &reply->words;
    const size_t n_ended = words->n_ended;
    size_t before = think_answer_size(words);
    drr_status status = think_feed(words, text, size, err);
    const size_t after = think_answer_size(words);
    if (words->n_ended > n_ended) { /* all that was there belongs to them */
        reply->n_tokens = 0;
        before = 0;
    }
    while (reply->n_tokens && reply->tokens[reply->n_tokens - 1].end > after)
        reply->n_tokens--;
    *grown = after > before ? after - before : 0;
    return status;
}

/* Tokens that are not the text as it came are spread over it, where all of it is the answer. */
static drr_status spread(remote_reply *reply, json_t *rows, size_t grown, drr_error *err)
{
    json_t *row;
    const size_t after = think_answer_size(&reply->words), n = json_array_size(rows);
    size_t i, end = after - grown;
    drr_status status = DRR_OK;
    json_array_foreach(rows, i, row)
    {
        const size_t length = strlen(json_string_or(row, "token", ""));
        end = end + length < after && i + 1 < n ? end + length : after;
        if (status == DRR_OK)
            status = add_token(reply, row, (uint32_t)end, err);
    }
    return status;
}

/* A piece of content and its log-probabilities (rows, may be NULL), of which those of the answer's tokens are kept and
 * those of thoughts are not. mixed: thoughts came with it, of which the rows may be as well. */
static drr_status take_text(remote_reply *reply, const char *text, size_t size, json_t *rows, bool mixed,
                            drr_error *err)
{
    json_t *row;
    size_t i, grown = 0, length = 0;
    drr_status status = DRR_OK;
    if (!make_up(rows, text, size)) {
        status = feed(reply, &grown, text, size, err);
        return status == DRR_OK && size && grown == size && !mixed ? spread(reply, rows, grown, err) : status;
    }
    json_array_foreach(rows, i, row)
    {
        if (status != DRR_OK || !stands_at(&length, row, text, size))
            break;
        status = feed(reply, &grown, text, length, err);
        if (status == DRR_OK && grown)
            status = add_token(reply, row, (uint32_t)think_answer_size(&reply->words), err);
        text += length;
        size -= length;
    }
    return status;
}

static drr_status take_content(remote_reply *reply, json_t *content, json_t *rows, bool mixed, drr_error *err)
{
    json_t *part;
    size_t i;
    buffer joined = {0};
    drr_status status = DRR_OK;
    if (json_is_string(content))
        return take_text(reply, json_string_value(content), json_string_length(content), rows, mixed, err);
    json_array_foreach(content, i, part) /* a list of parts */
        if (status == DRR_OK) status = buffer_puts(&joined, json_string_or(part, "text", ""), err);
    if (status == DRR_OK && joined.size)
        status = take_text(reply, joined.data, joined.size, rows, mixed, err);
    buffer_clear(&joined);
    return status;
}

static void take_finish(remote_transfer *t, const char *reason)
{
    remote_reply *reply = &t->reply;
    char clean[60];
    reply->finished = true;
    reply->finish = DRR_FINISH_STOP;
    if (strcmp(reason, "length") == 0 || strcmp(reason, "max_tokens") == 0) {
        reply->finish = DRR_FINISH_LENGTH;
    } else if (strcmp(reason, "content_filter") == 0) {
        remote_reply_problem(reply, REMOTE_FAIL, "the server's content filter withheld the answer");
    } else if (strcmp(reason, "tool_calls") == 0 || strcmp(reason, "function_call") == 0) {
        remote_reply_problem(reply, REMOTE_FAIL, "the model called a tool instead of answering");
    } else if (strcmp(reason, "error") == 0 || strcmp(reason, "abort") == 0 || strcmp(reason, "cancelled") == 0) {
        remote_key_clean(t->owner->key, clean, sizeof clean, reason);
        remote_reply_problem(reply, REMOTE_RETRY, "the server gave up on the answer (%s)", clean);
    }
}

static drr_status take_choice(remote_transfer *t, json_t *choice, drr_error *err)
{
    remote_reply *reply = &t->reply;
    json_t *delta = json_object_get(choice, "delta");
    json_t *rows = json_object_get(json_object_get(choice, "logprobs"), "content");
    if (!json_is_object(delta))
        delta = json_object_get(choice, "message");
    const size_t before = reply->words.answer.size, thoughts_before = reply->words.thoughts.size;
    const char *thoughts = json_string_or(delta, "reasoning_content", json_string_or(delta, "reasoning", ""));
    drr_status status = think_feed_thoughts(&reply->words, thoughts, strlen(thoughts), err);
    if (status == DRR_OK)
        status = take_content(reply, json_object_get(delta, "content"), rows, *thoughts, err);
    if (status == DRR_OK)
        status = take_content(reply, json_object_get(delta, "refusal"), NULL, false, err);
    if (status != DRR_OK)
        return status;
    reply->known = true;
    if (reply->words.answer.size > before || reply->words.thoughts.size > thoughts_before || reply->words.n_held) {
        reply->begun = true;
        reply->n_pieces++;
    }
    const char *reason = json_string_or(choice, "finish_reason", NULL);
    if (reason && *reason && !reply->finished)
        take_finish(t, reason);
    return DRR_OK;
}

/* One object, a chunk or a whole completion. */
static drr_status take_object(remote_transfer *t, json_t *root, drr_error *err)
{
    json_t *error = json_object_get(root, "error"), *choices = json_object_get(root, "choices"), *choice;
    size_t i;
    if (error && !json_is_null(error)) {
        take_error(t, root, error, 200);
        return DRR_OK;
    }
    take_usage(&t->reply, json_object_get(root, "usage"));
    json_array_foreach(choices, i, choice) if (json_number_or(choice, "index", 0) == 0) return take_choice(t, choice,
                                                                                                           err);
    return DRR_OK;
}

drr_status remote_reply_event(remote_transfer *t, const char *data, size_t size, drr_error *err)
{
    remote_reply *reply = &t->reply;
    if (reply->done || reply->fault != REMOTE_FINE)
        return DRR_OK;
    if (size == 6 && memcmp(data, "[DONE]", 6) == 0) {
        reply->done = true;
        return DRR_OK;
    }
    json_t *root = json_loadb(data, size, 0, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        remote_reply_problem(reply, REMOTE_RETRY, "%s sent an event that is not JSON", t->owner->base);
        return DRR_OK;
    }
    drr_status status = take_object(t, root, err);
    json_decref(root);
    return status;
}

/* A server that does not stream sends the whole completion at once: as good. */
drr_status remote_reply_whole(remote_transfer *t, drr_error *err)
{
    remote_reply *reply = &t->reply;
    json_t *root = reply->body.size ? json_loadb(reply->body.data, reply->body.size, 0, NULL) : NULL;
    drr_status status = DRR_OK;
    if (json_is_object(root))
        status = take_object(t, root, err);
    if (status == DRR_OK && reply->fault == REMOTE_FINE && !reply->known) {
        char *type = NULL, clean[60];
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
        remote_key_clean(t->owner->key, clean, sizeof clean, type ? type : "no content type");
        remote_reply_problem(reply, REMOTE_RETRY,
                             "%s sent no completion but %zu bytes of %s; is it an OpenAI-compatible API?",
                             t->owner->base, reply->body.size, clean);
    }
    if (reply->known && !reply->finished) {
        reply->finished = true;
        reply->finish = DRR_FINISH_STOP;
    }
    json_decref(root);
    return status;
}

uint32_t remote_reply_written(const remote_reply *reply)
{
    const uint32_t by_bytes = (uint32_t)((reply->words.answer.size + reply->words.thoughts.size + 3) / 4);
    if (reply->has_usage)
        return reply->used_written;
    return reply->n_pieces > by_bytes ? reply->n_pieces : by_bytes;
}

void remote_reply_clear(remote_reply *reply)
{
    sse_clear(&reply->events);
    think_clear(&reply->words);
    buffer_clear(&reply->body);
    free(reply->tokens);
    *reply = (remote_reply){0};
}
