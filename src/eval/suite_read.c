/* suite_read.c: a suite's TOML file, checked as a whole before anything runs: keys that are not known, values that
 * cannot be and budgets that nothing fits into are named with their line. docs/evaluation.md lists the keys. */
#include "eval/suite_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys */

typedef enum key_type { KEY_TEXT, KEY_PATH, KEY_U32, KEY_U64, KEY_DOUBLE, KEY_FLOAT, KEY_BOOL, KEY_CHOICE } key_type;

typedef struct suite_key {
    const char *name;
    key_type type;
    size_t offset;            /* in what is read; of keys that are read elsewhere, NOWHERE */
    double low, high;         /* numbers */
    const char *const *names; /* KEY_CHOICE: an enum of int's size */
} suite_key;

#define NOWHERE SIZE_MAX
#define OF(type, member) offsetof(type, member)

#define POLICY_KEYS                                                                                                    \
    {"samples", KEY_U32, OF(drr_policy, samples), 1, 1024, NULL},                                                      \
        {"weigh_votes", KEY_CHOICE, OF(drr_policy, votes), 0, 0, drr_votes_names},                                     \
        {"keep_votes", KEY_DOUBLE, OF(drr_policy, keep_votes), 0, 1, NULL},                                            \
        {"sure_above", KEY_DOUBLE, OF(drr_policy, sure_above), 0, 1, NULL},                                            \
        {"parallel_below", KEY_DOUBLE, OF(drr_policy, parallel_below), 0, 1, NULL},                                    \
        {"hopeless_below", KEY_DOUBLE, OF(drr_policy, hopeless_below), 0, 1, NULL},                                    \
        {"give_up_below", KEY_DOUBLE, OF(drr_policy, give_up_below), 0, 1, NULL},                                      \
        {"stop_confidence", KEY_DOUBLE, OF(drr_policy, stop_confidence), 0, 1, NULL},                                  \
        {"max_turns", KEY_U32, OF(drr_policy, max_turns), 1, 64, NULL},                                                \
        {"max_tokens", KEY_U64, OF(drr_policy, max_tokens), 0, 1e12, NULL},                                            \
        {"max_seconds", KEY_DOUBLE, OF(drr_policy, max_seconds), 0, 1e9, NULL},                                        \
        {"early_below", KEY_DOUBLE, OF(drr_policy, early_below), 0, 1, NULL},                                          \
        {"early_confidence", KEY_DOUBLE, OF(drr_policy, early_confidence), 0, 1, NULL},                                \
        {"early_steps", KEY_U32, OF(drr_policy, early_steps), 1, 4096, NULL},                                          \
        {"early_cuts", KEY_U32, OF(drr_policy, early_cuts), 0, 64, NULL},                                              \
        {"early_after", KEY_U32, OF(drr_policy, early_after), 0, 64, NULL},                                            \
        {"early_free", KEY_BOOL, OF(drr_policy, early_free), 0, 0, NULL},                                              \
        {"turn_tokens", KEY_U32, OF(drr_policy, turn_tokens), 1, 1 << 20, NULL},                                       \
        {"threshold", KEY_DOUBLE, OF(drr_policy, threshold), 0, 1, NULL},                                              \
        {"abstain_below", KEY_DOUBLE, OF(drr_policy, abstain_below), 0, 1, NULL},                                      \
        {"escalate_below", KEY_DOUBLE, OF(drr_policy, escalate_below), 0, 1, NULL},                                    \
        {"on_exhausted", KEY_CHOICE, OF(drr_policy, on_exhausted), 0, 0, drr_exhausted_names},                         \
        {"feedback", KEY_CHOICE, OF(drr_policy, feedback), 0, 0, drr_feedback_names},                                  \
        {"first_temperature", KEY_FLOAT, OF(drr_policy, first_temperature), 0, 10, NULL},                              \
        {"temperature", KEY_FLOAT, OF(drr_policy, temperature), 0, 10, NULL},                                          \
        {"top_p", KEY_FLOAT, OF(drr_policy, top_p), 0, 1, NULL},                                                       \
    {                                                                                                                  \
        "grammar", KEY_BOOL, OF(drr_policy, grammar), 0, 0, NULL                                                       \
    }

