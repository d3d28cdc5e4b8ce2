/* llama_sample.c: draws one token from a row of logits (temperature, top-p, optional grammar) and keeps what the
 * critic's stack feeds on: its log-probability, the entropy and the margin, all at temperature 1. Same seed,
 * same logits: same token. Leaves batching to llama_slots.c. */
#include "reasoner/llama_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

sample_space *sample_spaces_new(uint32_t n, uint32_t n_vocab)
{
    sample_space *spaces = calloc(n, sizeof *spaces);
    if (!spaces)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        spaces[i].n_vocab = n_vocab;
        spaces[i].candidates = malloc(n_vocab * sizeof(sample_candidate));
        spaces[i].data = malloc(n_vocab * sizeof(llama_token_data));
        if (!spaces[i].candidates || !spaces[i].data) {
            sample_spaces_free(spaces, n);
            return NULL;
        }
    }
    return spaces;
}

void sample_spaces_free(sample_space *spaces, uint32_t n)
{
    if (!spaces)
        return;
    for (uint32_t i = 0; i < n; i++) {
        free(spaces[i].candidates);
        free(spaces[i].data);
    }
    free(spaces);
}

/* The vocabulary is 10^5 wide and this runs for every token of every sequence: the loops below are written so that
 * the compiler vectorises them, in a version for each instruction set, chosen when the program is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&               \
    !defined(__SANITIZE_THREAD__)
#define MANY_CPUS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define MANY_CPUS
#endif

/* e^x for x <= 0, relative error below 3e-7: 2^(x log2 e), split in whole and fraction, Taylor to degree 6. */
static inline float exp_negative(float x)
{
    const float clamped = x < -87.0f ? -87.0f : x;
    const float t = clamped * 1.44269504f;
    const int32_t whole = (int32_t)(t - 0.5f);
    const float f = (t - (float)whole) * 0.69314718f;
    const float p =
        1.0f +
        f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666668f + f * (0.0083333338f + f * 0.0013888889f)))));
    union {
        int32_t i;
        float f;
    } power = {.i = (whole + 127) << 23};
    return p * power.f;
}

MANY_CPUS static float row_max(const float *logits, uint32_t n)
{
    float lanes[16];
    for (uint32_t l = 0; l < 16; l++)
        lanes[l] = -INFINITY;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t l = 0; l < 16; l++)
            lanes[l] = logits[i + l] > lanes[l] ? logits[i + l] : lanes[l];
    for (; i < n; i++)
        lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    float max = lanes[0];
    for (uint32_t l = 1; l < 16; l++)
        max = lanes[l] > max ? lanes[l] : max;
    return max;
}

/* sum = sum e^(x-max), weighted = sum (x-max) e^(x-max). */
MANY_CPUS static void row_sums(const float *logits, uint32_t n, float max, double *sum, double *weighted)
{
    float s[16] = {0}, w[16] = {0};
    double total = 0, total_weighted = 0;
    uint32_t i = 0;
    while (i + 16 <= n) {
        /* float lanes are emptied into doubles every 4096 items, so that the sum keeps its digits */
        const uint32_t stop = n - i > 4096 ? i + 4096 : i + (n - i) / 16 * 16;
        for (; i < stop; i += 16)
            for (uint32_t l = 0; l < 16; l++) {
                const float d = logits[i + l] - max;
                const float e = exp_negative(d);
                s[l] += e;
                w[l] += d < -87.0f ? 0.0f : d * e;
            }
        for (uint32_t l = 0; l < 16; l++) {
            total += (double)s[l];
            total_weighted += (double)w[l];
            s[l] = w[l] = 0;
        }
    }
    for (; i < n; i++) {
        const float d = logits[i] - max;
        const float e = exp_negative(d);
        total += (double)e;
        total_weighted += d < -87.0f ? 0.0 : (double)(d * e);
    }
    *sum = total;
    *weighted = total_weighted;
}

