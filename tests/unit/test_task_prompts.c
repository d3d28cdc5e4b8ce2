/* test_task_prompts.c: few-shot conversations, feedback, grammars under which every answer parses, and files that
 * override the wording. */
#include "task/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const three[] = {"bank", "library", "mall"};
static const drr_task tasks[] = {{"t", "1", "Where are books?", three, 3, "B", DRR_KIND_CHOICE},
                                 {"t", "2", "How many?", NULL, 0, "12", DRR_KIND_NUMBER},
                                 {"t", "3", "Is it?", NULL, 0, "yes", DRR_KIND_BOOLEAN},
                                 {"t", "4", "What is it?", NULL, 0, "it", DRR_KIND_TEXT}};

static drr_prompts *builtin(void)
{
    drr_prompts *prompts = NULL;
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    return prompts;
}

static void examples_are_asked_and_answered_before_the_question(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    for (size_t k = 0; k < 4; k++) {
        conversation c = {0};
        assert_int_equal(prompts_ask(&c, prompts, &tasks[k], NULL), DRR_OK);
        assert_int_equal(c.n, 1 + 2 * 3 + 1);
        assert_string_equal(c.messages[0].role, "system");
        for (size_t i = 1; i < c.n; i++)
            assert_string_equal(c.messages[i].role, i % 2 ? "user" : "assistant");
        for (size_t i = 2; i < c.n; i += 2) { /* each example's answer is one that we read, and short */
            drr_task example = tasks[k];
            example.n_choices = 0;
            char *answer = NULL;
            assert_int_equal(drr_answer_extract(&answer, NULL, NULL, &example, c.messages[i].content, NULL), DRR_OK);
            assert_non_null(answer);
            assert_true(strlen(c.messages[i].content) < 200);
            free(answer);
        }
        assert_non_null(strstr(c.messages[c.n - 1].content, tasks[k].question));
        conversation_clear(&c);
    }
    drr_prompts_free(prompts);
}

static void choices_are_lettered(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    conversation c = {0};
    char *text = NULL;
    assert_int_equal(prompts_ask(&c, prompts, &tasks[0], NULL), DRR_OK);
    assert_string_equal(c.messages[c.n - 1].content, "Where are books?\nA) bank\nB) library\nC) mall");
    assert_int_equal(task_question_text(&text, &tasks[0], NULL), DRR_OK);
    assert_string_equal(text, "Where are books? (A) bank (B) library (C) mall");
    free(text);
    conversation_clear(&c);
    drr_prompts_free(prompts);
}

static void the_messages_shown_are_those_that_are_sent(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    conversation sent = {0};
    drr_message *shown = NULL;
    size_t n = 0;
    assert_int_equal(prompts_ask(&sent, prompts, &tasks[1], NULL), DRR_OK);
    assert_int_equal(drr_prompts_messages(&shown, &n, prompts, &tasks[1], NULL), DRR_OK);
    assert_int_equal(n, sent.n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(shown[i].role, sent.messages[i].role);
        assert_string_equal(shown[i].content, sent.messages[i].content);
    }
    drr_messages_free(shown, n);
    drr_messages_free(NULL, 0);
    conversation_clear(&sent);
    drr_prompts_free(prompts);
}

static void feedback_names_the_rejected_answer_and_no_other(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    char *words = NULL;
    assert_int_equal(prompts_feedback(&words, prompts, &tasks[1], "37", NULL), DRR_OK);
    assert_non_null(strstr(words, " 37 "));
    assert_non_null(strstr(words, "Answer:"));
    assert_null(strchr(words, '{'));
    free(words);
    assert_int_equal(prompts_feedback(&words, prompts, &tasks[1], NULL, NULL), DRR_OK);
    assert_non_null(strstr(words, "No final answer"));
    free(words);
    for (size_t k = 0; k < 4; k++) { /* a critic of its own does not know the reference answer */
        assert_int_equal(prompts_critique(&words, prompts, &tasks[k], NULL), DRR_OK);
        assert_null(strstr(words, "Answer:"));
        free(words);
        assert_int_equal(prompts_revise(&words, prompts, &tasks[k], NULL), DRR_OK);
        assert_non_null(strstr(words, "Answer:"));
        assert_null(strchr(words, '{'));
        free(words);
    }
    drr_prompts_free(prompts);
}

/* ---- a writer of random texts that a grammar allows: literals, classes, groups, rules, ? and {m,n} */

typedef struct writer {
    const char *grammar;
    rng r;
    char text[4096];
    size_t n;
    int depth;
} writer;

static const char *skip_item(const char *p);

