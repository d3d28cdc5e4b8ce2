/* test_guard_passes.c: a forward and a backward pass of an encoder stay within what was planned for them. Each part of
 * their arenas is a mapping of its own here, between pages that nobody may touch, once with its end at one and once
 * with its beginning: --wrap=encoder_take (tests/CMakeLists.txt). So an activation that runs into its neighbour dies in
 * the act. Numbers of tokens and sequences meet every remainder of PRODUCT_ROWS. */
#include "guard/guarded.h"
#include "train_fixture.h"

enum { MOST_PARTS = 512 };

static struct {
    guarded parts[MOST_PARTS];
    size_t n;
    bool at_end, on;
} taken;

float *__real_encoder_take(encoder_planner *p, size_t rows, size_t width);
bf16 *__real_encoder_take_bf16(encoder_planner *p, size_t rows, size_t width);
float *__wrap_encoder_take(encoder_planner *p, size_t rows, size_t width);
bf16 *__wrap_encoder_take_bf16(encoder_planner *p, size_t rows, size_t width);

static void *take(size_t bytes)
{
    assert_true(taken.n < MOST_PARTS);
    guarded *g = &taken.parts[taken.n++];
    *g = guarded_new(bytes, taken.at_end);
    assert_non_null(g->data);
    memset(g->data, 0xff, bytes); /* NaNs: nothing is read before it was written */
    return g->data;
}

float *__wrap_encoder_take(encoder_planner *p, size_t rows, size_t width)
{
    float *real = __real_encoder_take(p, rows, width);
    return real && taken.on ? take(rows * width * sizeof(float)) : real;
}

bf16 *__wrap_encoder_take_bf16(encoder_planner *p, size_t rows, size_t width)
{
    bf16 *real = __real_encoder_take_bf16(p, rows, width);
    return real && taken.on ? take(product_rows(rows) * width * sizeof(bf16)) : real;
}

static void give_back(void)
{
    for (size_t i = 0; i < taken.n; i++)
        if (!guarded_free(&taken.parts[i]))
            fail_msg("something was written beside part %zu", i);
    taken.n = 0;
}

static encoder *random_encoder(const encoder_shape *shape)
{
    encoder *e = NULL;
    rng r;
    assert_int_equal(encoder_new(&e, shape, NULL), DRR_OK);
    rng_seed(&r, 1);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = 0.05f * (float)(rng_uniform(&r) - 0.5);
    return e;
}

typedef struct batch {
    int32_t *ids;
    uint32_t *starts;
    uint8_t *labels;
    size_t n, longest;
} batch;

/* `tokens` tokens in sequences of 1 to `longest`. */
static batch batch_of(size_t tokens, size_t longest, uint64_t seed)
{
    batch b = {.ids = calloc(tokens, sizeof *b.ids),
               .starts = calloc(tokens + 1, sizeof *b.starts),
               .labels = calloc(tokens, 1),
               .longest = longest};
    rng r;
    rng_seed(&r, seed);
    assert_true(b.ids && b.starts && b.labels);
    for (size_t at = 0; at < tokens; b.n++) {
        size_t length = 1 + (size_t)rng_below(&r, longest);
        length = length < tokens - at ? length : tokens - at;
        for (size_t i = 0; i < length; i++)
            b.ids[at + i] = (int32_t)rng_below(&r, FIXTURE_VOCABULARY);
        at += length;
        b.labels[b.n] = b.n % 2;
        b.starts[b.n + 1] = (uint32_t)at;
    }
    return b;
}

static void batch_free(batch *b)
{
    free(b->ids);
    free(b->starts);
    free(b->labels);
}

static void all_are_numbers(const char *what, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(x[i] - x[i] == 0)) /* neither NaN nor infinite */
            fail_msg("%s[%zu] is %g", what, i, (double)x[i]);
}