static int by_logit_descending(const void *a, const void *b)
{
    const sample_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

/* From candidates (any order): temperature, top-p, one uniform draw. */
static llama_token draw(sample_candidate *candidates, size_t n, float temperature, float top_p, rng *random)
{
    qsort(candidates, n, sizeof *candidates, by_logit_descending);
    if (temperature <= 0 || n == 1)
        return candidates[0].token;
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        candidates[i].p = exp((double)(candidates[i].logit - candidates[0].logit) / (double)temperature);
        total += candidates[i].p;
    }
    size_t keep = n;
    double kept = total;
    if (top_p < 1) {
        kept = 0;
        for (keep = 0; keep < n && kept < (double)top_p * total; keep++)
            kept += candidates[keep].p;
        keep = keep ? keep : 1;
    }
    double left = rng_uniform(random) * kept;
    for (size_t i = 0; i < keep; i++) {
        left -= candidates[i].p;
        if (left < 0)
            return candidates[i].token;
    }
    return candidates[keep - 1].token;
}

/* Tokens whose share at this temperature is below e^-12 of the best one's are left out before sorting. */
static size_t gather(sample_candidate *candidates, const float *logits, uint32_t n_vocab, float max, float temperature)
{
    const float floor = max - 12.0f * (temperature > 0.05f ? temperature : 0.05f);
    size_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] >= floor)
            candidates[n++] = (sample_candidate){.token = (llama_token)i, .logit = logits[i]};
    return n;
}

/* The grammar's slow path: every token is asked for. Returns 0 when it allows none. */
static size_t gather_allowed(sample_space *space, struct llama_sampler *grammar, const float *logits)
{
    for (uint32_t i = 0; i < space->n_vocab; i++)
        space->data[i] = (llama_token_data){.id = (llama_token)i, .logit = logits[i], .p = 0};
    llama_token_data_array array = {.data = space->data, .size = space->n_vocab, .selected = -1, .sorted = false};
    llama_sampler_apply(grammar, &array);
    size_t n = 0;
    for (size_t i = 0; i < array.size; i++)
        if (array.data[i].logit > -INFINITY)
            space->candidates[n++] = (sample_candidate){.token = array.data[i].id, .logit = array.data[i].logit};
    return n;
}

static bool grammar_allows(struct llama_sampler *grammar, llama_token token, float logit)
{
    llama_token_data one = {.id = token, .logit = logit, .p = 0};
    llama_token_data_array array = {.data = &one, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(grammar, &array);
    return array.size == 1 && one.logit > -INFINITY;
}

llama_token sample_token(llama_backend *b, slot *s, const float *logits, sample_space *space, reasoner_token *stats)
{
    const float max = row_max(logits, b->n_vocab);
    double sum, weighted;
    row_sums(logits, b->n_vocab, max, &sum, &weighted);
    const double log_sum = log(sum);

    size_t n = gather(space->candidates, logits, b->n_vocab, max, s->temperature);
    llama_token token;
    if (n == 0) { /* NaN everywhere: the caller sees it in the log-probability and fails the request */
        *stats = (reasoner_token){.logprob = NAN, .entropy = NAN, .margin = NAN};
        return 0;
    }
    token = draw(space->candidates, n, s->temperature, s->top_p, &s->random);
    if (s->grammar) {
        if (!grammar_allows(s->grammar, token, logits[token])) {
            n = gather_allowed(space, s->grammar, logits);
            token = n ? draw(space->candidates, n, s->temperature, s->top_p, &s->random) : llama_vocab_eos(b->vocab);
        }
        if (!llama_vocab_is_eog(b->vocab, token) || n)
            llama_sampler_accept(s->grammar, token);
    }

    float rival;
    if (logits[token] < max) {
        rival = max;
    } else {
        const float before = row_max(logits, (uint32_t)token);
        const float after = row_max(logits + token + 1, b->n_vocab - (uint32_t)token - 1);
        rival = before > after ? before : after;
    }
    stats->logprob = (float)((double)(logits[token] - max) - log_sum);
    stats->entropy = (float)(log_sum - weighted / sum);
    stats->margin = logits[token] - rival;
    return token;
}
