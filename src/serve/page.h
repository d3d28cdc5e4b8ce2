/* page.h: the server's page, and the recent requests that it shows. The page is one file, embedded when drr is built;
 * it speaks to this server alone. Requests are kept in memory, the oldest go first. */
#ifndef DRR_SERVE_PAGE_H
#define DRR_SERVE_PAGE_H

#include "serve/engine.h"

typedef struct page page;

typedef struct page_options {
    size_t bytes; /* of memory for recent requests; 0: none is kept */
    bool texts;   /* keep what was asked and answered; else numbers alone. Whoever has a key sees all of it, so with
                     several keys only where the operator asks for it */
} page_options;
void page_options_defaults(page_options *options); /* 8 MiB, with texts */

drr_status page_open(page **p, const page_options *options, drr_error *err);
void page_close(page *p);
void page_set_texts(page *p, bool texts); /* from now on; false: what is kept with texts goes at once. Any thread */
void page_keep(void *user, const engine_record *record); /* an engine_recorder, user: the page */

/* Routes, user: the page. */
void page_get(void *user, http_call *call);    /* GET /, HTTP_PUBLIC: it holds nothing but itself */
void page_traces(void *user, http_call *call); /* GET /drr/traces?after=N&limit=N, HTTP_KEYED (docs/serve.md) */

#endif
