/* test_train_folds.c: folds are of questions, each left out once; several seeds and folds are trained and measured by
 * themselves, their means and deviations are those of their figures, and a cut-off repetition goes on without doing
 * anything twice. The trainings are real ones of a tiny encoder. */
#include "repeat_fixture.h"

/* ---- the division */

static corpus read_corpus(const drr_train_options *o)
{
    corpus c = {0};
    drr_error err = {0};
    if (corpus_read(&c, o, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return c;
}

/* The part of each question; fails where rows of one have two. */
static void parts_of(corpus_part *parts, const corpus *c)
{
    bool seen[2 * FIXTURE_QUESTIONS] = {false};
    assert_true(c->n_questions <= 2 * FIXTURE_QUESTIONS);
    for (size_t i = 0; i < c->n; i++) {
        const size_t q = c->rows[i].question;
        if (seen[q])
            assert_int_equal(parts[q], c->rows[i].part);
        seen[q] = true;
        parts[q] = c->rows[i].part;
    }
}

static void every_question_is_left_out_once_with_all_its_answers(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "x.gguf");
    const uint32_t folds[] = {2, 5, 7};
    for (size_t k = 0; k < 3; k++) {
        corpus c = read_corpus(&o);
        size_t tested[FIXTURE_QUESTIONS] = {0}, dev[FIXTURE_QUESTIONS] = {0};
        for (uint32_t f = 0; f < folds[k]; f++) {
            corpus_part parts[2 * FIXTURE_QUESTIONS];
            assert_int_equal(corpus_fold(&c, &o, f, folds[k], NULL), DRR_OK);
            parts_of(parts, &c);
            for (size_t q = 0; q < FIXTURE_QUESTIONS; q++) {
                tested[q] += parts[q] == CORPUS_TEST;
                dev[q] += parts[q] == CORPUS_DEV;
                assert_true(parts[q] == CORPUS_TEST || parts[q] == CORPUS_DEV || parts[q] == CORPUS_TRAIN);
            }
            const size_t n = corpus_questions(&c, CORPUS_TEST);
            assert_true(n == FIXTURE_QUESTIONS / folds[k] || n == FIXTURE_QUESTIONS / folds[k] + 1);
            assert_int_equal(corpus_questions(&c, CORPUS_DEV), 18); /* a fifth of all */
        }
        for (size_t q = 0; q < FIXTURE_QUESTIONS; q++) {
            assert_int_equal(tested[q], 1);
            assert_true(dev[q] <= folds[k] / 5 + 1); /* dev goes round as well */
        }
        corpus_clear(&c);
    }
}

static void the_first_fold_is_the_usual_split(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "x.gguf");
    corpus_part usual[2 * FIXTURE_QUESTIONS], first[2 * FIXTURE_QUESTIONS];
    o.test_share = 0.2;
    corpus c = read_corpus(&o);
    parts_of(usual, &c);
    assert_int_equal(corpus_fold(&c, &o, 0, 5, NULL), DRR_OK);
    parts_of(first, &c);
    assert_memory_equal(usual, first, FIXTURE_QUESTIONS * sizeof *usual);
    corpus_clear(&c);
}

