/* distill.c: the first D of DRR. Every question is answered k times, each sample up to T turns; a turn's label comes
 * from its final answer's check alone. A unit of work is one (question, sample): its turns follow each other, units run
 * side by side, as many as the reasoner is wide. Each turn is committed to the store before the next is asked for, and
 * everything that decides what comes next (seed, forced rejection) is a function of the question, sample and turn: so
 * a run that was killed goes on where it stopped, and nothing is lost or doubled. Whether the store is this run's is
 * identity.c's. */
#include "check/check.h"
#include "distill/distill_internal.h"
#include "task/task.h"
#include "trace/trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const drr_task *task;
    uint32_t sample;
    drr_trace *turns; /* those known so far, with room for all */
    uint32_t n_turns;
    bool checking; /* turns[n_turns] waits for its label */
} unit;

typedef struct job {
    drr_store *store;
    drr_reasoner *reasoner;
    const drr_prompts *prompts;
    const drr_dataset *dataset;
    const drr_distill_options *options;
    const drr_hooks *hooks;
    unit *units;
    size_t n_units, next_unit;
    uint64_t n_done, n_failed, n_accepted, n_traces, n_unlabelled;
    char first_failure[600];
} job;

void drr_distill_options_defaults(drr_distill_options *options)
{
    *options = (drr_distill_options){.samples = 4,
                                     .turns = 2,
                                     .max_tokens = 200,
                                     .temperature = 0.7f,
                                     .top_p = 0.95f,
                                     .forced_share = 0.1,
                                     .seed = 1};
}

static uint64_t turn_seed(const job *j, const unit *u, uint32_t turn)
{
    return task_turn_seed(j->options->seed, u->task->id, u->sample, turn);
}

/* A small share of correct answers is rejected on purpose: at inference the critic will do so by mistake, and it must
 * know what an answer after an unjust rejection looks like. */
static bool forced_rejection(const job *j, const unit *u, uint32_t turn)
{
    rng r;
    rng_seed(&r, hash_mix(turn_seed(j, u, turn), 0xf0));
    return rng_uniform(&r) < j->options->forced_share;
}

static bool wants_another_turn(const job *j, const unit *u)
{
    if (u->n_turns == 0)
        return true;
    const drr_trace *last = &u->turns[u->n_turns - 1];
    if (u->n_turns >= j->options->turns || last->label == DRR_LABEL_UNLABELLED) /* nothing to tell the reasoner */
        return false;
    return last->label != DRR_LABEL_ACCEPT || forced_rejection(j, u, last->turn);
}

static void unit_end(job *j, unit *u)
{
    for (uint32_t i = 0; i < u->n_turns + u->checking; i++)
        drr_trace_clear(&u->turns[i]);
    free(u->turns);
    u->turns = NULL;
    u->checking = false;
    u->n_turns = 0;
    j->n_done++;
}

static drr_status unit_begin(job *j, unit *u, drr_error *err)
{
    drr_trace *known = NULL;
    size_t n = 0;
    drr_status status = store_sample_turns(j->store, u->task->task, u->task->id, drr_reasoner_id(j->reasoner),
                                           drr_prompts_id(j->prompts), u->sample, &known, &n, err);
    if (status != DRR_OK)
        return status;
    const size_t room = n > j->options->turns ? n : j->options->turns;
    u->turns = realloc(known, (room + 1) * sizeof *u->turns);
    if (!u->turns) {
        for (size_t i = 0; i < n; i++)
            drr_trace_clear(&known[i]);
        free(known);
        return error_memory(err);
    }
    u->n_turns = (uint32_t)n;
    return DRR_OK;
}

static bool answer_is_complete(void *user, const char *text, size_t length)
{
    const unit *u = user;
    return task_answer_complete(u->task, text, length);
}

