/* cmd_critic.c: a trained critic alone: scoring lines, showing what it is, to Hugging Face's files and back. */
#include "training.h"

#include <math.h>
#include <string.h>

static int run_score(int argc, char **argv);
static int run_show(int argc, char **argv);
static int run_export(int argc, char **argv);
static int run_import(int argc, char **argv);

static const cli_command score_command = {
    "critic score", NULL, "score lines of {\"question\", \"text\"}",
    "Each line comes back with `logit` (the text encoder alone) and `p_correct` (calibrated).\n"
    "With --steps a critic with a head of tokens adds `step_scores`, from the same pass: of the steps that the line's\n"
    "own `steps` name, as a trace has it, else of those that its `kind` makes of the text. They are not calibrated.\n\n"
    "Examples:\n  drr critic score --critic critic.gguf < pairs.jsonl\n"
    "  drr critic score --critic critic.gguf --in pairs.jsonl.gz --out scores.jsonl\n"
    "  drr critic score --critic steps.gguf --in traces.jsonl --steps\n",
    run_score};
static const cli_command show_command = {
    "critic show", "FILE", "what a critic is and was trained on",
    "Examples:\n  drr critic show critic.gguf\n  drr critic show critic.gguf --json\n", run_show};
static const cli_command export_command = {"critic export", NULL, "write a folder that Hugging Face transformers loads",
                                           "Examples:\n  drr critic export --critic critic.gguf --to critic-hf\n",
                                           run_export};

static const cli_command import_command = {
    "critic import", "DIR", "make a critic file of a folder that `critic export` or transformers wrote",
    "A folder without drr.json is a BertForSequenceClassification with one label that another program trained: its\n"
    "P(correct) is then the sigmoid of its logit, uncalibrated.\n\n"
    "Examples:\n  drr critic import critic-hf --out critic.gguf\n",
    run_import};

static int run_family(int argc, char **argv);
const cli_command cli_critic = {
    "critic", "COMMAND", "a trained critic: score, show, verify, export, import",
    "A critic is one GGUF file; llama.cpp's rank pooling computes the same logit from it (not with a head of "
    "tokens).\n\n"
    "Examples:\n  drr critic show critic.gguf\n  drr critic score --critic critic.gguf < pairs.jsonl\n"
    "  drr critic export --critic critic.gguf --to critic-hf\n",
    run_family};

static int run_family(int argc, char **argv)
{
    static const cli_command *const members[] = {&score_command,  &show_command,   &cli_critic_verify,
                                                 &export_command, &import_command, NULL};
    return cli_family(&cli_critic, members, argc, argv);
}

