/* test_judge.c: the judge's thread. Texts of many requests score as each does alone; a long list stands in nobody's
 * way; a swap under load mixes nothing; whatever goes wrong ends each submission once, in words. Also run by the TSan
 * preset. The critics are random and small. */
#include "serve/judge.h"

#include "judge_fixture.h"

#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static judge *open_judge(const char *path, const drr_hooks *hooks)
{
    judge *j = NULL;
    drr_error err = {0};
    if (judge_open(&j, path, DRR_PRECISION_FP32, 0, hooks, &err) != DRR_OK)
        fail_msg("%s", err.message);
    return j;
}

/* ---- waiting for what was submitted */

typedef struct ticket {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    int times, place; /* how often done was called; as which one of all */
    drr_status status;
    char message[256];
} ticket;
#define A_TICKET                                                                                                       \
    {                                                                                                                  \
        .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER                                           \
    }

static atomic_int places;

static void on_done(void *user, drr_status status, const char *message)
{
    ticket *t = user;
    pthread_mutex_lock(&t->lock);
    t->times++;
    t->place = atomic_fetch_add(&places, 1);
    t->status = status;
    snprintf(t->message, sizeof t->message, "%s", message ? message : "");
    pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
}

static void wait_for(ticket *t)
{
    pthread_mutex_lock(&t->lock);
    while (t->times == 0)
        pthread_cond_wait(&t->ended, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void judge_now(judge *j, judge_item *items, size_t n)
{
    ticket t = A_TICKET;
    drr_error err = {0};
    if (judge_submit(j, items, n, on_done, &t, &err) != DRR_OK)
        fail_msg("%s", err.message);
    wait_for(&t);
    if (t.status != DRR_OK)
        fail_msg("%s", t.message);
}

/* Texts of different lengths out of the small vocabulary, the same for the same number. */
static const char *some_text(size_t i)
{
    static const char *const texts[] = {
        "un",       "unaffable a", "a a a ##b", "#",         "",
        "x x x",    "affable",     "un a x #",  "a b c d e", "unaffable unaffable unaffable a",
        "xx un aff"};
    return texts[i % (sizeof texts / sizeof *texts)];
}

static judge_item some_item(size_t i, bool alone)
{
    return (judge_item){.question = some_text(i / 7), .text = some_text(i), .parsed = true, .alone = alone};
}

/* ---- batches */

enum { THREADS = 6, ROUNDS = 40, MOST_ITEMS = 90 };

typedef struct client {
    judge *j;
    size_t number;
    double farthest;
    size_t n, n_wrong; /* wrong: another error, another count of tokens, another critic */
    const drr_score *known;
    const uint32_t *lengths;
} client;

enum { KNOWN = 500 };

static void *ask_often(void *argument)
{
    client *c = argument;
    rng r;
    rng_seed(&r, c->number);
    for (size_t round = 0; round < ROUNDS; round++) {
        judge_item items[MOST_ITEMS];
        size_t which[MOST_ITEMS];
        const size_t n = 1 + rng_below(&r, MOST_ITEMS);
        for (size_t i = 0; i < n; i++) {
            which[i] = rng_below(&r, KNOWN);
            items[i] = some_item(which[i], which[i] % 2);
        }
        ticket t = A_TICKET;
        if (judge_submit(c->j, items, n, on_done, &t, NULL) != DRR_OK) {
            c->n_wrong++;
            continue;
        }
        wait_for(&t);
        c->n_wrong += t.status != DRR_OK || t.times != 1;
        for (size_t i = 0; i < n; i++) {
            c->farthest = fmax(c->farthest, fabs(items[i].logit - c->known[which[i]].logit));
            c->farthest = fmax(c->farthest, fabs(items[i].p_correct - c->known[which[i]].p_correct));
            c->n_wrong += items[i].n_tokens != c->lengths[which[i]];
            c->n++;
        }
    }
    return NULL;
}

static void texts_of_many_requests_score_as_each_alone(void **state)
{
    (void)state;
    static drr_score known[KNOWN];
    static uint32_t lengths[KNOWN];
    put_critic(at("c.gguf"), 1, "one", 0.5);
    drr_critic *critic = open_critic(at("c.gguf"));
    for (size_t i = 0; i < KNOWN; i++) {
        const judge_item item = some_item(i, i % 2);
        drr_features f;
        drr_features_defaults(&f);
        const drr_score_item given = {item.question, item.text, item.alone ? NULL : &f};
        assert_int_equal(critic_score_counted(critic, &known[i], &lengths[i], &given, 1, NULL), DRR_OK);
        assert_true(lengths[i] >= 3);
    }
    judge *j = open_judge(at("c.gguf"), NULL);
    client clients[THREADS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        clients[i] = (client){.j = j, .number = i + 1, .known = known, .lengths = lengths};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &clients[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].n_wrong, 0);
        assert_true(clients[i].n > ROUNDS);
        assert_true(clients[i].farthest < 1e-5);
    }
    judge_close(j);
    drr_critic_close(critic);
}

static void a_long_list_lets_a_single_text_by(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    judge_item *items = calloc(LONG, sizeof *items), one = some_item(3, true);
    ticket list = A_TICKET, single = A_TICKET;
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), NULL);
    for (size_t i = 0; i < LONG; i++)
        items[i] = some_item(i, true);
    assert_int_equal(judge_submit(j, items, LONG, on_done, &list, NULL), DRR_OK);
    assert_int_equal(judge_submit(j, &one, 1, on_done, &single, NULL), DRR_OK);
    wait_for(&list);
    wait_for(&single);
    assert_true(single.place < list.place);
    assert_int_equal(list.status, DRR_OK);
    judge_close(j);
    free(items);
}

