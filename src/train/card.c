/* card.c: the model card beside a critic: what it was trained on, how well it does on questions that it never saw, what
 * it promises, and what it is not for. Markdown, with one plot in a file of its own, for Markdown shows no SVG that
 * stands in its text. */
#include "core/plot.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- words and numbers */

static const char *number(char text[24], double value, int decimals)
{
    if (isfinite(value))
        snprintf(text, 24, "%.*f", decimals, value);
    else
        snprintf(text, 24, "\xE2\x80\x93");
    return text;
}

/* Of one line, so that a name cannot end a table or begin a heading. */
static drr_status put_plain(buffer *b, const char *text, drr_error *err)
{
    drr_status status = DRR_OK;
    if (!text || !*text)
        return buffer_puts(b, "not recorded", err);
    for (; status == DRR_OK && *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            status = buffer_puts(b, " ", err);
        else if (strchr("|`*_<>[]#\\", c))
            status = buffer_printf(b, err, "\\%c", c);
        else
            status = buffer_append(b, text, 1, err);
    }
    return status;
}

static drr_status put_row(buffer *b, const char *name, const char *text, drr_error *err)
{
    drr_status status = buffer_printf(b, err, "| %s | ", name);
    if (status == DRR_OK)
        status = put_plain(b, text, err);
    return status == DRR_OK ? buffer_puts(b, " |\n", err) : status;
}

/* critic.gguf: critic + suffix */
static drr_status name_beside(buffer *b, const char *out, const char *suffix, drr_error *err)
{
    size_t stem;
    const char *file = file_name(out, &stem);
    drr_status status = buffer_append(b, out, (size_t)(file - out) + stem, err);
    return status == DRR_OK ? buffer_puts(b, suffix, err) : status;
}

/* ---- sections */

static drr_status put_probe(buffer *b, const card *k, drr_error *err)
{
    char auroc[24];
    return buffer_printf(b, err,
                         "| probe | of layer %s, %s, width %u; held-out AUROC %s on %llu traces with hidden states |\n",
                         k->result->probe.layer, k->result->probe.pools, k->meta->probe.width,
                         number(auroc, k->result->probe.auroc, 3), (unsigned long long)k->result->probe.n_test);
}

static drr_status put_head(buffer *b, const card *k, drr_error *err)
{
    const critic_meta *m = k->meta;
    drr_status status = buffer_puts(b, "# Critic ", err);
    if (status == DRR_OK)
        status = put_plain(b, m->name, err);
    if (status == DRR_OK)
        status =
            buffer_printf(b, err,
                          "\n\nA small model that reads %s, and "
                          "gives the probability that\nthe answer is right. Written by `drr train`; `docs/model.md` "
                          "of drr says what it computes.\n\n| | |\n| --- | --- |\n",
                          k->shape ? "a question and one language model's worked answer to it"
                                   : "one language model's hidden states as it wrote an answer");
    if (status == DRR_OK)
        status = put_row(b, "reasoner", m->reasoner, err);
    if (status == DRR_OK)
        status = put_row(b, "prompts", m->prompt, err);
    if (status == DRR_OK)
        status = put_row(b, "tasks", m->tasks, err);
    if (status == DRR_OK)
        status =
            put_row(b, "encoder", k->shape ? m->encoder : "none: it reads the reasoner's hidden states alone", err);
    if (status == DRR_OK && k->result->head == DRR_HEAD_TOKEN)
        status = buffer_printf(b, err, "| head | of tokens, read at the last one; trained on %llu labels of steps |\n",
                               (unsigned long long)k->result->n_train_steps);
    if (status == DRR_OK && k->options->beginnings)
        status = buffer_printf(b, err, "| beginnings | %llu trained on beside whole answers, %u of a trace at most |\n",
                               (unsigned long long)k->result->n_train_beginnings, k->options->beginnings);
    if (status == DRR_OK && k->options->rank_weight > 0)
        status =
            buffer_printf(b, err, "| ranking term | weight %g, over %llu questions with right and wrong answers |\n",
                          k->options->rank_weight, (unsigned long long)k->result->n_rank_questions);
    if (status == DRR_OK && k->shape)
        status = buffer_printf(b, err, "| size | %u layers of width %u, %u tokens read |\n", k->shape->n_layers,
                               k->shape->n_embd, m->max_length);
    if (status == DRR_OK && m->probe.reasoner)
        status = put_probe(b, k, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "| made | %s by drr %s, seed %llu |\n| SHA-256 of the file | %s |\n", m->created,
                               DRR_VERSION, (unsigned long long)m->seed, k->sha256);
    return status;
}

