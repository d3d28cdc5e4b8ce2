/* test_loop_judge.c: judges that stand in for a critic, on the same loop. Those of other programs are asked by
 * tests/e2e/test_policies.py. */
#include "loop/judge.h"
#include "loop_stage.h"

static drr_judge *open_judge(const char *source)
{
    drr_judge *judge = NULL;
    drr_error err = {0};
    if (drr_judge_open(&judge, source, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return judge;
}

static const line samples[] = {{"one?", 0, "It is, I think after much thought and more, three.\nAnswer: 3", 0},
                               {"one?", 1, "Answer: 7", 0},
                               {"one?", 2, "Answer: 7", 0}};

static void a_vote_accepts_what_agrees(void **state)
{
    (void)state;
    stage s;
    STAGE(s, samples, DRR_STRATEGY_DRR);
    drr_judge *judge = open_judge("vote");
    assert_false(drr_judge_calibrated(judge));
    assert_string_equal(drr_judge_name(judge), "vote");
    s.policy.judge = judge;
    s.policy.threshold = 0.55;
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 3); /* 1/2, 1/3, and then 2 of 3 agree: 2/4 is not enough */
    assert_string_equal(r->answer, "7");
    assert_float_equal(r->turns[0].p_correct, 0.5, 1e-9);
    assert_float_equal(r->turns[1].p_correct, 1.0 / 3, 1e-9);
    assert_float_equal(r->turns[2].p_correct, 0.5, 1e-9);
    assert_int_equal(r->turns[2].verdict, DRR_VERDICT_REJECT);
    drr_result_clear(r);
    s.policy.threshold = 0.5;
    assert_int_equal(solve(&s, &q1, NULL)->n_turns, 1);
    stage_close(&s);
    drr_judge_close(judge);
}

static void a_critique_is_no_vote(void **state)
{
    (void)state;
    static const line lines[] = {
        {"one?", 0, "Answer: 3", 0}, {"one?", 1000, "It is wrong.", 0}, {"one?", 2000, "Answer: 7", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_SELF_CRITIQUE);
    drr_judge *judge = open_judge("vote");
    s.policy.judge = judge;
    s.policy.max_turns = 2;
    assert_float_equal(solve(&s, &q1, NULL)->p_correct, 1.0 / 3, 1e-9);
    stage_close(&s);
    drr_judge_close(judge);
}

static void the_shorter_answer_is_the_better_one_by_length(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", 0}, {"one?", 1, "Answer: 7", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_BEST_OF_N);
    drr_judge *judge = open_judge("length");
    s.policy.judge = judge;
    s.policy.samples = 2;
    s.policy.max_tokens = 7; /* 5 tokens, then 2 */
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_float_equal(r->turns[0].p_correct, 100.0 / 105, 1e-6);
    assert_float_equal(r->turns[1].p_correct, 100.0 / 102, 1e-6);
    stage_close(&s);
    drr_judge_close(judge);
}

static void log_probabilities_judge_where_there_are_any(void **state)
{
    (void)state;
    stage s;
    STAGE(s, samples, DRR_STRATEGY_BEST_OF_N);
    drr_judge *judge = open_judge("logprob");
    s.policy.judge = judge;
    s.policy.samples = 2;
    drr_result *r = solve(&s, &q1, NULL);
    assert_float_equal(r->turns[0].p_correct, exp(-0.1), 1e-6);
    stage_close(&s);
    drr_judge_close(judge);
}

static void log_probabilities_that_are_not_there_are_missed(void **state)
{
    (void)state;
    char path[] = "/tmp/drr-test-judge-XXXXXX.jsonl";
    FILE *file = fdopen(mkstemps(path, 6), "w");
    fputs("{\"question\":\"one?\",\"text\":\"Answer: 3\",\"reasoner\":\"a\"}\n", file);
    fclose(file);
    const drr_task *tasks[] = {&q1};
    drr_error err = {0};
    stage s;
    STAGE(s, samples, DRR_STRATEGY_BEST_OF_N);
    drr_reasoner_close(s.reasoner);
    assert_int_equal(drr_reasoner_open(&s.reasoner, path, NULL, &err), DRR_OK);
    drr_judge *judge = open_judge("logprob");
    s.policy.judge = judge;
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "a@replay gives none"));
    drr_judge_close(judge);
    judge = open_judge("self");
    s.policy.judge = judge;
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "recorded ones alone"));
    stage_close(&s);
    drr_judge_close(judge);
    unlink(path);
}

