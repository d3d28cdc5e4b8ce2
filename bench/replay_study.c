/* replay_study.c: what bench/replay-study runs: strategies acted out on recorded answers that critics have scored, and
 * the figures of it. The rules are the loop's own (loop/weigh.h) and the critic's P(correct) is the library's; only who
 * asks whom when is written down again here, so that a thousand thresholds cost one pass.
 *
 *     replay_study REASONER K ORDERS SEED REPLACE REFIT RESAMPLES CURVES SECOND RATIO CRITIC DEV TEST QUESTIONS [CRITIC
 * DEV ..] of each fold a critic, and the lines of dev and of the left-out questions as `drr critic score` wrote them,
 * and of all these questions those that a critic of questions alone scored ("-": none; CRITIC "-": none either, and the
 * stack knows length and agreement alone); K samples a question, in ORDERS random orders; REPLACE 1: drawn with
 * replacement. REFIT 1: calibration and stack are fitted again on dev, on this reasoner's answers alone. Writes all
 * points to CURVES.
 *
 * A question's figure is its mean over the orders; intervals (95 %) are bootstrapped over questions. */
#include "replay_study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRID = 201, TURNS = 5, VOTE_AT = 5 };
#define HALF_THE_LOSS 0.0025 /* of accuracy that a threshold may cost on dev, where 0.005 may be lost */

/* What is tried: at each k, or at each threshold. */
typedef enum family { VOTE, SUM, MAP, BEST, ORACLE, BETA, POSTERIOR, STACK, DRR, FAMILIES } family;
static const char *const names[FAMILIES] = {"vote", "weighted-vote", "posterior-vote", "best-of-n", "oracle",
                                            "beta", "posterior",     "stack",          "drr"};
enum { FIXED_POINTS = 5 * MOST + 4 * GRID, POINTS = FIXED_POINTS + TURNS * GRID };

static size_t point_of(family f, size_t i)
{
    return f <= ORACLE ? (size_t)f * MOST + i : 5 * MOST + (size_t)(f - BETA) * GRID + i;
}

/* Of a cascade of that many turns, from 1, at a threshold of drr's. */
static size_t cascade_point(size_t turns, size_t i)
{
    return FIXED_POINTS + (turns - 1) * GRID + i;
}

static double threshold_of(family f, size_t i)
{
    const double share = (double)i / (GRID - 1);
    return f == DRR ? share : 0.5 + share / 2;
}

/* ---- acting out */

typedef struct moment {                      /* after t samples of one order */
    bool vote, sum, map, best, oracle, last; /* would it be right: the leader of each rule, the newest answer */
    bool decided;                            /* samples left cannot change the vote */
    double beta, posterior, stack;           /* how sure each rule is of its leader */
    double newest;                           /* P(correct) of the newest answer, earlier ones known; below 0: unread */
} moment;

typedef struct tally { /* of the answers in sight, by choice */
    uint32_t votes[MOST];
    double sum[MOST], given[MOST], posterior[MOST];
    bool right[MOST];
} tally;

