/* cmd_reason.c: `drr reason`: one question, answered with a strategy, its turns shown as they end. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int run(int argc, char **argv);

const cli_command cli_reason = {
    "reason", "QUESTION", "answer one question, showing each turn",
    "With --critic the strategy is drr: the critic scores each turn, and accepts it, rejects it and asks again, or "
    "abstains in the\n"
    "end. Without one it is cot, a single answer. QUESTION - is read from stdin. Where --kind is not given, it is "
    "choice\n"
    "with --choices, number for \"how many\" and \"how much\", boolean for a question that begins with a verb, and "
    "else text.\n\n"
    "Examples:\n"
    "  drr reason \"A robe takes 2 bolts of blue fiber and half that much white. How many bolts in total?\"\n"
    "  drr reason \"Where are books kept?\" --choices \"bank|library|mall\" --critic runs/csqa/critic.gguf\n"
    "  drr reason - --kind number --strategy vote --samples 8 --json < question.txt\n",
    run};

enum { MOST_CHOICES = 26 };

typedef struct asking {
    const char *question, *choices, *kind, *answer, *strategy;
    cli_cast cast;
    cli_judging judging;
    bool json, guaranteed;
    drr_guarantee guarantee; /* that holds for answers sought like this, where turns is not 0 */
    char *read, *split;
    const char *texts[MOST_CHOICES];
    drr_task task;
} asking;

/* "a|b|c" into texts; the copy stays in a->split. */
static bool split_choices(asking *a)
{
    a->split = strdup(a->choices);
    char *rest = a->split, *text;
    while (rest && (text = strsep(&rest, "|"))) {
        if (a->task.n_choices == MOST_CHOICES || !*text)
            return false;
        a->texts[a->task.n_choices++] = text;
    }
    a->task.choices = a->texts;
    return a->task.n_choices >= 2;
}

static drr_kind guess_kind(const char *question)
{
    static const char *const verbs[] = {"is",    "are",  "was",   "were",   "do",  "does", "did", "can",
                                        "could", "will", "would", "should", "has", "have", "had"};
    size_t n = 0;
    while (isalpha((unsigned char)question[n]))
        n++;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strlen(verbs[i]) == n && strncasecmp(question, verbs[i], n) == 0)
            return DRR_KIND_BOOLEAN;
    if (strcasestr(question, "how many") || strcasestr(question, "how much"))
        return DRR_KIND_NUMBER;
    return DRR_KIND_TEXT;
}

static char *read_stdin(void)
{
    enum { MOST = 1 << 20 };
    char *text = malloc(MOST + 1);
    if (!text)
        return NULL;
    size_t n = fread(text, 1, MOST, stdin);
    while (n && strchr(" \t\r\n", text[n - 1]))
        n--;
    text[n] = '\0';
    return text;
}

/* CLI_DONE, or the exit code of what was put wrongly. */
static int prepare(asking *a, drr_policy *policy)
{
    drr_error err = {0};
    if (strcmp(a->question, "-") == 0) {
        a->read = read_stdin();
        a->question = a->read ? a->read : "";
    }
    if (!*a->question)
        return cli_usage(&cli_reason, "the question is empty");
    a->task = (drr_task){.task = "question",
                         .id = "1",
                         .question = a->question,
                         .answer = a->answer ? a->answer : "",
                         .kind = guess_kind(a->question)};
    if (a->choices && !split_choices(a))
        return cli_usage(&cli_reason, "--choices takes 2 to %d texts between bars: \"bank|library\"", MOST_CHOICES);
    if (a->choices)
        a->task.kind = DRR_KIND_CHOICE;
    if (a->kind && drr_kind_parse(&a->task.kind, a->kind, &err) != DRR_OK)
        return cli_usage(&cli_reason, "%s", err.message);
    if ((a->task.kind == DRR_KIND_CHOICE) != (a->choices != NULL))
        return cli_usage(&cli_reason, "--kind choice and --choices belong together");
    const bool judged = a->cast.critic_path || a->judging.source;
    policy->strategy = judged ? DRR_STRATEGY_DRR : DRR_STRATEGY_COT;
    if (a->strategy && drr_strategy_parse(&policy->strategy, a->strategy, &err) != DRR_OK)
        return cli_usage(&cli_reason, "%s", err.message);
    if (!judged && (policy->strategy == DRR_STRATEGY_DRR || policy->strategy == DRR_STRATEGY_BEST_OF_N))
        return cli_usage(&cli_reason, "the strategy %s needs --critic FILE, or another --judge",
                         drr_strategy_name(policy->strategy));
    return CLI_DONE;
}

