/* hf_meta.c: drr.json, all of a critic that transformers has no place for: threshold, calibration, stack, guarantees,
 * probes and what it was trained on. */
#include "critic/hf_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- out */

static json_t *numbers_json(const double *values, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *line_json(const platt *line, const curve *steps)
{
    json_t *o = json_pack("{s:f, s:f}", "a", line->a, "b", line->b);
    if (o && steps->n) {
        json_object_set_new(o, "x", numbers_json(steps->x, steps->n));
        json_object_set_new(o, "y", numbers_json(steps->y, steps->n));
    }
    return o;
}

static json_t *stack_json(const critic_meta *m)
{
    const stack_model *stack = &m->stack;
    json_t *features = json_array();
    for (uint32_t i = 0; i < stack->n; i++)
        json_array_append_new(features,
                              json_pack("{s:s, s:f, s:f, s:f}", "name", stack_feature_name(i), "mean", stack->mean[i],
                                        "scale", stack->scale[i], "weight", stack->weight[i]));
    return json_pack("{s:o, s:f, s:o}", "features", features, "bias", stack->bias, "calibration",
                     m->has_stack_calibration ? line_json(&m->stack_calibration.line, &m->stack_calibration.steps)
                                              : json_null());
}

static json_t *guarantees_json(const critic_meta *m)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < m->n_guarantees; i++) {
        const drr_guarantee *g = &m->guarantees[i];
        json_array_append_new(list, json_pack("{s:I, s:f, s:f, s:f, s:s, s:o, s:I, s:I, s:I, s:f, s:f}", "turns",
                                              (json_int_t)g->turns, "target_error", g->target_error, "delta", g->delta,
                                              "threshold", g->threshold, "test", drr_risk_test_name(g->test),
                                              "temperature", json_number_or_null(g->temperature), "n", (json_int_t)g->n,
                                              "n_accepted", (json_int_t)g->n_accepted, "n_wrong",
                                              (json_int_t)g->n_wrong, "p_value", g->p_value, "bound", g->bound));
    }
    return list;
}

static json_t *probes_json(const critic_meta *m)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < m->n_probes; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:f}", "question", m->probes[i].question, "text",
                                              m->probes[i].text, "logit", m->probes[i].logit));
    return list;
}

static json_t *scores_json(const critic_meta *m)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < m->n_quantiles; i++)
        json_array_append_new(list, json_real(m->quantiles[i]));
    return json_pack("{s:I, s:o}", "n", (json_int_t)m->n_scores, "quantiles", list);
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

json_t *critic_meta_json(const critic_meta *m, drr_head head, const char *digest)
{
    char seed[24]; /* a string: JSON numbers lose digits past 2^53 in many readers */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)m->seed);
    json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:s, s:o, s:s}",
                          "format_version", 1, "name", or_empty(m->name), "sha256", digest, "reasoner",
                          or_empty(m->reasoner), "prompt", or_empty(m->prompt), "encoder", or_empty(m->encoder),
                          "tasks", or_empty(m->tasks), "created", or_empty(m->created), "threshold", m->threshold,
                          "max_length", (json_int_t)m->max_length, "n_train_questions",
                          (json_int_t)m->n_train_questions, "n_train_traces", (json_int_t)m->n_train_traces, "seed",
                          seed, "calibration", line_json(&m->calibration, &m->text_curve), "input",
                          "question and text as a pair, all of token type 0; docs/model.md says how it is cut");
    if (o)
        json_object_set_new(o, "stack", m->has_stack ? stack_json(m) : json_null());
    if (o)
        json_object_set_new(o, "guarantees", guarantees_json(m));
    if (o && head == DRR_HEAD_TOKEN) {
        json_object_set_new(o, "head", json_string(drr_head_name(head)));
        json_object_set_new(o, "read",
                            json_string("the logit of the text is that of the last token, [SEP]; of a step, "
                                        "that of its last token"));
        json_object_set_new(o, "n_train_steps", json_integer((json_int_t)m->n_train_steps));
    }
    if (o && m->n_train_beginnings)
        json_object_set_new(o, "n_train_beginnings", json_integer((json_int_t)m->n_train_beginnings));
    if (o)
        json_object_set_new(o, "probes", probes_json(m));
    if (o && m->n_quantiles)
        json_object_set_new(o, "scores", scores_json(m));
    return o;
}

