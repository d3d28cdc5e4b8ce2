/* engine_loop.c: the loop over one request: an attempt, its verdict, then another one or the end. Without a critic all
 * attempts are made at once and judge each other: P(correct) is the share of those that say the same. What the client
 * gets is written by engine_reply.c. */
#include "reasoner/remote_think.h"
#include "serve/engine_internal.h"
#include "trace/trace.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void decide(request *r, attempt *a);
static void settle_what_there_is(request *r, const char *ended_by);
static void on_done(void *user, upstream_reply *reply);

const char *attempt_text(const attempt *a)
{
    return a->said ? a->said : a->reply.text ? a->reply.text : "";
}

/* Rejections are told, and the conversation goes on. */
static bool talks(const request *r)
{
    return r->policy.feedback != DRR_FEEDBACK_RESTART;
}

/* ---- asking */

static bool is_streamed(const request *r, const attempt *a)
{
    return r->stream && (r->direct || (r->policy.live && (r->e->options.critic || a->number == 0)));
}

/* Attempts after the first must differ from it: where the client wants the likeliest words, they are drawn like ours.
 */
static bool vary(const request *r, const attempt *a, json_t *body)
{
    const json_t *seed = json_object_get(body, "seed");
    bool good = true;
    if (isfinite(r->temperature)) /* a promise is about answers drawn at this one */
        good = json_object_set_new(body, "temperature", json_real(r->temperature)) == 0;
    if (a->number == 0)
        return good;
    const double temperature = json_number_or(body, "temperature", NAN);
    if (temperature < 0.05 && !isfinite(r->temperature))
        good = json_object_set_new(body, "temperature", json_real(0.7)) == 0;
    if (good && json_is_integer(seed))
        good = json_object_set_new(body, "seed", json_integer(json_integer_value(seed) + a->number)) == 0;
    return good;
}

/* In shadow mode the answer goes out as it is: what bounds the loop does not bound it. */
static bool is_bounded(const request *r)
{
    return r->policy.max_tokens && !r->unjudged && !r->policy.shadow;
}

/* Not more tokens than the request has left; samples that are asked at once share them. */
static bool limit_tokens(const request *r, json_t *body)
{
    if (!is_bounded(r))
        return true;
    const uint32_t at_once = r->e->options.critic ? 1 : r->most;
    const uint64_t all = r->policy.max_tokens > r->n_written ? r->policy.max_tokens - r->n_written : 1;
    const uint64_t left = all > at_once ? all / at_once : 1;
    /* Which of them a server heeds is its affair; llama-server takes its own n_predict before either, and -1 of any for
     * no bound. What is no number bounds nothing. */
    static const char *const names[] = {"max_completion_tokens", "max_tokens", "n_predict"};
    const bool told =
        json_is_number(json_object_get(body, names[0])) || json_is_number(json_object_get(body, names[1]));
    bool good = true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const double own = json_number_or(body, names[i], NAN);
        const bool wanted = isnan(own) ? i == 0 && !told : own < 0 || own > (double)left;
        good = good && (!wanted || json_object_set_new(body, names[i], json_integer((json_int_t)left)) == 0);
    }
    return good;
}

/* NULL: the client's own bytes will do. *good: whether memory has sufficed. */
static json_t *attempt_body(const request *r, const attempt *a, bool *good)
{
    const bool streamed = is_streamed(r, a);
    *good = true;
    if (r->as_is && !r->stream && a->number == 0 && !isfinite(r->temperature) && !is_bounded(r))
        return NULL;
    json_t *body = json_copy(r->body);
    *good = body != NULL;
    if (*good && r->stream) {
        json_object_del(body, "stream_options");
        *good = json_object_set_new(body, "stream", json_boolean(streamed)) == 0;
        if (*good && streamed)
            *good = json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1)) == 0;
    }
    if (*good && r->history)
        *good = json_object_set(body, "messages", r->history) == 0;
    *good = *good && vary(r, a, body) && limit_tokens(r, body);
    return body;
}

