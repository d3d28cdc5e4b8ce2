/* judging.c: --judge: a critic's file is taken as --critic, anything else as a judge in its place. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

static bool is_named(const char *source)
{
    static const char *const names[] = {"self", "length", "logprob", "vote"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(source, names[i]) == 0)
            return true;
    return strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0;
}

int cli_judge_or_critic(cli_judging *judging, const char **critic_path, const cli_command *command)
{
    const bool detailed = judging->options.route || judging->options.scale || judging->options.model;
    if (!judging->source)
        return detailed ? cli_usage(command, "--judge-route, --judge-scale and --judge-model are of --judge ADDRESS")
                        : CLI_DONE;
    if (*critic_path)
        return cli_usage(command, "--judge takes the place of --critic: give one of them");
    if (!is_named(judging->source) && access(judging->source, F_OK) == 0) {
        *critic_path = judging->source;
        judging->source = NULL;
    }
    return CLI_DONE;
}

drr_status cli_open_judge(drr_judge **judge, const cli_judging *judging, const cli_reasoner_choice *choice,
                          drr_error *err)
{
    drr_judge_options options = judging->options;
    if (!judging->source)
        return DRR_OK;
    options.hooks = cli_hooks();
    options.ca_file = choice->options.ca_file;
    const drr_status status = drr_judge_open(judge, judging->source, &options, err);
    if (status == DRR_OK)
        cli_note("judge: %s", drr_judge_name(*judge));
    return status;
}
