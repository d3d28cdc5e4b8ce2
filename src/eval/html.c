/* html.c: the report as one file that opens from disk: style, plots and examples inside, nothing fetched, no script. */
#include "eval/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXAMPLES_A_GROUP = 3 };

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--fg:#1c1e21;--bg:#fff;--soft:#5d6570;--line:#d9dde3;--card:#f6f7f9;--s0:#7a828c;"
    "--s1:#c2410c;--s2:#0369a1;--s3:#7c3aed;--s4:#15803d}\n"
    "@media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--bg:#15171a;--soft:#9aa3ad;--line:#343a41;--card:#1e2125;"
    "--s0:#9aa3ad;--s1:#fb923c;--s2:#38bdf8;--s3:#c4a5ff;--s4:#4ade80}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:66rem;margin:2rem auto;"
    "padding:0 1rem}\n"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.35rem .9rem .35rem "
    "0;text-align:right;border-bottom:1px "
    "solid var(--line)}td:first-child,th:first-child{text-align:left}th{color:var(--soft);font-weight:600}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}svg{width:100%;background:"
    "var("
    "--card);border-radius:8px}\n"
    "svg text{font:12px system-ui,sans-serif;fill:var(--fg)}svg .h{font-size:14px;font-weight:600}svg .t,svg "
    ".a{fill:var(--soft)}.axis{fill:none;stroke:var(--soft)}.g{stroke:var(--line)}.w{fill:none;stroke-width:2}\n"
    ".d.s0{fill:var(--s0)}.d.s1{fill:var(--s1)}.d.s2{fill:var(--s2)}.d.s3{fill:var(--s3)}.d.s4{fill:var(--s4)}"
    ".w.s0{stroke:var(--s0)}.w.s1{stroke:var(--s1)}.w.s2{stroke:var(--s2)}.w.s3{stroke:var(--s3)}.w.s4{stroke:var(--s4)"
    "}"
    "svg .f0{fill:var(--s0)}svg .f1{fill:var(--s1)}svg .f2{fill:var(--s2)}svg .f3{fill:var(--s3)}svg "
    ".f4{fill:var(--s4)}\n"
    "details{background:var(--card);border-radius:8px;padding:.5rem 1rem;margin:.5rem 0}summary{cursor:pointer}"
    "pre{white-space:pre-wrap;font:14px/1.4 ui-monospace,monospace;border-left:3px solid "
    "var(--line);padding-left:.8rem;"
    "margin:.3rem 0}.soft{color:var(--soft)}.right{color:var(--s4)}.wrong{color:var(--s1)}\n"
    "</style>\n";

drr_status html_escape(buffer *b, const char *text, drr_error *err)
{
    drr_status status = DRR_OK;
    for (; text && *text && status == DRR_OK; text++) {
        const size_t plain = strcspn(text, "&<>\"'");
        status = buffer_append(b, text, plain, err);
        text += plain;
        if (!*text || status != DRR_OK)
            break;
        status = buffer_printf(b, err, "&#%d;", *text);
    }
    return status;
}

/* "<tag>text</tag>" with the text escaped. */
static drr_status put_element(buffer *b, const char *open, const char *text, const char *close, drr_error *err)
{
    drr_status status = buffer_puts(b, open, err);
    if (status == DRR_OK)
        status = html_escape(b, text, err);
    return status == DRR_OK ? buffer_puts(b, close, err) : status;
}

/* ---- head and table */

drr_status html_begin(buffer *b, const char *title, drr_error *err)
{
    drr_status status = buffer_puts(b,
                                    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
                                    "name=\"viewport\" content=\"width=device-width\">\n",
                                    err);
    if (status == DRR_OK)
        status = put_element(b, "<title>", title, "</title>\n", err);
    if (status == DRR_OK)
        status = buffer_puts(b, style, err);
    return status == DRR_OK ? put_element(b, "</head><body>\n<h1>", title, "</h1>\n", err) : status;
}

drr_status html_end(buffer *b, drr_error *err)
{
    return buffer_puts(b,
                       "<p class=\"soft\">Intervals: percentile bootstrap over questions. p: McNemar's exact test on "
                       "the same questions, corrected by Holm for all comparisons of the report; from 0.05 on a "
                       "difference is called within noise. Abstentions count as not right in accuracy.</p>\n"
                       "</body></html>\n",
                       err);
}

