/* test_parity_hidden.c: hidden states of the embedded reasoner with a real model, SmolLM2-135M: they are those that
 * libllama's own call gives for the same tokens, whoever else is written beside; asking for them changes no text; and
 * who does not ask gets none. */
#include "reasoner/llama_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CONTEXT = 512, MOST = 24, N_TASKS = 4, BLOCKS = 30 };

static const char *const choices[] = {"bank", "library", "mall"};
static const drr_task tasks[N_TASKS] = {
    {"t", "1", "Where are books lent?", choices, 3, "B", DRR_KIND_CHOICE},
    {"t", "2", "Where does one keep money that should be safe?", choices, 3, "A", DRR_KIND_CHOICE},
    {"t", "3", "Tom has 3 apples and buys 4 more. How many has he?", NULL, 0, "7", DRR_KIND_NUMBER},
    {"t", "4", "A bus has 12 seats and 5 are taken. How many are free?", NULL, 0, "7", DRR_KIND_NUMBER}};

static drr_prompts *prompts;
static char path[4096];

static int find_model(void **state)
{
    (void)state;
    drr_error err = {0};
    drr_status status = drr_cache_path(path, sizeof path, "smollm2-135m", NULL, &err);
    if (status == DRR_OK)
        status = drr_prompts_open(&prompts, NULL, &err);
    if (status != DRR_OK)
        print_error("%s\n", err.message);
    return status == DRR_OK ? 0 : -1;
}

static int free_prompts(void **state)
{
    (void)state;
    drr_prompts_free(prompts);
    return 0;
}

