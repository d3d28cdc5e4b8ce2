/* test_parity_reasoner.c: the embedded reasoner with a real model, SmolLM2-135M: what its tokens' log-probabilities are
 * beside libllama asked plainly, that sharing a prefix changes no text, that an answer is gone on with from its middle,
 * and what seeds, grammars, stop rules, a full context and a cancelled loading do. */
#include "reasoner/llama_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 4, CONTEXT = 512, MOST = 24 };

static const char *const choices[] = {"bank", "library", "mall"};
static const drr_task tasks[] = {
    {"t", "1", "Where are books lent?", choices, 3, "B", DRR_KIND_CHOICE},
    {"t", "2", "Where does one keep money that should be safe?", choices, 3, "A", DRR_KIND_CHOICE},
    {"t", "3", "Tom has 3 apples and buys 4 more. How many has he?", NULL, 0, "7", DRR_KIND_NUMBER},
    {"t", "4", "A bus has 12 seats and 5 are taken. How many are free?", NULL, 0, "7", DRR_KIND_NUMBER}};
enum { N_TASKS = sizeof tasks / sizeof *tasks };

typedef struct fixture {
    drr_reasoner *reasoner;
    drr_prompts *prompts;
    char path[4096];
} fixture;

static int open_all(void **state)
{
    static fixture f;
    drr_error err = {0};
    const drr_reasoner_options options = {.width = WIDTH, .context = CONTEXT, .self_check = true};
    *state = &f;
    drr_status status = drr_cache_path(f.path, sizeof f.path, "smollm2-135m", NULL, &err);
    if (status == DRR_OK)
        status = drr_prompts_open(&f.prompts, NULL, &err);
    if (status == DRR_OK)
        status = drr_reasoner_open(&f.reasoner, "smollm2-135m", &options, &err);
    if (status != DRR_OK)
        print_error("%s\n", err.message);
    return status == DRR_OK ? 0 : -1;
}

static int close_all(void **state)
{
    fixture *f = *state;
    drr_reasoner_close(f->reasoner);
    drr_prompts_free(f->prompts);
    return 0;
}

typedef struct wish {
    const drr_task *task;
    float temperature;
    uint64_t seed;
    bool grammar, stops;
    const char *prefix;
    uint32_t most; /* tokens; 0: MOST */
} wish;

static bool answered(void *user, const char *text, size_t length)
{
    return task_answer_complete(user, text, length);
}

static atomic_bool misheard; /* asserting is for the main thread */
static bool hears_all(void *user, const char *text, size_t length)
{
    const size_t n = strlen(user);
    if (length <= n || strncmp(text, user, n) != 0 || strlen(text) != length)
        misheard = true;
    return false;
}

/* Asks all wishes at once; what comes back is in their order, and the caller's to clear. */
static void ask(const fixture *f, const wish *wishes, size_t n, reasoner_completion *got)
{
    for (size_t i = 0; i < n; i++) {
        conversation c = {0};
        drr_error err = {0};
        assert_int_equal(prompts_ask(&c, f->prompts, wishes[i].task, NULL), DRR_OK);
        const reasoner_request request = {.tag = i,
                                          .messages = c.messages,
                                          .n_messages = c.n,
                                          .prefix = wishes[i].prefix,
                                          .max_tokens = wishes[i].most ? wishes[i].most : MOST,
                                          .temperature = wishes[i].temperature,
                                          .top_p = 0.95f,
                                          .seed = wishes[i].seed,
                                          .grammar =
                                              wishes[i].grammar ? prompts_grammar(f->prompts, wishes[i].task) : NULL,
                                          .complete = wishes[i].prefix  ? hears_all
                                                      : wishes[i].stops ? answered
                                                                        : NULL,
                                          .complete_user = wishes[i].prefix ? (void *)(uintptr_t)wishes[i].prefix
                                                                            : (void *)(uintptr_t)wishes[i].task};
        if (reasoner_submit(f->reasoner, &request, &err) != DRR_OK)
            fail_msg("%s", err.message);
        conversation_clear(&c);
    }
    for (size_t i = 0; i < n; i++) {
        reasoner_completion one = {0};
        assert_int_equal(reasoner_next(f->reasoner, &one, NULL), DRR_OK);
        assert_true(one.tag < n);
        got[one.tag] = one;
    }
    assert_int_equal(reasoner_pending(f->reasoner), 0);
}

