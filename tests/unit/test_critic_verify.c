/* test_critic_verify.c: a critic that is whole is said to be so, alone, beside its card and beside its export; each way
 * of not being so is found, by the part that can know it, in words that name the file. */
#include "core/json.h"
#include "critic/gguf_internal.h"
#include "critic_fixture.h"

#include <math.h>

static void write_probed(const char *path, uint64_t seed, bool probed)
{
    encoder *e = small_encoder(seed);
    wordpiece *w = small_tokenizer(true);
    critic_meta m = small_meta(true);
    drr_error err = {0};
    m.n_train_questions = 4711; /* JSON's integers are signed */
    double logits[25];
    for (size_t i = 0; i < 25; i++)
        logits[i] = (double)(i * i) / 7 - 3;
    critic_quantiles_make(&m, logits, 25);
    if (probed && critic_probes_make(&m, e, w, &err) != DRR_OK)
        fail_msg("%s", err.message);
    if (critic_write(path, e, w, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
    wordpiece_free(w);
    encoder_free(e);
}

static drr_verification verify(const char *path, const char *against)
{
    drr_verification v;
    drr_error err = {0};
    if (drr_critic_verify(&v, path, against, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return v;
}

static const drr_finding *finding(const drr_verification *v, const char *what)
{
    for (uint32_t i = 0; i < v->n_findings; i++)
        if (strcmp(v->findings[i].what, what) == 0)
            return &v->findings[i];
    return NULL;
}

static void assert_found(const drr_verification *v, const char *what, drr_finding_outcome outcome, const char *words)
{
    const drr_finding *f = finding(v, what);
    assert_non_null(f);
    if (f->outcome != outcome || !strstr(f->words, words))
        fail_msg("%s is %s: \"%s\" does not say \"%s\"", what, drr_finding_name(f->outcome), f->words, words);
}

static void export_to(const char *path, const char *to)
{
    drr_critic *critic = NULL;
    drr_error err = {0};
    if (drr_critic_open(&critic, path, &err) != DRR_OK || drr_critic_export(critic, to, &err) != DRR_OK)
        fail_msg("%s", err.message);
    drr_critic_close(critic);
}

static void a_whole_critic_is_good(void **state)
{
    (void)state;
    write_probed(at("c.gguf"), 1, true);
    export_to(at("c.gguf"), at("hf"));
    drr_verification v = verify(at("c.gguf"), at("hf"));
    assert_int_equal(v.n_wrong, 0);
    assert_int_equal(v.n_findings, 4);
    assert_found(&v, "file", DRR_FINDING_GOOD, "all finite");
    assert_found(&v, "card", DRR_FINDING_ABSENT, "c.card.md");
    assert_found(&v, "probes", DRR_FINDING_GOOD, "6 texts");
    assert_found(&v, "against", DRR_FINDING_GOOD, "calibration");
    assert_true(finding(&v, "probes")->difference <= 0); /* the same machine: the same bits */
    assert_true(finding(&v, "against")->difference <= 1e-6);
    char hex[65];
    assert_int_equal(sha256_file(hex, at("c.gguf"), NULL), DRR_OK);
    assert_string_equal(v.sha256, hex);
    v = verify(at("c.gguf"), at("c.gguf"));
    assert_int_equal(v.n_wrong, 0);
    write_probed(at("old.gguf"), 1, false);
    v = verify(at("old.gguf"), NULL);
    assert_int_equal(v.n_wrong, 0);
    assert_int_equal(v.n_findings, 3);
    assert_found(&v, "probes", DRR_FINDING_ABSENT, "none");
}

static void write_card(const char *hex)
{
    buffer b = {0};
    assert_int_equal(buffer_printf(&b, NULL, "# Critic c\n\n| | |\n| SHA-256 of the file | %s |\n\n## Data\n", hex),
                     DRR_OK);
    put_file(at("c.card.md"), b.data, b.size);
    buffer_clear(&b);
}

static void the_card_knows_the_checksum(void **state)
{
    (void)state;
    char hex[65];
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(sha256_file(hex, at("c.gguf"), NULL), DRR_OK);
    write_card(hex);
    drr_verification v = verify(at("c.gguf"), NULL);
    assert_found(&v, "card", DRR_FINDING_GOOD, "same SHA-256");
    hex[9] = hex[9] == '0' ? '1' : '0';
    write_card(hex);
    v = verify(at("c.gguf"), NULL);
    assert_found(&v, "card", DRR_FINDING_WRONG, hex);
    assert_found(&v, "card", DRR_FINDING_WRONG, "c.gguf");
    assert_int_equal(v.n_wrong, 1);
    write_card("not recorded");
    v = verify(at("c.gguf"), NULL);
    assert_found(&v, "card", DRR_FINDING_ABSENT, "no SHA-256");
    assert_int_equal(v.n_wrong, 0);
}

/* Of a file without a card: another finite number for one weight that matters. */
static void the_probes_find_a_weight_that_was_changed(void **state)
{
    (void)state;
    char *data;
    size_t size;
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(file_read(&data, &size, at("c.gguf"), 0, NULL), DRR_OK);
    float bias;
    memcpy(&bias, data + size - 32, sizeof bias); /* cls.output.bias is last */
    bias += 0.01f;
    memcpy(data + size - 32, &bias, sizeof bias);
    put_file(at("c.gguf"), data, size);
    const drr_verification v = verify(at("c.gguf"), NULL);
    assert_found(&v, "file", DRR_FINDING_GOOD, "");
    assert_found(&v, "probes", DRR_FINDING_WRONG, "scored");
    assert_true(fabs(finding(&v, "probes")->difference - 0.01) < 1e-4);
    free(data);
}

static void what_is_no_critic_any_more_is_found_and_its_card_too(void **state)
{
    (void)state;
    char hex[65], *data;
    size_t size;
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(sha256_file(hex, at("c.gguf"), NULL), DRR_OK);
    write_card(hex);
    assert_int_equal(file_read(&data, &size, at("c.gguf"), 0, NULL), DRR_OK);
    put_file(at("c.gguf"), data, size / 2);
    drr_verification v = verify(at("c.gguf"), at("absent"));
    assert_int_equal(v.n_findings, 2);
    assert_found(&v, "file", DRR_FINDING_WRONG, "c.gguf");
    assert_found(&v, "card", DRR_FINDING_WRONG, hex);
    put_file(at("c.gguf"), data, size - 1); /* in the last tensor's padding */
    v = verify(at("c.gguf"), NULL);
    assert_found(&v, "file", DRR_FINDING_WRONG, "last 1 bytes are missing");
    char *more = calloc(size + 100, 1);
    memcpy(more, data, size);
    put_file(at("c.gguf"), more, size + 100);
    v = verify(at("c.gguf"), NULL);
    assert_found(&v, "file", DRR_FINDING_WRONG, "100 bytes behind the last tensor");
    const float nan = NAN;
    memcpy(data + size - 32, &nan, sizeof nan);
    put_file(at("c.gguf"), data, size);
    v = verify(at("c.gguf"), NULL);
    assert_found(&v, "file", DRR_FINDING_WRONG, "not a finite number");
    free(more);
    free(data);
}

static void replace_member(const char *path, const char *member, json_t *value)
{
    json_t *o = NULL;
    assert_int_equal(json_parse_file(&o, path, NULL), DRR_OK);
    json_object_set_new(o, member, value);
    assert_int_equal(json_dump_file(o, path, JSON_REAL_PRECISION(17)), 0);
    json_decref(o);
}

static void a_folder_of_another_critic_is_told_apart(void **state)
{
    (void)state;
    write_probed(at("c.gguf"), 1, true);
    write_probed(at("d.gguf"), 2, true);
    export_to(at("d.gguf"), at("hf"));
    drr_verification v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "other weights");
    assert_true(finding(&v, "against")->difference > 0.01);
    v = verify(at("c.gguf"), at("d.gguf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "d.gguf has other weights");
    export_to(at("c.gguf"), at("hf"));
    v = verify(at("c.gguf"), at("hf"));
    assert_int_equal(v.n_wrong, 0);
    replace_member(at("hf/drr.json"), "threshold", json_real(0.75));
    v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "another \"threshold\"");
    assert_int_equal(unlink(at("hf/drr.json")), 0); /* then there is none to compare */
    v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_GOOD, "same weights and tokens,");
}

static void another_vocabulary_or_shape_is_told_apart(void **state)
{
    (void)state;
    buffer b = {0};
    write_probed(at("c.gguf"), 1, true);
    export_to(at("c.gguf"), at("hf"));
    for (size_t i = 0; i < N_SMALL_VOCABULARY; i++)
        assert_int_equal(buffer_printf(&b, NULL, "%s\n", i == 5 ? "up" : small_vocabulary[i]), DRR_OK);
    put_file(at("hf/vocab.txt"), b.data, b.size);
    drr_verification v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "\"up\" for token 5");
    buffer_clear(&b);
    export_to(at("c.gguf"), at("hf"));
    replace_member(at("hf/tokenizer_config.json"), "do_lower_case", json_false());
    v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "cased");
    export_to(at("c.gguf"), at("hf"));
    replace_member(at("hf/config.json"), "num_hidden_layers", json_integer(1));
    v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "tensors");
    put_file(at("hf/config.json"), "{", 1);
    v = verify(at("c.gguf"), at("hf"));
    assert_found(&v, "against", DRR_FINDING_WRONG, "config.json");
}

