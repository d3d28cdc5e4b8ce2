/* expression.c: the right-hand sides of program.c's statements: arithmetic, comparisons, lists, a few functions, and
 * linear equations in the manner of sympy. One function a level of precedence, from the tightest binding to the
 * loosest. */
#include "task/program_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading */

void program_skip_space(program *g)
{
    while (g->p < g->end) {
        if (*g->p == '#')
            while (g->p < g->end && *g->p != '\n')
                g->p++;
        else if (isspace((unsigned char)*g->p) || *g->p == '\\')
            g->p++;
        else
            break;
    }
}

bool program_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Is this operator or word next? Then it is passed over. Words end at a word's end; operators are given longest first.
 */
bool program_take(program *g, const char *what)
{
    program_skip_space(g);
    const size_t n = strlen(what);
    if ((size_t)(g->end - g->p) < n || memcmp(g->p, what, n) != 0)
        return false;
    if (program_name_byte(what[0]) && g->p + n < g->end && program_name_byte(g->p[n]))
        return false;
    g->p += n;
    return true;
}

static value failure(program *g)
{
    g->failed = true;
    return (value){0};
}

static value number_value(double x)
{
    return (value){.kind = VALUE_NUMBER, .number = {.constant = x}};
}

name *program_find_name(program *g, const char *text, size_t length)
{
    for (size_t i = 0; i < g->n_names; i++)
        if (g->names[i].length == length && memcmp(g->names[i].text, text, length) == 0)
            return &g->names[i];
    return NULL;
}

bool value_is_constant(const value *v)
{
    return v->kind == VALUE_NUMBER && linear_is_constant(&v->number);
}

/* ---- functions */

/* The unknown of this name; the same name is the same unknown. */
static value unknown_value(program *g, const char *text, size_t length)
{
    int i = 0;
    while (i < g->n_unknowns && (g->unknowns[i].length != length || memcmp(g->unknowns[i].text, text, length) != 0))
        i++;
    if (i == LINEAR_UNKNOWNS)
        return failure(g);
    if (i == g->n_unknowns)
        g->unknowns[g->n_unknowns++] = (name){.text = text, .length = length};
    value v = number_value(0);
    v.number.of[i] = 1;
    return v;
}

static value list_value(program *g, const value *items, size_t n)
{
    value list = {.kind = VALUE_LIST, .n = n};
    list.items = arena_alloc(g->memory, (n ? n : 1) * sizeof *items, _Alignof(value));
    if (!list.items)
        return failure(g);
    memcpy(list.items, items, n * sizeof *items);
    return list;
}

/* solve(equations, unknowns): an equation, a form that is zero, or a list of them; an unknown or a list of them. */
static value solve(program *g, const value *arguments, size_t n)
{
    if (n < 1)
        return failure(g);
    const value *given = arguments[0].kind == VALUE_LIST ? arguments[0].items : arguments;
    const size_t n_given = arguments[0].kind == VALUE_LIST ? arguments[0].n : 1;
    const value *wanted = n < 2 ? NULL : arguments[1].kind == VALUE_LIST ? arguments[1].items : arguments + 1;
    size_t n_wanted = n < 2 ? 0 : arguments[1].kind == VALUE_LIST ? arguments[1].n : 1;
    linear equations[LINEAR_UNKNOWNS] = {0}, solutions[LINEAR_UNKNOWNS];
    int *unknowns = arena_alloc(g->memory, LINEAR_UNKNOWNS * sizeof *unknowns, _Alignof(int));
    if (!unknowns || n_given > LINEAR_UNKNOWNS || n_wanted > LINEAR_UNKNOWNS)
        return failure(g);
    for (size_t i = 0; i < n_given; i++) {
        if (given[i].kind != VALUE_EQUATION && given[i].kind != VALUE_NUMBER)
            return failure(g);
        equations[i] = given[i].number;
    }
    double factors[LINEAR_UNKNOWNS] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < n_wanted; i++) {
        unknowns[i] = wanted[i].kind == VALUE_NUMBER ? linear_unknown(&wanted[i].number, &factors[i]) : -1;
        if (unknowns[i] < 0)
            return failure(g);
    }
    for (int u = 0; n < 2 && u < LINEAR_UNKNOWNS; u++) /* all that occur */
        for (size_t i = 0; i < n_given; i++)
            if (equations[i].of[u] != 0) {
                unknowns[n_wanted++] = u;
                break;
            }
    if (!linear_solve(solutions, equations, n_given, unknowns, n_wanted))
        return failure(g);
    value items[LINEAR_UNKNOWNS] = {0};
    for (size_t i = 0; i < n_wanted; i++) {
        linear_scale(&solutions[i], factors[i]);
        items[i] = (value){.kind = VALUE_NUMBER, .number = solutions[i]};
    }
    value result = list_value(g, items, n_wanted);
    result.kind = VALUE_SOLVED;
    result.unknown = unknowns;
    result.system = arguments[0].kind == VALUE_LIST;
    return result;
}

