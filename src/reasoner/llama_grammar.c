/* llama_grammar.c: reads a grammar (GBNF) before libllama does, by the same rules, and refuses what libllama refuses or
 * could not bear. A client of the server may send any: libllama's reader goes one call deeper with each bracket and
 * with each rule that begins with another, expands repetitions as far as they go ("a"{5,2} without an end), and writes
 * what it cannot read to stderr, whole. Nothing is made of what is read here but rules without their letters, from
 * which follows what libllama would have to do. Constraining tokens is llama_sample.c's. */
#include "reasoner/llama_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_BYTES = 64 << 10,
    MOST_NESTING = 64,       /* brackets within brackets */
    MOST_REPEATED = 2000,    /* libllama's own bound, of the rules that a repetition makes */
    MOST_ELEMENTS = 1 << 18, /* letters, ranges and names, once repetitions are expanded */
    MOST_CHAIN = 4096,       /* rules that each begin with the next */
    MOST_WAYS = 2048,        /* from a rule's beginning to letters: libllama keeps all that may still be meant */
    MOST_STEPS = 1 << 24,    /* of its search for left recursion, which does not remember where it was */
    NAME_SLOTS = 1 << 17     /* more than twice as many as MOST_BYTES can name; a power of two */
};
static const uint32_t TEXT = UINT32_MAX, ALTERNATIVE = UINT32_MAX - 1; /* any other item is a rule's number */
static const uint64_t NO_MOST = UINT64_MAX;

typedef struct rule {
    uint32_t *items; /* letters that follow one another are one TEXT */
    uint32_t n, room;
    uint64_t weight; /* elements as libllama counts them */
    const char *name;
    uint32_t name_size; /* 0: of a bracket or a repetition */
    bool defined, may_be_empty;
    enum { NEW, OPEN, KNOWN } state; /* of the search for left recursion */
    uint64_t steps, ways;
    uint32_t chain;
} rule;

typedef struct reader {
    const char *text, *at;           /* at NULL: all of it has been read */
    const struct llama_vocab *vocab; /* NULL: whatever looks like a token is one */
    rule *rules;
    uint32_t n_rules, room;
    uint32_t *names; /* NAME_SLOTS of them, by hash: the rule's number + 1 */
    uint64_t n_elements;
    drr_error *err;
} reader;

static bool refuse(reader *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(reader *g, const char *format, ...)
{
    char words[200], place[32] = "";
    unsigned line = 1;
    va_list arguments;
    for (const char *c = g->text; g->at && c < g->at; c++)
        line += *c == '\n';
    if (g->at)
        snprintf(place, sizeof place, ", line %u", line);
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    error_set(g->err, DRR_E_FORMAT, "the grammar (\"grammar\" of a request, or of --prompts FILE) cannot be used%s: %s",
              place, words);
    return false;
}

static bool run_out(reader *g)
{
    error_memory(g->err);
    return false;
}

/* ---- rules as they grow */

static bool add_rule(reader *g, uint32_t *number, const char *name, uint32_t name_size)
{
    if (g->n_rules == g->room) {
        const uint32_t room = g->room ? 2 * g->room : 64;
        rule *more = realloc(g->rules, room * sizeof *more);
        if (!more)
            return run_out(g);
        g->rules = more;
        g->room = room;
    }
    *number = g->n_rules;
    g->rules[g->n_rules++] = (rule){.name = name, .name_size = name_size};
    return true;
}

static bool named_rule(reader *g, uint32_t *number, const char *name, uint32_t size)
{
    uint32_t at = (uint32_t)hash_bytes(0, name, size) & (NAME_SLOTS - 1);
    for (; g->names[at]; at = (at + 1) & (NAME_SLOTS - 1)) {
        const rule *r = &g->rules[g->names[at] - 1];
        if (r->name_size == size && memcmp(r->name, name, size) == 0) {
            *number = g->names[at] - 1;
            return true;
        }
    }
    if (!add_rule(g, number, name, size))
        return false;
    g->names[at] = *number + 1;
    return true;
}

/* weight: of the elements that it stands for. */
static bool add_item(reader *g, uint32_t to, uint32_t item, uint64_t weight)
{
    rule *r = &g->rules[to];
    if (weight > MOST_ELEMENTS || (g->n_elements += weight) > MOST_ELEMENTS)
        return refuse(g, "with its repetitions it is too long (more than %d elements)", MOST_ELEMENTS);
    if (r->n == r->room) {
        const uint32_t room = r->room ? 2 * r->room : 4;
        uint32_t *more = realloc(r->items, room * sizeof *more);
        if (!more)
            return run_out(g);
        r->items = more;
        r->room = room;
    }
    r->items[r->n++] = item;
    r->weight += weight;
    return true;
}

/* ---- words */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c);
}

