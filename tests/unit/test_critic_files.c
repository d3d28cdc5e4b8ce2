/* test_critic_files.c: a critic comes back from its file bit for bit, and no broken file does more than be refused: cut
 * at every byte, changed at every byte, with counts and types that lie. */
#include "critic/gguf.h"
#include "critic_fixture.h"

#include <fcntl.h>
#include <math.h>

typedef struct parts {
    encoder *e;
    wordpiece *w;
    critic_meta meta;
    char sha256[65];
} parts;

static drr_status read_parts(parts *p, const char *path, drr_error *err)
{
    *p = (parts){0};
    return critic_read(path, &p->e, &p->w, &p->meta, p->sha256, err);
}

static void free_parts(parts *p)
{
    encoder_free(p->e);
    wordpiece_free(p->w);
    critic_meta_clear(&p->meta);
}

static void assert_same_meta(const critic_meta *a, const critic_meta *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->reasoner, b->reasoner);
    assert_string_equal(a->prompt, b->prompt);
    assert_string_equal(a->encoder, b->encoder);
    assert_string_equal(a->tasks, b->tasks);
    assert_string_equal(a->created, b->created);
    assert_memory_equal(&a->threshold, &b->threshold, sizeof(double));
    assert_memory_equal(&a->calibration, &b->calibration, sizeof(platt));
    assert_int_equal(a->max_length, b->max_length);
    assert_true(a->n_train_questions == b->n_train_questions);
    assert_true(a->n_train_traces == b->n_train_traces);
    assert_true(a->n_train_beginnings == b->n_train_beginnings);
    assert_true(a->seed == b->seed);
    assert_int_equal(a->has_stack, b->has_stack);
    assert_int_equal(a->stack.n, b->stack.n);
    assert_memory_equal(&a->stack.bias, &b->stack.bias, sizeof(double));
    assert_memory_equal(a->stack.mean, b->stack.mean, a->stack.n * sizeof(double));
    assert_memory_equal(a->stack.scale, b->stack.scale, a->stack.n * sizeof(double));
    assert_memory_equal(a->stack.weight, b->stack.weight, a->stack.n * sizeof(double));
}

static void a_critic_comes_back_bit_for_bit(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        encoder *e = small_encoder(1);
        wordpiece *w = small_tokenizer(variant & 1);
        critic_meta m = small_meta(variant & 2);
        parts p;
        char hex[65];
        e->parameters[3] = -0.0f;
        e->parameters[4] = 1e-45f; /* subnormal */
        assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
        assert_int_equal(read_parts(&p, at("a.gguf"), NULL), DRR_OK);
        assert_same_parameters(p.e, e);
        assert_memory_equal(&p.e->shape, &e->shape, sizeof e->shape);
        assert_int_equal(wordpiece_size(p.w), N_SMALL_VOCABULARY);
        for (size_t i = 0; i < N_SMALL_VOCABULARY; i++)
            assert_string_equal(wordpiece_token(p.w, i), small_vocabulary[i]);
        assert_int_equal(wordpiece_lowercase(p.w), variant & 1);
        assert_same_meta(&p.meta, &m);
        assert_int_equal(sha256_file(hex, at("a.gguf"), NULL), DRR_OK);
        assert_string_equal(p.sha256, hex);
        free_parts(&p);
        critic_meta_clear(&m);
        wordpiece_free(w);
        encoder_free(e);
    }
    assert_int_equal(entries_of(folder), 1);
}

static void unknown_strings_come_back_empty(void **state)
{
    (void)state;
    encoder *e = small_encoder(1);
    wordpiece *w = small_tokenizer(true);
    const critic_meta m = {.max_length = 5};
    parts p;
    assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
    assert_int_equal(read_parts(&p, at("a.gguf"), NULL), DRR_OK);
    assert_string_equal(p.meta.name, "");
    assert_string_equal(p.meta.created, "");
    assert_false(p.meta.has_stack);
    free_parts(&p);
    wordpiece_free(w);
    encoder_free(e);
}

/* ---- keys that need not be there */

static drr_guarantee small_guarantee(uint32_t turns)
{
    return (drr_guarantee){.found = true,
                           .turns = turns,
                           .target_error = 0.1,
                           .delta = 0.05,
                           .threshold = 0.1 + 0.2 * turns,
                           .test = turns > 1 ? DRR_RISK_BINOMIAL : DRR_RISK_HOEFFDING_BENTKUS,
                           .temperature = turns > 1 ? NAN : 0.7,
                           .n = 300,
                           .n_accepted = 200,
                           .n_wrong = 9,
                           .p_value = 1.0 / 3 / 10,
                           .bound = 1.0 / 11};
}

