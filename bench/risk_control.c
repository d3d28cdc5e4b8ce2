/* risk_control.c: does a promised error hold? What bench/risk-control runs: the library's own search for a guarantee
 * (train/promise.c) on many random divisions of recorded questions.
 *
 *     risk_control CRITIC TRACES REASONER DEV TEST SEED TURNS,.. A,.. DELTA hoeffding-bentkus|binomial RUNS SHARE
 *
 * The traces are divided as `drr train` divided them with the same shares and seed. Each test question is acted out
 * once; these units are all there is, so that what is true of them is known. RUNS times
 *   split: a random SHARE of the units finds the threshold, and the error is that of the others;
 *   draw:  as many are drawn with replacement to find it, and the error is that of all units, which is the true one.
 * One line for each: how often a promise was made, how often its error was above A, units, share accepted, and error.
 */
#include "core/risk.h"
#include "train/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };

static drr_status score_part(drr_critic *critic, corpus *c, corpus_part part, drr_error *err)
{
    drr_score_item items[MOST];
    drr_score scores[MOST];
    size_t rows[MOST], n = 0;
    drr_status status = DRR_OK;
    for (size_t i = 0; status == DRR_OK && i <= c->n; i++) {
        if (n == MOST || (i == c->n && n)) {
            status = drr_critic_score(critic, scores, items, n, err);
            for (size_t k = 0; status == DRR_OK && k < n; k++)
                c->rows[rows[k]].logit = scores[k].logit;
            n = 0;
        }
        if (i < c->n && c->rows[i].part == part) {
            const drr_trace *t = &c->rows[i].trace;
            items[n] = (drr_score_item){.question = t->question, .text = t->text ? t->text : ""};
            rows[n++] = i;
        }
    }
    return status;
}

typedef struct tally {
    uint64_t made, above;
    double accepted, error; /* sums over the promises made */
} tally;

static void count(tally *t, const drr_guarantee *g, const trials *measured)
{
    uint64_t accepted, wrong;
    if (!g->found)
        return;
    trials_count(&accepted, &wrong, measured, g->threshold);
    const double error = accepted ? (double)wrong / (double)accepted : 0;
    t->made++;
    t->above += error > g->target_error;
    t->accepted += measured->n ? (double)accepted / (double)measured->n : 0;
    t->error += error;
}

/* tested and rest have room for all units. */
static drr_status run(tally *split, tally *drawn, const trials *dev, const trials *all, trials *tested, trials *rest,
                      size_t *order, const drr_guarantee *wanted, size_t n, rng *r, drr_error *err)
{
    drr_guarantee g = *wanted;
    for (size_t i = 0; i < all->n; i++)
        order[i] = i;
    rng_shuffle(r, order, all->n);
    tested->n = n;
    rest->n = all->n - n;
    for (size_t i = 0; i < all->n; i++)
        *(i < n ? &tested->at[i] : &rest->at[i - n]) = all->at[order[i]];
    drr_status status = promise_find(&g, dev, tested, err);
    if (status != DRR_OK)
        return status;
    count(split, &g, rest);
    for (size_t i = 0; i < n; i++)
        tested->at[i] = all->at[rng_below(r, all->n)];
    g = *wanted;
    status = promise_find(&g, dev, tested, err);
    if (status == DRR_OK)
        count(drawn, &g, all);
    return status;
}

static void print(const char *name, const drr_guarantee *g, const tally *t, uint64_t runs, size_t found_on,
                  size_t units)
{
    const double made = t->made ? (double)t->made : NAN;
    printf("%s turns=%u a=%g runs=%llu made=%llu above=%llu found_on=%zu units=%zu accepted=%.4f error=%.4f\n", name,
           g->turns, g->target_error, (unsigned long long)runs, (unsigned long long)t->made,
           (unsigned long long)t->above, found_on, units, t->accepted / made, t->error / made);
}

typedef struct trying { /* one critic's units, and what is asked of them */
    trials dev, all, tested, rest;
    size_t *order;
    uint64_t runs, seed;
    double share;
} trying;

