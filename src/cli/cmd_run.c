/* cmd_run.c: `drr run`: the whole cycle, distil, train, evaluate, in one folder. Each step keeps what it finished, so
 * that the same command goes on after any interruption: traces and samples are in stores, and the critic is taken as it
 * is when critic.key says that it was trained on these traces with these options. */
#include "distilling.h"
#include "evaluating.h"
#include "training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run(int argc, char **argv);

const cli_command cli_run = {
    "run", NULL, "the whole cycle: distill, train, eval",
    "Lets the reasoner answer the training questions, trains a critic on the traces, and compares all strategies on "
    "the test\n"
    "questions. --out holds traces.db, critic.gguf and the report; interrupted or killed, the same command goes on.\n"
    "A test question that is also a training question tells nothing, since the critic has learnt its answer: run says "
    "how many\n"
    "there are, and refuses from 1 in 20 on, unless --allow-overlap is given.\n\n"
    "Examples:\n"
    "  drr run --train csqa.train.jsonl --test csqa.dev.jsonl --out runs/csqa\n"
    "  drr run --train train.jsonl --test test.jsonl --reasoner model.gguf --train-limit 300 --test-limit 100 --json\n",
    run};

typedef struct cycle {
    cli_list train, test;
    const char *out, *format;
    cli_reasoner_choice choice;
    cli_checking checking;
    drr_distill_options distill;
    drr_train_options training;
    evaluation eval;
    bool retrain, allow_overlap;
    char default_out[4096], store[4200], critic[4200], key[4200];
    drr_store *traces;
    drr_prompts *prompts;
    drr_reasoner *reasoner;
} cycle;

static void place_files(cycle *c)
{
    if (!c->out) {
        cli_default_out(c->default_out, sizeof c->default_out, c->test.items[0], "");
        c->out = c->default_out;
    }
    snprintf(c->store, sizeof c->store, "%.4000s/traces.db", c->out);
    snprintf(c->critic, sizeof c->critic, "%.4000s/critic.gguf", c->out);
    snprintf(c->key, sizeof c->key, "%.4000s/critic.key", c->out);
    c->training.traces = c->store;
    c->training.out = c->critic;
}

/* Published sets have a few doubles (ARC has), which change no figure much; more of them are a mistake. */
static drr_status check_overlap(const cycle *c, drr_dataset *const *train, drr_dataset *const *test, drr_error *err)
{
    enum { FEW = 20 };
    drr_overlap o;
    char there[400], here[400], words[960];
    drr_status status = drr_datasets_overlap(&o, (const drr_dataset *const *)train, c->train.n, c->distill.limit,
                                             (const drr_dataset *const *)test, c->test.n, c->eval.limit, err);
    if (status != DRR_OK || o.n == 0)
        return status;
    drr_dataset_place(here, sizeof here, test[o.test_set], o.test_index);
    drr_dataset_place(there, sizeof there, train[o.train_set], o.train_index);
    snprintf(
        words, sizeof words,
        "%zu of %zu test questions are training questions too (the first: %s is %s), and the critic would be judged "
        "on what it learnt",
        o.n, o.n_test, here, there);
    if (c->allow_overlap || FEW * o.n < o.n_test) {
        cli_note("warning: %s", words);
        return DRR_OK;
    }
    err->status = DRR_E_ARGUMENT;
    snprintf(err->message, sizeof err->message, "%s; leave them out, or say --allow-overlap", words);
    return DRR_E_ARGUMENT;
}

/* Too few are said now, and not by training, when they have been answered. A store that is there may hold others. */
static drr_status check_number(const cycle *c, drr_dataset *const *train, drr_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < c->train.n; i++) {
        const size_t all = drr_dataset_count(train[i]);
        n += c->distill.limit && c->distill.limit < all ? (size_t)c->distill.limit : all;
    }
    if (n >= DRR_TRAIN_FEWEST_QUESTIONS || c->training.max_questions || access(c->store, F_OK) == 0)
        return DRR_OK;
    err->status = DRR_E_EMPTY;
    snprintf(err->message, sizeof err->message,
             "--train has %zu questions%s, and a critic of fewer than %d says nothing: give more", n,
             c->distill.limit ? " within --train-limit" : "", DRR_TRAIN_FEWEST_QUESTIONS);
    return DRR_E_EMPTY;
}

