/* test_parity_token.c: what `drr critic export` writes of a critic with a head of tokens is for transformers'
 * AutoModelForTokenClassification the same model: the same ids, the same logit at every token. And the gradient of
 * drr's losses over it, soft labels at steps and ranked pairs, is torch's. The encoder is all-MiniLM-L6-v2 with a head
 * drawn at random; score_tokens.py is run by the Python of DRR_PARITY_PYTHON or the cache's venv-parity. */
#include "../unit/critic_fixture.h"
#include "core/json.h"
#include "train/train.h"

#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { MOST = 128, READS_EACH = 3 };
#define RANK_WEIGHT 0.8

static char encoder_folder[4096], python[4300];

static const struct {
    const char *question, *text;
    uint8_t label;
    bool joined;
} pairs[] = {
    {"A robe takes 2 bolts of blue fiber and half that much white. How many bolts?",
     "It takes 2 / 2 = 1 bolt of white. So it takes 2 + 1 = 3 bolts.\nAnswer: 3", 1, false},
    {"A robe takes 2 bolts of blue fiber and half that much white. How many bolts?",
     "Half of 2 is 2. 2 + 2 = 4, so 4.\nAnswer: 4", 0, true},
    {"A robe takes 2 bolts of blue fiber and half that much white. How many bolts?", "Answer: 3", 1, true},
    {"Caf\xC3\xA9 in 'Z\xC3\xBCrich'?", "Yes \xE2\x80\x94 na\xC3\xAFve; don't (ask) #1 \xE4\xB8\xAD\xE6\x96\x87", 0,
     false},
};
enum { N_PAIRS = sizeof pairs / sizeof *pairs, READS = N_PAIRS * READS_EACH };

typedef struct batch { /* the pairs, packed, and what is read: two tokens of each text and its end */
    int32_t ids[N_PAIRS * MOST];
    uint32_t starts[N_PAIRS + 1], rows[READS], row_starts[N_PAIRS + 1], last[N_PAIRS];
    float targets[READS], weights[READS];
    uint8_t labels[N_PAIRS];
    bool joined[N_PAIRS];
} batch;

static void fill(batch *b, const wordpiece *w)
{
    *b = (batch){.starts = {0}};
    for (uint32_t i = 0, used = 0; i < N_PAIRS; i++) {
        size_t n = 0;
        assert_int_equal(
            wordpiece_encode_pair(w, pairs[i].question, pairs[i].text, MOST, b->ids + used, &n, NULL, NULL), DRR_OK);
        const uint32_t end = used + (uint32_t)n, places[READS_EACH] = {end - 5, end - 2, end - 1};
        for (uint32_t k = 0; k < READS_EACH; k++) {
            const uint32_t r = i * READS_EACH + k;
            b->rows[r] = places[k];
            b->targets[r] = k == 2 ? pairs[i].label : 0.25f * (float)k + 0.125f * (float)i;
            b->weights[r] = 0.5f + 0.25f * (float)(r % 5);
        }
        b->labels[i] = pairs[i].label;
        b->joined[i] = pairs[i].joined;
        b->row_starts[i + 1] = (i + 1) * READS_EACH;
        b->last[i] = (i + 1) * READS_EACH - 1;
        b->starts[i + 1] = used = end;
    }
}

static double loss_of(void *user, float *dlogits, const float *logits, size_t n)
{
    const batch *b = user;
    return soft_bce_logits(dlogits, logits, b->targets, b->weights, n, N_PAIRS) +
           rank_logits(dlogits, logits, b->last, b->labels, b->joined, N_PAIRS, RANK_WEIGHT, N_PAIRS);
}

