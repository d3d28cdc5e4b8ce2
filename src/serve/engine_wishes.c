/* engine_wishes.c: what a body may say to the loop, the "drr" object, and what the engine itself needs of a body. What
 * cannot be is refused with the name of the parameter; whatever else a body holds is the upstream's affair. */
#include "serve/engine_internal.h"

#include <math.h>
#include <string.h>

static bool refuse(refusal *r, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool refuse(refusal *r, const char *param, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->message, sizeof r->message, format, arguments);
    va_end(arguments);
    snprintf(r->param, sizeof r->param, "%s", param);
    r->status = 400;
    return false;
}

/* ---- values */

static bool to_count(uint32_t *to, json_t *value, const char *param, uint32_t least, uint32_t most, refusal *r)
{
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (!json_is_integer(value) || n < (json_int_t)least || n > (json_int_t)most)
        return refuse(r, param, "%s must be a whole number from %u to %u", param, least, most);
    *to = (uint32_t)n;
    return true;
}

static bool to_share(double *to, json_t *value, const char *param, refusal *r)
{
    const double x = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(x >= 0 && x <= 1))
        return refuse(r, param, "%s must be a number from 0 to 1", param);
    *to = x;
    return true;
}

static bool to_bool(bool *to, json_t *value, const char *param, refusal *r)
{
    if (!json_is_boolean(value))
        return refuse(r, param, "%s must be true or false", param);
    *to = json_is_true(value);
    return true;
}

static bool to_choice(int *to, json_t *value, const char *param, const char *const *names, int n, refusal *r)
{
    char list[200] = "";
    for (int i = 0; i < n; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0) {
            *to = i;
            return true;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i ? ", " : "", names[i]);
    }
    return refuse(r, param, "%s must be one of %s", param, list);
}

static bool to_choices(json_t **to, json_t *value, const char *param, refusal *r)
{
    json_t *item;
    size_t i;
    if (!json_is_array(value) || json_array_size(value) < 2 || json_array_size(value) > ENGINE_MOST_CHOICES)
        return refuse(r, param, "%s must be a list of 2 to %d texts", param, ENGINE_MOST_CHOICES);
    json_array_foreach(value, i, item) if (!json_is_string(item)) return refuse(r, param, "%s[%zu] must be a text",
                                                                                param, i);
    *to = value;
    return true;
}

/* ---- the object */

static const char *const kind_names[] = {"choice", "number", "boolean", "text", "checked"};
static const char *const feedback_names[] = {"words", "restart", "score"};
static const char *const mode_names[] = {"hold", "live"};
static const char *const abstain_names[] = {"content", "refusal"};

/* True: a field of this name exists; *good says whether its value can be. */
static bool read_field(wishes *w, const char *name, const char *param, json_t *value, bool *good, refusal *r)
{
    engine_policy *p = &w->policy;
    int at = 0;
    if (strcmp(name, "max_turns") == 0) {
        *good = to_count(&p->max_turns, value, param, 1, ENGINE_MOST_TURNS, r);
    } else if (strcmp(name, "samples") == 0) {
        *good = to_count(&p->samples, value, param, 1, ENGINE_MOST_TURNS, r);
    } else if (strcmp(name, "max_tokens") == 0) {
        uint32_t n = 0;
        *good = to_count(&n, value, param, 0, INT32_MAX, r);
        p->max_tokens = n;
    } else if (strcmp(name, "deadline_ms") == 0) {
        *good = to_count(&p->deadline_ms, value, param, 0, INT32_MAX, r);
    } else if (strcmp(name, "threshold") == 0) {
        *good = to_share(&p->threshold, value, param, r);
    } else if (strcmp(name, "target_error") == 0) {
        *good = to_share(&w->target_error, value, param, r);
    } else if (strcmp(name, "on_exhausted") == 0 || strcmp(name, "on_reject") == 0) {
        *good = to_choice(&at, value, param, drr_exhausted_names, 4, r);
        p->on_exhausted = (drr_exhausted)at;
    } else if (strcmp(name, "feedback") == 0) {
        const char *word = json_is_string(value) ? json_string_value(value) : "";
        if (strcmp(word, "step") == 0) {
            *good = refuse(r, param, "%s: %s", param, ENGINE_NO_STEPS);
            return true;
        }
        at = json_is_false(value);
        *good = json_is_boolean(value) || to_choice(&at, value, param, feedback_names, 3, r);
        p->feedback = (drr_feedback)at;
    } else if (strcmp(name, "shadow") == 0) {
        *good = to_bool(&p->shadow, value, param, r);
    } else if (strcmp(name, "judge") == 0) {
        *good = to_bool(&w->judge, value, param, r);
    } else if (strcmp(name, "stream_mode") == 0) {
        *good = to_choice(&at, value, param, mode_names, 2, r);
        p->live = at == 1;
    } else if (strcmp(name, "kind") == 0) {
        *good = to_choice(&w->kind, value, param, kind_names, 5, r);
    } else if (strcmp(name, "choices") == 0) {
        *good = to_choices(&w->choices, value, param, r);
    } else if (strcmp(name, "abstain_as") == 0) {
        *good = to_choice(&at, value, param, abstain_names, 2, r);
        p->abstain_refusal = at == 1;
    } else if (strcmp(name, "abstain_text") == 0) {
        *good = json_is_string(value) || refuse(r, param, "%s must be a text", param);
        p->abstain_text = *good ? json_string_value(value) : p->abstain_text;
    } else {
        return false;
    }
    return true;
}

