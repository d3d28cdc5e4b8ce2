/* cmd_train.c: `drr train`: traces in, a critic out. */
#include "training.h"

#include <math.h>
#include <string.h>

static int run(int argc, char **argv);

const cli_command cli_train = {
    "train", NULL, "train a critic on traces",
    "Splits by question; keeps the epoch that is best on held-out questions; fits calibration, stack and threshold.\n"
    "--split trace is there to show what that is for: its figures are too good, and it says so.\n"
    "With --target-error A the threshold is one of which can be said, with confidence 1 - D, that of the answers "
    "accepted "
    "at it at\n"
    "most a share A is wrong (Learn-then-Test on questions kept for that alone); where none can, it says by how much "
    "it "
    "falls short.\n"
    "--kind probe and --kind stack need traces of an embedded reasoner with its hidden states: `drr distill "
    "--hidden`.\n"
    "Beside the critic lies its model card, NAME.card.md. Interrupted, --resume goes on from the checkpoint beside "
    "--out.\n"
    "Started by mpirun, all ranks train the one critic together, each on its share of every batch (docs/scale.md).\n"
    "--seeds and --folds train several times to show the spread of the figures; --search tries learning rate, epochs, "
    "max length\n"
    "and kind for a given time, and training the winner comes on top of it (docs/training.md). Both are resumed as "
    "well.\n\n"
    "Examples:\n"
    "  drr train --traces runs/csqa/traces.db\n"
    "  drr train --traces csqa.replay.jsonl.gz --reasoner text-davinci-003 --out davinci.gguf --epochs 2\n"
    "  drr train --traces runs/csqa/traces.db --encoder my-bert/ --out my.gguf --json\n"
    "  drr train --traces runs/svamp/traces.db --target-error 0.1 --delta 0.1\n"
    "  drr train --traces runs/svamp/traces.db --folds 5 --seeds 3\n"
    "  drr train --traces runs/svamp/traces.db --search 20m\n"
    "  drr train --traces runs/svamp/traces.db --rank-weight 1 --head token\n"
    "  drr train --traces runs/svamp/traces.db --split trace --out ablation.gguf\n"
    "  drr train --traces runs/svamp/traces.db --steps    # labels by `drr distill --steps mc=M`\n"
    "  drr train --traces runs/svamp/traces.db --kind stack    # hidden states by `drr distill --hidden last`\n"
    "  mpirun -np 4 drr train --traces runs/csqa/traces.db --threads 1\n",
    run};

const char *const risk_test_names[] = {"hoeffding-bentkus", "binomial", NULL};

static void calibration_json(cli_json *j, const char *key, const drr_calibration_figures *f)
{
    static const char *const kinds[] = {"none", "temperature", "platt", "isotonic"};
    cli_json_open(j, key, '{');
    cli_json_string(j, "picked", f->picked);
    cli_json_open(j, "dev_log_loss", '{');
    for (size_t i = 0; i < 4; i++)
        cli_json_number(j, kinds[i], f->dev_log_loss[i]);
    cli_json_close(j, '}');
    for (int after = 0; after < 2; after++) {
        cli_json_open(j, after ? "after" : "before", '{');
        cli_json_number(j, "log_loss", f->log_loss[after]);
        cli_json_number(j, "brier", f->brier[after]);
        cli_json_number(j, "ece", f->ece[after]);
        cli_json_close(j, '}');
    }
    cli_json_close(j, '}');
}

static void one_within_json(cli_json *j, const char *key, const drr_within *w)
{
    cli_json_open(j, key, '{');
    cli_json_number(j, "share", w->share);
    cli_json_open(j, "ci", '[');
    cli_json_number(j, NULL, w->low);
    cli_json_number(j, NULL, w->high);
    cli_json_close(j, ']');
    cli_json_uint(j, "n_pairs", w->n_pairs);
    cli_json_uint(j, "n_questions", w->n_questions);
    cli_json_close(j, '}');
}

static void within_json(cli_json *j, const drr_within *text, const drr_within *stack, const drr_within *length,
                        const drr_within *vote)
{
    one_within_json(j, "within_text", text);
    one_within_json(j, "within_stack", stack);
    one_within_json(j, "within_length", length);
    one_within_json(j, "within_vote", vote);
}

