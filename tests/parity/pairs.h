/* pairs.h: a critic and 200 pairs of question and text that other programs score too, for the tests of what they make
 * of a critic's files. The encoder is all-MiniLM-L6-v2 with its own pooler and a classifier drawn at random, under
 * which the logits spread over 0.7; the pairs are 4 written by hand and 49 questions of GSM8K's test set, each with
 * four texts. None is longer than the critic reads: how drr cuts those is its own. */
#ifndef DRR_TESTS_PAIRS_H
#define DRR_TESTS_PAIRS_H

#include "../unit/critic_fixture.h"
#include "core/json.h"

#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { N_PAIRS = 200, N_BY_HAND = 4, TEXTS_A_QUESTION = 4, PAIR_TOKENS = 256 };

static char encoder_folder[4096], questions_file[4096];
static arena *pair_texts;

static drr_score_item pairs[N_PAIRS] = {
    {"A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?",
     "Banks need security, and a revolving door slows people down.\nAnswer: A", NULL},
    {"What is 1,234.5 + 7?", "1,234.5 + 7 = 1241.5, so the answer is 1241.5.", NULL},
    {"Caf\xC3\xA9 in 'Z\xC3\xBCrich'?", "Yes \xE2\x80\x94 na\xC3\xAFve; don't (ask) #1 \xE4\xB8\xAD\xE6\x96\x87", NULL},
    {"q", "a", NULL},
};

/* 77 where something is not in the cache, and why. */
static inline int find_pairs(void)
{
    drr_error err = {0};
    if (drr_cache_path(encoder_folder, sizeof encoder_folder, "all-minilm-l6-v2", NULL, &err) == DRR_OK &&
        drr_cache_path(questions_file, sizeof questions_file, "gsm8k-test", NULL, &err) == DRR_OK)
        return 0;
    print_message("skipped: %s\n", err.message);
    return 77;
}

static inline bool pair_fits(const wordpiece *w, const char *question, const char *text)
{
    int32_t ids[PAIR_TOKENS];
    size_t n = 0;
    bool truncated = false;
    assert_int_equal(wordpiece_encode_pair(w, question, text, PAIR_TOKENS, ids, &n, &truncated, NULL), DRR_OK);
    return !truncated;
}

/* A question's own solution, another one's, and the last line of each. */
static inline bool take_texts(size_t at, const wordpiece *w, const char *question, const char *own, const char *other)
{
    const char *own_end = strrchr(own, '\n'), *other_end = strrchr(other, '\n');
    const char *texts[TEXTS_A_QUESTION] = {own, other, own_end ? own_end + 1 : own, other_end ? other_end + 1 : other};
    for (size_t k = 0; k < TEXTS_A_QUESTION; k++)
        if (!pair_fits(w, question, texts[k]))
            return false;
    for (size_t k = 0; k < TEXTS_A_QUESTION; k++)
        pairs[at + k] = (drr_score_item){arena_copy(pair_texts, question, strlen(question)),
                                         arena_copy(pair_texts, texts[k], strlen(texts[k])), NULL};
    return true;
}

static inline void take_pairs(const wordpiece *w)
{
    line_reader *lines = NULL;
    char *line, before[8192] = "";
    size_t length, at_pair = N_BY_HAND;
    pair_texts = arena_new(0);
    assert_int_equal(lines_open(&lines, questions_file, NULL), DRR_OK);
    while (at_pair < N_PAIRS && lines_next(lines, &line, &length, NULL) == DRR_OK) {
        json_t *row = NULL;
        assert_int_equal(json_parse(&row, line, length, questions_file, NULL), DRR_OK);
        const char *own = json_string_or(row, "answer", "");
        if (*before && take_texts(at_pair, w, json_string_or(row, "question", ""), own, before))
            at_pair += TEXTS_A_QUESTION;
        snprintf(before, sizeof before, "%s", own);
        json_decref(row);
    }
    lines_close(lines);
    assert_int_equal(at_pair, N_PAIRS);
}

/* Writes critic.gguf into the test's folder, opens it, and fills `pairs`. */
static inline drr_critic *make_pairs_critic(void)
{
    encoder *e = NULL;
    wordpiece *w = NULL;
    drr_critic *critic = NULL;
    drr_error err = {0};
    rng r;
    const critic_meta meta = {.max_length = PAIR_TOKENS, .threshold = 0.5, .calibration = {1, 0}};
    if (encoder_open_hf(&e, &w, NULL, encoder_folder, 7, &err) != DRR_OK)
        fail_msg("%s", err.message);
    rng_seed(&r, 11);
    const encoder_tensor *t = encoder_find(e, "cls.output.weight");
    for (size_t i = 0; i < t->columns; i++)
        e->parameters[t->offset + i] = 0.2f * (float)rng_normal(&r);
    if (critic_write(at("critic.gguf"), e, w, &meta, &err) != DRR_OK ||
        drr_critic_open(&critic, at("critic.gguf"), &err) != DRR_OK)
        fail_msg("%s", err.message);
    take_pairs(w);
    encoder_free(e);
    wordpiece_free(w);
    return critic;
}

static inline void free_pairs(void)
{
    arena_free(pair_texts);
    pair_texts = NULL;
}

/* pairs.jsonl in the test's folder, for the other program. */
static inline void write_pairs(void)
{
    buffer lines = {0};
    for (size_t i = 0; i < N_PAIRS; i++) {
        json_t *row = json_pack("{s:s, s:s}", "question", pairs[i].question, "text", pairs[i].text);
        char *text = json_dumps(row, 0);
        assert_int_equal(buffer_printf(&lines, NULL, "%s\n", text), DRR_OK);
        free(text);
        json_decref(row);
    }
    put_file(at("pairs.jsonl"), lines.data, lines.size);
    buffer_clear(&lines);
}

/* Runs a program to its end, which must be a good one. */
static inline void run_program(char *const arguments[])
{
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* How far the values of one member of logits.jsonl are from drr's: the farthest of all pairs. Fails above `most`. */
static inline void compare_logits(const drr_score *scores, const char *member, double most)
{
    line_reader *lines = NULL;
    char *line;
    size_t length;
    size_t worst_at = 0;
    double worst = 0, lowest = INFINITY, highest = -INFINITY;
    assert_int_equal(lines_open(&lines, at("logits.jsonl"), NULL), DRR_OK);
    for (size_t i = 0; i < N_PAIRS; i++) {
        json_t *row = NULL;
        assert_int_equal(lines_next(lines, &line, &length, NULL), DRR_OK);
        assert_int_equal(json_parse(&row, line, length, "logits.jsonl", NULL), DRR_OK);
        const double theirs = json_number_or(row, member, NAN), difference = fabs(scores[i].logit - theirs);
        assert_true(difference >= 0); /* not so for NaN */
        if (difference > worst) {
            worst = difference;
            worst_at = i;
        }
        lowest = fmin(lowest, theirs);
        highest = fmax(highest, theirs);
        json_decref(row);
    }
    print_message("%s: %d pairs, logits from %.2f to %.2f, largest difference %.1e, of pair %zu\n", member, N_PAIRS,
                  lowest, highest, worst, worst_at);
    assert_true(worst <= most);
    assert_true(highest - lowest > 0.5); /* or the comparison would say little */
    lines_close(lines);
}

#endif