static drr_reasoner *opened(uint32_t width, const char *hidden)
{
    const drr_reasoner_options options = {.width = width, .context = CONTEXT, .hidden = hidden};
    drr_reasoner *r = NULL;
    drr_error err = {0};
    if (drr_reasoner_open(&r, "smollm2-135m", &options, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return r;
}

static bool answered(void *user, const char *text, size_t length)
{
    return task_answer_complete(user, text, length);
}

static size_t begin_of[N_TASKS], end_of[N_TASKS];
static void answer_at(void *user, const char *text, size_t *begin, size_t *end)
{
    const drr_task *task = user;
    task_answer_place(task, text, begin, end);
    begin_of[task - tasks] = *begin;
    end_of[task - tasks] = *end;
}

/* All tasks at once, greedily; what comes back is in their order. `asked`: of these hidden states are asked for. */
static void ask(drr_reasoner *r, unsigned asked, reasoner_completion got[N_TASKS])
{
    for (size_t i = 0; i < N_TASKS; i++) {
        conversation c = {0};
        assert_int_equal(prompts_ask(&c, prompts, &tasks[i], NULL), DRR_OK);
        const reasoner_request request = {.tag = i,
                                          .messages = c.messages,
                                          .n_messages = c.n,
                                          .max_tokens = MOST - (uint32_t)i,
                                          .seed = i,
                                          .complete = answered,
                                          .complete_user = (void *)(uintptr_t)&tasks[i],
                                          .answer_at = asked >> i & 1 ? answer_at : NULL};
        assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
        conversation_clear(&c);
    }
    for (size_t i = 0; i < N_TASKS; i++) {
        reasoner_completion one = {0};
        assert_int_equal(reasoner_next(r, &one, NULL), DRR_OK);
        got[one.tag] = one;
    }
}

static void clear(reasoner_completion got[N_TASKS])
{
    for (size_t i = 0; i < N_TASKS; i++)
        reasoner_completion_clear(&got[i]);
}

/* ---- libllama asked plainly: embeddings of every token of prompt and answer */

typedef struct plain {
    float *rows;
    uint32_t width, n_prompt, n;
} plain;

static plain plain_states(const drr_task *task, const reasoner_completion *got)
{
    llama_token ids[CONTEXT];
    char prompt[8192];
    conversation c = {0};
    struct llama_chat_message chat[32];
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = CONTEXT;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.embeddings = true;
    struct llama_context *context = llama_init_from_model(model, p);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    assert_int_equal(prompts_ask(&c, prompts, task, NULL), DRR_OK);
    for (size_t i = 0; i < c.n; i++)
        chat[i] = (struct llama_chat_message){c.messages[i].role, c.messages[i].content};
    const int32_t length = llama_chat_apply_template(llama_model_chat_template(model, NULL), chat, c.n, true, prompt,
                                                     (int32_t)sizeof prompt);
    int32_t n = llama_tokenize(vocab, prompt, length, ids, CONTEXT, false, true);
    plain result = {.width = (uint32_t)llama_model_n_embd(model), .n_prompt = (uint32_t)n};
    assert_int_equal(n, got->n_prompt_tokens);
    /* the answer's tokens, one by one as they were drawn: their pieces are known, so is where each ends */
    for (uint32_t i = 0, from = 0; i < got->n_tokens; from = got->tokens[i++].end) {
        llama_token found = -1;
        for (llama_token t = 0; t < llama_vocab_n_tokens(vocab) && found < 0; t++) {
            char piece[256];
            const int32_t size = llama_token_to_piece(vocab, t, piece, (int32_t)sizeof piece, 0, false);
            if (size > 0 && (uint32_t)size == got->tokens[i].end - from &&
                memcmp(piece, got->text + from, (size_t)size) == 0)
                found = t;
        }
        assert_true(found >= 0);
        ids[n++] = found;
    }
    result.n = (uint32_t)n - result.n_prompt;
    result.rows = malloc((size_t)result.n * result.width * sizeof *result.rows);
    assert_int_equal(llama_decode(context, llama_batch_get_one(ids, n)), 0);
    for (uint32_t i = 0; i < result.n; i++)
        memcpy(result.rows + (size_t)i * result.width,
               llama_get_embeddings_ith(context, (int32_t)(result.n_prompt + i)), result.width * sizeof *result.rows);
    conversation_clear(&c);
    llama_free(context);
    llama_model_free(model);
    return result;
}

static double cosine(const float *a, const float *b, uint32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void they_are_those_of_libllama(void **state)
{
    (void)state;
    drr_reasoner *r = opened(N_TASKS, "last");
    reasoner_completion got[N_TASKS] = {0};
    ask(r, 15, got);
    size_t in_the_middle = 0, n_answers = 0;
    for (size_t i = 0; i < N_TASKS; i++) {
        const plain p = plain_states(&tasks[i], &got[i]);
        float *values = malloc(p.width * sizeof *values), *mean = calloc(p.width, sizeof *mean);
        assert_non_null(got[i].hidden);
        assert_true(hidden_is_whole(got[i].hidden, got[i].hidden_size));
        assert_int_equal(hidden_width(got[i].hidden), p.width);
        uint32_t answer = p.n - 1;
        for (uint32_t t = 0; t < p.n && begin_of[i] < end_of[i]; t++)
            if (got[i].tokens[t].end > begin_of[i] && (t ? got[i].tokens[t - 1].end : 0) < end_of[i])
                answer = t;
        n_answers += begin_of[i] < end_of[i];
        in_the_middle += answer + 1 < p.n;
        assert_true(hidden_vector(values, got[i].hidden, HIDDEN_LAST, HIDDEN_ANSWER));
        const double here = cosine(values, p.rows + (size_t)answer * p.width, p.width);
        if (here < 0.999)
            fail_msg("task %zu: cosine %.5f with libllama's state of token %u", i, here, answer);
        if (answer > 0) /* and not those of its neighbour */
            assert_true(cosine(values, p.rows + (size_t)(answer - 1) * p.width, p.width) < 0.99);
        for (uint32_t t = 0; t < p.n; t++)
            for (uint32_t k = 0; k < p.width; k++)
                mean[k] += p.rows[(size_t)t * p.width + k] / (float)p.n;
        assert_true(hidden_vector(values, got[i].hidden, HIDDEN_LAST, HIDDEN_MEAN));
        assert_true(cosine(values, mean, p.width) > 0.999);
        free(values);
        free(mean);
        free(p.rows);
    }
    assert_true(n_answers > 0);
    print_message("%zu answers read, %zu of them before the last token\n", n_answers, in_the_middle);
    clear(got);
    drr_reasoner_close(r);
}

/* Every layer: the same for each sequence whether it is written alone or beside others. */
static void company_changes_no_state(void **state)
{
    (void)state;
    static const uint32_t layers[] = {1, 15, BLOCKS, HIDDEN_LAST};
    drr_reasoner *many = opened(N_TASKS, "1,15,30,last"), *alone = opened(1, "1,15,30,last");
    reasoner_completion a[N_TASKS] = {0}, b[N_TASKS] = {0};
    size_t compared = 0;
    assert_string_equal(drr_reasoner_hidden(many), "1,15,30,last");
    ask(many, 15, a);
    ask(alone, 15, b);
    for (size_t i = 0; i < N_TASKS; i++) {
        if (strcmp(a[i].text, b[i].text) != 0)
            continue; /* a tie between two tokens: sums in another order */
        float x[576], y[576], other[576];
        assert_int_equal(hidden_width(a[i].hidden), 576);
        for (size_t l = 0; l < 4; l++)
            for (int pool = 0; pool < HIDDEN_POOLS; pool++) {
                assert_true(hidden_vector(x, a[i].hidden, layers[l], (hidden_pool)pool));
                assert_true(hidden_vector(y, b[i].hidden, layers[l], (hidden_pool)pool));
                assert_true(cosine(x, y, 576) > 0.999);
                assert_true(hidden_vector(other, b[i].hidden, layers[(l + 1) % 4], (hidden_pool)pool));
                assert_true(cosine(x, other, 576) < 0.99); /* another layer is another vector */
            }
        compared++;
    }
    assert_true(compared >= N_TASKS - 1);
    clear(a);
    clear(b);
    drr_reasoner_close(many);
    drr_reasoner_close(alone);
}

static void only_who_asks_gets_them_and_no_text_changes(void **state)
{
    (void)state;
    drr_reasoner *with = opened(1, "last"), *without = opened(1, NULL);
    reasoner_completion all[N_TASKS] = {0}, some[N_TASKS] = {0}, none[N_TASKS] = {0};
    assert_string_equal(drr_reasoner_hidden(without), "");
    ask(with, 15, all);
    ask(with, 5, some);
    ask(without, 15, none);
    for (size_t i = 0; i < N_TASKS; i++) {
        assert_non_null(all[i].hidden);
        assert_int_equal(some[i].hidden != NULL, i % 2 == 0);
        assert_null(none[i].hidden);
        assert_string_equal(all[i].text, none[i].text);
        assert_string_equal(all[i].text, some[i].text);
        assert_int_equal(all[i].finish, none[i].finish);
        assert_int_equal(all[i].n_tokens, none[i].n_tokens);
    }
    clear(all);
    clear(some);
    clear(none);
    drr_reasoner_close(with);
    drr_reasoner_close(without);
}

/* The last token that fits the context is read too. */
static void a_full_context_has_room_for_them(void **state)
{
    (void)state;
    conversation c = {0};
    uint32_t n_prompt = 0;
    assert_int_equal(prompts_ask(&c, prompts, &tasks[2], NULL), DRR_OK);
    for (int narrow = 0; narrow < 2; narrow++) {
        const drr_reasoner_options options = {
            .width = 1, .context = narrow ? n_prompt + 10 : CONTEXT, .hidden = "last,2"};
        const reasoner_request request = {.messages = c.messages,
                                          .n_messages = c.n,
                                          .max_tokens = narrow ? 0 : 1,
                                          .temperature = 2,
                                          .seed = 3,
                                          .complete_user = (void *)(uintptr_t)&tasks[2],
                                          .answer_at = answer_at};
        drr_reasoner *r = NULL;
        reasoner_completion got = {0};
        assert_int_equal(drr_reasoner_open(&r, "smollm2-135m", &options, NULL), DRR_OK);
        assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
        assert_int_equal(reasoner_next(r, &got, NULL), DRR_OK);
        n_prompt = got.n_prompt_tokens;
        assert_int_equal(got.finish, DRR_FINISH_LENGTH);
        assert_int_equal(got.n_tokens, narrow ? 10 : 1);
        assert_true(hidden_is_whole(got.hidden, got.hidden_size));
        reasoner_completion_clear(&got);
        drr_reasoner_close(r);
    }
    conversation_clear(&c);
}

static void a_layer_that_is_not_there_is_said_to_be_none(void **state)
{
    (void)state;
    const drr_reasoner_options options = {.width = 1, .context = 64, .hidden = "31"};
    const drr_reasoner_options words = {.width = 1, .context = 64, .hidden = "middle"};
    drr_reasoner *r = NULL;
    drr_error err = {0};
    assert_int_equal(drr_reasoner_open(&r, "smollm2-135m", &options, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "its layers are 1 to 30"));
    assert_int_equal(drr_reasoner_open(&r, "smollm2-135m", &words, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "\"middle\" names no layers"));
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_those_of_libllama),
        cmocka_unit_test(company_changes_no_state),
        cmocka_unit_test(only_who_asks_gets_them_and_no_text_changes),
        cmocka_unit_test(a_full_context_has_room_for_them),
        cmocka_unit_test(a_layer_that_is_not_there_is_said_to_be_none),
    };
    return cmocka_run_group_tests(tests, find_model, free_prompts);
}
