/* record_redact.h: takes the values of named JSON fields out of texts, before the recorder writes them. */
#ifndef DRR_SERVE_RECORD_REDACT_H
#define DRR_SERVE_RECORD_REDACT_H

#include "core/core.h"
#include "core/json.h"

#define REDACTED "[redacted]"

typedef struct redaction {
    const char *const *names; /* the caller's; capitals do not count */
    size_t n_names;
    char **values; /* what these fields held in the request at hand */
    size_t n_values, capacity;
    bool too_many; /* then whole texts are taken out */
} redaction;

/* Forgets the request before, and learns what the fields hold in this one, also in JSON within its strings. */
drr_status redaction_learn(redaction *r, const json_t *request, drr_error *err);
/* Puts REDACTED in place of the fields' values in *text, and of all that was learned. *text is replaced; NULL stays. */
drr_status redaction_apply(redaction *r, char **text, drr_error *err);
void redaction_clear(redaction *r);

#endif