static void tasks_json(cli_json *j, const drr_train_result *r)
{
    cli_json_open(j, "tasks", '{');
    for (uint32_t i = 0; i < r->n_tasks; i++) {
        const drr_task_figures *f = &r->tasks[i];
        cli_json_open(j, f->task, '{');
        cli_json_uint(j, "n", f->n);
        cli_json_uint(j, "n_right", f->n_right);
        cli_json_uint(j, "n_questions", f->n_questions);
        cli_json_number(j, "auroc_text", f->auroc_text);
        cli_json_number(j, "auroc_stack", f->auroc_stack);
        cli_json_number(j, "auroc_length", f->auroc_length);
        cli_json_number(j, "auroc_vote", f->auroc_vote);
        within_json(j, &f->within_text, &f->within_stack, &f->within_length, &f->within_vote);
        cli_json_number(j, "auroc_probe", f->auroc_probe);
        cli_json_number(j, "brier", f->brier);
        cli_json_number(j, "ece", f->ece);
        cli_json_number(j, "auroc_left_out", f->auroc_left_out);
        cli_json_number(j, "auroc_left_out_text", f->auroc_left_out_text);
        cli_json_close(j, '}');
    }
    cli_json_close(j, '}');
}

/* null without a probe */
static void probe_json(cli_json *j, const drr_train_result *r)
{
    if (r->probe.n_train == 0) {
        cli_json_string(j, "probe", NULL);
        return;
    }
    cli_json_open(j, "probe", '{');
    cli_json_string(j, "layer", r->probe.layer);
    cli_json_string(j, "pools", r->probe.pools);
    cli_json_uint(j, "n_train", r->probe.n_train);
    cli_json_uint(j, "n_dev", r->probe.n_dev);
    cli_json_uint(j, "n_test", r->probe.n_test);
    cli_json_number(j, "l2", r->probe.l2);
    cli_json_number(j, "dev_log_loss", r->probe.dev_log_loss);
    cli_json_number(j, "dev_auroc", r->probe.dev_auroc);
    cli_json_number(j, "auroc", r->probe.auroc);
    cli_json_number(j, "seconds", r->probe.seconds);
    cli_json_close(j, '}');
}

static void guarantees_json(cli_json *j, const drr_train_result *r)
{
    cli_json_open(j, "guarantees", '[');
    for (uint32_t i = 0; i < r->n_guarantees; i++) {
        cli_json_open(j, NULL, '{');
        cli_guarantee_members(j, &r->guarantees[i]);
        cli_json_uint(j, "n_needed", r->guarantees[i].n_needed);
        cli_json_uint(j, "n_test", r->kept[i].n);
        cli_json_uint(j, "n_test_accepted", r->kept[i].n_accepted);
        cli_json_uint(j, "n_test_wrong", r->kept[i].n_wrong);
        cli_json_close(j, '}');
    }
    cli_json_close(j, ']');
}

void train_result_json(cli_json *j, const drr_train_result *r, const char *out)
{
    cli_json_string(j, "critic", out);
    cli_json_string(j, "kind", drr_critic_kind_name(r->kind));
    cli_json_uint(j, "n_train", r->n_train);
    cli_json_uint(j, "n_dev", r->n_dev);
    cli_json_uint(j, "n_test", r->n_test);
    cli_json_uint(j, "n_train_questions", r->n_train_questions);
    cli_json_uint(j, "n_dev_questions", r->n_dev_questions);
    cli_json_uint(j, "n_test_questions", r->n_test_questions);
    cli_json_uint(j, "n_truncated", r->n_truncated);
    cli_json_number(j, "auroc_text", r->auroc_text);
    cli_json_number(j, "auroc_stack", r->auroc_stack);
    cli_json_number(j, "auroc_length", r->auroc_length);
    cli_json_number(j, "auroc_vote", r->auroc_vote);
    within_json(j, &r->within_text, &r->within_stack, &r->within_length, &r->within_vote);
    cli_json_number(j, "auroc_probe", r->probe.n_train ? r->probe.auroc : NAN);
    cli_json_number(j, "auprc", r->auprc);
    cli_json_number(j, "brier", r->brier);
    cli_json_number(j, "ece", r->ece);
    cli_json_number(j, "threshold", r->threshold);
    cli_json_number(j, "best_loss", r->best_loss);
    cli_json_uint(j, "best_epoch", r->best_epoch);
    cli_json_string(j, "precision", drr_precision_name(r->precision));
    cli_json_number(j, "tokens_per_second", r->tokens_per_second);
    cli_json_number(j, "seconds", r->seconds);
    cli_json_string(j, "head", drr_head_name(r->head));
    cli_json_uint(j, "n_rank_questions", r->n_rank_questions);
    cli_json_uint(j, "n_train_steps", r->n_train_steps);
    cli_json_uint(j, "n_test_steps", r->n_test_steps);
    cli_json_number(j, "auroc_steps", r->auroc_steps);
    cli_json_uint(j, "n_train_beginnings", r->n_train_beginnings);
    cli_json_uint(j, "n_test_beginnings", r->n_test_beginnings);
    cli_json_number(j, "auroc_beginnings", r->n_test_beginnings ? r->auroc_beginnings : NAN);
    cli_json_uint(j, "n_guarantee", r->n_guarantee);
    cli_json_uint(j, "n_guarantee_questions", r->n_guarantee_questions);
    calibration_json(j, "text_calibration", &r->text_calibration);
    calibration_json(j, "stack_calibration", &r->stack_calibration);
    cli_json_bool(j, "text_alone", r->text_alone);
    cli_json_string(j, "split", r->by_trace ? "trace" : "question");
    probe_json(j, r);
    tasks_json(j, r);
    guarantees_json(j, r);
}

