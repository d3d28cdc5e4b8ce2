/* test_train_tokens.c: what a trace teaches a head of tokens, by its label at every token or by its steps' labels at
 * their ends; that a tiny encoder learns from either, in fp32 and in bf16, so that steps after an error score lower;
 * that beginnings of an answer are taught its label; that an interrupted run ends with the bits of an uninterrupted
 * one. */
#include "train_fixture.h"

#include <math.h>

static encoder *tokens_encoder(uint64_t seed)
{
    return tiny_encoder_headed(seed, DRR_HEAD_TOKEN);
}

/* ---- what a row teaches */

static const char *const words[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", ".", "un", "##b"};
enum { N_WORDS = sizeof words / sizeof *words, ROOM = 16 };

typedef struct taught {
    uint32_t places[ROOM];
    float targets[ROOM];
    size_t n;
    uint64_t n_steps;
} taught;

/* Of a row with this text in at most `longest` tokens, the question being "a". */
static taught teach(const char *text, drr_label label, const drr_step *steps, uint32_t n_steps, bool by_steps,
                    drr_head head, size_t longest)
{
    drr_train_options o;
    wordpiece *w = NULL;
    examples x = {0};
    int32_t ids[ROOM];
    size_t n = 0;
    taught t = {.n = 0};
    corpus_row row = {.trace = {.question = (char[]){"a"}, .text = string_copy(text), .label = label}, .question = 7};
    row.trace.steps = calloc(n_steps + 1, sizeof *steps);
    assert_non_null(row.trace.steps);
    for (uint32_t i = 0; i < n_steps; i++)
        row.trace.steps[i] = steps[i];
    row.trace.n_steps = n_steps;
    drr_train_options_defaults(&o);
    o.steps = by_steps;
    o.head = head;
    assert_int_equal(wordpiece_new(&w, words, N_WORDS, true, NULL), DRR_OK);
    assert_int_equal(wordpiece_encode_pair(w, row.trace.question, text, longest, ids, &n, NULL, NULL), DRR_OK);
    assert_int_equal(examples_add(&x, ids, n, label == DRR_LABEL_ACCEPT, NULL), DRR_OK);
    assert_int_equal(teach_row(&x, &t.n_steps, &row, w, &o, ids, n, NULL), DRR_OK);
    assert_int_equal(x.lessons.questions[0], 7);
    t.n = x.lessons.n_reads;
    assert_in_range(t.n, 0, ROOM);
    if (t.n) {
        assert_int_equal(x.lessons.places[t.n - 1], n - 1); /* the score's [SEP] */
        memcpy(t.places, x.lessons.places, t.n * sizeof *t.places);
        memcpy(t.targets, x.lessons.targets, t.n * sizeof *t.targets);
    }
    free(row.trace.text);
    free(row.trace.steps);
    examples_clear(&x);
    wordpiece_free(w);
    return t;
}

static void expect(const taught *t, const uint32_t *places, const float *targets, size_t n)
{
    assert_int_equal(t->n, n);
    assert_memory_equal(t->places, places, n * sizeof *places);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(t->targets[i] - targets[i]) < 1e-7f);
}

static void every_token_of_a_text_is_taught_its_label(void **state)
{
    (void)state;
    taught t = teach("b c. unb", DRR_LABEL_ACCEPT, NULL, 0, false, DRR_HEAD_TOKEN, ROOM);
    /* [CLS] a [SEP] b c . un ##b [SEP] */
    expect(&t, (const uint32_t[]){3, 4, 5, 6, 7, 8}, (const float[]){1, 1, 1, 1, 1, 1}, 6);
    t = teach("b", DRR_LABEL_UNPARSED, NULL, 0, false, DRR_HEAD_TOKEN, ROOM);
    expect(&t, (const uint32_t[]){3, 4}, (const float[]){0, 0}, 2);
    t = teach("", DRR_LABEL_REJECT, NULL, 0, false, DRR_HEAD_TOKEN, ROOM);
    expect(&t, (const uint32_t[]){3}, (const float[]){0}, 1);
    t = teach("b c. unb", DRR_LABEL_ACCEPT, NULL, 0, false, DRR_HEAD_CLS, ROOM);
    assert_int_equal(t.n, 0);
}

