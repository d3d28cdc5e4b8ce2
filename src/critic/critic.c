/* critic.c: an open critic: its file's parts (gguf.c reads them), a workspace that grows with the batches it is given,
 * and scoring: tokenise, one packed pass of the encoder, calibration or the stack. */
#include "critic/critic.h"
#include "critic/encoder_layers.h"
#include "critic/gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 4096, MOST_SEQUENCES = 64 }; /* of one pass; more is scored in several */

struct drr_critic {
    encoder *e;
    wordpiece *tokenizer;
    critic_meta meta;
    char sha256[65];
    char probe_layer[16], probe_pools[16];
    encoder_workspace *workspace; /* for MOST_TOKENS, or for one item's when scoring one by one */
    size_t room_tokens, room_sequences;
    int32_t *ids;
    uint32_t *starts;
    float *logits;
};

void critic_meta_clear(critic_meta *meta)
{
    free(meta->name);
    free(meta->reasoner);
    free(meta->prompt);
    free(meta->encoder);
    free(meta->tasks);
    free(meta->created);
    probe_clear(&meta->probe);
    for (uint32_t i = 0; i < meta->n_probes; i++) {
        free(meta->probes[i].question);
        free(meta->probes[i].text);
    }
    *meta = (critic_meta){0};
}

drr_critic_kind critic_meta_kind(const critic_meta *meta)
{
    return meta->no_encoder ? DRR_CRITIC_PROBE : meta->probe.reasoner ? DRR_CRITIC_STACK : DRR_CRITIC_ENCODER;
}

double critic_meta_p_text(const critic_meta *meta, double logit)
{
    if (meta->text_curve.n)
        return curve_at(&meta->text_curve, logit);
    return 1 / (1 + exp(-(meta->calibration.a * logit + meta->calibration.b)));
}

double critic_meta_p(const critic_meta *meta, double logit, const drr_features *features)
{
    double values[STACK_MAX_FEATURES];
    if (!meta->has_stack || !features)
        return critic_meta_p_text(meta, logit);
    stack_features(values, meta->no_encoder ? NAN : logit, features);
    return meta->has_stack_calibration ? calibration_apply(&meta->stack_calibration, stack_logit(&meta->stack, values))
                                       : stack_predict(&meta->stack, values);
}

drr_status critic_of_parts(drr_critic **critic, encoder *e, wordpiece *tokenizer, const critic_meta *meta,
                           const char hex[65], drr_error *err)
{
    drr_critic *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err);
    c->ids = calloc((size_t)MOST_TOKENS + meta->max_length, sizeof *c->ids);
    c->starts = calloc(MOST_SEQUENCES + 1, sizeof *c->starts);
    c->logits = calloc(MOST_SEQUENCES, sizeof *c->logits);
    if (!c->ids || !c->starts || !c->logits) {
        drr_critic_close(c);
        return error_memory(err);
    }
    c->e = e;
    c->tokenizer = tokenizer;
    c->meta = *meta;
    memcpy(c->sha256, hex, sizeof c->sha256);
    hidden_layer_name(c->probe_layer, c->meta.probe.layer);
    probe_pools_text(c->probe_pools, &c->meta.probe);
    *critic = c;
    return DRR_OK;
}

drr_status drr_critic_open(drr_critic **critic, const char *path, drr_error *err)
{
    encoder *e = NULL;
    wordpiece *tokenizer = NULL;
    critic_meta meta = {0};
    char hex[65];
    drr_status status = critic_read(path, &e, &tokenizer, &meta, hex, err);
    if (status == DRR_OK)
        status = critic_of_parts(critic, e, tokenizer, &meta, hex, err);
    if (status != DRR_OK) {
        encoder_free(e);
        wordpiece_free(tokenizer);
        critic_meta_clear(&meta);
    }
    return status;
}

bool drr_critic_reads_questions(const drr_critic *critic)
{
    return critic->meta.prompt && strcmp(critic->meta.prompt, CRITIC_QUESTION_PROMPT) == 0;
}

