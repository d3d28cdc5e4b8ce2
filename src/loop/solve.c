/* solve.c: drr_solve: many questions at once through one reasoner. It keeps the reasoner busy, turns completions into
 * turns of the right question, and lets the strategy say what comes next; ask.c asks. A question that fails (it does
 * not fit the context, its model gave up) is a result of its own and never ends the others. */
#include "critic/critic.h"
#include "loop/fits.h"
#include "loop/loop_internal.h"
#include "loop/weigh.h"

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

/* ---- completions */

/* The tokens of the whole text, ends counted in it: those that were kept, and those of the completion. */
static drr_status all_tokens(reasoner_token **tokens, uint32_t *n, const loop_request *r, const reasoner_completion *c,
                             drr_error *err)
{
    const uint32_t shift = r->kept ? (uint32_t)strlen(r->kept) : 0;
    const uint32_t more = c->tokens ? c->n_token_stats : 0;
    *n = r->n_kept_tokens + more;
    *tokens = malloc((*n + 1) * sizeof **tokens);
    if (!*tokens)
        return error_memory(err);
    for (uint32_t i = 0; i < *n; i++) {
        (*tokens)[i] = i < r->n_kept_tokens ? r->kept_tokens[i] : c->tokens[i - r->n_kept_tokens];
        (*tokens)[i].end += i < r->n_kept_tokens ? 0 : shift;
    }
    return DRR_OK;
}

static drr_status fill_stats(drr_turn *t, const reasoner_token *from, uint32_t n, size_t begin, size_t end,
                             drr_error *err)
{
    trace_token *tokens = malloc((n + 1) * sizeof *tokens);
    float *logprobs = malloc((n + 1) * sizeof *logprobs);
    for (uint32_t i = 0; tokens && logprobs && i < n; i++) {
        tokens[i] = (trace_token){from[i].end, from[i].logprob, from[i].entropy, from[i].margin};
        logprobs[i] = from[i].logprob;
    }
    drr_status status = tokens && logprobs ? DRR_OK : error_memory(err);
    if (status == DRR_OK && n) {
        trace_token_stats(&t->stats, tokens, n, begin, end);
        t->confidence = weigh_lowest_group(logprobs, n);
    }
    free(tokens);
    free(logprobs);
    return status;
}

static drr_status fill_turn(drr_turn *t, const loop_request *r, const reasoner_completion *c,
                            const reasoner_token *tokens, uint32_t n, drr_error *err)
{
    const drr_task *task = r->s->task;
    size_t begin = 0, end = 0;
    buffer text = {0};
    trace_token_stats_unknown(&t->stats);
    drr_status status = buffer_puts(&text, r->kept ? r->kept : "", err);
    if (status == DRR_OK)
        status = buffer_puts(&text, c->text ? c->text : "", err);
    t->text = buffer_take(&text);
    if (status == DRR_OK && drr_turn_answers(t))
        status = drr_answer_extract(&t->answer, &begin, &end, task, t->text, err);
    if (status == DRR_OK && drr_turn_answers(t))
        t->correct = task_answer_correct(task, t->answer);
    return status == DRR_OK ? fill_stats(t, tokens, n, begin, end, err) : status;
}

/* Appends the turn of a completion to its question's ledger. */
static drr_status add_turn(loop_request *request, const reasoner_completion *c, const reasoner_token *tokens,
                           uint32_t n, drr_error *err)
{
    drr_result *r = request->s->result;
    drr_turn *turns = realloc(r->turns, (r->n_turns + 1) * sizeof *turns);
    if (!turns)
        return error_memory(err);
    r->turns = turns;
    drr_turn *t = &turns[r->n_turns++];
    const bool cut = c->finish == DRR_FINISH_CUT;
    *t = (drr_turn){.role = cut ? role_cut : request->role,
                    .feedback = request->role == role_judge ? NULL : string_copy(request->feedback),
                    .sample = request->sample,
                    .turn = request->turn,
                    .logit = NAN,
                    .probe = NAN,
                    .p_correct = cut ? request->p_bad : NAN,
                    .p_alone = NAN,
                    .confidence = NAN,
                    .verdict = cut ? DRR_VERDICT_REJECT : DRR_VERDICT_NONE,
                    .correct = -1,
                    .finish = c->finish,
                    .n_prompt_tokens = c->n_prompt_tokens,
                    .n_tokens = c->n_tokens,
                    .seconds = c->seconds,
                    .cuts = request->cuts,
                    .kept = request->kept ? (uint32_t)strlen(request->kept) : 0,
                    .n_kept_tokens = request->n_kept_tokens};
    r->n_tokens += c->n_tokens;
    r->n_prompt_tokens += c->n_prompt_tokens;
    r->seconds += c->seconds;
    if (request->feedback && request->role != role_judge && !t->feedback)
        return error_memory(err);
    return fill_turn(t, request, c, tokens, n, err);
}

