/* judge_decide.c: the critic as a decision model: OpenAI's /v1/decisions and TypeSafe's /v1/systemone. It can say one
 * thing: how likely a text is the right answer to a question. Either the evidence is the text and the instructions are
 * the question, or the evidence has both and the instructions ask whether the answer is correct. Whatever else is asked
 * is refused, by the place where it was asked: a probability of something that was never learnt would look like any
 * other. */
#include "serve/judge_internal.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { MOST_QUESTIONS = 128 };

/* What was asked, in words of which every one is on this list and one says what is meant: "Is the answer correct?",
 * "Does the text answer the question correctly?". One word more ("not", "spelling") and it may be another question. */
static const char *const plain_words[] = {
    "a",        "accurate",  "accurately", "an",    "and",      "answer",    "answered", "answers",
    "as",       "assistant", "assistants", "be",    "correct",  "correctly", "did",      "does",
    "final",    "following", "for",        "given", "has",      "in",        "input",    "is",
    "it",       "model",     "models",     "of",    "output",   "problem",   "problems", "proposed",
    "question", "questions", "really",     "reply", "response", "right",     "s",        "solution",
    "solve",    "solved",    "solves",     "state", "task",     "tasks",     "text",     "that",
    "the",      "this",      "to",         "true",  "user",     "users",     "was",      "whether"};
static const char *const right_words[] = {"accurate", "accurately", "correct", "correctly", "right"};
enum {
    N_PLAIN_WORDS = sizeof plain_words / sizeof *plain_words,
    N_RIGHT_WORDS = sizeof right_words / sizeof *right_words
};

static bool is_among(const char *word, size_t length, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(words[i]) == length && strncasecmp(words[i], word, length) == 0)
            return true;
    return false;
}

static bool asks_for_right(const char *text, size_t size)
{
    bool right = false;
    for (size_t i = 0; i < size;) {
        size_t end = i;
        while (end < size && (isalnum((unsigned char)text[end]) || (signed char)text[end] < 0))
            end++;
        if (end == i) {
            i++;
            continue;
        }
        if (!is_among(text + i, end - i, plain_words, N_PLAIN_WORDS))
            return false;
        right |= is_among(text + i, end - i, right_words, N_RIGHT_WORDS);
        i = end;
    }
    return right;
}

/* "Is this the right answer to: What is 2 + 2?" names its question behind the colon. */
static bool add_question(judge_call *c, const judge_pair *evidence, const char *instructions, const char *param,
                         const char *input)
{
    const char *colon = strchr(instructions, ':'), *question = colon ? colon + 1 : "";
    while (isspace((unsigned char)*question))
        question++;
    if (!asks_for_right(instructions, colon ? (size_t)(colon - instructions) : strlen(instructions))) {
        if (!evidence->question)
            return judge_call_add(c, instructions, evidence->text);
        return judge_call_refuse(
            c, param,
            "\"%s\" has a question and its answer, of which this critic can say one thing, \"Is the "
            "answer correct?\"; \"%s\" asks something else, or says it in words that it does not "
            "know",
            input, param);
    }
    if (*question)
        return judge_call_add(c, question, evidence->text);
    if (evidence->question)
        return judge_call_add(c, evidence->question, evidence->text);
    return judge_call_refuse(
        c, input,
        "\"%s\" is one text, and the critic reads two, a question and the answer to it: make the "
        "question the instructions, or give two messages, or \"Question: ...\" and \"Answer: ...\" at "
        "the beginning of lines, or an object with \"question\" and \"answer\"",
        input);
}

static bool refuse_kind(judge_call *c, const char *param, const char *kind, const char *own)
{
    return judge_call_refuse(
        c, param,
        "\"%s\" is of type \"%.40s\"; this critic answers questions of type \"%s\" alone, whether an "
        "answer is correct",
        param, kind ? kind : "", own);
}

static bool room_for_names(judge_call *c, size_t n)
{
    c->names = arena_alloc(c->memory, (n + 1) * sizeof *c->names, _Alignof(const char *));
    return c->names || judge_call_memory(c);
}

/* ---- OpenAI's */

static json_t *decisions_reply(const judge_call *c)
{
    const json_int_t n = (json_int_t)c->n_tokens;
    json_t *answers = json_array();
    for (size_t i = 0; answers && i < c->n; i++)
        json_array_append_new(answers, json_pack("{s:s, s:s?, s:f}", "type", "predicate", "name", c->names[i],
                                                 "probability", c->items[i].p_correct));
    return json_pack("{s:s, s:o, s:{s:I, s:{s:i, s:i}, s:i, s:{s:i}, s:I}}", "model", c->name, "answers", answers,
                     "usage", "input_tokens", n, "input_tokens_details", "cached_tokens", 0, "cache_write_tokens", 0,
                     "output_tokens", 0, "output_tokens_details", "reasoning_tokens", 0, "total_tokens", n);
}

