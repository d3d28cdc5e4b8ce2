/* test_train_ranks.c: what several ranks compute is what one computes. Every text of a step is in one rank's share, the
 * shares are of a size, a piece of a part drops what the part drops, and gradients that are said to be ready change no
 * more. That the sums over MPI are right is tests/e2e/test_ranks.py's to show. */
#include "core/statistics.h"
#include "train/ranks_internal.h"
#include "train_fixture.h"

#include <math.h>

enum { TEXTS = 61, BATCH = 24, BUDGET = 70 };

static batch_plan plan_of(size_t n)
{
    batch_plan plan = {0};
    assert_int_equal(batch_plan_new(&plan, n, BATCH, BUDGET, NULL), DRR_OK);
    batch_plan_shuffle(&plan, 5, 1);
    return plan;
}

static size_t tokens_of(const examples *x, const batch_plan *plan, size_t begin, size_t end)
{
    size_t n = 0;
    for (size_t at = begin; at < end; at++)
        n += x->starts[plan->order[at] + 1] - x->starts[plan->order[at]];
    return n;
}

/* Walks one step's pieces of all ranks; they follow each other without a gap, and each lies in one part. */
static void check_step(const examples *x, const batch_plan *plan, size_t begin, size_t end, uint32_t n)
{
    size_t at = begin, part_begin = begin, part_end = begin + batch_part(plan, x, begin, end);
    uint64_t part = 0;
    for (uint32_t rank = 0; rank < n; rank++) {
        const ranks r = {.rank = rank, .n = n};
        step_pieces pieces = step_pieces_of(plan, x, begin, end, n > 1 ? &r : NULL);
        step_piece p = {.last = true};
        const size_t first = at;
        while (step_pieces_next(&pieces, &p)) {
            if (p.begin == part_end) {
                part_begin = part_end;
                part_end += batch_part(plan, x, part_begin, end);
                part++;
            }
            assert_int_equal(p.begin, at);
            assert_true(p.end > p.begin && p.end <= part_end);
            assert_int_equal(p.part, part);
            assert_int_equal(p.first_sequence, p.begin - part_begin);
            assert_int_equal(p.first_token, tokens_of(x, plan, part_begin, p.begin));
            assert_int_equal(batch_part(plan, x, p.begin, p.end), p.end - p.begin); /* so it is packed whole */
            at = p.end;
        }
        assert_true(p.last);
        const double mine = (double)tokens_of(x, plan, first, at), all = (double)tokens_of(x, plan, begin, end);
        assert_true(fabs(mine - all / n) <= 12); /* no text is longer */
    }
    assert_int_equal(at, end);
}

static void every_text_of_a_step_is_in_one_share_and_shares_are_of_a_size(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 4, 7, 24, 64};
    examples x = marked_texts(TEXTS, 3);
    batch_plan plan = plan_of(x.n);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t begin = 0; begin < x.n; begin += BATCH)
            check_step(&x, &plan, begin, begin + BATCH < x.n ? begin + BATCH : x.n, counts[i]);
    batch_plan_clear(&plan);
    examples_clear(&x);
}

static void what_is_joined_stays_on_one_rank(void **state)
{
    (void)state;
    examples x = marked_texts(TEXTS, 3);
    batch_plan plan = plan_of(x.n);
    size_t at = 0;
    plan.joined = calloc(x.n, sizeof *plan.joined);
    assert_non_null(plan.joined);
    for (size_t i = 0; i < x.n; i++)
        plan.joined[i] = i % 3 != 0;
    for (uint32_t rank = 0; rank < 4; rank++) {
        const ranks r = {.rank = rank, .n = 4};
        step_pieces pieces = step_pieces_of(&plan, &x, 0, BATCH, &r);
        for (step_piece p; step_pieces_next(&pieces, &p); at = p.end) {
            assert_int_equal(p.begin, at);
            assert_int_equal(p.begin % 3, 0);
        }
    }
    assert_int_equal(at, BATCH);
    batch_plan_clear(&plan);
    examples_clear(&x);
}

/* ---- a step's gradients, computed as n ranks compute them, in one process */

