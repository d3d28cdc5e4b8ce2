/* test_loop_probe.c: drr with a critic that is a probe: it judges by the hidden states that the reasoner hands it (here
 * recorded ones), refuses those of another model or layer, and says when there are none. */
#include "critic_fixture.h"

#include <math.h>

enum { WIDTH = 4 };
static char warned[1024];

static void hear(void *user, drr_log_level level, const char *message)
{
    (void)user;
    if (level == DRR_LOG_WARN)
        snprintf(warned, sizeof warned, "%s", message);
}
static const drr_hooks hooks = {.log = hear};

/* P = sigmoid(the first value of the last layer at the answer's token). */
static void write_probe(const char *reasoner, uint32_t layer)
{
    critic_meta m = small_meta(false);
    drr_error err = {0};
    m.no_encoder = true;
    m.threshold = 0.5;
    m.calibration = (platt){1, 0};
    m.has_stack = true;
    while (stack_feature_name(m.stack.n)) {
        m.stack.scale[m.stack.n] = 1;
        m.stack.weight[m.stack.n] = strcmp(stack_feature_name(m.stack.n), "probe_logit") == 0;
        m.stack.n++;
    }
    m.probe = (probe_model){.reasoner = string_copy(reasoner),
                            .layer = layer,
                            .width = WIDTH,
                            .n_pools = 1,
                            .pools = {HIDDEN_ANSWER},
                            .weight = calloc(WIDTH, sizeof(double))};
    m.probe.weight[0] = 1;
    for (size_t i = 0; i < PROBE_STATISTICS; i++)
        m.probe.scale[i] = 1;
    if (critic_write(at("probe.gguf"), NULL, NULL, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
}

/* Two answers to one question: 8, of which the model thinks -3, and 7, of which it thinks 2. */
static void write_answers(bool hidden)
{
    static const hidden_layers layers = {1, {HIDDEN_LAST}};
    static const float thoughts[] = {-3, 2};
    FILE *file = fopen(at("answers.jsonl"), "w");
    assert_non_null(file);
    for (int i = 0; i < 2; i++) {
        const uint16_t row[WIDTH] = {half_of(thoughts[i])};
        void *data = NULL;
        size_t size = 0;
        assert_int_equal(hidden_pack(&data, &size, &layers, WIDTH, row, 1, 0, NULL), DRR_OK);
        char *text = hidden_to_text(data, size);
        fprintf(file, "{\"question\":\"one?\",\"text\":\"Answer: %d\",\"reasoner\":\"a@1\"", i ? 7 : 8);
        fprintf(file, hidden ? ",\"hidden\":\"%s\"}\n" : "}\n", text);
        free(text);
        free(data);
    }
    fclose(file);
}

static drr_status solve(drr_result *result, drr_error *err)
{
    static const drr_task task = {.task = "t", .id = "1", .question = "one?", .answer = "7", .kind = DRR_KIND_NUMBER};
    const drr_task *tasks[] = {&task};
    drr_reasoner *reasoner = NULL;
    drr_critic *critic = NULL;
    drr_prompts *prompts = NULL;
    drr_policy policy;
    warned[0] = '\0';
    assert_int_equal(drr_reasoner_open(&reasoner, at("answers.jsonl"), NULL, NULL), DRR_OK);
    assert_int_equal(drr_critic_open(&critic, at("probe.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    drr_policy_defaults(&policy);
    policy.strategy = DRR_STRATEGY_BEST_OF_N;
    policy.samples = 2;
    const drr_status status = drr_solve(result, reasoner, critic, prompts, tasks, 1, &policy, NULL, NULL, &hooks, err);
    drr_reasoner_close(reasoner);
    drr_critic_close(critic);
    drr_prompts_free(prompts);
    return status;
}

static void answers_are_judged_by_what_was_thought(void **state)
{
    (void)state;
    drr_result r = {0};
    drr_error err = {0};
    write_answers(true);
    write_probe("a@1", HIDDEN_LAST);
    if (solve(&r, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_string_equal(r.answer, "7");
    assert_int_equal(r.n_turns, 2);
    for (size_t i = 0; i < 2; i++) {
        const double thought = strcmp(r.turns[i].answer, "7") == 0 ? 2 : -3;
        assert_true(fabs(r.turns[i].probe - thought) < 1e-6);
        assert_true(fabs(r.turns[i].logit - thought) < 1e-6);
        assert_true(fabs(r.turns[i].p_correct - 1 / (1 + exp(-thought))) < 1e-6);
    }
    assert_string_equal(warned, "");
    drr_result_clear(&r);
}

static void those_of_another_model_or_layer_are_refused(void **state)
{
    (void)state;
    drr_result r = {0};
    drr_error err = {0};
    write_answers(true);
    write_probe("a@2", HIDDEN_LAST);
    assert_int_equal(solve(&r, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "hidden states of a@2"));
    write_probe("a@", HIDDEN_LAST); /* the beginning of a name is not the name */
    assert_int_equal(solve(&r, &err), DRR_E_MISMATCH);
    write_probe("a@1", 3);
    assert_int_equal(solve(&r, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "layer 3"));
}

static void where_there_are_none_it_says_so_and_goes_on(void **state)
{
    (void)state;
    drr_result r = {0};
    drr_error err = {0};
    write_answers(false);
    write_probe("another@model", 3);
    if (solve(&r, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_non_null(strstr(warned, "gives none"));
    assert_non_null(strstr(warned, "another@model (layer 3)"));
    assert_int_equal(r.n_turns, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(isnan(r.turns[i].probe));
        assert_true(fabs(r.turns[i].p_correct - 0.5) < 1e-9); /* what is not known says nothing */
    }
    drr_result_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_judged_by_what_was_thought),
        cmocka_unit_test(those_of_another_model_or_layer_are_refused),
        cmocka_unit_test(where_there_are_none_it_says_so_and_goes_on),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
