/* post.c: net_post_json over libcurl's easy interface. It follows no redirection, so that a key reaches the address
 * that was named and no other, and it takes the key out of whatever a server says before anyone sees it. */
#include "net/easy.h"
#include "net/net.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPLY_MOST = 1 << 22, SECONDS = 60 };

struct net_client {
    CURL *easy;
    struct curl_slist *headers;
    char *url, *key;
    uint32_t seconds;
    const drr_hooks *hooks;
    buffer reply;
    bool too_long, interrupted;
    char curl_says[CURL_ERROR_SIZE];
};

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user)
{
    net_client *c = user;
    const size_t all = size * n;
    c->too_long = c->reply.size + all > REPLY_MOST;
    return !c->too_long && buffer_append(&c->reply, bytes, all, NULL) == DRR_OK ? all : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t x, curl_off_t y)
{
    net_client *c = user;
    (void)a;
    (void)b;
    (void)x;
    (void)y;
    c->interrupted = hooks_cancelled(c->hooks);
    return c->interrupted;
}

static drr_status add_header(net_client *c, const char *text, drr_error *err)
{
    struct curl_slist *longer = curl_slist_append(c->headers, text);
    if (!longer)
        return error_memory(err);
    c->headers = longer;
    return DRR_OK;
}

static drr_status set_up(net_client *c, const net_options *o, drr_error *err)
{
    buffer key = {0};
    c->easy = curl_easy_init();
    if (!c->easy || !c->url || (o->key && !c->key))
        return error_memory(err);
    drr_status status = add_header(c, "Content-Type: application/json", err);
    if (status == DRR_OK && o->key) {
        status = buffer_printf(&key, err, "Authorization: Bearer %s", o->key);
        if (status == DRR_OK)
            status = add_header(c, key.data, err);
        if (key.data)
            explicit_bzero(key.data, key.size);
        buffer_clear(&key);
    }
    if (status != DRR_OK)
        return status;
    net_easy_set_up(c->easy, c->url, o->ca_file);
    curl_easy_setopt(c->easy, CURLOPT_URL, c->url);
    curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c->easy, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(c->easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->curl_says);
    return DRR_OK;
}

drr_status net_client_new(net_client **client, const char *url, const net_options *options, drr_error *err)
{
    net_client *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->url = string_copy(url);
    c->key = string_copy(options->key);
    c->seconds = options->seconds ? options->seconds : SECONDS;
    c->hooks = options->hooks;
    drr_status status = set_up(c, options, err);
    if (status == DRR_OK)
        *client = c;
    else
        net_client_free(c);
    return status;
}

void net_client_free(net_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->easy);
    curl_slist_free_all(client->headers);
    if (client->key)
        explicit_bzero(client->key, strlen(client->key));
    free(client->key);
    free(client->url);
    buffer_clear(&client->reply);
    free(client);
}

/* Fit for a message: the key hidden, no control characters, cut to `size`. */
static void clean(const net_client *c, char *out, size_t size, const char *text)
{
    char *copy = string_copy(text);
    *out = '\0';
    if (!copy)
        return;
    net_hide_key(c->key, copy, strlen(copy)); /* before it is cut, or a part would stay */
    snprintf(out, size, "%s", copy);
    for (char *at = out; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    free(copy);
}

static bool worth_another_try(CURLcode code, long http)
{
    if (code != CURLE_OK)
        return code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING ||
               code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_PARTIAL_FILE;
    return http == 429 || http == 500 || (http >= 502 && http <= 504);
}

static drr_status tell(const net_client *c, CURLcode code, long http, drr_error *err)
{
    char said[300];
    if (c->interrupted)
        return error_set(err, DRR_E_INTERRUPTED, "interrupted while waiting for %s", c->url);
    if (c->too_long)
        return error_set(err, DRR_E_LIMIT, "%s: the reply is longer than %d bytes", c->url, REPLY_MOST);
    if (code != CURLE_OK) {
        clean(c, said, sizeof said, *c->curl_says ? c->curl_says : curl_easy_strerror(code));
        return error_set(err, DRR_E_BACKEND, "%s cannot be asked: %s%s", c->url, said,
                         code == CURLE_PEER_FAILED_VERIFICATION ? "; --ca-file names a certificate to trust" : "");
    }
    clean(c, said, sizeof said, c->reply.data ? c->reply.data : "");
    return error_set(err, DRR_E_BACKEND, "%s answered with HTTP %ld: %s", c->url, http, said);
}

drr_status net_post_json(net_client *client, char **reply, const char *body, drr_error *err)
{
    enum { FIRST_PAUSE_MS = 200, LONGEST_PAUSE_MS = 5000 };
    const double end = clock_seconds() + client->seconds;
    long http = 0, pause_ms = FIRST_PAUSE_MS;
    CURLcode code = CURLE_OK;
    curl_easy_setopt(client->easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(client->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    for (;;) {
        const double left = end - clock_seconds();
        client->reply.size = 0;
        client->too_long = client->interrupted = false;
        client->curl_says[0] = '\0';
        curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, left > 0.001 ? (long)(1000 * left) : 1L);
        code = curl_easy_perform(client->easy);
        http = 0;
        curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &http);
        if (code == CURLE_OK && http == 200) {
            *reply = client->reply.data ? buffer_take(&client->reply) : string_copy("");
            return *reply ? DRR_OK : error_memory(err);
        }
        if (client->interrupted || client->too_long || !worth_another_try(code, http) ||
            clock_seconds() + (double)pause_ms / 1000 >= end)
            return tell(client, code, http, err);
        for (long waited = 0; waited < pause_ms; waited += 50) {
            client->interrupted = hooks_cancelled(client->hooks);
            if (client->interrupted)
                return tell(client, code, http, err);
            usleep(50000);
        }
        pause_ms = 2 * pause_ms < LONGEST_PAUSE_MS ? 2 * pause_ms : LONGEST_PAUSE_MS;
    }
}
