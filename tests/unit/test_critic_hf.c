/* test_critic_hf.c: a Hugging Face folder is read as transformers would read it or refused by name; a critic that is
 * exported and read again is the same; a broken model.safetensors does no more than be refused. */
#include "core/json.h"
#include "critic_fixture.h"

#include <fcntl.h>
#include <math.h>

/* ---- a folder, made tensor by tensor */

typedef enum dtype { F32, F16, BF16 } dtype;

typedef struct making { /* how the folder differs from a plain one */
    const char *prefix; /* of the names */
    dtype type;
    bool old_names; /* gamma and beta */
    const char *without;
    uint32_t n_labels, extra_rows;
    const char *config;    /* replaces the member of this name.. */
    const char *config_as; /* ..by this JSON */
} making;

/* Values that all three types hold exactly. */
static encoder *coarse_encoder(void)
{
    encoder *e = small_encoder(3);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = (float)((int)(i % 251) - 125) / 64.0f;
    return e;
}

static void put_value(buffer *b, float value, dtype type)
{
    uint32_t bits;
    uint16_t narrow;
    memcpy(&bits, &value, sizeof bits);
    if (type == F32) {
        assert_int_equal(buffer_append(b, &bits, 4, NULL), DRR_OK);
        return;
    }
    narrow = (uint16_t)(bits >> 16);
    if (type == F16) { /* normal numbers and zero only */
        const uint32_t exponent = bits >> 23 & 255;
        narrow = (uint16_t)((bits >> 16 & 0x8000) | (exponent ? (exponent - 112) << 10 : 0) | (bits >> 13 & 1023));
    }
    assert_int_equal(buffer_append(b, &narrow, 2, NULL), DRR_OK);
}

static void put_name(char *name, size_t size, const making *how, const encoder_tensor *t)
{
    snprintf(name, size, "%s%s", strncmp(t->hf_name, "classifier", 10) == 0 ? "" : how->prefix, t->hf_name);
    char *norm = strstr(name, "LayerNorm.");
    if (norm && how->old_names)
        snprintf(norm + 10, 6, "%s", strcmp(norm + 10, "bias") == 0 ? "beta" : "gamma");
}

static void put_tensor(json_t *header, buffer *data, const making *how, const encoder *e, const encoder_tensor *t)
{
    static const char *const names[] = {"F32", "F16", "BF16"};
    char name[128];
    const bool classifier = strncmp(t->hf_name, "classifier", 10) == 0, bias = strstr(t->hf_name, "bias") != NULL;
    const size_t begin = data->size, columns = classifier && bias ? how->n_labels : t->columns;
    const size_t rows = classifier && !bias ? how->n_labels : t->rows + (t == e->tensors ? how->extra_rows : 0);
    for (size_t i = 0; i < rows * columns; i++)
        put_value(data, i < (size_t)t->rows * t->columns ? e->parameters[t->offset + i] : 9.0f, how->type);
    put_name(name, sizeof name, how, t);
    json_t *shape = json_array();
    if (!bias && !strstr(t->hf_name, "LayerNorm"))
        json_array_append_new(shape, json_integer((json_int_t)rows));
    json_array_append_new(shape, json_integer((json_int_t)columns));
    json_object_set_new(header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", names[how->type], "shape", shape, "data_offsets",
                                  (json_int_t)begin, (json_int_t)data->size));
}

static void put_weights(const making *how, const encoder *e)
{
    buffer data = {0}, file = {0};
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (size_t i = 0; i < e->n_tensors; i++)
        if (!how->without || !strstr(e->tensors[i].hf_name, how->without))
            put_tensor(header, &data, how, e, &e->tensors[i]);
    char *text = json_dumps(header, JSON_COMPACT);
    const uint64_t length = strlen(text);
    assert_int_equal(buffer_append(&file, &length, sizeof length, NULL), DRR_OK);
    assert_int_equal(buffer_puts(&file, text, NULL), DRR_OK);
    assert_int_equal(buffer_append(&file, data.data, data.size, NULL), DRR_OK);
    put_file(at("model.safetensors"), file.data, file.size);
    free(text);
    json_decref(header);
    buffer_clear(&data);
    buffer_clear(&file);
}

