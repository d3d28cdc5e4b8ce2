/* drr/reasoner.h: the language models that answer: embedded, remote or recorded. Part of drr.h. */
#ifndef DRR_REASONER_PART_H
#define DRR_REASONER_PART_H

#include "drr/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct drr_reasoner drr_reasoner;

typedef struct drr_reasoner_options {
    uint32_t width;   /* sequences generated at once; 0: by cores and memory. Too many are lowered, with a warning */
    uint32_t context; /* tokens of one sequence, prompt and answer; 0: 2048 or what the model allows */
    uint32_t threads; /* 0: all cores */
    bool self_check;  /* compare first logits with stored ones, where known: a CPU path that is wrong is left, with a
                         warning */
    uint64_t seed;    /* replay: order of recorded samples */
    const char *replay_reasoner; /* replay: take only this recorded reasoner; NULL: the file must hold one */
    const char *replay_prompt;   /* replay: take only this prompt; NULL: any */
    /* A remote reasoner (docs/remote.md). */
    const char *model;         /* as the server calls it; NULL: the only one it has */
    const char *api_key_file;  /* readable by its owner alone; NULL: DRR_UPSTREAM_API_KEY of the environment, and for
                                  https://api.openai.com OPENAI_API_KEY */
    const char *ca_file;       /* certificates to trust, PEM; NULL: the system's */
    uint32_t request_seconds;  /* for one question, tries and waits together; 0: 600 */
    uint32_t retries;          /* tries of one question after the first */
    uint64_t max_tokens_total; /* of all prompts and answers together; 0: no limit */
    double max_money;          /* 0: no limit; needs prices */
    double price_prompt, price_completion; /* of a million tokens, in the currency of max_money */
    const drr_hooks *hooks; /* hears of waits and of what was spent, and is asked whether to stop while a server is
                               waited for; must outlive the reasoner; may be NULL */
    /* Of an embedded reasoner: the layers whose hidden states are kept of each answer, for traces and for a critic's
     * probe (docs/model.md): "last", "12", or up to four with commas. NULL: none, which costs nothing. Others give
     * none, whatever this says, but recorded answers those that they were recorded with. */
    const char *hidden;
} drr_reasoner_options;

void drr_reasoner_options_defaults(drr_reasoner_options *options);

/* source: a short model name, a .gguf file, recorded traces (*.replay.jsonl[.gz]), or the base URL of an
 * OpenAI-compatible API ("https://host/v1"), which is asked a question of a few tokens to learn what it can do. */
drr_status drr_reasoner_open(drr_reasoner **reasoner, const char *source, const drr_reasoner_options *options,
                             drr_error *err);
void drr_reasoner_close(drr_reasoner *reasoner);
const char *drr_reasoner_id(const drr_reasoner *reasoner); /* "qwen2.5-coder-1.5b-instruct@cc324af0": name and digest,
                                                              or "name@host:port" of a remote one */
/* Human-readable facts: model, width, KV bytes, CPU path in use. Lives as long as the reasoner. */
const char *drr_reasoner_describe(const drr_reasoner *reasoner);
/* The layers whose hidden states it gives, as drr_reasoner_options.hidden names them; "" where it gives none: an
 * embedded one that was not asked to, a remote one, recorded answers without them. */
const char *drr_reasoner_hidden(const drr_reasoner *reasoner);

/* Where an embedded reasoner's time went since it was opened; zeros for others. Steps are those of all sequences
 * together: one token each, sampling included. */
typedef struct drr_reasoner_timing {
    uint64_t n_prefilled;       /* prompt tokens computed; those shared with another sequence are not */
    uint64_t n_decoded;         /* tokens that steps were made for: those written and each prompt's last */
    uint64_t n_full_width;      /* of these, in steps of all sequences */
    uint64_t n_steps, n_passes; /* a step is one pass where all its sequences are computed together */
    double prefill_seconds, decode_seconds, full_width_seconds;
} drr_reasoner_timing;
void drr_reasoner_timing_read(const drr_reasoner *reasoner, drr_reasoner_timing *timing);

typedef struct drr_quantized {
    char from[32], sha256[65]; /* the source's format, "q4_k_m"; the checksum of what was written */
    bool requantized;          /* the source was quantized already: what it lost then is lost */
    uint64_t bytes_before, bytes_after;
} drr_quantized;
/* Writes the model `source`, a short name or a .gguf file, to `out` in another format: "q8_0", "q4_k_m"; an unknown one
 * is DRR_E_ARGUMENT and lists all, as is `out` being the source. Failed or cancelled, it leaves nothing behind. */
drr_status drr_model_quantize(drr_quantized *result, const char *source, const char *format, const char *out,
                              const drr_hooks *hooks, drr_error *err);

#ifdef __cplusplus
}
#endif
#endif
