/* cmd_serve.c: `drr serve`: the server in front of a model. */
#include "cli.h"

static int run(int argc, char **argv);

const cli_command cli_serve = {"serve", NULL, "answer OpenAI's API with what the critic accepts",
                               "Examples:\n"
                               "  drr serve --upstream http://localhost:8080/v1 --critic critic.gguf\n",
                               run};

static int run(int argc, char **argv)
{
    drr_serve_options o;
    drr_error err = {0};
    int code;
    drr_serve_options_defaults(&o);
    const cli_option options[] = {
        {.name = "host", .argument = "ADDRESS", .type = CLI_STRING, .value = &o.host, .meaning = "to listen on"},
        {.name = "port",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &o.port,
         .meaning = "to listen on; 0: any that is free",
         .low = 0,
         .high = 65535},
        {.name = "critic", .argument = "FILE", .type = CLI_STRING, .value = &o.critic, .meaning = "a trained critic"},
        CLI_END};
    if (!cli_parse(&cli_serve, options, &argc, &argv, 0, 0, &code))
        return code;
    return drr_serve(&o, cli_hooks(), &err) == DRR_OK ? CLI_DONE : cli_fail(&err);
}