static void put_config(const making *how)
{
    json_t *c = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "model_type", "bert", "hidden_act",
                          "gelu", "hidden_size", 8, "intermediate_size", 12, "num_hidden_layers", 2,
                          "num_attention_heads", 2, "vocab_size", (int)(N_SMALL_VOCABULARY + how->extra_rows),
                          "max_position_embeddings", 16, "type_vocab_size", 2, "layer_norm_eps", 1e-12);
    if (how->config)
        json_object_set_new(c, how->config, json_loads(how->config_as, JSON_DECODE_ANY, NULL));
    char *text = json_dumps(c, 0);
    put_file(at("config.json"), text, strlen(text));
    free(text);
    json_decref(c);
}

static void put_folder(const making *how, const encoder *e)
{
    buffer vocabulary = {0};
    for (size_t i = 0; i < N_SMALL_VOCABULARY; i++)
        assert_int_equal(buffer_printf(&vocabulary, NULL, "%s\n", small_vocabulary[i]), DRR_OK);
    put_file(at("vocab.txt"), vocabulary.data, vocabulary.size);
    buffer_clear(&vocabulary);
    put_config(how);
    put_weights(how, e);
}

static encoder *open_folder(bool *has_head, bool lowercase)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_error err = {0};
    if (encoder_open_hf(&e, &w, has_head, folder, 42, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(wordpiece_size(w), N_SMALL_VOCABULARY);
    assert_int_equal(wordpiece_lowercase(w), lowercase);
    wordpiece_free(w);
    return e;
}

static void assert_refused(drr_status expected, const char *what)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_error err = {0};
    const drr_status status = encoder_open_hf(&e, &w, NULL, folder, 42, &err);
    if (status != expected || !strstr(err.message, what) || !strstr(err.message, folder))
        fail_msg("status %s: \"%s\" does not say \"%s\"", drr_status_name(status), err.message, what);
    assert_null(e);
    assert_null(w);
}

/* ---- reading */

static void a_folder_is_read_whatever_its_names_and_types(void **state)
{
    (void)state;
    encoder *e = coarse_encoder();
    for (int variant = 0; variant < 12; variant++) {
        const making how = {.prefix = variant & 1 ? "bert." : "",
                            .type = (dtype)(variant / 4),
                            .old_names = variant & 2,
                            .n_labels = 1,
                            .extra_rows = variant == 5 ? 3 : 0};
        bool has_head = false;
        put_folder(&how, e);
        encoder *got = open_folder(&has_head, true);
        assert_same_parameters(got, e);
        assert_true(has_head);
        assert_int_equal(got->shape.n_vocab, N_SMALL_VOCABULARY);
        assert_true(got->shape.norm_epsilon == 1e-12f);
        encoder_free(got);
    }
    encoder_free(e);
}

static void half_precision_has_its_subnormals_and_none_of_its_infinities(void **state)
{
    (void)state;
    encoder *e = coarse_encoder();
    const making how = {.prefix = "", .type = F16, .n_labels = 1};
    put_folder(&how, e);
    char *data = NULL;
    size_t size;
    assert_int_equal(file_read(&data, &size, at("model.safetensors"), 0, NULL), DRR_OK);
    static const struct {
        uint16_t bits;
        float value;
    } halves[] = {
        {0x0001, 0x1p-24f}, {0x83FF, -1023 * 0x1p-24f}, {0x0400, 0x1p-14f}, {0x7BFF, 65504.0f}, {0x8000, -0.0f}};
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        memcpy(data + size - 2, &halves[i].bits, 2); /* classifier.bias is last */
        put_file(at("model.safetensors"), data, size);
        encoder *got = open_folder(NULL, true);
        assert_memory_equal(&got->parameters[got->n_parameters - 1], &halves[i].value, sizeof(float));
        encoder_free(got);
    }
    static const uint16_t bad[] = {0x7C00, 0xFC00, 0x7E00};
    for (size_t i = 0; i < 3; i++) {
        memcpy(data + size - 2, &bad[i], 2);
        put_file(at("model.safetensors"), data, size);
        assert_refused(DRR_E_FORMAT, "value 0 of the tensor \"classifier.bias\"");
    }
    free(data);
    encoder_free(e);
}

