/* risk.c: Hoeffding-Bentkus and binomial p-values for a mean of independent losses, and fixed-sequence testing. See
 * risk.h. */
#include "core/risk.h"

#include <math.h>

/* From the largest term down, each from the one before: terms underflow where they no longer count. */
double risk_binomial(uint64_t n, double a, uint64_t k)
{
    if (k >= n || a <= 0)
        return 1;
    if (a >= 1)
        return 0;
    const double mode = floor(((double)n + 1) * a);
    const uint64_t top = (double)k < mode ? k : (uint64_t)mode;
    const double x = (double)top, m = (double)n, odds = a / (1 - a);
    const double largest = lgamma(m + 1) - lgamma(x + 1) - lgamma(m - x + 1) + x * log(a) + (m - x) * log1p(-a);
    double sum = 1, term = 1;
    for (uint64_t i = top; i > 0 && term > 1e-18 * sum; i--) {
        term *= (double)i / ((double)(n - i + 1) * odds);
        sum += term;
    }
    term = 1;
    for (uint64_t i = top; i < k && term > 1e-18 * sum; i++) {
        term *= (double)(n - i) * odds / (double)(i + 1);
        sum += term;
    }
    return fmin(1, exp(largest) * sum);
}

/* Relative entropy of two coins, x and a: Hoeffding's exponent. */
static double entropy_between(double x, double a)
{
    return (x > 0 ? x * log(x / a) : 0) + (x < 1 ? (1 - x) * log((1 - x) / (1 - a)) : 0);
}

double risk_p_value(drr_risk_test test, uint64_t n, double sum, double a)
{
    if (n == 0 || !(a > 0) || !(sum >= 0))
        return 1;
    if (a >= 1)
        return sum <= (double)n ? 0 : 1;
    const double count = ceil(sum - 1e-9); /* a sum of thirds may come out above the whole number that it is */
    const double tail = risk_binomial(n, a, (uint64_t)count);
    if (test == DRR_RISK_BINOMIAL)
        return tail;
    const double hoeffding = exp(-(double)n * entropy_between(fmin(sum / (double)n, a), a));
    return fmin(1, fmin(hoeffding, M_E * tail));
}

double risk_bound(drr_risk_test test, uint64_t n, double sum, double delta)
{
    double low = n ? fmin(1, sum / (double)n) : 1, high = 1;
    while (high - low > 1e-9) {
        const double middle = (low + high) / 2;
        *(risk_p_value(test, n, sum, middle) <= delta ? &high : &low) = middle;
    }
    return high;
}

uint64_t risk_needed(drr_risk_test test, double mean, double a, double delta)
{
    enum { MOST = 10000000 };
    uint64_t low = 0, high = 1;
    if (!(mean < a))
        return 0;
    for (; high <= MOST && risk_p_value(test, high, ceil(mean * (double)high - 1e-9), a) > delta; high *= 2)
        low = high;
    if (high > MOST)
        return 0;
    while (high - low > 1) { /* whole numbers of losses make it a saw: within a tooth this is the first that does */
        const uint64_t middle = low + (high - low) / 2;
        *(risk_p_value(test, middle, ceil(mean * (double)middle - 1e-9), a) <= delta ? &high : &low) = middle;
    }
    return high;
}

size_t risk_fixed_sequence(const double *p, size_t n, double delta)
{
    size_t rejected = 0;
    while (rejected < n && p[rejected] <= delta)
        rejected++;
    return rejected;
}
