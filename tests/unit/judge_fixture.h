/* judge_fixture.h: critics for tests of the judge: random, small, and each with a name and a threshold of its own. */
#ifndef DRR_TESTS_JUDGE_FIXTURE_H
#define DRR_TESTS_JUDGE_FIXTURE_H

#include "critic_fixture.h"

static inline void put_critic(const char *path, uint64_t seed, const char *name, double threshold)
{
    encoder *e = small_encoder(seed);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(true);
    double logits[100];
    free(m.name);
    m.name = string_copy(name);
    m.threshold = threshold;
    m.calibration = (platt){0.7, -0.1};
    for (size_t i = 0; i < 100; i++)
        logits[i] = (double)i / 100; /* what is scored below is distributed otherwise */
    critic_quantiles_make(&m, logits, 100);
    drr_error err = {0};
    if (critic_write(path, e, w, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

#endif
