/* test_eval_critic.c: evaluations with a critic, small enough to be worked out by hand: which rows each figure is over,
 * its controls on the same rows, abstentions, risk, what is not defined, and names that collide. */
#include "eval/eval_internal.h"
#include "script_fixture.h"

/* What is asked, in both folders' files; sample 0 is the first answer of cot, drr and best-of-n, sample 1 drr's second
 * and best-of-n's. What becomes of each stands beside it; reject and accept are at 0.5. */
static const line lines[] = {
    {"a1?", 0, "Answer: 1", 2},
    {"a1?", 1, "Answer: 1", 1}, /* right at once */
    {"a2?", 0, "Answer: 9", -1},
    {"a2?", 1, "Answer: 2", 1.5f}, /* rejected, then right */
    {"a3?", 0, "Hm.\nAnswer: 8", 2.5f},
    {"a3?", 1, "Answer: 3", 0}, /* accepted, and wrong */
    {"a4?", 0, "I wonder", 3},
    {"a4?", 1, "Answer: 4", -2}, /* unread, then below abstain_below */
    {"a5?", 0, NULL, 0},
    {"a5?", 1, "Answer: 5", 0}, /* fails */
    {"a6?", 0, "Hm.\nAnswer: 7", -1},
    {"a6?", 1, "Answer: 7", -0.5f}, /* wrong twice, and the second is believed */
    {"b1?", 0, "Answer: 1", 2},
    {"b1?", 1, "Answer: 1", 1}, /* right at once */
};

static char critic_path[] = "/tmp/drr-test-judged-XXXXXX", promising_path[] = "/tmp/drr-test-judged-XXXXXX";
static char folder[] = "/tmp/drr-test-eval-critic-XXXXXX";

/* A file of n questions c1?, c2? ... whose answers are 1, 2 ... */
static void write_data(const char *name, char c, int n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 1; i <= n; i++)
        fprintf(f, "{\"id\": \"%c%d\", \"question\": \"%c%d?\", \"answer\": \"%d\", \"kind\": \"number\"}\n", c, i, c,
                i, i);
    assert_int_equal(fclose(f), 0);
}

static int make_place(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    const drr_guarantee promise = script_guarantee(2, 0.6, NAN);
    write_margin_critic(critic_path, 1);
    write_promising_critic(promising_path, 1, &promise, 1);
    write_data("a.jsonl", 'a', 6);
    write_data("b.jsonl", 'b', 1);
    write_data("a.test.jsonl", 'b', 1); /* named a, too */
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s %s %s", folder, critic_path, promising_path);
    return system(command);
}

typedef struct finished {
    drr_status status;
    drr_error err;
    char *text, *table, *html;
    json_t *json;
} finished;

static finished evaluate_with(const char *const *files, size_t n_files, const drr_strategy *strategies, size_t n,
                              const char *critic_file, uint32_t max_turns)
{
    static int number;
    finished f = {0};
    scripted script = {.lines = lines, .n_lines = sizeof lines / sizeof *lines};
    drr_reasoner *reasoner;
    drr_critic *critic = NULL;
    drr_prompts *prompts;
    drr_dataset *data[2] = {NULL};
    drr_eval_options o;
    char out[96], path[192];
    size_t size;
    assert_int_equal(reasoner_new(&reasoner, &script_backend, &script, "script", "a script", 4, NULL), DRR_OK);
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    if (critic_file)
        assert_int_equal(drr_critic_open(&critic, critic_file, NULL), DRR_OK);
    for (size_t i = 0; i < n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(drr_dataset_open(&data[i], path, NULL, NULL, NULL), DRR_OK);
    }
    drr_eval_options_defaults(&o);
    snprintf(out, sizeof out, "%s/%d", folder, number++);
    o.out = out;
    o.strategies = strategies;
    o.n_strategies = n;
    o.bootstrap = 100;
    o.policy.samples = 2;
    o.policy.max_turns = max_turns;
    o.policy.abstain_below = 0.1;
    f.status = drr_eval(&f.text, &f.table, reasoner, critic, prompts, (const drr_dataset *const *)data, n_files, &o,
                        NULL, &f.err);
    snprintf(path, sizeof path, "%s/report.html", out);
    if (f.status == DRR_OK) {
        assert_int_equal(file_read(&f.html, &size, path, 0, NULL), DRR_OK);
        assert_int_equal(json_parse(&f.json, f.text, strlen(f.text), "report", NULL), DRR_OK);
    }
    for (size_t i = 0; i < n_files; i++)
        drr_dataset_free(data[i]);
    drr_critic_close(critic);
    drr_prompts_free(prompts);
    drr_reasoner_close(reasoner);
    return f;
}