static void skip_space(reader *g, bool lines)
{
    while (*g->at == ' ' || *g->at == '\t' || *g->at == '#' || (lines && (*g->at == '\r' || *g->at == '\n'))) {
        if (*g->at == '#')
            g->at += strcspn(g->at, "\r\n");
        else
            g->at++;
    }
}

static bool read_letter(reader *g)
{
    static const uint8_t sizes[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4}; /* by the upper half of a byte */
    size_t digits = 0;
    if (*g->at != '\\') {
        size_t left = sizes[(unsigned char)*g->at >> 4];
        for (; left && *g->at; left--)
            g->at++;
        return true;
    }
    switch (g->at[1]) {
    case 'x':
        digits = 2;
        break;
    case 'u':
        digits = 4;
        break;
    case 'U':
        digits = 8;
        break;
    default:
        if (!g->at[1] || !strchr("trn\\\"[]-", g->at[1]))
            return refuse(g, "a backslash stands before what it cannot (x, u, U, t, r, n, \\, \", [, ] and - can be)");
    }
    g->at += 2;
    if (strspn(g->at, "0123456789abcdefABCDEF") < digits)
        return refuse(g, "%zu hexadecimal digits are wanted", digits);
    g->at += digits;
    return true;
}

static bool read_string(reader *g, uint32_t into)
{
    uint64_t weight = 0;
    for (g->at++; *g->at != '"'; weight++) {
        if (!*g->at)
            return refuse(g, "a string does not end");
        if (!read_letter(g))
            return false;
    }
    g->at++;
    return !weight || add_item(g, into, TEXT, weight);
}

static bool read_class(reader *g, uint32_t into)
{
    uint64_t weight = 0;
    g->at++;
    g->at += *g->at == '^';
    for (; *g->at != ']'; weight++) {
        if (!*g->at)
            return refuse(g, "a [ has no ]");
        if (!read_letter(g))
            return false;
        if (*g->at != '-' || g->at[1] == ']')
            continue;
        g->at++;
        if (!*g->at)
            return refuse(g, "a [ has no ]");
        if (!read_letter(g))
            return false;
        weight++;
    }
    g->at++;
    return !weight || add_item(g, into, TEXT, weight);
}

/* <[123]>, <word>, or either of them after "!". */
static bool read_token(reader *g, uint32_t into)
{
    llama_token tokens[2];
    g->at += *g->at == '!';
    const char *begin = g->at;
    if (*begin != '<')
        return refuse(g, "a ! is not followed by a token, such as <[123]>");
    if (begin[1] == '[') {
        const size_t n = strspn(begin + 2, "0123456789");
        if (n < 1 || n > 9 || strncmp(begin + 2 + n, "]>", 2) != 0)
            return refuse(g, "a token by its number is written as <[123]>");
        g->at = begin + 2 + n + 2;
    } else {
        const char *end = strchr(begin, '>');
        if (!end)
            return refuse(g, "a < has no >");
        g->at = end + 1;
        if (g->vocab && llama_tokenize(g->vocab, begin, (int32_t)(g->at - begin), tokens, 2, false, true) != 1)
            return refuse(g, "what stands from < to > is no token of this model");
    }
    return add_item(g, into, TEXT, 1);
}

static bool read_count(reader *g, uint64_t *n)
{
    const size_t digits = strspn(g->at, "0123456789");
    if (digits < 1 || digits > 9)
        return refuse(g, "a repetition is written as {2}, {2,} or {2,5}");
    *n = strtoull(g->at, NULL, 10);
    g->at += digits;
    return true;
}

/* ---- sequences */

typedef struct symbol { /* what a repetition repeats */
    uint32_t begin;     /* in its rule's items, of which it is the last */
    uint64_t weight_before, n_rules;
} symbol;