static drr_status submit_turn(job *j, size_t index, drr_error *err)
{
    unit *u = &j->units[index];
    conversation c = {0};
    char *words = NULL, *question = NULL;
    drr_status status = prompts_ask(&c, j->prompts, u->task, err);
    if (status == DRR_OK)
        status = task_question_text(&question, u->task, err);
    for (uint32_t i = 0; status == DRR_OK && i < u->n_turns; i++) {
        status = conversation_add(&c, "assistant", u->turns[i].text, err);
        if (status == DRR_OK)
            status = prompts_feedback(&words, j->prompts, u->task, u->turns[i].answer, err);
        if (status == DRR_OK)
            status = conversation_add(&c, "user", words, err);
        free(words);
        words = NULL;
    }
    if (status == DRR_OK) {
        const reasoner_request request = {
            .tag = index,
            .messages = c.messages,
            .n_messages = c.n,
            .max_tokens = j->options->max_tokens,
            .temperature = j->options->temperature,
            .top_p = j->options->top_p,
            .seed = turn_seed(j, u, u->n_turns),
            .grammar = j->options->grammar ? prompts_grammar(j->prompts, u->task) : NULL,
            .complete = answer_is_complete,
            .complete_user = u,
            .question = question,
            .sample = u->sample + (u->n_turns ? 1000 * u->n_turns : 0),
        };
        status = reasoner_submit(j->reasoner, &request, err);
    }
    conversation_clear(&c);
    free(question);
    return status;
}

/* Fills the trace of a completed turn; strings are copies. */
static drr_status make_trace(drr_trace *trace, const job *j, const unit *u, const reasoner_completion *c,
                             drr_error *err)
{
    const drr_task *task = u->task;
    size_t begin = 0, end = 0;
    trace_token *tokens = NULL;
    drr_status status;
    *trace = (drr_trace){.kind = task->kind,
                         .sample = u->sample,
                         .turn = u->n_turns,
                         .seed = turn_seed(j, u, u->n_turns),
                         .finish = c->finish,
                         .n_prompt_tokens = c->n_prompt_tokens,
                         .n_tokens = c->n_tokens,
                         .seconds = c->seconds,
                         .temperature = j->options->temperature};
    status = drr_answer_extract(&trace->answer, &begin, &end, task, c->text, err);
    if (status == DRR_OK)
        status = task_question_text(&trace->question, task, err);
    if (status == DRR_OK && u->n_turns > 0) {
        const drr_trace *before = &u->turns[u->n_turns - 1];
        status = prompts_feedback(&trace->feedback, j->prompts, task, before->answer, err);
        trace->forced = before->label == DRR_LABEL_ACCEPT;
    }
    if (status != DRR_OK)
        goto done;
    trace->task = string_copy(task->task);
    trace->id = string_copy(task->id);
    trace->gold = string_copy(task->answer);
    trace->reasoner = string_copy(drr_reasoner_id(j->reasoner));
    trace->prompt = string_copy(drr_prompts_id(j->prompts));
    trace->text = string_copy(c->text);
    tokens = malloc((c->n_token_stats + 1) * sizeof *tokens);
    if (!trace->task || !trace->id || !trace->gold || !trace->reasoner || !trace->prompt || !trace->text || !tokens) {
        status = error_memory(err);
        goto done;
    }
    if (!trace->answer)
        trace->label = DRR_LABEL_UNPARSED;
    else if (task->kind == DRR_KIND_CHECKED)
        trace->label = DRR_LABEL_UNLABELLED; /* until its checker has spoken */
    else
        trace->label = drr_answer_equal(task->kind, trace->answer, task->answer) ? DRR_LABEL_ACCEPT : DRR_LABEL_REJECT;
    trace_token_stats_unknown(&trace->stats);
    if (c->tokens) {
        for (uint32_t i = 0; i < c->n_token_stats; i++)
            tokens[i] =
                (trace_token){c->tokens[i].end, c->tokens[i].logprob, c->tokens[i].entropy, c->tokens[i].margin};
        trace_token_stats(&trace->stats, tokens, c->n_token_stats, begin, end);
    }
done:
    free(tokens);
    if (status != DRR_OK)
        drr_trace_clear(trace);
    return status;
}

