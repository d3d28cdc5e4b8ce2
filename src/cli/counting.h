/* counting.h: the counts behind `drr traces stats`, and the command `traces regrade`, which have files of their own. */
#ifndef DRR_CLI_COUNTING_H
#define DRR_CLI_COUNTING_H

#include "cli.h"

extern const cli_command traces_regrade_command;

typedef struct counting counting;
counting *counting_new(void);
void counting_free(counting *c);
bool counting_add(void *c, const drr_trace *trace); /* a drr_trace_fn */
bool counting_failed(const counting *c);            /* memory ran out */
void counting_print(counting *c);
void counting_print_json(counting *c, const drr_fleet *fleet); /* fleet: also told; may be NULL */

#endif
