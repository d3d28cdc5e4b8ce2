/* remote_think.h: what a reasoning model thinks, kept apart from what it answers. */
#ifndef DRR_REASONER_REMOTE_THINK_H
#define DRR_REASONER_REMOTE_THINK_H

#include "core/core.h"

/* Zeroed before the first byte; think_clear afterwards. */
typedef struct think_splitter {
    buffer answer, thoughts;
    char held[80]; /* bytes that may turn out to be a tag, or space before one */
    size_t n_held;
    enum { THINK_START, THINK_INSIDE, THINK_ANSWER } state;
    bool seen;      /* a block of thoughts has ended */
    size_t n_ended; /* blocks in the content that have: what stood before the end of one is no answer */
} think_splitter;

/* Content as it comes, cut anywhere. */
drr_status think_feed(think_splitter *splitter, const char *bytes, size_t size, drr_error *err);
/* Thoughts that the server kept apart itself ("reasoning_content"). */
drr_status think_feed_thoughts(think_splitter *splitter, const char *bytes, size_t size, drr_error *err);
/* No more comes: what was held back goes where it belongs. */
drr_status think_end(think_splitter *splitter, drr_error *err);
/* Bytes of the answer so far, with those held back that belong to it unless they turn out to be a tag. */
size_t think_answer_size(const think_splitter *splitter);
void think_clear(think_splitter *splitter);

#endif
