/* test_parity_tools.c: llama.cpp's own programs score a critic's file as drr does: llama-server by /v1/rerank, and
 * llama-embedding with --pooling rank. test_parity_llama.c asks its library the same, and says where a difference comes
 * from. The programs are those that `tools/setup llama-tools` builds; DRR_LLAMA_TOOLS names another folder. */
#include "pairs.h"

static char tools[4096];

static void llama_server_and_llama_embedding_give_the_same_logits(void **state)
{
    (void)state;
    drr_critic *critic = make_pairs_critic();
    drr_score scores[N_PAIRS];
    write_pairs();
    char script[] = DRR_SOURCE_DIR "/tests/parity/score_llama.py", python[] = "/usr/bin/python3";
    run_program((char *const[]){python, script, folder, tools, NULL});
    assert_int_equal(drr_critic_score(critic, scores, pairs, N_PAIRS, NULL), DRR_OK);
    compare_logits(scores, "rerank", 1e-3);
    compare_logits(scores, "embedding", 1e-3);
    drr_critic_close(critic);
    free_pairs();
}

static bool has_program(const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", tools, name);
    return access(path, X_OK) == 0;
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_LLAMA_TOOLS");
    const int missing = find_pairs();
    if (missing)
        return missing;
    if (chosen && *chosen) {
        snprintf(tools, sizeof tools, "%s", chosen);
    } else {
        char prefix[4000] = "";
        FILE *asked = popen("'" DRR_SOURCE_DIR "/tools/setup' --offline prefix 2>&1", "r");
        if (!asked || !fgets(prefix, sizeof prefix, asked))
            *prefix = '\0';
        if (asked)
            pclose(asked);
        prefix[strcspn(prefix, "\n")] = '\0';
        snprintf(tools, sizeof tools, "%s/build/bin", prefix);
    }
    if (has_program("llama-server") && has_program("llama-embedding"))
        return 0;
    print_message("skipped: there is no llama-server and llama-embedding in %s: tools/setup llama-tools\n", tools);
    return 77;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(llama_server_and_llama_embedding_give_the_same_logits, make_place,
                                        remove_place),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
