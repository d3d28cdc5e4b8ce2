/* code.c: answers that are programs. A program stands in a fenced block (CommonMark, "Fenced code blocks"): of the
 * complete ones the last that defines something, for a model often shows a call of its function in a block of its own;
 * where none defines anything the last. A block that is never closed is taken when there is no other: the tests will
 * tell. Without any fence the whole text is the answer when its first line is one of Python's. A command may judge
 * anything, so there a text without a fence is the answer as a whole. */
#include "task/code.h"

#include <string.h>

typedef struct line {
    size_t begin, end; /* without the line end */
} line;

static bool next_line(line *l, const char *text, size_t *at, size_t length)
{
    if (*at >= length)
        return false;
    const char *end = memchr(text + *at, '\n', length - *at);
    *l = (line){*at, end ? (size_t)(end - text) : length};
    *at = l->end + 1;
    if (l->end > l->begin && text[l->end - 1] == '\r')
        l->end--;
    return true;
}

/* The length of the run of ` or ~ that a line begins with, at least 3; *rest: where what follows begins. */
static size_t fence(const char *text, const line *l, char *mark, size_t *rest)
{
    size_t at = l->begin;
    while (at < l->end && at < l->begin + 3 && text[at] == ' ')
        at++;
    if (at == l->end || (text[at] != '`' && text[at] != '~'))
        return 0;
    *mark = text[at];
    const size_t first = at;
    while (at < l->end && text[at] == *mark)
        at++;
    *rest = at;
    return at - first >= 3 ? at - first : 0;
}

static bool blank(const char *text, size_t begin, size_t end)
{
    while (begin < end && strchr(" \t\r\n", text[begin]) && text[begin])
        begin++;
    return begin == end;
}

static bool begins_with_any(const char *text, const line *l, const char *const *words)
{
    for (; *words; words++) {
        const size_t n = strlen(*words);
        if (l->end - l->begin >= n && memcmp(text + l->begin, *words, n) == 0)
            return true;
    }
    return false;
}

static bool defines(const char *text, size_t begin, size_t end)
{
    static const char *const words[] = {"def ", "async def ", "class ", NULL};
    line l;
    for (size_t at = begin; next_line(&l, text, &at, end);)
        if (begins_with_any(text, &l, words))
            return true;
    return false;
}

static bool looks_like_python(const char *text, size_t begin, size_t end)
{
    static const char *const words[] = {"def ", "async def ", "class ", "import ", "from ", "@", "#!", NULL};
    line l;
    for (size_t at = begin; next_line(&l, text, &at, end);)
        if (!blank(text, l.begin, l.end))
            return begins_with_any(text, &l, words) && defines(text, begin, end);
    return false;
}

typedef struct blocks {
    line last, last_defining, open; /* of their contents */
    bool any, any_defining, is_open;
} blocks;

static blocks find_blocks(const char *text, size_t begin, size_t length)
{
    blocks b = {0};
    size_t opened = 0, rest = 0;
    char mark = 0;
    line l;
    for (size_t at = begin; next_line(&l, text, &at, length);) {
        char this_mark = 0;
        const size_t n = fence(text, &l, &this_mark, &rest);
        if (!b.is_open) {
            if (!n || (this_mark == '`' && memchr(text + rest, '`', l.end - rest)))
                continue; /* `x` within a line is no fence */
            opened = n;
            mark = this_mark;
            b.is_open = true;
            b.open = (line){at < length ? at : length, length};
        } else if (n >= opened && this_mark == mark && blank(text, rest, l.end)) {
            b.is_open = false;
            b.last = (line){b.open.begin, l.begin};
            b.any = true;
            if (defines(text, b.last.begin, b.last.end)) {
                b.last_defining = b.last;
                b.any_defining = true;
            }
        }
    }
    return b;
}

static bool by_command(const drr_task *task)
{
    return strncmp(task->answer, "{\"checker\"", 10) == 0;
}

bool code_find(const drr_task *task, const char *text, size_t begin, size_t length, size_t *at, size_t *end)
{
    const blocks b = find_blocks(text, begin, length);
    line found;
    if (b.any_defining && !by_command(task))
        found = b.last_defining;
    else if (b.any)
        found = b.last;
    else if (b.is_open)
        found = b.open;
    else if (by_command(task) || looks_like_python(text, begin, length))
        found = (line){begin, length};
    else
        return false;
    while (found.end > found.begin && strchr(" \t\r\n", text[found.end - 1]))
        found.end--;
    while (found.begin < found.end && strchr("\r\n", text[found.begin]))
        found.begin++;
    *at = found.begin;
    *end = found.end;
    return !blank(text, found.begin, found.end);
}

bool code_complete(const drr_task *task, const char *text, size_t length)
{
    size_t at = length;
    while (at > 0 && strchr("\r\n \t", text[at - 1]) && text[at - 1])
        at--;
    if (at < 3 || (text[at - 1] != '`' && text[at - 1] != '~')) /* nearly every token: not worth a look at the text */
        return false;
    const blocks b = find_blocks(text, 0, length);
    return !b.is_open && (by_command(task) ? b.any : b.any_defining);
}

/* The next byte that counts; '\0' at the end. Blank lines and white space before a line end count for nothing. */
static const char *next_byte(const char *p, bool *line_began)
{
    for (;;) {
        const size_t n = strspn(p, " \t\r\f\v");
        if (p[n] == '\0' || p[n] == '\n') {
            if (p[n] == '\0')
                return p + n;
            if (!*line_began) {
                *line_began = true;
                return p + n;
            }
            p += n + 1;
            continue;
        }
        *line_began = false;
        return p;
    }
}

bool code_equal(const char *a, const char *b)
{
    bool a_began = true, b_began = true; /* blank lines before the first line count for nothing */
    for (;; a++, b++) {
        a = next_byte(a, &a_began);
        b = next_byte(b, &b_began);
        /* a line end before nothing but blank lines is the end */
        const char *a_rest = *a == '\n' ? a + strspn(a, " \t\r\f\v\n") : a;
        const char *b_rest = *b == '\n' ? b + strspn(b, " \t\r\f\v\n") : b;
        if (*a_rest == '\0' || *b_rest == '\0')
            return *a_rest == *b_rest;
        if (*a != *b)
            return false;
    }
}
