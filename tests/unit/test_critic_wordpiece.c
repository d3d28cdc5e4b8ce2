/* test_critic_wordpiece.c: how a text becomes pieces of a small vocabulary, and what a critic reads of a pair. The same
 * on a real vocabulary against transformers is parity/test_parity_tokenizer.c. */
#include "critic/critic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const vocabulary[] = {
    "[PAD]", "[UNK]", "[CLS]",  "[SEP]", "[MASK]", "un", "##aff", "##able", "a", "b",  "##b",  "##a", "cafe",
    "café",  "[",     "]",      "sep",   "(",      ")",  "don",   "'",      "t", "中", "α",    "##σ", "##ς",
    "ab",    "Ab",    "straße", "é",     "#",      "##", "1",     "##2",    ".", "-",  "mask", "cls", "wholeword",
};
enum { N_VOCABULARY = sizeof vocabulary / sizeof *vocabulary };

static wordpiece *make(bool lowercase)
{
    wordpiece *w = NULL;
    drr_error err = {0};
    if (wordpiece_new(&w, vocabulary, N_VOCABULARY, lowercase, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return w;
}

/* `expected`: the tokens, a space between. */
static void assert_pieces(bool lowercase, const char *text, const char *expected)
{
    wordpiece *w = make(lowercase);
    int32_t *ids = NULL;
    size_t n = 0;
    char got[2000] = "";
    assert_int_equal(wordpiece_encode(w, text, &ids, &n, NULL), DRR_OK);
    for (size_t i = 0, used = 0; i < n; i++)
        used +=
            (size_t)snprintf(got + used, sizeof got - used, "%s%s", i ? " " : "", wordpiece_token(w, (size_t)ids[i]));
    assert_string_equal(got, expected);
    free(ids);
    wordpiece_free(w);
}

static void a_word_is_cut_into_the_longest_pieces(void **state)
{
    (void)state;
    assert_pieces(true, "unaffable", "un ##aff ##able");
    assert_pieces(true, "Unaffable UNAFFABLE", "un ##aff ##able un ##aff ##able");
    assert_pieces(true, "ab aab", "ab a ##a ##b");
    assert_pieces(true, "", "");
    assert_pieces(true, " \t\r\n ", "");
}

static void a_word_with_one_unknown_piece_is_unknown_as_a_whole(void **state)
{
    (void)state;
    assert_pieces(true, "unaffx b", "[UNK] b");
    assert_pieces(true, "x", "[UNK]");
}

static void a_word_of_more_than_100_characters_is_unknown(void **state)
{
    (void)state;
    char text[512] = "a", expected[1024] = "a";
    for (int i = 1; i < 100; i++) {
        strncat(text, "b", 2);
        strncat(expected, " ##b", 5);
    }
    memcpy(text, "ba", 2); /* not "ab", which is a token of its own */
    memcpy(expected, "b ##a", 5);
    assert_int_equal(strlen(text), 100);
    assert_pieces(true, text, expected);
    strncat(text, "b", 2);
    assert_pieces(true, text, "[UNK]");
    char wide[512] = ""; /* characters are counted, not bytes: this is the limit less an accent */
    for (int i = 0; i < 101; i++)
        strncat(wide, "é", 3);
    assert_pieces(false, wide, "[UNK]");
}

static void accents_and_case_go_when_lowercasing_and_stay_otherwise(void **state)
{
    (void)state;
    assert_pieces(true, "Café CAFE\xCC\x81 cafe", "cafe cafe cafe");
    assert_pieces(false, "café cafe\xCC\x81 cafe", "café café cafe"); /* composed first */
    assert_pieces(false, "Ab AB", "Ab [UNK]");
    assert_pieces(true, "STRAßE", "straße");
}

static void a_sigma_that_ends_a_word_is_final(void **state)
{
    (void)state;
    assert_pieces(true, "ΑΣ", "α ##ς");
    assert_pieces(true, "ΑΣΣ", "α ##σ ##ς");
    assert_pieces(true, "ΑΣ.", "α ##ς .");
    assert_pieces(true, "Σ", "[UNK]"); /* neither σ nor ς begins a word here */
}

static void punctuation_and_ideographs_stand_alone(void **state)
{
    (void)state;
    assert_pieces(true, "don't(a)b", "don ' t ( a ) b");
    assert_pieces(true, "a中中b", "a 中 中 b");
    assert_pieces(true, "##b", "# # b");
    assert_pieces(true, "1.12-1", "1 . 1 ##2 - 1");
}

static void a_special_tokens_name_in_a_text_is_only_text(void **state)
{
    (void)state;
    assert_pieces(true, "a[SEP]b [MASK]", "a [ sep ] b [ mask ]");
    assert_pieces(true, "[CLS]", "[ cls ]");
}

static void what_is_not_utf8_and_what_is_control_vanishes(void **state)
{
    (void)state;
    assert_pieces(true,
                  "a\x80"
                  "b",
                  "ab");
    assert_pieces(true,
                  "a\xE2\x82"
                  "b",
                  "ab"); /* cut short */
    assert_pieces(true,
                  "a\xC0\x80"
                  "b",
                  "ab"); /* overlong */
    assert_pieces(true,
                  "a\xED\xA0\x80"
                  "b",
                  "ab"); /* half of a surrogate pair */
    assert_pieces(true,
                  "a\xF4\x90\x80\x80"
                  "b",
                  "ab");                     /* past the last character */
    assert_pieces(true, "ab\xF0\x9F", "ab"); /* the end within a character */
    assert_pieces(true,
                  "a\xEF\xBF\xBD"
                  "b",
                  "ab"); /* U+FFFD */
    assert_pieces(true,
                  "a\x01\xE2\x80\x8B"
                  "b\x7F",
                  "ab"); /* control, zero width space */
    assert_pieces(true,
                  "a\xC2\xA0"
                  "b\xE2\x80\xA8"
                  "b\xE3\x80\x80"
                  "a",
                  "a b b a"); /* spaces of other kinds */
}

static void a_long_run_of_marks_takes_no_quadratic_time(void **state)
{
    (void)state;
    enum { MARKS = 400000 };
    wordpiece *w = make(true);
    char *text = malloc(2 * MARKS + 2);
    int32_t *ids = NULL;
    size_t n = 0;
    text[0] = 'a';
    for (size_t i = 0; i < MARKS; i++)
        memcpy(text + 1 + 2 * i, i % 2 ? "\xCC\xA3" : "\xCC\x81", 2); /* classes 220 and 230 in turn: never in order */
    text[2 * MARKS + 1] = '\0';
    const clock_t begun = clock();
    assert_int_equal(wordpiece_encode(w, text, &ids, &n, NULL), DRR_OK);
    assert_true((clock() - begun) / CLOCKS_PER_SEC < 5);
    assert_int_equal(n, 1);
    assert_string_equal(wordpiece_token(w, (size_t)ids[0]), "a");
    free(ids);
    free(text);
    wordpiece_free(w);
}

/* ---- pairs */

static void assert_pair(const char *question, const char *text, size_t max_length, const char *expected, bool cut)
{
    wordpiece *w = make(true);
    int32_t ids[64];
    size_t n = 0;
    bool truncated = !cut;
    char got[600] = "";
    assert_int_equal(wordpiece_encode_pair(w, question, text, max_length, ids, &n, &truncated, NULL), DRR_OK);
    assert_true(n <= max_length);
    for (size_t i = 0, used = 0; i < n; i++)
        used +=
            (size_t)snprintf(got + used, sizeof got - used, "%s%s", i ? " " : "", wordpiece_token(w, (size_t)ids[i]));
    assert_string_equal(got, expected);
    assert_int_equal(truncated, cut);
    wordpiece_free(w);
}

static void a_pair_that_fits_is_kept_whole(void **state)
{
    (void)state;
    assert_pair("a b", "1 . -", 64, "[CLS] a b [SEP] 1 . - [SEP]", false);
    assert_pair("a b", "1 . -", 8, "[CLS] a b [SEP] 1 . - [SEP]", false);
    assert_pair("", "", 8, "[CLS] [SEP] [SEP]", false);
    assert_pair("a", "", 5, "[CLS] a [SEP] [SEP]", false);
}

static void a_long_text_loses_its_beginning(void **state)
{
    (void)state;
    assert_pair("a b", "1 . - ( ) t", 9, "[CLS] a b [SEP] - ( ) t [SEP]", true);
}

static void a_long_question_keeps_its_beginning_and_at_least_half_the_room(void **state)
{
    (void)state;
    assert_pair("a b t 1 . -", "( ) [ ] don '", 9, "[CLS] a b t [SEP] ] don ' [SEP]", true);
    assert_pair("a b t 1 . -", "( )", 9, "[CLS] a b t 1 [SEP] ( ) [SEP]", true); /* more, where the text leaves it */
    assert_pair("a b t", "( ) [ ] don '", 9, "[CLS] a b t [SEP] ] don ' [SEP]", true);
    assert_pair("a b t 1", "", 6, "[CLS] a b t [SEP] [SEP]", true);
    assert_pair("a b t 1", "( ) [ ]", 8, "[CLS] a b [SEP] ) [ ] [SEP]", true); /* odd room: the text's */
}

static void a_room_for_less_than_one_token_each_is_refused(void **state)
{
    (void)state;
    wordpiece *w = make(true);
    int32_t ids[8];
    size_t n = 77;
    drr_error err = {0};
    assert_int_equal(wordpiece_encode_pair(w, "a", "b", 4, ids, &n, NULL, &err), DRR_E_ARGUMENT);
    assert_int_equal(n, 77);
    assert_int_equal(wordpiece_encode_pair(w, "a", "b", 5, ids, &n, NULL, &err), DRR_OK);
    assert_int_equal(n, 5);
    wordpiece_free(w);
}

/* ---- vocabularies */

static const char *write_vocabulary(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/drr-vocab.%ld.txt", (long)getpid());
    assert_int_equal(file_write_all(path, text, strlen(text), NULL), DRR_OK);
    return path;
}

static void assert_refused(const char *text, drr_status expected, const char *what)
{
    wordpiece *w = NULL;
    drr_error err = {0};
    const char *path = write_vocabulary(text);
    assert_int_equal(wordpiece_open(&w, path, true, &err), expected);
    if (!strstr(err.message, what) || !strstr(err.message, path))
        fail_msg("\"%s\" does not say \"%s\" and the file", err.message, what);
    assert_null(w);
    unlink(path);
}

static void a_vocabulary_file_has_one_token_a_line(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n", "\r\n"};
    for (size_t i = 0; i < 2; i++) {
        wordpiece *w = NULL;
        char text[256];
        snprintf(text, sizeof text, "[PAD]%s[UNK]%s[CLS]%s[SEP]%s[MASK]%s%slast", ends[i], ends[i], ends[i], ends[i],
                 ends[i], ends[i]);
        const char *path = write_vocabulary(text);
        assert_int_equal(wordpiece_open(&w, path, false, NULL), DRR_OK);
        assert_int_equal(wordpiece_size(w), 7);
        assert_string_equal(wordpiece_token(w, 5), "");
        assert_string_equal(wordpiece_token(w, 6), "last");
        assert_null(wordpiece_token(w, 7));
        assert_false(wordpiece_lowercase(w));
        wordpiece_free(w);
        unlink(path);
    }
    wordpiece_free(NULL);
}

static void a_vocabulary_that_cannot_be_one_is_refused_by_name(void **state)
{
    (void)state;
    assert_refused("[PAD]\n[UNK]\n[CLS]\n[MASK]\n", DRR_E_FORMAT, "[SEP]");
    assert_refused("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nx\nx\n", DRR_E_FORMAT, "tokens 5 and 6");
    assert_refused("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n##x\n##x\n", DRR_E_FORMAT, "##x");
    assert_refused("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n\xFF\n", DRR_E_FORMAT, "token 5");
    assert_refused("\n", DRR_E_FORMAT, "[UNK]");
    wordpiece *w = NULL;
    drr_error err = {0};
    assert_int_equal(wordpiece_open(&w, "/nonexistent/vocab.txt", true, &err), DRR_E_NOT_FOUND);
    assert_int_equal(wordpiece_new(&w, NULL, 0, true, &err), DRR_E_FORMAT);
}

static void a_piece_and_its_continuation_are_two_tokens(void **state)
{
    (void)state;
    wordpiece *w = make(true);
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(wordpiece_encode(w, "ba", &ids, &n, NULL), DRR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 9);
    assert_int_equal(ids[1], 11);
    free(ids);
    wordpiece_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_is_cut_into_the_longest_pieces),
        cmocka_unit_test(a_word_with_one_unknown_piece_is_unknown_as_a_whole),
        cmocka_unit_test(a_word_of_more_than_100_characters_is_unknown),
        cmocka_unit_test(accents_and_case_go_when_lowercasing_and_stay_otherwise),
        cmocka_unit_test(a_sigma_that_ends_a_word_is_final),
        cmocka_unit_test(punctuation_and_ideographs_stand_alone),
        cmocka_unit_test(a_special_tokens_name_in_a_text_is_only_text),
        cmocka_unit_test(what_is_not_utf8_and_what_is_control_vanishes),
        cmocka_unit_test(a_long_run_of_marks_takes_no_quadratic_time),
        cmocka_unit_test(a_pair_that_fits_is_kept_whole),
        cmocka_unit_test(a_long_text_loses_its_beginning),
        cmocka_unit_test(a_long_question_keeps_its_beginning_and_at_least_half_the_room),
        cmocka_unit_test(a_room_for_less_than_one_token_each_is_refused),
        cmocka_unit_test(a_vocabulary_file_has_one_token_a_line),
        cmocka_unit_test(a_vocabulary_that_cannot_be_one_is_refused_by_name),
        cmocka_unit_test(a_piece_and_its_continuation_are_two_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
