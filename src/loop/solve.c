/* solve.c: drr_solve: many questions at once through one reasoner. It keeps the reasoner busy, turns completions into
 * turns of the right question, and lets the strategy say what comes next. A question that fails (it does not fit the
 * context, its model gave up) is a result of its own and never ends the others. */
#include "loop/loop_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void drr_result_clear(drr_result *result)
{
    if (!result)
        return;
    for (size_t i = 0; i < result->n_turns; i++) {
        free(result->turns[i].text);
        free(result->turns[i].answer);
        free(result->turns[i].feedback);
    }
    free(result->turns);
    free(result->answer);
    free(result->failure);
    *result = (drr_result){0};
}

bool drr_result_accepted(const drr_result *result)
{
    bool accepted = false;
    for (size_t i = 0; i < result->n_turns; i++)
        accepted = accepted || result->turns[i].verdict == DRR_VERDICT_ACCEPT;
    return accepted && result->outcome == DRR_ANSWERED && !result->escalated;
}

bool loop_budget_left(const loop *l, const seeker *s)
{
    return !l->policy->max_tokens || s->result->n_tokens < l->policy->max_tokens;
}

/* ---- asking */

static bool answer_is_complete(void *user, const char *text, size_t length)
{
    const seeker *s = user;
    return task_answer_complete(s->task, text, length);
}

static void answer_at(void *user, const char *text, size_t *begin, size_t *end)
{
    const seeker *s = user;
    task_answer_place(s->task, text, begin, end);
}

static drr_status take_slot(loop *l, size_t *slot, drr_error *err)
{
    for (*slot = 0; *slot < l->n_requests; ++*slot)
        if (!l->requests[*slot].used)
            return DRR_OK;
    const size_t n = l->n_requests ? 2 * l->n_requests : 64;
    loop_request *more = realloc(l->requests, n * sizeof *more);
    if (!more)
        return error_memory(err);
    memset(more + l->n_requests, 0, (n - l->n_requests) * sizeof *more);
    l->requests = more;
    l->n_requests = n;
    return DRR_OK;
}

static drr_status ask(loop *l, seeker *s, const conversation *c, const loop_request *request, const char *words,
                      drr_error *err)
{
    const drr_policy *p = l->policy;
    const bool critique = request->role == role_critique;
    /* Samples differ from each other; everything else is the reasoner's likeliest word. */
    const bool sampled = p->strategy == DRR_STRATEGY_VOTE || p->strategy == DRR_STRATEGY_BEST_OF_N ||
                         (p->strategy == DRR_STRATEGY_DRR && (request->sample || request->turn));
    const uint64_t left = p->max_tokens > s->result->n_tokens ? p->max_tokens - s->result->n_tokens : 1;
    size_t slot;
    drr_status status = take_slot(l, &slot, err);
    if (status != DRR_OK)
        return status;
    loop_request *r = &l->requests[slot];
    *r = *request;
    r->feedback = string_copy(words);
    if (words && !r->feedback)
        return error_memory(err);
    const reasoner_request asked = {
        .tag = slot,
        .messages = c->messages,
        .n_messages = c->n,
        .max_tokens = p->max_tokens && left < p->turn_tokens ? (uint32_t)left : p->turn_tokens,
        .temperature = sampled ? p->temperature : p->first_temperature,
        .top_p = p->top_p,
        .seed = task_turn_seed(p->seed, s->task->id, r->sample, r->turn),
        .grammar = p->grammar && !critique ? prompts_grammar(l->prompts, s->task) : NULL,
        .complete = critique ? NULL : answer_is_complete,
        .complete_user = s,
        .answer_at = critique || !l->probes ? NULL : answer_at,
        .question = s->question,
        .sample = r->sample + 1000 * r->turn,
    };
    status = reasoner_submit(l->reasoner, &asked, err);
    if (status != DRR_OK) {
        free(r->feedback);
        r->feedback = NULL;
        return status;
    }
    r->used = true;
    s->in_flight++;
    return DRR_OK;
}