typedef struct step {
    encoder *e;
    encoder_tape *tape;
    float *gradients;
    double loss;
} step;

static step step_new(bool half)
{
    step s = {.e = tiny_encoder(1)};
    s.e->bf16 = half;
    s.gradients = calloc(s.e->n_parameters, sizeof *s.gradients);
    assert_non_null(s.gradients);
    assert_int_equal(encoder_tape_new(&s.tape, s.e, BUDGET, BATCH, 12, NULL), DRR_OK);
    return s;
}

static void step_clear(step *s)
{
    encoder_tape_free(s->tape);
    encoder_free(s->e);
    free(s->gradients);
}

static void compute(step *s, const examples *x, const batch_plan *plan, float rate, uint32_t n)
{
    int32_t ids[BUDGET];
    uint32_t starts[BATCH + 1];
    uint8_t labels[BATCH];
    float logits[BATCH];
    for (uint32_t rank = 0; rank < n; rank++) {
        const ranks r = {.rank = rank, .n = n};
        step_pieces pieces = step_pieces_of(plan, x, 0, BATCH, &r);
        step_piece p;
        while (step_pieces_next(&pieces, &p)) {
            const encoder_dropout d = {.rate = rate,
                                       .seed = 3,
                                       .step = p.part,
                                       .shape = &s->e->shape,
                                       .first_sequence = p.first_sequence,
                                       .first_token = p.first_token};
            const size_t count = batch_pack(plan, x, p.begin, p.end, ids, starts, labels);
            assert_int_equal(encoder_backward(s->e, s->tape, ids, starts, count, labels, NULL, BATCH, &d, s->gradients,
                                              logits, &s->loss, NULL),
                             DRR_OK);
        }
    }
}

static double farthest(const step *a, const step *b)
{
    double most = 0, length = 0;
    for (size_t i = 0; i < a->e->n_parameters; i++) {
        most = fmax(most, fabs((double)a->gradients[i] - (double)b->gradients[i]));
        length = fmax(length, fabs((double)a->gradients[i]));
    }
    assert_true(length > 1e-3);
    return most / length;
}

static void check_ranks(bool half, double tolerance)
{
    static const uint32_t counts[] = {2, 3, 4, 9, 24};
    examples x = marked_texts(TEXTS, 3);
    batch_plan plan = plan_of(x.n);
    step one = step_new(half), plain = step_new(half);
    compute(&one, &x, &plan, 0.2f, 1);
    compute(&plain, &x, &plan, 0, 1);
    assert_true(farthest(&one, &plain) > 30 * tolerance); /* dropout does something */
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        step many = step_new(half);
        compute(&many, &x, &plan, 0.2f, counts[i]);
        assert_true(fabs(many.loss - one.loss) <= tolerance);
        const double apart = farthest(&many, &one);
        if (!(apart <= tolerance))
            fail_msg("%u ranks: gradients are %g apart", counts[i], apart);
        step_clear(&many);
    }
    step_clear(&one);
    step_clear(&plain);
    batch_plan_clear(&plan);
    examples_clear(&x);
}

static void ranks_drop_what_one_drops_and_add_up_to_its_gradients(void **state)
{
    (void)state;
    check_ranks(false, 1e-5);
}

static void in_bf16_too(void **state)
{
    (void)state;
    if (!bf16_is_native())
        skip();
    check_ranks(true, 5e-3);
}

/* ---- what is said to be ready */

typedef struct watch { /* gradients as they were when their layer was said to be ready */
    step *s;
    float *then;
    uint32_t expected;
} watch;

static size_t start_of(const encoder *e, uint32_t layer)
{
    char name[32];
    snprintf(name, sizeof name, "blk.%u.attn_q.weight", layer);
    const encoder_tensor *t = encoder_find(e, name);
    assert_non_null(t);
    return t->offset;
}

static void note_ready(void *user, uint32_t layer)
{
    watch *w = user;
    const size_t start = start_of(w->s->e, layer),
                 end = layer + 1 < w->s->e->shape.n_layers ? start_of(w->s->e, layer + 1) : w->s->e->n_parameters;
    assert_int_equal(layer, w->expected);
    w->expected--;
    memcpy(w->then + start, w->s->gradients + start, (end - start) * sizeof *w->then);
}

