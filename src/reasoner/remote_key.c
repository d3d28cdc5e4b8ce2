/* remote_key.c: the API key comes from a file that its owner alone may read, or from the environment: never from the
 * command line, which other users can see. It leaves this process in the Authorization header and nowhere else:
 * whatever a server writes is searched for it before anyone else sees it. */
#include "net/easy.h"
#include "reasoner/remote_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 4096 };

void remote_key_free(char *key)
{
    if (key)
        explicit_bzero(key, strlen(key));
    free(key);
}

static drr_status check(const char *key, const char *where, drr_error *err)
{
    const size_t size = strlen(key);
    if (size < REMOTE_LEAST_KEY)
        return error_set(
            err, DRR_E_ARGUMENT,
            "the key in %s has %zu characters: fewer than %d cannot be told from ordinary text and kept out "
            "of it; leave it unset for a server that wants no key",
            where, size, REMOTE_LEAST_KEY);
    for (size_t i = 0; i < size; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return error_set(err, DRR_E_ARGUMENT,
                             "the key in %s has a space or another character that no key has, at byte %zu; put the key "
                             "alone there, on one line",
                             where, i + 1);
    return DRR_OK;
}

static drr_status read_file(char **key, const char *path, drr_error *err)
{
    struct stat st;
    char text[MOST + 1];
    drr_status status = DRR_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno(err, errno, "the key file %s cannot be opened", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = error_set(err, DRR_E_ARGUMENT, "the key file %s is not a regular file", path);
    } else if (st.st_mode & (S_IRWXG | S_IRWXO)) {
        status = error_set(err, DRR_E_ARGUMENT,
                           "the key file %s is open to others than its owner (mode %03o); run: chmod 600 %s", path,
                           (unsigned)(st.st_mode & 0777), path);
    } else {
        const ssize_t n = read(fd, text, MOST);
        if (n < 0)
            status = error_set_errno(err, errno, "the key file %s cannot be read", path);
        text[n > 0 ? n : 0] = '\0';
        size_t end = strlen(text);
        while (end && strchr(" \t\r\n", text[end - 1]))
            text[--end] = '\0';
        if (status == DRR_OK && !end)
            status = error_set(err, DRR_E_ARGUMENT, "the key file %s is empty; write the key into it", path);
        if (status == DRR_OK && !(*key = string_copy(text)))
            status = error_memory(err);
        explicit_bzero(text, sizeof text);
    }
    close(fd);
    return status;
}

/* OPENAI_API_KEY goes to OpenAI alone: whoever has it set for other programs does not mean to show it to every server.
 */
drr_status remote_key_load(char **key, const char *file, bool is_openai, drr_error *err)
{
    const char *where = file;
    drr_status status = DRR_OK;
    *key = NULL;
    if (file) {
        status = read_file(key, file, err);
    } else {
        const char *value = getenv(where = "DRR_UPSTREAM_API_KEY");
        if ((!value || !*value) && is_openai)
            value = getenv(where = "OPENAI_API_KEY");
        if (value && *value && !(*key = string_copy(value)))
            status = error_memory(err);
    }
    if (status == DRR_OK && *key)
        status = check(*key, where, err);
    if (status != DRR_OK) {
        remote_key_free(*key);
        *key = NULL;
    }
    return status;
}

drr_status reasoner_key_load(char **key, const char *file, const char *url, drr_error *err)
{
    static const char openai[] = "https://api.openai.com";
    const size_t n = sizeof openai - 1;
    return remote_key_load(key, file, strncasecmp(url, openai, n) == 0 && (!url[n] || url[n] == '/'), err);
}

void reasoner_key_free(char *key)
{
    remote_key_free(key);
}

void remote_key_clean(const char *key, char *out, size_t size, const char *text)
{
    char *copy = string_copy(text);
    *out = '\0';
    if (!copy)
        return;
    size_t n = strlen(copy);
    net_hide_key(key, copy, n); /* before it is cut, or a part would stay */
    if (n >= size) {
        n = size - 1;
        while (n && ((unsigned char)copy[n] & 0xc0) == 0x80)
            n--;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)copy[i] < ' ' || copy[i] == 0x7f ? ' ' : copy[i];
    out[n] = '\0';
    free(copy);
}
