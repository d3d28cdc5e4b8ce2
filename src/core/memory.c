/* memory.c: how much memory this process may still take: what the machine has, what the control groups that it is in
 * allow (a container's limit is one of these), and its own limit on address space. The least of them counts; one that
 * is not told is none. */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PATH_ROOM = 4096 };

/* The number behind `key` in a file of lines "key number"; with key "" the file's only number. "max" and what is not
 * there are UINT64_MAX. */
static uint64_t number_in(const char *path, const char *key)
{
    char line[512];
    uint64_t value = UINT64_MAX;
    const size_t n = strlen(key);
    FILE *file = fopen(path, "re");
    while (file && value == UINT64_MAX && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, n) != 0)
            continue;
        const char *at = line + n + strspn(line + n, ": \t");
        if (*at >= '0' && *at <= '9')
            value = strtoull(at, NULL, 10);
    }
    if (file)
        fclose(file);
    return value;
}

static uint64_t number_beside(const char *folder, const char *name, const char *key)
{
    char path[PATH_ROOM];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path ? number_in(path, key) : UINT64_MAX;
}

/* What two versions of control groups call the same things. */
typedef struct group_files {
    const char *mount, *limit, *usage, *active, *inactive;
} group_files;
static const group_files version1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                     "total_active_file ", "total_inactive_file "};
static const group_files version2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "active_file ",
                                     "inactive_file "};

/* Room below one group's limit. What files left in its cache is counted as used and is given back when it is wanted. */
static uint64_t room_in_group(const char *folder, const group_files *f)
{
    const uint64_t limit = number_beside(folder, f->limit, ""), used = number_beside(folder, f->usage, "");
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    uint64_t kept = used;
    for (int i = 0; i < 2; i++) {
        const uint64_t cached = number_beside(folder, "memory.stat", i ? f->inactive : f->active);
        if (cached != UINT64_MAX)
            kept -= cached < kept ? cached : kept;
    }
    return limit > kept ? limit - kept : 0;
}

/* The least over the group and all that hold it. In a container the group's path may be the host's, of which only the
 * last step up, the mount itself, is there. */
static uint64_t room_in_groups(const char *root, const char *group, const group_files *f)
{
    char folder[PATH_ROOM];
    uint64_t least = UINT64_MAX;
    const int top = snprintf(folder, sizeof folder, "%s%s", root, f->mount);
    const int n = snprintf(folder, sizeof folder, "%s%s%s", root, f->mount, group);
    if (n < 0 || (size_t)n >= sizeof folder)
        return UINT64_MAX;
    for (char *end = folder + n;; end = strrchr(folder, '/')) {
        *end = '\0';
        const uint64_t room = room_in_group(folder, f);
        least = room < least ? room : least;
        if (end - folder <= top)
            return least;
    }
}

static uint64_t room_in_control_groups(const char *root)
{
    char path[PATH_ROOM], line[PATH_ROOM];
    uint64_t least = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) { /* "4:memory:/a/b" or, of version 2, "0::/a/b" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        controllers++;
        if (*controllers && strcmp(controllers, "memory") != 0)
            continue;
        const uint64_t room = room_in_groups(root, group, *controllers ? &version1 : &version2);
        least = room < least ? room : least;
    }
    if (file)
        fclose(file);
    return least;
}

uint64_t memory_available_under(const char *root)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    const uint64_t kib = number_in(path, "MemAvailable:");
    const uint64_t machine = kib < UINT64_MAX / 1024 ? kib * 1024 : UINT64_MAX;
    const uint64_t groups = room_in_control_groups(root);
    return machine < groups ? machine : groups;
}

uint64_t memory_available(void)
{
    uint64_t least = memory_available_under("");
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        const uint64_t kib = number_in("/proc/self/status", "VmSize:");
        const uint64_t used = kib < UINT64_MAX / 1024 ? kib * 1024 : 0;
        const uint64_t room = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
        least = room < least ? room : least;
    }
    return least;
}
