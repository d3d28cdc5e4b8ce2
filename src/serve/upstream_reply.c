/* upstream_reply.c: reads what a server wrote, whole or event by event. It is foreign: fields may be absent, null or of
 * another type, and then they are taken as absent; only what makes an answer worthless is a failure. */
#include "serve/upstream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void upstream_reply_clear(upstream_reply *reply)
{
    free(reply->message);
    buffer_clear(&reply->body);
    json_decref(reply->root);
    json_decref(reply->deltas);
    buffer_clear(&reply->own_text);
    buffer_clear(&reply->own_thoughts);
    free(reply->model);
    free(reply->tokens);
    free(reply->hidden);
    *reply = (upstream_reply){0};
}

void upstream_reply_fail(upstream_reply *reply, int status, const char *code, const char *format, ...)
{
    char words[640];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    free(reply->message);
    reply->message = string_copy(words);
    reply->status = status;
    reply->code = code;
}

bool upstream_make_utf8(buffer *b)
{
    if (utf8_sound(b->data, b->size) == b->size)
        return true;
    buffer sound = {0};
    drr_status status = DRR_OK;
    for (size_t at = 0, n; status == DRR_OK && at < b->size; at += n ? n : 1) {
        n = utf8_character(b->data + at, b->size - at);
        status = n ? buffer_append(&sound, b->data + at, n, NULL) : buffer_puts(&sound, "\xef\xbf\xbd", NULL);
    }
    buffer_clear(b);
    *b = sound;
    return false;
}

static void take_count(uint32_t *count, json_t *object, const char *field)
{
    const double number = json_number_or(object, field, -1);
    if (number >= 0 && number <= INT32_MAX)
        *count = (uint32_t)number;
}

