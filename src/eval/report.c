/* report.c: an evaluation as JSON (docs/evaluation.md has its shape) and as a plain table with its findings in words.
 */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- findings in words */

/* McNemar's test is the judge of whether two strategies differ; the interval says by how much. */
drr_status pair_sentence(buffer *b, const comparison *c, const pair *p, drr_error *err)
{
    const char *a = drr_strategy_name(c->runs[p->a].strategy), *other = drr_strategy_name(c->runs[p->b].strategy);
    const double points = 100 * p->difference.value, low = 100 * p->difference.low, high = 100 * p->difference.high;
    const double tokens = p->tokens.value;
    drr_status status;
    if (p->only_a == 0 && p->only_b == 0)
        status = buffer_printf(b, err, "%s and %s are right on the same questions", a, other);
    else if (p->p >= 0.05)
        status = buffer_printf(b, err,
                               "%s against %s: %+.1f points (95 %% interval %+.1f to %+.1f), within noise "
                               "(McNemar p = %.2g)",
                               a, other, points, low, high, p->p);
    else
        status = buffer_printf(b, err, "%s is %.1f points %s %s (95 %% interval %+.1f to %+.1f, McNemar p = %.2g)", a,
                               fabs(points), points > 0 ? "above" : "below", other, low, high, p->p);
    if (status != DRR_OK)
        return status;
    if (fabs(tokens) < 0.5)
        return buffer_puts(b, ", at the same tokens a question.", err);
    if (p->tokens.low <= 0 && p->tokens.high >= 0)
        return buffer_printf(b, err, ", at about the same tokens a question (%+.0f, interval %+.0f to %+.0f).", tokens,
                             p->tokens.low, p->tokens.high);
    return buffer_printf(b, err, ", at %.0f tokens a question %s.", fabs(tokens), tokens > 0 ? "more" : "less");
}

/* ---- JSON */

static int set_number(json_t *o, const char *name, double value)
{
    return json_object_set_new(o, name, json_number_or_null(value));
}

static int set_count(json_t *o, const char *name, uint64_t value)
{
    return json_object_set_new(o, name, json_integer((json_int_t)value));
}

static int set_interval(json_t *o, const char *name, const interval *i)
{
    json_t *a = json_array();
    return json_array_append_new(a, json_number_or_null(i->low)) ||
           json_array_append_new(a, json_number_or_null(i->high)) || json_object_set_new(o, name, a);
}

static json_t *run_json(const comparison *c, const strategy_run *r)
{
    json_t *o = json_object();
    set_count(o, "n", c->n);
    set_number(o, "accuracy", r->accuracy.value);
    set_interval(o, "accuracy_ci", &r->accuracy);
    set_number(o, "coverage", r->coverage);
    set_number(o, "accuracy_answered", r->accuracy_answered);
    set_number(o, "mean_calls", r->mean_calls);
    set_number(o, "mean_turns", r->mean_turns);
    set_number(o, "mean_tokens", r->mean_tokens);
    set_number(o, "mean_prompt_tokens", r->mean_prompt_tokens);
    set_number(o, "mean_seconds", r->mean_seconds);
    set_number(o, "aurc", r->aurc);
    set_count(o, "answered", r->n_answered);
    set_count(o, "abstained", r->n_abstained);
    set_count(o, "unparsed", r->n_unparsed);
    set_count(o, "failed", r->n_failed);
    return o;
}

static json_t *pair_json(const comparison *c, const pair *p)
{
    json_t *o = json_object();
    buffer words = {0};
    json_object_set_new(o, "a", json_string(drr_strategy_name(c->runs[p->a].strategy)));
    json_object_set_new(o, "b", json_string(drr_strategy_name(c->runs[p->b].strategy)));
    set_number(o, "difference", p->difference.value);
    set_interval(o, "difference_ci", &p->difference);
    set_count(o, "only_a_right", p->only_a);
    set_count(o, "only_b_right", p->only_b);
    set_number(o, "mcnemar_p", p->p);
    json_object_set_new(o, "within_noise", json_boolean(p->p >= 0.05));
    set_number(o, "tokens_difference", p->tokens.value);
    set_interval(o, "tokens_difference_ci", &p->tokens);
    if (pair_sentence(&words, c, p, NULL) == DRR_OK)
        json_object_set_new(o, "finding", json_string(words.data));
    buffer_clear(&words);
    return o;
}

static json_t *critic_json(const critic_figures *f)
{
    json_t *o = json_object();
    set_count(o, "n_turns", f->n);
    set_count(o, "n_right", f->n_right);
    set_number(o, "auroc", f->auroc);
    set_number(o, "auroc_text", f->auroc_text);
    set_number(o, "auprc", f->auprc);
    set_number(o, "brier", f->brier);
    set_number(o, "ece", f->ece);
    set_number(o, "length_auroc", f->length_auroc);
    set_number(o, "vote_auroc", f->vote_auroc);
    return o;
}

static json_t *comparison_json(const comparison *c, bool has_critic)
{
    json_t *o = json_object(), *strategies = json_object(), *pairs = json_array();
    for (size_t s = 0; s < c->n_runs; s++)
        json_object_set_new(strategies, drr_strategy_name(c->runs[s].strategy), run_json(c, &c->runs[s]));
    for (size_t p = 0; p < c->n_pairs; p++)
        json_array_append_new(pairs, pair_json(c, &c->pairs[p]));
    json_object_set_new(o, "strategies", strategies);
    json_object_set_new(o, "comparisons", pairs);
    if (has_critic)
        json_object_set_new(o, "critic", critic_json(&c->critic));
    return o;
}