/* order[t] are answers of q. Of equals a leader is the one given first, as in the loop. */
static void look(moment *m, const study *s, const question *q, const answer *const *order, size_t t)
{
    size_t seen[MOST], n_seen = 0, place[MOST], choice[MOST], n_read = 0;
    double p[MOST], best = -1;
    tally x = {0};
    *m = (moment){.newest = -1};
    for (size_t i = 0; i < t; i++) { /* numbered in the order in which they were given */
        place[i] = SIZE_MAX;
        for (size_t c = 0; order[i]->parsed && c < n_seen; c++)
            if (seen[c] == order[i]->choice)
                place[i] = c;
        if (order[i]->parsed && place[i] == SIZE_MAX) {
            x.right[n_seen] = order[i]->right;
            seen[n_seen] = order[i]->choice;
            place[i] = n_seen++;
        }
        m->oracle |= order[i]->right;
        if (!order[i]->parsed)
            continue;
        x.votes[place[i]]++;
        x.sum[place[i]] += order[i]->alone;
        choice[n_read] = place[i];
        p[n_read++] = order[i]->alone;
    }
    for (size_t i = 0; i < t; i++) {
        if (!order[i]->parsed)
            continue;
        const double given = study_judge(s, q, order[i], (uint32_t)t - 1, x.votes[place[i]] - 1);
        x.given[place[i]] += given;
        if (i + 1 == t)
            m->newest = given;
        if (given > best) {
            best = given;
            m->best = order[i]->right;
        }
    }
    m->last = t && order[t - 1]->right;
    if (n_seen == 0)
        return;
    size_t vote = 0, sum = 0;
    uint32_t next = 0;
    for (size_t c = 1; c < n_seen; c++) {
        if (x.votes[c] > x.votes[vote])
            vote = c;
        if (x.sum[c] > x.sum[sum] + 1e-12)
            sum = c;
    }
    for (size_t c = 0; c < n_seen; c++)
        if (c != vote && x.votes[c] > next)
            next = x.votes[c];
    const size_t map = weigh_posterior(x.posterior, p, choice, n_read, n_seen, q->alternatives, q->closed);
    m->vote = x.right[vote];
    m->sum = x.right[sum];
    m->map = x.right[map];
    m->beta = weigh_beta(x.votes[vote], next);
    m->decided = x.votes[vote] - next > s->k - t;
    m->posterior = x.posterior[map];
    m->stack = x.given[sum] / x.votes[sum];
}

static void count(part *p, size_t point, size_t i, bool right, size_t samples, double weight)
{
    p->right[point * p->n + i] += right ? weight : 0;
    p->samples[point * p->n + i] += weight * (double)samples;
}

static void count_thresholds(const study *s, part *p, size_t i, const moment *at, double weight)
{
    const size_t turns = s->k < TURNS ? s->k : TURNS;
    for (size_t g = 0; g < GRID; g++) {
        for (family f = BETA; f <= STACK; f++) {
            const double least = threshold_of(f, g);
            size_t t = 1;
            for (; t < s->k; t++)
                if (f == BETA ? at[t].decided || at[t].beta >= least
                              : (f == POSTERIOR ? at[t].posterior : at[t].stack) >= least)
                    break;
            count(p, point_of(f, g), i, f == BETA ? at[t].vote : f == POSTERIOR ? at[t].map : at[t].sum, t, weight);
        }
        size_t t = 1;
        while (t < turns && at[t].newest < threshold_of(DRR, g))
            t++;
        count(p, point_of(DRR, g), i, at[t].newest >= threshold_of(DRR, g) ? at[t].last : at[t].sum, t, weight);
    }
}

/* drr of so many turns; what none was accepted of goes to the second reasoner. What is counted as samples is the cost,
 * in units of the second's mean answer. */
static void count_cascade(const study *s, part *p, size_t i, const answer *const *order, const moment *at,
                          double weight)
{
    const question *q = &p->questions[i];
    for (size_t turns = 1; turns <= TURNS && turns <= s->k; turns++)
        for (size_t g = 0; g < GRID; g++) {
            const double least = threshold_of(DRR, g);
            double cost = 0;
            size_t t = 0;
            do
                cost += (double)order[t]->n_tokens / s->price_ratio;
            while (++t < turns && at[t].newest < least);
            const bool accepted = at[t].newest >= least;
            const size_t point = cascade_point(turns, g) * p->n + i;
            p->right[point] += weight * (accepted ? at[t].last : q->second);
            p->samples[point] += weight * (cost + (accepted ? 0 : q->second_tokens)) / p->second_tokens;
        }
}

