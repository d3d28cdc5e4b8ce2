/* fits.h: whether a critic's probe can read the hidden states of a reasoner. What is done where it cannot, and in which
 * words, is the caller's: the loop goes on without them, the server refuses the critic. */
#ifndef DRR_LOOP_FITS_H
#define DRR_LOOP_FITS_H

#include "core/core.h"

typedef enum probe_fit {
    PROBE_ABSENT,         /* the critic has none */
    PROBE_FITS,           /* or its states are a recording of the same reasoner's */
    PROBE_NO_STATES,      /* the reasoner was not opened to give any, or cannot */
    PROBE_OTHER_REASONER, /* whose states mean nothing to it */
    PROBE_OTHER_LAYER     /* the reasoner was opened with others */
} probe_fit;

drr_status probe_fits(probe_fit *fit, const drr_critic_info *critic, drr_reasoner *reasoner, drr_error *err);

#endif