static void check_new(const encoder *e, const char *name, bool is_new)
{
    const encoder_tensor *t = encoder_find(e, name);
    double sum = 0;
    for (size_t i = 0; i < (size_t)t->rows * t->columns; i++)
        sum += (double)e->parameters[t->offset + i] * (double)e->parameters[t->offset + i];
    const double deviation = sqrt(sum / t->rows / t->columns);
    if (!is_new)
        assert_true(deviation > 0.1);
    else if (t->decay)
        assert_true(deviation > 0.005 && deviation < 0.05);
    else
        assert_true(deviation == 0);
}

static void a_missing_head_is_drawn_from_the_seed(void **state)
{
    (void)state;
    encoder *e = coarse_encoder();
    const making without[] = {{.prefix = "", .without = "pooler", .n_labels = 1},
                              {.prefix = "", .without = "classifier", .n_labels = 1},
                              {.prefix = "bert.", .n_labels = 2},
                              {.prefix = "", .without = "classifier.bias", .n_labels = 1}};
    for (size_t i = 0; i < 4; i++) {
        bool has_head = true;
        put_folder(&without[i], e);
        encoder *a = open_folder(&has_head, true), *b = open_folder(NULL, true);
        assert_false(has_head);
        assert_same_parameters(a, b);
        check_new(a, "cls.weight", i == 0);
        check_new(a, "cls.bias", i == 0);
        check_new(a, "cls.output.weight", i != 0);
        check_new(a, "cls.output.bias", i != 0);
        encoder_free(a);
        encoder_free(b);
    }
    encoder_free(e);
}

static void a_config_that_is_not_of_such_an_encoder_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *field, *value, *says;
    } cases[] = {{"model_type", "\"distilbert\"", "model_type"},
                 {"model_type", "null", "model_type"},
                 {"hidden_act", "\"relu\"", "relu"},
                 {"position_embedding_type", "\"relative_key\"", "relative_key"},
                 {"hidden_size", "0", "hidden_size"},
                 {"hidden_size", "-8", "hidden_size"},
                 {"hidden_size", "8.5", "hidden_size"},
                 {"hidden_size", "null", "hidden_size"},
                 {"hidden_size", "1000000000", "too few"},
                 {"num_hidden_layers", "2147483647", "too few"},
                 {"intermediate_size", "11", "11 x 8"},
                 {"num_hidden_layers", "3", "encoder.layer.2."},
                 {"vocab_size", "14", "14"},
                 {"layer_norm_eps", "-1", "layer_norm_eps"}};
    encoder *e = coarse_encoder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const making how = {.prefix = "", .n_labels = 1, .config = cases[i].field, .config_as = cases[i].value};
        put_folder(&how, e);
        assert_refused(DRR_E_FORMAT, cases[i].says);
    }
    put_file(at("config.json"), "[1]", 3);
    assert_refused(DRR_E_FORMAT, "config.json");
    put_file(at("config.json"), "{", 1);
    assert_refused(DRR_E_FORMAT, "config.json");
    assert_int_equal(unlink(at("config.json")), 0);
    assert_refused(DRR_E_NOT_FOUND, "config.json");
    encoder_free(e);
}