static drr_status put_split(buffer *b, const char *part, const char *use, const card *k, corpus_part which,
                            drr_error *err)
{
    uint64_t n = 0, right = 0;
    for (size_t i = 0; i < k->c->n; i++)
        if (k->c->rows[i].part == which) {
            n++;
            right += k->c->rows[i].trace.label == DRR_LABEL_ACCEPT;
        }
    char share[24];
    return buffer_printf(b, err, "| %s | %zu | %llu | %s %% | %s |\n", part, corpus_questions(k->c, which),
                         (unsigned long long)n, number(share, n ? 100 * (double)right / (double)n : NAN, 1), use);
}

static drr_status put_data(buffer *b, const card *k, drr_error *err)
{
    const drr_train_result *r = k->result;
    drr_status status = buffer_printf(
        b, err,
        "\n## Data\nEvery trace is labelled by the check of its final answer alone. %s%s\n\n"
        "| part | questions | traces | right | used for |\n| --- | ---: | ---: | ---: | --- |\n",
        r->by_trace ? "**Split by trace, as an ablation: answers to one question lie in several parts, so "
                      "every figure below is too good, and so is the threshold. Not to be used.**"
                    : "Split by question: no question is in two parts.",
        k->options->first_turns_only ? " Answers after a rejection were kept out of train and dev." : "");
    if (status == DRR_OK)
        status =
            put_split(b, "train", k->shape ? "the encoder's weights" : "the probe's weights", k, CORPUS_TRAIN, err);
    if (status == DRR_OK)
        status = put_split(b, "dev", "the epoch, calibration, stack, the order in which thresholds are tested", k,
                           CORPUS_DEV, err);
    if (status == DRR_OK && r->n_guarantee_questions)
        status =
            put_split(b, "guarantee", "which thresholds keep the promise, and nothing else", k, CORPUS_GUARANTEE, err);
    if (status == DRR_OK)
        status = put_split(b, "test", "the figures below", k, CORPUS_TEST, err);
    if (status == DRR_OK && k->shape)
        status = buffer_printf(b, err, "\n%llu texts were cut to fit. Best epoch %u, dev loss %.4f.\n",
                               (unsigned long long)r->n_truncated, r->best_epoch, r->best_loss);
    return status;
}

static drr_status put_figures_row(buffer *b, const char *name, uint64_t n, const double *figures, size_t n_figures,
                                  drr_error *err)
{
    char text[24];
    drr_status status = buffer_puts(b, "| ", err);
    if (status == DRR_OK)
        status = put_plain(b, name, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, " | %llu", (unsigned long long)n);
    for (size_t i = 0; status == DRR_OK && i < n_figures; i++)
        status = buffer_printf(b, err, " | %s", number(text, figures[i], 3));
    return status == DRR_OK ? buffer_puts(b, " |\n", err) : status;
}

static drr_status put_figures(buffer *b, const card *k, drr_error *err)
{
    const drr_train_result *r = k->result;
    const double all[] = {r->auroc_stack, r->auroc_text, r->auroc_length, r->auroc_vote, r->brier, r->ece};
    drr_status status =
        buffer_puts(b,
                    "\n## Held-out figures\nOn the test traces, each with all other answers to its "
                    "question known. Length and vote share are controls: a critic\nthat is no better than "
                    "the text's length, or than how many answers agree, has learnt nothing of its own.\n\n"
                    "| task | traces | AUROC | text alone | length | vote share | Brier | ECE |\n"
                    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
                    err);
    for (uint32_t t = 0; status == DRR_OK && t < r->n_tasks && r->n_tasks > 1; t++) {
        const drr_task_figures *f = &r->tasks[t];
        const double own[] = {f->auroc_stack, f->auroc_text, f->auroc_length, f->auroc_vote, f->brier, f->ece};
        status = put_figures_row(b, f->task, f->n, own, 6, err);
    }
    if (status == DRR_OK)
        status = put_figures_row(b, r->n_tasks == 1 ? r->tasks[0].task : "all", r->n_test, all, 6, err);
    char steps[24];
    if (status == DRR_OK && r->n_test_steps)
        status =
            buffer_printf(b, err,
                          "\nOf %llu labelled steps of these traces, those from which some continuation ended right "
                          "have the higher logit: AUROC %s.\n",
                          (unsigned long long)r->n_test_steps, number(steps, r->auroc_steps, 3));
    if (status == DRR_OK && r->n_test_beginnings)
        status =
            buffer_printf(b, err,
                          "\nOf all %llu beginnings of these traces that end with a step, those of right answers have "
                          "the higher logit: AUROC %s.\n",
                          (unsigned long long)r->n_test_beginnings, number(steps, r->auroc_beginnings, 3));
    return status;
}

