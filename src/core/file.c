/* file.c: whole files, atomic writes and read-only maps. Nothing half-written is ever left under a final name. */
#include "core/core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

drr_status file_read(char **data, size_t *size, const char *path, size_t max_size, drr_error *err)
{
    buffer b = {0};
    char part[1 << 14];
    size_t n;
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set_errno(err, errno, "%s cannot be opened", path);
    drr_status status = buffer_append(&b, "", 0, err);
    while (status == DRR_OK && (n = fread(part, 1, sizeof part, file)) > 0) {
        if (max_size && b.size + n > max_size)
            status = error_set(err, DRR_E_LIMIT, "%s is larger than %zu bytes", path, max_size);
        else
            status = buffer_append(&b, part, n, err);
    }
    if (status == DRR_OK && ferror(file))
        status = error_set_errno(err, errno, "%s cannot be read", path);
    fclose(file);
    if (status != DRR_OK) {
        buffer_clear(&b);
        return status;
    }
    if (size)
        *size = b.size;
    *data = buffer_take(&b);
    return DRR_OK;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

drr_status folder_make(const char *path, drr_error *err)
{
    drr_status status = DRR_OK;
    char *copy = string_copy(path);
    if (!copy)
        return error_memory(err);
    for (char *p = copy + 1; status == DRR_OK; p++) {
        const char c = *p;
        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = error_set_errno(err, errno, "the folder %s cannot be made", copy);
        else if (!file_is_folder(copy))
            status = error_set(err, DRR_E_IO, "%s is in the way: it is a file, and a folder is wanted", copy);
        *p = c;
        if (c == '\0')
            break;
    }
    free(copy);
    return status;
}

/* The commit renames over `path`, which would put a file in the place of a device, a pipe or a folder. */
static drr_status may_replace(const char *path, drr_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(err, DRR_E_IO, "%s is not a regular file and is left alone; name a file to write", path);
    return DRR_OK;
}

static const char TEMPORARY[] = ".tmp-"; /* and the writer's process id */

/* The process id in the name of a temporary file of `base`, written as file_writer_open writes it; else 0. */
static pid_t writer_of(const char *name, const char *base)
{
    const size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || strncmp(name + n, TEMPORARY, sizeof TEMPORARY - 1) != 0)
        return 0;
    const char *digits = name + n + sizeof TEMPORARY - 1;
    const size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 9 || digits[length] != '\0' || digits[0] == '0')
        return 0;
    return (pid_t)strtol(digits, NULL, 10);
}

const char *file_name(const char *path, size_t *stem)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    if (stem)
        *stem = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    return name;
}

/* The folder that holds `path`; the caller frees it, NULL without memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? string_copy_n(path, slash == path ? 1 : (size_t)(slash - path)) : string_copy(".");
}

int file_lock_folder(const char *path)
{
    char *name = folder_of(path);
    const int fd = name ? open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(name);
    if (fd >= 0)
        while (flock(fd, LOCK_EX) != 0 && errno == EINTR)
            continue;
    return fd;
}

void file_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}

/* Removes the file if its writer is gone: no process has its number, and none holds the lock that a writer takes, which
 * is seen from another container or machine too, where the number means nothing. */
static void remove_if_left(int folder, const char *name, pid_t writer)
{
    struct stat st;
    if (kill(writer, 0) == 0 || errno != ESRCH)
        return;
    const int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(folder, name, 0);
    close(fd);
}

/* A killed writer leaves its temporary file; the next writer of the same file removes it. What cannot be looked at or
 * removed is left: it is no reason not to write. */
static void remove_leftovers(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    char *name = folder_of(path);
    DIR *folder = name ? opendir(name) : NULL;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const pid_t writer = writer_of(entry->d_name, base);
        if (writer > 0)
            remove_if_left(dirfd(folder), entry->d_name, writer);
    }
    if (folder)
        closedir(folder);
    free(name);
}

drr_status file_writer_open(file_writer *w, const char *path, drr_error *err)
{
    *w = (file_writer){0};
    drr_status allowed = may_replace(path, err);
    if (allowed != DRR_OK)
        return allowed;
    buffer name = {0};
    remove_leftovers(path);
    drr_status status = buffer_printf(&name, err, "%s%s%ld", path, TEMPORARY, (long)getpid());
    if (status != DRR_OK)
        return status;
    w->temporary = buffer_take(&name);
    w->path = string_copy(path);
    if (!w->path) {
        status = error_memory(err);
        goto done;
    }
    w->file = fopen(w->temporary, "wbe");
    if (!w->file)
        status = error_set_errno(err, errno, "%s cannot be written", path);
    else
        flock(fileno(w->file), LOCK_EX | LOCK_NB); /* where there are no locks, the process id alone speaks for it */
done:
    if (status != DRR_OK)
        file_writer_abandon(w);
    return status;
}

drr_status file_writer_put(file_writer *w, const void *data, size_t size, drr_error *err)
{
    if (size && fwrite(data, 1, size, w->file) != size)
        return error_set_errno(err, errno, "%s cannot be written", w->path);
    return DRR_OK;
}

/* A rename is durable once its folder is. */
static void sync_folder_of(const char *path)
{
    char *copy = string_copy(path);
    char *slash = copy ? strrchr(copy, '/') : NULL;
    if (slash)
        slash[slash == copy] = '\0';
    const int fd = copy ? open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

drr_status file_writer_commit(file_writer *w, drr_error *err)
{
    drr_status status = DRR_OK;
    if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0)
        status = error_set_errno(err, errno, "%s cannot be written", w->path);
    const int closed = fclose(w->file);
    w->file = NULL;
    if (status == DRR_OK && closed != 0)
        status = error_set_errno(err, errno, "%s cannot be written", w->path);
    if (status == DRR_OK && rename(w->temporary, w->path) != 0)
        status = error_set_errno(err, errno, "%s cannot be put in place", w->path);
    if (status == DRR_OK) {
        sync_folder_of(w->path);
        free(w->temporary);
        w->temporary = NULL;
    }
    file_writer_abandon(w);
    return status;
}

void file_writer_abandon(file_writer *w)
{
    if (w->file)
        fclose(w->file);
    if (w->temporary)
        unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (file_writer){0};
}

drr_status file_write_all(const char *path, const void *data, size_t size, drr_error *err)
{
    file_writer w;
    drr_status status = file_writer_open(&w, path, err);
    if (status != DRR_OK)
        return status;
    status = file_writer_put(&w, data, size, err);
    if (status == DRR_OK)
        return file_writer_commit(&w, err);
    file_writer_abandon(&w);
    return status;
}

drr_status file_map_open(file_map *map, const char *path, drr_error *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s cannot be opened", path);
    drr_status status = DRR_OK;
    if (fstat(fd, &st) != 0) {
        status = error_set_errno(err, errno, "%s cannot be read", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = error_set(err, DRR_E_FORMAT, "%s is not a regular file", path);
    } else if (st.st_size == 0) {
        status = error_set(err, DRR_E_FORMAT, "%s is empty", path);
    } else {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = error_set_errno(err, errno, "%s cannot be mapped", path);
        else
            *map = (file_map){data, (size_t)st.st_size};
    }
    close(fd);
    return status;
}

void file_map_close(file_map *map)
{
    if (map && map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    if (map)
        *map = (file_map){0};
}
