/* hidden.c: hidden states as bytes: half floats, pooling, packing, and text for JSON. The bytes are little-endian on
 * every machine:
 *
 *     "drrh", u32 width, u32 n; n times u32 layer, u32 pool; n times width halves
 */
#include "core/hidden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 12, NAME = 8, MOST_VECTORS = HIDDEN_MOST_LAYERS * HIDDEN_POOLS };
static const char magic[4] = {'d', 'r', 'r', 'h'};

const char *hidden_pool_name(hidden_pool pool)
{
    static const char *const names[HIDDEN_POOLS] = {"answer", "mean"};
    return (size_t)pool < HIDDEN_POOLS ? names[pool] : "?";
}

/* ---- layers */

bool hidden_layers_have(const hidden_layers *layers, uint32_t layer)
{
    for (uint32_t i = 0; i < layers->n; i++)
        if (layers->layer[i] == layer)
            return true;
    return false;
}

drr_status hidden_layers_parse(hidden_layers *layers, const char *text, drr_error *err)
{
    hidden_layers l = {0};
    for (const char *at = text; at && *at;) {
        const size_t n = strcspn(at, ",");
        char *end = NULL;
        unsigned long layer = HIDDEN_LAST;
        bool good = n > 0 && l.n < HIDDEN_MOST_LAYERS;
        if (good && !(n == 4 && memcmp(at, "last", 4) == 0)) {
            layer = strtoul(at, &end, 10);
            good = *at >= '1' && *at <= '9' && end == at + n && layer < 10000;
        }
        if (!good || hidden_layers_have(&l, (uint32_t)layer) || (at[n] && !at[n + 1]))
            return error_set(err, DRR_E_ARGUMENT,
                             "\"%.60s\" names no layers: give \"last\", a layer's number from 1, or up to %d of these, "
                             "different, with commas between",
                             text, HIDDEN_MOST_LAYERS);
        l.layer[l.n++] = (uint32_t)layer;
        at += n + (at[n] == ',');
    }
    if (text && !*text)
        return error_set(err, DRR_E_ARGUMENT,
                         "the layers to keep hidden states of are empty: say \"last\", or numbers");
    *layers = l;
    return DRR_OK;
}

const char *hidden_layer_name(char name[16], uint32_t layer)
{
    if (layer == HIDDEN_LAST)
        snprintf(name, 16, "last");
    else
        snprintf(name, 16, "%u", layer);
    return name;
}

const char *hidden_layers_text(char text[64], const hidden_layers *layers)
{
    size_t used = 0;
    *text = '\0';
    for (uint32_t i = 0; i < layers->n; i++) {
        char name[16];
        used +=
            (size_t)snprintf(text + used, 64 - used, "%s%s", i ? "," : "", hidden_layer_name(name, layers->layer[i]));
    }
    return text;
}

/* ---- half floats */