static finished evaluate(const char *const *files, size_t n_files, const drr_strategy *strategies, size_t n,
                         bool with_critic)
{
    return evaluate_with(files, n_files, strategies, n, with_critic ? critic_path : NULL, 2);
}

static void finished_clear(finished *f)
{
    json_decref(f->json);
    free(f->text);
    free(f->table);
    free(f->html);
}

static const char *const file_a[] = {"a.jsonl"}, *const files_ab[] = {"a.jsonl", "b.jsonl"};
static const drr_strategy three[] = {DRR_STRATEGY_COT, DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_DRR};

/* The object at a path of names. */
static json_t *find(const finished *f, const char *data, const char *a, const char *b, const char *c)
{
    json_t *o = json_object_get(json_object_get(f->json, "tasks"), data);
    o = json_object_get(o, a);
    if (b)
        o = json_object_get(o, b);
    if (c)
        o = json_object_get(o, c);
    assert_non_null(o);
    return o;
}

static void assert_figure(json_t *o, const char *name, double expected)
{
    json_t *value = json_object_get(o, name);
    if (!value || (isnan(expected) ? !json_is_null(value) : !json_is_number(value)) ||
        (!isnan(expected) && fabs(json_number_value(value) - expected) > 1e-6))
        fail_msg("%s is %f and not %f", name, value ? json_number_value(value) : NAN, expected);
}

static void assert_words(json_t *o, const char *name, const char *expected)
{
    assert_string_equal(json_string_value(json_object_get(o, name)), expected);
}

static double s(double z)
{
    return 1 / (1 + exp(-z));
}

/* ---- rows */

/* a1 right s(2), a2 wrong s(-1), a3 wrong s(2.5), a6 wrong s(-1); a4 unread, a5 failed. */
static void first_answers_are_judged_alone_and_one_a_question(void **state)
{
    (void)state;
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *first = find(&f, "a", "critic", "sets", "first");
    assert_words(first, "rows", "first answers, judged alone");
    assert_figure(first, "n", 4);
    assert_figure(first, "n_right", 1);
    assert_figure(first, "right_se", 0.25); /* sqrt(p (1 - p) / (n - 1)) */
    assert_figure(first, "n_unparsed", 1);
    assert_figure(first, "auroc", 2.0 / 3); /* above two of three */
    assert_figure(first, "auprc", 0.5);     /* right is second */
    assert_figure(first, "auroc_text", 0.5);
    assert_figure(first, "brier",
                  ((1 - s(2)) * (1 - s(2)) + 2 * s(-1) * s(-1) + s(2.5) * s(2.5)) / 4); /* as it was when acted on */
    assert_figure(first, "ece", (fabs(1 - s(2) - s(2.5)) + 2 * s(-1)) / 4);             /* 0.88 and 0.92 share a bin */
    assert_figure(first, "length_auroc", 5.0 / 6); /* shorter than two, as long as one: 0.5 of 3, turned round */
    assert_figure(first, "vote_auroc", NAN);
    assert_words(first, "undefined", "no vote share, for each was judged alone");
    finished_clear(&f);
}