static drr_status put_about(buffer *b, const evaluation *e, drr_error *err)
{
    drr_status status = put_element(b, "<p class=\"soft\">reasoner ", e->reasoner, "", err);
    if (status == DRR_OK && e->judge && !e->has_critic)
        status = put_element(b, "; judge ", e->judge, "", err);
    if (status == DRR_OK && e->folds) {
        status = put_element(b, "; critic ", e->folds->name, "", err);
        if (status == DRR_OK)
            status = buffer_printf(b, err, ", one for each of %u folds, trained on the others", e->folds->n);
    } else if (status == DRR_OK && e->has_critic) {
        const double asked = e->options->policy.threshold;
        const drr_guarantee *g = drr_critic_guarantee(&e->critic, &e->options->policy);
        const double own = g ? g->threshold : e->critic.threshold;
        status = put_element(b, "; critic ", e->critic.name, "", err);
        if (status == DRR_OK)
            status = buffer_printf(b, err, " (%.12s), trained on %llu questions", e->critic.sha256,
                                   (unsigned long long)e->critic.n_train_questions);
        if (status == DRR_OK && !e->options->entries) /* else each strategy has its own policy */
            status = buffer_printf(b, err, ", accepts at %.2f", isnan(asked) ? own : asked);
    }
    if (status == DRR_OK)
        status = buffer_printf(b, err, "; seed %llu; %s; drr %s</p>\n", (unsigned long long)e->options->policy.seed,
                               e->date, DRR_VERSION);
    if (status == DRR_OK && *e->mismatch)
        status = put_element(b, "<p class=\"wrong\">Warning: ", e->mismatch, ".</p>\n", err);
    return status;
}

static drr_status put_table(buffer *b, const comparison *c, drr_error *err)
{
    drr_status status =
        buffer_puts(b,
                    "<table><tr><th>strategy</th><th>accuracy</th><th>95 % interval</th><th>coverage</th>"
                    "<th>right of these</th><th>AURC</th><th>turns</th><th>tokens</th></tr>\n",
                    err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        const strategy_run *r = &c->runs[s];
        char range[48], answered[32], aurc[32];
        status = buffer_printf(b, err,
                               "<tr><td>%s</td><td>%.1f %%</td><td>%s</td><td>%.1f %%</td><td>%s</td><td>%s</td>"
                               "<td>%.2f</td><td>%.1f</td></tr>\n",
                               r->name, 100 * r->accuracy.value, figure_range(range, &r->accuracy), 100 * r->coverage,
                               figure_text(answered, 100 * r->accuracy_answered, 1, " %"),
                               figure_text(aurc, r->aurc, 3, ""), r->mean_turns, r->mean_tokens);
    }
    return status == DRR_OK ? buffer_puts(b, "</table>\n", err) : status;
}

static drr_status put_more(buffer *b, const comparison *c, drr_error *err)
{
    drr_status status = buffer_puts(b, "<table><tr><th>strategy</th>", err);
    for (size_t i = 0; status == DRR_OK && i < RUN_MORE_CELLS; i++)
        status = buffer_printf(b, err, "<th>%s</th>", run_more_heads[i]);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        char cells[RUN_MORE_CELLS][32];
        run_more_cells(cells, &c->runs[s]);
        status = put_element(b, "</tr>\n<tr><td>", c->runs[s].name, "</td>", err);
        for (size_t i = 0; status == DRR_OK && i < RUN_MORE_CELLS; i++)
            status = buffer_printf(b, err, "<td>%s</td>", cells[i]);
    }
    return status == DRR_OK ? put_element(b, "</tr></table>\n<p class=\"soft\">", run_more_legend, "</p>\n", err)
                            : status;
}

/* Takes the sentences; a list item where there are any. */
static drr_status put_note(buffer *b, buffer *note, drr_status status, drr_error *err)
{
    if (status == DRR_OK && note->size)
        status = put_element(b, "<li>", note->data, "</li>\n", err);
    buffer_clear(note);
    return status;
}

static drr_status put_judged_row(buffer *b, const judged *f, drr_error *err)
{
    const double right = f->n ? 100 * (double)f->n_right / (double)f->n : NAN;
    const double figures[] = {f->auroc, f->auroc_text, f->length_auroc, f->vote_auroc, f->auprc, f->brier, f->ece};
    char text[32];
    drr_status status =
        buffer_printf(b, err, "<tr><td>%s</td><td>%llu</td><td>%s</td><td>%llu</td>", f->words,
                      (unsigned long long)f->n, figure_text(text, right, 1, " %"), (unsigned long long)f->n_unparsed);
    for (size_t i = 0; status == DRR_OK && i < sizeof figures / sizeof *figures; i++)
        status = buffer_printf(b, err, "<td>%s</td>", figure_text(text, figures[i], 3, ""));
    return status == DRR_OK ? buffer_puts(b, "</tr>\n", err) : status;
}