static void print_within(FILE *file, const drr_train_result *r)
{
    const drr_within *const all[] = {&r->within_text, &r->within_stack, &r->within_length, &r->within_vote};
    static const char *const names[] = {"text", ", stack", "; controls: length", ", vote share"};
    if (r->within_text.n_pairs == 0) {
        fprintf(
            file,
            "  within-question discrimination: not known, for no test question has both a right and a wrong answer\n");
        return;
    }
    fprintf(file, "  within-question discrimination (%llu right-wrong pairs of %llu questions):",
            (unsigned long long)r->within_text.n_pairs, (unsigned long long)r->within_text.n_questions);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char share[24], low[24], high[24];
        fprintf(file, "%s%s %s (%s to %s)", i ? "" : " ", names[i], cli_number(share, all[i]->share, 3),
                cli_number(low, all[i]->low, 3), cli_number(high, all[i]->high, 3));
    }
    fprintf(file, "\n");
}

static void print_tasks(FILE *file, const drr_train_result *r)
{
    char a[24], b[24];
    for (uint32_t i = 0; i < r->n_tasks && r->n_tasks > 1; i++) {
        const drr_task_figures *f = &r->tasks[i];
        fprintf(file, "  %s: AUROC %s on %llu traces", f->task, cli_number(a, f->auroc_stack, 3),
                (unsigned long long)f->n);
        if (isfinite(f->auroc_left_out))
            fprintf(file, ", and %s by a critic that never saw it", cli_number(b, f->auroc_left_out, 3));
        fprintf(file, "\n");
    }
}

static void print_guarantees(FILE *file, const drr_train_result *r)
{
    for (uint32_t i = 0; i < r->n_guarantees; i++) {
        char sentence[480];
        drr_guarantee_sentence(sentence, sizeof sentence, &r->guarantees[i]);
        fprintf(file, "  %s On %llu test questions it accepts %llu, %llu of them wrong.\n", sentence,
                (unsigned long long)r->kept[i].n, (unsigned long long)r->kept[i].n_accepted,
                (unsigned long long)r->kept[i].n_wrong);
    }
}

