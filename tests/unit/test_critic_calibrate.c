/* test_critic_calibrate.c: the isotonic curve is the one that brute force finds, temperature and Platt find what made
 * the labels, and of the calibrations the one is picked that does best on questions that it was not fitted on. */
#include "core/statistics.h"
#include "critic/critic.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void near(double value, double expected, double most)
{
    if (!(fabs(value - expected) <= most))
        fail_msg("%.15g is not %.15g, within %g", value, expected, most);
}

/* ---- isotonic */

enum { SMALL = 40, LARGE = 4000, FOLDS = 5 };

/* The isotonic fit at row i of rows in order by the max-min formula: the largest over
 * starts up to i of the smallest over ends from i of the mean between them. */
static double max_min(const double *x, const uint8_t *labels, const double *weights, size_t n, size_t i)
{
    double most = -1;
    for (size_t begin = 0; begin <= i; begin++) {
        double least = 2, sum = 0, weight = 0;
        if (begin && !(x[begin] > x[begin - 1]))
            continue; /* rows of one x are one */
        for (size_t end = begin; end < n; end++) {
            sum += labels[end] ? weights[end] : 0;
            weight += weights[end];
            if (end >= i && (end + 1 == n || x[end + 1] > x[end]))
                least = fmin(least, sum / weight);
        }
        most = fmax(most, least);
    }
    return most;
}

/* Rows by x on a grid of `levels`, so that few levels are many ties. */
static void made_rows(double *x, uint8_t *labels, double *weights, size_t n, uint64_t levels, rng *r)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = floor((double)levels * (double)i / (double)n) / 3 - 2;
        labels[i] = rng_uniform(r) < 0.15 + 0.7 * (double)i / (double)n;
        weights[i] = 0.25 + rng_uniform(r);
    }
}

static void the_curve_is_the_one_that_brute_force_finds(void **state)
{
    (void)state;
    double x[SMALL], weights[SMALL];
    uint8_t labels[SMALL];
    rng r;
    rng_seed(&r, 1);
    for (int round = 0; round < 60; round++) {
        curve c;
        double total = 0;
        made_rows(x, labels, weights, SMALL, round % 3 ? SMALL : 9, &r);
        assert_int_equal(curve_fit(&c, x, labels, weights, SMALL, NULL), DRR_OK);
        for (size_t i = 0; i < SMALL; i++)
            total += weights[i];
        /* each knot stands where the mean x of its level is, at that level */
        uint32_t knot = 0;
        for (size_t i = 0, end; i < SMALL; i = end, knot++) {
            const double level = max_min(x, labels, weights, SMALL, i);
            double sum = 0, weight = 0;
            for (end = i; end < SMALL && fabs(max_min(x, labels, weights, SMALL, end) - level) < 1e-12; end++) {
                sum += weights[end] * x[end];
                weight += weights[end];
            }
            assert_true(knot < c.n);
            near(c.x[knot], sum / weight, 1e-9);
            near(c.y[knot], fmin(1 - 1 / (total + 2), fmax(1 / (total + 2), level)), 1e-9);
        }
        assert_int_equal(knot, c.n);
    }
}

static void the_order_of_the_rows_is_nothing_to_the_curve(void **state)
{
    (void)state;
    double x[SMALL], weights[SMALL], x2[SMALL], weights2[SMALL];
    uint8_t labels[SMALL], labels2[SMALL];
    size_t order[SMALL];
    curve a, b;
    rng r;
    rng_seed(&r, 2);
    made_rows(x, labels, weights, SMALL, 11, &r);
    for (size_t i = 0; i < SMALL; i++)
        order[i] = i;
    rng_shuffle(&r, order, SMALL);
    for (size_t i = 0; i < SMALL; i++) {
        x2[i] = x[order[i]];
        labels2[i] = labels[order[i]];
        weights2[i] = weights[order[i]];
    }
    assert_int_equal(curve_fit(&a, x, labels, weights, SMALL, NULL), DRR_OK);
    assert_int_equal(curve_fit(&b, x2, labels2, weights2, SMALL, NULL), DRR_OK);
    assert_int_equal(a.n, b.n);
    for (uint32_t i = 0; i < a.n; i++) {
        near(b.x[i], a.x[i], 1e-9);
        near(b.y[i], a.y[i], 1e-9);
    }
}