void drr_critic_close(drr_critic *critic)
{
    if (!critic)
        return;
    encoder_workspace_free(critic->workspace);
    encoder_free(critic->e);
    wordpiece_free(critic->tokenizer);
    critic_meta_clear(&critic->meta);
    free(critic->ids);
    free(critic->starts);
    free(critic->logits);
    free(critic);
}

const char *drr_precision_name(drr_precision precision)
{
    static const char *const names[] = {"auto", "fp32", "bf16", "int8"};
    return (size_t)precision < sizeof names / sizeof *names ? names[precision] : "?";
}

drr_status drr_precision_parse(drr_precision *precision, const char *name, drr_error *err)
{
    for (int i = DRR_PRECISION_AUTO; i <= DRR_PRECISION_INT8; i++)
        if (strcmp(name, drr_precision_name((drr_precision)i)) == 0) {
            *precision = (drr_precision)i;
            return DRR_OK;
        }
    return error_set(err, DRR_E_ARGUMENT, "\"%s\" is no precision: auto, fp32, bf16 and int8 are", name);
}

drr_status drr_critic_set_precision(drr_critic *critic, drr_precision precision, drr_error *err)
{
    drr_status status = encoder_set_precision(critic->e, &precision, err);
    encoder_workspace_free(critic->workspace); /* it was planned for the other */
    critic->workspace = NULL;
    return status;
}

/* Few tokens need little memory: an application that scores turn by turn never pays for batches of 64. */
static drr_status make_room(drr_critic *c, size_t tokens, size_t sequences, drr_error *err)
{
    if (c->workspace && tokens <= c->room_tokens && sequences <= c->room_sequences)
        return DRR_OK;
    const bool small = sequences <= 4 && tokens <= (size_t)4 * c->meta.max_length;
    const size_t room_tokens = small ? (size_t)4 * c->meta.max_length : (size_t)MOST_TOKENS + c->meta.max_length;
    const size_t room_sequences = small ? 4 : MOST_SEQUENCES;
    encoder_workspace *w;
    drr_status status = encoder_workspace_plan(&w, c->e, room_tokens, room_sequences, c->meta.max_length, false, err);
    if (status != DRR_OK)
        return status;
    encoder_workspace_free(c->workspace);
    c->workspace = w;
    c->room_tokens = room_tokens;
    c->room_sequences = room_sequences;
    return DRR_OK;
}

/* Packs items from `at` on; *taken of them. */
static drr_status pack(drr_critic *c, const drr_score_item *items, size_t n, size_t *taken, drr_error *err)
{
    size_t tokens = 0, i = 0;
    drr_status status = DRR_OK;
    c->starts[0] = 0;
    for (; status == DRR_OK && i < n && i < MOST_SEQUENCES && tokens < MOST_TOKENS; i++) {
        bool truncated;
        size_t length;
        status = wordpiece_encode_pair(c->tokenizer, items[i].question, items[i].text, c->meta.max_length,
                                       c->ids + tokens, &length, &truncated, err);
        if (status == DRR_OK)
            tokens += length;
        c->starts[i + 1] = (uint32_t)tokens;
    }
    *taken = i;
    return status == DRR_OK ? make_room(c, tokens, i, err) : status;
}

double drr_critic_combine(const drr_critic *critic, double logit, const drr_features *features)
{
    return critic_meta_p(&critic->meta, logit, features);
}