static value over_numbers(program *g, const char *function, const value *arguments, size_t n)
{
    if (n == 1 && arguments[0].kind == VALUE_LIST) {
        n = arguments[0].n;
        arguments = arguments[0].items;
    }
    value result = number_value(0);
    const bool sum = strcmp(function, "sum") == 0, max = strcmp(function, "max") == 0;
    for (size_t i = 0; i < n; i++) {
        if (arguments[i].kind != VALUE_NUMBER || (!sum && !value_is_constant(&arguments[i])))
            return failure(g);
        if (sum)
            linear_add(&result.number, &arguments[i].number, 1);
        else if (i == 0 || (arguments[i].number.constant > result.number.constant) == max)
            result = arguments[i];
    }
    return n == 0 && !sum ? failure(g) : result;
}

static value call(program *g, const char *text, size_t length, const value *arguments, size_t n)
{
    char function[32];
    const char *dot = memchr(text, '.', length);
    if (dot) { /* math.ceil, sympy.Symbol */
        length -= (size_t)(dot + 1 - text);
        text = dot + 1;
    }
    if (length >= sizeof function)
        return failure(g);
    memcpy(function, text, length);
    function[length] = '\0';
    if (strcmp(function, "Symbol") == 0 && n >= 1 && arguments[0].kind == VALUE_TEXT)
        return unknown_value(g, arguments[0].text, arguments[0].n);
    if (strcmp(function, "Eq") == 0 && n == 2 && arguments[0].kind == VALUE_NUMBER &&
        arguments[1].kind == VALUE_NUMBER) {
        value v = arguments[0];
        v.kind = VALUE_EQUATION;
        linear_add(&v.number, &arguments[1].number, -1);
        return v;
    }
    if (strcmp(function, "solve") == 0 || strcmp(function, "solve_it") == 0)
        return solve(g, arguments, n);
    if (strcmp(function, "sum") == 0 || strcmp(function, "max") == 0 || strcmp(function, "min") == 0)
        return over_numbers(g, function, arguments, n);
    if (strcmp(function, "len") == 0 && n == 1 && arguments[0].kind == VALUE_LIST)
        return number_value((double)arguments[0].n);
    double x[2] = {0};
    for (size_t i = 0; i < n && i < 2; i++) {
        if (!value_is_constant(&arguments[i])) /* an unknown stays itself under these */
            return n == 1 && (strcmp(function, "float") == 0 || strcmp(function, "simplify") == 0) ? arguments[0]
                                                                                                   : failure(g);
        x[i] = arguments[i].number.constant;
    }
    if (n == 1) {
        static const struct {
            const char *name;
            double (*of)(double);
        } functions[] = {{"ceil", ceil}, {"floor", floor}, {"abs", fabs},
                         {"fabs", fabs}, {"int", trunc},   {"sqrt", sqrt}};
        for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
            if (strcmp(function, functions[i].name) == 0)
                return number_value(functions[i].of(x[0]));
        if (strcmp(function, "round") == 0)
            return number_value(nearbyint(x[0]));
        if (strcmp(function, "float") == 0 || strcmp(function, "Rational") == 0 || strcmp(function, "Fraction") == 0)
            return number_value(x[0]);
    }
    if (n == 2) {
        if ((strcmp(function, "Rational") == 0 || strcmp(function, "Fraction") == 0) && x[1] != 0)
            return number_value(x[0] / x[1]);
        if (strcmp(function, "round") == 0 && fabs(x[1]) < 16)
            return number_value(nearbyint(x[0] * pow(10, x[1])) / pow(10, x[1]));
        if (strcmp(function, "pow") == 0)
            return number_value(pow(x[0], x[1]));
    }
    return failure(g);
}

/* ---- expressions, from the tightest binding to the loosest */

/* Values up to the closing bracket. */
static size_t items_until(program *g, const char *close, value items[MOST_ITEMS])
{
    size_t n = 0;
    while (!g->failed && !program_take(g, close)) {
        if (n == MOST_ITEMS || (n > 0 && !program_take(g, ","))) {
            g->failed = true;
            break;
        }
        if (n > 0 && program_take(g, close))
            break;
        items[n++] = expression(g);
    }
    return g->failed ? 0 : n;
}