/* ---- back */

static drr_status take_text(char **text, json_t *o, const char *field, drr_error *err)
{
    *text = string_copy(json_string_or(o, field, ""));
    return *text ? DRR_OK : error_memory(err);
}

static drr_status take_count(uint64_t *count, json_t *o, const char *field, const char *where, drr_error *err)
{
    json_t *value = json_object_get(o, field);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return error_set(err, DRR_E_FORMAT, "%s: \"%s\" is not a whole number of 0 or more", where, field);
    *count = (uint64_t)json_integer_value(value);
    return DRR_OK;
}

static drr_status take_small(uint32_t *count, json_t *o, const char *field, const char *where, drr_error *err)
{
    uint64_t wide = 0;
    drr_status status = take_count(&wide, o, field, where, err);
    if (status == DRR_OK && wide > INT32_MAX)
        status = error_set(err, DRR_E_FORMAT, "%s: \"%s\" is too large", where, field);
    *count = (uint32_t)wide;
    return status;
}

static drr_status take_member(json_t **member, json_t *o, const char *field, const char *where, drr_error *err)
{
    *member = json_object_get(o, field);
    return json_is_object(*member) ? DRR_OK : error_set(err, DRR_E_FORMAT, "%s: \"%s\" is not an object", where, field);
}

static drr_status take_knots(double *values, uint32_t *n, json_t *o, const char *field, const char *where,
                             drr_error *err)
{
    json_t *list = json_object_get(o, field);
    *n = (uint32_t)json_array_size(list);
    if (*n > CURVE_MOST_KNOTS)
        return error_set(err, DRR_E_FORMAT, "%s: \"%s\" has %u items, and %d are the most", where, field, *n,
                         CURVE_MOST_KNOTS);
    for (uint32_t i = 0; i < *n; i++)
        values[i] = json_is_number(json_array_get(list, i)) ? json_number_value(json_array_get(list, i)) : NAN;
    return DRR_OK;
}

static drr_status take_line(platt *line, curve *steps, json_t *o, const char *where, drr_error *err)
{
    uint32_t n = 0;
    drr_status status = json_get_number(&line->a, o, "a", where, err);
    if (status == DRR_OK)
        status = json_get_number(&line->b, o, "b", where, err);
    if (status == DRR_OK)
        status = take_knots(steps->x, &steps->n, o, "x", where, err);
    if (status == DRR_OK)
        status = take_knots(steps->y, &n, o, "y", where, err);
    if (status == DRR_OK && n != steps->n)
        status = error_set(err, DRR_E_FORMAT, "%s: a calibration has %u values of \"x\" and %u of \"y\"", where,
                           steps->n, n);
    return status;
}

static drr_status take_feature(stack_model *stack, uint32_t i, json_t *o, const char *where, drr_error *err)
{
    const char *name;
    drr_status status = json_get_string(&name, o, "name", where, err);
    if (status == DRR_OK && (!stack_feature_name(i) || strcmp(name, stack_feature_name(i)) != 0))
        status = error_set(err, DRR_E_MISMATCH,
                           "%s: feature %u of the stack is \"%.40s\", and this drr has \"%s\" there; use the drr that "
                           "wrote it",
                           where, i + 1, name, stack_feature_name(i) ? stack_feature_name(i) : "none");
    if (status == DRR_OK)
        status = json_get_number(&stack->mean[i], o, "mean", where, err);
    if (status == DRR_OK)
        status = json_get_number(&stack->scale[i], o, "scale", where, err);
    return status == DRR_OK ? json_get_number(&stack->weight[i], o, "weight", where, err) : status;
}

