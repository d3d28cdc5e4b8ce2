/* engine_stream.c: answers as server-sent events (../shared/wire.md, "SSE"). By default nothing but comments leaves
 * before the answer is settled, so that its verdict can stand in the headers too; in live mode attempts are shown as
 * they are written, as reasoning, and the chosen answer follows as content. */
#include "serve/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 96 }; /* bytes of text in a chunk of an answer that was held back */

static void write_out(request *r, const buffer *b)
{
    if (r->left || http_stream_write(r->call, b->data ? b->data : "", b->size))
        return;
    r->left = true; /* engine.c ends it, once whoever calls this has returned */
    r->e->any_left = true;
}

bool stream_begin(request *r)
{
    if (!r->streaming) {
        http_stream_begin(r->call, 200, "text/event-stream");
        r->streaming = true;
    }
    return !r->left;
}

void stream_ping(request *r)
{
    buffer b = {0};
    if (r->direct && r->unjudged) /* what follows may be the upstream's own, with no place for a verdict */
        reply_headers(r, "passthrough", 1, NAN);
    if (r->kind == REQUEST_CHAT && stream_begin(r) && buffer_puts(&b, ":\n\n", NULL) == DRR_OK)
        write_out(r, &b);
    buffer_clear(&b);
}

/* ---- chunks */

static bool chunk_head(buffer *b, request *r, const attempt *a)
{
    if (a && a->reply.model && !r->role_sent) { /* one name in all chunks */
        free(r->model);
        r->model = string_copy(a->reply.model);
    }
    const char *model = r->model ? r->model : "";
    return buffer_printf(b, NULL,
                         "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":", r->id,
                         r->created) == DRR_OK &&
           put_json_string(b, model, strlen(model)) == DRR_OK && put_fingerprint(b, r) == DRR_OK;
}

/* more: further fields of the chunk, each with its comma before it, or "". */
static bool chunk(buffer *b, request *r, const attempt *a, const char *delta, const char *logprobs, const char *finish,
                  const char *more)
{
    return chunk_head(b, r, a) &&
           buffer_printf(b, NULL, ",\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":%s,\"finish_reason\":", delta,
                         logprobs ? logprobs : "null") == DRR_OK &&
           (finish ? put_json_string(b, finish, strlen(finish)) : buffer_puts(b, "null", NULL)) == DRR_OK &&
           buffer_printf(b, NULL, "}]%s%s}\n\n", r->include_usage ? ",\"usage\":null" : "", more) == DRR_OK;
}

static bool put_role(buffer *b, request *r, const attempt *a)
{
    if (r->role_sent)
        return true;
    const bool good = chunk(b, r, a, "{\"role\":\"assistant\",\"content\":\"\"}", NULL, NULL, "");
    r->role_sent = true;
    return good;
}

static bool put_piece(buffer *b, request *r, const attempt *a, const char *field, const char *text, size_t size,
                      const char *logprobs)
{
    buffer delta = {0};
    const bool good = buffer_printf(&delta, NULL, "{\"%s\":", field) == DRR_OK &&
                      put_json_string(&delta, text, size) == DRR_OK && buffer_puts(&delta, "}", NULL) == DRR_OK &&
                      chunk(b, r, a, delta.data, logprobs, NULL, "");
    buffer_clear(&delta);
    return good;
}

void stream_piece(void *user, const char *thoughts, size_t n_thoughts, const char *text, size_t n_text,
                  json_t *logprobs)
{
    attempt *a = user;
    request *r = a->r;
    buffer b = {0};
    if (!stream_begin(r))
        return;
    bool good = put_role(&b, r, NULL);
    if (good && !a->shown && a->number > 0)
        good = put_piece(&b, r, NULL, "reasoning_content", "\n\n", 2, NULL);
    if (good && n_thoughts)
        good = put_piece(&b, r, NULL, "reasoning_content", thoughts, n_thoughts, NULL);
    char *known = r->direct && json_is_object(logprobs) ? json_dumps(logprobs, JSON_COMPACT) : NULL;
    if (good && n_text)
        good = put_piece(&b, r, NULL, r->direct ? "content" : "reasoning_content", text, n_text, known);
    free(known);
    a->shown = true;
    if (good)
        write_out(r, &b);
    buffer_clear(&b);
}

