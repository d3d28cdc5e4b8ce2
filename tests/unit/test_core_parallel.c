/* test_core_parallel.c: a parallel loop covers its range once, whatever the number of threads. Run by the TSan preset
 * as well. */
#include "core/core.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 1000 };

typedef struct coverage {
    unsigned char times[MOST]; /* parts are apart: no two threads write one byte */
    atomic_uint calls, highest_thread;
} coverage;

static void count(void *user, size_t begin, size_t end, uint32_t thread)
{
    coverage *c = user;
    atomic_fetch_add(&c->calls, 1);
    unsigned highest = atomic_load(&c->highest_thread);
    while (thread > highest && !atomic_compare_exchange_weak(&c->highest_thread, &highest, thread))
        ;
    for (size_t i = begin; i < end; i++)
        c->times[i]++;
}

static void check_coverage(uint32_t threads, size_t n)
{
    coverage *c = calloc(1, sizeof *c);
    parallel_set_threads(threads);
    parallel_for(n, count, c);
    for (size_t i = 0; i < MOST; i++)
        assert_int_equal(c->times[i], i < n ? 1 : 0);
    assert_true(c->calls <= parallel_threads());
    assert_true(c->highest_thread < parallel_threads());
    free(c);
}

static void every_index_is_visited_once(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 2, 3, 7, 64, 999, 1000};
    for (uint32_t threads = 1; threads <= 5; threads++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_coverage(threads, sizes[i]);
}

static void the_number_of_threads_may_shrink_and_grow_between_loops(void **state)
{
    (void)state;
    const uint32_t threads[] = {4, 1, 3, 2, 6, 1, 6};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        parallel_set_threads(threads[i]);
        assert_int_equal(parallel_threads(), threads[i]);
        check_coverage(threads[i], 501);
    }
    parallel_set_threads(0);
    assert_true(parallel_threads() >= 1);
}

static void cores_that_the_process_may_not_run_on_do_not_count(void **state)
{
    (void)state;
    cpu_set_t before, one;
    size_t first = 0;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(first, &before))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(cores_usable(), CPU_COUNT(&before));
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    parallel_set_threads(0);
    assert_int_equal(cores_usable(), 1);
    assert_int_equal(parallel_threads(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void add(void *user, size_t begin, size_t end, uint32_t thread)
{
    (void)thread;
    atomic_fetch_add((atomic_size_t *)user, end - begin);
}

static void add_within(void *user, size_t begin, size_t end, uint32_t thread)
{
    (void)thread;
    for (size_t i = begin; i < end; i++)
        parallel_for(10, add, user);
}

static void a_loop_within_a_loop_ends_and_covers_its_range(void **state)
{
    (void)state;
    atomic_size_t total = 0;
    parallel_set_threads(3);
    parallel_for(20, add_within, &total);
    assert_int_equal(total, 200);
}

static void many_short_loops_lose_nothing(void **state)
{
    (void)state;
    atomic_size_t total = 0;
    parallel_set_threads(2);
    for (int i = 0; i < 2000; i++)
        parallel_for(3, add, &total);
    assert_int_equal(total, 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(the_number_of_threads_may_shrink_and_grow_between_loops),
        cmocka_unit_test(cores_that_the_process_may_not_run_on_do_not_count),
        cmocka_unit_test(a_loop_within_a_loop_ends_and_covers_its_range),
        cmocka_unit_test(many_short_loops_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
