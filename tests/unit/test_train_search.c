/* test_train_search.c: what a search tries next is halved by merit and keeps to its time, also with made-up costs and
 * losses; what it measures by is of dev questions that nothing was fitted on; test questions change nothing of it; and
 * a search that was cut off goes on. The trainings are real ones of a tiny encoder. */
#include "repeat_fixture.h"

/* ---- the plan */

enum { TEXTS = 400 };
static uint32_t lengths[TEXTS];

static search_space made_space(double budget, size_t n_questions)
{
    search_space s = {.learning_rate = 5e-5,
                      .epochs = 3,
                      .max_length = 256,
                      .train = lengths,
                      .n_train = TEXTS,
                      .dev = lengths,
                      .n_dev = TEXTS / 4,
                      .budget = budget};
    for (size_t i = 0; i < TEXTS; i++)
        lengths[i] = (uint32_t)(40 + i * 160 / TEXTS); /* 40 to 199 tokens */
    search_space_fill(&s, 512, n_questions);
    return s;
}

static void lengths_and_rungs_are_those_that_the_data_give_reason_for(void **state)
{
    (void)state;
    search_space s = made_space(1, 400);
    const uint32_t expected[] = {128, 192, 256}; /* at 96 most are cut, at 256 none is */
    assert_int_equal(s.n_lengths, 3);
    assert_memory_equal(s.lengths, expected, sizeof expected);
    assert_int_equal(s.rungs, 3);
    assert_true(s.questions[0] == 100 && s.questions[1] == 200 && s.questions[2] == 400);
    s = made_space(1, 100); /* a quarter would be fewer than 32 */
    assert_true(s.rungs == 2 && s.questions[0] == 50 && s.questions[1] == 100);
    s = made_space(1, 40);
    assert_true(s.rungs == 1 && s.questions[0] == 40);
    search_space_fill(&s, 48, 40); /* an encoder that reads less than any of these */
    assert_true(s.n_lengths == 1 && s.lengths[0] == 48);
}

static void settings_begin_with_those_given_and_lie_around_them(void **state)
{
    (void)state;
    const search_space s = made_space(1, 400);
    size_t slower = 0, faster = 0, epochs[7] = {0}, n = 0;
    drr_trial t, all[SEARCH_MOST_SETTINGS];
    for (uint32_t number = 1; number <= SEARCH_MOST_SETTINGS; number++) {
        if (!search_settings(&t, &s, number))
            continue;
        assert_int_equal(t.settings, number);
        assert_true(t.learning_rate >= 0.99e-5 && t.learning_rate <= 25.1e-5);
        assert_true(t.epochs == 2 || t.epochs == 3 || t.epochs == 5 || t.epochs == 6);
        slower += t.learning_rate < 4.9e-5;
        faster += t.learning_rate > 5.1e-5;
        epochs[t.epochs]++;
        for (size_t k = 0; k < n; k++)
            assert_true(fabs(all[k].learning_rate - t.learning_rate) > 1e-12 || all[k].epochs != t.epochs ||
                        all[k].max_length != t.max_length);
        all[n++] = t;
    }
    assert_true(n > 40);
    near(all[0].learning_rate, 5e-5, 0);
    assert_true(all[0].epochs == 3 && all[0].max_length == 256);
    assert_true(slower > n / 3 && faster > n / 3);
    for (size_t e = 2; e <= 6; e++)
        assert_true(e == 4 || epochs[e] >= 8);
}

/* A world in which a trial takes as long as its work, and its loss is a bowl around a best learning rate and number of
 * epochs, with some noise. */
static double true_loss(const drr_trial *t)
{
    return 0.5 + 0.05 * pow(log(t->learning_rate / 12e-5), 2) + 0.01 * fabs((double)t->epochs - 5) +
           (t->max_length < 192 ? 0.05 : 0);
}

