/* test_parity_token_llama.c: llama.cpp has no head of tokens, and would read such a critic at [CLS]: so it must refuse
 * the file, by itself, and it does, while it loads the same encoder with a head of [CLS]. */
#include "../unit/critic_fixture.h"
#include "reasoner/llama_internal.h"

#include <llama.h>

static char said[4096];

static void hear(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    const size_t used = strlen(said);
    if (level == GGML_LOG_LEVEL_ERROR)
        snprintf(said + used, sizeof said - used, "%s", text);
}

static void write_critic(const char *path, drr_head head)
{
    const critic_meta meta = {.max_length = 16, .threshold = 0.5, .calibration = {1, 0}};
    const encoder_shape shape = {.n_layers = 2,
                                 .n_embd = 32,
                                 .n_heads = 2,
                                 .n_ff = 64,
                                 .n_vocab = N_SMALL_VOCABULARY,
                                 .n_positions = 16,
                                 .n_types = 2,
                                 .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    wordpiece *w = small_tokenizer(true);
    assert_int_equal(encoder_new_headed(&e, &shape, head, NULL), DRR_OK);
    assert_int_equal(critic_write(path, e, w, &meta, NULL), DRR_OK);
    wordpiece_free(w);
    encoder_free(e);
}

static bool loads(const char *path)
{
    said[0] = '\0';
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    llama_model_free(model);
    return model != NULL;
}

static void llama_refuses_a_head_that_it_cannot_compute(void **state)
{
    (void)state;
    write_critic(at("cls.gguf"), DRR_HEAD_CLS);
    write_critic(at("token.gguf"), DRR_HEAD_TOKEN);
    assert_int_equal(llama_runtime_start(NULL), DRR_OK);
    llama_log_set(hear, NULL);
    if (!loads(at("cls.gguf")))
        fail_msg("llama.cpp refuses a critic of [CLS] too: %s", said);
    assert_false(loads(at("token.gguf")));
    print_message("llama.cpp: %s", said);
    assert_non_null(strstr(said, "number of tensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(llama_refuses_a_head_that_it_cannot_compute, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
