/* engine_reply.c: what the client gets in the end: the chosen answer in the upstream's own words with the account of
 * the loop beside it, an abstention, or an error. Usage is the sum of all turns. The account, the drr object, is
 * written once, as text, and put behind what the upstream sent, which stays as it came wherever nothing in it has to
 * change. */
#include "serve/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON text */

drr_status put_json_string(buffer *b, const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    drr_status status = buffer_append(b, "\"", 1, NULL);
    size_t from = 0, at = 0;
    while (status == DRR_OK && at < size) {
        char escape[8] = "";
        size_t n = 1;
        if (s[at] == '"' || s[at] == '\\')
            snprintf(escape, sizeof escape, "\\%c", s[at]);
        else if (s[at] == '\n')
            memcpy(escape, "\\n", 3);
        else if (s[at] < 0x20)
            snprintf(escape, sizeof escape, "\\u%04x", s[at]);
        else if (s[at] >= 0x80 && (n = utf8_character(text + at, size - at)) == 0)
            memcpy(escape, "\\ufffd", 7);
        if (!*escape) {
            at += n;
            continue;
        }
        status = buffer_append(b, text + from, at - from, NULL);
        if (status == DRR_OK)
            status = buffer_puts(b, escape, NULL);
        from = ++at;
    }
    if (status == DRR_OK)
        status = buffer_append(b, text + from, size - from, NULL);
    return status == DRR_OK ? buffer_append(b, "\"", 1, NULL) : status;
}

static drr_status put_text(buffer *b, const char *text)
{
    return put_json_string(b, text, strlen(text));
}

/* Of this server and its judge: as in /props. */
drr_status put_fingerprint(buffer *b, const request *r)
{
    char text[600];
    judge *critic = r->e->options.critic;
    snprintf(text, sizeof text, "drr-" DRR_VERSION "-%s", r->dm ? r->dm : critic ? judge_name(critic) : "agreement");
    const drr_status status = buffer_puts(b, ",\"system_fingerprint\":", NULL);
    return status == DRR_OK ? put_text(b, text) : status;
}

/* ---- the drr object */

static double p_of(const attempt *a)
{
    return a && isfinite(a->p_correct) ? a->item.p_correct : NAN;
}

/* The upstream did not count its tokens. */
static bool is_estimated(const attempt *a)
{
    return a->good && !a->reply.counted;
}

json_t *reply_turn(const attempt *a)
{
    json_t *answer = a->answer ? json_string(a->answer) : json_null();
    json_t *turn = json_pack("{s:i, s:s, s:o, s:o, s:i, s:i, s:o, s:s}", "turn", (int)a->number, "verdict",
                             drr_verdict_name(a->verdict), "p_correct", json_number_or_null(a->p_correct), "answer",
                             answer ? answer : json_null(), "prompt_tokens", (int)a->reply.n_prompt,
                             "completion_tokens", (int)a->reply.n_written, "seconds", json_real(a->reply.seconds),
                             "finish_reason", a->good ? a->reply.finish : "error");
    if (turn && is_estimated(a))
        json_object_set_new(turn, "estimated", json_true());
    return turn;
}

static bool put(json_t *o, const char *name, json_t *value)
{
    return json_object_set_new(o, name, value) == 0;
}

static bool put_judge(const request *r, json_t *o)
{
    const bool critic = r->e->options.critic != NULL;
    bool good = put(o, "judge",
                    json_string(r->unjudged ? "none"
                                : critic    ? "critic"
                                            : "agreement")) &&
                put(o, "dm", r->dm ? json_string(r->dm) : json_null());
    if (good && r->unjudged)
        good = put(o, "reason", json_string(r->unjudged));
    if (good && *r->judge_message && r->unjudged)
        good = put(o, "judge_error", json_string(r->judge_message));
    if (good && !critic)
        good = put(o, "hint",
                   json_string("no critic judges here: P(correct) is the share of samples that agree. drr distill and "
                               "drr train make a critic of this model's own answers; start drr serve with --critic"));
    return good;
}