static void what_is_ready_changes_no_more(void **state)
{
    (void)state;
    examples x = marked_texts(TEXTS, 3);
    batch_plan plan = plan_of(x.n);
    step s = step_new(false);
    watch w = {&s, calloc(s.e->n_parameters, sizeof(float)), s.e->shape.n_layers - 1};
    const size_t start = start_of(s.e, 0);
    const uint32_t one_text[2] = {0, (uint32_t)tokens_of(&x, &plan, 0, 1)};
    float logit;
    assert_non_null(w.then);
    encoder_tape_tell(s.tape, note_ready, &w);
    assert_int_equal(encoder_backward(s.e, s.tape, x.ids + x.starts[plan.order[0]], one_text, 1, x.labels, NULL, 1,
                                      NULL, s.gradients, &logit, &s.loss, NULL),
                     DRR_OK);
    assert_int_equal(w.expected, UINT32_MAX); /* every layer, once, from the last down */
    assert_memory_equal(w.then + start, s.gradients + start, (s.e->n_parameters - start) * sizeof(float));
    encoder_tape_tell(s.tape, NULL, NULL);
    free(w.then);
    step_clear(&s);
    batch_plan_clear(&plan);
    examples_clear(&x);
}

/* ---- alone */

static void a_process_alone_has_no_ranks(void **state)
{
    (void)state;
    ranks *r = (ranks *)folder;
    uint32_t rank, n;
    drr_error err = {.message = "kept"};
    unsetenv("OMPI_COMM_WORLD_SIZE");
    drr_ranks(&rank, &n);
    assert_true(rank == 0 && n == 1);
    assert_int_equal(ranks_open(&r, &err), DRR_OK);
    assert_null(r);
    assert_true(ranks_first(r) && ranks_count(r) == 1 && !ranks_lost(r));
    assert_int_equal(ranks_agree(r, DRR_E_IO, &err), DRR_E_IO);
    assert_string_equal(err.message, "kept");
    uint32_t threads = 0;
    assert_int_equal(ranks_threads(r, &threads, &err), DRR_OK);
    assert_int_equal(threads, 0);
}

static void ranks_share_cores_with_those_in_the_same_place_alone(void **state)
{
    (void)state;
    const double unbound[] = {7, 7, 7, 7}, bound[] = {1, 2, 3, 4}, two_machines[] = {7, 9, 7, 9, 9};
    assert_int_equal(ranks_sharing(unbound, 4, 2), 4);
    assert_int_equal(ranks_sharing(bound, 4, 2), 1);
    assert_int_equal(ranks_sharing(two_machines, 5, 0), 2);
    assert_int_equal(ranks_sharing(two_machines, 5, 4), 3);
}

static void without_the_plug_in_mpirun_is_refused_and_not_ignored(void **state)
{
    (void)state;
    ranks *r = NULL;
    drr_error err = {0};
    FILE *file = fopen(at("no.so"), "w");
    assert_non_null(file);
    fclose(file);
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_RANK", "1", 1);
    setenv("DRR_MPI", at("no.so"), 1);
    assert_int_equal(ranks_open(&r, &err), DRR_E_BACKEND);
    assert_non_null(strstr(err.message, "rank 1 of 2"));
    setenv("DRR_MPI", at("missing.so"), 1);
    assert_int_not_equal(ranks_open(&r, &err), DRR_OK);
    assert_null(r);
    unsetenv("DRR_MPI");
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("OMPI_COMM_WORLD_RANK");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_text_of_a_step_is_in_one_share_and_shares_are_of_a_size),
        TEST(what_is_joined_stays_on_one_rank),
        TEST(ranks_drop_what_one_drops_and_add_up_to_its_gradients),
        TEST(in_bf16_too),
        TEST(what_is_ready_changes_no_more),
        TEST(a_process_alone_has_no_ranks),
        TEST(ranks_share_cores_with_those_in_the_same_place_alone),
        TEST(without_the_plug_in_mpirun_is_refused_and_not_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
