/* test_guard_signals.c: a signal in the middle of a pass changes nothing. oneDNN's fp32 product uses the stack register
 * for other things, and a handler that runs then writes over the heap: seen once as "corrupted size vs. prev_size while
 * consolidating" at the end of a run that was stopped by SIGTERM. A timer interrupts passes thousands of times here;
 * its handler looks where its own frame lies. */
#include "train_fixture.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static _Thread_local uintptr_t stack_low, stack_high; /* of this thread; 0: not known */
static atomic_ulong taken, outside;

static void take_signal(int number)
{
    (void)number;
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    atomic_fetch_add(&taken, 1);
    if (stack_high && (here < stack_low || here >= stack_high))
        atomic_fetch_add(&outside, 1);
}

static void remember_stack(void)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;
    assert_int_equal(pthread_getattr_np(pthread_self(), &attributes), 0);
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    stack_low = (uintptr_t)low;
    stack_high = (uintptr_t)low + size;
}

static void start_timer(long every_us)
{
    const struct sigaction action = {.sa_handler = take_signal, .sa_flags = SA_RESTART};
    const struct itimerval timer = {{0, every_us}, {0, every_us}};
    atomic_store(&taken, 0);
    atomic_store(&outside, 0);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void stop_timer(void)
{
    const struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &none, NULL);
}

static const encoder_shape shape = {.n_layers = 2,
                                    .n_embd = 384,
                                    .n_heads = 12,
                                    .n_ff = 1536,
                                    .n_vocab = FIXTURE_VOCABULARY,
                                    .n_positions = 256,
                                    .n_types = 2,
                                    .norm_epsilon = 1e-12f};
enum { SEQUENCES = 3, LENGTH = 200, TOKENS = SEQUENCES * LENGTH };

static void interrupt(bool half, bool trains, double seconds)
{
    encoder *e = NULL;
    encoder_tape *tape = NULL;
    encoder_workspace *w = NULL;
    int32_t ids[TOKENS];
    uint32_t starts[SEQUENCES + 1];
    const uint8_t labels[SEQUENCES] = {0, 1, 0};
    float logits[SEQUENCES], first[SEQUENCES];
    double loss = 0;
    unsigned long passes = 0;
    assert_int_equal(encoder_new(&e, &shape, NULL), DRR_OK);
    float *gradients = calloc(e->n_parameters, sizeof *gradients);
    rng r;
    rng_seed(&r, 1);
    for (size_t i = 0; i < e->n_parameters; i++)
        e->parameters[i] = 0.05f * (float)(rng_uniform(&r) - 0.5);
    for (size_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)rng_below(&r, FIXTURE_VOCABULARY);
    for (uint32_t i = 0; i <= SEQUENCES; i++)
        starts[i] = i * LENGTH;
    e->bf16 = half;
    assert_int_equal(encoder_tape_new(&tape, e, TOKENS, SEQUENCES, LENGTH, NULL), DRR_OK);
    assert_int_equal(encoder_workspace_new(&w, e, TOKENS, SEQUENCES, NULL), DRR_OK);
    assert_int_equal(encoder_logits(e, w, ids, starts, SEQUENCES, first, NULL), DRR_OK);
    remember_stack();
#pragma omp parallel
    if (omp_get_thread_num() > 0)
        remember_stack();
    start_timer(150);
    for (const double end = clock_seconds() + seconds; clock_seconds() < end; passes++) {
        if (trains)
            assert_int_equal(encoder_backward(e, tape, ids, starts, SEQUENCES, labels, NULL, SEQUENCES, NULL, gradients,
                                              logits, &loss, NULL),
                             DRR_OK);
        else
            assert_int_equal(encoder_logits(e, w, ids, starts, SEQUENCES, logits, NULL), DRR_OK);
        for (size_t i = 0; i < SEQUENCES; i++)
            assert_true(logits[i] == first[i]);
    }
    stop_timer();
    print_message("%lu signals in %lu passes, %lu outside the stack\n", atomic_load(&taken), passes,
                  atomic_load(&outside));
    assert_true(atomic_load(&taken) > 0); /* they are held back and not lost */
    assert_int_equal(atomic_load(&outside), 0);
    encoder_tape_free(tape);
    encoder_workspace_free(w);
    encoder_free(e);
    free(gradients);
}

static void a_signal_while_scoring_lands_on_the_stack(void **state)
{
    (void)state;
    interrupt(false, false, 1);
    if (bf16_is_native())
        interrupt(true, false, 1);
}

static void a_signal_while_training_lands_on_the_stack(void **state)
{
    (void)state;
    interrupt(false, true, 1);
    if (bf16_is_native())
        interrupt(true, true, 1);
}

/* The thread that asked for a pass is as it was before: SIGUSR1 blocked, SIGUSR2 not. */
static void a_pass_leaves_the_signal_mask_as_it_was(void **state)
{
    (void)state;
    sigset_t mine, after;
    tensor_pass outer, inner;
    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mine, NULL), 0);
    tensor_begin(&outer, 2);
    tensor_begin(&inner, 2);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(sigismember(&after, SIGTERM) && sigismember(&after, SIGUSR2) && !sigismember(&after, SIGSEGV));
    tensor_end(&inner);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(sigismember(&after, SIGTERM));
    tensor_end(&outer);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_true(!sigismember(&after, SIGTERM) && sigismember(&after, SIGUSR1) && !sigismember(&after, SIGUSR2));
    sigemptyset(&mine);
    pthread_sigmask(SIG_SETMASK, &mine, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_while_scoring_lands_on_the_stack),
        cmocka_unit_test(a_signal_while_training_lands_on_the_stack),
        cmocka_unit_test(a_pass_leaves_the_signal_mask_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