void stream_turn(request *r, const attempt *a)
{
    json_t *turn = reply_turn(a);
    char *text = turn ? json_dumps(turn, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    buffer b = {0}, more = {0};
    if (text && stream_begin(r) && put_role(&b, r, NULL) &&
        buffer_printf(&more, NULL, ",\"drr\":{\"turn\":%s}", text) == DRR_OK &&
        chunk(&b, r, NULL, "{}", NULL, NULL, more.data))
        write_out(r, &b);
    json_decref(turn);
    free(text);
    buffer_clear(&b);
    buffer_clear(&more);
}

/* ---- the end */

/* The end of a piece that begins at text: at a space where there is one, never within a character. */
static size_t piece_end(const char *text, size_t size)
{
    if (size <= PIECE)
        return size;
    size_t end = PIECE;
    while (end > PIECE / 2 && text[end] != ' ' && text[end] != '\n')
        end--;
    if (end == PIECE / 2)
        end = PIECE;
    while (end > 1 && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    return end;
}

static bool put_content(buffer *b, request *r, const attempt *a, const char *text)
{
    json_t *choice = a ? json_array_get(json_object_get(a->reply.root, "choices"), 0) : NULL;
    json_t *list = json_object_get(choice, "logprobs");
    char *logprobs = json_is_object(list) ? json_dumps(list, JSON_COMPACT) : NULL; /* all with the first piece */
    bool good = true;
    for (size_t at = 0, size = strlen(text), n; good && at < size; at += n) {
        n = piece_end(text + at, size - at);
        good = put_piece(b, r, a, "content", text + at, n, at == 0 ? logprobs : NULL);
    }
    free(logprobs);
    return good;
}

static bool put_delta(buffer *b, request *r, const attempt *a, json_t *delta)
{
    char *text = json_dumps(delta, JSON_COMPACT);
    const bool good = text && chunk(b, r, a, text, NULL, NULL, "");
    free(text);
    return good;
}

/* Tool calls, which a stream numbers. */
static bool put_other(buffer *b, request *r, const attempt *a)
{
    json_t *delta, *calls, *call;
    size_t i;
    bool good = true;
    if (!a || !a->reply.other)
        return true;
    json_array_foreach(a->reply.deltas, i, delta) good = good && put_delta(b, r, a, delta);
    json_t *choice = json_array_get(json_object_get(a->reply.root, "choices"), 0);
    calls = json_object_get(json_object_get(choice, "message"), "tool_calls");
    json_array_foreach(calls, i, call) json_object_set_new(call, "index", json_integer((json_int_t)i));
    if (good && json_array_size(calls)) {
        delta = json_pack("{s:O}", "tool_calls", calls);
        good = delta && put_delta(b, r, a, delta);
        json_decref(delta);
    }
    return good;
}

void stream_answer(request *r, const attempt *a, const char *text, const char *refusal_words, const char *finish,
                   const char *drr)
{
    buffer b = {0}, more = {0};
    bool good = stream_begin(r) && put_role(&b, r, a);
    if (good && text && a && *a->reply.thoughts && !a->shown)
        good = put_piece(&b, r, a, "reasoning_content", a->reply.thoughts, strlen(a->reply.thoughts), NULL);
    if (good && text)
        good = put_content(&b, r, a, text);
    if (good && refusal_words)
        good = put_piece(&b, r, a, "refusal", refusal_words, strlen(refusal_words), NULL);
    good = good && put_other(&b, r, a) && buffer_printf(&more, NULL, ",\"drr\":%s", drr) == DRR_OK &&
           chunk(&b, r, a, "{}", NULL, finish, more.data);
    if (good && r->include_usage) {
        char *usage = reply_usage(r);
        good = usage && chunk_head(&b, r, a) &&
               buffer_printf(&b, NULL, ",\"choices\":[],\"usage\":%s}\n\n", usage) == DRR_OK;
        free(usage);
    }
    if (good && buffer_puts(&b, "data: [DONE]\n\n", NULL) == DRR_OK)
        write_out(r, &b);
    buffer_clear(&b);
    buffer_clear(&more);
    http_stream_end(r->call);
}

static bool put_text_or_null(buffer *b, const char *text)
{
    return (text ? put_json_string(b, text, strlen(text)) : buffer_puts(b, "null", NULL)) == DRR_OK;
}

void stream_error(request *r, const char *type, const char *param, const char *code, const char *message)
{
    buffer b = {0};
    const bool good = buffer_puts(&b, "data: {\"error\":{\"message\":", NULL) == DRR_OK &&
                      put_text_or_null(&b, message) && buffer_puts(&b, ",\"type\":", NULL) == DRR_OK &&
                      put_text_or_null(&b, type) && buffer_puts(&b, ",\"param\":", NULL) == DRR_OK &&
                      put_text_or_null(&b, param) && buffer_puts(&b, ",\"code\":", NULL) == DRR_OK &&
                      put_text_or_null(&b, code) && buffer_puts(&b, "}}\n\n", NULL) == DRR_OK;
    if (good)
        write_out(r, &b);
    buffer_clear(&b);
    http_stream_end(r->call);
}