/* The unit's newest turn has its label: into the store, then the next turn or the next unit. */
static drr_status keep_turn(job *j, size_t index, drr_error *err)
{
    unit *u = &j->units[index];
    const drr_trace *t = &u->turns[u->n_turns];
    drr_status status = drr_store_append(j->store, t, NULL, err);
    if (status != DRR_OK)
        return status;
    j->n_traces++;
    j->n_accepted += t->label == DRR_LABEL_ACCEPT;
    u->checking = false;
    u->n_turns++;
    if (wants_another_turn(j, u))
        return submit_turn(j, index, err);
    unit_end(j, u);
    return DRR_OK;
}

static drr_status take_completion(job *j, const reasoner_completion *c, drr_error *err)
{
    unit *u = &j->units[c->tag];
    if (c->finish == DRR_FINISH_FAILED || c->finish == DRR_FINISH_CANCELLED) {
        char what[sizeof j->first_failure];
        snprintf(what, sizeof what, "question %.100s of %.100s, sample %u, turn %u failed: %.300s", u->task->id,
                 u->task->task, u->sample, u->n_turns, c->failure ? c->failure : drr_finish_name(c->finish));
        hooks_log(j->hooks, DRR_LOG_WARN, "%s", what);
        if (j->n_failed++ == 0)
            memcpy(j->first_failure, what, sizeof what);
        unit_end(j, u);
        return DRR_OK;
    }
    drr_trace trace;
    drr_status status = make_trace(&trace, j, u, c, err);
    if (status != DRR_OK)
        return status;
    u->turns[u->n_turns] = trace;
    u->checking = true;
    if (trace.label != DRR_LABEL_UNLABELLED)
        return keep_turn(j, c->tag, err);
    return checker_submit(j->options->checker, c->tag, u->task, trace.answer, err);
}

/* Answers whose label is known by now; wait_ms for the first. */
static drr_status take_checks(job *j, uint32_t wait_ms, drr_error *err)
{
    drr_status status = DRR_OK;
    check_result r;
    while (status == DRR_OK && checker_pending(j->options->checker) && checker_next(j->options->checker, &r, wait_ms)) {
        unit *u = &j->units[r.tag];
        u->turns[u->n_turns].label = r.label;
        if (r.label == DRR_LABEL_UNLABELLED && j->n_unlabelled++ < 5)
            hooks_log(j->hooks, DRR_LOG_WARN, "question %s of %s, sample %u, turn %u has no label: %s", u->task->id,
                      u->task->task, u->sample, u->n_turns, r.why);
        status = keep_turn(j, r.tag, err);
        wait_ms = 0;
    }
    return status;
}

/* Keeps twice the width in flight: the reasoner then always has a request to admit when a sequence ends, and can
 * choose those that share a prompt. */
static drr_status fill(job *j, drr_error *err)
{
    const size_t wanted = 2 * (size_t)reasoner_width(j->reasoner);
    while (j->next_unit < j->n_units && reasoner_pending(j->reasoner) < wanted) {
        unit *u = &j->units[j->next_unit];
        drr_status status = unit_begin(j, u, err);
        if (status == DRR_OK && !wants_another_turn(j, u)) {
            unit_end(j, u);
            j->next_unit++;
            continue;
        }
        if (status == DRR_OK)
            status = submit_turn(j, j->next_unit, err);
        if (status != DRR_OK)
            return status;
        j->next_unit++;
    }
    return DRR_OK;
}

static const char *note_traces(char *note, size_t size, const job *j)
{
    int n = snprintf(note, size, "%llu new traces", (unsigned long long)j->n_traces);
    if (j->n_traces && n > 0 && (size_t)n < size)
        snprintf(note + n, size - (size_t)n, ", %.1f %% right", 100.0 * (double)j->n_accepted / (double)j->n_traces);
    return note;
}