static void take_usage(upstream_reply *reply, json_t *usage)
{
    if (!json_is_object(usage) || !json_is_number(json_object_get(usage, "completion_tokens")))
        return;
    reply->counted = true;
    take_count(&reply->n_prompt, usage, "prompt_tokens");
    take_count(&reply->n_written, usage, "completion_tokens");
    take_count(&reply->n_cached, json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    take_count(&reply->n_thought, json_object_get(usage, "completion_tokens_details"), "reasoning_tokens");
}

static uint32_t tokens_of(size_t bytes)
{
    enum { BYTES = 4 }; /* of a token, in most languages and vocabularies rather fewer than more */
    const size_t n = (bytes + BYTES - 1) / BYTES;
    return n < INT32_MAX ? (uint32_t)n : INT32_MAX;
}

/* As drr distill reckons (remote_reply_written): a piece of a stream is a token or more. */
void upstream_reply_reckon(upstream_reply *reply, size_t prompt_bytes)
{
    if (reply->counted)
        return;
    const size_t n_thoughts = reply->thoughts ? strlen(reply->thoughts) : 0;
    uint32_t n = tokens_of(n_thoughts + (reply->text ? strlen(reply->text) : 0));
    n = reply->n_pieces > n ? reply->n_pieces : n;
    reply->n_written = reply->n_tokens > n ? reply->n_tokens : n;
    reply->n_thought = tokens_of(n_thoughts);
    reply->n_prompt = tokens_of(prompt_bytes);
}

static void add_token(upstream_reply *reply, json_t *row, uint32_t end)
{
    const double logprob = json_number_or(row, "logprob", NAN);
    const char *token = json_string_or(row, "token", NULL);
    double other = NAN;
    json_t *top = json_object_get(row, "top_logprobs"), *candidate;
    size_t i;
    if (!token || !(logprob <= 1e-6))
        return;
    json_array_foreach(top, i, candidate)
    {
        const double p = json_number_or(candidate, "logprob", NAN);
        if (strcmp(json_string_or(candidate, "token", token), token) != 0 && isfinite(p) && !(p <= other))
            other = p;
    }
    if ((reply->n_tokens & (reply->n_tokens - 1)) == 0) { /* 0, and each power of two: there is no room left */
        reasoner_token *more = realloc(reply->tokens, (reply->n_tokens ? 2 * reply->n_tokens : 1) * sizeof *more);
        if (!more)
            return; /* they are a help, and no more */
        reply->tokens = more;
    }
    reply->tokens[reply->n_tokens++] = (reasoner_token){end, (float)logprob, NAN, (float)(logprob - other)};
}

/* Log-probabilities of a piece that made the text grow from `before` to `after` bytes. */
static void take_logprobs(upstream_reply *reply, json_t *choice, size_t before, size_t after)
{
    json_t *list = json_object_get(json_object_get(choice, "logprobs"), "content"), *row;
    const size_t n = json_array_size(list);
    size_t i, end = before;
    json_array_foreach(list, i, row)
    {
        const size_t length = strlen(json_string_or(row, "token", ""));
        end = end + length < after && i + 1 < n ? end + length : after;
        add_token(reply, row, (uint32_t)end);
    }
}

static void take_finish(upstream_reply *reply, json_t *choice)
{
    const char *reason = json_string_or(choice, "finish_reason", "");
    if (*reason)
        snprintf(reply->finish, sizeof reply->finish, "%s", reason);
}

/* Something that is no text, and that a reply must not lose. */
static bool holds_other(json_t *message)
{
    static const char *const fields[] = {"tool_calls", "function_call", "audio", "images"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        json_t *value = json_object_get(message, fields[i]);
        if (value && !json_is_null(value) && !(json_is_array(value) && json_array_size(value) == 0))
            return true;
    }
    return false;
}

const char *upstream_error_words(json_t *root)
{
    json_t *error = json_object_get(root, "error");
    const char *words = json_is_string(error) ? json_string_value(error) : json_string_or(error, "message", "");
    return *words ? words : json_string_or(root, "detail", json_string_or(root, "message", ""));
}

/* {"error": {...}}, {"error": "words"} in a 200. */
static bool is_error(upstream_reply *reply, json_t *root, const char *from)
{
    json_t *error = json_object_get(root, "error");
    if (!error || json_is_null(error))
        return false;
    const char *words = json_is_string(error) ? json_string_value(error) : json_string_or(error, "message", "an error");
    const double number = json_number_or(error, "code", 500);
    const int status = number == 429 ? 429 : number == 503 ? 503 : number == 504 ? 504 : 502;
    upstream_reply_fail(reply, status, "upstream_error", "the upstream %s answers with an error: %.300s", from, words);
    return true;
}

/* A message whose content is a list of parts: their text. */
static bool join_parts(upstream_reply *reply, json_t *content)
{
    json_t *part;
    size_t i;
    json_array_foreach(content, i, part)
    {
        const char *text = json_string_or(part, "text", NULL);
        if (!text)
            reply->other = true;
        else if (buffer_puts(&reply->own_text, text, NULL) != DRR_OK)
            return false;
    }
    return true;
}

bool upstream_reply_read(upstream_reply *reply, const char *from)
{
    reply->root = reply->body.size ? json_loadb(reply->body.data, reply->body.size, 0, NULL) : NULL;
    if (!json_is_object(reply->root)) {
        json_decref(reply->root);
        reply->root = NULL;
        upstream_reply_fail(reply, 502, "upstream_error",
                            "the upstream %s sent no completion but %zu bytes of %s; is it an OpenAI-compatible API?",
                            from, reply->body.size, *reply->type ? reply->type : "no content type");
        return false;
    }
    if (is_error(reply, reply->root, from))
        return false;
    json_t *choice = json_array_get(json_object_get(reply->root, "choices"), 0);
    json_t *message = json_object_get(choice, "message"), *content = json_object_get(message, "content");
    if (!json_is_object(message)) {
        upstream_reply_fail(reply, 502, "upstream_error", "the upstream %s sent a completion without choices", from);
        return false;
    }
    reply->text = json_string_or(message, "content", "");
    reply->thoughts = json_string_or(message, "reasoning_content", json_string_or(message, "reasoning", ""));
    reply->other = holds_other(message);
    if (json_is_array(content)) {
        if (!join_parts(reply, content)) {
            upstream_reply_fail(reply, 500, NULL, "memory is out");
            return false;
        }
        reply->text = reply->own_text.data ? reply->own_text.data : "";
    }
    take_finish(reply, choice);
    take_usage(reply, json_object_get(reply->root, "usage"));
    take_logprobs(reply, choice, 0, strlen(reply->text));
    reply->model = string_copy(json_string_or(reply->root, "model", NULL));
    reply->status = 200;
    return true;
}

static bool take_delta(upstream_reply *reply, json_t *choice, upstream_piece piece, void *user)
{
    json_t *delta = json_object_get(choice, "delta");
    if (!json_is_object(delta))
        delta = json_object_get(choice, "message");
    const char *thoughts = json_string_or(delta, "reasoning_content", json_string_or(delta, "reasoning", ""));
    const char *text = json_string_or(delta, "content", json_string_or(delta, "refusal", ""));
    const size_t n_thoughts = strlen(thoughts), n_text = strlen(text), before = reply->own_text.size;
    bool good = buffer_append(&reply->own_thoughts, thoughts, n_thoughts, NULL) == DRR_OK &&
                buffer_append(&reply->own_text, text, n_text, NULL) == DRR_OK;
    if (good && holds_other(delta)) {
        reply->other = true;
        if (!reply->deltas)
            reply->deltas = json_array();
        good = json_array_append(reply->deltas, delta) == 0;
    }
    take_logprobs(reply, choice, before, reply->own_text.size);
    take_finish(reply, choice);
    reply->n_pieces += n_thoughts + n_text > 0;
    if (good && piece && n_thoughts + n_text)
        piece(user, thoughts, n_thoughts, text, n_text, json_object_get(choice, "logprobs"));
    return good;
}

bool upstream_reply_event(upstream_reply *reply, const char *data, size_t size, bool *ended, upstream_piece piece,
                          void *user, const char *from)
{
    bool good = true;
    if (*ended)
        return true;
    if (size == 6 && memcmp(data, "[DONE]", 6) == 0) {
        *ended = true;
        return true;
    }
    json_t *root = json_loadb(data, size, 0, NULL), *choice;
    size_t i;
    if (!json_is_object(root)) {
        upstream_reply_fail(reply, 502, "upstream_error", "the upstream %s sent an event that is not JSON", from);
        good = false;
    } else if (is_error(reply, root, from)) {
        good = false;
    } else {
        take_usage(reply, json_object_get(root, "usage"));
        if (!reply->model)
            reply->model = string_copy(json_string_or(root, "model", NULL));
        json_array_foreach(json_object_get(root, "choices"), i, choice)
        {
            if (good && json_number_or(choice, "index", 0) == 0 && !take_delta(reply, choice, piece, user)) {
                upstream_reply_fail(reply, 500, NULL, "memory is out");
                good = false;
            }
        }
    }
    json_decref(root);
    return good;
}
