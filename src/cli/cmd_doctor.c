/* cmd_doctor.c: `drr doctor`: what drr finds on this machine. */
#include "cli.h"

#include <stdlib.h>

static int run(int argc, char **argv);

const cli_command cli_doctor = {
    "doctor", NULL, "versions, CPU code paths, checksums of the cache; check a reasoner's logits",
    "With --reasoner the model is loaded and its first logits are compared with stored ones, which finds a CPU path "
    "that\n"
    "computes wrongly; a server is asked what a run would ask it first: whether it answers, and what it can do. What "
    "is\n"
    "wrong is a sentence under \"problems\", and makes the exit code 1.\n\n"
    "Examples:\n  drr doctor\n  drr doctor --reasoner qwen2.5-coder-1.5b\n"
    "  drr doctor --reasoner http://127.0.0.1:8080/v1\n  drr doctor --json\n",
    run};

static int run(int argc, char **argv)
{
    const char *reasoner = NULL;
    drr_reasoner_options asked;
    bool json = false;
    drr_reasoner_options_defaults(&asked);
    const cli_option options[] = {{.name = "reasoner",
                                   .argument = "NAME|FILE|URL",
                                   .type = CLI_STRING,
                                   .value = &reasoner,
                                   .meaning = "check this one too"},
                                  CLI_REMOTE_OPTIONS(asked),
                                  {.name = "json", .type = CLI_FLAG, .value = &json, .meaning = "one JSON object"},
                                  CLI_END};
    char *report = NULL;
    size_t n_problems = 0;
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_doctor, options, &argc, &argv, 0, 0, &code))
        return code;
    if (drr_doctor(&report, &n_problems, reasoner, &asked, cli_hooks(), &err) != DRR_OK)
        return cli_fail(&err);
    cli_clear_progress();
    if (json)
        printf("%s\n", report);
    else
        cli_json_show(stdout, report);
    free(report);
    if (!n_problems)
        return CLI_DONE;
    err.status = DRR_E_MISMATCH;
    snprintf(err.message, sizeof err.message, "%zu %s wrong here: see \"problems\" in the report", n_problems,
             n_problems == 1 ? "thing is" : "things are");
    fflush(stdout);
    return cli_fail(&err);
}
