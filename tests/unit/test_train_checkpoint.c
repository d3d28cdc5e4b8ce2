/* test_train_checkpoint.c: a checkpoint comes back as it was written; a damaged, cut or foreign one is refused and
 * leaves the run that asked for it untouched. */
#include "train_fixture.h"

#include <dirent.h>
#include <math.h>

enum { N = 37 };

typedef struct run { /* a checkpoint and its arrays */
    checkpoint c;
    float parameters[N], moment1[N], moment2[N], best[N];
} run;

static void set_up(run *r, float start)
{
    *r = (run){.c = {.identity = 0x1234567890abcdefu,
                     .step = 4711,
                     .best_epoch = 2,
                     .stale_epochs = 1,
                     .evaluated = 3,
                     .best_loss = 0.5 + (double)start,
                     .best_auroc = 0.75,
                     .epoch_loss = 0.625,
                     .seconds = 12.5,
                     .tokens = 1u << 31,
                     .n = N}};
    r->c.parameters = r->parameters;
    r->c.moment1 = r->moment1;
    r->c.moment2 = r->moment2;
    r->c.best = r->best;
    for (size_t i = 0; i < N; i++) {
        r->parameters[i] = start + (float)i;
        r->moment1[i] = start - (float)i / 3;
        r->moment2[i] = start * (float)i;
        r->best[i] = start + 1 / (1 + (float)i);
    }
}

/* A run that has not begun: it knows who it is and how many parameters it has. */
static void fresh(run *r)
{
    set_up(r, -1);
    r->c = (checkpoint){.identity = 0x1234567890abcdefu,
                        .best_loss = NAN,
                        .best_auroc = NAN,
                        .parameters = r->parameters,
                        .moment1 = r->moment1,
                        .moment2 = r->moment2,
                        .best = r->best,
                        .n = N};
}

static void assert_untouched(const run *r)
{
    run other;
    fresh(&other);
    assert_memory_equal(r->parameters, other.parameters, 4 * sizeof r->parameters);
    assert_int_equal(r->c.step, 0);
    assert_int_equal(r->c.best_epoch, 0);
    assert_true(isnan(r->c.best_loss));
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    run a, b;
    set_up(&a, 3);
    fresh(&b);
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    assert_int_equal(checkpoint_read(at("c"), &b.c, NULL), DRR_OK);
    assert_memory_equal(a.parameters, b.parameters, 4 * sizeof a.parameters);
    assert_int_equal(b.c.step, 4711);
    assert_int_equal(b.c.tokens, 1u << 31);
    assert_int_equal(b.c.best_epoch, 2);
    assert_int_equal(b.c.stale_epochs, 1);
    assert_int_equal(b.c.evaluated, 3);
    assert_true(b.c.best_loss == 3.5 && b.c.best_auroc == 0.75 && b.c.epoch_loss == 0.625 && b.c.seconds == 12.5);
}

static void before_the_first_evaluation_there_is_no_best(void **state)
{
    (void)state;
    run a, b;
    set_up(&a, 3);
    fresh(&b);
    a.c.best_epoch = 0;
    a.c.best_loss = NAN;
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    assert_int_equal(checkpoint_read(at("c"), &b.c, NULL), DRR_OK);
    assert_memory_equal(a.parameters, b.parameters, 3 * sizeof a.parameters);
    run untouched;
    fresh(&untouched);
    assert_memory_equal(b.best, untouched.best, sizeof b.best);
    assert_true(isnan(b.c.best_loss));
}

static void the_next_one_replaces_the_one_before(void **state)
{
    (void)state;
    run a, b;
    set_up(&a, 3);
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    set_up(&a, 9);
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    fresh(&b);
    assert_int_equal(checkpoint_read(at("c"), &b.c, NULL), DRR_OK);
    assert_true(b.parameters[0] == 9.0f);
    size_t entries = 0;
    DIR *d = opendir(folder);
    while (readdir(d))
        entries++;
    closedir(d);
    assert_int_equal(entries, 3); /* ".", ".." and the file: no temporary name is left */
}

static void another_runs_checkpoint_is_refused(void **state)
{
    (void)state;
    run a, b;
    drr_error err = {0};
    set_up(&a, 3);
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    fresh(&b);
    b.c.identity++;
    assert_int_equal(checkpoint_read(at("c"), &b.c, &err), DRR_E_MISMATCH);
    assert_non_null(strstr(err.message, at("c")));
    assert_untouched(&b);
    fresh(&b);
    b.c.n--;
    assert_int_equal(checkpoint_read(at("c"), &b.c, &err), DRR_E_MISMATCH);
    fresh(&b);
    assert_int_equal(checkpoint_read(at("none"), &b.c, &err), DRR_E_NOT_FOUND);
}

static void read_broken(const char *data, size_t size, const char *what)
{
    run b;
    drr_error err = {0};
    fresh(&b);
    FILE *file = fopen(at("broken"), "wb"); /* not file_write_all, which waits for the disk */
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    const drr_status status = checkpoint_read(at("broken"), &b.c, &err);
    if (status != DRR_E_FORMAT && status != DRR_E_MISMATCH)
        fail_msg("%s: %s", what, drr_status_name(status));
    assert_non_null(strstr(err.message, at("broken")));
    assert_untouched(&b);
}

static void a_damaged_byte_is_found_wherever_it_is(void **state)
{
    (void)state;
    run a;
    char *data = NULL, what[64];
    size_t size = 0;
    set_up(&a, 3);
    assert_int_equal(checkpoint_write(at("c"), &a.c, NULL), DRR_OK);
    assert_int_equal(file_read(&data, &size, at("c"), 0, NULL), DRR_OK);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(data[i] ^ (1 << i % 8));
        snprintf(what, sizeof what, "byte %zu of %zu changed", i, size);
        read_broken(data, size, what);
        data[i] = (char)(data[i] ^ (1 << i % 8));
    }
    for (size_t i = 0; i < size; i += i < 120 ? 1 : 13) {
        snprintf(what, sizeof what, "cut at byte %zu of %zu", i, size);
        read_broken(data, i, what);
    }
    data = realloc(data, size + 1);
    assert_non_null(data);
    data[size] = 0;
    read_broken(data, size + 1, "one byte too many");
    free(data);
}

static void where_nothing_can_be_written_it_says_so(void **state)
{
    (void)state;
    run a;
    drr_error err = {0};
    set_up(&a, 3);
    assert_int_equal(checkpoint_write(at("no/such/folder"), &a.c, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "no/such/folder"));
    assert_int_equal(checkpoint_write(folder, &a.c, &err), DRR_E_IO); /* a folder has that name */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read),
        TEST(before_the_first_evaluation_there_is_no_best),
        TEST(the_next_one_replaces_the_one_before),
        TEST(another_runs_checkpoint_is_refused),
        TEST(a_damaged_byte_is_found_wherever_it_is),
        TEST(where_nothing_can_be_written_it_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
