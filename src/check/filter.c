/* filter.c: a seccomp filter for programs that are checked. A second wall behind the namespaces, and the only one where
 * there are none: no sockets, no tracing of other processes, no mounting, no new user namespaces, none of the kernel's
 * large interfaces that such a program has no use for. Known for x86-64 and 64-bit ARM; elsewhere there is no filter.
 */
#include "check/check_internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef FILTER_ARCH

#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define REFUSE_CALL(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), REFUSE(EPERM)
#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))

bool filter_available(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

bool filter_install(bool signals)
{
    /* clone's flags are its first argument on both; clone3's are behind a pointer, so it is said not to exist and the
     * C library uses clone. */
    struct sock_filter rules[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1), /* x32 has numbers of its own */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        REFUSE(ENOSYS),
        REFUSE_CALL(SYS_socket),
        REFUSE_CALL(SYS_ptrace),
        REFUSE_CALL(SYS_process_vm_readv),
        REFUSE_CALL(SYS_process_vm_writev),
        REFUSE_CALL(SYS_unshare),
        REFUSE_CALL(SYS_setns),
        REFUSE_CALL(SYS_mount),
        REFUSE_CALL(SYS_umount2),
        REFUSE_CALL(SYS_fsopen),
        REFUSE_CALL(SYS_open_tree),
        REFUSE_CALL(SYS_move_mount),
        REFUSE_CALL(SYS_pivot_root),
        REFUSE_CALL(SYS_bpf),
        REFUSE_CALL(SYS_perf_event_open),
        REFUSE_CALL(SYS_userfaultfd),
        REFUSE_CALL(SYS_io_uring_setup),
        REFUSE_CALL(SYS_add_key),
        REFUSE_CALL(SYS_request_key),
        REFUSE_CALL(SYS_keyctl),
        REFUSE_CALL(SYS_pidfd_open),
        REFUSE_CALL(signals ? SYS_kill : SYS_ptrace),
        REFUSE_CALL(signals ? SYS_tkill : SYS_ptrace),
        REFUSE_CALL(signals ? SYS_rt_sigqueueinfo : SYS_ptrace),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID, 0, 1),
        REFUSE(EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#else

bool filter_available(void)
{
    return false;
}

bool filter_install(bool signals)
{
    (void)signals;
    return true;
}

#endif