static void trying_clear(trying *t)
{
    trials_clear(&t->dev);
    trials_clear(&t->all);
    trials_clear(&t->tested);
    trials_clear(&t->rest);
    free(t->order);
    t->order = NULL;
}

static drr_status act_out(trying *t, const critic_meta *meta, const corpus *c, uint32_t turns, uint64_t seed,
                          drr_error *err)
{
    trying_clear(t);
    drr_status status = trials_new(&t->dev, meta, c, CORPUS_DEV, turns, seed, err);
    if (status == DRR_OK)
        status = trials_new(&t->all, meta, c, CORPUS_TEST, turns, seed, err);
    if (status != DRR_OK)
        return status;
    t->tested.at = calloc(t->all.n + 1, sizeof *t->tested.at);
    t->rest.at = calloc(t->all.n + 1, sizeof *t->rest.at);
    t->order = calloc(t->all.n + 1, sizeof *t->order);
    return t->tested.at && t->rest.at && t->order ? DRR_OK : error_memory(err);
}

static drr_status try_all(trying *t, const drr_guarantee *wanted, drr_error *err)
{
    const size_t n = (size_t)((double)t->all.n * t->share);
    tally split = {0}, drawn = {0};
    drr_status status = DRR_OK;
    rng r;
    if (n == 0 || n >= t->all.n)
        return error_set(err, DRR_E_ARGUMENT, "%zu units cannot be divided at %g", t->all.n, t->share);
    rng_seed(&r, hash_mix(t->seed, 17));
    for (uint64_t i = 0; status == DRR_OK && i < t->runs; i++)
        status = run(&split, &drawn, &t->dev, &t->all, &t->tested, &t->rest, t->order, wanted, n, &r, err);
    if (status == DRR_OK) {
        print("split", wanted, &split, t->runs, n, t->all.n - n);
        print("draw", wanted, &drawn, t->runs, n, t->all.n);
    }
    return status;
}

static drr_status go(char **argv, drr_error *err)
{
    drr_train_options o;
    trying t = {.runs = strtoull(argv[11], NULL, 10), .share = strtod(argv[12], NULL)};
    corpus c = {0};
    drr_critic *critic = NULL;
    char *next = argv[7];
    drr_train_options_defaults(&o);
    o.traces = argv[2];
    o.reasoner = strcmp(argv[3], "-") == 0 ? NULL : argv[3];
    o.dev_share = strtod(argv[4], NULL);
    o.test_share = strtod(argv[5], NULL);
    o.seed = t.seed = strtoull(argv[6], NULL, 10);
    drr_guarantee wanted = {.delta = strtod(argv[9], NULL),
                            .test = strcmp(argv[10], drr_risk_test_name(DRR_RISK_BINOMIAL)) == 0
                                        ? DRR_RISK_BINOMIAL
                                        : DRR_RISK_HOEFFDING_BENTKUS};
    drr_status status = drr_critic_open(&critic, argv[1], err);
    if (status == DRR_OK)
        status = corpus_read(&c, &o, NULL, err);
    if (status == DRR_OK)
        status = score_part(critic, &c, CORPUS_DEV, err);
    if (status == DRR_OK)
        status = score_part(critic, &c, CORPUS_TEST, err);
    while (status == DRR_OK && *next) {
        wanted.turns = (uint32_t)strtoul(next, &next, 10);
        next += *next == ',';
        status = act_out(&t, critic_get_meta(critic), &c, wanted.turns, o.seed, err);
        for (char *a = argv[8]; status == DRR_OK && *a;) {
            wanted.target_error = strtod(a, &a);
            a += *a == ',';
            status = try_all(&t, &wanted, err);
        }
    }
    trying_clear(&t);
    corpus_clear(&c);
    drr_critic_close(critic);
    return status;
}

int main(int argc, char **argv)
{
    drr_error err = {0};
    if (argc != 13) {
        fprintf(stderr,
                "usage: risk_control CRITIC TRACES REASONER DEV TEST SEED TURNS,.. A,.. DELTA RISK_TEST RUNS SHARE\n");
        return 2;
    }
    if (go(argv, &err) == DRR_OK)
        return 0;
    fprintf(stderr, "risk_control: %s\n", err.message);
    return 1;
}
