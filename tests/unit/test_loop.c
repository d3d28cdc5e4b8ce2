/* test_loop.c: the strategies over a scripted reasoner and a critic that thinks what the script says. */
#include "loop_stage.h"

/* ---- cot */

static void cot_takes_the_first_answer_greedily(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}, {"two?", 0, "no idea", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_COT);
    drr_result *r = solve(&s, &q1, &q2);
    assert_string_equal(r[0].answer, "7");
    assert_int_equal(r[0].correct, 1);
    assert_int_equal(r[0].n_turns, 1);
    assert_int_equal(r[0].n_tokens, 5);
    assert_int_equal(r[0].turns[0].verdict, DRR_VERDICT_NONE);
    assert_float_equal(s.script.temperature[0], 0, 0);
    assert_int_equal(r[1].outcome, DRR_UNPARSED);
    assert_int_equal(r[1].correct, 0);
    assert_null(r[1].answer);
    stage_close(&s);
}

static void a_failed_question_does_not_end_the_others(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, NULL, 1}, {"two?", 0, "Answer: 9", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_COT);
    drr_result *r = solve(&s, &q1, &q2);
    assert_int_equal(r[0].outcome, DRR_FAILED);
    assert_string_equal(r[0].failure, "the script says no");
    assert_int_equal(r[0].correct, 0);
    assert_int_equal(r[1].correct, 1);
    stage_close(&s);
}

/* ---- vote */

static void the_most_frequent_answer_wins_a_vote(void **state)
{
    (void)state;
    static const line lines[] = {
        {"one?", 0, "Answer: 3", 9}, {"one?", 1, "Answer: 7", -9}, {"one?", 2, "?", 9}, {"one?", 3, "Answer: 7.0", -9}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_VOTE);
    s.policy.samples = 4;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->n_turns, 4);
    for (uint32_t i = 0; i < 4; i++) /* the ledger is in order although completions came backwards */
        assert_int_equal(r->turns[i].sample, i);
    assert_true(s.script.temperature[0] > 0);
    stage_close(&s);
}

static void of_equal_votes_the_first_answer_wins(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", 0}, {"one?", 1, "Answer: 7", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_VOTE);
    s.policy.samples = 2;
    assert_string_equal(solve(&s, &q1, NULL)->answer, "3");
    stage_close(&s);
}

static void a_vote_goes_on_without_a_failed_sample(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, NULL, 0}, {"one?", 1, "Answer: 7", 0}, {"one?", 2, "Answer: 7", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_VOTE);
    s.policy.samples = 3;
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->outcome, DRR_ANSWERED);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->n_turns, 2);
    stage_close(&s);
}

/* ---- best of n */

static void best_of_n_takes_what_the_critic_likes_most(void **state)
{
    (void)state;
    static const line lines[] = {
        {"one?", 0, "Answer: 3", 1}, {"one?", 1, "Answer: 7", 2}, {"one?", 2, "Answer: 3", 1.5f}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_BEST_OF_N);
    s.policy.samples = 3;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_true(fabs(r->p_correct - 1 / (1 + exp(-2.0))) < 1e-6);
    drr_result_clear(r);
    s.policy.abstain_below = 0.95;
    r = solve(&s, &q1, NULL);
    assert_int_equal(r->outcome, DRR_ABSTAINED);
    assert_null(r->answer);
    stage_close(&s);
}

/* ---- a budget of tokens; an answer of the script has 5 */

static const line five_samples[] = {{"one?", 0, "Answer: 3", 1},
                                    {"one?", 1, "Answer: 7", 2},
                                    {"one?", 2, "Answer: 7", 3},
                                    {"one?", 3, "Answer: 7", 4},
                                    {"one?", 4, "Answer: 7", 5}};

static void samples_are_drawn_until_the_budget_is_spent(void **state)
{
    (void)state;
    stage s;
    STAGE(s, five_samples, DRR_STRATEGY_VOTE);
    assert_int_equal(solve(&s, &q1, NULL)->n_turns, 5); /* no budget: all, and all at once */
    assert_int_equal(s.script.most_waiting, 5);
    drr_result_clear(s.results);
    s.script.n_asked = s.script.most_waiting = 0;
    s.policy.max_tokens = 10;
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 2);
    assert_int_equal(s.script.n_asked, 2);
    assert_int_equal(s.script.most_waiting, 1); /* or what is left would not be known */
    assert_string_equal(r->answer, "3");
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(r->turns[i].sample, i);
    stage_close(&s);
}

static void the_last_sample_writes_what_the_budget_leaves(void **state)
{
    (void)state;
    stage s;
    STAGE(s, five_samples, DRR_STRATEGY_BEST_OF_N);
    s.policy.max_tokens = 12;
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 3);
    assert_int_equal(r->n_tokens, 12);
    assert_int_equal(r->turns[2].n_tokens, 2);
    assert_true(fabs(r->p_correct - 1 / (1 + exp(-3.0))) < 1e-6); /* the best of those drawn */
    stage_close(&s);
}