static void act(const study *s, part *p, size_t i)
{
    const question *q = &p->questions[i];
    const double weight = 1 / (double)s->orders;
    size_t shuffled[MOST_ANSWERS];
    rng r;
    rng_seed(&r, hash_mix(s->seed, hash_mix(q->fold, i)));
    for (size_t o = 0; o < s->orders; o++) {
        const answer *order[MOST];
        moment at[MOST + 1] = {{0}};
        for (size_t k = 0; k < q->n; k++)
            shuffled[k] = k;
        rng_shuffle(&r, shuffled, q->n);
        for (size_t k = 0; k < s->k; k++) /* as a recording does: after the last the first again */
            order[k] = &p->answers[q->first + (s->replace ? (size_t)rng_below(&r, q->n) : shuffled[k % q->n])];
        for (size_t t = 1; t <= s->k; t++) {
            look(&at[t], s, q, order, t);
            count(p, point_of(VOTE, t - 1), i, at[t].vote, t, weight);
            count(p, point_of(SUM, t - 1), i, at[t].sum, t, weight);
            count(p, point_of(MAP, t - 1), i, at[t].map, t, weight);
            count(p, point_of(BEST, t - 1), i, at[t].best, t, weight);
            count(p, point_of(ORACLE, t - 1), i, at[t].oracle, t, weight);
        }
        count_thresholds(s, p, i, at, weight);
        if (!isnan(q->second))
            count_cascade(s, p, i, order, at, weight);
    }
}

static drr_status act_all(const study *s, part *p, drr_error *err)
{
    p->right = calloc(POINTS * p->n + 1, sizeof(double));
    p->samples = calloc(POINTS * p->n + 1, sizeof(double));
    for (size_t i = 0; i < p->n; i++)
        p->second_tokens += p->questions[i].second_tokens / (double)p->n;
    for (size_t i = 0; p->right && p->samples && i < p->n; i++) {
        if (p->questions[i].n > MOST_ANSWERS)
            return error_set(err, DRR_E_ARGUMENT, "a question has %zu answers: %d is the most", p->questions[i].n,
                             MOST_ANSWERS);
        act(s, p, i);
    }
    return p->right && p->samples ? DRR_OK : error_memory(err);
}

/* ---- figures */

static double mean_of(const part *p, const double *values, size_t point, uint32_t fold)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (fold == UINT32_MAX || p->questions[i].fold == fold) {
            sum += values[point * p->n + i];
            n++;
        }
    return sum / n;
}

/* The fewest samples at which the fold's dev accuracy is at least that of `target`, less `slack`; where none has it,
 * the most accurate. */
static size_t freeze(const study *s, family f, size_t target, double slack, uint32_t fold)
{
    const part *p = &s->dev;
    const double wanted = mean_of(p, p->right, target, fold) - slack - 1e-12;
    size_t best = 0;
    double best_right = -1, best_samples = INFINITY;
    for (size_t g = 0; g < GRID; g++) {
        const double right = mean_of(p, p->right, point_of(f, g), fold),
                     samples = mean_of(p, p->samples, point_of(f, g), fold);
        const bool fits = right >= wanted, fitted = best_right >= wanted;
        if (fits != fitted ? fits : fits ? samples < best_samples : right > best_right) {
            best = g;
            best_right = right;
            best_samples = samples;
        }
    }
    return best;
}

static void print_mean(const study *s, const char *name, const double *values, size_t n)
{
    const interval x = bootstrap_mean(values, NULL, n, s->resamples, s->seed);
    printf("%s %.6f %.6f %.6f\n", name, x.value, x.low, x.high);
}

static void print_difference(const study *s, const char *name, const double *a, const double *b, double *scratch)
{
    for (size_t i = 0; i < s->test.n; i++)
        scratch[i] = a[i] - b[i];
    print_mean(s, name, scratch, s->test.n);
}

