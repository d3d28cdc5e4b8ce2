/* verify_texts.c: a few texts and the logits that a critic gave them when it was made. They lie in its file, so that
 * whoever has the file alone can tell whether its weights are still the same and this machine computes what the other
 * one did.
 */
#include "critic/critic.h"

#include <stdlib.h>

/* Of our own, never of the data: a critic's file is passed on. Between them they have words, rare words, numbers,
 * marks, a list of choices, code, and letters that the tokenizer changes. */
static const struct {
    const char *question, *text;
} texts[] = {
    {"A shop has 14 boxes of 12 eggs each and sells 95 eggs. How many eggs are left?",
     "14 boxes of 12 eggs are 14 * 12 = 168 eggs.\n168 - 95 = 73, so 73 eggs are left.\nAnswer: 73"},
    {"Where would you look for a book that you do not own? (A) library (B) bakery (C) river",
     "Bakeries sell bread, and rivers hold water; a library lends books.\nAnswer: A"},
    {"Is it true that a triangle has four sides?", "Answer: yes"},
    {"Which caf\xC3\xA9 in Z\xC3\xBCrich opened first: \xE2\x80\x9CSchober\xE2\x80\x9D or "
     "\xE2\x80\x9COdeon\xE2\x80\x9D?",
     "Odeon opened in 1911 \xE2\x80\x94 Schober, a confectioner\xE2\x80\x99s, long before. \xE6\x9D\xB1\xE4\xBA\xAC "
     "has neither.\nAnswer: Schober"},
    {"Write a function that returns the largest of three numbers.",
     "def largest(a, b, c):\n    return max(a, max(b, c))  # max(-1.5e3, 0, 7) == 7"},
    {"q", ""},
};
enum { N_TEXTS = sizeof texts / sizeof *texts };
_Static_assert(N_TEXTS <= CRITIC_MOST_PROBES, "a critic has room for so many");

static drr_status score(double *logit, const encoder *e, const wordpiece *tokenizer, uint32_t max_length,
                        const critic_probe *probe, drr_error *err)
{
    encoder_workspace *w = NULL;
    bool truncated;
    size_t n = 0;
    float value;
    int32_t *ids = calloc(max_length, sizeof *ids);
    if (!ids)
        return error_memory(err);
    drr_status status =
        wordpiece_encode_pair(tokenizer, probe->question, probe->text, max_length, ids, &n, &truncated, err);
    if (status == DRR_OK)
        status = encoder_workspace_new(&w, e, n, 1, err);
    const uint32_t starts[] = {0, (uint32_t)n};
    if (status == DRR_OK)
        status = encoder_logits(e, w, ids, starts, 1, &value, err);
    if (status == DRR_OK)
        *logit = (double)value;
    encoder_workspace_free(w);
    free(ids);
    return status;
}

drr_status critic_probes_make(critic_meta *meta, const encoder *e, const wordpiece *tokenizer, drr_error *err)
{
    drr_status status = DRR_OK;
    for (uint32_t i = 0; i < meta->n_probes; i++) {
        free(meta->probes[i].question);
        free(meta->probes[i].text);
    }
    meta->n_probes = 0;
    for (size_t i = 0; status == DRR_OK && i < N_TEXTS; i++) {
        critic_probe *p = &meta->probes[meta->n_probes++];
        *p = (critic_probe){string_copy(texts[i].question), string_copy(texts[i].text), 0};
        status = p->question && p->text ? score(&p->logit, e, tokenizer, meta->max_length, p, err) : error_memory(err);
    }
    return status;
}
