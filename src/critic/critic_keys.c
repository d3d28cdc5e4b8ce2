/* critic_keys.c: the keys of a critic file that need not be there: curves of isotonic calibrations, the calibration of
 * the stack, guarantees, a probe's weights, and the texts that `drr critic verify` scores again (docs/formats.md,
 * "Critic file"). What critics written before them lack, they do without.
 */
#include "critic/critic_keys_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const guarantee_names[DRR_GUARANTEES] = {"verdict", "loop"};

static const struct {
    const char *name;
    size_t offset; /* of a double in drr_guarantee */
} shares[] = {{"target_error", offsetof(drr_guarantee, target_error)},
              {"delta", offsetof(drr_guarantee, delta)},
              {"threshold", offsetof(drr_guarantee, threshold)},
              {"p_value", offsetof(drr_guarantee, p_value)},
              {"bound", offsetof(drr_guarantee, bound)}};
static const struct {
    const char *name;
    size_t offset; /* of a uint64_t in drr_guarantee */
} counts[] = {{"n", offsetof(drr_guarantee, n)},
              {"n_accepted", offsetof(drr_guarantee, n_accepted)},
              {"n_wrong", offsetof(drr_guarantee, n_wrong)}};
/* Questions, texts and logits; and what these keys were called when a critic's probe did not yet have the name. */
static const char *const verify_keys[2][3] = {{"drr.verify.questions", "drr.verify.texts", "drr.verify.logits"},
                                              {"drr.probe.questions", "drr.probe.texts", "drr.probe.logits"}};
enum { N_SHARES = sizeof shares / sizeof *shares, N_COUNTS = sizeof counts / sizeof *counts, MOST_TURNS = 1024 };

static double *share_of(const drr_guarantee *g, size_t i)
{
    return (double *)((uintptr_t)g + shares[i].offset);
}

static uint64_t *count_of(const drr_guarantee *g, size_t i)
{
    return (uint64_t *)((uintptr_t)g + counts[i].offset);
}

/* "drr.guarantee.loop.threshold" */
static const char *key_of(char key[80], size_t which, const char *name)
{
    snprintf(key, 80, "drr.guarantee.%s.%s", guarantee_names[which], name);
    return key;
}

/* Which of the two it is: of one turn, or of several. */
static size_t place_of(const drr_guarantee *g)
{
    return g->turns > 1;
}

/* ---- what may be written and read */

static bool curve_is_good(const curve *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (!isfinite(c->x[i]) || !(c->y[i] > 0 && c->y[i] < 1) ||
            (i && !(c->x[i] > c->x[i - 1] && c->y[i] >= c->y[i - 1])))
            return false;
    return c->n <= CURVE_MOST_KNOTS;
}

static bool guarantee_is_good(const drr_guarantee *g)
{
    const bool open = g->target_error > 0 && g->target_error < 1 && g->delta > 0 && g->delta < 1;
    return open && g->turns >= 1 && g->turns <= MOST_TURNS && g->threshold >= 0 && g->threshold <= 1 &&
           g->p_value >= 0 && g->p_value <= g->delta && g->bound >= 0 && g->bound <= 1 && g->n_wrong <= g->n_accepted &&
           g->n_accepted <= g->n;
}

/* ---- quantiles of scores */

enum { N_QUANTILES = 33, LEAST_SCORES = 20 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void critic_quantiles_make(critic_meta *meta, double *logits, size_t n)
{
    meta->n_quantiles = 0;
    meta->n_scores = 0;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(logits[i]))
            return;
    if (n < LEAST_SCORES)
        return;
    qsort(logits, n, sizeof *logits, by_value);
    for (uint32_t i = 0; i < N_QUANTILES; i++) {
        const double place = (double)(n - 1) * i / (N_QUANTILES - 1);
        const size_t below = (size_t)place, above = below + 1 < n ? below + 1 : below;
        meta->quantiles[i] = logits[below] + (place - (double)below) * (logits[above] - logits[below]);
    }
    meta->n_quantiles = N_QUANTILES;
    meta->n_scores = n;
}

bool critic_quantiles_are_good(const critic_meta *m)
{
    if (m->n_quantiles == 0)
        return true;
    for (uint32_t i = 0; i < m->n_quantiles && i < CRITIC_MOST_QUANTILES; i++)
        if (!isfinite(m->quantiles[i]) || (i && m->quantiles[i] < m->quantiles[i - 1]))
            return false;
    return m->n_quantiles >= 2 && m->n_quantiles <= CRITIC_MOST_QUANTILES && m->n_scores > 0;
}