static void with_a_budget_a_vote_goes_on_without_a_failed_sample(void **state)
{
    (void)state;
    static const line lines[] = {
        {"one?", 0, NULL, 0}, {"one?", 1, "Answer: 7", 0}, {"one?", 2, NULL, 0}, {"one?", 3, "Answer: 7", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_VOTE);
    s.policy.max_tokens = 100;
    s.policy.samples = 4;
    drr_result *r = solve(&s, &q1, &q2); /* of the second nothing is known: every sample fails */
    assert_string_equal(r[0].answer, "7");
    assert_int_equal(r[0].n_turns, 2);
    assert_int_equal(r[1].outcome, DRR_FAILED);
    assert_int_equal(s.script.n_asked, 8);
    stage_close(&s);
}

/* ---- drr */

static void a_verdict_keeps_the_probability_it_was_given_on(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", -1}, {"one?", 1, "Answer: 7", -0.5f}};
    char path[] = "/tmp/drr-test-agree-XXXXXX";
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_critic_close(s.critic);
    write_margin_critic(path, 1);
    assert_int_equal(drr_critic_open(&s.critic, path, NULL), DRR_OK);
    unlink(path);
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 2);
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_REJECT); /* with the second known it would be 0.52 */
    assert_true(fabs(r->turns[0].p_correct - 1 / (1 + exp(1.0))) < 1e-6);
    assert_int_equal(r->turns[1].verdict, DRR_VERDICT_ACCEPT);
    assert_true(fabs(r->turns[1].p_correct - 1 / (1 + exp(0.5) / 3)) < 1e-6);
    assert_true(fabs(r->turns[1].p_alone - 1 / (1 + exp(0.5))) < 1e-6);
    assert_true(fabs(r->p_correct - r->turns[1].p_correct) < 1e-12);
    drr_result_clear(r);
    s.policy.max_turns = 2;
    s.policy.threshold = 0.9; /* none accepted: what is answered is weighed with both known, the verdicts stay */
    r = solve(&s, &q1, NULL);
    const double both = (1 / (1 + exp(1.0) / 3) + 1 / (1 + exp(0.5) / 3)) / 2;
    assert_int_equal(r->turns[1].verdict, DRR_VERDICT_REJECT);
    assert_true(fabs(r->p_correct - both) < 1e-6);
    assert_true(fabs(r->turns[0].p_correct - 1 / (1 + exp(1.0))) < 1e-6);
    stage_close(&s);
}

static void drr_accepts_at_once_what_is_good_enough(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 1);
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_ACCEPT);
    assert_true(fabs(r->p_correct - 1 / (1 + exp(-1.0))) < 1e-6);
    stage_close(&s);
}

static void drr_starts_afresh_after_a_rejection(void **state)
{
    (void)state;
    static const line lines[] = {
        {"one?", 0, "Answer: 3", -1}, {"one?", 1, "Answer: 7", 1}, {"one?", 1000, "Answer: 5", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->n_turns, 2);
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_REJECT);
    assert_int_equal(r->turns[1].verdict, DRR_VERDICT_ACCEPT);
    assert_null(r->turns[1].feedback);
    assert_float_equal(s.script.temperature[0], 0, 0);
    assert_true(s.script.temperature[1] > 0); /* the likeliest words again would be the same words */
    stage_close(&s);
}

static void drr_can_reject_with_words(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", -1}, {"one?", 1000, "Answer: 7", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    s.policy.feedback = DRR_FEEDBACK_WORDS;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->turns[1].turn, 1);
    assert_string_equal(r->turns[1].feedback, s.script.last_words);
    assert_non_null(strstr(s.script.last_words, "3"));
    stage_close(&s);
}

static const line three_rejected[] = {
    {"one?", 0, "Answer: 3", -1.0f}, {"one?", 1, "Answer: 7", -1.2f}, {"one?", 2, "Answer: 7", -1.3f}};