static void a_curve_rises_between_its_knots_and_is_level_beyond(void **state)
{
    (void)state;
    const curve c = {3, {-1, 0, 2}, {0.1, 0.4, 0.8}};
    near(curve_at(&c, -50), 0.1, 0);
    near(curve_at(&c, -1), 0.1, 1e-15);
    near(curve_at(&c, -0.5), 0.25, 1e-15);
    near(curve_at(&c, 1.5), 0.7, 1e-15);
    near(curve_at(&c, 2), 0.8, 1e-15);
    near(curve_at(&c, 50), 0.8, 0);
    const curve one = {1, {3}, {0.6}};
    near(curve_at(&one, -9), 0.6, 0);
    near(curve_at(&one, 9), 0.6, 0);
}

static void parted_and_single_classes_stay_off_0_and_1(void **state)
{
    (void)state;
    const double x[] = {-2, -1, 1, 2};
    const uint8_t parted[] = {0, 0, 1, 1}, all[] = {1, 1, 1, 1};
    curve c;
    assert_int_equal(curve_fit(&c, x, parted, NULL, 4, NULL), DRR_OK);
    assert_int_equal(c.n, 2);
    near(c.y[0], 1.0 / 6, 1e-12);
    near(c.y[1], 5.0 / 6, 1e-12);
    assert_int_equal(curve_fit(&c, x, all, NULL, 4, NULL), DRR_OK);
    near(curve_at(&c, 0), 5.0 / 6, 1e-12);
    drr_error err = {0};
    assert_int_equal(curve_fit(&c, x, all, NULL, 0, &err), DRR_E_EMPTY);
    const double broken[] = {0, NAN};
    assert_int_equal(curve_fit(&c, broken, all, NULL, 2, &err), DRR_E_ARGUMENT);
}

/* More levels than a file has room for: thinned, still rising, still near. */
static void a_fine_curve_is_thinned_and_still_rises(void **state)
{
    (void)state;
    enum { STEPS = 150, ROWS = 400 }; /* rows of each step, the i-th with i of STEPS right */
    double *x = calloc((size_t)STEPS * ROWS, sizeof *x);
    uint8_t *labels = calloc((size_t)STEPS * ROWS, 1);
    curve c;
    for (size_t i = 0; i < STEPS; i++)
        for (size_t k = 0; k < ROWS; k++) {
            x[i * ROWS + k] = (double)i;
            labels[i * ROWS + k] = k * STEPS < i * ROWS;
        }
    assert_int_equal(curve_fit(&c, x, labels, NULL, (size_t)STEPS * ROWS, NULL), DRR_OK);
    assert_int_equal(c.n, CURVE_MOST_KNOTS);
    for (uint32_t i = 1; i < c.n; i++)
        assert_true(c.x[i] > c.x[i - 1] && c.y[i] > c.y[i - 1]);
    for (size_t i = 2; i < STEPS - 2; i++)
        near(curve_at(&c, (double)i), (double)i / STEPS, 0.01);
    free(x);
    free(labels);
}

/* ---- lines */

typedef struct sample {
    double *x;
    uint8_t *labels, *folds;
    size_t n;
} sample;

/* `per` rows of each question, all alike, in the question's fold. */
static sample drawn(size_t questions, size_t per, double (*truth)(double), uint64_t seed)
{
    sample s = {calloc(questions * per, sizeof(double)), calloc(questions * per, 1), calloc(questions * per, 1),
                questions * per};
    rng r;
    rng_seed(&r, seed);
    for (size_t q = 0; q < questions; q++) {
        const double x = 3 * rng_normal(&r);
        const bool right = rng_uniform(&r) < truth(x);
        for (size_t k = 0; k < per; k++) {
            s.x[q * per + k] = x;
            s.labels[q * per + k] = right;
            s.folds[q * per + k] = (uint8_t)(q % FOLDS);
        }
    }
    return s;
}