static void a_file_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    drr_verification v;
    drr_error err = {0};
    assert_int_equal(drr_critic_verify(&v, at("absent.gguf"), NULL, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "absent.gguf"));
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(drr_critic_verify(&v, at("c.gguf"), at("nowhere"), &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "nowhere"));
}

/* ---- probes in files */

static void probes_come_back_bit_for_bit_both_ways(void **state)
{
    (void)state;
    drr_critic *a = NULL, *b = NULL;
    bool foreign;
    write_probed(at("c.gguf"), 1, true);
    export_to(at("c.gguf"), at("hf"));
    assert_int_equal(drr_critic_import(at("hf"), at("back.gguf"), &foreign, NULL), DRR_OK);
    assert_int_equal(drr_critic_open(&a, at("c.gguf"), NULL), DRR_OK);
    assert_int_equal(drr_critic_open(&b, at("back.gguf"), NULL), DRR_OK);
    const critic_meta *m = critic_get_meta(a), *n = critic_get_meta(b);
    assert_int_equal(m->n_probes, 6);
    assert_int_equal(n->n_probes, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_string_equal(m->probes[i].question, n->probes[i].question);
        assert_string_equal(m->probes[i].text, n->probes[i].text);
        assert_memory_equal(&m->probes[i].logit, &n->probes[i].logit, sizeof(double));
    }
    assert_true(m->n_quantiles > 2 && m->n_quantiles == n->n_quantiles);
    assert_true(m->n_scores == 25 && n->n_scores == 25);
    assert_memory_equal(m->quantiles, n->quantiles, m->n_quantiles * sizeof(double));
    drr_critic_close(a);
    drr_critic_close(b);
    assert_int_equal(unlink(at("hf/drr.json")), 0); /* a strange model gets some when it is imported */
    assert_int_equal(drr_critic_import(at("hf"), at("strange.gguf"), &foreign, NULL), DRR_OK);
    const drr_verification v = verify(at("strange.gguf"), at("hf"));
    assert_found(&v, "probes", DRR_FINDING_GOOD, "6 texts");
    assert_int_equal(v.n_wrong, 0);
}

