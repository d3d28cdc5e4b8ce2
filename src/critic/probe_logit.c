/* probe_logit.c: what a probe makes of a turn. */
#include "critic/critic.h"
#include "critic/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void probe_clear(probe_model *p)
{
    free(p->reasoner);
    free(p->weight);
    *p = (probe_model){0};
}

void probe_statistics(double values[PROBE_STATISTICS], const drr_token_stats *stats)
{
    double all[STACK_MAX_FEATURES];
    drr_features f;
    drr_features_defaults(&f);
    if (stats && stats->n)
        f.stats = *stats;
    stack_features(all, NAN, &f);
    memcpy(values, all + PROBE_FIRST_STATISTIC, PROBE_STATISTICS * sizeof *values);
}

double probe_logit(const probe_model *p, const void *hidden, size_t size, const drr_token_stats *stats)
{
    double statistics[PROBE_STATISTICS], z = p->bias;
    if (!p->reasoner || !hidden_is_whole(hidden, size) || hidden_width(hidden) != p->width)
        return NAN;
    float *values = malloc(p->width * sizeof *values);
    for (uint32_t i = 0; values && i < p->n_pools; i++) {
        if (!hidden_vector(values, hidden, p->layer, p->pools[i])) {
            free(values);
            return NAN;
        }
        for (uint32_t k = 0; k < p->width; k++)
            z += p->weight[(size_t)i * p->width + k] * (double)values[k];
    }
    if (!values)
        return NAN;
    free(values);
    probe_statistics(statistics, stats);
    for (size_t i = 0; i < PROBE_STATISTICS; i++)
        if (!isnan(statistics[i]))
            z += p->statistic_weight[i] * (statistics[i] - p->mean[i]) / p->scale[i];
    return z;
}

const char *probe_pools_text(char text[16], const probe_model *p)
{
    size_t used = 0;
    *text = '\0';
    for (uint32_t i = 0; i < p->n_pools; i++)
        used += (size_t)snprintf(text + used, 16 - used, "%s%s", i ? "+" : "", hidden_pool_name(p->pools[i]));
    return text;
}

const char *drr_critic_kind_name(drr_critic_kind kind)
{
    static const char *const names[] = {"encoder", "probe", "stack"};
    return (size_t)kind < sizeof names / sizeof *names ? names[kind] : "?";
}
