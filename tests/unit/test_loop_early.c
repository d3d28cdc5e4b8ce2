/* test_loop_early.c: answers that are stopped under way, at a bad step or because their seconds are over, and what is
 * counted then; and words that quote the bad step. */
#include "eval/eval_internal.h"
#include "writer_fixture.h"

static char critic_path[] = "/tmp/drr-test-early-XXXXXX", plain_path[] = "/tmp/drr-test-early-XXXXXX",
            taught_path[] = "/tmp/drr-test-early-XXXXXX";
static char warned[1024];

static int make_critics(void **state)
{
    (void)state;
    write_word_critic(critic_path, DRR_HEAD_TOKEN, 0);
    write_word_critic(plain_path, DRR_HEAD_CLS, 0);
    write_word_critic(taught_path, DRR_HEAD_CLS, 4711);
    return 0;
}

static int remove_critics(void **state)
{
    (void)state;
    return unlink(critic_path) | unlink(plain_path) | unlink(taught_path);
}

static void hear(void *user, drr_log_level level, const char *message)
{
    (void)user;
    if (level == DRR_LOG_WARN)
        snprintf(warned, sizeof warned, "%s", message);
}
static const drr_hooks hooks = {.log = hear};

static const drr_task q = {.task = "t", .id = "1", .question = "one?", .answer = "7", .kind = DRR_KIND_NUMBER};

typedef struct stage {
    writer w;
    drr_reasoner *reasoner;
    drr_critic *critic;
    drr_prompts *prompts;
    drr_policy policy;
    drr_result r;
} stage;

static void stage_open(stage *s, const char *const *texts, size_t n, bool prefixes)
{
    *s = (stage){.w = {.texts = texts, .n_texts = n}};
    s->reasoner = writer_open(&s->w, prefixes);
    assert_int_equal(drr_critic_open(&s->critic, critic_path, NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&s->prompts, NULL, NULL), DRR_OK);
    drr_policy_defaults(&s->policy);
    s->policy.early_below = 0.5;
}

static drr_status try(stage *s, drr_error *err)
{
    const drr_task *tasks[] = {&q};
    warned[0] = '\0';
    return drr_solve(&s->r, s->reasoner, s->critic, s->prompts, tasks, 1, &s->policy, NULL, NULL, &hooks, err);
}

static void solve(stage *s)
{
    drr_error err = {0};
    if (try(s, &err) != DRR_OK)
        fail_msg("%s", err.message);
}

static void stage_close(stage *s)
{
    drr_result_clear(&s->r);
    drr_reasoner_close(s->reasoner);
    drr_critic_close(s->critic);
    drr_prompts_free(s->prompts);
}

#define STAGE(s, texts, prefixes) stage_open(&s, texts, sizeof texts / sizeof *texts, prefixes)

/* ---- at a bad step */

static const char *const second_step_bad[] = {"We add them. That is bad! And so on. Answer: 3",
                                              " It makes 7.\nAnswer: 7"};

static void a_bad_step_ends_an_answer_and_what_was_good_is_kept(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    solve(&s);
    assert_int_equal(s.r.n_turns, 2);
    const drr_turn *cut = &s.r.turns[0], *whole = &s.r.turns[1];
    assert_string_equal(cut->role, "cut");
    assert_int_equal(cut->finish, DRR_FINISH_CUT);
    assert_string_equal(cut->text, "We add them. That is bad! And"); /* one word shows that the step is over */
    assert_int_equal(cut->verdict, DRR_VERDICT_REJECT);
    assert_true(cut->p_correct < 0.5);
    assert_null(cut->answer);
    assert_string_equal(s.w.prefixes[1], "We add them.");
    assert_string_equal(whole->text, "We add them. It makes 7.\nAnswer: 7");
    assert_string_equal(whole->role, "attempt");
    assert_int_equal(whole->kept, strlen("We add them."));
    assert_int_equal(whole->cuts, 1);
    assert_int_equal(whole->sample, 0);
    assert_int_equal(whole->verdict, DRR_VERDICT_ACCEPT);
    assert_string_equal(s.r.answer, "7");
    assert_true(s.w.seeds[0] != s.w.seeds[1]);
    assert_true(s.w.temperatures[1] > 0); /* the likeliest words would be the same again */
    stage_close(&s);
}

