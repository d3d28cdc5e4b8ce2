/* test_parity_export.c: what `drr critic export` writes is for transformers the same model: AutoTokenizer gives the
 * same ids, AutoModelForSequenceClassification the same logit, whether or not the second segment is numbered 1. The
 * encoder is all-MiniLM-L6-v2 with a head drawn at random; score_pairs.py is run by the Python of DRR_PARITY_PYTHON or
 * the cache's venv-parity. */
#include "../unit/critic_fixture.h"
#include "core/json.h"

#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static char encoder_folder[4096], python[4300];

static const drr_score_item pairs[] = {
    {"A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?",
     "Banks need security, and a revolving door slows people down.\nAnswer: A", NULL},
    {"What is 1,234.5 + 7?", "1,234.5 + 7 = 1241.5, so the answer is 1241.5.", NULL},
    {"Caf\xC3\xA9 in 'Z\xC3\xBCrich'?", "Yes \xE2\x80\x94 na\xC3\xAFve; don't (ask) #1 \xE4\xB8\xAD\xE6\x96\x87", NULL},
    {"q", "a", NULL},
};
enum { N_PAIRS = sizeof pairs / sizeof *pairs };

static drr_critic *make_critic(void)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_critic *critic = NULL;
    drr_error err = {0};
    rng r;
    const critic_meta meta = {.max_length = 256, .threshold = 0.5, .calibration = {1, 0}};
    if (encoder_open_hf(&e, &w, NULL, encoder_folder, 7, &err) != DRR_OK)
        fail_msg("%s", err.message);
    rng_seed(&r, 11);
    for (const encoder_tensor *t = encoder_find(e, "cls.weight"); t < e->tensors + e->n_tensors; t++)
        for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
            e->parameters[t->offset + i] = 0.3f * (float)rng_normal(&r);
    if (critic_write(at("critic.gguf"), e, w, &meta, &err) != DRR_OK ||
        drr_critic_open(&critic, at("critic.gguf"), &err) != DRR_OK ||
        drr_critic_export(critic, folder, &err) != DRR_OK)
        fail_msg("%s", err.message);
    encoder_free(e);
    wordpiece_free(w);
    return critic;
}

static void write_pairs(void)
{
    buffer lines = {0};
    for (size_t i = 0; i < N_PAIRS; i++) {
        json_t *row = json_pack("{s:s, s:s}", "question", pairs[i].question, "text", pairs[i].text);
        char *text = json_dumps(row, 0);
        assert_int_equal(buffer_printf(&lines, NULL, "%s\n", text), DRR_OK);
        free(text);
        json_decref(row);
    }
    put_file(at("pairs.jsonl"), lines.data, lines.size);
    buffer_clear(&lines);
}

static void run_transformers(void)
{
    char script[] = DRR_SOURCE_DIR "/tests/parity/score_pairs.py";
    char *const arguments[] = {python, script, folder, NULL};
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, python, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void compare_ids(const wordpiece *w, const drr_score_item *pair, json_t *expected)
{
    int32_t ids[256];
    size_t n = 0;
    assert_int_equal(wordpiece_encode_pair(w, pair->question, pair->text, 256, ids, &n, NULL, NULL), DRR_OK);
    assert_int_equal(json_array_size(expected), n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(json_integer_value(json_array_get(expected, i)), ids[i]);
}

static void an_exported_critic_has_the_same_logits_in_transformers(void **state)
{
    (void)state;
    drr_critic *critic = make_critic();
    drr_score scores[N_PAIRS];
    line_reader *lines = NULL;
    char *line;
    size_t length;
    double worst = 0;
    write_pairs();
    run_transformers();
    assert_int_equal(drr_critic_score(critic, scores, pairs, N_PAIRS, NULL), DRR_OK);
    assert_int_equal(lines_open(&lines, at("logits.jsonl"), NULL), DRR_OK);
    for (size_t i = 0; i < N_PAIRS; i++) {
        json_t *row = NULL;
        assert_int_equal(lines_next(lines, &line, &length, NULL), DRR_OK);
        assert_int_equal(json_parse(&row, line, length, "logits.jsonl", NULL), DRR_OK);
        compare_ids(critic_wordpiece(critic), &pairs[i], json_object_get(row, "ids"));
        const double plain = fabs(scores[i].logit - json_number_or(row, "logit", NAN));
        const double with_types = fabs(scores[i].logit - json_number_or(row, "logit_with_types", NAN));
        assert_true(plain < 2e-5 && with_types < 2e-5); /* not so for NaN, which fmax would pass over */
        worst = fmax(worst, fmax(plain, with_types));
        print_message("drr %.6f, transformers %.6f\n", scores[i].logit, json_number_or(row, "logit", NAN));
        json_decref(row);
    }
    print_message("largest difference %.1e\n", worst);
    lines_close(lines);
    drr_critic_close(critic);
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_PARITY_PYTHON");
    drr_error err = {0};
    if (drr_cache_path(encoder_folder, sizeof encoder_folder, "all-minilm-l6-v2", &err) != DRR_OK) {
        print_message("skipped: %s\n", err.message);
        return 77;
    }
    snprintf(python, sizeof python, "%s/../../venv-parity/bin/python", encoder_folder);
    if (chosen && *chosen)
        snprintf(python, sizeof python, "%s", chosen);
    if (access(python, X_OK) == 0)
        return 0;
    print_message("skipped: no Python with transformers: DRR_PARITY_PYTHON names one\n");
    return 77;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_exported_critic_has_the_same_logits_in_transformers, make_place,
                                        remove_place),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