static void clear(reasoner_completion *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        reasoner_completion_clear(&c[i]);
}

static void the_same_seed_writes_the_same_text_and_another_another(void **state)
{
    enum { N = 2 * WIDTH }; /* twice the width: some wait until a sequence ends */
    wish wishes[N];
    reasoner_completion first[N] = {0}, second[N] = {0}, other[N] = {0};
    size_t differ = 0;
    for (size_t i = 0; i < N; i++)
        wishes[i] = (wish){.task = &tasks[i % N_TASKS], .temperature = 1.0f, .seed = i};
    ask(*state, wishes, N, first);
    ask(*state, wishes, N, second);
    for (size_t i = 0; i < N; i++)
        wishes[i].seed += 1000;
    ask(*state, wishes, N, other);
    for (size_t i = 0; i < N; i++) {
        assert_string_equal(first[i].text, second[i].text);
        differ += strcmp(first[i].text, other[i].text) != 0;
    }
    assert_true(differ > N / 2);
    clear(first, N);
    clear(second, N);
    clear(other, N);
}

/* A batch of another shape sums in another order, so that two tokens almost as likely may change places. */
static bool same_until_a_tie(const reasoner_completion *a, const reasoner_completion *b)
{
    uint32_t from = 0;
    for (uint32_t i = 0; i < a->n_token_stats && i < b->n_token_stats; i++) {
        const uint32_t end = a->tokens[i].end;
        if (end != b->tokens[i].end || memcmp(a->text + from, b->text + from, end - from) != 0)
            return fabsf(a->tokens[i].margin) < 0.05f;
        if (fabsf(a->tokens[i].logprob - b->tokens[i].logprob) > 0.02f)
            return false;
        from = end;
    }
    return a->n_tokens == b->n_tokens;
}

static void a_shared_prefix_changes_no_text(void **state)
{
    const fixture *f = *state;
    const drr_reasoner_options options = {.width = 1, .context = CONTEXT};
    fixture alone = *f;
    wish wishes[N_TASKS + 2];
    reasoner_completion together[N_TASKS + 2] = {0};
    for (size_t i = 0; i < N_TASKS + 2; i++)
        wishes[i] = (wish){.task = &tasks[i % N_TASKS]};
    ask(f, wishes, N_TASKS + 2, together);
    uint32_t reused = 0;
    for (size_t i = 0; i < N_TASKS + 2; i++)
        reused += together[i].n_cached_tokens;
    assert_true(reused > 0);
    for (size_t i = 0; i < N_TASKS; i++) { /* a reasoner that has seen nothing yet, for each */
        reasoner_completion one = {0};
        alone.reasoner = NULL;
        assert_int_equal(drr_reasoner_open(&alone.reasoner, "smollm2-135m", &options, NULL), DRR_OK);
        ask(&alone, &wishes[i], 1, &one);
        assert_int_equal(one.n_cached_tokens, 0);
        if (!same_until_a_tie(&one, &together[i]))
            fail_msg("alone: \"%s\"; together: \"%s\"", one.text, together[i].text);
        reasoner_completion_clear(&one);
        drr_reasoner_close(alone.reasoner);
    }
    clear(together, N_TASKS + 2);
}

/* Answers of different lengths leave idle slots among the active ones, which libllama would compute apart. Sums in
 * another order may change a draw, but seldom; a slot that did not move whole would change each. */
