/* program.c: the value of an answer that a model wrote as a short program in Python's notation instead of a number, as
 * program-of-thought prompts ask for. Nothing is executed: an evaluator without functions or input reads
 * assignments, arithmetic, comparisons, if blocks, loops, lists, a few known functions (max, ceil, ...) and linear
 * equations in the manner of sympy (Symbol, Eq, solve). The number of statements it passes is bounded.
 * Expressions are expression.c's. What is not understood leaves its name unknown; only an `answer` that depends on it
 * fails. */
#include "task/program.h"
#include "task/program_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 8, MOST_STEPS = 20000, LONGEST_LIST = 256 };

/* ---- statements */

static bool at_end(program *g)
{
    program_skip_space(g);
    return g->p == g->end;
}

/* `name.append(expression)` */
static bool append(program *g, name *target)
{
    g->failed = false;
    g->depth = 0;
    const value item = expression(g);
    if (!target)
        return true;
    value *list = &target->value;
    value *items = NULL;
    if (!g->failed && program_take(g, ")") && at_end(g) && target->known && list->kind == VALUE_LIST &&
        list->n < LONGEST_LIST)
        items = arena_alloc(g->memory, (list->n + 1) * sizeof *items, _Alignof(value));
    target->known = items != NULL;
    if (items) {
        memcpy(items, list->items, list->n * sizeof *items);
        items[list->n] = item;
        list->items = items;
        list->n++;
    }
    return true;
}

/* `name = expression`, `name += expression`, `name.append(expression)`. Returns whether this is an assignment at all.
 */
static bool assignment(program *g, const char **assigned)
{
    program_skip_space(g);
    const char *start = g->p;
    while (g->p < g->end && program_name_byte(*g->p))
        g->p++;
    const size_t length = (size_t)(g->p - start);
    if (length == 0 || isdigit((unsigned char)*start))
        return false;
    if (program_take(g, ".append("))
        return append(g, program_find_name(g, start, length));
    program_skip_space(g);
    char operation = '\0';
    if (g->p + 1 < g->end && strchr("+-*/", *g->p) && g->p[1] == '=')
        operation = *g->p++;
    if (g->p + 1 >= g->end || *g->p != '=' || g->p[1] == '=')
        return false;
    g->p++;
    program_skip_space(g);
    *assigned = g->p;
    g->failed = false;
    g->depth = 0;
    name *target = program_find_name(g, start, length);
    value v = expression(g);
    if (!at_end(g))
        g->failed = true;
    if (!g->failed && operation) {
        bool fine = target && target->known && target->value.kind == VALUE_NUMBER && v.kind == VALUE_NUMBER;
        linear before = fine ? target->value.number : (linear){0};
        if (fine && (operation == '+' || operation == '-'))
            linear_add(&before, &v.number, operation == '+' ? 1 : -1);
        else if (fine)
            fine = operation == '*' ? linear_multiply(&before, &v.number) : linear_divide(&before, &v.number);
        g->failed = !fine;
        v = (value){.kind = VALUE_NUMBER, .number = before};
    }
    if (!target && g->n_names < MOST_NAMES)
        target = &g->names[g->n_names++];
    if (target)
        *target = (name){start, length, !g->failed, v};
    return true;
}

/* Where the statement that begins at p ends: at its line's end, or further on while a bracket is open. */
static const char *statement_end(const char *p, const char *end)
{
    int open = 0;
    for (; p < end; p++) {
        if (*p == '#')
            while (p + 1 < end && p[1] != '\n')
                p++;
        else if (strchr("([{", *p))
            open++;
        else if (strchr(")]}", *p))
            open--;
        else if (*p == '\n' && open <= 0)
            break;
    }
    return p;
}

/* ---- blocks */

typedef enum block_kind { BLOCK_IF, BLOCK_WHILE, BLOCK_FOR } block_kind;

typedef struct block {
    block_kind kind;
    size_t indent;           /* of its head */
    bool active, decided;    /* is it being run; has a branch of it been */
    const char *head, *body; /* lines to go back to */
    name *counter;           /* of a for block */
    double next, step, limit;
} block;

typedef struct runner {
    program *g;
    const char *line, *end; /* the next line; the end of the text */
    block blocks[MOST_BLOCKS];
    size_t n_blocks;
    bool fine; /* nothing has come up that is beyond this evaluator */
} runner;