static const char *skip_group(const char *p, char close)
{
    while (*p && *p != close)
        p = *p == '{' ? strchr(p, '}') + 1 : strchr(" |?", *p) ? p + 1 : skip_item(p);
    return p + 1;
}

static const char *skip_item(const char *p)
{
    if (*p == '(')
        return skip_group(p + 1, ')');
    if (*p == '"' || *p == '[') {
        const char close = *p == '"' ? '"' : ']';
        for (p++; *p && *p != close; p++)
            p += *p == '\\';
        return p + 1;
    }
    while (*p && !strchr(" ?{()|\n", *p))
        p++;
    return p;
}

static char unescape(const char **p)
{
    char c = *(*p)++;
    if (c == '\\') {
        c = *(*p)++;
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
    }
    return c;
}

static void put(writer *w, char c)
{
    assert_true(w->n + 1 < sizeof w->text);
    w->text[w->n++] = c;
    w->text[w->n] = '\0';
}

static void write_class(writer *w, const char *p)
{
    bool member[128] = {false};
    p++;
    const bool negated = *p == '^';
    p += negated;
    while (*p != ']') {
        const char first = unescape(&p);
        char last = first;
        if (*p == '-' && p[1] != ']') {
            p++;
            last = unescape(&p);
        }
        for (int c = first; c <= last; c++)
            member[c] = true;
    }
    /* letters of the answer line itself are likely: they are what could mislead the reader */
    static const char likely[] = "Answer: B5\n-.yesno (";
    for (int tries = 0; tries < 10000; tries++) {
        const int c =
            rng_below(&w->r, 2) ? likely[rng_below(&w->r, sizeof likely - 1)] : 32 + (int)rng_below(&w->r, 95);
        if (member[c] != negated) {
            put(w, (char)c);
            return;
        }
    }
    fail_msg("an empty class");
}

static void write_alternatives(writer *w, const char *p, const char *end);

static void write_item(writer *w, const char *p, const char *end)
{
    if (*p == '"') {
        for (p++; p < end - 1;)
            put(w, unescape(&p));
    } else if (*p == '[') {
        write_class(w, p);
    } else if (*p == '(') {
        write_alternatives(w, p + 1, end - 1);
    } else {
        char head[64];
        assert_true(++w->depth < 100);
        snprintf(head, sizeof head, "%.*s ::= ", (int)(end - p), p);
        const char *rule = strstr(w->grammar, head);
        assert_non_null(rule);
        rule += strlen(head);
        write_alternatives(w, rule, rule + strcspn(rule, "\n"));
        w->depth--;
    }
}

static void write_alternatives(writer *w, const char *p, const char *end)
{
    const char *starts[8] = {p};
    size_t n = 1;
    for (const char *q = p; q < end;) {
        if (*q == '|')
            starts[n++] = q + 1;
        q = *q == ' ' || *q == '|' ? q + 1 : *q == '?' ? q + 1 : *q == '{' ? strchr(q, '}') + 1 : skip_item(q);
    }
    for (const char *q = starts[rng_below(&w->r, n)]; q < end && *q != '|';) {
        if (*q == ' ') {
            q++;
            continue;
        }
        const char *item = q, *stop = skip_item(q);
        unsigned low = 1, high = 1;
        q = stop;
        if (*q == '?') {
            low = 0;
            q++;
        } else if (*q == '{') {
            assert_int_equal(sscanf(q, "{%u,%u}", &low, &high), 2);
            q = strchr(q, '}') + 1;
        }
        for (uint64_t k = low + rng_below(&w->r, high - low + 1); k > 0; k--)
            write_item(w, item, stop);
    }
}

static void whatever_a_grammar_allows_parses(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    for (size_t k = 0; k < 4; k++) {
        writer w = {.grammar = prompts_grammar(prompts, &tasks[k])};
        assert_non_null(w.grammar);
        rng_seed(&w.r, 11 + k);
        for (int round = 0; round < 2000; round++) {
            w.n = 0;
            write_item(&w, "root", "root" + 4);
            char *answer = NULL;
            assert_int_equal(drr_answer_extract(&answer, NULL, NULL, &tasks[k], w.text, NULL), DRR_OK);
            if (!answer)
                print_error("nothing read in \"%s\"\n", w.text);
            assert_non_null(answer);
            assert_true(w.n < 720);
            free(answer);
        }
    }
    drr_prompts_free(prompts);
}

static void a_choice_grammar_has_the_letters_that_exist(void **state)
{
    (void)state;
    drr_prompts *prompts = builtin();
    drr_task task = tasks[0];
    assert_non_null(strstr(prompts_grammar(prompts, &task), "[A-C]"));
    task.n_choices = 5;
    assert_non_null(strstr(prompts_grammar(prompts, &task), "[A-E]"));
    task.n_choices = 1;
    assert_non_null(strstr(prompts_grammar(prompts, &task), "[A]"));
    task.n_choices = 27;
    assert_null(prompts_grammar(prompts, &task));
    drr_prompts_free(prompts);
}

