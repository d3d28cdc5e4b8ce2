/* report.c: an evaluation as JSON (docs/evaluation.md has its shape) and as a plain table with its findings in words.
 */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- figures and findings in words */

const char figure_unknown[] = "\xE2\x80\x93";

/* Lines for the table; a browser does not see their ends. */
const char judged_legend[] = "AUROC, AUPRC, Brier and ECE are of P(correct) as it was when it was acted on. Text, "
                             "length and vote are the AUROC\n"
                             "  of the encoder alone, of the text's length and of vote share, on the same rows. "
                             "Unread: answers that could not be\n"
                             "  read; they are no rows.";

const char *figure_text(char out[32], double value, int decimals, const char *unit)
{
    if (isnan(value))
        snprintf(out, 32, "%s", figure_unknown);
    else
        snprintf(out, 32, "%.*f%s", decimals, value, unit);
    return out;
}

const char *figure_range(char out[48], const interval *i)
{
    if (isnan(i->low) || isnan(i->high))
        snprintf(out, 48, "%s", figure_unknown);
    else
        snprintf(out, 48, "%.1f to %.1f", 100 * i->low, 100 * i->high);
    return out;
}

drr_status run_note(buffer *b, const comparison *c, const strategy_run *r, drr_error *err)
{
    const char *name = r->name;
    drr_status status = routes_note(b, r, err);
    if (status == DRR_OK && b->size)
        status = buffer_puts(b, " ", err);
    const size_t before = b->size;
    if (status == DRR_OK)
        status = folds_note(b, c, r, err);
    if (status == DRR_OK && b->size > before)
        status = buffer_puts(b, " ", err);
    if (status == DRR_OK && r->n_answered < c->n)
        status = buffer_printf(b, err, "%s answered %llu of %zu: %llu abstained, %llu could not be read, %llu failed. ",
                               name, (unsigned long long)r->n_answered, c->n, (unsigned long long)r->n_abstained,
                               (unsigned long long)r->n_unparsed, (unsigned long long)r->n_failed);
    if (status == DRR_OK && r->n_ungraded)
        status = buffer_printf(
            b, err,
            "%llu answers of %s could not be checked and count as not right: its accuracy is a lower bound, and "
            "its differences are not to be relied on. ",
            (unsigned long long)r->n_ungraded, name);
    if (status == DRR_OK && r->n_answered && isnan(r->aurc))
        status = buffer_printf(b, err, "%s has no AURC, for no critic judged its answers. ", name);
    if (status == DRR_OK && isnan(r->accuracy.low))
        status = buffer_printf(b, err, "%s has no interval, for no resamples were asked for. ", name);
    if (status == DRR_OK && b->size)
        b->data[--b->size] = 0; /* the last space */
    return status;
}

drr_status judged_note(buffer *b, const judged *set, drr_error *err)
{
    const char *why = judged_undefined(set);
    drr_status status = why ? buffer_printf(b, err, "%s (%s): %s.", figure_unknown, set->words, why) : DRR_OK;
    if (status == DRR_OK && set->n_unscored)
        status = buffer_printf(b, err, "%sOf %s, %llu have no score that is a number and are left out.",
                               b->size ? " " : "", set->words, (unsigned long long)set->n_unscored);
    return status;
}

/* McNemar's test, corrected for the report's other comparisons, is the judge of whether two strategies differ; the
 * interval, which is of this comparison alone, says by how much. */
