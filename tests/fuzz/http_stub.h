/* http_stub.h: serve/http.h without HTTP: a call made of bytes, ended by its handler on whatever thread, and looked at
 * afterwards. Linked before the library, it stands in for src/serve/http*.c. */
#ifndef DRR_TESTS_FUZZ_HTTP_STUB_H
#define DRR_TESTS_FUZZ_HTTP_STUB_H

#include "serve/http.h"

typedef struct stub_reply {
    int status;
    bool stream;
    char type[96];
    char *body; /* NUL-terminated behind size bytes */
    size_t size;
    bool error; /* http_reply_error's */
} stub_reply;

/* Hands the handler a call with this body, which lies in a heap block of its own size and a NUL, waits until it is
 * ended and fails where that takes more than ten seconds, or where it is ended twice or by an error without words. */
stub_reply stub_ask(http_handler handler, void *user, const char *path, const void *body, size_t size);
void stub_reply_clear(stub_reply *reply);
/* What every reply has to be: JSON where it says so, OpenAI's error where it refuses, events of JSON that end with
 * [DONE] or an error. Fails else. True: status 200, and no error. */
bool stub_is_well(const stub_reply *reply);

#endif