static drr_status run(job *j, drr_error *err)
{
    char note[128];
    progress_meter meter;
    progress_begin(&meter, j->hooks, "distill", "samples", 0, j->n_units);
    for (;;) {
        reasoner_completion c = {0};
        drr_status status = hooks_cancelled(j->hooks)
                                ? error_set(err, DRR_E_INTERRUPTED,
                                            "interrupted after %llu new traces; the same command goes on from here",
                                            (unsigned long long)j->n_traces)
                                : fill(j, err);
        if (status != DRR_OK)
            return status;
        const bool asked = reasoner_pending(j->reasoner) > 0;
        const bool checking = j->options->checker && checker_pending(j->options->checker) > 0;
        if (!asked && !checking)
            break;
        if (asked) {
            status = reasoner_next(j->reasoner, &c, err);
            if (status == DRR_OK)
                status = take_completion(j, &c, err);
            reasoner_completion_clear(&c);
        }
        if (status == DRR_OK && j->options->checker)
            status = take_checks(j, asked ? 0 : 200, err);
        if (status != DRR_OK)
            return status;
        progress_update(&meter, j->n_done, note_traces(note, sizeof note, j));
    }
    progress_end(&meter, j->n_done, note_traces(note, sizeof note, j));
    if (j->n_unlabelled)
        hooks_log(j->hooks, DRR_LOG_WARN, "%llu of %llu new traces have no label: kept, but not trained on",
                  (unsigned long long)j->n_unlabelled, (unsigned long long)j->n_traces);
    if (!j->n_failed)
        return DRR_OK;
    if (!j->options->skip_failed)
        return error_set(err, DRR_E_BACKEND, "%llu of %zu samples failed and are not in the store, the first: %s",
                         (unsigned long long)j->n_failed, j->n_units, j->first_failure);
    hooks_log(j->hooks, DRR_LOG_WARN, "%llu samples failed and are not in the store; run again to retry them",
              (unsigned long long)j->n_failed);
    return DRR_OK;
}

drr_status drr_distill(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts, const drr_dataset *dataset,
                       const drr_distill_options *options, const drr_hooks *hooks, drr_error *err)
{
    job j = {.store = store,
             .reasoner = reasoner,
             .prompts = prompts,
             .dataset = dataset,
             .options = options,
             .hooks = hooks};
    size_t n_questions = drr_dataset_count(dataset);
    drr_status status;
    if (options->limit && options->limit < n_questions)
        n_questions = options->limit;
    if (n_questions == 0 || options->samples == 0 || options->turns == 0)
        return error_set(err, DRR_E_ARGUMENT, "nothing to distil: %zu questions, %u samples, %u turns", n_questions,
                         options->samples, options->turns);
    for (size_t i = 0; i < n_questions; i++)
        if (!drr_dataset_at(dataset, i)->answer[0])
            return error_set(
                err, DRR_E_ARGUMENT,
                "question %s of %s has no reference answer: its traces could not be labelled; leave it out "
                "or give the answer",
                drr_dataset_at(dataset, i)->id, drr_dataset_name(dataset));
    for (size_t i = 0; i < n_questions; i++) {
        status = checker_allows(options->checker, drr_dataset_at(dataset, i), err);
        if (status != DRR_OK)
            return status;
    }
    status = distill_check_identity(store, reasoner, prompts, options, hooks, err);
    if (status == DRR_OK)
        status = distill_check_questions(store, dataset, n_questions, err);
    if (status != DRR_OK)
        return status;
    if (!size_multiply(&j.n_units, n_questions, options->samples))
        return error_set(err, DRR_E_LIMIT, "%zu questions times %u samples are too many", n_questions,
                         options->samples);
    j.units = calloc(j.n_units, sizeof *j.units);
    if (!j.units)
        return error_memory(err);
    for (size_t i = 0; i < j.n_units; i++) {
        j.units[i].task = drr_dataset_at(dataset, i / options->samples);
        j.units[i].sample = (uint32_t)(i % options->samples);
    }
    status = run(&j, err);
    if (status != DRR_OK)
        reasoner_cancel(reasoner);
    if (status != DRR_OK && options->checker)
        checker_cancel(options->checker);
    for (size_t i = 0; i < j.n_units; i++)
        if (j.units[i].turns)
            unit_end(&j, &j.units[i]);
    free(j.units);
    return status;
}
