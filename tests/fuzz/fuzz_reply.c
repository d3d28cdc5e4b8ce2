/* fuzz_reply.c: anything for an upstream's reply, whole or as events. The first two bytes say how it was asked and how
 * it is sent, the rest is the body. The client gets an answer of the right form, or an error with words, and never a
 * byte of the upstream's key. */
#include "fuzz.h"
#include "fuzz_engine.h"
#include "http_stub.h"

#include <string.h>

static const char *const asked[] = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is it?\"}]}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is it?\"}],\"stream\":true,\"stream_options\":{"
    "\"include_usage\":true}}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is "
    "it?\"}],\"stream\":true,\"drr\":{\"stream_mode\":"
    "\"live\",\"threshold\":1,\"max_turns\":2}}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is "
    "it?\"}],\"drr\":{\"threshold\":1,\"max_turns\":3,"
    "\"on_exhausted\":\"best\"}}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is it?\"}],\"drr\":{\"judge\":false}}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is "
    "it?\"}],\"stream\":true,\"drr\":{\"shadow\":true}}",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is it?\"}],\"stream\":true,\"tools\":[{\"type\":"
    "\"function\",\"function\":{\"name\":\"f\"}}]}"};
static const char *const types[] = {"application/json", "text/event-stream", "application/json; charset=utf-8",
                                    "text/html"};
static const int statuses[] = {200, 200, 200, 200, 400, 500};
enum {
    N_ASKED = sizeof asked / sizeof *asked,
    N_TYPES = sizeof types / sizeof *types,
    N_STATUSES = sizeof statuses / sizeof *statuses
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *body = asked[data[0] % N_ASKED];
    const fuzz_upstream_reply told = {.status = statuses[data[1] / 8 % N_STATUSES],
                                      .type = types[data[1] % N_TYPES],
                                      .body = data + 2,
                                      .size = size - 2,
                                      .cut = data[1] & 4};
    stub_reply reply = stub_ask(engine_chat, fuzz_engine(&told), "/v1/chat/completions", body, strlen(body));
    const bool passed_on = data[0] % N_ASKED >= 4; /* what is not judged may go on as it came */
    if (!passed_on || reply.error || (!reply.stream && reply.status != 200))
        fuzz_accepted += stub_is_well(&reply);
    fuzz_that(!memmem(reply.body, reply.size, "fuzz-upstream-key", 17) || memmem(data, size, "fuzz-upstream-key", 17));
    stub_reply_clear(&reply);
    return 0;
}