static size_t simulate(drr_trial done[200], const search_space *s, double seconds_a_unit, double noise)
{
    size_t n = 0;
    double spent = 0;
    rng r;
    rng_seed(&r, 5);
    while (n < 200 && spent < s->budget && search_next(&done[n], s, done, n)) {
        drr_trial *t = &done[n];
        assert_in_range(t->rung, 1, s->rungs);
        assert_int_equal(t->n_questions, s->questions[t->rung - 1]);
        for (size_t k = 0; k < n; k++)
            assert_true(done[k].settings != t->settings || done[k].rung != t->rung);
        t->kind = DRR_TRIAL_STACK;
        t->kinds[DRR_TRIAL_STACK].log_loss = true_loss(t) + noise * rng_normal(&r);
        t->seconds = seconds_a_unit * search_work(s, t);
        spent += t->seconds;
        n++;
    }
    return n;
}

#define FULL_SECONDS 3.0 /* that the settings given take on all questions */

static drr_trial given_in_full(const search_space *s)
{
    drr_trial given;
    assert_true(search_settings(&given, s, 1));
    given.rung = s->rungs;
    return given;
}

static double seconds_of(const drr_trial *done, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += done[i].seconds;
    return sum;
}

static size_t of_rung(const drr_trial *done, size_t n, uint32_t rung)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += done[i].rung == rung;
    return count;
}

static const drr_trial *find_trial(const drr_trial *done, size_t n, uint32_t settings, uint32_t rung)
{
    for (size_t i = 0; i < n; i++)
        if (done[i].settings == settings && done[i].rung == rung)
            return &done[i];
    return NULL;
}

/* A search of so many seconds, which keeps to them and uses more than half; how many trials it made, and what it was
 * given to begin with. */
static size_t search_within(drr_trial *done, drr_trial *given, double budget)
{
    const search_space s = made_space(budget, 400);
    *given = given_in_full(&s);
    const size_t n = simulate(done, &s, FULL_SECONDS / search_work(&s, given), 0.002);
    const double spent = seconds_of(done, n);
    print_message("%g s: %zu + %zu + %zu trials, %.1f s\n", budget, of_rung(done, n, 1), of_rung(done, n, 2),
                  of_rung(done, n, 3), spent);
    assert_true(spent <= budget && spent > 0.5 * budget);
    return n;
}

static void the_better_half_goes_on_and_the_time_is_kept(void **state)
{
    (void)state;
    static drr_trial done[200];
    for (double budget = 12; budget < 100; budget *= 2) {
        drr_trial given;
        const size_t n = search_within(done, &given, budget);
        assert_true(of_rung(done, n, 1) >= 4 && of_rung(done, n, 3) >= 2);
        assert_true(of_rung(done, n, 1) > of_rung(done, n, 2) && of_rung(done, n, 2) >= of_rung(done, n, 3));
        for (uint32_t rung = 1; rung <= 3; rung++)
            assert_non_null(find_trial(done, n, 1, rung)); /* what was given is there to the end */
        for (size_t i = 0; i < n; i++) {
            if (done[i].rung == 1 || done[i].settings == 1)
                continue;
            const drr_trial *below = find_trial(done, n, done[i].settings, done[i].rung - 1);
            size_t better = 0;
            assert_non_null(below);
            for (size_t k = 0; k < n; k++)
                better += done[k].rung == below->rung && search_loss(&done[k]) < search_loss(below);
            assert_true(better < (of_rung(done, n, below->rung) + 1) / 2);
        }
        const drr_trial *winner = &done[search_winner(done, n)];
        assert_int_equal(winner->rung, 3);
        assert_true(true_loss(winner) <= true_loss(&given) - 0.01);
    }
}

static void with_little_time_what_was_given_is_compared_with_one_other_or_nothing(void **state)
{
    (void)state;
    static drr_trial done[200];
    search_space s = made_space(0.6, 400);
    const drr_trial given = given_in_full(&s);
    const double unit = FULL_SECONDS / search_work(&s, &given);
    size_t n = simulate(done, &s, unit, 0); /* a quarter takes more than all of the time */
    assert_int_equal(n, 1);
    assert_int_equal(search_winner(done, n), 0);
    s.budget = 3.2;
    n = simulate(done, &s, unit, 0);
    assert_true(n >= 2 && of_rung(done, n, 3) == 0);
    assert_true(search_winner(done, 0) == 0 && search_winner(done, n) < n); /* of none: none */
    assert_true(seconds_of(done, n) <= 3.2);
}

