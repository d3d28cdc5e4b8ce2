/* test_critic_hostile.c: files that were made to do harm, one lie each: offsets outside the file, tensors over one
 * another, shapes whose size overflows, counts beyond reason, names that are there twice. Each is refused with words
 * that say which lie it was. That nothing is read out of bounds meanwhile is what the sanitizers' build of this program
 * and of tests/fuzz is for. */
#include "core/json.h"
#include "critic/gguf.h"
#include "critic_fixture.h"

typedef struct image {
    char *data;
    size_t size;
} image;

static image read_image(const char *path)
{
    image i = {0};
    assert_int_equal(file_read(&i.data, &i.size, path, 0, NULL), DRR_OK);
    return i;
}

/* ---- GGUF */

static image make_gguf(void)
{
    encoder *e = small_encoder(2);
    write_small(at("good.gguf"), e, true);
    encoder_free(e);
    return read_image(at("good.gguf"));
}

static void assert_gguf_refused(const image *i, const char *what)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    critic_meta m = {0};
    char hex[65];
    drr_error err = {0};
    put_file(at("bad.gguf"), i->data, i->size);
    const drr_status status = critic_read(at("bad.gguf"), &e, &w, &m, hex, &err);
    if (status != DRR_E_FORMAT || !strstr(err.message, what) || !strstr(err.message, "bad.gguf"))
        fail_msg("status %s: \"%s\" does not say \"%s\"", drr_status_name(status), err.message, what);
    assert_null(e);
    assert_null(w);
}

/* The numbers of a tensor's entry: extents, then type and offset. */
typedef struct entry {
    char *n_dimensions, *extents, *offset;
} entry;

static entry find_entry(const image *i, const char *name)
{
    entry t = {.n_dimensions = find_bytes(i->data, i->size, name) + strlen(name)};
    uint32_t n;
    memcpy(&n, t.n_dimensions, sizeof n);
    t.extents = t.n_dimensions + sizeof n;
    t.offset = t.extents + n * sizeof(uint64_t) + sizeof(uint32_t);
    return t;
}

static void refuse_number(const image *i, char *place, uint64_t value, const char *what)
{
    uint64_t kept;
    memcpy(&kept, place, sizeof kept);
    memcpy(place, &value, sizeof value);
    assert_gguf_refused(i, what);
    memcpy(place, &kept, sizeof kept);
}

static void gguf_offsets_outside_the_file_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    static const uint64_t offsets[] = {(uint64_t)1 << 20,           (uint64_t)1 << 40, (uint64_t)1 << 63,
                                       UINT64_MAX - 31 /* wraps */, UINT64_MAX - 4095, 1};
    for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
        refuse_number(&i, find_entry(&i, "token_embd.weight").offset, offsets[k], "\"token_embd.weight\"");
        refuse_number(&i, find_entry(&i, "cls.output.bias").offset, offsets[k], "does not lie within the file");
    }
    free(i.data);
}

static void gguf_tensors_over_one_another_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    uint64_t first;
    memcpy(&first, find_entry(&i, "blk.0.attn_q.weight").offset, sizeof first);
    refuse_number(&i, find_entry(&i, "blk.0.attn_k.weight").offset, first, "\"blk.0.attn_k.weight\" lies at byte");
    refuse_number(&i, find_entry(&i, "cls.output.bias").offset, 0, "\"cls.output.bias\" lies at byte 0");
    free(i.data);
}

static void gguf_shapes_that_overflow_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    /* products of 2^64 and just above, in values and in bytes, alone and beside the other extent, 8 */
    static const uint64_t extents[] = {UINT64_MAX,        (uint64_t)1 << 63,         (uint64_t)1 << 62,
                                       (uint64_t)1 << 61, ((uint64_t)1 << 61) + 1,   ((uint64_t)1 << 59) + 1,
                                       UINT32_MAX,        (uint64_t)UINT32_MAX + 16, 0};
    const entry t = find_entry(&i, "blk.0.attn_q.weight");
    for (size_t k = 0; k < sizeof extents / sizeof *extents; k++) {
        refuse_number(&i, t.extents, extents[k], "\"blk.0.attn_q.weight\"");
        refuse_number(&i, t.extents + 8, extents[k], "\"blk.0.attn_q.weight\"");
    }
    const uint64_t both[] = {UINT32_MAX, UINT32_MAX};
    memcpy(t.extents, both, sizeof both);
    assert_gguf_refused(&i, "\"blk.0.attn_q.weight\"");
    free(i.data);
}

