/* test_parity_llama.c: llama.cpp loads a critic's file as a reranker, joins a pair into the same ids as drr and
 * computes the same logit. The encoder is all-MiniLM-L6-v2 with a head drawn at random; a trained one has the same
 * layout. */
#include "critic/encoder_layers.h"
#include "critic/gguf.h"
#include "parity/rerank.h"
#include "reasoner/llama_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <llama.h>

#include <cmocka.h>

enum { MAX_LENGTH = 256 };

static const struct {
    const char *question, *text;
} pairs[] = {
    {"A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?",
     "Banks need security, and a revolving door slows people down.\nAnswer: A"},
    {"What is 1,234.5 + 7?", "1,234.5 + 7 = 1241.5, so the answer is 1241.5."},
    {"Caf\xC3\xA9 [SEP] in 'Z\xC3\xBCrich'?", "Yes \xE2\x80\x94 na\xC3\xAFve; don't (ask) #1 \xE4\xB8\xAD\xE6\x96\x87"},
    {"q", "a"},
};
enum { N_PAIRS = sizeof pairs / sizeof *pairs };

typedef struct fixture {
    char path[64];
    encoder *e;
    wordpiece *w;
    struct llama_model *model;
    struct llama_context *context;
} fixture;

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR)
        print_message("%s", text);
}

/* Larger than a new one is, so that the logits differ enough to be compared. */
static void enlarge_head(encoder *e)
{
    static const char *const names[] = {"cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"};
    rng r;
    rng_seed(&r, 11);
    for (size_t i = 0; i < 4; i++) {
        const encoder_tensor *t = encoder_find(e, names[i]);
        for (size_t k = 0; k < (size_t)t->rows * t->columns; k++)
            e->parameters[t->offset + k] = 0.05f * (float)rng_normal(&r);
    }
}

static int write_critic(fixture *f, const char *encoder_folder)
{
    drr_error err = {0};
    const critic_meta meta = {.max_length = MAX_LENGTH, .threshold = 0.5, .calibration = {1, 0}};
    char hex[65];
    critic_meta back = {0};
    encoder *written = NULL;
    wordpiece *tokenizer = NULL;
    drr_status status = encoder_open_hf(&written, &tokenizer, NULL, encoder_folder, 7, &err);
    if (status == DRR_OK) {
        enlarge_head(written);
        status = critic_write(f->path, written, tokenizer, &meta, &err);
    }
    if (status == DRR_OK)
        status = critic_read(f->path, &f->e, &f->w, &back, hex, &err);
    if (status != DRR_OK)
        print_message("%s\n", err.message);
    critic_meta_clear(&back);
    encoder_free(written);
    wordpiece_free(tokenizer);
    return status == DRR_OK ? 0 : -1;
}

static int open_all(void **state)
{
    static fixture f;
    char folder[4096];
    *state = &f;
    snprintf(f.path, sizeof f.path, "/tmp/drr-parity.%ld.gguf", (long)getpid());
    if (drr_cache_path(folder, sizeof folder, "all-minilm-l6-v2", NULL, NULL) != DRR_OK ||
        write_critic(&f, folder) != 0)
        return -1;
    if (llama_runtime_start(NULL) != DRR_OK)
        return -1;
    llama_log_set(quiet, NULL);
    f.model = llama_model_load_from_file(f.path, llama_model_default_params());
    if (!f.model)
        return -1;
    struct llama_context_params p = llama_context_default_params();
    p.embeddings = true;
    p.n_ctx = p.n_batch = p.n_ubatch = MAX_LENGTH; /* pooling_type is left to the file */
    f.context = llama_init_from_model(f.model, p);
    return f.context ? 0 : -1;
}

static int close_all(void **state)
{
    fixture *f = *state;
    llama_free(f->context);
    llama_model_free(f->model);
    encoder_free(f->e);
    wordpiece_free(f->w);
    return unlink(f->path);
}

static double drr_logit(const fixture *f, const int32_t *ids, size_t n)
{
    encoder_workspace *w = NULL;
    const uint32_t starts[] = {0, (uint32_t)n};
    float logit;
    assert_int_equal(encoder_workspace_new(&w, f->e, MAX_LENGTH, 1, NULL), DRR_OK);
    assert_int_equal(encoder_logits(f->e, w, ids, starts, 1, &logit, NULL), DRR_OK);
    encoder_workspace_free(w);
    return (double)logit;
}

static void llama_takes_the_file_for_a_reranker_of_one_label(void **state)
{
    const fixture *f = *state;
    assert_int_equal(llama_pooling_type(f->context), LLAMA_POOLING_TYPE_RANK);
    assert_int_equal(llama_model_n_cls_out(f->model), 1);
    assert_string_equal(llama_model_cls_label(f->model, 0), "accept");
}

static void llama_joins_a_pair_into_the_same_ids(void **state)
{
    const fixture *f = *state;
    for (size_t i = 0; i < N_PAIRS; i++) {
        int32_t ours[MAX_LENGTH], theirs[2 * MAX_LENGTH];
        size_t n = 0;
        const drr_status status =
            wordpiece_encode_pair(f->w, pairs[i].question, pairs[i].text, MAX_LENGTH, ours, &n, NULL, NULL);
        assert_int_equal(status, DRR_OK);
        assert_int_equal(rerank_ids(f->model, MAX_LENGTH, pairs[i].question, pairs[i].text, theirs), n);
        assert_memory_equal(ours, theirs, n * sizeof *ours);
    }
}

static void llama_computes_the_same_logit(void **state)
{
    const fixture *f = *state;
    double lowest = INFINITY, highest = -INFINITY;
    for (size_t i = 0; i < N_PAIRS; i++) {
        int32_t ids[2 * MAX_LENGTH];
        const size_t n = rerank_ids(f->model, MAX_LENGTH, pairs[i].question, pairs[i].text, ids);
        const double theirs = llama_logit(f->context, ids, n), ours = drr_logit(f, ids, n);
        print_message("%zu tokens: drr %.6f, llama.cpp %.6f\n", n, ours, theirs);
        assert_true(fabs(ours - theirs) < 1e-3); /* not so for NaN */
        lowest = fmin(lowest, ours);
        highest = fmax(highest, ours);
    }
    assert_true(highest - lowest > 0.1); /* or the comparison would say nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_takes_the_file_for_a_reranker_of_one_label),
        cmocka_unit_test(llama_joins_a_pair_into_the_same_ids),
        cmocka_unit_test(llama_computes_the_same_logit),
    };
    char folder[4096];
    drr_error err = {0};
    if (drr_cache_path(folder, sizeof folder, "all-minilm-l6-v2", NULL, &err) != DRR_OK) {
        print_message("skipped: %s\n", err.message);
        return 77;
    }
    return cmocka_run_group_tests(tests, open_all, close_all);
}