uint16_t half_of(float value)
{
    uint32_t x;
    memcpy(&x, &value, sizeof x);
    const uint16_t sign = (uint16_t)(x >> 16 & 0x8000);
    x &= 0x7fffffff;
    if (x > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (x >= 0x477ff000) /* would round to 65536 or more */
        return (uint16_t)(sign | 0x7bff);
    if (x < 0x38800000) { /* below 2^-14: a multiple of 2^-24 */
        float small;
        memcpy(&small, &x, sizeof small);
        return (uint16_t)(sign | (uint16_t)nearbyintf(small * 16777216.0f));
    }
    const uint32_t rounded = x - 0x38000000 + 0xfff + (x >> 13 & 1); /* to even */
    return (uint16_t)(sign | (uint16_t)(rounded >> 13));
}

float half_value(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fffu;
    uint32_t x;
    float value;
    if (rest < 0x400) {
        value = (float)rest * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    x = sign | (rest >= 0x7c00 ? 0x7f800000 | (rest & 0x3ff) << 13 : (rest << 13) + 0x38000000);
    memcpy(&value, &x, sizeof value);
    return value;
}

/* ---- packing */

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static size_t size_of(uint32_t width, uint32_t n)
{
    return HEAD + (size_t)n * NAME + (size_t)n * width * sizeof(uint16_t);
}

/* One layer's vector of one pool; false: a value is no number. */
static bool pool_into(uint8_t *to, float *sums, const uint16_t *rows, size_t stride, uint32_t width, size_t begin,
                      size_t end)
{
    bool good = true;
    memset(sums, 0, width * sizeof *sums);
    for (size_t r = begin; r < end; r++)
        for (uint32_t k = 0; k < width; k++)
            sums[k] += half_value(rows[r * stride + k]);
    for (uint32_t k = 0; k < width; k++) {
        const uint16_t half = half_of(sums[k] / (float)(end - begin));
        good = good && (half & 0x7c00) != 0x7c00;
        to[2 * k] = (uint8_t)half;
        to[2 * k + 1] = (uint8_t)(half >> 8);
    }
    return good;
}

drr_status hidden_pack(void **data, size_t *size, const hidden_layers *layers, uint32_t width, const uint16_t *rows,
                       size_t n_rows, size_t answer, drr_error *err)
{
    const uint32_t n = layers->n * HIDDEN_POOLS;
    *data = NULL;
    *size = 0;
    if (n_rows == 0 || n == 0)
        return DRR_OK;
    uint8_t *bytes = malloc(size_of(width, n));
    float *sums = malloc(width * sizeof *sums);
    bool good = true;
    if (!bytes || !sums) {
        free(bytes);
        free(sums);
        return error_memory(err);
    }
    memcpy(bytes, magic, sizeof magic);
    put_u32(bytes + 4, width);
    put_u32(bytes + 8, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t layer = i / HIDDEN_POOLS, pool = i % HIDDEN_POOLS;
        const size_t begin = pool == HIDDEN_MEAN ? 0 : answer < n_rows ? answer : n_rows - 1;
        put_u32(bytes + HEAD + (size_t)i * NAME, layers->layer[layer]);
        put_u32(bytes + HEAD + (size_t)i * NAME + 4, pool);
        good = pool_into(bytes + size_of(width, n) - (size_t)(n - i) * width * 2, sums, rows + (size_t)layer * width,
                         (size_t)layers->n * width, width, begin, pool == HIDDEN_MEAN ? n_rows : begin + 1) &&
               good;
    }
    free(sums);
    if (good) {
        *data = bytes;
        *size = size_of(width, n);
    } else {
        free(bytes);
    }
    return DRR_OK;
}

bool hidden_is_whole(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    if (!data || size < HEAD || memcmp(bytes, magic, sizeof magic) != 0)
        return false;
    const uint32_t width = get_u32(bytes + 4), n = get_u32(bytes + 8);
    if (width == 0 || width > HIDDEN_MOST_WIDTH || n == 0 || n > MOST_VECTORS || size != size_of(width, n))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *name = bytes + HEAD + (size_t)i * NAME;
        if (get_u32(name + 4) >= HIDDEN_POOLS)
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (memcmp(name, bytes + HEAD + (size_t)k * NAME, NAME) == 0)
                return false;
    }
    for (const uint8_t *half = bytes + HEAD + (size_t)n * NAME; half < bytes + size; half += 2)
        if ((half[1] & 0x7c) == 0x7c) /* infinite, or no number */
            return false;
    return true;
}

uint32_t hidden_width(const void *data)
{
    return get_u32((const uint8_t *)data + 4);
}

void hidden_layers_of(hidden_layers *layers, const void *data)
{
    const uint8_t *bytes = data;
    const uint32_t n = get_u32(bytes + 8);
    *layers = (hidden_layers){0};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t layer = get_u32(bytes + HEAD + (size_t)i * NAME);
        if (!hidden_layers_have(layers, layer) && layers->n < HIDDEN_MOST_LAYERS)
            layers->layer[layers->n++] = layer;
    }
}

bool hidden_vector(float *values, const void *data, uint32_t layer, hidden_pool pool)
{
    const uint8_t *bytes = data;
    const uint32_t width = get_u32(bytes + 4), n = get_u32(bytes + 8);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *name = bytes + HEAD + (size_t)i * NAME;
        if (get_u32(name) != layer || get_u32(name + 4) != (uint32_t)pool)
            continue;
        const uint8_t *half = bytes + HEAD + (size_t)n * NAME + (size_t)i * width * 2;
        for (uint32_t k = 0; k < width; k++)
            values[k] = half_value((uint16_t)(half[2 * k] | half[2 * k + 1] << 8));
        return true;
    }
    return false;
}

/* ---- as text (RFC 4648, section 4) */

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *hidden_to_text(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; text && i < size; i += 3) {
        const size_t n = size - i < 3 ? size - i : 3;
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (k < n ? bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *to++ = k <= n ? letters[group >> (18 - 6 * k) & 63] : '=';
    }
    if (text)
        *to = '\0';
    return text;
}

/* Bytes of the text into `to`; false: it is no base64. */
static bool decode(uint8_t *to, size_t *size, const char *text, size_t length)
{
    *size = 0;
    if (length % 4)
        return false;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        size_t n = 0;
        for (size_t k = 0; k < 4; k++) {
            const char *letter = strchr(letters, text[i + k]);
            const bool padding = text[i + k] == '=' && i + 4 == length && k > 1;
            if (letter ? n < k : !padding) /* a letter behind padding, or no letter */
                return false;
            group = group << 6 | (letter ? (uint32_t)(letter - letters) : 0);
            n += letter != NULL;
        }
        if (n < 2)
            return false;
        for (size_t k = 0; k + 1 < n; k++)
            to[(*size)++] = (uint8_t)(group >> (16 - 8 * k));
    }
    return true;
}

drr_status hidden_from_text(void **data, size_t *size, const char *text, const char *where, drr_error *err)
{
    const size_t length = strlen(text);
    uint8_t *bytes = malloc(length / 4 * 3 + 3);
    if (!bytes)
        return error_memory(err);
    if (!decode(bytes, size, text, length) || !hidden_is_whole(bytes, *size)) {
        free(bytes);
        return error_set(err, DRR_E_FORMAT, "%s: \"hidden\" is not the hidden states of a text, as drr writes them",
                         where);
    }
    *data = bytes;
    return DRR_OK;
}
