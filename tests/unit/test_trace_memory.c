/* test_trace_memory.c: a trace that is read while memory runs out is whole or refused: no answer and no feedback is
 * left out in silence. The copy of a string fails, each in turn (the linker puts ours in between); what is read is a
 * real file and a real store. */
#include "trace/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int copies_left = -1; /* that still succeed; -1: all do */

char *__real_string_copy(const char *text);
char *__wrap_string_copy(const char *text);

char *__wrap_string_copy(const char *text)
{
    if (copies_left == 0 && text)
        return NULL;
    copies_left -= copies_left > 0 && text;
    return __real_string_copy(text);
}

static char folder[] = "/tmp/drr-test-memory-XXXXXX";
static char lines_path[64], store_path[64];

static const char line[] =
    "{\"task\": \"set\", \"id\": \"q0\", \"question\": \"How many?\", \"gold\": \"12\", \"kind\": \"number\", "
    "\"reasoner\": \"r1\", \"prompt\": \"p1\", \"turn\": 1, \"text\": \"Answer: 11\", \"answer\": \"11\", "
    "\"feedback\": \"No. Try again.\", \"label\": \"reject\"}\n";

static int make_both(void **state)
{
    drr_store *store = NULL;
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(lines_path, sizeof lines_path, "%s/t.jsonl", folder);
    snprintf(store_path, sizeof store_path, "%s/t.db", folder);
    int bad = file_write_all(lines_path, line, strlen(line), NULL) != DRR_OK;
    bad = bad || drr_store_open(&store, store_path, true, NULL) != DRR_OK;
    bad = bad || drr_store_import(store, lines_path, NULL, NULL, NULL) != DRR_OK;
    drr_store_close(store);
    return bad;
}

static int remove_both(void **state)
{
    (void)state;
    unlink(lines_path);
    unlink(store_path);
    return rmdir(folder);
}

static bool look(void *user, const drr_trace *t)
{
    assert_true(t->answer && t->feedback);
    assert_string_equal(t->answer, "11");
    assert_string_equal(t->feedback, "No. Try again.");
    assert_string_equal(t->gold, "12");
    ++*(int *)user;
    return true;
}

/* Fails copy after copy until there is none left to fail. */
static void read_with_failures(const char *path)
{
    int n_refused = 0;
    for (int n = 0; n < 100; n++) {
        drr_error err = {0};
        int seen = 0;
        copies_left = n;
        const drr_status status = drr_traces_each(path, NULL, look, &seen, &err);
        const bool met = copies_left == 0;
        copies_left = -1;
        if (status == DRR_OK && seen == 1 && !met) {
            assert_true(n_refused >= 9); /* as many strings as the trace has */
            return;
        }
        n_refused += status == DRR_E_MEMORY;
        assert_true(status == DRR_E_MEMORY ? seen == 0 && err.message[0] : status == DRR_OK && seen == 1);
    }
    fail_msg("%s", "reading never came to its end");
}

static void a_line_is_read_whole_or_refused(void **state)
{
    (void)state;
    read_with_failures(lines_path);
}

static void so_is_a_row_of_a_store(void **state)
{
    (void)state;
    read_with_failures(store_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_read_whole_or_refused),
        cmocka_unit_test(so_is_a_row_of_a_store),
    };
    return cmocka_run_group_tests(tests, make_both, remove_both);
}
