/* probe_keys.c: a probe in a critic's file: the keys "drr.probe.*" (docs/formats.md, "Critic file"). */
#include "critic/critic_keys_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *feature_name(size_t i)
{
    return stack_feature_name((uint32_t)(PROBE_FIRST_STATISTIC + i));
}

bool probe_is_good(const probe_model *p)
{
    bool good = p->width > 0 && p->width <= HIDDEN_MOST_WIDTH && p->n_pools > 0 && p->n_pools <= HIDDEN_POOLS &&
                isfinite(p->bias);
    for (size_t i = 0; good && i < (size_t)p->n_pools * p->width; i++)
        good = isfinite(p->weight[i]);
    for (size_t i = 0; good && i < PROBE_STATISTICS; i++)
        good = isfinite(p->mean[i]) && isfinite(p->scale[i]) && p->scale[i] > 0 && isfinite(p->statistic_weight[i]);
    return good;
}

void probe_keys_add(tensorfile_builder *b, const probe_model *p)
{
    tensorfile_add_string(b, "drr.probe.reasoner", p->reasoner);
    tensorfile_add_u32(b, "drr.probe.layer", p->layer);
    tensorfile_add_u32(b, "drr.probe.width", p->width);
    tensorfile_begin_array(b, "drr.probe.pools", GGUF_STRING, p->n_pools);
    for (uint32_t i = 0; i < p->n_pools; i++)
        tensorfile_put_string(b, "", hidden_pool_name(p->pools[i]));
    tensorfile_add_f64s(b, "drr.probe.weight", p->weight, (size_t)p->n_pools * p->width);
    tensorfile_add_f64(b, "drr.probe.bias", p->bias);
    tensorfile_begin_array(b, "drr.probe.features", GGUF_STRING, PROBE_STATISTICS);
    for (size_t i = 0; i < PROBE_STATISTICS; i++)
        tensorfile_put_string(b, "", feature_name(i));
    tensorfile_add_f64s(b, "drr.probe.feature_mean", p->mean, PROBE_STATISTICS);
    tensorfile_add_f64s(b, "drr.probe.feature_scale", p->scale, PROBE_STATISTICS);
    tensorfile_add_f64s(b, "drr.probe.feature_weight", p->statistic_weight, PROBE_STATISTICS);
}

/* ---- reading */

static drr_status read_column(const uint8_t **column, const tensorfile *f, const char *name, uint64_t n, drr_error *err)
{
    const tensorfile_key *key;
    drr_status status = tensorfile_array(&key, f, name, GGUF_F64, err);
    if (status == DRR_OK && key->count != n)
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"%s\" has %llu items and not %llu", f->path, name,
                           (unsigned long long)key->count, (unsigned long long)n);
    if (status == DRR_OK)
        *column = key->data; /* perhaps not aligned: to be copied from */
    return status;
}

static drr_status unknown_word(const tensorfile *f, const char *what, tensorfile_text name, drr_error *err)
{
    return error_set(err, DRR_E_MISMATCH,
                     "%s: the critic's probe uses the %s \"%.*s\", which this drr does not know, or twice; use the drr "
                     "that wrote it",
                     f->path, what, (int)(name.length < 60 ? name.length : 60), name.data);
}

static bool says(tensorfile_text name, const char *word)
{
    return name.length == strlen(word) && memcmp(name.data, word, name.length) == 0;
}

static drr_status read_pools(probe_model *p, const tensorfile *f, drr_error *err)
{
    const tensorfile_key *pools;
    drr_status status = tensorfile_array(&pools, f, "drr.probe.pools", GGUF_STRING, err);
    if (status == DRR_OK && (pools->count == 0 || pools->count > HIDDEN_POOLS))
        status = error_set(err, DRR_E_FORMAT, "%s: the key \"drr.probe.pools\" has %llu items; 1 to %d are possible",
                           f->path, (unsigned long long)pools->count, HIDDEN_POOLS);
    if (status != DRR_OK)
        return status;
    const uint8_t *at = pools->data;
    for (; p->n_pools < pools->count; p->n_pools++) {
        const tensorfile_text name = tensorfile_next(&at);
        uint32_t pool = 0;
        while (pool < HIDDEN_POOLS && !says(name, hidden_pool_name((hidden_pool)pool)))
            pool++;
        if (pool == HIDDEN_POOLS || (p->n_pools && p->pools[0] == (hidden_pool)pool))
            return unknown_word(f, "pool", name, err);
        p->pools[p->n_pools] = (hidden_pool)pool;
    }
    return DRR_OK;
}

static drr_status read_statistics(probe_model *p, const tensorfile *f, drr_error *err)
{
    static const char *const names[] = {"drr.probe.feature_mean", "drr.probe.feature_scale",
                                        "drr.probe.feature_weight"};
    double *const to[] = {p->mean, p->scale, p->statistic_weight};
    const tensorfile_key *features;
    const uint8_t *columns[3] = {NULL};
    bool seen[PROBE_STATISTICS] = {false};
    drr_status status = tensorfile_array(&features, f, "drr.probe.features", GGUF_STRING, err);
    for (size_t c = 0; status == DRR_OK && c < 3; c++)
        status = read_column(&columns[c], f, names[c], features->count, err);
    if (status != DRR_OK)
        return status;
    for (size_t i = 0; i < PROBE_STATISTICS; i++)
        p->scale[i] = 1;
    const uint8_t *at = features->data;
    for (uint64_t k = 0; k < features->count; k++) {
        const tensorfile_text name = tensorfile_next(&at);
        size_t i = 0;
        while (i < PROBE_STATISTICS && !says(name, feature_name(i)))
            i++;
        if (i == PROBE_STATISTICS || seen[i])
            return unknown_word(f, "feature", name, err);
        seen[i] = true;
        for (size_t c = 0; c < 3; c++)
            memcpy(&to[c][i], columns[c] + k * sizeof(double), sizeof(double));
    }
    return DRR_OK;
}

drr_status probe_keys_read(probe_model *p, const tensorfile *f, drr_error *err)
{
    const uint8_t *weight = NULL;
    if (!tensorfile_find(f, "drr.probe.reasoner"))
        return DRR_OK;
    drr_status status = tensorfile_string(&p->reasoner, f, "drr.probe.reasoner", err);
    if (status == DRR_OK)
        status = tensorfile_u32(&p->layer, f, "drr.probe.layer", err);
    if (status == DRR_OK)
        status = tensorfile_u32(&p->width, f, "drr.probe.width", err);
    if (status == DRR_OK)
        status = read_pools(p, f, err);
    if (status == DRR_OK)
        status = read_column(&weight, f, "drr.probe.weight", (uint64_t)p->n_pools * p->width, err);
    if (status == DRR_OK)
        status = tensorfile_f64(&p->bias, f, "drr.probe.bias", err);
    if (status == DRR_OK) {
        const size_t bytes = (size_t)p->n_pools * p->width * sizeof *p->weight;
        p->weight = malloc(bytes + 1);
        if (p->weight)
            memcpy(p->weight, weight, bytes);
        else
            status = error_memory(err);
    }
    if (status == DRR_OK)
        status = read_statistics(p, f, err);
    if (status == DRR_OK && !probe_is_good(p))
        status = error_set(err, DRR_E_FORMAT,
                           "%s: the keys \"drr.probe.*\" hold a number that is not finite, or a width that cannot be",
                           f->path);
    return status;
}