/* What libllama makes of it: x{2,4} is x x y, with y ::= x z | and z ::= x | beside it. */
static bool repeat(reader *g, uint32_t into, symbol *s, uint64_t least, uint64_t most)
{
    const uint32_t begin = s->begin, n = g->rules[into].n - begin;
    const uint64_t weight = g->rules[into].weight - s->weight_before;
    const uint64_t all = most != NO_MOST && most > 0 ? most : least > 0 ? least : 1;
    const uint64_t optional = most == NO_MOST ? 1 : most - least;
    uint32_t last = 0, made;
    if (n == 0)
        return refuse(g, "nothing stands before a repetition");
    if (most < least)
        return refuse(g, "a repetition has its larger number first");
    if (s->n_rules * all > MOST_REPEATED)
        return refuse(g, "a repetition makes more than %d rules", MOST_REPEATED);
    if (weight * (all + 1) > MOST_ELEMENTS)
        return refuse(g, "with its repetitions it is too long (more than %d elements)", MOST_ELEMENTS);
    s->n_rules *= all;
    for (uint64_t i = 0; i < optional; i++) {
        if (!add_rule(g, &made, NULL, 0))
            return false;
        g->rules[made].defined = true;
        for (uint32_t k = 0; k < n; k++) /* of one weight each, but for the first: the sum is what counts */
            if (!add_item(g, made, g->rules[into].items[begin + k], k ? 0 : weight))
                return false;
        if ((i > 0 || most == NO_MOST) && !add_item(g, made, most == NO_MOST ? made : last, 1))
            return false;
        if (!add_item(g, made, ALTERNATIVE, 1))
            return false;
        last = made;
    }
    if (least == 0) {
        g->rules[into].n = begin;
        g->rules[into].weight = s->weight_before;
    }
    for (uint64_t i = 1; i < least; i++)
        for (uint32_t k = 0; k < n; k++)
            if (!add_item(g, into, g->rules[into].items[begin + k], k ? 0 : weight))
                return false;
    return optional == 0 || add_item(g, into, last, 1);
}

static bool read_repetition(reader *g, uint32_t into, symbol *s, bool nested)
{
    uint64_t least = *g->at == '+', most = *g->at == '?' ? 1 : NO_MOST;
    const bool numbers = *g->at == '{';
    g->at++;
    skip_space(g, nested);
    if (numbers) {
        if (!read_count(g, &least))
            return false;
        skip_space(g, nested);
        most = least;
        if (*g->at == ',') {
            g->at++;
            skip_space(g, nested);
            most = NO_MOST;
            if (is_digit(*g->at) && !read_count(g, &most))
                return false;
            skip_space(g, nested);
        }
        if (*g->at != '}')
            return refuse(g, "a { has no }");
        g->at++;
        skip_space(g, nested);
        if (least > MOST_REPEATED)
            return refuse(g, "a repetition asks for more than %d times", MOST_REPEATED);
        if (most != NO_MOST && most > MOST_REPEATED)
            most = NO_MOST; /* as libllama has it */
    }
    return repeat(g, into, s, least, most);
}

static bool read_alternatives(reader *g, uint32_t into, unsigned nesting);

static bool read_bracket(reader *g, uint32_t into, symbol *s, unsigned nesting)
{
    uint32_t made;
    const uint32_t before = g->n_rules;
    if (nesting == MOST_NESTING)
        return refuse(g, "more than %d brackets stand within one another", MOST_NESTING);
    g->at++;
    skip_space(g, true);
    if (!add_rule(g, &made, NULL, 0) || !read_alternatives(g, made, nesting + 1))
        return false;
    if (*g->at != ')')
        return refuse(g, "a ( has no )");
    g->at++;
    s->n_rules = g->n_rules - before;
    s->begin = g->rules[into].n;
    s->weight_before = g->rules[into].weight;
    return add_item(g, into, made, 1);
}

static bool read_sequence(reader *g, uint32_t into, unsigned nesting)
{
    const bool nested = nesting > 0;
    symbol s = {g->rules[into].n, g->rules[into].weight, 1};
    for (;;) {
        const char c = *g->at;
        bool good;
        if (c && strchr("*+?{", c)) {
            if (!read_repetition(g, into, &s, nested))
                return false;
            continue;
        }
        const symbol here = {g->rules[into].n, g->rules[into].weight, 1};
        if (c != '(')
            s = here;
        if (c == '"') {
            good = read_string(g, into);
        } else if (c == '[') {
            good = read_class(g, into);
        } else if (c == '<' || c == '!') {
            good = read_token(g, into);
        } else if (c == '(') {
            good = read_bracket(g, into, &s, nesting);
        } else if (c == '.') {
            g->at++;
            good = add_item(g, into, TEXT, 1);
        } else if (is_word(c)) {
            const char *name = g->at;
            uint32_t number;
            while (is_word(*g->at))
                g->at++;
            good = named_rule(g, &number, name, (uint32_t)(g->at - name)) && add_item(g, into, number, 1);
        } else {
            return true;
        }
        if (!good)
            return false;
        skip_space(g, nested);
    }
}

static bool read_alternatives(reader *g, uint32_t into, unsigned nesting)
{
    g->rules[into].n = 0; /* a rule that is written twice is what the second says */
    g->rules[into].weight = 1;
    while (read_sequence(g, into, nesting)) {
        if (*g->at != '|') {
            g->rules[into].defined = true;
            return true;
        }
        g->at++;
        skip_space(g, true);
        if (!add_item(g, into, ALTERNATIVE, 1))
            return false;
    }
    return false;
}