static void sample_clear(sample *s)
{
    free(s->x);
    free(s->labels);
    free(s->folds);
}

static double honest(double x)
{
    return sigmoid(x);
}
static double hot(double x)
{
    return sigmoid(0.4 * x);
}
static double shifted(double x)
{
    return sigmoid(0.5 * x - 1);
}
static double stepped(double x)
{
    return x < -1 ? 0.05 : x < 2 ? 0.5 : 0.6;
}
static double backwards(double x)
{
    return sigmoid(-x);
}

static void a_temperature_is_found_and_never_turns_the_order_round(void **state)
{
    (void)state;
    platt p;
    sample s = drawn(LARGE, 1, hot, 3);
    assert_int_equal(line_fit(&p, s.x, s.labels, NULL, s.n, false, NULL), DRR_OK);
    near(p.a, 0.4, 0.03);
    near(p.b, 0, 0);
    sample_clear(&s);
    s = drawn(LARGE, 1, backwards, 3);
    assert_int_equal(line_fit(&p, s.x, s.labels, NULL, s.n, false, NULL), DRR_OK);
    assert_true(p.a > 0);
    sample_clear(&s);
}

static void a_weight_counts_as_that_many_rows(void **state)
{
    (void)state;
    const double x[] = {-1, 0.5, 1, 2, 1}, weights[] = {1, 1, 2, 1};
    const uint8_t labels[] = {0, 1, 0, 1, 0};
    for (int offset = 0; offset < 2; offset++) {
        platt a, b;
        assert_int_equal(line_fit(&a, x, labels, weights, 4, offset, NULL), DRR_OK);
        assert_int_equal(line_fit(&b, x, labels, NULL, 5, offset, NULL), DRR_OK);
        near(a.a, b.a, 1e-6);
        near(a.b, b.b, 1e-6);
    }
}

/* ---- picking */

static calibration_kind picked(const sample *s, calibration_kind first, double loss[CALIBRATION_KINDS])
{
    calibration c;
    assert_int_equal(calibration_choose(&c, loss, first, s->x, s->labels, NULL, s->folds, FOLDS, s->n, NULL), DRR_OK);
    for (int kind = 0; kind < CALIBRATION_KINDS; kind++)
        assert_true(kind < (int)first ? isnan(loss[kind]) : loss[kind] > 0);
    return calibration_kind_of(&c);
}

static void what_made_the_labels_is_picked(void **state)
{
    (void)state;
    const struct {
        double (*truth)(double);
        calibration_kind kind;
    } cases[] = {{honest, CALIBRATION_NONE},
                 {hot, CALIBRATION_TEMPERATURE},
                 {shifted, CALIBRATION_PLATT},
                 {stepped, CALIBRATION_ISOTONIC}};
    for (size_t i = 0; i < 4; i++) {
        double loss[CALIBRATION_KINDS];
        sample s = drawn(LARGE, 1, cases[i].truth, 4);
        const calibration_kind kind = picked(&s, CALIBRATION_NONE, loss);
        print_message("none %.5f, temperature %.5f, Platt %.5f, isotonic %.5f\n", loss[0], loss[1], loss[2], loss[3]);
        assert_int_equal(kind, cases[i].kind);
        sample_clear(&s);
    }
    double loss[CALIBRATION_KINDS];
    sample s = drawn(LARGE, 1, hot, 4);
    assert_int_equal(picked(&s, CALIBRATION_TEMPERATURE, loss), CALIBRATION_TEMPERATURE);
    sample_clear(&s);
}

/* Eight rows of each question, all alike: with rows of a question in two folds a curve would know its held-out rows by
 * heart. On its own rows it is the best of all; held out by question it is not picked. */
