/* test_distill_steps.c: step labels by continuations: how many are asked, what is made of them, stopped anywhere and
 * gone on with. The seeded reasoner's wrong answers have a sentence that is "bad"; what comes after it goes wrong. */
#include "distill_fixture.h"

enum { M = 4 };

/* Turns of `steps` sentences and the answer line; no retries. */
static void open_steps(stage *t, size_t n_questions, int right, int steps)
{
    open_stage(t, n_questions, right, 0);
    reasoner_set_basis(t->reasoner, &(reasoner_basis){.prefixes = true});
    t->s.steps = steps;
    t->s.leading = 100;
    t->quick = true;
    t->options.samples = 3;
    t->options.turns = 1;
    t->options.forced_share = 0;
    t->options.step_rollouts = M;
}

static uint32_t doublings(uint32_t n)
{
    uint32_t k = 0;
    while (1u << k < n)
        k++;
    return k;
}

/* The step with the bad sentence; n_steps - 1, the answer's, where there is none. */
static uint32_t bad_step(const drr_trace *t)
{
    for (uint32_t i = 0; i < t->n_steps; i++) {
        const char *bad = strstr(t->text + (i ? t->steps[i - 1].end : 0), "bad");
        if (bad && (uint32_t)(bad - t->text) < t->steps[i].end)
            return i;
    }
    return t->n_steps - 1;
}

static void a_right_turn_needs_no_continuation(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 6, 100, 5);
    distill_fine(&t);
    assert_int_equal(t.s.n_rollouts, 0);
    list l = all_traces(&t);
    assert_int_equal(l.n, 6 * 3);
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.traces[i].n_steps, 6);
        for (uint32_t k = 0; k < 6; k++) {
            assert_int_equal(l.traces[i].steps[k].of, 0);
            assert_float_equal(l.traces[i].steps[k].value, 1, 0);
        }
        assert_int_equal(l.traces[i].steps[5].end, strlen(l.traces[i].text));
    }
    list_clear(&l);
    close_stage(&t);
}

static void the_first_bad_step_is_found_by_a_few_continuations(void **state)
{
    (void)state;
    for (int steps = 1; steps <= 33; steps += 4) {
        stage t;
        open_steps(&t, 6, 0, steps);
        distill_fine(&t);
        list l = all_traces(&t);
        const uint32_t n = (uint32_t)steps + 1;
        uint64_t n_rollouts = 0, n_tokens = 0;
        for (size_t i = 0; i < l.n; i++) {
            const drr_trace *trace = &l.traces[i];
            const uint32_t bad = bad_step(trace);
            uint32_t n_tried = 0;
            assert_int_equal(trace->n_steps, n);
            for (uint32_t k = 0; k < n; k++) {
                const drr_step *s = &trace->steps[k];
                assert_true(s->of == 0 || s->of == M);
                assert_float_equal(s->value, k < bad, 0);
                assert_int_equal(s->right, s->of && k < bad ? M : 0);
                n_tried += s->of > 0;
            }
            assert_int_equal(trace->steps[n - 1].of, 0); /* the answer's own step has the turn's label */
            assert_true(n_tried <= doublings(n));
            assert_int_equal(trace->steps_rollouts, n_tried * M);
            n_rollouts += trace->steps_rollouts;
            n_tokens += trace->steps_tokens;
        }
        const drr_trace_counts c = count(&t);
        assert_int_equal(c.stepped, l.n);
        assert_int_equal(c.rollouts, n_rollouts);
        assert_int_equal(c.rollouts, t.s.n_rollouts);
        assert_int_equal(c.step_tokens, n_tokens);
        assert_true(steps == 1 || n_tokens > n_rollouts);
        list_clear(&l);
        close_stage(&t);
    }
}

static void where_labels_are_not_monotone_what_was_tried_keeps_its_share(void **state)
{
    (void)state;
    stage t;
    size_t n_between = 0, n_recovered = 0;
    open_steps(&t, 20, 0, 12);
    t.s.leading = 60;
    t.s.recovering = 30;
    distill_fine(&t);
    list l = all_traces(&t);
    for (size_t i = 0; i < l.n; i++) {
        const drr_trace *trace = &l.traces[i];
        uint32_t first = 0; /* the first step that counts as bad */
        while (trace->steps[first].value > 0)
            first++;
        for (uint32_t k = 0; k < trace->n_steps; k++) {
            const drr_step *s = &trace->steps[k];
            assert_true(k < first ? s->value > 0 : s->value <= 0);
            if (s->of)
                assert_float_equal(s->value, (double)s->right / M, 1e-6);
            else
                assert_float_equal(s->value, k < first, 0);
            n_between += s->right > 0 && s->right < M;
        }
        assert_true(trace->steps_rollouts <= doublings(13) * M);
        n_recovered += first > bad_step(trace);
    }
    assert_true(n_between > 20 && n_recovered > 5);
    list_clear(&l);
    close_stage(&t);
}