static void tokens_are_counted_once_each_and_what_was_thrown_away_is_told(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    solve(&s);
    assert_int_equal(s.r.turns[0].n_tokens, 7); /* We add them. That is bad! And */
    assert_int_equal(s.r.turns[1].n_tokens, 5); /* It makes 7. Answer: 7 */
    assert_int_equal(s.r.turns[1].n_kept_tokens, 3);
    assert_int_equal(s.r.turns[1].stats.n, 8);
    assert_int_equal(s.r.n_tokens, 12);
    assert_int_equal(s.r.n_cuts, 1);
    assert_int_equal(s.r.n_cut_tokens, 4);
    assert_int_equal(s.w.room[1], s.w.room[0] - 3);
    assert_true(s.r.judge_seconds > 0);
    stage_close(&s);
}

static void what_was_there_at_once_is_cut_at_the_same_word(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    s.w.deaf = true;
    s.w.seconds_a_word = 0.5;
    solve(&s);
    assert_int_equal(s.r.n_turns, 2);
    assert_string_equal(s.r.turns[0].text, "We add them. That is bad! And");
    assert_int_equal(s.r.turns[0].n_tokens, 7);
    assert_float_equal(s.r.turns[0].seconds, 3.5, 1e-6);
    assert_string_equal(s.r.turns[1].text, "We add them. It makes 7.\nAnswer: 7");
    stage_close(&s);
}

static void without_prefixes_it_begins_again_and_says_so(void **state)
{
    (void)state;
    static const char *const texts[] = {"We add them. That is bad! And so on. Answer: 3", "It makes 7.\nAnswer: 7"};
    stage s;
    STAGE(s, texts, false);
    solve(&s);
    assert_non_null(strstr(warned, "begins again"));
    assert_string_equal(s.w.prefixes[1], "");
    assert_int_equal(s.r.n_cut_tokens, 7);
    assert_int_equal(s.r.turns[1].kept, 0);
    assert_string_equal(s.r.answer, "7");
    stage_close(&s);
}