/* The account of the loop; NULL when memory is out. */
static json_t *make_drr(const request *r, const attempt *chosen, double p, const char *verdict, const char *chosen_by)
{
    json_t *o = json_object(), *turns = json_array();
    bool good = o && turns && put(o, "verdict", json_string(verdict)) && put(o, "p_correct", json_number_or_null(p)) &&
                put(o, "threshold", r->unjudged ? json_null() : json_real(r->threshold)) && put_judge(r, o);
    bool estimated = false;
    for (uint32_t i = 0; good && i < r->n_attempts; i++) {
        good = !r->attempts[i].ended || json_array_append_new(turns, reply_turn(&r->attempts[i])) == 0;
        estimated = estimated || is_estimated(&r->attempts[i]);
    }
    good = good && json_object_set(o, "turns", turns) == 0;
    json_decref(turns);
    if (good && chosen_by)
        good = put(o, "chosen_by", json_string(chosen_by));
    if (good && chosen)
        good = put(o, "chosen_turn", json_integer(chosen->number));
    if (good && r->ended_by)
        good = put(o, "ended_by", json_string(r->ended_by));
    if (good && r->policy.shadow)
        good = put(o, "shadow", json_true());
    if (good && r->guarantee && !r->unjudged)
        good = put(o, "guarantee",
                   json_pack("{s:f, s:f, s:i}", "target_error", r->guarantee->target_error, "delta",
                             r->guarantee->delta, "turns", (int)r->guarantee->turns));
    if (good)
        good = put(o, "usage", json_string(estimated ? "all turns, estimated" : "all turns"));
    if (good)
        return o;
    json_decref(o);
    return NULL;
}

static char *drr_text(const request *r, const attempt *chosen, double p, const char *verdict, const char *chosen_by)
{
    json_t *o = make_drr(r, chosen, p, verdict, chosen_by), *below = NULL;
    if (o && chosen && (below = json_object_get(chosen->reply.root, "drr"))) /* the upstream is a drr too */
        json_object_set(o, "upstream", below);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    return text;
}

void reply_headers(request *r, const char *verdict, uint32_t turns, double p_correct)
{
    char text[32];
    if (r->streaming) /* they have left */
        return;
    http_add_header(r->call, "x-drr-verdict", verdict);
    snprintf(text, sizeof text, "%u", turns);
    http_add_header(r->call, "x-drr-turns", text);
    if (isfinite(p_correct)) {
        snprintf(text, sizeof text, "%.4f", p_correct);
        http_add_header(r->call, "x-drr-p-correct", text);
    }
    if (r->dm)
        http_add_header(r->call, "x-drr-dm", r->dm);
}

/* ---- the end of a request */

static void record(request *r, const attempt *chosen, double p, const char *verdict)
{
    engine_turn turns[ENGINE_MOST_TURNS];
    if (!r->e->options.recorder)
        return;
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        const attempt *a = &r->attempts[i];
        if (!a->good)
            continue;
        turns[n++] = (engine_turn){
            .text = attempt_text(a),
            .answer = a->answer,
            .logit = isfinite(a->p_correct) && r->e->options.critic ? a->item.logit : NAN,
            .p_correct = a->p_correct,
            .verdict = a->verdict,
            .feedback = a->feedback,
            .finish = strcmp(a->reply.finish, "length") == 0 ? DRR_FINISH_LENGTH : DRR_FINISH_STOP,
            .stats = a->stats.n ? &a->stats : NULL,
            .n_prompt_tokens = a->reply.n_prompt,
            .n_tokens = a->reply.n_written,
            .seconds = a->reply.seconds,
        };
    }
    const engine_record done = {.id = http_id(r->call),
                                .model = chosen && chosen->reply.model ? chosen->reply.model
                                         : r->model                    ? r->model
                                                                       : "",
                                .question = r->question.text ? r->question.text : "",
                                .outcome = verdict,
                                .kind = r->question.task.kind,
                                .request = r->body,
                                .turns = turns,
                                .n_turns = n,
                                .answer = chosen ? attempt_text(chosen) : NULL,
                                .p_correct = p,
                                .threshold = r->unjudged ? NAN : r->threshold,
                                .seconds = clock_seconds() - r->began_s};
    r->e->options.recorder(r->e->options.recorder_user, &done);
}

static void count(request *r, metrics_outcome outcome)
{
    uint32_t n = 0;
    if (r->kind == REQUEST_MODELS) /* a list of models is nobody's answer, had or missed */
        return;
    for (uint32_t i = 0; i < r->n_attempts; i++)
        n += r->attempts[i].good;
    metrics_request(r->e->options.counts, outcome, clock_seconds() - r->began_s, n);
}

