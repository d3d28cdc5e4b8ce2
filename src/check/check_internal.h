/* check_internal.h: what the files of src/check share. contain.c starts one program and watches it, inside.c is what
 * happens in the new process before that program runs, filter.c its system call filter, memory.c counts what it takes,
 * run_check.c makes a label of what came out, checker.c keeps the queue. */
#ifndef DRR_CHECK_INTERNAL_H
#define DRR_CHECK_INTERNAL_H

#include "check/check.h"

#include <stdatomic.h>

enum { MOST_VISIBLE = 24, OUTPUT_KEPT = 4096 };

typedef struct contained_limits {
    double seconds;                        /* of wall time; CPU time is limited to the same */
    uint64_t memory_bytes, together_bytes; /* of one process; of all of them */
    uint64_t disk_bytes, output_bytes;
    uint32_t processes, files;
} contained_limits;

/* A program to run. Inside namespaces it sees `visible` (absolute, NULL at the end) read-only at the same paths, and an
 * empty /scratch of its own, where it starts; without, everything that its user sees. */
typedef struct contained_program {
    const char *const *argv; /* argv[0]: absolute path */
    const char *path;        /* its PATH */
    const char *folder;      /* its DRR_FOLDER; NULL: none */
    const char *input;       /* its standard input */
    size_t input_size;
    const char *const *visible;
    contained_limits limits;
    bool namespaces;
    const atomic_bool *cancelled; /* may be NULL */
} contained_program;

typedef struct contained_end {
    bool started;                                       /* the program itself ran */
    bool out_of_time, too_much_output, too_much_memory; /* why it was killed */
    bool cancelled;
    int wait_status; /* as of waitpid; meaningful when not killed */
    char output[OUTPUT_KEPT + 1];
    size_t output_size; /* of what was kept */
    char why_not[200];  /* when it was not started */
} contained_end;

/* An error only when this process is out of memory, files or processes; all else is an end. When it returns, nothing of
 * the program is left: no process and no file. */
drr_status contained_run(contained_end *end, const contained_program *program, drr_error *err);
bool filter_available(void);

/* ---- memory.c: bytes of what `root` started and all that that started, of this moment; 0 where the kernel does not
 * list children (CONFIG_PROC_CHILDREN). */
uint64_t tree_memory(pid_t root);

/* ---- inside.c: only async-signal-safe calls, for the caller may have had threads */
typedef struct inside_record { /* what the new process says on INSIDE_REPORT */
    int stage;                 /* index into inside_stages; 0: the program has ended with `code` as its wait status */
    int code;                  /* errno */
} inside_record;
extern const char *const inside_stages[];
enum { INSIDE_REPORT = 3, INSIDE_SYNC = 4, INSIDE_USER = 1000, OUTSIDE_NOBODY = 65534 };
typedef struct inside_plan {
    const contained_program *program;
    const char *const *environment;
    const char *scratch;   /* an empty folder outside: where the new root is mounted, or the program's own folder */
    const char *disk_size; /* options of the scratch's tmpfs */
    uint64_t most_processes;
    bool drop_user; /* from root to nobody */
    int input, output, report, sync;
} inside_plan;
void inside_main(const inside_plan *plan); /* does not return */

/* ---- filter.c: takes network, tracing, mounting and the like from this process and its children; async-signal-safe.
 * signals: also kill, where no process namespace keeps other processes out of reach. */
bool filter_install(bool signals);

/* ---- run_check.c */
typedef struct check_place { /* where and how checks of one checker run; lives as long as it */
    const char *python;      /* absolute */
    const char *path, *folder;
    const char *const *visible_python, *const *visible_command;
    contained_limits limits;
    bool namespaces;
} check_place;
/* spec: drr_task.answer of a checked task. */
drr_status check_run(drr_label *label, char *why, size_t why_size, const check_place *place, const char *id,
                     const char *question, const char *spec, const char *answer, const atomic_bool *cancelled,
                     drr_error *err);

#endif
