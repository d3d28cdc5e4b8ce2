/* test_core_cache.c: names, paths and the cache. Uses a table and a cache of its own, and the tree's own table. */
#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static const char *at(const char *name)
{
    static char paths[4][256];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    assert_int_equal(file_write_all(at(name), text, strlen(text), NULL), DRR_OK);
}

static int make_place(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/drr-cache.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    setenv("DRR_CACHE", folder, 1);
    setenv("DRR_SHARE", folder, 1);
    write_text("models.json",
               "{\"models\": [{\"name\": \"tiny\", \"file\": \"tiny.gguf\", \"kind\": \"reasoner\", "
               "\"bytes\": 4, \"sha256\": \"00\"},"
               " {\"name\": \"sums\", \"file\": \"sums.jsonl\", \"kind\": \"data\", \"sha256\": null}]}");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    unlink(at("models.json"));
    unlink(at("tiny.gguf"));
    return rmdir(folder);
}

static void a_path_that_exists_is_taken_as_it_is(void **state)
{
    (void)state;
    char path[300];
    assert_int_equal(drr_cache_path(path, sizeof path, at("models.json"), NULL, NULL), DRR_OK);
    assert_string_equal(path, at("models.json"));
}

static void a_name_that_is_cached_gives_its_path(void **state)
{
    (void)state;
    char path[300];
    write_text("tiny.gguf", "GGUF");
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", NULL, NULL), DRR_OK);
    assert_string_equal(path, at("tiny.gguf"));
}

static void a_name_that_is_not_cached_yet_names_the_command(void **state)
{
    (void)state;
    char path[300];
    drr_error err = {0};
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", NULL, &err), DRR_E_NOT_FOUND);
    assert_int_equal(err.status, DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "drr models get tiny"));
}

static void an_unknown_name_lists_the_known_ones(void **state)
{
    (void)state;
    char path[300];
    drr_error err = {0};
    assert_int_equal(drr_cache_path(path, sizeof path, "huge", NULL, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"huge\""));
    assert_non_null(strstr(err.message, "tiny, sums"));
}

static void a_name_of_another_kind_is_said_to_be_one(void **state)
{
    (void)state;
    char path[300];
    drr_error err = {0};
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", "data", &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "\"tiny\" is a reasoner, and a data set is wanted (known: sums)"));
    assert_int_equal(drr_cache_path(path, sizeof path, "huge", "encoder", &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "(known: none)"));
    assert_int_equal(drr_cache_path(path, sizeof path, at("models.json"), "encoder", NULL), DRR_OK); /* a path is one */
}

static void a_path_that_does_not_exist_is_not_taken_for_a_name(void **state)
{
    (void)state;
    char path[300];
    drr_error err = {0};
    assert_int_equal(drr_cache_path(path, sizeof path, "other.gguf", NULL, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "there is no file other.gguf"));
    assert_int_equal(drr_cache_path(path, sizeof path, "", NULL, &err), DRR_E_ARGUMENT);
}

static void a_path_longer_than_its_room_is_refused(void **state)
{
    (void)state;
    char path[8] = "guarded";
    write_text("tiny.gguf", "GGUF");
    assert_int_equal(drr_cache_path(path, 5, "tiny", NULL, NULL), DRR_E_LIMIT);
}

static void a_missing_or_broken_table_is_named(void **state)
{
    (void)state;
    char path[300];
    drr_error err = {0};
    write_text("models.json", "{\"models\": 5}");
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", NULL, &err), DRR_E_FORMAT);
    assert_non_null(strstr(err.message, "models.json"));
    write_text("models.json", "{");
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", NULL, &err), DRR_E_FORMAT);
    unlink(at("models.json"));
    assert_int_equal(drr_cache_path(path, sizeof path, "tiny", NULL, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "models.json"));
}

typedef struct seen {
    size_t n, present, data;
} seen;

static void look(void *user, const drr_cache_item *item)
{
    seen *s = user;
    s->n++;
    s->present += item->present;
    s->data += strcmp(item->kind, "data") == 0;
    if (item->present) {
        assert_string_equal(item->name, "tiny");
        assert_string_equal(item->path, at("tiny.gguf"));
        assert_int_equal(item->bytes, 4);
    }
}

static void every_row_of_the_table_is_shown_with_its_state(void **state)
{
    (void)state;
    seen s = {0};
    write_text("tiny.gguf", "GGUF");
    assert_int_equal(drr_cache_each(look, &s, NULL), DRR_OK);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.present, 1);
    assert_int_equal(s.data, 1);
}

static void find_promised(void *user, const drr_cache_item *item)
{
    static const char *const promised[] = {"qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m",
                                           "all-minilm-l6-v2",   "gsm8k-test",         "mmlu"};
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++)
        if (strcmp(item->name, promised[i]) == 0)
            *(unsigned *)user |= 1u << i;
}

static void the_trees_own_table_has_every_promised_name(void **state)
{
    (void)state;
    unsigned found = 0;
    drr_error err = {0};
    unsetenv("DRR_SHARE");
    if (drr_cache_each(find_promised, &found, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(found, 0x3f);
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(a_path_that_exists_is_taken_as_it_is),
        IN_A_PLACE(a_name_that_is_cached_gives_its_path),
        IN_A_PLACE(a_name_that_is_not_cached_yet_names_the_command),
        IN_A_PLACE(an_unknown_name_lists_the_known_ones),
        IN_A_PLACE(a_name_of_another_kind_is_said_to_be_one),
        IN_A_PLACE(a_path_that_does_not_exist_is_not_taken_for_a_name),
        IN_A_PLACE(a_path_longer_than_its_room_is_refused),
        IN_A_PLACE(a_missing_or_broken_table_is_named),
        IN_A_PLACE(every_row_of_the_table_is_shown_with_its_state),
        IN_A_PLACE(the_trees_own_table_has_every_promised_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