static void assert_same_guarantee(const drr_guarantee *a, const drr_guarantee *b)
{
    assert_true(a->found == b->found && a->turns == b->turns && a->test == b->test && a->n == b->n);
    assert_true(a->n_accepted == b->n_accepted && a->n_wrong == b->n_wrong);
    assert_memory_equal(&a->target_error, &b->target_error, sizeof(double));
    assert_memory_equal(&a->delta, &b->delta, sizeof(double));
    assert_memory_equal(&a->threshold, &b->threshold, sizeof(double));
    assert_memory_equal(&a->p_value, &b->p_value, sizeof(double));
    assert_memory_equal(&a->bound, &b->bound, sizeof(double));
    assert_true(isnan(a->temperature) ? isnan(b->temperature) : !(fabs(a->temperature - b->temperature) > 0));
}

/* Bits: a curve of the text, a line of the stack, a curve of the stack, a promise of a verdict, one of a loop. */
static critic_meta meta_with(unsigned what)
{
    critic_meta m = small_meta(true);
    if (what & 1)
        m.text_curve = (curve){3, {-2.5, 0.1, 7}, {1e-9, 1.0 / 3, 1.0 / 3}};
    m.has_stack_calibration = what & 6;
    if (what & 2)
        m.stack_calibration.line = (platt){1.0 / 7, -0.3};
    if (what & 4)
        m.stack_calibration.steps = (curve){1, {0.5}, {0.25}};
    if (what & 8)
        m.guarantees[m.n_guarantees++] = small_guarantee(1);
    if (what & 16)
        m.guarantees[m.n_guarantees++] = small_guarantee(4);
    return m;
}

static void what_need_not_be_there_comes_back_too(void **state)
{
    (void)state;
    encoder *e = small_encoder(1);
    wordpiece *w = small_tokenizer(true);
    for (unsigned what = 0; what < 32; what++) {
        critic_meta m = meta_with(what);
        parts p;
        char *data;
        size_t size;
        uint32_t version;
        assert_int_equal(critic_write(at("a.gguf"), e, w, &m, NULL), DRR_OK);
        assert_int_equal(read_parts(&p, at("a.gguf"), NULL), DRR_OK);
        assert_same_meta(&p.meta, &m);
        assert_memory_equal(&p.meta.text_curve, &m.text_curve, sizeof m.text_curve);
        assert_int_equal(p.meta.has_stack_calibration, m.has_stack_calibration);
        assert_memory_equal(&p.meta.stack_calibration, &m.stack_calibration, sizeof m.stack_calibration);
        assert_int_equal(p.meta.n_guarantees, m.n_guarantees);
        for (uint32_t i = 0; i < m.n_guarantees; i++)
            assert_same_guarantee(&p.meta.guarantees[i], &m.guarantees[i]);
        /* what an older drr would overlook, it refuses; a promise changes no probability */
        assert_int_equal(file_read(&data, &size, at("a.gguf"), 0, NULL), DRR_OK);
        const char *key = find_bytes(data, size, "drr.format.version");
        memcpy(&version, key + strlen("drr.format.version") + 4, sizeof version);
        assert_int_equal(version, what & 7 ? 2 : 1);
        free(data);
        free_parts(&p);
        critic_meta_clear(&m);
    }
    wordpiece_free(w);
    encoder_free(e);
}

static void assert_not_possible(critic_meta *m, const char *what)
{
    encoder *e = small_encoder(1);
    wordpiece *w = small_tokenizer(true);
    drr_error err = {0};
    assert_int_equal(critic_write(at("no.gguf"), e, w, m, &err), DRR_E_ARGUMENT);
    if (!strstr(err.message, what))
        fail_msg("\"%s\" does not say \"%s\"", err.message, what);
    assert_false(file_exists(at("no.gguf")));
    critic_meta_clear(m);
    wordpiece_free(w);
    encoder_free(e);
}

