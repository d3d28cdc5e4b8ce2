/* prompt.c: from a task to messages, and the words of feedback, critique and revision. The built-in wording can be
 * overridden in any part by a JSON file (docs/formats.md, "Prompts file"). Chat templates are the reasoner's. */
#include "core/json.h"
#include "task/wording.h"

#include <stdlib.h>
#include <string.h>

struct drr_prompts {
    wording kinds[WORDING_KINDS];
    bool checked_is_own, later_is_own; /* later: words that distillation does not use */
    json_t *file;                      /* owns the overriding strings; NULL for the built-in ones */
    arena *grammars;                   /* grammars with their letters filled in, by number of choices */
    const char *choice_grammar[27];
    char id[13];
};

/* ---- the file */

static drr_status override_text(const char **text, json_t *object, const char *field, const char *where, drr_error *err)
{
    json_t *value = json_object_get(object, field);
    if (!value)
        return DRR_OK;
    if (json_is_null(value) && strcmp(field, "grammar") == 0) {
        *text = NULL;
        return DRR_OK;
    }
    if (!json_is_string(value))
        return error_set(err, DRR_E_FORMAT, "%s: the field \"%s\" is not a string", where, field);
    *text = json_string_value(value);
    return DRR_OK;
}

static drr_status override_examples(wording *w, json_t *list, const char *where, drr_error *err)
{
    if (!list)
        return DRR_OK;
    if (!json_is_array(list) || json_array_size(list) > WORDING_EXAMPLES)
        return error_set(err, DRR_E_FORMAT, "%s: \"examples\" must be a list of at most %d", where, WORDING_EXAMPLES);
    w->n_examples = json_array_size(list);
    for (size_t i = 0; i < w->n_examples; i++) {
        json_t *example = json_array_get(list, i);
        char place[320];
        snprintf(place, sizeof place, "%s: example %zu", where, i + 1);
        drr_status status = json_get_string(&w->examples[i].question, example, "question", place, err);
        if (status == DRR_OK)
            status = json_get_string(&w->examples[i].answer, example, "answer", place, err);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

static drr_status read_file(drr_prompts *p, const char *path, drr_error *err)
{
    static const char *const known[] = {"system",   "format",  "question", "feedback",       "feedback_unparsed",
                                        "critique", "revise",  "grammar",  "feedback_score", "feedback_step",
                                        "judge",    "examples"};
    drr_status status = json_parse_file(&p->file, path, err);
    if (status != DRR_OK)
        return status;
    if (!json_is_object(p->file))
        return error_set(err, DRR_E_FORMAT, "%s: a prompts file is one JSON object with a member for each kind", path);
    const char *kind_name;
    json_t *part;
    json_object_foreach(p->file, kind_name, part)
    {
        drr_kind kind;
        char where[256];
        snprintf(where, sizeof where, "%s: %s", path, kind_name);
        status = drr_kind_parse(&kind, kind_name, NULL);
        if (status != DRR_OK || !json_is_object(part))
            return error_set(err, DRR_E_FORMAT,
                             "%s is not a kind with an object of wording (kinds: choice, number, "
                             "boolean, text, checked)",
                             where);
        const char *field;
        json_t *ignored;
        json_object_foreach(part, field, ignored)
        {
            bool found = false;
            for (size_t i = 0; i < sizeof known / sizeof *known; i++)
                found = found || strcmp(field, known[i]) == 0;
            if (!found)
                return error_set(err, DRR_E_FORMAT, "%s: unknown field \"%s\"", where, field);
        }
        wording *w = &p->kinds[kind];
        p->checked_is_own = p->checked_is_own || kind == DRR_KIND_CHECKED;
        const struct {
            const char *name;
            const char **text;
        } texts[] = {{"system", &w->system},
                     {"format", &w->format},
                     {"question", &w->question},
                     {"feedback", &w->feedback},
                     {"feedback_unparsed", &w->feedback_unparsed},
                     {"critique", &w->critique},
                     {"revise", &w->revise},
                     {"grammar", &w->grammar},
                     {"feedback_score", &w->feedback_score},
                     {"feedback_step", &w->feedback_step},
                     {"judge", &w->judge}};
        enum { FIRST_LATER = 8 };
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            p->later_is_own = p->later_is_own || (i >= FIRST_LATER && json_object_get(part, texts[i].name));
            status = override_text(texts[i].text, part, texts[i].name, where, err);
            if (status != DRR_OK)
                return status;
        }
        if (!strstr(w->question, "{question}"))
            return error_set(err, DRR_E_FORMAT, "%s: \"question\" does not contain {question}", where);
        status = override_examples(w, json_object_get(part, "examples"), where, err);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

static void add_part(sha256 *h, const char *text)
{
    if (text)
        sha256_add(h, text, strlen(text));
    sha256_add(h, "", 1); /* the NUL: parts do not run together */
}

static void make_id(drr_prompts *p)
{
    sha256 h;
    char hex[65];
    sha256_begin(&h);
    for (size_t k = 0; k < WORDING_KINDS; k++) {
        const wording *w = &p->kinds[k];
        if (k == DRR_KIND_CHECKED && WORDING_CHECKED_REVISION == 1 && !p->checked_is_own)
            continue; /* the kind came later: ids of stores that were filled before it stay what they were */
        const char *const parts[] = {w->system,   w->format, w->question, w->feedback, w->feedback_unparsed,
                                     w->critique, w->revise, w->grammar};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            add_part(&h, parts[i]);
        for (size_t i = 0; i < w->n_examples; i++) {
            add_part(&h, w->examples[i].question);
            add_part(&h, w->examples[i].answer);
        }
    }
    /* They came later, too, and no trace of a store depends on them. */
    for (size_t k = 0; p->later_is_own && k < WORDING_KINDS; k++) {
        add_part(&h, p->kinds[k].feedback_score);
        add_part(&h, p->kinds[k].feedback_step);
        add_part(&h, p->kinds[k].judge);
    }
    sha256_end(&h, hex);
    snprintf(p->id, sizeof p->id, "%.12s", hex);
}

/* ---- filling in */

typedef struct place {
    const char *name, *value;
} place;

static drr_status fill_in(char **out, const char *template, const place *places, size_t n, drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_append(&b, "", 0, err);
    for (const char *p = template; status == DRR_OK && *p;) {
        size_t found = n;
        for (size_t i = 0; *p == '{' && i < n; i++)
            if (strncmp(p, places[i].name, strlen(places[i].name)) == 0)
                found = i;
        if (found < n) {
            status = buffer_puts(&b, places[found].value, err);
            p += strlen(places[found].name);
        } else {
            status = buffer_append(&b, p++, 1, err);
        }
    }
    if (status != DRR_OK) {
        buffer_clear(&b);
        return status;
    }
    *out = buffer_take(&b);
    return DRR_OK;
}

static drr_status make_grammars(drr_prompts *p, drr_error *err)
{
    const char *template = p->kinds[DRR_KIND_CHOICE].grammar;
    p->grammars = arena_new(0);
    if (!p->grammars)
        return error_memory(err);
    for (size_t n = 1; template && n <= 26; n++) {
        char letters[8], *grammar = NULL;
        snprintf(letters, sizeof letters, n == 1 ? "A" : "A-%c", (char)('A' + (int)n - 1));
        const place places[] = {{"{letters}", letters}};
        drr_status status = fill_in(&grammar, template, places, 1, err);
        if (status != DRR_OK)
            return status;
        p->choice_grammar[n] = arena_copy(p->grammars, grammar, strlen(grammar));
        free(grammar);
        if (!p->choice_grammar[n])
            return error_memory(err);
    }
    return DRR_OK;
}

drr_status drr_prompts_open(drr_prompts **prompts, const char *path, drr_error *err)
{
    drr_prompts *p = calloc(1, sizeof *p);
    if (!p)
        return error_memory(err);
    memcpy(p->kinds, wording_builtin, sizeof p->kinds);
    drr_status status = path ? read_file(p, path, err) : DRR_OK;
    if (status == DRR_OK)
        status = make_grammars(p, err);
    if (status != DRR_OK) {
        drr_prompts_free(p);
        return status;
    }
    make_id(p);
    *prompts = p;
    return DRR_OK;
}

void drr_prompts_free(drr_prompts *prompts)
{
    if (!prompts)
        return;
    json_decref(prompts->file);
    arena_free(prompts->grammars);
    free(prompts);
}

const char *drr_prompts_id(const drr_prompts *prompts)
{
    return prompts->id;
}

static drr_status question_for_prompt(char **text, const drr_task *task, drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_puts(&b, task->question, err);
    for (size_t i = 0; status == DRR_OK && task->kind == DRR_KIND_CHOICE && i < task->n_choices; i++)
        status = buffer_printf(&b, err, "\n%c) %s", (char)('A' + (int)i), task->choices[i]);
    if (status != DRR_OK) {
        buffer_clear(&b);
        return status;
    }
    *text = buffer_take(&b);
    return DRR_OK;
}

drr_status task_question_text(char **text, const drr_task *task, drr_error *err)
{
    buffer b = {0};
    drr_status status = buffer_puts(&b, task->question, err);
    for (size_t i = 0; status == DRR_OK && task->kind == DRR_KIND_CHOICE && i < task->n_choices; i++)
        status = buffer_printf(&b, err, " (%c) %s", (char)('A' + (int)i), task->choices[i]);
    if (status != DRR_OK) {
        buffer_clear(&b);
        return status;
    }
    *text = buffer_take(&b);
    return DRR_OK;
}

static drr_status add_filled(conversation *c, const char *role, const char *template, const char *question,
                             drr_error *err)
{
    char *text = NULL;
    const place places[] = {{"{question}", question}};
    drr_status status = fill_in(&text, template, places, 1, err);
    if (status == DRR_OK)
        status = conversation_add(c, role, text, err);
    free(text);
    return status;
}

drr_status prompts_ask(conversation *c, const drr_prompts *prompts, const drr_task *task, drr_error *err)
{
    const wording *w = &prompts->kinds[task->kind];
    char *question = NULL;
    drr_status status = *w->system ? conversation_add(c, "system", w->system, err) : DRR_OK; /* "": none */
    for (size_t i = 0; status == DRR_OK && i < w->n_examples; i++) {
        status = add_filled(c, "user", w->question, w->examples[i].question, err);
        if (status == DRR_OK)
            status = conversation_add(c, "assistant", w->examples[i].answer, err);
    }
    if (status == DRR_OK)
        status = question_for_prompt(&question, task, err);
    if (status == DRR_OK)
        status = add_filled(c, "user", w->question, question, err);
    free(question);
    return status;
}

drr_status drr_prompts_messages(drr_message **messages, size_t *n, const drr_prompts *prompts, const drr_task *task,
                                drr_error *err)
{
    conversation c = {0};
    drr_status status = prompts_ask(&c, prompts, task, err);
    if (status != DRR_OK) {
        conversation_clear(&c);
        return status;
    }
    *messages = c.messages;
    *n = c.n;
    return DRR_OK;
}

drr_status prompts_feedback(char **words, const drr_prompts *prompts, const drr_task *task, const char *answer,
                            drr_error *err)
{
    const wording *w = &prompts->kinds[task->kind];
    const place places[] = {{"{answer}", answer ? answer : ""}, {"{format}", w->format}};
    return fill_in(words, answer ? w->feedback : w->feedback_unparsed, places, 2, err);
}

drr_status prompts_reject(char **words, const drr_prompts *prompts, const drr_task *task, const char *answer,
                          const char *score, const char *step, drr_error *err)
{
    const wording *w = &prompts->kinds[task->kind];
    const place places[] = {{"{answer}", answer ? answer : ""},
                            {"{format}", w->format},
                            {"{score}", score ? score : ""},
                            {"{step}", step ? step : ""}};
    return fill_in(words, !answer ? w->feedback_unparsed : step ? w->feedback_step : w->feedback_score, places, 4, err);
}

drr_status prompts_judge(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err)
{
    return fill_in(words, prompts->kinds[task->kind].judge, NULL, 0, err);
}

drr_status prompts_critique(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err)
{
    const wording *w = &prompts->kinds[task->kind];
    const place places[] = {{"{format}", w->format}};
    return fill_in(words, w->critique, places, 1, err);
}

drr_status prompts_revise(char **words, const drr_prompts *prompts, const drr_task *task, drr_error *err)
{
    const wording *w = &prompts->kinds[task->kind];
    const place places[] = {{"{format}", w->format}};
    return fill_in(words, w->revise, places, 1, err);
}

const char *prompts_grammar(const drr_prompts *prompts, const drr_task *task)
{
    if (task->kind != DRR_KIND_CHOICE)
        return prompts->kinds[task->kind].grammar;
    return task->n_choices >= 1 && task->n_choices <= 26 ? prompts->choice_grammar[task->n_choices] : NULL;
}
