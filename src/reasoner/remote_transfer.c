/* remote_transfer.c: one try at one question over libcurl: sends the request, reads the stream as it comes, cuts it
 * where the answer is complete, and at the end judges what the try was worth. Easy handles are kept, and the multi
 * handle keeps their connections. */
#include "net/easy.h"
#include "reasoner/remote_internal.h"

#include <string.h>
#include <strings.h>

enum { REFUSAL_MOST = 1 << 16 };

/* ---- bytes as they come */

static drr_status event(void *user, const char *data, size_t size, drr_error *err)
{
    return remote_reply_event(user, data, size, err);
}

static long status_of(const remote_transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static bool says_event_stream(const remote_transfer *t)
{
    char *type = NULL;
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    return type && strncasecmp(type, "text/event-stream", 17) == 0;
}

/* The type is a claim: a stream that is called something else is read as well. */
static drr_status feed(remote_transfer *t, const char *bytes, size_t size)
{
    remote_reply *reply = &t->reply;
    if (t->streaming)
        return sse_feed(&reply->events, bytes, size, event, t, NULL);
    drr_status status = buffer_append(&reply->body, bytes, size, NULL);
    if (status == DRR_OK && !t->has_type && reply->body.size >= 5) {
        t->has_type = true;
        if (memcmp(reply->body.data, "data:", 5) == 0 || reply->body.data[0] == ':') {
            t->streaming = true;
            status = sse_feed(&reply->events, reply->body.data, reply->body.size, event, t, NULL);
            reply->body.size = 0;
        }
    }
    return status;
}

bool remote_query_watch(remote_query *q, const remote_reply *reply, double now, drr_finish *end)
{
    const reasoner_watched text = {.user = q->complete_user,
                                   .text = reply && reply->words.answer.data ? reply->words.answer.data : "",
                                   .seconds = now - q->started_s,
                                   .tokens = reply ? reply->tokens : NULL,
                                   .n_tokens = reply ? reply->n_tokens : 0};
    drr_finish said = DRR_FINISH_STOP;
    if (!q->watch)
        return false;
    q->watched_s = now;
    q->watch(q->watch_user, &text, &said, 1);
    if (said != DRR_FINISH_CUT && said != DRR_FINISH_TIME)
        return false;
    *end = said;
    return true;
}

static void cut_if_complete(remote_transfer *t, size_t before)
{
    const buffer *answer = &t->reply.words.answer;
    remote_query *q = t->query;
    if (answer->size <= before || t->reply.finished)
        return;
    t->cut_as = DRR_FINISH_ANSWERED;
    t->cut = q->complete && q->complete(q->complete_user, answer->data, answer->size);
    if (!t->cut)
        t->cut = remote_query_watch(q, &t->reply, t->last_byte_s, &t->cut_as);
}

/* Anything but `size * n` ends the transfer. */
static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    remote_transfer *t = user;
    const size_t all = size * n, before = t->reply.words.answer.size;
    t->last_byte_s = clock_seconds();
    t->bytes += all;
    if (status_of(t) != 200) {
        if (t->reply.body.size + all > REFUSAL_MOST)
            return 0;
        t->status = buffer_append(&t->reply.body, bytes, all, NULL);
        return t->status == DRR_OK ? all : 0;
    }
    if (t->bytes > t->most_bytes) {
        remote_reply_problem(&t->reply, REMOTE_FAIL,
                             "the reply is longer than %llu bytes, far more than %u tokens take",
                             (unsigned long long)t->most_bytes, t->query->max_tokens);
        return 0;
    }
    if (t->bytes == all)
        t->streaming = t->has_type = says_event_stream(t);
    t->status = feed(t, bytes, all);
    if (t->status == DRR_E_LIMIT) {
        t->status = DRR_OK;
        remote_reply_problem(&t->reply, REMOTE_FAIL, "the reply has an event of more than %d bytes", REMOTE_EVENT_MOST);
    }
    if (t->status != DRR_OK || t->reply.fault != REMOTE_FINE)
        return 0;
    cut_if_complete(t, before);
    return t->cut ? 0 : all;
}

/* ---- a handle */

/* What every request of this backend has in common. */
void remote_set_up(CURL *easy, const remote_backend *r)
{
    net_easy_set_up(easy, r->base, r->ca_file);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, r->request_seconds < 30 ? (long)r->request_seconds : 30L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* rather a stream of an HTTP/2 connection than a new connection */
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, r->headers);
}

