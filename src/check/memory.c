/* memory.c: how much memory a program and all that it started have together, as the kernel tells it. */
#include "check/check_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_SEEN = 512 }; /* processes; limits allow far fewer */

static size_t read_small(char *text, size_t size, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Pages of its own, without those of files: what the system would win by killing it. Pages that it shares with its
 * parent since the fork count for both. */
static uint64_t own_pages(pid_t pid)
{
    char path[64], text[256];
    unsigned long long size = 0, resident = 0, shared = 0;
    snprintf(path, sizeof path, "/proc/%ld/statm", (long)pid);
    if (!read_small(text, sizeof text, path) || sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
        return 0;
    return resident > shared ? resident - shared : 0;
}

/* Adds the children of every thread of pid to the list. */
static size_t add_children(pid_t *list, size_t n, pid_t pid)
{
    char path[64], file[400], text[4096];
    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%.200s/children", path, task->d_name);
        read_small(text, sizeof text, file);
        char *end = text;
        for (long child; n < MOST_SEEN && (child = strtol(end, &end, 10)) > 0;)
            list[n++] = (pid_t)child;
    }
    if (tasks)
        closedir(tasks);
    return n;
}

uint64_t tree_memory(pid_t root)
{
    pid_t list[MOST_SEEN];
    size_t n = 1;
    uint64_t pages = 0;
    list[0] = root;
    for (size_t i = 0; i < n; i++) {
        pages += i ? own_pages(list[i]) : 0; /* the first is init, a copy of drr: its pages are drr's */
        n = add_children(list, n, list[i]);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
