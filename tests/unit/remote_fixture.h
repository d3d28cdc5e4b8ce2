/* remote_fixture.h: a try of the remote backend without a network: bytes go in as a server would send them. */
#ifndef REMOTE_FIXTURE_H
#define REMOTE_FIXTURE_H

#include "reasoner/remote_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct remote_fixture {
    remote_backend backend;
    remote_query query;
    remote_transfer transfer;
} remote_fixture;

static inline void fixture_open(remote_fixture *f, const char *key)
{
    *f = (remote_fixture){.query.max_tokens = 100};
    f->backend.base = string_copy("http://host/v1");
    f->backend.model = string_copy("m");
    f->backend.key = string_copy(key);
    f->transfer.owner = &f->backend;
    f->transfer.query = &f->query;
    f->transfer.easy = curl_easy_init();
    f->transfer.reply.events.most = REMOTE_EVENT_MOST;
    assert_non_null(f->transfer.easy);
}

static inline void fixture_close(remote_fixture *f)
{
    remote_reply_clear(&f->transfer.reply);
    curl_easy_cleanup(f->transfer.easy);
    free(f->backend.base);
    free(f->backend.model);
    remote_key_free(f->backend.key);
}

static inline drr_status fixture_event(void *user, const char *data, size_t size, drr_error *err)
{
    return remote_reply_event(user, data, size, err);
}

static inline drr_status fixture_feed(remote_fixture *f, const char *bytes, size_t size)
{
    return sse_feed(&f->transfer.reply.events, bytes, size, fixture_event, &f->transfer, NULL);
}

#endif
