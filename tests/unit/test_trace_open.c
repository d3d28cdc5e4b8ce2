/* test_trace_open.c: many processes make one store at the same moment, and each of them gets it. */
#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROUNDS = 40, OPENERS = 4 };

/* In a child, once nobody holds the writing end of `gate` any more. */
static void open_at_the_gate(const int gate[2], const char *path, int number)
{
    char byte;
    drr_store *store = NULL;
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 0)
        _exit(2);
    const drr_status status = drr_store_open(&store, path, true, NULL);
    if (number % 2)
        usleep(2000); /* so that some close while others open */
    drr_store_close(store);
    _exit(status == DRR_OK ? 0 : 1);
}

static void processes_that_make_one_store_at_once_all_get_it(void **state)
{
    (void)state;
    char folder[] = "/tmp/drr-test-open-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    int refused = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int gate[2];
        assert_int_equal(pipe(gate), 0);
        snprintf(path, sizeof path, "%s/%d.db", folder, round);
        for (int i = 0; i < OPENERS; i++) {
            const pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0)
                open_at_the_gate(gate, path, i);
        }
        close(gate[0]);
        close(gate[1]);
        for (int i = 0, status = 0; i < OPENERS; i++) {
            assert_true(wait(&status) > 0);
            refused += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        }
        unlink(path);
    }
    assert_int_equal(refused, 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left beside */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_that_make_one_store_at_once_all_get_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
