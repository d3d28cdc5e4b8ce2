/* cmd_distill.c: `drr distill`: the reasoner answers questions with known answers, and each turn becomes a trace. */
#include "distilling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run(int argc, char **argv);

const cli_command cli_distill = {
    "distill", NULL, "let the reasoner answer, and keep each turn with its label",
    "Each question is answered --samples times. A wrong answer is rejected with the words of `--feedback "
    "words`, up to\n"
    "--turns turns; a small share of right ones is rejected too, as the critic will by mistake. Labels come from the\n"
    "reference answers, or from checkers (docs/checking.md), alone. Every turn is on disk when it ends: interrupted or "
    "killed, the same command goes on.\n\n"
    "Examples:\n"
    "  drr distill --data csqa.train.jsonl\n"
    "  drr distill --data csqa.train.jsonl --limit 200 --samples 8 --out runs/csqa/traces.db\n"
    "  drr distill --data mbpp.train.jsonl --allow-checkers --max-tokens 300\n"
    "  drr distill --data mine.jsonl --reasoner model.gguf --threads 8 --out mine.db --json\n"
    "  drr distill --data svamp.train.jsonl --steps mc=4    # labels the steps of each turn, too (docs/steps.md)\n"
    "  drr distill --data svamp.train.jsonl --hidden 14,21,last    # keeps hidden states for a probe (docs/model.md)\n"
    "  drr distill --data csqa.train.jsonl --store postgres://drr@db.example/traces    # plans, and works\n"
    "  drr distill --worker --store postgres://drr@db.example/traces                   # works too, on any machine\n",
    run};

/* Shared work is planned whole before it begins, so that no worker finds nothing left and goes home between two sets.
 */
drr_status distill_into(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const cli_list *data,
                        const char *format, const drr_distill_options *options, bool shared, drr_error *err)
{
    drr_status status = DRR_OK;
    for (size_t i = 0; i < data->n && status == DRR_OK; i++) {
        drr_dataset *dataset = NULL;
        status = cli_open_dataset(&dataset, data->items[i], format, err);
        if (status == DRR_OK)
            status =
                (shared ? drr_distill_plan : drr_distill)(store, reasoner, prompts, dataset, options, cli_hooks(), err);
        drr_dataset_free(dataset);
    }
    return status == DRR_OK && shared ? drr_distill_work(store, reasoner, prompts, options, cli_hooks(), err) : status;
}

void remove_empty_store(const char *path)
{
    static const char *const tails[] = {"", "-wal", "-shm", "-journal"};
    char name[4200];
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        unlink(name);
    }
}

static void tell_counts(const drr_trace_counts *c, const char *out)
{
    char share[16];
    cli_note("%s: %llu traces of %llu questions; fresh answers right: %s", out, (unsigned long long)c->traces,
             (unsigned long long)c->questions,
             cli_share(share, c->turn0 ? (double)c->turn0_accepted / (double)c->turn0 : 0));
}

/* What this run added to the store, and how fast. */
static void print_run(const char *out, const drr_trace_counts *before, const drr_trace_counts *after, double seconds,
                      const drr_reasoner *reasoner)
{
    cli_json j = {stdout, false};
    drr_reasoner_timing t;
    drr_reasoner_timing_read(reasoner, &t);
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "store", out);
    cli_json_string(&j, "reasoner", drr_reasoner_id(reasoner));
    cli_json_uint(&j, "new_traces", after->traces - before->traces);
    cli_json_uint(&j, "tokens_written", after->tokens - before->tokens);
    cli_json_uint(&j, "new_hidden", after->hidden - before->hidden);
    cli_json_uint(&j, "new_stepped", after->stepped - before->stepped);
    cli_json_uint(&j, "rollouts", after->rollouts - before->rollouts);
    cli_json_uint(&j, "step_tokens", after->step_tokens - before->step_tokens);
    cli_json_number(&j, "seconds", seconds);
    cli_json_uint(&j, "prompt_tokens_computed", t.n_prefilled);
    cli_json_number(&j, "prefill_seconds", t.prefill_seconds);
    cli_json_number(&j, "decode_seconds", t.decode_seconds);
    cli_json_number(&j, "decode_tokens_per_second",
                    t.full_width_seconds > 0 ? (double)t.n_full_width / t.full_width_seconds : NAN);
    cli_json_uint(&j, "traces", after->traces);
    cli_json_uint(&j, "questions", after->questions);
    cli_json_number(&j, "fresh_right", after->turn0 ? (double)after->turn0_accepted / (double)after->turn0 : NAN);
    cli_json_close(&j, '}');
    printf("\n");
}

bool distill_parse_steps(drr_distill_options *d, const char *steps)
{
    enum { MOST = 1024 };
    char *end = NULL;
    if (strncmp(steps, "mc=", 3) != 0 || steps[3] < '0' || steps[3] > '9')
        return false;
    const unsigned long n = strtoul(steps + 3, &end, 10);
    d->step_rollouts = (uint32_t)n;
    d->step_every = strcmp(end, ",all") == 0;
    return n >= 1 && n <= MOST && (*end == '\0' || d->step_every);
}