/* ---- the reasoner's own word */

static char before_last[256]; /* what stood before the last words of an attempt */

/* Answers as the script says, and yes to "7", no to anything else, and neither to "Hm". */
static drr_status say_submit(void *self, const reasoner_request *r, drr_error *err)
{
    scripted *s = self;
    const bool asked = strstr(r->messages[r->n_messages - 1].content, "yes or no") != NULL;
    if (!asked) {
        snprintf(before_last, sizeof before_last, "%s", r->messages[r->n_messages - 2].content);
        return script_submit(self, r, err);
    }
    const bool yes = strstr(r->messages[r->n_messages - 2].content, "7") != NULL;
    const bool neither = strstr(r->messages[r->n_messages - 2].content, "Hm") != NULL;
    reasoner_completion c = {.tag = r->tag, .finish = DRR_FINISH_STOP, .n_prompt_tokens = 20, .n_tokens = 1};
    assert_float_equal(r->temperature, 0, 0);
    c.text = strdup(neither ? "Who knows" : yes ? "Yes." : "No");
    c.tokens = calloc(1, sizeof *c.tokens);
    c.tokens[0] = (reasoner_token){(uint32_t)strlen(c.text), logf(0.8f), 0.1f, 1};
    c.n_token_stats = 1;
    s->waiting[s->n++] = c;
    return DRR_OK;
}

static void the_reasoner_judges_itself_in_turns_of_their_own(void **state)
{
    (void)state;
    static const reasoner_backend backend = {
        .submit = say_submit, .next = script_next, .cancel = script_cancel, .close = script_close};
    drr_judge *judge = open_judge("self");
    for (int strategy = DRR_STRATEGY_BEST_OF_N; strategy <= DRR_STRATEGY_DRR; strategy++) {
        stage s;
        STAGE(s, samples, (drr_strategy)strategy);
        drr_reasoner_close(s.reasoner);
        assert_int_equal(reasoner_new(&s.reasoner, &backend, &s.script, "script", "a script", 4, NULL), DRR_OK);
        s.policy.judge = judge;
        s.policy.threshold = 0.5;
        s.policy.samples = 2;
        drr_result *r = solve(&s, &q1, NULL);
        assert_string_equal(r->answer, "7");
        assert_int_equal(r->n_turns, 4);
        assert_int_equal(r->n_tokens, 12); /* 5 and 1, twice */
        assert_string_equal(r->turns[1].role, "judge");
        assert_string_equal(r->turns[1].text, "No");
        assert_float_equal(r->turns[0].p_correct, 0.2, 1e-4);
        assert_float_equal(r->turns[2].p_correct, 0.8, 1e-4);
        assert_float_equal(r->p_correct, 0.8, 1e-4);
        assert_null(r->turns[1].answer);
        stage_close(&s);
    }
    drr_judge_close(judge);
}

static stage self_judged(const line *lines, size_t n, drr_judge *judge)
{
    static const reasoner_backend backend = {
        .submit = say_submit, .next = script_next, .cancel = script_cancel, .close = script_close};
    static stage s; /* the reasoner knows its script by address */
    stage_open(&s, lines, n, DRR_STRATEGY_DRR);
    drr_reasoner_close(s.reasoner);
    assert_int_equal(reasoner_new(&s.reasoner, &backend, &s.script, "script", "a script", 4, NULL), DRR_OK);
    s.policy.judge = judge;
    s.policy.threshold = 0.9;
    return s;
}

static void a_spent_budget_asks_no_judge_either(void **state)
{
    (void)state;
    drr_judge *judge = open_judge("self");
    stage s = self_judged(samples, 3, judge);
    s.policy.max_tokens = 5; /* which the first answer takes */
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 1);
    assert_int_equal(r->n_tokens, 5);
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_REJECT);
    assert_string_equal(r->answer, "3");
    drr_result_clear(r);
    s.policy.max_tokens = 6;
    assert_int_equal(solve(&s, &q1, NULL)->n_turns, 2); /* a token for the judge's word is left */
    stage_close(&s);
    drr_judge_close(judge);
}