static void with_all_every_step_but_the_last_is_tried(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 8, 50, 5);
    t.s.leading = 70;
    t.s.recovering = 20;
    t.options.step_every = true;
    distill_fine(&t);
    list l = all_traces(&t);
    size_t n_up = 0;
    for (size_t i = 0; i < l.n; i++) {
        const drr_trace *trace = &l.traces[i];
        assert_int_equal(trace->steps_rollouts, 5 * M);
        for (uint32_t k = 0; k < 5; k++) {
            assert_int_equal(trace->steps[k].of, M);
            assert_float_equal(trace->steps[k].value, (double)trace->steps[k].right / M, 1e-6);
            n_up += k && trace->steps[k].right > trace->steps[k - 1].right;
        }
        assert_int_equal(trace->steps[5].of, 0);
        assert_float_equal(trace->steps[5].value, trace->label == DRR_LABEL_ACCEPT, 0);
    }
    assert_true(n_up > 5); /* nothing is made monotone */
    assert_int_equal(t.s.n_rollouts, l.n * 5 * M);
    list_clear(&l);
    close_stage(&t);
}

static void continuations_are_asked_as_the_turn_was(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 6, 30, 6);
    t.options.samples = 1;
    t.options.turns = 3;
    t.options.max_tokens = 60;
    t.options.step_every = true;
    distill_fine(&t);
    list l = all_traces(&t);
    size_t n_found = 0;
    for (size_t i = 0; i < t.s.n_asked; i++) {
        const asked *a = &t.s.asked[i];
        for (size_t k = 0; k < i; k++)
            assert_true(t.s.asked[k].seed != a->seed);
        if (!a->prefix)
            continue;
        for (size_t k = 0; k < l.n; k++) { /* the thought tells whose text it is */
            const drr_trace *trace = &l.traces[k];
            const asked *turn = t.s.asked;
            if (strncmp(trace->text, a->prefix, strlen(a->prefix)) != 0)
                continue;
            while (turn->seed != trace->seed)
                turn++;
            assert_int_equal(a->n_messages, turn->n_messages);
            assert_string_equal(a->last_words, turn->last_words);
            const double share = (double)strlen(a->prefix) / (double)strlen(trace->text);
            const double left = 60 - trace->n_tokens * share;
            assert_true(a->max_tokens >= 16 && a->max_tokens <= 60);
            assert_true(left < 16 || ((double)a->max_tokens <= left && (double)a->max_tokens > left - 1.01));
            bool at_an_end = false;
            for (uint32_t s = 0; s + 1 < trace->n_steps; s++)
                at_an_end = at_an_end || trace->steps[s].end == strlen(a->prefix);
            assert_true(at_an_end);
            n_found++;
        }
    }
    assert_true(l.n > 10 && n_found == l.n * 6 * M);
    list_clear(&l);
    close_stage(&t);
}

static void a_continuation_is_graded_with_what_it_continues(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 6, 0, 3);
    t.s.early = true;
    t.options.step_every = true;
    distill_fine(&t);
    list l = all_traces(&t);
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.traces[i].label, DRR_LABEL_REJECT);
        /* "The answer is A. This" is not cut behind the letter */
        assert_int_equal(l.traces[i].n_steps, l.traces[i].kind == DRR_KIND_CHOICE ? 4 : 5);
        for (uint32_t k = 0; k + 1 < l.traces[i].n_steps; k++)
            assert_int_equal(l.traces[i].steps[k].right, k ? M : 0);
    }
    list_clear(&l);
    close_stage(&t);
}

static void what_cannot_be_read_and_what_has_one_step_gets_no_labels(void **state)
{
    (void)state;
    stage t;
    open_stage(&t, 4, 0, 100); /* nothing can be read */
    reasoner_set_basis(t.reasoner, &(reasoner_basis){.prefixes = true});
    t.options.step_rollouts = M;
    distill_fine(&t);
    assert_int_equal(t.s.n_rollouts, 0);
    assert_int_equal(count(&t).stepped, 0);
    close_stage(&t);
}

static void traces_without_labels_get_them_later_and_once(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 6, 40, 7);
    t.options.turns = 2;
    distill_fine(&t);
    char *at_once = exported(&t);
    close_stage(&t);
    open_steps(&t, 6, 40, 7);
    t.options.turns = 2;
    t.options.step_rollouts = 0;
    distill_fine(&t);
    const size_t n_given = t.s.n_given;
    assert_int_equal(t.s.n_rollouts, 0);
    assert_int_equal(count(&t).stepped, 0);
    t.options.step_rollouts = M;
    distill_fine(&t);
    const size_t n_rollouts = t.s.n_rollouts;
    assert_int_equal(t.s.n_given, n_given);
    assert_true(n_rollouts > 0);
    char *later = exported(&t);
    assert_string_equal(later, at_once);
    t.options.step_rollouts = 2 * M; /* what has labels keeps them */
    distill_fine(&t);
    assert_int_equal(t.s.n_rollouts, n_rollouts);
    free(at_once);
    free(later);
    close_stage(&t);
}