static void the_tokenizers_options_are_kept_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says; /* NULL: it is read */
        bool lowercase;
    } cases[] = {{"{}", NULL, true},
                 {"{\"do_lower_case\": false}", NULL, false},
                 {"{\"do_lower_case\": true, \"strip_accents\": null}", NULL, true},
                 {"{\"do_lower_case\": false, \"strip_accents\": true}", "strip_accents", false},
                 {"{\"strip_accents\": false}", "strip_accents", false},
                 {"{\"tokenize_chinese_chars\": false}", "tokenize_chinese_chars", false},
                 {"{\"do_basic_tokenize\": false}", "do_basic_tokenize", false},
                 {"nothing", "tokenizer_config.json", false}};
    encoder *e = coarse_encoder();
    const making how = {.prefix = "", .n_labels = 1};
    put_folder(&how, e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file(at("tokenizer_config.json"), cases[i].config, strlen(cases[i].config));
        if (cases[i].says)
            assert_refused(DRR_E_FORMAT, cases[i].says);
        else
            encoder_free(open_folder(NULL, cases[i].lowercase));
    }
    encoder_free(e);
}

/* ---- broken weights */

static void weights_cut_at_any_byte_are_refused(void **state)
{
    (void)state;
    struct stat st;
    encoder *e = coarse_encoder();
    const making how = {.prefix = "", .n_labels = 1};
    put_folder(&how, e);
    assert_int_equal(stat(at("model.safetensors"), &st), 0);
    for (off_t cut = st.st_size - 1; cut > 0; cut--) {
        assert_int_equal(truncate(at("model.safetensors"), cut), 0);
        assert_refused(DRR_E_FORMAT, "model.safetensors");
    }
    assert_int_equal(truncate(at("model.safetensors"), 0), 0);
    assert_refused(DRR_E_FORMAT, "empty");
    assert_int_equal(unlink(at("model.safetensors")), 0);
    assert_refused(DRR_E_NOT_FOUND, "model.safetensors");
    encoder_free(e);
}

static void weights_with_any_byte_changed_are_refused_or_read_but_never_more(void **state)
{
    (void)state;
    static const unsigned char masks[] = {0x01, 0x10, 0x80};
    char *data = NULL;
    size_t size, n_read = 0;
    encoder *e = coarse_encoder();
    const making how = {.prefix = "", .n_labels = 1};
    put_folder(&how, e);
    assert_int_equal(file_read(&data, &size, at("model.safetensors"), 0, NULL), DRR_OK);
    const int fd = open(at("model.safetensors"), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t byte = 0; byte < size; byte++)
        for (size_t k = 0; k < sizeof masks; k++) {
            encoder *got = NULL;
            wordpiece *w = NULL;
            drr_error err = {0};
            const char changed = (char)(data[byte] ^ masks[k]);
            assert_int_equal(pwrite(fd, &changed, 1, (off_t)byte), 1);
            if (encoder_open_hf(&got, &w, NULL, folder, 42, &err) == DRR_OK)
                n_read++;
            else
                assert_true(err.message[0] && !got && !w);
            encoder_free(got);
            wordpiece_free(w);
            assert_int_equal(pwrite(fd, &data[byte], 1, (off_t)byte), 1);
        }
    assert_true(n_read > e->n_parameters);
    close(fd);
    free(data);
    encoder_free(e);
}

static void a_header_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header, *says;
    } cases[] = {
        {"[]", "not a JSON object"},
        {"{}", "embeddings.word_embeddings.weight"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"I64\",\"shape\":[15,8],\"data_offsets\":[0,480]}}",
         "I64"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,8],\"data_offsets\":[0,484]}}",
         "484"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,8],\"data_offsets\":[480,0]}}",
         "lie"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,8],\"data_offsets\":[-1,479]}}",
         "lie"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,8],\"data_offsets\":[0,99999]}}",
         "lie"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,8]}}", "lie"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[15,2,4],\"data_offsets\":[0,480]}}",
         "shape"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,480]}}", "shape"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[4294967295,4294967295],\"data_offsets\":"
         "[0,4]}}",
         "4294967295"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[0,0],\"data_offsets\":[0,0]}}", "0 x 0"},
        {"{\"embeddings.word_embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[14,8],\"data_offsets\":[0,448]}}",
         "14 x 8"}};
    encoder *e = coarse_encoder();
    const making how = {.prefix = "", .n_labels = 1};
    put_folder(&how, e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[16384] = {0};
        const uint64_t length = strlen(cases[i].header);
        memcpy(file, &length, sizeof length);
        memcpy(file + 8, cases[i].header, length);
        put_file(at("model.safetensors"), file, sizeof file);
        assert_refused(DRR_E_FORMAT, cases[i].says);
    }
    const uint64_t lengths[] = {UINT64_MAX, (uint64_t)1 << 63, 100, 100000001};
    for (size_t i = 0; i < 4; i++) {
        char file[64] = {0};
        memcpy(file, &lengths[i], sizeof lengths[i]);
        put_file(at("model.safetensors"), file, sizeof file);
        assert_refused(DRR_E_FORMAT, "header");
    }
    encoder_free(e);
}

