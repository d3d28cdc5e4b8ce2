/* seeds.c: writes the valid inputs that fuzzing begins with: fuzz_seeds FOLDER makes FOLDER/gguf, FOLDER/safetensors
 * and FOLDER/folder, and FOLDER/exported, from which the last two are made. Run it again when a format has changed, and
 * keep the three in tests/fuzz/corpus. */
#include "core/json.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char *root;

static const char *path_of(const char *format, const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char inner[256];
    char *path = paths[turn++ % 4];
    snprintf(inner, sizeof inner, "%s/%s", format, name);
    snprintf(path, sizeof paths[0], "%s/%s", root, inner);
    return path;
}

static void must(drr_status status, const drr_error *err)
{
    if (status == DRR_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    fuzz_failed(__FILE__, __LINE__, "a seed is written");
}

static void write_critic(const char *path, bool all)
{
    drr_error err = {0};
    encoder *e = small_encoder();
    wordpiece *w = small_tokenizer();
    critic_meta m = small_meta(all);
    must(critic_write(path, e, w, &m, &err), &err);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

/* ---- safetensors of 16 bits, and with the names of old files */

static void narrow(buffer *out, const char *data, size_t n, const char *dtype)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, 4);
        const uint32_t exponent = bits >> 23 & 255;
        const uint16_t half =
            strcmp(dtype, "BF16") == 0
                ? (uint16_t)(bits >> 16)
                : (uint16_t)((bits >> 16 & 0x8000) | (exponent ? (exponent - 112) << 10 : 0) | (bits >> 13 & 1023));
        must(buffer_append(out, &half, 2, NULL), NULL);
    }
}

/* "bert.x.LayerNorm.weight" was "x.LayerNorm.gamma". */
static void old_name(char *name, size_t size, const char *now)
{
    snprintf(name, size, "%s", strncmp(now, "bert.", 5) == 0 ? now + 5 : now);
    char *norm = strstr(name, "LayerNorm.");
    if (norm)
        snprintf(norm + 10, 6, "%s", strcmp(norm + 10, "bias") == 0 ? "beta" : "gamma");
}

static void write_narrow(const char *path, const char *data, const char *dtype, const char *without)
{
    uint64_t length;
    json_t *header = NULL, *narrowed = json_object(), *entry;
    buffer body = {0}, file = {0};
    const char *name;
    drr_error err = {0};
    memcpy(&length, data, 8);
    must(json_parse(&header, data + 8, length, "seed", &err), &err);
    json_object_foreach(header, name, entry)
    {
        char old[128];
        json_t *offsets = json_object_get(entry, "data_offsets");
        if (!offsets || (without && strstr(name, without)))
            continue;
        const size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0)),
                     end = (size_t)json_integer_value(json_array_get(offsets, 1)), at = body.size;
        narrow(&body, data + 8 + length + begin, (end - begin) / 4, dtype);
        old_name(old, sizeof old, name);
        json_object_set_new(narrowed, old,
                            json_pack("{s:s, s:O, s:[I, I]}", "dtype", dtype, "shape", json_object_get(entry, "shape"),
                                      "data_offsets", (json_int_t)at, (json_int_t)body.size));
    }
    char *text = json_dumps(narrowed, JSON_COMPACT);
    length = strlen(text);
    must(buffer_append(&file, &length, 8, NULL), NULL);
    must(buffer_puts(&file, text, NULL), NULL);
    must(buffer_append(&file, body.data, body.size, NULL), NULL);
    must(file_write_all(path, file.data, file.size, &err), &err);
    free(text);
    json_decref(header);
    json_decref(narrowed);
    buffer_clear(&body);
    buffer_clear(&file);
}

/* ---- folders */

static void pack(const char *path, const char *folder, bool with_meta, const char *more)
{
    static const char *const names[] = {"config.json", "tokenizer_config.json", "vocab.txt", "drr.json"};
    buffer b = {0};
    drr_error err = {0};
    for (size_t i = 0; i < 3 + (size_t)with_meta; i++) {
        char *text = NULL, inner[600];
        snprintf(inner, sizeof inner, "%s/%s", folder, names[i]);
        must(file_read(&text, NULL, inner, 0, &err), &err);
        const size_t length = strlen(text);
        must(buffer_printf(&b, &err, "%%%% %s\n%s%s", names[i], text, length && text[length - 1] == '\n' ? "" : "\n"),
             &err);
        free(text);
    }
    must(buffer_puts(&b, more, &err), &err);
    must(file_write_all(path, b.data, b.size, &err), &err);
    buffer_clear(&b);
}

static void write_folders(bool all)
{
    drr_critic *critic = NULL;
    drr_error err = {0};
    char *data = NULL;
    char folder[512], weights[600];
    snprintf(folder, sizeof folder, "%s/exported", root);
    must(drr_critic_open(&critic, path_of("gguf", all ? "all" : "least"), &err), &err);
    must(drr_critic_export(critic, folder, &err), &err);
    drr_critic_close(critic);
    pack(path_of("folder", all ? "all" : "least"), folder, true, "");
    pack(path_of("folder", "strange"), folder, false, "%% tokenizer.json\n{\"model\": {\"type\": \"WordPiece\"}}\n");
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    must(file_read(&data, NULL, weights, 0, &err), &err);
    uint64_t length;
    memcpy(&length, data, 8);
    write_narrow(path_of("safetensors", "f16"), data, "F16", NULL);
    write_narrow(path_of("safetensors", "bf16-no-pooler"), data, "BF16", "pooler");
    must(rename(weights, path_of("safetensors", "f32")) == 0 ? DRR_OK : DRR_E_IO, &err);
    free(data);
}

int main(int argc, char **argv)
{
    drr_error err = {0};
    if (argc != 2)
        fuzz_failed(__FILE__, __LINE__, "fuzz_seeds FOLDER");
    root = argv[1];
    static const char *const folders[] = {"gguf", "safetensors", "folder"};
    for (size_t i = 0; i < 3; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s/%s", root, folders[i]);
        must(folder_make(folder, &err), &err);
    }
    for (int all = 0; all < 2; all++) {
        write_critic(path_of("gguf", all ? "all" : "least"), all);
        write_folders(all);
    }
    return 0;
}
