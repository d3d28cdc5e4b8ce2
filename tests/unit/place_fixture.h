/* place_fixture.h: a folder of a test program's own, which is removed with all that is in it. */
#ifndef DRR_TESTS_PLACE_FIXTURE_H
#define DRR_TESTS_PLACE_FIXTURE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

/* The path of a name in that folder; eight of them live at once. */
static inline const char *at(const char *name)
{
    static char paths[8][256];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Setup and teardown of cmocka, of a test or of a group. */
static inline int make_place(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/drr-test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline int remove_place(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