static void a_test_file_is_nobodys_fold_and_fewer_questions_are_the_first(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "x.gguf");
    corpus_part parts[2 * FIXTURE_QUESTIONS];
    FILE *file = fopen(at("test.jsonl"), "w");
    assert_non_null(file);
    for (int q = FIXTURE_QUESTIONS - 4; q < FIXTURE_QUESTIONS + 4;
         q++) { /* four of the file above, and four new ones */
        rng r;
        rng_seed(&r, 1000 + (uint64_t)q);
        fprintf(file,
                "{\"task\": \"odd\", \"id\": \"q%d\", \"question\": \"%s what is it? no %d\", \"kind\": \"number\", "
                "\"gold\": \"1\", \"reasoner\": \"ann\", \"prompt\": \"p\", \"sample\": 0, \"answer\": \"1\", "
                "\"correct\": true, \"text\": \"so\"}\n",
                q, rng_uniform(&r) > 0.5 ? "easy" : "hard", q);
    }
    assert_int_equal(fclose(file), 0);
    char test[128];
    snprintf(test, sizeof test, "%s", at("test.jsonl"));
    o.test_traces = test;
    corpus c = read_corpus(&o);
    assert_int_equal(c.n_leaks, 4);
    size_t tested = 0;
    corpus own = read_corpus(&o); /* the same rows for all folds, as repetitions have them */
    for (uint32_t f = 0; f < 3; f++) {
        assert_int_equal(corpus_fold(&own, &o, f, 3, NULL), DRR_OK);
        parts_of(parts, &own);
        for (size_t i = 0; i < own.n; i++)
            if (i >= FIXTURE_QUESTIONS * FIXTURE_SAMPLES)
                assert_int_equal(own.rows[i].part, CORPUS_UNUSED);
        tested += corpus_questions(&own, CORPUS_TEST);
    }
    corpus_clear(&own);
    assert_int_equal(tested, FIXTURE_QUESTIONS - 4);
    o.test_traces = NULL;
    corpus_clear(&c);
    c = read_corpus(&o);
    o.max_questions = 20;
    assert_int_equal(corpus_fold(&c, &o, 1, 5, NULL), DRR_OK);
    assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), 20);
    assert_int_equal(corpus_questions(&c, CORPUS_TEST), 18);
    corpus_clear(&c);
}

/* ---- repetitions */

static drr_status repeat(drr_train_result *result, drr_repeats *x, const drr_train_options *o, uint32_t folds,
                         uint32_t seeds, listener *l, drr_error *err)
{
    listener deaf = {.word = "\x01"};
    const drr_hooks hooks = listening(l ? l : &deaf);
    return drr_train_repeat(result, x, o, folds, seeds, &hooks, err);
}

static void must(drr_status status, const drr_error *err)
{
    if (status != DRR_OK)
        fail_msg("%s", err->message);
}

static void means_and_deviations_are_those_of_the_runs(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "folds.gguf");
    drr_train_result result = {0}, plain = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    must(repeat(&result, &x, &o, 3, 2, NULL, &err), &err);
    assert_int_equal(x.n, 6);
    size_t questions = 0;
    for (size_t i = 0; i < x.n; i++) {
        assert_int_equal(x.runs[i].fold, i / 2 + 1);
        assert_int_equal(x.runs[i].seed, o.seed + i % 2);
        questions += x.runs[i].n_test_questions;
        assert_int_equal(x.runs[i].n_test, x.runs[i].n_test_questions * FIXTURE_SAMPLES);
    }
    assert_int_equal(questions, 2 * FIXTURE_QUESTIONS);
    for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++) {
        double mean = 0, all = 0, seeds = 0, folds = 0;
        for (size_t i = 0; i < 6; i++)
            mean += x.runs[i].figures[f] / 6;
        for (size_t i = 0; i < 6; i++) {
            const double own = (x.runs[i / 2 * 2].figures[f] + x.runs[i / 2 * 2 + 1].figures[f]) / 2;
            all += pow(x.runs[i].figures[f] - mean, 2) / 5;
            seeds += pow(x.runs[i].figures[f] - own, 2) / 3; /* three folds of one degree of freedom */
            folds += pow(own - mean, 2) / 2 / 2;             /* each mean comes twice */
        }
        near(x.mean[f], mean, 1e-12);
        near(x.sd[f], sqrt(all), 1e-9);
        near(x.sd_seeds[f], sqrt(seeds), 1e-9);
        near(x.sd_folds[f], sqrt(folds), 1e-9);
    }
    assert_true(x.sd_seeds[0] > 0 && x.sd_folds[0] > 0); /* seeds and folds do differ */
    /* the critic is the one that drr_train makes */
    must(drr_train(&plain, &o, NULL, &err), &err);
    near(result.auroc_text, plain.auroc_text, 0);
    near(result.brier, plain.brier, 0);
    assert_int_equal(result.n_test_questions, plain.n_test_questions);
    assert_false(file_exists(at("folds.gguf.runs")));
    char *text;
    assert_int_equal(file_read(&text, NULL, at("folds.card.md"), 0, NULL), DRR_OK);
    assert_null(strstr(text, "## Seeds"));
    free(text);
    drr_repeats_clear(&x);
}

