/* test_distill.c: what distillation asks, and what it writes down of the answers. */
#include "distill_fixture.h"

/* ---- how much is asked */

static void every_question_gets_k_samples_and_a_wrong_one_all_its_turns(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 5, 0, 0);
    t.options.samples = 3;
    t.options.turns = 4;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 5 * 3 * 4);
    for (size_t i = 0; i < l.n; i++) { /* in order of question, sample and turn: the ids q0..q4 sort as they are */
        char id[32];
        snprintf(id, sizeof id, "q%zu", i / 12);
        assert_string_equal(l.traces[i].id, id);
        assert_int_equal(l.traces[i].sample, i / 4 % 3);
        assert_int_equal(l.traces[i].turn, i % 4);
        assert_int_equal(l.traces[i].label, DRR_LABEL_REJECT);
        assert_false(l.traces[i].forced);
        assert_string_equal(l.traces[i].task, "set");
        assert_string_equal(l.traces[i].reasoner, "seeded@1");
        assert_string_equal(l.traces[i].prompt, drr_prompts_id(t.prompts));
        for (size_t k = 0; k < i; k++)
            assert_true(l.traces[k].seed != l.traces[i].seed);
    }
    list_clear(&l);
    close_stage(&t);
}

static void a_right_answer_is_not_asked_again(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.samples = 2;
    t.options.turns = 3;
    t.options.forced_share = 0;
    distill_fine(&t);
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.traces, 6 * 2);
    assert_int_equal(c.turn0, 6 * 2);
    assert_int_equal(c.accepted, 6 * 2);
    assert_int_equal(c.forced, 0);
    assert_int_equal(t.s.n_asked, 6 * 2);
    close_stage(&t);
}

static void the_reasoner_hears_the_options(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 1, 100, 0);
    t.options.temperature = 0.25f;
    t.options.top_p = 0.5f;
    t.options.max_tokens = 77;
    t.options.grammar = true;
    distill_fine(&t);
    assert_float_equal(t.s.temperature, 0.25, 0);
    assert_float_equal(t.s.top_p, 0.5, 0);
    assert_int_equal(t.s.max_tokens, 77);
    assert_ptr_equal(t.s.grammar, prompts_grammar(t.prompts, drr_dataset_at(t.set, 0)));
    list l = all_traces(&t);
    assert_float_equal(l.traces[0].temperature, 0.25, 0);
    assert_int_equal(l.traces[0].stats.n, 2);
    assert_float_equal(l.traces[0].stats.mean, -1, 1e-6);
    list_clear(&l);
    close_stage(&t);
}

static void the_limit_takes_the_first_questions(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 6, 100, 0);
    t.options.forced_share = 0;
    t.options.limit = 2;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 2 * 4);
    assert_string_equal(l.traces[0].id, "q0");
    assert_string_equal(l.traces[7].id, "q1");
    list_clear(&l);
    t.options.limit = 100; /* more than there are: all */
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 6 * 4);
    assert_int_equal(t.s.n_given, 6 * 4);
    close_stage(&t);
}

static void more_samples_and_turns_later_keep_what_is_there(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 0, 0);
    t.options.samples = 2;
    t.options.turns = 2;
    distill_fine(&t);
    t.options.samples = 3;
    t.options.turns = 3;
    distill_fine(&t);
    assert_int_equal(count(&t).traces, 3 * 3 * 3);
    assert_int_equal(t.s.n_given, 3 * 3 * 3);
    t.options.samples = t.options.turns = 1; /* fewer: nothing to do */
    distill_fine(&t);
    assert_int_equal(t.s.n_given, 3 * 3 * 3);
    close_stage(&t);
}

static void nothing_to_distil_is_refused(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 3, 0, 0);
    t.options.samples = 0;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    t.options.samples = 1;
    t.options.turns = 0;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    assert_int_equal(t.s.n_asked, 0);
    close_stage(&t);
}

/* ---- retries */

static const asked *request_of(const stage *t, uint64_t seed)
{
    const asked *found = NULL;
    for (size_t i = 0; i < t->s.n_asked; i++)
        if (t->s.asked[i].seed == seed) {
            assert_null(found);
            found = &t->s.asked[i];
        }
    assert_non_null(found);
    return found;
}