/* Dev takes as long as training where there is little to train on, so that a rung's part holds two trials: were one of
 * them to go on alone, the search would end with half of its time left. */
static void few_trials_go_on_together_and_use_the_time(void **state)
{
    (void)state;
    static drr_trial done[200];
    for (double budget = 4; budget <= 12; budget += 0.5) {
        drr_trial given;
        const size_t n = search_within(done, &given, budget);
        const double spent = seconds_of(done, n);
        if (of_rung(done, n, 1) >= 2 && of_rung(done, n, 2) == 1) /* the other one did not fit */
            assert_true(spent > 0.7 * budget);
    }
}

static void failed_trials_neither_win_nor_go_on(void **state)
{
    (void)state;
    search_space s = made_space(1000, 400);
    drr_trial done[8] = {{0}}, next;
    for (uint32_t i = 0; i < 4; i++) {
        search_settings(&done[i], &s, i + 1);
        done[i].rung = 1;
        done[i].seconds = 249; /* 996 in all: more than the first third of 2900 */
        done[i].kinds[0].log_loss = i == 2 ? 0.4 : i == 3 ? 0.6 : NAN;
    }
    assert_int_equal(search_winner(done, 4), 2);
    assert_int_equal(search_winner(done, 2), 2); /* both failed: none */
    s.budget = 2900;
    assert_true(search_next(&next, &s, done, 4));
    assert_true(next.rung == 2 && next.settings == 3);
    done[4] = next;
    done[4].kinds[0].log_loss = 0.5;
    assert_true(search_next(&next, &s, done, 5));
    assert_true(next.rung == 2 && next.settings == 1); /* what was given has another chance on more questions */
    done[5] = next;
    done[5].kinds[0].log_loss = NAN;
    assert_int_equal(search_winner(done, 6), 2); /* one finished trial compares nothing: the rung below decides */
    done[5].kinds[0].log_loss = 0.3;
    assert_int_equal(search_winner(done, 6), 5);
}

/* ---- what is measured */

static corpus made_dev(uint64_t seed, double merit)
{
    enum { QUESTIONS = 60, SAMPLES = 4 };
    corpus c = {
        .rows = calloc(QUESTIONS * SAMPLES, sizeof *c.rows), .capacity = QUESTIONS * SAMPLES, .n_questions = QUESTIONS};
    rng r;
    assert_non_null(c.rows);
    rng_seed(&r, seed);
    for (size_t s = 0; s < SAMPLES; s++)
        for (size_t q = 0; q < QUESTIONS; q++) {
            char answer[16];
            const bool right = rng_uniform(&r) < 0.3 + 0.4 * (double)(q % 2);
            corpus_row *row = &c.rows[c.n++];
            snprintf(answer, sizeof answer, "%llu", right ? 1ull : 2ull + (unsigned long long)rng_below(&r, 5));
            *row = (corpus_row){.question = q, .part = q % 6 == 0 ? CORPUS_TEST : CORPUS_DEV};
            row->logit = merit * (right ? 1 : -1) + rng_normal(&r);
            row->trace = (drr_trace){.kind = DRR_KIND_NUMBER, .sample = (uint32_t)s};
            drr_features none;
            drr_features_defaults(&none);
            row->trace.stats = none.stats;
            row->trace.answer = string_copy(answer);
            row->trace.text = string_copy("x");
            row->trace.reasoner = string_copy("ann");
            row->trace.label = right ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
        }
    return c;
}