static void batches_are_counted(void **state)
{
    (void)state;
    buffer text = {0};
    metrics *m = NULL;
    judge_item items[100];
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), NULL);
    assert_int_equal(metrics_new(&m, NULL), DRR_OK);
    judge_count(j, m);
    for (size_t i = 0; i < 100; i++)
        items[i] = some_item(i, true);
    judge_now(j, items, 100);
    uint64_t tokens = 0;
    for (size_t i = 0; i < 100; i++)
        tokens += items[i].n_tokens;
    char line[64];
    judge_close(j);
    assert_int_equal(metrics_text(&text, m, NULL), DRR_OK);
    assert_non_null(strstr(text.data, "\ndrr_dm_texts_total 100\n"));
    snprintf(line, sizeof line, "\ndrr_dm_tokens_total %llu\n", (unsigned long long)tokens);
    assert_non_null(strstr(text.data, line));
    assert_non_null(strstr(text.data, "\ndrr_dm_batch_texts_count 2\n")); /* 64 and 36 */
    assert_non_null(strstr(text.data, "\ndrr_dm_waiting 0\n"));
    buffer_clear(&text);
    metrics_free(m);
}

/* ---- what else is known */

static void others_count_and_can_be_added_later(void **state)
{
    (void)state;
    const drr_token_stats stats = {.n = 4,
                                   .mean = -0.3f,
                                   .min = -2,
                                   .tail_mean = -0.2f,
                                   .entropy_mean = 0.4f,
                                   .answer_mean = NAN,
                                   .answer_min = NAN,
                                   .answer_entropy = NAN,
                                   .answer_margin = NAN};
    put_critic(at("c.gguf"), 1, "one", 0.25);
    drr_critic *critic = open_critic(at("c.gguf"));
    judge *j = open_judge(at("c.gguf"), NULL);
    judge_item item = some_item(2, false);
    item.stats = &stats;
    item.turn = 1;
    item.n_written = 7;
    item.n_others = 3;
    item.n_agree = 2;
    judge_now(j, &item, 1);
    drr_features f;
    drr_features_defaults(&f);
    f.stats = stats;
    f.turn = 1;
    f.n_tokens = 7;
    assert_true(fabs(item.p_alone - drr_critic_combine(critic, item.logit, &f)) < 1e-12);
    f.n_others = 3;
    f.n_agree = 2;
    assert_true(fabs(item.p_correct - drr_critic_combine(critic, item.logit, &f)) < 1e-12);
    assert_true(fabs(item.p_correct - item.p_alone) > 1e-6);
    assert_true(item.threshold == 0.25);
    assert_string_equal(item.critic, judge_name(j));
    item.n_others = f.n_others = 4;
    judge_combine(j, &item, 1);
    assert_true(fabs(item.p_correct - drr_critic_combine(critic, item.logit, &f)) < 1e-12);
    item.alone = true; /* as a route's: the text alone, whatever is said of it */
    judge_now(j, &item, 1);
    assert_true(fabs(item.p_correct - drr_critic_combine(critic, item.logit, NULL)) < 1e-12);
    assert_true(item.p_alone == item.p_correct);
    judge_close(j);
    drr_critic_close(critic);
}