static void a_retry_is_asked_with_the_words_that_its_trace_keeps(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 12, 40, 20);
    t.quick = true;
    t.options.turns = 4;
    t.options.forced_share = 0.3;
    distill_fine(&t);
    list l = all_traces(&t);
    size_t n_retries = 0, n_forced = 0, n_after_unparsed = 0;
    for (size_t i = 0; i < l.n; i++) {
        const drr_trace *trace = &l.traces[i], *before = i ? trace - 1 : NULL;
        const asked *request = request_of(&t, trace->seed);
        if (trace->turn == 0) {
            assert_null(trace->feedback);
            assert_false(trace->forced);
            char number[24]; /* the q11 is "What of 11?" */
            snprintf(number, sizeof number, " %s?", trace->id + 1);
            assert_non_null(strstr(request->last_words, number));
            continue;
        }
        assert_string_equal(before->id, trace->id);
        assert_int_equal(before->sample, trace->sample);
        assert_int_equal(before->turn + 1, trace->turn);
        char *words = NULL;
        const drr_task task = {.kind = trace->kind};
        assert_int_equal(prompts_feedback(&words, t.prompts, &task, before->answer, NULL), DRR_OK);
        assert_string_equal(trace->feedback, words);
        assert_string_equal(request->last_words, words);
        free(words);
        assert_int_equal(request->n_messages, request_of(&t, before->seed)->n_messages + 2);
        assert_int_equal(trace->forced, before->label == DRR_LABEL_ACCEPT);
        n_retries++;
        n_forced += trace->forced;
        n_after_unparsed += before->label == DRR_LABEL_UNPARSED;
    }
    assert_true(n_retries > n_forced + n_after_unparsed && n_forced > 5 && n_after_unparsed > 5);
    list_clear(&l);
    close_stage(&t);
}

static void what_cannot_be_read_has_a_label_of_its_own(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 4, 0, 100);
    t.options.turns = 2;
    distill_fine(&t);
    list l = all_traces(&t);
    assert_int_equal(l.n, 4 * 4 * 2);
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.traces[i].label, DRR_LABEL_UNPARSED);
        assert_null(l.traces[i].answer);
        assert_false(l.traces[i].forced);
        assert_int_equal(l.traces[i].stats.answer_n, 0);
    }
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.unparsed, l.n);
    assert_int_equal(c.rejected, 0);
    list_clear(&l);
    close_stage(&t);
}

static uint64_t forced_of(double share, uint64_t seed)
{
    stage t;
    open_stage(&t, MOST_QUESTIONS, 100, 0);
    t.quick = true;
    t.options.forced_share = share;
    t.options.seed = seed;
    distill_fine(&t);
    const drr_trace_counts c = count(&t);
    assert_int_equal(c.turn0, MOST_QUESTIONS * 4);
    assert_int_equal(c.forced, c.traces - c.turn0);
    close_stage(&t);
    return c.forced;
}

static void the_forced_share_is_near_what_was_asked(void **state)
{
    (void)state; /* of 320 right answers; four standard deviations are 31 at 0.25 and 21 at 0.1 */
    assert_in_range(forced_of(0.25, 1), 80 - 31, 80 + 31);
    assert_in_range(forced_of(0.1, 2), 32 - 21, 32 + 21);
    assert_int_equal(forced_of(0, 3), 0);
    assert_int_equal(forced_of(1, 4), 320);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_gets_k_samples_and_a_wrong_one_all_its_turns),
        cmocka_unit_test(a_right_answer_is_not_asked_again),
        cmocka_unit_test(the_reasoner_hears_the_options),
        cmocka_unit_test(the_limit_takes_the_first_questions),
        cmocka_unit_test(more_samples_and_turns_later_keep_what_is_there),
        cmocka_unit_test(nothing_to_distil_is_refused),
        cmocka_unit_test(a_retry_is_asked_with_the_words_that_its_trace_keeps),
        cmocka_unit_test(what_cannot_be_read_has_a_label_of_its_own),
        cmocka_unit_test(the_forced_share_is_near_what_was_asked),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