static void where_a_judge_says_nothing_the_others_are_heard(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Hm.\nAnswer: 7", 0}, {"one?", 1, "Answer: 7", 0}};
    drr_judge *judge = open_judge("self");
    stage s = self_judged(lines, 2, judge);
    s.policy.max_turns = 2;
    s.policy.abstain_below = 0.5;
    drr_result *r = solve(&s, &q1, NULL);
    assert_true(isnan(r->turns[0].p_correct));
    assert_int_equal(r->outcome, DRR_ANSWERED);
    assert_float_equal(r->p_correct, 0.8, 1e-4);
    drr_result_clear(r);
    s.policy.max_turns = 1; /* nobody knows: that is not enough */
    assert_int_equal(solve(&s, &q1, NULL)->outcome, DRR_ABSTAINED);
    drr_result_clear(r);
    s.policy.abstain_below = 0;
    assert_int_equal(solve(&s, &q1, NULL)->outcome, DRR_ANSWERED);
    stage_close(&s);
    drr_judge_close(judge);
}

/* It would be asked of no sample, and all would weigh nothing. */
static void votes_are_not_weighed_by_a_judge_that_is_not_asked(void **state)
{
    (void)state;
    const drr_task *tasks[] = {&q1};
    drr_error err = {0};
    drr_judge *judge = open_judge("self");
    stage s = self_judged(samples, 3, judge);
    s.policy.strategy = DRR_STRATEGY_VOTE;
    for (int votes = DRR_VOTES_CRITIC; votes <= DRR_VOTES_POSTERIOR; votes++) {
        s.policy.votes = (drr_votes)votes;
        assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                         DRR_E_ARGUMENT);
        assert_non_null(strstr(err.message, "self is asked in best-of-n and drr alone"));
    }
    s.policy.votes = DRR_VOTES_EQUAL;
    assert_string_equal(solve(&s, &q1, NULL)->answer, "7");
    stage_close(&s);
    drr_judge_close(judge);
}

static void after_words_the_conversation_is_without_the_judges(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", 0}, {"one?", 1000, "Answer: 7", 0}};
    static const reasoner_backend backend = {
        .submit = say_submit, .next = script_next, .cancel = script_cancel, .close = script_close};
    drr_judge *judge = open_judge("self");
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_reasoner_close(s.reasoner);
    assert_int_equal(reasoner_new(&s.reasoner, &backend, &s.script, "script", "a script", 4, NULL), DRR_OK);
    s.policy.judge = judge;
    s.policy.threshold = 0.5;
    s.policy.feedback = DRR_FEEDBACK_WORDS;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->turns[2].turn, 1);
    assert_non_null(strstr(r->turns[2].feedback, "3"));
    assert_string_equal(before_last, "Answer: 3");
    stage_close(&s);
    drr_judge_close(judge);
}

static void a_word_is_read_as_a_chance(void **state)
{
    (void)state;
    const uint32_t ends[] = {3, 4};
    const float logprobs[] = {logf(0.9f), logf(0.1f)};
    assert_float_equal(judge_word("Yes.", ends, logprobs, 2), 0.9, 1e-6); /* the stop is no part of the word */
    assert_float_equal(judge_word("no", ends, logprobs, 1), 0.1, 1e-6);
    assert_float_equal(judge_word(" **Yes**", NULL, NULL, 0), 1, 0);
    assert_float_equal(judge_word("No", NULL, NULL, 0), 0, 0);
    assert_true(isnan(judge_word("Nothing", NULL, NULL, 0)));
    assert_true(isnan(judge_word("", NULL, NULL, 0)));
}

/* ---- what must be said */

