/* fuzz_gguf.c: any bytes for a critic's file: read, or refused with words. What is read is worth using: its vocabulary
 * takes a pair, and what can be written of it is read again as the same. */
#include "critic/gguf.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

typedef struct parts {
    encoder *e;
    wordpiece *w;
    critic_meta meta;
} parts;

static drr_status read_parts(parts *p, const char *path, drr_error *err)
{
    char hex[65];
    *p = (parts){0};
    return critic_read(path, &p->e, &p->w, &p->meta, hex, err);
}

static void clear_parts(parts *p)
{
    encoder_free(p->e);
    wordpiece_free(p->w);
    critic_meta_clear(&p->meta);
}

static void use_tokenizer(const parts *p)
{
    size_t n = 0;
    bool truncated;
    drr_error err = {0};
    int32_t *ids = calloc(p->meta.max_length, sizeof *ids);
    fuzz_that(ids != NULL);
    if (wordpiece_encode_pair(p->w, "a ab [SEP]", "\xE2\x96\x81x 1.5", p->meta.max_length, ids, &n, &truncated, &err) ==
        DRR_OK)
        for (size_t i = 0; i < n; i++)
            fuzz_that(ids[i] >= 0 && (uint32_t)ids[i] < p->e->shape.n_vocab);
    free(ids);
}

/* Once more through a file; then its bytes stay as they are. */
static void write_and_read(const parts *p)
{
    parts again, third;
    drr_error err = {0};
    const drr_status written = critic_write("again.gguf", p->e, p->w, &p->meta, &err);
    if (written != DRR_OK) { /* a token that would be taken for another one can be read, and not written */
        fuzz_that(written == DRR_E_FORMAT && strstr(err.message, "vocabulary"));
        return;
    }
    size_t size = 0, size_third = 0;
    fuzz_that(read_parts(&again, "again.gguf", &err) == DRR_OK);
    fuzz_that(again.e->n_parameters == p->e->n_parameters);
    fuzz_that(memcmp(again.e->parameters, p->e->parameters, p->e->n_parameters * sizeof(float)) == 0);
    fuzz_that(critic_write("third.gguf", again.e, again.w, &again.meta, &err) == DRR_OK);
    const uint8_t *data = files_get(&size, "again.gguf"), *data_third = files_get(&size_third, "third.gguf");
    fuzz_that(size == size_third && memcmp(data, data_third, size) == 0);
    fuzz_that(read_parts(&third, "third.gguf", &err) == DRR_OK);
    clear_parts(&again);
    clear_parts(&third);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parts p;
    drr_error err = {0};
    files_clear();
    files_put("in.gguf", data, size);
    const drr_status status = read_parts(&p, "in.gguf", &err);
    if (status == DRR_OK) {
        fuzz_accepted++;
        use_tokenizer(&p);
        write_and_read(&p);
    } else {
        fuzz_refused(status, &err, "");
        fuzz_that(*err.message && !p.e && !p.w && !p.meta.name);
    }
    clear_parts(&p);
    files_clear();
    return 0;
}
