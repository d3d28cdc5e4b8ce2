/* search_plan.c: which settings a search tries next. Successive halving (Jamieson and Talwalkar 2016) over the number
 * of questions trained on: many settings on a quarter of them, the better half of these on half of them, the best on
 * all. A trial is a whole training on fewer questions and not the beginning of a long one: a learning rate that falls
 * to nothing over the epochs makes a training that is cut short say little of the whole one. Settings are points of the
 * Halton sequence, which fills a space of few dimensions more evenly than chance and, unlike a grid, tries another
 * learning rate each time. The settings given are number 1 and go on through every rung: what a search won is measured
 * against them.
 *
 * Everything follows from the trials that are done and the seconds that they took, so that a search that was killed
 * decides as it would have. */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

enum { FEWEST_QUESTIONS = 32 }; /* of a rung: below it figures are chance */
#define RATE_RANGE 5.0          /* learning rates from a fifth to five times the one given */

/* ---- settings */

static double halton(uint32_t i, uint32_t base)
{
    double value = 0, digit = 1;
    for (; i; i /= base) {
        digit /= base;
        value += digit * (i % base);
    }
    return value;
}

/* To two digits, so that a table can be read and a command typed. */
static double two_digits(double x)
{
    const double unit = pow(10, floor(log10(x)) - 1);
    const double digits = round(x / unit);
    char text[32];
    snprintf(text, sizeof text, "%.1e", digits * unit); /* the double that these digits are read as */
    return strtod(text, NULL);
}

static void settings_of(drr_trial *t, const search_space *s, uint32_t number)
{
    const uint32_t e = s->epochs, epochs[] = {e > 1 ? (e + 1) / 2 : 1, e, e + (e + 1) / 2, 2 * e};
    *t = (drr_trial){
        .settings = number, .learning_rate = s->learning_rate, .epochs = s->epochs, .max_length = s->max_length};
    if (number <= 1)
        return;
    t->learning_rate = two_digits(s->learning_rate * pow(RATE_RANGE, 2 * halton(number - 1, 2) - 1));
    t->epochs = epochs[(size_t)(halton(number - 1, 3) * 4)];
    if (s->n_lengths)
        t->max_length = s->lengths[(size_t)(halton(number - 1, 5) * (double)s->n_lengths)];
}

static bool same_settings(const drr_trial *a, const drr_trial *b)
{
    return !(a->learning_rate < b->learning_rate) && !(a->learning_rate > b->learning_rate) && a->epochs == b->epochs &&
           a->max_length == b->max_length;
}

bool search_settings(drr_trial *t, const search_space *s, uint32_t number)
{
    settings_of(t, s, number);
    for (uint32_t k = 1; k < number; k++) {
        drr_trial other;
        settings_of(&other, s, k);
        if (same_settings(t, &other))
            return false;
    }
    return true;
}

/* Of the usual lengths those at which no more than half of the texts are cut, up to the first that cuts none. */
void search_space_fill(search_space *s, uint32_t most_positions, size_t n_questions)
{
    static const uint32_t usual[] = {64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192};
    s->n_lengths = 0;
    for (size_t k = 0; k < sizeof usual / sizeof *usual && s->n_lengths < SEARCH_MOST_LENGTHS; k++) {
        size_t cut = 0;
        if (usual[k] > most_positions)
            break;
        for (size_t i = 0; i < s->n_train; i++)
            cut += s->train[i] > usual[k];
        if (2 * cut <= s->n_train)
            s->lengths[s->n_lengths++] = usual[k];
        if (cut == 0)
            break;
    }
    if (s->n_lengths == 0)
        s->lengths[s->n_lengths++] = most_positions;
    s->rungs = 0;
    for (size_t part = 4; part; part /= 2)
        if (part == 1 || n_questions / part >= FEWEST_QUESTIONS)
            s->questions[s->rungs++] = n_questions / part;
}

/* ---- what a trial takes */

static double tokens(const uint32_t *lengths, size_t n, uint32_t most)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += lengths[i] < most ? lengths[i] : most;
    return sum;
}

/* A step's backward pass takes as much as two forward ones; dev is measured after each epoch, and scored once more. */
double search_work(const search_space *s, const drr_trial *t)
{
    const double share = (double)s->questions[t->rung - 1] / (double)s->questions[s->rungs - 1];
    const double dev = tokens(s->dev, s->n_dev, t->max_length);
    return t->epochs * (3 * share * tokens(s->train, s->n_train, t->max_length) + dev) + dev;
}

/* ---- trials against each other */

double search_loss(const drr_trial *t)
{
    return t->kinds[t->kind].log_loss;
}

/* Falling merit: the lower loss first, a failed one last, of equals the lower number. */
static int by_loss(const void *a, const void *b)
{
    const drr_trial *x = *(const drr_trial *const *)a, *y = *(const drr_trial *const *)b;
    const double u = search_loss(x), v = search_loss(y);
    if (isnan(u) != isnan(v))
        return isnan(u) ? 1 : -1;
    if (u < v || u > v)
        return u < v ? -1 : 1;
    return (x->settings > y->settings) - (x->settings < y->settings);
}