void train_result_print(FILE *file, const drr_train_result *r, const char *out)
{
    char a[24], b[24], c[24], d[24];
    const bool text = r->kind != DRR_CRITIC_PROBE;
    if (text)
        fprintf(file, "%s, trained in %s (%.0f tokens/s, %s), best epoch %u\n", out, cli_duration(a, r->seconds),
                r->tokens_per_second, drr_precision_name(r->precision), r->best_epoch);
    else
        fprintf(file, "%s, a probe, fitted in %s\n", out, cli_duration(a, r->seconds));
    if (r->by_trace)
        fprintf(file,
                "  SPLIT BY TRACE: the figures are too good, for answers to one question lie in train, dev and test\n");
    fprintf(file, "  traces (questions): train %llu (%llu), dev %llu (%llu), test %llu (%llu); %llu cut to fit\n",
            (unsigned long long)r->n_train, (unsigned long long)r->n_train_questions, (unsigned long long)r->n_dev,
            (unsigned long long)r->n_dev_questions, (unsigned long long)r->n_test,
            (unsigned long long)r->n_test_questions, (unsigned long long)r->n_truncated);
    fprintf(file, "  held-out AUROC: text %s, %s %s; controls: length %s, vote share %s\n",
            text ? cli_number(a, r->auroc_text, 3) : "none", r->text_alone ? "no stack, so P(correct)" : "stack",
            cli_number(b, r->auroc_stack, 3), cli_number(c, r->auroc_length, 3), cli_number(d, r->auroc_vote, 3));
    print_within(file, r);
    if (r->probe.n_train)
        fprintf(file, "  probe of layer %s, %s: held-out AUROC %s on %llu traces with hidden states, %s on dev\n",
                r->probe.layer, r->probe.pools, cli_number(a, r->probe.auroc, 3), (unsigned long long)r->probe.n_test,
                cli_number(b, r->probe.dev_auroc, 3));
    fprintf(file, "  AUPRC %s, Brier %s, ECE %s, threshold %s\n", cli_number(a, r->auprc, 3),
            cli_number(b, r->brier, 3), cli_number(c, r->ece, 3), cli_number(d, r->threshold, 3));
    fprintf(file, "  calibration of the %s: %s, ECE %s before and %s after; of the stack: %s, %s and %s\n",
            text ? "text" : "probe", r->text_calibration.picked, cli_number(a, r->text_calibration.ece[0], 3),
            cli_number(b, r->text_calibration.ece[1], 3), r->stack_calibration.picked,
            cli_number(c, r->stack_calibration.ece[0], 3), cli_number(d, r->stack_calibration.ece[1], 3));
    if (r->n_rank_questions)
        fprintf(file, "  ranked the answers of %llu questions that have right and wrong ones\n",
                (unsigned long long)r->n_rank_questions);
    if (r->n_train_steps || r->n_test_steps)
        fprintf(file, "  learnt from %llu labels of steps; held-out AUROC of %llu steps: %s\n",
                (unsigned long long)r->n_train_steps, (unsigned long long)r->n_test_steps,
                cli_number(a, r->auroc_steps, 3));
    if (r->n_test_beginnings)
        fprintf(file, "  learnt from %llu beginnings of answers; held-out AUROC of %llu beginnings: %s\n",
                (unsigned long long)r->n_train_beginnings, (unsigned long long)r->n_test_beginnings,
                cli_number(a, r->auroc_beginnings, 3));
    print_tasks(file, r);
    print_guarantees(file, r);
}

/* A store's critic lies beside it; one of other traces goes to runs/. */
static void default_out(char *path, size_t size, const char *traces)
{
    const size_t n = strlen(traces);
    const char *slash = strrchr(traces, '/');
    if (n > 3 && strcmp(traces + n - 3, ".db") == 0)
        snprintf(path, size, "%.*scritic.gguf", slash ? (int)(slash - traces + 1) : 0, traces);
    else
        cli_default_out(path, size, traces, "critic.gguf");
}

typedef struct several {   /* more than one training */
    uint32_t seeds, folds; /* 0: not asked for */
    const char *time;
    double seconds; /* of a search; 0: none */
    drr_repeats repeats;
    drr_search search;
} several;

/* CLI_DONE, or what was put wrongly. */
static int check_several(several *x)
{
    if (x->time && !training_duration(&x->seconds, x->time))
        return cli_usage(&cli_train, "--search takes minutes, or a duration like 20m, 90s or 1h30m, not \"%s\"",
                         x->time);
    if (x->time && (x->seeds || x->folds))
        return cli_usage(&cli_train, "--search and --%s do not go together: search first, then give what won to --%s",
                         x->folds ? "folds" : "seeds", x->folds ? "folds" : "seeds");
    if (x->folds == 1)
        return cli_usage(&cli_train, "--folds 1 would leave nothing to train on: give at least 2");
    return CLI_DONE;
}

static drr_status train_all(drr_train_result *result, several *x, const drr_train_options *t, drr_error *err)
{
    if (x->seconds > 0)
        return drr_train_search(result, &x->search, t, x->seconds, cli_hooks(), err);
    if (x->seeds || x->folds)
        return drr_train_repeat(result, &x->repeats, t, x->folds, x->seeds ? x->seeds : 1, cli_hooks(), err);
    return drr_train(result, t, cli_hooks(), err);
}

