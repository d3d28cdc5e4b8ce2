/* test_eval_folds.c: what a suite's critics of several folds need of a reasoner, whose figures go to which fold, and
 * what a report says of the ways that questions went. Training and judging by folds: tests/e2e/test_suite_folds.sh. */
#include "critic_fixture.h"
#include "eval/suite_internal.h"

#include <math.h>

static drr_critic *probe_of(uint32_t layer)
{
    critic_meta m = small_meta(false);
    drr_critic *critic = NULL;
    drr_error err = {0};
    m.no_encoder = true;
    m.threshold = 0.5;
    m.calibration = (platt){1, 0};
    m.has_stack = true;
    while (stack_feature_name(m.stack.n))
        m.stack.scale[m.stack.n++] = 1;
    m.probe = (probe_model){.reasoner = string_copy("a@1"),
                            .layer = layer,
                            .width = 4,
                            .n_pools = 1,
                            .pools = {HIDDEN_ANSWER},
                            .weight = calloc(4, sizeof(double))};
    for (size_t i = 0; i < PROBE_STATISTICS; i++)
        m.probe.scale[i] = 1;
    if (critic_write(at("probe.gguf"), NULL, NULL, &m, &err) != DRR_OK ||
        drr_critic_open(&critic, at("probe.gguf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    return critic;
}

static void a_reasoner_gives_every_layer_that_a_fold_s_probe_reads(void **state)
{
    (void)state;
    static const uint32_t read[] = {12, HIDDEN_LAST, 1, 12, HIDDEN_LAST};
    char layers[64];
    suite_folds f = {.as = {.n = 5}};
    hidden_layers parsed;
    for (size_t k = 0; k < 5; k++)
        f.critics[k] = probe_of(read[k]);
    suite_folds_layers(layers, &f);
    assert_string_equal(layers, "12,last,1"); /* 1 is not 12's beginning */
    assert_int_equal(hidden_layers_parse(&parsed, layers, NULL), DRR_OK);
    suite_folds_clear(&f);
    suite_folds_layers(layers, &f);
    assert_string_equal(layers, "");
}

static void figures_of_a_fold_are_those_of_its_questions(void **state)
{
    (void)state;
    uint32_t folds[] = {2, 1, 2, 3};
    drr_result results[] = {{.correct = 1, .n_tokens = 10},
                            {.correct = 0, .n_tokens = 4},
                            {.correct = 0, .n_tokens = 20},
                            {.correct = 1, .n_tokens = 1}};
    strategy_run run = {.name = "drr", .results = results};
    const comparison c = {.n = 4, .folds = folds, .runs = &run, .n_runs = 1};
    json_t *list = folds_json(&c, &(fold_critics){.n = 4}); /* the fourth has none here */
    const double accuracy[] = {0, 0.5, 1}, tokens[] = {4, 15, 1};
    assert_int_equal(json_array_size(list), 4);
    for (size_t k = 0; k < 4; k++) {
        json_t *o = json_array_get(list, k), *drr = json_object_get(json_object_get(o, "strategies"), "drr");
        assert_int_equal(json_integer_value(json_object_get(o, "fold")), k + 1);
        assert_int_equal(json_integer_value(json_object_get(o, "n")), k == 3 ? 0 : k == 1 ? 2 : 1);
        if (k == 3)
            assert_true(json_is_null(json_object_get(drr, "accuracy")));
        else
            assert_true(json_number_value(json_object_get(drr, "accuracy")) == accuracy[k] &&
                        json_number_value(json_object_get(drr, "mean_tokens")) == tokens[k]);
    }
    json_decref(list);
    buffer b = {0};
    assert_int_equal(folds_note(&b, &c, &run, NULL), DRR_OK);
    assert_string_equal(b.data, "drr by fold: 0.0 % of 1, 50.0 % of 2, 100.0 % of 1.");
    buffer_clear(&b);
}

static void ways_are_counted_by_how_they_ended(void **state)
{
    (void)state;
    drr_result results[] = {{.route = DRR_ROUTE_ONCE, .correct = 1, .n_tokens = 5},
                            {.route = DRR_ROUTE_ONCE, .correct = 0, .n_tokens = 6},
                            {.route = DRR_ROUTE_PARALLEL, .correct = 1, .n_tokens = 30},
                            {.route = DRR_ROUTE_ESCALATE, .correct = 1, .escalated = true, .n_tokens = 8},
                            {.route = DRR_ROUTE_ESCALATE, .correct = 0}, /* and there was nowhere to go */
                            {.route = DRR_ROUTE_ABSTAIN, .correct = 0}};
    strategy_run run = {.name = "drr", .results = results};
    buffer b = {0};
    assert_int_equal(routes_note(&b, &run, NULL), DRR_OK);
    assert_int_equal(b.size, 0); /* nothing measured, nothing said */
    routes_measure(&run, 6);
    assert_int_equal(routes_note(&b, &run, NULL), DRR_OK);
    assert_string_equal(b.data,
                        "Of the questions of drr, by the question alone, 2 were answered at once (1 right), 0 were "
                        "sought in sequence, 1 was sampled in parallel (1 right), 1 was escalated (1 right) and 2 "
                        "were left unanswered.");
    buffer_clear(&b);
    json_t *o = routes_json(&run);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "once"), "tokens")), 11);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "abstain"), "n")), 2);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reasoner_gives_every_layer_that_a_fold_s_probe_reads),
        cmocka_unit_test(figures_of_a_fold_are_those_of_its_questions),
        cmocka_unit_test(ways_are_counted_by_how_they_ended),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
