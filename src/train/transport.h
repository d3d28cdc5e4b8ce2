/* transport.h: what src/train asks of the library that connects the ranks of one job, as a table of functions. The
 * plug-in drr-mpi.so (src/mpi) gives one; it is loaded only where mpirun started the process, so that drr itself needs
 * no MPI. All calls come from one thread. What is posted runs beside the caller, in the order of posting, which must be
 * the same on every rank; memory that was posted is the transport's until wait says that all is done. */
#ifndef DRR_TRAIN_TRANSPORT_H
#define DRR_TRAIN_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

enum { TRANSPORT_VERSION = 1 };

typedef struct transport {
    uint32_t version; /* TRANSPORT_VERSION that it was compiled with */
    /* Connects all ranks; once a process. False: `why` says why not. */
    int (*open)(uint32_t *rank, uint32_t *n, char *why, size_t size);
    void (*sum_f32)(float *x, size_t n); /* over all ranks, in place, with the same bits on every rank */
    void (*sum_f64)(double *x, size_t n);
    void (*copy)(void *data, size_t size, uint32_t from); /* from that rank's memory into all others' */
    /* Waits for all that was posted, `seconds` at most. 1: done; 0: not yet; -1: failed, `why` says how. */
    int (*wait)(double seconds, char *why, size_t size);
    void (*give_up)(void); /* nothing posted will be waited for, and the end of the process tells the others */
    void (*library)(char *text, size_t size);
} transport;

/* The name of a plug-in's one function, which returns its table. */
#define TRANSPORT_SYMBOL "drr_transport"
typedef const transport *(*transport_fn)(void);

#endif