static void when_turns_run_out_the_policy_says_what_happens(void **state)
{
    (void)state;
    stage s;
    STAGE(s, three_rejected, DRR_STRATEGY_DRR);
    s.policy.max_turns = 3;
    s.policy.on_exhausted = DRR_EXHAUSTED_BEST;
    assert_string_equal(solve(&s, &q1, NULL)->answer, "3");
    drr_result_clear(s.results);
    s.policy.on_exhausted = DRR_EXHAUSTED_VOTE;
    assert_string_equal(solve(&s, &q1, NULL)->answer, "7");
    drr_result_clear(s.results);
    s.policy.on_exhausted = DRR_EXHAUSTED_LAST;
    assert_string_equal(solve(&s, &q1, NULL)->answer, "7");
    drr_result_clear(s.results);
    s.policy.on_exhausted = DRR_EXHAUSTED_ABSTAIN;
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->outcome, DRR_ABSTAINED);
    assert_int_equal(r->n_turns, 3);
    assert_int_equal(r->turns[2].verdict, DRR_VERDICT_ABSTAIN);
    drr_result_clear(r);
    s.policy.on_exhausted = DRR_EXHAUSTED_VOTE;
    s.policy.abstain_below = 0.4;
    assert_int_equal(solve(&s, &q1, NULL)->outcome, DRR_ABSTAINED);
    stage_close(&s);
}

static void the_token_budget_ends_the_turns(void **state)
{
    (void)state;
    stage s;
    STAGE(s, three_rejected, DRR_STRATEGY_DRR);
    s.policy.max_tokens = 10;
    assert_int_equal(solve(&s, &q1, NULL)->n_turns, 2);
    stage_close(&s);
}

static void what_cannot_be_read_is_never_accepted(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "I wonder", 9}, {"one?", 1, "Answer: 7", 1}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_REJECT);
    assert_string_equal(r->answer, "7");
    stage_close(&s);
}

static void a_failing_retry_leaves_the_answers_there_are(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", -1}, {"one?", 1, NULL, 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->outcome, DRR_ANSWERED);
    assert_string_equal(r->answer, "7");
    assert_non_null(r->failure);
    stage_close(&s);
}

/* ---- self-critique */

static void self_critique_stops_when_it_finds_no_mistake(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", 0},
                                 {"one?", 1000, "The sum is wrong.", 0},
                                 {"one?", 2000, "Answer: 7", 0},
                                 {"one?", 3000, "No mistake.", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_SELF_CRITIQUE);
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->n_turns, 4);
    assert_string_equal(r->turns[1].role, "critique");
    assert_string_equal(r->turns[2].role, "revision");
    assert_null(r->turns[1].answer);
    assert_true(isnan(r->turns[1].p_correct));
    assert_int_equal(r->turns[1].correct, -1);
    stage_close(&s);
}

static void self_critique_never_sees_the_reference(void **state)
{
    (void)state; /* right at first, it is talked out of it */
    static const line lines[] = {
        {"one?", 0, "Answer: 7", 0}, {"one?", 1000, "It is wrong.", 0}, {"one?", 2000, "Answer: 3", 0}};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_SELF_CRITIQUE);
    s.policy.max_turns = 2;
    drr_result *r = solve(&s, &q1, NULL);
    assert_string_equal(r->answer, "3");
    assert_int_equal(r->n_turns, 3);
    stage_close(&s);
}

/* ---- others */

static void a_question_without_a_reference_is_not_graded(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}};
    drr_task open = q1;
    stage s;
    open.answer = "";
    STAGE(s, lines, DRR_STRATEGY_DRR);
    assert_int_equal(solve(&s, &open, NULL)->correct, -1);
    stage_close(&s);
}

static bool always(void *user)
{
    (void)user;
    return true;
}

static void an_interrupted_call_leaves_nothing_behind(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}};
    const drr_hooks hooks = {.cancelled = always};
    const drr_task *tasks[] = {&q1};
    drr_error err = {0};
    stage s;
    STAGE(s, lines, DRR_STRATEGY_DRR);
    assert_int_equal(
        drr_solve(s.results, s.reasoner, s.critic, s.prompts, tasks, 1, &s.policy, NULL, NULL, &hooks, &err),
        DRR_E_INTERRUPTED);
    assert_int_equal(reasoner_pending(s.reasoner), 0);
    assert_null(s.results[0].turns);
    stage_close(&s);
}

static void strategies_that_need_a_critic_say_so(void **state)
{
    (void)state;
    const drr_task *tasks[] = {&q1};
    drr_error err = {0};
    stage s;
    STAGE(s, three_rejected, DRR_STRATEGY_DRR);
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "needs a critic"));
    stage_close(&s);
}

/* ---- guarantees */