static void curves_that_fall_and_promises_that_cannot_be_are_not_written(void **state)
{
    (void)state;
    critic_meta m = meta_with(1);
    m.text_curve.y[2] = 0.2;
    assert_not_possible(&m, "curve");
    m = meta_with(1);
    m.text_curve.x[1] = m.text_curve.x[0];
    assert_not_possible(&m, "curve");
    m = meta_with(4);
    m.stack_calibration.steps.y[0] = 1;
    assert_not_possible(&m, "curve");
    m = meta_with(2);
    m.stack_calibration.line.a = NAN;
    assert_not_possible(&m, "stack");
    m = meta_with(8);
    m.guarantees[0].n_wrong = 201; /* of 200 */
    assert_not_possible(&m, "guarantee 1");
    m = meta_with(8);
    m.guarantees[0].p_value = 0.06; /* above delta: it was not found */
    assert_not_possible(&m, "guarantee 1");
    m = meta_with(24);
    m.guarantees[1] = m.guarantees[0]; /* two of one verdict */
    assert_not_possible(&m, "guarantee 2");
}

/* ---- broken files */

typedef struct image {
    char *data;
    size_t size;
} image;

static image make_image(bool has_stack)
{
    image i = {0};
    encoder *e = small_encoder(2);
    if (has_stack) { /* and all else that there can be */
        wordpiece *w = small_tokenizer(true);
        critic_meta m = meta_with(31);
        assert_int_equal(critic_write(at("good.gguf"), e, w, &m, NULL), DRR_OK);
        critic_meta_clear(&m);
        wordpiece_free(w);
    } else {
        write_small(at("good.gguf"), e, false);
    }
    encoder_free(e);
    assert_int_equal(file_read(&i.data, &i.size, at("good.gguf"), 0, NULL), DRR_OK);
    return i;
}

/* Refused with one sentence that names the file, and nothing handed out. */
static void assert_bad_refused(drr_status expected, const char *what)
{
    parts p;
    drr_error err = {0};
    const drr_status status = read_parts(&p, at("bad.gguf"), &err);
    if (status != expected || !strstr(err.message, what) || !strstr(err.message, "bad.gguf"))
        fail_msg("status %s: \"%s\" does not say \"%s\"", drr_status_name(status), err.message, what);
    assert_null(p.e);
    assert_null(p.w);
    assert_null(p.meta.name);
}

static void assert_refused(const void *data, size_t size, drr_status expected, const char *what)
{
    put_file(at("bad.gguf"), data, size);
    assert_bad_refused(expected, what);
}

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    image i = make_image(true);
    const size_t tail = 28; /* padding of the last tensor, one float: without it nothing is missing */
    assert_refused(i.data, i.size - tail - 1, DRR_E_FORMAT, "cls.output.bias");
    for (size_t cut = i.size - tail - 1; cut-- > 1;) {
        assert_int_equal(truncate(at("bad.gguf"), (off_t)cut), 0);
        assert_bad_refused(DRR_E_FORMAT, "bad.gguf");
    }
    assert_refused(i.data, 0, DRR_E_FORMAT, "empty");
    free(i.data);
}

static void a_file_with_any_byte_changed_is_refused_or_read_but_never_more(void **state)
{
    (void)state;
    static const unsigned char masks[] = {0x01, 0x80, 0xFF};
    image i = make_image(true);
    size_t n_read = 0;
    const int fd = open(at("good.gguf"), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t byte = 0; byte < i.size; byte++)
        for (size_t k = 0; k < sizeof masks; k++) {
            parts p;
            drr_error err = {0};
            const char changed = (char)(i.data[byte] ^ masks[k]);
            assert_int_equal(pwrite(fd, &changed, 1, (off_t)byte), 1);
            if (read_parts(&p, at("good.gguf"), &err) == DRR_OK)
                n_read++;
            else
                assert_true(err.message[0] && !p.e && !p.w);
            free_parts(&p);
            assert_int_equal(pwrite(fd, &i.data[byte], 1, (off_t)byte), 1);
        }
    close(fd);
    assert_true(n_read > i.size); /* most bytes are weights, and another weight is a weight too */
    free(i.data);
}

static void a_count_that_lies_takes_no_memory(void **state)
{
    (void)state;
    image i = make_image(true);
    static const uint64_t counts[] = {UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 61, (uint64_t)1 << 32, 100000};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        char *tokens = find_bytes(i.data, i.size, "tokenizer.ggml.tokens") + strlen("tokenizer.ggml.tokens");
        char *types = find_bytes(i.data, i.size, "token_type\t"); /* tab: an array */
        char *const places[] = {i.data + 8, i.data + 16, tokens + 8, types + strlen("token_type") + 8, tokens + 16};
        for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
            uint64_t kept;
            memcpy(&kept, places[place], sizeof kept);
            memcpy(places[place], &counts[k], sizeof kept);
            assert_refused(i.data, i.size, DRR_E_FORMAT, "byte");
            memcpy(places[place], &kept, sizeof kept);
        }
    }
    free(i.data);
}