/* ---- swaps */

typedef struct swapped {
    judge *j;
    atomic_bool stop;
    size_t n, n_mixed, n_other, n_failed, n_of[2];
    const double *logits[2]; /* of each critic, of text i */
} swapped;

enum { TEXTS = 77 };

static void *ask_through_swaps(void *argument)
{
    swapped *s = argument;
    while (!atomic_load(&s->stop)) {
        judge_item items[150];
        for (size_t i = 0; i < 150; i++)
            items[i] = some_item(i % TEXTS, true);
        ticket t = A_TICKET;
        if (judge_submit(s->j, items, 150, on_done, &t, NULL) != DRR_OK)
            break;
        wait_for(&t);
        s->n_failed += t.status != DRR_OK;
        const size_t which = strncmp(items[0].critic, "two@", 4) == 0;
        s->n_of[which]++;
        for (size_t i = 0; i < 150; i++) {
            s->n_mixed += items[i].critic != items[0].critic || items[i].threshold != (which ? 0.75 : 0.25);
            s->n_other += fabs(items[i].logit - s->logits[which][i % TEXTS]) > 1e-5;
        }
        s->n++;
    }
    return NULL;
}

static void a_swap_under_load_mixes_nothing(void **state)
{
    (void)state;
    static double logits[2][TEXTS];
    static const char *const names[] = {"one", "two"};
    char paths[2][256];
    drr_error err = {0};
    for (size_t k = 0; k < 2; k++) {
        snprintf(paths[k], sizeof paths[k], "%s", at(names[k]));
        put_critic(paths[k], k + 1, names[k], k ? 0.75 : 0.25);
        drr_critic *critic = open_critic(paths[k]);
        for (size_t i = 0; i < TEXTS; i++) {
            const judge_item item = some_item(i, true);
            const drr_score_item given = {item.question, item.text, NULL};
            drr_score score;
            assert_int_equal(drr_critic_score(critic, &score, &given, 1, NULL), DRR_OK);
            logits[k][i] = score.logit;
        }
        drr_critic_close(critic);
    }
    judge *j = open_judge(paths[0], NULL);
    swapped clients[3];
    pthread_t threads[3];
    const char *first = judge_name(j);
    const drr_critic_info before = judge_info(j);
    for (size_t i = 0; i < 3; i++) {
        clients[i] = (swapped){.j = j, .logits = {logits[0], logits[1]}};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_through_swaps, &clients[i]), 0);
    }
    for (size_t k = 1; k <= 30; k++) {
        if (judge_swap(j, paths[k % 2], NULL, NULL, &err) != DRR_OK)
            fail_msg("%s", err.message);
        assert_string_equal(judge_info(j).name, names[k % 2]);
        usleep(3000);
    }
    assert_int_equal(judge_swap(j, at("absent"), NULL, NULL, &err), DRR_E_NOT_FOUND);
    assert_string_equal(judge_info(j).name, "one"); /* the old one stays */
    size_t n_of[2] = {0, 0};
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&clients[i].stop, true);
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].n_failed, 0);
        assert_int_equal(clients[i].n_mixed, 0);
        assert_int_equal(clients[i].n_other, 0);
        n_of[0] += clients[i].n_of[0];
        n_of[1] += clients[i].n_of[1];
    }
    assert_true(n_of[0] > 0 && n_of[1] > 0);
    assert_memory_equal(first, "one@", 4); /* names and info of critics that are gone stay readable */
    assert_string_equal(before.name, "one");
    judge_close(j);
}