static void steps_teach_their_values_at_their_ends(void **state)
{
    (void)state;
    const drr_step steps[] = {{4, 3, 4, 0.75f}, {6, 0, 4, 0}, {9, 0, 0, 0}};
    /* "b c. c. b": [CLS] a [SEP] b c . c . b [SEP] */
    taught t = teach("b c. c. b", DRR_LABEL_REJECT, steps, 3, true, DRR_HEAD_CLS, ROOM);
    expect(&t, (const uint32_t[]){5, 6, 8, 9}, (const float[]){0.75f, 0, 0, 0}, 4); /* 6: "c" without its stop */
    assert_int_equal(t.n_steps, 3);
    t = teach("b c. c. b", DRR_LABEL_ACCEPT, NULL, 0, true, DRR_HEAD_TOKEN, ROOM); /* not labelled: the end alone */
    expect(&t, (const uint32_t[]){9}, (const float[]){1}, 1);
    assert_int_equal(t.n_steps, 0);
    t = teach("b c. c. b", DRR_LABEL_REJECT, steps, 3, true, DRR_HEAD_TOKEN, 7); /* [CLS] a [SEP] c . b [SEP] */
    expect(&t, (const uint32_t[]){3, 5, 6}, (const float[]){0, 0, 0}, 3);
    assert_int_equal(t.n_steps, 2);
    t = teach("b c. c. b", DRR_LABEL_REJECT, steps, 3, false, DRR_HEAD_TOKEN, ROOM); /* labels, but not asked for */
    assert_int_equal(t.n, 7);
}

static void a_step_without_a_token_of_its_own_teaches_nothing(void **state)
{
    (void)state;
    const drr_step steps[] = {{1, 1, 1, 1}, {2, 0, 1, 0}, {3, 1, 1, 1}};
    const taught t = teach("b\n c", DRR_LABEL_ACCEPT, steps, 3, true, DRR_HEAD_TOKEN, ROOM);
    /* steps "b", "\n", " ", and a rest that no step has: "b" is token 3, and nothing else ends there */
    expect(&t, (const uint32_t[]){3, 5}, (const float[]){1, 1}, 2);
}

/* ---- beginnings */

/* Those of a row with this text, of the question "a"; `at` numbers the row. */
static examples begin(const char *text, drr_label label, uint32_t most, size_t at)
{
    drr_train_options o;
    wordpiece *w = NULL;
    examples x = {0};
    uint64_t n = 0;
    int32_t ids[ROOM];
    corpus_row row = {.trace = {.question = (char[]){"a"}, .text = string_copy(text), .label = label}, .question = 7};
    drr_train_options_defaults(&o);
    o.beginnings = most;
    assert_int_equal(wordpiece_new(&w, words, N_WORDS, true, NULL), DRR_OK);
    assert_int_equal(beginnings_teach(&x, &n, &row, at, w, ROOM, &o, ids, NULL), DRR_OK);
    assert_int_equal(x.lessons.n, x.n);
    assert_int_equal(n, x.n);
    for (size_t i = 0; i < x.n; i++) {
        assert_int_equal(x.labels[i], label == DRR_LABEL_ACCEPT);
        assert_int_equal(x.lessons.questions[i], 7);
    }
    free(row.trace.text);
    wordpiece_free(w);
    return x;
}

static bool same_ids(const examples *x, size_t i, const int32_t *ids, size_t n)
{
    return x->starts[i + 1] - x->starts[i] == n && memcmp(x->ids + x->starts[i], ids, n * sizeof *ids) == 0;
}

