/* test_core_hidden.c: half floats, layers by name, what is packed and found again, and bytes that are no hidden states.
 */
#include "core/hidden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_half_comes_back_as_itself(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float value = half_value((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00)
            assert_true(isnan(value) && (half_of(value) & 0x7fff) > 0x7c00);
        else if ((h & 0x7fff) == 0x7c00)
            assert_true(isinf(value) && half_of(value) == (h == 0x7c00 ? 0x7bff : 0xfbff)); /* the largest there is */
        else
            assert_int_equal(half_of(value), h);
    }
}

static void a_float_becomes_the_nearest_half(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t half;
    } known[] = {{1.0f, 0x3c00},          {-2.0f, 0xc000},
                 {65504.0f, 0x7bff},      {65519.0f, 0x7bff},
                 {1e9f, 0x7bff},          {-1e9f, 0xfbff},
                 {0.333251953f, 0x3555},  {5.9604645e-8f, 0x0001},
                 {2.9802322e-8f, 0x0000}, {2.99e-8f, 0x0001},
                 {6.1035156e-5f, 0x0400}, {6.0975552e-5f, 0x03ff},
                 {1.00048828f, 0x3c00},   /* halfway: to even */ {1.00146484f, 0x3c02}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (half_of(known[i].value) != known[i].half)
            fail_msg("%g became %04x and not %04x", (double)known[i].value, half_of(known[i].value), known[i].half);
    for (uint32_t h = 1; h < 0x7bff; h++) { /* between two neighbours the nearer one */
        const float a = half_value((uint16_t)h), b = half_value((uint16_t)(h + 1));
        assert_int_equal(half_of(a + 0.49f * (b - a)), h);
        assert_int_equal(half_of(a + 0.51f * (b - a)), h + 1);
    }
}

static void layers_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "0",   "-1",   "last,last", "3,3",   "1,2,3,4,5", "12,",
                                      ",12", "1;2", "late", "1 ",        "99999", "last3",     "lastly"};
    hidden_layers l = {0};
    char text[64];
    assert_int_equal(hidden_layers_parse(&l, "12,last,3", NULL), DRR_OK);
    assert_int_equal(l.n, 3);
    assert_true(hidden_layers_have(&l, 12) && hidden_layers_have(&l, HIDDEN_LAST) && hidden_layers_have(&l, 3));
    assert_false(hidden_layers_have(&l, 4));
    assert_string_equal(hidden_layers_text(text, &l), "12,last,3");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        drr_error err = {0};
        if (hidden_layers_parse(&l, bad[i], &err) != DRR_E_ARGUMENT)
            fail_msg("\"%s\" was taken for layers", bad[i]);
        assert_int_equal(l.n, 3);
    }
    assert_int_equal(hidden_layers_parse(&l, NULL, NULL), DRR_OK);
    assert_int_equal(l.n, 0);
}

enum { WIDTH = 5, ROWS = 3 };
static const hidden_layers two = {2, {7, HIDDEN_LAST}};

/* Token r, layer l, value k is 100 r + 10 l + k. */
static void make_rows(uint16_t *rows)
{
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t l = 0; l < 2; l++)
            for (uint32_t k = 0; k < WIDTH; k++)
                rows[(r * 2 + l) * WIDTH + k] = half_of((float)(100 * r + 10 * l + k));
}

static void assert_vector(const void *data, uint32_t layer, hidden_pool pool, float first)
{
    float values[WIDTH];
    assert_true(hidden_vector(values, data, layer, pool));
    for (uint32_t k = 0; k < WIDTH; k++)
        assert_true(fabsf(values[k] - first - (float)k) < 0.01f);
}