static drr_status attempt_begin(request *r, char *feedback, drr_error *err)
{
    attempt *a = &r->attempts[r->n_attempts];
    bool good;
    size_t size;
    a->r = r;
    a->number = r->n_attempts;
    a->feedback = feedback;
    a->p_correct = NAN;
    trace_token_stats_unknown(&a->stats);
    json_t *body = attempt_body(r, a, &good);
    const char *bytes = http_body(r->call, &size);
    const upstream_ask ask = {.body = body ? body : r->body,
                              .bytes = body ? NULL : bytes,
                              .size = size,
                              .piece = is_streamed(r, a) ? stream_piece : NULL,
                              .done = on_done,
                              .user = a,
                              .question = r->question.text,
                              .id = http_id(r->call),
                              .authorization = request_key(r, "authorization"),
                              .task = r->unjudged || !r->e->options.critic ? NULL : &r->question.task,
                              .sample = talks(r) ? 1000 * a->number : a->number,
                              .seed = rng_next(&r->e->random)};
    drr_status status = good ? upstream_begin(&a->call, r->e->up, &ask, err) : error_memory(err);
    json_decref(body);
    r->n_attempts++;
    r->n_running += status == DRR_OK;
    return status;
}

void chat_begin(request *r)
{
    drr_error err = {0};
    if (r->unnamed && models_learn_for(r))
        return;
    r->direct = r->stream && (r->unjudged || r->policy.shadow);
    if (r->direct && r->unjudged && !upstream_is_embedded(r->e->up)) {
        chat_pass(r);
        return;
    }
    const uint32_t at_once = r->e->options.critic ? 1 : r->most;
    for (uint32_t i = 0; i < at_once; i++)
        if (attempt_begin(r, NULL, &err) != DRR_OK) {
            reply_error(r, 503, NULL, "%s", err.message);
            return;
        }
}

/* ---- reading */

/* Some servers leave a model's thoughts in its answer. */
static bool set_thoughts_apart(attempt *a)
{
    think_splitter s = {0};
    if (!strstr(a->reply.text, "</think>") && !strstr(a->reply.text, "<think>"))
        return true;
    bool good = think_feed(&s, a->reply.text, strlen(a->reply.text), NULL) == DRR_OK && think_end(&s, NULL) == DRR_OK &&
                buffer_append(&s.answer, "", 0, NULL) == DRR_OK;
    if (good)
        a->said = buffer_take(&s.answer);
    think_clear(&s);
    a->reply.n_tokens = 0; /* their places are those of the whole */
    return good;
}

/* Before its answer was there: the last number of a rationale that was cut is what three samples may well agree on, and
 * with no critic that alone would do to accept it. */
static bool broke_off(const request *r, const attempt *a)
{
    const char *text = attempt_text(a);
    return strcmp(a->reply.finish, "length") == 0 && !task_answer_complete(&r->question.task, text, strlen(text));
}

static drr_status read_answer(request *r, attempt *a, drr_error *err)
{
    size_t begin = 0, end = 0;
    if (!set_thoughts_apart(a))
        return error_memory(err);
    drr_status status = drr_answer_extract(&a->answer, &begin, &end, &r->question.task, attempt_text(a), err);
    if (status == DRR_OK && !r->e->options.critic && broke_off(r, a)) {
        free(a->answer);
        a->answer = NULL;
    }
    if (status != DRR_OK || !a->reply.n_tokens)
        return status;
    trace_token *tokens = malloc(a->reply.n_tokens * sizeof *tokens);
    if (!tokens)
        return error_memory(err);
    for (uint32_t i = 0; i < a->reply.n_tokens; i++)
        tokens[i] = (trace_token){a->reply.tokens[i].end, a->reply.tokens[i].logprob, a->reply.tokens[i].entropy,
                                  a->reply.tokens[i].margin};
    trace_token_stats(&a->stats, tokens, a->reply.n_tokens, begin, end);
    free(tokens);
    return DRR_OK;
}

/* The same but for case, white space and a stop at the end. */
static bool alike(const char *a, const char *b)
{
    for (;;) {
        while (isspace((unsigned char)*a) || *a == '.')
            a++;
        while (isspace((unsigned char)*b) || *b == '.')
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (!*a)
            return true;
        a++;
        b++;
    }
}

