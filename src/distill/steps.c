/* steps.c: labels for the steps of a turn, without people. From the prefix of a turn that ends with a step, the
 * reasoner goes on M times; the share of these that end in a right answer says how good it is to have got there (the
 * Monte Carlo estimate of Math-Shepherd, arXiv 2312.08935). All M are asked at once, so that the prefix is computed
 * once. By default only a search for the first bad step of a wrong turn is made: binary, for once no continuation ends
 * right, none from further on is expected to. A turn that ended right shows itself that each of its steps can. The last
 * step has the answer, and with it the turn's own label. docs/steps.md says all of this at length.
 *
 * A unit's turns are labelled one after the other when all of them are on disk. Seeds are a function of question,
 * sample, turn, step and rollout; labels go to disk turn by turn: what a kill interrupts is done again alike. */
#include "check/check.h"
#include "distill/distill_internal.h"
#include "task/task.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_TOKENS = 16 }; /* of a rollout, where the estimate of what the prefix took leaves fewer */

struct labelling {
    uint32_t turn;
    drr_step *steps;
    uint32_t n;
    int64_t low, high; /* the last step known as good, or -1, and the first one known as bad, or n */
    uint32_t at;       /* the step that continuations are awaited from */
    uint32_t n_waiting;
    uint32_t n_rollouts, n_tokens;
    bool every, undecided;
};

drr_status distill_check_steps(const drr_reasoner *reasoner, const drr_distill_options *options, drr_error *err)
{
    if (options->step_rollouts == 0)
        return DRR_OK;
    if (!reasoner_get_basis(reasoner)->prefixes)
        return error_set(err, DRR_E_ARGUMENT,
                         "--steps needs the embedded reasoner: %s cannot go on from the middle of an answer",
                         drr_reasoner_id(reasoner));
    if (options->grammar)
        return error_set(err, DRR_E_ARGUMENT,
                         "--steps and --grammar do not go together: a grammar begins with the answer, and a "
                         "continuation in its middle");
    if (!(options->temperature > 0))
        return error_set(err, DRR_E_ARGUMENT,
                         "--steps needs a temperature above 0: at 0 all continuations of a step are the same");
    return DRR_OK;
}

void steps_drop(unit *u)
{
    if (u->labelling)
        free(u->labelling->steps);
    free(u->labelling);
    u->labelling = NULL;
}

/* ---- one turn */

/* Begins with a turn that has no step labels and at least two steps; *begun false where it is none. */
static drr_status begin(unit *u, uint32_t turn, bool every, bool *begun, drr_error *err)
{
    const drr_trace *t = &u->turns[turn];
    uint32_t *ends = NULL;
    size_t n = 0;
    *begun = false;
    if (t->n_steps || (t->label != DRR_LABEL_ACCEPT && t->label != DRR_LABEL_REJECT))
        return DRR_OK;
    drr_status status = task_step_ends(&ends, &n, t->kind, t->text, err);
    if (status != DRR_OK || n < 2) {
        free(ends);
        return status;
    }
    labelling *l = calloc(1, sizeof *l);
    drr_step *steps = calloc(n, sizeof *steps);
    if (l && steps) {
        const int64_t last = (int64_t)n - 1;
        const bool right = t->label == DRR_LABEL_ACCEPT;
        *l = (labelling){.turn = turn,
                         .steps = steps,
                         .n = (uint32_t)n,
                         .low = right ? last : -1,
                         .high = right ? last + 1 : last,
                         .every = every};
        for (size_t i = 0; i < n; i++)
            steps[i].end = ends[i];
        u->labelling = l;
        *begun = true;
    } else {
        free(l);
        free(steps);
        status = error_memory(err);
    }
    free(ends);
    return status;
}

/* Chooses the step to go on from; false where all is known. */
static bool choose_step(labelling *l)
{
    if (l->undecided)
        return false;
    if (l->every) {
        for (l->at = 0; l->at + 1 < l->n && l->steps[l->at].of; l->at++)
            ;
        return l->at + 1 < l->n;
    }
    l->at = (uint32_t)((l->low + l->high) / 2);
    return l->high - l->low > 1;
}

static void close_step(labelling *l)
{
    const drr_step *s = &l->steps[l->at];
    l->undecided = s->of == 0;
    if (l->every)
        return;
    if (s->right)
        l->low = l->at;
    else
        l->high = l->at;
}

/* The labels are complete, or cannot be had: onto disk with them, or a warning. */
static drr_status finish(job *j, unit *u, drr_error *err)
{
    labelling *l = u->labelling;
    drr_trace *t = &u->turns[l->turn];
    drr_status status = DRR_OK;
    if (l->undecided) {
        if (j->n_undecided++ < 5)
            hooks_log(j->hooks, DRR_LOG_WARN,
                      "question %s of %s, sample %u, turn %u gets no step labels: its checker could decide about no "
                      "continuation of step %u",
                      u->task->id, u->task->task, u->sample, l->turn, l->at + 1);
    } else {
        for (uint32_t i = 0; i < l->n; i++) {
            drr_step *s = &l->steps[i];
            s->value = s->of ? (float)s->right / (float)s->of : (int64_t)i < l->high ? 1 : 0;
        }
        if (!trace_steps_copy(t, l->steps, l->n))
            return error_memory(err);
        t->steps_rollouts = l->n_rollouts;
        t->steps_tokens = l->n_tokens;
        status = store_steps_set(j->store, t, err);
    }
    steps_drop(u);
    return status;
}

