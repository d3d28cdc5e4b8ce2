/* test_core_memory.c: how much memory there is to take, on machines made of a few files under a folder. */
#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static void put(const char *name, const char *text)
{
    char path[512];
    drr_error err = {0};
    snprintf(path, sizeof path, "%s/%s", root, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(folder_make(path, &err), DRR_OK);
    *slash = '/';
    if (file_write_all(path, text, strlen(text), &err) != DRR_OK)
        fail_msg("%s", err.message);
}

static int make_machine(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/drr-memory.XXXXXX");
    if (!mkdtemp(root))
        return -1;
    put("proc/meminfo", "MemTotal:       4000 kB\nMemFree:         100 kB\nMemAvailable:   3000 kB\n");
    return 0;
}

static int remove_machine(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void assert_available(uint64_t kib)
{
    assert_int_equal(memory_available_under(root), kib * 1024);
}

static void without_control_groups_it_is_what_the_machine_has(void **state)
{
    (void)state;
    assert_available(3000);
}

static void where_nothing_tells_there_is_no_bound(void **state)
{
    (void)state;
    assert_int_equal(memory_available_under("/nonexistent"), UINT64_MAX);
}

static void a_group_without_a_limit_changes_nothing(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "2048\n");
    assert_available(3000);
}

static void a_limit_counts_less_what_is_used(void **state)
{
    (void)state;
    put("proc/self/cgroup", "1:name=systemd:/x\n0::/box\n");
    put("sys/fs/cgroup/box/memory.max", "2048000\n");
    put("sys/fs/cgroup/box/memory.current", "1024000\n");
    assert_available(1000);
}

static void cached_files_are_given_back_when_memory_is_wanted(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/box\n");
    put("sys/fs/cgroup/box/memory.max", "2048000\n");
    put("sys/fs/cgroup/box/memory.current", "1024000\n");
    put("sys/fs/cgroup/box/memory.stat", "anon 0\nfile 512000\ninactive_file 204800\nactive_file 307200\n");
    assert_available(1500);
}

static void a_group_that_is_full_leaves_nothing(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/box\n");
    put("sys/fs/cgroup/box/memory.max", "2048000\n");
    put("sys/fs/cgroup/box/memory.current", "2052096\n");
    assert_available(0);
}

static void the_tightest_of_the_groups_around_counts(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/outer/inner\n");
    put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
    put("sys/fs/cgroup/outer/inner/memory.current", "0\n");
    put("sys/fs/cgroup/outer/memory.max", "512000\n");
    put("sys/fs/cgroup/outer/memory.current", "0\n");
    assert_available(500);
}

static void groups_of_the_first_version_count_too(void **state)
{
    (void)state;
    put("proc/self/cgroup", "5:devices:/far\n4:memory:/far/away\n0::/\n");
    put("sys/fs/cgroup/memory/far/away/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/far/away/memory.usage_in_bytes", "4096\n");
    put("sys/fs/cgroup/memory/far/memory.limit_in_bytes", "1024000\n");
    put("sys/fs/cgroup/memory/far/memory.usage_in_bytes", "614400\n");
    put("sys/fs/cgroup/memory/far/memory.stat", "inactive_file 0\ntotal_inactive_file 102400\ntotal_active_file 0\n");
    assert_available(500);
}

/* A container without a namespace of its own for groups: the path is the host's, the files are in the mount itself. */
static void in_a_container_the_mount_itself_is_the_group(void **state)
{
    (void)state;
    put("proc/self/cgroup", "4:memory:/docker/0123abcd\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1024000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    assert_available(1000);
}

/* In a child, because a limit on address space cannot be taken back. */
static void a_limit_on_address_space_counts(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* they have taken more address space than any limit here */
#endif
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {1ul << 30, 1ul << 30};
        const uint64_t before = memory_available();
        if (setrlimit(RLIMIT_AS, &limit) != 0 || before <= 1ul << 30)
            _exit(before <= 1ul << 30 ? 77 : 1);
        const uint64_t room = memory_available();
        _exit(room > 0 && room < 1ul << 30 ? 0 : 2);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77)
        skip(); /* less than 1 GiB here */
    assert_int_equal(WEXITSTATUS(how), 0);
}

int main(void)
{
#define ON_A_MACHINE(test) cmocka_unit_test_setup_teardown(test, make_machine, remove_machine)
    const struct CMUnitTest tests[] = {
        ON_A_MACHINE(without_control_groups_it_is_what_the_machine_has),
        cmocka_unit_test(where_nothing_tells_there_is_no_bound),
        ON_A_MACHINE(a_group_without_a_limit_changes_nothing),
        ON_A_MACHINE(a_limit_counts_less_what_is_used),
        ON_A_MACHINE(cached_files_are_given_back_when_memory_is_wanted),
        ON_A_MACHINE(a_group_that_is_full_leaves_nothing),
        ON_A_MACHINE(the_tightest_of_the_groups_around_counts),
        ON_A_MACHINE(groups_of_the_first_version_count_too),
        ON_A_MACHINE(in_a_container_the_mount_itself_is_the_group),
        cmocka_unit_test(a_limit_on_address_space_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