static void beginnings_end_with_a_step_and_bear_the_label_of_the_whole(void **state)
{
    (void)state;
    static const int32_t one[] = {2, 5, 3, 6, 7, 8, 3}, two[] = {2, 5, 3, 6, 7, 8, 7, 8, 3};
    for (int right = 0; right < 2; right++) {
        examples x = begin("b c. c. b", right ? DRR_LABEL_ACCEPT : DRR_LABEL_UNPARSED, 5, 0);
        assert_int_equal(x.n, 2); /* the third step ends the text: nothing is missing there */
        const bool in_order = same_ids(&x, 0, one, 7);
        assert_true(same_ids(&x, in_order ? 0 : 1, one, 7) && same_ids(&x, in_order ? 1 : 0, two, 9));
        examples_clear(&x);
    }
    size_t first = 0;
    for (size_t at = 0; at < 40; at++) {
        examples x = begin("b c. c. b", DRR_LABEL_ACCEPT, 1, at), again = begin("b c. c. b", DRR_LABEL_ACCEPT, 1, at);
        assert_int_equal(x.n, 1);
        assert_int_equal(x.n_ids, again.n_ids);
        assert_memory_equal(x.ids, again.ids, x.n_ids * sizeof *x.ids);
        assert_true(same_ids(&x, 0, one, 7) || same_ids(&x, 0, two, 9));
        first += same_ids(&x, 0, one, 7);
        examples_clear(&x);
        examples_clear(&again);
    }
    assert_in_range(first, 8, 32); /* either is drawn */
    static const char *const wholes[] = {"", "b", "b c."};
    for (size_t i = 0; i < 3; i++) {
        examples x = begin(wholes[i], DRR_LABEL_ACCEPT, 5, 0);
        assert_int_equal(x.n, 0);
        examples_clear(&x);
    }
}

static void each_trace_weighs_the_same_however_many_reads_it_has(void **state)
{
    (void)state;
    examples x = {0};
    const int32_t ids[6] = {2, 8, 9, 10, 11, 3};
    const uint32_t places[4] = {2, 3, 4, 5};
    const float targets[4] = {1, 0.5f, 0, 0};
    const float class_weight[2] = {0.5f, 2};
    const uint32_t starts[3] = {0, 6, 12};
    const uint8_t labels[2] = {0, 1};
    encoder *e = tokens_encoder(1);
    batch_plan plan = {0};
    batch_loss l = {0};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(examples_add(&x, ids, 6, labels[i], NULL), DRR_OK);
        assert_int_equal(examples_teach(&x, i, places + 3 * i, targets, 4 - 3 * i, NULL), DRR_OK);
    }
    assert_int_equal(batch_plan_new(&plan, 2, 2, 100, NULL), DRR_OK);
    assert_int_equal(batch_loss_new(&l, e, &x, 100, 2, 0, NULL), DRR_OK);
    batch_loss_take(&l, &plan, &x, 0, 2, starts, labels, class_weight, 2);
    assert_int_equal(l.n_reads, 5);
    assert_int_equal(l.row_starts[1], 4);
    assert_int_equal(l.row_starts[2], 5);
    assert_memory_equal(l.rows, ((const uint32_t[]){2, 3, 4, 5, 11}), 5 * sizeof *l.rows);
    for (size_t i = 0; i < 4; i++)
        assert_true(fabsf(l.weights[i] - 0.125f) < 1e-7f);
    assert_true(fabsf(l.weights[4] - 2) < 1e-7f);
    assert_int_equal(l.last[0], 3);
    assert_int_equal(l.last[1], 4);
    batch_loss_clear(&l);
    batch_plan_clear(&plan);
    examples_clear(&x);
    encoder_free(e);
}

/* ---- learning from labels at every token */

static examples taught_texts(size_t n, uint64_t seed)
{
    examples x = {0}, plain = marked_texts(n, seed);
    for (size_t i = 0; i < plain.n; i++) {
        uint32_t places[12];
        float targets[12];
        const size_t length = plain.starts[i + 1] - plain.starts[i];
        for (size_t k = 1; k < length; k++) {
            places[k - 1] = (uint32_t)k;
            targets[k - 1] = plain.labels[i];
        }
        assert_int_equal(examples_add(&x, plain.ids + plain.starts[i], length, plain.labels[i], NULL), DRR_OK);
        assert_int_equal(examples_teach(&x, i, places, targets, length - 1, NULL), DRR_OK);
    }
    examples_clear(&plain);
    return x;
}

static const fit_options plain_options = {.epochs = 4,
                                          .batch = 16,
                                          .budget = 100, /* several parts a step */
                                          .learning_rate = 3e-3,
                                          .weight_decay = 0.01,
                                          .warmup_share = 0.1,
                                          .clip_norm = 1,
                                          .dropout = 0.1,
                                          .seed = 3};