static void who_is_not_calibrated_needs_a_threshold(void **state)
{
    (void)state;
    const drr_task *tasks[] = {&q1};
    drr_error err = {0};
    stage s;
    STAGE(s, samples, DRR_STRATEGY_DRR);
    drr_judge *judge = open_judge("length");
    s.policy.judge = judge;
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "the judge length has no threshold"));
    assert_non_null(strstr(err.message, "--threshold"));
    s.policy.strategy = DRR_STRATEGY_BEST_OF_N; /* which needs none */
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_OK);
    s.n = 1;
    stage_close(&s);
    drr_judge_close(judge);
}

static void a_critics_file_is_a_judge_like_any(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", -1}, {"one?", 1, "Answer: 7", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_judge *judge = open_judge(critic_path);
    assert_true(drr_judge_calibrated(judge));
    assert_non_null(drr_judge_critic(judge));
    drr_critic_close(s.critic);
    s.critic = NULL;
    s.policy.judge = judge;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_true(fabs(r->p_correct - 1 / (1 + exp(-1.0))) < 1e-6);
    stage_close(&s);
    drr_judge_close(judge);
}

static void assert_refused(const char *source, const drr_judge_options *options, const char *words)
{
    drr_judge *judge = NULL;
    drr_error err = {0};
    assert_int_not_equal(drr_judge_open(&judge, source, options, &err), DRR_OK);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" is not in: %s", words, err.message);
    assert_null(judge);
}

static void a_judge_that_is_not_there_is_refused(void **state)
{
    (void)state;
    assert_refused("slef", NULL, "there is no judge \"slef\"");
    assert_refused("http://localhost:1/v1", NULL, "--judge-route");
    assert_refused("http://localhost:1/v1", &(drr_judge_options){.route = "rank"}, "there is no route \"rank\"");
    assert_refused("http://localhost:1/classify", &(drr_judge_options){.scale = "logit"}, "classify");
    assert_refused("http://localhost:1/rerank", &(drr_judge_options){.scale = "percent"}, "percent");
    assert_refused("self", &(drr_judge_options){.route = "rerank"}, "the judge is self");
}

static void no_guarantee_is_about_another_judge(void **state)
{
    (void)state;
    const drr_guarantee g = script_guarantee(1, 0.8, NAN);
    drr_policy p;
    char why[400];
    drr_judge *judge = open_judge("vote");
    drr_policy_defaults(&p);
    drr_policy_guaranteed(&p, &g);
    assert_true(drr_guarantee_holds(why, sizeof why, &g, &p));
    p.judge = judge;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    assert_string_equal(why, "the judge is vote");
    p.question_critic = (drr_critic *)(uintptr_t)1; /* which is looked at by nobody */
    p.sure_above = p.parallel_below = 0.5;
    p.judge = NULL;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    drr_policy_guaranteed(&p, &g);
    assert_true(drr_guarantee_holds(why, sizeof why, &g, &p)); /* it decides on nothing now */
    p.max_seconds = 1;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    drr_policy_guaranteed(&p, &g);
    p.early_below = 0.1;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    drr_judge_close(judge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vote_accepts_what_agrees),
        cmocka_unit_test(a_critique_is_no_vote),
        cmocka_unit_test(the_shorter_answer_is_the_better_one_by_length),
        cmocka_unit_test(log_probabilities_judge_where_there_are_any),
        cmocka_unit_test(log_probabilities_that_are_not_there_are_missed),
        cmocka_unit_test(the_reasoner_judges_itself_in_turns_of_their_own),
        cmocka_unit_test(a_spent_budget_asks_no_judge_either),
        cmocka_unit_test(where_a_judge_says_nothing_the_others_are_heard),
        cmocka_unit_test(votes_are_not_weighed_by_a_judge_that_is_not_asked),
        cmocka_unit_test(after_words_the_conversation_is_without_the_judges),
        cmocka_unit_test(a_word_is_read_as_a_chance),
        cmocka_unit_test(who_is_not_calibrated_needs_a_threshold),
        cmocka_unit_test(a_critics_file_is_a_judge_like_any),
        cmocka_unit_test(a_judge_that_is_not_there_is_refused),
        cmocka_unit_test(no_guarantee_is_about_another_judge),
    };
    return cmocka_run_group_tests(tests, make_critic, remove_critic);
}
