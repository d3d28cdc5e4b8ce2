/* drr/check.h: checkers, which decide by running a program whether an answer is right. Part of drr.h. */
#ifndef DRR_CHECK_PART_H
#define DRR_CHECK_PART_H

#include "drr/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Grades answers of DRR_KIND_CHECKED by running them, or the command that their data set names, on this machine:
 * docs/checking.md says what that can and cannot harm. To open one is to allow it. */
typedef struct drr_checker drr_checker;

typedef struct drr_check_options {
    const char *python;    /* name or path of the Python that programs are tested with */
    uint32_t jobs;         /* at once; 0: all cores */
    double seconds;        /* of one check */
    uint64_t memory_bytes; /* of one process of it */
    uint64_t disk_bytes;   /* of its scratch folder */
    uint64_t output_bytes;
    uint32_t processes, files; /* at most, of one check; threads count as processes */
    bool limits_only;          /* use no namespaces even where there are some */
    bool allow_uncontained;    /* go on where programs cannot be contained */
} drr_check_options;
void drr_check_options_defaults(drr_check_options *options);

/* DRR_E_ARGUMENT where programs cannot be contained and options do not allow that; DRR_E_NOT_FOUND without Python. */
drr_status drr_checker_open(drr_checker **checker, const drr_check_options *options, drr_error *err);
void drr_checker_close(drr_checker *checker);
/* What contains the programs it runs, in one sentence; lives as long as the checker. */
const char *drr_checker_describe(const drr_checker *checker);

#ifdef __cplusplus
}
#endif
#endif