drr_status pair_sentence(buffer *b, const char *a, const char *other, const pair *p, drr_error *err)
{
    const double points = 100 * p->difference.value, low = 100 * p->difference.low, high = 100 * p->difference.high;
    const double tokens = p->tokens.value;
    char range[80] = "", test[96];
    drr_status status;
    if (!isnan(low) && !isnan(high))
        snprintf(range, sizeof range, "95 %% interval %+.1f to %+.1f, ", low, high);
    snprintf(test, sizeof test, "McNemar p = %.2g", p->p);
    if (p->p_holm > p->p)
        snprintf(test, sizeof test, "McNemar p = %.2g, %.2g by Holm", p->p, p->p_holm);
    if (p->only_a == 0 && p->only_b == 0)
        status = buffer_printf(b, err, "%s and %s are right on the same questions", a, other);
    else if (p->p_holm >= 0.05)
        status =
            buffer_printf(b, err, "%s against %s: %+.1f points, within noise (%s%s)", a, other, points, range, test);
    else
        status = buffer_printf(b, err, "%s is %.1f points %s %s (%s%s)", a, fabs(points),
                               points > 0 ? "above" : "below", other, range, test);
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

static json_t *run_json(const evaluation *e, const comparison *c, const strategy_run *r)
{
    json_t *o = json_object();
    if (e->options->entries) {
        json_object_set_new(o, "strategy", json_string(drr_strategy_name(r->strategy)));
        json_object_set_new(o, "policy", policy_json(&r->policy));
    }
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
    run_more_json(o, r);
    if (r->budget.asked)
        json_object_set_new(o, "budget", budget_json(r));
    set_count(o, "answered", r->n_answered);
    set_count(o, "abstained", r->n_abstained);
    set_count(o, "unparsed", r->n_unparsed);
    set_count(o, "failed", r->n_failed);
    if (r->n_ungraded)
        set_count(o, "ungraded", r->n_ungraded);
    set_number(o, "mean_judge_seconds", r->mean_judge_seconds);
    if (r->mean_cuts > 0) {
        set_number(o, "mean_cuts", r->mean_cuts);
        set_number(o, "mean_cut_tokens", r->mean_cut_tokens);
    }
    if (r->n_escalated) {
        set_count(o, "escalated", r->n_escalated);
        set_number(o, "mean_escalated_tokens", r->mean_escalated_tokens);
    }
    json_t *routes = routes_json(r);
    if (routes)
        json_object_set_new(o, "routes", routes);
    return o;
}

static json_t *pair_json(const comparison *c, const pair *p)
{
    json_t *o = json_object();
    buffer words = {0};
    const char *a = c->runs[p->a].name, *other = c->runs[p->b].name;
    json_object_set_new(o, "a", json_string(a));
    json_object_set_new(o, "b", json_string(other));
    set_number(o, "difference", p->difference.value);
    set_interval(o, "difference_ci", &p->difference);
    set_count(o, "only_a_right", p->only_a);
    set_count(o, "only_b_right", p->only_b);
    set_number(o, "mcnemar_p", p->p);
    set_number(o, "p_holm", p->p_holm);
    json_object_set_new(o, "within_noise", json_boolean(p->p_holm >= 0.05));
    set_number(o, "tokens_difference", p->tokens.value);
    set_interval(o, "tokens_difference_ci", &p->tokens);
    if (pair_sentence(&words, a, other, p, NULL) == DRR_OK)
        json_object_set_new(o, "finding", json_string(words.data));
    buffer_clear(&words);
    return o;
}

static void set_judged(json_t *o, const judged *f)
{
    set_count(o, "n", f->n);
    set_count(o, "n_right", f->n_right);
    set_number(o, "right_se", f->right_se);
    set_count(o, "n_unparsed", f->n_unparsed);
    if (f->n_unscored)
        set_count(o, "n_unscored", f->n_unscored);
    set_number(o, "auroc", f->auroc);
    set_number(o, "auroc_text", f->auroc_text);
    set_number(o, "auprc", f->auprc);
    set_number(o, "brier", f->brier);
    set_number(o, "ece", f->ece);
    set_number(o, "length_auroc", f->length_auroc);
    set_number(o, "vote_auroc", f->vote_auroc);
    within_json(o, f);
}

static json_t *judged_json(const judged *f)
{
    json_t *o = json_object();
    const char *why = judged_undefined(f);
    json_object_set_new(o, "rows", json_string(f->words));
    json_object_set_new(o, "strategy", json_string(drr_strategy_name(f->strategy)));
    set_judged(o, f);
    json_object_set_new(o, "undefined", why ? json_string(why) : json_null());
    return o;
}

/* The set that "critic" repeats at its top: samples, where every control is known, or first answers. */
static json_t *critic_json(const comparison *c)
{
    const judged *top = &c->judged[c->judged[JUDGED_SAMPLES].n ? JUDGED_SAMPLES : JUDGED_FIRST];
    json_t *o = json_object(), *sets = json_object();
    json_object_set_new(o, "set", json_string(top->key));
    set_judged(o, top);
    for (int rows = 0; rows < N_JUDGED; rows++) {
        const judged *f = &c->judged[rows];
        json_object_set_new(sets, f->key, f->exists ? judged_json(f) : json_null());
    }
    json_object_set_new(o, "sets", sets);
    return o;
}

static json_t *comparison_json(const evaluation *e, const comparison *c)
{
    promised guarantee;
    json_t *o = json_object(), *strategies = json_object(), *pairs = json_array();
    for (size_t s = 0; s < c->n_runs; s++)
        json_object_set_new(strategies, c->runs[s].name, run_json(e, c, &c->runs[s]));
    for (size_t p = 0; p < c->n_pairs; p++)
        json_array_append_new(pairs, pair_json(c, &c->pairs[p]));
    json_object_set_new(o, "strategies", strategies);
    if (c->budget_of)
        json_object_set_new(o, "equal_budget",
                            json_pack("{s:s, s:s, s:f}", "of",
                                      e->options->equal_budget == DRR_BUDGET_CALLS ? "calls" : "tokens", "reference",
                                      c->budget_of, "mean", c->budget));
    json_object_set_new(o, "comparisons", pairs);
    if (e->folds)
        json_object_set_new(o, "folds", folds_json(c, e->folds));
    if (e->judge)
        json_object_set_new(o, "critic", critic_json(c));
    if (promised_measure(&guarantee, e, c))
        json_object_set_new(o, "guarantee", promised_json(&guarantee));
    return o;
}

json_t *policy_json(const drr_policy *p)
{
    json_t *o = json_object();
    set_count(o, "samples", p->samples);
    set_number(o, "stop_confidence", p->stop_confidence);
    json_object_set_new(o, "weigh_votes", json_string(drr_votes_name(p->votes)));
    set_number(o, "keep_votes", p->keep_votes);
    set_count(o, "max_turns", p->max_turns);
    set_count(o, "max_tokens", p->max_tokens);
    set_count(o, "turn_tokens", p->turn_tokens);
    set_number(o, "threshold", p->threshold); /* null: the critic's own */
    set_number(o, "abstain_below", p->abstain_below);
    set_number(o, "sure_above", p->sure_above);
    set_number(o, "parallel_below", p->parallel_below);
    set_number(o, "hopeless_below", p->hopeless_below);
    set_number(o, "give_up_below", p->give_up_below);
    set_number(o, "escalate_below", p->escalate_below); /* null: what no turn was accepted of */
    json_object_set_new(o, "on_exhausted", json_string(drr_exhausted_name(p->on_exhausted)));
    json_object_set_new(o, "feedback", json_string(drr_feedback_name(p->feedback)));
    set_number(o, "max_seconds", p->max_seconds);
    set_number(o, "early_below", p->early_below);
    set_number(o, "early_confidence", p->early_confidence);
    set_count(o, "early_steps", p->early_steps);
    set_count(o, "early_cuts", p->early_cuts);
    set_count(o, "early_after", p->early_after);
    json_object_set_new(o, "early_free", json_boolean(p->early_free));
    set_number(o, "first_temperature", (double)p->first_temperature);
    set_number(o, "temperature", (double)p->temperature);
    set_number(o, "top_p", (double)p->top_p);
    json_object_set_new(o, "grammar", json_boolean(p->grammar));
    return o;
}

static json_t *critic_identity(const evaluation *e)
{
    const drr_critic_info *c = &e->critic;
    json_t *o = json_object();
    if (e->folds) {
        json_object_set_new(o, "name", json_string(e->folds->name));
        json_object_set_new(o, "reasoner", json_string(c->reasoner));
        json_object_set_new(o, "encoder", json_string(c->encoder));
        json_object_set_new(o, "folds", folds_critics_json(e->folds));
        return o;
    }
    json_object_set_new(o, "name", json_string(c->name));
    json_object_set_new(o, "sha256", json_string(c->sha256));
    json_object_set_new(o, "reasoner", json_string(c->reasoner));
    json_object_set_new(o, "encoder", json_string(c->encoder));
    set_number(o, "threshold", c->threshold);
    set_count(o, "n_train_questions", c->n_train_questions);
    set_count(o, "n_train_traces", c->n_train_traces);
    return o;
}

/* Whoever says which way a question goes before it is asked; NULL: nobody, or one for each fold, which are told there.
 */
static json_t *question_critic_identity(const evaluation *e)
{
    drr_critic_info info;
    const drr_critic *critic = NULL;
    for (size_t i = 0; i < e->n_entries; i++)
        if (e->entries[i].policy.strategy == DRR_STRATEGY_DRR)
            critic = e->entries[i].policy.question_critic;
    if (!critic || (e->folds && e->folds->questions))
        return NULL;
    drr_critic_describe(critic, &info);
    return json_pack("{s:s, s:s}", "name", info.name, "sha256", info.sha256);
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
    if (o->escalate_to)
        json_object_set_new(root, "escalates_to", json_string(drr_reasoner_id(o->escalate_to)));
    json_object_set_new(root, "prompts", json_string(e->prompts));
    if (*e->mismatch)
        json_object_set_new(root, "warning", json_string(e->mismatch));
    json_object_set_new(root, "critic", e->has_critic ? critic_identity(e) : json_null());
    json_object_set_new(root, "judge", e->judge ? json_string(e->judge) : json_null());
    json_t *question_critic = question_critic_identity(e);
    if (question_critic)
        json_object_set_new(root, "question_critic", question_critic);
    if (!o->entries) /* else each strategy has its own */
        json_object_set_new(root, "policy", policy_json(&o->policy));
    set_count(root, "seed", o->policy.seed);
    set_count(root, "bootstrap", o->bootstrap);
    for (size_t i = 0; i < e->n; i++)
        json_object_set_new(tasks, e->comparisons[i].name, comparison_json(e, &e->comparisons[i]));
    const bool whole = json_object_set_new(root, "tasks", tasks) == 0;
    *json = whole ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : NULL;
    json_decref(root);
    return *json ? DRR_OK : error_memory(err);
}

/* ---- text */

/* Columns are counted in characters: printf pads by bytes, and the dash has three. */
static drr_status put_cell(buffer *b, int width, const char *text, drr_error *err)
{
    const int bytes = strcmp(text, figure_unknown) == 0 ? width + (int)strlen(figure_unknown) - 1 : width;
    return buffer_printf(b, err, " %*s", bytes, text);
}

static drr_status put_cells(buffer *b, const char *name, int name_width, const char *const *cells, const int *widths,
                            size_t n, drr_error *err)
{
    drr_status status = buffer_printf(b, err, "  %-*s", name_width, name);
    for (size_t i = 0; status == DRR_OK && i < n; i++)
        status = put_cell(b, widths[i], cells[i], err);
    return status == DRR_OK ? buffer_puts(b, "\n", err) : status;
}

enum { RUN_CELLS = 7, JUDGED_CELLS = 10 };
static const char *const run_heads[RUN_CELLS] = {"accuracy", "95 % interval", "coverage", "of these",
                                                 "AURC",     "turns",         "tokens"};
static const int run_widths[RUN_CELLS] = {9, 15, 9, 9, 7, 7, 9};
static const char *const judged_heads[JUDGED_CELLS] = {"n",      "right", "unread", "AUROC", "text",
                                                       "length", "vote",  "AUPRC",  "Brier", "ECE"};
static const int judged_widths[JUDGED_CELLS] = {6, 8, 7, 6, 6, 6, 6, 6, 6, 6};

static drr_status run_text(buffer *b, const strategy_run *r, drr_error *err)
{
    char s[RUN_CELLS][48];
    const char *const cells[RUN_CELLS] = {figure_text(s[0], 100 * r->accuracy.value, 1, " %"),
                                          figure_range(s[1], &r->accuracy),
                                          figure_text(s[2], 100 * r->coverage, 1, " %"),
                                          figure_text(s[3], 100 * r->accuracy_answered, 1, " %"),
                                          figure_text(s[4], r->aurc, 3, ""),
                                          figure_text(s[5], r->mean_turns, 2, ""),
                                          figure_text(s[6], r->mean_tokens, 1, "")};
    return put_cells(b, r->name, 14, cells, run_widths, RUN_CELLS, err);
}

static drr_status more_text(buffer *b, const comparison *c, drr_error *err)
{
    static const int widths[RUN_MORE_CELLS] = {5, 6, 7, 7, 10, 7, 7, 6, 8, 8, 8};
    drr_status status = buffer_puts(b, "\n", err);
    if (status == DRR_OK)
        status = put_cells(b, "strategy", 14, run_more_heads, widths, RUN_MORE_CELLS, err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        char texts[RUN_MORE_CELLS][32];
        const char *cells[RUN_MORE_CELLS];
        run_more_cells(texts, &c->runs[s]);
        for (size_t i = 0; i < RUN_MORE_CELLS; i++)
            cells[i] = texts[i];
        status = put_cells(b, c->runs[s].name, 14, cells, widths, RUN_MORE_CELLS, err);
    }
    return status == DRR_OK ? buffer_printf(b, err, "\n  %s\n\n", run_more_legend) : status;
}

static drr_status judged_text(buffer *b, const judged *f, drr_error *err)
{
    char s[JUDGED_CELLS][32];
    const char *const cells[JUDGED_CELLS] = {
        figure_text(s[0], (double)f->n, 0, ""),
        figure_text(s[1], f->n ? 100 * (double)f->n_right / (double)f->n : NAN, 1, " %"),
        figure_text(s[2], (double)f->n_unparsed, 0, ""),
        figure_text(s[3], f->auroc, 3, ""),
        figure_text(s[4], f->auroc_text, 3, ""),
        figure_text(s[5], f->length_auroc, 3, ""),
        figure_text(s[6], f->vote_auroc, 3, ""),
        figure_text(s[7], f->auprc, 3, ""),
        figure_text(s[8], f->brier, 3, ""),
        figure_text(s[9], f->ece, 3, "")};
    return put_cells(b, f->words, 31, cells, judged_widths, JUDGED_CELLS, err);
}

/* Takes the sentences; a line of their own where there are any. */
static drr_status put_note(buffer *b, buffer *note, drr_status status, drr_error *err)
{
    if (status == DRR_OK && note->size)
        status = buffer_printf(b, err, "  %s\n", note->data);
    buffer_clear(note);
    return status;
}

static bool about_the_last(const comparison *c, const pair *p)
{
    return p->a == c->n_runs - 1;
}

static drr_status critic_text(buffer *b, const evaluation *e, const comparison *c, drr_error *err)
{
    const bool is_critic = e->has_critic;
    drr_status status = is_critic ? buffer_puts(b, "\n", err) : buffer_printf(b, err, "\n  judge: %s\n", e->judge);
    if (status == DRR_OK)
        status = put_cells(b, is_critic ? "the critic on" : "the judge on", 31, judged_heads, judged_widths,
                           JUDGED_CELLS, err);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++)
        if (c->judged[rows].exists)
            status = judged_text(b, &c->judged[rows], err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "\n  %s\n", judged_legend);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        buffer note = {0};
        if (c->judged[rows].exists)
            status = put_note(b, &note, judged_note(&note, &c->judged[rows], err), err);
    }
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        buffer note = {0};
        status = put_note(b, &note, within_note(&note, &c->judged[rows], err), err);
    }
    return status;
}

