/* cmd_train.c: `drr train`: traces in, a critic out. */
#include "training.h"

#include <math.h>
#include <string.h>

static int run(int argc, char **argv);

const cli_command cli_train = {
    "train", NULL, "train a critic on traces",
    "Splits by question, never by trace; keeps the epoch that is best on held-out questions; fits the stack and the "
    "threshold.\n"
    "Interrupted, --resume goes on from the checkpoint beside --out.\n\n"
    "Examples:\n"
    "  drr train --traces runs/csqa/traces.db\n"
    "  drr train --traces csqa.replay.jsonl.gz --reasoner text-davinci-003 --out davinci.gguf --epochs 2\n"
    "  drr train --traces runs/csqa/traces.db --encoder my-bert/ --out my.gguf --json\n",
    run};

void train_result_json(cli_json *j, const char *key, const drr_train_result *r, const char *out)
{
    cli_json_open(j, key, '{');
    cli_json_string(j, "critic", out);
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
    cli_json_number(j, "auprc", r->auprc);
    cli_json_number(j, "brier", r->brier);
    cli_json_number(j, "ece", r->ece);
    cli_json_number(j, "threshold", r->threshold);
    cli_json_number(j, "best_loss", r->best_loss);
    cli_json_uint(j, "best_epoch", r->best_epoch);
    cli_json_string(j, "precision", drr_precision_name(r->precision));
    cli_json_number(j, "tokens_per_second", r->tokens_per_second);
    cli_json_number(j, "seconds", r->seconds);
    cli_json_close(j, '}');
}

void train_result_print(FILE *file, const drr_train_result *r, const char *out)
{
    char a[24], b[24], c[24], d[24];
    fprintf(file, "%s, trained in %s (%.0f tokens/s, %s), best epoch %u\n", out, cli_duration(a, r->seconds),
            r->tokens_per_second, drr_precision_name(r->precision), r->best_epoch);
    fprintf(file, "  traces (questions): train %llu (%llu), dev %llu (%llu), test %llu (%llu); %llu cut to fit\n",
            (unsigned long long)r->n_train, (unsigned long long)r->n_train_questions, (unsigned long long)r->n_dev,
            (unsigned long long)r->n_dev_questions, (unsigned long long)r->n_test,
            (unsigned long long)r->n_test_questions, (unsigned long long)r->n_truncated);
    fprintf(file, "  held-out AUROC: text %s, stack %s; controls: length %s, vote share %s\n",
            cli_number(a, r->auroc_text, 3), cli_number(b, r->auroc_stack, 3), cli_number(c, r->auroc_length, 3),
            cli_number(d, r->auroc_vote, 3));
    fprintf(file, "  AUPRC %s, Brier %s, ECE %s, threshold %s\n", cli_number(a, r->auprc, 3),
            cli_number(b, r->brier, 3), cli_number(c, r->ece, 3), cli_number(d, r->threshold, 3));
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

static int run(int argc, char **argv)
{
    drr_train_options t;
    bool json = false;
    char path[4096];
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
    if (!t.out) {
        default_out(path, sizeof path, t.traces);
        t.out = path;
    }
    drr_status status = cli_make_folder_of(t.out, &err);
    if (status == DRR_OK)
        status = drr_train(&result, &t, cli_hooks(), &err);
    if (status == DRR_E_INTERRUPTED && !t.resume)
        cli_note("add --resume to go on from the checkpoint");
    if (status != DRR_OK)
        return cli_fail(&err);
    cli_clear_progress();
    if (json) {
        cli_json j = {stdout, false};
        train_result_json(&j, NULL, &result, t.out);
        printf("\n");
    } else {
        train_result_print(stdout, &result, t.out);
    }
    return CLI_DONE;
}
