/* easy.c: what keeps keys where they belong: the settings of a curl handle, and hiding a key that a server repeats.
 * What one kind of request needs beside them is its own client's. */
#include "net/easy.h"
#include "drr.h"

#include <string.h>

bool net_is_loopback(const char *url)
{
    char *host = NULL;
    CURLU *parts = curl_url();
    const bool found = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                       curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    const bool own =
        found && (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0);
    curl_free(host);
    curl_url_cleanup(parts);
    return own;
}

void net_easy_set_up(CURL *easy, const char *url, const char *ca_file)
{
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); /* a key goes to the server named and to no other */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "drr/" DRR_VERSION);
    if (ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
    if (net_is_loopback(url)) /* a proxy would look for it on its own machine */
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

void net_hide_key(const char *key, char *text, size_t size)
{
    const size_t n = key ? strlen(key) : 0;
    char *at = text, *found;
    while (n && at && (found = memmem(at, size - (size_t)(at - text), key, n))) {
        memset(found, '*', n);
        at = found + n; /* behind it: a key of asterisks alone is still there */
    }
}
