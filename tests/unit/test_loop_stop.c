/* test_loop_stop.c: vote and best-of-n that stop when their samples decide. */
#include "loop_stage.h"

static const line agreeing[] = {{"one?", 0, "Answer: 7", 1}, {"one?", 1, "Answer: 7.0", 2}, {"one?", 2, "Answer: 7", 3},
                                {"one?", 3, "Answer: 7", 4}, {"one?", 4, "Answer: 7", 5},   {"one?", 5, "Answer: 7", 6},
                                {"one?", 6, "Answer: 7", 7}, {"one?", 7, "Answer: 7", 8}};
static const line divided[] = {{"one?", 0, "Answer: 3", 1}, {"one?", 1, "Answer: 7", 2}, {"one?", 2, "Answer: 7", 3},
                               {"one?", 3, "?", 4},         {"one?", 4, "Answer: 7", 5}, {"one?", 5, "Answer: 3", 6},
                               {"one?", 6, "Answer: 7", 7}, {"one?", 7, "Answer: 7", 8}};

static void expect_turns(const line *lines, drr_strategy strategy, double confidence, size_t n_turns,
                         const char *answer)
{
    stage s;
    stage_open(&s, lines, 8, strategy);
    s.policy.samples = 8;
    s.policy.stop_confidence = confidence;
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, n_turns);
    assert_int_equal(s.script.n_asked, n_turns); /* what is not needed is not asked either */
    assert_string_equal(r->answer, answer);
    if (confidence > 0)
        assert_int_equal(s.script.most_waiting, 1);
    stage_close(&s);
}

/* a votes for one answer and b for the next: P(Bin(a + b + 1, 1/2) <= a). 4 to 0: 31/32; 3 to 0: 15/16. */
static void a_vote_stops_when_it_is_sure_enough(void **state)
{
    (void)state;
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 0, 8, "7");
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 31.0 / 32, 4, "7");
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 31.0 / 32 - 1e-9, 4, "7");
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 15.0 / 16, 3, "7");
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 0.01, 1, "7");
}

/* With --stop-confidence 1 the answer is the one of all samples: 5 to 0 of 8 cannot be caught up. */
static void a_vote_stops_when_it_is_decided(void **state)
{
    (void)state;
    expect_turns(agreeing, DRR_STRATEGY_VOTE, 1, 5, "7");
    expect_turns(divided, DRR_STRATEGY_VOTE, 1, 7,
                 "7"); /* 4 to 2 with one to come; a lead of 1 with 2 to come is none */
}

/* 1 to 0, 1 to 1, 2 to 1, unread, 3 to 1: P(Bin(5, 1/2) <= 3) = 13/16. */
static void what_cannot_be_read_is_no_vote(void **state)
{
    (void)state;
    expect_turns(divided, DRR_STRATEGY_VOTE, 13.0 / 16, 5, "7");
    expect_turns(divided, DRR_STRATEGY_VOTE, 11.0 / 16, 1, "3"); /* a single vote is sure to 3/4 */
    expect_turns(divided, DRR_STRATEGY_VOTE, 0.76, 5, "7");
}

/* The critic's P(correct) is the sigmoid of the margin: 0.73, 0.88, 0.95. */
static void best_of_n_stops_at_an_answer_that_is_good_enough(void **state)
{
    (void)state;
    expect_turns(divided, DRR_STRATEGY_BEST_OF_N, 0.7, 1, "3");
    expect_turns(divided, DRR_STRATEGY_BEST_OF_N, 0.9, 3, "7");
    expect_turns(divided, DRR_STRATEGY_BEST_OF_N, 1, 8, "7");
}

static void failed_samples_are_not_waited_for(void **state)
{
    (void)state;
    static const line lines[8] = {{"one?", 0, NULL, 1}, {"one?", 1, "Answer: 7", 1}, {"one?", 2, "Answer: 7", 1}};
    stage s;
    stage_open(&s, lines, 3, DRR_STRATEGY_VOTE);
    s.policy.samples = 8;
    s.policy.stop_confidence = 0.85;
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, 2);
    assert_int_equal(s.script.n_asked, 3);
    assert_string_equal(r->answer, "7");
    stage_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vote_stops_when_it_is_sure_enough),
        cmocka_unit_test(a_vote_stops_when_it_is_decided),
        cmocka_unit_test(what_cannot_be_read_is_no_vote),
        cmocka_unit_test(best_of_n_stops_at_an_answer_that_is_good_enough),
        cmocka_unit_test(failed_samples_are_not_waited_for),
    };
    return cmocka_run_group_tests(tests, make_critic, remove_critic);
}
