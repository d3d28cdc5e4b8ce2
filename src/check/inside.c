/* inside.c: what happens in the new process before the checked program runs. Two processes: the first is init of the
 * process namespace; it makes the new root, starts the program, waits for it, says how it ended, and by ending takes
 * everything that the program left with it. Where there are no namespaces it is the subreaper of all that the program
 * starts and kills them one by one. No allocation and no lock: the caller's other threads are not here. User ids are
 * changed by bare system calls, for the C library's own functions wait for all threads of the process. */
#include "check/check_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STAGE_ENDED,
    STAGE_DESCRIPTORS,
    STAGE_USER,
    STAGE_VISIBLE,
    STAGE_ROOT,
    STAGE_SCRATCH,
    STAGE_PIVOT,
    STAGE_FORK,
    STAGE_LIMITS,
    STAGE_FILTER,
    STAGE_EXEC
};
const char *const inside_stages[] = {"",
                                     "preparing its files",
                                     "changing its user",
                                     "making folders visible",
                                     "mounting a new root",
                                     "mounting its scratch folder",
                                     "entering the new root",
                                     "starting a process",
                                     "setting its limits",
                                     "installing the system call filter",
                                     "running the program"};

/* Ends this process, which is a copy of the caller's: its exit handlers are not ours to run. */
static void leave(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

static void tell(int stage, int code)
{
    const inside_record record = {stage, code};
    if (write(INSIDE_REPORT, &record, sizeof record) != sizeof record)
        leave(2);
}

static void give_up(int stage)
{
    tell(stage, errno);
    leave(1);
}

static void must(bool fine, int stage)
{
    if (!fine)
        give_up(stage);
}

static void close_from(unsigned first)
{
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    struct rlimit most;
    if (getrlimit(RLIMIT_NOFILE, &most) != 0)
        most.rlim_cur = 1 << 16;
    for (unsigned i = first; i < most.rlim_cur && i < 1u << 20; i++)
        close((int)i);
}

/* Puts the plan's descriptors at 0 to 4, whatever numbers they had, and closes all others. */
static void take_descriptors(const inside_plan *p)
{
    const int have[] = {p->input, p->output, p->report, p->sync};
    int moved[4];
    for (int i = 0; i < 4; i++) {
        moved[i] = fcntl(have[i], F_DUPFD, 16);
        if (moved[i] < 0)
            leave(3); /* nobody hears of it: the report is not in place */
    }
    if (dup2(moved[2], INSIDE_REPORT) < 0)
        leave(3);
    must(dup2(moved[0], 0) >= 0 && dup2(moved[1], 1) >= 0 && dup2(moved[1], 2) >= 0 && dup2(moved[3], INSIDE_SYNC) >= 0,
         STAGE_DESCRIPTORS);
    close_from(INSIDE_SYNC + 1);
}

/* ---- the new root */

/* Makes `path` below the current folder, and its last part a file or a folder. Failures show when it is mounted on. */
static void make_place(const char *path, bool folder)
{
    char part[4096];
    const size_t n = strlen(path);
    if (n >= sizeof part)
        return;
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++)
        if (part[i] == '/') {
            part[i] = '\0';
            mkdir(part, 0755);
            part[i] = '/';
        }
    if (folder) {
        mkdir(part, 0755);
    } else {
        const int fd = open(part, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd >= 0)
            close(fd);
    }
}

