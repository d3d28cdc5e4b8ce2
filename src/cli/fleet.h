/* fleet.h: the workers of a store in PostgreSQL, as `drr traces stats` shows them. */
#ifndef DRR_CLI_FLEET_H
#define DRR_CLI_FLEET_H

#include "cli.h"

void fleet_print(const drr_fleet *fleet);
void fleet_put_json(cli_json *j, const char *key, const drr_fleet *fleet);
/* Shows the fleet every so many seconds until nothing is left to do, or Ctrl-C. json: one object a line. */
drr_status fleet_watch(const char *url, double every_seconds, bool json, drr_error *err);

#endif
