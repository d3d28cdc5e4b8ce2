/* net.h: the door of src/net: one request of JSON to one address, and its reply. It waits for it; what asks many things
 * at once, or reads a stream, has its own client (src/reasoner, src/serve) over the same easy.h. */
#ifndef DRR_NET_H
#define DRR_NET_H

#include "core/core.h"

typedef struct net_options {
    const char *key;        /* sent as a bearer token and shown to nobody else; NULL: none */
    const char *ca_file;    /* NULL: the system's */
    uint32_t seconds;       /* of one call, tries and waits together; 0: 60 */
    const drr_hooks *hooks; /* asked whether to stop while waiting; may be NULL; outlives the client */
} net_options;

typedef struct net_client net_client; /* keeps its connection; used by one thread at a time */
drr_status net_client_new(net_client **client, const char *url, const net_options *options, drr_error *err);
void net_client_free(net_client *client);
/* POST. *reply (the caller frees) is the body of a 200. Where nobody answers, or with 429, 500, 502, 503 or 504, it is
 * tried again until the seconds are over; then, and at once for any other answer, DRR_E_BACKEND says what was said. */
drr_status net_post_json(net_client *client, char **reply, const char *body, drr_error *err);

#endif