static value read_number(program *g)
{
    char digits[48];
    size_t n = 0;
    while (g->p < g->end && n < sizeof digits - 1) {
        const char c = *g->p;
        const bool exponent = (c == 'e' || c == 'E') && g->p + 1 < g->end &&
                              (isdigit((unsigned char)g->p[1]) || g->p[1] == '-' || g->p[1] == '+');
        const bool sign = (c == '-' || c == '+') && n > 0 && (digits[n - 1] == 'e' || digits[n - 1] == 'E');
        if (!isdigit((unsigned char)c) && c != '.' && c != '_' && !exponent && !sign)
            break;
        if (c != '_')
            digits[n++] = c;
        g->p++;
    }
    digits[n] = '\0';
    char *rest;
    const double x = strtod(digits, &rest);
    return *rest || (g->p < g->end && program_name_byte(*g->p)) ? failure(g) : number_value(x);
}

/* A name's value or a function's. "math." and the like before it are passed over; a name that nothing has set would
 * stop the program, were it run, and so leaves it without an answer. */
static value named(program *g)
{
    const char *start = g->p;
    size_t length = 0;
    for (;;) {
        while (g->p < g->end && program_name_byte(*g->p))
            g->p++;
        length = (size_t)(g->p - start);
        if (length == 0)
            return failure(g);
        if (g->p == g->end || *g->p != '.' || program_find_name(g, start, length))
            break;
        start = ++g->p;
    }
    const name *known = program_find_name(g, start, length);
    if (known)
        return known->known ? known->value : failure(g);
    if (program_take(g, "(")) {
        value items[MOST_ITEMS];
        const size_t n = items_until(g, ")", items);
        return g->failed ? (value){0} : call(g, start, length, items, n);
    }
    if (length == 4 && memcmp(start, "True", 4) == 0)
        return number_value(1);
    if (length == 5 && memcmp(start, "False", 5) == 0)
        return number_value(0);
    if (length == 2 && memcmp(start, "pi", 2) == 0)
        return number_value(3.14159265358979323846);
    g->stopped = true;
    return failure(g);
}

static value atom(program *g)
{
    program_skip_space(g);
    if (g->p == g->end)
        return failure(g);
    const char c = *g->p;
    if (isdigit((unsigned char)c) || c == '.')
        return read_number(g);
    if (c == '"' || c == '\'') {
        const char *close = memchr(g->p + 1, c, (size_t)(g->end - g->p - 1));
        if (!close)
            return failure(g);
        const value v = {.kind = VALUE_TEXT, .text = g->p + 1, .n = (size_t)(close - g->p - 1)};
        g->p = close + 1;
        return v;
    }
    value items[MOST_ITEMS];
    if (program_take(g, "[")) {
        const size_t n = items_until(g, "]", items);
        return g->failed ? (value){0} : list_value(g, items, n);
    }
    if (program_take(g, "(")) {
        const size_t n = items_until(g, ")", items);
        if (g->failed || n == 0)
            return failure(g);
        return n == 1 ? items[0] : list_value(g, items, n);
    }
    return named(g);
}

static value item_of(program *g, const value *v, const value *at)
{
    size_t i = v->n;
    double factor = 1;
    const int unknown = at->kind == VALUE_NUMBER ? linear_unknown(&at->number, &factor) : -1;
    if (v->kind == VALUE_SOLVED && unknown >= 0) {
        for (i = 0; i < v->n && v->unknown[i] != unknown; i++) {
        }
    } else if ((v->kind == VALUE_LIST || (v->kind == VALUE_SOLVED && !v->system)) && value_is_constant(at)) {
        const double place = at->number.constant < 0 ? at->number.constant + (double)v->n : at->number.constant;
        i = place >= 0 && place < (double)v->n ? (size_t)place : v->n;
    }
    return i < v->n ? v->items[i] : failure(g);
}

/* form.subs(unknown, value): the form or equation with one unknown filled in. */
static value substitute(program *g, value v)
{
    value items[MOST_ITEMS];
    const size_t n = items_until(g, ")", items);
    double factor = 1; /* of what is replaced: where 2*x becomes 6, x becomes 3 */
    const int unknown = n == 2 && items[0].kind == VALUE_NUMBER ? linear_unknown(&items[0].number, &factor) : -1;
    if (unknown < 0 || (v.kind != VALUE_NUMBER && v.kind != VALUE_EQUATION) || items[1].kind != VALUE_NUMBER)
        return failure(g);
    const double times = v.number.of[unknown] / factor;
    v.number.of[unknown] = 0;
    linear_add(&v.number, &items[1].number, times);
    return v;
}