static bool running(const runner *r)
{
    return r->n_blocks == 0 || r->blocks[r->n_blocks - 1].active;
}

/* Sets the counter of a for block to its next value; false when it has run through. */
static bool count(block *b)
{
    if (b->step > 0 ? b->next >= b->limit : b->next <= b->limit)
        return false;
    *b->counter =
        (name){b->counter->text, b->counter->length, true, {.kind = VALUE_NUMBER, .number = {.constant = b->next}}};
    b->next += b->step;
    return true;
}

/* Leaves the blocks that a line of this indent no longer belongs to; true when a loop goes round once more instead. */
static bool leave_blocks(runner *r, size_t indent, bool is_else)
{
    while (r->n_blocks > 0) {
        block *b = &r->blocks[r->n_blocks - 1];
        if (b->indent < indent || (b->indent == indent && is_else && b->kind == BLOCK_IF))
            return false;
        if (b->kind == BLOCK_FOR && b->active && count(b)) {
            r->line = b->body;
            return true;
        }
        r->n_blocks--;
        if (b->kind == BLOCK_WHILE && b->active) {
            r->line = b->head;
            return true;
        }
    }
    return false;
}

static bool condition(runner *r)
{
    r->g->failed = false;
    r->g->depth = 0;
    const value v = expression(r->g);
    r->fine = r->fine && !r->g->failed && value_is_constant(&v);
    return r->fine && v.number.constant != 0;
}

/* `for name in range(...)` */
static void read_range(runner *r, block *b)
{
    program *g = r->g;
    program_skip_space(g);
    const char *start = g->p;
    while (g->p < g->end && program_name_byte(*g->p))
        g->p++;
    const size_t length = (size_t)(g->p - start);
    double bounds[3] = {0, 0, 1};
    size_t n = 0;
    bool fine = length > 0 && program_take(g, "in") && program_take(g, "range") && program_take(g, "(");
    g->failed = false;
    g->depth = 0;
    do {
        const value v = fine && n < 3 ? expression(g) : (value){.kind = VALUE_TEXT};
        fine = fine && !g->failed && n < 3 && value_is_constant(&v);
        if (fine)
            bounds[n++] = v.number.constant;
    } while (fine && program_take(g, ","));
    fine = fine && program_take(g, ")") && bounds[2] != 0;
    b->counter = program_find_name(g, start, length);
    if (fine && !b->counter && g->n_names < MOST_NAMES) {
        b->counter = &g->names[g->n_names++];
        *b->counter = (name){.text = start, .length = length};
    }
    r->fine = r->fine && fine && b->counter;
    b->next = n == 1 ? 0 : bounds[0];
    b->limit = n == 1 ? bounds[0] : bounds[1];
    b->step = bounds[2];
    b->active = r->fine && count(b);
}

static void skip_to_colon(program *g)
{
    while (g->p < g->end && *g->p != ':')
        g->p++;
}

/* The head of a block; false when the line is none. */
static bool head_of_block(runner *r, const char *head, size_t indent)
{
    program *g = r->g;
    const bool is_else = program_take(g, "else"), is_elif = !is_else && program_take(g, "elif");
    if (is_else || is_elif) {
        if (r->n_blocks == 0) {
            r->fine = false;
            return true;
        }
        block *b = &r->blocks[r->n_blocks - 1];
        const bool outside = r->n_blocks < 2 || r->blocks[r->n_blocks - 2].active;
        b->active = outside && !b->decided && (is_else || condition(r));
        b->decided = b->decided || b->active;
    } else {
        block b = {.indent = indent, .head = head, .body = r->line};
        if (program_take(g, "for"))
            b.kind = BLOCK_FOR;
        else if (program_take(g, "while"))
            b.kind = BLOCK_WHILE;
        else if (!program_take(g, "if"))
            return false;
        if (running(r) && b.kind == BLOCK_FOR)
            read_range(r, &b);
        else if (running(r))
            b.active = condition(r);
        b.decided = b.active;
        r->fine = r->fine && r->n_blocks < MOST_BLOCKS;
        if (r->fine)
            r->blocks[r->n_blocks++] = b;
    }
    if (!running(r))
        skip_to_colon(g);
    r->fine = r->fine && program_take(g, ":") && at_end(g);
    return true;
}

static bool is_word(const char *statement, const char *end, const char *word)
{
    const size_t n = strlen(word);
    return (size_t)(end - statement) >= n && memcmp(statement, word, n) == 0 &&
           (statement + n == end || !program_name_byte(statement[n]));
}