/* An answer that could not be read is, where its kind was only guessed, the whole text. */
static bool agree(const request *r, const attempt *a, const attempt *b)
{
    if (a->answer && b->answer)
        return drr_answer_equal(r->question.task.kind, a->answer, b->answer);
    return !a->answer && !b->answer && !r->question.told && alike(attempt_text(a), attempt_text(b));
}

static void count_others(const request *r, attempt *a)
{
    a->item.n_others = a->item.n_agree = 0;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        const attempt *other = &r->attempts[i];
        if (other == a || !other->good)
            continue;
        a->item.n_others++;
        a->item.n_agree += agree(r, a, other);
    }
}

/* What is not counted is reckoned, or --max-tokens would bound nothing; metrics are of what was counted. */
static void count_tokens(request *r, upstream_reply *reply)
{
    json_t *messages = r->history ? r->history : json_object_get(r->body, "messages");
    if (reply->counted)
        metrics_upstream_tokens(r->e->options.counts, reply->n_prompt, reply->n_written);
    else
        upstream_reply_reckon(reply, json_dumpb(messages, NULL, 0, JSON_COMPACT));
    r->n_prompt += reply->n_prompt;
    r->n_cached += reply->n_cached;
    r->n_written += reply->n_written;
    r->n_thought += reply->n_thought;
}

/* ---- an attempt's end */

static void judge_failed(request *r, attempt *a, const char *message)
{
    hooks_log(r->e->hooks, DRR_LOG_WARN, "an answer was not judged: %s", message);
    if (!r->policy.pass_unjudged && !r->policy.shadow) {
        reply_error(r, 500, "judge_failed", "the critic could not judge the answer: %s", message);
        return;
    }
    r->unjudged = "judge failed";
    reply_answer(r, a, "passthrough", NULL);
}

static void ask_critic(request *r, attempt *a)
{
    drr_error err = {0};
    a->item = (judge_item){.question = r->question.text,
                           .text = attempt_text(a),
                           .stats = a->stats.n ? &a->stats : NULL,
                           .turn = talks(r) ? a->number : 0,
                           .n_written = a->reply.n_written,
                           .parsed = a->answer != NULL,
                           .hidden = a->reply.hidden,
                           .hidden_size = a->reply.hidden_size};
    count_others(r, a);
    if (request_judge(r, a, &err) != DRR_OK)
        judge_failed(r, a, err.message);
}

static void settle_agreement(request *r, const char *ended_by);

static bool judged(const attempt *a)
{
    return a->good && isfinite(a->p_correct);
}

static bool any_judged(const request *r)
{
    bool any = false;
    for (uint32_t i = 0; i < r->n_attempts; i++)
        any = any || judged(&r->attempts[i]);
    return any;
}

static void on_done(void *user, upstream_reply *reply)
{
    attempt *a = user;
    request *r = a->r;
    drr_error err = {0};
    a->call = NULL;
    a->ended = true;
    r->n_running--;
    a->reply = *reply;
    *reply = (upstream_reply){0};
    a->good = a->reply.status == 200;
    if (a->good)
        count_tokens(r, &a->reply);
    if (a->good && a->reply.model && r->e->options.critic)
        judge_saw_model(r->e->options.critic, a->reply.model);
    if (a->good && a->reply.other && !r->unjudged)
        r->unjudged = "tool_calls";
    if (r->unjudged) {
        if (a->good)
            reply_answer(r, a, "passthrough", NULL);
        else
            reply_failure(r, &a->reply);
        return;
    }
    if (a->good && read_answer(r, a, &err) != DRR_OK) {
        reply_error(r, 503, NULL, "%s", err.message);
        return;
    }
    if (!r->e->options.critic) {
        if (r->n_running == 0)
            settle_agreement(r, "turns");
    } else if (a->good) {
        ask_critic(r, a);
    } else if (a->shown && a->reply.status >= 429 && r->n_attempts < r->most) {
        /* What broke off was shown as an attempt, and nothing stands in the way of another one. */
        if (attempt_begin(r, NULL, &err) != DRR_OK)
            settle_what_there_is(r, "upstream");
    } else if (!any_judged(r)) {
        reply_failure(r, &a->reply);
    } else {
        settle_what_there_is(r, "upstream");
    }
}

