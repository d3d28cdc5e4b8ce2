/* engine_question.c: the question of a conversation as a critic was trained to read it: the last thing that the user
 * said, with lettered choices in one line, "... (A) one (B) two", however the client wrote them. The kind of answer,
 * where the client does not tell, is guessed from the words: it decides how answers are read and compared, and a guess
 * that is wrong costs agreement, never an answer. */
#include "serve/engine_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the user's words */

/* Of a content: its text, joined. *other: something in it is not text. The caller frees. */
static char *content_text(json_t *content, bool *other)
{
    buffer b = {0};
    json_t *part;
    size_t i;
    if (json_is_string(content))
        return string_copy(json_string_value(content));
    if (buffer_append(&b, "", 0, NULL) != DRR_OK)
        return NULL;
    json_array_foreach(content, i, part)
    {
        const char *text = json_string_or(part, "text", NULL);
        if (!text)
            *other = true;
        else if (buffer_printf(&b, NULL, "%s%s", b.size ? "\n" : "", text) != DRR_OK)
            break;
    }
    return buffer_take(&b);
}

static bool holds_other(json_t *message)
{
    json_t *content = json_object_get(message, "content"), *part;
    size_t i;
    if (content && !json_is_null(content) && !json_is_string(content) && !json_is_array(content))
        return true;
    json_array_foreach(content, i, part) if (!json_string_or(part, "text", NULL)) return true;
    return false;
}

/* ---- choices */

/* Passes over "A)", "A.", "(A)", "A:" of the letter that is due; 0: it does not stand here. */
static size_t letter_mark(const char *at, char letter)
{
    const size_t bracket = *at == '(';
    if (at[bracket] != letter || !strchr(bracket ? ")" : ").:", at[bracket + 1]) || !at[bracket + 1])
        return 0;
    return at[bracket + 2] == ' ' || at[bracket + 2] == '\t' ? bracket + 3 : 0;
}

static const char *line_start(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '-' || *at == '*')
        at++;
    return at;
}

typedef struct span {
    size_t begin, end;
} span;

/* One choice a line: the letters in order, from A on. */
static size_t choices_by_line(span *choices, size_t *begin, size_t *end, const char *text)
{
    size_t n = 0;
    for (const char *line = text; *line && n < ENGINE_MOST_CHOICES;) {
        const size_t length = strcspn(line, "\n");
        const char *at = line_start(line);
        const size_t mark = letter_mark(at, (char)('A' + (int)n));
        if (mark) {
            *begin = n ? *begin : (size_t)(line - text);
            choices[n].begin = (size_t)(at - text) + mark;
            choices[n].end = *end = (size_t)(line - text) + length;
            n++;
        } else if (n && length) {
            break;
        }
        line += length + (line[length] == '\n');
    }
    return n;
}

static bool is_blank(const char *text, size_t begin, size_t end)
{
    while (begin < end && isspace((unsigned char)text[begin]))
        begin++;
    return begin >= end;
}

/* "... (A) one (B) two". Where nothing stands behind a letter, as in "compare (A) (B)", the letters name something
 * else. Two marks may share the space between them, so that a choice would end before it begins. */
static size_t choices_in_line(span *choices, size_t *begin, size_t *end, const char *text)
{
    size_t n = 0;
    for (const char *at = text; n < ENGINE_MOST_CHOICES; n++) {
        const char mark[] = {' ', '(', (char)('A' + (int)n), ')', ' ', '\0'};
        const char *next = strstr(at, mark);
        if (!next)
            break;
        if (n)
            choices[n - 1].end = (size_t)(next - text);
        else
            *begin = (size_t)(next - text);
        choices[n].begin = (size_t)(next - text) + 5;
        at = next + 4;
    }
    if (n) {
        const size_t tail = strcspn(text + choices[n - 1].begin, "\n");
        choices[n - 1].end = *end = choices[n - 1].begin + tail;
    }
    for (size_t i = 0; i < n; i++)
        if (is_blank(text, choices[i].begin, choices[i].end))
            return 0;
    return n;
}

static char *trimmed(const char *text, size_t begin, size_t end)
{
    while (begin < end && isspace((unsigned char)text[begin]))
        begin++;
    while (end > begin && isspace((unsigned char)text[end - 1]))
        end--;
    return string_copy_n(text + begin, end - begin);
}