/* The statement from `start` to `stop`; *assigned is where the value of an assignment begins, NULL otherwise. */
static void run_statement(runner *r, const char *line, const char *start, const char *stop, const char **assigned)
{
    static const char *const beyond[] = {"def", "class", "return", "break", "continue", "try", "with"};
    program *g = r->g;
    *assigned = NULL;
    g->p = start;
    g->end = stop;
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
        r->fine = r->fine && !is_word(start, stop, beyond[i]);
    if (r->fine && !head_of_block(r, line, (size_t)(start - line)) && running(r))
        assignment(g, assigned);
}

/* Are most lines of this text code? Only then does an answer that cannot be worked out mean that there is none. */
static bool mostly_code(const char *text, const char *end)
{
    static const char *const words[] = {"import", "from",  "print", "def",  "return",
                                        "for",    "while", "if",    "elif", "else"};
    size_t n_code = 0, n_other = 0;
    for (const char *line = text; line < end;) {
        while (line < end && isspace((unsigned char)*line))
            line++;
        const char *stop = line;
        while (stop < end && *stop != '\n')
            stop++;
        const char *p = line;
        while (p < stop && program_name_byte(*p))
            p++;
        const bool named = p > line;
        while (p < stop && *p == ' ')
            p++;
        if (p < stop && strchr("+-*/", *p))
            p++;
        bool code = named && p < stop && *p == '=';
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            code = code || is_word(line, stop, words[i]);
        if (line < stop && *line != '#' && *line != '`') {
            n_code += code;
            n_other += !code;
        }
        line = stop;
    }
    return n_code > 1 && n_code > n_other;
}

static program_outcome run(program *g, double *result, size_t *begin, size_t *end, const char *text, size_t length)
{
    runner r = {.g = g, .line = text, .end = text + length, .fine = true};
    bool answered = false;
    for (int steps = 0; r.fine; steps++) {
        const char *line = r.line, *start = line, *assigned;
        if (line == r.end && !leave_blocks(&r, 0, false))
            break;
        if (line == r.end)
            continue;
        while (start < r.end && (*start == ' ' || *start == '\t'))
            start++;
        const char *stop = statement_end(start, r.end);
        r.line = stop < r.end ? stop + 1 : stop;
        if (start == stop || *start == '#' || *start == '\r' || *start == '`')
            continue;
        if (leave_blocks(&r, (size_t)(start - line), is_word(start, stop, "else") || is_word(start, stop, "elif")))
            continue;
        r.fine = steps < MOST_STEPS;
        if (r.fine)
            run_statement(&r, line, start, stop, &assigned);
        if (r.fine && assigned && is_word(start, stop, "answer")) {
            answered = true;
            while (stop > assigned && isspace((unsigned char)stop[-1]))
                stop--;
            *begin = (size_t)(assigned - text);
            *end = (size_t)(stop - text);
        }
    }
    const name *answer = program_find_name(g, "answer", 6);
    if (r.fine && !g->stopped && answered && answer && answer->known && value_is_constant(&answer->value) &&
        isfinite(answer->value.number.constant)) {
        *result = answer->value.number.constant;
        return PROGRAM_VALUE;
    }
    return mostly_code(text, r.end) ? PROGRAM_FAILED : PROGRAM_NONE;
}

/* Most texts are no programs: look before taking memory. */
static bool sets_answer(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        while (i < length && isspace((unsigned char)text[i]))
            i++;
        if (i + 6 < length && memcmp(text + i, "answer", 6) == 0) {
            size_t at = i + 6;
            while (at < length && (text[at] == ' ' || text[at] == '\t'))
                at++;
            if (at + 1 < length && text[at] == '=' && text[at + 1] != '=')
                return true;
        }
        while (i < length && text[i] != '\n')
            i++;
    }
    return false;
}

program_outcome program_evaluate(double *result, size_t *begin, size_t *end, const char *text, size_t length)
{
    if (!sets_answer(text, length))
        return PROGRAM_NONE;
    program *g = calloc(1, sizeof *g);
    program_outcome outcome = PROGRAM_FAILED;
    if (g && (g->memory = arena_new(0)))
        outcome = run(g, result, begin, end, text, length);
    if (g)
        arena_free(g->memory);
    free(g);
    return outcome;
}