static void sequences_that_are_left_are_computed_together(void **state)
{
    enum { N = 2 * WIDTH };
    const fixture *f = *state;
    wish wishes[N];
    reasoner_completion together[N] = {0}, alone = {0};
    drr_reasoner_timing before, after;
    uint32_t shortest = UINT32_MAX, longest = 0, changed = 0;
    for (size_t i = 0; i < N; i++)
        wishes[i] =
            (wish){.task = &tasks[i % N_TASKS], .temperature = 1.5f, .seed = i, .most = 4 + 5 * (N - (uint32_t)i)};
    drr_reasoner_timing_read(f->reasoner, &before);
    ask(f, wishes, N, together);
    drr_reasoner_timing_read(f->reasoner, &after);
    for (size_t i = WIDTH; i < N; i++) { /* the last to be admitted: nothing waits when the first of them ends */
        shortest = together[i].n_tokens < shortest ? together[i].n_tokens : shortest;
        longest = together[i].n_tokens > longest ? together[i].n_tokens : longest;
    }
    assert_true(shortest < longest);
    assert_int_equal(after.n_passes - before.n_passes, after.n_steps - before.n_steps);
    for (size_t i = 0; i < N; i++) {
        ask(f, &wishes[i], 1, &alone);
        changed += strcmp(alone.text, together[i].text) != 0;
        clear(&alone, 1);
    }
    assert_in_range(changed, 0, 1);
    clear(together, N);
}

/* The likeliest text, begun anew in its middle, goes on as it did. Cut is behind a word, where no token reaches over.
 */
static void an_answer_is_gone_on_with_from_its_middle(void **state)
{
    enum { N = WIDTH }; /* continuations of one text */
    const fixture *f = *state;
    size_t n_cut = 0;
    for (size_t task = 0; task < N_TASKS; task++) {
        const wish plain = {.task = &tasks[task]};
        reasoner_completion whole = {0}, got[N] = {0};
        wish wishes[N];
        uint32_t k = 3, computed = 0;
        ask(f, &plain, 1, &whole);
        while (k < whole.n_tokens && whole.text[whole.tokens[k - 1].end] != ' ')
            k++;
        if (k >= whole.n_tokens) {
            reasoner_completion_clear(&whole);
            continue;
        }
        const uint32_t at = whole.tokens[k - 1].end;
        char *prefix = string_copy_n(whole.text, at);
        for (size_t i = 0; i < N; i++)
            wishes[i] = (wish){.task = &tasks[task], .prefix = prefix, .most = MOST - k};
        ask(f, wishes, N, got);
        assert_false(misheard); /* who is asked whether to stop hears the prefix too */
        for (uint32_t i = k; i < whole.n_tokens; i++)
            whole.tokens[i].end -= at;
        const reasoner_completion rest = {.text = whole.text + at,
                                          .tokens = whole.tokens + k,
                                          .n_tokens = whole.n_tokens - k,
                                          .n_token_stats = whole.n_token_stats - k};
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(got[i].n_prompt_tokens, whole.n_prompt_tokens + k);
            computed += got[i].n_prompt_tokens - got[i].n_cached_tokens;
            if (!same_until_a_tie(&rest, &got[i]))
                fail_msg("begun with \"%s\": \"%s\"; at once: \"%s\"", prefix, got[i].text, rest.text);
        }
        assert_int_equal(computed, N); /* the last token of each prompt: all else was there */
        n_cut++;
        free(prefix);
        clear(got, N);
        reasoner_completion_clear(&whole);
    }
    assert_true(n_cut > 1);
}

/* log softmax of one row, and the entropy, summed in double. */
static double plain_logprob(const float *logits, uint32_t n, llama_token token, double *entropy)
{
    double most = -INFINITY, sum = 0, mean = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    for (uint32_t i = 0; i < n; i++)
        mean += exp((double)logits[i] - most) / sum * ((double)logits[i] - most);
    *entropy = log(sum) - mean;
    return (double)logits[token] - most - log(sum);
}