/* a1 right s(2), a2 right s(1.5 - log 3), a3 wrong s(2.5), a6 wrong s(-0.5 + log 3). */
static void answers_given_keep_the_probability_they_were_given_on(void **state)
{
    (void)state;
    const double p2 = s(1.5 - log(3)), p6 = s(-0.5 + log(3));
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *given = find(&f, "a", "critic", "sets", "given");
    assert_figure(given, "n", 4);
    assert_figure(given, "n_right", 2);
    assert_figure(given, "n_unparsed", 0);
    assert_figure(given, "auroc", 1.0 / 4);
    assert_figure(given, "brier", ((1 - s(2)) * (1 - s(2)) + (1 - p2) * (1 - p2) + s(2.5) * s(2.5) + p6 * p6) / 4);
    assert_figure(given, "length_auroc", 3.0 / 4);
    assert_figure(given, "vote_auroc", NAN); /* a1 and a3 stood alone */
    json_t *known = find(&f, "a", "critic", "sets", "given_others_known");
    assert_figure(known, "n", 2);
    assert_figure(known, "auroc", 0);      /* a2 right 0.60, a6 wrong 0.65 */
    assert_figure(known, "vote_auroc", 0); /* a2 agrees with none, a6 with all */
    assert_figure(known, "length_auroc", 0.5);
    assert_true(json_is_null(json_object_get(known, "undefined")));
    finished_clear(&f);
}

/* In units of z, L = log 3: right 2+L, 1+L, 1.5-L, -L, -2-L; wrong -1-L, 2.5-L, -1+L, -0.5+L. a5 has one sample alone.
 */
static void samples_and_their_vote_share_are_the_same_rows(void **state)
{
    (void)state;
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *samples = find(&f, "a", "critic", "sets", "samples");
    assert_words(samples, "strategy", "best-of-n");
    assert_figure(samples, "n", 9);
    assert_figure(samples, "n_right", 5);
    /* less 5/9 a row, questions are off by 8/9, -1/9, -1/9, 4/9 and -10/9 */
    assert_figure(samples, "right_se", sqrt(182.0 / 81 * 5 / 4) / 9);
    assert_figure(samples, "n_unparsed", 1);
    assert_figure(samples, "auroc", 11.0 / 20);     /* 4 + 4 + 2 + 1 + 0 pairs of 20 */
    assert_figure(samples, "vote_auroc", 9.0 / 20); /* right 1 1 0 0 0, wrong 0 0 1 1 */
    json_t *critic = find(&f, "a", "critic", NULL, NULL);
    assert_words(critic, "set", "samples");
    assert_figure(critic, "auroc", 11.0 / 20);
    assert_figure(critic, "n", 9);
    finished_clear(&f);
}

/* Pairs are a2's and a3's: right 1.5 against wrong -1, right 0 against wrong 2.5; log 3 is the same within each. */
static void samples_of_one_question_are_told_apart_or_not(void **state)
{
    (void)state;
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *samples = find(&f, "a", "critic", "sets", "samples"), *first = find(&f, "a", "critic", "sets", "first");
    static const char *const names[] = {"within", "within_text", "within_length", "within_vote"};
    const double shares[] = {0.5, 0.5, 0.75, 0.5}; /* as long as the other, shorter: 0.25, turned round; no votes */
    for (size_t i = 0; i < 4; i++) {
        json_t *w = json_object_get(samples, names[i]), *ci = json_object_get(w, "ci");
        assert_figure(w, "share", shares[i]);
        assert_figure(w, "n_pairs", 2);
        assert_figure(w, "n_questions", 2);
        assert_int_equal(json_array_size(ci), 2);
        assert_true(json_number_value(json_array_get(ci, 0)) <= shares[i]);
        assert_true(json_number_value(json_array_get(ci, 1)) >= shares[i]);
        assert_true(json_is_null(json_object_get(first, names[i]))); /* one answer a question: no pairs */
        assert_figure(json_object_get(find(&f, "a", "critic", NULL, NULL), names[i]), "share", shares[i]);
    }
    const char *const forms[] = {f.table, f.html};
    for (size_t i = 0; i < 2; i++) {
        const char *at =
            strstr(forms[i], "Within a question (all samples, with others known): of 2 right-wrong pairs of 2 "
                             "questions, in the right order: P(correct) 0.500 (95 % interval ");
        assert_non_null(at);
        assert_null(strstr(at + 10, "Within a question"));
    }
    finished_clear(&f);
}