static void print_indented(const char *text)
{
    bool fresh = true;
    for (; *text; text++) {
        if (fresh && *text != '\n')
            fputs("  ", stdout);
        fputc(*text, stdout);
        fresh = *text == '\n';
    }
    if (!fresh)
        fputc('\n', stdout);
}

static void show_verdict(const drr_turn *turn)
{
    char p[24];
    printf("-> %s%s", turn->answer ? turn->answer : "no answer that can be read",
           turn->finish == DRR_FINISH_TIME ? " (its seconds were over)" : "");
    if (isfinite(turn->p_correct))
        printf(", P(correct) %s", cli_number(p, turn->p_correct, 2));
    if (turn->verdict != DRR_VERDICT_NONE)
        printf(": %s", drr_verdict_name(turn->verdict));
    printf("\n\n");
    fflush(stdout);
}

/* The answer that the reasoner was asked about. */
static const drr_turn *judged_by(const drr_result *r, const drr_turn *word)
{
    const drr_turn *found = word;
    for (size_t i = 0; i < r->n_turns; i++) {
        const drr_turn *t = &r->turns[i];
        if (drr_turn_answers(t) && t->sample == word->sample && t->turn == word->turn && t->cuts == word->cuts)
            found = t;
    }
    return found;
}

static void show_turn(void *user, const drr_result *so_far, const drr_turn *turn)
{
    const asking *a = user;
    char time[24], p[24];
    if (!turn || a->json)
        return;
    cli_clear_progress();
    if (turn->feedback && *turn->feedback && !turn->cuts) {
        printf("feedback:\n");
        print_indented(turn->feedback);
    }
    printf("%s %u.%u (%u tokens, %s", turn->role ? turn->role : "turn", turn->sample, turn->turn, turn->n_tokens,
           cli_duration(time, turn->seconds));
    if (turn->kept)
        printf(", behind %u that were kept", turn->n_kept_tokens);
    printf("):\n");
    print_indented(turn->text ? turn->text : "");
    if (turn->finish == DRR_FINISH_CUT) {
        printf("-> stopped early: a step of P %s\n\n", cli_number(p, turn->p_correct, 2));
        fflush(stdout);
        return;
    }
    if (strcmp(turn->role, "judge") == 0) { /* the verdict that was waited for */
        show_verdict(judged_by(so_far, turn));
        return;
    }
    show_verdict(turn);
}

/* What the critic's guarantee says of this answer: it is about accepted ones. */
static void print_guarantee(const drr_result *r, const drr_guarantee *g)
{
    if (drr_result_accepted(r))
        printf("guarantee: of answers accepted like this one at most %g %% are wrong, with confidence %g %%\n",
               100 * g->target_error, 100 * (1 - g->delta));
    else if (r->outcome == DRR_ANSWERED)
        printf("guarantee: none for this answer, for no turn was accepted\n");
}

