/* test_parity_export.c: what `drr critic export` writes is for others the same model: AutoTokenizer gives the same ids,
 * AutoModelForSequenceClassification and sentence-transformers' CrossEncoder the same logits, whether or not the second
 * segment is numbered 1. score_pairs.py is run by the Python of DRR_PARITY_PYTHON or the cache's venv-parity. */
#include "pairs.h"

static char python[4300];

static void compare_ids(const wordpiece *w)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    assert_int_equal(lines_open(&lines, at("logits.jsonl"), NULL), DRR_OK);
    for (size_t i = 0; i < N_PAIRS; i++) {
        int32_t ids[PAIR_TOKENS];
        json_t *row = NULL;
        size_t n = 0;
        assert_int_equal(lines_next(lines, &line, &length, NULL), DRR_OK);
        assert_int_equal(json_parse(&row, line, length, "logits.jsonl", NULL), DRR_OK);
        const json_t *expected = json_object_get(row, "ids");
        assert_int_equal(wordpiece_encode_pair(w, pairs[i].question, pairs[i].text, PAIR_TOKENS, ids, &n, NULL, NULL),
                         DRR_OK);
        assert_int_equal(json_array_size(expected), n);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(json_integer_value(json_array_get(expected, k)), ids[k]);
        json_decref(row);
    }
    lines_close(lines);
}

static void an_exported_critic_has_the_same_logits_in_transformers_and_sentence_transformers(void **state)
{
    (void)state;
    drr_critic *critic = make_pairs_critic();
    drr_score scores[N_PAIRS];
    drr_error err = {0};
    if (drr_critic_export(critic, at("hf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    write_pairs();
    char script[] = DRR_SOURCE_DIR "/tests/parity/score_pairs.py";
    run_program((char *const[]){python, script, folder, NULL});
    assert_int_equal(drr_critic_score(critic, scores, pairs, N_PAIRS, NULL), DRR_OK);
    compare_ids(critic_wordpiece(critic));
    compare_logits(scores, "logit", 1e-4);
    compare_logits(scores, "logit_with_types", 1e-4);
    compare_logits(scores, "cross_encoder", 1e-4);
    drr_critic_close(critic);
    free_pairs();
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_PARITY_PYTHON");
    const int missing = find_pairs();
    if (missing)
        return missing;
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
        cmocka_unit_test_setup_teardown(
            an_exported_critic_has_the_same_logits_in_transformers_and_sentence_transformers, make_place, remove_place),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
