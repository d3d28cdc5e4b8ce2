/* loop_stage.h: drr_solve over a scripted reasoner and a critic that likes wide margins: P = sigmoid(margin). */
#ifndef DRR_TESTS_LOOP_STAGE_H
#define DRR_TESTS_LOOP_STAGE_H

#include "script_fixture.h"

typedef struct stage {
    scripted script;
    drr_reasoner *reasoner;
    drr_critic *critic;
    drr_prompts *prompts;
    drr_policy policy;
    drr_result results[8];
    size_t n;
} stage;

static char critic_path[] = "/tmp/drr-test-loop-XXXXXX";

static inline int make_critic(void **state)
{
    (void)state;
    write_margin_critic(critic_path, 0);
    return 0;
}

static inline int remove_critic(void **state)
{
    (void)state;
    return unlink(critic_path);
}

static inline void stage_open(stage *s, const line *lines, size_t n, drr_strategy strategy)
{
    drr_error err;
    *s = (stage){.script = {.lines = lines, .n_lines = n}};
    assert_int_equal(reasoner_new(&s->reasoner, &script_backend, &s->script, "script", "a script", 4, &err), DRR_OK);
    assert_int_equal(drr_critic_open(&s->critic, critic_path, &err), DRR_OK);
    assert_int_equal(drr_prompts_open(&s->prompts, NULL, &err), DRR_OK);
    drr_policy_defaults(&s->policy);
    s->policy.strategy = strategy;
}

static const drr_task q1 = {.task = "t", .id = "1", .question = "one?", .answer = "7", .kind = DRR_KIND_NUMBER};
static const drr_task q2 = {.task = "t", .id = "2", .question = "two?", .answer = "9", .kind = DRR_KIND_NUMBER};

static inline drr_result *solve(stage *s, const drr_task *a, const drr_task *b)
{
    const drr_task *tasks[] = {a, b};
    drr_error err = {0};
    s->n = b ? 2 : 1;
    const drr_status status =
        drr_solve(s->results, s->reasoner, s->critic, s->prompts, tasks, s->n, &s->policy, NULL, NULL, NULL, &err);
    if (status != DRR_OK)
        fail_msg("drr_solve: %s", err.message);
    return s->results;
}

static inline void stage_close(stage *s)
{
    for (size_t i = 0; i < s->n; i++)
        drr_result_clear(&s->results[i]);
    drr_reasoner_close(s->reasoner);
    drr_critic_close(s->critic);
    drr_prompts_free(s->prompts);
}

#define STAGE(s, lines, strategy) stage_open(&s, lines, sizeof lines / sizeof *lines, strategy)

#endif