static void set_u32(image *i, const char *key, uint32_t value)
{
    memcpy(find_bytes(i->data, i->size, key) + strlen(key) + sizeof(uint32_t), &value, sizeof value);
}

static void assert_u32_refused(image *i, const char *key, uint32_t value, drr_status expected, const char *what)
{
    uint32_t kept;
    memcpy(&kept, find_bytes(i->data, i->size, key) + strlen(key) + sizeof(uint32_t), sizeof kept);
    set_u32(i, key, value);
    assert_refused(i->data, i->size, expected, what);
    set_u32(i, key, kept);
}

static void a_shape_that_the_file_cannot_hold_is_refused(void **state)
{
    (void)state;
    image i = make_image(true);
    static const char *const keys[] = {"bert.block_count",          "bert.embedding_length",
                                       "bert.attention.head_count", "bert.feed_forward_length",
                                       "bert.context_length",       "tokenizer.ggml.token_type_count"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        parts p;
        drr_error err = {0};
        static const uint32_t values[] = {0, 3, UINT32_MAX, 0x10000};
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            uint32_t kept;
            memcpy(&kept, find_bytes(i.data, i.size, keys[k]) + strlen(keys[k]) + 4, 4);
            set_u32(&i, keys[k], values[v]);
            put_file(at("bad.gguf"), i.data, i.size);
            assert_int_not_equal(read_parts(&p, at("bad.gguf"), &err), DRR_OK);
            assert_true(err.message[0] != '\0');
            set_u32(&i, keys[k], kept);
        }
    }
    free(i.data);
}

static void what_is_no_critic_is_said_to_be_none(void **state)
{
    (void)state;
    image i = make_image(true);
    assert_refused("GGML and more", 13, DRR_E_FORMAT, "byte 0");
    i.data[4] = 2;
    assert_refused(i.data, i.size, DRR_E_FORMAT, "version 2");
    i.data[4] = 3;
    char *version = find_bytes(i.data, i.size, "drr.format.version");
    version[0] = 'x';
    assert_refused(i.data, i.size, DRR_E_FORMAT, "not a critic");
    version[0] = 'd';
    assert_u32_refused(&i, "drr.format.version", 5, DRR_E_MISMATCH, "version 5");
    assert_u32_refused(&i, "bert.pooling_type", 1, DRR_E_FORMAT, "bert.pooling_type");
    assert_u32_refused(&i, "drr.max_length", 17, DRR_E_FORMAT, "drr.max_length");
    assert_u32_refused(&i, "drr.max_length", 4, DRR_E_FORMAT, "drr.max_length");
    assert_u32_refused(&i, "general.alignment", 0, DRR_E_FORMAT, "general.alignment");
    assert_u32_refused(&i, "general.alignment", 48, DRR_E_FORMAT, "general.alignment");
    find_bytes(i.data, i.size, "accept")[0] = 'A';
    assert_refused(i.data, i.size, DRR_E_FORMAT, "output_labels");
    parts p;
    drr_error err = {0};
    assert_int_equal(read_parts(&p, at("absent.gguf"), &err), DRR_E_NOT_FOUND);
    assert_int_equal(read_parts(&p, folder, &err), DRR_E_FORMAT);
    free(i.data);
}

static void set_f64(image *i, const char *key, double value)
{
    char *found = find_bytes(i->data, i->size, key);
    memcpy(found + strlen(key) + 4, &value, sizeof value);
}

