/* cmd_eval.c: `drr eval`: strategies side by side on the same questions. */
#include "evaluating.h"

#include <stdlib.h>
#include <string.h>

static int run(int argc, char **argv);

const cli_command cli_eval = {
    "eval", NULL, "compare strategies on questions with known answers",
    "Writes report.json, report.txt and report.html to --out. What was generated is kept there too: run again, nothing "
    "is\n"
    "generated twice, and an interrupted comparison goes on. Without --critic, cot, self-critique and vote are "
    "compared.\n\n"
    "`drr eval --suite FILE` runs a whole study from one file; `drr eval diff A B` compares two reports.\n\n"
    "Examples:\n"
    "  drr eval --data csqa.dev.jsonl --critic runs/csqa/critic.gguf\n"
    "  drr eval --data csqa.dev.jsonl --data svamp.test.jsonl --critic critic.gguf --limit 100 --out runs/both\n"
    "  drr eval --data gsm8k-test --strategies cot,vote --samples 8 --json\n"
    "  drr eval --data gsm8k-test --critic critic.gguf --strategies drr --escalate https://host/v1 --escalate-model "
    "big\n"
    "  drr eval --data gsm8k-test --judge vote --threshold 0.7 --strategies vote,drr\n",
    run};

void evaluation_defaults(evaluation *e)
{
    drr_eval_options o;
    *e = (evaluation){0};
    drr_eval_options_defaults(&o);
    e->policy = o.policy;
    e->limit = o.limit;
    e->bootstrap = o.bootstrap;
}

static bool needs_critic(drr_strategy s)
{
    return s == DRR_STRATEGY_BEST_OF_N || s == DRR_STRATEGY_DRR;
}

int evaluation_strategies(evaluation *e, const cli_command *command, bool has_critic)
{
    drr_error err = {0};
    for (int s = DRR_STRATEGY_COT; !e->names && s <= DRR_STRATEGY_DRR; s++)
        if (has_critic || !needs_critic((drr_strategy)s))
            e->strategies[e->n_strategies++] = (drr_strategy)s;
    char *copy = e->names ? strdup(e->names) : NULL, *rest = copy, *name;
    int code = CLI_DONE;
    while (code == CLI_DONE && rest && (name = strsep(&rest, ","))) {
        drr_strategy s;
        if (e->n_strategies == MOST_STRATEGIES)
            code = cli_usage(command, "--strategies takes at most %d", MOST_STRATEGIES);
        else if (drr_strategy_parse(&s, name, &err) != DRR_OK)
            code = cli_usage(command, "%s", err.message);
        else if (needs_critic(s) && !has_critic)
            code = cli_usage(command, "the strategy %s needs --critic FILE, or another --judge", name);
        else
            e->strategies[e->n_strategies++] = s;
    }
    free(copy);
    drr_budget budget;
    const char *of;
    if (code == CLI_DONE && e->equal && !drr_budget_parse(&budget, &of, e->equal))
        code = cli_usage(command, "--equal-budget is calls or tokens, and a strategy's name behind a colon, not %s",
                         e->equal);
    return code;
}

static bool runs_drr(const evaluation *e)
{
    for (size_t i = 0; i < e->n_strategies; i++)
        if (e->strategies[i] == DRR_STRATEGY_DRR)
            return true;
    return false;
}

drr_status evaluation_run(evaluation *e, const char *out, drr_reasoner *reasoner, drr_critic *critic,
                          const drr_prompts *prompts, const cli_list *data, const char *format, drr_error *err)
{
    drr_dataset *sets[CLI_LIST_MOST] = {NULL};
    char *json = NULL, *table = NULL;
    drr_eval_options o;
    drr_status status = cli_guarantee(NULL, &e->policy, critic, e->guaranteed, err);
    drr_eval_options_defaults(&o);
    o.policy = e->policy;
    o.out = out;
    o.strategies = e->strategies;
    o.n_strategies = e->n_strategies;
    o.limit = e->limit;
    o.bootstrap = e->bootstrap;
    o.title = e->title;
    o.checker = e->checker;
    o.escalate_to = e->second;
    o.command = cli_command_line();
    if (e->equal)
        drr_budget_parse(&o.equal_budget, &o.budget_of, e->equal);
    for (size_t i = 0; i < data->n && status == DRR_OK; i++)
        status = cli_open_dataset(&sets[i], data->items[i], format, err);
    if (status == DRR_OK)
        status = cli_make_folder(out, err);
    if (status == DRR_OK)
        status = drr_eval(&json, &table, reasoner, critic, prompts, (const drr_dataset *const *)sets, data->n, &o,
                          cli_hooks(), err);
    if (status == DRR_OK) {
        cli_clear_progress();
        const char *text = e->json ? json : table;
        const size_t n = strlen(text);
        printf("%s%s", text, n && text[n - 1] == '\n' ? "" : "\n");
        cli_note("report: %s/report.html", out);
    }
    for (size_t i = 0; i < data->n; i++)
        drr_dataset_free(sets[i]);
    free(json);
    free(table);
    return status;
}