/* Thresholds frozen on each fold's dev, applied to its left-out questions, beside `target`. */
static void print_frozen(const study *s, const char *label, family f, size_t target, double slack, double *scratch)
{
    const part *p = &s->test;
    double *right = scratch, *samples = scratch + p->n, *spare = scratch + 2 * p->n;
    size_t frozen[MOST_FOLDS];
    char name[80];
    printf("%s.thresholds", label);
    for (uint32_t fold = 0; fold < s->n_folds; fold++) {
        frozen[fold] = freeze(s, f, target, slack, fold);
        printf(" %.4f", threshold_of(f, frozen[fold]));
    }
    printf("\n");
    for (size_t i = 0; i < p->n; i++) {
        const size_t at = point_of(f, frozen[p->questions[i].fold]) * p->n + i;
        right[i] = p->right[at];
        samples[i] = p->samples[at];
    }
    snprintf(name, sizeof name, "%s.accuracy", label);
    print_mean(s, name, right, p->n);
    snprintf(name, sizeof name, "%s.samples", label);
    print_mean(s, name, samples, p->n);
    snprintf(name, sizeof name, "%s.beside", label);
    print_difference(s, name, right, p->right + target * p->n, spare);
}

static void print_fixed(const study *s, double *scratch)
{
    const part *p = &s->test;
    char name[80];
    for (size_t k = 0; k < s->k; k++)
        for (family f = VOTE; f <= ORACLE; f++) {
            snprintf(name, sizeof name, "%s@%zu", names[f], k + 1);
            print_mean(s, name, p->right + point_of(f, k) * p->n, p->n);
            snprintf(name, sizeof name, "%s@%zu-vote", names[f], k + 1);
            if (f == SUM || f == MAP || f == BEST)
                print_difference(s, name, p->right + point_of(f, k) * p->n, p->right + point_of(VOTE, k) * p->n,
                                 scratch);
        }
}

/* ---- before the first token: a question at or above a threshold gets one answer, the others drr at its frozen one */

static double with_head(const part *p, const double *values, size_t drr, double sure, size_t i)
{
    return values[(p->questions[i].p_question >= sure ? point_of(VOTE, 0) : drr) * p->n + i];
}

/* The lowest threshold at which dev gets as much right as drr alone does. */
static double freeze_head(const study *s, size_t drr, uint32_t fold)
{
    const part *p = &s->dev;
    const double wanted = mean_of(p, p->right, drr, fold) - 1e-12;
    for (size_t g = 0; g <= 100; g++) {
        double right = 0, n = 0;
        for (size_t i = 0; i < p->n; i++)
            if (p->questions[i].fold == fold) {
                right += with_head(p, p->right, drr, (double)g / 100, i);
                n++;
            }
        if (right / n >= wanted)
            return (double)g / 100;
    }
    return 1.01;
}

static void print_head(const study *s, size_t at_five, double *scratch)
{
    const part *p = &s->test;
    double *right = scratch, *samples = scratch + p->n, *fewer = scratch + 2 * p->n, sure[MOST_FOLDS];
    size_t drr[MOST_FOLDS];
    uint8_t *labels = calloc(p->n + 1, 1);
    double auroc = 0, weight = 0;
    printf("head.thresholds");
    for (uint32_t fold = 0; fold < s->n_folds; fold++) {
        size_t n = 0, good = 0;
        drr[fold] = point_of(DRR, freeze(s, DRR, at_five, 0, fold));
        sure[fold] = freeze_head(s, drr[fold], fold);
        printf(" %.2f", sure[fold]);
        for (size_t i = 0; i < p->n && labels; i++) /* does it know which questions get a right first answer? */
            if (p->questions[i].fold == fold) {
                fewer[n] = p->questions[i].p_question;
                good += labels[n++] = p->right[point_of(VOTE, 0) * p->n + i] >= 0.5;
            }
        const double pairs = (double)good * (double)(n - good);
        auroc += pairs > 0 ? pairs * statistics_auroc(fewer, labels, n) : 0;
        weight += pairs;
    }
    printf("\nhead.auroc %.6f\n", auroc / weight);
    for (size_t i = 0; i < p->n; i++) {
        const uint32_t fold = p->questions[i].fold;
        right[i] = with_head(p, p->right, drr[fold], sure[fold], i);
        samples[i] = with_head(p, p->samples, drr[fold], sure[fold], i);
    }
    print_mean(s, "head.accuracy", right, p->n);
    print_mean(s, "head.samples", samples, p->n);
    for (size_t i = 0; i < p->n; i++)
        fewer[i] = samples[i] - p->samples[drr[p->questions[i].fold] * p->n + i];
    print_mean(s, "head.samples-drr", fewer, p->n);
    for (size_t i = 0; i < p->n; i++)
        fewer[i] = right[i] - p->right[drr[p->questions[i].fold] * p->n + i];
    print_mean(s, "head.accuracy-drr", fewer, p->n);
    free(labels);
}

