/* test_loop_question.c: what a critic of the question alone saves before the first token. Its encoder is all zeros, so
 * that its P is the sigmoid of its calibration's offset: 0.5. */
#include "loop_stage.h"

static char question_path[] = "/tmp/drr-test-question-XXXXXX";

static int make_both(void **state)
{
    critic_meta meta = {.has_stack = false};
    write_zero_critic(question_path, &meta, CRITIC_QUESTION_PROMPT);
    return make_critic(state);
}

static int remove_both(void **state)
{
    unlink(question_path);
    return remove_critic(state);
}

/* The first answer is doubted (P = 0.27), the second is not. */
static const line lines[] = {{"one?", 0, "Answer: 3", -1},
                             {"one?", 1, "Answer: 7", 3},
                             {"two?", 0, "Answer: 9", -1},
                             {"two?", 1, "Answer: 9", 3}};

static void open_with(stage *s, drr_critic **question, double sure, double hopeless)
{
    drr_error err = {0};
    STAGE((*s), lines, DRR_STRATEGY_DRR);
    assert_int_equal(drr_critic_open(question, question_path, &err), DRR_OK);
    assert_true(drr_critic_reads_questions(*question));
    s->policy.question_critic = *question;
    s->policy.sure_above = sure;
    s->policy.hopeless_below = hopeless;
}

static void a_question_between_the_thresholds_is_sought_as_ever(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    open_with(&s, &question, 0.6, 0.4);
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 2);
    assert_string_equal(r->answer, "7");
    assert_true(fabs(r->p_question - 0.5) < 1e-6);
    stage_close(&s);
    drr_critic_close(question);
}

static void a_sure_question_takes_its_first_answer(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    open_with(&s, &question, 0.5, 0);
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 1);
    assert_string_equal(r->answer, "3");
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_ACCEPT);
    stage_close(&s);
    drr_critic_close(question);
}

static void of_hopeless_questions_nothing_is_asked(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    open_with(&s, &question, NAN, 0.6);
    const drr_result *r = solve(&s, &q1, &q2);
    assert_int_equal(s.script.n_asked, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(r[i].n_turns, 0);
        assert_true(r[i].judge_seconds > 0); /* its critic's */
        assert_int_equal(r[i].outcome, DRR_ABSTAINED);
        assert_int_equal(r[i].correct, 0);
    }
    stage_close(&s);
    drr_critic_close(question);
}

/* Weighed by P, 7 (0.62 and 0.5) is ahead of 3 (0.95), which in sequence would have been accepted at once. */
static const line side_by_side[] = {{"one?", 0, "Answer: 3", 3},  {"one?", 1, "Answer: 7", 0.5f},
                                    {"one?", 2, "Answer: 7", 0},  {"two?", 0, "Answer: 1", -2},
                                    {"two?", 1, "Answer: 9", -1}, {"two?", 2, NULL, 0}};

static void open_in_parallel(stage *s, drr_critic **question)
{
    open_with(s, question, NAN, 0);
    s->script = (scripted){.lines = side_by_side, .n_lines = 6};
    s->policy.parallel_below = 0.6;
    s->policy.samples = 3;
}

static void below_another_bound_samples_are_drawn_side_by_side_for_one_verdict(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    open_in_parallel(&s, &question);
    s.policy.max_turns = 1;         /* of answers in sequence */
    s.policy.stop_confidence = 0.1; /* of vote and best-of-n */
    s.policy.threshold = 0.55;
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->route, DRR_ROUTE_PARALLEL);
    assert_int_equal(s.script.most_waiting, 3); /* all asked before the first is known */
    assert_true(s.script.temperature[0] <= 0 && s.script.temperature[1] > 0);
    assert_int_equal(r->n_turns, 3);
    assert_string_equal(r->answer, "7");
    assert_int_equal(r->turns[0].verdict, DRR_VERDICT_NONE);
    assert_int_equal(r->turns[1].verdict, DRR_VERDICT_ACCEPT);
    assert_true(drr_result_accepted(r));
    drr_result_clear(&s.results[0]);
    s.policy.max_tokens = 1000; /* one after another, but all of them */
    assert_int_equal(solve(&s, &q1, NULL)->n_turns, 3);
    stage_close(&s);
    drr_critic_close(question);
}

static void a_question_whose_time_its_critic_took_ends_unasked(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    open_in_parallel(&s, &question);
    s.policy.max_tokens = 1000;
    s.policy.max_seconds = 1e-9;
    const drr_result *r = solve(&s, &q1, &q2);
    assert_int_equal(s.script.n_asked, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(r[i].n_turns, 0);
        assert_null(r[i].answer);
    }
    stage_close(&s);
    drr_critic_close(question);
}

static void each_of_them_is_judged_with_all_others_known(void **state)
{
    (void)state;
    static const line both[] = {{"one?", 0, "Answer: 7", 0}, {"one?", 1, "Answer: 7", 0}};
    static char agreeing[] = "/tmp/drr-test-agree-XXXXXX";
    stage s;
    drr_critic *question, *other;
    drr_error err = {0};
    open_with(&s, &question, NAN, 0);
    other = s.critic;
    write_margin_critic(agreeing, 1);
    assert_int_equal(drr_critic_open(&s.critic, agreeing, &err), DRR_OK);
    s.script = (scripted){.lines = both, .n_lines = 2};
    s.policy.parallel_below = 0.6;
    s.policy.samples = 2;
    const drr_result *r = solve(&s, &q1, NULL);
    for (size_t i = 0; i < 2; i++) {
        assert_true(fabs(r->turns[i].p_alone - 0.5) < 1e-6);
        assert_true(fabs(r->turns[i].p_correct - 0.75) < 1e-6); /* odds of 3 for the one that agrees */
    }
    stage_close(&s);
    drr_critic_close(other);
    drr_critic_close(question);
    unlink(agreeing);
}

