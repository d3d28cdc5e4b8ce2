/* contain.c: runs one program where it can do no harm, and watches it from outside: time, output, the caller's wish to
 * stop. What the new process does to itself is inside.c's. docs/checking.md says what is contained and what is not. */
#include "check/check_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct running {
    const contained_program *program;
    contained_end *end;
    inside_plan plan;
    char scratch[512], disk_size[128];
    char *environment[16];
    pid_t pid;
    int output[2], report[2], sync[2], input;
    uint64_t n_output;
    size_t n_records;
    inside_record records[4];
} running;

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- before it runs */

static drr_status make_scratch(running *r, drr_error *err)
{
    const char *folder = getenv("TMPDIR");
    snprintf(r->scratch, sizeof r->scratch, "%.480s/drr-check.XXXXXX", folder && *folder == '/' ? folder : "/tmp");
    if (!mkdtemp(r->scratch)) {
        r->scratch[0] = '\0';
        return error_set_errno(err, errno, "cannot make a scratch folder for a checker");
    }
    if (!r->program->namespaces && geteuid() == 0 && chown(r->scratch, OUTSIDE_NOBODY, OUTSIDE_NOBODY) != 0)
        return error_set_errno(err, errno, "cannot give away the scratch folder %s", r->scratch);
    return DRR_OK;
}

static drr_status make_input(running *r, drr_error *err)
{
    const char *at = r->program->input;
    size_t left = r->program->input_size;
    r->input = memfd_create("drr-check", MFD_CLOEXEC);
    if (r->input < 0)
        return error_set_errno(err, errno, "cannot keep the input of a checker");
    while (left) {
        const ssize_t n = write(r->input, at, left);
        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "cannot keep the input of a checker");
        at += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    if (lseek(r->input, 0, SEEK_SET) != 0)
        return error_set_errno(err, errno, "cannot keep the input of a checker");
    return DRR_OK;
}

static drr_status make_environment(running *r, drr_error *err)
{
    const char *home = r->program->namespaces ? "/scratch" : r->scratch;
    const char *const pairs[][2] = {{"PATH", r->program->path},
                                    {"HOME", home},
                                    {"TMPDIR", home},
                                    {"LANG", "C.UTF-8"},
                                    {"PYTHONDONTWRITEBYTECODE", "1"},
                                    {"OMP_NUM_THREADS", "1"},
                                    {"OPENBLAS_NUM_THREADS", "1"},
                                    {"DRR_FOLDER", r->program->folder}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        buffer b = {0};
        if (!pairs[i][1])
            continue;
        drr_status status = buffer_printf(&b, err, "%s=%s", pairs[i][0], pairs[i][1]);
        if (status != DRR_OK)
            return status;
        r->environment[n++] = buffer_take(&b);
    }
    return DRR_OK;
}

/* Processes and threads of this user: without a user namespace the kernel counts them all against the limit. */
static uint64_t count_tasks(uid_t user)
{
    uint64_t n = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *e; all && (e = readdir(all));) {
        char path[300];
        struct stat st;
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%.200s/task", e->d_name);
        if (stat(path, &st) != 0 || st.st_uid != user)
            continue;
        n += st.st_nlink > 2 ? (uint64_t)st.st_nlink - 2 : 1;
    }
    if (all)
        closedir(all);
    return n;
}