/* ---- the cascade */

static double second_right(const part *p, uint32_t fold)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (fold == UINT32_MAX || p->questions[i].fold == fold) {
            sum += p->questions[i].second;
            n++;
        }
    return sum / n;
}

/* The cheapest point that loses no more than HALF_THE_LOSS on the fold's dev against the second reasoner alone. */
static size_t freeze_cascade(const study *s, uint32_t fold)
{
    const part *p = &s->dev;
    const double wanted = second_right(p, fold) - HALF_THE_LOSS - 1e-12;
    size_t best = cascade_point(1, GRID - 1); /* all but the surest */
    double cheapest = INFINITY;
    for (size_t turns = 1; turns <= TURNS && turns <= s->k; turns++)
        for (size_t g = 0; g < GRID; g++) {
            const size_t point = cascade_point(turns, g);
            const double cost = mean_of(p, p->samples, point, fold);
            if (mean_of(p, p->right, point, fold) >= wanted && cost < cheapest) {
                cheapest = cost;
                best = point;
            }
        }
    return best;
}

static void print_cascade(const study *s, double *scratch)
{
    const part *p = &s->test;
    double *right = scratch, *cost = scratch + p->n, *spare = scratch + 2 * p->n;
    size_t frozen[MOST_FOLDS];
    printf("cascade.thresholds");
    for (uint32_t fold = 0; fold < s->n_folds; fold++) {
        frozen[fold] = freeze_cascade(s, fold);
        const size_t at = frozen[fold] - FIXED_POINTS;
        printf(" %zu %.3f", at / GRID + 1, threshold_of(DRR, at % GRID));
    }
    printf("\n");
    for (size_t i = 0; i < p->n; i++) {
        right[i] = p->right[frozen[p->questions[i].fold] * p->n + i];
        cost[i] = p->samples[frozen[p->questions[i].fold] * p->n + i];
        spare[i] = p->questions[i].second;
    }
    print_mean(s, "cascade.accuracy", right, p->n);
    print_mean(s, "cascade.cost", cost, p->n);
    print_mean(s, "cascade.second", spare, p->n);
    for (size_t i = 0; i < p->n; i++)
        spare[i] = right[i] - p->questions[i].second;
    print_mean(s, "cascade.beside", spare, p->n);
    for (size_t turns = 1; turns <= TURNS && turns <= s->k; turns++)
        for (size_t g = 0; g < GRID; g += 5)
            printf("frontier.%zu.%.3f %.5f %.5f\n", turns, threshold_of(DRR, g),
                   mean_of(p, p->right, cascade_point(turns, g), UINT32_MAX),
                   mean_of(p, p->samples, cascade_point(turns, g), UINT32_MAX));
}

/* ---- all */

