/* serve_log.c: what happens in the server, as sentences for the caller's log and as lines of JSON for machines. Neither
 * holds what was asked or answered unless the operator asks for it, and none holds a key. */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static json_t *time_value(void)
{
    struct timespec now;
    struct tm utc;
    char text[64], whole[32];
    clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &utc) || !strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &utc))
        return json_null();
    snprintf(text, sizeof text, "%s.%03ldZ", whole, now.tv_nsec / 1000000);
    return json_string(text);
}

/* What comes from outside may be no UTF-8. */
static json_t *text_value(const char *text)
{
    json_t *value = text ? json_string(text) : json_null();
    return value ? value : json_string("(not UTF-8)");
}

void serve_event(serve *s, const char *level, const char *event, json_t *members)
{
    json_t *line =
        s->first.event ? json_pack("{s:o, s:s, s:s}", "time", time_value(), "level", level, "event", event) : NULL;
    if (line && members)
        json_object_update(line, members);
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_MILLIONTHS) : NULL;
    if (text) {
        pthread_mutex_lock(&s->log_lock);
        s->first.event(s->first.user, text);
        pthread_mutex_unlock(&s->log_lock);
    }
    free(text);
    json_decref(line);
    json_decref(members);
}

void serve_hear(void *user, drr_log_level level, const char *message)
{
    serve *s = user;
    if (s->outer && s->outer->log) {
        pthread_mutex_lock(&s->log_lock);
        s->outer->log(s->outer->user, level, message);
        pthread_mutex_unlock(&s->log_lock);
    }
    if (level != DRR_LOG_DEBUG)
        serve_event(s, level == DRR_LOG_WARN ? "warn" : "info", "message",
                    json_pack("{s:o}", "message", text_value(message)));
}

void serve_note_request(void *user, const http_done *done)
{
    serve *s = user;
    if (!s->first.event)
        return;
    serve_event(s, "info", "request",
                json_pack("{s:s, s:o, s:o, s:i, s:I, s:I, s:o, s:b}", "id", done->id, "method",
                          text_value(done->method), "path", text_value(done->path), "status", done->status,
                          "body_bytes", (json_int_t)done->body_bytes, "sent_bytes", (json_int_t)done->sent_bytes,
                          "seconds", json_millionths(done->seconds), "gone", done->gone));
}

void serve_note_answer(serve *s, const engine_record *r)
{
    uint64_t n_tokens = 0;
    if (!s->first.event)
        return;
    for (size_t i = 0; i < r->n_turns; i++)
        n_tokens += r->turns[i].n_tokens;
    json_t *members = json_pack("{s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:o}", "id", r->id, "model", text_value(r->model),
                                "verdict", text_value(r->outcome), "turns", (json_int_t)r->n_turns, "completion_tokens",
                                (json_int_t)n_tokens, "p_correct", json_millionths(r->p_correct), "threshold",
                                json_millionths(r->threshold), "seconds", json_millionths(r->seconds));
    if (members && s->first.log_prompts) {
        json_object_set_new(members, "question", text_value(r->question));
        json_object_set_new(members, "answer", text_value(r->answer));
        json_t *texts = json_array();
        for (size_t i = 0; i < r->n_turns; i++)
            json_array_append_new(texts, text_value(r->turns[i].text));
        json_object_set_new(members, "texts", texts);
    }
    serve_event(s, "info", "answer", members);
}