static void without_folds_the_first_run_is_the_critic(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "seeds.gguf");
    drr_train_result result = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    listener l = {.word = "run "};
    must(repeat(&result, &x, &o, 0, 3, &l, &err), &err);
    assert_int_equal(l.heard, 2); /* the third is the critic's own training */
    assert_int_equal(x.n, 3);
    near(x.runs[0].figures[0], result.auroc_text, 0);
    near(x.runs[0].figures[1], result.auroc_stack, 0);
    near(x.runs[0].figures[5], result.within_stack.share, 0);
    assert_string_equal(drr_repeat_figure_name(5), "within_stack");
    assert_null(drr_repeat_figure_name(DRR_REPEAT_FIGURES));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(x.runs[i].seed, o.seed + i);
        assert_int_equal(x.runs[i].n_test_questions, result.n_test_questions); /* the split is the same */
        assert_int_equal(x.runs[i].fold, 0);
    }
    assert_true(x.runs[0].figures[0] != x.runs[1].figures[0] || x.runs[0].figures[8] != x.runs[1].figures[8]);
    assert_true(isnan(x.sd_folds[0]));
    near(x.sd[0], x.sd_seeds[0], 1e-12);
    char *text;
    assert_int_equal(file_read(&text, NULL, at("seeds.card.md"), 0, NULL), DRR_OK);
    assert_non_null(strstr(text, "## Seeds\n"));
    assert_non_null(strstr(text, "| usual | 9 | "));
    free(text);
    drr_repeats_clear(&x);
}

/* Stopped behind each run, and resumed, until it is through: what comes out is what an undisturbed repetition gives. */
static void a_cut_off_repetition_goes_on_and_does_nothing_twice(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "whole.gguf");
    drr_train_result whole_result = {0}, result = {0};
    drr_repeats expected = {0}, x = {0};
    drr_error err = {0};
    must(repeat(&whole_result, &expected, &o, 2, 2, NULL, &err), &err);
    o = fixture_options("traces.jsonl", "cut.gguf");
    int runs = 0, times = 0;
    drr_status status;
    for (;; times++) {
        listener l = {.word = "run ", .most = times < 6 ? 1 : 0};
        o.resume = times > 0;
        status = repeat(&result, &x, &o, 2, 2, &l, &err);
        runs += l.heard;
        if (status != DRR_E_INTERRUPTED)
            break;
        assert_int_equal(lines_of(at("cut.gguf.runs")), runs + 1); /* and the head */
    }
    must(status, &err);
    assert_int_equal(runs, 4); /* each once */
    assert_true(times >= 4);
    for (size_t i = 0; i < 4; i++)
        for (uint32_t f = 0; f < DRR_REPEAT_FIGURES; f++)
            assert_memory_equal(&x.runs[i].figures[f], &expected.runs[i].figures[f], sizeof(double));
    assert_memory_equal(x.mean, expected.mean, sizeof x.mean);
    near(result.auroc_stack, whole_result.auroc_stack, 0);
    assert_false(file_exists(at("cut.gguf.runs")));
    assert_false(file_exists(at("cut.gguf.fold-1-seed-7.checkpoint")));
    drr_repeats_clear(&x);
    drr_repeats_clear(&expected);
}

