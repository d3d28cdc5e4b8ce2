/* steps.c: the labelled steps of a trace as JSON, both ways. In a file of traces they are a member, in a store a column
 * that holds the same list as text. What is read must fit the trace's text: whoever cuts it by these offsets is safe.
 */
#include "trace/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

drr_status trace_steps_to_json(json_t **list, const drr_trace *trace, drr_error *err)
{
    json_t *all = json_array();
    for (uint32_t i = 0; all && i < trace->n_steps; i++) {
        const drr_step *s = &trace->steps[i];
        json_t *one = json_pack("{s:I, s:I, s:I, s:f}", "end", (json_int_t)s->end, "right", (json_int_t)s->right, "of",
                                (json_int_t)s->of, "value", (double)s->value);
        if (!one || json_array_append_new(all, one) != 0) {
            json_decref(all);
            all = NULL;
        }
    }
    if (!all)
        return error_memory(err);
    *list = all;
    return DRR_OK;
}

static bool read_step(drr_step *step, json_t *object, uint32_t least, size_t most)
{
    const double end = json_number_or(object, "end", -1), right = json_number_or(object, "right", 0),
                 of = json_number_or(object, "of", 0), value = json_number_or(object, "value", -1);
    if (!json_is_object(object) || !(end > least && end <= (double)most) || end != floor(end) ||
        !(of >= 0 && of <= UINT32_MAX) || !(right >= 0 && right <= of) || !(value >= 0 && value <= 1))
        return false;
    *step = (drr_step){(uint32_t)end, (uint32_t)right, (uint32_t)of, (float)value};
    return true;
}

drr_status trace_steps_from_json(drr_trace *trace, json_t *list, const char *where, drr_error *err)
{
    const size_t n = json_array_size(list), size = trace->text ? strlen(trace->text) : 0;
    if (!list || json_is_null(list))
        return DRR_OK;
    drr_step *steps = calloc(n + 1, sizeof *steps);
    if (!steps)
        return error_memory(err);
    bool good = json_is_array(list) && n > 0 && n <= UINT32_MAX && size <= UINT32_MAX;
    for (size_t i = 0; i < n && good; i++)
        good = read_step(&steps[i], json_array_get(list, i), i ? steps[i - 1].end : 0, size);
    if (!good) {
        free(steps);
        return error_set(err, DRR_E_FORMAT,
                         "%s: \"steps\" must be a list of {\"end\", \"right\", \"of\", \"value\"} with ends that grow "
                         "and lie within the text",
                         where);
    }
    free(trace->steps);
    trace->steps = steps;
    trace->n_steps = (uint32_t)n;
    return DRR_OK;
}

drr_status trace_steps_to_text(char **text, const drr_trace *trace, drr_error *err)
{
    json_t *list = NULL;
    *text = NULL;
    if (trace->n_steps == 0)
        return DRR_OK;
    drr_status status = trace_steps_to_json(&list, trace, err);
    if (status == DRR_OK && !(*text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(9))))
        status = error_memory(err);
    json_decref(list);
    return status;
}

drr_status trace_steps_from_text(drr_trace *trace, const char *text, const char *where, drr_error *err)
{
    json_t *list = NULL;
    if (!text)
        return DRR_OK;
    drr_status status = json_parse(&list, text, strlen(text), where, err);
    if (status == DRR_OK)
        status = trace_steps_from_json(trace, list, where, err);
    json_decref(list);
    return status;
}