static void log_probabilities_are_those_of_libllama(void **state)
{
    const fixture *f = *state;
    const wish w = {.task = &tasks[2]};
    reasoner_completion got = {0};
    conversation c = {0};
    llama_token ids[CONTEXT];
    char prompt[8192];
    ask(f, &w, 1, &got);
    assert_true(got.n_token_stats == got.n_tokens && got.n_tokens > 3);

    struct llama_model *model = llama_model_load_from_file(f->path, llama_model_default_params());
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = CONTEXT;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = llama_init_from_model(model, p);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    assert_int_equal(prompts_ask(&c, f->prompts, w.task, NULL), DRR_OK);
    struct llama_chat_message chat[32];
    for (size_t i = 0; i < c.n; i++)
        chat[i] = (struct llama_chat_message){c.messages[i].role, c.messages[i].content};
    int32_t length = llama_chat_apply_template(llama_model_chat_template(model, NULL), chat, c.n, true, prompt,
                                               (int32_t)sizeof prompt);
    assert_in_range(length, 1, (int32_t)sizeof prompt - 1);
    int32_t n = llama_tokenize(vocab, prompt, length, ids, CONTEXT, false, true);
    assert_int_equal(n, got.n_prompt_tokens);
    assert_int_equal(llama_decode(context, llama_batch_get_one(ids, n)), 0);
    uint32_t n_compared = 0;
    for (uint32_t i = 0; i < got.n_tokens; i++, n_compared++) {
        const float *logits = llama_get_logits_ith(context, -1);
        const uint32_t n_vocab = (uint32_t)llama_vocab_n_tokens(vocab);
        double entropy;
        llama_token best = 0, token;
        for (uint32_t k = 1; k < n_vocab; k++)
            best = logits[k] > logits[best] ? (llama_token)k : best;
        token = best; /* temperature 0 */
        const double logprob = plain_logprob(logits, n_vocab, token, &entropy);
        if (got.tokens[i].margin < 0.05f)
            break; /* a tie: see same_until_a_tie */
        assert_true(got.tokens[i].logprob <= 0);
        assert_true(fabs(logprob - (double)got.tokens[i].logprob) < 0.02);
        assert_true(fabs(entropy - (double)got.tokens[i].entropy) < 0.02);
        assert_int_equal(llama_decode(context, llama_batch_get_one(&token, 1)), 0);
    }
    assert_true(n_compared > 3);
    conversation_clear(&c);
    llama_free(context);
    llama_model_free(model);
    reasoner_completion_clear(&got);
}

static void under_a_grammar_every_answer_parses(void **state)
{
    enum { N = 2 * N_TASKS };
    size_t n_parsed = 0;
    wish wishes[N];
    reasoner_completion got[N] = {0};
    for (size_t i = 0; i < N; i++)
        wishes[i] = (wish){.task = &tasks[i % N_TASKS], .temperature = 1.5f, .seed = i, .grammar = true, .stops = true};
    ask(*state, wishes, N, got);
    for (size_t i = 0; i < N; i++) {
        char *answer = NULL;
        assert_int_equal(drr_answer_extract(&answer, NULL, NULL, wishes[i].task, got[i].text, NULL), DRR_OK);
        if (!answer && got[i].finish != DRR_FINISH_LENGTH) /* a rationale may fill all tokens there are */
            fail_msg("no answer in \"%s\"", got[i].text);
        n_parsed += answer != NULL;
        free(answer);
    }
    assert_true(n_parsed > N / 4);
    clear(got, N);
}

static void nothing_is_written_after_the_answer(void **state)
{
    size_t n_answered = 0;
    wish wishes[N_TASKS];
    reasoner_completion got[N_TASKS] = {0};
    for (size_t i = 0; i < N_TASKS; i++)
        wishes[i] = (wish){.task = &tasks[i], .grammar = true, .stops = true};
    ask(*state, wishes, N_TASKS, got);
    for (size_t i = 0; i < N_TASKS; i++) {
        if (got[i].finish != DRR_FINISH_ANSWERED)
            continue;
        n_answered++;
        const size_t length = strlen(got[i].text);
        const uint32_t last = got[i].n_token_stats > 1 ? got[i].tokens[got[i].n_token_stats - 2].end : 0;
        assert_true(task_answer_complete(wishes[i].task, got[i].text, length));
        assert_false(task_answer_complete(wishes[i].task, got[i].text, last)); /* it needed the last token */
    }
    assert_true(n_answered > 0);
    clear(got, N_TASKS);
}