static bool read_rule(reader *g)
{
    const char *name = g->at;
    uint32_t number;
    while (is_word(*g->at))
        g->at++;
    const uint32_t size = (uint32_t)(g->at - name);
    skip_space(g, false);
    if (!size || strncmp(g->at, "::=", 3) != 0)
        return refuse(g, "a rule is written as NAME ::= ...");
    g->at += 3;
    skip_space(g, true);
    if (!named_rule(g, &number, name, size) || !read_alternatives(g, number, 0))
        return false;
    if (*g->at && *g->at != '\r' && *g->at != '\n')
        return refuse(g, "a rule is followed by what does not belong to it");
    skip_space(g, true);
    return true;
}

/* ---- what libllama would have to do */

static void find_empty(rule *r)
{
    bool begins = true;
    for (uint32_t i = 0; i <= r->n && !r->may_be_empty; i++) {
        const bool ends = i == r->n || r->items[i] == ALTERNATIVE;
        r->may_be_empty = ends && begins;
        begins = ends;
    }
}

static bool branches(reader *g)
{
    return refuse(g, "its rules branch too often before their first letter");
}

/* What stands at the beginning of a rule, or behind what may be empty there, may lead back to it: then libllama would
 * never come to a letter. Counts the steps that it takes to find out. */
static bool follow(reader *g, uint32_t number, uint32_t depth)
{
    rule *r = &g->rules[number];
    bool begins = true;
    if (r->state == OPEN)
        return refuse(g, "a rule begins with itself (%.*s)", r->name_size > 40 ? 40 : (int)r->name_size,
                      r->name ? r->name : "");
    if (depth + r->chain >= MOST_CHAIN)
        return refuse(g, "more than %d rules begin with one another", MOST_CHAIN);
    if (r->state == KNOWN)
        return true;
    r->state = OPEN;
    r->steps = r->weight;
    r->ways = 1;
    for (uint32_t i = 0; i < r->n; i++) {
        const uint32_t item = r->items[i];
        if (item == ALTERNATIVE || item == TEXT || !begins) {
            begins = item == ALTERNATIVE;
            continue;
        }
        if (!follow(g, item, depth + 1))
            return false;
        const rule *next = &g->rules[item];
        r->chain = next->chain + 1 > r->chain ? next->chain + 1 : r->chain;
        begins = next->may_be_empty;
        r->steps += next->steps;
        r->ways += next->ways;
        if (r->ways > MOST_WAYS || r->steps > MOST_STEPS)
            return branches(g);
    }
    r->state = KNOWN;
    return true;
}

static bool check_rules(reader *g)
{
    uint64_t steps = 0;
    uint32_t root;
    g->at = NULL;
    for (uint32_t i = 0; i < g->n_rules; i++)
        if (!g->rules[i].defined)
            return refuse(g, "there is no rule %.*s", g->rules[i].name_size > 40 ? 40 : (int)g->rules[i].name_size,
                          g->rules[i].name ? g->rules[i].name : "");
        else
            find_empty(&g->rules[i]);
    const uint32_t n = g->n_rules;
    if (!named_rule(g, &root, "root", 4))
        return false;
    if (root == n)
        return refuse(g, "there is no rule root");
    for (uint32_t i = 0; i < n; i++) {
        if (!follow(g, i, 0))
            return false;
        if ((steps += g->rules[i].steps) > MOST_STEPS)
            return branches(g);
    }
    return true;
}

drr_status grammar_check(const char *text, const struct llama_vocab *vocab, drr_error *err)
{
    drr_error why = {0};
    reader g = {.text = text, .vocab = vocab, .err = &why};
    bool good = strlen(text) <= MOST_BYTES || refuse(&g, "it is longer than %d bytes", MOST_BYTES);
    if (good)
        good = (g.names = calloc(NAME_SLOTS, sizeof *g.names)) != NULL || run_out(&g);
    if (good) {
        g.at = text;
        skip_space(&g, true);
    }
    while (good && *g.at)
        good = read_rule(&g);
    good = good && check_rules(&g);
    for (uint32_t i = 0; i < g.n_rules; i++)
        free(g.rules[i].items);
    free(g.rules);
    free(g.names);
    return good ? DRR_OK : error_set(err, why.status, "%s", why.message);
}

drr_status grammar_open(struct llama_sampler **grammar, const llama_backend *b, const char *text, drr_error *err)
{
    *grammar = NULL;
    if (!text || !*text)
        return DRR_OK;
    drr_status status = grammar_check(text, b->vocab, err);
    if (status != DRR_OK)
        return status;
    *grammar = llama_sampler_init_grammar(b->vocab, text, "root");
    return *grammar ? DRR_OK
                    : error_set(err, DRR_E_FORMAT, "libllama cannot use the grammar: %s", llama_runtime_last_message());
}
