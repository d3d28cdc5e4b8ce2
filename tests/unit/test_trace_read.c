/* test_trace_read.c: reading a store changes nothing and needs no right to write; a question that changed is told from
 * one that did not. */
#include "trace/trace.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/drr-test-read-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static char *text_of(const char *text) /* the trace's strings are never written to here */
{
    return (char *)(uintptr_t)text;
}

static drr_trace make_trace(uint32_t sample)
{
    drr_trace t = {.task = text_of("set"),
                   .id = text_of("q0"),
                   .question = text_of("How many?"),
                   .gold = text_of("1000"),
                   .kind = DRR_KIND_NUMBER,
                   .reasoner = text_of("r1"),
                   .prompt = text_of("p1"),
                   .sample = sample,
                   .text = text_of("Answer: 1000"),
                   .answer = text_of("1000"),
                   .label = DRR_LABEL_ACCEPT};
    trace_token_stats_unknown(&t.stats);
    return t;
}

static void append(drr_store *store, uint32_t sample)
{
    const drr_trace t = make_trace(sample);
    assert_int_equal(drr_store_append(store, &t, NULL, NULL), DRR_OK);
}

static void make_store(char path[96], const char *name)
{
    drr_store *store = NULL;
    snprintf(path, 96, "%s/%s", folder, name);
    assert_int_equal(drr_store_open(&store, path, true, NULL), DRR_OK);
    append(store, 0);
    append(store, 1);
    drr_store_close(store);
}

static bool lies(const char *path, const char *tail)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", path, tail);
    return access(name, F_OK) == 0;
}

typedef struct reading {
    const char *path;
    uint32_t n, n_open; /* traces; files open on the store, all of them for reading alone */
    bool writes;        /* another process comes and goes meanwhile */
} reading;

static bool look(void *user, const drr_trace *trace)
{
    reading *r = user;
    (void)trace;
    assert_false(lies(r->path, "-wal") || lies(r->path, "-shm") || lies(r->path, "-journal"));
    r->n_open = 0;
    for (int fd = 3; fd < 256; fd++) {
        char link[64], name[256];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(link, name, sizeof name - 1);
        if (n < 0)
            continue;
        name[n] = 0;
        if (strcmp(name, r->path) != 0)
            continue;
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        r->n_open++;
    }
    r->n++;
    if (r->writes) {
        drr_store *writer = NULL;
        assert_int_equal(drr_store_open(&writer, r->path, false, NULL), DRR_OK);
        append(writer, 100);
        drr_store_close(writer); /* takes the log into the file */
        r->writes = false;
    }
    return true;
}

static void reading_opens_for_reading_and_makes_no_file_beside(void **state)
{
    (void)state;
    static const char *const names[] = {"plain.db", "a?b#c%41.db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[96];
        struct stat before, after;
        drr_store *store = NULL;
        drr_trace_counts counts;
        make_store(path, names[i]);
        assert_int_equal(stat(path, &before), 0);
        reading r = {.path = path};
        assert_int_equal(drr_traces_each(path, NULL, look, &r, NULL), DRR_OK);
        assert_int_equal(r.n, 2);
        assert_int_equal(r.n_open, 1);
        assert_int_equal(drr_store_open_read(&store, path, NULL), DRR_OK);
        assert_int_equal(drr_store_counts(store, NULL, &counts, NULL), DRR_OK);
        assert_int_equal(counts.traces, 2);
        drr_store_close(store);
        assert_false(lies(path, "-wal") || lies(path, "-shm"));
        assert_int_equal(stat(path, &after), 0);
        assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof after.st_mtim);
    }
}

