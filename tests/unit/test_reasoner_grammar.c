/* test_reasoner_grammar.c: which grammars libllama is given. What a client may send is read here first: whatever is
 * taken libllama takes too, without a word on stderr; whatever would end, fill or hold up the process is refused. */
#include "mutate.h"
#include "reasoner/llama_internal.h"

static const char arithmetic[] = "# what adds up\n"
                                 "root  ::= (expr \"=\" ws num \"\\n\")+\n"
                                 "expr  ::= term ([-+*/] term)*\n"
                                 "term  ::= ident | num | \"(\" ws expr \")\" ws\n"
                                 "ident ::= [a-z] [a-z0-9_]{0,12} ws\n"
                                 "num   ::= [0-9]+ (\".\" [0-9]{2,})? ws\n"
                                 "ws    ::= [ \\t\\n]*";
static const char json[] = "root ::= object\n"
                           "value ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
                           "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
                           "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
                           "string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" "
                           "[0-9a-fA-F]{4}))* \"\\\"\" ws\n"
                           "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ws\n"
                           "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";
static const char answer[] = "root ::= [^\\n]{1,400} \"\\n\" \"Answer: \" [ABCDE] !<[0]>? .{0,3}\r\n";

static void grammars_are_taken(void **state)
{
    static const char *const good[] = {arithmetic,
                                       json,
                                       answer,
                                       "root ::=",
                                       "root ::= \"\" | root2\nroot2::=[]\n\n",
                                       "root ::= <[7]> | (\n \"a\"\n | \"b\" ) # end",
                                       "root ::= \"a\"{0}",
                                       "root ::= \"x\" root | \"y\""};
    drr_error err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (grammar_check(good[i], NULL, &err) != DRR_OK)
            fail_msg("%s: %s", good[i], err.message);
}

static void our_own_are_taken(void **state)
{
    static const char *const letters[] = {"one", "two", "three"};
    drr_prompts *prompts = NULL;
    drr_error err = {0};
    size_t n = 0;
    (void)state;
    assert_int_equal(drr_prompts_open(&prompts, NULL, NULL), DRR_OK);
    for (int kind = DRR_KIND_CHOICE; kind <= DRR_KIND_CHECKED; kind++) {
        const drr_task task = {.kind = (drr_kind)kind, .question = "?", .choices = letters, .n_choices = 3};
        const char *grammar = prompts_grammar(prompts, &task);
        n += grammar != NULL;
        if (grammar && grammar_check(grammar, NULL, &err) != DRR_OK)
            fail_msg("%s: %s", grammar, err.message);
    }
    assert_true(n >= 4);
    drr_prompts_free(prompts);
}

static void check_refused(const char *text, const char *why)
{
    drr_error err = {0};
    assert_int_equal(grammar_check(text, NULL, &err), DRR_E_FORMAT);
    if (!strstr(err.message, why))
        fail_msg("%.100s: \"%s\" does not say \"%s\"", text, err.message, why);
}

