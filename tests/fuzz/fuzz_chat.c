/* fuzz_chat.c: any body for /v1/chat/completions. The upstream answers right; so the client gets an answer, or a
 * refusal of what it asked, in words and once: never that the server is at its end. */
#include "fuzz.h"
#include "fuzz_engine.h"
#include "http_stub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stub_reply reply = stub_ask(engine_chat, fuzz_engine(NULL), "/v1/chat/completions", data, size);
    if (stub_is_well(&reply)) {
        fuzz_accepted++;
    } else if (!reply.stream && (reply.status < 400 || reply.status >= 500) && reply.status != 504) {
        fprintf(stderr, "%d: %s\n", reply.status, reply.body);
        fuzz_failed(__FILE__, __LINE__, "a refusal is of the client's making");
    }
    stub_reply_clear(&reply);
    return 0;
}
