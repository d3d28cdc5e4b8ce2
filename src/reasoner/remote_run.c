/* remote_run.c: keeps up to `allowed` questions in flight, and brings each to one end: answered, or failed with a
 * reason. A try that may go better is made again after a wait, within the question's deadline. What concerns every
 * question alike (a key that is refused, a budget that is spent, a server that answers nobody) stops the run instead.
 */
#include "net/easy.h"
#include "reasoner/remote_internal.h"

#include <stdlib.h>
#include <string.h>

static const double AFTER_FINISH_S = 5; /* the usage that follows an answer may be late, but is not waited for long */
static const double POLL_S = 0.2;       /* how soon an interruption is noticed, or that a question's seconds are over */

void remote_query_free(remote_query *query)
{
    if (!query)
        return;
    free(query->body);
    free(query);
}

drr_status remote_push(remote_backend *r, const reasoner_completion *completion, drr_error *err)
{
    if (r->n_done == r->done_capacity) {
        const size_t capacity = r->done_capacity ? 2 * r->done_capacity : 64;
        reasoner_completion *more = realloc(r->done, capacity * sizeof *more);
        if (!more)
            return error_memory(err);
        r->done = more;
        r->done_capacity = capacity;
    }
    r->done[r->n_done++] = *completion;
    return DRR_OK;
}

/* ---- the ends of a question */

static drr_status fail_query(remote_backend *r, remote_query *query, const char *reason, drr_error *err)
{
    reasoner_completion c = {.tag = query->tag,
                             .finish = DRR_FINISH_FAILED,
                             .seconds = query->started_s > 0 ? clock_seconds() - query->started_s : 0,
                             .failure = string_copy(reason)};
    drr_status status = c.failure ? remote_push(r, &c, err) : error_memory(err);
    if (status != DRR_OK)
        reasoner_completion_clear(&c);
    r->n_failed++;
    remote_query_free(query);
    return status;
}

/* What could be tried has been: a server that fails so many in a row answers nobody. What is wrong with a question
 * alone (a filter, a refusal) is not counted, and ends no row. */
static drr_status give_up(remote_backend *r, remote_query *query, const char *reason, drr_error *err)
{
    const uint32_t most_in_row = r->width > 8 ? 4 * r->width : 32;
    if (++r->failed_in_row >= most_in_row && r->stop.status == DRR_OK)
        error_set(&r->stop, DRR_E_BACKEND, "the last %u questions failed, the last of them: %s", r->failed_in_row,
                  reason);
    return fail_query(r, query, reason, err);
}

static void stop(remote_backend *r, drr_status status, const char *reason)
{
    if (r->stop.status == DRR_OK)
        error_set(&r->stop, status, "%s", reason);
}

static drr_status answer_query(remote_backend *r, remote_query *query, remote_reply *reply, drr_error *err)
{
    drr_status status = think_end(&reply->words, err);
    reasoner_completion c = {.tag = query->tag,
                             .finish = reply->finish,
                             .n_prompt_tokens =
                                 reply->has_usage ? reply->used_prompt : (uint32_t)(query->prompt_guess & UINT32_MAX),
                             .n_cached_tokens = reply->used_cached,
                             .n_tokens = remote_reply_written(reply),
                             .seconds = clock_seconds() - query->started_s};
    if (status == DRR_OK)
        status = buffer_append(&reply->words.answer, "", 0, err); /* never NULL */
    if (status == DRR_OK) {
        net_hide_key(r->key, reply->words.answer.data, reply->words.answer.size);
        net_hide_key(r->key, reply->words.thoughts.data, reply->words.thoughts.size);
        c.text = buffer_take(&reply->words.answer);
        if (reply->words.thoughts.size)
            c.thoughts = buffer_take(&reply->words.thoughts);
        c.tokens = reply->tokens;
        c.n_token_stats = reply->n_tokens;
        reply->tokens = NULL;
        status = remote_push(r, &c, err);
        if (status != DRR_OK)
            reasoner_completion_clear(&c);
    }
    r->n_answered++;
    if (reply->known) { /* not where its seconds were over before anything came */
        r->failed_in_row = 0;
        if (r->allowed < r->width)
            r->allowed += 1 / r->allowed;
    }
    remote_query_free(query);
    return status;
}

/* ---- trying again */

static void slow_down(remote_backend *r, double now, double started_s, double retry_after)
{
    if (started_s > r->slowed_s) { /* those in flight when the first was refused say nothing new */
        r->allowed = r->allowed > 2 ? r->allowed / 2 : 1;
        r->slowed_s = now;
    }
    if (now + retry_after > r->hold_until_s)
        r->hold_until_s = now + retry_after;
}

static void tell_wait(remote_backend *r, double now, double wait, const char *reason)
{
    if (now - r->told_s < 10)
        return;
    r->told_s = now;
    hooks_log(r->hooks, DRR_LOG_WARN, "%s; trying again in %.1f s (%llu tries again so far)", reason, wait,
              (unsigned long long)r->n_retries);
}