static const suite_key top_keys[] = {{"title", KEY_TEXT, OF(suite, title), 0, 0, NULL},
                                     {"limit", KEY_U64, OF(suite, limit), 0, 1e12, NULL},
                                     {"bootstrap", KEY_U32, OF(suite, bootstrap), 0, 1e6, NULL},
                                     {"seeds", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"equal_budget", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"policy", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"data", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"reasoner", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"critic", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"judge", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"escalate", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {"question_critic", KEY_PATH, OF(suite, question_critic), 0, 0, NULL},
                                     {"strategy", KEY_TEXT, NOWHERE, 0, 0, NULL},
                                     {0}};
static const suite_key policy_keys[] = {POLICY_KEYS, {0}};
static const suite_key strategy_keys[] = {
    {"name", KEY_TEXT, NOWHERE, 0, 0, NULL}, {"strategy", KEY_TEXT, NOWHERE, 0, 0, NULL}, POLICY_KEYS, {0}};
static const suite_key data_keys[] = {{"path", KEY_PATH, OF(suite_data, path), 0, 0, NULL},
                                      {"format", KEY_TEXT, OF(suite_data, format), 0, 0, NULL},
                                      {"limit", KEY_U64, OF(suite_data, limit), 0, 1e12, NULL},
                                      {0}};
static const suite_key reasoner_keys[] = {
    {"name", KEY_TEXT, OF(suite_reasoner, name), 0, 0, NULL},
    {"source", KEY_PATH, OF(suite_reasoner, source), 0, 0, NULL},
    {"prompts", KEY_PATH, OF(suite_reasoner, prompts), 0, 0, NULL},
    {"model", KEY_TEXT, OF(suite_reasoner, options.model), 0, 0, NULL},
    {"replay_reasoner", KEY_TEXT, OF(suite_reasoner, options.replay_reasoner), 0, 0, NULL},
    {"replay_prompt", KEY_TEXT, OF(suite_reasoner, options.replay_prompt), 0, 0, NULL},
    {"width", KEY_U32, OF(suite_reasoner, options.width), 0, 4096, NULL},
    {"context", KEY_U32, OF(suite_reasoner, options.context), 0, 1 << 24, NULL},
    {"threads", KEY_U32, OF(suite_reasoner, options.threads), 0, 4096, NULL},
    {"max_tokens_total", KEY_U64, OF(suite_reasoner, options.max_tokens_total), 0, 1e15, NULL},
    {"max_money", KEY_DOUBLE, OF(suite_reasoner, options.max_money), 0, 1e9, NULL},
    {"price_prompt", KEY_DOUBLE, OF(suite_reasoner, options.price_prompt), 0, 1e9, NULL},
    {"price_completion", KEY_DOUBLE, OF(suite_reasoner, options.price_completion), 0, 1e9, NULL},
    {0}};
static const char *const kind_names[] = {"encoder", "probe", "stack", NULL};
static const char *const head_names[] = {"cls", "token", NULL};
static const char *const precision_names[] = {"auto", "fp32", "bf16", NULL};
#define TRAIN(member) OF(suite_critic, train.member)
static const suite_key critic_keys[] = {
    {"name", KEY_TEXT, OF(suite_critic, name), 0, 0, NULL},
    {"path", KEY_PATH, OF(suite_critic, path), 0, 0, NULL},
    {"folds", KEY_U32, OF(suite_critic, folds), 2, MOST_FOLDS, NULL},
    {"with_question_critic", KEY_BOOL, OF(suite_critic, with_question_critic), 0, 0, NULL},
    {"traces", KEY_PATH, TRAIN(traces), 0, 0, NULL},
    {"reasoner", KEY_TEXT, TRAIN(reasoner), 0, 0, NULL},
    {"task", KEY_TEXT, TRAIN(task), 0, 0, NULL},
    {"kind", KEY_CHOICE, TRAIN(kind), 0, 0, kind_names},
    {"encoder", KEY_PATH, TRAIN(encoder), 0, 0, NULL},
    {"head", KEY_CHOICE, TRAIN(head), 0, 0, head_names},
    {"steps", KEY_BOOL, TRAIN(steps), 0, 0, NULL},
    {"text_alone", KEY_BOOL, TRAIN(text_alone), 0, 0, NULL},
    {"beginnings", KEY_U32, TRAIN(beginnings), 0, 64, NULL},
    {"first_turns_only", KEY_BOOL, TRAIN(first_turns_only), 0, 0, NULL},
    {"epochs", KEY_U32, TRAIN(epochs), 1, 1000, NULL},
    {"batch", KEY_U32, TRAIN(batch), 1, 4096, NULL},
    {"max_length", KEY_U32, TRAIN(max_length), 16, 8192, NULL},
    {"patience", KEY_U32, TRAIN(patience), 0, 1000, NULL},
    {"keep_last", KEY_BOOL, TRAIN(keep_last), 0, 0, NULL},
    {"learning_rate", KEY_DOUBLE, TRAIN(learning_rate), 0, 1, NULL},
    {"weight_decay", KEY_DOUBLE, TRAIN(weight_decay), 0, 1, NULL},
    {"warmup_share", KEY_DOUBLE, TRAIN(warmup_share), 0, 1, NULL},
    {"clip_norm", KEY_DOUBLE, TRAIN(clip_norm), 0, 1e6, NULL},
    {"dropout", KEY_DOUBLE, TRAIN(dropout), 0, 0.9, NULL},
    {"rank_weight", KEY_DOUBLE, TRAIN(rank_weight), 0, 1000, NULL},
    {"class_weights", KEY_BOOL, TRAIN(class_weights), 0, 0, NULL},
    {"dev_share", KEY_DOUBLE, TRAIN(dev_share), 0, 0.9, NULL},
    {"max_questions", KEY_U64, TRAIN(max_questions), 0, 1e12, NULL},
    {"precision", KEY_CHOICE, TRAIN(precision), 0, 0, precision_names},
    {"threads", KEY_U32, TRAIN(threads), 0, 4096, NULL},
    {"seed", KEY_U64, TRAIN(seed), 0, 9e18, NULL},
    {0}};
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "max_questions is read as 64 bits");