static drr_status put_judged(buffer *b, const comparison *c, drr_error *err)
{
    drr_status status =
        buffer_puts(b,
                    "<h3>The critic</h3>\n<table><tr><th>over</th><th>n</th><th>right</th><th>unread</th><th>AUROC</th>"
                    "<th>text</th><th>length</th><th>vote</th><th>AUPRC</th><th>Brier</th><th>ECE</th></tr>\n",
                    err);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++)
        if (c->judged[rows].exists)
            status = put_judged_row(b, &c->judged[rows], err);
    if (status == DRR_OK)
        status = put_element(b, "</table>\n<p class=\"soft\">", judged_legend, "</p>\n<ul>\n", err);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        buffer note = {0};
        if (c->judged[rows].exists)
            status = put_note(b, &note, judged_note(&note, &c->judged[rows], err), err);
    }
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        buffer note = {0};
        status = put_note(b, &note, within_note(&note, &c->judged[rows], err), err);
    }
    return status == DRR_OK ? buffer_puts(b, "</ul>\n", err) : status;
}

static drr_status put_findings(buffer *b, const evaluation *e, const comparison *c, drr_error *err)
{
    promised guarantee;
    drr_status status = buffer_puts(b, "<ul>\n", err);
    for (size_t s = 0; status == DRR_OK && s < c->n_runs; s++) {
        buffer note = {0};
        status = put_note(b, &note, run_note(&note, c, &c->runs[s], err), err);
    }
    for (size_t p = 0; status == DRR_OK && p < c->n_pairs; p++) {
        buffer words = {0};
        if (c->pairs[p].a == c->n_runs - 1)
            status = put_note(
                b, &words,
                pair_sentence(&words, c->runs[c->pairs[p].a].name, c->runs[c->pairs[p].b].name, &c->pairs[p], err),
                err);
    }
    if (status == DRR_OK && promised_measure(&guarantee, e, c)) {
        buffer words = {0};
        status = put_note(b, &words, promised_sentence(&words, &guarantee, c, err), err);
    }
    return status == DRR_OK ? buffer_puts(b, "</ul>\n", err) : status;
}

/* ---- examples */

typedef enum group { RIGHT_AT_ONCE, RIGHT_LATER, RIGHT, WRONG, UNCHECKED, ABSTAINED, UNPARSED, FAILED, N_GROUPS } group;
static const char *const group_titles[N_GROUPS] = {"Accepted at once, and right",
                                                   "Rejected first, right in the end",
                                                   "Answered, and right",
                                                   "Answered, and wrong",
                                                   "Answered, and could not be checked",
                                                   "Abstained",
                                                   "No answer could be read",
                                                   "Failed"};

/* Only turns of drr have verdicts: of other strategies nothing was accepted or rejected. */
static group group_of(const drr_result *r)
{
    switch (r->outcome) {
    case DRR_ABSTAINED:
        return ABSTAINED;
    case DRR_UNPARSED:
        return UNPARSED;
    case DRR_FAILED:
        return FAILED;
    case DRR_ANSWERED:
    default:
        break;
    }
    if (r->correct != 1)
        return r->correct < 0 ? UNCHECKED : WRONG;
    switch (r->n_turns ? r->turns[0].verdict : DRR_VERDICT_NONE) {
    case DRR_VERDICT_ACCEPT:
        return RIGHT_AT_ONCE;
    case DRR_VERDICT_REJECT:
        return RIGHT_LATER;
    default:
        return RIGHT;
    }
}

static drr_status put_turn(buffer *b, const drr_turn *t, drr_error *err)
{
    drr_status status = DRR_OK;
    if (t->feedback)
        status = put_element(b, "<p class=\"soft\">told: ", t->feedback, "</p>\n", err);
    if (status == DRR_OK)
        status = put_element(b, "<pre>", t->text, "</pre>\n", err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "<p class=\"soft\">%s", t->role);
    if (status == DRR_OK && t->answer)
        status = put_element(b, ", answer ", t->answer, "", err);
    if (status == DRR_OK && t->correct >= 0)
        status = buffer_printf(b, err, " <b class=\"%s\">%s</b>", t->correct ? "right" : "wrong",
                               t->correct ? "right" : "wrong");
    if (status == DRR_OK && !isnan(t->p_correct))
        status = buffer_printf(b, err, ", P(correct) %.2f", t->p_correct);
    if (status == DRR_OK && t->verdict != DRR_VERDICT_NONE)
        status = buffer_printf(b, err, ": %s", drr_verdict_name(t->verdict));
    return status == DRR_OK ? buffer_puts(b, "</p>\n", err) : status;
}

