/* test_train_kill.c: what a training run leaves behind when it ends badly. Killed at any moment and resumed it ends
 * with the bits of one that was never killed; where the disk is full, or a number is none, the state before stays, and
 * the message says where to look. Every run is a child process, forked before this one has any threads. */
#include "train_fixture.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { SKIPPED = 77 };

static const fit_options plain = {.epochs = 6,
                                  .batch = 8,
                                  .budget = 40,
                                  .learning_rate = 3e-3,
                                  .weight_decay = 0.01,
                                  .warmup_share = 0.1,
                                  .clip_norm = 1,
                                  .dropout = 0.1,
                                  .checkpoint_every_s = 1e-9, /* after each step */
                                  .seed = 3};

/* Like at(), for a path that is kept. */
typedef struct place {
    char path[128];
} place;

static place place_of(const char *name)
{
    place p;
    snprintf(p.path, sizeof p.path, "%s/%s", folder, name);
    return p;
}

/* ---- one run, in a child */

static void note_in_file(void *user, drr_log_level level, const char *message)
{
    (void)level;
    FILE *file = fopen(user, "a");
    if (file) {
        fprintf(file, "%s\n", message);
        fclose(file);
    }
}

/* Fits and writes the parameters to `result`; the error's message goes to the file "message". */
static int fit_into(const char *result, const fit_options *o, uint32_t threads)
{
    encoder *e = tiny_encoder(1);
    examples train = marked_texts(96, 2), dev = marked_texts(40, 3);
    place log = place_of("log");
    const drr_hooks hooks = {.log = note_in_file, .user = log.path};
    fit_result fitted;
    drr_error err = {0};
    parallel_set_threads(threads);
    const drr_status status = encoder_fit(e, &train, &dev, o, &fitted, &hooks, &err);
    FILE *file = fopen(status == DRR_OK ? result : at("message"), "w");
    if (!file)
        return 1;
    if (status == DRR_OK)
        fwrite(e->parameters, sizeof(float), e->n_parameters, file);
    else
        fputs(err.message, file);
    fclose(file);
    return (int)status;
}

static pid_t start(const char *result, const fit_options *o, uint32_t threads)
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(fit_into(result, o, threads));
    return child;
}

