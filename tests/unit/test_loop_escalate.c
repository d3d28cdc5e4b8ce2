/* test_loop_escalate.c: what the first reasoner leaves unsure goes to a second one. */
#include "loop_stage.h"

/* P(correct) is the sigmoid of the margin: 0.12, 0.95. */
static const line first_says[] = {{"one?", 0, "Answer: 3", -2}, {"two?", 0, "Answer: 9", 3}};

typedef struct two {
    stage first;
    scripted script;
    drr_reasoner *second;
} two;

static void open_two(two *t, const line *lines, size_t n, double threshold)
{
    drr_error err;
    stage_open(&t->first, first_says, 2, DRR_STRATEGY_DRR);
    t->first.policy.max_turns = 1;
    t->first.policy.threshold = threshold;
    t->script = (scripted){.lines = lines, .n_lines = n};
    assert_int_equal(reasoner_new(&t->second, &script_backend, &t->script, "second", "another", 4, &err), DRR_OK);
    solve(&t->first, &q1, &q2);
}

static drr_result *escalate(two *t)
{
    drr_error err = {0};
    if (drr_escalate(t->first.results, 2, t->second, t->first.prompts, &t->first.policy, NULL, NULL, NULL, &err) !=
        DRR_OK)
        fail_msg("drr_escalate: %s", err.message);
    return t->first.results;
}

static void close_two(two *t)
{
    drr_reasoner_close(t->second);
    stage_close(&t->first);
}

static void what_no_turn_was_accepted_of_is_asked_of_the_second(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}, {"two?", 0, "Answer: 0", 1}};
    two t;
    open_two(&t, lines, 2, 0.5);
    const drr_result *r = escalate(&t);
    assert_int_equal(t.script.n_asked, 1);
    assert_true(t.script.temperature[0] <= 0); /* its likeliest answer */
    assert_true(r[0].escalated);
    assert_string_equal(r[0].answer, "7");
    assert_int_equal(r[0].correct, 1);
    assert_true(isnan(r[0].p_correct)); /* no critic of the second one's */
    assert_int_equal(r[0].n_turns, 2);
    assert_int_equal(r[0].turns[0].verdict, DRR_VERDICT_ESCALATE);
    assert_string_equal(r[0].turns[1].role, "escalation");
    assert_int_equal(r[0].turns[1].sample, 1);
    assert_int_equal(r[0].n_tokens, 10);
    assert_int_equal(r[0].n_escalated_tokens, 5);
    assert_false(r[1].escalated);
    assert_string_equal(r[1].answer, "9");
    assert_int_equal(r[1].n_turns, 1);
    escalate(&t); /* once is enough */
    assert_int_equal(t.script.n_asked, 1);
    close_two(&t);
}

static void a_threshold_of_its_own_decides(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}, {"two?", 0, "Answer: 0", 1}};
    two t;
    open_two(&t, lines, 2, 0.5);
    t.first.policy.escalate_below = 0.1;
    assert_false(escalate(&t)[0].escalated);
    t.first.policy.escalate_below = 0.96;
    const drr_result *r = escalate(&t);
    assert_true(r[0].escalated && r[1].escalated);
    assert_string_equal(r[1].answer, "0"); /* the second one's stands, though the critic had accepted the first's */
    assert_int_equal(r[1].correct, 0);
    close_two(&t);
}

static void where_the_second_says_nothing_the_first_one_stands(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, NULL, 1}, {"two?", 0, "no idea", 1}};
    two t;
    open_two(&t, lines, 2, 0.99);
    const drr_result *r = escalate(&t);
    assert_int_equal(r[0].outcome, DRR_ANSWERED);
    assert_string_equal(r[0].answer, "3");
    assert_string_equal(r[0].failure, "the script says no");
    assert_string_equal(r[1].answer, "9");
    assert_true(r[1].p_correct > 0.9); /* and so does its P(correct) */
    assert_int_equal(r[1].n_turns, 2);
    close_two(&t);
}

static void no_judge_of_the_firsts_is_asked_of_its_answer(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}};
    drr_judge *judge = NULL;
    two t;
    open_two(&t, lines, 1, 0.5);
    assert_int_equal(drr_judge_open(&judge, "length", NULL, NULL), DRR_OK);
    t.first.policy.judge = judge;
    const drr_result *r = escalate(&t);
    assert_true(r[0].escalated);
    assert_true(isnan(r[0].turns[1].p_correct) && isnan(r[0].turns[1].logit));
    close_two(&t);
    drr_judge_close(judge);
}

static void an_abstention_is_unsure(void **state)
{
    (void)state;
    static const line lines[] = {{"one?", 0, "Answer: 7", 1}};
    two t;
    open_two(&t, lines, 1, 0.5);
    drr_result_clear(&t.first.results[0]);
    drr_result_clear(&t.first.results[1]);
    t.first.policy.on_exhausted = DRR_EXHAUSTED_ABSTAIN;
    t.first.policy.escalate_below = 0.01;
    solve(&t.first, &q1, &q2);
    assert_int_equal(t.first.results[0].outcome, DRR_ABSTAINED);
    const drr_result *r = escalate(&t);
    assert_int_equal(r[0].outcome, DRR_ANSWERED);
    assert_string_equal(r[0].answer, "7");
    close_two(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_turn_was_accepted_of_is_asked_of_the_second),
        cmocka_unit_test(a_threshold_of_its_own_decides),
        cmocka_unit_test(where_the_second_says_nothing_the_first_one_stands),
        cmocka_unit_test(no_judge_of_the_firsts_is_asked_of_its_answer),
        cmocka_unit_test(an_abstention_is_unsure),
    };
    return cmocka_run_group_tests(tests, make_critic, remove_critic);
}