static void gguf_counts_beyond_reason_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    static const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 61, 1000000000, 100000};
    char *dimensions = find_entry(&i, "blk.1.ffn_up.bias").n_dimensions;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        refuse_number(&i, i.data + 8, counts[k], "byte 8");   /* tensors */
        refuse_number(&i, i.data + 16, counts[k], "byte 8");  /* keys */
        refuse_number(&i, i.data + 24, counts[k], "byte 32"); /* bytes of the first key's name */
        refuse_number(&i, find_bytes(i.data, i.size, "drr.stack.mean") + strlen("drr.stack.mean") + 8, counts[k],
                      "does not fit into");
    }
    const char kept = *dimensions;
    for (int n = 3; n < 256; n += 63) {
        *dimensions = (char)n;
        assert_gguf_refused(&i, "dimensions");
    }
    *dimensions = 0;
    assert_gguf_refused(&i, "0 dimensions");
    *dimensions = kept;
    free(i.data);
}

static void rename_in(const image *i, const char *from, const char *to)
{
    assert_int_equal(strlen(from), strlen(to));
    memcpy(find_bytes(i->data, i->size, from), to, strlen(to));
}

static void gguf_names_that_are_there_twice_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    rename_in(&i, "drr.encoder", "drr.created"); /* the earlier one */
    assert_gguf_refused(&i, "the key \"drr.created\" is there twice");
    free(i.data);
    i = make_gguf();
    rename_in(&i, "blk.1.attn_q.weight", "blk.1.attn_k.weight");
    assert_gguf_refused(&i, "the tensor \"blk.1.attn_k.weight\" is there twice");
    free(i.data);
}

/* A name longer than ggml's own limit; the file is otherwise well made. */
static void gguf_names_without_end_are_refused(void **state)
{
    (void)state;
    image i = make_gguf();
    char *name = find_bytes(i.data, i.size, "token_embd.weight");
    const size_t before = (size_t)(name - i.data), longer = 100;
    char *grown = calloc(i.size + longer, 1);
    const uint64_t length = strlen("token_embd.weight") + longer;
    memcpy(grown, i.data, before);
    memcpy(grown + before - 8, &length, 8);
    memset(grown + before, 'x', longer);
    memcpy(grown + before + longer, name, i.size - before);
    const image bad = {grown, i.size + longer};
    assert_gguf_refused(&bad, "a tensor's name is empty, too long");
    free(grown);
    free(i.data);
}

/* ---- safetensors: the folder of an exported critic, its header replaced in part */

static void make_folder(void)
{
    drr_critic *critic = NULL;
    drr_error err = {0};
    encoder *e = small_encoder(2);
    write_small(at("good.gguf"), e, true);
    encoder_free(e);
    if (drr_critic_open(&critic, at("good.gguf"), &err) != DRR_OK ||
        drr_critic_export(critic, at("hf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    drr_critic_close(critic);
}

static void put_header(const image *good, const char *header)
{
    uint64_t length;
    buffer b = {0};
    memcpy(&length, good->data, sizeof length);
    const uint64_t own = strlen(header);
    assert_int_equal(buffer_append(&b, &own, sizeof own, NULL), DRR_OK);
    assert_int_equal(buffer_puts(&b, header, NULL), DRR_OK);
    assert_int_equal(buffer_append(&b, good->data + 8 + length, good->size - 8 - length, NULL), DRR_OK);
    put_file(at("hf/model.safetensors"), b.data, b.size);
    buffer_clear(&b);
}

static void assert_weights_refused(const char *what)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_error err = {0};
    const drr_status status = encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err);
    if (status != DRR_E_FORMAT || !strstr(err.message, what) || !strstr(err.message, "model.safetensors"))
        fail_msg("status %s: \"%s\" does not say \"%s\"", drr_status_name(status), err.message, what);
    assert_null(e);
    assert_null(w);
}

/* The good header with one tensor's entry replaced, or one more. */
static void refuse_entry(const image *good, const char *name, const char *entry_json, const char *what)
{
    uint64_t length;
    json_t *header = NULL;
    memcpy(&length, good->data, sizeof length);
    assert_int_equal(json_parse(&header, good->data + 8, length, "header", NULL), DRR_OK);
    json_t *entry_value = json_loads(entry_json, JSON_DECODE_ANY, NULL);
    assert_non_null(entry_value);
    json_object_set_new(header, name, entry_value);
    char *text = json_dumps(header, JSON_COMPACT);
    put_header(good, text);
    assert_weights_refused(what);
    free(text);
    json_decref(header);
}

static void safetensors_offsets_outside_the_file_are_refused(void **state)
{
    (void)state;
    make_folder();
    image good = read_image(at("hf/model.safetensors"));
    static const char *const offsets[] = {"[0,9223372036854775807]",
                                          "[9223372036854775806,9223372036854775807]",
                                          "[-1,3]",
                                          "[8,0]",
                                          "[0]",
                                          "[0,1,2]",
                                          "[0.0,4.0]",
                                          "\"0,4\"",
                                          "null"};
    for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
        char one[160];
        snprintf(one, sizeof one, "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":%s}", offsets[k]);
        refuse_entry(&good, "classifier.bias", one, "\"classifier.bias\" does not lie within the file");
        refuse_entry(&good, "nobody.asks.for.it", one, "\"nobody.asks.for.it\" does not lie within the file");
    }
    refuse_entry(&good, "nobody.asks.for.it", "7", "\"nobody.asks.for.it\" is not an object");
    free(good.data);
}