static const suite_key judge_keys[] = {{"name", KEY_TEXT, OF(suite_critic, name), 0, 0, NULL},
                                       {"source", KEY_PATH, OF(suite_critic, source), 0, 0, NULL},
                                       {"route", KEY_TEXT, OF(suite_critic, options.route), 0, 0, NULL},
                                       {"scale", KEY_TEXT, OF(suite_critic, options.scale), 0, 0, NULL},
                                       {"model", KEY_TEXT, OF(suite_critic, options.model), 0, 0, NULL},
                                       {"seconds", KEY_U32, OF(suite_critic, options.seconds), 0, 1e6, NULL},
                                       {0}};

/* ---- what is wrong */

static drr_status wrong(const suite *s, const char *where, drr_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static drr_status wrong(const suite *s, const char *where, drr_error *err, const char *format, ...)
{
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(err, DRR_E_FORMAT, "%s:%d: %s", s->path, toml_line(s->lines, where), text);
}

static void list_keys(char *text, size_t size, const suite_key *keys)
{
    size_t n = 0;
    for (text[0] = '\0'; keys->name && n < size; keys++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", keys->name);
}

/* ---- values */

/* A path that is there from the suite's own folder; else as it is, which is one from here, a short name or a URL. */
static const char *resolve(const suite *s, const char *text)
{
    const char *slash = strrchr(s->path, '/');
    char *path;
    if (!slash || *text == '/')
        return text;
    const size_t folder = (size_t)(slash + 1 - s->path), length = strlen(text);
    path = arena_alloc(s->strings, folder + length + 1, 1);
    if (!path)
        return NULL;
    memcpy(path, s->path, folder);
    memcpy(path + folder, text, length + 1);
    return file_exists(path) ? path : text;
}

static drr_status take_choice(const suite *s, const suite_key *key, const json_t *value, const char *where, int *into,
                              drr_error *err)
{
    char known[200] = "";
    for (int i = 0; key->names[i]; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), key->names[i]) == 0) {
            *into = i;
            return DRR_OK;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", key->names[i]);
    }
    return wrong(s, where, err, "%s is one of %s", where, known);
}

