/* upstream_try.c: what one try at a server was worth: an answer, a refusal that is the client's to hear, or a failure
 * with the status that the client gets: 502 where the upstream is broken, 503 where it is not ready, 504 where it is
 * late, 429 where it is busy. The server's key is the operator's affair: a refusal of it is a 502, without the
 * upstream's words. */
#include "net/easy.h"
#include "serve/upstream_http.h"

#include <string.h>

static bool hopeless(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return true;
    default:
        return false;
    }
}

static bool judge_failure(http_transfer *t, CURLcode code)
{
    const upstream_options *o = &t->h->owner->options;
    const char *name = t->h->owner->name, *says = *t->curl_says ? t->curl_says : curl_easy_strerror(code);
    if (code == CURLE_OPERATION_TIMEDOUT && clock_seconds() + 0.05 >= t->began_s + o->timeout_seconds) {
        upstream_reply_fail(&t->reply, 504, "upstream_timeout", "the upstream %s gave no whole answer within %u s",
                            name, o->timeout_seconds);
        return false;
    }
    if (t->status == 0)
        upstream_reply_fail(&t->reply, 502, "upstream_unreachable", "the upstream %s cannot be asked: %.200s", name,
                            says);
    else
        upstream_reply_fail(&t->reply, 502, "upstream_broke_off", "the upstream %s broke off in its answer: %.200s",
                            name, says);
    return !hopeless(code);
}

static const char *error_code(json_t *root)
{
    json_t *error = json_object_get(root, "error");
    return json_string_or(error, "code", json_string_or(error, "type", ""));
}

static bool judge_refusal(http_transfer *t)
{
    const long status = t->status;
    const char *name = t->h->owner->name;
    upstream_reply *reply = &t->reply;
    bool again = false;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    net_hide_key(t->h->owner->options.key, reply->body.data, reply->body.size);
    json_t *root = reply->body.size ? json_loadb(reply->body.data, reply->body.size, 0, NULL) : NULL;
    const char *words = upstream_error_words(root), *code = error_code(root), *colon = *words ? ": " : "";
    if (!t->forwards && (status == 401 || status == 402 || status == 403)) {
        upstream_reply_fail(reply, 502, "upstream_auth", "the upstream %s %s (%ld)", name,
                            t->h->owner->options.key ? "refuses the key that this server has for it"
                                                     : "wants a key, and this server has none for it",
                            status);
    } else if (t->raw && t->fetch.exact) {
        reply->status = (int)status;
    } else if (status == 429) {
        again = strcmp(code, "insufficient_quota") != 0 && strcmp(code, "billing_hard_limit_reached") != 0;
        upstream_reply_fail(reply, 429, again ? "upstream_busy" : "insufficient_quota",
                            "the upstream %s asks for fewer requests%s%.300s", name, colon, words);
    } else if (status == 408 || status == 425 || status >= 500) {
        again = status != 501;
        upstream_reply_fail(reply,
                            status == 503                    ? 503
                            : status == 504 || status == 408 ? 504
                                                             : 502,
                            "upstream_error", "the upstream %s answers %ld%s%.300s", name, status, colon, words);
    } else if (status < 400) {
        upstream_reply_fail(reply, 502, "upstream_error", "the upstream %s answers %ld and no completion", name,
                            status);
    } else {
        reply->status = (int)status; /* in the upstream's own words */
    }
    reply->retry_after = retry_after > 0 && retry_after < 86400 ? (uint32_t)retry_after : 0;
    json_decref(root);
    return again;
}

static bool judge_stream(http_transfer *t, CURLcode code)
{
    upstream_reply *reply = &t->reply;
    if (!*reply->finish && !t->ended) {
        if (code != CURLE_OK)
            return judge_failure(t, code);
        upstream_reply_fail(reply, 502, "upstream_broke_off",
                            "the upstream %s ended its stream in the middle of an answer", t->h->owner->name);
        return true;
    }
    if (!*reply->finish)
        snprintf(reply->finish, sizeof reply->finish, "stop");
    reply->text = reply->own_text.data ? reply->own_text.data : "";
    reply->thoughts = reply->own_thoughts.data ? reply->own_thoughts.data : "";
    reply->status = 200;
    return false;
}

bool http_transfer_judge(http_transfer *t, CURLcode code)
{
    if (t->broken)
        return t->reply.status != 500;
    if (t->status == 0)
        return judge_failure(t, code == CURLE_OK ? CURLE_GOT_NOTHING : code);
    if (t->onward) {
        if (code != CURLE_OK)
            judge_failure(t, code);
        else
            t->reply.status = (int)t->status;
        return false;
    }
    if (t->status == 200 && !t->streaming && http_transfer_reread(t)) {
        if (t->broken)
            return true;
        return judge_stream(t, code);
    }
    if (t->status != 200)
        return code == CURLE_OK ? judge_refusal(t) : judge_failure(t, code);
    if (t->streaming)
        return judge_stream(t, code);
    if (code != CURLE_OK)
        return judge_failure(t, code);
    net_hide_key(t->h->owner->options.key, t->reply.body.data, t->reply.body.size);
    return !upstream_reply_read(&t->reply, t->h->owner->name);
}