/* The child's exit code; -1: killed. */
static int end_of(pid_t child)
{
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static char *contents(const char *path, size_t *size)
{
    char *data = NULL;
    drr_error err = {0};
    if (file_read(&data, size, path, 0, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return data;
}

static void assert_same(const char *a, const char *b)
{
    size_t n_a, n_b;
    char *x = contents(a, &n_a), *y = contents(b, &n_b);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(x, y, n_a);
    free(x);
    free(y);
}

static size_t count_in(const char *path, const char *words)
{
    size_t size, n = 0;
    char *text = contents(path, &size);
    for (const char *p = text; (p = strstr(p, words)); p++)
        n++;
    free(text);
    return n;
}

static size_t entries_like(const char *words)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        n += strstr(entry->d_name, words) != NULL;
    closedir(d);
    return n;
}

/* ---- killed */

static void pause_s(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
}

/* Kills and resumes runs until one ends; returns how often it killed. */
static size_t kill_until_it_ends(const fit_options *o, uint32_t threads, rng *r, double most_s)
{
    for (size_t kills = 0;; kills++, most_s *= 1.05) { /* longer and longer, so that it comes to an end on any disk */
        assert_true(kills < 500);
        const pid_t child = start(at("killed"), o, threads);
        pause_s(rng_uniform(r) * most_s);
        kill(child, SIGKILL);
        const int code = end_of(child);
        if (code == DRR_OK)
            return kills;
        assert_int_equal(code, -1);
    }
}

static void check_kills(uint32_t threads, uint64_t seed)
{
    fit_options o = plain;
    rng r;
    size_t kills = 0, resumed = 0;
    const place whole = place_of("whole.checkpoint"), killed = place_of("killed.checkpoint");
    const double began = clock_seconds();
    o.checkpoint = whole.path;
    assert_int_equal(end_of(start(at("whole"), &o, threads)), DRR_OK);
    const double whole_s = clock_seconds() - began;
    rng_seed(&r, seed);
    o.checkpoint = killed.path;
    o.resume = true;
    /* The machine may have been busy while the whole run was timed and be free now: with shorter pauses until it was
     * killed often enough. */
    for (double most_s = whole_s / 8; kills < 5 || resumed < 3; most_s /= 3) {
        assert_true(most_s > 1e-6);
        unlink(killed.path);
        FILE *log = fopen(at("log"), "w"); /* empty: a run that was never killed may say nothing */
        assert_non_null(log);
        fclose(log);
        kills = kill_until_it_ends(&o, threads, &r, most_s);
        resumed = count_in(at("log"), "going on from");
        print_message("%zu kills in a run of %.2f s, %zu times resumed\n", kills, whole_s, resumed);
    }
    assert_same(at("whole"), at("killed"));
    assert_int_equal(entries_like(".tmp-"), 0); /* the last writer cleaned up after the killed ones */
}

static void killed_anywhere_and_resumed_it_ends_with_the_same_bits(void **state)
{
    (void)state;
    check_kills(1, 1);
}

static void with_two_threads_too(void **state)
{
    (void)state;
    check_kills(2, 2);
}

/* ---- a full disk */

/* Leaves a checkpoint from the middle of a run: killed as soon as it is there. */
static void leave_checkpoint(fit_options *o)
{
    const pid_t child = start(at("unused"), o, 1);
    while (!file_exists(o->checkpoint))
        pause_s(0.001);
    pause_s(0.02);
    kill(child, SIGKILL);
    end_of(child);
    unlink(at("unused"));
    o->resume = true;
}

static int fit_with_limit(const fit_options *o, rlim_t most)
{
    const struct rlimit limit = {most, most};
    signal(SIGXFSZ, SIG_IGN);
    return setrlimit(RLIMIT_FSIZE, &limit) == 0 ? fit_into(at("unused"), o, 1) : SKIPPED;
}

static void a_checkpoint_that_cannot_be_written_leaves_the_one_before(void **state)
{
    (void)state;
    fit_options o = plain;
    const place whole = place_of("whole.checkpoint"), c = place_of("c");
    o.checkpoint = whole.path;
    assert_int_equal(end_of(start(at("whole"), &o, 1)), DRR_OK);
    o.checkpoint = c.path;
    leave_checkpoint(&o);
    size_t before_size, after_size;
    char *before = contents(at("c"), &before_size);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(fit_with_limit(&o, before_size / 2));
    assert_int_equal(end_of(child), DRR_E_IO);
    char *after = contents(at("c"), &after_size);
    assert_int_equal(after_size, before_size);
    assert_memory_equal(after, before, before_size);
    assert_int_equal(count_in(at("message"), at("c")), 1);
    assert_int_equal(entries_like(".tmp-"), 0);
    assert_int_equal(end_of(start(at("resumed"), &o, 1)), DRR_OK);
    assert_same(at("whole"), at("resumed"));
    free(before);
    free(after);
}

/* On a disk of its own that holds one checkpoint and not two. 10 and on: what was wrong. */
static int fit_on_a_small_disk(void)
{
    fit_options o = plain;
    const place on_disk = place_of("disk/c");
    char *message = NULL;
    size_t size;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mkdir(at("disk"), 0700) != 0 || mount("drr", at("disk"), "tmpfs", 0, "size=128k") != 0)
        return SKIPPED;
    o.checkpoint = on_disk.path;
    if (fit_into(at("unused"), &o, 1) != DRR_E_IO)
        return 10;
    if (file_read(&message, &size, at("message"), 0, NULL) != DRR_OK || !strstr(message, "No space left on device"))
        return 11;
    encoder *e = tiny_encoder(1);
    checkpoint c = {.n = e->n_parameters};
    char *data = NULL;
    if (file_read(&data, &size, o.checkpoint, 0, NULL) != DRR_OK || size < 16)
        return 12;
    memcpy(&c.identity, data + 8, sizeof c.identity);
    c.parameters = calloc(4 * c.n, sizeof(float));
    c.moment1 = c.parameters + c.n;
    c.moment2 = c.moment1 + c.n;
    c.best = c.moment2 + c.n;
    return checkpoint_read(o.checkpoint, &c, NULL) == DRR_OK && c.step == 1 ? 0 : 13;
}

static void on_a_disk_that_is_really_full_too(void **state)
{
    (void)state;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(fit_on_a_small_disk());
    const int code = end_of(child);
    rmdir(at("disk"));
    if (code == SKIPPED)
        skip(); /* no right to mount */
    assert_int_equal(code, 0);
}

/* ---- numbers that are none */

static drr_status fit_here(encoder *e, const fit_options *o, drr_error *err)
{
    examples x = marked_texts(64, 1), none = {0};
    fit_result result;
    const drr_status status = encoder_fit(e, &x, &none, o, &result, NULL, err);
    examples_clear(&x);
    return status;
}

static void read_state(checkpoint *c, const char *path, size_t n)
{
    size_t size;
    char *data = contents(path, &size);
    *c = (checkpoint){.n = n, .parameters = calloc(4 * n, sizeof(float))};
    assert_non_null(c->parameters);
    assert_true(size > 16);
    memcpy(&c->identity, data + 8, sizeof c->identity);
    c->moment1 = c->parameters + n;
    c->moment2 = c->moment1 + n;
    c->best = c->moment2 + n;
    assert_int_equal(checkpoint_read(path, c, NULL), DRR_OK);
    free(data);
}

static void the_state_before_a_loss_that_is_no_number_is_kept(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1), *other = tiny_encoder(1);
    examples x = marked_texts(64, 1), none = {0};
    fit_options o = plain;
    fit_result result;
    drr_error err = {0};
    checkpoint kept, stopped;
    const place kept_at = place_of("kept"), stopped_at = place_of("stopped");
    int left = 1;
    const drr_hooks hooks = {.cancelled = count_down, .user = &left};
    o.learning_rate = 1e30; /* one update, and the next pass overflows */
    o.weight_decay = 0;
    o.checkpoint_every_s = 0;
    o.checkpoint = kept_at.path;
    assert_int_equal(fit_here(e, &o, &err), DRR_E_BACKEND);
    assert_non_null(strstr(err.message, "step 2 of 48"));
    assert_non_null(strstr(err.message, "the largest parameter is one of "));
    assert_non_null(strstr(err.message, at("kept")));
    o.checkpoint = stopped_at.path;
    assert_int_equal(encoder_fit(other, &x, &none, &o, &result, &hooks, NULL), DRR_E_INTERRUPTED);
    read_state(&kept, at("kept"), e->n_parameters);
    read_state(&stopped, at("stopped"), e->n_parameters);
    assert_int_equal(kept.step, 1);
    assert_int_equal(stopped.step, 1);
    assert_memory_equal(kept.parameters, stopped.parameters, 3 * e->n_parameters * sizeof(float));
    free(kept.parameters);
    free(stopped.parameters);
    encoder_free(e);
    encoder_free(other);
    examples_clear(&x);
}

