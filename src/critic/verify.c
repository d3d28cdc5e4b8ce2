/* verify.c: is a critic's file what it was when it was made? All of it is read as for scoring, and then compared with
 * what else knows it: the checksum in its model card, the logits that were stored beside its weights, and, where one is
 * named, the folder that it was exported to or another file. Looks only; mends nothing. */
#include "core/json.h"
#include "critic/gguf_internal.h"
#include "critic/hf_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sums are in another order on another CPU: that moves a logit by about 1e-5. What moves it by more is another weight,
 * or a processor that computes wrongly. The same weights on one machine give the same bits. */
static const double FARTHEST_PROBE = 1e-3, FARTHEST_LOGIT = 1e-4;
static const size_t LARGEST_CARD = (size_t)1 << 20;

const char *drr_finding_name(drr_finding_outcome outcome)
{
    static const char *const names[] = {"good", "wrong", "not there"};
    return (size_t)outcome < sizeof names / sizeof *names ? names[outcome] : "?";
}

static void find(drr_verification *v, const char *what, drr_finding_outcome outcome, double difference,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
static void find(drr_verification *v, const char *what, drr_finding_outcome outcome, double difference,
                 const char *format, ...)
{
    drr_finding *f = &v->findings[v->n_findings++];
    va_list arguments;
    *f = (drr_finding){.what = what, .outcome = outcome, .difference = difference};
    va_start(arguments, format);
    vsnprintf(f->words, sizeof f->words, format, arguments);
    va_end(arguments);
    v->n_wrong += outcome == DRR_FINDING_WRONG;
}

/* Is it the machine's or the caller's trouble, and says nothing of the file? */
static bool is_trouble(drr_status status)
{
    return status == DRR_E_MEMORY || status == DRR_E_NOT_FOUND || status == DRR_E_IO;
}

/* ---- the file by itself */

static drr_status look_at_bytes(drr_verification *v, const char *path, const drr_critic *critic, drr_error *err)
{
    tensorfile f = {0};
    drr_critic_info info;
    drr_status status = tensorfile_open(&f, path, err);
    if (status != DRR_OK)
        return status;
    drr_critic_describe(critic, &info);
    if (f.map.size > f.end)
        find(v, "file", DRR_FINDING_WRONG, NAN,
             "%s: %zu bytes behind the last tensor belong to nothing; cut them off, or take the file from where it was "
             "made",
             path, f.map.size - f.end);
    else if (f.map.size < f.end)
        find(v, "file", DRR_FINDING_WRONG, NAN, "%s: its last %zu bytes are missing; copy it again", path,
             f.end - f.map.size);
    else
        find(v, "file", DRR_FINDING_GOOD, NAN, "%zu keys and %zu tensors; %llu weights, all finite; %u tokens",
             f.n_keys, f.n_tensors, (unsigned long long)info.n_parameters, info.n_vocab);
    tensorfile_close(&f);
    return DRR_OK;
}

/* critic.gguf: critic.card.md */
static drr_status card_beside(buffer *card, const char *path, drr_error *err)
{
    size_t stem;
    const char *file = file_name(path, &stem);
    drr_status status = buffer_append(card, path, (size_t)(file - path) + stem, err);
    return status == DRR_OK ? buffer_puts(card, ".card.md", err) : status;
}

/* The checksum that a card speaks of, or "". */
static void checksum_in(char hex[65], const char *card)
{
    static const char row[] = "| SHA-256 of the file | ";
    const char *at = strstr(card, row);
    *hex = '\0';
    if (at && strspn(at + sizeof row - 1, "0123456789abcdef") == 64)
        snprintf(hex, 65, "%s", at + sizeof row - 1);
}

static drr_status look_at_card(drr_verification *v, const char *path, drr_error *err)
{
    buffer card = {0};
    char *text = NULL, hex[65];
    drr_status status = card_beside(&card, path, err);
    if (status == DRR_OK && !file_exists(card.data))
        find(v, "card", DRR_FINDING_ABSENT, NAN, "there is no %s", card.data);
    else if (status == DRR_OK)
        status = file_read(&text, NULL, card.data, LARGEST_CARD, err);
    if (status != DRR_OK || !text)
        goto done;
    checksum_in(hex, text);
    if (!*hex)
        find(v, "card", DRR_FINDING_ABSENT, NAN, "%s has no SHA-256 to compare with", card.data);
    else if (strcmp(hex, v->sha256) == 0)
        find(v, "card", DRR_FINDING_GOOD, NAN, "%s has the same SHA-256", card.data);
    else
        find(v, "card", DRR_FINDING_WRONG, NAN,
             "%s: its SHA-256 is %s, and %s was written for a file with %s: one of the two was changed or replaced "
             "since; "
             "take both from where they were made",
             path, v->sha256, card.data, hex);
done:
    free(text);
    buffer_clear(&card);
    return status;
}

/* Logits of all probes, in fp32; one by one, as they were made, for a batch's sums are in another order. */
static drr_status score_probes(double *logits, drr_critic *critic, const critic_probe *probes, uint32_t n,
                               drr_error *err)
{
    drr_status status = DRR_OK;
    for (uint32_t i = 0; status == DRR_OK && i < n; i++) {
        const drr_score_item item = {probes[i].question, probes[i].text, NULL};
        drr_score score = {0};
        status = drr_critic_score(critic, &score, &item, 1, err);
        logits[i] = score.logit;
    }
    return status;
}

static drr_status look_at_probes(drr_verification *v, const char *path, drr_critic *critic, drr_error *err)
{
    const critic_meta *m = critic_get_meta(critic);
    double logits[CRITIC_MOST_PROBES], farthest = 0;
    uint32_t which = 0;
    if (m->n_probes == 0) {
        find(v, "probes", DRR_FINDING_ABSENT, NAN, "none are stored: %s",
             m->no_encoder ? "a probe alone reads no text" : "an older drr wrote the file");
        return DRR_OK;
    }
    drr_status status = score_probes(logits, critic, m->probes, m->n_probes, err);
    if (status != DRR_OK)
        return status;
    for (uint32_t i = 0; i < m->n_probes; i++)
        if (!(fabs(logits[i] - m->probes[i].logit) <= farthest)) {
            farthest = fabs(logits[i] - m->probes[i].logit);
            which = i;
        }
    if (farthest <= FARTHEST_PROBE)
        find(v, "probes", DRR_FINDING_GOOD, farthest, "%u texts score as when it was made, to within %.1g", m->n_probes,
             farthest);
    else
        find(
            v, "probes", DRR_FINDING_WRONG, farthest,
            "%s: stored text %u, \"%.60s\", scored %.6g when the critic was made and scores %.6g now: its weights were "
            "changed, or this machine computes otherwise (`drr doctor`); take the file from where it was made",
            path, which + 1, m->probes[which].question, m->probes[which].logit, logits[which]);
    return DRR_OK;
}

/* ---- against another */

/* What is not the same, in words for the end of a sentence; "" where all is. */
typedef struct contrast {
    char words[320];
} contrast;

static void contrast_shapes(contrast *c, const encoder *a, const encoder *b)
{
    if (a->n_tensors != b->n_tensors) {
        snprintf(c->words, sizeof c->words, "has %zu tensors and not %zu", b->n_tensors, a->n_tensors);
        return;
    }
    for (size_t i = 0; i < a->n_tensors && !*c->words; i++) {
        const encoder_tensor *t = &a->tensors[i], *u = &b->tensors[i];
        if (strcmp(t->name, u->name) != 0 || t->rows != u->rows || t->columns != u->columns)
            snprintf(c->words, sizeof c->words, "has %s of %u x %u where %s is %u x %u", u->name, u->rows, u->columns,
                     t->name, t->rows, t->columns);
    }
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* Of the token types row 0 alone counts: an export writes it into every row. */
static void contrast_weights(contrast *c, const encoder *a, const encoder *b)
{
    size_t n_other = 0;
    for (size_t i = 0; i < a->n_tensors; i++) {
        const encoder_tensor *t = &a->tensors[i];
        const size_t rows = strcmp(t->name, "token_types.weight") == 0 ? 1 : t->rows;
        const float *x = a->parameters + t->offset, *y = b->parameters + t->offset;
        for (size_t k = 0; k < rows * t->columns; k++)
            if (!same_bits(x[k], y[k]) && n_other++ == 0)
                snprintf(c->words, sizeof c->words, "has other weights, the first %s[%zu], %.9g and not %.9g", t->name,
                         k, (double)y[k], (double)x[k]);
    }
}

static void contrast_tokens(contrast *c, const wordpiece *a, const wordpiece *b)
{
    if (wordpiece_size(a) != wordpiece_size(b) || wordpiece_lowercase(a) != wordpiece_lowercase(b)) {
        snprintf(c->words, sizeof c->words, "has a vocabulary of %zu %s tokens and not of %zu %s ones",
                 wordpiece_size(b), wordpiece_lowercase(b) ? "uncased" : "cased", wordpiece_size(a),
                 wordpiece_lowercase(a) ? "uncased" : "cased");
        return;
    }
    for (size_t i = 0; i < wordpiece_size(a) && !*c->words; i++)
        if (strcmp(wordpiece_token(a, i), wordpiece_token(b, i)) != 0)
            snprintf(c->words, sizeof c->words, "has \"%.60s\" for token %zu and not \"%.60s\"", wordpiece_token(b, i),
                     i, wordpiece_token(a, i));
}

/* Threshold, calibration, stack, promises and all else that is not in the encoder. */
static void contrast_meta(contrast *c, const drr_critic *a, const drr_critic *b)
{
    json_t *x = critic_meta_json(critic_get_meta(a), critic_encoder(a)->head, "");
    json_t *y = critic_meta_json(critic_get_meta(b), critic_encoder(b)->head, ""), *value;
    const char *field;
    if (!x || !y)
        snprintf(c->words, sizeof c->words, "cannot be compared: a name is not UTF-8");
    json_object_foreach(x, field, value)
    {
        if (*c->words || json_equal(value, json_object_get(y, field)))
            continue;
        char *own = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT),
             *other = json_dumps(json_object_get(y, field), JSON_ENCODE_ANY | JSON_COMPACT);
        snprintf(c->words, sizeof c->words, "has another \"%s\", %.90s and not %.90s", field, other ? other : "none",
                 own ? own : "none");
        free(own);
        free(other);
    }
    json_decref(x);
    json_decref(y);
}

/* The largest difference between the logits of the two on drr's own texts. */
static drr_status contrast_logits(double *farthest, uint32_t *n, drr_critic *a, drr_critic *b, drr_error *err)
{
    critic_meta texts = {.max_length = critic_get_meta(a)->max_length};
    double logits[CRITIC_MOST_PROBES];
    drr_status status = critic_probes_make(&texts, critic_encoder(a), critic_wordpiece(a), err);
    if (status == DRR_OK)
        status = score_probes(logits, b, texts.probes, texts.n_probes, err);
    *farthest = 0;
    *n = texts.n_probes;
    for (uint32_t i = 0; status == DRR_OK && i < texts.n_probes; i++)
        if (!(fabs(logits[i] - texts.probes[i].logit) <= *farthest))
            *farthest = fabs(logits[i] - texts.probes[i].logit);
    critic_meta_clear(&texts);
    return status;
}

static drr_status open_other(drr_critic **other, bool *foreign, const char *path, drr_error *err)
{
    *foreign = false;
    return file_is_folder(path) ? critic_open_folder(other, foreign, path, path, err)
                                : drr_critic_open(other, path, err);
}

static drr_status look_at_other(drr_verification *v, const char *against, drr_critic *critic, drr_error *err)
{
    drr_critic *other = NULL;
    bool foreign;
    contrast c = {""};
    double farthest = 0;
    uint32_t n = 0;
    drr_error why = {0};
    drr_status status = open_other(&other, &foreign, against, &why);
    if (status != DRR_OK && is_trouble(status)) {
        if (err)
            *err = why;
        return status;
    }
    if (status != DRR_OK) {
        const bool named = strstr(why.message, against) != NULL;
        find(v, "against", DRR_FINDING_WRONG, NAN, "%s%s%s", named ? "" : against, named ? "" : ": ", why.message);
        return DRR_OK;
    }
    if (!critic_encoder(critic) || !critic_encoder(other)) {
        find(v, "against", DRR_FINDING_WRONG, NAN,
             "%s cannot be compared: a probe alone has no encoder; leave out --against", against);
        drr_critic_close(other);
        return DRR_OK;
    }
    contrast_shapes(&c, critic_encoder(critic), critic_encoder(other));
    if (!*c.words)
        contrast_tokens(&c, critic_wordpiece(critic), critic_wordpiece(other));
    if (!*c.words)
        contrast_weights(&c, critic_encoder(critic), critic_encoder(other));
    if (!*c.words && !foreign)
        contrast_meta(&c, critic, other);
    status = contrast_logits(&farthest, &n, critic, other, err);
    drr_critic_close(other);
    if (status != DRR_OK)
        return status;
    if (!*c.words && farthest <= FARTHEST_LOGIT)
        find(v, "against", DRR_FINDING_GOOD, farthest,
             "%s has the same weights and tokens%s, and %u texts score the same, to within %.1g", against,
             foreign ? "" : ", calibration and threshold", n, farthest);
    else
        find(v, "against", DRR_FINDING_WRONG, farthest,
             "%s %s; logits differ by up to %.3g: it is of another critic, or one of the two was changed since; export "
             "it again",
             against, *c.words ? c.words : "computes other logits", farthest);
    return DRR_OK;
}

/* ---- all of it */

drr_status drr_critic_verify(drr_verification *out, const char *path, const char *against, drr_error *err)
{
    drr_verification v = {.n_findings = 0};
    drr_critic *critic = NULL;
    drr_error why = {0};
    drr_status status = sha256_file(v.sha256, path, err);
    if (status != DRR_OK)
        return status;
    status = drr_critic_open(&critic, path, &why);
    if (status != DRR_OK && is_trouble(status)) {
        if (err)
            *err = why;
        return status;
    }
    if (status == DRR_OK)
        status = look_at_bytes(&v, path, critic, err);
    else {
        find(&v, "file", DRR_FINDING_WRONG, NAN, "%s", why.message);
        status = DRR_OK;
    }
    if (status == DRR_OK)
        status = look_at_card(&v, path, err);
    if (status == DRR_OK && critic)
        status = look_at_probes(&v, path, critic, err);
    if (status == DRR_OK && critic && against)
        status = look_at_other(&v, against, critic, err);
    drr_critic_close(critic);
    if (status == DRR_OK)
        *out = v;
    return status;
}
