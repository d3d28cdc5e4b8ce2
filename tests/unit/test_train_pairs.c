/* test_train_pairs.c: batches for a ranking term keep the answers to a question together, right and wrong ones mixed as
 * far as can be, show every example once an epoch, and part a group at the end of a step alone; and the term does what
 * it is for: it learns the order within questions where that over all of them is another. */
#include "train_fixture.h"

#include <math.h>

enum { QUESTIONS = 70, BATCH = 32, BUDGET = 64 };

/* Question q has q % 20 answers and one more; a few are longer than the budget, and every fifth answer is right. */
static examples asked(size_t *n_mixed)
{
    examples x = {0};
    int32_t ids[80] = {2};
    *n_mixed = 0;
    for (size_t q = 0; q < QUESTIONS; q++) {
        const size_t answers = q % 20 + 1;
        for (size_t a = 0; a < answers; a++) {
            const size_t length = (q * 31 + a * 7) % 97 == 5 ? 80 : 1 + (q + a) % 12;
            assert_int_equal(examples_add(&x, ids, length, a % 5 == 3, NULL), DRR_OK);
            assert_int_equal(examples_teach(&x, (q * 11) % QUESTIONS, NULL, NULL, 0, NULL), DRR_OK);
        }
        *n_mixed += answers > 3;
    }
    return x;
}

/* As a fit does it; counts what is seen, and checks that a part ends with a group, or the step does. */
static void walk(const batch_plan *plan, const examples *x, unsigned *seen)
{
    static int32_t ids[BUDGET + 80];
    static uint32_t starts[BATCH + 1];
    static uint8_t labels[BATCH];
    for (size_t step = 0; step < batch_plan_steps(plan); step++) {
        const size_t end = (step + 1) * BATCH < x->n ? (step + 1) * BATCH : x->n;
        for (size_t at = step * BATCH; at < end;) {
            const size_t n = batch_pack(plan, x, at, end, ids, starts, labels);
            assert_in_range(n, 1, end - at);
            assert_true(n == 1 || starts[n] <= BUDGET);
            for (size_t i = 0; i < n; i++)
                seen[plan->order[at + i]]++;
            at += n;
            assert_true(at == end || !plan->joined[at]);
        }
    }
}

static void check_groups(const batch_plan *plan, const examples *x, size_t n_mixed)
{
    bool mixed[QUESTIONS] = {false};
    size_t n = 0;
    assert_false(plan->joined[0]);
    for (size_t i = 0, end; i < x->n; i = end) {
        size_t right = 0, tokens = 0;
        const size_t question = x->lessons.questions[plan->order[i]];
        for (end = i; end < x->n && (end == i || plan->joined[end]); end++) {
            assert_int_equal(x->lessons.questions[plan->order[end]], question);
            right += x->labels[plan->order[end]];
            tokens += x->starts[plan->order[end] + 1] - x->starts[plan->order[end]];
        }
        assert_in_range(end - i, 1, BATCH_GROUP);
        assert_true(end - i == 1 || tokens <= BUDGET);
        mixed[question] = mixed[question] || (right > 0 && right < end - i);
    }
    for (size_t q = 0; q < QUESTIONS; q++)
        n += mixed[q];
    assert_true(n + 6 >= n_mixed && n <= n_mixed); /* but for some whose only right answer is too long for company */
}