static int run_score(int argc, char **argv)
{
    static const char *const precisions[] = {"auto", "fp32", "bf16", "int8", NULL};
    const char *path = NULL, *in = "-", *out = "-";
    drr_precision precision = DRR_PRECISION_FP32;
    bool steps = false;
    const cli_option options[] = {
        {.name = "critic",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &path,
         .meaning = "a trained critic",
         .required = true},
        {.name = "in",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &in,
         .meaning = "JSONL, plain or gzip; -: stdin"},
        {.name = "out", .argument = "FILE", .type = CLI_STRING, .value = &out, .meaning = "JSONL; -: stdout"},
        {.name = "steps", .type = CLI_FLAG, .value = &steps, .meaning = "of each text the steps, too"},
        {.name = "precision",
         .argument = "NAME",
         .type = CLI_CHOICE,
         .value = &precision,
         .names = precisions,
         .meaning = "of matrix products; critics are calibrated in fp32, bf16 and int8 are faster and close to it"},
        CLI_END};
    drr_critic *critic = NULL;
    drr_error err = {0};
    int code;
    if (!cli_parse(&score_command, options, &argc, &argv, 0, 0, &code))
        return code;
    drr_status status = drr_critic_open(&critic, path, &err);
    if (status == DRR_OK)
        status = drr_critic_set_precision(critic, precision, &err);
    if (status == DRR_OK)
        status = (steps ? drr_critic_score_steps_file : drr_critic_score_file)(critic, in, out, &err);
    drr_critic_close(critic);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static void print_json(const drr_critic_info *i)
{
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "name", i->name);
    cli_json_string(&j, "sha256", i->sha256);
    cli_json_string(&j, "encoder", i->encoder);
    cli_json_string(&j, "reasoner", i->reasoner);
    cli_json_string(&j, "prompt", i->prompt);
    cli_json_string(&j, "tasks", i->tasks);
    cli_json_string(&j, "created", i->created);
    cli_json_string(&j, "head", drr_head_name(i->head));
    cli_json_uint(&j, "n_train_steps", i->n_train_steps);
    cli_json_uint(&j, "n_train_beginnings", i->n_train_beginnings);
    cli_json_number(&j, "threshold", i->threshold);
    cli_json_string(&j, "calibration", i->calibration);
    cli_json_string(&j, "stack_calibration", i->has_stack ? i->stack_calibration : NULL);
    cli_json_open(&j, "guarantees", '[');
    for (uint32_t k = 0; k < i->n_guarantees; k++) {
        cli_json_open(&j, NULL, '{');
        cli_guarantee_members(&j, &i->guarantees[k]);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_bool(&j, "has_stack", i->has_stack);
    cli_json_string(&j, "kind", drr_critic_kind_name(i->kind));
    cli_json_string(&j, "probe_reasoner", *i->probe_reasoner ? i->probe_reasoner : NULL);
    cli_json_string(&j, "probe_layer", *i->probe_layer ? i->probe_layer : NULL);
    cli_json_string(&j, "probe_pools", *i->probe_pools ? i->probe_pools : NULL);
    cli_json_uint(&j, "n_parameters", i->n_parameters);
    cli_json_uint(&j, "n_layers", i->n_layers);
    cli_json_uint(&j, "n_embd", i->n_embd);
    cli_json_uint(&j, "n_vocab", i->n_vocab);
    cli_json_uint(&j, "max_length", i->max_length);
    cli_json_uint(&j, "n_train_questions", i->n_train_questions);
    cli_json_uint(&j, "n_train_traces", i->n_train_traces);
    cli_json_close(&j, '}');
    printf("\n");
}

static const char *known(const char *text)
{
    return text && *text ? text : "not recorded";
}

static void print_text(const drr_critic_info *i)
{
    char threshold[24];
    printf("name        %s\nsha256      %s\nencoder     %s\nreasoner    %s\nprompt      %s\ntasks       %s\ncreated    "
           " %s\n",
           known(i->name), known(i->sha256), known(i->encoder), known(i->reasoner), known(i->prompt), known(i->tasks),
           known(i->created));
    printf("trained on  %llu traces of %llu questions\n", (unsigned long long)i->n_train_traces,
           (unsigned long long)i->n_train_questions);
    if (i->n_parameters)
        printf("size        %.1f million parameters, %u layers of %u, %u tokens known, %u read\n",
               (double)i->n_parameters / 1e6, i->n_layers, i->n_embd, i->n_vocab, i->max_length);
    if (i->head == DRR_HEAD_TOKEN && i->n_train_steps)
        printf("head        of tokens, taught by %llu labels of steps; read at the last one, [SEP]\n",
               (unsigned long long)i->n_train_steps);
    else if (i->n_parameters)
        printf("head        %s\n", i->head == DRR_HEAD_TOKEN ? "of tokens; read at the last one, [SEP]" : "[CLS]");
    if (i->n_train_beginnings)
        printf("beginnings  %llu trained on, beside whole answers\n", (unsigned long long)i->n_train_beginnings);
    if (*i->probe_reasoner)
        printf("probe       of %s, layer %s, %s\n", i->probe_reasoner, i->probe_layer, i->probe_pools);
    printf("threshold   %s%s\n", cli_number(threshold, i->threshold, 3),
           i->has_stack ? ", on the stack of all features" : "");
    printf("calibration %s of the %s%s%s\n", i->calibration, i->n_parameters ? "text" : "probe",
           i->has_stack ? "; of the stack: " : "", i->has_stack ? i->stack_calibration : "");
    for (uint32_t k = 0; k < i->n_guarantees; k++) {
        char sentence[480];
        drr_guarantee_sentence(sentence, sizeof sentence, &i->guarantees[k]);
        printf("guarantee   %s\n", sentence);
    }
    if (i->n_guarantees == 0)
        printf("guarantee   none\n");
}

static int run_show(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = {{.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object"},
                                  CLI_END};
    drr_critic *critic = NULL;
    drr_critic_info info = {0};
    drr_error err = {0};
    int code;
    if (!cli_parse(&show_command, options, &argc, &argv, 1, 1, &code))
        return code;
    if (drr_critic_open(&critic, argv[0], &err) != DRR_OK)
        return cli_fail(&err);
    drr_critic_describe(critic, &info);
    (json ? print_json : print_text)(&info);
    drr_critic_close(critic);
    return CLI_DONE;
}

static int run_export(int argc, char **argv)
{
    const char *path = NULL, *folder = NULL;
    const cli_option options[] = {{.name = "critic",
                                   .argument = "FILE",
                                   .type = CLI_STRING,
                                   .value = &path,
                                   .meaning = "a trained critic",
                                   .required = true},
                                  {.name = "to",
                                   .argument = "DIR",
                                   .type = CLI_STRING,
                                   .value = &folder,
                                   .meaning = "made where it is not there",
                                   .required = true},
                                  CLI_END};
    drr_critic *critic = NULL;
    drr_error err = {0};
    int code;
    if (!cli_parse(&export_command, options, &argc, &argv, 0, 0, &code))
        return code;
    drr_status status = drr_critic_open(&critic, path, &err);
    if (status == DRR_OK)
        status = cli_make_folder(folder, &err);
    if (status == DRR_OK)
        status = drr_critic_export(critic, folder, &err);
    drr_critic_info info = {0};
    if (status == DRR_OK)
        drr_critic_describe(critic, &info);
    if (status == DRR_OK && info.head == DRR_HEAD_TOKEN)
        cli_note(
            "%s: for transformers' AutoModelForTokenClassification; the text's logit is that of the last token, [SEP], "
            "a step's that of the step's last token. llama.cpp has no head of tokens and refuses the critic's file; "
            "rerankers and AutoModelForSequenceClassification cannot run it either",
            folder);
    else if (status == DRR_OK)
        cli_note("%s: for transformers' AutoModelForSequenceClassification", folder);
    drr_critic_close(critic);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}

static int run_import(int argc, char **argv)
{
    const char *out = NULL;
    const cli_option options[] = {{.name = "out",
                                   .argument = "FILE",
                                   .type = CLI_STRING,
                                   .value = &out,
                                   .meaning = "the critic, a .gguf; replaced where it is there",
                                   .required = true},
                                  CLI_END};
    bool foreign = false;
    drr_error err = {0};
    int code;
    if (!cli_parse(&import_command, options, &argc, &argv, 1, 1, &code))
        return code;
    drr_status status = cli_make_folder_of(out, &err);
    if (status == DRR_OK)
        status = drr_critic_import(argv[0], out, &foreign, &err);
    if (status != DRR_OK)
        return cli_fail(&err);
    if (foreign)
        cli_note("%s has no drr.json: of this critic neither reasoner nor calibration are known; P(correct) is the "
                 "sigmoid of its logit, and every token has type 0",
                 argv[0]);
    cli_note("%s: a critic; `drr critic show %s` tells what it is", out, out);
    return CLI_DONE;
}