drr_status remote_transfer_open(remote_transfer *t, remote_backend *owner, drr_error *err)
{
    t->owner = owner;
    t->easy = curl_easy_init();
    if (!t->easy)
        return error_memory(err);
    remote_set_up(t->easy, owner);
    curl_easy_setopt(t->easy, CURLOPT_URL, owner->url);
    curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->curl_says);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    return DRR_OK;
}

void remote_transfer_close(remote_transfer *t)
{
    remote_reply_clear(&t->reply);
    curl_easy_cleanup(t->easy);
    t->easy = NULL;
}

drr_status remote_transfer_begin(remote_transfer *t, remote_query *query, drr_error *err)
{
    enum { BYTES_A_TOKEN = 4096 }; /* an event with log-probabilities has some 500 */
    t->query = query;
    t->reply = (remote_reply){.events.most = REMOTE_EVENT_MOST};
    t->streaming = t->cut = t->has_type = false;
    t->bytes = 0;
    t->most_bytes = (uint64_t)query->max_tokens * BYTES_A_TOKEN + REMOTE_EVENT_MOST;
    t->started_s = t->last_byte_s = clock_seconds();
    t->status = DRR_OK;
    t->curl_says[0] = '\0';
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, query->body);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(query->body));
    const CURLMcode code = curl_multi_add_handle(t->owner->multi, t->easy);
    if (code == CURLM_OK)
        return DRR_OK;
    t->query = NULL;
    return error_set(err, DRR_E_BACKEND, "libcurl cannot begin a request: %s", curl_multi_strerror(code));
}

/* ---- judging */

/* Where another try would fail the same way. While the reasoner is being opened that is also where nobody listens: more
 * often than not the address is wrong, and waiting would not tell. */
static bool hopeless(const remote_backend *r, CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
        return true;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* not HTTP/1 */
        return r->probing;
    default:
        return false;
    }
}

static void tell_curl(remote_transfer *t, CURLcode code, const char *where)
{
    char clean[200];
    remote_key_clean(t->owner->key, clean, sizeof clean, *t->curl_says ? t->curl_says : curl_easy_strerror(code));
    remote_reply_problem(&t->reply, hopeless(t->owner, code) ? REMOTE_STOP : REMOTE_RETRY, "%s %s: %s%s",
                         t->owner->base, where, clean,
                         code == CURLE_PEER_FAILED_VERIFICATION ? "; --ca-file names a certificate to trust" : "");
}

/* A 200: is there an answer? */
static drr_status judge_answer(remote_transfer *t, CURLcode code, drr_error *err)
{
    remote_reply *reply = &t->reply;
    drr_status status = DRR_OK;
    if (t->streaming && code == CURLE_OK && !reply->finished)
        status = sse_end(&reply->events, event, t, err);
    else if (!t->streaming && code == CURLE_OK)
        status = remote_reply_whole(t, err);
    if (status != DRR_OK || reply->finished)
        return status;
    if (reply->done && reply->known) { /* "[DONE]" without a reason */
        reply->finished = true;
        reply->finish = DRR_FINISH_STOP;
    } else if (code != CURLE_OK && reply->fault == REMOTE_FINE) {
        tell_curl(t, code, "broke off in the middle of an answer");
    } else if (reply->fault == REMOTE_FINE || t->streaming) {
        if (reply->fault != REMOTE_STOP && reply->fault != REMOTE_FAIL)
            remote_reply_problem(reply, REMOTE_RETRY, "%s ended its stream in the middle of an answer", t->owner->base);
    }
    return DRR_OK;
}

drr_status remote_transfer_judge(remote_transfer *t, CURLcode code, drr_error *err)
{
    remote_reply *reply = &t->reply;
    const long http = status_of(t);
    if (t->status != DRR_OK)
        return error_memory(err);
    if (!reply->status)
        reply->status = http;
    if (reply->fault != REMOTE_FINE)
        return DRR_OK;
    if (t->cut) {
        reply->finish = t->cut_as;
        return DRR_OK;
    }
    if (http == 0)
        tell_curl(t, code == CURLE_OK ? CURLE_GOT_NOTHING : code, "cannot be asked");
    else if (http != 200)
        remote_reply_refused(t, http);
    else
        return judge_answer(t, code, err);
    return DRR_OK;
}
