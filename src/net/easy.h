/* easy.h: what all requests of drr have in common, whoever makes them and however many at once. */
#ifndef DRR_NET_EASY_H
#define DRR_NET_EASY_H

#include <curl/curl.h>
#include <stdbool.h>

/* This machine itself: localhost, 127.*, [::1]. */
bool net_is_loopback(const char *url);
/* HTTP alone, no redirects, no signals, our name, whom to trust (ca_file NULL: the system's), and no proxy to this
 * machine. url: where the handle's requests go, or what that begins with. */
void net_easy_set_up(CURL *easy, const char *url, const char *ca_file);
/* Each occurrence of the key in what a server said becomes as many asterisks. NULL or "": there is no key. text may be
 * NULL. */
void net_hide_key(const char *key, char *text, size_t size);

#endif
