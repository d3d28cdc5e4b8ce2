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
        assert_int_equal(r[i].outcome, DRR_ABSTAINED);
        assert_int_equal(r[i].correct, 0);
    }
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
        cmocka_unit_test(critics_are_not_mistaken_for_one_another),
    };
    return cmocka_run_group_tests(tests, make_both, remove_both);
}