static void print_result(const drr_result *r, const asking *a)
{
    char time[24], p[24];
    if (r->route != DRR_ROUTE_NONE)
        printf("the question alone: P %s, %s\n", cli_number(p, r->p_question, 2), drr_route_name(r->route));
    if (r->outcome == DRR_ANSWERED && r->answer) {
        printf("answer: %s", r->answer);
        const unsigned char letter = (unsigned char)r->answer[0];
        if (r->task->kind == DRR_KIND_CHOICE && letter >= 'A' && letter - 'A' < (int)r->task->n_choices)
            printf(") %s", r->task->choices[letter - 'A']);
    } else {
        printf("no answer: %s", drr_outcome_name(r->outcome));
    }
    if (isfinite(r->p_correct))
        printf(", P(correct) %s", cli_number(p, r->p_correct, 2));
    if (r->correct >= 0)
        printf(", %s", r->correct ? "right" : "wrong");
    printf(" (%zu turn%s, %llu tokens, %s)\n", r->n_turns, r->n_turns == 1 ? "" : "s", (unsigned long long)r->n_tokens,
           cli_duration(time, r->seconds));
    if (a->guarantee.turns)
        print_guarantee(r, &a->guarantee);
}

static void print_json(const drr_result *r, const asking *a, const drr_policy *policy, const char *reasoner)
{
    cli_json j = {stdout, false};
    cli_json_open(&j, NULL, '{');
    cli_json_string(&j, "question", r->task->question);
    cli_json_string(&j, "kind", drr_kind_name(r->task->kind));
    cli_json_string(&j, "reasoner", reasoner);
    cli_json_string(&j, "strategy", drr_strategy_name(policy->strategy));
    cli_json_string(&j, "outcome", drr_outcome_name(r->outcome));
    cli_json_string(&j, "answer", r->answer);
    cli_json_bool(&j, "escalated", r->escalated);
    cli_json_number(&j, "p_correct", r->p_correct);
    cli_json_number(&j, "p_question", r->p_question);
    cli_json_string(&j, "route", drr_route_name(r->route));
    cli_json_int_or_null(&j, "correct", r->correct);
    cli_json_uint(&j, "n_prompt_tokens", r->n_prompt_tokens);
    cli_json_uint(&j, "n_tokens", r->n_tokens);
    cli_json_uint(&j, "n_cuts", r->n_cuts);
    cli_json_uint(&j, "n_cut_tokens", r->n_cut_tokens);
    cli_json_number(&j, "seconds", r->seconds);
    cli_json_number(&j, "judge_seconds", r->judge_seconds);
    cli_json_string(&j, "judge", policy->judge ? drr_judge_name(policy->judge) : a->cast.critic_path);
    cli_json_string(&j, "failure", r->failure);
    if (a->guarantee.turns) {
        cli_json_open(&j, "guarantee", '{');
        cli_guarantee_members(&j, &a->guarantee);
        cli_json_bool(&j, "covers_this_answer", drr_result_accepted(r));
        cli_json_close(&j, '}');
    }
    cli_json_open(&j, "turns", '[');
    for (size_t i = 0; i < r->n_turns; i++) {
        const drr_turn *t = &r->turns[i];
        cli_json_open(&j, NULL, '{');
        cli_json_string(&j, "role", t->role);
        cli_json_uint(&j, "sample", t->sample);
        cli_json_uint(&j, "turn", t->turn);
        cli_json_string(&j, "feedback", t->feedback);
        cli_json_string(&j, "text", t->text);
        cli_json_string(&j, "answer", t->answer);
        cli_json_number(&j, "logit", t->logit);
        cli_json_number(&j, "probe", t->probe);
        cli_json_number(&j, "p_correct", t->p_correct);
        cli_json_string(&j, "verdict", drr_verdict_name(t->verdict));
        cli_json_string(&j, "finish", drr_finish_name(t->finish));
        cli_json_uint(&j, "n_tokens", t->n_tokens);
        cli_json_uint(&j, "cuts", t->cuts);
        cli_json_uint(&j, "kept", t->kept);
        cli_json_uint(&j, "n_kept_tokens", t->n_kept_tokens);
        cli_json_number(&j, "seconds", t->seconds);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    printf("\n");
}

/* The second reasoner is opened last, when the first has answered. */
static drr_status solve(drr_result *result, asking *a, drr_policy *policy, const cli_escalation *to, drr_error *err)
{
    cli_cast *cast = &a->cast;
    const drr_task *task = &a->task;
    drr_status status = cli_open_judges(cast, policy, err);
    if (status == DRR_OK)
        status = cli_guarantee(&a->guarantee, policy, cast->critic, a->guaranteed, err);
    if (status == DRR_OK)
        status = cli_open_reasoners(cast, err);
    if (status == DRR_OK) {
        cli_check_critic(cast);
        cli_note("kind: %s; strategy: %s", drr_kind_name(task->kind), drr_strategy_name(policy->strategy));
        status = drr_solve(result, cast->reasoner, cast->critic, cast->prompts, &task, 1, policy, show_turn, a,
                           cli_hooks(), err);
    }
    if (status == DRR_OK)
        status = cli_open_second(&cast->second, to, cast->choice, err);
    if (status == DRR_OK && cast->second)
        status = drr_escalate(result, 1, cast->second, cast->prompts, policy, show_turn, a, cli_hooks(), err);
    if (status == DRR_OK) {
        cli_clear_progress();
        if (a->json)
            print_json(result, a, policy, drr_reasoner_id(cast->reasoner));
        else if (result->outcome != DRR_FAILED)
            print_result(result, a);
    }
    if (status == DRR_OK && result->outcome == DRR_FAILED) {
        status = err->status = DRR_E_BACKEND;
        snprintf(err->message, sizeof err->message, "no answer: %.1000s",
                 result->failure ? result->failure : drr_outcome_name(result->outcome));
    }
    cli_close_cast(cast);
    return status;
}

static int run(int argc, char **argv)
{
    asking a = {0};
    drr_policy policy;
    cli_reasoner_choice choice;
    cli_escalation to = {0};
    drr_policy_defaults(&policy);
    cli_reasoner_defaults(&choice);
    a.cast = (cli_cast){.choice = &choice, .judging = &a.judging};
    const cli_option options[] = {
        {.name = "critic",
         .argument = "FILE",
         .type = CLI_STRING,
         .value = &a.cast.critic_path,
         .meaning = "a trained critic"},
        {.name = "strategy",
         .argument = "S",
         .type = CLI_STRING,
         .value = &a.strategy,
         .meaning = "cot, self-critique, vote, best-of-n, drr; not given: drr with a critic, else cot"},
        {.name = "choices",
         .argument = "A|B|C",
         .type = CLI_STRING,
         .value = &a.choices,
         .meaning = "what to choose from"},
        {.name = "kind",
         .argument = "K",
         .type = CLI_STRING,
         .value = &a.kind,
         .meaning = "choice, number, boolean, text, checked; not given: guessed"},
        {.name = "answer",
         .argument = "TEXT",
         .type = CLI_STRING,
         .value = &a.answer,
         .meaning = "the reference answer, to see whether it is met"},
        CLI_REASONER_OPTIONS(choice),
        CLI_ESCALATION_OPTIONS(to),
        CLI_JUDGE_OPTIONS(a.judging),
        CLI_POLICY_OPTIONS(policy),
        CLI_QUESTION_OPTIONS(a.cast.question_path, policy),
        CLI_GUARANTEED_OPTION(a.guaranteed),
        {.name = "seed",
         .argument = "N",
         .type = CLI_UINT64,
         .value = &policy.seed,
         .meaning = "same seed, same answers"},
        {.name = "json", .type = CLI_FLAG, .value = &a.json, .meaning = "one JSON object with all turns"},
        CLI_END};
    drr_result result = {0};
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_reason, options, &argc, &argv, 1, 1, &code))
        return code;
    a.question = argv[0];
    choice.options.seed = policy.seed;
    code = cli_judge_or_critic(&a.judging, &a.cast.critic_path, &cli_reason);
    if (code == CLI_DONE)
        code = prepare(&a, &policy);
    if (code == CLI_DONE && to.source && policy.strategy != DRR_STRATEGY_DRR)
        code = cli_usage(&cli_reason, "--escalate is for the strategy drr, whose critic says what is unsure");
    if (code == CLI_DONE) {
        if (solve(&result, &a, &policy, &to, &err) != DRR_OK)
            code = cli_fail(&err);
    }
    drr_result_clear(&result);
    free(a.read);
    free(a.split);
    return code;
}