drr_status loop_ask_fresh(loop *l, seeker *s, uint32_t sample, drr_error *err)
{
    const loop_request request = {.s = s, .role = role_attempt, .sample = sample};
    conversation c = {0};
    drr_status status = prompts_ask(&c, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = ask(l, s, &c, &request, NULL, err);
    if (status == DRR_OK)
        s->n_asked = sample + 1;
    conversation_clear(&c);
    return status;
}

drr_status loop_ask_follow_up(loop *l, seeker *s, const char *role, const char *words, drr_error *err)
{
    const drr_turn *last = &s->result->turns[s->result->n_turns - 1];
    const loop_request request = {.s = s, .role = role, .sample = last->sample, .turn = last->turn + 1};
    drr_status status = s->history.n ? DRR_OK : prompts_ask(&s->history, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = conversation_add(&s->history, "assistant", last->text, err);
    if (status == DRR_OK)
        status = conversation_add(&s->history, "user", words, err);
    if (status == DRR_OK)
        status = ask(l, s, &s->history, &request, words, err);
    return status;
}

/* ---- completions */

static drr_status fill_turn(drr_turn *t, const seeker *s, reasoner_completion *c, drr_error *err)
{
    size_t begin = 0, end = 0;
    drr_status status = DRR_OK;
    trace_token_stats_unknown(&t->stats);
    if (loop_turn_answers(t))
        status = drr_answer_extract(&t->answer, &begin, &end, s->task, c->text ? c->text : "", err);
    if (status != DRR_OK)
        return status;
    if (loop_turn_answers(t))
        t->correct = task_answer_correct(s->task, t->answer);
    if (c->tokens && c->n_token_stats) {
        trace_token *tokens = malloc(c->n_token_stats * sizeof *tokens);
        if (!tokens)
            return error_memory(err);
        for (uint32_t i = 0; i < c->n_token_stats; i++)
            tokens[i] =
                (trace_token){c->tokens[i].end, c->tokens[i].logprob, c->tokens[i].entropy, c->tokens[i].margin};
        trace_token_stats(&t->stats, tokens, c->n_token_stats, begin, end);
        free(tokens);
    }
    t->text = c->text ? c->text : string_copy("");
    c->text = NULL;
    return t->text ? DRR_OK : error_memory(err);
}

/* Appends the turn of a completion to its question's ledger. */
static drr_status add_turn(loop_request *request, reasoner_completion *c, drr_error *err)
{
    drr_result *r = request->s->result;
    drr_turn *turns = realloc(r->turns, (r->n_turns + 1) * sizeof *turns);
    if (!turns)
        return error_memory(err);
    r->turns = turns;
    drr_turn *t = &turns[r->n_turns++];
    *t = (drr_turn){.role = request->role,
                    .feedback = request->feedback,
                    .sample = request->sample,
                    .turn = request->turn,
                    .logit = NAN,
                    .probe = NAN,
                    .p_correct = NAN,
                    .p_alone = NAN,
                    .correct = -1,
                    .finish = c->finish,
                    .n_prompt_tokens = c->n_prompt_tokens,
                    .n_tokens = c->n_tokens,
                    .seconds = c->seconds};
    request->feedback = NULL;
    r->n_tokens += c->n_tokens;
    r->n_prompt_tokens += c->n_prompt_tokens;
    r->seconds += c->seconds;
    return fill_turn(t, request->s, c, err);
}

/* One of a question's requests came to nothing: what there is already must do. */
static drr_status take_failure(loop *l, seeker *s, const reasoner_completion *c, drr_error *err)
{
    drr_result *r = s->result;
    if (!r->failure)
        r->failure = string_copy(c->failure ? c->failure : drr_finish_name(c->finish));
    drr_status status = strategy_ask_samples(l, s, err);
    if (status != DRR_OK || s->in_flight)
        return status;
    if (r->n_turns) {
        strategy_end(l, s);
        return DRR_OK;
    }
    r->outcome = DRR_FAILED;
    hooks_log(l->hooks, DRR_LOG_WARN, "question %s of %s failed: %s", s->task->id, s->task->task,
              r->failure ? r->failure : "no reason given");
    if (s->task->answer[0])
        r->correct = 0;
    s->finished = true;
    return DRR_OK;
}

static void finish(loop *l, seeker *s)
{
    l->n_finished++;
    conversation_clear(&s->history);
    free(s->question);
    s->question = NULL;
    if (l->on_turn)
        l->on_turn(l->user, s->result, NULL);
}

/* The turn that a request became; settling may have sorted the ledger since. */
static const drr_turn *turn_of(const drr_result *r, const loop_request *request)
{
    for (size_t i = 0; i < r->n_turns; i++)
        if (r->turns[i].sample == request->sample && r->turns[i].turn == request->turn)
            return &r->turns[i];
    return NULL;
}

static drr_status take_turn(loop *l, loop_request *request, reasoner_completion *c, drr_error *err)
{
    seeker *s = request->s;
    const size_t i = s->result->n_turns;
    drr_status status = add_turn(request, c, err);
    if (status == DRR_OK && l->probes)
        s->result->turns[i].probe = drr_critic_probe(l->critic, c->hidden, c->hidden_size, &s->result->turns[i].stats);
    if (status == DRR_OK)
        status = loop_score_turn(l, s, i, err);
    if (status != DRR_OK)
        return status;
    loop_judge_turn(l, s, i);
    status = strategy_advance(l, s, i, err);
    if (status == DRR_OK && l->on_turn)
        l->on_turn(l->user, s->result, turn_of(s->result, request));
    return status;
}

static drr_status take_completion(loop *l, reasoner_completion *c, drr_error *err)
{
    /* A copy: what follows may ask for more, and more may move the table. */
    loop_request request = l->requests[c->tag];
    seeker *s = request.s;
    drr_status status = DRR_OK;
    l->requests[c->tag] = (loop_request){0};
    s->in_flight--;
    if (c->finish == DRR_FINISH_FAILED || c->finish == DRR_FINISH_CANCELLED)
        status = take_failure(l, s, c, err);
    else
        status = take_turn(l, &request, c, err);
    free(request.feedback);
    if (status == DRR_OK && s->finished)
        finish(l, s);
    return status;
}

/* ---- all questions */

static drr_status begin(loop *l, seeker *s, const drr_task *task, drr_result *result, drr_error *err)
{
    *result = (drr_result){.task = task, .outcome = DRR_UNPARSED, .p_correct = NAN, .correct = -1};
    s->task = task;
    s->result = result;
    drr_status status = task_question_text(&s->question, task, err);
    return status == DRR_OK ? strategy_begin(l, s, err) : status;
}

/* Begins questions until twice the reasoner's width is asked for: it then always has something to admit. */
static drr_status run(loop *l, drr_result *results, const drr_task *const *tasks, drr_error *err)
{
    progress_meter meter;
    size_t next = 0;
    const size_t wanted = 2 * (size_t)reasoner_width(l->reasoner);
    drr_status status = DRR_OK;
    progress_begin(&meter, l->hooks, drr_strategy_name(l->policy->strategy), "questions", 0, l->n);
    while (status == DRR_OK && l->n_finished < l->n) {
        if (hooks_cancelled(l->hooks))
            return error_set(err, DRR_E_INTERRUPTED, "interrupted after %zu of %zu questions", l->n_finished, l->n);
        for (; status == DRR_OK && next < l->n && reasoner_pending(l->reasoner) < wanted; next++)
            status = begin(l, &l->seekers[next], tasks[next], &results[next], err);
        reasoner_completion c = {0};
        if (status == DRR_OK)
            status = reasoner_next(l->reasoner, &c, err);
        if (status == DRR_OK)
            status = take_completion(l, &c, err);
        reasoner_completion_clear(&c);
        progress_update(&meter, l->n_finished, NULL);
    }
    if (status == DRR_OK)
        progress_end(&meter, l->n_finished, NULL);
    return status;
}

static drr_status check(const drr_policy *p, drr_critic *critic, drr_error *err)
{
    const bool needs_critic = p->strategy == DRR_STRATEGY_DRR || p->strategy == DRR_STRATEGY_BEST_OF_N;
    if (needs_critic && !critic)
        return error_set(err, DRR_E_ARGUMENT, "the strategy %s needs a critic", drr_strategy_name(p->strategy));
    if (!p->turn_tokens || !p->max_turns)
        return error_set(err, DRR_E_ARGUMENT,
                         "%u turns of %u tokens leave no room for an answer: give at least 1 of each", p->max_turns,
                         p->turn_tokens);
    return DRR_OK;
}

/* A probe knows the hidden states of one reasoner behind one layer: those of others are refused, and where there are
 * none the critic does without. */
static drr_status check_probe(loop *l, drr_error *err)
{
    drr_critic_info info;
    const char *id = drr_reasoner_id(l->reasoner);
    const hidden_layers *given = &reasoner_get_basis(l->reasoner)->hidden;
    hidden_layers read = {0};
    if (!l->critic)
        return DRR_OK;
    drr_critic_describe(l->critic, &info);
    if (!*info.probe_reasoner)
        return DRR_OK;
    drr_status status = hidden_layers_parse(&read, info.probe_layer, err);
    if (status != DRR_OK)
        return status;
    if (given->n == 0) {
        hooks_log(l->hooks, DRR_LOG_WARN,
                  "the critic's probe reads hidden states of %s (layer %s), and %s gives none: it judges by %s, less "
                  "surely, and no guarantee of it holds",
                  info.probe_reasoner, info.probe_layer, id,
                  info.kind == DRR_CRITIC_PROBE ? "the other signs of a turn alone" : "the text and the rest alone");
        return DRR_OK;
    }
    const size_t n = strlen(info.probe_reasoner);
    if (strncmp(id, info.probe_reasoner, n) != 0 || (id[n] && strcmp(id + n, "@replay") != 0))
        return error_set(err, DRR_E_MISMATCH,
                         "the critic's probe was trained on hidden states of %s and means nothing for those of %s; "
                         "take that reasoner, or train a critic for this one",
                         info.probe_reasoner, id);
    if (!hidden_layers_have(given, read.layer[0]))
        return error_set(err, DRR_E_MISMATCH,
                         "the critic's probe reads layer %s, and %s was opened with %s: open it with layer %s (the "
                         "option hidden)",
                         info.probe_layer, id, drr_reasoner_hidden(l->reasoner), info.probe_layer);
    l->probes = true;
    return DRR_OK;
}

drr_status drr_solve(drr_result *results, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                     const drr_task *const *tasks, size_t n, const drr_policy *policy, drr_turn_fn on_turn, void *user,
                     const drr_hooks *hooks, drr_error *err)
{
    loop l = {.reasoner = reasoner,
              .critic = critic,
              .prompts = prompts,
              .policy = policy,
              .threshold = policy->threshold,
              .on_turn = on_turn,
              .user = user,
              .hooks = hooks,
              .n = n};
    drr_status status = check(policy, critic, err);
    if (status != DRR_OK)
        return status;
    memset(results, 0, n * sizeof *results);
    if (critic && isnan(policy->threshold)) {
        drr_critic_info info;
        drr_critic_describe(critic, &info);
        const drr_guarantee *g = drr_critic_guarantee(&info, policy);
        l.threshold = g ? g->threshold : info.threshold;
    }
    status = check_probe(&l, err);
    if (status != DRR_OK)
        return status;
    l.seekers = calloc(n + 1, sizeof *l.seekers);
    status = l.seekers ? run(&l, results, tasks, err) : error_memory(err);
    if (status != DRR_OK)
        reasoner_cancel(reasoner);
    for (size_t i = 0; l.seekers && i < n; i++) {
        conversation_clear(&l.seekers[i].history);
        free(l.seekers[i].question);
    }
    for (size_t i = 0; i < l.n_requests; i++)
        free(l.requests[i].feedback);
    for (size_t i = 0; status != DRR_OK && i < n; i++)
        drr_result_clear(&results[i]);
    free(l.seekers);
    free(l.requests);
    return status;
}