static drr_status write_curves(const study *s, const char *path, drr_error *err)
{
    line_writer *out = NULL;
    char line[160];
    drr_status status = lines_create(&out, path, err);
    if (status == DRR_OK)
        status = lines_put(out, "strategy,threshold,accuracy,samples", err);
    for (family f = VOTE; status == DRR_OK && f < FAMILIES; f++)
        for (size_t i = 0; status == DRR_OK && i < (f <= ORACLE ? s->k : GRID); i++) {
            snprintf(line, sizeof line, "%s,%g,%.5f,%.4f", names[f], f <= ORACLE ? (double)i + 1 : threshold_of(f, i),
                     mean_of(&s->test, s->test.right, point_of(f, i), UINT32_MAX),
                     mean_of(&s->test, s->test.samples, point_of(f, i), UINT32_MAX));
            status = lines_put(out, line, err);
        }
    if (status == DRR_OK)
        return lines_commit(out, err);
    lines_abandon(out);
    return status;
}

static drr_status act_command(int argc, char **argv, drr_error *err)
{
    static study s;
    s = (study){.reasoner = argv[1],
                .k = strtoul(argv[2], NULL, 10),
                .orders = strtoul(argv[3], NULL, 10),
                .seed = strtoull(argv[4], NULL, 10),
                .replace = strcmp(argv[5], "1") == 0,
                .refit = strcmp(argv[6], "1") == 0,
                .resamples = (uint32_t)strtoul(argv[7], NULL, 10),
                .second = argv[9],
                .price_ratio = strtod(argv[10], NULL)};
    drr_status status = DRR_OK;
    double *scratch = NULL;
    if (s.k < 1 || s.k > MOST || s.orders < 1 || s.resamples < 2 || (argc - 11) / 4 > MOST_FOLDS)
        return error_set(err, DRR_E_ARGUMENT, "K is 1 to %d, there is at least one order, %d folds at most", MOST,
                         MOST_FOLDS);
    for (int i = 11; status == DRR_OK && i + 3 < argc; i += 4)
        status = study_add_fold(&s, argv + i, err);
    if (status == DRR_OK)
        status = act_all(&s, &s.dev, err);
    if (status == DRR_OK)
        status = act_all(&s, &s.test, err);
    if (status == DRR_OK && !(scratch = calloc(3 * s.test.n + 1, sizeof *scratch)))
        status = error_memory(err);
    if (status == DRR_OK) {
        const size_t at_five = point_of(VOTE, (s.k < VOTE_AT ? s.k : VOTE_AT) - 1), at_all = point_of(VOTE, s.k - 1);
        printf("questions %zu\nanswers %zu\ndev-questions %zu\n", s.test.n, s.test.n_answers, s.dev.n);
        print_fixed(&s, scratch);
        print_frozen(&s, "drr", DRR, at_five, 0, scratch);
        print_frozen(&s, "beta", BETA, at_all, HALF_THE_LOSS, scratch);
        print_frozen(&s, "posterior", POSTERIOR, at_all, HALF_THE_LOSS, scratch);
        print_frozen(&s, "stack", STACK, at_all, HALF_THE_LOSS, scratch);
        if (!isnan(s.test.questions[0].p_question))
            print_head(&s, at_five, scratch);
        if (s.test.second_tokens > 0)
            print_cascade(&s, scratch);
        status = study_print_auroc(&s, err);
    }
    if (status == DRR_OK)
        status = write_curves(&s, argv[8], err);
    free(scratch);
    for (part *p = &s.dev; p; p = p == &s.dev ? &s.test : NULL) {
        free(p->questions);
        free(p->answers);
        free(p->right);
        free(p->samples);
    }
    for (uint32_t i = 0; i < s.n_folds; i++)
        drr_critic_close(s.critics[i]);
    return status;
}

int main(int argc, char **argv)
{
    drr_error err = {0};
    if (argc < 15 || argc % 4 != 3) {
        fprintf(stderr, "usage: replay_study REASONER K ORDERS SEED REPLACE REFIT RESAMPLES CURVES SECOND RATIO CRITIC "
                        "DEV TEST QUESTIONS "
                        "[CRITIC DEV ..]\n");
        return 2;
    }
    const drr_status status = act_command(argc, argv, &err);
    if (status != DRR_OK)
        fprintf(stderr, "replay_study: %s\n", err.message);
    return status == DRR_OK ? 0 : 1;
}
