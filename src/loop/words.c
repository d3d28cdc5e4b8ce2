/* words.c: what a rejection says, beyond a restart: the bare words, the score, or the step that looks bad. The wording
 * itself is src/task's, and users' to replace (docs/formats.md, "Prompts file"). */
#include "loop/loop_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_MOST = 300 }; /* bytes that are quoted */

/* The first step that looks more likely bad than good; where none does, the worst one. n: none can be told. */
static size_t suspicious_step(const drr_step_score *steps, size_t n)
{
    size_t worst = n;
    for (size_t i = 0; i < n; i++) {
        if (isnan(steps[i].p))
            continue;
        if (steps[i].p < 0.5)
            return i;
        if (worst == n || steps[i].p < steps[worst].p)
            worst = i;
    }
    return worst;
}

/* One line without white space at its ends, cut between characters. */
static char *quote(const char *text, size_t size)
{
    while (size && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    while (size && isspace((unsigned char)text[size - 1]))
        size--;
    const bool cut = size > STEP_MOST;
    if (cut)
        for (size = STEP_MOST; size && ((unsigned char)text[size] & 0xc0) == 0x80;)
            size--;
    char *copy = malloc(size + 4);
    if (!copy)
        return NULL;
    memcpy(copy, text, size);
    memcpy(copy + size, cut ? "..." : "", cut ? 4 : 1);
    for (char *at = copy; *at; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    return copy;
}

static drr_status find_step(char **step, loop *l, seeker *s, const drr_turn *t, drr_error *err)
{
    const drr_score_item item = {.question = s->question, .text = t->text};
    uint32_t *ends = NULL;
    drr_step_score *scores = NULL;
    drr_score score;
    size_t n = 0;
    drr_status status = task_step_ends(&ends, &n, s->task->kind, t->text, err);
    if (status == DRR_OK && !(scores = calloc(n + 1, sizeof *scores)))
        status = error_memory(err);
    const double began = clock_seconds();
    if (status == DRR_OK)
        status = drr_critic_score_steps(l->critic, &score, scores, &item, ends, n, err);
    s->result->judge_seconds += clock_seconds() - began;
    const size_t i = status == DRR_OK ? suspicious_step(scores, n) : n;
    if (i < n) {
        const uint32_t begin = i ? ends[i - 1] : 0;
        *step = quote(t->text + begin, ends[i] - begin);
        status = *step ? DRR_OK : error_memory(err);
    }
    free(scores);
    free(ends);
    return status;
}

drr_status loop_words(char **words, loop *l, seeker *s, const drr_turn *t, drr_error *err)
{
    char score[16] = "";
    char *step = NULL;
    drr_status status = DRR_OK;
    if (isfinite(t->p_correct))
        snprintf(score, sizeof score, "%.0f %%", 100 * t->p_correct);
    if (l->policy->feedback == DRR_FEEDBACK_STEP && t->answer)
        status = find_step(&step, l, s, t, err);
    if (status == DRR_OK) {
        const bool more = step || (l->policy->feedback == DRR_FEEDBACK_SCORE && *score);
        status = more ? prompts_reject(words, l->prompts, s->task, t->answer, score, step, err)
                      : prompts_feedback(words, l->prompts, s->task, t->answer, err);
    }
    free(step);
    return status;
}
