/* fetch.h: what cmd_data.c and cmd_models.c share: running fetch.py, and a row of the table as JSON. */
#ifndef DRR_CLI_FETCH_H
#define DRR_CLI_FETCH_H

#include "cli.h"

/* `get NAME...`: its exit code is the fetcher's. */
int fetch_command(const cli_command *command, int argc, char **argv);
void cache_item_json(cli_json *j, const drr_cache_item *item);

#endif