static dev_figures scored(const corpus *c)
{
    dev_figures f;
    drr_error err = {0};
    if (dev_score(&f, c, 3, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return f;
}

static void dev_figures_are_of_what_was_not_fitted_on_the_question(void **state)
{
    (void)state;
    corpus c = made_dev(1, 1);
    dev_figures f = scored(&c), g;
    assert_int_equal(f.n, 50);
    assert_int_equal(f.n_rows, 200);
    for (int k = 0; k < DRR_TRIAL_KINDS; k++) {
        double sum = 0;
        for (size_t q = 0; q < f.n; q++)
            sum += f.losses[k][q];
        near(sum / 200, f.log_loss[k], 1e-9);
        assert_true(f.auroc[k] > 0.8 && f.within[k] > 0.8);
    }
    assert_true(f.log_loss[DRR_TRIAL_STACK] < f.log_loss[DRR_TRIAL_TEXT]); /* right answers agree */
    dev_figures_clear(&f);
    corpus_clear(&c);
    /* A logit that knows nothing is no better than the share of right ones: in sight of its own labels it would be. */
    c = made_dev(2, 0);
    f = scored(&c);
    assert_true(f.log_loss[DRR_TRIAL_TEXT] > log(2) - 0.01);
    /* and the labels of one question do not change what is said of it: all of its labels turned, its losses are those
     * of 1 - p, so that the two sum to what exp turns into 1 */
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].question == 1) {
            const bool was = c.rows[i].trace.label == DRR_LABEL_ACCEPT;
            c.rows[i].trace.label = was ? DRR_LABEL_REJECT : DRR_LABEL_ACCEPT;
        }
    g = scored(&c);
    const double p_all = exp(-f.losses[DRR_TRIAL_TEXT][0]), turned = exp(-g.losses[DRR_TRIAL_TEXT][0]);
    assert_true(p_all > 0 && turned > 0 && fabs(log(p_all * turned) + 8 * log(2)) < 1.0); /* four rows near a half */
    dev_figures_clear(&f);
    dev_figures_clear(&g);
    /* what test rows say changes nothing */
    f = scored(&c);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].part == CORPUS_TEST) {
            c.rows[i].logit = 100;
            c.rows[i].trace.label = DRR_LABEL_REJECT;
        }
    g = scored(&c);
    assert_memory_equal(f.log_loss, g.log_loss, sizeof f.log_loss);
    assert_memory_equal(f.losses[1], g.losses[1], f.n * sizeof *f.losses[1]);
    dev_figures_clear(&f);
    dev_figures_clear(&g);
    corpus_clear(&c);
}

static void a_blind_corpus_has_neither_test_nor_guarantee_questions(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "x.gguf");
    drr_error err = {0};
    size_t smaller[FIXTURE_QUESTIONS] = {0};
    o.target_error = 0.3;
    for (size_t n = 10; n <= 40; n += 10) {
        corpus c = {0};
        assert_int_equal(corpus_read(&c, &o, NULL, &err), DRR_OK);
        const size_t dev = corpus_questions(&c, CORPUS_DEV);
        assert_true(corpus_questions(&c, CORPUS_TEST) > 0 && corpus_questions(&c, CORPUS_GUARANTEE) > 0);
        assert_int_equal(corpus_blind(&c, n, NULL), DRR_OK);
        assert_int_equal(corpus_questions(&c, CORPUS_TEST) + corpus_questions(&c, CORPUS_GUARANTEE), 0);
        assert_int_equal(corpus_questions(&c, CORPUS_TRAIN), n);
        assert_int_equal(corpus_questions(&c, CORPUS_DEV), dev);
        for (size_t i = 0; i < c.n; i++) { /* more questions are those and others */
            if (smaller[c.rows[i].question])
                assert_int_equal(c.rows[i].part, CORPUS_TRAIN);
        }
        for (size_t i = 0; i < c.n; i++)
            smaller[c.rows[i].question] = c.rows[i].part == CORPUS_TRAIN;
        corpus_clear(&c);
    }
}

/* ---- searches */

static void must(drr_status status, const drr_error *err)
{
    if (status != DRR_OK)
        fail_msg("%s", err->message);
}

static drr_status search_for(drr_train_result *result, drr_search *x, const drr_train_options *o, double seconds,
                             listener *l, drr_error *err)
{
    listener deaf = {.word = "\x01"};
    const drr_hooks hooks = listening(l ? l : &deaf);
    return drr_train_search(result, x, o, seconds, &hooks, err);
}

/* So many trials and no more, however fast the machine is: cut off behind them, and resumed with no time left. */
static void search_of(drr_train_result *result, drr_search *x, const drr_train_options *o, int most)
{
    drr_train_options again = *o;
    drr_error err = {0};
    listener l = {.word = "trial ", .most = most};
    assert_int_equal(search_for(result, x, o, 3600, &l, &err), DRR_E_INTERRUPTED);
    again.resume = true;
    must(search_for(result, x, &again, 1e-6, NULL, &err), &err);
    assert_int_equal(x->n, most);
}

