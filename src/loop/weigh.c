/* weigh.c: Beta rule, the critic's posterior, lowest-group confidence. Who asks and what follows is stop.c's and
 * choose.c's. */
#include "loop/weigh.h"
#include "core/risk.h"

#include <math.h>

double weigh_beta(uint32_t most, uint32_t next)
{
    return risk_binomial((uint64_t)most + next + 1, 0.5, most);
}

double weigh_alternatives(drr_kind kind, size_t n_choices)
{
    if (kind == DRR_KIND_BOOLEAN)
        return 2;
    return kind == DRR_KIND_CHOICE && n_choices > 1 ? (double)n_choices : WEIGH_OPEN;
}

/* What a sample adds to the logarithm of its answer's weight. A critic that is never wholly sure cannot be outvoted by
 * nothing, nor outvote everything. */
static double vote_of(double p, double alternatives)
{
    if (isnan(p))
        return 0;
    const double sure = fmin(fmax(p, 0.001), 0.999);
    return log(sure / (1 - sure)) + log(fmax(alternatives - 1, 1));
}

size_t weigh_posterior(double *posterior, const double *p, const size_t *choice, size_t n, size_t n_choices,
                       double alternatives, bool closed)
{
    size_t best = n_choices;
    double highest = 0, sum = 0; /* an answer that none gave has weight 1 */
    for (size_t c = 0; c < n_choices; c++)
        posterior[c] = 0;
    for (size_t i = 0; i < n; i++)
        posterior[choice[i]] += vote_of(p[i], alternatives);
    for (size_t c = 0; c < n_choices; c++) {
        highest = fmax(highest, posterior[c]);
        if (best == n_choices || posterior[c] > posterior[best] + 1e-12)
            best = c;
    }
    const double unseen = fmax(alternatives - (double)n_choices, closed ? 0 : 1);
    for (size_t c = 0; c < n_choices; c++)
        sum += posterior[c] = exp(posterior[c] - highest);
    sum += unseen * exp(-highest);
    for (size_t c = 0; c < n_choices; c++)
        posterior[c] /= sum;
    return best;
}

double weigh_lowest_group(const float *logprobs, size_t n)
{
    const size_t width = n < WEIGH_GROUP ? n : WEIGH_GROUP;
    double sum = 0, lowest = INFINITY;
    if (n == 0)
        return NAN;
    for (size_t i = 0; i < n; i++) {
        if (isnan(logprobs[i]))
            return NAN;
        sum += (double)logprobs[i];
        if (i >= width)
            sum -= (double)logprobs[i - width];
        if (i + 1 >= width)
            lowest = fmin(lowest, sum / (double)width);
    }
    return exp(lowest);
}