/* In a child that is nobody, since nothing is read-only to root. */
static int read_as_nobody(const char *path, const char *export)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint32_t code = 0;
        drr_store *store = NULL;
        drr_trace_counts counts = {0};
        uint64_t n = 0;
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(99);
        char name[128];
        snprintf(name, sizeof name, "%s.new", path);
        code |= open(name, O_WRONLY | O_CREAT, 0600) >= 0 || open(path, O_WRONLY) >= 0 ? 1 : 0; /* it is read-only */
        drr_error err = {0};
        code |= drr_store_open_read(&store, path, &err) == DRR_OK                                         ? 0
                : err.status == DRR_E_IO && strstr(err.message, "copy the file and its -wal to a folder") ? 2
                                                                                                          : 64;
        if (store) {
            code |= drr_store_counts(store, NULL, &counts, NULL) == DRR_OK && counts.traces == 2 ? 0 : 4;
            code |= drr_store_export(store, NULL, export, &n, NULL) == DRR_OK && n == 2 ? 0 : 8;
        }
        drr_store_close(store);
        _exit((int)code);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_store_is_read_where_nothing_may_be_written(void **state)
{
    (void)state;
    char path[96], export[96];
    snprintf(export, sizeof export, "/tmp/drr-test-read-%ld.jsonl", (long)getpid());
    make_store(path, "locked.db");
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    const int code = read_as_nobody(path, export);
    assert_int_equal(chmod(folder, 0700), 0);
    unlink(export);
    assert_int_equal(code, 0);
}

static void copy(const char *from, const char *to, const char *tail)
{
    char a[128], b[128], *data = NULL;
    size_t size = 0;
    snprintf(a, sizeof a, "%s%s", from, tail);
    snprintf(b, sizeof b, "%s%s", to, tail);
    assert_int_equal(file_read(&data, &size, a, 0, NULL), DRR_OK);
    assert_int_equal(file_write_all(b, data, size, NULL), DRR_OK);
    assert_int_equal(chmod(b, 0444), 0);
    free(data);
}

/* What a killed writer left: a trace is in the log alone. Only with the index beside it can that be read in place. */
static void so_is_a_log_that_a_killed_writer_left(void **state)
{
    (void)state;
    char path[96], killed[96], export[96];
    drr_store *writer = NULL;
    snprintf(export, sizeof export, "/tmp/drr-test-read-%ld.jsonl", (long)getpid());
    snprintf(path, sizeof path, "%s/alive.db", folder);
    snprintf(killed, sizeof killed, "%s/killed.db", folder);
    assert_int_equal(drr_store_open(&writer, path, true, NULL), DRR_OK);
    append(writer, 0);
    append(writer, 1);
    copy(path, killed, "");
    copy(path, killed, "-wal");
    copy(path, killed, "-shm");
    drr_store_close(writer);
    assert_int_equal(chmod(folder, 0555), 0);
    int code = read_as_nobody(killed, export);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(code, 0);
    char shm[128];
    snprintf(shm, sizeof shm, "%s-shm", killed);
    unlink(shm);
    assert_int_equal(chmod(folder, 0555), 0);
    code = read_as_nobody(killed, export);
    assert_int_equal(chmod(folder, 0700), 0);
    unlink(export);
    assert_int_equal(code, 2); /* refused: without its log the store would be an older one */
}

static void a_writer_at_work_is_read_beside(void **state)
{
    (void)state;
    char path[96];
    drr_store *writer = NULL, *reader = NULL;
    drr_trace_counts counts;
    make_store(path, "shared.db");
    assert_int_equal(drr_store_open(&writer, path, false, NULL), DRR_OK);
    append(writer, 2);
    assert_true(lies(path, "-wal"));
    assert_int_equal(drr_store_open_read(&reader, path, NULL), DRR_OK);
    for (uint32_t i = 3; i < 6; i++) {
        assert_int_equal(drr_store_counts(reader, NULL, &counts, NULL), DRR_OK);
        assert_int_equal(counts.traces, i); /* what is in the log alone, too */
        append(writer, i);
    }
    drr_store_close(reader);
    drr_store_close(writer);
}

static void a_writer_that_comes_while_the_file_is_read_is_noticed(void **state)
{
    (void)state;
    char path[96];
    drr_error err = {0};
    make_store(path, "race.db");
    reading r = {.path = path, .writes = true};
    usleep(20000); /* a file's time is only as fine as the kernel's clock tick */
    assert_int_equal(drr_traces_each(path, NULL, look, &r, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "run the same command again"));
    r.n = 0;
    assert_int_equal(drr_traces_each(path, NULL, look, &r, &err), DRR_OK);
    assert_int_equal(r.n, 3);
}