/* 0.9 for one turn, 0.7 for two; the critic's own threshold is 0.5. Margins of 1 and 3 are P of 0.73 and 0.95. */
static void a_promised_threshold_is_taken_for_as_many_turns_as_it_is_of(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 3", 1}, {"one?", 1, "Answer: 7", 3}, {"one?", 2, "Answer: 7", 3}};
    const drr_guarantee both[] = {script_guarantee(1, 0.9, NAN), script_guarantee(2, 0.7, NAN)};
    const struct {
        uint32_t turns;
        double threshold;
        drr_verdict first;
    } cases[] = {{1, NAN, DRR_VERDICT_REJECT},
                 {2, NAN, DRR_VERDICT_ACCEPT},
                 {2, 0.8, DRR_VERDICT_REJECT},
                 {3, NAN, DRR_VERDICT_ACCEPT}};
    char path[] = "/tmp/drr-test-loop-XXXXXX";
    write_promising_critic(path, 0, both, 2);
    for (size_t i = 0; i < 4; i++) {
        stage s;
        STAGE(s, lines, DRR_STRATEGY_DRR);
        drr_critic_close(s.critic);
        assert_int_equal(drr_critic_open(&s.critic, path, NULL), DRR_OK);
        s.policy.max_turns = cases[i].turns;
        s.policy.threshold = cases[i].threshold;
        assert_int_equal(solve(&s, &q1, NULL)->turns[0].verdict, cases[i].first);
        stage_close(&s);
    }
    unlink(path);
}

static void a_guarantee_says_which_settings_it_is_not_about(void **state)
{
    (void)state;
    const drr_guarantee g = script_guarantee(3, 0.8, (double)0.7f);
    drr_policy promised, p;
    char why[400];
    drr_policy_defaults(&promised);
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &promised)); /* 5 turns, the first one greedy */
    assert_non_null(strstr(why, "turns are 5, not 3"));
    assert_non_null(strstr(why, "temperatures"));
    drr_policy_guaranteed(&promised, &g);
    assert_true(drr_guarantee_holds(why, sizeof why, &g, &promised));
    assert_string_equal(why, "");
    assert_int_equal(promised.on_exhausted, DRR_EXHAUSTED_ABSTAIN);
    p = promised;
    p.threshold = NAN; /* the critic's, which is the same */
    assert_true(drr_guarantee_holds(why, sizeof why, &g, &p));
    p.threshold = 0.9; /* stricter, and of that nothing is known */
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    assert_string_equal(why, "the threshold is 0.9, not 0.8");
    p = promised;
    p.strategy = DRR_STRATEGY_VOTE;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    p = promised;
    p.max_tokens = 100;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    p = promised;
    p.feedback = DRR_FEEDBACK_WORDS;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    p = promised;
    p.temperature = 0.2f;
    assert_false(drr_guarantee_holds(why, sizeof why, &g, &p));
    p = promised;
    p.on_exhausted = DRR_EXHAUSTED_VOTE; /* accepted answers are no others for it */
    assert_true(drr_guarantee_holds(why, sizeof why, &g, &p));
    assert_false(drr_guarantee_holds(NULL, 0, &g, &(drr_policy){.strategy = DRR_STRATEGY_COT}));
    const drr_guarantee verdict = script_guarantee(1, 0.8, NAN); /* the temperature is not known */
    drr_policy_defaults(&p);
    p.max_turns = 1;
    assert_true(drr_guarantee_holds(why, sizeof why, &verdict, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cot_takes_the_first_answer_greedily),
        cmocka_unit_test(a_failed_question_does_not_end_the_others),
        cmocka_unit_test(the_most_frequent_answer_wins_a_vote),
        cmocka_unit_test(of_equal_votes_the_first_answer_wins),
        cmocka_unit_test(a_vote_goes_on_without_a_failed_sample),
        cmocka_unit_test(best_of_n_takes_what_the_critic_likes_most),
        cmocka_unit_test(samples_are_drawn_until_the_budget_is_spent),
        cmocka_unit_test(the_last_sample_writes_what_the_budget_leaves),
        cmocka_unit_test(with_a_budget_a_vote_goes_on_without_a_failed_sample),
        cmocka_unit_test(a_verdict_keeps_the_probability_it_was_given_on),
        cmocka_unit_test(drr_accepts_at_once_what_is_good_enough),
        cmocka_unit_test(drr_starts_afresh_after_a_rejection),
        cmocka_unit_test(drr_can_reject_with_words),
        cmocka_unit_test(when_turns_run_out_the_policy_says_what_happens),
        cmocka_unit_test(the_token_budget_ends_the_turns),
        cmocka_unit_test(what_cannot_be_read_is_never_accepted),
        cmocka_unit_test(a_failing_retry_leaves_the_answers_there_are),
        cmocka_unit_test(self_critique_stops_when_it_finds_no_mistake),
        cmocka_unit_test(self_critique_never_sees_the_reference),
        cmocka_unit_test(a_question_without_a_reference_is_not_graded),
        cmocka_unit_test(an_interrupted_call_leaves_nothing_behind),
        cmocka_unit_test(strategies_that_need_a_critic_say_so),
        cmocka_unit_test(a_promised_threshold_is_taken_for_as_many_turns_as_it_is_of),
        cmocka_unit_test(a_guarantee_says_which_settings_it_is_not_about),
    };
    return cmocka_run_group_tests(tests, make_critic, remove_critic);
}
