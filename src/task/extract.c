/* extract.c: finds the final answer in what a reasoner wrote. The last announcement counts: an answer line ("Answer:
 * B"), "the answer is 5", "#### 5", "\boxed{5}", or a program's `answer = ...`. An answer line, a box or a mark that
 * holds nothing readable ("Answer: none of these") means that there is no answer, not that an earlier number is one.
 * Without any announcement the end of the text is searched. What an answer looks like is readers.c's, comparing
 * grade.c's; docs/grading.md has the reasons and the measurements. */
#include "task/code.h"
#include "task/extract_internal.h"
#include "task/number.h"
#include "task/program.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- announcements */

typedef enum cue_reach { REACH_SENTENCE, REACH_LINE, REACH_BRACE, REACH_MARKUP } cue_reach;

typedef struct cue {
    const char *words;
    cue_reach reach;
    bool decisive; /* unreadable contents mean that there is no answer */
} cue;

static const cue cues[] = {{"\\boxed{", REACH_BRACE, true},
                           {"\\fbox{", REACH_BRACE, true},
                           {"\\boxed ", REACH_SENTENCE, false},
                           {"<answer>", REACH_MARKUP, true},
                           {"####", REACH_LINE, true},
                           {"answer:", REACH_LINE, true},
                           {"answer**:", REACH_LINE, true},
                           {"answer is", REACH_SENTENCE, false},
                           {"answer would be", REACH_SENTENCE, false},
                           {"answer should be", REACH_SENTENCE, false},
                           {"answer must be", REACH_SENTENCE, false},
                           {"answer to the question is", REACH_SENTENCE, false},
                           {"answer =", REACH_SENTENCE, false},
                           {"correct option is", REACH_SENTENCE, false},
                           {"correct choice is", REACH_SENTENCE, false},
                           {"best option is", REACH_SENTENCE, false},
                           {"best choice is", REACH_SENTENCE, false}};

static const cue *cue_at(const scope *s, size_t at)
{
    const int first = tolower((unsigned char)s->text[at]);
    if (!strchr("\\<#acb", first))
        return NULL;
    for (size_t i = 0; i < sizeof cues / sizeof *cues; i++) {
        const size_t n = strlen(cues[i].words);
        if (cues[i].words[0] == first && at + n <= s->end && strncasecmp(s->text + at, cues[i].words, n) == 0)
            return &cues[i];
    }
    return NULL;
}

/* Where the sentence that goes on at `at` ends: before a line end, or before a stop followed by a space. A stop inside
 * a number ("1.5") or after a single capital ("B. dog") does not end it. */
static size_t sentence_end(const scope *s, size_t at)
{
    for (; at < s->end && s->text[at] != '\n'; at++)
        if (s->text[at] == '.' && (at + 1 == s->end || isspace((unsigned char)s->text[at + 1])) && at >= s->begin + 2 &&
            word_byte(s, at - 2))
            break;
    return at;
}

static size_t brace_end(const scope *s, size_t at)
{
    for (int open = 1; at < s->end; at++) {
        open += (s->text[at] == '{') - (s->text[at] == '}');
        if (open == 0)
            break;
    }
    return at;
}

static scope reach_of(const scope *s, const cue *c, size_t at)
{
    scope part = *s;
    part.begin = at;
    switch (c->reach) {
    case REACH_BRACE:
        part.end = brace_end(s, at);
        return part;
    case REACH_MARKUP:
        while (part.begin < part.end && isspace((unsigned char)s->text[part.begin]))
            part.begin++;
        for (part.end = part.begin; part.end < s->end && s->text[part.end] != '<' && s->text[part.end] != '\n';)
            part.end++;
        return part;
    case REACH_LINE:
    case REACH_SENTENCE:
        break;
    }
    part.begin = skip_decoration(s, at, true); /* "The answer is:" may be followed by a line of its own */
    if (c->reach == REACH_SENTENCE) {
        part.end = sentence_end(s, part.begin);
    } else {
        for (part.end = part.begin; part.end < s->end && s->text[part.end] != '\n';)
            part.end++;
    }
    part.begin = at < part.end ? at : part.end;
    return part;
}

static bool starts_with(const scope *s, size_t at, const char *words)
{
    const size_t n = strlen(words);
    return at + n <= s->end && strncasecmp(s->text + at, words, n) == 0;
}

static bool is_last(const scope *s, size_t at)
{
    while (at < s->end && isspace((unsigned char)s->text[at]))
        at++;
    return at == s->end;
}

/* "The answer is not (B)" announces nothing, and neither does a heading that is a question itself. */
static bool announces_nothing(const scope *s, const scope *part, const cue *c)
{
    const size_t at = skip_decoration(part, part->begin, true);
    if (at >= part->end || (c->reach == REACH_SENTENCE && starts_with(part, at, "not ")))
        return true;
    if (c->reach != REACH_LINE || is_last(s, part->end))
        return false;
    size_t last = part->end;
    while (last > at && isspace((unsigned char)part->text[last - 1]))
        last--;
    return part->text[last - 1] == '?' || part->text[last - 1] == ':';
}

/* A base model may go on with a question of its own making: what follows is no answer to ours. */
static bool next_question(const scope *s, size_t at)
{
    return s->text[at] == '\n' && (starts_with(s, at + 1, "Q:") || starts_with(s, at + 1, "Question:"));
}