static void another_work_s_journal_and_a_damaged_one_are_refused(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "other.gguf");
    drr_train_result result = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    listener l = {.word = "run ", .most = 1};
    assert_int_equal(repeat(&result, &x, &o, 2, 1, &l, &err), DRR_E_INTERRUPTED);
    o.resume = true;
    o.learning_rate *= 2;
    assert_int_equal(repeat(&result, &x, &o, 2, 1, NULL, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, "other.gguf.runs"));
    o.learning_rate /= 2;
    assert_int_equal(repeat(&result, &x, &o, 3, 1, NULL, &err), DRR_E_MISMATCH); /* other folds */
    char *text;
    size_t size;
    assert_int_equal(file_read(&text, &size, at("other.gguf.runs"), 0, NULL), DRR_OK);
    assert_int_equal(file_write_all(at("other.gguf.runs"), text, size - 9, NULL), DRR_OK);
    free(text);
    assert_int_equal(repeat(&result, &x, &o, 2, 1, NULL, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "other.gguf.runs:2"));
    o.resume = false; /* begins anew */
    must(repeat(&result, &x, &o, 2, 1, NULL, &err), &err);
    drr_repeats_clear(&x);
}

static void what_cannot_be_is_refused_before_anything_is_trained(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "none.gguf");
    drr_train_result result = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    assert_int_equal(repeat(&result, &x, &o, 1, 1, NULL, &err), DRR_E_ARGUMENT);
    assert_int_equal(repeat(&result, &x, &o, 2, 0, NULL, &err), DRR_E_ARGUMENT);
    o.dev_share = 0.45;
    assert_int_equal(repeat(&result, &x, &o, 2, 1, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "dev share"));
    o.dev_share = 0.2;
    o.task = "odd"; /* 45 questions */
    assert_int_equal(repeat(&result, &x, &o, 2, 1, NULL, &err), DRR_E_EMPTY);
    assert_non_null(strstr(err.message, "45 questions"));
    assert_false(file_exists(at("none.gguf.runs")) || file_exists(at("none.gguf")));
}

/* 60 questions of which one alone is ever right: whichever fold tests it has nothing but wrong answers to learn from.
 */
static void a_fold_of_one_class_is_named_before_anything_is_trained(void **state)
{
    (void)state;
    FILE *file = fopen(at("one.jsonl"), "w");
    drr_train_result result = {0};
    drr_repeats x = {0};
    drr_error err = {0};
    listener l = {.word = "fold"};
    for (int q = 0; q < 60; q++)
        fprintf(file,
                "{\"task\": \"t\", \"id\": \"q%d\", \"question\": \"what is it? no %d\", \"kind\": \"number\", "
                "\"gold\": \"1\", \"reasoner\": \"ann\", \"prompt\": \"p\", \"sample\": 0, \"answer\": \"%d\", "
                "\"correct\": %s, \"text\": \"so\"}\n",
                q, q, q % 20 ? 2 : 1, q % 20 ? "false" : "true");
    assert_int_equal(fclose(file), 0);
    drr_train_options o = fixture_options("one.jsonl", "one.gguf");
    assert_int_equal(repeat(&result, &x, &o, 30, 1, &l, &err), DRR_E_EMPTY);
    assert_non_null(strstr(err.message, "fold "));
    assert_non_null(strstr(err.message, " of 30: "));
    assert_non_null(strstr(err.message, "learns from both"));
    assert_false(file_exists(at("one.gguf")));
}

/* ---- one fold by itself */

typedef struct heard {
    char fold[2 * FIXTURE_QUESTIONS];
    size_t n, of[8];
} heard;

static void hear(void *user, const char *question, uint32_t fold)
{
    heard *h = user;
    const long q = strtol(strstr(question, "no ") + 3, NULL, 10);
    assert_int_equal(h->fold[q], 0); /* once */
    h->fold[q] = (char)fold;
    h->of[fold]++;
    h->n++;
}

