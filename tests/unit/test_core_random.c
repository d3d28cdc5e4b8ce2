/* test_core_random.c: the same seed gives the same stream on every machine, and hashes never change. The golden values
 * come from an independent implementation in Python; those from the state 1, 2, 3, 4 are the generator's published
 * ones. */
#include "core/core.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void the_generator_is_the_published_one(void **state)
{
    (void)state;
    rng r = {{1, 2, 3, 4}};
    assert_true(rng_next(&r) == 11520u);
    assert_true(rng_next(&r) == 0u);
    assert_true(rng_next(&r) == 1509978240u);
    assert_true(rng_next(&r) == 1215971899390074240u);
}

static void a_seed_gives_its_stream(void **state)
{
    (void)state;
    rng r;
    rng_seed(&r, 42);
    assert_true(rng_next(&r) == 0x15780b2e0c2ec716u);
    assert_true(rng_next(&r) == 0x6104d9866d113a7eu);
    assert_true(rng_next(&r) == 0xae17533239e499a1u);
    rng_seed(&r, 7);
    assert_true(rng_uniform(&r) == 0.7005764821796896);
    assert_true(rng_uniform(&r) == 0.2787512294737843);
}

static void a_shuffle_is_the_same_everywhere_and_loses_nothing(void **state)
{
    (void)state;
    rng r;
    size_t items[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const size_t expected[8] = {7, 0, 1, 4, 3, 2, 6, 5};
    rng_seed(&r, 1);
    rng_shuffle(&r, items, 8);
    assert_memory_equal(items, expected, sizeof items);
}

static void draws_below_a_bound_are_spread_evenly(void **state)
{
    (void)state;
    rng r;
    unsigned counts[6] = {0};
    rng_seed(&r, 3);
    for (int i = 0; i < 60000; i++)
        counts[rng_below(&r, 6)]++;
    for (int i = 0; i < 6; i++)
        assert_in_range(counts[i], 9600, 10400); /* 4 standard deviations */
    assert_true(rng_below(&r, 1) == 0);
}

static void normal_draws_have_mean_0_and_deviation_1(void **state)
{
    (void)state;
    rng r;
    double sum = 0, squares = 0;
    const int n = 40000;
    rng_seed(&r, 5);
    for (int i = 0; i < n; i++) {
        const double x = rng_normal(&r);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / n) < 0.02);
    assert_true(fabs(squares / n - 1) < 0.03);
}

static void hashes_are_stable_for_ever(void **state)
{
    (void)state;
    assert_true(hash_string(0, "") == 0xa706dd2f4d197e6fu);
    assert_true(hash_string(0, "a") == 0x88de86e1df6873b0u);
    assert_true(hash_string(1, "a") == 0xa49f3215b4cf6d1bu);
    assert_true(hash_string(0, "drr hashes this") == 0xf21d4fbe90824435u);
    assert_true(hash_bytes(0, "a\0", 2) != hash_bytes(0, "a", 1)); /* the length counts */
}

static const char *sha256_of(const char *text, size_t size, size_t piece)
{
    static char hex[65];
    sha256 h;
    sha256_begin(&h);
    for (size_t i = 0; i < size; i += piece)
        sha256_add(&h, text + i, size - i < piece ? size - i : piece);
    sha256_end(&h, hex);
    return hex;
}

static void sha256_agrees_with_fips_180_4(void **state)
{
    (void)state;
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_string_equal(sha256_of("", 0, 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_equal(sha256_of("abc", 3, 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(sha256_of(two_blocks, 56, 56),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void sha256_does_not_depend_on_how_the_bytes_arrive(void **state)
{
    (void)state;
    static char million[1000000];
    const char *expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"; /* FIPS 180-4 */
    memset(million, 'a', sizeof million);
    const size_t pieces[] = {1000000, 64, 63, 65, 1021};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        assert_string_equal(sha256_of(million, sizeof million, pieces[i]), expected);
}

static void the_sha256_of_a_file_is_that_of_its_bytes(void **state)
{
    (void)state;
    char path[] = "/tmp/drr-sha.XXXXXX", hex[65];
    drr_error err = {0};
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    assert_int_equal(sha256_file(hex, path, &err), DRR_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    unlink(path);
    assert_int_equal(sha256_file(hex, path, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generator_is_the_published_one),
        cmocka_unit_test(a_seed_gives_its_stream),
        cmocka_unit_test(a_shuffle_is_the_same_everywhere_and_loses_nothing),
        cmocka_unit_test(draws_below_a_bound_are_spread_evenly),
        cmocka_unit_test(normal_draws_have_mean_0_and_deviation_1),
        cmocka_unit_test(hashes_are_stable_for_ever),
        cmocka_unit_test(sha256_agrees_with_fips_180_4),
        cmocka_unit_test(sha256_does_not_depend_on_how_the_bytes_arrive),
        cmocka_unit_test(the_sha256_of_a_file_is_that_of_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