static json_t *policy_json(const drr_policy *p)
{
    static const char *const exhausted[] = {"vote", "best", "last", "abstain"};
    json_t *o = json_object();
    set_count(o, "samples", p->samples);
    set_count(o, "max_turns", p->max_turns);
    set_count(o, "max_tokens", p->max_tokens);
    set_count(o, "turn_tokens", p->turn_tokens);
    set_number(o, "threshold", p->threshold); /* null: the critic's own */
    set_number(o, "abstain_below", p->abstain_below);
    json_object_set_new(o, "on_exhausted", json_string(exhausted[p->on_exhausted & 3]));
    json_object_set_new(o, "feedback", json_string(p->feedback == DRR_FEEDBACK_WORDS ? "words" : "restart"));
    set_number(o, "first_temperature", (double)p->first_temperature);
    set_number(o, "temperature", (double)p->temperature);
    set_number(o, "top_p", (double)p->top_p);
    json_object_set_new(o, "grammar", json_boolean(p->grammar));
    return o;
}

static json_t *critic_identity(const drr_critic_info *c)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(c->name));
    json_object_set_new(o, "sha256", json_string(c->sha256));
    json_object_set_new(o, "reasoner", json_string(c->reasoner));
    json_object_set_new(o, "encoder", json_string(c->encoder));
    set_number(o, "threshold", c->threshold);
    set_count(o, "n_train_questions", c->n_train_questions);
    set_count(o, "n_train_traces", c->n_train_traces);
    return o;
}

drr_status report_json(char **json, const evaluation *e, drr_error *err)
{
    const drr_eval_options *o = e->options;
    json_t *root = json_object(), *tasks = json_object();
    json_object_set_new(root, "drr", json_string(DRR_VERSION));
    json_object_set_new(root, "date", json_string(e->date));
    if (o->title)
        json_object_set_new(root, "title", json_string(o->title));
    if (o->command)
        json_object_set_new(root, "command", json_string(o->command));
    json_object_set_new(root, "reasoner", json_string(e->reasoner));
    json_object_set_new(root, "reasoner_description", json_string(e->reasoner_description));
    json_object_set_new(root, "prompts", json_string(e->prompts));
    json_object_set_new(root, "critic", e->has_critic ? critic_identity(&e->critic) : json_null());
    json_object_set_new(root, "policy", policy_json(&o->policy));
    set_count(root, "seed", o->policy.seed);
    set_count(root, "bootstrap", o->bootstrap);
    for (size_t i = 0; i < e->n; i++)
        json_object_set_new(tasks, e->comparisons[i].name, comparison_json(&e->comparisons[i], e->has_critic));
    const bool whole = json_object_set_new(root, "tasks", tasks) == 0;
    *json = whole ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : NULL;
    json_decref(root);
    return *json ? DRR_OK : error_memory(err);
}

/* ---- text */

static drr_status row_text(buffer *b, const strategy_run *r, drr_error *err)
{
    char range[40];
    snprintf(range, sizeof range, "%.1f to %.1f", 100 * r->accuracy.low, 100 * r->accuracy.high);
    return buffer_printf(b, err, "  %-14s %8.1f %%   %-14s %7.1f %% %8.2f %9.1f\n", drr_strategy_name(r->strategy),
                         100 * r->accuracy.value, range, 100 * r->coverage, r->mean_turns, r->mean_tokens);
}

static bool about_the_last(const comparison *c, const pair *p)
{
    return p->a == c->n_runs - 1;
}

static drr_status critic_text(buffer *b, const critic_figures *f, drr_error *err)
{
    drr_status status = buffer_printf(b, err,
                                      "\n  The critic on %llu answers, %.1f %% of them right: AUROC %.3f (text alone "
                                      "%.3f; controls: length %.3f",
                                      (unsigned long long)f->n, 100 * (double)f->n_right / (double)f->n, f->auroc,
                                      f->auroc_text, f->length_auroc);
    if (status == DRR_OK && !isnan(f->vote_auroc))
        status = buffer_printf(b, err, ", vote share %.3f", f->vote_auroc);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "), Brier %.3f, ECE %.3f.\n", f->brier, f->ece);
    return status;
}

static drr_status comparison_text(buffer *b, const comparison *c, drr_error *err)
{
    drr_status status = buffer_printf(b, err, "%s, %zu questions\n\n  %-14s %10s   %-14s %9s %8s %9s\n", c->name, c->n,
                                      "strategy", "accuracy", "95 % interval", "coverage", "turns", "tokens");
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        status = row_text(b, &c->runs[s], err);
    if (status == DRR_OK)
        status = buffer_puts(b, "\n", err);
    for (size_t p = 0; status == DRR_OK && p < c->n_pairs; p++) {
        if (!about_the_last(c, &c->pairs[p]))
            continue;
        status = buffer_puts(b, "  ", err);
        if (status == DRR_OK)
            status = pair_sentence(b, c, &c->pairs[p], err);
        if (status == DRR_OK)
            status = buffer_puts(b, "\n", err);
    }
    if (status == DRR_OK && c->critic.n)
        status = critic_text(b, &c->critic, err);
    return status == DRR_OK ? buffer_puts(b, "\n", err) : status;
}

drr_status report_text(char **text, const evaluation *e, drr_error *err)
{
    buffer b = {0};
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < e->n; i++)
        status = comparison_text(&b, &e->comparisons[i], err);
    if (status == DRR_OK)
        *text = buffer_take(&b);
    else
        buffer_clear(&b);
    return status;
}
