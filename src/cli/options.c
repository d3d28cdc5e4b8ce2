/* options.c: reads a command's options from its table, with one clear sentence for what is wrong, and prints the help
 * that the same table makes. getopt_long does the splitting; the meaning of values is here. `where` is what a sentence
 * calls an option: "--port", or where else its value came from. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long hands back: above every character, for it says '?' and ':' itself. */
enum { MOST_OPTIONS = 96, FIRST = 256, HELP = 1000, QUIET = 1001 };

int cli_usage(const cli_command *command, const char *format, ...)
{
    va_list arguments;
    if (cli_silent())
        return CLI_USAGE;
    va_start(arguments, format);
    fprintf(stderr, "drr %s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "; see `drr %s --help`\n", command->name);
    va_end(arguments);
    return CLI_USAGE;
}

static void print_default(const cli_option *o)
{
    switch (o->type) {
    case CLI_STRING:
        if (*(const char **)o->value)
            printf(" (%s)", *(const char **)o->value);
        break;
    case CLI_UINT32:
        printf(" (%u)", *(uint32_t *)o->value);
        break;
    case CLI_UINT64:
        printf(" (%llu)", (unsigned long long)*(uint64_t *)o->value);
        break;
    case CLI_SIZE:
        printf(" (%zu)", *(size_t *)o->value);
        break;
    case CLI_INT:
        if (*(int *)o->value >= 0)
            printf(" (%d)", *(int *)o->value);
        break;
    case CLI_FLOAT:
        printf(" (%g)", (double)*(float *)o->value);
        break;
    case CLI_DOUBLE:
        if (!isnan(*(double *)o->value))
            printf(" (%g)", *(double *)o->value);
        break;
    case CLI_CHOICE:
        printf(":");
        for (int i = 0; o->names[i]; i++)
            printf("%s %s", i ? "," : "", o->names[i]);
        if (*(int *)o->value >= 0)
            printf(" (%s)", o->names[*(int *)o->value]);
        break;
    case CLI_LIST:
    case CLI_FLAG:
        break;
    }
}

/* What llama.cpp's users write for it, in every command that has the option; '\0': there is none. */
static char letter_of(const cli_option *o)
{
    return strcmp(o->name, "threads") == 0 ? 't' : strcmp(o->name, "model") == 0 ? 'm' : '\0';
}

static void print_help(const cli_command *command, const cli_option *options)
{
    printf("drr %s: %s\n\nUsage: drr %s [options]%s%s\n\n%s\nOptions:\n", command->name, command->summary,
           command->name, command->arguments ? " " : "", command->arguments ? command->arguments : "", command->help);
    for (const cli_option *o = options; o->name; o++) {
        char left[64], letter[5] = "";
        if (letter_of(o))
            snprintf(letter, sizeof letter, "-%c, ", letter_of(o));
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-24s %s", left, o->meaning);
        if (o->required)
            printf("; needed");
        else
            print_default(o);
        printf("\n");
    }
    printf("  %-24s %s\n  %-24s %s\n", "--quiet", "no notes and no progress on stderr", "--help", "this text");
}

/* Whole numbers: digits alone, so that "-1", "3x" and "1e3" are refused rather than half understood. */
static bool parse_whole(uint64_t *value, const char *text, uint64_t most)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (errno || *end || n > most)
        return false;
    *value = n;
    return true;
}

static bool parse_real(double *value, const char *text)
{
    char *end;
    if (!*text)
        return false;
    const double x = strtod(text, &end);
    if (*end || !isfinite(x))
        return false;
    *value = x;
    return true;
}

static bool out_of_range(const cli_option *o, double value)
{
    return o->low < o->high && (value < o->low || value > o->high);
}

static int wrong_number(const cli_command *c, const cli_option *o, const char *where, const char *text,
                        const char *what)
{
    if (o->low < o->high)
        return cli_usage(c, "%s takes %s from %g to %g, not \"%s\"", where, what, o->low, o->high, text);
    return cli_usage(c, "%s takes %s, not \"%s\"", where, what, text);
}

static int store_whole(const cli_command *c, const cli_option *o, const char *where, const char *text)
{
    const uint64_t most = o->type == CLI_UINT32 ? UINT32_MAX : o->type == CLI_INT ? INT32_MAX : UINT64_MAX;
    uint64_t n;
    if (!parse_whole(&n, text, most) || out_of_range(o, (double)n))
        return wrong_number(c, o, where, text, "a whole number");
    if (o->type == CLI_UINT32)
        *(uint32_t *)o->value = (uint32_t)n;
    else if (o->type == CLI_INT)
        *(int *)o->value = (int)n;
    else if (o->type == CLI_SIZE)
        *(size_t *)o->value = (size_t)n;
    else
        *(uint64_t *)o->value = n;
    return CLI_DONE;
}

static int store_real(const cli_command *c, const cli_option *o, const char *where, const char *text)
{
    double x;
    if (!parse_real(&x, text) || out_of_range(o, x))
        return wrong_number(c, o, where, text, "a number");
    if (o->type == CLI_FLOAT)
        *(float *)o->value = (float)x;
    else
        *(double *)o->value = x;
    return CLI_DONE;
}

static int store_choice(const cli_command *c, const cli_option *o, const char *where, const char *text)
{
    char known[256] = "";
    for (int i = 0; o->names[i]; i++) {
        if (strcmp(o->names[i], text) == 0) {
            *(int *)o->value = i;
            return CLI_DONE;
        }
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", o->names[i]);
    }
    return cli_usage(c, "%s is one of %s, not \"%s\"", where, known, text);
}

