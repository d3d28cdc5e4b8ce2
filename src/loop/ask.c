/* ask.c: requests to the reasoner: fresh answers, follow-ups, what goes on from an answer that was cut, and the
 * question whether an answer is right. What comes back is solve.c's. */
#include "loop/loop_internal.h"

#include <stdlib.h>
#include <string.h>

bool loop_budget_left(const loop *l, const seeker *s)
{
    const drr_policy *p = l->policy;
    return (!p->max_tokens || s->result->n_tokens < p->max_tokens) &&
           !(p->max_seconds > 0 && loop_seconds_of(l, s, 0) >= p->max_seconds);
}

static bool answer_is_complete(void *user, const char *text, size_t length)
{
    const loop_request *r = user;
    return task_answer_complete(r->s->task, text, length);
}

static void answer_at(void *user, const char *text, size_t *begin, size_t *end)
{
    const loop_request *r = user;
    task_answer_place(r->s->task, text, begin, end);
}

void loop_request_free(loop_request *r)
{
    if (!r)
        return;
    free(r->feedback);
    free(r->kept);
    free(r->kept_tokens);
    free(r);
}

static drr_status take_slot(loop *l, size_t *slot, drr_error *err)
{
    for (*slot = 0; *slot < l->n_requests; ++*slot)
        if (!l->requests[*slot])
            return DRR_OK;
    const size_t n = l->n_requests ? 2 * l->n_requests : 64;
    loop_request **more = realloc(l->requests, n * sizeof *more);
    if (!more)
        return error_memory(err);
    memset(more + l->n_requests, 0, (n - l->n_requests) * sizeof *more);
    l->requests = more;
    l->n_requests = n;
    return DRR_OK;
}

/* Tokens that it may write: what the turn still has of its own, and the question of its budget. */
static uint32_t room_for(const loop *l, const seeker *s, const loop_request *r)
{
    enum { JUDGE_TOKENS = 4, LEAST = 8 };
    const drr_policy *p = l->policy;
    uint32_t room = r->role == role_judge ? JUDGE_TOKENS : p->turn_tokens;
    if (r->n_kept_tokens)
        room = room > r->n_kept_tokens + LEAST ? room - r->n_kept_tokens : LEAST;
    const uint64_t left = p->max_tokens > s->result->n_tokens ? p->max_tokens - s->result->n_tokens : 1;
    return p->max_tokens && left < room ? (uint32_t)left : room;
}

/* Samples differ from each other, and what is gone on with from what was cut; everything else is the reasoner's
 * likeliest word. */
static bool is_sampled(const drr_policy *p, const loop_request *r)
{
    if (r->role == role_judge)
        return false;
    return r->cuts || p->strategy == DRR_STRATEGY_VOTE || p->strategy == DRR_STRATEGY_BEST_OF_N ||
           (p->strategy == DRR_STRATEGY_DRR && (r->sample || r->turn));
}

/* What a recording is to answer with. What begins again after a cut is another sample, and must not be one that is
 * drawn anyway: it would agree with itself. All others know a request by its seed and its words. */
static uint32_t sample_number(const loop *l, const loop_request *r)
{
    const drr_policy *p = l->policy;
    if (!r->cuts || !reasoner_get_basis(l->reasoner)->recording[0])
        return r->sample + 1000 * r->turn + r->cuts;
    const uint32_t most = loop_draws_samples(l, r->s) ? p->samples : p->max_turns;
    return (most + (r->sample + r->turn) * p->early_cuts + r->cuts - 1) % 1000;
}

