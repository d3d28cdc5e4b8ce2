/* small.c: the smallest critic, so that most of an input is structure and little of it weights. */
#include "fuzz.h"

static const char *const tokens[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"};
enum { N_TOKENS = sizeof tokens / sizeof *tokens };

wordpiece *small_tokenizer(void)
{
    wordpiece *w = NULL;
    fuzz_that(wordpiece_new(&w, tokens, N_TOKENS, true, NULL) == DRR_OK);
    return w;
}

encoder *small_encoder(void)
{
    const encoder_shape shape = {.n_layers = 1,
                                 .n_embd = 2,
                                 .n_heads = 1,
                                 .n_ff = 2,
                                 .n_vocab = N_TOKENS,
                                 .n_positions = 8,
                                 .n_types = 1,
                                 .norm_epsilon = 1e-12f};
    encoder *e = NULL;
    fuzz_that(encoder_new(&e, &shape, NULL) == DRR_OK);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = (float)(i % 7) / 4 - 0.75f; /* each is exact in 16 bits too */
    return e;
}

static drr_guarantee guarantee_of(uint32_t turns)
{
    return (drr_guarantee){.found = true,
                           .turns = turns,
                           .target_error = 0.1,
                           .delta = 0.1,
                           .threshold = 0.5,
                           .temperature = 0.7,
                           .n = 9,
                           .n_accepted = 5,
                           .n_wrong = 1,
                           .p_value = 0.05,
                           .bound = 0.09};
}

critic_meta small_meta(bool all)
{
    critic_meta m = {.name = string_copy("s"), .max_length = 8, .threshold = 0.5, .calibration = {1, 0}};
    if (!all)
        return m;
    m.reasoner = string_copy("r");
    m.has_stack = true;
    while (stack_feature_name(m.stack.n)) {
        m.stack.scale[m.stack.n] = 1;
        m.stack.weight[m.stack.n++] = 0.25;
    }
    m.text_curve = (curve){2, {-1, 1}, {0.25, 0.75}};
    m.has_stack_calibration = true;
    m.stack_calibration = (calibration){{1, 0.5}, {1, {0}, {0.5}}};
    m.guarantees[m.n_guarantees++] = guarantee_of(1);
    m.guarantees[m.n_guarantees++] = guarantee_of(3);
    m.probes[m.n_probes++] = (critic_probe){string_copy("a"), string_copy("ab"), 0.5};
    m.quantiles[m.n_quantiles++] = -1;
    m.quantiles[m.n_quantiles++] = 1;
    m.n_scores = 20;
    return m;
}
