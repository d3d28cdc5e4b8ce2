/* settings.c: options that do not come from the command line: from a TOML file, then from the environment. The command
 * line goes before both. Each value is checked as an option is, and a wrong one is named by where it stands. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 96 };

typedef struct layer {
    const cli_command *command;
    const cli_option *options;
    bool settled[MOST]; /* by what goes before */
    bool here[MOST];    /* by this layer */
    int code;
} layer;

static const cli_option *find(const cli_option *options, const char *name)
{
    for (const cli_option *o = options; o->name; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

static int put(layer *l, const cli_option *o, const char *where, const char *value)
{
    const size_t i = (size_t)(o - l->options);
    char *copy = strdup(value); /* as long as the program: options point to it */
    if (!copy || i >= MOST || l->settled[i])
        return CLI_DONE;
    if (o->type == CLI_LIST && !l->here[i])
        ((cli_list *)o->value)->n = 0;
    l->here[i] = true;
    return cli_store(l->command, o, where, copy);
}

static drr_status hear(void *user, const char *name, const char *value, const char *place, drr_error *err)
{
    layer *l = user;
    char plain[64], where[700];
    snprintf(plain, sizeof plain, "%s", name);
    for (char *at = plain; (at = strchr(at, '_'));) /* max_turns is max-turns */
        *at = '-';
    const cli_option *o = find(l->options, plain);
    snprintf(where, sizeof where, "%s: %.60s", place, name);
    if (!o || strcmp(plain, "config") == 0)
        l->code = cli_usage(l->command, "%s is no setting", where);
    else
        l->code = put(l, o, where, value);
    err->status = DRR_E_ARGUMENT;
    return l->code == CLI_DONE ? DRR_OK : DRR_E_ARGUMENT;
}

static int from_file(layer *l, const char *file)
{
    drr_error err = {0};
    if (drr_settings_read(file, hear, l, &err) == DRR_OK)
        return CLI_DONE;
    return l->code != CLI_DONE ? l->code : cli_fail(&err);
}

/* A list's items have commas between them. */
static int from_variable(layer *l, const cli_option *o, const char *name, const char *value)
{
    if (o->type != CLI_LIST)
        return put(l, o, name, value);
    char *copy = strdup(value), *rest = copy, *item;
    int code = CLI_DONE;
    while (code == CLI_DONE && rest && (item = strsep(&rest, ",")))
        if (*item)
            code = put(l, o, name, item);
    free(copy);
    return code;
}

static int from_environment(layer *l)
{
    int code = CLI_DONE;
    for (const cli_option *o = l->options; o->name && code == CLI_DONE; o++) {
        char name[64] = "DRR_";
        for (size_t i = 0; o->name[i] && i + 5 < sizeof name; i++)
            name[i + 4] = o->name[i] == '-' ? '_' : (char)toupper((unsigned char)o->name[i]);
        if (o->variable)
            snprintf(name, sizeof name, "%s", o->variable);
        const char *value = getenv(name);
        if (value && *value)
            code = from_variable(l, o, name, value);
    }
    return code;
}

int cli_settings(const cli_command *command, const cli_option *options, const char *file)
{
    layer l = {.command = command, .options = options};
    for (size_t i = 0; options[i].name && i < MOST; i++)
        l.settled[i] = cli_was_given(options, i);
    int code = file ? from_file(&l, file) : CLI_DONE;
    for (size_t i = 0; i < MOST; i++)
        l.settled[i] = l.settled[i] || l.here[i];
    memset(l.here, 0, sizeof l.here);
    return code == CLI_DONE ? from_environment(&l) : code;
}