static void what_is_held_judges_on_after_a_swap(void **state)
{
    (void)state;
    put_critic(at("one"), 1, "one", 0.25);
    put_critic(at("two"), 2, "two", 0.75);
    judge *j = open_judge(at("one"), NULL);
    drr_critic_info info;
    const char *name;
    judge_seat *held = judge_hold(j, &info, &name), *again = judge_hold(j, &info, &name);
    judge_item before = some_item(3, true), after = before, other = before;
    judge_now(j, &before, 1);
    assert_int_equal(judge_swap(j, at("two"), NULL, NULL, NULL), DRR_OK);
    judge_release(j, again);
    ticket t = A_TICKET;
    assert_int_equal(judge_submit_to(j, held, &after, 1, on_done, &t, NULL), DRR_OK);
    wait_for(&t);
    judge_now(j, &other, 1);
    assert_int_equal(t.status, DRR_OK);
    assert_ptr_equal(after.critic, before.critic);
    assert_ptr_equal(after.critic, name);
    assert_string_equal(info.name, "one");
    assert_true(after.logit == before.logit && after.threshold == 0.25);
    assert_string_equal(other.critic, judge_name(j));
    assert_true(other.logit != before.logit && other.threshold == 0.75);
    const size_t kept = mallinfo2().uordblks; /* 0 in builds with a sanitizer */
    judge_release(j, held);
    assert_true(mallinfo2().uordblks < kept || kept == 0); /* nobody needs its weights any more */
    judge_combine(j, &after, 1);                           /* what it scored can be combined all the same */
    assert_true(after.p_correct == before.p_correct);
    judge_release(j, NULL);
    judge_close(j);
}

/* ---- what goes wrong */

/* A supervisor may send SIGHUP every minute: what is read again and is the same leaves nothing behind. */
static void the_same_file_again_leaves_nothing_behind(void **state)
{
    (void)state;
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), NULL);
    const char *name = judge_name(j);
    for (int k = 0; k < 5; k++)
        assert_int_equal(judge_swap(j, at("c.gguf"), NULL, NULL, NULL), DRR_OK);
    const size_t before =
        mallinfo2().uordblks; /* 0 in builds with a sanitizer, whose own leak check is at work there */
    for (int k = 0; k < 100; k++)
        assert_int_equal(judge_swap(j, at("c.gguf"), NULL, NULL, NULL), DRR_OK);
    assert_true(mallinfo2().uordblks < before + 10000);
    assert_ptr_equal(judge_name(j), name);
    judge_close(j);
}

static void what_cannot_be_scored_is_refused(void **state)
{
    (void)state;
    judge *j = NULL;
    drr_error err = {0};
    ticket t = A_TICKET;
    assert_int_equal(judge_open(&j, at("absent.gguf"), DRR_PRECISION_FP32, 0, NULL, &err), DRR_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "absent.gguf"));
    put_critic(at("c.gguf"), 1, "one", 0.5);
    j = open_judge(at("c.gguf"), NULL);
    judge_item items[2] = {some_item(1, true), some_item(2, true)};
    items[1].text = NULL;
    assert_int_equal(judge_submit(j, items, 2, on_done, &t, &err), DRR_E_ARGUMENT);
    assert_non_null(strstr(err.message, "item 1 of 2"));
    judge_item bad = {.question = "\xff un", .text = "a\xC3", .alone = true}; /* bytes that are no UTF-8 are left out */
    judge_now(j, &bad, 1);
    assert_true(isfinite(bad.logit));
    assert_int_equal(judge_submit(j, NULL, 0, on_done, &t, NULL), DRR_OK);
    wait_for(&t);
    assert_int_equal(t.status, DRR_OK);
    judge_close(j);
    assert_int_equal(t.times, 1);
    judge_close(NULL);
}