static void safetensors_over_one_another_are_refused(void **state)
{
    (void)state;
    make_folder();
    image good = read_image(at("hf/model.safetensors"));
    refuse_entry(&good, "classifier.bias", "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}", "share bytes");
    refuse_entry(&good, "more", "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", "share bytes");
    free(good.data);
}

static void safetensors_shapes_that_overflow_are_refused(void **state)
{
    (void)state;
    make_folder();
    image good = read_image(at("hf/model.safetensors"));
    static const char *const shapes[] = {"[4294967296,4294967296]",
                                         "[4294967295,4294967295]",
                                         "[9223372036854775807]",
                                         "[2305843009213693953]",
                                         "[-1]",
                                         "[1,1,1]",
                                         "[]",
                                         "[1.0]"};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        char one[160];
        uint64_t bytes = good.size, length;
        memcpy(&length, good.data, sizeof length);
        bytes -= 8 + length;
        snprintf(one, sizeof one, "{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", shapes[k],
                 (unsigned long long)bytes - 4, (unsigned long long)bytes);
        refuse_entry(&good, "classifier.bias", one, "\"classifier.bias\"");
    }
    free(good.data);
}

static void safetensors_names_that_are_there_twice_are_refused(void **state)
{
    (void)state;
    make_folder();
    image good = read_image(at("hf/model.safetensors"));
    put_header(&good, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                      "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}");
    assert_weights_refused("duplicate");
    free(good.data);
}

/* jansson parses to a depth; a header of brackets alone must not take the stack with it. */
static void safetensors_headers_of_brackets_alone_are_refused(void **state)
{
    (void)state;
    make_folder();
    image good = read_image(at("hf/model.safetensors"));
    const size_t n = 1 << 20;
    char *brackets = malloc(n + 1);
    memset(brackets, '[', n);
    brackets[n] = '\0';
    put_header(&good, brackets);
    assert_weights_refused("not valid JSON");
    free(brackets);
    free(good.data);
}

static void a_vocabulary_of_another_model_is_refused(void **state)
{
    (void)state;
    make_folder();
    drr_error err = {0};
    encoder *e = NULL;
    wordpiece *w = NULL;
    buffer b = {0};
    for (size_t i = 0; i < N_SMALL_VOCABULARY; i++)
        assert_int_equal(buffer_printf(&b, NULL, "%s\n", small_vocabulary[i]), DRR_OK);
    assert_int_equal(buffer_puts(&b, "onetoomany\n", NULL), DRR_OK);
    put_file(at("hf/vocab.txt"), b.data, b.size);
    assert_int_equal(encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "take both from one"));
    /* fewer tokens than rows are padding, up to a point */
    json_t *config = NULL;
    assert_int_equal(json_parse_file(&config, at("hf/config.json"), NULL), DRR_OK);
    json_object_set_new(config, "vocab_size", json_integer(N_SMALL_VOCABULARY + 1025));
    assert_int_equal(json_dump_file(config, at("hf/config.json"), 0), 0);
    assert_int_equal(encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "take both from one"));
    json_object_set_new(config, "vocab_size", json_integer(N_SMALL_VOCABULARY + 1000));
    assert_int_equal(json_dump_file(config, at("hf/config.json"), 0), 0);
    assert_int_equal(encoder_open_hf(&e, &w, NULL, at("hf"), 1, &err), DRR_E_FORMAT);
    assert_null(strstr(err.message, "take both from one")); /* now it is the weights that are too few */
    json_decref(config);
    buffer_clear(&b);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(gguf_offsets_outside_the_file_are_refused),
        IN_A_PLACE(gguf_tensors_over_one_another_are_refused),
        IN_A_PLACE(gguf_shapes_that_overflow_are_refused),
        IN_A_PLACE(gguf_counts_beyond_reason_are_refused),
        IN_A_PLACE(gguf_names_that_are_there_twice_are_refused),
        IN_A_PLACE(gguf_names_without_end_are_refused),
        IN_A_PLACE(safetensors_offsets_outside_the_file_are_refused),
        IN_A_PLACE(safetensors_over_one_another_are_refused),
        IN_A_PLACE(safetensors_shapes_that_overflow_are_refused),
        IN_A_PLACE(safetensors_names_that_are_there_twice_are_refused),
        IN_A_PLACE(safetensors_headers_of_brackets_alone_are_refused),
        IN_A_PLACE(a_vocabulary_of_another_model_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