void chat_judged(request *r)
{
    attempt *a = &r->attempts[r->n_attempts - 1];
    if (r->judge_status != DRR_OK) {
        judge_failed(r, a, *r->judge_message ? r->judge_message : drr_status_name(r->judge_status));
        return;
    }
    a->p_correct = a->item.p_correct;
    metrics_judged(r->e->options.counts, a->p_correct, clock_seconds() - a->judge_began_s);
    decide(r, a);
}

/* ---- deciding */

static bool say_again(request *r, const attempt *a, char **words)
{
    drr_error err = {0};
    char score[16] = "";
    snprintf(score, sizeof score, "%.0f %%", 100 * a->p_correct);
    const drr_status status =
        r->policy.feedback == DRR_FEEDBACK_SCORE
            ? prompts_reject(words, r->e->prompts, &r->question.task, a->answer, score, NULL, &err)
            : prompts_feedback(words, r->e->prompts, &r->question.task, a->answer, &err);
    if (status != DRR_OK)
        return false;
    if (!r->history)
        r->history = json_copy(json_object_get(r->body, "messages"));
    return r->history &&
           json_array_append_new(r->history,
                                 json_pack("{s:s, s:s}", "role", "assistant", "content", attempt_text(a))) == 0 &&
           json_array_append_new(r->history, json_pack("{s:s, s:s}", "role", "user", "content", *words)) == 0;
}

static void next_attempt(request *r, const attempt *a)
{
    char *words = NULL;
    drr_error err = {0};
    if (talks(r) && !say_again(r, a, &words)) {
        free(words);
        reply_error(r, 503, NULL, "memory is out");
        return;
    }
    if (attempt_begin(r, words, &err) != DRR_OK)
        settle_what_there_is(r, "upstream");
}

static void decide(request *r, attempt *a)
{
    const bool readable = a->answer || !r->question.told;
    a->verdict = readable && a->p_correct >= r->threshold ? DRR_VERDICT_ACCEPT : DRR_VERDICT_REJECT;
    metrics_turn(r->e->options.counts, a->verdict == DRR_VERDICT_ACCEPT);
    if (r->stream && r->policy.live && !r->direct)
        stream_turn(r, a);
    if (a->verdict == DRR_VERDICT_ACCEPT)
        reply_answer(r, a, "accept", "accept");
    else if (r->policy.shadow)
        reply_answer(r, a, "reject", "shadow");
    else if (r->n_attempts >= r->most)
        settle_what_there_is(r, "turns");
    else if (r->policy.max_tokens && r->n_written >= r->policy.max_tokens)
        settle_what_there_is(r, "tokens");
    else
        next_attempt(r, a);
}

/* ---- when nothing was accepted */

/* P(correct) of each turn again, now that all are known. */
static void judge_all_again(request *r)
{
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        attempt *a = &r->attempts[i];
        if (!judged(a))
            continue;
        count_others(r, a);
        if (r->e->options.critic)
            judge_combine(r->e->options.critic, &a->item, 1);
    }
}

static attempt *choose_last(request *r, bool with_answer)
{
    for (uint32_t i = r->n_attempts; i > 0; i--)
        if (r->attempts[i - 1].good && (r->attempts[i - 1].answer || !with_answer))
            return &r->attempts[i - 1];
    return with_answer ? choose_last(r, false) : NULL;
}

static attempt *choose_best(request *r)
{
    attempt *best = NULL;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        attempt *a = &r->attempts[i];
        const bool readable = a->answer || !r->question.told;
        if (judged(a) && readable && (!best || a->item.p_correct > best->item.p_correct))
            best = a;
    }
    return best;
}

/* By each turn's own P(correct), blind to the others: their agreement is what the vote itself counts. Of the turns that
 * gave the winning answer, the likeliest; where two answers have as many votes, one that could be read. */