/* ---- export */

static void an_exported_critic_is_read_again_as_it_was(void **state)
{
    (void)state;
    drr_critic *critic = NULL;
    encoder *e = small_encoder(5);
    bool has_head = false;
    drr_error err = {0};
    write_small(at("critic.gguf"), e, true);
    if (drr_critic_open(&critic, at("critic.gguf"), &err) != DRR_OK || critic_export_hf(critic, folder, &err) != DRR_OK)
        fail_msg("%s", err.message);
    encoder *got = open_folder(&has_head, true);
    assert_true(has_head);
    const encoder_tensor *types = encoder_find(e, "token_types.weight");
    for (size_t i = 0; i < e->shape.n_embd; i++) /* the second type's row is written as the first's */
        e->parameters[types->offset + e->shape.n_embd + i] = e->parameters[types->offset + i];
    assert_same_parameters(got, e);
    assert_memory_equal(&got->shape, &e->shape, sizeof e->shape);
    assert_int_equal(entries_of(folder), 7); /* critic.gguf and six of its own: no temporary name is left */
    encoder_free(got);
    encoder_free(e);
    drr_critic_close(critic);
}

static void what_transformers_has_no_place_for_is_in_drr_json(void **state)
{
    (void)state;
    drr_critic *critic = NULL;
    encoder *e = small_encoder(5);
    json_t *o = NULL;
    critic_meta m = small_meta(true);
    write_small(at("critic.gguf"), e, true);
    assert_int_equal(drr_critic_open(&critic, at("critic.gguf"), NULL), DRR_OK);
    assert_int_equal(critic_export_hf(critic, at("deep/er"), NULL), DRR_OK);
    assert_int_equal(json_parse_file(&o, at("deep/er/drr.json"), NULL), DRR_OK);
    assert_true(json_number_or(o, "threshold", 0) == m.threshold);
    assert_string_equal(json_string_or(o, "name", ""), m.name);
    assert_string_equal(json_string_or(o, "seed", ""), "18446744073709551615");
    assert_true(json_number_or(json_object_get(o, "calibration"), "a", 0) == m.calibration.a);
    json_t *features = json_object_get(json_object_get(o, "stack"), "features");
    assert_int_equal(json_array_size(features), m.stack.n);
    assert_string_equal(json_string_or(json_array_get(features, 2), "name", ""), stack_feature_name(2));
    assert_true(json_number_or(json_array_get(features, 2), "weight", 0) == m.stack.weight[2]);
    json_decref(o);
    critic_meta_clear(&m);
    encoder_free(e);
    drr_critic_close(critic);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(a_folder_is_read_whatever_its_names_and_types),
        IN_A_PLACE(half_precision_has_its_subnormals_and_none_of_its_infinities),
        IN_A_PLACE(a_missing_head_is_drawn_from_the_seed),
        IN_A_PLACE(a_config_that_is_not_of_such_an_encoder_is_refused_by_name),
        IN_A_PLACE(the_tokenizers_options_are_kept_or_refused),
        IN_A_PLACE(weights_cut_at_any_byte_are_refused),
        IN_A_PLACE(weights_with_any_byte_changed_are_refused_or_read_but_never_more),
        IN_A_PLACE(a_header_that_lies_is_refused),
        IN_A_PLACE(an_exported_critic_is_read_again_as_it_was),
        IN_A_PLACE(what_transformers_has_no_place_for_is_in_drr_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