static void a_curve_does_not_win_by_memory(void **state)
{
    (void)state;
    size_t isotonic = 0;
    double memory = 0, fair = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        double loss[CALIBRATION_KINDS], own[2] = {0};
        sample s = drawn(60, 8, shifted, seed);
        isotonic += picked(&s, CALIBRATION_TEMPERATURE, loss) == CALIBRATION_ISOTONIC;
        fair += loss[CALIBRATION_ISOTONIC] - loss[CALIBRATION_PLATT];
        for (int k = 0; k < 2; k++) {
            calibration c;
            const calibration_kind kind = k ? CALIBRATION_ISOTONIC : CALIBRATION_PLATT;
            assert_int_equal(calibration_fit(&c, kind, s.x, s.labels, NULL, s.n, NULL), DRR_OK);
            for (size_t i = 0; i < s.n; i++)
                own[k] -= log(s.labels[i] ? calibration_apply(&c, s.x[i]) : 1 - calibration_apply(&c, s.x[i]));
        }
        memory += own[1] - own[0];
        sample_clear(&s);
    }
    print_message("isotonic less Platt: %.3f nats on its own rows, %.3f held out; picked %zu of 20\n",
                  memory / 20 / 480, fair / 20, isotonic);
    assert_true(memory < 0); /* on the rows that it was fitted on, it always looks best */
    assert_true(fair > 0);
    assert_true(isotonic <= 2);
}

static void with_an_empty_fold_nothing_is_picked(void **state)
{
    (void)state;
    double loss[CALIBRATION_KINDS];
    calibration c;
    sample s = drawn(30, 1, shifted, 5);
    memset(s.folds, 0, s.n);
    assert_int_equal(calibration_choose(&c, loss, CALIBRATION_NONE, s.x, s.labels, NULL, s.folds, FOLDS, s.n, NULL),
                     DRR_OK);
    assert_int_equal(calibration_kind_of(&c), CALIBRATION_NONE);
    assert_true(isnan(loss[CALIBRATION_PLATT]));
    sample_clear(&s);
}

/* ---- in a critic */

static void a_critic_gives_the_probability_that_its_calibration_says(void **state)
{
    (void)state;
    drr_features f;
    drr_features_defaults(&f);
    critic_meta m = {.calibration = {0.5, -1}, .has_stack = true};
    m.stack.n = 1; /* the text's logit */
    m.stack.scale[0] = 1;
    m.stack.weight[0] = 2;
    near(critic_meta_p(&m, 1.5, NULL), sigmoid(-0.25), 1e-12);
    near(critic_meta_p(&m, 1.5, &f), sigmoid(3), 1e-12);
    m.has_stack_calibration = true;
    m.stack_calibration.line = (platt){0.5, 1};
    near(critic_meta_p(&m, 1.5, &f), sigmoid(2.5), 1e-12);
    m.stack_calibration.steps = (curve){2, {0, 4}, {0.2, 0.6}};
    near(critic_meta_p(&m, 1.5, &f), 0.5, 1e-12);
    near(critic_meta_p(&m, 1.5, NULL), sigmoid(-0.25), 1e-12);
    m.text_curve = (curve){2, {1, 2}, {0.3, 0.5}};
    near(critic_meta_p(&m, 1.5, NULL), 0.4, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_curve_is_the_one_that_brute_force_finds),
        cmocka_unit_test(the_order_of_the_rows_is_nothing_to_the_curve),
        cmocka_unit_test(a_curve_rises_between_its_knots_and_is_level_beyond),
        cmocka_unit_test(parted_and_single_classes_stay_off_0_and_1),
        cmocka_unit_test(a_fine_curve_is_thinned_and_still_rises),
        cmocka_unit_test(a_temperature_is_found_and_never_turns_the_order_round),
        cmocka_unit_test(a_weight_counts_as_that_many_rows),
        cmocka_unit_test(what_made_the_labels_is_picked),
        cmocka_unit_test(a_curve_does_not_win_by_memory),
        cmocka_unit_test(with_an_empty_fold_nothing_is_picked),
        cmocka_unit_test(a_critic_gives_the_probability_that_its_calibration_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
