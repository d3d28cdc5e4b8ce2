/* test_parity_llama_families.c: llama.cpp loads a critic of RoBERTa or ModernBERT as a reranker, joins a pair into the
 * same ids as drr and computes the same logit. The models are tiny and random (family_fixture.h). */
#include "parity/family_fixture.h"
#include "parity/rerank.h"
#include "reasoner/llama_internal.h"

typedef struct loaded {
    struct llama_model *model;
    struct llama_context *context;
} loaded;

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR)
        print_message("%s", text);
}

static loaded load(void)
{
    struct llama_context_params p = llama_context_default_params();
    p.embeddings = true;
    p.n_ctx = p.n_batch = p.n_ubatch = LONGEST; /* pooling_type is left to the file */
    p.n_threads = p.n_threads_batch = 1;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; /* it keeps keys and values in half precision */
    write_critic_of("model", at("critic.gguf"));
    loaded l = {.model = llama_model_load_from_file(at("critic.gguf"), llama_model_default_params())};
    assert_non_null(l.model);
    l.context = llama_init_from_model(l.model, p);
    assert_non_null(l.context);
    assert_int_equal(llama_pooling_type(l.context), LLAMA_POOLING_TYPE_RANK);
    assert_int_equal(llama_model_n_cls_out(l.model), 1);
    assert_string_equal(llama_model_cls_label(l.model, 0), "accept");
    return l;
}

/* llama.cpp composes nothing. */
static bool has_marks(const char *text)
{
    return strstr(text, "\xCC\x81") || strstr(text, "\xE1\x84\x80");
}

static void llama_joins_and_scores_as_drr_does(void **state)
{
    (void)state;
    loaded l = load();
    double low = INFINITY, high = -INFINITY, farthest = 0;
    size_t n_same = 0;
    for (size_t i = 0; i < n_pairs; i++) {
        int32_t ids[2 * LONGEST];
        const double theirs = llama_logit(l.context, pairs[i].ids, pairs[i].n), d = fabs(theirs - pairs[i].logit);
        farthest = d <= farthest ? farthest : d;
        low = fmin(low, theirs);
        high = fmax(high, theirs);
        if (has_marks(pairs[i].question) || has_marks(pairs[i].text))
            continue;
        const size_t n = rerank_ids(l.model, 2 * LONGEST, pairs[i].question, pairs[i].text, ids);
        if (n != pairs[i].n || memcmp(ids, pairs[i].ids, n * sizeof *ids) != 0)
            fail_msg("llama.cpp joins \"%s\" and \"%s\" into other ids", pairs[i].question, pairs[i].text);
        n_same++;
    }
    print_message("%zu pairs with the same ids; %zu logits from %.3f to %.3f: difference at most %.2g\n", n_same,
                  n_pairs, low, high, farthest);
    assert_true(n_same > 50);
    assert_true(farthest < 1e-2); /* its GELU is a table of half precision */
    assert_true(high - low > 0.5);
    llama_free(l.context);
    llama_model_free(l.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(llama_joins_and_scores_as_drr_does)};
    static const char *const families[] = {"roberta", "modernbert", "modernbert-mean"};
    int worst = find_python();
    if (worst)
        return worst;
    if (llama_runtime_start(NULL) != DRR_OK)
        return 1;
    llama_log_set(quiet, NULL);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        int result = make_family(families[i]);
        if (result == 0)
            result = _cmocka_run_group_tests(families[i], tests, 1, NULL, NULL);
        drop_family(NULL);
        worst = worst == 0 || (worst == 77 && result) ? result : worst;
    }
    return worst;
}