static drr_critic *make_critic(void)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_critic *critic = NULL;
    drr_error err = {0};
    rng r;
    const critic_meta meta = {.max_length = MOST, .threshold = 0.5, .calibration = {1, 0}};
    if (encoder_open_hf_headed(&e, &w, NULL, encoder_folder, DRR_HEAD_TOKEN, 7, &err) != DRR_OK)
        fail_msg("%s", err.message);
    rng_seed(&r, 11);
    for (const encoder_tensor *t = encoder_find(e, "drr.token.weight"); t < e->tensors + e->n_tensors; t++)
        for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
            e->parameters[t->offset + i] = 0.3f * (float)rng_normal(&r);
    const encoder_tensor *types = encoder_find(e, "token_types.weight");
    for (size_t i = 0; i < e->shape.n_embd; i++) /* what an export makes of the second type */
        e->parameters[types->offset + e->shape.n_embd + i] = e->parameters[types->offset + i];
    if (critic_write(at("critic.gguf"), e, w, &meta, &err) != DRR_OK ||
        drr_critic_open(&critic, at("critic.gguf"), &err) != DRR_OK ||
        drr_critic_export(critic, folder, &err) != DRR_OK)
        fail_msg("%s", err.message);
    encoder_free(e);
    wordpiece_free(w);
    return critic;
}

static void write_batch(const batch *b)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < N_PAIRS; i++) {
        json_t *reads = json_array();
        for (uint32_t r = b->row_starts[i]; r < b->row_starts[i + 1]; r++)
            json_array_append_new(reads, json_pack("{s:i, s:f, s:f}", "at", (int)(b->rows[r] - b->starts[i]), "target",
                                                   (double)b->targets[r], "weight", (double)b->weights[r]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:b, s:o}", "question", pairs[i].question, "text",
                                              pairs[i].text, "label", (int)b->labels[i], "joined", (int)b->joined[i],
                                              "reads", reads));
    }
    json_t *o = json_pack("{s:o, s:f}", "pairs", list, "rank_weight", RANK_WEIGHT);
    assert_int_equal(json_dump_file(o, at("batch.json"), 0), 0);
    json_decref(o);
}

