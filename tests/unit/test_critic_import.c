/* test_critic_import.c: a critic goes to Hugging Face's files and back whole; a model of another program comes in
 * without what is not known of it; a drr.json that says what cannot be is refused. */
#include "core/json.h"
#include "critic_fixture.h"

#include <math.h>

/* A critic with all that one can have, of which nothing may be lost on the way. */
static critic_meta whole_meta(void)
{
    critic_meta m = small_meta(true);
    m.n_train_questions = 4711;
    m.text_curve = (curve){3, {-1.5, 0, 1.0 / 3}, {0.1, 0.1, 0.7}};
    m.has_stack_calibration = true;
    m.stack_calibration = (calibration){{1.0 / 7, -0.1}, {2, {-2, 2}, {0.2, 0.9}}};
    m.n_guarantees = 2;
    for (uint32_t i = 0; i < 2; i++)
        m.guarantees[i] = (drr_guarantee){.found = true,
                                          .turns = 1 + 2 * i,
                                          .target_error = 0.1,
                                          .delta = 0.05,
                                          .threshold = 1.0 / (3 + i),
                                          .test = i ? DRR_RISK_BINOMIAL : DRR_RISK_HOEFFDING_BENTKUS,
                                          .temperature = i ? NAN : 0.7,
                                          .n = 100,
                                          .n_accepted = 60 + i,
                                          .n_wrong = 2,
                                          .p_value = 0.01 + 1e-17 * i,
                                          .bound = 0.09};
    return m;
}

static void round_trip(const char *from, const char *through, const char *to)
{
    drr_critic *critic = NULL;
    bool foreign = true;
    drr_error err = {0};
    if (drr_critic_open(&critic, from, &err) != DRR_OK || drr_critic_export(critic, through, &err) != DRR_OK ||
        drr_critic_import(through, to, &foreign, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_false(foreign);
    drr_critic_close(critic);
}

static void an_exported_critic_is_imported_whole(void **state)
{
    (void)state;
    encoder *e = small_encoder(5);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = whole_meta();
    const encoder_tensor *types = encoder_find(e, "token_types.weight");
    for (size_t i = 0; i < e->shape.n_embd; i++) /* what an export makes of the second type */
        e->parameters[types->offset + e->shape.n_embd + i] = e->parameters[types->offset + i];
    assert_int_equal(critic_write(at("critic.gguf"), e, w, &m, NULL), DRR_OK);
    round_trip(at("critic.gguf"), at("hf"), at("again.gguf"));
    assert_same_files(at("critic.gguf"), at("again.gguf"));
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

static void import_folder(drr_status expected, bool foreign, const char *words)
{
    bool told = !foreign;
    drr_error err = {0};
    assert_int_equal(drr_critic_import(at("hf"), at("imported.gguf"), &told, &err), expected);
    if (expected == DRR_OK)
        assert_int_equal(told, foreign);
    else if (!strstr(err.message, words) || file_exists(at("imported.gguf")))
        fail_msg("\"%s\" is not in: %s", words, err.message);
}

static void a_strange_model_is_imported_without_what_is_not_known(void **state)
{
    (void)state;
    drr_critic *critic = NULL;
    drr_critic_info info;
    drr_score before, after;
    const drr_score_item item = {"a", "un", NULL};
    encoder *e = small_encoder(5);
    write_small(at("critic.gguf"), e, true);
    assert_int_equal(drr_critic_open(&critic, at("critic.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_score(critic, &before, &item, 1, NULL), DRR_OK);
    drr_critic_close(critic);
    assert_int_equal(unlink(at("hf/drr.json")), 0);
    import_folder(DRR_OK, true, "");
    assert_int_equal(drr_critic_open(&critic, at("imported.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_score(critic, &after, &item, 1, NULL), DRR_OK);
    drr_critic_describe(critic, &info);
    assert_true(before.logit == after.logit);
    assert_true(fabs(after.p_correct - 1 / (1 + exp(-after.logit))) < 1e-12);
    assert_string_equal(info.name, "imported");
    assert_int_equal(info.max_length, 16);
    assert_false(info.has_stack);
    drr_critic_close(critic);
    encoder_free(e);
}

/* One member replaced at a time. */
static void a_drr_json_that_says_what_cannot_be_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"threshold", "\"high\"", "threshold"},
        {"max_length", "-1", "max_length"},
        {"max_length", "1.5", "max_length"},
        {"n_train_traces", "null", "n_train_traces"},
        {"n_train_beginnings", "-1", "n_train_beginnings"},
        {"calibration", "3", "calibration"},
        {"calibration", "{\"a\": 1}", "\"b\""},
        {"calibration", "{\"a\": 1, \"b\": 0, \"x\": [1], \"y\": []}", "1 values"},
        {"calibration", "{\"a\": 1, \"b\": 0, \"x\": [2, 1], \"y\": [0.1, 0.2]}", "curve"},
        {"stack", "{\"bias\": 0, \"features\": []}", "0 features"},
        {"stack", "{\"bias\": 0, \"features\": [{\"name\": \"luck\"}]}", "luck"},
        {"guarantees", "[{\"turns\": 1}]", "target_error"},
        {"guarantees", "[1, 2, 3]", "3 guarantees"}};
    drr_critic *critic = NULL;
    encoder *e = small_encoder(5);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = whole_meta();
    assert_int_equal(critic_write(at("critic.gguf"), e, w, &m, NULL), DRR_OK);
    assert_int_equal(drr_critic_open(&critic, at("critic.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_export(critic, at("hf"), NULL), DRR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *o = NULL, *was = NULL;
        json_error_t why;
        assert_int_equal(json_parse_file(&o, at("hf/drr.json"), NULL), DRR_OK);
        was = json_deep_copy(o);
        json_object_set_new(o, cases[i][0], json_loads(cases[i][1], JSON_DECODE_ANY, &why));
        assert_int_equal(json_dump_file(o, at("hf/drr.json"), 0), 0);
        bool foreign;
        drr_error err = {0};
        if (drr_critic_import(at("hf"), at("imported.gguf"), &foreign, &err) == DRR_OK)
            fail_msg("taken: \"%s\": %s", cases[i][0], cases[i][1]);
        if (!strstr(err.message, cases[i][2]) || file_exists(at("imported.gguf")))
            fail_msg("\"%s\" is not in: %s", cases[i][2], err.message);
        assert_int_equal(json_dump_file(was, at("hf/drr.json"), JSON_REAL_PRECISION(17)), 0);
        json_decref(o);
        json_decref(was);
    }
    import_folder(DRR_OK, false, ""); /* it was the members */
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
    drr_critic_close(critic);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(an_exported_critic_is_imported_whole),
        IN_A_PLACE(a_strange_model_is_imported_without_what_is_not_known),
        IN_A_PLACE(a_drr_json_that_says_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
