/* test_core_files.c: a file is either written whole or not at all, and what is broken is said with its name and line.
 * Works in a folder of its own, which must be empty of temporary files after each failure. */
#include "core/core.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char folder[64];

static const char *at(const char *name)
{
    static char paths[4][400];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int make_place(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/drr-files.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static size_t entries(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int remove_place(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            remove(at(e->d_name));
    if (d)
        closedir(d);
    return rmdir(folder);
}

static void assert_holds(const char *path, const char *expected)
{
    char *data = NULL;
    size_t size = 0;
    drr_error err = {0};
    if (file_read(&data, &size, path, 0, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(size, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void a_written_file_replaces_the_old_one_and_leaves_no_other(void **state)
{
    (void)state;
    assert_int_equal(file_write_all(at("a"), "old", 3, NULL), DRR_OK);
    assert_int_equal(file_write_all(at("a"), "the new text", 12, NULL), DRR_OK);
    assert_holds(at("a"), "the new text");
    assert_int_equal(entries(folder), 1);
}

static void the_old_file_stands_until_the_commit_and_after_an_abandoned_write(void **state)
{
    (void)state;
    file_writer w;
    assert_int_equal(file_write_all(at("a"), "old", 3, NULL), DRR_OK);
    assert_int_equal(file_writer_open(&w, at("a"), NULL), DRR_OK);
    assert_int_equal(file_writer_put(&w, "half", 4, NULL), DRR_OK);
    assert_holds(at("a"), "old");
    file_writer_abandon(&w);
    file_writer_abandon(&w); /* twice is fine */
    assert_holds(at("a"), "old");
    assert_int_equal(entries(folder), 1);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    drr_error err = {0};
    assert_int_equal(file_write_all(at("missing/a"), "x", 1, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, at("missing/a")));
    assert_int_equal(entries(folder), 0);
}

static void a_folder_in_the_way_of_the_final_name_leaves_nothing_behind(void **state)
{
    (void)state;
    drr_error err = {0};
    assert_int_equal(mkdir(at("a"), 0755), 0);
    assert_int_equal(file_write_all(at("a"), "x", 1, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, at("a")));
    assert_int_equal(entries(folder), 1);
}

/* Renaming over a device or a pipe would replace it: as root, even /dev/null. */
static void what_is_no_regular_file_is_never_replaced(void **state)
{
    (void)state;
    struct stat st;
    drr_error err = {0};
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(file_write_all(at("pipe"), "x", 1, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "pipe is not a regular file"));
    assert_int_equal(stat(at("pipe"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(entries(folder), 1);
}

/* In a child that is not root, since root may write everywhere. */
static int write_where_it_is_forbidden(void)
{
    drr_error err = {0};
    if (geteuid() == 0 && setuid(65534) != 0)
        return 10;
    if (file_write_all(at("a"), "x", 1, &err) != DRR_E_IO)
        return 11;
    return strstr(err.message, at("a")) && strstr(err.message, "permissions") ? 0 : 12;
}

static int exit_code_of_child(int (*work)(void))
{
    const pid_t child = fork();
    int how = 0;
    if (child == 0)
        _exit(work());
    return child > 0 && waitpid(child, &how, 0) == child && WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void a_read_only_folder_is_said_to_be_one(void **state)
{
    (void)state;
    assert_int_equal(chmod(folder, 0555), 0);
    const int code = exit_code_of_child(write_where_it_is_forbidden);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(code, 0);
    assert_int_equal(entries(folder), 0);
}

/* In a child, because a limit on the file size cannot be taken back: a write past it fails as one on a full disk. */
static int write_past_the_limit(void)
{
    static char big[1 << 20];
    drr_error err = {0};
    const struct rlimit limit = {4096, 4096};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 10;
    if (file_write_all(at("a"), big, sizeof big, &err) != DRR_E_IO)
        return 11;
    if (!strstr(err.message, at("a")) || !strstr(err.message, "free some space"))
        return 12;
    return 0;
}

static void a_full_disk_leaves_the_old_file_and_no_other(void **state)
{
    (void)state;
    assert_int_equal(file_write_all(at("a"), "old", 3, NULL), DRR_OK);
    assert_int_equal(exit_code_of_child(write_past_the_limit), 0);
    assert_holds(at("a"), "old");
    assert_int_equal(entries(folder), 1);
}

static void no_space_left_is_seen_at_the_latest_by_the_commit(void **state)
{
    (void)state;
    file_writer w;
    drr_error err = {0};
    assert_int_equal(file_writer_open(&w, at("a"), NULL), DRR_OK);
    w.file = freopen("/dev/full", "wb", w.file);
    assert_non_null(w.file);
    assert_int_equal(file_writer_put(&w, "small enough to be buffered", 27, NULL), DRR_OK);
    assert_int_equal(file_writer_commit(&w, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "No space left on device"));
    assert_int_equal(entries(folder), 0);
}

/* ---- what killed writers left */

static pid_t dead_process(void)
{
    int how = 0;
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &how, 0), child); /* it is nobody's number now */
    return child;
}

static const char *put_leftover(const char *target, const char *tail, long number)
{
    static char name[80];
    snprintf(name, sizeof name, "%s%s%ld", target, tail, number);
    FILE *file = fopen(at(name), "wb");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    return name;
}

static void a_killed_writers_file_is_removed_by_the_next_writer(void **state)
{
    (void)state;
    int how = 0;
    const pid_t child = fork();
    if (child == 0) {
        file_writer w;
        if (file_writer_open(&w, at("a"), NULL) == DRR_OK && file_writer_put(&w, "half", 4, NULL) == DRR_OK)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_equal(entries(folder), 1); /* the half */
    assert_int_equal(file_write_all(at("a"), "whole", 5, NULL), DRR_OK);
    assert_holds(at("a"), "whole");
    assert_int_equal(entries(folder), 1);
    assert_int_equal(chdir(folder), 0); /* a name without a folder is one of this folder */
    put_leftover("b", ".tmp-", (long)child);
    assert_int_equal(file_write_all("b", "whole", 5, NULL), DRR_OK);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(entries(folder), 2);
}

static void a_file_that_may_be_anothers_is_left_alone(void **state)
{
    (void)state;
    const long dead = (long)dead_process(), alive = (long)getppid();
    put_leftover("a", ".tmp-", dead);                           /* the one that goes */
    put_leftover("a", ".tmp-", alive);                          /* its writer lives */
    put_leftover("b", ".tmp-", dead);                           /* another file's */
    put_leftover("aa", ".tmp-", dead);                          /* the same */
    put_leftover("a", ".tmp-0", dead);                          /* no number that we write */
    put_leftover("a", ".tmp--", dead);                          /* a whole group of processes to kill() */
    put_leftover("a", ".tmp-x", dead);                          /* somebody's word */
    put_leftover("a", ".tmp-9999999999999999999999999-", dead); /* past any number */
    put_leftover("a", ".old-", dead);                           /* another ending */
    char name[80];
    snprintf(name, sizeof name, "a.tmp-%ld.gz", dead); /* and one that goes on */
    put_leftover(name, "", 1);
    const size_t before = entries(folder);
    assert_int_equal(before, 10);
    assert_int_equal(file_write_all(at("a"), "x", 1, NULL), DRR_OK);
    assert_int_equal(entries(folder), before); /* one gone, one new */
    snprintf(name, sizeof name, "a.tmp-%ld", dead);
    assert_false(file_exists(at(name)));
}

/* A process of another container has a number that means nothing here; the lock on its file does. */
static void a_file_that_is_being_written_is_left_alone_whatever_its_number(void **state)
{
    (void)state;
    file_writer w;
    char name[80], *mine;
    assert_int_equal(file_writer_open(&w, at("a"), NULL), DRR_OK);
    snprintf(name, sizeof name, "a.tmp-%ld", (long)dead_process());
    mine = w.temporary;
    w.temporary = string_copy(at(name));
    assert_non_null(w.temporary);
    assert_int_equal(rename(mine, w.temporary), 0);
    free(mine);
    assert_int_equal(file_write_all(at("a"), "first", 5, NULL), DRR_OK);
    assert_int_equal(file_writer_put(&w, "second", 6, NULL), DRR_OK);
    assert_int_equal(file_writer_commit(&w, NULL), DRR_OK);
    assert_holds(at("a"), "second");
    assert_int_equal(entries(folder), 1);
}

static void folders_are_made_with_their_parents_but_not_over_a_file(void **state)
{
    (void)state;
    drr_error err = {0};
    assert_int_equal(folder_make(at("x"), NULL), DRR_OK);
    assert_int_equal(folder_make(at("x"), NULL), DRR_OK);
    assert_int_equal(folder_make(at("x/y/z"), NULL), DRR_OK);
    assert_true(file_is_folder(at("x/y/z")));
    assert_int_equal(rmdir(at("x/y/z")), 0);
    assert_int_equal(rmdir(at("x/y")), 0);
    assert_int_equal(file_write_all(at("plain"), "x", 1, NULL), DRR_OK);
    assert_int_equal(folder_make(at("plain/sub"), &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "plain"));
}

static void a_file_larger_than_allowed_is_refused(void **state)
{
    (void)state;
    char *data = NULL;
    drr_error err = {0};
    assert_int_equal(file_write_all(at("a"), "0123456789", 10, NULL), DRR_OK);
    assert_int_equal(file_read(&data, NULL, at("a"), 9, &err), DRR_E_LIMIT);
    assert_null(data);
    assert_int_equal(file_read(&data, NULL, at("a"), 10, NULL), DRR_OK);
    free(data);
    data = NULL;
    assert_int_equal(file_read(&data, NULL, folder, 0, &err), DRR_E_IO);
    assert_null(data);
}

static void a_map_shows_the_files_bytes_and_refuses_an_empty_one(void **state)
{
    (void)state;
    file_map map = {0};
    drr_error err = {0};
    assert_int_equal(file_write_all(at("a"), "GGUF", 4, NULL), DRR_OK);
    assert_int_equal(file_map_open(&map, at("a"), NULL), DRR_OK);
    assert_int_equal(map.size, 4);
    assert_memory_equal(map.data, "GGUF", 4);
    file_map_close(&map);
    file_map_close(&map);
    assert_int_equal(file_write_all(at("a"), "", 0, NULL), DRR_OK);
    assert_int_equal(file_map_open(&map, at("a"), &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "empty"));
    assert_int_equal(file_map_open(&map, folder, &err), DRR_E_FORMAT);
    assert_int_equal(file_map_open(&map, at("absent"), &err), DRR_E_NOT_FOUND);
}

static void assert_next(line_reader *r, const char *expected)
{
    char *line;
    size_t length;
    drr_error err = {0};
    if (lines_next(r, &line, &length, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(length, strlen(expected));
    assert_string_equal(line, expected);
}

static void assert_ended(line_reader *r)
{
    char *line;
    drr_error err = {0};
    assert_int_equal(lines_next(r, &line, NULL, &err), DRR_E_EMPTY);
    assert_int_equal(err.status, DRR_OK);
}

static void lines_are_given_with_either_line_end_and_without_a_last_one(void **state)
{
    (void)state;
    line_reader *r = NULL;
    const char text[] = "first\r\n\nthird";
    assert_int_equal(file_write_all(at("a"), text, sizeof text - 1, NULL), DRR_OK);
    assert_int_equal(lines_open(&r, at("a"), NULL), DRR_OK);
    assert_next(r, "first");
    assert_int_equal(lines_number(r), 1);
    assert_next(r, "");
    assert_next(r, "third");
    assert_int_equal(lines_number(r), 3);
    assert_ended(r);
    assert_ended(r);
    lines_close(r);
    lines_close(NULL);
}

static void write_gzip(const char *path, int n_lines)
{
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    for (int i = 1; i <= n_lines; i++)
        assert_true(gzprintf(f, "{\"line\": %d, \"noise\": %d}\n", i, i * 7919 % 65537) > 0);
    assert_int_equal(gzclose(f), Z_OK);
}

static void gzip_lines_are_read_like_plain_ones(void **state)
{
    (void)state;
    line_reader *r = NULL;
    char expected[64];
    write_gzip(at("a.gz"), 9000); /* more than one chunk */
    assert_int_equal(lines_open(&r, at("a.gz"), NULL), DRR_OK);
    for (int i = 1; i <= 9000; i++) {
        snprintf(expected, sizeof expected, "{\"line\": %d, \"noise\": %d}", i, i * 7919 % 65537);
        assert_next(r, expected);
    }
    assert_ended(r);
    lines_close(r);
}

static drr_status read_all(const char *path, uint64_t *n, drr_error *err)
{
    line_reader *r = NULL;
    char *line;
    drr_status status = lines_open(&r, path, err);
    while (status == DRR_OK)
        status = lines_next(r, &line, NULL, err);
    *n = r ? lines_number(r) : 0;
    lines_close(r);
    return status;
}

static void a_gzip_file_cut_short_is_told_from_one_that_ends(void **state)
{
    (void)state;
    struct stat st;
    uint64_t n;
    char expected[300];
    write_gzip(at("a.gz"), 9000);
    assert_int_equal(stat(at("a.gz"), &st), 0);
    const off_t cuts[] = {st.st_size - 1, st.st_size - 8, st.st_size / 2, 20, 12};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        drr_error err = {0};
        assert_int_equal(truncate(at("a.gz"), cuts[i]), 0);
        assert_int_equal(read_all(at("a.gz"), &n, &err), DRR_E_FORMAT);
        assert_true(n < 9000);
        snprintf(expected, sizeof expected, "%s:%llu: ", at("a.gz"), (unsigned long long)n + 1);
        assert_memory_equal(err.message, expected, strlen(expected));
    }
}

static void a_gzip_file_with_a_flipped_bit_is_refused(void **state)
{
    (void)state;
    char *data = NULL;
    size_t size = 0;
    uint64_t n;
    write_gzip(at("a.gz"), 200);
    assert_int_equal(file_read(&data, &size, at("a.gz"), 0, NULL), DRR_OK);
    data[size / 2] ^= 0x10;
    assert_int_equal(file_write_all(at("a.gz"), data, size, NULL), DRR_OK);
    assert_int_equal(read_all(at("a.gz"), &n, NULL), DRR_E_FORMAT);
    free(data);
}

static void an_absent_file_and_a_folder_have_no_lines(void **state)
{
    (void)state;
    line_reader *r = NULL;
    drr_error err = {0};
    assert_int_equal(lines_open(&r, at("absent.jsonl"), &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "absent.jsonl"));
    assert_int_equal(lines_open(&r, folder, &err), DRR_E_IO);
    assert_non_null(strstr(err.message, "is a folder"));
    assert_null(r);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(a_written_file_replaces_the_old_one_and_leaves_no_other),
        IN_A_PLACE(the_old_file_stands_until_the_commit_and_after_an_abandoned_write),
        IN_A_PLACE(a_folder_that_is_not_there_is_named),
        IN_A_PLACE(a_folder_in_the_way_of_the_final_name_leaves_nothing_behind),
        IN_A_PLACE(what_is_no_regular_file_is_never_replaced),
        IN_A_PLACE(a_read_only_folder_is_said_to_be_one),
        IN_A_PLACE(a_full_disk_leaves_the_old_file_and_no_other),
        IN_A_PLACE(no_space_left_is_seen_at_the_latest_by_the_commit),
        IN_A_PLACE(a_killed_writers_file_is_removed_by_the_next_writer),
        IN_A_PLACE(a_file_that_may_be_anothers_is_left_alone),
        IN_A_PLACE(a_file_that_is_being_written_is_left_alone_whatever_its_number),
        IN_A_PLACE(folders_are_made_with_their_parents_but_not_over_a_file),
        IN_A_PLACE(a_file_larger_than_allowed_is_refused),
        IN_A_PLACE(a_map_shows_the_files_bytes_and_refuses_an_empty_one),
        IN_A_PLACE(lines_are_given_with_either_line_end_and_without_a_last_one),
        IN_A_PLACE(gzip_lines_are_read_like_plain_ones),
        IN_A_PLACE(a_gzip_file_cut_short_is_told_from_one_that_ends),
        IN_A_PLACE(a_gzip_file_with_a_flipped_bit_is_refused),
        IN_A_PLACE(an_absent_file_and_a_folder_have_no_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