static void the_winner_is_trained_and_measured_on_test(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "won.gguf");
    drr_train_options again = fixture_options("traces.jsonl", "again.gguf");
    drr_train_result result = {0}, plain = {0};
    drr_search x = {0};
    drr_error err = {0};
    search_of(&result, &x, &o, 4);
    assert_true(x.winner < x.n && x.seconds > 0);
    assert_int_equal(x.rungs, 1); /* 58 questions to train on: half would be fewer than 32 */
    assert_int_equal(x.trials[0].settings, 1);
    near(x.trials[0].learning_rate, o.learning_rate, 0);
    for (size_t i = 0; i < x.n; i++)
        assert_true(isnan(search_loss(&x.trials[i])) || search_loss(&x.trials[i]) >= search_loss(&x.trials[x.winner]));
    assert_true(x.trials[x.winner].settings == 1 ? x.gain == 0 : x.gain >= 0);
    const drr_trial *w = &x.trials[x.winner];
    again.learning_rate = w->learning_rate;
    again.epochs = w->epochs;
    again.max_length = w->max_length;
    again.text_alone = w->kind == DRR_TRIAL_TEXT;
    must(drr_train(&plain, &again, NULL, &err), &err);
    near(result.auroc_text, plain.auroc_text, 0);
    near(result.brier, plain.brier, 0);
    assert_int_equal(result.n_test_questions, plain.n_test_questions);
    assert_true(result.n_test > 0);
    assert_false(file_exists(at("won.gguf.trials")));
    char *text;
    assert_int_equal(file_read(&text, NULL, at("won.card.md"), 0, NULL), DRR_OK);
    assert_non_null(strstr(text, "## Search\n"));
    assert_non_null(strstr(text, "(winner)"));
    free(text);
    drr_search_clear(&x);
}

/* Everything about the test questions but their text is made up anew: no trial notices, and the test figures do. */
static void test_questions_have_no_part_in_a_search(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "one.gguf");
    const drr_train_options p = fixture_options("changed.jsonl", "two.gguf");
    bool changed[FIXTURE_QUESTIONS] = {false};
    drr_train_result a = {0}, b = {0};
    drr_search x = {0}, y = {0};
    corpus c = {0};
    assert_int_equal(corpus_read(&c, &o, NULL, NULL), DRR_OK);
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].part == CORPUS_TEST)
            changed[strtol(c.rows[i].trace.id + 1, NULL, 10)] = true;
    corpus_clear(&c);
    write_traces("changed.jsonl", changed);
    search_of(&a, &x, &o, 3);
    search_of(&b, &y, &p, 3);
    for (size_t i = 0; i < x.n; i++) {
        assert_true(!isnan(search_loss(&x.trials[i])));
        assert_memory_equal(y.trials[i].kinds, x.trials[i].kinds, sizeof x.trials[i].kinds);
    }
    assert_int_equal(x.winner, y.winner);
    assert_true(a.auroc_text > b.auroc_text + 0.1); /* the labels there are turned */
    drr_search_clear(&x);
    drr_search_clear(&y);
}

static void a_cut_off_search_keeps_what_it_has_tried(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "cut.gguf");
    drr_train_result result = {0};
    drr_search x = {0};
    drr_error err = {0};
    listener l = {.word = "trial ", .most = 3};
    char *before, *after;
    size_t size;
    assert_int_equal(search_for(&result, &x, &o, 3600, &l, &err), DRR_E_INTERRUPTED);
    assert_int_equal(lines_of(at("cut.gguf.trials")), 1 + 3);
    assert_int_equal(file_read(&before, &size, at("cut.gguf.trials"), 0, NULL), DRR_OK);
    o.resume = true;
    l = (listener){.word = "trial ", .most = 2};
    assert_int_equal(search_for(&result, &x, &o, 3600, &l, &err), DRR_E_INTERRUPTED);
    assert_int_equal(lines_of(at("cut.gguf.trials")), 1 + 5);
    assert_int_equal(file_read(&after, NULL, at("cut.gguf.trials"), 0, NULL), DRR_OK);
    assert_memory_equal(before, after, size); /* not tried again, not changed */
    free(before);
    free(after);
    o.batch = 8;
    assert_int_equal(search_for(&result, &x, &o, 3600, NULL, &err), DRR_E_MISMATCH);
    o.batch = 16;
    must(search_for(&result, &x, &o, 0.001, NULL, &err), &err); /* the time is up: the best so far is trained */
    assert_int_equal(x.n, 5);
    assert_true(x.winner < x.n);
    for (size_t i = 0; i < x.n; i++)
        assert_true(x.trials[i].settings == i + 1);
    assert_true(!isnan(x.gain));
    drr_search_clear(&x);
}

