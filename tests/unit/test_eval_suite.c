/* test_eval_suite.c: what a suite's file says, and each thing that is wrong in one named with its line; CSV. */
#include "eval/suite_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-suite-XXXXXX", path[64];

static int make_place(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/s.toml", folder);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static drr_status read_text(suite *s, const char *text, drr_error *err)
{
    assert_int_equal(file_write_all(path, text, strlen(text), NULL), DRR_OK);
    return suite_read(s, path, err);
}

#define REST "[[data]]\npath = \"q.jsonl\"\n[[reasoner]]\nsource = \"small\"\n[[strategy]]\nstrategy = \"cot\"\n"

static void a_suite_is_read_whole(void **state)
{
    (void)state;
    suite s;
    drr_error err = {0};
    const drr_status status = read_text(&s,
                                        "title = \"t\"\nseeds = [3, 5]\nlimit = 7\nbootstrap = 10\n"
                                        "equal_budget = \"tokens:b\"\n[policy]\nsamples = 9\non_exhausted = \"last\"\n"
                                        "[[data]]\npath = \"d/q.jsonl\"\n[[data]]\npath = \"e.jsonl\"\nlimit = 2\n"
                                        "[[reasoner]]\nsource = \"x/m.replay.jsonl\"\nreplay_reasoner = \"r\"\n"
                                        "[[critic]]\npath = \"c.v2.gguf\"\n[[judge]]\nsource = \"vote\"\n"
                                        "[[strategy]]\nname = \"a\"\nstrategy = \"drr\"\nthreshold = 0.5\n"
                                        "[[strategy]]\nname = \"b\"\nstrategy = \"vote\"\nsamples = 3\n"
                                        "top_p = 1\nfeedback = \"words\"\ngrammar = true\n",
                                        &err);
    if (status != DRR_OK)
        fail_msg("%s", err.message);
    assert_string_equal(s.title, "t");
    assert_int_equal(s.n_seeds, 2);
    assert_int_equal(s.seeds[1], 5);
    assert_int_equal(s.n_data, 2);
    assert_int_equal(s.data[0].limit, 7);
    assert_int_equal(s.data[1].limit, 2);
    assert_string_equal(s.reasoners[0].name, "m");
    assert_string_equal(s.reasoners[0].options.replay_reasoner, "r");
    assert_int_equal(s.n_critics, 2);
    assert_string_equal(s.critics[0].name, "c");
    assert_string_equal(s.critics[1].source, "vote");
    assert_int_equal(s.entries[0].policy.samples, 9);
    assert_int_equal(s.entries[0].policy.on_exhausted, DRR_EXHAUSTED_LAST);
    assert_true(s.entries[0].policy.threshold == 0.5 && isnan(s.entries[1].policy.threshold));
    assert_int_equal(s.entries[1].policy.strategy, DRR_STRATEGY_VOTE);
    assert_int_equal(s.entries[1].policy.samples, 3);
    assert_true(s.entries[1].policy.top_p == 1 && s.entries[1].policy.grammar);
    assert_int_equal(s.entries[1].policy.feedback, DRR_FEEDBACK_WORDS);
    assert_int_equal(s.equal_budget, DRR_BUDGET_TOKENS);
    assert_string_equal(s.budget_of, "b");
    suite_clear(&s);
}

static void a_critic_is_made_of_traces_for_each_fold(void **state)
{
    (void)state;
    suite s;
    drr_error err = {0};
    const drr_status status = read_text(
        &s,
        "[[critic]]\ntraces = \"d/t.jsonl\"\nfolds = 5\nepochs = 2\nkind = \"stack\"\nlearning_rate = 1e-4\n"
        "max_questions = 300\nseed = 9\nfirst_turns_only = true\nbeginnings = 2\nwith_question_critic = true\n" REST
        "early_after = 1\nparallel_below = 0.5\nhopeless_below = 0.25\ngive_up_below = 0.125\n",
        &err);
    if (status != DRR_OK)
        fail_msg("%s", err.message);
    const suite_critic *c = &s.critics[0];
    assert_string_equal(c->name, "t");
    assert_true(c->folds == 5 && c->with_question_critic && !c->path);
    assert_string_equal(c->train.traces, "d/t.jsonl");
    assert_string_equal(c->train.encoder, "all-minilm-l6-v2"); /* as drr train */
    assert_true(c->train.epochs == 2 && c->train.kind == DRR_CRITIC_STACK && c->train.max_questions == 300);
    assert_true(c->train.learning_rate == 1e-4 && c->train.seed == 9 && c->train.first_turns_only &&
                c->train.beginnings == 2);
    const drr_policy *p = &s.entries[0].policy;
    assert_int_equal(p->early_after, 1);
    assert_true(p->parallel_below == 0.5 && p->hopeless_below == 0.25 && p->give_up_below == 0.125);
    suite_clear(&s);
}

static void what_lies_beside_the_suite_is_found_there(void **state)
{
    (void)state;
    suite s;
    char beside[96];
    snprintf(beside, sizeof beside, "%s/q.jsonl", folder);
    assert_int_equal(file_write_all(beside, "", 0, NULL), DRR_OK);
    assert_int_equal(read_text(&s, REST, NULL), DRR_OK);
    assert_string_equal(s.data[0].path, beside);
    assert_true(s.n_seeds == 1 && s.seeds[0] == 1);      /* as drr eval without --seed: the same texts */
    assert_string_equal(s.reasoners[0].source, "small"); /* a short name */
    suite_clear(&s);
    unlink(beside);
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *words;
    } cases[] = {
        {"titel = \"x\"\n" REST, ":1: ", "no key \"titel\" here; there are title, limit"},
        {REST "sampels = 3\n", ":7: ", "no key \"sampels\""},
        {REST "samples = 0\n", ":7: ", "from 1 to 1024"},
        {REST "samples = 2.5\n", ":7: ", "whole number"},
        {REST "threshold = 1.5\n", ":7: ", "from 0 to 1"},
        {REST "threshold = \"high\"\n", ":7: ", "is a number"},
        {REST "grammar = 1\n", ":7: ", "true or false"},
        {REST "feedback = \"shout\"\n", ":7: ", "words, restart"},
        {REST "name = \"a/b\"\n", ":7: ", "cannot be a file's"},
        {REST "[[strategy]]\nstrategy = \"cot\"\n", ":7: ", "two [[strategy]] are named \"cot\""},
        {REST "[[strategy]]\nstrategy = \"guess\"\n", ":8: ", "guess"},
        {REST "[[strategy]]\nsamples = 3\n", ":7: ", "needs a strategy"},
        {REST "[[strategy]]\nstrategy = \"drr\"\n", ":7: ", "needs a critic"},
        {REST "[[strategy]]\nstrategy = \"vote\"\nsamples = 8\nmax_tokens = 7\n", ":10: ", "cannot hold 8 samples"},
        {REST "[[strategy]]\nstrategy = \"self-critique\"\nmax_turns = 3\nmax_tokens = 2\n", ":10: ", "hold 3 turns"},
        {"[[data]]\npath = \"q\"\n[[reasoner]]\nsource = \"s\"\ncontext = 512\n[[strategy]]\nstrategy = \"cot\"\n"
         "turn_tokens = 512\n",
         ":8: ", "do not fit into the context of 512"},
        {"seeds = [1, 1]\n" REST, ":1: ", "twice"},
        {"seeds = []\n" REST, ":1: ", "whole numbers"},
        {"\nseeds = [-1]\n" REST, ":2: ", "whole numbers"},
        {"equal_budget = \"time\"\n" REST, ":1: ", "calls"},
        {"equal_budget = \"tokens:vote\"\n" REST, ":1: ", "no [[strategy]]"},
        {"data = 3\n[[reasoner]]\nsource = \"s\"\n", ":1: ", "list of tables"},
        {"policy = 3\n" REST, ":1: ", "policy is a table"},
        {"[policy]\nname = \"x\"\n" REST, ":2: ", "no key \"name\""},
        {"[[data]]\nformat = \"drr\"\n", ":1: ", "needs a path"},
        {"[[data]]\npath = \"\"\n", ":2: ", "a text, in quotes"},
        {"[[data]]\npath = \"q\"\n[[reasoner]]\nmodel = \"m\"\n", ":3: ", "needs a source"},
        {"[[data]]\npath = \"q\"\n[[reasoner]]\nsource = \"a.x\"\n[[reasoner]]\nsource = \"b/a.y\"\n",
         ":5: ", "two [[reasoner]] are named \"a\""},
        {REST "[[critic]]\nname = \"c\"\n", ":7: ", "needs a path, or traces and folds"},
        {REST "[[critic]]\npath = \"c\"\ntraces = \"t\"\nfolds = 2\n", ":7: ", "not both"},
        {REST "[[critic]]\ntraces = \"t\"\n", ":7: ", "needs folds = K"},
        {REST "[[critic]]\ntraces = \"t\"\nfolds = 1\n", ":9: ", "from 2 to 20"},
        {REST "[[critic]]\npath = \"c\"\nepochs = 2\n", ":9: ", "epochs is of a critic that is made here"},
        {REST "[[critic]]\ntraces = \"t\"\nfolds = 2\nepoch = 2\n", ":10: ", "no key \"epoch\""},
        {"[[critic]]\ntraces = \"t\"\nfolds = 2\nwith_question_critic = true\n[[critic]]\npath = \"c\"\n" REST
         "give_up_below = 0.1\n",
         ":11: ", "in each [[critic]]"},
        {REST "[[judge]]\nname = \"c\"\n", ":7: ", "needs a source"},
        {"a = [\n", ":", "TOML"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        suite s;
        drr_error err = {0};
        char where[96];
        assert_int_equal(read_text(&s, cases[i].text, &err), DRR_E_FORMAT);
        snprintf(where, sizeof where, "%s%s", path, cases[i].line);
        if (!strstr(err.message, where) || !strstr(err.message, cases[i].words) || strchr(err.message, '\n'))
            fail_msg("case %zu: \"%s\" has not \"%s\" and \"%s\"", i, err.message, where, cases[i].words);
    }
}

static void a_study_needs_data_a_reasoner_and_a_strategy(void **state)
{
    (void)state;
    suite s;
    drr_error err = {0};
    assert_int_equal(read_text(&s, "title = \"t\"\n", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "has no [[data]]"));
    assert_int_equal(read_text(&s, "[[data]]\npath = \"q\"\n", &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "has no [[reasoner]]"));
    assert_int_equal(suite_read(&s, "/nowhere/s.toml", &err), DRR_E_NOT_FOUND);
}

static void rows_become_csv(void **state)
{
    (void)state;
    char *text = NULL, csv[96];
    json_t *rows = json_pack("[{s:s, s:[f, f], s:n}, {s:s, s:i, s:{s:b}}]", "a", "x, \"y\"", "ci", 0.5, 1.0, "none",
                             "a", "two\nlines", "n", 3, "w", "deep", 1);
    snprintf(csv, sizeof csv, "%s/t.csv", folder);
    assert_non_null(rows);
    assert_int_equal(csv_write(csv, rows, NULL), DRR_OK);
    assert_int_equal(file_read(&text, NULL, csv, 0, NULL), DRR_OK);
    assert_string_equal(text,
                        "a,ci_low,ci_high,none,n,w_deep\r\n\"x, \"\"y\"\"\",0.5,1,,,\r\n\"two\nlines\",,,,3,true\r\n");
    free(text);
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_suite_is_read_whole),
        cmocka_unit_test(a_critic_is_made_of_traces_for_each_fold),
        cmocka_unit_test(what_lies_beside_the_suite_is_found_there),
        cmocka_unit_test(what_is_wrong_is_named_with_its_line),
        cmocka_unit_test(a_study_needs_data_a_reasoner_and_a_strategy),
        cmocka_unit_test(rows_become_csv),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