static bool announced(const scope *s, found_answer *found, bool *decided)
{
    bool any = false;
    *decided = false;
    for (size_t at = s->begin; at < s->end; at++) {
        if (any && next_question(s, at))
            break;
        const cue *c = cue_at(s, at);
        if (!c)
            continue;
        const size_t next = at + strlen(c->words);
        const scope part = reach_of(s, c, next);
        found_answer here = {0};
        if (announces_nothing(s, &part, c))
            continue;
        if (answer_within(&part, s->begin, &here)) {
            *found = here;
            any = true;
            *decided = true;
        } else if (c->decisive && (c->reach != REACH_LINE || is_last(s, part.end))) {
            any = false;
            *decided = true;
        }
    }
    return any;
}

/* ---- the public face */

/* Models that think aloud first close that part with a mark; only what follows is said to the reader. */
static size_t thinking_end(const char *text, size_t length)
{
    static const char mark[] = "</think>";
    size_t after = 0;
    for (const char *p = text; (p = strstr(p, mark)) != NULL; p += sizeof mark - 1)
        after = (size_t)(p - text) + sizeof mark - 1;
    return after < length ? after : 0;
}

static bool find_answer(const drr_task *task, const char *text, found_answer *found)
{
    const size_t length = strlen(text);
    scope s = {.task = task, .text = text, .begin = thinking_end(text, length), .end = length};
    if (task->kind == DRR_KIND_NUMBER) {
        double value;
        size_t begin = 0, end = 0;
        const program_outcome outcome = program_evaluate(&value, &begin, &end, text + s.begin, length - s.begin);
        if (outcome == PROGRAM_FAILED)
            return false;
        if (outcome == PROGRAM_VALUE) {
            found->begin = s.begin + begin;
            found->end = s.begin + end;
            number_print(found->text, sizeof found->text, value);
            s.begin = found->end; /* words after the program may announce an answer too */
            found_answer later;
            bool decided;
            if (announced(&s, &later, &decided))
                *found = later;
            return true;
        }
    }
    bool decided;
    const bool any = announced(&s, found, &decided);
    return any || (!decided && answer_unannounced(&s, found));
}

/* An answer that a checker judges is as long as it likes. */
static drr_status extract_code(char **answer, size_t *begin, size_t *end, const drr_task *task, const char *text,
                               drr_error *err)
{
    const size_t length = strlen(text);
    size_t at = 0, after = 0;
    char *copy = NULL;
    if (code_find(task, text, thinking_end(text, length), length, &at, &after) &&
        !(copy = string_copy_n(text + at, after - at)))
        return error_memory(err);
    *answer = copy;
    if (begin)
        *begin = copy ? at : 0;
    if (end)
        *end = copy ? after : 0;
    return DRR_OK;
}

drr_status drr_answer_extract(char **answer, size_t *begin, size_t *end, const drr_task *task, const char *text,
                              drr_error *err)
{
    found_answer found = {0};
    char *copy = NULL;
    if (task->kind == DRR_KIND_CHECKED)
        return extract_code(answer, begin, end, task, text, err);
    const bool any = find_answer(task, text, &found);
    if (any && !(copy = string_copy(found.text)))
        return error_memory(err);
    *answer = copy;
    if (begin)
        *begin = any ? found.begin : 0;
    if (end)
        *end = any ? found.end : 0;
    return DRR_OK;
}

/* Could the number that ends at `at` still grow? Needs what follows it: "12" may become "125", "12." "12.5", "12 "
 * "12 1/2". */
static bool number_closed(const scope *s, size_t at)
{
    if (at >= s->end)
        return false;
    if (s->text[at] == '\n')
        return true;
    if (at + 1 >= s->end)
        return !strchr(".,/ eE\\{%", s->text[at]);
    return !isdigit((unsigned char)s->text[at + 1]) && s->text[at] != '/' && s->text[at] != '\\' && s->text[at] != '{';
}

bool task_answer_complete(const drr_task *task, const char *text, size_t length)
{
    enum { LONGEST_LINE = 512 }; /* an answer line is short: looking further back would cost at every token */
    const size_t stop = length > LONGEST_LINE ? length - LONGEST_LINE : 0;
    size_t line = length;
    if (task->kind == DRR_KIND_CHECKED)
        return code_complete(task, text, length);
    if (line > 0 && text[line - 1] == '\n')
        line--; /* the line that has just ended */
    while (line > stop && text[line - 1] != '\n')
        line--;
    if (line > 0 && text[line - 1] != '\n')
        return false;
    const scope s = {.task = task, .text = text, .begin = line, .end = length};
    size_t at = line;
    while (at < length && strchr(" \t*#_>", text[at]) && text[at])
        at++;
    if (starts_with(&s, at, "final "))
        at += 6;
    if (!starts_with(&s, at, "answer:") && !starts_with(&s, at, "answer**:"))
        return false;
    at = (size_t)((const char *)memchr(text + at, ':', length - at) - text) + 1;
    found_answer found = {0};
    if (!answer_at(&s, at, &found))
        return false;
    switch (task->kind) {
    case DRR_KIND_CHOICE: /* a letter is whole at once; a choice's text may be the beginning of another's */
        return found.end - found.begin == 1 || (found.end < length && text[length - 1] == '\n');
    case DRR_KIND_BOOLEAN:
        return found.end < length || found.end - found.begin > 2; /* "no" may become "north" */
    case DRR_KIND_NUMBER:
        return number_closed(&s, found.end);
    case DRR_KIND_TEXT:
        return text[length - 1] == '\n';
    case DRR_KIND_CHECKED:
        break;
    }
    return false;
}
