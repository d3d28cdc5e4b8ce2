/* distill.c: the first D of DRR. Every question is answered k times, each sample up to T turns; a turn's label comes
 * from its final answer's check alone. A unit of work is one (question, sample): its turns follow each other, units run
 * side by side, as many as the reasoner is wide. Turns that end together are committed together, and each before the
 * next of its unit is asked for; everything that decides what comes next (seed, forced rejection) is a function of the
 * question, sample and turn: so a run that was killed goes on where it stopped, and nothing is lost or doubled. Which
 * units there are is sources.c's and work.c's, whether the store is this run's identity.c's. */
#include "check/check.h"
#include "distill/distill_internal.h"
#include "task/task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

uint64_t distill_turn_seed(const job *j, const unit *u, uint32_t turn)
{
    return task_turn_seed(j->options->seed, u->task->id, u->sample, turn);
}

/* A small share of correct answers is rejected on purpose: at inference the critic will do so by mistake, and it must
 * know what an answer after an unjust rejection looks like. */
static bool forced_rejection(const job *j, const unit *u, uint32_t turn)
{
    rng r;
    rng_seed(&r, hash_mix(distill_turn_seed(j, u, turn), 0xf0));
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

static void drop_turns(unit *u)
{
    for (uint32_t i = 0; i < u->n_turns + u->checking; i++)
        drr_trace_clear(&u->turns[i]);
    free(u->turns);
    u->turns = NULL;
    u->n_turns = 0;
    u->checking = false;
}

static void unit_free(job *j, unit *u)
{
    drop_turns(u);
    steps_drop(u);
    free(u->failure);
    drr_dataset_free(u->own);
    *u = (unit){0};
    j->n_used--;
}

static drr_status unit_end(job *j, unit *u, const char *failure, drr_error *err)
{
    const drr_status status = j->source->ended(j->source, u, failure, err);
    unit_free(j, u);
    return status;
}

/* The turns of the unit that the store holds. */
static drr_status unit_load(job *j, unit *u, drr_error *err)
{
    const store_sample sample = {u->task->task, u->task->id, drr_reasoner_id(j->reasoner), drr_prompts_id(j->prompts),
                                 u->sample};
    drr_trace *known = NULL;
    size_t n = 0;
    drr_status status = store_sample_turns(j->store, &sample, &known, &n, err);
    if (status != DRR_OK)
        return status;
    const size_t room = n > j->options->turns ? n : j->options->turns;
    drr_trace *turns = realloc(known, (room + 1) * sizeof *turns);
    if (!turns) {
        for (size_t i = 0; i < n; i++)
            drr_trace_clear(&known[i]);
        free(known);
        return error_memory(err);
    }
    u->turns = turns;
    u->n_turns = (uint32_t)n;
    return DRR_OK;
}

bool distill_answer_complete(void *user, const char *text, size_t length)
{
    const unit *u = user;
    return task_answer_complete(u->task, text, length);
}

static void answer_at(void *user, const char *text, size_t *begin, size_t *end)
{
    const unit *u = user;
    task_answer_place(u->task, text, begin, end);
}

drr_status distill_conversation(conversation *c, const job *j, const unit *u, uint32_t turn, drr_error *err)
{
    char *words = NULL;
    drr_status status = prompts_ask(c, j->prompts, u->task, err);
    for (uint32_t i = 0; status == DRR_OK && i < turn; i++) {
        status = conversation_add(c, "assistant", u->turns[i].text, err);
        if (status == DRR_OK)
            status = prompts_feedback(&words, j->prompts, u->task, u->turns[i].answer, err);
        if (status == DRR_OK)
            status = conversation_add(c, "user", words, err);
        free(words);
        words = NULL;
    }
    return status;
}

static drr_status submit_turn(job *j, size_t place, drr_error *err)
{
    unit *u = &j->units[place];
    conversation c = {0};
    char *question = NULL;
    drr_status status = distill_conversation(&c, j, u, u->n_turns, err);
    if (status == DRR_OK)
        status = task_question_text(&question, u->task, err);
    if (status == DRR_OK) {
        const reasoner_request request = {
            .tag = place,
            .messages = c.messages,
            .n_messages = c.n,
            .max_tokens = j->options->max_tokens,
            .temperature = j->options->temperature,
            .top_p = j->options->top_p,
            .seed = distill_turn_seed(j, u, u->n_turns),
            .grammar = j->options->grammar ? prompts_grammar(j->prompts, u->task) : NULL,
            .complete = distill_answer_complete,
            .complete_user = u,
            .answer_at = answer_at,
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
                         .seed = distill_turn_seed(j, u, u->n_turns),
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
    if (!trace_hidden_copy(trace, c->hidden, c->hidden_size))
        status = error_memory(err);
done:
    free(tokens);
    if (status != DRR_OK)
        drr_trace_clear(trace);
    return status;
}

static drr_status go_on(job *j, size_t place, drr_error *err)
{
    unit *u = &j->units[place];
    bool waits = false;
    if (wants_another_turn(j, u))
        return submit_turn(j, place, err);
    const drr_status status = steps_advance(j, place, &waits, err);
    return status != DRR_OK || waits ? status : unit_end(j, u, u->failure, err);
}

/* The store had a turn of this number already, from another process with the same work: its history is the one that
 * counts. */
static drr_status take_over(job *j, size_t place, drr_error *err)
{
    unit *u = &j->units[place];
    drop_turns(u);
    const drr_status status = unit_load(j, u, err);
    return status == DRR_OK ? go_on(j, place, err) : status;
}

/* The newest turns that have their labels: into the store, all with one commit, then the next turn of each, or its
 * end. */
static drr_status keep_fresh(job *j, drr_error *err)
{
    const drr_trace *traces[MOST_TOGETHER];
    bool added[MOST_TOGETHER];
    const size_t n = j->n_fresh;
    j->n_fresh = 0;
    for (size_t i = 0; i < n; i++)
        traces[i] = &j->units[j->fresh[i]].turns[j->units[j->fresh[i]].n_turns];
    drr_status status = store_append_many(j->store, traces, n, added, err);
    for (size_t i = 0; i < n && status == DRR_OK; i++) {
        unit *u = &j->units[j->fresh[i]];
        if (!added[i]) {
            status = take_over(j, j->fresh[i], err);
            continue;
        }
        j->n_traces++;
        j->n_tokens += traces[i]->n_tokens;
        j->n_accepted += traces[i]->label == DRR_LABEL_ACCEPT;
        u->checking = false;
        u->n_turns++;
        status = go_on(j, j->fresh[i], err);
    }
    return status == DRR_OK ? j->source->flush(j->source, j->n_traces, j->n_tokens + j->n_step_tokens, err) : status;
}

void distill_note_failure(job *j, const unit *u, uint32_t turn, const char *why)
{
    char what[sizeof j->first_failure];
    snprintf(what, sizeof what, "question %.100s of %.100s, sample %u, turn %u failed: %.300s", u->task->id,
             u->task->task, u->sample, turn, why);
    hooks_log(j->hooks, DRR_LOG_WARN, "%s", what);
    if (j->n_failed++ == 0)
        memcpy(j->first_failure, what, sizeof what);
}

static drr_status take_completion(job *j, const reasoner_completion *c, drr_error *err)
{
    if (c->tag & DISTILL_ROLLOUT) {
        bool last = false;
        const drr_status status = steps_take(j, c, &last, err);
        return status == DRR_OK && last ? go_on(j, (size_t)(c->tag & ~DISTILL_ROLLOUT), err) : status;
    }
    unit *u = &j->units[c->tag];
    if (c->finish == DRR_FINISH_FAILED || c->finish == DRR_FINISH_CANCELLED) {
        const char *why = c->failure ? c->failure : drr_finish_name(c->finish);
        distill_note_failure(j, u, u->n_turns, why);
        return unit_end(j, u, why, err);
    }
    drr_trace trace;
    drr_status status = make_trace(&trace, j, u, c, err);
    if (status != DRR_OK)
        return status;
    u->turns[u->n_turns] = trace;
    u->checking = true;
    if (trace.label == DRR_LABEL_UNLABELLED)
        return checker_submit(j->options->checker, c->tag, u->task, trace.answer, err);
    j->fresh[j->n_fresh++] = (size_t)c->tag;
    return DRR_OK;
}

/* Waits for one completion, and takes those that are there with it. */
static drr_status take_completions(job *j, drr_error *err)
{
    drr_status status;
    do {
        reasoner_completion c = {0};
        status = reasoner_next(j->reasoner, &c, err);
        if (status == DRR_OK)
            status = take_completion(j, &c, err);
        reasoner_completion_clear(&c);
    } while (status == DRR_OK && j->n_fresh < MOST_TOGETHER && reasoner_ready(j->reasoner) > 0);
    return status;
}

/* Answers whose label is known by now; wait_ms for the first. */
static drr_status take_checks(job *j, uint32_t wait_ms, drr_error *err)
{
    check_result r;
    while (j->n_fresh < MOST_TOGETHER && checker_pending(j->options->checker) &&
           checker_next(j->options->checker, &r, wait_ms)) {
        const size_t place = (size_t)(r.tag & ~DISTILL_ROLLOUT);
        unit *u = &j->units[place];
        wait_ms = 0;
        if (r.tag & DISTILL_ROLLOUT) {
            const drr_status status = steps_judged(u, r.label) ? go_on(j, place, err) : DRR_OK;
            if (status != DRR_OK)
                return status;
            continue;
        }
        u->turns[u->n_turns].label = r.label;
        if (r.label == DRR_LABEL_UNLABELLED && j->n_unlabelled++ < 5)
            hooks_log(j->hooks, DRR_LOG_WARN, "question %s of %s, sample %u, turn %u has no label: %s", u->task->id,
                      u->task->task, u->sample, u->n_turns, r.why);
        j->fresh[j->n_fresh++] = place;
    }
    return DRR_OK;
}

/* ---- admitting */

static size_t free_place(const job *j)
{
    size_t place = 0;
    while (place < j->n_places && j->units[place].used)
        place++;
    return place;
}

/* A queue may hand out what this run has in hand already, when its lease ran out and nobody else took it. */
static bool in_hand(const job *j, int64_t number)
{
    for (size_t i = 0; number && i < j->n_places; i++)
        if (j->units[i].used && j->units[i].number == number)
            return true;
    return false;
}

/* Keeps twice the width in flight: the reasoner then always has a request to admit when a sequence ends, and can
 * choose those that share a prompt. Units that wait for a checker hold a place too, so these cannot pile up. */
static drr_status fill(job *j, drr_error *err)
{
    const size_t wanted = 2 * (size_t)reasoner_width(j->reasoner);
    while (reasoner_pending(j->reasoner) < wanted && j->n_used < j->n_places) {
        unit u = {0};
        bool got = false;
        drr_status status =
            j->source->next(j->source, &u, j->n_used == 0, wanted - reasoner_pending(j->reasoner), &got, err);
        if (status != DRR_OK || !got)
            return status;
        if (in_hand(j, u.number)) {
            drr_dataset_free(u.own);
            continue;
        }
        const size_t place = free_place(j);
        u.used = true;
        j->units[place] = u;
        j->n_used++;
        status = checker_allows(j->options->checker, u.task, err);
        if (status == DRR_OK)
            status = unit_load(j, &j->units[place], err);
        if (status == DRR_OK)
            status = go_on(j, place, err);
        if (status != DRR_OK)
            return status;
    }
    return DRR_OK;
}

static const char *note_traces(char *note, size_t size, const job *j)
{
    int n = snprintf(note, size, "%llu new traces", (unsigned long long)j->n_traces);
    if (j->n_traces && n > 0 && (size_t)n < size)
        n += snprintf(note + n, size - (size_t)n, ", %.1f %% right",
                      100.0 * (double)j->n_accepted / (double)j->n_traces);
    if (j->n_rollouts && n > 0 && (size_t)n < size)
        snprintf(note + n, size - (size_t)n, ", %llu rollouts of %llu tokens", (unsigned long long)j->n_rollouts,
                 (unsigned long long)j->n_step_tokens);
    return note;
}

static drr_status report(job *j, progress_meter *meter, bool last, drr_error *err)
{
    char note[128];
    unit_counts counts;
    const drr_status status = j->source->count(j->source, &counts, err);
    if (status != DRR_OK)
        return status;
    meter->total = counts.total;
    note_traces(note, sizeof note, j);
    if (last)
        progress_end(meter, counts.done, note);
    else
        progress_update(meter, counts.done, note);
    return DRR_OK;
}

/* One round: something that has ended is waited for and kept. *more false when there is nothing more to do. */
static drr_status step(job *j, bool *more, drr_error *err)
{
    drr_status status = fill(j, err);
    if (status != DRR_OK)
        return status;
    const bool asked = reasoner_pending(j->reasoner) > 0;
    const bool checking = j->options->checker && checker_pending(j->options->checker) > 0;
    if (!asked && !checking) {
        status = j->source->flush(j->source, j->n_traces, j->n_tokens + j->n_step_tokens, err);
        return status == DRR_OK ? j->source->wait(j->source, more, err) : status;
    }
    if (asked)
        status = take_completions(j, err);
    if (status == DRR_OK && j->options->checker)
        status = take_checks(j, asked ? 0 : 200, err);
    return status == DRR_OK ? keep_fresh(j, err) : status;
}

static drr_status run(job *j, drr_error *err)
{
    unit_counts counts;
    progress_meter meter;
    bool more = true;
    drr_status status = j->source->count(j->source, &counts, err);
    if (status != DRR_OK)
        return status;
    progress_begin(&meter, j->hooks, "distill", "samples", counts.done, counts.total);
    while (status == DRR_OK && more) {
        if (hooks_cancelled(j->hooks))
            return error_set(err, DRR_E_INTERRUPTED,
                             "interrupted after %llu new traces; the same command goes on from here",
                             (unsigned long long)j->n_traces);
        status = step(j, &more, err);
        if (status == DRR_OK)
            status = report(j, &meter, !more, err);
    }
    if (status != DRR_OK)
        return status;
    if (j->n_unlabelled)
        hooks_log(j->hooks, DRR_LOG_WARN, "%llu of %llu new traces have no label: kept, but not trained on",
                  (unsigned long long)j->n_unlabelled, (unsigned long long)j->n_traces);
    if (!j->n_failed)
        return DRR_OK;
    if (!j->options->skip_failed)
        return error_set(err, DRR_E_BACKEND,
                         "%llu of %llu samples failed and are not whole in the store, the first: %s",
                         (unsigned long long)j->n_failed, (unsigned long long)meter.total, j->first_failure);
    hooks_log(j->hooks, DRR_LOG_WARN, "%llu samples failed and are not whole in the store; run again to retry them",
              (unsigned long long)j->n_failed);
    return DRR_OK;
}

drr_status distill_run(drr_store *store, drr_reasoner *reasoner, const drr_prompts *prompts,
                       const drr_distill_options *options, const drr_hooks *hooks, unit_source *source, drr_error *err)
{
    job j = {.store = store,
             .reasoner = reasoner,
             .prompts = prompts,
             .options = options,
             .hooks = hooks,
             .source = source,
             .n_places = 2 * (size_t)reasoner_width(reasoner) + MOST_TOGETHER};
    j.units = calloc(j.n_places, sizeof *j.units);
    drr_status status = j.units ? run(&j, err) : error_memory(err);
    if (status != DRR_OK)
        reasoner_cancel(reasoner);
    if (status != DRR_OK && options->checker)
        checker_cancel(options->checker);
    for (size_t i = 0; j.units && i < j.n_places; i++)
        if (j.units[i].used)
            unit_free(&j, &j.units[i]);
    free(j.units);
    return status;
}
