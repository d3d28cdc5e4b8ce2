/* cmd_critic_verify.c: `drr critic verify`: is a critic's file what it was when it was made? */
#include "cli.h"

#include <math.h>

static int run(int argc, char **argv);

const cli_command cli_critic_verify = {
    "critic verify", NULL, "is a critic's file whole, and what it was when it was made?",
    "Reads all of the file, and compares it with what else knows it: the SHA-256 in NAME.card.md beside it, the "
    "logits\n"
    "that were stored in it for a few texts, and with --against the folder that it was exported to, or another file:\n"
    "the same weights, tokens, calibration and threshold, and the same logits. What is not there is said, and is no\n"
    "fault. Exit code 0: nothing is wrong; 1: something is, or the file cannot be read.\n\n"
    "Examples:\n  drr critic verify --critic critic.gguf\n"
    "  drr critic verify --critic critic.gguf --against critic-hf --json\n",
    run};

static void print_json(const drr_verification *v, const char *path)
{
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "critic", path);
    cli_json_bool(&j, "good", v->n_wrong == 0);
    cli_json_string(&j, "sha256", v->sha256);
    cli_json_open(&j, "findings", '[');
    for (uint32_t i = 0; i < v->n_findings; i++) {
        const drr_finding *f = &v->findings[i];
        cli_json_open(&j, NULL, '{');
        cli_json_string(&j, "what", f->what);
        cli_json_string(&j, "outcome", drr_finding_name(f->outcome));
        cli_json_number(&j, "difference", f->difference);
        cli_json_string(&j, "words", f->words);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    printf("\n");
}

static void print_text(const drr_verification *v, const char *path)
{
    for (uint32_t i = 0; i < v->n_findings; i++)
        printf("%-8s %-10s %s\n", v->findings[i].what, drr_finding_name(v->findings[i].outcome), v->findings[i].words);
    printf("%s: %s\n", path, v->n_wrong ? "WRONG" : "OK");
}

static int run(int argc, char **argv)
{
    const char *path = NULL, *against = NULL;
    bool json = false;
    const cli_option options[] = {{.name = "critic",
                                   .argument = "FILE",
                                   .type = CLI_STRING,
                                   .value = &path,
                                   .meaning = "the critic to look at",
                                   .required = true},
                                  {.name = "against",
                                   .argument = "DIR|FILE",
                                   .type = CLI_STRING,
                                   .value = &against,
                                   .meaning = "what `critic export` made of it, or another critic's file"},
                                  {.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object"},
                                  CLI_END};
    drr_verification v = {.n_findings = 0};
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_critic_verify, options, &argc, &argv, 0, 0, &code))
        return code;
    if (drr_critic_verify(&v, path, against, &err) != DRR_OK)
        return cli_fail(&err);
    (json ? print_json : print_text)(&v, path);
    for (uint32_t i = 0; i < v.n_findings; i++)
        if (v.findings[i].outcome == DRR_FINDING_WRONG) {
            err.status = DRR_E_FORMAT;
            snprintf(err.message, sizeof err.message, "%s", v.findings[i].words);
            fflush(stdout);
            return cli_fail(&err);
        }
    return CLI_DONE;
}