static int store_flag(const cli_command *c, const cli_option *o, const char *where, const char *text)
{
    const bool yes = !text || strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return cli_usage(c, "%s is true or false, not \"%s\"", where, text);
    *(bool *)o->value = yes;
    return CLI_DONE;
}

int cli_store(const cli_command *c, const cli_option *o, const char *where, const char *text)
{
    cli_list *list;
    switch (o->type) {
    case CLI_STRING:
        if (!*text)
            return cli_usage(c, "%s is empty", where);
        *(const char **)o->value = text;
        return CLI_DONE;
    case CLI_LIST:
        list = o->value;
        if (list->n == CLI_LIST_MOST)
            return cli_usage(c, "%s can be given %d times", where, CLI_LIST_MOST);
        list->items[list->n++] = text;
        return CLI_DONE;
    case CLI_FLAG:
        return store_flag(c, o, where, text);
    case CLI_CHOICE:
        return store_choice(c, o, where, text);
    case CLI_FLOAT:
    case CLI_DOUBLE:
        return store_real(c, o, where, text);
    default:
        return store_whole(c, o, where, text);
    }
}

static struct {
    const cli_option *options;
    bool given[MOST_OPTIONS];
} last_parsed;

bool cli_was_given(const cli_option *options, size_t index)
{
    return last_parsed.options == options && index < MOST_OPTIONS && last_parsed.given[index];
}

/* getopt_long says '?' for an unknown option, an ambiguous one, and a flag that was given a value. */
static int unknown_option(const cli_command *c, const cli_option *options, size_t n, const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return cli_usage(c, "there is no option -%c", optopt);
    if (optopt >= FIRST && (size_t)(optopt - FIRST) < n)
        return cli_usage(c, "--%s takes no value", options[optopt - FIRST].name);
    return cli_usage(c, optopt >= HELP ? "%s takes no value" : "there is no option %s", word);
}

/* The option that this word is; NULL: none. */
static const struct option *option_of(const struct option *list, const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return NULL;
    const size_t n = strcspn(word + 2, "=");
    for (; list->name; list++)
        if (strlen(list->name) == n && strncmp(list->name, word + 2, n) == 0)
            return list;
    return NULL;
}

/* getopt_long takes the next word for a value, whatever it is. One that is an option of this command is none: a value
 * was forgotten, or help is wanted. False, and *code, where nothing is to be stored. */
static bool is_value(const cli_command *command, const cli_option *options, const struct option *list, const char *name,
                     const char *word, int *code)
{
    const struct option *other = option_of(list, word);
    if (strcmp(word, "-h") == 0 || (other && other->val == HELP)) {
        print_help(command, options);
        *code = CLI_DONE;
        return false;
    }
    if (other)
        *code = cli_usage(command, "--%s needs a value, and %s is another option (if it is meant: --%s=%s)", name, word,
                          name, word);
    return !other;
}

bool cli_parse(const cli_command *command, const cli_option *options, int *argc, char ***argv, int least, int most,
               int *code)
{
    struct option list[MOST_OPTIONS] = {{0}};
    char letters[16] = ":hq";
    bool *given = last_parsed.given;
    char where[64];
    size_t n = 0, n_letters = strlen(letters);
    memset(&last_parsed, 0, sizeof last_parsed);
    last_parsed.options = options;
    for (; options[n].name && n < MOST_OPTIONS - 3; n++) {
        list[n] = (struct option){options[n].name, options[n].argument ? required_argument : no_argument, NULL,
                                  FIRST + (int)n};
        if (letter_of(&options[n])) {
            letters[n_letters++] = letter_of(&options[n]);
            letters[n_letters++] = ':';
        }
    }
    list[n] = (struct option){"help", no_argument, NULL, HELP};
    list[n + 1] = (struct option){"quiet", no_argument, NULL, QUIET};
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (;;) {
        const int at = optind ? optind : 1;
        int got = getopt_long(*argc, *argv, letters, list, NULL);
        if (got == -1)
            break;
        if (got == HELP || got == 'h') {
            print_help(command, options);
            *code = CLI_DONE;
            return false;
        }
        if (got == QUIET || got == 'q') {
            cli_quiet();
            continue;
        }
        for (size_t i = 0; i < n; i++)
            if (got == letter_of(&options[i]))
                got = FIRST + (int)i;
        const char *word = (*argv)[optind > at ? optind - 1 : at];
        if (got == ':') {
            *code = cli_usage(command, "%s needs a value", word);
        } else if (got == '?') {
            *code = unknown_option(command, options, n, word);
        } else if (optarg && optarg == word &&
                   !is_value(command, options, list, options[got - FIRST].name, optarg, code)) {
            return false;
        } else {
            snprintf(where, sizeof where, "--%s", options[got - FIRST].name);
            *code = cli_store(command, &options[got - FIRST], where, optarg);
        }
        if (*code != CLI_DONE)
            return false;
        given[got - FIRST] = true;
    }
    *argc -= optind;
    *argv += optind;
    *code = CLI_USAGE;
    for (size_t i = 0; i < n; i++) {
        if (options[i].required && !given[i]) {
            cli_usage(command, "--%s %s is needed", options[i].name, options[i].argument);
            return false;
        }
    }
    if (*argc < least)
        cli_usage(command, "%s is needed", command->arguments);
    else if (*argc > most)
        cli_usage(command, "\"%s\" is one word too many", (*argv)[most]);
    return *argc >= least && *argc <= most;
}