static void a_curve_or_promise_that_cannot_be_is_refused(void **state)
{
    (void)state;
    image i = make_image(true);
    set_f64(&i, "drr.guarantee.loop.threshold", 1.5);
    assert_refused(i.data, i.size, DRR_E_FORMAT, "drr.guarantee.loop.*");
    set_f64(&i, "drr.guarantee.loop.threshold", 0.9);
    assert_u32_refused(&i, "drr.guarantee.loop.turns", 1, DRR_E_FORMAT, "drr.guarantee.loop.*");
    assert_u32_refused(&i, "drr.guarantee.verdict.turns", 2, DRR_E_FORMAT, "drr.guarantee.verdict.*");
    set_f64(&i, "drr.guarantee.verdict.delta", NAN);
    assert_refused(i.data, i.size, DRR_E_FORMAT, "drr.guarantee.verdict.delta");
    set_f64(&i, "drr.guarantee.verdict.delta", 0.05);
    find_bytes(i.data, i.size, "hoeffding-bentkus")[0] = 'H';
    assert_refused(i.data, i.size, DRR_E_MISMATCH, "Hoeffding-bentkus");
    find_bytes(i.data, i.size, "Hoeffding-bentkus")[0] = 'h';
    char *y = find_bytes(i.data, i.size, "drr.calibration.y");
    const double above = 2;
    memcpy(y + strlen("drr.calibration.y") + 4 + 4 + 8, &above, sizeof above);
    assert_refused(i.data, i.size, DRR_E_FORMAT, "does not rise");
    free(i.data);
}

static void a_key_of_another_type_or_name_is_named(void **state)
{
    (void)state;
    image i = make_image(true);
    char *threshold = find_bytes(i.data, i.size, "drr.threshold");
    threshold[strlen("drr.threshold")] = 10; /* f64 to u64, of the same size */
    assert_refused(i.data, i.size, DRR_E_FORMAT, "\"drr.threshold\" is of type u64");
    threshold[strlen("drr.threshold")] = 12;
    threshold[5] = 'x';
    assert_refused(i.data, i.size, DRR_E_FORMAT, "\"drr.threshold\" is missing");
    threshold[5] = 'h';
    const double nan = NAN;
    memcpy(threshold + strlen("drr.threshold") + 4, &nan, sizeof nan);
    assert_refused(i.data, i.size, DRR_E_FORMAT, "\"drr.threshold\" is not a finite");
    free(i.data);
}

static void a_weight_that_is_no_number_is_named(void **state)
{
    (void)state;
    image i = make_image(true);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t k = 0; k < 3; k++) {
        memcpy(i.data + i.size - 32, &bad[k], sizeof(float));
        assert_refused(i.data, i.size, DRR_E_FORMAT, "value 0 of the tensor \"cls.output.bias\"");
    }
    free(i.data);
}

static void a_tensor_that_is_not_the_encoders_is_named(void **state)
{
    (void)state;
    image i = make_image(true);
    char *name = find_bytes(i.data, i.size, "blk.1.ffn_up.bias");
    name[0] = 'x';
    assert_refused(i.data, i.size, DRR_E_FORMAT, "\"blk.1.ffn_up.bias\" is missing");
    name[0] = 'b';
    const size_t extent = strlen("blk.1.ffn_up.bias") + 4, type = extent + 8;
    name[extent] = 11;
    assert_refused(i.data, i.size, DRR_E_FORMAT, "\"blk.1.ffn_up.bias\" is 1 x 11");
    name[extent] = 12;
    name[type] = 1; /* F16 */
    assert_refused(i.data, i.size, DRR_E_FORMAT, "type 1");
    name[type] = 0;
    name[type + 4]++; /* an offset that is not aligned */
    assert_refused(i.data, i.size, DRR_E_FORMAT, "does not lie within");
    free(i.data);
}

static void a_feature_that_this_build_does_not_know_is_a_mismatch(void **state)
{
    (void)state;
    image i = make_image(true);
    char *feature = find_bytes(i.data, i.size, stack_feature_name(1));
    feature[0] = '?';
    assert_refused(i.data, i.size, DRR_E_MISMATCH, "feature \"?");
    free(i.data);
}