static void enter_new_root(const inside_plan *p)
{
    int trees[MOST_VISIBLE];
    bool folders[MOST_VISIBLE];
    size_t n = 0;
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, STAGE_ROOT);
    /* The sources are opened with the caller's rights, for the way to them may be closed to the user that this
     * becomes. */
    for (; n < MOST_VISIBLE && p->program->visible[n]; n++) {
        const char *path = p->program->visible[n];
        struct stat st;
        trees[n] = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        must(trees[n] >= 0 && fstat(trees[n], &st) == 0, STAGE_VISIBLE);
        folders[n] = S_ISDIR(st.st_mode);
        const uint64_t devices = S_ISCHR(st.st_mode) ? 0 : MOUNT_ATTR_NODEV;
        struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | devices};
        must(mount_setattr(trees[n], "", AT_EMPTY_PATH | AT_RECURSIVE, &read_only, sizeof read_only) == 0,
             STAGE_VISIBLE);
    }
    must(mount("tmpfs", p->scratch, "tmpfs", MS_NOSUID | MS_NODEV,
               "mode=755,size=1m,nr_inodes=1024,uid=1000,gid=1000") == 0,
         STAGE_ROOT);
    must(chdir(p->scratch) == 0, STAGE_ROOT);
    if (syscall(SYS_setgroups, 0, NULL) != 0 &&
        p->drop_user) /* a user without rights is not allowed to, and keeps its groups */
        give_up(STAGE_USER);
    must(syscall(SYS_setresgid, INSIDE_USER, INSIDE_USER, INSIDE_USER) == 0 &&
             syscall(SYS_setresuid, INSIDE_USER, INSIDE_USER, INSIDE_USER) == 0,
         STAGE_USER);
    for (size_t i = 0; i < n; i++) {
        const char *place = p->program->visible[i] + 1; /* absolute, and the new root is the current folder */
        make_place(place, folders[i]);
        must(move_mount(trees[i], "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) == 0, STAGE_VISIBLE);
        close(trees[i]);
    }
    mkdir("scratch", 0700);
    must(mount("tmpfs", "scratch", "tmpfs", MS_NOSUID | MS_NODEV, p->disk_size) == 0, STAGE_SCRATCH);
    must(syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, STAGE_PIVOT);
    must(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0, STAGE_PIVOT);
    must(chdir("/scratch") == 0, STAGE_SCRATCH);
}

/* ---- the program */

static bool limit(int resource, uint64_t most)
{
    const struct rlimit r = {(rlim_t)most, (rlim_t)most};
    return setrlimit((__rlimit_resource_t)resource, &r) == 0;
}

static void set_limits(const inside_plan *p)
{
    const contained_limits *l = &p->program->limits;
    const bool fine = limit(RLIMIT_CORE, 0) && limit(RLIMIT_AS, l->memory_bytes) &&
                      limit(RLIMIT_CPU, (uint64_t)l->seconds + 1) && limit(RLIMIT_FSIZE, l->disk_bytes) &&
                      limit(RLIMIT_NPROC, p->most_processes) && limit(RLIMIT_MEMLOCK, 0) && limit(RLIMIT_MSGQUEUE, 0) &&
                      limit(RLIMIT_NOFILE, 64);
    must(fine, STAGE_LIMITS);
}

static void run_program(const inside_plan *p)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct nothing[2] = {{0}};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, nothing) == 0, STAGE_USER);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* where no process namespace ends with the process above */
    setsid();
    close(INSIDE_SYNC);
    fcntl(INSIDE_REPORT, F_SETFD, FD_CLOEXEC);
    set_limits(p);
    must(filter_install(!p->program->namespaces), STAGE_FILTER);
    execve(p->program->argv[0], (char *const *)(uintptr_t)p->program->argv, (char *const *)(uintptr_t)p->environment);
    give_up(STAGE_EXEC);
}

/* ---- without namespaces: everything the program started is a child of this process by now, or of one that is */

static volatile pid_t program_group;

static void end_program(int signal_number)
{
    (void)signal_number;
    if (program_group > 0)
        kill(-program_group, SIGKILL);
}

static void kill_children(void)
{
    char list[4096];
    const int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, list, sizeof list - 1) : -1;
    if (fd >= 0)
        close(fd);
    pid_t pid = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (list[i] >= '0' && list[i] <= '9') {
            pid = pid * 10 + (list[i] - '0');
        } else if (pid > 1) {
            kill(pid, SIGKILL);
            pid = 0;
        }
    }
}

static void kill_leftovers(void)
{
    for (int patience = 2000; patience > 0; patience--) {
        kill_children();
        const pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return;
        if (pid == 0)
            usleep(1000); /* killed and on its way */
    }
}

void inside_main(const inside_plan *plan)
{
    char go;
    int status = 0;
    take_descriptors(plan);
    if (read(INSIDE_SYNC, &go, 1) != 1) /* the caller writes when this process has its user ids */
        leave(4);
    if (plan->program->namespaces) {
        enter_new_root(plan);
    } else {
        must(chdir(plan->scratch) == 0, STAGE_SCRATCH);
        if (plan->drop_user)
            must(syscall(SYS_setgroups, 0, NULL) == 0 &&
                     syscall(SYS_setresgid, OUTSIDE_NOBODY, OUTSIDE_NOBODY, OUTSIDE_NOBODY) == 0 &&
                     syscall(SYS_setresuid, OUTSIDE_NOBODY, OUTSIDE_NOBODY, OUTSIDE_NOBODY) == 0,
                 STAGE_USER);
        must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, STAGE_FORK);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after the user changed, which would undo it */
    setsid();
    const pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    must(pid >= 0, STAGE_FORK);
    if (pid == 0)
        run_program(plan);
    program_group = pid;
    if (!plan->program->namespaces) {
        sigset_t set;
        signal(SIGTERM, end_program);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
    for (;;) { /* as init it also reaps what the program left behind */
        const pid_t ended = waitpid(-1, &status, 0);
        if (ended == pid || (ended < 0 && errno != EINTR))
            break;
    }
    if (!plan->program->namespaces)
        kill_leftovers();
    tell(STAGE_ENDED, status);
    leave(0);
}