/* Takes request's kept parts: they are freed with it, also when this fails. */
static drr_status ask(loop *l, seeker *s, const conversation *c, const loop_request *request, const char *words,
                      drr_error *err)
{
    const drr_policy *p = l->policy;
    const bool answers = request->role != role_critique && request->role != role_judge;
    size_t slot = 0;
    loop_request *r = malloc(sizeof *r);
    if (!r) {
        free(request->kept);
        free(request->kept_tokens);
        return error_memory(err);
    }
    *r = *request;
    r->l = l;
    r->s = s;
    r->feedback = string_copy(words);
    drr_status status = words && !r->feedback ? error_memory(err) : take_slot(l, &slot, err);
    if (status != DRR_OK) {
        loop_request_free(r);
        return status;
    }
    const bool early = early_watches(l, r), sampled = is_sampled(p, r);
    const uint64_t seed = task_turn_seed(p->seed, s->task->id, r->sample, r->turn);
    const reasoner_request asked = {
        .tag = slot,
        .messages = c->messages,
        .n_messages = c->n,
        .prefix = r->kept,
        .max_tokens = room_for(l, s, r),
        .temperature = sampled                 ? p->temperature
                       : r->role == role_judge ? 0
                                               : p->first_temperature,
        .top_p = p->top_p,
        .seed = r->cuts ? hash_mix(seed, r->cuts) : seed,
        .grammar = p->grammar && answers ? prompts_grammar(l->prompts, s->task) : NULL,
        .complete = answers ? answer_is_complete : NULL,
        .complete_user = r,
        .watch = early || p->max_seconds > 0 ? early_watch : NULL,
        .watch_user = l,
        .cut_by = early ? l->cut_by : NULL,
        .answer_at = answers && l->probes ? answer_at : NULL,
        .question = s->question,
        .sample = sample_number(l, r),
    };
    l->requests[slot] = r;
    status = reasoner_submit(l->reasoner, &asked, err);
    if (status != DRR_OK) {
        l->requests[slot] = NULL;
        loop_request_free(r);
        return status;
    }
    s->in_flight++;
    return DRR_OK;
}

drr_status loop_ask_fresh(loop *l, seeker *s, uint32_t sample, drr_error *err)
{
    const loop_request request = {.role = role_attempt, .sample = sample};
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
    while (last > s->result->turns && (last->role == role_judge || last->role == role_cut))
        last--;
    const loop_request request = {.role = role, .sample = last->sample, .turn = last->turn + 1};
    drr_status status = s->history.n ? DRR_OK : prompts_ask(&s->history, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = conversation_add(&s->history, "assistant", last->text, err);
    if (status == DRR_OK)
        status = conversation_add(&s->history, "user", words, err);
    if (status == DRR_OK)
        status = ask(l, s, &s->history, &request, words, err);
    return status;
}

drr_status loop_ask_judge(loop *l, seeker *s, size_t i, drr_error *err)
{
    const drr_turn *t = &s->result->turns[i];
    const loop_request request = {
        .role = role_judge, .sample = t->sample, .turn = t->turn, .cuts = t->cuts, .judged = t->text};
    conversation c = {0};
    char *words = NULL;
    drr_status status = prompts_ask(&c, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = conversation_add(&c, "assistant", t->text, err);
    if (status == DRR_OK)
        status = prompts_judge(&words, l->prompts, s->task, err);
    if (status == DRR_OK)
        status = conversation_add(&c, "user", words, err);
    if (status == DRR_OK)
        status = ask(l, s, &c, &request, words, err);
    free(words);
    conversation_clear(&c);
    return status;
}

/* The good part is kept where the reasoner can go on from there; the tokens that lie in it count for the answer. */
static drr_status keep_good(loop_request *next, const loop *l, const loop_request *r, const char *text,
                            const reasoner_token *tokens, uint32_t n, drr_error *err)
{
    if (r->good == 0 || !reasoner_get_basis(l->reasoner)->prefixes)
        return DRR_OK;
    next->kept = string_copy_n(text, r->good);
    next->kept_tokens = malloc((n + 1) * sizeof *next->kept_tokens);
    if (!next->kept || !next->kept_tokens) {
        free(next->kept);
        free(next->kept_tokens);
        return error_memory(err);
    }
    for (; next->n_kept_tokens < n && tokens[next->n_kept_tokens].end <= r->good; next->n_kept_tokens++)
        next->kept_tokens[next->n_kept_tokens] = tokens[next->n_kept_tokens];
    next->n_looked_at = r->good;
    return DRR_OK;
}

drr_status loop_ask_rest(loop *l, const loop_request *r, const char *text, const reasoner_token *tokens, uint32_t n,
                         drr_error *err)
{
    seeker *s = r->s;
    loop_request next = {.role = r->role, .sample = r->sample, .turn = r->turn, .cuts = r->cuts + 1};
    conversation c = {0};
    drr_status status = keep_good(&next, l, r, text, tokens, n, err);
    if (status != DRR_OK)
        return status;
    const bool talks = r->turn && s->history.n; /* a turn that follows words goes on with the same conversation */
    if (!talks)
        status = prompts_ask(&c, l->prompts, s->task, err);
    if (status != DRR_OK) {
        free(next.kept);
        free(next.kept_tokens);
    } else {
        status = ask(l, s, talks ? &s->history : &c, &next, r->feedback, err);
    }
    conversation_clear(&c);
    return status;
}