static void the_order_of_strategies_changes_no_figure(void **state)
{
    (void)state;
    static const drr_strategy turned[] = {DRR_STRATEGY_DRR, DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_COT};
    finished f = evaluate(file_a, 1, three, 3, true), g = evaluate(file_a, 1, turned, 3, true);
    assert_true(json_equal(find(&f, "a", "critic", NULL, NULL), find(&g, "a", "critic", NULL, NULL)));
    finished_clear(&f);
    finished_clear(&g);
}

/* Whatever runs, and whatever it learns later: here every strategy is told the same at first. */
static void each_strategy_alone_has_the_same_first_answers(void **state)
{
    (void)state;
    static const drr_strategy all[] = {DRR_STRATEGY_COT, DRR_STRATEGY_SELF_CRITIQUE, DRR_STRATEGY_VOTE,
                                       DRR_STRATEGY_BEST_OF_N, DRR_STRATEGY_DRR};
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *expected = find(&f, "a", "critic", "sets", "first");
    json_object_del(expected, "strategy");
    for (size_t i = 0; i < 5; i++) {
        const bool samples = all[i] == DRR_STRATEGY_VOTE || all[i] == DRR_STRATEGY_BEST_OF_N;
        finished g = evaluate(file_a, 1, &all[i], 1, true);
        json_t *first = find(&g, "a", "critic", "sets", "first");
        assert_words(first, "strategy", drr_strategy_name(all[i]));
        json_object_del(first, "strategy");
        assert_true(json_equal(expected, first));
        assert_int_equal(json_is_null(find(&g, "a", "critic", "sets", "samples")), !samples);
        assert_words(find(&g, "a", "critic", NULL, NULL), "set", samples ? "samples" : "first");
        finished_clear(&g);
    }
    finished_clear(&f);
}

/* ---- abstentions, and risk */

static void abstentions_take_no_risk(void **state)
{
    (void)state;
    finished f = evaluate(file_a, 1, three, 3, true);
    json_t *drr = find(&f, "a", "strategies", "drr", NULL), *cot = find(&f, "a", "strategies", "cot", NULL);
    assert_figure(drr, "accuracy", 2.0 / 6);
    assert_figure(drr, "coverage", 4.0 / 6);
    assert_figure(drr, "accuracy_answered", 2.0 / 4);
    assert_figure(drr, "abstained", 1);
    assert_figure(drr, "unparsed", 0);
    assert_figure(drr, "failed", 1);
    /* Surest first: wrong, right, wrong, right. Of the 4 covered, the share answered wrongly is c to 1/4, 1/4 to 1/2,
     * c - 1/4 to 3/4 and 1/2 from there; each over c, integrated. */
    assert_figure(drr, "aurc", 0.25 + 0.25 * log(2) + (0.25 - 0.25 * log(1.5)) + 0.5 * log(4.0 / 3));
    assert_figure(cot, "unparsed", 1);
    assert_figure(cot, "abstained", 0);
    assert_figure(cot, "accuracy", 1.0 / 6);
    assert_non_null(strstr(f.table, "drr answered 4 of 6: 1 abstained, 0 could not be read, 1 failed."));
    assert_non_null(strstr(f.html, "drr answered 4 of 6: 1 abstained, 0 could not be read, 1 failed."));
    finished_clear(&f);
}

/* ---- the three forms */