static void run_transformers(void)
{
    char script[] = DRR_SOURCE_DIR "/tests/parity/score_tokens.py";
    char *const arguments[] = {python, script, folder, NULL};
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, python, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Of every token, and those of steps through the public function. */
static void compare_logits(drr_critic *critic, const batch *b, json_t *told)
{
    const encoder *e = critic_encoder(critic);
    encoder_workspace *w = NULL;
    float logits[N_PAIRS * MOST];
    uint32_t every[N_PAIRS * MOST];
    double worst = 0;
    for (uint32_t i = 0; i < b->starts[N_PAIRS]; i++)
        every[i] = i;
    assert_int_equal(encoder_workspace_new(&w, e, N_PAIRS * MOST, N_PAIRS, NULL), DRR_OK);
    assert_int_equal(encoder_logits_at(e, w, b->ids, b->starts, N_PAIRS, every, b->starts, logits, NULL), DRR_OK);
    encoder_workspace_free(w);
    for (size_t i = 0; i < N_PAIRS; i++) {
        json_t *row = json_array_get(json_object_get(told, "pairs"), i), *ids = json_object_get(row, "ids");
        const drr_score_item item = {pairs[i].question, pairs[i].text, NULL};
        const uint32_t end = (uint32_t)strlen(item.text), n = b->starts[i + 1] - b->starts[i];
        drr_score score;
        drr_step_score step;
        assert_int_equal(json_array_size(ids), n);
        for (size_t k = 0; k < n; k++) {
            const double theirs = json_number_value(json_array_get(json_object_get(row, "logits"), k));
            assert_int_equal(json_integer_value(json_array_get(ids, k)), b->ids[b->starts[i] + k]);
            worst = fmax(worst, fabs((double)logits[b->starts[i] + k] - theirs));
        }
        assert_int_equal(drr_critic_score_steps(critic, &score, &step, &item, &end, 1, NULL), DRR_OK);
        const double last = json_number_value(json_array_get(json_object_get(row, "logits"), n - 1));
        const double before = json_number_value(json_array_get(json_object_get(row, "logits"), n - 2));
        assert_true(fabs(score.logit - last) < 2e-5 && fabs(step.logit - before) < 2e-5);
        assert_true(fabs(last - before) > 1e-3);
    }
    print_message("%u logits: difference at most %.1e\n", b->starts[N_PAIRS], worst);
    assert_true(worst < 2e-5);
}

static void compare_gradients(const encoder *e, batch *b, double expected_loss)
{
    encoder *expected = NULL;
    wordpiece *w = NULL;
    encoder_tape *tape = NULL;
    float *gradients = calloc(e->n_parameters, sizeof *gradients), logits[READS];
    double loss = 0, least = 1, most = 0, all;
    bool has_head = false;
    size_t compared = 0;
    assert_non_null(gradients);
    assert_int_equal(encoder_open_hf_headed(&expected, &w, &has_head, at("gradient"), DRR_HEAD_TOKEN, 1, NULL), DRR_OK);
    assert_true(has_head);
    assert_int_equal(encoder_tape_new(&tape, e, N_PAIRS * MOST, N_PAIRS, MOST, NULL), DRR_OK);
    encoder_tape_read(tape, b->rows, b->row_starts);
    assert_int_equal(
        encoder_backward_by(e, tape, b->ids, b->starts, N_PAIRS, loss_of, b, NULL, gradients, logits, &loss, NULL),
        DRR_OK);
    assert_true(fabs(loss - expected_loss) < 1e-5);
    all = gradient_norm(expected->parameters, expected->n_parameters);
    for (size_t t = 0; t < e->n_tensors; t++) {
        const encoder_tensor *x = &e->tensors[t];
        double aa = 0, bb = 0, ab = 0, dd = 0;
        for (size_t i = x->offset; i < x->offset + (size_t)x->rows * x->columns; i++) {
            const double own = (double)gradients[i], theirs = (double)expected->parameters[i];
            aa += own * own;
            bb += theirs * theirs;
            ab += own * theirs;
            dd += (own - theirs) * (own - theirs);
        }
        if (sqrt(bb) < 1e-6 * all) { /* 0 but for rounding: softmax takes key biases out */
            assert_non_null(strstr(x->name, "attn_k.bias"));
            assert_true(sqrt(aa) < 1e-6 * all);
            continue;
        }
        compared++;
        least = fmin(least, ab / sqrt(aa * bb));
        most = fmax(most, sqrt(dd / bb));
    }
    print_message("gradients of %zu tensors: relative difference at most %.1e, cosine at least 1 - %.1e\n", compared,
                  most, 1 - least);
    assert_int_equal(compared, e->n_tensors - e->shape.n_layers);
    assert_true(most <= 1e-3 && least > 0.9999);
    encoder_tape_free(tape);
    encoder_free(expected);
    wordpiece_free(w);
    free(gradients);
}

static void a_head_of_tokens_is_that_of_transformers_and_its_losses_are_those_of_torch(void **state)
{
    (void)state;
    static batch b;
    drr_critic *critic = make_critic();
    json_t *told = NULL;
    fill(&b, critic_wordpiece(critic));
    write_batch(&b);
    run_transformers();
    assert_int_equal(json_parse_file(&told, at("told.json"), NULL), DRR_OK);
    compare_logits(critic, &b, told);
    compare_gradients(critic_encoder(critic), &b, json_number_or(told, "loss", NAN));
    json_decref(told);
    drr_critic_close(critic);
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_PARITY_PYTHON");
    drr_error err = {0};
    if (drr_cache_path(encoder_folder, sizeof encoder_folder, "all-minilm-l6-v2", NULL, &err) != DRR_OK) {
        print_message("skipped: %s\n", err.message);
        return 77;
    }
    snprintf(python, sizeof python, "%s/../../venv-parity/bin/python", encoder_folder);
    if (chosen && *chosen)
        snprintf(python, sizeof python, "%s", chosen);
    if (access(python, X_OK) == 0)
        return 0;
    print_message("skipped: no Python with transformers: DRR_PARITY_PYTHON names one\n");
    return 77;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_of_tokens_is_that_of_transformers_and_its_losses_are_those_of_torch,
                                        make_place, remove_place),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
