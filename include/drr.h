/* drr.h: the one header of libdrr that programs include; its parts, by meaning, lie in drr/.
 *
 * drr gives a language model (the reasoner) a small critic trained on that model's own behaviour; the
 * critic decides when the model may stop thinking. The parts follow the flow of the data:
 *
 *     data set -> reasoner -> traces -> (distill) -> critic -> (train) -> solve -> eval
 *
 * Conventions, true of every function unless its comment says otherwise:
 *   - it returns a drr_status; out-parameters come first and are written only on DRR_OK;
 *   - `drr_error *err` comes last, is owned by the caller, may be NULL, and is untouched on success;
 *   - strings are UTF-8 and NUL-terminated; `const char *` results belong to the object they came from;
 *   - `*_free` and `*_close` take NULL; one object is used by one thread at a time, different objects by any;
 *   - an options struct is initialised with its `*_defaults` function, then changed;
 *   - the library never prints and never exits. Abstaining is a result, not an error.
 */
#ifndef DRR_H
#define DRR_H

/* clang-format off */
#include "drr/base.h"      /* errors, progress; files known by name */
#include "drr/task.h"      /* questions, prompts, answers */
#include "drr/reasoner.h"  /* language models */
#include "drr/trace.h"     /* turns, and stores of them */
#include "drr/check.h"     /* programs that grade */
#include "drr/distill.h"   /* questions into traces */
#include "drr/critic.h"    /* P(correct) of an answer */
#include "drr/train.h"     /* traces into a critic */
#include "drr/loop.h"      /* how answers are sought */
#include "drr/eval.h"      /* strategies compared */
#include "drr/serve.h"     /* the same as a server */
#include "drr/doctor.h"    /* this machine */
/* clang-format on */

#endif