static value postfix(program *g)
{
    value v = atom(g);
    while (!g->failed) {
        if (program_take(g, "[")) {
            const value at = expression(g);
            v = !g->failed && program_take(g, "]") ? item_of(g, &v, &at) : failure(g);
        } else if (program_take(g, ".subs(")) {
            v = substitute(g, v);
        } else {
            break;
        }
    }
    return v;
}

static value signed_power(program *g)
{
    if (++g->depth > DEEPEST) {
        g->depth--;
        return failure(g);
    }
    value v;
    if (program_take(g, "-")) {
        v = signed_power(g);
        linear_scale(&v.number, -1);
    } else if (program_take(g, "+")) {
        v = signed_power(g);
    } else {
        v = postfix(g);
        if (!g->failed && program_take(g, "**")) {
            const value exponent = signed_power(g);
            if (!value_is_constant(&v) || !value_is_constant(&exponent))
                v = failure(g);
            else
                v = number_value(pow(v.number.constant, exponent.number.constant));
        }
    }
    g->depth--;
    return v;
}

/* As Python's floats: the remainder is exact and has the divisor's sign. */
static double floor_remainder(double x, double y)
{
    const double remainder = fmod(x, y);
    return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : remainder;
}

static double floor_quotient(double x, double y)
{
    return nearbyint((x - floor_remainder(x, y)) / y);
}

static value product(program *g)
{
    value v = signed_power(g);
    while (!g->failed) {
        const bool floored = program_take(g, "//"), divided = !floored && program_take(g, "/");
        const bool remainder = !floored && !divided && program_take(g, "%");
        if (!floored && !divided && !remainder && !program_take(g, "*"))
            break;
        const value b = signed_power(g);
        bool fine = !g->failed && v.kind == VALUE_NUMBER && b.kind == VALUE_NUMBER;
        if (fine && (floored || remainder)) {
            const double x = v.number.constant, y = b.number.constant;
            fine = value_is_constant(&v) && value_is_constant(&b) && y != 0;
            v = fine ? number_value(floored ? floor_quotient(x, y) : x - y * floor_quotient(x, y)) : v;
        } else if (fine) {
            fine = divided ? linear_divide(&v.number, &b.number) : linear_multiply(&v.number, &b.number);
        }
        if (!fine)
            return failure(g);
    }
    return v;
}

static value sum(program *g)
{
    value v = product(g);
    while (!g->failed) {
        const bool minus = program_take(g, "-");
        if (!minus && !program_take(g, "+"))
            break;
        const value b = product(g);
        if (g->failed || v.kind != VALUE_NUMBER || b.kind != VALUE_NUMBER)
            return failure(g);
        linear_add(&v.number, &b.number, minus ? -1 : 1);
    }
    return v;
}

static value comparison(program *g)
{
    static const char *const operators[] = {"==", "!=", "<=", ">=", "<", ">"};
    const bool negated = program_take(g, "not");
    value v = sum(g);
    for (size_t i = 0; !g->failed && i < 6; i++) {
        if (!program_take(g, operators[i]))
            continue;
        const value b = sum(g);
        const bool texts = v.kind == VALUE_TEXT && b.kind == VALUE_TEXT && i < 2;
        if (g->failed || (!texts && (!value_is_constant(&v) || !value_is_constant(&b))))
            return failure(g);
        const bool same_text = texts && v.n == b.n && memcmp(v.text, b.text, v.n) == 0;
        const double x = texts ? same_text : v.number.constant, y = texts ? 1 : b.number.constant;
        const bool truth[] = {x == y, x != y, x <= y, x >= y, x<y, x> y};
        v = number_value(truth[i]);
        break;
    }
    if (negated && !g->failed)
        v = value_is_constant(&v) ? number_value(v.number.constant == 0) : failure(g);
    return v;
}

static value logic(program *g)
{
    value v = comparison(g);
    while (!g->failed) {
        const bool both = program_take(g, "and");
        if (!both && !program_take(g, "or"))
            break;
        const value b = comparison(g);
        if (g->failed || !value_is_constant(&v) || !value_is_constant(&b))
            return failure(g);
        if ((v.number.constant != 0) == both)
            v = b;
    }
    return v;
}

value expression(program *g)
{
    if (++g->depth > DEEPEST) {
        g->depth--;
        return failure(g);
    }
    value v = logic(g);
    if (!g->failed && program_take(g, "if")) {
        const value condition = logic(g);
        if (g->failed || !value_is_constant(&condition) || !program_take(g, "else"))
            v = failure(g);
        else {
            const value otherwise = expression(g);
            v = condition.number.constant != 0 ? v : otherwise;
        }
    }
    g->depth--;
    return v;
}