drr_status critic_score_counted(drr_critic *critic, drr_score *scores, uint32_t *n_tokens, const drr_score_item *items,
                                size_t n, drr_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!items[i].question || !items[i].text)
            return error_set(err, DRR_E_ARGUMENT, "item %zu of %zu to score has no question or no text", i, n);
    for (size_t i = 0; i < n && !critic->e; i++) {
        const double logit = items[i].features ? items[i].features->probe : NAN;
        scores[i] = (drr_score){logit, drr_critic_combine(critic, logit, items[i].features)};
        if (n_tokens)
            n_tokens[i] = 0;
    }
    for (size_t at = 0, taken; at < n && critic->e; at += taken) {
        drr_status status = pack(critic, items + at, n - at, &taken, err);
        if (status == DRR_OK)
            status =
                encoder_logits(critic->e, critic->workspace, critic->ids, critic->starts, taken, critic->logits, err);
        if (status != DRR_OK)
            return status;
        for (size_t i = 0; i < taken; i++) {
            const double logit = (double)critic->logits[i];
            scores[at + i] = (drr_score){logit, drr_critic_combine(critic, logit, items[at + i].features)};
            if (n_tokens)
                n_tokens[at + i] = critic->starts[i + 1] - critic->starts[i];
        }
    }
    return DRR_OK;
}

drr_status drr_critic_score(drr_critic *critic, drr_score *scores, const drr_score_item *items, size_t n,
                            drr_error *err)
{
    return critic_score_counted(critic, scores, NULL, items, n, err);
}

void critic_shed(drr_critic *critic)
{
    encoder_workspace_free(critic->workspace);
    encoder_free(critic->e);
    wordpiece_free(critic->tokenizer);
    free(critic->ids);
    free(critic->starts);
    free(critic->logits);
    critic->workspace = NULL;
    critic->e = NULL;
    critic->tokenizer = NULL;
    critic->ids = NULL;
    critic->starts = NULL;
    critic->logits = NULL;
}

/* The rows to read of an encoded text: each place once, in order, and the last token. rows has room for n_steps + 1. */
static size_t rows_of(uint32_t *rows, const uint32_t *places, size_t n_steps, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < n_steps; i++)
        if (places[i] != WORDPIECE_NOWHERE && (n == 0 || places[i] > rows[n - 1]))
            rows[n++] = places[i];
    rows[n++] = (uint32_t)length - 1;
    return n;
}

static drr_status score_rows(drr_critic *c, drr_score *score, drr_step_score *steps, const drr_score_item *item,
                             const uint32_t *ends, size_t n_steps, uint32_t *places, uint32_t *rows, float *logits,
                             drr_error *err)
{
    size_t taken = 0;
    drr_status status = pack(c, item, 1, &taken, err);
    if (status == DRR_OK)
        status = wordpiece_step_places(places, c->tokenizer, item->text, ends, n_steps, c->ids, c->starts[1], err);
    if (status != DRR_OK)
        return status;
    const uint32_t row_starts[2] = {0, (uint32_t)rows_of(rows, places, n_steps, c->starts[1])};
    status = encoder_logits_at(c->e, c->workspace, c->ids, c->starts, 1, rows, row_starts, logits, err);
    if (status != DRR_OK)
        return status;
    const double logit = (double)logits[row_starts[1] - 1];
    *score = (drr_score){logit, drr_critic_combine(c, logit, item->features)};
    for (size_t i = 0, row = 0; i < n_steps; i++) {
        const bool known = places[i] != WORDPIECE_NOWHERE;
        while (known && rows[row] < places[i])
            row++;
        const double x = known ? (double)logits[row] : NAN;
        steps[i] = (drr_step_score){ends[i], x, 1 / (1 + exp(-x))};
    }
    return DRR_OK;
}

drr_status critic_check_steps(const drr_critic *critic, drr_error *err)
{
    if (!critic->e)
        return error_set(err, DRR_E_MISMATCH,
                         "the critic %s is a probe, which reads no text and has no score for a step: `drr train "
                         "--steps`, or --head token, makes one that has",
                         critic->meta.name);
    return critic->e->head == DRR_HEAD_TOKEN
               ? DRR_OK
               : error_set(err, DRR_E_MISMATCH,
                           "the critic%s%s reads its score at [CLS] and has none for a step: `drr train --steps`, or "
                           "--head token, makes one that has",
                           critic->meta.name && *critic->meta.name ? " " : "",
                           critic->meta.name ? critic->meta.name : "");
}