static attempt *choose_by_vote(request *r)
{
    attempt *best = NULL;
    double most = -1;
    for (uint32_t i = 0; i < r->n_attempts; i++) {
        attempt *a = &r->attempts[i];
        double votes = 0;
        if (!judged(a) || !(a->answer || !r->question.told))
            continue;
        for (uint32_t k = 0; k < r->n_attempts; k++) {
            const attempt *other = &r->attempts[k];
            if (judged(other) && (other == a || agree(r, a, other)))
                votes += r->e->options.critic ? other->item.p_alone : 1;
        }
        const bool same = best && agree(r, a, best);
        const bool clearer = best && !best->answer && a->answer && votes > most - 1e-12;
        if ((!same && (votes > most + 1e-12 || clearer)) || (same && a->item.p_correct > best->item.p_correct)) {
            best = a;
            most = votes > most ? votes : most;
        }
    }
    return best;
}

static void settle_what_there_is(request *r, const char *ended_by)
{
    attempt *chosen = NULL;
    const char *by = drr_exhausted_name(r->policy.on_exhausted);
    r->ended_by = ended_by;
    if (!any_judged(r)) { /* an answer may be there that nobody has judged */
        const char *why = r->e->options.critic ? ended_by : "one sample";
        chosen = choose_last(r, false);
        if (chosen && (r->policy.pass_unjudged || r->policy.shadow)) {
            r->unjudged = why;
            reply_answer(r, chosen, "passthrough", NULL);
        } else {
            reply_error(r, r->deadline_passed ? 504 : 502, "unjudged", "no answer could be judged (%s)", why);
        }
        return;
    }
    judge_all_again(r);
    if (r->policy.on_exhausted == DRR_EXHAUSTED_ABSTAIN) {
        reply_abstain(r);
        return;
    }
    if (r->policy.on_exhausted == DRR_EXHAUSTED_VOTE)
        chosen = choose_by_vote(r);
    else if (r->policy.on_exhausted == DRR_EXHAUSTED_BEST)
        chosen = choose_best(r);
    if (!chosen) {
        chosen = choose_last(r, true);
        by = "last";
    }
    reply_answer(r, chosen, "reject", by);
}

void chat_deadline(request *r)
{
    r->deadline_s = 0;
    r->deadline_passed = true;
    if (r->policy.shadow && r->n_running) { /* only its verdict comes too late */
        r->unjudged = r->ended_by = "deadline";
        return;
    }
    for (uint32_t i = 0; i < r->n_attempts; i++)
        if (r->attempts[i].call) {
            upstream_cancel(r->attempts[i].call);
            r->attempts[i].call = NULL;
            r->n_running--;
        }
    if (r->e->options.critic)
        settle_what_there_is(r, "deadline");
    else
        settle_agreement(r, "deadline");
}

/* ---- without a critic */

static void settle_agreement(request *r, const char *ended_by)
{
    uint32_t n_good = 0;
    for (uint32_t i = 0; i < r->n_attempts; i++)
        n_good += r->attempts[i].good;
    if (n_good == 0) {
        for (uint32_t i = 0; i < r->n_attempts; i++)
            if (r->attempts[i].ended) {
                reply_failure(r, &r->attempts[i].reply);
                return;
            }
        reply_error(r, 504, "deadline", "no answer within %u ms", r->policy.deadline_ms);
        return;
    }
    for (uint32_t i = 0; n_good > 1 && i < r->n_attempts; i++) { /* one alone agrees with nobody */
        attempt *a = &r->attempts[i];
        if (!a->good)
            continue;
        count_others(r, a);
        a->p_correct = a->item.p_correct = (double)(1 + a->item.n_agree) / n_good;
        const bool readable = a->answer || !r->question.told;
        const bool agreed = a->item.n_agree > 0; /* of two that differ each would have its half */
        a->verdict = readable && agreed && a->p_correct >= r->threshold ? DRR_VERDICT_ACCEPT : DRR_VERDICT_REJECT;
        metrics_turn(r->e->options.counts, a->verdict == DRR_VERDICT_ACCEPT);
        if (r->stream && r->policy.live)
            stream_turn(r, a);
    }
    attempt *chosen = choose_by_vote(r);
    if (chosen && chosen->verdict == DRR_VERDICT_ACCEPT)
        reply_answer(r, chosen, "accept", "vote");
    else
        settle_what_there_is(r, ended_by);
}
