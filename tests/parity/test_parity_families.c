/* test_parity_families.c: RoBERTa and ModernBERT as transformers computes them, from the same folder: ids, logits,
 * gradients; and the way of such a critic through its file, Hugging Face's files and back. The models are tiny and
 * random (family_fixture.h). */
#include "parity/family_fixture.h"
#include "train/train.h"

/* A gradient that is 0 but for rounding has no direction: that of the key biases, which softmax takes out. */
static const double NOTHING = 1e-6; /* of the whole gradient's norm */

/* ---- ids */

static void compare_pairs(const wordpiece *w)
{
    for (size_t i = 0; i < n_pairs; i++) {
        int32_t own[LONGEST];
        size_t n = 0;
        bool truncated = true;
        assert_int_equal(wordpiece_encode_pair(w, pairs[i].question, pairs[i].text, LONGEST, own, &n, &truncated, NULL),
                         DRR_OK);
        assert_false(truncated);
        assert_int_equal(n, pairs[i].n);
        assert_memory_equal(own, pairs[i].ids, n * sizeof *own);
    }
}

static size_t compare_odd(const wordpiece *w, size_t *n_ids)
{
    line_reader *lines = NULL;
    char *line;
    size_t length, n_texts = 0;
    assert_int_equal(lines_open(&lines, at("model/odd.jsonl"), NULL), DRR_OK);
    for (; lines_next(lines, &line, &length, NULL) == DRR_OK; n_texts++) {
        json_t *row = NULL;
        int32_t *ids = NULL;
        size_t n = 0;
        assert_int_equal(json_parse(&row, line, length, "odd.jsonl", NULL), DRR_OK);
        const char *text = json_string_or(row, "text", NULL);
        json_t *expected = json_object_get(row, "ids");
        assert_int_equal(wordpiece_encode(w, text, &ids, &n, NULL), DRR_OK);
        for (size_t i = 0; i < n || i < json_array_size(expected); i++)
            if (i >= n || ids[i] != json_integer_value(json_array_get(expected, i)))
                fail_msg("of %zu ids and %zu the first to differ is %zu in the text %s", n, json_array_size(expected),
                         i, text);
        *n_ids += n;
        free(ids);
        json_decref(row);
    }
    lines_close(lines);
    return n_texts;
}

static void ids_are_those_of_transformers(void **state)
{
    (void)state;
    wordpiece *w = NULL;
    size_t n_ids = 0;
    encoder_free(open_model("model", &w));
    compare_pairs(w);
    const size_t n_texts = compare_odd(w, &n_ids);
    print_message("%zu pairs, %zu odd texts of %zu ids\n", n_pairs, n_texts, n_ids);
    assert_true(n_texts > 100 && n_ids > 10000);
    wordpiece_free(w);
}

static void vocab_json_and_merges_txt_say_the_same(void **state)
{
    (void)state;
    wordpiece *w = NULL;
    size_t n_ids = 0;
    encoder_free(open_model("model/plain", &w));
    compare_pairs(w);
    compare_odd(w, &n_ids);
    wordpiece_free(w);
}

/* What does not fit is cut: the question keeps half the room, the text its end. */
static void a_pair_that_is_too_long_keeps_the_end_of_the_text(void **state)
{
    (void)state;
    wordpiece *w = NULL;
    encoder_free(open_model("model", &w));
    for (size_t i = 0; i < n_pairs; i++) {
        int32_t own[LONGEST];
        size_t n = 0;
        bool truncated = false;
        const size_t room = pairs[i].n - 1;
        if (room < 8)
            continue;
        assert_int_equal(wordpiece_encode_pair(w, pairs[i].question, pairs[i].text, room, own, &n, &truncated, NULL),
                         DRR_OK);
        assert_true(truncated);
        assert_int_equal(n, room);
        assert_int_equal(own[0], pairs[i].ids[0]);
        assert_int_equal(own[n - 1], pairs[i].ids[pairs[i].n - 1]);
    }
    wordpiece_free(w);
}

/* ---- logits */

static void pack(examples *texts, size_t n)
{
    *texts = (examples){0};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(examples_add(texts, pairs[i].ids, pairs[i].n, pairs[i].label, NULL), DRR_OK);
}