enum { MANY = 60000 };

static judge_item *many_items(void)
{
    judge_item *items = calloc(MANY, sizeof *items);
    for (size_t i = 0; i < MANY; i++)
        items[i] = some_item(i, true);
    return items;
}

static void more_than_can_wait_is_refused(void **state)
{
    (void)state;
    judge_item *items = many_items(), *more = many_items();
    ticket t = A_TICKET, u = A_TICKET;
    drr_error err = {0};
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), NULL);
    assert_int_equal(judge_submit(j, items, MANY, on_done, &t, NULL), DRR_OK);
    assert_int_equal(judge_submit(j, more, MANY, on_done, &u, &err), DRR_E_LIMIT);
    assert_non_null(strstr(err.message, "wait to be judged"));
    judge_cancel(j, &t);
    wait_for(&t);
    assert_int_equal(t.status, DRR_E_INTERRUPTED);
    assert_non_null(strstr(t.message, "withdrawn"));
    judge_now(j, more, 1); /* and others go on */
    judge_close(j);
    assert_int_equal(t.times, 1);
    assert_int_equal(u.times, 0);
    free(items);
    free(more);
}

static void closing_ends_what_waits(void **state)
{
    (void)state;
    enum { TICKETS = 20 };
    judge_item *items = many_items();
    ticket tickets[TICKETS];
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), NULL);
    for (size_t i = 0; i < TICKETS; i++) {
        tickets[i] = (ticket)A_TICKET;
        assert_int_equal(judge_submit(j, items + i * (MANY / TICKETS), MANY / TICKETS, on_done, &tickets[i], NULL),
                         DRR_OK);
    }
    judge_close(j);
    size_t n_interrupted = 0;
    for (size_t i = 0; i < TICKETS; i++) {
        assert_int_equal(tickets[i].times, 1);
        n_interrupted += tickets[i].status == DRR_E_INTERRUPTED;
    }
    assert_true(n_interrupted > 0);
    free(items);
}

/* ---- a probe without hidden states */

typedef struct heard {
    char text[1024];
    int n_warnings;
} heard;

static void hear(void *user, drr_log_level level, const char *message)
{
    heard *h = user;
    h->n_warnings += level == DRR_LOG_WARN;
    if (level == DRR_LOG_WARN)
        snprintf(h->text, sizeof h->text, "%s", message);
}

static void put_probe(const char *path, bool has_stack)
{
    critic_meta m = small_meta(has_stack);
    drr_error err = {0};
    m.probe = (probe_model){.reasoner = string_copy("model@12345678"),
                            .layer = 3,
                            .width = 4,
                            .n_pools = 1,
                            .pools = {HIDDEN_MEAN},
                            .bias = 0.5,
                            .weight = calloc(4, sizeof(double))};
    for (uint32_t i = 0; i < PROBE_STATISTICS; i++)
        m.probe.scale[i] = 1;
    m.no_encoder = true;
    m.calibration = (platt){1, 0};
    if (critic_write(path, NULL, NULL, &m, &err) != DRR_OK)
        fail_msg("%s", err.message);
    critic_meta_clear(&m);
}

