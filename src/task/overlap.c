/* overlap.c: which questions of one set stand in another too, so that no critic is judged on what it learnt. Compared
 * are 64-bit hashes of the normalised words: among a million questions, two that differ meet by chance once in
 * 10^7 times. */
#include "task/dataset_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct known {
    uint64_t hash;
    size_t set, index;
} known;

static bool ends_word(char c)
{
    return c == '\0' || isspace((unsigned char)c);
}

/* Lower case, one space between words, none of the marks at a word's end; "3.5" and "5-3" stay what they are. */
static uint64_t hash_words(const char *text, buffer *words, drr_error *err, drr_status *status)
{
    words->size = 0;
    bool fresh = true;
    for (const char *p = text; *p && *status == DRR_OK; p++) {
        const char *rest = p + strspn(p, ".,;:!?\"'");
        if (ends_word(*rest)) {
            p = rest;
            if (*p == '\0')
                break;
            fresh = true;
            continue;
        }
        const char lower[2] = {' ', (char)tolower((unsigned char)*p)};
        const bool space = fresh && words->size > 0;
        *status = buffer_append(words, lower + !space, 1u + space, err);
        fresh = false;
    }
    return hash_bytes(0, words->data ? words->data : "", words->size);
}

/* Choices count in any order. */
static uint64_t hash_task(const drr_task *task, buffer *words, drr_error *err, drr_status *status)
{
    uint64_t choices = 0;
    const uint64_t question = hash_words(task->question, words, err, status);
    for (size_t i = 0; i < task->n_choices; i++)
        choices += hash_mix(1, hash_words(task->choices[i], words, err, status));
    return hash_mix(question, choices);
}

static size_t count_within(const drr_dataset *set, size_t limit)
{
    return limit && limit < set->n ? limit : set->n;
}

static int by_hash(const void *a, const void *b)
{
    const known *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    if (x->set != y->set)
        return x->set < y->set ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* The first of a hash; NULL when there is none. */
static const known *find(const known *all, size_t n, uint64_t hash)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (all[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && all[low].hash == hash ? &all[low] : NULL;
}

drr_status drr_datasets_overlap(drr_overlap *overlap, const drr_dataset *const *train, size_t n_train,
                                size_t train_limit, const drr_dataset *const *test, size_t n_test, size_t test_limit,
                                drr_error *err)
{
    drr_overlap found = {0};
    drr_status status = DRR_OK;
    buffer words = {0};
    size_t n = 0, room = 0;
    for (size_t s = 0; s < n_train; s++)
        room += count_within(train[s], train_limit);
    known *all = malloc((room + 1) * sizeof *all);
    if (!all)
        return error_memory(err);
    for (size_t s = 0; s < n_train; s++)
        for (size_t i = 0; i < count_within(train[s], train_limit) && status == DRR_OK; i++)
            all[n++] = (known){hash_task(&train[s]->tasks[i], &words, err, &status), s, i};
    qsort(all, n, sizeof *all, by_hash);
    for (size_t s = 0; s < n_test; s++)
        for (size_t i = 0; i < count_within(test[s], test_limit) && status == DRR_OK; i++) {
            const known *same = find(all, n, hash_task(&test[s]->tasks[i], &words, err, &status));
            found.n_test++;
            if (!same)
                continue;
            if (found.n++ == 0) {
                found.test_set = s;
                found.test_index = i;
                found.train_set = same->set;
                found.train_index = same->index;
            }
        }
    buffer_clear(&words);
    free(all);
    if (status == DRR_OK)
        *overlap = found;
    return status;
}