/* Pieces that were stopped early are no answers. */
static bool has_answers(const drr_result *r)
{
    for (size_t i = 0; i < r->n_turns; i++)
        if (drr_turn_answers(&r->turns[i]))
            return true;
    return false;
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
    if (has_answers(r)) {
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

/* The turn with this text; settling may have sorted the ledger since. */
static drr_turn *turn_of(const drr_result *r, const char *text)
{
    for (size_t i = 0; i < r->n_turns; i++)
        if (r->turns[i].text == text)
            return &r->turns[i];
    return NULL;
}

static drr_status go_on(loop *l, seeker *s, const char *text, drr_error *err)
{
    const size_t i = (size_t)(turn_of(s->result, text) - s->result->turns);
    loop_judge_turn(l, s, i);
    return strategy_advance(l, s, i, err);
}

/* The piece is in the ledger. What is thrown away is what lies behind the good part, also of what an earlier cut had
 * kept, and all of it where the reasoner begins again or nothing follows. */
static drr_status take_cut(loop *l, const loop_request *r, const char *text, const reasoner_token *tokens, uint32_t n,
                           uint32_t n_written, drr_error *err)
{
    seeker *s = r->s;
    const bool goes_on = loop_budget_left(l, s) && early_may_go_on(l, s);
    uint32_t n_good = 0;
    if (goes_on && reasoner_get_basis(l->reasoner)->prefixes)
        for (uint32_t i = 0; i < n; i++)
            n_good += tokens[i].end <= r->good;
    s->result->n_cuts++;
    s->result->n_cut_tokens += n_written + r->n_kept_tokens - n_good;
    if (goes_on)
        return loop_ask_rest(l, r, text, tokens, n, err);
    return go_on(l, s, text, err);
}

/* Strategies where the judge decides; others show its P where it costs nothing. */
static bool wants_word(const loop *l, const drr_turn *t)
{
    const drr_strategy strategy = l->policy->strategy;
    return l->judge && l->judge->class->asks_reasoner && drr_turn_answers(t) && t->answer &&
           (strategy == DRR_STRATEGY_DRR || strategy == DRR_STRATEGY_BEST_OF_N);
}

static drr_status take_word(loop *l, const loop_request *r, const drr_turn *word, const reasoner_token *tokens,
                            uint32_t n, drr_error *err)
{
    uint32_t *ends = malloc((n + 1) * sizeof *ends);
    float *logprobs = malloc((n + 1) * sizeof *logprobs);
    drr_turn *t = turn_of(r->s->result, r->judged);
    drr_status status = ends && logprobs ? DRR_OK : error_memory(err);
    for (uint32_t i = 0; status == DRR_OK && i < n; i++) {
        ends[i] = tokens[i].end;
        logprobs[i] = tokens[i].logprob;
    }
    if (status == DRR_OK) {
        t->logit = judge_logit(judge_word(word->text, ends, logprobs, n));
        status = go_on(l, r->s, r->judged, err);
    }
    free(ends);
    free(logprobs);
    return status;
}

static drr_status take_turn(loop *l, loop_request *request, reasoner_completion *c, drr_error *err)
{
    seeker *s = request->s;
    reasoner_token *tokens = NULL;
    uint32_t n = 0;
    const size_t i = s->result->n_turns;
    drr_status status = early_cut_ready(l, request, c, err);
    if (status == DRR_OK)
        status = all_tokens(&tokens, &n, request, c, err);
    if (status == DRR_OK)
        status = add_turn(request, c, tokens, n, err);
    if (status == DRR_OK && l->probes)
        s->result->turns[i].probe = drr_critic_probe(l->critic, c->hidden, c->hidden_size, &s->result->turns[i].stats);
    if (status == DRR_OK)
        status = loop_score_turn(l, s, i, err);
    if (status != DRR_OK) {
        free(tokens);
        return status;
    }
    const drr_turn *t = &s->result->turns[i];
    const char *text = t->text;
    if (t->role == role_cut)
        status = take_cut(l, request, text, tokens, n, c->n_tokens, err);
    else if (t->role == role_judge)
        status = take_word(l, request, t, tokens, n, err);
    else if (wants_word(l, t) && loop_budget_left(l, s)) /* without its word the answer is rejected */
        status = loop_ask_judge(l, s, i, err);
    else
        status = go_on(l, s, text, err);
    free(tokens);
    if (status == DRR_OK && l->on_turn)
        l->on_turn(l->user, s->result, turn_of(s->result, text));
    return status;
}

static drr_status take_completion(loop *l, reasoner_completion *c, drr_error *err)
{
    loop_request *request = l->requests[c->tag];
    seeker *s = request->s;
    drr_status status = DRR_OK;
    l->requests[c->tag] = NULL;
    s->in_flight--;
    if (l->watch_status != DRR_OK)
        status = l->watch_status;
    else if (c->finish == DRR_FINISH_FAILED || c->finish == DRR_FINISH_CANCELLED)
        status = take_failure(l, s, c, err);
    else
        status = take_turn(l, request, c, err);
    if (l->watch_status != DRR_OK && err)
        *err = l->watch_error;
    loop_request_free(request);
    if (status == DRR_OK && s->finished)
        finish(l, s);
    return status;
}

/* ---- all questions */

static drr_status begin(loop *l, seeker *s, const drr_task *task, drr_result *result, drr_error *err)
{
    *result = (drr_result){.task = task, .outcome = DRR_UNPARSED, .p_correct = NAN, .p_question = NAN, .correct = -1};
    s->task = task;
    s->result = result;
    drr_status status = task_question_text(&s->question, task, err);
    if (status == DRR_OK)
        status = loop_route(l, s, err);
    if (status == DRR_OK && !s->finished)
        status = strategy_begin(l, s, err);
    if (status == DRR_OK && s->finished) /* without a word of the reasoner */
        finish(l, s);
    return status;
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
        if (status == DRR_OK && l->n_finished == l->n)
            break; /* nobody was asked about the last ones */
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

static drr_status check(const loop *l, drr_error *err)
{
    const drr_policy *p = l->policy;
    const bool needs_judge = p->strategy == DRR_STRATEGY_DRR || p->strategy == DRR_STRATEGY_BEST_OF_N;
    if (p->strategy == DRR_STRATEGY_VOTE && !l->judge &&
        (p->votes == DRR_VOTES_CRITIC || p->votes == DRR_VOTES_POSTERIOR))
        return error_set(
            err, DRR_E_ARGUMENT,
            "votes that are weighed by \"%s\" need a critic: give one (--critic), another judge than the reasoner "
            "itself (--judge), or take --weigh-votes equal",
            drr_votes_name(p->votes));
    if (p->strategy == DRR_STRATEGY_VOTE && l->judge && l->judge->class->asks_reasoner &&
        (p->votes == DRR_VOTES_CRITIC || p->votes == DRR_VOTES_POSTERIOR))
        return error_set(err, DRR_E_ARGUMENT,
                         "votes that are weighed by \"%s\" need a critic, or a judge that scores every sample: %s is "
                         "asked in best-of-n and drr alone",
                         drr_votes_name(p->votes), l->judge->name);
    if (l->critic && drr_critic_reads_questions(l->critic))
        return error_set(err, DRR_E_MISMATCH,
                         "the critic judges questions alone and no answers: give it as --question-critic, and one that "
                         "was trained on answers beside it");
    if (p->question_critic && !drr_critic_reads_questions(p->question_critic))
        return error_set(err, DRR_E_MISMATCH,
                         "the question critic judges answers: train one of questions alone, drr train --question-only");
    const drr_status routes = loop_route_check(p, err);
    if (routes != DRR_OK)
        return routes;
    if (needs_judge && !l->judge)
        return error_set(err, DRR_E_ARGUMENT, "the strategy %s needs a critic", drr_strategy_name(p->strategy));
    if (p->strategy == DRR_STRATEGY_DRR && !l->judge->class->calibrated && isnan(p->threshold))
        return error_set(err, DRR_E_ARGUMENT,
                         "the judge %s has no threshold of its own, for what it says is no calibrated probability: say "
                         "with --threshold P from which P on an answer is accepted",
                         l->judge->name);
    if (needs_judge && l->judge->class->asks_reasoner && reasoner_get_basis(l->reasoner)->recording[0])
        return error_set(err, DRR_E_ARGUMENT,
                         "the judge self asks the reasoner about its answers, and %s has recorded ones alone",
                         drr_reasoner_id(l->reasoner));
    if (p->strategy == DRR_STRATEGY_DRR && p->feedback == DRR_FEEDBACK_STEP) {
        drr_status status = l->critic ? critic_check_steps(l->critic, err)
                                      : error_set(err, DRR_E_ARGUMENT,
                                                  "words that quote the suspicious step need a critic that scores "
                                                  "steps, and the judge is %s",
                                                  l->judge->name);
        if (status != DRR_OK)
            return status;
    }
    if (!p->turn_tokens || !p->max_turns)
        return error_set(err, DRR_E_ARGUMENT,
                         "%u turns of %u tokens leave no room for an answer: give at least 1 of each", p->max_turns,
                         p->turn_tokens);
    return DRR_OK;
}

/* Hidden states of another reasoner are refused, and where there are none the critic does without. */
static drr_status check_probe(loop *l, drr_error *err)
{
    drr_critic_info info;
    const char *id = drr_reasoner_id(l->reasoner);
    probe_fit fit;
    if (!l->critic)
        return DRR_OK;
    drr_critic_describe(l->critic, &info);
    drr_status status = probe_fits(&fit, &info, l->reasoner, err);
    if (status != DRR_OK)
        return status;
    if (fit == PROBE_OTHER_REASONER)
        return error_set(err, DRR_E_MISMATCH,
                         "the critic's probe was trained on hidden states of %s and means nothing for those of %s; "
                         "take that reasoner, or train a critic for this one",
                         info.probe_reasoner, id);
    if (fit == PROBE_OTHER_LAYER)
        return error_set(err, DRR_E_MISMATCH,
                         "the critic's probe reads layer %s, and %s was opened with %s: open it with layer %s (the "
                         "option hidden)",
                         info.probe_layer, id, drr_reasoner_hidden(l->reasoner), info.probe_layer);
    if (fit == PROBE_NO_STATES)
        hooks_log(l->hooks, DRR_LOG_WARN,
                  "the critic's probe reads hidden states of %s (layer %s), and %s gives none: it judges by %s, less "
                  "surely, and no guarantee of it holds",
                  info.probe_reasoner, info.probe_layer, id,
                  info.kind == DRR_CRITIC_PROBE ? "the other signs of a turn alone" : "the text and the rest alone");
    l->probes = fit == PROBE_FITS;
    return DRR_OK;
}

drr_status drr_solve(drr_result *results, drr_reasoner *reasoner, drr_critic *critic, const drr_prompts *prompts,
                     const drr_task *const *tasks, size_t n, const drr_policy *policy, drr_turn_fn on_turn, void *user,
                     const drr_hooks *hooks, drr_error *err)
{
    drr_judge given = judge_of_critic(critic, NULL);
    drr_judge *judge = policy->judge ? policy->judge : critic ? &given : NULL;
    drr_critic_info info;
    loop l = {.reasoner = reasoner,
              .judge = judge,
              .critic = judge ? judge->critic : NULL,
              .prompts = prompts,
              .policy = policy,
              .threshold = policy->threshold,
              .on_turn = on_turn,
              .user = user,
              .hooks = hooks,
              .n = n};
    if (l.critic) {
        drr_critic_describe(l.critic, &info);
        if (judge == &given)
            given.name = (char *)(uintptr_t)info.name; /* read alone */
    }
    drr_status status = check(&l, err);
    if (status == DRR_OK)
        status = early_check(&l, err);
    if (status != DRR_OK)
        return status;
    memset(results, 0, n * sizeof *results);
    if (l.critic && isnan(policy->threshold)) {
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
    else if (l.n_unweighed)
        hooks_log(hooks, DRR_LOG_WARN,
                  "%s tells no log-probabilities for %zu of %zu questions: their votes count equally, whatever their "
                  "confidence",
                  drr_reasoner_id(reasoner), l.n_unweighed, n);
    for (size_t i = 0; l.seekers && i < n; i++) {
        conversation_clear(&l.seekers[i].history);
        free(l.seekers[i].question);
    }
    for (size_t i = 0; i < l.n_requests; i++)
        loop_request_free(l.requests[i]);
    for (size_t i = 0; status != DRR_OK && i < n; i++)
        drr_result_clear(&results[i]);
    free(l.seekers);
    free(l.requests);
    return status;
}