static void a_probe_without_hidden_states_says_so(void **state)
{
    (void)state;
    heard h = {.n_warnings = 0};
    const drr_hooks hooks = {.log = hear, .user = &h};
    judge_item item = some_item(1, false);
    item.n_others = item.n_agree = 2;
    put_probe(at("p.gguf"), true);
    judge *j = open_judge(at("p.gguf"), &hooks);
    judge_now(j, &item, 1);
    judge_now(j, &item, 1);
    assert_true(isnan(item.logit) && item.p_correct > 0 && item.p_correct < 1);
    judge_close(j);
    assert_int_equal(h.n_warnings, 1); /* once */
    assert_non_null(strstr(h.text, "hidden states of model@12345678 (layer 3)"));
    assert_non_null(strstr(h.text, "the other signs of a turn alone"));
    put_probe(at("q.gguf"), false); /* nothing but the probe: there is nothing to judge by */
    j = open_judge(at("q.gguf"), NULL);
    ticket t = A_TICKET;
    assert_int_equal(judge_submit(j, &item, 1, on_done, &t, NULL), DRR_OK);
    wait_for(&t);
    assert_int_equal(t.status, DRR_E_MISMATCH);
    assert_non_null(strstr(t.message, "model@12345678"));
    judge_close(j);
}

/* ---- drift, as the judge hears it */

static void other_scores_raise_the_alarm_and_others_texts_do_not(void **state)
{
    (void)state;
    heard h = {.n_warnings = 0};
    const drr_hooks hooks = {.log = hear, .user = &h};
    judge_item items[300];
    put_critic(at("c.gguf"), 1, "one", 0.5);
    judge *j = open_judge(at("c.gguf"), &hooks);
    for (size_t i = 0; i < 300; i++)
        items[i] = some_item(i, true);
    judge_now(j, items, 300);
    assert_int_equal(h.n_warnings, 0);
    for (size_t i = 0; i < 300; i++)
        items[i] = some_item(i, false);
    judge_now(j, items, 300);
    judge_saw_model(j, "R1");
    judge_saw_model(j, "another-model");
    json_t *drift = judge_drift(j);
    assert_true(json_is_true(json_object_get(drift, "alarm")));
    assert_true(json_is_true(json_object_get(json_object_get(drift, "scores"), "alarm")));
    assert_true(json_is_true(json_object_get(json_object_get(drift, "model"), "alarm")));
    json_decref(drift);
    assert_int_equal(judge_swap(j, at("c.gguf"), NULL, NULL, NULL),
                     DRR_OK); /* the same file: what was heard counts on */
    drift = judge_drift(j);
    assert_true(json_is_true(json_object_get(json_object_get(drift, "scores"), "alarm")));
    json_decref(drift);
    put_critic(at("d.gguf"), 2, "two", 0.5);
    assert_int_equal(judge_swap(j, at("d.gguf"), NULL, NULL, NULL),
                     DRR_OK); /* another one's scores are not known yet */
    drift = judge_drift(j);
    assert_true(json_is_false(json_object_get(json_object_get(drift, "scores"), "alarm")));
    assert_true(json_is_true(json_object_get(json_object_get(drift, "model"), "alarm")));
    json_decref(drift);
    judge_close(j);
    assert_int_equal(h.n_warnings, 2);
    assert_non_null(strstr(h.text, "another-model"));
}

#define IN_A_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(texts_of_many_requests_score_as_each_alone),
        IN_A_PLACE(a_long_list_lets_a_single_text_by),
        IN_A_PLACE(batches_are_counted),
        IN_A_PLACE(others_count_and_can_be_added_later),
        IN_A_PLACE(a_swap_under_load_mixes_nothing),
        IN_A_PLACE(what_is_held_judges_on_after_a_swap),
        IN_A_PLACE(the_same_file_again_leaves_nothing_behind),
        IN_A_PLACE(what_cannot_be_scored_is_refused),
        IN_A_PLACE(more_than_can_wait_is_refused),
        IN_A_PLACE(closing_ends_what_waits),
        IN_A_PLACE(a_probe_without_hidden_states_says_so),
        IN_A_PLACE(other_scores_raise_the_alarm_and_others_texts_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