static drr_status comparison_text(buffer *b, const evaluation *e, const comparison *c, drr_error *err)
{
    promised guarantee;
    drr_status status = buffer_printf(b, err, "%s, %zu question%s\n\n", c->name, c->n, c->n == 1 ? "" : "s");
    if (status == DRR_OK)
        status = put_cells(b, "strategy", 14, run_heads, run_widths, RUN_CELLS, err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++)
        status = run_text(b, &c->runs[s], err);
    if (status == DRR_OK)
        status = more_text(b, c, err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        buffer note = {0};
        status = put_note(b, &note, run_note(&note, c, &c->runs[s], err), err);
    }
    for (size_t p = 0; status == DRR_OK && p < c->n_pairs; p++) {
        buffer words = {0};
        if (about_the_last(c, &c->pairs[p]))
            status = put_note(
                b, &words,
                pair_sentence(&words, c->runs[c->pairs[p].a].name, c->runs[c->pairs[p].b].name, &c->pairs[p], err),
                err);
    }
    if (status == DRR_OK && promised_measure(&guarantee, e, c)) {
        buffer words = {0};
        status = put_note(b, &words, promised_sentence(&words, &guarantee, c, err), err);
    }
    if (status == DRR_OK && e->judge)
        status = critic_text(b, e, c, err);
    return status == DRR_OK ? buffer_puts(b, "\n", err) : status;
}

drr_status report_text(char **text, const evaluation *e, drr_error *err)
{
    buffer b = {0};
    drr_status status = *e->mismatch ? buffer_printf(&b, err, "Warning: %s.\n\n", e->mismatch) : DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < e->n; i++)
        status = comparison_text(&b, e, &e->comparisons[i], err);
    if (status == DRR_OK)
        *text = buffer_take(&b);
    else
        buffer_clear(&b);
    return status;
}