static void an_epoch_keeps_the_answers_to_a_question_together(void **state)
{
    (void)state;
    size_t n_mixed;
    examples x = asked(&n_mixed);
    batch_plan plan = {0};
    unsigned *seen = calloc(x.n, sizeof *seen);
    assert_int_equal(batch_plan_new(&plan, x.n, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_group(&plan, &x, NULL), DRR_OK);
    for (unsigned epoch = 0; epoch < 3; epoch++) {
        batch_plan_shuffle(&plan, 1, epoch);
        check_groups(&plan, &x, n_mixed);
        walk(&plan, &x, seen);
        for (size_t i = 0; i < x.n; i++)
            assert_int_equal(seen[i], epoch + 1);
    }
    free(seen);
    batch_plan_clear(&plan);
    examples_clear(&x);
}

static void groups_are_a_function_of_seed_and_epoch(void **state)
{
    (void)state;
    size_t n_mixed;
    examples x = asked(&n_mixed);
    batch_plan a = {0}, b = {0};
    const size_t bytes = x.n * sizeof *a.order;
    assert_int_equal(batch_plan_new(&a, x.n, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_new(&b, x.n, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_group(&a, &x, NULL), DRR_OK);
    assert_int_equal(batch_plan_group(&b, &x, NULL), DRR_OK);
    batch_plan_shuffle(&a, 1, 0);
    batch_plan_shuffle(&a, 1, 4);
    batch_plan_shuffle(&b, 1, 4); /* an epoch entered at once, as after an interruption */
    assert_memory_equal(a.order, b.order, bytes);
    assert_memory_equal(a.joined, b.joined, x.n * sizeof *a.joined);
    batch_plan_shuffle(&b, 1, 5);
    assert_memory_not_equal(a.order, b.order, bytes);
    batch_plan_shuffle(&b, 2, 4);
    assert_memory_not_equal(a.order, b.order, bytes);
    batch_plan_clear(&a);
    batch_plan_clear(&b);
    examples_clear(&x);
}

static void right_and_wrong_ones_are_dealt_out_evenly(void **state)
{
    (void)state;
    examples x = {0};
    batch_plan plan = {0};
    const int32_t id = 2;
    for (size_t a = 0; a < 24; a++) { /* three groups of eight, for three wrong answers */
        assert_int_equal(examples_add(&x, &id, 1, a >= 3, NULL), DRR_OK);
        assert_int_equal(examples_teach(&x, 0, NULL, NULL, 0, NULL), DRR_OK);
    }
    assert_int_equal(batch_plan_new(&plan, x.n, 24, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_group(&plan, &x, NULL), DRR_OK);
    batch_plan_shuffle(&plan, 1, 0);
    for (size_t g = 0; g < 3; g++) {
        size_t wrong = 0;
        for (size_t i = 8 * g; i < 8 * g + 8; i++) {
            assert_int_equal(plan.joined[i], i > 8 * g);
            wrong += !x.labels[plan.order[i]];
        }
        assert_int_equal(wrong, 1);
    }
    batch_plan_clear(&plan);
    examples_clear(&x);
}

static void a_plan_without_questions_is_refused(void **state)
{
    (void)state;
    examples x = marked_texts(8, 1);
    batch_plan plan = {0};
    fit_options o = {.epochs = 1, .batch = 4, .learning_rate = 1e-3, .rank_weight = 1};
    fit_result result;
    encoder *e = tiny_encoder(1);
    const examples none = {0};
    drr_error err = {0};
    assert_int_equal(batch_plan_new(&plan, x.n, 4, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_group(&plan, &x, NULL), DRR_E_ARGUMENT);
    assert_int_equal(encoder_fit(e, &x, &none, &o, &result, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "which question"));
    o.rank_weight = -1;
    assert_int_equal(encoder_fit(e, &x, &none, &o, &result, NULL, &err), DRR_E_ARGUMENT);
    o.rank_weight = NAN;
    assert_int_equal(encoder_fit(e, &x, &none, &o, &result, NULL, &err), DRR_E_ARGUMENT);
    batch_plan_clear(&plan);
    encoder_free(e);
    examples_clear(&x);
}

/* ---- learning */

enum { TASKS = 100, ANSWERS = 6 };

/* Of an easy question 5 answers of 6 are right, of a hard one 1. MARK is more frequent in answers to easy questions, so
 * that over all answers it goes with right ones (5 of 8 that have it are right, 3 of 8 that do not); but among the
 * answers to one question it goes with the wrong ones, three right ones of four having it where each wrong one does.
 * Nothing else tells a question's kind. */
static examples tasks_of(uint64_t seed)
{
    examples x = {0};
    rng r;
    rng_seed(&r, seed);
    for (size_t q = 0; q < TASKS; q++)
        for (size_t a = 0; a < ANSWERS; a++) {
            int32_t ids[8] = {2};
            const bool easy = q % 2, right = easy ? a > 0 : a == 0, chance = rng_below(&r, 4) == 0;
            const bool marked = easy ? !right || !chance : !right && chance;
            for (size_t k = 1; k < 8; k++)
                ids[k] = (int32_t)(MARK + 1 + rng_below(&r, FIXTURE_VOCABULARY - MARK - 1));
            if (marked)
                ids[1 + rng_below(&r, 7)] = MARK;
            assert_int_equal(examples_add(&x, ids, 8, right, NULL), DRR_OK);
            assert_int_equal(examples_teach(&x, q, NULL, NULL, 0, NULL), DRR_OK);
        }
    return x;
}

/* Of the pairs of a right and a wrong answer to one question, the share whose right one has the higher logit. */
static double in_order(const encoder *e, const examples *x)
{
    float logits[TASKS * ANSWERS];
    double good = 0, pairs = 0;
    assert_int_equal(examples_logits(e, x, 256, logits, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < x->n; i++)
        for (size_t k = 0; k < x->n; k++)
            if (x->lessons.questions[i] == x->lessons.questions[k] && x->labels[i] && !x->labels[k]) {
                pairs++;
                good += logits[i] > logits[k];
            }
    return good / pairs;
}

static double fitted_order(double rank_weight, bool half, double *loss)
{
    const fit_options o = {.epochs = 6,
                           .batch = 24,
                           .budget = 120, /* several parts a step */
                           .learning_rate = 2e-3,
                           .clip_norm = 1,
                           .rank_weight = rank_weight,
                           .seed = 3};
    encoder *e = tiny_encoder(1);
    examples train = tasks_of(2), other = tasks_of(4);
    const examples none = {0};
    fit_result result;
    e->bf16 = half;
    assert_int_equal(encoder_fit(e, &train, &none, &o, &result, NULL, NULL), DRR_OK);
    e->bf16 = false;
    const double order = in_order(e, &other);
    *loss = result.last_train_loss;
    encoder_free(e);
    examples_clear(&train);
    examples_clear(&other);
    return order;
}

static void the_term_learns_what_tells_answers_to_one_question_apart(void **state)
{
    (void)state;
    double loss[2];
    const double plain = fitted_order(0, false, &loss[0]), ranked = fitted_order(4, false, &loss[1]);
    print_message("pairs of other questions in order: %.3f without the term, %.3f with it; loss %.3f and %.3f\n", plain,
                  ranked, loss[0], loss[1]);
    assert_true(plain < 0.45);
    assert_true(ranked > 0.52);
    assert_true(loss[1] > loss[0]); /* which has the term in it */
}

static void and_in_bf16_as_well(void **state)
{
    (void)state;
    double loss[2];
    if (!bf16_is_native())
        skip();
    const double whole = fitted_order(4, false, &loss[0]), half = fitted_order(4, true, &loss[1]);
    print_message("pairs in order: %.3f in fp32, %.3f in bf16\n", whole, half);
    assert_true(fabs(loss[0] - loss[1]) < 0.02 + 0.05 * loss[0]);
    assert_true(fabs(whole - half) < 0.06);
}

static drr_status fit_pairs(encoder *e, const examples *train, double rank_weight, bool resume, int steps)
{
    const examples none = {0};
    const fit_options o = {.epochs = 2,
                           .batch = 24,
                           .budget = 120,
                           .learning_rate = 2e-3,
                           .dropout = 0.1,
                           .rank_weight = rank_weight,
                           .seed = 3};
    return fit_some(e, train, &none, o, resume, steps);
}

static void an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    encoder *whole = tiny_encoder(1), *pieces = NULL, *other = tiny_encoder(1);
    examples train = tasks_of(2);
    parallel_set_threads(1);
    assert_int_equal(fit_pairs(whole, &train, 1, false, 1 << 20), DRR_OK);
    unlink(at("checkpoint"));
    for (int stops = 0;; stops++) {
        encoder_free(pieces);
        pieces = tiny_encoder(1);
        const drr_status status = fit_pairs(pieces, &train, 1, stops > 0, 4);
        if (status == DRR_OK) {
            assert_true(stops > 2);
            break;
        }
        assert_int_equal(status, DRR_E_INTERRUPTED);
        if (stops == 0) { /* another weight, or another question, is another run */
            assert_int_equal(fit_pairs(other, &train, 2, true, 1 << 20), DRR_E_MISMATCH);
            train.lessons.questions[0]++;
            assert_int_equal(fit_pairs(other, &train, 1, true, 1 << 20), DRR_E_MISMATCH);
            train.lessons.questions[0]--;
        }
    }
    assert_memory_equal(pieces->parameters, whole->parameters, whole->n_parameters * sizeof(float));
    encoder_free(whole);
    encoder_free(pieces);
    encoder_free(other);
    examples_clear(&train);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_keeps_the_answers_to_a_question_together),
        cmocka_unit_test(groups_are_a_function_of_seed_and_epoch),
        cmocka_unit_test(right_and_wrong_ones_are_dealt_out_evenly),
        cmocka_unit_test(a_plan_without_questions_is_refused),
        cmocka_unit_test(the_term_learns_what_tells_answers_to_one_question_apart),
        cmocka_unit_test(and_in_bf16_as_well),
        cmocka_unit_test(an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
