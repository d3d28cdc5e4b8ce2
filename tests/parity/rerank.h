/* rerank.h: what llama.cpp does with a critic's file as a reranker, for the test_parity_llama*.c programs. */
#ifndef DRR_TESTS_RERANK_H
#define DRR_TESTS_RERANK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <llama.h>

#include <cmocka.h>

/* What llama.cpp's server does for /v1/rerank where a model has no template of its own. */
static inline size_t rerank_ids(const struct llama_model *model, int32_t longest, const char *question,
                                const char *text, int32_t *ids)
{
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    size_t n = 0;
    if (llama_vocab_get_add_bos(vocab))
        ids[n++] = llama_vocab_bos(vocab);
    n += (size_t)llama_tokenize(vocab, question, (int32_t)strlen(question), ids + n, longest / 2, false, false);
    if (llama_vocab_get_add_eos(vocab))
        ids[n++] = llama_vocab_eos(vocab);
    if (llama_vocab_get_add_sep(vocab))
        ids[n++] = llama_vocab_sep(vocab);
    n += (size_t)llama_tokenize(vocab, text, (int32_t)strlen(text), ids + n, longest / 2, false, false);
    if (llama_vocab_get_add_eos(vocab))
        ids[n++] = llama_vocab_eos(vocab);
    return n;
}

static inline double llama_logit(struct llama_context *context, const int32_t *ids, size_t n)
{
    struct llama_batch batch = llama_batch_init((int32_t)n, 0, 1);
    for (size_t i = 0; i < n; i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = (int32_t)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = (int32_t)n;
    assert_int_equal(llama_encode(context, batch), 0);
    const float *scores = llama_get_embeddings_seq(context, 0);
    assert_non_null(scores);
    llama_batch_free(batch);
    return (double)scores[0];
}

#endif