static int run(int argc, char **argv)
{
    cli_reasoner_choice choice;
    cli_checking checking;
    drr_distill_options d;
    cli_list data = {0};
    const char *out = NULL, *format = NULL;
    char default_out[4096];
    const char *store_name = NULL, *steps = NULL;
    bool json = false, worker = false;
    cli_reasoner_defaults(&choice);
    cli_checking_defaults(&checking);
    drr_distill_options_defaults(&d);
    const cli_option options[] = {
        {.name = "data",
         .argument = "FILE|NAME",
         .type = CLI_LIST,
         .value = &data,
         .meaning = "questions with answers; may be given several times"},
        {.name = "out",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &out,
         .meaning = "the trace store; not given: runs/<data>/traces.db"},
        {.name = "store",
         .argument = "URL|FILE",
         .type = CLI_STRING,
         .value = &store_name,
         .meaning = "the same as --out; a URL postgres://USER@HOST/DATABASE is for many machines (docs/scale.md)"},
        {.name = "worker",
         .type = CLI_FLAG,
         .value = &worker,
         .meaning = "work on what others planned in a store in PostgreSQL, with their settings; no --data"},
        {.name = "lease",
         .argument = "S",
         .type = CLI_UINT32,
         .value = &d.lease_seconds,
         .meaning = "there: seconds of silence after which a worker's samples go to another; 0: 60",
         .high = 86400},
        {.name = "format",
         .argument = "F",
         .type = CLI_STRING,
         .value = &format,
         .meaning = "of the data; not given: detected"},
        CLI_REASONER_OPTIONS(choice),
        CLI_HIDDEN_OPTION(choice),
        DISTILL_OPTIONS(d),
        CLI_CHECKING_OPTIONS(checking),
        {.name = "max-tokens",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &d.max_tokens,
         .meaning = "tokens of one turn",
         .low = 1,
         .high = 1 << 20},
        {.name = "temperature",
         .argument = "T",
         .type = CLI_FLOAT,
         .value = &d.temperature,
         .meaning = "of sampling",
         .high = 10},
        {.name = "top-p",
         .argument = "P",
         .type = CLI_FLOAT,
         .value = &d.top_p,
         .meaning = "nucleus of sampling",
         .high = 1},
        {.name = "samples",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &d.samples,
         .meaning = "fresh samples a question",
         .low = 1,
         .high = 1024},
        {.name = "turns",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &d.turns,
         .meaning = "at most this many turns a sample",
         .low = 1,
         .high = 64},
        {.name = "seed", .argument = "N", .type = CLI_UINT64, .value = &d.seed, .meaning = "same seed, same answers"},
        {.name = "grammar", .type = CLI_FLAG, .value = &d.grammar, .meaning = "force the answer line to parse"},
        {.name = "steps",
         .argument = "mc=M[,all]",
         .type = CLI_STRING,
         .value = &steps,
         .meaning = "label the steps of each turn by M continuations from a step (docs/steps.md); with ,all from every "
                    "one"},
        {.name = "json",
         .type = CLI_FLAG,
         .value = &json,
         .meaning = "what was added and how fast, as one JSON object"},
        CLI_END};
    drr_store *store = NULL;
    drr_prompts *prompts = NULL;
    drr_reasoner *reasoner = NULL;
    drr_error err = {0};
    drr_trace_counts before = {0}, counts = {0};
    double seconds = 0;
    int code;
    if (!cli_parse(&cli_distill, options, &argc, &argv, 0, 0, &code))
        return code;
    if (worker ? data.n > 0 : data.n == 0)
        return cli_usage(&cli_distill, worker ? "--worker takes its questions from the store, and no --data"
                                              : "--data FILE|NAME is missing: which questions?");
    if (steps && worker)
        return cli_usage(&cli_distill, "--worker labels steps as they were planned, and takes no --steps");
    if (steps && !distill_parse_steps(&d, steps))
        return cli_usage(&cli_distill, NOT_STEPS, steps);
    if (out && store_name)
        return cli_usage(&cli_distill, "--out and --store are the same thing; give one");
    out = out ? out : store_name;
    const bool url = out && drr_store_is_url(out);
    if (worker && !url)
        return cli_usage(&cli_distill, "--worker needs --store postgres://...: only there is work shared");
    if (!out) {
        cli_default_out(default_out, sizeof default_out, data.items[0], "traces.db");
        out = default_out;
    }
    choice.options.seed = d.seed;
    const bool is_new = !url && access(out, F_OK) != 0;
    drr_status status = cli_check_datasets(&data, format, d.limit, &err);
    if (status == DRR_OK && !url)
        status = cli_make_folder_of(out, &err);
    if (status == DRR_OK)
        status = drr_store_open(&store, out, !worker, &err);
    if (status == DRR_OK)
        status = cli_open_checker(&d.checker, &checking, &err);
    if (status == DRR_OK)
        status = cli_open_reasoner(&reasoner, &prompts, &choice, &err);
    if (status == DRR_OK)
        status = cli_check_hidden(reasoner, &choice, &err);
    if (status == DRR_OK)
        status = drr_store_counts(store, NULL, &before, &err);
    if (status == DRR_OK) {
        const double began = cli_seconds();
        status = distill_into(store, reasoner, prompts, &data, format, &d, url, &err); /* a worker's data is empty */
        seconds = cli_seconds() - began;
    }
    const bool counted = store && drr_store_counts(store, NULL, &counts, NULL) == DRR_OK;
    if (counted && counts.traces)
        tell_counts(&counts, out);
    if (json && counted && status == DRR_OK)
        print_run(out, &before, &counts, seconds, reasoner);
    drr_checker_close(d.checker);
    drr_reasoner_close(reasoner);
    drr_prompts_free(prompts);
    drr_store_close(store);
    if (status != DRR_OK && is_new && (!store || (counted && counts.traces == 0)))
        remove_empty_store(out);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
