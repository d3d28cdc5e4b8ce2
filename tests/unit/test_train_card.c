/* test_train_card.c: the card beside a critic says what was handed to it, in Markdown that no name can break, and its
 * plot is whole XML that stands by itself. */
#include "train_fixture.h"

#include <math.h>

static char *made_card(const drr_train_result *result, corpus *c, const char *out, char **svg)
{
    critic_meta m = {.name = string_copy("small"),
                     .reasoner = string_copy("gpt|4\n# not a heading"),
                     .prompt = string_copy("0123"),
                     .encoder = string_copy("mini_lm"),
                     .tasks = string_copy("sums,poems"),
                     .created = string_copy("2026-01-02T03:04:05Z"),
                     .threshold = 0.625,
                     .max_length = 64,
                     .seed = 9};
    drr_train_options o;
    const encoder_shape shape = {.n_layers = 6, .n_embd = 384};
    const reliability_bin bins[2][JUDGE_BINS] = {[0][3] = {10, 4, 3.5}, [1][8] = {20, 17, 17}};
    char *text;
    drr_error err = {0};
    drr_train_options_defaults(&o);
    o.out = out;
    const card k = {&m, result, &o, c, &shape, bins, "abcdef", NULL, NULL};
    if (card_write(&k, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    assert_int_equal(file_read(&text, NULL, at("small.card.md"), 0, NULL), DRR_OK);
    if (svg)
        assert_int_equal(file_read(svg, NULL, at("small.card.svg"), 0, NULL), DRR_OK);
    return text;
}

static drr_train_result made_result(void)
{
    drr_train_result r = {.n_train = 3,
                          .n_test = 40,
                          .n_train_questions = 2,
                          .n_test_questions = 20,
                          .auroc_text = 0.7,
                          .auroc_stack = 0.812,
                          .auroc_length = 0.55,
                          .auroc_vote = NAN,
                          .within_text = {0.61, 0.5, 0.7, 34, 12},
                          .within_stack = {0.654, 0.55, 0.75, 34, 12},
                          .within_length = {0.5, 0.4, 0.6, 34, 12},
                          .within_vote = {NAN, NAN, NAN, 0, 0},
                          .auprc = 0.9,
                          .brier = 0.15,
                          .ece = 0.04,
                          .threshold = 0.625,
                          .best_loss = 0.5,
                          .best_epoch = 2,
                          .n_tasks = 2};
    r.text_calibration =
        (drr_calibration_figures){"platt", {NAN, 0.6, 0.5123, 0.55}, {0.7, 0.61}, {0.25, 0.21}, {0.12, 0.0345}};
    r.stack_calibration =
        (drr_calibration_figures){"none", {0.4321, 0.44, 0.45, 0.46}, {0.4, 0.4}, {0.15, 0.15}, {0.04, 0.04}};
    for (int i = 0; i < 2; i++)
        r.tasks[i] = (drr_task_figures){.n = 20,
                                        .auroc_stack = 0.8 + 0.05 * i,
                                        .auroc_text = 0.6,
                                        .auroc_length = 0.51,
                                        .auroc_vote = 0.7,
                                        .brier = 0.1,
                                        .ece = 0.02,
                                        .auroc_left_out = NAN,
                                        .auroc_left_out_text = NAN};
    snprintf(r.tasks[0].task, sizeof r.tasks[0].task, "sums");
    snprintf(r.tasks[1].task, sizeof r.tasks[1].task, "poems");
    return r;
}

static corpus made_corpus(void)
{
    corpus c = {.rows = calloc(4, sizeof *c.rows), .capacity = 4, .n = 4, .n_questions = 3};
    const corpus_part parts[] = {CORPUS_TRAIN, CORPUS_TRAIN, CORPUS_TRAIN, CORPUS_GUARANTEE};
    for (size_t i = 0; i < 4; i++) {
        c.rows[i].part = parts[i];
        c.rows[i].question = i == 1 ? 0 : i == 0 ? 0 : i - 1;
        c.rows[i].trace.label = i ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
    }
    return c;
}

static void says(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("the card does not say \"%s\":\n%s", what, text);
}

static void the_card_says_what_it_was_given(void **state)
{
    (void)state;
    drr_train_result r = made_result();
    corpus c = made_corpus();
    char *text = made_card(&r, &c, at("small.gguf"), NULL);
    says(text, "# Critic small\n");
    says(text, "| reasoner | gpt\\|4 \\# not a heading |\n"); /* one line, and no cell of its own */
    says(text, "| encoder | mini\\_lm |\n");
    says(text, "| train | 2 | 3 | 66.7 % |");
    says(text, "| sums | 20 | 0.800 | 0.600 | 0.510 | 0.700 | 0.100 | 0.020 |\n");
    says(text, "| all | 40 | 0.812 | 0.700 | 0.550 | \xE2\x80\x93 | 0.150 | 0.040 |\n");
    says(text, "| all | 12 | 34 | 0.654 (0.550 to 0.750) | 0.610 (0.500 to 0.700) | 0.500 (0.400 to 0.600) | ");
    says(text, "was not measured (`--leave-one-task-out`)");
    says(text, "| the text's logit | platt | \xE2\x80\x93 | 0.6000 | 0.5123 | 0.5500 |\n");
    says(text, "| text alone, before | 0.7000 | 0.2500 | 0.1200 |\n");
    says(text, "| text alone, after | 0.6100 | 0.2100 | 0.0345 |\n");
    says(text, "(small.card.svg)");
    says(text, "None was asked for (`--target-error`)");
    says(text, "The critic's own threshold: 0.625.");
    says(text, "## Intended use\n");
    says(text, "## Limits\n");
    assert_null(strstr(text, "| guarantee |"));
    assert_null(strstr(text, "nan"));
    free(text);
    corpus_clear(&c);
}

static void the_card_says_what_is_promised_and_what_came_of_it(void **state)
{
    (void)state;
    drr_train_result r = made_result();
    corpus c = made_corpus();
    r.n_guarantee_questions = 1;
    r.n_guarantees = 2;
    r.guarantees[0] = (drr_guarantee){.turns = 1,
                                      .target_error = 0.1,
                                      .delta = 0.2,
                                      .threshold = 0.9,
                                      .temperature = 0.7,
                                      .n = 50,
                                      .n_accepted = 20,
                                      .n_wrong = 3,
                                      .p_value = 0.6,
                                      .bound = 0.31,
                                      .n_needed = 0};
    r.guarantees[1] = (drr_guarantee){.found = true,
                                      .turns = 4,
                                      .target_error = 0.1,
                                      .delta = 0.2,
                                      .threshold = 0.8,
                                      .temperature = 0.7,
                                      .n = 50,
                                      .n_accepted = 40,
                                      .n_wrong = 1,
                                      .p_value = 0.08,
                                      .bound = 0.09};
    r.kept[0].n = r.kept[1].n = 20;
    r.kept[1].n_accepted = 16;
    r.kept[1].n_wrong = 2;
    r.tasks[0].auroc_left_out = 0.625;
    char *text = made_card(&r, &c, at("small.gguf"), NULL);
    says(text, "| guarantee | 1 | 1 | 100.0 % |");
    says(text,
         "**Not kept.** No threshold can promise that at most 10 % of the answers accepted by one verdict are wrong, "
         "with confidence 80 %");
    says(text, "promises 31.0 %, 21.0 points short");
    says(text, "accepted within 4 fresh turns at P(correct) 0.8 or above at most 10 % are wrong");
    says(text, "accepts 16, 2 of them wrong (12.5 %)");
    says(text, "accepts 0, 0 of them wrong (\xE2\x80\x93 %)");
    says(text, "(temperature 0.70)");
    says(text, "at most 20 % break it");
    says(text, "### Leave one task out");
    says(text, "| sums | 20 | 0.625 | \xE2\x80\x93 | 0.800 | 0.600 |\n");
    free(text);
    corpus_clear(&c);
}

static void the_plot_stands_by_itself(void **state)
{
    (void)state;
    drr_train_result r = made_result();
    corpus c = made_corpus();
    char *svg, *text = made_card(&r, &c, at("small.gguf"), &svg);
    assert_memory_equal(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\"", 39);
    says(svg, "class=\"d s0\"");
    says(svg, "class=\"d s4\"");
    says(svg, "20 answers: given 0.85, right 0.85");
    size_t open = 0, closed = 0;
    for (const char *p = svg; (p = strstr(p, "<svg")); p++)
        open++;
    for (const char *p = svg; (p = strstr(p, "</svg>")); p++)
        closed++;
    assert_true(open == 2 && closed == 2);
    free(svg);
    free(text);
    /* without test traces there is nothing to draw, nor to refer to */
    r.n_test = 0;
    unlink(at("small.card.svg"));
    text = made_card(&r, &c, at("small.gguf"), NULL);
    assert_null(strstr(text, "card.svg"));
    assert_false(file_exists(at("small.card.svg")));
    free(text);
    corpus_clear(&c);
}

static void a_name_without_an_ending_keeps_all_of_it(void **state)
{
    (void)state;
    drr_train_result r = made_result();
    corpus c = made_corpus();
    char *text = made_card(&r, &c, at("small"), NULL);
    says(text, "(small.card.svg)");
    free(text);
    corpus_clear(&c);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(the_card_says_what_it_was_given),
        IN_A_PLACE(the_card_says_what_is_promised_and_what_came_of_it),
        IN_A_PLACE(the_plot_stands_by_itself),
        IN_A_PLACE(a_name_without_an_ending_keeps_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