/* The pooler's row 3 gives tanh(0) whatever it reads, so its huge weight in the head leaves the logit alone; the row's
 * own gradient is that weight times what it reads. */
static void a_gradient_that_is_not_finite_is_named(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1), *before = tiny_encoder(1);
    fit_options o = plain;
    drr_error err = {0};
    checkpoint kept;
    const place kept_at = place_of("kept");
    encoder *const both[] = {e, before};
    for (size_t k = 0; k < 2; k++) {
        const size_t width = e->shape.n_embd;
        float *p = both[k]->parameters;
        memset(p + encoder_find(e, "cls.weight")->offset + 3 * width, 0, width * sizeof *p);
        p[encoder_find(e, "cls.output.weight")->offset + 3] = 3e38f;
        for (size_t i = 0; i < width; i++)
            p[encoder_find(e, "blk.1.layer_output_norm.weight")->offset + i] = 1e3f;
    }
    o.checkpoint_every_s = 0;
    o.checkpoint = kept_at.path;
    assert_int_equal(fit_here(e, &o, &err), DRR_E_BACKEND);
    if (!strstr(err.message, "step 1 of 48: the gradient of cls.weight is not finite"))
        fail_msg("%s", err.message);
    assert_memory_equal(e->parameters, before->parameters, e->n_parameters * sizeof(float));
    read_state(&kept, at("kept"), e->n_parameters);
    assert_int_equal(kept.step, 0);
    assert_memory_equal(kept.parameters, before->parameters, e->n_parameters * sizeof(float));
    free(kept.parameters);
    encoder_free(e);
    encoder_free(before);
}

