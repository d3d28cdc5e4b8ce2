/* family_fixture.h: a tiny random encoder of each family, made by transformers (make_family.py) in a folder of its own
 * with the Python of DRR_PARITY_PYTHON or the cache's venv-parity. */
#ifndef DRR_TESTS_FAMILY_FIXTURE_H
#define DRR_TESTS_FAMILY_FIXTURE_H

#include "../unit/critic_fixture.h"
#include "core/json.h"

#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { LONGEST = 128, BATCH = 12, MOST_PAIRS = 64 };

static char python[4300];

typedef struct pair {
    char *question, *text;
    uint8_t label;
    int32_t ids[LONGEST];
    size_t n;
    double logit;
} pair;
static pair pairs[MOST_PAIRS];
static size_t n_pairs;

static inline int run(char *const *arguments)
{
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline int find_python(void)
{
    const char *chosen = getenv("DRR_PARITY_PYTHON"), *cache = getenv("DRR_CACHE"), *home = getenv("HOME");
    if (chosen && *chosen)
        snprintf(python, sizeof python, "%s", chosen);
    else if (cache && *cache)
        snprintf(python, sizeof python, "%s/venv-parity/bin/python", cache);
    else
        snprintf(python, sizeof python, "%s/.cache/drr/venv-parity/bin/python", home ? home : "");
    if (access(python, X_OK) == 0)
        return 0;
    print_message(
        "skipped: no Python with transformers: DRR_PARITY_PYTHON names one, tools/setup parity-python makes it\n");
    return 77;
}

static inline void read_pairs(void)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    assert_int_equal(lines_open(&lines, at("model/pairs.jsonl"), NULL), DRR_OK);
    while (lines_next(lines, &line, &length, NULL) == DRR_OK) {
        json_t *row = NULL;
        pair *p = &pairs[n_pairs++];
        assert_true(n_pairs <= MOST_PAIRS);
        assert_int_equal(json_parse(&row, line, length, "pairs.jsonl", NULL), DRR_OK);
        p->question = string_copy(json_string_or(row, "question", ""));
        p->text = string_copy(json_string_or(row, "text", ""));
        p->label = json_number_or(row, "label", 0) > 0;
        p->logit = json_number_or(row, "logit", NAN);
        p->n = json_array_size(json_object_get(row, "ids"));
        assert_in_range(p->n, 3, LONGEST);
        for (size_t i = 0; i < p->n; i++)
            p->ids[i] = (int32_t)json_integer_value(json_array_get(json_object_get(row, "ids"), i));
        json_decref(row);
    }
    lines_close(lines);
    assert_true(n_pairs >= 2 * BATCH);
}

/* 77: this transformers has no such family. */
static inline int make_family(const char *family)
{
    char script[] = DRR_SOURCE_DIR "/tests/parity/make_family.py";
    char name[32], out[256];
    snprintf(name, sizeof name, "%s", family);
    if (make_place(NULL) != 0)
        return -1;
    snprintf(out, sizeof out, "%s", at("model"));
    char *const arguments[] = {python, script, name, out, NULL};
    const int status = run(arguments);
    if (status == 0)
        read_pairs();
    return status;
}

static inline int drop_family(void **state)
{
    for (size_t i = 0; i < n_pairs; i++) {
        free(pairs[i].question);
        free(pairs[i].text);
    }
    n_pairs = 0;
    return remove_place(state);
}

static inline encoder *open_model(const char *name, wordpiece **tokenizer)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    bool has_head = false;
    drr_error err = {0};
    if (encoder_open_hf(&e, &w, &has_head, at(name), 1, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_true(has_head);
    if (tokenizer)
        *tokenizer = w;
    else
        wordpiece_free(w);
    return e;
}

/* The head is as random as the rest, so the model itself is a critic. */
static inline void write_critic_of(const char *model, const char *path)
{
    wordpiece *w = NULL;
    encoder *e = open_model(model, &w);
    const critic_meta meta = {.max_length = LONGEST, .threshold = 0.5, .calibration = {1, 0}};
    drr_error err = {0};
    if (critic_write(path, e, w, &meta, &err) != DRR_OK)
        fail_msg("%s", err.message);
    encoder_free(e);
    wordpiece_free(w);
}

#endif