static void features_are_found_by_name_whatever_their_order(void **state)
{
    (void)state;
    image i = make_image(true);
    parts p;
    drr_error err = {0};
    /* names of one length can change places in the file */
    uint32_t a = 0, b = 0;
    for (uint32_t x = 0; !b && stack_feature_name(x); x++)
        for (uint32_t y = x + 1; !b && stack_feature_name(y); y++)
            if (strlen(stack_feature_name(x)) == strlen(stack_feature_name(y))) {
                a = x;
                b = y;
            }
    assert_true(b > 0);
    char *at_a = find_bytes(i.data, i.size, stack_feature_name(a)),
         *at_b = find_bytes(i.data, i.size, stack_feature_name(b));
    memcpy(at_a, stack_feature_name(b), strlen(stack_feature_name(b)));
    memcpy(at_b, stack_feature_name(a), strlen(stack_feature_name(a)));
    put_file(at("bad.gguf"), i.data, i.size);
    if (read_parts(&p, at("bad.gguf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta m = small_meta(true);
    assert_true(p.meta.stack.weight[a] == m.stack.weight[b]);
    assert_true(p.meta.stack.mean[b] == m.stack.mean[a]);
    critic_meta_clear(&m);
    free_parts(&p);
    memcpy(at_b, stack_feature_name(b), strlen(stack_feature_name(b)));
    assert_refused(i.data, i.size, DRR_E_FORMAT, "twice");
    free(i.data);
}

/* ---- what cannot be written */

static void assert_not_written(const encoder *e, const wordpiece *w, const critic_meta *m, drr_status expected,
                               const char *what)
{
    drr_error err = {0};
    put_file(at("old.gguf"), "old", 3);
    assert_int_equal(critic_write(at("old.gguf"), e, w, m, &err), expected);
    if (!strstr(err.message, what))
        fail_msg("\"%s\" does not say \"%s\"", err.message, what);
    char *data = NULL;
    assert_int_equal(file_read(&data, NULL, at("old.gguf"), 0, NULL), DRR_OK);
    assert_string_equal(data, "old");
    free(data);
    assert_int_equal(entries_of(folder), 1);
}

static void what_could_not_be_read_again_is_not_written(void **state)
{
    (void)state;
    encoder *e = small_encoder(1);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(true);
    e->parameters[e->n_parameters - 1] = NAN;
    assert_not_written(e, w, &m, DRR_E_ARGUMENT, "weight");
    e->parameters[e->n_parameters - 1] = 0;
    m.threshold = NAN;
    assert_not_written(e, w, &m, DRR_E_ARGUMENT, "drr.threshold");
    m.threshold = 1;
    m.max_length = 17;
    assert_not_written(e, w, &m, DRR_E_ARGUMENT, "longest");
    m.max_length = 16;
    m.stack.weight[1] = INFINITY;
    assert_not_written(e, w, &m, DRR_E_ARGUMENT, "stack");
    m.stack.weight[1] = 0;
    wordpiece_free(w);
    const char *more[N_SMALL_VOCABULARY + 1];
    memcpy(more, small_vocabulary, sizeof small_vocabulary);
    more[N_SMALL_VOCABULARY] = "more";
    assert_int_equal(wordpiece_new(&w, more, N_SMALL_VOCABULARY + 1, true, NULL), DRR_OK);
    assert_not_written(e, w, &m, DRR_E_MISMATCH, "tokens");
    wordpiece_free(w);
    static const char *const ambiguous[] = {"##[SEP]", "##\xE2\x96\x81", "##\xE2\x96\x81x"};
    for (size_t k = 0; k < 3; k++) {
        more[8] = ambiguous[k];
        assert_int_equal(wordpiece_new(&w, more, N_SMALL_VOCABULARY, true, NULL), DRR_OK);
        assert_not_written(e, w, &m, DRR_E_FORMAT, ambiguous[k]);
        wordpiece_free(w);
    }
    critic_meta_clear(&m);
    encoder_free(e);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(a_critic_comes_back_bit_for_bit),
        IN_A_PLACE(unknown_strings_come_back_empty),
        IN_A_PLACE(what_need_not_be_there_comes_back_too),
        IN_A_PLACE(curves_that_fall_and_promises_that_cannot_be_are_not_written),
        IN_A_PLACE(a_curve_or_promise_that_cannot_be_is_refused),
        IN_A_PLACE(a_file_cut_at_any_byte_is_refused),
        IN_A_PLACE(a_file_with_any_byte_changed_is_refused_or_read_but_never_more),
        IN_A_PLACE(a_count_that_lies_takes_no_memory),
        IN_A_PLACE(a_shape_that_the_file_cannot_hold_is_refused),
        IN_A_PLACE(what_is_no_critic_is_said_to_be_none),
        IN_A_PLACE(a_key_of_another_type_or_name_is_named),
        IN_A_PLACE(a_weight_that_is_no_number_is_named),
        IN_A_PLACE(a_tensor_that_is_not_the_encoders_is_named),
        IN_A_PLACE(a_feature_that_this_build_does_not_know_is_a_mismatch),
        IN_A_PLACE(features_are_found_by_name_whatever_their_order),
        IN_A_PLACE(what_could_not_be_read_again_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