static void a_prompt_that_does_not_fit_fails_alone(void **state)
{
    const fixture *f = *state;
    char *words = malloc(8 * CONTEXT + 1);
    for (size_t i = 0; i < 8 * CONTEXT; i += 4)
        memcpy(words + i, "one ", 4);
    words[8 * CONTEXT] = '\0';
    const drr_task longer = {"t", "5", words, NULL, 0, "1", DRR_KIND_NUMBER};
    const wish wishes[2] = {{.task = &longer}, {.task = &tasks[2]}};
    reasoner_completion got[2] = {0};
    ask(f, wishes, 2, got);
    assert_int_equal(got[0].finish, DRR_FINISH_FAILED);
    assert_non_null(strstr(got[0].failure, "--context"));
    assert_int_not_equal(got[1].finish, DRR_FINISH_FAILED);
    assert_true(got[1].n_tokens > 0);
    clear(got, 2);
    free(words);
}

static bool always(void *user)
{
    ++*(int *)user;
    return true;
}

static void loading_can_be_cancelled(void **state)
{
    const fixture *f = *state;
    int asked = 0;
    const drr_hooks hooks = {.cancelled = always, .user = &asked};
    const drr_reasoner_options options = {.width = 1, .hooks = &hooks};
    drr_reasoner *reasoner = NULL;
    drr_error err = {0};
    assert_int_equal(drr_reasoner_open(&reasoner, f->path, &options, &err), DRR_E_INTERRUPTED);
    assert_null(reasoner);
    assert_true(asked > 0);
    assert_non_null(strstr(err.message, f->path));
}

/* libllama says "CPU KV buffer size = 45.00 MiB" when it makes one. */
static void hear_kv(void *user, const char *text)
{
    const char *at = strstr(text, "KV buffer size =");
    if (at)
        *(double *)user = strtod(at + strlen("KV buffer size ="), NULL);
}

static void keys_and_values_take_the_memory_that_was_reckoned(void **state)
{
    const fixture *f = *state;
    static const uint32_t contexts[] = {256, 300, 2048}; /* 300 is rounded up */
    struct llama_model *model = llama_model_load_from_file(f->path, llama_model_default_params());
    assert_non_null(model);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        struct llama_context_params params = llama_context_default_params();
        double mib = 0;
        params.n_seq_max = 3;
        params.n_ctx = 3 * contexts[i];
        params.kv_unified = false;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        llama_runtime_listen(hear_kv, &mib);
        struct llama_context *context = llama_init_from_model(model, params);
        llama_runtime_listen(NULL, NULL);
        assert_non_null(context);
        llama_free(context);
        assert_true(fabs(mib - 3 * (double)llama_kv_bytes(model, contexts[i]) / 1048576) < 0.01);
    }
    llama_model_free(model);
}

int main(void)
{
    char path[4096];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_writes_the_same_text_and_another_another),
        cmocka_unit_test(a_shared_prefix_changes_no_text),
        cmocka_unit_test(sequences_that_are_left_are_computed_together),
        cmocka_unit_test(an_answer_is_gone_on_with_from_its_middle),
        cmocka_unit_test(log_probabilities_are_those_of_libllama),
        cmocka_unit_test(under_a_grammar_every_answer_parses),
        cmocka_unit_test(nothing_is_written_after_the_answer),
        cmocka_unit_test(a_prompt_that_does_not_fit_fails_alone),
        cmocka_unit_test(loading_can_be_cancelled),
        cmocka_unit_test(keys_and_values_take_the_memory_that_was_reckoned),
    };
    if (drr_cache_path(path, sizeof path, "smollm2-135m", NULL, NULL) != DRR_OK) {
        print_message("smollm2-135m is not in the cache: tools/setup models smollm2-135m\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, open_all, close_all);
}