/* True: all is well; q->task.n_choices says whether there are any. What stands behind the choices goes before them. */
static bool find_choices(question *q, const char *text)
{
    span spans[ENGINE_MOST_CHOICES];
    size_t begin = 0, end = 0, n = choices_by_line(spans, &begin, &end, text);
    if (n < 2)
        n = choices_in_line(spans, &begin, &end, text);
    if (n < 2)
        return (q->bare = string_copy(text)) != NULL;
    char *before = trimmed(text, 0, begin), *after = trimmed(text, end, strlen(text));
    buffer b = {0};
    bool good =
        before && after && buffer_printf(&b, NULL, "%s%s%s", before, *before && *after ? " " : "", after) == DRR_OK;
    free(before);
    free(after);
    q->bare = buffer_take(&b);
    for (size_t i = 0; good && i < n; i++) {
        q->choices[i] = trimmed(text, spans[i].begin, spans[i].end);
        good = q->choices[i] != NULL;
        q->task.n_choices = i + 1;
    }
    return good;
}

/* ---- the kind */

static bool has(const char *text, const char *words)
{
    return strcasestr(text, words) != NULL;
}

/* The last sentence that ends in a question mark begins with such a verb. */
static bool asks_yes_or_no(const char *text)
{
    static const char *const verbs[] = {"is",    "are",   "was",    "were", "am",  "do",   "does", "did", "can",
                                        "could", "would", "should", "will", "has", "have", "had",  "may", "might"};
    const char *mark = strrchr(text, '?');
    if (!mark)
        return false;
    const char *at = mark;
    while (at > text && !strchr("\n?!", at[-1]) && !(at[-1] == '.' && at < mark && isspace((unsigned char)at[0])))
        at--;
    while (isspace((unsigned char)*at))
        at++;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const size_t n = strlen(verbs[i]);
        if (strncasecmp(at, verbs[i], n) == 0 && at[n] == ' ')
            return !has(at, " or ");
    }
    return false;
}

static drr_kind guess_kind(const char *text)
{
    static const char *const counts[] = {"how many", "how much", "what percent", "what fraction"};
    static const char *const reckons[] = {"how long", "how far",  "how old",  "how fast",  "calculate",  "compute",
                                          "evaluate", "the sum",  "total",    "the value", "average",    "solve",
                                          "what is",  "how tall", "in total", "remainder", "probability"};
    if (has(text, "write a function") || has(text, "write a python") || has(text, "```") ||
        has(text, "write a program"))
        return DRR_KIND_CHECKED;
    if (has(text, "yes or no") || has(text, "true or false"))
        return DRR_KIND_BOOLEAN;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (has(text, counts[i]))
            return DRR_KIND_NUMBER;
    if (asks_yes_or_no(text))
        return DRR_KIND_BOOLEAN;
    if (strpbrk(text, "0123456789"))
        for (size_t i = 0; i < sizeof reckons / sizeof *reckons; i++)
            if (has(text, reckons[i]))
                return DRR_KIND_NUMBER;
    return DRR_KIND_TEXT;
}

/* ---- */

static bool take_choices(question *q, const char *text, json_t *choices)
{
    json_t *item;
    size_t i;
    if (!choices)
        return find_choices(q, text);
    json_array_foreach(choices, i, item)
    {
        q->choices[i] = string_copy(json_string_value(item));
        q->task.n_choices = i + 1;
        if (!q->choices[i])
            return false;
    }
    return (q->bare = string_copy(text)) != NULL;
}

question_outcome question_read(question *q, json_t *messages, int kind, json_t *choices)
{
    json_t *message, *last = NULL;
    size_t i;
    bool other = false;
    *q = (question){.told = kind >= 0 || choices};
    json_array_foreach(messages, i, message)
    {
        other = other || holds_other(message);
        if (strcmp(json_string_or(message, "role", ""), "user") == 0)
            last = message;
    }
    if (other)
        return QUESTION_OTHER;
    if (!last)
        return QUESTION_NONE;
    char *text = content_text(json_object_get(last, "content"), &other);
    const bool good = text && take_choices(q, text, choices);
    if (good && kind < 0)
        kind = q->task.n_choices ? DRR_KIND_CHOICE : (int)guess_kind(text);
    free(text);
    if (!good)
        return QUESTION_MEMORY;
    q->task.task = "serve";
    q->task.id = "";
    q->task.answer = "";
    q->task.kind = (drr_kind)kind;
    q->task.question = q->bare;
    q->task.choices = (const char *const *)q->choices;
    const drr_task as_choice = {.question = q->bare,
                                .choices = q->task.choices,
                                .n_choices = q->task.n_choices,
                                .kind = q->task.n_choices ? DRR_KIND_CHOICE : q->task.kind};
    return task_question_text(&q->text, &as_choice, NULL) == DRR_OK ? QUESTION_READ : QUESTION_MEMORY;
}

void question_clear(question *q)
{
    free(q->text);
    free(q->bare);
    for (size_t i = 0; i < ENGINE_MOST_CHOICES; i++)
        free(q->choices[i]);
    *q = (question){0};
}