static fit_result fit_texts(encoder *e, uint32_t epochs, double rank_weight, examples *dev)
{
    examples train = taught_texts(192, 2);
    fit_options o = plain_options;
    fit_result result = {0};
    o.epochs = epochs;
    o.rank_weight = rank_weight;
    for (size_t i = 0; i < train.n; i++)
        train.lessons.questions[i] = i / 4; /* two with the mark, two without */
    assert_int_equal(encoder_fit(e, &train, dev, &o, &result, NULL, NULL), DRR_OK);
    examples_clear(&train);
    return result;
}

static void a_head_of_tokens_learns_a_rule_and_tells_it_at_the_end(void **state)
{
    (void)state;
    for (int ranked = 0; ranked < 2; ranked++) {
        encoder *e = tokens_encoder(1);
        examples dev = marked_texts(64, 5); /* without lessons: read at the last token, as a critic does it */
        const fit_result result = fit_texts(e, 16, ranked, &dev);
        print_message("dev AUROC %.3f, train loss %.3f\n", result.best_auroc, result.last_train_loss);
        assert_true(result.best_auroc > 0.95);
        encoder_free(e);
        examples_clear(&dev);
    }
}

static void and_in_bf16_the_loss_falls_as_it_does_in_fp32(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    for (uint32_t epochs = 2; epochs <= 16; epochs *= 8) {
        encoder *whole = tokens_encoder(1), *half = tokens_encoder(1);
        examples none = {0};
        half->bf16 = true;
        const double a = fit_texts(whole, epochs, 1, &none).last_train_loss;
        const double b = fit_texts(half, epochs, 1, &none).last_train_loss;
        print_message("%u epochs: loss %.4f in fp32, %.4f in bf16\n", epochs, a, b);
        assert_true(fabs(a - b) < 0.02 + 0.05 * a);
        encoder_free(whole);
        encoder_free(half);
    }
}

/* ---- learning from steps */

enum { STEPS = 4, STOP = 8, TEXTS = 240, HELD_OUT = 60 };

/* Four steps of two tokens and a stop; one of them, in three texts of four, has MARK in it: an error. Up to it steps
 * are worth 0.9, from it on 0. The label is what the last step says. */
static examples stepped_texts(size_t n, uint64_t seed, size_t *errors)
{
    examples x = {0};
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) {
        int32_t ids[3 * STEPS + 2] = {2};
        uint32_t places[STEPS + 1];
        float targets[STEPS + 1];
        const size_t error = rng_below(&r, 4) == 0 ? STEPS : (size_t)rng_below(&r, STEPS);
        for (size_t s = 0; s < STEPS; s++) {
            for (size_t k = 0; k < 2; k++)
                ids[1 + 3 * s + k] = (int32_t)(STOP + 1 + rng_below(&r, FIXTURE_VOCABULARY - STOP - 1));
            if (s == error)
                ids[1 + 3 * s + rng_below(&r, 2)] = MARK;
            ids[3 + 3 * s] = STOP;
            places[s] = (uint32_t)(3 + 3 * s);
            targets[s] = s < error ? 0.9f : 0;
        }
        ids[3 * STEPS + 1] = 3;
        places[STEPS] = 3 * STEPS + 1;
        targets[STEPS] = error == STEPS;
        assert_int_equal(examples_add(&x, ids, 3 * STEPS + 2, error == STEPS, NULL), DRR_OK);
        assert_int_equal(examples_teach(&x, i, places, targets, STEPS + 1, NULL), DRR_OK);
        if (errors)
            errors[i] = error;
    }
    return x;
}

/* P of all steps of a text at once. */
static void step_scores(double p[STEPS], const encoder *e, encoder_workspace *w, const examples *x, size_t i)
{
    float logits[STEPS];
    uint32_t rows[STEPS];
    const uint32_t starts[2] = {0, 3 * STEPS + 2}, row_starts[2] = {0, STEPS};
    for (uint32_t s = 0; s < STEPS; s++)
        rows[s] = 3 + 3 * s;
    assert_int_equal(encoder_logits_at(e, w, x->ids + x->starts[i], starts, 1, rows, row_starts, logits, NULL), DRR_OK);
    for (size_t s = 0; s < STEPS; s++)
        p[s] = 1 / (1 + exp(-(double)logits[s]));
}