static drr_status again_or_fail(remote_backend *r, remote_query *query, const char *problem, double retry_after,
                                drr_error *err)
{
    const double now = clock_seconds(), deadline = query->started_s + r->request_seconds;
    const double wait = retry_wait(query->tries, retry_after, rng_uniform(&r->random));
    char reason[700];
    if (retry_after > r->request_seconds) {
        snprintf(reason, sizeof reason,
                 "%s, and asks to wait %.0f s, longer than --request-seconds %u; run it again then", problem,
                 retry_after, r->request_seconds);
        stop(r, DRR_E_BACKEND, reason);
        remote_query_free(query);
        return DRR_OK;
    }
    if (query->tries <= r->retries && now + wait < deadline) {
        query->not_before_s = now + wait;
        query->next = r->waiting;
        r->waiting = query;
        r->n_retries++;
        tell_wait(r, now, wait, problem);
        return DRR_OK;
    }
    if (query->tries <= r->retries)
        snprintf(reason, sizeof reason, "%s (try %u; no time for another within %u s)", problem, query->tries,
                 r->request_seconds);
    else
        snprintf(reason, sizeof reason, "%s (%u tries)", problem, query->tries);
    return give_up(r, query, reason, err);
}

/* ---- the end of a try */

/* The transfer is out of the multi handle, its reply judged: the question ends or waits. */
static drr_status settle(remote_backend *r, remote_transfer *t, double retry_after, drr_error *err)
{
    remote_query *query = t->query;
    remote_reply *reply = &t->reply;
    drr_status status = DRR_OK;
    t->query = NULL;
    r->n_active--;
    budget_release(&r->spending, query->prompt_guess, query->max_tokens);
    if (reply->has_usage || reply->begun)
        budget_spend(&r->spending, reply->has_usage ? reply->used_prompt : query->prompt_guess,
                     remote_reply_written(reply));
    memcpy(r->last_param, reply->param, sizeof r->last_param);
    r->last_status = reply->status;
    if (r->last_status == 429 || r->last_status == 503)
        slow_down(r, clock_seconds(), t->started_s, retry_after <= r->request_seconds ? retry_after : 0);
    switch (reply->fault) {
    case REMOTE_FINE:
        status = answer_query(r, query, reply, err);
        break;
    case REMOTE_RETRY:
        status = again_or_fail(r, query, reply->problem, retry_after, err);
        break;
    case REMOTE_FAIL:
        status = fail_query(r, query, reply->problem, err);
        break;
    case REMOTE_LATE:
        status = give_up(r, query, reply->problem, err);
        break;
    case REMOTE_STOP:
        stop(r, DRR_E_BACKEND, reply->problem);
        remote_query_free(query);
        break;
    }
    remote_reply_clear(reply);
    return status;
}

static drr_status reap(remote_backend *r, drr_error *err)
{
    CURLMsg *message;
    int left;
    drr_status status = DRR_OK;
    while (status == DRR_OK && (message = curl_multi_info_read(r->multi, &left))) {
        remote_transfer *t = NULL;
        curl_off_t retry_after = 0;
        const CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURL *easy = message->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
        curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &r->http_version);
        status = remote_transfer_judge(t, code, err);
        curl_multi_remove_handle(r->multi, easy);
        if (status == DRR_OK)
            status = settle(r, t, (double)retry_after, err);
    }
    return status;
}

/* Asks the watch where no answer grows that would have it asked: while the model thinks, the server is silent, or the
 * question waits for another try. */
static bool watch_ends(remote_query *query, const remote_reply *reply, double now, drr_finish *end)
{
    return query->started_s > 0 && now - query->watched_s >= POLL_S / 2 && remote_query_watch(query, reply, now, end);
}

/* Ends tries that the clock has run out for. */
static drr_status watch(remote_backend *r, drr_error *err)
{
    drr_status status = DRR_OK;
    const double now = clock_seconds(), silence = r->request_seconds > 4 ? r->request_seconds / 4.0 : 1;
    for (uint32_t i = 0; status == DRR_OK && i < r->width; i++) {
        remote_transfer *t = &r->transfers[i];
        if (!t->query)
            continue;
        const double silent = now - t->last_byte_s;
        const bool late = now - t->query->started_s > r->request_seconds;
        if (t->reply.finished) { /* the answer is there, and only its account is missing */
            if (silent <= AFTER_FINISH_S && !late)
                continue;
        } else if (!watch_ends(t->query, &t->reply, now, &t->reply.finish)) { /* else with what there is */
            if (late)
                remote_reply_problem(&t->reply, REMOTE_LATE, "%s gave no whole answer within %u s (--request-seconds)",
                                     r->base, r->request_seconds);
            else if (silent > silence)
                remote_reply_problem(&t->reply, REMOTE_RETRY, "%s was silent for %.0f s", r->base, silence);
            else
                continue;
        }
        curl_multi_remove_handle(r->multi, t->easy);
        status = settle(r, t, 0, err);
    }
    for (remote_query **at = &r->waiting; status == DRR_OK && *at;) {
        remote_query *query = *at;
        remote_reply nothing = {0};
        const bool over = watch_ends(query, NULL, now, &nothing.finish);
        if (!over && (query->started_s <= 0 || now - query->started_s <= r->request_seconds)) {
            at = &query->next;
            continue;
        }
        *at = query->next;
        if (over) {
            status = answer_query(r, query, &nothing, err);
            remote_reply_clear(&nothing);
            continue;
        }
        char reason[200];
        snprintf(reason, sizeof reason, "%.100s gave no answer within %u s (--request-seconds)", r->base,
                 r->request_seconds);
        status = give_up(r, query, reason, err);
    }
    return status;
}