static drr_status take_stack(critic_meta *m, json_t *o, const char *where, drr_error *err)
{
    json_t *features = json_object_get(o, "features"), *calibrated = json_object_get(o, "calibration");
    const size_t n = json_array_size(features);
    if (n == 0 || n > STACK_MAX_FEATURES)
        return error_set(err, DRR_E_FORMAT, "%s: the stack has %zu features; 1 to %d are possible", where, n,
                         STACK_MAX_FEATURES);
    m->has_stack = true;
    m->stack.n = (uint32_t)n;
    drr_status status = json_get_number(&m->stack.bias, o, "bias", where, err);
    for (uint32_t i = 0; status == DRR_OK && i < n; i++)
        status = take_feature(&m->stack, i, json_array_get(features, i), where, err);
    if (status == DRR_OK && json_is_object(calibrated)) {
        m->has_stack_calibration = true;
        status = take_line(&m->stack_calibration.line, &m->stack_calibration.steps, calibrated, where, err);
    }
    return status;
}

static drr_status take_guarantee(drr_guarantee *g, json_t *o, const char *where, drr_error *err)
{
    const char *test = NULL;
    *g = (drr_guarantee){.found = true, .temperature = json_number_or(o, "temperature", NAN)};
    const struct {
        double *value;
        const char *field;
    } shares[] = {{&g->target_error, "target_error"},
                  {&g->delta, "delta"},
                  {&g->threshold, "threshold"},
                  {&g->p_value, "p_value"},
                  {&g->bound, "bound"}};
    const struct {
        uint64_t *value;
        const char *field;
    } counts[] = {{&g->n, "n"}, {&g->n_accepted, "n_accepted"}, {&g->n_wrong, "n_wrong"}};
    drr_status status = take_small(&g->turns, o, "turns", where, err);
    for (size_t i = 0; status == DRR_OK && i < sizeof shares / sizeof *shares; i++)
        status = json_get_number(shares[i].value, o, shares[i].field, where, err);
    for (size_t i = 0; status == DRR_OK && i < sizeof counts / sizeof *counts; i++)
        status = take_count(counts[i].value, o, counts[i].field, where, err);
    if (status == DRR_OK)
        status = json_get_string(&test, o, "test", where, err);
    if (status != DRR_OK)
        return status;
    return critic_risk_test(&g->test, test)
               ? DRR_OK
               : error_set(err, DRR_E_MISMATCH, "%s: a guarantee's \"test\" is \"%.40s\", which this drr does not know",
                           where, test);
}

static drr_status take_guarantees(critic_meta *m, json_t *list, const char *where, drr_error *err)
{
    const size_t n = json_array_size(list);
    if (n > DRR_GUARANTEES)
        return error_set(err, DRR_E_FORMAT, "%s: there are %zu guarantees, and %d are the most", where, n,
                         DRR_GUARANTEES);
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        status = take_guarantee(&m->guarantees[i], json_array_get(list, i), where, err);
    m->n_guarantees = (uint32_t)n;
    return status;
}

static drr_status take_probes(critic_meta *m, json_t *list, const char *where, drr_error *err)
{
    const size_t n = json_array_size(list);
    drr_status status = DRR_OK;
    if (n > CRITIC_MOST_PROBES)
        return error_set(err, DRR_E_FORMAT, "%s: there are %zu probes, and %d are the most", where, n,
                         CRITIC_MOST_PROBES);
    for (size_t i = 0; status == DRR_OK && i < n; i++) {
        json_t *item = json_array_get(list, i);
        critic_probe *p = &m->probes[m->n_probes++];
        const char *question = NULL, *text = NULL;
        status = json_get_string(&question, item, "question", where, err);
        if (status == DRR_OK)
            status = json_get_string(&text, item, "text", where, err);
        if (status == DRR_OK)
            status = json_get_number(&p->logit, item, "logit", where, err);
        if (status != DRR_OK)
            break;
        p->question = string_copy(question);
        p->text = string_copy(text);
        if (!p->question || !p->text)
            status = error_memory(err);
    }
    return status;
}