static void what_is_no_grammar_is_refused_in_words(void **state)
{
    static const char *const bad[][2] = {
        {"", "no rule root"},
        {"root ::= (", "line 1: a ( has no )"},
        {"root ::= \"a\"\nnext = \"b\"", "line 2: a rule is written as NAME ::="},
        {"root ::= \"a", "a string does not end"},
        {"root ::= [a-", "a [ has no ]"},
        {"root ::= \"\\q\"", "a backslash"},
        {"root ::= \"\\x4\"", "2 hexadecimal digits"},
        {"root ::= other", "cannot be used: there is no rule other"},
        {"other ::= \"a\"", "there is no rule root"},
        {"root ::= *", "nothing stands before"},
        {"root ::= \"a\"{2", "a { has no }"},
        {"root ::= \"a\"{x}", "{2,5}"},
        {"root ::= \"a\" )", "does not belong"},
        {"root ::= <[x]>", "<[123]>"},
        {"root ::= !\"a\"", "<[123]>"},
        {"root ::= root \"a\"", "begins with itself (root)"},
        {"root ::= a? root\na ::= \"b\"", "begins with itself"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused(bad[i][0], bad[i][1]);
}

/* n times `piece` between `before` and `after`; %zu in piece: the number of the time, and the next. */
static char *many(const char *before, const char *piece, size_t n, const char *after)
{
    buffer b = {0};
    char part[200];
    mutate_put(&b, before, strlen(before));
    for (size_t i = 0; i < n; i++) {
        const char *from = piece;
        size_t next = i;
        for (; *from; from++)
            if (*from == '#') {
                snprintf(part, sizeof part, "%zu", next++);
                mutate_put(&b, part, strlen(part));
                next = i + 1;
            } else {
                mutate_put(&b, from, 1);
            }
    }
    mutate_put(&b, after, strlen(after));
    return buffer_take(&b);
}

static void what_libllama_could_not_bear_is_refused(void **state)
{
    static const struct {
        const char *before, *piece;
        size_t n;
        const char *after, *why;
    } cases[] = {
        {"root ::= ", "(", 65, "\"a\"", "more than 64 brackets"}, /* a call each: 200,000 end the process */
        {"root ::= ", "(", 200000, "\"a\"", "longer than 65536 bytes"},
        {"root ::= ", "x", 70000, "", "longer than 65536 bytes"},
        {"root ::= \"a\"{5,2}", "", 0, "", "larger number first"}, /* as many rules as there are numbers */
        {"root ::= \"a\"{3000}", "", 0, "", "more than 2000 times"},
        {"root ::= (\"a\" \"b\"?)", "{60}", 3, "", "more than 2000 rules"},
        {"root ::= \"", "a", 60000, "\"{1000}", "too long"}, /* 480 MB */
        {"x ::= \"a\"\nroot ::= ", "x{0,2000} ", 60, "", "too long"},
        {"root ::= 0\n4998 ::= \"a\"\n", "#::=#\n", 4998, "", "begin with one another"},              /* a call each */
        {"root ::= r0\nr40 ::= \"a\"\n", "r# ::= r# | r#\n", 40, "", "branch too often"},             /* 2^40 steps */
        {"root ::= r0\nr20 ::= \"a\"\n", "r# ::= r# \"b\" | r# \"c\"\n", 20, "", "branch too often"}, /* 2^20 stacks */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = many(cases[i].before, cases[i].piece, cases[i].n, cases[i].after);
        check_refused(text, cases[i].why);
        free(text);
    }
    char *text = many("root ::= ", "(", 64, "\"a\"");
    char *whole = many(text, ")", 64, "");
    assert_int_equal(grammar_check(whole, NULL, NULL), DRR_OK);
    free(text);
    free(whole);
}

/* With a real vocabulary, where the cache has one. */
static void what_is_taken_libllama_takes_without_a_word(void **state)
{
    enum { TIMES = 6000 };
    static const char *const samples[] = {arithmetic, json, answer,
                                          "root ::= <|im_end|> | \"a\"{2,3}? | (\"b\" | x)+\nx ::= .\n"};
    const char *home = getenv("HOME"), *cache = getenv("DRR_CACHE");
    char path[512], said[4096];
    buffer damaged = {0};
    rng random;
    size_t n_taken = 0;
    (void)state;
    snprintf(path, sizeof path, "%s%s/models/smollm2-135m.gguf",
             cache  ? cache
             : home ? home
                    : "",
             cache ? "" : "/.cache/drr");
    if (access(path, R_OK) != 0)
        skip();
    assert_int_equal(llama_runtime_start(NULL), DRR_OK);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(path, params);
    assert_non_null(model);
    const llama_backend b = {.vocab = llama_model_get_vocab(model)};
    FILE *real = stderr, *heard = tmpfile(); /* libllama's reader writes to this stream itself */
    assert_non_null(heard);
    stderr = heard;
    rng_seed(&random, 11);
    for (size_t i = 0; i < TIMES; i++) {
        const char *sample = samples[i % 4];
        struct llama_sampler *grammar = NULL;
        mutate(&damaged, sample, strlen(sample), 0, &random);
        const size_t n = strlen(damaged.data); /* a text ends at its first NUL */
        if (n && grammar_open(&grammar, &b, damaged.data, NULL) == DRR_OK)
            n_taken++;
        llama_sampler_free(grammar);
    }
    stderr = real;
    rewind(heard);
    said[fread(said, 1, sizeof said - 1, heard)] = '\0';
    fclose(heard);
    llama_model_free(model);
    buffer_clear(&damaged);
    assert_string_equal(said, "");
    assert_true(n_taken > TIMES / 20 && n_taken < TIMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_are_taken),
        cmocka_unit_test(our_own_are_taken),
        cmocka_unit_test(what_is_no_grammar_is_refused_in_words),
        cmocka_unit_test(what_libllama_could_not_bear_is_refused),
        cmocka_unit_test(what_is_taken_libllama_takes_without_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