/* Trials of a rung, the best first; returns how many. */
static size_t ranked(const drr_trial **list, const drr_trial *done, size_t n, uint32_t rung)
{
    size_t n_list = 0;
    for (size_t i = 0; i < n && n_list < SEARCH_MOST_SETTINGS; i++)
        if (done[i].rung == rung)
            list[n_list++] = &done[i];
    qsort(list, n_list, sizeof *list, by_loss);
    return n_list;
}

size_t search_winner(const drr_trial *done, size_t n)
{
    const drr_trial *list[SEARCH_MOST_SETTINGS];
    for (size_t fewest = 2; fewest > 0; fewest--)
        for (uint32_t rung = SEARCH_MOST_RUNGS; rung > 0; rung--) {
            size_t finished = 0;
            const size_t n_list = ranked(list, done, n, rung);
            while (finished < n_list && !isnan(search_loss(list[finished])))
                finished++;
            if (finished >= fewest)
                return (size_t)(list[0] - done);
        }
    return n;
}

/* ---- what comes next */

typedef struct outlook {
    const search_space *s;
    const drr_trial *done;
    size_t n;
    double spent, seconds_a_unit; /* of work; 0: not known yet */
} outlook;

static bool is_done(const outlook *o, uint32_t settings, uint32_t rung)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->done[i].settings == settings && o->done[i].rung == rung)
            return true;
    return false;
}

/* Every rung gets the same part of the time that is left when it begins; its first two trials may take all of it, for
 * less than two compare nothing, and the first rung's first four half of it, for two leave nothing to choose from. */
static bool fits(const outlook *o, const drr_trial *t, size_t n_in_rung)
{
    double before = 0;
    for (size_t i = 0; i < o->n; i++)
        before += o->done[i].rung < t->rung ? o->done[i].seconds : 0;
    const double left = o->s->budget - before, part = left / (o->s->rungs - t->rung + 1);
    double end = n_in_rung < 2 ? o->s->budget : before + part;
    if (t->rung == 1 && n_in_rung < 4 && end < o->s->budget / 2)
        end = o->s->budget / 2;
    return o->spent < end && o->spent + o->seconds_a_unit * search_work(o->s, t) <= end;
}

static bool next_of_first_rung(drr_trial *t, const outlook *o)
{
    size_t n_in_rung = 0;
    for (size_t i = 0; i < o->n; i++) {
        if (o->done[i].rung > 1)
            return false; /* it is closed */
        n_in_rung++;
    }
    for (uint32_t number = 1; number <= SEARCH_MOST_SETTINGS; number++) {
        if (is_done(o, number, 1) || !search_settings(t, o->s, number))
            continue;
        t->rung = 1;
        if (fits(o, t, n_in_rung))
            return true;
    }
    return false;
}

/* The better half of the rung below, and both where there are two: one alone would be the end of the search, however
 * much time is left. The settings given are put behind the first. */
static size_t entrants(uint32_t list[SEARCH_MOST_SETTINGS], const outlook *o, uint32_t rung)
{
    const drr_trial *below[SEARCH_MOST_SETTINGS];
    const size_t n_below = ranked(below, o->done, o->n, rung - 1);
    const size_t half = n_below <= 2 ? n_below : (n_below + 1) / 2;
    size_t n = 0;
    if (n_below == 0 || isnan(search_loss(below[0])))
        return 0;
    list[n++] = below[0]->settings;
    if (below[0]->settings != 1)
        list[n++] = 1;
    for (size_t i = 1; i < half; i++)
        if (below[i]->settings != 1 && !isnan(search_loss(below[i])))
            list[n++] = below[i]->settings;
    return n;
}

static bool next_of_rung(drr_trial *t, const outlook *o, uint32_t rung)
{
    uint32_t list[SEARCH_MOST_SETTINGS];
    const drr_trial *here[SEARCH_MOST_SETTINGS], *above[SEARCH_MOST_SETTINGS];
    const size_t n_in_rung = ranked(here, o->done, o->n, rung);
    if (ranked(above, o->done, o->n, rung + 1))
        return false;
    const size_t n = entrants(list, o, rung);
    for (size_t i = 0; i < n; i++) {
        if (is_done(o, list[i], rung))
            continue;
        settings_of(t, o->s, list[i]);
        t->rung = rung;
        if (fits(o, t, n_in_rung))
            return true;
    }
    return false;
}

bool search_next(drr_trial *t, const search_space *s, const drr_trial *done, size_t n)
{
    const drr_trial *list[SEARCH_MOST_SETTINGS];
    outlook o = {.s = s, .done = done, .n = n};
    double work = 0;
    for (size_t i = 0; i < n; i++) {
        o.spent += done[i].seconds;
        work += search_work(s, &done[i]);
    }
    o.seconds_a_unit = work > 0 ? o.spent / work : 0;
    if (next_of_first_rung(t, &o))
        goto found;
    for (uint32_t rung = 2; rung <= s->rungs; rung++) {
        if (ranked(list, done, n, rung - 1) < 2)
            return false;
        if (next_of_rung(t, &o, rung))
            goto found;
    }
    return false;
found:
    t->n_questions = s->questions[t->rung - 1];
    return true;
}