drr_status drr_critic_score_steps(drr_critic *critic, drr_score *score, drr_step_score *steps,
                                  const drr_score_item *item, const uint32_t *ends, size_t n_steps, drr_error *err)
{
    drr_status status = critic_check_steps(critic, err);
    if (status != DRR_OK)
        return status;
    if (!item->question || !item->text)
        return error_set(err, DRR_E_ARGUMENT, "the item to score has no question or no text");
    const size_t size = strlen(item->text);
    for (size_t i = 0; i < n_steps; i++)
        if (ends[i] > size || ends[i] <= (i ? ends[i - 1] : 0))
            return error_set(err, DRR_E_ARGUMENT,
                             "step %zu ends at byte %u: ends must rise, and lie within the text's %zu bytes", i + 1,
                             ends[i], size);
    uint32_t *places = calloc(n_steps + 1, sizeof *places), *rows = calloc(n_steps + 1, sizeof *rows);
    float *logits = calloc(n_steps + 1, sizeof *logits);
    status = places && rows && logits ? score_rows(critic, score, steps, item, ends, n_steps, places, rows, logits, err)
                                      : error_memory(err);
    free(places);
    free(rows);
    free(logits);
    return status;
}

const char *drr_head_name(drr_head head)
{
    return head == DRR_HEAD_CLS ? "cls" : head == DRR_HEAD_TOKEN ? "token" : "?";
}

void drr_critic_describe(const drr_critic *critic, drr_critic_info *info)
{
    const critic_meta *m = &critic->meta;
    static const encoder_shape none = {0};
    const encoder_shape *s = critic->e ? &critic->e->shape : &none;
    const bool probes = m->probe.reasoner != NULL;
    *info = (drr_critic_info){.name = m->name,
                              .sha256 = critic->sha256,
                              .reasoner = m->reasoner,
                              .prompt = m->prompt,
                              .encoder = m->encoder,
                              .tasks = m->tasks,
                              .created = m->created,
                              .threshold = m->threshold,
                              .max_length = m->max_length,
                              .n_layers = s->n_layers,
                              .n_embd = s->n_embd,
                              .n_vocab = s->n_vocab,
                              .n_parameters = critic->e ? critic->e->n_parameters : 0,
                              .n_train_questions = m->n_train_questions,
                              .n_train_traces = m->n_train_traces,
                              .has_stack = m->has_stack,
                              .head = critic->e ? critic->e->head : DRR_HEAD_CLS,
                              .n_train_steps = m->n_train_steps,
                              .n_train_beginnings = m->n_train_beginnings,
                              .kind = critic_meta_kind(m),
                              .probe_reasoner = probes ? m->probe.reasoner : "",
                              .probe_layer = probes ? critic->probe_layer : "",
                              .probe_pools = probes ? critic->probe_pools : "",
                              .n_guarantees = m->n_guarantees};
    const calibration text = {m->calibration, m->text_curve};
    info->calibration = calibration_name(calibration_kind_of(&text));
    info->stack_calibration =
        calibration_name(m->has_stack_calibration ? calibration_kind_of(&m->stack_calibration) : CALIBRATION_NONE);
    memcpy(info->guarantees, m->guarantees, sizeof info->guarantees);
}

const encoder *critic_encoder(const drr_critic *critic)
{
    return critic->e;
}

const wordpiece *critic_wordpiece(const drr_critic *critic)
{
    return critic->tokenizer;
}

const critic_meta *critic_get_meta(const drr_critic *critic)
{
    return &critic->meta;
}

double drr_critic_probe(const drr_critic *critic, const void *hidden, size_t hidden_size, const drr_token_stats *stats)
{
    return probe_logit(&critic->meta.probe, hidden, hidden_size, stats);
}

drr_status drr_critic_export(const drr_critic *critic, const char *folder, drr_error *err)
{
    if (critic->meta.probe.reasoner)
        return error_set(err, DRR_E_ARGUMENT,
                         "the critic %s has a probe, which judges by hidden states that no other program hands it; "
                         "export one of `drr train --kind encoder`",
                         critic->meta.name);
    return critic_export_hf(critic, folder, err);
}
