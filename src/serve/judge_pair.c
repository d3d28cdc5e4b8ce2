/* judge_pair.c: routes that take one value where the critic reads two: how a question and the text that answers it are
 * told apart (docs/judge.md, "What the critic reads"). What cannot be told apart is said to be one text, never guessed.
 */
#include "serve/judge_internal.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char *const question_fields[] = {"question", "query", "prompt"};
static const char *const text_fields[] = {"text", "answer", "response"};
enum { N_FIELDS = 3 };

static const char *trimmed(judge_call *c, const char *begin, const char *end)
{
    while (begin < end && isspace((unsigned char)*begin))
        begin++;
    while (end > begin && isspace((unsigned char)end[-1]))
        end--;
    return arena_copy(c->memory, begin, (size_t)(end - begin));
}

static bool divide(judge_pair *pair, judge_call *c, const char *text, const char *end, const char *rest)
{
    pair->question = trimmed(c, text, end);
    pair->text = trimmed(c, rest, rest + strlen(rest));
    return (pair->question && pair->text) || judge_call_memory(c);
}

/* ---- objects */

static json_t *field_of(json_t *object, const char *const fields[N_FIELDS])
{
    json_t *found = NULL;
    for (size_t i = 0; i < N_FIELDS && !found; i++)
        found = json_object_get(object, fields[i]);
    return found;
}

/* Strings that outlive the object. */
static bool of_object(judge_pair *pair, judge_call *c, json_t *object)
{
    const char *question = json_string_value(field_of(object, question_fields));
    const char *text = json_string_value(field_of(object, text_fields));
    *pair = (judge_pair){NULL, NULL};
    if (!text)
        return true;
    pair->question = question ? arena_copy(c->memory, question, strlen(question)) : NULL;
    pair->text = arena_copy(c->memory, text, strlen(text));
    return (pair->text && (pair->question || !question)) || judge_call_memory(c);
}

/* ---- strings */

/* "Answer:" at the beginning of a line. */
static const char *find_label(const char *text, const char *label)
{
    const size_t n = strlen(label);
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncasecmp(at, label, n) == 0)
            return at;
    }
    return NULL;
}

bool judge_pair_of_string(judge_pair *pair, judge_call *c, const char *text)
{
    static const char *const marks[] = {"[SEP]", "</s></s>"};
    const char *begin = text;
    while (isspace((unsigned char)*begin))
        begin++;
    if (*begin == '{') { /* an object that a client in between has written out */
        json_t *object = json_loads(begin, JSON_REJECT_DUPLICATES, NULL);
        const bool well = !object || of_object(pair, c, object);
        json_decref(object);
        if (!well || (object && pair->text))
            return well;
    }
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const char *mark = strstr(text, marks[i]);
        if (mark)
            return divide(pair, c, text, mark, mark + strlen(marks[i]));
    }
    const char *answer = strncasecmp(begin, "question:", 9) == 0 ? find_label(begin, "answer:") : NULL;
    if (answer)
        return divide(pair, c, begin + 9, answer, answer + 7);
    *pair = (judge_pair){NULL, text};
    return true;
}

/* ---- messages */

static bool add_part(judge_call *c, buffer *b, const char *text)
{
    return (buffer_puts(b, b->size ? "\n\n" : "", NULL) == DRR_OK && buffer_puts(b, text, NULL) == DRR_OK) ||
           judge_call_memory(c);
}

/* The text of a message, or of a string in its place, behind what is in b. */
static bool add_message(judge_call *c, buffer *b, json_t *message, const char *param)
{
    char place[160];
    json_t *content = json_is_object(message) ? json_object_get(message, "content") : message, *part;
    const char *role = json_is_object(message) ? json_string_or(message, "role", "user") : "user";
    size_t i;
    if (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
        return judge_call_refuse(c, param,
                                 "\"%s\" is a message of role \"%.40s\"; the critic reads those of users and "
                                 "assistants",
                                 param, role);
    if (json_is_string(content))
        return add_part(c, b, json_string_value(content));
    if (!json_is_array(content))
        return judge_call_refuse(c, param, "\"%s\" is no message with text", param);
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_or(part, "type", "text");
        snprintf(place, sizeof place, "%.120s.content[%zu]", param, i);
        if ((strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0) ||
            !json_is_string(json_object_get(part, "text")))
            return judge_call_refuse(c, place, "\"%s\" is no part with text; the critic reads nothing else", place);
        if (!add_part(c, b, json_string_value(json_object_get(part, "text"))))
            return false;
    }
    return true;
}

static bool of_messages(judge_pair *pair, judge_call *c, json_t *list, const char *param)
{
    const size_t n = json_array_size(list);
    buffer question = {0}, text = {0};
    char place[128];
    bool well = n > 0 || judge_call_refuse(c, param, "\"%s\" is an empty list", param);
    for (size_t i = 0; well && i < n; i++) {
        snprintf(place, sizeof place, "%.90s[%zu]", param, i);
        well = add_message(c, i + 1 < n ? &question : &text, json_array_get(list, i), place);
    }
    if (well && n > 1)
        well = divide(pair, c, question.data ? question.data : "", question.data ? question.data + question.size : "",
                      text.data ? text.data : "");
    else if (well) {
        const char *copy = arena_copy(c->memory, text.data ? text.data : "", text.size);
        well = copy ? judge_pair_of_string(pair, c, copy) : judge_call_memory(c);
    }
    buffer_clear(&question);
    buffer_clear(&text);
    return well;
}

bool judge_pair_of(judge_pair *pair, judge_call *c, json_t *value, const char *param)
{
    *pair = (judge_pair){NULL, NULL};
    if (json_is_string(value))
        return judge_pair_of_string(pair, c, json_string_value(value));
    if (json_is_array(value))
        return of_messages(pair, c, value, param);
    if (!json_is_object(value))
        return judge_call_refuse(c, param, value ? "\"%s\" is no string, object or list" : "\"%s\" is missing", param);
    if (!of_object(pair, c, value))
        return false;
    return pair->text || judge_call_refuse(c, param, "\"%s\" has no \"question\" and \"text\" that are strings", param);
}
