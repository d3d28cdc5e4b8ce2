/* serve_fixed.c: what SIGHUP cannot change. A setting that was changed and does nothing until a restart is said so by
 * its name, so that nobody takes it for done. */
#include "reasoner/reasoner.h"
#include "serve/serve_internal.h"

#include <string.h>

static void note(serve *s, const char *name)
{
    hooks_log(&s->hooks, DRR_LOG_WARN, "another %s needs a restart; the old one stays", name);
}

static void note_text(serve *s, const char *name, const char *before, const char *after)
{
    if (before != after && (!before || !after || strcmp(before, after) != 0))
        note(s, name);
}

static void note_numbers(serve *s, const drr_serve_options *o)
{
    const drr_serve_options *f = &s->first;
    const drr_reasoner_options *fr = &f->reasoner_options, *r = &o->reasoner_options;
    const struct {
        const char *name;
        uint64_t before, after;
    } numbers[] = {{"port", f->port, o->port},
                   {"max-body", f->max_body_bytes, o->max_body_bytes},
                   {"max-connections", f->max_connections, o->max_connections},
                   {"max-in-flight", f->max_in_flight, o->max_in_flight},
                   {"header-timeout", f->header_seconds, o->header_seconds},
                   {"body-timeout", f->body_seconds, o->body_seconds},
                   {"write-timeout", f->write_seconds, o->write_seconds},
                   {"idle-timeout", f->idle_seconds, o->idle_seconds},
                   {"http-threads", f->http_threads, o->http_threads},
                   {"timeout", f->timeout_seconds, o->timeout_seconds},
                   {"retries", f->retries, o->retries},
                   {"forward-key", f->forward_key, o->forward_key},
                   {"keepalive", f->keepalive_seconds, o->keepalive_seconds},
                   {"width", fr->width, r->width},
                   {"context", fr->context, r->context},
                   {"threads", fr->threads, r->threads},
                   {"precision", (uint64_t)f->precision, (uint64_t)o->precision},
                   {"metrics", f->metrics, o->metrics},
                   {"log-prompts", f->log_prompts, o->log_prompts},
                   {"page-memory", f->page_bytes, o->page_bytes}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].before != numbers[i].after)
            note(s, numbers[i].name);
}

/* Said loudly: what is to be redacted from now on is not. */
static void note_redacted(serve *s, const drr_serve_options *o)
{
    bool same = o->n_redact == s->first.n_redact;
    for (size_t i = 0; same && i < o->n_redact; i++)
        same = strcmp(o->redact[i], s->first.redact[i]) == 0;
    if (s->recorder && !same)
        hooks_log(&s->hooks, DRR_LOG_WARN,
                  "other fields to redact need a restart; until then those of the start are taken out, and no others");
}

/* A key that was changed where it lies, in the file of the same name: the server goes on with the one it has read. */
static void note_upstream_key(serve *s, const drr_serve_options *o)
{
    const char *file = s->first.upstream_key_file;
    char *key = NULL;
    drr_error why = {0};
    if (s->first.reasoner || !file || !o->upstream_key_file || strcmp(file, o->upstream_key_file) != 0)
        return;
    if (reasoner_key_load(&key, file, s->first.upstream, &why) != DRR_OK)
        hooks_log(&s->hooks, DRR_LOG_WARN, "the old upstream key stays, for the new one cannot be read: %s",
                  why.message);
    else
        note_text(s, "key in upstream-key-file", s->upstream_key, key);
    reasoner_key_free(key);
}

void serve_note_fixed(serve *s, const drr_serve_options *o)
{
    const drr_serve_options *f = &s->first;
    if (!o->critic != !s->judge)
        hooks_log(&s->hooks, DRR_LOG_WARN, "to judge with a critic, or without one, needs a restart");
    if (!o->tls_certificate != !f->tls_certificate)
        hooks_log(&s->hooks, DRR_LOG_WARN, "to speak TLS, or to speak it no more, needs a restart");
    note_text(s, "upstream", f->upstream, o->upstream);
    note_text(s, "upstream-key-file", f->upstream_key_file, o->upstream_key_file);
    note_upstream_key(s, o);
    note_text(s, "ca-file", f->reasoner_options.ca_file, o->reasoner_options.ca_file);
    note_text(s, "reasoner", f->reasoner, o->reasoner);
    note_text(s, "model", f->model, o->model);
    note_text(s, "host", f->host, o->host);
    note_text(s, "trace store", f->record, o->record);
    note_text(s, "log-file", f->log_file, o->log_file);
    note_text(s, "log-format", f->log_format, o->log_format);
    note_redacted(s, o);
    note_numbers(s, o);
}