static void what_is_packed_is_found_by_name(void **state)
{
    (void)state;
    uint16_t rows[ROWS * 2 * WIDTH];
    void *data = NULL;
    size_t size = 0;
    float values[WIDTH];
    hidden_layers l;
    make_rows(rows);
    assert_int_equal(hidden_pack(&data, &size, &two, WIDTH, rows, ROWS, 1, NULL), DRR_OK);
    assert_true(hidden_is_whole(data, size));
    assert_int_equal(hidden_width(data), WIDTH);
    hidden_layers_of(&l, data);
    assert_memory_equal(&l, &two, sizeof l);
    assert_vector(data, 7, HIDDEN_ANSWER, 100);
    assert_vector(data, 7, HIDDEN_MEAN, 100);
    assert_vector(data, HIDDEN_LAST, HIDDEN_ANSWER, 110);
    assert_vector(data, HIDDEN_LAST, HIDDEN_MEAN, 110);
    assert_false(hidden_vector(values, data, 8, HIDDEN_MEAN));
    free(data);
    /* no answer: the last token; another answer than the middle one, so that pools differ */
    assert_int_equal(hidden_pack(&data, &size, &two, WIDTH, rows, ROWS, ROWS, NULL), DRR_OK);
    assert_vector(data, 7, HIDDEN_ANSWER, 200);
    assert_vector(data, 7, HIDDEN_MEAN, 100);
    free(data);
    assert_int_equal(hidden_pack(&data, &size, &two, WIDTH, rows, 0, 0, NULL), DRR_OK);
    assert_null(data);
    rows[3] = 0x7e00; /* no number */
    assert_int_equal(hidden_pack(&data, &size, &two, WIDTH, rows, ROWS, 1, NULL), DRR_OK);
    assert_null(data);
}

static void as_text_and_back(void **state)
{
    (void)state;
    uint16_t rows[ROWS * 2 * WIDTH];
    make_rows(rows);
    for (uint32_t width = 1; width <= WIDTH; width++) { /* sizes of every remainder by three */
        void *data = NULL, *back = NULL;
        size_t size = 0, back_size = 0;
        drr_error err = {0};
        assert_int_equal(hidden_pack(&data, &size, &two, width, rows, ROWS, 1, NULL), DRR_OK);
        char *text = hidden_to_text(data, size);
        assert_int_equal(hidden_from_text(&back, &back_size, text, "here", NULL), DRR_OK);
        assert_int_equal(back_size, size);
        assert_memory_equal(back, data, size);
        free(back);
        back = NULL;
        text[5] = '-'; /* of the other base64 */
        assert_int_equal(hidden_from_text(&back, &back_size, text, "here", &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "here"));
        assert_null(back);
        text[5] = '=';
        assert_int_equal(hidden_from_text(&back, &back_size, text, "here", &err), DRR_E_FORMAT);
        free(text);
        free(data);
    }
}

/* Whatever byte is wrong, reading stays within what is there (the sanitizers look), and most is refused. */
static void broken_bytes_are_refused_or_harmless(void **state)
{
    (void)state;
    uint16_t rows[ROWS * 2 * WIDTH];
    void *data = NULL;
    size_t size = 0;
    make_rows(rows);
    assert_int_equal(hidden_pack(&data, &size, &two, WIDTH, rows, ROWS, 1, NULL), DRR_OK);
    for (size_t cut = 0; cut < size; cut++) {
        void *part = malloc(cut + 1);
        memcpy(part, data, cut);
        assert_false(hidden_is_whole(part, cut));
        free(part);
    }
    for (size_t at = 0; at < size; at++)
        for (unsigned flip = 1; flip < 256; flip++) {
            uint8_t *bytes = malloc(size);
            float values[WIDTH];
            memcpy(bytes, data, size);
            bytes[at] ^= (uint8_t)flip;
            const bool whole = hidden_is_whole(bytes, size);
            if (at < 12 || (at < 12 + 4 * 8 && (at - 12) % 8 >= 4)) /* the head, a pool's name */
                assert_false(whole);
            if (whole && hidden_width(bytes) == WIDTH)
                hidden_vector(values, bytes, 7, HIDDEN_MEAN);
            free(bytes);
        }
    assert_false(hidden_is_whole(NULL, 0));
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_comes_back_as_itself),
        cmocka_unit_test(a_float_becomes_the_nearest_half),
        cmocka_unit_test(layers_are_named),
        cmocka_unit_test(what_is_packed_is_found_by_name),
        cmocka_unit_test(as_text_and_back),
        cmocka_unit_test(broken_bytes_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
