/* llama_quantize.c: writes a model in another format. libllama does the work and the writing; here are the names of the
 * formats, errors that say what was wrong, progress, a way to stop it, and the temporary name. */
#include "reasoner/llama_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* Those that need no importance matrix, largest first. */
static const struct {
    const char *name;
    enum llama_ftype type;
} formats[] = {
    {"f32", LLAMA_FTYPE_ALL_F32},          {"f16", LLAMA_FTYPE_MOSTLY_F16},       {"bf16", LLAMA_FTYPE_MOSTLY_BF16},
    {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},     {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K},     {"q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M},
    {"q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S}, {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},     {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
    {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL},
    {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},     {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},     {"iq4_xs", LLAMA_FTYPE_MOSTLY_IQ4_XS},
    {"q3_k_l", LLAMA_FTYPE_MOSTLY_Q3_K_L}, {"q3_k_m", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"q3_k_s", LLAMA_FTYPE_MOSTLY_Q3_K_S},
    {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K}};

static drr_status find_format(enum llama_ftype *type, const char *name, drr_error *err)
{
    buffer known = {0};
    drr_status status = DRR_OK;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcasecmp(name, formats[i].name) == 0) {
            *type = formats[i].type;
            buffer_clear(&known);
            return DRR_OK;
        }
        if (status == DRR_OK)
            status = buffer_printf(&known, err, "%s%s", i ? ", " : "", formats[i].name);
    }
    if (status == DRR_OK)
        status = error_set(err, DRR_E_ARGUMENT, "there is no format \"%s\"; the formats are %s", name, known.data);
    buffer_clear(&known);
    return status;
}

/* ---- the source */

/* Reads what the file says of itself, its tensors' places included, but not the weights. */
static drr_status examine(char *format, size_t size, bool *quantized, const char *path, drr_error *err)
{
    char text[16];
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(path, params);
    if (!model)
        return error_set(err, DRR_E_FORMAT, "%s: libllama cannot load this model: %s", path,
                         llama_runtime_last_message());
    const bool told = llama_model_meta_val_str(model, "general.file_type", text, sizeof text) > 0;
    const long type = told ? strtol(text, NULL, 10) : -1;
    llama_model_free(model);
    *quantized = type != LLAMA_FTYPE_ALL_F32 && type != LLAMA_FTYPE_MOSTLY_F16 && type != LLAMA_FTYPE_MOSTLY_BF16;
    snprintf(format, size, told ? "libllama's format %ld" : "of no named format", type);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (type == (long)formats[i].type)
            snprintf(format, size, "%s", formats[i].name);
    return DRR_OK;
}

static drr_status check_places(uint64_t *bytes, const char *source, const char *out, drr_error *err)
{
    struct stat from;
    if (stat(source, &from) != 0)
        return error_set_errno(err, errno, "%s cannot be read", source);
    if (file_is_same(source, out))
        return error_set(err, DRR_E_ARGUMENT,
                         "%s is the model that is read, and would be overwritten; name another file", out);
    *bytes = (uint64_t)from.st_size;
    return DRR_OK;
}

/* ---- the job */

typedef struct job {
    const drr_hooks *hooks;
    progress_meter meter;
    uint64_t n_tensors;
    const file_writer *writer;
    bool stopped;
} job;

/* libllama cannot be told to stop. A file that takes no more bytes makes it: its own descriptor of our temporary file
 * is replaced by one that is only for reading, so that its next write fails. */
static void take_the_pen_away(const file_writer *writer)
{
    struct stat ours, other;
    DIR *descriptors = opendir("/proc/self/fd");
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (descriptors && nothing >= 0 && fstat(fileno(writer->file), &ours) == 0) {
        for (struct dirent *entry; (entry = readdir(descriptors));) {
            if (!isdigit((unsigned char)*entry->d_name))
                continue;
            const int fd = (int)strtol(entry->d_name, NULL, 10);
            if (fd != fileno(writer->file) && fstat(fd, &other) == 0 && other.st_dev == ours.st_dev &&
                other.st_ino == ours.st_ino)
                dup3(nothing, fd, O_CLOEXEC);
        }
    }
    if (nothing >= 0)
        close(nothing);
    if (descriptors)
        closedir(descriptors);
}

