/* test_eval_cascade.c: points of a cascade and the one that is picked, against numbers worked out by hand. */
#include "eval/eval_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Four questions; the first reasoner costs 1 each, the second 10. */
static drr_cascade four(void)
{
    const drr_cascade_question questions[] = {{.id = "a", .text = 1, .p = 0.9, .first = 1, .second = 1},
                                              {.id = "b", .text = 2, .p = 0.6, .first = 0, .second = 1},
                                              {.id = "c", .text = 3, .p = 0.3, .first = 0, .second = 0},
                                              {.id = "d", .text = 4, .p = NAN, .first = 0, .second = 1}};
    drr_cascade c = {.questions = malloc(sizeof questions), .n = 4};
    assert_non_null(c.questions);
    for (size_t i = 0; i < 4; i++) {
        c.questions[i] = questions[i];
        c.questions[i].after = questions[i].second;
        c.questions[i].cost_first = 1;
        c.questions[i].cost_second = 10;
    }
    return c;
}

static void expect_point(const drr_cascade_point *p, double below, double escalated, double accuracy, double cost)
{
    assert_true(fabs(p->below - below) < 1e-12);
    assert_true(fabs(p->escalated - escalated) < 1e-12);
    assert_true(fabs(p->accuracy - accuracy) < 1e-12);
    assert_true(fabs(p->cost - cost) < 1e-12);
}

static void every_threshold_is_a_point(void **state)
{
    (void)state;
    drr_cascade c = four();
    drr_cascade_options o;
    drr_error err = {0};
    drr_cascade_options_defaults(&o);
    assert_int_equal(cascade_points(&c, &o, &err), DRR_OK);
    assert_int_equal(c.n_points, 4);
    expect_point(&c.points[0], 0, 0.25, 0.5, 14.0 / 40);
    expect_point(&c.points[1], 0.45, 0.5, 0.5, 24.0 / 40);
    expect_point(&c.points[2], 0.75, 0.75, 0.75, 34.0 / 40);
    expect_point(&c.points[3], 1, 1, 0.75, 44.0 / 40);
    assert_true(fabs(c.accuracy_first - 0.25) < 1e-12 && fabs(c.accuracy_second - 0.75) < 1e-12);
    assert_true(fabs(c.cost_first - 0.1) < 1e-12);
    drr_cascade_clear(&c);
}

static size_t picked(double target_error, double target_cost)
{
    drr_cascade c = four();
    drr_cascade_options o;
    drr_error err = {0};
    drr_cascade_options_defaults(&o);
    o.target_error = target_error;
    o.target_cost = target_cost;
    assert_int_equal(cascade_points(&c, &o, &err), DRR_OK);
    const size_t which = c.picked;
    drr_cascade_clear(&c);
    return which;
}

static void the_target_picks_one(void **state)
{
    (void)state;
    assert_int_equal(picked(NAN, NAN), 2); /* as good as the second alone, and no dearer than it must be */
    assert_int_equal(picked(0.5, NAN), 0); /* the cheapest at which half may be wrong */
    assert_int_equal(picked(0.3, NAN), 2);
    assert_int_equal(picked(0.2, NAN), 4); /* none */
    assert_int_equal(picked(NAN, 0.6), 0); /* two get as much right: the cheaper one */
    assert_int_equal(picked(NAN, 0.9), 2);
    assert_int_equal(picked(NAN, 0.1), 4);
}

/* The picked point gets a, b and d right, as the second alone does. */
static void the_picked_point_stands_beside_the_second(void **state)
{
    (void)state;
    drr_cascade c = four();
    drr_cascade_options o;
    drr_error err = {0};
    drr_cascade_options_defaults(&o);
    o.target_error = 0.5;
    assert_int_equal(cascade_points(&c, &o, &err), DRR_OK);
    assert_true(fabs(c.difference[0] + 0.25) < 1e-12); /* b is not escalated there */
    assert_true(c.difference[1] <= -0.5 && c.difference[2] >= 0);
    drr_cascade_clear(&c);
}

/* What the first one had right stands where the second has none: right in the cascade, and not in the second alone. */
static void the_second_alone_is_not_helped_by_the_first(void **state)
{
    (void)state;
    drr_cascade c = four();
    drr_cascade_options o;
    drr_error err = {0};
    drr_cascade_options_defaults(&o);
    c.questions[0].second = 0; /* a: no answer */
    assert_int_equal(cascade_points(&c, &o, &err), DRR_OK);
    assert_true(fabs(c.accuracy_second - 0.5) < 1e-12);
    assert_true(fabs(c.points[3].accuracy - 0.75) < 1e-12);
    assert_int_equal(c.picked, 0); /* gets as much right as the second alone */
    drr_cascade_clear(&c);
}

/* The same four questions nine times over say no more than once. */
static void a_question_that_is_there_often_is_drawn_as_one(void **state)
{
    (void)state;
    enum { TIMES = 9 };
    drr_cascade once = four(), often = {.questions = calloc(4 * TIMES, sizeof *often.questions), .n = 4 * TIMES};
    drr_cascade_options o;
    drr_error err = {0};
    assert_non_null(often.questions);
    for (size_t i = 0; i < often.n; i++)
        often.questions[i] = once.questions[i % 4];
    drr_cascade_options_defaults(&o);
    o.target_error = 0.5;
    assert_int_equal(cascade_points(&once, &o, &err), DRR_OK);
    assert_int_equal(cascade_points(&often, &o, &err), DRR_OK);
    assert_int_equal(once.picked, often.picked);
    for (size_t k = 0; k < 3; k++)
        assert_true(fabs(once.difference[k] - often.difference[k]) < 1e-12);
    drr_cascade_clear(&once);
    drr_cascade_clear(&often);
}

static void a_second_reasoner_that_writes_nothing_costs_nothing(void **state)
{
    (void)state;
    drr_cascade c = four();
    drr_cascade_options o;
    drr_error err = {0};
    drr_cascade_options_defaults(&o);
    for (size_t i = 0; i < 4; i++)
        c.questions[i].cost_second = 0;
    assert_int_equal(cascade_points(&c, &o, &err), DRR_E_EMPTY);
    drr_cascade_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_threshold_is_a_point),
        cmocka_unit_test(the_target_picks_one),
        cmocka_unit_test(the_picked_point_stands_beside_the_second),
        cmocka_unit_test(the_second_alone_is_not_helped_by_the_first),
        cmocka_unit_test(a_question_that_is_there_often_is_drawn_as_one),
        cmocka_unit_test(a_second_reasoner_that_writes_nothing_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