drr_status critic_keys_check(const critic_meta *m, drr_error *err)
{
    if (!critic_quantiles_are_good(m))
        return error_set(err, DRR_E_ARGUMENT, "the quantiles of the critic's scores do not rise, or are of no score");
    if (!curve_is_good(&m->text_curve) || (m->has_stack_calibration && !curve_is_good(&m->stack_calibration.steps)))
        return error_set(err, DRR_E_ARGUMENT, "a curve of the critic's calibration does not rise within 0 and 1");
    if (m->has_stack_calibration &&
        (!m->has_stack || !isfinite(m->stack_calibration.line.a) || !isfinite(m->stack_calibration.line.b)))
        return error_set(err, DRR_E_ARGUMENT,
                         "the calibration of the critic's stack is not finite, or without a stack");
    for (uint32_t i = 0; i < m->n_guarantees; i++)
        if (i >= DRR_GUARANTEES || !m->guarantees[i].found || !guarantee_is_good(&m->guarantees[i]) ||
            place_of(&m->guarantees[i]) < i)
            return error_set(err, DRR_E_ARGUMENT, "guarantee %u of the critic says what cannot be", i + 1);
    if (m->probe.reasoner && !probe_is_good(&m->probe))
        return error_set(err, DRR_E_ARGUMENT, "the critic's probe has a number that is not finite: its fit failed");
    for (uint32_t i = 0; i < m->n_probes; i++)
        if (i >= CRITIC_MOST_PROBES || !m->probes[i].question || !m->probes[i].text || !isfinite(m->probes[i].logit))
            return error_set(err, DRR_E_ARGUMENT, "probe %u of the critic has no text or no logit", i + 1);
    return DRR_OK;
}

/* ---- writing */

static void add_curve(tensorfile_builder *b, const char *x, const char *y, const curve *c)
{
    if (c->n == 0)
        return;
    tensorfile_add_f64s(b, x, c->x, c->n);
    tensorfile_add_f64s(b, y, c->y, c->n);
}

static void add_guarantee(tensorfile_builder *b, const drr_guarantee *g)
{
    const size_t which = place_of(g);
    char key[80];
    tensorfile_add_u32(b, key_of(key, which, "turns"), g->turns);
    tensorfile_add_string(b, key_of(key, which, "test"), drr_risk_test_name(g->test));
    for (size_t i = 0; i < N_SHARES; i++)
        tensorfile_add_f64(b, key_of(key, which, shares[i].name), *share_of(g, i));
    for (size_t i = 0; i < N_COUNTS; i++)
        tensorfile_add_u64(b, key_of(key, which, counts[i].name), *count_of(g, i));
    if (isfinite(g->temperature))
        tensorfile_add_f64(b, key_of(key, which, "temperature"), g->temperature);
}

static void add_probes(tensorfile_builder *b, const critic_meta *m)
{
    double logits[CRITIC_MOST_PROBES];
    if (m->n_probes == 0)
        return;
    tensorfile_begin_array(b, verify_keys[0][0], GGUF_STRING, m->n_probes);
    for (uint32_t i = 0; i < m->n_probes; i++)
        tensorfile_put_string(b, "", m->probes[i].question);
    tensorfile_begin_array(b, verify_keys[0][1], GGUF_STRING, m->n_probes);
    for (uint32_t i = 0; i < m->n_probes; i++) {
        tensorfile_put_string(b, "", m->probes[i].text);
        logits[i] = m->probes[i].logit;
    }
    tensorfile_add_f64s(b, verify_keys[0][2], logits, m->n_probes);
}

uint32_t critic_keys_version(const critic_meta *m, drr_head head)
{
    return m->probe.reasoner ? 4 : head != DRR_HEAD_CLS ? 3 : m->text_curve.n || m->has_stack_calibration ? 2 : 1;
}

void critic_keys_add(tensorfile_builder *b, const critic_meta *m, drr_head head)
{
    if (head != DRR_HEAD_CLS) {
        tensorfile_add_string(b, "drr.head", drr_head_name(head));
        tensorfile_add_u64(b, "drr.n_train_steps", m->n_train_steps);
    }
    if (m->n_train_beginnings)
        tensorfile_add_u64(b, "drr.n_train_beginnings", m->n_train_beginnings);
    add_curve(b, "drr.calibration.x", "drr.calibration.y", &m->text_curve);
    if (m->has_stack_calibration) {
        tensorfile_add_f64(b, "drr.stack.calibration.a", m->stack_calibration.line.a);
        tensorfile_add_f64(b, "drr.stack.calibration.b", m->stack_calibration.line.b);
        add_curve(b, "drr.stack.calibration.x", "drr.stack.calibration.y", &m->stack_calibration.steps);
    }
    for (uint32_t i = 0; i < m->n_guarantees; i++)
        add_guarantee(b, &m->guarantees[i]);
    if (m->probe.reasoner)
        probe_keys_add(b, &m->probe);
    add_probes(b, m);
    if (m->n_quantiles) {
        tensorfile_add_f64s(b, "drr.scores.quantiles", m->quantiles, m->n_quantiles);
        tensorfile_add_u64(b, "drr.scores.n", m->n_scores);
    }
}