static void logits_are_those_of_transformers(void **state)
{
    (void)state;
    encoder *e = open_model("model", NULL);
    examples texts;
    float logits[MOST_PAIRS];
    double farthest = 0, low = INFINITY, high = -INFINITY;
    pack(&texts, n_pairs);
    assert_int_equal(examples_logits(e, &texts, 1024, logits, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < n_pairs; i++) {
        const double d = fabs((double)logits[i] - pairs[i].logit);
        farthest = d <= farthest ? farthest : d;
        low = fmin(low, pairs[i].logit);
        high = fmax(high, pairs[i].logit);
    }
    print_message("%zu logits from %.3f to %.3f: difference at most %.3g\n", n_pairs, low, high, farthest);
    assert_true(farthest <= 1e-4);
    assert_true(high - low > 0.5); /* else the figure above would say little */
    examples_clear(&texts);
    encoder_free(e);
}

/* ---- gradients */

static float *gradients_of(const encoder *e)
{
    encoder_tape *tape = NULL;
    int32_t *ids = calloc((size_t)BATCH * LONGEST, sizeof *ids);
    float *gradients = calloc(e->n_parameters, sizeof *gradients), logits[BATCH];
    uint32_t starts[BATCH + 1] = {0};
    uint8_t labels[BATCH];
    double loss = 0;
    assert_true(ids && gradients);
    for (size_t i = 0; i < BATCH; i++) {
        memcpy(ids + starts[i], pairs[i].ids, pairs[i].n * sizeof *ids);
        starts[i + 1] = starts[i] + (uint32_t)pairs[i].n;
        labels[i] = pairs[i].label;
    }
    assert_int_equal(encoder_tape_new(&tape, e, (size_t)BATCH * LONGEST, BATCH, LONGEST, NULL), DRR_OK);
    assert_int_equal(
        encoder_backward(e, tape, ids, starts, BATCH, labels, NULL, BATCH, NULL, gradients, logits, &loss, NULL),
        DRR_OK);
    encoder_tape_free(tape);
    free(ids);
    return gradients;
}

static void gradients_are_those_of_torch(void **state)
{
    (void)state;
    encoder *e = open_model("model", NULL), *expected = open_model("model/gradient", NULL);
    float *own = gradients_of(e);
    const double all = gradient_norm(expected->parameters, e->n_parameters);
    double farthest = 0;
    size_t n_compared = 0;
    for (size_t i = 0; i < e->n_tensors; i++) {
        const encoder_tensor *t = &e->tensors[i];
        double d2 = 0, a2 = 0, b2 = 0;
        for (size_t k = t->offset; k < t->offset + (size_t)t->rows * t->columns; k++) {
            const double a = (double)own[k], b = (double)expected->parameters[k];
            d2 += (a - b) * (a - b);
            a2 += a * a;
            b2 += b * b;
        }
        if (sqrt(b2) < NOTHING * all) {
            assert_non_null(strstr(t->name, "attn_k.bias"));
            assert_true(sqrt(a2) < NOTHING * all);
            continue;
        }
        n_compared++;
        if (!(sqrt(d2 / b2) <= 1e-4))
            fail_msg("the gradient of %s differs by %.3g", t->name, sqrt(d2 / b2));
        farthest = fmax(farthest, sqrt(d2 / b2));
    }
    print_message("gradients of %zu tensors: relative difference at most %.3g\n", n_compared, farthest);
    assert_true(n_compared + e->shape.n_layers >= e->n_tensors);
    free(own);
    encoder_free(expected);
    encoder_free(e);
}

/* ---- files */

static void a_critic_file_keeps_all_of_it(void **state)
{
    (void)state;
    encoder *e = open_model("model", NULL);
    size_t n_ids = 0;
    write_critic_of("model", at("critic.gguf"));
    drr_critic *critic = open_critic(at("critic.gguf"));
    assert_same_parameters(critic_encoder(critic), e);
    assert_memory_equal(&critic_encoder(critic)->shape, &e->shape, sizeof e->shape);
    compare_pairs(critic_wordpiece(critic));
    compare_odd(critic_wordpiece(critic), &n_ids);
    for (size_t i = 0; i < n_pairs; i++) {
        const drr_score_item item = {pairs[i].question, pairs[i].text, NULL};
        drr_score score;
        assert_int_equal(drr_critic_score(critic, &score, &item, 1, NULL), DRR_OK);
        assert_true(fabs(score.logit - pairs[i].logit) <= 1e-4);
    }
    drr_critic_close(critic);
    encoder_free(e);
}

static void an_exported_critic_is_the_same_model_and_comes_back(void **state)
{
    (void)state;
    char script[] = DRR_SOURCE_DIR "/tests/parity/score_pairs.py", out[256];
    line_reader *lines = NULL;
    char *line;
    size_t length;
    bool foreign = true;
    drr_error err = {0};
    write_critic_of("model", at("critic.gguf"));
    drr_critic *critic = open_critic(at("critic.gguf"));
    if (drr_critic_export(critic, at("hf"), &err) != DRR_OK ||
        drr_critic_import(at("hf"), at("again.gguf"), &foreign, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_false(foreign);
    assert_same_files(at("critic.gguf"), at("again.gguf"));
    snprintf(out, sizeof out, "%s", at("hf"));
    char *const copy[] = {"/bin/cp", (char *)(uintptr_t)at("model/pairs.jsonl"), out, NULL};
    char *const score[] = {python, script, out, NULL};
    assert_int_equal(run(copy), 0);
    assert_int_equal(run(score), 0);
    assert_int_equal(lines_open(&lines, at("hf/logits.jsonl"), NULL), DRR_OK);
    for (size_t i = 0; i < n_pairs; i++) {
        json_t *row = NULL;
        assert_int_equal(lines_next(lines, &line, &length, NULL), DRR_OK);
        assert_int_equal(json_parse(&row, line, length, "logits.jsonl", NULL), DRR_OK);
        json_t *ids = json_object_get(row, "ids");
        if (!strstr(pairs[i].text, "<s>") && !strstr(pairs[i].text, "[SEP]") && !strstr(pairs[i].question, "<s>") &&
            !strstr(pairs[i].question, "[SEP]")) { /* there the name of a special token is that token */
            assert_int_equal(json_array_size(ids), pairs[i].n);
            for (size_t k = 0; k < pairs[i].n; k++)
                assert_int_equal(json_integer_value(json_array_get(ids, k)), pairs[i].ids[k]);
            assert_true(fabs(json_number_or(row, "logit", NAN) - pairs[i].logit) <= 1e-4);
        }
        json_decref(row);
    }
    lines_close(lines);
    drr_critic_close(critic);
}

/* A folder of an encoder without a head, as a pre-trained one is, is trained; its critic's file opens and scores. */
static void an_encoder_of_the_family_is_trained(void **state)
{
    (void)state;
    const char *shared = getenv("DRR_SHARED"), *program = getenv("DRR_DRR");
    char traces[4200], drr[4200], encoder_folder[256], out[256];
    snprintf(traces, sizeof traces, "%s/traces/svamp.replay.jsonl.gz",
             shared && *shared ? shared : DRR_SOURCE_DIR "/../shared");
    if (!program || !file_exists(traces)) {
        print_message("skipped: DRR_DRR names no drr, or there are no shared traces\n");
        skip();
    }
    snprintf(drr, sizeof drr, "%s", program);
    snprintf(encoder_folder, sizeof encoder_folder, "%s", at("model"));
    snprintf(out, sizeof out, "%s", at("trained.gguf"));
    char *const arguments[] = {drr,         "train", "--traces", traces, "--encoder",       encoder_folder,
                               "--out",     out,     "--epochs", "1",    "--max-questions", "60",
                               "--threads", "2",     "--quiet",  NULL};
    assert_int_equal(run(arguments), 0);
    drr_critic *critic = open_critic(at("trained.gguf"));
    const drr_score_item item = {pairs[0].question, pairs[0].text, NULL};
    drr_score score;
    assert_int_equal(drr_critic_score(critic, &score, &item, 1, NULL), DRR_OK);
    assert_true(score.p_correct > 0 && score.p_correct < 1);
    assert_true(fabs(score.logit - pairs[0].logit) > 1e-4); /* it has learnt something */
    drr_critic_close(critic);
}

static int test_family(const char *family, const struct CMUnitTest *tests, size_t n)
{
    const int made = make_family(family);
    if (made != 0) {
        remove_place(NULL);
        return made;
    }
    print_message("%s\n", family);
    const int failed = _cmocka_run_group_tests(family, tests, n, NULL, NULL);
    drop_family(NULL);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_transformers),
        cmocka_unit_test(a_pair_that_is_too_long_keeps_the_end_of_the_text),
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(gradients_are_those_of_torch),
        cmocka_unit_test(a_critic_file_keeps_all_of_it),
        cmocka_unit_test(an_exported_critic_is_the_same_model_and_comes_back),
        cmocka_unit_test(an_encoder_of_the_family_is_trained),
        cmocka_unit_test(vocab_json_and_merges_txt_say_the_same), /* which only RoBERTa's folders have */
    };
    static const char *const families[] = {"roberta", "modernbert", "modernbert-mean"};
    const size_t n = sizeof tests / sizeof *tests;
    const int missing = find_python();
    int worst = missing;
    for (size_t i = 0; !missing && i < sizeof families / sizeof *families; i++) {
        const int result = test_family(families[i], tests, i == 0 ? n : n - 1);
        worst = worst == 0 || (worst == 77 && result) ? result : worst;
    }
    return worst;
}