static int run(int argc, char **argv)
{
    evaluation e;
    cli_reasoner_choice choice;
    cli_checking checking;
    cli_escalation to = {0};
    cli_judging judging = {0};
    cli_list data = {0};
    cli_cast cast = {.choice = &choice, .to = &to, .judging = &judging, .checking = &checking};
    const char *out = NULL, *format = NULL;
    char path[4096];
    evaluation_defaults(&e);
    cli_reasoner_defaults(&choice);
    cli_checking_defaults(&checking);
    const cli_option options[] = {
        {.name = "data",
         .argument = "FILE|NAME",
         .type = CLI_LIST,
         .value = &data,
         .meaning = "questions with answers; may be given several times",
         .required = true},
        {.name = "critic",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &cast.critic_path,
         .meaning = "a trained critic"},
        {.name = "out",
         .argument = "DIR",
         .type = CLI_STRING,
         .value = &out,
         .meaning = "the report's folder; not given: runs/<data>"},
        {.name = "format",
         .argument = "F",
         .type = CLI_STRING,
         .value = &format,
         .meaning = "of the data; not given: detected"},
        {.name = "limit",
         .argument = "N",
         .type = CLI_SIZE,
         .value = &e.limit,
         .meaning = "first questions of each data set only; 0: all"},
        EVALUATION_OPTIONS(e),
        CLI_CHECKING_OPTIONS(checking),
        CLI_REASONER_OPTIONS(choice),
        CLI_ESCALATION_OPTIONS(to),
        CLI_JUDGE_OPTIONS(judging),
        CLI_POLICY_OPTIONS(e.policy),
        CLI_QUESTION_OPTIONS(cast.question_path, e.policy),
        {.name = "seed",
         .argument = "N",
         .type = CLI_UINT64,
         .value = &e.policy.seed,
         .meaning = "same seed, same answers"},
        {.name = "json", .type = CLI_FLAG, .value = &e.json, .meaning = "the report as one JSON object on stdout"},
        CLI_END};
    drr_error err = {0};
    int code;
    if (argc > 1 && strcmp(argv[1], "diff") == 0)
        return cli_eval_diff.run(argc - 1, argv + 1);
    if (evaluation_is_study(argc, argv))
        return cli_eval_suite.run(argc, argv);
    if (!cli_parse(&cli_eval, options, &argc, &argv, 0, 0, &code))
        return code;
    code = cli_judge_or_critic(&judging, &cast.critic_path, &cli_eval);
    if (code == CLI_DONE)
        code = evaluation_strategies(&e, &cli_eval, cast.critic_path || judging.source);
    if (code != CLI_DONE)
        return code;
    if (to.source && !runs_drr(&e))
        return cli_usage(&cli_eval, "--escalate is for the strategy drr, whose critic says what is unsure");
    if (!out)
        cli_default_out(path, sizeof path, data.items[0], "");
    choice.options.seed = e.policy.seed;
    drr_status status = cli_check_datasets(&data, format, e.limit, &err);
    if (status == DRR_OK)
        status = cli_open_judges(&cast, &e.policy, &err);
    if (status == DRR_OK)
        status = cli_open_reasoners(&cast, &err);
    e.checker = cast.checker;
    e.second = cast.second;
    if (status == DRR_OK)
        status = evaluation_run(&e, out ? out : path, cast.reasoner, cast.critic, cast.prompts, &data, format, &err);
    cli_close_cast(&cast);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