static drr_status check_questions(const cycle *c, drr_error *err)
{
    drr_dataset *train[CLI_LIST_MOST] = {NULL}, *test[CLI_LIST_MOST] = {NULL};
    drr_status status = cli_open_datasets(train, &c->train, c->format, c->distill.limit, err);
    if (status == DRR_OK)
        status = cli_open_datasets(test, &c->test, c->format, c->eval.limit, err);
    if (status == DRR_OK)
        status = check_number(c, train, err);
    if (status == DRR_OK)
        status = check_overlap(c, train, test, err);
    cli_free_datasets(train, c->train.n);
    cli_free_datasets(test, c->test.n);
    return status;
}

/* What a critic's bytes depend on, as one line. */
static void describe_training(char *text, size_t size, const cycle *c, const drr_trace_counts *n)
{
    const drr_train_options *t = &c->training;
    char patience[16], precision[32] = "", target[160] = "", loss[64] = "", kind[128] = "", steps[80] = "",
                       begun[32] = "";
    snprintf(patience, sizeof patience, "%u", t->patience);
    if (t->precision != DRR_PRECISION_AUTO)
        snprintf(precision, sizeof precision, " precision %s", drr_precision_name(t->precision));
    if (t->kind != DRR_CRITIC_ENCODER)
        snprintf(kind, sizeof kind, " kind %s hidden %llu %.60s", drr_critic_kind_name(t->kind),
                 (unsigned long long)n->hidden, c->choice.options.hidden);
    if (!isnan(t->target_error))
        snprintf(target, sizeof target, " target %g delta %g share %g turns %u test %s", t->target_error, t->delta,
                 t->guarantee_share, t->guarantee_turns, drr_risk_test_name(t->risk_test));
    if (t->head != DRR_HEAD_CLS || t->rank_weight > 0)
        snprintf(loss, sizeof loss, " head %s rank %g", drr_head_name(t->head), t->rank_weight);
    if (t->steps)
        snprintf(steps, sizeof steps, " steps %llu by %llu", (unsigned long long)n->stepped,
                 (unsigned long long)n->rollouts);
    if (t->beginnings)
        snprintf(begun, sizeof begun, " beginnings %u", t->beginnings);
    snprintf(
        text, size,
        "drr %s traces %llu questions %llu tokens %llu encoder %.400s epochs %u batch %u length %u patience %s rate %g "
        "decay %g warmup %g clip %g dropout %g dev %g test %g questions %zu weights %d seed %llu%s%s%s%s%s%s\n",
        DRR_VERSION, (unsigned long long)n->traces, (unsigned long long)n->questions, (unsigned long long)n->tokens,
        t->encoder, t->epochs, t->batch, t->max_length, t->keep_last ? "last" : patience, t->learning_rate,
        t->weight_decay, t->warmup_share, t->clip_norm, t->dropout, t->dev_share, t->test_share, t->max_questions,
        t->class_weights, (unsigned long long)t->seed, precision, target, loss, kind, steps, begun);
}

static drr_status distill(cycle *c, drr_trace_counts *counts, drr_error *err)
{
    char share[16];
    cli_note("1 of 3: distill into %s", c->store);
    drr_status status = distill_into(c->traces, c->reasoner, c->prompts, &c->train, c->format, &c->distill, false, err);
    if (status == DRR_OK)
        status = drr_store_counts(c->traces, NULL, counts, err);
    if (status == DRR_OK)
        cli_note("%llu traces of %llu questions; fresh answers right: %s", (unsigned long long)counts->traces,
                 (unsigned long long)counts->questions,
                 cli_share(share, counts->turn0 ? (double)counts->turn0_accepted / (double)counts->turn0 : 0));
    return status;
}

/* `wanted`, and the SHA-256 of the critic that came of it: `drr train` may have put another in its place. */
static bool describe_critic(char text[1600], const cycle *c, const char *wanted, drr_error *err)
{
    drr_critic *critic = NULL;
    drr_critic_info info;
    if (drr_critic_open(&critic, c->critic, err) != DRR_OK)
        return false;
    drr_critic_describe(critic, &info);
    snprintf(text, 1600, "%scritic %.64s\n", wanted, info.sha256);
    drr_critic_close(critic);
    return true;
}