/* ---- rollouts */

static uint64_t rollout_seed(const job *j, const unit *u, const labelling *l, uint32_t rollout)
{
    return hash_mix(hash_mix(distill_turn_seed(j, u, l->turn), 0x57e9 + (uint64_t)l->at), rollout);
}

/* What is left of the turn's tokens behind the prefix, by its share of the text's bytes: a trace does not say where its
 * tokens ended. */
static uint32_t tokens_left(const job *j, const drr_trace *t, uint32_t prefix_bytes)
{
    const uint64_t bytes = strlen(t->text), used = (t->n_tokens * (uint64_t)prefix_bytes + bytes - 1) / bytes;
    const uint64_t most = j->options->max_tokens, left = used < most ? most - used : 0;
    return (uint32_t)(left >= LEAST_TOKENS ? left : most < LEAST_TOKENS ? most : LEAST_TOKENS);
}

static drr_status submit_rollouts(job *j, size_t place, drr_error *err)
{
    unit *u = &j->units[place];
    labelling *l = u->labelling;
    const drr_trace *t = &u->turns[l->turn];
    conversation c = {0};
    char *question = NULL, *prefix = string_copy_n(t->text, l->steps[l->at].end);
    drr_status status = prefix ? distill_conversation(&c, j, u, l->turn, err) : error_memory(err);
    if (status == DRR_OK)
        status = task_question_text(&question, u->task, err);
    for (uint32_t i = 0; i < j->options->step_rollouts && status == DRR_OK; i++) {
        const reasoner_request request = {
            .tag = place | DISTILL_ROLLOUT,
            .messages = c.messages,
            .n_messages = c.n,
            .prefix = prefix,
            .max_tokens = tokens_left(j, t, l->steps[l->at].end),
            .temperature = j->options->temperature,
            .top_p = j->options->top_p,
            .seed = rollout_seed(j, u, l, i),
            .complete = distill_answer_complete,
            .complete_user = u,
            .question = question,
        };
        status = reasoner_submit(j->reasoner, &request, err);
        l->n_waiting += status == DRR_OK;
    }
    conversation_clear(&c);
    free(question);
    free(prefix);
    return status;
}

bool steps_judged(unit *u, drr_label label)
{
    labelling *l = u->labelling;
    if (label != DRR_LABEL_UNLABELLED) {
        l->steps[l->at].of++;
        l->steps[l->at].right += label == DRR_LABEL_ACCEPT;
    }
    return --l->n_waiting == 0;
}

/* The answer of prefix and continuation together; NULL: none. */
static drr_status rollout_answer(char **answer, const unit *u, const char *continuation, drr_error *err)
{
    const labelling *l = u->labelling;
    buffer text = {0};
    drr_status status = buffer_append(&text, u->turns[l->turn].text, l->steps[l->at].end, err);
    if (status == DRR_OK)
        status = buffer_puts(&text, continuation, err);
    if (status == DRR_OK)
        status = drr_answer_extract(answer, NULL, NULL, u->task, text.data, err);
    buffer_clear(&text);
    return status;
}

drr_status steps_take(job *j, const reasoner_completion *c, bool *last, drr_error *err)
{
    unit *u = &j->units[c->tag & ~DISTILL_ROLLOUT];
    labelling *l = u->labelling;
    char *answer = NULL;
    *last = false;
    if (c->finish == DRR_FINISH_FAILED || c->finish == DRR_FINISH_CANCELLED) {
        const char *why = c->failure ? c->failure : drr_finish_name(c->finish);
        if (!u->failure) { /* one sentence for all continuations of a step */
            char words[400];
            snprintf(words, sizeof words, "a continuation of step %u: %.300s", l->at + 1, why);
            distill_note_failure(j, u, l->turn, words);
            u->failure = string_copy(words);
            if (!u->failure)
                return error_memory(err);
        }
        *last = --l->n_waiting == 0;
        return DRR_OK;
    }
    l->n_rollouts++;
    l->n_tokens += c->n_tokens;
    j->n_rollouts++;
    j->n_step_tokens += c->n_tokens;
    drr_status status = rollout_answer(&answer, u, c->text, err);
    if (status == DRR_OK && answer && u->task->kind == DRR_KIND_CHECKED)
        status = checker_submit(j->options->checker, c->tag, u->task, answer, err);
    else if (status == DRR_OK)
        *last = steps_judged(u, answer && drr_answer_equal(u->task->kind, answer, u->task->answer) ? DRR_LABEL_ACCEPT
                                                                                                   : DRR_LABEL_REJECT);
    free(answer);
    return status;
}

drr_status steps_advance(job *j, size_t place, bool *waits, drr_error *err)
{
    unit *u = &j->units[place];
    drr_status status = DRR_OK;
    *waits = false;
    if (u->labelling && !u->failure)
        close_step(u->labelling);
    while (status == DRR_OK && j->options->step_rollouts && !u->failure) {
        bool begun = u->labelling != NULL;
        while (status == DRR_OK && !begun && u->n_looked < u->n_turns)
            status = begin(u, u->n_looked++, j->options->step_every, &begun, err);
        if (status != DRR_OK || !begun)
            return status;
        if (choose_step(u->labelling)) {
            *waits = true;
            return submit_rollouts(j, place, err);
        }
        status = finish(j, u, err);
    }
    return status;
}