static void show(const drr_train_result *result, const several *x, const drr_train_options *t, bool json)
{
    cli_json j = {stdout, false};
    cli_clear_progress();
    if (json) {
        cli_json_open(&j, NULL, '{');
        train_result_json(&j, result, t->out);
        if (x->seeds || x->folds)
            repeats_json(&j, "repeats", &x->repeats);
        if (x->seconds > 0)
            search_json(&j, "search", &x->search);
        cli_json_close(&j, '}');
        printf("\n");
        return;
    }
    if (x->seeds || x->folds)
        repeats_print(&x->repeats, t->seed);
    if (x->seconds > 0)
        search_print(&x->search);
    train_result_print(stdout, result, t->out);
}

static int run(int argc, char **argv)
{
    drr_train_options t;
    static const char *const splits[] = {"question", "trace", NULL};
    several more = {0};
    bool json = false;
    int split = 0;
    char path[4096];
    cli_follow_rank();
    drr_train_options_defaults(&t);
    t.encoder = CLI_ENCODER;
    const cli_option options[] = {
        {.name = "traces",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &t.traces,
         .meaning = "a trace store, or JSONL[.gz]",
         .required = true},
        {.name = "out",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &t.out,
         .meaning = "the critic; not given: critic.gguf beside the store"},
        {.name = "reasoner",
         .argument = "ID,...",
         .type = CLI_STRING,
         .value = &t.reasoner,
         .meaning = "only traces of these reasoners"},
        {.name = "task",
         .argument = "NAME",
         .type = CLI_STRING,
         .value = &t.task,
         .meaning = "only traces of this data set"},
        {.name = "test-traces",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &t.test_traces,
         .meaning = "measure on these, not on a share of the questions; theirs are never trained on"},
        TRAIN_OPTIONS(t),
        {.name = "steps",
         .type = CLI_FLAG,
         .value = &t.steps,
         .meaning = "a token head, taught by the labels of steps where traces have some (docs/steps.md)"},
        {.name = "threads",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &t.threads,
         .meaning = "0: all cores",
         .high = 1024},
        {.name = "seed",
         .argument = "N",
         .type = CLI_UINT64,
         .value = &t.seed,
         .meaning = "of the split, the order and the head"},
        {.name = "text-alone",
         .type = CLI_FLAG,
         .value = &t.text_alone,
         .meaning = "no stack: P(correct) is of the text alone"},
        {.name = "question-only",
         .type = CLI_FLAG,
         .value = &t.question_only,
         .meaning =
             "P(the reasoner gets it right) from the question alone, for --question-critic of drr eval and reason"},
        {.name = "split",
         .argument = "BY",
         .type = CLI_CHOICE,
         .value = &split,
         .names = splits,
         .meaning = "question, or as an ablation trace: then answers to one question are trained and tested on"},
        {.name = "first-turns-only",
         .type = CLI_FLAG,
         .value = &t.first_turns_only,
         .meaning = "learn nothing from answers after a rejection; test questions keep theirs"},
        {.name = "seeds",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &more.seeds,
         .meaning = "train with so many seeds, and show each and the spread",
         .high = 1000},
        {.name = "folds",
         .argument = "K",
         .type = CLI_UINT32,
         .value = &more.folds,
         .meaning = "cross-validate: leave out each of K parts of the questions in turn, with --seeds seeds each",
         .high = 100},
        {.name = "search",
         .argument = "TIME",
         .type = CLI_STRING,
         .value = &more.time,
         .meaning =
             "try other settings on held-out questions for so many minutes (or 20m, 1h30m), then train the best"},
        {.name = "resume",
         .type = CLI_FLAG,
         .value = &t.resume,
         .meaning = "go on from the checkpoint, where there is one"},
        {.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object on stdout"},
        CLI_END};
    drr_train_result result = {0};
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_train, options, &argc, &argv, 0, 0, &code))
        return code;
    t.by_trace = split == 1;
    code = check_several(&more);
    if (code != CLI_DONE)
        return code;
    if (!t.out) {
        default_out(path, sizeof path, t.traces);
        t.out = path;
    }
    drr_status status = cli_silent() ? DRR_OK : cli_make_folder_of(t.out, &err);
    if (status == DRR_OK)
        status = train_all(&result, &more, &t, &err);
    if (status == DRR_E_INTERRUPTED && !t.resume)
        cli_note("add --resume to go on from the checkpoint");
    if (status != DRR_OK)
        return cli_fail(&err);
    show(&result, &more, &t, json);
    drr_repeats_clear(&more.repeats);
    drr_search_clear(&more.search);
    return CLI_DONE;
}