bool wishes_read(wishes *w, json_t *object, refusal *r)
{
    const char *name;
    json_t *value;
    if (!object || json_is_null(object))
        return true;
    if (!json_is_object(object))
        return refuse(r, "drr", "drr must be an object, such as {\"max_turns\": 3}");
    json_object_foreach(object, name, value)
    {
        char param[64];
        bool good = false;
        snprintf(param, sizeof param, "drr.%.50s", name);
        if (json_is_null(value))
            continue;
        if (!read_field(w, name, param, value, &good, r))
            return refuse(r, param,
                          "%s is unknown: drr takes max_turns, samples, max_tokens, deadline_ms, threshold, "
                          "target_error, on_exhausted, feedback, shadow, judge, stream_mode, kind, choices, abstain_as "
                          "and abstain_text",
                          param);
        if (!good)
            return false;
    }
    if (w->choices && w->kind >= 0 && w->kind != DRR_KIND_CHOICE)
        return refuse(r, "drr.choices", "drr.choices are there, and drr.kind is not \"choice\"");
    if (!isnan(w->target_error) && json_object_get(object, "threshold"))
        return refuse(r, "drr.target_error", "drr.target_error chooses the threshold: leave drr.threshold out");
    if (!isnan(w->target_error) && w->target_error <= 0)
        return refuse(r, "drr.target_error", "drr.target_error must be above 0");
    return true;
}

/* ---- the body */

static bool check_messages(json_t *messages, bool embedded, refusal *r)
{
    json_t *message;
    size_t i;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return refuse(r, "messages", "messages must be a list of at least one message");
    json_array_foreach(messages, i, message)
    {
        char param[64];
        snprintf(param, sizeof param, "messages[%zu]", i);
        const char *role = json_is_object(message) ? json_string_or(message, "role", NULL) : NULL;
        json_t *content = json_object_get(message, "content"), *part;
        size_t k;
        if (!role)
            return refuse(r, param, "%s must be an object with a role", param);
        if (!embedded)
            continue;
        if (strcmp(role, "system") != 0 && strcmp(role, "developer") != 0 && strcmp(role, "user") != 0 &&
            strcmp(role, "assistant") != 0)
            return refuse(r, param, "%s has the role \"%.40s\"; the embedded model knows system, user and assistant",
                          param, role);
        if (!json_is_string(content) && !json_is_array(content))
            return refuse(r, param, "%s has no text", param);
        json_array_foreach(content, k, part) if (!json_string_or(part, "text", NULL)) return refuse(
            r, param, "%s holds something that is not text, which the embedded model cannot read", param);
    }
    return true;
}

static bool check_number(json_t *body, const char *name, double least, double most, refusal *r)
{
    json_t *value = json_object_get(body, name);
    if (!value || json_is_null(value))
        return true;
    const double x = json_is_number(value) ? json_number_value(value) : NAN;
    return (x >= least && x <= most) || refuse(r, name, "%s must be a number from %g to %g", name, least, most);
}

static bool present(json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    return value && !json_is_null(value) && !json_is_false(value) && !(json_is_array(value) && !json_array_size(value));
}

static bool check_embedded(json_t *body, refusal *r)
{
    static const char *const cannot[] = {"tools", "functions", "logprobs", "logit_bias", "modalities", "audio"};
    const char *format = json_string_or(json_object_get(body, "response_format"), "type", "text");
    json_t *stop = json_object_get(body, "stop"), *grammar = json_object_get(body, "grammar"), *item;
    size_t i;
    for (i = 0; i < sizeof cannot / sizeof *cannot; i++)
        if (present(body, cannot[i])) {
            refuse(r, cannot[i], "the embedded model does not do %s; put llama-server behind --upstream for that",
                   cannot[i]);
            r->status = 501;
            return false;
        }
    if (strcmp(format, "text") != 0) {
        refuse(r, "response_format", "the embedded model answers in plain text alone");
        r->status = 501;
        return false;
    }
    if (grammar && !json_is_null(grammar) && !json_is_string(grammar))
        return refuse(r, "grammar", "grammar must be a text (GBNF)");
    if (json_number_or(body, "n", 1) != 1)
        return refuse(r, "n", "the embedded model gives one answer: n must be 1");
    if (stop && !json_is_null(stop) && !json_is_string(stop)) {
        if (!json_is_array(stop) || json_array_size(stop) > 8)
            return refuse(r, "stop", "stop must be a text or a list of at most 8");
        json_array_foreach(stop, i, item) if (!json_is_string(item)) return refuse(
            r, "stop", "stop must be a text or a list of texts");
    }
    return check_number(body, "temperature", 0, 2, r) && check_number(body, "top_p", 0, 1, r) &&
           check_number(body, "max_tokens", 1, INT32_MAX, r) &&
           check_number(body, "max_completion_tokens", 1, INT32_MAX, r) && check_number(body, "seed", -9e18, 9e18, r);
}

bool body_check(json_t *body, bool embedded, refusal *r)
{
    json_t *model = json_object_get(body, "model"), *stream = json_object_get(body, "stream"),
           *n = json_object_get(body, "n");
    if (!json_is_object(body))
        return refuse(r, "", "the body must be a JSON object");
    if (model && !json_is_null(model) && !json_is_string(model))
        return refuse(r, "model", "model must be a text");
    if (stream && !json_is_null(stream) && !json_is_boolean(stream))
        return refuse(r, "stream", "stream must be true or false");
    if (n && !json_is_null(n) && (!json_is_integer(n) || json_integer_value(n) < 1))
        return refuse(r, "n", "n must be a whole number of at least 1");
    return check_messages(json_object_get(body, "messages"), embedded, r) && (!embedded || check_embedded(body, r));
}