static bool is_trained(const cycle *c, const char *wanted)
{
    char text[1600];
    char *had = cli_read_file(c->key);
    const bool same = had && describe_critic(text, c, wanted, NULL) && strcmp(had, text) == 0;
    free(had);
    return same;
}

static drr_status remember_training(const cycle *c, const char *wanted, drr_error *err)
{
    char text[1600];
    return describe_critic(text, c, wanted, err) ? cli_write_file(c->key, text, err) : err->status;
}

static drr_status train(cycle *c, const drr_trace_counts *counts, drr_error *err)
{
    char wanted[1500];
    drr_train_result result = {0};
    describe_training(wanted, sizeof wanted, c, counts);
    if (!c->retrain && is_trained(c, wanted)) {
        cli_note("2 of 3: %s was trained on these traces already", c->critic);
        return DRR_OK;
    }
    cli_note("2 of 3: train %s", c->critic);
    unlink(c->key);
    if (c->retrain)
        c->training.resume = false;
    drr_status status = drr_train(&result, &c->training, cli_hooks(), err);
    if (status == DRR_E_MISMATCH && c->training.resume) {
        cli_note("an interrupted training with other options or traces is given up, and training begins anew");
        c->training.resume = false;
        status = drr_train(&result, &c->training, cli_hooks(), err);
    }
    if (status == DRR_OK)
        status = remember_training(c, wanted, err);
    if (status == DRR_OK) {
        cli_clear_progress();
        train_result_print(stderr, &result, c->critic);
    }
    return status;
}

static drr_status evaluate(cycle *c, drr_error *err)
{
    drr_critic *critic = NULL;
    cli_note("3 of 3: compare strategies");
    drr_status status = drr_critic_open(&critic, c->critic, err);
    if (status == DRR_OK)
        status = evaluation_run(&c->eval, c->out, c->reasoner, critic, c->prompts, &c->test, c->format, err);
    drr_critic_close(critic);
    return status;
}

static drr_status go(cycle *c, drr_error *err)
{
    drr_trace_counts counts = {0};
    const bool is_new = access(c->store, F_OK) != 0;
    drr_status status = drr_train_check(&c->training, err); /* now, and not when hours have been distilled */
    if (status == DRR_OK)
        status = check_questions(c, err);
    if (status == DRR_OK)
        status = cli_make_folder(c->out, err);
    if (status == DRR_OK)
        status = drr_store_open(&c->traces, c->store, true, err);
    if (status == DRR_OK)
        status = cli_open_checker(&c->eval.checker, &c->checking, err);
    c->distill.checker = c->eval.checker;
    if (status == DRR_OK)
        status = cli_open_reasoner(&c->reasoner, &c->prompts, &c->choice, err);
    if (status == DRR_OK)
        status = cli_check_hidden(c->reasoner, &c->choice, err);
    if (status == DRR_OK)
        status = distill(c, &counts, err);
    const bool empty = c->traces && drr_store_counts(c->traces, NULL, &counts, NULL) == DRR_OK && counts.traces == 0;
    drr_store_close(c->traces);
    if (status != DRR_OK && is_new && (empty || !c->traces))
        remove_empty_store(c->store);
    if (status == DRR_OK)
        status = train(c, &counts, err);
    if (status == DRR_OK)
        status = evaluate(c, err);
    drr_checker_close(c->eval.checker);
    drr_reasoner_close(c->reasoner);
    drr_prompts_free(c->prompts);
    return status;
}