static double logit_of(const char *path)
{
    drr_critic *critic = NULL;
    drr_score score;
    const drr_score_item item = {.question = "hard what is it? no 1", .text = "so sure then one and so it is"};
    assert_int_equal(drr_critic_open(&critic, path, NULL), DRR_OK);
    assert_int_equal(drr_critic_score(critic, &score, &item, 1, NULL), DRR_OK);
    drr_critic_close(critic);
    return score.logit;
}

static void a_fold_s_critic_knows_nothing_of_the_questions_it_leaves_out(void **state)
{
    (void)state;
    heard h = {.n = 0}, once_more = {.n = 0};
    uint64_t identity, changed_identity;
    bool changed[FIXTURE_QUESTIONS];
    drr_train_options o = fixture_options("traces.jsonl", "fold.gguf");
    drr_train_result first = {0}, again = {0};
    drr_error err = {0};
    must(drr_train_divide(hear, &h, &identity, &o, 3, NULL, &err), &err);
    assert_int_equal(h.n, FIXTURE_QUESTIONS);
    assert_true(h.of[1] == 30 && h.of[2] == 30 && h.of[3] == 30);
    for (int q = 0; q < FIXTURE_QUESTIONS; q++)
        changed[q] = h.fold[q] == 2;
    write_traces("changed.jsonl", changed);
    o = fixture_options("changed.jsonl", "fold.gguf");
    must(drr_train_divide(hear, &once_more, &changed_identity, &o, 3, NULL, &err), &err);
    assert_true(identity != changed_identity);
    assert_memory_equal(h.fold, once_more.fold, sizeof h.fold);
    double logits[2][2];
    for (uint32_t k = 1; k <= 2; k++)
        for (int c = 0; c < 2; c++) {
            o = fixture_options(c ? "changed.jsonl" : "traces.jsonl", "fold.gguf");
            must(drr_train_fold(c ? &again : &first, &o, k, 3, NULL, &err), &err);
            assert_int_equal(first.n_test_questions, 30);
            assert_int_equal(first.n_dev_questions, 18);
            logits[k - 1][c] = logit_of(at("fold.gguf"));
        }
    assert_true(logits[1][0] == logits[1][1]); /* fold 2 leaves out what was changed */
    assert_true(logits[0][0] != logits[0][1]); /* fold 1 does not */
    /* and is the one that is measured in a repetition */
    drr_repeats x = {0};
    drr_train_result last = {0};
    o = fixture_options("traces.jsonl", "fold.gguf");
    must(drr_train_fold(&first, &o, 3, 3, NULL, &err), &err);
    must(repeat(&last, &x, &o, 3, 1, NULL, &err), &err);
    near(x.runs[2].figures[0], first.auroc_text, 0);
    drr_repeats_clear(&x);
    assert_int_equal(drr_train_fold(&first, &o, 4, 3, NULL, &err), DRR_E_ARGUMENT);
    assert_int_equal(drr_train_fold(&first, &o, 1, 1, NULL, &err), DRR_E_ARGUMENT);
    o.target_error = 0.2;
    assert_int_equal(drr_train_divide(hear, &h, &identity, &o, 3, NULL, &err), DRR_E_ARGUMENT);
}

/* ---- ablations of the split */