/* ---- reading */

drr_status critic_keys_head(drr_head *head, const tensorfile *f, drr_error *err)
{
    char *name = NULL;
    *head = DRR_HEAD_CLS;
    if (!tensorfile_find(f, "drr.head"))
        return DRR_OK;
    drr_status status = tensorfile_string(&name, f, "drr.head", err);
    if (status == DRR_OK && strcmp(name, drr_head_name(DRR_HEAD_TOKEN)) == 0)
        *head = DRR_HEAD_TOKEN;
    else if (status == DRR_OK)
        status =
            error_set(err, DRR_E_MISMATCH,
                      "%s: the key \"drr.head\" is \"%.40s\", which this drr does not know; use the drr that wrote "
                      "it",
                      f->path, name);
    free(name);
    return status;
}

static drr_status read_curve(curve *c, const tensorfile *f, const char *x, const char *y, drr_error *err)
{
    const tensorfile_key *columns[2];
    if (!tensorfile_find(f, x))
        return DRR_OK;
    drr_status status = tensorfile_array(&columns[0], f, x, GGUF_F64, err);
    if (status == DRR_OK)
        status = tensorfile_array(&columns[1], f, y, GGUF_F64, err);
    if (status != DRR_OK)
        return status;
    const uint64_t n = columns[0]->count;
    if (n == 0 || n > CURVE_MOST_KNOTS || columns[1]->count != n)
        return error_set(err, DRR_E_FORMAT, "%s: the keys \"%s\" and \"%s\" have %llu and %llu items; 1 to %d of each",
                         f->path, x, y, (unsigned long long)n, (unsigned long long)columns[1]->count, CURVE_MOST_KNOTS);
    c->n = (uint32_t)n;
    memcpy(c->x, columns[0]->data, n * sizeof(double));
    memcpy(c->y, columns[1]->data, n * sizeof(double));
    return curve_is_good(c)
               ? DRR_OK
               : error_set(err, DRR_E_FORMAT, "%s: the curve of \"%s\" and \"%s\" does not rise within 0 and 1",
                           f->path, x, y);
}

static drr_status read_test(drr_risk_test *test, const tensorfile *f, const char *key, drr_error *err)
{
    char *name = NULL;
    drr_status status = tensorfile_string(&name, f, key, err);
    if (status != DRR_OK)
        return status;
    if (!critic_risk_test(test, name))
        status = error_set(err, DRR_E_MISMATCH,
                           "%s: the key \"%s\" is \"%.40s\", which this drr does not know; use the drr that wrote it",
                           f->path, key, name);
    free(name);
    return status;
}

static drr_status read_guarantee(critic_meta *m, const tensorfile *f, size_t which, drr_error *err)
{
    char key[80];
    drr_guarantee g = {.found = true, .temperature = NAN};
    if (!tensorfile_find(f, key_of(key, which, "turns")))
        return DRR_OK;
    drr_status status = tensorfile_u32(&g.turns, f, key, err);
    if (status == DRR_OK)
        status = read_test(&g.test, f, key_of(key, which, "test"), err);
    for (size_t i = 0; status == DRR_OK && i < N_SHARES; i++)
        status = tensorfile_f64(share_of(&g, i), f, key_of(key, which, shares[i].name), err);
    for (size_t i = 0; status == DRR_OK && i < N_COUNTS; i++)
        status = tensorfile_u64(count_of(&g, i), f, key_of(key, which, counts[i].name), err);
    if (status == DRR_OK && tensorfile_find(f, key_of(key, which, "temperature")))
        status = tensorfile_f64(&g.temperature, f, key, err);
    if (status == DRR_OK && (!guarantee_is_good(&g) || place_of(&g) != which))
        status = error_set(err, DRR_E_FORMAT, "%s: the keys \"drr.guarantee.%s.*\" say what cannot be", f->path,
                           guarantee_names[which]);
    if (status == DRR_OK)
        m->guarantees[m->n_guarantees++] = g;
    return status;
}

static drr_status copy_item(char **copy, tensorfile_text text, const tensorfile *f, const char *key, drr_error *err)
{
    if (memchr(text.data, 0, text.length))
        return error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" has a NUL in its text", f->path, key);
    *copy = string_copy_n(text.data, text.length);
    return *copy ? DRR_OK : error_memory(err);
}

