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

/* ---- votes that are weighed */

/* Two answers that the critic doubts (P = 0.12 each) against one that it does not (0.95), and one more. */
static const line doubted[] = {{"one?", 0, "Answer: 3", -2},
                               {"one?", 1, "Answer: 3", -2},
                               {"one?", 2, "Answer: 7", 3},
                               {"one?", 3, "Answer: 3", -2}};
static const float logprobs[] = {-2, -0.5f, -0.25f, -2};

static void expect_weighed(const line *lines, size_t n, drr_votes votes, double keep, double confidence, size_t n_turns,
                           const char *answer)
{
    stage s;
    stage_open(&s, lines, n, DRR_STRATEGY_VOTE);
    s.policy.samples = (uint32_t)n;
    s.policy.stop_confidence = confidence;
    s.policy.votes = votes;
    s.script.logprobs = lines == doubted ? logprobs : NULL;
    s.policy.keep_votes = keep;
    const drr_result *r = solve(&s, &q1, NULL);
    assert_int_equal(r->n_turns, n_turns);
    assert_string_equal(r->answer, answer);
    stage_close(&s);
}

/* P(correct) of 3: 0.731; of 7: 0.881 and 0.953. The leader's is the mean over those that gave it: 0.917 after three.
 */
static void a_vote_by_the_critic_stops_at_the_p_of_the_answer_ahead(void **state)
{
    (void)state;
    expect_weighed(divided, 8, DRR_VOTES_CRITIC, 1, 0.73, 1, "3");
    expect_weighed(divided, 8, DRR_VOTES_CRITIC, 1, 0.88, 2, "7");
    expect_weighed(divided, 8, DRR_VOTES_CRITIC, 1, 0.91, 3, "7");
}

/* Ten answers are supposed: after two samples 3 weighs e * 9 and 7 e^2 * 9, eight others 1 each, which is 0.672 for 7;
 * with e^3 * 9 more for it 0.9973. */
static void the_critics_posterior_stops_a_vote(void **state)
{
    (void)state;
    expect_weighed(divided, 8, DRR_VOTES_POSTERIOR, 1, 0.73, 1, "3");
    expect_weighed(divided, 8, DRR_VOTES_POSTERIOR, 1, 0.74, 3, "7");
    expect_weighed(divided, 8, DRR_VOTES_POSTERIOR, 1, 0.997, 3, "7");
    expect_weighed(divided, 8, DRR_VOTES_POSTERIOR, 1, 0.998, 5, "7");
}

static void what_samples_weigh_decides(void **state)
{
    (void)state;
    expect_weighed(doubted, 3, DRR_VOTES_EQUAL, 1, 0, 3, "3");
    expect_weighed(doubted, 3, DRR_VOTES_CRITIC, 1, 0, 3, "7");
    expect_weighed(doubted, 3, DRR_VOTES_POSTERIOR, 1, 0, 3, "7");
}

/* Confidences are exp(-2) = 0.135, 0.607, 0.779 and 0.135. Of three samples 3 has 0.742 and 7 has 0.779; of four 3 has
 * more; where only the more confident half votes, 0.607. */
static void the_certain_vote_counts_more(void **state)
{
    (void)state;
    expect_weighed(doubted, 3, DRR_VOTES_CONFIDENCE, 1, 0, 3, "7");
    expect_weighed(doubted, 4, DRR_VOTES_CONFIDENCE, 1, 0, 4, "3");
    expect_weighed(doubted, 4, DRR_VOTES_CONFIDENCE, 0.5, 0, 4, "7");
}

static void a_vote_by_the_critic_needs_one(void **state)
{
    (void)state;
    stage s;
    drr_error err = {0};
    const drr_task *tasks[] = {&q1};
    stage_open(&s, divided, 8, DRR_STRATEGY_VOTE);
    s.policy.votes = DRR_VOTES_POSTERIOR;
    assert_int_equal(drr_solve(s.results, s.reasoner, NULL, s.prompts, tasks, 1, &s.policy, NULL, NULL, NULL, &err),
                     DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "posterior"));
    s.n = 0;
    stage_close(&s);
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
        cmocka_unit_test(a_vote_by_the_critic_stops_at_the_p_of_the_answer_ahead),
        cmocka_unit_test(the_critics_posterior_stops_a_vote),
        cmocka_unit_test(what_samples_weigh_decides),
        cmocka_unit_test(the_certain_vote_counts_more),
        cmocka_unit_test(a_vote_by_the_critic_needs_one),
        cmocka_unit_test(failed_samples_are_not_waited_for),
    };
    return cmocka_run_group_tests(tests, make_critic, remove_critic);
}