/* room: how many tokens more than the batch's the memory is planned for */
static void train_one(const encoder *e, const batch *b, size_t room)
{
    const encoder_dropout d = {.rate = 0.1f, .seed = 1, .step = 2};
    const size_t tokens = b->starts[b->n];
    float *gradients = calloc(e->n_parameters, sizeof *gradients), *logits = calloc(b->n, sizeof *logits);
    encoder_tape *tape = NULL;
    double loss = 0;
    taken.on = true;
    assert_int_equal(encoder_tape_new(&tape, e, tokens + room, b->n, b->longest, NULL), DRR_OK);
    taken.on = false;
    for (int pass = 0; pass < 2; pass++)
        assert_int_equal(encoder_backward(e, tape, b->ids, b->starts, b->n, b->labels, NULL, (double)b->n,
                                          pass ? &d : NULL, gradients, logits, &loss, NULL),
                         DRR_OK);
    all_are_numbers("gradient", gradients, e->n_parameters);
    all_are_numbers("logit", logits, b->n);
    encoder_tape_free(tape);
    give_back();
    free(gradients);
    free(logits);
}

static void score_one(const encoder *e, const batch *b, size_t room)
{
    float *logits = calloc(b->n, sizeof *logits);
    encoder_workspace *w = NULL;
    taken.on = true;
    assert_int_equal(encoder_workspace_plan(&w, e, b->starts[b->n] + room, b->n, b->longest, false, NULL), DRR_OK);
    taken.on = false;
    for (int pass = 0; pass < 2; pass++)
        assert_int_equal(encoder_logits(e, w, b->ids, b->starts, b->n, logits, NULL), DRR_OK);
    all_are_numbers("logit", logits, b->n);
    encoder_workspace_free(w);
    give_back();
    free(logits);
}

static void check_encoder(const encoder_shape *shape, bool half, size_t most, size_t step)
{
    encoder *e = random_encoder(shape);
    e->bf16 = half;
    for (size_t tokens = 1; tokens <= most; tokens += step) {
        batch b = batch_of(tokens, 1 + tokens % 31, tokens);
        taken.at_end = tokens / step % 2;
        train_one(e, &b, tokens % 3);
        score_one(e, &b, tokens % 3);
        taken.at_end = !taken.at_end;
        train_one(e, &b, 0);
        score_one(e, &b, 0);
        batch_free(&b);
    }
    encoder_free(e);
}

static const encoder_shape small = {.n_layers = 2,
                                    .n_embd = 16,
                                    .n_heads = 2,
                                    .n_ff = 32,
                                    .n_vocab = FIXTURE_VOCABULARY,
                                    .n_positions = 32,
                                    .n_types = 2,
                                    .norm_epsilon = 1e-12f};
static const encoder_shape odd = {.n_layers = 3,
                                  .n_embd = 60,
                                  .n_heads = 5,
                                  .n_ff = 100,
                                  .n_vocab = FIXTURE_VOCABULARY,
                                  .n_positions = 32,
                                  .n_types = 1,
                                  .norm_epsilon = 1e-12f};
static const encoder_shape minilm = {.n_layers = 2,
                                     .n_embd = 384,
                                     .n_heads = 12,
                                     .n_ff = 1536,
                                     .n_vocab = FIXTURE_VOCABULARY,
                                     .n_positions = 32,
                                     .n_types = 2,
                                     .norm_epsilon = 1e-12f};

static void a_pass_in_bf16_stays_within_its_parts(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    check_encoder(&small, true, 2 * PRODUCT_ROWS + 2, 1);
    check_encoder(&odd, true, 2 * PRODUCT_ROWS + 2, 1);
    check_encoder(&minilm, true, 400, 37);
    check_encoder(&small, true, 4300, 1069); /* the largest pieces */
}

static void so_does_one_in_fp32(void **state)
{
    (void)state;
    check_encoder(&small, false, 70, 1);
    check_encoder(&odd, false, 70, 3);
    check_encoder(&minilm, false, 150, 41);
}

static void and_on_several_threads(void **state)
{
    (void)state;
    parallel_set_threads(3);
    if (bf16_is_native())
        check_encoder(&odd, true, 200, 19);
    check_encoder(&odd, false, 200, 19);
    parallel_set_threads(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_in_bf16_stays_within_its_parts),
        cmocka_unit_test(so_does_one_in_fp32),
        cmocka_unit_test(and_on_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
