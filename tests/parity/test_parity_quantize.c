/* test_parity_quantize.c: SmolLM2-135M in other formats: what is written is the same model, in libllama's own
 * judgement, answers, and is not there at all when something went wrong. */
#include "reasoner/llama_internal.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char model[] = "smollm2-135m";
static char folder[64], target[128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/drr-quantize.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(target, sizeof target, "%s/model.gguf", folder);
    return 0;
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(target);
    return rmdir(folder);
}

typedef struct first {
    llama_token top;
    float logit;
} first;

static first first_of(const char *path)
{
    first f = {0};
    bool garbage = false;
    drr_error err = {0};
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    assert_int_equal(llama_runtime_start(NULL), DRR_OK);
    struct llama_model *m = llama_model_load_from_file(path, llama_model_default_params());
    assert_non_null(m);
    struct llama_context *context = llama_init_from_model(m, params);
    assert_non_null(context);
    if (llama_first_logits(context, llama_model_get_vocab(m), &f.top, &f.logit, &garbage, &err) != DRR_OK)
        fail_msg("%s", err.message);
    llama_free(context);
    llama_model_free(m);
    return f;
}

/* Greedy, of one question. */
static void answers(const char *path)
{
    const drr_reasoner_options options = {.width = 1, .context = 256, .self_check = true};
    const drr_message message = {"user", "What is the capital of France?"};
    const reasoner_request request = {.messages = &message, .n_messages = 1, .max_tokens = 16};
    drr_reasoner *r = NULL;
    reasoner_completion got = {0};
    drr_error err = {0};
    if (drr_reasoner_open(&r, path, &options, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(reasoner_submit(r, &request, NULL), DRR_OK);
    assert_int_equal(reasoner_next(r, &got, NULL), DRR_OK);
    assert_int_not_equal(got.finish, DRR_FINISH_FAILED);
    print_message("%s\n", got.text);
    assert_non_null(strstr(got.text, "Paris"));
    reasoner_completion_clear(&got);
    drr_reasoner_close(r);
}

static void quantize_to(const char *format, double bits, float tolerance)
{
    char source[4096], hex[65];
    drr_quantized made = {0};
    drr_error err = {0};
    assert_int_equal(drr_cache_path(source, sizeof source, model, NULL, NULL), DRR_OK);
    if (drr_model_quantize(&made, model, format, target, NULL, &err) != DRR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(entries(), 1);
    assert_string_equal(made.from, "q4_1");
    assert_true(made.requantized);
    assert_int_equal(made.bytes_before, 98362432);
    assert_int_equal(sha256_file(hex, target, NULL), DRR_OK);
    assert_string_equal(made.sha256, hex);
    const double bits_a_weight = (double)made.bytes_after * 8 / 134.5e6; /* vocabulary and padding count too */
    assert_true(fabs(bits_a_weight - bits) < 0.4);
    const first before = first_of(source), after = first_of(target);
    print_message("%s: first logit %.3f, was %.3f\n", format, (double)after.logit, (double)before.logit);
    assert_int_equal(after.top, before.top);
    assert_true(fabsf(after.logit - before.logit) < tolerance);
    answers(target);
}

static void eight_bits_keep_a_model_of_four_as_it_is(void **state)
{
    (void)state;
    quantize_to("q8_0", 8.6, 0.5f);
}

static void four_bits_keep_its_first_word(void **state)
{
    (void)state;
    quantize_to("Q4_0", 5.4, 5.0f); /* the embeddings, a fifth of all weights, stay at 8 bits */
}

static void refused(drr_status status, const char *said, const char *source, const char *format, const char *out)
{
    drr_quantized made = {.bytes_after = 1};
    drr_error err = {0};
    const drr_status got = drr_model_quantize(&made, source, format, out, NULL, &err);
    if (got != status || !strstr(err.message, said))
        fail_msg("%s: %s", drr_status_name(got), err.message);
    assert_int_equal(made.bytes_after, 1);
    assert_int_equal(entries(), 0);
}

static void what_cannot_be_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    char source[4096], nowhere[160];
    assert_int_equal(drr_cache_path(source, sizeof source, model, NULL, NULL), DRR_OK);
    snprintf(nowhere, sizeof nowhere, "%s/none/model.gguf", folder);
    refused(DRR_E_ARGUMENT, "q8_0, q6_k, q5_k_m", model, "q9", target);
    refused(DRR_E_NOT_FOUND, "none.gguf", "none.gguf", "q8_0", target);
    refused(DRR_E_ARGUMENT, "would be overwritten", model, "q8_0", source);
    refused(DRR_E_NOT_FOUND, nowhere, model, "q8_0", nowhere);
    refused(DRR_E_IO, "not a regular file", model, "q8_0", "/dev/null");
    refused(DRR_E_FORMAT, "not a GGUF model", DRR_SOURCE_DIR "/README.md", "q8_0", target);
}

static void the_source_is_found_out_behind_a_link(void **state)
{
    (void)state;
    char source[4096];
    drr_quantized made;
    drr_error err = {0};
    assert_int_equal(drr_cache_path(source, sizeof source, model, NULL, NULL), DRR_OK);
    assert_int_equal(symlink(source, target), 0);
    assert_int_equal(drr_model_quantize(&made, model, "q8_0", target, NULL, &err), DRR_E_ARGUMENT);
    assert_int_equal(entries(), 1);
}

typedef struct listening {
    unsigned asked, stop_at;
    uint64_t done, total;
    bool warned;
} listening;

static bool stop_later(void *user)
{
    listening *l = user;
    return ++l->asked > l->stop_at;
}

static void hear_progress(void *user, const drr_progress *p)
{
    listening *l = user;
    assert_true(p->done >= l->done && p->done <= p->total);
    l->done = p->done;
    l->total = p->total;
}

static void hear_log(void *user, drr_log_level level, const char *message)
{
    listening *l = user;
    (void)level;
    l->warned = l->warned || strstr(message, "q4_1");
}

static void it_can_be_stopped_and_leaves_nothing(void **state)
{
    (void)state;
    listening l = {.stop_at = 20};
    const drr_hooks hooks = {hear_log, hear_progress, stop_later, &l};
    drr_quantized made;
    drr_error err = {0};
    const double began = clock_seconds();
    assert_int_equal(drr_model_quantize(&made, model, "q4_k_m", target, &hooks, &err), DRR_E_INTERRUPTED);
    const double stopped = clock_seconds();
    assert_int_equal(entries(), 0);
    assert_int_equal(l.asked, 21);
    assert_int_equal(drr_model_quantize(&made, model, "q4_k_m", target, NULL, &err), DRR_OK); /* and again, in peace */
    const double ended = clock_seconds();
    print_message("stopped after %.2f s, whole after %.2f s\n", stopped - began, ended - stopped);
    assert_true((stopped - began) * 2 < ended - stopped); /* at 20 of 272 tensors: it did not go on in secret */
}

static void progress_goes_to_the_end_and_a_note_tells_of_the_second_loss(void **state)
{
    (void)state;
    listening l = {.stop_at = 1u << 30};
    const drr_hooks hooks = {hear_log, hear_progress, stop_later, &l};
    drr_quantized made;
    assert_int_equal(drr_model_quantize(&made, model, "q8_0", target, &hooks, NULL), DRR_OK);
    assert_true(l.total > 200);
    assert_int_equal(l.done, l.total);
    assert_true(l.warned);
}

/* In a child, because a limit on the file size cannot be taken back: a write past it fails as one on a full disk. The
 * first limit ends in the middle of the weights; the second leaves no room for the last tensor alone. */
static void a_full_disk_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    drr_quantized whole;
    assert_int_equal(drr_model_quantize(&whole, model, "q8_0", target, NULL, NULL), DRR_OK);
    unlink(target);
    const rlim_t limits[] = {20 << 20, (rlim_t)whole.bytes_after - 1};
    for (size_t i = 0; i < 2; i++) {
        int how = 0;
        const pid_t child = fork();
        if (child == 0) {
            const struct rlimit limit = {limits[i], limits[i]};
            drr_quantized made;
            drr_error err = {0};
            signal(SIGXFSZ, SIG_IGN);
            if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
                _exit(10);
            if (drr_model_quantize(&made, model, "q8_0", target, NULL, &err) != DRR_E_IO)
                _exit(11);
            _exit(strstr(err.message, target) && strstr(err.message, "free some space") ? 0 : 12);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how));
        assert_int_equal(WEXITSTATUS(how), 0);
        assert_int_equal(entries(), 0);
    }
}

int main(void)
{
    char path[4096];
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(a_full_disk_is_said_and_leaves_nothing), /* forks: before anything has started threads */
        IN_A_FOLDER(what_cannot_be_is_refused_and_leaves_nothing),
        IN_A_FOLDER(the_source_is_found_out_behind_a_link),
        IN_A_FOLDER(it_can_be_stopped_and_leaves_nothing),
        IN_A_FOLDER(progress_goes_to_the_end_and_a_note_tells_of_the_second_loss),
        IN_A_FOLDER(eight_bits_keep_a_model_of_four_as_it_is),
        IN_A_FOLDER(four_bits_keep_its_first_word),
    };
    if (drr_cache_path(path, sizeof path, model, NULL, NULL) != DRR_OK) {
        print_message("smollm2-135m is not in the cache: tools/setup models smollm2-135m\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