static void a_split_by_trace_parts_a_question_and_says_so(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "trace.gguf");
    listener l = {.word = "split by trace"};
    const drr_hooks hooks = listening(&l);
    drr_train_result result = {0};
    drr_error err = {0};
    corpus c = {0};
    size_t n[5] = {0}, parted = 0;
    bool in[FIXTURE_QUESTIONS][5] = {{false}};
    o.by_trace = true;
    assert_int_equal(corpus_read(&c, &o, &hooks, NULL), DRR_OK);
    for (size_t i = 0; i < c.n; i++) {
        n[c.rows[i].part]++;
        in[c.rows[i].question][c.rows[i].part] = true;
    }
    for (size_t q = 0; q < FIXTURE_QUESTIONS; q++)
        parted += in[q][CORPUS_TRAIN] && in[q][CORPUS_TEST];
    assert_int_equal(c.n_questions, FIXTURE_QUESTIONS);
    assert_int_equal(n[CORPUS_TEST], 41); /* 0.15 and 0.2 of 270, rounded up */
    assert_int_equal(n[CORPUS_DEV], 54);
    assert_true(parted > 20);
    assert_int_equal(l.heard, 1);
    corpus_clear(&c);
    must(drr_train(&result, &o, &hooks, &err), &err);
    assert_true(result.by_trace);
    char *text;
    assert_int_equal(file_read(&text, NULL, at("trace.card.md"), 0, NULL), DRR_OK);
    assert_non_null(strstr(text, "**Split by trace, as an ablation"));
    assert_null(strstr(text, "no question is in two parts"));
    free(text);
    drr_repeats x = {0};
    assert_int_equal(repeat(&result, &x, &o, 3, 1, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "split by trace"));
    o.target_error = 0.2;
    assert_int_equal(drr_train(&result, &o, NULL, &err), DRR_E_ARGUMENT);
}

static void retries_are_left_out_of_what_is_learnt_alone(void **state)
{
    (void)state;
    FILE *file = fopen(at("retries.jsonl"), "w");
    for (int q = 0; q < 100; q++)
        for (int turn = 0; turn < 2; turn++)
            fprintf(file,
                    "{\"task\": \"t\", \"id\": \"q%d\", \"question\": \"what is it? no %d\", \"kind\": \"number\", "
                    "\"gold\": \"1\", \"reasoner\": \"ann\", \"prompt\": \"p\", \"sample\": 0, \"turn\": %d, "
                    "\"answer\": \"%d\", \"correct\": %s, \"text\": \"so\"}\n",
                    q, q, turn, turn ? 1 : 2, turn ? "true" : "false");
    assert_int_equal(fclose(file), 0);
    drr_train_options o = fixture_options("retries.jsonl", "x.gguf");
    for (int only = 0; only < 2; only++)
        for (uint32_t fold = 0; fold < 2; fold++) {
            size_t retries[5] = {0};
            o.first_turns_only = only;
            corpus c = read_corpus(&o);
            if (fold)
                assert_int_equal(corpus_fold(&c, &o, fold, 4, NULL), DRR_OK);
            for (size_t i = 0; i < c.n; i++)
                retries[c.rows[i].part] += c.rows[i].trace.turn > 0;
            assert_true(retries[CORPUS_TEST] > 0);
            assert_int_equal(retries[CORPUS_TRAIN] + retries[CORPUS_DEV] > 0, !only);
            corpus_clear(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_is_left_out_once_with_all_its_answers),
        cmocka_unit_test(the_first_fold_is_the_usual_split),
        cmocka_unit_test(a_test_file_is_nobodys_fold_and_fewer_questions_are_the_first),
        cmocka_unit_test(means_and_deviations_are_those_of_the_runs),
        cmocka_unit_test(without_folds_the_first_run_is_the_critic),
        cmocka_unit_test(a_cut_off_repetition_goes_on_and_does_nothing_twice),
        cmocka_unit_test(another_work_s_journal_and_a_damaged_one_are_refused),
        cmocka_unit_test(what_cannot_be_is_refused_before_anything_is_trained),
        cmocka_unit_test(a_fold_of_one_class_is_named_before_anything_is_trained),
        cmocka_unit_test(a_fold_s_critic_knows_nothing_of_the_questions_it_leaves_out),
        cmocka_unit_test(a_split_by_trace_parts_a_question_and_says_so),
        cmocka_unit_test(retries_are_left_out_of_what_is_learnt_alone),
    };
    return cmocka_run_group_tests(tests, make_training, remove_place);
}
