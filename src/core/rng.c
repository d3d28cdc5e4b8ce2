/* rng.c: random numbers and stable hashes. xoshiro256** and splitmix64 are Blackman and Vigna's public-domain
 * generators; same seed, same stream on every machine. */
#include "core/core.h"

#include <math.h>
#include <string.h>

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rng_seed(rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_next(rng *r)
{
    const uint64_t result = rotate(r->s[1] * 5, 7) * 9;
    const uint64_t t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotate(r->s[3], 45);
    return result;
}

double rng_uniform(rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1.0p-53;
}

uint64_t rng_below(rng *r, uint64_t n)
{
    const uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* draws above it would favour small results */
    uint64_t x;
    do
        x = rng_next(r);
    while (x >= limit);
    return x % n;
}

double rng_normal(rng *r)
{
    const double radius = sqrt(-2 * log(1 - rng_uniform(r))); /* Box-Muller */
    return radius * cos(6.283185307179586 * rng_uniform(r));
}

void rng_shuffle(rng *r, size_t *items, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)rng_below(r, i);
        const size_t kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}

uint64_t hash_mix(uint64_t a, uint64_t b)
{
    uint64_t state = a ^ (b * 0x9e3779b97f4a7c15u);
    return splitmix(&state);
}

uint64_t hash_bytes(uint64_t seed, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t h = hash_mix(seed, size);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word = 0;
        for (size_t k = 0; k < 8; k++) /* little-endian on every machine */
            word |= (uint64_t)bytes[i + k] << (8 * k);
        h = hash_mix(h, word);
    }
    uint64_t tail = 0;
    for (size_t k = 0; i + k < size; k++)
        tail |= (uint64_t)bytes[i + k] << (8 * k);
    return hash_mix(h, tail);
}

uint64_t hash_string(uint64_t seed, const char *text)
{
    return hash_bytes(seed, text, strlen(text));
}