static void steps_after_an_error_score_lower(void **state)
{
    (void)state;
    for (int half = 0; half <= bf16_is_native(); half++) {
        encoder *e = tokens_encoder(1);
        size_t errors[HELD_OUT], before = 0, after = 0;
        double p_before = 0, p_after = 0;
        examples train = stepped_texts(TEXTS, 2, NULL), other = stepped_texts(HELD_OUT, 4, errors);
        encoder_workspace *w = NULL;
        const examples none = {0};
        fit_options o = plain_options;
        fit_result result;
        o.epochs = 30;
        o.dropout = 0;
        e->bf16 = half;
        assert_int_equal(encoder_fit(e, &train, &none, &o, &result, NULL, NULL), DRR_OK);
        e->bf16 = false;
        assert_int_equal(encoder_workspace_new(&w, e, 24, 1, NULL), DRR_OK);
        for (size_t i = 0; i < HELD_OUT; i++) {
            double p[STEPS];
            step_scores(p, e, w, &other, i);
            for (size_t s = 0; s < STEPS; s++) {
                *(s < errors[i] ? &p_before : &p_after) += p[s];
                *(s < errors[i] ? &before : &after) += 1;
            }
        }
        print_message("mean P of held-out steps: %.3f before an error, %.3f from it on\n", p_before / (double)before,
                      p_after / (double)after);
        assert_true(p_before / (double)before > 0.75 && p_before / (double)before < 0.95); /* the labels say 0.9 */
        assert_true(p_after / (double)after < 0.15);
        encoder_workspace_free(w);
        examples_clear(&train);
        examples_clear(&other);
        encoder_free(e);
    }
}

/* ---- interruption */

static void an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(void **state)
{
    (void)state;
    fit_options options = plain_options;
    options.epochs = 2;
    parallel_set_threads(1);
    for (int half = 0; half <= bf16_is_native(); half++) {
        encoder *whole = tokens_encoder(1), *pieces = NULL, *other = tokens_encoder(1);
        examples train = stepped_texts(96, 2, NULL), dev = stepped_texts(32, 4, NULL);
        whole->bf16 = other->bf16 = half;
        assert_int_equal(fit_some(whole, &train, &dev, options, false, 1 << 20), DRR_OK);
        unlink(at("checkpoint"));
        for (int stops = 0;; stops++) {
            encoder_free(pieces);
            pieces = tokens_encoder(1);
            pieces->bf16 = half;
            const drr_status status = fit_some(pieces, &train, &dev, options, stops > 0, 5);
            if (status == DRR_OK) {
                assert_true(stops > 1);
                break;
            }
            assert_int_equal(status, DRR_E_INTERRUPTED);
            if (stops == 0) { /* another label of a step is another run */
                train.lessons.targets[2] += 0.25f;
                assert_int_equal(fit_some(other, &train, &dev, options, true, 1 << 20), DRR_E_MISMATCH);
                train.lessons.targets[2] -= 0.25f;
            }
        }
        assert_memory_equal(pieces->parameters, whole->parameters, whole->n_parameters * sizeof(float));
        unlink(at("checkpoint"));
        encoder_free(whole);
        encoder_free(pieces);
        encoder_free(other);
        examples_clear(&train);
        examples_clear(&dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_of_a_text_is_taught_its_label),
        cmocka_unit_test(steps_teach_their_values_at_their_ends),
        cmocka_unit_test(a_step_without_a_token_of_its_own_teaches_nothing),
        cmocka_unit_test(beginnings_end_with_a_step_and_bear_the_label_of_the_whole),
        cmocka_unit_test(each_trace_weighs_the_same_however_many_reads_it_has),
        cmocka_unit_test(a_head_of_tokens_learns_a_rule_and_tells_it_at_the_end),
        cmocka_unit_test(and_in_bf16_the_loss_falls_as_it_does_in_fp32),
        cmocka_unit_test(steps_after_an_error_score_lower),
        cmocka_unit_test(an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
