/*
 * value_score.h
 *	  What identity calls when customers become one.
 */
#ifndef CDP_VALUE_SCORE_H
#define CDP_VALUE_SCORE_H

#include "cdp.h"

/* handler of cdp._customers_changed */
extern void cdp_value_customers_changed(int64 winner, int64 loser, const char *action);

#endif							/* CDP_VALUE_SCORE_H */
