/* cmd_cascade.c: `drr cascade`: which answers of one reasoner are to be left to another, found on questions with known
 * answers. What `drr eval` and `drr reason` do with it is --escalate and --escalate-below. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>

static int run(int argc, char **argv);

const cli_command cli_cascade = {
    "cascade", NULL, "find the threshold of --escalate on held-out questions",
    "Both reasoners answer every question of --data: the first by drr, the second once. Every threshold on the first "
    "one's P(correct)\n"
    "is a point of accuracy against cost; one is picked, to be given to `drr eval` or `drr reason` as "
    "--escalate-below. "
    "Take questions\n"
    "that neither trained the critic nor are measured on afterwards: the picked point's own figures are the best of "
    "many.\n"
    "Costs are of tokens, written and read, in units of what the second reasoner alone costs.\n\n"
    "Examples:\n"
    "  drr cascade --data dev.jsonl --critic critic.gguf --escalate https://host/v1 --escalate-model big "
    "--target-error "
    "0.08\n"
    "  drr cascade --data dev.jsonl --critic critic.gguf --escalate qwen2.5-coder-1.5b --reasoner qwen2.5-coder-0.5b "
    "--price-ratio 3\n",
    run};

typedef struct cascading {
    drr_cascade_options o;
    drr_cascade cascade;
    const char *lines;
    bool json;
} cascading;

static void show_json(const cascading *x)
{
    const drr_cascade *c = &x->cascade;
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_uint(&j, "n", c->n);
    cli_json_number(&j, "accuracy_first", c->accuracy_first);
    cli_json_number(&j, "accuracy_second", c->accuracy_second);
    cli_json_number(&j, "cost_first", c->cost_first);
    cli_json_number(&j, "price_ratio", x->o.price_ratio);
    cli_json_number(&j, "prompt_price", x->o.prompt_price);
    cli_json_number(&j, "escalate_below", c->picked < c->n_points ? c->points[c->picked].below : (double)NAN);
    cli_json_int_or_null(&j, "picked", c->picked < c->n_points ? (int)c->picked : -1);
    cli_json_number(&j, "difference", c->difference[0]);
    cli_json_open(&j, "difference_ci", '[');
    cli_json_number(&j, NULL, c->difference[1]);
    cli_json_number(&j, NULL, c->difference[2]);
    cli_json_close(&j, ']');
    cli_json_open(&j, "points", '[');
    for (size_t i = 0; i < c->n_points; i++) {
        cli_json_open(&j, NULL, '{');
        cli_json_number(&j, "below", c->points[i].below);
        cli_json_number(&j, "escalated", c->points[i].escalated);
        cli_json_number(&j, "accuracy", c->points[i].accuracy);
        cli_json_number(&j, "cost", c->points[i].cost);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    printf("\n");
}

static void show_point(const drr_cascade *c, size_t i)
{
    const drr_cascade_point *p = &c->points[i];
    printf("  %-8.4f %10.1f %% %9.1f %% %9.1f %%%s\n", p->below, 100 * p->escalated, 100 * p->accuracy, 100 * p->cost,
           i == c->picked ? "  <- --escalate-below" : "");
}

/* A dozen points of the frontier, the picked one among them. */
static void show_text(const cascading *x)
{
    enum { SHOWN = 12 };
    const drr_cascade *c = &x->cascade;
    size_t next = 0;
    printf("%zu questions; alone: first %.1f %% right at %.1f %% of the second one's cost, second %.1f %%\n"
           "  below     escalated     right       cost\n",
           c->n, 100 * c->accuracy_first, 100 * c->cost_first, 100 * c->accuracy_second);
    for (size_t i = 0; i < c->n_points; i++)
        if (i == c->picked || i * (SHOWN - 1) >= next * (c->n_points - 1)) {
            while (next < SHOWN && next * (c->n_points - 1) <= i * (SHOWN - 1))
                next++;
            show_point(c, i);
        }
    if (c->picked == c->n_points)
        printf("no threshold meets the target on these questions\n");
    else
        printf("--escalate-below %.6g: %+.1f points beside the second alone (95 %% interval %+.1f to %+.1f)\n",
               c->points[c->picked].below, 100 * c->difference[0], 100 * c->difference[1], 100 * c->difference[2]);
}

/* A question a line, for statistics of one's own. */
static drr_status write_lines(const cascading *x, drr_error *err)
{
    const drr_cascade *c = &x->cascade;
    char *text = NULL;
    size_t size;
    FILE *out = x->lines ? open_memstream(&text, &size) : NULL;
    if (!x->lines)
        return DRR_OK;
    for (size_t i = 0; out && i < c->n; i++) {
        const drr_cascade_question *q = &c->questions[i];
        cli_json j = {out, false};
        char hash[17];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)q->text);
        cli_json_open(&j, NULL, '{');
        cli_json_string(&j, "id", q->id);
        cli_json_string(&j, "text", hash);
        cli_json_number(&j, "p", q->p);
        cli_json_bool(&j, "first", q->first == 1);
        cli_json_bool(&j, "second", q->second == 1);
        cli_json_bool(&j, "after", q->after == 1);
        cli_json_number(&j, "cost_first", q->cost_first);
        cli_json_number(&j, "cost_second", q->cost_second);
        cli_json_close(&j, '}');
        fputc('\n', out);
    }
    const bool good = out && fclose(out) == 0;
    drr_status status = cli_write_file(x->lines, good ? text : "", err);
    free(text);
    return status;
}