static void samples_of_which_none_will_do_end_like_turns_that_ran_out(void **state)
{
    (void)state;
    for (int how = DRR_EXHAUSTED_VOTE; how <= DRR_EXHAUSTED_ABSTAIN; how++) {
        stage s;
        drr_critic *question;
        open_with(&s, &question, NAN, 0);
        s.script = (scripted){.lines = side_by_side, .n_lines = 6};
        s.policy.parallel_below = 0.6;
        s.policy.samples = 3; /* the third of which fails */
        s.policy.on_exhausted = (drr_exhausted)how;
        const drr_result *r = solve(&s, &q2, NULL);
        assert_int_equal(r->n_turns, 2);
        assert_false(drr_result_accepted(r));
        if (how == DRR_EXHAUSTED_ABSTAIN)
            assert_int_equal(r->outcome, DRR_ABSTAINED);
        else
            assert_string_equal(r->answer, "9");
        assert_int_equal(r->turns[0].verdict, DRR_VERDICT_REJECT);
        stage_close(&s);
        drr_critic_close(question);
    }
}

static void who_is_given_up_is_not_handed_on_as_the_hopeless_are(void **state)
{
    (void)state;
    static const line second_says[] = {{"one?", 0, "Answer: 7", 1}};
    for (int given_up = 0; given_up < 2; given_up++) {
        stage s;
        drr_critic *question;
        drr_error err = {0};
        drr_reasoner *second;
        scripted script = {.lines = second_says, .n_lines = 1};
        open_with(&s, &question, NAN, 0.7);
        s.policy.give_up_below = given_up ? 0.6 : 0.4;
        drr_result *r = solve(&s, &q1, NULL);
        assert_int_equal(r->route, given_up ? DRR_ROUTE_ABSTAIN : DRR_ROUTE_ESCALATE);
        assert_int_equal(r->outcome, DRR_ABSTAINED);
        assert_int_equal(reasoner_new(&second, &script_backend, &script, "second", "another", 4, &err), DRR_OK);
        assert_int_equal(drr_escalate(r, 1, second, s.prompts, &s.policy, NULL, NULL, NULL, &err), DRR_OK);
        assert_int_equal(script.n_asked, given_up ? 0 : 1);
        assert_int_equal(r->outcome, given_up ? DRR_ABSTAINED : DRR_ANSWERED);
        drr_reasoner_close(second);
        stage_close(&s);
        drr_critic_close(question);
    }
}

static void every_way_has_its_band(void **state)
{
    (void)state;
    static const struct {
        double sure, parallel, hopeless, give_up;
        drr_route route;
    } cases[] = {{NAN, 0, 0, 0, DRR_ROUTE_SEQUENCE},       {0.5, 0.4, 0.3, 0.2, DRR_ROUTE_ONCE},
                 {0.6, 0.5, 0.4, 0.3, DRR_ROUTE_SEQUENCE}, {0.7, 0.6, 0.5, 0.4, DRR_ROUTE_PARALLEL},
                 {0.8, 0.7, 0.6, 0.5, DRR_ROUTE_ESCALATE}, {0.9, 0.8, 0.7, 0.6, DRR_ROUTE_ABSTAIN}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stage s;
        drr_critic *question;
        open_with(&s, &question, cases[i].sure, cases[i].hopeless);
        s.policy.parallel_below = cases[i].parallel;
        s.policy.give_up_below = cases[i].give_up;
        s.policy.samples = 2;
        assert_int_equal(solve(&s, &q1, NULL)->route, cases[i].route);
        stage_close(&s);
        drr_critic_close(question);
    }
    assert_string_equal(drr_route_name(DRR_ROUTE_PARALLEL), "parallel");
}

static void bounds_that_leave_a_way_nothing_are_refused(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    drr_error err = {0};
    const drr_task *tasks[] = {&q1};
    open_with(&s, &question, 0.5, 0);
    s.policy.give_up_below = 0.6;
    assert_int_equal(drr_solve(s.results, s.reasoner, s.critic, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "sure-above 0.5 lies below give-up-below 0.6"));
    s.n = 0;
    stage_close(&s);
    drr_critic_close(question);
}

static void critics_are_not_mistaken_for_one_another(void **state)
{
    (void)state;
    stage s;
    drr_critic *question;
    drr_error err = {0};
    const drr_task *tasks[] = {&q1};
    open_with(&s, &question, 0.5, 0);
    assert_int_equal(drr_solve(s.results, s.reasoner, question, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "--question-critic"));
    s.policy.question_critic = s.critic;
    assert_int_equal(drr_solve(s.results, s.reasoner, s.critic, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "--question-only"));
    s.n = 0;
    stage_close(&s);
    drr_critic_close(question);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_between_the_thresholds_is_sought_as_ever),
        cmocka_unit_test(a_sure_question_takes_its_first_answer),
        cmocka_unit_test(of_hopeless_questions_nothing_is_asked),
        cmocka_unit_test(below_another_bound_samples_are_drawn_side_by_side_for_one_verdict),
        cmocka_unit_test(a_question_whose_time_its_critic_took_ends_unasked),
        cmocka_unit_test(each_of_them_is_judged_with_all_others_known),
        cmocka_unit_test(samples_of_which_none_will_do_end_like_turns_that_ran_out),
        cmocka_unit_test(who_is_given_up_is_not_handed_on_as_the_hopeless_are),
        cmocka_unit_test(every_way_has_its_band),
        cmocka_unit_test(bounds_that_leave_a_way_nothing_are_refused),
        cmocka_unit_test(critics_are_not_mistaken_for_one_another),
    };
    return cmocka_run_group_tests(tests, make_both, remove_both);
}