static drr_status take_value(const suite *s, const suite_key *key, const json_t *value, const char *where, void *into,
                             drr_error *err)
{
    char *at = (char *)into + key->offset;
    const bool whole = key->type == KEY_U32 || key->type == KEY_U64;
    if (key->type == KEY_CHOICE)
        return take_choice(s, key, value, where, (int *)(void *)at, err);
    if (key->type == KEY_TEXT || key->type == KEY_PATH) {
        if (!json_is_string(value) || !json_string_value(value)[0])
            return wrong(s, where, err, "%s is a text, in quotes", where);
        const char *text = json_string_value(value);
        text = key->type == KEY_PATH ? resolve(s, text) : text;
        if (!text)
            return error_memory(err);
        *(const char **)(void *)at = text;
        return DRR_OK;
    }
    if (key->type == KEY_BOOL) {
        if (!json_is_boolean(value))
            return wrong(s, where, err, "%s is true or false", where);
        *(bool *)(void *)at = json_is_true(value);
        return DRR_OK;
    }
    const double number = json_number_value(value);
    if (whole ? !json_is_integer(value) : !json_is_number(value))
        return wrong(s, where, err, "%s is a %snumber", where, whole ? "whole " : "");
    if (number < key->low || number > key->high)
        return wrong(s, where, err, "%s is %g, and can only be from %g to %g", where, number, key->low, key->high);
    if (key->type == KEY_U32)
        *(uint32_t *)(void *)at = (uint32_t)json_integer_value(value);
    else if (key->type == KEY_U64)
        *(uint64_t *)(void *)at = (uint64_t)json_integer_value(value);
    else if (key->type == KEY_DOUBLE)
        *(double *)(void *)at = number;
    else
        *(float *)(void *)at = (float)number;
    return DRR_OK;
}