/* ---- admitting */

/* The next question whose time has come, unlinked: first those that wait for another try. */
static remote_query *take_ready(remote_backend *r, double now)
{
    for (remote_query **at = &r->waiting; *at; at = &(*at)->next) {
        remote_query *query = *at;
        if (query->not_before_s > now)
            continue;
        *at = query->next;
        return query;
    }
    remote_query *query = r->first;
    if (query) {
        r->first = query->next;
        if (!r->first)
            r->last = NULL;
    }
    return query;
}

static void give_back(remote_backend *r, remote_query *query)
{
    query->next = r->waiting;
    r->waiting = query;
}

static void stop_at_budget(remote_backend *r, const remote_query *query)
{
    const budget *b = &r->spending;
    char reason[400];
    if (b->most_tokens)
        snprintf(reason, sizeof reason,
                 "%llu of --max-tokens-total %llu tokens are spent, and the next question may take %llu: what is "
                 "finished is "
                 "kept; give a larger total to go on",
                 (unsigned long long)(b->prompt + b->written), (unsigned long long)b->most_tokens,
                 (unsigned long long)(query->prompt_guess + query->max_tokens));
    else
        snprintf(
            reason, sizeof reason,
            "%.6g of --max-money %.6g is spent, and the next question may go beyond: what is finished is kept; give "
            "more to go on",
            budget_money(b), b->most_money);
    stop(r, DRR_E_LIMIT, reason);
}

static drr_status admit(remote_backend *r, drr_error *err)
{
    drr_status status = DRR_OK;
    const double now = clock_seconds();
    const uint32_t most = r->allowed < r->width ? (uint32_t)r->allowed : r->width;
    for (uint32_t i = 0; status == DRR_OK && i < r->width && r->n_active < most && now >= r->hold_until_s; i++) {
        remote_transfer *t = &r->transfers[i];
        remote_query *query = t->query ? NULL : take_ready(r, now);
        if (!query)
            continue;
        if (!budget_reserve(&r->spending, query->prompt_guess, query->max_tokens)) {
            if (r->n_active == 0)
                stop_at_budget(r, query);
            give_back(r, query);
            break;
        }
        if (query->started_s <= 0)
            query->started_s = now;
        query->tries++;
        status = remote_transfer_begin(t, query, err);
        if (status == DRR_OK)
            r->n_active++;
        else
            remote_query_free(query);
    }
    return status;
}

/* ---- */

static int poll_milliseconds(const remote_backend *r)
{
    const double now = clock_seconds();
    double wait = POLL_S;
    if (r->n_active < r->width)
        for (const remote_query *q = r->waiting; q; q = q->next) {
            const double ready = q->not_before_s > r->hold_until_s ? q->not_before_s : r->hold_until_s;
            if (ready > now && ready - now < wait)
                wait = ready - now;
        }
    return 1 + (int)(wait * 1000);
}

drr_status remote_step(remote_backend *r, drr_error *err)
{
    int running;
    drr_status status = admit(r, err);
    if (status != DRR_OK || r->stop.status != DRR_OK)
        return status;
    const CURLMcode code = curl_multi_perform(r->multi, &running);
    if (code != CURLM_OK)
        return error_set(err, DRR_E_BACKEND, "libcurl: %s", curl_multi_strerror(code));
    status = reap(r, err);
    if (status == DRR_OK)
        status = watch(r, err);
    if (status == DRR_OK && r->n_done == 0 && r->stop.status == DRR_OK && (uint32_t)running == r->n_active)
        curl_multi_poll(r->multi, NULL, 0, poll_milliseconds(r), NULL);
    return status;
}

static void free_list(remote_query *query)
{
    while (query) {
        remote_query *next = query->next;
        remote_query_free(query);
        query = next;
    }
}

void remote_drop_all(remote_backend *r)
{
    for (uint32_t i = 0; r->transfers && i < r->width; i++) {
        remote_transfer *t = &r->transfers[i];
        if (!t->query)
            continue;
        curl_multi_remove_handle(r->multi, t->easy);
        budget_release(&r->spending, t->query->prompt_guess, t->query->max_tokens);
        if (t->reply.begun)
            budget_spend(&r->spending, t->query->prompt_guess, remote_reply_written(&t->reply));
        remote_query_free(t->query);
        t->query = NULL;
        remote_reply_clear(&t->reply);
    }
    r->n_active = 0;
    free_list(r->first);
    free_list(r->waiting);
    r->first = r->last = r->waiting = NULL;
    while (r->n_done)
        reasoner_completion_clear(&r->done[--r->n_done]);
}
