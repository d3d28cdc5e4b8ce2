/* within.c: how well the critic tells the answers to one question apart, which is what choosing among samples lives on:
 * the figure, its controls on the same rows, and both in words and in JSON. core/within.c computes it, for training
 * too. */
#include "eval/eval_internal.h"

#include <math.h>

void within_measure(judged *set, const double *logit, const double *length, const double *vote, const size_t *questions,
                    const size_t *groups, const drr_eval_options *o)
{
    const size_t n = set->n;
    const uint32_t resamples = o->bootstrap;
    const uint64_t seed = o->policy.seed;
    set->within = statistics_within(set->p, set->right, questions, groups, n, resamples, seed);
    set->within_text = statistics_within(logit, set->right, questions, groups, n, resamples, seed);
    set->within_vote = statistics_within(vote, set->right, questions, groups, n, resamples, seed);
    set->within_length = statistics_within(length, set->right, questions, groups, n, resamples, seed);
    if (set->within_length.share < 0.5) /* the control at its strongest, as length_auroc */
        set->within_length = statistics_within_turned(set->within_length);
}

static drr_status put_share(buffer *b, const char *name, const drr_within *w, drr_error *err)
{
    char share[32];
    if (isnan(w->low) || isnan(w->high))
        return buffer_printf(b, err, "%s %s", name, figure_text(share, w->share, 3, ""));
    return buffer_printf(b, err, "%s %.3f (95 %% interval %.3f to %.3f)", name, w->share, w->low, w->high);
}

drr_status within_note(buffer *b, const judged *set, drr_error *err)
{
    if (set->within.n_pairs == 0)
        return DRR_OK;
    drr_status status = buffer_printf(
        b, err, "Within a question (%s): of %llu right-wrong pairs of %llu questions, in the right order: ", set->words,
        (unsigned long long)set->within.n_pairs, (unsigned long long)set->within.n_questions);
    if (status == DRR_OK)
        status = put_share(b, "P(correct)", &set->within, err);
    if (status == DRR_OK)
        status = put_share(b, ", text", &set->within_text, err);
    if (status == DRR_OK)
        status = put_share(b, "; controls: length", &set->within_length, err);
    if (status == DRR_OK)
        status = put_share(b, ", vote", &set->within_vote, err);
    return status == DRR_OK ? buffer_puts(b, ".", err) : status;
}

static json_t *one_json(const drr_within *w)
{
    json_t *o, *ci;
    if (w->n_pairs == 0)
        return json_null();
    o = json_object();
    ci = json_array();
    json_array_append_new(ci, json_number_or_null(w->low));
    json_array_append_new(ci, json_number_or_null(w->high));
    json_object_set_new(o, "share", json_number_or_null(w->share));
    json_object_set_new(o, "ci", ci);
    json_object_set_new(o, "n_pairs", json_integer((json_int_t)w->n_pairs));
    json_object_set_new(o, "n_questions", json_integer((json_int_t)w->n_questions));
    return o;
}

void within_json(json_t *o, const judged *set)
{
    json_object_set_new(o, "within", one_json(&set->within));
    json_object_set_new(o, "within_text", one_json(&set->within_text));
    json_object_set_new(o, "within_length", one_json(&set->within_length));
    json_object_set_new(o, "within_vote", one_json(&set->within_vote));
}