/* What the keys of the texts were called before a probe's weights had the name "drr.probe": a byte less each, so what
 * is in front of the tensors is written anew, and padded again. */
static void texts_under_their_old_keys_are_read(void **state)
{
    static const char *const names[] = {"drr.verify.questions", "drr.verify.texts", "drr.verify.logits"};
    char *data;
    size_t size, n_read = 0;
    tensorfile f;
    (void)state;
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(file_read(&data, &size, at("c.gguf"), 0, NULL), DRR_OK);
    assert_int_equal(tensorfile_open(&f, at("c.gguf"), NULL), DRR_OK);
    const size_t tensors = (size_t)(f.tensors[0].data - f.map.data);
    size_t head = tensors;
    tensorfile_close(&f);
    for (size_t i = 0; i < 3; i++) {
        char *key = find_bytes(data, head, names[i]);
        uint64_t length = strlen(names[i]) - 1;
        memcpy(key - 8, &length, sizeof length);
        memcpy(key, "drr.probe", 9);
        memmove(key + 9, key + 10, head - (size_t)(key - data) - 10);
        head--;
    }
    for (size_t pad = 0; pad <= 3; pad += 3) { /* the padding grew by 3, or was less than 3 short of a whole one */
        char *file = calloc(1, size);
        const size_t begin = pad ? tensors : tensors - GGUF_ALIGNMENT;
        memcpy(file, data, head < begin ? head : begin);
        memcpy(file + begin, data + tensors, size - tensors);
        put_file(at("old.gguf"), file, size - (tensors - begin));
        drr_critic *critic = NULL;
        if (drr_critic_open(&critic, at("old.gguf"), NULL) == DRR_OK) {
            assert_int_equal(critic_get_meta(critic)->n_probes, 6);
            const drr_verification v = verify(at("old.gguf"), at("c.gguf"));
            assert_found(&v, "probes", DRR_FINDING_GOOD, "6 texts");
            assert_int_equal(v.n_wrong, 0);
            n_read++;
        }
        drr_critic_close(critic);
        free(file);
    }
    assert_int_equal(n_read, 1);
    free(data);
}

