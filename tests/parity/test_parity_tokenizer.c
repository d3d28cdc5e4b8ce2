/* test_parity_tokenizer.c: the ids of every question, choice and trace text in ../shared, and of texts made to be
 * difficult, are those of transformers' BertTokenizer. make_tokenizer_vectors.py writes what these are into the cache;
 * when they are not there, it is run with the Python of DRR_PARITY_PYTHON or the cache's venv-parity. Where data:
 * DRR_SHARED. */
#include "core/json.h"
#include "critic/critic.h"

#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

static char encoder_folder[4096], shared[4096], vectors[4200], texts_path[4300], odd_path[4300];

static wordpiece *open_tokenizer(bool lowercase)
{
    char path[4200];
    wordpiece *tokenizer = NULL;
    drr_error err = {0};
    snprintf(path, sizeof path, "%s/vocab.txt", encoder_folder);
    if (wordpiece_open(&tokenizer, path, lowercase, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

/* ---- all texts of ../shared */

typedef struct comparing {
    const wordpiece *tokenizer;
    line_reader *vectors;
    uint64_t n, n_tokens, differ;
} comparing;

static void compare(comparing *c, const char *text, const char *where)
{
    int32_t *ids = NULL;
    size_t n = 0;
    char *expected, hex[65];
    sha256 h;
    assert_int_equal(lines_next(c->vectors, &expected, NULL, NULL), DRR_OK);
    assert_int_equal(wordpiece_encode(c->tokenizer, text, &ids, &n, NULL), DRR_OK);
    sha256_begin(&h);
    sha256_add(&h, ids, n * sizeof *ids); /* little-endian, as the vectors are */
    sha256_end(&h, hex);
    c->n++;
    c->n_tokens += n;
    if (strncmp(hex, expected, 16) != 0 && ++c->differ <= 5)
        print_message("%s: other ids for: %.300s\n", where, text);
    free(ids);
}

static void compare_row(comparing *c, const char *line, size_t length, const char *where, bool traces)
{
    json_t *row = NULL, *choice;
    size_t i;
    drr_error err = {0};
    if (json_parse(&row, line, length, where, &err) != DRR_OK)
        fail_msg("%s", err.message);
    compare(c, json_string_or(row, "question", ""), where);
    json_array_foreach(json_object_get(row, "choices"), i, choice) compare(c, json_string_value(choice), where);
    if (traces)
        compare(c, json_string_or(row, "text", ""), where);
    json_decref(row);
}

static void compare_file(comparing *c, const char *name, unsigned long long size)
{
    char path[4300], where[4400], *line;
    size_t length;
    line_reader *lines = NULL;
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", shared, name);
    if (stat(path, &st) != 0 || (unsigned long long)st.st_size != size)
        fail_msg("%s is not what %s was made from: remove that and run again", path, texts_path);
    assert_int_equal(lines_open(&lines, path, NULL), DRR_OK);
    while (lines_next(lines, &line, &length, NULL) == DRR_OK) {
        snprintf(where, sizeof where, "%s:%llu", name, (unsigned long long)lines_number(lines));
        compare_row(c, line, length, where, strncmp(name, "traces/", 7) == 0);
    }
    lines_close(lines);
}

static void every_text_of_the_shared_data_has_the_ids_of_transformers(void **state)
{
    (void)state;
    char *line;
    comparing c = {0};
    wordpiece *tokenizer = open_tokenizer(true);
    c.tokenizer = tokenizer;
    assert_int_equal(lines_open(&c.vectors, texts_path, NULL), DRR_OK);
    while (lines_next(c.vectors, &line, NULL, NULL) == DRR_OK) {
        char name[256];
        unsigned long long size;
        if (sscanf(line, "# %255s %llu", name, &size) != 2)
            fail_msg("%s:%llu: the head of a file is wanted", texts_path, (unsigned long long)lines_number(c.vectors));
        compare_file(&c, name, size);
    }
    print_message("%llu texts, %llu tokens, %llu texts with other ids\n", (unsigned long long)c.n,
                  (unsigned long long)c.n_tokens, (unsigned long long)c.differ);
    assert_true(c.n > 100000);
    assert_int_equal(c.differ, 0);
    lines_close(c.vectors);
    wordpiece_free(tokenizer);
}

/* ---- difficult texts */

static bool same_ids(const wordpiece *tokenizer, const char *text, json_t *expected, const char *where)
{
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(wordpiece_encode(tokenizer, text, &ids, &n, NULL), DRR_OK);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; i < n && i < json_array_size(expected); i++)
        if (ids[i] != (int32_t)json_integer_value(json_array_get(expected, i))) {
            print_message("%s: token %zu is %s, expected %s\n", where, i, wordpiece_token(tokenizer, (size_t)ids[i]),
                          wordpiece_token(tokenizer, (size_t)json_integer_value(json_array_get(expected, i))));
            same = false;
            break;
        }
    free(ids);
    return same;
}

static void difficult_texts_have_the_ids_of_transformers(void **state)
{
    (void)state;
    wordpiece *tokenizers[2] = {open_tokenizer(false), open_tokenizer(true)};
    line_reader *lines = NULL;
    char *line, where[64];
    size_t length, n = 0, differ = 0;
    assert_int_equal(lines_open(&lines, odd_path, NULL), DRR_OK);
    while (lines_next(lines, &line, &length, NULL) == DRR_OK) {
        json_t *row = NULL;
        snprintf(where, sizeof where, "tokenizer-odd.jsonl:%zu", ++n);
        assert_int_equal(json_parse(&row, line, length, where, NULL), DRR_OK);
        differ += !same_ids(tokenizers[json_bool_or(row, "lowercase", true)], json_string_or(row, "text", NULL),
                            json_object_get(row, "ids"), where);
        json_decref(row);
    }
    print_message("%zu difficult texts, %zu with other ids\n", n, differ);
    assert_true(n > 1000);
    assert_int_equal(differ, 0);
    lines_close(lines);
    wordpiece_free(tokenizers[0]);
    wordpiece_free(tokenizers[1]);
}

/* ---- what the test stands on */

static int leave_out(const char *why)
{
    print_message("skipped: %s\n", why);
    return 77;
}

static int make_vectors(void)
{
    char python[4300];
    const char *chosen = getenv("DRR_PARITY_PYTHON");
    snprintf(python, sizeof python, "%s/../../venv-parity/bin/python", encoder_folder);
    if (chosen && *chosen)
        snprintf(python, sizeof python, "%s", chosen);
    if (access(python, X_OK) != 0)
        return leave_out(
            "the ids of transformers are not in the cache: make_tokenizer_vectors.py writes them, with the Python "
            "that DRR_PARITY_PYTHON names");
    char script[] = DRR_SOURCE_DIR "/tests/parity/make_tokenizer_vectors.py";
    char *const arguments[] = {python, script, shared, encoder_folder, vectors, NULL};
    pid_t child;
    int status = -1;
    if (posix_spawn(&child, python, NULL, NULL, arguments, environ) != 0 || waitpid(child, &status, 0) != child ||
        status != 0) {
        print_message("%s failed\n", script);
        return 1;
    }
    return 0;
}

static int find_fixtures(void)
{
    const char *chosen = getenv("DRR_SHARED");
    drr_error err = {0};
    char data[4200];
    snprintf(shared, sizeof shared, "%s", chosen && *chosen ? chosen : DRR_SOURCE_DIR "/../shared");
    snprintf(data, sizeof data, "%s/data", shared);
    if (!file_is_folder(data))
        return leave_out("there is no folder of shared data beside the source tree; DRR_SHARED says where it is");
    if (drr_cache_path(encoder_folder, sizeof encoder_folder, "all-minilm-l6-v2", NULL, &err) != DRR_OK)
        return leave_out(err.message);
    snprintf(vectors, sizeof vectors, "%s/../../parity", encoder_folder);
    snprintf(texts_path, sizeof texts_path, "%s/tokenizer-texts.txt", vectors);
    snprintf(odd_path, sizeof odd_path, "%s/tokenizer-odd.jsonl", vectors);
    return file_exists(texts_path) && file_exists(odd_path) ? 0 : make_vectors();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_of_the_shared_data_has_the_ids_of_transformers),
        cmocka_unit_test(difficult_texts_have_the_ids_of_transformers),
    };
    const int missing = find_fixtures();
    return missing ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