static drr_status take_scores(critic_meta *m, json_t *scores, const char *where, drr_error *err)
{
    json_t *list = json_object_get(scores, "quantiles");
    const size_t n = json_array_size(list);
    if (!scores)
        return DRR_OK;
    drr_status status = take_count(&m->n_scores, scores, "n", where, err);
    if (status != DRR_OK)
        return status;
    bool good = n >= 2 && n <= CRITIC_MOST_QUANTILES;
    for (size_t i = 0; good && i < n; i++) {
        good = json_is_number(json_array_get(list, i));
        m->quantiles[i] = json_number_value(json_array_get(list, i));
    }
    m->n_quantiles = good ? (uint32_t)n : 0;
    return good && critic_quantiles_are_good(m)
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT,
                           "%s: \"scores\" has no 2 to %d \"quantiles\" that rise, of an \"n\" above 0", where,
                           CRITIC_MOST_QUANTILES);
}

static drr_status take_names(critic_meta *m, json_t *o, drr_error *err)
{
    const struct {
        char **text;
        const char *field;
    } texts[] = {{&m->name, "name"},       {&m->reasoner, "reasoner"}, {&m->prompt, "prompt"},
                 {&m->encoder, "encoder"}, {&m->tasks, "tasks"},       {&m->created, "created"}};
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < sizeof texts / sizeof *texts; i++)
        status = take_text(texts[i].text, o, texts[i].field, err);
    return status;
}

static drr_status take_head(critic_meta *m, drr_head head, json_t *o, const char *where, drr_error *err)
{
    const char *name = json_string_or(o, "head", drr_head_name(DRR_HEAD_CLS));
    if (strcmp(name, drr_head_name(head)) != 0)
        return error_set(
            err, DRR_E_MISMATCH,
            "%s says that the head is \"%.40s\", and config.json beside it \"%s\"; export the critic again", where,
            name, drr_head_name(head));
    drr_status status = DRR_OK;
    if (json_object_get(o, "n_train_beginnings"))
        status = take_count(&m->n_train_beginnings, o, "n_train_beginnings", where, err);
    if (status == DRR_OK && head == DRR_HEAD_TOKEN)
        status = take_count(&m->n_train_steps, o, "n_train_steps", where, err);
    return status;
}

drr_status critic_meta_parse(critic_meta *m, drr_head head, json_t *o, const char *where, drr_error *err)
{
    json_t *line = NULL, *stack = json_object_get(o, "stack");
    *m = (critic_meta){0};
    drr_status status = take_names(m, o, err);
    if (status == DRR_OK)
        status = take_head(m, head, o, where, err);
    if (status == DRR_OK)
        status = json_get_number(&m->threshold, o, "threshold", where, err);
    if (status == DRR_OK)
        status = take_small(&m->max_length, o, "max_length", where, err);
    if (status == DRR_OK)
        status = take_count(&m->n_train_questions, o, "n_train_questions", where, err);
    if (status == DRR_OK)
        status = take_count(&m->n_train_traces, o, "n_train_traces", where, err);
    if (status == DRR_OK)
        status = take_member(&line, o, "calibration", where, err);
    if (status == DRR_OK)
        status = take_line(&m->calibration, &m->text_curve, line, where, err);
    if (status == DRR_OK && json_is_object(stack))
        status = take_stack(m, stack, where, err);
    m->seed = strtoull(json_string_or(o, "seed", "0"), NULL, 10);
    if (status == DRR_OK)
        status = take_probes(m, json_object_get(o, "probes"), where, err);
    if (status == DRR_OK)
        status = take_scores(m, json_object_get(o, "scores"), where, err);
    return status == DRR_OK ? take_guarantees(m, json_object_get(o, "guarantees"), where, err) : status;
}