static void probes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    char *data;
    size_t size;
    drr_critic *critic = NULL;
    drr_error err = {0};
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(file_read(&data, &size, at("c.gguf"), 0, NULL), DRR_OK);
    char *logits = find_bytes(data, size, "drr.verify.logits") + strlen("drr.verify.logits") + 4 + 4 + 8;
    const double nan = NAN;
    memcpy(logits, &nan, sizeof nan);
    put_file(at("bad.gguf"), data, size);
    assert_int_equal(drr_critic_open(&critic, at("bad.gguf"), &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "drr.verify.logits"));
    find_bytes(data, size, "drr.verify.texts")[0] = 'x';
    put_file(at("bad.gguf"), data, size);
    assert_int_equal(drr_critic_open(&critic, at("bad.gguf"), &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "\"drr.verify.texts\" is missing"));
    free(data);
    export_to(at("c.gguf"), at("hf"));
    bool foreign;
    static const char *const cases[][2] = {{"[{\"question\": \"q\", \"text\": \"t\"}]", "logit"},
                                           {"[{\"question\": \"q\", \"logit\": 1}]", "text"},
                                           {"[3]", "question"},
                                           {"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "17 probes"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        replace_member(at("hf/drr.json"), "probes", json_loads(cases[i][0], 0, NULL));
        assert_int_equal(drr_critic_import(at("hf"), at("no.gguf"), &foreign, &err), DRR_E_FORMAT);
        if (!strstr(err.message, cases[i][1]))
            fail_msg("\"%s\" is not in: %s", cases[i][1], err.message);
    }
}

static void quantiles_that_cannot_be_are_refused(void **state)
{
    (void)state;
    char *data;
    size_t size;
    drr_critic *critic = NULL;
    drr_error err = {0};
    bool foreign;
    write_probed(at("c.gguf"), 1, true);
    assert_int_equal(file_read(&data, &size, at("c.gguf"), 0, NULL), DRR_OK);
    char *first = find_bytes(data, size, "drr.scores.quantiles") + strlen("drr.scores.quantiles") + 4 + 4 + 8;
    static const double bad[] = {NAN, INFINITY, 1e9}; /* no number, none, and above the next */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(first, &bad[i], sizeof *bad);
        put_file(at("bad.gguf"), data, size);
        assert_int_equal(drr_critic_open(&critic, at("bad.gguf"), &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "\"drr.scores.quantiles\""));
    }
    free(data);
    export_to(at("c.gguf"), at("hf"));
    static const char *const cases[] = {"{\"n\": 3}", "{\"n\": 3, \"quantiles\": [1]}",
                                        "{\"n\": 0, \"quantiles\": [1, 2]}", "{\"n\": 3, \"quantiles\": [2, 1]}",
                                        "{\"n\": 3, \"quantiles\": [1, \"2\"]}"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        replace_member(at("hf/drr.json"), "scores", json_loads(cases[i], 0, NULL));
        assert_int_equal(drr_critic_import(at("hf"), at("no.gguf"), &foreign, &err), DRR_E_FORMAT);
        assert_non_null(strstr(err.message, "\"scores\""));
    }
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(a_whole_critic_is_good),
        IN_A_PLACE(the_card_knows_the_checksum),
        IN_A_PLACE(the_probes_find_a_weight_that_was_changed),
        IN_A_PLACE(what_is_no_critic_any_more_is_found_and_its_card_too),
        IN_A_PLACE(a_folder_of_another_critic_is_told_apart),
        IN_A_PLACE(another_vocabulary_or_shape_is_told_apart),
        IN_A_PLACE(a_file_that_is_not_there_is_an_error),
        IN_A_PLACE(probes_come_back_bit_for_bit_both_ways),
        IN_A_PLACE(texts_under_their_old_keys_are_read),
        IN_A_PLACE(probes_that_cannot_be_are_refused),
        IN_A_PLACE(quantiles_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
