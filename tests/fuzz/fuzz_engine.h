/* fuzz_engine.h: an engine with a small critic before an upstream of this process, which answers over a real socket
 * what it is told: what fuzz_chat and fuzz_reply share. */
#ifndef DRR_TESTS_FUZZ_ENGINE_H
#define DRR_TESTS_FUZZ_ENGINE_H

#include "serve/engine.h"

typedef struct fuzz_upstream_reply {
    int status;
    const char *type;
    const uint8_t *body;
    size_t size;
    bool cut; /* the connection ends before as many bytes as were promised */
} fuzz_upstream_reply;

/* Asked for a completion, the upstream answers so from now on (a copy is kept), in any thread; NULL: right, and as the
 * request asks. */
engine *fuzz_engine(const fuzz_upstream_reply *told);

#endif