/* ---- files */

static char prompts_path[] = "/tmp/drr_prompts_XXXXXX";

static drr_status open_text(drr_prompts **prompts, const char *text, drr_error *err)
{
    assert_int_equal(file_write_all(prompts_path, text, strlen(text), NULL), DRR_OK);
    return drr_prompts_open(prompts, prompts_path, err);
}

static void a_file_overrides_any_part(void **state)
{
    (void)state;
    drr_prompts *plain = builtin(), *same = builtin(), *mine = NULL;
    assert_int_equal(strlen(drr_prompts_id(plain)), 12);
    assert_string_equal(drr_prompts_id(plain), drr_prompts_id(same));
    assert_int_equal(open_text(&mine,
                               "{\"number\": {\"system\": \"\", \"question\": \"Q: {question}!\", \"grammar\": null,"
                               " \"feedback\": \"Not {answer}.\", \"examples\": [{\"question\": \"1+1?\","
                               " \"answer\": \"Answer: 2\"}]}}",
                               NULL),
                     DRR_OK);
    assert_string_not_equal(drr_prompts_id(plain), drr_prompts_id(mine));
    conversation c = {0};
    char *words = NULL;
    assert_int_equal(prompts_ask(&c, mine, &tasks[1], NULL), DRR_OK);
    assert_int_equal(c.n, 3); /* no system words, one example */
    assert_string_equal(c.messages[0].content, "Q: 1+1?!");
    assert_string_equal(c.messages[2].content, "Q: How many?!");
    assert_int_equal(prompts_feedback(&words, mine, &tasks[1], "3", NULL), DRR_OK);
    assert_string_equal(words, "Not 3.");
    assert_null(prompts_grammar(mine, &tasks[1]));
    assert_string_equal(prompts_grammar(mine, &tasks[2]), prompts_grammar(plain, &tasks[2]));
    free(words);
    conversation_clear(&c);
    drr_prompts_free(plain);
    drr_prompts_free(same);
    drr_prompts_free(mine);
    drr_prompts_free(NULL);
}

static void a_bad_file_is_named_with_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words[3];
    } cases[] = {
        {"{\"number\": ", {"not valid JSON"}},
        {"[]", {"one JSON object"}},
        {"{\"poem\": {}}", {"poem", "kind"}},
        {"{\"choice\": 5}", {"choice"}},
        {"{\"choice\": {\"sytem\": \"x\"}}", {"choice", "sytem", "unknown"}},
        {"{\"choice\": {\"system\": 5}}", {"choice", "system", "string"}},
        {"{\"choice\": {\"critique\": null}}", {"choice", "critique", "string"}},
        {"{\"choice\": {\"question\": \"no place\"}}", {"question", "{question}"}},
        {"{\"choice\": {\"examples\": {}}}", {"examples", "list"}},
        {"{\"choice\": {\"examples\": [{\"question\": \"x\"}]}}", {"example 1", "answer", "missing"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        drr_prompts *prompts = NULL;
        drr_error err = {0};
        assert_int_equal(open_text(&prompts, cases[i].text, &err), DRR_E_FORMAT);
        assert_null(prompts);
        assert_non_null(strstr(err.message, prompts_path));
        for (size_t k = 0; k < 3 && cases[i].words[k]; k++) {
            if (!strstr(err.message, cases[i].words[k]))
                print_error("%s: \"%s\" is not in: %s\n", cases[i].text, cases[i].words[k], err.message);
            assert_non_null(strstr(err.message, cases[i].words[k]));
        }
    }
    drr_prompts *prompts = NULL;
    assert_int_equal(drr_prompts_open(&prompts, "/nowhere/prompts.json", NULL), DRR_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_asked_and_answered_before_the_question),
        cmocka_unit_test(choices_are_lettered),
        cmocka_unit_test(the_messages_shown_are_those_that_are_sent),
        cmocka_unit_test(feedback_names_the_rejected_answer_and_no_other),
        cmocka_unit_test(whatever_a_grammar_allows_parses),
        cmocka_unit_test(a_choice_grammar_has_the_letters_that_exist),
        cmocka_unit_test(a_file_overrides_any_part),
        cmocka_unit_test(a_bad_file_is_named_with_its_field),
    };
    const int file = mkstemp(prompts_path);
    if (file < 0)
        return 1;
    close(file);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(prompts_path);
    return failed;
}