static drr_status prepare(running *r, drr_error *err)
{
    const contained_limits *l = &r->program->limits;
    const bool root = geteuid() == 0;
    drr_status status = make_scratch(r, err);
    if (status == DRR_OK)
        status = make_input(r, err);
    if (status == DRR_OK)
        status = make_environment(r, err);
    if (status == DRR_OK &&
        (pipe2(r->output, O_CLOEXEC) != 0 || pipe2(r->report, O_CLOEXEC) != 0 || pipe2(r->sync, O_CLOEXEC) != 0 ||
         fcntl(r->output[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(r->report[0], F_SETFL, O_NONBLOCK) != 0))
        status = error_set_errno(err, errno, "cannot make the pipes of a checker");
    if (status != DRR_OK)
        return status;
    snprintf(r->disk_size, sizeof r->disk_size, "mode=700,uid=%d,gid=%d,size=%llu,nr_inodes=%u", INSIDE_USER,
             INSIDE_USER, (unsigned long long)l->disk_bytes, l->files + 1);
    const uint64_t others = r->program->namespaces ? 1 : 1 + count_tasks(root ? OUTSIDE_NOBODY : geteuid());
    r->plan = (inside_plan){.program = r->program,
                            .environment = (const char *const *)r->environment,
                            .scratch = r->scratch,
                            .disk_size = r->disk_size,
                            .most_processes = l->processes + others,
                            .drop_user = root,
                            .input = r->input,
                            .output = r->output[1],
                            .report = r->report[1],
                            .sync = r->sync[0]};
    return DRR_OK;
}

static bool write_to(pid_t pid, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, file);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool fine = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    const int code = errno;
    if (fd >= 0)
        close(fd);
    errno = code;
    return fine;
}

/* Root becomes nobody, so that not even a hole in the walls gives more than nobody's rights. */
static bool map_user(pid_t pid)
{
    char users[64], groups[64];
    const bool root = geteuid() == 0;
    snprintf(users, sizeof users, "%d %u 1\n", INSIDE_USER, root ? OUTSIDE_NOBODY : (unsigned)geteuid());
    snprintf(groups, sizeof groups, "%d %u 1\n", INSIDE_USER, root ? OUTSIDE_NOBODY : (unsigned)getegid());
    return (root || write_to(pid, "setgroups", "deny")) && write_to(pid, "gid_map", groups) &&
           write_to(pid, "uid_map", users);
}

static drr_status start(running *r, drr_error *err)
{
    const unsigned long flags =
        r->program->namespaces ? CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
                               : 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the caller's handlers must not run in the copy */
    r->pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (r->pid == 0)
        inside_main(&r->plan);
    const int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close_one(&r->output[1]);
    close_one(&r->report[1]);
    close_one(&r->sync[0]);
    if (r->pid < 0 && r->program->namespaces && code != EAGAIN && code != ENOMEM) {
        snprintf(r->end->why_not, sizeof r->end->why_not, "no namespaces: error %d", code);
        return DRR_OK;
    }
    if (r->pid < 0)
        return error_set_errno(err, code, "cannot start a process for a checker");
    if (r->program->namespaces && !map_user(r->pid)) {
        snprintf(r->end->why_not, sizeof r->end->why_not, "its user ids cannot be mapped: error %d", errno);
        kill(r->pid, SIGKILL);
    } else if (write(r->sync[1], "g", 1) != 1) {
        kill(r->pid, SIGKILL);
    }
    close_one(&r->sync[1]);
    return DRR_OK;
}

/* ---- while it runs */

static void take_output(running *r)
{
    char part[8192];
    for (ssize_t n; (n = read(r->output[0], part, sizeof part)) > 0;) {
        const size_t room = OUTPUT_KEPT - r->end->output_size, kept = (size_t)n < room ? (size_t)n : room;
        memcpy(r->end->output + r->end->output_size, part, kept);
        r->end->output_size += kept;
        r->n_output += (uint64_t)n;
        if (r->n_output > r->program->limits.output_bytes) {
            r->end->too_much_output = true;
            return;
        }
    }
}

/* In namespaces the kill of init is the kernel's kill of all. Without, init kills the others itself, if it still can.
 */
static bool stop(running *r)
{
    if (r->program->namespaces) {
        kill(r->pid, SIGKILL);
        return waitpid(r->pid, NULL, 0) >= 0 || errno == ECHILD;
    }
    kill(r->pid, SIGTERM);
    for (int i = 0; i < 3000; i++) {
        const pid_t ended = waitpid(r->pid, NULL, WNOHANG);
        if (ended == r->pid || (ended < 0 && errno == ECHILD))
            return true;
        usleep(1000);
    }
    kill(r->pid, SIGKILL);
    return waitpid(r->pid, NULL, 0) >= 0 || errno == ECHILD;
}

static void watch(running *r)
{
    enum { TICK_MS = 10 };
    static const double COUNT_S = 0.1; /* between two looks at its memory: some 100 us each */
    const double deadline = clock_seconds() + r->program->limits.seconds;
    double count_s = clock_seconds() + COUNT_S;
    for (;;) {
        struct pollfd p = {.fd = r->output[0], .events = POLLIN};
        if (poll(&p, 1, TICK_MS) > 0 && (p.revents & POLLIN))
            take_output(r);
        else if (p.revents) /* closed, but perhaps not ended */
            usleep(TICK_MS * 100);
        const pid_t ended = waitpid(r->pid, NULL, WNOHANG);
        if (ended == r->pid || (ended < 0 && errno == ECHILD))
            break;
        r->end->cancelled = r->program->cancelled && atomic_load(r->program->cancelled);
        const double now = clock_seconds();
        r->end->out_of_time = now > deadline;
        if (now > count_s) {
            r->end->too_much_memory = tree_memory(r->pid) > r->program->limits.together_bytes;
            count_s = now + COUNT_S;
        }
        if (r->end->out_of_time || r->end->too_much_output || r->end->too_much_memory || r->end->cancelled) {
            stop(r);
            break;
        }
    }
    if (!r->end->too_much_output)
        take_output(r);
}

/* What the new process said of itself: at most one stage that failed, then how the program ended. */
static void take_report(running *r)
{
    contained_end *e = r->end;
    inside_record record;
    e->started = !e->why_not[0];
    bool told = false;
    while (read(r->report[0], &record, sizeof record) == sizeof record) {
        if (record.stage) {
            char reason[64];
            e->started = false;
            snprintf(e->why_not, sizeof e->why_not, "%s failed: %s", inside_stages[record.stage],
                     strerror_r(record.code, reason, sizeof reason));
        } else {
            told = true;
            e->wait_status = record.code;
        }
    }
    if (!told && !e->out_of_time && !e->too_much_output && !e->too_much_memory && !e->cancelled && e->started) {
        e->started = false;
        snprintf(e->why_not, sizeof e->why_not, "the process that should run it ended before it did");
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)where;
    if (type == FTW_DP)
        rmdir(path);
    else
        unlink(path);
    return 0;
}

drr_status contained_run(contained_end *end, const contained_program *program, drr_error *err)
{
    running *r = calloc(1, sizeof *r);
    if (!r)
        return error_memory(err);
    *end = (contained_end){0};
    *r = (running){.program = program,
                   .end = end,
                   .pid = -1,
                   .output = {-1, -1},
                   .report = {-1, -1},
                   .sync = {-1, -1},
                   .input = -1};
    drr_status status = prepare(r, err);
    if (status == DRR_OK)
        status = start(r, err);
    if (status == DRR_OK && r->pid > 0) {
        watch(r);
        take_report(r);
    }
    end->output[end->output_size] = '\0';
    for (int i = 0; i < 2; i++) {
        close_one(&r->output[i]);
        close_one(&r->report[i]);
        close_one(&r->sync[i]);
    }
    close_one(&r->input);
    if (r->scratch[0])
        nftw(r->scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    for (size_t i = 0; i < sizeof r->environment / sizeof *r->environment; i++)
        free(r->environment[i]);
    free(r);
    return status;
}