static void stopped_anywhere_and_resumed_the_labels_are_the_same(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 5, 40, 6);
    t.options.turns = 2;
    t.s.leading = 70;
    t.s.recovering = 20;
    distill_fine(&t);
    char *whole = exported(&t);
    const uint64_t n_whole = count(&t).traces, n_stepped = count(&t).stepped, n_rollouts = count(&t).rollouts;
    assert_true(n_stepped == n_whole && n_rollouts > 50);
    close_stage(&t);
    rng r;
    rng_seed(&r, 23);
    for (int round = 0; round < 24; round++) {
        size_t n_stops = 0;
        open_steps(&t, 5, 40, 6);
        t.options.turns = 2;
        t.options.skip_failed = true;
        t.s.leading = 70;
        t.s.recovering = 20;
        t.s.run = 1000 * (uint64_t)round;
        t.s.failing = round % 2 ? 3 : 0;
        for (;;) {
            const size_t stop = rng_below(&r, 60) + n_stops / 4; /* M continuations have to fit in between */
            t.s.stop_next = round % 3 == 0 ? stop : FOR_EVER;
            t.s.stop_submit = round % 3 == 1 ? stop : FOR_EVER;
            t.cancel_after = round % 3 == 2 ? t.s.n_given + t.s.n_rollouts + t.s.n_failed + stop : FOR_EVER;
            const size_t n_failed = t.s.n_failed;
            const drr_status status = distill(&t);
            if (status == DRR_OK && t.s.n_failed == n_failed)
                break;
            if (status != DRR_OK)
                assert_int_equal(status, round % 3 == 2 ? DRR_E_INTERRUPTED : DRR_E_BACKEND);
            assert_int_equal(count(&t).traces, t.s.n_given);
            if (n_stops++ % 3 == 0) { /* as a new process would find it */
                drr_store_close(t.store);
                assert_int_equal(drr_store_open(&t.store, t.store_path, false, NULL), DRR_OK);
            }
            assert_true(n_stops < 1000);
        }
        char *pieces = exported(&t);
        assert_string_equal(pieces, whole);
        assert_int_equal(t.s.n_given, n_whole);
        assert_int_equal(count(&t).rollouts, n_rollouts);
        free(pieces);
        close_stage(&t);
    }
    free(whole);
}

static void a_failed_continuation_is_told_and_asked_again_next_time(void **state)
{
    (void)state;
    stage t;
    open_steps(&t, 6, 0, 6);
    t.options.step_rollouts = 0;
    distill_fine(&t);
    t.options.step_rollouts = M;
    t.s.failing = 10;
    assert_int_equal(distill(&t), DRR_E_BACKEND);
    const uint64_t n_stepped = count(&t).stepped;
    assert_true(n_stepped > 0 && n_stepped < 18);
    assert_non_null(strstr(t.err.message, "of 18 samples failed"));
    assert_non_null(strstr(t.err.message, "a continuation of step "));
    assert_true(t.n_warnings < t.s.n_failed + 2 && t.n_warnings == 18 - n_stepped); /* one a sample */
    t.s.failing = 0;
    distill_fine(&t);
    assert_int_equal(count(&t).stepped, 18);
    close_stage(&t);
}

static void what_cannot_go_on_from_the_middle_is_refused_before_anything_is_asked(void **state)
{
    (void)state;
    stage t;
    char *stored = NULL;
    open_steps(&t, 3, 50, 3);
    reasoner_set_basis(t.reasoner, &(reasoner_basis){0});
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    assert_non_null(strstr(t.err.message, "--steps needs the embedded reasoner"));
    reasoner_set_basis(t.reasoner, &(reasoner_basis){.prefixes = true});
    t.options.grammar = true;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    assert_non_null(strstr(t.err.message, "--grammar"));
    t.options.grammar = false;
    t.options.temperature = 0;
    assert_int_equal(distill(&t), DRR_E_ARGUMENT);
    assert_non_null(strstr(t.err.message, "temperature"));
    assert_int_equal(t.s.n_asked, 0);
    assert_int_equal(store_fact_get(t.store, "reasoner", &stored, NULL), DRR_OK);
    assert_null(stored);
    reasoner_set_basis(t.reasoner, &(reasoner_basis){0});
    const reasoner_request request = {.prefix = "It is"};
    assert_int_equal(reasoner_submit(t.reasoner, &request, NULL), DRR_E_ARGUMENT);
    close_stage(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_turn_needs_no_continuation),
        cmocka_unit_test(the_first_bad_step_is_found_by_a_few_continuations),
        cmocka_unit_test(where_labels_are_not_monotone_what_was_tried_keeps_its_share),
        cmocka_unit_test(with_all_every_step_but_the_last_is_tried),
        cmocka_unit_test(continuations_are_asked_as_the_turn_was),
        cmocka_unit_test(a_continuation_is_graded_with_what_it_continues),
        cmocka_unit_test(what_cannot_be_read_and_what_has_one_step_gets_no_labels),
        cmocka_unit_test(traces_without_labels_get_them_later_and_once),
        cmocka_unit_test(stopped_anywhere_and_resumed_the_labels_are_the_same),
        cmocka_unit_test(a_failed_continuation_is_told_and_asked_again_next_time),
        cmocka_unit_test(what_cannot_go_on_from_the_middle_is_refused_before_anything_is_asked),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