static void the_three_forms_say_the_same(void **state)
{
    (void)state;
    finished f = evaluate(file_a, 1, three, 3, true);
    static const char *const table[] = {
        "of these, with others known          2   50.0 %       0  0.000  0.500  0.500  0.000  0.500  0.289  0.523\n",
        "all samples, with others known       9   55.6 %       1  0.550  0.500",
        "first answers, judged alone          4   25.0 %       1  0.667  0.500  0.833      \xE2\x80\x93  0.500"};
    static const char *const page[] = {
        "<tr><td>of these, with others known</td><td>2</td><td>50.0 %</td><td>0</td><td>0.000</td><td>0.500</td>"
        "<td>0.500</td><td>0.000</td><td>0.500</td><td>0.289</td><td>0.523</td></tr>",
        "<tr><td>all samples, with others known</td><td>9</td><td>55.6 %</td><td>1</td><td>0.550</td>",
        "<td>0.667</td><td>0.500</td><td>0.833</td><td>\xE2\x80\x93</td><td>0.500</td>"};
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(strstr(f.table, table[i]));
        assert_non_null(strstr(f.html, page[i]));
    }
    assert_non_null(strstr(f.html, "<title>Reliability: first answers, judged alone</title>"));
    finished_clear(&f);
}

static void what_is_not_defined_is_a_dash_with_its_reason(void **state)
{
    (void)state;
    static const char *const file_b[] = {"b.jsonl"};
    finished f = evaluate(file_b, 1, three, 3, true);
    json_t *first = find(&f, "b", "critic", "sets", "first");
    assert_figure(first, "auroc", NAN);
    assert_figure(first, "auprc", NAN);
    assert_figure(first, "brier", (1 - s(2)) * (1 - s(2)));
    assert_words(first, "undefined", "all of them are right: there is nothing to tell apart");
    const char *const forms[] = {f.text, f.table, f.html};
    for (size_t i = 0; i < 3; i++) {
        assert_null(strstr(forms[i], "nan"));
        assert_non_null(strstr(forms[i], "all of them are right: there is nothing to tell apart"));
        assert_non_null(strstr(forms[i], "there are none")); /* drr needed no second try */
    }
    finished_clear(&f);
    f = evaluate(file_a, 1, three, 1, false);
    assert_figure(find(&f, "a", "strategies", "cot", NULL), "aurc", NAN);
    assert_null(json_object_get(find(&f, "a", "strategies", NULL, NULL), "critic"));
    assert_null(strstr(f.table, "nan"));
    assert_null(strstr(f.html, "nan"));
    assert_non_null(strstr(f.html, "cot has no AURC, for no critic judged its answers."));
    assert_null(strstr(f.html, "Risk against coverage"));
    finished_clear(&f);
}

static void examples_are_grouped_by_what_became_of_them(void **state)
{
    (void)state;
    static const char *const of_drr[] = {"<h4>Accepted at once, and right</h4>\n<details><summary>a1?",
                                         "<h4>Rejected first, right in the end</h4>\n<details><summary>a2?",
                                         "<h4>Answered, and wrong</h4>\n<details><summary>a3?",
                                         "<h4>Abstained</h4>\n<details><summary>a4?",
                                         "<h4>Failed</h4>\n<details><summary>a5?",
                                         "the script says no"};
    finished f = evaluate(file_a, 1, three, 3, true);
    for (size_t i = 0; i < sizeof of_drr / sizeof *of_drr; i++)
        assert_non_null(strstr(f.html, of_drr[i]));
    assert_null(strstr(f.html, "could be read</h4>"));
    finished_clear(&f);
    f = evaluate(file_a, 1, three, 2, true); /* best-of-n last: nothing is accepted or rejected */
    assert_non_null(strstr(f.html, "<h4>Answered, and right</h4>\n<details><summary>a1?"));
    assert_null(strstr(f.html, "Rejected first"));
    assert_null(strstr(f.html, "Accepted at once"));
    finished_clear(&f);
    f = evaluate(file_a, 1, three, 1, true);
    assert_non_null(strstr(f.html, "<h4>No answer could be read</h4>\n<details><summary>a4?"));
    assert_null(strstr(f.html, "<h4>Abstained</h4>"));
    finished_clear(&f);
}

/* ---- several data sets */