/* Before the reply is out: what is recorded is then on its way. */
static void account(request *r, const attempt *chosen, double p, const char *verdict)
{
    count(r, strcmp(verdict, "accept") == 0    ? METRICS_ACCEPT
             : strcmp(verdict, "abstain") == 0 ? METRICS_ABSTAIN
             : r->unjudged || r->policy.shadow ? METRICS_PASSTHROUGH
                                               : METRICS_BEST);
    record(r, chosen, p, verdict);
}

/* ---- an answer */

static drr_status put_usage(buffer *b, const request *r)
{
    return buffer_printf(b, NULL,
                         "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
                         "\"prompt_tokens_details\":{\"cached_tokens\":%llu},"
                         "\"completion_tokens_details\":{\"reasoning_tokens\":%llu}}",
                         (unsigned long long)r->n_prompt, (unsigned long long)r->n_written,
                         (unsigned long long)(r->n_prompt + r->n_written), (unsigned long long)r->n_cached,
                         (unsigned long long)r->n_thought);
}

char *reply_usage(const request *r)
{
    buffer b = {0};
    return put_usage(&b, r) == DRR_OK ? buffer_take(&b) : NULL;
}

/* A completion of our own making. a: NULL for an abstention. */
static bool put_completion(buffer *b, const request *r, const attempt *a, const char *content,
                           const char *refusal_words, const char *finish)
{
    const char *model = a && a->reply.model ? a->reply.model : r->model ? r->model : "";
    bool good =
        buffer_printf(b, NULL, "{\"id\":\"%s\",\"object\":\"chat.completion\",\"created\":%lld,\"model\":", r->id,
                      r->created) == DRR_OK &&
        put_text(b, model) == DRR_OK && put_fingerprint(b, r) == DRR_OK &&
        buffer_puts(b, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":", NULL) == DRR_OK &&
        put_text(b, content) == DRR_OK && buffer_puts(b, ",\"refusal\":", NULL) == DRR_OK &&
        (refusal_words ? put_text(b, refusal_words) : buffer_puts(b, "null", NULL)) == DRR_OK;
    if (good && a && *a->reply.thoughts)
        good = buffer_puts(b, ",\"reasoning_content\":", NULL) == DRR_OK && put_text(b, a->reply.thoughts) == DRR_OK;
    return good && buffer_puts(b, "},\"logprobs\":null,\"finish_reason\":", NULL) == DRR_OK &&
           put_text(b, finish) == DRR_OK && buffer_puts(b, "}],\"usage\":", NULL) == DRR_OK &&
           put_usage(b, r) == DRR_OK && buffer_puts(b, "}", NULL) == DRR_OK;
}

/* The upstream's object with the sum of all turns; as it came where there was but one. */
static bool put_root(buffer *b, request *r, attempt *a)
{
    json_t *root = a->reply.root;
    if (r->n_attempts == 1 && a->reply.body.size && !json_object_get(root, "drr")) {
        *b = a->reply.body;
        a->reply.body = (buffer){0};
        return true;
    }
    json_object_del(root, "drr");
    if (r->n_prompt + r->n_written) {
        char *usage = reply_usage(r);
        json_t *sum = usage ? json_loads(usage, 0, NULL) : NULL;
        free(usage);
        if (json_object_set_new(root, "usage", sum) != 0)
            return false;
    }
    char *text = json_dumps(root, JSON_COMPACT);
    if (!text)
        return false;
    const size_t n = strlen(text);
    *b = (buffer){text, n, n + 1};
    return true;
}

/* Opens the object that *b ends with and adds a field to it. */
static bool add_drr(buffer *b, const char *drr)
{
    while (b->size && b->data[b->size - 1] != '}')
        b->size--;
    if (!b->size)
        return false;
    b->size--;
    return buffer_puts(b, ",\"drr\":", NULL) == DRR_OK && buffer_puts(b, drr, NULL) == DRR_OK &&
           buffer_puts(b, "}", NULL) == DRR_OK;
}

static void send_whole(request *r, buffer *b)
{
    const size_t size = b->size;
    http_reply(r->call, 200, "application/json", buffer_take(b), size);
}

static uint32_t n_turns(const request *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_attempts; i++)
        n += r->attempts[i].ended;
    return n;
}

