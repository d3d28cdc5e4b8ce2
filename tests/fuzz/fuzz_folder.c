/* fuzz_folder.c: any text for the files of an exported folder but its weights: config.json, tokenizer_config.json,
 * vocab.txt, drr.json and whatever else. An input is these files end to end, a line "%% NAME" before each. The folder
 * is imported to a critic that is read again, or refused with words. */
#include "critic/gguf.h"
#include "critic/safetensors_internal.h"
#include "fuzz.h"

#include <string.h>

static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n";
enum { MOST_PARTS = 8, MOST_NAME = 40 };

static void put_weights(void)
{
    static uint8_t *kept;
    static size_t size;
    if (!kept) { /* written once */
        encoder *e = small_encoder();
        fuzz_that(safetensors_write("model.safetensors", e, NULL) == DRR_OK);
        encoder_free(e);
        const uint8_t *data = files_get(&size, "model.safetensors");
        static uint8_t room[8192];
        fuzz_that(size <= sizeof room);
        memcpy(room, data, size);
        kept = room;
    }
    files_put("model.safetensors", kept, size);
}

/* The files of an input. */
static void unpack(const char *at, const char *end)
{
    char name[MOST_NAME + 1];
    for (size_t n = 0; at < end && n < MOST_PARTS; n++) {
        const char *line = memmem(at, (size_t)(end - at), "%% ", 3);
        const char *body = line ? memchr(line, '\n', (size_t)(end - line)) : NULL;
        if (!body)
            return;
        const size_t length = (size_t)(body - line) - 3;
        const char *next = memmem(body, (size_t)(end - body), "\n%% ", 4);
        at = next ? next + 1 : end;
        if (length == 0 || length > MOST_NAME || memchr(line, '/', length + 3) || memchr(line, 0, length + 3))
            continue;
        memcpy(name, line + 3, length);
        name[length] = '\0';
        if (strcmp(name, "model.safetensors") != 0)
            files_put(name, body + 1, (size_t)(at - body) - 1);
    }
}

static void read_written(void)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    critic_meta meta = {0};
    drr_critic *critic = NULL;
    bool foreign;
    char hex[65];
    fuzz_that(critic_read("out.gguf", &e, &w, &meta, hex, NULL) == DRR_OK);
    encoder_free(e);
    wordpiece_free(w);
    critic_meta_clear(&meta);
    fuzz_that(critic_open_folder(&critic, &foreign, "folder", "out.gguf", NULL) == DRR_OK);
    drr_critic_close(critic);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool foreign;
    drr_error err = {0};
    files_clear();
    files_put("vocab.txt", vocabulary, sizeof vocabulary - 1);
    put_weights();
    unpack((const char *)data, (const char *)data + size);
    const drr_status status = drr_critic_import("folder", "out.gguf", &foreign, &err);
    if (status == DRR_OK) {
        fuzz_accepted++;
        read_written();
    } else {
        fuzz_refused(status, &err, "");
        fuzz_that(*err.message);
    }
    files_clear();
    return 0;
}