static void without_a_finished_trial_the_settings_given_are_trained(void **state)
{
    (void)state;
    const drr_train_options o = fixture_options("traces.jsonl", "none.gguf");
    drr_train_result result = {0};
    drr_search x = {0};
    drr_error err = {0};
    listener l = {.word = "no trial was finished"};
    must(search_for(&result, &x, &o, 1e-6, &l, &err), &err);
    assert_int_equal(l.heard, 1);
    assert_int_equal(x.winner, x.n);
    assert_true(x.n <= 1 && isnan(x.gain));
    assert_true(result.n_test > 0 && file_exists(at("none.gguf")));
    drr_search_clear(&x);
}

static void what_cannot_be_searched_is_refused(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "bad.gguf");
    drr_train_result result = {0};
    drr_search x = {0};
    drr_error err = {0};
    assert_int_equal(search_for(&result, &x, &o, 0, NULL, &err), DRR_E_ARGUMENT);
    assert_int_equal(search_for(&result, &x, &o, NAN, NULL, &err), DRR_E_ARGUMENT);
    o.dev_share = 0.1; /* 9 questions */
    assert_int_equal(search_for(&result, &x, &o, 5, NULL, &err), DRR_E_EMPTY);
    assert_non_null(strstr(err.message, "9 dev questions are too few"));
    assert_false(file_exists(at("bad.gguf")) || file_exists(at("bad.gguf.trials")));
}

static void text_alone_has_no_stack_and_says_so(void **state)
{
    (void)state;
    drr_train_options o = fixture_options("traces.jsonl", "text.gguf");
    drr_train_result result = {0};
    drr_critic *critic;
    drr_critic_info info;
    drr_error err = {0};
    o.text_alone = true;
    must(drr_train(&result, &o, NULL, &err), &err);
    assert_true(result.text_alone);
    assert_int_equal(drr_critic_open(&critic, o.out, NULL), DRR_OK);
    drr_critic_describe(critic, &info);
    assert_false(info.has_stack);
    drr_features f;
    drr_features_defaults(&f);
    f.n_others = f.n_agree = 5;
    near(drr_critic_combine(critic, 0.3, &f), drr_critic_combine(critic, 0.3, NULL), 0);
    drr_critic_close(critic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_and_rungs_are_those_that_the_data_give_reason_for),
        cmocka_unit_test(settings_begin_with_those_given_and_lie_around_them),
        cmocka_unit_test(the_better_half_goes_on_and_the_time_is_kept),
        cmocka_unit_test(with_little_time_what_was_given_is_compared_with_one_other_or_nothing),
        cmocka_unit_test(few_trials_go_on_together_and_use_the_time),
        cmocka_unit_test(failed_trials_neither_win_nor_go_on),
        cmocka_unit_test(dev_figures_are_of_what_was_not_fitted_on_the_question),
        cmocka_unit_test(a_blind_corpus_has_neither_test_nor_guarantee_questions),
        cmocka_unit_test(the_winner_is_trained_and_measured_on_test),
        cmocka_unit_test(test_questions_have_no_part_in_a_search),
        cmocka_unit_test(a_cut_off_search_keeps_what_it_has_tried),
        cmocka_unit_test(without_a_finished_trial_the_settings_given_are_trained),
        cmocka_unit_test(what_cannot_be_searched_is_refused),
        cmocka_unit_test(text_alone_has_no_stack_and_says_so),
    };
    return cmocka_run_group_tests(tests, make_training, remove_place);
}