/* Takes drr and *whole, which is empty where a stream has said all. */
static void conclude(request *r, bool good, buffer *whole, char *drr, const char *verdict, double p)
{
    if (good && !r->stream) {
        reply_headers(r, verdict, n_turns(r), p);
        send_whole(r, whole);
    }
    free(drr);
    buffer_clear(whole);
    if (good)
        request_end(r);
    else
        reply_error(r, 503, NULL, "memory is out");
}

void reply_answer(request *r, attempt *a, const char *verdict, const char *chosen_by)
{
    char *drr = drr_text(r, a, p_of(a), verdict, chosen_by);
    buffer b = {0};
    bool good = drr != NULL;
    if (good && r->stream) {
        account(r, a, p_of(a), verdict);
        reply_headers(r, verdict, n_turns(r), p_of(a));
        stream_answer(r, a, a->shown && r->direct ? NULL : attempt_text(a), NULL, a->reply.finish, drr);
    } else if (good) {
        account(r, a, p_of(a), verdict);
        good =
            (a->reply.root ? put_root(&b, r, a) : put_completion(&b, r, a, attempt_text(a), NULL, a->reply.finish)) &&
            add_drr(&b, drr);
    }
    conclude(r, good, &b, drr, verdict, p_of(a));
}

void reply_abstain(request *r)
{
    const char *words = r->policy.abstain_text ? r->policy.abstain_text : "";
    const char *refusal_words = r->policy.abstain_refusal ? words : NULL;
    attempt *best = NULL;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        attempt *a = &r->attempts[i];
        if (isfinite(p_of(a)) && (!best || p_of(a) > p_of(best)))
            best = a;
    }
    if (r->n_attempts)
        r->attempts[r->n_attempts - 1].verdict = DRR_VERDICT_ABSTAIN;
    char *drr = drr_text(r, NULL, p_of(best), "abstain", "abstain");
    buffer b = {0};
    bool good = drr != NULL;
    account(r, NULL, p_of(best), "abstain");
    if (good && r->stream) {
        reply_headers(r, "abstain", n_turns(r), p_of(best));
        stream_answer(r, NULL, words, refusal_words, "stop", drr);
    } else if (good) {
        good = put_completion(&b, r, NULL, words, refusal_words, "stop") && add_drr(&b, drr);
    }
    conclude(r, good, &b, drr, "abstain", p_of(best));
}

/* ---- errors */

void reply_error(request *r, int status, const char *code, const char *format, ...)
{
    char words[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    count(r, METRICS_ERROR);
    if (r->streaming) {
        stream_error(r, http_error_type(status), NULL, code, words);
    } else {
        http_reply_error(r->call, status, NULL, NULL, code, "%s", words);
    }
    request_end(r);
}

/* Of a refusal that came when the stream had begun: the upstream's words in an event. */
static void stream_refusal(request *r, const upstream_reply *reply, const char *words, const char *type)
{
    const buffer *b = &reply->body;
    json_t *root = !reply->message && b->size ? json_loadb(b->data, b->size, 0, NULL) : NULL;
    json_t *error = json_object_get(root, "error");
    const char *theirs = upstream_error_words(root);
    stream_error(r, json_string_or(error, "type", type ? type : http_error_type(reply->status)),
                 json_string_or(error, "param", reply->param), json_string_or(error, "code", reply->code),
                 *theirs ? theirs : words);
    json_decref(root);
}

/* What the upstream refused goes to the client in the upstream's words. */
void reply_failure(request *r, upstream_reply *reply)
{
    const char *words = reply->message ? reply->message : "the upstream refuses the request";
    const char *type =
        reply->code && strcmp(reply->code, "context_length_exceeded") == 0 ? "exceed_context_size_error" : NULL;
    char seconds[16];
    count(r, METRICS_ERROR);
    if (r->streaming) {
        stream_refusal(r, reply, words, type);
        request_end(r);
        return;
    }
    if (reply->retry_after) {
        snprintf(seconds, sizeof seconds, "%u", reply->retry_after);
        http_add_header(r->call, "Retry-After", seconds);
    }
    if (reply->message || !reply->body.size) {
        http_reply_error(r->call, reply->status, type, reply->param, reply->code, "%s", words);
    } else {
        const size_t size = reply->body.size;
        http_reply(r->call, reply->status, *reply->type ? reply->type : "application/json", buffer_take(&reply->body),
                   size);
    }
    request_end(r);
}
