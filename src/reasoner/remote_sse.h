/* remote_sse.h: server-sent events out of bytes that come in pieces of any size. */
#ifndef DRR_REASONER_REMOTE_SSE_H
#define DRR_REASONER_REMOTE_SSE_H

#include "core/core.h"

/* Zeroed before the first byte; sse_clear afterwards. */
typedef struct sse_parser {
    buffer line, data;
    bool has_data, after_cr, past_first_line;
    size_t most; /* bytes of one event; 0: no limit */
} sse_parser;

/* Hears an event's data; an error ends the feeding and is what it returns. */
typedef drr_status (*sse_event_fn)(void *user, const char *data, size_t size, drr_error *err);

/* An event longer than `most` is DRR_E_LIMIT. */
drr_status sse_feed(sse_parser *parser, const char *bytes, size_t size, sse_event_fn event, void *user, drr_error *err);
/* The stream has ended: an event that no blank line closed is handed over, as servers forget it after "[DONE]". */
drr_status sse_end(sse_parser *parser, sse_event_fn event, void *user, drr_error *err);
void sse_clear(sse_parser *parser);

#endif
