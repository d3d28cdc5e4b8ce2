/* judge_call.c: the life of a call to one of the judge's routes: its body is read and its fields are taken on the HTTP
 * thread, its pairs wait for the judge, and its reply is made on the judge's thread. */
#include "serve/judge_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- where in a body something stands that jansson would not read */

static size_t sequence_length(const unsigned char *at, size_t left)
{
    static const unsigned char least[] = {0, 0x80, 0xA0, 0x90}; /* of the second byte behind E0 and F0 */
    const unsigned char c = *at;
    if (c < 0x80)
        return 1;
    const size_t n = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    if ((c == 0xE0 && at[1] < least[2]) || (c == 0xF0 && at[1] < least[3]) || (c == 0xED && at[1] > 0x9F) ||
        (c == 0xF4 && at[1] > 0x8F))
        return 0;
    return n;
}

static size_t first_bad_byte(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        const size_t n = sequence_length((const unsigned char *)text + at, size - at);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

enum { PATH_DEPTH = 16 };
typedef struct level {
    bool list, value; /* value: the object's key has been read */
    size_t index, key, key_length;
} level;

static void write_path(char *path, size_t size, const char *text, const level *levels, size_t depth)
{
    size_t used = 0;
    *path = '\0';
    for (size_t i = 0; i < depth && i < PATH_DEPTH && used + 1 < size; i++) {
        const level *l = &levels[i];
        const int n =
            l->list ? snprintf(path + used, size - used, "[%zu]", l->index)
                    : snprintf(path + used, size - used, "%s%.*s", used ? "." : "", (int)l->key_length, text + l->key);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* "documents[3]": the place of byte `end` in a JSON text that is good up to there. */
static void place_of(char *path, size_t size, const char *text, size_t end)
{
    level levels[PATH_DEPTH] = {{0}};
    size_t depth = 0, quote = 0;
    bool inside = false;
    for (size_t i = 0; i < end; i++) {
        level *l = depth && depth <= PATH_DEPTH ? &levels[depth - 1] : NULL;
        if (inside) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"') {
                inside = false;
                if (l && !l->list && !l->value) {
                    l->key = quote + 1;
                    l->key_length = i - quote - 1 < 64 ? i - quote - 1 : 64;
                }
            }
        } else if (text[i] == '"') {
            inside = true;
            quote = i;
        } else if (text[i] == '[' || text[i] == '{') {
            if (depth++ < PATH_DEPTH)
                levels[depth - 1] = (level){.list = text[i] == '['};
        } else if ((text[i] == ']' || text[i] == '}') && depth)
            depth--;
        else if (l && text[i] == ':')
            l->value = true;
        else if (l && text[i] == ',') {
            l->value = false;
            l->index++;
        }
    }
    write_path(path, size, text, levels, depth);
}

/* ---- begin and end */

static void refuse_body(http_call *call, const char *text, size_t size, const char *why)
{
    char path[128];
    const size_t bad = first_bad_byte(text, size);
    if (bad == size) {
        http_reply_error(call, 400, NULL, NULL, NULL, "%s", why);
        return;
    }
    place_of(path, sizeof path, text, bad);
    http_reply_error(call, 400, NULL, *path && first_bad_byte(path, strlen(path)) == strlen(path) ? path : NULL, NULL,
                     "byte %zu of the request's body is not UTF-8", bad);
}

static bool take_model(judge_call *c)
{
    json_t *model = json_object_get(c->body, "model");
    if (model && !json_is_null(model) && !json_is_string(model))
        return judge_call_refuse(c, "model", "\"model\" is no string");
    c->name = json_string_value(model);
    return true;
}

judge_call *judge_call_new(void *user, http_call *call)
{
    size_t size;
    const char *text = http_body(call, &size);
    drr_error err = {0};
    json_t *body = NULL;
    if (!user) {
        http_reply_error(
            call, 501, NULL, NULL, NULL,
            "this server has no critic to score with: start it with --critic FILE (`drr train` makes one)");
        return NULL;
    }
    const drr_critic_info info = judge_info(user);
    if (info.kind == DRR_CRITIC_PROBE) {
        http_reply_error(call, 501, NULL, NULL, NULL,
                         "the critic %.80s is a probe: it reads hidden states of %.120s and no text; one of `drr train "
                         "--kind encoder` reads text",
                         info.name, info.probe_reasoner);
        return NULL;
    }
    drr_status status = json_parse(&body, text, size, "the request's body", &err);
    if (status != DRR_OK) {
        refuse_body(call, text, size, err.message);
        return NULL;
    }
    judge_call *c = calloc(1, sizeof *c);
    if (c)
        c->memory = arena_new(0);
    if (!c || !c->memory) {
        http_reply_error(call, 500, NULL, NULL, NULL, "memory is out");
        free(c);
        json_decref(body);
        return NULL;
    }
    c->j = user;
    c->http = call;
    c->body = body;
    if (!json_is_object(body))
        (void)judge_call_refuse(c, NULL, "the request's body is no JSON object");
    if (c->answered || !take_model(c)) {
        judge_call_drop(c);
        return NULL;
    }
    return c;
}

void judge_call_drop(judge_call *c)
{
    json_decref(c->body);
    arena_free(c->memory);
    free(c->items);
    free(c);
}

static void gone(void *user)
{
    judge_call *c = user;
    judge_cancel(c->j, c);
}

static void scored(void *user, drr_status status, const char *message)
{
    judge_call *c = user;
    json_t *reply = NULL;
    for (size_t i = 0; status == DRR_OK && i < c->n; i++)
        c->n_tokens += c->items[i].n_tokens;
    if (status == DRR_OK) {
        if (!c->name)
            c->name = c->items[0].critic;
        reply = c->reply(c);
        http_add_header(c->http, "x-drr-dm", c->items[0].critic);
    }
    if (reply)
        http_reply_json(c->http, 200, reply);
    else if (status == DRR_OK)
        http_reply_error(c->http, 500, NULL, NULL, NULL, "memory is out");
    else
        http_reply_error(c->http, status == DRR_E_INTERRUPTED ? 503 : 500, NULL, NULL, NULL, "%s", message);
    judge_call_drop(c);
}

void judge_call_go(judge_call *c, judge_reply_fn reply)
{
    drr_error err = {0};
    c->reply = reply;
    http_on_gone(c->http, gone, c);
    drr_status status = judge_submit(c->j, c->items, c->n, scored, c, &err);
    if (status == DRR_OK)
        return;
    const bool busy = status == DRR_E_LIMIT || status == DRR_E_INTERRUPTED;
    http_reply_error(c->http, busy ? 503 : 500, NULL, NULL, NULL, "%s", err.message);
    judge_call_drop(c);
}

/* ---- refusing */

bool judge_call_refuse(judge_call *c, const char *param, const char *format, ...)
{
    char words[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    if (!c->answered)
        http_reply_error(c->http, 400, NULL, param, NULL, "%s", words);
    c->answered = true;
    return false;
}

bool judge_call_memory(judge_call *c)
{
    if (!c->answered)
        http_reply_error(c->http, 500, NULL, NULL, NULL, "memory is out");
    c->answered = true;
    return false;
}

/* ---- fields */

bool judge_call_flag(judge_call *c, bool *value, const char *field)
{
    json_t *found = json_object_get(c->body, field);
    if (!found || json_is_null(found))
        return true;
    if (!json_is_boolean(found))
        return judge_call_refuse(c, field, "\"%s\" is neither true nor false", field);
    *value = json_is_true(found);
    return true;
}

bool judge_call_count(judge_call *c, json_int_t *value, const char *field)
{
    json_t *found = json_object_get(c->body, field);
    if (!found || json_is_null(found))
        return true;
    if (!json_is_integer(found) || json_integer_value(found) < 0)
        return judge_call_refuse(c, field, "\"%s\" is no whole number of 0 or more", field);
    *value = json_integer_value(found);
    return true;
}

const char *judge_call_text(judge_call *c, json_t *item, const char *param)
{
    if (json_is_object(item))
        item = json_object_get(item, "text");
    if (json_is_string(item))
        return json_string_value(item);
    (void)judge_call_refuse(c, param, "\"%s\" is no string, and no object with a \"text\" that is one", param);
    return NULL;
}

bool judge_call_add(judge_call *c, const char *question, const char *text)
{
    if (c->n == c->room) {
        const size_t room = c->room ? 2 * c->room : 16;
        judge_item *items = realloc(c->items, room * sizeof *items);
        if (!items)
            return judge_call_memory(c);
        c->items = items;
        c->room = room;
    }
    c->items[c->n++] = (judge_item){.question = question, .text = text, .alone = true};
    return true;
}

json_t *judge_usage(const judge_call *c)
{
    const json_int_t n = (json_int_t)c->n_tokens;
    return json_pack("{s:I, s:I}", "prompt_tokens", n, "total_tokens", n);
}

json_t *judge_reply_list(const judge_call *c, const char *kind, json_t *data)
{
    char id[256];
    json_t *usage = judge_usage(c);
    snprintf(id, sizeof id, "%s-%.200s", kind, http_id(c->http));
    json_object_set_new(usage, "completion_tokens", json_integer(0));
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "id", id, "object", "list", "created", (json_int_t)time(NULL),
                     "model", c->name, "data", data, "usage", usage);
}