static drr_status put_within_row(buffer *b, const char *name, const drr_within *const figures[4], drr_error *err)
{
    char share[24], low[24], high[24];
    drr_status status = buffer_puts(b, "| ", err);
    if (status == DRR_OK)
        status = put_plain(b, name, err);
    if (status == DRR_OK)
        status = buffer_printf(b, err, " | %llu | %llu", (unsigned long long)figures[0]->n_questions,
                               (unsigned long long)figures[0]->n_pairs);
    for (size_t i = 0; status == DRR_OK && i < 4; i++)
        status = buffer_printf(b, err, " | %s (%s to %s)", number(share, figures[i]->share, 3),
                               number(low, figures[i]->low, 3), number(high, figures[i]->high, 3));
    return status == DRR_OK ? buffer_puts(b, " |\n", err) : status;
}

static drr_status put_within(buffer *b, const card *k, drr_error *err)
{
    const drr_train_result *r = k->result;
    const drr_within *const all[] = {&r->within_stack, &r->within_text, &r->within_length, &r->within_vote};
    if (r->within_stack.n_pairs == 0)
        return buffer_puts(b,
                           "\nNo test question has both a right and a wrong answer: how well the critic tells answers "
                           "to one question apart is not known.\n",
                           err);
    drr_status status = buffer_puts(
        b,
        "\n### Within a question\nOf the pairs of a right and a wrong answer to one test question, the share "
        "that is put in the right order (ties count one half; 95 %\ninterval over questions). Choosing "
        "among answers to one question lives on this and not on AUROC, most of whose pairs are of two "
        "questions.\n\n"
        "| task | questions | pairs | P(correct) | text alone | length | vote share |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        err);
    for (uint32_t t = 0; status == DRR_OK && t < r->n_tasks && r->n_tasks > 1; t++) {
        const drr_task_figures *f = &r->tasks[t];
        const drr_within *const own[] = {&f->within_stack, &f->within_text, &f->within_length, &f->within_vote};
        status = put_within_row(b, f->task, own, err);
    }
    return status == DRR_OK ? put_within_row(b, r->n_tasks == 1 ? r->tasks[0].task : "all", all, err) : status;
}

static drr_status put_left_out(buffer *b, const card *k, drr_error *err)
{
    const drr_train_result *r = k->result;
    bool measured = false;
    for (uint32_t t = 0; t < r->n_tasks; t++)
        measured = measured || !isnan(r->tasks[t].auroc_left_out) || !isnan(r->tasks[t].auroc_left_out_text);
    if (r->n_tasks < 2)
        return buffer_puts(b, "\nOne task alone: how the critic does on another is not known.\n", err);
    if (!measured)
        return buffer_puts(b,
                           "\nHow each task is judged by a critic that never saw it was not measured "
                           "(`--leave-one-task-out`).\n",
                           err);
    drr_status status =
        buffer_puts(b,
                    "\n### Leave one task out\nThe same test traces, judged by a critic trained and fitted "
                    "on the other tasks alone.\n\n| task | traces | AUROC | text alone | with the task: "
                    "AUROC | text alone |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
                    err);
    for (uint32_t t = 0; status == DRR_OK && t < r->n_tasks; t++) {
        const drr_task_figures *f = &r->tasks[t];
        const double own[] = {f->auroc_left_out, f->auroc_left_out_text, f->auroc_stack, f->auroc_text};
        status = put_figures_row(b, f->task, f->n, own, 4, err);
    }
    return status;
}

static drr_status put_calibration_row(buffer *b, const char *name, const drr_calibration_figures *f, drr_error *err)
{
    char text[24];
    drr_status status = buffer_printf(b, err, "| %s | %s", name, f->picked);
    for (int kind = 0; status == DRR_OK && kind < CALIBRATION_KINDS; kind++)
        status = buffer_printf(b, err, " | %s", number(text, f->dev_log_loss[kind], 4));
    return status == DRR_OK ? buffer_puts(b, " |\n", err) : status;
}

static drr_status put_change_row(buffer *b, const char *name, const drr_calibration_figures *f, int after,
                                 drr_error *err)
{
    char x[24], y[24], z[24];
    return buffer_printf(b, err, "| %s, %s | %s | %s | %s |\n", name, after ? "after" : "before",
                         number(x, f->log_loss[after], 4), number(y, f->brier[after], 4), number(z, f->ece[after], 4));
}

static drr_status put_calibration(buffer *b, const card *k, const char *plot, drr_error *err)
{
    const drr_calibration_figures *text = &k->result->text_calibration, *stack = &k->result->stack_calibration;
    drr_status status = buffer_puts(b,
                                    "\n## Calibration\nPicked by log loss (nats) on dev questions held out from the "
                                    "calibration's own fit, five folds by question:\n\n"
                                    "| of | picked | none | temperature | Platt | isotonic |\n"
                                    "| --- | --- | ---: | ---: | ---: | ---: |\n",
                                    err);
    if (status == DRR_OK)
        status = put_calibration_row(b, k->shape ? "the text's logit" : "the probe's log-odds", text, err);
    if (status == DRR_OK)
        status = put_calibration_row(b, "the stack", stack, err);
    if (status == DRR_OK)
        status = buffer_puts(b, "\nOn the test traces:\n\n| | log loss | Brier | ECE |\n| --- | ---: | ---: | ---: |\n",
                             err);
    for (int after = 0; status == DRR_OK && after < 2; after++)
        status = put_change_row(b, k->shape ? "text alone" : "probe alone", text, after, err);
    for (int after = 0; status == DRR_OK && after < 2; after++)
        status = put_change_row(b, "stack", stack, after, err);
    if (status == DRR_OK && plot)
        status = buffer_printf(b, err, "\n![Reliability before and after](%s)\n", plot);
    return status;
}

static drr_status put_guarantees(buffer *b, const card *k, drr_error *err)
{
    const drr_train_result *r = k->result;
    char sentence[480], x[24];
    drr_status status =
        buffer_printf(b, err, "\n## Guarantee\n%s", r->n_guarantees ? "" : "None was asked for (`--target-error`).\n");
    for (uint32_t i = 0; status == DRR_OK && i < r->n_guarantees; i++) {
        const uint64_t n = r->kept[i].n, accepted = r->kept[i].n_accepted, wrong = r->kept[i].n_wrong;
        drr_guarantee_sentence(sentence, sizeof sentence, &r->guarantees[i]);
        status = buffer_printf(b, err,
                               "- %s%s On the %llu test questions, which had no part in it, that threshold "
                               "accepts %llu, %llu of them wrong (%s %%).\n",
                               r->guarantees[i].found ? "" : "**Not kept.** ", sentence, (unsigned long long)n,
                               (unsigned long long)accepted, (unsigned long long)wrong,
                               number(x, accepted ? 100 * (double)wrong / (double)accepted : NAN, 1));
    }
    if (status == DRR_OK && r->n_guarantees)
        status = buffer_printf(
            b, err,
            "\nEach is said by itself, of new questions like those of the data, answered by this reasoner with these "
            "prompts and a sampling as in\nthe traces (temperature %s), the question being the unit: of many critics "
            "made like this, those\nthat could promise nothing counted among them, at most %g %% break it. It says "
            "nothing of answers that no turn was accepted for, of "
            "another reasoner, or of questions of another kind.\n",
            isfinite(r->guarantees[0].temperature) ? number(x, r->guarantees[0].temperature, 2) : "not recorded",
            100 * r->guarantees[0].delta);
    if (status == DRR_OK)
        status = buffer_printf(b, err, "\nThe critic's own threshold: %.4g.\n", r->threshold);
    return status;
}

static drr_status put_limits(buffer *b, const card *k, drr_error *err)
{
    return buffer_printf(
        b, err,
        "\n## Intended use\nTo accept, reject or abstain on answers of the reasoner named above, to questions like "
        "those "
        "of the tasks named above, in\n`drr reason`, `drr eval` or a program of one's own. As one signal among others "
        "elsewhere.\n\n## Limits\n"
        "- It knows one reasoner's mistakes. Answers of another model, or of the same one with other prompts or "
        "another "
        "quantization,\n  are judged without any of the figures above holding.\n"
        "- Labels come from the final answer. A wrong argument that ends at the right answer counts as right, and a "
        "reference that is\n  wrong teaches what is wrong.\n"
        "- It reads %s, and no sources: it tells how such answers mostly turned "
        "out, "
        "not whether a\n  claim is true. Text can be written to please it.\n"
        "- Not for decisions about people, medicine, law or safety without someone who answers for them.\n",
        k->shape ? "the end of what is longer than its input" : "what the reasoner had in mind");
}

/* ---- the plot */

static drr_status draw(buffer *b, const card *k, drr_error *err)
{
    drr_status status = buffer_printf(
        b, err,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n<style>svg "
        "text{font:12px system-ui,sans-serif;fill:#1c1e21}svg .h{font-size:14px;font-weight:600}svg .t,svg "
        ".a{fill:#5d6570}.axis{fill:none;stroke:#5d6570}.g{stroke:#d9dde3}.d{fill-opacity:.8}.d.s0{fill:#7a828c}"
        ".d.s4{fill:#15803d}svg .f0{fill:#7a828c}svg .f4{fill:#15803d}</style>\n<rect width=\"100%%\" "
        "height=\"100%%\" fill=\"#fff\"/>\n",
        PLOT_WIDTH, PLOT_HEIGHT);
    if (status == DRR_OK)
        status = plot_begin_reliability(b, "Reliability on test questions", err);
    if (status == DRR_OK)
        status = plot_reliability_points(b, k->bins[0], JUDGE_BINS, "s0", err);
    if (status == DRR_OK)
        status = plot_reliability_points(b, k->bins[1], JUDGE_BINS, "s4", err);
    if (status == DRR_OK)
        status = buffer_printf(b, err,
                               "<text class=\"l f0\" x=\"%d\" y=\"%d\">before: sigmoid of the %s</text>"
                               "<text class=\"l f4\" x=\"%d\" y=\"%d\">after: P(correct)</text>\n",
                               PLOT_LEFT + 10, PLOT_TOP + 12, k->shape ? "text's logit" : "probe's log-odds",
                               PLOT_LEFT + 10, PLOT_TOP + 27);
    if (status == DRR_OK)
        status = plot_end(b, err);
    return status == DRR_OK ? buffer_puts(b, "</svg>\n", err) : status;
}

static drr_status write_plot(const card *k, const char *path, drr_error *err)
{
    buffer b = {0};
    drr_status status = draw(&b, k, err);
    if (status == DRR_OK)
        status = file_write_all(path, b.data, b.size, err);
    buffer_clear(&b);
    return status;
}

drr_status card_write(const card *k, drr_error *err)
{
    buffer text = {0}, path = {0}, plot = {0};
    const bool drawn = k->result->n_test > 0;
    drr_status status = name_beside(&path, k->options->out, ".card.md", err);
    if (status == DRR_OK)
        status = name_beside(&plot, k->options->out, ".card.svg", err);
    if (status == DRR_OK && drawn)
        status = write_plot(k, plot.data, err);
    if (status == DRR_OK)
        status = put_head(&text, k, err);
    if (status == DRR_OK)
        status = put_data(&text, k, err);
    if (status == DRR_OK)
        status = put_figures(&text, k, err);
    if (status == DRR_OK)
        status = put_within(&text, k, err);
    if (status == DRR_OK)
        status = put_left_out(&text, k, err);
    if (status == DRR_OK)
        status = card_put_runs(&text, k, err);
    if (status == DRR_OK)
        status = put_calibration(&text, k, drawn ? file_name(plot.data, NULL) : NULL, err);
    if (status == DRR_OK)
        status = put_guarantees(&text, k, err);
    if (status == DRR_OK)
        status = put_limits(&text, k, err);
    if (status == DRR_OK)
        status = file_write_all(path.data, text.data, text.size, err);
    buffer_clear(&text);
    buffer_clear(&path);
    buffer_clear(&plot);
    return status;
}