static drr_status go(cascading *x, const cli_list *data, const char *format, cli_cast *cast, drr_error *err)
{
    drr_dataset *dataset = NULL;
    drr_status status = cli_open_datasets(&dataset, data, format, x->o.limit, err);
    if (status == DRR_OK)
        status = cli_open_judges(cast, &x->o.policy, err);
    if (status == DRR_OK)
        status = cli_open_reasoners(cast, err);
    if (status == DRR_OK)
        cli_check_critic(cast);
    if (status == DRR_OK)
        status = drr_cascade_measure(&x->cascade, cast->reasoner, cast->second, cast->critic, cast->prompts, dataset,
                                     &x->o, cli_hooks(), err);
    if (status == DRR_OK)
        status = write_lines(x, err);
    cli_clear_progress();
    if (status == DRR_OK && x->json)
        show_json(x);
    else if (status == DRR_OK)
        show_text(x);
    drr_cascade_clear(&x->cascade);
    cli_close_cast(cast);
    drr_dataset_free(dataset);
    return status;
}

static int run(int argc, char **argv)
{
    cascading x = {0};
    cli_reasoner_choice choice;
    cli_escalation to = {0};
    cli_cast cast = {.choice = &choice, .to = &to};
    cli_list data = {0};
    const char *format = NULL;
    char path[4096];
    drr_cascade_options_defaults(&x.o);
    cli_reasoner_defaults(&choice);
    const cli_option options[] = {
        {.name = "data",
         .argument = "FILE|NAME",
         .type = CLI_LIST,
         .value = &data,
         .meaning = "held-out questions with answers",
         .required = true},
        {.name = "critic",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &cast.critic_path,
         .meaning = "trained on the first reasoner's answers to others",
         .required = true},
        {.name = "target-error",
         .argument = "A",
         .type = CLI_DOUBLE,
         .value = &x.o.target_error,
         .meaning = "the cheapest threshold at which at most this share is wrong",
         .low = 0,
         .high = 1},
        {.name = "target-cost",
         .argument = "C",
         .type = CLI_DOUBLE,
         .value = &x.o.target_cost,
         .meaning =
             "the threshold that gets most right at this cost; 1: the second reasoner's alone. Given neither: the "
             "cheapest that gets as much right as it does",
         .low = 0,
         .high = 100},
        {.name = "price-ratio",
         .argument = "X",
         .type = CLI_DOUBLE,
         .value = &x.o.price_ratio,
         .meaning = "a token of the second costs as much as so many of the first",
         .low = 0.001,
         .high = 1e6},
        {.name = "prompt-price",
         .argument = "X",
         .type = CLI_DOUBLE,
         .value = &x.o.prompt_price,
         .meaning = "a token read costs as much as so many written",
         .low = 0,
         .high = 100},
        {.name = "out",
         .argument = "DIR",
         .type = CLI_STRING,
         .value = &x.o.out,
         .meaning = "folder for samples.db, where what was generated is kept; not given: runs/<data>"},
        {.name = "lines",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &x.lines,
         .meaning = "JSONL: of each question its text's hash, P(correct), who is right, and both costs"},
        {.name = "format",
         .argument = "F",
         .type = CLI_STRING,
         .value = &format,
         .meaning = "of the data; not given: detected"},
        {.name = "limit",
         .argument = "N",
         .type = CLI_SIZE,
         .value = &x.o.limit,
         .meaning = "first questions only; 0: all"},
        {.name = "bootstrap",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &x.o.bootstrap,
         .meaning = "resamples for the interval",
         .low = 0,
         .high = 1000000},
        CLI_REASONER_OPTIONS(choice),
        CLI_ESCALATION_OPTIONS(to),
        CLI_POLICY_OPTIONS(x.o.policy),
        CLI_QUESTION_OPTIONS(cast.question_path, x.o.policy),
        {.name = "seed",
         .argument = "N",
         .type = CLI_UINT64,
         .value = &x.o.policy.seed,
         .meaning = "same seed, same answers"},
        {.name = "json", .type = CLI_FLAG, .value = &x.json, .meaning = "one JSON object, all points in it"},
        CLI_END};
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_cascade, options, &argc, &argv, 0, 0, &code))
        return code;
    if (!to.source)
        return cli_usage(&cli_cascade, "--escalate NAME|FILE|URL is needed: the second reasoner");
    if (data.n != 1)
        return cli_usage(&cli_cascade, "--data is given once: a threshold is found on one set");
    if (!isnan(x.o.target_error) && !isnan(x.o.target_cost))
        return cli_usage(&cli_cascade, "--target-error and --target-cost do not go together: give one");
    if (!x.o.out) {
        cli_default_out(path, sizeof path, data.items[0], "");
        x.o.out = path;
    }
    choice.options.seed = x.o.seed = x.o.policy.seed;
    const drr_status status = go(&x, &data, format, &cast, &err);
    return status == DRR_OK ? CLI_DONE : cli_fail(&err);
}