static drr_status read_probes(critic_meta *m, const tensorfile *f, drr_error *err)
{
    const bool old = !tensorfile_find(f, verify_keys[0][2]);
    const char *const *keys = verify_keys[old];
    const tensorfile_key *columns[3];
    drr_status status = DRR_OK;
    if (!tensorfile_find(f, keys[2]))
        return DRR_OK;
    for (size_t i = 0; status == DRR_OK && i < 3; i++)
        status = tensorfile_array(&columns[i], f, keys[i], i < 2 ? GGUF_STRING : GGUF_F64, err);
    if (status != DRR_OK)
        return status;
    const uint64_t n = columns[2]->count;
    if (n == 0 || n > CRITIC_MOST_PROBES || columns[0]->count != n || columns[1]->count != n)
        return error_set(
            err, DRR_E_FORMAT,
            "%s: the keys \"drr.verify.*\" have %llu questions, %llu texts and %llu logits; 1 to %d of each", f->path,
            (unsigned long long)columns[0]->count, (unsigned long long)columns[1]->count, (unsigned long long)n,
            CRITIC_MOST_PROBES);
    const uint8_t *question = columns[0]->data, *text = columns[1]->data;
    for (uint32_t i = 0; status == DRR_OK && i < n; i++) {
        critic_probe *p = &m->probes[m->n_probes++];
        memcpy(&p->logit, columns[2]->data + i * sizeof(double), sizeof(double));
        status = copy_item(&p->question, tensorfile_next(&question), f, keys[0], err);
        if (status == DRR_OK)
            status = copy_item(&p->text, tensorfile_next(&text), f, keys[1], err);
        if (status == DRR_OK && !isfinite(p->logit))
            status = error_set(err, DRR_E_FORMAT, "%s: item %u of the key \"%s\" is not a finite number", f->path, i,
                               keys[2]);
    }
    return status;
}

static drr_status read_quantiles(critic_meta *m, const tensorfile *f, drr_error *err)
{
    const tensorfile_key *key;
    if (!tensorfile_find(f, "drr.scores.quantiles"))
        return DRR_OK;
    drr_status status = tensorfile_array(&key, f, "drr.scores.quantiles", GGUF_F64, err);
    if (status == DRR_OK)
        status = tensorfile_u64(&m->n_scores, f, "drr.scores.n", err);
    if (status != DRR_OK)
        return status;
    m->n_quantiles = key->count <= CRITIC_MOST_QUANTILES ? (uint32_t)key->count : 0;
    memcpy(m->quantiles, key->data, m->n_quantiles * sizeof(double));
    return m->n_quantiles && critic_quantiles_are_good(m)
               ? DRR_OK
               : error_set(
                     err, DRR_E_FORMAT,
                     "%s: the key \"drr.scores.quantiles\" has %llu numbers; 2 to %d that rise are possible, of a "
                     "\"drr.scores.n\" above 0",
                     f->path, (unsigned long long)key->count, CRITIC_MOST_QUANTILES);
}

drr_status critic_keys_read(critic_meta *m, const tensorfile *f, drr_error *err)
{
    calibration *s = &m->stack_calibration;
    drr_status status = read_curve(&m->text_curve, f, "drr.calibration.x", "drr.calibration.y", err);
    if (status == DRR_OK && m->has_stack && tensorfile_find(f, "drr.stack.calibration.a")) {
        m->has_stack_calibration = true;
        status = tensorfile_f64(&s->line.a, f, "drr.stack.calibration.a", err);
        if (status == DRR_OK)
            status = tensorfile_f64(&s->line.b, f, "drr.stack.calibration.b", err);
        if (status == DRR_OK)
            status = read_curve(&s->steps, f, "drr.stack.calibration.x", "drr.stack.calibration.y", err);
    }
    for (size_t which = 0; status == DRR_OK && which < DRR_GUARANTEES; which++)
        status = read_guarantee(m, f, which, err);
    if (status == DRR_OK && tensorfile_find(f, "drr.head"))
        status = tensorfile_u64(&m->n_train_steps, f, "drr.n_train_steps", err);
    if (status == DRR_OK && tensorfile_find(f, "drr.n_train_beginnings"))
        status = tensorfile_u64(&m->n_train_beginnings, f, "drr.n_train_beginnings", err);
    if (status == DRR_OK)
        status = read_probes(m, f, err);
    if (status == DRR_OK)
        status = read_quantiles(m, f, err);
    return status == DRR_OK ? probe_keys_read(&m->probe, f, err) : status;
}
