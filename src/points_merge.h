/*
 * points_merge.h
 *	  What identity calls when customers become one, or two again.
 */
#ifndef POINTS_MERGE_H
#define POINTS_MERGE_H

#include "cdp.h"

/* handler of cdp._customers_changed */
extern void cdp_points_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* POINTS_MERGE_H */