static void an_answer_is_stopped_so_often_at_most(void **state)
{
    (void)state;
    static const char *const texts[] = {"It is bad! So 3. And on. Answer: 3"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_cuts = 2;
    solve(&s);
    assert_int_equal(s.r.n_turns, 3);
    assert_int_equal(s.r.n_cuts, 2);
    assert_string_equal(s.r.turns[2].role, "attempt");
    assert_int_equal(s.r.turns[2].finish, DRR_FINISH_STOP);
    assert_string_equal(s.r.answer, "3");
    stage_close(&s);
}

/* Each cut is a turn, unless that is said to be free; what is stopped is always gone on with. */
static void the_last_turn_is_not_stopped(void **state)
{
    (void)state;
    static const char *const texts[] = {"It is bad! So 3. And on. Answer: 3"};
    stage s;
    STAGE(s, texts, true);
    s.policy.max_turns = 2;
    solve(&s);
    assert_int_equal(s.r.n_cuts, 1);
    assert_int_equal(s.r.n_turns, 2);
    assert_string_equal(s.r.answer, "3");
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.max_turns = 1;
    solve(&s);
    assert_int_equal(s.r.n_cuts, 0);
    assert_string_equal(s.r.answer, "3");
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.early_free = true;
    solve(&s);
    assert_int_equal(s.r.n_cuts, 3);
    assert_string_equal(s.r.answer, "3");
    stage_close(&s);
}

/* DeepConf's rule, with no critic's word: the log-probabilities of what is kept count as well. */
static void an_unsure_step_ends_an_answer_too(void **state)
{
    (void)state;
    static const char *const texts[] = {"We add them. Is it that? And so on. Answer: 3",
                                        " It makes 7! Now.\nAnswer: 7"};
    for (int deaf = 0; deaf <= 2; deaf++) { /* while it is written, there at once, and whole after a while */
        stage s;
        STAGE(s, texts, true);
        s.w.deaf = deaf;
        s.policy.early_below = 0;
        s.policy.early_confidence = 0.5; /* (3 words of -0.1): 0.90; with 3 more of which one has -9: 0.21 */
        solve(&s);
        assert_int_equal(s.r.n_cuts, 1);
        assert_string_equal(s.r.turns[0].role, "cut");
        assert_string_equal(s.r.turns[0].text, "We add them. Is it that? And");
        assert_true(fabs(s.r.turns[0].p_correct - exp(-(5 * 0.1 + 9) / 6)) < 1e-5);
        assert_string_equal(s.w.prefixes[1], "We add them.");
        assert_string_equal(s.r.turns[1].text, "We add them. It makes 7! Now.\nAnswer: 7"); /* "!" is the critic's */
        assert_string_equal(s.r.answer, "7");
        stage_close(&s);
    }
}

static void what_is_kept_counts_in_the_confidence_of_what_follows(void **state)
{
    (void)state;
    static const char *const texts[] = {"Is it? We see! And so on. Answer: 3", " So it is. And on. Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_confidence = 0.01; /* -9.1 over 2 words is 0.0106 */
    s.policy.early_below = 0.5;       /* the critic stops it behind the "!" */
    solve(&s);
    assert_string_equal(s.r.turns[0].role, "cut");
    assert_string_equal(s.w.prefixes[1], "Is it?");
    assert_int_equal(s.r.n_cuts, 1);
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.early_confidence = 0.2; /* exp(-9.4 / 5) is 0.15; its own three words alone have 0.9 */
    s.policy.early_steps = 2;
    solve(&s);
    assert_true(s.r.turns[0].p_correct < 0.2);
    assert_true(s.r.n_cuts > 1);
    stage_close(&s);
}

/* With an answer in hand the last turn may be stopped, too, and nothing follows it. */
static void nothing_is_stopped_before_there_is_a_whole_answer(void **state)
{
    (void)state;
    static const char *const texts[] = {"It is bad! So 3. And on. Answer: 3", "Bad! So 5. And on. Answer: 5"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_after = 1;
    s.policy.threshold = 1;
    s.policy.max_turns = 3;
    solve(&s);
    assert_int_equal(s.r.n_turns, 3);
    assert_string_equal(s.r.turns[0].role, "attempt");
    assert_string_equal(s.r.turns[0].answer, "3");
    assert_string_equal(s.r.turns[1].role, "cut");
    assert_string_equal(s.r.turns[2].role, "cut");
    assert_int_equal(s.w.n_asked, 3);
    assert_int_equal(s.r.n_cuts, 2);
    assert_int_equal(s.r.n_cut_tokens, 2 + 2); /* "Bad! So" */
    assert_int_equal(s.r.outcome, DRR_ANSWERED);
    assert_string_equal(s.r.answer, "3");
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.strategy = DRR_STRATEGY_BEST_OF_N;
    s.policy.samples = 2;
    s.policy.early_cuts = 1;
    solve(&s);
    assert_int_equal(s.r.n_cuts, 1); /* of the second sample */
    assert_int_equal(s.r.n_turns, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true((strcmp(s.r.turns[i].role, "cut") == 0) <= (s.r.turns[i].sample == 1));
    stage_close(&s);
}

/* What follows the kept part makes another step of it, which is bad from its beginning: that part is lost as well. */
static void what_had_been_kept_and_is_lost_after_all_counts(void **state)
{
    (void)state;
    static const char *const texts[] = {"It is 3. That is bad! And so", "5! Then we go on.", "Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    solve(&s);
    assert_string_equal(s.w.prefixes[1], "It is 3.");
    assert_string_equal(s.r.turns[1].text, "It is 3.5! Then");
    assert_string_equal(s.w.prefixes[2], "");
    assert_int_equal(s.r.n_cuts, 2);
    assert_int_equal(s.r.n_tokens, 7 + 2 + 2);
    assert_int_equal(s.r.n_cut_tokens, 7 + 2); /* all but the answer's */
    assert_string_equal(s.r.answer, "7");
    stage_close(&s);
}

static void a_piece_alone_is_no_answer_that_could_not_be_read(void **state)
{
    (void)state;
    static const char *const texts[] = {"We add them. That is bad! And so on. Answer: 3", NULL};
    stage s;
    STAGE(s, texts, true);
    solve(&s);
    assert_int_equal(s.r.n_turns, 1);
    assert_int_equal(s.r.outcome, DRR_FAILED);
    assert_string_equal(s.r.failure, "the writer is ill");
    stage_close(&s);
}

/* All samples are judged at the end, and pieces are none of them. */
static void a_piece_keeps_the_p_that_stopped_it(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    s.policy.strategy = DRR_STRATEGY_BEST_OF_N;
    s.policy.samples = 1;
    solve(&s);
    assert_int_equal(s.r.n_turns, 2);
    assert_string_equal(s.r.turns[0].role, "cut");
    assert_true(s.r.turns[0].p_correct < 0.5);
    assert_true(s.r.turns[1].p_correct > 0.5);
    stage_close(&s);
}

/* Each cut is another draw of the recording: one that is drawn anyway would stand there twice, and agree with itself.
 */
static void what_begins_again_is_a_recorded_answer_of_its_own(void **state)
{
    (void)state;
    static const char *const all[] = {"ABCD", "ABCDEFGH"};
    for (int sequence = 0; sequence < 2; sequence++) {
        char path[] = "/tmp/drr-test-early-XXXXXX.jsonl", seen[16] = "";
        FILE *file = fdopen(mkstemps(path, 6), "w");
        drr_error err = {0};
        stage s;
        assert_non_null(file);
        for (const char *name = all[sequence]; *name; name++)
            fprintf(
                file,
                "{\"question\":\"one?\",\"text\":\"%c says. This is bad! So be it. Answer: %d\",\"reasoner\":\"a\"}\n",
                *name, *name);
        assert_int_equal(fclose(file), 0);
        STAGE(s, second_step_bad, true);
        drr_reasoner_close(s.reasoner);
        assert_int_equal(drr_reasoner_open(&s.reasoner, path, NULL, &err), DRR_OK);
        s.policy.strategy = sequence ? DRR_STRATEGY_DRR : DRR_STRATEGY_BEST_OF_N;
        s.policy.threshold = 1;
        s.policy.samples = 2;
        s.policy.max_turns = 4;
        s.policy.early_cuts = 1;
        solve(&s);
        assert_int_equal(s.r.n_turns, 4);
        assert_int_equal(s.r.n_cuts, 2);
        for (size_t i = 0; i < s.r.n_turns; i++) {
            if (strchr(seen, s.r.turns[i].text[0]))
                fail_msg("%c is there twice", s.r.turns[i].text[0]);
            seen[strlen(seen)] = s.r.turns[i].text[0];
        }
        stage_close(&s);
        unlink(path);
    }
}

static void first_steps_may_be_let_pass(void **state)
{
    (void)state;
    static const char *const texts[] = {"It is bad! So it goes. And on. Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_steps = 2;
    solve(&s);
    assert_int_equal(s.r.n_cuts, 0);
    assert_int_equal(s.r.n_turns, 1);
    stage_close(&s);
}

static void a_spent_budget_of_tokens_ends_it(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    s.policy.max_tokens = 7;
    solve(&s);
    assert_int_equal(s.r.n_turns, 1);
    assert_int_equal(s.r.outcome, DRR_UNPARSED);
    assert_int_equal(s.r.n_tokens, 7);
    stage_close(&s);
}

/* It was there at once, and its seconds are over when it is found bad. */
static void nothing_is_kept_where_nothing_follows(void **state)
{
    (void)state;
    stage s;
    STAGE(s, second_step_bad, true);
    s.w.deaf = true;
    s.w.seconds_a_word = 1;
    s.policy.max_seconds = 5;
    solve(&s);
    assert_int_equal(s.r.n_turns, 1);
    assert_string_equal(s.r.turns[0].role, "cut");
    assert_true(s.r.turns[0].p_correct < 0.5);
    assert_int_equal(s.r.n_tokens, 7);
    assert_int_equal(s.r.n_cut_tokens, 7);
    assert_int_equal(s.r.outcome, DRR_UNPARSED);
    stage_close(&s);
}

static void one_cut_early_goes_on_in_the_same_conversation(void **state)
{
    (void)state;
    static const char *const texts[] = {"Answer: 3", "We add. Now bad! Well. Answer: 3", " It is 7. Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    s.policy.feedback = DRR_FEEDBACK_WORDS;
    s.policy.threshold = 0.999;
    s.policy.max_turns = 3;
    solve(&s);
    assert_int_equal(s.r.n_turns, 3);
    assert_string_equal(s.r.turns[1].role, "cut");
    assert_string_equal(s.w.last_words[1], s.w.last_words[2]);
    assert_string_equal(s.r.turns[2].feedback, s.r.turns[1].feedback);
    assert_string_equal(s.r.turns[2].text, "We add. It is 7. Answer: 7");
    stage_close(&s);
}

static void what_cannot_be_done_is_said(void **state)
{
    (void)state;
    drr_error err = {0};
    stage s;
    STAGE(s, second_step_bad, true);
    s.policy.grammar = true;
    assert_int_equal(try(&s, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "grammar"));
    s.policy.grammar = false;
    drr_judge *judge = NULL;
    assert_int_equal(drr_judge_open(&judge, "length", NULL, &err), DRR_OK);
    s.policy.judge = judge;
    s.policy.threshold = 0.5;
    assert_int_equal(try(&s, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "the judge length does not"));
    drr_judge_close(judge);
    s.policy.judge = NULL;
    drr_critic_close(s.critic);
    assert_int_equal(drr_critic_open(&s.critic, plain_path, NULL), DRR_OK);
    solve(&s);
    assert_non_null(strstr(warned, "as if they were answers"));
    drr_critic_close(s.critic);
    assert_int_equal(drr_critic_open(&s.critic, taught_path, NULL), DRR_OK);
    warned[0] = '\0';
    drr_result_clear(&s.r);
    solve(&s);
    assert_string_equal(warned, "");
    stage_close(&s);
}

/* A second run finds what the first one wrote, also what was cut, and goes the same way; one that cuts nothing does not
 * take a cut text for a whole one. */
static void a_cache_keeps_cut_answers_apart(void **state)
{
    (void)state;
    char path[] = "/tmp/drr-test-early-XXXXXX";
    cache_counts counts = {0};
    close(mkstemp(path));
    for (int run = 0; run < 3; run++) {
        stage s;
        drr_reasoner *inner, *outer = NULL;
        drr_error err = {0};
        STAGE(s, second_step_bad, true);
        inner = s.reasoner;
        if (cached_reasoner_new(&outer, inner, path, &counts, &err) != DRR_OK)
            fail_msg("%s", err.message);
        s.reasoner = outer;
        s.policy.early_below = run == 2 ? 0 : 0.5;
        solve(&s);
        assert_int_equal(s.w.n_asked, run == 0 ? 2 : run == 1 ? 0 : 1);
        if (run < 2) {
            assert_string_equal(s.r.turns[0].text, "We add them. That is bad! And");
            assert_true(s.r.turns[0].p_correct < 0.5);
            assert_string_equal(s.r.turns[1].text, "We add them. It makes 7.\nAnswer: 7");
            assert_int_equal(s.r.n_tokens, 12);
        } else {
            assert_string_equal(s.r.turns[0].text, "We add them. That is bad! And so on. Answer: 3");
        }
        drr_reasoner_close(outer);
        s.reasoner = inner;
        stage_close(&s);
    }
    unlink(path);
}

/* ---- seconds */

static void a_questions_seconds_end_its_answer(void **state)
{
    (void)state;
    static const char *const texts[] = {"We add them. It makes seven. Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_below = 0;
    s.w.seconds_a_word = 1;
    s.policy.max_seconds = 4.5;
    solve(&s);
    assert_int_equal(s.r.n_turns, 1);
    assert_int_equal(s.r.turns[0].finish, DRR_FINISH_TIME);
    assert_int_equal(s.r.turns[0].n_tokens, 5);
    assert_int_equal(s.r.outcome, DRR_UNPARSED);
    stage_close(&s);
}

/* Bad answers of 2 words: two turns take 4 s, and the third has a second left of which it takes one more word. */
static void no_turn_begins_when_the_seconds_are_over(void **state)
{
    (void)state;
    static const char *const texts[] = {"Answer: 3", "Answer: 7", "Answer: 5"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_below = 0;
    s.policy.threshold = 1;
    s.policy.on_exhausted = DRR_EXHAUSTED_LAST;
    s.w.seconds_a_word = 1;
    s.policy.max_seconds = 4;
    solve(&s);
    assert_int_equal(s.r.n_turns, 2);
    assert_string_equal(s.r.answer, "7");
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.max_seconds = 0;
    solve(&s);
    assert_int_equal(s.r.n_turns, 5);
    stage_close(&s);
}

/* ---- words with a rejection */

static void words_can_quote_the_bad_step_or_give_the_score(void **state)
{
    (void)state;
    static const char *const texts[] = {"We add them. That is bad! And so on.\nAnswer: 3", "Answer: 7"};
    stage s;
    STAGE(s, texts, true);
    s.policy.early_below = 0;
    s.policy.threshold = 0.999;
    s.policy.max_turns = 2;
    s.policy.feedback = DRR_FEEDBACK_STEP;
    solve(&s);
    assert_non_null(strstr(s.r.turns[1].feedback, "\"That is bad!\""));
    drr_result_clear(&s.r);
    s.w.n_asked = 0;
    s.policy.feedback = DRR_FEEDBACK_SCORE;
    solve(&s);
    char percent[16];
    snprintf(percent, sizeof percent, "%.0f %%", 100 * s.r.turns[0].p_correct);
    assert_non_null(strstr(s.r.turns[1].feedback, percent));
    assert_null(strstr(s.r.turns[1].feedback, "That is bad"));
    drr_critic_close(s.critic);
    assert_int_equal(drr_critic_open(&s.critic, plain_path, NULL), DRR_OK);
    drr_error err = {0};
    drr_result_clear(&s.r);
    s.policy.feedback = DRR_FEEDBACK_STEP;
    assert_int_equal(try(&s, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "has none for a step"));
    stage_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_step_ends_an_answer_and_what_was_good_is_kept),
        cmocka_unit_test(tokens_are_counted_once_each_and_what_was_thrown_away_is_told),
        cmocka_unit_test(what_was_there_at_once_is_cut_at_the_same_word),
        cmocka_unit_test(without_prefixes_it_begins_again_and_says_so),
        cmocka_unit_test(an_answer_is_stopped_so_often_at_most),
        cmocka_unit_test(nothing_is_stopped_before_there_is_a_whole_answer),
        cmocka_unit_test(an_unsure_step_ends_an_answer_too),
        cmocka_unit_test(what_is_kept_counts_in_the_confidence_of_what_follows),
        cmocka_unit_test(the_last_turn_is_not_stopped),
        cmocka_unit_test(what_had_been_kept_and_is_lost_after_all_counts),
        cmocka_unit_test(a_piece_alone_is_no_answer_that_could_not_be_read),
        cmocka_unit_test(a_piece_keeps_the_p_that_stopped_it),
        cmocka_unit_test(what_begins_again_is_a_recorded_answer_of_its_own),
        cmocka_unit_test(first_steps_may_be_let_pass),
        cmocka_unit_test(a_spent_budget_of_tokens_ends_it),
        cmocka_unit_test(nothing_is_kept_where_nothing_follows),
        cmocka_unit_test(one_cut_early_goes_on_in_the_same_conversation),
        cmocka_unit_test(what_cannot_be_done_is_said),
        cmocka_unit_test(a_cache_keeps_cut_answers_apart),
        cmocka_unit_test(a_questions_seconds_end_its_answer),
        cmocka_unit_test(no_turn_begins_when_the_seconds_are_over),
        cmocka_unit_test(words_can_quote_the_bad_step_or_give_the_score),
    };
    return cmocka_run_group_tests(tests, make_critics, remove_critics);
}