static void a_state_that_is_not_finite_replaces_no_checkpoint(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    fit_options o = plain;
    const place kept_at = place_of("kept");
    drr_error err = {0};
    size_t size;
    assert_int_equal(file_write_all(at("kept"), "the one before", 14, NULL), DRR_OK);
    e->parameters[encoder_find(e, "blk.1.ffn_up.weight")->offset + 5] = INFINITY;
    o.checkpoint = kept_at.path;
    assert_int_equal(fit_here(e, &o, &err), DRR_E_BACKEND);
    assert_non_null(strstr(err.message, "blk.1.ffn_up.weight has values that are not finite"));
    assert_non_null(strstr(err.message, "could not be kept"));
    char *data = contents(at("kept"), &size);
    assert_string_equal(data, "the one before");
    free(data);
    encoder_free(e);
}

static void any_tensor_is_found(void **state)
{
    (void)state;
    encoder *e = tiny_encoder(1);
    const checkpoint c = {.step = 7,
                          .parameters = e->parameters,
                          .moment1 = calloc(e->n_parameters, sizeof(float)),
                          .moment2 = calloc(e->n_parameters, sizeof(float)),
                          .n = e->n_parameters};
    float *const arrays[] = {c.parameters, c.moment1, c.moment2};
    assert_non_null(c.moment1);
    assert_non_null(c.moment2);
    assert_int_equal(checkpoint_finite(&c, e, NULL), DRR_OK);
    for (size_t t = 0; t < e->n_tensors; t++)
        for (size_t a = 0; a < 3; a++) {
            const encoder_tensor *tensor = &e->tensors[t];
            float *last = arrays[a] + tensor->offset + (size_t)tensor->rows * tensor->columns - 1, kept = *last;
            drr_error err = {0};
            *last = a == 1 ? -INFINITY : NAN;
            assert_ptr_equal(tensor_not_finite(e, arrays[a]), tensor);
            assert_int_equal(checkpoint_finite(&c, e, &err), DRR_E_BACKEND);
            assert_non_null(strstr(err.message, tensor->name));
            *last = kept;
        }
    assert_null(tensor_not_finite(e, e->parameters));
    free(c.moment1);
    free(c.moment2);
    encoder_free(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(killed_anywhere_and_resumed_it_ends_with_the_same_bits),
        TEST(with_two_threads_too),
        TEST(a_checkpoint_that_cannot_be_written_leaves_the_one_before),
        TEST(on_a_disk_that_is_really_full_too),
        TEST(the_state_before_a_loss_that_is_no_number_is_kept), /* from here on in this process: it may have threads */
        TEST(a_gradient_that_is_not_finite_is_named),
        TEST(a_state_that_is_not_finite_replaces_no_checkpoint),
        TEST(any_tensor_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