static bool take_decision(judge_call *c, const judge_pair *evidence, size_t i, json_t *question)
{
    char place[64], field[96];
    const char *kind = json_string_value(json_object_get(question, "type"));
    json_t *name = json_object_get(question, "name"), *instructions = json_object_get(question, "instructions");
    snprintf(place, sizeof place, "questions[%zu]", i);
    if (!json_is_object(question))
        return judge_call_refuse(c, place, "\"%s\" is no object", place);
    if (!kind || strcmp(kind, "predicate") != 0)
        return refuse_kind(c, place, kind, "predicate");
    snprintf(field, sizeof field, "%s.name", place);
    if (name && !json_is_null(name) && !json_is_string(name))
        return judge_call_refuse(c, field, "\"%s\" is no string", field);
    snprintf(field, sizeof field, "%s.instructions", place);
    if (!json_is_string(instructions))
        return judge_call_refuse(c, field, "\"%s\" is no string", field);
    c->names[i] = json_string_value(name);
    return add_question(c, evidence, json_string_value(instructions), place, "input");
}

static bool take_decisions(judge_call *c)
{
    judge_pair evidence;
    json_t *questions = json_object_get(c->body, "questions");
    const size_t n = json_array_size(questions);
    if (!judge_pair_of(&evidence, c, json_object_get(c->body, "input"), "input"))
        return false;
    if (n == 0 || n > MOST_QUESTIONS)
        return judge_call_refuse(c, "questions", "\"questions\" is no list of 1 to %d questions", MOST_QUESTIONS);
    if (!room_for_names(c, n))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!take_decision(c, &evidence, i, json_array_get(questions, i)))
            return false;
    return true;
}

void judge_decisions(void *user, http_call *call)
{
    judge_call *c = judge_call_new(user, call);
    if (c && take_decisions(c))
        judge_call_go(c, decisions_reply);
    else if (c)
        judge_call_drop(c);
}

/* ---- TypeSafe's */

static json_t *systemone_reply(const judge_call *c)
{
    json_t *answers = json_object();
    for (size_t i = 0; answers && i < c->n; i++)
        json_object_set_new(answers, c->names[i],
                            json_pack("{s:s, s:f}", "type", "noul", "noul", c->items[i].p_correct));
    return json_pack("{s:s, s:o, s:{s:I, s:i}}", "model", c->name, "answers", answers, "usage", "input_tokens",
                     (json_int_t)c->n_tokens, "output_tokens", 0);
}

/* Instructions, or without them what makes the answer true. */
static const char *asked_in(json_t *question)
{
    json_t *asked = json_object_get(question, "instructions");
    if (!asked || json_is_null(asked))
        asked = json_object_get(json_object_get(question, "criteria"), "true");
    return json_string_value(asked);
}

static bool take_noul(judge_call *c, const judge_pair *evidence, const char *name, json_t *question)
{
    char place[160];
    const char *kind = json_string_value(json_object_get(question, "type")), *asked = asked_in(question);
    snprintf(place, sizeof place, "questions.%.120s", name);
    if (!json_is_object(question))
        return judge_call_refuse(c, place, "\"%s\" is no object", place);
    if (!kind || strcmp(kind, "noul") != 0)
        return refuse_kind(c, place, kind, "noul");
    if (!asked)
        return judge_call_refuse(c, place,
                                 "\"%s\" has no \"instructions\", and no \"criteria\" with \"true\", that are a "
                                 "string",
                                 place);
    c->names[c->n] = name;
    return add_question(c, evidence, asked, place, "state");
}

static bool take_systemone(judge_call *c)
{
    judge_pair evidence;
    const char *name;
    json_t *questions = json_object_get(c->body, "questions"), *question;
    const size_t n = json_object_size(questions);
    if (!judge_pair_of(&evidence, c, json_object_get(c->body, "state"), "state"))
        return false;
    if (n == 0 || n > MOST_QUESTIONS)
        return judge_call_refuse(c, "questions", "\"questions\" is no object of 1 to %d questions", MOST_QUESTIONS);
    if (!room_for_names(c, n))
        return false;
    json_object_foreach(questions, name, question)
    {
        if (!take_noul(c, &evidence, name, question))
            return false;
    }
    return true;
}

void judge_systemone(void *user, http_call *call)
{
    judge_call *c = judge_call_new(user, call);
    if (c && take_systemone(c))
        judge_call_go(c, systemone_reply);
    else if (c)
        judge_call_drop(c);
}