static drr_status take_table(const suite *s, json_t *table, const char *where, const suite_key *keys, void *into,
                             drr_error *err)
{
    const char *name;
    json_t *value;
    char known[700], path[160];
    if (!json_is_object(table))
        return wrong(s, where, err, "%s is a table: [%s] or [[%s]] and its keys", where, where, where);
    json_object_foreach(table, name, value)
    {
        const suite_key *key = keys;
        snprintf(path, sizeof path, "%s%s%s", where, *where ? "." : "", name);
        while (key->name && strcmp(key->name, name) != 0)
            key++;
        if (!key->name) {
            list_keys(known, sizeof known, keys);
            return wrong(s, path, err, "there is no key \"%.60s\" here; there are %s", name, known);
        }
        const drr_status status = key->offset == NOWHERE ? DRR_OK : take_value(s, key, value, path, into, err);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

/* ---- lists of tables */

static drr_status count_list(const suite *s, const char *name, size_t *n, drr_error *err)
{
    const json_t *list = json_object_get(s->root, name);
    *n = json_array_size(list);
    if (list && !json_is_array(list))
        return wrong(s, name, err, "%s is a list of tables: write [[%s]]", name, name);
    if (*n > MOST_LISTED)
        return wrong(s, name, err, "%zu times [[%s]], and %d are the most", *n, name, MOST_LISTED);
    return DRR_OK;
}

static drr_status check_name(const suite *s, const char *name, const char *where, drr_error *err)
{
    if (!*name || strlen(name) > 60 || strspn(name, NAME_CHARACTERS) != strlen(name) || name[0] == '.')
        return wrong(s, where, err,
                     "the name \"%.60s\" cannot be a file's: letters, digits, spaces and . _ + = - alone, 60 at most",
                     name);
    return DRR_OK;
}

/* Two of a list may not have one name; `each` is the size of its elements, which begin with the name. */
static drr_status check_names(const suite *s, const char *list, const void *items, size_t n, size_t each,
                              drr_error *err)
{
    char where[40];
    for (size_t a = 0; a < n; a++) {
        const char *name = *(const char *const *)(const void *)((const char *)items + a * each);
        snprintf(where, sizeof where, "%s[%zu].name", list, a);
        drr_status status = check_name(s, name, where, err);
        for (size_t b = 0; b < a && status == DRR_OK; b++)
            if (strcmp(name, *(const char *const *)(const void *)((const char *)items + b * each)) == 0)
                status = wrong(s, where, err, "two [[%s]] are named \"%s\": give them names that differ", list, name);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

/* The file's name up to its first dot: what is called by nothing else. */
static const char *stem_of(const suite *s, const char *path)
{
    const char *name = file_name(path, NULL);
    const size_t n = strcspn(name, ".");
    return n ? arena_copy(s->strings, name, n) : name;
}

static drr_status read_data(suite *s, drr_error *err)
{
    drr_status status = count_list(s, "data", &s->n_data, err);
    for (size_t i = 0; i < s->n_data && status == DRR_OK; i++) {
        char where[40];
        snprintf(where, sizeof where, "data[%zu]", i);
        s->data[i].limit = s->limit;
        status = take_table(s, json_array_get(json_object_get(s->root, "data"), i), where, data_keys, &s->data[i], err);
        if (status == DRR_OK && !s->data[i].path)
            status = wrong(s, where, err, "[[data]] needs a path");
    }
    return status;
}

static drr_status read_reasoners(suite *s, drr_error *err)
{
    drr_status status = count_list(s, "reasoner", &s->n_reasoners, err);
    for (size_t i = 0; i < s->n_reasoners && status == DRR_OK; i++) {
        char where[40];
        suite_reasoner *r = &s->reasoners[i];
        snprintf(where, sizeof where, "reasoner[%zu]", i);
        drr_reasoner_options_defaults(&r->options);
        status = take_table(s, json_array_get(json_object_get(s->root, "reasoner"), i), where, reasoner_keys, r, err);
        if (status == DRR_OK && !r->source)
            status = wrong(s, where, err, "[[reasoner]] needs a source: a model's name, a file or an address");
        if (status == DRR_OK && !r->name)
            r->name =
                strstr(r->source, "://") ? (r->options.model ? r->options.model : "remote") : stem_of(s, r->source);
        if (status == DRR_OK && !r->name)
            status = error_memory(err);
    }
    return status == DRR_OK ? check_names(s, "reasoner", s->reasoners, s->n_reasoners, sizeof *s->reasoners, err)
                            : status;
}

/* The reasoner that drr's unsure questions go to. */
static drr_status read_escalate(suite *s, drr_error *err)
{
    json_t *table = json_object_get(s->root, "escalate");
    if (!table)
        return DRR_OK;
    drr_reasoner_options_defaults(&s->escalate.options);
    const drr_status status = take_table(s, table, "escalate", reasoner_keys, &s->escalate, err);
    if (status == DRR_OK && !s->escalate.source)
        return wrong(s, "escalate", err, "[escalate] needs a source: a model's name, a file or an address");
    if (status == DRR_OK && s->escalate.prompts)
        return wrong(s, "escalate", err,
                     "[escalate] takes no prompts: the second reasoner is asked in the first one's words");
    return status;
}

/* By its path, or made of traces: keys of the one mean nothing for the other. */
static drr_status check_critic(suite *s, suite_critic *c, json_t *table, const char *where, drr_error *err)
{
    const char *key;
    json_t *value;
    if (!c->path == !c->train.traces)
        return wrong(s, where, err, "[[critic]] needs a path, or traces and folds to make one of for each fold%s",
                     c->path ? ", and not both" : "");
    if (c->train.traces && !c->folds)
        return wrong(s, where, err,
                     "[[critic]] with traces needs folds = K, of which each is judged by a critic of its "
                     "own: drr train makes one critic for all");
    json_object_foreach(table, key, value)
    {
        char at[160];
        snprintf(at, sizeof at, "%s.%.100s", where, key);
        if (c->path && strcmp(key, "path") != 0 && strcmp(key, "name") != 0)
            return wrong(s, at, err, "%.60s is of a critic that is made here, of traces; this one has a path", key);
    }
    if (!c->name && !(c->name = stem_of(s, c->path ? c->path : c->train.traces)))
        return error_memory(err);
    return DRR_OK;
}

static drr_status read_critics(suite *s, drr_error *err)
{
    drr_status status = count_list(s, "critic", &s->n_critics, err);
    for (size_t i = 0; i < s->n_critics && status == DRR_OK; i++) {
        char where[40];
        suite_critic *c = &s->critics[i];
        snprintf(where, sizeof where, "critic[%zu]", i);
        drr_train_options_defaults(&c->train);
        json_t *table = json_array_get(json_object_get(s->root, "critic"), i);
        status = take_table(s, table, where, critic_keys, c, err);
        if (status == DRR_OK)
            status = check_critic(s, c, table, where, err);
    }
    return status;
}

static drr_status read_judges(suite *s, drr_error *err)
{
    size_t n = 0;
    drr_status status = count_list(s, "judge", &n, err);
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        char where[40];
        snprintf(where, sizeof where, "judge[%zu]", i);
        if (s->n_critics == MOST_LISTED)
            return wrong(s, where, err, "%d critics and judges are the most", MOST_LISTED);
        suite_critic *c = &s->critics[s->n_critics++];
        drr_judge_options_defaults(&c->options);
        status = take_table(s, json_array_get(json_object_get(s->root, "judge"), i), where, judge_keys, c, err);
        if (status == DRR_OK && !c->source)
            status = wrong(s, where, err, "[[judge]] needs a source: self, length, logprob, vote or an address");
        if (status == DRR_OK && !c->name)
            c->name = strstr(c->source, "://") ? "remote" : stem_of(s, c->source);
        if (status == DRR_OK && !c->name)
            status = error_memory(err);
    }
    return status == DRR_OK ? check_names(s, n ? "judge" : "critic", s->critics, s->n_critics, sizeof *s->critics, err)
                            : status;
}

/* ---- strategies, and budgets that cannot be */

static bool draws_samples(drr_strategy strategy)
{
    return strategy == DRR_STRATEGY_VOTE || strategy == DRR_STRATEGY_BEST_OF_N;
}

static drr_status check_budget(const suite *s, const drr_policy *p, const char *where, drr_error *err)
{
    const bool samples = draws_samples(p->strategy);
    const uint32_t least = p->strategy == DRR_STRATEGY_COT ? 1 : samples ? p->samples : p->max_turns;
    char key[64];
    snprintf(key, sizeof key, "%s.max_tokens", where);
    if (p->max_tokens && p->max_tokens < least)
        return wrong(s, key, err, "a budget of %llu tokens cannot hold %u %s of a token each",
                     (unsigned long long)p->max_tokens, least, samples ? "samples" : "turns");
    snprintf(key, sizeof key, "%s.turn_tokens", where);
    for (size_t i = 0; i < s->n_reasoners; i++)
        if (s->reasoners[i].options.context && p->turn_tokens >= s->reasoners[i].options.context)
            return wrong(s, key, err,
                         "turns of %u tokens do not fit into the context of %u that %s has, question included",
                         p->turn_tokens, s->reasoners[i].options.context, s->reasoners[i].name);
    return DRR_OK;
}

/* In every part of the study. */
static bool has_question_critic(const suite *s)
{
    bool all = s->n_critics > 0;
    for (size_t i = 0; i < s->n_critics; i++)
        all = all && s->critics[i].with_question_critic;
    return s->question_critic || all;
}

static drr_status read_strategy(suite *s, size_t i, const drr_policy *common, drr_error *err)
{
    char where[40], key[60];
    drr_error why = {0};
    drr_eval_entry *entry = &s->entries[i];
    json_t *table = json_array_get(json_object_get(s->root, "strategy"), i);
    snprintf(where, sizeof where, "strategy[%zu]", i);
    entry->policy = *common;
    drr_status status = take_table(s, table, where, strategy_keys, &entry->policy, err);
    if (status != DRR_OK)
        return status;
    const char *strategy = json_string_or(table, "strategy", json_string_or(table, "name", NULL));
    snprintf(key, sizeof key, "%s.%s", where, json_object_get(table, "strategy") ? "strategy" : "name");
    if (!strategy)
        return wrong(s, where, err, "[[strategy]] needs a strategy: cot, self-critique, vote, best-of-n or drr");
    if (drr_strategy_parse(&entry->policy.strategy, strategy, &why) != DRR_OK)
        return wrong(s, key, err, "%s", why.message);
    entry->name = json_string_or(table, "name", strategy);
    if (s->n_critics == 0 &&
        (entry->policy.strategy == DRR_STRATEGY_DRR || entry->policy.strategy == DRR_STRATEGY_BEST_OF_N))
        return wrong(s, where, err,
                     "the strategy %s needs a critic: add [[critic]] and its path, or a [[judge]] and its source",
                     strategy);
    if (!has_question_critic(s) && (!isnan(entry->policy.sure_above) || entry->policy.parallel_below > 0 ||
                                    entry->policy.hopeless_below > 0 || entry->policy.give_up_below > 0))
        return wrong(s, where, err,
                     "sure_above, parallel_below, hopeless_below and give_up_below need question_critic = \"FILE\" at "
                     "the top, or with_question_critic = true in each [[critic]]");
    return check_budget(s, &entry->policy, where, err);
}

static drr_status read_strategies(suite *s, drr_error *err)
{
    drr_policy common;
    json_t *table = json_object_get(s->root, "policy");
    drr_policy_defaults(&common);
    drr_status status = count_list(s, "strategy", &s->n_entries, err);
    if (status == DRR_OK && table)
        status = take_table(s, table, "policy", policy_keys, &common, err);
    for (size_t i = 0; i < s->n_entries && status == DRR_OK; i++)
        status = read_strategy(s, i, &common, err);
    return status == DRR_OK ? check_names(s, "strategy", s->entries, s->n_entries, sizeof *s->entries, err) : status;
}

/* "tokens", "calls", or "tokens:drr" */
static drr_status read_equal_budget(suite *s, drr_error *err)
{
    const json_t *value = json_object_get(s->root, "equal_budget");
    const char *text = json_string_value(value);
    if (!value)
        return DRR_OK;
    if (!drr_budget_parse(&s->equal_budget, &s->budget_of, text ? text : ""))
        return wrong(s, "equal_budget", err,
                     "equal_budget is \"calls\" or \"tokens\", and a strategy's name behind a colon (\"tokens:drr\")");
    for (size_t i = 0; s->budget_of && i < s->n_entries; i++)
        if (strcmp(s->entries[i].name, s->budget_of) == 0)
            return DRR_OK;
    return s->budget_of ? wrong(s, "equal_budget", err, "equal_budget names %s, which is no [[strategy]] of this suite",
                                s->budget_of)
                        : DRR_OK;
}

static drr_status read_seeds(suite *s, drr_error *err)
{
    const json_t *list = json_object_get(s->root, "seeds");
    drr_policy usual;
    drr_policy_defaults(&usual);
    s->seeds[0] = usual.seed;
    s->n_seeds = list ? json_array_size(list) : 1;
    if (list && (!json_is_array(list) || s->n_seeds == 0 || s->n_seeds > MOST_LISTED))
        return wrong(s, "seeds", err, "seeds is a list of 1 to %d whole numbers: [0, 1]", MOST_LISTED);
    for (size_t i = 0; list && i < s->n_seeds; i++) {
        const json_t *seed = json_array_get(list, i);
        if (!json_is_integer(seed) || json_integer_value(seed) < 0)
            return wrong(s, "seeds", err, "seeds is a list of 1 to %d whole numbers: [0, 1]", MOST_LISTED);
        s->seeds[i] = (uint64_t)json_integer_value(seed);
        for (size_t k = 0; k < i; k++)
            if (s->seeds[k] == s->seeds[i])
                return wrong(s, "seeds", err, "the seed %llu is there twice", (unsigned long long)s->seeds[i]);
    }
    return DRR_OK;
}

drr_status suite_read(suite *s, const char *path, drr_error *err)
{
    *s = (suite){.path = path, .bootstrap = 10000, .strings = arena_new(0)};
    drr_status status = s->strings ? toml_read(&s->root, &s->lines, path, err) : error_memory(err);
    if (status == DRR_OK)
        status = take_table(s, s->root, "", top_keys, s, err);
    if (status == DRR_OK)
        status = read_seeds(s, err);
    if (status == DRR_OK)
        status = read_data(s, err);
    if (status == DRR_OK)
        status = read_reasoners(s, err);
    if (status == DRR_OK)
        status = read_escalate(s, err);
    if (status == DRR_OK)
        status = read_critics(s, err);
    if (status == DRR_OK)
        status = read_judges(s, err);
    if (status == DRR_OK)
        status = read_strategies(s, err);
    if (status == DRR_OK)
        status = read_equal_budget(s, err);
    if (status == DRR_OK && (s->n_data == 0 || s->n_reasoners == 0 || s->n_entries == 0))
        status = error_set(err, DRR_E_FORMAT, "%s has no [[%s]]: a study needs data, a reasoner and a strategy", path,
                           s->n_data == 0        ? "data"
                           : s->n_reasoners == 0 ? "reasoner"
                                                 : "strategy");
    if (status != DRR_OK)
        suite_clear(s);
    return status;
}

void suite_clear(suite *s)
{
    json_decref(s->root);
    json_decref(s->lines);
    arena_free(s->strings);
    *s = (suite){0};
}