static int run(int argc, char **argv)
{
    static cycle c;
    uint64_t seed = 1;
    const char *steps = NULL;
    const uint32_t n_ranks = cli_follow_rank();
    cli_reasoner_defaults(&c.choice);
    cli_checking_defaults(&c.checking);
    drr_distill_options_defaults(&c.distill);
    drr_train_options_defaults(&c.training);
    evaluation_defaults(&c.eval);
    c.training.encoder = CLI_ENCODER;
    c.training.resume = true;
    const cli_option options[] = {
        {.name = "train",
         .argument = "FILE|NAME",
         .type = CLI_LIST,
         .value = &c.train,
         .meaning = "questions to learn from; may be given several times",
         .required = true},
        {.name = "test",
         .argument = "FILE|NAME",
         .type = CLI_LIST,
         .value = &c.test,
         .meaning = "other questions, to compare on; may be given several times",
         .required = true},
        {.name = "out",
         .argument = "DIR",
         .type = CLI_STRING,
         .value = &c.out,
         .meaning = "everything that is made; not given: runs/<test>"},
        {.name = "format",
         .argument = "F",
         .type = CLI_STRING,
         .value = &c.format,
         .meaning = "of the data; not given: detected"},
        {.name = "train-limit",
         .argument = "N",
         .type = CLI_SIZE,
         .value = &c.distill.limit,
         .meaning = "first training questions only; 0: all"},
        {.name = "test-limit",
         .argument = "N",
         .type = CLI_SIZE,
         .value = &c.eval.limit,
         .meaning = "first test questions only; 0: all"},
        {.name = "distill-samples",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &c.distill.samples,
         .meaning = "fresh samples a training question",
         .low = 1,
         .high = 1024},
        {.name = "distill-turns",
         .argument = "N",
         .type = CLI_UINT32,
         .value = &c.distill.turns,
         .meaning = "at most this many turns a sample, and never more than --max-turns",
         .low = 1,
         .high = 64},
        {.name = "forced-share",
         .argument = "P",
         .type = CLI_DOUBLE,
         .value = &c.distill.forced_share,
         .meaning = "of right answers, the share rejected on purpose",
         .low = 0,
         .high = 1},
        {.name = "steps",
         .argument = "mc=M[,all]",
         .type = CLI_STRING,
         .value = &steps,
         .meaning = "label the steps of each turn, as drr distill does, and teach the critic by them (docs/steps.md)"},
        {.name = "any-identity",
         .type = CLI_FLAG,
         .value = &c.distill.any_identity,
         .meaning = "learn from both although --out's store holds traces of another reasoner, prompt or setting"},
        {.name = "allow-overlap",
         .type = CLI_FLAG,
         .value = &c.allow_overlap,
         .meaning = "only warn of test questions that are training questions too"},
        CLI_REASONER_OPTIONS(c.choice),
        CLI_HIDDEN_OPTION(c.choice),
        TRAIN_OPTIONS(c.training),
        {.name = "retrain",
         .type = CLI_FLAG,
         .value = &c.retrain,
         .meaning = "train even where the critic is up to date"},
        EVALUATION_OPTIONS(c.eval),
        CLI_CHECKING_OPTIONS(c.checking),
        CLI_POLICY_OPTIONS(c.eval.policy),
        {.name = "seed", .argument = "N", .type = CLI_UINT64, .value = &seed, .meaning = "of every step"},
        {.name = "json", .type = CLI_FLAG, .value = &c.eval.json, .meaning = "the report as one JSON object on stdout"},
        CLI_END};
    drr_error err = {0};
    int code;
    if (!cli_parse(&cli_run, options, &argc, &argv, 0, 0, &code))
        return code;
    if (n_ranks > 1)
        return cli_usage(&cli_run, "this is for one process; mpirun starts `drr train` alone");
    if (steps && !distill_parse_steps(&c.distill, steps))
        return cli_usage(&cli_run, NOT_STEPS, steps);
    c.training.steps = steps != NULL;
    code = evaluation_strategies(&c.eval, &cli_run, true);
    if (code != CLI_DONE)
        return code;
    place_files(&c);
    if (c.training.kind != DRR_CRITIC_ENCODER && !c.choice.options.hidden)
        c.choice.options.hidden = "last";
    if (c.distill.turns > c.eval.policy.max_turns)
        c.distill.turns = c.eval.policy.max_turns;
    c.distill.skip_failed = true; /* one question that does not fit must not cost the cycle */
    c.distill.max_tokens = c.eval.policy.turn_tokens;
    c.distill.temperature = c.eval.policy.temperature;
    c.distill.top_p = c.eval.policy.top_p;
    c.distill.grammar = c.eval.policy.grammar;
    c.distill.seed = c.training.seed = c.choice.options.seed = c.eval.policy.seed = seed;
    c.training.threads = c.choice.options.threads;
    return go(&c, &err) == DRR_OK ? CLI_DONE : cli_fail(&err);
}
