/* test_train_batches.c: an epoch shows every example once, in an order that seed and epoch alone decide, in parts that
 * keep to their budget. */
#include "train_fixture.h"

enum { N = 1003, BATCH = 32, BUDGET = 40 };

static void examples_are_kept_as_they_came(void **state)
{
    (void)state;
    examples x = {0};
    size_t longest = 0;
    assert_int_equal(examples_longest(&x), 0);
    for (size_t i = 0; i < 3000; i++) {
        int32_t ids[40];
        const size_t n = 1 + i * 17 % 40;
        for (size_t k = 0; k < n; k++)
            ids[k] = (int32_t)(i + 10000 * k);
        longest = n > longest ? n : longest;
        assert_int_equal(examples_add(&x, ids, n, i % 3 == 0, NULL), DRR_OK);
    }
    assert_int_equal(x.n, 3000);
    assert_int_equal(x.starts[3000], x.n_ids);
    assert_int_equal(examples_longest(&x), longest);
    for (size_t i = 0; i < x.n; i++) {
        assert_int_equal(x.starts[i + 1] - x.starts[i], 1 + i * 17 % 40);
        assert_int_equal(x.labels[i], i % 3 == 0);
        for (size_t k = 0; k < x.starts[i + 1] - x.starts[i]; k++)
            assert_int_equal(x.ids[x.starts[i] + k], i + 10000 * k);
    }
    examples_clear(&x);
    assert_null(x.ids);
    examples_clear(&x);
}

/* Example i is told by its first token; its length is 1 to 12, a few are longer than the budget. */
static examples numbered(void)
{
    examples x = {0};
    int32_t ids[50] = {0};
    for (size_t i = 0; i < N; i++) {
        ids[0] = (int32_t)i;
        assert_int_equal(examples_add(&x, ids, i % 97 == 5 ? 50 : 1 + i % 12, i % 7 == 0, NULL), DRR_OK);
    }
    return x;
}

/* Walks through an epoch as a fit does; counts how often each example is seen. */
static void walk(const batch_plan *plan, const examples *x, unsigned seen[N])
{
    static int32_t ids[64];
    static uint32_t starts[BATCH + 1];
    static uint8_t labels[BATCH];
    const size_t steps = batch_plan_steps(plan);
    for (size_t step = 0; step < steps; step++) {
        const size_t end = (step + 1) * BATCH < N ? (step + 1) * BATCH : N;
        for (size_t at = step * BATCH; at < end;) {
            const size_t n = batch_pack(plan, x, at, end, ids, starts, labels);
            assert_in_range(n, 1, end - at);
            assert_true(n == 1 || starts[n] <= BUDGET);
            for (size_t i = 0; i < n; i++) {
                const size_t example = (size_t)ids[starts[i]];
                assert_int_equal(example, plan->order[at + i]);
                assert_int_equal(starts[i + 1] - starts[i], x->starts[example + 1] - x->starts[example]);
                assert_int_equal(labels[i], x->labels[example]);
                seen[example]++;
            }
            at += n;
            if (at < end) { /* no room was left for the next one */
                const size_t next = plan->order[at];
                assert_true(starts[n] + x->starts[next + 1] - x->starts[next] > BUDGET);
            }
        }
    }
}

static void an_epoch_shows_every_example_once(void **state)
{
    (void)state;
    examples x = numbered();
    batch_plan plan = {0};
    unsigned seen[N] = {0};
    assert_int_equal(batch_plan_new(&plan, N, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_steps(&plan), 32);
    for (unsigned epoch = 0; epoch < 3; epoch++) {
        batch_plan_shuffle(&plan, 1, epoch);
        walk(&plan, &x, seen);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(seen[i], epoch + 1);
    }
    batch_plan_clear(&plan);
    examples_clear(&x);
}

static size_t moved(const batch_plan *a, const batch_plan *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        n += a->order[i] != b->order[i];
    return n;
}

static void the_order_is_a_function_of_seed_and_epoch(void **state)
{
    (void)state;
    batch_plan a = {0}, b = {0};
    assert_int_equal(batch_plan_new(&a, N, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(batch_plan_new(&b, N, BATCH, BUDGET, NULL), DRR_OK);
    assert_int_equal(moved(&a, &b), 0);
    batch_plan_shuffle(&a, 7, 2);
    assert_true(moved(&a, &b) > N - 20); /* from the order of the file */
    batch_plan_shuffle(&b, 7, 0);
    batch_plan_shuffle(&b, 7, 1);
    assert_true(moved(&a, &b) > N - 20);
    batch_plan_shuffle(&b, 7, 2); /* whatever came before */
    assert_int_equal(moved(&a, &b), 0);
    batch_plan_shuffle(&b, 8, 2);
    assert_true(moved(&a, &b) > N - 20);
    batch_plan_clear(&a);
    batch_plan_clear(&b);
}

static void a_plan_of_nothing_has_no_steps(void **state)
{
    (void)state;
    batch_plan plan = {0};
    assert_int_equal(batch_plan_new(&plan, 0, BATCH, BUDGET, NULL), DRR_OK);
    batch_plan_shuffle(&plan, 1, 1);
    assert_int_equal(batch_plan_steps(&plan), 0);
    batch_plan_clear(&plan);
    batch_plan_clear(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_kept_as_they_came),
        cmocka_unit_test(an_epoch_shows_every_example_once),
        cmocka_unit_test(the_order_is_a_function_of_seed_and_epoch),
        cmocka_unit_test(a_plan_of_nothing_has_no_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