static void data_sets_keep_their_own_figures(void **state)
{
    (void)state;
    finished f = evaluate(files_ab, 2, three, 3, true);
    assert_figure(find(&f, "a", "strategies", "drr", NULL), "n", 6);
    assert_figure(find(&f, "b", "strategies", "drr", NULL), "n", 1);
    assert_figure(find(&f, "a", "critic", "sets", "first"), "n", 4);
    assert_figure(find(&f, "b", "critic", "sets", "first"), "n", 1);
    assert_figure(find(&f, "b", "strategies", "drr", NULL), "accuracy", 1);
    assert_non_null(strstr(f.table, "a, 6 questions"));
    assert_non_null(strstr(f.table, "b, 1 question\n"));
    finished_clear(&f);
}

static void names_that_collide_are_refused(void **state)
{
    (void)state;
    static const char *const alike[] = {"a.jsonl", "a.test.jsonl"};
    static const drr_strategy twice[] = {DRR_STRATEGY_DRR, DRR_STRATEGY_COT, DRR_STRATEGY_DRR};
    finished f = evaluate(alike, 2, three, 3, true);
    assert_int_equal(f.status, DRR_E_ARGUMENT);
    assert_string_equal(f.err.message, "data sets 1 and 2 are both named \"a\", and the report keeps figures by name: "
                                       "rename one of the files, or give it once");
    f = evaluate(file_a, 1, twice, 3, true);
    assert_int_equal(f.status, DRR_E_ARGUMENT);
    assert_string_equal(f.err.message, "the strategy drr is listed twice: list each once");
}

/* At 0.6: a1 accepted and right at s(2), a3 wrong at s(2.5), a2 not quite right at s(1.5 - log 3) = 0.599, a6 wrong at
 * s(-0.5 + log 3) = 0.645, accepted with the first answer known. */
static void a_guarantee_is_held_to_what_was_accepted(void **state)
{
    (void)state;
    finished f = evaluate_with(file_a, 1, three, 3, promising_path, 2);
    json_t *g = find(&f, "a", "guarantee", NULL, NULL);
    assert_true(json_is_true(json_object_get(g, "holds")) && json_is_null(json_object_get(g, "why")));
    assert_figure(g, "threshold", 0.6);
    assert_figure(g, "accepted", 3);
    assert_figure(g, "wrong", 2);
    assert_non_null(strstr(f.table, "Here drr accepted an answer to 3 of 6 questions, 2 of them wrong (66.7 %)"));
    assert_non_null(strstr(f.html, "Here drr accepted an answer to 3 of 6 questions"));
    assert_non_null(strstr(f.html, "accepts at 0.60"));
    finished_clear(&f);
    f = evaluate_with(file_a, 1, three, 3, promising_path, 1); /* a promise of two turns, and one is taken */
    g = find(&f, "a", "guarantee", NULL, NULL);
    assert_true(json_is_false(json_object_get(g, "holds")));
    assert_words(g, "why", "turns are 1, not 2");
    assert_non_null(strstr(f.table, "does not speak of answers sought like this: turns are 1, not 2"));
    finished_clear(&f);
    f = evaluate(file_a, 1, three, 3, true); /* a critic that promises nothing */
    assert_null(json_object_get(json_object_get(json_object_get(f.json, "tasks"), "a"), "guarantee"));
    assert_null(strstr(f.table, "Guarantee"));
    finished_clear(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guarantee_is_held_to_what_was_accepted),
        cmocka_unit_test(first_answers_are_judged_alone_and_one_a_question),
        cmocka_unit_test(answers_given_keep_the_probability_they_were_given_on),
        cmocka_unit_test(samples_and_their_vote_share_are_the_same_rows),
        cmocka_unit_test(samples_of_one_question_are_told_apart_or_not),
        cmocka_unit_test(the_order_of_strategies_changes_no_figure),
        cmocka_unit_test(each_strategy_alone_has_the_same_first_answers),
        cmocka_unit_test(abstentions_take_no_risk),
        cmocka_unit_test(the_three_forms_say_the_same),
        cmocka_unit_test(what_is_not_defined_is_a_dash_with_its_reason),
        cmocka_unit_test(examples_are_grouped_by_what_became_of_them),
        cmocka_unit_test(data_sets_keep_their_own_figures),
        cmocka_unit_test(names_that_collide_are_refused),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