/* libllama says "[ 12/ 272] blk.1.attn_k.weight ..." before each tensor, on the thread that called it. */
static void hear(void *user, const char *text)
{
    job *j = user;
    unsigned done, total;
    if (sscanf(text, "[%u/%u]", &done, &total) != 2)
        return;
    if (j->n_tensors == 0)
        progress_begin(&j->meter, j->hooks, "quantize", "tensors", 0, total);
    j->n_tensors = total;
    progress_update(&j->meter, done - 1, NULL);
    if (!j->stopped && hooks_cancelled(j->hooks)) {
        j->stopped = true;
        take_the_pen_away(j->writer);
    }
}

/* libllama's word for any failed write is "iostream error"; the system says more when the file is made longer. */
static drr_status explain(const char *source, const char *out, const file_writer *writer, drr_error *err)
{
    static const char more[1 << 16] = {0};
    const char *said = llama_runtime_last_message();
    const int fd = fileno(writer->file);
    const off_t end = lseek(fd, 0, SEEK_END);
    if (strstr(said, "iostream") && end >= 0) {
        errno = 0;
        const ssize_t n = write(fd, more, sizeof more);
        if (n != (ssize_t)sizeof more)
            return error_set_errno(err, errno ? errno : ENOSPC, "%s cannot be written", out);
    }
    return error_set(err, DRR_E_BACKEND, "%s cannot be quantized: %s", source, said);
}

static drr_status write_model(const char *source, const char *out, enum llama_ftype type, job *j, drr_error *err)
{
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = type;
    params.nthread = (int32_t)parallel_threads();
    params.allow_requantize = true;
    llama_runtime_listen(hear, j);
    const uint32_t failed = llama_model_quantize(source, j->writer->temporary, &params);
    llama_runtime_listen(NULL, NULL);
    if (j->stopped)
        return error_set(err, DRR_E_INTERRUPTED, "interrupted while %s was being written", out);
    if (failed)
        return explain(source, out, j->writer, err);
    progress_end(&j->meter, j->n_tensors, NULL);
    return DRR_OK;
}

/* Looks at what was written as at any model: libllama checks that all tensors lie in the file. */
static drr_status check_written(drr_quantized *result, const char *path, drr_error *err)
{
    char format[sizeof result->from];
    bool quantized;
    struct stat st;
    drr_status status = examine(format, sizeof format, &quantized, path, err);
    if (status == DRR_OK)
        status = sha256_file(result->sha256, path, err);
    if (status == DRR_OK && stat(path, &st) != 0)
        status = error_set_errno(err, errno, "%s cannot be read", path);
    if (status == DRR_OK)
        result->bytes_after = (uint64_t)st.st_size;
    return status;
}

drr_status drr_model_quantize(drr_quantized *result, const char *source, const char *format, const char *out,
                              const drr_hooks *hooks, drr_error *err)
{
    char path[4096];
    enum llama_ftype type = LLAMA_FTYPE_ALL_F32;
    drr_quantized made = {.requantized = false};
    file_writer writer = {0};
    drr_status status = find_format(&type, format, err);
    if (status == DRR_OK)
        status = drr_cache_path(path, sizeof path, source, "reasoner", err);
    if (status == DRR_OK)
        status = llama_check_magic(path, err);
    if (status == DRR_OK)
        status = check_places(&made.bytes_before, path, out, err);
    if (status == DRR_OK)
        status = llama_runtime_start(err);
    if (status == DRR_OK)
        status = examine(made.from, sizeof made.from, &made.requantized, path, err);
    if (status == DRR_OK)
        status = file_writer_open(&writer, out, err);
    if (status != DRR_OK)
        return status;
    if (made.requantized)
        hooks_log(hooks, DRR_LOG_INFO,
                  "%s is %s: what it has lost already stays lost, and is lost again; where there is an F16 file of the "
                  "model, that is the better source",
                  source, made.from);
    job j = {.hooks = hooks, .writer = &writer};
    status = write_model(path, out, type, &j, err);
    if (status == DRR_OK)
        status = check_written(&made, writer.temporary, err);
    if (status == DRR_OK)
        status = file_writer_commit(&writer, err);
    file_writer_abandon(&writer);
    if (status == DRR_OK)
        *result = made;
    return status;
}