static void what_is_opened_for_reading_takes_nothing(void **state)
{
    (void)state;
    char path[96];
    drr_store *store = NULL;
    drr_error err = {0};
    const drr_trace t = make_trace(9);
    make_store(path, "taken.db");
    assert_int_equal(drr_store_open_read(&store, path, NULL), DRR_OK);
    assert_int_equal(drr_store_append(store, &t, NULL, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "for reading"));
    assert_int_equal(store_fact_set(store, "seed", "1", NULL), DRR_E_IO);
    drr_store_close(store);
    store = NULL;
    snprintf(path, sizeof path, "%s/empty.db", folder);
    assert_int_equal(file_write_all(path, "", 0, NULL), DRR_OK);
    assert_int_equal(drr_store_open_read(&store, path, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "no store yet"));
    snprintf(path, sizeof path, "%s/nowhere.db", folder);
    assert_int_equal(drr_store_open_read(&store, path, &err), DRR_E_NOT_FOUND);
    assert_null(store);
}

static const char *changed(drr_store *store, const drr_task *task)
{
    const char *what = NULL;
    assert_int_equal(store_question_changed(store, task, &what, NULL), DRR_OK);
    return what;
}

static void a_question_that_changed_is_told_from_one_that_did_not(void **state)
{
    (void)state;
    char path[96];
    drr_store *store = NULL;
    const char *const choices[] = {"bank", "library"}, *const swapped[] = {"library", "bank"};
    const drr_task number = {"set", "q0", "How many?", NULL, 0, "1000", DRR_KIND_NUMBER};
    const drr_task choice = {"set", "q1", "Where?", choices, 2, "B", DRR_KIND_CHOICE};
    drr_task t = number;
    drr_trace trace = make_trace(0);
    make_store(path, "questions.db");
    assert_int_equal(drr_store_open(&store, path, false, NULL), DRR_OK);
    trace.id = text_of("q1");
    trace.kind = DRR_KIND_CHOICE;
    trace.question = text_of("Where? (A) bank (B) library");
    trace.gold = text_of("B");
    assert_int_equal(drr_store_append(store, &trace, NULL, NULL), DRR_OK);
    assert_null(changed(store, &number));
    assert_null(changed(store, &choice));
    t.answer = "1,000"; /* the same number */
    assert_null(changed(store, &t));
    t.answer = "1001";
    assert_string_equal(changed(store, &t), "another answer");
    t.id = "q2"; /* not known */
    assert_null(changed(store, &t));
    t = number;
    t.task = "other";
    t.question = "How few?";
    assert_null(changed(store, &t));
    t.task = "set";
    assert_string_equal(changed(store, &t), "other words or choices");
    t = number;
    t.kind = DRR_KIND_TEXT;
    assert_string_equal(changed(store, &t), "another kind");
    t = choice;
    t.choices = swapped;
    assert_string_equal(changed(store, &t), "other words or choices");
    trace.sample = 1; /* imported, without a reference answer */
    trace.id = text_of("q3");
    trace.gold = text_of("");
    assert_int_equal(drr_store_append(store, &trace, NULL, NULL), DRR_OK);
    t = choice;
    t.id = "q3";
    assert_null(changed(store, &t));
    drr_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_opens_for_reading_and_makes_no_file_beside),
        cmocka_unit_test(a_store_is_read_where_nothing_may_be_written),
        cmocka_unit_test(so_is_a_log_that_a_killed_writer_left),
        cmocka_unit_test(a_writer_at_work_is_read_beside),
        cmocka_unit_test(a_writer_that_comes_while_the_file_is_read_is_noticed),
        cmocka_unit_test(what_is_opened_for_reading_takes_nothing),
        cmocka_unit_test(a_question_that_changed_is_told_from_one_that_did_not),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
