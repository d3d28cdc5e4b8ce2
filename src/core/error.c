/* error.c: the one way to say what failed. Messages are one sentence: what, where, what to do. */
#include "core/core.h"

#include <errno.h>
#include <string.h>

drr_status error_set(drr_error *err, drr_status status, const char *format, ...)
{
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        err->status = status;
        vsnprintf(err->message, sizeof err->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

static const char *advice(int code)
{
    switch (code) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return "; free some space or choose another folder, then run it again";
    case EACCES:
    case EPERM:
    case EROFS:
        return "; choose a folder you may write to, or change its permissions";
    case ENOENT:
        return "; check the path";
    default:
        return "";
    }
}

drr_status error_set_errno(drr_error *err, int code, const char *format, ...)
{
    const drr_status status = code == ENOENT ? DRR_E_NOT_FOUND : code == ENOMEM ? DRR_E_MEMORY : DRR_E_IO;
    if (err) {
        va_list arguments;
        char reason[128];
        va_start(arguments, format);
        err->status = status;
        int n = vsnprintf(err->message, sizeof err->message, format, arguments);
        va_end(arguments);
        if (n < 0 || (size_t)n >= sizeof err->message)
            n = (int)sizeof err->message - 1;
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s%s", strerror_r(code, reason, sizeof reason),
                 advice(code));
    }
    return status;
}

drr_status error_memory(drr_error *err)
{
    return error_set(err, DRR_E_MEMORY, "out of memory; use a smaller width, batch or context");
}

const char *drr_status_name(drr_status status)
{
    static const char *const names[] = {"ok",       "argument", "io",      "format",      "memory", "not-found",
                                        "mismatch", "limit",    "backend", "interrupted", "empty"};
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown";
}