static drr_status put_example(buffer *b, const drr_result *r, drr_error *err)
{
    drr_status status = put_element(b, "<details><summary>", r->task->question, "</summary>\n", err);
    for (size_t i = 0; status == DRR_OK && i < r->task->n_choices; i++) {
        status = buffer_printf(b, err, "<div>%c) ", (int)('A' + i));
        if (status == DRR_OK)
            status = put_element(b, "", r->task->choices[i], "</div>\n", err);
    }
    if (status == DRR_OK)
        status = put_element(b, "<p class=\"soft\">reference answer ", r->task->answer, "</p>\n", err);
    for (size_t i = 0; status == DRR_OK && i < r->n_turns; i++)
        status = put_turn(b, &r->turns[i], err);
    if (status == DRR_OK && r->failure)
        status = put_element(b, "<p class=\"soft\">the reasoner failed: ", r->failure, "</p>\n", err);
    return status == DRR_OK ? buffer_puts(b, "</details>\n", err) : status;
}

/* The first questions of each kind, as they come: not chosen to please. */
static drr_status put_examples(buffer *b, const comparison *c, drr_error *err)
{
    const strategy_run *run = &c->runs[c->n_runs - 1];
    drr_status status = buffer_printf(b, err, "<h3>Examples: %s</h3>\n", run->name);
    for (int g = 0; g < N_GROUPS; g++) {
        size_t shown = 0;
        for (size_t i = 0; status == DRR_OK && i < c->n && shown < EXAMPLES_A_GROUP; i++) {
            if (group_of(&run->results[i]) != (group)g)
                continue;
            if (shown++ == 0)
                status = buffer_printf(b, err, "<h4>%s</h4>\n", group_titles[g]);
            if (status == DRR_OK)
                status = put_example(b, &run->results[i], err);
        }
    }
    return status;
}

static drr_status put_plots(buffer *b, const comparison *c, drr_error *err)
{
    drr_status status = buffer_puts(b, "<div class=\"plots\">\n", err);
    if (status == DRR_OK)
        status = plot_accuracy(b, c, err);
    bool has_risk = false;
    for (size_t s = 0; s < c->n_runs; s++)
        has_risk = has_risk || !isnan(c->runs[s].aurc);
    if (status == DRR_OK && has_risk)
        status = plot_risk(b, c, err);
    for (int rows = 0; status == DRR_OK && rows < N_JUDGED; rows++) {
        if (c->judged[rows].n == 0 || rows == JUDGED_GIVEN_OTHERS_KNOWN) /* which is part of another */
            continue;
        status = plot_reliability(b, &c->judged[rows], err);
        if (status == DRR_OK)
            status = plot_scores(b, &c->judged[rows], err);
    }
    return status == DRR_OK ? buffer_puts(b, "</div>\n", err) : status;
}

static drr_status put_comparison(buffer *b, const evaluation *e, const comparison *c, bool findings, drr_error *err)
{
    drr_status status = put_element(b, "<h2>", c->name, "", err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, ", %zu question%s</h2>\n", c->n, c->n == 1 ? "" : "s");
    if (status == DRR_OK)
        status = put_table(b, c, err);
    if (status == DRR_OK)
        status = put_more(b, c, err);
    if (status == DRR_OK && findings)
        status = put_findings(b, e, c, err);
    if (status == DRR_OK && e->judge)
        status = put_judged(b, c, err);
    if (status == DRR_OK)
        status = put_plots(b, c, err);
    return status == DRR_OK ? put_examples(b, c, err) : status;
}

drr_status html_body(buffer *b, const evaluation *e, bool findings, drr_error *err)
{
    drr_status status = put_about(b, e, err);
    for (size_t i = 0; status == DRR_OK && i < e->n; i++)
        status = put_comparison(b, e, &e->comparisons[i], findings, err);
    return status;
}

drr_status report_html(char **html, const evaluation *e, drr_error *err)
{
    buffer b = {0};
    drr_status status = html_begin(&b, e->options->title ? e->options->title : "drr: strategies compared", err);
    if (status == DRR_OK && e->options->command)
        status = put_element(&b, "<pre>", e->options->command, "</pre>\n", err);
    if (status == DRR_OK)
        status = html_body(&b, e, true, err);
    if (status == DRR_OK)
        status = html_end(&b, err);
    if (status == DRR_OK)
        *html = buffer_take(&b);
    else
        buffer_clear(&b);
    return status;
}
